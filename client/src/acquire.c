/*-------------------------------------------------------------------------
 *
 * acquire.c
 *	  The beginning of a loan.
 *
 * Take an idle connection, or queue until one is handed over; look whether it
 * is alive; if it is not, go back to the head of the queue.  All within one
 * deadline.
 *
 * What goes wrong is noted under the lock, in a Refusal, and put into words
 * without it.
 *
 * Accepted: a caller who is between two attempts holds no reference.  If the
 * pool is closed and its last reference goes just then, he meets it in its
 * grave (registry.c), closed.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdio.h>

#include "loan.h"

#define DEADLOCK_US 10000 /* in the queue for so long, then twice that, and so on: see deadlock.c */
#define ANSWER_US 250000  /* a server that is well answers within that */
#define SLICE_US 100000	  /* without a keeper, waiters look after themselves this often */

/*
 * Why not.
 */

/* The deadline has passed: what was it waiting for? */
static int
timeout_code(const Pool *pool)
{
	const Allotment *allotment = &pool->link.allotment;

	if (pool->paused || pqp_server_paused(pool))
		return PQPOOL_PAUSED;
	if (pqp_limit(pool) < pool->max_size)
	{
		if (allotment->state == ALLOTMENT_QUEUED || allotment->limit == 0)
			return PQPOOL_QUEUED;
		if (pqp_size(pool) >= pqp_limit(pool))
			return PQPOOL_OVER_ALLOTMENT;
	}
	return PQPOOL_TIMED_OUT;
}

/* Write "...: 20 of 20 in use, 3 before you, allotment 20".  With the lock held. */
static void
describe(const Pool *pool, const Caller *caller, int before, char *buf, size_t size, int64_t now)
{
	Sizes n = pqp_sizes(pool);
	size_t used =
		(size_t) snprintf(buf, size, "%lld ms: %d of %d in use",
						  (long long) ((now - caller->since) / 1000), n.in_use, pqp_limit(pool));

	if (n.size > n.in_use && used < size)
		used += (size_t) snprintf(buf + used, size - used,
								  ", %d idle, %d opening, %d resetting, %d closing", n.idle,
								  n.opening, n.resetting, n.closing);
	if (caller->refused > 0 && used < size)
		used += (size_t) snprintf(buf + used, size - used,
								  ", %d refused by the hook before_acquire", caller->refused);
	if (used < size)
		used += (size_t) snprintf(buf + used, size - used, ", %d before you", before);
	if (pqp_server_paused(pool) && used < size)
		used += (size_t) snprintf(buf + used, size - used, ", paused by the server");
	if (pool->link.attached && pqp_limit(pool) < pool->max_size && used < size)
		(void) snprintf(buf + used, size - used, ", allotment %d of at most %d", pqp_limit(pool),
						pool->max_size);
}

static void
refuse(Pool *pool, const Caller *caller, int code, int before, Refusal *refusal, int64_t now)
{
	refusal->code = code;
	refusal->referenced = false;
	refusal->telling = pqp_telling_begins(pool);
	refusal->waited = now - caller->since;
	refusal->failure = pool->failure;
	if (code == PQPOOL_TIMED_OUT && refusal->failure.code == PQPOOL_OK)
		pqp_opening_waits(pool, &refusal->failure);
	describe(pool, caller, before, refusal->figures, sizeof(refusal->figures), now);
	switch (code)
	{
		case PQPOOL_TIMED_OUT:
		case PQPOOL_OVER_ALLOTMENT:
		case PQPOOL_QUEUED:
		case PQPOOL_PAUSED:
			pqp_count(&pool->counters.timeouts, 1);
			pqp_count(&pool->counters.wait[pqp_link_bucket(now - caller->since)], 1);
			break;
		default:
			break;
	}
	pqp_count(&pool->counters.errors[code], 1);
}

