/*-------------------------------------------------------------------------
 *
 * judge.c
 *	  What must hold after every step of a run, and what is measured.
 *
 * Must hold (grant.h; extension/PROTOCOL.md, section 6), O being occupancy:
 *	 1. The sum of O grows only as far as capacity, but for a session that no
 *		limit allowed any more when it came: then by that one.
 *		The same holds for each rule and its budget, and each role and its CONNECTION LIMIT.
 *	 2. Who is raised above what he holds: the sum of O then fits in capacity.
 *	 3. No client believes more than its O, nor opens a session beyond it.
 *		So the sum of what clients believe is at most that of O.
 *	 4. Who reports is told at least 1, or that he is queued.
 *	 5. While somebody is queued nobody who came later is let in by the worker.
 *	 6. Whoever has fewer than capacity before him in the queue has a session
 *		within turn_bound().
 *	 7. No rule that wants as much is below its floor for longer than that.
 *	 8. After a round nobody who may hold one is called queued.
 *	 9. In mode enforce no session that a limit allows is refused.
 *	10. Nobody is taken for deaf: all acknowledge.
 *	11. Nothing moves any more after at_rest().
 * The lock protocol is asserted by server.c.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include "allot.h"
#include "pgpool_monitor.h"
#include "rules.h"

#define SAMPLE (250 * MSEC)
#define MAX_POOLS 256

Result result;

/* Of each instance, as it was after the last step. */
typedef struct Shadow
{
	bool used;
	uint32 generation;
	int limit; /* told */
	uint64 epoch;
	int occupancy;
	bool waits; /* is queued, and has nothing */
	uint64 joined;
} Shadow;

static Shadow *shadows;
static int64 total; /* of their occupancies */
static int64 seen_published;
static int waiting_instances; /* of the shadows, those that wait */
static uint64 first_waiting;  /* of these, the order of arrival of the first */
static uint64 last_let_in;	  /* in this step, the latest to arrive of those who got their first */
static bool in_round;
static bool mode_changed;

static RuleSet rules;
static int64 disturbed_at = -1;
static int64 rest_published;
static FILE *series;

void
judge_series(FILE *to)
{
	series = to;
	if (to != NULL)
		fputs("time\tcapacity\theld\tlimits\toccupied\twanted\tqueued\tinstances\n", to);
}

int64
turn_bound(void)
{
	return (pg_atomic_read_u32(&registry->lease) + 3 * pg_atomic_read_u32(&registry->retry) +
			2 * (int64) pgpm_round_interval) *
		   MSEC;
}

/*---- instances ----*/

static bool
exists(int i)
{
	return registry->instance_hashes[i] != 0;
}

static bool
shares(int i)
{
	const InstanceSlot *instance = &registry->instances[i];

	return exists(i) && grant_applies(instance, &registry->pools[instance->pool]);
}

static int
occupancy_of(int i)
{
	return shares(i) ? grant_occupancy(&registry->instances[i]) : 0;
}

/* Where the server has this client, or NULL. */
static const InstanceSlot *
instance_of(const Client *client)
{
	const InstanceSlot *instance;

	if (client->instance < 0 || !exists(client->instance))
		return NULL;
	instance = &registry->instances[client->instance];
	return instance->generation == client->generation ? instance : NULL;
}

/* Nobody of whom nothing has been heard for a lease is waited for. */
static bool
is_heard(const InstanceSlot *instance)
{
	return !instance->bye && sim_now <= instance->lease_until && !instance_vanished(instance);
}

static void
update_shadow(int i)
{
	const InstanceSlot *instance = &registry->instances[i];
	Publication told = grant_told(instance);
	Shadow *shadow = &shadows[i];

	total -= shadow->occupancy;
	shadow->used = exists(i);
	shadow->generation = instance->generation;
	shadow->limit = told.limit;
	shadow->epoch = told.epoch;
	shadow->occupancy = occupancy_of(i);
	shadow->joined = instance->joined;
	shadow->waits =
		shares(i) && told.limit == 0 && told.state == ALLOT_QUEUED && is_heard(instance);
	total += shadow->occupancy;
}

/*---- after every step ----*/

