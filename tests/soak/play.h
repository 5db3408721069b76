/*-------------------------------------------------------------------------
 *
 * play.h
 *	  What the soaks share: actors, chance, failures, a server to which things
 *	  happen, and counting what is left.  How they work: soak.c, unaware.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PLAY_H
#define PLAY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

#define countof(array) ((int) (sizeof(array) / sizeof((array)[0])))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

/* Time to recover that is granted when the server is back, for it and for the pools. */
#define GRACE_MS 5000

/*
 * Of an acquire that waits for as long as the pool is told to; nothing waits that long that
 * works.
 */
#define PATIENCE_MS 60000

/*---- time and chance (play.c) ----*/

extern atomic_bool stopping; /* of this round */

extern int64_t now_ms(void);
extern double seconds_run(void); /* since the program began */
extern void sleep_ms(int64_t ms);

/* True as soon as the condition is; false when that many milliseconds have passed. */
#define WAIT_FOR(condition, patience_ms)                            \
	__extension__({                                                 \
		int64_t wait_until_ = now_ms() + (patience_ms);             \
		bool reached_;                                              \
		while (!(reached_ = (condition)) && now_ms() < wait_until_) \
			sleep_ms(2);                                            \
		reached_;                                                   \
	})

/* An environment variable. */
extern int64_t number_from(const char *name, int64_t otherwise);

/*---- threads (play.c) ----*/

typedef struct Self
{
	const char *role;
	int index;
	uint64_t random;
	/* what it is doing, for whoever looks for those that hang */
	_Atomic(const char *) doing; /* NULL: nothing that could hang */
	_Atomic(int64_t) since;
} Self;

extern unsigned draw(Self *self, unsigned n);
extern Self *self_new(const char *role, int index);
extern void self_free(Self *self);

/* An actor: runs until it is told to stop. */
extern void start_actors(const char *role, void *(*run)(void *), int n);

/*
 * All of them end by themselves, if nothing hangs; while they do, meanwhile() is called now
 * and then, if there is one.
 */
extern void join_actors(Self *self, void (*meanwhile)(Self *self));

/* A line every five seconds, with what the program counts (operations) and hands.c does. */
extern void wait_and_tell(int64_t until);
extern int64_t operations(void);

/* The first and the last thing that a soak does; verdict() is its exit status. */
extern int64_t begin_run(void); /* how long it is to last, ms */
extern int verdict(void);

/*---- one hand at a time (hands.c) ----*/

/* The connection is ours from now on; a failure if somebody else has it.  Returns its cell. */
extern int hand_take(Self *self, PGconn *conn, const char *application);

/* It is about to be given back. */
extern void hand_empty(int cell);
extern int loans_out(void);

/*---- failures (play.c) ----*/

/* The run has failed; it goes on. */
extern void failure(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void give_up(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

extern int failures(void);

/*---- actors that all have ----*/

extern void *disturb(void *self); /* chaos.c */

/*---- disturbances (chaos.c) ----*/

extern bool turbulent_since(int64_t when);
extern bool struck_since(int pid, int64_t when); /* pid 0: any */
extern void print_disturbances(void);
extern PGconn *connect_witness(void);

/*---- what is left (balance.c) ----*/

typedef struct Balance
{
	int descriptors;
	int threads;
	int64_t heap;
	int64_t resident;
	int sessions;
} Balance;

extern Balance take_balance(void);

/* Wait until nothing is left that was not there at `base`. */
extern Balance settle(const Balance *base, const char *when);
extern void compare_memory(const Balance *middle, const Balance *end);

/* At the beginning: with warm_up(), what is kept for good is there before anything is counted. */
extern Balance base_balance(void (*warm_up)(void));

#endif /* PLAY_H */
