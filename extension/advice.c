/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  What to do about a pool's size: advice.h has the model and its limits.
 *
 * Order of verdicts.  A leak comes first: connections that nobody gives
 * back are not replaced by more connections for long.  Then a pool whose callers wait;
 * then one that is larger than it need be.  What is measured decides whether there is
 * something to do, the model only how much: a pool whose callers do not wait
 * needs nothing, whatever a formula says.
 *
 *-------------------------------------------------------------------------
 */
#include "advice.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "queueing.h"

#define SATURATED 0.9  /* utilization from which callers are held up more than they show */
#define LONG_QUEUE 5.0 /* mean wait by mean hold from which callers queue all the time */
#define UNEXPLAINED \
	0.5			   /* part of the lent connections that neither arrivals nor the server explain */
#define RARE 0.001 /* part of the acquires that may time out */
#define WORTH_SHRINKING 1.5 /* times what is recommended, and by two at least */
#define STEADY_PEAK 3.0		/* busiest by mean rate, up to which the rate is called steady */
#define ALIKE 0.15			/* variation of hold times below which their mean is known badly */
#define AGREEMENT 2.0		/* times that connections lent and connections explained may differ */

static double
larger(double a, double b)
{
	return a > b ? a : b;
}

static double
smaller(double a, double b)
{
	return a < b ? a : b;
}

static double
known(double value)
{
	return isfinite(value) ? value : -1.0;
}

/*---- adding up ----*/

int
advice_size(const HistorySample *sample)
{
	int size = sample->max_size;

	if (sample->allotted >= 0 && (size < 0 || sample->allotted < size))
		size = sample->allotted;
	return size >= 0 ? size : sample->sessions;
}

/*
 * While callers wait: lent, or taken by what comes between two loans.  One that a report
 * calls idle is the one that it is sent on.
 */
static double
occupied(const HistorySample *sample)
{
	return smaller(sample->sessions, advice_size(sample));
}

/* What is true at a moment. */
static void
add_gauges(AdviceSums *sums, const HistorySample *sample)
{
	if (sums->reported++ == 0)
	{
		sums->first_leaks = sample->leaks;
		sums->first_waiting = sample->waiting;
	}
	sums->in_use += sample->in_use;
	sums->busy += sample->busy;
	if (sample->waiting > 0)
	{
		sums->queueing++;
		sums->occupied += occupied(sample);
	}
	if (sample->demand > sums->peak)
		sums->peak = sample->demand;
}

static void
add_counters(AdviceSums *sums, const HistorySample *sample, double seconds)
{
	double arrivals = (double) (sample->acquires + sample->timeouts);
	double rate = (arrivals - 2.0 * sqrt(arrivals)) / seconds;

	sums->counted++;
	sums->duration += seconds;
	sums->acquires += (double) sample->acquires;
	sums->timeouts += (double) sample->timeouts;
	sums->open_failures += (double) sample->open_failures;
	sums->busiest = larger(sums->busiest, rate);
	if (sample->wait_mean_ms >= 0)
	{
		sums->waits += sample->wait_mean_ms * arrivals;
		sums->p99 += sample->wait_p99_ms * arrivals;
		sums->weight += arrivals;
	}
	if (sample->hold_mean_ms >= 0)
	{
		double n = (double) sample->holds;
		double mean = sample->hold_mean_ms;

		sums->holds += n;
		sums->hold += n * mean;
		sums->square += n * mean * mean * (1.0 + larger(0, sample->hold_variation));
	}
}

void
advice_add(AdviceSums *sums, const HistorySample *sample, int64_t at, int64_t duration)
{
	if (sample->in_use >= 0)
		add_gauges(sums, sample);
	if (sample->acquires >= 0 && duration > 0)
	{
		if (sums->counted == 0)
			sums->since = at - duration;
		add_counters(sums, sample, (double) duration / 1e6);
	}
	/* after its last instance has ended there is nothing to be said of its size */
	if (sample->instances > 0)
		sums->last = *sample;
}

/*---- figures ----*/

/* What the verdict is made of, beside Advice. */
typedef struct Figures
{
	double wanted; /* ms */
	int instances;
	double arrivals;
	double offered;		/* connections that arrivals keep busy, all instances together */
	double in_use;		/* mean */
	double busy;		/* mean: those that the server sees at work */
	double unexplained; /* lent, yet neither arrivals nor the server say why */
	bool failing;		/* callers wait in vain, not only once in a while */
	bool hurt;			/* or for longer than wanted */
	bool saturated;
	Queue queue; /* of one instance */
	Queue busiest;
} Figures;

static double
share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

/* They have arrived, and are not counted yet. */
static double
waiting_since(const AdviceSums *sums)
{
	return larger(0, (double) sums->last.waiting - sums->first_waiting);
}

/*
 * Little's law: connections in use are rate x hold, which tells the hold time where
 * their number is known because callers wait for them all the time.  What comes between two loans
 * is in it, rightly: the next caller waits for that too.  Within the bounds that a
 * bucket leaves its mean.
 */
