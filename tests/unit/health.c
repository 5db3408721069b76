/*-------------------------------------------------------------------------
 *
 * health.c
 *	  Verdicts, which of two comes first, and the sentences word for word; then
 *	  verdicts over time, with a clock of the test's own.
 *
 * sources: extension/health.c
 *
 *-------------------------------------------------------------------------
 */
#include "health.h"

#include <limits.h>

#include "tap.h"

static char reason[256];

/* A pool with which nothing is wrong: 8 instances, 40 sessions, limits far away. */
static HealthInput
well(void)
{
	return (HealthInput){
		.instances = 8,
		.reporting = 8,
		.sessions = 40,
		.in_use = 30,
		.demand = 30,
		.allotted = 60,
		.max_size = 80,
	};
}

static void
judged(const HealthInput *in, Health verdict, const char *sentence)
{
	Health got = health_judge(in, reason, sizeof(reason));

	is_str(health_name(got), health_name(verdict), "%s", health_name(verdict));
	is_str(reason, sentence, "  because: %s", sentence);
}

static void
test_starved(void)
{
	HealthInput in = well();

	in.waiting = 62;
	in.in_use = 40;
	in.demand = 102;
	in.allotted = 40;
	in.rule = "orders=40";
	judged(&in, HEALTH_STARVED, "62 wait; wants 102, may hold 40 (rule orders=40)");
	in.rule = NULL;
	judged(&in, HEALTH_STARVED, "62 wait; wants 102, may hold 40");
	in.rule = "";
	judged(&in, HEALTH_STARVED, "62 wait; wants 102, may hold 40");
	in.waiting = 1;
	in.max_size = -1;
	judged(&in, HEALTH_STARVED, "1 waits; wants 102, may hold 40");
	in.allotted = 0;
	judged(&in, HEALTH_STARVED, "1 waits; wants 102, may hold 0");
	in.rule = "100%s%n";
	judged(&in, HEALTH_STARVED, "1 waits; wants 102, may hold 0 (rule 100%s%n)");
	in.waiting = 0;
	judged(&in, HEALTH_OK, "");
}

static void
test_saturated(void)
{
	HealthInput in = well();

	in.waiting = 12;
	in.demand = 92;
	in.allotted = 200;
	judged(&in, HEALTH_SATURATED, "12 wait; wants 92, its own limit is 80");
	in.allotted = -1;
	judged(&in, HEALTH_SATURATED, "12 wait; wants 92, its own limit is 80");
	in.allotted = 80;
	judged(&in, HEALTH_SATURATED, "12 wait; wants 92, its own limit is 80");
	in.allotted = 79;
	judged(&in, HEALTH_STARVED, "12 wait; wants 92, may hold 79");
	in.allotted = 200;
	in.waiting = 1;
	judged(&in, HEALTH_SATURATED, "1 waits; wants 92, its own limit is 80");
	in.demand = 80;
	judged(&in, HEALTH_OK, "1 waits; wants 80, holds 40");
}

static void
test_failing(void)
{
	HealthInput in = well();

	in.failing = 2;
	in.failed_opens = 17;
	judged(&in, HEALTH_FAILING,
		   "holds 40, none opens: 17 attempts failed since one worked, in 2 of 8 instances");
	in.failing = in.instances = 1;
	in.failed_opens = 1;
	judged(&in, HEALTH_FAILING,
		   "holds 40, none opens: 1 attempt failed since one worked, in 1 of 1 instance");
}

