/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Section 4 of PROTOCOL.md, rule by rule, and texts that nobody should send.
 *
 * sources: extension/report.c
 *
 * Each text is parsed from a block of memory that ends where the text ends,
 * without a terminator, so that AddressSanitizer sees a byte too many.
 *
 *-------------------------------------------------------------------------
 */
#include "report.h"

#include <math.h>

#include "tap.h"

static Report report;
static const char *reason;

static bool
parse_bytes(const char *text, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	bool parsed;

	memcpy(copy, text, len);
	memset(&report, 0x5A, sizeof(report));
	reason = "not set";
	parsed = report_parse(copy, len, &report, &reason);
	free(copy);
	return parsed;
}

static bool
parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static void
accepts(const char *text)
{
	if (!ok(parse(text) && reason == NULL, "accepted: %.70s", text))
		diag("%s", reason ? reason : "but a reason is given");
}

static void
refuses(const char *text, const char *why)
{
	ok(!parse(text), "refused: %.70s", text);
	is_str(reason, why, "  because: %s", why);
}

/* The reasons, as the log and the view show them. */
#define BAD_LENGTH "longer than 2048 bytes"
#define BAD_BYTE "a byte that is not printable ASCII"
#define BAD_FIELD "a field that is not key=value"
#define BAD_FIRST "does not begin with v"
#define BAD_VERSION "unknown version"
#define BAD_REPEAT "a key that comes twice"
#define BAD_NUMBER "not a number, or out of range"
#define BAD_FLAG "neither 0 nor 1"
#define BAD_SEQ "seq is missing or 0"
#define BAD_HISTOGRAM "not a histogram"
#define BAD_BUCKET "a bucket that does not exist or comes twice"
#define BAD_TALLY "not a list of numbers by code"
#define BAD_CODE "a code that is no number or comes twice"
#define BAD_LOAN "not a loan"
#define BAD_LOANS "more than 8 loans"
#define BAD_ESCAPE "a byte in thread or site that is not escaped, or badly"

static const char full[] =
	"v=1;seq=7;ack=3;max=20;min=2;opening=1;idle=4;in_use=10;resetting=2;closing=3;waiting=62;"
	"acquires=100;timeouts=318;opened=55;closed=44;open_failures=6;leaks=5;wait=0:1,10:2,31:3;"
	"found_dead=21;discarded=22;resets=23;abandoned=24;finished=25;errors=0:1,11:2,47:3;"
	"closed_by=0:4,15:5;hold=5:9;loans=4711:60000:12:billing.c%3A214,4712:0:main%2D1:a/b.c+7;bye=1";

static void
test_every_key(void)
{
	accepts(full);
	is_int(report.seq, 7, "seq");
	is_int(report.ack, 3, "ack");
	ok(report.has_max, "max was given");
	is_int(report.max_size, 20, "max");
	is_int(report.min_size, 2, "min");
	is_int(report.opening, 1, "opening");
	is_int(report.idle, 4, "idle");
	is_int(report.in_use, 10, "in_use");
	is_int(report.resetting, 2, "resetting");
	is_int(report.closing, 3, "closing");
	is_int(report.waiting, 62, "waiting");
	is_int(report.counted.acquires, 100, "acquires");
	is_int(report.counted.timeouts, 318, "timeouts");
	is_int(report.counted.opened, 55, "opened");
	is_int(report.counted.closed, 44, "closed");
	is_int(report.counted.open_failures, 6, "open_failures");
	is_int(report.leaks, 5, "leaks");
	is_int(report.counted.found_dead, 21, "found_dead");
	is_int(report.counted.discarded, 22, "discarded");
	is_int(report.counted.resets, 23, "resets");
	is_int(report.counted.abandoned, 24, "abandoned");
	is_int(report.counted.finished, 25, "finished");
	is_int(report.counted.errors[0] * 100 + report.counted.errors[11] * 10 +
			   report.counted.errors[47],
		   123, "errors");
	is_int(report.counted.closed_by[0] * 10 + report.counted.closed_by[15], 45, "closed_by");
	ok(report.bye, "bye");
	is_int(report.counted.wait[0] + report.counted.wait[10] + report.counted.wait[31], 6,
		   "wait: the buckets given");
	is_int(report.counted.wait[10], 2, "wait: one of them");
	is_int(report.counted.wait[9], 0, "wait: others are 0");
	is_int(report.counted.hold[5], 9, "hold");
	is_int(report.nloans, 2, "loans");
	is_int(report.loans[0].pid, 4711, "loan: pid");
	is_int(report.loans[0].age_ms, 60000, "loan: age");
	is_str(report.loans[0].thread, "12", "loan: thread");
	is_str(report.loans[0].site, "billing.c:214", "loan: site, decoded");
	is_str(report.loans[1].thread, "main-1", "second loan: thread, decoded");
	is_str(report.loans[1].site, "a/b.c+7", "second loan: site");
	is_int(report_size(&report), 20, "size is all but waiting");
	is_int(report_demand(&report), 72, "demand is in use and waiting");
}

