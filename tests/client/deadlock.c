/*-------------------------------------------------------------------------
 *
 * deadlock.c
 *	  Threads that wait for each other's connections are told so, long before
 *	  their deadline; and those that only look like it are not.
 *
 * A thread holds one connection and asks for another.  Whether it is found to be
 * in a deadlock is looked at soon after it has begun to wait, and then less and
 * less often; so where nothing is to be found, a test lets many times the first
 * delay pass before it goes on.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"

#define TIMEOUT_MS 60000
#define EARLY_S 30 /* far less than the timeout; as a rule it takes some milliseconds */
#define LOOKED_MS 300

/* One thread: holds from one pool, then asks another, or the same one. */
typedef struct Party
{
	pqpool *first;
	pqpool *second;
	PGconn *(*get)(pqpool *pool, int timeout_ms, pqpool_error *err);
	char name[32]; /* a thread gets the first 15 bytes */
	pthread_barrier_t *all_hold;
	bool asks_last; /* of two: when the other one waits already */
	int timeout_ms;
	int code;
	double took;
	pid_t tid;
	pqpool_error err;
} Party;

static PGconn *
get_acquired(pqpool *pool, int timeout_ms, pqpool_error *err)
{
	return pqpool_acquire(pool, timeout_ms, err);
}

/* By way of the current pool; its own timeout holds. */
static PGconn *
get_current(pqpool *pool, int timeout_ms, pqpool_error *err)
{
	PGconn *conn = NULL;

	(void) timeout_ms;
	PQPOOL_SCOPE(pool)
	conn = pqpool_get_connection(err);
	return conn;
}

static void
hold_and_ask(Party *party)
{
	PGconn *held, *more;
	double start;

	(void) pthread_setname_np(pthread_self(), party->name);
	party->tid = gettid();
	held = party->get(party->first, TIMEOUT_MS, &party->err);
	if (held == NULL)
		give_up("nothing to hold: %s", party->err.message);
	if (party->all_hold != NULL)
		pthread_barrier_wait(party->all_hold);
	if (party->asks_last && !WAIT_FOR(stats_of(party->second).waiting == 1))
		give_up("nobody waits");
	start = now_s();
	more = party->get(party->second, party->timeout_ms, &party->err);
	party->took = now_s() - start;
	party->code = party->err.code;
	if (more != NULL)
		(void) pqpool_release(more);
	(void) pqpool_release(held);
}

static void
be_party(int index, void *arg)
{
	hold_and_ask(&((Party *) arg)[index]);
}

/*
 * n threads in a ring: each asks for what the next one holds.  The first one may be less
 * patient, and last.
 */
static void
run_ring(Party *parties, int n, pqpool **pools, int npools,
		 PGconn *(*get)(pqpool *, int, pqpool_error *), int first_timeout_ms)
{
	pthread_barrier_t all_hold;
	Threads threads = { 0 };

	pthread_barrier_init(&all_hold, NULL, (unsigned) n);
	for (int i = 0; i < n; i++)
	{
		parties[i] = (Party){ .first = pools[i % npools],
							  .second = pools[(i + 1) % npools],
							  .get = get,
							  .all_hold = &all_hold,
							  .asks_last = i == 0 && first_timeout_ms < TIMEOUT_MS,
							  .timeout_ms = i == 0 ? first_timeout_ms : TIMEOUT_MS };
		snprintf(parties[i].name, sizeof(parties[i].name), "party-%d", i);
		start_thread(&threads, be_party, parties);
	}
	join_threads(&threads);
	pthread_barrier_destroy(&all_hold);
}

static bool
names(const char *message, const Party *party)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "%d (%s)", (int) party->tid, party->name);
	return strstr(message, expected) != NULL;
}

/* Exactly one was told, early, and the message names all; the others went on. */
static void
one_was_told(const Party *parties, int n, const char *what)
{
	const Party *told = NULL;
	int ntold = 0, served = 0, named = 0;

	for (int i = 0; i < n; i++)
	{
		served += parties[i].code == PQPOOL_OK;
		if (parties[i].code == PQPOOL_DEADLOCK)
		{
			told = &parties[i];
			ntold++;
		}
	}
	is_int(ntold, 1, "%s: one thread is told of the deadlock", what);
	is_int(served, n - 1, "%s: once it has given back what it held the others go on", what);
	for (int i = 0; i < n && told != NULL; i++)
		named += names(told->err.message, &parties[i]);
	if (!ok(told != NULL && named == n, "%s: the message names all threads by number and name",
			what))
		diag("%s", told != NULL ? told->err.message : "nobody was told");
	ok(told != NULL && told->took < EARLY_S, "%s: it took %.3f s, with a timeout of %d s", what,
	   told != NULL ? told->took : -1, TIMEOUT_MS / 1000);
}

