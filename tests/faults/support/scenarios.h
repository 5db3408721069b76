/*-------------------------------------------------------------------------
 *
 * scenarios.h
 *	  What a program does with pools, to be done while something runs out.
 *
 * Each scenario is run again and again, in a thread of its own: first with
 * nothing failing, then with the first call failing, the second, and so on until
 * a run meets no failure any more.  After each run there is memory again, and
 *
 *		the pool lends a connection, and can be closed,
 *		its figures are zero, as many connections closed as opened,
 *		of memory, descriptors, connections and results no more are there than before.
 *
 * While it runs, whatever fails must say so with a code that it may have.  A run
 * that takes longer than 30 seconds hangs, and ends the program.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCENARIOS_H
#define SCENARIOS_H

#include <stdbool.h>

/* Where the library's threads come from. */
typedef enum Staff
{
	ALONE = 1, /* nowhere: callers do all the work; virtual time */
	HELPED = 2 /* helpers and keeper */
} Staff;

/*
 * Run all scenarios for this staff, or the one that the environment names in SCENARIO.  kinds: as
 * in inject.h; stride: of long runs only each so-many-th n.
 */
extern void survive_all(Staff staff, unsigned kinds, bool onward, const char *what, long stride);

/*
 * One run in which nothing of these kinds ever worked before: what the library makes once
 * for the process.
 */
extern void survive_cold(Staff staff, unsigned kinds);

/* Before any of the others: there is no pthread_key_create, and then there is. */
extern void survive_without_key(void);

/* Several callers, while threads are refused, which takes its time. */
extern void survive_slow_refusals(void);

/* Pools are opened and closed in a process that never gets a thread. */
extern void survive_many_pools(void);

/* The plan, and the exit status. */
extern int survive_end(void);

#endif /* SCENARIOS_H */
