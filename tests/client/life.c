/*-------------------------------------------------------------------------
 *
 * life.c
 *	  How long connections live: minimum size, idle timeout, lifetime, death,
 *	  a server that is full, restarted or silent; and what is counted meanwhile.
 *
 * timeout: 600
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static PGconn *direct;

static void
fill(pqpool *pool, int n)
{
	PGconn *conns[32];

	for (int i = 0; i < n; i++)
		conns[i] = acquire_or_give_up(pool);
	for (int i = 0; i < n; i++)
		(void) pqpool_release(conns[i]);
}

/* Acquire and release without a pause, so that one thread's fast path has it all the time. */
typedef struct Loop
{
	pqpool *pool;
	atomic_bool stop;
	atomic_int failures;
	atomic_int different; /* another connection than before */
} Loop;

static void
loop(int index, void *arg)
{
	Loop *l = arg;
	const PGconn *last = NULL;

	(void) index;
	while (!atomic_load(&l->stop))
	{
		pqpool_error err;
		PGconn *conn = pqpool_acquire(l->pool, -1, &err);

		if (conn == NULL)
		{
			if (atomic_fetch_add(&l->failures, 1) == 0)
				diag("%s", err.message);
			continue;
		}
		atomic_fetch_add(&l->different, last != NULL && conn != last);
		last = conn;
		(void) pqpool_release(conn);
	}
}

/*---- minimum and idle timeout ----*/

static void
test_minimum(void)
{
	pqpool *pool = open_pool("application_name=minimum pool_min_size=3 pool_max_size=6");

	ok(WAIT_FOR(stats_of(pool).idle == 3), "the minimum is opened without a caller");
	end_sessions(direct, "minimum");
	ok(WAIT_FOR(stats_of(pool).found_dead >= 3 && stats_of(pool).idle == 3 &&
				count_sessions(direct, "minimum") == 3),
	   "and is there again after all have died, without a caller");
	is_code(pqpool_resize(pool, 5, -1, NULL), PQPOOL_OK, "a larger minimum");
	ok(WAIT_FOR(stats_of(pool).idle == 5), "is opened, too");
	(void) pqpool_close(&pool, -1);
}

static void
test_idle_timeout(void)
{
	Loop l = { open_pool("application_name=idle pool_min_size=2 pool_max_size=6"
						 " pool_idle_timeout=300ms pool_report=off"),
			   false, 0, 0 };
	Threads threads = { 0 };
	pqpool_statistics s;

	fill(l.pool, 6);
	ok(WAIT_FOR(stats_of(l.pool).size == 2), "what is idle is closed, but for the minimum");
	s = stats_of(l.pool);
	is_int(s.closed_by[PQPOOL_CLOSE_IDLE], s.closed, "for that reason");
	sleep_ms(1000);
	is_int(stats_of(l.pool).closed, s.closed, "the minimum stays");

	(void) pqpool_resize(l.pool, 0, -1, NULL);
	start_thread(&threads, loop, &l);
	ok(WAIT_FOR(stats_of(l.pool).size == 1), "beside one that is used all the time the rest goes");
	sleep_ms(1000);
	is_int(atomic_load(&l.different), 0, "that one stays");
	atomic_store(&l.stop, true);
	join_threads(&threads);
	ok(WAIT_FOR(stats_of(l.pool).size == 0), "until it is idle as well");
	is_int(atomic_load(&l.failures), 0, "nobody was refused");
	(void) pqpool_close(&l.pool, -1);
}

/*---- lifetime ----*/

#define LIVES 8
#define LIFETIME_MS 3000

static atomic_int nclosed;
static double closed_at[64];

static void
note_end(PGconn *conn, void *arg)
{
	int i = atomic_fetch_add(&nclosed, 1);

	(void) conn;
	(void) arg;
	if (i < countof(closed_at))
		closed_at[i] = now_s();
}

