/*-------------------------------------------------------------------------
 *
 * pqpool.h
 *	  libpqpool: a thread-safe connection pool over libpq.
 *
 * This header is the manual.  In five lines:
 *
 *		pqpool_error err;
 *		pqpool	   *pool = pqpool_open("dbname=shop pool_name=orders pool_max_size=20", &err);
 *		PGconn	   *conn = pqpool_acquire(pool, -1, &err);
 *
 *		PQexec(conn, "SELECT 1");		... any libpq call that you like ...
 *		pqpool_release(conn);
 *
 * A loan is a plain PGconn.  Do with it what libpq allows, but never PQfinish
 * or PQreset it, and do not touch it after it has been released.
 *
 * Contents:	1. Rules that hold for every call
 *				2. Options
 *				3. Errors
 *				4. Pools: open, acquire, release
 *				5. Steering a pool
 *				6. Looking at a pool
 *				7. The default pool, and a thread's own connection
 *				8. Scopes
 *				9. Event loops
 *				10. Hooks and events
 *				11. Version and features
 *
 *
 * 1. RULES THAT HOLD FOR EVERY CALL
 *
 * Threads.  Every function may be called from any thread at any time, with two
 * exceptions, both stated where they apply: a bound loan is given back by its
 * own thread, and after pqpool_close() nobody may begin a call with that pool
 * any more (calls that have begun end with PQPOOL_CLOSED).  One PGconn is still
 * one thread's at a time, as libpq demands.
 *
 * Blocking.  A call blocks only where its comment says so, and never beyond the
 * deadline stated there.  The pool never does I/O, name look-ups or closes
 * connections while it holds a lock, so a hanging server delays those who wait
 * for it and nobody else.
 *
 * Deadlines are absolute: one timeout_ms covers waiting, checking, resetting
 * and connecting together.  They are measured by CLOCK_MONOTONIC.
 *
 * Errors.  A function that can fail in more than one way takes a pqpool_error
 * as its last argument.  It may be NULL. It is always written, with code
 * PQPOOL_OK on success, and needs neither initialization nor freeing.  The
 * other functions return a code.  Nothing is ever printed.
 *
 * errno is preserved by the functions that give a connection back.
 *
 * Cancellation.  No function is a cancellation point (pthread_cancel).
 *
 * Signals.  No function is async-signal-safe.  SIGPIPE is left to libpq, which
 * suppresses it.  Helper threads block all signals.
 *
 * Helper threads.  At most one housekeeping thread and twelve that open, close and
 * mend connections, per process and not per pool; with more than four pools two
 * for each and four, at most 68; and one for each cancel under way.  They are
 * started when first needed, and gone when there is nothing to do: the first
 * when the last pool has been closed, the others after ten seconds.  Where none
 * can be started, the caller does the work.
 *
 * Descriptors.  One per connection, for a moment two while it is being closed;
 * two per process for as long as it lives, and one per inbox.
 *
 * Fork.  A child may use every pool that its parent has open, as its own pool
 * of the same options: it starts empty, with an id of its own.  The parent's
 * connections are the parent's; a loan that was out is not usable in the child,
 * where releasing it answers PQPOOL_UNKNOWN_CONNECTION.
 *
 * Exit.  Nothing needs to be called before exit().  Connections still open are
 * then cut by the kernel; call pqpool_close() first if the server's log
 * matters.
 *
 * dlopen.  The library stays in memory once loaded (-z nodelete).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQPOOL_H
#define PQPOOL_H

#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

/* clang-format off */
#ifdef __cplusplus
#define PQPOOL_C_BEGIN extern "C" {
#define PQPOOL_C_END }
#else
#define PQPOOL_C_BEGIN
#define PQPOOL_C_END
#endif
/* clang-format on */

#if defined(__GNUC__)
#define PQPOOL_API __attribute__((visibility("default")))
#define PQPOOL_WARN_UNUSED __attribute__((warn_unused_result))
#else
#define PQPOOL_API
#define PQPOOL_WARN_UNUSED
#endif

PQPOOL_C_BEGIN

/*
 * 2. OPTIONS
 *
 * Options ride in the connection string, in either of libpq's forms:
 *
 *		host=db dbname=shop pool_name=orders pool_max_size=20
 *		postgresql://db/shop?pool_name=orders&pool_max_size=20
 *
 * The pool takes out what begins with pool_ and gives the rest to libpq as it
 * stands, so that hosts, TLS, service files and .pgpass just work.  An unknown
 * pool_ option is an error that names it.  Each can also be set in the
 * environment, in capitals with PQ before it (PQPOOL_MAX_SIZE); the string
 * wins.
 *
 * Durations are numbers with a unit, as in postgresql.conf: us, ms, s, min, h,
 * d; without one, milliseconds.
 *
 * option				default		meaning
 * pool_name			(see below)	what the pool is called in messages and on the server; at most 63 bytes
 * pool_min_size		0			connections kept open, idle or not
 * pool_max_size		10			connections that may exist, in whatever state
 * pool_acquire_timeout	30s			deadline of an acquire that does not give its own.  -1: none
 * pool_idle_timeout	10min		idle for longer, and above the minimum: closed.  0: never
 * pool_max_lifetime	30min		older (less 5 to 15 %, at random): replaced, one at a time.  0: never
 * pool_validate_after	30s			idle for longer: a round trip before it is lent.  0: always, -1: never
 * pool_peek_after		5ms			not looked at for longer: its socket is, before it is lent.  0: always
 * pool_reset			rollback	what happens to a returned connection, see pqpool_release()
 * pool_reset_timeout	5s			deadline of that, after which the connection is discarded
 * pool_leak_after		5min		a loan out for longer counts as a leak.  0: never
 * pool_max_waiters		0			callers that may wait; one more fails.  0: ten times pool_max_size
 * pool_report			on			tell a server that has pgpool_monitor how the pool fares (off: only the name)
 * pool_limits			obey		obey the number of connections such a server allots (ignore: do not)
 * pool_bind			none		thread: loans of pqpool_acquire() are bound to the calling thread
 *
 * Without pool_name the pool is called as application_name says, else by the
 * program's name.
 *
 * Of libpq's own, connect_timeout applies to each address, as it does there;
 * without it, the next address is tried after 5 s, and a server that is the only
 * one is waited for as long as pool_acquire_timeout, at least 10 s and at most a
 * minute.  Where nothing else is said, keepalives_idle=30, keepalives_interval=10
 * and keepalives_count=3, so that a network that dies while nothing is on its way
 * is noticed.
 *
 * A server without the extension pgpool_monitor needs nothing and sees two
 * settings that mean nothing to it.  With it, the pool shows up in
 * pgpool_monitor.pools under its name, and may be told to hold fewer
 * connections than pool_max_size (see pqpool_limits()), never more.
 */

