/*-------------------------------------------------------------------------
 *
 * steer.c
 *	  A pool as a whole: open, close, resize, pause, drain.
 *
 * Closing: nothing is lent or opened any more, waiters fail at once, what is
 * idle is closed, loans are closed when they come back.  The pool itself goes
 * with its last reference.  If the server is to be told (link.bye_pending,
 * which holds a reference of its own), one idle connection says so before it is
 * closed, or the next one that comes back, or, when none is left, a knock.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <time.h>

/*
 * Open and close.
 */

void
pqp_pool_free(Pool *pool)
{
	(void) pthread_cond_destroy(&pool->changed);
	(void) pthread_mutex_destroy(&pool->lock);
	pqp_options_free(&pool->options);
	pqp_chunks_free(pool);
	free(pool);
}

/*
 * How long is a look at a connection good for?  No longer than it may be lent without being
 * asked.
 */
static int64_t
trust_us(const PoolOptions *options)
{
	int64_t ms = options->peek_after_ms;

	if (options->validate_after_ms >= 0 && options->validate_after_ms < ms)
		ms = options->validate_after_ms;
	return ms * 1000;
}

/* A pool with one reference, listed, its minimum being opened. */
Pool *
pqp_pool_create(const char *conninfo, const pqpool_hooks *hooks, pqpool_error *err)
{
	Pool *pool = calloc(1, sizeof(*pool));
	char why[512];
	Work work = { 0 };

	if (!pool)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	if (!pqp_options_parse(conninfo, &pool->options, why, sizeof(why)))
	{
		(void) pqp_error_set(
			err, pool->options.no_memory ? PQPOOL_OUT_OF_MEMORY : PQPOOL_BAD_OPTION, "%s", why);
		free(pool);
		return NULL;
	}
	(void) pthread_mutex_init(&pool->lock, NULL);
	(void) pthread_cond_init(&pool->changed, NULL);
	(void) pqp_link_new_id(pool->id); /* without one: no identity, all else works */
	pool->serial = pqp_next_serial();
	pool->refs = 1;
	pool->min_size = pool->options.min_size;
	pool->max_size = pool->options.max_size;
	pool->limit = pool->max_size;
	pool->keeper_due = INT64_MAX;
	pool->lifetime = -1;
	pool->link.jitter = 1;
	pool->trust_us = trust_us(&pool->options);
	if (hooks)
		pool->hooks = *hooks;
	pool->careful = pool->options.reset == PQP_RESET_DISCARD || pool->trust_us == 0 ||
					pqp_hooks_want_all(&pool->hooks);
	if (!pqp_make_room(pool, pool->max_size))
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		pqp_pool_free(pool);
		return NULL;
	}
	pqp_registry_add(pool);
	(void) pqp_keeper_ensure();
	pthread_mutex_lock(&pool->lock);
	pqp_pump(pool, &work, pqp_now());
	pqp_unlock(pool, &work);
	(void) pqp_error_clear(err);
	return pool;
}

pqpool *
pqpool_open(const char *conninfo, pqpool_error *err)
{
	pqp_after_fork();
	return pqp_pool_create(conninfo, NULL, err);
}

/* Connections, and events, that closing or draining still has to wait for. */
static int
remaining(const Pool *pool, uint32_t generation, bool idle_only, const Thread *me)
{
	int n = pool->closed && !idle_only ? pool->telling : 0;

	for (int i = 0; i < pool->nslots; i++)
	{
		Slot *slot = pqp_slot(pool, i);
		uint64_t word = pqp_item_word(&slot->item);

		if (slot->state == SLOT_EMPTY || (!pool->closed && slot->generation == generation))
			continue;
		if (idle_only && (slot->state == SLOT_OPENING || pqp_item_holder(word) != 0))
			continue;
		if ((word & PQP_ITEM_BOUND) && me && pqp_item_holder(word) == me->serial)
			continue;
		n++;
	}
	return n;
}

/* Wait, with the lock held, until nothing remains.  False: the deadline has passed. */
static bool
await_gone(Pool *pool, bool idle_only, int64_t deadline)
{
	uint32_t generation = pool->generation;
	const Thread *me = pqp_thread_if_any();
	struct timespec until = { .tv_sec = deadline / 1000000, .tv_nsec = deadline % 1000000 * 1000 };
	int rc = 0, old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pool->watchers++;
	while (remaining(pool, generation, idle_only, me) > 0 && rc == 0)
		rc = deadline == INT64_MAX
				 ? pthread_cond_wait(&pool->changed, &pool->lock)
				 : pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
	pool->watchers--;
	(void) pthread_setcancelstate(old, NULL);
	return remaining(pool, generation, idle_only, me) == 0;
}

