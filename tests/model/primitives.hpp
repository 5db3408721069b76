/*-------------------------------------------------------------------------
 *
 * primitives.hpp
 *	  What waitq.h asks of a model checker: atomic objects, and sleeping on one;
 *	  and the pool's lock.
 *
 * A futex is modelled as the kernel documents it: to compare the word and to go
 * to sleep is one step, which sees the latest value; to wake is another, which
 * uses the address only; neither orders any memory.  A deadline may pass at any
 * time while somebody sleeps, and for him alone.  The frames of one thread have
 * one address: a wake-up that comes too late meets the thread's next sleep.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PRIMITIVES_HPP
#define PRIMITIVES_HPP

#include "explore.hpp"

#define memory_order_relaxed rl::mo_relaxed
#define memory_order_acquire rl::mo_acquire
#define memory_order_release rl::mo_release
#define memory_order_acq_rel rl::mo_acq_rel

/* Fails if it lies in the frame of a waiter that has left it; see pool.hpp. */
static void touch(const void *object);
/* Whose frame is it in? */
static int frame_owner(const void *object);
/* The lock is held by this thread, and nobody touches the object without it. */
static bool is_locked(const void *object, bool write);
/* Stands for the order of callers: whoever locks may change it. */
static const char order_of_callers = 0;
static bool broken_mark(); /* mutation: nobody is called */

template <class T> class Shared
{
	rl::atomic<T> value;

  public:
	/* Nobody knows it yet: no step. */
	Shared()
	{
		rl::preemption_disabler here(rl::ctx());

		value.store(T(), rl::mo_relaxed, $);
	}

	/* As it is, without a step: for checks. */
	T
	now() const
	{
		return value.debug_value();
	}

	/* The latest, and hence this thread will not see an older one; orders nothing. */
	T
	latest()
	{
		return value.fetch_or(0, rl::mo_relaxed, $);
	}

	T
	load(rl::memory_order order, rl::debug_info_param info)
	{
		touch(this);
		announce(this, false).alone = is_locked(this, false);
		return value.load(order, info);
	}

	void
	store(T next, rl::memory_order order, rl::debug_info_param info)
	{
		touch(this);
		announce(this, true).alone = is_locked(this, true);
		value.store(next, order, info);
	}

	bool
	cas(T &expected, T next, rl::memory_order order, rl::debug_info_param info)
	{
		touch(this);
		Step &step = announce(this, true);

		if (expected == 1) /* free: is to be taken */
			step.about[1] = { &order_of_callers, false };
		return value.compare_exchange(rl::bool_t<false>(), expected, next, order, rl::mo_relaxed,
									  info);
	}

	T
	fetch_or(T bits, rl::memory_order order, rl::debug_info_param info)
	{
		touch(this);
		if (broken_mark())
		{
			T expected = 1; /* free: taken, by the lock's holder */

			announce(this, true);
			if (value.compare_exchange(rl::bool_t<false>(), expected, (T) (1 | bits), order,
									   rl::mo_relaxed, info))
				return 1;
			return expected;
		}
		announce(this, true);
		return value.fetch_or(bits, order, info);
	}

	T
	exchange(T next, rl::memory_order order, rl::debug_info_param info)
	{
		announce(this, true);
		return value.exchange(next, order, info);
	}
};

/* WaitQueue.length is written with the lock held, and nothing here reads it without: no steps. */
template <> class Shared<int>
{
	int value;

  public:
	Shared() : value(0)
	{
	}

	int
	load(rl::memory_order, rl::debug_info_param)
	{
		return value;
	}

	void
	store(int next, rl::memory_order, rl::debug_info_param)
	{
		value = next;
	}
};

#define PQP_ATOMIC(type) Shared<type>
#define PQP_LOAD(object, order) (object)->load(order, $)
#define PQP_STORE(object, value, order) (object)->store(value, order, $)
#define PQP_CAS(object, expected, value, order) (object)->cas(*(expected), value, order, $)
#define PQP_OR(object, bits, order) (object)->fetch_or(bits, order, $)
#define PQP_PARK(word, deadline) park(word, deadline)
#define PQP_UNPARK(word) unpark(word)

/* Where each thread sleeps. */
static bool asleep[THREADS];

static bool
park(Shared<uint32_t> *word, int64_t deadline)
{
	int self = me();
	bool woken;

	touch(word);
	announce(&asleep[self], true).about[1] = { word, true };
	if (word->latest() != 0)
		return true;
	asleep[self] = true;
	RL_LOG("sleeps");
	announce(&asleep[self], true).wait = deadline == INT64_MAX ? &asleep[self] : nullptr;
	its_turn();
	woken = !asleep[self];
	asleep[self] = false;
	RL_LOG(woken ? "is woken" : "is over its deadline");
	return woken;
}

static void
unpark(Shared<uint32_t> *word)
{
	bool *sleeper = &asleep[frame_owner(word)];

	announce(sleeper, true);
	its_turn();
	RL_LOG("wakes");
	*sleeper = false;
}

class Lock
{
	bool held;
	int holder;
	rl::sync_var<THREADS> order;

  public:
	Lock() : held(false), holder(-1)
	{
	}

	bool
	is_held() const
	{
		return held;
	}

	bool
	is_mine() const
	{
		return held && holder == me();
	}

	void
	lock()
	{
		Step &step = announce(this, true);

		step.about[1] = { &order_of_callers, true };
		step.wait = &held;
		its_turn();
		held = true;
		holder = me();
		order.acquire(rl::ctx().threadx_);
		RL_LOG("locks");
	}

	void
	unlock()
	{
		announce(this, true).alone = true;
		its_turn();
		RL_ASSERT(held && holder == me());
		order.release(rl::ctx().threadx_);
		held = false;
		RL_LOG("unlocks");
	}
};

#endif /* PRIMITIVES_HPP */
