/*-------------------------------------------------------------------------
 *
 * enforce.h
 *	  Mode enforce: sessions beyond what their pool may hold are refused.
 *
 * What is refused
 *	At the end of its startup, with FATAL and SQLSTATE 53300,
 *	 - a session of an instance that follows, and holds already the largest limit that it may
 *	   still believe: so that one that obeys is not refused for what it has not heard yet.
 *	   One that has not been told anything, or whose lease has run out, or that is deaf, and
 *	   that holds nothing, may have a first session;
 *	 - a session of any pool, if the pools of its rule hold together what the rule allows;
 *	 - a third knock of an instance at once; others never are.
 *	A session with no pool's name is not our business.  Superusers and roles in
 *	always_admit are counted like all others, and never refused; neither is a session
 *	that was there before the mode was turned up.
 *
 * A refused instance that follows is kept for a while as one that waits for its
 * first connection: else the worker would not know that it wants one, and it would never get in.
 *
 * Modes advise and share refuse nothing, and count what enforce would have refused
 * (PoolSlot.would_refuse).
 *
 * Grace
 *	A client that closes a connection and opens another one is often faster than the
 *	backend's exit.  So a session about to be refused waits up to pgpool_monitor.grace for
 *	another one's end: at most grace_waiters at once, and only while the server has slots
 *	left for others, for each takes one.  No lock is held meanwhile.  Who may have closed
 *	one comes first: an instance has no more waiting than it holds, nor more than there are
 *	places to wait left, so that none takes all of them; those of instances that hold
 *	nothing have a quarter together.
 *
 * Kept places
 *	Other clients that come all the time would be faster still, and take each place that is
 *	left for a moment.  So the place of a session that ends in a full budget, or while
 *	somebody of its instance waits, is kept for the instance: for a quarter to a half of the
 *	grace.  To others it is taken; they have it afterwards, if they wait.  The instance's
 *	next session has it, one that waits before one that comes.  Of one that follows, no more
 *	places are kept than its limit has, so that nothing is kept that has been given to
 *	another one.
 *
 * Locks
 *	Counting and admitting is one step under registry->lock, so that the number is
 *	exact however many come at once.
 *
 * Accepted races
 *	Sessions that wait are not in order: one that comes at the right moment overtakes them,
 *	but for a kept place.  Instances without ids are told apart by host and
 *	application_name: of a storm from the same of both nobody is told apart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_ENFORCE_H
#define PGPM_ENFORCE_H

#include "registry.h"

/* Fill in what of `who` needs the catalogs; wants a transaction. */
extern void enforce_look_up(Identity *who);

/*
 * registry_attach, with grace; does not return if the session is refused.  -1: a table is full.
 */
extern int enforce_attach(Identity *who, int session);

/* At the process's end, which may come while it waits. */
extern void enforce_stop_waiting(void);

/* A session has ended: whoever waits for that may look again. */
extern void enforce_session_ended(void);

/*
 * Under the lock, exclusively: true if the session may be entered, and has to be.  Else
 * *refusal says why.
 */
extern bool enforce_admits(const Identity *who, PoolSlot *pool, InstanceSlot *instance, int64 now,
						   Refusal *refusal);

/* The same: a session of the instance, no knock, has ended. */
extern void enforce_place_left(const PoolSlot *pool, InstanceSlot *instance, int64 now);

/* The same: somebody of the instance waits, or a place is kept for it. */
extern bool enforce_expects(InstanceSlot *instance, int64 now);

#endif /* PGPM_ENFORCE_H */
