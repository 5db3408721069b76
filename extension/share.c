/*-------------------------------------------------------------------------
 *
 * share.c
 *	  One round of the worker: who is there, what may be given, who gets it.
 *
 *	1. Silent instances lose what they do not use, dead ones their slots.
 *	2. Pools that were matched with older rules get their rule.
 *	3. All instances are copied; connections that follow nothing are counted;
 *	   capacity is what is left.
 *	4. allot() says what would be fair: once with the pools that are only advised, to show it, and once
 *	   without.  Before either, what each CONNECTION LIMIT leaves is divided in the same way.
 *	5. What of that is worth a move is published, as far as the invariant in
 *	   grant.h allows.
 *
 * Works on private copies, so that the lock is held only to copy and to
 * publish.  What changes in between is found when publishing: the sum is taken
 * again, and a target for a slot that was used again is dropped.
 *
 * Quiet rounds.  What is shared is a function of the registry, of capacity, of the clock,
 * and for CONNECTION LIMITs of who else is connected.  So if nothing of that has changed
 * since the last round, and that has changed nothing either, steps 1, 2, 4 and 5 would
 * change nothing, and are left out: Registry.changes tells for the registry (the worker's
 * own doings are counted, too), and the earliest deadline for the clock.  Where there is a
 * CONNECTION LIMIT no round is quiet.
 *
 * Stability.  Every move costs two parties a report, so limits that are merely
 * uneven stay.  Something is taken away only if somebody who needs more is to have
 * it, or if a sum is above what it may be.  When nobody needs all of it,
 * a small reserve is given to nobody: a newcomer finds it at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "allot.h"
#include "compat.h"
#include "grant.h"
#include "pause.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "rule_set.h"
#include "rules.h"

#define KNOCK_GRACE INT64CONST(10000000) /* microseconds that a knock is taken for one */
#define REPORTS_PER_SECOND 200			 /* of the whole fleet */
#define LEASE_INTERVALS 3				 /* reports that may be lost before a lease runs out */

/* An instance, copied. */
typedef struct Member
{
	Target target; /* begins as what is published */
	int pool;
	bool follows;
	bool shares;  /* follows, and its pool is shared with */
	bool advised; /* follows, and its pool's mode is advise */
	bool expired; /* silent for longer than its lease, or deaf */
	bool vanished;
	bool bye;
	int held;
	int occupancy;
	int limit; /* published */
	int demand;
	int ceiling; /* -1: not known */
	int bound; /* of what CONNECTION LIMITs leave, its part; -1: no such limit, 0: nothing is left */
	uint64 joined;
	int fair; /* allot's word */
	bool queued;
} Member;

/*---- private to the worker, for its whole life ----*/

static PoolSlot *pools;		/* [max_pools], copies */
static uint64 *pool_hashes; /* of the same moment; 0: it has no instance */
static Member *members;		/* [max_instances], those in use, side by side */
static int nmembers;
static int *member_of;	/* [max_instances]: slot -> member, -1: none */
static bool *attached;	/* [MaxConnections], by place (compat.h): its backend has a session */
static int *strangers;	/* [MaxConnections]: pid seen unattached in the last round */
static bool *outsiders; /* [MaxConnections]: counted as outside in this one */

static AllotRule *allot_rules;
static AllotPool *allot_pools;
static AllotInstance *allot_instances;
static void *scratch;
static Target *targets;

static ConnectionLimits connection_limits; /* of each role and each database, roles first */
static bool exceeds_limits = false;		   /* more is published than some CONNECTION LIMIT leaves */
static int outside_smoothed = 0;
static int64 smoothed_at = 0;
static bool acquainted = false; /* strangers[] is of the last round */

/* What the last round that was not quiet saw; private copies are of that, too. */
typedef struct Seen
{
	uint64 changes;	   /* of the registry, before anything of it was looked at */
	uint32 generation; /* bumped with the mode */
	uint32 rules_version;
	int capacity;
	bool limited;	/* there was a CONNECTION LIMIT */
	int64 deadline; /* pgpm_now() up to which the clock changes nothing */
	int held;		/* sessions of sharing instances */
	int64 occupied;

	/*
	 * Sessions that will follow as soon as their pool is shared with.  They take
	 * from capacity what they are, and are not smoothed: the moment that the mode is turned up they
	 * are members' own, and must not be counted twice for as long as it takes to forget them.
	 */
	int unshared;
} Seen;

static Seen seen;
static bool was_quiet = false; /* the last round */