/*
 * 3. ERRORS
 *
 * One table: code, number, text.  Numbers are part of the ABI and never change
 * meaning.
 */
#define PQPOOL_CODES(X)                                                              \
	X(PQPOOL_OK, 0, "success")                                                       \
	/* no connection in time; another attempt may succeed */                         \
	X(PQPOOL_TIMED_OUT, 1, "no connection became free in time")                      \
	X(PQPOOL_EXHAUSTED, 2, "too many callers are waiting already")                   \
	X(PQPOOL_OVER_ALLOTMENT, 3, "all connections that the server allots are in use") \
	X(PQPOOL_PAUSED, 4, "the pool is paused")                                        \
	X(PQPOOL_QUEUED, 5, "the server has no connection for this pool yet")            \
	/* no connection because of the server */                                        \
	X(PQPOOL_SERVER_FULL, 10, "the server has no connection left")                   \
	X(PQPOOL_SERVER_DOWN, 11, "the server cannot be reached")                        \
	X(PQPOOL_REFUSED, 12, "the server refuses this login")                           \
	X(PQPOOL_HOOK, 13, "the program's own hook refuses the connection")              \
	/* no connection because of the caller */                                        \
	X(PQPOOL_CLOSED, 20, "the pool is closed")                                       \
	X(PQPOOL_DEADLOCK, 21, "all connections are held by threads that wait for one")  \
	/* mistakes in the program */                                                    \
	X(PQPOOL_BAD_OPTION, 30, "bad option in the connection string")                  \
	X(PQPOOL_BAD_ARGUMENT, 31, "bad argument")                                       \
	X(PQPOOL_ALREADY_INITIALIZED, 32, "the default pool is open already")            \
	X(PQPOOL_NOT_LENT, 33, "the connection has been given back already")             \
	X(PQPOOL_UNKNOWN_CONNECTION, 34, "the connection is not one of a pool's")        \
	X(PQPOOL_WRONG_THREAD, 35, "the connection or scope belongs to another thread")  \
	X(PQPOOL_SCOPE_ORDER, 36, "the scope was left out of order or twice")            \
	/* the machine */                                                                \
	X(PQPOOL_OUT_OF_MEMORY, 40, "out of memory")                                     \
	X(PQPOOL_SYSTEM, 41, "the operating system refused")

typedef enum pqpool_code
{
#define PQPOOL_CODE_ENUM(name, number, text) name = number,
	PQPOOL_CODES(PQPOOL_CODE_ENUM)
#undef PQPOOL_CODE_ENUM
} pqpool_code;

/*
 * What went wrong.  Lives where the caller wants it (2 KiB), holds no pointers,
 * may be copied and kept.
 *
 * message is complete, in one line, and fit for a log: figures and cause are in
 * it. cause is libpq's own text, as it came, if libpq had a say; else empty.
 * If it is too long its middle is left out. sqlstate is the server's, else
 * empty.
 *
 * After a failed acquire:
 *	TIMED_OUT, OVER_ALLOTMENT, QUEUED, PAUSED	the deadline passed; which of them says what
 *					the pool was waiting for (any, the server's limit, a place on the
 *					server, pqpool_resume)
 *	EXHAUSTED		at once: pool_max_waiters callers wait already
 *	SERVER_DOWN		connecting has failed for a second, and nothing is open that could come back.
 *					Early, not only at the deadline; cause and sqlstate say why
 *	SERVER_FULL		the same, because the server is at its max_connections (SQLSTATE 53300)
 *	REFUSED			the same, but at once, as trying again will not help: password, role, database
 *	CLOSED			pqpool_close() was called before or meanwhile
 */
typedef struct pqpool_error
{
	int code;		  /* a pqpool_code */
	char sqlstate[8]; /* five characters, or empty */
	char reserved[52];
	char message[1024];
	char cause[960];
} pqpool_error;

/*
 * Tells a code's name ("PQPOOL_TIMED_OUT"), or what it means, in English.
 *
 * Returns a string that is there for ever; never NULL, also for unknown codes.
 */
PQPOOL_API const char *pqpool_code_name(int code);
PQPOOL_API const char *pqpool_strerror(int code);

/*
 * 4. POOLS
 */
typedef struct pqpool pqpool;

