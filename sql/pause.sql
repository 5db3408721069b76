-- Orders to pause and to resume: what they cover, what they refuse, who may give them.
\set SHOW_CONTEXT never

CREATE EXTENSION pgpool_monitor;
CREATE ROLE regress_pgpm_dba LOGIN;
CREATE ROLE regress_pgpm_watch LOGIN;
GRANT pg_monitor TO regress_pgpm_watch;

SELECT current_database() AS database, current_user AS me \gset
\set connect 'dbname=' :database ' user=' :me ' options=''-c pgpool_monitor.pool=regress_pause -c pgpool_monitor.instance=one;follow=1'''
\c :connect
CREATE VIEW told AS
	SELECT substring(current_setting('pgpool_monitor.allotment') FROM 'state=(\w+)') AS state;
SELECT * FROM told;

-- this session's pool: by name, role, database, all of them, none of them
SELECT pgpool_monitor.pause('regress_pause');
SELECT * FROM told;
SELECT state FROM pgpool_monitor.instances WHERE pool = 'regress_pause';
SELECT reason FROM pgpool_monitor.pools WHERE pool = 'regress_pause';
SELECT reason FROM pgpool_monitor.limits WHERE pool = 'regress_pause';
SELECT pgpool_monitor.resume('regress_pause');
SELECT * FROM told;
SELECT pgpool_monitor.pause(role => :'me');
SELECT * FROM told;
SELECT pgpool_monitor.pause('regress_pause', :'me', :'database');
SELECT pgpool_monitor.resume(role => :'me');
SELECT * FROM told;
SELECT pgpool_monitor.resume('regress_pause', :'me', :'database');
SELECT * FROM told;
SELECT pgpool_monitor.pause(database => :'database');
SELECT pgpool_monitor.resume(database => :'database');
SELECT pgpool_monitor.pause('regress_pause', 'regress_pgpm_dba');
SELECT pgpool_monitor.pause('regress_pause', database => 'template1');
SELECT pgpool_monitor.pause('regress_paus');
SELECT pgpool_monitor.pause('regress_pause1');
SELECT * FROM told;
SELECT pgpool_monitor.pause();
SELECT * FROM told;
SELECT pool, role = :'me' AS me, role = 'regress_pgpm_dba' AS dba, database, by_role = :'me' AS by_me, since <= now() AS since,
	expires, instances, heard, sessions_held, in_use, busy
FROM pgpool_monitor.pauses ORDER BY since;
SELECT pgpool_monitor.resume();
SELECT * FROM told;
SELECT count(*) FROM pgpool_monitor.pauses;

-- what is not there
SELECT pgpool_monitor.resume('regress_pause');
SELECT pgpool_monitor.resume();

-- the same again sets the end anew
SELECT pgpool_monitor.pause('regress_pause', expires => '1 hour');
SELECT pgpool_monitor.pause('regress_pause', expires => '1 day');
SELECT pool, expires BETWEEN now() + interval '23 hours' AND now() + interval '1 day' AS tomorrow FROM pgpool_monitor.pauses;
SELECT pgpool_monitor.pause('regress_pause');
SELECT pool, expires FROM pgpool_monitor.pauses;

-- not undone by a rollback, and no business of a read-only transaction
BEGIN READ ONLY;
SELECT pgpool_monitor.resume('regress_pause');
ROLLBACK;
SELECT * FROM told;

-- names as views show them
SELECT pgpool_monitor.pause('b\xc3\xbcro \x5c');
SELECT pgpool_monitor.pause('a\b');
SELECT pool FROM pgpool_monitor.pauses ORDER BY pool;
SELECT pgpool_monitor.resume(pool) FROM pgpool_monitor.pauses;
SELECT pgpool_monitor.resume('a\b');

-- refused
SELECT pgpool_monitor.pause('');
SELECT pgpool_monitor.pause(repeat('x', 64));
SELECT pgpool_monitor.pause(repeat('x', 63));
SELECT pgpool_monitor.resume(repeat('x', 63));
SELECT pgpool_monitor.pause(role => 'regress_pgpm_nobody');
SELECT pgpool_monitor.pause(database => 'regress_pgpm_nowhere');
SELECT pgpool_monitor.pause(expires => '0');
SELECT pgpool_monitor.pause(expires => '-1 hour');
SELECT pgpool_monitor.pause(expires => '300000 years');
SELECT count(*) FROM pgpool_monitor.pauses;

-- there is room for 64, and one that is known needs none
SELECT sum(pgpool_monitor.pause('regress ' || n)) FROM generate_series(1, 64) n;
SELECT pgpool_monitor.pause('regress_pause');
SELECT pgpool_monitor.pause('regress 64', expires => '1 hour');
DO $$
BEGIN
	PERFORM pgpool_monitor.pause();
EXCEPTION WHEN configuration_limit_exceeded THEN
	RAISE NOTICE 'SQLSTATE %', SQLSTATE;
END $$;
SELECT pgpool_monitor.resume('regress 1');
SELECT pgpool_monitor.pause('regress_pause');
SELECT count(*) FROM pgpool_monitor.pauses;
SELECT pgpool_monitor.resume();
SELECT * FROM told;

-- one that has expired is gone, whoever looks; the order's lock is, too
SELECT pgpool_monitor.pause('regress_pause', expires => '1 microsecond');
SELECT count(*) FROM pgpool_monitor.pauses;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';

-- a role that is dropped
CREATE ROLE regress_pgpm_gone;
SELECT pgpool_monitor.pause(role => 'regress_pgpm_gone');
DROP ROLE regress_pgpm_gone;
SELECT role ~ '^\d+$' AS number FROM pgpool_monitor.pauses;
SELECT pgpool_monitor.resume();

-- who may
SET ROLE regress_pgpm_dba;
SELECT pgpool_monitor.pause();
SELECT pgpool_monitor.resume();
SELECT * FROM pgpool_monitor.pauses;
SELECT * FROM pgpool_monitor.pauses();
SET ROLE regress_pgpm_watch;
SELECT pgpool_monitor.pause();
SELECT pgpool_monitor.resume();
SELECT count(*) FROM pgpool_monitor.pauses;
RESET ROLE;
GRANT EXECUTE ON FUNCTION pgpool_monitor.pause, pgpool_monitor.resume TO regress_pgpm_dba;
SET ROLE regress_pgpm_dba;
SET search_path = '';
SELECT pgpool_monitor.pause();
SELECT pgpool_monitor.resume();
RESET search_path;
RESET ROLE;

DROP VIEW told;
\set connect 'dbname=' :database ' options='''' user=' :me
\c :connect
DROP EXTENSION pgpool_monitor;
DROP ROLE regress_pgpm_dba, regress_pgpm_watch;
