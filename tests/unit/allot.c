/*-------------------------------------------------------------------------
 *
 * allot.c
 *	  Every guarantee of extension/allot.h, over a million random fleets.
 *
 * sources: extension/allot.c
 * flags: -O2
 *
 * Each fleet is made from a number, which a failure prints; the program run
 * with that number as its argument tries that one alone, and shows it; with "-n MILLIONS" it
 * tries that many (`make check-sim`).
 *
 * Two judges that share nothing: the guarantees, each written down as it stands
 * in the header; and a reference that deals out one connection after the other,
 * which is the definition itself, and far too slow for use.
 *
 *-------------------------------------------------------------------------
 */
#include "allot.h"

#include <inttypes.h>
#include <limits.h>
#include <time.h>

#include "tap.h"

#define MAX_RULES 64
#define MAX_POOLS 1000
#define MAX_INSTANCES 10000
#define SMALL_FLEETS 1000000
#define LARGE_FLEETS 60

typedef struct Fleet
{
	int capacity;
	int nrules;
	int npools;
	int ninstances;
	AllotRule rules[MAX_RULES];
	AllotPool pools[MAX_POOLS];
	AllotInstance instances[MAX_INSTANCES];
} Fleet;

/* How large a fleet may be; each number is drawn from 0 or 1 up to this, sizes not if exact. */
typedef struct Scale
{
	bool exact;
	int capacity;
	int rules;
	int pools;
	int instances;
	int demand;
	int ceiling;
	int floor;
	int weight;
} Scale;

static const Scale scales[] = {
	{ false, 30, 3, 4, 8, 9, 9, 9, 4 },
	{ false, 12, 3, 5, 9, 4, 4, 5, 2 },
	{ false, 300, 4, 3, 5, 80, 90, 60, 1000 },
	{ false, 40, 1, 3, 9, 12, 6, 10, 1 },
};

static const Scale large_scales[] = {
	{ false, 3000, 20, 100, 1000, 9, 12, 200, 1000 },
	{ true, 3000, 20, 100, 1000, 9, 12, 200, 1000 },
};

/* What the instances of a rule, or of a pool, that are not queued come to together. */
typedef struct Sum
{
	int64_t admitted;
	int64_t want;
	int64_t ceiling;
	int64_t share;
} Sum;

static uint64_t state; /* of the random numbers */

