/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Telling the server: reports on an idle connection, and knocks.
 *
 * A report is one pipeline with one sync: BEGIN ISOLATION LEVEL READ COMMITTED
 * (whatever the default is), the report, COMMIT. The keeper borrows an idle
 * connection for it, always the same one if it can, sends, and comes back when
 * the socket is readable; it never waits.  What is not answered after
 * PQP_REPORT_MS costs the connection.
 *
 *		pqp_report_begin (anybody, lock held)	slot leaves the idle list, keeper is kicked
 *		pqp_report_run (keeper)					sends, reads; at the end the slot is put back
 *
 * While it lasts the connection counts as idle, and a waiter that finds nothing
 * else waits for it.
 *
 * A knock is the same on a connection of its own, made for it by a helper.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loan.h"

#define KNOCK_CONNECT_MS 10000
#define KNOCK_BRIEFLY_MS 1000 /* each part of it, by a caller, where there are no threads */

/*
 * The text.
 */

/* Keep the PQP_REPORT_LOANS oldest, oldest first. */
static void
insert_loan(Slot **oldest, int *n, Slot *slot)
{
	int i = *n;

	if (i == PQP_REPORT_LOANS && oldest[i - 1]->lent_at <= slot->lent_at)
		return;
	if (i == PQP_REPORT_LOANS)
		i--;
	else
		++*n;
	while (i > 0 && oldest[i - 1]->lent_at > slot->lent_at)
	{
		oldest[i] = oldest[i - 1];
		i--;
	}
	oldest[i] = slot;
}

static const char *
base_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path;
}

static void
fill_loans(const Pool *pool, LinkReport *report, char threads[][24], int64_t now)
{
	Slot *oldest[PQP_REPORT_LOANS];
	int n = 0;

	for (int i = 0; i < pool->nslots; i++)
		if (pqp_item_holder(pqp_item_word(&pqp_slot(pool, i)->item)) != 0)
			insert_loan(oldest, &n, pqp_slot(pool, i));
	for (int i = 0; i < n; i++)
	{
		(void) snprintf(threads[i], 24, "%ld", (long) oldest[i]->tid);
		report->loans[i] = (LinkLoan){ .pid = oldest[i]->backend_pid,
									   .age_ms = (now - oldest[i]->lent_at) / 1000,
									   .thread = threads[i],
									   .site = base_name(oldest[i]->site) };
	}
	report->nloans = n;
}

/* Write the report and note that it was.  With the lock held.  Its length, or -1. */
static int
format(Pool *pool, char *buf, size_t size, int64_t now, bool bye)
{
	char threads[PQP_REPORT_LOANS][24];
	Link *link = &pool->link;
	pqpool_statistics s;
	LinkReport report;

	pqp_statistics(pool, &s);
	report = (LinkReport){
		.seq = ++link->seq,
		.ack = link->attached ? link->allotment.epoch : 0,
		.bye = bye,
		.max_size = s.max_size,
		.min_size = s.min_size,
		.opening = s.opening,
		.idle = s.idle,
		.in_use = s.in_use,
		.resetting = s.resetting,
		.closing = s.closing,
		.waiting = s.waiting,
		.leaks = s.leaks,
		.acquires = (int64_t) s.acquires,
		.timeouts = (int64_t) s.timeouts,
		.opened = (int64_t) s.opened,
		.closed = (int64_t) s.closed,
		.open_failures = (int64_t) s.open_failures,
		.found_dead = (int64_t) s.found_dead,
		.discarded = (int64_t) s.discarded,
		.resets = (int64_t) s.resets,
		.abandoned = (int64_t) s.abandoned,
		.finished = (int64_t) s.finished,
	};

	for (int i = 0; i < PQP_BUCKETS; i++)
	{
		report.wait[i] = (int64_t) s.wait[i];
		report.hold[i] = (int64_t) s.hold[i];
	}
	for (int i = 0; i < PQP_REPORT_ERRORS; i++)
		report.errors[i] = (int64_t) s.errors[i];
	for (int i = 0; i < PQP_REPORT_REASONS; i++)
		report.closed_by[i] = (int64_t) s.closed_by[i];
	fill_loans(pool, &report, threads, now);
	if (pqp_size(pool) <= pqp_limit(pool))
		link->lowered = false;
	link->urgent = false;
	link->reported_demand = report.in_use + report.waiting;
	link->reported_at = now;
	link->jitter = 0.9 + 0.2 * pqp_random();
	return pqp_link_format_report(buf, size, &report);
}

/*
 * The exchange.  For the owner of the PGconn, no lock.
 */

