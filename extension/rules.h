/*-------------------------------------------------------------------------
 *
 * rules.h
 *	  What the DBA grants to whom: the grammar of pgpool_monitor.rules, and of
 *	  pgpool_monitor.rules_file.
 *
 * Pure: knows neither PostgreSQL nor the registry, allocates nothing.
 *
 *	rules	:= [ rule { ',' rule } [ ',' ] ]
 *	rule	:= pool [ '@' role [ '/' database ] ] '=' budget { ':' option }
 *	budget	:= integer | integer '%' | '-'			'-': no budget of its own
 *	option	:= 'weight=' 1..1000 | 'floor=' integer | 'mode=' mode
 *	mode	:= 'off' | 'observe' | 'advise' | 'share' | 'enforce'
 *
 * pool, role and database are patterns: '*' stands for any run of bytes, also
 * none.  A name that contains one of  , = @ / : " * %  or a blank is written
 * in double quotes, where nothing is special but the quote, doubled, and '*' is
 * an asterisk.  Quoted and bare parts may stand side by side: "my app"*.  Names
 * are not empty, options come once, a floor is not above a budget that is a number, and a
 * percentage not above 100.  White space, newlines included, may stand around every token.
 *
 * A file has a rule on a line, or none, and no commas; a '#' outside quotes
 * begins a comment that ends with the line, and so is one of the bytes that a name has
 * only between quotes.
 *	file	:= [ rule ] [ '#' comment ] { newline [ rule ] [ '#' comment ] }
 *
 * The first rule that matches a pool is its rule.  A rule's budget and floor
 * are for all pools that it matches, together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_RULES_H
#define PGPM_RULES_H

#include <stdbool.h>
#include <stddef.h>

#define RULES_MAX 512		 /* rules in one set; a set is 260 kB */
#define RULE_PATTERN_LEN 128 /* bytes, terminator and escapes included */
#define RULE_TEXT_LEN 96	 /* of a rule, as views show it: longer ones are cut */

typedef enum RuleMode
{
	RULE_MODE_DEFAULT, /* as pgpool_monitor.mode says */
	RULE_MODE_OFF,
	RULE_MODE_OBSERVE,
	RULE_MODE_ADVISE,
	RULE_MODE_SHARE,
	RULE_MODE_ENFORCE
} RuleMode;

typedef struct Rule
{
	/*
	 * Patterns in the form that rules.c matches: a '*' is a wildcard, '\*' and
	 * '\\' are literal.  Absent role and database are "*".
	 */
	char pool[RULE_PATTERN_LEN];
	char role[RULE_PATTERN_LEN];
	char database[RULE_PATTERN_LEN];
	int budget;	  /* connections, or percent; -1: none */
	bool percent; /* budget is a percentage of what ordinary users may have */
	int weight;	  /* 1 unless given */
	int floor;	  /* 0 unless given */
	RuleMode mode;
	bool from_file; /* it stood in a file */
	int offset;		/* where the rule begins in the text, bytes from 0 ... */
	int length;		/* ... and how long it is, trimmed */
	char text[RULE_TEXT_LEN];
} Rule;

typedef struct RuleSet
{
	int nrules;
	Rule rules[RULES_MAX];
} RuleSet;

typedef struct RulesError
{
	int offset;		   /* byte in the text, from 0, at which that begins which is wrong ... */
	int line;		   /* ... the line that this is in, from 1 ... */
	int column;		   /* ... and the byte of that line, from 1 */
	char message[160]; /* ASCII, no capital, no period: «expected "=" and a budget» */
} RulesError;

/*
 * Read a text.  True, and *set filled, or false, and *error says what and
 * where; *set is then undefined.
 */
extern bool rules_parse(const char *text, RuleSet *set, RulesError *error);

/*
 * Read a file's text, and append its rules to those in *set: so that what is
 * there already comes first.  When it fails, those that were there still are.
 */
extern bool rules_parse_file(const char *text, RuleSet *set, RulesError *error);

/* Index of the first rule that matches, or -1. */
extern int rules_match(const RuleSet *set, const char *pool, const char *role,
					   const char *database);

/*
 * Connections that the rule's budget stands for when ordinary users may have
 * `base` of them: percentages are rounded down, but a budget above 0 is never
 * rounded down to none.  -1: no budget.
 */
extern int rule_budget(const Rule *rule, int base);

#endif /* PGPM_RULES_H */
