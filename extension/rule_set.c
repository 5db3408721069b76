/*-------------------------------------------------------------------------
 *
 * rule_set.c
 *	  The rules in force, and which pool has which.
 *
 * rule_set.h says who loads them and when; the grammar is rules.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "compat.h"
#include "grant.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "rule_set.h"
#include "rules.h"

#define FILE_MAX 1048576 /* bytes: far more than RULES_MAX rules with a comment each */
#define SENTENCE_MAX sizeof(((Registry *) NULL)->rules_file_error)

/* A session's: rules that the worker has not put in force. */
static RuleSet newer;
static bool have_newer = false;
static uint32 newer_than; /* rules_version of those in force then */

/*---- reading the file ----*/

/* The file's size, or -1.  Opening a pipe could take for ever. */
static int
size_of_file(const char *path, char *sentence)
{
	struct stat st;

	if (stat(path, &st) != 0)
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": %m.", path);
	else if (!S_ISREG(st.st_mode))
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": not a regular file.", path);
	else if (st.st_size > FILE_MAX)
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": larger than %d bytes.", path, FILE_MAX);
	else
		return (int) st.st_size;
	return -1;
}

/* What is in the file, or NULL, and *sentence says why.  To be freed. */
static char *
read_file(const char *path, char *sentence)
{
	int size = size_of_file(path, sentence);
	FILE *file = size < 0 ? NULL : AllocateFile(path, PG_BINARY_R);
	char *text;

	if (size < 0)
		return NULL;
	if (file == NULL)
	{
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": %m.", path);
		return NULL;
	}
	text = palloc0(size + 1);
	/* one that shrinks meanwhile is read as far as it goes */
	size = (int) fread(text, 1, size, file);
	if (ferror(file))
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": %m.", path);
	else if (strlen(text) < size)
		snprintf(sentence, SENTENCE_MAX, "File \"%s\": a null byte at %zu.", path,
				 strlen(text) + 1);
	FreeFile(file);
	if (sentence[0] == '\0')
		return text;
	pfree(text);
	return NULL;
}

/* Append the file's rules.  If there is something wrong with it, *sentence says what. */
static bool
append_file(RuleSet *set, char *sentence)
{
	RulesError error;
	char *text = read_file(pgpm_rules_file, sentence);

	if (text == NULL)
		return false;
	if (!rules_parse_file(text, set, &error))
		snprintf(sentence, SENTENCE_MAX, "File \"%s\", line %d, character %d: %s.", pgpm_rules_file,
				 error.line, error.column, error.message);
	pfree(text);
	return sentence[0] == '\0';
}

/* Those that the file gave when it could last be read, as far as there is room. */
static void
append_former(RuleSet *set)
{
	const RuleSet *former = &registry->rules;

	for (int i = 0; i < former->nrules && set->nrules < RULES_MAX; i++)
		if (former->rules[i].from_file)
			set->rules[set->nrules++] = former->rules[i];
}

/*---- putting rules in force ----*/

static bool
is_in_force(const RuleSet *set)
{
	return registry->rules_version > 0 && registry->rules.nrules == set->nrules &&
		   memcmp(registry->rules.rules, set->rules, set->nrules * sizeof(Rule)) == 0;
}

static uint64
hash_of_string(void)
{
	return hash_bytes_extended((const unsigned char *) pgpm_rules, (int) strlen(pgpm_rules), 0);
}

static void
put_in_force(const RuleSet *set, const char *sentence)
{
	bool changed = !is_in_force(set);

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	if (changed)
	{
		registry->rules.nrules = set->nrules;
		memcpy(registry->rules.rules, set->rules, set->nrules * sizeof(Rule));
		registry->rules_version++;
	}
	pg_atomic_write_u64(&registry->rules_hash, hash_of_string());
	registry->lowered_hash = 0;
	strlcpy(registry->rules_file_error, sentence, SENTENCE_MAX);
	LWLockRelease(registry->lock);
}

void
rule_set_load(void)
{
	static RuleSet set;
	RulesError error;
	char sentence[SENTENCE_MAX] = "";

	/* cannot fail: the setting was checked when it was set */
	if (!rules_parse(pgpm_rules, &set, &error))
		set.nrules = 0;
	if (pgpm_rules_file[0] != '\0' && !append_file(&set, sentence))
	{
		append_former(&set);
		/* not again for every worker that finds it so */
		if (strcmp(sentence, registry->rules_file_error) != 0)
			ereport(LOG, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						  errmsg("pgpool_monitor could not load its rules file"),
						  errdetail("%s", sentence),
						  errhint("The rules that were last loaded from it stay in force. Correct "
								  "the file and reload.")));
	}
	put_in_force(&set, sentence);
}

