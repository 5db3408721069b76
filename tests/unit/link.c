/*-------------------------------------------------------------------------
 *
 * link.c
 *	  Test of client/src/link.c: the client's half of PROTOCOL.md.
 *
 * sources: client/src/link.c
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"
#include "draw.h"

#include "link.h"
#include "vectors.h"

/*---- ids ----*/

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void
test_ids(void)
{
	static char ids[10000][PQP_ID_SIZE];
	int wrong = 0;

	for (int i = 0; i < countof(ids); i++)
	{
		memset(ids[i], 'x', PQP_ID_SIZE);
		wrong += !pqp_link_new_id(ids[i]);
		wrong += ids[i][PQP_ID_SIZE - 1] != '\0' ||
				 strspn(ids[i], "0123456789abcdef") != PQP_ID_SIZE - 1;
	}
	is_int(wrong, 0, "an id is 32 hexadecimal digits");
	qsort(ids, countof(ids), PQP_ID_SIZE, compare_ids);
	for (int i = 1; i < countof(ids); i++)
		wrong += strcmp(ids[i - 1], ids[i]) == 0;
	is_int(wrong, 0, "no two of 10,000 are alike");
}

/*---- identity ----*/

static void
test_identity(void)
{
	char buf[300];

	for (int i = 0; i < countof(identity_vectors); i++)
	{
		const IdentityVector *v = &identity_vectors[i];
		int len;

		memset(buf, 'x', sizeof(buf));
		len = pqp_link_identity(buf, sizeof(buf), v->user_options, v->pool, v->id, v->follow,
								v->report, v->knock);
		is_str(buf, v->options != NULL ? v->options : "", "identity %d", i);
		is_int(len, v->options != NULL ? (int) strlen(v->options) : -1, "its length");
	}
}

/* Every size of the buffer: whole or nothing, and not a byte too far. */
static void
test_identity_sizes(void)
{
	char whole[300];
	int len = pqp_link_identity(whole, sizeof(whole), "-c x.y=z", "a b", "id", true, true, true);
	int wrong = 0;

	for (size_t size = 0; size < 200; size++)
	{
		char buf[300];
		int got;

		memset(buf, '!', sizeof(buf));
		got = pqp_link_identity(buf, size, "-c x.y=z", "a b", "id", true, true, true);
		wrong += got != (size > (size_t) len ? len : -1);
		wrong += buf[size] != '!';
		if (size > 0)
			wrong += strcmp(buf, got < 0 ? "" : whole) != 0;
	}
	is_int(wrong, 0, "an identity is written whole or not at all");
}

/*---- allotment ----*/

static void
test_allotments(void)
{
	static const char *const states[] = { "ok", "queued", "paused", "off" };

	for (int i = 0; i < countof(allotment_vectors); i++)
	{
		const AllotmentVector *v = &allotment_vectors[i];
		Allotment zero = { 0 };
		Allotment got = zero;

		is_int(pqp_link_parse_allotment(v->text, "me", &got), v->taken, "taken or not: %s",
			   v->text);
		if (!v->taken)
		{
			ok(memcmp(&got, &zero, sizeof(got)) == 0, "... and nothing has changed");
			continue;
		}
		ok(got.epoch == v->epoch && got.limit == v->limit && got.lease_ms == v->lease_ms &&
			   got.interval_ms == v->interval_ms && got.retry_ms == v->retry_ms,
		   "... its numbers");
		is_str(got.inc, v->inc, "... its incarnation");
		is_str(states[got.state], v->state, "... its state");
	}
	{
		Allotment a = { 0 };

		ok(!pqp_link_parse_allotment(NULL, "me", &a), "no text is no allotment");
		a.lease_ms = 7000;
		a.interval_ms = 3000;
		a.retry_ms = 1000;
		ok(pqp_link_parse_allotment("id=me;inc=1;epoch=1;limit=1;state=ok;retry=2", "me", &a),
		   "a text without lease and interval");
		ok(a.lease_ms == 7000 && a.interval_ms == 3000 && a.retry_ms == 2000,
		   "keeps the values from before");
	}
}

