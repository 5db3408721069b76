/*-------------------------------------------------------------------------
 *
 * loans.c
 *	  What a holder does with a loan, and what must be true of it.
 *
 * Every loan that is out is entered in the table of hands.c, after it was borrowed
 * and until it is given back.
 *
 * A query asks for a number of its own, so that an answer to somebody else's
 * question is noticed, and for the names of process and session, so that a
 * connection of another pool is.
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

#define MAILBOX 6
#define JOBS 4

/*---- taken and given back ----*/

/* What a holder sets is not the next one's; and what he has silenced, nobody else shall say. */
static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

void
loan_take(Self *self, Loan *loan)
{
	PGconn *conn = loan->conn;

	loan->cell = hand_take(self, conn, loan->application);
	loan->pid = PQbackendPID(conn);
	if (PQstatus(conn) != CONNECTION_OK || PQtransactionStatus(conn) != PQTRANS_IDLE ||
		PQisBusy(conn) || PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
		failure("%s %d was lent a connection of %s that is not idle: status %d, transaction %d",
				self->role, self->index, loan->application, (int) PQstatus(conn),
				(int) PQtransactionStatus(conn));
	if (PQsetNoticeProcessor(conn, ignore_notice, NULL) == ignore_notice && loan->slot != NULL)
		failure("%s %d was lent a connection of %s with the notice processor of the holder before",
				self->role, self->index, loan->application);
	if (PQisnonblocking(conn))
		failure("%s %d was lent a connection of %s that is set to nonblocking", self->role,
				self->index, loan->application);
}

void
loan_drop(Loan *loan)
{
	hand_empty(loan->cell);
}

void
loan_release(Self *self, Loan *loan)
{
	Call call;

	loan_drop(loan);
	call = call_begin(self, OP_RELEASE, loan->slot);
	(void) call_end(&call, pqpool_release(loan->conn), USUAL, loan->application);
}

/*---- queries ----*/

/*
 * The outcome of something on the server: lost sessions are allowed if something happened
 * to them.
 */
static bool
judge_result(Call *call, const Loan *loan, const PGresult *result, bool good)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	unsigned situation = struck_since(loan->pid, loan->since) ? STRUCK : USUAL;
	bool lost = !good && PQstatus(loan->conn) == CONNECTION_BAD;
	char message[600];

	if (turbulent_since(loan->since))
		situation |= TURBULENT;
	/* the last words of a session that ends; or none, and PQstatus may learn of the end later */
	if (!good && (sqlstate == NULL || strncmp(sqlstate, "57P", 3) == 0))
		lost = true;
	if (loan->cancel_due && sqlstate != NULL && strcmp(sqlstate, "57014") == 0)
		situation |= CANCELLED;
	snprintf(message, sizeof(message), "process %d of %s: %s%s", loan->pid, loan->application,
			 PQresStatus(PQresultStatus(result)),
			 result != NULL ? PQresultErrorMessage(result) : PQerrorMessage(loan->conn));
	return call_end(call,
					good   ? PQPOOL_OK
					: lost ? PQPOOL_SERVER_DOWN
						   : PQPOOL_SYSTEM,
					situation, message);
}

bool
loan_run(Self *self, const Loan *loan, const char *sql)
{
	Call call = call_begin(self, OP_QUERY, loan->slot);
	PGresult *result = PQexec(loan->conn, sql);
	ExecStatusType status = PQresultStatus(result);
	bool good = judge_result(&call, loan, result,
							 status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
								 status == PGRES_COPY_IN || status == PGRES_COPY_OUT);

	PQclear(result);
	return good;
}

static void
check_answer(Self *self, const Loan *loan, const PGresult *result, unsigned token)
{
	int pid = atoi(PQgetvalue(result, 0, 0));
	const char *application = PQgetvalue(result, 0, 1);

	if (PQntuples(result) != 1 || strtoul(PQgetvalue(result, 0, 2), NULL, 10) != token)
		failure("%s %d got an answer to another question, from process %d of %s", self->role,
				self->index, pid, application);
	else if (pid != loan->pid ||
			 (loan->application[0] != '\0' && strcmp(application, loan->application) != 0))
		failure("%s %d borrowed process %d of %s, and process %d of %s answered", self->role,
				self->index, loan->pid, loan->application, pid, application);
	else if (loan->discards && strcmp(PQgetvalue(result, 0, 3), "0") != 0)
		failure("%s %d was lent a connection of %s, which has pool_reset=discard, in a session "
				"that listens "
				"or has prepared statements",
				self->role, self->index, loan->application);
}