static void
test_leaking(void)
{
	HealthInput in = well();

	in.in_use = 44;
	in.leaks = 31;
	in.leak_ms = 5 * 60000 + 59999;
	in.leak_site = "billing.c:214";
	in.leaks_at_site = 29;
	judged(&in, HEALTH_LEAKING, "31 loans over 5 min, server idle; 29 at billing.c:214");
	in.waiting = 3;
	judged(&in, HEALTH_LEAKING, "31 loans over 5 min, server idle; 29 at billing.c:214; 3 wait");
	in.waiting = 0;
	in.leak_site = NULL;
	in.leaks = 1;
	in.leak_ms = 0;
	judged(&in, HEALTH_LEAKING, "1 loan over 0 ms, server idle");
	in.leak_ms = 999;
	judged(&in, HEALTH_LEAKING, "1 loan over 999 ms, server idle");
	in.leak_ms = 59999;
	judged(&in, HEALTH_LEAKING, "1 loan over 59 s, server idle");
	in.leak_ms = INT64_C(3600) * 1000 * 47;
	judged(&in, HEALTH_LEAKING, "1 loan over 47 h, server idle");
	in.leak_ms = INT64_C(3600) * 1000 * 49;
	judged(&in, HEALTH_LEAKING, "1 loan over 2 d, server idle");
}

static void
test_blocked(void)
{
	HealthInput in = well();

	in.in_use = 10;
	in.lock_waits = 8;
	in.stuck_ms = 34000;
	judged(&in, HEALTH_OK, "");
	in.waiting = 12;
	judged(&in, HEALTH_BLOCKED, "12 wait; 10 in use, 8 blocked by locks, for up to 34 s");
	in.idle_in_xact = 1;
	judged(&in, HEALTH_BLOCKED,
		   "12 wait; 10 in use, 8 blocked by locks, 1 idle in transaction, for up to 34 s");
	in.lock_waits = 0;
	judged(&in, HEALTH_BLOCKED, "12 wait; 10 in use, 1 idle in transaction, for up to 34 s");
	in.idle_in_xact = 0;
	in.lock_waits = 1;
	judged(&in, HEALTH_BLOCKED, "12 wait; 10 in use, 1 blocked by a lock, for up to 34 s");
}

/* What is stuck is the cause of a queue, and not the limit, if it is half of what is lent. */
static void
test_cause_of_a_queue(void)
{
	HealthInput in = well();

	in.waiting = 50;
	in.in_use = 10;
	in.demand = 60;
	in.max_size = 10;
	in.lock_waits = 4;
	judged(&in, HEALTH_SATURATED, "50 wait; wants 60, its own limit is 10");
	in.idle_in_xact = 1;
	in.stuck_ms = 7000;
	judged(&in, HEALTH_BLOCKED,
		   "50 wait; 10 in use, 4 blocked by locks, 1 idle in transaction, for up to 7 s");
	in.lock_waits = in.idle_in_xact = 0;
	in.allotted = 5;
	in.leaks = 4;
	judged(&in, HEALTH_STARVED, "50 wait; wants 60, may hold 5");
	in.leaks = 5;
	in.leak_ms = 60000;
	judged(&in, HEALTH_LEAKING, "5 loans over 1 min, server idle; 50 wait");
}

static void
test_stale(void)
{
	HealthInput in = well();

	in.silent = 2;
	judged(&in, HEALTH_STALE, "2 of 8 reporting instances are silent");
	in.silent = 1;
	judged(&in, HEALTH_STALE, "1 of 8 reporting instances is silent");
	in.reporting = 1;
	judged(&in, HEALTH_STALE, "1 of 1 reporting instance is silent");
}

static void
test_ok(void)
{
	HealthInput in = well();

	judged(&in, HEALTH_OK, "");
	in.waiting = 3;
	judged(&in, HEALTH_OK, "3 wait; wants 30, holds 40");
	in.allotted = in.max_size = -1;
	in.demand = 90;
	judged(&in, HEALTH_OK, "3 wait; wants 90, holds 40");
	in.waiting = 0;
	in.reporting = 0;
	judged(&in, HEALTH_OK, "does not report");
	in.reporting = 5;
	judged(&in, HEALTH_OK, "3 of 8 instances do not report");
	in.reporting = 7;
	judged(&in, HEALTH_OK, "1 of 8 instances does not report");
	in = (HealthInput){ .allotted = -1, .max_size = -1 };
	judged(&in, HEALTH_OK, "");
}

