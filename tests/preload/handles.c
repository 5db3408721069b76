/*-------------------------------------------------------------------------
 *
 * handles.c
 *	  What programs do with a connection, and around it, that does not end with
 *	  PQfinish, or begin with PQconnectdb.
 *
 * environment: PQPOOL_MAX_SIZE = 3
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

/*---- all doors ----*/

static PGconn *
by_params(int expand)
{
	const char *keywords[] = { "dbname", "application_name", NULL };
	const char *values[] = { expand ? "dbname=postgres connect_timeout=20" : "postgres", "params",
							 NULL };

	return PQconnectdbParams(keywords, values, expand);
}

static PGconn *
start_params(void)
{
	const char *keywords[] = { "dbname", "application_name", NULL };
	const char *values[] = { "postgresql:///postgres?application_name=lost%27", "start", NULL };

	return step_by_step(PQconnectStartParams(keywords, values, 1), PATIENCE_S * 1000);
}

static PGconn *
open_by(int door)
{
	switch (door)
	{
		case 0:
			return PQconnectdb("application_name='by string'");
		case 1:
			return PQconnectdb("postgresql:///postgres?application_name=by%20uri");
		case 2:
			return by_params(0);
		case 3:
			return by_params(1);
		case 4:
			return PQsetdbLogin(NULL, NULL, "-c work_mem=5MB", NULL, "postgres", NULL, NULL);
		case 5:
			return step_by_step(PQconnectStart("application_name=steps"), PATIENCE_S * 1000);
		default:
			return start_params();
	}
}

static const char *
application_of(PGconn *conn)
{
	return ask(conn,
			   "SELECT current_setting('application_name') || ' ' || current_setting('work_mem')");
}

/* False: it is another session, which is the one to expect from now on. */
static bool
is_same_again(int door, int *pid, PGconn **conn)
{
	int before = *pid;

	*conn = open_by(door);
	*pid = PQbackendPID(*conn);
	if (*pid != before)
		PQfinish(*conn);
	return *pid == before;
}

static void
test_doors(void)
{
	static const char *const expected[] = { "by string 4MB", "by uri 4MB", "params 4MB",
											"params 4MB",	 " 5MB",	   "steps 4MB",
											"start 4MB" };

	for (int door = 0; door < 7; door++)
	{
		PGconn *conn = open_by(door);
		int pid = PQbackendPID(conn);

		is_int(PQstatus(conn), CONNECTION_OK, "door %d: opens", door);
		is_str(application_of(conn), expected[door], "door %d: with its parameters", door);
		PQfinish(conn);
		/* step by step nobody waits for the answer to the reset, but it is there before long */
		ok(WAIT_FOR(is_same_again(door, &pid, &conn)), "door %d: leads to the same session again",
		   door);
		is_str(application_of(conn), expected[door], "door %d: and it is as it was", door);
		PQfinish(conn);
	}
}

/*---- errors are libpq's ----*/