static uint64_t
random_bits(void)
{
	uint64_t bits = state += UINT64_C(0x9E3779B97F4A7C15);

	bits = (bits ^ (bits >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	bits = (bits ^ (bits >> 27)) * UINT64_C(0x94D049BB133111EB);
	return bits ^ (bits >> 31);
}

static int
random_upto(int most)
{
	return (int) (random_bits() % ((uint64_t) most + 1));
}

/* A limit that is often absent. */
static int
random_limit(int most)
{
	return random_upto(2) == 0 ? -1 : random_upto(most);
}

/* Distinct, since what is added is less than the step; and in no order. */
static uint64_t
random_key(int i)
{
	return random_bits() << 16 | (uint64_t) i;
}

static void
make_fleet(Fleet *fleet, uint64_t number, const Scale *scale)
{
	state = number * UINT64_C(0xD1342543DE82EF95);
	fleet->capacity = random_upto(scale->capacity + 2) - 2;
	fleet->nrules = scale->exact ? scale->rules : 1 + random_upto(scale->rules - 1);
	fleet->npools = scale->exact ? scale->pools : 1 + random_upto(scale->pools - 1);
	fleet->ninstances = scale->exact ? scale->instances : random_upto(scale->instances);

	for (int i = 0; i < fleet->nrules; i++)
		fleet->rules[i] = (AllotRule){ .weight = 1 + random_upto(scale->weight - 1),
									   .floor = random_upto(1) ? random_upto(scale->floor) : 0,
									   .ceiling = random_limit(2 * scale->ceiling),
									   .key = random_key(i),
									   .share = -77 };
	for (int i = 0; i < fleet->npools; i++)
		fleet->pools[i] = (AllotPool){ .rule = random_upto(fleet->nrules - 1),
									   .key = random_key(i),
									   .share = -77 };
	for (int i = 0; i < fleet->ninstances; i++)
		fleet->instances[i] = (AllotInstance){ .pool = random_upto(fleet->npools - 1),
											   .demand = random_upto(scale->demand),
											   .ceiling = random_limit(scale->ceiling),
											   .joined = (uint64_t) random_upto(5),
											   .key = random_key(i),
											   .share = -77,
											   .queued = random_upto(1) };
}

static void
copy_fleet(Fleet *to, const Fleet *from)
{
	to->capacity = from->capacity;
	to->nrules = from->nrules;
	to->npools = from->npools;
	to->ninstances = from->ninstances;
	memcpy(to->rules, from->rules, (size_t) from->nrules * sizeof(to->rules[0]));
	memcpy(to->pools, from->pools, (size_t) from->npools * sizeof(to->pools[0]));
	memcpy(to->instances, from->instances, (size_t) from->ninstances * sizeof(to->instances[0]));
}

/* Scratch of the very size, so that AddressSanitizer sees a byte too many. */
static void
run_allot(Fleet *fleet)
{
	static void *scratch;
	static uint64_t size;
	uint64_t needed = allot_scratch_size(fleet->nrules, fleet->npools, fleet->ninstances);

	if (!scratch || needed != size)
	{
		free(scratch);
		scratch = malloc(needed);
		size = needed;
	}
	if (!scratch)
		abort();
	memset(scratch, 0xA5, needed);
	allot(fleet->capacity, fleet->rules, fleet->nrules, fleet->pools, fleet->npools,
		  fleet->instances, fleet->ninstances, scratch);
}

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int
rule_of(const Fleet *fleet, int instance)
{
	return fleet->pools[fleet->instances[instance].pool].rule;
}

static int64_t
instance_ceiling(const AllotInstance *in)
{
	return in->ceiling < 0 ? INT_MAX : larger(in->ceiling, 1);
}

static int64_t
instance_want(const AllotInstance *in)
{
	return smaller(larger(in->demand, 1), instance_ceiling(in));
}

static int64_t
rule_limit(const AllotRule *rule)
{
	return rule->ceiling < 0 ? INT_MAX : rule->ceiling;
}

/*
 * The reference: one connection at a time, each to the poorest.
 */

typedef struct Reference
{
	int64_t rule_share[MAX_RULES];
	int64_t rule_extra[MAX_RULES]; /* of these, dealt at the last stage */
	int64_t pool_share[MAX_POOLS];
	int64_t pool_extra[MAX_POOLS];
	int64_t share[MAX_INSTANCES];
	int64_t extra[MAX_INSTANCES];
	Sum rules[MAX_RULES];
	Sum pools[MAX_POOLS];
	bool seen[MAX_INSTANCES];
} Reference;

static void
add_instance(Sum *sum, const AllotInstance *in)
{
	sum->admitted++;
	sum->want += instance_want(in);
	sum->ceiling += instance_ceiling(in);
	sum->share += in->share;
}

/* The next to arrive, or -1. */
static int
next_arrival(const Fleet *fleet, const Reference *ref)
{
	int best = -1;

	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *in = &fleet->instances[i];
		const AllotInstance *first = &fleet->instances[best < 0 ? 0 : best];

		if (ref->seen[i])
			continue;
		if (best < 0 || in->joined < first->joined ||
			(in->joined == first->joined && in->key < first->key))
			best = i;
	}
	return best;
}

static int
reference_admit(const Fleet *fleet, Reference *ref)
{
	int left = fleet->capacity;
	int i;

	while ((i = next_arrival(fleet, ref)) >= 0)
	{
		int rule = rule_of(fleet, i);
		int pool = fleet->instances[i].pool;

		ref->seen[i] = true;
		if (left <= 0 || ref->rule_share[rule] >= rule_limit(&fleet->rules[rule]))
			continue;
		left--;
		ref->rule_share[rule]++;
		ref->pool_share[pool]++;
		ref->share[i]++;
		add_instance(&ref->rules[rule], &fleet->instances[i]);
		add_instance(&ref->pools[pool], &fleet->instances[i]);
	}
	return left;
}

/* A candidate for the next connection: has `counted` for its weight, the lowest first. */
typedef struct Poorest
{
	int at; /* -1: none yet */
	int64_t counted;
	int64_t weight;
	uint64_t key;
} Poorest;

static void
consider(Poorest *best, int at, int64_t counted, int64_t weight, uint64_t key)
{
	int64_t mine = (2 * counted + 1) * best->weight;
	int64_t its = (2 * best->counted + 1) * weight;

	if (best->at < 0 || mine < its || (mine == its && key < best->key))
		*best = (Poorest){ at, counted, weight, key };
}

static int64_t
rule_ceiling(const Fleet *fleet, const Sum *sums, int rule)
{
	return smaller(sums[rule].ceiling, rule_limit(&fleet->rules[rule]));
}

static int
poorest_rule(const Fleet *fleet, const Reference *ref, int stage)
{
	Poorest best = { -1, 0, 1, 0 };

	for (int i = 0; i < fleet->nrules; i++)
	{
		const AllotRule *rule = &fleet->rules[i];
		int64_t ceiling = rule_ceiling(fleet, ref->rules, i);
		int64_t upto = stage == 0	? smaller(rule->floor, ceiling)
					   : stage == 1 ? smaller(ref->rules[i].want, ceiling)
									: ceiling;

		if (ref->rule_share[i] < upto)
			consider(&best, i, stage == 2 ? ref->rule_extra[i] : ref->rule_share[i], rule->weight,
					 rule->key);
	}
	return best.at;
}

static int
poorest_pool(const Fleet *fleet, const Reference *ref, int rule, int stage)
{
	Poorest best = { -1, 0, 1, 0 };

	for (int i = 0; i < fleet->npools; i++)
	{
		if (fleet->pools[i].rule != rule)
			continue;
		if (ref->pool_share[i] < (stage == 1 ? ref->pools[i].want : ref->pools[i].ceiling))
			consider(&best, i, stage == 2 ? ref->pool_extra[i] : ref->pool_share[i], 1,
					 fleet->pools[i].key);
	}
	return best.at;
}

static int
poorest_instance(const Fleet *fleet, const Reference *ref, int pool, int stage)
{
	Poorest best = { -1, 0, 1, 0 };

	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *in = &fleet->instances[i];

		if (in->pool != pool || ref->share[i] == 0)
			continue;
		if (ref->share[i] < (stage == 1 ? instance_want(in) : instance_ceiling(in)))
			consider(&best, i, stage == 2 ? ref->extra[i] : ref->share[i], 1, in->key);
	}
	return best.at;
}

