/*-------------------------------------------------------------------------
 *
 * state.c
 *	  What one holder leaves behind the next one does not meet.
 *
 * One connection, one holder after the other: each leaves something, and the
 * next one looks for it.  What can be undone keeps the session, what cannot costs it.
 *
 * environment: PQPOOL_MAX_SIZE = 1
 *
 *-------------------------------------------------------------------------
 */
#include "preload.h"

#include <libpq-events.h>
#include <poll.h>

static int notices;

static void
count_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
	notices++;
}

static void
count_for(void *arg, const char *message)
{
	(void) message;
	++*(int *) arg;
}

static int
event_proc(PGEventId id, void *info, void *arg)
{
	(void) id;
	(void) info;
	(void) arg;
	return 1;
}

/* What a holder does before he closes. */
typedef struct Habit
{
	const char *name;
	const char *sql;		   /* or */
	void (*act)(PGconn *conn); /* both may be missing */
	bool costs_session;
	const char *look;	/* what the next one asks ... */
	const char *expect; /* ... and is to be told; NULL: what he was told when he was the first */
	bool (*good)(PGconn *conn); /* what else has to hold for him */
} Habit;

static void
begin_copy_in(PGconn *conn)
{
	(void) ask(conn, "CREATE TEMP TABLE c (a int)");
	PQclear(PQexec(conn, "COPY c FROM STDIN"));
}

static void
read_half_a_copy(PGconn *conn)
{
	char *row;

	PQclear(PQexec(conn, "COPY (SELECT generate_series(1, 100000)) TO STDOUT"));
	if (PQgetCopyData(conn, &row, 0) > 0)
		PQfreemem(row);
}

static void
send_query(PGconn *conn)
{
	ok(PQsendQuery(conn, "SELECT pg_sleep(0.01)"), "a query is under way");
}

static void
read_one_row(PGconn *conn)
{
	ok(PQsendQuery(conn, "SELECT generate_series(1, 10)") && PQsetSingleRowMode(conn),
	   "row by row");
	PQclear(PQgetResult(conn));
}

static void
enter_pipeline(PGconn *conn)
{
	ok(PQenterPipelineMode(conn), "pipeline mode");
}

static void
set_nonblocking(PGconn *conn)
{
	is_int(PQsetnonblocking(conn, 1), 0, "nonblocking");
}

static bool
is_blocking(PGconn *conn)
{
	return !PQisnonblocking(conn);
}

static void
set_processor(PGconn *conn)
{
	(void) PQsetNoticeProcessor(conn, count_notice, NULL);
	(void) ask(conn, "DO $$ BEGIN RAISE NOTICE 'mine'; END $$");
	is_int(notices, 1, "it hears notices");
	notices = 0;
}

static bool
hears_nothing(PGconn *conn)
{
	(void) ask(conn,
			   "DO $$ BEGIN RAISE NOTICE 'not his'; END $$"); /* on standard error, by libpq */
	return notices == 0;
}

/* A program that connects step by step hears what it wants to from the start. */
static void
hear_from_the_start(void)
{
	int heard = 0;
	PGconn *conn = PQconnectStart("application_name=early");
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	int pid;

	(void) PQsetNoticeProcessor(conn, count_for, &heard);
	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		struct pollfd pfd = { .fd = PQsocket(conn),
							  .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT };

		(void) poll(&pfd, 1, PATIENCE_S * 1000);
		status = PQconnectPoll(conn);
	}
	(void) ask(conn, "DO $$ BEGIN RAISE NOTICE 'mine'; END $$");
	is_int(heard, 1, "a notice processor set before it was connected: hears, with its argument");
	pid = PQbackendPID(conn);
	PQfinish(conn);

	conn = must_connect("application_name=early");
	is_int(PQbackendPID(conn), pid,
		   "a notice processor set before it was connected: the same session");
	(void) ask(conn, "DO $$ BEGIN RAISE NOTICE 'not his'; END $$");
	is_int(heard, 1, "a notice processor set before it was connected: gone for the next holder");
	PQfinish(conn);
}

static void
set_verbosity(PGconn *conn)
{
	(void) PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
	(void) PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_NEVER);
}

static bool
has_default_verbosity(PGconn *conn)
{
	return PQsetErrorVerbosity(conn, PQERRORS_DEFAULT) == PQERRORS_DEFAULT &&
		   PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ERRORS) == PQSHOW_CONTEXT_ERRORS;
}

static FILE *trace_file;

static void
begin_trace(PGconn *conn)
{
	trace_file = tmpfile();
	PQtrace(conn, trace_file);
	(void) ask(conn, "SELECT 1");
}

static bool
is_not_traced(PGconn *conn)
{
	long before, after;

	fflush(trace_file);
	fseek(trace_file, 0, SEEK_END);
	before = ftell(trace_file);
	(void) ask(conn, "SELECT 2");
	fflush(trace_file);
	fseek(trace_file, 0, SEEK_END);
	after = ftell(trace_file);
	fclose(trace_file);
	return before > 0 && after == before;
}

static void
register_events(PGconn *conn)
{
	ok(PQregisterEventProc(conn, event_proc, "test", NULL), "an event procedure");
}

static void
set_encoding(PGconn *conn)
{
	is_int(PQsetClientEncoding(conn, "LATIN1"), 0, "another encoding");
}

static void
fail_somehow(PGconn *conn)
{
	(void) ask(conn, "SELECT 1/0");
	ok(PQerrorMessage(conn)[0] != '\0', "an error message");
}

static bool
has_no_message(PGconn *conn)
{
	return PQerrorMessage(conn)[0] == '\0';
}

static void
listen_and_be_notified(PGconn *conn)
{
	(void) ask(conn, "LISTEN news");
	(void) ask(conn, "NOTIFY news, 'for the first'");
}

