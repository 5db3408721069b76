/*-------------------------------------------------------------------------
 *
 * cancel.c
 *	  pqpool_cancel: PQcancel with a deadline.
 *
 * PQcancel blocks for as long as the kernel likes, so a thread of its own does
 * it, and whoever is last, it or the caller, frees the request.  The slot
 * counts requests under way, and is not lent again while there are any; it is
 * found again by index and serial, as it may be gone by then.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_MS 5000
#define INSIST_US 50000
#define INSIST_TIMES 4

typedef struct Request
{
	PGcancel *cancel;
	Pool *pool; /* NULL: a thread's own connection */
	int index;
	uint64_t serial;
	atomic_int holders; /* caller and thread */
	Waiter done;		/* told when the answer is there */
	bool sent;
	char text[256]; /* why not */
} Request;

static void
drop(Request *request)
{
	if (atomic_fetch_sub(&request->holders, 1) == 1)
		free(request);
}

static void
forget(Request *request)
{
	Pool *pool = request->pool;
	Slot *slot;

	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	slot = pqp_slot(pool, request->index);
	if (slot->serial == request->serial)
		slot->cancels--;
	pthread_mutex_unlock(&pool->lock);
	pqp_unref(pool);
}

static void *
cancel_main(void *arg)
{
	Request *request = arg;

	(void) pthread_setname_np(pthread_self(), "pqpool-cancel");
	request->sent = PQcancel(request->cancel, request->text, sizeof(request->text));
	PQfreeCancel(request->cancel);
	forget(request);
	pqp_waitq_tell(&request->done);
	drop(request);
	return NULL;
}

/* Why PQgetCancel gave none. */
static int
no_cancel_code(const PGconn *conn)
{
	return PQsocket(conn) < 0 ? PQPOOL_SERVER_DOWN : PQPOOL_OUT_OF_MEMORY;
}

/* What is needed to cancel, if the connection is lent.  Whose it is does not matter. */
static int
prepare(PGconn *conn, Request *request)
{
	Slot *slot = conn ? pqp_lookup(conn) : NULL;
	Pool *pool;
	int code = PQPOOL_OK;

	if (!slot)
		return conn ? PQPOOL_UNKNOWN_CONNECTION : PQPOOL_BAD_ARGUMENT;
	pool = slot->pool;
	if (!pool)
	{
		request->cancel = PQgetCancel(conn);
		pqp_lookup_unlock(conn);
		return request->cancel ? PQPOOL_OK : no_cancel_code(conn);
	}
	pthread_mutex_lock(&pool->lock);
	pqp_lookup_unlock(conn);
	pqp_item_call(&slot->item);
	if (pqp_item_holder(pqp_item_word(&slot->item)) == 0)
		code = PQPOOL_NOT_LENT;
	else if ((request->cancel = PQgetCancel(conn)) == NULL)
		code = no_cancel_code(conn);
	else
	{
		request->pool = pool;
		request->index = slot->index;
		request->serial = slot->serial;
		slot->cancels++;
		pool->refs++;
	}
	pthread_mutex_unlock(&pool->lock);
	return code;
}

/* Until it has ended: a request may be there before the query that it means. */
static void *
insist_main(void *arg)
{
	Request *request = arg;
	int64_t pause_us = INSIST_US;

	(void) pthread_setname_np(pthread_self(), "pqpool-cancel");
	for (int i = 0; i < INSIST_TIMES; i++, pause_us *= 2)
	{
		(void) PQcancel(request->cancel, request->text, sizeof(request->text));
		if (pqp_waitq_park(&request->done, pqp_now() + pause_us))
			break;
	}
	PQfreeCancel(request->cancel);
	drop(request);
	return NULL;
}

/*
 * What runs on this connection shall end, as it is about to be closed.  Does
 * not wait.  NULL: cannot be done; else pqp_cancel_ended is due when it has.
 */
struct Request *
pqp_cancel_insist(PGconn *conn)
{
	Request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	atomic_init(&request->holders, 2);
	request->cancel = PQgetCancel(conn);
	if (request->cancel && pqp_thread_start(insist_main, request))
		return request;
	PQfreeCancel(request->cancel);
	free(request);
	return NULL;
}

void
pqp_cancel_ended(struct Request *request)
{
	if (!request)
		return;
	pqp_waitq_tell(&request->done);
	drop(request);
}

int
pqpool_cancel(PGconn *conn, int timeout_ms, pqpool_error *err)
{
	int64_t deadline = pqp_deadline(pqp_now(), timeout_ms == -1 ? DEFAULT_MS : timeout_ms);
	Request *request;
	int code;

	pqp_after_fork();
	if (timeout_ms < -1)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "the timeout must be -1 or more");
	request = calloc(1, sizeof(*request));
	if (!request)
		return pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
	code = prepare(conn, request);
	if (code != PQPOOL_OK)
	{
		free(request);
		return pqp_error_set(err, code, "cancel: %s", pqpool_strerror(code));
	}
	atomic_init(&request->holders, 2);
	if (!pqp_thread_start(cancel_main, request))
	{
		PQfreeCancel(request->cancel);
		forget(request);
		free(request);
		return pqp_error_set(err, PQPOOL_SYSTEM, "cancel: no thread could be started");
	}
	if (!pqp_waitq_park(&request->done, deadline))
		code = pqp_error_set(err, PQPOOL_TIMED_OUT, "cancel: the server has not answered in time");
	else if (!request->sent)
	{
		Failure failure;

		pqp_failure_set(&failure, PQPOOL_SERVER_DOWN, request->text);
		(void) pqp_error_set(err, PQPOOL_SERVER_DOWN, "cancel");
		(void) pqp_error_cause(err, &failure);
		code = PQPOOL_SERVER_DOWN;
	}
	else
		code = pqp_error_clear(err);
	drop(request);
	return code;
}
