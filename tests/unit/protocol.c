/*-------------------------------------------------------------------------
 *
 * protocol.c
 *	  Conformance of the two halves: what the client writes, the server reads.
 *
 * Both sides are the product's own code; only how a server takes startup
 * options apart is told again here, because that is PostgreSQL's.
 *
 * sources: client/src/link.c extension/report.c
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"
#include "draw.h"

#include "link.h"
#include "report.h"
#include "vectors.h"

/*---- identity ----*/

/*
 * The next word of startup options, as PostgreSQL's pg_split_opts has it, in
 * the worst of its locales: one where bytes above 127 are blanks.
 */
static bool
next_word(const char **cursor, char *word)
{
	const char *p = *cursor;

#define IS_BLANK(c) ((c) == ' ' || ((c) >= '\t' && (c) <= '\r') || ((c) &0x80) != 0)
	while (IS_BLANK(*p))
		p++;
	if (*p == '\0')
		return false;
	for (bool escaped = false; *p != '\0' && (escaped || !IS_BLANK(*p)); p++)
	{
		if (!escaped && *p == '\\')
			escaped = true;
		else
		{
			escaped = false;
			*word++ = *p;
		}
	}
	*word = '\0';
	*cursor = p;
	return true;
}

/* The value of a setting in startup options, the last one as in the server. */
static bool
find_setting(const char *options, const char *name, char *value)
{
	char word[500] = "";
	size_t len = strlen(name);
	bool found = false;

	while (next_word(&options, word))
	{
		if (strcmp(word, "-c") != 0)
			continue;
		if (!next_word(&options, word))
			break;
		if (strncmp(word, name, len) == 0 && word[len] == '=')
		{
			strcpy(value, word + len + 1);
			found = true;
		}
	}
	return found;
}

static void
test_identity(void)
{
	for (int i = 0; i < countof(identity_vectors); i++)
	{
		const IdentityVector *v = &identity_vectors[i];
		char options[500];
		char value[500] = "";
		char expected[200];

		if (v->options == NULL)
			continue;
		(void) pqp_link_identity(options, sizeof(options), v->user_options, v->pool, v->id,
								 v->follow, v->report, v->knock);
		ok(find_setting(options, "pgpool_monitor.pool", value), "identity %d has a pool", i);
		is_str(value, v->pool, "... and the server reads its name as it was meant");
		snprintf(expected, sizeof(expected), "%s%s%s%s", v->id, v->follow ? ";follow=1" : "",
				 v->report ? ";report=1" : "", v->knock ? ";kind=knock" : "");
		(void) find_setting(options, "pgpool_monitor.instance", value);
		is_str(value, expected, "... as it does the instance");
	}
}

/* Any name and any options of the user's: nothing gets from one into the other. */
static void
test_hostile_identities(void)
{
	int wrong = 0;

	for (int i = 0; i < 50000; i++)
	{
		/* without c: a "-c" at the end of the user's own is his mistake, with or without us */
		static const char pieces[] = " \\\\\t\n-=;'\"ab\x85\xa0\xff";
		char user[60], pool[60], options[500], value[500] = "", before[500] = "";
		unsigned n = draw(20);

		strcpy(user, "-c a.b=");
		for (unsigned k = 7; k < 7 + n; k++)
		{
			user[k] = pieces[draw(sizeof(pieces) - 1)];
			user[k + 1] = '\0';
		}
		n = 1 + draw(20);
		for (unsigned k = 0; k < n; k++)
			pool[k] = pieces[draw(sizeof(pieces) - 1)];
		pool[n] = '\0';
		if (pqp_link_identity(options, sizeof(options), user, pool, "id", true, true, false) < 0)
			wrong++;

		/* a dangling "-c" at the end of the user's own is a FATAL with or without us */
		if (find_setting(user, "a.b", before) && strstr(user + 7, "-c") == NULL)
		{
			wrong += !find_setting(options, "a.b", value) || strcmp(value, before) != 0;
			wrong +=
				!find_setting(options, "pgpool_monitor.pool", value) || strcmp(value, pool) != 0;
		}
	}
	is_int(wrong, 0, "hostile names and options stay apart");
}

/*---- report ----*/

static void
test_report_vectors(void)
{
	for (int i = 0; i < countof(report_vectors); i++)
	{
		const ReportVector *v = &report_vectors[i];
		Report report;
		const char *reason = "none";

		is_int(report_parse(v->text, strlen(v->text), &report, &reason), v->taken, "[%s]: %s",
			   v->text, reason != NULL ? reason : "taken");
		if (!v->taken)
			continue;
		ok(report.seq == v->seq && report_demand(&report) == v->demand &&
			   report_size(&report) == v->size,
		   "... its seq, demand and size");
	}
}

/* Numbers as a client has them, and some that only a broken one has. */
static int64_t
draw_number(void)
{
	switch (draw(8))
	{
		case 0:
			return 0;
		case 1:
			return INT64_MAX;
		case 2:
			return (int64_t) draw64();
		default:
			return (int64_t) (draw64() >> (20 + draw(43)));
	}
}

