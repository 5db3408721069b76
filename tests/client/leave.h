/*-------------------------------------------------------------------------
 *
 * leave.h
 *	  What a careless holder leaves of a connection: unfit for the next one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LEAVE_H
#define LEAVE_H

#include "client.h"

static void
leave_query(PGconn *conn)
{
	(void) PQsendQuery(conn, "SELECT pg_sleep(600)");
}

static void
leave_single_row(PGconn *conn)
{
	(void) PQsendQuery(conn, "SELECT generate_series(1, 1000)");
	(void) PQsetSingleRowMode(conn);
	PQclear(PQgetResult(conn));
}

static void
leave_pipeline(PGconn *conn)
{
	(void) PQenterPipelineMode(conn);
}

static void
leave_copy_out(PGconn *conn)
{
	PQclear(PQexec(conn, "COPY (SELECT generate_series(1, 100000)) TO STDOUT"));
}

#endif /* LEAVE_H */
