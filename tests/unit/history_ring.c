/*-------------------------------------------------------------------------
 *
 * history_ring.c
 *	  The ring against a list that forgets nothing: what it still has is what was appended
 *	  last, whole rounds of it, each figure within its precision, each under its own name.
 *
 * sources: extension/history_ring.c
 * flags: -O2
 *
 *-------------------------------------------------------------------------
 */
#include "history_ring.h"

#include <limits.h>
#include <math.h>

#include "draw.h"
#include "tap.h"

#define MAX_ROUNDS 4000
#define MAX_POOLS 10001

static HistoryPool pools[MAX_POOLS];
static HistorySample samples[MAX_POOLS];

static HistoryPool
pool_named(int number)
{
	HistoryPool pool = { .role = (uint32_t) number % 7, .database = (uint32_t) number % 3 };

	snprintf(pool.name, sizeof(pool.name), "pool %d", number);
	snprintf(pool.role_name, sizeof(pool.role_name), "role of %d", number);
	snprintf(pool.database_name, sizeof(pool.database_name), "database of %d", number);
	return pool;
}

/* Told by its figures: of this pool, in this round. */
static HistorySample
sample_of(int round, int number)
{
	return (HistorySample){ .instances = 1,
							.sessions = number,
							.in_use = round,
							.allotted = HISTORY_UNKNOWN,
							.max_size = number ^ round,
							.acquires = number + round,
							.wait_mean_ms = 1.5,
							.wait_p50_ms = HISTORY_UNKNOWN,
							.wait_p99_ms = 2.25,
							.hold_mean_ms = 0.125,
							.hold_variation = 1.25 };
}

static void
append(HistoryRing *ring, int round, int first, int n)
{
	for (int i = 0; i < n; i++)
	{
		pools[i] = pool_named(first + i);
		samples[i] = sample_of(round, first + i);
	}
	history_ring_append(ring, round, round > 0 ? 1000 : 0, pools, samples, n);
}

static bool
same_sample(const HistorySample *a, const HistorySample *b)
{
	return a->instances == b->instances && a->sessions == b->sessions && a->busy == b->busy &&
		   a->in_use == b->in_use && a->idle == b->idle && a->waiting == b->waiting &&
		   a->demand == b->demand && a->leaks == b->leaks && a->allotted == b->allotted &&
		   a->max_size == b->max_size && a->acquires == b->acquires && a->timeouts == b->timeouts &&
		   a->open_failures == b->open_failures && a->holds == b->holds &&
		   a->wait_mean_ms == b->wait_mean_ms && a->wait_p50_ms == b->wait_p50_ms &&
		   a->wait_p99_ms == b->wait_p99_ms && a->hold_mean_ms == b->hold_mean_ms &&
		   a->hold_variation == b->hold_variation;
}

/* What append() did, to be compared with. */
typedef struct Round
{
	int first;
	int n;
} Round;

static Round done[MAX_ROUNDS];

/*
 * Everything in the ring is of the last rounds, without a gap, up to the newest; returns how
 * many rounds that are, or -1.
 */
static int
check(const HistoryRing *ring, int newest)
{
	HistoryCursor cursor;
	HistorySample sample;
	int pool;
	int round = -1;
	int seen = 0;
	int rounds = 0;

	history_ring_start(ring, &cursor);
	while ((pool = history_ring_next(ring, &cursor, &sample)) >= 0)
	{
		HistoryPool expected_pool;
		HistorySample expected;

		if (seen == 0)
		{
			if (round >= 0 && cursor.round.at != round + 1)
				return -1;
			round = (int) cursor.round.at;
			rounds++;
		}
		if (round >= MAX_ROUNDS || cursor.round.samples + cursor.round.omitted != done[round].n)
			return -1;
		expected = sample_of(round, done[round].first + seen);
		expected_pool = pool_named(done[round].first + seen);
		if (cursor.round.at != round || cursor.round.duration != (round > 0 ? 1000 : 0) ||
			!same_sample(&sample, &expected) || pool >= history_ring_names(ring) ||
			memcmp(history_ring_pool(ring, pool), &expected_pool, sizeof(HistoryPool)) != 0)
			return -1;
		seen = seen + 1 < cursor.round.samples ? seen + 1 : 0;
	}
	if (seen != 0 || (rounds > 0 && round != newest) || rounds != history_ring_rounds(ring))
		return -1;
	return rounds;
}

/*---- wrapping around ----*/

