/*-------------------------------------------------------------------------
 *
 * history.c
 *	  What the figures of pools were: samples in shared memory.
 *
 * history.h has the actors and the lock, history_ring.h the layout.
 *
 * Counters
 *	A sample has what the pool's record (past.h) says was counted since the sample before, whoever
 *	counted it, and whoever has ended or come back meanwhile.  Of a pool whose instances have all
 *	ended there is one more sample, with what they counted last.  What the worker knows of the last
 *	sample is in shared memory, so that another worker goes on where it stopped.
 *
 * Cost
 *	A sample looks at all instances and sessions, 64 at a time under the shared lock, and at all
 *	pools, 16 at a time under the exclusive one.
 *
 * Accepted
 *	An instance that comes from elsewhere, or after its slot was used for another, counts
 *	from its first report on: until then it is missing.  Counts of a pool whose slot is
 *	needed for another before the next sample are lost.  What instances counted while they
 *	had no session here is in the sample that follows the report that says so.
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
#include "history.h"
#include "past.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define TRANCHE "pgpool_monitor_history"
#define POOLS_AT_ONCE 16

StaticAssertDecl(HISTORY_NAME_LEN >= NAME_LEN && HISTORY_NAME_LEN >= NAMEDATALEN,
				 "names have to fit");

typedef struct HistoryShared
{
	LWLock *lock;
	int64 sampled_at; /* pgpm_now() of the last sample; 0: none.  The worker's */

	/*
	 * At the same address everywhere, for it does not move after fork; NULL: too small for even
	 * one sample.
	 */
	HistoryRing *ring;
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
		h->sampled_at = 0;
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

/* A pool's sample while it is added up. */
typedef struct PoolSum
{
	HistorySample sample;
	bool max_known; /* of all that reported */
} PoolSum;

/* What its record says. */
typedef struct Counted
{
	int slot;
	HistoryPool pool;
	PoolTotals ever;
	PoolTotals before; /* of these, by the last sample */
	PoolTotals counted;
} Counted;

static Copy copy;	  /* hashes of pools as of the beginning of the round, and nothing else */
static PoolSum *sums; /* [max_pools] */
static Counted *part; /* [POOLS_AT_ONCE] */
static HistoryPool *round_pools; /* [max_pools], side by side */
static HistorySample *round_samples;

static int64 due_at = 0;

static void
allocate(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	sums = palloc0_array(PoolSum, pgpm_max_pools);
	part = palloc0_array(Counted, POOLS_AT_ONCE);
	round_pools = palloc0_array(HistoryPool, pgpm_max_pools);
	round_samples = palloc0_array(HistorySample, pgpm_max_pools);
	copy.pool_hashes = palloc0_array(uint64, pgpm_max_pools);
	MemoryContextSwitchTo(old);
}

/*---- figures of the moment ----*/

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
add_instance(PoolSum *sum, const InstanceSlot *instance)
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
}

static void
add_instances(void)
{
	for (int from = 0; from < pgpm_max_instances; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, pgpm_max_instances);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			int pool = view_pool_of(&copy, i);

			if (pool >= 0)
				add_instance(&sums[pool], &registry->instances[i]);
		}
		LWLockRelease(registry->lock);
	}
}

static void
add_sessions(void)
{
	for (int from = 0; from < MaxBackends; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, MaxBackends);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int slot = from; slot < to; slot++)
		{
			const SessionSlot *session = &registry->sessions[slot];
			int pool = session->kind == SESSION_FREE ? -1 : view_pool_of(&copy, session->instance);

			if (pool >= 0 && view_is_busy(session))
				sums[pool].sample.busy++;
		}
		LWLockRelease(registry->lock);
	}
}

/*---- what was counted ----*/

static void
name_pool(HistoryPool *to, const PoolSlot *pool)
{
	to->role = pool->role;
	to->database = pool->database;
	strlcpy(to->name, pool->name, HISTORY_NAME_LEN);
	strlcpy(to->role_name, pool->role_name, HISTORY_NAME_LEN);
	strlcpy(to->database_name, pool->database_name, HISTORY_NAME_LEN);
}

/* The pools in [from, to) that are in the round.  How many. */
static int
take_part(int from, int to)
{
	int n = 0;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = from; i < to; i++)
	{
		if (copy.pool_hashes[i] == 0 || copy.pool_hashes[i] != registry->pool_hashes[i])
			continue;
		part[n].slot = i;
		name_pool(&part[n].pool, &registry->pools[i]);
		past_take(i, &part[n].ever, &part[n].before);
		n++;
	}
	LWLockRelease(registry->lock);
	return n;
}

