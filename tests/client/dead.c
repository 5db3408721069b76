/*-------------------------------------------------------------------------
 *
 * dead.c
 *	  What the server has closed is never handed out.
 *
 * That is promised for what was closed 10 ms before, which is why the tests
 * wait so long: longer does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <signal.h>

static PGconn *direct;

static void
fill(pqpool *pool, PGconn **conns, int n)
{
	for (int i = 0; i < n; i++)
		conns[i] = acquire_or_give_up(pool);
	for (int i = 0; i < n; i++)
		(void) pqpool_release(conns[i]);
}

static void
test_terminated_while_idle(void)
{
	pqpool *pool = open_pool("application_name=idle pool_max_size=5");
	PGconn *conns[5];
	int wrong = 0;

	for (int round = 0; round < 20; round++)
	{
		fill(pool, conns, 5);
		end_sessions(direct, "idle");
		for (int i = 0; i < 5; i++)
		{
			conns[i] = acquire_or_give_up(pool);
			wrong += query_int(conns[i], "SELECT 1") != 1;
		}
		for (int i = 0; i < 5; i++)
			(void) pqpool_release(conns[i]);
	}
	is_int(wrong, 0, "100 sessions ended while idle: none was handed out");
	ok(stats_of(pool).found_dead >= 20, "they were found dead (%llu)",
	   (unsigned long long) stats_of(pool).found_dead);
	is_int(stats_of(pool).size, 5, "the pool has its size");
	(void) pqpool_close(&pool, -1);
}

/*
 * A waiter, too, gets a living connection: the one that is returned to it has died in its
 * holder's hands.
 */
static void
acquire_and_ask(int index, void *arg)
{
	pqpool *pool = arg;
	PGconn *conn = acquire_or_give_up(pool);

	(void) index;
	ok(query_int(conn, "SELECT 1") == 1, "a waiter gets one that lives");
	(void) pqpool_release(conn);
}

static void
test_terminated_while_lent(void)
{
	pqpool *pool = open_pool("application_name=lent pool_max_size=1");
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };

	start_thread(&threads, acquire_and_ask, pool);
	if (!WAIT_FOR(stats_of(pool).waiting == 1))
		give_up("nobody waits");
	end_sessions(direct, "lent");
	is_code(pqpool_release(conn), PQPOOL_OK, "a dead loan is returned, its death not noticed");
	join_threads(&threads);
	(void) pqpool_close(&pool, -1);
}

/*
 * A backend is killed: the server ends all sessions and starts anew. Whatever was idle is dead,
 * and the pool must get over it by itself.
 */
static void
test_crash(void)
{
	pqpool *pool = open_pool("application_name=crash pool_max_size=5 pool_acquire_timeout=60s");
	PGconn *conns[5];
	int wrong = 0;
	int pid;

	fill(pool, conns, 5);
	pid =
		(int) query_int(direct, "SELECT pid FROM pg_stat_activity WHERE application_name = 'crash'"
								" LIMIT 1");
	if (pid <= 0 || kill(pid, SIGKILL) != 0)
	{
		diag("cannot kill a backend: not the same user");
		(void) pqpool_close(&pool, -1);
		return;
	}
	PQfinish(direct);
	do
	{
		sleep_ms(20);
		direct = PQconnectdb("");
		if (PQstatus(direct) == CONNECTION_OK)
			break;
		PQfinish(direct);
	} while (true);

	for (int i = 0; i < 5; i++)
	{
		conns[i] = acquire_or_give_up(pool);
		wrong += query_int(conns[i], "SELECT 1") != 1;
	}
	is_int(wrong, 0, "after a crash of the server nothing dead is handed out");
	for (int i = 0; i < 5; i++)
		(void) pqpool_release(conns[i]);
	(void) pqpool_close(&pool, -1);
}

/* pool_validate_after = 0: the server is asked each time; -1: never. */
static void
test_validation(void)
{
	pqpool *pool =
		open_pool("application_name=asked pool_report=off pool_max_size=1 pool_validate_after=0");
	PGconn *conn = acquire_or_give_up(pool);
	char *query;

	(void) run(conn, "SELECT 'the last of the holder'");
	(void) pqpool_release(conn);
	sleep_ms(10);
	conn = acquire_or_give_up(pool);
	query =
		query_text(direct, "SELECT query FROM pg_stat_activity WHERE application_name = 'asked'");
	ok(query != NULL && strstr(query, "the last of the holder") == NULL,
	   "validation asks the server something (%s)", query ? query : "-");
	free(query);
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);

	pool =
		open_pool("application_name=asked pool_report=off pool_max_size=1 pool_validate_after=-1");
	conn = acquire_or_give_up(pool);
	(void) run(conn, "SELECT 'the last of the holder'");
	(void) pqpool_release(conn);
	sleep_ms(10);
	conn = acquire_or_give_up(pool);
	query =
		query_text(direct, "SELECT query FROM pg_stat_activity WHERE application_name = 'asked'");
	ok(query != NULL && strstr(query, "the last of the holder") != NULL,
	   "without it the server is not asked (%s)", query ? query : "-");
	free(query);
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	direct = connect_directly("application_name=direct");
	test_terminated_while_idle();
	test_terminated_while_lent();
	test_validation();
	test_crash();
	PQfinish(direct);
	return done_testing();
}
