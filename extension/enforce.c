/*-------------------------------------------------------------------------
 *
 * enforce.c
 *	  Mode enforce: sessions beyond what their pool may hold are refused.
 *
 * enforce.h says which, and what the grace is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "enforce.h"
#include "grant.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define KNOCKS_MAX 2   /* of an instance at once: the last one's backend may not have gone yet */
#define GRACE_STEP 20L /* ms: limits change, and slots run out, with nobody saying so */

/* This session is one of Registry.grace_waiting, ... */
static bool waiting = false;
static bool is_stranger;		  /* ... of grace_strangers, ... */
static int waiting_of;			  /* ... or else of this instance's, ... */
static uint32 waiting_generation; /* ... if that is still this one. */

/*---- who it is ----*/

static bool
is_listed(const char *role)
{
	char *copy = pstrdup(pgpm_always_admit);
	List *names = NIL;
	ListCell *cell;
	bool listed = false;

	/* cannot fail: the setting was checked when it was set */
	if (SplitIdentifierString(copy, ',', &names))
		foreach (cell, names)
			listed = listed || strcmp(lfirst(cell), role) == 0;
	list_free(names);
	pfree(copy);
	return listed;
}

static int
role_limit(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	int limit = -1;

	if (!HeapTupleIsValid(tuple))
		return -1;
	limit = ((Form_pg_authid) GETSTRUCT(tuple))->rolconnlimit;
	ReleaseSysCache(tuple);
	return limit;
}

static int
database_limit(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	int limit = -1;

	if (!HeapTupleIsValid(tuple))
		return -1;
	limit = ((Form_pg_database) GETSTRUCT(tuple))->datconnlimit;
	ReleaseSysCache(tuple);
	return limit;
}

void
enforce_look_up(Identity *who)
{
	bool is_superuser = superuser_arg(who->role);

	if (who->admission != ADMIT_PRESENT && (is_superuser || is_listed(who->role_name)))
		who->admission = ADMIT_EXEMPT;
	/* the server does not hold superusers to either */
	who->role_limit = is_superuser ? -1 : Max(-1, role_limit(who->role));
	who->database_limit = is_superuser ? -1 : Max(-1, database_limit(who->database));
}

/*---- kept places ----*/

/*
 * Half of the time for which one is kept at most: so that who waits in vain for it does so
 * for no longer than half of his grace.
 */
static int64
keeping_time(void)
{
	return INT64CONST(1000) * pgpm_grace / 4;
}

static void
forget_kept(InstanceSlot *instance, int64 now)
{
	int64 elapsed = now - instance->kept_since;

	if (elapsed < keeping_time())
		return;
	instance->kept[1] = elapsed < 2 * keeping_time() ? instance->kept[0] : 0;
	instance->kept[0] = 0;
	instance->kept_since = now;
}

static int
kept_places(InstanceSlot *instance, int64 now)
{
	int kept;

	forget_kept(instance, now);
	kept = instance->kept[0] + instance->kept[1];
	if (kept > 0 && instance->follows && grant_told(instance).limit != NO_LIMIT)
		kept = Min(kept, Max(0, grant_believed(instance) - instance->held));
	return kept;
}

bool
enforce_expects(InstanceSlot *instance, int64 now)
{
	if (instance->waiting > 0)
		return true;
	return instance->kept[0] + instance->kept[1] > 0 && kept_places(instance, now) > 0;
}

/* Is one of them this session's? */
static bool
has_kept_place(const Identity *who, const InstanceSlot *instance, int kept)
{
	return !who->knock && kept > (who->waits ? 0 : instance->waiting);
}

/*---- may it come in? ----*/

static bool
same_rule(const PoolSlot *a, const PoolSlot *b)
{
	return a->rule == b->rule && a->rules_version == b->rules_version;
}

static int
rule_kept(const PoolSlot *pool, int64 now)
{
	int kept = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->instance_hashes[i] != 0 &&
			same_rule(&registry->pools[registry->instances[i].pool], pool))
			kept += kept_places(&registry->instances[i], now);
	return kept;
}

/* Held, or kept for somebody; the latter is not looked for if the former are as many as `most`. */
static int
rule_taken(const PoolSlot *pool, int most, int64 now)
{
	int taken = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pool_hashes[i] != 0 && same_rule(&registry->pools[i], pool))
			taken += registry->pools[i].held;
	return taken < most && now < registry->kept_until ? taken + rule_kept(pool, now) : taken;
}

