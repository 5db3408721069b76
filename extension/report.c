/*-------------------------------------------------------------------------
 *
 * report.c
 *	  What an instance tells the server: the text, taken apart and checked.
 *
 * The text comes from whoever may open a session, so nothing about it is
 * believed: a report is either right from end to end or not used at all.  That
 * is cheaper to explain than half a report, and a client that is wrong shows
 * up in pgpool_monitor.info at once and not as a figure that looks odd.
 *
 * Invariants: no byte is read beyond the text's length; every number is
 * checked against the range of the field it goes into before it is stored;
 * each text in a Report is terminated and holds no zero byte before its end.
 *
 * What is left to the caller: whether seq is new, whether the sums are
 * plausible, and to escape thread and site before showing them, since they may
 * hold any byte but zero.
 *
 *-------------------------------------------------------------------------
 */
#include "report.h"

#include <math.h>
#include <string.h>

/* A part of the text, by its two ends; shrinks from the left as it is read. */
typedef struct Span
{
	const char *at;
	const char *end;
} Span;

typedef enum KeyKind
{
	KEY_VERSION,
	KEY_NUMBER,	 /* uint64_t, at most INT64_MAX */
	KEY_COUNTER, /* int64_t */
	KEY_COUNT,	 /* int32_t */
	KEY_FLAG,	 /* bool */
	KEY_HISTOGRAM,
	KEY_ERRORS,	 /* int64_t[REPORT_ERRORS] */
	KEY_REASONS, /* int64_t[REPORT_REASONS] */
	KEY_LOANS
} KeyKind;

typedef struct Key
{
	const char *name;
	KeyKind kind;
	size_t offset; /* of the field in Report */
} Key;

/* Positions of the keys that are treated apart. */
enum
{
	AT_VERSION,
	AT_SEQ,
	AT_MAX
};

static const Key keys[] = {
	[AT_VERSION] = { "v", KEY_VERSION, 0 },
	[AT_SEQ] = { "seq", KEY_NUMBER, offsetof(Report, seq) },
	[AT_MAX] = { "max", KEY_COUNT, offsetof(Report, max_size) },
	{ "ack", KEY_NUMBER, offsetof(Report, ack) },
	{ "min", KEY_COUNT, offsetof(Report, min_size) },
	{ "opening", KEY_COUNT, offsetof(Report, opening) },
	{ "idle", KEY_COUNT, offsetof(Report, idle) },
	{ "in_use", KEY_COUNT, offsetof(Report, in_use) },
	{ "resetting", KEY_COUNT, offsetof(Report, resetting) },
	{ "closing", KEY_COUNT, offsetof(Report, closing) },
	{ "waiting", KEY_COUNT, offsetof(Report, waiting) },
	{ "leaks", KEY_COUNT, offsetof(Report, leaks) },
	{ "acquires", KEY_COUNTER, offsetof(Report, counted.acquires) },
	{ "timeouts", KEY_COUNTER, offsetof(Report, counted.timeouts) },
	{ "opened", KEY_COUNTER, offsetof(Report, counted.opened) },
	{ "closed", KEY_COUNTER, offsetof(Report, counted.closed) },
	{ "open_failures", KEY_COUNTER, offsetof(Report, counted.open_failures) },
	{ "found_dead", KEY_COUNTER, offsetof(Report, counted.found_dead) },
	{ "discarded", KEY_COUNTER, offsetof(Report, counted.discarded) },
	{ "resets", KEY_COUNTER, offsetof(Report, counted.resets) },
	{ "abandoned", KEY_COUNTER, offsetof(Report, counted.abandoned) },
	{ "finished", KEY_COUNTER, offsetof(Report, counted.finished) },
	{ "errors", KEY_ERRORS, offsetof(Report, counted.errors) },
	{ "closed_by", KEY_REASONS, offsetof(Report, counted.closed_by) },
	{ "wait", KEY_HISTOGRAM, offsetof(Report, counted.wait) },
	{ "hold", KEY_HISTOGRAM, offsetof(Report, counted.hold) },
	{ "loans", KEY_LOANS, 0 },
	{ "bye", KEY_FLAG, offsetof(Report, bye) },
};

#define KEYS ((int) (sizeof(keys) / sizeof(keys[0])))

_Static_assert(sizeof(keys) / sizeof(keys[0]) <= 32, "a bit of 32 for each key");

