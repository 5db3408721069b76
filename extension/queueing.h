/*-------------------------------------------------------------------------
 *
 * queueing.h
 *	  How long callers wait for one of c connections, by queueing theory.
 *
 * Pure.  The model is the queue M/G/c, first come first served: callers arrive
 * independently of each other at a mean rate, hold a connection for times
 * of a known mean and variation, and wait as long as it takes.
 *
 * Sources
 *	The probability of having to wait (Erlang's second formula, C): A. K. Erlang,
 *	"Solution of some Problems in the Theory of Probabilities of Significance in
 *	Automatic Telephone Exchanges", 1917; in today's notation R. B. Cooper,
 *	"Introduction to Queueing Theory", 2nd ed. 1981, chapter 3.  From Erlang B, whose
 *	recurrence B(k) = a B(k-1) / (k + a B(k-1)) has only positive terms
 *	and loses nothing, whatever k.
 *	Times that are not exponential: A. O. Allen, "Probability, Statistics, and Queueing Theory",
 *	2nd ed. 1990: Allen-Cunneen, the mean wait times (ca2 + cs2) / 2, with ca2 = 1
 *	here.  It is exact for one connection (Pollaczek-Khinchin) and for
 *	exponential times, and an approximation else; tests/unit/queueing.c simulates how good it is.
 *	The time that those wait who wait is taken for exponential, as it is in M/M/c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_QUEUEING_H
#define PGPM_QUEUEING_H

#include <stdbool.h>

#define QUEUE_MAX_SERVERS \
	262143 /* as many as a server can have; queue_servers_for looks no further */

typedef struct Queue
{
	double rate;	  /* arrivals per second */
	double hold;	  /* mean, seconds */
	double variation; /* of the hold times: squared coefficient of variation; 1: exponential */
} Queue;

/* Connections that are busy if there are enough of them: rate x hold. */
extern double queue_offered(const Queue *queue);

/* Erlang B and C: of offered load a on c servers; C is 1 where a >= c. */
extern double queue_erlang_b(int c, double a);
extern double queue_erlang_c(int c, double a);

/* Mean wait of all who arrive, in seconds; INFINITY if c connections are never enough. */
extern double queue_mean_wait(const Queue *queue, int c);

/* Wait that the part q (0 < q < 1) of all who arrive does not exceed; INFINITY as above. */
extern double queue_wait_quantile(const Queue *queue, int c, double q);

/*
 * The fewest connections with which the q-quantile of the wait is at most `wait` seconds,
 * but at least 1.
 */
extern int queue_servers_for(const Queue *queue, double q, double wait);

#endif /* PGPM_QUEUEING_H */