/* What an instance is told has changed.  True if it was raised above what it holds. */
static bool
judge_change(int i)
{
	const InstanceSlot *instance = &registry->instances[i];
	const Shadow *before = &shadows[i];
	bool same = before->used && before->generation == instance->generation;
	int limit = same ? Max(before->limit, 0) : 0;
	Publication told = grant_told(instance);

	if (shares(i) && instance->deaf)
		sim_fail("instance %d is taken for deaf", i);
	if (!shares(i) || (same && before->epoch == told.epoch))
		return false;
	if (same && told.epoch <= before->epoch)
		sim_fail("instance %d: an epoch that is not newer", i);
	if (told.limit == 0 && told.state == ALLOT_OK && is_heard(instance) &&
		!(same && before->limit == 0))
		sim_fail("instance %d is told 0, and not that it is queued", i);
	/* what one holds, or may still believe, is counted already, and takes nothing from others */
	if (told.state == ALLOT_OK && limit == 0 && !rules.nrules && !has_role_limits() &&
		told.limit > Max(instance->held, same ? before->occupancy : 0))
	{
		last_let_in = Max(last_let_in, instance->joined);
		result.jumps += !in_round && instance->joined > first_waiting;
	}
	return !(same && before->limit == NO_LIMIT) && told.limit > limit &&
		   told.limit > instance->held;
}

static void
judge_client(const Client *client)
{
	const InstanceSlot *instance = instance_of(client);
	int believed = client_believes(client);
	int occupancy = instance != NULL ? occupancy_of(client->instance) : 0;

	if (believed > occupancy && instance != NULL && !shares(client->instance))
		return; /* the mode is being changed */
	if (believed > occupancy)
		sim_fail("client %d believes %d, and the server counts %d", client->number, believed,
				 occupancy);
}

static void
find_waiting(void)
{
	waiting_instances = 0;
	first_waiting = UINT64_MAX;
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		if (!shadows[i].used || !shadows[i].waits)
			continue;
		waiting_instances++;
		first_waiting = Min(first_waiting, shadows[i].joined);
	}
}

/*
 * The same of each rule's budget as of capacity: it grows only as far, but for unforeseen
 * sessions.
 */
static void
judge_budgets(Step step)
{
	static int64 before[RULES_MAX];
	int64 occupied[RULES_MAX] = { 0 };

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		int rule = registry->pools[instance->pool].rule;

		if (exists(i) && rule >= 0)
			occupied[rule] += shares(i) ? grant_occupancy(instance) : instance->held;
	}
	for (int i = 0; i < rules.nrules; i++)
	{
		int budget = rule_budget(&rules.rules[i], pgpm_base_connections());

		if (budget >= 0 && !mode_changed &&
			occupied[i] > Max(budget, before[i] + (step == STEP_JOIN)))
			sim_fail("occupancies of rule %d grew from %" PRId64 " to %" PRId64
					 ", and its budget is %d",
					 i, before[i], occupied[i], budget);
		before[i] = occupied[i];
	}
}

static void
judge_role_limits(Step step)
{
	static int64 before[ROLES];
	int64 occupied[ROLES] = { 0 };

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		if (exists(i))
			occupied[registry->pools[instance->pool].role - 10] += grant_occupancy(instance);
	}
	for (int i = 0; i < ROLES; i++)
	{
		if (role_limits[i] >= 0 &&
			occupied[i] > Max(role_limits[i], before[i] + (step == STEP_JOIN)))
			sim_fail("occupancies of role %d grew from %" PRId64 " to %" PRId64
					 ", and its CONNECTION LIMIT is %d",
					 i, before[i], occupied[i], role_limits[i]);
		before[i] = occupied[i];
	}
}

void
judge_limits_are_used(void)
{
	int64 limits[ROLES] = { 0 };
	int64 wants[ROLES] = { 0 };

	for (int i = 0; i < nclients; i++)
		wants[role_of(clients[i].pool) - 10] += clients[i].alive ? clients[i].want : 0;
	for (int i = 0; i < pgpm_max_instances; i++)
		if (shares(i))
			limits[registry->pools[registry->instances[i].pool].role - 10] +=
				Max(0, grant_told(&registry->instances[i]).limit);
	for (int i = 0; i < ROLES; i++)
		if (role_limits[i] >= 0 && limits[i] * 8 < Min(wants[i], role_limits[i]) * 7)
			sim_fail("role %d has %" PRId64 " and wants %" PRId64
					 ", and its CONNECTION LIMIT is %d",
					 i, limits[i], wants[i], role_limits[i]);
}