static int
explain(const Pool *pool, const Refusal *refusal, pqpool_error *err)
{
	const char *name = pool->options.name;
	const char *threads = refusal->threads;

	switch (refusal->code)
	{
		case PQPOOL_TIMED_OUT:
		case PQPOOL_OVER_ALLOTMENT:
		case PQPOOL_QUEUED:
		case PQPOOL_PAUSED:
			(void) pqp_error_set(
				err, refusal->code, "pool \"%s\": timed out after %s%s%s%s%s", name,
				refusal->figures, refusal->code == PQPOOL_TIMED_OUT ? "" : "; ",
				refusal->code == PQPOOL_TIMED_OUT ? "" : pqpool_strerror(refusal->code),
				threads[0] ? "; all of them were acquired by threads that wait as well: " : "",
				threads);
			return pqp_error_cause(err, &refusal->failure);
		case PQPOOL_DEADLOCK:
			return pqp_error_set(err, refusal->code,
								 "pool \"%s\": deadlock: after %s; all of them are held by threads "
								 "that wait as well: %s",
								 name, refusal->figures, threads);
		case PQPOOL_SERVER_DOWN:
		case PQPOOL_SERVER_FULL:
		case PQPOOL_REFUSED:
		case PQPOOL_HOOK:
		case PQPOOL_OUT_OF_MEMORY:
			(void) pqp_error_set(err, refusal->code, "pool \"%s\": %s", name,
								 pqpool_strerror(refusal->code));
			return pqp_error_cause(err, &refusal->failure);
		case PQPOOL_EXHAUSTED:
			return pqp_error_set(err, refusal->code, "pool \"%s\": %s: after %s", name,
								 pqpool_strerror(refusal->code), refusal->figures);
		default:
			return pqp_error_set(err, refusal->code, "pool \"%s\": %s", name,
								 pqpool_strerror(refusal->code));
	}
}

/*
 * Waiting.
 */

static int
max_waiters(const Pool *pool)
{
	return pool->options.max_waiters > 0 ? pool->options.max_waiters : 10 * pool->max_size;
}

/*
 * Take an idle connection.  If there is none, every holder will come by, so
 * that the caller may queue.  With the lock held.
 */
static Slot *
take_idle(Pool *pool, const Caller *caller, const Thread *thread, int64_t now)
{
	Slot *slot;

	if (!pqp_lends(pool))
		return NULL;
	slot = pqp_idle_claim(pool, thread);
	if (slot)
		pqp_lend(slot, &caller->borrower, caller->since, now);
	return slot;
}

/* May the caller not wait?  With the lock held; PQPOOL_OK: he may. */
static int
refusal_code(Pool *pool, const Caller *caller, bool first, int64_t now)
{
	if (pool->closed)
		return PQPOOL_CLOSED;
	if (pqp_hopeless(pool, now))
		return pool->failure.code;
	if (now >= caller->deadline)
	{
		pool->spare_wanted = pqp_has_threads;
		return timeout_code(pool);
	}
	if (!first && pool->queue.length >= max_waiters(pool))
		return PQPOOL_EXHAUSTED;
	return PQPOOL_OK;
}

static int
count_before(const Caller *caller)
{
	int n = 0;

	for (Waiter *w = caller->waiter.queued ? caller->waiter.previous : NULL; w; w = w->previous)
		n++;
	return n;
}

/*
 * The time until which to sleep at a stretch: the deadline, but for a look at
 * whether this is a deadlock, and for doing what a keeper would do if there is
 * none.
 */
static int64_t
slice(const Pool *pool, const Caller *caller, int64_t look_at, int64_t now)
{
	int64_t until = caller->deadline;

	if (PQP_PEEK(&pool->bound) && look_at < until)
		until = look_at;
	if (!pqp_keeper_ensure() && now + SLICE_US < until)
		until = now + SLICE_US;
	return until;
}

/*
 * Where there is no keeper all may be in the queue, and nobody come by who sees what is on
 * its way back, or tells the server that they wait.
 */
static void
help_others(Pool *pool)
{
	if (pqp_has_threads)
		return;
	pqp_reset_help(pool, 0);
	pqp_keeper_visit();
}