/*
 * One connection from the top to an instance; false if nobody can take it.
 * After each loop `stage` is one past the stage at which somebody was found.
 */
static bool
reference_deal_one(const Fleet *fleet, Reference *ref)
{
	int rule = -1, pool = -1, instance = -1;
	int stage = 0;

	for (stage = 0; stage < 3 && rule < 0; stage++)
		rule = poorest_rule(fleet, ref, stage);
	if (rule < 0)
		return false;
	ref->rule_share[rule]++;
	ref->rule_extra[rule] += stage == 3;

	for (stage = 1; stage < 3 && pool < 0; stage++)
		pool = poorest_pool(fleet, ref, rule, stage);
	ref->pool_share[pool]++;
	ref->pool_extra[pool] += stage == 3;

	for (stage = 1; stage < 3 && instance < 0; stage++)
		instance = poorest_instance(fleet, ref, pool, stage);
	ref->share[instance]++;
	ref->extra[instance] += stage == 3;
	return true;
}

static const char *
differs_from_reference(const Fleet *fleet)
{
	static Reference ref;
	int left;

	memset(ref.rule_share, 0, sizeof(ref.rule_share));
	memset(ref.rule_extra, 0, sizeof(ref.rule_extra));
	memset(ref.rules, 0, sizeof(ref.rules));
	for (int i = 0; i < fleet->npools; i++)
	{
		ref.pool_share[i] = ref.pool_extra[i] = 0;
		ref.pools[i] = (Sum){ 0 };
	}
	for (int i = 0; i < fleet->ninstances; i++)
	{
		ref.share[i] = ref.extra[i] = 0;
		ref.seen[i] = false;
	}

	left = reference_admit(fleet, &ref);
	while (left > 0 && reference_deal_one(fleet, &ref))
		left--;
	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].share != ref.share[i])
			return "differs from the reference";
	return NULL;
}

/*
 * The guarantees, in the order of the header; each answers what is broken, or NULL.
 */

