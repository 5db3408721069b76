/*-------------------------------------------------------------------------
 *
 * atfork.c
 *	  The program's own handlers of pthread_atfork may call libpq.
 *
 * They are registered before the program first connects, as most are, and
 * close one connection and open another: before the fork, in the parent, in the child.
 *
 *-------------------------------------------------------------------------
 */
#include "preload.h"

#include <pthread.h>
#include <sys/wait.h>

typedef enum Where
{
	NOWHERE,
	BEFORE,
	IN_PARENT,
	IN_CHILD
} Where;

static Where where;
static PGconn *held;

static void
handle(Where here)
{
	if (where != here)
		return;
	(void) alarm(PATIENCE_S);
	PQfinish(held);
	held = PQconnectdb("");
}

static void
before(void)
{
	handle(BEFORE);
}

static void
in_parent(void)
{
	handle(IN_PARENT);
}

static void
in_child(void)
{
	handle(IN_CHILD);
}

static bool
works(PGconn *conn)
{
	return strcmp(ask(conn, "SELECT 1"), "1") == 0;
}

/* Is a session that was closed the one that comes next? */
static bool
is_pooled(void)
{
	PGconn *conn = PQconnectdb("");
	int pid = PQbackendPID(conn);
	bool same;

	PQfinish(conn);
	conn = PQconnectdb("");
	same = pid != 0 && PQbackendPID(conn) == pid;
	PQfinish(conn);
	return same;
}

/*
 * The child closes what it was given only where its handler does: the session is its
 * parent's as well.
 */
static void
fork_with(Where handler, const char *name)
{
	pid_t child;
	int status = -1;

	held = handler == NOWHERE ? NULL : must_connect("");
	where = handler;
	(void) alarm(2 * PATIENCE_S);
	child = fork();
	if (child == 0)
	{
		bool good = handler != IN_CHILD || works(held);

		(void) alarm(PATIENCE_S);
		if (handler == IN_CHILD)
			PQfinish(held);
		_exit(good && is_pooled() ? 0 : 1);
	}
	is_int(waitpid(child, &status, 0), child, "%s: forked", name);
	(void) alarm(0);
	is_int(status, 0, "%s: the child connects, and is pooled", name);
	if (handler == BEFORE || handler == IN_PARENT)
		ok(works(held), "%s: what the handler opened works", name);
	PQfinish(held);
	ok(is_pooled(), "%s: so is its parent", name);
}

int
main(void)
{
	(void) pthread_atfork(before, in_parent, in_child);
	fork_with(NOWHERE, "before anything is connected");
	fork_with(BEFORE, "a handler before the fork");
	fork_with(IN_PARENT, "a handler in the parent");
	fork_with(IN_CHILD, "a handler in the child");
	return done_testing();
}