/*
 * Opened together, and not closed together.  One end may be noticed late, and
 * the next one in time; so the sum of all gaps is looked at, and again if it was
 * too short once.
 */
static bool
ends_apart(void)
{
	pqpool_hooks hooks = { .on_close = note_end };
	char conninfo[200];
	pqpool *pool;
	double first = 1e300, last = 0, begin = now_s();

	atomic_store(&nclosed, 0);
	snprintf(conninfo, sizeof(conninfo),
			 "application_name=lifetime pool_max_size=%d pool_max_lifetime=%d pool_report=off",
			 LIVES, LIFETIME_MS);
	pool = pqpool_open_hooked(conninfo, &hooks, NULL);
	fill(pool, LIVES);
	if (!ok(WAIT_FOR(stats_of(pool).closed_by[PQPOOL_CLOSE_LIFETIME] == LIVES),
			"idle connections end with their lifetime"))
		return true;
	(void) pqpool_close(&pool, -1);
	for (int i = 0; i < LIVES; i++)
	{
		first = closed_at[i] < first ? closed_at[i] : first;
		last = closed_at[i] > last ? closed_at[i] : last;
	}
	ok(first - begin >= 0.85 * LIFETIME_MS / 1000, "not before their time (%.3f s)", first - begin);
	diag("%d ends within %.3f s", LIVES, last - first);
	return last - first >= 0.9 * (LIVES - 1) * LIFETIME_MS / 1000 / 20 / LIVES;
}

static void
test_lifetime(void)
{
	Loop l = { open_pool("application_name=used pool_max_size=1 pool_max_lifetime=500ms"
						 " pool_report=off"),
			   false, 0, 0 };
	Threads threads = { 0 };
	bool apart = false;

	for (int i = 0; i < 3 && !apart; i++)
		apart = ends_apart();
	ok(apart, "those opened together end apart");

	start_thread(&threads, loop, &l);
	ok(WAIT_FOR(stats_of(l.pool).closed_by[PQPOOL_CLOSE_LIFETIME] >= 3),
	   "one that is used all the time is replaced, again and again");
	atomic_store(&l.stop, true);
	join_threads(&threads);
	is_int(atomic_load(&l.failures), 0, "which its user does not notice");
	(void) pqpool_close(&l.pool, -1);
}

/*---- validation ----*/

#define MARK "SELECT 'the last of the holder'"

/* Is the server asked something before this pool's only connection is lent? */
static bool
is_asked(pqpool *pool)
{
	PGconn *conn = acquire_or_give_up(pool);
	char *query =
		query_text(direct, "SELECT query FROM pg_stat_activity WHERE application_name = 'asked'");
	bool asked = query != NULL && strcmp(query, MARK) != 0;

	free(query);
	(void) pqpool_release(conn);
	return asked;
}

static void
mark(pqpool *pool)
{
	PGconn *conn = acquire_or_give_up(pool);

	(void) run(conn, MARK);
	(void) pqpool_release(conn);
}

static void
test_validation(void)
{
	pqpool *pool = open_pool("application_name=asked pool_report=off pool_max_size=1"
							 " pool_validate_after=10ms pool_peek_after=1h");

	mark(pool);
	sleep_ms(50);
	ok(is_asked(pool), "a short pool_validate_after is stronger than a long pool_peek_after");
	(void) pqpool_close(&pool, -1);
}

/*
 * Of three connections one is silent.  Who takes all three gets others: which acquire meets
 * it is not certain, as the keeper may be looking at it when its turn comes.
 */
