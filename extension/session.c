/*-------------------------------------------------------------------------
 *
 * session.c
 *	  One backend: attach it, take its client's reports, deliver its instance's
 *	  allotment, detach it.
 *
 * Life of a session
 *	The client's startup options set pgpool_monitor.pool and .instance.  The
 *	transaction that ends the startup attaches: in its PRE_COMMIT settings, user
 *	and database are known, and an error is still an ordinary one.  From then on
 *	each end of a transaction applies the report that was set in it, if any, and looks whether
 *	there is something new to tell the client; that look costs two reads of
 *	shared memory.  What is told goes out as a ParameterStatus before the next
 *	ReadyForQuery.  on_shmem_exit detaches, after a transaction that was still open has been
 *	aborted, however the process ends; when it is killed outright the whole
 *	registry is made anew.
 *
 * Sessions that name no pool
 *	get a name by pgpool_monitor.identify at the same place, or at the next commit after it
 *	has changed or the mode has been turned up.  They are only counted: they have no
 *	allotment, are sent nothing that they would not be sent otherwise, and their reports are
 *	ignored.  Where room runs out their slot is taken away (registry.c), which they do not
 *	notice.
 *
 * What must not happen at a commit
 *	An error at XACT_EVENT_COMMIT can become a PANIC.  So nothing is allocated
 *	there: the report was parsed by the setting's check hook, the allotment's
 *	text is rendered from a local struct when it is shown, and the setting that
 *	carries it is an integer that is only counted up.
 *
 * Reports are set like any other setting, so the assign hook also runs after a
 * rollback, for a function's SET clause, and in parallel workers.  It only
 * stages; that a report is applied once, and an old one never, is the doing of its sequence
 * number.  What a SET clause puts back is counted again, as ignored or rejected.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

/*
 * libpq-be.h would include a GSSAPI header that the server's development
 * package does not bring; the structs are laid out alike without it.
 */
#undef ENABLE_GSS

#include "access/parallel.h"
#include "access/xact.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/guc.h"

#include "compat.h"
#include "enforce.h"
#include "grant.h"
#include "identify.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "report.h"
#include "rule_set.h"

#define ALLOTMENT_NAME "pgpool_monitor.allotment"
#define ALLOTMENT_HIDDEN_NAME ALLOTMENT_NAME "_" /* nothing sorts between these */

/*---- settings ----*/

char *pgpm_pool = NULL;
char *pgpm_instance = NULL;
static char *report_setting = NULL;
static int allotment_setting = 0; /* a counter: what it shows is rendered from `told` */
static char *identify_setting = NULL;
static IdentifyList guesses; /* in force */

/* Records of settings: looked up in the postmaster, once for all sessions. */
static struct config_generic *pool_record;
static struct config_generic *instance_record;
static struct config_generic *application_record;
static struct config_generic *allotment_record = NULL; /* NULL: defined where it is needed */

/*---- this backend ----*/

typedef enum Attachment
{
	UNDECIDED, /* startup is not over */
	STRANGER,  /* may have no identity: never looked at again */
	UNNAMED,   /* has named no pool */
	WAITING,   /* has one, but the mode is off */
	ATTACHED,
	REFUSED /* a table was full */
} Attachment;

static Attachment attachment = UNDECIDED;
static int my_session;
static int my_instance;
static pg_atomic_uint64 *my_publication; /* that instance's */

/* Of an UNNAMED session. */
static char first_application[NAMEDATALEN]; /* application_name as the client sent it at startup */
static bool guess_is_due = true;			/* `guesses` have changed, or were never tried */
static bool counted = false; /* in the pool that was guessed, or was until room ran out */

/* When the last command ended that was no report; exact once the session has reported. */
static TimestampTz last_command = 0;
static bool has_reported = false;

/* What the client was told last. */
static struct
{
	uint64 word;	   /* the publication ... */
	uint32 generation; /* ... and the registry's generation that this is of */
	Publication allotment;
	uint32 lease;
	uint32 interval;
	uint32 retry;
	char id[NAME_LEN]; /* as the client gave it: empty if it gave none */
} told;

/* A report that waits for its transaction to commit; also the setting's "extra". */
typedef struct StagedReport
{
	bool valid; /* it could be read */
	Report report;
} StagedReport;

