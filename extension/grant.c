/*-------------------------------------------------------------------------
 *
 * grant.c
 *	  What instances are told that they may hold, and what they may still believe.
 *
 * grant.h has the invariant that is kept here, and by whom these are called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "grant.h"
#include "pause.h"
#include "registry.h"

/*---- what is told, in one word ----*/

uint64
publication_pack(const Publication *publication)
{
	return (publication->epoch << EPOCH_SHIFT) |
		   ((uint64) ((publication->limit + 1) & LIMIT_MASK) << LIMIT_SHIFT) |
		   (publication->by_rule ? BY_RULE_BIT : 0) | (publication->paused ? PAUSED_BIT : 0) |
		   (uint64) publication->state;
}

const char *
publication_state_name(const Publication *publication)
{
	if (publication->state == ALLOT_OFF)
		return "off";
	if (publication->paused)
		return "paused";
	return publication->state == ALLOT_QUEUED ? "queued" : "ok";
}

bool
grant_applies(const InstanceSlot *instance, const PoolSlot *pool)
{
	return instance->follows && pool->mode >= MODE_SHARE;
}

/*
 * The largest limit that the instance may still believe.  While it was told of none, all
 * that is known is how large it ever wants to be.
 */
int
grant_believed(const InstanceSlot *instance)
{
	if (instance->bye)
		return 0;
	if (grant_told(instance).limit == NO_LIMIT)
		/* its own word, which is worth no more than all connections that there are */
		return instance->reported ? Min(instance->report.max_size, MaxConnections) : 0;
	return instance->granted;
}

int
grant_occupancy(const InstanceSlot *instance)
{
	return Max(instance->held, grant_believed(instance));
}

void
grant_renew_lease(InstanceSlot *instance, int64 now)
{
	instance->lease_from = now;
	instance->lease_until = now + INT64CONST(1000) * pg_atomic_read_u32(&registry->lease);
}

/*
 * Tell the instance something else.  What it may still believe is what it was
 * told before or this, whichever is larger, until it acknowledges this.
 */
static void
publish(InstanceSlot *instance, int limit, AllotState state, bool by_rule)
{
	Publication now = grant_told(instance);
	int believed = grant_believed(instance);
	bool paused = instance->follows && pause_holds(instance->pool);

	if (now.epoch != 0 && now.limit == limit && now.state == state && now.by_rule == by_rule &&
		now.paused == paused)
		return;

	/*
	 * who was off counts no lease, and does not report: it has one lease from now to hear
	 * of a limit
	 */
	if (now.epoch != 0 && now.state == ALLOT_OFF && limit != NO_LIMIT)
		grant_renew_lease(instance, pgpm_now());
	registry_changed();
	/* what was unheard before remains so, and longer; no limit is nothing to hear of */
	if (instance->acked || now.limit == NO_LIMIT)
	{
		instance->unheard_since = pgpm_now();
		instance->unheard_reports = 0;
	}
	instance->deaf = instance->deaf && limit != NO_LIMIT;
	now.epoch = ++registry->last_epoch;
	now.limit = limit;
	now.state = state;
	now.by_rule = by_rule;
	now.paused = paused;
	instance->granted = limit == NO_LIMIT ? 0 : Max(believed, limit);
	instance->acked = false;
	pg_atomic_write_u64(&instance->publication, publication_pack(&now));

	/*
	 * Only now: a text that carries the old publication was made before, hence
	 * of this generation or an older one, so that its epoch is lower than this.
	 */
	pg_memory_barrier();
	instance->ack_needed = now.epoch + pg_atomic_read_u32(&registry->generation);
	registry->round.published++;
}

/* As much as all connections for each of very many instances: more than an int holds. */
static int64
total_occupancy(void)
{
	int64 total = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] != 0 &&
			grant_applies(instance, &registry->pools[instance->pool]))
			total += grant_occupancy(instance);
	}
	return total;
}

