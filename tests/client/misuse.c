/*-------------------------------------------------------------------------
 *
 * misuse.c
 *	  Mistakes with connections and handles: each is an error with a code, and
 *	  harms nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <errno.h>

/* What a pool must still be able to do after somebody's mistake. */
static bool
works(pqpool *pool)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, -1, &err);
	bool answered = conn != NULL && query_int(conn, "SELECT 42") == 42;

	return conn != NULL && pqpool_release(conn) == PQPOOL_OK && answered;
}

static void
test_release_twice(void)
{
	pqpool *pool = open_pool("pool_max_size=2");
	PGconn *conn = acquire_or_give_up(pool);

	is_code(pqpool_release(conn), PQPOOL_OK, "once is right");
	is_code(pqpool_release(conn), PQPOOL_NOT_LENT, "twice is an error");
	is_code(pqpool_return_connection(conn), PQPOOL_NOT_LENT, "by the other name, too");
	is_code(pqpool_discard(conn), PQPOOL_NOT_LENT, "discarding it is one");
	is_code(pqpool_transfer(conn), PQPOOL_NOT_LENT, "so are transferring");
	is_code(pqpool_adopt(conn), PQPOOL_NOT_LENT, "adopting");
	is_code(pqpool_cancel(conn, 1000, NULL), PQPOOL_NOT_LENT, "and cancelling it");
	ok(stats_of(pool).in_use == 0 && stats_of(pool).idle == 1, "the connection is idle, once");
	ok(works(pool), "the pool works");
	(void) pqpool_close(&pool, -1);
}

static void
test_discard_twice(void)
{
	pqpool *pool = open_pool("application_name=discarded pool_max_size=2");
	PGconn *conn = acquire_or_give_up(pool);
	int code;

	is_code(pqpool_discard(conn), PQPOOL_OK, "discarded");
	code = pqpool_discard(conn);
	ok(code == PQPOOL_UNKNOWN_CONNECTION || code == PQPOOL_NOT_LENT, "twice is an error (%s)",
	   pqpool_code_name(code));
	code = pqpool_release(conn);
	ok(code == PQPOOL_UNKNOWN_CONNECTION || code == PQPOOL_NOT_LENT, "so is a release then (%s)",
	   pqpool_code_name(code));
	is_int(stats_of(pool).discarded, 1, "it was discarded once");
	ok(WAIT_FOR(stats_of(pool).closed == 1 && stats_of(pool).closing == 0), "and is gone");
	ok(works(pool), "the pool works");
	(void) pqpool_close(&pool, -1);
}

static void
test_foreign(void)
{
	pqpool *pool = open_pool("pool_max_size=2");
	PGconn *foreign = connect_directly("");
	int on_the_stack;

	is_code(pqpool_release(NULL), PQPOOL_BAD_ARGUMENT, "NULL is no connection");
	is_code(pqpool_discard(NULL), PQPOOL_BAD_ARGUMENT, "nor to discard");
	is_code(pqpool_transfer(NULL), PQPOOL_BAD_ARGUMENT, "nor to transfer");
	is_code(pqpool_adopt(NULL), PQPOOL_BAD_ARGUMENT, "nor to adopt");
	is_code(pqpool_cancel(NULL, -1, NULL), PQPOOL_BAD_ARGUMENT, "nor to cancel");
	is_code(pqpool_release(foreign), PQPOOL_UNKNOWN_CONNECTION, "one that is not a pool's");
	is_code(pqpool_discard(foreign), PQPOOL_UNKNOWN_CONNECTION, "is not discarded");
	ok(query_int(foreign, "SELECT 1") == 1, "and stays usable");
	is_code(pqpool_release((PGconn *) &on_the_stack), PQPOOL_UNKNOWN_CONNECTION,
			"what is no connection at all is not looked into");
	is_code(pqpool_release((PGconn *) 16), PQPOOL_UNKNOWN_CONNECTION, "nor followed");
	PQfinish(foreign);
	is_code(pqpool_release(foreign), PQPOOL_UNKNOWN_CONNECTION, "a stale pointer");
	ok(works(pool), "the pool works");
	(void) pqpool_close(&pool, -1);
}

static void
test_after_close(void)
{
	pqpool *pool = open_pool("application_name=closing pool_max_size=2");
	PGconn *direct = connect_directly("");
	PGconn *returned = acquire_or_give_up(pool);
	PGconn *out = acquire_or_give_up(pool);
	int code;

	(void) pqpool_release(returned);
	is_code(pqpool_close(&pool, 0), PQPOOL_TIMED_OUT, "closed while a loan is out");
	ok(pool == NULL, "the variable is empty");
	ok(query_int(out, "SELECT 5") == 5, "the loan stays usable");
	ok(WAIT_FOR(count_sessions(direct, "closing") == 1), "the idle one is closed meanwhile");
	is_code(pqpool_release(out), PQPOOL_OK, "and can be given back");
	ok(WAIT_FOR(count_sessions(direct, "closing") == 0), "which closes it");
	code = pqpool_release(out);
	ok(code == PQPOOL_UNKNOWN_CONNECTION || code == PQPOOL_NOT_LENT, "once more is an error (%s)",
	   pqpool_code_name(code));
	code = pqpool_release(returned);
	ok(code == PQPOOL_UNKNOWN_CONNECTION || code == PQPOOL_NOT_LENT,
	   "as it is for one that had been idle (%s)", pqpool_code_name(code));
	is_code(pqpool_close(&pool, 0), PQPOOL_OK, "closing again is none");
	is_code(pqpool_close(NULL, 0), PQPOOL_BAD_ARGUMENT, "but no variable at all is");
	PQfinish(direct);
}

