/*-------------------------------------------------------------------------
 *
 * loops.c
 *	  Event loops, which have a connection's socket before it is connected, and
 *	  rely on PQfinish to take it away.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

static int set;

static void
watch(int op, int fd, PostgresPollingStatusType what)
{
	struct epoll_event event = { .events = what == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT };

	if (epoll_ctl(set, op, fd, &event) != 0)
		ok(false, "epoll_ctl %d: %s", op, strerror(errno));
}

typedef PostgresPollingStatusType (*Poll)(PGconn *);

/* As an event loop does: the socket is added when there is one, and modified from then on. */
static void
go_on(PGconn *conn, Poll poll)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	int fd = -1;

	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		struct epoll_event got;
		int now = PQsocket(conn);

		/*
		 * libpq says nothing when it has gone on to another address: who waits on writing
		 * anew has to add anew
		 */
		watch(now == fd && fcntl(now, F_GETFD) >= 0 && status == PGRES_POLLING_READING
				  ? EPOLL_CTL_MOD
				  : (epoll_ctl(set, EPOLL_CTL_DEL, now, NULL), EPOLL_CTL_ADD),
			  now, status);
		fd = now;
		(void) epoll_wait(set, &got, 1, PATIENCE_S * 1000);
		status = poll(conn);
	}
	watch(EPOLL_CTL_MOD, PQsocket(conn), PGRES_POLLING_READING);
}

static PGconn *
start(const char *conninfo)
{
	PGconn *conn = PQconnectStart(conninfo);

	if (PQstatus(conn) != CONNECTION_BAD)
		go_on(conn, PQconnectPoll);
	return conn;
}

/* What a loop has to hear of the one who comes next on the same socket: nothing. */
static void
look(const char *conninfo, int pid, const char *what)
{
	struct epoll_event got;
	PGresult *result;
	PGconn *conn;

	ok(WAIT_FOR(
		   (conn = PQconnectdb(conninfo), PQbackendPID(conn) == pid || (PQfinish(conn), false))),
	   "%s: the session is lent again", what);
	ok(PQsendQuery(conn, "SELECT 1"), "%s: and asked something", what);
	wait_for_input(conn);
	is_int(epoll_wait(set, &got, 1, 0), 0, "%s: the loop does not hear of it", what);
	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
	watch(EPOLL_CTL_ADD, PQsocket(conn), PGRES_POLLING_READING);
	ok(true, "%s: and takes the socket anew", what);
	watch(EPOLL_CTL_DEL, PQsocket(conn), PGRES_POLLING_READING);
	PQfinish(conn);
}

static void
test_connecting(void)
{
	const char *conninfo = "application_name=loop";
	PGconn *conn = start(conninfo);
	int pid = PQbackendPID(conn);

	PQfinish(conn);
	look(conninfo, pid, "added while connecting");
}

/* The first address does not answer: the socket that is noted is the second one's. */
static void
test_second_address(void)
{
	char conninfo[1000];
	PGconn *conn;
	int pid;

	snprintf(conninfo, sizeof(conninfo), "host=/nowhere,%s port=1,%s application_name=second",
			 getenv("PGHOST"), getenv("PGPORT"));
	conn = start(conninfo);
	pid = PQbackendPID(conn);
	is_int(PQstatus(conn), CONNECTION_OK, "by the second address");
	PQfinish(conn);
	look(conninfo, pid, "by the second address");
}

static void
test_reset(void)
{
	const char *conninfo = "application_name=loop";
	PGconn *conn = start(conninfo);
	int before, pid;

	ok(PQresetStart(conn), "PQresetStart");
	go_on(conn, PQresetPoll);
	pid = PQbackendPID(conn);
	PQfinish(conn);
	look(conninfo, pid, "added while it was reset");

	PQfinish(PQconnectdb(conninfo));
	before = count_descriptors();
	for (int i = 0; i < 5; i++)
	{
		conn = PQconnectdb(conninfo);
		(void) PQresetStart(conn);
		PQfinish(conn);
	}
	PQfinish(PQconnectdb(conninfo));
	is_int(count_descriptors(), before, "a reset that is given up leaves no descriptor");
}

/* What a program has told the kernel of the socket must not go to the next holder. */
static volatile sig_atomic_t signalled;

static void
on_io(int signum)
{
	(void) signum;
	signalled++;
}

static void
test_flags(void)
{
	struct sigaction action = { .sa_handler = on_io, .sa_flags = SA_RESTART };
	PGconn *conn = must_connect("application_name=flags");
	int fd = PQsocket(conn), pid = PQbackendPID(conn);

	sigaction(SIGIO, &action, NULL);
	(void) fcntl(fd, F_SETOWN, getpid());
	(void) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
	(void) ask(conn, "SELECT 1");
	ok(WAIT_FOR(signalled > 0), "a holder wants signals");
	PQfinish(conn);
	signalled = 0;
	conn = must_connect("application_name=flags");
	ok(PQbackendPID(conn) != pid, "the next one gets another connection");
	is_str(ask(conn, "SELECT 13"), "13", "a good one");
	is_int(signalled, 0, "and no signals");
	PQfinish(conn);
}

int
main(void)
{
	unsetenv("PGAPPNAME");
	set = epoll_create1(EPOLL_CLOEXEC);
	test_connecting();
	test_second_address();
	test_reset();
	test_flags();
	return done_testing();
}