static bool
all_zero(const void *memory, size_t size)
{
	const unsigned char *bytes = memory;

	while (size > 0 && bytes[size - 1] == 0)
		size--;
	return size == 0;
}

static void
test_absent_keys(void)
{
	accepts("v=1;seq=1");
	is_int(report.seq, 1, "what is there is there");
	report.seq = 0;
	ok(all_zero(&report, sizeof(report)), "what is absent is 0, to the last byte");
	ok(report_parse("v=1;seq=1", 9, &report, NULL), "nobody needs to ask for the reason");
	ok(!report_parse("v=2;seq=1", 9, &report, NULL), "also of a refusal");
}

static void
test_fields(void)
{
	accepts("v=1;seq=1;colour=blue;x=;y=a=b;colour=red");
	accepts("v=1;max=0;seq=1");
	ok(report.has_max && report.max_size == 0, "max=0 was given all the same");
	accepts("v=1;ack=0;seq=1;bye=0;wait=;hold=;loans=");
	ok(!report.bye && report.nloans == 0, "empty lists are lists, bye=0 is no bye");
	accepts("v=0001;seq=000000000000000000000000000000000009");
	is_int(report.seq, 9, "zeros in front do not matter");

	refuses("", BAD_FIELD);
	refuses("v", BAD_FIELD);
	refuses(";", BAD_FIELD);
	refuses("v=1;seq=1;", BAD_FIELD);
	refuses("v=1;;seq=1", BAD_FIELD);
	refuses("v=1;seq=1;idle", BAD_FIELD);
	refuses("v=1;seq=1;=5", BAD_FIELD);
	refuses("seq=1;v=1", BAD_FIRST);
	refuses("colour=blue;v=1;seq=1", BAD_FIRST);
	refuses(" v=1;seq=1", BAD_FIRST);
	refuses("V=1;seq=1", BAD_FIRST);
	refuses("v=2;seq=1", BAD_VERSION);
	refuses("v=0;seq=1", BAD_VERSION);
	refuses("v=;seq=1", BAD_VERSION);
	refuses("v=1.0;seq=1", BAD_VERSION);
	refuses("v=1;v=1;seq=1", BAD_REPEAT);
	refuses("v=1;seq=1;seq=2", BAD_REPEAT);
	refuses("v=1;seq=1;bye=1;bye=1", BAD_REPEAT);
	refuses("v=1;seq=1;loans=;loans=", BAD_REPEAT);
	refuses("v=1", BAD_SEQ);
	refuses("v=1;seq=0", BAD_SEQ);
	refuses("v=1;Seq=1", BAD_SEQ);
	refuses("v=1;seq=1;bye=2", BAD_FLAG);
	refuses("v=1;seq=1;bye=", BAD_FLAG);
	refuses("v=1;seq=1;bye=yes", BAD_FLAG);
}

