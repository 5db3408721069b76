/*-------------------------------------------------------------------------
 *
 * link.c
 *	  The texts that pass between a pool and a server with pgpool_monitor.
 *
 * Both directions are hostile ground.  What comes from the server may come
 * from a proxy that replays another client's parameters, or from a server of
 * a later version: a text is taken whole or not at all.  What goes to the
 * server carries a pool's name and call sites that a user chose, and must not
 * become more options or more fields than were meant.
 *
 * Only ASCII is compared and classified, by hand: the functions of ctype.h
 * ask the program's locale.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* getrandom */
#endif

#include "link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define NAME_BYTES 63 /* of a pool's name or an instance's id */
#define MAX_DURATION_S (INT64_C(10) * 366 * 24 * 60 * 60)

/*
 * A text under construction.  Once something did not fit nothing more is
 * added, so that one test at the end is enough; to take back what was added
 * since, restore a copy.
 */
typedef struct Text
{
	char *buf;
	size_t size; /* '\0' included */
	size_t len;
	bool full;
} Text;

/*---- building ----*/

static void
text_init(Text *text, char *buf, size_t size)
{
	text->buf = buf;
	text->size = size;
	text->len = 0;
	text->full = (size == 0);
	if (size > 0)
		buf[0] = '\0';
}

static void
add_char(Text *text, char c)
{
	if (text->full || text->size - text->len < 2)
	{
		text->full = true;
		return;
	}
	text->buf[text->len++] = c;
	text->buf[text->len] = '\0';
}

static void
add_string(Text *text, const char *s)
{
	while (*s != '\0' && !text->full)
		add_char(text, *s++);
}

static void
add_number(Text *text, int64_t n)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRId64, n < 0 ? 0 : n);
	add_string(text, digits);
}

/* Back to where the text was when the copy was taken. */
static void
text_restore(Text *text, const Text *copy)
{
	*text = *copy;
	if (text->size > 0)
		text->buf[text->len] = '\0';
}

/* Its length, or -1 and no text at all: half a text would be a wrong one. */
static int
text_finish(Text *text)
{
	if (!text->full)
		return (int) text->len;
	if (text->size > 0)
		text->buf[0] = '\0';
	return -1;
}

/*---- characters ----*/

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ASCII that leaves a mark on paper. */
static bool
is_visible(char c)
{
	unsigned char byte = (unsigned char) c;

	return byte > ' ' && byte < 0x7f;
}

/* May stand in an instance's id. */
static bool
is_id_char(char c)
{
	return is_alnum(c) || (c != '\0' && strchr("_.:-", c) != NULL);
}

/* May stand unescaped in a loan's thread and site. */
static bool
is_plain_char(char c)
{
	return is_alnum(c) || (c != '\0' && strchr("_./+-", c) != NULL);
}

/*---- identity ----*/

bool
pqp_link_new_id(char *id)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char bytes[(PQP_ID_SIZE - 1) / 2];
	ssize_t got;

	/* So few bytes come whole or, before the kernel has any, interrupted. */
	do
	{
		got = getrandom(bytes, sizeof(bytes), 0);
	} while (got < 0 && errno == EINTR);

	id[0] = '\0';
	if (got != (ssize_t) sizeof(bytes))
		return false;
	for (size_t i = 0; i < sizeof(bytes); i++)
	{
		id[2 * i] = hex[bytes[i] >> 4];
		id[2 * i + 1] = hex[bytes[i] & 15];
	}
	id[PQP_ID_SIZE - 1] = '\0';
	return true;
}

static bool
is_valid_name(const char *name)
{
	return name[0] != '\0' && strlen(name) <= NAME_BYTES;
}

static bool
is_valid_id(const char *id)
{
	for (const char *p = id; *p != '\0'; p++)
	{
		if (!is_id_char(*p))
			return false;
	}
	return is_valid_name(id);
}

/*
 * The user's own startup options.  A backslash at their very end escapes
 * nothing and means nothing, but would escape the blank that comes next.
 */
static void
add_user_options(Text *text, const char *options)
{
	size_t len = strlen(options);
	size_t backslashes = 0;

	while (backslashes < len && options[len - 1 - backslashes] == '\\')
		backslashes++;
	len -= backslashes % 2;
	for (size_t i = 0; i < len; i++)
		add_char(text, options[i]);
	if (len > 0)
		add_char(text, ' ');
}

