/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  What the DBA grants to whom: reading pgpool_monitor.rules and the text of
 *	  pgpool_monitor.rules_file, and matching.
 *
 * A descent by hand, one function for each line of the grammar in rules.h.
 * Each returns false after fail() has noted what is wrong and where, and the
 * first failure ends the reading.
 *
 * Invariants: reading never passes the terminator; a pattern in a RuleSet is
 * terminated and has no backslash that escapes nothing; messages are ASCII
 * whatever stands in the text, because they are shown in views and logs of
 * databases of any encoding.
 *
 * Matching takes time in proportion to pattern times name, both short, however
 * many asterisks there are: only the last one is ever tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "rules.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WEIGHT_MAX 1000
#define SHOWN_MAX 24 /* bytes of an unknown word that a message repeats */

typedef struct Parser
{
	const char *text;
	const char *at;		   /* next byte to read */
	const char *token_end; /* end of the last token: where a rule ends */
	bool is_file;		   /* a newline ends a rule, and '#' begins a comment */
	RulesError *error;
} Parser;

/* Options that a rule may have once; a bit each in `seen`. */
typedef enum Option
{
	OPTION_WEIGHT,
	OPTION_FLOOR,
	OPTION_MODE,
	OPTIONS
} Option;

static const char *const option_names[OPTIONS] = { "weight", "floor", "mode" };

static const struct
{
	const char *name;
	RuleMode mode;
} modes[] = {
	{ "off", RULE_MODE_OFF },	  { "observe", RULE_MODE_OBSERVE }, { "advise", RULE_MODE_ADVISE },
	{ "share", RULE_MODE_SHARE }, { "enforce", RULE_MODE_ENFORCE },
};

#define MODES ((int) (sizeof(modes) / sizeof(modes[0])))

__attribute__((format(printf, 3, 4))) static bool
fail(Parser *p, const char *at, const char *format, ...)
{
	va_list args;

	p->error->offset = (int) (at - p->text);
	p->error->line = p->error->column = 1;
	for (const char *c = p->text; c < at; c++)
	{
		p->error->column = *c == '\n' ? 1 : p->error->column + 1;
		p->error->line += *c == '\n';
	}
	va_start(args, format);
	vsnprintf(p->error->message, sizeof(p->error->message), format, args);
	va_end(args);
	return false;
}

/* The same in every locale, unlike isspace(). */
static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What may stand in a name only between quotes. */
static bool
is_special(const Parser *p, char c)
{
	return c == '\0' || is_blank(c) || strchr(",=@/:\"%", c) != NULL || (c == '#' && p->is_file);
}

/* In a file the end of the line is left: it is a token. */
static void
skip_blanks(Parser *p)
{
	while (is_blank(*p->at) && !(p->is_file && *p->at == '\n'))
		p->at++;
	if (p->is_file && *p->at == '#')
		p->at += strcspn(p->at, "\n");
}

/* Accept one byte as a token, and the blanks after it. */
static bool
take(Parser *p, char c)
{
	if (*p->at != c)
		return false;
	p->token_end = ++p->at;
	skip_blanks(p);
	return true;
}

static void
end_token(Parser *p)
{
	p->token_end = p->at;
	skip_blanks(p);
}

/* A pattern that is being put together. */
typedef struct Pattern
{
	char *bytes;
	size_t len;
	bool full;
} Pattern;

/*
 * Add a byte, escaped where the matcher would take it for something else.
 */
static void
add_byte(Pattern *pattern, char c, bool wildcard)
{
	bool escape = c == '\\' || (c == '*' && !wildcard);

	if (pattern->len + escape + 1 >= RULE_PATTERN_LEN)
	{
		pattern->full = true;
		return;
	}
	if (escape)
		pattern->bytes[pattern->len++] = '\\';
	pattern->bytes[pattern->len++] = c;
}

static bool
take_quoted(Parser *p, Pattern *pattern)
{
	const char *quote = p->at++;

	while (*p->at != '\0' && !(p->is_file && *p->at == '\n'))
	{
		char c = *p->at++;

		if (c == '"' && *p->at != '"')
			return true;
		if (c == '"')
			p->at++;
		add_byte(pattern, c, false);
	}
	return fail(p, quote, "this quote is not closed");
}

/*
 * A name, made of bare and quoted parts.  `what` is for messages.
 */