static StagedReport staged;
static bool is_staged = false;

/*---- identity ----*/

static bool
check_pool(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < NAME_LEN)
		return true;
	GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	GUC_check_errmsg("pool name is too long");
	GUC_check_errdetail("It has %zu bytes; the limit is %d.", strlen(*newval), NAME_LEN - 1);
	return false;
}

static size_t
id_length(const char *instance)
{
	return strcspn(instance, ";");
}

static bool
check_instance(char **newval, void **extra, GucSource source)
{
	size_t length = id_length(*newval);

	if (length < NAME_LEN &&
		strspn(*newval, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") >=
			length)
		return true;
	GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	GUC_check_errmsg("invalid id of a pool instance");
	GUC_check_errdetail(
		"An id has at most %d characters, each a letter, a digit, or one of \"_.:-\".",
		NAME_LEN - 1);
	return false;
}

/* Does the text after the id have this key with this value?  Unknown keys are nobody's business. */
static bool
instance_has(const char *field)
{
	size_t length = strlen(field);
	const char *at = pgpm_instance + id_length(pgpm_instance);

	while (*at == ';')
	{
		at++;
		if (strncmp(at, field, length) == 0 && (at[length] == ';' || at[length] == '\0'))
			return true;
		at += strcspn(at, ";");
	}
	return false;
}

/*
 * Files, the command line, and ALTER ROLE can set the identity too, and then
 * every session would claim it: only what the client itself sent at startup counts.
 */
static bool
given_by_client(const struct config_generic *setting)
{
	return setting->source == PGC_S_CLIENT;
}

/* What any session has. */
static void
describe(Identity *who)
{
	memset(who, 0, sizeof(*who));
	who->role = GetAuthenticatedUserId();
	who->database = MyDatabaseId;
	strlcpy(who->role_name, MyProcPort->user_name, NAMEDATALEN);
	strlcpy(who->database_name, MyProcPort->database_name, NAMEDATALEN);
	strlcpy(who->host, MyProcPort->remote_host ? MyProcPort->remote_host : "", NAME_LEN);
	/* a guess is bound by none that we know of: it is outside for all that are */
	who->role_limit = who->database_limit = -1;
}

/* Instead of an id. */
static void
make_id(Identity *who)
{
	snprintf(who->id, NAME_LEN, "%s/%s", who->host, who->application);
}

/* As the client says. */
static void
identify(Identity *who)
{
	size_t length = 0;

	describe(who);
	strlcpy(who->pool, pgpm_pool, NAME_LEN);
	strlcpy(who->application, application_name ? application_name : "", NAMEDATALEN);
	if (given_by_client(instance_record))
	{
		length = id_length(pgpm_instance);
		who->has_id = length > 0;
		who->follows = who->has_id && instance_has("follow=1");
		who->reports = who->has_id && instance_has("report=1");
		who->knock = who->has_id && instance_has("kind=knock");
	}
	if (who->has_id)
		strlcpy(who->id, pgpm_instance, length + 1);
	else
		make_id(who);
}

/* As pgpool_monitor.identify says; false if that yields no name. */
static bool
guess(Identity *who)
{
	const char *name;

	describe(who);
	strlcpy(who->application, first_application, NAMEDATALEN);
	who->identified_by = identify_guess(&guesses, who->application, who->role_name, &name);
	strlcpy(who->pool, name, NAME_LEN);
	make_id(who);
	return who->identified_by != BY_CLIENT;
}

static bool
check_identify(char **newval, void **extra, GucSource source)
{
	IdentifyList list;
	const char *error = identify_parse(*newval, &list);

	if (error == NULL)
	{
		*extra = compat_guc_malloc(sizeof(list));
		if (*extra != NULL)
			memcpy(*extra, &list, sizeof(list));
		return *extra != NULL;
	}
	GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	GUC_check_errdetail("%s", error);
	GUC_check_errhint("Available: \"options\", \"application_name\", \"role\", or \"none\" alone.");
	return false;
}

static void
assign_identify(const char *newval, void *extra)
{
	guesses = *(IdentifyList *) extra;
	guess_is_due = true;
}

/*---- allotment ----*/

/* Milliseconds as seconds with no more decimals than it takes. */
static int
render_seconds(char *buffer, size_t size, const char *field, uint32 ms)
{
	if (ms % 1000 == 0)
		return snprintf(buffer, size, ";%s=%u", field, ms / 1000);
	return snprintf(buffer, size, ";%s=%u.%03u", field, ms / 1000, ms % 1000);
}

static const char *
show_allotment(void)
{
	static char text[256];
	int n;

	if (told.generation == 0)
		return ""; /* somebody has found the hidden name */
	n = snprintf(text, sizeof(text),
				 "id=%s;inc=" INT64_FORMAT ";epoch=" UINT64_FORMAT ";limit=%d;state=%s", told.id,
				 registry->incarnation, told.allotment.epoch, told.allotment.limit,
				 publication_state_name(&told.allotment));
	n += render_seconds(text + n, sizeof(text) - n, "lease", told.lease);
	n += render_seconds(text + n, sizeof(text) - n, "interval", told.interval);
	render_seconds(text + n, sizeof(text) - n, "retry", told.retry);
	return text;
}

/*
 * Read what the client is to be told.  Generation first: a text then never
 * carries an epoch of a later generation than what it says.
 */
static void
read_allotment(int instance)
{
	told.generation = pg_atomic_read_u32(&registry->generation);
	pg_read_barrier();
	told.word = pg_atomic_read_u64(&registry->instances[instance].publication);
	told.allotment =
		publication_effective(told.word, told.generation, pg_atomic_read_u32(&registry->mode));
	told.lease = pg_atomic_read_u32(&registry->lease);
	told.interval = pg_atomic_read_u32(&registry->interval);
	told.retry = pg_atomic_read_u32(&registry->retry);
}

/*
 * It is kept out of SHOW ALL and pg_settings because its text does not fit its type, and a setting
 * that only some sessions have is no configuration.
 */
static void
define_allotment(const char *name, int more_flags)
{
	DefineCustomIntVariable(name,
							"Shows the connections that this session's pool instance may hold.",
							NULL, &allotment_setting, 0, 0, INT_MAX, PGC_INTERNAL,
							GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE | more_flags,
							NULL, NULL, show_allotment);
}

/* Only sessions that take part ever see this setting. */
static void
reveal_allotment(void)
{
	if (allotment_record == NULL)
		define_allotment(ALLOTMENT_NAME, GUC_REPORT);
	else
		compat_rename_setting(allotment_record, ALLOTMENT_NAME, GUC_REPORT);
}

/* Mark the setting as changed, so that it is sent; cannot fail. */
static void
send_allotment(void)
{
	char next[16];

	snprintf(next, sizeof(next), "%d", (allotment_setting + 1) & INT_MAX);
	(void) set_config_option(ALLOTMENT_NAME, next, PGC_INTERNAL, PGC_S_OVERRIDE, GUC_ACTION_SET,
							 true, WARNING, false);
}

static pg_noinline void
tell_anew(void)
{
	read_allotment(my_instance);
	send_allotment();
}

static inline void
deliver_allotment(void)
{
	if (pg_atomic_read_u64(my_publication) != told.word ||
		pg_atomic_read_u32(&registry->generation) != told.generation)
		tell_anew();
}

/*---- attach and detach ----*/

static void
uncount(void)
{
	if (counted)
		registry_detach(my_session);
	counted = false;
}

static void
detach(int code, Datum arg)
{
	enforce_stop_waiting();
	uncount();
	if (attachment != ATTACHED)
		return;
	attachment = STRANGER;
	registry_detach(my_session);
	enforce_session_ended();
}

static void
complain_of_full_table(void)
{
	/* once: a server that is short of room must not also be short of disk */
	if (pg_atomic_test_set_flag(&registry->refusal_logged))
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("pgpool_monitor has no room for another pool instance"),
					  errdetail("This and further sessions are not attached; they are counted in "
								"pgpool_monitor.info."),
					  errhint("Raise pgpool_monitor.max_instances (now %d) or "
							  "pgpool_monitor.max_pools (now %d).",
							  pgpm_max_instances, pgpm_max_pools)));
}

