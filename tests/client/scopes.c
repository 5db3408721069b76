/*-------------------------------------------------------------------------
 *
 * scopes.c
 *	  Scopes: which pool is the current one, and that it is restored on every
 *	  way out.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <setjmp.h>
#include <sys/wait.h>

/* ThreadSanitizer ends a child that starts threads, unless told not to. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
	return "die_after_fork=0";
}

static pqpool *pools[4];
static const char *const names[] = { "zero", "one", "two", "three", "owned" };

/* Which pool is the current one, by what the server says of a connection. */
static int
current(void)
{
	pqpool_error err;
	PGconn *conn = pqpool_get_connection(&err);
	char *name;
	int found = -err.code;

	if (conn == NULL)
		return found;
	name = query_text(conn, "SHOW application_name");
	for (int i = 0; i < countof(names); i++)
	{
		if (name != NULL && strcmp(name, names[i]) == 0)
			found = i;
	}
	if (name != NULL && strcmp(name, "default") == 0)
		found = 100;
	free(name);
	return pqpool_return_connection(conn) == PQPOOL_OK ? found : -1000;
}

#define DEFAULT 100

static atomic_int wrong_pools;

static void
check(int expected)
{
	if (current() != expected)
		atomic_fetch_add(&wrong_pools, 1);
}

/*---- ways out ----*/

static int
leave_by_return(void)
{
	PQPOOL_SCOPE(pools[1])
	{
		PQPOOL_SCOPE(pools[2])
		{
			PQPOOL_SCOPE(pools[3])
			{
				return current();
			}
		}
	}
	return -1;
}

static int
leave_by_goto(void)
{
	int inside = -1;

	PQPOOL_SCOPE(pools[1])
	{
		PQPOOL_SCOPE(pools[2])
		{
			inside = current();
			goto out;
		}
	}
out:
	return inside;
}

static int
leave_by_break(void)
{
	int inside = -1;

	PQPOOL_SCOPE(pools[1])
	{
		inside = current();
		if (inside == 1)
			break;
		inside = -2;
	}
	return inside;
}

static int
leave_by_continue(void)
{
	int inside = 0;

	for (int i = 0; i < 3; i++)
	{
		PQPOOL_SCOPE(pools[2])
		{
			inside += current();
			continue;
		}
	}
	return inside;
}

static void
test_ways_out(void)
{
	is_int(current(), DEFAULT, "outside of every scope the default pool is the current one");
	is_int(leave_by_return(), 3, "in the innermost of three scopes");
	is_int(current(), DEFAULT, "left by return");
	is_int(leave_by_goto(), 2, "in the second of two");
	is_int(current(), DEFAULT, "left by goto");
	is_int(leave_by_break(), 1, "in a scope");
	is_int(current(), DEFAULT, "left by break");
	is_int(leave_by_continue(), 6, "in a scope, three times");
	is_int(current(), DEFAULT, "left by continue");
	PQPOOL_SCOPE(pools[1])
	{
		is_int(current(), 1, "in a scope");
		PQPOOL_SCOPE(pools[2])
		is_int(current(), 2, "in one within, a single statement");
		is_int(current(), 1, "the outer one is restored");
		PQPOOL_SCOPE(pools[1])
		{
			is_int(current(), 1, "the same pool within itself");
		}
		is_int(current(), 1, "and again");
	}
	is_int(current(), DEFAULT, "left by its end");
}

/* longjmp leaves no scope; the next one further out that is left restores the right pool. */
static jmp_buf out_of_scope;

static void
test_longjmp(void)
{
	PQPOOL_SCOPE(pools[1])
	{
		if (setjmp(out_of_scope) == 0)
		{
			PQPOOL_SCOPE(pools[2])
			longjmp(out_of_scope, 1);
		}
		is_int(current(), 2, "longjmp does not leave a scope");
	}
	is_int(current(), DEFAULT, "leaving the outer one restores what was before that");
}

