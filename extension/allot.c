/*-------------------------------------------------------------------------
 *
 * allot.c
 *	  Capacity, rules and demands -> how many connections each instance should have.
 *
 * Think of connections as dealt out one at a time.  At every place in the tree
 * the next one goes to the child that is poorest for its weight, among those
 * that have room at the present stage (floor, demand, rest).  The order in
 * which they are dealt out depends on everything but the capacity; the capacity
 * only says when to stop.  That is why more capacity never gives anybody less,
 * which the method of largest remainder cannot promise (Balinski and Young,
 * Fair Representation, 1982: the Alabama paradox).
 *
 * "Poorest for its weight" is Webster's rule: the k+1st connection of a child of
 * weight w has the price (2k + 1) / 2w, and the lowest price is served first.
 * So at a price level L a child has w * L connections, rounded to the nearest,
 * and instead of dealing them out we look for L by bisection.  Levels are told
 * apart down to a grain within which no two different prices fall, so that from
 * one level to the next a child gains one connection at most and all gains have
 * the same price: these are the ties, and `key` decides.
 *
 * Siblings stand next to each other, in the order of their keys.
 *
 *-------------------------------------------------------------------------
 */
#include "allot.h"

#include <stddef.h>

/*
 * Levels are multiples of 1 / LEVEL_ONE.  Two prices differ by at least
 * 1 / (2 * ALLOT_WEIGHT_MAX^2); among weights of 1 by 1, which lets the
 * bisection of thousands of instances end twenty steps earlier.
 */
#define LEVEL_BITS 22
#define LEVEL_ONE (UINT64_C(1) << LEVEL_BITS)
#define GRAIN_WEIGHTED UINT64_C(1)
#define GRAIN_EQUAL LEVEL_ONE

_Static_assert(LEVEL_ONE > UINT64_C(2) * ALLOT_WEIGHT_MAX * ALLOT_WEIGHT_MAX,
			   "two prices in one grain");

/* A rule, a pool or an instance.  All amounts lie between 0 and capacity. */
typedef struct Node
{
	uint64_t joined;
	uint64_t key;
	int parent; /* position of the parent in the caller's array */
	int index;	/* own position there */
	int weight;
	int first;	 /* children: the first one in the array of nodes below ... */
	int count;	 /* ... and how many */
	int limit;	 /* of a parent: the most that its children may add up to */
	int floor;	 /* the share goes up to here first, */
	int want;	 /* then to here, */
	int ceiling; /* then to here */
	int share;
} Node;

typedef struct Tree
{
	int capacity;
	Node *rules;
	Node *pools;
	Node *instances;
	Node *spare; /* as many as there are instances, or pools */
	int nrules;
	int npools;
	int ninstances;
} Tree;

/* Nodes among which something is dealt out. */
typedef struct Siblings
{
	Node *nodes;
	int n;
	uint64_t top; /* level at which each has reached its ceiling */
	uint64_t grain;
} Siblings;

typedef enum Stage
{
	STAGE_FLOOR,
	STAGE_DEMAND,
	STAGE_REST
} Stage;

/*
 * Sorting, by heap: no bad case, nothing from the library that may allocate.  Most of what
 * comes is in order already.
 */

typedef bool (*Before)(const Node *a, const Node *b);

static bool
by_parent_and_key(const Node *a, const Node *b)
{
	return a->parent != b->parent ? a->parent < b->parent : a->key < b->key;
}

static bool
by_arrival(const Node *a, const Node *b)
{
	return a->joined != b->joined ? a->joined < b->joined : a->key < b->key;
}

static void
sift_down(Node *heap, int top, int n, Before before)
{
	Node moving = heap[top];
	int child;

	while ((child = 2 * top + 1) < n)
	{
		if (child + 1 < n && before(&heap[child], &heap[child + 1]))
			child++;
		if (!before(&moving, &heap[child]))
			break;
		heap[top] = heap[child];
		top = child;
	}
	heap[top] = moving;
}

static bool
is_sorted(const Node *nodes, int n, Before before)
{
	for (int i = 1; i < n; i++)
		if (before(&nodes[i], &nodes[i - 1]))
			return false;
	return true;
}

static void
sort(Node *nodes, int n, Before before)
{
	if (is_sorted(nodes, n, before))
		return;
	for (int i = n / 2 - 1; i >= 0; i--)
		sift_down(nodes, i, n, before);
	for (int i = n - 1; i > 0; i--)
	{
		Node last = nodes[i];

		nodes[i] = nodes[0];
		nodes[0] = last;
		sift_down(nodes, 0, i, before);
	}
}

/*
 * Dealing out
 */

static int
room(const Node *node, Stage stage)
{
	int upto = stage == STAGE_FLOOR	   ? node->floor
			   : stage == STAGE_DEMAND ? node->want
									   : node->ceiling;

	return upto > node->share ? upto - node->share : 0;
}