/* The user calls PQfinish on a loan. libpq frees it; the pool must neither touch nor lose it. */
static void
test_finished_by_user(void)
{
	pqpool *pool = open_pool("application_name=finished pool_max_size=1");
	PGconn *direct = connect_directly("");
	PGconn *conn = acquire_or_give_up(pool);
	pqpool *other = open_pool("application_name=finished2 pool_max_size=20");
	PGconn *conns[20];

	PQfinish(conn);
	/* Sooner or later malloc gives the same address again; then the pool notices. */
	for (int i = 0; i < 20; i++)
		conns[i] = acquire_or_give_up(other);
	for (int i = 0; i < 20; i++)
		is_code(pqpool_release(conns[i]), PQPOOL_OK, "a loan of another pool, %d", i);
	ok(works(other), "the other pool works");
	if (stats_of(pool).finished == 1)
		ok(works(pool), "noticed, counted, and the place is free again");
	else
		diag("the address did not come again: not noticed, as documented");
	(void) pqpool_close(&other, -1);
	(void) pqpool_close(&pool, 0);
	PQfinish(direct);
}

/*---- from another thread ----*/

typedef struct Sleeper
{
	PGconn *conn;
	char sqlstate[6];
} Sleeper;

static void
sleep_long(int index, void *arg)
{
	Sleeper *sleeper = arg;
	PGresult *result = PQexec(sleeper->conn, "SELECT pg_sleep(600)");

	(void) index;
	snprintf(sleeper->sqlstate, sizeof(sleeper->sqlstate), "%s",
			 PQresultStatus(result) == PGRES_FATAL_ERROR
				 ? PQresultErrorField(result, PG_DIAG_SQLSTATE)
				 : "none");
	PQclear(result);
}

static void
test_cancel(void)
{
	pqpool *pool = open_pool("application_name=cancel pool_name=named pool_max_size=1");
	PGconn *direct = connect_directly("");
	Sleeper sleeper = { .conn = acquire_or_give_up(pool) };
	Threads threads = { 0 };
	pqpool_error err;

	is_str(pqpool_name(pool), "named", "a pool has its name");
	is_int(strlen(pqpool_id(pool)), 32, "and an id");
	start_thread(&threads, sleep_long, &sleeper);
	if (!WAIT_FOR(query_int(direct,
							"SELECT count(*) FROM pg_stat_activity WHERE"
							" application_name = 'cancel' AND wait_event = 'PgSleep'") == 1))
		give_up("nobody sleeps");
	is_code(pqpool_cancel(sleeper.conn, PATIENCE_S * 1000, &err), PQPOOL_OK,
			"a query is cancelled");
	join_threads(&threads);
	is_str(sleeper.sqlstate, "57014", "and ends");
	is_code(pqpool_release(sleeper.conn), PQPOOL_OK, "its connection is returned");
	ok(works(pool), "and the next holder's query is not cancelled");
	(void) pqpool_close(&pool, -1);
	PQfinish(direct);
}

static void
test_errno(void)
{
	pqpool *pool = open_pool("pool_max_size=1");
	PGconn *conn = acquire_or_give_up(pool);

	(void) run(conn, "BEGIN");
	errno = EDOM;
	(void) pqpool_release(conn);
	is_int(errno, EDOM, "a release with a rollback leaves errno alone");
	(void) pqpool_release(conn);
	is_int(errno, EDOM, "so does one that fails");
	conn = acquire_or_give_up(pool);
	errno = EDOM;
	(void) pqpool_discard(conn);
	is_int(errno, EDOM, "and a discard");
	(void) pqpool_close(&pool, -1);
}

/*---- bound loans ----*/

typedef struct Shared
{
	pqpool *pool;
	PGconn *conn;
	int code;
} Shared;

static void
release_elsewhere(int index, void *arg)
{
	Shared *shared = arg;

	(void) index;
	shared->code = pqpool_release(shared->conn);
}

static void
adopt_elsewhere(int index, void *arg)
{
	Shared *shared = arg;

	(void) index;
	shared->code = pqpool_adopt(shared->conn);
	if (shared->code == PQPOOL_OK)
		shared->code = pqpool_release(shared->conn);
}

static void
acquire_and_die(int index, void *arg)
{
	Shared *shared = arg;

	(void) index;
	shared->conn = acquire_or_give_up(shared->pool);
	if (!run(shared->conn, "BEGIN; CREATE TABLE of_a_dead_thread ()"))
		give_up("no table: %s", PQerrorMessage(shared->conn));
}

