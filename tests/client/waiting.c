/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Callers that find no connection: their order, their deadlines, their
 *	  errors.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <signal.h>

/*---- exhaustion ----*/

static void
test_exhaustion(void)
{
	pqpool *pool = open_pool("application_name=exhaust pool_max_size=3 pool_acquire_timeout=200ms");
	PGconn *conns[3];
	pqpool_error err;
	double start;

	for (int i = 0; i < 3; i++)
		conns[i] = acquire_or_give_up(pool);
	is_int(stats_of(pool).in_use, 3, "all three are out");

	is_code(acquire_code(pool, 0), PQPOOL_TIMED_OUT, "a try does not wait");
	start = now_s();
	ok(pqpool_acquire(pool, 150, &err) == NULL, "an acquire with a deadline fails");
	is_code(err.code, PQPOOL_TIMED_OUT, "because of it");
	ok(now_s() - start >= 0.150, "and not before it");
	ok(strstr(err.message, "3") != NULL && strchr(err.message, '\n') == NULL,
	   "the message has figures: %s", err.message);
	is_str(err.sqlstate, "", "no server had a say");
	start = now_s();
	is_code(acquire_code(pool, -1), PQPOOL_TIMED_OUT, "pool_acquire_timeout is the default");
	ok(now_s() - start >= 0.200, "and is kept");
	ok(pqpool_acquire(pool, 1, NULL) == NULL, "whoever does not want to know need not");

	is_int(stats_of(pool).timeouts, 4, "four deadlines were counted");
	is_int(stats_of(pool).waiting, 0, "nobody is left in the queue");
	is_code(pqpool_release(conns[1]), PQPOOL_OK, "one comes back");
	ok((conns[1] = pqpool_acquire(pool, 0, &err)) != NULL, "and can be had without waiting");
	is_code(err.code, PQPOOL_OK, "success is written, too");
	for (int i = 0; i < 3; i++)
		(void) pqpool_release(conns[i]);
	ok(stats_of(pool).idle == 3 && stats_of(pool).size == 3, "all are idle");
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "closed");
}

/*---- order ----*/

#define WAITERS 30

typedef struct Line
{
	pqpool *pool;
	atomic_int served;
	int order[WAITERS + 1]; /* written by who holds the one connection */
	int code[WAITERS];
	int timeout_ms;
} Line;

static void
stand_in_line(int index, void *arg)
{
	Line *line = arg;
	pqpool_error err;
	PGconn *conn = pqpool_acquire(line->pool, line->timeout_ms, &err);

	line->code[index] = err.code;
	if (conn == NULL)
		return;
	line->order[atomic_fetch_add(&line->served, 1)] = index;
	(void) pqpool_release(conn);
}

/* Each is in the queue before the next one comes. */
static void
fill_line(Line *line, Threads *threads, int n)
{
	for (int i = 0; i < n; i++)
	{
		int before = stats_of(line->pool).waiting;

		start_thread(threads, stand_in_line, line);
		if (!WAIT_FOR(stats_of(line->pool).waiting == before + 1))
			give_up("a waiter did not queue");
	}
}

static int
count_out_of_order(const Line *line, int n)
{
	int wrong = 0;

	for (int i = 0; i < n; i++)
		wrong += line->order[i] != i;
	return wrong;
}

static void
test_order(void)
{
	Line line = { .pool = open_pool("pool_max_size=1 pool_max_waiters=1000"), .timeout_ms = 60000 };
	PGconn *conn = acquire_or_give_up(line.pool);
	Threads threads = { 0 };

	fill_line(&line, &threads, WAITERS);
	is_code(acquire_code(line.pool, 0), PQPOOL_TIMED_OUT, "with a queue a try gets nothing");

	/* The releaser comes back at once, and must queue up behind all others. */
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(line.pool);
	line.order[atomic_fetch_add(&line.served, 1)] = WAITERS;
	(void) pqpool_release(conn);
	join_threads(&threads);
	is_int(atomic_load(&line.served), WAITERS + 1, "everyone was served");
	is_int(count_out_of_order(&line, WAITERS + 1), 0, "in the order of coming, newcomers last");
	is_int(stats_of(line.pool).waiting, 0, "the queue is empty");
	(void) pqpool_close(&line.pool, -1);
}

/* Those that give up in the middle of the queue leave the others' order alone. */
static void
test_order_with_gaps(void)
{
	Line line = { .pool = open_pool("pool_max_size=1 pool_max_waiters=100"), .timeout_ms = 60000 };
	PGconn *conn = acquire_or_give_up(line.pool);
	Threads threads = { 0 };
	int timed_out = 0, last = -1, wrong = 0;

	for (int i = 0; i < 10; i++)
	{
		int waiting = stats_of(line.pool).waiting;

		/*
		 * timeout_ms is read after the thread has started, so it is set before and left
		 * until it waits
		 */
		line.timeout_ms = 60000;
		fill_line(&line, &threads, 1);
		line.timeout_ms = 100;
		start_thread(&threads, stand_in_line, &line);
		if (!WAIT_FOR(stats_of(line.pool).waiting == waiting + 1 &&
					  stats_of(line.pool).timeouts == (uint64_t) i + 1))
			give_up("a waiter did not give up");
	}
	(void) pqpool_release(conn);
	join_threads(&threads);
	for (int i = 0; i < 20; i++)
		timed_out += line.code[i] == PQPOOL_TIMED_OUT;
	is_int(timed_out, 10, "those with a deadline gave up");
	is_int(atomic_load(&line.served), 10, "the others were served");
	for (int i = 0; i < 10; i++)
	{
		wrong += line.order[i] <= last;
		last = line.order[i];
	}
	is_int(wrong, 0, "in order");
	(void) pqpool_close(&line.pool, -1);
}

