/*-------------------------------------------------------------------------
 *
 * view_counters.c
 *	  What pools have counted: the view counters, and its reset.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "past.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define COUNTERS_COLS 26
#define COPY_AT_ONCE 32 /* pools */

PG_FUNCTION_INFO_V1(pgpool_monitor_counters);
PG_FUNCTION_INFO_V1(pgpool_monitor_reset);
PG_FUNCTION_INFO_V1(pgpool_monitor_reset_pool);

/* A pool, copied, whether it has instances or is only remembered. */
typedef struct Counted
{
	int slot;
	uint64 hash;
	PoolSlot pool;
	PoolRecord record;
} Counted;

static int
copy_counted(Counted *counted)
{
	int n = 0;

	for (int from = 0; from < pgpm_max_pools; from += COPY_AT_ONCE)
	{
		int to = Min(from + COPY_AT_ONCE, pgpm_max_pools);

		LWLockAcquire(registry->lock, LW_SHARED);
		for (int i = from; i < to; i++)
		{
			if (registry->pool_hashes[i] == 0)
				continue;
			counted[n].slot = i;
			counted[n].hash = registry->pool_hashes[i];
			counted[n].pool = registry->pools[i];
			counted[n++].record = registry->records[i];
		}
		LWLockRelease(registry->lock);
	}
	return n;
}

static Counted *
copy_all(int *n)
{
	Counted *counted;

	view_require_registry();
	counted = palloc_extended(mul_size(pgpm_max_pools, sizeof(Counted)), MCXT_ALLOC_HUGE);
	*n = copy_counted(counted);
	return counted;
}

/*---- the view ----*/

static void
put_json(Row *row, const char *json)
{
	put(row, DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

static void
put_quantiles(Row *row, const int64 *buckets)
{
	put_ms(row, report_quantile_ms(buckets, 0.50));
	put_ms(row, report_quantile_ms(buckets, 0.95));
	put_ms(row, report_quantile_ms(buckets, 0.99));
}

static void
put_histogram(Row *row, const int64 *buckets)
{
	Datum datums[REPORT_BUCKETS];

	for (int i = 0; i < REPORT_BUCKETS; i++)
		datums[i] = Int64GetDatum(buckets[i]);
	put(row, PointerGetDatum(construct_array(datums, REPORT_BUCKETS, INT8OID, sizeof(int64),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
}

static void
put_totals(Row *row, const PoolTotals *totals)
{
	char json[TOTALS_JSON];

	put(row, Int64GetDatum(totals->acquires));
	put(row, Int64GetDatum(totals->timeouts));
	put(row, Int64GetDatum(totals_failures(totals)));
	totals_errors_json(totals, json);
	put_json(row, json);
	put(row, Int64GetDatum(totals->opened));
	put(row, Int64GetDatum(totals->closed));
	totals_reasons_json(totals, json);
	put_json(row, json);
	put(row, Int64GetDatum(totals->open_failures));
	put(row, Int64GetDatum(totals->found_dead));
	put(row, Int64GetDatum(totals->discarded));
	put(row, Int64GetDatum(totals->resets));
	put(row, Int64GetDatum(totals->abandoned));
	put(row, Int64GetDatum(totals->finished));
	put_quantiles(row, totals->wait);
	put_quantiles(row, totals->hold);
	put_histogram(row, totals->wait);
	put_histogram(row, totals->hold);
}

static void
emit_counted(FunctionCallInfo fcinfo, const Counted *counted)
{
	Row row = { 0 };

	put_name(&row, counted->pool.name);
	put_name(&row, counted->pool.role_name);
	put_name(&row, counted->pool.database_name);
	put_int(&row, counted->pool.ninstances);
	if (counted->record.known)
		put_totals(&row, &counted->record.totals);
	else
		while (row.n < COUNTERS_COLS - 1)
			put_null(&row);
	put(&row, TimestampTzGetDatum(counted->record.since));
	emit(fcinfo, &row, COUNTERS_COLS);
}

Datum
pgpool_monitor_counters(PG_FUNCTION_ARGS)
{
	int n;
	Counted *counted = copy_all(&n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		if (view_may_see(&counted[i].pool))
			emit_counted(fcinfo, &counted[i]);
	return (Datum) 0;
}

/*---- reset ----*/

/* As the views show it.  NULL: any. */
static bool
is_named(const char *name, const char *wanted)
{
	return wanted == NULL || strcmp(view_printable(name), wanted) == 0;
}

/* How many there were. */
static int
reset_pools(const char *pool, const char *role, const char *database)
{
	int n;
	int done = 0;
	Counted *counted = copy_all(&n);
	bool *chosen = palloc_array(bool, n);

	for (int i = 0; i < n; i++)
		chosen[i] = is_named(counted[i].pool.name, pool) &&
					is_named(counted[i].pool.role_name, role) &&
					is_named(counted[i].pool.database_name, database);

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		if (!chosen[i] || registry->pool_hashes[counted[i].slot] != counted[i].hash)
			continue;
		past_reset(counted[i].slot);
		done++;
	}
	LWLockRelease(registry->lock);
	return done;
}

Datum
pgpool_monitor_reset(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(reset_pools(NULL, NULL, NULL));
}

static char *
text_or_null(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

Datum
pgpool_monitor_reset_pool(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(
		reset_pools(text_or_null(fcinfo, 0), text_or_null(fcinfo, 1), text_or_null(fcinfo, 2)));
}
