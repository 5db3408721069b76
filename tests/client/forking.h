/*-------------------------------------------------------------------------
 *
 * forking.h
 *	  For tests that fork: what the sanitizers cannot know.
 *
 * The stacks of the parent's threads are no leaks of the child's; and children do
 * start threads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FORKING_H
#define FORKING_H

#include "client.h"

static bool is_child; /* set by the child */

int __lsan_is_turned_off(void);
const char *__tsan_default_options(void);

int
__lsan_is_turned_off(void)
{
	return is_child;
}

const char *
__tsan_default_options(void)
{
	return "die_after_fork=0";
}

#endif /* FORKING_H */
