/*-------------------------------------------------------------------------
 *
 * history.c
 *	  What the figures of pools were: samples in shared memory.
 *
 * history.h has the actors and the lock, history_ring.h the layout.
 *
 * Counters
 *	Instances count since they began; a sample has what was counted since the
 *	sample before.  The differences are taken for each instance, against what
 *	it had reported by then, so that one that dies, or whose slot is used again, takes
 *	nothing away.  One that has reported for the first time counts from zero if it has
 *	just begun, and else from what it says now: it has been elsewhere, or
 *	only comes back.  What an instance counted between its last sample and its end is lost.
 *	All of that is in count(): it is the place to exchange once totals of pools are at hand.
 *
 * Cost
 *	A sample copies the registry in parts, 64 instances at a time under the shared lock.  The worker keeps a
 *	baseline of 560 bytes for each instance slot in memory of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "grant.h"
#include "history.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define TRANCHE "pgpool_monitor_history"
#define COPY_AT_ONCE 64 /* instances */

StaticAssertDecl(HISTORY_NAME_LEN >= NAME_LEN && HISTORY_NAME_LEN >= NAMEDATALEN,
				 "names have to fit");

typedef struct HistoryShared
{
	LWLock *lock;
	HistoryRing *
		ring; /* at the same address everywhere, for it does not move after fork; NULL: too small for even one sample */
} HistoryShared;

int pgpm_history_size = 8192;
int pgpm_history_interval = 60000;
int pgpm_advice_wait = 10;

static HistoryShared *history = NULL; /* NULL: none is kept */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/*---- settings and shared memory ----*/