typedef struct Sums
{
	Sum all;
	Sum rules[MAX_RULES];
	Sum pools[MAX_POOLS];
} Sums;

static void
add_up(const Fleet *fleet, Sums *sums)
{
	sums->all = (Sum){ 0 };
	memset(sums->rules, 0, (size_t) fleet->nrules * sizeof(Sum));
	memset(sums->pools, 0, (size_t) fleet->npools * sizeof(Sum));
	for (int i = 0; i < fleet->ninstances; i++)
	{
		if (fleet->instances[i].queued)
			continue;
		add_instance(&sums->all, &fleet->instances[i]);
		add_instance(&sums->rules[rule_of(fleet, i)], &fleet->instances[i]);
		add_instance(&sums->pools[fleet->instances[i].pool], &fleet->instances[i]);
	}
}

static const char *
sums_are_wrong(const Fleet *fleet, const Sums *sums)
{
	if (sums->all.share > larger(fleet->capacity, 0))
		return "more than the capacity";
	for (int i = 0; i < fleet->nrules; i++)
		if (fleet->rules[i].share != sums->rules[i].share)
			return "a rule is not the sum of its instances";
	for (int i = 0; i < fleet->npools; i++)
		if (fleet->pools[i].share != sums->pools[i].share)
			return "a pool is not the sum of its instances";
	return NULL;
}

static const char *
limits_are_broken(const Fleet *fleet)
{
	for (int i = 0; i < fleet->nrules; i++)
		if (fleet->rules[i].share > rule_limit(&fleet->rules[i]))
			return "a rule above its ceiling";
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *in = &fleet->instances[i];

		if (in->share > instance_ceiling(in))
			return "an instance above its ceiling";
		if (in->queued ? in->share != 0 : in->share < 1)
			return "queued and share do not agree";
	}
	return NULL;
}

static bool
came_before(const AllotInstance *a, const AllotInstance *b)
{
	return a->joined != b->joined ? a->joined < b->joined : a->key < b->key;
}

/* Either the capacity is spent on those who came before him, or the ceiling of his rule. */
static const char *
queued_wrongly(const Fleet *fleet, const Sums *sums, int queued)
{
	int rule = rule_of(fleet, queued);
	bool rule_is_full = sums->rules[rule].admitted >= rule_limit(&fleet->rules[rule]);

	if (!rule_is_full && sums->all.admitted < larger(fleet->capacity, 0))
		return "queued though there was room";
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *other = &fleet->instances[i];

		if (rule_is_full && rule_of(fleet, i) != rule)
			continue;
		if (other->share > 1)
			return "more than one while somebody is queued";
		if (!other->queued && came_before(&fleet->instances[queued], other))
			return "queued behind one who came later";
	}
	return NULL;
}

static const char *
queue_is_wrong(const Fleet *fleet, const Sums *sums)
{
	const char *wrong = NULL;

	for (int i = 0; i < fleet->ninstances && !wrong; i++)
		if (fleet->instances[i].queued)
			wrong = queued_wrongly(fleet, sums, i);
	return wrong;
}

static const char *
capacity_is_wasted(const Fleet *fleet, const Sums *sums)
{
	if (sums->all.share >= fleet->capacity)
		return NULL;
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotRule *rule = &fleet->rules[rule_of(fleet, i)];

		if (fleet->instances[i].share < instance_ceiling(&fleet->instances[i]) &&
			rule->share < rule_limit(rule))
			return "something is left over";
	}
	return NULL;
}

static const char *
instances_are_unfair(const Fleet *fleet)
{
	bool lacks[MAX_RULES] = { false };
	int64_t least[MAX_POOLS];

	for (int i = 0; i < fleet->npools; i++)
		least[i] = INT_MAX;
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *in = &fleet->instances[i];

		if (in->queued || in->share >= instance_want(in))
			continue;
		lacks[rule_of(fleet, i)] = true;
		least[in->pool] = smaller(least[in->pool], in->share);
	}
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const AllotInstance *in = &fleet->instances[i];

		if (in->share > instance_want(in) && lacks[rule_of(fleet, i)])
			return "an instance has more than it wants while another has less";
		if (in->share > least[in->pool] + 1)
			return "an instance has two more than another that has less than it wants";
	}
	return NULL;
}

