/*-------------------------------------------------------------------------
 *
 * health_watch.c
 *	  The figures that a pool's health is judged by; and the worker's watch over
 *	  it, which remembers verdicts and tells the log when one changes.
 *
 * Both sides are asked.  That a loan is out for too long is for the client to
 * say, who knows what is usual with him; that nothing is done with it meanwhile
 * the server sees.  A batch job in the middle of a long query, and a session that
 * listens for notifications (listen.c), are no leaks.
 *
 * Actors and locks
 *	The worker, once per round_interval: reads instances and sessions in parts, under the registry's
 *	lock, shared, and keeps sums; then steps Registry.health, whose only
 *	writer it is, under the lock, exclusive.  The log is written without it.
 *	Views read Registry.health with the rest of their copy.
 *
 * Life of a PoolHealth
 *	It begins with the first look at a pool and ends when the pool's slot is found free or with
 *	another pool.  A worker that is started again goes on with it.
 *
 * Accepted races
 *	Instances and sessions are not of one moment, a session's state is another process's to
 *	change, and reports are as old as they are: a loan may have been given back
 *	and idle since.  The time that a verdict takes to enter covers all of these.
 *	Backends' states want track_activities; without it nothing is a leak.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "health_watch.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define LOOK_AT_ONCE 64						 /* slots, under the lock */
#define FAILURES_MATTER INT64CONST(60000000) /* microseconds */
#define FAILURES_MIN 2						 /* one may be an accident */
#define NEWS_GAP INT64CONST(60000000)		 /* microseconds between two log lines of a pool */
#define PATIENCE INT64CONST(3000000)		 /* microseconds by which a round may be late */
#define STATE_TRIES 10						 /* reads of a state that is being written */

/*---- settings ----*/

static int leak_time = 60000; /* ms, as all of these */
static int blocked_time = 5000;
static int health_enter = 5000;
static int health_leave = 30000;
static bool log_health = true;