/*---- deadlocks ----*/

static void
test_two_threads(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_bind=thread");
	Party parties[2];

	for (int round = 0; round < 5; round++)
	{
		run_ring(parties, 2, &pool, 1, get_acquired, TIMEOUT_MS);
		one_was_told(parties, 2, "two threads");
	}
	is_int(stats_of(pool).errors[PQPOOL_DEADLOCK], 5, "they were counted");
	is_int(stats_of(pool).timeouts, 0, "and are no timeouts");
	is_int(stats_of(pool).waiting, 0, "nobody is left in the queue");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "and the pool works on");
	(void) pqpool_close(&pool, -1);
}

static void
test_one_thread(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_bind=thread");
	PGconn *a = acquire_or_give_up(pool), *b = acquire_or_give_up(pool);
	double start = now_s();
	pqpool_error err;

	ok(pqpool_acquire(pool, TIMEOUT_MS, &err) == NULL, "a thread that has all asks for more");
	is_code(err.code, PQPOOL_DEADLOCK, "it waits for itself");
	ok(now_s() - start < EARLY_S, "and is told early");
	(void) pqpool_release(a);
	is_code(acquire_code(pool, TIMEOUT_MS), PQPOOL_OK, "with one of them given back it gets it");
	is_code(pqpool_transfer(b), PQPOOL_OK, "the other one is unbound");
	a = acquire_or_give_up(pool);
	is_code(acquire_code(pool, LOOKED_MS), PQPOOL_TIMED_OUT,
			"somebody else might give that back: no deadlock");
	is_code(pqpool_adopt(b), PQPOOL_OK, "it is bound again");
	is_code(acquire_code(pool, TIMEOUT_MS), PQPOOL_DEADLOCK, "a deadlock again");
	(void) pqpool_release(a);
	(void) pqpool_release(b);
	(void) pqpool_close(&pool, -1);
}

static void
test_rings(void)
{
	pqpool *pools[3];
	Party parties[3];

	for (int i = 0; i < 3; i++)
		pools[i] = open_pool("pool_max_size=1 pool_bind=thread");
	run_ring(parties, 2, pools, 2, get_acquired, TIMEOUT_MS);
	one_was_told(parties, 2, "two pools");
	run_ring(parties, 3, pools, 3, get_acquired, TIMEOUT_MS);
	one_was_told(parties, 3, "three pools");
	for (int i = 0; i < 3; i++)
		(void) pqpool_close(&pools[i], -1);
	pools[0] = open_pool("pool_max_size=3 pool_bind=thread");
	run_ring(parties, 3, pools, 1, get_acquired, TIMEOUT_MS);
	one_was_told(parties, 3, "three threads");
	(void) pqpool_close(&pools[0], -1);
}

static void
test_current_pool(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_acquire_timeout=60s");
	Party parties[2];

	run_ring(parties, 2, &pool, 1, get_current, TIMEOUT_MS);
	one_was_told(parties, 2, "the current pool's loans are bound");
	(void) pqpool_close(&pool, -1);
}

/* Not by somebody's beginning to wait, but by the pool's becoming smaller. */
static void
test_completed_later(void)
{
	pqpool *pool = open_pool("pool_max_size=3 pool_bind=thread");
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };
	Party parties[2];

	for (int i = 0; i < 2; i++)
	{
		parties[i] =
			(Party){ .first = pool, .second = pool, .get = get_acquired, .timeout_ms = TIMEOUT_MS };
		snprintf(parties[i].name, sizeof(parties[i].name), "party-%d", i);
		start_thread(&threads, be_party, parties);
	}
	if (!WAIT_FOR(stats_of(pool).waiting == 2))
		give_up("nobody waits");
	sleep_ms(LOOKED_MS);
	is_int(stats_of(pool).waiting, 2, "as long as somebody else holds one it is no deadlock");
	(void) pqpool_resize(pool, -1, 2, NULL);
	(void) pqpool_release(conn);
	join_threads(&threads);
	one_was_told(parties, 2, "a pool becomes smaller");
	(void) pqpool_close(&pool, -1);
}

/* Nobody can know that it is one, but the message may say so. */
static void
test_unbound(void)
{
	pqpool *pool = open_pool("pool_max_size=2");
	Party parties[2];
	const char *message;

	run_ring(parties, 2, &pool, 1, get_acquired, 1000);
	is_code(parties[0].code, PQPOOL_TIMED_OUT, "of unbound loans it is not certain: one times out");
	ok(parties[0].took >= 1, "not before its time");
	is_code(parties[1].code, PQPOOL_OK, "and the other one gets what that gives back");
	message = parties[0].err.message;
	if (!ok(strstr(message, "threads that wait as well") != NULL && names(message, &parties[0]) &&
				names(message, &parties[1]),
			"but the message says what it looks like"))
		diag("%s", message);
	(void) pqpool_close(&pool, -1);
}