/* Callers of a paused pool wait because they are to; what else is wrong still is. */
static void
test_paused(void)
{
	HealthInput in = well();

	in.paused = 8;
	judged(&in, HEALTH_OK, "paused; 30 in use, 0 wait");
	in.in_use = 0;
	in.waiting = 1;
	judged(&in, HEALTH_OK, "paused; 0 in use, 1 waits");
	in.waiting = 62;
	in.demand = 92;
	in.allotted = 40;
	judged(&in, HEALTH_OK, "paused; 0 in use, 62 wait");
	in.allotted = -1;
	judged(&in, HEALTH_OK, "paused; 0 in use, 62 wait");
	in.paused = 7;
	judged(&in, HEALTH_OK, "7 of 8 instances are paused; 0 in use, 62 wait");
	in.silent = 1;
	judged(&in, HEALTH_STALE, "1 of 8 reporting instances is silent");
	in.leaks = 1;
	in.leak_ms = 61000;
	judged(&in, HEALTH_LEAKING, "1 loan over 1 min, server idle; 62 wait");
	in.leaks = 0;
	in.paused = 0;
	judged(&in, HEALTH_SATURATED, "62 wait; wants 92, its own limit is 80");
}

/* Everything is wrong at once; then the worst is taken away, and the next worst is named. */
static void
test_precedence(void)
{
	HealthInput in = well();

	in.waiting = 50;
	in.demand = 90;
	in.failing = 1;
	in.failed_opens = 3;
	in.leaks = 4;
	in.leak_ms = 61000;
	in.lock_waits = 2;
	in.stuck_ms = 9000;
	in.silent = 3;
	judged(&in, HEALTH_FAILING,
		   "holds 40, none opens: 3 attempts failed since one worked, in 1 of 8 instances");
	in.failing = 0;
	judged(&in, HEALTH_STARVED, "50 wait; wants 90, may hold 60");
	in.allotted = 100;
	judged(&in, HEALTH_SATURATED, "50 wait; wants 90, its own limit is 80");
	in.max_size = 100;
	judged(&in, HEALTH_LEAKING, "4 loans over 1 min, server idle; 50 wait");
	in.leaks = 0;
	judged(&in, HEALTH_BLOCKED, "50 wait; 30 in use, 2 blocked by locks, for up to 9 s");
	in.lock_waits = 0;
	judged(&in, HEALTH_STALE, "3 of 8 reporting instances are silent");
	in.silent = 0;
	judged(&in, HEALTH_OK, "50 wait; wants 90, holds 40");
	ok(HEALTH_FAILING < HEALTH_STARVED && HEALTH_STARVED < HEALTH_SATURATED &&
		   HEALTH_SATURATED < HEALTH_LEAKING && HEALTH_LEAKING < HEALTH_BLOCKED &&
		   HEALTH_BLOCKED < HEALTH_STALE && HEALTH_STALE < HEALTH_OK,
	   "the enum is in the order of the screen");
}

static void
test_names(void)
{
	is_str(health_name(HEALTH_FAILING), "failing", "name");
	is_str(health_name(HEALTH_STARVED), "starved", "name");
	is_str(health_name(HEALTH_SATURATED), "saturated", "name");
	is_str(health_name(HEALTH_LEAKING), "leaking", "name");
	is_str(health_name(HEALTH_BLOCKED), "blocked", "name");
	is_str(health_name(HEALTH_STALE), "stale", "name");
	is_str(health_name(HEALTH_OK), "ok", "name");
}

/* Each size from 0 on, in a block of just that size. */
static void
test_truncation(void)
{
	const char *whole =
		"62 wait; wants 102, may hold 40 (rule b\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80r=40)";
	HealthInput in = well();
	int wrong = 0;

	in.waiting = 62;
	in.demand = 102;
	in.allotted = 40;
	in.rule = "b\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80r=40";
	judged(&in, HEALTH_STARVED, whole);
	for (size_t size = 0; size <= strlen(whole); size++)
	{
		char *cut = malloc(size > 0 ? size : 1);
		size_t len;

		cut[0] = '!';
		wrong += health_judge(&in, cut, size) != HEALTH_STARVED;
		len = size == 0 ? 0 : strlen(cut);
		wrong += size == 0 && cut[0] != '!';
		wrong += memcmp(cut, whole, len) != 0;
		wrong += (whole[len] & 0xC0) == 0x80 && size > 0; /* within a character */
		wrong += len + 5 < size;						  /* more lost than a character */
		free(cut);
	}
	is_int(wrong, 0, "cut to any size: terminated, and between two characters");
}

