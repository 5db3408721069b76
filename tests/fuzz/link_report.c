/*-------------------------------------------------------------------------
 *
 * link_report.c
 *	  Fuzzes the client's writer of reports: pqp_link_format_report(),
 *	  client/src/link.h, with the server's parser as the judge.
 *
 * The input describes a report, a line each (see read_line); what is no such
 * line is passed over.  What must hold for every report and every size of the
 * buffer: nothing is written beyond it (the sanitizer sees to that); the length
 * is within bounds; the text is printable ASCII; the server reads it, and reads
 * what was meant, cut and clamped as link.h says; what does not fit is left
 * out in the order that link.h promises, and only then.
 *
 * sources: client/src/link.c extension/report.c
 * flags: -Iclient/src -Iextension
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* vasprintf */
#endif

#include "fuzz.h"
#include "report_text.h"

#include "link.h"

#include <stddef.h>

#define MOST_BYTES (UINT64_C(2) * PQP_REPORT_BYTES) /* of a buffer */

/*---- from the input to a report ----*/

typedef struct Input
{
	LinkReport report;
	size_t size; /* of the buffer */
} Input;

#define COUNT(name, field)                     \
	{                                          \
		name, offsetof(LinkReport, field), 'i' \
	}
#define COUNTER(name, field)                   \
	{                                          \
		name, offsetof(LinkReport, field), 'l' \
	}

static const struct
{
	const char *name;
	size_t offset;
	char type; /* i: int, l: 64 bits */
} fields[] = {
	COUNTER("seq", seq),		   COUNTER("ack", ack),
	COUNT("max", max_size),		   COUNT("min", min_size),
	COUNT("opening", opening),	   COUNT("idle", idle),
	COUNT("in_use", in_use),	   COUNT("resetting", resetting),
	COUNT("closing", closing),	   COUNT("waiting", waiting),
	COUNT("leaks", leaks),		   COUNTER("acquires", acquires),
	COUNTER("timeouts", timeouts), COUNTER("opened", opened),
	COUNTER("closed", closed),	   COUNTER("open_failures", open_failures),
};

static void
set_field(LinkReport *report, int i, int64_t value)
{
	char *field = (char *) report + fields[i].offset;

	if (fields[i].type == 'i')
		*(int *) field = (int) value;
	else
		*(int64_t *) field = value;
}

/* "PID AGE THREAD|SITE"; without a bar there is no site, and a lone tilde is no thread. */
static void
read_loan(LinkReport *report, char *rest)
{
	LinkLoan *loan = &report->loans[report->nloans];
	char *bar;

	if (report->nloans == PQP_REPORT_LOANS)
		return;
	report->nloans++;
	loan->pid = (int) strtoll(rest, &rest, 10);
	loan->age_ms = strtoll(rest, &rest, 10);
	rest += (*rest == ' ');
	bar = strchr(rest, '|');
	if (bar != NULL)
		*bar = '\0';
	loan->thread = strcmp(rest, "~") != 0 ? rest : NULL;
	loan->site = bar != NULL ? bar + 1 : NULL;
}

/*
 * "NAME NUMBER" for a field; "wait BUCKET NUMBER"; "hold BUCKET NUMBER"; "fill
 * NUMBER" for all buckets and counters; "bye"; "loan ..."; "size NUMBER".
 */