/*---- by hand ----*/

static void
test_by_hand(void)
{
	pqpool_scope a, b, c;
	pqpool_error err;
	pqpool *none = NULL;

	is_code(pqpool_scope_enter(&a, pools[1], &err), PQPOOL_OK, "the first scope is entered");
	is_code(pqpool_scope_enter(&b, pools[2], &err), PQPOOL_OK, "the second");
	is_code(pqpool_scope_enter(&c, pools[3], &err), PQPOOL_OK, "the third");
	is_int(current(), 3, "the third counts");
	is_code(pqpool_scope_leave(&b), PQPOOL_SCOPE_ORDER, "the second is left before the third");
	is_int(current(), 1, "which takes the third with it");
	is_code(pqpool_scope_leave(&c), PQPOOL_SCOPE_ORDER, "the third is left after all");
	is_int(current(), 1, "which changes nothing");
	is_code(pqpool_scope_leave(&b), PQPOOL_SCOPE_ORDER, "the second is left twice");
	is_int(current(), 1, "nor does that");
	is_code(pqpool_scope_leave(&a), PQPOOL_OK, "the first is left");
	is_int(current(), DEFAULT, "and all is as it was");
	is_code(pqpool_scope_leave(&a), PQPOOL_SCOPE_ORDER, "the first is left twice");
	is_int(current(), DEFAULT, "and still is");

	/* a scope that was left does not become the one that has taken its place */
	is_code(pqpool_scope_enter(&b, pools[2], &err), PQPOOL_OK, "a new one in the old one's place");
	is_code(pqpool_scope_leave(&a), PQPOOL_SCOPE_ORDER, "the old one is left once more");
	is_int(current(), 2, "the new one stays");
	is_code(pqpool_scope_leave(&b), PQPOOL_OK, "until it is left");

	/* nor does one that an outer one took with it */
	(void) pqpool_scope_enter(&a, pools[1], &err);
	(void) pqpool_scope_enter(&c, pools[3], &err);
	is_code(pqpool_scope_leave(&a), PQPOOL_SCOPE_ORDER, "the outer one of two is left");
	(void) pqpool_scope_enter(&a, pools[1], &err);
	(void) pqpool_scope_enter(&b, pools[2], &err);
	is_code(pqpool_scope_leave(&c), PQPOOL_SCOPE_ORDER, "the inner one, after two new ones");
	is_int(current(), 2, "which stay");
	is_code(pqpool_scope_leave(&b), PQPOOL_OK, "until they");
	is_code(pqpool_scope_leave(&a), PQPOOL_OK, "are left");

	is_code(pqpool_scope_enter(&a, none, &err), PQPOOL_BAD_ARGUMENT, "no pool, no scope");
	is_code(err.code, PQPOOL_BAD_ARGUMENT, "as the error says");
	is_code(pqpool_scope_enter(NULL, pools[1], NULL), PQPOOL_BAD_ARGUMENT, "no variable, none");
	is_code(pqpool_scope_leave(NULL), PQPOOL_BAD_ARGUMENT, "and nothing to leave");
	is_code(pqpool_scope_leave(&a), PQPOOL_SCOPE_ORDER, "what failed to enter cannot be left");
	is_int(current(), DEFAULT, "the default pool is the current one");
}

typedef struct Attempt
{
	pqpool_scope *scope;
	int code;
} Attempt;

static void
leave_it(int index, void *arg)
{
	Attempt *attempt = arg;

	(void) index;
	attempt->code = pqpool_scope_leave(attempt->scope);
}

static void
test_other_threads_scope(void)
{
	Attempt attempt;
	pqpool_scope scope;

	(void) pqpool_scope_enter(&scope, pools[1], NULL);
	attempt.scope = &scope;
	run_threads(1, leave_it, &attempt);
	ok(attempt.code == PQPOOL_WRONG_THREAD, "another thread's scope cannot be left (%s)",
	   pqpool_code_name(attempt.code));
	is_int(current(), 1, "it is still the current one");
	is_code(pqpool_scope_leave(&scope), PQPOOL_OK, "until its own thread leaves it");
}

