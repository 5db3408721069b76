/*-------------------------------------------------------------------------
 *
 * default.c
 *	  The default pool, and the connections that threads have without one.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

/*---- initialization ----*/

#define INITIALIZERS 100

typedef struct Race
{
	pthread_barrier_t start;
	atomic_int first;	/* got PQPOOL_OK */
	atomic_int later;	/* got PQPOOL_ALREADY_INITIALIZED */
	atomic_int useful;	/* could use the pool right then */
	atomic_int unclear; /* anything else */
} Race;

static void
initialize(int index, void *arg)
{
	Race *race = arg;
	char conninfo[100];
	pqpool_error err;
	PGconn *conn;

	/*
	 * Even those whose options are wrong are told that there is a pool: they are not looked
	 * at then.
	 */
	snprintf(conninfo, sizeof(conninfo),
			 "application_name=race pool_max_waiters=1000 pool_max_size=%d", 1 + index % 5);
	pthread_barrier_wait(&race->start);
	switch (pqpool_initialize(conninfo, &err))
	{
		case PQPOOL_OK:
			atomic_fetch_add(&race->first, 1);
			break;
		case PQPOOL_ALREADY_INITIALIZED:
			if (err.code == PQPOOL_ALREADY_INITIALIZED && err.message[0] != '\0')
				atomic_fetch_add(&race->later, 1);
			break;
		default:
			diag("%s: %s", pqpool_code_name(err.code), err.message);
			atomic_fetch_add(&race->unclear, 1);
	}
	conn = pqpool_get_connection(&err);
	if (conn != NULL && query_int(conn, "SELECT 3") == 3 &&
		pqpool_return_connection(conn) == PQPOOL_OK)
		atomic_fetch_add(&race->useful, 1);
	else
		diag("%s: %s", pqpool_code_name(err.code), err.message);
}

static void
test_initialization(PGconn *direct)
{
	Race race = { 0 };
	pqpool_error err;

	is_code(pqpool_initialize("pool_max_size=none", &err), PQPOOL_BAD_OPTION,
			"bad options are told");
	ok(strstr(err.message, "pool_max_size") != NULL, "by name: %s", err.message);

	pthread_barrier_init(&race.start, NULL, INITIALIZERS);
	run_threads(INITIALIZERS, initialize, &race);
	is_int(atomic_load(&race.first), 1, "one of 100 threads opens the pool");
	is_int(atomic_load(&race.later), INITIALIZERS - 1, "all others hear that it is open");
	is_int(atomic_load(&race.useful), INITIALIZERS, "and could use it at that moment");
	ok(count_sessions(direct, "race") <= 5, "there is one pool");
	is_code(pqpool_initialize("pool_max_size=none", NULL), PQPOOL_ALREADY_INITIALIZED,
			"later ones' options are not looked at");
	is_code(pqpool_close_pool(), PQPOOL_OK, "the default pool closes");
	is_code(pqpool_close_pool(), PQPOOL_OK, "twice");
	ok(WAIT_FOR(count_sessions(direct, "race") == 0), "and leaves no session");
	pthread_barrier_destroy(&race.start);
}

static void
test_close_while_lent(PGconn *direct)
{
	PGconn *conn;
	pqpool_error err;

	is_code(pqpool_initialize("application_name=lent pool_max_size=2", &err), PQPOOL_OK,
			"a default pool again");
	conn = pqpool_get_connection(&err);
	ok(conn != NULL && query_int(conn, "SELECT 1") == 1, "a loan");
	is_code(pqpool_close_pool(), PQPOOL_OK, "the pool closes with the loan out");
	ok(query_int(conn, "SELECT 1") == 1, "which stays usable");
	is_code(pqpool_initialize("application_name=after pool_max_size=2", &err), PQPOOL_OK,
			"the next pool can be opened meanwhile");
	is_code(pqpool_return_connection(conn), PQPOOL_OK, "the loan is returned");
	ok(WAIT_FOR(count_sessions(direct, "lent") == 0), "to where it came from, and closed");
	is_code(pqpool_close_pool(), PQPOOL_OK, "closed");
}

/*---- no pool: a connection for each thread ----*/

typedef struct Own
{
	pthread_barrier_t all_have_one;
	pthread_barrier_t looked;
	PGconn *conns[16];
	atomic_int wrong;
} Own;

static void
use_own(int index, void *arg)
{
	Own *own = arg;
	pqpool_error err;
	PGconn *conn = pqpool_get_connection(&err);
	PGconn *again;
	bool fine = conn != NULL && query_int(conn, "SELECT 1") == 1;

	if (conn == NULL)
		diag("%s: %s", pqpool_code_name(err.code), err.message);
	own->conns[index] = conn;
	again = pqpool_get_connection(&err);
	fine = fine && again == conn; /* the same, and lent twice now */
	fine = fine && pqpool_return_connection(again) == PQPOOL_OK;
	fine = fine && run(conn, "BEGIN") && PQtransactionStatus(conn) == PQTRANS_INTRANS;
	fine = fine && pqpool_return_connection(conn) == PQPOOL_OK;
	fine = fine && pqpool_return_connection(conn) == PQPOOL_NOT_LENT;
	again = pqpool_get_connection(&err);
	fine = fine && again == conn && PQtransactionStatus(again) == PQTRANS_IDLE;
	if (!fine)
		atomic_fetch_add(&own->wrong, 1);

	pthread_barrier_wait(&own->all_have_one);
	/* 0..7 clean up themselves, 8..11 end with the connection returned, 12..15 with it lent */
	if (index < 12 && pqpool_return_connection(again) != PQPOOL_OK)
		atomic_fetch_add(&own->wrong, 1);
	if (index < 8 && (pqpool_cleanup_thread_local_connection() != PQPOOL_OK ||
					  pqpool_cleanup_thread_local_connection() != PQPOOL_OK))
		atomic_fetch_add(&own->wrong, 1);
	pthread_barrier_wait(&own->looked);
}

