/*-------------------------------------------------------------------------
 *
 * totals.c
 *	  Totals of a pool: against a model that counts every event by itself.
 *
 * sources: extension/totals.c extension/report.c
 *
 *-------------------------------------------------------------------------
 */
#include "totals.h"

#include <ctype.h>

#include "pqpool.h"

#include "draw.h"
#include "tap.h"

#define NUMBERS ((int) (sizeof(PoolTotals) / sizeof(int64_t)))

static int64_t *
number(PoolTotals *totals, int i)
{
	return (int64_t *) totals + i;
}

static void
test_sums(void)
{
	PoolTotals totals = { 0 };
	PoolTotals first = { .acquires = 10, .timeouts = 2, .errors[1] = 2, .wait[3] = 12 };
	PoolTotals second = { .acquires = 15, .timeouts = 2, .errors[1] = 2, .wait[3] = 17 };
	PoolTotals most = { .acquires = INT64_MAX, .hold[31] = INT64_MAX };

	ok(totals_empty(&totals), "nothing yet");
	totals_add(&totals, &first, NULL);
	totals_add(&totals, &second, &first);
	is_int(totals.acquires, 15, "what happened in between is added");
	is_int(totals.timeouts, 2, "nothing twice");
	is_int(totals.wait[3], 17, "in histograms, too");
	ok(!totals_empty(&totals), "something");
	totals_add(&totals, &second, NULL);
	is_int(totals.acquires, 30, "of one that began anew all is added");
	totals_add(&totals, &most, NULL);
	totals_add(&totals, &most, NULL);
	ok(totals.acquires == INT64_MAX && totals.hold[31] == INT64_MAX, "sums stay at the largest");
	totals_add(&totals, &second, &first);
	ok(totals.acquires == INT64_MAX && totals_valid(&totals), "for good");
}

static void
test_differences(void)
{
	PoolTotals totals = { .acquires = 15, .wait[3] = INT64_MAX, .hold[0] = 7 };
	PoolTotals other = { .acquires = 10, .wait[3] = -5, .hold[0] = 9 };

	totals_subtract(&totals, &other);
	is_int(totals.acquires, 5, "a difference");
	ok(totals.wait[3] == INT64_MAX, "stays at the largest");
	is_int(totals.hold[0], -2, "may be negative");
	totals.acquires = -INT64_MAX;
	totals_subtract(&totals, &other);
	ok(totals.acquires == -INT64_MAX, "stays at the least");
	other.acquires = -INT64_MAX;
	totals_subtract(&totals, &other);
	is_int(totals.acquires, 0, "from one end to the middle");
}

static void
test_valid(void)
{
	int wrong = 0;

	for (int i = 0; i < NUMBERS; i++)
	{
		PoolTotals totals = { 0 };

		wrong += !totals_valid(&totals) || !totals_empty(&totals);
		*number(&totals, i) = INT64_MAX;
		wrong += !totals_valid(&totals) || totals_empty(&totals);
		*number(&totals, i) = -1;
		wrong += totals_valid(&totals) || totals_empty(&totals);
	}
	is_int(wrong, 0, "a negative number is found wherever it stands");
}

static void
test_failures(void)
{
	PoolTotals totals = { .timeouts = 10 };

	is_int(totals_failures(&totals), 0, "who tells no errors has no failures");
	totals.errors[PQPOOL_TIMED_OUT] = 1;
	totals.errors[PQPOOL_OVER_ALLOTMENT] = 2;
	totals.errors[PQPOOL_PAUSED] = 3;
	totals.errors[PQPOOL_QUEUED] = 4;
	is_int(totals_failures(&totals), 0, "all that time out are timeouts");
	totals.errors[PQPOOL_EXHAUSTED] = 5;
	totals.errors[PQPOOL_SERVER_DOWN] = 6;
	totals.errors[47] = 7;
	is_int(totals_failures(&totals), 18, "all others are failures");
	totals.errors[46] = totals.errors[45] = INT64_MAX;
	ok(totals_failures(&totals) == INT64_MAX, "at most the largest number");
}

/* "PQPOOL_TIMED_OUT" is "timed_out" here. */
static bool
same_name(const char *ours, const char *theirs)
{
	theirs += strlen("PQPOOL_");
	while (ours != NULL && *ours != '\0' && *ours == tolower((unsigned char) *theirs))
	{
		ours++;
		theirs++;
	}
	return ours != NULL && *ours == '\0' && *theirs == '\0';
}

