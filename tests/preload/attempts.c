/*-------------------------------------------------------------------------
 *
 * attempts.c
 *	  Programs that begin to connect and do not come to the end of it.
 *
 * environment: PQPOOL_MAX_SIZE = 1
 * environment: PQPOOL_ACQUIRE_TIMEOUT = 1h
 * environment: PQPOOL_REPORT = off
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* Who leaves libpq in the middle leaves behind what it has allocated, with a pool or without. */
int __lsan_is_turned_off(void);

int
__lsan_is_turned_off(void)
{
	return 1;
}

/*---- a server that never says anything ----*/

static int listener;
static char silent[300];

static void
listen_silently(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char directory[] = "/tmp/silent-XXXXXX";

	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (!mkdtemp(directory))
		return;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.1", directory);
	snprintf(silent, sizeof(silent), "host=%s port=1", directory);
	is_int(bind(listener, (struct sockaddr *) &address, sizeof(address)) + listen(listener, 20), 0,
		   "a server that is silent");
}

static void
stop_listening(void)
{
	char path[300];
	char *directory = strchr(silent, '/');

	*strchr(directory, ' ') = '\0';
	snprintf(path, sizeof(path), "%s/.s.PGSQL.1", directory);
	(void) unlink(path);
	(void) rmdir(directory);
	close(listener);
}

/* Somebody has come to it. */
static bool
is_called(void)
{
	struct pollfd wait = { .fd = listener, .events = POLLIN };
	int fd = poll(&wait, 1, PATIENCE_S * 1000) == 1 ? accept(listener, NULL, NULL) : -1;

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/*---- leaving ----*/

/* As a handler of Perl's that dies. */
static sigjmp_buf out;

static void
jump(int signum)
{
	(void) signum;
	siglongjmp(out, 1);
}

typedef struct Attacker
{
	pthread_t thread, victim;
	bool (*condition)(void);
} Attacker;

static void *
signal_when(void *arg)
{
	Attacker *a = arg;
	bool reached = WAIT_FOR(a->condition());

	pthread_kill(a->victim, SIGUSR1);
	return (void *) (intptr_t) reached;
}

/* Connect, and be thrown out of that as soon as the condition is reached.  False: it never was. */
static bool
leave(const char *conninfo, bool (*condition)(void))
{
	Attacker a = { .victim = pthread_self(), .condition = condition };
	void *reached;

	if (sigsetjmp(out, 1) == 0)
	{
		pthread_create(&a.thread, NULL, signal_when, &a);
		PQfinish(PQconnectdb(conninfo));
		diag("it came back");
	}
	pthread_join(a.thread, &reached);
	return reached != NULL;
}

static void
test_jump_while_opening(void)
{
	for (int i = 0; i < 3; i++)
		ok(leave(silent, is_called),
		   "an attempt that is left does not stand in the way of the next");
}

static void *
be_cancelled(void *unused)
{
	char conninfo[400];

	/* of a kind of its own: who has left the last one above has not come back */
	(void) unused;
	snprintf(conninfo, sizeof(conninfo), "%s application_name=cancelled", silent);
	PQfinish(PQconnectdb(conninfo));
	return NULL;
}

static void
test_cancelled_thread(void)
{
	for (int i = 0; i < 3; i++)
	{
		pthread_t thread;

		pthread_create(&thread, NULL, be_cancelled, NULL);
		ok(is_called(), "nor does one whose thread is cancelled");
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
}

/*---- leaving the queue ----*/

static _Atomic int step;
static _Atomic pid_t waiter;

/* It sleeps, in the queue: nothing else makes it sleep there. */
static bool
waits(void)
{
	char path[100], text[200] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int) waiter);
	file = fopen(path, "re");
	if (!file)
		return false;
	(void) fgets(text, sizeof(text), file);
	fclose(file);
	return atoi(text) == SYS_futex;
}

static void *
hold(void *unused)
{
	PGconn *conn = PQconnectdb("application_name=queue");

	(void) unused;
	step = 1;
	WAIT_FOR(step == 2);
	PQfinish(conn);
	return NULL;
}

