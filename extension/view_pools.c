/*-------------------------------------------------------------------------
 *
 * view_pools.c
 *	  Pools as a whole: the views pools and limits.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "grant.h"
#include "health_watch.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define POOLS_COLS 21
#define LIMITS_COLS 19
#define STATUS_TRIES 1000 /* reads of a state that is being written */

PG_FUNCTION_INFO_V1(pgpool_monitor_pools);
PG_FUNCTION_INFO_V1(pgpool_monitor_limits);

/*---- sums over a pool ----*/

typedef struct PoolSums
{
	int instances;
	int reporting; /* promised to report */
	int reported;  /* have reported */
	int silent;
	int queued;
	int paused;
	int limited; /* have a limit */
	int advised; /* would have one */
	int sessions;
	int held;
	int in_use;
	int idle;
	int waiting;
	int demand;
	int allotted;
	int would_allot;
	int would_close;
	int occupied;
	int max_size; /* -1: not known of all */
	int64 timeouts;
	int64 waits[REPORT_BUCKETS]; /* of late */
	int active;
	int idle_in_xact;
	int blocked;
	HealthFigures health;
} PoolSums;

static void
add_report(PoolSums *sums, const InstanceSlot *instance)
{
	const Report *report = &instance->report;

	sums->reported++;
	view_add_bigint(&sums->timeouts, report->counted.timeouts);
	if (!instance_vanished(instance))
	{
		view_add_int(&sums->in_use, report->in_use);
		view_add_int(&sums->idle, report->idle);
		view_add_int(&sums->waiting, report->waiting);
		view_add_int(&sums->demand, instance_demand(instance));
	}
	if (!report->has_max)
		sums->max_size = -1;
	else if (sums->max_size >= 0)
		view_add_int(&sums->max_size, report->max_size);
	view_add_recent_waits(sums->waits, instance);
}

static void
add_instance(PoolSums *sums, const InstanceSlot *instance, const PoolSlot *pool, int64 now)
{
	Publication told = view_published(instance);

	sums->instances++;
	sums->reporting += instance->reports;
	sums->silent += instance_silent(instance, now) || instance_vanished(instance);
	sums->queued += told.state == ALLOT_QUEUED;
	sums->paused += told.paused;
	sums->held += instance->held;
	sums->sessions += instance->held + instance->knocks;
	if (grant_applies(instance, pool))
		view_add_int(&sums->occupied, grant_occupancy(instance));
	if (told.limit != NO_LIMIT)
	{
		sums->limited++;
		view_add_int(&sums->allotted, told.limit);
	}
	if (pool_mode(pool) >= MODE_ADVISE && instance->would_limit != NO_LIMIT)
	{
		sums->advised++;
		view_add_int(&sums->would_allot, instance->would_limit);
		sums->would_close += Max(0, instance->held - instance->would_limit);
	}
	if (instance->reported)
		add_report(sums, instance);
}

/* Torn or outdated by a moment: good enough to be counted. */
static void
add_session(PoolSums *sums, const SessionSlot *session)
{
	switch (session->status->st_state)
	{
		case STATE_RUNNING:
		case STATE_FASTPATH:
			sums->active++;
			break;
		case STATE_IDLEINTRANSACTION:
		case STATE_IDLEINTRANSACTION_ABORTED:
			sums->idle_in_xact++;
			break;
		default:
			break;
	}
	if ((session->proc->wait_event_info & 0xFF000000) == PG_WAIT_LOCK)
		sums->blocked++;
}

typedef struct Sums
{
	PoolSums *pools; /* [max_pools]; where the copy has a pool */
	int *attached;	 /* [MaxBackends]: pid of the session in the slot that was added; 0: none */
} Sums;

