/*-------------------------------------------------------------------------
 *
 * pools.c
 *	  The pools, and those who steer them: resize, pause, drain, close, reopen.
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

/* So long a closer waits for all who are inside to be in the queue. */
#define GATHER_MS 2000

Slot slots[SLOTS] = { [0 ... SLOTS - 1] = { .steering = PTHREAD_MUTEX_INITIALIZER } };

/*---- entering and leaving ----*/

pqpool *
enter_pool(Slot *slot)
{
	(void) atomic_fetch_add(&slot->users, 1);
	if (!atomic_load(&slot->closing))
		return atomic_load(&slot->pool);
	leave_pool(slot);
	return NULL;
}

void
leave_pool(Slot *slot)
{
	(void) atomic_fetch_sub(&slot->users, 1);
}

/* To be asked while in the pool, or it may be another one. */
unsigned
situation_of(const Slot *slot, int64_t began)
{
	return (atomic_load(&slot->closing) ? CLOSING : USUAL) | (slot->crowded ? CROWDED : USUAL) |
		   (slot->bound ? BOUND : USUAL) |
		   (atomic_load(&slot->paused_until) >= began ? PAUSED : USUAL);
}

/*---- opening and closing ----*/

/* A pool unlike the one before. */
static void
open_slot(Self *self, Slot *slot)
{
	static const char *const resets[] = { "rollback", "rollback", "discard", "none" };
	static const char *const validate[] = { "0", "-1", "100ms", "30s" };
	static const char *const lifetimes[] = { "0", "300ms", "2s", "30min" };
	static const char *const idle[] = { "0", "200ms", "10min" };
	const char *reset = resets[draw(self, countof(resets))];
	char conninfo[600];
	pqpool_error err;
	pqpool *pool;
	Call call;

	atomic_fetch_add(&slot->generation, 1);
	slot->bound = draw(self, 3) == 0;
	slot->crowded = draw(self, 4) == 0;
	slot->discards = strcmp(reset, "discard") == 0;
	snprintf(slot->application, sizeof(slot->application), "soak-%d.%d", slot->index,
			 atomic_load(&slot->generation));
	atomic_store(&slot->granted, 0);
	snprintf(conninfo, sizeof(conninfo),
			 "application_name=%s pool_min_size=%u pool_max_size=%u pool_acquire_timeout=%d"
			 " pool_reset=%s pool_validate_after=%s pool_max_lifetime=%s pool_idle_timeout=%s"
			 " pool_bind=%s pool_max_waiters=%d pool_report=%s pool_limits=%s pool_leak_after=1s",
			 slot->application, draw(self, 3), 2 + draw(self, 7), PATIENCE_MS, reset,
			 validate[draw(self, countof(validate))], lifetimes[draw(self, countof(lifetimes))],
			 idle[draw(self, countof(idle))], slot->bound ? "thread" : "none",
			 slot->crowded ? 2 : 1000, draw(self, 5) == 0 ? "off" : "on",
			 draw(self, 5) == 0 ? "ignore" : "obey");
	call = call_begin(self, OP_OPEN, slot);
	pool = pqpool_open(conninfo, &err);
	if (!call_end(&call, err.code, USUAL, err.message))
		give_up("no pool");
	atomic_store(&slot->pool, pool);
	atomic_store(&slot->closing, false);
}

static pqpool_statistics
statistics(Self *self, Slot *slot, pqpool *pool)
{
	pqpool_statistics stats;
	Call call = call_begin(self, OP_STATS, slot);

	memset(&stats, 0, sizeof(stats));
	(void) call_end(&call, pqpool_stats(pool, &stats), USUAL, NULL);
	return stats;
}

/*
 * Everybody who is in it waits in its queue, or nobody is in it.  Those that
 * are counted are read first: who enters later turns back without waiting.
 */
static bool
all_are_waiting(Self *self, Slot *slot, pqpool *pool)
{
	int users = atomic_load(&slot->users);

	return statistics(self, slot, pool).waiting >= users;
}

static void
pause_slot(Self *self, Slot *slot, pqpool *pool)
{
	Call call;

	atomic_store(&slot->paused_until, INT64_MAX);
	call = call_begin(self, OP_PAUSE, slot);
	(void) call_end(&call, pqpool_pause(pool), USUAL, NULL);
}

static void
resume_slot(Self *self, Slot *slot, pqpool *pool)
{
	Call call = call_begin(self, OP_RESUME, slot);

	(void) call_end(&call, pqpool_resume(pool), USUAL, NULL);
	atomic_store(&slot->paused_until, now_ms());
}

static void
close_pool(Self *self, Slot *slot, pqpool *pool, int timeout_ms)
{
	bool patient = timeout_ms < 0 || timeout_ms >= PATIENCE_MS;
	Call call = call_begin(self, patient ? OP_CLOSE : OP_CLOSE_SHORT, slot);
	pqpool *closed = pool;

	(void) call_end(&call, pqpool_close(&closed, timeout_ms), USUAL, NULL);
	if (closed != NULL)
		failure("pqpool_close() has left the variable as it was");
}

