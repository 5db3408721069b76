/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Scopes for all threads of the process.
 *
 * A stack, like each thread's own, but entered and left by any thread; what a
 * thread has entered itself comes before it.  Who leaves a scope that another
 * one covers must not take that away from others: his is marked, and goes when
 * nothing covers it any more.
 *
 * Lock: the default pool's (default.c), outermost of all.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>

typedef struct Entry
{
	struct Entry *below;
	Pool *pool; /* with a reference */
	uint64_t serial;
	bool left;
} Entry;

static Entry *top;

int
pqp_process_enter(pqpool_scope *scope, Pool *pool, pqpool_error *err)
{
	Entry *entry = malloc(sizeof(*entry));

	if (!entry)
		return pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
	pqp_default_lock();
	*entry = (Entry){ .below = top, .pool = pool, .serial = pqp_next_serial() };
	top = entry;
	pqp_default_unlock();
	*scope = (pqpool_scope){ .depth = PQP_PROCESS_SCOPE, .serial = entry->serial };
	return pqp_error_clear(err);
}

static int
mark(uint64_t serial)
{
	for (Entry *entry = top; entry; entry = entry->below)
		if (entry->serial == serial && !entry->left)
		{
			entry->left = true;
			return entry == top ? PQPOOL_OK : PQPOOL_SCOPE_ORDER;
		}
	return PQPOOL_SCOPE_ORDER;
}

int
pqp_process_leave(const pqpool_scope *scope)
{
	Entry *gone = NULL;
	int code;

	pqp_default_lock();
	code = mark(scope->serial);
	while (top && top->left)
	{
		Entry *entry = top;

		top = entry->below;
		entry->below = gone;
		gone = entry;
	}
	pqp_default_unlock();
	/*
	 * the struct stays as it is: another thread may be leaving the same scope, and serials
	 * are never reused
	 */
	while (gone)
	{
		Entry *entry = gone;

		gone = entry->below;
		pqp_unref(entry->pool);
		free(entry);
	}
	return code;
}

/* The current one; NULL: there is none.  With the default pool's lock held. */
Pool *
pqp_process_pool(void)
{
	return top ? top->pool : NULL;
}

/* In the child: pools' references have been counted anew. */
void
pqp_process_forked(void)
{
	for (Entry *entry = top; entry; entry = entry->below)
		pqp_ref(entry->pool);
}
