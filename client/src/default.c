/*-------------------------------------------------------------------------
 *
 * default.c
 *	  The default pool, and connections that belong to one thread.
 *
 * A thread's own connection is a slot without a pool: in the lookup table, so
 * that giving it back works as with any other, but touched by its thread only.
 *
 * Lock: `home.lock`, outermost of all; held for reading and writing the
 * variables only.  Opening a pool reads files, so it happens outside; `opening`
 * keeps others out meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>

static struct
{
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool opening;
	Pool *pool;		/* holds the handle's reference */
	char *conninfo; /* of the last successful pqpool_initialize */
} home = { .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };

/*
 * The default pool.
 */

int
pqpool_initialize(const char *conninfo, pqpool_error *err)
{
	pqpool_error mine;
	char *copy;
	Pool *pool;
	int old;

	if (!err)
		err = &mine;
	pqp_after_fork();
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pthread_mutex_lock(&home.lock);
	while (home.opening)
		pthread_cond_wait(&home.opened, &home.lock);
	if (home.pool)
	{
		pthread_mutex_unlock(&home.lock);
		(void) pthread_setcancelstate(old, NULL);
		return pqp_error_set(err, PQPOOL_ALREADY_INITIALIZED, "the default pool is open already");
	}
	home.opening = true;
	pthread_mutex_unlock(&home.lock);

	copy = strdup(conninfo ? conninfo : "");
	pool = copy ? pqp_pool_create(conninfo, NULL, err) : NULL;
	if (!copy)
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");

	pthread_mutex_lock(&home.lock);
	home.opening = false;
	home.pool = pool;
	if (pool)
	{
		char *previous = home.conninfo;

		home.conninfo = copy;
		copy = previous;
	}
	pthread_cond_broadcast(&home.opened);
	pthread_mutex_unlock(&home.lock);
	(void) pthread_setcancelstate(old, NULL);
	free(copy);
	return err->code;
}

int
pqpool_close_pool(void)
{
	Pool *pool;

	pqp_after_fork();
	pthread_mutex_lock(&home.lock);
	pool = home.pool;
	home.pool = NULL;
	pthread_mutex_unlock(&home.lock);
	if (pool)
		(void) pqp_shut(pool, PQP_CLOSE_MS, true);
	return PQPOOL_OK;
}

/* What is current where the thread itself says nothing: with a reference, or NULL. */
static Pool *
common_pool(void)
{
	Pool *pool;

	pthread_mutex_lock(&home.lock);
	pool = pqp_process_pool();
	if (!pool)
		pool = home.pool;
	if (pool)
		pqp_ref(pool);
	pthread_mutex_unlock(&home.lock);
	return pool;
}

/*
 * A thread's own connection.
 */

/* In the background; the thread has none then. */
void
pqp_own_close(Thread *thread)
{
	Slot *slot = thread->own;

	if (!slot)
		return;
	thread->own = NULL;
	slot->next = NULL;
	pqp_close_slots(slot);
	pqp_options_free(&thread->own_options);
}

static bool
own_parse(PoolOptions *options, pqpool_error *err)
{
	char why[512];
	char *conninfo;

	pthread_mutex_lock(&home.lock);
	conninfo = strdup(home.conninfo ? home.conninfo : "");
	pthread_mutex_unlock(&home.lock);
	if (!conninfo)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return false;
	}
	if (!pqp_options_parse(conninfo, options, why, sizeof(why)))
	{
		(void) pqp_error_set(err, options->no_memory ? PQPOOL_OUT_OF_MEMORY : PQPOOL_BAD_OPTION,
							 "%s", why);
		free(conninfo);
		return false;
	}
	free(conninfo);
	return true;
}

/* With a pool_acquire_timeout of 0 nobody waits for a pool, but connecting takes its time. */
static int64_t
own_deadline(const PoolOptions *options)
{
	return options->acquire_timeout_ms == 0 ? pqp_open_deadline(options)
											: pqp_deadline(pqp_now(), options->acquire_timeout_ms);
}

