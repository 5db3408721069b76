/*-------------------------------------------------------------------------
 *
 * options.c
 *	  What the user asked for: the connection string, taken apart.
 *
 * libpq refuses keywords that it does not know, so a pool's options have to
 * be taken out first.  That calls for a tokenizer that agrees with libpq's
 * about every quote, backslash, percent sign and question mark, oddities
 * included; where the two disagreed, a password could become an option or an option a
 * password.  Everything else is libpq's own work: each pair, or the URI
 * without the pool's options, goes through PQconninfoParse.
 *
 * A connection string is
 *
 *		keyword=value pairs		next_pair(); a nested one in dbname once more
 *		a URI					take_uri_query(), find_query()
 *
 * and yields the pool's options as text in Parse.given[], and libpq's in
 * Parse.params.  Then the environment fills what is missing, and the table of
 * options says what each text means.
 *
 * Which startup options libpq would send on its own has no simple answer, for
 * they may come from the string, a service file or PGOPTIONS; nor has whether
 * there is a connect_timeout, or a setting of keepalives.  libpq is asked
 * with a connection that fails by intent before it reaches for the network;
 * see ask_libpq().
 *
 * Caveat: what a service file holds must be libpq's: it refuses others itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* program_invocation_short_name */
#endif

#include "options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "duration.h"

#define PREFIX "pool_"

/* Bytes of a bad value that a message shows. */
#define SHOWN_BYTES 60

/* For each address, where the user says nothing. */
#define CONNECT_TIMEOUT_MS 5000

/* A value of sslmode that no libpq accepts. */
#define NO_SUCH_SSLMODE "no-connection-wanted"

/*---- the table ----*/

typedef enum OptionType
{
	TYPE_NAME,	   /* char[PQP_NAME_MAX + 1] */
	TYPE_COUNT,	   /* int */
	TYPE_DURATION, /* int64_t, milliseconds */
	TYPE_RESET,	   /* PqpReset */
	TYPE_SWITCH,   /* bool */
} OptionType;

typedef struct OptionDef
{
	const char *key;
	OptionType type;
	size_t offset;		 /* in PoolOptions */
	const char *preset;	 /* as a user would write it; NULL: see name_pool */
	const char *allowed; /* for messages */
	int64_t min;		 /* of a count or a duration */
	int64_t max;
	const char *off; /* the words of a switch */
	const char *on;
} OptionDef;

#define DURATIONS "a number with a unit (" PQP_DURATION_UNITS "; without one: ms), at most 24 days"

#define OPTION(key, type, field, preset, allowed, ...)                        \
	{                                                                         \
		key, type, offsetof(PoolOptions, field), preset, allowed, __VA_ARGS__ \
	}
#define COUNT(key, field, preset, allowed, min, max) \
	OPTION(key, TYPE_COUNT, field, preset, allowed, min, max, NULL, NULL)
#define DURATION(key, field, preset, allowed, min) \
	OPTION(key, TYPE_DURATION, field, preset, allowed, min, PQP_DURATION_MAX_MS, NULL, NULL)
#define SWITCH(key, field, preset, off, on) \
	OPTION(key, TYPE_SWITCH, field, preset, on " or " off, 0, 0, off, on)