/* Figures that cannot be are not repeated: no sentence has a minus sign. */
static void
test_impossible_figures(void)
{
	static const int odd[] = { INT_MIN, -1, 0, 1, 5, INT_MAX };
	unsigned int random_state = 7;
	int wrong = 0;

	for (int i = 0; i < 200000; i++)
	{
		HealthInput in = { .rule = NULL };
		int *figures[] = { &in.instances,	 &in.reporting, &in.silent,	 &in.sessions,
						   &in.in_use,		 &in.waiting,	&in.leaks,	 &in.demand,
						   &in.allotted,	 &in.max_size,	&in.failing, &in.lock_waits,
						   &in.idle_in_xact, &in.paused };

		for (size_t f = 0; f < sizeof(figures) / sizeof(figures[0]); f++)
		{
			random_state = random_state * 1103515245u + 12345u;
			*figures[f] = odd[(random_state >> 16) % 6];
		}
		in.leak_ms = in.stuck_ms = in.failed_opens = odd[(random_state >> 20) % 6];
		health_judge(&in, reason, sizeof(reason));
		if (strchr(reason, '-') != NULL && wrong++ == 0)
			diag("%s", reason);
	}
	is_int(wrong, 0, "200000 sets of impossible figures: none below 0 is repeated");
}

/*---- over time: enter after 5, leave after 30 ----*/

#define ENTER 5
#define LEAVE 30

/*
 * Figures that say the same from `from` until before `to`, one look a unit of
 * time.  The number of changes of the verdict.
 */
static int
lasting(HealthState *state, Health figures, int from, int to)
{
	int changes = 0;

	for (int now = from; now < to; now++)
		changes += health_step(state, figures, now, ENTER, LEAVE);
	return changes;
}

static void
verdict_is(const HealthState *state, Health verdict, const char *when)
{
	is_str(health_name(state->verdict), health_name(verdict), "%s", when);
}

static void
test_enter_and_leave(void)
{
	HealthState state = { 0 };

	is_int(lasting(&state, HEALTH_OK, 100, 200), 0, "well");
	verdict_is(&state, HEALTH_OK, "ok");
	is_int(lasting(&state, HEALTH_STARVED, 200, 205), 0, "worse, but not for long enough");
	verdict_is(&state, HEALTH_OK, "  still ok");
	is_int(lasting(&state, HEALTH_STARVED, 205, 300), 1, "long enough: one change");
	verdict_is(&state, HEALTH_STARVED, "  starved");
	is_int(lasting(&state, HEALTH_OK, 300, 330), 0, "better, but not for long enough");
	verdict_is(&state, HEALTH_STARVED, "  still starved");
	is_int(lasting(&state, HEALTH_OK, 330, 400), 1, "long enough: one change");
	verdict_is(&state, HEALTH_OK, "  ok");
}

static void
test_flapping(void)
{
	HealthState state = { 0 };
	int changes = 0;

	for (int now = 0; now < 1000; now++)
		changes += health_step(&state, now % 5 < 4 ? HEALTH_STARVED : HEALTH_OK, now, ENTER, LEAVE);
	is_int(changes, 0, "worse four times of five: nothing lasts, nothing changes");
	changes = lasting(&state, HEALTH_STARVED, 1000, 1010);
	for (int now = 1010; now < 2000; now++)
		changes += health_step(&state, now % 29 ? HEALTH_OK : HEALTH_STARVED, now, ENTER, LEAVE);
	is_int(changes, 1, "once it has entered, a moment in each time to leave keeps it");
	verdict_is(&state, HEALTH_STARVED, "  starved");
}

/*
 * Among several that are worse the mildest was true all the time; of several that are
 * better the worst.
 */