/* False: it is only remembered. */
static bool
has_news(Counted *of)
{
	of->counted = of->ever;
	totals_subtract(&of->counted, &of->before);
	return sums[of->slot].sample.instances > 0 || !totals_empty(&of->counted);
}

static void
add_counters(HistorySample *sample, const Counted *of, int64 duration)
{
	int64 waits;
	double ignored;

	sample->acquires = of->counted.acquires;
	sample->timeouts = of->counted.timeouts;
	sample->open_failures = of->counted.open_failures;
	report_moments(of->counted.wait, of->ever.wait, &waits, &sample->wait_mean_ms, &ignored);
	sample->wait_p50_ms = report_quantile_ms(of->counted.wait, 0.5);
	sample->wait_p99_ms = report_quantile_ms(of->counted.wait, 0.99);
	report_moments(of->counted.hold, of->ever.hold, &sample->holds, &sample->hold_mean_ms,
				   &sample->hold_variation);
	/* nobody reports, and nobody did; or since when is not known */
	if (duration == 0 || (sample->in_use < 0 && totals_empty(&of->counted)))
		sample->acquires = sample->timeouts = sample->open_failures = sample->holds =
			HISTORY_UNKNOWN;
}

static HistorySample
finish_sum(const Counted *of, int64 duration)
{
	const PoolSum *sum = &sums[of->slot];
	HistorySample sample = sum->sample;

	add_counters(&sample, of, duration);
	if (sample.in_use < 0)
		sample.idle = sample.waiting = sample.demand = sample.leaks = HISTORY_UNKNOWN;
	if (sample.in_use < 0 || !sum->max_known)
		sample.max_size = HISTORY_UNKNOWN;
	return sample;
}

/*---- the round ----*/

static int
collect(int64 duration)
{
	int n = 0;

	LWLockAcquire(registry->lock, LW_SHARED);
	memcpy(copy.pool_hashes, registry->pool_hashes, pgpm_max_pools * sizeof(uint64));
	LWLockRelease(registry->lock);
	for (int i = 0; i < pgpm_max_pools; i++)
		begin_sum(&sums[i]);
	add_instances();
	add_sessions();
	for (int from = 0; from < pgpm_max_pools; from += POOLS_AT_ONCE)
	{
		int taken = take_part(from, Min(from + POOLS_AT_ONCE, pgpm_max_pools));

		for (int i = 0; i < taken; i++)
		{
			if (!has_news(&part[i]))
				continue;
			round_pools[n] = part[i].pool;
			round_samples[n++] = finish_sum(&part[i], duration);
		}
	}
	return n;
}

/*
 * On a grid, so that a round that comes late does not make the next one later; anew after a
 * pause.
 */
static void
set_due(int64 now)
{
	int64 interval = INT64CONST(1000) * pgpm_history_interval;

	due_at += interval;
	if (due_at <= now || due_at > now + interval)
		due_at = now + interval;
}

static bool
is_due(int64 now)
{
	/* a shorter interval counts at once */
	int64 latest = history->sampled_at + INT64CONST(1000) * pgpm_history_interval;

	/* another worker knows only when the last sample was */
	return history->sampled_at == 0 || now >= (due_at == 0 ? latest : Min(due_at, latest));
}

void
history_round(int64 now)
{
	int64 duration;
	int n;

	if (history == NULL || !is_due(now))
		return;
	if (sums == NULL)
		allocate();
	duration = history->sampled_at > 0 ? now - history->sampled_at : 0;
	n = collect(duration);
	LWLockAcquire(history->lock, LW_EXCLUSIVE);
	history_ring_append(history->ring, GetCurrentTimestamp(), duration, round_pools, round_samples,
						n);
	LWLockRelease(history->lock);
	history->sampled_at = now;
	set_due(now);
}

/*---- reading ----*/

HistoryRing *
history_copy(void)
{
	HistoryRing *ring;

	if (history == NULL)
		return NULL;
	ring = palloc_extended(history_ring_bytes(history->ring), MCXT_ALLOC_HUGE);
	LWLockAcquire(history->lock, LW_SHARED);
	history_ring_copy(ring, history->ring);
	LWLockRelease(history->lock);
	return ring;
}