static int
count_distinct(PGconn **conns, int n)
{
	int distinct = 0;

	for (int i = 0; i < n; i++)
	{
		int k = 0;

		while (k < i && conns[k] != conns[i])
			k++;
		distinct += k == i;
	}
	return distinct;
}

static void
test_own_connections(PGconn *direct)
{
	Own own = { .wrong = 0 };
	Threads threads = { 0 };

	setenv("PGAPPNAME", "own", 1);
	pthread_barrier_init(&own.all_have_one, NULL, 17);
	pthread_barrier_init(&own.looked, NULL, 17);
	for (int i = 0; i < 16; i++)
		start_thread(&threads, use_own, &own);
	pthread_barrier_wait(&own.all_have_one);
	is_int(count_distinct(own.conns, 16), 16, "without a pool each thread has its own connection");
	pthread_barrier_wait(&own.looked);
	ok(WAIT_FOR(count_sessions(direct, "own") <= 8), "cleaning up closes it");
	join_threads(&threads);
	is_int(atomic_load(&own.wrong), 0,
		   "the same each time, returned as often as asked for, and clean");
	ok(WAIT_FOR(count_sessions(direct, "own") == 0), "the end of a thread closes it, lent or not");
	pthread_barrier_destroy(&own.all_have_one);
	pthread_barrier_destroy(&own.looked);
	unsetenv("PGAPPNAME");
}

typedef struct Attempt
{
	PGconn *conn;
	int code;
} Attempt;

static void
return_it(int index, void *arg)
{
	Attempt *attempt = arg;

	(void) index;
	attempt->code = pqpool_return_connection(attempt->conn);
}

/* A pool that is opened later takes over, and what was the thread's stays so. */
static void
test_own_and_pool(PGconn *direct)
{
	Attempt attempt;
	pqpool_error err;
	PGconn *own, *pooled;

	/*
	 * The last default pool was opened with this application_name, and own connections
	 * inherit its options.
	 */
	own = pqpool_get_connection(&err);
	ok(own != NULL && count_sessions(direct, "after") == 1,
	   "an own connection is made like the last default pool's");
	attempt.conn = own;
	run_threads(1, return_it, &attempt);
	is_code(attempt.code, PQPOOL_WRONG_THREAD, "another thread cannot return it");
	is_code(pqpool_transfer(own), PQPOOL_WRONG_THREAD, "and it cannot be handed over");

	is_code(pqpool_initialize("application_name=pooled pool_max_size=2", &err), PQPOOL_OK,
			"a pool is opened meanwhile");
	pooled = pqpool_get_connection(&err);
	ok(pooled != NULL && pooled != own, "from then on connections are the pool's");
	is_code(pqpool_return_connection(own), PQPOOL_OK, "the own one goes back as ever");
	is_code(pqpool_return_connection(pooled), PQPOOL_OK, "and so does the pool's");
	is_code(pqpool_cleanup_thread_local_connection(), PQPOOL_OK, "it is cleaned up");
	ok(WAIT_FOR(count_sessions(direct, "after") == 0), "and closed");
	is_code(pqpool_return_connection(own), PQPOOL_UNKNOWN_CONNECTION, "after which it is unknown");
	is_code(pqpool_close_pool(), PQPOOL_OK, "closed");
	is_code(pqpool_cleanup_thread_local_connection(), PQPOOL_OK, "nothing to clean up is fine");
}

/* A thread ends with a loan of the default pool. */
static void
get_and_die(int index, void *arg)
{
	pqpool_error err;

	(void) index;
	(void) arg;
	if (pqpool_get_connection(&err) == NULL)
		give_up("%s", err.message);
}

static void
get_and_return(int index, void *arg)
{
	int *code = arg;
	pqpool_error err;
	PGconn *conn = pqpool_get_connection(&err);

	(void) index;
	*code = conn != NULL ? pqpool_return_connection(conn) : err.code;
}

static void
test_thread_exit(PGconn *direct)
{
	pqpool_error err;
	int code = -1;

	is_code(pqpool_initialize("application_name=dying pool_max_size=1", &err), PQPOOL_OK,
			"a pool of one");
	for (int i = 0; i < 3; i++)
	{
		run_threads(1, get_and_die, NULL);
		run_threads(1, get_and_return, &code);
		is_code(code, PQPOOL_OK, "what a dead thread held is lent to the next one");
	}
	is_code(pqpool_close_pool(), PQPOOL_OK, "closed");
	ok(WAIT_FOR(count_sessions(direct, "dying") == 0), "nothing is left");
}

int
main(void)
{
	PGconn *direct = connect_directly("application_name=direct");

	test_own_connections(direct);
	test_initialization(direct);
	test_close_while_lent(direct);
	test_own_and_pool(direct);
	test_thread_exit(direct);
	PQfinish(direct);
	return done_testing();
}
