/*-------------------------------------------------------------------------
 *
 * steps.h
 *	  Connecting step by step, by poll(), as libpq's manual tells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STEPS_H
#define STEPS_H

#include <poll.h>

#include <libpq-fe.h>

/* To the end of what PQconnectStart has begun; a step may take patience_ms.  Returns conn. */
static inline PGconn *
step_by_step(PGconn *conn, int patience_ms)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK &&
		   status != PGRES_POLLING_FAILED)
	{
		struct pollfd wait = { .fd = PQsocket(conn),
							   .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT };

		(void) poll(&wait, 1, patience_ms);
		status = PQconnectPoll(conn);
	}
	return conn;
}

#endif /* STEPS_H */