/*
 * Opens a pool. conninfo: libpq's and the options above; NULL is the same as
 * "".
 *
 * Does no network I/O: connections are opened when they are needed, those of
 * pool_min_size in the background.  So success does not mean that a server is
 * there; who wants to know acquires one.
 *
 * Returns NULL on error: BAD_OPTION (message names the option), OUT_OF_MEMORY.
 * Close with pqpool_close().
 */
PQPOOL_API pqpool *pqpool_open(const char *conninfo, pqpool_error *err) PQPOOL_WARN_UNUSED;

/*
 * Borrows a connection. timeout_ms: -1 for the pool's pool_acquire_timeout, 0
 * to take only what is there now, else milliseconds.
 *
 * Blocks until a connection is free, or could be opened, or the deadline has
 * passed.  First come, first served: once anybody waits, newcomers queue
 * behind, and a returned connection goes straight to the one at the head.  With
 * nobody waiting the thread gets the connection that it had last, else the one
 * given back last.
 *
 * With timeout 0 it does not wait and does not connect (but if none was free,
 * the pool opens one, so that a later try finds it).
 *
 * The connection is idle (no transaction) and alive, as far as one can know:
 * its socket is looked at, unless that was done less than pool_peek_after ago;
 * and if it was idle for pool_validate_after, or another connection was found dead since,
 * it has answered a round trip (not with timeout 0).  What the server closed
 * 10 ms before the call is not handed out.
 *
 * The loan is unbound unless pool_bind=thread: any thread may use and release
 * it (one at a time), and the end of a thread does not touch it.  The caller
 * owes exactly one pqpool_release() or pqpool_discard(), before or after the
 * pool is closed.
 *
 * Returns NULL on error: see pqpool_error.  Also BAD_ARGUMENT (pool is NULL,
 * timeout below -1), OUT_OF_MEMORY.
 *
 * A macro of the same name notes the call site for leak reports;
 * pqpool_acquire_at() is for wrappers that have their own: a string that
 * outlives the loan, or NULL.
 */
PQPOOL_API PGconn *pqpool_acquire(pqpool *pool, int timeout_ms,
								  pqpool_error *err) PQPOOL_WARN_UNUSED;
PQPOOL_API PGconn *pqpool_acquire_at(pqpool *pool, int timeout_ms, pqpool_error *err,
									 const char *site) PQPOOL_WARN_UNUSED;

/*
 * Gives a loan back.  The connection knows its pool.
 *
 * What happens to it goes by its state, and by pool_reset:
 *
 *		idle						kept
 *		in a transaction, or failed	ROLLBACK, then kept (none: discarded)
 *		query running, COPY, results
 *		not read, pipeline mode		discarded: closed in the background
 *		broken						discarded
 *
 *									none	rollback	discard
 *	transaction of the last holder	no		no			no
 *	SET, temporary tables, LISTEN,
 *	prepared statements, cursors
 *	WITH HOLD, advisory locks, role	yes		yes			no (DISCARD ALL)
 *	client_encoding					yes		yes			no
 *	notice processor and receiver,
 *	verbosity, trace, nonblocking	no		no			no
 *	NOTIFYs received, not read		no		no			no
 *	libpq event procedures			yes		yes			yes
 *
 *	(yes: the next holder may see it.  rollback is the default; with none, a connection
 *	that would need a ROLLBACK is not worth one.)
 *
 * Blocks only for a ROLLBACK, one round trip, and no longer than
 * pool_reset_timeout; so when it returns, the transaction's locks are gone.  A
 * DISCARD ALL goes on in the background, with the same deadline, and the
 * connection is not lent before it is done.
 *
 * Returns PQPOOL_OK; NOT_LENT (was given back before), UNKNOWN_CONNECTION
 * (never came from a pool, or is gone), WRONG_THREAD (bound to another thread);
 * BAD_ARGUMENT (NULL).  None of these harms anybody: the pool looks the pointer
 * up and does not follow it.  A loan of a pool that was closed is closed, and
 * that is PQPOOL_OK.
 *
 * Also takes what pqpool_get_connection() gave: the same as
 * pqpool_return_connection().
 */
PQPOOL_API int pqpool_release(PGconn *conn);

/*
 * Gives a loan back to be closed: as pqpool_release(), but without mending the
 * connection.  It is closed in the background, and the pool opens another when
 * needed.  Never blocks.
 *
 * Returns as pqpool_release().
 */
PQPOOL_API int pqpool_discard(PGconn *conn);

/*
 * Unbinds a loan from its thread, or binds it to one.  A bound loan belongs to
 * a thread: nobody else can give it back, and if the thread ends without doing
 * so, the pool takes it back, rolls it back and counts it as abandoned.  Loans of
 * pqpool_get_connection() are bound, and those of pqpool_acquire() are with
 * pool_bind=thread.
 *
 * pqpool_transfer() unbinds a loan of the calling thread, so that another may
 * have it.  pqpool_adopt() binds an unbound loan to the calling thread.  Doing
 * it again is no error.  A handover is transfer in one thread, adopt in the
 * other.
 *
 * Never block.  Return PQPOOL_OK, NOT_LENT, UNKNOWN_CONNECTION, WRONG_THREAD
 * (bound to another thread; or a thread's own connection, which cannot be
 * handed over), OUT_OF_MEMORY (the thread is new to the library).
 */
PQPOOL_API int pqpool_transfer(PGconn *conn);
PQPOOL_API int pqpool_adopt(PGconn *conn);

