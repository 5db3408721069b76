/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  Verdicts and their order; and the whole way from a simulated queue over
 *	  reports' buckets and samples to the wait predicted.
 *
 * sources: extension/advice.c extension/queueing.c extension/history_ring.c extension/report.c
 * flags: -O2
 *
 * The simulated hour: 60 samples of a minute, whose figures are what the callers of the
 * queue make in the buckets of a report.  Predicted against measured mean wait: within
 * 25 %, or 0.5 % of the hold time, whichever is more; that is the formula's error, the
 * buckets' and an hour's luck.  (Constant holds are of 50 ms, near the middle of their
 * bucket.  At its ends their mean is wrong by up to a half, for which there is no bound to
 * assert.) The mean wait measured, by its buckets against exactly: within 5 %, or 2
 * microseconds.
 *
 *-------------------------------------------------------------------------
 */
#include "advice.h"

#include "report.h"
#include "tap.h"

#include "queue_sim.h"

#define MINUTE INT64_C(60000000)

static char reason[512];

/*
 * A minute of a pool with which nothing is wrong: 20 connections, 5 busy, 100 acquires a
 * second of 50 ms.
 */
static HistorySample
well(void)
{
	return (HistorySample){ .instances = 1,
							.sessions = 20,
							.busy = 4,
							.in_use = 5,
							.idle = 15,
							.demand = 9,
							.allotted = HISTORY_UNKNOWN,
							.max_size = 10,
							.acquires = 6000,
							.holds = 6000,
							.wait_mean_ms = 0.01,
							.wait_p50_ms = 0.001,
							.wait_p99_ms = 0.1,
							.hold_mean_ms = 50,
							.hold_variation = 1 };
}

static Advice
judge(const HistorySample *sample, int n)
{
	AdviceSums sums = { 0 };

	for (int i = 0; i < n; i++)
		advice_add(&sums, sample, (i + 1) * MINUTE, MINUTE);
	return advice_judge(&sums, 10, reason, sizeof(reason));
}

static void
verdict_is(Advice got, AdviceVerdict verdict, const char *what)
{
	const char *name = advice_name(got.verdict);
	const char *expected = advice_name(verdict);

	is_str(name ? name : "not enough data", expected ? expected : "not enough data", "%s: %s", what,
		   reason);
}

static void
reason_is(const char *sentence)
{
	is_str(reason, sentence, "  because: %s", sentence);
}

/*---- verdicts ----*/

static void
test_none(void)
{
	HistorySample sample = well();
	Advice advice = judge(&sample, 60);

	verdict_is(advice, ADVICE_NONE, "a pool of the right size");
	reason_is("99% waited up to 0.1 ms (wanted: 10.0); 5.0 of 10 connections are busy");
	is_int(advice.size, 10, "its size is its own limit");
	is_int((int) (advice.arrival_rate * 10), 1000, "100 per second");
	ok(fabs(advice.utilization - 0.5) < 1e-9, "half busy");
	is_int(advice.confidence, CONFIDENCE_HIGH, "an hour of 360,000 acquires: high confidence");
	is_int(judge(&sample, 12).confidence, CONFIDENCE_MEDIUM, "12 minutes: medium");
	is_int(judge(&sample, 6).confidence, CONFIDENCE_LOW, "6 minutes: low");
}

static void
test_raise(void)
{
	HistorySample sample = well();
	Advice advice;

	sample.max_size = 20;
	sample.allotted = 5;
	sample.sessions = 5;
	sample.in_use = 5;
	sample.waiting = 7;
	sample.demand = 12;
	sample.timeouts = 60;
	sample.wait_mean_ms = 300;
	sample.wait_p99_ms = 2000;
	advice = judge(&sample, 60);
	verdict_is(advice, ADVICE_RAISE_BUDGET, "callers wait, and time out");
	reason_is("3600 timed out, 99% waited up to 2000.0 ms (wanted: 10.0); 101.00 acquires/s of "
			  "50.0 ms keep "
			  "5.1 of 5 connections busy (its allotment); at least 11 would do");
	is_int(advice.recommended, 11, "11, says Erlang C");
	ok(advice.predicted_ms < 0, "with 5, there is no end to the queue");
	ok(advice.recommended_ms >= 0 && advice.recommended_p99_ms <= 10, "with 11 there is");
	is_int(advice.confidence, CONFIDENCE_LOW, "saturated: who stays away is not counted");
	sample.allotted = HISTORY_UNKNOWN;
	sample.max_size = 5;
	(void) judge(&sample, 60);
	ok(strstr(reason, "(its own limit)") != NULL, "the limit to be raised is named");
	sample.max_size = HISTORY_UNKNOWN;
	is_int(judge(&sample, 60).size, 5, "limits not known: as many as it has");
}