/* Single changes to a good text: refused, or read as something sane. */
static void
test_mutations(void)
{
	static const char good[] =
		"id=me;inc=7f3a;epoch=41;limit=20;state=ok;lease=30.5;interval=10;retry=5";
	int wrong = 0;
	int taken = 0;

	for (int i = 0; i < 200000; i++)
	{
		char text[sizeof(good) + 1];
		size_t at = draw(sizeof(good) - 1);
		Allotment a = { 0 };

		memcpy(text, good, sizeof(good));
		for (unsigned n = 1 + draw(3); n > 0; n--)
			text[draw(sizeof(good) - 1)] = (char) (1 + draw(255));
		if (draw(4) == 0)
			text[at] = '\0';
		if (!pqp_link_parse_allotment(text, "me", &a))
			continue;
		taken++;
		wrong += strncmp(text, "id=me;", 6) != 0 && strstr(text, ";id=me") == NULL;
		wrong += a.limit < -1 || a.lease_ms < 0 || a.retry_ms < 0 || a.inc[0] == '\0' ||
				 strlen(a.inc) >= sizeof(a.inc) || a.interval_ms < PQP_INTERVAL_MIN_MS ||
				 (int) a.state < ALLOTMENT_OK || (int) a.state > ALLOTMENT_OFF;
	}
	is_int(wrong, 0, "200,000 damaged texts yield nothing absurd");
	ok(taken > 1000, "some of them are still texts (%d)", taken);
}

/*---- report ----*/

static void
fill_report(LinkReport *report)
{
	memset(report, 0, sizeof(*report));
	report->seq = 5;
	report->ack = 4;
	report->max_size = 20;
	report->min_size = 2;
	report->opening = 1;
	report->idle = 2;
	report->in_use = 3;
	report->resetting = 4;
	report->closing = 5;
	report->waiting = 6;
	report->leaks = 7;
	report->acquires = 8;
	report->timeouts = 9;
	report->opened = 10;
	report->closed = 11;
	report->open_failures = 12;
}

#define FIXED                                                                                 \
	"v=1;seq=5;ack=4;max=20;min=2;opening=1;idle=2;in_use=3;resetting=4;closing=5;waiting=6;" \
	"leaks=7;acquires=8;timeouts=9;opened=10;closed=11;open_failures=12"

static void
test_report(void)
{
	char buf[PQP_REPORT_BYTES + 1];
	LinkReport report;

	fill_report(&report);
	is_int(pqp_link_format_report(buf, sizeof(buf), &report), strlen(FIXED), "a report's length");
	is_str(buf, FIXED, "a report without histograms and loans");

	report.bye = true;
	report.wait[0] = 100;
	report.wait[31] = 1;
	report.hold[5] = 2;
	report.nloans = 2;
	report.loans[0] = (LinkLoan){ 4711, 301000, "worker 3", "src/billing.c:214" };
	report.loans[1] = (LinkLoan){ 12, 5, NULL, NULL };
	report.found_dead = 1;
	report.finished = 3;
	report.errors[11] = 4;
	report.closed_by[0] = 5;
	report.closed_by[15] = 6;
	(void) pqp_link_format_report(buf, sizeof(buf), &report);
	is_str(buf,
		   FIXED ";bye=1;wait=0:100,31:1;hold=5:2;"
				 "loans=4711:301000:worker%203:src/billing.c%3A214,12:5::;found_dead=1;finished=3;"
				 "errors=11:4;closed_by=0:5,15:6",
		   "a report with all that there is");

	report.loans[0].thread = "\x01\xff%;:,=";
	report.loans[0].site = "";
	report.nloans = 1;
	(void) pqp_link_format_report(buf, sizeof(buf), &report);
	ok(strstr(buf, "loans=4711:301000:%01%FF%25%3B%3A%2C%3D:") != NULL, "all else is escaped");

	report.in_use = -1;
	report.acquires = INT64_MIN;
	report.seq = UINT64_MAX;
	(void) pqp_link_format_report(buf, sizeof(buf), &report);
	ok(strstr(buf, "seq=9223372036854775807;") && strstr(buf, ";in_use=0;") &&
		   strstr(buf, ";acquires=0;"),
	   "numbers out of range become the nearest that is not");

	report.seq = 0;
	is_int(pqp_link_format_report(buf, sizeof(buf), &report), -1, "there is no report 0");
	is_str(buf, "", "and no text");
}

static void
test_long_texts(void)
{
	char site[300], thread[300];
	char buf[PQP_REPORT_BYTES + 1];
	LinkReport report;

	memset(site, 'a', sizeof(site));
	memcpy(site + sizeof(site) - 5, "z.c7", 5);
	memset(thread, 't', sizeof(thread));
	memcpy(thread, "first", 5);
	thread[sizeof(thread) - 1] = '\0';
	fill_report(&report);
	report.nloans = 100; /* a careless caller */
	for (int i = 0; i < PQP_REPORT_LOANS; i++)
		report.loans[i] = (LinkLoan){ i, i, thread, site };
	(void) pqp_link_format_report(buf, sizeof(buf), &report);
	ok(strstr(buf, ":firsttttttttttttttttttt:aaa") != NULL, "of a thread the first 23 bytes count");
	is_int(strlen(strrchr(buf, ':') + 1), PQP_SITE_BYTES, "of a site 63");
	ok(strcmp(buf + strlen(buf) - 5, "az.c7") == 0, "its last");
}