static bool
send_report(PGconn *conn, const char *text)
{
	static const char begin[] = "BEGIN ISOLATION LEVEL READ COMMITTED";

	return PQsetnonblocking(conn, 1) == 0 && PQenterPipelineMode(conn) &&
		   PQsendQueryParams(conn, begin, 0, NULL, NULL, NULL, NULL, 0) &&
		   PQsendQueryParams(conn, PQP_REPORT_QUERY, 1, NULL, &text, NULL, NULL, 0) &&
		   PQsendQueryParams(conn, "COMMIT", 0, NULL, NULL, NULL, NULL, 0) && PQpipelineSync(conn);
}

static Progress
leave_pipeline(PGconn *conn)
{
	return PQexitPipelineMode(conn) && PQsetnonblocking(conn, 0) == 0 &&
				   PQtransactionStatus(conn) == PQTRANS_IDLE
			   ? PROGRESS_DONE
			   : PROGRESS_BROKEN;
}

/*
 * Each command's results end with a NULL, and a sync follows the last.  Where
 * libpq has no memory for the sync it says so in an error, and then for ever
 * that there is no result.
 */
static Progress
read_answer(PGconn *conn, bool *good)
{
	bool none = false;

	if (PQflush(conn) < 0 || PQstatus(conn) != CONNECTION_OK)
		return PROGRESS_BROKEN;
	while (!PQisBusy(conn))
	{
		PGresult *result = PQgetResult(conn);
		ExecStatusType status = result ? PQresultStatus(result) : PGRES_COMMAND_OK;

		if (!result && none)
			return PROGRESS_BROKEN;
		none = !result;
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC)
			return leave_pipeline(conn);
		if (PQstatus(conn) != CONNECTION_OK)
			return PROGRESS_BROKEN;
		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
			*good = false;
	}
	return PROGRESS_MORE;
}

/*
 * Reports.
 */

/* The one that did it last time if it is idle, else any; NULL: none is. */
static Slot *
borrow_reporter(Pool *pool)
{
	for (int round = 0; round < 2; round++)
		for (Item *item = pool->queue.oldest; item; item = item->newer)
			if ((round == 1 || ((Slot *) item)->serial == pool->link.reporter) &&
				(pqp_item_word(item) & PQP_ITEM_FREE) && pqp_idle_borrow((Slot *) item))
				return (Slot *) item;
	return NULL;
}

/*
 * Lend an idle connection to the keeper.  False: there is none.
 */
bool
pqp_report_begin(Pool *pool, Work *work, int64_t now)
{
	Slot *slot;

	if (pool->report.slot || !pqp_keeper_there())
		return false;
	slot = borrow_reporter(pool);
	if (!slot)
		return false;
	pool->link.reporter = slot->serial;
	pool->report = (Report){ .slot = slot,
							 .bye = pool->closed,
							 .good = true,
							 .deadline = pqp_deadline(now, PQP_REPORT_MS) };
	pool->keeper_due = now;
	work->kick = true;
	return true;
}

/* The report is over: take in what was learnt, and give the connection back. */
static void
finish(Pool *pool, Progress progress)
{
	Slot *slot = pool->report.slot;
	const char *text = progress == PROGRESS_DONE ? pqp_text(slot) : NULL;
	int64_t now = pqp_now();
	Work work = { 0 };

	pqp_restore(slot);
	pthread_mutex_lock(&pool->lock);
	if (progress == PROGRESS_DONE && pool->report.good)
		pqp_answered(pool, slot->serial, text, pool->report.sent_at);
	if (pool->report.bye)
	{
		pool->link.bye_pending = false;
		pool->refs--; /* the slot has another */
	}
	pool->report.slot = NULL;
	pqp_idle_bring_back(slot);
	if (progress == PROGRESS_BROKEN)
	{
		pqp_count(&pool->counters.found_dead, 1);
		pqp_server_ended(pool, &work, now);
		pqp_retire(slot, &work, PQPOOL_CLOSE_DEAD);
	}
	else
	{
		slot->alive_at = now;
		pqp_put_back(slot, &work, now);
	}
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

static Progress
start(Pool *pool)
{
	char text[PQP_REPORT_BYTES + 1];
	int length;

	pqp_quiet(pool->report.slot);
	pthread_mutex_lock(&pool->lock);
	length = format(pool, text, sizeof(text), pqp_now(), pool->report.bye);
	pthread_mutex_unlock(&pool->lock);
	pool->report.sent = true;
	pool->report.sent_at = pqp_boottime();
	if (length < 0 || !pqp_alive(pool->report.slot))
		return PROGRESS_BROKEN;
	pqp_quiet(pool->report.slot);
	return send_report(pool->report.slot->conn, text) ? PROGRESS_MORE : PROGRESS_BROKEN;
}

/*
 * Move the report in flight on, if there is one. readable: the socket has
 * something.  False: there is none (any more).
 */
bool
pqp_report_run(Pool *pool, bool readable)
{
	Report *report = &pool->report;
	Progress progress = PROGRESS_MORE;
	bool any;

	pthread_mutex_lock(&pool->lock);
	any = report->slot != NULL;
	pthread_mutex_unlock(&pool->lock);
	if (!any)
		return false;
	if (!report->sent)
		progress = start(pool);
	else if (readable && !PQconsumeInput(report->slot->conn))
		progress = PROGRESS_BROKEN;
	if (progress == PROGRESS_MORE)
		progress = read_answer(report->slot->conn, &report->good);
	if (progress == PROGRESS_MORE && pqp_now() >= report->deadline)
		progress = PROGRESS_BROKEN;
	if (progress == PROGRESS_MORE)
		return true;
	finish(pool, progress);
	return false;
}

/*
 * Knocks.
 */

typedef struct Knock
{
	Task task;	/* must be first */
	Pool *pool; /* with a reference */
	bool bye;
	Nascent nascent;
} Knock;

static bool
exchange(PGconn *conn, const char *text, int64_t deadline)
{
	bool good = true;
	Progress progress = send_report(conn, text) ? read_answer(conn, &good) : PROGRESS_BROKEN;

	while (progress == PROGRESS_MORE)
	{
		struct pollfd wait = { .fd = PQsocket(conn), .events = POLLIN };
		int n;

		if (PQflush(conn) > 0)
			wait.events |= POLLOUT;
		n = poll(&wait, 1, pqp_poll_ms(deadline));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !PQconsumeInput(conn))
			return false;
		progress = read_answer(conn, &good);
	}
	return progress == PROGRESS_DONE && good;
}

