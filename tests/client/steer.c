/*-------------------------------------------------------------------------
 *
 * steer.c
 *	  Resize, pause, drain, close; and what the pool does by itself: minimum
 *	  size, idle timeout, lifetime.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

static PGconn *direct;

/*---- resize ----*/

static void
test_resize(void)
{
	pqpool *pool = open_pool("application_name=resize pool_max_size=2");
	PGconn *conns[5];
	pqpool_error err;
	PGconn *over;

	conns[0] = acquire_or_give_up(pool);
	conns[1] = acquire_or_give_up(pool);
	is_code(acquire_code(pool, 50), PQPOOL_TIMED_OUT, "two are all");
	is_code(pqpool_resize(pool, -1, 5, &err), PQPOOL_OK, "raised to five");
	for (int i = 2; i < 5; i++)
		conns[i] = acquire_or_give_up(pool);
	is_int(stats_of(pool).in_use, 5, "five are out");
	is_code(acquire_code(pool, 50), PQPOOL_TIMED_OUT, "and are all");

	is_code(pqpool_resize(pool, -1, 2, &err), PQPOOL_OK, "lowered to two");
	is_int(stats_of(pool).in_use, 5, "nobody loses his loan");
	for (int i = 0; i < 5; i++)
		ok(query_int(conns[i], "SELECT 1") == 1, "loan %d works", i);
	for (int i = 0; i < 3; i++)
		(void) pqpool_release(conns[i]);
	is_code(acquire_code(pool, 0), PQPOOL_TIMED_OUT, "two are out: there is none for a third");
	ok(WAIT_FOR(stats_of(pool).size == 2 && count_sessions(direct, "resize") == 2),
	   "what came back was closed");
	(void) pqpool_release(conns[3]);
	(void) pqpool_release(conns[4]);
	is_int(stats_of(pool).idle, 2, "two are kept");
	is_code(pqpool_resize(pool, 0, 1, &err), PQPOOL_OK, "lowered with both idle");
	ok(WAIT_FOR(stats_of(pool).size == 1 && count_sessions(direct, "resize") == 1),
	   "one is closed without anybody asking");

	is_code(pqpool_resize(pool, -1, 0, &err), PQPOOL_BAD_ARGUMENT, "a pool of none is none");
	is_code(pqpool_resize(pool, 3, 2, &err), PQPOOL_BAD_ARGUMENT, "minimum above maximum");
	is_code(err.code, PQPOOL_BAD_ARGUMENT, "as the error says: %s", err.message);
	is_code(pqpool_resize(NULL, 0, 1, &err), PQPOOL_BAD_ARGUMENT, "no pool");
	is_int(stats_of(pool).max_size, 1, "errors change nothing");

	over = acquire_or_give_up(pool);
	(void) pqpool_release(over);
	(void) pqpool_close(&pool, -1);
}

typedef struct Waiting
{
	pqpool *pool;
	atomic_int served;
	atomic_int code;
} Waiting;

static void
wait_for_one(int index, void *arg)
{
	Waiting *waiting = arg;
	pqpool_error err;
	PGconn *conn = pqpool_acquire(waiting->pool, 60000, &err);

	(void) index;
	atomic_store(&waiting->code, err.code);
	if (conn == NULL)
		return;
	atomic_fetch_add(&waiting->served, 1);
	(void) pqpool_release(conn);
}

static void
test_resize_wakes(void)
{
	Waiting waiting = { .pool = open_pool("pool_max_size=1") };
	PGconn *conn = acquire_or_give_up(waiting.pool);
	Threads threads = { 0 };

	for (int i = 0; i < 3; i++)
		start_thread(&threads, wait_for_one, &waiting);
	ok(WAIT_FOR(stats_of(waiting.pool).waiting == 3), "three wait for the one that is out");
	is_code(pqpool_resize(waiting.pool, -1, 4, NULL), PQPOOL_OK, "the pool is enlarged");
	join_threads(&threads);
	is_int(atomic_load(&waiting.served), 3, "and the three are served while it is out");
	(void) pqpool_release(conn);
	(void) pqpool_close(&waiting.pool, -1);
}

/*---- pause ----*/

