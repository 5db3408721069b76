-- A server that did not load the library at start: the extension can be made,
-- and says what is missing.
\set SHOW_CONTEXT never

SHOW shared_preload_libraries;
CREATE EXTENSION pgpool_monitor;
SELECT * FROM pgpool_monitor.pools;
SELECT * FROM pgpool_monitor.instances;
SELECT * FROM pgpool_monitor.sessions;
SELECT * FROM pgpool_monitor.limits;
SELECT * FROM pgpool_monitor.history;
SELECT * FROM pgpool_monitor.advice;
SELECT * FROM pgpool_monitor.info;
SELECT * FROM pgpool_monitor.pauses;
SELECT pgpool_monitor.pause();
SELECT pgpool_monitor.resume();
SELECT * FROM pgpool_monitor.counters;
SELECT pgpool_monitor.reset();
SELECT pgpool_monitor.reset('orders');
DO $$
BEGIN
	PERFORM * FROM pgpool_monitor.info;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	RAISE NOTICE 'SQLSTATE %', SQLSTATE;
END $$;

-- the names of the protocol are harmless placeholders
SET pgpool_monitor.report = 'v=1;seq=1';
SHOW pgpool_monitor.report;
SELECT current_database() AS database \gset
\set connect 'dbname=' :database ' options=''-c pgpool_monitor.pool=orders -c pgpool_monitor.instance=one'''
\c :connect
SHOW pgpool_monitor.pool;
SHOW pgpool_monitor.allotment;
LOAD 'pgpool_monitor';
SHOW pgpool_monitor.pool;
SELECT count(*) FROM pgpool_monitor.pools;
\set connect 'dbname=' :database ' options='''''
\c :connect

DROP EXTENSION pgpool_monitor;