/*
 * Sleep until told.  PQPOOL_OK: told.  Else the caller has left the queue, the
 * lock is held, and refusal has what it takes to explain this code.
 */
static int
sleep_in_queue(Pool *pool, Caller *caller, Refusal *refusal, int *before)
{
	int64_t patience = DEADLOCK_US, look_at = pqp_now() + patience;

	refusal->threads[0] = '\0';
	for (;;)
	{
		int64_t until = slice(pool, caller, look_at, pqp_now());
		Work work = { 0 };

		if (pqp_waitq_park(&caller->waiter, until))
			return PQPOOL_OK;
		if (until == look_at)
		{
			if (pqp_deadlocked(pool, &caller->waiter, true, refusal->threads,
							   sizeof(refusal->threads)))
			{
				pthread_mutex_lock(&pool->lock);
				return PQPOOL_DEADLOCK;
			}
			patience *= 2;
			look_at += patience;
		}
		if (until == caller->deadline)
			(void) pqp_deadlocked(pool, NULL, false, refusal->threads, sizeof(refusal->threads));
		pthread_mutex_lock(&pool->lock);
		*before = count_before(caller);
		if (until < caller->deadline)
			pqp_pump(pool, &work, pqp_now());
		else if (pqp_waitq_remove(&pool->queue, &caller->waiter))
			return timeout_code(pool);
		pqp_unlock(pool, &work);
		if (until == caller->deadline)
		{
			/* handed over at the last moment */
			(void) pqp_waitq_park(&caller->waiter, INT64_MAX);
			return PQPOOL_OK;
		}
		help_others(pool);
	}
}

/*
 * May the caller try another connection after a dead one?  Past his deadline no
 * check can succeed, and good connections would be taken for dead.  One who
 * does not wait makes no check that takes time.
 */
static bool
has_time(const Caller *caller, int64_t now)
{
	return now < caller->deadline || caller->deadline == caller->since;
}

/*
 * Get a connection if it is the caller's turn, or queue.  first: he had his
 * turn already, and comes before those who wait.  NULL, and refusal->code is
 * PQPOOL_OK: he is queued, with a reference to the pool that goes to whoever takes
 * him out; and he may have been told before we return.  Else: why not.
 */
Slot *
pqp_turn_begin(Pool *pool, Caller *caller, const Thread *thread, bool first, int64_t now,
			   Refusal *refusal)
{
	Work work = { 0 };
	Slot *slot = NULL;

	refusal->code = PQPOOL_OK;
	refusal->threads[0] = '\0';
	pthread_mutex_lock(&pool->lock);
	if (first ? has_time(caller, now) : !pool->queue.head)
		slot = take_idle(pool, caller, thread, now);
	if (slot)
	{
		pthread_mutex_unlock(&pool->lock);
		return slot;
	}
	refusal->code = refusal_code(pool, caller, first, now);
	if (refusal->code != PQPOOL_OK)
		refuse(pool, caller, refusal->code, pool->queue.length, refusal, now);
	else
	{
		if (first)
			pqp_waitq_push_front(&pool->queue, &caller->waiter);
		else
			pqp_waitq_push(&pool->queue, &caller->waiter);
		pool->refs++;
		pqp_nudge(pool, &work, pqp_report_due(pool, now));
		if (caller->tell)
			pqp_nudge(pool, &work, caller->deadline);
	}
	pqp_pump(pool, &work, now); /* one may be opened, if only a spare */
	pqp_unlock(pool, &work);
	return NULL;
}

/* For one who does not sleep in the queue: he was told no, with this code. */
void
pqp_turn_denied(Pool *pool, const Caller *caller, int code, Refusal *refusal)
{
	refusal->threads[0] = '\0';
	pthread_mutex_lock(&pool->lock);
	refuse(pool, caller, code, 0, refusal, pqp_now());
	pthread_mutex_unlock(&pool->lock);
}