static void
test_binding(void)
{
	Shared bound = { .pool = open_pool("pool_max_size=2 pool_bind=thread") };
	Shared loose = { .pool = open_pool("pool_max_size=2") };
	PGconn *conn;

	bound.conn = acquire_or_give_up(bound.pool);
	run_threads(1, release_elsewhere, &bound);
	is_code(bound.code, PQPOOL_WRONG_THREAD, "a bound loan is not another thread's to return");
	run_threads(1, adopt_elsewhere, &bound);
	is_code(bound.code, PQPOOL_WRONG_THREAD, "nor to adopt");
	is_int(stats_of(bound.pool).in_use, 1, "it is still out");
	is_code(pqpool_transfer(bound.conn), PQPOOL_OK, "its own thread can let it go");
	is_code(pqpool_transfer(bound.conn), PQPOOL_OK, "also twice");
	run_threads(1, adopt_elsewhere, &bound);
	is_code(bound.code, PQPOOL_OK, "then another thread can adopt and return it");

	loose.conn = acquire_or_give_up(loose.pool);
	run_threads(1, release_elsewhere, &loose);
	is_code(loose.code, PQPOOL_OK, "an unbound loan is anybody's to return");

	/* threads that end with a loan */
	run_threads(1, acquire_and_die, &bound);
	ok(WAIT_FOR(stats_of(bound.pool).in_use == 0 && stats_of(bound.pool).idle >= 1),
	   "a thread's bound loan comes back when it ends");
	is_int(stats_of(bound.pool).abandoned, 1, "and is counted");
	conn = acquire_or_give_up(bound.pool);
	is_int(query_int(conn, "SELECT count(*) FROM pg_class WHERE relname = 'of_a_dead_thread'"), 0,
		   "rolled back");
	is_int(PQtransactionStatus(conn), PQTRANS_IDLE, "and clean");
	(void) pqpool_release(conn);

	run_threads(1, acquire_and_die, &loose);
	is_int(stats_of(loose.pool).in_use, 1, "an unbound one stays out");
	is_int(PQtransactionStatus(loose.conn), PQTRANS_INTRANS, "as it was");
	is_code(pqpool_adopt(loose.conn), PQPOOL_OK, "for whoever takes over");
	is_code(pqpool_release(loose.conn), PQPOOL_OK, "to return");
	is_int(stats_of(loose.pool).abandoned, 0, "no thread has abandoned it");
	(void) pqpool_close(&bound.pool, -1);
	(void) pqpool_close(&loose.pool, -1);
}

/*---- many mistakes at once ----*/

static PGconn *recent[64]; /* pointers, valid or not */
static pthread_mutex_t recent_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int wrong_answers;

static PGconn *
swap_recent(unsigned i, PGconn *conn)
{
	PGconn *old;

	pthread_mutex_lock(&recent_lock);
	old = recent[i];
	if (conn != NULL)
		recent[i] = conn;
	pthread_mutex_unlock(&recent_lock);
	return old;
}

/*
 * Threads that use what they have borrowed, and between times try to return what they have
 * not: connections idle, gone, or bound to others. Loans are bound, so that none of the
 * tries can succeed.
 */
static void
blunder(int thread, void *arg)
{
	pqpool *pool = arg;
	uint64_t state = 88172645463325252ULL * (uint64_t) (thread + 1);

	for (int i = 0; i < 500; i++)
	{
		PGconn *conn = pqpool_acquire(pool, 60000, NULL);
		PGconn *stale = swap_recent(draw(&state, countof(recent)), conn);
		int code;

		if (conn == NULL)
		{
			atomic_fetch_add(&wrong_answers, 1);
			continue;
		}
		if (stale != conn)
		{
			code = pqpool_release(stale);
			if (code != PQPOOL_NOT_LENT && code != PQPOOL_UNKNOWN_CONNECTION &&
				code != PQPOOL_WRONG_THREAD && code != PQPOOL_BAD_ARGUMENT)
				atomic_fetch_add(&wrong_answers, 1);
		}
		if (i % 20 == 0 && query_int(conn, "SELECT 7") != 7)
			atomic_fetch_add(&wrong_answers, 1);
		code = i % 50 == 0 ? pqpool_discard(conn) : pqpool_release(conn);
		if (code != PQPOOL_OK)
			atomic_fetch_add(&wrong_answers, 1);
	}
}

static void
test_blunders(void)
{
	pqpool *pool = open_pool("pool_max_size=5 pool_bind=thread pool_max_waiters=100");

	run_threads(16, blunder, pool);
	is_int(atomic_load(&wrong_answers), 0, "8000 attempts to return what is not one's own");
	is_int(stats_of(pool).in_use, 0, "left nothing out");
	ok(works(pool), "and the pool works");
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	test_release_twice();
	test_discard_twice();
	test_foreign();
	test_after_close();
	test_finished_by_user();
	test_cancel();
	test_errno();
	test_binding();
	test_blunders();
	return done_testing();
}
