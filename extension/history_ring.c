/*-------------------------------------------------------------------------
 *
 * history_ring.c
 *	  Samples of the past in a fixed piece of memory.
 *
 * history_ring.h has the layout.  Records are numbered from the first ever
 * written; number i is at i modulo the array's length.  Invariants: first <=
 * next <= first + records; the record `first`, if below `next`, heads a round;
 * an entry's refs is the number of samples in [first, next) that name it.
 * A round counts from the moment that `next` moves past it, which is
 * the last thing that append does.
 *
 *-------------------------------------------------------------------------
 */
#include "history_ring.h"

#include <math.h>
#include <string.h>

#define NAMES_SHARE 4	 /* at most this part of the memory is the dictionary */
#define NAMES_PER_POOL 2 /* pools come and go while their samples stay */
#define MAX_NAMES 65535

#define NO_ENTRY UINT32_MAX
#define NO_COUNTERS UINT32_MAX
#define NO_SMALL UINT16_MAX
#define MAX_SMALL (NO_SMALL - 1)

typedef struct Entry
{
	uint32_t refs;
	uint32_t next; /* in its bucket, or among the free */
	HistoryPool pool;
} Entry;

typedef uint16_t Small; /* see small() */

typedef struct Record
{
	union
	{
		struct
		{
			int64_t at;
			int64_t duration;
			uint32_t samples;
			uint32_t omitted;
		} head;
		struct
		{
			int32_t sessions;
			int32_t in_use;
			int32_t idle;
			int32_t waiting;
			int32_t demand;
			int32_t allotted;
			int32_t max_size;
			uint32_t acquires; /* NO_COUNTERS: none of what is since the sample before is known */
			uint16_t pool;
			Small instances;
			Small busy;
			Small leaks;
			Small timeouts;
			Small open_failures;
			Small holds;
			Small wait_mean; /* microseconds, as the next three */
			Small wait_p50;
			Small wait_p99;
			Small hold_mean;
			Small hold_variation; /* in parts of 256 */
		} sample;
	} of;
} Record;

_Static_assert(sizeof(Record) == HISTORY_RECORD_BYTES,
			   "the size that the default settings count on");

struct HistoryRing
{
	uint64_t first;
	uint64_t next;
	uint32_t records; /* in the array */
	uint32_t names;
	uint32_t rounds;
	uint32_t free; /* entry, or NO_ENTRY */
};

/*---- where things are ----*/

static size_t
aligned(size_t size)
{
	return (size + 7) & ~(size_t) 7;
}

static size_t
buckets_at(void)
{
	return aligned(sizeof(HistoryRing));
}

static size_t
entries_at(uint32_t names)
{
	return buckets_at() + aligned(names * sizeof(uint32_t));
}

static size_t
records_at(uint32_t names)
{
	return entries_at(names) + aligned(names * sizeof(Entry));
}

static uint32_t *
buckets(HistoryRing *ring)
{
	return (uint32_t *) ((char *) ring + buckets_at());
}

static const Entry *
entries(const HistoryRing *ring)
{
	return (const Entry *) ((const char *) ring + entries_at(ring->names));
}

static Entry *
entry(HistoryRing *ring, uint32_t i)
{
	return (Entry *) ((char *) ring + entries_at(ring->names)) + i;
}

static const Record *
records(const HistoryRing *ring)
{
	return (const Record *) ((const char *) ring + records_at(ring->names));
}

static Record *
record(HistoryRing *ring, uint64_t number)
{
	return (Record *) ((char *) ring + records_at(ring->names)) + number % ring->records;
}

HistoryRing *
history_ring_init(void *memory, size_t size, int max_pools)
{
	HistoryRing *ring = memory;
	size_t names = size / NAMES_SHARE / (sizeof(Entry) + sizeof(uint32_t));
	size_t wanted = (size_t) max_pools * NAMES_PER_POOL;
	size_t count;

	names = names < wanted ? names : wanted;
	names = names < MAX_NAMES ? names : MAX_NAMES;
	if (names < 1 || size < records_at((uint32_t) names) + 2 * sizeof(Record))
		return NULL;
	count = (size - records_at((uint32_t) names)) / sizeof(Record);
	ring->first = ring->next = 0;
	ring->records = (uint32_t) (count < UINT32_MAX ? count : UINT32_MAX);
	ring->names = (uint32_t) names;
	ring->rounds = 0;
	ring->free = 0;
	for (uint32_t i = 0; i < ring->names; i++)
	{
		buckets(ring)[i] = NO_ENTRY;
		entry(ring, i)->refs = 0;
		entry(ring, i)->next = i + 1 < ring->names ? i + 1 : NO_ENTRY;
	}
	return ring;
}

size_t
history_ring_bytes(const HistoryRing *ring)
{
	return records_at(ring->names) + (size_t) ring->records * sizeof(Record);
}