static void
test_pause(void)
{
	Waiting waiting = { .pool = open_pool("pool_max_size=3") };
	PGconn *conn = acquire_or_give_up(waiting.pool);
	PGconn *idle = acquire_or_give_up(waiting.pool);
	Threads threads = { 0 };
	pqpool_error err;

	(void) pqpool_release(idle);
	is_code(pqpool_pause(waiting.pool), PQPOOL_OK, "paused");
	is_code(pqpool_pause(waiting.pool), PQPOOL_OK, "twice");
	ok(stats_of(waiting.pool).paused != 0, "as the statistics say");
	ok(query_int(conn, "SELECT 1") == 1, "a loan is not touched");
	ok(pqpool_acquire(waiting.pool, 50, &err) == NULL, "nothing is lent, though one is idle");
	is_code(err.code, PQPOOL_PAUSED, "because of the pause");
	is_code(acquire_code(waiting.pool, 0), PQPOOL_PAUSED, "for a try, too");
	start_thread(&threads, wait_for_one, &waiting);
	start_thread(&threads, wait_for_one, &waiting);
	ok(WAIT_FOR(stats_of(waiting.pool).waiting == 2), "who has time waits");
	(void) pqpool_release(conn);
	is_int(atomic_load(&waiting.served), 0, "and is not served when one comes back");
	is_int(stats_of(waiting.pool).waiting, 2, "but goes on waiting");
	is_code(pqpool_resume(waiting.pool), PQPOOL_OK, "resumed, once");
	join_threads(&threads);
	is_int(atomic_load(&waiting.served), 2, "those who waited are served");
	is_code(pqpool_resume(waiting.pool), PQPOOL_OK, "resuming what is not paused is no error");
	is_code(acquire_code(waiting.pool, 0), PQPOOL_OK, "it lends again");
	is_code(pqpool_pause(NULL), PQPOOL_BAD_ARGUMENT, "no pool to pause");
	is_code(pqpool_resume(NULL), PQPOOL_BAD_ARGUMENT, "nor to resume");
	(void) pqpool_close(&waiting.pool, -1);
}

/*---- drain ----*/

static void
test_drain(void)
{
	pqpool *pool = open_pool("application_name=drain pool_max_size=3");
	PGconn *out = acquire_or_give_up(pool);
	PGconn *idle = acquire_or_give_up(pool);
	int old_out = PQbackendPID(out), old_idle = PQbackendPID(idle);
	PGconn *fresh;

	(void) pqpool_release(idle);
	is_code(pqpool_drain(pool, 0), PQPOOL_TIMED_OUT, "drained while one is out");
	ok(query_int(out, "SELECT 1") == 1, "which is not touched");
	ok(WAIT_FOR(query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d",
						  old_idle) == 0),
	   "the idle one is closed");
	fresh = acquire_or_give_up(pool);
	ok(PQbackendPID(fresh) != old_out && PQbackendPID(fresh) != old_idle,
	   "the pool lends new ones");
	(void) pqpool_release(out);
	ok(WAIT_FOR(
		   query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", old_out) == 0),
	   "the one that was out is closed when it comes back");
	is_code(pqpool_drain(pool, 0), PQPOOL_TIMED_OUT, "now the new one is an old one, and out");
	(void) pqpool_release(fresh);
	is_code(pqpool_drain(pool, 60000), PQPOOL_OK, "when all are back it ends");
	ok(WAIT_FOR(count_sessions(direct, "drain") == 0), "and none is left");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "the pool works");
	is_code(pqpool_drain(NULL, 0), PQPOOL_BAD_ARGUMENT, "no pool to drain");
	(void) pqpool_close(&pool, -1);
}

/*---- by itself ----*/

