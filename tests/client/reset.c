/*-------------------------------------------------------------------------
 *
 * reset.c
 *	  What the next holder finds of the last one, for each line of the table at
 *	  pqpool_release() and each pool_reset; and DISCARD ALL, which goes on
 *	  after the release.
 *
 * state.c has transactions, and what is not worth keeping.  Here, a backend
 * that is stopped (SIGSTOP) is a server that takes its time.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "leave.h"

#include <dirent.h>
#include <libpq-events.h>
#include <signal.h>

static PGconn *direct;

static const char *const policies[] = { "none", "rollback", "discard" };

/* The value of a setting; it lives until the thread's next call. */
static const char *
setting(PGconn *conn, const char *name)
{
	static __thread char value[200];
	char sql[100];
	char *text;

	snprintf(sql, sizeof(sql), "SHOW %s", name);
	text = query_text(conn, sql);
	snprintf(value, sizeof(value), "%s", text ? text : "");
	free(text);
	return value;
}

/*
 * The table.  leave() changes something; is_left() says whether it can be seen.
 */

static FILE *traced;
static atomic_int heard;

static void
leave_set(PGconn *conn)
{
	(void) run(conn, "SET work_mem = '77kB'");
}

static bool
set_is_left(PGconn *conn)
{
	return strcmp(setting(conn, "work_mem"), "77kB") == 0;
}

static void
leave_table(PGconn *conn)
{
	(void) run(conn, "CREATE TEMP TABLE mine (a int)");
}

static bool
table_is_left(PGconn *conn)
{
	return query_int(conn, "SELECT count(*) FROM pg_class WHERE relname = 'mine'") == 1;
}

static void
leave_listen(PGconn *conn)
{
	(void) run(conn, "LISTEN gossip");
}

static bool
listen_is_left(PGconn *conn)
{
	return query_int(conn, "SELECT count(*) FROM pg_listening_channels()") == 1;
}

static void
leave_statement(PGconn *conn)
{
	PQclear(PQprepare(conn, "p", "SELECT 42", 0, NULL));
}

static bool
statement_is_left(PGconn *conn)
{
	PGresult *result = PQexecPrepared(conn, "p", 0, NULL, NULL, NULL, 0);
	bool left = PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	return left;
}

static void
leave_cursor(PGconn *conn)
{
	(void) run(conn, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT");
}

static bool
cursor_is_left(PGconn *conn)
{
	return run(conn, "FETCH c");
}

static void
leave_lock(PGconn *conn)
{
	(void) run(conn, "SELECT pg_advisory_lock(8)");
}

static bool
lock_is_left(PGconn *conn)
{
	return query_int(conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
						   " AND pid = pg_backend_pid()") == 1;
}

static void
leave_role(PGconn *conn)
{
	(void) run(conn, "SET ROLE pg_monitor");
}

static bool
role_is_left(PGconn *conn)
{
	return query_int(conn, "SELECT (current_user = 'pg_monitor')::int") == 1;
}

static void
leave_authorization(PGconn *conn)
{
	(void) run(conn, "SET SESSION AUTHORIZATION pg_monitor");
}

static bool
authorization_is_left(PGconn *conn)
{
	return query_int(conn, "SELECT (session_user = 'pg_monitor')::int") == 1;
}

static void
leave_read_only(PGconn *conn)
{
	(void) run(conn, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY");
}

static bool
read_only_is_left(PGconn *conn)
{
	return strcmp(setting(conn, "transaction_read_only"), "on") == 0;
}

static void
leave_encoding(PGconn *conn)
{
	(void) PQsetClientEncoding(conn, "LATIN1");
}

static bool
encoding_is_left(PGconn *conn)
{
	return strcmp(pg_encoding_to_char(PQclientEncoding(conn)), "LATIN1") == 0 &&
		   strcmp(setting(conn, "client_encoding"), "LATIN1") == 0;
}

static void
hear_message(void *arg, const char *message)
{
	(void) arg;
	(void) message;
	atomic_fetch_add(&heard, 1);
}

static void
hear_result(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
	atomic_fetch_add(&heard, 1);
}

/* Are those in force others than libpq's own? */
static bool
hearer_is_left(PGconn *conn)
{
	return PQsetNoticeProcessor(conn, NULL, NULL) != PQsetNoticeProcessor(direct, NULL, NULL) ||
		   PQsetNoticeReceiver(conn, NULL, NULL) != PQsetNoticeReceiver(direct, NULL, NULL);
}

static void
leave_processor(PGconn *conn)
{
	(void) PQsetNoticeProcessor(conn, hear_message, NULL);
}

static void
leave_receiver(PGconn *conn)
{
	(void) PQsetNoticeReceiver(conn, hear_result, NULL);
}

static void
leave_verbosity(PGconn *conn)
{
	(void) PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
}

static bool
verbosity_is_left(PGconn *conn)
{
	return PQsetErrorVerbosity(conn, PQERRORS_DEFAULT) != PQERRORS_DEFAULT;
}

static void
leave_context(PGconn *conn)
{
	(void) PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ALWAYS);
}

static bool
context_is_left(PGconn *conn)
{
	return PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ERRORS) != PQSHOW_CONTEXT_ERRORS;
}

