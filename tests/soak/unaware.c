/*-------------------------------------------------------------------------
 *
 * unaware.c
 *	  Everything at once, for a program that knows of no pool and is run by pqpool-run.
 *
 *		make soak SOAK_OF=preload [SOAK_SECONDS=30] [SOAK_SEED=n] [SANITIZE=address,undefined | thread]
 *
 * Actors
 *		workers			connect by every door, look round, ask, mistreat and close; some hold two
 *		steppers		several at a time step by step, from an event loop; some are given up half way
 *		churn			threads that live for one connection, which another one closes
 *		canceller		cancels what others wait for, and again when it is too late
 *		parent			forks: children that end, become another program, connect, or close all descriptors first
 *		chaos			restarts the server, kills its processes, ends sessions
 *
 * What is judged
 *		every connection	is had, unless the server was down; is of the kind that was asked for, nobody else's, and as new
 *		every query			is answered, unless something happened to the session
 *		in the end			descriptors, threads, memory and sessions are back where they began
 *
 * The program cannot close a pool.  What is counted in the end is what is left when all
 * that is idle has been so for longer than pool_idle_timeout.
 *
 * sources: tests/soak/play.c tests/soak/balance.c tests/soak/chaos.c tests/soak/hands.c
 *
 *-------------------------------------------------------------------------
 */
#include "play.h"
#include "steps.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define KINDS 6
#define JOBS 4
#define STEPS 4
#define CHILD_PATIENCE_MS 90000

/* Idle sessions are closed after two seconds, see run_one.sh, by whoever comes by. */

/*---- counts ----*/

typedef enum Op
{
	OP_CONNECT,
	OP_STEPS,
	OP_QUERY,
	OP_FINISH,
	OP_RESET,
	OP_CANCEL,
	OP_CANCEL_LATE,
	OP_CHILD,
	OPS
} Op;

static const char *const names[OPS] = {
	[OP_CONNECT] = "connect",
	[OP_STEPS] = "connect step by step",
	[OP_QUERY] = "query",
	[OP_FINISH] = "finish",
	[OP_RESET] = "reset",
	[OP_CANCEL] = "cancel",
	[OP_CANCEL_LATE] = "cancel, too late",
	[OP_CHILD] = "fork",
};

/* Relaxed: what is counted must not order what the pool should have ordered. */
static _Atomic(uint64_t) good[OPS], excused[OPS];

static void
begin(Self *self, Op op)
{
	atomic_store_explicit(&self->since, now_ms(), memory_order_relaxed);
	atomic_store_explicit(&self->doing, names[op], memory_order_relaxed);
}

/* True: it went well. */
static bool
end(Self *self, Op op, bool well, bool excuse, const char *message)
{
	int64_t took = now_ms() - atomic_load_explicit(&self->since, memory_order_relaxed);

	atomic_store_explicit(&self->doing, NULL, memory_order_relaxed);
	if (well)
		atomic_fetch_add_explicit(&good[op], 1, memory_order_relaxed);
	else if (excuse)
		atomic_fetch_add_explicit(&excused[op], 1, memory_order_relaxed);
	else
		failure("%s %d: %s, which took %lld ms: %s", self->role, self->index, names[op],
				(long long) took, message);
	return well;
}

int64_t
operations(void)
{
	uint64_t n = 0;

	for (int op = 0; op < OPS; op++)
		n += good[op] + excused[op];
	return (int64_t) n;
}

static void
print_summary(void)
{
	for (int op = 0; op < OPS; op++)
		printf("%-22s good %llu, excused %llu\n", names[op], (unsigned long long) good[op],
			   (unsigned long long) excused[op]);
}

/*---- connections that are had ----*/

typedef struct Held
{
	PGconn *conn;
	int kind;
	int cell;
	int pid;
	int64_t since;
} Held;