static const OptionDef defs[] = {
	OPTION("pool_name", TYPE_NAME, name, NULL, "at most 63 bytes", 0, 0, NULL, NULL),
	COUNT("pool_min_size", min_size, "0", "a whole number from 0 to 10000", 0, PQP_SIZE_MAX),
	COUNT("pool_max_size", max_size, "10", "a whole number from 1 to 10000", 1, PQP_SIZE_MAX),
	DURATION("pool_acquire_timeout", acquire_timeout_ms, "30s",
			 DURATIONS "; 0 does not wait, -1 waits without limit", -1),
	DURATION("pool_idle_timeout", idle_timeout_ms, "10min", DURATIONS "; 0 for never", 0),
	DURATION("pool_max_lifetime", max_lifetime_ms, "30min", DURATIONS "; 0 for no limit", 0),
	DURATION("pool_peek_after", peek_after_ms, "5ms", DURATIONS "; 0 for always", 0),
	DURATION("pool_validate_after", validate_after_ms, "30s",
			 DURATIONS "; 0 for always, -1 for never", -1),
	OPTION("pool_reset", TYPE_RESET, reset, "rollback", "none, rollback or discard", 0, 0, NULL,
		   NULL),
	DURATION("pool_reset_timeout", reset_timeout_ms, "5s", DURATIONS ", more than 0", 1),
	DURATION("pool_leak_after", leak_after_ms, "5min", DURATIONS "; 0 for never", 0),
	COUNT("pool_max_waiters", max_waiters, "0", "a whole number; 0 for ten times pool_max_size", 0,
		  INT32_MAX),
	SWITCH("pool_report", report, "on", "off", "on"),
	SWITCH("pool_limits", obey_limits, "obey", "ignore", "obey"),
	SWITCH("pool_bind", bind_thread, "none", "none", "thread"),
};

#define NDEFS ((int) (sizeof(defs) / sizeof(defs[0])))

/* Everything on the way from the string to the struct.  Owns all it points at. */
typedef struct Parse
{
	char *given[NDEFS]; /* the pool's options in the string, as text */
	int nparams;		/* libpq's, in the order of their first coming */
	char **keywords;	/* both end with NULL */
	char **values;
	char *errbuf;
	size_t errlen;
	bool no_memory;
	bool by_libpq;
} Parse;

/*---- errors ----*/

