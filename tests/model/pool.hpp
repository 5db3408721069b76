/*-------------------------------------------------------------------------
 *
 * pool.hpp
 *	  What pool.c, acquire.c, release.c and steer.c do with waitq.h, in the same
 *	  order of steps and under the same names, without what has no part in it:
 *	  sizes, clocks, I/O, figures.
 *
 * Connections are opened and closed at once, by whoever caused it, where the
 * library has helper threads.  The same goes for the keeper's reports.
 *
 * What is checked on the way:
 *	- an item has one owner at a time, and each sees what the last one wrote;
 *	- (1) to (3) of waitq.h, and the list, whenever the lock is free;
 *	- who queued first is served first, and nobody overtakes one of whom he could
 *	  have known when he began;
 *	- nobody touches the frame of a waiter who has left it.
 * And at the end: all items that are open are free and listed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef POOL_HPP
#define POOL_HPP

#define PQP_WAITQ_MODEL
#include "primitives.hpp"
#include "waitq.c" /* which includes waitq.h; both may be mutated copies */

#define ITEMS 2
#define ACQUIRES 3 /* at most, a thread */

/* What is wrong with the code below on purpose. */
enum Mutation
{
	CORRECT,
	NO_MARK,		/* a lent item is not called for when none was found */
	NO_RESCAN,		/* a waiter queues without having looked for an item */
	NO_RECHECK,		/* whoever is over his deadline leaves, popped or not */
	TOUCH_TOLD,		/* the giver goes on to the next waiter by one that he has told */
	TELL_TWICE,		/* told with the lock held, and once more after it */
	TAKE_NO_GATE,	/* the fast path does not look at the gate */
	LIST_OLDER,		/* pqp_idle_add looks for the place of an item that is in the list */
	SELF_CLAIMED,	/* pqp_put_back of a closed pool takes an item for its own that it put in */
	TAKE_SHUT_ONLY, /* it does, but not whether anybody waits */
	YIELD_BLINDLY,	/* a loan that another has ended is ended once more */
	MUTATIONS
};

static const char *const mutation_names[MUTATIONS] = {
	"correct",		"no-mark",	  "no-rescan",	  "no-recheck",		"touch-told",	 "tell-twice",
	"take-no-gate", "list-older", "self-claimed", "take-shut-only", "yield-blindly",
};

static Mutation mutation = CORRECT;
static bool invariants = true; /* false: only what a caller would notice is checked */

static bool
broken_mark()
{
	return mutation == NO_MARK;
}

struct Slot
{
	Item item;		   /* must be first */
	rl::var<int> conn; /* owner */
	int owner;		   /* by the rules: a thread; -1: nobody */
	int idle_since;
	uint32_t generation;
	int cancels;
	bool open; /* SLOT_OPEN */
	Slot *next;
};

struct Thread
{
	uint64_t serial;
	Slot *last;
	uint64_t known; /* tickets below this one are of callers that were there before */
	bool shut;		/* nothing was lent when it last looked */
};

struct Caller
{
	Waiter waiter; /* must be first */
	uint64_t mine;
	int thread;
	bool referenced; /* to be told that he was told why not */
};

struct Work
{
	Waiter *wake;
	Slot *close;
	bool report;
};

enum Patience
{
	AT_ONCE,
	FOR_A_WHILE,
	FOREVER
};

enum
{
	OK,
	CLOSED
};

/* Frames of acquire: room for each, so that an old one is not taken for a new one. */
static struct
{
	alignas(Caller) char room[ACQUIRES][sizeof(Caller)];
	bool left[ACQUIRES];
	int used;
} frames[THREADS];

static void
touch(const void *object)
{
	for (auto &thread : frames)
		for (int i = 0; i < thread.used; i++)
			if (object >= thread.room[i] && object < thread.room[i] + sizeof(Caller) &&
				thread.left[i])
				rl::ctx().fail_test("the waiter has left this frame",
									rl::test_result_access_to_freed_memory, $);
}

