/*-------------------------------------------------------------------------
 *
 * check.c
 *	  Is a connection alive?  Is it as the next holder expects it?
 *
 * All of this is for the slot's owner and holds no lock.  Every wait has a
 * deadline.  PQstatus says nothing about a connection that has not been used
 * since it broke; the socket does: data or its end on an idle connection.  Data
 * may be harmless (NOTIFY, a notice, a changed parameter, a TLS record), so it
 * is read and looked at; what says that the session ends (FATAL, or a class 57P
 * error) goes through libpq as a notice, and is caught there.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "loan.h"

#define DISCARD "DISCARD ALL"

static void
catch_notice(void *arg, const PGresult *result)
{
	Slot *slot = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if ((severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) ||
		(sqlstate && strncmp(sqlstate, "57P", 3) == 0))
		slot->fatal = true;
}

/* Nobody is to see the notices that our own commands cause; pqp_restore ends it. */
void
pqp_quiet(Slot *slot)
{
	PQsetNoticeReceiver(slot->conn, catch_notice, slot);
}

typedef enum Peek
{
	PEEK_NOTHING,
	PEEK_DATA,
	PEEK_END
} Peek;

static Peek
peek(PGconn *conn)
{
	char byte;
	ssize_t n;

	do
		n = recv(PQsocket(conn), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return PEEK_DATA;
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? PEEK_NOTHING : PEEK_END;
}

static bool
alive(Slot *slot)
{
	for (int round = 0;; round++)
		switch (peek(slot->conn))
		{
			case PEEK_NOTHING:
				return PQstatus(slot->conn) == CONNECTION_OK && !slot->fatal &&
					   PQtransactionStatus(slot->conn) == PQTRANS_IDLE;
			case PEEK_END:
				return false;
			case PEEK_DATA:
				if (round == 2)
					return false;
				pqp_quiet(slot);
				if (!PQconsumeInput(slot->conn))
					return false;
				pqp_drop_notifies(slot->conn);
				pqp_restore(slot);
				break;
		}
}

/* As far as can be seen without asking the server. */
bool
pqp_alive(Slot *slot)
{
	int old;
	bool result;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	result = pqp_socket_kept(slot) && alive(slot);
	(void) pthread_setcancelstate(old, NULL);
	return result;
}

/* Wait until the connection can go on.  False: deadline, or broken. */
static bool
wait_for(PGconn *conn, int64_t deadline)
{
	struct pollfd poll_for = { .fd = PQsocket(conn), .events = POLLIN };
	int flush = PQflush(conn);
	int n;

	if (flush < 0)
		return false;
	if (flush > 0)
		poll_for.events |= POLLOUT;
	do
		n = poll(&poll_for, 1, pqp_poll_ms(deadline));
	while (n < 0 && errno == EINTR);
	return n > 0 && PQconsumeInput(conn);
}

/* Collect all results of a command.  True: all are good. */
static bool
collect(PGconn *conn, int64_t deadline)
{
	bool good = true;

	for (;;)
	{
		PGresult *result;
		ExecStatusType status;

		while (PQflush(conn) > 0 || PQisBusy(conn))
			if (!wait_for(conn, deadline))
				return false;
		result = PQgetResult(conn);
		if (!result)
			return good;
		status = PQresultStatus(result);
		PQclear(result);
		if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY && status != PGRES_TUPLES_OK)
			good = false;
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
			return false;
	}
}

static bool
command(PGconn *conn, const char *sql, int64_t deadline)
{
	bool good;

	if (PQsetnonblocking(conn, 1) != 0)
		return false;
	good = PQsendQuery(conn, sql) && collect(conn, deadline);
	return good && PQsetnonblocking(conn, 0) == 0;
}

/* Ask the server: an empty query.  It also brings news of the allotment. */
bool
pqp_round_trip(Slot *slot, int64_t deadline)
{
	int old;
	bool good;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pqp_quiet(slot);
	good = command(slot->conn, "", deadline);
	if (good)
		pqp_drop_notifies(slot->conn);
	pqp_restore(slot);
	(void) pthread_setcancelstate(old, NULL);
	return good && !slot->fatal;
}

static bool
says(const Slot *slot, const char *parameter, const char *value)
{
	const char *now = PQparameterStatus(slot->conn, parameter);

	return now && strcmp(now, value) == 0;
}

