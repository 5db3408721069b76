/*-------------------------------------------------------------------------
 *
 * ending.c
 *	  Ends: of pools, of threads, of the process, of the library's handle.
 *
 * Ends of the process are acted by children: this program itself, called with
 * the name of the act.  What counts is the exit status, and that they end at all.
 *
 * flags: -ldl
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

/* Under ThreadSanitizer a child that ends while its threads run is no finding. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
	return "report_thread_leaks=0:atexit_sleep_ms=0";
}

#define STATUS 7 /* that of children that do as they should */

/*---- acts ----*/

static atomic_int working;

static void
work_on(int index, void *arg)
{
	(void) index;
	for (;;)
	{
		PGconn *conn = pqpool_acquire(arg, -1, NULL);

		atomic_fetch_add(&working, 1);
		if (conn != NULL)
			(void) pqpool_release(conn);
	}
}

static void
start_work(pqpool *pool, int n)
{
	static Threads threads;

	while (n-- > 0)
		start_thread(&threads, work_on, pool);
	if (!WAIT_FOR(atomic_load(&working) > 1000))
		_exit(1);
}

static int
exit_with_loans(void)
{
	pqpool *pool = open_pool("pool_max_size=3 pool_bind=thread");
	PGconn *a = acquire_or_give_up(pool), *b = acquire_or_give_up(pool);

	(void) a;
	(void) run(b, "BEGIN");
	exit(STATUS);
}

static int
exit_under_load(void)
{
	start_work(open_pool("pool_max_size=3"), 6);
	exit(STATUS);
}

static int
return_under_load(void)
{
	start_work(open_pool("pool_max_size=3"), 6);
	return STATUS;
}

static int
return_at_once(void)
{
	pqpool *pool = open_pool("pool_min_size=5");

	return pool != NULL ? STATUS : 1;
}

/* Main's thread ends with a loan; another one finds it taken back, and ends the process. */
static void
outlive_main(int index, void *arg)
{
	pqpool *pool = arg;

	(void) index;
	if (!WAIT_FOR(stats_of(pool).abandoned == 1))
		exit(1);
	exit(acquire_code(pool, PATIENCE_S * 1000) == PQPOOL_OK ? STATUS : 2);
}

static int
end_mains_thread(void)
{
	static Threads threads;
	pqpool *pool = open_pool("pool_max_size=1 pool_bind=thread");
	PGconn *conn = acquire_or_give_up(pool);

	(void) run(conn, "BEGIN");
	start_thread(&threads, outlive_main, pool);
	pthread_exit(NULL);
}

typedef struct Act
{
	const char *name;
	int (*run)(void);
} Act;

static const Act acts[] = {
	{ "exit with loans out", exit_with_loans },
	{ "exit while others acquire and release", exit_under_load },
	{ "return from main while others do", return_under_load },
	{ "return from main at once", return_at_once },
	{ "pthread_exit in main", end_mains_thread },
};