static int
frame_owner(const void *object)
{
	for (int thread = 0; thread < THREADS; thread++)
		if (object >= frames[thread].room && object < &frames[thread].left)
			return thread;
	abort();
}

class Frame
{
	int index;

  public:
	Frame() : index(frames[me()].used++)
	{
		if (index >= ACQUIRES)
			abort();
		new (frames[me()].room[index]) Caller();
		caller()->thread = me();
	}

	Caller *
	caller()
	{
		return reinterpret_cast<Caller *>(frames[me()].room[index]);
	}

	~Frame()
	{
		frames[me()].left[index] = true;
		caller()->~Caller();
	}
};

class Pool
{
  public:
	Lock lock;
	WaitQueue queue;
	Slot slots[ITEMS];
	int nslots;
	Thread threads[THREADS];
	Slot *held[THREADS];   /* what each thread has */
	Shared<uintptr_t> box; /* where a thread leaves a loan for another: a slot's number + 1 */

	bool closed, paused;
	bool report_due, reporting, bye_pending;
	uint32_t generation;
	int clock;

	/* Who is in the queue, in order, by the rules. */
	struct
	{
		Waiter *waiter;
		uint64_t ticket;
	} line[THREADS];
	int in_line;
	uint64_t tickets;

	/*
	 * Whose is it?
	 */

	void
	use(Slot *slot)
	{
		RL_ASSERT(slot->owner == me());
		slot->conn($) = slot->conn($) + 1;
	}

	void
	begins(Slot *slot, int thread)
	{
		RL_ASSERT(slot->open);
		RL_ASSERT(slot->owner == -1);
		slot->owner = thread;
	}

	void
	ends(Slot *slot)
	{
		use(slot);
		slot->owner = -1;
	}

	/*
	 * The invariants.
	 */

	/* Is the list one, of all that are marked as in it? */
	void
	check_list()
	{
		int n = 0, listed = 0;
		Item *newer = nullptr;

		for (Item *item = queue.newest; item; newer = item, item = item->older)
		{
			RL_ASSERT(n++ < nslots);
			RL_ASSERT(item->listed && item->newer == newer);
		}
		RL_ASSERT(queue.oldest == newer);
		for (int i = 0; i < nslots; i++)
			listed += slots[i].item.listed;
		RL_ASSERT(listed == n);
	}

	void
	check()
	{
		if (!invariants)
			return;
		check_list();
		for (int i = 0; i < nslots; i++)
		{
			uint64_t word = slots[i].item.word.now();
			bool listed = slots[i].item.listed;

			/* (1) */
			RL_ASSERT(listed || !(word & PQP_ITEM_FREE));
			/* (2) */
			RL_ASSERT(listed || pqp_item_holder(word) == 0 || (word & PQP_ITEM_CALL));
			/* (3) */
			RL_ASSERT(!(in_line > 0 && lends() && (word & PQP_ITEM_FREE)));
			RL_ASSERT(
				!(in_line > 0 && lends() && pqp_item_holder(word) != 0 && !(word & PQP_ITEM_CALL)));
		}
		RL_ASSERT((queue.head != nullptr) == (in_line > 0));
		RL_ASSERT(((queue.gate.now() & PQP_GATE_WAITERS) != 0) == (in_line > 0));
	}

	/*
	 * The queue, and by the rules.
	 */

	void
	push(Caller *caller, bool first)
	{
		int at = first ? 0 : in_line;

		for (int i = in_line++; i > at; i--)
			line[i] = line[i - 1];
		line[at] = { &caller->waiter, tickets++ };
		if (first)
			pqp_waitq_push_front(&queue, &caller->waiter);
		else
			pqp_waitq_push(&queue, &caller->waiter);
	}

	void
	leaves(int at)
	{
		for (int i = at; i + 1 < in_line; i++)
			line[i] = line[i + 1];
		in_line--;
	}