/* Each key has its range; just inside and just outside of it. */
static void
test_ranges(void)
{
	static const char *const counts[] = { "max",	   "min",	  "opening", "idle", "in_use",
										  "resetting", "closing", "waiting", "leaks" };
	static const char *const counters[] = { "ack",	  "acquires",	   "timeouts",	 "opened",
											"closed", "open_failures", "found_dead", "discarded",
											"resets", "abandoned",	   "finished" };
	static const char *const bad[] = { "",
									   "-1",
									   "+1",
									   "1.5",
									   "1e3",
									   "0x10",
									   "nan",
									   "NaN",
									   "inf",
									   " 1",
									   "1 ",
									   "1,",
									   "9223372036854775808",
									   "18446744073709551616",
									   "99999999999999999999999999" };
	char text[128];

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
	{
		snprintf(text, sizeof(text), "v=1;seq=1;%s=2147483647", counts[i]);
		accepts(text);
		snprintf(text, sizeof(text), "v=1;seq=1;%s=2147483648", counts[i]);
		refuses(text, BAD_NUMBER);
	}
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
	{
		snprintf(text, sizeof(text), "v=1;seq=1;%s=9223372036854775807", counters[i]);
		accepts(text);
		snprintf(text, sizeof(text), "v=1;seq=1;%s=9223372036854775808", counters[i]);
		refuses(text, BAD_NUMBER);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		snprintf(text, sizeof(text), "v=1;seq=1;idle=%s", bad[i]);
		refuses(text, BAD_NUMBER);
		snprintf(text, sizeof(text), "v=1;seq=%s", bad[i]);
		refuses(text, BAD_NUMBER);
	}
	accepts("v=1;seq=9223372036854775807;acquires=9223372036854775807");
	ok(report.seq == INT64_MAX && report.counted.acquires == INT64_MAX,
	   "the largest number is kept");
}

static void
test_saturation(void)
{
	accepts("v=1;seq=1;opening=2147483647;idle=2147483647;in_use=2147483647;"
			"resetting=2147483647;closing=2147483647;waiting=2147483647");
	is_int(report_size(&report), INT32_MAX, "size saturates");
	is_int(report_demand(&report), INT32_MAX, "demand saturates");
	accepts("v=1;seq=1;in_use=2147483646;waiting=1");
	is_int(report_demand(&report), INT32_MAX, "but not before");
}

static void
test_bytes(void)
{
	static const char bytes[] = { 0, 1, '\t', '\n', '\r', 0x1f, 0x7f, (char) 0x80, (char) 0xff };
	char text[REPORT_MAX_BYTES + 1];
	int head;

	for (size_t i = 0; i < sizeof(bytes); i++)
	{
		snprintf(text, sizeof(text), "v=1;seq=1;x=?");
		text[12] = bytes[i];
		ok(!parse_bytes(text, 13), "byte 0x%02x is refused", (unsigned char) bytes[i]);
		is_str(reason, BAD_BYTE, "  as a byte");
	}
	accepts("v=1;seq=1;x= !\"#$%&'()*+,-./:<=>?@[\\]^_`{|}~");

	head = snprintf(text, sizeof(text), "v=1;seq=1;x=");
	memset(text + head, 'x', sizeof(text) - (size_t) head);
	ok(parse_bytes(text, REPORT_MAX_BYTES), "2048 bytes are accepted");
	ok(!parse_bytes(text, REPORT_MAX_BYTES + 1), "2049 are not");
	is_str(reason, BAD_LENGTH, "  as too long");
}