static bool
take_pattern(Parser *p, char bytes[RULE_PATTERN_LEN], const char *what)
{
	const char *begin = p->at;
	Pattern pattern = { bytes, 0, false };

	while (*p->at == '"' || !is_special(p, *p->at))
	{
		if (*p->at != '"')
			add_byte(&pattern, *p->at++, true);
		else if (!take_quoted(p, &pattern))
			return false;
	}
	bytes[pattern.len] = '\0';
	if (p->at == begin)
		return fail(p, begin, "expected the %s's name", what);
	if (pattern.len == 0)
		return fail(p, begin, "the %s's name is empty", what);
	if (pattern.full)
		return fail(p, begin, "the %s's name is too long", what);
	end_token(p);
	return true;
}

/* A number of at most `max`; `what` is for messages. */
static bool
take_number(Parser *p, int max, int *number, const char *what)
{
	const char *begin = p->at;
	int64_t value = 0;

	while (*p->at >= '0' && *p->at <= '9')
	{
		if (value <= max)
			value = value * 10 + (*p->at - '0');
		p->at++;
	}
	if (p->at == begin)
		return fail(p, begin, "expected a number for the %s", what);
	if (value > max)
		return fail(p, begin, "the %s is more than %d", what, max);
	*number = (int) value;
	end_token(p);
	return true;
}

static bool
take_budget(Parser *p, Rule *rule)
{
	const char *begin = p->at;

	rule->budget = -1;
	if (take(p, '-'))
		return true;
	if (*p->at < '0' || *p->at > '9')
		return fail(p, begin, "expected a budget: a number, a percentage or \"-\"");
	if (!take_number(p, INT_MAX, &rule->budget, "budget"))
		return false;
	rule->percent = take(p, '%');
	if (rule->percent && rule->budget > 100)
		return fail(p, begin, "the budget is more than 100 %%");
	return true;
}

/* A bare word: what options and modes are called. */
static size_t
word_length(const Parser *p)
{
	size_t len = 0;

	while (!is_special(p, p->at[len]))
		len++;
	return len;
}

static bool
word_is(const char *at, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(at, name, len) == 0;
}

/* The word as a message may repeat it: cut, and ASCII only. */
static const char *
shown(const char *at, size_t len, char buffer[SHOWN_MAX + 1])
{
	size_t i;

	for (i = 0; i < len && i < SHOWN_MAX; i++)
		buffer[i] = (at[i] > ' ' && at[i] <= '~') ? at[i] : '?';
	buffer[i] = '\0';
	return buffer;
}

static bool
take_mode(Parser *p, Rule *rule)
{
	size_t len = word_length(p);
	char buffer[SHOWN_MAX + 1];

	for (int i = 0; i < MODES; i++)
	{
		if (!word_is(p->at, len, modes[i].name))
			continue;
		rule->mode = modes[i].mode;
		p->at += len;
		end_token(p);
		return true;
	}
	return fail(p, p->at, "unknown mode \"%s\"; known are off, observe, advise, share and enforce",
				shown(p->at, len, buffer));
}

static bool
take_weight(Parser *p, Rule *rule)
{
	const char *begin = p->at;

	if (!take_number(p, WEIGHT_MAX, &rule->weight, "weight"))
		return false;
	if (rule->weight == 0)
		return fail(p, begin, "the weight is less than 1");
	return true;
}

/* Whether a floor fits under a percentage is not known before `base` is. */
static bool
take_floor(Parser *p, Rule *rule)
{
	const char *begin = p->at;

	if (!take_number(p, INT_MAX, &rule->floor, "floor"))
		return false;
	if (rule->budget >= 0 && !rule->percent && rule->floor > rule->budget)
		return fail(p, begin, "the floor is more than the budget");
	return true;
}

/* OPTIONS if there is none of that name. */
static Option
find_option(const char *at, size_t len)
{
	int i = 0;

	while (i < OPTIONS && !word_is(at, len, option_names[i]))
		i++;
	return (Option) i;
}

static bool
take_option(Parser *p, Rule *rule, unsigned int *seen)
{
	const char *begin = p->at;
	size_t len = word_length(p);
	Option option = find_option(begin, len);
	char buffer[SHOWN_MAX + 1];

	if (option == OPTIONS)
		return fail(p, begin, "unknown option \"%s\"; known are weight, floor and mode",
					shown(begin, len, buffer));
	if (*seen & (1U << option))
		return fail(p, begin, "%s is given twice", option_names[option]);
	*seen |= 1U << option;
	p->at += len;
	end_token(p);
	if (!take(p, '='))
		return fail(p, p->at, "expected \"=\" after %s", option_names[option]);
	switch (option)
	{
		case OPTION_WEIGHT:
			return take_weight(p, rule);
		case OPTION_FLOOR:
			return take_floor(p, rule);
		default:
			return take_mode(p, rule);
	}
}

