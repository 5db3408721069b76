/*-------------------------------------------------------------------------
 *
 * tls.c
 *	  All of it over TLS, where the socket shows records and not messages.
 *
 * What is idle is looked at by its socket: over TLS a NOTIFY, a notice and
 * the session's end all look the same there.  A fork leaves the child a copy of
 * the session's keys.  The end is told once by TLS, and then by TCP.
 *
 * server: listen_addresses = 127.0.0.1
 *
 *-------------------------------------------------------------------------
 */
#include "forking.h"

#include <sys/wait.h>

#include "certificate.h"

#define TLS "host=127.0.0.1 sslmode=require "

static PGconn *direct;

static void
test_loans(void)
{
	pqpool *pool = open_pool(TLS "application_name=loans pool_max_size=1");
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);
	int wrong = 0;

	ok(PQsslInUse(conn), "TLS is in use");
	is_int(query_int(direct,
					 "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl "
					 "AND application_name = 'loans'"),
		   1, "... as the server says");
	for (int i = 0; i < 200; i++)
	{
		(void) pqpool_release(conn);
		if (i % 20 == 0)
			sleep_ms(10); /* for longer than it is trusted unseen */
		conn = acquire_or_give_up(pool);
		wrong += query_int(conn, "SELECT 1") != 1 || PQbackendPID(conn) != pid;
	}
	is_int(wrong, 0, "200 loans are of the same session");
	(void) run(conn, "BEGIN");
	is_code(pqpool_release(conn), PQPOOL_OK, "one is returned in a transaction");
	conn = acquire_or_give_up(pool);
	ok(PQtransactionStatus(conn) == PQTRANS_IDLE && PQbackendPID(conn) == pid,
	   "... which has been rolled back");
	/* more than a TLS record, most of it unread */
	ok(PQsendQuery(conn, "SELECT repeat('x', 100000) FROM generate_series(1, 50)") == 1,
	   "one is returned in the middle of an answer");
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	ok(query_int(conn, "SELECT 42") == 42, "... and the next one's answers are his own");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/* What arrives at an idle connection and does not end it. */
static void
test_harmless_data(void)
{
	pqpool *pool = open_pool(TLS "application_name=harmless pool_max_size=1 pool_report=off");
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);
	int shown = 0, others = 0;

	(void) run(conn, "LISTEN news");
	for (int i = 0; i < 20; i++)
	{
		(void) pqpool_release(conn);
		(void) run(direct, "NOTIFY news, 'something'");
		sleep_ms(10);
		conn = acquire_or_give_up(pool);
		shown += PQnotifies(conn) != NULL;
		others += PQbackendPID(conn) != pid;
	}
	is_int(others, 0, "NOTIFY is not taken for the session's end");
	is_int(shown, 0, "... nor shown to the next");
	is_int(query_int(conn, "SELECT 7"), 7, "... and it works");
	(void) pqpool_release(conn);
	is_int(stats_of(pool).found_dead, 0, "nothing was found dead");
	(void) pqpool_close(&pool, -1);
}

static void
test_dead(void)
{
	pqpool *pool = open_pool(TLS "application_name=dead pool_max_size=3");
	PGconn *conns[3];
	int wrong = 0;

	for (int round = 0; round < 10; round++)
	{
		for (int i = 0; i < 3; i++)
			conns[i] = acquire_or_give_up(pool);
		for (int i = 0; i < 3; i++)
			(void) pqpool_release(conns[i]);
		end_sessions(direct, "dead");
		for (int i = 0; i < 3; i++)
		{
			conns[i] = acquire_or_give_up(pool);
			wrong += query_int(conns[i], "SELECT 1") != 1;
		}
		for (int i = 0; i < 3; i++)
			(void) pqpool_release(conns[i]);
	}
	is_int(wrong, 0, "of 30 sessions that were ended none is handed out");
	ok(stats_of(pool).found_dead >= 10, "they were found dead (%llu)",
	   (unsigned long long) stats_of(pool).found_dead);
	(void) pqpool_close(&pool, -1);
}

/*---- fork ----*/

static pqpool *pool_of_both;
static PGconn *lent;

static int
use_pool(void)
{
	PGconn *conn = pqpool_acquire(pool_of_both, PATIENCE_S * 1000, NULL);

	if (conn == NULL)
		return 1;
	if (!PQsslInUse(conn) || query_int(conn, "SELECT pg_backend_pid()") != PQbackendPID(conn))
		return 2;
	if (PQbackendPID(conn) == PQbackendPID(lent))
		return 3;
	return pqpool_release(conn) == PQPOOL_OK ? 0 : 4;
}

static int
close_pool(void)
{
	return use_pool() != 0												 ? 1
		   : pqpool_close(&pool_of_both, PATIENCE_S * 1000) == PQPOOL_OK ? 0
																		 : 2;
}

static int
return_loan(void)
{
	return pqpool_release(lent) == PQPOOL_UNKNOWN_CONNECTION ? use_pool() : 1;
}

static void
test_fork(void)
{
	static int (*const bodies[])(void) = { use_pool, close_pool, return_loan };
	PGconn *idle;
	int pid;

	pool_of_both = open_pool(TLS "application_name=forked pool_max_size=2");
	lent = acquire_or_give_up(pool_of_both);
	idle = acquire_or_give_up(pool_of_both);
	pid = PQbackendPID(idle);
	(void) pqpool_release(idle);
	(void) run(lent, "BEGIN; CREATE TEMP TABLE parents (a int)");
	for (int i = 0; i < countof(bodies); i++)
	{
		int status = -1;
		pid_t child;

		fflush(stdout);
		child = fork();
		if (child == 0)
		{
			is_child = true;
			_exit(bodies[i]());
		}
		(void) waitpid(child, &status, 0);
		is_int(status, 0, "a child has a TLS session of its own (%d)", i);
		is_int(query_int(lent, "SELECT count(*) FROM parents"), 0,
			   "... and the parent's goes on, in its transaction");
		idle = acquire_or_give_up(pool_of_both);
		ok(PQbackendPID(idle) == pid && query_int(idle, "SELECT 1") == 1,
		   "... as does its idle one");
		(void) pqpool_release(idle);
	}
	is_int(stats_of(pool_of_both).found_dead, 0, "no child has closed a session of the parent's");
	(void) pqpool_release(lent);
	(void) pqpool_close(&pool_of_both, -1);
}

/* When close returns, the server's processes are gone. */
static void
test_close(void)
{
	pqpool *pool = open_pool(TLS "application_name=closed pool_max_size=5 pool_report=off");
	PGconn *conns[5];

	for (int round = 0; round < 10; round++)
	{
		long long left;

		for (int i = 0; i < 5; i++)
			conns[i] = acquire_or_give_up(pool);
		for (int i = 0; i < 5; i++)
			(void) pqpool_release(conns[i]);
		is_code(pqpool_drain(pool, PATIENCE_S * 1000), PQPOOL_OK, "drained");
		left = count_sessions(direct, "closed");
		is_int(left, 0, "... and no session is left on the server");
	}
	for (int i = 0; i < 5; i++)
		conns[i] = acquire_or_give_up(pool);
	for (int i = 0; i < 5; i++)
		(void) pqpool_release(conns[i]);
	is_code(pqpool_close(&pool, PATIENCE_S * 1000), PQPOOL_OK, "closed");
	is_int(count_sessions(direct, "closed"), 0, "... likewise");
}

int
main(void)
{
	direct = connect_directly("application_name=direct");
	speak_tls(direct);
	test_loans();
	test_harmless_data();
	test_dead();
	test_fork();
	test_close();
	PQfinish(direct);
	return done_testing();
}