static void
test_histograms(void)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "v=1;seq=1;wait=");

	for (int k = REPORT_BUCKETS - 1; k >= 0; k--)
		len +=
			snprintf(text + len, sizeof(text) - (size_t) len, "%d:%d%s", k, 1000 + k, k ? "," : "");
	accepts(text);
	ok(report.counted.wait[0] == 1000 && report.counted.wait[31] == 1031,
	   "all buckets, in any order");
	accepts("v=1;seq=1;hold=31:9223372036854775807");
	ok(report.counted.hold[31] == INT64_MAX, "the largest number is kept");

	refuses("v=1;seq=1;wait=32:1", BAD_BUCKET);
	refuses("v=1;seq=1;wait=-1:1", BAD_BUCKET);
	refuses("v=1;seq=1;wait=:1", BAD_BUCKET);
	refuses("v=1;seq=1;wait=4294967296:1", BAD_BUCKET);
	refuses("v=1;seq=1;wait=3:1,3:1", BAD_BUCKET);
	refuses("v=1;seq=1;hold=31:1,0:1,31:1", BAD_BUCKET);
	refuses("v=1;seq=1;wait=3", BAD_HISTOGRAM);
	refuses("v=1;seq=1;wait=3:1,", BAD_HISTOGRAM);
	refuses("v=1;seq=1;wait=,3:1", BAD_HISTOGRAM);
	refuses("v=1;seq=1;wait=3:", BAD_NUMBER);
	refuses("v=1;seq=1;wait=3:-1", BAD_NUMBER);
	refuses("v=1;seq=1;wait=3:1:1", BAD_NUMBER);
	refuses("v=1;seq=1;wait=3:9223372036854775808", BAD_NUMBER);
}

static void
test_tallies(void)
{
	accepts("v=1;seq=1;errors=;closed_by=");
	accepts("v=1;seq=1;errors=47:9223372036854775807,1:0;closed_by=15:1");
	ok(report.counted.errors[47] == INT64_MAX, "the largest number is kept");
	accepts("v=1;seq=1;errors=48:1,2147483647:5,48:7,11:2;closed_by=16:1,3:4");
	is_int(report.counted.errors[11], 2, "codes of a later client are passed over");
	is_int(report.counted.closed_by[3], 4, "reasons, too");
	report.seq = report.counted.errors[11] = report.counted.closed_by[3] = report.given = 0;
	ok(all_zero(&report, sizeof(report)), "and written nowhere");

	refuses("v=1;seq=1;errors=1", BAD_TALLY);
	refuses("v=1;seq=1;errors=1:1,", BAD_TALLY);
	refuses("v=1;seq=1;errors=,1:1", BAD_TALLY);
	refuses("v=1;seq=1;errors=-1:1", BAD_CODE);
	refuses("v=1;seq=1;errors=:1", BAD_CODE);
	refuses("v=1;seq=1;errors=timed_out:1", BAD_CODE);
	refuses("v=1;seq=1;errors=2147483648:1", BAD_CODE);
	refuses("v=1;seq=1;errors=3:1,3:1", BAD_CODE);
	refuses("v=1;seq=1;closed_by=15:1,0:1,15:1", BAD_CODE);
	refuses("v=1;seq=1;errors=3:", BAD_NUMBER);
	refuses("v=1;seq=1;errors=3:-1", BAD_NUMBER);
	refuses("v=1;seq=1;errors=99:-1", BAD_NUMBER);
	refuses("v=1;seq=1;errors=3:1:1", BAD_NUMBER);
	refuses("v=1;seq=1;closed_by=3:9223372036854775808", BAD_NUMBER);
	refuses("v=1;seq=1;errors=;errors=", BAD_REPEAT);
	refuses("v=1;seq=1;found_dead=1;found_dead=1", BAD_REPEAT);
}

static bool
anew(const char *before, const char *now)
{
	Report earlier;

	if (!parse(before))
		return false;
	earlier = report;
	return parse(now) && report_began_anew(&report, &earlier);
}