static void
leave_trace(PGconn *conn)
{
	PQtrace(conn, traced);
}

static bool
trace_is_left(PGconn *conn)
{
	long before = ftell(traced);

	(void) run(conn, "SELECT 1");
	return ftell(traced) > before;
}

static void
leave_nonblocking(PGconn *conn)
{
	(void) PQsetnonblocking(conn, 1);
}

static bool
nonblocking_is_left(PGconn *conn)
{
	return PQisnonblocking(conn) != 0;
}

/* Received, and kept by libpq. */
static void
leave_notify(PGconn *conn)
{
	(void) run(conn, "LISTEN gossip");
	(void) run(direct, "NOTIFY gossip, 'not for you'");
	(void) run(conn, "SELECT 1");
	(void) run(conn, "UNLISTEN gossip");
}

static bool
notify_is_left(PGconn *conn)
{
	PGnotify *notify;
	bool left;

	(void) run(conn, "SELECT 1");
	notify = PQnotifies(conn);
	left = notify != NULL;
	PQfreemem(notify);
	return left;
}

static int
hear_event(PGEventId id, void *info, void *arg)
{
	(void) info;
	(void) arg;
	if (id == PGEVT_RESULTCREATE)
		atomic_fetch_add(&heard, 1);
	return 1;
}

static void
leave_event(PGconn *conn)
{
	(void) PQregisterEventProc(conn, hear_event, "test", NULL);
}

static bool
event_is_left(PGconn *conn)
{
	int before = atomic_load(&heard);
	PGresult *result = PQexec(conn, "SELECT 1");
	int fired = PQfireResultCreateEvents(conn, result);

	PQclear(result);
	return fired && atomic_load(&heard) > before;
}

/* What makes the connection unfit. */

static bool
nothing_is_left(PGconn *conn)
{
	return PQtransactionStatus(conn) != PQTRANS_IDLE || PQpipelineStatus(conn) != PQ_PIPELINE_OFF ||
		   query_int(conn, "SELECT 1") != 1;
}

static void
leave_transaction(PGconn *conn)
{
	(void) run(conn, "BEGIN; SET LOCAL work_mem = '77kB'; LOCK pg_description");
}

static bool
transaction_is_left(PGconn *conn)
{
	return PQtransactionStatus(conn) != PQTRANS_IDLE || set_is_left(conn) ||
		   query_int(conn, "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
						   " AND relation = 'pg_description'::regclass") > 0;
}

#define NONE 1
#define ROLLBACK 2
#define DISCARD 4
#define ALL (NONE | ROLLBACK | DISCARD)