/* The status of a child that is called with this argument; it is killed when it takes too long. */
static int
status_of_child(const char *argument)
{
	int status = -1;
	bool ended;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		(void) execl("/proc/self/exe", "ending", argument, (char *) NULL);
		_exit(126);
	}
	ended = WAIT_FOR(waitpid(pid, &status, WNOHANG) == pid);
	if (!ended)
	{
		diag("\"%s\" hangs", argument);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

static void
test_processes(void)
{
	PGconn *direct = connect_directly("application_name=direct");

	setenv("PGAPPNAME", "child", 1);
	for (int i = 0; i < countof(acts); i++)
	{
		int wrong = 0;

		for (int round = 0; round < 5; round++)
			wrong += status_of_child(acts[i].name) != STATUS;
		is_int(wrong, 0, "%s: the process ends, with its own status", acts[i].name);
	}
	unsetenv("PGAPPNAME");
	ok(WAIT_FOR(count_sessions(direct, "child") == 0), "no session is left");
	PQfinish(direct);
}

/*---- dlopen ----*/

/*
 * By way of a handle of its own; that the program is linked with it, too, keeps its symbols
 * in one place.
 */
typedef struct Loaded
{
	pqpool *(*open)(const char *, pqpool_error *);
	PGconn *(*acquire)(pqpool *, int, pqpool_error *);
	int (*release)(PGconn *);
	pqpool *pool;
	atomic_bool go;
	atomic_int ready;
} Loaded;

static void
end_with_loan(int index, void *arg)
{
	Loaded *l = arg;
	PGconn *conn = l->acquire(l->pool, -1, NULL);

	atomic_fetch_add(&l->ready, 1);
	while (!atomic_load(&l->go))
		sleep_ms(2);
	if (index % 2 == 0)
		(void) l->release(conn);
}

static void
test_dlclose(void)
{
	const char *prefix = getenv("STAGE_PREFIX");
	char path[1000];
	void *handle;
	Loaded l = { 0 };
	Threads threads = { 0 };

	snprintf(path, sizeof(path), "%s/lib/libpqpool.so", prefix != NULL ? prefix : "");
	handle = dlmopen(LM_ID_BASE, path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
		give_up("dlopen: %s", dlerror());
	*(void **) &l.open = dlsym(handle, "pqpool_open");
	*(void **) &l.acquire = dlsym(handle, "pqpool_acquire");
	*(void **) &l.release = dlsym(handle, "pqpool_release");
	l.pool = l.open("pool_max_size=4 pool_bind=thread", NULL);
	for (int i = 0; i < 4; i++)
		start_thread(&threads, end_with_loan, &l);
	if (!WAIT_FOR(atomic_load(&l.ready) == 4))
		give_up("no loans");
	is_int(dlclose(handle), 0, "the library is closed with loans out");
	atomic_store(&l.go, true);
	join_threads(&threads);
	ok(WAIT_FOR(stats_of(l.pool).abandoned == 2 && stats_of(l.pool).in_use == 0),
	   "threads that end give back by it, or have it take back");
	(void) pqpool_close(&l.pool, -1);
}

/*---- a thread's end ----*/

static void
end_in_transaction(int index, void *arg)
{
	PGconn *conn = acquire_or_give_up(arg);

	(void) index;
	(void) run(conn, "BEGIN; LOCK TABLE held");
}

static void
test_thread_ends(void)
{
	PGconn *direct = connect_directly("");
	pqpool *pool = open_pool("application_name=thread pool_max_size=1 pool_bind=thread");
	PGconn *conn;

	(void) run(direct, "CREATE TABLE held ()");
	run_threads(1, end_in_transaction, pool);
	conn = acquire_or_give_up(pool);
	ok(PQtransactionStatus(conn) == PQTRANS_IDLE,
	   "a thread's end gives its loan back, rolled back");
	ok(run(direct, "BEGIN; LOCK TABLE held NOWAIT; DROP TABLE held; COMMIT"), "its locks are gone");
	(void) pqpool_release(conn);
	is_int(stats_of(pool).abandoned, 1, "it is counted");
	is_int(stats_of(pool).opened, 1, "and the connection kept");
	(void) pqpool_close(&pool, -1);
	PQfinish(direct);
}

/*---- a pool's end ----*/

static atomic_int closed_codes;

static void
wait_for_close(int index, void *arg)
{
	(void) index;
	atomic_fetch_add(&closed_codes, acquire_code(arg, -1) == PQPOOL_CLOSED);
}

static void
test_close_with_waiters(void)
{
	pqpool *pool = open_pool("application_name=closing pool_max_size=2 pool_acquire_timeout=10min");
	pqpool *copy = pool;
	PGconn *direct = connect_directly("");
	PGconn *a = acquire_or_give_up(pool), *b = acquire_or_give_up(pool);
	Threads threads = { 0 };
	double start;

	for (int i = 0; i < 5; i++)
		start_thread(&threads, wait_for_close, copy);
	if (!WAIT_FOR(stats_of(pool).waiting == 5))
		give_up("nobody waits");
	start = now_s();
	is_code(pqpool_close(&pool, 100), PQPOOL_TIMED_OUT, "a pool is closed with loans out");
	ok(pool == NULL, "its handle is gone");
	ok(now_s() - start < 30, "closing waits no longer than asked");
	join_threads(&threads);
	is_int(atomic_load(&closed_codes), 5, "those who waited are told");
	is_int(query_int(a, "SELECT 5"), 5, "a loan is usable");
	is_code(pqpool_release(a), PQPOOL_OK, "and given back");
	ok(WAIT_FOR(count_sessions(direct, "closing") == 1), "which ends its session");
	is_int(query_int(b, "SELECT 6"), 6, "the other one as well");
	is_code(pqpool_discard(b), PQPOOL_OK, "is discarded");
	ok(WAIT_FOR(count_sessions(direct, "closing") == 0), "and no session is left");
	PQfinish(direct);
}

static void
open_use_close(int index, void *arg)
{
	atomic_int *wrong = arg;

	(void) index;
	for (int round = 0; round < 10; round++)
	{
		pqpool *pool = open_pool("application_name=several pool_max_size=2");
		PGconn *conn = acquire_or_give_up(pool);

		(void) pqpool_release(conn);
		atomic_fetch_add(wrong, pqpool_close(&pool, -1) != PQPOOL_OK);
	}
}

static void
test_close_by_several(void)
{
	PGconn *direct = connect_directly("");
	atomic_int wrong = 0;

	run_threads(6, open_use_close, &wrong);
	is_int(atomic_load(&wrong), 0, "several threads open and close pools of their own");
	is_int(count_sessions(direct, "several"), 0, "closing has waited for the sessions' ends");
	PQfinish(direct);
}

/*
 * The last connection of a thread may have been of a pool that is gone since.
 * It gives back one of another, and must not look into what was freed.
 */
typedef struct Two
{
	pqpool *gone;
	pqpool *kept;
	atomic_int step; /* relaxed: the test must not order what the library has to */
} Two;

static void
wait_for_step(Two *two, int step)
{
	while (atomic_load_explicit(&two->step, memory_order_relaxed) < step)
		sleep_ms(1);
}

static void
give_back_after(int index, void *arg)
{
	Two *two = arg;
	PGconn *kept = acquire_or_give_up(two->kept), *last = acquire_or_give_up(two->gone);

	(void) index;
	(void) pqpool_release(last);
	atomic_store_explicit(&two->step, 1, memory_order_relaxed);
	wait_for_step(two, 2);
	(void) pqpool_release(kept);
	wait_for_step(two, 3);
}

static void
test_pool_freed(void)
{
	/*
	 * nothing is to make the keeper look at the pool that is kept, for that would order
	 * things, too
	 */
	Two two = { open_pool("pool_report=off"),
				open_pool("pool_report=off pool_idle_timeout=0 pool_max_lifetime=0"), 0 };
	pqpool *gone = two.gone;
	Threads threads = { 0 };

	start_thread(&threads, give_back_after, &two);
	wait_for_step(&two, 1);
	(void) pqpool_close(&gone, -1);
	sleep_ms(500); /* buried, and not freed yet */
	atomic_store_explicit(&two.step, 2, memory_order_relaxed);
	sleep_ms(1500);
	atomic_store_explicit(&two.step, 3, memory_order_relaxed);
	join_threads(&threads);
	ok(stats_of(two.kept).in_use == 0, "a loan comes back when the pool used last is gone");
	(void) pqpool_close(&two.kept, -1);
}

int
main(int argc, char **argv)
{
	for (int i = 0; argc > 1 && i < countof(acts); i++)
	{
		if (strcmp(argv[1], acts[i].name) == 0)
			return acts[i].run();
	}
	test_processes();
	test_dlclose();
	test_thread_ends();
	test_close_with_waiters();
	test_close_by_several();
	test_pool_freed();
	return done_testing();
}
