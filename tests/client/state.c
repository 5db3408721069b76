/*-------------------------------------------------------------------------
 *
 * state.c
 *	  What the next holder of a connection can see of the last one: the table
 *	  in pqpool.h, line by line.
 *
 * All pools here have one connection, so that the next holder gets the same.
 *
 *-------------------------------------------------------------------------
 */
#include "leave.h"

static int notices;

static void
count_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
	notices++;
}

/* Return a connection and borrow it again. */
static PGconn *
next_holder(pqpool *pool, PGconn *conn)
{
	if (pqpool_release(conn) != PQPOOL_OK)
		give_up("a release failed");
	return acquire_or_give_up(pool);
}

/*---- transactions ----*/

static void
test_transactions(const char *policy, bool kept)
{
	char conninfo[100];
	pqpool *pool;
	PGconn *conn, *direct = connect_directly("");
	int pid;

	snprintf(conninfo, sizeof(conninfo), "pool_max_size=1 pool_reset=%s", policy);
	pool = open_pool(conninfo);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	ok(run(conn, "BEGIN; CREATE TABLE left_open (a int); SELECT pg_advisory_xact_lock(7)"),
	   "%s: a transaction with a table and a lock", policy);
	is_code(pqpool_release(conn), PQPOOL_OK, "%s: is returned open", policy);
	if (kept)
		is_int(query_int(direct, "SELECT pg_try_advisory_lock(7)::int"), 1,
			   "%s: its locks are gone when release returns", policy);
	else
		ok(WAIT_FOR(query_int(direct, "SELECT pg_try_advisory_lock(7)::int") == 1),
		   "%s: its locks are gone soon", policy);
	(void) run(direct, "SELECT pg_advisory_unlock_all()");
	conn = acquire_or_give_up(pool);
	is_int(PQtransactionStatus(conn), PQTRANS_IDLE, "%s: the next holder is in no transaction",
		   policy);
	is_int(query_int(conn, "SELECT count(*) FROM pg_class WHERE relname = 'left_open'"), 0,
		   "%s: the table is not there", policy);
	is_int(PQbackendPID(conn) == pid, kept, "%s: the connection was kept or not", policy);

	pid = PQbackendPID(conn);
	(void) run(conn, "BEGIN");
	(void) run(conn, "SELECT 1/0");
	is_int(PQtransactionStatus(conn), PQTRANS_INERROR, "%s: a failed transaction", policy);
	conn = next_holder(pool, conn);
	is_int(PQtransactionStatus(conn), PQTRANS_IDLE, "%s: is over for the next holder", policy);
	is_int(PQbackendPID(conn) == pid, kept, "%s: who gets the same connection or not", policy);

	pid = PQbackendPID(conn);
	(void) run(conn, "SELECT 1/0");
	conn = next_holder(pool, conn);
	is_int(PQbackendPID(conn), pid, "%s: a failed statement costs nothing", policy);
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
	PQfinish(direct);
}

/*---- what cannot be kept ----*/

static void
leave_result(PGconn *conn)
{
	(void) PQsendQuery(conn, "SELECT 1");
	while (PQconsumeInput(conn) && PQisBusy(conn))
		sleep_ms(1);
}

static void
leave_copy_in(PGconn *conn)
{
	(void) run(conn, "CREATE TEMP TABLE t (a int)");
	PQclear(PQexec(conn, "COPY t FROM STDIN"));
}

