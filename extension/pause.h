/*-------------------------------------------------------------------------
 *
 * pause.h
 *	  Pauses: pools that are told to lend nothing until further notice.
 *
 * Actors
 *	An administrator pauses and resumes by SQL functions (view_pause.c).  Sessions that attach a
 *	new pool ask whether it is covered.  The worker, and every session that
 *	applies a report, ends what has expired, so that an expiry needs no worker.
 *
 * Life of a pause
 *	It is written to a file, and then put into the table and told to the instances of all
 *	pools that it covers (grant.c: a pause is part of a publication).  It belongs to no
 *	session, lease or instance, and ends when it is resumed or has expired.  The postmaster
 *	reads the file whenever it makes shared memory.
 *
 * Which pools it covers
 *	Pool, role and database are one exact value each, or any.  A pool is paused as
 *	long as any pause covers it, and only instances that follow are told.
 *
 * Locks
 *	Writers are serialized by a heavyweight lock, since a write to the disk is waited for
 *	under it, and an error or a cancelled command must release it.  The table itself is
 *	protected by registry->lock like the registry's own: exclusive to install what was
 *	written and to end what has expired, shared to copy.  What expires leaves the table
 *	without the writers' lock: a writer that copied it before puts it back for a moment, and
 *	the same look ends it again.
 *
 * Accepted
 *	Expiry is by the wall clock, as it was shown to whoever set it.
 *	If the file has been replaced but its directory cannot be synced, the
 *	caller gets an error, and after a restart the pause may be as he wanted it, or not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_PAUSE_H
#define PGPM_PAUSE_H

#include "datatype/timestamp.h"

#include "registry.h"

#define PAUSES_MAX 64
#define PAUSE_FILE "pg_stat/pgpool_monitor.pauses"

/* What it covers; "" and InvalidOid: any. */
typedef struct PauseKey
{
	char pool[NAME_LEN];
	Oid role;
	Oid database;
} PauseKey;

/* Also a record of the file. */
typedef struct Pause
{
	PauseKey key;
	Oid by; /* session user who ordered it */
	TimestampTz since;
	TimestampTz expires; /* 0: never */
} Pause;

/* The pauses in force, copied. */
typedef struct PauseList
{
	int n;
	Pause pauses[PAUSES_MAX];
} PauseList;

extern void pause_install_hooks(void);

extern bool pause_covers(const PauseKey *key, const PoolSlot *pool);

extern bool pause_is_over(const Pause *pause, TimestampTz now);

/*---- an administrator's side; these may raise errors ----*/

/* Keep other writers out until pause_unlock, or the end of the transaction. */
extern void pause_lock(void);
extern void pause_unlock(void);

/* Those in force now; takes registry->lock. */
extern void pause_copy(PauseList *list);

/*
 * Make these the pauses: on the disk first, then for everybody.  The number of instances
 * that `key`, if not NULL, keeps paused.
 */
extern int pause_replace(const PauseList *list, const PauseKey *key);

/*---- the registry's side: under registry->lock, exclusively ----*/

/* A pool has been added. */
extern void pause_meet_pool(int pool);

/* Is this pool paused? */
extern bool pause_holds(int pool);

/* End what has expired. */
extern void pause_expire(void);

#endif /* PGPM_PAUSE_H */