static const struct Row
{
	const char *what;
	void (*leave)(PGconn *conn);
	bool (*is_left)(PGconn *conn);
	int left; /* policies by which the next holder may see it; else he does not */
	int kept; /* policies by which he gets the same connection */
} table[] = {
	{ "SET", leave_set, set_is_left, NONE | ROLLBACK, ALL },
	{ "a temporary table", leave_table, table_is_left, NONE | ROLLBACK, ALL },
	{ "LISTEN", leave_listen, listen_is_left, NONE | ROLLBACK, ALL },
	{ "a prepared statement", leave_statement, statement_is_left, NONE | ROLLBACK, ALL },
	{ "a cursor WITH HOLD", leave_cursor, cursor_is_left, NONE | ROLLBACK, ALL },
	{ "an advisory lock", leave_lock, lock_is_left, NONE | ROLLBACK, ALL },
	{ "SET ROLE", leave_role, role_is_left, NONE | ROLLBACK, ALL },
	{ "SET SESSION AUTHORIZATION", leave_authorization, authorization_is_left, NONE | ROLLBACK,
	  ALL },
	{ "read only", leave_read_only, read_only_is_left, NONE | ROLLBACK, ALL },
	{ "client_encoding", leave_encoding, encoding_is_left, NONE | ROLLBACK, ALL },
	{ "a notice processor", leave_processor, hearer_is_left, 0, ALL },
	{ "a notice receiver", leave_receiver, hearer_is_left, 0, ALL },
	{ "verbosity", leave_verbosity, verbosity_is_left, 0, ALL },
	{ "context visibility", leave_context, context_is_left, 0, ALL },
	{ "a trace", leave_trace, trace_is_left, 0, ALL },
	{ "nonblocking", leave_nonblocking, nonblocking_is_left, 0, ALL },
	{ "a NOTIFY that was not read", leave_notify, notify_is_left, 0, ALL },
	{ "an event procedure", leave_event, event_is_left, ALL, ALL },
	{ "a running query", leave_query, nothing_is_left, 0, 0 },
	{ "half a result", leave_single_row, nothing_is_left, 0, 0 },
	{ "pipeline mode", leave_pipeline, nothing_is_left, 0, 0 },
	{ "COPY", leave_copy_out, nothing_is_left, 0, 0 },
	{ "a transaction", leave_transaction, transaction_is_left, 0, ROLLBACK | DISCARD },
};

typedef struct Look
{
	pqpool *pool;
	const struct Row *row;
	int pid;
	bool left;
} Look;

static void
look(int index, void *arg)
{
	Look *l = arg;
	PGconn *conn = acquire_or_give_up(l->pool);

	(void) index;
	l->pid = PQbackendPID(conn);
	l->left = l->row->is_left(conn);
	(void) pqpool_discard(conn);
}

/* elsewhere: the next holder is another thread; else it is this one, by the shortest way. */
static void
test_row(const struct Row *row, int p, bool elsewhere)
{
	Look l = { .row = row };
	char conninfo[100];
	PGconn *conn;
	int pid;

	snprintf(conninfo, sizeof(conninfo), " pool_max_size=1 pool_report=off pool_reset=%s",
			 policies[p]);
	l.pool = open_pool(conninfo);
	conn = acquire_or_give_up(l.pool);
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(l.pool);
	pid = PQbackendPID(conn);
	row->leave(conn);
	if (pqpool_release(conn) != PQPOOL_OK)
		give_up("a release failed");
	if (elsewhere)
		run_threads(1, look, &l);
	else
		look(0, &l);
	is_int(l.left, (row->left >> p & 1) != 0, "%s, %s: seen by the next holder%s", policies[p],
		   row->what, elsewhere ? " in another thread" : "");
	is_int(l.pid == pid, (row->kept >> p & 1) != 0, "... the connection is kept");
	(void) pqpool_close(&l.pool, -1);
}

static void
test_table(void)
{
	traced = tmpfile();
	for (int i = 0; i < countof(table); i++)
		for (int p = 0; p < countof(policies); p++)
			for (int elsewhere = 0; elsewhere < 2; elsewhere++)
				test_row(&table[i], p, elsewhere);
	fclose(traced);
}

/*
 * DISCARD ALL in the background.
 */

static void
stop(int pid)
{
	if (kill(pid, SIGSTOP) != 0)
		give_up("cannot stop a backend: not the same user");
}

/* A connection that was given back, and whose DISCARD ALL is not answered. */
static int
release_stopped(pqpool *pool)
{
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);

	(void) run(conn, "SET work_mem = '77kB'");
	stop(pid);
	if (pqpool_release(conn) != PQPOOL_OK)
		give_up("a release failed");
	return pid;
}

typedef struct Waiting
{
	pqpool *pool;
	atomic_int pid; /* of what was acquired */
	atomic_bool clean;
} Waiting;

static void
wait_for_one(int index, void *arg)
{
	Waiting *waiting = arg;
	PGconn *conn = acquire_or_give_up(waiting->pool);

	(void) index;
	atomic_store(&waiting->clean, !set_is_left(conn));
	atomic_store(&waiting->pid, PQbackendPID(conn));
	(void) pqpool_release(conn);
}

