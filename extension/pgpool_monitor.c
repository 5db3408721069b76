/*-------------------------------------------------------------------------
 *
 * pgpool_monitor.c
 *	  The module: its settings, and what it hooks into.
 *
 * All of it needs shared_preload_libraries.  Loaded in any other way, for
 * instance by CREATE EXTENSION, the module defines nothing, and its functions say what is missing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "compat.h"
#include "grant.h"
#include "history.h"
#include "pause.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "rules.h"

PGPM_MODULE_MAGIC;

void _PG_init(void);

int pgpm_mode = MODE_OBSERVE;
char *pgpm_rules = NULL;
bool pgpm_rules_changed = false;
char *pgpm_rules_file = NULL;
char *pgpm_always_admit = NULL;
int pgpm_grace = 1000;
int pgpm_grace_waiters = 8;
int pgpm_headroom = -1;
int pgpm_report_interval = 10000;
int pgpm_lease = 30000;
int pgpm_retry_interval = 5000;
int pgpm_round_interval = 1000;
int pgpm_max_instances = 1024;
int pgpm_max_pools = 256;
bool pgpm_save = true;

static const struct config_enum_entry mode_options[] = {
	{ "off", MODE_OFF, false },			{ "observe", MODE_OBSERVE, false },
	{ "advise", MODE_ADVISE, false },	{ "share", MODE_SHARE, false },
	{ "enforce", MODE_ENFORCE, false }, { NULL, 0, false }
};

const char *
pgpm_mode_name(int mode)
{
	return mode_options[mode].name;
}

int
pgpm_base_connections(void)
{
	return MaxConnections - compat_reserved_connections();
}

int
pgpm_headroom_connections(void)
{
	return pgpm_headroom >= 0 ? pgpm_headroom : Max(2, MaxConnections / 20);
}

/*
 * The postmaster reloads before any of its children, and writes an atomic or
 * two: so turning the mode down reaches every session even if the worker is gone.
 */
static void
assign_mode(int newval, void *extra)
{
	if (registry != NULL && !IsUnderPostmaster)
		grant_set_mode(newval);
}

/*
 * A reload keeps the last good rules and logs what is wrong with the new ones;
 * the worker, which reads the file too, also keeps the sentence for the view.
 */
static void
remember_rules_error(const char *error)
{
	if (registry == NULL || !IsUnderPostmaster || registry->worker_pid != MyProcPid)
		return;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	strlcpy(registry->rules_error, error, sizeof(registry->rules_error));
	LWLockRelease(registry->lock);
}

static bool
check_rules(char **newval, void **extra, GucSource source)
{
	static RuleSet set;
	RulesError error;
	const char *near;
	char sentence[sizeof(registry->rules_error)];

	if (rules_parse(*newval, &set, &error))
	{
		if (source == PGC_S_FILE)
			remember_rules_error("");
		return true;
	}
	near = *newval + error.offset;
	snprintf(sentence, sizeof(sentence), "At character %d: %s, near \"%.*s\".", error.offset + 1,
			 error.message, pg_mbcliplen(near, (int) strlen(near), 20), near);
	if (source == PGC_S_FILE)
		remember_rules_error(sentence);
	GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	GUC_check_errdetail("%s", sentence);
	GUC_check_errhint(
		"A rule is pool[@role[/database]]=budget[:weight=n][:floor=n][:mode=m], and a budget is a "
		"number, a percentage, or \"-\"; rules are separated by commas.");
	return false;
}

static void
assign_rules(const char *newval, void *extra)
{
	pgpm_rules_changed = true;
}

/* Names are looked up when somebody comes: a role may be made later. */
static bool
check_always_admit(char **newval, void **extra, GucSource source)
{
	char *copy = pstrdup(*newval);
	List *names = NIL;
	bool valid = SplitIdentifierString(copy, ',', &names);

	list_free(names);
	pfree(copy);
	if (!valid)
		GUC_check_errdetail("List syntax is invalid.");
	return valid;
}