/*
 * Asks the server to cancel what runs on a loan, as PQcancel() does; from any
 * thread, while the loan is out.  Use it in place of a PGcancel, which, kept
 * too long, hits the next holder: here, a connection given back while a cancel
 * is under way is discarded.
 *
 * Blocks until the server has taken the request, at most timeout_ms (-1: five
 * seconds), which PQcancel() does not promise.  Success does not mean that the
 * query was cancelled, only that the server was told; the query's own result
 * says how it ended.  Also for a thread's own connection.
 *
 * Returns PQPOOL_OK, NOT_LENT, UNKNOWN_CONNECTION, TIMED_OUT (the request may
 * still get through), SERVER_DOWN (with cause), OUT_OF_MEMORY, SYSTEM.
 */
PQPOOL_API int pqpool_cancel(PGconn *conn, int timeout_ms, pqpool_error *err);

/*
 * Closes a pool and sets the variable to NULL. Closing NULL is PQPOOL_OK: twice
 * is no error.
 *
 * At once: waiters fail with PQPOOL_CLOSED, nothing is lent any more, idle
 * connections are closed in the background.  Loans that are out stay usable and
 * are closed when given back.
 *
 * Blocks until loans are back and connections closed, at most timeout_ms; 0:
 * not at all; -1: as long as it takes.  Loans bound to the calling thread are
 * not waited for.
 *
 * Returns PQPOOL_OK, or PQPOOL_TIMED_OUT when something was still out; the pool
 * is closed either way.
 *
 * The caller must see to it that no other thread begins a call with a copy of
 * the pointer afterwards.
 */
PQPOOL_API int pqpool_close(pqpool **pool, int timeout_ms);

/*
 * 5. STEERING A POOL
 */

/*
 * Sets pool_min_size and pool_max_size; -1 leaves one as it is.  Raising wakes
 * waiters; when lowering, idle connections above the maximum are closed at
 * once, others when they are given back.
 *
 * Does not block.  Returns PQPOOL_OK, BAD_ARGUMENT (max below 1, min above
 * max), CLOSED, OUT_OF_MEMORY.
 */
PQPOOL_API int pqpool_resize(pqpool *pool, int min_size, int max_size, pqpool_error *err);

/*
 * Stops a pool's lending, or lets it go on: after pqpool_pause() acquires wait,
 * to their deadline (PQPOOL_PAUSED), until pqpool_resume().  Loans that are out
 * are not touched.  Pausing twice needs one resume.  Never block.
 *
 * The server's administrator can pause a pool as well (pgpool_monitor.pause());
 * pqpool_limits() tells, and pqpool_resume() does not end it.
 *
 * Return PQPOOL_OK, CLOSED, BAD_ARGUMENT.
 */
PQPOOL_API int pqpool_pause(pqpool *pool);
PQPOOL_API int pqpool_resume(pqpool *pool);

/*
 * Replaces every connection that is open now: idle ones are closed at once,
 * loans when they are given back.  For after a failover, or a change of
 * password.  The pool goes on lending, on new connections; pause it first to
 * empty it.
 *
 * Blocks until the old ones are gone, at most timeout_ms; 0: not at all; -1: as
 * long as it takes.
 *
 * Returns PQPOOL_OK, TIMED_OUT (the rest follow as they come back), CLOSED,
 * BAD_ARGUMENT.
 */
PQPOOL_API int pqpool_drain(pqpool *pool, int timeout_ms);

/*
 * 6. LOOKING AT A POOL
 *
 * Structs that may grow are passed with their size, by a macro, so that a
 * program compiled against an older header gets what it knows, and one against
 * a newer header gets zeros.
 */

/*
 * Tells a pool's name, or its id: what tells this pool object from all others
 * (drawn anew in a forked child).
 *
 * Returns a string that is valid until the pool is closed; never NULL.
 */
PQPOOL_API const char *pqpool_name(const pqpool *pool);
PQPOOL_API const char *pqpool_id(const pqpool *pool);

#define PQPOOL_BUCKETS 32
#define PQPOOL_ERRORS 48 /* codes are below */

/* Why the pool closed a connection. */
typedef enum pqpool_close_reason
{
	PQPOOL_CLOSE_IDLE,	   /* pool_idle_timeout */
	PQPOOL_CLOSE_LIFETIME, /* pool_max_lifetime */
	PQPOOL_CLOSE_LIMIT,	   /* above pool_max_size, or what the server allots */
	PQPOOL_CLOSE_DRAIN,	   /* pqpool_drain() */
	PQPOOL_CLOSE_DEAD,	   /* dead, ended by the server, or off target_session_attrs */
	PQPOOL_CLOSE_UNFIT,	   /* given back in a state that is not worth mending, or mending failed */
	PQPOOL_CLOSE_DISCARD, /* pqpool_discard(), or given back while a pqpool_cancel() was under way */
	PQPOOL_CLOSE_FINISHED,	  /* by its holder, with PQfinish, by mistake */
	PQPOOL_CLOSE_HOOK,		  /* a hook refused it */
	PQPOOL_CLOSE_POOL,		  /* pqpool_close() */
	PQPOOL_CLOSE_REASONS = 16 /* room for more */
} pqpool_close_reason;