/* A place is left that others are waiting for, or may be. */
void
enforce_place_left(const PoolSlot *pool, InstanceSlot *instance, int64 now)
{
	if (pgpm_grace <= 0 || pool_mode(pool) < MODE_ENFORCE || instance->bye)
		return;
	if (instance->waiting == 0 &&
		(pool->ceiling < 0 || rule_taken(pool, pool->ceiling - 1, now) + 1 < pool->ceiling))
		return;
	forget_kept(instance, now);
	instance->kept[0]++;
	registry->kept_until = now + 2 * keeping_time();
}

/*
 * Sessions that the instance may hold by what it has been told; in mode advise, by what it
 * would have been.
 */
static int
instance_limit(const InstanceSlot *instance, PgpmMode mode, int64 now)
{
	int limit;

	if (!instance->follows)
		return NO_LIMIT;
	if (mode == MODE_ADVISE)
		return instance->would_limit == NO_LIMIT ? NO_LIMIT : Max(1, instance->would_limit);
	if (grant_told(instance).epoch == 0)
		return 1;
	if (grant_told(instance).limit == NO_LIMIT)
		return NO_LIMIT; /* the mode has just been turned up */
	limit = grant_believed(instance);
	if (instance->held == 0 && (now > instance->lease_until || instance->deaf))
		limit = Max(1, limit);
	return limit;
}

/* Kept places are held, to all but those whom they are kept for. */
static RefusalReason
judge(const Identity *who, const PoolSlot *pool, InstanceSlot *instance, PgpmMode mode, int64 now,
	  Refusal *refusal)
{
	int kept = kept_places(instance, now);
	int own = has_kept_place(who, instance, kept);

	if (who->knock)
	{
		refusal->limit = KNOCKS_MAX;
		refusal->held = instance->knocks;
		return instance->knocks < KNOCKS_MAX ? REFUSED_NOT : REFUSED_KNOCK;
	}
	refusal->limit = instance_limit(instance, mode, now);
	refusal->held = instance->held + kept - own;
	if (refusal->limit != NO_LIMIT && refusal->held >= refusal->limit)
		return REFUSED_BY_INSTANCE;
	if (pool->ceiling < 0)
		return REFUSED_NOT;
	refusal->limit = pool->ceiling;
	refusal->held = rule_taken(pool, refusal->limit + own, now) - own;
	return refusal->held < refusal->limit ? REFUSED_NOT : REFUSED_BY_RULE;
}

/* It has come, for whom the place was kept. */
static void
take_kept_place(const Identity *who, InstanceSlot *instance, int64 now)
{
	int *kept = instance->kept[1] > 0 ? &instance->kept[1] : &instance->kept[0];

	if (has_kept_place(who, instance, kept_places(instance, now)))
		(*kept)--;
}

bool
enforce_admits(const Identity *who, PoolSlot *pool, InstanceSlot *instance, int64 now,
			   Refusal *refusal)
{
	PgpmMode mode = pool_mode(pool);

	refusal->reason = REFUSED_NOT;
	if (mode < MODE_ADVISE || who->admission == ADMIT_PRESENT)
		return true;
	refusal->reason = judge(who, pool, instance, mode, now, refusal);
	if (refusal->reason == REFUSED_NOT)
	{
		take_kept_place(who, instance, now);
		return true;
	}
	if (mode == MODE_ENFORCE && who->admission == ADMIT_WITHIN_LIMITS)
	{
		refusal->instance = (int) (instance - registry->instances);
		refusal->generation = instance->generation;
		refusal->pool = (int) (pool - registry->pools);
		refusal->pool_hash = registry->pool_hashes[refusal->pool];
		refusal->pool_held = pool->held;
		strlcpy(refusal->rule_text, pool->rule_text, RULE_TEXT_LEN);
		return false;
	}
	if (mode == MODE_ENFORCE)
		pg_atomic_fetch_add_u64(&registry->exempt, 1);
	else if (who->admission == ADMIT_WITHIN_LIMITS)
		pool->would_refuse++;
	refusal->reason = REFUSED_NOT;
	return true;
}

/*---- grace ----*/

/* A place to wait for one that may have closed a session: not all that are left. */
static bool
may_wait(const InstanceSlot *instance)
{
	return instance->waiting <
		   Min(instance->held + instance->knocks, pgpm_grace_waiters - registry->grace_waiting);
}

static bool
stranger_may_wait(void)
{
	return registry->grace_waiting < pgpm_grace_waiters &&
		   registry->grace_strangers < Max(1, pgpm_grace_waiters / 4);
}

/* It is gone if it held nothing; then, or if it holds nothing, nobody of it has closed anything. */
static bool
start_waiting(const Refusal *refusal)
{
	InstanceSlot *instance = &registry->instances[refusal->instance];

	waiting_of = refusal->instance;
	waiting_generation = refusal->generation;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	is_stranger = !instance->used || instance->generation != refusal->generation ||
				  instance->held + instance->knocks == 0;
	waiting = is_stranger ? stranger_may_wait() : may_wait(instance);
	registry->grace_waiting += waiting;
	registry->grace_strangers += waiting && is_stranger;
	instance->waiting += waiting && !is_stranger;
	LWLockRelease(registry->lock);
	return waiting;
}