static int64_t
knock_deadline(int ms)
{
	return pqp_deadline(pqp_now(), pqp_has_threads ? ms : KNOCK_BRIEFLY_MS);
}

static void
knock_over(Pool *pool)
{
	Work work = { 0 };

	pthread_mutex_lock(&pool->lock);
	pool->link.knocking = false;
	pqp_nudge(pool, &work, pqp_now());
	pqp_pump(pool, &work, pqp_now());
	pqp_unlock(pool, &work);
	pqp_unref(pool);
}

static void
knock_on(Pool *pool, PGconn *conn, uint64_t serial, int64_t began, bool bye)
{
	char text[PQP_REPORT_BYTES + 1];
	const char *heard = PQparameterStatus(conn, PQP_ALLOTMENT_PARAMETER);
	int64_t sent = pqp_boottime();
	int length;

	pthread_mutex_lock(&pool->lock);
	pqp_connected(pool, serial, heard, began);
	/* what is acknowledged is in force: a pause */
	pqp_waitq_gate(&pool->queue, pool->careful || !pqp_lends(pool));
	length = pqp_reports(pool) ? format(pool, text, sizeof(text), pqp_now(), bye) : -1;
	pthread_mutex_unlock(&pool->lock);
	if (length < 0 || !exchange(conn, text, knock_deadline(PQP_REPORT_MS)))
		return;
	heard = PQparameterStatus(conn, PQP_ALLOTMENT_PARAMETER);
	pthread_mutex_lock(&pool->lock);
	pqp_answered(pool, serial, heard, sent);
	pthread_mutex_unlock(&pool->lock);
}

static void
knock_task(Task *task)
{
	Knock *knock = (Knock *) task;
	Pool *pool = knock->pool;
	char identity[4096];
	uint64_t serial = pqp_next_serial();
	int64_t began = pqp_boottime();

	if (pqp_identity(pool, identity, sizeof(identity), true))
	{
		Failure failure;
		PGconn *conn = pqp_connect(&pool->options, identity, knock_deadline(KNOCK_CONNECT_MS), NULL,
								   &knock->nascent, &failure);

		if (conn)
		{
			knock_on(pool, conn, serial, began, knock->bye);
			pqp_nascent(&knock->nascent, NULL);
			pqp_finish(conn);
		}
	}
	free(knock);
	knock_over(pool);
}

static void
no_knock(Task *task)
{
	Knock *knock = (Knock *) task;
	Pool *pool = knock->pool;

	free(knock);
	knock_over(pool);
}

/*
 * Have a helper knock; bye: to say that the pool is closed.  Called with
 * link.knocking set, and a reference to the pool.
 */
void
pqp_knock(Pool *pool, bool bye)
{
	Knock *knock = malloc(sizeof(*knock));

	if (!knock)
	{
		knock_over(pool);
		return;
	}
	*knock = (Knock){ .task = { .kind = TASK_OTHER,
								.run = knock_task,
								.otherwise = pqp_has_threads ? no_knock : knock_task },
					  .pool = pool,
					  .bye = bye };
	pqp_helper_submit(&knock->task);
}