static void
leave_busy_pipeline(PGconn *conn)
{
	(void) PQenterPipelineMode(conn);
	(void) PQsendQueryParams(conn, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
	(void) PQpipelineSync(conn);
}

static void
leave_terminated(PGconn *conn)
{
	(void) run(conn, "SELECT pg_terminate_backend(pg_backend_pid())");
}

static void
leave_unnoticed(PGconn *conn)
{
	PGconn *direct = connect_directly("");

	end_backend(direct, PQbackendPID(conn));
	PQfinish(direct);
}

static void
test_unfit(void)
{
	static const struct
	{
		void (*leave)(PGconn *);
		const char *what;
	} cases[] = { { leave_query, "a running query" },
				  { leave_result, "a result that was not read" },
				  { leave_copy_out, "COPY TO STDOUT" },
				  { leave_copy_in, "COPY FROM STDIN" },
				  { leave_pipeline, "pipeline mode" },
				  { leave_busy_pipeline, "pipeline mode, with a query" },
				  { leave_single_row, "half a result, row by row" },
				  { leave_terminated, "a session that the server ended" },
				  { leave_unnoticed, "one that it ended, and nobody noticed" } };
	static const char *const policies[] = { "none", "rollback", "discard" };

	for (int p = 0; p < countof(policies); p++)
	{
		char conninfo[100];
		pqpool *pool;
		PGconn *direct = connect_directly("");

		snprintf(conninfo, sizeof(conninfo), "application_name=unfit pool_max_size=1 pool_reset=%s",
				 policies[p]);
		pool = open_pool(conninfo);
		for (int i = 0; i < countof(cases); i++)
		{
			PGconn *conn = acquire_or_give_up(pool);
			int pid = PQbackendPID(conn);

			cases[i].leave(conn);
			is_code(pqpool_release(conn), PQPOOL_OK, "%s: %s is returned", policies[p],
					cases[i].what);
			conn = acquire_or_give_up(pool);
			ok(PQbackendPID(conn) != pid && query_int(conn, "SELECT 1") == 1 &&
				   PQpipelineStatus(conn) == PQ_PIPELINE_OFF,
			   "... and the next holder has a fresh connection");
			(void) pqpool_release(conn);
		}
		/* the query that nobody waits for any more has been cancelled */
		ok(WAIT_FOR(count_sessions(direct, "unfit") == 1), "%s: of all these one session is left",
		   policies[p]);
		ok(stats_of(pool).size == 1 && stats_of(pool).in_use == 0, "%s: as the pool thinks",
		   policies[p]);
		(void) pqpool_close(&pool, -1);
		PQfinish(direct);
	}
}

/*---- session state on the server ----*/

static void
test_session_state(const char *policy, bool visible)
{
	char conninfo[100];
	pqpool *pool;
	PGconn *conn, *direct = connect_directly("");
	char *value;
	int pid;

	snprintf(conninfo, sizeof(conninfo), "pool_max_size=1 pool_reset=%s", policy);
	pool = open_pool(conninfo);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	ok(run(conn, "SET work_mem = '77kB'; CREATE TEMP TABLE mine (a int); PREPARE p AS SELECT 1;"
				 "LISTEN channel; SELECT pg_advisory_lock(8);"
				 "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"),
	   "%s: a session with settings, tables, cursors, locks", policy);
	ok(PQsetClientEncoding(conn, "LATIN1") == 0, "%s: and an encoding", policy);
	conn = next_holder(pool, conn);
	is_int(PQbackendPID(conn), pid, "%s: is handed on", policy);
	value = query_text(conn, "SHOW work_mem");
	is_int(value != NULL && strcmp(value, "77kB") == 0, visible, "%s: setting", policy);
	free(value);
	is_int(query_int(conn, "SELECT count(*) FROM pg_class WHERE relname = 'mine'"), visible,
		   "%s: temporary table", policy);
	is_int(query_int(conn, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'"), visible,
		   "%s: prepared statement", policy);
	is_int(query_int(conn, "SELECT count(*) FROM pg_cursors WHERE name = 'c'"), visible,
		   "%s: cursor", policy);
	is_int(query_int(conn, "SELECT count(*) FROM pg_listening_channels()"), visible, "%s: LISTEN",
		   policy);
	is_int(query_int(direct, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), visible,
		   "%s: advisory lock", policy);
	is_int(strcmp(pg_encoding_to_char(PQclientEncoding(conn)), "LATIN1") == 0, visible,
		   "%s: encoding", policy);
	(void) pqpool_discard(conn);
	(void) pqpool_close(&pool, -1);
	PQfinish(direct);
}

/*---- state within libpq ----*/

static void
test_libpq_state(void)
{
	static const char *const policies[] = { "none", "rollback", "discard" };

	for (int p = 0; p < countof(policies); p++)
	{
		char conninfo[100];
		pqpool *pool;
		PGconn *conn, *direct = connect_directly("");
		FILE *trace = tmpfile();
		long traced;
		PGnotify *notify;

		snprintf(conninfo, sizeof(conninfo), "pool_max_size=1 pool_reset=%s", policies[p]);
		pool = open_pool(conninfo);
		conn = acquire_or_give_up(pool);
		notices = 0;
		(void) PQsetNoticeProcessor(conn, count_notice, NULL);
		(void) PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
		(void) PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ALWAYS);
		PQtrace(conn, trace);
		(void) run(conn, "DO $$BEGIN RAISE NOTICE 'seen'; END$$");
		is_int(notices, 1, "%s: a notice processor works", policies[p]);

		/* a notification that the holder has received and not fetched */
		(void) run(conn, "LISTEN gossip");
		(void) run(direct, "NOTIFY gossip, 'not for you'");
		(void) run(conn, "SELECT 1");
		(void) PQsetnonblocking(conn, 1);

		conn = next_holder(pool, conn);
		traced = ftell(trace);
		is_int(PQisnonblocking(conn), 0, "%s: nonblocking mode is over", policies[p]);
		(void) run(conn, "SELECT 1");
		ok(PQsetNoticeProcessor(conn, NULL, NULL) == PQsetNoticeProcessor(direct, NULL, NULL) &&
			   PQsetNoticeReceiver(conn, NULL, NULL) == PQsetNoticeReceiver(direct, NULL, NULL),
		   "%s: the notice processor is libpq's own", policies[p]);
		is_int(ftell(trace), traced, "%s: the trace is", policies[p]);
		is_int(PQsetErrorVerbosity(conn, PQERRORS_DEFAULT), PQERRORS_DEFAULT,
			   "%s: verbosity is as in a new connection", policies[p]);
		is_int(PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ERRORS), PQSHOW_CONTEXT_ERRORS,
			   "%s: context visibility, too", policies[p]);
		notify = PQnotifies(conn);
		ok(notify == NULL, "%s: others' notifications are not handed on", policies[p]);
		PQfreemem(notify);
		(void) pqpool_release(conn);
		(void) pqpool_close(&pool, -1);
		fclose(trace);
		PQfinish(direct);
	}
}

int
main(void)
{
	test_transactions("none", false);
	test_transactions("rollback", true);
	test_transactions("discard", true);
	test_unfit();
	test_session_state("none", true);
	test_session_state("rollback", true);
	test_session_state("discard", false);
	test_libpq_state();
	return done_testing();
}
