/*-------------------------------------------------------------------------
 *
 * health_watch.h
 *	  The figures that a pool's health is judged by, gathered from instances and
 *	  sessions; and what the worker has found over time.
 *
 * Views and the worker gather the same figures by the same functions: the one from a
 * copy, the other, who keeps nothing but sums, from shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_HEALTH_WATCH_H
#define PGPM_HEALTH_WATCH_H

#include "health.h"
#include "registry.h"

/* Of one pool.  All zeros to begin with; instances are added before sessions. */
typedef struct HealthFigures
{
	HealthInput in; /* complete after health_finish */
	int reported;
	int limited;
	int allotted;
	int max_size; /* -1: not known of all */

	/*
	 * A report names the oldest loans only.  Of the others the server sees how many sessions are
	 * idle, some of which are not lent.
	 */
	int unnamed_leaks;
	int unnamed_idle;
	int not_lent;
} HealthFigures;

extern void health_add_instance(HealthFigures *figures, const InstanceSlot *instance, int64 now);

/* A session of the instance. */
extern void health_add_session(HealthFigures *figures, const InstanceSlot *instance,
							   const SessionSlot *session, int64 now);

/* The figures are complete but for leak_site. */
extern const HealthInput *health_finish(HealthFigures *figures, const PoolSlot *pool);

/*---- call sites of leaks, gathered only where there are some ----*/

#define LEAK_SITES 16 /* others are not counted */

typedef struct LeakSites
{
	int n;
	struct
	{
		char site[REPORT_SITE_LEN];
		int count;
	} sites[LEAK_SITES];
} LeakSites;

/* Call it with all sessions of the pool. */
extern void health_add_site(LeakSites *sites, const InstanceSlot *instance,
							const SessionSlot *session, int64 now);

/* The site that most leaks were made at goes into the figures; sites must outlive them. */
extern void health_name_site(HealthInput *in, const LeakSites *sites);

/*---- what the worker has found ----*/

/* It has looked at this pool of late, so that what it has found counts. */
extern bool health_is_watched(const PoolHealth *health, uint64 pool_hash, int64 now);

/*
 * The reason beside a verdict that may be older than the figures: where they
 * say something else now, it begins with that.
 */
extern void health_explain(const HealthInput *in, Health verdict, char *reason, size_t size);

#endif /* PGPM_HEALTH_WATCH_H */