static void
test_errors(void)
{
	PGconn *conn = PQconnectdb("host=/nowhere");

	is_int(PQstatus(conn), CONNECTION_BAD, "a server that is not there");
	ok(strstr(PQerrorMessage(conn), "/nowhere/.s.PGSQL"), "libpq says so: %s",
	   PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectdb("no_such_option=1");
	ok(strstr(PQerrorMessage(conn), "no_such_option"), "so it does of an option: %s",
	   PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectdb("dbname=nonesuch");
	ok(strstr(PQerrorMessage(conn), "\"nonesuch\" does not exist"),
	   "and the server of a database: %s", PQerrorMessage(conn));
	PQfinish(conn);
	conn = PQconnectStart("host=/nowhere");
	is_int(PQstatus(conn), CONNECTION_BAD, "step by step as well");
	PQfinish(conn);
	PQfinish(NULL);
	PQfinish(PQconnectStart("application_name=unfinished"));
	ok(true, "an attempt is given up");
}

/*---- cancelling ----*/

/* Has it been cancelled?  Whoever asks for it before the query has begun asks for nothing. */
static bool
is_over(PGconn *conn)
{
	struct pollfd wait = { .fd = PQsocket(conn), .events = POLLIN };

	(void) poll(&wait, 1, 50);
	return !PQconsumeInput(conn) || !PQisBusy(conn);
}

static void
drain(PGconn *conn)
{
	PGresult *result;

	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
}

static void
test_cancel(void)
{
	PGconn *conn = must_connect("application_name=cancel");
	PGcancel *cancel = PQgetCancel(conn);
	int pid = PQbackendPID(conn);
	char errbuf[256] = "";

	ok(PQsendQuery(conn, "SELECT pg_sleep(600)"), "a long query");
	is_int(PQcancel(cancel, errbuf, sizeof(errbuf)), 1, "is cancelled: %s", errbuf);
	ok(WAIT_FOR(is_over(conn) || (PQcancel(cancel, errbuf, sizeof(errbuf)), false)), "and ends");
	drain(conn);
	is_str(ask(conn, "SELECT 1"), "1", "and the session goes on");
	PQfinish(conn);

	conn = must_connect("application_name=cancel");
	is_int(PQbackendPID(conn), pid, "the next holder has the same session");
	ok(PQsendQuery(conn, "SELECT 'well' FROM pg_sleep(0.2)"), "and asks something");
	is_int(PQcancel(cancel, errbuf, sizeof(errbuf)), 0,
		   "the last holder's handle cancels nothing any more");
	ok(strstr(errbuf, "closed"), "and says why: %s", errbuf);
	PQfreeCancel(cancel);
	{
		PGresult *result = PQgetResult(conn);

		is_str(PQgetvalue(result, 0, 0), "well", "the query was not disturbed");
		PQclear(result);
		PQclear(PQgetResult(conn));
	}
	is_int(PQcancel(NULL, errbuf, sizeof(errbuf)), 0, "no handle: no crash");
	PQfreeCancel(NULL);
	PQfinish(conn);
}

#ifdef LIBPQ_HAS_ASYNC_CANCEL
/* libpq 17's way: a handle that connects when its time comes. */
static void
test_cancel_conn(void)
{
	PGconn *conn = must_connect("application_name=cancel");
	PGcancelConn *cancel = PQcancelCreate(conn);
	int pid = PQbackendPID(conn);
	PGresult *result;

	ok(PQsendQuery(conn, "SELECT pg_sleep(600)"), "a long query");
	is_int(PQcancelBlocking(cancel), 1, "is cancelled by a connection: %s",
		   PQcancelErrorMessage(cancel));
	ok(WAIT_FOR(is_over(conn) || (PQcancelReset(cancel), (void) PQcancelBlocking(cancel), false)),
	   "and ends");
	drain(conn);
	PQcancelReset(cancel);
	PQfinish(conn);
	conn = must_connect("application_name=cancel");
	ok(PQbackendPID(conn) != pid, "which may come again: the session is not lent again");
	ok(PQsendQuery(conn, "SELECT 'well' FROM pg_sleep(0.2)"), "the next holder asks something");
	(void) PQcancelBlocking(cancel);
	PQcancelFinish(cancel);
	result = PQgetResult(conn);
	is_str(PQgetvalue(result, 0, 0), "well", "and is not disturbed");
	PQclear(result);
	PQfinish(conn);
}
#endif

/* Ctrl-C: cancelling is allowed in a signal handler, whatever it interrupts. */
static PGcancel *volatile handler_cancel;
static volatile sig_atomic_t handled;

static void
on_alarm(int signum)
{
	char errbuf[256];

	(void) signum;
	(void) PQcancel(handler_cancel, errbuf, sizeof(errbuf));
	handled++;
}

static void
test_cancel_in_handler(void)
{
	struct itimerval often = { .it_interval = { .tv_usec = 200 }, .it_value = { .tv_usec = 200 } };
	struct itimerval never = { 0 };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	PGconn *conn = must_connect("application_name=handler");
	int failures = 0, set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };

	handler_cancel = PQgetCancel(conn);
	PQfinish(conn);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (double until = now_s() + PATIENCE_S; handled < 3000 && now_s() < until;)
	{
		conn = PQconnectdb("application_name=handler");
		failures += PQstatus(conn) != CONNECTION_OK;
		/* these are where a handler meets our own locks */
		for (int i = 0; i < 2000; i++)
		{
			(void) epoll_ctl(set, EPOLL_CTL_ADD, PQsocket(conn), &event);
			(void) epoll_ctl(set, EPOLL_CTL_DEL, PQsocket(conn), &event);
			(void) PQerrorMessage(conn);
		}
		PQfinish(conn);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	is_int(failures, 0, "a stale handle in a signal handler, %d times, harms nobody",
		   (int) handled);
	PQfreeCancel(handler_cancel);
	close(set);
}

/*---- PQreset ----*/

static void
test_reset(void)
{
	PGconn *conn = must_connect("application_name=reset");
	PGconn *other = must_connect("application_name=other");
	int first = PQbackendPID(conn), second;

	PQreset(conn);
	second = PQbackendPID(conn);
	is_int(PQstatus(conn), CONNECTION_OK, "PQreset");
	ok(second != first, "begins another session");
	ok(WAIT_FOR(is_gone(other, first)), "the old one has ended");
	PQfinish(conn);
	conn = must_connect("application_name=reset");
	is_int(PQbackendPID(conn), second, "the new one is pooled");
	PQfinish(conn);
	PQfinish(other);
}

/* Else none of those that were once needed would ever be idle long enough to be closed. */
static void
test_newest_first(void)
{
	PGconn *first = must_connect("application_name=newest");
	PGconn *second = must_connect("application_name=newest");
	int pid = PQbackendPID(second), others = 0;

	PQfinish(first);
	PQfinish(second);
	for (int i = 0; i < 10; i++)
	{
		PGconn *conn = must_connect("application_name=newest");

		others += PQbackendPID(conn) != pid;
		PQfinish(conn);
		usleep(30000);
	}
	is_int(others, 0, "who uses one at a time has the same one each time");
}

/* libpq keeps the socket of an attempt that was refused, for PQfinish to close. */
static void
test_reset_refused(void)
{
	enum
	{
		REFUSED = 20 /* more than may be idle */
	};
	PGconn *other = must_connect("application_name=other");
	int before = count_descriptors();
	int refused = 0, pid;
	PGconn *conn;

	(void) ask(other, "CREATE ROLE resetter LOGIN");
	for (int i = 0; i < REFUSED; i++)
	{
		(void) ask(other, "ALTER ROLE resetter LOGIN");
		conn = must_connect("user=resetter");
		(void) ask(other, "ALTER ROLE resetter NOLOGIN");
		PQreset(conn);
		refused += PQstatus(conn) == CONNECTION_BAD && PQsocket(conn) >= 0;
		if (i < REFUSED - 1)
			PQfinish(conn);
	}
	is_int(refused, REFUSED, "PQreset is refused, %d times", REFUSED);
	(void) ask(other, "ALTER ROLE resetter LOGIN");
	PQreset(conn);
	pid = PQbackendPID(conn);
	PQfinish(conn);
	conn = must_connect("user=resetter");
	is_int(PQbackendPID(conn), pid, "the one that succeeds then is pooled");
	PQfinish(conn);
	/* some kinds of the tests before may have given way */
	ok(WAIT_FOR(count_descriptors() <= before + 1),
	   "those that were refused leave no descriptor: %d, before %d", count_descriptors(), before);
	PQfinish(other);
}

/*---- event loops ----*/

static void
test_epoll(void)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN }, got;
	PGconn *conn = must_connect("application_name=epoll");
	PGconn *again;
	int fd = PQsocket(conn);

	is_int(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0, "its socket is in an event loop");
	PQfinish(conn);
	again = must_connect("application_name=epoll");
	is_int(PQsocket(again), fd, "the next holder has the same socket");
	ok(PQsendQuery(again, "SELECT 1"), "and asks something");
	wait_for_input(again);
	is_int(epoll_wait(set, &got, 1, 0), 0, "the event loop has forgotten it");
	PQclear(PQgetResult(again));
	PQclear(PQgetResult(again));
	is_int(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0, "and takes it anew");
	is_int(epoll_ctl(set, EPOLL_CTL_DEL, fd, &event), 0, "and lets it go when told");
	PQfinish(again);
	close(set);
}

