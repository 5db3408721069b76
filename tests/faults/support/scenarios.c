/*-------------------------------------------------------------------------
 *
 * scenarios.c
 *	  See scenarios.h.
 *
 * Scenarios on top, how they are run below.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "scenarios.h"

#include "fakepq.h"
#include "inject.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptors.h"
#include "internal.h"
#include "tap.h"

/* internal.h wants them off, as the library does; a scope is worth testing as it is used */
#define SITE __FILE__

#define HANGING_S 60
#define LONG_MS 3600000 /* nobody waits for it: time is virtual, or there is no reason to wait */
#define LOST_MS 2000	/* where memory does not come back: longer than the pool's own patience */
#define TOLD 5			/* of what is wrong in a scenario, so much is printed */

#define BIT(code) (UINT64_C(1) << (code))
#define SHORTAGE (BIT(PQPOOL_OUT_OF_MEMORY) | BIT(PQPOOL_SYSTEM) | BIT(PQPOOL_SERVER_DOWN))

static const FakeServer good_server = { .limit = -1 };
static const FakeServer monitored = { .attached = true, .limit = -1 };

typedef struct Scenario
{
	const char *name;
	const char *conninfo; /* of the pool that is there when it begins; NULL: none */
	void (*run)(pqpool *pool);
	unsigned staff; /* for which it makes sense: ALONE, HELPED, both */
	bool real_time; /* has threads of its own that wait for each other */
} Scenario;

/* What is being run. */
static const Scenario *current;
static char circumstances[100];
static char last_words[300];
static bool quiet;
static Staff current_staff;
static bool current_onward;

/* Shared with children. */
static _Atomic int *wrong;

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
	char text[512];
	va_list arguments;

	if (++*wrong > TOLD || quiet)
		return;
	va_start(arguments, format);
	(void) vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	diag("%s, %s: %s", current->name, circumstances, text);
}

/*---- calls, with what they may answer ----*/

/* Failing is allowed after something was made to fail; and with the codes given. */
static void
check_code(const char *call, int code, uint64_t allowed)
{
	if (code == PQPOOL_OK)
		return;
	if (code < 0 || code > 63 || !(allowed & BIT(code)))
		complain("%s answers %s", call, pqpool_code_name(code));
	else if ((BIT(code) & SHORTAGE) && faults_hit() == 0 &&
			 !(code == PQPOOL_SYSTEM && current_staff == ALONE))
		complain("%s answers %s, and nothing had failed", call, pqpool_code_name(code));
}

static void
check_error(const char *call, int code, const pqpool_error *err, uint64_t allowed)
{
	check_code(call, code, allowed);
	if (err->code != code)
		complain("%s answers %d, but its error has the code %d", call, code, err->code);
	if (memchr(err->message, '\0', sizeof(err->message)) == NULL)
		complain("%s: the message has no end", call);
	else if ((code == PQPOOL_OK) != (err->message[0] == '\0'))
		complain("%s: code %s, message \"%s\"", call, pqpool_code_name(code), err->message);
}

static pqpool *
open_pool(const char *conninfo)
{
	pqpool_error err;
	pqpool *pool;

	memset(&err, 0xff, sizeof(err));
	pool = pqpool_open(conninfo, &err);
	check_error("pqpool_open", err.code, &err, BIT(PQPOOL_OUT_OF_MEMORY));
	if (!pool != (err.code != PQPOOL_OK))
		complain("pqpool_open gives %p and %s", (void *) pool, pqpool_code_name(err.code));
	return pool;
}

static pqpool_statistics
stats_of(pqpool *pool)
{
	pqpool_statistics s;

	memset(&s, 0xff, sizeof(s));
	check_code("pqpool_stats", pqpool_stats(pool, &s), 0);
	if (s.size != s.opening + s.idle + s.in_use + s.resetting + s.closing)
		complain("the size is not the sum of its parts");
	return s;
}

/*
 * May also answer what is given.  While another loan is out, which may come back, an acquire that
 * cannot connect waits to its end, and then says so, too; and what the helpers of a pool meet
 * may keep a caller waiting without a failure of his own.
 */
