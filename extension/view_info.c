/*-------------------------------------------------------------------------
 *
 * view_info.c
 *	  The extension itself: the view info.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define INFO_COLS 36

PG_FUNCTION_INFO_V1(pgpool_monitor_info);

static void
put_round(Row *row, const RoundFigures *round)
{
	bool known = view_is_current(round);

	put_int(row, MaxConnections);
	put_int(row, compat_reserved_connections());
	put_int(row, pgpm_headroom_connections());
	put_int_or_null(row, known, round->outside_smoothed);
	put_int_or_null(row, known, round->capacity);
	put_int_or_null(row, known, round->held);
	put_int_or_null(row, known, round->occupied);
	put_int_or_null(row, round->rounds > 0, round->held_peak);
	put_int_or_null(row, round->rounds > 0, round->excess_peak);
	put(row, Int64GetDatum(round->published));
}

static void
put_enforcement(Row *row)
{
	put(row, Int64GetDatum(pg_atomic_read_u64(&registry->refused)));
	put(row, Int64GetDatum(pg_atomic_read_u64(&registry->exempt)));
	put(row, Int64GetDatum(pg_atomic_read_u64(&registry->grace_waits)));
	put(row, Int64GetDatum(pg_atomic_read_u64(&registry->grace_admits)));
}

Datum
pgpool_monitor_info(PG_FUNCTION_ARGS)
{
	TupleDesc descriptor;
	Row row = { 0 };
	RoundFigures round;
	int worker_pid;
	int npools;
	int ninstances;
	int nrules;
	char rules_error[sizeof(registry->rules_error)];
	char rules_file_error[sizeof(registry->rules_file_error)];

	view_require_registry();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	view_require_columns(descriptor, INFO_COLS);

	LWLockAcquire(registry->lock, LW_SHARED);
	round = registry->round;
	worker_pid = registry->worker_pid;
	npools = registry->npools;
	ninstances = registry->ninstances;
	nrules = registry->rules.nrules;
	strlcpy(rules_error, registry->rules_error, sizeof(rules_error));
	strlcpy(rules_file_error, registry->rules_file_error, sizeof(rules_file_error));
	LWLockRelease(registry->lock);

	put_text(&row, PGPM_VERSION);
	put_text(&row, pgpm_mode_name(pg_atomic_read_u32(&registry->mode)));
	put(&row, TimestampTzGetDatum(registry->incarnation));
	put_int_or_null(&row, worker_pid != 0, worker_pid);
	put(&row, Int64GetDatum(round.rounds));
	if (round.rounds > 0)
		put(&row, TimestampTzGetDatum(round.at));
	else
		put_null(&row);
	put_round(&row, &round);
	put_ms(&row, pg_atomic_read_u32(&registry->interval));
	put_ms(&row, pg_atomic_read_u32(&registry->lease));
	put_int(&row, npools);
	put_int(&row, pgpm_max_pools);
	put_int(&row, ninstances);
	put_int(&row, pgpm_max_instances);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->attach_refused)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->unplaced)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_applied)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_ignored)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&registry->reports_rejected)));
	put_name_or_null(&row, pgpm_rules);
	put_name_or_null(&row, rules_error);
	put_name_or_null(&row, pgpm_rules_file);
	put_name_or_null(&row, rules_file_error);
	put_int(&row, nrules);
	put_enforcement(&row);
	Assert(row.n == INFO_COLS);

	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), row.values, row.nulls));
}