/* With waiters in the queue, if there are any: they are to end with PQPOOL_CLOSED. */
static void
reopen(Self *self, Slot *slot)
{
	static const int timeouts[] = { 0, 50, -1, -1 };
	pqpool *pool = atomic_load(&slot->pool);
	bool pause = draw(self, 2) == 0;

	if (pause)
		pause_slot(self, slot, pool);
	atomic_store(&slot->closing, true);
	if (!WAIT_FOR(all_are_waiting(self, slot, pool), GATHER_MS))
	{
		atomic_store(&slot->closing, false);
		if (pause)
			resume_slot(self, slot, pool);
		return;
	}
	close_pool(self, slot, pool, timeouts[draw(self, countof(timeouts))]);
	atomic_store(&slot->pool, NULL);
	if (!WAIT_FOR(atomic_load(&slot->users) == 0, PATIENCE_MS))
		give_up("%d callers still wait for %s, which was closed", atomic_load(&slot->users),
				slot->application);
	if (pause)
		atomic_store(&slot->paused_until, now_ms());
	open_slot(self, slot);
}

void
open_slots(Self *self)
{
	for (int i = 0; i < SLOTS; i++)
	{
		slots[i].index = i;
		open_slot(self, &slots[i]);
	}
}

/* All threads have ended. */
void
close_slots(Self *self)
{
	for (int i = 0; i < SLOTS; i++)
	{
		Slot *slot = &slots[i];
		pqpool *pool = atomic_load(&slot->pool);
		pqpool_statistics stats = statistics(self, slot, pool);

		if (stats.in_use != 0 || stats.waiting != 0 || stats.paused != 0)
			failure("with all threads gone, %s has %d loans out and %d waiters, and is%s paused",
					slot->application, stats.in_use, stats.waiting, stats.paused ? "" : " not");
		if (stats.acquires != atomic_load(&slot->granted))
			failure("%s counted %llu acquires, and %llu were granted", slot->application,
					(unsigned long long) stats.acquires,
					(unsigned long long) atomic_load(&slot->granted));
		close_pool(self, slot, pool, PATIENCE_MS); /* nobody looks whether this hangs */
		atomic_store(&slot->closing, true);
		atomic_store(&slot->pool, NULL);
	}
}

/*---- steering ----*/

static void
resize(Self *self, Slot *slot, pqpool *pool)
{
	int max = 1 + (int) draw(self, 8);
	int min = (int) draw(self, (unsigned) max + 1);
	pqpool_error err;
	Call call = call_begin(self, OP_RESIZE, slot);

	(void) call_end(&call, pqpool_resize(pool, min, max, &err), USUAL, err.message);
}

static void
drain(Self *self, Slot *slot, pqpool *pool)
{
	static const int timeouts[] = { 0, 20, -1 };
	int timeout = timeouts[draw(self, countof(timeouts))];
	Call call = call_begin(self, timeout < 0 ? OP_DRAIN : OP_DRAIN_SHORT, slot);

	(void) call_end(&call, pqpool_drain(pool, timeout), USUAL, NULL);
}

/* A snapshot, all of one moment. */
static void
check_statistics(Self *self, Slot *slot, pqpool *pool)
{
	pqpool_statistics stats = statistics(self, slot, pool);
	pqpool_allotment allotment;
	Call call;

	if (stats.size != stats.opening + stats.idle + stats.in_use + stats.resetting + stats.closing ||
		stats.opening < 0 || stats.idle < 0 || stats.in_use < 0 || stats.resetting < 0 ||
		stats.closing < 0 || stats.waiting < 0 || stats.limit > stats.max_size)
		failure("%s: size %d is not opening %d, idle %d, in_use %d, resetting %d, closing %d"
				" (waiting %d, limit %d of %d)",
				slot->application, stats.size, stats.opening, stats.idle, stats.in_use,
				stats.resetting, stats.closing, stats.waiting, stats.limit, stats.max_size);
	call = call_begin(self, OP_LIMITS, slot);
	(void) call_end(&call, pqpool_limits(pool, &allotment), USUAL, NULL);
}

static void
steer_slot(Self *self, Slot *slot)
{
	pqpool *pool = atomic_load(&slot->pool);

	switch (draw(self, 10))
	{
		case 0:
		case 1:
			reopen(self, slot);
			break;
		case 2:
			pause_slot(self, slot, pool);
			sleep_ms(draw(self, 50));
			resume_slot(self, slot, pool);
			break;
		case 3:
			drain(self, slot, pool);
			break;
		case 4:
		case 5:
		case 6:
			resize(self, slot, pool);
			break;
		default:
			check_statistics(self, slot, pool);
	}
}

void *
steer(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		Slot *slot = &slots[draw(self, SLOTS)];

		if (pthread_mutex_trylock(&slot->steering) == 0)
		{
			steer_slot(self, slot);
			pthread_mutex_unlock(&slot->steering);
		}
		sleep_ms(5 + draw(self, 60));
	}
	return NULL;
}

/*---- the default pool ----*/

static _Atomic(int64_t) default_closed;

bool
default_closed_since(int64_t when)
{
	return atomic_load(&default_closed) >= when;
}

static void
initialize(Self *self)
{
	pqpool_error err;
	Call call = call_begin(self, OP_INITIALIZE, NULL);

	(void) pqpool_initialize("application_name=soak-default pool_max_size=4"
							 " pool_acquire_timeout=60s pool_max_waiters=1000",
							 &err);
	(void) call_end(&call, err.code, USUAL, err.message);
}

/* Opened, twice at times, and closed. */
void *
steer_default(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		Call call;

		initialize(self);
		sleep_ms(draw(self, 300));
		if (draw(self, 3) == 0)
			initialize(self);
		atomic_store(&default_closed, INT64_MAX);
		call = call_begin(self, OP_CLOSE_POOL, NULL);
		(void) call_end(&call, pqpool_close_pool(), USUAL, NULL);
		atomic_store(&default_closed, now_ms());
		sleep_ms(draw(self, 200));
	}
	return NULL;
}