static PGconn *
acquire(pqpool *pool, int timeout_ms, uint64_t also)
{
	bool waits = timeout_ms == LONG_MS && current_onward;
	bool may_time_out = current_staff == HELPED || current->real_time || stats_of(pool).in_use > 0;
	pqpool_error err;
	PGconn *conn;

	do
	{
		memset(&err, 0xff, sizeof(err));
		conn = pqpool_acquire_at(pool, waits ? LOST_MS : timeout_ms, &err, SITE);
	} while (waits && err.code == PQPOOL_TIMED_OUT && faults_hit() == 0);
	if (err.code == PQPOOL_TIMED_OUT && waits && may_time_out)
		also |= BIT(PQPOOL_TIMED_OUT);
	check_error("pqpool_acquire", err.code, &err, SHORTAGE | also);
	if (!conn != (err.code != PQPOOL_OK))
		complain("pqpool_acquire gives %p and %s", (void *) conn, pqpool_code_name(err.code));
	return conn;
}

static PGconn *
get_connection(uint64_t also)
{
	pqpool_error err;
	PGconn *conn;

	memset(&err, 0xff, sizeof(err));
	conn = pqpool_get_connection_at(&err, SITE);
	check_error("pqpool_get_connection", err.code, &err, SHORTAGE | also);
	if (!conn != (err.code != PQPOOL_OK))
		complain("pqpool_get_connection gives %p and %s", (void *) conn,
				 pqpool_code_name(err.code));
	return conn;
}

/* Nothing that can run out may keep a connection from being given back. */
static void
release(PGconn *conn)
{
	if (conn)
		check_code("pqpool_release", pqpool_release(conn), 0);
}

static void
discard(PGconn *conn)
{
	if (conn)
		check_code("pqpool_discard", pqpool_discard(conn), 0);
}

/* Close a pool that has no loans out, and see that nothing of it is left. */
static void
close_pool(pqpool *pool)
{
	pqpool *grave = pool;
	pqpool_statistics s;
	int code;

	if (!pool)
		return;
	pqp_ref(grave); /* so that it can be looked at afterwards */
	code = pqpool_close(&pool, LONG_MS);
	check_code("pqpool_close", code, 0);
	s = stats_of(grave);
	if (s.size != 0 || s.opened != s.closed)
		complain("closed, but size %d, opened %llu, closed %llu", s.size,
				 (unsigned long long) s.opened, (unsigned long long) s.closed);
	pqp_unref(grave);
}

/*---- scenarios ----*/

static void
opening(pqpool *unused)
{
	pqpool *pool = open_pool("pool_name=first application_name=app dbname=shop host=here"
							 " options='-c x=y' pool_max_size=20");
	PGconn *conn;

	(void) unused;
	if (!pool)
		return;
	if (strcmp(pqpool_name(pool), "first") != 0)
		complain("the pool's name is \"%s\"", pqpool_name(pool));
	conn = acquire(pool, LONG_MS, 0);
	if (conn && (!fakepq_option(conn, "options") ||
				 strncmp(fakepq_option(conn, "options"), "-c x=y", 6) != 0))
		complain("the user's options are lost");
	release(conn);
	close_pool(pool);
}

/* The name comes from elsewhere, and from a URI. */
static void
opening_by_uri(pqpool *unused)
{
	pqpool *pool = open_pool("postgresql://here/shop?application_name=app&pool_max_size=3");

	(void) unused;
	if (pool && strcmp(pqpool_name(pool), "app") != 0)
		complain("the pool's name is \"%s\"", pqpool_name(pool));
	close_pool(pool);
}

static void
opening_badly(pqpool *unused)
{
	pqpool_error err;
	pqpool *pool = pqpool_open("pool_min_size=3 pool_max_size=2", &err);

	(void) unused;
	check_error("pqpool_open", err.code, &err, BIT(PQPOOL_BAD_OPTION) | BIT(PQPOOL_OUT_OF_MEMORY));
	if (pool)
		complain("a pool whose minimum is above its maximum");
}

static void
borrowing(pqpool *pool)
{
	for (int i = 0; i < 3; i++)
	{
		PGconn *first = acquire(pool, LONG_MS, 0);
		PGconn *second = acquire(pool, LONG_MS, 0);

		if (second)
			fakepq_set_transaction(second, PQTRANS_INTRANS);
		release(first);
		release(second);
	}
}