void
share_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	pools = palloc0_array(PoolSlot, pgpm_max_pools);
	pool_hashes = palloc0_array(uint64, pgpm_max_pools);
	members = palloc0_array(Member, pgpm_max_instances);
	member_of = palloc0_array(int, pgpm_max_instances);
	attached = palloc0_array(bool, MaxConnections);
	strangers = palloc0_array(int, MaxConnections);
	outsiders = palloc0_array(bool, MaxConnections);
	allot_rules = palloc0_array(AllotRule, RULES_MAX + 1);
	allot_pools = palloc0_array(AllotPool, pgpm_max_pools);
	allot_instances = palloc0_array(AllotInstance, pgpm_max_instances);
	targets = palloc0_array(Target, pgpm_max_instances);
	connection_limits.limits = palloc0_array(ConnectionLimit, (Size) 2 * pgpm_max_pools);
	connection_limits.of_role = palloc0_array(int, pgpm_max_pools);
	connection_limits.of_database = palloc0_array(int, pgpm_max_pools);
	scratch = palloc(allot_scratch_size(RULES_MAX + 1, pgpm_max_pools, pgpm_max_instances));
	MemoryContextSwitchTo(old);
}

/*---- rules ----*/

static void
copy_pools(void)
{
	LWLockAcquire(registry->lock, LW_SHARED);
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		/* one that is only remembered takes no part */
		pool_hashes[i] = registry->pools[i].ninstances > 0 ? registry->pool_hashes[i] : 0;
		if (pool_hashes[i] != 0)
			pools[i] = registry->pools[i];
	}
	LWLockRelease(registry->lock);
}

static void
write_back_pools(void)
{
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		if (pool_hashes[i] != 0 && registry->pool_hashes[i] == pool_hashes[i])
			rule_set_copy(&registry->pools[i], &pools[i]);
	}
	registry_changed();
	LWLockRelease(registry->lock);
}

static bool
assign_rule(PoolSlot *pool)
{
	uint32 version = pool->rules_version;
	PgpmMode mode = pool->mode;
	bool by_rule = pool->mode_by_rule;

	if (version != registry->rules_version)
		rule_set_match(pool);
	rule_set_mode(pool);
	return pool->rules_version != version || pool->mode != mode || pool->mode_by_rule != by_rule;
}

static void
assign_rules(void)
{
	bool changed = false;

	seen.generation = pg_atomic_read_u32(&registry->generation);
	seen.rules_version = registry->rules_version;
	copy_pools();
	for (int i = 0; i < pgpm_max_pools; i++)
		if (pool_hashes[i] != 0 && assign_rule(&pools[i]))
			changed = true;
	if (changed)
		write_back_pools();
}

/*---- who is there ----*/

static void
copy_instance(int slot, int64 now)
{
	const InstanceSlot *instance = &registry->instances[slot];
	const PoolSlot *pool = &registry->pools[instance->pool];
	Publication published =
		publication_unpack(pg_atomic_read_u64(&registry->instances[slot].publication));
	Member *member = &members[nmembers];

	member_of[slot] = nmembers++;
	member->target.instance = slot;
	member->target.generation = instance->generation;
	member->target.limit = published.limit;
	member->target.state = published.state;
	member->target.by_rule = pool->mode_by_rule;
	member->pool = instance->pool;
	member->follows = instance->follows;
	member->shares = grant_applies(instance, pool);
	member->advised = instance->follows && pool->mode == MODE_ADVISE;
	member->expired = now > instance->lease_until || instance->deaf;
	member->vanished = instance_vanished(instance);
	member->bye = instance->bye;
	member->held = instance->held;
	member->occupancy = grant_occupancy(instance);
	member->limit = published.limit;
	member->demand = instance->reported ? instance_demand(instance) : Max(1, instance->held);
	member->ceiling = instance_ceiling(instance);
	member->joined = instance->joined;
	member->bound = -1;
	member->target.would = NO_LIMIT;
	member->fair = 0;
	member->queued = false;
}

/* Is this attached session one that an allotment, or the headroom for knocks, pays for? */
static bool
is_paid_for(const SessionSlot *session, int64 now)
{
	int i = member_of[session->instance];

	if (session->kind == SESSION_KNOCK)
		return now - session->attached < KNOCK_GRACE;
	return i >= 0 && (members[i].shares || members[i].follows);
}

