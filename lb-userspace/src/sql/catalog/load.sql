-- What lb must know of a database to tell reads from the rest. Rows of kind, schema, name, flags and
-- definition; catalog.rs reads them. Names are qualified, so that no search_path changes the meaning.
WITH RECURSIVE
-- Volatile functions, and aggregates over them. What somebody made is told from what came with PostgreSQL.
function AS MATERIALIZED (
  SELECT p.oid, p.proname, p.pronamespace, p.proargtypes, p.proallargtypes, p.prorettype, p.pronargs,
         p.pronargdefaults, p.proargdefaults, p.prosrc, l.lanname, p.oid >= 16384 AS is_made,
         p.provolatile = 'v' OR coalesce(a.is_volatile, false) AS is_volatile
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  LEFT JOIN LATERAL (
    SELECT bool_or(f.provolatile = 'v') AS is_volatile
    FROM pg_catalog.pg_aggregate g
    JOIN pg_catalog.pg_proc f ON f.oid IN (g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn,
      g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn)
    WHERE g.aggfnoid = p.oid
  ) a ON p.prokind = 'a'
),
volatile AS MATERIALIZED (SELECT oid, proname FROM function WHERE is_volatile),
-- Types of which a value cannot be made, shown, compared or cast without a volatile function.
seed(typ) AS (
  SELECT t.oid FROM pg_catalog.pg_type t JOIN volatile v
    ON v.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typsubscript)
  UNION
  SELECT unnest(ARRAY[c.castsource, c.casttarget]) FROM pg_catalog.pg_cast c JOIN volatile v ON v.oid = c.castfunc
  UNION
  SELECT unnest(ARRAY[m.amoplefttype, m.amoprighttype])
  FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr JOIN volatile v ON v.oid = o.oprcode
  UNION
  SELECT unnest(ARRAY[m.amproclefttype, m.amprocrighttype])
  FROM pg_catalog.pg_amproc m JOIN volatile v ON v.oid = m.amproc
  UNION
  SELECT c.contypid FROM pg_catalog.pg_constraint c JOIN volatile v
    ON pg_catalog.strpos(pg_catalog.pg_get_constraintdef(c.oid), v.proname || '(') > 0
    OR pg_catalog.strpos(pg_catalog.pg_get_constraintdef(c.oid), v.proname || '"(') > 0
  WHERE c.contypid <> 0
),
hidden_type(typ) AS (
  SELECT typ FROM seed WHERE typ <> 0
  UNION
  SELECT t.oid
  FROM hidden_type h JOIN pg_catalog.pg_type t
    ON t.typelem = h.typ OR t.typbasetype = h.typ
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.atttypid = h.typ AND NOT a.attisdropped)
    OR EXISTS (SELECT FROM pg_catalog.pg_range r
               WHERE r.rngsubtype = h.typ AND t.oid IN (r.rngtypid, r.rngmultitypid))
),
-- Relations that a standby cannot read, or that somebody else reads for it.
odd_relation(rel) AS (
  SELECT c.oid
  FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
  WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S')
    AND (c.relkind IN ('f', 'S') OR c.relpersistence <> 'p'
      OR (c.relkind IN ('r', 'm') AND m.amname IS DISTINCT FROM 'heap')
      OR EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN hidden_type h ON h.typ = a.atttypid
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
  UNION
  SELECT i.inhparent FROM odd_relation o JOIN pg_catalog.pg_inherits i ON i.inhrelid = o.rel
)
SELECT 'function' AS kind, n.nspname::text AS schema, f.proname::text AS name,
       concat(
         CASE WHEN f.is_volatile THEN 'v' END,
         CASE WHEN f.is_made THEN 'm' END,
         -- What it leaves in its session is seen only in its text, if at all.
         CASE WHEN f.is_volatile AND f.is_made AND (f.lanname NOT IN ('sql', 'plpgsql') OR f.prosrc ~*
           '\m(set_config|temp|temporary|pg_temp|dblink\w*|\w*advisory_\w*)\M|(^|;|\mbegin|\mthen|\melse|\mloop|'')\s*set\s'
         ) THEN 's' END,
         CASE WHEN EXISTS (SELECT FROM hidden_type h WHERE h.typ = f.prorettype
           OR h.typ = ANY (f.proargtypes) OR h.typ = ANY (f.proallargtypes)) THEN 'h' END,
         -- `row.f` calls it.
         CASE WHEN f.is_volatile AND f.pronargs >= 1 AND f.pronargs - f.pronargdefaults <= 1
           AND EXISTS (SELECT FROM pg_catalog.pg_type t
             LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
             WHERE t.oid = f.proargtypes[0]
               AND ('c' IN (t.typtype, b.typtype) OR t.typname IN ('record', 'any', 'anyelement',
                 'anynonarray', 'anycompatible', 'anycompatiblenonarray'))) THEN 'a' END,
         CASE WHEN f.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype THEN 't' END
       ) AS flags,
       CASE WHEN f.pronargdefaults > 0 THEN pg_catalog.pg_get_expr(f.proargdefaults, 0) END AS definition
FROM function f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname !~ '^pg_(temp|toast)'
UNION ALL
SELECT 'relation', n.nspname, c.relname,
       concat(
         CASE WHEN o.rel IS NOT NULL THEN 'h' END,
         CASE WHEN c.relkind = 'v' THEN 'w' END,
         CASE WHEN c.relrowsecurity THEN 'p' END
       ),
       CASE
         WHEN c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid)
         WHEN c.relrowsecurity THEN 'SELECT ' || (
           SELECT string_agg('(' || pg_catalog.pg_get_expr(y.polqual, y.polrelid) || ')', ', ')
           FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid AND y.polqual IS NOT NULL)
       END
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN odd_relation o ON o.rel = c.oid
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname !~ '^pg_(temp|toast)'
UNION ALL
SELECT 'type', n.nspname, t.typname, '', NULL
FROM hidden_type h JOIN pg_catalog.pg_type t ON t.oid = h.typ JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
UNION ALL
SELECT DISTINCT 'operator', '', o.oprname::text, '', NULL
FROM pg_catalog.pg_operator o JOIN volatile v ON v.oid = o.oprcode