static void
test_between(void)
{
	HealthState state = { 0 };
	int changes = 0;

	for (int now = 0; now < 100; now++)
		changes +=
			health_step(&state, now % 2 ? HEALTH_STARVED : HEALTH_BLOCKED, now, ENTER, LEAVE);
	is_int(changes, 1, "two in turn: one change");
	verdict_is(&state, HEALTH_BLOCKED, "  to the milder one");
	is_int(lasting(&state, HEALTH_STARVED, 100, 200), 1, "then the worse one lasts");
	verdict_is(&state, HEALTH_STARVED, "  and is the verdict");
	(void) lasting(&state, HEALTH_STALE, 200, 210);
	(void) lasting(&state, HEALTH_LEAKING, 210, 220);
	is_int(lasting(&state, HEALTH_OK, 220, 231), 1, "better, in three steps: one change");
	verdict_is(&state, HEALTH_LEAKING, "  to the worst of them");
	is_int(lasting(&state, HEALTH_OK, 231, 300), 1, "then the best lasts");
	verdict_is(&state, HEALTH_OK, "  ok");
}

static void
test_no_delay(void)
{
	HealthState state = { 0 };

	ok(health_step(&state, HEALTH_STALE, 7, 0, 0), "no time to enter: at once");
	verdict_is(&state, HEALTH_STALE, "  even at the first look");
	ok(health_step(&state, HEALTH_OK, 7, 0, 0), "no time to leave: at once");
}

/*
 * Whatever comes, the verdict is one that the figures said within the time it takes to
 * change it.
 */
static void
test_random_figures(void)
{
	HealthState state = { 0 };
	int last_said[HEALTH_OK + 1] = { 0 };
	unsigned int random_state = 11;
	int wrong = 0;

	for (int now = 1; now < 200000; now++)
	{
		Health figures;
		Health before = state.verdict;

		random_state = random_state * 1103515245u + 12345u;
		figures = (random_state >> 16) % 16 ? (Health) ((random_state >> 24) % 7) : HEALTH_OK;
		if ((now / 100) % 2)
			figures = (Health) (now / 1000 % 7);
		last_said[figures] = now;
		if (health_step(&state, figures, now, ENTER, LEAVE))
			wrong += now - last_said[state.verdict] > (state.verdict < before ? ENTER : LEAVE);
	}
	is_int(wrong, 0, "200000 figures at random: each verdict was said shortly before");
}

static void
test_news(void)
{
	HealthNews news = { 0 };
	Health from = HEALTH_OK;
	int changes = 0;

	ok(!health_is_news(&news, HEALTH_OK, false, 1, 60, &from, &changes), "nothing new");
	ok(health_is_news(&news, HEALTH_STARVED, true, 2, 60, &from, &changes),
	   "a change is told at once");
	is_str(health_name(from), "ok", "  from ok");
	is_int(changes, 1, "  one");
	ok(!health_is_news(&news, HEALTH_STARVED, false, 3, 60, &from, &changes), "and only once");
	ok(!health_is_news(&news, HEALTH_OK, true, 10, 60, &from, &changes), "the next comes too soon");
	ok(!health_is_news(&news, HEALTH_LEAKING, true, 20, 60, &from, &changes),
	   "and so does one more");
	ok(!health_is_news(&news, HEALTH_LEAKING, false, 61, 60, &from, &changes), "a moment before");
	ok(health_is_news(&news, HEALTH_LEAKING, false, 62, 60, &from, &changes),
	   "both are told when it is time");
	is_str(health_name(from), "starved", "  from what was told last");
	is_int(changes, 2, "  two");
	ok(!health_is_news(&news, HEALTH_LEAKING, false, 1000, 60, &from, &changes),
	   "nothing is left to tell");
	ok(health_is_news(&news, HEALTH_OK, true, 1001, 60, &from, &changes),
	   "later ones again at once");
}

int
main(void)
{
	test_failing();
	test_blocked();
	test_cause_of_a_queue();
	test_enter_and_leave();
	test_flapping();
	test_between();
	test_no_delay();
	test_random_figures();
	test_news();
	test_starved();
	test_saturated();
	test_leaking();
	test_stale();
	test_ok();
	test_paused();
	test_precedence();
	test_names();
	test_truncation();
	test_impossible_figures();
	return done_testing();
}
