/*-------------------------------------------------------------------------
 *
 * entry.c
 *	  libpq's functions that open and close, as the program meets them.
 *
 * Opening: an idle connection with the same key if there is one, else the program's own
 * call, with the pool's identity among its startup options.  That either fails, which is
 * the program's to see as always, or becomes a loan.  Closing gives it back.  A program
 * that connects step by step does so here, too: one that is idle is connected already, at
 * the first step.
 *
 * When all that the pool may have are in use, a caller waits until one is free,
 * in turn with the others, as in a pool.  But one who would wait for himself, or who
 * connects step by step and must not be kept, gets a connection beside the pool.
 * What is not to be had in time is a PGconn with CONNECTION_BAD and a message.
 *
 * Where there is no room for one more, on the server or in the process, what is idle gives
 * way, and it is tried once more.
 *
 * Accepted: libpq tells a step-by-step program of a proxy that does not take startup
 * options, or of a server that is full, when it is too late to try again.  That attempt
 * fails; the next one goes without, or finds room.  And a full server is understood if it
 * speaks English.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_SIZE 4096
#define TRIES 3 /* of finding a pool that is not closed a moment later */

/*
 * Connecting for real.
 */

/* The program's own parameters, and ours. */
typedef struct Parameters
{
	const char **keywords; /* NULL: no memory */
	const char **values;
	char options[OPTIONS_SIZE];
	bool identified;
} Parameters;

static bool
get_parameters(Pool *pool, bool identified, Parameters *parameters)
{
	const PoolOptions *options = &pool->options;
	int n = options->nparams;

	parameters->keywords = malloc(((size_t) n + 2) * 2 * sizeof(char *));
	if (!parameters->keywords)
		return false;
	parameters->values = parameters->keywords + n + 2;
	for (int i = 0; i < n; i++)
	{
		parameters->keywords[i] = options->keywords[i];
		parameters->values[i] = options->values[i];
	}
	parameters->identified =
		identified && pqp_identity(pool, parameters->options, sizeof(parameters->options), false);
	parameters->keywords[n] = "options";
	parameters->values[n] = parameters->identified ? parameters->options : options->user_options;
	if (!parameters->values[n][0])
		parameters->keywords[n] = NULL;
	parameters->keywords[n + 1] = parameters->values[n + 1] = NULL;
	return true;
}

/* A proxy that does not know what to do with our identity: never again. */
static bool
is_unwelcome(Pool *pool, PGconn *conn)
{
	const char *message = pqp_libpq.PQerrorMessage(conn);

	if (!pqp_is_proxy_refusal(message))
		return false;
	pthread_mutex_lock(&pool->lock);
	pool->link.refused = true;
	pthread_mutex_unlock(&pool->lock);
	return true;
}

/* Is there no room for one more?  libpq does not tell the SQLSTATE, which is 53300. */
static bool
is_full(const char *message)
{
	static const char *const words[] = { "too many clients already",
										 "connection slots are reserved",
										 "too many connections for",
										 "no more connections allowed" /* PgBouncer */ };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(message, words[i]))
			return true;
	return strstr(message, strerror(EMFILE)) || strstr(message, strerror(ENFILE));
}

/* It failed for want of room, and some has been made: once more.  Then it is gone. */
static bool
made_room(View view, PGconn *conn)
{
	if (!view.pooled || view.libpq->PQstatus(conn) != CONNECTION_BAD ||
		!is_full(view.libpq->PQerrorMessage(conn)) || pqp_idle_close_all(true) == 0)
		return false;
	view.libpq->PQfinish(conn);
	return true;
}

static PGconn *
open_now(View view, Pool *pool)
{
	Parameters parameters;
	PGconn *conn;

	for (;;)
	{
		bool again;

		if (!get_parameters(pool, true, &parameters))
			return NULL;
		conn = pqp_libpq.PQconnectdbParams(parameters.keywords, parameters.values, 0);
		free(parameters.keywords);
		again = conn && pqp_libpq.PQstatus(conn) != CONNECTION_OK && parameters.identified &&
				is_unwelcome(pool, conn);
		if (again)
			pqp_libpq.PQfinish(conn);
		else if (!made_room(view, conn))
			return conn;
	}
}