static void
read_line(Input *input, char *line)
{
	LinkReport *report = &input->report;
	char *rest = line + strcspn(line, " ");
	int64_t first;
	int64_t second;
	char *numbers;

	if (*rest != '\0')
		*rest++ = '\0';
	first = strtoll(rest, &numbers, 10);
	second = strtoll(numbers, NULL, 10);
	for (int i = 0; i < countof(fields); i++)
	{
		if (strcmp(line, fields[i].name) == 0 ||
			(strcmp(line, "fill") == 0 && fields[i].type == 'l'))
			set_field(report, i, first);
	}
	for (int k = 0; k < PQP_BUCKETS && strcmp(line, "fill") == 0; k++)
		report->wait[k] = report->hold[k] = first;
	if (strcmp(line, "wait") == 0)
		report->wait[(uint64_t) first % PQP_BUCKETS] = second;
	else if (strcmp(line, "hold") == 0)
		report->hold[(uint64_t) first % PQP_BUCKETS] = second;
	else if (strcmp(line, "bye") == 0)
		report->bye = true;
	else if (strcmp(line, "loan") == 0)
		read_loan(report, rest);
	else if (strcmp(line, "size") == 0)
		input->size = (uint64_t) first % MOST_BYTES;
}

static void
read_input(char *text, Input *input)
{
	memset(input, 0, sizeof(*input));
	input->size = PQP_REPORT_BYTES + 1;
	while (text != NULL)
	{
		char *line = strsep(&text, "\n");

		read_line(input, line);
	}
}

/*---- what the server should read ----*/

static int64_t
clamped(int64_t n)
{
	return n > 0 ? n : 0;
}

static uint64_t
clamped_unsigned(uint64_t n)
{
	return n < INT64_MAX ? n : INT64_MAX;
}

static void
expect_loan(const LinkLoan *loan, ReportLoan *expected)
{
	const char *thread = loan->thread != NULL ? loan->thread : "";
	const char *site = loan->site != NULL ? loan->site : "";
	size_t len = strlen(site);

	expected->pid = (int32_t) clamped(loan->pid);
	expected->age_ms = clamped(loan->age_ms);
	snprintf(expected->thread, sizeof(expected->thread), "%.*s", PQP_THREAD_BYTES, thread);
	snprintf(expected->site, sizeof(expected->site), "%s",
			 len > PQP_SITE_BYTES ? site + len - PQP_SITE_BYTES : site);
}

/* All of it, as if there were room for all. */
static void
expect(const LinkReport *report, Report *expected)
{
	memset(expected, 0, sizeof(*expected));
	expected->seq = clamped_unsigned(report->seq);
	expected->ack = clamped_unsigned(report->ack);
	expected->bye = report->bye;
	expected->has_max = true;
	expected->max_size = (int32_t) clamped(report->max_size);
	expected->min_size = (int32_t) clamped(report->min_size);
	expected->opening = (int32_t) clamped(report->opening);
	expected->idle = (int32_t) clamped(report->idle);
	expected->in_use = (int32_t) clamped(report->in_use);
	expected->resetting = (int32_t) clamped(report->resetting);
	expected->closing = (int32_t) clamped(report->closing);
	expected->waiting = (int32_t) clamped(report->waiting);
	expected->leaks = (int32_t) clamped(report->leaks);
	expected->counted.acquires = clamped(report->acquires);
	expected->counted.timeouts = clamped(report->timeouts);
	expected->counted.opened = clamped(report->opened);
	expected->counted.closed = clamped(report->closed);
	expected->counted.open_failures = clamped(report->open_failures);
	for (int k = 0; k < PQP_BUCKETS; k++)
	{
		expected->counted.wait[k] = clamped(report->wait[k]);
		expected->counted.hold[k] = clamped(report->hold[k]);
	}
	expected->nloans = report->nloans;
	for (int i = 0; i < report->nloans; i++)
		expect_loan(&report->loans[i], &expected->loans[i]);
}

static bool
is_empty(const int64_t *buckets)
{
	for (int k = 0; k < PQP_BUCKETS; k++)
	{
		if (buckets[k] > 0)
			return false;
	}
	return true;
}

/*---- judging ----*/

