/*-------------------------------------------------------------------------
 *
 * postgres.h
 *	  As much of PostgreSQL as registry.c, grant.c, share.c, rule_set.c, enforce.c, past.c and
 *	  pause.c ask for, so that the fleet simulation (tests/sim) runs them outside the server.
 *
 * Written from the documented meaning of each name; nothing is copied.  All other headers of
 * this directory are names for this one.  What is more than a stand-in:
 *
 *	- LWLockAcquire and LWLockRelease assert the lock protocol of registry.h: no
 *	  lock is taken under another, nothing is allocated and no error raised under one,
 *	  and the registry's tables are only written while it is held exclusively (server.c).
 *	- Time is the simulation's: GetCurrentTimestamp, and clock_gettime, which pgpm_now reads.
 *	- compat.h is replaced: the process array is the simulation's, too.
 *
 * What the simulation never comes to (catalogs, files, waiting) is in tests/sim/unused.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_POSTGRES_H
#define SIM_POSTGRES_H

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*---- c.h ----*/

typedef int16_t int16;
typedef int32_t int32;
typedef int64_t int64;
typedef uint8_t uint8;
typedef uint16_t uint16;
typedef uint32_t uint32;
typedef uint64_t uint64;
typedef size_t Size;
typedef unsigned int Oid;
typedef uintptr_t Datum;

