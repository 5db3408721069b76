/*-------------------------------------------------------------------------
 *
 * threads.c
 *	  Many threads of a program that knows nothing of a pool, and few kinds of connections.
 *
 * Each connects by one of the doors, looks whether it is where it meant to be
 * and alone there, leaves something behind, and closes.  Some wait in an event
 * loop of their own, some have another thread cancel what they ask, with a
 * PGcancel that is used again when the connection has long been closed;
 * meanwhile the process forks.
 *
 * What they count by is relaxed: a lock here would order what the pool has to
 * order, and hide from ThreadSanitizer that it does not.
 *
 * environment: PQPOOL_MAX_SIZE = 4
 * environment: PGOPTIONS = -c client_min_messages=error
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define THREADS 16
#define ROUNDS 60
#define KINDS 4
#define CELLS 256
#define FORKS 10
#define MAX_SIZE 4 /* as above */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

/* What must never be, by kind. */
typedef enum Fault
{
	FAULT_REFUSED,
	FAULT_SHARED,
	FAULT_ELSEWHERE,
	FAULT_SETTING,
	FAULT_OBJECT,
	FAULT_CONNECTION,
	FAULT_ANSWER,
	FAULT_CANCELLED,
	FAULT_NOT_CANCELLED,
	FAULT_LOOP,
	FAULT_CHILD,
	FAULTS
} Fault;

static const char *const fault_names[FAULTS] = {
	[FAULT_REFUSED] = "everybody gets a connection",
	[FAULT_SHARED] = "nobody gets one that somebody else has",
	[FAULT_ELSEWHERE] = "or of another kind",
	[FAULT_SETTING] = "nobody meets a setting of somebody else's",
	[FAULT_OBJECT] = "or what else belongs to a session",
	[FAULT_CONNECTION] = "or what belongs to a PGconn",
	[FAULT_ANSWER] = "each question is answered",
	[FAULT_CANCELLED] = "and by nobody cancelled who is not meant to",
	[FAULT_NOT_CANCELLED] = "who is meant to be is cancelled",
	[FAULT_LOOP] = "event loops hear of what is theirs, and of nothing else",
	[FAULT_CHILD] = "children have connections of their own",
};

static _Atomic int faults[FAULTS];
static _Atomic(PGconn *) cells[CELLS];
static atomic_bool all_done;
static _Atomic int reused, cancelled, stale;

static void
fault(Fault kind, const char *detail)
{
	if (atomic_fetch_add_explicit(&faults[kind], 1, memory_order_relaxed) == 0)
		diag("%s: %s", fault_names[kind], detail);
}

/*---- connecting ----*/

/* Kinds 0 to 2 by a string, half of them step by step; 3 by parameters. */
static PGconn *
open_kind(int kind, bool steps)
{
	static const char *const strings[] = { "application_name=kind0", "application_name=kind1",
										   "application_name=kind2" };
	const char *keywords[] = { "application_name", NULL };
	const char *values[] = { "kind3", NULL };

	if (kind == 3)
		return PQconnectdbParams(keywords, values, 0);
	return steps ? step_by_step(PQconnectStart(strings[kind]), PATIENCE_S * 1000)
				 : PQconnectdb(strings[kind]);
}

/*---- one hand at a time ----*/

static int
enter(PGconn *conn)
{
	int cell = -1;

	for (int i = 0; i < CELLS; i++)
	{
		PGconn *nobody = NULL;

		if (cell < 0 && atomic_compare_exchange_strong_explicit(
							&cells[i], &nobody, conn, memory_order_relaxed, memory_order_relaxed))
			cell = i;
		else if (atomic_load_explicit(&cells[i], memory_order_relaxed) == conn)
			fault(FAULT_SHARED, "two have it");
	}
	return cell;
}

static void
leave(int cell)
{
	atomic_store_explicit(&cells[cell], NULL, memory_order_relaxed);
}

/*---- being cancelled, in time and too late ----*/

/* Handed from the holder to the canceller and back; free when state is 0. */
typedef enum JobState
{
	JOB_NONE,
	JOB_ASKED,
	JOB_HEARD, /* by the holder, who has his answer */
	JOB_SENT,  /* the holder may go on; it will be sent again */
} JobState;

static struct Job
{
	_Atomic int taken;
	_Atomic int state;
	_Atomic bool closed; /* by the holder */
	PGcancel *cancel;
} jobs[THREADS];

static void *
cancel_all(void *arg)
{
	while (!atomic_load(&all_done))
		for (int i = 0; i < THREADS; i++)
		{
			struct Job *job = &jobs[i];
			char message[256] = "";

			if (atomic_load(&job->state) != JOB_ASKED)
				continue;
			/* one that comes before the query does not count */
			do
				if (!PQcancel(job->cancel, message, sizeof(message)))
					fault(FAULT_NOT_CANCELLED, message);
			while (nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL),
				   atomic_load(&job->state) != JOB_HEARD);
			atomic_store(&job->state, JOB_SENT);
			/* either when the holder has closed it, or while he does */
			if (i % 2)
				WAIT_FOR(atomic_load(&job->closed));
			for (int late = 0; late < 20; late++)
				if (!PQcancel(job->cancel, message, sizeof(message)))
					atomic_fetch_add(&stale, 1);
			PQfreeCancel(job->cancel);
			atomic_store(&job->state, JOB_NONE);
			atomic_store(&job->taken, 0);
		}
	return arg;
}