static const char *
pools_are_unfair(const Fleet *fleet, const Sums *sums)
{
	int64_t least[MAX_RULES];

	for (int i = 0; i < fleet->nrules; i++)
		least[i] = INT_MAX;
	for (int i = 0; i < fleet->npools; i++)
	{
		const AllotPool *pool = &fleet->pools[i];

		if (pool->share < sums->pools[i].want)
			least[pool->rule] = smaller(least[pool->rule], pool->share);
	}
	for (int i = 0; i < fleet->npools; i++)
	{
		const AllotPool *pool = &fleet->pools[i];

		if (pool->share > larger(least[pool->rule] + 1, sums->pools[i].admitted))
			return "a pool has two more than another that has less than it wants";
	}
	return NULL;
}

/* (a - 1/2) / weight is not above (b + 1/2) / weight: moving one from a to b does not help. */
static bool
proportional(int64_t a, int64_t a_weight, int64_t b, int64_t b_weight)
{
	return (2 * a - 1) * b_weight <= (2 * b + 1) * a_weight;
}

static const char *
rules_are_unfair(const Fleet *fleet, const Sums *sums, int poor, int rich)
{
	const AllotRule *p = &fleet->rules[poor], *r = &fleet->rules[rich];
	int64_t p_ceiling = rule_ceiling(fleet, sums->rules, poor);
	int64_t p_want = smaller(sums->rules[poor].want, p_ceiling);
	int64_t p_floor = smaller(p->floor, p_ceiling);
	int64_t r_ceiling = rule_ceiling(fleet, sums->rules, rich);
	int64_t r_want = smaller(sums->rules[rich].want, r_ceiling);
	int64_t r_floor = larger(sums->rules[rich].admitted, smaller(r->floor, r_ceiling));
	bool fair = proportional(r->share, r->weight, p->share, p->weight);

	if (p->share < p_floor && r->share > r_floor)
		return "a rule has more than its floor while another has less";
	if (p->share < p_floor && r->share > sums->rules[rich].admitted && !fair)
		return "floors that do not fit are not in proportion";
	if (p->share < p_want && r->share > larger(r_want, r_floor))
		return "a rule has more than it wants while another has less";
	if (p->share < p_want && r->share > r_floor && !fair)
		return "what rules have is not in proportion while one has less than it wants";
	if (p->share < p_ceiling && r->share > larger(r_want, r_floor) &&
		!proportional(r->share - larger(r_want, r_floor), r->weight,
					  p->share - larger(p_want, p_floor), p->weight))
		return "what rules have beyond demand is not in proportion";
	return NULL;
}

static const char *
shares_are_unfair(const Fleet *fleet, const Sums *sums)
{
	const char *wrong = instances_are_unfair(fleet);

	if (!wrong)
		wrong = pools_are_unfair(fleet, sums);
	for (int i = 0; i < fleet->nrules; i++)
		for (int j = 0; j < fleet->nrules && !wrong; j++)
			wrong = i == j ? NULL : rules_are_unfair(fleet, sums, i, j);
	return wrong;
}

static const char *
guarantee_is_broken(const Fleet *fleet)
{
	static Sums sums;
	const char *wrong;

	add_up(fleet, &sums);
	wrong = sums_are_wrong(fleet, &sums);
	if (!wrong)
		wrong = limits_are_broken(fleet);
	if (!wrong)
		wrong = queue_is_wrong(fleet, &sums);
	if (!wrong)
		wrong = capacity_is_wasted(fleet, &sums);
	if (!wrong)
		wrong = shares_are_unfair(fleet, &sums);
	return wrong;
}

/*
 * What compares two runs.
 */

static const char *
unstable(const Fleet *before)
{
	static Fleet after;

	copy_fleet(&after, before); /* old answers stand in it, which must not matter */
	run_allot(&after);
	for (int i = 0; i < after.ninstances; i++)
		if (after.instances[i].share != before->instances[i].share ||
			after.instances[i].queued != before->instances[i].queued)
			return "the same again moves something";
	return NULL;
}