static void
test_began_anew(void)
{
	ok(!anew("v=1;seq=1;acquires=5;errors=1:5", "v=1;seq=2;acquires=5;errors=1:6"), "it goes on");
	ok(!anew("v=1;seq=1;acquires=5;errors=1:5", "v=1;seq=2"), "what is left out tells nothing");
	ok(anew("v=1;seq=1;acquires=5", "v=1;seq=2;acquires=4"), "a counter is lower: it began anew");
	ok(anew("v=1;seq=1;acquires=5;finished=1", "v=1;seq=2;acquires=9;finished=0"), "one is enough");
	ok(anew("v=1;seq=1;errors=1:5,2:1", "v=1;seq=2;errors=1:5"), "an error");
	ok(anew("v=1;seq=1;closed_by=15:1", "v=1;seq=2;closed_by="), "a reason");
	ok(!anew("v=1;seq=1;hold=5:63;wait=5:1", "v=1;seq=2;hold=6:70;wait="), "not a bucket");
	ok(!anew("v=1;seq=1;in_use=5;leaks=3;ack=9", "v=1;seq=2;in_use=4;leaks=0;ack=1"),
	   "nor what is no counter");
}

static void
test_keep_counters(void)
{
	Report before;

	accepts(full);
	before = report;
	accepts("v=1;seq=8;acquires=101;closed_by=0:5,15:5;wait=0:2,10:1,31:3");
	report_keep_counters(&report, &before);
	is_int(report.counted.acquires, 101, "what is given counts");
	is_int(report.counted.timeouts, 318, "what is left out is what it was");
	is_int(report.counted.finished, 25, "a later key");
	is_int(report.counted.errors[11], 2, "errors");
	is_int(report.counted.hold[5], 9, "a histogram");
	is_int(report.counted.closed_by[0], 5, "a given list is taken");
	is_int(report.counted.wait[0], 2, "a given histogram, too");
	is_int(report.counted.wait[10], 2, "but no bucket falls");
	is_int(report.in_use + report.leaks + (int) report.ack, 0, "what is no counter is not kept");
}

static void
test_loans(void)
{
	accepts("v=1;seq=1;loans=1:1::,2:2::,3:3::,4:4::,5:5::,6:6::,7:7::,8:8::");
	is_int(report.nloans, REPORT_LOANS, "the most loans");
	is_str(report.loans[7].site, "", "thread and site may be empty");
	accepts("v=1;seq=1;loans=0:9223372036854775807:AZaz09_./+-:%20%2c%2C%ff%01");
	is_str(report.loans[0].thread, "AZaz09_./+-", "what need not be escaped");
	is_str(report.loans[0].site, " ,,\xff\x01", "any byte but zero, in either case of hex");

	refuses("v=1;seq=1;loans=1:1::,2:2::,3:3::,4:4::,5:5::,6:6::,7:7::,8:8::,9:9::", BAD_LOANS);
	refuses("v=1;seq=1;loans=1", BAD_LOAN);
	refuses("v=1;seq=1;loans=1:1:t", BAD_LOAN);
	refuses("v=1;seq=1;loans=1:1:t:s,", BAD_LOAN);
	refuses("v=1;seq=1;loans=2147483648:1:t:s", BAD_NUMBER);
	refuses("v=1;seq=1;loans=-1:1:t:s", BAD_NUMBER);
	refuses("v=1;seq=1;loans=:1:t:s", BAD_NUMBER);
	refuses("v=1;seq=1;loans=1::t:s", BAD_NUMBER);
	refuses("v=1;seq=1;loans=1:9223372036854775808:t:s", BAD_NUMBER);
	refuses("v=1;seq=1;loans=1:1:t:s:x", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t t:s", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:s\\", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:s%", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:s%4", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:%4:41", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:%4g", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:%g4", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:t:%+4", BAD_ESCAPE);
	refuses("v=1;seq=1;loans=1:1:a%00b:s", BAD_ESCAPE);
}

static void
test_cutting(void)
{
	accepts("v=1;seq=1;loans=1:1:aaaaaaaaaabbbbbbbbbbccc:"
			"0123456789012345678901234567890123456789012345678901234567890.c");
	is_int(strlen(report.loans[0].thread), REPORT_THREAD_LEN - 1, "the longest thread is whole");
	is_int(strlen(report.loans[0].site), REPORT_SITE_LEN - 1, "the longest site is whole");
	accepts("v=1;seq=1;loans=1:1:aaaaaaaaaabbbbbbbbbbcccXX%41:"
			"XX%410123456789012345678901234567890123456789012345678901234567890.c");
	is_str(report.loans[0].thread, "aaaaaaaaaabbbbbbbbbbccc", "a thread loses its end");
	is_str(report.loans[0].site, "0123456789012345678901234567890123456789012345678901234567890.c",
		   "a site loses its beginning");
	refuses("v=1;seq=1;loans=1:1:aaaaaaaaaabbbbbbbbbbcccXX%:s", BAD_ESCAPE);
}

