/*-------------------------------------------------------------------------
 *
 * totals.c
 *	  What a pool has counted.
 *
 *-------------------------------------------------------------------------
 */
#include "totals.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NUMBERS ((int) (sizeof(PoolTotals) / sizeof(int64_t)))

/* As in pqpool.h, whose numbers these are. */
static const char *const error_names[REPORT_ERRORS] = {
	[1] = "timed_out",		[2] = "exhausted",
	[3] = "over_allotment", [4] = "paused",
	[5] = "queued",			[10] = "server_full",
	[11] = "server_down",	[12] = "refused",
	[13] = "hook",			[20] = "closed",
	[21] = "deadlock",		[30] = "bad_option",
	[31] = "bad_argument",	[32] = "already_initialized",
	[33] = "not_lent",		[34] = "unknown_connection",
	[35] = "wrong_thread",	[36] = "scope_order",
	[40] = "out_of_memory", [41] = "system",
};

static const char *const reason_names[REPORT_REASONS] = {
	"idle", "lifetime", "limit", "drain", "dead", "unfit", "discard", "finished", "hook", "pool",
};

/* Neither is negative. */
static int64_t
add(int64_t a, int64_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

void
totals_add(PoolTotals *totals, const ReportCounters *now, const ReportCounters *before)
{
	static const ReportCounters nothing = { 0 };
	int64_t *sums = (int64_t *) totals;
	const int64_t *to = (const int64_t *) now;
	const int64_t *from = (const int64_t *) (before != NULL ? before : &nothing);

	for (int i = 0; i < NUMBERS; i++)
		sums[i] = add(sums[i], to[i] - from[i]);
}

static int64_t
subtract(int64_t a, int64_t b)
{
	if (b < 0)
		return a > INT64_MAX + b ? INT64_MAX : a - b;
	return a < b - INT64_MAX ? -INT64_MAX : a - b;
}

void
totals_subtract(PoolTotals *totals, const PoolTotals *other)
{
	int64_t *numbers = (int64_t *) totals;

	for (int i = 0; i < NUMBERS; i++)
		numbers[i] = subtract(numbers[i], ((const int64_t *) other)[i]);
}

bool
totals_empty(const PoolTotals *totals)
{
	for (int i = 0; i < NUMBERS; i++)
		if (((const int64_t *) totals)[i] != 0)
			return false;
	return true;
}

bool
totals_valid(const PoolTotals *totals)
{
	for (int i = 0; i < NUMBERS; i++)
		if (((const int64_t *) totals)[i] < 0)
			return false;
	return true;
}

/* Timeouts have several codes, by what the caller waited for. */
static bool
by_deadline(int code)
{
	return code == 1 || (code >= 3 && code <= 5);
}

int64_t
totals_failures(const PoolTotals *totals)
{
	int64_t sum = 0;

	for (int i = 0; i < REPORT_ERRORS; i++)
		if (!by_deadline(i))
			sum = add(sum, totals->errors[i]);
	return sum;
}

const char *
totals_error_name(int code)
{
	return code >= 0 && code < REPORT_ERRORS ? error_names[code] : NULL;
}

const char *
totals_reason_name(int reason)
{
	return reason >= 0 && reason < REPORT_REASONS ? reason_names[reason] : NULL;
}

static void
render(const int64_t *counts, const char *const *names, int n, char *json)
{
	size_t at = 0;

	json[at++] = '{';
	for (int i = 0; i < n; i++)
	{
		char number[16];

		if (counts[i] <= 0)
			continue;
		(void) snprintf(number, sizeof(number), "%d", i);
		at += (size_t) snprintf(json + at, TOTALS_JSON - at, "%s\"%s\": %" PRId64,
								at > 1 ? ", " : "", names[i] ? names[i] : number, counts[i]);
	}
	(void) snprintf(json + at, TOTALS_JSON - at, "}");
}

void
totals_errors_json(const PoolTotals *totals, char json[TOTALS_JSON])
{
	render(totals->errors, error_names, REPORT_ERRORS, json);
}

void
totals_reasons_json(const PoolTotals *totals, char json[TOTALS_JSON])
{
	render(totals->closed_by, reason_names, REPORT_REASONS, json);
}