/* Always false, so that a caller can return it. */
static bool fail(Parse *parse, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(Parse *parse, const char *format, ...)
{
	va_list args;

	if (parse->errlen == 0)
		return false;
	va_start(args, format);
	vsnprintf(parse->errbuf, parse->errlen, format, args);
	va_end(args);
	return false;
}

/* For what libpq would refuse as well, and we say first or better. */
#define FAIL_LIKE_LIBPQ(parse, ...) ((parse)->by_libpq = true, fail(parse, __VA_ARGS__))

static bool
fail_memory(Parse *parse)
{
	parse->no_memory = true;
	return fail(parse, "out of memory");
}

/* A user's text for a message: its beginning, without control characters. */
static const char *
shown(const char *value, char *buf, size_t size)
{
	size_t len = strlen(value);
	bool cut = len > SHOWN_BYTES;

	if (cut)
		len = SHOWN_BYTES;
	while (cut && len > 0 && (value[len] & 0xc0) == 0x80)
		len--; /* not within a character */
	snprintf(buf, size, "%.*s%s", (int) len, value, cut ? "..." : "");
	for (char *p = buf; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	}
	return buf;
}

#define SHOWN(value) shown(value, (char[SHOWN_BYTES + 8]){ 0 }, SHOWN_BYTES + 8)

static bool
fail_unknown(Parse *parse, const char *key)
{
	char known[512] = "";
	size_t len = 0;

	for (int i = 0; i < NDEFS && len < sizeof(known); i++)
		len += (size_t) snprintf(known + len, sizeof(known) - len, "%s%s", i > 0 ? ", " : "",
								 defs[i].key);
	return fail(parse, "unknown option \"%s\"; the options of a pool are %s", SHOWN(key), known);
}

/*
 * What libpq says, without its newline, and without the text that it was
 * given: its messages on URIs quote all of it, the password included.
 */
static bool
fail_libpq(Parse *parse, const char *message, const char *secret)
{
	const char *found;
	int len;

	if (message == NULL || strcmp(message, "out of memory\n") == 0)
		return fail_memory(parse);
	parse->by_libpq = true;
	len = (int) strlen(message);
	while (len > 0 && message[len - 1] == '\n')
		len--;
	found = (secret != NULL && secret[0] != '\0') ? strstr(message, secret) : NULL;
	if (found == NULL)
		fail(parse, "%.*s", len, message);
	else
		fail(parse, "%.*s...%.*s", (int) (found - message), message,
			 (int) (message + len - found - strlen(secret)), found + strlen(secret));
	/* it quotes single characters as they are; a message is one line */
	for (char *p = parse->errbuf; parse->errlen > 0 && *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	}
	return false;
}

/*---- libpq's parameters ----*/

/* Replace *slot by a copy. */
static bool
replace_string(Parse *parse, char **slot, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return fail_memory(parse);
	free(*slot);
	*slot = copy;
	return true;
}

/* Room for one more parameter, and for the NULL behind it. */
static bool
grow_params(Parse *parse)
{
	size_t size = ((size_t) parse->nparams + 2) * sizeof(char *);
	char **keywords = realloc(parse->keywords, size);
	char **values;

	if (keywords == NULL)
		return fail_memory(parse);
	parse->keywords = keywords;
	keywords[parse->nparams + 1] = NULL;
	keywords[parse->nparams] = NULL;

	values = realloc(parse->values, size);
	if (values == NULL)
		return fail_memory(parse);
	parse->values = values;
	values[parse->nparams + 1] = NULL;
	values[parse->nparams] = NULL;
	return true;
}

/* As in libpq, the last one wins. */
static bool
set_param(Parse *parse, const char *keyword, const char *value)
{
	int i = 0;

	while (i < parse->nparams && strcmp(parse->keywords[i], keyword) != 0)
		i++;
	if (i < parse->nparams)
		return replace_string(parse, &parse->values[i], value);
	if (!grow_params(parse) || !replace_string(parse, &parse->values[i], value))
		return false;
	if (!replace_string(parse, &parse->keywords[i], keyword))
	{
		free(parse->values[i]);
		parse->values[i] = NULL;
		return false;
	}
	parse->nparams++;
	return true;
}

/* Let libpq check and take apart what holds nothing of the pool's any more. */
static bool
give_to_libpq(Parse *parse, const char *conninfo, const char *secret)
{
	char *message = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &message);
	bool ok = true;

	if (options == NULL)
	{
		fail_libpq(parse, message, secret);
		PQfreemem(message);
		return false;
	}
	for (PQconninfoOption *option = options; ok && option->keyword != NULL; option++)
	{
		if (option->val != NULL)
			ok = set_param(parse, option->keyword, option->val);
	}
	PQconninfoFree(options);
	return ok;
}

/*---- the pool's options ----*/

static bool
is_pool_key(const char *key)
{
	return strncmp(key, PREFIX, strlen(PREFIX)) == 0;
}

/* Twice the same is no contradiction: a URI put together by two hands. */
static bool
set_given(Parse *parse, const char *key, const char *value)
{
	for (int i = 0; i < NDEFS; i++)
	{
		if (strcmp(defs[i].key, key) != 0)
			continue;
		if (parse->given[i] != NULL && strcmp(parse->given[i], value) != 0)
			return fail(parse, "option %s is given twice, as \"%s\" and as \"%s\"", key,
						SHOWN(parse->given[i]), SHOWN(value));
		return replace_string(parse, &parse->given[i], value);
	}
	return fail_unknown(parse, key);
}

/*---- keyword=value ----*/