void
enforce_stop_waiting(void)
{
	InstanceSlot *instance = &registry->instances[waiting_of];

	if (!waiting)
		return;
	waiting = false;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->grace_waiting--;
	registry->grace_strangers -= is_stranger;
	if (!is_stranger && instance->used && instance->generation == waiting_generation)
		instance->waiting--;
	LWLockRelease(registry->lock);
}

/* Reading without the lock misses nobody for longer than GRACE_STEP. */
void
enforce_session_ended(void)
{
	if (registry->grace_waiting > 0)
		ConditionVariableBroadcast(&registry->session_ended);
}

/* Those that come unannounced, others' first sessions and knocks, need some, too. */
static bool
slots_remain(void)
{
	return compat_slots_remain(Max(1, pgpm_headroom_connections() / 2));
}

/* Try again until it is admitted, or time or slots are up. */
static int
attach_with_grace(Identity *who, int session, Refusal *refusal)
{
	int64 deadline = pgpm_now() + INT64CONST(1000) * pgpm_grace;
	int64 left = deadline - pgpm_now();
	int instance = -1;
	uint32 wait_event;

	if (left <= 0 || !slots_remain() || !start_waiting(refusal))
		return -1;
	who->waits = !is_stranger;
	pg_atomic_fetch_add_u64(&registry->grace_waits, 1);
	wait_event = compat_wait_event("PgpoolMonitorGrace");
	ConditionVariablePrepareToSleep(&registry->session_ended);
	for (;;)
	{
		/* after the preparation, so that no end is missed */
		instance = registry_attach(who, session, refusal);
		left = deadline - pgpm_now();
		if (instance >= 0 || refusal->reason == REFUSED_NOT || left <= 0 || !slots_remain())
			break;
		(void) ConditionVariableTimedSleep(&registry->session_ended,
										   Min(GRACE_STEP, (long) (left / 1000) + 1), wait_event);
	}
	ConditionVariableCancelSleep();
	enforce_stop_waiting();
	if (instance >= 0)
		pg_atomic_fetch_add_u64(&registry->grace_admits, 1);
	return instance;
}

/*---- refusing ----*/

static void
count_refusal(const Refusal *refusal)
{
	pg_atomic_fetch_add_u64(&registry->refused, 1);
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	/* it may have gone with its last session */
	if (registry->pool_hashes[refusal->pool] == refusal->pool_hash)
		registry->pools[refusal->pool].refused++;
	LWLockRelease(registry->lock);
}

/* To the client only what is its own; the log has the rest. */
static void
refuse(const Identity *who, const Refusal *refusal)
{
	const char *pool = view_printable(who->pool);
	const char *where = psprintf("Role \"%s\", database \"%s\", host \"%s\", instance \"%s\"",
								 view_printable(who->role_name), view_printable(who->database_name),
								 view_printable(who->host), view_printable(who->id));

	if (refusal->reason == REFUSED_BY_RULE)
		ereport(FATAL, (errcode(ERRCODE_TOO_MANY_CONNECTIONS),
						errmsg("too many connections for pool \"%s\"", pool),
						errdetail("The pool holds %d connections, and its budget is used up.",
								  refusal->pool_held),
						errdetail_log(
							"%s. The pool holds %d connections; all pools of rule \"%s\" hold %d, "
							"and may hold %d.",
							where, refusal->pool_held, view_printable(refusal->rule_text),
							refusal->held, refusal->limit)));
	ereport(FATAL,
			(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			 errmsg("too many connections for pool \"%s\"", pool),
			 refusal->reason == REFUSED_KNOCK
				 ? errdetail("This instance has %d sessions open to report already.", refusal->held)
				 : errdetail("This instance of it holds %d connections, and may hold %d.",
							 refusal->held, refusal->limit),
			 errdetail_log("%s. The instance holds %d connections, and may hold %d; the pool holds "
						   "%d.",
						   where, refusal->held, refusal->limit, refusal->pool_held)));
}

int
enforce_attach(Identity *who, int session)
{
	Refusal refusal;
	int instance = registry_attach(who, session, &refusal);

	if (instance >= 0 || refusal.reason == REFUSED_NOT)
		return instance;
	/* it may be kept as one that waits */
	registry_wake_worker();
	instance = attach_with_grace(who, session, &refusal);
	if (instance >= 0 || refusal.reason == REFUSED_NOT)
		return instance;
	count_refusal(&refusal);
	refuse(who, &refusal);
	return -1; /* not reached */
}