static void
give_back(Self *self, Held *held)
{
	hand_empty(held->cell);
	begin(self, OP_FINISH);
	PQfinish(held->conn);
	(void) end(self, OP_FINISH, true, false, "");
}

/*---- connecting ----*/

static const char *const strings[KINDS] = {
	"application_name=soak0",
	"postgresql:///postgres?application_name=soak1",
	"application_name=soak2",
	"application_name=soak3 dbname=postgres",
	"application_name=soak4",
	"application_name=soak5 options='-c work_mem=5MB -c client_min_messages=error'",
};

static PGconn *
open_kind(int kind)
{
	const char *keywords[] = { "dbname", "application_name", NULL };
	const char *values[] = { "postgres", "soak2", NULL };

	switch (kind)
	{
		case 2:
			return PQconnectdbParams(keywords, values, 0);
		case 3:
			return PQsetdbLogin(NULL, NULL, NULL, NULL, strings[kind], NULL, NULL);
		case 4:
			return step_by_step(PQconnectStart(strings[kind]), PATIENCE_MS);
		default:
			return PQconnectdb(strings[kind]);
	}
}

static bool
was_disturbed(const Held *held)
{
	return turbulent_since(held->since) || struck_since(held->pid, held->since);
}

static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

/* What can be seen of a connection without asking the server. */
static void
look_at(Self *self, const Held *held)
{
	PGconn *conn = held->conn;

	if (PQtransactionStatus(conn) != PQTRANS_IDLE || PQisBusy(conn) || PQisnonblocking(conn) ||
		PQpipelineStatus(conn) != PQ_PIPELINE_OFF || PQerrorMessage(conn)[0] != '\0')
		failure("%s %d got a connection that is not as new: transaction %d, busy %d, nonblocking "
				"%d, pipeline %d, message \"%s\"",
				self->role, self->index, (int) PQtransactionStatus(conn), PQisBusy(conn),
				PQisnonblocking(conn), (int) PQpipelineStatus(conn), PQerrorMessage(conn));
	if (PQsetNoticeProcessor(conn, ignore_notice, NULL) == ignore_notice)
		failure("%s %d got a connection with the notice processor of the holder before", self->role,
				self->index);
}

/* The outcome of a connect.  False: there is none, and it has been closed. */
static bool
welcome(Self *self, Op op, int kind, PGconn *conn, int64_t began, Held *held)
{
	bool connected = PQstatus(conn) == CONNECTION_OK;

	*held = (Held){ .conn = conn, .kind = kind, .pid = PQbackendPID(conn), .since = began };
	if (!end(self, op, connected, turbulent_since(began) || struck_since(0, began),
			 PQerrorMessage(conn)))
	{
		PQfinish(conn);
		return false;
	}
	held->cell = hand_take(self, held->conn, strings[kind]);
	look_at(self, held);
	return true;
}

static bool
get(Self *self, int kind, Held *held)
{
	int64_t began = now_ms();
	Op op = kind == 4 ? OP_STEPS : OP_CONNECT;

	begin(self, op);
	return welcome(self, op, kind, open_kind(kind), began, held);
}

/*---- asking ----*/

static bool
run(Self *self, const Held *held, const char *sql, char *answer, size_t size)
{
	PGresult *result;
	bool well;

	begin(self, OP_QUERY);
	result = PQexec(held->conn, sql);
	well = PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
	if (well && answer != NULL)
		snprintf(answer, size, "%s", PQgetvalue(result, 0, 0));
	(void) end(self, OP_QUERY, well, was_disturbed(held),
			   result != NULL ? PQresultErrorMessage(result) : PQerrorMessage(held->conn));
	PQclear(result);
	return well;
}

