/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  Fuzzes the server's rules: rules_parse(), rules_parse_file(), rules_match() and rule_budget(),
 *	  extension/rules.h.
 *
 * What must hold for every text: a refusal names a place in the text and says
 * in ASCII what is wrong there; what is accepted is within the grammar's ranges,
 * and written down again and read once more is the same; a rule's part of the
 * text, read alone, is that rule; matching agrees with a second matcher, which
 * is slow and plain; a budget is never more than there is, but for the one
 * connection that a percentage is never rounded below.
 *
 * sources: extension/rules.c
 * flags: -Iextension
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* vasprintf */
#endif

#include "fuzz.h"

#include "rules.h"

#include <limits.h>

#define WEIGHT_MAX 1000

/*---- writing ----*/

/* From the matcher's form back to the grammar's: wildcards bare, everything else in quotes. */
static void
put_pattern(Out *out, const char *pattern)
{
	bool quoted = false;

	for (; *pattern != '\0'; pattern++)
	{
		bool wildcard = (*pattern == '*');

		if (wildcard == quoted)
			put(out, "\"");
		quoted = !wildcard;
		pattern += (*pattern == '\\');
		put_bytes(out, *pattern == '"' ? "\"\"" : pattern, *pattern == '"' ? 2 : 1);
	}
	if (quoted)
		put(out, "\"");
}

static void
put_rule(Out *out, const Rule *rule)
{
	static const char *const modes[] = {
		[RULE_MODE_OFF] = "off",	 [RULE_MODE_OBSERVE] = "observe", [RULE_MODE_ADVISE] = "advise",
		[RULE_MODE_SHARE] = "share", [RULE_MODE_ENFORCE] = "enforce",
	};

	put_pattern(out, rule->pool);
	put(out, " @ ");
	put_pattern(out, rule->role);
	put(out, " / ");
	put_pattern(out, rule->database);
	if (rule->budget < 0)
		put(out, " = -");
	else
		put(out, " = %d%s", rule->budget, rule->percent ? "%" : "");
	put(out, " : floor=%d : weight=%d", rule->floor, rule->weight);
	if (rule->mode != RULE_MODE_DEFAULT)
		put(out, " : mode=%s", modes[rule->mode]);
}

static bool
same_rule(const Rule *a, const Rule *b)
{
	return strcmp(a->pool, b->pool) == 0 && strcmp(a->role, b->role) == 0 &&
		   strcmp(a->database, b->database) == 0 && a->budget == b->budget &&
		   a->percent == b->percent && a->weight == b->weight && a->floor == b->floor &&
		   a->mode == b->mode;
}

/*---- the second matcher ----*/

/*
 * Which prefixes of the name the pattern's beginning matches, one element of the pattern
 * after the other.
 */
static bool
matches_slowly(const char *pattern, const char *name)
{
	size_t len = strlen(name);
	bool *reached = allocate(len + 1);
	bool answer;

	for (size_t i = 0; i <= len; i++)
		reached[i] = (i == 0);
	for (; *pattern != '\0'; pattern++)
	{
		bool wildcard = (*pattern == '*');

		if (*pattern == '\\')
			pattern++;
		if (wildcard)
		{
			for (size_t i = 1; i <= len; i++)
				reached[i] |= reached[i - 1];
			continue;
		}
		for (size_t i = len; i > 0; i--)
			reached[i] = reached[i - 1] && name[i - 1] == *pattern;
		reached[0] = false;
	}
	answer = reached[len];
	free(reached);
	return answer;
}

static int
match_slowly(const RuleSet *set, const char *pool, const char *role, const char *database)
{
	for (int i = 0; i < set->nrules; i++)
	{
		if (matches_slowly(set->rules[i].pool, pool) && matches_slowly(set->rules[i].role, role) &&
			matches_slowly(set->rules[i].database, database))
			return i;
	}
	return -1;
}

/* A name that the pattern matches, with `fill` for every wildcard. */
static char *
name_for(const char *pattern, const char *fill)
{
	Out out = { 0 };

	put_bytes(&out, "", 0);
	for (; *pattern != '\0'; pattern++)
	{
		if (*pattern == '*')
		{
			put(&out, "%s", fill);
			continue;
		}
		if (*pattern == '\\')
			pattern++;
		put_bytes(&out, pattern, 1);
	}
	return out.text;
}

static void
check_match(const RuleSet *set, const char *pool, const char *role, const char *database)
{
	int got = rules_match(set, pool, role, database);
	int expected = match_slowly(set, pool, role, database);

	hold(got == expected, "rule %d, not %d, for \"%s\" \"%s\" \"%s\"", got, expected, pool, role,
		 database);
	hold(rules_match(set, pool, role, database) == got, "not rule %d when asked again, for \"%s\"",
		 got, pool);
}

/* The text itself as a name: one that libFuzzer makes up, and longer than any pattern. */
static void
check_free_names(const RuleSet *set, const char *text)
{
	char *name = strndup(text, (size_t) 3 * RULE_PATTERN_LEN);

	check_match(set, name, "a", "a");
	check_match(set, "a", name, name);
	free(name);
}