static void
test_background(void)
{
	Waiting waiting = { .pool = open_pool("application_name=back pool_max_size=1 pool_reset=discard"
										  " pool_reset_timeout=10min pool_report=off") };
	Threads threads = { 0 };
	int pid = release_stopped(waiting.pool);

	/* had it waited for the server, it would not have come back */
	ok(true, "release does not wait for DISCARD ALL");
	is_int(stats_of(waiting.pool).resetting, 1, "which is under way");
	is_int(stats_of(waiting.pool).idle, 0, "so that it is not idle");
	is_code(acquire_code(waiting.pool, 0), PQPOOL_TIMED_OUT, "a try does not get it");
	is_code(acquire_code(waiting.pool, 100), PQPOOL_TIMED_OUT, "nor does an acquire");
	start_thread(&threads, wait_for_one, &waiting);
	ok(WAIT_FOR(stats_of(waiting.pool).waiting == 1), "somebody waits");
	sleep_ms(50);
	is_int(atomic_load(&waiting.pid), 0, "as long as there is no answer");
	(void) kill(pid, SIGCONT);
	join_threads(&threads);
	is_int(atomic_load(&waiting.pid), pid, "then he gets it");
	ok(atomic_load(&waiting.clean), "clean");
	ok(WAIT_FOR(stats_of(waiting.pool).idle == 1), "and it is idle");
	is_int(stats_of(waiting.pool).opened, 1, "no other was opened");
	is_int(stats_of(waiting.pool).resets, 2, "two resets were made");
	(void) pqpool_close(&waiting.pool, -1);
}

static void
test_deadline(void)
{
	Waiting waiting = { .pool = open_pool("application_name=dead pool_max_size=1 pool_reset=discard"
										  " pool_reset_timeout=200ms pool_report=off") };
	Threads threads = { 0 };
	int pid = release_stopped(waiting.pool);

	start_thread(&threads, wait_for_one, &waiting);
	join_threads(&threads);
	ok(atomic_load(&waiting.pid) != pid, "who waits for one that hangs gets a new one");
	is_int(stats_of(waiting.pool).closed_by[PQPOOL_CLOSE_UNFIT], 1, "the other is closed as unfit");
	is_int(stats_of(waiting.pool).discarded, 1, "and counted as discarded");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(count_sessions(direct, "dead") == 1), "its session ends");
	ok(WAIT_FOR(stats_of(waiting.pool).idle == 1) && stats_of(waiting.pool).size == 1,
	   "one place, one connection");
	(void) pqpool_close(&waiting.pool, -1);
}

/* Who waits is served by another connection, if there may be one. */
static void
test_beside(void)
{
	pqpool *pool = open_pool("pool_max_size=2 pool_reset=discard pool_reset_timeout=10min"
							 " pool_report=off");
	int pid = release_stopped(pool);
	PGconn *conn = acquire_or_give_up(pool);

	ok(PQbackendPID(conn) != pid,
	   "a reset that hangs holds up nobody, as long as more may be opened");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(stats_of(pool).idle == 1), "and its connection comes back");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/* One thread that comes back at once needs no second connection. */
static void
test_loop(void)
{
	pqpool *pool = open_pool("pool_max_size=10 pool_reset=discard");
	int wrong = 0;

	for (int i = 0; i < 500; i++)
	{
		PGconn *conn = acquire_or_give_up(pool);

		wrong += set_is_left(conn);
		(void) run(conn, "SET work_mem = '77kB'");
		(void) pqpool_release(conn);
	}
	is_int(wrong, 0, "a loop never meets itself");
	/* a second one is opened only when the server has been silent for a while */
	ok(stats_of(pool).opened <= 5, "and keeps its connection (%d opened)",
	   (int) stats_of(pool).opened);
	(void) pqpool_close(&pool, -1);
}

