/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  Acquiring without blocking: what comes into an inbox, in which order, and
 *	  what is taken back.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"
#include "descriptors.h"

#include <poll.h>
#include <signal.h>

static PGconn *direct;

/* What came out of an inbox. */
typedef struct Result
{
	long tag;
	PGconn *conn;
	pqpool_error err;
} Result;

static pqpool_inbox *
open_inbox(void)
{
	pqpool_error err;
	pqpool_inbox *inbox = pqpool_inbox_open(&err);

	if (inbox == NULL)
		give_up("pqpool_inbox_open: %s", err.message);
	return inbox;
}

static bool
readable(pqpool_inbox *inbox)
{
	struct pollfd wait = { .fd = pqpool_inbox_fd(inbox), .events = POLLIN };

	return poll(&wait, 1, 0) == 1;
}

static uint64_t
start(pqpool *pool, int timeout_ms, pqpool_inbox *inbox, long tag)
{
	pqpool_error err;
	uint64_t ticket = 0;

	if (pqpool_acquire_start(pool, timeout_ms, inbox, (void *) tag, &ticket, &err) != PQPOOL_OK)
		give_up("pqpool_acquire_start: %s", err.message);
	return ticket;
}

/* Take out what is there; false: nothing is. */
static bool
next(pqpool_inbox *inbox, Result *result)
{
	void *tag = NULL;

	*result = (Result){ .tag = -1 };
	if (!pqpool_inbox_next(inbox, &tag, &result->conn, &result->err))
		return false;
	result->tag = (long) tag;
	return true;
}

/* The same, when it comes. */
static Result
await(pqpool_inbox *inbox)
{
	Result result = { 0 };

	if (!WAIT_FOR(next(inbox, &result)))
		give_up("nothing came into the inbox");
	return result;
}

/*
 * What comes.
 */

static void
test_grants(void)
{
	pqpool *pool = open_pool("pool_max_size=2");
	pqpool_inbox *inbox = open_inbox();
	Result r = { 0 }, s = { 0 };

	ok(!readable(inbox) && !next(inbox, &r), "a new inbox is empty");
	(void) start(pool, 60000, inbox, 1);
	ok(WAIT_FOR(readable(inbox)), "its descriptor tells when something comes");
	ok(next(inbox, &r) && r.tag == 1 && r.conn != NULL, "a connection, with the tag");
	is_code(r.err.code, PQPOOL_OK, "and no error");
	ok(!readable(inbox) && !next(inbox, &s), "it comes once");
	is_int(query_int(r.conn, "SELECT 1"), 1, "it works");
	is_int(stats_of(pool).in_use, 1, "and is lent");
	is_code(pqpool_release(r.conn), PQPOOL_OK, "given back");

	(void) start(pool, 60000, inbox, 2);
	ok(readable(inbox) && next(inbox, &s), "what is idle is there at once");
	ok(s.conn == r.conn, "the one given back last");

	(void) start(pool, 60000, inbox, 3);
	r = await(inbox);
	(void) start(pool, 60000, inbox, 4);
	ok(!next(inbox, &(Result){ 0 }) && stats_of(pool).waiting == 1, "with all out it waits");
	(void) pqpool_release(r.conn);
	ok(readable(inbox) && next(inbox, &r) && r.tag == 4, "until one comes back");
	(void) pqpool_release(r.conn);
	(void) pqpool_release(s.conn);
	ok(stats_of(pool).acquires == 4 && stats_of(pool).in_use == 0, "four acquires, nothing out");
	(void) start(pool, 60000, inbox, 5);
	(void) start(pool, 60000, inbox, 6);
	(void) next(inbox, &r);
	ok(readable(inbox), "with one of two taken out it stays readable");
	(void) next(inbox, &s);
	ok(r.tag == 5 && s.tag == 6 && !readable(inbox), "they come in order");
	(void) pqpool_release(r.conn);
	(void) pqpool_release(s.conn);
	is_code(pqpool_inbox_close(&inbox), PQPOOL_OK, "closed");
	ok(inbox == NULL, "the variable is empty");
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "nothing is held of the pool");
}

/* Threads and requests stand in one queue. */
#define LINE 20

typedef struct Line
{
	pqpool *pool;
	atomic_int served;
	int order[LINE];
} Line;