static void
not_waiting(pqpool *pool)
{
	PGconn *conn = acquire(pool, 0, BIT(PQPOOL_TIMED_OUT));
	PGconn *first, *second;

	release(conn);
	first = acquire(pool, LONG_MS, 0);
	second = acquire(pool, 0, BIT(PQPOOL_TIMED_OUT));
	release(second);
	if (first)
	{
		second = acquire(pool, 10, BIT(PQPOOL_TIMED_OUT));
		if (second)
			complain("one connection was lent twice");
		release(second);
	}
	release(first);
}

static void
many_options(pqpool *pool)
{
	fakepq_behave(
		(FakeServer){ .limit = -1, .connect_waits = 5, .answer_waits = 3, .end_waits = 4 });
	borrowing(pool);
	discard(acquire(pool, LONG_MS, 0));
}

static void
discarding(pqpool *pool)
{
	PGconn *conn;

	discard(acquire(pool, LONG_MS, 0));
	conn = acquire(pool, LONG_MS, 0);
	if (conn)
		fakepq_run_forever(conn); /* a cancel is sent when it is closed */
	release(conn);
	conn = acquire(pool, LONG_MS, 0);
	if (conn)
		fakepq_end(conn, false);
	release(conn);
}

static void
refused(pqpool *pool)
{
	fakepq_behave((FakeServer){ .limit = -1, .refuse = "28P01" });
	release(acquire(pool, LONG_MS, BIT(PQPOOL_REFUSED)));
	fakepq_behave((FakeServer){ .limit = -1, .refuse = "53300" });
	release(
		acquire(pool, 100, BIT(PQPOOL_REFUSED) | BIT(PQPOOL_SERVER_FULL) | BIT(PQPOOL_TIMED_OUT)));
	fakepq_behave((FakeServer){ .limit = -1, .silent = true });
	release(
		acquire(pool, 100, BIT(PQPOOL_REFUSED) | BIT(PQPOOL_SERVER_FULL) | BIT(PQPOOL_TIMED_OUT)));
}

/* Of two that are idle both are dead; or one has something to say. */
static void
dying(pqpool *pool)
{
	PGconn *first = acquire(pool, LONG_MS, 0);
	PGconn *second = acquire(pool, LONG_MS, 0);

	if (first)
		fakepq_notify(first);
	if (second)
		fakepq_warn(second);
	release(first);
	release(second);
	release(acquire(pool, LONG_MS, 0));
	first = acquire(pool, LONG_MS, 0);
	second = acquire(pool, LONG_MS, 0);
	if (first)
		fakepq_end(first, true);
	if (second)
		fakepq_end(second, false);
	release(first);
	release(second);
	first = acquire(pool, LONG_MS, 0);
	second = acquire(pool, LONG_MS, 0);
	release(first);
	release(second);
}

static void
draining(pqpool *pool)
{
	PGconn *first = acquire(pool, LONG_MS, 0);
	PGconn *second = acquire(pool, LONG_MS, 0);
	int code;

	release(first);
	code = pqpool_drain(pool, 0);
	if (code != (second ? PQPOOL_TIMED_OUT : PQPOOL_OK) && code != PQPOOL_TIMED_OUT)
		complain("pqpool_drain answers %s", pqpool_code_name(code));
	release(second);
	check_code("pqpool_drain", pqpool_drain(pool, LONG_MS), 0);
	release(acquire(pool, LONG_MS, 0));
}

static void
resize(pqpool *pool, int min_size, int max_size)
{
	pqpool_error err;
	int code = pqpool_resize(pool, min_size, max_size, &err);

	check_error("pqpool_resize", code, &err, BIT(PQPOOL_OUT_OF_MEMORY));
	if (code != PQPOOL_OK && stats_of(pool).max_size == max_size)
		complain("resizing failed, but has been done");
}

static void
resizing(pqpool *pool)
{
	PGconn *conns[12];
	int n = 0;

	resize(pool, 3, 12);
	while (n < stats_of(pool).max_size && n < 12 && (conns[n] = acquire(pool, LONG_MS, 0)) != NULL)
		n++;
	resize(pool, 0, 100);
	resize(pool, 0, 2);
	while (n > 0)
		release(conns[--n]);
}

