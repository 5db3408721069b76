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
	view_add_bigint(&sums->timeouts, report->timeouts);
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
add_session(PoolSums *sums, const SessionSlot *session, int slot)
{
	const PGPROC *proc = compat_proc(slot);

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
	if (proc != NULL && (proc->wait_event_info & 0xFF000000) == PG_WAIT_LOCK)
		sums->blocked++;
}

static PoolSums *
sum_pools(const Copy *copy)
{
	PoolSums *sums = palloc0_array(PoolSums, pgpm_max_pools);

	for (int i = 0; i < copy->ninstances; i++)
	{
		int pool = copy->instances[i].pool;

		add_instance(&sums[pool], &copy->instances[i], &copy->pools[pool], copy->now);
		health_add_instance(&sums[pool].health, &copy->instances[i], copy->now);
	}
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const InstanceSlot *instance = view_instance_of(copy, &copy->sessions[slot]);

		if (instance == NULL)
			continue;
		add_session(&sums[instance->pool], &copy->sessions[slot], slot);
		health_add_session(&sums[instance->pool].health, instance, &copy->sessions[slot], slot,
						   copy->now);
	}
	return sums;
}

/*---- pools ----*/

/* Where leaks were made, in one pass for all pools: few leak. */
static void
find_sites(const Copy *copy, PoolSums *sums)
{
	LeakSites **sites = palloc0_array(LeakSites *, pgpm_max_pools);

	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const SessionSlot *session = &copy->sessions[slot];
		const InstanceSlot *instance = view_instance_of(copy, session);

		if (instance == NULL || sums[instance->pool].health.in.leaks == 0)
			continue;
		if (sites[instance->pool] == NULL)
			sites[instance->pool] = palloc0_object(LeakSites);
		health_add_site(sites[instance->pool], instance, session, copy->now);
	}
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

static int
compare_pids(const void *a, const void *b)
{
	return *(const int *) a < *(const int *) b ? -1 : *(const int *) a > *(const int *) b;
}

/* Of attached sessions, in order. */
static int *
find_pids(const Copy *copy, int *npids)
{
	int *pids = palloc_array(int, MaxBackends);

	*npids = 0;
	for (int slot = 0; slot < MaxBackends; slot++)
		if (view_instance_of(copy, &copy->sessions[slot]) != NULL)
			pids[(*npids)++] = copy->sessions[slot].pid;
	qsort(pids, *npids, sizeof(int), compare_pids);
	return pids;
}

static void
count_outside(const Copy *copy, Outside *outside)
{
	int n = pgstat_fetch_stat_numbackends();
	int npids;
	int *pids = find_pids(copy, &npids);

	memset(outside, 0, sizeof(*outside));
	for (int i = 1; i <= n; i++)
	{
		const PgBackendStatus *status = compat_status_entry(i);

		if (status == NULL || status->st_procpid == 0 || status->st_backendType != B_BACKEND ||
			bsearch(&status->st_procpid, pids, npids, sizeof(int), compare_pids) != NULL)
			continue;
		outside->sessions++;
		outside->active += status->st_state == STATE_RUNNING || status->st_state == STATE_FASTPATH;
		outside->idle_in_xact += status->st_state == STATE_IDLEINTRANSACTION ||
								 status->st_state == STATE_IDLEINTRANSACTION_ABORTED;
		count_application(outside, status->st_appname[0] ? status->st_appname : "unnamed");
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
emit_outside(FunctionCallInfo fcinfo, const Copy *copy)
{
	Outside *outside = palloc_object(Outside);
	Row row = { 0 };

	count_outside(copy, outside);
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
	Copy *copy = view_copy();
	PoolSums *sums = sum_pools(copy);

	find_sites(copy, sums);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (sums[i].instances > 0 && view_may_see(&copy->pools[i]))
			emit_pool(fcinfo, copy, &sums[i], i);
	if (view_sees_everything())
		emit_outside(fcinfo, copy);
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
count_named(const Copy *copy)
{
	int n = 0;

	for (int i = 0; i < copy->ninstances; i++)
		n += !pool_is_guess(&copy->pools[copy->instances[i].pool]);
	return n;
}

static void
emit_server_limit(FunctionCallInfo fcinfo, const Copy *copy)
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
	put_int(&row, count_named(copy));
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
	Copy *copy = view_copy();
	PoolSums *sums = sum_pools(copy);

	InitMaterializedSRF(fcinfo, 0);
	if (view_sees_everything())
		emit_server_limit(fcinfo, copy);
	/* guesses have none */
	for (int i = 0; i < pgpm_max_pools; i++)
		if (sums[i].instances > 0 && !pool_is_guess(&copy->pools[i]) &&
			view_may_see(&copy->pools[i]))
			emit_limit(fcinfo, &sums[i], &copy->pools[i]);
	return (Datum) 0;
}