static void
check_matching(const RuleSet *set)
{
	static const char *const fills[] = { "", "a", "*", "xyx", "\\" };

	for (int i = 0; i < set->nrules && i < 8; i++)
	{
		const Rule *rule = &set->rules[i];

		for (int k = 0; k < countof(fills); k++)
		{
			char *pool = name_for(rule->pool, fills[k]);
			char *role = name_for(rule->role, fills[k]);
			char *database = name_for(rule->database, fills[k]);
			int found = rules_match(set, pool, role, database);

			hold(found >= 0 && found <= i, "rule %d, not %d or before, for \"%s\"", found, i, pool);
			check_match(set, pool, role, database);
			check_match(set, role, pool, database);
			check_match(set, database, role, pool);
			free(pool);
			free(role);
			free(database);
		}
	}
}

/*---- what was read ----*/

static void
check_budget(const Rule *rule)
{
	static const int bases[] = { INT_MIN, -1, 0, 1, 3, 97, 100, 262143, INT_MAX };
	int before = -1;

	for (int i = 0; i < countof(bases); i++)
	{
		int base = bases[i];
		int budget = rule_budget(rule, base);

		hold(budget >= before, "base %d: %d after %d", base, budget, before);
		hold((budget == 0) == (rule->budget == 0), "base %d: %d", base, budget);
		if (rule->percent)
			hold(budget <= (base > 1 ? base : 1), "base %d: %d", base, budget);
		else
			hold(budget == rule->budget, "base %d: %d", base, budget);
		before = budget;
	}
}

static void
check_rule(const char *text, const Rule *rule)
{
	RuleSet *alone = allocate(sizeof(*alone));
	RulesError error;
	char *part;

	hold(rule->pool[0] != '\0' && rule->role[0] != '\0' && rule->database[0] != '\0', "empty name");
	hold(rule->budget >= -1 && rule->floor >= 0, "budget %d, floor %d", rule->budget, rule->floor);
	hold(rule->weight >= 1 && rule->weight <= WEIGHT_MAX, "weight %d", rule->weight);
	hold(!rule->percent || (rule->budget >= 0 && rule->budget <= 100), "%d %%", rule->budget);
	hold(rule->percent || rule->budget < 0 || rule->floor <= rule->budget, "floor %d over %d",
		 rule->floor, rule->budget);
	check_budget(rule);

	hold(rule->offset >= 0 && rule->length > 0 &&
			 (size_t) rule->offset + (size_t) rule->length <= strlen(text),
		 "part %d, %d", rule->offset, rule->length);
	part = strndup(text + rule->offset, (size_t) rule->length);
	hold(rules_parse(part, alone, &error), "alone: %s: \"%s\"", error.message, part);
	hold(alone->nrules == 1 && same_rule(&alone->rules[0], rule), "alone: \"%s\"", part);
	hold(alone->rules[0].offset == 0 && alone->rules[0].length == rule->length,
		 "not trimmed: \"%s\"", part);
	free(part);
	free(alone);
}

static void
check_round_trip(const RuleSet *set)
{
	RuleSet *again = allocate(sizeof(*again));
	RulesError error;
	Out out = { 0 };

	put_bytes(&out, "", 0);
	for (int i = 0; i < set->nrules; i++)
	{
		put_rule(&out, &set->rules[i]);
		put(&out, ",\n");
	}
	hold(rules_parse(out.text, again, &error), "%s at %d: \"%s\"", error.message, error.offset,
		 out.text);
	hold(again->nrules == set->nrules, "%d rules, not %d: \"%s\"", again->nrules, set->nrules,
		 out.text);
	for (int i = 0; i < set->nrules; i++)
		hold(same_rule(&again->rules[i], &set->rules[i]), "rule %d of \"%s\"", i, out.text);
	free(out.text);
	free(again);
}

static void
check_error(const char *text, const RulesError *error)
{
	size_t len = strnlen(error->message, sizeof(error->message));

	hold(error->offset >= 0 && (size_t) error->offset <= strlen(text), "offset %d", error->offset);
	hold(len > 0 && len < sizeof(error->message), "message of %zu bytes", len);
	hold(error->message[len - 1] != '.', "a period: %s", error->message);
	hold(error->message[0] < 'A' || error->message[0] > 'Z', "a capital: %s", error->message);
	for (size_t i = 0; i < len; i++)
		hold(error->message[i] >= ' ' && error->message[i] <= '~', "not ASCII: byte %zu", i);
}

static void
check_line(const char *text, const RulesError *error)
{
	int lines = 1;

	for (int i = 0; i < error->offset && text[i] != '\0'; i++)
		lines += text[i] == '\n';
	hold(error->line == lines, "line %d, not %d", error->line, lines);
	hold(error->column >= 1 && error->column <= error->offset + 1, "column %d", error->column);
}

/* The text as the setting's value, or as the file's. */
static void
check_text(const char *text, bool is_file)
{
	RuleSet *set = allocate(sizeof(*set));
	RulesError error;

	memset(&error, 'x', sizeof(error));
	set->nrules = 0;
	if (is_file ? rules_parse_file(text, set, &error) : rules_parse(text, set, &error))
	{
		hold(set->nrules >= 0 && set->nrules <= RULES_MAX, "%d rules", set->nrules);
		for (int i = 0; i < set->nrules; i++)
		{
			hold(set->rules[i].from_file == is_file, "rule %d from elsewhere", i);
			check_rule(text, &set->rules[i]);
		}
		check_round_trip(set);
		check_matching(set);
		check_free_names(set, text);
	}
	else
	{
		check_error(text, &error);
		check_line(text, &error);
	}
	free(set);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size);

	check_text(text, false);
	check_text(text, true);
	free(text);
	return 0;
}
