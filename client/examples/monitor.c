/*-------------------------------------------------------------------------
 *
 * monitor.c
 *	  Shows pgpool_monitor.pools and .limits each second, on a terminal in place.  Plain libpq.
 *
 *		monitor [-e] [CONNINFO]
 *
 * On a terminal: a picture of the server's connections, one letter each, and a table of the pools.
 * Else: one line each time.
 *
 * -e: what comes on standard input are events; each line is shown above the table, and stays.  Their end
 * is the end.  Without it, the end is a signal, or that the server goes away.
 *
 * The role needs to be a member of pg_monitor to see everybody's pools.
 *
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SCREEN_SIZE 16384

/* Who has how many of the server's connections: pools, then all others by application_name. */
static const char *const connections_query =
	"SELECT s.pool, coalesce(s.pool, nullif(a.application_name, ''), '-') AS name,"
	" count(*) AS count, current_setting('max_connections') AS max,"
	" (SELECT mode FROM pgpool_monitor.info) AS mode"
	" FROM pg_stat_activity a LEFT JOIN pgpool_monitor.sessions s ON s.pid = a.pid"
	" WHERE a.backend_type = 'client backend' GROUP BY 1, 2 ORDER BY 1 NULLS LAST, 2";

/* The arithmetic of what can be shared out. */
static const char *const capacity_query =
	"SELECT ceiling, held, reason FROM pgpool_monitor.limits WHERE pool = '(server)'";

static const char *const pools_query =
	"SELECT p.pool, coalesce(p.health, '') AS health, p.demand, p.allotted, p.sessions, p.in_use,"
	" p.idle, p.waiting, round(p.wait_p99_time) AS p99, coalesce(p.reason, '') AS reason"
	" FROM pgpool_monitor.pools p ORDER BY p.pool = '(outside)', p.pool";

static bool terminal, colors;
static int columns = 110;
static int shown = 0;			 /* lines of the table on the screen */
static char screen[SCREEN_SIZE]; /* and the table itself */
static size_t filled;
static time_t started;

static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
add(const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(screen + filled, SCREEN_SIZE - filled, format, args);
	va_end(args);
	if (n > 0)
		filled = filled + (size_t) n < SCREEN_SIZE ? filled + (size_t) n : SCREEN_SIZE - 1;
}

/* A value by the name of its column. */
static const char *
value(const PGresult *result, int row, const char *name)
{
	return PQgetvalue(result, row, PQfnumber(result, name));
}

/* The same for a number that may not be known. */
static const char *
number(const PGresult *result, int row, const char *name)
{
	const char *text = value(result, row, name);

	return text[0] != '\0' ? text : "-";
}

/* Is anything shared out? */
static bool
shares(const PGresult *connections, const PGresult *capacity)
{
	return strcmp(value(connections, 0, "mode"), "off") != 0 && PQntuples(capacity) > 0 &&
		   value(capacity, 0, "held")[0] != '\0';
}

/*
 * On a terminal.
 */

/*
 * Letters of a pool are small and have a color, by the order of the pools; those of others
 * are capitals.
 */
static void
add_letters(char letter, int count, int color)
{
	if (colors && color >= 0)
		add("\033[1;%dm", 31 + (color + 1) % 6);
	while (count-- > 0)
		add("%c", letter);
	if (colors && color >= 0)
		add("\033[0m");
}

static void
add_picture(const PGresult *connections)
{
	int max = (int) strtol(value(connections, 0, "max"), NULL, 10);
	int used = 0;

	if (max + 20 > columns)
		return; /* would not stay in its line */
	add(" %d connections  [", max);
	for (int row = 0; row < PQntuples(connections); row++)
	{
		bool pooled = value(connections, row, "pool")[0] != '\0';
		int letter = (unsigned char) value(connections, row, "name")[0];
		int count = (int) strtol(value(connections, row, "count"), NULL, 10);

		add_letters((char) (pooled ? tolower(letter) : toupper(letter)), count, pooled ? row : -1);
		used += count;
	}
	add_letters('.', max - used, -1);
	add("]%s\n", max + 70 > columns ? "" : "  small letters: pools, capitals: others, dots: free");
}

/* No line may be longer than the terminal is wide, or it could not be found again. */
static void add_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
add_line(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	add("%.*s\n", columns, line);
}

static void
add_table(const PGresult *pools)
{
	add_line(" %-10s %-9s %5s %8s %5s %6s %4s %7s %8s  %s", "pool", "health", "wants", "may hold",
			 "holds", "in use", "idle", "waiting", "p99 wait", "reason");
	for (int row = 0; row < PQntuples(pools); row++)
	{
		const char *p99 = value(pools, row, "p99");

		add_line(" %-10.10s %-9.9s %5s %8s %5s %6s %4s %7s %5s %-2s  %s", value(pools, row, "pool"),
				 value(pools, row, "health"), number(pools, row, "demand"),
				 number(pools, row, "allotted"), number(pools, row, "sessions"),
				 number(pools, row, "in_use"), number(pools, row, "idle"),
				 number(pools, row, "waiting"), number(pools, row, "p99"),
				 p99[0] != '\0' ? "ms" : "", value(pools, row, "reason"));
	}
}