static const char *
grudges_capacity(const Fleet *before)
{
	static Fleet after;

	copy_fleet(&after, before);
	after.capacity += 1 + random_upto(1) * random_upto(5);
	run_allot(&after);
	for (int i = 0; i < after.nrules; i++)
		if (after.rules[i].share < before->rules[i].share)
			return "a rule loses when capacity grows";
	for (int i = 0; i < after.npools; i++)
		if (after.pools[i].share < before->pools[i].share)
			return "a pool loses when capacity grows";
	for (int i = 0; i < after.ninstances; i++)
		if (after.instances[i].share < before->instances[i].share)
			return "an instance loses when capacity grows";
	return NULL;
}

static const char *
punishes_demand(const Fleet *before)
{
	static Fleet after;
	int i;

	if (before->ninstances == 0)
		return NULL;
	copy_fleet(&after, before);
	i = random_upto(after.ninstances - 1);
	after.instances[i].demand += 1 + random_upto(5);
	run_allot(&after);
	return after.instances[i].share < before->instances[i].share
			   ? "an instance loses when it demands more"
			   : NULL;
}

static void
shuffle(int *order, int n)
{
	for (int i = 0; i < n; i++)
	{
		int other = random_upto(i);

		order[i] = order[other];
		order[other] = i;
	}
}

static const char *
position_matters(const Fleet *before)
{
	static Fleet after;
	static int rules[MAX_RULES], pools[MAX_POOLS], instances[MAX_INSTANCES];

	copy_fleet(&after, before);
	shuffle(rules, after.nrules);
	shuffle(pools, after.npools);
	shuffle(instances, after.ninstances);
	for (int i = 0; i < after.nrules; i++)
		after.rules[rules[i]] = before->rules[i];
	for (int i = 0; i < after.npools; i++)
	{
		after.pools[pools[i]] = before->pools[i];
		after.pools[pools[i]].rule = rules[before->pools[i].rule];
	}
	for (int i = 0; i < after.ninstances; i++)
	{
		after.instances[instances[i]] = before->instances[i];
		after.instances[instances[i]].pool = pools[before->instances[i].pool];
	}
	run_allot(&after);
	for (int i = 0; i < after.ninstances; i++)
		if (after.instances[instances[i]].share != before->instances[i].share)
			return "the order of the arrays matters";
	return NULL;
}

static const char *(*const comparisons[])(const Fleet *) = {
	unstable,
	grudges_capacity,
	punishes_demand,
	position_matters,
};

#define COMPARISONS ((int) (sizeof(comparisons) / sizeof(comparisons[0])))

static void
show_fleet(const Fleet *fleet)
{
	diag("capacity %d", fleet->capacity);
	for (int i = 0; i < fleet->nrules; i++)
		diag("rule %d: weight %d floor %d ceiling %d key %" PRIx64 ": %d", i,
			 fleet->rules[i].weight, fleet->rules[i].floor, fleet->rules[i].ceiling,
			 fleet->rules[i].key, fleet->rules[i].share);
	for (int i = 0; i < fleet->npools; i++)
		diag("pool %d: rule %d key %" PRIx64 ": %d", i, fleet->pools[i].rule, fleet->pools[i].key,
			 fleet->pools[i].share);
	for (int i = 0; i < fleet->ninstances; i++)
		diag("instance %d: pool %d demand %d ceiling %d joined %d key %" PRIx64 ": %d%s", i,
			 fleet->instances[i].pool, fleet->instances[i].demand, fleet->instances[i].ceiling,
			 (int) fleet->instances[i].joined, fleet->instances[i].key, fleet->instances[i].share,
			 fleet->instances[i].queued ? " queued" : "");
}

static const char *
try_small(Fleet *fleet, uint64_t number, int comparison)
{
	const char *wrong;

	make_fleet(fleet, number, &scales[number % 4]);
	run_allot(fleet);
	wrong = guarantee_is_broken(fleet);
	if (!wrong)
		wrong = differs_from_reference(fleet);
	return wrong ? wrong : comparisons[comparison](fleet);
}

static void
test_small_fleets(uint64_t fleets)
{
	static Fleet fleet;
	const char *wrong = NULL;
	uint64_t number;

	for (number = 1; number <= fleets && !wrong; number++)
		wrong = try_small(&fleet, number, (int) (number / 4 % COMPARISONS));
	if (!ok(!wrong, "%" PRIu64 " small fleets: every guarantee, and as the reference", fleets))
	{
		diag("fleet %" PRIu64 ": %s", number - 1, wrong);
		show_fleet(&fleet);
	}
}

