/*-------------------------------------------------------------------------
 *
 * harness.h
 *	  What the contenders in C have in common: threads that take from a pool
 *	  and give back, for a fixed time, and what is counted meanwhile.
 *
 * A contender is one source that includes this header and defines the five
 * functions below.  They are inlined into the loop that is measured, so a
 * contender that does nothing shows what the loop itself costs.
 *
 *		PROGRAM THREADS SIZE WORK TIMED [EXTRA]
 *
 * WORK is what a thread does with what it holds: "none", "nap" (a millisecond),
 * "one" (SELECT 1), "account" (a row of pgbench's by its key). TIMED is 1 where
 * every wait is timed, 0 where that would cost as much as what is measured.
 * The server is found by libpq's environment.
 *
 * Answers are lines: "ready" once the pool is filled (or "unavailable WHY"),
 * then one for each line "WARM_UP SECONDS" of standard input: key=value, times
 * in nanoseconds.  "error WHY" is always the last.
 *
 * A run: all threads meet at a barrier, then the main thread moves `phase`
 * through WARM_UP, MEASURED, OVER.  A thread counts for itself and begins anew
 * when it sees MEASURED; one that never comes to see it has done nothing.
 *
 * BENCH_ALSO_PID: a process whose CPU time is added to our own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

typedef enum Work
{
	WORK_NONE,
	WORK_NAP,
	WORK_ONE,
	WORK_ACCOUNT
} Work;

/*
 * The contender.  pool_open() leaves `size` connections open, and returns NULL,
 * or why this contender cannot be had here (a static string); `queries` is
 * false if nobody will look at what is held.  pool_acquire() waits until it has
 * something.
 */
static const char *pool_open(int threads, int size, bool queries, const char *extra);
static inline void *pool_acquire(int thread);
static inline void pool_release(int thread, void *held);
static inline bool pool_query(void *held, const char *sql);
static void pool_close(void);

#define ACCOUNTS 100000

/* The end of the program, which cannot measure. */
__attribute__((noreturn, format(printf, 1, 2))) static void
give_up(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("error ");
	vprintf(format, arguments);
	putchar('\n');
	va_end(arguments);
	fflush(stdout);
	_exit(1);
}

/*---- helpers for contenders that hold plain libpq connections ----*/

__attribute__((unused)) static PGconn *
connect_plainly(void)
{
	PGconn *conn = PQconnectdb("");

	if (PQstatus(conn) != CONNECTION_OK)
		give_up("%s", strtok(PQerrorMessage(conn), "\n"));
	return conn;
}

__attribute__((unused)) static inline bool
query_plainly(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);
	bool good = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

	PQclear(result);
	return good;
}

/*---- clocks ----*/

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* For waits: the cheapest clock there is, of a unit that a run finds out. */
static inline uint64_t
ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return clock_ns(CLOCK_MONOTONIC);
#endif
}

