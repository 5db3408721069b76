/*-------------------------------------------------------------------------
 *
 * witness.c
 *	  Somebody who takes no part, and counts.  Plain libpq.
 *
 *		witness STRANGER POOL...
 *
 * As a superuser, which always has a connection, it looks forty times a second at who is connected:
 * by pg_stat_activity, which knows nothing of pools.  Four times a second the user STRANGER,
 * who has no pool, connects and disconnects, as psql and cron jobs do.
 *
 * Prints one line for each look, until it is terminated:
 *
 *		SECONDS clients=N capacity=N pooled=N strangers=N refused=N POOL=N...
 *
 * SECONDS since 1970; clients: connections of all kinds; capacity: what pgpool_monitor
 * shares out; pooled: connections whose application_name is one of POOL, but for knocks,
 * and how many are whose; strangers, refused: attempts of STRANGER so far, and how many of
 * them failed.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOKS_PER_SECOND 40
#define LOOKS_PER_STRANGER 10

/* A knock is a session of an instant, there only to report; headroom pays for it. */
static const char *const look =
	"SELECT i.capacity, s.pid IS NOT NULL, a.application_name, count(*)"
	" FROM pgpool_monitor.info i, pg_stat_activity a"
	" LEFT JOIN pgpool_monitor.sessions s ON s.pid = a.pid AND s.kind = 'knock'"
	" WHERE a.backend_type = 'client backend' GROUP BY 1, 2, 3";

static int strangers, refused;

static void
meet_stranger(const char *name)
{
	const char *keywords[] = { "user", "application_name", NULL };
	const char *values[] = { name, "stranger", NULL };
	PGconn *conn = PQconnectdbParams(keywords, values, 0);

	strangers++;
	refused += PQstatus(conn) != CONNECTION_OK;
	PQfinish(conn);
}

static void
print_look(const PGresult *result, char **pools, int npools)
{
	struct timespec now;
	int clients = 0, pooled = 0;
	int held[16] = { 0 };

	for (int row = 0; row < PQntuples(result); row++)
	{
		bool knock = PQgetvalue(result, row, 1)[0] == 't';
		int count = (int) strtol(PQgetvalue(result, row, 3), NULL, 10);

		clients += count;
		for (int i = 0; i < npools && !knock; i++)
			if (strcmp(PQgetvalue(result, row, 2), pools[i]) == 0)
			{
				held[i] += count;
				pooled += count;
			}
	}
	clock_gettime(CLOCK_REALTIME, &now);
	printf("%lld.%03ld clients=%d capacity=%s pooled=%d strangers=%d refused=%d",
		   (long long) now.tv_sec, now.tv_nsec / 1000000, clients,
		   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "0", pooled, strangers, refused);
	for (int i = 0; i < npools; i++)
		printf(" %s=%d", pools[i], held[i]);
	printf("\n");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct timespec pause = { 0, 1000000000L / LOOKS_PER_SECOND };
	PGconn *conn;

	if (argc < 3 || argc > 18)
	{
		fprintf(stderr, "usage: witness STRANGER POOL...\n");
		return 2;
	}
	conn = PQconnectdb("application_name=superuser");
	for (long n = 0;; n++)
	{
		PGresult *result = PQexec(conn, look);

		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "witness: %s", PQerrorMessage(conn));
			PQclear(result);
			PQfinish(conn);
			return 1;
		}
		print_look(result, argv + 2, argc - 2);
		PQclear(result);
		if (n % LOOKS_PER_STRANGER == 0)
			meet_stranger(argv[1]);
		nanosleep(&pause, NULL);
	}
}
