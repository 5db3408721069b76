/*-------------------------------------------------------------------------
 *
 * registry.h
 *	  Shared memory: pools, their instances, and the sessions that these hold.
 *
 * Actors
 *	A backend attaches itself in the transaction that ends its startup, applies the reports
 *	that its client sends, delivers its instance's allotment, and detaches when its process
 *	ends (session.c).  The worker copies all of it, works out fair shares (share.c), and
 *	publishes them (grant.c, which keeps the invariant).  Views copy, or add up, and show
 *	(view.h).
 *
 * Life of a slot
 *	A pool begins with its first instance and ends with its last; past.h says what is
 *	remembered of either.  A guessed one also ends, with its sessions taken away, where one
 *	that names itself needs the room.  An instance begins with its first session.  One that
 *	follows or reports outlives its last session by instance_timeout (two leases), because
 *	its client may still believe its limit, and keeps its place in the queue; any other ends
 *	with its last session.  A session slot belongs to the backend whose number indexes it.
 *
 * Locks
 *	Registry.lock, one LWLock, protects the three tables and every field that
 *	is not atomic.  Exclusive to attach, detach, apply a report, publish; shared to copy.  It is
 *	held for a few microseconds, nothing is allocated, and no error is raised under it;
 *	no other lock is taken under it.
 *	Atomics are written under the lock (but see grant_set_mode) and read without.
 *
 * Accepted races
 *	A backend that delivers an allotment reads generation, mode and publication one after
 *	the other: the text can mix two states.  A later generation or publication follows in
 *	any case, with a higher epoch, and is delivered with the session's next command.
 *	Counters of ignored and rejected reports are bumped without the lock.  After a change of
 *	rules, pools are under the old ones until the worker's next round, and a new pool is not
 *	counted together with those.  A mode that goes down and up again between two rounds is
 *	not seen by the worker; it then overlooks what clients opened in that moment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_REGISTRY_H
#define PGPM_REGISTRY_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/backend_status.h"

#include "health.h"
#include "identify.h"
#include "pgpool_monitor.h"
#include "report.h"
#include "rules.h"

#define NAME_LEN 64		/* pool names and ids, terminator included; frozen by PROTOCOL.md */
#define DEMAND_WINDOW 2 /* reports whose largest demand counts */

#define NO_LIMIT (-1)

/* As in the protocol's field "state". */
typedef enum AllotState
{
	ALLOT_OK,
	ALLOT_QUEUED,
	ALLOT_OFF
} AllotState;

/*
 * What an instance is told, in one word, so that its sessions can look at it
 * at every commit without a lock:
 * epoch (42 bits) | limit + 1 (18 bits: MAX_BACKENDS is 2^18 - 1) | by rule (1) | paused (1) | state (2)
 */
typedef struct Publication
{
	uint64 epoch;
	int limit;	  /* NO_LIMIT, or sessions */
	bool by_rule; /* the pool's rule names the mode, so that the global mode does not matter */
	bool paused;  /* by order (pause.h), whatever the state, unless that is off */
	AllotState state;
} Publication;

typedef struct PoolSlot
{
	/* identity, constant while the slot is used */
	IdentifiedBy identified_by; /* a guess is never the pool that gives itself that name */
	Oid role;
	Oid database;
	char name[NAME_LEN];
	char role_name[NAMEDATALEN]; /* as of the first attach: a later rename does not show */
	char database_name[NAMEDATALEN];

	int ninstances; /* 0: slot is free, or the pool is only remembered, see past.h */
	int held;		/* sessions of its instances, knocks excepted */

	/* CONNECTION LIMITs, as of the newest session's start; -1: none, or the role is a superuser */
	int role_limit;
	int database_limit;

	/* sessions, since the slot was taken; see enforce.h */
	int64 would_refuse;
	int64 refused;

	/* by rule_set.c: when the slot is taken, then by the worker */
	uint32 rules_version; /* of the set that the following was matched with; 0: none yet */
	int rule;			  /* index in that set; -1: none matches */
	PgpmMode mode;		  /* in force for this pool */
	bool mode_by_rule;	  /* the rule names the mode */
	int weight;
	int floor;
	int ceiling; /* connections; -1: none */
	char rule_text[RULE_TEXT_LEN];
} PoolSlot;

