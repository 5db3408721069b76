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

#define KNOCKS_MAX 2   /* of an instance at once: the last one's backend may not have gone yet */
#define GRACE_STEP 20L /* ms: limits change, and slots run out, with nobody saying so */

static bool waiting = false; /* this session is one of Registry.grace_waiting */

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

/*---- may it come in? ----*/

static int
rule_held(const PoolSlot *pool)
{
	int held = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pool_hashes[i] != 0 && registry->pools[i].rule == pool->rule &&
			registry->pools[i].rules_version == pool->rules_version)
			held += registry->pools[i].held;
	return held;
}

/* Sessions that the instance may hold by what it has been told; in mode advise, by what it would have been. */
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
	if (instance->held == 0 && now > instance->lease_until)
		limit = Max(1, limit);
	return limit;
}

static RefusalReason
judge(const Identity *who, const PoolSlot *pool, const InstanceSlot *instance, PgpmMode mode,
	  int64 now, Refusal *refusal)
{
	if (who->knock)
	{
		refusal->limit = KNOCKS_MAX;
		refusal->held = instance->knocks;
		return instance->knocks < KNOCKS_MAX ? REFUSED_NOT : REFUSED_KNOCK;
	}
	refusal->limit = instance_limit(instance, mode, now);
	refusal->held = instance->held;
	if (refusal->limit != NO_LIMIT && refusal->held >= refusal->limit)
		return REFUSED_BY_INSTANCE;
	if (pool->ceiling < 0)
		return REFUSED_NOT;
	refusal->limit = pool->ceiling;
	refusal->held = rule_held(pool);
	return refusal->held < refusal->limit ? REFUSED_NOT : REFUSED_BY_RULE;
}

bool
enforce_admits(const Identity *who, PoolSlot *pool, const InstanceSlot *instance, int64 now,
			   Refusal *refusal)
{
	PgpmMode mode = pool_mode(pool);

	refusal->reason = REFUSED_NOT;
	if (mode < MODE_ADVISE || who->admission == ADMIT_PRESENT)
		return true;
	refusal->reason = judge(who, pool, instance, mode, now, refusal);
	if (refusal->reason == REFUSED_NOT)
		return true;
	if (mode == MODE_ENFORCE && who->admission == ADMIT_WITHIN_LIMITS)
	{
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

static bool
start_waiting(void)
{
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	waiting = registry->grace_waiting < pgpm_grace_waiters;
	registry->grace_waiting += waiting;
	LWLockRelease(registry->lock);
	return waiting;
}

void
enforce_stop_waiting(void)
{
	if (!waiting)
		return;
	waiting = false;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->grace_waiting--;
	LWLockRelease(registry->lock);
}

/* Reading without the lock misses nobody for longer than GRACE_STEP. */
void
enforce_session_ended(void)
{
	if (registry->grace_waiting > 0)
		ConditionVariableBroadcast(&registry->session_ended);
}

/* Try again until it is admitted, or time or slots are up. */
static int
attach_with_grace(const Identity *who, int session, Refusal *refusal)
{
	int64 deadline = pgpm_now() + INT64CONST(1000) * pgpm_grace;
	int64 left = deadline - pgpm_now();
	int instance = -1;
	uint32 wait_event;

	if (left <= 0 || !compat_slots_remain() || !start_waiting())
		return -1;
	pg_atomic_fetch_add_u64(&registry->grace_waits, 1);
	wait_event = compat_wait_event("PgpoolMonitorGrace");
	ConditionVariablePrepareToSleep(&registry->session_ended);
	for (;;)
	{
		/* after the preparation, so that no end is missed */
		instance = registry_attach(who, session, refusal);
		left = deadline - pgpm_now();
		if (instance >= 0 || refusal->reason == REFUSED_NOT || left <= 0 || !compat_slots_remain())
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

/* What a client says may be in any encoding: shown as views show it. */
static const char *
shown(const char *name)
{
	StringInfoData text;

	initStringInfo(&text);
	for (const char *p = name; *p; p++)
	{
		if (*p >= ' ' && *p <= '~' && *p != '\\')
			appendStringInfoChar(&text, *p);
		else
			appendStringInfo(&text, "\\x%02x", (unsigned char) *p);
	}
	return text.data;
}

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
	const char *pool = shown(who->pool);
	const char *where = psprintf("Role \"%s\", database \"%s\", host \"%s\", instance \"%s\"",
								 shown(who->role_name), shown(who->database_name), shown(who->host),
								 shown(who->id));

	if (refusal->reason == REFUSED_BY_RULE)
		ereport(FATAL, (errcode(ERRCODE_TOO_MANY_CONNECTIONS),
						errmsg("too many connections for pool \"%s\"", pool),
						errdetail("The pool holds %d connections, and its budget is used up.",
								  refusal->pool_held),
						errdetail_log(
							"%s. The pool holds %d connections; all pools of rule \"%s\" hold %d, "
							"and may hold %d.",
							where, refusal->pool_held, shown(refusal->rule_text), refusal->held,
							refusal->limit)));
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
enforce_attach(const Identity *who, int session)
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
