/*-------------------------------------------------------------------------
 *
 * crowd.c
 *	  Many pool instances with a session or so each, for the benchmark of the server.
 *
 *	crowd SESSIONS INSTANCES POOLS
 *
 * Opens the sessions, spread over the instances, which are spread over the pools; each
 * reports once.  Instances beyond the sessions open one, report, and close it again: they
 * are there until their leases end.  Says "ready", and keeps the sessions until its input
 * ends.  If that has a number, it sends as many reports per second from then on, most of
 * which say something else than the instance's last one.  It talks to the server by libpq
 * alone, as PROTOCOL.md describes.
 *
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static PGconn **conns;

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
	PGconn *conn;

	snprintf(options, sizeof(options),
			 "-c pgpool_monitor.pool=pool%d -c pgpool_monitor.instance=i%d;follow=1;report=1", pool,
			 instance);
	conn = PQconnectdbParams(keywords, values, 0);
	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "crowd: session %d: %s", session, PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

static void
report(PGconn *conn, int seq, int idle, int in_use)
{
	char text[300];
	PGresult *result;

	snprintf(text, sizeof(text),
			 "SET pgpool_monitor.report = 'v=1;seq=%d;max=10;idle=%d;in_use=%d;waiting=0'", seq,
			 idle, in_use);
	result = PQexec(conn, text);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "crowd: report: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(result);
}

/* Until the input ends. */
static void
keep_reporting(int sessions, int per_second, int seq)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	int nap = per_second < 1000 ? 1000 / per_second : 1;

	for (; poll(&input, 1, nap) == 0; seq++)
		report(conns[seq % sessions], seq + 1, 1, seq / sessions % 3);
}

int
main(int argc, char **argv)
{
	int sessions, instances, pools, all;
	char line[20];

	if (argc != 4)
	{
		fprintf(stderr, "use: crowd SESSIONS INSTANCES POOLS\n");
		return 2;
	}
	sessions = number(argv[1]);
	instances = number(argv[2]);
	pools = number(argv[3]);
	all = instances > sessions ? instances : sessions;
	conns = calloc((size_t) all, sizeof(PGconn *));
	for (int i = 0; conns != NULL && i < all; i++)
	{
		conns[i] = open_session(i, i % instances, i % instances % pools);
		report(conns[i], i + 1, i < sessions, 0);
		if (i >= sessions)
			PQfinish(conns[i]);
	}
	puts("ready");
	fflush(stdout);
	if (conns != NULL && fgets(line, sizeof(line), stdin) != NULL)
		keep_reporting(sessions, number(line), all);
	return 0; /* the kernel closes them */
}