/* What the worker has found of the pool in the same slot over time (health_watch.c). */
typedef struct PoolHealth
{
	uint64 hash; /* of the pool that this is of */
	HealthState state;
	HealthNews news;
	TimestampTz since; /* of the verdict */
	int64 looked;	   /* pgpm_now() of the last time */
} PoolHealth;

/*
 * What each round looks at comes first, up to the counters in the report: that is a few
 * lines of the cache.
 */
typedef struct InstanceSlot
{
	/* identity, constant while the slot is used; names are at the end */
	bool used;
	bool has_id; /* the client gave an id; else it is made from its address and name */
	bool follows;
	bool reports;
	uint32 generation; /* of the slot: tells a reused one */
	int pool;
	uint64 joined; /* order of arrival, in this incarnation */
	TimestampTz joined_at;

	/* sessions */
	int held; /* attached, knocks excepted */
	int knocks;
	int64 last_seen; /* pgpm_now() of the last attach, detach or report */
	int64 begun;	 /* attached since the slot was taken, knocks too */

	/* mode enforce, see enforce.h */
	int waiting;	  /* sessions of it that wait in their grace */
	int kept[2];	  /* places kept for it: since kept_since, and for as long before */
	int64 kept_since; /* pgpm_now() */

	/* allotment */
	pg_atomic_uint64 publication; /* packed Publication */
	uint64 ack_needed;			  /* an acknowledged epoch of at least this has taken it over */
	bool acked;
	bool deaf;			 /* see grant.h */
	int unheard_reports; /* that came since unheard_since */

	/* pgpm_now() when the first was published that it has not acknowledged, or of its last progress */
	int64 unheard_since;

	uint64 last_ack;   /* the largest */
	int granted;	   /* largest limit that the client may still believe; 0 while none was set */
	int64 lease_from;  /* pgpm_now() of the last attach or report */
	int64 lease_until; /* the same and the longest lease that was told since */
	bool bye;		   /* opens nothing any more */
	int would_limit; /* by the worker: what it would get if all were told now; NO_LIMIT: nothing */

	/* opens that failed since the last one that worked, as far as reports tell */
	int64 failed_opens;
	int64 failed_at; /* pgpm_now() of the last report of such */

	/* last report; zeros until there is one */
	bool reported;
	int64 report_time;			  /* pgpm_now() */
	int32 demands[DEMAND_WINDOW]; /* of the last reports, newest first */
	Report report;

	/* what the wait histogram was one and two windows ago, so that percentiles are of late */
	int64 window_start;
	int64 wait_before[2][REPORT_BUCKETS];

	char id[NAME_LEN];
	char host[NAME_LEN];
	char application[NAMEDATALEN];
} InstanceSlot;

typedef enum SessionKind
{
	SESSION_FREE,
	SESSION_POOL,
	SESSION_KNOCK
} SessionKind;

typedef struct SessionSlot
{
	SessionKind kind;
	int pid;
	int instance;
	TimestampTz attached_at;
	int64 attached;					  /* pgpm_now() */
	volatile PgBackendStatus *status; /* this backend's entry, at the same address everywhere */
	struct PGPROC *proc; /* the same of its PGPROC: finding it would take another lock */
	bool listens;		 /* has run LISTEN; written without the lock */

	/*
	 * When the last command ended that was no report, if reports are all that came since; else 0.
	 * Written by this backend without the lock: a view may see what was true a moment ago.
	 */
	TimestampTz idle_since;
} SessionSlot;

/* What the worker found in its last round, and since the server started. */
typedef struct RoundFigures
{
	TimestampTz at;
	int64 rounds;
	int outside;		  /* connections that follow nothing, now */
	int outside_smoothed; /* the same as capacity counts it: falls slowly */
	int capacity;
	int held;	  /* sessions of sharing instances */
	int occupied; /* sum of their occupancies */
	int held_peak;
	int excess_peak; /* most by which held exceeded capacity */
	int64 published; /* allotments */
} RoundFigures;