static PGconn *
open_start(Pool *pool)
{
	Parameters parameters;
	PGconn *conn;

	if (!get_parameters(pool, true, &parameters))
		return NULL;
	conn = pqp_libpq.PQconnectStartParams(parameters.keywords, parameters.values, 0);
	free(parameters.keywords);
	return conn;
}

/*
 * Lending.
 */

static PGconn *
lent(PGconn *conn)
{
	pqp_guest_lent(conn);
	return conn;
}

/* It is connected, and becomes a loan, if it can: else it is a connection like any other. */
static void
connected(Claim *claim, PGconn *conn)
{
	int64_t took = pqp_now() - claim->start;

	pqp_count(&pqp_summary.opened, 1);
	pqp_count(&pqp_summary.opening_us, (uint64_t) took);
	if (!pqp_guest_known(conn) && !pqp_guest_add(conn, NULL))
		pqp_claim_failed(claim);
	else if (pqp_claim_connected(claim, conn))
		(void) lent(conn);
}

static void
failed(Claim *claim)
{
	pqp_count(&pqp_summary.failed, 1);
	pqp_claim_failed(claim);
}

/* A PGconn that is of no use but for its message. */
static PGconn *
refused(const pqpool_error *err)
{
	static const char *const keywords[] = { "pqpool_refused", NULL };
	static const char *const values[] = { "1", NULL };
	PGconn *conn = pqp_libpq.PQconnectStartParams(keywords, values, 0);

	pqp_count(&pqp_summary.refused, 1);
	if (conn)
		pqp_guest_refused(conn, err->message);
	return conn;
}

/* What became of a call. */
typedef enum Outcome
{
	OUTCOME_PASS,  /* libpq shall do it */
	OUTCOME_AGAIN, /* the pool was closed meanwhile, as files have changed: there is another one */
	OUTCOME_DONE
} Outcome;

/*
 * How long to wait for one that is free: the program's bound for connecting is one for this
 * as well.
 */
static int
patience_ms(const Pool *pool)
{
	const PoolOptions *options = &pool->options;
	int64_t bound = options->connect_timeout_given ? options->connect_timeout_ms : 0;

	if (bound <= 0 || bound > INT_MAX ||
		(options->acquire_timeout_ms >= 0 && options->acquire_timeout_ms < bound))
		return -1;
	return (int) bound;
}

static Outcome
open_or_borrow(View view, Pool *pool, bool now, PGconn **conn)
{
	Claim claim;
	pqpool_error err;

	if (!pqp_claim(pool, now ? patience_ms(pool) : 0, &claim, &err))
	{
		if (err.code == PQPOOL_CLOSED)
			return OUTCOME_AGAIN;
		if (now && !claim.alone && err.code != PQPOOL_OUT_OF_MEMORY)
		{
			*conn = refused(&err);
			return OUTCOME_DONE;
		}
		pqp_count(&pqp_summary.beyond, 1);
		return OUTCOME_PASS;
	}
	if (claim.conn)
	{
		pqp_count(&pqp_summary.reused, 1);
		*conn = lent(claim.conn);
		return OUTCOME_DONE;
	}
	pqp_idle_make_room(pool, now);
	*conn = now ? open_now(view, pool) : open_start(pool);
	if (*conn)
		pqp_claim_begun(&claim, *conn);
	if (!*conn || pqp_libpq.PQstatus(*conn) == CONNECTION_BAD)
		failed(&claim);
	else if (now)
		connected(&claim, *conn);
	else if (!pqp_guest_add(*conn, &claim))
		failed(&claim);
	return OUTCOME_DONE;
}

static Outcome
connect_by(View view, const Arguments *arguments, bool now, PGconn **conn)
{
	Pool *pool;

	if (!view.pooled)
		return OUTCOME_PASS;
	pqp_after_fork();
	pqp_count(&pqp_summary.asked, 1);
	pqp_keeper_visit();
	for (int i = 0; i < TRIES && (pool = pqp_pool_for(arguments)) != NULL; i++)
	{
		Outcome outcome = open_or_borrow(view, pool, now, conn);

		pqp_unref(pool);
		if (outcome != OUTCOME_AGAIN)
			return outcome;
	}
	pqp_count(&pqp_summary.passed, 1);
	return OUTCOME_PASS;
}