static void
test_names(void)
{
	static const char *const reasons[] = {
		[PQPOOL_CLOSE_IDLE] = "idle",		[PQPOOL_CLOSE_LIFETIME] = "lifetime",
		[PQPOOL_CLOSE_LIMIT] = "limit",		[PQPOOL_CLOSE_DRAIN] = "drain",
		[PQPOOL_CLOSE_DEAD] = "dead",		[PQPOOL_CLOSE_UNFIT] = "unfit",
		[PQPOOL_CLOSE_DISCARD] = "discard", [PQPOOL_CLOSE_FINISHED] = "finished",
		[PQPOOL_CLOSE_HOOK] = "hook",		[PQPOOL_CLOSE_POOL] = "pool",
	};
	int known = 0;

#define CHECK(name, number, text)                                                \
	if (number != 0)                                                             \
	{                                                                            \
		ok(same_name(totals_error_name(number), #name), "%d is " #name, number); \
		known++;                                                                 \
	}
	PQPOOL_CODES(CHECK)
#undef CHECK
	for (int i = -1; i <= REPORT_ERRORS; i++)
		known -= totals_error_name(i) != NULL;
	is_int(known, 0, "and there are no others");

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		is_str(totals_reason_name((int) i), reasons[i], "reason %zu", i);
	ok(totals_reason_name(PQPOOL_CLOSE_POOL + 1) == NULL && totals_reason_name(-1) == NULL &&
		   totals_reason_name(REPORT_REASONS) == NULL,
	   "and there are no others");
}

static void
test_json(void)
{
	PoolTotals totals = { .errors = { [1] = 3, [7] = 4, [41] = INT64_MAX },
						  .closed_by = { [0] = 1, [15] = 2 } };
	char json[TOTALS_JSON];

	totals_errors_json(&totals, json);
	is_str(json, "{\"timed_out\": 3, \"7\": 4, \"system\": 9223372036854775807}", "errors");
	totals_reasons_json(&totals, json);
	is_str(json, "{\"idle\": 1, \"15\": 2}", "reasons");
	memset(&totals, 0, sizeof(totals));
	totals_errors_json(&totals, json);
	is_str(json, "{}", "none");
	for (int i = 0; i < REPORT_ERRORS; i++)
		totals.errors[i] = INT64_MAX;
	totals_errors_json(&totals, json);
	ok(strlen(json) < TOTALS_JSON - 1 && json[strlen(json) - 1] == '}',
	   "all of them fit (%zu bytes)", strlen(json));
}

/*
 * Three instances, by the rules of the registry: what they do is counted apart,
 * and must be what the totals say, whatever their reports leave out and
 * whenever they begin anew.
 */
static void
test_model(void)
{
	enum
	{
		INSTANCES = 3
	};
	PoolTotals totals = { 0 };
	PoolTotals all = { 0 };
	Report state[INSTANCES] = { 0 };
	Report before[INSTANCES] = { 0 };
	PoolTotals last = { 0 };
	int wrong = 0;
	int fell = 0;

	for (int round = 0; round < 20000; round++)
	{
		int i = (int) draw(INSTANCES);
		PoolTotals happened = { 0 };
		PoolTotals now;
		Report report;
		bool anew = draw(50) == 0 && before[i].counted.opened > 0;

		/* something happens; who begins anew has opened fewer than before, and says so */
		if (anew)
			memset(&state[i], 0, sizeof(state[i]));
		now = state[i].counted;
		for (int k = 0; k < NUMBERS; k++)
			if (draw(4) == 0)
				*number(&happened, k) = draw(100);
		if (anew)
			happened.opened = 0;
		for (int k = 0; k < NUMBERS; k++)
		{
			*number(&now, k) += *number(&happened, k);
			*number(&all, k) += *number(&happened, k);
		}
		state[i].counted = now;

		/* in a report that leaves nothing out, which bit means what does not matter here */
		report = state[i];
		report.given = UINT32_MAX;
		if (report_began_anew(&report, &before[i]))
			totals_add(&totals, &report.counted, NULL);
		else
		{
			report_keep_counters(&report, &before[i]);
			totals_add(&totals, &report.counted, &before[i].counted);
		}
		before[i] = report;
		wrong += memcmp(&totals, &all, sizeof(totals)) != 0;
		for (int k = 0; k < NUMBERS; k++)
			fell += *number(&totals, k) < *number(&last, k);
		last = totals;
	}
	is_int(wrong, 0, "20000 reports: totals are what happened");
	is_int(fell, 0, "and never go back");
}

int
main(void)
{
	test_sums();
	test_differences();
	test_valid();
	test_failures();
	test_names();
	test_json();
	test_model();
	return done_testing();
}
