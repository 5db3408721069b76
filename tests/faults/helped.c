/*-------------------------------------------------------------------------
 *
 * helped.c
 *	  Every allocation, thread and descriptor is refused once, while helpers and
 *	  keeper work.
 *
 * Which call is the n-th is not the same in each run; all are met all the same.
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
	survive_cold(HELPED, FAULT_MEMORY | FAULT_DESCRIPTOR | FAULT_RANDOM);
	survive_all(HELPED, FAULT_MEMORY, false, "without one allocation", 1);
	survive_all(HELPED, FAULT_MEMORY, true, "without memory from somewhere on", 5);
	survive_all(HELPED, FAULT_THREAD | FAULT_DESCRIPTOR, false, "without one thread or descriptor",
				1);
	survive_all(HELPED, FAULT_THREAD | FAULT_DESCRIPTOR, true, "without threads and descriptors",
				1);
	return survive_end();
}
