/*-------------------------------------------------------------------------
 *
 * waitq.h
 *	  Who gets which item when: the protocol of acquire and release.
 *
 * An item is something that one thread at a time may have: a connection.  A
 * waiter is a struct on the stack of a thread that wants one.  Everything that
 * has to do with both, and with memory order, is here and nowhere else, so
 * that it can be read, and model-checked, by itself: tests/model compiles this
 * very source against a model checker, and breaks it in every way that we
 * could think of.  This file knows neither pools nor connections.
 *
 * Two words carry the fast path, in which no lock is taken:
 *
 *		queue->gate		not zero: nobody takes anything without the lock
 *		item->word		FREE				idle, anybody's
 *						HELD				with somebody who works on it, under the rules of the lock
 *						serial, BOUND		lent to the thread of that serial number
 *						+ CALL				whoever takes it or gives it back does so with the lock
 *
 *		take	gate == 0, and word: FREE -> mine		by compare and swap
 *		give	word: mine -> FREE						by compare and swap
 *
 * Each fails on anything unexpected, above all on CALL, and then the slow path
 * is taken: under the lock, where all the rest happens.  So whoever holds the
 * lock can reach every holder: he sets CALL.
 *
 * Idle items are in a list, so that one can be found.  The fast path does not
 * touch the list: an item that it takes stays in it.  Hence
 *
 *		(1) every item that is FREE is in the list;
 *		(2) an item that is not in the list and not HELD carries CALL, so that whoever gives it back
 *			comes by and puts it in.
 *
 * pqp_waitq_claim looks for a free item.  With one atomic operation it gets an
 * item if that is free, and sets CALL on it if it is not; the latter it takes
 * out of the list.  So when it has found none
 *
 *		(3) nothing is in the list, and every holder will come by.
 *
 * That is what keeps a waiter from sleeping while an item lies idle: he queues
 * only after (3), with the lock held, and while anybody waits nothing is put
 * into the list, but while the pool lends nothing, or for a report that is due,
 * which takes it out again before the lock is dropped.  There is no second word to
 * look at when giving back, and so no order between two words to get wrong.
 * The gate is for order among callers only: once anybody waits, newcomers queue.
 * One who read it before came before; he finds nothing that a waiter could have had.
 *
 *		waiting thread							giving thread
 *
 *		lock; claim finds none;					lock
 *		waitq_push; unlock						w = waitq_pop; w->item = ...
 *		waitq_park(deadline)					unlock
 *		  told: done							waitq_tell(w)
 *		  deadline:
 *			lock
 *			waitq_remove: true: not told, unlock, give up
 *			false: unlock, waitq_park(never): the item is on its way
 *
 * Rules:
 *	- Once popped, the waiter belongs to the giver until it has been told; so its
 *	  stack frame must not be left before, which the second park ensures.  That
 *	  is what lets the wake-up happen after the unlock.
 *	- After the store in waitq_tell the waiter may be gone: the wake-up that
 *	  follows uses the address only, which the kernel allows.
 *	- A waiter that timed out and yet was popped has an item: it takes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_WAITQ_H
#define PQP_WAITQ_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The primitives.  A model checker brings its own.
 */
#ifndef PQP_WAITQ_MODEL

#include <stdatomic.h>

#define PQP_ATOMIC(type) _Atomic type
#define PQP_LOAD(object, order) atomic_load_explicit(object, order)
#define PQP_STORE(object, value, order) atomic_store_explicit(object, value, order)
#define PQP_CAS(object, expected, value, order) \
	atomic_compare_exchange_strong_explicit(object, expected, value, order, memory_order_relaxed)
#define PQP_OR(object, bits, order) atomic_fetch_or_explicit(object, bits, order)

#endif

/*
 * Memory order, access by access, and what breaks without it.
 */
#ifndef PQP_ORDER_TAKE
#define PQP_ORDER_TAKE memory_order_acquire /* what the last holder did to the item is seen */
#endif
#ifndef PQP_ORDER_GIVE
#define PQP_ORDER_GIVE memory_order_release /* the same, his side */
#endif
#ifndef PQP_ORDER_CLAIM
#define PQP_ORDER_CLAIM memory_order_acquire /* the same, for who takes it with the lock */
#endif
#ifndef PQP_ORDER_LIST
#define PQP_ORDER_LIST \
	memory_order_release /* an item is made free with the lock, and taken without */