	Waiter *
	pop()
	{
		Waiter *waiter = pqp_waitq_pop(&queue);

		if (!waiter)
			return nullptr;
		touch(waiter);
		RL_ASSERT(in_line > 0 && line[0].waiter == waiter);
		leaves(0);
		return waiter;
	}

	bool
	remove(Caller *caller)
	{
		int at = 0;

		while (at < in_line && line[at].waiter != &caller->waiter)
			at++;
		if (!pqp_waitq_remove(&queue, &caller->waiter))
			return false;
		RL_ASSERT(at < in_line);
		leaves(at);
		return true;
	}

	/* A thread that began when tickets below `known` were there takes an item. */
	void
	check_order(const Thread *thread)
	{
		for (int i = 0; i < in_line; i++)
			RL_ASSERT(line[i].ticket >= thread->known);
		RL_ASSERT(lends() || !thread->shut);
	}

	/*
	 * pool.c: idle connections.
	 */

	void
	idle_add(Slot *slot)
	{
		Item *older;

		if (mutation != LIST_OLDER)
			pqp_item_unlist(&queue, &slot->item);
		older = queue.newest;
		while (older && ((Slot *) older)->idle_since > slot->idle_since)
			older = older->older;
		ends(slot);
		pqp_item_list(&queue, &slot->item, older);
	}

	Slot *
	idle_claim(Thread *thread)
	{
		Slot *slot;

		if (thread && thread->last && thread->last->item.listed &&
			pqp_item_claim(&thread->last->item))
		{
			pqp_item_unlist(&queue, &thread->last->item);
			slot = thread->last;
		}
		else
			slot = (Slot *) pqp_waitq_claim(&queue);
		if (slot)
		{
			begins(slot, me());
			use(slot);
		}
		return slot;
	}

	void
	call_all()
	{
		for (int i = 0; i < nslots; i++)
			if (slots[i].open)
				pqp_item_call(&slots[i].item);
	}

	/*
	 * pool.c: work.
	 */

	void
	retire(Slot *slot, Work *work)
	{
		use(slot);
		pqp_item_unlist(&queue, &slot->item);
		pqp_item_hold(&slot->item);
		slot->open = false;
		slot->next = work->close;
		work->close = slot;
	}

	void
	tell_later(Waiter *waiter, Work *work)
	{
		Waiter **end = &work->wake;

		while (*end)
		{
			touch(*end);
			end = &(*end)->next;
		}
		waiter->next = nullptr;
		*end = waiter;
	}

	void
	fail_waiters(Work *work, int code)
	{
		Waiter *waiter;

		while ((waiter = pop()) != nullptr)
		{
			waiter->item = nullptr;
			waiter->code = code;
			waiter->next = work->wake;
			work->wake = waiter;
		}
	}

	/* pqp_gate and pqp_unlock */
	void
	unlock(Work *work)
	{
		pqp_waitq_gate(&queue, !lends());
		plain_unlock();
		while (work->wake)
		{
			Waiter *waiter = work->wake;

			touch(waiter);
			if (mutation == TOUCH_TOLD)
				pqp_waitq_tell(waiter);
			touch(waiter);
			work->wake = waiter->next;
			if (mutation != TOUCH_TOLD)
				pqp_waitq_tell(waiter);
		}
		while (work->close)
		{
			Slot *slot = work->close;

			work->close = slot->next;
			reopen(slot);
		}
		if (work->report)
			report_run();
	}

	void
	plain_unlock()
	{
		check();
		threads[me()].known = tickets;
		threads[me()].shut = !lends();
		lock.unlock();
	}

	/* close.c, ended; then open.c, opened, if there shall be another one */
	void
	reopen(Slot *slot)
	{
		Work work = {};

		use(slot);
		lock.lock();
		slot->owner = -1;
		if (!closed)
		{
			slot->open = true;
			slot->generation = generation;
			slot->cancels = 0;
			slot->idle_since = ++clock;
			begins(slot, me());
			put_back(slot, &work);
		}
		pump(&work);
		unlock(&work);
	}

