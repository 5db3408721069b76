/*-------------------------------------------------------------------------
 *
 * error.c
 *	  pqpool_error: filling it in, and making sense of libpq's texts.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(pqpool_error) == 2048, "part of the ABI");

const char *
pqpool_code_name(int code)
{
	switch (code)
	{
#define NAME(name, number, text) \
	case number:                 \
		return #name;
		PQPOOL_CODES(NAME)
#undef NAME
		default:
			return "PQPOOL_UNKNOWN";
	}
}

const char *
pqpool_strerror(int code)
{
	switch (code)
	{
#define TEXT(name, number, text) \
	case number:                 \
		return text;
		PQPOOL_CODES(TEXT)
#undef TEXT
		default:
			return "unknown error";
	}
}

const char *
pqpool_version(void)
{
	return PQPOOL_VERSION;
}

int
pqpool_version_number(void)
{
	return PQPOOL_VERSION_NUMBER;
}

int
pqp_error_set(pqpool_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	(void) pqp_error_clear(err);
	err->code = code;
	va_start(args, format);
	(void) vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	return code;
}

static bool
breaks_line(char c)
{
	return c == '\n' || c == '\t' || c == '\r';
}

/* Append a text of many lines as one line: libpq's line break and tab become a blank. */
static void
append_line(char *buf, size_t size, const char *prefix, const char *text)
{
	size_t used = strlen(buf);
	char *to = buf + used;

	if (snprintf(to, size - used, "%s%s", prefix, text) < 0)
		return;
	for (const char *from = to; *from; from++)
		if (!breaks_line(*from))
			*to++ = *from;
		else if (!breaks_line(from[1]))
			*to++ = ' ';
	*to = '\0';
}

/* Add why libpq failed, if it did; returns err's code. */
int
pqp_error_cause(pqpool_error *err, const Failure *failure)
{
	if (!err)
		return failure->code;
	if (failure->code != PQPOOL_OK && failure->text[0])
	{
		memcpy(err->sqlstate, failure->sqlstate, sizeof(failure->sqlstate));
		(void) snprintf(err->cause, sizeof(err->cause), "%s", failure->text);
		append_line(err->message, sizeof(err->message), ": ", failure->text);
	}
	return err->code;
}

/* Copy, leaving out the middle if it is too long: both ends of libpq's texts matter. */
static void
copy_elided(char *buf, size_t size, const char *text, size_t length)
{
	static const char gap[] = " [...] ";
	size_t head, tail;

	if (length < size)
	{
		memcpy(buf, text, length);
		buf[length] = '\0';
		return;
	}
	head = (size - sizeof(gap)) / 2;
	tail = size - sizeof(gap) - head;
	memcpy(buf, text, head);
	memcpy(buf + head, gap, sizeof(gap) - 1);
	memcpy(buf + head + sizeof(gap) - 1, text + length - tail, tail);
	buf[size - 1] = '\0';
}

static size_t
trimmed_length(const char *text)
{
	size_t length = strlen(text);

	while (length > 0 && isspace((unsigned char) text[length - 1]))
		length--;
	return length;
}

void
pqp_failure_set(Failure *failure, int code, const char *text)
{
	failure->code = code;
	failure->sqlstate[0] = '\0';
	copy_elided(failure->text, sizeof(failure->text), text, trimmed_length(text));
}

/*
 * Where PQERRORS_VERBOSE has put a SQLSTATE: "FATAL: 28P01: password ..."; the
 * severity is in the server's language.  NULL: no SQLSTATE at this place.
 */
static const char *
sqlstate_at(const char *text)
{
	if (strncmp(text, ":  ", 3) != 0)
		return NULL;
	for (int i = 3; i < 8; i++)
		if (!isdigit((unsigned char) text[i]) && !(text[i] >= 'A' && text[i] <= 'Z'))
			return NULL;
	return text[8] == ':' && text[9] == ' ' ? text + 3 : NULL;
}

/* Is this line "LOCATION:  function, file.c:123", in whatever language? */
static bool
is_location(const char *line, size_t length)
{
	const char *end = line + length;
	const char *digits = end;

	while (digits > line && isdigit((unsigned char) digits[-1]))
		digits--;
	return digits < end && digits - line > 3 && memcmp(digits - 3, ".c:", 3) == 0 &&
		   memmem(line, length, ":  ", 3) != NULL;
}

/*
 * Take what PQERRORS_VERBOSE adds out of a message, in place, and keep the
 * (last) SQLSTATE.
 */
static void
strip_verbose(char *text, char *sqlstate)
{
	char *out = text;
	char *line = text;

	sqlstate[0] = '\0';
	while (line)
	{
		size_t length = strcspn(line, "\n");
		char *next = line[length] ? line + length + 1 : NULL;

		if (!is_location(line, length))
		{
			if (out > text)
				*out++ = '\n';
			for (size_t i = 0; i < length; i++)
			{
				const char *state = sqlstate_at(line + i);

				*out++ = line[i];
				if (state)
				{
					memcpy(sqlstate, state, 5);
					sqlstate[5] = '\0';
					*out++ = ' ';
					*out++ = ' ';
					i += 9; /* ":  XXXXX: " is now ":  " */
				}
			}
		}
		line = next;
	}
	*out = '\0';
}

/* Will the same attempt, made again, fail again? */
static bool
is_permanent(const char *sqlstate, PGconn *conn)
{
	return strncmp(sqlstate, "28", 2) == 0 || /* invalid authorization */
		   strcmp(sqlstate, "3D000") == 0 ||  /* no such database */
		   strcmp(sqlstate, "42501") == 0 ||  /* no right to connect */
		   strcmp(sqlstate, "42704") == 0 ||  /* no such setting in options */
		   strcmp(sqlstate, "22023") == 0 ||  /* bad value of one */
		   strcmp(sqlstate, "42602") == 0 || PQconnectionNeedsPassword(conn);
}

/* Why did this attempt, made with PQERRORS_VERBOSE, fail? */
void
pqp_failure_of_connect(Failure *failure, PGconn *conn)
{
	char text[4096] = "";

	copy_elided(text, sizeof(text), PQerrorMessage(conn), trimmed_length(PQerrorMessage(conn)));
	strip_verbose(text, failure->sqlstate);
	copy_elided(failure->text, sizeof(failure->text), text, strlen(text));
	if (strcmp(failure->sqlstate, "53300") == 0)
		failure->code = PQPOOL_SERVER_FULL;
	else if (is_permanent(failure->sqlstate, conn))
		failure->code = PQPOOL_REFUSED;
	else
		failure->code = PQPOOL_SERVER_DOWN;
}