typedef struct Registry
{
	LWLock *lock;
	TimestampTz incarnation; /* when this shared memory was made */

	/* for all instances alike; see grant_set_mode and grant_set_terms */
	pg_atomic_uint32 generation; /* bumped after any of the following has changed */
	pg_atomic_uint32 mode;
	pg_atomic_uint32 lease;	   /* ms */
	pg_atomic_uint32 interval; /* ms, stretched to the size of the fleet */
	pg_atomic_uint32 retry;	   /* ms */

	pg_atomic_uint64 reports_applied;
	pg_atomic_uint64 reports_ignored;
	pg_atomic_uint64 reports_rejected;
	pg_atomic_uint64 attach_refused; /* sessions that found a table full */
	pg_atomic_uint64 unplaced;		 /* guessed ones, for which there was no room, or no more */
	pg_atomic_flag refusal_logged;	 /* the log has been told of the first */

	/* enforcement (enforce.c); the counts are written under the lock */
	ConditionVariable session_ended;
	int grace_waiting;			   /* sessions that wait for that now */
	int64 kept_until;			   /* pgpm_now(); after it no place is kept for anybody */
	int grace_strangers;		   /* of these, of instances that hold nothing */
	pg_atomic_uint64 refused;	   /* sessions */
	pg_atomic_uint64 exempt;	   /* sessions that were over a limit and must not be refused */
	pg_atomic_uint64 grace_waits;  /* sessions that waited ... */
	pg_atomic_uint64 grace_admits; /* ... and were admitted then */

	/* the rest under the lock */
	uint64 last_epoch; /* of all instances, so that a slot used again does not fall behind */
	uint64 last_joined;

	/*
	 * Bumped with everything that a round of sharing looks at (share.c), but for what other
	 * processes do and the clock: see registry_changed.
	 */
	uint64 changes;

	int ninstances;
	int npools; /* that have instances */

	/*
	 * written by the worker (first by the postmaster, when nobody else is there), so that
	 * it reads them without the lock
	 */
	uint32 rules_version;		 /* of `rules`; 0: none were loaded yet */
	pg_atomic_uint64 rules_hash; /* of the string that they are of */
	uint64 lowered_hash; /* of the one that modes were last turned down by, without the worker */
	RuleSet rules;		 /* in force: of the string, then of the file */
	char rules_file_error[512]; /* of the last reading; empty: none */

	int worker_pid;		 /* 0: none */
	Latch *worker_latch; /* stays valid, for it lives in a PGPROC */
	RoundFigures round;
	char rules_error[256]; /* of the last reload; empty: none */

	/* tables: offsets would be needed if the segment moved; it does not after fork */
	uint64 *pool_hashes; /* [max_pools]; 0: free */
	PoolSlot *pools;
	struct PoolRecord *records; /* [max_pools], see past.h */
	PoolHealth *health;			/* [max_pools]; the worker's, written under the lock */
	uint64 *instance_hashes;	/* [max_instances]; 0: free */
	InstanceSlot *instances;
	struct Ghost *ghosts;  /* [max_instances], see past.h */
	SessionSlot *sessions; /* [MaxBackends] */
} Registry;

/* NULL unless the library was preloaded and shared memory is there. */
extern Registry *registry;

extern void registry_install_hooks(void);

/*---- one backend's side (session.c) ----*/

/* What becomes of a session that is one too many (enforce.c). */
typedef enum Admission
{
	ADMIT_WITHIN_LIMITS, /* refused, if the pool's mode is enforce */
	ADMIT_EXEMPT,		 /* a superuser, or in always_admit */
	ADMIT_PRESENT		 /* was there before the mode was turned up */
} Admission;

typedef enum RefusalReason
{
	REFUSED_NOT,
	REFUSED_BY_INSTANCE, /* the instance holds what it may */
	REFUSED_BY_RULE,	 /* the pools of its rule hold together what they may */
	REFUSED_KNOCK		 /* the instance is knocking already */
} RefusalReason;