typedef struct pqpool_statistics
{
	/* now; size = opening + idle + in_use + resetting + closing */
	int size;
	int opening;   /* being connected */
	int idle;	   /* ready to be lent */
	int in_use;	   /* lent */
	int resetting; /* given back, being rolled back or tidied */
	int closing;   /* until the server has ended the session */
	int waiting;   /* callers in the queue */
	int leaks;	   /* loans out for longer than pool_leak_after */
	int min_size;  /* as set */
	int max_size;  /* as set */
	int limit;	   /* what holds now: max_size, or less if the server allots less */
	int paused;	   /* by pqpool_pause() */

	/* since the pool was opened */
	uint64_t acquires;		/* that got a connection */
	uint64_t timeouts;		/* acquires that failed by their deadline */
	uint64_t failures;		/* acquires that failed in another way, see errors */
	uint64_t opened;		/* connections opened */
	uint64_t closed;		/* connections closed, for whatever reason */
	uint64_t open_failures; /* attempts to connect that failed */
	uint64_t found_dead;	/* idle connections found dead before they were lent */
	uint64_t discarded;		/* given back unfit to be kept, or by pqpool_discard() */
	uint64_t resets;		/* ROLLBACK or DISCARD ALL */
	uint64_t abandoned;		/* bound loans taken back from threads that ended */
	uint64_t finished;		/* loans that the holder closed with PQfinish, by mistake */
	uint64_t reports;		/* acknowledged by the server's pgpool_monitor */

	/*
	 * Histograms.  Bucket k counts times of at least 2^(k-1) and less than 2^k
	 * microseconds; 0: less than one; 31: that long or longer.
	 *
	 * wait: of acquires, also of those that did not wait, and of those that
	 * failed by their deadline.
	 *
	 * hold: of loans.  While a connection's loans are shorter than 64
	 * microseconds, only one in 64 is measured, and counts for all of them.
	 */
	uint64_t wait[PQPOOL_BUCKETS];
	uint64_t hold[PQPOOL_BUCKETS];

	uint64_t errors[PQPOOL_ERRORS];			  /* acquires that failed, by pqpool_code */
	uint64_t closed_by[PQPOOL_CLOSE_REASONS]; /* closed, by reason */
} pqpool_statistics;

/*
 * Reads a pool's figures: what it has now, and what it has counted since it was
 * opened.  Takes no lock, and so holds up nobody: figures of what happens at the
 * same time may differ by it, but size is always the sum of its parts.
 *
 * Returns PQPOOL_OK, BAD_ARGUMENT.
 */
#define pqpool_stats(pool, stats) pqpool_stats_sized(pool, stats, sizeof(*(stats)))
PQPOOL_API int pqpool_stats_sized(pqpool *pool, pqpool_statistics *stats, size_t size);

/* What the server's pgpool_monitor says about this pool. */
typedef enum pqpool_limit_state
{
	PQPOOL_LIMIT_NONE,	 /* nothing: no extension, not asked yet, a proxy in between */
	PQPOOL_LIMIT_OK,	 /* hold at most `limit` */
	PQPOOL_LIMIT_QUEUED, /* more pools than connections: wait for the turn */
	PQPOOL_LIMIT_PAUSED, /* paused by the administrator */
	PQPOOL_LIMIT_OFF	 /* the extension is switched off */
} pqpool_limit_state;

typedef struct pqpool_allotment
{
	int attached;		   /* the server knows this pool and echoes its id */
	int obeyed;			   /* and the pool obeys: 0 with pool_limits=ignore */
	int state;			   /* a pqpool_limit_state */
	int limit;			   /* connections that the pool may hold; -1: no limit was set */
	uint64_t epoch;		   /* version of the allotment; 0: none */
	int64_t lease_left_ms; /* 0: run out, so no more are opened; -1: no lease */
	int64_t interval_ms;   /* how often the server wants a report */
	int64_t age_ms;		   /* since the last report was acknowledged; -1: none was */
	char incarnation[64];  /* which run of the server it belongs to */
	char id[64]; /* how this pool is identified there: pgpool_monitor.instances.instance */
} pqpool_allotment;

/*
 * Tells what the server allots to a pool: what it said last, without asking
 * anew.  Does not block.
 *
 * Returns PQPOOL_OK, BAD_ARGUMENT.
 */
#define pqpool_limits(pool, allotment) pqpool_limits_sized(pool, allotment, sizeof(*(allotment)))
PQPOOL_API int pqpool_limits_sized(pqpool *pool, pqpool_allotment *allotment, size_t size);

/*
 * 7. THE DEFAULT POOL, AND A THREAD'S OWN CONNECTION
 *
 * One pool per process for programs that want one, without a handle to pass
 * around.
 */

/*
 * Opens the default pool; as pqpool_open().
 *
 * Of several callers exactly one opens it and gets PQPOOL_OK. All others, at
 * the same time or later, get PQPOOL_ALREADY_INITIALIZED, whatever their
 * conninfo, which is not looked at; when they get it, the pool is open and they
 * may use it.
 *
 * The conninfo is remembered after pqpool_close_pool() for threads' own
 * connections, see below.
 *
 * Returns PQPOOL_OK, ALREADY_INITIALIZED, and as pqpool_open() says: BAD_OPTION,
 * OUT_OF_MEMORY.
 */
PQPOOL_API int pqpool_initialize(const char *conninfo, pqpool_error *err);

/*
 * Borrows a connection, bound to this thread: from the pool of the thread's
 * innermost scope; else of the process's; else from the default pool; else, if
 * no pool is open, the thread's own connection.
 *
 * From a pool: as pqpool_acquire(pool, -1, err).  Each call is a loan of its
 * own.
 *
 * The thread's own connection is opened when first asked for and kept for this
 * thread, so that the next call gives the same one.  It is made by the conninfo
 * of the last successful pqpool_initialize(); if there was none, by libpq's
 * defaults and environment (PGHOST, PGDATABASE, ...).  Blocks until connected,
 * at most pool_acquire_timeout.  While it is lent, asking for it again gives
 * the same connection again; it is then lent until it has been given back as
 * often.  It ends with pqpool_cleanup_thread_local_connection() or with the
 * thread.
 *
 * Returns NULL on error: as pqpool_acquire(); also CLOSED, where the pool of the
 * scope has been closed, and what entering the scope failed with.
 */