/* Those that are in use have been called for, and go when they come back. */
static void
retire_idle(Pool *pool, Work *work)
{
	pqpool_close_reason reason = pool->closed ? PQPOOL_CLOSE_POOL : PQPOOL_CLOSE_DRAIN;

	pqp_call_all(pool);
	for (Item *item = pool->queue.newest, *older; item; item = older)
	{
		Slot *slot = (Slot *) item;

		older = item->older;
		if ((pool->closed || slot->generation != pool->generation) && pqp_item_claim(item))
			pqp_retire(slot, work, reason);
	}
}

/* Close a pool, give up the handle's reference, and wait. */
int
pqp_shut(Pool *pool, int timeout_ms, bool idle_only)
{
	Work work = { 0 };
	int64_t now = pqp_now();
	bool gone;

	pthread_mutex_lock(&pool->lock);
	pool->closed = true;
	pqp_fail_waiters(pool, &work, PQPOOL_CLOSED);
	if (pqp_reports(pool) && pqp_keeper_running())
	{
		pool->link.bye_pending = true;
		pool->refs++; /* until it is not */
		(void) pqp_report_begin(pool, &work, now);
		pqp_nudge(pool, &work, now);
	}
	retire_idle(pool, &work);
	pqp_unlock(pool, &work);

	pthread_mutex_lock(&pool->lock);
	gone = await_gone(pool, idle_only, pqp_deadline(now, timeout_ms));
	pthread_mutex_unlock(&pool->lock);
	pqp_unref(pool);
	return gone ? PQPOOL_OK : PQPOOL_TIMED_OUT;
}

int
pqpool_close(pqpool **pool, int timeout_ms)
{
	Pool *closing;

	pqp_after_fork();
	if (!pool || timeout_ms < -1)
		return PQPOOL_BAD_ARGUMENT;
	closing = *pool;
	*pool = NULL;
	return closing ? pqp_shut(closing, timeout_ms, false) : PQPOOL_OK;
}

/*
 * Steering.
 */

int
pqpool_resize(pqpool *pool, int min_size, int max_size, pqpool_error *err)
{
	Work work = { 0 };
	int code = PQPOOL_OK;

	pqp_after_fork();
	if (!pool)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no pool was given");
	(void) pqp_error_clear(err);
	pthread_mutex_lock(&pool->lock);
	if (min_size == -1)
		min_size = pool->min_size;
	if (max_size == -1)
		max_size = pool->max_size;
	if (pool->closed)
		code = pqp_error_set(err, PQPOOL_CLOSED, "pool \"%s\" is closed", pool->options.name);
	else if (max_size < 1 || max_size > PQP_SIZE_MAX || min_size < 0 || min_size > max_size)
		code = pqp_error_set(err, PQPOOL_BAD_ARGUMENT,
							 "sizes must be 0 <= min <= max and 1 <= max <= %d, not %d and %d",
							 PQP_SIZE_MAX, min_size, max_size);
	else if (!pqp_make_room(pool, max_size))
		code = pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
	else
	{
		pool->min_size = min_size;
		pool->max_size = max_size;
		pqp_pump(pool, &work, pqp_now());
	}
	pqp_unlock(pool, &work);
	return code;
}

static int
set_paused(Pool *pool, bool paused)
{
	Work work = { 0 };
	int code = PQPOOL_OK;

	pqp_after_fork();
	if (!pool)
		return PQPOOL_BAD_ARGUMENT;
	pthread_mutex_lock(&pool->lock);
	if (pool->closed)
		code = PQPOOL_CLOSED;
	else
	{
		pool->paused = paused;
		pqp_pump(pool, &work, pqp_now());
	}
	pqp_unlock(pool, &work);
	return code;
}

int
pqpool_pause(pqpool *pool)
{
	return set_paused(pool, true);
}

int
pqpool_resume(pqpool *pool)
{
	return set_paused(pool, false);
}

int
pqpool_drain(pqpool *pool, int timeout_ms)
{
	Work work = { 0 };
	int64_t now = pqp_now();
	bool gone;

	pqp_after_fork();
	if (!pool || timeout_ms < -1)
		return PQPOOL_BAD_ARGUMENT;
	pthread_mutex_lock(&pool->lock);
	if (pool->closed)
	{
		pthread_mutex_unlock(&pool->lock);
		return PQPOOL_CLOSED;
	}
	pool->generation++;
	pool->refs++;
	retire_idle(pool, &work);
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);

	pthread_mutex_lock(&pool->lock);
	gone = await_gone(pool, false, pqp_deadline(now, timeout_ms));
	pthread_mutex_unlock(&pool->lock);
	pqp_unref(pool);
	return gone ? PQPOOL_OK : PQPOOL_TIMED_OUT;
}

/*
 * Reading.
 */

const char *
pqpool_name(const pqpool *pool)
{
	return pool ? pool->options.name : "";
}

const char *
pqpool_id(const pqpool *pool)
{
	pqp_after_fork();
	return pool ? pool->id : "";
}
