/*
 * peer.c: one session that speaks the protocol by hand, for tests that want to say exactly
 * what, and when.
 *
 *	peer CONNINFO
 *
 * Connects with libpq alone, then runs each line of its standard input as a command
 * (several statements with semicolons are one command). After connecting, and after each
 * command, it prints
 *
 *	result:<first value of the last row, or the command's tag>	or	error:<SQLSTATE> <message's first line>
 *	allotment:<what libpq last saw as pgpool_monitor.allotment>	or	allotment:(none)
 *	.
 *
 * A line that cannot be sent because the server has ended the session prints error:gone. A
 * line "\report TEXT" sends TEXT as a report, by a statement with a parameter. With
 * PEER_VERBOSE in the environment the error of a connection that fails has its SQLSTATE.
 *
 * peer.py and peer.js are the same for psycopg2 and for JavaScript's pg.
 */
#include <libpq-fe.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
print_allotment(PGconn *conn)
{
	const char *text = PQparameterStatus(conn, "pgpool_monitor.allotment");

	printf("allotment:%s\n.\n", text ? text : "(none)");
	fflush(stdout);
}

static void
print_result(PGconn *conn, PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			printf("result:%s\n",
				   PQntuples(result) ? PQgetvalue(result, PQntuples(result) - 1, 0) : "");
			break;
		case PGRES_COMMAND_OK:
			printf("result:%s\n", PQcmdStatus(result));
			break;
		default:
			if (PQstatus(conn) == CONNECTION_BAD)
				printf("error:gone\n");
			else
				printf("error:%s %s\n", state ? state : "-----",
					   PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
	}
}

/* PQconnectdb with a verbosity. */
static PGconn *
connect_to(const char *conninfo)
{
	PGconn *conn = PQconnectStart(conninfo);
	PostgresPollingStatusType wants = PGRES_POLLING_WRITING;

	if (getenv("PEER_VERBOSE") != NULL)
		PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
	while (PQstatus(conn) != CONNECTION_BAD && wants != PGRES_POLLING_OK &&
		   wants != PGRES_POLLING_FAILED)
	{
		struct pollfd fd = { PQsocket(conn), wants == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0 };

		(void) poll(&fd, 1, -1);
		wants = PQconnectPoll(conn);
	}
	return conn;
}

static PGresult *
run(PGconn *conn, const char *line)
{
	static const char report[] = "\\report ";
	const char *text;

	if (strncmp(line, report, strlen(report)) != 0)
		return PQexec(conn, line);
	text = line + strlen(report);
	return PQexecParams(conn, "SELECT pg_catalog.set_config('pgpool_monitor.report', $1, false)", 1,
						NULL, &text, NULL, NULL, 0);
}

int
main(int argc, char **argv)
{
	static char line[70000];
	PGconn *conn = connect_to(argc > 1 ? argv[1] : "");

	if (PQstatus(conn) != CONNECTION_OK)
	{
		printf("error:%s.\n", PQerrorMessage(conn));
		PQfinish(conn);
		return 1;
	}
	printf("result:%d\n", PQbackendPID(conn));
	print_allotment(conn);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		PGresult *result;

		line[strcspn(line, "\n")] = '\0';
		result = run(conn, line);
		print_result(conn, result);
		PQclear(result);
		print_allotment(conn);
	}
	PQfinish(conn);
	return 0;
}
