/*-------------------------------------------------------------------------
 *
 * fork.c
 *	  A forked child has the pools, empty; the parent's connections stay the
 *	  parent's.
 *
 * A child tells what went wrong by its exit status; it prints nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* _Fork */
#endif

#include "forking.h"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * A fork while other threads run: AddressSanitizer may leave the lock of its
 * allocator to the child, which then hangs in malloc; ThreadSanitizer mistakes
 * a child's threads for its parent's. Neither is ours, so those cases are left out.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

static pqpool *pool;
static PGconn *lent; /* a loan of the parent's */
static char parent_id[64];

static pid_t
clone_like_fork(void)
{
	return (pid_t) syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* The other two run no handlers of pthread_atfork. */
static const struct
{
	pid_t (*call)(void);
	const char *name;
} ways[] = { { fork, "fork" }, { _Fork, "_Fork" }, { clone_like_fork, "clone" } };

static pid_t (*make_child)(void) = fork;

/* The exit status of a child that runs this. */
static int
in_child(int (*body)(void))
{
	pid_t pid;
	int status = -1;

	fflush(stdout);
	pid = make_child();
	if (pid == 0)
	{
		is_child = true;
		_exit(body());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		give_up("no child");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/*---- what a child does ----*/

static int
uses_pool(void)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, PATIENCE_S * 1000, &err);

	if (conn == NULL)
		return 1;
	if (query_int(conn, "SELECT pg_backend_pid()") != PQbackendPID(conn))
		return 2;
	if (PQbackendPID(conn) == PQbackendPID(lent))
		return 3;
	if (pqpool_release(conn) != PQPOOL_OK)
		return 4;
	if (strcmp(pqpool_id(pool), parent_id) == 0)
		return 5;
	return 0;
}

static int
asks_for_id(void)
{
	return strcmp(pqpool_id(pool), parent_id) == 0 ? 1 : uses_pool();
}

static int
releases_parents_loan(void)
{
	int code = pqpool_release(lent);

	if (code != PQPOOL_UNKNOWN_CONNECTION)
		return 1 + code;
	return uses_pool();
}

static int
closes_pool(void)
{
	return uses_pool() != 0 ? 1 : pqpool_close(&pool, PATIENCE_S * 1000) == PQPOOL_OK ? 0 : 2;
}

static int
closes_pool_at_once(void)
{
	return pqpool_close(&pool, PATIENCE_S * 1000) == PQPOOL_OK ? 0 : 1;
}

static int
does_nothing(void)
{
	return 0;
}

static int
has_child(void)
{
	if (uses_pool() != 0)
		return 1;
	return in_child(uses_pool) != 0 ? 2 : uses_pool();
}

static int
exits(void)
{
	int failed = uses_pool();

	exit(failed);
}

static int
sees_empty_pool(void)
{
	pqpool_statistics stats = stats_of(pool);

	if (stats.in_use != 0 || stats.idle != 0 || stats.waiting != 0)
		return 1;
	return stats.acquires != 0 || stats.max_size != 3 ? 2 : uses_pool();
}

static void
borrow_in_thread(int index, void *arg)
{
	atomic_int *failed = arg;

	(void) index;
	for (int i = 0; i < 50; i++)
	{
		PGconn *conn = pqpool_acquire(pool, PATIENCE_S * 1000, NULL);

		if (conn == NULL || query_int(conn, "SELECT 1") != 1 || pqpool_release(conn) != PQPOOL_OK)
			atomic_fetch_add(failed, 1);
	}
}

static int
has_threads(void)
{
	atomic_int failed = 0;

	run_threads(8, borrow_in_thread, &failed);
	return atomic_load(&failed) != 0;
}

static void
test_children(const char *way)
{
	static const struct
	{
		int (*body)(void);
		const char *what;
	} cases[] = { { does_nothing, "does nothing" },
				  { sees_empty_pool, "finds the pool empty" },
				  { uses_pool, "uses the pool" },
				  { asks_for_id, "asks for the pool's id before anything else" },
				  { releases_parents_loan, "tries to return the parent's loan" },
				  { closes_pool, "uses and closes the pool" },
				  { closes_pool_at_once, "closes the pool at once" },
				  { has_child, "has a child itself" },
				  { has_threads, "has eight threads" },
				  { exits, "ends by exit()" } };
	PGconn *idle[2];
	int pids[3];

	pool = open_pool("application_name=forked pool_max_size=3");
	lent = acquire_or_give_up(pool);
	for (int i = 0; i < 2; i++)
		idle[i] = acquire_or_give_up(pool);
	for (int i = 0; i < 2; i++)
	{
		pids[i] = PQbackendPID(idle[i]);
		(void) pqpool_release(idle[i]);
	}
	pids[2] = PQbackendPID(lent);
	snprintf(parent_id, sizeof(parent_id), "%s", pqpool_id(pool));
	(void) run(lent, "BEGIN; CREATE TEMP TABLE parents (a int)");

	for (int i = 0; i < countof(cases); i++)
	{
		int seen = 0;

		if (UNDER_SANITIZER && cases[i].body == has_threads)
			continue;
		is_int(in_child(cases[i].body), 0, "%s: a child %s", way, cases[i].what);
		is_int(query_int(lent, "SELECT count(*) FROM parents"), 0,
			   "... and the parent's loan is in its transaction still");
		for (int k = 0; k < 2; k++)
		{
			idle[k] = acquire_or_give_up(pool);
			ok(query_int(idle[k], "SELECT 1") == 1, "... a connection of the parent's works");
			seen |= (PQbackendPID(idle[k]) == pids[0]) | (PQbackendPID(idle[k]) == pids[1]) << 1;
		}
		ok(seen != 0, "... and is one that it had before");
		for (int k = 0; k < 2; k++)
			(void) pqpool_release(idle[k]);
		is_str(pqpool_id(pool), parent_id, "... the pool's id is what it was");
	}
	is_int(PQbackendPID(lent), pids[2], "the loan is the same to the end");
	is_int(stats_of(pool).found_dead, 0, "no child has closed a connection of the parent's");
	is_code(pqpool_release(lent), PQPOOL_OK, "and is returned");
	(void) pqpool_close(&pool, -1);
}

/*---- a fork in the midst of it ----*/

static atomic_int stop;
static atomic_int failed_operations;

static void
keep_busy(int index, void *arg)
{
	(void) index;
	(void) arg;
	while (!atomic_load(&stop))
	{
		PGconn *conn = pqpool_acquire(pool, PATIENCE_S * 1000, NULL);

		if (conn == NULL || query_int(conn, "SELECT 1") != 1 || pqpool_release(conn) != PQPOOL_OK)
			atomic_fetch_add(&failed_operations, 1);
	}
}

/* Whatever lock a thread of the parent's held at that moment: the child must not wait for it. */
static void
test_fork_in_the_midst(void)
{
	Threads threads = { 0 };
	PGconn *direct;
	int failed = 0;

	pool = open_pool("application_name=midst pool_max_size=3");
	lent = acquire_or_give_up(pool);
	snprintf(parent_id, sizeof(parent_id), "%s", pqpool_id(pool));
	for (int i = 0; i < 8; i++)
		start_thread(&threads, keep_busy, NULL);
	for (int i = 0; i < (UNDER_SANITIZER ? 0 : 50); i++)
		failed += in_child(uses_pool) != 0;
	is_int(failed, 0, "50 children of a busy parent can use the pool");
	atomic_store(&stop, 1);
	join_threads(&threads);
	is_int(atomic_load(&failed_operations), 0, "which the parent does not notice");
	is_int(stats_of(pool).found_dead, 0, "at all");
	(void) pqpool_release(lent);
	(void) pqpool_close(&pool, -1);
	direct = connect_directly("");
	ok(WAIT_FOR(count_sessions(direct, "midst") == 0), "nothing is left on the server");
	PQfinish(direct);
}

/*---- default pool and own connection ----*/

static PGconn *own;

static int
gets_connection(void)
{
	pqpool_error err;
	PGconn *conn = pqpool_get_connection(&err);

	if (conn == NULL)
		return 1;
	if (query_int(conn, "SELECT pg_backend_pid()") != PQbackendPID(conn))
		return 2;
	if (own != NULL && PQbackendPID(conn) == PQbackendPID(own))
		return 3;
	return pqpool_return_connection(conn) == PQPOOL_OK ? 0 : 4;
}

static void
test_default_pool(void)
{
	pqpool_error err;
	pqpool_scope scope;

	own = pqpool_get_connection(&err);
	is_int(in_child(gets_connection), 0, "without a pool a child has a connection of its own");
	ok(own != NULL && query_int(own, "SELECT 1") == 1, "and the parent keeps his");
	(void) pqpool_return_connection(own);
	(void) pqpool_cleanup_thread_local_connection();
	own = NULL;

	is_code(pqpool_initialize("application_name=default pool_max_size=2", &err), PQPOOL_OK,
			"a default pool");
	is_int(in_child(gets_connection), 0, "a child can use it");
	is_int(gets_connection(), 0, "as can the parent");
	is_int(in_child(gets_connection), 0, "and a child once more");
	pool = open_pool("application_name=scope pool_max_size=2");
	(void) pqpool_scope_enter(&scope, pool, NULL);
	is_int(gets_connection(), 0, "in a scope");
	is_int(in_child(gets_connection), 0, "a child is in the scope, too");
	is_int(gets_connection(), 0, "as the parent is still");
	is_code(pqpool_scope_leave(&scope), PQPOOL_OK, "until it leaves it");
	(void) pqpool_close(&pool, -1);
	is_code(pqpool_close_pool(), PQPOOL_OK, "closed");
}

int
main(void)
{
	for (int i = 0; i < (UNDER_SANITIZER ? 1 : countof(ways)); i++)
	{
		make_child = ways[i].call;
		test_children(ways[i].name);
	}
	make_child = fork;
	test_fork_in_the_midst();
	test_default_pool();
	return done_testing();
}
