/*-------------------------------------------------------------------------
 *
 * queue_sim.h
 *	  A simulated queue: callers arrive at random, hold one of c connections, first come
 *	  first served.
 *
 * Event by event, with the times at which connections become free in a heap: the
 * next caller gets the one that is free first, and waits until then.  That is
 * exact for M/G/c.  The same numbers in every run (draw.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SIM_H
#define QUEUE_SIM_H

#include <math.h>

#include "draw.h"

#define SIM_MAX_SERVERS 1024

typedef enum Holds
{
	HOLDS_EXPONENTIAL,
	HOLDS_CONSTANT,
	HOLDS_HYPER /* two exponentials, most short, some long: variation 4 */
} Holds;

typedef struct Sim
{
	int c;
	double rate; /* per second */
	double hold; /* mean, seconds */
	Holds holds;

	double now;					  /* of the last arrival */
	double heap[SIM_MAX_SERVERS]; /* when connections become free, least first */
} Sim;

static inline double
draw_unit(void)
{
	return ((double) (draw64() >> 11) + 0.5) / 9007199254740992.0;
}

static inline double
draw_exponential(double mean)
{
	return -mean * log(draw_unit());
}

/* Balanced means: p / m1 = (1 - p) / m2 in the notation of Allen; variation 4. */
static inline double
draw_hyper(double mean)
{
	double p = (1 + sqrt(3.0 / 5.0)) / 2;

	return draw_unit() < p ? draw_exponential(mean / (2 * p))
						   : draw_exponential(mean / (2 * (1 - p)));
}

static inline double
draw_hold(const Sim *sim)
{
	switch (sim->holds)
	{
		case HOLDS_CONSTANT:
			return sim->hold;
		case HOLDS_HYPER:
			return draw_hyper(sim->hold);
		default:
			return draw_exponential(sim->hold);
	}
}

static inline void
sim_init(Sim *sim, int c, double rate, double hold, Holds holds)
{
	memset(sim, 0, sizeof(*sim));
	sim->c = c;
	sim->rate = rate;
	sim->hold = hold;
	sim->holds = holds;
	random_state = UINT64_C(0x9e3779b97f4a7c15);
}

/* The connection that is free first is now free at `until`. */
static inline void
sim_occupy(Sim *sim, double until)
{
	int i = 0;

	for (;;)
	{
		int child = 2 * i + 1;

		if (child + 1 < sim->c && sim->heap[child + 1] < sim->heap[child])
			child++;
		if (child >= sim->c || sim->heap[child] >= until)
			break;
		sim->heap[i] = sim->heap[child];
		i = child;
	}
	sim->heap[i] = until;
}

/* One caller: how long he waits, and for how long he holds what he gets. */
static inline void
sim_next(Sim *sim, double *wait, double *hold)
{
	sim->now += draw_exponential(1.0 / sim->rate);
	*wait = fmax(0, sim->heap[0] - sim->now);
	*hold = draw_hold(sim);
	sim_occupy(sim, sim->now + *wait + *hold);
}

/* Connections held now. */
static inline int
sim_in_use(const Sim *sim)
{
	int n = 0;

	for (int i = 0; i < sim->c; i++)
		n += sim->heap[i] > sim->now;
	return n;
}

#endif /* QUEUE_SIM_H */