/* Before there is anything to undo, for registering can fail. */
static void
detach_at_exit(void)
{
	static bool registered = false;

	if (!registered)
		on_shmem_exit(detach, (Datum) 0);
	registered = true;
}

/*
 * Nobody is told: not the client, whom it does not concern, nor the worker, for whom it
 * stays outside.
 */
static void
count_as_guessed(void)
{
	Identity who;
	Refusal refusal;

	guess_is_due = false;
	uncount();
	if (!guess(&who))
		return;
	detach_at_exit();
	who.admission = ADMIT_PRESENT;
	my_session = compat_my_slot();
	counted = registry_attach(&who, my_session, &refusal) >= 0;
}

/* At startup a session that is one too many can be refused; later it is somebody's, and stays. */
static void
attach(bool at_startup)
{
	Identity who;

	identify(&who);
	who.admission = at_startup ? ADMIT_WITHIN_LIMITS : ADMIT_PRESENT;
	enforce_look_up(&who);
	detach_at_exit();
	my_session = compat_my_slot();
	my_instance = enforce_attach(&who, my_session);
	if (my_instance < 0)
	{
		attachment = REFUSED;
		complain_of_full_table();
		return;
	}
	attachment = ATTACHED;
	my_publication = &registry->instances[my_instance].publication;
	if (who.has_id)
		strlcpy(told.id, who.id, NAME_LEN);
	reveal_allotment(); /* only now: to have it is to be attached */
}

