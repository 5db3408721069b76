/*-------------------------------------------------------------------------
 *
 * enforce.h
 *	  Mode enforce: sessions beyond what their pool may hold are refused.
 *
 * What is refused
 *	At the end of its startup, with FATAL and SQLSTATE 53300,
 *	 - a session of an instance that follows, and holds already the largest limit that it may
 *	   still believe: so that one that obeys is not refused for what it has not
 *	   heard yet.  One that has not been told anything, or whose lease has run out, and that holds nothing, may
 *	   have a first session;
 *	 - a session of any pool, if the pools of its rule hold together what the rule allows;
 *	 - a third knock of an instance at once; others never are.
 *	A session with no pool's name is not our business.  Superusers and roles in
 *	always_admit are counted like all others, and never refused; neither is a session
 *	that was there before the mode was turned up.
 *
 * A refused instance that follows is kept for a while as one that waits for its
 * first connection: else the worker would not know that it wants one, and it would never get in.
 *
 * Modes advise and share refuse nothing, and count what enforce would have refused (PoolSlot.would_refuse).
 *
 * Grace
 *	A client that closes a connection and opens another one is often faster than
 *	the backend's exit.  So a session about to be refused waits up to pgpool_monitor.grace for
 *	another one's end: at most grace_waiters at once, and only while the server has
 *	slots left, for each takes one.  No lock is held meanwhile.
 *
 * Locks
 *	Counting and admitting is one step under registry->lock, so that the number is
 *	exact however many come at once.
 *
 * Accepted races
 *	Sessions that wait are not in order: one that comes at the right moment overtakes them.
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
extern int enforce_attach(const Identity *who, int session);

/* At the process's end, which may come while it waits. */
extern void enforce_stop_waiting(void);

/* A session has ended: whoever waits for that may look again. */
extern void enforce_session_ended(void);

/*
 * Under the lock, exclusively: true if the session may be entered.  Else
 * *refusal says why.
 */
extern bool enforce_admits(const Identity *who, PoolSlot *pool, const InstanceSlot *instance,
						   int64 now, Refusal *refusal);

#endif /* PGPM_ENFORCE_H */
