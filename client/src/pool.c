/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  Connections and waiters: who gets which when.
 *
 * Everything that changes a pool ends in pqp_pump, which does what is due: give
 * idle connections to waiters, close what is above the limit, open what is
 * wanted.  So there is one place that decides, and forgetting to wake somebody
 * is hard.  What must happen without the lock is collected in a Work and done
 * by pqp_unlock.
 *
 * Order of idle connections: the thread's own last one if idle, else the one
 * given back last, so that the others can time out.  Order of waiters: FIFO; a
 * newcomer queues if anybody does; one that was handed a dead connection goes
 * back to the head.  What happens without the lock, and how that is kept
 * together with this, is in waitq.h.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#define RESET_SOON_US \
	100000 /* a reset that takes longer is not waited for, if more may be opened */

/*
 * Idle connections.
 */

void
pqp_idle_add(Slot *slot)
{
	WaitQueue *queue = &slot->pool->queue;
	Item *older;

	/* what the fast path took is in the list yet, and must not become its own neighbour */
	pqp_item_unlist(queue, &slot->item);
	/* the fast path trusts what was looked at lately, and knows of no suspicion */
	if (slot->suspicion != slot->pool->suspicion)
		slot->alive_at = 0;
	older = queue->newest;
	/* one that comes back from a report is as old as before */
	while (older && ((Slot *) older)->idle_since > slot->idle_since)
		older = older->older;
	pqp_item_list(queue, &slot->item, older);
}

/* The one to lend next, HELD; NULL: none is idle, and every holder will come by. */
Slot *
pqp_idle_claim(Pool *pool, const Thread *thread)
{
	if (thread && thread->last_pool == pool->serial && thread->last->item.listed &&
		pqp_item_claim(&thread->last->item))
	{
		pqp_item_unlist(&pool->queue, &thread->last->item);
		return thread->last;
	}
	return (Slot *) pqp_waitq_claim(&pool->queue);
}

/* The one put into the list first, likewise. */
static Slot *
claim_oldest(Pool *pool)
{
	while (pool->queue.oldest)
	{
		Item *item = pool->queue.oldest;
		bool claimed = pqp_item_claim(item);

		pqp_item_unlist(&pool->queue, item);
		if (claimed)
			return (Slot *) item;
	}
	return NULL;
}

/* Is any idle, as far as can be seen without disturbing anybody? */
bool
pqp_idle_any(Pool *pool)
{
	for (Item *item = pool->queue.newest; item; item = item->older)
		if (pqp_item_word(item) & PQP_ITEM_FREE)
			return true;
	return false;
}

bool
pqp_idle_borrow(Slot *slot)
{
	if (!pqp_item_claim(&slot->item))
		return false;
	pqp_item_unlist(&slot->pool->queue, &slot->item);
	slot->borrowed = true;
	slot->pool->borrowed++;
	return true;
}

void
pqp_idle_bring_back(Slot *slot)
{
	slot->borrowed = false;
	slot->pool->borrowed--;
}

/* Whoever has a connection shall come by when he is done with it. */
void
pqp_call_all(Pool *pool)
{
	for (int i = 0; i < pool->nslots; i++)
		if (pqp_slot(pool, i)->state == SLOT_OPEN)
			pqp_item_call(&pqp_slot(pool, i)->item);
}

/*
 * Work: what is left to do once the lock is dropped.
 */

/* A slot that the caller has, and nobody uses any more, is to be closed. */
void
pqp_retire(Slot *slot, Work *work, pqpool_close_reason reason)
{
	pqp_item_unlist(&slot->pool->queue, &slot->item);
	pqp_item_hold(&slot->item);
	pqp_slot_state(slot, SLOT_CLOSING);
	slot->reason = slot->lost ? PQPOOL_CLOSE_FINISHED : reason;
	/* a full server is left alone for long only while there is something to lend */
	if (slot->pool->count[SLOT_OPEN] == 0 && slot->pool->failure.code == PQPOOL_SERVER_FULL)
		slot->pool->retry_at = 0;
	if (reason == PQPOOL_CLOSE_LIFETIME)
		slot->pool->retired_at = pqp_now();
	slot->next = work->close;
	work->close = slot;
}

static void
tell_later(Waiter *waiter, Work *work)
{
	Waiter **end = &work->wake;

	while (*end)
		end = &(*end)->next;
	waiter->next = NULL;
	*end = waiter;
}