/* Blanks as libpq sees them, in the C locale. */
static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static char *
skip_blanks(char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

/*
 * Unescape the value at *cursor in place, and move the cursor behind it.
 * Quotes matter only where a value begins, as in libpq.  NULL: no end quote.
 */
static char *
take_value(char **cursor)
{
	char *in = *cursor;
	char *out;
	char *value;
	bool quoted = (*in == '\'');

	if (quoted)
		in++;
	value = out = in;
	while (*in != '\0' && !(quoted ? *in == '\'' : is_blank(*in)))
	{
		if (*in == '\\')
			in++;
		if (*in != '\0')
			*out++ = *in++;
	}
	if (quoted && *in == '\0')
		return NULL;
	if (*in != '\0')
		in++;
	*out = '\0';
	*cursor = in;
	return value;
}

/*
 * The next pair of a string that is taken apart in place.  *key is NULL at
 * the end.  text is where the string began: a position tells where an error
 * is, and betrays no password.
 */
static bool
next_pair(Parse *parse, const char *text, char **cursor, char **key, char **value)
{
	char *p = skip_blanks(*cursor);
	char *end;
	int position = (int) (p - text) + 1;

	*key = *value = NULL;
	if (*p == '\0')
		return true;
	for (end = p; *end != '\0' && *end != '=' && !is_blank(*end);)
		end++;
	*cursor = skip_blanks(end);
	if (**cursor != '=')
		return FAIL_LIKE_LIBPQ(
			parse, "missing \"=\" after the word at position %d of the connection string",
			position);
	*cursor = skip_blanks(*cursor + 1);
	*end = '\0';
	*value = take_value(cursor);
	if (*value == NULL)
		return FAIL_LIKE_LIBPQ(
			parse, "unterminated quoted string at position %d of the connection string", position);
	*key = p;
	return true;
}

/*
 * Have libpq look at one pair.  The blank in front is for a keyword that
 * begins like a URI.
 */
static bool
take_libpq_pair(Parse *parse, const char *key, const char *value)
{
	char *text = malloc(strlen(key) + 2 * strlen(value) + sizeof(" =''"));
	char *out;
	bool ok;

	if (text == NULL)
		return fail_memory(parse);
	out = text + sprintf(text, " %s='", key);
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			*out++ = '\\';
		*out++ = *value;
	}
	strcpy(out, "'");
	ok = give_to_libpq(parse, text, NULL);
	free(text);
	return ok;
}

static bool take_conninfo(Parse *parse, const char *conninfo, bool nested);

static bool
is_uri(const char *text)
{
	return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0;
}

static bool
take_pair(Parse *parse, const char *key, const char *value, bool nested)
{
	if (is_pool_key(key))
		return set_given(parse, key, value);
	if (!nested && strcmp(key, "dbname") == 0 && (is_uri(value) || strchr(value, '=') != NULL))
		return take_conninfo(parse, value, true);
	return take_libpq_pair(parse, key, value);
}

static bool
take_pairs(Parse *parse, char *text, bool nested)
{
	char *cursor = text;

	for (;;)
	{
		char *key;
		char *value;

		if (!next_pair(parse, text, &cursor, &key, &value))
			return false;
		if (key == NULL)
			return true;
		if (!take_pair(parse, key, value, nested))
			return false;
	}
}

/*---- URI ----*/

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decode len bytes into a string of its own; NULL: *malformed, or no memory. */
static char *
decode(const char *in, size_t len, bool *malformed)
{
	char *result = malloc(len + 1);
	char *out = result;

	*malformed = false;

	for (size_t i = 0; result != NULL && i < len; i++)
	{
		int high;
		int low;

		if (in[i] != '%')
		{
			*out++ = in[i];
			continue;
		}
		high = i + 1 < len ? hex_digit(in[i + 1]) : -1;
		low = i + 2 < len ? hex_digit(in[i + 2]) : -1;
		if (high < 0 || low < 0 || (high == 0 && low == 0))
		{
			free(result);
			*malformed = true;
			return NULL;
		}
		*out++ = (char) (high << 4 | low);
		i += 2;
	}
	if (result != NULL)
		*out = '\0';
	return result;
}

/*
 * Where the query begins, behind its question mark; NULL: there is none.  A
 * question mark in front of an at sign is a user's or a password's, one
 * within brackets an address's; that is how libpq walks through it.
 */