static void
copy_sessions(int64 now)
{
	memset(attached, 0, MaxConnections * sizeof(bool));
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const SessionSlot *session = &registry->sessions[slot];
		int place = session->kind == SESSION_FREE ? -1 : compat_place_of(session->proc);

		if (place < 0)
			continue;
		attached[place] = true;
		outsiders[place] = !is_paid_for(session, now);
		if (session->kind == SESSION_KNOCK && !outsiders[place])
			seen.deadline = Min(seen.deadline, session->attached + KNOCK_GRACE - 1);
	}
}

static void
copy_registry(int64 now)
{
	nmembers = 0;
	LWLockAcquire(registry->lock, LW_SHARED);
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		member_of[i] = -1;
		/*
		 * guesses are no members: their sessions are outside, and the fleet reports no less
		 * for them
		 */
		if (registry->instance_hashes[i] != 0 && pool_hashes[registry->instances[i].pool] != 0 &&
			!pool_is_guess(&registry->pools[registry->instances[i].pool]))
			copy_instance(i, now);
	}
	copy_sessions(now);
	LWLockRelease(registry->lock);
}

static void
sum_members(void)
{
	seen.held = seen.unshared = 0;
	seen.occupied = 0;
	for (int i = 0; i < nmembers; i++)
	{
		if (members[i].shares)
		{
			seen.held += members[i].held;
			seen.occupied += members[i].occupancy;
		}
		else if (members[i].follows)
			seen.unshared += members[i].held;
	}
}

static void
look_around(int64 now)
{
	seen.deadline = registry_expire(now);
	assign_rules();
	copy_registry(now);
	sum_members();
}

/*
 * Connections that follow nothing.  One that is not attached may be about to be: it counts
 * from the second round on, or at once if there are more of them than members may be
 * opening, for those have been counted already, and than headroom has room for: a fleet at
 * rest must not move for each knock that is caught while it is let in.  In the first round,
 * also after a pause, nobody is known, and all count: too few would be given away twice.
 */
static int
count_outside(void)
{
	int outside = 0;
	int arriving = 0;

	for (int place = 0; place < MaxConnections; place++)
	{
		int pid = attached[place] ? 0 : compat_place_pid(place);

		if (!attached[place])
			outsiders[place] = pid != 0 && (!acquainted || strangers[place] == pid);
		outside += outsiders[place];
		arriving += pid != 0 && !outsiders[place];
		strangers[place] = pid;
	}
	acquainted = pg_atomic_read_u32(&registry->mode) != MODE_OFF;
	/* what sharing instances may be opening has been counted already */
	return outside +
		   (int) Max(0, arriving - (seen.occupied - seen.held) - pgpm_headroom_connections());
}

/* Rises at once, falls by one a second: capacity that is gone soon again is no use to anybody. */
static int
smooth_outside(int outside, int64 now)
{
	int64 seconds = (now - smoothed_at) / 1000000;

	if (seconds > 0)
	{
		outside_smoothed -= (int) Min(seconds, outside_smoothed);
		smoothed_at = now;
	}
	outside_smoothed = Max(outside_smoothed, outside);
	return outside_smoothed;
}

/*---- what is fair ----*/

static bool
takes_part(const Member *member)
{
	/* who holds nothing, and is gone or has said nothing for a lease, needs nothing */
	return member->shares && !member->bye && !member->vanished &&
		   !(member->expired && member->held == 0);
}

static bool
is_under(const PoolSlot *pool, const ConnectionLimit *limit)
{
	return limit->by_role ? pool->role == limit->oid && pool->role_limit >= 0
						  : pool->database == limit->oid && pool->database_limit >= 0;
}

/* Is this pool the first of those under the limit? */
static bool
is_first_under(int pool, const ConnectionLimit *limit)
{
	for (int i = 0; i < pool; i++)
		if (pool_hashes[i] != 0 && is_under(&pools[i], limit))
			return false;
	return true;
}

/* The most that it makes sense to give, and CONNECTION LIMITs allow. */
static int
member_ceiling(const Member *member)
{
	int ceiling = member->expired ? Max(1, member->held) : member->ceiling;

	return member->bound >= 0 && (ceiling < 0 || member->bound < ceiling) ? member->bound : ceiling;
}

/*
 * Does it take part, and is it under this limit?  For whom limits leave nothing, he is not
 * there.
 */
static bool
is_contender(const Member *member, const ConnectionLimit *limit)
{
	return takes_part(member) && member->bound != 0 &&
		   (limit == NULL || is_under(&pools[member->pool], limit));
}

