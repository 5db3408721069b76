/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  The pool, its slots, and who may touch what.
 *
 * Actors:
 *	callers		any thread, inside a pqpool_ function
 *	helpers		at most PQP_MAX_HELPERS threads, made on demand: what blocks (connect, close,
 *				roll back what a dead thread left, cancel, knock) is theirs
 *	keeper		one thread: timers and reports; never blocks but in poll()
 *
 * Life of a slot (pool->count[] has the numbers; their sum is the pool's size):
 *
 *		          opened                  lent
 *		OPENING ----------> IDLE <----------------> IN_USE
 *		   |                 |  ^                     |
 *		   | failed          |  |                     | released
 *		   v                 |  +----- RESETTING <----+
 *		 (gone) <-- CLOSING <+------------+
 *
 *	A waiter can be granted a slot straight from OPENING or RESETTING.  A slot
 *	that the keeper has borrowed, for a report or a look, is IDLE, but not in the idle list.
 *	Who has taken a slot out of IDLE owns its PGconn until the state changes again;
 *	nobody else touches the PGconn, so it needs no lock.
 *
 * Locks, in the order in which they may be taken together:
 *	1. registry (registry.c)	list of pools, default pool, graveyard
 *	2. lookup shard (lookup.c)	chains of slots by PGconn
 *	3. pool->lock				all fields of Pool and Slot not marked otherwise
 *	4. leaves: helper queue, keeper, quarantine; nothing is locked inside them
 *	Under none of them: I/O, libpq calls that do any, thread creation, wake-ups.
 *	What has to be done about a pool once its lock is dropped is collected in a Work.
 *
 * Lifetime of a pool: refs counts the handle, each slot, each waiter, each
 * scope and each visitor (keeper, task).  The last one puts it in the
 * graveyard, where it lies for a while, so that a caller with a stale handle
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

#define PQPOOL_NO_MACROS
#include "pqpool.h"

#include "link.h"
#include "options.h"
#include "waitq.h"

#define PQP_MAX_HELPERS 4		/* threads per process */
#define PQP_MAX_OPENING 2		/* connections that a pool opens at once */
#define PQP_TRUST_US 5000		/* found alive less than this ago: still is */
#define PQP_PATIENCE_US 1000000 /* failing for longer: waiters are told */
#define PQP_CLOSE_MS 1000		/* longest wait for the server to end a session */
#define PQP_REPORT_MS 5000 /* longest a report may take: a server short of CPU is no dead one */

typedef struct pqpool Pool;
typedef struct Slot Slot;
typedef struct Task Task;

/* Something for a helper thread to do.  Embedded in what it is about. */
struct Task
{
	Task *next;
	enum
	{
		TASK_OPEN,
		TASK_CLOSE,
		TASK_OTHER
	} kind;					 /* opens are capped, closes are done in batches */
	void (*run)(Task *task); /* not for TASK_CLOSE */
};

typedef enum SlotState
{
	SLOT_OPENING,
	SLOT_IDLE,
	SLOT_IN_USE,
	SLOT_RESETTING,
	SLOT_CLOSING,
} SlotState;

#define SLOT_STATES (SLOT_CLOSING + 1)

struct Slot
{
	Task task;		 /* owned by whoever owns the PGconn */
	Pool *pool;		 /* constant; NULL: a thread's own connection */
	int index;		 /* constant: pool->slots[index] is this one */
	uint64_t serial; /* constant, never reused */

	PGconn *conn;			   /* constant while in the table; NULL before */
	Slot *chain;			   /* lookup shard lock: next with the same hash */
	bool in_table;			   /* lookup shard lock */
	PGconn *half_open;		   /* being connected; for fork.c */
	int end_fd;				   /* duplicate of the socket of a finished conn; for fork.c */
	_Atomic bool lost;		   /* the user has closed conn: never touch it */
	bool doomed;			   /* a thread's own: to be closed when given back */
	PQnoticeReceiver receiver; /* libpq's defaults, to be restored */
	PQnoticeProcessor processor;

	SlotState state;
	Slot *newer, *older; /* idle list */
	bool borrowed;		 /* idle, but with the keeper */
	uint32_t generation; /* pool->generation when opening began */
	uint32_t suspicion;	 /* pool->suspicion when last asked and found alive */
	uint32_t look;		 /* pool->look when the keeper last looked at its socket */
	int64_t alive_at;	 /* us: last found alive, by looking */
	int64_t idle_since;	 /* us: last given back */
	int64_t heard_at;	 /* us: when it was last looked for an allotment */
	int64_t retire_at;	 /* us: end of lifetime; INT64_MAX: never */
	int backend_pid;

	/* the loan, while IN_USE (last_thread: of the last one) */
	uint64_t last_thread; /* serial of the borrowing thread */
	bool bound;			  /* only that thread may give it back */
	int64_t lent_at;	  /* us */
	const char *site;
	pid_t tid;
	bool fatal;	 /* the server said that it ends the session */
	int cancels; /* pqpool_cancel calls under way */

	/* a thread's own connection only: touched by its thread only */
	int own_loans;
};

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
	bool lowered;		 /* an epoch lowered the limit: report when size has come down */
	bool urgent;		 /* report at once */
	int64_t reported_at; /* us: last report begun; 0: never */
	int64_t attached_at; /* us: first text of the current incarnation */
	int64_t answered_at; /* us: last report acknowledged; 0: never */
	int64_t knocked_at;	 /* us: last knock begun; 0: never */
	bool knocking;
	bool bye_pending; /* closed, and the server has to be told */
	double jitter;	  /* of the current interval: 0.9 .. 1.1 */
} Link;

