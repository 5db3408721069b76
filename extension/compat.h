/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Everything that differs between PostgreSQL 15, 16, 17 and 18.
 *
 * No other file looks at PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_COMPAT_H
#define PGPM_COMPAT_H

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/postmaster.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/guc_tables.h"

#if PG_VERSION_NUM < 150000
#error "pgpool_monitor needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM < 170000
#include "storage/backendid.h"
#endif

#if PG_VERSION_NUM >= 180000
#define PGPM_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "pgpool_monitor", .version = PGPM_VERSION)
#else
#define PGPM_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* A number below MaxBackends that no other living backend has. */
static inline int
compat_my_slot(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyBackendId - 1;
#endif
}

/* The same of another process. */
static inline int
compat_slot_of(const PGPROC *proc)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(proc);
#else
	return proc->backendId - 1;
#endif
}

/* Connections that max_connections keeps from ordinary users. */
static inline int
compat_reserved_connections(void)
{
#if PG_VERSION_NUM >= 160000
	return SuperuserReservedConnections + ReservedConnections;
#else
	return ReservedBackends;
#endif
}

/* May so many ordinary users still connect? */
static inline bool
compat_slots_remain(int n)
{
#if PG_VERSION_NUM >= 160000
	int nfree;

	return HaveNFreeProcs(compat_reserved_connections() + n, &nfree);
#else
	return HaveNFreeProcs(compat_reserved_connections() + n);
#endif
}

/*
 * Places: the max_connections entries of the process array, which come first in all
 * versions.  Clients' backends have them, those still authenticating included; walsenders,
 * autovacuum and background workers have others.  They are read without a lock: what
 * changes all the time is no more true with one.
 */

static inline const PGPROC *
compat_place(int place)
{
	return &ProcGlobal->allProcs[place];
}

/* The place of a process; -1: it is none of these. */
static inline int
compat_place_of(const PGPROC *proc)
{
	return proc < &ProcGlobal->allProcs[MaxConnections] ? (int) (proc - ProcGlobal->allProcs) : -1;
}

/* The process that has a place, or 0. */
static inline int
compat_place_pid(int place)
{
#if PG_VERSION_NUM >= 170000
	return compat_place(place)->pid;
#else
	/* before 17 a dead process leaves its pid there, but gives its latch up */
	return compat_place(place)->procLatch.owner_pid;
#endif
}

/*
 * The record of a setting, or NULL.  Before 16 a search through all: to be done once, in
 * the postmaster.
 */
static inline struct config_generic *
compat_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, true, 0);
#else
	struct config_generic **all = get_guc_variables();
	int n = GetNumConfigOptions();

	for (int i = 0; i < n; i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
#endif
}

/*
 * For a setting that only some sessions have.  Before 16, to define one sorts all that
 * there are: half a million instructions of each such session.  So there it is defined in
 * the postmaster, under a name that is nobody's, and a session that has it gives it its
 * name.
 */
#if PG_VERSION_NUM >= 160000
#define COMPAT_SETTINGS_SORTED false
#else
#define COMPAT_SETTINGS_SORTED true
#endif

/* The new name must sort at the same place among all names. */
static inline void
compat_rename_setting(struct config_generic *record, const char *name, int more_flags)
{
	Assert(COMPAT_SETTINGS_SORTED);
	record->name = name;
	record->flags |= more_flags;
}

/* Memory for the "extra" of a setting. */
static inline void *
compat_guc_malloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/*
 * The state of whichever backend is in a slot, as it is now: read it by the protocol of
 * backend_status.h.
 */
static inline volatile PgBackendStatus *
compat_status(int slot)
{
	/* the array is not exported, but ours is the entry of our own slot */
	return MyBEEntry - compat_my_slot() + slot;
}

static inline uint32
compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

#endif /* PGPM_COMPAT_H */