static void
test_wrap_around(size_t size, int max_pools, int npools, int rounds, bool moving)
{
	void *memory = malloc(size);
	void *other = malloc(size);
	HistoryRing *ring = history_ring_init(memory, size, max_pools);
	int wrong = 0;
	int kept = 0;

	for (int round = 0; round < rounds; round++)
	{
		done[round].n = npools > 1 && moving ? 1 + (int) draw((unsigned) npools) : npools;
		done[round].first = moving ? (int) draw(1000) : 0;
		append(ring, round, done[round].first, done[round].n);
		kept = check(ring, round);
		wrong += kept < 1;
		if (round % 16 == 0)
		{
			memset(other, 0xee, size);
			wrong += check(history_ring_copy(other, ring), round) != kept;
		}
	}
	is_int(wrong, 0, "%zu kB, %s%d pools, %d rounds: the last %d are there", size / 1024,
		   moving ? "up to " : "", npools, rounds, kept);
	ok(kept < rounds, "and earlier ones are not");
	ok(history_ring_bytes(ring) <= size, "it has kept to its memory");
	free(memory);
	free(other);
}

/*
 * Whatever is left over when rounds of eight records fill the array: nothing, one record,
 * ..., seven.
 */
static void
test_every_remainder(void)
{
	int wrong = 0;

	for (size_t size = 8192; size < 8192 + 8 * HISTORY_RECORD_BYTES; size += HISTORY_RECORD_BYTES)
	{
		void *memory = malloc(size);
		HistoryRing *ring = history_ring_init(memory, size, 4);

		for (int round = 0; round < 200; round++)
		{
			done[round] = (Round){ 0, 7 };
			append(ring, round, 0, 7);
			wrong += check(ring, round) < 1;
		}
		free(memory);
	}
	is_int(wrong, 0, "whatever is left over at the end of the array");
}

/*---- sizes ----*/

/* What README promises: a day of 100 pools, a sample a minute, in 8 MB. */
static void
test_a_day(void)
{
	size_t size = (size_t) 8192 * 1024;
	void *memory = malloc(size);
	HistoryRing *ring = history_ring_init(memory, size, 256);

	for (int round = 0; round < 2000; round++)
	{
		done[round] = (Round){ 0, 100 };
		append(ring, round, 0, 100);
	}
	ok(check(ring, 1999) >= 24 * 60, "8 MB: %d samples of 100 pools, a day has 1440 minutes",
	   history_ring_rounds(ring));
	free(memory);
}

/* The copy may be read while rounds are appended to the original. */
static void
test_copy_stands_alone(void)
{
	size_t size = (size_t) 32 * 1024;
	void *memory = malloc(size);
	HistoryRing *ring = history_ring_init(memory, size, 10);
	void *other = malloc(history_ring_bytes(ring));
	int kept;

	for (int round = 0; round < 500; round++)
	{
		done[round] = (Round){ round % 5, 10 };
		append(ring, round, round % 5, 10);
	}
	history_ring_copy(other, ring);
	kept = check(ring, 499);
	memset(memory, 0xee, size);
	ok(kept > 1 && check(other, 499) == kept, "a copy stands alone");
	free(memory);
	free(other);
}

static void
test_larger_than_the_ring(void)
{
	size_t size = 8192;
	void *memory = malloc(size);
	HistoryRing *ring = history_ring_init(memory, size, 10000);
	HistoryCursor cursor;
	HistorySample sample;
	int n = 0;
	int kept;

	done[0] = (Round){ 0, 3 };
	append(ring, 0, 0, 3);
	done[1] = (Round){ 5000, 10000 };
	append(ring, 1, 0, 3);
	append(ring, 1, 5000, 5000);
	done[1].n = 5000;
	history_ring_start(ring, &cursor);
	while (history_ring_next(ring, &cursor, &sample) >= 0)
		n++;
	is_int(history_ring_rounds(ring), 1, "a round larger than the ring is all that stays");
	ok(n > 0 && n == cursor.round.samples && cursor.round.omitted == 5000 - n,
	   "as much of it as there is room for (%d), and the rest is counted", n);
	is_int(check(ring, 1), 1, "and is right");
	done[2] = (Round){ 0, 2 };
	append(ring, 2, 0, 2);
	kept = check(ring, 2);
	ok(kept == 1, "the next one evicts it, if need be");
	free(memory);
}

/* Records are there, and names are what is short. */
static void
test_names_run_out(void)
{
	size_t size = (size_t) 64 * 1024;
	void *memory = malloc(size);
	HistoryRing *ring = history_ring_init(memory, size, 2); /* 4 names */
	int wrong = 0;

	is_int(history_ring_names(ring), 4, "room for four names");
	for (int round = 0; round < 200; round++)
	{
		done[round] = (Round){ round, 1 };
		append(ring, round, round, 1);
		wrong += check(ring, round) != (round < 4 ? round + 1 : 4);
	}
	is_int(wrong, 0, "who comes under ever new names shortens history, to four rounds");
	done[200] = (Round){ 0, 6 };
	append(ring, 200, 0, 6);
	is_int(check(ring, 200), 1, "a round of six names");
	for (int round = 201; round < 205; round++)
	{
		done[round] = (Round){ 0, 6 };
		append(ring, round, 0, 6);
	}
	is_int(check(ring, 204), 5, "more of the same names: none is evicted for two that never fit");
	done[205] = (Round){ 0, 2 };
	append(ring, 205, 0, 2);
	is_int(check(ring, 205), 6, "and a round of two of them");
	free(memory);
}

