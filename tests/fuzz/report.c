/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Fuzzes the server's parser of reports: report_parse(), extension/report.h.
 *
 * What must hold for every text: nothing beyond its length is read (the sanitizer sees to
 * that); a reason is given exactly when it is refused; what is accepted is
 * within the ranges of its fields, and written down again and read once more
 * is the same; an unknown key changes nothing.
 *
 * sources: extension/report.c
 * flags: -Iextension
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* vasprintf */
#endif

#include "fuzz.h"
#include "report_text.h"

#include <math.h>

static void
check_ranges(const Report *report)
{
	const int32_t counts[] = { report->max_size, report->min_size,	  report->opening,
							   report->idle,	 report->in_use,	  report->resetting,
							   report->closing,	 report->waiting,	  report->leaks,
							   report->nloans,	 report_size(report), report_demand(report) };
	const int64_t *counters = (const int64_t *) &report->counted;

	hold(report->seq > 0 && report->seq <= INT64_MAX, "seq %llu", (unsigned long long) report->seq);
	hold(report->ack <= INT64_MAX, "ack %llu", (unsigned long long) report->ack);
	for (int i = 0; i < countof(counts); i++)
		hold(counts[i] >= 0, "count %d is %d", i, (int) counts[i]);
	for (int i = 0; i < (int) (sizeof(report->counted) / sizeof(int64_t)); i++)
		hold(counters[i] >= 0, "counter %d is %lld", i, (long long) counters[i]);
	hold(report->nloans <= REPORT_LOANS, "%d loans", report->nloans);
	for (int i = 0; i < report->nloans; i++)
	{
		const ReportLoan *loan = &report->loans[i];

		hold(loan->pid >= 0 && loan->age_ms >= 0, "loan %d", i);
		hold(strnlen(loan->thread, sizeof(loan->thread)) < sizeof(loan->thread), "thread %d", i);
		hold(strnlen(loan->site, sizeof(loan->site)) < sizeof(loan->site), "site %d", i);
	}
}

/*
 * Where bucket k begins, by its definition: bucket 0 has what is less than a microsecond;
 * the last one has no end.
 */
static double
begin_ms(int k)
{
	return k == 0 ? 0.0 : ldexp(1.0, (k < REPORT_BUCKETS ? k : REPORT_BUCKETS - 1) - 1) / 1000.0;
}

/* The first bucket up to which this share of all counts lies. */
static int
bucket_of(const int64_t *buckets, long double share)
{
	long double total = 0, below = 0;
	int last = 0;

	for (int k = 0; k < REPORT_BUCKETS; k++)
		total += buckets[k];
	for (int k = 0; k < REPORT_BUCKETS; k++)
	{
		if (buckets[k] == 0)
			continue;
		last = k;
		below += buckets[k];
		if (below >= share * total)
			break;
	}
	return last;
}

/*
 * Quantiles rise with q, and lie within the bucket that q falls into; on the border of two,
 * rounding decides.
 */
static void
check_quantiles(const int64_t *buckets)
{
	static const double qs[] = { 0.001, 0.25, 0.5, 0.95, 0.999, 1.0 };
	double before = -1.0;
	bool any = false;

	for (int k = 0; k < REPORT_BUCKETS; k++)
		any |= buckets[k] > 0;
	for (int i = 0; i < countof(qs); i++)
	{
		double ms = report_quantile_ms(buckets, qs[i]);

		hold(isfinite(ms), "q %g", qs[i]);
		hold(any == (ms >= 0), "q %g is %g", qs[i], ms);
		hold(ms >= before, "q %g is %g, less than %g", qs[i], ms, before);
		before = ms;
		if (any)
		{
			int low = bucket_of(buckets, qs[i] - 1e-9L);
			int high = bucket_of(buckets, qs[i] + 1e-9L);

			hold(ms >= begin_ms(low) && ms <= begin_ms(high + 1), "q %g is %g, not in bucket %d",
				 qs[i], ms, low);
		}
	}
}

static void
check_round_trip(const Report *report)
{
	Out out = { 0 };
	Report again;
	const char *reason = NULL;

	put_report(&out, report);
	hold(report_parse(out.text, out.len, &again, &reason), "%s: \"%s\"", reason, out.text);
	hold(same_report(report, &again), "written and read: \"%s\"", out.text);
	free(out.text);
}

/* A key of a later version is passed over, wherever it stands behind the first. */
static void
check_unknown_key(const char *text, size_t len, bool accepted, const Report *report)
{
	static const char unknown[] = ";zz=later";
	Report again;
	Out out = { 0 };

	if (len == 0 || len + sizeof(unknown) - 1 > REPORT_MAX_BYTES)
		return;
	put_bytes(&out, text, len);
	put_bytes(&out, unknown, sizeof(unknown) - 1);
	hold(report_parse(out.text, out.len, &again, NULL) == accepted, "\"%s\"", out.text);
	if (accepted)
		hold(same_report(report, &again), "\"%s\"", out.text);
	free(out.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = without_newline(data, size);
	char *text = exact_copy(data, len);
	Report report;
	const char *reason = "not written";
	bool accepted = report_parse(text, len, &report, &reason);

	hold(accepted == (reason == NULL), "reason \"%s\"", reason ? reason : "none");
	hold(accepted || reason[0] != '\0', "no reason");
	if (accepted)
	{
		check_ranges(&report);
		check_quantiles(report.counted.wait);
		check_quantiles(report.counted.hold);
		check_round_trip(&report);
	}
	check_unknown_key(text, len, accepted, &report);
	free(text);
	return 0;
}