/* Holds of 30 ms, in a bucket whose middle is 24.6; callers queue, and the queue grows. */
static void
test_hold_by_use(void)
{
	AdviceSums sums = { 0 };
	Advice advice;

	for (int i = 0; i < 10; i++)
	{
		HistorySample sample = well();

		sample.max_size = sample.in_use = sample.sessions = 2;
		sample.acquires = sample.holds = 4000;
		sample.hold_mean_ms = 24.6;
		sample.hold_variation = 0.04;
		sample.wait_mean_ms = sample.wait_p99_ms = 10000;
		sample.waiting = i * 100;
		sample.demand = 2 + i * 100;
		advice_add(&sums, &sample, (i + 1) * MINUTE, MINUTE);
	}
	advice = advice_judge(&sums, 10, reason, sizeof(reason));
	verdict_is(advice, ADVICE_RAISE_BUDGET, "a queue that grows");
	ok(fabs(advice.hold_mean_ms - 30) < 0.5, "two connections in use tell the hold time: %.1f ms",
	   advice.hold_mean_ms);
	ok(fabs(advice.arrival_rate - 40900.0 / 600) < 1e-9, "who still waits has arrived");
	ok(advice.predicted_ms < 0, "and two are too few");
}

static void
test_waits_that_size_does_not_explain(void)
{
	HistorySample sample = well();

	sample.wait_p99_ms = 400;
	sample.max_size = 20;
	sample.open_failures = 3;
	verdict_is(judge(&sample, 10), ADVICE_NONE, "waits, with connections enough");
	ok(strstr(reason, "not for want of connections") && strstr(reason, "30 failed"), "says so");
}

static void
test_shrink(void)
{
	HistorySample sample = well();
	Advice advice;

	sample.max_size = 100;
	advice = judge(&sample, 60);
	verdict_is(advice, ADVICE_SHRINK_POOL, "ten times what is needed");
	ok(advice.recommended >= 9 && advice.recommended < 20,
	   "to what has been wanted at once, at least");
	sample.demand = 80;
	verdict_is(judge(&sample, 60), ADVICE_NONE, "but for a burst that was met");
	sample = well();
	sample.max_size = 2;
	sample.acquires = sample.holds = 600;
	sample.hold_mean_ms = 1;
	sample.demand = 1;
	sample.in_use = 0;
	verdict_is(judge(&sample, 60), ADVICE_NONE, "one connection is not worth it");
}

static void
test_leak(void)
{
	HistorySample sample = well();
	AdviceSums sums = { 0 };
	Advice advice;

	/* all lent, nobody works, others time out */
	sample.acquires = 6;
	sample.timeouts = 60;
	sample.holds = 6;
	sample.in_use = 10;
	sample.busy = 1;
	sample.waiting = 3;
	sample.leaks = 9;
	sample.wait_p99_ms = 30000;
	advice = judge(&sample, 60);
	verdict_is(advice, ADVICE_FIX_LEAK, "a leak comes before more connections");
	is_int(advice.recommended, -1, "and no size is recommended");
	reason_is("10.0 of 10 connections are lent, 9.0 of them to nobody who works: 1.10 acquires/s "
			  "explain 0.0, the "
			  "server is busy with 1.0; 9 are out for too long");
	sample.leaks = 0;
	verdict_is(judge(&sample, 60), ADVICE_FIX_LEAK, "also before the client calls them leaks");
	is_int(judge(&sample, 60).confidence, CONFIDENCE_LOW, "with less confidence");

	/* nobody waits yet, but there are more and more */
	sample = well();
	for (int i = 0; i < 10; i++)
	{
		sample.leaks = i;
		sample.in_use = 5 + i;
		sample.max_size = 40;
		advice_add(&sums, &sample, (i + 1) * MINUTE, MINUTE);
	}
	verdict_is(advice_judge(&sums, 10, reason, sizeof(reason)), ADVICE_FIX_LEAK,
			   "a leak that nobody feels yet");
}

static void
test_no_leak(void)
{
	HistorySample sample = well();

	sample.leaks = 1;
	sample.in_use = 6;
	verdict_is(judge(&sample, 60), ADVICE_NONE, "one LISTENer, lent for good");
	sample = well();
	sample.acquires = sample.holds = 10;
	sample.timeouts = 10;
	sample.in_use = sample.busy = sample.leaks = 10;
	sample.waiting = 2;
	sample.wait_p99_ms = 30000;
	sample.hold_mean_ms = 30000;
	verdict_is(judge(&sample, 60), ADVICE_RAISE_BUDGET, "a batch job, at which the server works");
}

