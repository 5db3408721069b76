-- What CREATE EXTENSION makes: objects, columns, comments.

CREATE EXTENSION pgpool_monitor;

SELECT extversion, extrelocatable, extnamespace::regnamespace AS schema
FROM pg_extension WHERE extname = 'pgpool_monitor';

-- every object that belongs to it
SELECT object, count(*) FROM (
	SELECT regexp_replace(pg_describe_object(classid, objid, 0), '^type .*', 'type') AS object
	FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND classid <> 'pg_type'::regclass -- of views: members themselves from 17 on
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgpool_monitor')) members
GROUP BY object ORDER BY object COLLATE "C";

-- columns and types
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'pgpool_monitor'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
ORDER BY c.relname COLLATE "C", a.attnum;

-- all of them, and all functions, are described
SELECT c.relname AS view, a.attname AS column
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'pgpool_monitor'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
	AND col_description(c.oid, a.attnum) IS NULL;
SELECT relname FROM pg_class
WHERE relnamespace = 'pgpool_monitor'::regnamespace AND obj_description(oid, 'pg_class') IS NULL
	AND relkind = 'v';
SELECT proname FROM pg_proc
WHERE pronamespace = 'pgpool_monitor'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;

-- every length of time says its unit
SELECT c.relname AS view, a.attname AS column
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'pgpool_monitor'::regnamespace AND c.relkind = 'v' AND a.attname LIKE '%\_time'
	AND a.atttypid = 'double precision'::regtype AND col_description(c.oid, a.attnum) !~ 'milliseconds';

-- no function depends on anybody's search_path
SET search_path = '';
SELECT count(*) > 0 AS ok FROM pgpool_monitor.pools;
SELECT count(*) >= 0 AS ok FROM pgpool_monitor.instances;
SELECT count(*) >= 0 AS ok FROM pgpool_monitor.sessions;
SELECT count(*) > 0 AS ok FROM pgpool_monitor.limits;
SELECT count(*) >= 0 AS ok FROM pgpool_monitor.counters;
SELECT pgpool_monitor.reset() >= 0 AS ok;
SELECT count(*) >= 0 AS ok FROM pgpool_monitor.history;
SELECT count(*) >= 0 AS ok FROM pgpool_monitor.advice;
SELECT version, max_connections = pg_catalog.current_setting('max_connections')::integer AS ok
FROM pgpool_monitor.info;
RESET search_path;

-- the sum of sessions is pg_stat_activity's, attached or not
SELECT sum(sessions) = (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS ok
FROM pgpool_monitor.pools;

DROP EXTENSION pgpool_monitor;

-- nothing stays, and it can be made again
SELECT count(*) FROM pg_namespace WHERE nspname = 'pgpool_monitor';
CREATE EXTENSION pgpool_monitor;
DROP EXTENSION pgpool_monitor;
