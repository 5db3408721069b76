/*-------------------------------------------------------------------------
 *
 * ownership.c
 *	  A connection is in one hand at a time, whatever the hands do.
 *
 * Every connection has a word in a table of the test's own, which a thread
 * swaps from "nobody" to itself when it has borrowed the connection, and
 * back before it returns it. A swap that fails has met another holder.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#define THREADS 100
#define OPERATIONS 10000
#define CONNECTIONS 20

/* One in so many operations asks the server something; the others only change hands. */
#define QUERY_EVERY 100

typedef struct Entry
{
	_Atomic(PGconn *) conn;
	atomic_int owner; /* thread's index + 1; 0: nobody */
} Entry;

/* By address; never emptied, since an address that comes again is found again. */
static Entry table[4096];

static atomic_int in_hand;
static atomic_int most_in_hand;
static atomic_int violations;
static atomic_int failures;
static atomic_int granted;

static Entry *
find_entry(PGconn *conn)
{
	size_t i = (uintptr_t) conn / 64 % countof(table);

	for (;; i = (i + 1) % countof(table))
	{
		PGconn *expected = NULL;

		if (atomic_load(&table[i].conn) == conn)
			return &table[i];
		if (atomic_compare_exchange_strong(&table[i].conn, &expected, conn) || expected == conn)
			return &table[i];
	}
}

static void
take(PGconn *conn, int thread)
{
	int nobody = 0;
	int now = atomic_fetch_add(&in_hand, 1) + 1;
	int most = atomic_load(&most_in_hand);

	if (!atomic_compare_exchange_strong(&find_entry(conn)->owner, &nobody, thread + 1))
		atomic_fetch_add(&violations, 1);
	while (now > most && !atomic_compare_exchange_weak(&most_in_hand, &most, now))
		;
	atomic_fetch_add(&granted, 1);
}

static void
drop(PGconn *conn, int thread)
{
	int mine = thread + 1;

	if (!atomic_compare_exchange_strong(&find_entry(conn)->owner, &mine, 0))
		atomic_fetch_add(&violations, 1);
	atomic_fetch_sub(&in_hand, 1);
}

/*---- many threads, few connections ----*/

static void
borrow_and_return(int thread, void *arg)
{
	pqpool *pool = arg;

	for (int i = 0; i < OPERATIONS; i++)
	{
		pqpool_error err;
		PGconn *conn = pqpool_acquire(pool, -1, &err);

		if (conn == NULL)
		{
			if (atomic_fetch_add(&failures, 1) == 0)
				diag("%s: %s", pqpool_code_name(err.code), err.message);
			continue;
		}
		take(conn, thread);
		if ((thread + i) % QUERY_EVERY == 0 &&
			query_int(conn, "SELECT pg_backend_pid()") != PQbackendPID(conn))
			atomic_fetch_add(&failures, 1);
		drop(conn, thread);
		if (pqpool_release(conn) != PQPOOL_OK)
			atomic_fetch_add(&failures, 1);
	}
}

static void
test_hundred_threads(void)
{
	pqpool *pool = open_pool("application_name=many pool_max_size=20 pool_acquire_timeout=120s");
	PGconn *direct = connect_directly("");
	double start = now_s();
	pqpool_statistics stats;
	uint64_t in_histogram = 0;

	run_threads(THREADS, borrow_and_return, pool);
	diag("%d operations in %.1f s", THREADS * OPERATIONS, now_s() - start);
	stats = stats_of(pool);
	is_int(atomic_load(&violations), 0, "every connection was in one hand at a time");
	is_int(atomic_load(&failures), 0, "every acquire, query and release worked");
	is_int(atomic_load(&granted), THREADS * OPERATIONS, "as many loans as operations");
	ok(atomic_load(&most_in_hand) <= CONNECTIONS, "never more out than the pool may have (%d)",
	   atomic_load(&most_in_hand));
	is_int(stats.acquires, THREADS * OPERATIONS, "the pool counted every acquire");
	for (int i = 0; i < PQPOOL_BUCKETS; i++)
		in_histogram += stats.wait[i];
	is_int(in_histogram, THREADS * OPERATIONS, "and has every wait in its histogram");
	ok(stats.in_use == 0 && stats.waiting == 0 && stats.resetting == 0, "all is back");
	ok(stats.size <= CONNECTIONS && count_sessions(direct, "many") <= CONNECTIONS,
	   "the server never had more sessions than allowed (%d)", stats.size);
	ok(stats.opened <= CONNECTIONS, "connections were reused, not made anew (%llu opened)",
	   (unsigned long long) stats.opened);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "the pool closes");
	ok(WAIT_FOR(count_sessions(direct, "many") == 0), "and leaves no session");
	PQfinish(direct);
}