/* The same: his time is over, while he is queued.  With the lock held. */
void
pqp_turn_expired(Pool *pool, Caller *caller, Refusal *refusal, int64_t now)
{
	int before = count_before(caller);

	refusal->threads[0] = '\0';
	(void) pqp_waitq_remove(&pool->queue, &caller->waiter);
	refuse(pool, caller, timeout_code(pool), before, refusal, now);
	pool->refs--; /* the queue's; he has one of his own */
}

/* Where there is no keeper: see to it that what is on its way back arrives. */
static void
help(Pool *pool, const Caller *caller)
{
	if (pqp_has_threads)
		return;
	pqp_reset_help(pool, caller->deadline);
	pqp_keeper_visit();
}

/*
 * Where there is no keeper nobody else looks at a reset that was begun just before the
 * caller was in the queue, nor at a report; who gives back later sees him there.
 * True: he has left the queue, to do it.
 */
static bool
step_out_to_help(Pool *pool, Caller *caller)
{
	bool out;

	if (pqp_has_threads)
		return false;
	pthread_mutex_lock(&pool->lock);
	out = (pool->resets || (pool->report.slot && !pqp_keeper_visited())) &&
		  pqp_waitq_remove(&pool->queue, &caller->waiter);
	if (out)
		pool->refs--; /* the queue's; the caller has the handle */
	pthread_mutex_unlock(&pool->lock);
	return out;
}

/* The same for a thread that waits as long as it takes.  NULL: *refusal says why not. */
static Slot *
take_turn(Pool *pool, Caller *caller, const Thread *thread, bool first, int64_t now,
		  Refusal *refusal)
{
	Slot *slot;
	int before = 0, code;

	do
	{
		help(pool, caller);
		slot = pqp_turn_begin(pool, caller, thread, first, now, refusal);
		if (slot || refusal->code != PQPOOL_OK)
			return slot;
	} while (step_out_to_help(pool, caller));
	code = sleep_in_queue(pool, caller, refusal, &before);
	if (code == PQPOOL_OK)
	{
		if (caller->waiter.item)
			return caller->waiter.item;
		code = caller->waiter.code;
		pthread_mutex_lock(&pool->lock);
	}
	refuse(pool, caller, code, before, refusal, pqp_now());
	refusal->referenced = true;
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/*
 * What was handed out is of no use: it is closed, and it was no acquire.  If
 * the hook refuses one that it has never let pass, it may refuse the next one as
 * well: no hurry then.
 */
static void
give_up(Slot *slot, const Caller *caller, pqpool_close_reason reason, int64_t now)
{
	Pool *pool = slot->pool;
	Work work = { 0 };

	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.acquires, (uint64_t) -1);
	pqp_count(&pool->counters.wait[pqp_link_bucket(slot->lent_at - caller->since)], (uint64_t) -1);
	if (reason == PQPOOL_CLOSE_DEAD)
	{
		pqp_count(&pool->counters.found_dead, 1);
		pqp_server_ended(pool, &work, now);
	}
	pqp_retire(slot, &work, reason);
	if (reason == PQPOOL_CLOSE_HOOK && !slot->admitted)
		pqp_opening_rests(pool, now);
	pool->refs++; /* the slot's may be the last but the handle's */
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
	pqp_unref(pool);
}

static bool
is_suspect(const Slot *slot)
{
	return slot->suspicion != atomic_load_explicit(&slot->pool->suspicion, memory_order_relaxed);
}

/* Has the server to be asked, before it is lent? */
static bool
has_to_be_asked(const Slot *slot, int64_t now)
{
	int64_t used_at = slot->alive_at > slot->idle_since ? slot->alive_at : slot->idle_since;
	int64_t validate_after = slot->pool->options.validate_after_ms;

	return is_suspect(slot) || (validate_after >= 0 && now - used_at >= validate_after * 1000);
}

/* Is it known or seen to be good, without asking anybody?  False: it may still be. */
bool
pqp_seen_good(Slot *slot, int64_t now)
{
	if (slot->pool->careful || has_to_be_asked(slot, now))
		return false;
	if (now - slot->alive_at < slot->pool->trust_us)
		return true;
	if (!pqp_alive(slot))
		return false;
	slot->alive_at = now;
	return true;
}

