/*-------------------------------------------------------------------------
 *
 * health.h
 *	  What a pool's figures mean: a verdict, and the reason in words.
 *
 * Pure: one pool's figures in, verdict and sentence out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_HEALTH_H
#define PGPM_HEALTH_H

#include <stddef.h>

/* Worst first: the order in which pools are shown. */
typedef enum Health
{
	HEALTH_STARVED,	  /* callers wait, and the server's limit is why */
	HEALTH_SATURATED, /* callers wait, and the pool's own size is why */
	HEALTH_LEAKING,	  /* loans out for longer than the client finds right */
	HEALTH_STALE,	  /* instances that promised reports are silent */
	HEALTH_OK
} Health;

typedef struct HealthInput
{
	int instances;
	int reporting; /* of these, promised to report */
	int silent;	   /* of these, silent for longer than they should */
	int paused;	   /* by order: their callers wait, and nothing is wrong */
	int sessions;
	int in_use;
	int waiting;
	int leaks;
	int demand;
	int allotted;	  /* -1: no limit is set */
	int max_size;	  /* sum of the instances' own limits; -1: not known */
	const char *rule; /* the rule's text, or NULL */
} HealthInput;

/*
 * The worst verdict that the figures allow.  reason is terminated unless its
 * size is 0, cut between characters if it does not fit (UTF-8 is understood),
 * and empty if there is nothing to say.
 */
extern Health health_judge(const HealthInput *in, char *reason, size_t reason_size);
extern const char *health_name(Health health);

#endif /* PGPM_HEALTH_H */
