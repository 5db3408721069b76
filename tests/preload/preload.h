/*-------------------------------------------------------------------------
 *
 * preload.h
 *	  What the tests of the preloaded pool have in common.
 *
 * They are programs that know libpq and nothing of a pool, and are run by
 * pqpool-run.  What tells them that they are pooled is the server's process:
 * the one that they closed is the one that they get.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PRELOAD_H
#define PRELOAD_H

#include "descriptors.h"
#include "steps.h"
#include "tap.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define PATIENCE_S 60

TAP_UNUSED static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* True as soon as the condition is; false when PATIENCE_S have passed. */
#define WAIT_FOR(condition)                                            \
	__extension__({                                                    \
		double wait_until_ = now_s() + PATIENCE_S;                     \
		bool reached_;                                                 \
		while (!(reached_ = (condition)) && now_s() < wait_until_)     \
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL); \
		reached_;                                                      \
	})

TAP_UNUSED static PGconn *
must_connect(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		printf("Bail out! %s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

/*
 * The first field of a query's result, in a buffer that the next call uses again; "" if
 * there is none.
 */
TAP_UNUSED static const char *
ask(PGconn *conn, const char *sql)
{
	static __thread char text[4096];
	PGresult *result = PQexec(conn, sql);

	text[0] = '\0';
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
		snprintf(text, sizeof(text), "%s", PQgetvalue(result, 0, 0));
	else if (PQresultStatus(result) != PGRES_COMMAND_OK &&
			 PQresultStatus(result) != PGRES_TUPLES_OK)
		snprintf(text, sizeof(text), "%s", PQresultErrorMessage(result));
	PQclear(result);
	return text;
}

/* Until there is something to be read, which is left there. */
TAP_UNUSED static void
wait_for_input(PGconn *conn)
{
	struct pollfd wait = { .fd = PQsocket(conn), .events = POLLIN };

	(void) poll(&wait, 1, PATIENCE_S * 1000);
}

/* Has the backend of a closed connection ended? */
TAP_UNUSED static bool
is_gone(PGconn *other, int pid)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid);
	return strcmp(ask(other, sql), "0") == 0;
}

#endif /* PRELOAD_H */