/*---- what is none ----*/

/* Begin to wait, be looked at, then be served by what the test does. */
static void
start_party(Threads *threads, Party *party, pqpool *first, pqpool *second)
{
	*party = (Party){ .first = first,
					  .second = second,
					  .get = get_acquired,
					  .name = "party",
					  .timeout_ms = TIMEOUT_MS };
	start_thread(threads, be_party, party);
	if (!WAIT_FOR(stats_of(second).waiting == 1))
		give_up("nobody waits");
	sleep_ms(LOOKED_MS);
}

static void
test_holder_is_busy(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_bind=thread");
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };
	Party party;

	start_party(&threads, &party, pool, pool);
	is_int(stats_of(pool).waiting, 1,
		   "one of the holders does something else: the other one waits");
	(void) pqpool_release(conn);
	join_threads(&threads);
	is_code(party.code, PQPOOL_OK, "until it is given back");
	(void) pqpool_close(&pool, -1);
}

static void
test_paused(void)
{
	pqpool *pool = open_pool("pool_max_size=1 pool_bind=thread");
	pqpool *other = open_pool("pool_max_size=1 pool_bind=thread");
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };
	Party party;

	(void) pqpool_release(conn);
	(void) pqpool_pause(pool);
	start_party(&threads, &party, other, pool);
	is_int(stats_of(pool).waiting, 1, "a paused pool is waited for");
	(void) pqpool_resume(pool);
	join_threads(&threads);
	is_code(party.code, PQPOOL_OK, "until it is resumed");
	(void) pqpool_close(&pool, -1);
	(void) pqpool_close(&other, -1);
}

/* A pool that may grow, but whose server does not answer yet. */
static atomic_bool configure_waits;

static int
slow_configure(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	while (atomic_load(&configure_waits))
		sleep_ms(2);
	return 0;
}

static void
test_opening(void)
{
	pqpool_hooks hooks = { .configure = slow_configure };
	pqpool *pool = pqpool_open_hooked("pool_max_size=2 pool_bind=thread", &hooks, NULL);
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };
	Party party;

	(void) pqpool_release(conn);
	atomic_store(&configure_waits, true);
	start_party(&threads, &party, pool, pool);
	is_int(stats_of(pool).opening, 1, "a connection is being opened");
	is_int(stats_of(pool).waiting, 1, "and waited for");
	atomic_store(&configure_waits, false);
	join_threads(&threads);
	is_code(party.code, PQPOOL_OK, "until it is there");
	(void) pqpool_close(&pool, -1);
}

static void
test_resized(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_bind=thread");
	PGconn *conn = acquire_or_give_up(pool);
	Threads threads = { 0 };
	Party party;

	start_party(&threads, &party, pool, pool);
	is_code(pqpool_resize(pool, -1, 3, NULL), PQPOOL_OK, "the pool may grow");
	join_threads(&threads);
	is_code(party.code, PQPOOL_OK, "and the waiter is served");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/* A thread whose request is in an inbox does not wait: it may give back what it holds. */
static void
test_inbox(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_bind=thread");
	pqpool_inbox *inbox = pqpool_inbox_open(NULL);
	PGconn *conn = acquire_or_give_up(pool), *got = NULL;
	Threads threads = { 0 };
	Party party = { .first = pool,
					.second = pool,
					.get = get_acquired,
					.name = "party",
					.timeout_ms = TIMEOUT_MS };
	pqpool_error err;
	void *tag;

	start_thread(&threads, be_party, &party);
	if (!WAIT_FOR(stats_of(pool).waiting == 1))
		give_up("nobody waits");
	is_code(pqpool_acquire_start(pool, TIMEOUT_MS, inbox, NULL, NULL, &err), PQPOOL_OK,
			"a request is queued by the thread that holds the other one");
	sleep_ms(LOOKED_MS);
	is_int(stats_of(pool).waiting, 2, "which is no deadlock");
	(void) pqpool_release(conn);
	ok(WAIT_FOR(pqpool_inbox_next(inbox, &tag, &got, &err) == 1) && got != NULL,
	   "all are served when it has given that back");
	(void) pqpool_release(got);
	join_threads(&threads);
	is_code(party.code, PQPOOL_OK, "the other thread as well");
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	test_two_threads();
	test_one_thread();
	test_rings();
	test_current_pool();
	test_completed_later();
	test_unbound();
	test_holder_is_busy();
	test_paused();
	test_opening();
	test_resized();
	test_inbox();
	return done_testing();
}
