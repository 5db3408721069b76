/*-------------------------------------------------------------------------
 *
 * queueing.c
 *	  The formulas against published values, against sums of their definitions, and against
 *	  simulated queues.
 *
 * sources: extension/queueing.c
 * flags: -O2
 *
 * How good the predictions of the mean wait are, for utilizations from 0.5 to 0.95 and 1 to
 * 50 connections: within 5 % for exponential holds (most of that is the simulation's),
 * within 10 % or 1 % of a hold time for constant ones, within 20 % or 5 % of a hold time
 * for those of variation 4, whichever is more.  Short waits are those predicted worst: too
 * long where holds vary, too short where they are alike.  These are the bounds asserted;
 * each line says the error found.
 *
 *-------------------------------------------------------------------------
 */
#include "queueing.h"

#include "tap.h"

#include "queue_sim.h"

#define CALLERS 4000000
#define WARM_UP 100000

static bool
near(double got, double expected, double relative)
{
	return fabs(got - expected) <= relative * fabs(expected);
}

/*---- published ----*/

/*
 * Offered load at which c lines lose one call in a hundred: tables of Erlang B as in the ITU-D
 * "Teletraffic Engineering Handbook" and any other; to the digits they give.
 */
static void
test_erlang_b_table(void)
{
	static const struct
	{
		int c;
		double a;
	} table[] = { { 1, 0.0101 }, { 2, 0.1526 }, { 3, 0.4555 }, { 4, 0.8694 },
				  { 5, 1.361 },	 { 6, 1.909 },	{ 8, 3.128 },  { 10, 4.461 },
				  { 20, 12.03 }, { 50, 37.90 }, { 100, 84.06 } };

	for (int i = 0; i < countof(table); i++)
		ok(near(queue_erlang_b(table[i].c, table[i].a), 0.01, 0.01),
		   "Erlang B: %d lines lose 1 %% of %.4g erlangs", table[i].c, table[i].a);
}

/*
 * The example worked by hand in M. Tanner, "The Erlang-C Formula" (Mitan): 360 calls in
 * half an hour of 4 minutes each, 55 agents: 0.239 wait, 8.2 s on average.
 */
static void
test_erlang_c_published(void)
{
	Queue calls = { .rate = 360.0 / 1800.0, .hold = 240.0, .variation = 1.0 };

	ok(near(queue_offered(&calls), 48.0, 1e-12), "48 erlangs");
	ok(near(queue_erlang_c(55, 48.0), 0.239, 0.003), "Erlang C: 55 agents, 48 erlangs: 0.239");
	ok(near(queue_mean_wait(&calls, 55), 8.2, 0.006), "mean wait 8.2 s");
}

/* In closed form (Cooper, chapter 3, or any textbook). */
static void
test_closed_forms(void)
{
	int wrong = 0;

	for (int percent = 1; percent < 100; percent++)
	{
		double rho = percent / 100.0;
		double a = 3 * rho;
		double three = a * a * a / 6 / (1 - rho);

		wrong += !near(queue_erlang_c(1, rho), rho, 1e-12);
		wrong += !near(queue_erlang_c(2, 2 * rho), 2 * rho * rho / (1 + rho), 1e-12);
		wrong += !near(queue_erlang_c(3, a), three / (1 + a + a * a / 2 + three), 1e-12);
	}
	is_int(wrong, 0, "one, two and three connections, in closed form");
}

/* Pollaczek-Khinchin, which is exact for one connection. */
static void
test_one_connection(void)
{
	Queue queue = { .rate = 8, .hold = 0.1, .variation = 0 };

	ok(near(queue_mean_wait(&queue, 1), 0.2, 1e-12), "M/D/1 at 0.8: waits twice the hold time");
	queue.variation = 1;
	ok(near(queue_mean_wait(&queue, 1), 0.4, 1e-12), "M/M/1 at 0.8: four times");
	queue.variation = 4;
	ok(near(queue_mean_wait(&queue, 1), 1.0, 1e-12), "variation 4: ten times");
}

/*---- numerically ----*/

/* The definition, term by term by logarithms: slow, and of the precision of lgamma. */
static double
erlang_c_by_sum(int c, double a)
{
	double last = c * log(a) - lgamma(c + 1.0) + log(c / (c - a));
	double sum = 1.0;

	for (int k = 0; k < c; k++)
		sum += exp(k * log(a) - lgamma(k + 1.0) - last);
	return 1.0 / sum;
}

static void
test_large(void)
{
	static const int sizes[] = { 4, 10, 100, 1000, 10000 };
	static const double loads[] = { 0.1, 0.5, 0.9, 0.99, 0.999 };
	int wrong = 0;

	for (int i = 0; i < countof(sizes); i++)
	{
		for (int j = 0; j < countof(loads); j++)
		{
			double c = queue_erlang_c(sizes[i], sizes[i] * loads[j]);
			double sum = erlang_c_by_sum(sizes[i], sizes[i] * loads[j]);

			wrong += !(near(c, sum, 1e-7) || (c < 1e-300 && sum < 1e-300));
		}
	}
	is_int(wrong, 0, "up to 10,000 connections: as the sum of the definition");
	ok(queue_erlang_c(10000, 9999.99) > 0.99 && queue_erlang_c(10000, 9999.99) < 1,
	   "just below what 10,000 can do");
	ok(queue_erlang_c(10000, 10000) == 1.0 && queue_erlang_c(10, 1e300) == 1.0, "at it, and above");
	ok(queue_erlang_b(QUEUE_MAX_SERVERS, 1e-300) == 0.0, "next to nothing");
}