static void
test_minimum(void)
{
	pqpool *pool = open_pool("application_name=minimum pool_min_size=3 pool_max_size=5"
							 " pool_idle_timeout=100ms");
	PGconn *conns[5];
	char *pids;

	ok(WAIT_FOR(stats_of(pool).idle == 3), "pool_min_size is opened without anybody asking");
	is_int(count_sessions(direct, "minimum"), 3, "as the server confirms");
	for (int i = 0; i < 5; i++)
		conns[i] = acquire_or_give_up(pool);
	for (int i = 0; i < 5; i++)
		(void) pqpool_release(conns[i]);
	ok(WAIT_FOR(stats_of(pool).size == 3), "what idles above the minimum is closed");
	pids = query_text(direct, "SELECT string_agg(pid::text, ',') FROM pg_stat_activity"
							  " WHERE application_name = 'minimum'");
	sleep_ms(300);
	is_int(query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid IN (%s)", pids), 3,
		   "and the minimum is not");
	(void) query_int(direct, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
							 " WHERE application_name = 'minimum'");
	ok(WAIT_FOR(
		   query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid IN (%s)", pids) == 0),
	   "all are ended by the server");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "somebody finds out");
	free(pids);
	ok(WAIT_FOR(stats_of(pool).idle == 3 && count_sessions(direct, "minimum") == 3),
	   "the minimum is made up again");
	is_code(pqpool_resize(pool, 4, -1, NULL), PQPOOL_OK, "the minimum is raised");
	ok(WAIT_FOR(stats_of(pool).idle == 4), "and reached");
	(void) pqpool_close(&pool, -1);
}

static void
test_idle_timeout(void)
{
	pqpool *pool = open_pool("application_name=bored pool_max_size=3 pool_idle_timeout=100ms");
	PGconn *conns[3];

	for (int i = 0; i < 3; i++)
		conns[i] = acquire_or_give_up(pool);
	(void) pqpool_release(conns[0]);
	(void) pqpool_release(conns[1]);
	ok(WAIT_FOR(stats_of(pool).size == 1 && count_sessions(direct, "bored") == 1),
	   "idle connections are closed after pool_idle_timeout, and lent ones are not");
	(void) pqpool_release(conns[2]);
	ok(WAIT_FOR(stats_of(pool).size == 0 && count_sessions(direct, "bored") == 0), "to the last");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "the pool works");
	(void) pqpool_close(&pool, -1);
}

/* What has outlived its time is not handed to a waiter either. */
static void
ask_pid(int index, void *arg)
{
	Waiting *waiting = arg;
	PGconn *conn = acquire_or_give_up(waiting->pool);

	(void) index;
	atomic_store(&waiting->served, PQbackendPID(conn));
	(void) pqpool_release(conn);
}

static void
test_lifetime_and_waiter(void)
{
	Waiting waiting = { .pool = open_pool("pool_max_size=1 pool_max_lifetime=1ms") };
	PGconn *conn = acquire_or_give_up(waiting.pool);
	int pid = PQbackendPID(conn);
	Threads threads = { 0 };

	start_thread(&threads, ask_pid, &waiting);
	if (!WAIT_FOR(stats_of(waiting.pool).waiting == 1))
		give_up("nobody waits");
	sleep_ms(2);
	(void) pqpool_release(conn);
	join_threads(&threads);
	ok(atomic_load(&waiting.served) != pid, "a waiter gets a new one instead");
	(void) pqpool_close(&waiting.pool, -1);
}

static void
test_lifetime(void)
{
	pqpool *pool = open_pool("application_name=mortal pool_max_size=1 pool_max_lifetime=100ms");
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);

	sleep_ms(150);
	ok(query_int(conn, "SELECT 1") == 1, "a loan outlives its time");
	(void) pqpool_release(conn);
	ok(WAIT_FOR(query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid) ==
				0),
	   "but not its return");
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	(void) pqpool_release(conn);
	ok(WAIT_FOR(query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid) ==
				0),
	   "an idle one is closed when its time has come");
	(void) pqpool_close(&pool, -1);
}

static void
test_leaks(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_leak_after=50ms");
	PGconn *conn = acquire_or_give_up(pool);

	ok(WAIT_FOR(stats_of(pool).leaks == 1), "a loan that is out for long is counted as a leak");
	ok(query_int(conn, "SELECT 1") == 1, "and not taken back");
	(void) pqpool_release(conn);
	is_int(stats_of(pool).leaks, 0, "returned, it is none");
	(void) pqpool_close(&pool, -1);
}

/*---- close ----*/