static void
judge_all(Step step)
{
	bool raised = false;

	last_let_in = 0;
	for (int i = 0; i < pgpm_max_instances; i++)
		raised |= judge_change(i);
	for (int i = 0; i < pgpm_max_instances; i++)
		if (exists(i) || shadows[i].used)
			update_shadow(i);
	for (int i = 0; i < nclients; i++)
		if (clients[i].alive)
			judge_client(&clients[i]);
	if (raised && total > registry->round.capacity && !mode_changed)
		sim_fail("something was raised, and occupancies are %" PRId64 " of %d", total,
				 registry->round.capacity);
	find_waiting();
	if (in_round && first_waiting < last_let_in)
		sim_fail("the %" PRIu64 "th to arrive was let in, and the %" PRIu64 "th still waits",
				 last_let_in, first_waiting);
	if (rules.nrules > 0)
		judge_budgets(step);
	if (has_role_limits())
		judge_role_limits(step);
}

void
judge_step(Step step, int client)
{
	int64 before = total;
	int capacity;

	if (step == STEP_MODE)
		mode_changed = true;
	if (client < 0 || step == STEP_JOIN || registry->round.published != seen_published)
		judge_all(step);
	else if (clients[client].instance >= 0)
	{
		update_shadow(clients[client].instance);
		judge_client(&clients[client]);
	}
	seen_published = registry->round.published;
	capacity = registry->round.capacity;
	if (!mode_changed && total > Max(capacity, before + (step == STEP_JOIN)))
		sim_fail("occupancies grew from %" PRId64 " to %" PRId64 ", and capacity is %d", before,
				 total, capacity);
	result.overshoot =
		Max(result.overshoot, server.connections - (MaxConnections - compat_reserved_connections() -
													pgpm_headroom_connections()));
}

/* A client opens one more. */
void
judge_opening(const Client *client, bool first)
{
	int size = client_size(client) + 1;
	int occupancy = instance_of(client) != NULL ? occupancy_of(client->instance) : 0;

	if (first)
	{
		if (size > 1)
			sim_fail("client %d opens a second session without a limit", client->number);
		return;
	}
	if (instance_of(client) != NULL && !shares(client->instance))
		return;
	if (size > occupancy)
		sim_fail("client %d opens session %d, and the server counts %d", client->number, size,
				 occupancy);
}

/* Mode enforce has refused a session. */
void
judge_refusal(const Client *client, const Refusal *refusal, int serial)
{
	if (client_is_allowed(client, serial) && refusal->reason != REFUSED_BY_RULE)
		sim_fail("client %d is refused a session, with %d of the %d that it may hold",
				 client->number, refusal->held, client_believes(client));
}

/*---- rounds ----*/

void
judge_round_begins(void)
{
	in_round = true;
}

/* Who may hold his first is not told that he waits for it, whether or not there is more for him. */
static void
judge_states(void)
{
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		Publication told = grant_told(&registry->instances[i]);

		if (shares(i) && told.state == ALLOT_QUEUED && told.limit > 0 &&
			is_heard(&registry->instances[i]))
			sim_fail("instance %d may hold %d, and is told that it is queued", i, told.limit);
	}
}

void
judge_round_ends(void)
{
	in_round = false;
	mode_changed = false;
	judge_states();
}

/*---- floors ----*/

static void
sum_rules(int64 *limits, int64 *wants)
{
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		int rule;

		if (!shares(i))
			continue;
		rule = registry->pools[instance->pool].rule;
		if (rule < 0 || !is_heard(instance) || !instance->reported)
			continue;
		limits[rule] += Max(0, grant_told(instance).limit);
		wants[rule] += Min(instance_demand(instance), instance->report.max_size);
	}
}

/*
 * What is moved within a rule is given back before it is given again: for so long it may be below
 * its floor.  An eighth is not worth a move.
 */
static void
look_at_floors(void)
{
	static int64 below_since[RULES_MAX]; /* 0: it is not */
	int64 limits[RULES_MAX] = { 0 };
	int64 wants[RULES_MAX] = { 0 };
	int64 floors = 0;

	sum_rules(limits, wants);
	for (int i = 0; i < rules.nrules; i++)
		floors += rules.rules[i].floor;
	for (int i = 0; i < rules.nrules; i++)
	{
		if (limits[i] + limits[i] / 8 >= Min(rules.rules[i].floor, wants[i]) ||
			waiting_instances > 0 || server.worker_stops || floors > registry->round.capacity)
			below_since[i] = 0;
		else if (below_since[i] == 0)
			below_since[i] = sim_now;
		else if (sim_now - below_since[i] > turn_bound())
			sim_fail("rule %d has %" PRId64 " and wants %" PRId64 ", and its floor is %d", i,
					 limits[i], wants[i], rules.rules[i].floor);
	}
}

/*---- what is fair, by the clients' true wishes ----*/

