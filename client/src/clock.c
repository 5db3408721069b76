/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  Time, serial numbers, and randomness for jitter.
 *
 * All times are microseconds in int64_t; INT64_MAX is never.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <limits.h>
#include <time.h>

#define COARSE_NS 4000000

clockid_t pqp_coarse_clock = CLOCK_MONOTONIC;

static int64_t
read_clock(clockid_t clock)
{
	struct timespec now;

	(void) clock_gettime(clock, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t
pqp_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/*
 * For pqp_now_coarse.  How far the coarse clock may be behind is for the kernel to say; where it is
 * too far for what we promise about connections (see COARSE_NS), the
 * precise one has to do.
 */
__attribute__((constructor)) static void
choose_clock(void)
{
	struct timespec resolution;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) == 0 && resolution.tv_sec == 0 &&
		resolution.tv_nsec <= COARSE_NS)
		pqp_coarse_clock = CLOCK_MONOTONIC_COARSE;
}

int64_t
pqp_boottime(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

int64_t
pqp_deadline(int64_t now, int64_t timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : now + timeout_ms * 1000;
}

int
pqp_poll_ms(int64_t deadline)
{
	int64_t left;

	if (deadline == INT64_MAX)
		return -1;
	left = deadline - pqp_now();
	if (left <= 0)
		return 0;
	left = (left + 999) / 1000;
	return left > INT_MAX ? INT_MAX : (int) left;
}

/* splitmix64 over a counter: no state to lock, good enough to spread timers. */
double
pqp_random(void)
{
	static _Atomic uint64_t counter;
	uint64_t x = atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed);

	x = x * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t) pqp_boottime();
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return (double) (x >> 11) / (double) (UINT64_C(1) << 53);
}

uint64_t
pqp_next_serial(void)
{
	static _Atomic uint64_t last;

	return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}
