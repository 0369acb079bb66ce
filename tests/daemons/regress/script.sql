-- What psql's users do, errors included: everything that is said must be the same through a proxy.
SHOW timezone;
SHOW datestyle;
SHOW intervalstyle;
SELECT current_user, current_database(), current_setting('application_name');
CREATE TABLE numbers (a int PRIMARY KEY, b text, c numeric(10, 2));
\d numbers
INSERT INTO numbers VALUES (1, 'one', 1.5), (2, 'two', 2.25) RETURNING *;
INSERT INTO numbers VALUES (1, 'again', 0);
COPY numbers FROM STDIN;
3	three	3.125
4	\N	\N
\.
COPY numbers FROM STDIN;
x	is no number	0
\.
COPY (SELECT * FROM numbers ORDER BY a) TO STDOUT WITH (FORMAT csv, HEADER);
SELECT * FROM numbers ORDER BY a;
-- Several statements in one message: an implicit transaction.
INSERT INTO numbers VALUES (10, 'ten', 0)\; SELECT 1 / 0\; SELECT 'never';
SELECT count(*) FROM numbers WHERE a = 10;
SELECT 1 AS one\; SELECT 2 AS two;
-- Transactions, savepoints, what fails inside them.
BEGIN;
INSERT INTO numbers VALUES (20, 'twenty', 0);
SAVEPOINT s;
SELECT nothing FROM numbers;
SELECT 1;
ROLLBACK TO s;
SELECT b FROM numbers WHERE a = 20;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
INSERT INTO numbers VALUES (21, 'no', 0);
ROLLBACK;
COMMIT;
-- Cursors, prepared statements, settings, temporary tables: a session's own.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT a FROM numbers ORDER BY a;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
MOVE LAST IN c;
CLOSE c;
COMMIT;
PREPARE p (int) AS SELECT b FROM numbers WHERE a = $1;
EXECUTE p (2);
EXECUTE p ('x');
DEALLOCATE p;
EXECUTE p (2);
SET work_mem = '7MB';
SHOW work_mem;
SET LOCAL work_mem = '8MB';
RESET work_mem;
SHOW work_mem;
CREATE TEMP TABLE mine AS SELECT 7 AS seven;
SELECT * FROM mine;
SELECT pg_advisory_lock(4711), pg_advisory_unlock(4711), pg_advisory_unlock(4711);
DISCARD ALL;
SELECT * FROM mine;
-- Notices, warnings, errors with everything that belongs to them.
DO $$ BEGIN RAISE NOTICE 'look' USING DETAIL = 'closer', HINT = 'there'; RAISE WARNING 'careful'; END $$;
\set VERBOSITY verbose
SELECT 'x'::int;
SELECT * FROM no_such_table;
\set VERBOSITY default
DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'LB001'; END $$;
\echo :LAST_ERROR_SQLSTATE
LISTEN news;
UNLISTEN *;
SELECT repeat('wide ', 2000) AS wide \gset
SELECT length(:'wide');
SELECT generate_series(1, 3) AS n \gdesc
SELECT format('SELECT %s AS made', n) FROM generate_series(1, 3) AS n \gexec
EXPLAIN (COSTS OFF) SELECT * FROM numbers WHERE a = 1;
SET SESSION AUTHORIZATION DEFAULT;
CREATE ROLE regress_guest LOGIN;
\c - regress_guest
SELECT current_user;
SELECT * FROM numbers;
\c - postgres
DROP ROLE regress_guest;
DROP TABLE numbers;
SELECT 'the end of the script' AS here;
