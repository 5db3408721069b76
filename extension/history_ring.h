/*-------------------------------------------------------------------------
 *
 * history_ring.h
 *	  Samples of the past in a fixed piece of memory: oldest rounds give way.
 *
 * Pure: knows neither PostgreSQL nor the registry, allocates nothing, holds no
 * pointers, so that a copy of the memory is a ring too, and takes no lock: the
 * caller's keeps writers and readers apart.
 *
 * Layout
 *	The ring's head; a dictionary of pools; an array of records, used in a
 *	circle.  A round is a record that heads it and one record for each pool.
 *	Records are all alike in size, so that a round may go on at the start of
 *	the array, and evicting one is moving a number.
 *
 * Names
 *	A pool's names are in the dictionary once, for as long as a sample
 *	refers to them.  If it is full, the oldest rounds are evicted until an
 *	entry is free: a client that invents names all day shortens history, and
 *	does nothing else.
 *
 * Figures
 *	A record is 56 bytes, so that 24 hours of 100 pools, a sample a minute,
 *	are 8.14 MB, and fit into the default size with the dictionary.  For that some figures
 *	are kept in 16 bits (11 of them mantissa): exact up to 4095, then to one part in 4096.
 *	These are counts that are seldom large, and times in microseconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_HISTORY_RING_H
#define PGPM_HISTORY_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_NAME_LEN 64
#define HISTORY_RECORD_BYTES 56
#define HISTORY_UNKNOWN (-1) /* of any figure */

/* Whose sample it is. */
typedef struct HistoryPool
{
	uint32_t role;
	uint32_t database;
	char name[HISTORY_NAME_LEN];
	char role_name[HISTORY_NAME_LEN];
	char database_name[HISTORY_NAME_LEN];
} HistoryPool;

/* One pool in one round. */
typedef struct HistorySample
{
	/* at the time of the sample */
	int32_t instances;
	int32_t sessions;
	int32_t busy; /* of these, running a command or in a transaction */

	/* as last reported; HISTORY_UNKNOWN if no instance reports */
	int32_t in_use;
	int32_t idle;
	int32_t waiting;
	int32_t demand;
	int32_t leaks;
	int32_t allotted; /* HISTORY_UNKNOWN: no limit */
	int32_t max_size; /* the instances' own limits; HISTORY_UNKNOWN: not known of all */

	/* since the sample before; all are HISTORY_UNKNOWN if acquires is */
	int64_t acquires;
	int64_t timeouts;
	int64_t open_failures;
	int64_t holds;		 /* loans that ended */
	double wait_mean_ms; /* this and the next two: HISTORY_UNKNOWN if there was no acquire */
	double wait_p50_ms;
	double wait_p99_ms;
	double hold_mean_ms;   /* this and the next: HISTORY_UNKNOWN if no loan ended */
	double hold_variation; /* squared coefficient of variation: variance by square of the mean */
} HistorySample;

typedef struct HistoryRound
{
	int64_t at;		  /* the caller's clock */
	int64_t duration; /* since the round before, microseconds; 0: there was none */
	int samples;
	int omitted; /* samples that there was no room for */
} HistoryRound;

typedef struct HistoryRing HistoryRing;

/*
 * Lay out an empty ring in `size` bytes at `memory`, which is aligned as by
 * malloc; max_pools is the most that a round will usually have.  NULL if not
 * even one sample fits (1 kB is always enough).
 */
extern HistoryRing *history_ring_init(void *memory, size_t size, int max_pools);

/* Bytes that a copy needs, at most the size that the ring was made with. */
extern size_t history_ring_bytes(const HistoryRing *ring);

/* Copies what is in use; `to` has history_ring_bytes(from). */
extern HistoryRing *history_ring_copy(void *to, const HistoryRing *from);

/*
 * Append a round of n samples, samples[i] being of pools[i]; no pool comes twice.
 * Oldest rounds are evicted as far as needed.  What does not fit even then is left
 * out, the last ones first, and counted.  A round of no samples is not kept.
 */
extern void history_ring_append(HistoryRing *ring, int64_t at, int64_t duration,
								const HistoryPool *pools, const HistorySample *samples, int n);

extern int history_ring_rounds(const HistoryRing *ring);

/* How many different pools the dictionary has room for. */
extern int history_ring_names(const HistoryRing *ring);

/*---- reading, from the oldest to the newest ----*/

typedef struct HistoryCursor
{
	uint64_t next; /* record */
	int left;	   /* samples of this round */
	HistoryRound round;
} HistoryCursor;

extern void history_ring_start(const HistoryRing *ring, HistoryCursor *cursor);

/*
 * The next sample; cursor->round is its round.  Returns the number of its pool, below
 * history_ring_names(), the same for the same pool as long as the ring does not
 * change; -1 at the end.
 */
extern int history_ring_next(const HistoryRing *ring, HistoryCursor *cursor, HistorySample *sample);

extern const HistoryPool *history_ring_pool(const HistoryRing *ring, int number);

#endif /* PGPM_HISTORY_RING_H */