/* What an instance takes from its rule's budget: it counts for those who do not follow, too. */
static int
rule_part(const InstanceSlot *instance, const PoolSlot *pool)
{
	return grant_applies(instance, pool) ? grant_occupancy(instance) : instance->held;
}

/* Is there one more in the rule's budget? */
static bool
fits_rule(const PoolSlot *pool)
{
	int64 sum = 1;

	if (pool->rule < 0 || pool->ceiling < 0)
		return true;
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		const PoolSlot *other = &registry->pools[instance->pool];

		if (registry->instance_hashes[i] != 0 && other->rule == pool->rule)
			sum += rule_part(instance, other);
	}
	return sum <= pool->ceiling;
}

/* The same of a CONNECTION LIMIT, as far as the registry knows. */
static bool
fits_connection_limit(const PoolSlot *pool, bool by_role)
{
	int most = by_role ? pool->role_limit : pool->database_limit;
	int64 sum = 1;

	if (most < 0)
		return true;
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		const PoolSlot *other = &registry->pools[instance->pool];

		if (registry->instance_hashes[i] != 0 &&
			(by_role ? other->role == pool->role : other->database == pool->database))
			sum += rule_part(instance, other);
	}
	return sum <= most;
}

/*
 * What a newcomer, or one that comes back with nothing, is told before the
 * worker has thought about it.  The session that it holds already is granted: that
 * changes no sum.  One that only knocks gets a first connection if it fits.
 */
void
grant_first(InstanceSlot *instance, const PoolSlot *pool)
{
	Publication now = grant_told(instance);
	int limit = instance->held;
	bool fits;

	if (!grant_applies(instance, pool))
	{
		publish(instance, NO_LIMIT, pool->mode == MODE_OFF ? ALLOT_OFF : ALLOT_OK,
				pool->mode_by_rule);
		return;
	}
	if (now.epoch != 0 && now.limit >= Max(instance->held, 1))
		return;
	if (limit == 0 && now.epoch != 0 && now.state == ALLOT_QUEUED)
		return; /* the worker keeps the queue */
	fits = total_occupancy() + (limit == 0 ? 1 : 0) <= registry->round.capacity;
	if (limit == 0)
		fits = fits && fits_rule(pool) && fits_connection_limit(pool, true) &&
			   fits_connection_limit(pool, false);
	if (limit == 0 && fits)
		limit = 1;
	publish(instance, limit, fits ? ALLOT_OK : ALLOT_QUEUED, pool->mode_by_rule);
}

void
grant_tell_pause(InstanceSlot *instance)
{
	Publication now = grant_told(instance);

	publish(instance, now.limit, now.state, now.by_rule);
}

void
grant_free(InstanceSlot *instance, const PoolSlot *pool)
{
	if (grant_told(instance).epoch != 0 && !grant_applies(instance, pool))
		publish(instance, NO_LIMIT, pool->mode == MODE_OFF ? ALLOT_OFF : ALLOT_OK,
				pool->mode_by_rule);
}

void
grant_wish(InstanceSlot *instance, const PoolSlot *pool)
{
	if (grant_told(instance).epoch == 0 && grant_applies(instance, pool))
		publish(instance, 0, ALLOT_QUEUED, pool->mode_by_rule);
}

/* The client has taken over what is published now: it believes nothing else any more. */
void
grant_acknowledge(InstanceSlot *instance, uint64 ack)
{
	Publication now = grant_told(instance);

	if (ack > instance->last_ack)
	{
		/* who is always a little behind is not deaf */
		instance->last_ack = ack;
		instance->unheard_since = pgpm_now();
		instance->unheard_reports = 0;
	}
	else if (instance->unheard_reports < DEAF_REPORTS)
		instance->unheard_reports++;
	if (ack < instance->ack_needed)
		return;
	instance->deaf = false;
	if (instance->acked)
		return;
	instance->acked = true;
	if (now.limit != NO_LIMIT)
		instance->granted = now.limit;
}