/*
 * How many connections a node gains when the level has risen to `level`.  What it has
 * already counts, except at the last stage: the rest is shared in
 * proportion to weight and not used to make up for demand.
 */
static int
gain(const Node *node, Stage stage, uint64_t level)
{
	uint64_t has = stage == STAGE_REST ? 0 : (uint64_t) node->share;
	uint64_t due = ((uint64_t) node->weight * level + LEVEL_ONE / 2) >> LEVEL_BITS;
	uint64_t most = (uint64_t) room(node, stage);

	if (due <= has)
		return 0;
	return (int) (due - has < most ? due - has : most);
}

static int64_t
total_gain(const Siblings *to, Stage stage, uint64_t level)
{
	int64_t total = 0;

	for (int i = 0; i < to->n; i++)
		total += gain(&to->nodes[i], stage, level);
	return total;
}

/*
 * The highest level that `amount` pays for; it does not pay for all.  It is seldom
 * far from the bottom, where the search begins.
 */
static uint64_t
find_level(const Siblings *to, Stage stage, int amount)
{
	uint64_t paid = 0;
	uint64_t top = to->top / to->grain;
	uint64_t unpaid = LEVEL_ONE / to->grain;

	while (unpaid < top && total_gain(to, stage, unpaid * to->grain) <= amount)
	{
		paid = unpaid;
		unpaid = 2 * unpaid < top ? 2 * unpaid : top;
	}
	while (unpaid - paid > 1)
	{
		uint64_t middle = paid + (unpaid - paid) / 2;

		if (total_gain(to, stage, middle * to->grain) <= amount)
			paid = middle;
		else
			unpaid = middle;
	}
	return paid * to->grain;
}

static void
raise_to_level(const Siblings *to, Stage stage, uint64_t level, int ties)
{
	for (int i = 0; i < to->n; i++)
	{
		int sure = gain(&to->nodes[i], stage, level);
		bool tied = gain(&to->nodes[i], stage, level + to->grain) > sure;

		to->nodes[i].share += sure + (tied && ties > 0);
		ties -= tied;
	}
}

/* Deal out at one stage; what remains is returned. */
static int
deal_stage(const Siblings *to, Stage stage, int amount)
{
	int64_t needed = total_gain(to, stage, to->top);
	uint64_t level;

	if (needed <= amount)
	{
		raise_to_level(to, stage, to->top, 0);
		return amount - (int) needed;
	}
	level = find_level(to, stage, amount);
	raise_to_level(to, stage, level, amount - (int) total_gain(to, stage, level));
	return 0;
}

/* Deal `amount` out, beyond what the siblings have. */
static void
deal(const Siblings *to, int amount)
{
	for (Stage stage = STAGE_FLOOR; stage <= STAGE_REST && amount > 0; stage++)
		amount = deal_stage(to, stage, amount);
}

/*
 * Setting up
 */

static int
at_most(int64_t amount, int most)
{
	return amount < most ? (int) amount : most;
}

/* Nobody can have more than there is, so "no ceiling" is the capacity. */
static int
ceiling_of(int ceiling, int capacity)
{
	return ceiling < 0 ? capacity : at_most(ceiling, capacity);
}

static void
load_rules(Tree *tree, const AllotRule *rules)
{
	for (int i = 0; i < tree->nrules; i++)
	{
		Node *node = &tree->rules[i];

		*node = (Node){ .key = rules[i].key, .index = i };
		node->weight = rules[i].weight > 1 ? at_most(rules[i].weight, ALLOT_WEIGHT_MAX) : 1;
		node->floor = rules[i].floor;
		node->limit = ceiling_of(rules[i].ceiling, tree->capacity);
	}
}

static void
load_pools(Tree *tree, const AllotPool *pools)
{
	for (int i = 0; i < tree->npools; i++)
	{
		Node *node = &tree->pools[i];

		*node = (Node){ .key = pools[i].key, .parent = pools[i].rule, .index = i, .weight = 1 };
		node->limit = tree->capacity;
	}
}

/* An instance that exists wants one connection, and can use one, whatever it says. */
static void
load_instances(Tree *tree, const AllotInstance *instances)
{
	for (int i = 0; i < tree->ninstances; i++)
	{
		const AllotInstance *in = &instances[i];
		Node *node = &tree->instances[i];

		*node = (Node){ .key = in->key, .parent = in->pool, .index = i, .weight = 1 };
		node->joined = in->joined;
		node->ceiling = ceiling_of(in->ceiling == 0 ? 1 : in->ceiling, tree->capacity);
		node->want = at_most(in->demand > 1 ? in->demand : 1, node->ceiling);
	}
}

