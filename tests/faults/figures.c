/*-------------------------------------------------------------------------
 *
 * figures.c
 *	  What a pool, a connection, a waiter and a thread cost in memory, and what
 *	  allocates nothing at all.
 *
 * libpq's own memory is not counted: the stand-in's blocks are known.
 *
 * sources: tests/faults/support/inject.c tests/faults/support/fakepq.c
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "tap.h"

#include <stdatomic.h>
#include <unistd.h>

#include "internal.h"
#include "support/fakepq.h"
#include "support/inject.h"

#define ROUNDS 20000
#define PATIENCE_MS 3600000 /* by the fast clock */

/* More than these would be a change worth a thought. */
#define POOL_BYTES 8192 /* without slots */
#define SLOT_BYTES 384
#define THREAD_BYTES 768

static pqpool *
open_pool(const char *conninfo)
{
	pqpool_error err;
	pqpool *pool = pqpool_open(conninfo, &err);

	if (!pool)
	{
		printf("Bail out! %s\n", err.message);
		_exit(255);
	}
	return pool;
}

static PGconn *
acquire(pqpool *pool)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire_at(pool, PATIENCE_MS, &err, NULL);

	if (!conn)
	{
		printf("Bail out! %s\n", err.message);
		_exit(255);
	}
	return conn;
}

static void
settle(void)
{
	int64_t next = INT64_MAX;

	while (pqp_registry_sweep(pqp_now() + INT64_C(3600000000), &next) || faults_threads() > 0)
	{
		if (pqp_keeper_running())
			pqp_keeper_kick();
		(void) usleep(200);
	}
}

/*---- pools ----*/

/* Of a pool without options, with so many slots. */
static long
pool_bytes(const char *conninfo)
{
	long before = faults_live_bytes();
	pqpool *pool = open_pool(conninfo);
	long bytes = faults_live_bytes() - before;

	(void) pqpool_close(&pool, -1);
	settle();
	return bytes;
}

static void
test_pool(void)
{
	long small, large;

	faults_always(FAULT_THREAD); /* no keeper's memory in between */
	small = pool_bytes("pool_max_size=8");
	large = pool_bytes("pool_max_size=1016"); /* 7 chunks, all full */
	faults_always(0);
	diag("a pool: %ld bytes, of which sizeof(Pool) %zu; a place for a connection: %zu bytes",
		 small - 8 * (long) sizeof(Slot), sizeof(Pool), sizeof(Slot));
	ok(small - 8 * (long) sizeof(Slot) <= POOL_BYTES, "a pool takes at most %d bytes", POOL_BYTES);
	ok(sizeof(Slot) <= SLOT_BYTES, "and at most %d for each connection it may have", SLOT_BYTES);
	is_int(large - small, (1016 - 8) * (long) sizeof(Slot), "and nothing else for each");
}

/*---- connections ----*/

/* What the stand-in for libpq allocates for one that is connected with "options". */
static long
libpq_blocks(void)
{
	static const char *const keywords[] = { "options", NULL };
	static const char *const values[] = { "-c a=b", NULL };
	long before = faults_live(), blocks;
	PGconn *conn = PQconnectStartParams(keywords, values, 0);

	while (PQconnectPoll(conn) != PGRES_POLLING_OK)
		;
	blocks = faults_live() - before;
	PQfinish(conn);
	return blocks;
}

static void
test_connection(void)
{
	pqpool *pool = open_pool("pool_max_size=8");
	PGconn *conn = acquire(pool), *more[4];
	long before;

	(void) pqpool_release(conn);
	for (int i = 0; i < 200 && !pqp_keeper_running(); i++)
		(void) usleep(1000);
	(void) usleep(20000); /* the keeper has what it needs */
	before = faults_live();
	for (int i = 0; i < 4; i++)
		more[i] = acquire(pool);
	is_int(faults_live() - before, 3 * libpq_blocks(),
		   "a connection takes no memory but its place and what libpq wants");
	for (int i = 0; i < 4; i++)
		(void) pqpool_release(more[i]);
	(void) pqpool_close(&pool, -1);
	settle();
}