/* The call as the program made it: nothing of ours is in it. */
static PGconn *
pass_on(const Libpq *libpq, const Arguments *arguments, bool now)
{
	const char *const *strings = arguments->strings;

	switch (arguments->kind)
	{
		case BY_STRING:
			return now ? libpq->PQconnectdb(strings[0]) : libpq->PQconnectStart(strings[0]);
		case BY_LOGIN:
			return libpq->PQsetdbLogin(strings[0], strings[1], strings[2], arguments->tty,
									   strings[3], strings[4], strings[5]);
		default:
			return (now ? libpq->PQconnectdbParams : libpq->PQconnectStartParams)(
				arguments->keywords, arguments->values, arguments->expand_dbname);
	}
}

static PGconn *
connect_or_pass(View view, const Arguments *arguments, bool now)
{
	PGconn *conn;

	if (!view.libpq)
		return NULL;
	if (connect_by(view, arguments, now, &conn) == OUTCOME_DONE)
		return conn;
	do
		conn = pass_on(view.libpq, arguments, now);
	while (now && made_room(view, conn));
	return conn;
}

/*
 * The entries.
 */

PQP_EXPORT PGconn *
PQconnectdb(const char *conninfo)
{
	Arguments arguments = { .kind = BY_STRING, .strings = { conninfo } };

	return connect_or_pass(PQP_VIEW(), &arguments, true);
}

PQP_EXPORT PGconn *
PQconnectStart(const char *conninfo)
{
	Arguments arguments = { .kind = BY_STRING, .strings = { conninfo } };

	return connect_or_pass(PQP_VIEW(), &arguments, false);
}

PQP_EXPORT PGconn *
PQconnectdbParams(const char *const *keywords, const char *const *values, int expand_dbname)
{
	Arguments arguments = {
		.kind = BY_PARAMS, .keywords = keywords, .values = values, .expand_dbname = expand_dbname
	};

	return connect_or_pass(PQP_VIEW(), &arguments, true);
}

PQP_EXPORT PGconn *
PQconnectStartParams(const char *const *keywords, const char *const *values, int expand_dbname)
{
	Arguments arguments = {
		.kind = BY_PARAMS, .keywords = keywords, .values = values, .expand_dbname = expand_dbname
	};

	return connect_or_pass(PQP_VIEW(), &arguments, false);
}

PQP_EXPORT PGconn *
PQsetdbLogin(const char *host, const char *port, const char *options, const char *tty,
			 const char *dbname, const char *login, const char *password)
{
	Arguments arguments = { .kind = BY_LOGIN,
							.strings = { host, port, options, dbname, login, password },
							.tty = tty };

	return connect_or_pass(PQP_VIEW(), &arguments, true);
}

PQP_EXPORT PostgresPollingStatusType
PQconnectPoll(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	PostgresPollingStatusType status;
	Claim claim;

	if (!view.libpq)
		return PGRES_POLLING_FAILED;
	status = view.libpq->PQconnectPoll(conn);
	if (!view.pooled || !pqp_guest_connecting(conn, &claim))
		return status;
	if (status == PGRES_POLLING_OK)
		connected(&claim, conn);
	if (status != PGRES_POLLING_FAILED)
		return status;
	(void) is_unwelcome(claim.pool, conn);
	if (is_full(view.libpq->PQerrorMessage(conn)))
		(void) pqp_idle_close_all(false);
	pqp_guest_gone(conn, NULL);
	failed(&claim);
	return status;
}

PQP_EXPORT void
PQfinish(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	Farewell farewell = FAREWELL_STRANGER;
	Claim claim;

	if (!view.libpq)
		return;
	if (view.pooled)
	{
		pqp_after_fork();
		farewell = pqp_guest_leaves(conn, &claim);
	}
	switch (farewell)
	{
		case FAREWELL_RELEASE:
			(void) pqpool_release(conn);
			break;
		case FAREWELL_DISCARD:
			(void) pqpool_discard(conn);
			break;
		case FAREWELL_CONNECTING:
			view.libpq->PQfinish(conn);
			failed(&claim);
			break;
		case FAREWELL_TWICE:
			return;
		default:
			view.libpq->PQfinish(conn);
			return;
	}
	pqp_keeper_visit();
}