#define INT64CONST(number) INT64_C(number)
#define UINT64CONST(number) UINT64_C(number)
#define INT64_FORMAT "%" PRId64
#define UINT64_FORMAT "%" PRIu64
#define NAMEDATALEN 64
#define MAX_BACKENDS 0x3FFFF
#define Min(a, b) ((a) < (b) ? (a) : (b))
#define Max(a, b) ((a) > (b) ? (a) : (b))
#define MAXALIGN(size) (((size) + (Size) 7) & ~(Size) 7)
#define InvalidOid 0
#define OidIsValid(oid) ((oid) != InvalidOid)
#define PG_INT64_MAX INT64_MAX
#define FLEXIBLE_ARRAY_MEMBER
#define pg_add_s64_overflow(a, b, result) __builtin_add_overflow(a, b, result)
#define PGDLLEXPORT
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define Assert(condition) \
	((condition) ? (void) 0 : sim_fail("assertion in the extension: %s", #condition))

extern void sim_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* glibc has it only of late. */
#define strlcpy sim_strlcpy
extern size_t sim_strlcpy(char *to, const char *from, size_t size);

/*---- errors: what they say does not matter here ----*/

#define LOG 15
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define ERRCODE_CONFIG_FILE_ERROR 1
#define ERRCODE_DATA_CORRUPTED 2
#define ERRCODE_TOO_MANY_CONNECTIONS 3
#define ereport(level, ...) ((void) sizeof((__VA_ARGS__)), sim_ereport(level))
extern void sim_ereport(int level);
extern int errcode(int code);
extern int errcode_for_file_access(void);
extern int errmsg(const char *format, ...);
extern int errmsg_plural(const char *singular, const char *plural, unsigned long n, ...);
extern int errdetail(const char *format, ...);
extern int errdetail_log(const char *format, ...);
extern int errhint(const char *format, ...);

/*---- memory ----*/

typedef struct MemoryContextData *MemoryContext;

#define TopMemoryContext ((MemoryContext) NULL)
static inline MemoryContext
MemoryContextSwitchTo(MemoryContext context)
{
	return context;
}
#define palloc_array(type, count) ((type *) palloc(sizeof(type) * (size_t) (count)))
#define palloc0_array(type, count) ((type *) palloc0(sizeof(type) * (size_t) (count)))
#define MemoryContextStrdup(context, text) ((void) (context), pstrdup(text))
extern void *palloc(Size size);
extern void *palloc0(Size size);
extern char *pstrdup(const char *text);
extern void pfree(void *memory);

/*---- text and lists ----*/

typedef struct FunctionCallInfoBaseData *FunctionCallInfo; /* of views, which are not simulated */
typedef struct TupleDescData *TupleDesc;
typedef struct List List;
typedef struct ListCell ListCell;

#define NIL ((List *) NULL)
#define foreach(cell, list) for ((cell) = sim_first(list); (cell) != NULL; (cell) = sim_next(cell))
#define lfirst(cell) sim_value(cell)
extern ListCell *sim_first(const List *list);
extern ListCell *sim_next(const ListCell *cell);
extern void *sim_value(const ListCell *cell);
extern void list_free(List *list);
extern bool SplitIdentifierString(char *text, char separator, List **names);
extern char *psprintf(const char *format, ...);

/*---- files: there are none ----*/

#define PG_BINARY_R "r"
#define PG_BINARY_W "w"
extern FILE *AllocateFile(const char *name, const char *mode);
extern int FreeFile(FILE *file);
extern int durable_rename(const char *from, const char *to, int level);

typedef uint32 pg_crc32c;
#define INIT_CRC32C(crc) ((crc) = 0)
#define COMP_CRC32C(crc, data, size) ((crc) = sim_crc(crc, data, size))
#define FIN_CRC32C(crc) ((void) (crc))
extern pg_crc32c sim_crc(pg_crc32c crc, const void *data, size_t size);

/*---- catalogs ----*/

typedef struct HeapTupleData *HeapTuple;
typedef struct
{
	int32 rolconnlimit;
} * Form_pg_authid;
typedef struct
{
	int32 datconnlimit;
} * Form_pg_database;

#define AUTHOID 1
#define DATABASEOID 2
#define ObjectIdGetDatum(oid) ((Datum) (oid))
#define HeapTupleIsValid(tuple) ((tuple) != NULL)
#define GETSTRUCT(tuple) sim_struct(tuple)
extern void *sim_struct(HeapTuple tuple);
extern HeapTuple SearchSysCache1(int cache, Datum key);
extern void ReleaseSysCache(HeapTuple tuple);
extern bool superuser_arg(Oid role);

/*---- time ----*/

typedef int64 TimestampTz;

extern TimestampTz GetCurrentTimestamp(void);
extern int sim_clock_gettime(int clock, struct timespec *ts);
#define clock_gettime(clock, ts) sim_clock_gettime(clock, ts)

/*---- atomics: one thread, so that any access is ----*/

typedef struct pg_atomic_uint32
{
	uint32 value;
} pg_atomic_uint32;

typedef struct pg_atomic_uint64
{
	uint64 value;
} pg_atomic_uint64;

typedef struct pg_atomic_flag
{
	bool value;
} pg_atomic_flag;

#define pg_atomic_init_u32(atomic, new) ((void) ((atomic)->value = (new)))
#define pg_atomic_init_u64(atomic, new) ((void) ((atomic)->value = (new)))
#define pg_atomic_init_flag(atomic) ((void) ((atomic)->value = false))
#define pg_atomic_read_u32(atomic) ((atomic)->value)
#define pg_atomic_read_u64(atomic) ((atomic)->value)
#define pg_atomic_write_u32(atomic, new) ((void) ((atomic)->value = (new)))
#define pg_atomic_write_u64(atomic, new) ((void) ((atomic)->value = (new)))
#define pg_atomic_fetch_add_u32(atomic, add) ((void) ((atomic)->value += (uint32) (add)))
#define pg_atomic_fetch_add_u64(atomic, add) ((void) ((atomic)->value += (uint64) (add)))
#define pg_memory_barrier() ((void) 0)
#define pg_read_barrier() ((void) 0)
#define pg_write_barrier() ((void) 0)

/*---- locks ----*/

typedef enum LWLockMode
{
	LW_EXCLUSIVE,
	LW_SHARED
} LWLockMode;

typedef struct LWLock
{
	bool held;
	LWLockMode mode;
} LWLock;

typedef struct LWLockPadded
{
	LWLock lock;
} LWLockPadded;

extern LWLock *AddinShmemInitLock;
extern bool LWLockAcquire(LWLock *lock, LWLockMode mode);
extern void LWLockRelease(LWLock *lock);
extern LWLockPadded *GetNamedLWLockTranche(const char *name);

/* Heavyweight ones are an administrator's. */
typedef struct LOCKTAG
{
	uint32 key;
} LOCKTAG;

#define ExclusiveLock 7
#define SET_LOCKTAG_ADVISORY(tag, database, key1, key2, class) ((tag).key = (key1))
extern int LockAcquire(const LOCKTAG *tag, int mode, bool session, bool no_wait);
extern bool LockRelease(const LOCKTAG *tag, int mode, bool session);

/* server.c waits by events instead. */
typedef struct ConditionVariable
{
	bool made;
} ConditionVariable;

#define ConditionVariableInit(variable) ((void) ((variable)->made = true))
extern void ConditionVariablePrepareToSleep(ConditionVariable *variable);
extern bool ConditionVariableTimedSleep(ConditionVariable *variable, long ms, uint32 event);
extern bool ConditionVariableCancelSleep(void);
extern void ConditionVariableBroadcast(ConditionVariable *variable);

/*---- shared memory ----*/

typedef void (*shmem_request_hook_type)(void);
typedef void (*shmem_startup_hook_type)(void);
extern shmem_request_hook_type shmem_request_hook;
extern shmem_startup_hook_type shmem_startup_hook;
extern void RequestAddinShmemSpace(Size size);
extern void RequestNamedLWLockTranche(const char *name, int n);
extern void *ShmemInitStruct(const char *name, Size size, bool *found);
#define add_size(a, b) ((Size) (a) + (Size) (b))
#define mul_size(a, b) ((Size) (a) * (Size) (b))

/*---- processes ----*/

typedef struct PGPROC
{
	Oid roleId;
	Oid databaseId;
} PGPROC;

typedef struct Latch Latch;
typedef struct PgBackendStatus PgBackendStatus;

extern int MaxConnections;
extern int MaxBackends;
extern int MyProcPid;
extern struct PGPROC *MyProc;
extern PgBackendStatus *MyBEEntry;
extern void SetLatch(Latch *latch);
#define IsUnderPostmaster false
#define on_shmem_exit(callback, argument) ((void) (callback), (void) (argument))

/*---- hashing ----*/

extern uint64 hash_bytes_extended(const unsigned char *bytes, int n, uint64 seed);

/*---- extension/compat.h, which is kept out ----*/

#define PGPM_COMPAT_H
extern int compat_place_of(const PGPROC *proc);
extern int compat_place_pid(int place);
extern int compat_reserved_connections(void);
extern bool compat_slots_remain(int n);
extern uint32 compat_wait_event(const char *name);
extern const PGPROC *compat_place(int place);

#endif /* SIM_POSTGRES_H */