/* DISCARD ALL fails: the table that it drops is locked, and the session does not wait for locks. */
static void
test_failing(void)
{
	pqpool *pool = open_pool("pool_max_size=1 pool_reset=discard"
							 " options='-c lock_timeout=100ms'");
	PGconn *conn = acquire_or_give_up(pool);
	int pid = PQbackendPID(conn);
	char sql[200];

	(void) run(conn, "CREATE TEMP TABLE locked (a int)");
	snprintf(sql, sizeof(sql), "LOCK TABLE pg_temp_%lld.locked",
			 query_int(conn, "SELECT substr(nspname, 9)::int FROM pg_namespace"
							 " WHERE oid = pg_my_temp_schema()"));
	(void) run(direct, "BEGIN");
	ok(run(direct, sql), "somebody else locks a temporary table");
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	(void) run(direct, "ROLLBACK");
	ok(PQbackendPID(conn) != pid, "a connection whose DISCARD ALL fails is not lent");
	is_int(stats_of(pool).closed_by[PQPOOL_CLOSE_UNFIT], 1, "but closed as unfit");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

static void
test_rollback_first(void)
{
	pqpool *pool = open_pool("pool_max_size=1 pool_reset=discard pool_report=off");

	for (int i = 0; i < 50; i++)
	{
		PGconn *conn = acquire_or_give_up(pool);

		(void) run(conn, "BEGIN; SELECT pg_advisory_xact_lock(9)");
		(void) pqpool_release(conn);
		if (query_int(direct, "SELECT pg_try_advisory_lock(9)::int") != 1)
		{
			ok(false, "a lock outlived release, in round %d", i);
			break;
		}
		(void) run(direct, "SELECT pg_advisory_unlock_all()");
	}
	is_int(stats_of(pool).opened, 1, "when release returns, the transaction is over");
	(void) pqpool_close(&pool, -1);
}

static void
test_killed(void)
{
	Waiting waiting = { .pool = open_pool("pool_max_size=1 pool_reset=discard pool_report=off"
										  " pool_reset_timeout=10min") };
	int pid = release_stopped(waiting.pool);
	Threads threads = { 0 };

	start_thread(&threads, wait_for_one, &waiting);
	(void) WAIT_FOR(stats_of(waiting.pool).waiting == 1);
	(void) query_int(direct, "SELECT pg_terminate_backend(%d)::int", pid);
	(void) kill(pid, SIGCONT);
	join_threads(&threads);
	ok(atomic_load(&waiting.pid) != pid, "a session that ends while it is reset is replaced");
	is_int(stats_of(waiting.pool).closed_by[PQPOOL_CLOSE_DEAD], 1, "and was closed as dead");
	(void) pqpool_close(&waiting.pool, -1);
}

static void
test_close_and_drain(void)
{
	static const char conninfo[] = "application_name=steered pool_max_size=2 pool_reset=discard"
								   " pool_reset_timeout=10min pool_report=off";
	pqpool *pool = open_pool(conninfo);
	int pid = release_stopped(pool);
	PGconn *conn;

	is_code(pqpool_drain(pool, 0), PQPOOL_TIMED_OUT, "drained while one is being reset");
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid, "others are opened");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(stats_of(pool).closed_by[PQPOOL_CLOSE_DRAIN] == 1), "when it is done it is closed");
	(void) pqpool_release(conn);

	(void) WAIT_FOR(stats_of(pool).idle == 1);
	pid = release_stopped(pool);
	is_code(pqpool_resize(pool, -1, 1, NULL), PQPOOL_OK, "resized while one is being reset");
	is_code(pqpool_close(&pool, 0), PQPOOL_TIMED_OUT, "closed while one is being reset");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(count_sessions(direct, "steered") == 0), "its session ends when it is done");

	pool = open_pool(conninfo);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	is_code(pqpool_close(&pool, 0), PQPOOL_TIMED_OUT, "closed while one is out");
	stop(pid);
	is_code(pqpool_release(conn), PQPOOL_OK, "it is given back");
	(void) kill(pid, SIGCONT);
	ok(WAIT_FOR(count_sessions(direct, "steered") == 0), "and closed");
}

/* Several at once, given back by several threads. */
static void
give_back_all(int index, void *arg)
{
	(void) index;
	for (int i = 0; i < 50; i++)
	{
		PGconn *conn = acquire_or_give_up(arg);

		if (set_is_left(conn))
			ok(false, "a connection is not clean");
		(void) run(conn, i % 3 == 0 ? "BEGIN; SET work_mem = '77kB'" : "SET work_mem = '77kB'");
		(void) pqpool_release(conn);
	}
}

