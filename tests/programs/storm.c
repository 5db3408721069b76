/*
 * storm.c: many who want a connection, for tests of what happens to those who are one too many.
 *
 *	storm attempts N CONNINFO	N connections at once. Prints "accepted:<n> refused:<n> other:<n>", refused being SQLSTATE 53300, and
 *								the first other error; keeps those that it has until its
 *								standard input ends
 *	storm assault N CONNINFO	for as long as its standard input is open, a connection is tried every millisecond, as far as no more
 *								than N are being tried; those that come about are kept.
 *								Prints "tried:<n>" each 100, and the same at the end
 *	storm reopen N CONNINFO		one connection, closed and opened again N times. Prints the same at the end
 *	storm pool N CONNINFO		the same by a pool of one connection, which is discarded N times; other are acquires that failed for
 *								any reason, refused are attempts to connect that did, unseen
 *								by the user
 */
#include <pqpool.h>

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEEP_MAX 1000

static int accepted;
static int refused;
static int other;
static char first_other[500];

static void
count_failure(const char *message, bool is_refusal)
{
	if (is_refusal)
		refused++;
	else if (other++ == 0)
		snprintf(first_other, sizeof(first_other), "%s", message);
}

static void
print_counts(void)
{
	printf("accepted:%d refused:%d other:%d\n", accepted, refused, other);
	if (other > 0)
		printf("first other: %s\n", first_other);
	fflush(stdout);
}

/* A failed connect has no SQLSTATE but in a verbose message. */
static PGconn *
start(const char *conninfo)
{
	PGconn *conn = PQconnectStart(conninfo);

	PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
	return conn;
}

static void
count(const PGconn *conn)
{
	if (PQstatus(conn) == CONNECTION_OK)
		accepted++;
	else
		count_failure(PQerrorMessage(conn), strstr(PQerrorMessage(conn), "53300:") != NULL);
}

/*
 * One step of each that can go on; how many are still at it.
 */
static int
step(PGconn **conns, struct pollfd *fds, PostgresPollingStatusType *states, int n)
{
	int open = 0;

	for (int i = 0; i < n; i++)
	{
		bool wants = states[i] == PGRES_POLLING_READING || states[i] == PGRES_POLLING_WRITING;

		fds[i].fd = wants ? PQsocket(conns[i]) : -1;
		fds[i].events = states[i] == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		open += wants;
	}
	if (open == 0)
		return 0;
	poll(fds, (nfds_t) n, 1000);
	for (int i = 0; i < n; i++)
		if (fds[i].fd >= 0 && fds[i].revents != 0)
			states[i] = PQconnectPoll(conns[i]);
	return open;
}

static void
attempts(int n, const char *conninfo)
{
	PGconn **conns = calloc((size_t) n, sizeof(PGconn *));
	struct pollfd *fds = calloc((size_t) n, sizeof(struct pollfd));
	PostgresPollingStatusType *states = calloc((size_t) n, sizeof(PostgresPollingStatusType));

	for (int i = 0; i < n; i++)
	{
		conns[i] = start(conninfo);
		states[i] =
			PQstatus(conns[i]) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
	}
	while (step(conns, fds, states, n) > 0)
		;
	for (int i = 0; i < n; i++)
		count(conns[i]);
	print_counts();
	while (getchar() != EOF)
		;
	for (int i = 0; i < n; i++)
		PQfinish(conns[i]);
	free(conns);
	free(fds);
	free(states);
}

static long
milliseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool
input_ended(void)
{
	struct pollfd fd = { .fd = 0, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

/*
 * Poll and step what is being tried; what is over is counted, and kept if it came about.
 */
static int
advance(PGconn **conns, PostgresPollingStatusType *states, struct pollfd *fds, int n, PGconn **kept)
{
	int left = 0;

	for (int i = 0; i < n; i++)
	{
		fds[i].fd = PQsocket(conns[i]);
		fds[i].events = states[i] == PGRES_POLLING_READING ? POLLIN : POLLOUT;
	}
	poll(fds, (nfds_t) n, 1);
	for (int i = 0; i < n; i++)
	{
		if (fds[i].revents != 0)
			states[i] = PQconnectPoll(conns[i]);
		if (states[i] == PGRES_POLLING_READING || states[i] == PGRES_POLLING_WRITING)
		{
			conns[left] = conns[i];
			states[left++] = states[i];
			continue;
		}
		count(conns[i]);
		if (PQstatus(conns[i]) == CONNECTION_OK && accepted <= KEEP_MAX)
			kept[accepted - 1] = conns[i];
		else
			PQfinish(conns[i]);
	}
	return left;
}

static void
assault(int most, const char *conninfo)
{
	PGconn **conns = calloc((size_t) most, sizeof(PGconn *));
	struct pollfd *fds = calloc((size_t) most, sizeof(struct pollfd));
	PostgresPollingStatusType *states = calloc((size_t) most, sizeof(PostgresPollingStatusType));
	PGconn **kept = calloc(KEEP_MAX, sizeof(PGconn *));
	long last = milliseconds();
	int tried = 0;
	int n = 0;

	while (!input_ended() || n > 0)
	{
		long now = milliseconds();

		for (; now > last; last++)
		{
			if (n == most || input_ended())
				continue;
			conns[n] = start(conninfo);
			states[n++] = PGRES_POLLING_WRITING;
			if (++tried % 100 == 0)
				printf("tried:%d\n", tried);
		}
		fflush(stdout);
		n = advance(conns, states, fds, n, kept);
	}
	print_counts();
	for (int i = 0; i < accepted && i < KEEP_MAX; i++)
		PQfinish(kept[i]);
	free(conns);
	free(fds);
	free(states);
	free(kept);
}

static void
reopen(int n, const char *conninfo)
{
	for (int i = 0; i < n; i++)
	{
		PGconn *conn = start(conninfo);
		struct pollfd fd;
		PostgresPollingStatusType state = PGRES_POLLING_WRITING;

		while (step(&conn, &fd, &state, 1) > 0)
			;
		count(conn);
		PQfinish(conn);
	}
	print_counts();
}

static void
reopen_pool(int n, const char *conninfo)
{
	pqpool_error err;
	pqpool_statistics stats;
	pqpool *pool = pqpool_open(conninfo, &err);

	for (int i = 0; i < n && pool != NULL; i++)
	{
		PGconn *conn = pqpool_acquire(pool, -1, &err);

		if (conn == NULL)
			count_failure(err.message, false);
		else
		{
			accepted++;
			pqpool_discard(conn);
		}
	}
	if (pool != NULL)
	{
		pqpool_stats(pool, &stats);
		refused = (int) stats.open_failures;
	}
	print_counts();
	pqpool_close(&pool, 5000);
}

int
main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[2]) : 0;

	if (n > 0 && strcmp(argv[1], "attempts") == 0)
		attempts(n, argv[3]);
	else if (n > 0 && strcmp(argv[1], "assault") == 0)
		assault(n, argv[3]);
	else if (n > 0 && strcmp(argv[1], "reopen") == 0)
		reopen(n, argv[3]);
	else if (n > 0 && strcmp(argv[1], "pool") == 0)
		reopen_pool(n, argv[3]);
	else
		return 2;
	return 0;
}
