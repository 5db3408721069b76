/*-------------------------------------------------------------------------
 *
 * grant.h
 *	  What instances are told that they may hold, and what they may still believe.
 *
 * Life of a grant
 *	Something is published: it gets the next epoch.  Sessions of the instance deliver it
 *	(session.c).  The client takes it over, and says so in a report.  Until then it may
 *	still believe what was published before, if that was more; and if it says nothing for a
 *	whole lease, it opens nothing any more, and what it does not use is taken back.
 *
 * Deaf instances
 *	report, so that their lease never runs out, and do not acknowledge: somebody between
 *	swallows what they are told, or they do not read it.  Who follows acknowledges with his
 *	second report at the latest.  So one that was told a limit, and has acknowledged nothing
 *	newer in DEAF_REPORTS reports and DEAF_LEASES leases since, is treated as if its lease
 *	had run out: what it does not use is taken back, and it is told no more than it holds,
 *	until it acknowledges what it was told then.  That it may open something all the same is
 *	like any connection that was overtaken; mode enforce refuses it.
 *
 * The invariant (PROTOCOL.md, section 6)
 *	occupancy(i) = max(held, granted), granted being the largest limit that i may still
 *	believe.  grant_publish raises nothing unless the sum of occupancies then fits in
 *	capacity, and those under the instance's rule, with the sessions there that do not
 *	follow, in the rule's budget; and those under each CONNECTION LIMIT that holds for the
 *	instance, with all other connections that count for it, in that limit.  Attaching can
 *	exceed capacity by the sessions that were being opened when it fell, and by the first
 *	sessions of newcomers; headroom is for these.
 *
 * Accepted
 *	Connections outside are those of the worker's last look.  A pool that came since then
 *	counts for a CONNECTION LIMIT from the next round on, and a knock's first connection
 *	takes only what the registry knows from one.  Should these be too many together, the
 *	server itself refuses the connection.
 *
 * Locks
 *	All functions want registry->lock, exclusively if they change something, but
 *	grant_publish and grant_set_terms, which take it, and grant_set_mode and those on words,
 *	which need none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_GRANT_H
#define PGPM_GRANT_H

#include "registry.h"

#define DEAF_LEASES 2
#define DEAF_REPORTS 3

/*---- what is told, in one word ----*/

#define EPOCH_SHIFT 22
#define LIMIT_SHIFT 4
#define LIMIT_MASK 0x3FFFF
#define BY_RULE_BIT 0x8
#define PAUSED_BIT 0x4
#define STATE_MASK 0x3

extern uint64 publication_pack(const Publication *publication);

/* Reading is inline: each round does it several times for each instance. */
static inline Publication
publication_unpack(uint64 word)
{
	Publication publication;

	publication.epoch = word >> EPOCH_SHIFT;
	publication.limit = (int) ((word >> LIMIT_SHIFT) & LIMIT_MASK) - 1;
	publication.by_rule = (word & BY_RULE_BIT) != 0;
	publication.paused = (word & PAUSED_BIT) != 0;
	publication.state = (AllotState) (word & STATE_MASK);
	return publication;
}

/*
 * What an instance is to be told now.
 *
 * The global mode beats what was published, because turning it down must help
 * even when nobody publishes any more; a rule's own mode is in the publication.
 *
 * The sum of two counters that only grow orders texts: it grows whenever one does.
 */
static inline Publication
publication_effective(uint64 word, uint32 generation, uint32 mode)
{
	Publication publication = publication_unpack(word);

	publication.epoch += generation;
	if (mode == MODE_OFF)
	{
		publication.state = ALLOT_OFF;
		publication.limit = NO_LIMIT;
	}
	else if (mode < MODE_SHARE && !publication.by_rule)
	{
		publication.state = ALLOT_OK;
		publication.limit = NO_LIMIT;
	}
	/* an order to pause counts in every mode but off, which takes part in nothing */
	if (publication.state == ALLOT_OFF)
		publication.paused = false;
	return publication;
}

/* As the protocol's field "state" says it. */
extern const char *publication_state_name(const Publication *publication);

/* What was published to it last. */
static inline Publication
grant_told(const InstanceSlot *instance)
{
	/* the cast: reading an atomic is no change */
	return publication_unpack(pg_atomic_read_u64((pg_atomic_uint64 *) &instance->publication));
}

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

/* Its pool's mode may have been turned down: then it has no limit any more. */
extern void grant_free(InstanceSlot *instance, const PoolSlot *pool);

/* One that was refused its first session: unless it was told something before, it is queued. */
extern void grant_wish(InstanceSlot *instance, const PoolSlot *pool);

/* It has been heard of: its lease begins anew. */
extern void grant_renew_lease(InstanceSlot *instance, int64 now);

/* It has reported, and taken over the epoch `ack`. */
extern void grant_acknowledge(InstanceSlot *instance, uint64 ack);

/* Looks whether it is, and remembers it (InstanceSlot.deaf) until it acknowledges. */
extern bool grant_is_deaf(InstanceSlot *instance, int64 now);

/* pgpm_now() beyond which it will be, if it goes on like this. */
extern int64 grant_deaf_from(const InstanceSlot *instance);

/* Its lease has run out, or it is deaf. */
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

/* CONNECTION LIMIT of a role or of a database. */
typedef struct ConnectionLimit
{
	bool by_role;
	Oid oid;
	int connections;
	int outsiders; /* connections that count for it, and follow nothing */
	int64 room;	   /* grant_publish's own */
} ConnectionLimit;

typedef struct ConnectionLimits
{
	ConnectionLimit *limits;
	int nlimits;

	/* by the registry's slot of a pool, [max_pools]: index of what it counts for; -1: none */
	int *of_role;
	int *of_database;
} ConnectionLimits;

/*
 * Publish.  Targets that lower a limit always are; those that raise one are in
 * the order given, and only as far as the invariant allows.  Instances that are
 * not shared with get NO_LIMIT.
 */
extern void grant_publish(const Target *targets, int ntargets, int capacity,
						  ConnectionLimits *limits);

#endif /* PGPM_GRANT_H */
