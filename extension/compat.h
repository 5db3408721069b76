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
#include "storage/sinvaladt.h"
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

/* May an ordinary user still connect? */
static inline bool
compat_slots_remain(void)
{
#if PG_VERSION_NUM >= 160000
	int nfree;

	return HaveNFreeProcs(compat_reserved_connections() + 1, &nfree);
#else
	return HaveNFreeProcs(compat_reserved_connections() + 1);
#endif
}

/* The process array's entry of a slot, or NULL. */
static inline PGPROC *
compat_proc(int slot)
{
#if PG_VERSION_NUM >= 170000
	return GetPGProcByNumber(slot);
#else
	return BackendIdGetProc(slot + 1);
#endif
}

/*
 * The process in a slot, if it holds one of the max_connections places (those
 * still authenticating included), else 0.  Walsenders, autovacuum and
 * background workers have places of their own: ordinary ones are the first MaxConnections
 * entries of the process array in all versions.  Reads without a lock: what
 * changes all the time is no more true with one.
 */
static inline int
compat_client_backend(int slot)
{
#if PG_VERSION_NUM >= 170000
	return slot < MaxConnections ? GetPGProcByNumber(slot)->pid : 0;
#else
	/* before 17 a dead process leaves its pid in its PGPROC, but not in this array */
	PGPROC *proc = BackendIdGetProc(slot + 1);

	return proc != NULL && proc->pgprocno < MaxConnections ? proc->pid : 0;
#endif
}

/* Has this process, which is alive, one of the max_connections places? */
static inline bool
compat_is_client(const PGPROC *proc)
{
	return proc < &ProcGlobal->allProcs[MaxConnections];
}

/* Where the current value of a setting came from. */
static inline GucSource
compat_guc_source(const char *name)
{
#if PG_VERSION_NUM >= 160000
	struct config_generic *record = find_option(name, false, true, 0);

	return record != NULL ? record->source : PGC_S_DEFAULT;
#else
	struct config_generic **all = get_guc_variables();
	int n = GetNumConfigOptions();

	for (int i = 0; i < n; i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i]->source;
	return PGC_S_DEFAULT;
#endif
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

/* The state of whichever backend is in a slot, as it is now: read it by the protocol of backend_status.h. */
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
