/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Borrowing for one who connects by himself.
 *
 * In the form of the library without threads (internal.h, "Two forms") it is
 * the program's own call that connects, in the program's own way: blocking, or
 * step by step from its event loop.  So it claims first, and gets either a connection that
 * is idle, or a place in which to put the one that it makes:
 *
 *		pqp_claim ---> claim->conn: a loan
 *		          \--> claim->opening: connect, with pqp_claim_begun as soon as there is a PGconn,
 *		               then pqp_claim_connected, which makes it a loan,
 *		               or pqp_claim_failed, which gives the place back
 *		           \-> neither: *err says why
 *
 * A program may leave us in the middle, by siglongjmp or as a cancelled thread: a handler
 * of SIGALRM that dies is how Perl's programs bound the time of connecting.  So what a
 * thread is about is remembered (Attempt), and undone when it next connects, or ends.
 * Accepted: who jumps out of one of the moments in which a lock is held leaves it locked,
 * as he would malloc's.
 *
 * One who connects step by step holds a place for as long as his event loop likes, and
 * it may be he himself who waits for it next: he is not waited for.
 *
 * Why connecting failed is for the program to see, from libpq; the pool draws no
 * conclusions from it, such as to leave the server alone for a while.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "claim.h"

typedef struct Attempt
{
	enum
	{
		ATTEMPT_NONE,
		ATTEMPT_QUEUED,
		ATTEMPT_OPENING
	} stage;
	Pool *pool;
	Caller caller;
	Claim claim;
} Attempt;

static __thread Attempt attempt;

/* What he was given when he was not there any more. */
static void
give_back(Pool *pool, Slot *slot, Thread *thread)
{
	pqpool_error err;

	if (slot->state == SLOT_OPENING)
	{
		Claim claim = { .pool = pool, .opening = slot };

		pqp_unref(pool); /* as in pqp_claim */
		pqp_claim_failed(&claim);
	}
	else if (pqp_item_holder(pqp_item_word(&slot->item)) == thread->serial)
		(void) pqpool_discard(pqp_loan(thread, slot, &err));
}

static void
leave_queue(Pool *pool, Waiter *waiter, Thread *thread)
{
	bool was_queued;

	pthread_mutex_lock(&pool->lock);
	was_queued = waiter->queued && pqp_waitq_remove(&pool->queue, waiter);
	if (was_queued)
		pool->refs--; /* the queue's; the handle's is there */
	pthread_mutex_unlock(&pool->lock);
	if (was_queued || (!waiter->item && waiter->code == PQPOOL_OK))
		return;
	(void) pqp_waitq_park(waiter, INT64_MAX); /* until he who took him out is done */
	if (waiter->item)
		give_back(pool, waiter->item, thread);
	else
		pqp_unref(pool);
}

/* By the thread, or in its last moments. */
void
pqp_claim_undo(Thread *thread)
{
	Attempt left = attempt;

	attempt.stage = ATTEMPT_NONE;
	if (left.stage == ATTEMPT_QUEUED)
		leave_queue(left.pool, &attempt.caller.waiter, thread);
	else if (left.stage == ATTEMPT_OPENING)
		pqp_claim_failed(&left.claim);
}

/* In the child of a fork, where there is nothing to be undone. */
void
pqp_claim_forked(void)
{
	attempt.stage = ATTEMPT_NONE;
}

static bool
holds_of(const Pool *pool, const Thread *thread)
{
	for (int i = 0; i < pool->nslots; i++)
		if (pqp_item_holder(pqp_item_word(&pqp_slot(pool, i)->item)) == thread->serial)
			return true;
	return false;
}

/*
 * Something is held by this thread already: who waits for himself waits for
 * ever, and so do two who wait for what the other one has, of two pools.
 */
static bool
holds_any(const Thread *thread)
{
	bool any = false;

	pqp_registry_lock();
	for (Pool *pool = pqp_registry_first(); pool && !any; pool = pool->next)
		any = holds_of(pool, thread);
	pqp_registry_unlock();
	return any;
}

/* A place for one that does not wait for it; NULL: all are taken. */
static Slot *
reserve(Pool *pool)
{
	Slot *slot = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pqp_lends(pool) && !pool->queue.head && pqp_size(pool) < pqp_limit(pool) &&
		pqp_may_open(pool))
		slot = pqp_slot_reserve(pool);
	pthread_mutex_unlock(&pool->lock);
	return slot;
}

/* *stepping: places are taken by programs that connect step by step. */
static bool
has_idle(Pool *pool, bool *stepping)
{
	bool any;

	pthread_mutex_lock(&pool->lock);
	any = pqp_idle_any(pool);
	*stepping = pool->stepping > 0;
	pthread_mutex_unlock(&pool->lock);
	return any;
}

/* One step by step is not counted against those who wait for the first one to be known. */
static void
begin_opening(Claim *claim, Slot *slot)
{
	claim->opening = slot;
	claim->began = pqp_boottime();
	claim->start = pqp_now();
	if (!claim->steps)
	{
		attempt.claim = *claim;
		attempt.stage = ATTEMPT_OPENING;
		return;
	}
	pthread_mutex_lock(&claim->pool->lock);
	claim->pool->stepping++;
	pthread_mutex_unlock(&claim->pool->lock);
}