HistoryRing *
history_ring_copy(void *to, const HistoryRing *from)
{
	HistoryRing *ring = to;
	uint64_t start = from->first % from->records;
	uint64_t used = from->next - from->first;
	uint64_t upper = used < from->records - start ? used : from->records - start;

	memcpy(to, from, records_at(from->names));
	memcpy(record(ring, start), records(from) + start, upper * sizeof(Record));
	memcpy(record(ring, 0), records(from), (used - upper) * sizeof(Record));
	return ring;
}

int
history_ring_rounds(const HistoryRing *ring)
{
	return (int) ring->rounds;
}

int
history_ring_names(const HistoryRing *ring)
{
	return (int) ring->names;
}

/*---- figures in 16 bits: 5 of exponent, 11 of mantissa, the leading bit not written ----*/

static Small
small(double value)
{
	uint64_t whole;
	unsigned exponent = 0;

	if (!(value >= 0)) /* unknown, or no number */
		return NO_SMALL;
	if (value >= 4.0e12)
		return MAX_SMALL;
	whole = (uint64_t) (value + 0.5);
	while ((whole >> exponent) >= 4096)
		exponent++;
	if (exponent > 0)
	{
		/* to the nearest; which may be the next power of two */
		whole = (whole + (UINT64_C(1) << (exponent - 1))) >> exponent;
		if (whole == 4096)
		{
			whole = 2048;
			exponent++;
		}
	}
	else if (whole < 2048)
		return (Small) whole;
	return (Small) ((exponent + 1) << 11 | (whole - 2048));
}

static double
large(Small small)
{
	unsigned exponent = small >> 11;

	if (small == NO_SMALL)
		return HISTORY_UNKNOWN;
	if (exponent == 0)
		return small;
	return ldexp(2048 + (small & 2047), (int) exponent - 1);
}

static void
pack(Record *to, const HistorySample *from, uint32_t pool)
{
	bool counted = from->acquires >= 0;

	to->of.sample.sessions = from->sessions;
	to->of.sample.in_use = from->in_use;
	to->of.sample.idle = from->idle;
	to->of.sample.waiting = from->waiting;
	to->of.sample.demand = from->demand;
	to->of.sample.allotted = from->allotted;
	to->of.sample.max_size = from->max_size;
	to->of.sample.acquires = !counted						? NO_COUNTERS
							 : from->acquires < NO_COUNTERS ? (uint32_t) from->acquires
															: NO_COUNTERS - 1;
	to->of.sample.pool = (uint16_t) pool;
	to->of.sample.instances = small(from->instances);
	to->of.sample.busy = small(from->busy);
	to->of.sample.leaks = small(from->leaks);
	to->of.sample.timeouts = small((double) from->timeouts);
	to->of.sample.open_failures = small((double) from->open_failures);
	to->of.sample.holds = small((double) from->holds);
	/* HISTORY_UNKNOWN in milliseconds is negative in microseconds */
	to->of.sample.wait_mean = small(from->wait_mean_ms * 1000.0);
	to->of.sample.wait_p50 = small(from->wait_p50_ms * 1000.0);
	to->of.sample.wait_p99 = small(from->wait_p99_ms * 1000.0);
	to->of.sample.hold_mean = small(from->hold_mean_ms * 1000.0);
	to->of.sample.hold_variation = small(from->hold_variation * 256.0);
}

static double
small_ms(Small us)
{
	return us == NO_SMALL ? HISTORY_UNKNOWN : large(us) / 1000.0;
}

static void
unpack(HistorySample *to, const Record *from)
{
	bool counted = from->of.sample.acquires != NO_COUNTERS;

	to->instances = (int32_t) large(from->of.sample.instances);
	to->sessions = from->of.sample.sessions;
	to->busy = (int32_t) large(from->of.sample.busy);
	to->in_use = from->of.sample.in_use;
	to->idle = from->of.sample.idle;
	to->waiting = from->of.sample.waiting;
	to->demand = from->of.sample.demand;
	to->leaks = (int32_t) fmin(large(from->of.sample.leaks), INT32_MAX);
	to->allotted = from->of.sample.allotted;
	to->max_size = from->of.sample.max_size;
	to->acquires = counted ? (int64_t) from->of.sample.acquires : HISTORY_UNKNOWN;
	to->timeouts = counted ? (int64_t) large(from->of.sample.timeouts) : HISTORY_UNKNOWN;
	to->open_failures = counted ? (int64_t) large(from->of.sample.open_failures) : HISTORY_UNKNOWN;
	to->holds = counted ? (int64_t) large(from->of.sample.holds) : HISTORY_UNKNOWN;
	to->wait_mean_ms = small_ms(from->of.sample.wait_mean);
	to->wait_p50_ms = small_ms(from->of.sample.wait_p50);
	to->wait_p99_ms = small_ms(from->of.sample.wait_p99);
	to->hold_mean_ms = small_ms(from->of.sample.hold_mean);
	to->hold_variation = from->of.sample.hold_variation == NO_SMALL
							 ? HISTORY_UNKNOWN
							 : large(from->of.sample.hold_variation) / 256.0;
}

