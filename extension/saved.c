/*-------------------------------------------------------------------------
 *
 * saved.c
 *	  Counters in a file, from a shutdown in order to the next start.
 *
 * The postmaster writes it when everybody else has gone, and reads it, and removes it,
 * before anybody is there: so nothing is locked, and a crash finds no file.  A shutdown is
 * in order if pg_control says so: the exit code is that of a success after an immediate
 * one, and that of a failure if a start came to nothing, which must not cost what had been
 * saved before.
 *
 *		SavedHeader, SavedPool[npools], SavedInstance[ninstances]
 *
 * Instances are those that may come back (past.h).  Pools and instances that
 * matter most come first, for the tables may be smaller at the next start.
 *
 * What is read is not believed: the file is used if sizes, checksum, and every
 * field are right, and else ignored whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "past.h"
#include "pgpool_monitor.h"

#define SAVED_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/pgpool_monitor.stat"
#define SAVED_MAGIC 0x70676d63
#define SAVED_FORMAT 1

typedef struct SavedHeader
{
	uint32 magic;
	uint32 format; /* to be raised with every change of what follows */
	uint32 pool_size;
	uint32 instance_size;
	uint32 npools;
	uint32 ninstances;
	pg_crc32c checksum; /* of what follows; the above is checked by itself */
} SavedHeader;

typedef struct SavedPool
{
	Oid role;
	Oid database;
	char name[NAME_LEN];
	char role_name[NAMEDATALEN];
	char database_name[NAMEDATALEN];
	TimestampTz since;
	PoolTotals totals;
} SavedPool;

typedef struct SavedInstance
{
	uint32 pool; /* index in the file */
	char id[NAME_LEN];
	PoolTotals counted;
} SavedInstance;

typedef struct Saved
{
	SavedHeader header;
	SavedPool *pools;
	SavedInstance *instances;
} Saved;

/*---- writing ----*/

/* Who has something to be kept, and since when he is gone. */
typedef struct Candidate
{
	int slot;
	int64 gone; /* PG_INT64_MAX: he is there */
} Candidate;

static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	return x->gone != y->gone ? (x->gone > y->gone ? -1 : 1) : x->slot - y->slot;
}

/* Zeroed, so that what lies between two fields is the same in every file. */
static void *
allocate(Size n, Size size)
{
	return palloc_extended(Max(1, mul_size(n, size)), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
save_pool(SavedPool *saved, int i)
{
	const PoolSlot *pool = &registry->pools[i];

	saved->role = pool->role;
	saved->database = pool->database;
	strlcpy(saved->name, pool->name, NAME_LEN);
	strlcpy(saved->role_name, pool->role_name, NAMEDATALEN);
	strlcpy(saved->database_name, pool->database_name, NAMEDATALEN);
	saved->since = registry->records[i].since;
	saved->totals = registry->records[i].totals;
}

/* Also fills position[max_pools] with the indexes in the file. */
static void
save_pools(Saved *saved, Candidate *candidates, int *position)
{
	int n = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
	{
		position[i] = -1;
		if (registry->pool_hashes[i] == 0 || !registry->records[i].known)
			continue;
		candidates[n].slot = i;
		candidates[n++].gone =
			registry->pools[i].ninstances > 0 ? PG_INT64_MAX : registry->records[i].gone;
	}
	qsort(candidates, n, sizeof(Candidate), compare_candidates);
	saved->pools = allocate(n, sizeof(SavedPool));
	for (int i = 0; i < n; i++)
	{
		position[candidates[i].slot] = i;
		save_pool(&saved->pools[i], candidates[i].slot);
	}
	saved->header.npools = n;
}

static void
save_instances(Saved *saved, Candidate *candidates, const int *position)
{
	int n = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		bool there = registry->instance_hashes[i] != 0 && past_may_come_back(instance);

		if ((!there && registry->ghosts[i].hash == 0) || position[instance->pool] < 0)
			continue;
		candidates[n].slot = i;
		candidates[n++].gone = there ? PG_INT64_MAX : registry->ghosts[i].gone;
	}
	qsort(candidates, n, sizeof(Candidate), compare_candidates);
	saved->instances = allocate(n, sizeof(SavedInstance));
	for (int i = 0; i < n; i++)
	{
		const InstanceSlot *instance = &registry->instances[candidates[i].slot];

		saved->instances[i].pool = position[instance->pool];
		strlcpy(saved->instances[i].id, instance->id, NAME_LEN);
		saved->instances[i].counted = instance->report.counted;
	}
	saved->header.ninstances = n;
}

static pg_crc32c
checksum(const Saved *saved)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, saved->pools, saved->header.npools * sizeof(SavedPool));
	COMP_CRC32C(crc, saved->instances, saved->header.ninstances * sizeof(SavedInstance));
	FIN_CRC32C(crc);
	return crc;
}