static void
test_closed_pool(void)
{
	pqpool *pool = open_pool("pool_max_size=1");
	pqpool_scope scope;
	int wrong = 0;

	(void) pqpool_scope_enter(&scope, pool, NULL);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "a pool is closed within its scope");
	is_int(current(), -PQPOOL_CLOSED, "there it is the current one, closed");
	PQPOOL_SCOPE(pools[1])
	is_int(current(), 1, "a scope within");
	is_code(pqpool_scope_leave(&scope), PQPOOL_OK, "the scope is left");
	is_int(current(), DEFAULT, "and all is as it was");
	/*
	 * a scope that could not be entered answers, too, and does not give another pool's
	 * connections
	 */
	PQPOOL_SCOPE(NULL)
	{
		wrong += current() >= 0;
	}
	is_int(wrong, 0, "in a scope without a pool there is no connection");
	is_int(current(), DEFAULT, "outside there is");
}

static void
test_owning_scope(void)
{
	PGconn *direct = connect_directly("");
	pqpool_scope scope;
	pqpool_error err;
	PGconn *late;

	is_code(pqpool_scope_enter_conninfo(&scope, "pool_size=2", &err), PQPOOL_BAD_OPTION,
			"a scope with bad options is not entered");
	is_code(pqpool_scope_leave(&scope), PQPOOL_SCOPE_ORDER, "nor left");
	is_code(pqpool_scope_enter_conninfo(&scope, "application_name=owned pool_max_size=2", &err),
			PQPOOL_OK, "a scope with a pool of its own");
	is_int(current(), 4, "is the current one");
	late = pqpool_get_connection(&err);
	is_code(pqpool_scope_leave(&scope), PQPOOL_OK, "it is left with a loan out");
	is_int(current(), DEFAULT, "all is as it was");
	is_int(query_int(late, "SELECT 3"), 3, "the loan is usable");
	is_code(pqpool_return_connection(late), PQPOOL_OK, "and returned later");
	ok(WAIT_FOR(count_sessions(direct, "owned") == 0), "the scope's pool is gone");
	PQfinish(direct);
}

/* Without any pool a scope still counts, and what is below is the thread's own connection. */
static void
test_without_default(void)
{
	setenv("PGAPPNAME", "zero", 1);
	is_code(pqpool_close_pool(), PQPOOL_OK, "no default pool any more");
	PQPOOL_SCOPE(pools[2])
	is_int(current(), 2, "a scope counts");
	ok(current() >= 0, "without it the thread has its own connection");
	(void) pqpool_cleanup_thread_local_connection();
	unsetenv("PGAPPNAME");
}

/*---- for all threads of the process ----*/

typedef struct Look
{
	pqpool *enter; /* a scope of the thread's own first; NULL: none */
	int seen;
	pqpool *current;
} Look;

static void
look(int index, void *arg)
{
	Look *l = arg;
	pqpool_scope scope;

	(void) index;
	if (l->enter != NULL)
		(void) pqpool_scope_enter(&scope, l->enter, NULL);
	l->seen = current();
	l->current = pqpool_current();
}

/* What another thread sees. */
static int
elsewhere(void)
{
	Look l = { 0 };

	run_threads(1, look, &l);
	return l.seen;
}