/* Since the pool was opened; see pqpool_statistics. */
typedef struct Counters
{
	uint64_t acquires, timeouts, failures, opened, closed, open_failures;
	uint64_t found_dead, discarded, resets, abandoned, finished, reports;
	uint64_t wait[PQP_BUCKETS];
	uint64_t hold[PQP_BUCKETS];
} Counters;

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

struct pqpool
{
	pthread_mutex_t lock;
	uint64_t serial;	  /* constant */
	PoolOptions options;  /* constant */
	char id[PQP_ID_SIZE]; /* constant, but in a forked child */

	/* registry lock */
	Pool *next;
	bool listed;
	int64_t buried_at; /* us */

	/* pool->lock, from here to the end */
	int refs;
	bool closed;
	bool paused;
	int min_size;
	int max_size;
	int count[SLOT_STATES];
	Slot **slots; /* nslots places, NULL where free */
	int nslots;
	Slot *newest, *oldest; /* idle list, by last use */
	int borrowed;		   /* idle, but with the keeper: back at once */
	WaitQueue waiters;
	uint32_t generation;		/* older slots are not lent again: pqpool_drain */
	_Atomic uint32_t suspicion; /* slots not found alive since it changed are checked harder */
	uint32_t look;				/* the keeper looks at idle ones whenever it changes */
	int64_t looked_at;			/* us: when it last did so without cause */
	pthread_cond_t changed;		/* size or generation's remainder went down; only if watchers */
	int watchers;

	Failure failure; /* of the last attempt; code PQPOOL_OK: it succeeded */
	int failures_in_a_row;
	int64_t failing_since; /* us */
	int64_t retry_at;	   /* us: no attempt before */
	bool spare_wanted;	   /* a try found nothing: open one without a waiter */

	Link link;
	Report report;
	int64_t keeper_due; /* us: when the keeper plans to look again */

	Counters counters;
};

/* What to do about a pool once its lock is dropped. */
typedef struct Work
{
	Waiter *wake; /* granted or failed, to be woken */
	Slot *close;  /* in state CLOSING, chained by task.next */
	Slot *open;	  /* in state OPENING, likewise */
	Slot *reset;  /* in state RESETTING, likewise: left by a thread that ended */
	bool kick;	  /* the keeper has to look earlier than planned */
} Work;

/* Who borrows, for the loan. */
typedef struct Borrower
{
	uint64_t thread;
	pid_t tid;
	bool bound;
	const char *site;
} Borrower;

/* One caller in acquire.  The queue knows only its first member. */
typedef struct Caller
{
	Waiter waiter; /* must be first; waiter.item is a Slot */
	Borrower borrower;
	int64_t since;	  /* us */
	int64_t deadline; /* us */
} Caller;

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
	int bound;			/* bound loans out, at least */
	uint64_t last_pool; /* where it had its last loan */
	int last_index;

	ScopeEntry *scopes;
	uint32_t depth;
	uint32_t capacity;
	uint32_t scope_count; /* ever entered */

	Slot *own;				 /* the thread's own connection */
	PoolOptions own_options; /* by which it was opened */
} Thread;

/* clock.c */
extern int64_t pqp_now(void);								  /* us, CLOCK_MONOTONIC */
extern int64_t pqp_boottime(void);							  /* us, runs on while suspended */
extern int64_t pqp_deadline(int64_t now, int64_t timeout_ms); /* negative: never */
extern int pqp_poll_ms(int64_t deadline); /* what is left, for poll(); rounded up */
extern double pqp_random(void);			  /* 0 .. 1, for jitter only */
extern uint64_t pqp_next_serial(void);	  /* unique in the process, from 1 */