static char *
find_query(char *uri)
{
	char *p = strstr(uri, "://") + 3;
	char *end = p + strcspn(p, "@/");
	bool host_begins = true;

	if (*end == '@')
		p = end + 1;
	while (*p != '\0' && *p != '?' && *p != '/')
	{
		if (host_begins && *p == '[')
			p += strcspn(p, "]");
		if (*p == '\0')
			return NULL;
		host_begins = (*p == ',');
		p++;
	}
	p += strcspn(p, "?");
	return *p == '?' ? p + 1 : NULL;
}

/* One parameter of the query: is it the pool's?  Then *ours, and it is taken. */
static bool
take_uri_param(Parse *parse, const char *param, size_t len, bool *ours)
{
	const char *equals = memchr(param, '=', len);
	size_t key_len = equals != NULL ? (size_t) (equals - param) : len;
	bool malformed;
	char *key = decode(param, key_len, &malformed);
	char *value = NULL;
	bool ok = key != NULL || malformed || fail_memory(parse);

	*ours = key != NULL && is_pool_key(key);
	if (*ours && equals == NULL)
		ok = fail(parse, "missing \"=\" after %s in the URI", SHOWN(key));
	else if (*ours && memchr(equals + 1, '=', len - key_len - 1) != NULL)
		ok = fail(parse, "extra \"=\" in the value of %s in the URI", SHOWN(key));
	else if (*ours)
	{
		value = decode(equals + 1, len - key_len - 1, &malformed);
		if (value != NULL)
			ok = set_given(parse, key, value);
		else
			ok = malformed ? fail(parse, "invalid percent-encoding in the value of %s in the URI",
								  SHOWN(key))
						   : fail_memory(parse);
	}
	free(key);
	free(value);
	return ok;
}

/* Close the gaps in the query that our parameters leave, in place. */
static bool
take_uri_query(Parse *parse, char *query)
{
	char *in = query;
	char *out = query;
	bool first = true;

	while (in != NULL)
	{
		size_t len = strcspn(in, "&");
		char *next = in[len] == '&' ? in + len + 1 : NULL;
		bool ours;

		if (!take_uri_param(parse, in, len, &ours))
			return false;
		if (!ours)
		{
			if (!first)
				*out++ = '&';
			memmove(out, in, len);
			out += len;
			first = false;
		}
		in = next;
	}
	*out = '\0';
	return true;
}

/* libpq would quote the piece that is wrong, which may be a password. */
static bool
check_percents(Parse *parse, const char *uri)
{
	for (const char *p = strchr(uri, '%'); p != NULL; p = strchr(p + 1, '%'))
	{
		if (hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0 || (p[1] == '0' && p[2] == '0'))
			return FAIL_LIKE_LIBPQ(parse, "invalid percent-encoding in the URI");
	}
	return true;
}

static bool
take_uri(Parse *parse, char *uri)
{
	char *query = find_query(uri);

	if (query != NULL && !take_uri_query(parse, query))
		return false;
	if (!check_percents(parse, uri))
		return false;
	return give_to_libpq(parse, uri, uri);
}

/* nested: within a dbname, where another one is just a name. */
static bool
take_conninfo(Parse *parse, const char *conninfo, bool nested)
{
	char *text = strdup(conninfo);
	bool ok;

	if (text == NULL)
		return fail_memory(parse);
	ok = is_uri(text) ? take_uri(parse, text) : take_pairs(parse, text, nested);
	free(text);
	return ok;
}

/*---- values ----*/

/* Digits, with blanks around and perhaps a sign. */
static bool
read_count(const char *value, int64_t *count)
{
	char *end;

	errno = 0;
	*count = strtoll(value, &end, 10);
	if (end == value || errno != 0)
		return false;
	while (is_blank(*end))
		end++;
	return *end == '\0';
}

static bool
read_reset(const char *value, PqpReset *reset)
{
	static const char *const words[] = {
		[PQP_RESET_NONE] = "none",
		[PQP_RESET_ROLLBACK] = "rollback",
		[PQP_RESET_DISCARD] = "discard",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (strcmp(words[i], value) == 0)
		{
			*reset = (PqpReset) i;
			return true;
		}
	}
	return false;
}