static void
closing(pqpool *unused)
{
	pqpool *pool = open_pool("pool_max_size=3 pool_min_size=1");
	PGconn *first, *second;
	int code;

	(void) unused;
	if (!pool)
		return;
	first = acquire(pool, LONG_MS, 0);
	second = acquire(pool, LONG_MS, 0);
	release(first);
	code = pqpool_close(&pool, 0);
	if (code != PQPOOL_OK && code != PQPOOL_TIMED_OUT)
		complain("pqpool_close answers %s", pqpool_code_name(code));
	release(second);
}

static void
steering(pqpool *pool)
{
	pqpool_allotment allotment;

	fakepq_behave((FakeServer){ .attached = true, .limit = 3 });
	release(acquire(pool, LONG_MS, 0));
	check_code("pqpool_limits", pqpool_limits(pool, &allotment), 0);
	check_code("pqpool_pause", pqpool_pause(pool), 0);
	release(acquire(pool, 10, BIT(PQPOOL_PAUSED)));
	check_code("pqpool_resume", pqpool_resume(pool), 0);
	release(acquire(pool, LONG_MS, 0));
	(void) stats_of(pool);
}

static void
default_pool(pqpool *unused)
{
	pqpool_error err;
	int code = pqpool_initialize("pool_name=default", &err);
	bool open = code == PQPOOL_OK;

	(void) unused;
	check_error("pqpool_initialize", code, &err, BIT(PQPOOL_OUT_OF_MEMORY));
	code = pqpool_initialize("pool_name=default", &err);
	check_error("pqpool_initialize", code, &err,
				open ? BIT(PQPOOL_ALREADY_INITIALIZED) : BIT(PQPOOL_OUT_OF_MEMORY));
	if (open || code == PQPOOL_OK)
		release(get_connection(0));
	check_code("pqpool_close_pool", pqpool_close_pool(), 0);
}

static void
own_connection(pqpool *unused)
{
	PGconn *first = get_connection(0), *second;

	(void) unused;
	second = get_connection(0);
	if (first && second && first != second)
		complain("a thread has two connections of its own");
	release(second);
	if (first)
		fakepq_set_transaction(first, PQTRANS_INTRANS);
	release(first);
	check_code("cleanup", pqpool_cleanup_thread_local_connection(), 0);
	first = get_connection(0);
	release(first);
	/* the last one ends with the thread */
}

/* Whatever happens on the way in: a connection of the scope's pool, or none. */
static void
in_scope(pqpool *pool)
{
	uint64_t before = stats_of(pool).acquires;
	PGconn *conn = get_connection(0);

	if (conn && stats_of(pool).acquires == before)
		complain("in a scope the connection is another pool's");
	release(conn);
}

#define DEEP 10 /* more than a thread has room for at first */

static void
scopes(pqpool *pool)
{
	pqpool_scope entered[DEEP], owned;
	pqpool_error err;
	int n = 0, code = PQPOOL_OK;

	while (n < DEEP && code == PQPOOL_OK)
	{
		code = pqpool_scope_enter(&entered[n], pool, &err);
		check_error("pqpool_scope_enter", code, &err, BIT(PQPOOL_OUT_OF_MEMORY));
		n += code == PQPOOL_OK;
	}
	if (code != PQPOOL_OK && pqpool_scope_leave(&entered[n]) != PQPOOL_SCOPE_ORDER)
		complain("a scope that was not entered can be left");
	if (n > 0)
		in_scope(pool);
	code = pqpool_scope_enter_conninfo(&owned, "pool_name=owned", &err);
	check_error("pqpool_scope_enter_conninfo", code, &err, BIT(PQPOOL_OUT_OF_MEMORY));
	if (code == PQPOOL_OK)
	{
		release(get_connection(0));
		check_code("pqpool_scope_leave", pqpool_scope_leave(&owned), 0);
	}
	while (n > 0)
		check_code("pqpool_scope_leave", pqpool_scope_leave(&entered[--n]), 0);
}