static void
test_silent_backend(const char *conninfo, int timeout_ms, const char *what)
{
	pqpool *pool = open_pool(conninfo);
	PGconn *conns[3];
	int pid, good = 0;

	fill(pool, 3);
	conns[0] = acquire_or_give_up(pool);
	pid = PQbackendPID(conns[0]);
	(void) pqpool_release(conns[0]);
	if (kill(pid, SIGSTOP) != 0)
		give_up("cannot stop a backend");
	for (int i = 0; i < 3; i++)
	{
		conns[i] = pqpool_acquire(pool, timeout_ms, NULL);
		good += conns[i] && PQbackendPID(conns[i]) != pid && query_int(conns[i], "SELECT 1") == 1;
	}
	is_int(good, 3, "%s", what);
	for (int i = 0; i < 3; i++)
		(void) pqpool_release(conns[i]);
	is_int(stats_of(pool).found_dead, 1, "the silent one was found dead");
	kill(pid, SIGCONT);
	(void) pqpool_close(&pool, -1);
}

/*---- death ----*/

#define DEATHS 20
#define ASKERS 8

typedef struct Asking
{
	pqpool *pool;
	int rounds;
	atomic_int wrong;
} Asking;

static void
ask(int index, void *arg)
{
	Asking *a = arg;

	(void) index;
	for (int i = 0; i < a->rounds; i++)
	{
		pqpool_error err;
		PGconn *conn = pqpool_acquire(a->pool, PATIENCE_S * 1000, &err);

		if (conn == NULL || query_int(conn, "SELECT 1") != 1)
		{
			if (atomic_fetch_add(&a->wrong, 1) == 0)
				diag("%s", conn != NULL ? PQerrorMessage(conn) : err.message);
		}
		(void) pqpool_release(conn);
	}
}

static void
test_all_terminated(void)
{
	Asking a = { open_pool("application_name=death pool_max_size=6 pool_max_waiters=100"),
				 10000 / DEATHS / ASKERS, 0 };

	for (int i = 0; i < DEATHS; i++)
	{
		fill(a.pool, 6);
		end_sessions(direct, "death");
		run_threads(ASKERS, ask, &a);
	}
	is_int(atomic_load(&a.wrong), 0,
		   "all idle sessions terminated, %d times: no first query of 10,000 fails", DEATHS);
	ok(stats_of(a.pool).found_dead >= DEATHS, "they were found dead (%llu)",
	   (unsigned long long) stats_of(a.pool).found_dead);
	(void) pqpool_close(&a.pool, -1);
}

/*
 * After the death of one the others are asked before they are lent, though they were used
 * just now.
 */
static void
test_suspects(void)
{
	pqpool *pool =
		open_pool("application_name=suspect pool_report=off pool_max_size=4 pool_peek_after=0");
	PGconn *conns[4];

	for (int i = 0; i < 4; i++)
	{
		conns[i] = acquire_or_give_up(pool);
		(void) run(conns[i], MARK);
	}
	is_int(query_int(direct, "SELECT count(pg_terminate_backend(%d))", PQbackendPID(conns[0])), 1,
		   "one of four sessions is terminated");
	if (!WAIT_FOR(count_sessions(direct, "suspect") == 3))
		give_up("it lives on");
	sleep_ms(10);
	/* the dead one is given back last, and so is the first to be looked at */
	for (int i = 3; i >= 0; i--)
		(void) pqpool_release(conns[i]);
	for (int i = 0; i < 3; i++)
	{
		conns[i] = acquire_or_give_up(pool);
		(void) query_int(conns[i], "SELECT 1");
	}
	is_int(stats_of(pool).found_dead, 1, "it is found dead");
	for (int i = 0; i < 3; i++)
		(void) pqpool_release(conns[i]);

	/* with the fast path: a look is good for an hour, but not for a suspect */
	(void) pqpool_close(&pool, -1);
	pool = open_pool("application_name=asked pool_report=off pool_max_size=2 pool_peek_after=1h");
	conns[0] = acquire_or_give_up(pool);
	conns[1] = acquire_or_give_up(pool);
	(void) run(conns[1], MARK);
	is_int(query_int(direct, "SELECT count(pg_terminate_backend(%d))", PQbackendPID(conns[0])), 1,
		   "one of two sessions is terminated");
	if (!WAIT_FOR(count_sessions(direct, "asked") == 1))
		give_up("it lives on");
	sleep_ms(10);
	(void) run(conns[0], "SELECT 1");
	(void) pqpool_release(conns[0]);
	ok(WAIT_FOR(stats_of(pool).closed_by[PQPOOL_CLOSE_DEAD] == 1), "which its holder notices");
	(void) pqpool_release(conns[1]);
	ok(is_asked(pool), "the other one is asked, though it was looked at within the hour");
	(void) pqpool_close(&pool, -1);
}