/*
 * The server splits at what isspace() of its own locale says, which for a
 * byte above 127 is anyone's guess; a backslash too many does no harm.
 */
static void
add_option_value(Text *text, const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
	{
		if (!is_visible(*p) || *p == '\\')
			add_char(text, '\\');
		add_char(text, *p);
	}
}

int
pqp_link_identity(char *buf, size_t size, const char *user_options, const char *pool,
				  const char *id, bool follow, bool report, bool knock)
{
	Text text;

	text_init(&text, buf, size);
	if (!is_valid_name(pool) || !is_valid_id(id))
		return -1;
	if (user_options != NULL)
		add_user_options(&text, user_options);
	add_string(&text, "-c pgpool_monitor.pool=");
	add_option_value(&text, pool);
	add_string(&text, " -c pgpool_monitor.instance=");
	add_string(&text, id);
	if (follow)
		add_string(&text, ";follow=1");
	if (report)
		add_string(&text, ";report=1");
	if (knock)
		add_string(&text, ";kind=knock");
	return text_finish(&text);
}

/*---- allotment ----*/

/* A piece of the server's text. */
typedef struct Span
{
	const char *start;
	size_t len;
} Span;

typedef enum Field
{
	FIELD_ID,
	FIELD_INC,
	FIELD_EPOCH,
	FIELD_LIMIT,
	FIELD_STATE,
	FIELD_LEASE,
	FIELD_INTERVAL,
	FIELD_RETRY,
	FIELD_UNKNOWN, /* of a later version; also the number of the others */
} Field;

#define REQUIRED_FIELDS \
	(1u << FIELD_ID | 1u << FIELD_INC | 1u << FIELD_EPOCH | 1u << FIELD_LIMIT | 1u << FIELD_STATE)

static const char *const field_names[] = {
	[FIELD_ID] = "id",
	[FIELD_INC] = "inc",
	[FIELD_EPOCH] = "epoch",
	[FIELD_LIMIT] = "limit",
	[FIELD_STATE] = "state",
	[FIELD_LEASE] = "lease",
	[FIELD_INTERVAL] = "interval",
	[FIELD_RETRY] = "retry",
};

static const char *const state_names[] = {
	[ALLOTMENT_OK] = "ok",
	[ALLOTMENT_QUEUED] = "queued",
	[ALLOTMENT_PAUSED] = "paused",
	[ALLOTMENT_OFF] = "off",
};

static bool
span_is(Span span, const char *word)
{
	return strlen(word) == span.len && memcmp(word, span.start, span.len) == 0;
}

/* What stands before the next c; *rest moves behind it, or is NULL at the end. */
static Span
next_span(const char **rest, char c)
{
	Span span = { *rest, 0 };
	const char *end = strchr(*rest, c);

	span.len = end != NULL ? (size_t) (end - span.start) : strlen(span.start);
	*rest = end != NULL ? end + 1 : NULL;
	return span;
}