static double
hold_by_use(const AdviceSums *sums, const Figures *f)
{
	double factor = f->offered > 0 ? share(sums->occupied, sums->queueing) / f->offered : 1;

	return f->queue.hold * smaller(4.0 / 3.0, larger(2.0 / 3.0, factor));
}

static void
fill_figures(const AdviceSums *sums, const Advice *advice, double wanted, Figures *f)
{
	double mean = share(sums->hold, sums->holds) / 1000.0;
	/*
	 * how often somebody waits when a report is made does not tell: then reports are made
	 * more often
	 */
	bool queues = advice->wait_ms > LONG_QUEUE * mean * 1000;

	f->wanted = wanted;
	f->instances = sums->last.instances > 0 ? sums->last.instances : 1;
	f->arrivals = sums->acquires + sums->timeouts + waiting_since(sums);
	f->offered = share(sums->acquires, sums->duration) * mean;
	f->in_use = share(sums->in_use, sums->reported);
	f->busy = share(sums->busy, sums->reported);
	f->unexplained = larger(0, f->in_use - larger(f->offered, f->busy));
	f->failing = sums->timeouts > RARE * f->arrivals;
	f->hurt = f->failing || advice->wait_p99_ms > wanted;
	f->queue.rate = share(f->arrivals, sums->duration) / f->instances;
	f->queue.hold = mean;
	f->queue.variation =
		mean > 0 ? larger(0, sums->square / sums->holds / 1e6 / (mean * mean) - 1.0) : 1.0;
	if (queues && sums->queueing > 0)
		f->queue.hold = hold_by_use(sums, f);
	f->busiest = f->queue;
	f->busiest.rate = larger(f->queue.rate, sums->busiest / f->instances);
	f->saturated =
		f->failing || queues || queue_offered(&f->queue) * f->instances > SATURATED * advice->size;
}

static int
per_instance(int size, int instances)
{
	int each = (int) (((int64_t) size + instances / 2) / instances);

	return each > 1 ? each : 1;
}

static void
predict(const Figures *f, const AdviceSums *sums, Advice *advice)
{
	int each = queue_servers_for(&f->busiest, ADVICE_QUANTILE, f->wanted / 1000.0);
	double total = (double) each * f->instances;

	if (advice->size > 0)
	{
		double wait = queue_mean_wait(&f->queue, per_instance(advice->size, f->instances));

		advice->utilization = queue_offered(&f->queue) * f->instances / advice->size;
		advice->predicted_ms = known(wait * 1000.0);
	}
	/* a burst that was met without waiting is not to wait from now on */
	if (!f->hurt)
		total = larger(total, smaller(sums->peak, advice->size));
	advice->recommended = (int) smaller(total, INT32_MAX);
	each = per_instance(advice->recommended, f->instances);
	advice->recommended_ms = known(queue_mean_wait(&f->busiest, each) * 1000.0);
	advice->recommended_p99_ms =
		known(queue_wait_quantile(&f->busiest, each, ADVICE_QUANTILE) * 1000.0);
}

/*---- verdicts ----*/

__attribute__((format(printf, 3, 4))) static void
say(char *reason, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void) vsnprintf(reason, size, format, arguments);
	va_end(arguments);
}

/*
 * Some are lent that nobody works with, and there are more of these than there were, or
 * others wait for them.  One that is lent for good and on purpose (a LISTENer)
 * is neither; nor is a batch job, whose connections the server sees at work.
 */
static bool
leaks(const AdviceSums *sums, const Figures *f, const Advice *advice)
{
	int now = sums->last.leaks;

	if (f->unexplained < UNEXPLAINED)
		return false;
	if (now > 0 && (now > sums->first_leaks || f->hurt))
		return true;
	return f->hurt && f->unexplained > UNEXPLAINED * f->in_use && f->in_use * 2 >= advice->size;
}

static Confidence
confidence(const AdviceSums *sums, const Figures *f)
{
	double explained = larger(f->offered, f->busy);
	bool agree = f->in_use <= AGREEMENT * explained + 1 && explained <= AGREEMENT * f->in_use + 1;
	bool steady = f->busiest.rate <= STEADY_PEAK * f->queue.rate;

	if (f->saturated || !agree || f->queue.variation < ALIKE || sums->counted < 10 ||
		f->arrivals < 1000)
		return CONFIDENCE_LOW;
	if (!steady || sums->counted < 30 || f->arrivals < 10000)
		return CONFIDENCE_MEDIUM;
	return CONFIDENCE_HIGH;
}

static bool
lacks_data(const AdviceSums *sums, const Figures *f, char *reason, size_t size)
{
	if (sums->reported == 0)
		say(reason, size, "not enough data: its instances do not report");
	else if (sums->counted < ADVICE_MIN_SAMPLES)
		say(reason, size, "not enough data: %d of at least %d samples", sums->counted,
			ADVICE_MIN_SAMPLES);
	else if (f->arrivals < ADVICE_MIN_ARRIVALS)
		say(reason, size, "not enough data: %.0f of at least %d acquires", f->arrivals,
			ADVICE_MIN_ARRIVALS);
	else if (sums->holds < ADVICE_MIN_ARRIVALS)
		say(reason, size, "not enough data: %.0f of at least %d loans have ended", sums->holds,
			ADVICE_MIN_ARRIVALS);
	else
		return false;
	return true;
}

