/*-------------------------------------------------------------------------
 *
 * cancel.c
 *	  PGcancel: what cancels a query, and outlives the loan.
 *
 * libpq's PGcancel knows the server's process, and nothing of who has it now.
 * So the program gets one of ours, which knows the loan that it was made for: when that
 * has ended, it cancels nothing any more.
 *
 * psycopg makes one for each connection, and frees it after PQfinish.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <stdlib.h>
#include <string.h>

/* What the program takes for a PGcancel. */
typedef struct Ours
{
	const Libpq *libpq;
	PGcancel *theirs;
	Ticket *ticket;
	uint64_t loan; /* 0: of a connection that is not pooled */
} Ours;

PQP_EXPORT PGcancel *
PQgetCancel(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	PGcancel *theirs = view.libpq ? view.libpq->PQgetCancel(conn) : NULL;
	Ours *ours = theirs ? malloc(sizeof(*ours)) : NULL;

	if (!ours)
	{
		if (theirs)
			view.libpq->PQfreeCancel(theirs);
		return NULL;
	}
	*ours = (Ours){ .libpq = view.libpq, .theirs = theirs };
	if (view.pooled)
		ours->loan = pqp_guest_loan(conn, &ours->ticket);
	return (PGcancel *) ours;
}

static void
say(char *errbuf, int errbufsize, const char *message)
{
	size_t length = strlen(message);

	if (errbufsize <= 0)
		return;
	if (length >= (size_t) errbufsize)
		length = (size_t) errbufsize - 1;
	memcpy(errbuf, message, length);
	errbuf[length] = '\0';
}

/* Also from a signal handler: psql's Ctrl-C comes by here. */
PQP_EXPORT int
PQcancel(PGcancel *cancel, char *errbuf, int errbufsize)
{
	Ours *ours = (Ours *) cancel;
	int sent;

	if (!ours)
	{
		say(errbuf, errbufsize, "PQcancel() -- no cancel object supplied");
		return 0;
	}
	if (ours->loan == 0)
		return ours->libpq->PQcancel(ours->theirs, errbuf, errbufsize);
	if (!pqp_ticket_enter(ours->ticket, ours->loan))
	{
		say(errbuf, errbufsize, "PQcancel() -- the connection has been closed");
		return 0;
	}
	sent = ours->libpq->PQcancel(ours->theirs, errbuf, errbufsize);
	pqp_ticket_leave(ours->ticket, ours->loan);
	return sent;
}

PQP_EXPORT void
PQfreeCancel(PGcancel *cancel)
{
	Ours *ours = (Ours *) cancel;

	if (!ours)
		return;
	ours->libpq->PQfreeCancel(ours->theirs);
	free(ours);
}

/*
 * libpq 17 has another door: a connection of its own that cancels, in steps, when its time
 * comes.  Where it goes cannot be taken back, so a connection that has had one made is
 * closed when the program closes it.
 */
PQP_EXPORT PGcancelConn *
PQcancelCreate(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);

	if (!view.libpq || !view.libpq->PQcancelCreate)
		return NULL;
	if (view.pooled)
		pqp_guest_spoiled(conn);
	return view.libpq->PQcancelCreate(conn);
}