void
history_define_settings(void)
{
	DefineCustomIntVariable(
		"pgpool_monitor.history_size", "Sets how much shared memory samples of the past may take.",
		"The oldest are evicted. 0 keeps none, and there is no advice then.", &pgpm_history_size,
		8192, 0, 1024 * 1024, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.history_interval", "Sets the time between two samples of all pools.",
		"A sample takes 56 bytes for each pool: 8 MB are 24 hours of 100 pools at one minute.",
		&pgpm_history_interval, 60000, 100, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
		NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.advice_wait",
		"Sets how long 99 of 100 acquires may wait before advice is to change something.", NULL,
		&pgpm_advice_wait, 10, 0, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static Size
ring_size(void)
{
	return mul_size(pgpm_history_size, 1024);
}

static Size
shared_size(void)
{
	return add_size(MAXALIGN(sizeof(HistoryShared)), ring_size());
}

static void
history_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	if (pgpm_history_size == 0)
		return;
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
history_startup(void)
{
	bool found;
	HistoryShared *h;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* reset in case this is a restart within the postmaster */
	history = NULL;
	if (pgpm_history_size == 0)
		return;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	h = ShmemInitStruct(TRANCHE, shared_size(), &found);
	if (!found)
	{
		h->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		h->ring = history_ring_init((char *) h + MAXALIGN(sizeof(HistoryShared)), ring_size(),
									pgpm_max_pools);
	}
	LWLockRelease(AddinShmemInitLock);
	history = h->ring != NULL ? h : NULL;
}

void
history_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = history_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = history_startup;
}

/*---- private to the worker, for its whole life ----*/

/* What an instance had counted by the last sample. */
typedef struct Baseline
{
	uint32 generation; /* of the slot; 0: none yet */
	int64 acquires;
	int64 timeouts;
	int64 open_failures;
	int64 wait[REPORT_BUCKETS];
	int64 hold[REPORT_BUCKETS];
} Baseline;

/* A pool's sample while it is added up. */
typedef struct PoolSum
{
	HistorySample sample;
	bool counted;	/* at least one instance */
	bool max_known; /* of all that reported */
	int64 wait[REPORT_BUCKETS];
	int64 hold[REPORT_BUCKETS];
} PoolSum;

static Baseline *baselines = NULL; /* [max_instances] */
static InstanceSlot *part;		   /* [COPY_AT_ONCE], copies */
static bool *in_part;
static PoolSlot *pools; /* [max_pools], copies */
static uint64 *pool_hashes;
static SessionSlot *sessions;	 /* [MaxBackends], copies */
static int *pool_of;			 /* [max_instances]: -1: none */
static PoolSum *sums;			 /* [max_pools] */
static HistoryPool *round_pools; /* [max_pools], side by side */
static HistorySample *round_samples;

static int64 sampled_at = 0; /* pgpm_now() of the last sample; 0: none */
static int64 due_at = 0;

static void
allocate(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	int flags = MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO;

	part = palloc0_array(InstanceSlot, COPY_AT_ONCE);
	in_part = palloc0_array(bool, COPY_AT_ONCE);
	pools = palloc0_array(PoolSlot, pgpm_max_pools);
	pool_hashes = palloc0_array(uint64, pgpm_max_pools);
	sessions = palloc0_array(SessionSlot, MaxBackends);
	pool_of = palloc0_array(int, pgpm_max_instances);
	sums = palloc0_array(PoolSum, pgpm_max_pools);
	round_pools = palloc0_array(HistoryPool, pgpm_max_pools);
	round_samples = palloc0_array(HistorySample, pgpm_max_pools);
	baselines = palloc_extended(mul_size(pgpm_max_instances, sizeof(Baseline)), flags);
	MemoryContextSwitchTo(old);
}

/*---- counters ----*/

/* What was counted from `before` to `now`; a counter that went back is a restart of which nothing is known. */
static bool
difference(const Baseline *before, const Report *now, Baseline *delta)
{
	bool back = now->acquires < before->acquires || now->timeouts < before->timeouts ||
				now->open_failures < before->open_failures;

	delta->acquires = now->acquires - before->acquires;
	delta->timeouts = now->timeouts - before->timeouts;
	delta->open_failures = now->open_failures - before->open_failures;
	for (int i = 0; i < REPORT_BUCKETS; i++)
	{
		delta->wait[i] = now->wait[i] - before->wait[i];
		delta->hold[i] = now->hold[i] - before->hold[i];
		back = back || delta->wait[i] < 0 || delta->hold[i] < 0;
	}
	return !back;
}

static void
remember(Baseline *baseline, const InstanceSlot *instance)
{
	const Report *report = &instance->report;

	baseline->generation = instance->generation;
	baseline->acquires = report->acquires;
	baseline->timeouts = report->timeouts;
	baseline->open_failures = report->open_failures;
	memcpy(baseline->wait, report->wait, sizeof(baseline->wait));
	memcpy(baseline->hold, report->hold, sizeof(baseline->hold));
}

/*
 * Was it new when it reported, which it has done since the last sample?  Then it has not reported
 * more often than somebody does who began when his first session was attached; one that comes back after a
 * while without sessions has, and brings the counts of its whole life.
 */
static bool
has_just_begun(const InstanceSlot *instance, TimestampTz at, int64 duration)
{
	int64 age = Max(0, at - instance->joined_at);
	int64 interval = INT64CONST(1000) * pg_atomic_read_u32(&registry->interval);

	return duration > 0 && instance->report.seq <= age / interval + 2;
}

/* Adds what the instance counted since the last sample, if that is known. */
static void
count(PoolSum *sum, const InstanceSlot *instance, Baseline *baseline, TimestampTz at,
	  int64 duration)
{
	Baseline delta;
	bool known = baseline->generation == instance->generation;

	if (!known && has_just_begun(instance, at, duration))
	{
		memset(baseline, 0, sizeof(*baseline));
		known = true;
	}
	if (known && difference(baseline, &instance->report, &delta))
	{
		sum->counted = true;
		view_add_bigint(&sum->sample.acquires, delta.acquires);
		view_add_bigint(&sum->sample.timeouts, delta.timeouts);
		view_add_bigint(&sum->sample.open_failures, delta.open_failures);
		for (int i = 0; i < REPORT_BUCKETS; i++)
		{
			view_add_bigint(&sum->wait[i], delta.wait[i]);
			view_add_bigint(&sum->hold[i], delta.hold[i]);
		}
	}
	remember(baseline, instance);
}

/*---- adding up ----*/

static void
begin_sum(PoolSum *sum)
{
	memset(sum, 0, sizeof(*sum));
	sum->max_known = true;
	sum->sample.in_use = HISTORY_UNKNOWN;
	sum->sample.allotted = HISTORY_UNKNOWN;
}

static void
add_gauges(HistorySample *sample, const InstanceSlot *instance)
{
	const Report *report = &instance->report;

	sample->in_use = Max(0, sample->in_use);
	if (instance_vanished(instance))
		return;
	view_add_int(&sample->in_use, report->in_use);
	view_add_int(&sample->idle, report->idle);
	view_add_int(&sample->waiting, report->waiting);
	view_add_int(&sample->demand, instance_demand(instance));
	view_add_int(&sample->leaks, report->leaks);
}

static void
add_instance(PoolSum *sum, const InstanceSlot *instance, Baseline *baseline, TimestampTz at,
			 int64 duration)
{
	HistorySample *sample = &sum->sample;
	Publication told = view_published(instance);

	sample->instances++;
	sample->sessions += instance->held + instance->knocks;
	if (told.limit != NO_LIMIT)
	{
		sample->allotted = Max(0, sample->allotted);
		view_add_int(&sample->allotted, told.limit);
	}
	if (!instance->reported)
		return;
	add_gauges(sample, instance);
	sum->max_known = sum->max_known && instance->report.has_max;
	view_add_int(&sample->max_size, instance->report.max_size);
	count(sum, instance, baseline, at, duration);
}

static void
copy_pools(void)
{
	LWLockAcquire(registry->lock, LW_SHARED);
	memcpy(pool_hashes, registry->pool_hashes, pgpm_max_pools * sizeof(uint64));
	memcpy(pools, registry->pools, pgpm_max_pools * sizeof(PoolSlot));
	memcpy(sessions, registry->sessions, MaxBackends * sizeof(SessionSlot));
	LWLockRelease(registry->lock);
}

/* Those in [from, to) whose pool was copied. */
static void
copy_part(int from, int to)
{
	LWLockAcquire(registry->lock, LW_SHARED);
	for (int i = from; i < to; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		in_part[i - from] = registry->instance_hashes[i] != 0 && pool_hashes[instance->pool] != 0 &&
							pool_hashes[instance->pool] == registry->pool_hashes[instance->pool];
		if (in_part[i - from])
			part[i - from] = *instance;
	}
	LWLockRelease(registry->lock);
}

static void
add_instances(TimestampTz at, int64 duration)
{
	for (int from = 0; from < pgpm_max_instances; from += COPY_AT_ONCE)
	{
		int to = Min(from + COPY_AT_ONCE, pgpm_max_instances);

		copy_part(from, to);
		for (int i = from; i < to; i++)
		{
			const InstanceSlot *instance = &part[i - from];

			pool_of[i] = in_part[i - from] ? instance->pool : -1;
			if (in_part[i - from])
				add_instance(&sums[instance->pool], instance, &baselines[i], at, duration);
		}
	}
}

/* Read without a lock: torn or outdated by a moment, good enough to be counted. */
static void
add_sessions(void)
{
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const SessionSlot *session = &sessions[slot];

		if (session->kind == SESSION_FREE || pool_of[session->instance] < 0)
			continue;
		switch (session->status->st_state)
		{
			case STATE_RUNNING:
			case STATE_FASTPATH:
			case STATE_IDLEINTRANSACTION:
			case STATE_IDLEINTRANSACTION_ABORTED:
				sums[pool_of[session->instance]].sample.busy++;
				break;
			default:
				break;
		}
	}
}