static double
quantile(const char *histogram, double q)
{
	char text[512];

	snprintf(text, sizeof(text), "v=1;seq=1;wait=%s", histogram);
	return parse(text) ? report_quantile_ms(report.counted.wait, q) : NAN;
}

static void
quantile_is(const char *histogram, double q, double expected)
{
	double got = quantile(histogram, q);

	if (!ok(fabs(got - expected) <= fabs(expected) * 1e-12, "quantile %g of %s is %g ms", q,
			histogram, expected))
		diag("got %.17g", got);
}

static void
test_quantiles(void)
{
	int64_t odd[REPORT_BUCKETS] = { [3] = -5, [11] = 4, [12] = -1 };

	quantile_is("", 0.5, -1);
	quantile_is("5:0", 0.99, -1);
	quantile_is("0:1", 1, 0.001);
	quantile_is("0:4", 0.5, 0.0005);
	quantile_is("1:1", 0.5, 0.0015);
	quantile_is("1:1", 1, 0.002);
	quantile_is("11:10", 0.5, 1.536); /* 1024 to 2048 us: the middle */
	quantile_is("11:10", 1, 2.048);
	quantile_is("11:10,13:10", 0.5, 2.048);
	quantile_is("11:10,13:10", 0.75, 6.144); /* 4096 to 8192 us: the middle */
	quantile_is("0:90,21:10", 0.9, 0.001);
	quantile_is("0:90,21:10", 0.99, 1992.2944); /* 9 tenths of 1048576 to 2097152 us */
	quantile_is("30:1", 1, 1073741.824);
	quantile_is("31:1", 0.01, 1073741.824);
	quantile_is("31:1", 1, 1073741.824);
	quantile_is("0:1,31:99", 0.5, 1073741.824);
	quantile_is("0:9223372036854775807,5:9223372036854775807", 1, 0.032);
	ok(fabs(report_quantile_ms(odd, 0.5) - 1.536) < 1e-12, "counts below 1 are passed over");
	ok(quantile("3:7,9:1,20:30", 1e-9) >= 0.004, "the lowest quantile lies in the lowest bucket");
}

static bool
quantiles_are_ordered(void)
{
	double last = 0;

	for (int i = 1; i <= 100; i++)
	{
		double now = report_quantile_ms(report.counted.wait, i / 100.0);

		if (now < last || !isfinite(now))
			return false;
		last = now;
	}
	return true;
}

static uint64_t random_state = 42;

static unsigned int
random_below(unsigned int n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1;
	return (unsigned int) (random_state >> 33) % n;
}

static void
test_random_quantiles(void)
{
	int wrong = 0;

	memset(&report, 0, sizeof(report));
	for (int round = 0; round < 5000; round++)
	{
		for (int k = 0; k < REPORT_BUCKETS; k++)
			report.counted.wait[k] = random_below(3) ? 0 : 1 + random_below(1000);
		report.counted.wait[random_below(REPORT_BUCKETS)] = 1;
		wrong += !quantiles_are_ordered();
	}
	is_int(wrong, 0, "a higher quantile is never smaller");
}

