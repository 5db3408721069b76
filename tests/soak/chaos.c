/*-------------------------------------------------------------------------
 *
 * chaos.c
 *	  Things that happen to the server, and the record of them, which excuses
 *	  what follows.
 *
 * The server is stopped and started by who started this program (soak.pl), at
 * our request; sessions are ended, and processes killed, from here.
 *
 *-------------------------------------------------------------------------
 */
#include "play.h"

#include <signal.h>

#define STRUCK_MAX 256
#define SERVER_PATIENCE_MS 60000

/* The last moment at which the server was down, or just back; INT64_MAX: is. */
static _Atomic(int64_t) turbulent_until = INT64_MIN;

/* Sessions that were ended one by one; the oldest are forgotten. */
static struct
{
	atomic_int pid;
	_Atomic(int64_t) when;
} struck[STRUCK_MAX];
static atomic_uint nstruck;
static _Atomic(int64_t) last_struck = INT64_MIN;

static atomic_int restarts_fast, restarts_immediate, crashes;

/*---- the record ----*/

bool
turbulent_since(int64_t when)
{
	return atomic_load(&turbulent_until) >= when;
}

/* A session may notice its end a little later than we have given the order. */
bool
struck_since(int pid, int64_t when)
{
	if (pid == 0)
		return atomic_load(&last_struck) >= when - GRACE_MS;
	for (int i = 0; i < STRUCK_MAX; i++)
	{
		if (atomic_load(&struck[i].pid) == pid && atomic_load(&struck[i].when) >= when - GRACE_MS)
			return true;
	}
	return false;
}

static void
note_struck(int pid)
{
	unsigned i = atomic_fetch_add(&nstruck, 1) % STRUCK_MAX;

	atomic_store(&struck[i].when, now_ms());
	atomic_store(&struck[i].pid, pid);
	atomic_store(&last_struck, now_ms());
}

void
print_disturbances(void)
{
	printf(
		"the server was restarted %d times (fast) and %d times (immediate), and crashed %d times; "
		"%u sessions were ended\n",
		atomic_load(&restarts_fast), atomic_load(&restarts_immediate), atomic_load(&crashes),
		atomic_load(&nstruck));
}

/*---- the witness: a session of our own ----*/

PGconn *
connect_witness(void)
{
	PGconn *conn = NULL;
	int64_t until = now_ms() + SERVER_PATIENCE_MS;

	for (;;)
	{
		conn = PQconnectdb("application_name=witness");
		if (PQstatus(conn) == CONNECTION_OK)
			return conn;
		if (now_ms() > until)
			give_up("the server does not come back: %s", PQerrorMessage(conn));
		PQfinish(conn);
		sleep_ms(50);
	}
}

static int
pick_session(PGconn *conn)
{
	PGresult *result =
		PQexec(conn, "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'soak%'"
					 " ORDER BY random() LIMIT 1");
	int pid = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1
				  ? atoi(PQgetvalue(result, 0, 0))
				  : 0;

	PQclear(result);
	return pid;
}

static void
end_sessions(Self *self)
{
	PGconn *conn = connect_witness();

	for (unsigned n = 1 + draw(self, 5); n > 0; n--)
	{
		int pid = pick_session(conn);
		char sql[100];

		if (pid == 0)
			continue;
		note_struck(pid);
		snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, 5000)", pid);
		PQclear(PQexec(conn, sql));
		note_struck(pid);
	}
	PQfinish(conn);
}

/*---- the server as a whole ----*/

/* Of soak.pl, which does it and says so. */
static void
request(const char *what)
{
	static FILE *ask, *answer;
	char line[100];

	if (ask == NULL)
	{
		ask = fdopen((int) number_from("SOAK_ASK_FD", -1), "w");
		answer = fdopen((int) number_from("SOAK_ANSWER_FD", -1), "r");
	}
	if (ask == NULL || answer == NULL || fprintf(ask, "%s\n", what) < 0 || fflush(ask) != 0 ||
		fgets(line, sizeof(line), answer) == NULL || strcmp(line, "done\n") != 0)
		give_up("the server was not restarted (%s)", what);
}

/* A process killed in that way takes the whole server with it, which starts anew by itself. */
static void
crash(void)
{
	PGconn *conn = connect_witness();
	int pid = pick_session(conn);

	if (pid != 0 && kill(pid, SIGKILL) == 0)
	{
		int64_t until = now_ms() + SERVER_PATIENCE_MS;

		while (PQstatus(conn) == CONNECTION_OK && now_ms() < until)
		{
			PQclear(PQexec(conn, "SELECT pg_sleep(0.01)"));
			sleep_ms(10);
		}
		atomic_fetch_add(&crashes, 1);
	}
	PQfinish(conn);
}

static void
upset(unsigned what)
{
	atomic_store(&turbulent_until, INT64_MAX);
	switch (what)
	{
		case 0:
			request("fast");
			atomic_fetch_add(&restarts_fast, 1);
			break;
		case 1:
			request("immediate");
			atomic_fetch_add(&restarts_immediate, 1);
			break;
		default:
			crash();
	}
	PQfinish(connect_witness());
	atomic_store(&turbulent_until, now_ms() + GRACE_MS);
}

/*
 * One after the other, so that a short run has them all; in between it is quiet
 * for longer than the grace, or everything would always be excused.
 */
void *
disturb(void *arg)
{
	Self *self = arg;
	static unsigned what; /* goes on in the next round */
	int64_t next = now_ms() + 1000;

	while (!atomic_load(&stopping))
	{
		sleep_ms(100 + draw(self, 400));
		if (draw(self, 3) == 0)
			end_sessions(self);
		if (now_ms() < next || atomic_load(&stopping))
			continue;
		upset(what++ % 3);
		next = now_ms() + 2LL * GRACE_MS + draw(self, GRACE_MS);
	}
	return NULL;
}
