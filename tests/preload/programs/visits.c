/*-------------------------------------------------------------------------
 *
 * visits.c
 *	  A program that connects, asks, and closes, as it is told.
 *
 * For tests that change a server between two connections (servers.pl).  Commands
 * on standard input, a line each, with tabs between the parts; each is answered by a line:
 *
 *		connect CONNINFO [SQL]...	process, host, port, and the first field of each answer; or "failed" and why
 *		start CONNINFO [SQL]...		the same, step by step
 *		set NAME [VALUE]			done: the environment
 *		end							nothing: it exits
 *
 *-------------------------------------------------------------------------
 */
#include "../preload.h"

/* In one line, whatever is in it. */
static void
say(const char *text)
{
	putchar('\t');
	for (; *text; text++)
		putchar(*text == '\n' || *text == '\t' ? ' ' : *text);
}

static void
visit(PGconn *conn, char *rest)
{
	const char *sql;

	if (PQstatus(conn) == CONNECTION_OK)
	{
		printf("%d", PQbackendPID(conn));
		say(PQhost(conn));
		say(PQport(conn));
		while ((sql = strsep(&rest, "\t")) != NULL)
			say(ask(conn, sql));
	}
	else
	{
		printf("failed");
		say(PQerrorMessage(conn));
	}
	PQfinish(conn);
	putchar('\n');
}

int
main(void)
{
	char line[10000];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
	{
		char *rest = line;
		const char *command, *argument;

		line[strcspn(line, "\n")] = '\0';
		command = strsep(&rest, "\t");
		argument = strsep(&rest, "\t");
		if (!argument)
			return strcmp(command, "end") == 0 ? 0 : 2;
		if (strcmp(command, "connect") == 0)
			visit(PQconnectdb(argument), rest);
		else if (strcmp(command, "start") == 0)
			visit(step_by_step(PQconnectStart(argument), PATIENCE_S * 1000), rest);
		else
			puts((rest ? setenv(argument, rest, 1) : unsetenv(argument)) == 0 ? "done" : "failed");
	}
	return 0;
}
