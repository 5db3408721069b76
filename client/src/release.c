/*-------------------------------------------------------------------------
 *
 * release.c
 *	  The end of a loan, and whose it is.
 *
 * Find the slot by the PGconn, claim it (state RESETTING), so that giving it
 * back twice is noticed, make it clean without a lock, put it back.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>

#define HEARING_US 50000 /* a returned connection may have news: asked this often */

/*
 * Find a loan, and leave its pool locked.  A thread's own connection: nothing
 * is locked, and it is the calling thread's.  Else a code, and *slot is NULL.
 */
static int
find_loan(PGconn *conn, Slot **slot)
{
	Slot *found;
	const Thread *me = pqp_thread_if_any();
	int code = PQPOOL_OK;

	pqp_after_fork();
	*slot = NULL;
	if (!conn)
		return PQPOOL_BAD_ARGUMENT;
	found = pqp_lookup(conn);
	if (!found)
		return PQPOOL_UNKNOWN_CONNECTION;
	if (!found->pool)
	{
		bool mine = me && found->last_thread == me->serial;

		pqp_lookup_unlock(conn);
		if (!mine)
			return PQPOOL_WRONG_THREAD;
		*slot = found;
		return PQPOOL_OK;
	}
	pthread_mutex_lock(&found->pool->lock);
	pqp_lookup_unlock(conn);
	if (found->state != SLOT_IN_USE)
		code = PQPOOL_NOT_LENT;
	else if (found->bound && !(me && found->last_thread == me->serial))
		code = PQPOOL_WRONG_THREAD;
	if (code != PQPOOL_OK)
		pthread_mutex_unlock(&found->pool->lock);
	else
		*slot = found;
	return code;
}

static void
end_loan(Slot *slot, int64_t now)
{
	Pool *pool = slot->pool;

	pool->counters.hold[pqp_link_bucket(now - slot->lent_at)]++;
	if (slot->bound)
		pqp_thread_if_any()->bound--;
	slot->bound = false;
}

static void
finish_loan(Slot *slot, bool keep, int64_t now)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	bool commanded = false, good = false, lost_server = false;
	const char *text = NULL;

	if (keep)
	{
		good = pqp_clean(slot, &pool->options, pqp_deadline(now, pool->options.reset_timeout_ms),
						 &commanded);
		lost_server = !good && (PQstatus(slot->conn) != CONNECTION_OK || slot->fatal);
		if (commanded)
			now = pqp_now();
		if (good && now - slot->heard_at >= HEARING_US)
		{
			slot->heard_at = now;
			text = pqp_text(slot);
		}
	}
	pthread_mutex_lock(&pool->lock);
	slot->idle_since = now;
	if (commanded)
		slot->alive_at = now;
	pool->counters.resets += commanded;
	pqp_heard(pool, slot->serial, text);
	if (lost_server)
		pqp_server_ended(pool, &work, now);
	if (good)
		pqp_put_back(slot, &work, now);
	else
	{
		pool->counters.discarded += !pool->closed;
		pqp_retire(slot, &work);
	}
	if (!good || text || pool->waiters.head)
		pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

static int
release(PGconn *conn, bool keep)
{
	int saved_errno = errno;
	Slot *slot;
	int code = find_loan(conn, &slot);

	if (slot && !slot->pool)
		code = pqp_own_return(slot, keep);
	else if (slot)
	{
		Pool *pool = slot->pool;

		int64_t now = pqp_now();

		end_loan(slot, now);
		pqp_claim(slot);
		keep = keep && (!pool->closed || pool->link.bye_pending);
		pthread_mutex_unlock(&pool->lock);
		finish_loan(slot, keep, now);
	}
	errno = saved_errno;
	return code;
}

int
pqpool_release(PGconn *conn)
{
	return release(conn, true);
}

int
pqpool_discard(PGconn *conn)
{
	return release(conn, false);
}

/*
 * Binding.
 */

static int
set_bound(PGconn *conn, bool bound)
{
	Slot *slot;
	Thread *me = pqp_thread();
	int code;

	if (!me)
		return PQPOOL_OUT_OF_MEMORY;
	code = find_loan(conn, &slot);
	if (!slot)
		return code;
	if (!slot->pool)
		return bound ? PQPOOL_OK : PQPOOL_WRONG_THREAD; /* it is his for good */
	me->bound += bound - slot->bound;
	slot->bound = bound;
	slot->last_thread = me->serial;
	slot->tid = me->tid;
	pthread_mutex_unlock(&slot->pool->lock);
	return PQPOOL_OK;
}

int
pqpool_transfer(PGconn *conn)
{
	return set_bound(conn, false);
}

int
pqpool_adopt(PGconn *conn)
{
	return set_bound(conn, true);
}