/* When its last instance has ended, what it counted last is in a sample that has nothing else. */
static void
test_ended(void)
{
	HistorySample sample = well();
	AdviceSums sums = { 0 };

	for (int i = 1; i <= 60; i++)
		advice_add(&sums, &sample, i * MINUTE, MINUTE);
	sample.instances = sample.sessions = sample.busy = 0;
	sample.in_use = sample.idle = sample.waiting = sample.demand = sample.leaks = sample.max_size =
		HISTORY_UNKNOWN;
	advice_add(&sums, &sample, 61 * MINUTE, MINUTE);
	is_int(advice_judge(&sums, 10, reason, sizeof(reason)).size, 10, "its size is what it was");
	is_int((int) sums.acquires, 61 * 6000, "and all is counted");
}

static void
test_not_enough(void)
{
	HistorySample sample = well();
	AdviceSums none = { 0 };

	verdict_is(judge(&sample, 4), ADVICE_UNKNOWN, "four samples");
	reason_is("not enough data: 4 of at least 5 samples");
	sample.acquires = sample.holds = 1;
	verdict_is(judge(&sample, 60), ADVICE_UNKNOWN, "an acquire a minute");
	reason_is("not enough data: 60 of at least 100 acquires");
	sample.acquires = 1000;
	verdict_is(judge(&sample, 60), ADVICE_UNKNOWN, "loans that do not end");
	reason_is("not enough data: 60 of at least 100 loans have ended");
	sample.acquires = HISTORY_UNKNOWN;
	verdict_is(judge(&sample, 60), ADVICE_UNKNOWN, "counters that are not known");
	sample.in_use = HISTORY_UNKNOWN;
	verdict_is(judge(&sample, 60), ADVICE_UNKNOWN, "no reports");
	reason_is("not enough data: its instances do not report");
	verdict_is(advice_judge(&none, 10, reason, sizeof(reason)), ADVICE_UNKNOWN, "nothing at all");
}

/* Eight processes with five connections each wait longer than one with forty. */
static void
test_instances(void)
{
	HistorySample sample = well();
	double one, eight;

	sample.max_size = 40;
	sample.acquires = sample.holds = INT64_C(60) * 600; /* 30 busy */
	sample.in_use = 30;
	one = judge(&sample, 60).predicted_ms;
	sample.instances = 8;
	eight = judge(&sample, 60).predicted_ms;
	ok(eight > 10 * one, "instances queue each for themselves: %.3f ms, not %.3f", eight, one);
	ok(judge(&sample, 60).recommended % 8 == 0, "and get the same each");
}

/* Nonsense in, no nonsense out. */
static void
test_extremes(void)
{
	HistorySample sample = { .instances = 100000,
							 .sessions = INT32_MAX,
							 .in_use = INT32_MAX,
							 .busy = INT32_MAX,
							 .waiting = INT32_MAX,
							 .demand = INT32_MAX,
							 .max_size = 0,
							 .leaks = INT32_MAX,
							 .allotted = 0,
							 .acquires = UINT32_MAX,
							 .timeouts = INT64_C(4000000000000),
							 .holds = INT64_C(4000000000000),
							 .wait_mean_ms = 4e9,
							 .wait_p99_ms = 4e9,
							 .hold_mean_ms = 4e9,
							 .hold_variation = 1e10 };
	Advice advice = judge(&sample, 100);

	verdict_is(advice, ADVICE_RAISE_BUDGET, "the largest figures there are");
	ok(isfinite(advice.arrival_rate) && isfinite(advice.recommended_ms) && advice.recommended > 0,
	   "finite");
	sample.hold_mean_ms = sample.wait_mean_ms = sample.hold_variation = 0;
	advice = judge(&sample, 100);
	ok(isfinite(advice.recommended_ms) && isfinite(advice.utilization), "and holds of no length");
}

/*---- simulated ----*/

static int
bucket_of(double seconds)
{
	double us = seconds * 1e6;
	int k = 0;

	while (k < REPORT_BUCKETS - 1 && us >= ldexp(1, k))
		k++;
	return k;
}

/* Of all parts so far. */
typedef struct Ever
{
	int64_t waits[REPORT_BUCKETS];
	int64_t holds[REPORT_BUCKETS];
	double waited; /* ms */
	int64_t callers;
} Ever;

