/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  Slots and waiters: who gets which connection when.
 *
 * Everything that changes a pool ends in pqp_pump, which does what is due: give
 * idle connections to waiters, close what is above the limit, open what is
 * wanted.  So there is one place that decides, and forgetting to wake somebody
 * is hard.  What must happen without the lock is collected in a Work and done
 * by pqp_unlock.
 *
 * Order of idle connections: the thread's own last one if idle, else the one
 * used last, so that the others can time out.  Order of waiters: FIFO; a
 * newcomer queues if anybody does; one that was handed a dead connection goes
 * back to the head.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>

/*
 * Sizes and slots.
 */

int
pqp_size(const Pool *pool)
{
	int size = 0;

	for (int state = 0; state < SLOT_STATES; state++)
		size += pool->count[state];
	return size;
}

static void
set_state(Slot *slot, SlotState state)
{
	slot->pool->count[slot->state]--;
	slot->pool->count[state]++;
	slot->state = state;
}

/* Make room for n slots. */
bool
pqp_make_room(Pool *pool, int n)
{
	Slot **grown;

	if (n <= pool->nslots)
		return true;
	grown = realloc(pool->slots, (size_t) n * sizeof(Slot *));
	if (!grown)
		return false;
	memset(grown + pool->nslots, 0, (size_t) (n - pool->nslots) * sizeof(Slot *));
	pool->slots = grown;
	pool->nslots = n;
	return true;
}

/* A new slot in state OPENING.  NULL: out of memory. */
static Slot *
reserve(Pool *pool)
{
	Slot *slot = calloc(1, sizeof(*slot));
	int i = 0;

	if (!slot)
		return NULL;
	while (i < pool->nslots && pool->slots[i])
		i++;
	if (i == pool->nslots && !pqp_make_room(pool, i + 1))
	{
		free(slot);
		return NULL;
	}
	slot->pool = pool;
	slot->index = i;
	slot->serial = pqp_next_serial();
	slot->state = SLOT_OPENING;
	slot->generation = pool->generation;
	pool->slots[i] = slot;
	pool->count[SLOT_OPENING]++;
	pool->refs++;
	return slot;
}

/* Undo it. */
static void
give_up(Slot *slot)
{
	Pool *pool = slot->pool;

	pool->count[SLOT_OPENING]--;
	pool->slots[slot->index] = NULL;
	pool->refs--; /* never the last one: callers hold their own */
	free(slot);
}

void
pqp_idle_remove(Slot *slot)
{
	if (slot->newer)
		slot->newer->older = slot->older;
	else
		slot->pool->newest = slot->older;
	if (slot->older)
		slot->older->newer = slot->newer;
	else
		slot->pool->oldest = slot->newer;
	slot->newer = slot->older = NULL;
}

void
pqp_idle_borrow(Slot *slot)
{
	pqp_idle_remove(slot);
	slot->borrowed = true;
	slot->pool->borrowed++;
}

void
pqp_idle_bring_back(Slot *slot)
{
	slot->borrowed = false;
	slot->pool->borrowed--;
}

void
pqp_idle_add(Slot *slot)
{
	Pool *pool = slot->pool;
	Slot *older = pool->newest;

	/* one that comes back from a report is as old as before */
	while (older && older->idle_since > slot->idle_since)
		older = older->older;
	slot->older = older;
	slot->newer = older ? older->newer : pool->oldest;
	if (slot->newer)
		slot->newer->older = slot;
	else
		pool->newest = slot;
	if (older)
		older->newer = slot;
	else
		pool->oldest = slot;
}

/* The one to lend next; NULL: none is idle. */
Slot *
pqp_idle_best(Pool *pool, const Thread *thread)
{
	if (thread && thread->last_pool == pool->serial && thread->last_index < pool->nslots)
	{
		Slot *slot = pool->slots[thread->last_index];

		if (slot && slot->state == SLOT_IDLE && !slot->borrowed &&
			slot->last_thread == thread->serial)
			return slot;
	}
	return pool->newest;
}

/* A loan has been given back: nobody else can give it back any more. */
void
pqp_claim(Slot *slot)
{
	set_state(slot, SLOT_RESETTING);
}

/*
 * Work: what is left to do once the lock is dropped.
 */

