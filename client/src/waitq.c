/*-------------------------------------------------------------------------
 *
 * waitq.c
 *	  See waitq.h, where the protocol is.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "waitq.h"

#ifndef PQP_WAITQ_MODEL
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

#define PQP_PARK(word, deadline) futex_wait(word, deadline)
#define PQP_UNPARK(word) futex_wake(word)
#endif

/*
 * Items.
 */

/* CALL may come at any time, and changes nothing here. */
static bool
replace(Item *item, uint64_t word, uint64_t next)
{
	uint64_t holder = pqp_item_holder(word);

	while (holder != 0 && pqp_item_holder(word) == holder)
		if (PQP_CAS(&item->word, &word, next | (next ? word & PQP_ITEM_CALL : 0), PQP_ORDER_TAKE))
			return true;
	return false;
}

bool
pqp_item_yield(Item *item, uint64_t word)
{
	return replace(item, word, PQP_ITEM_HELD);
}

bool
pqp_item_pass(Item *item, uint64_t word, uint64_t mine)
{
	return replace(item, word, mine);
}

void
pqp_item_lend(Item *item, uint64_t mine)
{
	PQP_STORE(&item->word, mine | PQP_ITEM_CALL, memory_order_relaxed);
}

void
pqp_item_hold(Item *item)
{
	PQP_STORE(&item->word, PQP_ITEM_HELD, memory_order_relaxed);
}

void
pqp_item_call(Item *item)
{
	(void) PQP_OR(&item->word, PQP_ITEM_CALL, memory_order_relaxed);
}

bool
pqp_item_claim(Item *item)
{
	uint64_t word = PQP_OR(&item->word, PQP_ITEM_CALL, PQP_ORDER_CLAIM);

	if (!(word & PQP_ITEM_FREE))
		return false;
	/* with CALL it is ours: others take it with the lock only */
	PQP_STORE(&item->word, PQP_ITEM_HELD, memory_order_relaxed);
	return true;
}

void
pqp_item_unlist(WaitQueue *queue, Item *item)
{
	if (!item->listed)
		return;
	if (item->newer)
		item->newer->older = item->older;
	else
		queue->newest = item->older;
	if (item->older)
		item->older->newer = item->newer;
	else
		queue->oldest = item->newer;
	item->newer = item->older = NULL;
	item->listed = false;
}

void
pqp_item_list(WaitQueue *queue, Item *item, Item *older)
{
	item->older = older;
	item->newer = older ? older->newer : queue->oldest;
	if (item->newer)
		item->newer->older = item;
	else
		queue->newest = item;
	if (older)
		older->newer = item;
	else
		queue->oldest = item;
	item->listed = true;
	PQP_STORE(&item->word, PQP_ITEM_FREE, PQP_ORDER_LIST);
}

Item *
pqp_waitq_claim(WaitQueue *queue)
{
	while (queue->newest)
	{
		Item *item = queue->newest;
		bool claimed = pqp_item_claim(item);

		pqp_item_unlist(queue, item);
		if (claimed)
			return item;
	}
	return NULL;
}

/*
 * Waiters.
 */

static void
set_gate(WaitQueue *queue, uint32_t bit, bool on)
{
	uint32_t gate = PQP_LOAD(&queue->gate, PQP_ORDER_GATE);
	uint32_t next = on ? gate | bit : gate & ~bit;

	if (next != gate)
		PQP_STORE(&queue->gate, next, PQP_ORDER_GATE);
}

void
pqp_waitq_gate(WaitQueue *queue, bool shut)
{
	set_gate(queue, PQP_GATE_SHUT, shut);
}

static void
grown(WaitQueue *queue, int by)
{
	/* release: who sees a waiter counted sees what that thread did before */
	PQP_STORE(&queue->length, PQP_LOAD(&queue->length, memory_order_relaxed) + by,
			  memory_order_release);
	set_gate(queue, PQP_GATE_WAITERS, queue->head != NULL);
}

static void
reset(Waiter *waiter)
{
	waiter->queued = true;
	waiter->item = NULL;
	waiter->code = 0;
	PQP_STORE(&waiter->told, 0, memory_order_relaxed);
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
	grown(queue, 1);
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
	grown(queue, 1);
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
	grown(queue, -1);
	return true;
}

bool
pqp_waitq_park(Waiter *waiter, int64_t deadline)
{
	bool in_time = true;

	while (PQP_LOAD(&waiter->told, PQP_ORDER_TOLD) == 0)
	{
		if (!in_time)
			return false;
		in_time = PQP_PARK(&waiter->told, deadline);
	}
	return true;
}

void
pqp_waitq_tell(Waiter *waiter)
{
	PQP_STORE(&waiter->told, 1, PQP_ORDER_TELL);
	PQP_UNPARK(&waiter->told);
}