PQPOOL_API PGconn *pqpool_get_connection(pqpool_error *err) PQPOOL_WARN_UNUSED;
PQPOOL_API PGconn *pqpool_get_connection_at(pqpool_error *err, const char *site) PQPOOL_WARN_UNUSED;

/*
 * Gives back what pqpool_get_connection() gave: the same as pqpool_release().
 * A thread's own connection is rolled back and kept.
 *
 * Returns as pqpool_release(); WRONG_THREAD: the loan or connection is another
 * thread's.
 */
PQPOOL_API int pqpool_return_connection(PGconn *conn);

/*
 * Closes the default pool, if one is open; again, or with none, does nothing.
 * As pqpool_close(), but waits for idle connections only, at most a second; loans
 * are closed when they come back.
 *
 * Returns PQPOOL_OK, always.
 */
PQPOOL_API int pqpool_close_pool(void);

/*
 * Closes the calling thread's own connection, if it has one; again does nothing.
 * Also if it is lent: it must not be used afterwards.  Does not block.
 *
 * Returns PQPOOL_OK, always.
 */
PQPOOL_API int pqpool_cleanup_thread_local_connection(void);

/*
 * 8. SCOPES
 *
 * A scope makes a pool the current one of this thread, for
 * pqpool_get_connection(), until it is left.  Scopes nest.  Leaving restores
 * what was current before.
 *
 *		PQPOOL_SCOPE(reports)
 *		{
 *			conn = pqpool_get_connection(&err);		from reports
 *			...
 *		}											the previous pool is current again
 *
 * The block is left in any way: its end, break, return, goto; in C++ by an
 * exception.  By pthread_exit and pthread_cancel only in code that is compiled
 * with -fexceptions. longjmp does not leave it; the next scope that is left
 * further out restores the right pool all the same, and so does the end of the
 * thread.
 *
 * A scope says where connections come from.  It does not give any back: loans
 * made in it are returned as ever, also later.
 */
typedef struct pqpool_scope
{
	uint32_t depth;	 /* private: scopes that were open when this one was entered */
	uint32_t code;	 /* private: why entering failed */
	uint64_t serial; /* private: which scope it is, never reused */
} pqpool_scope;

/*
 * Enters a scope.  The struct is the caller's, needs no initialization, and
 * must stay until the scope is left.  The pool must not be closed meanwhile; if
 * it is, the scope stays, and getting a connection in it answers PQPOOL_CLOSED.
 *
 * pqpool_scope_enter_conninfo() opens a pool, as pqpool_open(), that the scope
 * owns and closes, as pqpool_close_pool() does, when it is left.
 *
 * Do not block.
 *
 * Return PQPOOL_OK; BAD_ARGUMENT (NULL), CLOSED, OUT_OF_MEMORY, and those of
 * pqpool_open().  On error nothing is entered, and leaving is
 * PQPOOL_SCOPE_ORDER.
 */
PQPOOL_API int pqpool_scope_enter(pqpool_scope *scope, pqpool *pool, pqpool_error *err);
PQPOOL_API int pqpool_scope_enter_conninfo(pqpool_scope *scope, const char *conninfo,
										   pqpool_error *err);

/*
 * Enters a scope for all threads of the process, but those that are in one of
 * their own.  Any thread may leave it.  Process-wide scopes nest, too: the one
 * entered last is current; one that is left while another covers it goes when
 * that is left.
 *
 * Does not block.  Returns as pqpool_scope_enter().
 */
PQPOOL_API int pqpool_scope_enter_process(pqpool_scope *scope, pqpool *pool, pqpool_error *err);

/*
 * Tells the pool that pqpool_get_connection() would use in this thread.  It is
 * how a scope is handed to worker threads: pass this to them, and let each enter
 * it, while the scope that it comes from is open.  Never blocks.
 *
 * Returns NULL if that is none.
 */
PQPOOL_API pqpool *pqpool_current(void);

/*
 * Leaves a scope, and any inner ones that are still open, so that what was
 * current before it was entered is current again.
 *
 * Returns PQPOOL_OK; SCOPE_ORDER: inner scopes were still open (and have been
 * left with it), or a process-wide one was covered (and goes later), or it has
 * been left before (nothing is done); WRONG_THREAD: entered by another thread
 * (nothing is done); BAD_ARGUMENT.
 */
PQPOOL_API int pqpool_scope_leave(pqpool_scope *scope);

/*
 * Enters a scope in any case: if that failed, getting a connection in it gives
 * the error.  For PQPOOL_SCOPE.
 *
 * Returns the scope, to be left by pqpool_scope_leave().
 */
PQPOOL_API pqpool_scope pqpool_scope_begin(pqpool *pool);

/*
 * 9. EVENT LOOPS
 *
 * An inbox gets what came of acquires that a thread has started, and did not
 * wait for; its descriptor tells the thread's loop when there is something.
 *
 *		inbox = pqpool_inbox_open(&err);
 *		epoll_ctl(..., pqpool_inbox_fd(inbox), EPOLLIN)
 *		pqpool_acquire_start(pool, 2000, inbox, my_request, NULL, &err);
 *		...
 *		while (pqpool_inbox_next(inbox, &tag, &conn, &err))
 *			if (conn) ... use it, without blocking calls of libpq; pqpool_release(conn) ...
 *			else ... err says why ...
 *
 * One inbox serves any number of acquires, from any number of pools.
 * examples/loop.c is a whole program.
 */
typedef struct pqpool_inbox pqpool_inbox;