static void
test_edges(void)
{
	Queue queue = { .rate = 100, .hold = 0.1, .variation = 1 };
	Queue nobody = { .rate = 0, .hold = 0.1, .variation = 1 };
	Queue flood = { .rate = 1e15, .hold = 1e6, .variation = 1 };

	ok(isinf(queue_mean_wait(&queue, 10)) && isinf(queue_wait_quantile(&queue, 9, 0.99)),
	   "who cannot keep up has no mean wait");
	ok(isfinite(queue_mean_wait(&queue, 11)), "one more can");
	is_int(queue_servers_for(&nobody, 0.99, 0), 1, "nobody comes: one");
	is_int(queue_servers_for(&flood, 0.99, 1), QUEUE_MAX_SERVERS, "never enough");
	ok(queue_wait_quantile(&queue, 40, 0.99) == 0.0,
	   "where less than one in a hundred waits, it is 0");
}

/* The size found is enough, and one less is not. */
static void
test_servers_for(void)
{
	int wrong = 0;

	for (int i = 0; i < 1000; i++)
	{
		Queue queue = { .rate = 1 + draw(1000),
						.hold = (1 + draw(1000)) / 1000.0,
						.variation = draw(5) };
		double wait = draw(100) / 1000.0;
		int c = queue_servers_for(&queue, 0.99, wait);

		wrong += queue_wait_quantile(&queue, c, 0.99) > wait;
		wrong += c > 1 && queue_wait_quantile(&queue, c - 1, 0.99) <= wait;
	}
	is_int(wrong, 0, "the size found is the least that is enough");
}

/*---- simulated ----*/

static double
simulate_mean(int c, double rate, double hold, Holds holds)
{
	Sim sim;
	double wait, held, sum = 0;

	sim_init(&sim, c, rate, hold, holds);
	for (int i = 0; i < WARM_UP; i++)
		sim_next(&sim, &wait, &held);
	for (int i = 0; i < CALLERS; i++)
	{
		sim_next(&sim, &wait, &held);
		sum += wait;
	}
	return sum / CALLERS;
}

static void
test_simulated(Holds holds, const char *name, double variation, double relative, double of_hold)
{
	static const int sizes[] = { 1, 4, 10, 50 };
	static const double loads[] = { 0.5, 0.8, 0.9, 0.95 };

	for (int i = 0; i < countof(sizes); i++)
	{
		for (int j = 0; j < countof(loads); j++)
		{
			int c = sizes[i];
			Queue queue = { .rate = c * loads[j] / 0.01, .hold = 0.01, .variation = variation };
			double simulated, predicted;

			/* so seldom that anybody waits that a simulation says nothing */
			if (queue_erlang_c(c, c * loads[j]) < 0.01)
				continue;
			simulated = simulate_mean(c, queue.rate, queue.hold, holds);
			predicted = queue_mean_wait(&queue, c);
			ok(fabs(predicted - simulated) <= fmax(relative * simulated, of_hold * queue.hold),
			   "%s, %d connections at %.2f: waits %.4f ms, predicted %.4f: %+.1f %%", name, c,
			   loads[j], simulated * 1000, predicted * 1000, (predicted / simulated - 1) * 100);
		}
	}
}

/*
 * With the size recommended, simulated callers wait no longer than wanted; an eighth more
 * is forgiven.
 */
static void
test_recommended(Holds holds, const char *name, double variation)
{
	static const double loads[] = { 0.5, 3, 20, 80 };

	for (int i = 0; i < countof(loads); i++)
	{
		Queue queue = { .rate = loads[i] / 0.01, .hold = 0.01, .variation = variation };
		double wanted = 0.01;
		int c = queue_servers_for(&queue, 0.99, wanted);
		double wait, held;
		int longer = 0;
		Sim sim;

		sim_init(&sim, c, queue.rate, queue.hold, holds);
		for (int k = 0; k < CALLERS; k++)
		{
			sim_next(&sim, &wait, &held);
			longer += wait > wanted;
		}
		ok(longer <= CALLERS / 100 * 9 / 8,
		   "%s, %.1f busy: %d connections, and %.2f %% wait for longer than wanted", name, loads[i],
		   c, 100.0 * longer / CALLERS);
	}
}

int
main(void)
{
	test_erlang_b_table();
	test_erlang_c_published();
	test_closed_forms();
	test_one_connection();
	test_large();
	test_edges();
	test_servers_for();
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 1, 0.05, 0);
	test_simulated(HOLDS_CONSTANT, "constant", 0, 0.10, 0.01);
	test_simulated(HOLDS_HYPER, "hyperexponential", 4, 0.20, 0.05);
	test_recommended(HOLDS_EXPONENTIAL, "exponential", 1);
	test_recommended(HOLDS_CONSTANT, "constant", 0);
	test_recommended(HOLDS_HYPER, "hyperexponential", 4);
	return done_testing();
}