/* What can be wrong: constants, so that a reason outlives the text. */
static const char bad_length[] = "longer than 2048 bytes";
static const char bad_byte[] = "a byte that is not printable ASCII";
static const char bad_field[] = "a field that is not key=value";
static const char bad_first[] = "does not begin with v";
static const char bad_version[] = "unknown version";
static const char bad_repeat[] = "a key that comes twice";
static const char bad_number[] = "not a number, or out of range";
static const char bad_flag[] = "neither 0 nor 1";
static const char bad_seq[] = "seq is missing or 0";
static const char bad_histogram[] = "not a histogram";
static const char bad_bucket[] = "a bucket that does not exist or comes twice";
static const char bad_tally[] = "not a list of numbers by code";
static const char bad_code[] = "a code that is no number or comes twice";
static const char bad_loan[] = "not a loan";
static const char bad_loans[] = "more than 8 loans";
static const char bad_escape[] = "a byte in thread or site that is not escaped, or badly";

static bool
empty(const Span *span)
{
	return span->at == span->end;
}

/*
 * Cut off what stands before the next `separator`, and the separator.  Without
 * one the part is all the rest, and false is returned.
 */
static bool
take_part(Span *rest, char separator, Span *part)
{
	const char *cut = memchr(rest->at, separator, (size_t) (rest->end - rest->at));

	part->at = rest->at;
	part->end = cut ? cut : rest->end;
	rest->at = cut ? cut + 1 : rest->end;
	return cut != NULL;
}

