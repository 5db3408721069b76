/*-------------------------------------------------------------------------
 *
 * report.h
 *	  What an instance tells the server: the text, taken apart and checked.
 *
 * Pure: knows neither PostgreSQL nor the registry, allocates nothing, and can
 * be tested and fuzzed alone.  The text is defined in PROTOCOL.md, section 4.
 * A report is parsed into a struct of fixed size because the caller keeps it
 * in a setting's "extra", and because applying it must not be able to fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_REPORT_H
#define PGPM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPORT_MAX_BYTES 2048 /* longest text that is accepted */
#define REPORT_BUCKETS 32	  /* log2 microseconds, see PROTOCOL.md, section 4 */
#define REPORT_LOANS 8		  /* oldest loans that a report may carry */
#define REPORT_ERRORS 48	  /* error codes, from 0 */
#define REPORT_REASONS 16	  /* reasons to close, from 0 */
#define REPORT_THREAD_LEN 24  /* bytes, terminator included */
#define REPORT_SITE_LEN 64

typedef struct ReportLoan
{
	int32_t pid;	/* server process */
	int64_t age_ms; /* since the acquire, at the time of the report */
	/* decoded: any byte but zero may stand here, escape before showing */
	char thread[REPORT_THREAD_LEN]; /* cut to fit */
	char site[REPORT_SITE_LEN];		/* cut to fit (keeps the end) */
} ReportLoan;

/*
 * What an instance has counted since it began.  Nothing but int64_t, so that it can be
 * walked as an array.  totals.h adds them up; the order is that of the saved file
 * (saved.c).
 */
typedef struct ReportCounters
{
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
	int64_t errors[REPORT_ERRORS];
	int64_t closed_by[REPORT_REASONS];
	int64_t wait[REPORT_BUCKETS];
	int64_t hold[REPORT_BUCKETS];
} ReportCounters;

typedef struct Report
{
	uint64_t seq; /* never 0 in a valid report */
	uint64_t ack; /* 0: none */
	bool bye;
	bool has_max; /* max_size was given */
	int32_t max_size;
	int32_t min_size;

	/* sessions by state, and the queue */
	int32_t opening;
	int32_t idle;
	int32_t in_use;
	int32_t resetting;
	int32_t closing;
	int32_t waiting;
	int32_t leaks;

	uint32_t given; /* which of the counters the text had */
	ReportCounters counted;

	int nloans;
	ReportLoan loans[REPORT_LOANS];
} Report;

/*
 * Take a text apart.  True, and *report filled (absent keys are 0), or false,
 * and *report is undefined.  *reason, if asked for, points at a constant that
 * says what is wrong, or is NULL.  Never reads beyond text[len - 1]; text need
 * not be terminated.
 */
extern bool report_parse(const char *text, size_t len, Report *report, const char **reason);

/*
 * Does the report count from a later beginning than the one before it?  That is
 * so if a counter that it gives is lower.  Histograms do not tell: a client that
 * reads its own without a lock may have a bucket fall by a few.
 */
extern bool report_began_anew(const Report *report, const Report *before);

/*
 * For a report that did not begin anew: a counter or histogram that it leaves
 * out, for want of room or because nothing happened, is what it was; and no
 * bucket falls.
 */
extern void report_keep_counters(Report *report, const Report *before);

/* Sessions that the client counts, in all states; saturates at INT32_MAX. */
extern int32_t report_size(const Report *report);

/* in use + waiting; saturates at INT32_MAX. */
extern int32_t report_demand(const Report *report);

/* The loan of that server process, if it is one of those listed; else NULL. */
extern const ReportLoan *report_loan(const Report *report, int32_t pid);

/*
 * The q-quantile (0 < q <= 1), in milliseconds, of a histogram in the report's
 * buckets, interpolated linearly within its bucket; negative if the histogram
 * is empty.  Counts below 1 are passed over.  Exact to within its bucket, that
 * is to a factor of two.  The last bucket, which has no upper limit, answers
 * its lower one.
 */
extern double report_quantile_ms(const int64_t *buckets, double q);

/*
 * How many times a histogram counts, their mean in milliseconds, and their variance divided
 * by the square of the mean; the last two are negative if there are none.  `like` counts
 * more times of the same kind, these among them if possible, and tells how times lie within
 * a bucket.  With the same `like`, means of parts add up to the mean of the whole; without
 * one (a few times tell nothing of their density), means of small parts would be up to 8 %
 * too high.  Means of smooth distributions (exponential, lognormal, ...) come out within
 * 5 %.  Where all times are alike they are in one bucket, whose middle is the mean then:
 * between a quarter too low and a half too high.
 */
extern void report_moments(const int64_t *buckets, const int64_t *like, int64_t *n, double *mean_ms,
						   double *variation);

#endif /* PGPM_REPORT_H */
