/*-------------------------------------------------------------------------
 *
 * main.c
 *	  Run scenarios, and print what came out, as a table in Markdown.
 *
 * sources: tests/sim/events.c tests/sim/server.c tests/sim/worker.c tests/sim/client.c
 * sources: tests/sim/judge.c tests/sim/scenarios.c tests/sim/sim.c tests/sim/unused.c
 * sources: extension/registry.c extension/grant.c extension/rule_set.c extension/enforce.c
 * sources: extension/past.c extension/pause.c extension/totals.c
 * sources: extension/allot.c extension/rules.c extension/report.c
 * flags: -O2 -Itests/sim/shim -Itests/sim -Iextension
 * flags: -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
 *
 * sim [-s SEEDS] [-f FIRST] [-q] [-o SERIES] [SCENARIO...]
 *	-s	how many seeds each (1), -f from which on (1)
 *	-q	small fleets
 *	-o	write the figures over time of each scenario's first seed to SERIES.SCENARIO.tsv
 *
 * Ends with 1 if something did not hold.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <unistd.h>

static struct
{
	int seeds;
	uint64 first;
	SimSize size;
	const char *series;
} options = { 1, 1, SIM_FULL, NULL };

static FILE *
open_series(const Scenario *scenario)
{
	char name[1024];
	FILE *file;

	if (options.series == NULL)
		return NULL;
	snprintf(name, sizeof(name), "%s.%s.tsv", options.series, scenario->name);
	file = fopen(name, "w");
	if (file == NULL)
	{
		perror(name);
		exit(2);
	}
	return file;
}

/* The worst of all seeds; what is counted is of the mean run. */
static void
add(Result *sum, const Result *one, int seeds)
{
	bool never = sum->fair_worst < 0 || one->fair_worst < 0;

	sum->clients = Max(sum->clients, one->clients);
	sum->published += one->published / seeds;
	sum->moves_late += one->moves_late;
	sum->fair_worst = never ? -1 : Max(sum->fair_worst, one->fair_worst);
	sum->fair_last = Max(sum->fair_last, one->fair_last);
	sum->overshoot = Max(sum->overshoot, one->overshoot);
	sum->headroom = Max(sum->headroom, one->headroom);
	sum->unknown = Max(sum->unknown, one->unknown);
	sum->refused += one->refused / seeds;
	sum->turned_away += one->turned_away / seeds;
	sum->opened += one->opened / seeds;
	sum->reports += one->reports / seeds;
	sum->knocks += one->knocks / seeds;
	sum->queued_longest = Max(sum->queued_longest, one->queued_longest);
	sum->due_longest = Max(sum->due_longest, one->due_longest);
	sum->jumps += one->jumps / seeds;
	sum->round_us += one->round_us / seeds;
	sum->round_us_worst = Max(sum->round_us_worst, one->round_us_worst);
	sum->events += one->events;
	sum->quiet_rounds += one->quiet_rounds;
}

static void
print_head(void)
{
	puts("| scenario | instances | fair after, s | over capacity | headroom | refused | turned "
		 "away | moves | at rest |"
		 " connections | reports | knocks | longest without, s | longest due, s | jumps | round, "
		 "us |");
	puts("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | "
		 "---: | "
		 "---: |"
		 " ---: | ---: |");
}

static void
print_row(const char *name, const Result *r)
{
	printf("| %s | %d | %.1f | %d | %d | %" PRId64 " | %" PRId64 " | %" PRId64 " | %" PRId64
		   " | %" PRId64 " | %" PRId64 " | %" PRId64 " | %.0f | %.1f | %" PRId64 " | %.0f |\n",
		   name, r->clients, r->fair_worst, r->overshoot, r->headroom, r->refused, r->turned_away,
		   r->published, r->moves_late, r->opened, r->reports, r->knocks, r->queued_longest,
		   r->due_longest, r->jumps, r->round_us);
	fflush(stdout);
}

static int quiet_rounds = 0;

static bool
run_scenario(const Scenario *scenario)
{
	Result worst = { 0 };
	bool good = true;

	for (int i = 0; i < options.seeds; i++)
	{
		uint64 seed = options.first + (uint64) i;
		FILE *series = i == 0 ? open_series(scenario) : NULL;
		Result one;

		if (!sim_run(scenario, options.size, seed, series, &one))
		{
			printf("FAILED: %s, seed %" PRIu64 "%s: %s\n", scenario->name, seed,
				   options.size == SIM_SMALL ? ", small" : "", one.failure);
			good = false;
		}
		if (series != NULL)
			fclose(series);
		add(&worst, &one, options.seeds);
	}
	print_row(scenario->name, &worst);
	quiet_rounds += worst.quiet_rounds;
	return good;
}

static bool
is_chosen(const Scenario *scenario, char **names)
{
	for (char **name = names; *name != NULL; name++)
		if (strcmp(*name, scenario->name) == 0)
			return true;
	return names[0] == NULL;
}

int
main(int argc, char **argv)
{
	bool good = true;
	int option;

	while ((option = getopt(argc, argv, "s:f:qo:")) != -1)
	{
		switch (option)
		{
			case 's':
				options.seeds = atoi(optarg);
				break;
			case 'f':
				options.first = strtoull(optarg, NULL, 10);
				break;
			case 'q':
				options.size = SIM_SMALL;
				break;
			case 'o':
				options.series = optarg;
				break;
			default:
				return 2;
		}
	}
	print_head();
	for (int i = 0; i < nscenarios; i++)
		if (is_chosen(&scenarios[i], argv + optind))
			good &= run_scenario(&scenarios[i]);
	printf("quiet rounds, each followed by a whole one: %d\n", quiet_rounds);
	return good ? 0 : 1;
}
