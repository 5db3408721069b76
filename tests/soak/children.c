/*-------------------------------------------------------------------------
 *
 * children.c
 *	  Forks in the midst of it: children that end at once, that become another
 *	  program, and that use the pools as their own.
 *
 * A child tells how it fared by its exit status and prints nothing.  Under the
 * sanitizers children only end, or become another program: AddressSanitizer's
 * allocator may be locked at the fork, and ThreadSanitizer takes a child's
 * threads for its parent's.
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

#include <signal.h>
#include <sys/wait.h>

#define CHILD_PATIENCE_MS 90000

/* Exit statuses; those from CHILD_CODE on are a pqpool_code more. */
enum
{
	CHILD_FINE,
	CHILD_BAD_ANSWER,
	CHILD_NOT_RETURNED,
	CHILD_NOT_CLOSED,
	CHILD_LOAN_ACCEPTED, /* the parent's */
	CHILD_NO_PROGRAM,
	CHILD_CODE = 20
};

/* Children do start threads. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
	return "die_after_fork=0";
}

/*---- in the child ----*/

static int
ask(PGconn *conn)
{
	PGresult *result = PQexec(conn, "SELECT pg_backend_pid()");
	bool good = PQresultStatus(result) == PGRES_TUPLES_OK &&
				atoi(PQgetvalue(result, 0, 0)) == PQbackendPID(conn);

	PQclear(result);
	return good ? CHILD_FINE : CHILD_BAD_ANSWER;
}

static int
use_pool(pqpool *pool, bool give_back)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, PATIENCE_MS, &err);
	int status;

	if (conn == NULL)
		return CHILD_CODE + err.code;
	status = ask(conn);
	if (status == CHILD_FINE && give_back && pqpool_release(conn) != PQPOOL_OK)
		status = CHILD_NOT_RETURNED;
	return status;
}

static int
use_default(void)
{
	pqpool_error err;
	PGconn *conn = pqpool_get_connection(&err);
	int status;

	if (conn == NULL)
		return CHILD_CODE + err.code;
	status = ask(conn);
	if (status == CHILD_FINE && pqpool_return_connection(conn) != PQPOOL_OK)
		status = CHILD_NOT_RETURNED;
	return status;
}

static int
live(unsigned what, pqpool *pool, PGconn *parents)
{
	switch (what)
	{
		case 0:
			return CHILD_FINE;
		case 1:
			(void) execl("/bin/true", "true", (char *) NULL);
			return CHILD_NO_PROGRAM;
		case 2:
			return use_pool(pool, true);
		case 3:
		{
			int status = use_pool(pool, true);

			if (status == CHILD_FINE && pqpool_close(&pool, -1) != PQPOOL_OK)
				status = CHILD_NOT_CLOSED;
			return status;
		}
		case 4:
			return use_pool(pool, false);
		case 5:
			return use_default();
		default:
			if (parents != NULL && pqpool_release(parents) != PQPOOL_UNKNOWN_CONNECTION)
				return CHILD_LOAN_ACCEPTED;
			return use_pool(pool, true);
	}
}

/*---- in the parent ----*/

static bool
has_ended(pid_t pid, int *status)
{
	return waitpid(pid, status, WNOHANG) == pid;
}

static void
judge(Call *call, unsigned what, int status)
{
	char message[100];
	int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	bool failed = exit_status != CHILD_FINE && exit_status < CHILD_CODE;
	unsigned situation = USUAL;

	/* a session of the child's may have been struck: by whom is not known */
	if (exit_status == CHILD_BAD_ANSWER &&
		(struck_since(0, call->began) || turbulent_since(call->began)))
		failed = false;
	snprintf(message, sizeof(message), "a child of kind %u ended with status %d, signal %d", what,
			 exit_status, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	(void) call_end(call,
					failed						? PQPOOL_SYSTEM
					: exit_status >= CHILD_CODE ? exit_status - CHILD_CODE
												: PQPOOL_OK,
					situation, message);
}

static void
have_child(Self *self)
{
	Slot *slot = &slots[draw(self, SLOTS)];
	unsigned what = draw(self, UNDER_SANITIZER ? 2 : 7);
	pqpool *pool = enter_pool(slot);
	PGconn *lent = NULL;
	int status = 0;
	Call call;
	pid_t pid;

	if (pool == NULL)
		return;
	/* a child of a paused pool has a paused pool, and nobody to resume it */
	if (pthread_mutex_trylock(&slot->steering) != 0)
	{
		leave_pool(slot);
		return;
	}
	if (what == 6)
		lent = pqpool_acquire(pool, 0, NULL);
	if (lent != NULL)
		atomic_fetch_add_explicit(&slot->granted, 1, memory_order_relaxed);
	call = call_begin(self, OP_CHILD, slot);
	pid = fork();
	if (pid == 0)
		_exit(live(what, pool, lent));
	pthread_mutex_unlock(&slot->steering);
	if (pid < 0)
		give_up("no child");
	if (lent != NULL && pqpool_release(lent) != PQPOOL_OK)
		failure("a loan could not be given back after a fork");
	leave_pool(slot);
	if (!WAIT_FOR(has_ended(pid, &status), CHILD_PATIENCE_MS))
	{
		failure("a child of kind %u hangs", what);
		(void) kill(pid, SIGKILL);
		(void) waitpid(pid, &status, 0);
	}
	judge(&call, what, status);
}

void *
bring_forth(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		have_child(self);
		sleep_ms(draw(self, 200));
	}
	return NULL;
}