/*---- more than there may be ----*/

static void
test_beyond(void)
{
	PGconn *conns[6];
	int own;

	for (int i = 0; i < 6; i++)
		conns[i] = must_connect("application_name=beyond");
	ok(true, "who would wait for himself gets connections beyond the maximum");
	own = PQbackendPID(conns[5]);
	for (int i = 0; i < 6; i++)
		PQfinish(conns[i]);
	conns[0] = must_connect("application_name=other");
	ok(WAIT_FOR(is_gone(conns[0], own)), "and they are closed, not kept");
}

typedef struct Worker
{
	pthread_t thread;
	int failures;
} Worker;

static void *
work(void *arg)
{
	Worker *worker = arg;

	for (int i = 0; i < 50; i++)
	{
		PGconn *conn = PQconnectdb("application_name=workers");

		worker->failures +=
			PQstatus(conn) != CONNECTION_OK || strcmp(ask(conn, "SELECT 7"), "7") != 0;
		PQfinish(conn);
	}
	return NULL;
}

static int
count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void *
do_nothing(void *arg)
{
	return arg;
}

/* With the thread that ThreadSanitizer starts with the first one of ours. */
static int
count_own_threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, do_nothing, NULL);
	pthread_join(thread, NULL);
	return count_threads();
}

static void
test_threads(void)
{
	Worker workers[20] = { 0 };
	int failures = 0, own = count_own_threads();
	PGconn *other;

	ok(own <= 2, "the program has no threads but its own, and a sanitizer's");
	for (int i = 0; i < 20; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (int i = 0; i < 20; i++)
	{
		pthread_join(workers[i].thread, NULL);
		failures += workers[i].failures;
	}
	is_int(failures, 0, "20 threads share what there may be");
	is_int(count_threads(), own, "and none of them is ours");
	other = must_connect("application_name=other");
	ok(atoi(ask(other,
				"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'workers'")) <= 3,
	   "no more than 3 connections");
	PQfinish(other);
}

/*---- descriptors ----*/

static void
test_closefrom(void)
{
	PGconn *conn = must_connect("application_name=daemon");
	int fd = PQsocket(conn), pipes[2], again;
	char byte = 0;

	PQfinish(conn);
	close(fd); /* all descriptors, as a daemon does */
	is_int(pipe(pipes), 0, "its number is another's now");
	if (pipes[0] != fd)
	{
		is_int(dup2(pipes[0], fd), fd, "by force");
		again = fd;
	}
	else
		again = pipes[0];
	is_int((int) write(pipes[1], "x", 1), 1, "with something in it");
	conn = must_connect("application_name=daemon");
	is_str(ask(conn, "SELECT 1"), "1", "a connection is had all the same");
	is_int((int) read(again, &byte, 1), 1, "what is the program's is there");
	is_int(byte, 'x', "unread, and open");
	PQfinish(conn);
	close(pipes[0]);
	close(pipes[1]);
	if (again != pipes[0])
		close(again);
}

/*---- fork ----*/

/* What runs no handler. */
static pid_t
clone_like_fork(void)
{
	return (pid_t) syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static struct
{
	pid_t (*fork)(void);
	const char *name;
} ways[] = { { fork, "fork" }, { _Fork, "_Fork" }, { clone_like_fork, "clone" } };

/* A daemon closes all descriptors, opens others, and forks: these are its child's. */
static void
test_closed_before_fork(pid_t (*way)(void), const char *name)
{
	PGconn *conn = must_connect("application_name=daemon");
	int fd = PQsocket(conn), pipes[2], status;
	char byte = 0;
	pid_t pid;

	PQfinish(conn);
	close(fd);
	if (pipe(pipes) != 0 || (pipes[0] != fd && dup2(pipes[0], fd) != fd) ||
		write(pipes[1], "xy", 2) != 2)
	{
		ok(false, "%s: a pipe", name);
		return;
	}
	pid = way();
	if (pid == 0)
	{
		bool good = read(fd, &byte, 1) == 1 && byte == 'x';

		conn = PQconnectdb("application_name=daemon");
		good = good && strcmp(ask(conn, "SELECT 12"), "12") == 0;
		PQfinish(conn);
		_exit(good && read(fd, &byte, 1) == 1 && byte == 'y' ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	is_int(status, 0, "%s: what has a socket's number by now is the child's", name);
	close(pipes[0]);
	close(pipes[1]);
	if (pipes[0] != fd)
		close(fd);
}

/*
 * The child of one who has a connection does with it what it likes, at a time when its
 * parent is done with it.
 */
static void
test_left_to_child(pid_t (*way)(void), const char *name)
{
	PGconn *conn = must_connect("application_name=left");
	PGcancel *cancel = PQgetCancel(conn);
	int pid = PQbackendPID(conn), go[2], status;
	char byte, errbuf[256];
	pid_t child;

	if (pipe(go) != 0)
		return;
	child = way();
	if (child == 0)
	{
		close(go[1]);
		(void) read(go[0], &byte, 1);
		(void) PQcancel(cancel, errbuf, sizeof(errbuf));
		PQfreeCancel(cancel);
		PQfinish(conn);
		_exit(0);
	}
	close(go[0]);
	PQfinish(conn);
	conn = must_connect("application_name=left");
	ok(way != fork || PQbackendPID(conn) != pid, "%s: what a child may use is not lent again",
	   name);
	ok(PQsendQuery(conn, "SELECT 'well' FROM pg_sleep(0.2)"), "%s: the next holder asks", name);
	close(go[1]);
	waitpid(child, &status, 0);
	is_int(status, 0, "%s: the child closes it", name);
	if (way == fork)
	{
		PGresult *result = PQgetResult(conn);

		is_str(PQgetvalue(result, 0, 0), "well", "%s: which does not disturb the next holder",
			   name);
		PQclear(result);
	}
	PQfreeCancel(cancel);
	PQfinish(conn);
}

static int
run_child(int (*body)(PGconn *), PGconn *conn)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(body(conn));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Idle ones are the parent's: the child opens its own. */
static int
open_own(PGconn *unused)
{
	int pids[2];

	(void) unused;
	for (int i = 0; i < 2; i++)
	{
		PGconn *conn = PQconnectdb("application_name=fork");

		if (PQstatus(conn) != CONNECTION_OK)
			return 1;
		pids[i] = PQbackendPID(conn);
		PQfinish(conn);
	}
	return pids[0] == pids[1] ? 0 : 2;
}

/* A daemon opens, forks, and goes on in the child. */
static int
go_on(PGconn *conn)
{
	return strcmp(ask(conn, "SELECT 8"), "8") == 0 ? 0 : 1;
}

static void
test_fork(void)
{
	PGconn *conn = must_connect("application_name=fork");
	int pid = PQbackendPID(conn);

	PQfinish(conn);
	is_int(run_child(open_own, NULL), 0, "a child pools connections of its own");
	conn = must_connect("application_name=fork");
	is_int(PQbackendPID(conn), pid, "the parent's are as they were");
	is_str(ask(conn, "SELECT 9"), "9", "and good");
	is_int(run_child(go_on, conn), 0, "what was open when it forked is the child's as much");
	is_str(ask(conn, "SELECT 10"), "10", "and the parent's");
	PQfinish(conn);
}

/*
 * The number that was the socket's is a pipe's, in the child: nothing is written there, and
 * it stays open.
 */
static int pipe_fds[2];
static int socket_number;

static int
has_pipe(void)
{
	char bytes[16] = "";

	if (write(pipe_fds[1], "x", 1) != 1)
		return 1;
	return read(socket_number, bytes, sizeof(bytes)) == 1 && bytes[0] == 'x' ? 0 : 2;
}

/* A daemon closes what it has got, opens its own files, and then connects. */
static int
close_first(PGconn *conn)
{
	int status;

	if (dup2(pipe_fds[0], socket_number) != socket_number)
		return 10;
	status = open_own(conn);
	return status ? status : has_pipe();
}

/* The same was done before the child was made, and that never connects. */
static int
keep_pipe(PGconn *unused)
{
	(void) unused;
	return has_pipe();
}

static void
test_fork_and_closefrom(void)
{
	PGconn *conn;

	/* then it is idle as soon as it is closed, and not only when an answer has been read */
	setenv("PQPOOL_RESET", "rollback", 1);
	conn = must_connect("application_name=idle_at_once");
	socket_number = PQsocket(conn);
	PQfinish(conn);
	unsetenv("PQPOOL_RESET");
	is_int(pipe(pipe_fds), 0, "a pipe");
	is_int(run_child(close_first, NULL), 0, "what has a socket's number in a child is left alone");
	is_int(dup2(pipe_fds[0], socket_number), socket_number, "the number of an idle socket");
	is_int(run_child(keep_pipe, NULL), 0, "is a child's as well");
	is_int(run_child(close_first, NULL), 0, "also when that connects");
	is_int(has_pipe(), 0, "and its parent's");
	conn = must_connect("application_name=idle_at_once");
	is_str(ask(conn, "SELECT 12"), "12", "which connects as well");
	PQfinish(conn);
	is_int(has_pipe(), 0, "and leaves it alone");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(socket_number);
}

/*---- the server ends sessions ----*/

/* libpq closes the socket when it learns of it, and nobody else has to. */
static void
test_dead_in_use(void)
{
	PGconn *other = must_connect("application_name=other");
	int before = count_descriptors();

	for (int i = 0; i < 3; i++)
	{
		PGconn *conn = must_connect("application_name=dead_in_use");

		(void) ask(conn, "SELECT pg_terminate_backend(pg_backend_pid())");
		is_int(PQstatus(conn), CONNECTION_BAD, "one in use is terminated");
		PQfinish(conn);
	}
	ok(WAIT_FOR(count_descriptors() == before), "and leaves no descriptor: %d, before %d",
	   count_descriptors(), before);
	PQfinish(other);
}

static void
test_dead(void)
{
	PGconn *conn = must_connect("application_name=dead");
	PGconn *other = must_connect("application_name=other");
	char sql[100];
	int pid = PQbackendPID(conn);

	PQfinish(conn);
	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)", pid);
	(void) ask(other, sql);
	ok(WAIT_FOR(is_gone(other, pid)), "an idle one is terminated");
	conn = must_connect("application_name=dead");
	is_str(ask(conn, "SELECT 11"), "11", "the next holder gets a good one");
	PQfinish(conn);
	PQfinish(other);
}

int
main(void)
{
	unsetenv("PGAPPNAME");
	test_doors();
	test_errors();
	test_cancel();
#ifdef LIBPQ_HAS_ASYNC_CANCEL
	test_cancel_conn();
#endif
	test_cancel_in_handler();
	test_reset();
	test_reset_refused();
	test_newest_first();
	test_epoll();
	test_beyond();
	test_threads();
	test_closefrom();
	test_fork();
	for (int i = 0; i < 3; i++)
	{
		test_closed_before_fork(ways[i].fork, ways[i].name);
		test_left_to_child(ways[i].fork, ways[i].name);
	}
	test_fork_and_closefrom();
	test_dead();
	test_dead_in_use();
	return done_testing();
}