static void
sum_instances(const Copy *copy, PoolSums *sums)
{
	for (int from = 0; from < pgpm_max_instances; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, pgpm_max_instances);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			const InstanceSlot *instance = &registry->instances[i];
			int pool = view_pool_of(copy, i);

			if (pool < 0)
				continue;
			add_instance(&sums[pool], instance, &copy->pools[pool], copy->now);
			health_add_instance(&sums[pool].health, instance, copy->now);
		}
		LWLockRelease(registry->lock);
	}
}

/*
 * Under the registry's lock: the pool of the session in a slot; -1: none, or none that was
 * copied.
 */
static int
pool_of_session(const Copy *copy, int slot)
{
	const SessionSlot *session = &registry->sessions[slot];

	return session->kind == SESSION_FREE ? -1 : view_pool_of(copy, session->instance);
}

static void
sum_sessions(const Copy *copy, const Sums *sums)
{
	for (int from = 0; from < MaxBackends; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, MaxBackends);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int slot = from; slot < to; slot++)
		{
			const SessionSlot *session = &registry->sessions[slot];
			int pool = pool_of_session(copy, slot);

			sums->attached[slot] = pool < 0 ? 0 : session->pid;
			if (pool < 0)
				continue;
			add_session(&sums->pools[pool], session);
			health_add_session(&sums->pools[pool].health, &registry->instances[session->instance],
							   session, copy->now);
		}
		LWLockRelease(registry->lock);
	}
}

static Sums
sum_pools(const Copy *copy)
{
	Sums sums = { .pools = palloc_array(PoolSums, pgpm_max_pools),
				  .attached = palloc_array(int, MaxBackends) };

	for (int i = 0; i < pgpm_max_pools; i++)
		if (copy->pool_hashes[i] != 0)
			memset(&sums.pools[i], 0, sizeof(PoolSums));
	sum_instances(copy, sums.pools);
	sum_sessions(copy, &sums);
	return sums;
}

/* One that is only remembered has none. */
static bool
has_instances(const Copy *copy, const PoolSums *sums, int i)
{
	return copy->pool_hashes[i] != 0 && sums[i].instances > 0;
}

/*---- pools ----*/

static void
add_sites(const Copy *copy, LeakSites **sites)
{
	for (int from = 0; from < MaxBackends; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, MaxBackends);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int slot = from; slot < to; slot++)
		{
			const SessionSlot *session = &registry->sessions[slot];
			int pool = pool_of_session(copy, slot);

			if (pool >= 0 && sites[pool] != NULL)
				health_add_site(sites[pool], &registry->instances[session->instance], session,
								copy->now);
		}
		LWLockRelease(registry->lock);
	}
}

/* Where leaks were made, in one pass for all pools: few leak. */
static void
find_sites(const Copy *copy, PoolSums *sums)
{
	LeakSites **sites = palloc0_array(LeakSites *, pgpm_max_pools);
	bool leaks = false;

	for (int i = 0; i < pgpm_max_pools; i++)
	{
		if (copy->pool_hashes[i] == 0 || sums[i].health.in.leaks == 0)
			continue;
		sites[i] = palloc0_object(LeakSites);
		leaks = true;
	}
	if (!leaks)
		return;
	add_sites(copy, sites);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (sites[i] != NULL)
			health_name_site(&sums[i].health.in, sites[i]);
}

/* What the worker holds the pool to be, or if it does not look, what it is now; and why, now. */
static Health
judge(const Copy *copy, int i, HealthFigures *figures, char *reason, size_t size)
{
	const HealthInput *in = health_finish(figures, &copy->pools[i]);
	Health verdict;

	if (health_is_watched(&copy->health[i], copy->pool_hashes[i], copy->now))
		verdict = copy->health[i].state.verdict;
	else
		verdict = health_judge(in, NULL, 0);
	health_explain(in, verdict, reason, size);
	return verdict;
}

