/*-------------------------------------------------------------------------
 *
 * soak.h
 *	  What the parts of the soak of the client library share.  How it works: soak.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SOAK_H
#define SOAK_H

#include "play.h"

#include <pqpool.h>

/*
 * A fork takes every pool's lock, and ThreadSanitizer knows 64 locks at once; the library
 * has others.
 */
#define SLOTS 5
#define SCOPE_POOLS 3 /* pools that scopes own, at a time */

/*---- situations, verdicts (verdict.c) ----*/

/* What excuses a failure. */
enum
{
	USUAL = 0,
	TURBULENT = 1,	/* the server was down, or had come back less than GRACE_MS ago */
	STRUCK = 2,		/* this session was ended by the administrator */
	PAUSED = 4,		/* the pool was */
	CLOSING = 8,	/* the pool was being closed */
	CROWDED = 16,	/* few may wait for the pool */
	BOUND = 32,		/* the pool's loans are bound: its waiters may be in a deadlock */
	CANCELLED = 64, /* by a request of which the holder knows that it may still get through */
};

typedef enum Op
{
	OP_OPEN,
	OP_CLOSE,
	OP_CLOSE_SHORT,
	OP_ACQUIRE,
	OP_ACQUIRE_SHORT,
	OP_ACQUIRE_NOW,
	OP_ACQUIRE_SECOND,
	OP_GET_CONNECTION,
	OP_QUERY,
	OP_RELEASE,
	OP_RETURN_CONNECTION,
	OP_DISCARD,
	OP_TRANSFER,
	OP_ADOPT,
	OP_CANCEL,
	OP_CANCEL_SHORT,
	OP_RESIZE,
	OP_PAUSE,
	OP_RESUME,
	OP_DRAIN,
	OP_DRAIN_SHORT,
	OP_STATS,
	OP_LIMITS,
	OP_INITIALIZE,
	OP_CLOSE_POOL,
	OP_CLEANUP_OWN,
	OP_SCOPE_ENTER,
	OP_SCOPE_ENTER_CONNINFO,
	OP_SCOPE_LEAVE,
	OP_SCOPE_LEAVE_OUTER,
	OP_CHILD,
	OPS
} Op;

typedef struct Slot Slot;

/* A call that is under way. */
typedef struct Call
{
	Self *self;
	Op op;
	int64_t began;
	Slot *slot; /* may be NULL */
} Call;

extern Call call_begin(Self *self, Op op, Slot *slot);

/* Counts the outcome, and fails the run if the code is not allowed; true if it is PQPOOL_OK. */
extern bool call_end(Call *call, int code, unsigned situation, const char *message);

extern void print_summary(void);

/*---- pools (pools.c) ----*/

/* A place for a pool, which is opened, closed and opened again. */
struct Slot
{
	int index;
	pthread_mutex_t steering; /* whoever closes, opens, pauses */

	/*
	 * The rule of pqpool_close(): nobody begins a call with the pool
	 * afterwards.  Whoever is about to, counts himself and then looks whether it
	 * is closing; whoever closes says so and then waits until all who are
	 * counted are in the pool's queue.
	 */
	atomic_bool closing;
	atomic_int users;

	/* these change only while closing, with no users */
	_Atomic(pqpool *) pool;
	atomic_int generation;
	bool bound;
	bool crowded;
	bool discards; /* pool_reset=discard */
	char application[32];

	_Atomic(int64_t) paused_until; /* last moment at which it was paused */
	_Atomic(uint64_t) granted;	   /* loans, of this generation */
};

extern Slot slots[SLOTS];

extern void open_slots(Self *self);
extern void close_slots(Self *self);

/* The pool, to be called with until it is left; NULL: not now. */
extern pqpool *enter_pool(Slot *slot);
extern void leave_pool(Slot *slot);
extern unsigned situation_of(const Slot *slot, int64_t began);

extern void *steer(void *self);
extern void *steer_default(void *self);

/* The default pool was closed at some time since. */
extern bool default_closed_since(int64_t when);

/*---- loans (loans.c) ----*/

typedef struct Loan
{
	PGconn *conn;
	int cell;			  /* in the table of loans */
	int pid;			  /* of the server's process */
	int64_t since;		  /* when its acquire began */
	Slot *slot;			  /* NULL: not of a slot's pool */
	char application[32]; /* how the session is called; empty: not known */
	bool discards;		  /* the pool's policy */
	bool bound;			  /* as the pool lends them */
	bool cancel_due;	  /* a cancel timed out, and may still get through */
} Loan;

/* Nobody else has it, and it is idle. */
extern void loan_take(Self *self, Loan *loan);

/*
 * It answers, and as it should; false: its server is lost, which was allowed or has failed
 * the run.
 */
extern bool loan_check(Self *self, const Loan *loan);

/* Run a statement, judged in the same way. */
extern bool loan_run(Self *self, const Loan *loan, const char *sql);

/* Do something to it that a holder may do, and leave it like that. */
extern void loan_mistreat(Self *self, Loan *loan);

/* No longer ours; to be said before it is given back. */
extern void loan_drop(Loan *loan);
extern void loan_release(Self *self, Loan *loan);

/* For another thread to take over, or to cancel; false: no room, it is still ours. */
extern bool mail_put(Self *self, Loan *loan);
extern void *courier(void *self);
extern void empty_mail(Self *self);
extern void be_cancelled_by_another(Self *self, const Loan *loan);
extern void *canceller(void *self);

/*---- actors ----*/

extern void *work(void *self);		  /* worker.c */
extern void *hurry(void *self);		  /* worker.c */
extern void *churn(void *self);		  /* worker.c */
extern void *bring_forth(void *self); /* children.c */

#endif /* SOAK_H */