/*
 * The same for one that was found good, and has been waiting for its borrower
 * since.  With pool_validate_after=0 it was asked a moment ago.
 */
bool
pqp_still_good(Slot *slot, int64_t now)
{
	int64_t validate_after = slot->pool->options.validate_after_ms;

	if (is_suspect(slot) || (validate_after > 0 && has_to_be_asked(slot, now)))
		return false;
	return now - slot->alive_at < slot->pool->trust_us || pqp_alive(slot);
}

/*
 * Until when the server may take to answer: pool_reset_timeout, but so that the
 * caller has time left to try another one, if he has any to speak of.
 */
static int64_t
answer_deadline(const Pool *pool, const Caller *caller, int64_t now)
{
	int64_t deadline = pqp_deadline(now, pool->options.reset_timeout_ms);
	int64_t left = caller->deadline - now;

	if (left / 2 > ANSWER_US)
		left /= 2;
	return left < deadline - now ? now + left : deadline;
}

/* Is what was handed out good?  If not, it is closed. */
bool
pqp_is_good(Slot *slot, const Caller *caller, bool may_wait, int64_t now)
{
	Pool *pool = slot->pool;
	bool ask = may_wait && has_to_be_asked(slot, now);
	Work work = { 0 };

	if (!is_suspect(slot) && now - slot->alive_at < pool->trust_us)
		return true;
	if (pqp_alive(slot))
	{
		slot->alive_at = now;
		if (!ask)
			return true;
		if (pqp_round_trip(slot, answer_deadline(pool, caller, now)) && pqp_on_target(slot))
		{
			const char *text = pqp_text(slot);

			pthread_mutex_lock(&pool->lock);
			slot->suspicion = pool->suspicion;
			pqp_heard(pool, slot->serial, text);
			pqp_pump(pool, &work, pqp_now()); /* it may end a pause */
			pqp_unlock(pool, &work);
			return true;
		}
	}
	/* cut short by the caller's deadline, that says nothing of the server */
	give_up(slot, caller, pqp_now() < caller->deadline ? PQPOOL_CLOSE_DEAD : PQPOOL_CLOSE_UNFIT,
			now);
	return false;
}

/* The hook before_acquire has its say, and tracing. */
bool
pqp_admitted(Slot *slot, Caller *caller)
{
	Pool *pool = slot->pool;

	if (!pool->careful)
		return true;
	if (!pqp_hook_acquire(slot))
	{
		caller->refused++;
		give_up(slot, caller, PQPOOL_CLOSE_HOOK, pqp_now());
		return false;
	}
	slot->admitted = true;
	if (pool->hooks.trace)
		pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_ACQUIRED,
										 .backend_pid = slot->backend_pid,
										 .tid = slot->tid,
										 .duration_us = pqp_now() - caller->since,
										 .site = slot->site });
	return true;
}

void
pqp_report_refusal(Pool *pool, const Caller *caller, const Refusal *refusal, pqpool_error *err)
{
	pqpool_error mine;

	if (!err)
		err = &mine;
	(void) explain(pool, refusal, err);
	if (!refusal->telling)
		return;
	pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_REFUSED,
									 .code = refusal->code,
									 .tid = caller->borrower.tid,
									 .duration_us = refusal->waited,
									 .site = caller->borrower.site,
									 .sqlstate = err->sqlstate,
									 .message = err->message });
	pqp_telling_ends(pool);
}

/* The thread has this loan; the next one is likely to be of the same slot. */
PGconn *
pqp_loan(Thread *thread, Slot *slot, pqpool_error *err)
{
	thread->last = slot;
	thread->last_pool = slot->pool->serial;
	thread->last_freed = PQP_PEEK(&pqp_pools_freed);
	thread->bound += (pqp_item_word(&slot->item) & PQP_ITEM_BOUND) != 0;
	(void) pqp_error_clear(err);
	return slot->conn;
}