/* PQPOOL_SCOPE is always entered; what is then given is of that pool, or an error. */
static void
begun_scopes(pqpool *pool)
{
	pqpool_scope begun[DEEP];

	for (int i = 0; i < DEEP; i++)
	{
		begun[i] = pqpool_scope_begin(pool);
		in_scope(pool);
	}
	for (int i = DEEP - 1; i >= 0; i--)
		(void) pqpool_scope_leave(&begun[i]);
}

static void
begun_over_default(pqpool *pool)
{
	pqpool_scope begun;
	pqpool_error err;

	if (pqpool_initialize("pool_name=default", &err) == PQPOOL_OK)
	{
		begun = pqpool_scope_begin(pool);
		faults_end(); /* even if there is memory again: not one of the default pool's */
		in_scope(pool);
		(void) pqpool_scope_leave(&begun);
		release(get_connection(0));
	}
	(void) pqpool_close_pool();
}

static void
handing_over(pqpool *pool)
{
	PGconn *conn = acquire(pool, LONG_MS, 0);

	if (!conn)
		return;
	check_code("pqpool_adopt", pqpool_adopt(conn), 0);
	check_code("pqpool_transfer", pqpool_transfer(conn), 0);
	check_code("pqpool_adopt", pqpool_adopt(conn), 0);
	release(conn);
}

/* Its thread does not have to know the library yet. */
static void *
adopt_in_thread(void *arg)
{
	int code = pqpool_adopt(arg);

	check_code("pqpool_adopt", code, BIT(PQPOOL_OUT_OF_MEMORY));
	release(arg);
	return NULL;
}

static void
in_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (faults_own_thread(&thread, run, arg) != 0)
		abort();
	(void) pthread_join(thread, NULL);
}

static void
handing_to_thread(pqpool *pool)
{
	PGconn *conn = acquire(pool, LONG_MS, 0);

	if (conn)
		in_thread(adopt_in_thread, conn);
}

/* The thread ends with a bound loan in a transaction, a scope, and a connection of its own. */
static void *
forget_all(void *arg)
{
	pqpool_scope scope;
	PGconn *conn = acquire(arg, LONG_MS, 0);

	if (conn)
		fakepq_set_transaction(conn, PQTRANS_INTRANS);
	(void) get_connection(0);
	(void) pqpool_scope_enter(&scope, arg, NULL);
	return NULL;
}

static void
forgetting(pqpool *pool)
{
	in_thread(forget_all, pool);
}

static void
cancelling(pqpool *pool)
{
	PGconn *conn = acquire(pool, LONG_MS, 0);
	pqpool_error err;
	int code;

	if (!conn)
		return;
	fakepq_run_forever(conn);
	code = pqpool_cancel(conn, LONG_MS, &err);
	check_error("pqpool_cancel", code, &err, BIT(PQPOOL_OUT_OF_MEMORY) | BIT(PQPOOL_SYSTEM));
	fakepq_behave((FakeServer){ .limit = -1, .no_cancel = true });
	code = pqpool_cancel(conn, LONG_MS, &err);
	if (code == PQPOOL_OK)
		complain("pqpool_cancel found a server that does not listen");
	else if (code != PQPOOL_SERVER_DOWN)
		check_error("pqpool_cancel", code, &err, BIT(PQPOOL_OUT_OF_MEMORY) | BIT(PQPOOL_SYSTEM));
	release(conn);
}

/* Three wait for one, each gives it to the next. */
static void *
wait_in_turn(void *arg)
{
	release(acquire(arg, LONG_MS, 0));
	return NULL;
}

#define WAITERS 3

static void
waiting(pqpool *pool)
{
	PGconn *conn = acquire(pool, LONG_MS, 0);
	pthread_t threads[WAITERS];

	for (int i = 0; i < WAITERS; i++)
		if (faults_own_thread(&threads[i], wait_in_turn, pool) != 0)
			abort();
	/* those who could not get so far have failed */
	for (int i = 0; i < 50 && stats_of(pool).waiting < WAITERS; i++)
		(void) usleep(100);
	if (conn)
		fakepq_set_transaction(conn, PQTRANS_INTRANS);
	release(conn);
	for (int i = 0; i < WAITERS; i++)
		(void) pthread_join(threads[i], NULL);
}

