/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Looking at a pool: sizes, counters, what the server granted.
 *
 * The structs may grow in later versions.  So the caller says how large his is:
 * he gets the beginning of ours, and zeros for what we do not know.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdio.h>
#include <string.h>

static void
hand_out(void *to, size_t to_size, const void *from, size_t from_size)
{
	memset(to, 0, to_size);
	memcpy(to, from, to_size < from_size ? to_size : from_size);
}

/* Loans out for longer than pool_leak_after. */
int
pqp_leaks(const Pool *pool, int64_t now)
{
	int64_t after = pool->options.leak_after_ms * 1000;
	int n = 0;

	for (int i = 0; after > 0 && i < pool->nslots; i++)
	{
		const Slot *slot = pool->slots[i];

		n += slot && slot->state == SLOT_IN_USE && now - slot->lent_at >= after;
	}
	return n;
}

static void
fill(Pool *pool, pqpool_statistics *s)
{
	s->size = pqp_size(pool);
	s->opening = pool->count[SLOT_OPENING];
	s->idle = pool->count[SLOT_IDLE];
	s->in_use = pool->count[SLOT_IN_USE];
	s->resetting = pool->count[SLOT_RESETTING];
	s->closing = pool->count[SLOT_CLOSING];
	s->waiting = pool->waiters.length;
	s->leaks = pqp_leaks(pool, pqp_now());
	s->min_size = pool->min_size;
	s->max_size = pool->max_size;
	s->limit = pqp_limit(pool);
	s->paused = pool->paused;
	s->acquires = pool->counters.acquires;
	s->timeouts = pool->counters.timeouts;
	s->failures = pool->counters.failures;
	s->opened = pool->counters.opened;
	s->closed = pool->counters.closed;
	s->open_failures = pool->counters.open_failures;
	s->found_dead = pool->counters.found_dead;
	s->discarded = pool->counters.discarded;
	s->resets = pool->counters.resets;
	s->abandoned = pool->counters.abandoned;
	s->finished = pool->counters.finished;
	s->reports = pool->counters.reports;
	memcpy(s->wait, pool->counters.wait, sizeof(s->wait));
	memcpy(s->hold, pool->counters.hold, sizeof(s->hold));
}

_Static_assert(PQPOOL_BUCKETS == PQP_BUCKETS, "one histogram");

int
pqpool_stats_sized(pqpool *pool, pqpool_statistics *stats, size_t size)
{
	pqpool_statistics s = { 0 };

	pqp_after_fork();
	if (!pool || !stats)
		return PQPOOL_BAD_ARGUMENT;
	pthread_mutex_lock(&pool->lock);
	fill(pool, &s);
	pthread_mutex_unlock(&pool->lock);
	hand_out(stats, size, &s, sizeof(s));
	return PQPOOL_OK;
}

static int
limit_state(enum AllotmentState state)
{
	switch (state)
	{
		case ALLOTMENT_OK:
			return PQPOOL_LIMIT_OK;
		case ALLOTMENT_QUEUED:
			return PQPOOL_LIMIT_QUEUED;
		case ALLOTMENT_PAUSED:
			return PQPOOL_LIMIT_PAUSED;
		case ALLOTMENT_OFF:
			break;
	}
	return PQPOOL_LIMIT_OFF;
}

int
pqpool_limits_sized(pqpool *pool, pqpool_allotment *allotment, size_t size)
{
	pqpool_allotment a = { .limit = -1, .lease_left_ms = -1, .age_ms = -1 };
	const Link *link;

	pqp_after_fork();
	if (!pool || !allotment)
		return PQPOOL_BAD_ARGUMENT;
	link = &pool->link;
	pthread_mutex_lock(&pool->lock);
	if (link->attached)
	{
		int64_t left = link->lease_from + link->allotment.lease_ms * 1000 - pqp_boottime();

		a.attached = 1;
		a.obeyed = pqp_obeys(pool);
		a.state = limit_state(link->allotment.state);
		a.limit = link->allotment.limit;
		a.epoch = link->allotment.epoch;
		a.lease_left_ms = left > 0 ? left / 1000 : 0;
		a.interval_ms = link->allotment.interval_ms;
		if (link->answered_at > 0)
			a.age_ms = (pqp_now() - link->answered_at) / 1000;
		(void) snprintf(a.incarnation, sizeof(a.incarnation), "%s", link->allotment.inc);
	}
	(void) snprintf(a.id, sizeof(a.id), "%s", pool->id);
	pthread_mutex_unlock(&pool->lock);
	hand_out(allotment, size, &a, sizeof(a));
	return PQPOOL_OK;
}
