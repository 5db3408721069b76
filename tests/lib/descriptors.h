/*-------------------------------------------------------------------------
 *
 * descriptors.h
 *	  How many descriptors the process has open, for tests of what is left behind.
 *
 * The one that it is counted by is counted, too: compare counts with counts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <dirent.h>

#include "tap.h"

TAP_UNUSED static int
count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
	{
		printf("Bail out! /proc/self/fd: %m\n");
		exit(1);
	}
	while (readdir(dir))
		n++;
	(void) closedir(dir);
	return n;
}

#endif
