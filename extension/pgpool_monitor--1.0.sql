/* extension/pgpool_monitor--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgpool_monitor" to load this file. \quit

-- A schema of our own, made here rather than by the control file, so that DROP EXTENSION drops it.
CREATE SCHEMA pgpool_monitor;

-- Rows are filtered in C: members of pg_read_all_stats (hence of pg_monitor) see all, everybody else
-- the pools of the roles that he is a member of.  Everything here but reset() reads only.

CREATE FUNCTION pgpool_monitor.pools(
	OUT health text,
	OUT pool text,
	OUT reason text,
	OUT instances integer,
	OUT sessions integer,
	OUT in_use integer,
	OUT idle integer,
	OUT waiting integer,
	OUT wait_p99_time double precision,
	OUT timeouts bigint,
	OUT active integer,
	OUT idle_in_xact integer,
	OUT blocked integer,
	OUT demand integer,
	OUT allotted integer,
	OUT budget integer,
	OUT role text,
	OUT database text,
	OUT identified_by text,
	OUT since timestamp with time zone,
	OUT severity integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_pools'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.pools AS
	SELECT health, pool, reason, instances, sessions, in_use, idle, waiting, wait_p99_time, timeouts,
		active, idle_in_xact, blocked, demand, allotted, budget, role, database, identified_by, since
	FROM pgpool_monitor.pools()
	ORDER BY severity, waiting DESC NULLS LAST, pool, role, database, identified_by;

CREATE FUNCTION pgpool_monitor.instances(
	OUT pool text,
	OUT role text,
	OUT database text,
	OUT instance text,
	OUT host text,
	OUT application_name text,
	OUT follows boolean,
	OUT reports boolean,
	OUT state text,
	OUT sessions integer,
	OUT knocks integer,
	OUT allotted integer,
	OUT occupied integer,
	OUT acknowledged boolean,
	OUT deaf boolean,
	OUT lease_time double precision,
	OUT report_age_time double precision,
	OUT max_size integer,
	OUT min_size integer,
	OUT opening integer,
	OUT idle integer,
	OUT in_use integer,
	OUT resetting integer,
	OUT closing integer,
	OUT waiting integer,
	OUT demand integer,
	OUT acquires bigint,
	OUT timeouts bigint,
	OUT opened bigint,
	OUT closed bigint,
	OUT open_failures bigint,
	OUT found_dead bigint,
	OUT discarded bigint,
	OUT resets bigint,
	OUT abandoned bigint,
	OUT finished bigint,
	OUT leaks integer,
	OUT wait_p50_time double precision,
	OUT wait_p99_time double precision,
	OUT hold_p50_time double precision,
	OUT hold_p99_time double precision,
	OUT joined timestamp with time zone,
	OUT identified_by text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_instances'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.instances AS
	SELECT * FROM pgpool_monitor.instances();

CREATE FUNCTION pgpool_monitor.sessions(
	OUT pid integer,
	OUT pool text,
	OUT role text,
	OUT database text,
	OUT instance text,
	OUT kind text,
	OUT host text,
	OUT attached timestamp with time zone,
	OUT client_state text,
	OUT held_time double precision,
	OUT thread text,
	OUT call_site text,
	OUT identified_by text,
	OUT idle_since timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_sessions'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.sessions AS
	SELECT s.pid, s.pool, s.instance, s.host, s.client_state, s.held_time, s.call_site, s.thread,
		a.state,
		-- what a report did to state_change is not what the session did
		pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
			CASE WHEN a.state OPERATOR(pg_catalog.=) 'idle' AND s.idle_since IS NOT NULL THEN s.idle_since ELSE a.state_change END)
			OPERATOR(pg_catalog.*) 1000.0::double precision AS state_time,
		a.wait_event_type, a.wait_event,
		CASE WHEN a.wait_event_type OPERATOR(pg_catalog.=) 'Lock'
			THEN pg_catalog.pg_blocking_pids(s.pid) END AS blocked_by,
		a.query, s.kind, a.application_name, s.role, s.database, s.attached, s.identified_by
	FROM pgpool_monitor.sessions() s
	LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) s.pid;

CREATE FUNCTION pgpool_monitor.limits(
	OUT pool text,
	OUT rule text,
	OUT mode text,
	OUT weight integer,
	OUT floor integer,
	OUT ceiling integer,
	OUT instances integer,
	OUT queued integer,
	OUT demand integer,
	OUT held integer,
	OUT allotted integer,
	OUT occupied integer,
	OUT would_allot integer,
	OUT would_close integer,
	OUT would_refuse bigint,
	OUT refused bigint,
	OUT reason text,
	OUT role text,
	OUT database text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_limits'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.limits AS
	SELECT * FROM pgpool_monitor.limits();

CREATE FUNCTION pgpool_monitor.counters(
	OUT pool text,
	OUT role text,
	OUT database text,
	OUT instances integer,
	OUT acquires bigint,
	OUT timeouts bigint,
	OUT failures bigint,
	OUT errors jsonb,
	OUT opened bigint,
	OUT closed bigint,
	OUT closed_by jsonb,
	OUT open_failures bigint,
	OUT found_dead bigint,
	OUT discarded bigint,
	OUT resets bigint,
	OUT abandoned bigint,
	OUT finished bigint,
	OUT wait_p50_time double precision,
	OUT wait_p95_time double precision,
	OUT wait_p99_time double precision,
	OUT hold_p50_time double precision,
	OUT hold_p95_time double precision,
	OUT hold_p99_time double precision,
	OUT wait_histogram bigint[],
	OUT hold_histogram bigint[],
	OUT stats_reset timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_counters'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.counters AS
	SELECT * FROM pgpool_monitor.counters();

-- The only functions that change something: counters, in memory.
CREATE FUNCTION pgpool_monitor.reset()
RETURNS integer
AS 'MODULE_PATHNAME', 'pgpool_monitor_reset'
LANGUAGE C STRICT VOLATILE;

CREATE FUNCTION pgpool_monitor.reset(pool text, role text DEFAULT NULL, database text DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME', 'pgpool_monitor_reset_pool'
LANGUAGE C VOLATILE;

CREATE FUNCTION pgpool_monitor.history(
	OUT sample_time timestamp with time zone,
	OUT pool text,
	OUT role text,
	OUT database text,
	OUT instances integer,
	OUT sessions integer,
	OUT busy integer,
	OUT in_use integer,
	OUT idle integer,
	OUT waiting integer,
	OUT demand integer,
	OUT leaks integer,
	OUT allotted integer,
	OUT max_size integer,
	OUT interval_time double precision,
	OUT arrivals bigint,
	OUT acquires bigint,
	OUT timeouts bigint,
	OUT open_failures bigint,
	OUT holds bigint,
	OUT wait_mean_time double precision,
	OUT wait_p50_time double precision,
	OUT wait_p99_time double precision,
	OUT hold_mean_time double precision,
	OUT hold_total_time double precision,
	OUT hold_variation double precision,
	OUT omitted integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_history'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.history AS
	SELECT * FROM pgpool_monitor.history();

CREATE FUNCTION pgpool_monitor.advice(
	OUT pool text,
	OUT advice text,
	OUT reason text,
	OUT size integer,
	OUT size_recommended integer,
	OUT arrival_rate double precision,
	OUT hold_mean_time double precision,
	OUT utilization double precision,
	OUT wait_measured_time double precision,
	OUT wait_predicted_time double precision,
	OUT wait_at_recommended_time double precision,
	OUT wait_p99_time double precision,
	OUT wait_p99_at_recommended_time double precision,
	OUT confidence text,
	OUT samples integer,
	OUT since timestamp with time zone,
	OUT role text,
	OUT database text,
	OUT urgency integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_advice'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.advice AS
	SELECT pool, advice, reason, size, size_recommended, arrival_rate, hold_mean_time, utilization, wait_measured_time,
		wait_predicted_time, wait_at_recommended_time, wait_p99_time, wait_p99_at_recommended_time, confidence, samples,
		since, role, database
	FROM pgpool_monitor.advice()
	ORDER BY urgency, pool, role, database;

CREATE FUNCTION pgpool_monitor.info(
	OUT version text,
	OUT mode text,
	OUT incarnation timestamp with time zone,
	OUT worker_pid integer,
	OUT rounds bigint,
	OUT last_round timestamp with time zone,
	OUT max_connections integer,
	OUT reserved integer,
	OUT headroom integer,
	OUT outside integer,
	OUT capacity integer,
	OUT held integer,
	OUT occupied integer,
	OUT held_peak integer,
	OUT excess_peak integer,
	OUT allotments bigint,
	OUT report_interval_time double precision,
	OUT lease_time double precision,
	OUT pools integer,
	OUT max_pools integer,
	OUT instances integer,
	OUT max_instances integer,
	OUT refused_sessions bigint,
	OUT unplaced_sessions bigint,
	OUT reports_applied bigint,
	OUT reports_ignored bigint,
	OUT reports_rejected bigint,
	OUT rules text,
	OUT rules_error text,
	OUT rules_file text,
	OUT rules_file_error text,
	OUT rule_count integer,
	OUT enforced_refusals bigint,
	OUT exempt_sessions bigint,
	OUT grace_waits bigint,
	OUT grace_admits bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'pgpool_monitor_info'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.info AS
	SELECT * FROM pgpool_monitor.info();

-- Orders to pools, and the list of them.  Of no transaction: what was ordered stays when it is rolled back.
CREATE FUNCTION pgpool_monitor.pause(
	pool text DEFAULT NULL,
	role name DEFAULT NULL,
	database name DEFAULT NULL,
	expires interval DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME', 'pgpool_monitor_pause'
LANGUAGE C CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE;

CREATE FUNCTION pgpool_monitor.resume(
	pool text DEFAULT NULL,
	role name DEFAULT NULL,
	database name DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME', 'pgpool_monitor_resume'
LANGUAGE C CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE;

CREATE FUNCTION pgpool_monitor.pauses(
	OUT pool text,
	OUT role text,
	OUT database text,
	OUT since timestamp with time zone,
	OUT expires timestamp with time zone,
	OUT by_role text,
	OUT instances integer,
	OUT heard integer,
	OUT sessions_held integer,
	OUT in_use integer,
	OUT busy integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgpool_monitor_pauses'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW pgpool_monitor.pauses AS
	SELECT * FROM pgpool_monitor.pauses();

REVOKE ALL ON FUNCTION pgpool_monitor.pause(text, name, name, interval), pgpool_monitor.resume(text, name, name),
	pgpool_monitor.pauses() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgpool_monitor.pauses() TO pg_monitor;
GRANT SELECT ON pgpool_monitor.pauses TO pg_monitor;

COMMENT ON FUNCTION pgpool_monitor.pause(text, name, name, interval) IS 'has pools lend nothing until they are resumed, or for as long as expires says (NULL: no end); name, role and database are exact, NULL means any, and so all NULL means everybody; returns the number of instances that are told, which are those that follow, of pools whose mode is not off; again for the same three: sets the end anew';
COMMENT ON FUNCTION pgpool_monitor.resume(text, name, name) IS 'ends the pause of exactly these three, or with all NULL every pause; returns how many it ended';
COMMENT ON FUNCTION pgpool_monitor.pauses() IS 'one row per pause; read the view of the same name';
COMMENT ON VIEW pgpool_monitor.pauses IS 'pauses in force; the pools of one have drained when heard = instances, and in_use and busy are 0';
COMMENT ON COLUMN pgpool_monitor.pauses.pool IS 'name of the pool; NULL: any';
COMMENT ON COLUMN pgpool_monitor.pauses.role IS 'login role, the number of one that was dropped; NULL: any';
COMMENT ON COLUMN pgpool_monitor.pauses.database IS 'database, the number of one that was dropped; NULL: any';
COMMENT ON COLUMN pgpool_monitor.pauses.since IS 'when it was ordered first';
COMMENT ON COLUMN pgpool_monitor.pauses.expires IS 'when it ends by itself; NULL: never';
COMMENT ON COLUMN pgpool_monitor.pauses.by_role IS 'who ordered it last, as he logged in';
COMMENT ON COLUMN pgpool_monitor.pauses.instances IS 'instances that it keeps paused now';
COMMENT ON COLUMN pgpool_monitor.pauses.heard IS 'of these, have said in a report that they took over what they are told now, and so begin no loan; one that does not report never has';
COMMENT ON COLUMN pgpool_monitor.pauses.sessions_held IS 'server connections of these instances, idle ones included, knocks not';
COMMENT ON COLUMN pgpool_monitor.pauses.in_use IS 'of these, lent to callers, as last reported; NULL if none of the instances has reported';
COMMENT ON COLUMN pgpool_monitor.pauses.busy IS 'of their connections, those that run a command or are in a transaction, as the server sees it; a report is a command as well';

-- pools, instances, sessions, limits, counters, history and advice filter their rows; info is about the server as a whole.
REVOKE ALL ON FUNCTION pgpool_monitor.info() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgpool_monitor.info() TO pg_monitor;
GRANT SELECT ON pgpool_monitor.info TO pg_monitor;
GRANT SELECT ON pgpool_monitor.pools, pgpool_monitor.instances, pgpool_monitor.sessions, pgpool_monitor.limits TO PUBLIC;
GRANT SELECT ON pgpool_monitor.counters TO PUBLIC;
REVOKE ALL ON FUNCTION pgpool_monitor.reset() FROM PUBLIC;
REVOKE ALL ON FUNCTION pgpool_monitor.reset(text, text, text) FROM PUBLIC;
GRANT SELECT ON pgpool_monitor.history, pgpool_monitor.advice TO PUBLIC;
GRANT USAGE ON SCHEMA pgpool_monitor TO PUBLIC;

COMMENT ON FUNCTION pgpool_monitor.pools() IS 'one row per connection pool; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.instances() IS 'one row per instance of a pool; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.sessions() IS 'one row per session that belongs to a pool; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.limits() IS 'one row per connection pool, with what it may hold and why; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.counters() IS 'one row per connection pool, with what it has counted; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.reset() IS 'sets the counters of all pools to zero, and forgets pools without instances; returns how many pools';
COMMENT ON FUNCTION pgpool_monitor.reset(text, text, text) IS 'sets the counters of pools to zero, by name, role and database as views show them; NULL: any; returns how many pools';
COMMENT ON FUNCTION pgpool_monitor.history() IS 'one row per connection pool and sample; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.advice() IS 'one row per connection pool of the last hour; read the view of the same name';
COMMENT ON FUNCTION pgpool_monitor.info() IS 'one row about pgpool_monitor itself; read the view of the same name';

COMMENT ON VIEW pgpool_monitor.pools IS 'connection pools, worst first, and the connections that belong to none; sessions sum to the client backends of pg_stat_activity';
COMMENT ON COLUMN pgpool_monitor.pools.health IS 'failing: connections cannot be opened; starved: callers wait, and the allotment is why; saturated: callers wait, and the pool''s own size is why; leaking: connections are lent for too long, and idle; blocked: callers wait for sessions that wait for locks, or are idle in a transaction; stale: instances that promised reports are silent; ok. The first that applies, and what lasts for pgpool_monitor.health_enter or health_leave. NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.pool IS 'name of the pool as its clients give it, or as identified_by says, bytes that are not printable ASCII and the backslash as \xHH; (outside) for connections that belong to no pool';
COMMENT ON COLUMN pgpool_monitor.pools.reason IS 'the figures behind the health, as they are now; begins with "now" where they say something else than health does; empty if there is nothing to say; for (outside), the most frequent application names; NULL if it has none';
COMMENT ON COLUMN pgpool_monitor.pools.instances IS 'pool objects, one per pool and process; without an id, one per host and application_name; NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.sessions IS 'server connections attached now, knocks included';
COMMENT ON COLUMN pgpool_monitor.pools.in_use IS 'connections lent to callers, as last reported; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.pools.idle IS 'connections open and not lent, as last reported; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.pools.waiting IS 'callers waiting for a connection, as last reported; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.pools.wait_p99_time IS '99th percentile of the time that callers waited in the last one to two minutes, in milliseconds, exact to a factor of two; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.pools.timeouts IS 'acquires that failed by their deadline, since the instances that are there began; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.pools.active IS 'sessions that run a command';
COMMENT ON COLUMN pgpool_monitor.pools.idle_in_xact IS 'sessions idle in a transaction, failed ones included';
COMMENT ON COLUMN pgpool_monitor.pools.blocked IS 'sessions that wait for a heavyweight lock; NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.demand IS 'in use and waiting, the most of the last two reports of each instance; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.pools.allotted IS 'connections that its instances may hold together; NULL if none has a limit';
COMMENT ON COLUMN pgpool_monitor.pools.budget IS 'connections that its rule grants, to all pools of the rule together; NULL if it has no budget';
COMMENT ON COLUMN pgpool_monitor.pools.role IS 'login role, part of the pool''s key; the name is that of the first session; NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.database IS 'database, part of the pool''s key; the name is that of the first session; NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.identified_by IS 'client: it names itself; application_name or role: it does not, and is called by that (pgpool_monitor.identify), is only counted, and is another pool than one that has the same name of its own; NULL for (outside)';
COMMENT ON COLUMN pgpool_monitor.pools.since IS 'when health became what it is; NULL for (outside), and while the worker does not look: health is then that of the moment';

COMMENT ON VIEW pgpool_monitor.instances IS 'instances of pools: what the server counts, what it told them, what they reported';
COMMENT ON COLUMN pgpool_monitor.instances.pool IS 'name of the pool';
COMMENT ON COLUMN pgpool_monitor.instances.role IS 'login role';
COMMENT ON COLUMN pgpool_monitor.instances.database IS 'database';
COMMENT ON COLUMN pgpool_monitor.instances.instance IS 'id that the client drew; NULL if it gave none and is told apart by host and application_name';
COMMENT ON COLUMN pgpool_monitor.instances.host IS 'client address of its first session';
COMMENT ON COLUMN pgpool_monitor.instances.application_name IS 'application_name of its first session';
COMMENT ON COLUMN pgpool_monitor.instances.follows IS 'whether it said that it obeys its allotment';
COMMENT ON COLUMN pgpool_monitor.instances.reports IS 'whether it said that it reports';
COMMENT ON COLUMN pgpool_monitor.instances.state IS 'what it is told: ok, queued, paused or off';
COMMENT ON COLUMN pgpool_monitor.instances.sessions IS 'server connections attached now, knocks not included';
COMMENT ON COLUMN pgpool_monitor.instances.knocks IS 'sessions attached now that are there only to report';
COMMENT ON COLUMN pgpool_monitor.instances.allotted IS 'connections that it may hold; NULL: no limit is set';
COMMENT ON COLUMN pgpool_monitor.instances.occupied IS 'the larger of the sessions it holds and of the largest limit it may still believe; NULL if it is not shared with';
COMMENT ON COLUMN pgpool_monitor.instances.acknowledged IS 'whether it has said that it took over what it is told; NULL if it does not report';
COMMENT ON COLUMN pgpool_monitor.instances.deaf IS 'whether it reports, and has taken over nothing newer for two leases: what it does not hold was taken back, as from one that is silent; NULL if it does not both report and follow';
COMMENT ON COLUMN pgpool_monitor.instances.lease_time IS 'milliseconds that it may still rely on its allotment without an answer from the server; 0: run out; NULL if it does not name its pool';
COMMENT ON COLUMN pgpool_monitor.instances.report_age_time IS 'milliseconds since its last report; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.instances.max_size IS 'its own upper limit, as last reported, as is what follows; NULL if it did not say';
COMMENT ON COLUMN pgpool_monitor.instances.min_size IS 'its own lower limit; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.opening IS 'connections being opened; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.idle IS 'connections open and not lent; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.in_use IS 'connections lent to callers; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.resetting IS 'connections being reset after use; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.closing IS 'connections being closed; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.waiting IS 'callers waiting; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.demand IS 'in use and waiting, the most of the last two reports; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.acquires IS 'acquires granted since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.timeouts IS 'acquires that failed by their deadline since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.opened IS 'connections opened since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.closed IS 'connections closed since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.open_failures IS 'attempts to open a connection that failed since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.found_dead IS 'idle connections found dead since it began; 0 also if it never said, as are the next four; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.discarded IS 'loans given back unfit to be kept since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.resets IS 'connections reset after use since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.abandoned IS 'loans taken back from threads that ended, since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.finished IS 'loans that their holder closed by mistake since it began; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.leaks IS 'loans out for longer than its leak threshold; NULL if it never reported';
COMMENT ON COLUMN pgpool_monitor.instances.wait_p50_time IS 'median of the time that callers waited in the last one to two minutes, in milliseconds, exact to a factor of two; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.instances.wait_p99_time IS '99th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.instances.hold_p50_time IS 'median of the time that connections were lent since it began, in milliseconds, exact to a factor of two; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.instances.hold_p99_time IS '99th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.instances.joined IS 'when its first session was attached';
COMMENT ON COLUMN pgpool_monitor.instances.identified_by IS 'by what its pool was identified, as in pools';

COMMENT ON VIEW pgpool_monitor.sessions IS 'server connections that belong to a pool, with what client and server know of each';
COMMENT ON COLUMN pgpool_monitor.sessions.pid IS 'process id of the backend';
COMMENT ON COLUMN pgpool_monitor.sessions.pool IS 'name of the pool';
COMMENT ON COLUMN pgpool_monitor.sessions.instance IS 'id of the instance; NULL if it gave none';
COMMENT ON COLUMN pgpool_monitor.sessions.host IS 'client address of the instance; [local]: a Unix socket';
COMMENT ON COLUMN pgpool_monitor.sessions.client_state IS 'as of the instance''s last report: lent (to thread, at call_site, for held_time), or idle; NULL: not known, for the instance does not report, or this session is newer than its report, or more are lent than the oldest that a report lists';
COMMENT ON COLUMN pgpool_monitor.sessions.held_time IS 'milliseconds since it was lent; NULL: not lent, or not known';
COMMENT ON COLUMN pgpool_monitor.sessions.call_site IS 'where the program acquired it; NULL: not lent, or not known';
COMMENT ON COLUMN pgpool_monitor.sessions.thread IS 'thread that acquired it; NULL: not lent, or not known';
COMMENT ON COLUMN pgpool_monitor.sessions.state IS 'state of the backend, as in pg_stat_activity; NULL: it is just ending';
COMMENT ON COLUMN pgpool_monitor.sessions.state_time IS 'milliseconds in that state; of an idle session, since the last command that was no report of its pool (at its first report, since that command began); NULL if state is, or if track_activities is off';
COMMENT ON COLUMN pgpool_monitor.sessions.wait_event_type IS 'as in pg_stat_activity; NULL: it waits for nothing';
COMMENT ON COLUMN pgpool_monitor.sessions.wait_event IS 'as in pg_stat_activity; NULL: it waits for nothing';
COMMENT ON COLUMN pgpool_monitor.sessions.blocked_by IS 'process ids that hold, or wait ahead of it for, what it waits for; 0: a prepared transaction; NULL if it waits for no lock';
COMMENT ON COLUMN pgpool_monitor.sessions.query IS 'as in pg_stat_activity; where an instance reports, the text of its report; NULL: it is just ending';
COMMENT ON COLUMN pgpool_monitor.sessions.kind IS 'pool, or knock: there only to report';
COMMENT ON COLUMN pgpool_monitor.sessions.application_name IS 'as in pg_stat_activity, that is as it is now; NULL: it is just ending';
COMMENT ON COLUMN pgpool_monitor.sessions.role IS 'login role';
COMMENT ON COLUMN pgpool_monitor.sessions.database IS 'database';
COMMENT ON COLUMN pgpool_monitor.sessions.attached IS 'when it was attached to its pool';
COMMENT ON COLUMN pgpool_monitor.sessions.identified_by IS 'by what its pool was identified, as in pools';

COMMENT ON VIEW pgpool_monitor.limits IS 'what each pool may hold, and why; the row (server) has the arithmetic';
COMMENT ON COLUMN pgpool_monitor.limits.pool IS 'name of the pool; (server): all that can be shared out';
COMMENT ON COLUMN pgpool_monitor.limits.rule IS 'the rule that matches it, as written; NULL: none, it shares with all others that have none';
COMMENT ON COLUMN pgpool_monitor.limits.mode IS 'mode in force for it';
COMMENT ON COLUMN pgpool_monitor.limits.weight IS 'its rule''s weight; NULL for (server)';
COMMENT ON COLUMN pgpool_monitor.limits.floor IS 'connections that its rule keeps for it; NULL for (server)';
COMMENT ON COLUMN pgpool_monitor.limits.ceiling IS 'connections that its rule, or the CONNECTION LIMIT of its role or database, allows at most (each to all pools under it together), the least of these; limits are as of its newest session; NULL: no ceiling; for (server), the capacity';
COMMENT ON COLUMN pgpool_monitor.limits.instances IS 'instances';
COMMENT ON COLUMN pgpool_monitor.limits.queued IS 'instances that wait for their first connection; NULL for (server)';
COMMENT ON COLUMN pgpool_monitor.limits.demand IS 'in use and waiting, the most of the last two reports of each instance; NULL if none reports';
COMMENT ON COLUMN pgpool_monitor.limits.held IS 'sessions held now, knocks not included';
COMMENT ON COLUMN pgpool_monitor.limits.allotted IS 'connections that its instances may hold together; NULL if none has a limit';
COMMENT ON COLUMN pgpool_monitor.limits.occupied IS 'the larger of held and of what each instance may still believe that it may hold, summed; NULL if it is not shared with';
COMMENT ON COLUMN pgpool_monitor.limits.would_allot IS 'connections that its instances would be allotted together now, had nothing to be given back first; NULL if the mode is off or observe, or if none of them follows';
COMMENT ON COLUMN pgpool_monitor.limits.would_close IS 'sessions that its instances hold above that; NULL as would_allot';
COMMENT ON COLUMN pgpool_monitor.limits.would_refuse IS 'sessions admitted in mode advise or share that mode enforce would have refused, since the pool was first seen; NULL if the mode is off or observe';
COMMENT ON COLUMN pgpool_monitor.limits.refused IS 'sessions refused in mode enforce, since the pool was first seen; NULL for (server)';
COMMENT ON COLUMN pgpool_monitor.limits.reason IS 'why it has what it has';
COMMENT ON COLUMN pgpool_monitor.limits.role IS 'login role; NULL for (server)';
COMMENT ON COLUMN pgpool_monitor.limits.database IS 'database; NULL for (server)';

COMMENT ON VIEW pgpool_monitor.counters IS 'what pools have counted since stats_reset, by their instances'' reports, those that have ended included; never goes back';
COMMENT ON COLUMN pgpool_monitor.counters.pool IS 'name of the pool; one without instances stays until its room is needed';
COMMENT ON COLUMN pgpool_monitor.counters.role IS 'login role';
COMMENT ON COLUMN pgpool_monitor.counters.database IS 'database';
COMMENT ON COLUMN pgpool_monitor.counters.instances IS 'instances that there are; 0: it is only remembered';
COMMENT ON COLUMN pgpool_monitor.counters.acquires IS 'acquires granted; 0, as in what follows, if none of its instances tells; NULL if none ever reported';
COMMENT ON COLUMN pgpool_monitor.counters.timeouts IS 'acquires that failed by their deadline; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.failures IS 'acquires that failed in another way; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.errors IS 'acquires that failed, by error, as libpqpool names it (timed_out, server_full, ...) or by its number; none: {}; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.opened IS 'connections opened; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.closed IS 'connections closed; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.closed_by IS 'connections closed, by reason, as libpqpool names it (idle, lifetime, limit, ...) or by its number; none: {}; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.open_failures IS 'attempts to open a connection that failed; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.found_dead IS 'idle connections found dead; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.discarded IS 'loans given back unfit to be kept; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.resets IS 'connections reset after use; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.abandoned IS 'loans taken back from threads that ended; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.finished IS 'loans that their holder closed by mistake; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.wait_p50_time IS 'median of the time that callers waited, in milliseconds, exact to a factor of two; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.counters.wait_p95_time IS '95th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.counters.wait_p99_time IS '99th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.counters.hold_p50_time IS 'median of the time that connections were lent, in milliseconds, exact to a factor of two; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.counters.hold_p95_time IS '95th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.counters.hold_p99_time IS '99th percentile of the same, in milliseconds; NULL as the median';
COMMENT ON COLUMN pgpool_monitor.counters.wait_histogram IS 'waits by length: the first element counts those below a microsecond, element k + 1 those of at least 2^(k-1) and less than 2^k microseconds, the last (32) also those that were longer; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.hold_histogram IS 'loans by length, likewise; NULL as acquires';
COMMENT ON COLUMN pgpool_monitor.counters.stats_reset IS 'when counting began: with the pools first session, or that after a crash, or the last reset; instances that are older bring what they counted before with their first report';
COMMENT ON VIEW pgpool_monitor.history IS 'samples of each pool, one every pgpool_monitor.history_interval, for as long as pgpool_monitor.history_size has room; empty if that is 0, and after a restart';
COMMENT ON COLUMN pgpool_monitor.history.sample_time IS 'when it was taken; the samples of one round have the same';
COMMENT ON COLUMN pgpool_monitor.history.pool IS 'name of the pool';
COMMENT ON COLUMN pgpool_monitor.history.role IS 'login role';
COMMENT ON COLUMN pgpool_monitor.history.database IS 'database';
COMMENT ON COLUMN pgpool_monitor.history.instances IS 'instances then; 0: the last one has ended since the sample before, and what it counted until then is here';
COMMENT ON COLUMN pgpool_monitor.history.sessions IS 'server connections attached then, knocks included';
COMMENT ON COLUMN pgpool_monitor.history.busy IS 'of these, running a command or in a transaction';
COMMENT ON COLUMN pgpool_monitor.history.in_use IS 'connections lent to callers, as last reported; NULL if no instance reports';
COMMENT ON COLUMN pgpool_monitor.history.idle IS 'connections open and not lent, as last reported; NULL as in_use';
COMMENT ON COLUMN pgpool_monitor.history.waiting IS 'callers waiting, as last reported; NULL as in_use';
COMMENT ON COLUMN pgpool_monitor.history.demand IS 'in use and waiting, the most of the last two reports of each instance; NULL as in_use';
COMMENT ON COLUMN pgpool_monitor.history.leaks IS 'loans out for longer than the instances leak thresholds, as last reported; NULL as in_use';
COMMENT ON COLUMN pgpool_monitor.history.allotted IS 'connections that its instances might hold together; NULL if none had a limit';
COMMENT ON COLUMN pgpool_monitor.history.max_size IS 'its instances own upper limits, summed; NULL if not known of all that report';
COMMENT ON COLUMN pgpool_monitor.history.interval_time IS 'milliseconds since the sample before, which the next eleven columns are about; NULL: there was none';
COMMENT ON COLUMN pgpool_monitor.history.arrivals IS 'acquires and timeouts: callers that asked for a connection, also of instances that have ended, not what an instance counted elsewhere before it came; NULL: not known, for no instance reports, or there was no sample before';
COMMENT ON COLUMN pgpool_monitor.history.acquires IS 'acquires granted; NULL as arrivals';
COMMENT ON COLUMN pgpool_monitor.history.timeouts IS 'acquires that failed by their deadline; from 4096 on, this and the next two are exact to one part in 4096; NULL as arrivals';
COMMENT ON COLUMN pgpool_monitor.history.open_failures IS 'attempts to open a connection that failed; NULL as arrivals';
COMMENT ON COLUMN pgpool_monitor.history.holds IS 'loans that ended; NULL as arrivals';
COMMENT ON COLUMN pgpool_monitor.history.wait_mean_time IS 'mean time that callers waited, timeouts included, in milliseconds, from buckets a factor of two wide; NULL as arrivals, and if there were none';
COMMENT ON COLUMN pgpool_monitor.history.wait_p50_time IS 'median of the same, in milliseconds, exact to a factor of two; NULL likewise';
COMMENT ON COLUMN pgpool_monitor.history.wait_p99_time IS '99th percentile of the same, in milliseconds; NULL likewise';
COMMENT ON COLUMN pgpool_monitor.history.hold_mean_time IS 'mean time for which connections were lent, in milliseconds, of the loans that ended, from buckets a factor of two wide; NULL as arrivals, and if none ended';
COMMENT ON COLUMN pgpool_monitor.history.hold_total_time IS 'the same, summed, in milliseconds; NULL as arrivals';
COMMENT ON COLUMN pgpool_monitor.history.hold_variation IS 'variance of the same divided by the square of the mean: 0 if all alike, 1 if exponential; NULL as arrivals, and if none ended';
COMMENT ON COLUMN pgpool_monitor.history.omitted IS 'pools that the ring had no room for in this round';

COMMENT ON VIEW pgpool_monitor.advice IS 'what to do about the size of each pool, worked out when read from the history of the last hour; by the queueing formula Erlang C, for each instance, with the correction of Allen and Cunneen for hold times that are not exponential';
COMMENT ON COLUMN pgpool_monitor.advice.pool IS 'name of the pool';
COMMENT ON COLUMN pgpool_monitor.advice.advice IS 'fix_leak: connections are lent and not given back; raise_budget: callers wait, and more connections would help; shrink_pool: far fewer would do; none: nothing to do; NULL: not enough data';
COMMENT ON COLUMN pgpool_monitor.advice.reason IS 'the figures behind it';
COMMENT ON COLUMN pgpool_monitor.advice.size IS 'connections that it may have now, by its own limits and its allotment; if neither is known, those that it has';
COMMENT ON COLUMN pgpool_monitor.advice.size_recommended IS 'fewest with which 99 of 100 acquires wait no longer than pgpool_monitor.advice_wait at the rate of the busiest sample, all instances together; NULL if not enough data, or fix_leak';
COMMENT ON COLUMN pgpool_monitor.advice.arrival_rate IS 'acquires and timeouts per second, mean; NULL: not known';
COMMENT ON COLUMN pgpool_monitor.advice.hold_mean_time IS 'mean time for which a connection is lent, in milliseconds; NULL: no loan ended';
COMMENT ON COLUMN pgpool_monitor.advice.utilization IS 'part of size that arrivals keep busy: rate times hold time by size; above 1 it cannot keep up; NULL as size_recommended';
COMMENT ON COLUMN pgpool_monitor.advice.wait_measured_time IS 'mean time that callers waited, in milliseconds; NULL: not known';
COMMENT ON COLUMN pgpool_monitor.advice.wait_predicted_time IS 'mean time that they should wait with the present size by the formula, in milliseconds; NULL if not enough data, fix_leak, or if it cannot keep up, so that there is no mean';
COMMENT ON COLUMN pgpool_monitor.advice.wait_at_recommended_time IS 'mean time that they would wait with the size recommended at the rate of the busiest sample, in milliseconds; NULL as size_recommended';
COMMENT ON COLUMN pgpool_monitor.advice.wait_p99_time IS '99th percentile of the time that callers waited, in milliseconds, mean of the samples, exact to a factor of two; NULL: not known';
COMMENT ON COLUMN pgpool_monitor.advice.wait_p99_at_recommended_time IS '99th percentile by the formula with the size recommended, in milliseconds; NULL as size_recommended';
COMMENT ON COLUMN pgpool_monitor.advice.confidence IS 'low: less than 10 samples or 1000 arrivals, or saturated (then callers that stay away are not counted, and the size is a lower bound), or lent connections do not agree with rate and hold time; high: at least 30 samples, 10000 arrivals, and a steady rate; else medium; NULL if there is no advice';
COMMENT ON COLUMN pgpool_monitor.advice.samples IS 'samples with counters that it is made from';
COMMENT ON COLUMN pgpool_monitor.advice.since IS 'where the first of their intervals began; NULL: there was none';
COMMENT ON COLUMN pgpool_monitor.advice.role IS 'login role';
COMMENT ON COLUMN pgpool_monitor.advice.database IS 'database';

COMMENT ON VIEW pgpool_monitor.info IS 'pgpool_monitor itself: worker, capacity, tables, reports';
COMMENT ON COLUMN pgpool_monitor.info.version IS 'version of the library';
COMMENT ON COLUMN pgpool_monitor.info.mode IS 'pgpool_monitor.mode as it is in force';
COMMENT ON COLUMN pgpool_monitor.info.incarnation IS 'when this shared memory was made: at server start, or after a crash';
COMMENT ON COLUMN pgpool_monitor.info.worker_pid IS 'process id of the worker; NULL: it does not run, and limits stay as they are';
COMMENT ON COLUMN pgpool_monitor.info.rounds IS 'rounds of the worker since then';
COMMENT ON COLUMN pgpool_monitor.info.last_round IS 'when the last one was; NULL if there was none';
COMMENT ON COLUMN pgpool_monitor.info.max_connections IS 'as set';
COMMENT ON COLUMN pgpool_monitor.info.reserved IS 'of these, reserved for superusers and by reserved_connections';
COMMENT ON COLUMN pgpool_monitor.info.headroom IS 'of these, never given to pools';
COMMENT ON COLUMN pgpool_monitor.info.outside IS 'of these, taken by connections that follow nothing; the largest of late; NULL while the mode is off, as are the next three';
COMMENT ON COLUMN pgpool_monitor.info.capacity IS 'what is left to share out; may be negative';
COMMENT ON COLUMN pgpool_monitor.info.held IS 'sessions of pools that are shared with, in the last round';
COMMENT ON COLUMN pgpool_monitor.info.occupied IS 'the larger of held and of what each instance may still believe, summed, in the last round';
COMMENT ON COLUMN pgpool_monitor.info.held_peak IS 'largest value of held in any round';
COMMENT ON COLUMN pgpool_monitor.info.excess_peak IS 'most by which held was above capacity in any round: by first sessions of newcomers, or by capacity that others took; up to the headroom that is as it should be';
COMMENT ON COLUMN pgpool_monitor.info.allotments IS 'allotments published';
COMMENT ON COLUMN pgpool_monitor.info.report_interval_time IS 'milliseconds between reports that instances are asked for';
COMMENT ON COLUMN pgpool_monitor.info.lease_time IS 'milliseconds that an allotment holds without an answer';
COMMENT ON COLUMN pgpool_monitor.info.pools IS 'pools that have instances';
COMMENT ON COLUMN pgpool_monitor.info.max_pools IS 'pools that there is room for';
COMMENT ON COLUMN pgpool_monitor.info.instances IS 'instances known';
COMMENT ON COLUMN pgpool_monitor.info.max_instances IS 'instances that there is room for';
COMMENT ON COLUMN pgpool_monitor.info.refused_sessions IS 'sessions that were not attached because a table was full, or because their role has its share of it';
COMMENT ON COLUMN pgpool_monitor.info.unplaced_sessions IS 'sessions that name no pool, for which there was no room, or which made room for pools that name themselves; they are outside';
COMMENT ON COLUMN pgpool_monitor.info.reports_applied IS 'reports applied';
COMMENT ON COLUMN pgpool_monitor.info.reports_ignored IS 'reports that were not newer than what is known';
COMMENT ON COLUMN pgpool_monitor.info.reports_rejected IS 'reports that could not be read';
COMMENT ON COLUMN pgpool_monitor.info.rules IS 'pgpool_monitor.rules as it is in force; NULL: none';
COMMENT ON COLUMN pgpool_monitor.info.rules_error IS 'what is wrong with the rules that the last reload found and did not take; NULL: nothing';
COMMENT ON COLUMN pgpool_monitor.info.rules_file IS 'pgpool_monitor.rules_file; NULL: none';
COMMENT ON COLUMN pgpool_monitor.info.rules_file_error IS 'what was wrong with that file when it was last read, so that the rules from before stay in force: file, line, what; NULL: nothing';
COMMENT ON COLUMN pgpool_monitor.info.rule_count IS 'rules in force, of pgpool_monitor.rules and of the file together';
COMMENT ON COLUMN pgpool_monitor.info.enforced_refusals IS 'sessions refused in mode enforce';
COMMENT ON COLUMN pgpool_monitor.info.exempt_sessions IS 'sessions of superusers, and of roles in pgpool_monitor.always_admit, that were admitted though they were one too many';
COMMENT ON COLUMN pgpool_monitor.info.grace_waits IS 'sessions that waited for the end of another one before they were admitted or refused';
COMMENT ON COLUMN pgpool_monitor.info.grace_admits IS 'of these, admitted';
