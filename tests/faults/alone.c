/*-------------------------------------------------------------------------
 *
 * alone.c
 *	  Every allocation fails once, in a process that can have no more threads.
 *
 * So callers open, close and reset by themselves, nothing happens beside them,
 * and time is virtual: the same each time, and each call that can fail is
 * reached.
 *
 * sources: tests/faults/support/inject.c tests/faults/support/fakepq.c tests/faults/support/scenarios.c
 *
 *-------------------------------------------------------------------------
 */
#include "support/inject.h"
#include "support/scenarios.h"

int
main(void)
{
	survive_without_key();
	survive_cold(ALONE, FAULT_MEMORY | FAULT_DESCRIPTOR | FAULT_RANDOM);
	survive_all(ALONE, FAULT_MEMORY, false, "without one allocation", 1);
	survive_all(ALONE, FAULT_MEMORY, true, "without memory from somewhere on", 1);
	survive_all(ALONE, FAULT_DESCRIPTOR | FAULT_RANDOM, false, "without one descriptor", 1);
	survive_all(ALONE, FAULT_DESCRIPTOR | FAULT_RANDOM, true, "without descriptors", 1);
	survive_slow_refusals();
	survive_many_pools();
	return survive_end();
}