/*
 * The same PGconn, another session: the loan goes on.
 */

PQP_EXPORT void
PQreset(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	int64_t began = pqp_boottime();

	if (!view.libpq)
		return;
	view.libpq->PQreset(conn);
	if (!view.pooled || pqp_guest_loan(conn, NULL) == 0)
		return;
	/* when it was refused as well: there is a new socket, for PQfinish to close */
	pqp_guest_connected(conn);
	if (view.libpq->PQstatus(conn) == CONNECTION_OK)
		pqp_claim_reconnected(conn, began);
}

PQP_EXPORT int
PQresetStart(PGconn *conn)
{
	View view = PQP_VIEW();
	int started;

	if (!view.libpq)
		return 0;
	started = view.libpq->PQresetStart(conn);
	if (view.pooled && pqp_guest_loan(conn, NULL) != 0)
		pqp_guest_connected(conn);
	return started;
}

PQP_EXPORT PostgresPollingStatusType
PQresetPoll(PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	int64_t began = pqp_boottime();
	PostgresPollingStatusType status;

	if (!view.libpq)
		return PGRES_POLLING_FAILED;
	status = view.libpq->PQresetPoll(conn);
	if (view.pooled && pqp_guest_loan(conn, NULL) != 0)
	{
		pqp_guest_connected(conn);
		if (status == PGRES_POLLING_OK)
			pqp_claim_reconnected(conn, began);
	}
	return status;
}

/*
 * What the program must not notice, and the next holder must not meet.
 */

PQP_EXPORT char *
PQerrorMessage(const PGconn *conn)
{
	View view = PQP_VIEW_OF(conn);
	const char *message;

	if (!view.libpq)
		return (char *) "";
	message = view.pooled ? pqp_guest_message((PGconn *) conn) : NULL;
	return message ? (char *) message : view.libpq->PQerrorMessage(conn);
}

/*
 * The startup options as the program gave them.  With our identity among them, what it feeds
 * back, as psql does, would be another kind each time.  They are there as long as the loan.
 */
static char *
given_options(View view, const PGconn *conn)
{
	Slot *slot = view.pooled ? pqp_lookup((PGconn *) conn) : NULL;
	Pool *pool = slot ? slot->pool : NULL;
	Claim claim;

	if (slot)
		pqp_lookup_unlock((PGconn *) conn);
	else if (view.pooled && pqp_guest_connecting((PGconn *) conn, &claim))
		pool = claim.pool;
	return pool ? pool->options.user_options : NULL;
}

PQP_EXPORT char *
PQoptions(const PGconn *conn)
{
	View view = PQP_VIEW();
	char *given;

	if (!view.libpq)
		return NULL;
	given = given_options(view, conn);
	return given ? given : view.libpq->PQoptions(conn);
}

PQP_EXPORT PQconninfoOption *
PQconninfo(PGconn *conn)
{
	View view = PQP_VIEW();
	PQconninfoOption *all;
	const char *given;

	if (!view.libpq)
		return NULL;
	all = view.libpq->PQconninfo(conn);
	given = all ? given_options(view, conn) : NULL;
	/* in place: it is libpq's memory, and ours come last */
	for (PQconninfoOption *option = all; given && option->keyword; option++)
		if (strcmp(option->keyword, "options") == 0 && option->val &&
			strlen(given) < strlen(option->val))
			strcpy(option->val, given);
	return all;
}

/* They cannot be taken back. */
PQP_EXPORT int
PQregisterEventProc(PGconn *conn, PGEventProc proc, const char *name, void *arg)
{
	View view = PQP_VIEW_OF(conn);

	if (!view.libpq)
		return 0;
	if (view.pooled)
		pqp_guest_spoiled(conn);
	return view.libpq->PQregisterEventProc(conn, proc, name, arg);
}
