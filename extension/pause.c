/*-------------------------------------------------------------------------
 *
 * pause.c
 *	  Pauses: the table, its file, and what follows for pools.
 *
 * pause.h has who does what, and the locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "grant.h"
#include "pause.h"
#include "pgpool_monitor.h"
#include "registry.h"

#define TEMPORARY_FILE PAUSE_FILE ".tmp"
#define FILE_MAGIC 0x70675061 /* changes with the layout of Pause */

/*
 * The writers' lock: an advisory one, of a class (the last field) that no SQL
 * function can take, and of no database, for all of them write the same file.
 */
#define LOCK_KEY 0x70677061
#define LOCK_CLASS 0x5061

typedef struct PauseTable
{
	PauseList list;
	TimestampTz next_expiry;		  /* the earliest in the list; 0: none */
	bool held[FLEXIBLE_ARRAY_MEMBER]; /* [max_pools]: this pool is paused */
} PauseTable;

static PauseTable *table = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

bool
pause_covers(const PauseKey *key, const PoolSlot *pool)
{
	return (key->role == InvalidOid || key->role == pool->role) &&
		   (key->database == InvalidOid || key->database == pool->database) &&
		   (key->pool[0] == '\0' || strcmp(key->pool, pool->name) == 0);
}

bool
pause_is_over(const Pause *pause, TimestampTz now)
{
	return pause->expires != 0 && pause->expires <= now;
}

/*---- the file ----*/

typedef struct FileHeader
{
	uint32 magic;
	int32 n;
	pg_crc32c crc; /* of the records */
} FileHeader;

static pg_crc32c
checksum(const PauseList *list)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, list->pauses, list->n * sizeof(Pause));
	FIN_CRC32C(crc);
	return crc;
}

/* Whole and undamaged, or false. */
static bool
read_list(FILE *file, PauseList *list)
{
	FileHeader header;

	if (fread(&header, sizeof(header), 1, file) != 1 || header.magic != FILE_MAGIC ||
		header.n < 0 || header.n > PAUSES_MAX)
		return false;
	list->n = header.n;
	return fread(list->pauses, sizeof(Pause), header.n, file) == (size_t) header.n &&
		   fgetc(file) == EOF && checksum(list) == header.crc;
}

/*
 * In the postmaster, which must not fail: a server that lends too much is
 * better than none.
 */
static void
load(PauseList *list)
{
	FILE *file = AllocateFile(PAUSE_FILE, PG_BINARY_R);

	list->n = 0;
	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(),
						  errmsg("could not open file \"%s\": %m", PAUSE_FILE)));
		return;
	}
	if (!read_list(file, list))
	{
		list->n = 0;
		ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED),
					  errmsg("ignoring invalid data in file \"%s\"", PAUSE_FILE),
					  errdetail("Connection pools that were paused are not paused any more.")));
	}
	FreeFile(file);
}

static bool
write_list(FILE *file, const PauseList *list)
{
	FileHeader header = { .magic = FILE_MAGIC, .n = list->n, .crc = checksum(list) };

	return fwrite(&header, sizeof(header), 1, file) == 1 &&
		   fwrite(list->pauses, sizeof(Pause), list->n, file) == (size_t) list->n &&
		   fflush(file) == 0;
}

static void
save(const PauseList *list)
{
	FILE *file = AllocateFile(TEMPORARY_FILE, PG_BINARY_W);

	if (file == NULL)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not open file \"%s\": %m", TEMPORARY_FILE)));
	else if (!write_list(file, list))
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write file \"%s\": %m", TEMPORARY_FILE)));
	if (FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not close file \"%s\": %m", TEMPORARY_FILE)));
	(void) durable_rename(TEMPORARY_FILE, PAUSE_FILE, ERROR);
}

/*---- shared memory ----*/

static Size
table_size(void)
{
	return add_size(offsetof(PauseTable, held), mul_size(pgpm_max_pools, sizeof(bool)));
}

static void
request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(table_size());
}

static void
find_next_expiry(void)
{
	table->next_expiry = 0;
	for (int i = 0; i < table->list.n; i++)
	{
		TimestampTz expires = table->list.pauses[i].expires;

		if (expires != 0 && (table->next_expiry == 0 || expires < table->next_expiry))
			table->next_expiry = expires;
	}
}

static void
startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* reset in case this is a restart within the postmaster */
	table = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table = ShmemInitStruct("pgpool_monitor pauses", table_size(), &found);
	if (!found)
		memset(table, 0, table_size());
	LWLockRelease(AddinShmemInitLock);

	/* nobody else is there yet */
	if (found)
		return;
	load(&table->list);
	find_next_expiry();
	if (table->list.n > 0)
		ereport(LOG, (errmsg_plural("pgpool_monitor keeps connection pools paused, by %d order",
									"pgpool_monitor keeps connection pools paused, by %d orders",
									table->list.n, table->list.n)));
}

void
pause_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/*---- under registry->lock ----*/

void
pause_meet_pool(int pool)
{
	TimestampTz now = GetCurrentTimestamp();

	table->held[pool] = false;
	for (int i = 0; i < table->list.n; i++)
	{
		const Pause *pause = &table->list.pauses[i];

		if (!pause_is_over(pause, now) && pause_covers(&pause->key, &registry->pools[pool]))
			table->held[pool] = true;
	}
}

bool
pause_holds(int pool)
{
	return table->held[pool];
}

/* The table has changed: for which pools does that make a difference? */
static void
tell_all(void)
{
	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pool_hashes[i] != 0)
			pause_meet_pool(i);
	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->instance_hashes[i] != 0)
			grant_tell_pause(&registry->instances[i]);
}

void
pause_expire(void)
{
	TimestampTz now;
	int n = 0;

	if (table->next_expiry == 0)
		return;
	now = GetCurrentTimestamp();
	if (now < table->next_expiry)
		return;
	for (int i = 0; i < table->list.n; i++)
		if (!pause_is_over(&table->list.pauses[i], now))
			table->list.pauses[n++] = table->list.pauses[i];
	table->list.n = n;
	find_next_expiry();
	tell_all();
}

/*---- writers ----*/

static void
set_lock_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, LOCK_KEY, 0, LOCK_CLASS);
}

void
pause_lock(void)
{
	LOCKTAG tag;

	set_lock_tag(&tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
pause_unlock(void)
{
	LOCKTAG tag;

	set_lock_tag(&tag);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

void
pause_copy(PauseList *list)
{
	TimestampTz now = GetCurrentTimestamp();

	list->n = 0;
	LWLockAcquire(registry->lock, LW_SHARED);
	for (int i = 0; i < table->list.n; i++)
		if (!pause_is_over(&table->list.pauses[i], now))
			list->pauses[list->n++] = table->list.pauses[i];
	LWLockRelease(registry->lock);
}

static int
count_paused(const PauseKey *key)
{
	uint32 mode = pg_atomic_read_u32(&registry->mode);
	int n = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] != 0 &&
			pause_covers(key, &registry->pools[instance->pool]))
			n += publication_effective(pg_atomic_read_u64(&instance->publication), 0, mode).paused;
	}
	return n;
}

int
pause_replace(const PauseList *list, const PauseKey *key)
{
	int paused = 0;

	save(list);
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	memcpy(&table->list, list, sizeof(*list));
	find_next_expiry();
	tell_all();
	if (key != NULL)
		paused = count_paused(key);
	LWLockRelease(registry->lock);
	return paused;
}