static void
emit_pool(FunctionCallInfo fcinfo, const Copy *copy, PoolSums *sums, int i)
{
	const PoolSlot *pool = &copy->pools[i];
	Row row = { 0 };
	char reason[256];
	Health health = judge(copy, i, &sums->health, reason, sizeof(reason));
	bool reported = sums->reported > 0;

	put_text(&row, health_name(health));
	put_name(&row, pool->name);
	put_name(&row, reason); /* may cite the rule, which is in the server's encoding */
	put_int(&row, sums->instances);
	put_int(&row, sums->sessions);
	put_int_or_null(&row, reported, sums->in_use);
	put_int_or_null(&row, reported, sums->idle);
	put_int_or_null(&row, reported, sums->waiting);
	put_ms(&row, report_quantile_ms(sums->waits, 0.99));
	put_bigint_or_null(&row, reported, sums->timeouts);
	put_int(&row, sums->active);
	put_int(&row, sums->idle_in_xact);
	put_int(&row, sums->blocked);
	put_int_or_null(&row, reported, sums->demand);
	put_int_or_null(&row, sums->limited > 0, sums->allotted);
	put_int_or_null(&row, pool->ceiling >= 0, pool->ceiling);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_text(&row, identify_name(pool->identified_by));
	if (health_is_watched(&copy->health[i], copy->pool_hashes[i], copy->now))
		put(&row, TimestampTzGetDatum(copy->health[i].since));
	else
		put_null(&row);
	put_int(&row, pool_is_guess(pool) ? INT_MAX - 1 : (int) health);
	emit(fcinfo, &row, POOLS_COLS);
}

/* Connections of one application that belong to no pool. */
typedef struct Application
{
	char name[NAMEDATALEN];
	int count;
} Application;

#define MAX_APPLICATIONS 64

typedef struct Outside
{
	int sessions;
	int active;
	int idle_in_xact;
	int napplications;
	int unlisted; /* sessions of applications beyond the table */
	Application applications[MAX_APPLICATIONS];
} Outside;

static void
count_application(Outside *outside, const char *name)
{
	for (int i = 0; i < outside->napplications; i++)
	{
		if (strncmp(outside->applications[i].name, name, NAMEDATALEN - 1) == 0)
		{
			outside->applications[i].count++;
			return;
		}
	}
	if (outside->napplications == MAX_APPLICATIONS)
	{
		outside->unlisted++;
		return;
	}
	strlcpy(outside->applications[outside->napplications].name, name, NAMEDATALEN);
	outside->applications[outside->napplications++].count = 1;
}

/*
 * False if the slot has none, or while it is being changed: that is a backend which comes
 * or goes.
 */
