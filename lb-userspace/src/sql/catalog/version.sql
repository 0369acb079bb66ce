-- Changes whenever what load.sql returns may have changed; cheap enough to ask every second.
SELECT pg_catalog.md5(concat_ws(':',
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint), max(oid::bigint)) FROM pg_catalog.pg_proc WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint), max(oid::bigint)) FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_namespace),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_rewrite WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_type WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_operator WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_cast WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_aggregate WHERE aggfnoid::oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_amop WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_amproc WHERE oid >= 16384),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_policy),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_inherits),
  (SELECT concat_ws('.', count(*), sum(xmin::text::bigint)) FROM pg_catalog.pg_constraint WHERE contypid <> 0)))
