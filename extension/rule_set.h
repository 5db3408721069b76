/*-------------------------------------------------------------------------
 *
 * rule_set.h
 *	  The rules in force, and which pool has which.
 *
 * Registry.rules holds the rules of pgpool_monitor.rules, then those of
 * pgpool_monitor.rules_file, in the order in which they are tried.  The postmaster loads
 * them when it makes shared memory; from then on the worker does, when it starts and after
 * a reload.  So there are rules also if there never is a worker, and a pool has its rule,
 * and the mode that the rule names, from its first session on.
 *
 * Turning a mode down by a rule of the string needs no worker either: the first session
 * that sees the new string, by its start or by its reload, turns down the pools that it has
 * lower modes for, and tells their instances.  Nothing else of it is in force before the
 * worker has loaded it.  Should the worker, not having read it yet, look at the pools just
 * then, it turns them up again until it has: for one round.
 *
 * What is wrong with a file keeps the rules that were loaded from it last,
 * also by an earlier worker; it is shown in the view info, and logged once.
 *
 * Locks
 *	rule_set_load takes registry->lock to put a set in force.  The others want it, or
 *	to be called by the worker on a copy of a pool.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_RULE_SET_H
#define PGPM_RULE_SET_H

#include "registry.h"

/* rule_set_load is in pgpool_monitor.h */

/*
 * A session's, outside any lock: turn modes down that the string in pgpool_monitor.rules
 * wants lower than the set in force.
 */
extern void rule_set_catch_up(void);

/* Give the pool its rule by the rules in force, and its mode. */
extern void rule_set_match(PoolSlot *pool);

/* Its mode alone: for the global one may have changed. */
extern void rule_set_mode(PoolSlot *pool);

/* What the two have written, from one copy of a pool to another. */
extern void rule_set_copy(PoolSlot *to, const PoolSlot *from);

#endif /* PGPM_RULE_SET_H */
