/*-------------------------------------------------------------------------
 *
 * view_instances.c
 *	  Who is in a pool: the views instances and sessions.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "grant.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define INSTANCES_COLS 43
#define SESSIONS_COLS 14

PG_FUNCTION_INFO_V1(pgpool_monitor_instances);
PG_FUNCTION_INFO_V1(pgpool_monitor_sessions);

/*---- instances ----*/

static void
put_reported(Row *row, const InstanceSlot *instance)
{
	const Report *report = &instance->report;
	bool known = instance->reported;
	int64 waits[REPORT_BUCKETS] = { 0 };

	put_int_or_null(row, known && report->has_max, report->max_size);
	put_int_or_null(row, known, report->min_size);
	put_int_or_null(row, known, report->opening);
	put_int_or_null(row, known, report->idle);
	put_int_or_null(row, known, report->in_use);
	put_int_or_null(row, known, report->resetting);
	put_int_or_null(row, known, report->closing);
	put_int_or_null(row, known, report->waiting);
	put_int_or_null(row, known, instance_demand(instance));
	put_bigint_or_null(row, known, report->counted.acquires);
	put_bigint_or_null(row, known, report->counted.timeouts);
	put_bigint_or_null(row, known, report->counted.opened);
	put_bigint_or_null(row, known, report->counted.closed);
	put_bigint_or_null(row, known, report->counted.open_failures);
	put_bigint_or_null(row, known, report->counted.found_dead);
	put_bigint_or_null(row, known, report->counted.discarded);
	put_bigint_or_null(row, known, report->counted.resets);
	put_bigint_or_null(row, known, report->counted.abandoned);
	put_bigint_or_null(row, known, report->counted.finished);
	put_int_or_null(row, known, report->leaks);
	view_add_recent_waits(waits, instance);
	put_ms(row, report_quantile_ms(waits, 0.50));
	put_ms(row, report_quantile_ms(waits, 0.99));
	put_ms(row, report_quantile_ms(report->counted.hold, 0.50));
	put_ms(row, report_quantile_ms(report->counted.hold, 0.99));
}

static void
emit_instance(FunctionCallInfo fcinfo, const Copy *copy, const InstanceSlot *instance)
{
	const PoolSlot *pool = &copy->pools[instance->pool];
	Publication told = view_published(instance);
	Row row = { 0 };

	put_name(&row, pool->name);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_text_or_null(&row, instance->has_id ? instance->id : "");
	put_name_or_null(&row, instance->host);
	put_name_or_null(&row, instance->application);
	put(&row, BoolGetDatum(instance->follows));
	put(&row, BoolGetDatum(instance->reports));
	put_text(&row, publication_state_name(&told));
	put_int(&row, instance->held);
	put_int(&row, instance->knocks);
	put_int_or_null(&row, told.limit != NO_LIMIT, told.limit);
	put_int_or_null(&row, grant_applies(instance, pool), grant_occupancy(instance));
	if (instance->reports)
		put(&row, BoolGetDatum(instance->acked && !instance->deaf));
	else
		put_null(&row);
	if (instance->reports && instance->follows)
		put(&row, BoolGetDatum(instance->deaf));
	else
		put_null(&row);
	put_ms(&row, pool_is_guess(pool) ? -1 : Max(0, instance->lease_until - copy->now) / 1000.0);
	put_ms(&row, instance->reported ? Max(0, copy->now - instance->report_time) / 1000.0 : -1);
	put_reported(&row, instance);
	put(&row, TimestampTzGetDatum(instance->joined_at));
	put_text(&row, identify_name(pool->identified_by));
	emit(fcinfo, &row, INSTANCES_COLS);
}

Datum
pgpool_monitor_instances(PG_FUNCTION_ARGS)
{
	Copy *copy = view_copy();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < copy->ninstances; i++)
		if (view_may_see(&copy->pools[copy->instances[i].pool]))
			emit_instance(fcinfo, copy, &copy->instances[i]);
	return (Datum) 0;
}

/*---- sessions ----*/

/*
 * Not lent, as of the last report: that was made after the session had begun, listed
 * all loans, and had nobody in a state between.
 */
static bool
is_known_idle(const SessionSlot *session, const InstanceSlot *instance)
{
	const Report *report = &instance->report;

	return instance->reported && session->kind == SESSION_POOL && report->idle > 0 &&
		   report->in_use <= report->nloans && report->opening == 0 && report->resetting == 0 &&
		   report->closing == 0 && session->attached < instance->report_time;
}

static void
emit_session(FunctionCallInfo fcinfo, const Copy *copy, const SessionSlot *session,
			 const InstanceSlot *instance)
{
	const PoolSlot *pool = &copy->pools[instance->pool];
	const ReportLoan *loan = report_loan(&instance->report, session->pid);
	Row row = { 0 };

	put_int(&row, session->pid);
	put_name(&row, pool->name);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_text_or_null(&row, instance->has_id ? instance->id : "");
	put_text(&row, session->kind == SESSION_KNOCK ? "knock" : "pool");
	put_name_or_null(&row, instance->host);
	put(&row, TimestampTzGetDatum(session->attached_at));
	if (loan != NULL)
	{
		put_text(&row, "lent");
		put_ms(&row, loan->age_ms + Max(0, copy->now - instance->report_time) / 1000.0);
		put_name_or_null(&row, loan->thread);
		put_name_or_null(&row, loan->site);
	}
	else
	{
		put_text_or_null(&row, is_known_idle(session, instance) ? "idle" : "");
		for (int i = 0; i < 3; i++)
			put_null(&row);
	}
	put_text(&row, identify_name(pool->identified_by));
	if (session->idle_since != 0)
		put(&row, TimestampTzGetDatum(session->idle_since));
	else
		put_null(&row);
	emit(fcinfo, &row, SESSIONS_COLS);
}

Datum
pgpool_monitor_sessions(PG_FUNCTION_ARGS)
{
	Copy *copy = view_copy();

	InitMaterializedSRF(fcinfo, 0);
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const SessionSlot *session = &copy->sessions[slot];
		const InstanceSlot *instance = view_instance_of(copy, session);

		if (instance != NULL && view_may_see(&copy->pools[instance->pool]))
			emit_session(fcinfo, copy, session, instance);
	}
	return (Datum) 0;
}