/* The whole span is a decimal number, and one of at most `max`. */
static bool
read_number(const Span *span, uint64_t max, uint64_t *number)
{
	uint64_t value = 0;

	if (empty(span))
		return false;
	for (const char *at = span->at; at < span->end; at++)
	{
		uint64_t digit = (uint64_t) (*at - '0');

		if (*at < '0' || *at > '9' || digit > max || value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*number = value;
	return true;
}

static const char *
read_count(const Span *value, int32_t *count)
{
	uint64_t number;

	if (!read_number(value, INT32_MAX, &number))
		return bad_number;
	*count = (int32_t) number;
	return NULL;
}

static const char *
read_counter(const Span *value, int64_t *counter)
{
	uint64_t number;

	if (!read_number(value, INT64_MAX, &number))
		return bad_number;
	*counter = (int64_t) number;
	return NULL;
}

static const char *
read_flag(const Span *value, bool *flag)
{
	uint64_t number;

	if (!read_number(value, 1, &number))
		return bad_flag;
	*flag = (number == 1);
	return NULL;
}

/* One k:n of a histogram; `seen` has a bit for each bucket that was given. */
static const char *
read_bucket(Span item, int64_t *buckets, uint32_t *seen)
{
	Span part;
	uint64_t bucket;

	if (!take_part(&item, ':', &part))
		return bad_histogram;
	if (!read_number(&part, REPORT_BUCKETS - 1, &bucket) || (*seen >> bucket & 1))
		return bad_bucket;
	*seen |= UINT32_C(1) << bucket;
	return read_counter(&item, &buckets[bucket]);
}

/* An empty list is a list: of no buckets here, of no loans below. */
static const char *
read_histogram(Span value, int64_t *buckets)
{
	uint32_t seen = 0;
	bool more = !empty(&value);

	while (more)
	{
		const char *wrong;
		Span item;

		more = take_part(&value, ',', &item);
		wrong = read_bucket(item, buckets, &seen);
		if (wrong)
			return wrong;
	}
	return NULL;
}

/*
 * One k:n of a tally.  A code that is not known yet, as a later client may have,
 * is passed over, as an unknown key is.
 */
static const char *
read_entry(Span item, int64_t *counts, int n, uint64_t *seen)
{
	Span part;
	uint64_t code;
	int64_t unknown;

	if (!take_part(&item, ':', &part))
		return bad_tally;
	if (!read_number(&part, INT32_MAX, &code))
		return bad_code;
	if (code >= (uint64_t) n)
		return read_counter(&item, &unknown);
	if (*seen >> code & 1)
		return bad_code;
	*seen |= UINT64_C(1) << code;
	return read_counter(&item, &counts[code]);
}

static const char *
read_tally(Span value, int64_t *counts, int n)
{
	uint64_t seen = 0;
	bool more = !empty(&value);

	while (more)
	{
		const char *wrong;
		Span item;

		more = take_part(&value, ',', &item);
		wrong = read_entry(item, counts, n, &seen);
		if (wrong)
			return wrong;
	}
	return NULL;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool
plain_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		   (c != '\0' && strchr("_./+-", c) != NULL);
}

/*
 * Decode the next byte of a thread or a site; 0 if it is not one.  An escaped
 * zero is refused as well: it would end the text before its time.
 */
static char
take_byte(Span *rest)
{
	char c = *rest->at++;
	int high, low;

	if (c != '%')
		return plain_byte(c) ? c : '\0';
	if (rest->end - rest->at < 2)
		return '\0';
	high = hex_digit(*rest->at++);
	low = hex_digit(*rest->at++);
	return (char) (high < 0 || low < 0 ? 0 : high * 16 + low);
}

/*
 * Decode into text[size].  What does not fit is lost at the end, or with
 * keep_end at the beginning: of a path the end tells more.
 */
static bool
read_text(Span rest, char *text, size_t size, bool keep_end)
{
	size_t len = 0;

	while (!empty(&rest))
	{
		char c = take_byte(&rest);

		if (c == '\0')
			return false;
		if (len == size - 1 && !keep_end)
			continue;
		if (len == size - 1)
			memmove(text, text + 1, --len);
		text[len++] = c;
	}
	text[len] = '\0';
	return true;
}

static const char *
read_loan(Span item, ReportLoan *loan)
{
	Span pid, age, thread;

	if (!take_part(&item, ':', &pid) || !take_part(&item, ':', &age) ||
		!take_part(&item, ':', &thread))
		return bad_loan;
	if (read_count(&pid, &loan->pid) || read_counter(&age, &loan->age_ms))
		return bad_number;
	if (!read_text(thread, loan->thread, sizeof(loan->thread), false) ||
		!read_text(item, loan->site, sizeof(loan->site), true))
		return bad_escape;
	return NULL;
}

static const char *
read_loans(Span value, Report *report)
{
	bool more = !empty(&value);

	while (more)
	{
		const char *wrong;
		Span item;

		if (report->nloans == REPORT_LOANS)
			return bad_loans;
		more = take_part(&value, ',', &item);
		wrong = read_loan(item, &report->loans[report->nloans]);
		if (wrong)
			return wrong;
		report->nloans++;
	}
	return NULL;
}

static const char *
read_version(const Span *value)
{
	uint64_t version;

	return read_number(value, INT64_MAX, &version) && version == 1 ? NULL : bad_version;
}

static const char *
read_value(const Key *key, Span value, Report *report)
{
	void *field = (char *) report + key->offset;

	switch (key->kind)
	{
		case KEY_VERSION:
			return read_version(&value);
		case KEY_NUMBER:
			return read_number(&value, INT64_MAX, field) ? NULL : bad_number;
		case KEY_COUNTER:
			return read_counter(&value, field);
		case KEY_COUNT:
			return read_count(&value, field);
		case KEY_FLAG:
			return read_flag(&value, field);
		case KEY_HISTOGRAM:
			return read_histogram(value, field);
		case KEY_ERRORS:
			return read_tally(value, field, REPORT_ERRORS);
		case KEY_REASONS:
			return read_tally(value, field, REPORT_REASONS);
		case KEY_LOANS:
			return read_loans(value, report);
	}
	return bad_field;
}

/* How many numbers that count since the instance began; 0: the key is none of these. */
static int
counters_of(const Key *key)
{
	switch (key->kind)
	{
		case KEY_COUNTER:
			return 1;
		case KEY_HISTOGRAM:
			return REPORT_BUCKETS;
		case KEY_ERRORS:
			return REPORT_ERRORS;
		case KEY_REASONS:
			return REPORT_REASONS;
		default:
			return 0;
	}
}

/* The key's position in keys[], or KEYS if we do not know it. */
static int
find_key(const Span *name)
{
	size_t len = (size_t) (name->end - name->at);
	int k = 0;

	while (k < KEYS && (strlen(keys[k].name) != len || memcmp(keys[k].name, name->at, len) != 0))
		k++;
	return k;
}

/*
 * One key=value.  `seen` has a bit for each key that came; of those that we do
 * not know we cannot tell whether they may come twice.
 */
static const char *
read_field(Span field, Report *report, uint32_t *seen)
{
	Span name;
	int k;

	if (!take_part(&field, '=', &name) || empty(&name))
		return bad_field;
	k = find_key(&name);
	if (*seen == 0 && k != AT_VERSION)
		return bad_first;
	if (k == KEYS)
		return NULL;
	if (*seen >> k & 1)
		return bad_repeat;
	*seen |= UINT32_C(1) << k;
	if (counters_of(&keys[k]) > 0)
		report->given |= UINT32_C(1) << k;
	return read_value(&keys[k], field, report);
}

static const char *
read_fields(Span text, Report *report)
{
	uint32_t seen = 0;
	bool more = true;

	while (more)
	{
		const char *wrong;
		Span field;

		more = take_part(&text, ';', &field);
		wrong = read_field(field, report, &seen);
		if (wrong)
			return wrong;
	}
	report->has_max = (seen >> AT_MAX & 1) != 0;
	return report->seq == 0 ? bad_seq : NULL;
}

static const char *
check_bytes(const Span *text)
{
	if (text->end - text->at > REPORT_MAX_BYTES)
		return bad_length;
	for (const char *at = text->at; at < text->end; at++)
	{
		if (*at < ' ' || *at > '~')
			return bad_byte;
	}
	return NULL;
}

bool
report_parse(const char *text, size_t len, Report *report, const char **reason)
{
	Span span = { text, text + len };
	const char *wrong = check_bytes(&span);

	memset(report, 0, sizeof(*report));
	if (!wrong)
		wrong = read_fields(span, report);
	if (reason)
		*reason = wrong;
	return wrong == NULL;
}

bool
report_began_anew(const Report *report, const Report *before)
{
	for (int k = 0; k < KEYS; k++)
	{
		const int64_t *now = (const void *) ((const char *) report + keys[k].offset);
		const int64_t *then = (const void *) ((const char *) before + keys[k].offset);

		if (keys[k].kind == KEY_HISTOGRAM || !(report->given >> k & 1))
			continue;
		for (int i = 0; i < counters_of(&keys[k]); i++)
			if (now[i] < then[i])
				return true;
	}
	return false;
}

void
report_keep_counters(Report *report, const Report *before)
{
	for (int k = 0; k < KEYS; k++)
	{
		int64_t *now = (void *) ((char *) report + keys[k].offset);
		const int64_t *then = (const void *) ((const char *) before + keys[k].offset);

		for (int i = 0; i < counters_of(&keys[k]); i++)
			if (now[i] < then[i])
				now[i] = then[i];
	}
}

static int32_t
saturate(int64_t sum)
{
	return sum > INT32_MAX ? INT32_MAX : (int32_t) sum;
}

int32_t
report_size(const Report *report)
{
	return saturate((int64_t) report->opening + report->idle + report->in_use + report->resetting +
					report->closing);
}

int32_t
report_demand(const Report *report)
{
	return saturate((int64_t) report->in_use + report->waiting);
}

const ReportLoan *
report_loan(const Report *report, int32_t pid)
{
	for (int i = 0; i < report->nloans; i++)
		if (report->loans[i].pid == pid)
			return &report->loans[i];
	return NULL;
}

/*
 * Where bucket k begins.  Beyond the last one its own beginning is
 * repeated, so that interpolating within the last one answers that.
 */
static double
bucket_start_ms(int k)
{
	if (k == 0)
		return 0.0;
	if (k == REPORT_BUCKETS)
		k--;
	return (double) (UINT32_C(1) << (k - 1)) / 1000.0;
}

/*
 * Counts below 1 are passed over: histograms are also taken as differences of
 * two, and an instance that began anew can make one negative.  The sum is kept
 * as a double, since 32 counts of 64 bits do not fit into one.
 */
double
report_quantile_ms(const int64_t *buckets, double q)
{
	double total = 0, below = 0, answer = -1.0;

	for (int k = 0; k < REPORT_BUCKETS; k++)
		total += buckets[k] > 0 ? (double) buckets[k] : 0.0;

	for (int k = 0; k < REPORT_BUCKETS; k++)
	{
		double start = bucket_start_ms(k);
		double here = (double) buckets[k];
		double wanted = q * total - below;

		if (buckets[k] <= 0)
			continue;
		if (wanted > here)
			wanted = here;
		answer = start + (bucket_start_ms(k + 1) - start) * (wanted / here);
		if (q * total <= below + here)
			break;
		below += here;
	}
	return answer;
}

/*
 * Within a bucket the density of times is taken for exponential, b being its slope on a
 * logarithmic scale: the mean of the slopes to both neighbours; 0 on a peak and in a
 * trough; in the last that has any, the slope that falls to it.  In the first it is 0:
 * times that are all alike, but for a few that came late, would be thought to begin at
 * their bucket's lower end.  The density in the middle of a bucket is not its mean, which
 * is what counts tell: with the slopes found from the means the middles are found, and from
 * these the slopes that hold.  For smooth distributions the mean is within half a percent
 * then; if density were even within a bucket, it would be 8 % too high.
 */
static double
slope_within(const double *density, const double *middle, int k)
{
	double left, right;

	if (k == 0 || density[k - 1] <= 0)
		return 0;
	left = log(density[k] / density[k - 1]) / (middle[k] - middle[k - 1]);
	if (k + 1 == REPORT_BUCKETS || density[k + 1] <= 0)
		return left < 0 ? left : 0;
	right = log(density[k + 1] / density[k]) / (middle[k + 1] - middle[k]);
	return left * right > 0 ? (left + right) / 2 : 0;
}

/* From the means of buckets to the density in their middles. */
static void
refine(double *density, const double *middle, const double *width)
{
	double refined[REPORT_BUCKETS];

	for (int k = 0; k < REPORT_BUCKETS; k++)
	{
		double z = density[k] > 0 ? slope_within(density, middle, k) * width[k] / 2 : 0;

		/* steeper is none that is smooth, and nothing is known of it */
		refined[k] = density[k] * (fabs(z) > 1e-2 && fabs(z) < 3 ? z / sinh(z) : 1);
	}
	memcpy(density, refined, sizeof(refined));
}

/* Mean and mean square over [start, start + width] of a density exp(slope * x). */
static void
moments_within(double start, double width, double slope, double *mean, double *square)
{
	double z = slope * width / 2;
	double variance = width * width / 12;

	*mean = start + width / 2;
	/*
	 * below, the differences are lost in rounding; above, the formulas overflow, and all is
	 * at one end
	 */
	if (fabs(z) > 1e-2 && fabs(z) < 300)
	{
		*mean += width / 2 * (1 / tanh(z) - 1 / z);
		variance = width * width / 4 * (1 / (z * z) - 1 / (sinh(z) * sinh(z)));
	}
	else if (fabs(z) >= 300)
	{
		*mean += width / 2 * (z > 0 ? 1 : -1);
		variance = 0;
	}
	*square = *mean * *mean + variance;
}

/* `like` may have begun anew and not know of all. */
static double
known_count(const int64_t *buckets, const int64_t *like, int k)
{
	int64_t count = like[k] > buckets[k] ? like[k] : buckets[k];

	return count > 0 ? (double) count : 0.0;
}

void
report_moments(const int64_t *buckets, const int64_t *like, int64_t *n, double *mean_ms,
			   double *variation)
{
	double density[REPORT_BUCKETS], middle[REPORT_BUCKETS];
	double width[REPORT_BUCKETS];
	double total = 0, sum = 0, squares = 0;

	for (int k = 0; k < REPORT_BUCKETS; k++)
	{
		/* the last one has no end, and is taken to be like the one before */
		double end = k + 1 < REPORT_BUCKETS ? bucket_start_ms(k + 1) : 2 * bucket_start_ms(k);

		width[k] = end - bucket_start_ms(k);
		middle[k] = bucket_start_ms(k) + width[k] / 2;
		density[k] = known_count(buckets, like, k) / width[k];
	}
	refine(density, middle, width);
	for (int k = 0; k < REPORT_BUCKETS; k++)
	{
		double here = (double) buckets[k];
		double mean, square;

		if (here <= 0)
			continue;
		moments_within(bucket_start_ms(k), width[k], slope_within(density, middle, k), &mean,
					   &square);
		total += here;
		sum += here * mean;
		squares += here * square;
	}
	*n = total < (double) INT64_MAX ? (int64_t) (total + 0.5) : INT64_MAX;
	*mean_ms = *variation = -1.0;
	if (total <= 0)
		return;
	*mean_ms = sum / total;
	*variation = squares / total / (*mean_ms * *mean_ms) - 1.0;
	if (*variation < 0)
		*variation = 0;
}