/*
 * What is left out, and in what order, as the room gets less: loans one by one,
 * then the hold histogram, then the wait histogram, then it fails.
 */
static void
test_order_of_leaving_out(void)
{
	LinkReport report;
	char buf[PQP_REPORT_BYTES + 2];
	int last = 0;
	int wrong = 0;
	unsigned combinations = 0;

	fill_report(&report);
	report.wait[3] = 1;
	report.hold[4] = 1;
	report.nloans = 3;
	for (int i = 0; i < 3; i++)
		report.loans[i] = (LinkLoan){ i + 1, 1000 - i, "t", "s" };
	for (size_t size = 0; size < 300; size++)
	{
		int len;
		int level;

		memset(buf, '!', sizeof(buf));
		len = pqp_link_format_report(buf, size, &report);
		wrong += buf[size] != '!' || len >= (int) size + (size == 0);
		if (size == 0)
			continue;
		wrong += len != (buf[0] == '\0' ? -1 : (int) strlen(buf));
		level = (len > 0) + (strstr(buf, ";wait=3:1") != NULL) +
				(strstr(buf, ";hold=4:1") != NULL) + (strstr(buf, ";loans=1:1000:t:s") != NULL) +
				(strstr(buf, ",2:999:t:s") != NULL) + (strstr(buf, ",3:998:t:s") != NULL);
		wrong += len > 0 && strncmp(buf, FIXED, strlen(FIXED)) != 0;
		wrong += len > 0 && strchr(";,:=", buf[len - 1]) != NULL;
		wrong += level < last;
		combinations |= 1u << level;
		last = level;
	}
	is_int(wrong, 0, "whatever the room, the text is whole and within it");
	is_int(combinations, 0x7f, "every step of leaving out occurs");
}

/* Wild numbers: never above the limit, and the fixed part is always there. */
static void
test_wild_reports(void)
{
	char buf[4000];
	int wrong = 0;
	int longest = 0;

	for (int i = 0; i < 20000; i++)
	{
		LinkReport report;
		char site[200];
		int len;

		for (size_t k = 0; k < sizeof(report); k++)
			((unsigned char *) &report)[k] = (unsigned char) draw64();
		report.bye = draw(2) == 0;
		report.seq |= 1;
		for (int b = 0; b < PQP_BUCKETS; b++)
		{
			report.wait[b] = draw(2) == 0 ? (int64_t) draw64() : draw(10000);
			report.hold[b] = draw(2) == 0 ? (int64_t) draw64() : draw(10000);
		}
		for (size_t k = 0; k < sizeof(site) - 1; k++)
			site[k] = (char) (1 + draw(255));
		site[draw(sizeof(site))] = '\0';
		report.nloans = (int) draw(9);
		for (int k = 0; k < PQP_REPORT_LOANS; k++)
			report.loans[k] = (LinkLoan){ (int) draw64(), (int64_t) draw64(), site, site };
		len = pqp_link_format_report(buf, sizeof(buf), &report);
		wrong += len < 0 || len > PQP_REPORT_BYTES || (int) strlen(buf) != len;
		longest = len > longest ? len : longest;
	}
	is_int(wrong, 0, "no report is longer than the server takes");
	ok(longest > PQP_REPORT_BYTES - 100, "the limit was met (longest %d)", longest);
}

static void
test_buckets(void)
{
	int wrong = 0;

	is_int(pqp_link_bucket(INT64_MIN), 0, "a negative duration is none");
	is_int(pqp_link_bucket(0), 0, "bucket 0 is less than a microsecond");
	is_int(pqp_link_bucket(INT64_MAX), 31, "the last bucket has no end");
	is_int(pqp_link_bucket(1000), 10, "a millisecond is in 512 .. 1023");
	for (int k = 1; k < 31; k++)
	{
		wrong += pqp_link_bucket(INT64_C(1) << (k - 1)) != k;
		wrong += pqp_link_bucket((INT64_C(1) << k) - 1) != k;
	}
	is_int(wrong, 0, "bucket k is from 2^(k-1) to below 2^k");
}

int
main(void)
{
	test_ids();
	test_identity();
	test_identity_sizes();
	test_allotments();
	test_mutations();
	test_report();
	test_long_texts();
	test_order_of_leaving_out();
	test_wild_reports();
	test_buckets();
	return done_testing();
}
