/*-------------------------------------------------------------------------
 *
 * idle.c
 *	  How many connections lie idle in the process.
 *
 * A program that goes from one database, tenant or application_name to the next had one
 * session at a time before it was pooled.  So what is idle is bounded over all kinds: before a
 * connection is opened, those of the kinds that were not asked for longest are closed.
 * Lending what is idle never comes by here.  Accepted: one whose reset or report is not answered
 * in time stays, and is closed when the next one is opened.
 *
 * And where there is no room for one more, on the server or in the process, everything idle
 * gives way.
 *
 * Setting: PQPOOL_MAX_IDLE, else as many as one kind may have.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <stdlib.h>

/* Answers to resets are waited for so long, for all that are closed at a time. */
#define ROOM_US 20000
#define ALL_US 1000000 /* where nothing else helps */

static _Atomic int max_idle; /* 0: not set */

/* False: *err says what is wrong with it. */
bool
pqp_idle_setting(pqpool_error *err)
{
	const char *value = getenv("PQPOOL_MAX_IDLE");
	char *end = NULL;
	long n = value && value[0] ? strtol(value, &end, 10) : 0;

	if (end && (*end || n < 1 || n > PQP_SIZE_MAX))
	{
		(void) pqp_error_set(err, PQPOOL_BAD_OPTION,
							 "invalid value \"%.60s\" for PQPOOL_MAX_IDLE in the environment; "
							 "allowed is a whole number from 1 to %d",
							 value, PQP_SIZE_MAX);
		return false;
	}
	max_idle = (int) n;
	return true;
}

/* The one that has been idle longest.  False: none is, not even when resets are answered. */
static bool
close_one(Pool *pool, int64_t until)
{
	Work work = { 0 };
	bool closed = false;

	pqp_reset_help(pool, until);
	if (until > pqp_now())
		pqp_keeper_visit(); /* what has just come back may carry a report */
	pthread_mutex_lock(&pool->lock);
	for (Item *item = pool->queue.oldest, *newer; item && !closed; item = newer)
	{
		newer = item->newer;
		closed = pqp_item_claim(item);
		if (closed)
			pqp_retire((Slot *) item, &work, PQPOOL_CLOSE_IDLE);
	}
	pqp_unlock(pool, &work);
	return closed;
}

/* Before one more is opened in this pool.  may_wait: for answers to resets. */
void
pqp_idle_make_room(const Pool *pool, bool may_wait)
{
	int most = max_idle > 0 ? max_idle : pool->options.max_size;
	int64_t until = pqp_now() + (may_wait ? ROOM_US : 0);
	bool closed = true;

	while (closed && pqp_guests_idle() >= most)
	{
		Pool *other = pqp_keys_idle(pool);

		closed = other && close_one(other, until);
		if (other)
			pqp_unref(other);
	}
}

/* All of one pool; how many there were.  may_wait: as above. */
int
pqp_idle_close(Pool *pool, bool may_wait)
{
	int64_t until = pqp_now() + (may_wait ? ALL_US : 0);
	int n = 0;

	while (close_one(pool, until))
		n++;
	return n;
}

/* The same of all pools. */
int
pqp_idle_close_all(bool may_wait)
{
	int n = 0;

	for (Pool *pool = pqp_registry_next(NULL); pool; pool = pqp_registry_next(pool))
		n += pqp_idle_close(pool, may_wait);
	return n;
}
