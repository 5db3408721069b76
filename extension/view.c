/*-------------------------------------------------------------------------
 *
 * view.c
 *	  What the views have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_authid.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "grant.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

void
view_require_registry(void)
{
	if (registry == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pgpool_monitor must be loaded via \"shared_preload_libraries\""),
			 errhint("Add pgpool_monitor to shared_preload_libraries and restart the server.")));
}

/*---- copying ----*/

int
view_pool_of(const Copy *copy, int instance)
{
	int pool;

	/* a free slot is not even looked at: there may be many, each far from the next */
	if (registry->instance_hashes[instance] == 0)
		return -1;
	pool = registry->instances[instance].pool;
	if (copy->pool_hashes[pool] == 0 || copy->pool_hashes[pool] != registry->pool_hashes[pool])
		return -1;
	return pool;
}

static void
copy_instances(Copy *copy)
{
	copy->ninstances = 0;
	for (int from = 0; from < pgpm_max_instances; from += VIEW_AT_ONCE)
	{
		int to = Min(from + VIEW_AT_ONCE, pgpm_max_instances);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			copy->member_of[i] = -1;
			if (view_pool_of(copy, i) < 0)
				continue;
			copy->member_of[i] = copy->ninstances;
			copy->instances[copy->ninstances++] = registry->instances[i];
		}
		LWLockRelease(registry->lock);
	}
}

static Copy *
allocate_copy(void)
{
	Copy *copy;

	view_require_registry();
	copy = palloc0_object(Copy);
	copy->pools = palloc_array(PoolSlot, pgpm_max_pools);
	copy->pool_hashes = palloc_array(uint64, pgpm_max_pools);
	copy->health = palloc_array(PoolHealth, pgpm_max_pools);
	return copy;
}

/* Under the registry's lock. */
static void
fill_copy(Copy *copy)
{
	copy->now = pgpm_now();
	copy->round = registry->round;
	memcpy(copy->pool_hashes, registry->pool_hashes, pgpm_max_pools * sizeof(uint64));
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		/* memory for all is not even touched: there may be a few among hundreds */
		if (copy->pool_hashes[i] == 0)
			continue;
		copy->pools[i] = registry->pools[i];
		copy->health[i] = registry->health[i];
	}
}

Copy *
view_copy_pools(void)
{
	Copy *copy = allocate_copy();

	LWLockAcquire(registry->lock, LW_SHARED);
	fill_copy(copy);
	LWLockRelease(registry->lock);
	return copy;
}

Copy *
view_copy(void)
{
	Copy *copy = allocate_copy();

	copy->sessions = palloc_array(SessionSlot, MaxBackends);
	copy->instances =
		palloc_extended(mul_size(pgpm_max_instances, sizeof(InstanceSlot)), MCXT_ALLOC_HUGE);
	copy->member_of = palloc_array(int, pgpm_max_instances);

	LWLockAcquire(registry->lock, LW_SHARED);
	fill_copy(copy);
	memcpy(copy->sessions, registry->sessions, MaxBackends * sizeof(SessionSlot));
	LWLockRelease(registry->lock);

	copy_instances(copy);
	return copy;
}

const InstanceSlot *
view_instance_of(const Copy *copy, const SessionSlot *session)
{
	int i;

	if (session->kind == SESSION_FREE)
		return NULL;
	i = copy->member_of[session->instance];
	return i < 0 ? NULL : &copy->instances[i];
}

bool
view_is_busy(const SessionSlot *session)
{
	BackendState state = session->status->st_state;

	return state == STATE_RUNNING || state == STATE_FASTPATH || state == STATE_IDLEINTRANSACTION ||
		   state == STATE_IDLEINTRANSACTION_ABORTED;
}

bool
view_sees_everything(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

bool
view_may_see(const PoolSlot *pool)
{
	return view_may_see_role(pool->role);
}

bool
view_may_see_role(Oid role)
{
	return view_sees_everything() || has_privs_of_role(GetUserId(), role);
}

bool
view_is_current(const RoundFigures *round)
{
	return round->rounds > 0 && pg_atomic_read_u32(&registry->mode) != MODE_OFF;
}

/*---- figures of instances ----*/

void
view_add_int(int *sum, int value)
{
	*sum = (int) Min((int64) *sum + value, INT_MAX);
}

void
view_add_bigint(int64 *sum, int64 value)
{
	if (pg_add_s64_overflow(*sum, value, sum))
		*sum = PG_INT64_MAX;
}

void
view_add_recent_waits(int64 *sums, const InstanceSlot *instance)
{
	for (int i = 0; i < REPORT_BUCKETS; i++)
		view_add_bigint(&sums[i],
						Max(0, instance->report.counted.wait[i] - instance->wait_before[1][i]));
}

/*---- building rows ----*/

void
put(Row *row, Datum value)
{
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

void
put_null(Row *row)
{
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

void
put_int(Row *row, int value)
{
	put(row, Int32GetDatum(value));
}

void
put_int_or_null(Row *row, bool known, int value)
{
	if (known)
		put_int(row, value);
	else
		put_null(row);
}

void
put_bigint_or_null(Row *row, bool known, int64 value)
{
	if (known)
		put(row, Int64GetDatum(value));
	else
		put_null(row);
}

void
put_text(Row *row, const char *text)
{
	put(row, CStringGetTextDatum(text));
}

void
put_text_or_null(Row *row, const char *text)
{
	if (text[0] != '\0')
		put_text(row, text);
	else
		put_null(row);
}

void
put_ms(Row *row, double ms)
{
	if (ms < 0 || isnan(ms))
		put_null(row);
	else
		put(row, Float8GetDatum(rint(ms * 1000.0) / 1000.0)); /* no finer than it was measured */
}

char *
view_printable(const char *name)
{
	StringInfoData shown;

	initStringInfo(&shown);
	for (const char *p = name; *p; p++)
	{
		if (*p >= ' ' && *p <= '~' && *p != '\\')
			appendStringInfoChar(&shown, *p);
		else
			appendStringInfo(&shown, "\\x%02x", (unsigned char) *p);
	}
	return shown.data;
}

void
put_name(Row *row, const char *name)
{
	char *shown = view_printable(name);

	put_text(row, shown);
	pfree(shown);
}

void
put_name_or_null(Row *row, const char *name)
{
	if (name[0] != '\0')
		put_name(row, name);
	else
		put_null(row);
}

void
view_require_columns(const TupleDesc descriptor, int columns)
{
	if (descriptor->natts == columns)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("pgpool_monitor's library and its SQL objects are of different versions"),
		 errdetail("The function is declared with %d columns; version %s of the library, which is "
				   "loaded, has %d.",
				   descriptor->natts, PGPM_VERSION, columns),
		 errhint("Run ALTER EXTENSION pgpool_monitor UPDATE in this database; if it is newer than "
				 "the library that is loaded, restart the server.")));
}

void
emit(FunctionCallInfo fcinfo, Row *row, int columns)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	view_require_columns(result->setDesc, columns);
	Assert(row->n == columns);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
	row->n = 0;
}