/*---- everything at once ----*/

typedef struct Storm
{
	pqpool *pool;
	int rounds;
} Storm;

/*
 * What a holder can do to a connection; all of it must be survived. Returns true if it has
 * discarded it.
 */
static bool
mistreat(PGconn *conn, unsigned what)
{
	switch (what)
	{
		case 0:
			(void) run(conn, "BEGIN");
			break;
		case 1:
			(void) run(conn, "BEGIN; SELECT 1/0");
			break;
		case 2:
			(void) PQsendQuery(conn, "SELECT 1");
			break;
		case 3:
			PQclear(PQexec(conn, "COPY (SELECT 1) TO STDOUT"));
			break;
		case 4:
			(void) run(conn, "SELECT pg_terminate_backend(pg_backend_pid())");
			break;
		default:
			(void) query_int(conn, "SELECT 1");
	}
	return what == 5;
}

static void
storm(int thread, void *arg)
{
	Storm *s = arg;
	uint64_t state = 88172645463325252ULL * (uint64_t) (thread + 1);

	for (int i = 0; i < s->rounds; i++)
	{
		static const int timeouts[] = { 0, 1, 20, 60000 };
		pqpool_error err;
		PGconn *conn = pqpool_acquire(s->pool, timeouts[draw(&state, 4)], &err);
		unsigned what = draw(&state, 100);
		bool discard;

		if (conn == NULL)
		{
			if (err.code != PQPOOL_TIMED_OUT && atomic_fetch_add(&failures, 1) < 5)
				diag("%s: %s", pqpool_code_name(err.code), err.message);
			continue;
		}
		take(conn, thread);
		if (PQtransactionStatus(conn) != PQTRANS_IDLE)
			atomic_fetch_add(&violations, 1);
		discard = mistreat(conn, what);
		drop(conn, thread);
		if ((discard ? pqpool_discard(conn) : pqpool_release(conn)) != PQPOOL_OK)
			atomic_fetch_add(&failures, 1);
	}
}

static void
test_storm(void)
{
	Storm s = { open_pool("application_name=storm pool_max_size=8 pool_max_lifetime=200ms"
						  " pool_max_waiters=1000"),
				300 };
	PGconn *direct = connect_directly("");

	atomic_store(&violations, 0);
	atomic_store(&failures, 0);
	atomic_store(&granted, 0);
	atomic_store(&most_in_hand, 0);
	run_threads(24, storm, &s);
	is_int(atomic_load(&violations), 0, "in a storm, too, one hand at a time, and clean");
	is_int(atomic_load(&failures), 0, "no acquire fails but by its deadline");
	ok(atomic_load(&most_in_hand) <= 8, "never more out than allowed (%d)",
	   atomic_load(&most_in_hand));
	ok(atomic_load(&granted) > 1000, "it was a storm (%d loans)", atomic_load(&granted));
	ok(WAIT_FOR(stats_of(s.pool).closing == 0 && stats_of(s.pool).resetting == 0 &&
				stats_of(s.pool).opening == 0),
	   "it calms down");
	is_int(stats_of(s.pool).in_use, 0, "nothing is out");
	is_int(stats_of(s.pool).acquires, atomic_load(&granted), "every loan was counted");
	is_code(acquire_code(s.pool, -1), PQPOOL_OK, "and it works on");
	ok(WAIT_FOR(count_sessions(direct, "storm") == stats_of(s.pool).size),
	   "the server has as many sessions as the pool thinks");
	is_code(pqpool_close(&s.pool, -1), PQPOOL_OK, "the pool closes");
	ok(WAIT_FOR(count_sessions(direct, "storm") == 0), "and leaves no session");
	PQfinish(direct);
}

int
main(void)
{
	test_hundred_threads();
	test_storm();
	return done_testing();
}