int64
grant_deaf_from(const InstanceSlot *instance)
{
	if (instance->deaf || instance->acked || !instance->follows ||
		grant_told(instance).limit == NO_LIMIT || instance->unheard_reports < DEAF_REPORTS)
		return PG_INT64_MAX;
	return instance->unheard_since +
		   INT64CONST(1000) * DEAF_LEASES * pg_atomic_read_u32(&registry->lease);
}

bool
grant_is_deaf(InstanceSlot *instance, int64 now)
{
	if (now > grant_deaf_from(instance))
		instance->deaf = true;
	return instance->deaf;
}

/*---- for all instances alike ----*/

void
grant_set_mode(int mode)
{
	if (pg_atomic_read_u32(&registry->mode) == (uint32) mode)
		return;
	pg_atomic_write_u32(&registry->mode, mode);
	pg_atomic_fetch_add_u32(&registry->generation, 1);
}

void
grant_set_terms(uint32 lease, uint32 interval, uint32 retry)
{
	uint32 old = pg_atomic_read_u32(&registry->lease);

	if (old == lease && pg_atomic_read_u32(&registry->interval) == interval &&
		pg_atomic_read_u32(&registry->retry) == retry)
		return;

	/*
	 * The lock is for whoever applies a report just now: either it counts the new
	 * lease and finds the new generation afterwards, or neither.
	 */
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&registry->lease, lease);
	pg_atomic_write_u32(&registry->interval, interval);
	pg_atomic_write_u32(&registry->retry, retry);
	pg_atomic_fetch_add_u32(&registry->generation, 1);

	/*
	 * a client that hears of a longer lease counts it from the last report that it has sent
	 * already
	 */
	for (int i = 0; lease > old && i < pgpm_max_instances; i++)
	{
		InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] != 0)
			instance->lease_until =
				Max(instance->lease_until, instance->lease_from + INT64CONST(1000) * lease);
	}
	LWLockRelease(registry->lock);
}

/*---- the worker's side ----*/

/* NULL if the slot is another's by now. */
static InstanceSlot *
target_of(const Target *target)
{
	InstanceSlot *instance = &registry->instances[target->instance];

	return instance->used && instance->generation == target->generation ? instance : NULL;
}

/*
 * As much of the raise as fits.  What the instance believes already costs
 * nothing; but while the sum is above capacity nothing at all is raised.  Who waits for more
 * than his first is not queued: he came while there was no room, and was told so.
 */
static int
raise_within(InstanceSlot *instance, const Target *target, int64 room)
{
	int occupied = grant_occupancy(instance);
	int told = grant_told(instance).limit;
	int limit = room < 0 ? told : (int) Min(target->limit, occupied + room);

	if (limit <= told)
	{
		if (told > 0)
			publish(instance, told, target->state, target->by_rule);
		return 0;
	}
	publish(instance, limit, target->state, target->by_rule);
	return grant_occupancy(instance) - occupied;
}

static bool
lowers(const InstanceSlot *instance, const Target *target)
{
	int limit = grant_told(instance).limit;

	return target->limit == NO_LIMIT || limit == NO_LIMIT || target->limit <= limit;
}

/* What is left of each rule's budget: many times more than there can be where it has none. */
static void
find_rule_room(int64 room[RULES_MAX])
{
	for (int i = 0; i < RULES_MAX; i++)
		room[i] = PG_INT64_MAX / 2;
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		const PoolSlot *pool = &registry->pools[i];

		if (registry->pool_hashes[i] != 0 && pool->rule >= 0 && pool->ceiling >= 0)
			room[pool->rule] = pool->ceiling;
	}
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		const PoolSlot *pool = &registry->pools[instance->pool];

		if (registry->instance_hashes[i] != 0 && pool->rule >= 0)
			room[pool->rule] -= rule_part(instance, pool);
	}
}

