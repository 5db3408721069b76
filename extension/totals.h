/*-------------------------------------------------------------------------
 *
 * totals.h
 *	  What a pool has counted: the sum of what its instances did, also those that have ended.
 *
 * Pure: knows neither PostgreSQL nor the registry.
 *
 * Each report adds what happened since the one before it.  So nothing needs to
 * be done when an instance ends, totals never go back, and to set them to zero
 * is all that a reset is.  Sums stay at the largest number that they can have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_TOTALS_H
#define PGPM_TOTALS_H

#include "report.h"

/* Nothing but int64_t, so that it can be walked as an array; in the order of the saved file. */
typedef struct PoolTotals
{
	int64_t acquires;
	int64_t timeouts;
	int64_t opened;
	int64_t closed;
	int64_t open_failures;
	int64_t found_dead;
	int64_t discarded;
	int64_t resets;
	int64_t abandoned;
	int64_t finished;
	int64_t errors[REPORT_ERRORS];
	int64_t closed_by[REPORT_REASONS];
	int64_t wait[REPORT_BUCKETS];
	int64_t hold[REPORT_BUCKETS];
} PoolTotals;

/* The counters of a report, and back; what else is in the report stays. */
extern void totals_of_report(PoolTotals *totals, const Report *report);
extern void totals_into_report(const PoolTotals *totals, Report *report);

/* Add what happened from one report to a later one; no counter of `before` is higher.  NULL: all of it. */
extern void totals_add(PoolTotals *totals, const Report *report, const Report *before);

extern bool totals_empty(const PoolTotals *totals);

/* No number is negative: what is read from a file is not believed. */
extern bool totals_valid(const PoolTotals *totals);

/* Acquires that failed in another way than by their deadline; only clients that report errors tell. */
extern int64_t totals_failures(const PoolTotals *totals);

/* In lower case; NULL: there is none of that number. */
extern const char *totals_error_name(int code);
extern const char *totals_reason_name(int reason);

/*
 * {"name": n, ...} of the numbers above 0, terminated; one without a name is
 * called by its number.  TOTALS_JSON bytes hold any.
 */
#define TOTALS_JSON 2560
extern void totals_errors_json(const PoolTotals *totals, char json[TOTALS_JSON]);
extern void totals_reasons_json(const PoolTotals *totals, char json[TOTALS_JSON]);

#endif /* PGPM_TOTALS_H */