/* Everything that a Report promises, whatever the text was. */
static bool
sound(void)
{
	const int32_t counts[] = { report.max_size, report.min_size,	 report.opening,
							   report.idle,		report.in_use,		 report.resetting,
							   report.closing,	report.waiting,		 report.leaks,
							   report.nloans,	report_size(&report) };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (counts[i] < 0)
			return false;
	for (int k = 0; k < REPORT_BUCKETS; k++)
		if (report.counted.wait[k] < 0 || report.counted.hold[k] < 0)
			return false;
	for (int i = 0; i < report.nloans; i++)
		if (report.loans[i].pid < 0 || report.loans[i].age_ms < 0 ||
			memchr(report.loans[i].thread, 0, REPORT_THREAD_LEN) == NULL ||
			memchr(report.loans[i].site, 0, REPORT_SITE_LEN) == NULL)
			return false;
	for (int i = 0; i < REPORT_ERRORS; i++)
		if (report.counted.errors[i] < 0 || report.counted.closed_by[i % REPORT_REASONS] < 0)
			return false;
	return report.nloans <= REPORT_LOANS && report.seq > 0 && report.counted.acquires >= 0 &&
		   report.counted.finished >= 0;
}

/* Change, remove, repeat or insert something, as a broken client or a hostile one might. */
static size_t
mutate(char *text, size_t len, size_t size)
{
	static const char likely[] = "0123456789;=:,%vseqloans-";
	size_t at = random_below((unsigned int) len);
	size_t part = 1 + random_below(12);

	if (part > len - at)
		part = len - at;
	switch (random_below(4))
	{
		case 0:
			text[at] = (char) random_below(256);
			return len;
		case 1:
			text[at] = likely[random_below(sizeof(likely) - 1)];
			return len;
		case 2:
			if (len == part)
				return len;
			memmove(text + at, text + at + part, len - at - part);
			return len - part;
		default:
			if (len + part > size)
				return len;
			memmove(text + at + part, text + at, len - at);
			return len + part;
	}
}

static void
test_mutations(void)
{
	const int rounds = 300000;
	int wrong = 0;
	int accepted = 0;

	for (int round = 0; round < rounds; round++)
	{
		char text[sizeof(full) + 64];
		size_t len = sizeof(full) - 1;

		memcpy(text, full, len);
		for (unsigned int i = random_below(4) + 1; i > 0; i--)
			len = mutate(text, len, sizeof(text));
		if (parse_bytes(text, len))
		{
			accepted++;
			wrong += !sound() || reason != NULL;
		}
		else
			wrong += reason == NULL;
	}
	is_int(wrong, 0, "%d broken texts: refused with a reason, or a sound report", rounds);
	ok(accepted > rounds / 100 && accepted < rounds, "of these some were accepted: %d", accepted);
}

/*---- moments ----*/

static double
unit(void)
{
	return (random_below(1000000) + 0.5) / 1000000.0;
}

/* Distributions of mean 1. */
static double
exponential(void)
{
	return -log(unit());
}

static double
erlang4(void)
{
	return (exponential() + exponential() + exponential() + exponential()) / 4;
}

/* Rather like normal(0, 1): twelve uniforms. */
static double
lognormal(void)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += unit();
	return exp(sum - 0.5);
}

/* Means of 100 us to 100 ms, so that they come to lie everywhere within a bucket. */
static void
moments_are(const char *name, double (*one)(void), double variation, double variation_bound)
{
	double worst = 0, worst_variation = 0;

	for (int step = 0; step < 14; step++)
	{
		double mean = 0.1 * pow(1.7, step);
		int64_t buckets[REPORT_BUCKETS] = { 0 };
		double sum = 0, got, got_variation;
		int64_t n;

		for (int i = 0; i < 50000; i++)
		{
			double us = mean * 1000 * one();
			int k = 0;

			while (k < REPORT_BUCKETS - 1 && us >= ldexp(1, k))
				k++;
			buckets[k]++;
			sum += us / 1000;
		}
		report_moments(buckets, buckets, &n, &got, &got_variation);
		worst = fmax(worst, n == 50000 ? fabs(got / (sum / 50000) - 1) : INFINITY);
		worst_variation = fmax(worst_variation, fabs(got_variation / variation - 1));
	}
	ok(worst <= 0.05, "mean of %s within 5 %% (%.1f %%)", name, worst * 100);
	ok(worst_variation <= variation_bound, "and its variation within %.0f %% (%.1f %%)",
	   variation_bound * 100, worst_variation * 100);
}