static AdviceVerdict
judge_leak(const AdviceSums *sums, const Figures *f, const Advice *advice, char *reason,
		   size_t size)
{
	say(reason, size,
		"%.1f of %d connections are lent, %.1f of them to nobody who works: %.2f acquires/s "
		"explain "
		"%.1f, the server is busy with %.1f; %d %s out for too long",
		f->in_use, advice->size, f->unexplained, advice->arrival_rate, f->offered, f->busy,
		sums->last.leaks, sums->last.leaks == 1 ? "is" : "are");
	return ADVICE_FIX_LEAK;
}

/* Which of the limits is the one that has to be raised. */
static const char *
limit_name(const HistorySample *last)
{
	if (last->allotted >= 0 && (last->max_size < 0 || last->allotted < last->max_size))
		return "its allotment";
	return last->max_size >= 0 ? "its own limit" : "what it holds";
}

static AdviceVerdict
judge_size(const AdviceSums *sums, const Figures *f, const Advice *advice, char *reason,
		   size_t size)
{
	double load = queue_offered(&f->queue) * f->instances;

	if (f->hurt && advice->recommended > advice->size)
	{
		say(reason, size,
			"%.0f timed out, 99%% waited up to %.1f ms (wanted: %.1f); %.2f acquires/s of %.1f ms "
			"keep "
			"%.1f of %d connections busy (%s); %s%d would do",
			sums->timeouts, advice->wait_p99_ms, f->wanted, advice->arrival_rate,
			advice->hold_mean_ms, load, advice->size, limit_name(&sums->last),
			f->saturated ? "at least " : "", advice->recommended);
		return ADVICE_RAISE_BUDGET;
	}
	if (f->hurt)
	{
		say(reason, size,
			"%.0f timed out, 99%% waited up to %.1f ms (wanted: %.1f), but not for want of "
			"connections: %.1f of %d are busy; bursts, or slow or failing opening (%.0f failed)",
			sums->timeouts, advice->wait_p99_ms, f->wanted, load, advice->size,
			sums->open_failures);
		return ADVICE_NONE;
	}
	if (!f->saturated && advice->size >= advice->recommended * WORTH_SHRINKING &&
		advice->size - advice->recommended >= 2)
	{
		say(reason, size,
			"%.1f of %d connections are busy, and %d were wanted at the most; with %d, 99%% would "
			"wait up to %.1f ms (wanted: %.1f)",
			load, advice->size, sums->peak, advice->recommended, advice->recommended_p99_ms,
			f->wanted);
		return ADVICE_SHRINK_POOL;
	}
	say(reason, size, "99%% waited up to %.1f ms (wanted: %.1f); %.1f of %d connections are busy",
		larger(0, advice->wait_p99_ms), f->wanted, load, advice->size);
	return ADVICE_NONE;
}

Advice
advice_judge(const AdviceSums *sums, double wanted_ms, char *reason, size_t reason_size)
{
	Advice advice = {
		ADVICE_UNKNOWN, CONFIDENCE_LOW, advice_size(&sums->last), -1, -1, -1, -1, -1, -1, -1, -1, -1
	};
	Figures f;

	if (sums->counted > 0)
		advice.arrival_rate =
			share(sums->acquires + sums->timeouts + waiting_since(sums), sums->duration);
	if (sums->holds > 0)
		advice.hold_mean_ms = sums->hold / sums->holds;
	if (sums->weight > 0)
	{
		advice.wait_ms = sums->waits / sums->weight;
		advice.wait_p99_ms = sums->p99 / sums->weight;
	}
	fill_figures(sums, &advice, wanted_ms, &f);

	if (sums->counted >= ADVICE_MIN_SAMPLES && leaks(sums, &f, &advice))
	{
		advice.verdict = judge_leak(sums, &f, &advice, reason, reason_size);
		advice.confidence = sums->last.leaks > 0 ? CONFIDENCE_MEDIUM : CONFIDENCE_LOW;
		return advice;
	}
	if (lacks_data(sums, &f, reason, reason_size))
		return advice;
	advice.hold_mean_ms = f.queue.hold * 1000.0;
	predict(&f, sums, &advice);
	advice.confidence = confidence(sums, &f);
	advice.verdict = judge_size(sums, &f, &advice, reason, reason_size);
	return advice;
}

const char *
advice_name(AdviceVerdict verdict)
{
	static const char *const names[] = {
		[ADVICE_UNKNOWN] = NULL,
		[ADVICE_NONE] = "none",
		[ADVICE_FIX_LEAK] = "fix_leak",
		[ADVICE_RAISE_BUDGET] = "raise_budget",
		[ADVICE_SHRINK_POOL] = "shrink_pool",
	};

	return names[verdict];
}

const char *
advice_confidence_name(Confidence confidence)
{
	static const char *const names[] = {
		[CONFIDENCE_LOW] = "low",
		[CONFIDENCE_MEDIUM] = "medium",
		[CONFIDENCE_HIGH] = "high",
	};

	return names[confidence];
}