/*---- a machine that was suspended ----*/

static _Atomic int64_t suspended_s; /* by which CLOCK_BOOTTIME is ahead of what it really is */

/* In front of libc's, for the library as well. */
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = (int) syscall(SYS_clock_gettime, clock, ts);

	if (clock == CLOCK_BOOTTIME)
		ts->tv_sec += atomic_load(&suspended_s);
	return rc;
}

static void
test_suspended(void)
{
	pqpool *pool = open_pool("application_name=asked pool_report=off pool_max_size=1"
							 " pool_validate_after=1h pool_peek_after=1h");

	mark(pool);
	ok(!is_asked(pool), "a connection is trusted for as long as the program wishes");
	atomic_store(&suspended_s, 3600);
	ok(WAIT_FOR(is_asked(pool)), "but not when the machine has been suspended meanwhile");
	mark(pool);
	ok(!is_asked(pool), "which is looked at once");
	(void) pqpool_close(&pool, -1);
}

/*---- the server as a whole ----*/

static char *data_directory;

static void
pg_ctl(const char *what)
{
	char command[2000];

	snprintf(command, sizeof(command),
			 "pg_ctl -w -s -D '%s' -l '%s/../restarted.log' -m fast %s >/dev/null 2>&1 9>&-",
			 data_directory, data_directory, what);
	if (system(command) != 0)
		give_up("failed: %s", command);
}

typedef struct Load
{
	pqpool *pool;
	atomic_bool stop;
	atomic_int served;
	atomic_int refused;
	atomic_int untrue;
	atomic_int late;
} Load;

static void
load(int index, void *arg)
{
	Load *l = arg;

	(void) index;
	while (!atomic_load(&l->stop))
	{
		pqpool_error err;
		double start = now_s();
		PGconn *conn = pqpool_acquire(l->pool, 20000, &err);

		atomic_fetch_add(&l->late, now_s() - start > 20 + 10);
		if (conn != NULL)
		{
			atomic_fetch_add(&l->served, query_int(conn, "SELECT 1") == 1);
			(void) pqpool_release(conn);
			continue;
		}
		atomic_fetch_add(&l->refused, 1);
		if (err.code != PQPOOL_SERVER_DOWN && atomic_fetch_add(&l->untrue, 1) == 0)
			diag("%s: %s", pqpool_code_name(err.code), err.message);
		sleep_ms(20);
	}
}

static void
test_restart(void)
{
	Load l = { .pool = open_pool("application_name=restart pool_max_size=4") };
	Threads threads = { 0 };
	int before;
	double start;

	data_directory = query_text(direct, "SHOW data_directory");
	for (int i = 0; i < 8; i++)
		start_thread(&threads, load, &l);
	ok(WAIT_FOR(atomic_load(&l.served) > 100), "a server under load");
	PQfinish(direct);
	pg_ctl("stop");
	ok(WAIT_FOR(atomic_load(&l.refused) > 0),
	   "is stopped, and callers are told before their deadline");
	sleep_ms(4000); /* until the longest backoff */
	pg_ctl("start");
	before = atomic_load(&l.served);
	start = now_s();
	ok(WAIT_FOR(atomic_load(&l.served) > before), "it is started, and serves");
	diag("%.3f s after it was ready", now_s() - start);
	direct = connect_directly("application_name=direct");
	before = atomic_load(&l.served);
	ok(WAIT_FOR(atomic_load(&l.served) > before + 100), "and goes on");
	atomic_store(&l.stop, true);
	join_threads(&threads);
	is_int(atomic_load(&l.untrue), 0, "all who were refused were told that it was down");
	is_int(atomic_load(&l.late), 0, "and nobody waited longer than he wanted");
	free(data_directory);
	(void) pqpool_close(&l.pool, -1);
}

