/*-------------------------------------------------------------------------
 *
 * waitq.c
 *	  See waitq.h, where the protocol is.
 *
 * The primitives are macros, so that the same source can be compiled against a
 * model checker's.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "waitq.h"

#ifndef PQP_WAITQ_PARK
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Sleep while *word is 0, until deadline; may return early.  False: the
 * deadline has passed.  Not a cancellation point.  FUTEX_WAIT_BITSET takes an
 * absolute time of CLOCK_MONOTONIC.
 */
static bool
futex_wait(_Atomic uint32_t *word, int64_t deadline)
{
	struct timespec until = { .tv_sec = deadline / 1000000, .tv_nsec = deadline % 1000000 * 1000 };

	return syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0,
				   deadline == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY) == 0 ||
		   errno != ETIMEDOUT;
}

static void
futex_wake(_Atomic uint32_t *word)
{
	(void) syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

#define PQP_WAITQ_PARK(word, deadline) futex_wait(word, deadline)
#define PQP_WAITQ_UNPARK(word) futex_wake(word)
#define PQP_WAITQ_LOAD(word) atomic_load_explicit(word, memory_order_acquire)
#define PQP_WAITQ_STORE(word, value) atomic_store_explicit(word, value, memory_order_release)
#endif

static void
reset(Waiter *waiter)
{
	waiter->queued = true;
	waiter->item = NULL;
	waiter->code = 0;
	PQP_WAITQ_STORE(&waiter->told, 0);
}

void
pqp_waitq_push(WaitQueue *queue, Waiter *waiter)
{
	reset(waiter);
	waiter->next = NULL;
	waiter->previous = queue->tail;
	if (queue->tail)
		queue->tail->next = waiter;
	else
		queue->head = waiter;
	queue->tail = waiter;
	queue->length++;
}

void
pqp_waitq_push_front(WaitQueue *queue, Waiter *waiter)
{
	reset(waiter);
	waiter->previous = NULL;
	waiter->next = queue->head;
	if (queue->head)
		queue->head->previous = waiter;
	else
		queue->tail = waiter;
	queue->head = waiter;
	queue->length++;
}

Waiter *
pqp_waitq_pop(WaitQueue *queue)
{
	Waiter *waiter = queue->head;

	if (waiter)
		(void) pqp_waitq_remove(queue, waiter);
	return waiter;
}

bool
pqp_waitq_remove(WaitQueue *queue, Waiter *waiter)
{
	if (!waiter->queued)
		return false;
	if (waiter->previous)
		waiter->previous->next = waiter->next;
	else
		queue->head = waiter->next;
	if (waiter->next)
		waiter->next->previous = waiter->previous;
	else
		queue->tail = waiter->previous;
	waiter->queued = false;
	waiter->next = NULL;
	queue->length--;
	return true;
}

bool
pqp_waitq_park(Waiter *waiter, int64_t deadline)
{
	bool in_time = true;

	while (PQP_WAITQ_LOAD(&waiter->told) == 0)
	{
		if (!in_time)
			return false;
		in_time = PQP_WAITQ_PARK(&waiter->told, deadline);
	}
	return true;
}

void
pqp_waitq_tell(Waiter *waiter)
{
	PQP_WAITQ_STORE(&waiter->told, 1);
	PQP_WAITQ_UNPARK(&waiter->told);
}