static void
stand_in_line(int index, void *arg)
{
	Line *line = arg;
	PGconn *conn = acquire_or_give_up(line->pool);

	/* the index among threads: they are every second one */
	line->order[atomic_fetch_add(&line->served, 1)] = 2 * index;
	(void) pqpool_release(conn);
}

static void
test_order(void)
{
	Line line = { .pool = open_pool("pool_max_size=1 pool_max_waiters=100") };
	pqpool_inbox *inbox = open_inbox();
	PGconn *conn = acquire_or_give_up(line.pool);
	Threads threads = { 0 };
	int wrong = 0;

	for (int i = 0; i < LINE; i++)
	{
		if (i % 2 == 0)
			start_thread(&threads, stand_in_line, &line);
		else
			(void) start(line.pool, 60000, inbox, i);
		if (!WAIT_FOR(stats_of(line.pool).waiting == i + 1))
			give_up("a waiter did not queue");
	}
	(void) pqpool_release(conn);
	for (int i = 0; i < LINE / 2; i++)
	{
		Result r = await(inbox);

		line.order[atomic_fetch_add(&line.served, 1)] = (int) r.tag;
		(void) pqpool_release(r.conn);
	}
	join_threads(&threads);
	for (int i = 0; i < LINE; i++)
		wrong += line.order[i] != i;
	is_int(wrong, 0, "threads and requests are served in the order of coming");
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&line.pool, -1);
}

static void
test_expiry(void)
{
	pqpool *pool = open_pool("pool_name=late pool_max_size=1 pool_acquire_timeout=50ms"
							 " pool_max_waiters=2");
	pqpool_inbox *inbox = open_inbox();
	PGconn *conn = acquire_or_give_up(pool);
	double began = now_s();
	Result r;

	(void) start(pool, 150, inbox, 1);
	r = await(inbox);
	ok(r.conn == NULL && r.tag == 1, "an acquire that is not served ends");
	ok(now_s() - began >= 0.150, "at its deadline, not before");
	is_code(r.err.code, PQPOOL_TIMED_OUT, "with an error");
	ok(strstr(r.err.message, "\"late\"") != NULL && strstr(r.err.message, "1 of 1 in use") != NULL,
	   "that has figures: %s", r.err.message);
	(void) start(pool, -1, inbox, 2);
	is_code(await(inbox).err.code, PQPOOL_TIMED_OUT, "pool_acquire_timeout is the default");
	(void) start(pool, 0, inbox, 3);
	ok(readable(inbox) && next(inbox, &r) && r.tag == 3, "a try is answered at once");
	is_code(r.err.code, PQPOOL_TIMED_OUT, "by an error");
	is_int(stats_of(pool).timeouts, 3, "three deadlines were counted");

	/* the one whose time is over first is not at the head */
	(void) start(pool, 60000, inbox, 4);
	(void) start(pool, 50, inbox, 5);
	is_int(await(inbox).tag, 5, "each has a deadline of its own");
	(void) start(pool, 60000, inbox, 6);
	(void) start(pool, 60000, inbox, 7);
	r = await(inbox);
	ok(r.tag == 7 && r.err.code == PQPOOL_EXHAUSTED, "pool_max_waiters counts requests, too");
	(void) pqpool_release(conn);
	for (int i = 4; i <= 6; i += 2)
	{
		r = await(inbox);
		is_int(r.tag, i, "those that wait on are served");
		(void) pqpool_release(r.conn);
	}
	(void) start(pool, 0, inbox, 8);
	r = await(inbox);
	ok(r.conn != NULL, "a try takes what is there");
	(void) pqpool_release(r.conn);
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&pool, -1);

	pool = open_pool("dbname=no_such_database");
	inbox = open_inbox();
	(void) start(pool, 60000, inbox, 1);
	r = await(inbox);
	ok(r.conn == NULL && r.err.code == PQPOOL_REFUSED && strcmp(r.err.sqlstate, "3D000") == 0 &&
		   r.err.cause[0] != '\0',
	   "what the server says comes, too: %s", r.err.message);
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&pool, -1);
}

/*
 * What is taken back.
 */

