/*-------------------------------------------------------------------------
 *
 * fakepq.h
 *	  As much of libpq as the library uses, without a server.
 *
 * Real sockets (a pair for each connection, so that the library's recv, poll,
 * dup and shutdown mean something), but no protocol: the other end writes a byte
 * when an answer is there, and closes when the session ends.  It acts at once,
 * or when the library has waited so many times (faults_before_poll), which
 * keeps tests with one thread deterministic.
 *
 * All that libpq would allocate is allocated, and may fail; what it does then
 * is what libpq does: a call fails, a result is an error, a parameter's or a
 * notification's text is lost without a word.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FAKEPQ_H
#define FAKEPQ_H

#include <limits.h>
#include <stdbool.h>

#include <libpq-fe.h>

#define NEVER INT_MAX

/* How the server behaves towards those who come from now on. */
typedef struct FakeServer
{
	int connect_waits;	/* connecting takes so many */
	bool silent;		/* or gets no answer at all */
	const char *refuse; /* or this SQLSTATE; NULL: it succeeds */
	int answer_waits;	/* a command's answer takes so many; or NEVER comes */
	int end_waits;		/* the end of a session */
	bool attached;		/* it has pgpool_monitor */
	int limit;			/* and allots so many */
	bool no_cancel;		/* a cancel request finds nobody */
} FakeServer;

extern void fakepq_behave(FakeServer server);

/*
 * What is alive: connections and their sockets, results, cancels, notifications, lists of
 * options.
 */
extern int fakepq_alive(void);

/* Whatever the server was to do later, it does now. */
extern void fakepq_hurry(void);

/* What the holder of a connection does, or the server to it. */
extern void fakepq_set_transaction(PGconn *conn, PGTransactionStatusType status);
extern void fakepq_run_forever(PGconn *conn);	  /* a query, until it is cancelled */
extern void fakepq_end(PGconn *conn, bool fatal); /* the session ends; fatal: it says so before */
extern void fakepq_notify(PGconn *conn);
extern void fakepq_warn(PGconn *conn);
extern void fakepq_allot(PGconn *conn, int limit); /* the server says a new limit */
extern const char *fakepq_option(PGconn *conn,
								 const char *keyword); /* as it was connected with; NULL: not */
extern long fakepq_reports(void);					   /* received, ever */

#endif /* FAKEPQ_H */