static uint64_t
cpu_ns(void)
{
	static clockid_t also_clock;
	static bool asked, also;
	struct rusage usage;
	uint64_t sum;

	if (!asked)
	{
		const char *pid = getenv("BENCH_ALSO_PID");

		also = pid != NULL && clock_getcpuclockid((pid_t) strtol(pid, NULL, 10), &also_clock) == 0;
		if (pid != NULL && !also)
			give_up("no process %s", pid);
		asked = true;
	}
	getrusage(RUSAGE_SELF, &usage);
	sum = (uint64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
		  (uint64_t) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
	return also ? sum + clock_ns(also_clock) : sum;
}

static void
sleep_ns(uint64_t ns)
{
	struct timespec ts = { (time_t) (ns / 1000000000), (long) (ns % 1000000000) };

	nanosleep(&ts, NULL);
}

/*---- histograms: 32 buckets for each power of two, so exact to 3 % ----*/

#define BUCKETS 1920

static inline int
bucket_of(uint64_t value)
{
	int shift;

	if (value < 32)
		return (int) value;
	shift = 58 - __builtin_clzll(value);
	return shift * 32 + (int) (value >> shift);
}

static uint64_t
bucket_start(int bucket)
{
	return bucket < 32 ? (uint64_t) bucket : (uint64_t) (32 + bucket % 32) << (bucket / 32 - 1);
}

/*---- a run ----*/

enum
{
	WARM_UP,
	MEASURED,
	OVER
};

typedef struct Thread
{
	pthread_t id;
	int number;
	uint64_t ops;
	uint64_t longest;
	uint64_t random;
	uint32_t waits[BUCKETS];
} __attribute__((aligned(128))) Thread;

static _Alignas(128) atomic_int phase;
static pthread_barrier_t barrier;
static Work work;
static bool timed;

static inline int
phase_now(void)
{
	return atomic_load_explicit(&phase, memory_order_relaxed);
}

static inline void
note_wait(Thread *thread, uint64_t wait)
{
	if (phase_now() == WARM_UP)
		return;
	thread->waits[bucket_of(wait)]++;
	if (wait > thread->longest)
		thread->longest = wait;
}

static void
do_work(Thread *thread, void *held)
{
	char sql[100] = "SELECT 1";

	if (phase_now() == OVER)
		return;
	if (work == WORK_NAP)
	{
		sleep_ns(1000000);
		return;
	}
	if (work == WORK_ACCOUNT)
	{
		thread->random = thread->random * 6364136223846793005U + 1442695040888963407U;
		snprintf(sql, sizeof(sql), "SELECT abalance FROM pgbench_accounts WHERE aid = %d",
				 (int) (thread->random >> 33) % ACCOUNTS + 1);
	}
	if (!pool_query(held, sql))
		give_up("a query failed");
}

/* Compiled once for each kind of run, so that nothing is asked in the loop. */
static inline __attribute__((always_inline)) void
take_and_give(Thread *thread, bool with_time, bool with_work)
{
	uint64_t ops = 0;
	int seen = WARM_UP;

	for (;;)
	{
		int now = phase_now();
		uint64_t before = 0;
		void *held;

		if (now != seen)
		{
			if (now == OVER)
				break;
			seen = now;
			ops = 0;
		}
		if (with_time)
			before = ticks();
		held = pool_acquire(thread->number);
		if (with_time)
			note_wait(thread, ticks() - before);
		if (with_work)
			do_work(thread, held);
		pool_release(thread->number, held);
		ops++;
	}
	thread->ops = seen == MEASURED ? ops : 0;
}

static void *
thread_main(void *arg)
{
	Thread *thread = arg;

	pthread_barrier_wait(&barrier);
	if (work != WORK_NONE)
		take_and_give(thread, true, true);
	else if (timed)
		take_and_give(thread, true, false);
	else
		take_and_give(thread, false, false);
	return NULL;
}

/* The wait that `share` of all did not exceed. */
static uint64_t
percentile(const uint64_t *waits, uint64_t n, double share)
{
	uint64_t rank = (uint64_t) ((double) n * share), below = 0;

	for (int i = 0; i < BUCKETS; i++)
	{
		below += waits[i];
		if (below > rank)
			return bucket_start(i);
	}
	return 0;
}

static void
print_run(const Thread *threads, int n, uint64_t wall, uint64_t cpu, double ns_per_tick)
{
	static uint64_t waits[BUCKETS];
	uint64_t ops = 0, slowest = UINT64_MAX, fastest = 0, longest = 0, samples = 0;

	memset(waits, 0, sizeof(waits));
	for (int i = 0; i < n; i++)
	{
		ops += threads[i].ops;
		if (threads[i].ops < slowest)
			slowest = threads[i].ops;
		if (threads[i].ops > fastest)
			fastest = threads[i].ops;
		if (threads[i].longest > longest)
			longest = threads[i].longest;
		for (int bucket = 0; bucket < BUCKETS; bucket++)
		{
			waits[bucket] += threads[i].waits[bucket];
			samples += threads[i].waits[bucket];
		}
	}
	printf("ops=%llu wall=%llu cpu=%llu slowest=%llu fastest=%llu", (unsigned long long) ops,
		   (unsigned long long) wall, (unsigned long long) cpu, (unsigned long long) slowest,
		   (unsigned long long) fastest);
	if (samples > 0)
		printf(" p50=%.0f p99=%.0f p999=%.0f max=%.0f",
			   (double) percentile(waits, samples, 0.5) * ns_per_tick,
			   (double) percentile(waits, samples, 0.99) * ns_per_tick,
			   (double) percentile(waits, samples, 0.999) * ns_per_tick,
			   (double) longest * ns_per_tick);
	putchar('\n');
	fflush(stdout);
}

static void
run(Thread *threads, int n, double warm_up, double seconds)
{
	uint64_t wall, cpu, tick;
	pthread_attr_t attr;

	memset(threads, 0, (size_t) n * sizeof(*threads));
	atomic_store(&phase, WARM_UP);
	pthread_barrier_init(&barrier, NULL, (unsigned) n + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 262144);
	for (int i = 0; i < n; i++)
	{
		threads[i].number = i;
		threads[i].random = (uint64_t) i + 1;
		if (pthread_create(&threads[i].id, &attr, thread_main, &threads[i]) != 0)
			give_up("no more than %d threads", i);
	}
	pthread_barrier_wait(&barrier);

	sleep_ns((uint64_t) (warm_up * 1e9));
	wall = clock_ns(CLOCK_MONOTONIC);
	cpu = cpu_ns();
	tick = ticks();
	atomic_store(&phase, MEASURED);
	sleep_ns((uint64_t) (seconds * 1e9));
	atomic_store(&phase, OVER);
	tick = ticks() - tick;
	cpu = cpu_ns() - cpu;
	wall = clock_ns(CLOCK_MONOTONIC) - wall;

	for (int i = 0; i < n; i++)
		pthread_join(threads[i].id, NULL);
	pthread_attr_destroy(&attr);
	pthread_barrier_destroy(&barrier);
	print_run(threads, n, wall, cpu, (double) wall / (double) tick);
}

static Work
work_named(const char *name)
{
	static const char *const names[] = { "none", "nap", "one", "account" };

	for (int i = 0; i < 4; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return (Work) i;
	}
	give_up("no such work: %s", name);
}

int
main(int argc, char **argv)
{
	double warm_up, seconds;
	const char *why;
	Thread *threads;
	char line[100];
	int n, size;

	if (argc < 5)
		give_up("use: %s THREADS SIZE WORK TIMED [EXTRA]", argv[0]);
	n = (int) strtol(argv[1], NULL, 10);
	size = (int) strtol(argv[2], NULL, 10);
	work = work_named(argv[3]);
	timed = argv[4][0] == '1';
	threads = aligned_alloc(128, (size_t) n * sizeof(*threads));
	if (n < 1 || size < 1 || threads == NULL)
		give_up("not so many threads: %s", argv[1]);

	why = pool_open(n, size, work >= WORK_ONE, argc > 5 ? argv[5] : "");
	if (why != NULL)
	{
		printf("unavailable %s\n", why);
		free(threads);
		return 0;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		if (sscanf(line, "%lf %lf", &warm_up, &seconds) != 2)
			give_up("WARM_UP SECONDS, not %s", line);
		run(threads, n, warm_up, seconds);
	}
	pool_close();
	free(threads);
	return 0;
}

#endif /* BENCH_HARNESS_H */