/*
 * Opens an inbox.  Does not block.
 *
 * Returns NULL on error: OUT_OF_MEMORY, SYSTEM (no descriptor).  Close with
 * pqpool_inbox_close().
 */
PQPOOL_API pqpool_inbox *pqpool_inbox_open(pqpool_error *err) PQPOOL_WARN_UNUSED;

/*
 * Tells the descriptor that is readable while something is in the inbox.  For
 * poll, epoll and the like only; it is the inbox's.
 *
 * Returns -1 if inbox is NULL.
 */
PQPOOL_API int pqpool_inbox_fd(const pqpool_inbox *inbox);

/*
 * Begins to acquire a connection, without waiting for it: as pqpool_acquire(),
 * in the same queue with those who wait there, but the result comes into the
 * inbox, with the tag.  There is exactly one result for each call that returns
 * PQPOOL_OK, unless it is cancelled: a connection, checked and reset, or an
 * error, at the deadline at the latest; that the pool is closed is one, too.  A
 * connection that lies in the inbox is lent, to be used or given back; and is
 * checked again when it is taken out late.
 *
 * The loan is unbound, pool_bind or not.  ticket, if not NULL, gets a number
 * to cancel it by.  Never blocks.
 *
 * Returns PQPOOL_OK; BAD_ARGUMENT, OUT_OF_MEMORY, SYSTEM (no thread can be started
 * to watch the deadline).
 */
PQPOOL_API int pqpool_acquire_start(pqpool *pool, int timeout_ms, pqpool_inbox *inbox, void *tag,
									uint64_t *ticket, pqpool_error *err);
PQPOOL_API int pqpool_acquire_start_at(pqpool *pool, int timeout_ms, pqpool_inbox *inbox, void *tag,
									   uint64_t *ticket, pqpool_error *err, const char *site);

/*
 * Takes the oldest result out of an inbox.  Never blocks.  Several threads may
 * share an inbox.
 *
 * Returns 1 and sets *tag and *conn; conn is NULL if the acquire failed, and err
 * says why.  Returns 0 if there is no result.
 */
PQPOOL_API int pqpool_inbox_next(pqpool_inbox *inbox, void **tag, PGconn **conn, pqpool_error *err);

/*
 * Takes an acquire back that has been started.  A connection that was in the
 * inbox already is given back.  Never blocks.
 *
 * Returns PQPOOL_OK: no result of it will come out of the inbox; NOT_LENT: it has
 * come out before, or there never was such a ticket; BAD_ARGUMENT.
 */
PQPOOL_API int pqpool_acquire_cancel(pqpool_inbox *inbox, uint64_t ticket);

/*
 * Closes an inbox and sets the variable to NULL; all acquires that are under
 * way are taken back, as by pqpool_acquire_cancel().  Closing NULL is PQPOOL_OK.
 * Never blocks.  No other thread may use the inbox any more.
 *
 * Returns PQPOOL_OK, BAD_ARGUMENT.
 */
PQPOOL_API int pqpool_inbox_close(pqpool_inbox **inbox);

/*
 * 10. HOOKS AND EVENTS
 *
 * Functions of the program's that the pool calls, for one connection at a time,
 * and never with a lock held.  They may take their time, at the cost of who
 * waits for that connection, and may call the pool, but not close it.  They
 * must return: no longjmp, no C++ exception.
 */

/* What happened, which says what an event's fields tell. */
typedef enum pqpool_event_type
{
	PQPOOL_EVENT_OPENED = 1,  /* duration: connecting */
	PQPOOL_EVENT_OPEN_FAILED, /* code, sqlstate, message: why; duration: of the attempt */
	PQPOOL_EVENT_CLOSED,	  /* reason */
	PQPOOL_EVENT_REFUSED,	  /* an acquire failed: code, sqlstate, message; duration: waited */
	PQPOOL_EVENT_LEAKED, /* a loan is out for pool_leak_after, once for each; duration: so far; tid */
	PQPOOL_EVENT_ABANDONED, /* a thread ended with bound loans; tid, number of them */
	PQPOOL_EVENT_LIMIT,		/* how many connections the pool may hold changed to number */
	PQPOOL_EVENT_ACQUIRED,	/* duration: waited; only with trace */
	PQPOOL_EVENT_RELEASED	/* duration: held; only with trace */
} pqpool_event_type;

/* Tells a hook what happened.  Valid, with what it points to, during the call only. */
typedef struct pqpool_event
{
	int type;			  /* a pqpool_event_type; there may be more in later versions */
	int code;			  /* a pqpool_code */
	int reason;			  /* a pqpool_close_reason */
	int backend_pid;	  /* of the connection; 0: of none */
	int number;			  /* see type */
	int tid;			  /* the borrowing thread, as gettid() has it; 0: none */
	int64_t duration_us;  /* see type */
	const char *pool;	  /* pqpool_name() */
	const char *site;	  /* where it was acquired; NULL: not known */
	const char *sqlstate; /* the server's; "": none */
	const char *message;  /* libpq's text at full length, or our own; "": nothing to say */
} pqpool_event;

typedef struct pqpool_hooks
{
	void *arg; /* given to all of them */
	int (*configure)(PGconn *conn, void *arg);
	int (*before_acquire)(PGconn *conn, void *arg);
	int (*after_release)(PGconn *conn, void *arg);
	void (*on_close)(PGconn *conn, void *arg);
	void (*event)(const pqpool_event *event, void *arg);
	int trace; /* not 0: event is also called for each acquire and release */
} pqpool_hooks;