static int64_t
as_sent(int64_t n)
{
	return n < 0 ? 0 : n;
}

static void
draw_text(char *text, size_t size)
{
	size_t len = draw((unsigned) size);

	for (size_t i = 0; i < len; i++)
		text[i] = (char) (draw(3) == 0 ? 1 + draw(255) : 'a' + draw(26));
	text[len] = '\0';
}

static void
draw_report(LinkReport *out, char texts[][2][100])
{
	int *const counts[] = { &out->max_size, &out->min_size, &out->opening,
							&out->idle,		&out->in_use,	&out->resetting,
							&out->closing,	&out->waiting,	&out->leaks };
	int64_t *const counters[] = { &out->acquires,  &out->timeouts,		&out->opened,
								  &out->closed,	   &out->open_failures, &out->found_dead,
								  &out->discarded, &out->resets,		&out->abandoned,
								  &out->finished };

	memset(out, 0, sizeof(*out));
	out->seq = (uint64_t) draw_number();
	out->seq += (out->seq == 0);
	out->ack = (uint64_t) draw_number();
	out->bye = draw(2) == 0;
	for (int i = 0; i < countof(counts); i++)
		*counts[i] = (int) draw_number();
	for (int i = 0; i < countof(counters); i++)
		*counters[i] = draw_number();
	for (int i = 0; i < PQP_BUCKETS; i++)
	{
		out->wait[i] = draw(3) == 0 ? draw_number() : 0;
		out->hold[i] = draw(3) == 0 ? draw_number() : 0;
	}
	for (int i = 0; i < PQP_REPORT_ERRORS; i++)
		out->errors[i] = draw(9) == 0 ? draw_number() : 0;
	for (int i = 0; i < PQP_REPORT_REASONS; i++)
		out->closed_by[i] = draw(4) == 0 ? draw_number() : 0;
	out->nloans = (int) draw(PQP_REPORT_LOANS + 1);
	for (int i = 0; i < out->nloans; i++)
	{
		draw_text(texts[i][0], sizeof(texts[i][0]));
		draw_text(texts[i][1], sizeof(texts[i][1]));
		out->loans[i] =
			(LinkLoan){ (int) draw_number(), draw_number(), draw(9) == 0 ? NULL : texts[i][0],
						draw(9) == 0 ? NULL : texts[i][1] };
	}
}

static uint64_t
capped(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : n;
}

static bool
same_numbers(const LinkReport *sent, const Report *got)
{
	return got->seq == capped(sent->seq) && got->ack == capped(sent->ack) &&
		   got->bye == sent->bye && got->has_max && got->max_size == as_sent(sent->max_size) &&
		   got->min_size == as_sent(sent->min_size) && got->opening == as_sent(sent->opening) &&
		   got->idle == as_sent(sent->idle) && got->in_use == as_sent(sent->in_use) &&
		   got->resetting == as_sent(sent->resetting) && got->closing == as_sent(sent->closing) &&
		   got->waiting == as_sent(sent->waiting) && got->leaks == as_sent(sent->leaks) &&
		   got->counted.acquires == as_sent(sent->acquires) &&
		   got->counted.timeouts == as_sent(sent->timeouts) &&
		   got->counted.opened == as_sent(sent->opened) &&
		   got->counted.closed == as_sent(sent->closed) &&
		   got->counted.open_failures == as_sent(sent->open_failures);
}

/* Whole, or left out as a whole. */
static bool
same_counts(const int64_t *sent, const int64_t *got, int n, bool was_sent)
{
	for (int i = 0; i < n; i++)
	{
		if (got[i] != (was_sent ? as_sent(sent[i]) : 0))
			return false;
	}
	return true;
}

/* These are all or none, and what is 0 has no key. */
static bool
same_more(const LinkReport *sent, const Report *got, const char *text)
{
	const int64_t first[] = { sent->found_dead, sent->discarded, sent->resets, sent->abandoned,
							  sent->finished };
	const int64_t second[] = { got->counted.found_dead, got->counted.discarded, got->counted.resets,
							   got->counted.abandoned, got->counted.finished };
	bool were_sent = strstr(text, ";found_dead=") || strstr(text, ";discarded=") ||
					 strstr(text, ";resets=") || strstr(text, ";abandoned=") ||
					 strstr(text, ";finished=");

	return same_counts(first, second, countof(first), were_sent);
}

static bool
same_loan(const LinkLoan *sent, const ReportLoan *got)
{
	const char *thread = sent->thread != NULL ? sent->thread : "";
	const char *site = sent->site != NULL ? sent->site : "";
	size_t len = strlen(site);

	if (len > REPORT_SITE_LEN - 1)
		site += len - (REPORT_SITE_LEN - 1);
	return got->pid == as_sent(sent->pid) && got->age_ms == as_sent(sent->age_ms) &&
		   strncmp(got->thread, thread, REPORT_THREAD_LEN - 1) == 0 &&
		   strlen(got->thread) <= REPORT_THREAD_LEN - 1 && strcmp(got->site, site) == 0;
}