void
pqp_fail_waiters(Pool *pool, Work *work, int code)
{
	Waiter *waiter;

	while ((waiter = pqp_waitq_pop(&pool->queue)) != NULL)
	{
		waiter->item = NULL;
		waiter->code = code;
		waiter->next = work->wake;
		work->wake = waiter;
	}
}

/* The keeper is to look at this pool at that time, if not before. */
void
pqp_nudge(Pool *pool, Work *work, int64_t when)
{
	if (when < pool->keeper_due)
	{
		pool->keeper_due = when;
		work->kick = true;
	}
}

/* No helper can open this slot: whoever waits first shall do it himself. */
static void
hand_over_opening(Task *task)
{
	Slot *slot = pqp_task_slot(task);
	Pool *pool = slot->pool;
	Waiter *waiter;

	pthread_mutex_lock(&pool->lock);
	waiter = pqp_waitq_pop(&pool->queue);
	if (waiter)
		waiter->item = slot;
	else
	{
		pqp_slot_free(slot);
		if (pool->watchers > 0)
			pthread_cond_broadcast(&pool->changed);
	}
	pthread_mutex_unlock(&pool->lock);
	if (waiter)
		pqp_waitq_tell(waiter);
	else
		pqp_unref(pool);
}

static void
reset_task(Task *task)
{
	Slot *slot = pqp_task_slot(task);
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	int64_t deadline = pqp_deadline(now, pool->options.reset_timeout_ms);
	pqpool_close_reason reason = PQPOOL_CLOSE_UNFIT;
	bool commanded;
	bool good = pqp_clean(slot, &pool->options, deadline, &commanded);

	if (good && !pqp_hook_release(slot))
	{
		good = false;
		reason = PQPOOL_CLOSE_HOOK;
	}
	good = good && (pool->options.reset != PQP_RESET_DISCARD || pqp_discard_all(slot, deadline));

	now = pqp_now();
	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.resets, commanded);
	slot->idle_since = now;
	if (commanded)
		slot->alive_at = now;
	if (good)
		pqp_put_back(slot, &work, now);
	else
	{
		pqp_count(&pool->counters.discarded, 1);
		pqp_retire(slot, &work, reason);
	}
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

static void
submit(Slot *slot, int kind, void (*run)(Task *), void (*otherwise)(Task *))
{
	slot->task = (Task){ .kind = kind, .run = run, .otherwise = otherwise };
	pqp_helper_submit(&slot->task);
}

static void
tell(Caller *caller)
{
	if (caller->tell)
		caller->tell(caller);
	else
		pqp_waitq_tell(&caller->waiter);
}

/* Keep up to date what others read without the lock. */
void
pqp_gate(Pool *pool)
{
	int limit = pqp_limit(pool);

	if (pool->limit != limit)
		pool->limit = limit;
	pqp_waitq_gate(&pool->queue, pool->careful || !pqp_lends(pool));
}

void
pqp_unlock(Pool *pool, Work *work)
{
	int before = pool->limit, limit;
	bool telling;

	pqp_gate(pool);
	limit = pool->limit;
	telling = limit != before && pqp_telling_begins(pool);
	pthread_mutex_unlock(&pool->lock);
	while (work->wake)
	{
		Waiter *waiter = work->wake;

		work->wake = waiter->next;
		tell((Caller *) waiter);
	}
	if (work->close)
		pqp_close_slots(work->close);
	while (work->open)
	{
		Slot *slot = work->open;

		work->open = slot->next;
		submit(slot, TASK_OPEN, pqp_open_task, hand_over_opening);
	}
	while (work->reset)
	{
		Slot *slot = work->reset;

		work->reset = slot->next;
		submit(slot, TASK_OTHER, reset_task, reset_task);
	}
	if (work->kick)
		pqp_keeper_kick();
	if (telling)
	{
		pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_LIMIT, .number = limit });
		pqp_telling_ends(pool);
	}
}

/*
 * Lending.
 */

/* May idle connections be lent at all? */
bool
pqp_lends(const Pool *pool)
{
	return !pool->closed && !pool->paused && !pqp_server_paused(pool);
}

/* The loan begins; the slot is the caller's already, HELD.  He waited since then. */
void
pqp_lend(Slot *slot, const Borrower *borrower, int64_t since, int64_t now)
{
	Pool *pool = slot->pool;

	slot->tid = borrower->tid;
	slot->site = borrower->site;
	slot->lent_at = now;
	slot->measured_at = now;
	if (borrower->mine & PQP_ITEM_BOUND)
		pool->bound = true;
	pqp_item_lend(&slot->item, borrower->mine);
	pqp_count(&pool->counters.acquires, 1);
	pqp_count(&pool->counters.wait[pqp_link_bucket(now - since)], 1);
}