static void
reporting(pqpool *pool)
{
	long before = fakepq_reports();
	PGconn *conn;

	fakepq_behave(monitored);
	conn = acquire(pool, LONG_MS, 0);
	if (conn)
		fakepq_allot(conn, 2);
	release(conn);
	/* with a failure in between there may be none */
	for (int i = 0; i < 200 && fakepq_reports() == before && faults_hit() == 0; i++)
		(void) usleep(1000);
}

/* No place on the server: it has to be told by a knock that one is wanted. */
static void
knocking(pqpool *pool)
{
	fakepq_behave((FakeServer){ .attached = true, .limit = 0 });
	release(acquire(pool, 50, BIT(PQPOOL_QUEUED) | BIT(PQPOOL_TIMED_OUT)));
	release(acquire(pool, 150, BIT(PQPOOL_QUEUED) | BIT(PQPOOL_TIMED_OUT)));
}

static void in_child(pqpool *pool, PGconn *loan);

static void
forking(pqpool *pool)
{
	PGconn *first = acquire(pool, LONG_MS, 0);
	PGconn *second = acquire(pool, LONG_MS, 0);
	pid_t pid;
	int status;

	release(first);
	(void) fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		in_child(pool, second);
		(void) fflush(stdout);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		complain("the child ended with status %d", status);
	release(second);
}

static void
in_child(pqpool *pool, PGconn *loan)
{
	(void) alarm(HANGING_S);
	if (loan && pqpool_release(loan) != PQPOOL_UNKNOWN_CONNECTION)
		complain("the parent's loan is known in the child");
	release(acquire(pool, LONG_MS, 0));
	faults_end();
	release(acquire(pool, LONG_MS, 0));
	(void) stats_of(pool);
	check_code("pqpool_close", pqpool_close(&pool, LONG_MS), 0);
}

#define BOTH (ALONE | HELPED)

/*
 * AddressSanitizer may leave the lock of its allocator, held by another thread, to the
 * child, which then hangs.
 */
#ifdef __SANITIZE_ADDRESS__
#define FORKS ALONE
#else
#define FORKS BOTH
#endif

static const Scenario scenarios[] = {
	{ "open", NULL, opening, BOTH, false },
	{ "open by a URI", NULL, opening_by_uri, BOTH, false },
	{ "open with a bad option", NULL, opening_badly, BOTH, false },
	{ "borrow, pool_reset=none", "pool_reset=none", borrowing, BOTH, false },
	{ "borrow, pool_reset=rollback", "pool_reset=rollback", borrowing, BOTH, false },
	{ "borrow, pool_reset=discard", "pool_reset=discard", borrowing, BOTH, false },
	{ "borrow, always validated", "pool_validate_after=0", borrowing, BOTH, false },
	{ "borrow, pool_min_size=2", "pool_min_size=2 pool_max_size=3", borrowing, BOTH, false },
	{ "borrow from a slow server", "pool_validate_after=0 pool_reset=discard", many_options, BOTH,
	  false },
	{ "borrow without waiting", "pool_max_size=1", not_waiting, BOTH, false },
	{ "wait in turn", "pool_max_size=1", waiting, BOTH, true },
	{ "discard", "pool_max_size=2", discarding, BOTH, false },
	{ "the server refuses", "pool_max_size=2", refused, BOTH, false },
	{ "the server ends sessions", "pool_max_size=2 pool_peek_after=0", dying, BOTH, false },
	{ "drain", "pool_max_size=3", draining, BOTH, false },
	{ "resize", "pool_max_size=2", resizing, BOTH, false },
	{ "close", NULL, closing, BOTH, false },
	{ "pause, limits, statistics", "", steering, BOTH, false },
	{ "the default pool", NULL, default_pool, BOTH, false },
	{ "a thread's own connection", NULL, own_connection, BOTH, false },
	{ "scopes", "", scopes, BOTH, false },
	{ "scopes by macro", "", begun_scopes, BOTH, false },
	{ "a scope over the default pool", "", begun_over_default, BOTH, false },
	{ "transfer and adopt", "", handing_over, BOTH, false },
	{ "transfer to a new thread", "", handing_to_thread, BOTH, false },
	{ "a thread ends with loans", "pool_bind=thread", forgetting, BOTH, false },
	{ "cancel", "", cancelling, BOTH, false },
	{ "report", "", reporting, HELPED, true },
	{ "knock", "", knocking, HELPED, true },
	{ "fork", "pool_max_size=3", forking, FORKS, false },
};

