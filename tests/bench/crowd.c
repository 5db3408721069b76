/*-------------------------------------------------------------------------
 *
 * crowd.c
 *	  Many pool instances with a session or so each, for the benchmark of the server.
 *
 *	crowd SESSIONS INSTANCES POOLS
 *
 * Opens the sessions, spread over the instances, which are spread over the
 * pools; each reports once.  Says "ready", and keeps them until its input ends.
 * It talks to the server by libpq alone, as PROTOCOL.md describes.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

static int
number(const char *text)
{
	long n = strtol(text, NULL, 10);

	if (n < 1 || n > 100000)
	{
		fprintf(stderr, "crowd: no useful number: %s\n", text);
		exit(2);
	}
	return (int) n;
}

static PGconn *
open_session(int session, int instance, int pool)
{
	char options[200];
	const char *const keywords[] = { "options", "application_name", NULL };
	const char *const values[] = { options, "crowd", NULL };
	char report[300];
	PGconn *conn;
	PGresult *result;

	snprintf(options, sizeof(options),
			 "-c pgpool_monitor.pool=pool%d -c pgpool_monitor.instance=i%d;follow=1;report=1", pool,
			 instance);
	conn = PQconnectdbParams(keywords, values, 0);
	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "crowd: session %d: %s", session, PQerrorMessage(conn));
		exit(1);
	}
	snprintf(report, sizeof(report),
			 "SET pgpool_monitor.report = 'v=1;seq=%d;max=10;idle=1;in_use=0;waiting=0'",
			 session + 1);
	result = PQexec(conn, report);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "crowd: report %d: %s", session, PQerrorMessage(conn));
		exit(1);
	}
	PQclear(result);
	return conn;
}

int
main(int argc, char **argv)
{
	int sessions, instances, pools;

	if (argc != 4)
	{
		fprintf(stderr, "use: crowd SESSIONS INSTANCES POOLS\n");
		return 2;
	}
	sessions = number(argv[1]);
	instances = number(argv[2]);
	pools = number(argv[3]);
	for (int i = 0; i < sessions; i++)
		(void) open_session(i, i % instances, i % instances % pools);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0; /* the kernel closes them */
}
