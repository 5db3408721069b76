/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  share.c; what a new process would know of the last one: nothing; and that quiet rounds
 *	  leave nothing out.
 *
 *-------------------------------------------------------------------------
 */
#include "../../extension/share.c" /* NOLINT(bugprone-suspicious-include): for its static state */

#include "sim.h"

int worker_quiet_rounds = 0;

void
worker_forget(void)
{
	exceeds_limits = false;
	outside_smoothed = 0;
	smoothed_at = 0;
	acquainted = false;
	share_init();
	rule_set_load();
}

static int64
sum_of_advice(void)
{
	int64 sum = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->instance_hashes[i] != 0)
			sum += (int64) (i + 1) * registry->instances[i].would_limit;
	return sum;
}

/* After a quiet round: one that leaves nothing out would have changed nothing. */
void
worker_audit(int64 now)
{
	uint64 changes = registry->changes;
	int64 advice = sum_of_advice();

	/* terms are set at the end of a round, and looked at in the next */
	if (!was_quiet || pg_atomic_read_u32(&registry->generation) != seen.generation)
		return;
	worker_quiet_rounds++;
	look_around(now);
	share_out(seen.capacity);
	if (registry->changes != changes)
		sim_fail("a quiet round has left something out");
	if (sum_of_advice() != advice)
		sim_fail("a quiet round has left advice out");
}