static Saved *
collect(void)
{
	Saved *saved = palloc0_object(Saved);
	Candidate *candidates = palloc_array(Candidate, Max(pgpm_max_pools, pgpm_max_instances));
	int *position = palloc_array(int, pgpm_max_pools);

	saved->header.magic = SAVED_MAGIC;
	saved->header.format = SAVED_FORMAT;
	saved->header.pool_size = sizeof(SavedPool);
	saved->header.instance_size = sizeof(SavedInstance);
	save_pools(saved, candidates, position);
	save_instances(saved, candidates, position);
	saved->header.checksum = checksum(saved);
	return saved;
}

static bool
put_out(FILE *file, const Saved *saved)
{
	return fwrite(&saved->header, sizeof(SavedHeader), 1, file) == 1 &&
		   fwrite(saved->pools, sizeof(SavedPool), saved->header.npools, file) ==
			   saved->header.npools &&
		   fwrite(saved->instances, sizeof(SavedInstance), saved->header.ninstances, file) ==
			   saved->header.ninstances;
}

static bool
write_file(const char *path, const Saved *saved)
{
	FILE *file = AllocateFile(path, PG_BINARY_W);
	bool good;
	int error;

	if (file == NULL)
		return false;
	good = put_out(file, saved);
	error = errno;
	if (FreeFile(file) != 0)
		return false;
	errno = error;
	return good;
}

static bool
shut_down_in_order(void)
{
	ControlFileData *control;
	bool readable;
	bool in_order;

	/* get_controlfile() would raise an error, and we are on the way out */
	if (access("global/pg_control", R_OK) != 0)
		return false;
	control = get_controlfile(".", &readable);
	in_order = readable &&
			   (control->state == DB_SHUTDOWNED || control->state == DB_SHUTDOWNED_IN_RECOVERY);
	pfree(control);
	return in_order;
}

void
saved_write_at_exit(int code, Datum arg)
{
	Saved *saved;

	if (registry == NULL || !pgpm_save || !shut_down_in_order())
		return;
	saved = collect();
	if (saved->header.npools == 0)
		return;
	if (!write_file(SAVED_FILE ".tmp", saved))
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not write file \"%s\": %m", SAVED_FILE ".tmp")));
		unlink(SAVED_FILE ".tmp");
		return;
	}
	(void) durable_rename(SAVED_FILE ".tmp", SAVED_FILE, LOG);
}

/*---- reading ----*/

static const char cut_off[] = "It ends too early.";

static bool
terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static const char *
check_header(const SavedHeader *header, off_t size)
{
	if (header->magic != SAVED_MAGIC)
		return "It does not begin as such a file does.";
	if (header->format != SAVED_FORMAT || header->pool_size != sizeof(SavedPool) ||
		header->instance_size != sizeof(SavedInstance))
		return "It was written by another version.";
	if ((uint64) size != sizeof(SavedHeader) + (uint64) header->npools * sizeof(SavedPool) +
							 (uint64) header->ninstances * sizeof(SavedInstance))
		return "It has not the size that it says.";
	return NULL;
}

static bool
pool_is_good(const SavedPool *pool)
{
	return OidIsValid(pool->role) && OidIsValid(pool->database) &&
		   terminated(pool->name, NAME_LEN) && pool->name[0] != '\0' &&
		   terminated(pool->role_name, NAMEDATALEN) &&
		   terminated(pool->database_name, NAMEDATALEN) && IS_VALID_TIMESTAMP(pool->since) &&
		   totals_valid(&pool->totals);
}

