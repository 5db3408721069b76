/*-------------------------------------------------------------------------
 *
 * link.h
 *	  The texts that pass between a pool and a server with pgpool_monitor.
 *
 * The client's half of PROTOCOL.md, as text only: identity, allotment,
 * report.  Nothing here knows a pool or a connection, keeps state, allocates
 * or locks, so that all of it may be called from any thread at any time, and
 * tested alone.  Who obeys what, and when, is the business of the callers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_LINK_H
#define PQP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PQP_ID_SIZE 33		  /* an instance's id: 32 hex digits and '\0' */
#define PQP_REPORT_BYTES 2048 /* longest report, without its '\0' */
#define PQP_BUCKETS 32		  /* of a histogram, log2 of microseconds */
#define PQP_REPORT_LOANS 8	  /* most loans in a report */
#define PQP_REPORT_ERRORS 48  /* codes, from 0 */
#define PQP_REPORT_REASONS 16 /* reasons, from 0 */
#define PQP_THREAD_BYTES 23	  /* longest thread id in a report, decoded */
#define PQP_SITE_BYTES 63	  /* longest call site in a report, decoded */
#define PQP_INC_SIZE 64		  /* an incarnation and its '\0' */

/* Used until the server names others. */
#define PQP_LEASE_MS 30000
#define PQP_INTERVAL_MS 10000
#define PQP_RETRY_MS 5000

/* Shortest interval that a server can ask for. */
#define PQP_INTERVAL_MIN_MS 100

/* The ParameterStatus that carries the allotment, and the one report. */
#define PQP_ALLOTMENT_PARAMETER "pgpool_monitor.allotment"
#define PQP_REPORT_QUERY "SELECT pg_catalog.set_config('pgpool_monitor.report', $1, false)"

enum AllotmentState
{
	ALLOTMENT_OK,
	ALLOTMENT_QUEUED,
	ALLOTMENT_PAUSED,
	ALLOTMENT_OFF,
};

/* What the server allows an instance; PROTOCOL.md section 3. */
typedef struct Allotment
{
	uint64_t epoch;			/* orders the texts of one incarnation */
	char inc[PQP_INC_SIZE]; /* the server's incarnation */
	int limit;				/* sessions that may be held; -1: no limit */
	enum AllotmentState state;
	int64_t lease_ms;
	int64_t interval_ms; /* at least PQP_INTERVAL_MIN_MS */
	int64_t retry_ms;
} Allotment;

/* One of the oldest loans.  The strings belong to the caller. */
typedef struct LinkLoan
{
	int pid;			/* the server's process */
	int64_t age_ms;		/* since the acquire */
	const char *thread; /* the holder's thread; NULL: not known */
	const char *site;	/* where it was acquired; NULL: not known */
} LinkLoan;

/* What an instance tells the server; PROTOCOL.md section 4. */
typedef struct LinkReport
{
	uint64_t seq; /* from 1, greater than in every earlier report */
	uint64_t ack; /* epoch taken over; 0: none */
	bool bye;	  /* opens nothing any more */

	/* sessions by state, the queue, the limits: now */
	int max_size;
	int min_size;
	int opening;
	int idle;
	int in_use;
	int resetting;
	int closing;
	int waiting;
	int leaks;

	/* since the instance began */
	int64_t acquires;
	int64_t timeouts;
	int64_t opened;
	int64_t closed;
	int64_t open_failures;
	int64_t found_dead;
	int64_t discarded;
	int64_t resets;
	int64_t abandoned;
	int64_t finished;
	int64_t errors[PQP_REPORT_ERRORS];	   /* by code */
	int64_t closed_by[PQP_REPORT_REASONS]; /* by reason */
	int64_t wait[PQP_BUCKETS];
	int64_t hold[PQP_BUCKETS];

	int nloans;						  /* at most PQP_REPORT_LOANS are sent */
	LinkLoan loans[PQP_REPORT_LOANS]; /* oldest first */
} LinkReport;

/*
 * Draw a new instance's id, id[PQP_ID_SIZE].  False, and id is "", when the
 * system has no random bytes: then there can be no identity.
 */
extern bool pqp_link_new_id(char *id);

/*
 * Build the value of the connection parameter "options": the user's own (may
 * be NULL), then the identity.  Returns its length, or -1 (and buf is "") when
 * it does not fit or name or id are not legal.
 */
extern int pqp_link_identity(char *buf, size_t size, const char *user_options, const char *pool,
							 const char *id, bool follow, bool report, bool knock);

/*
 * Read the allotment that is addressed to own_id.  False, and *out is as it
 * was: no text (NULL), not ours, or not complete.  lease, interval and retry,
 * where the text has none, keep the value found in *out, or if that is 0 get
 * the default; so pass a copy of the current allotment, or one full of zeros.
 */
extern bool pqp_link_parse_allotment(const char *text, const char *own_id, Allotment *out);

/*
 * Write a report.  Returns its length, at most PQP_REPORT_BYTES and less than
 * size, or -1 (and buf is "").  What does not fit is left out: the reasons and
 * codes first, then loans, the youngest before the oldest, then the hold, then
 * the wait histogram.
 * Negative numbers are written as 0.
 */
extern int pqp_link_format_report(char *buf, size_t size, const LinkReport *report);

/* The bucket of a duration, 0 .. PQP_BUCKETS - 1. */
extern int pqp_link_bucket(int64_t microseconds);

#endif /* PQP_LINK_H */