static void
test_large_fleets(uint64_t fleets)
{
	static Fleet fleet;
	const char *wrong = NULL;
	uint64_t number;

	for (number = 1; number <= fleets && !wrong; number++)
	{
		make_fleet(&fleet, number, &large_scales[number % 2]);
		run_allot(&fleet);
		wrong = guarantee_is_broken(&fleet);
		for (int i = 0; i < COMPARISONS && !wrong; i++)
			wrong = comparisons[i](&fleet);
	}
	if (!ok(!wrong, "%" PRIu64 " fleets of up to 1,000 instances: every guarantee", fleets))
		diag("large fleet %" PRIu64 ": %s", number - 1, wrong);
}

/* The largest numbers that fit: nothing may overflow, and the sums must still hold. */
static void
test_extremes(void)
{
	static Fleet fleet;
	static Sums sums;
	const char *wrong = NULL;

	for (uint64_t number = 1; number <= 2000 && !wrong; number++)
	{
		make_fleet(&fleet, number, &scales[2]);
		for (int i = 0; i < fleet.nrules; i++)
		{
			fleet.rules[i].floor = random_upto(1) ? INT_MAX - random_upto(3) : 0;
			fleet.rules[i].ceiling = random_upto(1) ? INT_MAX - random_upto(3) : -1;
		}
		for (int i = 0; i < fleet.ninstances; i++)
		{
			fleet.instances[i].demand = INT_MAX - random_upto(3);
			fleet.instances[i].ceiling = random_upto(1) ? INT_MAX - random_upto(3) : -1;
			fleet.instances[i].joined = UINT64_MAX;
		}
		fleet.capacity = random_upto(4) ? INT_MAX - random_upto(3) : INT_MIN;
		run_allot(&fleet);
		add_up(&fleet, &sums);
		wrong = sums_are_wrong(&fleet, &sums);
		if (!wrong)
			wrong = limits_are_broken(&fleet);
		if (!wrong)
			wrong = capacity_is_wasted(&fleet, &sums);
	}
	ok(!wrong, "the largest numbers: %s", wrong ? wrong : "sums and limits hold");
}

/* Arguments that the header forbids may be answered oddly, but not with too much. */
static void
test_forbidden(void)
{
	static Fleet fleet;
	static Sums sums;
	static const int odd[] = { 0, -1, INT_MIN, 1001, INT_MAX };
	const char *wrong = NULL;

	for (uint64_t number = 1; number <= 2000 && !wrong; number++)
	{
		make_fleet(&fleet, number, &scales[0]);
		for (int i = 0; i < fleet.nrules; i++)
		{
			fleet.rules[i].weight = odd[random_upto(4)];
			fleet.rules[i].floor = odd[random_upto(4)];
		}
		for (int i = 0; i < fleet.ninstances; i++)
		{
			fleet.instances[i].demand = odd[random_upto(4)];
			fleet.instances[i].key = 0;
		}
		run_allot(&fleet);
		add_up(&fleet, &sums);
		wrong = sums_are_wrong(&fleet, &sums);
		if (!wrong)
			wrong = limits_are_broken(&fleet);
		if (!wrong)
			wrong = capacity_is_wasted(&fleet, &sums);
	}
	ok(!wrong, "weights, floors and demands out of range: %s", wrong ? wrong : "sums hold");
}

/* A fleet that a reader can work out by hand: two rules, a pool each, an instance each. */
static void
two_rules(Fleet *fleet, int capacity, int weight, int demand_a, int demand_b)
{
	*fleet = (Fleet){ .capacity = capacity, .nrules = 2, .npools = 2, .ninstances = 2 };
	for (int i = 0; i < 2; i++)
	{
		fleet->rules[i] = (AllotRule){ .weight = 1, .ceiling = -1, .key = (uint64_t) i };
		fleet->pools[i] = (AllotPool){ .rule = i, .key = (uint64_t) i };
		fleet->instances[i] = (AllotInstance){ .pool = i, .ceiling = -1, .key = (uint64_t) i };
	}
	fleet->rules[0].weight = weight;
	fleet->instances[0].demand = demand_a;
	fleet->instances[1].demand = demand_b;
}

