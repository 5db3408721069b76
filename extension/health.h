/*-------------------------------------------------------------------------
 *
 * health.h
 *	  What a pool's figures mean: a verdict, the reason in words, and how long a
 *	  verdict must hold before it is believed.
 *
 * Pure: one pool's figures in, verdict and sentence out; times are handed in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_HEALTH_H
#define PGPM_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Worst first: the order in which pools are shown. */
typedef enum Health
{
	HEALTH_FAILING,	  /* connections cannot be opened */
	HEALTH_STARVED,	  /* callers wait, and the server's limit is why */
	HEALTH_SATURATED, /* callers wait, and the pool's own size is why */
	HEALTH_LEAKING,	  /* loans out for longer than the client finds right, and unused */
	HEALTH_BLOCKED,	  /* callers wait for sessions that wait for others */
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
	int demand;
	int allotted;	  /* -1: no limit is set */
	int max_size;	  /* sum of the instances' own limits; -1: not known */
	const char *rule; /* the rule's text, or NULL */

	int failing;		  /* instances of which no open has worked of late */
	int64_t failed_opens; /* theirs, since the last one that worked */

	/* loans that both sides find idle: the client by their age, the server by its session */
	int leaks;
	int64_t leak_ms;	   /* each of them for at least so long */
	const char *leak_site; /* where most of them were made, or NULL */
	int leaks_at_site;

	/* sessions that have not gone on for too long */
	int lock_waits;
	int idle_in_xact;
	int64_t stuck_ms; /* the longest of them */
} HealthInput;

/*
 * The worst verdict that the figures allow.  reason is terminated unless its
 * size is 0, cut between characters if it does not fit (UTF-8 is understood),
 * and empty if there is nothing to say.
 */
extern Health health_judge(const HealthInput *in, char *reason, size_t reason_size);
extern const char *health_name(Health health);

/*---- over time ----*/

/*
 * What a pool is held to be.  All zeros before the first look.  Figures change from one
 * moment to the next; the verdict follows only what lasts.  It gets worse when they have
 * been worse without a break for as long as it takes to enter, and then to the mildest of
 * what they were; it gets better when they have been better without a break for as long as
 * it takes to leave, and then to the worst of what they were.
 */
typedef struct HealthState
{
	bool begun;
	Health verdict;
	int drift;		/* figures are worse (-1) or better (1) than the verdict, or neither */
	Health reached; /* the mildest, or worst, of what they were since ... */
	int64_t since;	/* ... this time */
} HealthState;

/*
 * Figures say `figures` at `now`.  True if the verdict changes.  Times are of one unit,
 * whichever.
 */
extern bool health_step(HealthState *state, Health figures, int64_t now, int64_t enter,
						int64_t leave);

/* What has been told of a pool.  All zeros before the first time. */
typedef struct HealthNews
{
	bool told;
	Health last;
	int64_t at;
	int untold; /* changes since */
} HealthNews;

/*
 * The verdict is, or has just become, `verdict`.  True if that is to be told now: there is
 * something new, and the last time was at least `gap` ago.  Then *from is the
 * verdict that was told last, and *changes how many there were since.
 */
extern bool health_is_news(HealthNews *news, Health verdict, bool changed, int64_t now, int64_t gap,
						   Health *from, int *changes);

#endif /* PGPM_HEALTH_H */