static AllotRule fair_rules[RULES_MAX + 1];
static AllotPool fair_pools[MAX_POOLS];
static AllotInstance fair_instances[MAX_CLIENTS];
static const Client *fair_clients[MAX_CLIENTS];

/* The server's own key, so that ties are broken alike. */
static uint64
pool_key(const char *name)
{
	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pool_hashes[i] != 0 && strcmp(registry->pools[i].name, name) == 0)
			return (uint64) i;
	return (uint64) pgpm_max_pools;
}

static int
add_pool(char names[][NAME_LEN], int *n, const char *name)
{
	int rule;

	for (int i = 0; i < *n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	sim_strlcpy(names[*n], name, NAME_LEN);
	rule = rules_match(&rules, name, "app", "app");
	fair_pools[*n] = (AllotPool){ .rule = rule < 0 ? RULES_MAX : rule, .key = pool_key(name) };
	return (*n)++;
}

static AllotInstance
true_wish(const Client *client, int pool)
{
	const InstanceSlot *instance = instance_of(client);
	bool stopped = sim_now < client->stopped_until;
	uint64 joined =
		instance != NULL ? instance->joined : UINT64_MAX - MAX_CLIENTS + (uint64) client->number;

	return (AllotInstance){ .pool = pool,
							.demand = stopped ? client->counts[IN_USE] : client->want,
							.ceiling = stopped ? Max(1, client_size(client)) : client->max,
							.joined = joined,
							.key = joined };
}

/* The number of those whom it concerns; shares stand in fair_instances. */
static int
find_fair(void)
{
	static char names[MAX_POOLS][NAME_LEN];
	static void *scratch;
	int npools = 0;
	int n = 0;

	for (int i = 0; i <= RULES_MAX; i++)
	{
		const Rule *rule = &rules.rules[i];
		bool is_rule = i < rules.nrules;

		fair_rules[i] =
			(AllotRule){ .weight = is_rule ? rule->weight : 1,
						 .floor = is_rule ? rule->floor : 0,
						 .ceiling = is_rule ? rule_budget(rule, MaxConnections - 3) : -1,
						 .key = (uint64) i };
	}
	for (int i = 0; i < nclients; i++)
	{
		if (!clients[i].alive || clients[i].leaving || clients[i].want == 0)
			continue;
		fair_clients[n] = &clients[i];
		fair_instances[n++] = true_wish(&clients[i], add_pool(names, &npools, clients[i].pool));
	}
	if (scratch == NULL)
		scratch = malloc(allot_scratch_size(RULES_MAX + 1, MAX_POOLS, MAX_CLIENTS));
	allot(MaxConnections - compat_reserved_connections() - pgpm_headroom_connections() -
			  server.outsiders,
		  fair_rules, RULES_MAX + 1, fair_pools, npools, fair_instances, n, scratch);
	return n;
}

/*
 * All but one in a hundred use what they want of their fair share, but for what is not
 * worth a move.
 */
static bool
is_fair(void)
{
	int n = find_fair();
	int lacking = 0;

	for (int i = 0; i < n; i++)
	{
		int due = Min(fair_clients[i]->want, fair_instances[i].share);

		if (sim_now < fair_clients[i]->stopped_until)
			continue;
		lacking += fair_clients[i]->counts[IN_USE] + (due < 4 ? 0 : Max(1, due / 8)) < due;
	}
	return lacking <= n / 100;
}

void
disturbed(void)
{
	if (disturbed_at >= 0)
		result.fair_last = result.fair_worst = -1;
	disturbed_at = sim_now;
	result.disturbances++;
}

static void
look_whether_fair(void)
{
	if (disturbed_at < 0 || !is_fair())
		return;
	result.fair_last = (double) (sim_now - disturbed_at) / (double) SECOND;
	if (result.fair_worst >= 0)
		result.fair_worst = Max(result.fair_worst, result.fair_last);
	disturbed_at = -1;
}

/*---- the queue ----*/

static int
compare_numbers(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* The order of arrival from which on instances have no place yet. */
static uint64
first_without_place(void)
{
	static uint64 joined[MAX_CLIENTS];
	int n = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
		if (shares(i) && !registry->instances[i].bye && n < MAX_CLIENTS)
			joined[n++] = registry->instances[i].joined;
	if (registry->round.capacity <= 0)
		return 0;
	if (n < registry->round.capacity)
		return UINT64_MAX;
	qsort(joined, (size_t) n, sizeof(joined[0]), compare_numbers);
	return joined[registry->round.capacity - 1] + 1;
}

static void
look_at_queue(Client *client, uint64 first_without)
{
	const InstanceSlot *instance = instance_of(client);
	bool has_none = client->alive && !client->leaving && client->want > 0 &&
					client->counts[IN_USE] == 0 && sim_now >= client->stopped_until;
	bool due = has_none && !rules.nrules && !server.worker_stops && instance != NULL &&
			   instance->joined < first_without;

	if (!has_none)
		client->queued_since = -1;
	else if (client->queued_since < 0)
		client->queued_since = Max(client->wanted_since, client->started);
	if (!due)
		client->due_since = -1;
	else if (client->due_since < 0)
		client->due_since = sim_now;
	if (has_none)
		result.queued_longest =
			Max(result.queued_longest, (double) (sim_now - client->queued_since) / (double) SECOND);
	if (!due)
		return;
	result.due_longest =
		Max(result.due_longest, (double) (sim_now - client->due_since) / (double) SECOND);
	if (sim_now - client->due_since > turn_bound())
		sim_fail("client %d has no session, though a place has been its own for %.1f s",
				 client->number, (double) (sim_now - client->due_since) / (double) SECOND);
}

/*---- now and then ----*/

static void
judge_beliefs(void)
{
	int64 believed = 0;
	int unknown = 0;

	for (int i = 0; i < nclients; i++)
	{
		const Client *client = &clients[i];
		int open = client->counts[IDLE] + client->counts[IN_USE];

		if (!client->alive)
			continue;
		if (client_size(client) <= client_believes(client))
			open += client->counts[OPENING];
		else
			unknown += client->counts[OPENING];
		believed += Max(client_believes(client), open);
	}
	result.unknown = Max(result.unknown, unknown);
	if (believed > total && !mode_changed && pg_atomic_read_u32(&registry->mode) >= MODE_SHARE)
		sim_fail("clients believe %" PRId64 " together, and the server counts %" PRId64, believed,
				 total);
}

static void
write_series(void)
{
	int64 limits = 0, wanted = 0;
	int queued = 0, alive = 0;

	for (int i = 0; i < pgpm_max_instances; i++)
		if (shares(i))
			limits += Max(0, grant_told(&registry->instances[i]).limit);
	for (int i = 0; i < nclients; i++)
	{
		if (!clients[i].alive)
			continue;
		alive++;
		wanted += clients[i].want;
		queued += clients[i].want > 0 && clients[i].counts[IN_USE] == 0;
	}
	fprintf(series, "%.2f\t%d\t%d\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%d\t%d\n",
			(double) (sim_now - 1000 * SECOND) / (double) SECOND, registry->round.capacity,
			server.connections - server.outsiders, limits, total, wanted, queued, alive);
}

static void
on_sample(const Event *event)
{
	if (event->serial % 4 == 0)
	{
		uint64 first_without = first_without_place();

		for (int i = 0; i < nclients; i++)
			look_at_queue(&clients[i], first_without);
		look_at_floors();
	}
	judge_beliefs();
	look_whether_fair();
	if (series != NULL)
		write_series();
	schedule_action(SAMPLE, on_sample, event->serial + 1);
}

void
at_rest(void)
{
	rest_published = registry->round.published;
	result.late_from = sim_now;
}

void
judge_init(void)
{
	RulesError error;

	shadows = palloc0(sizeof(Shadow) * (Size) pgpm_max_instances);
	if (!rules_parse(pgpm_rules, &rules, &error))
		sim_fail("the scenario's rules: %s", error.message);
	schedule_action(SAMPLE, on_sample, 1);
}

void
judge_finish(void)
{
	if (disturbed_at >= 0)
		result.fair_last = result.fair_worst = -1;
	result.published = registry->round.published;
	result.clients = nclients;
	result.headroom = pgpm_headroom_connections();
	result.refused = server.refused;
	result.turned_away = server.turned_away;
	result.opened = server.opened;
	result.reports = server.reports;
	result.knocks = server.knocks;
	result.round_us = server.rounds > 0 ? server.rounds_us / (double) server.rounds : 0;
	result.round_us_worst = server.round_us;
	result.quiet_rounds = worker_quiet_rounds;
	if (result.late_from > 0)
		result.moves_late = result.published - rest_published;
	if (result.moves_late > 0)
		sim_fail("%" PRId64 " limits were moved though nothing had changed", result.moves_late);
	if (result.disturbances > 0 && result.fair_worst < 0)
		sim_fail("fair shares were not reached");
}