static bool
is_sqlstate(const PGresult *result, const char *expected)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return sqlstate && strcmp(sqlstate, expected) == 0;
}

/*
 * The last thing that a holder does: what follows may be cancelled as well.  False: not
 * this time.
 */
static bool
be_cancelled(PGconn *conn, int index)
{
	struct Job *job = &jobs[index];
	PGresult *result;

	if (atomic_exchange(&job->taken, 1))
		return false; /* the last one is not through */
	atomic_store(&job->closed, false);
	job->cancel = PQgetCancel(conn);
	if (!PQsendQuery(conn, "SELECT pg_sleep(600)"))
		fault(FAULT_ANSWER, PQerrorMessage(conn));
	atomic_store(&job->state, JOB_ASKED);
	while ((result = PQgetResult(conn)))
	{
		if (!is_sqlstate(result, "57014"))
			fault(FAULT_NOT_CANCELLED, PQresultErrorMessage(result));
		PQclear(result);
	}
	atomic_store(&job->state, JOB_HEARD);
	WAIT_FOR(atomic_load(&job->state) != JOB_HEARD);
	atomic_fetch_add(&cancelled, 1);
	return true;
}

/*---- a holder ----*/

static const char *
ask_for(PGconn *conn, const char *sql)
{
	static __thread char text[1024];
	PGresult *result = PQexec(conn, sql);

	text[0] = '\0';
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		snprintf(text, sizeof(text), "%s", PQgetvalue(result, 0, 0));
	else if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fault(is_sqlstate(result, "57014") ? FAULT_CANCELLED : FAULT_ANSWER,
			  PQresultErrorMessage(result));
	PQclear(result);
	return text;
}

static void
look_round(PGconn *conn, int kind)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "kind%d %d", kind, PQbackendPID(conn));
	if (PQstatus(conn) != CONNECTION_OK || PQtransactionStatus(conn) != PQTRANS_IDLE ||
		PQisnonblocking(conn) || PQpipelineStatus(conn) != PQ_PIPELINE_OFF ||
		PQerrorMessage(conn)[0])
		fault(FAULT_CONNECTION, PQerrorMessage(conn));
	if (strcmp(ask_for(conn, "SELECT current_setting('application_name') || ' ' || "
							 "pg_backend_pid()"),
			   expected) != 0)
		fault(FAULT_ELSEWHERE, expected);
	if (strcmp(ask_for(conn, "SELECT coalesce(current_setting('my.own', true), '') || "
							 "current_setting('work_mem')"),
			   "4MB") != 0)
		fault(FAULT_SETTING, "my.own or work_mem");
	if (strcmp(ask_for(conn, "SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT "
							 "count(*) FROM pg_listening_channels()) + "
							 "(to_regclass('pg_temp.mine') IS NOT NULL)::int"),
			   "0") != 0)
		fault(FAULT_OBJECT, "something is there");
}

/* The socket stays in the loop when it is closed, as it may: closing takes it out. */
static void
wait_in_loop(PGconn *conn, int loop)
{
	struct epoll_event event = { .events = EPOLLIN }, got;

	if (epoll_ctl(loop, EPOLL_CTL_ADD, PQsocket(conn), &event) != 0)
		fault(FAULT_LOOP, "the socket is in it");
	if (!PQsendQuery(conn, "SELECT 1"))
		fault(FAULT_ANSWER, PQerrorMessage(conn));
	do
	{
		if (epoll_wait(loop, &got, 1, PATIENCE_S * 1000) != 1)
			fault(FAULT_LOOP, "it does not hear of the answer");
		if (!PQconsumeInput(conn))
			fault(FAULT_ANSWER, PQerrorMessage(conn));
	} while (PQisBusy(conn));
	for (PGresult *result; (result = PQgetResult(conn));)
		PQclear(result);
}

static void
leave_behind(PGconn *conn, unsigned what)
{
	static const char *const habits[] = {
		"SET my.own = 'secret'",
		"SET work_mem = '7MB'",
		"CREATE TEMP TABLE mine (a int)",
		"PREPARE mine AS SELECT 1",
		"LISTEN mine",
		"BEGIN; SET LOCAL work_mem = '8MB'",
		"SET application_name = 'mine'",
	};

	if (what < sizeof(habits) / sizeof(habits[0]))
		(void) ask_for(conn, habits[what]);
	else if (what == 7)
		(void) PQsetnonblocking(conn, 1);
	else if (what == 8)
		(void) PQenterPipelineMode(conn);
	else if (what == 9)
		(void) PQsendQuery(conn, "SELECT generate_series(1, 1000)");
}

typedef struct Worker
{
	pthread_t thread;
	int index;
} Worker;