static void
test_cancel(void)
{
	pqpool *pool = open_pool("pool_max_size=1");
	pqpool_inbox *inbox = open_inbox();
	PGconn *conn = acquire_or_give_up(pool);
	uint64_t ticket = start(pool, 60000, inbox, 1);
	uint64_t other = start(pool, 60000, inbox, 2);
	Result r;

	ok(ticket != 0 && other != ticket, "each has a ticket");
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_OK, "one that waits is taken back");
	is_int(stats_of(pool).waiting, 1, "and has left the queue");
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_NOT_LENT, "once");
	(void) pqpool_release(conn);
	ok(readable(inbox), "the next one is served");
	is_code(pqpool_acquire_cancel(inbox, other), PQPOOL_OK, "one that lies there is taken back");
	ok(!readable(inbox) && !next(inbox, &r), "nothing comes out, and the descriptor knows");
	ok(stats_of(pool).in_use == 0 && stats_of(pool).idle == 1, "its connection was given back");

	ticket = start(pool, 60000, inbox, 3);
	r = await(inbox);
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_NOT_LENT, "what has come out has");
	is_code(pqpool_acquire_cancel(inbox, 0), PQPOOL_NOT_LENT, "there never was such a ticket");
	is_code(pqpool_acquire_cancel(inbox, UINT64_MAX), PQPOOL_NOT_LENT, "nor such a one");
	(void) pqpool_release(r.conn);

	/* from the middle of those that are ready */
	(void) pqpool_resize(pool, -1, 3, NULL);
	(void) start(pool, 60000, inbox, 4);
	ticket = start(pool, 60000, inbox, 5);
	(void) start(pool, 60000, inbox, 6);
	ok(WAIT_FOR(stats_of(pool).in_use == 3), "three are ready");
	sleep_ms(20);
	(void) pqpool_acquire_cancel(inbox, ticket);
	for (int i = 0; i < 2; i++)
	{
		r = await(inbox);
		ok(r.tag != 5 && r.conn != NULL, "the others come out (%ld)", r.tag);
		(void) pqpool_release(r.conn);
	}
	ok(!next(inbox, &r), "and nothing else");

	/* errors can be taken back as well */
	conn = acquire_or_give_up(pool);
	(void) pqpool_pause(pool);
	ticket = start(pool, 0, inbox, 7);
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_OK, "an error is taken back");
	ok(!readable(inbox) && !next(inbox, &r), "and does not come out");
	(void) pqpool_resume(pool);
	(void) pqpool_release(conn);
	(void) pqpool_inbox_close(&inbox);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "the pool is whole");
}

static void
test_close(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_max_waiters=100");
	pqpool_inbox *inbox = open_inbox();
	pqpool_inbox *other = open_inbox();
	Result r;

	for (int i = 0; i < 10; i++)
		(void) start(pool, 60000, inbox, i);
	ok(WAIT_FOR(stats_of(pool).in_use == 2 && stats_of(pool).waiting == 8), "two of ten are ready");
	(void) start(pool, 60000, other, 10);
	is_code(pqpool_inbox_close(&inbox), PQPOOL_OK, "an inbox is closed with all of them in it");
	r = await(other);
	ok(r.tag == 10 && r.conn != NULL, "who stood behind them is served");
	ok(WAIT_FOR(stats_of(pool).in_use == 1 && stats_of(pool).waiting == 0),
	   "connections and places are back");
	(void) pqpool_release(r.conn);
	is_code(pqpool_inbox_close(&inbox), PQPOOL_OK, "closing again is no error");
	is_code(pqpool_inbox_close(NULL), PQPOOL_BAD_ARGUMENT, "no variable is");

	/* the pool is closed under it */
	for (int i = 0; i < 5; i++)
		(void) start(pool, 60000, other, i);
	ok(WAIT_FOR(stats_of(pool).in_use == 2), "two are ready, three wait");
	sleep_ms(20);
	is_code(pqpool_close(&pool, 0), PQPOOL_TIMED_OUT, "the pool is closed");
	{
		int granted = 0, closed = 0;

		for (int i = 0; i < 5; i++)
		{
			r = await(other);
			granted += r.conn != NULL && query_int(r.conn, "SELECT 1") == 1;
			closed += r.conn == NULL && r.err.code == PQPOOL_CLOSED;
			if (r.conn != NULL)
				is_code(pqpool_release(r.conn), PQPOOL_OK, "a loan of a closed pool is given back");
		}
		is_int(closed, 3, "those that wait are told that it is closed");
		is_int(granted, 2, "what was lent before stays usable");
	}
	ok(!readable(other), "then it is empty");
	(void) pqpool_inbox_close(&other);
}