/* Put a text where it belongs; false if it is none of those allowed. */
static bool
apply(const OptionDef *def, const char *value, PoolOptions *out)
{
	char *field = (char *) out + def->offset;
	int64_t n;

	switch (def->type)
	{
		case TYPE_NAME:
			if (strlen(value) > PQP_NAME_MAX)
				return false;
			strcpy(field, value);
			return true;
		case TYPE_COUNT:
			if (!read_count(value, &n) || n < def->min || n > def->max)
				return false;
			*(int *) field = (int) n;
			return true;
		case TYPE_DURATION:
			if (!pqp_duration_parse(value, &n) || n < def->min || n > def->max)
				return false;
			*(int64_t *) field = n;
			return true;
		case TYPE_RESET:
			return read_reset(value, (PqpReset *) field);
		case TYPE_SWITCH:
			*(bool *) field = strcmp(value, def->on) == 0;
			return *(bool *) field || strcmp(value, def->off) == 0;
	}
	return false;
}

/* As in libpq, an empty value is the same as none. */
static bool
is_set(const char *value)
{
	return value != NULL && value[0] != '\0';
}

/* PQPOOL_MAX_SIZE for pool_max_size. */
static void
name_in_environment(const char *key, char *env, size_t size)
{
	snprintf(env, size, "PQ%s", key);
	for (char *p = env; *p != '\0'; p++)
	{
		if (*p >= 'a' && *p <= 'z')
			*p = (char) (*p - 'a' + 'A');
	}
}

static bool
fill_option(Parse *parse, int i, PoolOptions *out)
{
	const OptionDef *def = &defs[i];
	const char *value = parse->given[i];
	const char *source = def->key;
	char env[64];

	if (!is_set(value))
	{
		name_in_environment(def->key, env, sizeof(env));
		source = env;
		value = getenv(env);
	}
	if (!is_set(value))
		value = def->preset;
	if (value == NULL || apply(def, value, out))
		return true;
	return fail(parse, "invalid value \"%s\" for %s%s; allowed is %s", SHOWN(value), source,
				source == env ? " in the environment" : "", def->allowed);
}

static bool
fill_options(Parse *parse, PoolOptions *out)
{
	for (int i = 0; i < NDEFS; i++)
	{
		if (!fill_option(parse, i, out))
			return false;
	}
	if (out->min_size > out->max_size)
		return fail(parse, "pool_min_size (%d) is greater than pool_max_size (%d)", out->min_size,
					out->max_size);
	return true;
}

/*---- what libpq would do ----*/

/* NULL: this libpq does not know it. */
static const PQconninfoOption *
find_option(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++)
	{
		if (strcmp(options->keyword, keyword) == 0)
			return options;
	}
	return NULL;
}

static const char *
find_value(const PQconninfoOption *options, const char *keyword)
{
	const PQconninfoOption *option = find_option(options, keyword);

	return option != NULL ? option->val : NULL;
}

