-- Settings: defaults, who may set them, and what their errors say.
\set SHOW_CONTEXT never

SELECT name, boot_val, unit, context, vartype, min_val, max_val, enumvals
FROM pg_settings WHERE name LIKE 'pgpool\_monitor.%' ORDER BY name COLLATE "C";

-- every one is described
SELECT name FROM pg_settings WHERE name LIKE 'pgpool\_monitor.%' AND short_desc NOT LIKE '%.';

-- the identity is the client's to give, at connection start only
SET pgpool_monitor.pool = 'x';
SET pgpool_monitor.instance = 'x';
SELECT set_config('pgpool_monitor.pool', 'x', false);
ALTER SYSTEM SET pgpool_monitor.pool = 'x';
ALTER ROLE CURRENT_USER SET pgpool_monitor.pool = 'x';
CREATE FUNCTION claims() RETURNS int LANGUAGE sql SET pgpool_monitor.pool = 'x' AS 'SELECT 1';

-- who is not attached has no allotment, and cannot pretend to
SHOW pgpool_monitor.allotment;
SET pgpool_monitor.allotment = 'id=me';
SET pgpool_monitor.unknown = 1;

-- all modes are taken, and no other
ALTER SYSTEM SET pgpool_monitor.mode = 'advise';
ALTER SYSTEM SET pgpool_monitor.mode = 'share';
ALTER SYSTEM SET pgpool_monitor.mode = 'enforce';
ALTER SYSTEM RESET pgpool_monitor.mode;
ALTER SYSTEM SET pgpool_monitor.mode = 'force';
ALTER SYSTEM SET pgpool_monitor.headroom = -2;
ALTER SYSTEM SET pgpool_monitor.lease = '10ms';
SET pgpool_monitor.mode = 'off';

-- rules: errors point at the place
ALTER SYSTEM SET pgpool_monitor.rules = 'orders 40';
ALTER SYSTEM SET pgpool_monitor.rules = 'orders=40, batch=x';
ALTER SYSTEM SET pgpool_monitor.rules = 'orders=40, *=10:weight=0';
ALTER SYSTEM SET pgpool_monitor.rules = 'orders=40:mode=force';
ALTER SYSTEM SET pgpool_monitor.rules = 'orders=400%';
ALTER SYSTEM SET pgpool_monitor.rules = '"orders=40';
-- and good ones are taken
ALTER SYSTEM SET pgpool_monitor.rules = 'orders=40, batch@etl/dw=25%:weight=2:floor=2, "a,b"=-, *=10';
ALTER SYSTEM RESET pgpool_monitor.rules;

-- who is always admitted: role names, quoted or not
ALTER SYSTEM SET pgpool_monitor.always_admit = 'dba, "The Boss"';
ALTER SYSTEM RESET pgpool_monitor.always_admit;
ALTER SYSTEM SET pgpool_monitor.always_admit = 'dba, "The Boss';
ALTER SYSTEM SET pgpool_monitor.grace = '1min';
ALTER SYSTEM SET pgpool_monitor.grace_waiters = -1;
SET pgpool_monitor.rules_file = 'rules.conf';

-- a report is never refused but for its length
SELECT set_config('pgpool_monitor.report', 'v=1;seq=1', false);
SELECT set_config('pgpool_monitor.report', 'nonsense', false);
SELECT length(set_config('pgpool_monitor.report', repeat('x', 2048), false));
SELECT set_config('pgpool_monitor.report', repeat('x', 2049), false);