static bool
read_status(int slot, PgBackendStatus *status, char application[NAMEDATALEN])
{
	volatile PgBackendStatus *from = compat_status(slot);

	if (from->st_procpid == 0)
		return false;
	for (int i = 0; i < STATUS_TRIES; i++)
	{
		int before;
		int after;

		pgstat_begin_read_activity(from, before);
		status->st_procpid = from->st_procpid;
		status->st_backendType = from->st_backendType;
		status->st_state = from->st_state;
		if (status->st_procpid != 0)
			strlcpy(application, (char *) from->st_appname, NAMEDATALEN);
		pgstat_end_read_activity(from, after);
		if (pgstat_read_activity_complete(before, after))
			return status->st_procpid != 0;
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

static void
count_outside(const int *attached, Outside *outside)
{
	memset(outside, 0, sizeof(*outside));
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		PgBackendStatus status;
		char application[NAMEDATALEN];

		if (!read_status(slot, &status, application) || status.st_backendType != B_BACKEND ||
			status.st_procpid == attached[slot])
			continue;
		outside->sessions++;
		outside->active += status.st_state == STATE_RUNNING || status.st_state == STATE_FASTPATH;
		outside->idle_in_xact += status.st_state == STATE_IDLEINTRANSACTION ||
								 status.st_state == STATE_IDLEINTRANSACTION_ABORTED;
		count_application(outside, application[0] ? application : "unnamed");
	}
}

static int
compare_applications(const void *a, const void *b)
{
	const Application *x = a;
	const Application *y = b;

	return x->count != y->count ? y->count - x->count : strcmp(x->name, y->name);
}

static char *
name_applications(Outside *outside)
{
	StringInfoData names;
	int listed = 0;

	initStringInfo(&names);
	qsort(outside->applications, outside->napplications, sizeof(Application), compare_applications);
	for (int i = 0; i < Min(4, outside->napplications); i++)
	{
		appendStringInfo(&names, "%s%s %d", i > 0 ? ", " : "", outside->applications[i].name,
						 outside->applications[i].count);
		listed += outside->applications[i].count;
	}
	if (listed < outside->sessions)
		appendStringInfo(&names, ", others %d", outside->sessions - listed);
	return names.data;
}

static void
emit_outside(FunctionCallInfo fcinfo, const int *attached)
{
	Outside *outside = palloc_object(Outside);
	Row row = { 0 };

	count_outside(attached, outside);
	put_null(&row);
	put_text(&row, "(outside)");
	put_name_or_null(&row, name_applications(outside));
	put_null(&row);
	put_int(&row, outside->sessions);
	for (int i = 0; i < 5; i++)
		put_null(&row);
	put_int(&row, outside->active);
	put_int(&row, outside->idle_in_xact);
	for (int i = 0; i < 8; i++)
		put_null(&row);
	put_int(&row, INT_MAX);
	emit(fcinfo, &row, POOLS_COLS);
}

Datum
pgpool_monitor_pools(PG_FUNCTION_ARGS)
{
	Copy *copy = view_copy_pools();
	Sums sums = sum_pools(copy);

	find_sites(copy, sums.pools);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (has_instances(copy, sums.pools, i) && view_may_see(&copy->pools[i]))
			emit_pool(fcinfo, copy, &sums.pools[i], i);
	if (view_sees_everything())
		emit_outside(fcinfo, sums.attached);
	return (Datum) 0;
}

/*---- limits ----*/

/* What bounds a pool. */
typedef struct Ceiling
{
	int connections; /* -1: nothing */
	const char *what;
} Ceiling;

static void
lower_ceiling(Ceiling *ceiling, int connections, const char *what)
{
	if (connections < 0 || (ceiling->connections >= 0 && ceiling->connections <= connections))
		return;
	ceiling->connections = connections;
	ceiling->what = what;
}

static Ceiling
find_ceiling(const PoolSlot *pool)
{
	Ceiling ceiling = { -1, NULL };

	lower_ceiling(&ceiling, pool->ceiling, "its rule");
	lower_ceiling(&ceiling, pool->role_limit, "its role's CONNECTION LIMIT");
	lower_ceiling(&ceiling, pool->database_limit, "its database's CONNECTION LIMIT");
	return ceiling;
}

static char *
explain_advice(const PoolSums *sums)
{
	if (sums->advised == 0)
		return pstrdup("mode is advise: no limit is set");
	if (sums->would_close > 0)
		return psprintf("mode is advise: %d would be allotted, and %d closed", sums->would_allot,
						sums->would_close);
	return psprintf("mode is advise: %d would be allotted", sums->would_allot);
}

static char *
explain_pool(const PoolSums *sums, const PoolSlot *pool)
{
	Ceiling ceiling = find_ceiling(pool);

	if (sums->paused > 0)
		return psprintf("paused: %d of %d instances lend nothing until pgpool_monitor.resume",
						sums->paused, sums->instances);
	if (pool_mode(pool) == MODE_ADVISE)
		return explain_advice(sums);
	if (pool_mode(pool) < MODE_SHARE)
		return psprintf("mode is %s: no limit is set", pgpm_mode_name(pool_mode(pool)));
	if (sums->limited == 0)
		return pstrdup("its instances follow no limit");
	if (sums->queued > 0)
		return psprintf("%d of %d instances wait for their first connection", sums->queued,
						sums->instances);
	if (sums->reported == 0)
		return pstrdup("has not reported yet");
	if (ceiling.connections >= 0 && sums->allotted >= ceiling.connections &&
		sums->demand > sums->allotted)
		return psprintf("wants %d; %s allows %d", sums->demand, ceiling.what, ceiling.connections);
	if (sums->demand > sums->allotted && sums->max_size >= 0 && sums->allotted >= sums->max_size)
		return psprintf("wants %d; its own limits allow %d", sums->demand, sums->max_size);
	if (sums->demand > sums->allotted)
		return psprintf("wants %d; that is its share of what there is", sums->demand);
	return psprintf("has what it wants, %d, and %d to spare", sums->demand,
					sums->allotted - sums->demand);
}

static void
emit_limit(FunctionCallInfo fcinfo, const PoolSums *sums, const PoolSlot *pool)
{
	Row row = { 0 };
	PgpmMode mode = pool_mode(pool);
	Ceiling ceiling = find_ceiling(pool);

	put_name(&row, pool->name);
	put_name_or_null(&row, pool->rule_text);
	put_text(&row, pgpm_mode_name(mode));
	put_int(&row, pool->weight);
	put_int(&row, pool->floor);
	put_int_or_null(&row, ceiling.connections >= 0, ceiling.connections);
	put_int(&row, sums->instances);
	put_int(&row, sums->queued);
	put_int_or_null(&row, sums->reported > 0, sums->demand);
	put_int(&row, sums->held);
	put_int_or_null(&row, sums->limited > 0, sums->allotted);
	put_int_or_null(&row, mode >= MODE_SHARE, sums->occupied);
	put_int_or_null(&row, sums->advised > 0, sums->would_allot);
	put_int_or_null(&row, sums->advised > 0, sums->would_close);
	put_bigint_or_null(&row, mode >= MODE_ADVISE, pool->would_refuse);
	put_bigint_or_null(&row, true, pool->refused);
	put_text(&row, explain_pool(sums, pool));
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	emit(fcinfo, &row, LIMITS_COLS);
}

static int
count_named(const Copy *copy, const PoolSums *sums)
{
	int n = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
		if (has_instances(copy, sums, i) && !pool_is_guess(&copy->pools[i]))
			n += sums[i].instances;
	return n;
}

static void
emit_server_limit(FunctionCallInfo fcinfo, const Copy *copy, const PoolSums *sums)
{
	const RoundFigures *round = &copy->round;
	bool known = view_is_current(round);
	Row row = { 0 };

	put_text(&row, "(server)");
	put_null(&row);
	put_text(&row, pgpm_mode_name(pg_atomic_read_u32(&registry->mode)));
	put_null(&row);
	put_null(&row);
	put_int_or_null(&row, known, round->capacity);
	put_int(&row, count_named(copy, sums));
	for (int i = 0; i < 2; i++)
		put_null(&row);
	put_int_or_null(&row, known, round->held);
	put_null(&row);
	put_int_or_null(&row, known, round->occupied);
	for (int i = 0; i < 4; i++)
		put_null(&row);
	put_text(&row, psprintf("%d max_connections - %d reserved - %d headroom - %d outside",
							MaxConnections, compat_reserved_connections(),
							pgpm_headroom_connections(), round->outside_smoothed));
	put_null(&row);
	put_null(&row);
	emit(fcinfo, &row, LIMITS_COLS);
}

Datum
pgpool_monitor_limits(PG_FUNCTION_ARGS)
{
	Copy *copy = view_copy_pools();
	Sums sums = sum_pools(copy);

	InitMaterializedSRF(fcinfo, 0);
	if (view_sees_everything())
		emit_server_limit(fcinfo, copy, sums.pools);
	/* guesses have none */
	for (int i = 0; i < pgpm_max_pools; i++)
		if (has_instances(copy, sums.pools, i) && !pool_is_guess(&copy->pools[i]) &&
			view_may_see(&copy->pools[i]))
			emit_limit(fcinfo, &sums.pools[i], &copy->pools[i]);
	return (Datum) 0;
}