static void
finish_sum(PoolSum *sum)
{
	HistorySample *sample = &sum->sample;
	int64 waits;
	double ignored;

	if (sample->in_use < 0)
		sample->idle = sample->waiting = sample->demand = sample->leaks = HISTORY_UNKNOWN;
	if (sample->in_use < 0 || !sum->max_known)
		sample->max_size = HISTORY_UNKNOWN;
	report_moments(sum->wait, &waits, &sample->wait_mean_ms, &ignored);
	sample->wait_p50_ms = report_quantile_ms(sum->wait, 0.5);
	sample->wait_p99_ms = report_quantile_ms(sum->wait, 0.99);
	report_moments(sum->hold, &sample->holds, &sample->hold_mean_ms, &sample->hold_variation);
	if (!sum->counted)
		sample->acquires = sample->timeouts = sample->open_failures = sample->holds =
			HISTORY_UNKNOWN;
}

/*---- the round ----*/

static int
collect(TimestampTz at, int64 duration)
{
	int n = 0;

	copy_pools();
	for (int i = 0; i < pgpm_max_pools; i++)
		if (pool_hashes[i] != 0)
			begin_sum(&sums[i]);
	add_instances(at, duration);
	add_sessions();
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		HistoryPool *pool = &round_pools[n];

		/* its instances may all have gone since the pools were copied */
		if (pool_hashes[i] == 0 || sums[i].sample.instances == 0)
			continue;
		finish_sum(&sums[i]);
		pool->role = pools[i].role;
		pool->database = pools[i].database;
		strlcpy(pool->name, pools[i].name, HISTORY_NAME_LEN);
		strlcpy(pool->role_name, pools[i].role_name, HISTORY_NAME_LEN);
		strlcpy(pool->database_name, pools[i].database_name, HISTORY_NAME_LEN);
		round_samples[n++] = sums[i].sample;
	}
	return n;
}

/* On a grid, so that a round that comes late does not make the next one later; anew after a pause. */
static void
set_due(int64 now)
{
	int64 interval = INT64CONST(1000) * pgpm_history_interval;

	due_at += interval;
	if (due_at <= now || due_at > now + interval)
		due_at = now + interval;
}

void
history_round(int64 now)
{
	int64 duration = sampled_at > 0 ? now - sampled_at : 0;
	/* a shorter interval counts at once */
	int64 latest = sampled_at + INT64CONST(1000) * pgpm_history_interval;
	TimestampTz at = GetCurrentTimestamp();
	int n;

	if (history == NULL || (sampled_at > 0 && now < Min(due_at, latest)))
		return;
	if (baselines == NULL)
		allocate();
	n = collect(at, duration);
	LWLockAcquire(history->lock, LW_EXCLUSIVE);
	history_ring_append(history->ring, at, duration, round_pools, round_samples, n);
	LWLockRelease(history->lock);
	sampled_at = now;
	set_due(now);
}

/*---- reading ----*/

HistoryRing *
history_copy(void)
{
	HistoryRing *copy;

	if (history == NULL)
		return NULL;
	copy = palloc_extended(history_ring_bytes(history->ring), MCXT_ALLOC_HUGE);
	LWLockAcquire(history->lock, LW_SHARED);
	history_ring_copy(copy, history->ring);
	LWLockRelease(history->lock);
	return copy;
}