static void
end_opening(Claim *claim)
{
	if (!claim->steps)
	{
		attempt.stage = ATTEMPT_NONE;
		return;
	}
	pthread_mutex_lock(&claim->pool->lock);
	if (claim->pool->stepping > 0) /* in the child of a fork it begins anew */
		claim->pool->stepping--;
	pthread_mutex_unlock(&claim->pool->lock);
}

/* He is queued, maybe: until we are back. */
static Slot *
acquire(Pool *pool, Thread *thread, Refusal *refusal)
{
	Slot *slot;

	attempt.pool = pool;
	attempt.stage = ATTEMPT_QUEUED;
	slot = pqp_acquire_slot(pool, thread, &attempt.caller, NULL, refusal);
	attempt.stage = ATTEMPT_NONE;
	return slot;
}

/*
 * An idle connection, or a place.  timeout_ms as in pqpool_acquire.  False:
 * neither; *err says why, and claim->alone that the caller could wait for nobody but himself.
 */
bool
pqp_claim(Pool *pool, int timeout_ms, Claim *claim, pqpool_error *err)
{
	Thread *thread = pqp_thread();
	Caller *caller = &attempt.caller;
	Refusal refusal;
	Slot *slot;
	bool idle, stepping;

	*claim = (Claim){ .pool = pool, .steps = timeout_ms == 0 };
	if (!thread)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return false;
	}
	pqp_claim_undo(thread);
	*caller = (Caller){ .since = pqp_now() };
	claim->borrower = caller->borrower = (Borrower){ .mine = pqp_item_mine(thread->serial, false),
													 .tid = thread->tid,
													 .since = caller->since };
	claim->alone = timeout_ms != 0 && holds_of(pool, thread);
	if (claim->alone)
		timeout_ms = 0;
	caller->deadline = pqp_deadline(
		caller->since, timeout_ms == -1 ? pool->options.acquire_timeout_ms : timeout_ms);
	pqp_reset_help(pool, caller->deadline);
	pqp_reset_newest(pool);
	pqp_keeper_visit();
	idle = has_idle(pool, &stepping);
	slot = idle ? NULL : reserve(pool);
	if (slot)
	{
		begin_opening(claim, slot);
		return true;
	}
	/*
	 * All pools are looked at by who would wait, and by nobody else.  Accepted: when the
	 * idle one is another's the moment after, he who holds something does wait.
	 */
	if (!idle && timeout_ms != 0 && (stepping || holds_any(thread)))
	{
		claim->alone = true;
		caller->deadline = caller->since;
	}
	slot = acquire(pool, thread, &refusal);
	if (!slot)
	{
		pqp_report_refusal(pool, caller, &refusal, err);
		if (refusal.referenced)
			pqp_unref(pool);
		return false;
	}
	if (slot->state == SLOT_OPENING)
	{
		begin_opening(claim, slot);
		pqp_unref(pool); /* the waiter's; the slot has one */
		return true;
	}
	claim->conn = pqp_loan(thread, slot, err);
	return true;
}

/*
 * The place's PGconn is made, and nobody has it yet.  Who hears notices now is
 * libpq's default, for the next holder; a program that connects step by step may set
 * its own before it is connected.
 */
void
pqp_claim_begun(const Claim *claim, PGconn *conn)
{
	claim->opening->receiver = pqp_libpq.PQsetNoticeReceiver(conn, NULL, NULL);
	claim->opening->processor = pqp_libpq.PQsetNoticeProcessor(conn, NULL, NULL);
}

/*
 * The place has its connection, and that is the caller's loan.  False: not any more, the
 * pool was closed.
 */
bool
pqp_claim_connected(Claim *claim, PGconn *conn)
{
	Slot *slot = claim->opening;

	end_opening(claim);
	claim->opening = NULL;
	claim->conn = conn;
	return pqp_opened(slot, conn, claim->began, pqp_now() - claim->start, &claim->borrower);
}

/* The place is free again, for whoever waits for one. */
void
pqp_claim_failed(Claim *claim)
{
	Pool *pool = claim->pool;
	Work work = { 0 };

	end_opening(claim);
	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.open_failures, 1);
	pqp_slot_free(claim->opening);
	if (pool->watchers > 0)
		pthread_cond_broadcast(&pool->changed);
	pqp_pump(pool, &work, pqp_now());
	pqp_unlock(pool, &work);
	claim->opening = NULL;
	pqp_unref(pool); /* the slot's */
}

/* A loan has got another session, by PQreset. */
void
pqp_claim_reconnected(PGconn *conn, int64_t began)
{
	Slot *slot = pqp_lookup(conn);
	Pool *pool;
	Work work = { 0 };
	const char *text;

	if (!slot)
		return;
	pool = slot->pool;
	text = pqp_text(slot);
	slot->backend_pid = pqp_libpq.PQbackendPID(conn);
	pqp_note_socket(slot);
	slot->alive_at = slot->heard_at = pqp_now();
	slot->fatal = false;
	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.opened, 1);
	slot->suspicion = pool->suspicion;
	slot->look = pool->look;
	pqp_connected(pool, slot->serial, text, began);
	pqp_pump(pool, &work, pqp_now());
	pqp_lookup_unlock(conn);
	pqp_unlock(pool, &work);
}
