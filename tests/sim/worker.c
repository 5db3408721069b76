/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  share.c, and what a new process would know of the last one: nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "../../extension/share.c" /* NOLINT(bugprone-suspicious-include): for its static state */

#include "sim.h"

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
