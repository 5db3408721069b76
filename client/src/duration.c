/*-------------------------------------------------------------------------
 *
 * duration.c
 *	  Durations as people write them in postgresql.conf.
 *
 * Not strtod, for which the decimal point is what the program's locale says:
 * the same connection string must mean the same in every program.  Not octal
 * and hexadecimal either, which the server does accept: nobody who writes
 * "010" means eight.
 *
 *-------------------------------------------------------------------------
 */
#include "duration.h"

#include <stddef.h>
#include <string.h>

typedef struct Unit
{
	const char *name;
	double ms;
} Unit;

static const Unit units[] = {
	{ "", 1 },
	{ "us", 0.001 },
	{ "ms", 1 },
	{ "s", 1000 },
	{ "min", 60 * 1000 },
	{ "h", 60 * 60 * 1000 },
	{ "d", 24 * 60 * 60 * 1000 },
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Blanks as in the server's C locale. */
static const char *
skip_blanks(const char *p)
{
	while (*p == ' ' || (*p >= '\t' && *p <= '\r'))
		p++;
	return p;
}

/* Digits with at most one point among or beside them; NULL if there are none. */
static const char *
read_number(const char *p, double *value)
{
	double weight = 1;
	int ndigits = 0;

	*value = 0;
	for (; is_digit(*p); p++, ndigits++)
		*value = *value * 10 + (*p - '0');
	if (*p == '.')
	{
		for (p++; is_digit(*p); p++, ndigits++)
		{
			weight /= 10;
			*value += (*p - '0') * weight;
		}
	}
	return ndigits > 0 ? p : NULL;
}

/* "e3", "E-2"; any other text is left for the unit. */
static const char *
read_exponent(const char *p, double *value)
{
	const char *q = p;
	bool negative = false;
	int exponent = 0;

	if (*q != 'e' && *q != 'E')
		return p;
	q++;
	if (*q == '+' || *q == '-')
		negative = (*q++ == '-');
	if (!is_digit(*q))
		return p;
	for (; is_digit(*q); q++)
	{
		if (exponent < 1000)
			exponent = exponent * 10 + (*q - '0');
	}
	for (; exponent > 0 && *value > 0 && *value < 1e300; exponent--)
		*value = negative ? *value / 10 : *value * 10;
	return q;
}

static const Unit *
find_unit(const char *name)
{
	size_t len = strlen(name);

	while (len > 0 && *skip_blanks(name + len - 1) == '\0')
		len--;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
			return &units[i];
	}
	return NULL;
}

bool
pqp_duration_parse(const char *text, int64_t *ms)
{
	const char *p = skip_blanks(text);
	const Unit *unit;
	bool negative = false;
	double value;
	int64_t whole;

	if (*p == '+' || *p == '-')
		negative = (*p++ == '-');
	p = read_number(p, &value);
	if (p == NULL)
		return false;
	p = read_exponent(p, &value);
	unit = find_unit(skip_blanks(p));
	if (unit == NULL)
		return false;

	value *= unit->ms;
	if (value > PQP_DURATION_MAX_MS)
		return false;
	whole = (int64_t) (value + 0.5);
	if (whole == 0 && value > 0)
		whole = 1;
	*ms = negative ? -whole : whole;
	return true;
}