	/*
	 * pool.c: lending.
	 */

	bool
	lends() const
	{
		return !closed && !paused;
	}

	void
	lend(Slot *slot, Caller *caller)
	{
		use(slot);
		slot->owner = caller->thread;
		pqp_item_lend(&slot->item, caller->mine);
	}

	void
	grant(Slot *slot, Caller *caller, Work *work)
	{
		lend(slot, caller);
		caller->waiter.item = slot;
		if (mutation == TELL_TWICE)
			pqp_waitq_tell(&caller->waiter);
		tell_later(&caller->waiter, work);
	}

	bool
	surplus(const Slot *slot) const
	{
		return closed || slot->cancels > 0 || slot->generation != generation;
	}

	void
	put_back(Slot *slot, Work *work)
	{
		if (surplus(slot))
		{
			if (closed && bye_pending)
			{
				idle_add(slot);
				if (report_begin(work))
					return;
				if (pqp_item_claim(&slot->item))
					begins(slot, me());
				else if (mutation != SELF_CLAIMED)
					return;
			}
			retire(slot, work);
			return;
		}
		if (queue.head && lends() && !report_due)
		{
			pqp_item_unlist(&queue, &slot->item);
			grant(slot, (Caller *) pop(), work);
			return;
		}
		idle_add(slot);
		if (report_due)
			(void) report_begin(work);
	}

	/* serve */
	void
	pump(Work *work)
	{
		while (queue.head && lends())
		{
			Slot *slot = mutation == NO_RESCAN ? nullptr : (Slot *) pqp_waitq_claim(&queue);

			if (!slot)
				return;
			begins(slot, me());
			use(slot);
			grant(slot, (Caller *) pop(), work);
		}
	}

	/*
	 * report.c
	 */

	Slot *reporter;

	bool
	report_begin(Work *work)
	{
		if (reporting)
			return false;
		for (Item *item = queue.oldest; item; item = item->newer)
			if ((pqp_item_word(item) & PQP_ITEM_FREE) && pqp_item_claim(item))
			{
				pqp_item_unlist(&queue, item);
				reporter = (Slot *) item;
				begins(reporter, me());
				reporting = true;
				report_due = false;
				work->report = true;
				return true;
			}
		return false;
	}

	/* There and back. */
	void
	report_run()
	{
		Work work = {};

		use(reporter);
		lock.lock();
		if (closed)
			bye_pending = false;
		reporting = false;
		put_back(reporter, &work);
		pump(&work);
		unlock(&work);
	}

	/* keeper.c, tick: a report is due */
	void
	tick()
	{
		Work work = {};

		lock.lock();
		report_due = true;
		if (!report_begin(&work))
			call_all();
		unlock(&work);
	}

	/*
	 * acquire.c
	 */

	Slot *
	take_idle(Caller *caller, Thread *thread)
	{
		Slot *slot;

		if (!lends() || mutation == NO_RESCAN)
			return nullptr;
		slot = idle_claim(thread);
		if (slot)
			lend(slot, caller);
		return slot;
	}

	bool
	sleep_in_queue(Caller *caller, Patience patience)
	{
		int64_t deadline = patience == FOREVER ? INT64_MAX : 1;

		for (;;)
		{
			Work work = {};

			if (pqp_waitq_park(&caller->waiter, deadline))
				return true;
			lock.lock();
			if (remove(caller))
				return false;
			if (mutation == NO_RECHECK)
				return false;
			deadline = INT64_MAX;
			unlock(&work);
		}
	}

