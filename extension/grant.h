/*-------------------------------------------------------------------------
 *
 * grant.h
 *	  What instances are told that they may hold, and what they may still believe.
 *
 * Life of a grant
 *	Something is published: it gets the next epoch.  Sessions of the instance deliver it (session.c).
 *	The client takes it over, and says so in a report.  Until then it may
 *	still believe what was published before, if that was more; and if it says nothing
 *	for a whole lease, it opens nothing any more, and what it does not use is taken back.
 *
 * The invariant (PROTOCOL.md, section 6)
 *	occupancy(i) = max(held, granted), granted being the largest limit that i may still believe.
 *	grant_publish raises nothing unless the sum of occupancies then fits in
 *	capacity, and those under the instance's rule, with the sessions there that do not follow, in the rule's
 *	budget.  Attaching can exceed capacity by the sessions that were being opened when it fell,
 *	and by the first sessions of newcomers; headroom is for these.
 *
 * Locks
 *	All functions want registry->lock, exclusively if they change something, but
 *	grant_publish and grant_set_terms, which take it, and grant_set_mode and those on words, which need none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_GRANT_H
#define PGPM_GRANT_H

#include "registry.h"

/*---- what is told, in one word ----*/

extern uint64 publication_pack(const Publication *publication);
extern Publication publication_unpack(uint64 word);

/* What an instance is to be told now, the global mode considered. */
extern Publication publication_effective(uint64 word, uint32 generation, uint32 mode);

/* As the protocol's field "state" says it. */
extern const char *publication_state_name(const Publication *publication);

/* What was published to it last. */
extern Publication grant_told(const InstanceSlot *instance);

/*---- one instance ----*/

/* True if its limit is set by shares: it follows, in a pool whose mode is share or more. */
extern bool grant_applies(const InstanceSlot *instance, const PoolSlot *pool);

/* The largest limit that it may still believe. */
extern int grant_believed(const InstanceSlot *instance);

/* The larger of that and of the sessions that it holds. */
extern int grant_occupancy(const InstanceSlot *instance);

/* A newcomer, or one that comes back with nothing: what it is told at once. */
extern void grant_first(InstanceSlot *instance, const PoolSlot *pool);

/* Its pool may have been paused, or resumed. */
extern void grant_tell_pause(InstanceSlot *instance);

/* One that was refused its first session: unless it was told something before, it is queued. */
extern void grant_wish(InstanceSlot *instance, const PoolSlot *pool);

/* It has been heard of: its lease begins anew. */
extern void grant_renew_lease(InstanceSlot *instance, int64 now);

/* It has taken over the epoch `ack`. */
extern void grant_acknowledge(InstanceSlot *instance, uint64 ack);

/* Its lease has run out. */
extern void grant_take_back(InstanceSlot *instance);

/*---- for all instances alike ----*/

/*
 * Called in the postmaster on reload, which runs before any backend can have
 * seen the new value: so that a change of mode needs no worker.  Writes atomics only; the
 * postmaster must not take locks.
 */
extern void grant_set_mode(int mode);

/* Worker only: settings that every text carries. */
extern void grant_set_terms(uint32 lease, uint32 interval, uint32 retry);

/*---- the worker's side ----*/

typedef struct Target
{
	int instance;
	uint32 generation; /* of the slot; a target for one that was reused meanwhile is dropped */
	int limit;
	AllotState state;
	bool by_rule;
	int would; /* InstanceSlot.would_limit */
} Target;

/*
 * Publish.  Targets that lower a limit always are; those that raise one are in
 * the order given, and only as far as the invariant allows.  Instances that are
 * not shared with get NO_LIMIT.
 */
extern void grant_publish(const Target *targets, int ntargets, int capacity);

#endif /* PGPM_GRANT_H */