static bool
instance_is_good(const SavedInstance *instance, uint32 npools)
{
	return instance->pool < npools && terminated(instance->id, NAME_LEN) &&
		   instance->id[0] != '\0' && totals_valid(&instance->counted);
}

/*
 * A checksum finds what went wrong by accident; what somebody wrote with a right one is
 * looked at all the same.
 */
static const char *
check_contents(const Saved *saved)
{
	if (checksum(saved) != saved->header.checksum)
		return "Its checksum is wrong.";
	for (uint32 i = 0; i < saved->header.npools; i++)
		if (!pool_is_good(&saved->pools[i]))
			return "It has a pool that cannot be.";
	for (uint32 i = 0; i < saved->header.ninstances; i++)
		if (!instance_is_good(&saved->instances[i], saved->header.npools))
			return "It has an instance that cannot be.";
	return NULL;
}

/* The file's contents, in one piece.  NULL, or what is wrong with it. */
static const char *
read_contents(FILE *file, Saved *saved)
{
	struct stat info;
	const char *wrong;
	char *contents;
	Size size;

	if (fread(&saved->header, sizeof(SavedHeader), 1, file) != 1 || fstat(fileno(file), &info) != 0)
		return cut_off;
	wrong = check_header(&saved->header, info.st_size);
	if (wrong != NULL)
		return wrong;
	size = info.st_size - sizeof(SavedHeader);
	contents = palloc_extended(size + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (contents == NULL)
		return "There is no memory for it.";
	if (fread(contents, 1, size, file) != size)
		return cut_off;
	saved->pools = (SavedPool *) contents;
	saved->instances =
		(SavedInstance *) (contents + (Size) saved->header.npools * sizeof(SavedPool));
	return check_contents(saved);
}

/* They are all gone: the first in the file the most recently. */
static void
load_pool(const SavedPool *saved, int i)
{
	PoolSlot *pool = &registry->pools[i];
	PoolRecord *record = &registry->records[i];

	pool->role = saved->role;
	pool->database = saved->database;
	strlcpy(pool->name, saved->name, NAME_LEN);
	strlcpy(pool->role_name, saved->role_name, NAMEDATALEN);
	strlcpy(pool->database_name, saved->database_name, NAMEDATALEN);
	record->known = true;
	record->since = saved->since;
	record->gone = pgpm_now() - i;
	record->totals = record->sampled = saved->totals;
	registry->pool_hashes[i] =
		registry_pool_hash(pool->name, pool->role, pool->database, BY_CLIENT);
}

static void
load_instance(const SavedInstance *saved, int i)
{
	InstanceSlot *instance = &registry->instances[i];
	Ghost *ghost = &registry->ghosts[i];

	instance->has_id = true;
	instance->pool = saved->pool;
	strlcpy(instance->id, saved->id, NAME_LEN);
	instance->report.counted = saved->counted;
	ghost->hash = registry_instance_hash(saved->id, saved->pool);
	ghost->pool = saved->pool;
	ghost->gone = pgpm_now() - i;
}

static void
load(const Saved *saved)
{
	uint32 npools = Min(saved->header.npools, (uint32) pgpm_max_pools);
	int n = 0;

	for (uint32 i = 0; i < npools; i++)
		load_pool(&saved->pools[i], i);
	for (uint32 i = 0; i < saved->header.ninstances && n < pgpm_max_instances; i++)
		if (saved->instances[i].pool < npools)
			load_instance(&saved->instances[i], n++);
}

void
saved_load(void)
{
	FILE *file = AllocateFile(SAVED_FILE, PG_BINARY_R);
	Saved saved = { 0 };
	const char *wrong;

	if (file == NULL && errno == ENOENT)
		return;
	wrong = file != NULL ? read_contents(file, &saved) : "It cannot be opened.";
	if (file != NULL)
		FreeFile(file);
	if (wrong == NULL && pgpm_save)
		load(&saved);
	else if (wrong != NULL)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("pgpool_monitor ignores its saved counters in file \"%s\"", SAVED_FILE),
				 errdetail_internal("%s", wrong)));
	if (saved.pools != NULL)
		pfree(saved.pools);
	/* what happens from now on is in no file until the next shutdown in order */
	if (unlink(SAVED_FILE) != 0)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not remove file \"%s\": %m", SAVED_FILE)));
}