static bool
same_report(const LinkReport *sent, const Report *got, const char *text)
{
	if (!same_numbers(sent, got) ||
		!same_counts(sent->wait, got->counted.wait, PQP_BUCKETS, strstr(text, ";wait=") != NULL) ||
		!same_counts(sent->hold, got->counted.hold, PQP_BUCKETS, strstr(text, ";hold=") != NULL) ||
		!same_counts(sent->errors, got->counted.errors, PQP_REPORT_ERRORS,
					 strstr(text, ";errors=")) ||
		!same_counts(sent->closed_by, got->counted.closed_by, PQP_REPORT_REASONS,
					 strstr(text, ";closed_by=")) ||
		!same_more(sent, got, text) || got->nloans > sent->nloans)
		return false;
	for (int i = 0; i < got->nloans; i++)
	{
		if (!same_loan(&sent->loans[i], &got->loans[i]))
			return false;
	}
	return true;
}

static void
test_round_trip(void)
{
	int refused = 0;
	int differ = 0;
	int whole = 0;

	for (int i = 0; i < 20000; i++)
	{
		char texts[PQP_REPORT_LOANS][2][100];
		char text[PQP_REPORT_BYTES + 1];
		LinkReport sent;
		Report got;
		const char *reason = "";
		int len;

		draw_report(&sent, texts);
		len = pqp_link_format_report(text, sizeof(text), &sent);
		if (len <= 0 || !report_parse(text, (size_t) len, &got, &reason))
		{
			if (refused++ < 3)
				diag("refused (%s): %s", reason, text);
			continue;
		}
		if (!same_report(&sent, &got, text) && differ++ < 3)
			diag("differs: %s", text);
		whole += got.nloans == sent.nloans;
	}
	is_int(refused, 0, "the server refuses nothing that the client writes");
	is_int(differ, 0, "and reads what was meant");
	ok(whole > 1000, "most of them were whole (%d of 20000)", whole);
}

/* A duration in the client's bucket is to the server one of about that length. */
static void
test_buckets(void)
{
	int wrong = 0;

	is_int(REPORT_BUCKETS, PQP_BUCKETS, "both have the same buckets");
	is_int(REPORT_MAX_BYTES, PQP_REPORT_BYTES, "and the same longest text");
	is_int(REPORT_LOANS, PQP_REPORT_LOANS, "and as many loans");
	is_int(REPORT_ERRORS, PQP_REPORT_ERRORS, "errors");
	is_int(REPORT_REASONS, PQP_REPORT_REASONS, "and reasons");
	is_int(REPORT_THREAD_LEN, PQP_THREAD_BYTES + 1, "threads are as long");
	is_int(REPORT_SITE_LEN, PQP_SITE_BYTES + 1, "sites, too");
	for (int64_t us = 1; us < INT64_C(1) << 30; us = us * 3 / 2 + 1)
	{
		int64_t buckets[PQP_BUCKETS] = { 0 };
		double ms;

		buckets[pqp_link_bucket(us)] = 1;
		ms = report_quantile_ms(buckets, 0.5);
		wrong += ms * 1000 < (double) us / 2 || ms * 1000 > (double) us * 2;
	}
	is_int(wrong, 0, "a duration comes back to within a factor of two");
}

/*---- allotment ----*/

/* As a server renders it: every combination of what can be told is understood. */
static void
test_allotments(void)
{
	static const char *const states[] = { "ok", "queued", "paused", "off" };
	static const int limits[] = { -1, 0, 1, 262142 };
	int wrong = 0;

	for (int i = 0; i < countof(states) * countof(limits); i++)
	{
		int state = i % countof(states);
		int limit = limits[i / countof(states)];
		char text[256];
		Allotment got = { 0 };

		snprintf(text, sizeof(text),
				 "id=%s;inc=%lld;epoch=%llu;limit=%d;state=%s;lease=%u;interval=%u.%03u;retry=%u",
				 "0123456789abcdef0123456789abcdef", 812345678901234LL, (1ULL << 42) - 1, limit,
				 states[state], 30U, 1U, 50U, 5U);
		wrong += !pqp_link_parse_allotment(text, "0123456789abcdef0123456789abcdef", &got) ||
				 got.limit != limit || (int) got.state != state || got.epoch != (1ULL << 42) - 1 ||
				 strcmp(got.inc, "812345678901234") != 0 || got.lease_ms != 30000 ||
				 got.interval_ms != 1050 || got.retry_ms != 5000;
	}
	is_int(wrong, 0, "allotments as a server renders them are understood");
}

int
main(void)
{
	test_identity();
	test_hostile_identities();
	test_report_vectors();
	test_round_trip();
	test_buckets();
	test_allotments();
	return done_testing();
}
