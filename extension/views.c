/*-------------------------------------------------------------------------
 *
 * views.c
 *	  The functions behind the views.
 *
 * Each copies what it needs and shows the copy: tuples are built, and memory is
 * allocated, without the lock.  Instances are copied in parts, so that nobody waits
 * long; the pools of one moment, the instances of the next: an instance
 * whose pool was not there yet is left out.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_authid.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "grant.h"
#include "health.h"
#include "pgpool_monitor.h"
#include "registry.h"

#define COPY_AT_ONCE 64 /* instances */

#define POOLS_COLS 19
#define INSTANCES_COLS 36
#define SESSIONS_COLS 12
#define LIMITS_COLS 15
#define INFO_COLS 28

PG_FUNCTION_INFO_V1(pgpool_monitor_pools);
PG_FUNCTION_INFO_V1(pgpool_monitor_instances);
PG_FUNCTION_INFO_V1(pgpool_monitor_sessions);
PG_FUNCTION_INFO_V1(pgpool_monitor_limits);
PG_FUNCTION_INFO_V1(pgpool_monitor_info);

/* The registry, as it was. */
typedef struct Copy
{
	int64 now;
	PoolSlot *pools; /* [max_pools]; used where pool_hashes is not 0 */
	uint64 *pool_hashes;
	SessionSlot *sessions; /* [MaxBackends] */
	RoundFigures round;
	int ninstances;
	InstanceSlot *instances; /* side by side */
	int *member_of;			 /* [max_instances]: slot -> index in instances, -1: none */
} Copy;

/* A row being built. */
typedef struct Row
{
	Datum values[INSTANCES_COLS];
	bool nulls[INSTANCES_COLS];
	int n;
} Row;

static void
require_registry(void)
{
	if (registry == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pgpool_monitor must be loaded via \"shared_preload_libraries\""),
			 errhint("Add pgpool_monitor to shared_preload_libraries and restart the server.")));
}

/*---- copying ----*/

static void
copy_instances(Copy *copy)
{
	copy->ninstances = 0;
	for (int from = 0; from < pgpm_max_instances; from += COPY_AT_ONCE)
	{
		int to = Min(from + COPY_AT_ONCE, pgpm_max_instances);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			const InstanceSlot *instance = &registry->instances[i];

			copy->member_of[i] = -1;
			if (registry->instance_hashes[i] == 0 || copy->pool_hashes[instance->pool] == 0 ||
				copy->pool_hashes[instance->pool] != registry->pool_hashes[instance->pool])
				continue;
			copy->member_of[i] = copy->ninstances;
			copy->instances[copy->ninstances++] = *instance;
		}
		LWLockRelease(registry->lock);
	}
}

static Copy *
copy_registry(void)
{
	Copy *copy;

	require_registry();
	copy = palloc0_object(Copy);
	copy->pools = palloc0_array(PoolSlot, pgpm_max_pools);
	copy->pool_hashes = palloc0_array(uint64, pgpm_max_pools);
	copy->sessions = palloc0_array(SessionSlot, MaxBackends);
	copy->instances =
		palloc_extended(mul_size(pgpm_max_instances, sizeof(InstanceSlot)), MCXT_ALLOC_HUGE);
	copy->member_of = palloc_array(int, pgpm_max_instances);

	LWLockAcquire(registry->lock, LW_SHARED);
	copy->now = pgpm_now();
	copy->round = registry->round;
	memcpy(copy->pool_hashes, registry->pool_hashes, pgpm_max_pools * sizeof(uint64));
	memcpy(copy->pools, registry->pools, pgpm_max_pools * sizeof(PoolSlot));
	memcpy(copy->sessions, registry->sessions, MaxBackends * sizeof(SessionSlot));
	LWLockRelease(registry->lock);

	copy_instances(copy);
	return copy;
}

/* The instance of an attached session, or NULL if it was not copied. */
static const InstanceSlot *
instance_of(const Copy *copy, const SessionSlot *session)
{
	int i;

	if (session->kind == SESSION_FREE)
		return NULL;
	i = copy->member_of[session->instance];
	return i < 0 ? NULL : &copy->instances[i];
}

static Publication
published(const InstanceSlot *instance)
{
	return publication_effective(pg_atomic_read_u64((pg_atomic_uint64 *) &instance->publication),
								 pg_atomic_read_u32(&registry->generation),
								 pg_atomic_read_u32(&registry->mode));
}

