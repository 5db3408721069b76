/*-------------------------------------------------------------------------
 *
 * deadlock.c
 *	  Waiting for each other's connections.
 *
 * A thread that holds a connection and waits for another one can wait for
 * itself, by way of other threads that do the same: nested use of a pool that
 * is too small.  Each waits out its deadline then, and the program is still for
 * that long.
 *
 * A waiter of pool P is deadlocked if nothing can come of P: it can neither
 * grow nor has anything opening, resetting or closing, and every connection is
 * lent to a thread that waits itself, in P or in another pool of which the
 * same is true.  For a bound loan that is certain: only that thread can give it
 * back.  For an unbound one it is likely, as somebody else might.
 *
 * Looked for when a wait has lasted for some milliseconds: as a rule a deadlock
 * comes about when the last of its threads begins to wait, so that one sees it
 * whole.  But the last thing missing may also be that the pool shrinks, or that
 * one that is being opened fails; so whoever waits looks again, each time
 * after twice as long.  Who finds it fails alone, and if he gives back what he
 * holds the others go on.
 *
 * Locks: registry, then all pools in the order of the list.  So it is done
 * only where loans have been bound, by who has waited for long anyway, and by
 * those whose time is over.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdio.h>
#include <string.h>

#define POOLS 16   /* in one deadlock; more are not looked at */
#define THREADS 64 /* that a message could name */

typedef struct Search
{
	bool certain; /* bound loans only */
	Pool *pools[POOLS];
	int npools;
	pid_t tids[THREADS];
	int ntids;
} Search;

static bool
add_pool(Search *search, Pool *pool)
{
	for (int i = 0; i < search->npools; i++)
		if (search->pools[i] == pool)
			return true;
	if (search->npools == POOLS)
		return false;
	search->pools[search->npools++] = pool;
	return true;
}

/* Where does this thread wait?  NULL: nowhere. */
static Pool *
waits_in(uint64_t thread)
{
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		for (Waiter *w = pool->queue.head; w; w = w->next)
		{
			const Caller *caller = (const Caller *) w;

			if (!caller->tell && pqp_item_holder(caller->borrower.mine) == thread)
				return pool;
		}
	return NULL;
}

/*
 * Can this connection come back only from a thread that waits?  Then its pool is part of
 * the search.
 */
static bool
is_stuck(Search *search, Slot *slot)
{
	uint64_t word = pqp_item_word(&slot->item);
	uint64_t holder = pqp_item_holder(word);
	Pool *where;

	if (holder == 0 || (search->certain && !(word & PQP_ITEM_BOUND)))
		return false;
	where = waits_in(holder);
	if (!where || !add_pool(search, where))
		return false;
	if (search->ntids < THREADS)
		search->tids[search->ntids++] = slot->tid;
	return true;
}

static bool
nothing_can_come(Search *search, Pool *pool)
{
	if (pool->closed || !pqp_lends(pool) || pool->count[SLOT_OPENING] > 0 ||
		pool->count[SLOT_CLOSING] > 0 || pool->count[SLOT_OPEN] == 0 ||
		pqp_size(pool) < pqp_limit(pool))
		return false;
	for (int i = 0; i < pool->nslots; i++)
	{
		Slot *slot = pqp_slot(pool, i);

		if (slot->state == SLOT_OPEN && !is_stuck(search, slot))
			return false;
	}
	return true;
}

static bool
search_from(Search *search, Pool *pool)
{
	(void) add_pool(search, pool);
	for (int i = 0; i < search->npools; i++)
		if (!nothing_can_come(search, search->pools[i]))
			return false;
	return true;
}

/* "1234 (worker)": as the debugger and ps call it. */
static size_t
name_thread(char *buf, size_t size, pid_t tid)
{
	char path[64], comm[32] = "";
	FILE *file;
	int n;

	(void) snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int) tid);
	file = fopen(path, "re");
	if (file)
	{
		if (!fgets(comm, sizeof(comm), file))
			comm[0] = '\0';
		(void) fclose(file);
	}
	comm[strcspn(comm, "\n")] = '\0';
	n = snprintf(buf, size, "%d%s%s%s", (int) tid, comm[0] ? " (" : "", comm, comm[0] ? ")" : "");
	return n < 0 ? 0 : (size_t) n;
}

static void
name_threads(const Search *search, char *names, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < search->ntids; i++)
	{
		bool named = false;

		for (int j = 0; j < i; j++)
			named = named || search->tids[j] == search->tids[i];
		if (named || used + 40 > size)
			continue;
		if (used > 0)
			used += (size_t) snprintf(names + used, size - used, ", ");
		used += name_thread(names + used, size - used, search->tids[i]);
	}
}

/*
 * Is whoever waits in this pool part of a deadlock?  Then names gets the threads
 * that hold the connections, and who, if not NULL, leaves the queue, so that nobody else
 * finds the same.  certain: by bound loans.  No lock held.
 */
bool
pqp_deadlocked(Pool *pool, Waiter *who, bool certain, char *names, size_t size)
{
	Search search = { .certain = certain };
	bool found;

	names[0] = '\0';
	pqp_registry_lock();
	for (Pool *p = pqp_registry_first(); p; p = p->next)
		pthread_mutex_lock(&p->lock);
	found = search_from(&search, pool) && (!who || pqp_waitq_remove(&pool->queue, who));
	for (Pool *p = pqp_registry_first(); p; p = p->next)
		pthread_mutex_unlock(&p->lock);
	pqp_registry_unlock();
	if (found)
		name_threads(&search, names, size);
	return found;
}