/* A server with one place for us: who has it shares it, and the server is seldom asked for more. */
static void
test_full(void)
{
	pqpool *pool, *other;
	pqpool_error err;
	PGconn *conn;
	int timeouts = 0, tries = 0;
	uint64_t failures;
	double start;

	(void) run(direct, "CREATE ROLE one LOGIN CONNECTION LIMIT 1");
	pool = open_pool("user=one application_name=one pool_max_size=3");
	conn = acquire_or_give_up(pool);
	for (start = now_s(); now_s() - start < 8;)
	{
		int code = acquire_code(pool, 100);

		tries++;
		timeouts += code == PQPOOL_TIMED_OUT;
	}
	failures = stats_of(pool).open_failures;
	is_int(timeouts, tries, "callers wait for what is open, although the server has no more");
	ok(failures >= 1 && (double) failures <= now_s() - start,
	   "and it is seldom asked (%llu times in %.1f s)", (unsigned long long) failures,
	   now_s() - start);
	ok(pqpool_acquire(pool, 100, &err) == NULL && strcmp(err.sqlstate, "53300") == 0 &&
		   strstr(err.cause, "too many connections") != NULL,
	   "the timeout's cause is that");

	other = open_pool("user=one application_name=other pool_max_size=3 pool_acquire_timeout=60s");
	start = now_s();
	is_code(acquire_code(other, -1), PQPOOL_SERVER_FULL, "a pool that has nothing is told so");
	ok(now_s() - start < 30, "before the deadline");
	(void) pqpool_close(&other, -1);

	/* what is open dies: the server is asked at once, however long it was to be left alone */
	(void) pqpool_release(conn);
	end_sessions(direct, "one");
	conn = pqpool_acquire(pool, 60000, &err);
	if (!ok(conn != NULL, "when the only connection has died, and there is room, there is another"))
		diag("%s", err.message);
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
	(void) WAIT_FOR(run(direct, "DROP ROLE one"));
}

/*
 * A server that never answers holds up nobody but those who wait for it.  Several
 * attempts begin at the same moment, so that some have to share what helpers are
 * idle, with the one that must not.
 */
static void
test_silent_server(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
								   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char conninfo[200];
	int held_up = 0;

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, length) != 0 || listen(fd, 100) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		give_up("no socket");
	snprintf(conninfo, sizeof(conninfo),
			 "host=127.0.0.1 port=%d user=x dbname=x pool_min_size=1 pool_acquire_timeout=60s",
			 ntohs(address.sin_port));
	for (int round = 0; round < 16 && held_up == 0; round++)
	{
		pqpool *good = open_pool("application_name=good pool_max_size=2"), *silent[4];
		int n = 1 + round % countof(silent);

		sleep_ms(30);
		for (int i = 0; i < n; i++)
			silent[i] = open_pool(conninfo);
		held_up += acquire_code(good, 20000) != PQPOOL_OK;
		for (int i = 0; i < n; i++)
			(void) pqpool_close(&silent[i], -1);
		(void) pqpool_close(&good, -1);
	}
	is_int(held_up, 0, "attempts at a silent server hold up no other");
	close(fd);
}

/*---- what is counted ----*/

static void
mix(int index, void *arg)
{
	Loop *l = arg;
	uint64_t state = 88172645463325252ULL * (uint64_t) (index + 1);

	while (!atomic_load(&l->stop))
	{
		PGconn *conn = pqpool_acquire(l->pool, (int) draw(&state, 3) * 20, NULL);
		unsigned what = draw(&state, 2000);

		if (conn == NULL)
		{
			sleep_ms(1);
			continue;
		}
		if (what == 0)
			(void) run(conn, "BEGIN");
		else if (what == 1)
			(void) PQsendQuery(conn, "SELECT 1");
		else if (what == 2)
			(void) run(conn, "SELECT pg_terminate_backend(pg_backend_pid())");
		else if (what < 10)
			sleep_ms(1);
		(void) (what == 3 ? pqpool_discard(conn) : pqpool_release(conn));
	}
}