bool
loan_check(Self *self, const Loan *loan)
{
	unsigned token = draw(self, 1000000000);
	Call call = call_begin(self, OP_QUERY, loan->slot);
	char sql[400];
	PGresult *result;
	bool good;

	snprintf(sql, sizeof(sql),
			 "SELECT pg_backend_pid(), current_setting('application_name'), %u,"
			 " (SELECT count(*) FROM pg_listening_channels())"
			 " + (SELECT count(*) FROM pg_prepared_statements)",
			 token);
	result = PQexec(loan->conn, sql);
	good = judge_result(&call, loan, result, PQresultStatus(result) == PGRES_TUPLES_OK);
	if (good)
		check_answer(self, loan, result, token);
	PQclear(result);
	return good;
}

/* Not judged: it is meant to fail, or may. */
static void
try(const Loan *loan, const char *sql)
{
	PQclear(PQexec(loan->conn, sql));
}

static void
cancel_own(Self *self, Loan *loan)
{
	static const int timeouts[] = { -1, 30000, 1, 10 };
	int timeout = timeouts[draw(self, countof(timeouts))];
	unsigned situation;
	pqpool_error err;
	Call call;

	(void) PQsendQuery(loan->conn, "SELECT pg_sleep(0.1)");
	call =
		call_begin(self, timeout == 1 || timeout == 10 ? OP_CANCEL_SHORT : OP_CANCEL, loan->slot);
	(void) pqpool_cancel(loan->conn, timeout, &err);
	situation = turbulent_since(loan->since) ? TURBULENT : USUAL;
	(void) call_end(&call, err.code, situation, err.message);
	loan->cancel_due = loan->cancel_due || err.code == PQPOOL_TIMED_OUT;
	if (draw(self, 4) != 0)
		for (PGresult *result; (result = PQgetResult(loan->conn)) != NULL;)
			PQclear(result);
}

