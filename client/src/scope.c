/*-------------------------------------------------------------------------
 *
 * scope.c
 *	  Which pool is a thread's current one.
 *
 * Each thread has a stack of entries.  The caller's struct says only where his
 * entry is and which it is, so that leaving pops everything down to it,
 * whatever inner scopes were forgotten, and leaving twice is noticed.  Only the
 * thread itself touches its stack: no lock.
 *
 * An entry holds a reference to its pool, so that a pool closed meanwhile
 * answers PQPOOL_CLOSED.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>

/*
 * Scopes of pqpool_scope_begin that could not be entered for want of memory, and
 * have not been left.  While there are any, nothing is lent here: a connection
 * of the pool outside of them would be the wrong one.
 */
static __thread uint32_t missed __attribute__((tls_model("initial-exec")));

bool
pqp_scope_missed(void)
{
	return missed > 0;
}

static ScopeEntry *
push(Thread *thread)
{
	if (thread->depth == thread->capacity)
	{
		uint32_t capacity = thread->capacity ? 2 * thread->capacity : 8;
		ScopeEntry *grown = realloc(thread->scopes, capacity * sizeof(*grown));

		if (!grown)
			return NULL;
		thread->scopes = grown;
		thread->capacity = capacity;
	}
	return &thread->scopes[thread->depth++];
}

/* Serials tell which thread entered, and are never reused. */
static uint64_t
new_serial(Thread *thread)
{
	return thread->serial << 32 | ++thread->scope_count;
}

/* Takes over the caller's reference to pool, also on failure. */
static int
enter(pqpool_scope *scope, Pool *pool, bool owned, int code, pqpool_error *err)
{
	Thread *thread = pqp_thread();
	ScopeEntry *entry = thread && missed == 0 ? push(thread) : NULL;

	if (!entry)
	{
		if (pool)
			owned ? (void) pqp_shut(pool, 0, true) : pqp_unref(pool);
		return pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
	}
	entry->pool = pool;
	entry->owned = owned;
	entry->code = code;
	entry->serial = new_serial(thread);
	scope->depth = thread->depth - 1;
	scope->code = PQPOOL_OK;
	scope->serial = entry->serial;
	return pqp_error_clear(err);
}

/* Take a reference, unless the pool is closed. */
static bool
ref_if_open(Pool *pool)
{
	bool closed;

	pthread_mutex_lock(&pool->lock);
	closed = pool->closed;
	if (!closed)
		pool->refs++;
	pthread_mutex_unlock(&pool->lock);
	return !closed;
}

int
pqpool_scope_enter(pqpool_scope *scope, pqpool *pool, pqpool_error *err)
{
	int code = PQPOOL_OK;

	pqp_after_fork();
	if (!scope)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no scope was given");
	*scope = (pqpool_scope){ 0 };
	if (!pool)
		code = pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no pool was given");
	else if (!ref_if_open(pool))
		code = pqp_error_set(err, PQPOOL_CLOSED, "pool \"%s\" is closed", pool->options.name);
	else
		code = enter(scope, pool, false, PQPOOL_OK, err);
	return code;
}

int
pqpool_scope_enter_process(pqpool_scope *scope, pqpool *pool, pqpool_error *err)
{
	int code;

	pqp_after_fork();
	if (!scope)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no scope was given");
	*scope = (pqpool_scope){ 0 };
	if (!pool)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no pool was given");
	if (!ref_if_open(pool))
		return pqp_error_set(err, PQPOOL_CLOSED, "pool \"%s\" is closed", pool->options.name);
	code = pqp_process_enter(scope, pool, err);
	if (code != PQPOOL_OK)
		pqp_unref(pool);
	return code;
}

int
pqpool_scope_enter_conninfo(pqpool_scope *scope, const char *conninfo, pqpool_error *err)
{
	pqpool_error mine;
	Pool *pool;

	pqp_after_fork();
	if (!scope)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "no scope was given");
	*scope = (pqpool_scope){ 0 };
	if (!err)
		err = &mine;
	pool = pqp_pool_create(conninfo, NULL, err);
	return pool ? enter(scope, pool, true, PQPOOL_OK, err) : err->code;
}

pqpool_scope
pqpool_scope_begin(pqpool *pool)
{
	pqpool_scope scope;
	int code = pqpool_scope_enter(&scope, pool, NULL);

	if (code != PQPOOL_OK && enter(&scope, NULL, false, code, NULL) != PQPOOL_OK)
		scope = (pqpool_scope){ .depth = missed++, .code = PQPOOL_OUT_OF_MEMORY };
	return scope;
}

/* Leave scopes until only `depth` are open, the innermost first. */
void
pqp_scope_unwind(Thread *thread, uint32_t depth)
{
	while (thread->depth > depth)
	{
		ScopeEntry entry = thread->scopes[--thread->depth];

		if (!entry.pool)
			continue;
		if (entry.owned)
			(void) pqp_shut(entry.pool, PQP_CLOSE_MS, true);
		else
			pqp_unref(entry.pool);
	}
}

/* Leave one that was missed, and those inside. */
static int
leave_missed(pqpool_scope *scope)
{
	bool innermost = scope->depth + 1 == missed;

	if (scope->depth >= missed)
		return PQPOOL_SCOPE_ORDER;
	missed = scope->depth;
	scope->code = PQPOOL_OK;
	return innermost ? PQPOOL_OK : PQPOOL_SCOPE_ORDER;
}

int
pqpool_scope_leave(pqpool_scope *scope)
{
	Thread *thread;
	bool innermost;

	pqp_after_fork();
	thread = pqp_thread_if_any();
	if (!scope)
		return PQPOOL_BAD_ARGUMENT;
	if (scope->serial == 0 && scope->code == PQPOOL_OUT_OF_MEMORY)
		return leave_missed(scope);
	if (scope->serial == 0)
		return PQPOOL_SCOPE_ORDER;
	if (scope->depth == PQP_PROCESS_SCOPE)
		return pqp_process_leave(scope);
	if (!thread || scope->serial >> 32 != (thread->serial & UINT32_MAX))
		return PQPOOL_WRONG_THREAD;
	if (scope->depth >= thread->depth || thread->scopes[scope->depth].serial != scope->serial)
		return PQPOOL_SCOPE_ORDER;
	innermost = scope->depth == thread->depth - 1 && missed == 0;
	missed = 0;
	pqp_scope_unwind(thread, scope->depth);
	scope->serial = 0;
	return innermost ? PQPOOL_OK : PQPOOL_SCOPE_ORDER;
}

/* A connection from the innermost scope's pool. */
PGconn *
pqp_scope_get(Thread *thread, const char *site, pqpool_error *err)
{
	const ScopeEntry *entry = &thread->scopes[thread->depth - 1];

	if (entry->code != PQPOOL_OK)
	{
		(void) pqp_error_set(err, entry->code, "the scope could not be entered: %s",
							 pqpool_strerror(entry->code));
		return NULL;
	}
	return pqp_acquire(entry->pool, -1, true, site, err);
}