static void
test_by_hand(void)
{
	static Fleet fleet;

	two_rules(&fleet, 100, 3, 100, 100);
	run_allot(&fleet);
	is_int(fleet.rules[0].share, 75, "scarce: by weight, 3 to 1");

	two_rules(&fleet, 100, 3, 100, 10);
	run_allot(&fleet);
	is_int(fleet.rules[1].share, 10, "scarce: who wants little gets it");
	is_int(fleet.rules[0].share, 90, "scarce: and leaves the rest to the other");

	two_rules(&fleet, 100, 3, 50, 10);
	run_allot(&fleet);
	is_int(fleet.rules[0].share, 80, "plenty: demand, and the rest by weight");

	two_rules(&fleet, 100, 1, 100, 0);
	fleet.rules[1].floor = 20;
	run_allot(&fleet);
	is_int(fleet.rules[1].share, 20, "a floor is kept for who wants nothing");

	two_rules(&fleet, 100, 1, 100, 0);
	fleet.rules[0].ceiling = 30;
	run_allot(&fleet);
	is_int(fleet.rules[0].share, 30, "a ceiling is kept though there is plenty");
	is_int(fleet.rules[1].share, 70, "what a ceiling leaves is not lost");

	two_rules(&fleet, 101, 1, 100, 100);
	run_allot(&fleet);
	is_int(fleet.rules[0].share, 51, "the odd one goes to the lower key");

	two_rules(&fleet, 1, 1, 5, 5);
	fleet.instances[0].joined = 1;
	run_allot(&fleet);
	ok(fleet.instances[0].queued && fleet.instances[1].share == 1, "who came last is queued");

	two_rules(&fleet, 100, 1, 5, 5);
	fleet.rules[0].ceiling = 0;
	fleet.instances[1].ceiling = 0;
	run_allot(&fleet);
	ok(fleet.instances[0].queued, "a rule's ceiling of 0 lets nobody in");
	is_int(fleet.instances[1].share, 1, "an instance's ceiling of 0 counts as 1");

	two_rules(&fleet, -5, 1, 5, 5);
	run_allot(&fleet);
	ok(fleet.instances[0].queued && fleet.instances[1].queued, "below 0 everybody is queued");
}

static double
timed_ms(Fleet *fleet)
{
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	run_allot(fleet);
	clock_gettime(CLOCK_MONOTONIC, &end);
	return (double) (end.tv_sec - begin.tv_sec) * 1e3 +
		   (double) (end.tv_nsec - begin.tv_nsec) / 1e6;
}

static void
show_times(void)
{
	static Fleet fleet;
	static const Scale sizes[] = {
		{ true, 1500, 20, 100, 1000, 9, 12, 50, 1000 },
		{ true, 15000, 64, 1000, 10000, 9, 12, 50, 1000 },
		{ true, 100000, 64, 1000, 10000, 9, 12, 50, 1000 },
	};

	for (int i = 0; i < 3; i++)
	{
		make_fleet(&fleet, 1, &sizes[i]);
		fleet.capacity = sizes[i].capacity;
		timed_ms(&fleet);
		diag("%d instances, %d rules, capacity %d: %.2f ms", fleet.ninstances, fleet.nrules,
			 fleet.capacity, timed_ms(&fleet));
	}
}

/* allot NUMBER: one small fleet by its number, all comparisons. */
static int
show_one(uint64_t number)
{
	static Fleet fleet;

	for (int i = 0; i < COMPARISONS; i++)
	{
		const char *wrong = try_small(&fleet, number, i);

		diag("fleet %" PRIu64 ": %s", number, wrong ? wrong : "right");
	}
	show_fleet(&fleet);
	return 0;
}

int
main(int argc, char **argv)
{
	uint64_t millions = 1;

	if (argc == 3 && strcmp(argv[1], "-n") == 0)
		millions = strtoull(argv[2], NULL, 10);
	else if (argc > 1)
		return show_one(strtoull(argv[1], NULL, 10));
	test_by_hand();
	test_small_fleets(millions * SMALL_FLEETS);
	test_large_fleets(millions * LARGE_FLEETS);
	test_extremes();
	test_forbidden();
	show_times();
	return done_testing();
}