static void
erase(void)
{
	if (shown > 0)
		printf("\033[%dA\033[J", shown);
	shown = 0;
}

static void
draw(void)
{
	fwrite(screen, 1, filled, stdout);
	for (size_t i = 0; i < filled; i++)
		shown += screen[i] == '\n';
	fflush(stdout);
}

static void
show_screen(const PGresult *connections, const PGresult *capacity, const PGresult *pools)
{
	long long seconds = time(NULL) - started;
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		columns = size.ws_col;
	filled = 0;
	add("\n");
	if (shares(connections, capacity))
		add_line(" %lld s, mode %s: %s of %s held; %s", seconds, value(connections, 0, "mode"),
				 value(capacity, 0, "held"), value(capacity, 0, "ceiling"),
				 value(capacity, 0, "reason"));
	else
		add_line(" %lld s, mode %s", seconds, value(connections, 0, "mode"));
	add_picture(connections);
	add_table(pools);
	erase();
	draw();
}

/*
 * Elsewhere: one line.
 */
static void
show_line(const PGresult *connections, const PGresult *capacity, const PGresult *pools)
{
	printf("%4lld s", (long long) (time(NULL) - started));
	if (shares(connections, capacity))
		printf("  %2s of %2s held", value(capacity, 0, "held"), value(capacity, 0, "ceiling"));
	else
		printf("  mode %s", value(connections, 0, "mode"));
	for (int row = 0; row < PQntuples(pools); row++)
	{
		if (value(pools, row, "allotted")[0] != '\0')
			printf("  %s %2s of %2s (%2s wait)", value(pools, row, "pool"),
				   value(pools, row, "sessions"), value(pools, row, "allotted"),
				   number(pools, row, "waiting"));
		else if (value(pools, row, "health")[0] == '\0')
			printf("  outside: %s", value(pools, row, "reason"));
		else
			printf("  %s %s", value(pools, row, "pool"), value(pools, row, "sessions"));
	}
	printf("\n");
	fflush(stdout);
}

/* NULL: the server is gone, or does not let us. */
static PGresult *
query(PGconn *conn, const char *text)
{
	PGresult *result = PQexec(conn, text);

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	fprintf(stderr, "monitor: %s", PQerrorMessage(conn));
	PQclear(result);
	return NULL;
}

static bool
show(PGconn *conn)
{
	PGresult *connections = query(conn, connections_query);
	PGresult *capacity = connections != NULL ? query(conn, capacity_query) : NULL;
	PGresult *pools = capacity != NULL ? query(conn, pools_query) : NULL;

	if (pools != NULL && terminal)
		show_screen(connections, capacity, pools);
	else if (pools != NULL)
		show_line(connections, capacity, pools);
	PQclear(connections);
	PQclear(capacity);
	PQclear(pools);
	return pools != NULL;
}

/*
 * Events.
 */

/* Shows what has come on standard input, line by line.  False: that was all. */
static bool
show_events(void)
{
	static char line[512];
	static size_t length;
	ssize_t n = read(STDIN_FILENO, line + length, sizeof(line) - 1 - length);
	char *end;

	if (n <= 0)
		return false;
	length += (size_t) n;
	line[length] = '\0';
	while ((end = strchr(line, '\n')) != NULL || length == sizeof(line) - 1)
	{
		size_t whole = end != NULL ? (size_t) (end - line) : length;
		size_t taken = end != NULL ? whole + 1 : length;

		erase();
		printf("%s%.*s%s\n", colors ? "\033[1m" : "", (int) whole, line, colors ? "\033[0m" : "");
		length -= taken;
		memmove(line, line + taken, length + 1);
	}
	if (terminal)
		draw();
	else
		fflush(stdout);
	return true;
}

/* The time until the next full second, and events meanwhile.  False: events are over. */
static bool
pass_a_second(bool events)
{
	struct timespec now;
	long long end, left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + 1000;
	left = 1000;
	while (left > 0)
	{
		struct pollfd input = { .fd = events ? STDIN_FILENO : -1, .events = POLLIN };

		if (poll(&input, 1, (int) left) > 0 && !show_events())
			return false;
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = end - (now.tv_sec * 1000LL + now.tv_nsec / 1000000);
	}
	return true;
}

int
main(int argc, char **argv)
{
	bool events = argc > 1 && strcmp(argv[1], "-e") == 0;
	const char *conninfo = argc > 1 + events ? argv[1 + events] : "";
	const char *term = getenv("TERM");
	PGconn *conn = PQconnectdb(conninfo);
	bool good;

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "monitor: %s", PQerrorMessage(conn));
		PQfinish(conn);
		return 1;
	}
	PQclear(PQexec(conn, "SET application_name = 'monitor'"));
	terminal = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
	colors = terminal && getenv("NO_COLOR") == NULL;
	started = time(NULL);
	do
		good = show(conn);
	while (good && pass_a_second(events));
	PQfinish(conn);
	return !good;
}
