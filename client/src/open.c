/*-------------------------------------------------------------------------
 *
 * open.c
 *	  Opening a pool's connections: reasons for failure, backoff.
 *
 * A slot was reserved before (state OPENING), so it counts while it is being
 * opened.  Afterwards it goes to the first waiter, or becomes idle; if opening
 * failed its place is given back and the reason kept with the pool, so that
 * those who wait can be told.
 *
 * After a failure nobody tries again before pool->retry_at, which doubles up to
 * BACKOFF_MAX_US, and then one at a time, until one attempt succeeds.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include "loan.h"

#define BACKOFF_MIN_US 50000
#define BACKOFF_MAX_US 2000000
#define FULL_MIN_US 1000000
#define FULL_MAX_US 30000000
#define OPTIONS_SIZE 4096

/* What goes into the startup options.  False: no identity is to be sent. */
bool
pqp_identity(Pool *pool, char *buf, size_t size, bool knock)
{
	bool refused;

	pthread_mutex_lock(&pool->lock);
	refused = pool->link.refused;
	pthread_mutex_unlock(&pool->lock);
	if (refused || pool->id[0] == '\0')
		return false;
	return pqp_link_identity(buf, size, pool->options.user_options, pool->options.name, pool->id,
							 pqp_obeys(pool), pool->options.report, knock) > 0;
}

/*
 * Is it a proxy that does not know what to do with options, or a server that takes no settings
 * of unknown classes (PostgreSQL before 9.2, and others that speak its protocol)?
 */
bool
pqp_is_proxy_refusal(const char *message)
{
	return strstr(message, "unsupported startup parameter") != NULL ||
		   strstr(message, "does not support command-line options") != NULL ||
		   strstr(message, "pgpool_monitor.pool") != NULL ||
		   strstr(message, "pgpool_monitor.instance") != NULL;
}

static PGconn *
connect_slot(Slot *slot, int64_t deadline, Failure *failure)
{
	Pool *pool = slot->pool;
	char identity[OPTIONS_SIZE];
	PGconn *conn;

	if (!pqp_identity(pool, identity, sizeof(identity), false))
		return pqp_connect(&pool->options, NULL, deadline, slot, &slot->nascent, failure);
	conn = pqp_connect(&pool->options, identity, deadline, slot, &slot->nascent, failure);
	if (conn || !pqp_is_proxy_refusal(failure->text))
		return conn;
	pthread_mutex_lock(&pool->lock);
	pool->link.refused = true;
	pthread_mutex_unlock(&pool->lock);
	return pqp_connect(&pool->options, NULL, deadline, slot, &slot->nascent, failure);
}

/*
 * How long to leave the server alone.  A server that is full is not down: what
 * is open serves those who wait, so that there is less of a hurry to ask again.
 */
static int64_t
backoff(const Pool *pool)
{
	bool full = pool->failure.code == PQPOOL_SERVER_FULL && pool->count[SLOT_OPEN] > 0;
	int64_t least = full ? FULL_MIN_US : BACKOFF_MIN_US;
	int64_t most = full ? FULL_MAX_US : BACKOFF_MAX_US;
	int doublings = pool->failures_in_a_row < 7 ? pool->failures_in_a_row - 1 : 6;
	int64_t us = least << doublings < most ? least << doublings : most;

	return (int64_t) ((double) us * (0.75 + 0.5 * pqp_random()));
}

/* An attempt has failed: when to try again, and who need not wait for that.  With the lock held. */
void
pqp_open_failed(Pool *pool, Work *work, const Failure *failure, int64_t now)
{
	pqp_count(&pool->counters.open_failures, 1);
	pool->successes_in_a_row = 0;
	pool->spare_wanted = false;
	pool->failure = *failure;
	if (pool->failures_in_a_row++ == 0)
		pool->failing_since = now;
	pool->retry_at = now + backoff(pool);
	if (pqp_hopeless(pool, now))
		pqp_fail_waiters(pool, work, failure->code);
}

/* It has not failed, but was of no use.  With the lock held. */
void
pqp_opening_rests(Pool *pool, int64_t now)
{
	pool->retry_at = now + (int64_t) (BACKOFF_MIN_US * (0.75 + 0.5 * pqp_random()));
}

static void
failed(Slot *slot, const Failure *failure, int64_t took)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();

	pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_OPEN_FAILED,
									 .code = failure->code,
									 .duration_us = took,
									 .sqlstate = failure->sqlstate,
									 .message = failure->text });
	pthread_mutex_lock(&pool->lock);
	pqp_slot_free(slot);
	if (pool->watchers > 0)
		pthread_cond_broadcast(&pool->changed);
	pqp_open_failed(pool, &work, failure, now);
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
	pqp_unref(pool);
}