static void
test_process(void)
{
	pqpool_scope a, b, c;
	Attempt attempt;
	Look l = { .enter = pools[3] };
	pqpool *none = NULL;

	is_code(pqpool_scope_enter_process(&a, pools[1], NULL), PQPOOL_OK, "a process-wide scope");
	ok(current() == 1 && elsewhere() == 1, "is everybody's, before the default pool");
	ok(pqpool_current() == pools[1], "as pqpool_current() says");
	run_threads(1, look, &l);
	ok(l.seen == 3 && l.current == pools[3], "but of those that are in one of their own");
	PQPOOL_SCOPE(pools[2])
	ok(current() == 2 && elsewhere() == 1, "which is nobody else's");

	is_code(pqpool_scope_enter_process(&b, pools[2], NULL), PQPOOL_OK, "a second one");
	is_code(pqpool_scope_enter_process(&c, pools[3], NULL), PQPOOL_OK, "and a third");
	is_int(elsewhere(), 3, "the last one counts");
	is_code(pqpool_scope_leave(&b), PQPOOL_SCOPE_ORDER, "the second is left, while it is covered");
	is_int(elsewhere(), 3, "the third still counts");
	is_code(pqpool_scope_leave(&b), PQPOOL_SCOPE_ORDER, "it cannot be left twice");
	attempt.scope = &c;
	run_threads(1, leave_it, &attempt);
	is_code(attempt.code, PQPOOL_OK, "another thread leaves the third");
	ok(current() == 1 && elsewhere() == 1, "and the first counts, as the second has gone with it");
	is_code(pqpool_scope_leave(&c), PQPOOL_SCOPE_ORDER, "the third cannot be left twice");
	is_code(pqpool_scope_leave(&a), PQPOOL_OK, "the first is left");
	ok(current() == DEFAULT && elsewhere() == DEFAULT, "and all is as it was");

	is_code(pqpool_scope_enter_process(&a, none, NULL), PQPOOL_BAD_ARGUMENT, "no pool, no scope");
	is_code(pqpool_scope_leave(&a), PQPOOL_SCOPE_ORDER, "and nothing to leave");
	is_code(pqpool_scope_enter_process(NULL, pools[1], NULL), PQPOOL_BAD_ARGUMENT,
			"no variable, none");
}

static void
test_process_closed_pool(void)
{
	pqpool *pool = open_pool("pool_max_size=1");
	pqpool_scope scope;

	(void) pqpool_scope_enter_process(&scope, pool, NULL);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "a pool is closed within its process-wide scope");
	is_int(elsewhere(), -PQPOOL_CLOSED, "where it is the current one, closed");
	is_code(pqpool_scope_leave(&scope), PQPOOL_OK, "the scope is left");
	is_int(elsewhere(), DEFAULT, "and all is as it was");
}

/* A scope is handed to workers by its pool. */
static void
work_in(int index, void *arg)
{
	(void) index;
	PQPOOL_SCOPE(arg)
	check(2);
	check(DEFAULT);
}

static void
test_handed_over(void)
{
	PQPOOL_SCOPE(pools[2])
	run_threads(8, work_in, pqpool_current());
	is_int(atomic_load(&wrong_pools), 0, "workers enter the scope that they were handed");
}

/* All try to leave the same one, at the same time. */
typedef struct Race
{
	pqpool_scope scope;
	atomic_int waiting;
	atomic_int ok;
} Race;

static void
leave_race(int index, void *arg)
{
	Race *race = arg;

	(void) index;
	atomic_fetch_sub(&race->waiting, 1);
	while (atomic_load(&race->waiting) > 0)
		;
	atomic_fetch_add(&race->ok, pqpool_scope_leave(&race->scope) == PQPOOL_OK);
}

static void
test_leaving_race(void)
{
	int wrong = 0;

	for (int i = 0; i < 50; i++)
	{
		Race race = { .waiting = 4 };

		(void) pqpool_scope_enter_process(&race.scope, pools[1], NULL);
		run_threads(4, leave_race, &race);
		wrong += atomic_load(&race.ok) != 1;
	}
	is_int(wrong, 0, "of four threads that leave a scope at once one has left it");
	is_int(current(), DEFAULT, "and all is as it was");
}

