/*-------------------------------------------------------------------------
 *
 * health.c
 *	  Verdicts, which of two comes first, and the sentences word for word.
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
test_leaking(void)
{
	HealthInput in = well();

	in.leaks = 31;
	in.in_use = 44;
	judged(&in, HEALTH_LEAKING, "31 loans out for longer than the client finds right; 44 in use");
	in.leaks = 1;
	judged(&in, HEALTH_LEAKING, "1 loan out for longer than the client finds right; 44 in use");
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
	judged(&in, HEALTH_LEAKING, "1 loan out for longer than the client finds right; 0 in use");
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
	in.leaks = 4;
	in.silent = 3;
	judged(&in, HEALTH_STARVED, "50 wait; wants 90, may hold 60");
	in.allotted = 100;
	judged(&in, HEALTH_SATURATED, "50 wait; wants 90, its own limit is 80");
	in.max_size = 100;
	judged(&in, HEALTH_LEAKING, "4 loans out for longer than the client finds right; 30 in use");
	in.leaks = 0;
	judged(&in, HEALTH_STALE, "3 of 8 reporting instances are silent");
	in.silent = 0;
	judged(&in, HEALTH_OK, "50 wait; wants 90, holds 40");
	ok(HEALTH_STARVED < HEALTH_SATURATED && HEALTH_SATURATED < HEALTH_LEAKING &&
		   HEALTH_LEAKING < HEALTH_STALE && HEALTH_STALE < HEALTH_OK,
	   "the enum is in the order of the screen");
}

static void
test_names(void)
{
	is_str(health_name(HEALTH_STARVED), "starved", "name");
	is_str(health_name(HEALTH_SATURATED), "saturated", "name");
	is_str(health_name(HEALTH_LEAKING), "leaking", "name");
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
		int *figures[] = { &in.instances, &in.reporting, &in.silent, &in.sessions,
						   &in.in_use,	  &in.waiting,	 &in.leaks,	 &in.demand,
						   &in.allotted,  &in.max_size,	 &in.paused };

		for (size_t f = 0; f < sizeof(figures) / sizeof(figures[0]); f++)
		{
			random_state = random_state * 1103515245u + 12345u;
			*figures[f] = odd[(random_state >> 16) % 6];
		}
		health_judge(&in, reason, sizeof(reason));
		if (strchr(reason, '-') != NULL && wrong++ == 0)
			diag("%s", reason);
	}
	is_int(wrong, 0, "200000 sets of impossible figures: none below 0 is repeated");
}

int
main(void)
{
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