static uint64_t
sum(const uint64_t *numbers, int n)
{
	uint64_t total = 0;

	while (n-- > 0)
		total += numbers[n];
	return total;
}

static void
test_statistics(void)
{
	Loop l = { open_pool("application_name=counted pool_max_size=5 pool_max_lifetime=200ms"
						 " pool_max_waiters=4"),
			   false, 0, 0 };
	Threads threads = { 0 };
	pqpool_statistics s;
	int looks = 0, off = 0, too_many = 0;
	double start = now_s();

	for (int i = 0; i < 8; i++)
		start_thread(&threads, mix, &l);
	while (now_s() - start < 3)
	{
		s = stats_of(l.pool);
		looks++;
		off += s.size != s.opening + s.idle + s.in_use + s.resetting + s.closing;
		too_many += s.size > 5 || s.waiting > 4 || s.in_use < 0;
	}
	atomic_store(&l.stop, true);
	join_threads(&threads);
	is_int(off, 0, "size is the sum of its parts, at any time (%d looks)", looks);
	is_int(too_many, 0, "and nothing was more than allowed");

	if (!WAIT_FOR(stats_of(l.pool).size == stats_of(l.pool).idle))
		give_up("it does not calm down");
	s = stats_of(l.pool);
	diag("%llu acquires, %llu timeouts, %llu failures, %llu opened, %llu closed",
		 (unsigned long long) s.acquires, (unsigned long long) s.timeouts,
		 (unsigned long long) s.failures, (unsigned long long) s.opened,
		 (unsigned long long) s.closed);
	is_int(sum(s.wait, PQPOOL_BUCKETS), s.acquires + s.timeouts,
		   "acquires and timeouts make up the histogram of waits");
	is_int(sum(s.hold, PQPOOL_BUCKETS), s.acquires, "every loan is in the histogram of loans");
	is_int(sum(s.errors, PQPOOL_ERRORS), s.timeouts + s.failures,
		   "errors by code are all failures");
	is_int(s.errors[PQPOOL_TIMED_OUT], s.timeouts, "timeouts by code");
	is_int(s.errors[PQPOOL_EXHAUSTED], s.failures, "there were too many waiters, and nothing else");
	is_int(sum(s.closed_by, PQPOOL_CLOSE_REASONS), s.closed, "closed by reason is all closed");
	is_int(s.opened - s.closed, s.size, "what was opened and not closed is there");
	ok(s.closed_by[PQPOOL_CLOSE_DEAD] > 0 && s.closed_by[PQPOOL_CLOSE_UNFIT] > 0 &&
		   s.closed_by[PQPOOL_CLOSE_DISCARD] > 0,
	   "there were several reasons");
	is_code(pqpool_close(&l.pool, -1), PQPOOL_OK, "the pool closes");
}

int
main(void)
{
	direct = connect_directly("application_name=direct");
	test_silent_server();
	test_minimum();
	test_idle_timeout();
	test_lifetime();
	test_validation();
	test_silent_backend(
		"pool_report=off pool_max_size=3 pool_validate_after=0 pool_reset_timeout=300ms",
		PATIENCE_S * 1000, "instead of one that is silent there is another");
	test_silent_backend(
		"pool_report=off pool_max_size=3 pool_validate_after=0 pool_reset_timeout=1h", 6000,
		"one that is silent costs half of the caller's time, not all of it");
	test_all_terminated();
	test_suspects();
	test_suspended();
	test_full();
	test_statistics();
	test_restart();
	PQfinish(direct);
	return done_testing();
}
