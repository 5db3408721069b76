/*-------------------------------------------------------------------------
 *
 * user.c
 *	  A process that becomes another user's.
 *
 * In a user namespace of its own it is nobody's, without any right for that: the nearest
 * to setuid() that a plain user can do.  It takes a process without other threads, and a
 * system that lets plain users make namespaces.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <sched.h>

/* Connect, close, and which session it was. */
static int
pid_of(const char *conninfo)
{
	PGconn *conn = must_connect(conninfo);
	int pid = PQbackendPID(conn);

	PQfinish(conn);
	return pid;
}

int
main(void)
{
	PGconn *watch = must_connect("application_name=watch");
	char conninfo[200];
	int pid;

	/* the default of user would change with the process's, and the key with it */
	snprintf(conninfo, sizeof(conninfo), "application_name=somebody user='%s'", PQuser(watch));
	pid = pid_of(conninfo);
	is_int(pid_of(conninfo), pid, "the same user gets the session again");
	if (unshare(CLONE_NEWUSER) != 0)
		diag("no user namespace here, so nobody to become: %s", strerror(errno));
	else
	{
		ok(pid_of(conninfo) != pid, "another one does not");
		ok(WAIT_FOR(is_gone(watch, pid)), "and that of the former is closed");
	}
	PQfinish(watch);
	return done_testing();
}