/* The number makes sure that it is the answer to this question. */
static void
look_round(Self *self, const Held *held)
{
	unsigned token = draw(self, 1000000000);
	char sql[700], expected[200], answer[200];

	snprintf(sql, sizeof(sql),
			 "SELECT concat_ws(' ', %u, pg_backend_pid(), current_setting('application_name'), "
			 "current_setting('work_mem'), current_setting('my.own', true), "
			 "to_regclass('pg_temp.mine'), nullif((SELECT count(*) FROM pg_prepared_statements), "
			 "0), nullif((SELECT count(*) FROM pg_listening_channels()), 0), nullif((SELECT "
			 "count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), 0))",
			 token);
	snprintf(expected, sizeof(expected), "%u %d soak%d %s", token, held->pid, held->kind,
			 held->kind == 5 ? "5MB" : "4MB");
	if (!run(self, held, sql, answer, sizeof(answer)))
		return;
	/* a setting that was is "" when it is no more */
	if (answer[strlen(expected)] == ' ' && answer[strlen(expected) + 1] == '\0')
		answer[strlen(expected)] = '\0';
	if (strcmp(answer, expected) != 0)
		failure("%s %d found \"%s\" instead of \"%s\"", self->role, self->index, answer, expected);
}

/* Not judged: it is meant to fail, or may. */
static void
try(PGconn *conn, const char *sql)
{
	PQclear(PQexec(conn, sql));
}

/*---- cancelled by another thread, in time and too late ----*/

typedef enum JobState
{
	JOB_NONE,
	JOB_ASKED,
	JOB_HEARD, /* by the holder, who has his answer: his session was ended, maybe */
	JOB_SENT   /* for the last time that the holder waits for */
} JobState;

static struct Job
{
	atomic_int taken;  /* by a holder */
	atomic_int served; /* by who cancels */
	atomic_int state;
	PGcancel *cancel;
	Held held;
} jobs[JOBS];

/*
 * The holder goes on when it has been sent once; what is sent later finds him gone, or hits
 * what is of no matter any more.
 */
static void
be_cancelled(Self *self, const Held *held)
{
	struct Job *job = &jobs[draw(self, JOBS)];

	if (atomic_exchange(&job->taken, 1))
		return;
	job->cancel = PQgetCancel(held->conn);
	job->held = *held;
	if (job->cancel == NULL || !PQsendQuery(held->conn, "SELECT pg_sleep(60)"))
	{
		PQfreeCancel(job->cancel);
		atomic_store(&job->taken, 0);
		return;
	}
	atomic_store(&job->state, JOB_ASKED);
	for (PGresult *result; (result = PQgetResult(held->conn)) != NULL;)
		PQclear(result);
	atomic_store(&job->state, JOB_HEARD);
	(void) WAIT_FOR(atomic_load(&job->state) != JOB_HEARD, PATIENCE_MS);
}

static void
do_job(Self *self, struct Job *job)
{
	char message[256] = "";
	bool sent;

	begin(self, OP_CANCEL);
	/* one that comes before the query does not count */
	do
	{
		sent = PQcancel(job->cancel, message, sizeof(message));
		sleep_ms(2);
	} while (atomic_load(&job->state) == JOB_ASKED && sent);
	(void) WAIT_FOR(atomic_load(&job->state) == JOB_HEARD, PATIENCE_MS);
	(void) end(self, OP_CANCEL, sent, was_disturbed(&job->held), message);
	atomic_store(&job->state, JOB_SENT);
	begin(self, OP_CANCEL_LATE);
	for (unsigned n = draw(self, 20); n > 0; n--)
		(void) PQcancel(job->cancel, message, sizeof(message));
	(void) end(self, OP_CANCEL_LATE, true, false, "");
	PQfreeCancel(job->cancel);
	atomic_store(&job->state, JOB_NONE);
	atomic_store(&job->taken, 0);
}

static void
do_jobs(Self *self)
{
	for (int i = 0; i < JOBS; i++)
	{
		JobState state;

		if (atomic_exchange(&jobs[i].served, 1))
			continue;
		state = (JobState) atomic_load(&jobs[i].state);
		if (state == JOB_ASKED || state == JOB_HEARD)
			do_job(self, &jobs[i]);
		atomic_store(&jobs[i].served, 0);
	}
}