void
loan_mistreat(Self *self, Loan *loan)
{
	switch (draw(self, 60))
	{
		case 0:
			(void) loan_run(self, loan, "BEGIN");
			break;
		case 1:
			try(loan, "BEGIN; SELECT 1/0");
			break;
		case 2:
			(void) PQsendQuery(loan->conn, "SELECT generate_series(1, 100000)");
			break;
		case 3:
			(void) PQsendQuery(loan->conn, "SELECT pg_sleep(0.05)");
			break;
		case 4:
			(void) loan_run(self, loan, "COPY (SELECT generate_series(1, 100000)) TO STDOUT");
			break;
		case 5:
			try(loan, "CREATE TEMP TABLE IF NOT EXISTS soaked (a int)");
			try(loan, "COPY soaked FROM STDIN");
			break;
		case 6:
			(void) loan_run(self, loan, "LISTEN soak");
			break;
		case 7:
			(void) loan_run(self, loan, "NOTIFY soak, 'to whom it may concern'");
			break;
		case 8:
			(void) loan_run(self, loan, "SELECT pg_advisory_lock_shared(1); SET work_mem = '1MB'");
			break;
		case 9:
			try(loan, "DEALLOCATE ALL; PREPARE soaked AS SELECT 1");
			break;
		case 10:
			(void) PQenterPipelineMode(loan->conn);
			(void) PQsendQueryParams(loan->conn, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
			break;
		case 11:
			(void) PQsetnonblocking(loan->conn, 1);
			(void) PQsetErrorVerbosity(loan->conn, PQERRORS_VERBOSE);
			break;
		case 12:
			try(loan, "SELECT pg_terminate_backend(pg_backend_pid())");
			break;
		case 13:
		case 14:
			cancel_own(self, loan);
			break;
		case 15:
		case 16:
			be_cancelled_by_another(self, loan);
			break;
		case 17:
		case 18:
			sleep_ms(draw(self, 20));
			break;
		default:
			break;
	}
}

/*---- handed from thread to thread ----*/

static pthread_mutex_t mail_lock = PTHREAD_MUTEX_INITIALIZER;
static Loan mail[MAILBOX];
static int mails;

bool
mail_put(Self *self, Loan *loan)
{
	Call call;
	bool room;

	pthread_mutex_lock(&mail_lock);
	room = mails < MAILBOX;
	pthread_mutex_unlock(&mail_lock);
	if (!room)
		return false;
	call = call_begin(self, OP_TRANSFER, loan->slot);
	(void) call_end(&call, pqpool_transfer(loan->conn), USUAL, loan->application);
	/* the session is what its first holder has made of it */
	loan->discards = false;
	pthread_mutex_lock(&mail_lock);
	room = mails < MAILBOX;
	if (room)
		mail[mails++] = *loan;
	pthread_mutex_unlock(&mail_lock);
	return room;
}

static bool
mail_take(Loan *loan)
{
	bool any;

	pthread_mutex_lock(&mail_lock);
	any = mails > 0;
	if (any)
		*loan = mail[--mails];
	pthread_mutex_unlock(&mail_lock);
	return any;
}

static void
deliver(Self *self, Loan *loan)
{
	if (draw(self, 2) == 0)
	{
		Call call = call_begin(self, OP_ADOPT, loan->slot);

		(void) call_end(&call, pqpool_adopt(loan->conn), USUAL, loan->application);
	}
	if (PQtransactionStatus(loan->conn) == PQTRANS_IDLE &&
		PQpipelineStatus(loan->conn) == PQ_PIPELINE_OFF)
		(void) loan_check(self, loan);
	loan_release(self, loan);
}

void
empty_mail(Self *self)
{
	Loan loan;

	while (mail_take(&loan))
		deliver(self, &loan);
}

void *
courier(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		empty_mail(self);
		sleep_ms(2);
	}
	return NULL;
}

/*---- cancelled by another thread ----*/

/*
 * The holder waits until the canceller has done what it has begun: a cancel
 * that begins after the loan was given back would rightly hit the next holder.
 */
typedef enum JobState
{
	JOB_NONE,
	JOB_PUBLISHED,
	JOB_CLAIMED,
	JOB_DONE
} JobState;

static struct Job
{
	atomic_int taken;
	atomic_int state;
	const Loan *loan;
} jobs[JOBS];

void
be_cancelled_by_another(Self *self, const Loan *loan)
{
	struct Job *job = &jobs[draw(self, JOBS)];
	int published = JOB_PUBLISHED;
	PGresult *result;

	if (atomic_exchange(&job->taken, 1))
		return;
	job->loan = loan;
	if (PQsendQuery(loan->conn, "SELECT pg_sleep(0.1)"))
	{
		atomic_store(&job->state, JOB_PUBLISHED);
		while ((result = PQgetResult(loan->conn)) != NULL)
			PQclear(result);
		if (!atomic_compare_exchange_strong(&job->state, &published, JOB_NONE))
			while (atomic_load(&job->state) != JOB_DONE)
				sleep_ms(1);
	}
	atomic_store(&job->state, JOB_NONE);
	atomic_store(&job->taken, 0);
}

void *
canceller(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		struct Job *job = &jobs[draw(self, JOBS)];
		int published = JOB_PUBLISHED;
		pqpool_error err;
		Call call;

		sleep_ms(1 + draw(self, 20));
		if (!atomic_compare_exchange_strong(&job->state, &published, JOB_CLAIMED))
			continue;
		call = call_begin(self, OP_CANCEL, job->loan->slot);
		(void) pqpool_cancel(job->loan->conn, -1, &err);
		(void) call_end(&call, err.code,
						(turbulent_since(job->loan->since) ? TURBULENT : USUAL) |
							(struck_since(job->loan->pid, job->loan->since) ? STRUCK : USUAL),
						err.message);
		atomic_store(&job->state, JOB_DONE);
	}
	return NULL;
}