void
health_define_settings(void)
{
	DefineCustomIntVariable(
		"pgpool_monitor.leak_time",
		"Sets how long a connection that the client finds lent for too long must have been idle "
		"to count as a leak.",
		NULL, &leak_time, 60000, 0, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.blocked_time",
		"Sets how long a session waits for a lock, or is idle in a transaction, before it counts "
		"as blocked.",
		NULL, &blocked_time, 5000, 0, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgpool_monitor.health_enter",
							"Sets how long a pool's figures must be worse before its health is.",
							NULL, &health_enter, 5000, 0, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgpool_monitor.health_leave",
							"Sets how long a pool's figures must be better before its health is.",
							NULL, &health_leave, 30000, 0, 24 * 3600 * 1000, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgpool_monitor.log_health",
							 "Logs each change of a pool's health, at most once a minute per pool.",
							 NULL, &log_health, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*---- what a session is at ----*/

typedef struct Doing
{
	bool idle;		   /* also in a transaction */
	bool idle_in_xact; /* also in a failed one */
	TimestampTz since;
} Doing;

static int64
ms_since(TimestampTz then)
{
	return then == 0 ? 0 : Max(0, (GetCurrentTimestamp() - then) / 1000);
}

/*
 * State and time must be of one moment: else a query that ends after an hour
 * looks for an instant as if its session had been idle for as long.
 */
static Doing
doing_of(const SessionSlot *session)
{
	volatile PgBackendStatus *status = session->status;
	BackendState state = STATE_UNDEFINED;
	Doing doing = { 0 };

	for (int i = 0; i < STATE_TRIES; i++)
	{
		int before;
		int after;

		pgstat_begin_read_activity(status, before);
		state = status->st_state;
		doing.since = status->st_state_start_timestamp;
		pgstat_end_read_activity(status, after);
		if (pgstat_read_activity_complete(before, after))
			break;
		state = STATE_UNDEFINED;
	}
	doing.idle_in_xact =
		state == STATE_IDLEINTRANSACTION || state == STATE_IDLEINTRANSACTION_ABORTED;
	doing.idle = state == STATE_IDLE || doing.idle_in_xact;
	return doing;
}

static int64
lock_wait_ms(const SessionSlot *session)
{
	PGPROC *proc = session->proc;

	if ((proc->wait_event_info & 0xFF000000) != PG_WAIT_LOCK)
		return -1;
	return ms_since((TimestampTz) pg_atomic_read_u64(&proc->waitStart));
}

/*---- leaks ----*/

/* Is what the instance said last still worth something? */
static bool
is_believed(const InstanceSlot *instance, int64 now)
{
	return instance->reported && !instance_vanished(instance) && !instance_silent(instance, now);
}

/* The client says how many loans are out for too long, not which: they are the oldest. */
static bool
is_too_long(const Report *report, const ReportLoan *loan)
{
	int older = 0;

	for (int i = 0; i < report->nloans; i++)
		older += report->loans[i].age_ms > loan->age_ms;
	return older < report->leaks;
}

/*
 * For how long the loan of a session has been one that both sides find idle, in
 * milliseconds; -1: it is none, or not for long enough.  *loan is NULL if the report does
 * not name it.
 */
static int64
leaked_for(const InstanceSlot *instance, const SessionSlot *session, Doing doing, int64 now,
		   const ReportLoan **loan)
{
	int64 ms;

	*loan = report_loan(&instance->report, session->pid);
	if (session->kind != SESSION_POOL || session->listens || !doing.idle)
		return -1;
	if (*loan != NULL && !is_too_long(&instance->report, *loan))
		return -1;
	ms = ms_since(doing.since);
	if (*loan != NULL)
		ms = Min(ms, (*loan)->age_ms + Max(0, now - instance->report_time) / 1000);
	return ms >= leak_time ? ms : -1;
}

/*---- figures ----*/

static void
add_report(HealthFigures *figures, const InstanceSlot *instance, int64 now)
{
	const Report *report = &instance->report;

	figures->reported++;
	if (!instance_vanished(instance))
	{
		view_add_int(&figures->in.in_use, report->in_use);
		view_add_int(&figures->in.waiting, report->waiting);
		view_add_int(&figures->in.demand, instance_demand(instance));
	}
	if (!report->has_max)
		figures->max_size = -1;
	else if (figures->max_size >= 0)
		view_add_int(&figures->max_size, report->max_size);
	if (instance->failed_opens >= FAILURES_MIN && now - instance->failed_at < FAILURES_MATTER)
	{
		figures->in.failing++;
		view_add_bigint(&figures->in.failed_opens, instance->failed_opens);
	}
	if (report->leaks > 0 && is_believed(instance, now) && report->leaks > report->nloans)
	{
		view_add_int(&figures->unnamed_leaks, report->leaks - report->nloans);
		view_add_int(&figures->not_lent, report->idle);
	}
}

void
health_add_instance(HealthFigures *figures, const InstanceSlot *instance, int64 now)
{
	Publication told = view_published(instance);

	figures->in.instances++;
	figures->in.reporting += instance->reports;
	figures->in.silent += instance_silent(instance, now) || instance_vanished(instance);
	figures->in.sessions += instance->held + instance->knocks;
	figures->in.paused += told.paused;
	if (told.limit != NO_LIMIT)
	{
		figures->limited++;
		view_add_int(&figures->allotted, told.limit);
	}
	if (instance->reported)
		add_report(figures, instance, now);
}

static void
add_leak(HealthFigures *figures, int64 ms)
{
	HealthInput *in = &figures->in;

	in->leak_ms = in->leaks == 0 ? ms : Min(in->leak_ms, ms);
	in->leaks++;
}

static void
add_stuck(HealthInput *in, int *sessions, int64 ms)
{
	if (ms < blocked_time)
		return;
	(*sessions)++;
	in->stuck_ms = Max(in->stuck_ms, ms);
}

void
health_add_session(HealthFigures *figures, const InstanceSlot *instance, const SessionSlot *session,
				   int64 now)
{
	HealthInput *in = &figures->in;
	Doing doing;
	int64 waits;
	const ReportLoan *loan;
	int64 leaked;

	/* what a session does matters only to who waits, and to who finds that something leaks */
	if (instance->report.leaks == 0 &&
		(in->waiting == 0 || session->status->st_state == STATE_IDLE))
		return;
	doing = doing_of(session);
	waits = lock_wait_ms(session);
	if (waits >= 0)
		add_stuck(in, &in->lock_waits, waits);
	if (instance->report.leaks > 0 && is_believed(instance, now) &&
		(leaked = leaked_for(instance, session, doing, now, &loan)) >= 0)
	{
		if (loan != NULL)
			add_leak(figures, leaked);
		else if (instance->report.leaks > instance->report.nloans)
			figures->unnamed_idle++;
		if (loan != NULL)
			return; /* counted, though it may be in a transaction too */
	}
	if (doing.idle_in_xact)
		add_stuck(in, &in->idle_in_xact, ms_since(doing.since));
}

/* Of what no report names at least those are lent that the client does not have as idle. */
static void
add_unnamed_leaks(HealthFigures *figures)
{
	int n = Min(figures->unnamed_leaks, figures->unnamed_idle - figures->not_lent);

	figures->unnamed_leaks = 0;
	if (n <= 0)
		return;
	add_leak(figures, leak_time);
	figures->in.leaks += n - 1;
}

const HealthInput *
health_finish(HealthFigures *figures, const PoolSlot *pool)
{
	HealthInput *in = &figures->in;

	in->allotted = figures->limited > 0 ? figures->allotted : -1;
	in->max_size = figures->reported > 0 ? figures->max_size : -1;
	in->rule = pool->ceiling >= 0 && figures->allotted >= pool->ceiling ? pool->rule_text : NULL;
	add_unnamed_leaks(figures);
	return in;
}

void
health_add_site(LeakSites *sites, const InstanceSlot *instance, const SessionSlot *session,
				int64 now)
{
	const ReportLoan *loan;
	int i;

	if (instance->report.leaks == 0 || !is_believed(instance, now) ||
		leaked_for(instance, session, doing_of(session), now, &loan) < 0)
		return;
	if (loan == NULL || loan->site[0] == '\0')
		return;
	for (i = 0; i < sites->n; i++)
		if (strcmp(sites->sites[i].site, loan->site) == 0)
			break;
	if (i == LEAK_SITES)
		return;
	if (i == sites->n)
	{
		strlcpy(sites->sites[i].site, loan->site, REPORT_SITE_LEN);
		sites->sites[i].count = 0;
		sites->n++;
	}
	sites->sites[i].count++;
}

void
health_name_site(HealthInput *in, const LeakSites *sites)
{
	for (int i = 0; i < sites->n; i++)
	{
		if (sites->sites[i].count <= in->leaks_at_site)
			continue;
		in->leak_site = sites->sites[i].site;
		in->leaks_at_site = sites->sites[i].count;
	}
}

/*---- what has been found ----*/

bool
health_is_watched(const PoolHealth *health, uint64 pool_hash, int64 now)
{
	return health->hash == pool_hash && health->state.begun &&
		   now - health->looked < INT64CONST(3000) * pgpm_round_interval + PATIENCE;
}

void
health_explain(const HealthInput *in, Health verdict, char *reason, size_t size)
{
	char why[256];
	Health figures = health_judge(in, why, sizeof(why));

	if (figures == verdict)
		strlcpy(reason, why, size);
	else
		snprintf(reason, size, "now %s%s%s", health_name(figures), why[0] ? ": " : "", why);
}

/*---- the worker's watch ----*/

static uint64 *hashes;		   /* [max_pools], as of the beginning of the round */
static HealthFigures *figures; /* [max_pools] */

/* A change that the log is to be told of. */
typedef struct Change
{
	int pool;
	Health from;
	Health to;
	int changes;
} Change;

static Change *changes; /* [max_pools] */

void
health_watch_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	hashes = palloc0_array(uint64, pgpm_max_pools);
	figures = palloc0_array(HealthFigures, pgpm_max_pools);
	changes = palloc0_array(Change, pgpm_max_pools);
	MemoryContextSwitchTo(old);
}

/* The pool of an instance, if it is still the one that this round is about; else -1. */
static int
pool_of(int instance)
{
	int pool;

	/* a free slot is not even looked at: there may be many, each far from the next */
	if (registry->instance_hashes[instance] == 0)
		return -1;
	pool = registry->instances[instance].pool;
	if (hashes[pool] == 0 || registry->pool_hashes[pool] != hashes[pool])
		return -1;
	return pool;
}

/* False: health_add_session would make nothing of any session. */
static bool
gather_instances(int64 now)
{
	bool sessions_matter = false;

	for (int from = 0; from < pgpm_max_instances; from += LOOK_AT_ONCE)
	{
		int to = Min(from + LOOK_AT_ONCE, pgpm_max_instances);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			const InstanceSlot *instance = &registry->instances[i];
			int pool = pool_of(i);

			if (pool < 0)
				continue;
			health_add_instance(&figures[pool], instance, now);
			sessions_matter =
				sessions_matter || instance->report.waiting > 0 || instance->report.leaks > 0;
		}
		LWLockRelease(registry->lock);
	}
	return sessions_matter;
}

