/*-------------------------------------------------------------------------
 *
 * totals.h
 *	  What a pool has counted: the sum of what its instances did, also those that have ended.
 *
 * Pure: knows neither PostgreSQL nor the registry.
 *
 * Of the counters in reports, and in their form (report.h).  Each report adds what happened
 * since the one before it.  So nothing needs to be done when an instance ends, totals never
 * go back, and to set them to zero is all that a reset is.  Sums stay at the largest number
 * that they can have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_TOTALS_H
#define PGPM_TOTALS_H

#include "report.h"

typedef ReportCounters PoolTotals;

/*
 * Add what happened from one report to a later one; no counter of `before` is higher.
 * NULL: all of it.
 */
extern void totals_add(PoolTotals *totals, const ReportCounters *now, const ReportCounters *before);

/*
 * totals -= other, with numbers of either sign; differences stay between the largest number
 * and its negative.
 */
extern void totals_subtract(PoolTotals *totals, const PoolTotals *other);

extern bool totals_empty(const PoolTotals *totals);

/* No number is negative: what is read from a file is not believed. */
extern bool totals_valid(const PoolTotals *totals);

/*
 * Acquires that failed in another way than by their deadline; only clients that report
 * errors tell.
 */
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