static void
grant(Slot *slot, Caller *caller, Work *work, int64_t now)
{
	pqp_lend(slot, &caller->borrower, caller->since, now);
	caller->waiter.item = slot;
	slot->pool->refs--; /* the waiter's; the slot holds one */
	tell_later(&caller->waiter, work);
}

/*
 * Lifetimes end one at a time, at least this far apart, so that connections
 * opened together are not replaced together.  Twenty gaps of all connections
 * make a lifetime, and lifetimes are drawn short enough for one round of that.
 */
static int64_t
retirement_gap(const Pool *pool)
{
	int n = pqp_staying(pool);

	return pool->options.max_lifetime_ms * 1000 / 20 / (n > 0 ? n : 1);
}

/* When will this one have lived long enough? */
int64_t
pqp_retirement(const Slot *slot)
{
	const Pool *pool = slot->pool;
	int64_t allowed = pool->retired_at + retirement_gap(pool);

	if (slot->retire_at == INT64_MAX || pool->retired_at == 0 || slot->retire_at > allowed)
		return slot->retire_at;
	return allowed;
}

/* Has it to be closed rather than kept?  Why; or PQPOOL_CLOSE_REASONS: no. */
static pqpool_close_reason
surplus(const Slot *slot, int64_t now)
{
	const Pool *pool = slot->pool;

	if (pool->closed)
		return PQPOOL_CLOSE_POOL;
	if (slot->lost)
		return PQPOOL_CLOSE_FINISHED;
	if (slot->cancels > 0)
		return PQPOOL_CLOSE_DISCARD;
	if (slot->generation != pool->generation)
		return PQPOOL_CLOSE_DRAIN;
	if (pqp_staying(pool) > pqp_limit(pool))
		return PQPOOL_CLOSE_LIMIT;
	if (pqp_retirement(slot) <= now)
		return PQPOOL_CLOSE_LIFETIME;
	return PQPOOL_CLOSE_REASONS;
}

/* The keeper is to be there when its time is over. */
static void
nudge_for_end(const Slot *slot, Work *work)
{
	Pool *pool = slot->pool;

	pqp_nudge(pool, work, pqp_retirement(slot));
	if (pool->options.idle_timeout_ms > 0 && pqp_size(pool) > pool->min_size)
		pqp_nudge(pool, work, slot->idle_since + pool->options.idle_timeout_ms * 1000);
}

/*
 * A connection is free: opened, given back and clean, or done reporting.  To
 * the keeper if a report is overdue, since under load it would never find an
 * idle one; else to the first waiter; else it is idle.
 */
void
pqp_put_back(Slot *slot, Work *work, int64_t now)
{
	Pool *pool = slot->pool;
	pqpool_close_reason reason = surplus(slot, now);

	if (reason != PQPOOL_CLOSE_REASONS)
	{
		/* one that comes back after the pool was closed may say good-bye */
		if (pool->closed && !slot->lost && pool->link.bye_pending)
		{
			pqp_idle_add(slot);
			if (pqp_report_begin(pool, work, now))
				return;
			/* one who read the gate before the pool was closed may have it: he comes by */
			if (!pqp_item_claim(&slot->item))
				return;
		}
		pqp_retire(slot, work, reason);
		return;
	}
	if (pool->queue.head && pqp_lends(pool) && pqp_report_due(pool, now) > now)
	{
		pqp_item_unlist(&pool->queue, &slot->item);
		grant(slot, (Caller *) pqp_waitq_pop(&pool->queue), work, now);
		return;
	}
	pqp_idle_add(slot);
	nudge_for_end(slot, work);
	if (pqp_report_due(pool, now) <= now)
		(void) pqp_report_begin(pool, work, now);
}

static void
serve(Pool *pool, Work *work, int64_t now)
{
	while (pool->queue.head && pqp_lends(pool))
	{
		Slot *slot = (Slot *) pqp_waitq_claim(&pool->queue);

		if (!slot)
			return;
		grant(slot, (Caller *) pqp_waitq_pop(&pool->queue), work, now);
	}
}

/* Close idle connections above the limit; whoever has one that he cannot keep comes by. */
static void
trim(Pool *pool, Work *work)
{
	while (pqp_staying(pool) > pqp_limit(pool))
	{
		Slot *slot = claim_oldest(pool);

		if (!slot)
			return;
		pqp_retire(slot, work, PQPOOL_CLOSE_LIMIT);
	}
}