/* NULL if it counts for none, or the slot is another pool's by now. */
static ConnectionLimit *
limit_of(const ConnectionLimits *limits, int pool, bool by_role)
{
	int i = by_role ? limits->of_role[pool] : limits->of_database[pool];
	Oid oid = by_role ? registry->pools[pool].role : registry->pools[pool].database;

	return i >= 0 && limits->limits[i].oid == oid ? &limits->limits[i] : NULL;
}

/* Those that follow nothing are among the outsiders. */
static void
find_limit_room(ConnectionLimits *limits)
{
	for (int i = 0; i < limits->nlimits; i++)
		limits->limits[i].room = limits->limits[i].connections - limits->limits[i].outsiders;
	for (int i = 0; limits->nlimits > 0 && i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] == 0 || !instance->follows)
			continue;
		for (int by_role = 0; by_role < 2; by_role++)
		{
			ConnectionLimit *limit = limit_of(limits, instance->pool, by_role);

			if (limit != NULL)
				limit->room -= rule_part(instance, &registry->pools[instance->pool]);
		}
	}
}

/*
 * The least that all of this leaves for one more of this pool.  A superuser counts for
 * limits that do not bind it.
 */
static int64
find_room(int64 room, const int64 *rule_room, const ConnectionLimits *limits, int pool)
{
	const PoolSlot *slot = &registry->pools[pool];
	const ConnectionLimit *by_role = slot->role_limit >= 0 ? limit_of(limits, pool, true) : NULL;
	const ConnectionLimit *by_database =
		slot->database_limit >= 0 ? limit_of(limits, pool, false) : NULL;

	if (slot->rule >= 0)
		room = Min(room, rule_room[slot->rule]);
	if (by_role != NULL)
		room = Min(room, by_role->room);
	if (by_database != NULL)
		room = Min(room, by_database->room);
	return room;
}

static void
take_room(int taken, int64 *rule_room, const ConnectionLimits *limits, int pool)
{
	if (registry->pools[pool].rule >= 0)
		rule_room[registry->pools[pool].rule] -= taken;
	for (int by_role = 0; by_role < 2; by_role++)
	{
		ConnectionLimit *limit = limit_of(limits, pool, by_role);

		if (limit != NULL)
			limit->room -= taken;
	}
}

void
grant_publish(const Target *targets, int ntargets, int capacity, ConnectionLimits *limits)
{
	static int64 rule_room[RULES_MAX];
	int64 room = 0;
	bool raises = false;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ntargets; i++)
	{
		InstanceSlot *instance = target_of(&targets[i]);

		if (instance == NULL)
			continue;
		instance->would_limit = targets[i].would;
		if (lowers(instance, &targets[i]))
			publish(instance, targets[i].limit, targets[i].state, targets[i].by_rule);
		else
			raises = true;
	}

	/* sessions may have come since the targets were worked out: sum again, under the lock */
	if (raises)
	{
		room = capacity - total_occupancy();
		find_rule_room(rule_room);
		find_limit_room(limits);
	}
	for (int i = 0; raises && i < ntargets; i++)
	{
		InstanceSlot *instance = target_of(&targets[i]);
		int raised;

		if (instance == NULL || lowers(instance, &targets[i]))
			continue;
		raised =
			raise_within(instance, &targets[i], find_room(room, rule_room, limits, instance->pool));
		room -= raised;
		take_room(raised, rule_room, limits, instance->pool);
	}
	LWLockRelease(registry->lock);
}

void
grant_take_back(InstanceSlot *instance)
{
	Publication now = grant_told(instance);
	int limit = Min(now.limit, instance->held);

	if (now.limit == NO_LIMIT)
		return;
	publish(instance, limit, now.state, now.by_rule);
	if (instance->granted != limit)
		registry_changed();
	instance->granted = limit;
	instance->acked = true;
}