#endif
#ifndef PQP_ORDER_TELL
#define PQP_ORDER_TELL memory_order_release /* the waiter sees its item */
#endif
#ifndef PQP_ORDER_TOLD
#define PQP_ORDER_TOLD memory_order_acquire /* the same, its side */
#endif
/*
 * The gate orders nothing: it is written with the lock held, and to have read it late is to
 * have come early.
 */
#define PQP_ORDER_GATE memory_order_relaxed

/*
 * Items.
 */
#define PQP_ITEM_HELD UINT64_C(0)
#define PQP_ITEM_FREE UINT64_C(1)
#define PQP_ITEM_CALL UINT64_C(2)
#define PQP_ITEM_BOUND UINT64_C(4) /* of a lent one: only the thread that has it may give it back */
#define PQP_ITEM_SERIAL_SHIFT 3	   /* what is above: the thread that has it */

typedef struct Item
{
	PQP_ATOMIC(uint64_t) word;
	struct Item *newer, *older; /* lock: the list of those that may be free */
	bool listed;				/* lock */
} Item;

typedef struct Waiter
{
	struct Waiter *next; /* later in the queue; or in a giver's chain of those to be told */
	struct Waiter *previous;
	bool queued;
	void *item;				   /* set by the giver: what is handed over, or NULL */
	int code;				   /* set by the giver: why nothing is */
	PQP_ATOMIC(uint32_t) told; /* futex word */
} Waiter;

typedef struct WaitQueue
{
	PQP_ATOMIC(uint32_t) gate; /* written with the lock held: pqp_waitq_gate */
	PQP_ATOMIC(int) length;	   /* likewise; of the queue */
	Waiter *head, *tail;	   /* lock */
	Item *newest, *oldest;	   /* lock; by when they were put in */
} WaitQueue;

/* The gate's bits. */
#define PQP_GATE_WAITERS 1 /* somebody is queued: kept by the functions below */
#define PQP_GATE_SHUT 2	   /* nothing is lent now, or never without the lock: kept by the owner */

/* The word of an item that is lent to this thread. */
static inline uint64_t
pqp_item_mine(uint64_t serial, bool bound)
{
	return serial << PQP_ITEM_SERIAL_SHIFT | (bound ? PQP_ITEM_BOUND : 0);
}

/* Who has it?  0: nobody. */
static inline uint64_t
pqp_item_holder(uint64_t word)
{
	return word >> PQP_ITEM_SERIAL_SHIFT;
}

static inline uint64_t
pqp_item_word(Item *item)
{
	return PQP_LOAD(&item->word, memory_order_relaxed);
}

/*
 * The fast path, without a lock.  False: try the slow one.
 */
static inline bool
pqp_item_take(WaitQueue *queue, Item *item, uint64_t mine)
{
	uint64_t expected = PQP_ITEM_FREE;

	return PQP_LOAD(&queue->gate, PQP_ORDER_GATE) == 0 &&
		   PQP_CAS(&item->word, &expected, mine, PQP_ORDER_TAKE);
}

static inline bool
pqp_item_give(Item *item, uint64_t mine)
{
	uint64_t expected = mine;

	return PQP_CAS(&item->word, &expected, PQP_ITEM_FREE, PQP_ORDER_GIVE);
}

/*
 * Items in the slow path.  pqp_item_yield needs no lock: the end of a loan
 * that is given back with the lock, or by another thread; word is what was
 * read of it.  True: the caller, and nobody else, has it now, HELD.
 */
extern bool pqp_item_yield(Item *item, uint64_t word);
extern bool pqp_item_pass(Item *item, uint64_t word,
						  uint64_t mine); /* from one thread to another */

/* With the lock held. */
extern void pqp_item_lend(Item *item, uint64_t mine); /* HELD -> lent, with CALL */
extern void pqp_item_hold(Item *item);				  /* the caller's already: HELD */
extern bool pqp_item_claim(Item *item); /* FREE -> HELD; false: its holder will come by */
extern void pqp_item_call(Item *item);	/* whoever takes or gives it comes by */
extern void pqp_item_list(WaitQueue *queue, Item *item,
						  Item *older);					   /* HELD -> FREE, into the list */
extern void pqp_item_unlist(WaitQueue *queue, Item *item); /* of one just claimed */

/* The newest free item, claimed and out of the list; NULL: (3) holds. */
extern Item *pqp_waitq_claim(WaitQueue *queue);

/* Waiters, with the lock held. */
extern void pqp_waitq_gate(WaitQueue *queue, bool shut);
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
