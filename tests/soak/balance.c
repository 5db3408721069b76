/*-------------------------------------------------------------------------
 *
 * balance.c
 *	  What a process holds: descriptors, threads, memory, sessions; all of which
 *	  must be back where it began.
 *
 * Memory is compared between two quiet moments, after a third of the run and at
 * its end, when every pool is closed and every thread gone: what a first use
 * leaves behind for good (tables that have grown, what libpq and libc keep) is
 * there at the first of them.  What grows with use has then two thirds of the
 * run to show, tens of thousands of operations even in a short one, of which each
 * would need to leak a few bytes only:
 *
 *		heap		bytes that are allocated, exactly.  What remains uncertain is in libc's cache for the
 *				main thread, and in the length of the library's tables, which grow by doubling: some
 *				hundred bytes, as far as was seen.  One PGconn that leaks is 36 KiB.
 *	resident	pages of the process.  Fragmentation, and stacks that libc keeps, may make some
 *				difference; under the sanitizers, which keep freed memory on purpose, it
 *				means nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "play.h"

#include <dirent.h>
#include <malloc.h>

#define HEAP_TOLERANCE ((int64_t) 32 * 1024)
#define RESIDENT_TOLERANCE ((int64_t) 16 * 1024 * 1024)

/* Helper threads stay for ten seconds when there is nothing to do. */
#define SETTLE_MS 60000

/* The sanitizers' own allocators know better than mallinfo2(), which sees nothing of them. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static int
count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	if (dir == NULL)
		give_up("no %s", path);
	while (readdir(dir) != NULL)
		n++;
	(void) closedir(dir);
	return n;
}

static int64_t
heap_bytes(void)
{
	struct mallinfo2 info;

	if (__sanitizer_get_current_allocated_bytes != NULL)
		return (int64_t) __sanitizer_get_current_allocated_bytes();
	(void) malloc_trim(0);
	info = mallinfo2();
	return (int64_t) (info.uordblks + info.hblkhd);
}

static int64_t
resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long long total = 0;
	long long resident = 0;

	if (file == NULL || fscanf(file, "%lld %lld", &total, &resident) != 2)
		give_up("no /proc/self/statm");
	(void) fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

static int
count_sessions(void)
{
	PGconn *conn = connect_witness();
	PGresult *result =
		PQexec(conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'soak%'");
	int n = PQresultStatus(result) == PGRES_TUPLES_OK ? atoi(PQgetvalue(result, 0, 0)) : -1;

	PQclear(result);
	PQfinish(conn);
	return n;
}

Balance
take_balance(void)
{
	Balance balance;

	balance.sessions = count_sessions();
	balance.descriptors = count_entries("/proc/self/fd");
	balance.threads = count_entries("/proc/self/task");
	balance.heap = heap_bytes();
	balance.resident = resident_bytes();
	return balance;
}

static bool
is_settled(const Balance *base, Balance *now)
{
	/*
	 * the witness's own connection, where it is pooled, shall have forgotten what it was
	 * used for: else there are two of them
	 */
	sleep_ms(100);
	*now = take_balance();
	return now->descriptors <= base->descriptors && now->threads <= base->threads &&
		   now->sessions == 0;
}

Balance
settle(const Balance *base, const char *when)
{
	int64_t start = now_ms();
	Balance now = *base;

	if (!WAIT_FOR(is_settled(base, &now), SETTLE_MS))
		failure("%s there are %d descriptors too many, %d threads too many, and %d sessions on the "
				"server",
				when, now.descriptors - base->descriptors, now.threads - base->threads,
				now.sessions);
	if (loans_out() != 0)
		failure("%s %d loans are out", when, loans_out());
	printf("%s, settled in %.1f s: %d descriptors, %d threads, %d sessions, heap %lld, resident "
		   "%lld KiB\n",
		   when, (double) (now_ms() - start) / 1000, now.descriptors, now.threads, now.sessions,
		   (long long) now.heap, (long long) now.resident / 1024);
	fflush(stdout);
	return now;
}

void
compare_memory(const Balance *middle, const Balance *end)
{
	int64_t heap = end->heap - middle->heap;
	int64_t resident = end->resident - middle->resident;

	printf("from the first third to the end: heap %+lld bytes (%lld are tolerated), resident %+lld "
		   "KiB",
		   (long long) heap, (long long) HEAP_TOLERANCE, (long long) resident / 1024);
	if (UNDER_SANITIZER)
		printf(" (not judged under a sanitizer)\n");
	else
		printf(" (%lld are tolerated)\n", (long long) RESIDENT_TOLERANCE / 1024);
	if (heap > HEAP_TOLERANCE)
		failure("the heap has grown by %lld bytes", (long long) heap);
	if (!UNDER_SANITIZER && resident > RESIDENT_TOLERANCE)
		failure("the process has grown by %lld KiB", (long long) resident / 1024);
}