static bool
own_open(Thread *thread, pqpool_error *err)
{
	Slot *slot = aligned_alloc(_Alignof(Slot), sizeof(*slot));
	Failure failure;

	if (!slot)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return false;
	}
	memset(slot, 0, sizeof(*slot));
	if (!own_parse(&thread->own_options, err))
	{
		free(slot);
		return false;
	}
	slot->conn = pqp_connect(&thread->own_options, NULL, own_deadline(&thread->own_options), NULL,
							 &slot->nascent, &failure);
	if (!slot->conn)
	{
		(void) pqp_error_set(err, failure.code, "this thread's own connection: %s",
							 pqpool_strerror(failure.code));
		(void) pqp_error_cause(err, &failure);
		pqp_options_free(&thread->own_options);
		free(slot);
		return false;
	}
	slot->receiver = PQsetNoticeReceiver(slot->conn, NULL, NULL);
	slot->processor = PQsetNoticeProcessor(slot->conn, NULL, NULL);
	slot->own_thread = thread->serial;
	slot->alive_at = pqp_now();
	slot->idle_since = slot->alive_at;
	pqp_lost(pqp_lookup_add(slot));
	pqp_nascent(&slot->nascent, NULL);
	thread->own = slot;
	return true;
}

/* Is it fit to be handed out again? */
static bool
own_good(Thread *thread)
{
	Slot *slot = thread->own;
	int64_t now = pqp_now();
	int64_t unused = now - slot->idle_since;
	const PoolOptions *options = &thread->own_options;

	if (now - slot->alive_at < options->peek_after_ms * 1000)
		return true;
	if (!pqp_alive(slot))
		return false;
	slot->alive_at = now;
	return options->validate_after_ms < 0 || unused < options->validate_after_ms * 1000 ||
		   pqp_round_trip(slot, pqp_deadline(now, options->reset_timeout_ms));
}

static PGconn *
own_get(Thread *thread, pqpool_error *err)
{
	if (thread->own && (thread->own->lost || (thread->own->own_loans == 0 && !own_good(thread))))
		pqp_own_close(thread);
	if (!thread->own && !own_open(thread, err))
		return NULL;
	thread->own->own_loans++;
	(void) pqp_error_clear(err);
	return thread->own->conn;
}

int
pqp_own_return(Slot *slot, bool keep)
{
	Thread *thread = pqp_thread_if_any();
	bool commanded;
	int64_t now = pqp_now();

	if (slot->own_loans == 0)
		return PQPOOL_NOT_LENT;
	slot->own_loans--;
	slot->doomed = slot->doomed || !keep;
	if (slot->own_loans > 0)
		return PQPOOL_OK;
	if (slot->doomed ||
		!pqp_clean(slot, &thread->own_options,
				   pqp_deadline(now, thread->own_options.reset_timeout_ms), &commanded) ||
		(thread->own_options.reset == PQP_RESET_DISCARD &&
		 !pqp_discard_all(slot, pqp_deadline(now, thread->own_options.reset_timeout_ms))))
		pqp_own_close(thread);
	else
		slot->idle_since = now;
	return PQPOOL_OK;
}

int
pqpool_cleanup_thread_local_connection(void)
{
	Thread *thread;

	pqp_after_fork();
	thread = pqp_thread_if_any();
	if (thread)
		pqp_own_close(thread);
	return PQPOOL_OK;
}

/*
 * Where a connection comes from.
 */

PGconn *
pqpool_get_connection_at(pqpool_error *err, const char *site)
{
	Thread *thread;
	Pool *pool;
	PGconn *conn;

	pqp_after_fork();
	thread = pqp_scope_missed() ? NULL : pqp_thread();
	if (!thread)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	if (thread->depth > 0)
		return pqp_scope_get(thread, site, err);
	pool = common_pool();
	if (!pool)
		return own_get(thread, err);
	conn = pqp_acquire(pool, -1, true, site, err);
	pqp_unref(pool);
	return conn;
}

pqpool *
pqpool_current(void)
{
	Thread *thread;
	Pool *pool;

	pqp_after_fork();
	thread = pqp_thread_if_any();
	if (thread && thread->depth > 0)
		return thread->scopes[thread->depth - 1].pool;
	pool = common_pool();
	if (pool)
		pqp_unref(pool);
	return pool;
}

PGconn *
pqpool_get_connection(pqpool_error *err)
{
	return pqpool_get_connection_at(err, NULL);
}

int
pqpool_return_connection(PGconn *conn)
{
	return pqpool_release(conn);
}

void
pqp_default_lock(void)
{
	pthread_mutex_lock(&home.lock);
}

void
pqp_default_unlock(void)
{
	pthread_mutex_unlock(&home.lock);
}

void
pqp_default_renew(void)
{
	home.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

/* Whoever was opening the pool, or waiting for that, is not here. */
void
pqp_default_forked(void)
{
	home.opening = false;
	home.opened = (pthread_cond_t) PTHREAD_COND_INITIALIZER;
}