/* error.c */
extern int pqp_error_clear(pqpool_error *err);
extern int pqp_error_set(pqpool_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern int pqp_error_cause(pqpool_error *err, const Failure *failure);
extern void pqp_failure_set(Failure *failure, int code, const char *text);
extern void pqp_failure_of_connect(Failure *failure, PGconn *conn);

/* registry.c: all pools of the process, the default one, and the dead */
extern void pqp_registry_add(Pool *pool);
extern void pqp_registry_bury(Pool *pool);
extern bool pqp_registry_sweep(int64_t now, int64_t *next);
extern int pqp_registry_visit(Pool ***pools, int *capacity);
extern void pqp_registry_lock(void);
extern void pqp_registry_unlock(void);
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
extern void pqp_lookup_take_all(Slot **chain); /* all locked */

/* stats.c */
extern int pqp_leaks(const Pool *pool, int64_t now);

/* thread.c */
extern Thread *pqp_thread(void); /* NULL: out of memory */
extern Thread *pqp_thread_if_any(void);

/* default.c, scope.c */
extern void pqp_default_lock(void);
extern void pqp_default_unlock(void);
extern void pqp_default_forked(void); /* in the child, locked */
extern PGconn *pqp_scope_get(Thread *thread, const char *site, pqpool_error *err);
extern void pqp_scope_unwind(Thread *thread, uint32_t depth);
extern int pqp_own_return(Slot *slot, bool keep);
extern void pqp_own_close(Thread *thread);

/* pool.c: with the lock held, unless said otherwise */
extern int pqp_size(const Pool *pool);
extern bool pqp_make_room(Pool *pool, int n);
extern void pqp_claim(Slot *slot);
extern Slot *pqp_idle_best(Pool *pool, const Thread *thread);
extern void pqp_pump(Pool *pool, Work *work, int64_t now);
extern void pqp_lend(Slot *slot, const Borrower *borrower, int64_t since, int64_t now);
extern bool pqp_hopeless(const Pool *pool, int64_t now);
extern void pqp_put_back(Slot *slot, Work *work, int64_t now);
extern void pqp_retire(Slot *slot, Work *work);
extern void pqp_idle_add(Slot *slot);
extern void pqp_idle_remove(Slot *slot);
extern void pqp_idle_borrow(Slot *slot);	 /* by the keeper: out of the list */
extern void pqp_idle_bring_back(Slot *slot); /* not yet into the list */
extern void pqp_server_ended(Pool *pool, Work *work, int64_t now);
extern void pqp_fail_waiters(Pool *pool, Work *work, int code);
extern void pqp_nudge(Pool *pool, Work *work, int64_t when);
extern void pqp_ref(Pool *pool);
extern void pqp_unref(Pool *pool);				/* takes the lock itself */
extern void pqp_unlock(Pool *pool, Work *work); /* drops the lock and does the work */

/* steer.c, acquire.c, thread.c: no lock held */
extern Pool *pqp_pool_create(const char *conninfo, pqpool_error *err);
extern void pqp_pool_free(Pool *pool);
extern PGconn *pqp_acquire(Pool *pool, int timeout_ms, bool bound, const char *site,
						   pqpool_error *err);
extern int pqp_shut(Pool *pool, int timeout_ms, bool idle_only);
extern void pqp_abandon(Thread *thread);

/* open.c: making connections.  No lock held. */
extern PGconn *pqp_connect(const PoolOptions *options, const char *identity, int64_t deadline,
						   PGconn **half_open, Failure *failure);
extern void pqp_open_task(Task *task);
extern bool pqp_open_slot(Slot *slot, int64_t deadline, const Borrower *borrower);
extern void pqp_lost(Slot *slot); /* NULL: nothing to do */
extern int64_t pqp_open_deadline(const PoolOptions *options);
extern bool pqp_identity(Pool *pool, char *buf, size_t size, bool knock);

/* cancel.c */
extern void pqp_cancel_and_forget(PGconn *conn);

/* close.c: ending them.  No lock held. */
extern void pqp_close_slots(Slot *chain);
extern void pqp_close_batch(Task *chain);

/* check.c: is it alive, is it clean?  For the owner of the PGconn; no lock held. */
extern bool pqp_alive(Slot *slot);
extern bool pqp_round_trip(Slot *slot, int64_t deadline);
extern bool pqp_clean(Slot *slot, const PoolOptions *options, int64_t deadline, bool *commanded);
extern void pqp_quiet(Slot *slot);
extern void pqp_restore(Slot *slot);
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
extern bool pqp_helper_submit(Task *task);
extern bool pqp_thread_start(void *(*run)(void *), void *arg);
extern bool pqp_keeper_ensure(void);
extern bool pqp_keeper_running(void);
extern void pqp_keeper_kick(void);
extern void pqp_helper_lock(void);
extern void pqp_helper_unlock(void);
extern void pqp_helper_forked(void); /* in the child, locked */
extern void pqp_keeper_lock(void);
extern void pqp_keeper_unlock(void);
extern void pqp_keeper_forked(void); /* in the child, locked */

/* fork.c */
extern void pqp_after_fork(void);

#endif /* PQP_INTERNAL_H */
