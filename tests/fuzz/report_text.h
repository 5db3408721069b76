/*-------------------------------------------------------------------------
 *
 * report_text.h
 *	  A server's Report, written down in one way of many, and compared: for the
 *	  targets that look at reports from either side.
 *
 * The writer knows nothing but PROTOCOL.md, section 4. It writes nothing that is
 * absent or 0, and so never more than what was read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REPORT_TEXT_H
#define REPORT_TEXT_H

#include "fuzz.h"

#include "report.h"

static void
put_key(Out *out, const char *key, int64_t value)
{
	if (value != 0)
		put(out, ";%s=%lld", key, (long long) value);
}

static void
put_counts(Out *out, const char *key, const int64_t *buckets, int n)
{
	const char *separator = key;

	for (int k = 0; k < n; k++)
	{
		if (buckets[k] == 0)
			continue;
		if (separator == key)
			put(out, ";%s=", key);
		else
			put(out, "%s", separator);
		separator = ",";
		put(out, "%d:%lld", k, (long long) buckets[k]);
	}
}

static void
put_escaped(Out *out, const char *text)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+-";

	for (; *text != '\0'; text++)
	{
		if (strchr(plain, *text) != NULL)
			put(out, "%c", *text);
		else
			put(out, "%%%02x", (unsigned) (unsigned char) *text);
	}
}

static void
put_loans(Out *out, const Report *report)
{
	for (int i = 0; i < report->nloans; i++)
	{
		const ReportLoan *loan = &report->loans[i];

		put(out, "%s%d:%lld:", i == 0 ? ";loans=" : ",", (int) loan->pid, (long long) loan->age_ms);
		put_escaped(out, loan->thread);
		put(out, ":");
		put_escaped(out, loan->site);
	}
}

FUZZ_UNUSED static void
put_report(Out *out, const Report *report)
{
	put(out, "v=1");
	put_loans(out, report);
	put_key(out, "seq", (int64_t) report->seq);
	put_key(out, "ack", (int64_t) report->ack);
	put_key(out, "bye", report->bye);
	if (report->has_max)
		put(out, ";max=%d", (int) report->max_size);
	put_key(out, "min", report->min_size);
	put_key(out, "opening", report->opening);
	put_key(out, "idle", report->idle);
	put_key(out, "in_use", report->in_use);
	put_key(out, "resetting", report->resetting);
	put_key(out, "closing", report->closing);
	put_key(out, "waiting", report->waiting);
	put_key(out, "leaks", report->leaks);
	put_key(out, "acquires", report->counted.acquires);
	put_key(out, "timeouts", report->counted.timeouts);
	put_key(out, "opened", report->counted.opened);
	put_key(out, "closed", report->counted.closed);
	put_key(out, "open_failures", report->counted.open_failures);
	put_key(out, "found_dead", report->counted.found_dead);
	put_key(out, "discarded", report->counted.discarded);
	put_key(out, "resets", report->counted.resets);
	put_key(out, "abandoned", report->counted.abandoned);
	put_key(out, "finished", report->counted.finished);
	put_counts(out, "closed_by", report->counted.closed_by, REPORT_REASONS);
	put_counts(out, "errors", report->counted.errors, REPORT_ERRORS);
	put_counts(out, "hold", report->counted.hold, REPORT_BUCKETS);
	put_counts(out, "wait", report->counted.wait, REPORT_BUCKETS);
}

static bool
same_loans(const Report *a, const Report *b)
{
	if (a->nloans != b->nloans)
		return false;
	for (int i = 0; i < a->nloans; i++)
	{
		if (a->loans[i].pid != b->loans[i].pid || a->loans[i].age_ms != b->loans[i].age_ms ||
			strcmp(a->loans[i].thread, b->loans[i].thread) != 0 ||
			strcmp(a->loans[i].site, b->loans[i].site) != 0)
			return false;
	}
	return true;
}

/* Field by field: what lies behind the end of a text, or between two fields, means nothing. */
FUZZ_UNUSED static bool
same_report(const Report *a, const Report *b)
{
	return a->seq == b->seq && a->ack == b->ack && a->bye == b->bye && a->has_max == b->has_max &&
		   a->max_size == b->max_size && a->min_size == b->min_size && a->opening == b->opening &&
		   a->idle == b->idle && a->in_use == b->in_use && a->resetting == b->resetting &&
		   a->closing == b->closing && a->waiting == b->waiting && a->leaks == b->leaks &&
		   memcmp(&a->counted, &b->counted, sizeof(a->counted)) == 0 && same_loans(a, b);
}

#endif /* REPORT_TEXT_H */