static bool
take_names(Parser *p, Rule *rule)
{
	memcpy(rule->role, "*", sizeof("*"));
	memcpy(rule->database, "*", sizeof("*"));
	if (!take_pattern(p, rule->pool, "pool"))
		return false;
	if (!take(p, '@'))
		return true;
	if (!take_pattern(p, rule->role, "role"))
		return false;
	if (!take(p, '/'))
		return true;
	return take_pattern(p, rule->database, "database");
}

static bool
take_rule(Parser *p, Rule *rule)
{
	const char *begin = p->at;
	unsigned int seen = 0;

	memset(rule, 0, sizeof(*rule));
	rule->weight = 1;
	if (!take_names(p, rule))
		return false;
	if (!take(p, '='))
		return fail(p, p->at, "expected \"=\" and a budget");
	if (!take_budget(p, rule))
		return false;
	while (take(p, ':'))
	{
		if (!take_option(p, rule, &seen))
			return false;
	}
	rule->offset = (int) (begin - p->text);
	rule->length = (int) (p->token_end - begin);
	return true;
}

/* Append the rule that begins here. */
static bool
add_rule(Parser *p, RuleSet *set)
{
	Rule *rule = &set->rules[set->nrules];

	if (set->nrules == RULES_MAX)
		return fail(p, p->at, "more than %d rules", RULES_MAX);
	if (!take_rule(p, rule))
		return false;
	rule->from_file = p->is_file;
	/* written into memory that is all zeros */
	memcpy(rule->text, p->text + rule->offset,
		   (size_t) (rule->length < RULE_TEXT_LEN ? rule->length : RULE_TEXT_LEN - 1));
	set->nrules++;
	return true;
}

bool
rules_parse(const char *text, RuleSet *set, RulesError *error)
{
	Parser p = { text, text, text, false, error };

	set->nrules = 0;
	skip_blanks(&p);
	while (*p.at != '\0')
	{
		if (!add_rule(&p, set))
			return false;
		if (!take(&p, ',') && *p.at != '\0')
			return fail(&p, p.at, "expected \",\" or \":\" after a rule");
	}
	return true;
}

static bool
parse_lines(Parser *p, RuleSet *set)
{
	skip_blanks(p);
	while (*p->at != '\0')
	{
		if (*p->at != '\n' && !add_rule(p, set))
			return false;
		if (!take(p, '\n') && *p->at != '\0')
			return fail(p, p->at, "expected \":\" or the end of the line after a rule");
	}
	return true;
}

bool
rules_parse_file(const char *text, RuleSet *set, RulesError *error)
{
	Parser p = { text, text, text, true, error };
	int before = set->nrules;

	if (parse_lines(&p, set))
		return true;
	set->nrules = before;
	return false;
}

/*
 * When something does not fit, it is enough to let the last asterisk take one
 * byte more: whatever an earlier one could take in its place, the later one can too.
 */
static bool
pattern_matches(const char *pattern, const char *name)
{
	const char *after_star = NULL;
	const char *retry = NULL;

	while (*name != '\0')
	{
		bool literal = (*pattern == '\\');

		if (*pattern == '*')
		{
			after_star = ++pattern;
			retry = name;
		}
		else if (pattern[literal] == *name)
		{
			pattern += literal + 1;
			name++;
		}
		else if (after_star)
		{
			pattern = after_star;
			name = ++retry;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

int
rules_match(const RuleSet *set, const char *pool, const char *role, const char *database)
{
	for (int i = 0; i < set->nrules; i++)
	{
		const Rule *rule = &set->rules[i];

		if (pattern_matches(rule->pool, pool) && pattern_matches(rule->role, role) &&
			pattern_matches(rule->database, database))
			return i;
	}
	return -1;
}

int
rule_budget(const Rule *rule, int base)
{
	int connections;

	if (!rule->percent)
		return rule->budget;
	connections = base > 0 ? (int) ((int64_t) base * rule->budget / 100) : 0;
	return connections == 0 && rule->budget > 0 ? 1 : connections;
}