static void
test_tiny(void)
{
	char memory[1024] __attribute__((aligned(8)));
	char guarded[512] __attribute__((aligned(8)));
	int accepted = 0;
	HistoryRing *ring = history_ring_init(memory, sizeof(memory), 256);
	HistoryCursor cursor;
	HistorySample sample;

	ok(ring != NULL, "1 kB is enough");
	history_ring_start(ring, &cursor);
	is_int(history_ring_next(ring, &cursor, &sample), -1, "empty at first");
	history_ring_append(ring, 1, 0, pools, samples, 0);
	is_int(history_ring_rounds(ring), 0, "a round of nobody is not kept");
	done[0] = (Round){ 0, 1 };
	append(ring, 0, 0, 1);
	is_int(check(ring, 0), 1, "and one of somebody is");
	for (size_t size = 0; size <= sizeof(guarded); size++)
		accepted += history_ring_init(guarded, size, 256) != NULL;
	is_int(accepted, 0, "less than that is not");
}

/*---- figures ----*/

static HistorySample
through(const HistorySample *sample)
{
	static char memory[4096] __attribute__((aligned(8)));
	HistoryRing *ring = history_ring_init(memory, sizeof(memory), 1);
	HistoryPool pool = pool_named(1);
	HistoryCursor cursor;
	HistorySample read;

	history_ring_append(ring, 1, 1, &pool, sample, 1);
	history_ring_start(ring, &cursor);
	memset(&read, 0xee, sizeof(read));
	history_ring_next(ring, &cursor, &read);
	return read;
}

static void
test_precision(void)
{
	HistorySample sample = { 0 };
	int wrong = 0;
	double worst = 0;

	for (int i = 0; i < 4096; i++)
	{
		sample.timeouts = i;
		wrong += through(&sample).timeouts != i;
	}
	is_int(wrong, 0, "counts up to 4095 are exact");
	for (int i = 0; i < 100000; i++)
	{
		sample.timeouts = (int64_t) (draw64() >> (23 + draw(40)));
		worst = fmax(worst, fabs((double) (through(&sample).timeouts - sample.timeouts)) /
								fmax(1.0, (double) sample.timeouts));
	}
	ok(worst > 0 && worst <= 1.0 / 4096 + 1e-9, "larger ones to one part in 4096 (%.6f)", worst);
	sample.wait_mean_ms = 0.001;
	ok(through(&sample).wait_mean_ms == 0.001, "a microsecond");
	sample.wait_mean_ms = 86400e3;
	ok(fabs(through(&sample).wait_mean_ms - 86400e3) < 86400e3 / 8000, "a day");
	sample.wait_mean_ms = 1e30;
	ok(through(&sample).wait_mean_ms > 4e9, "for ever is the largest there is");
	sample.wait_mean_ms = NAN;
	ok(through(&sample).wait_mean_ms == HISTORY_UNKNOWN, "no number is not known");
}

static void
test_unknown_and_extreme(void)
{
	HistorySample none = { .in_use = -1,
						   .idle = -1,
						   .waiting = -1,
						   .demand = -1,
						   .leaks = -1,
						   .allotted = -1,
						   .max_size = -1,
						   .acquires = -1,
						   .timeouts = -1,
						   .open_failures = -1,
						   .holds = -1,
						   .wait_mean_ms = -1,
						   .wait_p50_ms = -1,
						   .wait_p99_ms = -1,
						   .hold_mean_ms = -1,
						   .hold_variation = -1 };
	HistorySample most = { .instances = 4095,
						   .sessions = INT_MAX,
						   .in_use = INT_MAX,
						   .leaks = INT_MAX,
						   .acquires = INT64_MAX,
						   .timeouts = INT64_MAX };
	HistorySample read = through(&none);

	ok(same_sample(&none, &read), "what is not known is not known");
	read = through(&most);
	is_int(read.sessions, INT_MAX, "the largest count");
	is_int(read.acquires, INT64_C(4294967294), "more acquires than fit are the most that fit");
	ok(read.leaks > 2000000000 && read.timeouts > INT64_C(4000000000000), "and so are others");
}

int
main(void)
{
	test_wrap_around(8192, 1, 1, 4000, false);
	test_wrap_around(65536, 20, 20, 1000, false);
	test_wrap_around(65536, 20, 20, 1000, true);
	test_wrap_around(100000, 37, 37, 1000, true);
	test_wrap_around(8 << 20, 10000, 10000, 60, false);
	test_wrap_around(8 << 20, 10000, 10000, 60, true);
	test_every_remainder();
	test_a_day();
	test_copy_stands_alone();
	test_larger_than_the_ring();
	test_names_run_out();
	test_tiny();
	test_precision();
	test_unknown_and_extreme();
	return done_testing();
}