/* Written into a buffer of just this size, and checked as bytes. */
static int
format(const LinkReport *report, size_t size, char **text)
{
	int len;

	*text = exact(size);
	if (size > 0)
		memset(*text, 'x', size);
	len = pqp_link_format_report(*text, size, report);
	hold(len >= -1, "length %d", len);
	if (len < 0)
	{
		hold(size == 0 || (*text)[0] == '\0', "no report, but a text");
		return len;
	}
	hold(len <= PQP_REPORT_BYTES && (size_t) len < size, "%d bytes in %zu", len, size);
	hold(strnlen(*text, size) == (size_t) len, "%d bytes, not %zu", len, strnlen(*text, size));
	for (int i = 0; i < len; i++)
		hold((*text)[i] >= ' ' && (*text)[i] <= '~', "not ASCII: \"%s\"", *text);
	return len;
}

/*
 * The length of the report with so many of its optional parts; -1: more than any report may
 * have.
 */
static int
length_with(const LinkReport *report, bool with_wait, bool with_hold, int nloans)
{
	LinkReport part = *report;
	Report read;
	char *text;
	int len;

	if (!with_wait)
		memset(part.wait, 0, sizeof(part.wait));
	if (!with_hold)
		memset(part.hold, 0, sizeof(part.hold));
	part.nloans = nloans;
	len = format(&part, PQP_REPORT_BYTES + 1, &text);
	if (len >= 0 && (!report_parse(text, (size_t) len, &read, NULL) || read.nloans != nloans ||
					 is_empty(read.counted.wait) != is_empty(part.wait) ||
					 is_empty(read.counted.hold) != is_empty(part.hold)))
		len = -1;
	free(text);
	return len;
}

/* Something was left out; with it, all else being as it is, there would have been no room. */
static void
check_no_room(int len, size_t size, const char *text)
{
	hold(len < 0 || (size_t) len >= size, "%d bytes would have fitted into %zu: \"%s\"", len, size,
		 text);
}

static void
check_left_out(const LinkReport *report, size_t size, const char *text, Report *read,
			   Report *expected)
{
	bool wait = is_empty(expected->counted.wait) || !is_empty(read->counted.wait);
	bool hold_ = is_empty(expected->counted.hold) || !is_empty(read->counted.hold);

	hold(read->nloans <= expected->nloans, "%d loans: \"%s\"", read->nloans, text);
	if (read->nloans < expected->nloans && wait && hold_)
		check_no_room(length_with(report, true, true, read->nloans + 1), size, text);
	if (!hold_)
	{
		hold(read->nloans == 0, "loans, but no hold histogram: \"%s\"", text);
		if (wait)
			check_no_room(length_with(report, true, true, 0), size, text);
	}
	if (!wait)
	{
		hold(is_empty(read->counted.hold) && read->nloans == 0,
			 "no wait histogram, but more: \"%s\"", text);
		check_no_room(length_with(report, true, false, 0), size, text);
	}
	/* what was left out is not compared */
	expected->nloans = read->nloans;
	if (!wait)
		memset(expected->counted.wait, 0, sizeof(expected->counted.wait));
	if (!hold_)
		memset(expected->counted.hold, 0, sizeof(expected->counted.hold));
}

static void
check_text(const LinkReport *report, size_t size, const char *text, int len)
{
	Report read;
	Report expected;
	const char *reason = NULL;

	hold(report_parse(text, (size_t) len, &read, &reason), "%s: \"%s\"", reason, text);
	expect(report, &expected);
	check_left_out(report, size, text, &read, &expected);
	hold(same_report(&read, &expected), "read differently: \"%s\"", text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *lines = input_string(data, size);
	char *text;
	int least;
	int len;
	Input input;

	read_input(lines, &input);
	least = length_with(&input.report, false, false, 0);
	hold((least < 0) == (input.report.seq == 0), "length %d", least);
	len = format(&input.report, input.size, &text);
	hold((len < 0) == (least < 0 || (size_t) least >= input.size), "%d bytes of at least %d in %zu",
		 len, least, input.size);
	if (len >= 0)
		check_text(&input.report, input.size, text, len);
	free(text);
	free(lines);
	return 0;
}
