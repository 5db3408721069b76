/*-------------------------------------------------------------------------
 *
 * view_history.c
 *	  What was, and what follows from it: the views history and advice.
 *
 * Columns are in the order of pgpool_monitor--1.0.sql, which says what each means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "advice.h"
#include "history.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define HISTORY_COLS 27
#define ADVICE_COLS 19
#define ADVICE_PERIOD INT64CONST(3600000000) /* microseconds */

PG_FUNCTION_INFO_V1(pgpool_monitor_history);
PG_FUNCTION_INFO_V1(pgpool_monitor_advice);

/*
 * For each pool of the ring, whether the current user may see it: asked once, not for each
 * sample.
 */
typedef enum Visible
{
	VISIBLE_UNKNOWN,
	VISIBLE_YES,
	VISIBLE_NO
} Visible;

static bool
may_see(Visible *visible, const HistoryPool *pool)
{
	if (*visible == VISIBLE_UNKNOWN)
		*visible = view_may_see_role(pool->role) ? VISIBLE_YES : VISIBLE_NO;
	return *visible == VISIBLE_YES;
}

/* Sums, rates and moments; for times there is put_ms. */
static void
put_float_or_null(Row *row, bool known, double value)
{
	if (known && !isnan(value) && !isinf(value))
		put(row, Float8GetDatum(rint(value * 10000.0) / 10000.0));
	else
		put_null(row);
}

static void
put_pool(Row *row, const HistoryPool *pool)
{
	put_name(row, pool->name);
	put_name(row, pool->role_name);
	put_name(row, pool->database_name);
}

/*---- history ----*/

static void
put_gauges(Row *row, const HistorySample *sample)
{
	bool reported = sample->in_use >= 0;

	put_int(row, sample->instances);
	put_int(row, sample->sessions);
	put_int(row, sample->busy);
	put_int_or_null(row, reported, sample->in_use);
	put_int_or_null(row, reported, sample->idle);
	put_int_or_null(row, reported, sample->waiting);
	put_int_or_null(row, reported, sample->demand);
	put_int_or_null(row, reported, sample->leaks);
	put_int_or_null(row, sample->allotted >= 0, sample->allotted);
	put_int_or_null(row, sample->max_size >= 0, sample->max_size);
}

static void
put_counters(Row *row, const HistorySample *sample, int64 duration)
{
	bool counted = sample->acquires >= 0;
	bool held = counted && sample->hold_mean_ms >= 0;

	put_ms(row, duration > 0 ? duration / 1000.0 : -1);
	put_bigint_or_null(row, counted, sample->acquires + sample->timeouts);
	put_bigint_or_null(row, counted, sample->acquires);
	put_bigint_or_null(row, counted, sample->timeouts);
	put_bigint_or_null(row, counted, sample->open_failures);
	put_bigint_or_null(row, counted, sample->holds);
	put_ms(row, counted ? sample->wait_mean_ms : -1);
	put_ms(row, counted ? sample->wait_p50_ms : -1);
	put_ms(row, counted ? sample->wait_p99_ms : -1);
	put_ms(row, counted ? sample->hold_mean_ms : -1);
	put_ms(row, held ? sample->hold_mean_ms * sample->holds : counted ? 0 : -1);
	put_float_or_null(row, held, sample->hold_variation);
}

Datum
pgpool_monitor_history(PG_FUNCTION_ARGS)
{
	HistoryRing *ring;
	HistoryCursor cursor;
	HistorySample sample;
	Visible *visible;
	int pool;

	view_require_registry();
	InitMaterializedSRF(fcinfo, 0);
	ring = history_copy();
	if (ring == NULL)
		return (Datum) 0;
	visible = (Visible *) palloc0(mul_size(history_ring_names(ring), sizeof(Visible)));
	history_ring_start(ring, &cursor);
	while ((pool = history_ring_next(ring, &cursor, &sample)) >= 0)
	{
		Row row = { 0 };

		CHECK_FOR_INTERRUPTS();
		if (!may_see(&visible[pool], history_ring_pool(ring, pool)))
			continue;
		put(&row, TimestampTzGetDatum(cursor.round.at));
		put_pool(&row, history_ring_pool(ring, pool));
		put_gauges(&row, &sample);
		put_counters(&row, &sample, cursor.round.duration);
		put_int(&row, cursor.round.omitted);
		emit(fcinfo, &row, HISTORY_COLS);
	}
	return (Datum) 0;
}

/*---- advice ----*/

static void
emit_advice(FunctionCallInfo fcinfo, const HistoryPool *pool, const AdviceSums *sums)
{
	Row row = { 0 };
	char reason[512];
	Advice advice = advice_judge(sums, pgpm_advice_wait, reason, sizeof(reason));
	const char *verdict = advice_name(advice.verdict);

	put_name(&row, pool->name);
	put_text_or_null(&row, verdict != NULL ? verdict : "");
	put_text(&row, reason);
	put_int(&row, advice.size);
	put_int_or_null(&row, advice.recommended >= 0, advice.recommended);
	put_float_or_null(&row, advice.arrival_rate >= 0, advice.arrival_rate);
	put_ms(&row, advice.hold_mean_ms);
	put_float_or_null(&row, advice.utilization >= 0, advice.utilization);
	put_ms(&row, advice.wait_ms);
	put_ms(&row, advice.predicted_ms);
	put_ms(&row, advice.recommended_ms);
	put_ms(&row, advice.wait_p99_ms);
	put_ms(&row, advice.recommended_p99_ms);
	put_text_or_null(&row, verdict != NULL ? advice_confidence_name(advice.confidence) : "");
	put_int(&row, sums->counted);
	if (sums->counted > 0)
		put(&row, TimestampTzGetDatum(sums->since));
	else
		put_null(&row);
	put_name(&row, pool->role_name);
	put_name(&row, pool->database_name);
	put_int(&row, advice.verdict);
	emit(fcinfo, &row, ADVICE_COLS);
}

/* The last hour of each pool, or what there is of it. */
Datum
pgpool_monitor_advice(PG_FUNCTION_ARGS)
{
	TimestampTz from = GetCurrentTimestamp() - ADVICE_PERIOD;
	HistoryRing *ring;
	HistoryCursor cursor;
	HistorySample sample;
	AdviceSums *sums;
	bool *seen;
	int pool;

	view_require_registry();
	InitMaterializedSRF(fcinfo, 0);
	ring = history_copy();
	if (ring == NULL)
		return (Datum) 0;
	sums = palloc_extended(history_ring_names(ring) * sizeof(AdviceSums),
						   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	seen = palloc0_array(bool, history_ring_names(ring));
	history_ring_start(ring, &cursor);
	while ((pool = history_ring_next(ring, &cursor, &sample)) >= 0)
	{
		if (cursor.round.at < from)
			continue;
		seen[pool] = true;
		advice_add(&sums[pool], &sample, cursor.round.at, cursor.round.duration);
	}
	for (int i = 0; i < history_ring_names(ring); i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (seen[i] && view_may_see_role(history_ring_pool(ring, i)->role))
			emit_advice(fcinfo, history_ring_pool(ring, i), &sums[i]);
	}
	return (Datum) 0;
}