/*
 * Get a slot for the caller: lent, and good; or OPENING, which he is to open
 * himself, and then he still has the waiter's reference to the pool.  slot: what
 * the fast path got, to be checked; or NULL.  NULL: *refusal says why not.
 */
Slot *
pqp_acquire_slot(Pool *pool, Thread *thread, Caller *caller, Slot *slot, Refusal *refusal)
{
	int64_t now = caller->had_turn ? pqp_now() : caller->since;

	caller->had_turn = caller->had_turn || slot;
	for (;;)
	{
		if (!slot)
			slot = take_turn(pool, caller, thread, caller->had_turn, now, refusal);
		if (!slot)
			return NULL;
		if (caller->had_turn || slot->lent_at != now)
			now = pqp_now(); /* it took a while */
		caller->had_turn = true;
		if (slot->state == SLOT_OPENING ||
			(pqp_is_good(slot, caller, caller->deadline > caller->since, now) &&
			 pqp_admitted(slot, caller)))
			return slot;
		now = pqp_now();
		slot = NULL;
	}
}

/* slot: as above. */
static PGconn *
acquire_slowly(Pool *pool, Thread *thread, Caller *caller, Slot *slot, pqpool_error *err)
{
	Refusal refusal;

	if (pool->options.reset == PQP_RESET_DISCARD && caller->deadline > caller->since)
		pqp_reset_own(pool, thread);

	for (;;)
	{
		bool mine;

		slot = pqp_acquire_slot(pool, thread, caller, slot, &refusal);
		if (!slot)
		{
			pqp_report_refusal(pool, caller, &refusal, err);
			if (refusal.referenced)
				pqp_unref(pool);
			return NULL;
		}
		if (slot->state != SLOT_OPENING)
			return pqp_loan(thread, slot, err);
		/* no helper could be had; here the waiter's reference is still ours */
		mine = pqp_open_slot(slot, caller->deadline, &caller->borrower);
		pqp_unref(pool);
		if (mine && pqp_admitted(slot, caller))
			return pqp_loan(thread, slot, err);
		slot = NULL;
	}
}

/*
 * The fast path: the thread's last connection, if it is free and nobody waits.
 */
PGconn *
pqp_acquire(Pool *pool, int timeout_ms, bool bound, const char *site, pqpool_error *err)
{
	Thread *thread = pqp_thread();
	Caller caller = { .since = 0 };
	Slot *slot = NULL;
	uint64_t mine;

	if (!thread)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	mine = pqp_item_mine(thread->serial, bound);
	if (thread->last_pool == pool->serial && pqp_item_take(&pool->queue, &thread->last->item, mine))
	{
		int64_t now = pqp_now_coarse();

		slot = thread->last;
		thread->last_freed = PQP_PEEK(&pqp_pools_freed);
		pqp_loan_begins(slot, thread->tid, site, now);
		if (bound && !PQP_PEEK(&pool->bound))
			PQP_POKE(&pool->bound, true);
		if (now - slot->alive_at < pool->trust_us)
		{
			thread->bound += bound;
			(void) pqp_error_clear(err);
			return PQP_PEEK(&slot->conn);
		}
	}
	caller.since = pqp_now();
	caller.borrower =
		(Borrower){ .mine = mine, .tid = thread->tid, .site = site, .since = caller.since };
	caller.deadline = pqp_deadline(caller.since, timeout_ms == -1 ? pool->options.acquire_timeout_ms
																  : timeout_ms);
	return acquire_slowly(pool, thread, &caller, slot, err);
}

PGconn *
pqpool_acquire_at(pqpool *pool, int timeout_ms, pqpool_error *err, const char *site)
{
	pqp_after_fork();
	if (!pool || timeout_ms < -1)
	{
		(void) pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "%s",
							 pool ? "the timeout must be -1 or more" : "no pool was given");
		return NULL;
	}
	return pqp_acquire(pool, timeout_ms, pool->options.bind_thread, site, err);
}

PGconn *
pqpool_acquire(pqpool *pool, int timeout_ms, pqpool_error *err)
{
	return pqpool_acquire_at(pool, timeout_ms, err, NULL);
}