/*
 * Connections that die.
 */

/* It is idle and dead; or in the inbox, and dies there. */
static void
test_dead(const char *options)
{
	char conninfo[200];
	pqpool *pool;
	pqpool_inbox *inbox = open_inbox();
	Result r;
	PGconn *conn;
	int pid;

	snprintf(conninfo, sizeof(conninfo), "pool_max_size=1 %s", options);
	pool = open_pool(conninfo);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	(void) pqpool_release(conn);
	if (!WAIT_FOR(stats_of(pool).idle == 1))
		give_up("the connection does not come back");
	end_backend(direct, pid);
	(void) start(pool, 60000, inbox, 1);
	r = await(inbox);
	ok(r.conn != NULL && PQbackendPID(r.conn) != pid && query_int(r.conn, "SELECT 1") == 1,
	   "%s: one that died idle is not given out", options);
	(void) pqpool_release(r.conn);

	(void) start(pool, 60000, inbox, 2);
	ok(WAIT_FOR(readable(inbox)), "%s: one is in the inbox", options);
	pid = (int) query_int(direct, "SELECT pid FROM pg_stat_activity WHERE application_name <> ''"
								  " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
								  " AND state = 'idle'");
	ok(pid > 0, "%s: its backend is known", options);
	end_backend(direct, pid);
	r = await(inbox);
	ok(r.tag == 2 && r.conn != NULL && PQbackendPID(r.conn) != pid &&
		   query_int(r.conn, "SELECT 1") == 1,
	   "%s: it dies there, and a good one comes", options);
	ok(!next(inbox, &(Result){ 0 }), "%s: once", options);
	(void) pqpool_release(r.conn);
	(void) pqpool_inbox_close(&inbox);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "%s: closed", options);
}

/* What is taken out after its deadline is as good as before. */
static void
test_late(const char *options)
{
	char conninfo[200];
	pqpool *pool;
	pqpool_inbox *inbox = open_inbox();
	PGconn *victim;
	Result r;

	snprintf(conninfo, sizeof(conninfo), "pool_max_size=2 %s", options);
	pool = open_pool(conninfo);
	victim = acquire_or_give_up(pool);
	(void) start(pool, 500, inbox, 1);
	ok(WAIT_FOR(readable(inbox)), "%s: one is in the inbox", options);
	sleep_ms(600);
	/* makes the other one suspect */
	end_backend(direct, PQbackendPID(victim));
	(void) run(victim, "SELECT 1");
	(void) pqpool_release(victim);
	r = await(inbox);
	ok(r.conn != NULL && query_int(r.conn, "SELECT 1") == 1, "%s: past its deadline it is good",
	   options);
	is_int(stats_of(pool).opened, 2, "%s: and still the same", options);
	if (r.conn != NULL)
		(void) pqpool_release(r.conn);

	/* a try must not take a good one for dead, only because it has no time to ask */
	victim = acquire_or_give_up(pool);
	(void) start(pool, 60000, inbox, 2);
	r = await(inbox);
	(void) pqpool_release(r.conn);
	(void) WAIT_FOR(stats_of(pool).idle == 1);
	end_backend(direct, PQbackendPID(victim));
	(void) run(victim, "SELECT 1");
	(void) pqpool_release(victim);
	(void) WAIT_FOR(stats_of(pool).size == 1);
	(void) start(pool, 0, inbox, 3);
	r = await(inbox);
	ok(r.conn != NULL, "%s: a try gets one that is suspect, but good", options);
	if (r.conn != NULL)
		(void) pqpool_release(r.conn);
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&pool, -1);
}

