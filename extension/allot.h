/*-------------------------------------------------------------------------
 *
 * allot.h
 *	  Capacity, rules and demands -> how many connections each instance should have.
 *
 * Pure: a function of its arguments, no state, no clock, no randomness; the
 * same input gives the same output, whatever the order in which rules, pools or
 * instances stand in the arrays (ties are broken by `key`, never by position).
 *
 * It says what would be fair now, not what may be published now: raising a
 * limit before another one has been given back is what the registry guards against.
 *
 * Method: progressive filling, that is weighted max-min fairness (Bertsekas
 * and Gallager, Data Networks, 2nd ed., section 6.5.2), three times down a
 * tree: capacity -> rules (weight) -> pools (equal) -> instances (equal).
 *	 1. floors: 1 connection for each instance, in the order of `joined` while
 *		capacity and the rule's ceiling last (those left out are queued); then what
 *		is missing to each rule's floor, by weight if they do not all fit;
 *	 2. demand, up to each one's ceiling, the poorest first;
 *	 3. what is left, in proportion to weight and on top of what each one has, up
 *		to each one's ceiling.
 * Connections are whole: the next one always goes to the child for which
 * (what it has + 1/2) / weight is least (Webster's method), ties by key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_ALLOT_H
#define PGPM_ALLOT_H

#include <stdbool.h>
#include <stdint.h>

#define ALLOT_WEIGHT_MAX 1000 /* what a rule's weight is cut to */

typedef struct AllotRule
{
	int weight;	  /* 1 to ALLOT_WEIGHT_MAX */
	int floor;	  /* >= 0; for all its pools together */
	int ceiling;  /* for all its pools together; -1: none */
	uint64_t key; /* breaks ties; distinct */
	int share;	  /* out */
} AllotRule;

typedef struct AllotPool
{
	int rule;	  /* index into rules */
	uint64_t key; /* breaks ties; distinct */
	int share;	  /* out */
} AllotPool;

typedef struct AllotInstance
{
	int pool;		 /* index into pools */
	int demand;		 /* >= 0: in use + waiting */
	int ceiling;	 /* most that it can use; -1: not known, no ceiling */
	uint64_t joined; /* order of arrival; need not be distinct */
	uint64_t key;	 /* breaks ties; distinct */
	int share;		 /* out */
	bool queued;	 /* out: no connection left for its floor */
} AllotInstance;

/*
 * Fill in the shares.  capacity may be negative: everybody is queued.
 * scratch must point to allot_scratch_size() bytes, aligned as for malloc;
 * so that the caller decides how to allocate, and this cannot fail.
 *
 * Call an instance's *want* its demand, at least 1 and at most its ceiling;
 * what a pool or a rule wants is the sum over its instances that are not queued,
 * a rule's at most its ceiling.  A rule's floor counts as far as its ceiling and
 * its instances' ceilings allow.
 *
 * Guarantees (tests/unit/allot.c proves each over random fleets):
 *	- The sum of shares is at most max(capacity, 0); a rule's share is the sum of
 *	  its pools', a pool's that of its instances'.
 *	- No share is above a ceiling.  An instance's ceiling of 0 counts as 1, since
 *	  one that exists can use one; a rule's of 0 means none.
 *	- share >= 1 for each instance that is not queued, 0 for one that is.
 *	- One is queued only if capacity, or his rule's ceiling, went to those who
 *	  came before him by (joined, key); then nobody at all, or nobody of that rule,
 *	  has more than one.
 *	- Nothing is left over while somebody and his rule are below their ceilings.
 *	- While an instance that is not queued has less than it wants, none of the same
 *	  rule has more than it wants.  While a rule has less than it wants, no other
 *	  has more than it wants and than its floor; while a rule has less than its
 *	  floor, no other has more than its own floor and than one for each instance.
 *	- Two instances of a pool: one that has less than it wants has at most one less
 *	  than the other.  So two pools of a rule, unless the other has just one for
 *	  each instance; and two rules, by weight, unless the other has just that or
 *	  its floor: (other's share - 1/2) / weight <= (share + 1/2) / weight.
 *	- So also what two rules have on top of their wants and floors, while the one
 *	  with less is below its ceiling.
 *	- More capacity never gives anybody less.  Who demands more never gets less.
 *
 * Time: O(n log n + n log capacity), n being rules, pools and instances together.
 */
extern void allot(int capacity, AllotRule *rules, int nrules, AllotPool *pools, int npools,
				  AllotInstance *instances, int ninstances, void *scratch);

extern uint64_t allot_scratch_size(int nrules, int npools, int ninstances);

#endif /* PGPM_ALLOT_H */