/*
 * The mean of a mean, ten times at a time: without a shape it would be too high, for most
 * buckets have no neighbours then.
 */
static void
test_moments_of_parts(void)
{
	enum
	{
		PARTS = 5000,
		PART = 10
	};
	static int64_t parts[PARTS][REPORT_BUCKETS];
	int64_t all[REPORT_BUCKETS] = { 0 };
	int64_t little[REPORT_BUCKETS] = { 0 };
	double exact = 0, by_parts = 0, alone = 0, mean, ignored;
	int64_t n;

	memset(parts, 0, sizeof(parts));
	for (int i = 0; i < PARTS * PART; i++)
	{
		double us = 50000 * exponential();
		int k = 0;

		while (k < REPORT_BUCKETS - 1 && us >= ldexp(1, k))
			k++;
		parts[i / PART][k]++;
		all[k]++;
		exact += us / 1000 / (PARTS * PART);
	}
	for (int i = 0; i < PARTS; i++)
	{
		report_moments(parts[i], all, &n, &mean, &ignored);
		by_parts += mean * (double) n / (PARTS * PART);
		report_moments(parts[i], parts[i], &n, &mean, &ignored);
		alone += mean * (double) n / (PARTS * PART);
	}
	report_moments(all, all, &n, &mean, &ignored);
	ok(fabs(by_parts / mean - 1) < 1e-9, "means of parts make the mean of the whole");
	ok(fabs(by_parts / exact - 1) < 0.005, "which is that of the times within 0.5 %% (%+.2f %%)",
	   (by_parts / exact - 1) * 100);
	ok(alone / exact > 1.03, "if each part were all that is known: %+.1f %%",
	   (alone / exact - 1) * 100);
	report_moments(all, little, &n, &alone, &ignored);
	ok(alone == mean, "a shape that knows of fewer than there are is none");
}

static void
test_moments(void)
{
	int64_t buckets[REPORT_BUCKETS] = { 0 };
	int64_t n;
	double mean, variation;

	report_moments(buckets, buckets, &n, &mean, &variation);
	ok(n == 0 && mean < 0 && variation < 0, "no times have no mean");
	buckets[11] = 7;
	report_moments(buckets, buckets, &n, &mean, &variation);
	ok(n == 7 && fabs(mean - 1.536) < 1e-12, "one bucket: its middle");
	ok(fabs(variation - 1.0 / 27) < 1e-12, "and even within it");
	buckets[12] = 1;
	report_moments(buckets, buckets, &n, &mean, &variation);
	ok(mean > 1.6 && mean < 1.8, "one that came late moves only itself (%.3f)", mean);
	buckets[12] = 0;
	buckets[11] = -7;
	buckets[31] = INT64_MAX;
	buckets[30] = INT64_MAX;
	report_moments(buckets, buckets, &n, &mean, &variation);
	ok(n == INT64_MAX && isfinite(mean) && isfinite(variation), "the most there can be");
	for (int k = 0; k < REPORT_BUCKETS; k++)
		buckets[k] = k % 2 ? INT64_MAX : 1;
	report_moments(buckets, buckets, &n, &mean, &variation);
	ok(isfinite(mean) && mean > 0 && isfinite(variation), "the steepest there can be");
	moments_are("an exponential distribution", exponential, 1, 0.10);
	moments_are("a lognormal one", lognormal, exp(1) - 1, 0.15);
	moments_are("a narrower one", erlang4, 0.25, 0.25);
}

int
main(void)
{
	test_every_key();
	test_absent_keys();
	test_fields();
	test_ranges();
	test_saturation();
	test_bytes();
	test_histograms();
	test_tallies();
	test_began_anew();
	test_keep_counters();
	test_loans();
	test_cutting();
	test_quantiles();
	test_random_quantiles();
	test_moments();
	test_moments_of_parts();
	test_mutations();
	return done_testing();
}