/* At the end of startup. */
static Attachment
decide(void)
{
	if (MyProcPort == NULL || MyBackendType != B_BACKEND || am_walsender || IsBinaryUpgrade)
		return STRANGER;
	if (pgpm_pool[0] != '\0' && given_by_client(pool_record))
		return WAITING;
	if (application_name != NULL && given_by_client(application_record))
		strlcpy(first_application, application_name, NAMEDATALEN);
	return UNNAMED;
}

/*
 * A parallel worker takes part in nothing, but a query that it runs may look at
 * the setting, which its leader has.
 */
static void
adopt_from_leader(void)
{
	const PGPROC *leader = MyProc->lockGroupLeader;
	const SessionSlot *slot;

	attachment = STRANGER;
	if (leader == NULL)
		return;
	slot = &registry->sessions[compat_slot_of(leader)];
	if (slot->kind == SESSION_FREE || slot->pid != leader->pid ||
		pool_is_guess(&registry->pools[registry->instances[slot->instance].pool]))
		return;
	if (registry->instances[slot->instance].has_id)
		strlcpy(told.id, registry->instances[slot->instance].id, NAME_LEN);
	read_allotment(slot->instance);
	reveal_allotment();
}

static inline bool
is_to_be_decided(void)
{
	return attachment == UNDECIDED || attachment == WAITING ||
		   (attachment == UNNAMED && guess_is_due);
}

static pg_noinline void
before_commit(void)
{
	bool at_startup = attachment == UNDECIDED;

	if (at_startup)
	{
		if (IsParallelWorker())
			adopt_from_leader();
		else
			attachment = decide();
	}
	if (pgpm_rules_changed && (attachment == WAITING || attachment == ATTACHED))
	{
		pgpm_rules_changed = false;
		rule_set_catch_up();
	}
	if (attachment == WAITING && pg_atomic_read_u32(&registry->mode) != MODE_OFF)
		attach(at_startup);
	if (attachment == UNNAMED && guess_is_due && pg_atomic_read_u32(&registry->mode) != MODE_OFF)
		count_as_guessed();
}

/*---- reports ----*/

static bool
check_report(char **newval, void **extra, GucSource source)
{
	size_t length = strlen(*newval);
	StagedReport *parsed;

	*extra = NULL;
	if (length > REPORT_MAX_BYTES)
	{
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		GUC_check_errmsg("pool report is too long");
		GUC_check_errdetail("It has %zu bytes; the limit is %d.", length, REPORT_MAX_BYTES);
		return false;
	}
	/* a report is something said now: what comes from elsewhere is not one */
	if (source != PGC_S_SESSION || length == 0)
		return true;
	parsed = compat_guc_malloc(sizeof(StagedReport));
	if (parsed == NULL)
		return false;
	parsed->valid = report_parse(*newval, length, &parsed->report, NULL);
	*extra = parsed;
	return true;
}

/*
 * When a transaction is over the setting may go back to what it was, which was said, and counted,
 * before.  In one that goes on, after a savepoint, what was said before it counts again.
 */
