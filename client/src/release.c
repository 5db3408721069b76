/*-------------------------------------------------------------------------
 *
 * release.c
 *	  The end of a loan, and whose it is.
 *
 * Fast: it is the thread's last loan, nothing is to be done about the
 * connection, and nobody has called for it.  Else: find the slot by the PGconn,
 * yield it (HELD), so that giving it back twice is noticed, make it clean
 * without a lock, put it back.
 *
 * Of several threads that give back the same unbound loan, one has it, and the
 * others are told NOT_LENT.  Accepted: if one of them came by the fast path, it
 * may have written the length of the loan into a slot that is no more its own.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>

#include "loan.h"

#define HEARING_US 50000 /* a returned connection may have news: asked this often */

/*
 * Is it the thread's last loan?  The slot can be looked into: it is there as
 * long as no pool has been freed since.  Its word then says whether it is the
 * thread's; and a connection that is the thread's is the one that was lent.
 */
static Slot *
last_loan(const Thread *me, PGconn *conn, uint64_t *word)
{
	Slot *slot = me ? me->last : NULL;

	if (!slot || me->last_freed != PQP_PEEK(&pqp_pools_freed) || PQP_PEEK(&slot->conn) != conn)
		return NULL;
	*word = pqp_item_word(&slot->item);
	return pqp_item_holder(*word) == me->serial ? slot : NULL;
}

/* False: the slow path is to do it, all of it. */
static bool
release_fast(Thread *me, PGconn *conn)
{
	uint64_t word;
	Slot *slot = last_loan(me, conn, &word);

	if (!slot || (word & PQP_ITEM_CALL) ||
		PQP_PEEK(&slot->lent_at) - slot->heard_at >= HEARING_US || !pqp_spotless(slot))
		return false;
	pqp_loan_ends(slot);
	if (!pqp_item_give(&slot->item, word))
	{
		slot->measured_at = PQP_COUNTED;
		return false;
	}
	me->bound -= (word & PQP_ITEM_BOUND) != 0;
	return true;
}

/*
 * Find a loan, with its lookup shard locked, so that it cannot go away.  A
 * thread's own connection: nothing is locked, and it is the calling thread's.
 * Else a code, *slot is NULL, and nothing is locked.
 */
static int
find_loan(PGconn *conn, Slot **slot, uint64_t *word)
{
	Slot *found;
	const Thread *me = pqp_thread_if_any();
	int code = PQPOOL_OK;

	*slot = NULL;
	if (!conn)
		return PQPOOL_BAD_ARGUMENT;
	found = pqp_lookup(conn);
	if (!found)
		return PQPOOL_UNKNOWN_CONNECTION;
	if (!found->pool)
	{
		bool mine = me && found->own_thread == me->serial;

		pqp_lookup_unlock(conn);
		if (!mine)
			return PQPOOL_WRONG_THREAD;
		*slot = found;
		return PQPOOL_OK;
	}
	*word = pqp_item_word(&found->item);
	if (pqp_item_holder(*word) == 0)
		code = PQPOOL_NOT_LENT;
	else if ((*word & PQP_ITEM_BOUND) && !(me && pqp_item_holder(*word) == me->serial))
		code = PQPOOL_WRONG_THREAD;
	if (code != PQPOOL_OK)
		pqp_lookup_unlock(conn);
	else
		*slot = found;
	return code;
}

/* What came of making a returned connection fit for the next holder. */
typedef struct Returned
{
	bool good;
	bool pending;	/* and the keeper has it, until DISCARD ALL is done */
	bool commanded; /* the server had to be asked */
	bool lost_server;
	pqpool_close_reason reason; /* not good: why */
} Returned;

static Returned
make_fit(Slot *slot, int64_t now)
{
	Pool *pool = slot->pool;
	int64_t deadline = pqp_deadline(now, pool->options.reset_timeout_ms);
	Returned r = { .reason = PQPOOL_CLOSE_UNFIT };

	r.good = pqp_clean(slot, &pool->options, deadline, &r.commanded);
	if (r.good && !pqp_hook_release(slot))
	{
		r.good = false;
		r.reason = PQPOOL_CLOSE_HOOK;
	}
	if (r.good && pool->options.reset == PQP_RESET_DISCARD)
	{
		pqp_count(&pool->counters.resets, 1);
		slot->idle_since = now;
		r.pending = !pool->closed && pqp_reset_start(slot, deadline);
		if (r.pending)
			return r;
		r.good = pqp_discard_all(slot, deadline);
	}
	r.lost_server =
		r.good ? !pqp_on_target(slot) : PQstatus(slot->conn) != CONNECTION_OK || slot->fatal;
	if (r.lost_server)
	{
		r.good = false;
		r.reason = PQPOOL_CLOSE_DEAD;
	}
	return r;
}

