-- Counters: what reports add, how they are shown, what a reset does.

CREATE EXTENSION pgpool_monitor;
SELECT pgpool_monitor.reset() >= 0 AS ok;

SELECT current_database() AS database, current_user AS me \gset
\set connect 'dbname=' :database ' options=''-c pgpool_monitor.pool=counters -c pgpool_monitor.instance=one;report=1'''
\c :connect

-- before the first report nothing is known
SELECT instances, acquires, timeouts, failures, errors, opened, closed, closed_by, open_failures, found_dead,
	discarded, resets, abandoned, finished, wait_p50_time, hold_p99_time, wait_histogram, stats_reset <= now() AS since
FROM pgpool_monitor.counters WHERE pool = 'counters';

SELECT length(set_config('pgpool_monitor.report', 'v=1;seq=1;acquires=100;timeouts=5;opened=7;closed=6;open_failures=3;'
	'found_dead=1;discarded=2;resets=3;abandoned=4;finished=5;errors=1:4,3:1,11:8,46:2;closed_by=0:4,4:1,13:1;'
	'wait=0:90,11:10;hold=21:100', false)) > 0 AS reported;
\x
SELECT instances, acquires, timeouts, failures, errors, opened, closed, closed_by, open_failures, found_dead,
	discarded, resets, abandoned, finished, wait_p50_time, wait_p95_time, wait_p99_time, hold_p50_time, hold_p95_time, hold_p99_time,
	wait_histogram, hold_histogram[22], array_length(hold_histogram, 1) AS buckets
FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT acquires, found_dead, discarded, resets, abandoned, finished FROM pgpool_monitor.instances WHERE pool = 'counters';
\x

-- what a report leaves out is what it was; what is lower is somebody else's beginning
SELECT length(set_config('pgpool_monitor.report', 'v=1;seq=2;acquires=101', false)) > 0 AS reported;
SELECT acquires, timeouts, errors, wait_histogram[12] FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT length(set_config('pgpool_monitor.report', 'v=1;seq=3;acquires=10;timeouts=1', false)) > 0 AS reported;
SELECT acquires, timeouts, errors, wait_histogram[12] FROM pgpool_monitor.counters WHERE pool = 'counters';

-- the number of pools it found; names are those shown, and NULL is any
SELECT pgpool_monitor.reset('nobody');
SELECT pgpool_monitor.reset('counters', 'nobody');
SELECT pgpool_monitor.reset('counters', NULL, 'nowhere');
SELECT acquires FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT stats_reset AS before FROM pgpool_monitor.counters WHERE pool = 'counters' \gset
SELECT pgpool_monitor.reset('counters', :'me', :'database');
SELECT acquires, timeouts, errors, wait_p99_time, stats_reset > :'before' AS later FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT length(set_config('pgpool_monitor.report', 'v=1;seq=4;acquires=12', false)) > 0 AS reported;
SELECT acquires, timeouts FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT acquires, timeouts FROM pgpool_monitor.instances WHERE pool = 'counters';
SELECT pgpool_monitor.reset(NULL, NULL, :'database') > 0 AS found; -- perhaps also one of a session that is ending
SELECT acquires FROM pgpool_monitor.counters WHERE pool = 'counters';

-- with its goodbye the instance is gone; the pool is remembered if it has counted something
SELECT length(set_config('pgpool_monitor.report', 'v=1;seq=5;acquires=15;bye=1', false)) > 0 AS reported;
\set connect 'dbname=' :database ' options='''''
\c :connect
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT count(*) FROM pgpool_monitor.pools WHERE pool = 'counters') = 0;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT instances, acquires FROM pgpool_monitor.counters WHERE pool = 'counters';
SELECT count(*) FROM pgpool_monitor.limits WHERE pool = 'counters';
SELECT pgpool_monitor.reset('counters');
SELECT count(*) FROM pgpool_monitor.counters WHERE pool = 'counters';

DROP EXTENSION pgpool_monitor;