static bool
has_no_notify(PGconn *conn)
{
	PGnotify *notify;

	(void) ask(conn, "NOTIFY news, 'for nobody'");
	(void) PQconsumeInput(conn);
	notify = PQnotifies(conn);
	if (notify)
		PQfreemem(notify);
	return !notify;
}

static void
make_large(PGconn *conn)
{
	PGresult *result = PQprepare(conn, "", "SELECT $1::int", 1, NULL);

	PQclear(result);
}

static const Habit habits[] = {
	{ .name = "nothing" },
	{ .name = "an open transaction",
	  .sql = "BEGIN; CREATE TABLE never (a int)",
	  .look = "SELECT to_regclass('never') IS NULL AND now() = statement_timestamp()",
	  .expect = "t" },
	{ .name = "a failed transaction",
	  .sql = "BEGIN; SELECT 1/0",
	  .look = "SELECT 1",
	  .expect = "1" },
	{ .name = "a savepoint and a lock",
	  .sql = "BEGIN; SAVEPOINT a; LOCK TABLE pg_class IN ACCESS SHARE MODE",
	  .look = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = "
			  "'pg_class'::regclass "
			  "AND NOT fastpath",
	  .expect = "0" },
	{ .name = "SET", .sql = "SET work_mem = '7MB'", .look = "SHOW work_mem" },
	{ .name = "SET of a name of its own",
	  .sql = "SET my.setting = 'secret'",
	  .look = "SELECT coalesce(current_setting('my.setting', true), '') = ''",
	  .expect = "t" },
	{ .name = "application_name",
	  .sql = "SET application_name = 'mine'",
	  .look = "SHOW application_name" },
	{ .name = "search_path", .sql = "SET search_path = pg_catalog", .look = "SHOW search_path" },
	{ .name = "SET ROLE",
	  .sql = "SET ROLE pg_monitor",
	  .look = "SELECT current_user = session_user",
	  .expect = "t" },
	{ .name = "SET SESSION AUTHORIZATION",
	  .sql = "SET SESSION AUTHORIZATION pg_monitor",
	  .look = "SELECT session_user <> 'pg_monitor'",
	  .expect = "t" },
	{ .name = "a read-only session",
	  .sql = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
	  .look = "SHOW transaction_read_only",
	  .expect = "off" },
	{ .name = "a temporary table",
	  .sql = "CREATE TEMP TABLE mine (a int)",
	  .look = "SELECT to_regclass('mine') IS NULL",
	  .expect = "t" },
	{ .name = "a prepared statement",
	  .sql = "PREPARE mine AS SELECT 1",
	  .look = "SELECT count(*) FROM pg_prepared_statements",
	  .expect = "0" },
	{ .name = "the unnamed statement",
	  .act = make_large,
	  .look = "SELECT count(*) FROM pg_prepared_statements",
	  .expect = "0" },
	{ .name = "a cursor WITH HOLD",
	  .sql = "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
	  .look = "SELECT count(*) FROM pg_cursors",
	  .expect = "0" },
	{ .name = "an advisory lock",
	  .sql = "SELECT pg_advisory_lock(7)",
	  .look = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
	  .expect = "0" },
	{ .name = "currval",
	  .sql = "CREATE TEMP SEQUENCE s; SELECT nextval('s')",
	  .look = "SELECT lastval()",
	  .expect = "ERROR:  lastval is not yet defined in this session\n" },
	{ .name = "LISTEN, and a NOTIFY not read",
	  .act = listen_and_be_notified,
	  .look = "SELECT count(*) FROM pg_listening_channels()",
	  .expect = "0",
	  .good = has_no_notify },
	{ .name = "an error message", .act = fail_somehow, .good = has_no_message },
	{ .name = "nonblocking mode", .act = set_nonblocking, .good = is_blocking },
	{ .name = "a notice processor", .act = set_processor, .good = hears_nothing },
	{ .name = "error verbosity", .act = set_verbosity, .good = has_default_verbosity },
	{ .name = "a trace", .act = begin_trace, .good = is_not_traced },
	{ .name = "another encoding", .act = set_encoding, .look = "SHOW client_encoding" },
	{ .name = "COPY FROM, begun", .act = begin_copy_in, .costs_session = true },
	{ .name = "COPY TO, read by half", .act = read_half_a_copy, .costs_session = true },
	{ .name = "a query under way", .act = send_query, .costs_session = true },
	{ .name = "results not read", .act = read_one_row, .costs_session = true },
	{ .name = "pipeline mode", .act = enter_pipeline, .costs_session = true },
	{ .name = "an event procedure", .act = register_events, .costs_session = true },
};

static void
try_habit(const Habit *habit)
{
	char before[4096] = "";
	PGconn *conn = must_connect("");
	int pid = PQbackendPID(conn);

	if (habit->look)
		snprintf(before, sizeof(before), "%s", ask(conn, habit->look));
	if (habit->sql)
		(void) ask(conn, habit->sql);
	if (habit->act)
		habit->act(conn);
	PQfinish(conn);

	conn = must_connect("");
	if (habit->good)
		ok(habit->good(conn), "%s: as new for the next holder", habit->name);
	if (habit->costs_session)
		ok(PQbackendPID(conn) != pid, "%s: another session", habit->name);
	else
		is_int(PQbackendPID(conn), pid, "%s: the same session", habit->name);
	is_int(PQtransactionStatus(conn), PQTRANS_IDLE, "%s: idle", habit->name);
	if (habit->look)
		is_str(ask(conn, habit->look), habit->expect ? habit->expect : before, "%s: gone",
			   habit->name);
	PQfinish(conn);
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(habits) / sizeof(habits[0]); i++)
		try_habit(&habits[i]);
	hear_from_the_start();
	return done_testing();
}