/*---- the dictionary ----*/

/* FNV-1a (Fowler, Noll and Vo), over the key. */
static uint32_t
hash_of(const HistoryPool *pool)
{
	uint64_t hash = UINT64_C(14695981039346656037);
	uint64_t oids = (uint64_t) pool->role << 32 | pool->database;

	for (; oids != 0; oids >>= 8)
		hash = (hash ^ (oids & 0xff)) * UINT64_C(1099511628211);
	for (const char *p = pool->name; *p != '\0'; p++)
		hash = (hash ^ (unsigned char) *p) * UINT64_C(1099511628211);
	return (uint32_t) (hash ^ (hash >> 32));
}

static bool
same_pool(const HistoryPool *a, const HistoryPool *b)
{
	return a->role == b->role && a->database == b->database && strcmp(a->name, b->name) == 0;
}

static uint32_t
find_entry(HistoryRing *ring, const HistoryPool *pool, uint32_t bucket)
{
	uint32_t i = buckets(ring)[bucket];

	while (i != NO_ENTRY && !same_pool(&entry(ring, i)->pool, pool))
		i = entry(ring, i)->next;
	return i;
}

static void
free_entry(HistoryRing *ring, uint32_t i)
{
	uint32_t *link = &buckets(ring)[hash_of(&entry(ring, i)->pool) % ring->names];

	while (*link != i)
		link = &entry(ring, *link)->next;
	*link = entry(ring, i)->next;
	entry(ring, i)->next = ring->free;
	ring->free = i;
}

static void
evict_round(HistoryRing *ring)
{
	uint32_t samples = record(ring, ring->first)->of.head.samples;

	for (uint32_t k = 1; k <= samples; k++)
	{
		uint32_t i = record(ring, ring->first + k)->of.sample.pool;

		if (--entry(ring, i)->refs == 0)
			free_entry(ring, i);
	}
	ring->first += 1 + samples;
	ring->rounds--;
}

/*
 * The pool's entry, with one more reference, or NO_ENTRY: this round, of which
 * `written` samples are there, has more pools than there is room for, and evicting
 * others would free nothing.
 */
static uint32_t
intern(HistoryRing *ring, const HistoryPool *pool, uint32_t written)
{
	uint32_t bucket = hash_of(pool) % ring->names;
	uint32_t i = find_entry(ring, pool, bucket);

	if (i == NO_ENTRY)
	{
		while (ring->free == NO_ENTRY && ring->rounds > 0 && written < ring->names)
			evict_round(ring);
		i = ring->free;
		if (i == NO_ENTRY)
			return NO_ENTRY;
		ring->free = entry(ring, i)->next;
		entry(ring, i)->pool = *pool;
		entry(ring, i)->refs = 0;
		entry(ring, i)->next = buckets(ring)[bucket];
		buckets(ring)[bucket] = i;
	}
	entry(ring, i)->refs++;
	return i;
}

/*---- writing ----*/

void
history_ring_append(HistoryRing *ring, int64_t at, int64_t duration, const HistoryPool *pools,
					const HistorySample *samples, int n)
{
	uint32_t fit = (uint32_t) n < ring->records ? (uint32_t) n : ring->records - 1;
	uint32_t written = 0;
	Record *head = record(ring, ring->next);

	if (n <= 0)
		return;
	while (ring->rounds > 0 && ring->records - (ring->next - ring->first) < fit + 1)
		evict_round(ring);
	for (uint32_t k = 0; k < fit; k++)
	{
		uint32_t i = intern(ring, &pools[k], written);

		if (i != NO_ENTRY)
			pack(record(ring, ring->next + 1 + written++), &samples[k], i);
	}
	head->of.head.at = at;
	head->of.head.duration = duration;
	head->of.head.samples = written;
	head->of.head.omitted = (uint32_t) n - written;
	ring->next += 1 + written;
	ring->rounds++;
}

/*---- reading ----*/

void
history_ring_start(const HistoryRing *ring, HistoryCursor *cursor)
{
	memset(cursor, 0, sizeof(*cursor));
	cursor->next = ring->first;
}

int
history_ring_next(const HistoryRing *ring, HistoryCursor *cursor, HistorySample *sample)
{
	const Record *here;

	if (cursor->left == 0)
	{
		if (cursor->next >= ring->next)
			return -1;
		here = records(ring) + cursor->next++ % ring->records;
		cursor->round.at = here->of.head.at;
		cursor->round.duration = here->of.head.duration;
		cursor->round.samples = cursor->left = (int) here->of.head.samples;
		cursor->round.omitted = (int) here->of.head.omitted;
	}
	here = records(ring) + cursor->next++ % ring->records;
	cursor->left--;
	unpack(sample, here);
	return here->of.sample.pool;
}

const HistoryPool *
history_ring_pool(const HistoryRing *ring, int number)
{
	return &entries(ring)[number].pool;
}
