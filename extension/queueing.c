/*-------------------------------------------------------------------------
 *
 * queueing.c
 *	  How long callers wait for one of c connections: queueing.h has the sources.
 *
 *-------------------------------------------------------------------------
 */
#include "queueing.h"

#include <math.h>

double
queue_offered(const Queue *queue)
{
	return queue->rate * queue->hold;
}

double
queue_erlang_b(int c, double a)
{
	double b = 1.0;

	for (int k = 1; k <= c; k++)
		b = a * b / (k + a * b);
	return b;
}

/* C from B of the same c and a. */
static double
c_from_b(int c, double a, double b)
{
	return a >= c ? 1.0 : b / (1.0 - a / c * (1.0 - b));
}

double
queue_erlang_c(int c, double a)
{
	return c_from_b(c, a, queue_erlang_b(c, a));
}

/* Mean wait of those who wait. */
static double
mean_if_waiting(const Queue *queue, int c)
{
	double a = queue_offered(queue);

	return a >= c ? INFINITY : queue->hold / (c - a) * (1.0 + queue->variation) / 2.0;
}

double
queue_mean_wait(const Queue *queue, int c)
{
	double mean = mean_if_waiting(queue, c);

	return isinf(mean) ? mean : queue_erlang_c(c, queue_offered(queue)) * mean;
}

/* P(wait > t) = waits * exp(-t / mean), solved for t. */
static double
quantile(double waits, double mean, double q)
{
	if (isinf(mean))
		return mean;
	return waits <= 1.0 - q ? 0.0 : log(waits / (1.0 - q)) * mean;
}

double
queue_wait_quantile(const Queue *queue, int c, double q)
{
	return quantile(queue_erlang_c(c, queue_offered(queue)), mean_if_waiting(queue, c), q);
}

int
queue_servers_for(const Queue *queue, double q, double wait)
{
	double a = queue_offered(queue);
	double b = 1.0;

	for (int c = 1; c < QUEUE_MAX_SERVERS; c++)
	{
		b = a * b / (c + a * b);
		if (quantile(c_from_b(c, a, b), mean_if_waiting(queue, c), q) <= wait)
			return c;
	}
	return QUEUE_MAX_SERVERS;
}
