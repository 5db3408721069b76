/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  The grammar of pgpool_monitor.rules, and of its file: what is accepted, what is refused
 *	  and where, and which rule matches.
 *
 * sources: extension/rules.c
 *
 *-------------------------------------------------------------------------
 */
#include "rules.h"

#include <limits.h>
#include <stdint.h>
#include <time.h>

#include "tap.h"

static RuleSet set;
static RulesError error;

/* From memory that ends with the terminator, so that AddressSanitizer sees a byte too many. */
static bool
parse(const char *text)
{
	char *copy = strdup(text);
	bool parsed;

	memset(&set, 0x5A, sizeof(set));
	memset(&error, 0x5A, sizeof(error));
	parsed = rules_parse(copy, &set, &error);
	free(copy);
	return parsed;
}

/* As a test's name may show it: on one line. */
static const char *
line(const char *text)
{
	static char shown[64];

	snprintf(shown, sizeof(shown), "%s", text);
	for (char *at = shown; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return shown;
}

static void
accepts(const char *text, int nrules)
{
	bool parsed = parse(text);

	if (!ok(parsed && set.nrules == nrules, "%d rules in: %s", nrules, line(text)) && !parsed)
		diag("at %d: %s", error.offset, error.message);
}

/* `marked` is the text, with a '^' before the byte at which the error is. */
static void
refuses(const char *marked, const char *message)
{
	const char *mark = strchr(marked, '^');
	char text[512];

	snprintf(text, sizeof(text), "%.*s%s", (int) (mark - marked), marked, mark + 1);
	if (!ok(!parse(text), "refused: %s", line(marked)))
		return;
	is_int(error.offset, mark - marked, "  at its place");
	is_str(error.message, message, "  because %s", message);
}

static void
rule_is(int i, const char *pool, const char *role, const char *database, int budget, bool percent)
{
	const Rule *rule = &set.rules[i];

	is_str(rule->pool, pool, "rule %d: pool", i);
	is_str(rule->role, role, "rule %d: role", i);
	is_str(rule->database, database, "rule %d: database", i);
	is_int(rule->budget, budget, "rule %d: budget", i);
	is_int(rule->percent, percent, "rule %d: percent", i);
}

static void
options_are(int i, int weight, int floor, RuleMode mode)
{
	is_int(set.rules[i].weight, weight, "rule %d: weight", i);
	is_int(set.rules[i].floor, floor, "rule %d: floor", i);
	is_int(set.rules[i].mode, mode, "rule %d: mode", i);
}

/* The part of the text that belongs to the rule. */
static void
extent_is(const char *text, int i, const char *part)
{
	char got[256];

	snprintf(got, sizeof(got), "%.*s", set.rules[i].length, text + set.rules[i].offset);
	is_str(got, part, "rule %d is: %s", i, line(part));
	if (strlen(part) < RULE_TEXT_LEN)
		is_str(set.rules[i].text, part, "  and is kept so");
}

static void
test_accepted(void)
{
	const char *all = "orders=40, batch@etl/dw = 25% : weight=2:floor = 3 :mode=off ,\n"
					  "\t*=-:mode=share,x@y=0:mode=observe:weight=1000,\r\n";

	accepts("", 0);
	accepts(" \t\r\n\f\v", 0);
	accepts("a=1", 1);
	accepts("a=1,", 1);
	accepts(" a = 1 , \n", 1);

	accepts(all, 4);
	rule_is(0, "orders", "*", "*", 40, false);
	options_are(0, 1, 0, RULE_MODE_DEFAULT);
	extent_is(all, 0, "orders=40");
	rule_is(1, "batch", "etl", "dw", 25, true);
	options_are(1, 2, 3, RULE_MODE_OFF);
	extent_is(all, 1, "batch@etl/dw = 25% : weight=2:floor = 3 :mode=off");
	rule_is(2, "*", "*", "*", -1, false);
	options_are(2, 1, 0, RULE_MODE_SHARE);
	extent_is(all, 2, "*=-:mode=share");
	rule_is(3, "x", "y", "*", 0, false);
	options_are(3, 1000, 0, RULE_MODE_OBSERVE);
	extent_is(all, 3, "x@y=0:mode=observe:weight=1000");

	accepts("a=1:mode=advise,b=2:mode=enforce,c=3:mode=off", 3);
	options_are(0, 1, 0, RULE_MODE_ADVISE);
	options_are(1, 1, 0, RULE_MODE_ENFORCE);

	accepts("a=2147483647:floor=2147483647", 1);
	accepts("a=100%:floor=2147483647", 1); /* cannot be judged without knowing of what */
	accepts("a=-:floor=7", 1);
	accepts("a=40:floor=40", 1);
	accepts("a=0%", 1);
	accepts("a=0007", 1);
	is_int(set.rules[0].budget, 7, "zeros in front do not matter");
	accepts("a= 50 %", 1);
	ok(set.rules[0].percent, "a blank may stand before the percent sign");
	accepts("a-b_c.d;e(f)\x80\xff=1", 1);
	is_str(set.rules[0].pool, "a-b_c.d;e(f)\x80\xff", "other bytes need no quotes");
}

static void
test_quoting(void)
{
	accepts("\"a,=@/:*% \n\"=1", 1);
	is_str(set.rules[0].pool, "a,=@/:\\*% \n", "between quotes nothing is special");
	accepts("\"say \"\"hi\"\"\"@\"\"\"\"=1", 1);
	is_str(set.rules[0].pool, "say \"hi\"", "a doubled quote is a quote");
	is_str(set.rules[0].role, "\"", "also alone");
	accepts("a\\b@\"c\\\"=1", 1);
	is_str(set.rules[0].pool, "a\\\\b", "a backslash is only itself");
	is_str(set.rules[0].role, "c\\\\", "also between quotes");
	accepts("\"my app\"*\"!\"=1", 1);
	is_str(set.rules[0].pool, "my app*!", "quoted and bare parts side by side");
	refuses("^\"\"=1", "the pool's name is empty");
	refuses("a@^\"\"=1", "the role's name is empty");
	refuses("a@b/^\"\"=1", "the database's name is empty");
	refuses("b=1,^\"a=1", "this quote is not closed");
	refuses("a^\"=1", "this quote is not closed");
	refuses("^\"a\"\"=1", "this quote is not closed");
	refuses("\"a\" ^\"b\"=1", "expected \"=\" and a budget");
}

static void
test_refused(void)
{
	refuses("^,", "expected the pool's name");
	refuses("a=1,^,b=1", "expected the pool's name");
	refuses("a=1,b=2,^,", "expected the pool's name");
	refuses(" ^=1", "expected the pool's name");
	refuses("^%=1", "expected the pool's name");
	refuses("a@^=1", "expected the role's name");
	refuses("a@^/b=1", "expected the role's name");
	refuses("a@b/^=1", "expected the database's name");
	refuses("a@b/c^/d=1", "expected \"=\" and a budget");
	refuses("a^/b=1", "expected \"=\" and a budget");
	refuses("a ^b=1", "expected \"=\" and a budget");
	refuses("a^", "expected \"=\" and a budget");
	refuses("a@b^,", "expected \"=\" and a budget");
	refuses("a=^", "expected a budget: a number, a percentage or \"-\"");
	refuses("a= \n^x", "expected a budget: a number, a percentage or \"-\"");
	refuses("a=^%", "expected a budget: a number, a percentage or \"-\"");
	refuses("a=^+1", "expected a budget: a number, a percentage or \"-\"");
	refuses("a=-^1", "expected \",\" or \":\" after a rule");
	refuses("a=-^%", "expected \",\" or \":\" after a rule");
	refuses("a=1^x", "expected \",\" or \":\" after a rule");
	refuses("a=1^.5", "expected \",\" or \":\" after a rule");
	refuses("a=1 ^b=2", "expected \",\" or \":\" after a rule");
	refuses("a=1%^%", "expected \",\" or \":\" after a rule");
	refuses("a=1:floor=1^%", "expected \",\" or \":\" after a rule");
	refuses("a=^101%", "the budget is more than 100 %");
	refuses("a=^2147483648", "the budget is more than 2147483647");
	refuses("a=^99999999999999999999999999", "the budget is more than 2147483647");
	refuses("a=1:floor=^18446744073709551617", "the floor is more than 2147483647");
	refuses("b=1,a=40:floor=^41", "the floor is more than the budget");
	refuses("a=0:floor=^1", "the floor is more than the budget");
	refuses("a=1:floor=^", "expected a number for the floor");
	refuses("a=1:floor=^-1", "expected a number for the floor");
	refuses("a=1:weight=^", "expected a number for the weight");
	refuses("a=1:weight=^0", "the weight is less than 1");
	refuses("a=1:weight=^1001", "the weight is more than 1000");
	refuses("a=1:weight^:2", "expected \"=\" after weight");
	refuses("a=1:mode^", "expected \"=\" after mode");
	refuses("a=1:weight=1:^weight=1", "weight is given twice");
	refuses("a=1:floor=1:mode=off:^floor=1", "floor is given twice");
	refuses("a=1:mode=off: ^mode=off", "mode is given twice");
	refuses("a=1:^wait=1", "unknown option \"wait\"; known are weight, floor and mode");
	refuses("a=1:^weights=1", "unknown option \"weights\"; known are weight, floor and mode");
	refuses("a=1:^", "unknown option \"\"; known are weight, floor and mode");
	refuses("a=1:^=", "unknown option \"\"; known are weight, floor and mode");
	refuses("a=1:mode=^enforced",
			"unknown mode \"enforced\"; known are off, observe, advise, share and enforce");
	refuses("a=1:mode=^Share",
			"unknown mode \"Share\"; known are off, observe, advise, share and enforce");
	refuses("a=1:mode=^", "unknown mode \"\"; known are off, observe, advise, share and enforce");
	refuses("a=1:mode=^\"off\"",
			"unknown mode \"\"; known are off, observe, advise, share and enforce");
	refuses("a=1:mode=^a\x1b\xc3\xa4z",
			"unknown mode \"a???z\"; known are off, observe, advise, share and enforce");
	refuses("a=1:mode=^abcdefghijklmnopqrstuvwxyzabcdef",
			"unknown mode \"abcdefghijklmnopqrstuvwx\"; known are off, observe, advise, share and "
			"enforce");
}

static void
test_capacity(void)
{
	char text[RULES_MAX * 8 + 64];
	size_t len = 0;

	for (int i = 0; i < RULES_MAX; i++)
		len += (size_t) snprintf(text + len, sizeof(text) - len, "p%d=%d,", i % 10, i);
	accepts(text, RULES_MAX);
	is_int(set.rules[RULES_MAX - 1].budget, RULES_MAX - 1, "the last of the most rules is there");
	strcpy(text + len, " q=1");
	ok(!parse(text), "one rule more is refused");
	is_int(error.offset, (int) len + 1, "  at the rule that is too many");
	is_str(error.message, "more than 512 rules", "  because of the number");
}

/* A name of `count` times `unit`. */
static void
repeat(char *text, const char *unit, int count, const char *rest)
{
	*text = '\0';
	while (count-- > 0)
		strcat(text, unit);
	strcat(text, rest);
}

static void
test_long_names(void)
{
	char text[512] = "a@", wanted[512];

	repeat(text, "x", RULE_PATTERN_LEN - 1, "=1");
	accepts(text, 1);
	is_int(strlen(set.rules[0].pool), RULE_PATTERN_LEN - 1, "the longest name is kept whole");
	repeat(text, "x", RULE_PATTERN_LEN, "=1");
	ok(!parse(text) && error.offset == 0, "one byte more is refused");
	is_str(error.message, "the pool's name is too long", "  because of its length");

	/* A name of PostgreSQL's greatest length must fit even if each byte is escaped. */
	repeat(wanted, "\\*", 63, "");
	strcpy(text, "a@\"");
	repeat(text + 3, "*", 63, "\"=1");
	accepts(text, 1);
	is_str(set.rules[0].role, wanted, "63 literal asterisks fit");
	repeat(text + 3, "*", 64, "\"=1");
	ok(!parse(text) && error.offset == 2, "64 do not");
	is_str(error.message, "the role's name is too long", "  and are not cut in an escape");
}

static int
match(const char *pattern, const char *name)
{
	char text[RULE_PATTERN_LEN + 8];

	snprintf(text, sizeof(text), "%s=1", pattern);
	if (!parse(text))
		return -2;
	return rules_match(&set, name, "anyone", "anywhere");
}

static void
test_patterns(void)
{
	static const struct
	{
		const char *pattern;
		const char *name;
		bool matches;
	} cases[] = {
		{ "orders", "orders", true },
		{ "orders", "order", false },
		{ "orders", "orders2", false },
		{ "orders", "Orders", false },
		{ "*", "", true },
		{ "*", "anything at all", true },
		{ "**", "x", true },
		{ "orders*", "orders", true },
		{ "orders*", "orders-eu", true },
		{ "*orders", "eu-orders", true },
		{ "*orders", "orders-eu", false },
		{ "*orders", "orders-orders", true },
		{ "a*b*c", "abc", true },
		{ "a*b*c", "a-b-b-c-c", true },
		{ "a*b*c", "acb", false },
		{ "*a*", "bab", true },
		{ "*a*", "bbb", false },
		{ "a*a", "a", false },
		{ "*ab", "aab", true },
		{ "*aab*", "aaab", true },
		{ "\"a*\"", "a*", true },
		{ "\"a*\"", "ab", false },
		{ "*\"*\"*", "a*b", true },
		{ "*\"*\"*", "a-b", false },
		{ "a\\b", "a\\b", true },
		{ "a\\*", "a\\bc", true },
		{ "a\\*", "a*", false },
		{ "\"a\\*\"", "a\\*", true },
		{ "*\\", "a\\", true },
		{ "a?c", "abc", false },
		{ "[a]", "a", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		is_int(match(cases[i].pattern, cases[i].name), cases[i].matches ? 0 : -1, "%s %s %s",
			   cases[i].pattern, cases[i].matches ? "matches" : "does not match", cases[i].name);
}

/* The definition of a match, exponential and obvious, against which the quick one is held. */
static bool
plainly_matches(const char *pattern, const char *name)
{
	if (*pattern == '\0')
		return *name == '\0';
	if (*pattern == '*')
		return plainly_matches(pattern + 1, name) ||
			   (*name != '\0' && plainly_matches(pattern, name + 1));
	return *pattern == *name && plainly_matches(pattern + 1, name + 1);
}

static unsigned int random_state = 1;

static unsigned int
random_below(unsigned int n)
{
	random_state = random_state * 1103515245u + 12345u;
	return (random_state >> 16) % n;
}

static void
random_word(char *word, const char *letters, unsigned int longest)
{
	unsigned int len = 1 + random_below(longest);

	for (unsigned int i = 0; i < len; i++)
		word[i] = letters[random_below((unsigned int) strlen(letters))];
	word[len] = '\0';
}

static void
test_patterns_at_random(void)
{
	int wrong = 0;
	int matched = 0;

	for (int i = 0; i < 200000; i++)
	{
		char pattern[16], name[16];
		bool expected;

		random_word(pattern, "ab**", 7);
		random_word(name, "ab", 9);
		expected = plainly_matches(pattern, name);
		matched += expected;
		memset(&set.rules[0], 0, sizeof(set.rules[0]));
		set.nrules = 1;
		strcpy(set.rules[0].pool, pattern);
		strcpy(set.rules[0].role, "*");
		strcpy(set.rules[0].database, "*");
		if ((rules_match(&set, name, "", "") == 0) == expected)
			continue;
		if (wrong++ == 0)
			diag("pattern %s, name %s", pattern, name);
	}
	is_int(wrong, 0, "200000 random patterns match as the definition says (%d do)", matched);
}

/* With backtracking into each asterisk this would take longer than the universe has. */
static void
test_hard_pattern(void)
{
	char text[RULE_PATTERN_LEN + 8];
	char name[64];

	repeat(text, "a*", 60, "b=1");
	repeat(name, "a", 63, "");
	if (!parse(text))
		diag("at %d: %s", error.offset, error.message);
	is_int(rules_match(&set, name, "", ""), -1, "sixty asterisks are answered");
}

static void
test_first_match(void)
{
	accepts("orders@app/shop=1, orders@app=2, orders=3, *@etl=4, *@*/dw=5", 5);
	is_int(rules_match(&set, "orders", "app", "shop"), 0, "pool, role and database");
	is_int(rules_match(&set, "orders", "app", "other"), 1, "another database");
	is_int(rules_match(&set, "orders", "other", "shop"), 2, "another role");
	is_int(rules_match(&set, "orders", "etl", "dw"), 2, "the first one counts, not the best");
	is_int(rules_match(&set, "x", "etl", "dw"), 3, "any pool of a role");
	is_int(rules_match(&set, "x", "y", "dw"), 4, "any pool in a database");
	is_int(rules_match(&set, "x", "y", "z"), -1, "none");
	accepts("", 0);
	is_int(rules_match(&set, "x", "y", "z"), -1, "none of none");
}

/*---- files ----*/

static bool
parse_file(const char *text, int before)
{
	char *copy = strdup(text);
	bool parsed;

	memset(&error, 0x5A, sizeof(error));
	set.nrules = before;
	parsed = rules_parse_file(copy, &set, &error);
	free(copy);
	return parsed;
}

static void
file_accepts(const char *text, int nrules)
{
	bool parsed = parse_file(text, 0);

	if (!ok(parsed && set.nrules == nrules, "%d rules in the file: %s", nrules, line(text)) &&
		!parsed)
		diag("line %d, %d: %s", error.line, error.column, error.message);
}

static void
file_refuses(const char *text, int at_line, int at_column, const char *message)
{
	if (!ok(!parse_file(text, 0), "refused in a file: %s", line(text)))
		return;
	is_int(error.line, at_line, "  on its line");
	is_int(error.column, at_column, "  at its place");
	is_str(error.message, message, "  because %s", message);
	is_int(set.nrules, 0, "  and nothing is taken");
}

static void
test_file(void)
{
	const char *text = "# all of it\n"
					   "\n"
					   "orders=40   # a comment\r\n"
					   " \t\"a#b\"@\"#\" = 25% : floor = 3 :mode=enforce#\n"
					   "  # another, \"\n"
					   "*=-";

	file_accepts("", 0);
	file_accepts("\n\n", 0);
	file_accepts("#", 0);
	file_accepts("# a=1", 0);
	file_accepts("a=1", 1);
	file_accepts("a=1\n", 1);
	file_accepts("a=1\nb=2", 2);
	file_accepts(text, 3);
	rule_is(0, "orders", "*", "*", 40, false);
	extent_is(text, 0, "orders=40");
	rule_is(1, "a#b", "#", "*", 25, true);
	options_are(1, 1, 3, RULE_MODE_ENFORCE);
	extent_is(text, 1, "\"a#b\"@\"#\" = 25% : floor = 3 :mode=enforce");
	rule_is(2, "*", "*", "*", -1, false);
	ok(set.rules[2].from_file, "a rule knows that it is from a file");

	file_refuses("a=1, b=2", 1, 4, "expected \":\" or the end of the line after a rule");
	file_refuses("a=1,\n", 1, 4, "expected \":\" or the end of the line after a rule");
	file_refuses("a=1\nb=2 c=3", 2, 5, "expected \":\" or the end of the line after a rule");
	file_refuses("a=1\n\n b", 3, 3, "expected \"=\" and a budget");
	file_refuses("a=\n1", 1, 3, "expected a budget: a number, a percentage or \"-\"");
	file_refuses("a=1:\nfloor=2", 1, 5, "unknown option \"\"; known are weight, floor and mode");
	file_refuses("x=1\n\"a\nb\"=1", 2, 1, "this quote is not closed");
	file_refuses("a#b=1", 1, 6, "expected \"=\" and a budget");
	file_refuses("a=1:mode=share# x\nb=1:mode=x#", 2, 10,
				 "unknown mode \"x\"; known are off, observe, advise, share and enforce");
	file_refuses(",", 1, 1, "expected the pool's name");
	accepts("a#b=1", 1);
	is_str(set.rules[0].pool, "a#b", "in the string a '#' is nothing special");
	ok(!set.rules[0].from_file, "which the rule knows, too");
}

static void
test_string_and_file(void)
{
	char text[RULES_MAX * 8 + 64];
	size_t len = 0;

	accepts("orders=1, web=2", 2);
	ok(parse_file("orders=3\nbatch=4\n", 2), "a file's rules are appended");
	is_int(set.nrules, 4, "to those of the string");
	is_int(rules_match(&set, "orders", "", ""), 0, "which come first");
	is_int(rules_match(&set, "batch", "", ""), 3, "and then the file's");
	ok(!parse_file("x=1\nbatch", 4), "what is wrong in a file");
	is_int(set.nrules, 4, "leaves the rules that were there");
	is_int(rules_match(&set, "x", "", ""), -1, "and adds none");
	is_int(rules_match(&set, "batch", "", ""), 3, "as they were");

	for (int i = 0; i < RULES_MAX - 4; i++)
		len += (size_t) snprintf(text + len, sizeof(text) - len, "p%d=1\n", i % 10);
	ok(parse_file(text, 4), "as many as there is room for, together");
	is_int(set.nrules, RULES_MAX, "are taken");
	strcpy(text + len, "q=1\n");
	ok(!parse_file(text, 4), "one more is not");
	is_int(error.line, RULES_MAX - 3, "  by its line");
	is_str(error.message, "more than 512 rules", "  because of the number");
}

static void
test_long_rule(void)
{
	char text[RULE_TEXT_LEN * 2];

	snprintf(text, sizeof(text), "a=1%*s:floor=1", RULE_TEXT_LEN, "");
	accepts(text, 1);
	is_int((long long) strlen(set.rules[0].text), RULE_TEXT_LEN - 1, "a long rule is kept cut");
	ok(strncmp(set.rules[0].text, text, RULE_TEXT_LEN - 1) == 0, "from its beginning");
}

static int
budget_of(const char *text, int base)
{
	return parse(text) ? rule_budget(&set.rules[0], base) : -2;
}

static void
test_budget(void)
{
	is_int(budget_of("a=40", 10), 40, "a number is itself");
	is_int(budget_of("a=0", 10), 0, "nothing is nothing");
	is_int(budget_of("a=-", 10), -1, "no budget");
	is_int(budget_of("a=25%", 100), 25, "a quarter");
	is_int(budget_of("a=25%", 99), 24, "is rounded down");
	is_int(budget_of("a=1%", 99), 1, "but not to none");
	is_int(budget_of("a=1%", 0), 1, "not even of nothing");
	is_int(budget_of("a=50%", -10), 1, "nor of less");
	is_int(budget_of("a=0%", 100), 0, "0 percent is none");
	is_int(budget_of("a=100%", INT_MAX), INT_MAX, "the largest does not overflow");
}

/* Whatever bytes come, the answer is one of the two, and an error lies within the text. */
static void
test_noise(void)
{
	int wrong = 0;
	int read = 0;

	for (int i = 0; i < 300000; i++)
	{
		char text[40];

		random_word(text, "ab1290=,:@/%*-\"\\ \n#weightfloormode\x80", 38);
		if (i % 2 == 0 ? parse(text) : parse_file(text, 0))
			read++;
		else if (error.offset < 0 || error.offset > (int) strlen(text) ||
				 strnlen(error.message, sizeof(error.message)) == sizeof(error.message))
			wrong++;
	}
	is_int(wrong, 0, "300000 texts of noise: errors lie within the text (%d could be read)", read);
}

int
main(void)
{
	test_accepted();
	test_quoting();
	test_refused();
	test_capacity();
	test_file();
	test_string_and_file();
	test_long_rule();
	test_long_names();
	test_patterns();
	test_patterns_at_random();
	test_hard_pattern();
	test_first_match();
	test_budget();
	test_noise();
	return done_testing();
}
