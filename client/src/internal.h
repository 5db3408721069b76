/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  The pool, its slots, and who may touch what.
 *
 * Actors:
 *	callers		any thread, inside a pqpool_ function
 *	helpers		a few threads (helper.c), made on demand: what blocks (connect, close,
 *				roll back what a dead thread left, cancel, knock) is theirs
 *	keeper		one thread: timers, reports, resets; never blocks but in poll()
 *
 * A slot is a place for a connection.  It belongs to its pool for as long as
 * that lives, and serves one connection after the other:
 *
 *		           opened                 taken, given: waitq.h
 *		OPENING ----------> OPEN, FREE <--------------------> OPEN, lent
 *		   |                   |  ^                               |
 *		   | failed            |  |                               | released the slow way
 *		   v                   |  +-------- OPEN, HELD <----------+
 *		 EMPTY <-- CLOSING <---+-------------+
 *
 *	slot->state says the large things and changes with the lock held; within
 *	OPEN, the item's word says more.  A waiter can be handed a slot straight from
 *	OPENING.  HELD is one that is being reset, or that the keeper has borrowed for
 *	a report or a look.  Whoever has it lent or HELD owns its PGconn, so that
 *	needs no lock: nobody else touches it.
 *
 * Locks, in the order in which they may be taken together:
 *	0. the default pool's (default.c)	that pool, and the process's scopes
 *	1. registry (registry.c)	list of pools, default pool, graveyard
 *	2. lookup shard (lookup.c)	chains of slots by PGconn
 *	3. pool->lock				all fields of Pool and Slot not marked otherwise
 *	4. leaves: helper queue, keeper, quarantine, connections being made (fork.c), inboxes; nothing
 *				is locked inside them
 *	Under none of them: I/O, libpq calls that do any, thread creation, wake-ups (but an
 *	inbox's descriptor, which does not block), the user's functions.
 *	What has to be done about a pool once its lock is dropped is collected in a Work.
 *	Several pools' locks are held together by who holds the registry lock, in the
 *	order of the list (fork.c, deadlock.c).
 *
 * Marked "owner": of whoever has the slot lent or HELD; handed on by the
 * item's word.  Marked "shared": atomic, written by the owner or with the lock
 * held, read by anybody for a look (stats.c).
 *
 * Two forms: as a library that programs link, with the threads above; and
 * preloaded into programs that know nothing of it (../preload), where there are
 * none.  There the caller opens, closes and resets himself, and does what the
 * keeper would do, in between, when he comes by (pqp_keeper_visit).  form.c,
 * one for each form, says which it is.
 *
 * Lifetime of a pool: refs counts the handle, each slot that is not EMPTY, each
 * waiter, each scope and each visitor (keeper, task).  The last one puts it in
 * the graveyard, where it lies for a while, so that a caller with a stale handle
 * meets a closed pool and not freed memory (an aid, not a promise).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_INTERNAL_H
#define PQP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define PQPOOL_NO_MACROS
#include "pqpool.h"

#include "link.h"
#include "options.h"
#include "waitq.h"

#define PQP_MAX_OPENERS 64		/* threads per process that open connections */
#define PQP_MAX_OPENING 2		/* connections that a pool opens at once */
#define PQP_PATIENCE_US 1000000 /* failing for longer: waiters are told */
#define PQP_CLOSE_MS 1000		/* longest wait for the server to end a session */
#define PQP_REPORT_MS 5000 /* longest a report may take: a server short of CPU is no dead one */

typedef struct pqpool Pool;
typedef struct Slot Slot;
typedef struct Task Task;
typedef struct Caller Caller;

/* How far something that must not block has come. */
typedef enum Progress
{
	PROGRESS_MORE,	/* wait for the socket */
	PROGRESS_DONE,	/* answered; the connection is as before */
	PROGRESS_BROKEN /* the connection is of no use any more */
} Progress;

/* Something for a helper thread to do.  Embedded in what it is about. */
struct Task
{
	Task *next;
	enum
	{
		TASK_OPEN,
		TASK_CLOSE,
		TASK_OTHER
	} kind;						   /* opens are capped, closes are done in batches */
	void (*run)(Task *task);	   /* not for TASK_CLOSE */
	void (*otherwise)(Task *task); /* likewise: no helper can be had, the caller does this */
};

/* A connection that is in no table yet: fork.c, whose lock it takes to touch it. */
typedef struct Nascent
{
	PGconn *conn; /* NULL: none */
	struct Nascent *next, *previous;
} Nascent;

typedef enum SlotState
{
	SLOT_EMPTY,
	SLOT_OPENING,
	SLOT_OPEN,
	SLOT_CLOSING,
} SlotState;

#define SLOT_STATES (SLOT_CLOSING + 1)

struct Slot
{
	/* the fast path's: a cache line or two of its own */
	_Alignas(64) Item item;	 /* must be first */
	PGconn *_Atomic conn;	 /* owner, shared; constant while in the table; NULL before and after */
	_Atomic int64_t lent_at; /* owner, shared: us, coarse (clock.c) */
	const char *_Atomic site;  /* owner, shared: of the loan */
	int64_t alive_at;		   /* owner: us, coarse: last found alive, by looking */
	_Atomic uint64_t loans;	   /* owner, shared: taken by the fast path, ever */
	_Atomic pid_t tid;		   /* owner, shared: of the loan */
	_Atomic uint32_t skipped;  /* owner, shared: loans whose length was not measured, see loan.h */
	_Atomic uint32_t bucket;   /* owner, shared: of the last one that was */
	uint32_t measuring;		   /* owner: so many are measured yet, all of them */
	int64_t measured_at;	   /* owner: us: start of the loan; or see loan.h */
	int64_t heard_at;		   /* owner: us, coarse: last looked for an allotment */
	bool reset_failed;		   /* owner: DISCARD ALL got an error */
	int64_t reset_at;		   /* lock: us; in pool->resets: since when */
	int64_t reset_deadline;	   /* lock: us; likewise */
	int reset_socket;		   /* lock: likewise */
	bool fatal;				   /* owner: the server said that it ends the session */
	bool admitted;			   /* owner: the hook before_acquire has let it pass, ever */
	_Atomic bool lost;		   /* the user has closed conn, or its socket: never touch it */
	PQnoticeReceiver receiver; /* owner: libpq's defaults, to be restored */
	PQnoticeProcessor processor;
	Pool *pool; /* constant; NULL: a thread's own connection */

	Task task;			  /* owner, or who has it OPENING or CLOSING */
	int index;			  /* constant */
	uint64_t serial;	  /* of the connection, never reused; lock and owner */
	Slot *chain;		  /* lookup shard lock: next with the same hash */
	bool in_table;		  /* lookup shard lock */
	Nascent nascent;	  /* being connected */
	const char *progress; /* pool's lock: while it is, what it waits for; its opener's */
	ino_t inode;		/* owner, and in the child of a fork: of its socket, see pqp_note_socket */
	_Atomic int end_fd; /* duplicate of the socket of a finished conn; for fork.c */

	_Atomic int state;			/* a SlotState; lock, shared */
	Slot *next;					/* in a Work's chain, or in pool->resets */
	Slot *next_empty;			/* while EMPTY */
	_Atomic bool borrowed;		/* HELD by the keeper, and counted as idle; lock, shared */
	uint32_t generation;		/* pool->generation when opening began */
	uint32_t suspicion;			/* owner: pool->suspicion when last asked and found alive */
	uint32_t look;				/* pool->look when the keeper last looked at its socket */
	_Atomic int64_t idle_since; /* us: given back the slow way, or seen idle after more loans */
	uint64_t seen_loans;		/* keeper, lock: loans when it last looked */
	int64_t retire_at;			/* us: end of lifetime; INT64_MAX: never */
	_Atomic int backend_pid;	/* shared */
	pqpool_close_reason reason; /* CLOSING: why */
	int cancels;				/* pqpool_cancel calls under way */
	struct Request *insisting;	/* CLOSING, and what runs on it is being cancelled */
	int64_t leak_told;			/* keeper: lent_at of the loan of which the event has been raised */

	/* a thread's own connection only: touched by its thread only */
	bool doomed; /* to be closed when given back */
	int own_loans;
	uint64_t own_thread;
};

static inline Slot *
pqp_task_slot(Task *task)
{
	return (Slot *) ((char *) task - offsetof(Slot, task));
}

/*
 * What is open, and in which state; of one look over the slots, without a lock.
 */
typedef struct Sizes
{
	int size, opening, idle, in_use, resetting, closing;
} Sizes;

/* Why connecting failed. */
typedef struct Failure
{
	int code; /* a pqpool_code; PQPOOL_OK: none */
	char sqlstate[6];
	char text[900]; /* libpq's, without what PQERRORS_VERBOSE adds */
} Failure;

/* What the server has said, and what it has been told; PROTOCOL.md sections 3 and 4. */
typedef struct Link
{
	bool known;			 /* the first session has been asked: may fill */
	bool attached;		 /* and the server knows us */
	bool refused;		 /* a proxy refuses options: no identity any more */
	Allotment allotment; /* if attached */
	uint64_t bringer;	 /* serial of the youngest slot whose text was taken over */
	int64_t lease_from;	 /* us, CLOCK_BOOTTIME */
	char text[256];		 /* as last read and looked at, to save parsing it again */

	uint64_t reporter;	 /* serial of the slot that reports if it can */
	uint64_t seq;		 /* of the last report begun */
	int reported_demand; /* in it */
	bool lowered;		 /* an epoch lowered the limit, or paused: report when size has come down */
	bool urgent;		 /* report at once */
	int64_t reported_at; /* us: last report begun; 0: never */
	int64_t attached_at; /* us: first text of the current incarnation */
	int64_t answered_at; /* us: last report acknowledged; 0: never */
	int64_t knocked_at;	 /* us: last knock begun; 0: never */
	bool knocking;
	_Atomic bool bye_pending; /* closed, and the server has to be told */
	double jitter;			  /* of the current interval: 0.9 .. 1.1 */
} Link;

/*
 * Since the pool was opened; see pqpool_statistics.  Atomic, so that they can be read and
 * written without the lock.
 */
typedef _Atomic uint64_t Counter;

typedef struct Counters
{
	Counter acquires, timeouts, opened, closed, open_failures;
	Counter found_dead, discarded, resets, abandoned, finished, reports;
	Counter errors[PQPOOL_ERRORS];
	Counter closed_by[PQPOOL_CLOSE_REASONS];
	Counter wait[PQP_BUCKETS];
	Counter hold[PQP_BUCKETS];
} Counters;

static inline void
pqp_count(Counter *counter, uint64_t n)
{
	(void) atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/*
 * The report in flight. slot is set under the lock; while it is, the keeper
 * owns the rest.
 */
typedef struct Report
{
	Slot *slot; /* lent to the keeper; NULL: none in flight */
	bool sent;
	bool bye;
	bool good;		  /* no error so far */
	int64_t sent_at;  /* us, CLOCK_BOOTTIME */
	int64_t deadline; /* us */
} Report;

/*
 * Slots are in chunks that double, so that none ever moves, and that they can be
 * found by index without a lock: the first has 8, and 12 of them are enough for
 * PQP_SIZE_MAX and those that are on their way out.
 */
#define PQP_CHUNKS 12
#define PQP_CHUNK_FIRST 8

struct pqpool
{
	pthread_mutex_t lock;
	uint64_t serial;	  /* constant */
	PoolOptions options;  /* constant */
	pqpool_hooks hooks;	  /* constant */
	int64_t trust_us;	  /* constant: found alive less than this ago: still is */
	char id[PQP_ID_SIZE]; /* constant, but in a forked child */

	/* registry lock */
	Pool *next;
	bool listed;
	int64_t buried_at; /* us */

	WaitQueue queue; /* see waitq.h; items are slots */

	/* pool->lock, from here to the end; what is atomic is shared */
	int refs;
	_Atomic bool closed;
	_Atomic bool paused;
	_Atomic int min_size;
	_Atomic int max_size;
	_Atomic int limit; /* as pqp_limit says, for who has no lock */
	int count[SLOT_STATES];
	Slot *_Atomic chunks[PQP_CHUNKS];
	_Atomic int nslots; /* of all chunks together */
	Slot *resets;		/* chain by next: see reset.c */
	int nresets;
	Slot *empty;				/* chain of EMPTY ones */
	int borrowed;				/* with the keeper: back at once */
	int stepping;				/* OPENING, by programs that connect step by step (../preload) */
	bool careful;				/* constant: nothing is ever lent or given back without the lock */
	_Atomic bool bound;			/* a loan was bound, ever: deadlocks can be told */
	uint32_t generation;		/* older slots are not lent again: pqpool_drain */
	_Atomic uint32_t suspicion; /* slots not found alive since it changed are checked harder */
	uint32_t look;				/* the keeper looks at idle ones whenever it changes */
	int64_t looked_at;			/* us: when it last did so without cause */
	int64_t retired_at;			/* us: the last one by the end of its lifetime */
	double lifetime;			/* last one drawn, 0 .. 1; negative: none yet */
	pthread_cond_t changed;		/* size or generation's remainder went down; only if watchers */
	int watchers;
	int telling;		  /* events under way that concern no connection: hooks.c */
	_Atomic int requests; /* asynchronous ones alive: inbox.c */

	Failure failure; /* of the last attempt; code PQPOOL_OK: it succeeded */
	int failures_in_a_row;
	int successes_in_a_row; /* since then: slow start */
	int64_t failing_since;	/* us */
	int64_t retry_at;		/* us: no attempt before */
	bool spare_wanted;		/* a try found nothing: open one without a waiter */

	Link link;
	Report report;
	int64_t keeper_due; /* us: when the keeper plans to look again */

	Counters counters;
};

/* What to do about a pool once its lock is dropped. */
typedef struct Work
{
	Waiter *wake; /* granted or failed, to be woken */
	Slot *close;  /* in state CLOSING, chained by next */
	Slot *open;	  /* in state OPENING, likewise */
	Slot *reset;  /* HELD, likewise: left by a thread that ended */
	bool kick;	  /* the keeper has to look earlier than planned */
} Work;

/* Who borrows, for the loan. */
typedef struct Borrower
{
	uint64_t mine; /* the item's word */
	pid_t tid;
	const char *site;
	int64_t since; /* us: when he came */
} Borrower;

/* One caller in acquire.  The queue knows only its first member. */
struct Caller
{
	Waiter waiter; /* must be first; waiter.item is a Slot */
	Borrower borrower;
	void (*tell)(Caller *caller); /* NULL: he sleeps on the waiter's futex */
	int64_t since;				  /* us */
	int64_t deadline;			  /* us */
	int refused;				  /* connections, by the hook before_acquire */
	bool had_turn;				  /* he comes before those who have not */
};

/* Everything about a failed acquire, taken under the lock, written without. */
typedef struct Refusal
{
	int code;
	bool referenced; /* the caller still holds the queue's reference to the pool */
	bool telling;	 /* an event is to tell of it, and has begun: hooks.c */
	int64_t waited;	 /* us */
	char figures[256];
	char threads[256]; /* of a deadlock */
	Failure failure;
} Refusal;

/* What the library knows of a thread. */
typedef struct ScopeEntry
{
	Pool *pool;
	uint64_t serial;
	bool owned; /* opened by the scope, closed with it */
	int code;	/* entering failed: what to answer */
} ScopeEntry;

typedef struct Thread
{
	uint64_t serial; /* never reused */
	pid_t tid;
	int bound; /* bound loans out, at least */

	/*
	 * the last loan: a hint.  The slot is there as long as its pool, and as no pool has
	 * been freed since.
	 */
	Slot *last;
	uint64_t last_pool;	 /* serial */
	uint32_t last_freed; /* pqp_pools_freed then */

	ScopeEntry *scopes;
	uint32_t depth;
	uint32_t capacity;
	uint32_t scope_count; /* ever entered */

	Slot *own;				 /* the thread's own connection */
	PoolOptions own_options; /* by which it was opened */
} Thread;

/* form.c: see "Two forms" above */
extern const bool pqp_has_threads;
extern bool
pqp_socket_kept(Slot *slot); /* by its owner: does its descriptor still lead to its server? */
extern void pqp_note_socket(Slot *slot); /* by its owner: it is connected, maybe anew */
extern void pqp_cut_socket(PGconn *conn, ino_t inode); /* in the child of a fork, at once */
extern void pqp_finish_cut(PGconn *conn);			   /* and later */
extern void pqp_form_forked(void); /* in the child, when its sockets have been seen to */
extern void pqp_form_thread_ends(Thread *thread); /* by the thread */
extern void pqp_form_renew(void); /* in a child that ran no handler: make locks anew */

/* clock.c */
extern clockid_t pqp_coarse_clock;

/* As pqp_now, some ms late, at a tenth of the cost. */
static inline int64_t
pqp_now_coarse(void)
{
	struct timespec now;

	(void) clock_gettime(pqp_coarse_clock, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

extern int64_t pqp_now(void);								  /* us, CLOCK_MONOTONIC */
extern int64_t pqp_boottime(void);							  /* us, runs on while suspended */
extern int64_t pqp_deadline(int64_t now, int64_t timeout_ms); /* negative: never */
extern int pqp_poll_ms(int64_t deadline); /* what is left, for poll(); rounded up */
extern double pqp_random(void);			  /* 0 .. 1, for jitter only */
extern uint64_t pqp_next_serial(void);	  /* unique in the process, from 1 */

/* error.c */

static inline int
pqp_error_clear(pqpool_error *err)
{
	if (err)
	{
		err->code = PQPOOL_OK;
		err->sqlstate[0] = err->message[0] = err->cause[0] = '\0';
	}
	return PQPOOL_OK;
}

extern int pqp_error_set(pqpool_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern int pqp_error_cause(pqpool_error *err, const Failure *failure);
extern void pqp_failure_set(Failure *failure, int code, const char *text);
extern void pqp_failure_of_connect(Failure *failure, PGconn *conn);

/* registry.c: all pools of the process, the default one, and the dead */
extern _Atomic uint32_t pqp_pools_freed;
extern _Atomic int pqp_pools_listed; /* how many */
extern void pqp_registry_add(Pool *pool);
extern void pqp_registry_bury(Pool *pool);
extern bool pqp_registry_sweep(int64_t now, int64_t *next);
extern Pool *pqp_registry_next(Pool *previous);
extern void pqp_registry_lock(void);
extern void pqp_registry_unlock(void);
extern void pqp_registry_renew(void);	 /* in a child: nobody has the lock */
extern bool pqp_registry_is_empty(void); /* lock held */
extern Pool *pqp_registry_first(void);	 /* lock held */

/* lookup.c: whose is this PGconn? */
extern Slot *pqp_lookup(PGconn *conn);
extern void pqp_lookup_unlock(PGconn *conn);
extern Slot *pqp_lookup_add(Slot *slot);
extern void pqp_lookup_remove(Slot *slot);
extern PGconn *pqp_connect_start(const char *const *keywords, const char *const *values);
extern void pqp_finish(PGconn *conn);
extern void pqp_lookup_lock_all(void);
extern void pqp_lookup_unlock_all(void);
extern void pqp_lookup_renew(void);
extern void pqp_lookup_take_all(Slot **chain); /* all locked */

/* stats.c: no lock needed */
extern int pqp_leaks(const Pool *pool, int64_t now);
extern void pqp_statistics(Pool *pool, pqpool_statistics *s);

/* thread.c */
extern __thread Thread *pqp_current __attribute__((tls_model("initial-exec")));
extern Thread *pqp_thread_make(void);

static inline Thread *
pqp_thread_if_any(void)
{
	return pqp_current;
}

static inline Thread *
pqp_thread(void) /* NULL: out of memory */
{
	return pqp_current ? pqp_current : pqp_thread_make();
}


/* process.c: scopes for all threads */
#define PQP_PROCESS_SCOPE UINT32_MAX /* pqpool_scope.depth of such a one */
extern int pqp_process_enter(pqpool_scope *scope, Pool *pool, pqpool_error *err);
extern int pqp_process_leave(const pqpool_scope *scope);
extern Pool *pqp_process_pool(void); /* default lock held */
extern void pqp_process_forked(void);

/* default.c, scope.c */
extern void pqp_default_lock(void);
extern void pqp_default_unlock(void);
extern void pqp_default_renew(void);
extern void pqp_default_forked(void); /* in the child, locked */
extern bool pqp_scope_missed(void);
extern PGconn *pqp_scope_get(Thread *thread, const char *site, pqpool_error *err);
extern void pqp_scope_unwind(Thread *thread, uint32_t depth);
extern int pqp_own_return(Slot *slot, bool keep);
extern void pqp_own_close(Thread *thread);

/* slot.c: places for connections; with the lock held, unless said otherwise */
extern Slot *pqp_slot(const Pool *pool, int index); /* no lock; index < nslots */
extern bool pqp_make_room(Pool *pool, int n);
extern Slot *pqp_slot_reserve(Pool *pool); /* OPENING; NULL: out of memory */
extern void pqp_slot_free(Slot *slot);	   /* EMPTY again */
extern void pqp_slot_state(Slot *slot, SlotState state);
extern int pqp_size(const Pool *pool);
extern int pqp_staying(const Pool *pool); /* size without those on their way out */
extern Sizes pqp_sizes(const Pool *pool); /* no lock */
extern void pqp_chunks_free(Pool *pool);

/* pool.c: with the lock held, unless said otherwise */
extern bool pqp_lends(const Pool *pool);
extern void pqp_pump(Pool *pool, Work *work, int64_t now);
extern void pqp_lend(Slot *slot, const Borrower *borrower, int64_t since, int64_t now);
extern bool pqp_hopeless(const Pool *pool, int64_t now);
extern void pqp_put_back(Slot *slot, Work *work, int64_t now);
extern void pqp_retire(Slot *slot, Work *work, pqpool_close_reason reason);
extern void pqp_call_all(Pool *pool);
extern int64_t pqp_retirement(const Slot *slot);
extern Slot *pqp_idle_claim(Pool *pool, const Thread *thread);
extern bool pqp_idle_any(Pool *pool);
extern void pqp_idle_add(Slot *slot);
extern bool pqp_idle_borrow(Slot *slot);	 /* by the keeper: out of the list; false: it is lent */
extern void pqp_idle_bring_back(Slot *slot); /* not yet into the list */
extern void pqp_server_ended(Pool *pool, Work *work, int64_t now);
extern void pqp_fail_waiters(Pool *pool, Work *work, int code);
extern void pqp_nudge(Pool *pool, Work *work, int64_t when);
extern void pqp_gate(Pool *pool);
extern void pqp_ref(Pool *pool);
extern void pqp_unref(Pool *pool);				/* takes the lock itself */
extern void pqp_unlock(Pool *pool, Work *work); /* drops the lock and does the work */

/* deadlock.c, hooks.c, reset.c, inbox.c: no lock held, unless said otherwise */
extern bool pqp_deadlocked(Pool *pool, Waiter *who, bool certain, char *names, size_t size);
extern bool pqp_hooks_want_all(const pqpool_hooks *hooks);
extern void pqp_event(Pool *pool, const pqpool_event *event);
extern bool pqp_telling_begins(Pool *pool); /* lock held */
extern void pqp_telling_ends(Pool *pool);
extern bool pqp_hook_configure(const Pool *pool, PGconn *conn, Failure *failure);
extern bool pqp_hook_acquire(const Slot *slot);
extern bool pqp_hook_release(const Slot *slot);
extern void pqp_hook_close(const Pool *pool, PGconn *conn);

extern bool pqp_reset_start(Slot *slot, int64_t deadline);
extern int pqp_resets(Pool *pool, Slot **slots, int *sockets, int n, int64_t *due);
extern void pqp_reset_run(Pool *pool, Slot *slot, bool readable);
extern void pqp_reset_own(Pool *pool, const Thread *thread);
extern void pqp_reset_help(Pool *pool, int64_t deadline);
extern void pqp_reset_newest(Pool *pool);

/* steer.c, acquire.c, thread.c: no lock held */
extern Pool *pqp_pool_create(const char *conninfo, const pqpool_hooks *hooks, pqpool_error *err);
extern void pqp_pool_free(Pool *pool);
extern Slot *pqp_turn_begin(Pool *pool, Caller *caller, const Thread *thread, bool first,
							int64_t now, Refusal *refusal);
extern void pqp_turn_denied(Pool *pool, const Caller *caller, int code, Refusal *refusal);
extern void pqp_turn_expired(Pool *pool, Caller *caller, Refusal *refusal,
							 int64_t now); /* lock held */
extern void pqp_report_refusal(Pool *pool, const Caller *caller, const Refusal *refusal,
							   pqpool_error *err);
extern bool pqp_seen_good(Slot *slot, int64_t now);
extern bool pqp_still_good(Slot *slot, int64_t now);
extern bool pqp_is_good(Slot *slot, const Caller *caller, bool may_wait, int64_t now);
extern bool pqp_admitted(Slot *slot, Caller *caller);
extern int64_t pqp_requests_expire(Pool *pool, int64_t now);
extern Slot *pqp_acquire_slot(Pool *pool, Thread *thread, Caller *caller, Slot *slot,
							  Refusal *refusal);
extern PGconn *pqp_loan(Thread *thread, Slot *slot, pqpool_error *err);
extern PGconn *pqp_acquire(Pool *pool, int timeout_ms, bool bound, const char *site,
						   pqpool_error *err);
extern int pqp_shut(Pool *pool, int timeout_ms, bool idle_only);
extern void pqp_abandon(Thread *thread);

/* connect.c: one connection by libpq.  No lock held, unless said otherwise. */
extern PGconn *pqp_connect(const PoolOptions *options, const char *identity, int64_t deadline,
						   Slot *slot, Nascent *nascent, Failure *failure);
extern int64_t pqp_open_deadline(const PoolOptions *options);
extern void pqp_opening_waits(const Pool *pool, Failure *failure); /* lock held */

/* open.c: making connections.  No lock held. */
extern void pqp_open_task(Task *task);
extern void pqp_open_failed(Pool *pool, Work *work, const Failure *failure,
							int64_t now);				/* lock held */
extern void pqp_opening_rests(Pool *pool, int64_t now); /* likewise */
extern bool pqp_opened(Slot *slot, PGconn *conn, int64_t began, int64_t took,
					   const Borrower *borrower);
extern bool pqp_open_slot(Slot *slot, int64_t deadline, const Borrower *borrower);
extern void pqp_lost(Slot *slot); /* NULL: nothing to do */
extern bool pqp_is_proxy_refusal(const char *message);
extern bool pqp_identity(Pool *pool, char *buf, size_t size, bool knock);

/* cancel.c */
extern struct Request *pqp_cancel_insist(PGconn *conn);
extern void pqp_cancel_ended(struct Request *request);

/* close.c: ending them.  No lock held. */
extern void pqp_close_slots(Slot *chain);
extern void pqp_close_batch(Task *chain);

/* check.c: is it alive, is it clean?  For the owner of the PGconn; no lock held. */
extern bool pqp_discard_all(Slot *slot, int64_t deadline);
extern bool pqp_discard_send(Slot *slot);
extern Progress pqp_discard_progress(Slot *slot);
extern bool pqp_alive(Slot *slot);
extern bool pqp_round_trip(Slot *slot, int64_t deadline);
extern bool pqp_on_target(const Slot *slot);
extern bool pqp_clean(Slot *slot, const PoolOptions *options, int64_t deadline, bool *commanded);
extern void pqp_quiet(Slot *slot);
extern const char *pqp_text(Slot *slot);

/* allotment.c: what the server grants.  With the pool's lock held. */
extern bool pqp_obeys(const Pool *pool);
extern int pqp_limit(const Pool *pool);
extern bool pqp_server_paused(const Pool *pool);
extern bool pqp_may_open(const Pool *pool);
extern void pqp_connected(Pool *pool, uint64_t serial, const char *text, int64_t began);
extern void pqp_heard(Pool *pool, uint64_t serial, const char *text);
extern bool pqp_reports(const Pool *pool);
extern void pqp_answered(Pool *pool, uint64_t serial, const char *text, int64_t sent);
extern int64_t pqp_report_due(Pool *pool, int64_t now);
extern int64_t pqp_knock_due(Pool *pool, int64_t now);

/* report.c: reports and knocks */
extern bool pqp_report_begin(Pool *pool, Work *work, int64_t now); /* lock held */
extern bool pqp_report_run(Pool *pool, bool readable); /* keeper, no lock; false: none in flight */
extern void pqp_knock(Pool *pool, bool bye);		   /* keeper, no lock */

/* helper.c, keeper.c */
extern void pqp_helper_submit(Task *task);
extern bool pqp_thread_start(void *(*run)(void *), void *arg);
extern bool pqp_keeper_ensure(void);
extern bool pqp_keeper_running(void);
extern bool pqp_keeper_there(void); /* it, or callers in its place */
extern void pqp_keeper_visit(void);
extern bool pqp_keeper_visited(void); /* somebody is at it */
extern void pqp_keeper_kick(void);
extern void pqp_helper_lock(void);
extern void pqp_helper_unlock(void);
extern void pqp_helper_renew(void);
extern void pqp_helper_forked(void); /* in the child, locked */
extern void pqp_keeper_lock(void);
extern void pqp_keeper_unlock(void);
extern void pqp_keeper_renew(void);
extern void pqp_keeper_forked(void); /* in the child, locked */

/* fork.c */
extern void pqp_watch_forks(void);
extern int pqp_dev_null;		   /* -1: none */
extern void pqp_fork_begins(void); /* handlers of pthread_atfork: all locks, before and after it */
extern void pqp_fork_ends(void);
extern void pqp_fork_in_child(void);
extern void pqp_nascent(Nascent *nascent, PGconn *conn);
#define PQP_PAGE_CLEAN 2
extern const _Atomic uint32_t *pqp_fork_page;
extern void pqp_after_fork_slowly(void);

/*
 * Every public function that looks at anything calls this first.  The page is
 * wiped by the kernel in any child, however made.
 */
static inline void
pqp_after_fork(void)
{
	if (__builtin_expect(
			atomic_load_explicit(pqp_fork_page, memory_order_acquire) != PQP_PAGE_CLEAN, 0))
		pqp_after_fork_slowly();
}

#endif /* PQP_INTERNAL_H */