/*---- how they are run ----*/

#define NSCENARIOS ((int) (sizeof(scenarios) / sizeof(scenarios[0])))

typedef struct Plan
{
	const Scenario *scenario;
	unsigned kinds;
	long nth;
	bool onward;
	bool cold;		   /* what is made once for the process may be made now */
	long counted, hit; /* results */
} Plan;

/*
 * Soon after there is memory again; not at once, since after a failure the next attempt has
 * its time.
 */
static void
check_usable(pqpool *pool)
{
	PGconn *conn = NULL;

	if (!pool)
		return;
	fakepq_behave(good_server);
	for (int i = 0; i < 100 && !conn; i++)
	{
		conn = pqpool_acquire_at(pool, -1, NULL, SITE);
		if (!conn)
			faults_sleep(50);
	}
	if (!conn)
		complain("afterwards the pool lends nothing");
	release(conn);
}

static void *
run_in_thread(void *arg)
{
	Plan *plan = arg;
	const Scenario *scenario = plan->scenario;
	pqpool *pool = scenario->conninfo ? open_pool(scenario->conninfo) : NULL;

	faults_begin(plan->kinds, plan->nth, plan->onward);
	scenario->run(pool);
	faults_end();
	plan->counted = faults_counted();
	plan->hit = faults_hit();
	faults_begin(0, 0, false); /* no failure is excused any more */
	check_usable(pool);
	close_pool(pool);
	return NULL;
}

/* Until all that was closed is gone; it is swept early, so that nobody has to wait for it. */
static void
settle(void)
{
	for (;;)
	{
		int64_t next = INT64_MAX;
		bool any = pqp_registry_sweep(pqp_now() + INT64_C(3600000000), &next);

		fakepq_hurry();
		if (!any && faults_threads() == 0)
			return;
		if (pqp_keeper_running())
			pqp_keeper_kick();
		(void) usleep(200);
	}
}

static void
tell_live(long number, size_t size)
{
	if (*wrong <= TOLD && !quiet)
		diag("  of %zu bytes, the run's allocation %ld", size, number);
}

typedef struct Possessions
{
	long blocks;
	int descriptors;
	int objects;
} Possessions;

static Possessions
possess(void)
{
	return (Possessions){ faults_live(), count_descriptors(), fakepq_alive() };
}

/* Whoever hangs is not waited for. */
static void
on_alarm(int sig)
{
	(void) sig;
	(void) !write(STDOUT_FILENO, last_words, strlen(last_words));
	abort();
}

/* From here on that counts as hanging. */
static void
watch(void)
{
	(void) snprintf(last_words, sizeof(last_words), "Bail out! %s, %s: hangs\n", current->name,
					circumstances);
	(void) alarm(HANGING_S);
}

static void
run_once(Plan *plan)
{
	pthread_t thread;
	Possessions before = possess(), after;

	current = plan->scenario;
	current_onward = plan->onward;
	if (plan->nth == 0)
		(void) strcpy(circumstances, "nothing fails");
	else
		(void) snprintf(circumstances, sizeof(circumstances), "call %ld%s fails", plan->nth,
						plan->onward ? " and all that follow" : "");
	watch();
	faults_mark();
	fakepq_behave(good_server);
	if (faults_own_thread(&thread, run_in_thread, plan) != 0)
		abort();
	(void) pthread_join(thread, NULL);
	settle();
	(void) alarm(0);

	after = possess();
	if (after.blocks != before.blocks)
	{
		complain("%ld blocks of memory more than before", after.blocks - before.blocks);
		faults_tell_live(tell_live);
	}
	if (after.descriptors != before.descriptors && !plan->cold)
		complain("%d descriptors more than before", after.descriptors - before.descriptors);
	if (after.objects != before.objects)
		complain("%d of libpq's objects more than before", after.objects - before.objects);
}