static void
test_many(void)
{
	pqpool *pool = open_pool("pool_max_size=4 pool_reset=discard pool_acquire_timeout=120s");

	run_threads(8, give_back_all, pool);
	ok(WAIT_FOR(stats_of(pool).resetting == 0), "all resets end");
	ok(stats_of(pool).opened <= 4 && stats_of(pool).discarded == 0, "none of them failed");
	is_int(stats_of(pool).acquires, 400, "everybody was served");
	(void) pqpool_close(&pool, -1);
}

/*
 * Cancelling too late.
 */

static void
cancel_it(int index, void *arg)
{
	(void) index;
	(void) pqpool_cancel(arg, 60000, NULL);
}

/* Is a request to cancel on its way? */
static bool
cancel_is_under_way(void)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	bool found = false;

	while (threads != NULL && (entry = readdir(threads)) != NULL)
	{
		char path[300], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (file == NULL)
			continue;
		found = found || (fgets(name, sizeof(name), file) && strcmp(name, "pqpool-cancel\n") == 0);
		fclose(file);
	}
	if (threads != NULL)
		closedir(threads);
	return found;
}

/* Given back while a request is under way, which a server that is stopped does not answer. */
static void
test_late_cancel(void)
{
	/* max_size 1: the next holder would get the same */
	pqpool *pool = open_pool("pool_max_size=1 pool_report=off");
	pid_t postmaster =
		(pid_t) query_int(direct, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
	int hit = 0, same = 0;

	for (int i = 0; i < 10; i++)
	{
		Threads threads = { 0 };
		PGconn *conn = acquire_or_give_up(pool);
		int pid = PQbackendPID(conn);

		/* the last request's thread may still be on its way out */
		if (!WAIT_FOR(!cancel_is_under_way()))
			give_up("a request does not end");
		if (kill(postmaster, SIGSTOP) != 0)
			give_up("cannot stop the server");
		start_thread(&threads, cancel_it, conn);
		if (!WAIT_FOR(cancel_is_under_way()))
			give_up("no request is sent");
		(void) pqpool_release(conn);
		(void) kill(postmaster, SIGCONT);
		for (int k = 0; k < 20; k++)
		{
			conn = acquire_or_give_up(pool);
			same += PQbackendPID(conn) == pid;
			hit += query_int(conn, "SELECT 1 FROM generate_series(1, 1000) LIMIT 1") != 1;
			(void) pqpool_release(conn);
		}
		join_threads(&threads);
	}
	is_int(hit, 0, "a pqpool_cancel that is late hits no other holder");
	is_int(same, 0, "who gets another connection");
	is_int(stats_of(pool).closed_by[PQPOOL_CLOSE_DISCARD], 10, "since such a one is not kept");
	ok(stats_of(pool).in_use == 0 && stats_of(pool).size <= 1, "and costs no place");
	(void) pqpool_close(&pool, -1);
}

/* What it is there for: a PGcancel outlives the loan, and the pool cannot know. */
static void
test_kept_cancel(void)
{
	pqpool *pool = open_pool("pool_max_size=1 pool_report=off");
	PGconn *conn = acquire_or_give_up(pool);
	PGcancel *kept = PQgetCancel(conn);
	char why[256];
	PGresult *result;

	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	(void) PQsendQuery(conn, "SELECT pg_sleep(600)");
	if (!WAIT_FOR(query_int(direct,
							"SELECT count(*) FROM pg_stat_activity WHERE pid = %d"
							" AND state = 'active'",
							PQbackendPID(conn)) == 1))
		give_up("the query does not run");
	ok(PQcancel(kept, why, sizeof(why)), "a PGcancel that was kept");
	PQfreeCancel(kept);
	result = PQgetResult(conn);
	is_str(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014", "hits the next holder");
	PQclear(result);
	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
	(void) pqpool_release(conn);
	is_int(stats_of(pool).opened, 1, "whose connection is good for all that");
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	direct = connect_directly("");
	test_background();
	test_deadline();
	test_beside();
	test_loop();
	test_failing();
	test_rollback_first();
	test_killed();
	test_close_and_drain();
	test_many();
	test_late_cancel();
	test_kept_cancel();
	test_table();
	PQfinish(direct);
	return done_testing();
}