static void *
canceller(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		do_jobs(self);
		sleep_ms(1 + draw(self, 20));
	}
	return NULL;
}

/*---- mistreating ----*/

static const char *const habits[] = {
	"SET my.own = 'secret'",
	"SET work_mem = '7MB'; SET application_name = 'not mine'",
	"CREATE TEMP TABLE mine (a int)",
	"PREPARE mine AS SELECT 1",
	"LISTEN mine; NOTIFY mine, 'to whom it may concern'",
	"SELECT pg_advisory_lock_shared(1)",
	"BEGIN; SET LOCAL work_mem = '8MB'",
	"BEGIN; SELECT 1/0",
	"SELECT pg_terminate_backend(pg_backend_pid())",
	"COPY (SELECT generate_series(1, 100000)) TO STDOUT",
	"CREATE TEMP TABLE mine (a int); COPY mine FROM STDIN",
	"SELECT 1/0",
};

static void
mistreat(Self *self, const Held *held, int loop)
{
	unsigned what = draw(self, 40);
	struct epoll_event event = { .events = EPOLLIN };

	if (what < (unsigned) countof(habits))
	{
		try(held->conn, habits[what]);
		return;
	}
	switch (what)
	{
		case 20:
			(void) PQsetnonblocking(held->conn, 1);
			(void) PQsetErrorVerbosity(held->conn, PQERRORS_VERBOSE);
			break;
		case 21:
			(void) PQenterPipelineMode(held->conn);
			(void) PQsendQueryParams(held->conn, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
			break;
		case 22:
			(void) PQsendQuery(held->conn, "SELECT generate_series(1, 100000)");
			break;
		case 23:
			(void) PQsendQuery(held->conn, "SELECT pg_sleep(0.05)");
			break;
		case 24:
		case 25:
			be_cancelled(self, held);
			break;
		case 26:
		case 27: /* closing takes it out */
			if (epoll_ctl(loop, EPOLL_CTL_ADD, PQsocket(held->conn), &event) != 0 &&
				!was_disturbed(held))
				failure("%s %d: the event loop has this socket already", self->role, self->index);
			break;
		case 28:
			sleep_ms(draw(self, 20));
			break;
		default:
			break;
	}
}

static void
reset(Self *self, Held *held)
{
	held->since = now_ms();
	begin(self, OP_RESET);
	PQreset(held->conn);
	if (!end(self, OP_RESET, PQstatus(held->conn) == CONNECTION_OK,
			 turbulent_since(held->since) || struck_since(0, held->since),
			 PQerrorMessage(held->conn)))
		return;
	held->pid = PQbackendPID(held->conn);
	look_round(self, held);
}

/*---- workers ----*/

static void *
work(void *arg)
{
	Self *self = arg;
	int loop = epoll_create1(EPOLL_CLOEXEC);

	while (!atomic_load(&stopping))
	{
		Held first, second;
		bool two = draw(self, 10) == 0;

		if (!get(self, (int) draw(self, KINDS), &first))
		{
			sleep_ms(10);
			continue;
		}
		look_round(self, &first);
		if (two)
			two = get(self, (int) draw(self, KINDS), &second);
		if (two)
		{
			look_round(self, &second);
			mistreat(self, &second, loop);
		}
		if (draw(self, 50) == 0)
			reset(self, &first);
		mistreat(self, &first, loop);
		give_back(self, &first);
		if (two)
			give_back(self, &second);
		/* what a child has as well is heard of for as long as that lives */
		if (!WAIT_FOR(epoll_wait(loop, &(struct epoll_event){ 0 }, 1, 0) == 0, CHILD_PATIENCE_MS))
			failure("%s %d: the event loop hears of what has been closed", self->role, self->index);
	}
	(void) close(loop);
	return NULL;
}

/*---- from an event loop ----*/

typedef struct Step
{
	PGconn *conn; /* NULL: none is being made */
	int kind;
	int64_t began;
	PostgresPollingStatusType status;
	bool doomed; /* to be given up half way */
} Step;

static void
start_step(Self *self, Step *step)
{
	static const int kinds[] = { 0, 1, 4, 5 };

	step->kind = kinds[draw(self, countof(kinds))];
	step->began = now_ms();
	step->conn = PQconnectStart(strings[step->kind]);
	step->status = PGRES_POLLING_WRITING;
	step->doomed = draw(self, 5) == 0;
}

static void
take_step(Self *self, Step *step)
{
	Held held;

	if (step->doomed && draw(self, 3) == 0)
	{
		PQfinish(step->conn);
		step->conn = NULL;
		return;
	}
	if (PQstatus(step->conn) == CONNECTION_BAD)
		step->status = PGRES_POLLING_FAILED;
	else
		step->status = PQconnectPoll(step->conn);
	if (step->status != PGRES_POLLING_OK && step->status != PGRES_POLLING_FAILED)
		return;
	begin(self, OP_STEPS);
	if (welcome(self, OP_STEPS, step->kind, step->conn, step->began, &held))
	{
		look_round(self, &held);
		if (draw(self, 3) == 0)
			try(held.conn, habits[draw(self, 8)]);
		give_back(self, &held);
	}
	step->conn = NULL;
}

static void *
step(void *arg)
{
	Self *self = arg;
	Step steps[STEPS] = { 0 };

	while (!atomic_load(&stopping))
	{
		struct pollfd wait[STEPS];

		for (int i = 0; i < STEPS; i++)
		{
			if (steps[i].conn == NULL)
				start_step(self, &steps[i]);
			wait[i] =
				(struct pollfd){ .fd = PQsocket(steps[i].conn),
								 .events =
									 steps[i].status == PGRES_POLLING_READING ? POLLIN : POLLOUT };
		}
		(void) poll(wait, STEPS, 100);
		for (int i = 0; i < STEPS; i++)
			if (wait[i].revents != 0 || PQstatus(steps[i].conn) == CONNECTION_BAD)
				take_step(self, &steps[i]);
		sleep_ms(draw(self, 4));
	}
	for (int i = 0; i < STEPS; i++)
		PQfinish(steps[i].conn);
	return NULL;
}

/*---- threads that come and go ----*/

typedef struct Life
{
	Self *self;
	Held held;
	bool got;
} Life;

static void *
short_life(void *arg)
{
	Life *life = arg;

	life->got = get(life->self, (int) draw(life->self, KINDS), &life->held);
	return NULL;
}

static void *
churn(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		Life life = { .self = self_new("short life", (int) draw(self, 1000000)) };
		pthread_t thread;

		if (pthread_create(&thread, NULL, short_life, &life) != 0)
			give_up("no more threads");
		(void) pthread_join(thread, NULL);
		if (life.got)
		{
			look_round(self, &life.held);
			give_back(self, &life.held);
		}
		self_free(life.self);
		sleep_ms(draw(self, 20));
	}
	return NULL;
}