static bool
is_put_back(void)
{
	return GetCurrentTransactionNestLevel() == 1 && !IsTransactionState();
}

static void
assign_report(const char *newval, void *extra)
{
	if (attachment != ATTACHED || IsParallelWorker() || extra == NULL || is_put_back())
		return;
	memcpy(&staged, extra, sizeof(staged));
	is_staged = true;
}

static pg_noinline void
note_busy(void)
{
	last_command = GetCurrentTransactionStopTimestamp();
	registry->sessions[my_session].idle_since = 0;
}

/*
 * A report on an idle session is no end of its idleness.  The server's own clock of that has begun
 * anew with the report, so that what it was before has to be kept.  Most sessions
 * never report: these only note what costs nothing, when their last command began.
 * Accepted: a transaction that does other work beside its report counts as a report.
 */
static inline void
note_command(void)
{
	if (has_reported)
		note_busy();
	else
		last_command = MyBEEntry->st_state_start_timestamp;
}

static void
note_report(void)
{
	SessionSlot *slot = &registry->sessions[my_session];

	has_reported = true;
	slot->idle_since = last_command != 0 ? last_command : slot->attached_at;
}

static pg_noinline void
apply_staged_report(void)
{
	is_staged = false;
	note_report();
	if (!staged.valid)
		pg_atomic_fetch_add_u64(&registry->reports_rejected, 1);
	else if (pg_atomic_read_u32(&registry->mode) != MODE_OFF)
		(void) registry_apply_report(my_instance, &staged.report);
}

/*---- hooks ----*/

/* What was said before a PREPARE was true then, whatever becomes of the transaction. */
static inline void
after_commit(void)
{
	if (is_staged)
		apply_staged_report();
	else
		note_command();
	deliver_allotment();
}

static pg_noinline void
after_abort(void)
{
	is_staged = false;
	note_command();
	if (!proc_exit_inprogress)
		deliver_allotment();
}

/*
 * At each commit of each session: what is seldom is out of line, so that the rest is a few
 * instructions.
 */
static void
at_transaction_event(XactEvent event, void *arg)
{
	if (attachment != ATTACHED)
	{
		if (event == XACT_EVENT_PRE_COMMIT && is_to_be_decided() && registry != NULL)
			before_commit();
	}
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		after_commit();
	else if (event == XACT_EVENT_ABORT)
		after_abort();
}

void
session_note_listening(bool listens)
{
	if (attachment == ATTACHED)
		registry->sessions[my_session].listens = listens;
}

void
session_install_hooks(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
}

void
session_define_settings(void)
{
	DefineCustomStringVariable(
		"pgpool_monitor.identify", "Sets by what a session's pool is identified.",
		"For a session that names no pool by its startup options, the first identifier of the list "
		"that yields a name counts. Such sessions are only counted.",
		&identify_setting, "options, application_name", PGC_SIGHUP, 0, check_identify,
		assign_identify, NULL);

	/* the two names are frozen: anything new is a key in "instance" */
	DefineCustomStringVariable(
		"pgpool_monitor.pool", "Names the connection pool that this session belongs to.",
		"Set by the client at connection start.", &pgpm_pool, "", PGC_BACKEND,
		GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE | GUC_NO_RESET_ALL, check_pool, NULL, NULL);
	DefineCustomStringVariable(
		"pgpool_monitor.instance", "Identifies the pool's instance that holds this session.",
		"Set by the client at connection start.", &pgpm_instance, "", PGC_BACKEND,
		GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE | GUC_NO_RESET_ALL, check_instance, NULL, NULL);
	DefineCustomStringVariable(
		"pgpool_monitor.report", "Takes a pool instance's report of its state.",
		"Set by the client's connection pool, now and then.", &report_setting, "", PGC_USERSET,
		GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE | GUC_NO_RESET_ALL, check_report, assign_report,
		NULL);
	if (COMPAT_SETTINGS_SORTED)
	{
		define_allotment(ALLOTMENT_HIDDEN_NAME, 0);
		allotment_record = compat_find_setting(ALLOTMENT_HIDDEN_NAME);
	}
	pool_record = compat_find_setting("pgpool_monitor.pool");
	instance_record = compat_find_setting("pgpool_monitor.instance");
	application_record = compat_find_setting("application_name");
}