	Slot *
	take_turn(Caller *caller, Thread *thread, Patience patience, bool first)
	{
		Work work = {};
		Slot *slot = nullptr;

		lock.lock();
		if (first || !queue.head)
			slot = take_idle(caller, thread);
		if (slot)
		{
			if (!first)
				check_order(thread);
			plain_unlock();
			return slot;
		}
		if (closed || patience == AT_ONCE)
		{
			pump(&work);
			unlock(&work);
			return nullptr;
		}
		push(caller, first);
		pump(&work);
		unlock(&work);

		if (!sleep_in_queue(caller, patience))
			plain_unlock();
		else if (caller->waiter.item)
			return (Slot *) caller->waiter.item;
		else
			RL_ASSERT(caller->waiter.code == CLOSED);
		return nullptr;
	}

	/* Dead: closed, and the caller comes before those who wait. */
	void
	discard_dead(Slot *slot)
	{
		Work work = {};

		lock.lock();
		call_all();
		retire(slot, &work);
		pump(&work);
		unlock(&work);
	}

	Slot *
	acquire(Patience patience, bool dead, bool bound)
	{
		Frame frame;
		Caller *caller = frame.caller();
		Thread *thread = &threads[me()];
		bool first = false;
		Slot *slot = nullptr;

		caller->mine = pqp_item_mine(thread->serial, bound);
		if (thread->last && fast_take(thread->last, caller->mine))
		{
			slot = thread->last;
			check_order(thread);
			begins(slot, me());
			use(slot);
			first = true;
		}
		if (!slot)
			slot = take_turn(caller, thread, patience, first);
		if (slot && dead)
		{
			use(slot);
			discard_dead(slot);
			slot = take_turn(caller, thread, patience, true);
		}
		if (!slot)
			return nullptr;
		RL_ASSERT(slot->owner == me());
		use(slot);
		thread->last = slot;
		return slot;
	}

	bool
	fast_take(Slot *slot, uint64_t mine)
	{
		uint64_t expected = PQP_ITEM_FREE;

		if (mutation == TAKE_NO_GATE || (mutation == TAKE_SHUT_ONLY &&
										 !(PQP_LOAD(&queue.gate, PQP_ORDER_GATE) & PQP_GATE_SHUT)))
			return PQP_CAS(&slot->item.word, &expected, mine, PQP_ORDER_TAKE);
		return pqp_item_take(&queue, &slot->item, mine);
	}

	/*
	 * release.c
	 */

	bool
	release_fast(Slot *slot)
	{
		Thread *thread = &threads[me()];
		uint64_t word;

		if (slot != thread->last)
			return false;
		word = pqp_item_word(&slot->item);
		if (pqp_item_holder(word) != thread->serial || (word & PQP_ITEM_CALL))
			return false;
		use(slot);
		if (!pqp_item_give(&slot->item, word))
			return false;
		RL_ASSERT(slot->owner == me());
		slot->owner = -1;
		return true;
	}

	void
	finish_loan(Slot *slot, bool keep)
	{
		Work work = {};

		use(slot); /* pqp_clean */
		lock.lock();
		slot->idle_since = ++clock;
		if (keep)
			put_back(slot, &work);
		else
			retire(slot, &work);
		if (!keep || queue.head)
			pump(&work);
		unlock(&work);
	}

	bool
	end_loan(Slot *slot, uint64_t word)
	{
		if (mutation == YIELD_BLINDLY)
			pqp_item_hold(&slot->item);
		else if (!pqp_item_yield(&slot->item, word))
			return false;
		RL_ASSERT(slot->owner == (int) pqp_item_holder(word) - 1);
		slot->owner = me();
		return true;
	}

	/*
	 * By a thread that has the PGconn, whether the loan is its own or not.  False: somebody
	 * else was first.
	 */
	bool
	release_slowly(Slot *slot, bool keep)
	{
		uint64_t word = pqp_item_word(&slot->item);

		if (pqp_item_holder(word) == 0 ||
			((word & PQP_ITEM_BOUND) && pqp_item_holder(word) != threads[me()].serial) ||
			!end_loan(slot, word))
			return false;
		finish_loan(slot, keep);
		return true;
	}