static int
fill_instances(const int *pool_index, const ConnectionLimit *limit)
{
	int n = 0;

	for (int i = 0; i < nmembers; i++)
	{
		AllotInstance *instance = &allot_instances[n];

		if (!is_contender(&members[i], limit))
			continue;
		memset(instance, 0, sizeof(*instance));
		instance->pool = pool_index[members[i].pool];
		instance->demand = members[i].demand;
		instance->ceiling = member_ceiling(&members[i]);
		instance->joined = members[i].joined;
		instance->key = members[i].joined;
		n++;
	}
	return n;
}

/* Sessions that follow nothing are in their rule's budget too. */
static void
sum_unfollowing(int sums[RULES_MAX + 1])
{
	memset(sums, 0, (RULES_MAX + 1) * sizeof(int));
	for (int i = 0; i < nmembers; i++)
		if (!members[i].follows && pools[members[i].pool].rule >= 0)
			sums[pools[members[i].pool].rule] += members[i].held;
}

/*
 * Pools without a rule of their own share one of weight 1 and no budget.  Keys
 * are those of the rules' text and of the registry's slots: they stay while the things do.
 */
static void
fill_tree(int *pool_index, int *nrules, int *npools)
{
	int rule_index[RULES_MAX + 1];
	int unfollowing[RULES_MAX + 1];

	sum_unfollowing(unfollowing);
	*nrules = *npools = 0;
	memset(rule_index, -1, sizeof(rule_index));
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		int rule;

		pool_index[i] = -1;
		if (pool_hashes[i] == 0)
			continue;
		rule = pools[i].rule >= 0 ? pools[i].rule : RULES_MAX;
		if (rule_index[rule] < 0)
		{
			AllotRule *slot = &allot_rules[*nrules];

			slot->weight = pools[i].weight;
			slot->floor = pools[i].floor;
			slot->ceiling =
				pools[i].ceiling < 0 ? -1 : Max(0, pools[i].ceiling - unfollowing[rule]);
			slot->key = rule;
			rule_index[rule] = (*nrules)++;
		}
		pool_index[i] = *npools;
		allot_pools[*npools].rule = rule_index[rule];
		allot_pools[*npools].key = i;
		(*npools)++;
	}
}

/*
 * All of it if it is needed; else all but a reserve that newcomers, and those who
 * come back after a pause, find at once instead of when others have given something back.
 */
static int
worth_giving(int capacity)
{
	int reserve = Max(1, capacity / 16);
	int64 needed = 0;

	for (int i = 0; i < nmembers; i++)
	{
		int ceiling = member_ceiling(&members[i]);

		if (is_contender(&members[i], NULL))
			needed += Max(1, ceiling < 0 ? members[i].demand : Min(members[i].demand, ceiling));
	}
	return (int) Min(capacity, Max(needed, capacity - reserve));
}

/* Connections that count for the limit, and follow nothing. */
static int
count_outsiders(const ConnectionLimit *limit)
{
	int n = 0;

	for (int place = 0; place < MaxConnections; place++)
	{
		const PGPROC *proc = compat_place(place);

		n += outsiders[place] && (limit->by_role ? proc->roleId : proc->databaseId) == limit->oid;
	}
	return n;
}

/* Those, and members that take no part, or that it does not bind: a superuser's. */
static int
count_others(const ConnectionLimit *limit)
{
	int others = limit->outsiders;

	for (int i = 0; i < nmembers; i++)
	{
		const PoolSlot *pool = &pools[members[i].pool];

		if (!members[i].follows || (takes_part(&members[i]) && is_under(pool, limit)) ||
			(limit->by_role ? pool->role : pool->database) != limit->oid)
			continue;
		others += takes_part(&members[i]) ? members[i].occupancy : members[i].held;
	}
	return others;
}

/*
 * Divide what the limit leaves among those under it as if there was nobody else, by the same
 * rules: nobody may have more than his part, so that together they are within it.
 */
static void
bound_members(const ConnectionLimit *limit, const int *pool_index, int nrules, int npools)
{
	int left = limit->connections - count_others(limit);
	int n = fill_instances(pool_index, limit);
	int64 sum = 0;

	allot(left, allot_rules, nrules, allot_pools, npools, allot_instances, n, scratch);
	n = 0;
	for (int i = 0; i < nmembers; i++)
	{
		if (!is_contender(&members[i], limit))
			continue;
		sum += Max(0, members[i].limit);
		members[i].bound = allot_instances[n].queued ? 0 : allot_instances[n].share;
		n++;
	}
	exceeds_limits = exceeds_limits || sum > left;
}

