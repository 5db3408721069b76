/*-------------------------------------------------------------------------
 *
 * history.h
 *	  What the figures of pools were: samples in shared memory.
 *
 * Actors
 *	The worker samples all pools every history_interval, in one of its rounds.  Views
 *	copy the ring and read the copy.
 *
 * Locks
 *	A lock of its own, in a tranche of its own (pgpool_monitor_history): exclusive to
 *	append a round, shared to copy.  It is never held together with
 *	registry->lock: the worker copies the registry first, and appends then.
 *	A reader holds it for as long as it takes to copy what the ring holds (a memcpy of it),
 *	for which only the worker waits.
 *
 * Life
 *	The ring is made empty with the shared memory, and lives as long: it outlives the
 *	worker, not a restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_HISTORY_H
#define PGPM_HISTORY_H

#include "history_ring.h"

extern int pgpm_history_size;	  /* kB; 0: none is kept */
extern int pgpm_history_interval; /* ms */
extern int pgpm_advice_wait;	  /* ms */

extern void history_define_settings(void);
extern void history_install_hooks(void);

/* The worker's: sample if it is time to.  `now` is pgpm_now(). */
extern void history_round(int64 now);

/* A copy, in the current memory context, or NULL if none is kept. */
extern HistoryRing *history_copy(void);

#endif /* PGPM_HISTORY_H */
