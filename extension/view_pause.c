/*-------------------------------------------------------------------------
 *
 * view_pause.c
 *	  To pause and to resume, and the view of what is paused.
 *
 * Not transactional: what is ordered is in force at once, and stays if the transaction is rolled
 * back.  Nothing is written to the WAL, so that it works on a standby too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pause.h"
#include "pgpool_monitor.h"
#include "registry.h"
#include "view.h"

#define PAUSES_COLS 11

PG_FUNCTION_INFO_V1(pgpool_monitor_pause);
PG_FUNCTION_INFO_V1(pgpool_monitor_resume);
PG_FUNCTION_INFO_V1(pgpool_monitor_pauses);

/*---- arguments ----*/

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * As it is, or as views show it: there a backslash is always the beginning of
 * \xHH, so that whatever a view shows can be given here.  Returns its length.
 */
static size_t
decode_name(char *name)
{
	char *to = name;

	for (const char *from = name; *from;)
	{
		if (from[0] == '\\' && from[1] == 'x' && hex_digit(from[2]) >= 0 && hex_digit(from[3]) >= 0)
		{
			*to++ = (char) (hex_digit(from[2]) << 4 | hex_digit(from[3]));
			from += 4;
		}
		else
			*to++ = *from++;
	}
	*to = '\0';
	return strlen(name);
}

static void
read_pool(const text *argument, PauseKey *key)
{
	char *name = text_to_cstring(argument);
	size_t length = decode_name(name);

	if (length == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("pool name must not be empty"), errhint("NULL means any pool.")));
	if (length >= NAME_LEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("pool name is too long"),
						errdetail("It has %zu bytes; the limit is %d.", length, NAME_LEN - 1)));
	strlcpy(key->pool, name, NAME_LEN);
}

static void
read_key(FunctionCallInfo fcinfo, PauseKey *key)
{
	memset(key, 0, sizeof(*key));
	if (!PG_ARGISNULL(0))
		read_pool(PG_GETARG_TEXT_PP(0), key);
	if (!PG_ARGISNULL(1))
		key->role = get_role_oid(NameStr(*PG_GETARG_NAME(1)), false);
	if (!PG_ARGISNULL(2))
		key->database = get_database_oid(NameStr(*PG_GETARG_NAME(2)), false);
}

/* 0: never. */
static TimestampTz
read_expiry(FunctionCallInfo fcinfo, int argument, TimestampTz now)
{
	TimestampTz expires;

	if (PG_ARGISNULL(argument))
		return 0;
	expires = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(now), PG_GETARG_DATUM(argument)));
	if (expires <= now)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a pause must not end before it begins"),
						errhint("Give a positive interval, or NULL for a pause until further "
								"notice.")));
	return TIMESTAMP_NOT_FINITE(expires) ? 0 : expires;
}

/*---- pause and resume ----*/

static Pause *
find_pause(PauseList *list, const PauseKey *key)
{
	for (int i = 0; i < list->n; i++)
	{
		const PauseKey *other = &list->pauses[i].key;

		if (other->role == key->role && other->database == key->database &&
			strcmp(other->pool, key->pool) == 0)
			return &list->pauses[i];
	}
	return NULL;
}

static Pause *
add_pause(PauseList *list, const PauseKey *key, TimestampTz now)
{
	Pause *pause;

	if (list->n == PAUSES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("there are too many pauses"),
				 errdetail("The limit is %d.", PAUSES_MAX),
				 errhint("End some with pgpool_monitor.resume, or pause by role or "
						 "database.")));
	pause = &list->pauses[list->n++];
	memset(pause, 0, sizeof(*pause));
	pause->key = *key;
	pause->since = now;
	return pause;
}

Datum
pgpool_monitor_pause(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	PauseList *list = palloc0_object(PauseList);
	PauseKey key;
	Pause *pause;
	TimestampTz expires;
	int n;

	view_require_registry();
	read_key(fcinfo, &key);
	expires = read_expiry(fcinfo, 3, now);

	pause_lock();
	pause_copy(list);
	pause = find_pause(list, &key);
	if (pause == NULL)
		pause = add_pause(list, &key, now);
	pause->expires = expires;
	pause->by = GetSessionUserId();
	n = pause_replace(list, &key);
	pause_unlock();
	PG_RETURN_INT32(n);
}

