/*-------------------------------------------------------------------------
 *
 * past.h
 *	  What pools have counted, and what is remembered of those that have ended.
 *
 * Life of a record
 *	Each pool has a record beside its slot.  Every report adds to it what has
 *	happened since the instance's last one.  When the last instance has ended, the
 *	pool keeps its slot (its hash stays, ninstances is 0) for as long as nobody
 *	else needs it; then the one gone longest is forgotten.  A pool that
 *	never counted anything is not remembered.
 *
 * Ghosts
 *	An instance that ended without saying goodbye may come back with the same id
 *	and the same counters: after a partition, or when the server was restarted.  So that
 *	these are not added twice, its slot keeps the counters until another instance
 *	needs the slot; a slot with nothing to keep goes first, then the one gone longest.
 *
 * History
 *	past_take gives the worker what has been counted since its last sample.  That is exact
 *	over resets, a replaced worker, and the ends of instances.  But what an instance counted
 *	elsewhere (it lived through a crash, or comes from a server that failed) is none of this
 *	pool's recent past, though it is in the totals.  A first report is believed to be of
 *	here if it says that its instance has opened no more sessions than have begun here; if
 *	not, or if it does not say, history counts from there on.
 *
 * Over a restart
 *	Records and ghosts are written to a file when the server is shut down in
 *	order, and read at the next start (saved.c).  After a crash there is none.
 *
 * Locks
 *	All functions want registry->lock, exclusively if they change something.
 *
 * Accepted
 *	Who comes back after his slot was used for another is counted again from his
 *	own beginning.  So is everybody after a crash; then the records are new, too.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_PAST_H
#define PGPM_PAST_H

#include "registry.h"
#include "totals.h"

typedef struct PoolRecord
{
	bool known;		   /* an instance has reported, ever */
	TimestampTz since; /* what the totals are counted from */
	int64 gone;		   /* pgpm_now() when its last instance ended; while it has none */
	PoolTotals totals;

	/*
	 * of the totals, what history has or does not want; negative after a reset, as far as
	 * it has not what was reset
	 */
	PoolTotals sampled;
} PoolRecord;

/* Beside an instance's slot. */
typedef struct Ghost
{
	uint64 hash; /* of the instance that had the slot; 0: nobody to remember */
	int pool;
	int64 gone; /* pgpm_now() */
} Ghost;

/*---- pools ----*/

/* The slot is a new pool's. */
extern void past_begin_pool(int pool);

/* Its last instance has ended.  False: nothing is to be remembered of it. */
extern bool past_end_pool(int pool);

/* Forget the one gone longest.  Its slot, which is free now, or -1: none is only remembered. */
extern int past_forget_pool(void);

/* Its counters begin at zero, now. */
extern void past_reset(int pool);

/*---- instances ----*/

/* It has counters that must not be added twice, if only from before it went and came back. */
extern bool past_may_come_back(const InstanceSlot *instance);

/* It gives its slot up. */
extern void past_end_instance(int i);

/* The free slot that still has what this instance counted, or -1. */
extern int past_find_ghost(uint64 hash, int pool, const char *id);

/* The free slot with the least to lose, or -1; its ghost is gone. */
extern int past_free_instance(void);

/* The slot begins anew for the instance that it was.  `before`: its last report. */
extern void past_come_back(InstanceSlot *instance, const Report *before);

/* instance->report has just followed `before`. */
extern void past_count(InstanceSlot *instance, const Report *before);

/*---- history ----*/

/*
 * All that the pool has counted, and what of that was there at the last call; the
 * difference is new.
 */
extern void past_take(int pool, PoolTotals *ever, PoolTotals *before);

/*---- saved.c ----*/

/* In the postmaster, while nobody else is there: no lock. */
extern void saved_load(void);
extern void saved_write_at_exit(int code, Datum arg);

#endif /* PGPM_PAST_H */
