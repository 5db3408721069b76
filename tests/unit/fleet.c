/*-------------------------------------------------------------------------
 *
 * fleet.c
 *	  Small fleets in every scenario of the simulation (tests/sim): what must hold, does.
 *
 * sources: tests/sim/events.c tests/sim/server.c tests/sim/worker.c tests/sim/client.c
 * sources: tests/sim/judge.c tests/sim/scenarios.c tests/sim/sim.c tests/sim/unused.c
 * sources: extension/registry.c extension/grant.c extension/rule_set.c extension/enforce.c
 * sources: extension/past.c extension/pause.c extension/totals.c
 * sources: extension/allot.c extension/rules.c extension/report.c
 * flags: -O2 -Itests/sim/shim -Itests/sim
 * flags: -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
 *
 * Figures of large fleets, and what each scenario is: tests/sim/README.md.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include "tap.h"

#define SEEDS 2

int
main(void)
{
	for (int i = 0; i < nscenarios; i++)
	{
		Result out = { 0 };
		uint64 seed = 0;
		bool good = true;

		while (good && seed < SEEDS)
			good = sim_run(&scenarios[i], SIM_SMALL, ++seed, NULL, &out);
		if (!ok(good, "%s: %s", scenarios[i].name, scenarios[i].says))
			diag("seed %" PRIu64 ": %s", seed, out.failure);
	}
	return done_testing();
}
