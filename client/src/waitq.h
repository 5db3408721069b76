/*-------------------------------------------------------------------------
 *
 * waitq.h
 *	  Callers that wait, first come, first served, and the hand-off to them.
 *
 * A waiter is a struct on the waiting thread's stack.  It is told exactly once,
 * with an item or with a code, by whoever takes it out of the queue.  Queue and
 * item are the caller's, under the caller's lock; this file knows neither pools
 * nor connections.
 *
 *		waiting thread							giving thread
 *
 *		lock; waitq_push; unlock				lock
 *		waitq_park(deadline)					w = waitq_pop; w->item = ...
 *		  told: done							unlock
 *		  deadline:								waitq_tell(w)
 *			lock
 *			waitq_remove: true: not told, unlock, give up
 *			false: unlock, waitq_park(never): the item is on its way
 *
 * Rules:
 *	- Once popped, the waiter belongs to the giver until it has been told;
 *	  so its stack frame must not be left before, which the second park ensures.
 *	  That is what lets the wake-up happen after the unlock.
 *	- After the store in waitq_tell the waiter may be gone: the wake-up that follows uses the
 *	  address only, which the kernel allows.
 *	- A waiter that timed out and yet was popped has an item: it takes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_WAITQ_H
#define PQP_WAITQ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Waiter
{
	struct Waiter *next; /* later in the queue; or in a giver's chain of those to be told */
	struct Waiter *previous;
	bool queued;
	void *item;			   /* set by the giver: what is handed over, or NULL */
	int code;			   /* set by the giver: why nothing is */
	_Atomic uint32_t told; /* futex word */
} Waiter;

typedef struct WaitQueue
{
	Waiter *head;
	Waiter *tail;
	int length;
} WaitQueue;

/* Under the owner's lock. */
extern void pqp_waitq_push(WaitQueue *queue, Waiter *waiter);
extern void pqp_waitq_push_front(WaitQueue *queue,
								 Waiter *waiter); /* had its turn, got nothing usable */
extern Waiter *pqp_waitq_pop(WaitQueue *queue);	  /* NULL: empty */
extern bool pqp_waitq_remove(WaitQueue *queue, Waiter *waiter); /* false: was popped before */

/*
 * Without a lock.  Deadline in us of CLOCK_MONOTONIC, INT64_MAX: never.  False:
 * it passed.
 */
extern bool pqp_waitq_park(Waiter *waiter, int64_t deadline);
extern void pqp_waitq_tell(Waiter *waiter);

#endif /* PQP_WAITQ_H */