/*---- children ----*/

enum
{
	CHILD_FINE,
	CHILD_NO_PROGRAM,
	CHILD_NOT_CONNECTED,
	CHILD_NOT_ITS_OWN,
	CHILD_NOT_POOLED,
	CHILD_DESCRIPTOR
};

/* As the parent has it, at most. */
static int
pid_that_answers(PGconn *conn)
{
	PGresult *result = PQexec(conn, "SELECT pg_backend_pid()");
	int pid = PQresultStatus(result) == PGRES_TUPLES_OK ? atoi(PQgetvalue(result, 0, 0)) : -1;

	PQclear(result);
	return pid;
}

static int
connect_twice(void)
{
	int pid = 0;

	for (int i = 0; i < 2; i++)
	{
		PGconn *conn = PQconnectdb(strings[0]);
		int now = PQbackendPID(conn);

		if (PQstatus(conn) != CONNECTION_OK)
			return CHILD_NOT_CONNECTED;
		if (pid_that_answers(conn) != now)
			return CHILD_NOT_ITS_OWN;
		if (i > 0 && now != pid)
			return CHILD_NOT_POOLED;
		pid = now;
		PQfinish(conn);
	}
	return CHILD_FINE;
}

/* A daemon: what it opens then has numbers that were the pool's. */
static int
close_all_first(void)
{
	int fds[100];
	int status;

	for (int fd = 3; fd < 1024; fd++)
		(void) close(fd);
	for (int i = 0; i < countof(fds); i++)
		fds[i] = open("/dev/null", O_RDONLY);
	status = connect_twice();
	for (int i = 0; i < countof(fds); i++)
		if (close(fds[i]) != 0 && status == CHILD_FINE)
			status = CHILD_DESCRIPTOR;
	return status;
}