static bool
sees_everything(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

static bool
may_see(const PoolSlot *pool)
{
	return sees_everything() || has_privs_of_role(GetUserId(), pool->role);
}

/*---- building rows ----*/

static void
put(Row *row, Datum value)
{
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

static void
put_null(Row *row)
{
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

static void
put_int(Row *row, int value)
{
	put(row, Int32GetDatum(value));
}

static void
put_int_or_null(Row *row, bool known, int value)
{
	if (known)
		put_int(row, value);
	else
		put_null(row);
}

static void
put_bigint_or_null(Row *row, bool known, int64 value)
{
	if (known)
		put(row, Int64GetDatum(value));
	else
		put_null(row);
}

static void
put_text(Row *row, const char *text)
{
	put(row, CStringGetTextDatum(text));
}

static void
put_text_or_null(Row *row, const char *text)
{
	if (text[0] != '\0')
		put_text(row, text);
	else
		put_null(row);
}

/* Negative means that it is not known. */
static void
put_ms(Row *row, double ms)
{
	if (ms < 0 || isnan(ms))
		put_null(row);
	else
		put(row, Float8GetDatum(rint(ms * 1000.0) / 1000.0)); /* no finer than it was measured */
}

/*
 * What a client says is bytes in an encoding that nobody knows, and it is shown
 * in databases of any encoding: only printable ASCII is shown as it is.
 */
static void
put_name(Row *row, const char *name)
{
	StringInfoData shown;

	initStringInfo(&shown);
	for (const char *p = name; *p; p++)
	{
		if (*p >= ' ' && *p <= '~' && *p != '\\')
			appendStringInfoChar(&shown, *p);
		else
			appendStringInfo(&shown, "\\x%02x", (unsigned char) *p);
	}
	put_text(row, shown.data);
	pfree(shown.data);
}

static void
put_name_or_null(Row *row, const char *name)
{
	if (name[0] != '\0')
		put_name(row, name);
	else
		put_null(row);
}

static void
emit(FunctionCallInfo fcinfo, Row *row, int columns)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	Assert(row->n == columns);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
	row->n = 0;
}

/*---- sums over a pool ----*/

typedef struct PoolSums
{
	int instances;
	int reporting; /* promised to report */
	int reported;  /* have reported */
	int silent;
	int queued;
	int limited; /* have a limit */
	int sessions;
	int held;
	int in_use;
	int idle;
	int waiting;
	int leaks;
	int demand;
	int allotted;
	int occupied;
	int max_size; /* -1: not known of all */
	int64 timeouts;
	int64 waits[REPORT_BUCKETS]; /* of late */
	int active;
	int idle_in_xact;
	int blocked;
} PoolSums;

/*
 * What clients report is at most the largest number of its type, and not
 * negative; what many report together stays there.
 */
static void
add_int(int *sum, int value)
{
	*sum = (int) Min((int64) *sum + value, INT_MAX);
}

static void
add_bigint(int64 *sum, int64 value)
{
	if (pg_add_s64_overflow(*sum, value, sum))
		*sum = PG_INT64_MAX;
}

/* What happened since the histogram of one to two windows ago; a counter that went back counts as new. */
static void
add_recent_waits(int64 *sums, const InstanceSlot *instance)
{
	for (int i = 0; i < REPORT_BUCKETS; i++)
		add_bigint(&sums[i], Max(0, instance->report.wait[i] - instance->wait_before[1][i]));
}

static void
add_report(PoolSums *sums, const InstanceSlot *instance)
{
	const Report *report = &instance->report;

	sums->reported++;
	add_bigint(&sums->timeouts, report->timeouts);
	if (!instance_vanished(instance))
	{
		add_int(&sums->in_use, report->in_use);
		add_int(&sums->idle, report->idle);
		add_int(&sums->waiting, report->waiting);
		add_int(&sums->leaks, report->leaks);
		add_int(&sums->demand, instance_demand(instance));
	}
	if (!report->has_max)
		sums->max_size = -1;
	else if (sums->max_size >= 0)
		add_int(&sums->max_size, report->max_size);
	add_recent_waits(sums->waits, instance);
}

static void
add_instance(PoolSums *sums, const InstanceSlot *instance, const PoolSlot *pool, int64 now)
{
	Publication told = published(instance);

	sums->instances++;
	sums->reporting += instance->reports;
	sums->silent += instance_silent(instance, now) || instance_vanished(instance);
	sums->queued += told.state == ALLOT_QUEUED;
	sums->held += instance->held;
	sums->sessions += instance->held + instance->knocks;
	if (grant_applies(instance, pool))
		add_int(&sums->occupied, grant_occupancy(instance));
	if (told.limit != NO_LIMIT)
	{
		sums->limited++;
		add_int(&sums->allotted, told.limit);
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
	}
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const InstanceSlot *instance = instance_of(copy, &copy->sessions[slot]);

		if (instance != NULL)
			add_session(&sums[instance->pool], &copy->sessions[slot], slot);
	}
	return sums;
}

/*---- pools ----*/

static Health
judge(const PoolSums *sums, const PoolSlot *pool, char *reason, size_t size)
{
	HealthInput in = {
		.instances = sums->instances,
		.reporting = sums->reporting,
		.silent = sums->silent,
		.sessions = sums->sessions,
		.in_use = sums->in_use,
		.waiting = sums->waiting,
		.leaks = sums->leaks,
		.demand = sums->demand,
		.allotted = sums->limited > 0 ? sums->allotted : -1,
		.max_size = sums->reported > 0 ? sums->max_size : -1,
		.rule = pool->ceiling >= 0 && sums->allotted >= pool->ceiling ? pool->rule_text : NULL,
	};

	return health_judge(&in, reason, size);
}

static void
emit_pool(FunctionCallInfo fcinfo, const PoolSums *sums, const PoolSlot *pool)
{
	Row row = { 0 };
	char reason[256];
	Health health = judge(sums, pool, reason, sizeof(reason));
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
	put_int(&row, health);
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

static bool
is_attached(const Copy *copy, int pid)
{
	for (int slot = 0; slot < MaxBackends; slot++)
		if (copy->sessions[slot].pid == pid && instance_of(copy, &copy->sessions[slot]) != NULL)
			return true;
	return false;
}

static void
count_outside(const Copy *copy, Outside *outside)
{
	int n = pgstat_fetch_stat_numbackends();

	memset(outside, 0, sizeof(*outside));
	for (int i = 1; i <= n; i++)
	{
		const PgBackendStatus *status = compat_status_entry(i);

		if (status == NULL || status->st_procpid == 0 || status->st_backendType != B_BACKEND ||
			is_attached(copy, status->st_procpid))
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
	for (int i = 0; i < 6; i++)
		put_null(&row);
	put_int(&row, INT_MAX);
	emit(fcinfo, &row, POOLS_COLS);
}

Datum
pgpool_monitor_pools(PG_FUNCTION_ARGS)
{
	Copy *copy = copy_registry();
	PoolSums *sums = sum_pools(copy);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (sums[i].instances > 0 && may_see(&copy->pools[i]))
			emit_pool(fcinfo, &sums[i], &copy->pools[i]);
	if (sees_everything())
		emit_outside(fcinfo, copy);
	return (Datum) 0;
}

/*---- instances ----*/

static const char *
state_name(AllotState state)
{
	return state == ALLOT_OFF ? "off" : state == ALLOT_QUEUED ? "queued" : "ok";
}

static void
put_reported(Row *row, const InstanceSlot *instance)
{
	const Report *report = &instance->report;
	bool known = instance->reported;
	int64 waits[REPORT_BUCKETS] = { 0 };

	put_int_or_null(row, known && report->has_max, report->max_size);
	put_int_or_null(row, known, report->min_size);
	put_int_or_null(row, known, report->opening);
	put_int_or_null(row, known, report->idle);
	put_int_or_null(row, known, report->in_use);
	put_int_or_null(row, known, report->resetting);
	put_int_or_null(row, known, report->closing);
	put_int_or_null(row, known, report->waiting);
	put_int_or_null(row, known, instance_demand(instance));
	put_bigint_or_null(row, known, report->acquires);
	put_bigint_or_null(row, known, report->timeouts);
	put_bigint_or_null(row, known, report->opened);
	put_bigint_or_null(row, known, report->closed);
	put_bigint_or_null(row, known, report->open_failures);
	put_int_or_null(row, known, report->leaks);
	add_recent_waits(waits, instance);
	put_ms(row, report_quantile_ms(waits, 0.50));
	put_ms(row, report_quantile_ms(waits, 0.99));
	put_ms(row, report_quantile_ms(report->hold, 0.50));
	put_ms(row, report_quantile_ms(report->hold, 0.99));
}

static void
emit_instance(FunctionCallInfo fcinfo, const Copy *copy, const InstanceSlot *instance)
{
	const PoolSlot *pool = &copy->pools[instance->pool];
	Publication told = published(instance);
	Row row = { 0 };

	put_name(&row, pool->name);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_text_or_null(&row, instance->has_id ? instance->id : "");
	put_name_or_null(&row, instance->host);
	put_name_or_null(&row, instance->application);
	put(&row, BoolGetDatum(instance->follows));
	put(&row, BoolGetDatum(instance->reports));
	put_text(&row, state_name(told.state));
	put_int(&row, instance->held);
	put_int(&row, instance->knocks);
	put_int_or_null(&row, told.limit != NO_LIMIT, told.limit);
	put_int_or_null(&row, grant_applies(instance, pool), grant_occupancy(instance));
	if (instance->reports)
		put(&row, BoolGetDatum(instance->acked));
	else
		put_null(&row);
	put_ms(&row, Max(0, instance->lease_until - copy->now) / 1000.0);
	put_ms(&row, instance->reported ? Max(0, copy->now - instance->report_time) / 1000.0 : -1);
	put_reported(&row, instance);
	put(&row, TimestampTzGetDatum(instance->joined_at));
	emit(fcinfo, &row, INSTANCES_COLS);
}

Datum
pgpool_monitor_instances(PG_FUNCTION_ARGS)
{
	Copy *copy = copy_registry();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < copy->ninstances; i++)
		if (may_see(&copy->pools[copy->instances[i].pool]))
			emit_instance(fcinfo, copy, &copy->instances[i]);
	return (Datum) 0;
}

/*---- sessions ----*/

static const ReportLoan *
loan_of(const InstanceSlot *instance, int pid)
{
	for (int i = 0; i < instance->report.nloans; i++)
		if (instance->report.loans[i].pid == pid)
			return &instance->report.loans[i];
	return NULL;
}

static void
emit_session(FunctionCallInfo fcinfo, const Copy *copy, const SessionSlot *session,
			 const InstanceSlot *instance)
{
	const PoolSlot *pool = &copy->pools[instance->pool];
	const ReportLoan *loan = loan_of(instance, session->pid);
	Row row = { 0 };

	put_int(&row, session->pid);
	put_name(&row, pool->name);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_text_or_null(&row, instance->has_id ? instance->id : "");
	put_text(&row, session->kind == SESSION_KNOCK ? "knock" : "pool");
	put_name_or_null(&row, instance->host);
	put(&row, TimestampTzGetDatum(session->attached_at));
	if (loan != NULL)
	{
		put_text(&row, "lent");
		put_ms(&row, loan->age_ms + Max(0, copy->now - instance->report_time) / 1000.0);
		put_name_or_null(&row, loan->thread);
		put_name_or_null(&row, loan->site);
	}
	else
		for (int i = 0; i < 4; i++)
			put_null(&row);
	emit(fcinfo, &row, SESSIONS_COLS);
}

Datum
pgpool_monitor_sessions(PG_FUNCTION_ARGS)
{
	Copy *copy = copy_registry();

	InitMaterializedSRF(fcinfo, 0);
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const SessionSlot *session = &copy->sessions[slot];
		const InstanceSlot *instance = instance_of(copy, session);

		if (instance != NULL && may_see(&copy->pools[instance->pool]))
			emit_session(fcinfo, copy, session, instance);
	}
	return (Datum) 0;
}

/*---- limits ----*/

/* With the mode off there are no rounds, and the figures of the last one mean nothing. */
static bool
is_current(const RoundFigures *round)
{
	return round->rounds > 0 && pg_atomic_read_u32(&registry->mode) != MODE_OFF;
}

static char *
explain_pool(const PoolSums *sums, const PoolSlot *pool)
{
	if (pool->mode != MODE_SHARE)
		return psprintf("mode is %s: no limit is set", pgpm_mode_name(pool->mode));
	if (sums->limited == 0)
		return pstrdup("its instances follow no limit");
	if (sums->queued > 0)
		return psprintf("%d of %d instances wait for their first connection", sums->queued,
						sums->instances);
	if (sums->reported == 0)
		return pstrdup("has not reported yet");
	if (pool->ceiling >= 0 && sums->allotted >= pool->ceiling && sums->demand > sums->allotted)
		return psprintf("wants %d; its rule allows %d", sums->demand, pool->ceiling);
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

	put_name(&row, pool->name);
	put_name_or_null(&row, pool->rule_text);
	put_text(&row, pgpm_mode_name(pool->mode));
	put_int(&row, pool->weight);
	put_int(&row, pool->floor);
	put_int_or_null(&row, pool->ceiling >= 0, pool->ceiling);
	put_int(&row, sums->instances);
	put_int(&row, sums->queued);
	put_int_or_null(&row, sums->reported > 0, sums->demand);
	put_int(&row, sums->held);
	put_int_or_null(&row, sums->limited > 0, sums->allotted);
	put_int_or_null(&row, pool->mode == MODE_SHARE, sums->occupied);
	put_text(&row, explain_pool(sums, pool));
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	emit(fcinfo, &row, LIMITS_COLS);
}

static void
emit_server_limit(FunctionCallInfo fcinfo, const Copy *copy)
{
	const RoundFigures *round = &copy->round;
	bool known = is_current(round);
	Row row = { 0 };

	put_text(&row, "(server)");
	put_null(&row);
	put_text(&row, pgpm_mode_name(pg_atomic_read_u32(&registry->mode)));
	put_null(&row);
	put_null(&row);
	put_int_or_null(&row, known, round->capacity);
	put_int(&row, copy->ninstances);
	for (int i = 0; i < 2; i++)
		put_null(&row);
	put_int_or_null(&row, known, round->held);
	put_null(&row);
	put_int_or_null(&row, known, round->occupied);
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
	Copy *copy = copy_registry();
	PoolSums *sums = sum_pools(copy);

	InitMaterializedSRF(fcinfo, 0);
	if (sees_everything())
		emit_server_limit(fcinfo, copy);
	for (int i = 0; i < pgpm_max_pools; i++)
		if (sums[i].instances > 0 && may_see(&copy->pools[i]))
			emit_limit(fcinfo, &sums[i], &copy->pools[i]);
	return (Datum) 0;
}

/*---- info ----*/

static void
put_round(Row *row, const RoundFigures *round)
{
	bool known = is_current(round);

	put_int(row, MaxConnections);
	put_int(row, compat_reserved_connections());
	put_int(row, pgpm_headroom_connections());
	put_int_or_null(row, known, round->outside_smoothed);
	put_int_or_null(row, known, round->capacity);
	put_int_or_null(row, known, round->held);
	put_int_or_null(row, known, round->occupied);
	put_int_or_null(row, round->rounds > 0, round->held_peak);
	put_int_or_null(row, round->rounds > 0, round->excess_peak);
	put(row, Int64GetDatum(round->published));
}

Datum
pgpool_monitor_info(PG_FUNCTION_ARGS)
{
	TupleDesc descriptor;
	Row row = { 0 };
	RoundFigures round;
	int worker_pid;
	int npools;
	int ninstances;
	char rules_error[sizeof(registry->rules_error)];

	require_registry();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	LWLockAcquire(registry->lock, LW_SHARED);
	round = registry->round;
	worker_pid = registry->worker_pid;
	npools = registry->npools;
	ninstances = registry->ninstances;
	strlcpy(rules_error, registry->rules_error, sizeof(rules_error));
	LWLockRelease(registry->lock);

	put_text(&row, PGPM_VERSION);
	put_text(&row, pgpm_mode_name(pg_atomic_read_u32(&registry->mode)));
	put(&row, TimestampTzGetDatum(registry->incarnation));
	put_int_or_null(&row, worker_pid != 0, worker_pid);
	put(&row, Int64GetDatum(round.rounds));
	if (round.rounds > 0)
		put(&row, TimestampTzGetDatum(round.at));
	else
		put_null(&row);
	put_round(&row, &round);
	put_ms(&row, pg_atomic_read_u32(&registry->interval));
	put_ms(&row, pg_atomic_read_u32(&registry->lease));
	put_int(&row, npools);
	put_int(&row, pgpm_max_pools);
	put_int(&row, ninstances);
	put_int(&row, pgpm_max_instances);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->attach_refused)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_applied)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_ignored)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_rejected)));
	put_name_or_null(&row, pgpm_rules);
	put_name_or_null(&row, rules_error);
	Assert(row.n == INFO_COLS);

	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), row.values, row.nulls));
}