typedef struct Refusal
{
	RefusalReason reason;
	int limit; /* of the instance, or of the rule */
	int held;  /* by the instance, or by all pools of the rule */
	int pool;
	uint64 pool_hash;
	int pool_held;
	int instance;
	uint32 generation; /* of the instance's slot */
	char rule_text[RULE_TEXT_LEN];
} Refusal;

/* Who a session says it is. */
typedef struct Identity
{
	IdentifiedBy identified_by;
	char pool[NAME_LEN];
	char id[NAME_LEN]; /* given or made */
	bool has_id;
	bool follows;
	bool reports;
	bool knock;
	Oid role;
	Oid database;
	char role_name[NAMEDATALEN];
	char database_name[NAMEDATALEN];
	char host[NAME_LEN];
	char application[NAMEDATALEN];
	int role_limit; /* CONNECTION LIMIT; -1: none that holds for the role */
	int database_limit;
	Admission admission;
	bool waits; /* is one of InstanceSlot.waiting */
} Identity;

/*
 * Enter this backend's session in slot `session`.  The instance's index, or -1: it is refused and
 * *refusal says why, or refusal->reason is REFUSED_NOT and a table is full.  Raises nothing.
 */
extern int registry_attach(const Identity *who, int session, Refusal *refusal);
extern void registry_detach(int session);

/* What names are found by; 0 is none's. */
extern uint64 registry_pool_hash(const char *name, Oid role, Oid database, IdentifiedBy by);
extern uint64 registry_instance_hash(const char *id, int pool);

/* True if the report was news to the session's instance. */
extern bool registry_apply_report(int instance, const Report *report);

/* Have the worker look now instead of at its next round. */
extern void registry_wake_worker(void);

/*---- about pools and instances, as they are or copied ----*/

/*
 * The mode in force: global "off" beats a rule's.  A global mode that is turned down needs
 * no worker.
 */
extern PgpmMode pool_mode(const PoolSlot *pool);

/*
 * Its clients have not named it.  It is only watched: no rule is its, it is never limited or
 * refused, and it makes room for any pool that has named itself.
 */
static inline bool
pool_is_guess(const PoolSlot *pool)
{
	return pool->identified_by != BY_CLIENT;
}

static inline int32
instance_demand(const InstanceSlot *instance)
{
	int32 demand = 0;

	for (int i = 0; i < DEMAND_WINDOW; i++)
		demand = Max(demand, instance->demands[i]);
	return demand;
}

/*
 * The most that it can make use of; -1: not known.  A newcomer that is about to say what it
 * wants is not given what nobody may want.
 */
extern int instance_ceiling(const InstanceSlot *instance);

/*
 * Does the instance tell its state from time to time, and is its last word older than it
 * should be?
 */
static inline bool
instance_silent(const InstanceSlot *instance, int64 now)
{
	int64 last = instance->reported ? instance->report_time : 0;
	int64 patience = INT64CONST(3000) * pg_atomic_read_u32(&registry->interval);

	if (!instance->reports || instance->bye)
		return false;
	/* a newcomer has as long for its first report as others for their next */
	return now - Max(last, instance->last_seen) > patience;
}

/*
 * It holds nothing, and its last word was that it did: whoever said that is
 * gone, or will say something else when he is back.
 */
static inline bool
instance_vanished(const InstanceSlot *instance)
{
	/* not those being opened or closed: these come and go without a word */
	return instance->held == 0 && instance->knocks == 0 && instance->reported && !instance->bye &&
		   (instance->report.in_use > 0 || instance->report.idle > 0);
}

/*---- the worker's side ----*/

/*
 * Under the lock, exclusively, by whoever changes which instances there are and what they
 * hold, want, were told, or may still believe; which sessions there are; a pool's rule,
 * mode or limits; or lets something end earlier by the clock than it would have.  What is
 * called too often costs a round.
 */
static inline void
registry_changed(void)
{
	registry->changes++;
}

/*
 * Silent and deaf instances lose what they do not use; dead ones their slots.  Until the
 * time that is returned there is no more of that, unless something changes.
 */
extern int64 registry_expire(int64 now);

extern int64 registry_instance_timeout(void); /* microseconds */

#endif /* PGPM_REGISTRY_H */