static void
define_sharing_settings(void)
{
	DefineCustomEnumVariable(
		"pgpool_monitor.mode", "Selects what the server does about connection pools.",
		"\"off\" does nothing, \"observe\" only watches, \"advise\" shows what \"share\" would do, "
		"\"share\" tells each pool that asks how many connections it may hold, and \"enforce\" "
		"also "
		"refuses connections beyond that.",
		&pgpm_mode, MODE_OBSERVE, mode_options, PGC_SIGHUP, 0, NULL, assign_mode, NULL);
	DefineCustomStringVariable("pgpool_monitor.rules",
							   "Sets which pool may hold how many connections.",
							   "For example: 'orders=40, batch@etl/dw=25%:weight=2:floor=2, *=10'. "
							   "The first rule that matches a pool is its rule.",
							   &pgpm_rules, "", PGC_SIGHUP, 0, check_rules, assign_rules, NULL);
	DefineCustomIntVariable("pgpool_monitor.headroom",
							"Sets how many connections are never given to pools.",
							"They are for sessions that come unannounced. -1 means a twentieth of "
							"max_connections, and at least two.",
							&pgpm_headroom, -1, -1, MAX_BACKENDS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"pgpool_monitor.rules_file", "Sets the file that has further rules, one on a line.",
		"They come after those of pgpool_monitor.rules. It is read at start and at reload.",
		&pgpm_rules_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

static void
define_enforcement_settings(void)
{
	DefineCustomStringVariable(
		"pgpool_monitor.always_admit", "Lists login roles that are never refused a connection.",
		"Superusers never are. The connections of both are counted all the same.",
		&pgpm_always_admit, "", PGC_SIGHUP, GUC_LIST_INPUT, check_always_admit, NULL, NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.grace",
		"Sets how long a connection waits for another one's end before "
		"it is refused.",
		"A client that has just closed a connection may be faster than the server.", &pgpm_grace,
		1000, 0, 10000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgpool_monitor.grace_waiters",
							"Sets how many connections may wait in this way at a time.",
							"Each takes one of max_connections meanwhile.", &pgpm_grace_waiters, 8,
							0, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_timing_settings(void)
{
	DefineCustomIntVariable(
		"pgpool_monitor.report_interval", "Sets how often a pool instance is asked to report.",
		"A large fleet is asked less often, so that all of it sends no more than 200 reports per "
		"second.",
		&pgpm_report_interval, 10000, 100, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgpool_monitor.lease",
							"Sets how long a pool instance may rely on its allotment without an "
							"answer from the server.",
							"Never less than three report intervals, whatever is set here.",
							&pgpm_lease, 30000, 300, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.retry_interval",
		"Sets how long a pool instance that has no connection waits before it asks again.", NULL,
		&pgpm_retry_interval, 5000, 100, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgpool_monitor.round_interval", "Sets the longest time between two rounds of the worker.",
		"It also works when a pool has asked for something.", &pgpm_round_interval, 1000, 100,
		60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_size_settings(void)
{
	DefineCustomIntVariable(
		"pgpool_monitor.max_instances", "Sets how many pool instances there is room for.", NULL,
		&pgpm_max_instances, 1024, 1, 100000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pgpool_monitor.max_pools", "Sets how many pools there is room for.",
							NULL, &pgpm_max_pools, 256, 1, 10000, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
	DefineCustomBoolVariable("pgpool_monitor.save",
							 "Keeps the counters of pools over a shutdown in order.", NULL,
							 &pgpm_save, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	define_sharing_settings();
	define_enforcement_settings();
	define_timing_settings();
	define_size_settings();
	history_define_settings();
	session_define_settings();
	health_define_settings();

	/*
	 * Last, for it deletes what is not defined by now.  It keeps a client from
	 * forging the one setting that only attached sessions get later.
	 */
	MarkGUCPrefixReserved("pgpool_monitor");

	registry_install_hooks();
	pause_install_hooks();
	history_install_hooks();
	session_install_hooks();
	listen_install_hooks();
	worker_register();
}