/*---- threads and waiters ----*/

#define WAITERS 8

typedef struct Crowd
{
	pqpool *pool;
	_Atomic int ready, go;
} Crowd;

static void *
wait_in_crowd(void *arg)
{
	Crowd *crowd = arg;
	pqpool_error err;
	PGconn *conn = pqpool_acquire_at(crowd->pool, 0, &err, NULL); /* makes the thread known */

	if (conn)
		(void) pqpool_release(conn);
	crowd->ready++;
	while (!crowd->go)
		(void) usleep(100);
	(void) pqpool_release(acquire(crowd->pool));
	return NULL;
}

static void
test_waiters(void)
{
	Crowd crowd = { .pool = open_pool("pool_max_size=1") };
	PGconn *conn = acquire(crowd.pool);
	pthread_t threads[WAITERS];
	long before, allocations, bytes = faults_live_bytes(), blocks = faults_live();
	pqpool_statistics s;

	for (int i = 0; i < WAITERS; i++)
		(void) faults_own_thread(&threads[i], wait_in_crowd, &crowd);
	while (crowd.ready < WAITERS)
		(void) usleep(100);
	diag("a thread: %zu bytes", sizeof(Thread));
	is_int(faults_live() - blocks, WAITERS, "a thread that has borrowed takes one block");
	is_int(faults_live_bytes() - bytes, WAITERS * (long) sizeof(Thread), "of its own size");
	ok(sizeof(Thread) <= THREAD_BYTES, "which is at most %d bytes", THREAD_BYTES);

	before = faults_live();
	allocations = faults_allocations();
	crowd.go = 1;
	do
		(void) pqpool_stats_sized(crowd.pool, &s, sizeof(s));
	while (s.waiting < WAITERS);
	is_int(faults_live() - before, 0, "a waiter takes no memory");
	(void) pqpool_release(conn);
	for (int i = 0; i < WAITERS; i++)
		(void) pthread_join(threads[i], NULL);
	is_int(faults_allocations() - allocations, 0, "and being handed a connection neither");
	is_int(faults_live() - blocks, 0, "threads that have ended leave nothing");
	(void) pqpool_close(&crowd.pool, -1);
	settle();
}

/*---- what allocates nothing ----*/

static void *
borrow_often(void *arg)
{
	for (int i = 0; i < ROUNDS / 10; i++)
		(void) pqpool_release(acquire(arg));
	return NULL;
}

static void
test_rounds(const char *options)
{
	pqpool *pool = open_pool(options);
	long allocations;

	(void) pqpool_release(acquire(pool));
	(void) usleep(20000); /* the keeper has what it needs */
	allocations = faults_allocations();
	for (int i = 0; i < ROUNDS; i++)
		(void) pqpool_release(acquire(pool));
	is_int(faults_allocations() - allocations, 0, "no allocation in %d loans, %s", ROUNDS, options);
	(void) pqpool_close(&pool, -1);
	settle();
}

static void
test_hand_off(void)
{
	pqpool *pool = open_pool("pool_max_size=1");
	pthread_t threads[4];
	long allocations;

	(void) pqpool_release(acquire(pool));
	(void) usleep(20000);
	allocations = faults_allocations();
	for (int i = 0; i < 4; i++)
		(void) faults_own_thread(&threads[i], borrow_often, pool);
	for (int i = 0; i < 4; i++)
		(void) pthread_join(threads[i], NULL);
	is_int(faults_allocations() - allocations, 4,
		   "one connection, four threads: one each, and none for %d loans", 4 * ROUNDS / 10);
	(void) pqpool_close(&pool, -1);
	settle();
}

int
main(void)
{
	faults_init();
	faults_clock(FAST_TIME);
	fakepq_behave((FakeServer){ .limit = -1 });
	(void) alarm(120);
	test_pool();
	test_connection();
	test_waiters();
	test_rounds("pool_reset=none");
	test_rounds("pool_reset=rollback");
	test_rounds("pool_peek_after=0");
	test_rounds("pool_bind=thread");
	test_hand_off();
	return done_testing();
}
