/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  Calling the user's functions.
 *
 * Always without a lock, and by whoever owns the connection at that moment, so
 * that the function may do with it what it likes.  What it may not do is leave
 * it in a state in which it could not be lent: then it counts as refused.
 *
 * Thread cancellation is off meanwhile, since no function of ours is a
 * cancellation point.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <string.h>

pqpool *
pqpool_open_hooked_sized(const char *conninfo, const pqpool_hooks *hooks, size_t size,
						 pqpool_error *err)
{
	pqpool_hooks ours = { 0 };

	pqp_after_fork();
	if (hooks)
		memcpy(&ours, hooks, size < sizeof(ours) ? size : sizeof(ours));
	return pqp_pool_create(conninfo, &ours, err);
}

/* Is every acquire and release to be seen? */
bool
pqp_hooks_want_all(const pqpool_hooks *hooks)
{
	return hooks->before_acquire || hooks->after_release || (hooks->event && hooks->trace);
}

void
pqp_event(Pool *pool, const pqpool_event *event)
{
	pqpool_event complete = *event;
	int old;

	if (!pool->hooks.event)
		return;
	complete.pool = pool->options.name;
	if (!complete.sqlstate)
		complete.sqlstate = "";
	if (!complete.message)
		complete.message = "";
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pool->hooks.event(&complete, pool->hooks.arg);
	(void) pthread_setcancelstate(old, NULL);
}

/*
 * Most events are about a connection, for which pqpool_close waits.  The others
 * are announced with the lock held, so that it waits for them as well; and
 * once it has been called there are no more of them: false.
 */
bool
pqp_telling_begins(Pool *pool)
{
	if (!pool->hooks.event || pool->closed)
		return false;
	pool->refs++;
	pool->telling++;
	return true;
}

void
pqp_telling_ends(Pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	if (--pool->telling == 0 && pool->watchers > 0)
		pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	pqp_unref(pool);
}

static bool
call(const Pool *pool, int (*hook)(PGconn *, void *), PGconn *conn)
{
	int old;
	bool fit;

	if (!hook)
		return true;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	fit = hook(conn, pool->hooks.arg) == 0;
	(void) pthread_setcancelstate(old, NULL);
	return fit && PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE;
}

/* False: *failure says so, and the connection is the caller's to close. */
bool
pqp_hook_configure(const Pool *pool, PGconn *conn, Failure *failure)
{
	char text[256] = "the hook \"configure\" refused the connection";

	if (call(pool, pool->hooks.configure, conn))
		return true;
	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		(void) strcpy(text,
					  "the hook \"configure\" left the connection in a transaction, or broken");
	pqp_failure_set(failure, PQPOOL_HOOK, text);
	return false;
}

bool
pqp_hook_acquire(const Slot *slot)
{
	return call(slot->pool, slot->pool->hooks.before_acquire, slot->conn);
}

bool
pqp_hook_release(const Slot *slot)
{
	return !slot->pool || call(slot->pool, slot->pool->hooks.after_release, slot->conn);
}

void
pqp_hook_close(const Pool *pool, PGconn *conn)
{
	int old;

	if (!pool || !pool->hooks.on_close)
		return;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pool->hooks.on_close(conn, pool->hooks.arg);
	(void) pthread_setcancelstate(old, NULL);
}