/*---- a pool's rule ----*/

static void
set_mode(PoolSlot *pool, RuleMode by_rule)
{
	static const PgpmMode modes[] = {
		[RULE_MODE_OFF] = MODE_OFF,			[RULE_MODE_OBSERVE] = MODE_OBSERVE,
		[RULE_MODE_ADVISE] = MODE_ADVISE,	[RULE_MODE_SHARE] = MODE_SHARE,
		[RULE_MODE_ENFORCE] = MODE_ENFORCE,
	};
	PgpmMode global = (PgpmMode) pg_atomic_read_u32(&registry->mode);

	pool->mode_by_rule = by_rule != RULE_MODE_DEFAULT;
	pool->mode = pool->mode_by_rule && global != MODE_OFF ? modes[by_rule] : global;
}

static int
match(const RuleSet *set, const PoolSlot *pool)
{
	return pool_is_guess(pool) ? -1
							   : rules_match(set, pool->name, pool->role_name, pool->database_name);
}

/* If the newer rules say so. */
static void
lower_mode(PoolSlot *pool)
{
	PgpmMode before = pool_mode(pool);
	bool before_by_rule = pool->mode_by_rule;
	int rule = match(&newer, pool);

	set_mode(pool, rule < 0 ? RULE_MODE_DEFAULT : newer.rules[rule].mode);
	if (pool->mode <= before)
		return;
	pool->mode = before;
	pool->mode_by_rule = before_by_rule;
}

void
rule_set_mode(PoolSlot *pool)
{
	set_mode(pool, pool->rule < 0 ? RULE_MODE_DEFAULT : registry->rules.rules[pool->rule].mode);
	if (have_newer && newer_than == registry->rules_version)
		lower_mode(pool);
}

/* For each string once, though milliseconds it may take only with very many pools and rules. */
static void
lower_modes(void)
{
	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pool_hashes[i] != 0 && !pool_is_guess(&registry->pools[i]))
			lower_mode(&registry->pools[i]);
	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->instance_hashes[i] != 0)
			grant_free(&registry->instances[i], &registry->pools[registry->instances[i].pool]);
}

void
rule_set_catch_up(void)
{
	RulesError error;
	uint64 hash = hash_of_string();

	have_newer = hash != pg_atomic_read_u64(&registry->rules_hash);
	/* cannot fail: the setting was checked when it was set */
	if (!have_newer || !rules_parse(pgpm_rules, &newer, &error))
		return;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	append_former(&newer);
	newer_than = registry->rules_version;
	if (registry->lowered_hash != hash)
	{
		lower_modes();
		registry_changed();
	}
	registry->lowered_hash = hash;
	LWLockRelease(registry->lock);
}

PgpmMode
pool_mode(const PoolSlot *pool)
{
	PgpmMode global = (PgpmMode) pg_atomic_read_u32(&registry->mode);

	return pool->mode_by_rule && global != MODE_OFF ? pool->mode : global;
}

void
rule_set_match(PoolSlot *pool)
{
	const Rule *rule;

	pool->rules_version = registry->rules_version;
	pool->rule = match(&registry->rules, pool);
	pool->weight = 1;
	pool->floor = 0;
	pool->ceiling = -1;
	pool->rule_text[0] = '\0';
	if (pool->rule >= 0)
	{
		rule = &registry->rules.rules[pool->rule];
		pool->weight = rule->weight;
		pool->floor = rule->floor;
		pool->ceiling = rule_budget(rule, pgpm_base_connections());
		strlcpy(pool->rule_text, rule->text, RULE_TEXT_LEN);
	}
	rule_set_mode(pool);
}

void
rule_set_copy(PoolSlot *to, const PoolSlot *from)
{
	to->rules_version = from->rules_version;
	to->rule = from->rule;
	to->mode = from->mode;
	to->mode_by_rule = from->mode_by_rule;
	to->weight = from->weight;
	to->floor = from->floor;
	to->ceiling = from->ceiling;
	strlcpy(to->rule_text, from->rule_text, RULE_TEXT_LEN);
}
