/*-------------------------------------------------------------------------
 *
 * thread.c
 *	  What the library knows of each thread, and the end of a thread.
 *
 * Made when a thread first borrows or enters a scope; freed by the key's
 * destructor, which runs after the destructors of C++ thread_local objects, so
 * that those may still give connections back.  Not run for threads that are
 * alive when the process exits.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include "loan.h"

#include <stdlib.h>
#include <unistd.h>

static pthread_key_t key; /* for its destructor; reading goes by pqp_current */
static pthread_mutex_t key_lock = PTHREAD_MUTEX_INITIALIZER;
static bool key_made; /* key_lock */

/*
 * The cheapest access that there is.  One pointer is what a library loaded by
 * dlopen may ask of the space that the loader keeps for such.
 */
__thread Thread *pqp_current __attribute__((tls_model("initial-exec")));

static void
thread_ends(void *arg)
{
	Thread *thread = arg;

	pqp_after_fork();
	pqp_form_thread_ends(thread);
	if (thread->bound > 0)
		pqp_abandon(thread);
	pqp_scope_unwind(thread, 0);
	pqp_own_close(thread);
	pqp_current = NULL;
	free(thread->scopes);
	free(thread);
}

/* Keys are few, and there may be one again later. */
static bool
have_key(void)
{
	bool made;

	pthread_mutex_lock(&key_lock);
	if (!key_made)
		key_made = pthread_key_create(&key, thread_ends) == 0;
	made = key_made;
	pthread_mutex_unlock(&key_lock);
	return made;
}

/* NULL: out of memory, or of keys. */
Thread *
pqp_thread_make(void)
{
	Thread *thread;

	if (!have_key())
		return NULL;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return NULL;
	thread->serial = pqp_next_serial();
	thread->tid = gettid();
	if (pthread_setspecific(key, thread) != 0)
	{
		free(thread);
		return NULL;
	}
	pqp_current = thread;
	return thread;
}

/* Take back what a thread that ends still holds; rolled back by a helper. */
static void
abandon_in(Pool *pool, const Thread *thread)
{
	Work work = { 0 };
	int n = 0;

	pthread_mutex_lock(&pool->lock);
	for (int i = 0; i < pool->nslots; i++)
	{
		Slot *slot = pqp_slot(pool, i);
		uint64_t word = pqp_item_word(&slot->item);

		if (pqp_item_holder(word) != thread->serial || !(word & PQP_ITEM_BOUND) ||
			!pqp_item_yield(&slot->item, word))
			continue;
		pqp_count(&pool->counters.abandoned, 1);
		n++;
		slot->next = work.reset;
		work.reset = slot;
	}
	for (Slot *slot = work.reset; slot; slot = slot->next)
		pqp_loan_ends(slot);
	pqp_unlock(pool, &work);
	if (n > 0)
		pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_ABANDONED,
										 .number = n,
										 .tid = thread->tid,
										 .message = "a thread ended with connections that it had "
													"not given back" });
}

/* Needs no memory: a loan that stayed with a thread that is gone would be lost for good. */
void
pqp_abandon(Thread *thread)
{
	for (Pool *pool = pqp_registry_next(NULL); pool; pool = pqp_registry_next(pool))
		abandon_in(pool, thread);
}