/* Digits only, at least one, at most max. */
static bool
read_digits(Span span, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	for (size_t i = 0; i < span.len; i++)
	{
		uint64_t digit = (uint64_t) (span.start[i] - '0');

		if (!is_digit(span.start[i]) || n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return span.len > 0;
}

static bool
read_limit(Span span, int *limit)
{
	uint64_t n;

	if (span_is(span, "-1"))
	{
		*limit = -1;
		return true;
	}
	if (!read_digits(span, INT32_MAX, &n))
		return false;
	*limit = (int) n;
	return true;
}

static bool
read_inc(Span span, char *inc)
{
	if (span.len == 0 || span.len >= PQP_INC_SIZE)
		return false;
	for (size_t i = 0; i < span.len; i++)
	{
		if (!is_visible(span.start[i]))
			return false;
	}
	memcpy(inc, span.start, span.len);
	inc[span.len] = '\0';
	return true;
}

static bool
read_state(Span span, enum AllotmentState *state)
{
	for (size_t i = 0; i < sizeof(state_names) / sizeof(state_names[0]); i++)
	{
		if (span_is(span, state_names[i]))
		{
			*state = (enum AllotmentState) i;
			return true;
		}
	}
	return false;
}

/* Seconds, with up to three decimals. */
static bool
read_seconds(Span span, int64_t *ms)
{
	const char *point = memchr(span.start, '.', span.len);
	Span whole = span;
	Span decimals = { NULL, 0 };
	uint64_t seconds;
	uint64_t thousandths = 0;

	if (point != NULL)
	{
		whole.len = (size_t) (point - span.start);
		decimals.start = point + 1;
		decimals.len = span.len - whole.len - 1;
		if (decimals.len > 3 || !read_digits(decimals, 999, &thousandths))
			return false;
		for (size_t i = decimals.len; i < 3; i++)
			thousandths *= 10;
	}
	if (!read_digits(whole, MAX_DURATION_S, &seconds))
		return false;
	*ms = (int64_t) (seconds * 1000 + thousandths);
	return true;
}

static Field
find_field(Span name)
{
	int i = 0;

	while (i < FIELD_UNKNOWN && !span_is(name, field_names[i]))
		i++;
	return (Field) i;
}

static bool
read_field(Field field, Span value, const char *own_id, Allotment *out)
{
	switch (field)
	{
		case FIELD_ID:
			return span_is(value, own_id);
		case FIELD_INC:
			return read_inc(value, out->inc);
		case FIELD_EPOCH:
			return read_digits(value, UINT64_MAX, &out->epoch);
		case FIELD_LIMIT:
			return read_limit(value, &out->limit);
		case FIELD_STATE:
			return read_state(value, &out->state);
		case FIELD_LEASE:
			return read_seconds(value, &out->lease_ms);
		case FIELD_INTERVAL:
			return read_seconds(value, &out->interval_ms);
		case FIELD_RETRY:
			return read_seconds(value, &out->retry_ms);
		case FIELD_UNKNOWN:
			break;
	}
	return true;
}

static void
set_default_durations(Allotment *allotment)
{
	if (allotment->lease_ms <= 0)
		allotment->lease_ms = PQP_LEASE_MS;
	if (allotment->interval_ms <= 0)
		allotment->interval_ms = PQP_INTERVAL_MS;
	if (allotment->retry_ms <= 0)
		allotment->retry_ms = PQP_RETRY_MS;
}

bool
pqp_link_parse_allotment(const char *text, const char *own_id, Allotment *out)
{
	Allotment allotment = *out;
	unsigned seen = 0;

	if (text == NULL)
		return false;
	set_default_durations(&allotment);
	while (text != NULL)
	{
		Span item = next_span(&text, ';');
		const char *equals = memchr(item.start, '=', item.len);
		Span name = item;
		Span value = { NULL, 0 };
		Field field;

		if (equals == NULL)
			continue; /* nothing, or not of this version */
		name.len = (size_t) (equals - item.start);
		value.start = equals + 1;
		value.len = item.len - name.len - 1;

		field = find_field(name);
		if (field == FIELD_UNKNOWN)
			continue;
		if ((seen & (1u << field)) != 0 || !read_field(field, value, own_id, &allotment))
			return false;
		seen |= 1u << field;
	}
	if ((seen & REQUIRED_FIELDS) != REQUIRED_FIELDS)
		return false;
	if (allotment.interval_ms < PQP_INTERVAL_MIN_MS)
		allotment.interval_ms = PQP_INTERVAL_MIN_MS;
	*out = allotment;
	return true;
}

/*---- report ----*/

static void
add_key(Text *text, const char *key)
{
	if (text->len > 0)
		add_char(text, ';');
	add_string(text, key);
	add_char(text, '=');
}

static void
add_field(Text *text, const char *key, int64_t n)
{
	add_key(text, key);
	add_number(text, n);
}

/* Numbers of the protocol end at 2^63 - 1. */
static void
add_unsigned(Text *text, const char *key, uint64_t n)
{
	add_field(text, key, n > INT64_MAX ? INT64_MAX : (int64_t) n);
}

static void
add_sizes(Text *text, const LinkReport *report)
{
	add_field(text, "max", report->max_size);
	add_field(text, "min", report->min_size);
	add_field(text, "opening", report->opening);
	add_field(text, "idle", report->idle);
	add_field(text, "in_use", report->in_use);
	add_field(text, "resetting", report->resetting);
	add_field(text, "closing", report->closing);
	add_field(text, "waiting", report->waiting);
	add_field(text, "leaks", report->leaks);
}

static void
add_counters(Text *text, const LinkReport *report)
{
	add_field(text, "acquires", report->acquires);
	add_field(text, "timeouts", report->timeouts);
	add_field(text, "opened", report->opened);
	add_field(text, "closed", report->closed);
	add_field(text, "open_failures", report->open_failures);
}

/* Whole, or not at all (false); if all are 0, no key is needed. */
static bool
add_counts(Text *text, const char *key, const int64_t *counts, int n)
{
	Text before = *text;
	bool any = false;

	for (int i = 0; i < n; i++)
	{
		if (counts[i] <= 0)
			continue;
		if (any)
			add_char(text, ',');
		else
			add_key(text, key);
		any = true;
		add_number(text, i);
		add_char(text, ':');
		add_number(text, counts[i]);
	}
	if (!text->full)
		return true;
	text_restore(text, &before);
	return false;
}

static void
add_escaped(Text *text, const char *s, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (is_plain_char(s[i]))
		{
			add_char(text, s[i]);
			continue;
		}
		add_char(text, '%');
		add_char(text, hex[c >> 4]);
		add_char(text, hex[c & 15]);
	}
}

static void
add_loan(Text *text, const LinkLoan *loan)
{
	const char *thread = loan->thread != NULL ? loan->thread : "";
	const char *site = loan->site != NULL ? loan->site : "";
	size_t thread_len = strnlen(thread, PQP_THREAD_BYTES);
	size_t site_len = strlen(site);

	/* Of a path the end tells most. */
	if (site_len > PQP_SITE_BYTES)
	{
		site += site_len - PQP_SITE_BYTES;
		site_len = PQP_SITE_BYTES;
	}
	add_number(text, loan->pid);
	add_char(text, ':');
	add_number(text, loan->age_ms);
	add_char(text, ':');
	add_escaped(text, thread, thread_len);
	add_char(text, ':');
	add_escaped(text, site, site_len);
}

/* As many as fit, from the oldest on; false: not all. */
static bool
add_loans(Text *text, const LinkReport *report)
{
	for (int i = 0; i < report->nloans && i < PQP_REPORT_LOANS; i++)
	{
		Text before = *text;

		if (i == 0)
			add_key(text, "loans");
		else
			add_char(text, ',');
		add_loan(text, &report->loans[i]);
		if (text->full)
		{
			text_restore(text, &before);
			return false;
		}
	}
	return true;
}

/* All or none; what is 0 needs no key. */
static bool
add_more(Text *text, const LinkReport *report)
{
	const struct
	{
		const char *key;
		int64_t n;
	} counters[] = { { "found_dead", report->found_dead },
					 { "discarded", report->discarded },
					 { "resets", report->resets },
					 { "abandoned", report->abandoned },
					 { "finished", report->finished } };
	Text before = *text;

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (counters[i].n > 0)
			add_field(text, counters[i].key, counters[i].n);
	if (!text->full)
		return true;
	text_restore(text, &before);
	return false;
}

int
pqp_link_format_report(char *buf, size_t size, const LinkReport *report)
{
	Text text;

	text_init(&text, buf, size > PQP_REPORT_BYTES ? PQP_REPORT_BYTES + 1 : size);
	if (report->seq == 0)
		return -1;
	add_string(&text, "v=1");
	add_unsigned(&text, "seq", report->seq);
	add_unsigned(&text, "ack", report->ack);
	add_sizes(&text, report);
	add_counters(&text, report);
	if (report->bye)
		add_string(&text, ";bye=1");
	if (text.full)
		return text_finish(&text);

	/*
	 * From here on all may be left out, the last first: what comes behind something left
	 * out is not tried.
	 */
	if (add_counts(&text, "wait", report->wait, PQP_BUCKETS) &&
		add_counts(&text, "hold", report->hold, PQP_BUCKETS) && add_loans(&text, report) &&
		add_more(&text, report) && add_counts(&text, "errors", report->errors, PQP_REPORT_ERRORS))
		(void) add_counts(&text, "closed_by", report->closed_by, PQP_REPORT_REASONS);
	return text_finish(&text);
}

int
pqp_link_bucket(int64_t microseconds)
{
	int bucket = 0;

	while (microseconds > 0 && bucket < PQP_BUCKETS - 1)
	{
		bucket++;
		microseconds >>= 1;
	}
	return bucket;
}
