/*-------------------------------------------------------------------------
 *
 * client.h
 *	  What the tests of the client library have in common.
 *
 * A test finds its server by PGHOST, PGPORT and PGDATABASE. It waits for
 * conditions (WAIT_FOR), never for time to pass: on a machine that is busy with
 * something else everything takes longer, and nothing may fail for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "tap.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>
#include <pqpool.h>

#define countof(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* Longer than anything takes that works. */
#ifndef PATIENCE_S
#define PATIENCE_S 60
#endif

TAP_UNUSED static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

TAP_UNUSED static void
sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* True as soon as the condition is; false when PATIENCE_S have passed. */
#define WAIT_FOR(condition)                                        \
	__extension__({                                                \
		double wait_until_ = now_s() + PATIENCE_S;                 \
		bool reached_;                                             \
		while (!(reached_ = (condition)) && now_s() < wait_until_) \
			sleep_ms(2);                                           \
		reached_;                                                  \
	})

/* The test cannot go on. */
TAP_UNUSED __attribute__((noreturn, format(printf, 1, 2))) static void
give_up(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("Bail out! ");
	vprintf(format, arguments);
	putchar('\n');
	va_end(arguments);
	fflush(stdout);
	_exit(255);
}

/*---- the server, without a pool ----*/

/* A superuser's connection of the test's own. */
TAP_UNUSED static PGconn *
connect_directly(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		give_up("no connection: %s", PQerrorMessage(conn));
	return conn;
}

/* Run a statement; false if it failed. */
TAP_UNUSED static bool
run(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(result);

	PQclear(result);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* The first value of a query, as a copy that the caller frees; NULL: it failed, or is null. */
TAP_UNUSED static char *
query_text(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	char *text = NULL;

	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
		!PQgetisnull(result, 0, 0))
		text = strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return text;
}

/* The same as a number; -1: it failed, or is null. */
__attribute__((format(printf, 2, 3))) TAP_UNUSED static long long
query_int(PGconn *conn, const char *format, ...)
{
	char sql[1000];
	char *text;
	long long n;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(sql, sizeof(sql), format, arguments);
	va_end(arguments);
	text = query_text(conn, sql);
	n = text != NULL ? atoll(text) : -1;
	free(text);
	return n;
}

/*
 * Sessions of clients by application_name, which the tests use to tell their pools' from
 * their own.
 */
TAP_UNUSED static long long
count_sessions(PGconn *conn, const char *application)
{
	return query_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s'",
					 application);
}

/*
 * The pool's promise is for what was closed 10 ms ago, by the clock that its fast path reads;
 * and in a virtual machine that may be further behind than its resolution.
 */
TAP_UNUSED static void
let_promise_begin(void)
{
	struct timespec now, coarse;
	int64_t until;

	clock_gettime(CLOCK_MONOTONIC, &now);
	until = (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000 + 11;
	do
	{
		sleep_ms(1);
		clock_gettime(CLOCK_MONOTONIC_COARSE, &coarse);
	} while ((int64_t) coarse.tv_sec * 1000 + coarse.tv_nsec / 1000000 < until);
}

/* End the sessions of this application_name, or that of one backend, until they are gone. */
TAP_UNUSED static void
end_sessions(PGconn *conn, const char *application)
{
	(void) query_int(conn,
					 "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
					 " WHERE application_name = '%s'",
					 application);
	if (!WAIT_FOR(count_sessions(conn, application) == 0))
		give_up("sessions live on");
	let_promise_begin();
}

TAP_UNUSED static void
end_backend(PGconn *conn, int pid)
{
	(void) query_int(conn, "SELECT pg_terminate_backend(%d)::int", pid);
	if (!WAIT_FOR(query_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid) ==
				  0))
		give_up("a backend lives on");
	let_promise_begin();
}

/*---- a pool ----*/

TAP_UNUSED static pqpool *
open_pool(const char *conninfo)
{
	pqpool_error err;
	pqpool *pool = pqpool_open(conninfo, &err);

	if (pool == NULL)
		give_up("pqpool_open: %s", err.message);
	return pool;
}

TAP_UNUSED static PGconn *
acquire_or_give_up(pqpool *pool)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, -1, &err);

	if (conn == NULL)
		give_up("pqpool_acquire: %s: %s", pqpool_code_name(err.code), err.message);
	return conn;
}

TAP_UNUSED static pqpool_statistics
stats_of(pqpool *pool)
{
	pqpool_statistics stats;

	memset(&stats, 0xff, sizeof(stats));
	if (pqpool_stats(pool, &stats) != PQPOOL_OK)
		give_up("pqpool_stats failed");
	return stats;
}

/* The code of an acquire that must not succeed; gives back what it got all the same. */
TAP_UNUSED static int
acquire_code(pqpool *pool, int timeout_ms)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, timeout_ms, &err);

	if (conn != NULL)
		(void) pqpool_release(conn);
	return err.code;
}

#define is_code(got, expected, ...) tap_is_code((got), (expected), __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) TAP_UNUSED static bool
tap_is_code(int got, int expected, const char *file, int line, const char *format, ...)
{
	char name[200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(name, sizeof(name), format, arguments);
	va_end(arguments);
	return tap_is_str(pqpool_code_name(got), pqpool_code_name(expected), file, line, "%s", name);
}

/*---- threads ----*/

#define MAX_THREADS 128

typedef struct Threads
{
	int n;
	pthread_t ids[MAX_THREADS];
	struct ThreadStart
	{
		void (*run)(int index, void *arg);
		void *arg;
		int index;
	} starts[MAX_THREADS];
} Threads;

TAP_UNUSED static void *
thread_main(void *arg)
{
	struct ThreadStart *start = arg;

	start->run(start->index, start->arg);
	return NULL;
}

/* Add one to those that run. */
TAP_UNUSED static void
start_thread(Threads *threads, void (*run_it)(int, void *), void *arg)
{
	int i = threads->n++;

	if (i >= MAX_THREADS)
		give_up("more than %d threads", MAX_THREADS);
	threads->starts[i] = (struct ThreadStart){ run_it, arg, i };
	if (pthread_create(&threads->ids[i], NULL, thread_main, &threads->starts[i]) != 0)
		give_up("no more threads");
}

TAP_UNUSED static void
join_threads(Threads *threads)
{
	while (threads->n > 0)
		pthread_join(threads->ids[--threads->n], NULL);
}

TAP_UNUSED static void
run_threads(int n, void (*run_it)(int, void *), void *arg)
{
	Threads threads = { 0 };

	while (n-- > 0)
		start_thread(&threads, run_it, arg);
	join_threads(&threads);
}

/* A small generator for each thread. */
TAP_UNUSED static unsigned
draw(uint64_t *state, unsigned n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (unsigned) (*state >> 33) % n;
}

#endif /* CLIENT_H */