Datum
pgpool_monitor_resume(PG_FUNCTION_ARGS)
{
	PauseList *list = palloc0_object(PauseList);
	bool all = PG_ARGISNULL(0) && PG_ARGISNULL(1) && PG_ARGISNULL(2);
	PauseKey key;
	Pause *pause;
	int ended = 0;

	view_require_registry();
	read_key(fcinfo, &key);

	pause_lock();
	pause_copy(list);
	pause = find_pause(list, &key);
	if (all)
	{
		ended = list->n;
		list->n = 0;
	}
	else if (pause != NULL)
	{
		ended = 1;
		*pause = list->pauses[--list->n];
	}
	/*
	 * also if there was none in force: the file may have one that it could not get rid of,
	 * or that has expired
	 */
	(void) pause_replace(list, NULL);
	pause_unlock();
	PG_RETURN_INT32(ended);
}

/*---- the view ----*/

typedef struct PauseSums
{
	int instances;
	int heard;
	int sessions;
	int reported;
	int in_use;
	int busy;
} PauseSums;

/* The instances that are paused, and that this pause covers. */
static bool
is_paused_by(const Copy *copy, const InstanceSlot *instance, const Pause *pause)
{
	return view_published(instance).paused &&
		   pause_covers(&pause->key, &copy->pools[instance->pool]);
}

static void
sum_pause(const Copy *copy, const Pause *pause, PauseSums *sums)
{
	memset(sums, 0, sizeof(*sums));
	for (int i = 0; i < copy->ninstances; i++)
	{
		const InstanceSlot *instance = &copy->instances[i];

		if (!is_paused_by(copy, instance, pause))
			continue;
		sums->instances++;
		/* not `acked`: that is also set for one that is silent, which may lend what it holds */
		sums->heard += instance->reported && instance->report.ack >= view_published(instance).epoch;
		sums->sessions += instance->held;
		sums->reported += instance->reported;
		if (instance->reported && !instance_vanished(instance))
			view_add_int(&sums->in_use, instance->report.in_use);
	}
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		const InstanceSlot *instance = view_instance_of(copy, &copy->sessions[slot]);

		if (instance != NULL && is_paused_by(copy, instance, pause))
			sums->busy += view_is_busy(&copy->sessions[slot]);
	}
}

/* By their names of today; one that has been dropped is shown by its number. */
static void
put_object(Row *row, Oid oid, const char *name)
{
	if (oid == InvalidOid)
		put_null(row);
	else
		put_text(row, name != NULL ? name : psprintf("%u", oid));
}

static void
emit_pause(FunctionCallInfo fcinfo, const Copy *copy, const Pause *pause)
{
	PauseSums sums;
	Row row = { 0 };

	sum_pause(copy, pause, &sums);
	put_name_or_null(&row, pause->key.pool);
	put_object(&row, pause->key.role, GetUserNameFromId(pause->key.role, true));
	put_object(&row, pause->key.database, get_database_name(pause->key.database));
	put(&row, TimestampTzGetDatum(pause->since));
	if (pause->expires != 0)
		put(&row, TimestampTzGetDatum(pause->expires));
	else
		put_null(&row);
	put_object(&row, pause->by, GetUserNameFromId(pause->by, true));
	put_int(&row, sums.instances);
	put_int(&row, sums.heard);
	put_int(&row, sums.sessions);
	put_int_or_null(&row, sums.reported > 0, sums.in_use);
	put_int(&row, sums.busy);
	emit(fcinfo, &row, PAUSES_COLS);
}

Datum
pgpool_monitor_pauses(PG_FUNCTION_ARGS)
{
	Copy *copy = view_copy();
	PauseList *list = palloc_object(PauseList);

	pause_copy(list);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < list->n; i++)
		emit_pause(fcinfo, copy, &list->pauses[i]);
	return (Datum) 0;
}