static void *
work(void *arg)
{
	const Worker *worker = arg;
	int loop = epoll_create1(EPOLL_CLOEXEC);
	int pids[KINDS] = { 0 };

	for (int round = 0; round < ROUNDS; round++)
	{
		unsigned draw = (unsigned) (worker->index * 7919 + round * 104729) / 3;
		int kind = (int) (draw % KINDS);
		PGconn *conn = open_kind(kind, draw / KINDS % 2);
		bool told = false;
		int cell;

		if (PQstatus(conn) != CONNECTION_OK)
		{
			fault(FAULT_REFUSED, PQerrorMessage(conn));
			PQfinish(conn);
			continue;
		}
		cell = enter(conn);
		if (pids[kind] == PQbackendPID(conn))
			atomic_fetch_add_explicit(&reused, 1, memory_order_relaxed);
		pids[kind] = PQbackendPID(conn);
		look_round(conn, kind);
		if (round % 4 == 1)
			wait_in_loop(conn, loop);
		if (round % 10 == 2)
			told = be_cancelled(conn, worker->index);
		else
			leave_behind(conn, draw % 13);
		leave(cell);
		PQfinish(conn);
		if (told)
			atomic_store(&jobs[worker->index].closed, true);
	}
	if (epoll_wait(loop, &(struct epoll_event){ 0 }, 1, 0) != 0)
		fault(FAULT_LOOP, "something of what was closed");
	close(loop);
	return NULL;
}

/*---- forks in between ----*/

/* AddressSanitizer's allocator may be locked at the fork: there the child only ends. */
static int
live(void)
{
	PGconn *conn;
	int parents;

	if (UNDER_SANITIZER)
		return 0;
	for (int kind = 0; kind < KINDS; kind++)
	{
		conn = open_kind(kind, kind == 1);
		if (PQstatus(conn) != CONNECTION_OK)
			return 1;
		parents = PQbackendPID(conn);
		PQfinish(conn);
		conn = open_kind(kind, false);
		if (PQstatus(conn) != CONNECTION_OK || PQbackendPID(conn) != parents)
			return 2;
		look_round(conn, kind);
		PQfinish(conn);
	}
	for (int i = 0; i < FAULTS; i++)
		if (faults[i])
			return 3 + i;
	return 0;
}

static void *
fork_now_and_then(void *arg)
{
	for (int i = 0; i < FORKS && !atomic_load(&all_done); i++)
	{
		pid_t pid = fork();
		int status = -1;

		if (pid == 0)
			_exit(live());
		if (waitpid(pid, &status, 0) != pid || status != 0)
		{
			char text[50];

			snprintf(text, sizeof(text), "status %x", status);
			fault(FAULT_CHILD, text);
		}
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	return arg;
}

static void
test_crowd(void)
{
	Worker workers[THREADS];
	pthread_t canceller, parent;

	pthread_create(&canceller, NULL, cancel_all, NULL);
	pthread_create(&parent, NULL, fork_now_and_then, NULL);
	for (int i = 0; i < THREADS; i++)
	{
		workers[i].index = i;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	WAIT_FOR(({
		int left = 0;
		for (int i = 0; i < THREADS; i++)
			left += atomic_load(&jobs[i].taken);
		left == 0;
	}));
	atomic_store(&all_done, true);
	pthread_join(canceller, NULL);
	pthread_join(parent, NULL);
	for (int i = 0; i < FAULTS; i++)
		is_int(faults[i], 0, "%s", fault_names[i]);
	ok(reused > THREADS, "%d times somebody met a session again", reused);
	ok(cancelled > 0 && stale > 0, "%d were cancelled, and %d times it was too late", cancelled,
	   stale);
}

/*---- each has what the other one wants ----*/

static pthread_barrier_t all_have_one;

static void *
want_the_other(void *arg)
{
	bool one = arg != NULL;
	PGconn *first = open_kind(one ? 1 : 0, false), *second;

	pthread_barrier_wait(&all_have_one);
	second = open_kind(one ? 0 : 1, false);
	if (PQstatus(first) != CONNECTION_OK || PQstatus(second) != CONNECTION_OK)
		fault(FAULT_REFUSED, PQerrorMessage(second));
	PQfinish(second);
	PQfinish(first);
	return NULL;
}

/* They would wait for each other, for as long as pool_acquire_timeout. */
static void
test_crossed(void)
{
	pthread_t threads[2 * MAX_SIZE];
	int before = faults[FAULT_REFUSED];

	pthread_barrier_init(&all_have_one, NULL, 2 * MAX_SIZE);
	for (int i = 0; i < 2 * MAX_SIZE; i++)
		pthread_create(&threads[i], NULL, want_the_other, i % 2 ? &threads[i] : NULL);
	for (int i = 0; i < 2 * MAX_SIZE; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&all_have_one);
	is_int(faults[FAULT_REFUSED], before, "nobody waits for who waits for him");
}

int
main(void)
{
	unsetenv("PGAPPNAME");
	test_crowd();
	test_crossed();
	return done_testing();
}