	void
	adopt(Slot *slot)
	{
		uint64_t word = pqp_item_word(&slot->item);

		RL_ASSERT(pqp_item_pass(&slot->item, word, pqp_item_mine(threads[me()].serial, true)));
		RL_ASSERT(slot->owner == (int) pqp_item_holder(word) - 1);
		slot->owner = me();
	}

	/*
	 * steer.c, cancel.c
	 */

	void
	retire_idle(Work *work)
	{
		call_all();
		for (Item *item = queue.newest, *older; item; item = older)
		{
			Slot *slot = (Slot *) item;

			older = item->older;
			if ((closed || slot->generation != generation) && pqp_item_claim(item))
			{
				begins(slot, me());
				retire(slot, work);
			}
		}
	}

	void
	close(bool reports)
	{
		Work work = {};

		lock.lock();
		closed = true;
		fail_waiters(&work, CLOSED);
		if (reports)
		{
			bye_pending = true;
			(void) report_begin(&work);
		}
		retire_idle(&work);
		unlock(&work);
	}

	void
	drain()
	{
		Work work = {};

		lock.lock();
		generation++;
		retire_idle(&work);
		unlock(&work);
	}

	void
	set_paused(bool pause)
	{
		Work work = {};

		lock.lock();
		paused = pause;
		pump(&work);
		unlock(&work);
	}

	/* cancel.c, prepare: of a connection that is in use; it is closed when it comes back */
	void
	cancel(Slot *slot)
	{
		lock.lock();
		pqp_item_call(&slot->item);
		if (pqp_item_holder(pqp_item_word(&slot->item)) != 0)
			slot->cancels++;
		plain_unlock();
	}

	/*
	 * The beginning and the end.
	 */

	void
	open(int n)
	{
		pool = this;
		nslots = n;
		for (auto &frame : frames)
		{
			frame.used = 0;
			for (bool &left : frame.left)
				left = false;
		}
		for (int i = 0; i < THREADS; i++)
		{
			asleep[i] = false;
			threads[i] = { (uint64_t) i + 1, &slots[0], 0, false };
			held[i] = nullptr;
		}
		closed = paused = report_due = reporting = bye_pending = false;
		generation = 0;
		clock = 0;
		in_line = 0;
		tickets = 0;
		queue.head = queue.tail = nullptr;
		queue.newest = queue.oldest = nullptr;
		for (int i = nslots - 1; i >= 0; i--)
		{
			Slot *slot = &slots[i];

			slot->item.newer = slot->item.older = nullptr;
			slot->item.listed = false;
			slot->conn($) = 0;
			slot->idle_since = ++clock;
			slot->generation = 0;
			slot->cancels = 0;
			slot->open = true;
			slot->owner = me();
			idle_add(slot);
		}
	}

	/* All threads have ended. */
	void
	check_end()
	{
		check();
		RL_ASSERT(in_line == 0);
		RL_ASSERT(!invariants || queue.gate.now() == (lends() ? 0u : PQP_GATE_SHUT));
		for (int i = 0; i < nslots; i++)
		{
			const Slot *slot = &slots[i];
			uint64_t word = slot->item.word.now();

			RL_ASSERT(slot->owner == -1);
			RL_ASSERT(slot->open != closed);
			RL_ASSERT(slot->open ? (word & PQP_ITEM_FREE) && slot->item.listed
								 : !(word & ~PQP_ITEM_CALL) && !slot->item.listed);
		}
	}

	static Pool *pool;
};

Pool *Pool::pool;

static bool
is_locked(const void *object, bool write)
{
	const Pool *pool = Pool::pool;

	if (!pool->lock.is_mine())
		return false;
	if (object == &pool->queue.gate)
		return !write;
	/* of a waiter that is about to be queued */
	for (int i = 0; i < pool->in_line; i++)
		if (object == &pool->line[i].waiter->told)
			return frame_owner(object) == me();
	return false;
}

#endif /* POOL_HPP */
