-- Clients that name no pool: pgpool_monitor.identify, and what is shown of them.
\set SHOW_CONTEXT never

CREATE EXTENSION pgpool_monitor;
SELECT boot_val, context FROM pg_settings WHERE name = 'pgpool_monitor.identify';

-- what is wrong is said
ALTER SYSTEM SET pgpool_monitor.identify = 'options, user';
ALTER SYSTEM SET pgpool_monitor.identify = 'application_name, options';
ALTER SYSTEM SET pgpool_monitor.identify = 'role, none';
ALTER SYSTEM SET pgpool_monitor.identify = 'role, role';
ALTER SYSTEM SET pgpool_monitor.identify = 'role,';
SET pgpool_monitor.identify = 'role';
-- and what is right is taken
ALTER SYSTEM SET pgpool_monitor.identify = ' Role , APPLICATION_NAME';
ALTER SYSTEM SET pgpool_monitor.identify = 'none';
ALTER SYSTEM SET pgpool_monitor.identify = '';
ALTER SYSTEM RESET pgpool_monitor.identify;

-- an application's name, as it was at startup
SELECT current_database() AS database \gset
\set connect 'dbname=' :database ' application_name=reporting'
\c :connect
SET application_name = 'something else';
SELECT pool, health, reason, instances, sessions, in_use, allotted, budget, role = session_user AS own, identified_by
FROM pgpool_monitor.pools WHERE pool IN ('reporting', 'something else');
SELECT instance, application_name, follows, reports, sessions, knocks, allotted, occupied, lease_time, identified_by
FROM pgpool_monitor.instances WHERE pool = 'reporting';
SELECT pid = pg_backend_pid() AS own, instance, client_state, state, blocked_by, kind, application_name, identified_by
FROM pgpool_monitor.sessions WHERE pool = 'reporting';
-- no limit is its
SELECT count(*) FROM pgpool_monitor.limits WHERE pool = 'reporting';
-- it is told nothing, and nothing is taken from it
SHOW pgpool_monitor.allotment;
SELECT set_config('pgpool_monitor.report', 'v=1;seq=1;in_use=5', false);
SELECT in_use FROM pgpool_monitor.pools WHERE pool = 'reporting';

-- the same name of a pool that names itself is another pool
\set connect 'dbname=' :database ' application_name='''' options=''-c pgpool_monitor.pool=reporting'''
\c :connect
SELECT pool, instances, identified_by FROM pgpool_monitor.pools WHERE pool = 'reporting' AND identified_by = 'client';
DROP EXTENSION pgpool_monitor;
