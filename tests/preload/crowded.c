/*-------------------------------------------------------------------------
 *
 * crowded.c
 *	  All threads of a program wait, and nobody comes by to tell the server of it.
 *
 * They do so themselves: they hear of it when they may have more, while the one session that
 * they have is held.
 *
 * server: pgpool_monitor.mode = share
 * server: pgpool_monitor.rules = *@crowd=1
 * environment: PQPOOL_ACQUIRE_TIMEOUT = 1h
 * environment: PQPOOL_MAX_SIZE = 4
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <pthread.h>

#define THREADS 3

static PGconn *waited[THREADS];

static void *
connect_one(void *arg)
{
	PGconn **conn = arg;

	*conn = PQconnectdb("user=crowd");
	return NULL;
}

static const char *
count_of(PGconn *other, const char *what)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "SELECT %s FROM pgpool_monitor.pools WHERE role = 'crowd'", what);
	return ask(other, sql);
}

int
main(void)
{
	PGconn *other = must_connect("");
	PGconn *held;
	pthread_t threads[THREADS];

	(void) ask(other, "CREATE ROLE crowd LOGIN");
	held = must_connect("user=crowd");
	is_str(ask(held, "SELECT 1"), "1", "the only session is held");
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, connect_one, &waited[i]);
	if (!ok(WAIT_FOR(strcmp(count_of(other, "waiting"), "3") == 0),
			"the server is told of who waits: %s", count_of(other, "waiting")))
		exit(1);
	is_str(count_of(other, "sessions"), "1", "there is one session for all of them");

	(void) ask(other, "ALTER SYSTEM SET pgpool_monitor.rules = '*@crowd=4'");
	(void) ask(other, "SELECT pg_reload_conf()");
	for (int i = 0; i < THREADS; i++)
	{
		pthread_join(threads[i], NULL);
		is_int(PQstatus(waited[i]), CONNECTION_OK, "who waited has one: %s",
			   PQerrorMessage(waited[i]));
	}
	is_str(ask(held, "SELECT 2"), "2", "while the first one is still held");
	for (int i = 0; i < THREADS; i++)
		PQfinish(waited[i]);
	PQfinish(held);
	PQfinish(other);
	return done_testing();
}