/* A child is in the scopes in which its parent was, and leaves them by itself. */
static void
test_scopes_forked(void)
{
	pqpool_scope process, owned;
	PGconn *conn;
	pid_t pid;
	int status = -1;

	(void) pqpool_scope_enter_process(&process, pools[1], NULL);
	(void) pqpool_scope_enter_conninfo(&owned, "application_name=owned pool_max_size=2", NULL);
	conn = pqpool_get_connection(NULL);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		/* leaving is the first thing that it does with the library */
		if (pqpool_scope_leave(&owned) != PQPOOL_OK)
			_exit(1);
		if (current() != 1)
			_exit(2);
		if (pqpool_scope_leave(&process) != PQPOOL_OK)
			_exit(3);
		_exit(current() == DEFAULT ? 0 : 4);
	}
	if (waitpid(pid, &status, 0) != pid)
		give_up("no child");
	is_int(status, 0, "a forked child leaves the scopes that it was born in, one by one");
	is_int(query_int(conn, "SELECT 9"), 9, "the parent's loan is not touched");
	(void) pqpool_return_connection(conn);
	is_int(current(), 4, "the parent is still in its own");
	is_code(pqpool_scope_leave(&owned), PQPOOL_OK, "and leaves it");
	is_int(current(), 1, "and in that of the process");
	is_code(pqpool_scope_leave(&process), PQPOOL_OK, "which it leaves, too");
}

/*---- 16 threads, 3 levels ----*/

static int
nest(int thread, int round)
{
	int first = (thread + round) % 4, second = (thread * 3 + round) % 4,
		third = (thread + 2 * round) % 4;

	PQPOOL_SCOPE(pools[first])
	{
		check(first);
		PQPOOL_SCOPE(pools[second])
		{
			check(second);
			PQPOOL_SCOPE(pools[third])
			{
				check(third);
				if (round % 5 == 0)
					return 1;
				if (round % 5 == 1)
					goto out;
				if (round % 5 == 2)
					break;
			}
			check(second);
		}
		check(first);
	}
out:
	return 0;
}

static void
nest_many(int thread, void *arg)
{
	(void) arg;
	for (int round = 0; round < 40; round++)
	{
		(void) nest(thread, round);
		check(DEFAULT);
	}
}

/* Threads end within scopes of which nothing must be left for others. */
static void
end_within(int thread, void *arg)
{
	pqpool_scope a, b;

	(void) arg;
	(void) pqpool_scope_enter(&a, pools[thread % 4], NULL);
	(void) pqpool_scope_enter_conninfo(&b, "application_name=owned pool_max_size=1", NULL);
	check(4);
}

int
main(void)
{
	PGconn *direct = connect_directly("application_name=direct");
	pqpool_error err;

	for (int i = 0; i < 4; i++)
	{
		char conninfo[100];

		snprintf(conninfo, sizeof(conninfo), "application_name=%s pool_max_size=3", names[i]);
		pools[i] = open_pool(conninfo);
	}
	is_code(pqpool_initialize("application_name=default pool_max_size=3", &err), PQPOOL_OK,
			"the default pool");
	test_ways_out();
	test_longjmp();
	test_by_hand();
	test_other_threads_scope();
	test_closed_pool();
	test_owning_scope();
	test_process();
	test_process_closed_pool();
	test_handed_over();
	test_leaving_race();
	test_scopes_forked();
	run_threads(16, nest_many, NULL);
	is_int(atomic_load(&wrong_pools), 0, "16 threads, 3 levels, 40 rounds: always the right pool");
	run_threads(16, end_within, NULL);
	is_int(atomic_load(&wrong_pools), 0, "16 threads end within their scopes");
	test_without_default();
	for (int i = 0; i < 4; i++)
		is_code(pqpool_close(&pools[i], -1), PQPOOL_OK, "pool %d closes: no scope holds on to it",
				i);
	ok(WAIT_FOR(query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE application_name IN"
								  " ('zero', 'one', 'two', 'three', 'owned', 'default')") == 0),
	   "no session is left, of those that scopes owned neither");
	PQfinish(direct);
	return done_testing();
}