static int
find_limit(Oid oid, bool by_role)
{
	for (int i = 0; i < connection_limits.nlimits; i++)
		if (connection_limits.limits[i].oid == oid &&
			connection_limits.limits[i].by_role == by_role)
			return i;
	return -1;
}

/* So that grant_publish finds them again without a search. */
static void
index_limits(void)
{
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		connection_limits.of_role[i] = pool_hashes[i] != 0 ? find_limit(pools[i].role, true) : -1;
		connection_limits.of_database[i] =
			pool_hashes[i] != 0 ? find_limit(pools[i].database, false) : -1;
	}
}

/* Each role and each database with a CONNECTION LIMIT once, roles first. */
static void
apply_connection_limits(const int *pool_index, int nrules, int npools)
{
	exceeds_limits = seen.limited = false;
	connection_limits.nlimits = 0;
	for (int i = 0; i < nmembers; i++)
		members[i].bound = -1;
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < pgpm_max_pools; i++)
		{
			ConnectionLimit limit = { .by_role = pass == 0 };

			if (pool_hashes[i] == 0)
				continue;
			limit.oid = limit.by_role ? pools[i].role : pools[i].database;
			limit.connections = limit.by_role ? pools[i].role_limit : pools[i].database_limit;
			if (limit.connections < 0)
				continue;
			seen.limited = true;
			if (!is_first_under(i, &limit))
				continue;
			limit.outsiders = count_outsiders(&limit);
			connection_limits.limits[connection_limits.nlimits++] = limit;
			bound_members(&limit, pool_index, nrules, npools);
		}
	}
	index_limits();
}

static void
find_fair_shares(int capacity)
{
	int *pool_index = palloc_array(int, pgpm_max_pools);
	int nrules;
	int npools;
	int n;

	fill_tree(pool_index, &nrules, &npools);
	apply_connection_limits(pool_index, nrules, npools);
	n = fill_instances(pool_index, NULL);
	pfree(pool_index);

	allot(worth_giving(capacity), allot_rules, nrules, allot_pools, npools, allot_instances, n,
		  scratch);

	n = 0;
	for (int i = 0; i < nmembers; i++)
	{
		members[i].fair = 0;
		members[i].queued = takes_part(&members[i]);
		if (!is_contender(&members[i], NULL))
			continue;
		members[i].fair = allot_instances[n].share;
		members[i].queued = allot_instances[n].queued;
		n++;
	}
}

static void
remember_advice(void)
{
	for (int i = 0; i < nmembers; i++)
		members[i].target.would = takes_part(&members[i]) ? members[i].fair : NO_LIMIT;
}

/*
 * What everybody would have if pools that are only advised had their part as well: their
 * sessions are no longer taken from capacity, then.  False if there are none.
 */
static bool
find_advice(int capacity)
{
	bool advised = false;

	for (int i = 0; i < nmembers; i++)
	{
		Member *member = &members[i];

		if (!member->advised)
			continue;
		advised = member->shares = true;
		capacity += member->held;
	}
	if (!advised)
		return false;
	find_fair_shares(capacity);
	remember_advice();
	for (int i = 0; i < nmembers; i++)
		members[i].shares = members[i].shares && !members[i].advised;
	return true;
}

/*---- what is worth a move ----*/

/* Needs more, is to have it, and by enough to be worth two reports. */
static bool
starves(const Member *member)
{
	int missing = member->fair - member->limit;

	return takes_part(member) && member->limit != NO_LIMIT && member->demand > member->limit &&
		   missing > 0 && missing * 8 >= member->limit;
}

static bool
exceeds_rule(void)
{
	int sums[RULES_MAX + 1];

	sum_unfollowing(sums);
	for (int i = 0; i < nmembers; i++)
	{
		const PoolSlot *pool = &pools[members[i].pool];

		if (!members[i].shares || members[i].limit == NO_LIMIT || pool->rule < 0 ||
			pool->ceiling < 0)
			continue;
		sums[pool->rule] += members[i].limit;
		if (sums[pool->rule] > pool->ceiling)
			return true;
	}
	return false;
}

static bool
must_move(int capacity)
{
	int64 sum = 0;

	for (int i = 0; i < nmembers; i++)
	{
		if (starves(&members[i]) || members[i].queued)
			return true;
		if (members[i].shares && members[i].limit != NO_LIMIT)
			sum += members[i].limit;
	}
	return sum > capacity || exceeds_limits || exceeds_rule();
}