static void
prepare(Staff staff)
{
	if (!wrong)
	{
		wrong =
			mmap(NULL, sizeof(*wrong), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (wrong == MAP_FAILED)
			abort();
		faults_init();
		(void) signal(SIGALRM, on_alarm);
	}
	current_staff = staff;
	current_onward = false;
	faults_always(staff == ALONE ? FAULT_THREAD : 0);
	*wrong = 0;
}

void
survive_cold(Staff staff, unsigned kinds)
{
	Plan plan = {
		.scenario = &scenarios[4], .kinds = kinds, .nth = 1, .onward = true, .cold = true
	};

	prepare(staff);
	faults_clock(staff == ALONE ? VIRTUAL_TIME : FAST_TIME);
	run_once(&plan);
	ok(*wrong == 0, "what is made once cannot be made at first");
}

void
survive_all(Staff staff, unsigned kinds, bool onward, const char *what, long stride)
{
	const char *only = getenv("SCENARIO");

	for (int i = 0; i < NSCENARIOS; i++)
	{
		Plan plan = { .scenario = &scenarios[i], .kinds = kinds, .onward = onward };
		long runs = 0;

		if (!(scenarios[i].staff & staff) || (only && strcmp(only, scenarios[i].name) != 0))
			continue;
		prepare(staff);
		faults_clock(staff == ALONE && !scenarios[i].real_time ? VIRTUAL_TIME : FAST_TIME);
		quiet = true;
		run_once(&plan); /* what is made once for the process, is made */
		quiet = false;
		*wrong = 0;
		run_once(&plan);
		do
		{
			plan.nth += plan.nth < 8 ? 1 : stride;
			runs++;
			run_once(&plan);
		} while (plan.hit > 0 && *wrong < 100);
		ok(*wrong == 0, "%s: %s, %ld runs", scenarios[i].name, what, runs);
		if (*wrong > TOLD)
			diag("%d failures in all", *wrong);
	}
}

static const Scenario special = { "special", NULL, NULL, ALONE, true };

static void
acquire_without_key(void)
{
	pqpool *pool = open_pool("");
	PGconn *conn;

	faults_begin(FAULT_KEY, 1, true);
	conn = acquire(pool, 0, 0);
	if (conn)
		complain("a loan of a thread that cannot be known");
	faults_end();
	check_usable(pool);
	close_pool(pool);
}

/* In a child, since a key is made once for the process. */
void
survive_without_key(void)
{
	pid_t pid;
	int status = -1;

	current = &special;
	prepare(ALONE);
	(void) strcpy(circumstances, "no key for threads");
	(void) fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		watch();
		fakepq_behave(good_server);
		acquire_without_key();
		(void) fflush(stdout);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	ok(*wrong == 0 && status == 0, "no pthread_key_create at first");
}

#define CALLERS 4
#define ROUNDS 50

static void *
discard_often(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		discard(acquire(arg, LONG_MS, 0));
	return NULL;
}

void
survive_slow_refusals(void)
{
	pthread_t threads[CALLERS];
	pqpool *pool;

	current = &special;
	prepare(ALONE);
	(void) strcpy(circumstances, "threads are refused slowly");
	watch();
	faults_clock(FAST_TIME);
	fakepq_behave(good_server);
	faults_begin(0, 0, false);
	faults_refusal_us = 500;
	pool = open_pool("pool_max_size=3");
	for (int i = 0; i < CALLERS; i++)
		if (faults_own_thread(&threads[i], discard_often, pool) != 0)
			abort();
	for (int i = 0; i < CALLERS; i++)
		(void) pthread_join(threads[i], NULL);
	close_pool(pool);
	settle();
	faults_refusal_us = 0;
	(void) alarm(0);
	ok(*wrong == 0, "nothing waits for a thread that cannot be started");
}

void
survive_many_pools(void)
{
	long before, after;

	current = &special;
	prepare(ALONE);
	faults_clock(VIRTUAL_TIME);
	faults_begin(0, 0, false);
	before = faults_live();
	for (int i = 0; i < 100; i++)
	{
		close_pool(open_pool(""));
		faults_sleep(1100); /* a closed pool stays for a second, for those who still look at it */
	}
	after = faults_live();
	ok(after - before < 100, "without a keeper, pools that were closed are freed all the same");
	if (after - before >= 100)
		diag("%ld blocks of memory more after 100 pools", after - before);
	settle();
}

int
survive_end(void)
{
	return done_testing();
}