static void
gather_sessions(int64 now)
{
	for (int from = 0; from < MaxBackends; from += LOOK_AT_ONCE)
	{
		int to = Min(from + LOOK_AT_ONCE, MaxBackends);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int slot = from; slot < to; slot++)
		{
			const SessionSlot *session = &registry->sessions[slot];
			int pool = session->kind == SESSION_FREE ? -1 : pool_of(session->instance);

			if (pool >= 0)
				health_add_session(&figures[pool], &registry->instances[session->instance], session,
								   now);
		}
		LWLockRelease(registry->lock);
	}
}

static void
gather(int64 now)
{
	LWLockAcquire(registry->lock, LW_SHARED);
	memcpy(hashes, registry->pool_hashes, pgpm_max_pools * sizeof(uint64));
	LWLockRelease(registry->lock);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (hashes[i] != 0)
			memset(&figures[i], 0, sizeof(HealthFigures));
	if (gather_instances(now))
		gather_sessions(now);
}

static void
step(int pool, int64 now, int *nchanges)
{
	PoolHealth *health = &registry->health[pool];
	Change *change = &changes[*nchanges];
	Health verdict = health_judge(health_finish(&figures[pool], &registry->pools[pool]), NULL, 0);
	bool changed;

	if (health->hash != hashes[pool])
	{
		memset(health, 0, sizeof(*health));
		health->hash = hashes[pool];
		health->since = GetCurrentTimestamp();
	}
	health->looked = now;
	changed = health_step(&health->state, verdict, now, INT64CONST(1000) * health_enter,
						  INT64CONST(1000) * health_leave);
	if (changed)
		health->since = GetCurrentTimestamp();
	if (!health_is_news(&health->news, health->state.verdict, changed, now, NEWS_GAP, &change->from,
						&change->changes))
		return;
	change->pool = pool;
	change->to = health->state.verdict;
	(*nchanges)++;
}