/*
 * Opens a pool with hooks: as pqpool_open().  Any hook may be NULL, which is none.
 * The struct is copied; its arg must stay until the last connection has been closed
 * (pqpool_close() with timeout -1 waits for that).
 *
 *	configure		after connecting, before the connection is first lent: session settings, prepared
 *					statements, a notice processor (which then is the pool's default; its
 *					argument is always arg).  Called by a helper thread, as a rule.  With
 *					pool_reset=discard, DISCARD ALL undoes what it has set or prepared.
 *	before_acquire	each time before it is lent, by the thread that borrows it; for pqpool_acquire_start(), by
 *					a helper thread.  The caller's deadline does not stop it.
 *	after_release	each time after it was given back and rolled back, by the thread that gave it back;
 *					with pool_reset=discard before the DISCARD ALL.
 *	on_close		before it is closed, by a helper thread, as a rule; for what the program keeps about it.
 *					The connection may be dead: no queries.
 *	event			something happened, see pqpool_event.  Called by whoever noticed, after the fact.
 *					Callers who fail because the pool is closed are no event.
 *
 * configure, before_acquire and after_release return 0 for "fit".  Else, or if
 * they leave a transaction open or the connection broken, it is closed, and:
 * configure: it counts as a failed attempt to connect, callers are told
 * PQPOOL_HOOK; before_acquire: another one is tried, until the deadline, but
 * while it refuses new ones they are opened some 50 ms apart.
 *
 * With before_acquire, after_release or trace every acquire and release takes
 * the pool's lock.
 *
 * Returns NULL on error, as pqpool_open().
 */
#define pqpool_open_hooked(conninfo, hooks, err) \
	pqpool_open_hooked_sized(conninfo, hooks, sizeof(*(hooks)), err)
PQPOOL_API pqpool *pqpool_open_hooked_sized(const char *conninfo, const pqpool_hooks *hooks,
											size_t size, pqpool_error *err) PQPOOL_WARN_UNUSED;

/*
 * 11. VERSION AND FEATURES
 *
 * Tell the library's version.  Compare PQPOOL_VERSION_NUMBER (compiled with)
 * with pqpool_version_number() (running with).  Features come with a macro
 * PQPOOL_HAS_..., so that programs can be compiled against several versions.
 */
#define PQPOOL_VERSION "1.0.0"
#define PQPOOL_VERSION_NUMBER 10000 /* 1.0.0 */

PQPOOL_API const char *pqpool_version(void);
PQPOOL_API int pqpool_version_number(void);

#define PQPOOL_HAS_LIMITS 1 /* pqpool_limits */
#define PQPOOL_HAS_CANCEL 1 /* pqpool_cancel */
#define PQPOOL_HAS_SCOPES 1 /* pqpool_scope_... */
#define PQPOOL_HAS_INBOX 1	/* pqpool_acquire_start, pqpool_inbox_... */
#define PQPOOL_HAS_HOOKS 1	/* pqpool_open_hooked */

PQPOOL_C_END

/*
 * The macros.  Each is a shorthand for a function above, and can be switched
 * off with PQPOOL_NO_MACROS (to take a function's address, write it in
 * parentheses).
 */
#ifndef PQPOOL_NO_MACROS

#define PQPOOL_STRING_(x) #x
#define PQPOOL_STRING(x) PQPOOL_STRING_(x)
#define PQPOOL_SITE __FILE__ ":" PQPOOL_STRING(__LINE__)

#define pqpool_acquire(pool, timeout_ms, err) pqpool_acquire_at(pool, timeout_ms, err, PQPOOL_SITE)
#define pqpool_get_connection(err) pqpool_get_connection_at(err, PQPOOL_SITE)
#define pqpool_acquire_start(pool, timeout_ms, inbox, tag, ticket, err) \
	pqpool_acquire_start_at(pool, timeout_ms, inbox, tag, ticket, err, PQPOOL_SITE)

#define PQPOOL_PASTE_(a, b) a##b
#define PQPOOL_PASTE(a, b) PQPOOL_PASTE_(a, b)

#if defined(__cplusplus)

struct pqpool_scope_guard
{
	pqpool_scope scope;
	bool once;

	explicit pqpool_scope_guard(pqpool *pool) : scope(pqpool_scope_begin(pool)), once(true)
	{
	}
	~pqpool_scope_guard()
	{
		(void) pqpool_scope_leave(&scope);
	}

  private:
	pqpool_scope_guard(const pqpool_scope_guard &);
	pqpool_scope_guard &operator=(const pqpool_scope_guard &);
};

#define PQPOOL_SCOPE_(pool, guard) \
	for (pqpool_scope_guard guard(pool); guard.once; guard.once = false)
#define PQPOOL_SCOPE(pool) PQPOOL_SCOPE_(pool, PQPOOL_PASTE(pqpool_scope_guard_, __LINE__))

#elif defined(__GNUC__)

typedef struct pqpool_scope_guard
{
	pqpool_scope scope;
	int once;
} pqpool_scope_guard;

static inline void
pqpool_scope_guard_leave(pqpool_scope_guard *guard)
{
	(void) pqpool_scope_leave(&guard->scope);
}

#define PQPOOL_SCOPE_(pool, guard)                                   \
	for (__attribute__((cleanup(pqpool_scope_guard_leave)))          \
		 pqpool_scope_guard guard = { pqpool_scope_begin(pool), 1 }; \
		 guard.once; guard.once = 0)
#define PQPOOL_SCOPE(pool) PQPOOL_SCOPE_(pool, PQPOOL_PASTE(pqpool_scope_guard_, __LINE__))

#endif /* PQPOOL_SCOPE */

#endif /* PQPOOL_NO_MACROS */

#endif /* PQPOOL_H */