/* told: what it waited for is given to it when it has left, and has not come back. */
static void
test_jump_out_of_queue(bool told)
{
	pthread_t holder;
	PGconn *conn;

	step = 0;
	waiter = (pid_t) syscall(SYS_gettid);
	pthread_create(&holder, NULL, hold, NULL);
	ok(WAIT_FOR(step == 1), "somebody has the only connection");
	ok(leave("application_name=queue", waits), "one waits, and leaves");
	if (!told)
		ok(leave("application_name=queue", waits), "and comes back, and leaves");
	step = 2;
	pthread_join(holder, NULL);
	conn = PQconnectdb("application_name=queue");
	is_int(PQstatus(conn), CONNECTION_OK, "then there is one for him");
	is_str(ask(conn, "SELECT 14"), "14", "a good one");
	PQfinish(conn);
}

/*---- step by step, and at once ----*/

static void
test_started(void)
{
	PGconn *started = PQconnectStart("application_name=both");
	PGconn *conn = PQconnectdb("application_name=both");

	is_int(PQstatus(conn), CONNECTION_OK, "what is only started is not waited for");
	PQfinish(conn);
	while (PQconnectPoll(started) != PGRES_POLLING_OK && PQstatus(started) != CONNECTION_BAD)
		;
	is_str(ask(started, "SELECT 15"), "15", "and comes to its end");
	PQfinish(started);
}

/* Where there is room beside it, it is pooled, though nothing is known of the server yet. */
static void
test_started_with_room(void)
{
	PGconn *started, *conn;
	int pid;

	setenv("PQPOOL_MAX_SIZE", "3", 1);
	started = PQconnectStart("application_name=room");
	conn = must_connect("application_name=room");
	pid = PQbackendPID(conn);
	PQfinish(conn);
	conn = must_connect("application_name=room");
	is_int(PQbackendPID(conn), pid, "what is opened beside one that is only started is pooled");
	PQfinish(conn);
	PQfinish(started);
	setenv("PQPOOL_MAX_SIZE", "1", 1);
}

/*---- the program's own bound ----*/

static void *
be_bounded(void *message)
{
	PGconn *conn = PQconnectdb("application_name=bound connect_timeout=1");

	snprintf(message, 300, "%d %s", PQstatus(conn) == CONNECTION_BAD, PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

static void
test_connect_timeout(void)
{
	PGconn *conn = must_connect("application_name=bound connect_timeout=1");
	char message[300] = "";
	pthread_t thread;

	pthread_create(&thread, NULL, be_bounded, message);
	pthread_join(thread, NULL);
	ok(strncmp(message, "1 ", 2) == 0, "connect_timeout is a bound for waiting: %s", message);
	PQfinish(conn);
}

/*---- many at once ----*/

#define CROWD 40

static void *
join_crowd(void *unused)
{
	PGconn *conn = PQconnectdb("application_name=crowd");
	bool good = strcmp(ask(conn, "SELECT 16"), "16") == 0;

	(void) unused;
	PQfinish(conn);
	return (void *) (intptr_t) good;
}

static void
test_crowd(void)
{
	pthread_t threads[CROWD];
	int good = 0;

	for (int i = 0; i < CROWD; i++)
		pthread_create(&threads[i], NULL, join_crowd, NULL);
	for (int i = 0; i < CROWD; i++)
	{
		void *one;

		pthread_join(threads[i], &one);
		good += one != NULL;
	}
	is_int(good, CROWD, "all threads may wait, however many");
}

int
main(void)
{
	struct sigaction action = { .sa_handler = jump };

	unsetenv("PGAPPNAME");
	sigaction(SIGUSR1, &action, NULL);
	listen_silently();
	test_jump_while_opening();
	test_cancelled_thread();
	test_jump_out_of_queue(false);
	test_jump_out_of_queue(true);
	test_started();
	test_started_with_room();
	test_connect_timeout();
	test_crowd();
	stop_listening();
	return done_testing();
}