/* Without a pool_name.  No character is cut in two. */
static void
name_pool(PoolOptions *out, const PQconninfoOption *effective)
{
	const char *name = find_value(effective, "application_name");
	size_t len;

	if (!is_set(name))
		name = find_value(effective, "fallback_application_name");
	if (!is_set(name))
		name = program_invocation_short_name;
	if (!is_set(name))
		name = "default";
	len = strnlen(name, PQP_NAME_MAX + 1);
	if (len > PQP_NAME_MAX)
	{
		len = PQP_NAME_MAX;
		while (len > 1 && (name[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(out->name, name, len);
	out->name[len] = '\0';
}

/*
 * PQconninfo leaves out, without a word, what it has no memory for.  What is
 * looked for in its answer must be there if the string had it.  Accepted: what
 * is in the environment or in a service file cannot be missed.
 */
static bool
is_complete(const Parse *parse, const PQconninfoOption *effective)
{
	static const char *const wanted[] = { "application_name", "fallback_application_name",
										  "options" };

	for (int i = 0; i < parse->nparams; i++)
		for (size_t k = 0; k < sizeof(wanted) / sizeof(wanted[0]); k++)
		{
			if (strcmp(parse->keywords[i], wanted[k]) == 0 && is_set(parse->values[i]) &&
				!is_set(find_value(effective, wanted[k])))
				return false;
		}
	return true;
}

/*
 * All parameters as libpq completes them from service files and environment.
 * PQconndefaults knows no service that the string names; a connection does,
 * and one with an impossible sslmode ends before any host is looked up.  The
 * password is there so that .pgpass is not read, and complained about, twice; and
 * to tell how far it got.
 */
static PQconninfoOption *
ask_libpq(Parse *parse)
{
	size_t n = (size_t) parse->nparams;
	const char **arrays = calloc(2 * (n + 3), sizeof(char *));
	const char **keywords, **values;
	PGconn *conn;
	PQconninfoOption *options;

	if (arrays == NULL)
	{
		fail_memory(parse);
		return NULL;
	}
	keywords = arrays;
	values = arrays + n + 3;
	memcpy(keywords, parse->keywords, n * sizeof(char *));
	memcpy(values, parse->values, n * sizeof(char *));
	keywords[n] = "sslmode";
	values[n] = NO_SUCH_SSLMODE;
	keywords[n + 1] = "password";
	values[n + 1] = "none";
	conn = PQconnectStartParams(keywords, values, 0);
	options = conn != NULL ? PQconninfo(conn) : NULL;
	if (options == NULL)
		fail_memory(parse);
	else if (!is_set(find_value(options, "sslmode")))
	{
		/* taken: the value is lost; not: it did not get so far, as there is no such service */
		if (*PQpass(conn) != '\0')
			fail_memory(parse);
		else
			fail_libpq(parse, PQerrorMessage(conn), NULL);
		PQconninfoFree(options);
		options = NULL;
	}
	else if (!is_complete(parse, options))
	{
		fail_memory(parse);
		PQconninfoFree(options);
		options = NULL;
	}
	PQfinish(conn);
	free(arrays);
	return options;
}

/*
 * By libpq's rules: less than one second is no limit, and one is two, for
 * libpq counts whole seconds.  What it would refuse at each attempt is refused
 * here, once.
 */
static bool
fill_connect_timeout(Parse *parse, PoolOptions *out, const char *value)
{
	int64_t seconds = 0;

	out->connect_timeout_given = is_set(value);
	if (!out->connect_timeout_given)
	{
		out->connect_timeout_ms = CONNECT_TIMEOUT_MS;
		return true;
	}
	if (!read_count(value, &seconds) || seconds < INT32_MIN || seconds > INT32_MAX)
		return FAIL_LIKE_LIBPQ(
			parse,
			"invalid value \"%s\" for connect_timeout; allowed is a whole number "
			"of seconds, 0 for no limit",
			SHOWN(value));
	if (seconds == 1)
		seconds = 2;
	out->connect_timeout_ms = seconds > 0 ? seconds * 1000 : 0;
	return true;
}

/*
 * Without these the kernel notices after two hours that an idle connection's
 * server has gone.  What the user gave in any way stands, as does what his
 * libpq does not know; Unix sockets do not mind.
 *
 * Not tcp_user_timeout, which would notice within seconds that a server does
 * not answer: it also ends a connection whose server is alive, but has not read
 * for so long what is sent to it, say a COPY that waits for another's row lock.
 */
static void
fill_keepalives(PoolOptions *out, const PQconninfoOption *effective)
{
	static const char *const defaults[PQP_DEFAULTS_MAX][2] = {
		{ "keepalives_idle", "30" },	 /* seconds */
		{ "keepalives_interval", "10" }, /* seconds */
		{ "keepalives_count", "3" },
	};

	for (int i = 0; i < PQP_DEFAULTS_MAX; i++)
	{
		const PQconninfoOption *option = find_option(effective, defaults[i][0]);

		if (option == NULL || is_set(option->val))
			continue;
		out->default_keywords[out->ndefaults] = defaults[i][0];
		out->default_values[out->ndefaults++] = defaults[i][1];
	}
}

static PqpTarget
read_target(const char *value)
{
	static const char *const names[] = {
		[PQP_TARGET_READ_WRITE] = "read-write",
		[PQP_TARGET_READ_ONLY] = "read-only",
		[PQP_TARGET_PRIMARY] = "primary",
		[PQP_TARGET_STANDBY] = "standby",
	};

	for (int i = PQP_TARGET_READ_WRITE; value != NULL && i <= PQP_TARGET_STANDBY; i++)
		if (strcmp(value, names[i]) == 0)
			return (PqpTarget) i;
	return PQP_TARGET_ANY;
}

static bool
fill_from_libpq(Parse *parse, PoolOptions *out)
{
	PQconninfoOption *effective = ask_libpq(parse);
	const char *user_options;
	bool ok;

	if (effective == NULL)
		return false;
	if (out->name[0] == '\0')
		name_pool(out, effective);
	fill_keepalives(out, effective);
	out->replication = is_set(find_value(effective, "replication"));
	out->target = read_target(find_value(effective, "target_session_attrs"));
	ok = fill_connect_timeout(parse, out, find_value(effective, "connect_timeout"));
	user_options = find_value(effective, "options");
	out->user_options = strdup(user_options != NULL ? user_options : "");
	PQconninfoFree(effective);
	return ok && (out->user_options != NULL || fail_memory(parse));
}

/* "options" is the caller's to add; user_options holds what it was. */
static void
drop_options_param(Parse *parse)
{
	int i = 0;

	while (i < parse->nparams && strcmp(parse->keywords[i], "options") != 0)
		i++;
	if (i == parse->nparams)
		return;
	free(parse->keywords[i]);
	free(parse->values[i]);
	for (; i < parse->nparams; i++)
	{
		parse->keywords[i] = parse->keywords[i + 1];
		parse->values[i] = parse->values[i + 1];
	}
	parse->nparams--;
}

/*---- the whole ----*/

static void
free_params(char **strings)
{
	for (int i = 0; strings != NULL && strings[i] != NULL; i++)
		free(strings[i]);
	free(strings);
}

static bool
parse_all(Parse *parse, const char *conninfo, PoolOptions *out)
{
	if (!grow_params(parse) || /* so that there are arrays, if empty ones */
		!take_conninfo(parse, conninfo, false) || !fill_options(parse, out) ||
		!fill_from_libpq(parse, out))
		return false;
	drop_options_param(parse);

	out->nparams = parse->nparams;
	out->keywords = parse->keywords;
	out->values = parse->values;
	parse->keywords = parse->values = NULL;
	return true;
}

bool
pqp_options_parse(const char *conninfo, PoolOptions *out, char *errbuf, size_t errlen)
{
	Parse parse = { .errbuf = errbuf, .errlen = errlen };
	bool ok;

	memset(out, 0, sizeof(*out));
	if (errlen > 0)
		errbuf[0] = '\0';
	ok = parse_all(&parse, conninfo != NULL ? conninfo : "", out);
	if (!ok)
	{
		pqp_options_free(out);
		out->no_memory = parse.no_memory;
		out->by_libpq = parse.by_libpq;
	}
	for (int i = 0; i < NDEFS; i++)
		free(parse.given[i]);
	free_params(parse.keywords);
	free_params(parse.values);
	return ok;
}

void
pqp_options_free(PoolOptions *options)
{
	if (options == NULL)
		return;
	free_params(options->keywords);
	free_params(options->values);
	free(options->user_options);
	memset(options, 0, sizeof(*options));
}