static void
set_target(Member *member, bool move)
{
	Target *target = &member->target;
	const PoolSlot *pool = &pools[member->pool];

	if (!member->shares)
	{
		target->limit = NO_LIMIT;
		target->state = pool->mode == MODE_OFF ? ALLOT_OFF : ALLOT_OK;
		return;
	}
	if (!takes_part(member))
		return; /* stays as it is: registry_expire has seen to it */
	target->state = member->queued ? ALLOT_QUEUED : ALLOT_OK;
	/* what it has no use for, by its own word, costs nobody anything to take back */
	if (member->fair < member->limit && !move &&
		(member->ceiling < 0 || member->limit <= member->ceiling))
		return;
	target->limit = member->fair;
}

/* Who has nothing comes first, then who lacks most, then who came first. */
static int
compare_members(const void *a, const void *b)
{
	const Member *x = a;
	const Member *y = b;
	int missing_x = x->limit <= 0 ? INT_MAX : x->demand - x->limit;
	int missing_y = y->limit <= 0 ? INT_MAX : y->demand - y->limit;

	if (missing_x != missing_y)
		return missing_x > missing_y ? -1 : 1;
	return x->joined < y->joined ? -1 : x->joined > y->joined;
}

static void
publish_targets(int capacity)
{
	bool move = must_move(capacity);
	bool raises = false;

	for (int i = 0; i < nmembers; i++)
	{
		set_target(&members[i], move);
		raises = raises || members[i].target.limit > members[i].limit;
	}
	/* only among those who are to have more does it matter who comes first */
	if (raises)
		qsort(members, nmembers, sizeof(Member), compare_members);
	for (int i = 0; i < nmembers; i++)
		targets[i] = members[i].target;
	grant_publish(targets, nmembers, capacity, &connection_limits);
}

/*---- the round ----*/

/*
 * In whole multiples of what is set: every change is told to every session, so
 * that it must not change with each instance that comes or goes.
 */
static void
set_terms(void)
{
	uint32 fleet = (uint32) nmembers * 1000 / REPORTS_PER_SECOND;
	uint32 set = (uint32) pgpm_report_interval;
	uint32 interval = Max(1, (fleet + set - 1) / set) * set;

	grant_set_terms(Max((uint32) pgpm_lease, LEASE_INTERVALS * interval), interval,
					pgpm_retry_interval);
}

static void
record(int outside, int capacity)
{
	RoundFigures *round = &registry->round;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	round->at = GetCurrentTimestamp();
	round->rounds++;
	round->outside = outside;
	round->outside_smoothed = pgpm_base_connections() - pgpm_headroom_connections() - capacity;
	round->capacity = capacity;
	round->held = seen.held;
	round->occupied = (int) Min(seen.occupied, INT_MAX);
	round->held_peak = Max(round->held_peak, seen.held);
	round->excess_peak = Max(round->excess_peak, seen.held - capacity);
	LWLockRelease(registry->lock);
}

static int
find_capacity(int64 now)
{
	int outside = count_outside();
	int capacity = pgpm_base_connections() - pgpm_headroom_connections() -
				   smooth_outside(outside, now) - seen.unshared;

	record(outside + seen.unshared, capacity);
	return capacity;
}

/* Has nothing happened since the last look, but perhaps to connections that follow nothing? */
static bool
is_quiet(int64 now)
{
	bool same;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	pause_expire();
	same = registry->changes == seen.changes;
	/* what changes from here on, by this round too, is for the next one to see */
	seen.changes = registry->changes;
	LWLockRelease(registry->lock);
	return same && acquainted && !seen.limited && now <= seen.deadline &&
		   pg_atomic_read_u32(&registry->generation) == seen.generation &&
		   registry->rules_version == seen.rules_version;
}

/* Divide capacity; wants copies that are fresh, for it changes them. */
static void
share_out(int capacity)
{
	bool advised = find_advice(capacity);

	find_fair_shares(capacity);
	if (!advised)
		remember_advice();
	publish_targets(capacity);
	seen.capacity = capacity;
}

void
share_round(int64 now)
{
	bool quiet = is_quiet(now);
	int capacity;

	if (!quiet)
		look_around(now);
	set_terms();
	capacity = find_capacity(now);
	was_quiet = quiet && capacity == seen.capacity;
	if (was_quiet)
		return;
	if (quiet)
		look_around(now);
	share_out(capacity);
}