/* A backend that hangs holds up nobody but the request that has it. */
static void
test_vetting(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_validate_after=0 pool_reset_timeout=60s");
	pqpool_inbox *inbox = open_inbox();
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);
	uint64_t ticket;
	Result r;

	(void) pqpool_release(conn);
	if (!WAIT_FOR(stats_of(pool).reports > 0))
		diag("no report was made");
	if (kill(pid, SIGSTOP) != 0)
		give_up("cannot stop a backend: not the same user");
	ticket = start(pool, 60000, inbox, 1);
	(void) start(pool, 60000, inbox, 2);
	r = await(inbox);
	ok(r.tag == 2 && r.conn != NULL, "the second one is served while the first is vetted");
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_OK, "the first is taken back meanwhile");
	is_code(pqpool_acquire_cancel(inbox, ticket), PQPOOL_NOT_LENT, "once");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(stats_of(pool).in_use == 1), "its connection comes back when it answers");
	ok(!next(inbox, &(Result){ 0 }), "and nothing of it out of the inbox");
	(void) pqpool_release(r.conn);

	/* and the inbox may go before it does */
	(void) WAIT_FOR(stats_of(pool).idle == 2);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	(void) pqpool_release(conn);
	(void) kill(pid, SIGSTOP);
	(void) start(pool, 60000, inbox, 3);
	(void) pqpool_inbox_close(&inbox);
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(stats_of(pool).in_use == 0 && stats_of(pool).waiting == 0),
	   "an inbox is closed while one is vetted for it");
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "closed");
}

/*
 * Hooks.
 */

static atomic_int asked, refusals;
static atomic_int asking_thread;

static int
before(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	atomic_fetch_add(&asked, 1);
	atomic_store(&asking_thread, gettid());
	if (atomic_load(&refusals) == 0)
		return 0;
	atomic_fetch_sub(&refusals, 1);
	return 1;
}

static void
test_hook(void)
{
	pqpool_hooks hooks = { .before_acquire = before };
	pqpool *pool = pqpool_open_hooked("pool_max_size=2", &hooks, NULL);
	pqpool_inbox *inbox = open_inbox();
	Result r;

	(void) start(pool, 60000, inbox, 1);
	r = await(inbox);
	ok(r.conn != NULL, "with before_acquire one comes");
	is_int(atomic_load(&asked), 1, "which was asked once");
	ok(atomic_load(&asking_thread) != gettid(), "in another thread");
	(void) pqpool_release(r.conn);
	atomic_store(&refusals, 1);
	(void) start(pool, 60000, inbox, 2);
	r = await(inbox);
	ok(r.conn != NULL && atomic_load(&asked) == 3, "if it refuses, another one comes");
	is_int(stats_of(pool).acquires, 2, "for one acquire");
	(void) pqpool_release(r.conn);
	atomic_store(&refusals, 1000000);
	(void) start(pool, 200, inbox, 3);
	r = await(inbox);
	is_code(r.err.code, PQPOOL_TIMED_OUT, "if it refuses all, the deadline ends it");
	atomic_store(&refusals, 0);
	(void) pqpool_inbox_close(&inbox);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "closed");
}

/*
 * Many of everything.
 */

#define WORKERS 8
#define REQUESTS 200

typedef struct Crowd
{
	pqpool *pool;
	pqpool_inbox *inbox; /* NULL: each has its own */
	atomic_int results, failures;
	atomic_int seen[WORKERS * REQUESTS];
} Crowd;

/* Take one out, use it, give it back. */
static bool
serve_one(Crowd *crowd, pqpool_inbox *inbox)
{
	Result r;

	if (!next(inbox, &r))
		return false;
	atomic_fetch_add(&crowd->results, 1);
	atomic_fetch_add(&crowd->seen[r.tag], 1);
	if (r.conn == NULL || query_int(r.conn, "SELECT 1") != 1 || pqpool_release(r.conn) != PQPOOL_OK)
		atomic_fetch_add(&crowd->failures, 1);
	return true;
}

static void
work(int index, void *arg)
{
	Crowd *crowd = arg;
	pqpool_inbox *inbox = crowd->inbox ? crowd->inbox : open_inbox();
	int mine = 0;

	for (int i = 0; i < REQUESTS; i++)
	{
		(void) start(crowd->pool, 120000, inbox, (long) index * REQUESTS + i);
		mine += serve_one(crowd, inbox);
	}
	(void) WAIT_FOR({
		while (serve_one(crowd, inbox))
			mine++;
		crowd->inbox ? atomic_load(&crowd->results) == WORKERS *REQUESTS : mine == REQUESTS;
	});
	if (!crowd->inbox)
		(void) pqpool_inbox_close(&inbox);
}

/* While requests and callers that sleep contend for the same connections. */
static void
contend(int index, void *arg)
{
	Crowd *crowd = arg;

	(void) index;
	for (int i = 0; i < 50; i++)
	{
		PGconn *conn = acquire_or_give_up(crowd->pool);

		(void) pqpool_release(conn);
	}
}