/*
 * Is the server still what target_session_attrs asked for when this was opened?
 * As far as it has said: since version 14 it does with the first answer after a
 * change.  That it is read-only can be told from a holder's own setting only where
 * those are discarded, and have been.
 */
bool
pqp_on_target(const Slot *slot)
{
	const PoolOptions *options = &slot->pool->options;
	bool clean = options->reset == PQP_RESET_DISCARD;

	switch (options->target)
	{
		case PQP_TARGET_READ_WRITE:
			return !says(slot, "in_hot_standby", "on") &&
				   !(clean && says(slot, "default_transaction_read_only", "on"));
		case PQP_TARGET_READ_ONLY:
			return !says(slot, "in_hot_standby", "off") ||
				   !(clean && says(slot, "default_transaction_read_only", "off"));
		case PQP_TARGET_PRIMARY:
			return !says(slot, "in_hot_standby", "on");
		case PQP_TARGET_STANDBY:
			return !says(slot, "in_hot_standby", "off");
		default:
			return true;
	}
}

/* Results and notices are nobody's. */
static bool
roll_back(Slot *slot, PGTransactionStatusType status, int64_t deadline)
{
	PGconn *conn = slot->conn;

	if (PQisnonblocking(conn) && PQsetnonblocking(conn, 0) != 0)
		return false;
	if (status != PQTRANS_IDLE && !command(conn, "ROLLBACK", deadline))
		return false;
	return PQtransactionStatus(conn) == PQTRANS_IDLE;
}

/*
 * Make a connection that was given back fit for the next holder, but for a
 * DISCARD ALL.  False: it cannot be, or is not worth it, and has to be closed.
 * *commanded: the server had to be asked.
 */
bool
pqp_clean(Slot *slot, const PoolOptions *options, int64_t deadline, bool *commanded)
{
	PGconn *conn = slot->conn;
	PGTransactionStatusType status = PQtransactionStatus(conn);
	bool good = true;

	*commanded = false;
	if (PQstatus(conn) != CONNECTION_OK || PQpipelineStatus(conn) != PQ_PIPELINE_OFF ||
		status == PQTRANS_ACTIVE || status == PQTRANS_UNKNOWN)
		return false;
	if (status != PQTRANS_IDLE && options->reset == PQP_RESET_NONE)
		return false;

	PQuntrace(conn);
	pqp_quiet(slot);
	*commanded = status != PQTRANS_IDLE;
	if (*commanded || PQisnonblocking(conn))
	{
		int old;

		(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
		good = roll_back(slot, status, deadline);
		(void) pthread_setcancelstate(old, NULL);
	}
	if (good)
		pqp_drop_notifies(conn);
	pqp_restore(slot);
	return good && !slot->fatal;
}

/* DISCARD ALL, here and now. */
bool
pqp_discard_all(Slot *slot, int64_t deadline)
{
	int old;
	bool good;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pqp_quiet(slot);
	good = command(slot->conn, DISCARD, deadline);
	if (good)
		pqp_drop_notifies(slot->conn);
	pqp_restore(slot);
	(void) pthread_setcancelstate(old, NULL);
	return good && !slot->fatal;
}

/* The same in two steps, without waiting: reset.c. */
bool
pqp_discard_send(Slot *slot)
{
	pqp_quiet(slot);
	slot->reset_failed = false;
	return PQsetnonblocking(slot->conn, 1) == 0 && PQsendQuery(slot->conn, DISCARD) &&
		   PQflush(slot->conn) >= 0;
}

Progress
pqp_discard_progress(Slot *slot)
{
	PGconn *conn = slot->conn;

	if (!pqp_socket_kept(slot) || PQflush(conn) < 0 || !PQconsumeInput(conn))
		return PROGRESS_BROKEN;
	while (!PQisBusy(conn))
	{
		PGresult *result = PQgetResult(conn);

		if (!result)
		{
			pqp_drop_notifies(conn);
			pqp_restore(slot);
			return PQsetnonblocking(conn, 0) == 0 && !slot->reset_failed && !slot->fatal &&
						   PQtransactionStatus(conn) == PQTRANS_IDLE
					   ? PROGRESS_DONE
					   : PROGRESS_BROKEN;
		}
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			slot->reset_failed = true;
		PQclear(result);
	}
	return PROGRESS_MORE;
}

/* The allotment as this connection last heard it; NULL: never. */
const char *
pqp_text(Slot *slot)
{
	return PQparameterStatus(slot->conn, PQP_ALLOTMENT_PARAMETER);
}