static void
finish_loan(Slot *slot, bool keep)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	Returned r = { .reason = PQPOOL_CLOSE_DISCARD };
	const char *text = NULL;

	if (keep && (!pool->closed || pool->link.bye_pending))
		r = make_fit(slot, now);
	if (r.pending)
		return;
	if (r.commanded)
		now = pqp_now();
	if (r.good && now - slot->heard_at >= HEARING_US)
	{
		slot->heard_at = now;
		text = pqp_text(slot);
	}
	pthread_mutex_lock(&pool->lock);
	slot->idle_since = now;
	slot->seen_loans = slot->loans;
	if (r.commanded)
		slot->alive_at = now;
	pqp_count(&pool->counters.resets, r.commanded);
	pqp_heard(pool, slot->serial, text);
	if (r.lost_server)
		pqp_server_ended(pool, &work, now);
	if (r.good)
		pqp_put_back(slot, &work, now);
	else
	{
		pqp_count(&pool->counters.discarded, !pool->closed);
		pqp_retire(slot, &work, pool->closed ? PQPOOL_CLOSE_POOL : r.reason);
	}
	if (!r.good || text || pool->queue.head)
		pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

static void
trace(Slot *slot)
{
	Pool *pool = slot->pool;

	if (!pool->hooks.trace)
		return;
	pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_RELEASED,
									 .backend_pid = slot->backend_pid,
									 .tid = slot->tid,
									 .duration_us = pqp_now() - slot->lent_at,
									 .site = slot->site });
}

/* Nobody else can give it back any more.  False: somebody has. */
static bool
end_loan(Slot *slot, uint64_t word)
{
	if (!pqp_item_yield(&slot->item, word))
		return false;
	if (word & PQP_ITEM_BOUND)
		pqp_thread_if_any()->bound--;
	pqp_loan_ends(slot);
	return true;
}

static int
release_slowly(PGconn *conn, bool keep)
{
	uint64_t word;
	Slot *slot = last_loan(pqp_thread_if_any(), conn, &word);
	bool ended;
	int code;

	if (slot)
		ended = end_loan(slot, word);
	else
	{
		code = find_loan(conn, &slot, &word);
		if (!slot)
			return code;
		if (!slot->pool)
			return pqp_own_return(slot, keep);
		ended = end_loan(slot, word);
		pqp_lookup_unlock(conn);
	}
	if (!ended)
		return PQPOOL_NOT_LENT;
	trace(slot);
	finish_loan(slot, keep);
	return PQPOOL_OK;
}

static int
release(PGconn *conn, bool keep)
{
	int saved_errno = errno;
	int code = release_slowly(conn, keep);

	errno = saved_errno;
	return code;
}

int
pqpool_release(PGconn *conn)
{
	pqp_after_fork();
	if (release_fast(pqp_thread_if_any(), conn))
		return PQPOOL_OK;
	return release(conn, true);
}

int
pqpool_discard(PGconn *conn)
{
	pqp_after_fork();
	return release(conn, false);
}

/*
 * Binding.
 */

static int
set_bound(PGconn *conn, bool bound)
{
	Slot *slot;
	Thread *me;
	uint64_t word;
	int code;

	pqp_after_fork();
	me = pqp_thread();
	if (!me)
		return PQPOOL_OUT_OF_MEMORY;
	code = find_loan(conn, &slot, &word);
	if (!slot)
		return code;
	if (!slot->pool)
		return bound ? PQPOOL_OK : PQPOOL_WRONG_THREAD; /* it is his for good */
	if (!pqp_item_pass(&slot->item, word, pqp_item_mine(me->serial, bound)))
		code = PQPOOL_NOT_LENT;
	else
	{
		me->bound += bound - ((word & PQP_ITEM_BOUND) != 0);
		slot->tid = me->tid;
		if (bound)
			slot->pool->bound = true;
	}
	pqp_lookup_unlock(conn);
	return code;
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