static void
test_crowd(const char *policy, bool shared)
{
	static Crowd crowd;
	char conninfo[200];
	Threads threads = { 0 };
	int wrong = 0;

	memset(&crowd, 0, sizeof(crowd));
	snprintf(conninfo, sizeof(conninfo),
			 "pool_max_size=4 pool_max_waiters=10000 pool_acquire_timeout=120s pool_reset=%s",
			 policy);
	crowd.pool = open_pool(conninfo);
	crowd.inbox = shared ? open_inbox() : NULL;
	for (int i = 0; i < WORKERS; i++)
		start_thread(&threads, work, &crowd);
	for (int i = 0; i < 2; i++)
		start_thread(&threads, contend, &crowd);
	join_threads(&threads);
	for (int i = 0; i < WORKERS * REQUESTS; i++)
		wrong += atomic_load(&crowd.seen[i]) != 1;
	is_int(wrong, 0, "%s, %s: each request has come out once", policy,
		   shared ? "one inbox" : "an inbox each");
	is_int(atomic_load(&crowd.failures), 0, "... and was served");
	ok(WAIT_FOR(stats_of(crowd.pool).in_use == 0) && stats_of(crowd.pool).waiting == 0,
	   "... nothing is left");
	is_int(stats_of(crowd.pool).acquires, WORKERS * REQUESTS + 100, "... all were counted");
	ok(stats_of(crowd.pool).opened <= 4, "... by four connections");
	(void) pqpool_inbox_close(&crowd.inbox);
	is_code(pqpool_close(&crowd.pool, -1), PQPOOL_OK, "... closed");
}

/* Requests are taken back at any moment of their lives. */
static void
change_minds(int index, void *arg)
{
	Crowd *crowd = arg;
	pqpool_inbox *inbox = open_inbox();
	uint64_t state = 88172645463325252ULL * (uint64_t) (index + 1);
	int started = 0, ended = 0;
	Result r;

	for (int i = 0; i < REQUESTS; i++)
	{
		uint64_t ticket = start(crowd->pool, (int) draw(&state, 3) * 5, inbox, 0);

		started++;
		if (draw(&state, 4) == 0)
			sched_yield();
		if (draw(&state, 2) == 0)
			ended += pqpool_acquire_cancel(inbox, ticket) == PQPOOL_OK;
		while (next(inbox, &r))
		{
			ended++;
			if (r.conn != NULL)
				(void) (draw(&state, 20) == 0 ? pqpool_discard(r.conn) : pqpool_release(r.conn));
		}
		if (draw(&state, 50) == 0)
		{
			(void) pqpool_inbox_close(&inbox);
			inbox = open_inbox();
			started = ended = 0;
		}
	}
	while (ended < started)
	{
		r = await(inbox);
		ended++;
		if (r.conn != NULL)
			(void) pqpool_release(r.conn);
	}
	if (next(inbox, &r))
		atomic_fetch_add(&crowd->failures, 1);
	(void) pqpool_inbox_close(&inbox);
}

static void
test_storm(const char *options)
{
	static Crowd crowd;
	char conninfo[200];

	memset(&crowd, 0, sizeof(crowd));
	snprintf(conninfo, sizeof(conninfo), "pool_max_size=3 pool_max_waiters=10000 %s", options);
	crowd.pool = open_pool(conninfo);
	run_threads(WORKERS, change_minds, &crowd);
	is_int(atomic_load(&crowd.failures), 0, "%s: a storm of changed minds", options);
	ok(WAIT_FOR(stats_of(crowd.pool).in_use == 0 && stats_of(crowd.pool).waiting == 0),
	   "%s: nothing is left of it", options);
	is_code(pqpool_close(&crowd.pool, -1), PQPOOL_OK, "%s: closed", options);
}

/*
 * Rules that hold for every call.
 */

static atomic_int survived;

/* A thread that is to be cancelled at the first cancellation point. */
static void *
be_cancelled(void *arg)
{
	pqpool *pool = arg;
	pqpool_inbox *inbox;
	void *tag;
	PGconn *conn;
	uint64_t ticket;

	(void) pthread_cancel(pthread_self());
	inbox = pqpool_inbox_open(NULL);
	(void) pqpool_acquire_start(pool, 60000, inbox, NULL, NULL, NULL);
	while (!pqpool_inbox_next(inbox, &tag, &conn, NULL))
		sched_yield();
	(void) pqpool_acquire_start(pool, 0, inbox, NULL, &ticket, NULL);
	(void) pqpool_acquire_cancel(inbox, ticket);
	(void) pqpool_release(conn);
	(void) pqpool_acquire_start(pool, 60000, inbox, NULL, NULL, NULL);
	(void) pqpool_inbox_close(&inbox);
	atomic_store(&survived, 1);
	pthread_testcancel();
	return NULL;
}