static void
test_max_waiters(void)
{
	Line line = { .pool = open_pool("pool_max_size=1 pool_max_waiters=2"), .timeout_ms = 60000 };
	PGconn *conn = acquire_or_give_up(line.pool);
	Threads threads = { 0 };

	fill_line(&line, &threads, 2);
	is_code(acquire_code(line.pool, 60000), PQPOOL_EXHAUSTED, "the third waiter is told at once");
	is_int(stats_of(line.pool).waiting, 2, "and the two go on waiting");
	(void) pqpool_release(conn);
	join_threads(&threads);
	is_int(atomic_load(&line.served), 2, "until they are served");
	is_code(acquire_code(line.pool, 60000), PQPOOL_OK, "then there is room again");
	(void) pqpool_close(&line.pool, -1);

	line.pool = open_pool("pool_max_size=1");
	conn = acquire_or_give_up(line.pool);
	atomic_store(&line.served, 0);
	fill_line(&line, &threads, 10);
	is_code(acquire_code(line.pool, 60000), PQPOOL_EXHAUSTED, "by default ten may wait for each");
	(void) pqpool_release(conn);
	join_threads(&threads);
	(void) pqpool_close(&line.pool, -1);
}

/*---- the deadline covers everything ----*/

/* A server that takes connections and says nothing. */
static int
listen_and_say_nothing(char *directory, const char *port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (mkdtemp(directory) == NULL)
		give_up("no directory");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.%s", directory, port);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(fd, 8) != 0)
		give_up("no socket");
	return fd;
}

static void
test_silent_server(void)
{
	char directory[] = "/tmp/pqp_silent.XXXXXX";
	int fd = listen_and_say_nothing(directory, "5432");
	char conninfo[200], socket_path[200];
	pqpool *pool;
	pqpool_error err;
	double start = now_s();

	snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=x pool_max_size=2", directory);
	snprintf(socket_path, sizeof(socket_path), "%s/.s.PGSQL.5432", directory);
	pool = open_pool(conninfo);
	ok(pqpool_acquire(pool, 300, &err) == NULL, "a silent server gives no connection");
	is_code(err.code, PQPOOL_TIMED_OUT, "the deadline covers connecting");
	ok(now_s() - start >= 0.3, "the caller's, not an earlier one");
	ok(strstr(err.message, "open") != NULL || strstr(err.message, "connect") != NULL,
	   "the message says what it was waiting for: %s", err.message);
	is_code(acquire_code(pool, 0), PQPOOL_TIMED_OUT, "a try does not connect");
	close(fd);
	unlink(socket_path);
	rmdir(directory);
	is_code(pqpool_close(&pool, 60000), PQPOOL_OK, "a pool that is still connecting can be closed");
}

/* A backend that hangs: neither the check at acquire nor the reset at release may hang with it. */
static void
test_stopped_backend(void)
{
	pqpool *pool = open_pool("application_name=stopped pool_max_size=1 pool_validate_after=0"
							 " pool_reset_timeout=200ms");
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);
	int code;

	(void) pqpool_release(conn);
	if (kill(pid, SIGSTOP) != 0)
	{
		diag("cannot stop a backend: not the same user");
		(void) pqpool_close(&pool, -1);
		return;
	}
	code = acquire_code(pool, 300);
	kill(pid, SIGCONT);
	ok(code == PQPOOL_TIMED_OUT || code == PQPOOL_OK, "an acquire ends although the backend hangs");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "and then there is a connection");

	conn = acquire_or_give_up(pool);
	(void) run(conn, "BEGIN");
	pid = PQbackendPID(conn);
	kill(pid, SIGSTOP);
	is_code(pqpool_release(conn), PQPOOL_OK, "a release ends although the backend hangs");
	ok(stats_of(pool).discarded >= 1, "such a connection is not kept");
	kill(pid, SIGCONT);
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid && PQtransactionStatus(conn) == PQTRANS_IDLE,
	   "the next holder has another one");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/*---- no more than needed ----*/

/* One caller, one connection, although the pool makes its first report on it. */
static void
test_one_for_one(void)
{
	int more = 0;
	int reported = 0;

	for (int i = 0; i < 20; i++)
	{
		pqpool *pool = open_pool("application_name=single pool_max_size=10");

		for (int k = 0; k < 3; k++)
		{
			PGconn *conn = acquire_or_give_up(pool);

			(void) pqpool_release(conn);
		}
		reported += reported == i && WAIT_FOR(stats_of(pool).reports > 0);
		more += stats_of(pool).opened + (uint64_t) stats_of(pool).opening > 1;
		(void) pqpool_close(&pool, -1);
	}
	is_int(reported, 20, "twenty pools report");
	is_int(more, 0, "and have opened one connection each, for one caller each");
}

/*---- bad arguments ----*/

static void
test_arguments(void)
{
	pqpool *pool = open_pool("");
	pqpool_error err;

	ok(pqpool_acquire(NULL, -1, &err) == NULL, "no pool, no connection");
	is_code(err.code, PQPOOL_BAD_ARGUMENT, "NULL is a bad argument");
	ok(pqpool_acquire(pool, -2, &err) == NULL, "a timeout below -1 is none");
	is_code(err.code, PQPOOL_BAD_ARGUMENT, "but a bad argument");
	ok(pqpool_acquire(NULL, -1, NULL) == NULL, "also for who does not want to know");
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	test_exhaustion();
	test_order();
	test_order_with_gaps();
	test_max_waiters();
	test_silent_server();
	test_stopped_backend();
	test_one_for_one();
	test_arguments();
	return done_testing();
}
