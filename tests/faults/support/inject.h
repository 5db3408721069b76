/*-------------------------------------------------------------------------
 *
 * inject.h
 *	  Calls that fail on purpose: memory, threads, descriptors.
 *
 * The tests of this directory link the library's archive with the linker's
 * --wrap, so that what the library (and the libpq that stands in for the real
 * one, fakepq.c) asks of the C library comes through inject.c first.  There it
 * is counted, and the n-th call, or each from the n-th on, fails as the real one
 * may.  What the C library allocates for itself is not seen.
 *
 * Two clocks.  VIRTUAL_TIME: whoever would sleep does not; the clock jumps to
 * the end of his sleep.  So tests with one thread run through seconds of retries
 * in no time, and always alike.  FAST_TIME, for several threads: a real clock,
 * but FAST times as fast.
 *
 * The state is in memory that forked children share, so that a failure that is
 * met in a child is known to its parent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INJECT_H
#define INJECT_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum
{
	FAULT_MEMORY = 1,	  /* malloc and its kin, and pthread_setspecific */
	FAULT_THREAD = 2,	  /* pthread_create */
	FAULT_DESCRIPTOR = 4, /* eventfd, fcntl(F_DUPFD), socketpair */
	FAULT_RANDOM = 8,	  /* getrandom */
	FAULT_KEY = 16,		  /* pthread_key_create */
};

/* Before anything else in the program. */
extern void faults_init(void);

/* From now on the nth call of these kinds fails (0: none does), and if `onward` all that follow. */
extern void faults_begin(unsigned kinds, long nth, bool onward);
extern void faults_end(void);
extern long faults_hit(void);	  /* calls that failed since faults_begin */
extern long faults_counted(void); /* calls that might have */

/* Calls of these kinds fail always, until told otherwise. */
extern void faults_always(unsigned kinds);

/* How long it takes until a thread is refused: time for others to count on it. */
extern int faults_refusal_us;

/* What the library has allocated. */
extern long faults_live(void);		  /* blocks that are not freed */
extern long faults_live_bytes(void);  /* as asked for */
extern long faults_allocations(void); /* calls, ever */
extern void faults_mark(void);		  /* for the next: what is alive now does not count */
extern void faults_tell_live(void (*tell)(long number, size_t size)); /* alive, and not marked */

/* The library's threads that run. */
extern int faults_threads(void);

/* The test's own threads, which are never refused; 0 as pthread_create. */
extern int faults_own_thread(pthread_t *thread, void *(*run)(void *), void *arg);

#define FAST 100

typedef enum FaultsClock
{
	VIRTUAL_TIME,
	FAST_TIME,
} FaultsClock;

/* Not while the library waits for anything. */
extern void faults_clock(FaultsClock clock);
extern void faults_sleep(int ms);

/* Called before each poll of the library: the other side's chance to act. */
extern void (*faults_before_poll)(void);

#endif /* INJECT_H */