/* The next seconds of the queue, as history would have them. */
static HistorySample
simulate_part(Sim *sim, double seconds, Ever *ever)
{
	int64_t waits[REPORT_BUCKETS] = { 0 };
	int64_t holds[REPORT_BUCKETS] = { 0 };
	HistorySample sample = {
		.instances = 1, .sessions = sim->c, .max_size = sim->c, .allotted = -1
	};
	double end = sim->now + seconds;
	int64_t n;
	double ignored;

	while (sim->now < end)
	{
		double wait, hold;

		sim_next(sim, &wait, &hold);
		waits[bucket_of(wait)]++;
		holds[bucket_of(hold)]++;
		ever->waits[bucket_of(wait)]++;
		ever->holds[bucket_of(hold)]++;
		ever->waited += wait * 1000;
		ever->callers++;
		sample.acquires++;
	}
	sample.in_use = sample.busy = sample.demand = sim_in_use(sim);
	report_moments(waits, ever->waits, &n, &sample.wait_mean_ms, &ignored);
	sample.wait_p99_ms = report_quantile_ms(waits, 0.99);
	report_moments(holds, ever->holds, &sample.holds, &sample.hold_mean_ms, &sample.hold_variation);
	return sample;
}

static void
test_simulated(Holds holds, const char *name, int c, double load, AdviceVerdict verdict)
{
	double hold = 0.05;
	double waited;
	Ever ever = { 0 };
	AdviceSums sums = { 0 };
	Sim sim;
	Advice advice;

	sim_init(&sim, c, c * load / hold, hold, holds);
	for (int i = 0; i < 60; i++)
	{
		HistorySample sample = simulate_part(&sim, 60, &ever);

		advice_add(&sums, &sample, (i + 1) * MINUTE, MINUTE);
	}
	waited = ever.waited / (double) ever.callers;
	advice = advice_judge(&sums, 10, reason, sizeof(reason));
	verdict_is(advice, verdict, name);
	ok(fabs(advice.wait_ms - waited) <= fmax(0.05 * waited, 0.002),
	   "%s, %d at %.2f: waited %.3f ms, by the buckets %.3f", name, c, load, waited,
	   advice.wait_ms);
	ok(fabs(advice.predicted_ms - waited) <= fmax(0.25 * waited, 0.005 * hold * 1000),
	   "%s, %d at %.2f: predicted %.3f ms: %+.1f %%", name, c, load, advice.predicted_ms,
	   (advice.predicted_ms / waited - 1) * 100);
}

/* Samples of five loans are as good as samples of hundreds: no mean is taken of five alone. */
static void
test_small_samples(void)
{
	double wait[2];

	for (int fine = 0; fine < 2; fine++)
	{
		Ever ever = { 0 };
		AdviceSums sums = { 0 };
		double seconds = fine ? 0.05 : 60;
		Sim sim;

		sim_init(&sim, 4, 4 * 0.8 / 0.05, 0.05, HOLDS_EXPONENTIAL);
		while (sim.now < 3600)
		{
			/* a part ends with the arrival that is the first beyond it */
			double from = sim.now;
			HistorySample sample = simulate_part(&sim, seconds, &ever);

			advice_add(&sums, &sample, (int64_t) (sim.now * 1e6),
					   (int64_t) ((sim.now - from) * 1e6));
		}
		wait[fine] = advice_judge(&sums, 10, reason, sizeof(reason)).predicted_ms;
	}
	ok(fabs(wait[1] / wait[0] - 1) < 0.05, "sampled each 50 ms, or each minute: %.1f and %.1f ms",
	   wait[1], wait[0]);
}

int
main(void)
{
	test_none();
	test_raise();
	test_hold_by_use();
	test_waits_that_size_does_not_explain();
	test_shrink();
	test_leak();
	test_no_leak();
	test_ended();
	test_not_enough();
	test_instances();
	test_extremes();
	test_small_samples();
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 4, 0.5, ADVICE_RAISE_BUDGET);
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 10, 0.4, ADVICE_NONE);
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 10, 0.8, ADVICE_RAISE_BUDGET);
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 50, 0.7, ADVICE_NONE);
	test_simulated(HOLDS_EXPONENTIAL, "exponential", 50, 0.2, ADVICE_SHRINK_POOL);
	test_simulated(HOLDS_CONSTANT, "constant", 10, 0.5, ADVICE_NONE);
	test_simulated(HOLDS_CONSTANT, "constant", 10, 0.8, ADVICE_RAISE_BUDGET);
	test_simulated(HOLDS_HYPER, "hyperexponential", 10, 0.8, ADVICE_RAISE_BUDGET);
	test_simulated(HOLDS_HYPER, "hyperexponential", 50, 0.3, ADVICE_SHRINK_POOL);
	return done_testing();
}
