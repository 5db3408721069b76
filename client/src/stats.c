/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Looking at a pool: sizes, counters, what the server granted.
 *
 * The structs may grow in later versions.  So the caller says how large his is:
 * he gets the beginning of ours, and zeros for what we do not know.
 *
 * Counters are read one by one while others count.  So sums may be off by what
 * happens at the same time; nothing is lost or counted twice.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "loan.h"

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
		Slot *slot = pqp_slot(pool, i);

		n += pqp_item_holder(pqp_item_word(&slot->item)) != 0 && now - slot->lent_at >= after;
	}
	return n;
}

static void
copy(uint64_t *to, const Counter *from, int n)
{
	for (int i = 0; i < n; i++)
		to[i] = PQP_PEEK(&from[i]);
}

/* What the fast path noted with the slots; see loan.h. */
static void
add_loans(Pool *pool, pqpool_statistics *s)
{
	for (int i = 0; i < pool->nslots; i++)
	{
		Slot *slot = pqp_slot(pool, i);
		uint64_t loans = PQP_PEEK(&slot->loans);

		s->acquires += loans;
		s->wait[0] += loans;
		s->hold[PQP_PEEK(&slot->bucket)] += PQP_PEEK(&slot->skipped);
	}
}

static void
fill_sizes(Pool *pool, pqpool_statistics *s)
{
	Sizes sizes = pqp_sizes(pool);

	s->size = sizes.size;
	s->opening = sizes.opening;
	s->idle = sizes.idle;
	s->in_use = sizes.in_use;
	s->resetting = sizes.resetting;
	s->closing = sizes.closing;
	s->waiting = atomic_load_explicit(&pool->queue.length, memory_order_acquire);
	s->leaks = pqp_leaks(pool, pqp_now());
	s->min_size = pool->min_size;
	s->max_size = pool->max_size;
	s->limit = pool->limit;
	s->paused = pool->paused;
}

void
pqp_statistics(Pool *pool, pqpool_statistics *s)
{
	Counters *c = &pool->counters;

	*s = (pqpool_statistics){ 0 };
	fill_sizes(pool, s);
	s->acquires = PQP_PEEK(&c->acquires);
	s->timeouts = PQP_PEEK(&c->timeouts);
	s->opened = PQP_PEEK(&c->opened);
	s->closed = PQP_PEEK(&c->closed);
	s->open_failures = PQP_PEEK(&c->open_failures);
	s->found_dead = PQP_PEEK(&c->found_dead);
	s->discarded = PQP_PEEK(&c->discarded);
	s->resets = PQP_PEEK(&c->resets);
	s->abandoned = PQP_PEEK(&c->abandoned);
	s->finished = PQP_PEEK(&c->finished);
	s->reports = PQP_PEEK(&c->reports);
	copy(s->wait, c->wait, PQPOOL_BUCKETS);
	copy(s->hold, c->hold, PQPOOL_BUCKETS);
	copy(s->errors, c->errors, PQPOOL_ERRORS);
	copy(s->closed_by, c->closed_by, PQPOOL_CLOSE_REASONS);
	add_loans(pool, s);
	for (int code = 0; code < PQPOOL_ERRORS; code++)
		s->failures += s->errors[code];
	s->failures -= s->timeouts < s->failures ? s->timeouts : s->failures;
}

_Static_assert(PQPOOL_BUCKETS == PQP_BUCKETS && PQPOOL_ERRORS == PQP_REPORT_ERRORS &&
				   (int) PQPOOL_CLOSE_REASONS == PQP_REPORT_REASONS,
			   "what is counted can be reported");

int
pqpool_stats_sized(pqpool *pool, pqpool_statistics *stats, size_t size)
{
	pqpool_statistics s;

	pqp_after_fork();
	if (!pool || !stats)
		return PQPOOL_BAD_ARGUMENT;
	pqp_statistics(pool, &s);
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