/*
 * Those that are being reset are the next waiters' in a moment, but for what is
 * closed then, and for a reset that takes long.  *until: when to look again.
 */
static int
resets_soon(const Pool *pool, int64_t now, int64_t *until)
{
	int n = 0;

	for (const Slot *slot = pool->resets; slot; slot = slot->next)
		if (slot->generation == pool->generation && now - slot->reset_at < RESET_SOON_US)
		{
			n++;
			if (slot->reset_at + RESET_SOON_US < *until)
				*until = slot->reset_at + RESET_SOON_US;
		}
	return n;
}

/* How many connections ought to be opening now? */
static int
wanted(Pool *pool, Work *work, int64_t now)
{
	int64_t until = INT64_MAX;
	/* those with the keeper are back at once */
	int soon = pool->borrowed + resets_soon(pool, now, &until);
	int for_waiters = pqp_lends(pool) ? pool->queue.length - soon : 0;
	int for_minimum = pool->min_size - pool->count[SLOT_OPEN];

	if (for_waiters <= 0 && pool->spare_wanted && soon == 0 && !pqp_idle_any(pool))
		for_waiters = 1;
	/* paused by the server, with no session left on which to hear that this is over */
	if (pqp_server_paused(pool) && !pool->paused && pqp_size(pool) == 0 && pool->queue.length > 0)
		for_waiters = 1;
	if (pool->queue.length > 0)
		pqp_nudge(pool, work, until);
	return for_waiters > for_minimum ? for_waiters : for_minimum;
}

/*
 * How many may be opening at once?  After a failure one alone tries whether the
 * server is back; then one, and so on up to the cap.
 */
static int
opening_cap(const Pool *pool)
{
	if (!pqp_has_threads)
		return PQP_SIZE_MAX; /* callers who would connect in any case */
	if (pool->failure.code != PQPOOL_OK)
		return 1;
	if (pool->successes_in_a_row > 0 && pool->successes_in_a_row < PQP_MAX_OPENING)
		return pool->successes_in_a_row;
	return PQP_MAX_OPENING;
}

static void
grow(Pool *pool, Work *work, int64_t now)
{
	int want = wanted(pool, work, now);
	int cap = opening_cap(pool);

	if (pool->closed)
		return;
	if (want > cap)
		want = cap;
	if (want > pool->count[SLOT_OPENING] && now < pool->retry_at)
	{
		pqp_nudge(pool, work, pool->retry_at);
		return;
	}
	while (pool->count[SLOT_OPENING] < want && pqp_size(pool) < pqp_limit(pool) &&
		   pqp_may_open(pool))
	{
		Slot *slot = pqp_slot_reserve(pool);

		if (!slot)
		{
			Failure failure;

			pqp_failure_set(&failure, PQPOOL_OUT_OF_MEMORY, "out of memory");
			pqp_open_failed(pool, work, &failure, now);
			pqp_nudge(pool, work, pool->retry_at);
			return;
		}
		slot->next = work->open;
		work->open = slot;
	}
}

void
pqp_pump(Pool *pool, Work *work, int64_t now)
{
	serve(pool, work, now);
	trim(pool, work);
	grow(pool, work, now);
}

/*
 * The server has ended a session: others may have gone with it, and what it
 * said before is void.
 */
void
pqp_server_ended(Pool *pool, Work *work, int64_t now)
{
	pool->suspicion++;
	pool->look++;
	pqp_call_all(pool);
	pool->link.known = false;
	pqp_nudge(pool, work, now); /* the keeper looks at the idle ones */
}

/*
 * Does connecting fail, and is nothing open that could serve a waiter?  A pool
 * that the server paused has its callers wait in any case: it may have been
 * paused so that the server can be restarted.
 */
bool
pqp_hopeless(const Pool *pool, int64_t now)
{
	return pool->failure.code != PQPOOL_OK && !pqp_server_paused(pool) && now < pool->retry_at &&
		   pqp_size(pool) == pool->count[SLOT_CLOSING] &&
		   (pool->failure.code == PQPOOL_REFUSED || pool->failure.code == PQPOOL_HOOK ||
			now - pool->failing_since >= PQP_PATIENCE_US);
}

/*
 * References.
 */

void
pqp_ref(Pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->refs++;
	pthread_mutex_unlock(&pool->lock);
}

void
pqp_unref(Pool *pool)
{
	bool last;

	pthread_mutex_lock(&pool->lock);
	last = --pool->refs == 0;
	pthread_mutex_unlock(&pool->lock);
	if (last)
		pqp_registry_bury(pool);
}