/* A slot that nobody uses any more is to be closed.  It is in no list. */
void
pqp_retire(Slot *slot, Work *work)
{
	set_state(slot, SLOT_CLOSING);
	slot->task.next = (Task *) work->close;
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

	while ((waiter = pqp_waitq_pop(&pool->waiters)) != NULL)
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
hand_over_opening(Slot *slot)
{
	Pool *pool = slot->pool;
	Waiter *waiter;

	pthread_mutex_lock(&pool->lock);
	waiter = pqp_waitq_pop(&pool->waiters);
	if (waiter)
		waiter->item = slot;
	else
	{
		pool->refs++;
		give_up(slot);
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
	Slot *slot = (Slot *) task;
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	bool commanded;
	bool good = pqp_clean(slot, &pool->options, pqp_deadline(now, pool->options.reset_timeout_ms),
						  &commanded);

	now = pqp_now();
	pthread_mutex_lock(&pool->lock);
	pool->counters.resets += commanded;
	slot->idle_since = now;
	if (commanded)
		slot->alive_at = now;
	if (good)
		pqp_put_back(slot, &work, now);
	else
	{
		pool->counters.discarded++;
		pqp_retire(slot, &work);
	}
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

static void
submit_or_run(Slot *slot, int kind, void (*run)(Task *), void (*otherwise)(Slot *))
{
	slot->task = (Task){ .kind = kind, .run = run };
	if (!pqp_helper_submit(&slot->task))
		otherwise(slot);
}

static void
reset_here(Slot *slot)
{
	reset_task(&slot->task);
}

void
pqp_unlock(Pool *pool, Work *work)
{
	pthread_mutex_unlock(&pool->lock);
	while (work->wake)
	{
		Waiter *waiter = work->wake;

		work->wake = waiter->next;
		pqp_waitq_tell(waiter);
	}
	if (work->close)
		pqp_close_slots(work->close);
	while (work->open)
	{
		Slot *slot = work->open;

		work->open = (Slot *) slot->task.next;
		submit_or_run(slot, TASK_OPEN, pqp_open_task, hand_over_opening);
	}
	while (work->reset)
	{
		Slot *slot = work->reset;

		work->reset = (Slot *) slot->task.next;
		submit_or_run(slot, TASK_OTHER, reset_task, reset_here);
	}
	if (work->kick)
		pqp_keeper_kick();
}

/*
 * Lending.
 */

/* May idle connections be lent at all? */
static bool
lends(const Pool *pool)
{
	return !pool->closed && !pool->paused && !pqp_server_paused(pool);
}

/* The loan begins; the caller waited since then. */
void
pqp_lend(Slot *slot, const Borrower *borrower, int64_t since, int64_t now)
{
	Pool *pool = slot->pool;

	set_state(slot, SLOT_IN_USE);
	slot->last_thread = borrower->thread;
	slot->tid = borrower->tid;
	slot->bound = borrower->bound;
	slot->site = borrower->site;
	slot->lent_at = now;
	pool->counters.acquires++;
	pool->counters.wait[pqp_link_bucket(now - since)]++;
}

static void
grant(Slot *slot, Caller *caller, Work *work, int64_t now)
{
	pqp_lend(slot, &caller->borrower, caller->since, now);
	caller->waiter.item = slot;
	slot->pool->refs--; /* the waiter's; the slot holds one */
	tell_later(&caller->waiter, work);
}

/* Has it to be closed rather than kept? */
static bool
is_surplus(const Slot *slot, int64_t now)
{
	const Pool *pool = slot->pool;

	return pool->closed || slot->lost || slot->cancels > 0 ||
		   slot->generation != pool->generation || slot->retire_at <= now ||
		   pqp_size(pool) - pool->count[SLOT_CLOSING] > pqp_limit(pool);
}

/* The keeper is to be there when its time is over. */
static void
nudge_for_end(const Slot *slot, Work *work)
{
	Pool *pool = slot->pool;

	pqp_nudge(pool, work, slot->retire_at);
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

	if (is_surplus(slot, now))
	{
		set_state(slot, SLOT_IDLE);
		pqp_idle_add(slot);
		/* one that comes back after the pool was closed may say good-bye */
		if (slot->lost || !pool->closed || !pool->link.bye_pending ||
			!pqp_report_begin(pool, work, now))
		{
			pqp_idle_remove(slot);
			pqp_retire(slot, work);
		}
		return;
	}
	if (pool->waiters.head && lends(pool) && pqp_report_due(pool, now) > now)
	{
		grant(slot, (Caller *) pqp_waitq_pop(&pool->waiters), work, now);
		return;
	}
	set_state(slot, SLOT_IDLE);
	pqp_idle_add(slot);
	nudge_for_end(slot, work);
	if (pqp_report_due(pool, now) <= now)
		(void) pqp_report_begin(pool, work, now);
}

static void
serve(Pool *pool, Work *work, int64_t now)
{
	while (pool->waiters.head && pool->newest && lends(pool))
	{
		Slot *slot = pool->newest;

		pqp_idle_remove(slot);
		grant(slot, (Caller *) pqp_waitq_pop(&pool->waiters), work, now);
	}
}

/* Close idle connections above the limit, the least recently used first. */
static void
trim(Pool *pool, Work *work)
{
	while (pool->oldest && pqp_size(pool) - pool->count[SLOT_CLOSING] > pqp_limit(pool))
	{
		Slot *slot = pool->oldest;

		pqp_idle_remove(slot);
		pqp_retire(slot, work);
	}
}

/* How many connections ought to be opening now? */
static int
wanted(const Pool *pool)
{
	/* those with the keeper are the next waiters' in a moment */
	int for_waiters = lends(pool) ? pool->waiters.length - pool->borrowed : 0;
	int for_minimum =
		pool->min_size - (pqp_size(pool) - pool->count[SLOT_CLOSING] - pool->count[SLOT_OPENING]);

	if (for_waiters <= 0 && pool->spare_wanted && !pool->newest && pool->borrowed == 0)
		for_waiters = 1;
	return for_waiters > for_minimum ? for_waiters : for_minimum;
}

static void
grow(Pool *pool, Work *work, int64_t now)
{
	int want = wanted(pool);
	int cap = pool->failure.code == PQPOOL_OK ? PQP_MAX_OPENING : 1;

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
		Slot *slot = reserve(pool);

		if (!slot)
			return;
		slot->task.next = (Task *) work->open;
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
	pool->link.known = false;
	pqp_nudge(pool, work, now); /* the keeper looks at the idle ones */
}

/* Does connecting fail, and is nothing open that could serve a waiter? */
bool
pqp_hopeless(const Pool *pool, int64_t now)
{
	return pool->failure.code != PQPOOL_OK && now < pool->retry_at &&
		   pqp_size(pool) == pool->count[SLOT_CLOSING] &&
		   (pool->failure.code == PQPOOL_REFUSED || now - pool->failing_since >= PQP_PATIENCE_US);
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
