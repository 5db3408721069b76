/*-------------------------------------------------------------------------
 *
 * unused.c
 *	  What the extension's files call of PostgreSQL, but never in a simulation:
 *	  catalogs, files, errors with a text, waiting.  To come here ends the run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "view.h"

#define UNUSED(type, name, arguments)                  \
	type name arguments                                \
	{                                                  \
		sim_fail("the simulation has no " #name "()"); \
	}

UNUSED(ListCell *, sim_first, (const List *list))
UNUSED(ListCell *, sim_next, (const ListCell *cell))
UNUSED(void *, sim_value, (const ListCell *cell))
UNUSED(void, list_free, (List * list))
UNUSED(bool, SplitIdentifierString, (char *text, char separator, List **names))
UNUSED(char *, psprintf, (const char *format, ...))
UNUSED(char *, view_printable, (const char *name))
UNUSED(int, FreeFile, (FILE * file))
UNUSED(int, durable_rename, (const char *from, const char *to, int level))
UNUSED(pg_crc32c, sim_crc, (pg_crc32c crc, const void *data, size_t size))
UNUSED(void *, sim_struct, (HeapTuple tuple))
UNUSED(HeapTuple, SearchSysCache1, (int cache, Datum key))
UNUSED(void, ReleaseSysCache, (HeapTuple tuple))
UNUSED(bool, superuser_arg, (Oid role))
UNUSED(int, LockAcquire, (const LOCKTAG *tag, int mode, bool session, bool no_wait))
UNUSED(bool, LockRelease, (const LOCKTAG *tag, int mode, bool session))
UNUSED(void, ConditionVariablePrepareToSleep, (ConditionVariable * variable))
UNUSED(bool, ConditionVariableTimedSleep, (ConditionVariable * variable, long ms, uint32 event))
UNUSED(bool, ConditionVariableCancelSleep, (void) )
UNUSED(void, ConditionVariableBroadcast, (ConditionVariable * variable))
UNUSED(bool, compat_slots_remain, (int n))
UNUSED(uint32, compat_wait_event, (const char *name))
