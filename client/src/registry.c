/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  All pools of the process, and the graveyard.
 *
 * A pool is listed from its opening until its last reference goes, which may be
 * long after it was closed: loans may still be out.  Then it is buried, and
 * freed after GRAVE_US, by the keeper; if there is none, at the next burial.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>

#define GRAVE_US 1000000

/*
 * How many are free or about to be, as a version: what a thread remembers of a
 * slot is void when it changes.  It does so at the burial, so that who has just
 * read the old one has GRAVE_US to look at the slot.
 */
_Atomic uint32_t pqp_pools_freed;
_Atomic int pqp_pools_listed;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Pool *pools;
static Pool *graves;

void
pqp_registry_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
pqp_registry_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void
pqp_registry_renew(void)
{
	lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

bool
pqp_registry_is_empty(void)
{
	return !pools && !graves;
}

/* With the lock held; go on by ->next. */
Pool *
pqp_registry_first(void)
{
	return pools;
}

void
pqp_registry_add(Pool *pool)
{
	pthread_mutex_lock(&lock);
	pool->next = pools;
	pool->listed = true;
	pqp_pools_listed++;
	pools = pool;
	pthread_mutex_unlock(&lock);
}

/* The last reference is gone. */
void
pqp_registry_bury(Pool *pool)
{
	pthread_mutex_lock(&lock);
	for (Pool **link = &pools; *link; link = &(*link)->next)
		if (*link == pool)
		{
			*link = pool->next;
			pool->listed = false;
			pqp_pools_listed--;
			break;
		}
	pqp_pools_freed++;
	pool->buried_at = pqp_now();
	pool->next = graves;
	graves = pool;
	pthread_mutex_unlock(&lock);
	if (!pqp_keeper_running())
		(void) pqp_registry_sweep(pqp_now(), &(int64_t){ INT64_MAX });
}

/*
 * Free the pools that have lain long enough. *next becomes the time of the next
 * one, if that is earlier.  False: nothing is listed or buried any more.
 */
bool
pqp_registry_sweep(int64_t now, int64_t *next)
{
	Pool *due = NULL;
	bool any;

	pthread_mutex_lock(&lock);
	for (Pool **link = &graves; *link;)
	{
		Pool *pool = *link;

		if (pool->buried_at + GRAVE_US <= now)
		{
			*link = pool->next;
			pool->next = due;
			due = pool;
			continue;
		}
		if (pool->buried_at + GRAVE_US < *next)
			*next = pool->buried_at + GRAVE_US;
		link = &pool->next;
	}
	any = pools || graves;
	pthread_mutex_unlock(&lock);

	while (due)
	{
		Pool *pool = due;

		due = pool->next;
		pqp_pool_free(pool);
	}
	return any;
}

/* With the lock held.  False: the last reference is gone, and the pool about to be buried. */
static bool
ref_if_any(Pool *pool)
{
	bool any;

	pthread_mutex_lock(&pool->lock);
	any = pool->refs > 0;
	if (any)
		pool->refs++;
	pthread_mutex_unlock(&pool->lock);
	return any;
}

/*
 * To walk over all pools, which needs no memory: the one after `previous`
 * (NULL: the first), with a reference, for which that to `previous` is given up.
 */
Pool *
pqp_registry_next(Pool *previous)
{
	Pool *pool;

	pthread_mutex_lock(&lock);
	pool = previous ? previous->next : pools; /* referenced, so still listed */
	while (pool && !ref_if_any(pool))
		pool = pool->next;
	pthread_mutex_unlock(&lock);
	if (previous)
		pqp_unref(previous);
	return pool;
}
