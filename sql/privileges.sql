-- Who sees what: a pool's own role, a stranger, a member of pg_monitor.

CREATE EXTENSION pgpool_monitor;
CREATE ROLE regress_pgpm_stranger;
CREATE ROLE regress_pgpm_monitor;
GRANT pg_monitor TO regress_pgpm_monitor;
CREATE ROLE regress_pgpm_owner LOGIN NOINHERIT;
GRANT regress_pgpm_stranger, regress_pgpm_monitor TO regress_pgpm_owner;

SELECT current_database() AS database, current_user AS me \gset
\set connect 'dbname=' :database ' user=regress_pgpm_owner options=''-c pgpool_monitor.pool=regress -c pgpool_monitor.instance=one'''
\c :connect

-- its own role
SELECT pool, role = session_user AS own FROM pgpool_monitor.pools ORDER BY pool;
SELECT pool, instance FROM pgpool_monitor.instances;
SELECT pool, pid = pg_backend_pid() AS own, query FROM pgpool_monitor.sessions;
SELECT pool FROM pgpool_monitor.limits;
SELECT pool, instances, acquires FROM pgpool_monitor.counters;
SELECT pgpool_monitor.reset();
SELECT pgpool_monitor.reset('regress');
SELECT * FROM pgpool_monitor.info;
SELECT * FROM pgpool_monitor.info();

-- a stranger
SET ROLE regress_pgpm_stranger;
SELECT pool FROM pgpool_monitor.pools;
SELECT pool FROM pgpool_monitor.instances;
SELECT pool FROM pgpool_monitor.sessions;
SELECT pool FROM pgpool_monitor.limits;
SELECT pool FROM pgpool_monitor.counters;
SELECT pool FROM pgpool_monitor.counters();
SELECT pgpool_monitor.reset('regress');
SELECT pool FROM pgpool_monitor.pools();
SELECT pool FROM pgpool_monitor.history;
SELECT pool FROM pgpool_monitor.advice();
SELECT version FROM pgpool_monitor.info;
SELECT version FROM pgpool_monitor.info();

-- one who watches
SET ROLE regress_pgpm_monitor;
SELECT pool FROM pgpool_monitor.pools WHERE pool IN ('regress', '(outside)') ORDER BY pool COLLATE "C";
SELECT pool FROM pgpool_monitor.instances WHERE pool = 'regress';
SELECT pool FROM pgpool_monitor.sessions WHERE pool = 'regress';
SELECT pool FROM pgpool_monitor.limits WHERE pool IN ('regress', '(server)') ORDER BY pool COLLATE "C";
SELECT pool FROM pgpool_monitor.counters WHERE pool = 'regress';
SELECT pgpool_monitor.reset();
SELECT pgpool_monitor.reset('regress');
SELECT version FROM pgpool_monitor.info;
RESET ROLE;

\set connect 'dbname=' :database ' options='''' user=' :me
\c :connect
DROP ROLE regress_pgpm_owner, regress_pgpm_stranger, regress_pgpm_monitor;
DROP EXTENSION pgpool_monitor;
