/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  What to do about a pool's size, from the samples of its history.
 *
 * Pure.  The caller adds up samples, oldest first, and asks for the advice.
 *
 * Model
 *	Each instance is a queue of its own (queueing.h): a connection of one process is no use
 *	to callers in another.  Arrivals (acquires that were granted and those that timed out)
 *	are taken to be spread evenly over the instances, and so are the connections.  The size
 *	recommended is the smallest with which 99 of 100 acquires wait no longer than wanted at
 *	the rate of the busiest sample; of that rate two standard deviations are taken off (it
 *	is a count, and the largest of many counts is large by chance alone), but it is at least
 *	the mean rate.
 *
 * What it cannot know
 *	Callers that give up, or wait before they ask again, do not arrive: while a pool is
 *	saturated the rate is too low, and the size is a lower bound (confidence low).  Those
 *	who still wait at the end are counted, though.  A fixed number of threads waits less
 *	than the model says, for those who wait do not arrive.  Hold times come from buckets a
 *	factor of two wide (report_moments): where all holds are alike, their mean may be a
 *	quarter too low or a half too high, and with it the load (confidence low).  While
 *	callers wait all the time, all connections are lent, and their number is a better source
 *	of the mean (Little's law).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_ADVICE_H
#define PGPM_ADVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "history_ring.h"

#define ADVICE_QUANTILE 0.99
#define ADVICE_MIN_SAMPLES 5	/* with counters; below there is no advice */
#define ADVICE_MIN_ARRIVALS 100 /* but to fix a leak: who leaks acquires little */

/* The most urgent first. */
typedef enum AdviceVerdict
{
	ADVICE_FIX_LEAK,
	ADVICE_RAISE_BUDGET,
	ADVICE_SHRINK_POOL,
	ADVICE_NONE,
	ADVICE_UNKNOWN /* not enough data */
} AdviceVerdict;

typedef enum Confidence
{
	CONFIDENCE_LOW,
	CONFIDENCE_MEDIUM,
	CONFIDENCE_HIGH
} Confidence;

/* Sums over samples; begins as zeros. */
typedef struct AdviceSums
{
	int64_t since;	 /* of the caller's clock: where the first interval with counters began */
	int counted;	 /* samples with counters */
	double duration; /* of these, seconds */
	double acquires;
	double timeouts;
	double open_failures;
	double waits;	/* weighted by arrivals: ms x arrivals */
	double p99;		/* the same of each sample's 99th percentile */
	double weight;	/* arrivals of the samples that have a wait */
	double holds;	/* loans that ended */
	double hold;	/* their time, ms */
	double square;	/* sum of their squares, ms^2 */
	double busiest; /* arrivals per second, two standard deviations taken off */

	int reported; /* samples in which an instance reports */
	double in_use;
	double busy;
	int queueing;	 /* samples with somebody waiting */
	double occupied; /* connections taken, in these */
	int peak;		 /* largest demand */

	int first_leaks;
	int first_waiting;
	HistorySample last; /* that had instances */
} AdviceSums;

typedef struct Advice
{
	AdviceVerdict verdict;
	Confidence confidence; /* says nothing if the verdict is ADVICE_UNKNOWN */

	/* negative: not known, or without end (the pool cannot keep up) */
	int size;
	int recommended;
	double arrival_rate; /* 1/s, mean */
	double hold_mean_ms;
	double utilization; /* connections that arrivals keep busy, by size */
	double wait_ms;		/* means, of all acquires */
	double predicted_ms;
	double wait_p99_ms;
	double recommended_ms; /* mean wait with the size recommended, at the busiest rate */
	double recommended_p99_ms;
} Advice;

/* `at` is the end of the sample's interval, on a clock of microseconds. */
extern void advice_add(AdviceSums *sums, const HistorySample *sample, int64_t at, int64_t duration);

/*
 * The most connections that the pool may have: its own limits, or its allotment; if neither
 * is known, those it has.
 */
extern int advice_size(const HistorySample *sample);

/*
 * wanted_ms: what 99 of 100 acquires are to wait at most.  The reason is a sentence with
 * the figures.
 */
extern Advice advice_judge(const AdviceSums *sums, double wanted_ms, char *reason,
						   size_t reason_size);

extern const char *advice_name(AdviceVerdict verdict); /* NULL for ADVICE_UNKNOWN */
extern const char *advice_confidence_name(Confidence confidence);

#endif /* PGPM_ADVICE_H */