/* Under the sanitizers as in children.c. */
static int
live(unsigned what)
{
	switch (what)
	{
		case 0:
			return CHILD_FINE;
		case 1:
			(void) execle("/bin/true", "true", (char *) NULL, (char *[]){ NULL });
			return CHILD_NO_PROGRAM;
		case 2:
			return connect_twice();
		default:
			return close_all_first();
	}
}

static bool
has_ended(pid_t pid, int *status)
{
	return waitpid(pid, status, WNOHANG) == pid;
}

static void *
bring_forth(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		unsigned what = draw(self, UNDER_SANITIZER ? 2 : 4);
		int64_t began = now_ms();
		int status = 0;
		char message[100];
		bool disturbed;
		pid_t pid;

		begin(self, OP_CHILD);
		pid = fork();
		if (pid == 0)
			_exit(live(what));
		if (pid < 0)
			give_up("no child");
		if (!WAIT_FOR(has_ended(pid, &status), CHILD_PATIENCE_MS))
		{
			failure("a child of kind %u hangs", what);
			(void) kill(pid, SIGKILL);
			(void) waitpid(pid, &status, 0);
		}
		disturbed = turbulent_since(began) || struck_since(0, began);
		snprintf(message, sizeof(message), "a child of kind %u ended with status %x", what,
				 (unsigned) status);
		(void) end(self, OP_CHILD, status == 0,
				   disturbed && WIFEXITED(status) && WEXITSTATUS(status) >= CHILD_NOT_CONNECTED &&
					   WEXITSTATUS(status) <= CHILD_NOT_POOLED,
				   message);
		sleep_ms(draw(self, 200));
	}
	return NULL;
}

/*---- the run ----*/

static void
play(Self *self, int64_t ms)
{
	atomic_store(&stopping, false);
	start_actors("worker", work, 10);
	start_actors("stepper", step, 2);
	start_actors("churn", churn, 2);
	start_actors("canceller", canceller, 1);
	start_actors("parent", bring_forth, 1);
	start_actors("chaos", disturb, 1);
	wait_and_tell(now_ms() + ms);
	/* the canceller may have gone, and somebody may wait for it */
	join_actors(self, do_jobs);
	do_jobs(self);
}

static void
warm_up(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		PQfinish(open_kind(kind));
}

static int
count_sockets(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
	{
		struct stat st;

		n += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	}
	return n;
}

int
main(void)
{
	int64_t ms = begin_run();
	Balance base;
	Balance middle;
	Balance last;
	Self *self;

	self = self_new("main", 0);
	base = base_balance(warm_up);
	/* those of the warm-up are idle, as many as may be, and counted; the witness's own stays */
	base.descriptors -= count_sockets() - 1;
	play(self, ms / 3);
	middle = settle(&base, "after a third");
	play(self, ms - ms / 3);
	last = settle(&base, "at the end");
	self_free(self);

	print_summary();
	print_disturbances();
	compare_memory(&middle, &last);
	return verdict();
}
