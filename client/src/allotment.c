/*-------------------------------------------------------------------------
 *
 * allotment.c
 *	  What the server grants this pool, and when it has to be told what.
 *
 * PROTOCOL.md section 3 and the cadence of sections 4 and 5, as state of a
 * pool; no I/O. All functions want the pool's lock.
 *
 * Who brings a text: every connection after connecting, after each loan, after
 * each check, report and knock.  Which one counts: of one incarnation the
 * highest epoch; of two, that of the younger session, and sessions are ordered
 * by the serial of their slot, drawn before connecting.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdio.h>
#include <string.h>

#define HURRY 10 /* an interval's part, while callers wait */
#define HURRY_MIN_US 100000

/*
 * Does this pool hold what the server allots?  Without reports it cannot keep
 * its lease.
 */
bool
pqp_obeys(const Pool *pool)
{
	return pool->options.obey_limits && pool->options.report;
}

static bool
is_bound(const Pool *pool)
{
	return pool->link.attached && pool->link.allotment.state != ALLOTMENT_OFF && pqp_obeys(pool);
}

/* How large may the pool be? */
int
pqp_limit(const Pool *pool)
{
	const Allotment *allotment = &pool->link.allotment;

	if (is_bound(pool) && allotment->limit >= 0 && allotment->limit < pool->max_size)
		return allotment->limit;
	return pool->max_size;
}

bool
pqp_server_paused(const Pool *pool)
{
	return is_bound(pool) && pool->link.allotment.state == ALLOTMENT_PAUSED;
}

static bool
lease_holds(const Link *link)
{
	return pqp_boottime() < link->lease_from + link->allotment.lease_ms * 1000;
}

/*
 * May one more be opened, as far as the server goes?  The size limit is the
 * caller's business.  The first session is opened alone, until its text is
 * known; and so is the first one after a lease has run out without any session
 * left.
 */
bool
pqp_may_open(const Pool *pool)
{
	if (!pool->link.known && pool->count[SLOT_OPENING] > pool->stepping)
		return false;
	return !is_bound(pool) || pqp_size(pool) == 0 || lease_holds(&pool->link);
}

static void
take_over(Pool *pool, const Allotment *next, uint64_t serial)
{
	Link *link = &pool->link;
	int before = pqp_limit(pool);
	bool was_paused = pqp_server_paused(pool);
	bool fresh = !link->attached || strcmp(link->allotment.inc, next->inc) != 0;

	link->allotment = *next;
	link->attached = true;
	if (fresh)
	{
		link->attached_at = pqp_now();
		link->answered_at = 0;
		link->urgent = true; /* the server does not know what we want */
		link->bringer = serial;
	}
	else if (serial > link->bringer)
		link->bringer = serial;
	/* whoever has ordered a pause waits to see that it was heard */
	if (pqp_limit(pool) < before || pqp_server_paused(pool) > was_paused)
		link->lowered = true;
}

/* A connection holds this text; NULL: none.  Is it news? */
void
pqp_heard(Pool *pool, uint64_t serial, const char *text)
{
	Link *link = &pool->link;
	Allotment next;

	if (!text || strcmp(text, link->text) == 0)
		return;
	next = link->allotment;
	if (!pqp_link_parse_allotment(text, pool->id, &next))
		return;
	if (link->attached &&
		(strcmp(next.inc, link->allotment.inc) == 0 ? next.epoch <= link->allotment.epoch
													: serial <= link->bringer))
		return;
	take_over(pool, &next, serial);
	(void) snprintf(link->text, sizeof(link->text), "%s", text);
}

/*
 * A session has been opened, and holds this text.  Absent, or addressed to
 * somebody else, means: not attached. began: when opening began, by
 * CLOCK_BOOTTIME.
 */
void
pqp_connected(Pool *pool, uint64_t serial, const char *text, int64_t began)
{
	Link *link = &pool->link;
	Allotment ours = { 0 };

	link->known = true;
	if (!text || !pqp_link_parse_allotment(text, pool->id, &ours))
	{
		if (serial > link->bringer)
		{
			link->attached = false;
			link->text[0] = '\0';
		}
		return;
	}
	pqp_heard(pool, serial, text);
	if (link->attached && began > link->lease_from)
		link->lease_from = began;
}

/* A report, sent at that time by CLOCK_BOOTTIME, was acknowledged. */
void
pqp_answered(Pool *pool, uint64_t serial, const char *text, int64_t sent)
{
	Link *link = &pool->link;

	pqp_heard(pool, serial, text);
	link->answered_at = pqp_now();
	pool->counters.reports++;
	if (sent > link->lease_from)
		link->lease_from = sent;
}

/*
 * When to report.
 */

/* Is anybody interested? */
bool
pqp_reports(const Pool *pool)
{
	return pool->link.attached && pool->options.report &&
		   pool->link.allotment.state != ALLOTMENT_OFF;
}

static int64_t
cadence(const Pool *pool)
{
	int64_t interval = pool->link.allotment.interval_ms * 1000;

	if (pool->queue.length > 0)
	{
		interval /= HURRY;
		if (interval < HURRY_MIN_US)
			interval = HURRY_MIN_US;
	}
	return interval;
}

/*
 * Does the pool want more than it may hold, and the server not know it?  Then
 * somebody waits, and so all that is open is in use.
 */
static bool
has_unknown_demand(const Pool *pool)
{
	int limit = pqp_limit(pool);

	return limit < pool->max_size && pool->link.reported_demand <= limit &&
		   pool->queue.length > 0 && pool->count[SLOT_OPEN] + pool->queue.length > limit;
}

/* At what time is the next report due?  INT64_MAX: none is. */
int64_t
pqp_report_due(Pool *pool, int64_t now)
{
	const Link *link = &pool->link;
	int64_t due;

	if (!pqp_reports(pool) || pool->report.slot || pool->closed)
		return INT64_MAX;
	if (link->reported_at == 0)
		return now;
	if (link->urgent || has_unknown_demand(pool) ||
		(link->lowered && pqp_size(pool) <= pqp_limit(pool)))
		due = link->reported_at + HURRY_MIN_US;
	else
		due = link->reported_at + (int64_t) ((double) cadence(pool) * link->jitter);
	return due;
}

/*
 * And the next knock?  When the pool has been closed and there is no session
 * left to say so; when no session is held and one is wanted, but none is
 * allowed; or when no report got through for two intervals, since all sessions
 * are lent.
 */
int64_t
pqp_knock_due(Pool *pool, int64_t now)
{
	const Link *link = &pool->link;
	int64_t due, earliest = link->knocked_at;

	if (!pqp_reports(pool) || link->knocking || pool->report.slot || pqp_idle_any(pool))
		return INT64_MAX;
	if (earliest > 0)
		earliest += link->allotment.retry_ms * 1000;
	if (pool->closed)
	{
		if (!link->bye_pending || pqp_size(pool) > 0)
			return INT64_MAX;
		due = now;
	}
	else if (pqp_size(pool) == 0)
	{
		if (pqp_limit(pool) > 0 || (pool->queue.length == 0 && pool->min_size == 0))
			return INT64_MAX;
		due = now;
	}
	else
	{
		int64_t since = link->answered_at > 0 ? link->answered_at : link->attached_at;

		if (pqp_sizes(pool).in_use == 0)
			return INT64_MAX;
		due = since + 2 * cadence(pool);
	}
	return due > earliest ? due : earliest;
}