/*
 * The user has closed a connection that was lent to him, and malloc has given
 * us its address.
 */
void
pqp_lost(Slot *slot)
{
	Work work = { 0 };
	Pool *pool;

	if (!slot)
		return;
	slot->lost = true;
	if (!slot->pool)
		return; /* a thread's own: it will see */
	pool = slot->pool;
	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.finished, 1);
	if (pqp_item_claim(&slot->item) || pqp_item_yield(&slot->item, pqp_item_word(&slot->item)))
		pqp_retire(slot, &work, PQPOOL_CLOSE_FINISHED);
	pqp_unlock(pool, &work);
}

/*
 * The end of a lifetime, 5 to 15 % early.  Multiples of the golden ratio fall
 * far apart from each other, however many there are (Knuth, The Art of Computer
 * Programming, volume 3, section 6.4), so that those opened together part.
 */
static int64_t
draw_retirement(Pool *pool, int64_t now)
{
	double x = pool->lifetime < 0 ? pqp_random() : pool->lifetime + 0.6180339887498949;

	pool->lifetime = x >= 1 ? x - 1 : x;
	if (pool->options.max_lifetime_ms == 0)
		return INT64_MAX;
	return now + (int64_t) ((double) pool->options.max_lifetime_ms * 1000 *
							(0.95 - 0.1 * pool->lifetime));
}

/*
 * A reserved slot has its connection.  True: the borrower has it.  False: it has
 * gone its way without him.
 */
bool
pqp_opened(Slot *slot, PGconn *conn, int64_t began, int64_t took, const Borrower *borrower)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	const char *text;
	Slot *stale;
	bool lend;

	slot->conn = conn;
	/* else it is the program's, which may have set its own already: see pqp_claim_begun */
	if (pqp_has_threads)
	{
		slot->receiver = PQsetNoticeReceiver(conn, NULL, NULL);
		slot->processor = PQsetNoticeProcessor(conn, NULL, NULL);
		pqp_default_notices(slot);
	}
	slot->backend_pid = PQbackendPID(conn);
	pqp_note_socket(slot);
	slot->alive_at = slot->heard_at = now;
	slot->idle_since = now;
	slot->measuring = 0;
	slot->admitted = false;
	text = pqp_text(slot);
	pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_OPENED,
									 .backend_pid = slot->backend_pid,
									 .duration_us = took });
	stale = pqp_lookup_add(slot);
	pqp_nascent(&slot->nascent, NULL);
	pqp_lost(stale);

	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.opened, 1);
	pqp_slot_state(slot, SLOT_OPEN);
	slot->retire_at = draw_retirement(pool, now);
	pool->spare_wanted = false;
	pool->failure.code = PQPOOL_OK;
	pool->successes_in_a_row = pool->failures_in_a_row > 0 || pool->successes_in_a_row > 0
								   ? pool->successes_in_a_row + 1
								   : 0;
	pool->failures_in_a_row = 0;
	pool->retry_at = 0;
	slot->suspicion = pool->suspicion;
	slot->look = pool->look;
	pqp_connected(pool, slot->serial, text, began);
	lend = borrower &&
		   (!pool->closed || !pqp_has_threads); /* a program that connected has it in any case */
	if (lend)
		pqp_lend(slot, borrower, borrower->since, now);
	else
		pqp_put_back(slot, &work, now);
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
	return lend;
}

/*
 * Open a reserved slot. borrower: for the caller; NULL: for whoever waits.
 * True: the borrower has it.  False: he has nothing, and the slot must not be
 * touched any more.
 */
bool
pqp_open_slot(Slot *slot, int64_t deadline, const Borrower *borrower)
{
	int64_t began = pqp_boottime();
	int64_t start = pqp_now();
	Failure failure;
	PGconn *conn = connect_slot(slot, deadline, &failure);

	if (conn && !pqp_hook_configure(slot->pool, conn, &failure))
	{
		pqp_hook_close(slot->pool, conn);
		pqp_nascent(&slot->nascent, NULL);
		PQfinish(conn);
		conn = NULL;
	}
	if (conn)
		return pqp_opened(slot, conn, began, pqp_now() - start, borrower);
	failed(slot, &failure, pqp_now() - start);
	return false;
}

void
pqp_open_task(Task *task)
{
	Slot *slot = pqp_task_slot(task);

	(void) pqp_open_slot(slot, pqp_open_deadline(&slot->pool->options), NULL);
}