static void
test_close(void)
{
	Waiting waiting = { .pool = open_pool("application_name=close pool_max_size=2") };
	pqpool *handle = waiting.pool;
	PGconn *conns[2];
	Threads threads = { 0 };

	conns[0] = acquire_or_give_up(handle);
	conns[1] = acquire_or_give_up(handle);
	for (int i = 0; i < 5; i++)
		start_thread(&threads, wait_for_one, &waiting);
	ok(WAIT_FOR(stats_of(handle).waiting == 5), "five wait");
	is_code(pqpool_close(&handle, 0), PQPOOL_TIMED_OUT, "the pool is closed with two loans out");
	ok(handle == NULL, "its variable is empty");
	join_threads(&threads);
	is_code(atomic_load(&waiting.code), PQPOOL_CLOSED, "those who waited are told at once");
	is_int(atomic_load(&waiting.served), 0, "and not served");
	is_code(pqpool_close(&handle, 0), PQPOOL_OK, "closing again is no error");
	for (int i = 0; i < 2; i++)
	{
		ok(query_int(conns[i], "SELECT 1") == 1, "a loan works");
		is_code(pqpool_release(conns[i]), PQPOOL_OK, "and is returned");
	}
	ok(WAIT_FOR(count_sessions(direct, "close") == 0), "which closes it");

	/* never used, and used */
	handle = open_pool("application_name=close pool_min_size=2");
	is_code(pqpool_close(&handle, -1), PQPOOL_OK, "a pool that nobody used is closed");
	ok(WAIT_FOR(count_sessions(direct, "close") == 0), "and leaves nothing");
	handle = open_pool("application_name=close");
	is_code(acquire_code(handle, -1), PQPOOL_OK, "a pool is used");
	is_code(pqpool_close(&handle, -1), PQPOOL_OK, "and closed");
	is_int(count_sessions(direct, "close"), 0,
		   "when close returns the server has ended its session");
}

typedef struct Late
{
	PGconn *conn;
	atomic_int closing;
	int code;
} Late;

static void
return_late(int index, void *arg)
{
	Late *late = arg;

	(void) index;
	while (!atomic_load(&late->closing))
		sleep_ms(1);
	sleep_ms(50);
	late->code = pqpool_release(late->conn);
}

static void
test_close_waits(void)
{
	pqpool *pool = open_pool("application_name=waits pool_max_size=1");
	Late late = { .conn = acquire_or_give_up(pool) };
	Threads threads = { 0 };

	start_thread(&threads, return_late, &late);
	atomic_store(&late.closing, 1);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "close waits for a loan");
	join_threads(&threads);
	is_code(late.code, PQPOOL_OK, "which another thread returns meanwhile");
	is_int(count_sessions(direct, "waits"), 0, "and then nothing is left");
}

/* A place is free again when the server has ended the session, and not before. */
static void
test_closing_counts(void)
{
	pqpool *pool = open_pool("application_name=counts pool_max_size=1 pool_report=off");
	int early = 0;

	for (int i = 0; i < 200; i++)
	{
		PGconn *conn = acquire_or_give_up(pool);
		int pid = PQbackendPID(conn);

		(void) pqpool_discard(conn);
		while (stats_of(pool).size > 0)
			;
		early +=
			query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid) != 0;
	}
	is_int(early, 0, "of 200 discarded connections none is counted out too early");
	(void) pqpool_close(&pool, -1);
}

/* Opening and closing many pools leaves nothing behind. */
static void
test_many_pools(void)
{
	int wrong = 0;

	for (int i = 0; i < 100; i++)
	{
		pqpool *pool = open_pool("application_name=mayfly pool_max_size=2");

		if (i % 3 != 0)
			wrong += acquire_code(pool, -1) != PQPOOL_OK;
		wrong += pqpool_close(&pool, i % 2 == 0 ? -1 : 0) != PQPOOL_OK && i % 2 == 0;
	}
	is_int(wrong, 0, "100 pools are opened and closed");
	ok(WAIT_FOR(count_sessions(direct, "mayfly") == 0), "no session is left");
}

int
main(void)
{
	direct = connect_directly("application_name=direct");
	test_resize();
	test_resize_wakes();
	test_pause();
	test_drain();
	test_minimum();
	test_idle_timeout();
	test_lifetime();
	test_lifetime_and_waiter();
	test_leaks();
	test_close();
	test_close_waits();
	test_closing_counts();
	test_many_pools();
	PQfinish(direct);
	return done_testing();
}