static int
step_all(int64 now)
{
	int nchanges = 0;

	for (int from = 0; from < pgpm_max_pools; from += LOOK_AT_ONCE)
	{
		int to = Min(from + LOOK_AT_ONCE, pgpm_max_pools);

		LWLockAcquire(registry->lock, LW_EXCLUSIVE);
		for (int i = from; i < to; i++)
		{
			if (hashes[i] == 0 || registry->pool_hashes[i] != hashes[i])
				registry->health[i].hash = 0;
			else if (figures[i].in.instances > 0)
				step(i, now, &nchanges);
		}
		LWLockRelease(registry->lock);
	}
	return nchanges;
}

/* Worth a second look at all sessions: a pool begins to leak seldom. */
static void
gather_sites(LeakSites *sites, int pool, int64 now)
{
	for (int from = 0; from < MaxBackends; from += LOOK_AT_ONCE)
	{
		int to = Min(from + LOOK_AT_ONCE, MaxBackends);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int slot = from; slot < to; slot++)
		{
			const SessionSlot *session = &registry->sessions[slot];

			if (session->kind != SESSION_FREE && pool_of(session->instance) == pool)
				health_add_site(sites, &registry->instances[session->instance], session, now);
		}
		LWLockRelease(registry->lock);
	}
}

static void
tell(const Change *change, int64 now)
{
	HealthInput *in = &figures[change->pool].in;
	LeakSites sites = { 0 };
	PoolSlot pool;
	char reason[256];
	char several[32] = "";

	LWLockAcquire(registry->lock, LW_SHARED);
	pool = registry->pools[change->pool];
	LWLockRelease(registry->lock);

	if (in->rule != NULL)
		in->rule = pool.rule_text;
	if (in->leaks > 0)
	{
		gather_sites(&sites, change->pool, now);
		health_name_site(in, &sites);
	}
	health_explain(in, change->to, reason, sizeof(reason));
	if (change->changes > 1)
		snprintf(several, sizeof(several), " in %d changes", change->changes);
	ereport(LOG, (errmsg("pool \"%s\" (role \"%s\", database \"%s\"): %s -> %s%s%s%s",
						 view_printable(pool.name), view_printable(pool.role_name),
						 view_printable(pool.database_name), health_name(change->from),
						 health_name(change->to), several, reason[0] ? ": " : "",
						 view_printable(reason))));
}

void
health_watch_round(int64 now)
{
	static int64 looked = 0;
	int nchanges;
	MemoryContext context;
	MemoryContext old;

	/* rounds may be many when pools want something; their health does not change as fast */
	if (looked != 0 && now - looked < INT64CONST(1000) * pgpm_round_interval)
		return;
	looked = now;
	gather(now);
	nchanges = step_all(now);
	if (nchanges == 0 || !log_health)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "pgpool_monitor log lines",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < nchanges; i++)
		tell(&changes[i], now);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