static void
give_back(int index, void *arg)
{
	(void) index;
	is_code(pqpool_release(arg), PQPOOL_OK, "another thread may give it back");
}

static void
test_rules(void)
{
	pqpool *pool = open_pool("pool_max_size=1 pool_bind=thread");
	pqpool_inbox *inbox = open_inbox();
	pqpool_error err;
	pthread_t thread;
	void *tag;
	PGconn *conn;
	Result r;

	is_code(pqpool_acquire_start(NULL, 0, inbox, NULL, NULL, &err), PQPOOL_BAD_ARGUMENT, "no pool");
	is_code(pqpool_acquire_start(pool, 0, NULL, NULL, NULL, &err), PQPOOL_BAD_ARGUMENT, "no inbox");
	is_code(pqpool_acquire_start(pool, -2, inbox, NULL, NULL, &err), PQPOOL_BAD_ARGUMENT,
			"no timeout");
	ok(err.code == PQPOOL_BAD_ARGUMENT && err.message[0] != '\0', "with a message: %s",
	   err.message);
	is_int(pqpool_inbox_next(NULL, &tag, &conn, &err), 0, "nothing comes out of no inbox");
	is_code(err.code, PQPOOL_BAD_ARGUMENT, "and is an error");
	is_int(pqpool_inbox_next(inbox, NULL, &conn, &err), 0, "nor if there is no place for the tag");
	is_int(pqpool_inbox_next(inbox, &tag, NULL, NULL), 0, "nor for the connection");
	is_int(pqpool_inbox_fd(NULL), -1, "no inbox has no descriptor");
	is_code(pqpool_acquire_cancel(NULL, 1), PQPOOL_BAD_ARGUMENT, "nor anything to cancel");

	(void) start(pool, 60000, inbox, 1);
	r = await(inbox);
	run_threads(1, give_back, r.conn);

	if (pthread_create(&thread, NULL, be_cancelled, pool) != 0)
		give_up("no thread");
	(void) pthread_join(thread, NULL);
	is_int(atomic_load(&survived), 1, "no function is a cancellation point");
	(void) pqpool_inbox_close(&inbox);
	is_code(pqpool_close(&pool, 10000), PQPOOL_OK, "closed");
}

static void
test_descriptors(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_max_waiters=1000");
	int before_all = 0, after = 0;
	Result r;

	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < 100; i++)
		{
			pqpool_inbox *inbox = open_inbox();

			(void) start(pool, 60000, inbox, 1);
			(void) start(pool, 60000, inbox, 2);
			(void) start(pool, 60000, inbox, 3);
			if (i % 2 == 0)
			{
				r = await(inbox);
				(void) pqpool_release(r.conn);
			}
			(void) pqpool_inbox_close(&inbox);
		}
		(void) WAIT_FOR(stats_of(pool).in_use == 0 && stats_of(pool).waiting == 0 &&
						stats_of(pool).opening == 0 && stats_of(pool).size == 2);
		if (round == 0)
			before_all = count_descriptors();
	}
	(void) WAIT_FOR((after = count_descriptors()) <= before_all);
	ok(after <= before_all, "no descriptor is lost (%d, %d)", before_all, after);
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	direct = connect_directly("application_name=''");
	test_grants();
	test_order();
	test_expiry();
	test_cancel();
	test_close();
	test_dead("pool_reset=rollback");
	test_dead("pool_reset=discard");
	test_dead("pool_validate_after=0");
	test_late("pool_reset=rollback");
	test_late("pool_reset=discard");
	test_vetting();
	test_hook();
	test_crowd("rollback", false);
	test_crowd("rollback", true);
	test_crowd("discard", true);
	test_storm("pool_reset=rollback");
	test_storm("pool_reset=discard pool_validate_after=0");
	test_rules();
	test_descriptors();
	PQfinish(direct);
	return done_testing();
}