/*
 * The first connection of each instance, in the order of arrival.  Who gets
 * none needs no mark to get none later: it was the capacity, or his rule's
 * limit, that had run out, so that nothing is left to deal out to him.
 */
static void
admit(Tree *tree)
{
	int left = tree->capacity;

	sort(tree->instances, tree->ninstances, by_arrival);
	for (int i = 0; i < tree->ninstances; i++)
	{
		Node *node = &tree->instances[i];
		Node *pool = &tree->pools[node->parent];
		Node *rule = &tree->rules[pool->parent];

		if (left == 0 || rule->share == rule->limit)
			continue;
		left--;
		rule->share++;
		pool->share++;
		node->share = 1;
	}
}

/*
 * Put the children into their places and tell the parents, which still stand
 * as the caller had them, where these are and what they add up to.  Siblings keep their
 * order at first, which for instances is that of arrival, and often that of keys.
 */
static void
gather(Node *children, int n, Node *parents, int nparents, Node *spare)
{
	int first = 0;

	for (int i = 0; i < n; i++)
	{
		Node *parent = &parents[children[i].parent];

		parent->count++;
		parent->want = at_most((int64_t) parent->want + children[i].want, parent->limit);
		parent->ceiling = at_most((int64_t) parent->ceiling + children[i].ceiling, parent->limit);
		spare[i] = children[i];
	}
	for (int i = 0; i < nparents; i++)
	{
		parents[i].first = first;
		first += parents[i].count;
		parents[i].count = 0;
	}
	for (int i = 0; i < n; i++)
	{
		Node *parent = &parents[spare[i].parent];

		children[parent->first + parent->count++] = spare[i];
	}
	for (int i = 0; i < nparents; i++)
		sort(&children[parents[i].first], parents[i].count, by_parent_and_key);
}

static void
gather_tree(Tree *tree)
{
	gather(tree->instances, tree->ninstances, tree->pools, tree->npools, tree->spare);
	gather(tree->pools, tree->npools, tree->rules, tree->nrules, tree->spare);
	for (int i = 0; i < tree->nrules; i++)
		tree->rules[i].floor = at_most(tree->rules[i].floor, tree->rules[i].ceiling);
	sort(tree->rules, tree->nrules, by_parent_and_key);
}

/* What there is for the siblings together, less what they got when they were admitted. */
static void
deal_to(Node *first, int n, int amount, int capacity, uint64_t grain)
{
	Siblings to = { first, n, ((uint64_t) capacity + 1) * LEVEL_ONE, grain };

	for (int i = 0; i < n; i++)
		amount -= first[i].share;
	deal(&to, amount);
}

static void
deal_down(const Node *parents, int n, Node *children, int capacity)
{
	for (int i = 0; i < n; i++)
		deal_to(&children[parents[i].first], parents[i].count, parents[i].share, capacity,
				GRAIN_EQUAL);
}

static void
deal_tree(Tree *tree)
{
	deal_to(tree->rules, tree->nrules, tree->capacity, tree->capacity, GRAIN_WEIGHTED);
	deal_down(tree->rules, tree->nrules, tree->pools, tree->capacity);
	deal_down(tree->pools, tree->npools, tree->instances, tree->capacity);
}

static void
store(const Tree *tree, AllotRule *rules, AllotPool *pools, AllotInstance *instances)
{
	for (int i = 0; i < tree->nrules; i++)
		rules[tree->rules[i].index].share = tree->rules[i].share;
	for (int i = 0; i < tree->npools; i++)
		pools[tree->pools[i].index].share = tree->pools[i].share;
	for (int i = 0; i < tree->ninstances; i++)
	{
		AllotInstance *out = &instances[tree->instances[i].index];

		out->share = tree->instances[i].share;
		out->queued = (out->share == 0);
	}
}

void
allot(int capacity, AllotRule *rules, int nrules, AllotPool *pools, int npools,
	  AllotInstance *instances, int ninstances, void *scratch)
{
	Tree tree = { .nrules = nrules, .npools = npools, .ninstances = ninstances };

	tree.capacity = capacity > 0 ? capacity : 0;
	tree.rules = scratch;
	tree.pools = tree.rules + nrules;
	tree.instances = tree.pools + npools;
	tree.spare = tree.instances + ninstances;

	load_rules(&tree, rules);
	load_pools(&tree, pools);
	load_instances(&tree, instances);
	admit(&tree);
	gather_tree(&tree);
	deal_tree(&tree);
	store(&tree, rules, pools, instances);
}

uint64_t
allot_scratch_size(int nrules, int npools, int ninstances)
{
	uint64_t spare = (uint64_t) (npools > ninstances ? npools : ninstances);

	return sizeof(Node) * ((uint64_t) nrules + (uint64_t) npools + (uint64_t) ninstances + spare);
}
