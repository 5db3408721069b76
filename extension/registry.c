/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Shared memory: pools, their instances, and the sessions that these hold.
 *
 * registry.h has the actors, the life of a slot, and the lock table; what instances are
 * told, and the invariant, is grant.c's.  The tables are arrays that are searched by a
 * compact array of hashes beside them: a few thousand of those are a few pages, and there
 * is nothing to rebalance, and nothing that can be left half done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "enforce.h"
#include "grant.h"
#include "past.h"
#include "pause.h"
#include "registry.h"
#include "rule_set.h"

#define WINDOW_LENGTH \
	INT64CONST(60000000) /* microseconds; percentiles are of one to two of these */

Registry *registry = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/*---- shared memory ----*/

static Size
registry_size(void)
{
	Size size = MAXALIGN(sizeof(Registry));

	size = add_size(size, MAXALIGN(mul_size(pgpm_max_pools, sizeof(uint64))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_pools, sizeof(PoolSlot))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_pools, sizeof(PoolRecord))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_pools, sizeof(PoolHealth))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_instances, sizeof(uint64))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_instances, sizeof(InstanceSlot))));
	size = add_size(size, MAXALIGN(mul_size(pgpm_max_instances, sizeof(Ghost))));
	return add_size(size, MAXALIGN(mul_size(MaxBackends, sizeof(SessionSlot))));
}

static void
registry_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(registry_size());
	RequestNamedLWLockTranche("pgpool_monitor", 1);
}

static void *
carve(char **next, Size count, Size size)
{
	char *start = *next;

	*next += MAXALIGN(count * size);
	return start;
}

static void
lay_out(Registry *r)
{
	char *next = (char *) r + MAXALIGN(sizeof(Registry));

	r->pool_hashes = carve(&next, pgpm_max_pools, sizeof(uint64));
	r->pools = carve(&next, pgpm_max_pools, sizeof(PoolSlot));
	r->records = carve(&next, pgpm_max_pools, sizeof(PoolRecord));
	r->health = carve(&next, pgpm_max_pools, sizeof(PoolHealth));
	r->instance_hashes = carve(&next, pgpm_max_instances, sizeof(uint64));
	r->instances = carve(&next, pgpm_max_instances, sizeof(InstanceSlot));
	r->ghosts = carve(&next, pgpm_max_instances, sizeof(Ghost));
	r->sessions = carve(&next, MaxBackends, sizeof(SessionSlot));
}

static void
init_atomics(Registry *r)
{
	pg_atomic_init_u32(&r->generation, 1);
	pg_atomic_init_u32(&r->mode, pgpm_mode);
	pg_atomic_init_u32(&r->lease, pgpm_lease);
	pg_atomic_init_u32(&r->interval, pgpm_report_interval);
	pg_atomic_init_u32(&r->retry, pgpm_retry_interval);
	pg_atomic_init_u64(&r->reports_applied, 0);
	pg_atomic_init_u64(&r->reports_ignored, 0);
	pg_atomic_init_u64(&r->reports_rejected, 0);
	pg_atomic_init_u64(&r->attach_refused, 0);
	pg_atomic_init_u64(&r->unplaced, 0);
	pg_atomic_init_flag(&r->refusal_logged);
	pg_atomic_init_u64(&r->rules_hash, 0);
	ConditionVariableInit(&r->session_ended);
	pg_atomic_init_u64(&r->refused, 0);
	pg_atomic_init_u64(&r->exempt, 0);
	pg_atomic_init_u64(&r->grace_waits, 0);
	pg_atomic_init_u64(&r->grace_admits, 0);
	for (int i = 0; i < pgpm_max_instances; i++)
		pg_atomic_init_u64(&r->instances[i].publication, 0);
}

static void
registry_startup(void)
{
	bool found;
	Registry *r;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* reset in case this is a restart within the postmaster */
	registry = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	r = ShmemInitStruct("pgpool_monitor", registry_size(), &found);
	if (!found)
	{
		memset(r, 0, registry_size());
		r->lock = &GetNamedLWLockTranche("pgpool_monitor")->lock;
		r->incarnation = GetCurrentTimestamp();
		lay_out(r);
		init_atomics(r);
	}
	LWLockRelease(AddinShmemInitLock);
	registry = r;
	if (!found)
		rule_set_load();
	if (IsUnderPostmaster)
		return;
	on_shmem_exit(saved_write_at_exit, (Datum) 0);
	if (!found)
		saved_load();
}

void
registry_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = registry_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = registry_startup;
}

/*---- about instances ----*/

int
instance_ceiling(const InstanceSlot *instance)
{
	if (instance->reported)
		return instance->report.has_max ? Max(1, instance->report.max_size) : -1;
	return instance->reports ? Max(1, instance->held) : -1;
}

int64
registry_instance_timeout(void)
{
	return INT64CONST(2000) * pg_atomic_read_u32(&registry->lease);
}

/*---- look-up ----*/

static uint64
hash_of(const char *name, uint64 seed)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) name, (int) strlen(name), seed);

	return hash != 0 ? hash : 1; /* 0 means free */
}

uint64
registry_pool_hash(const char *name, Oid role, Oid database, IdentifiedBy by)
{
	return hash_of(name, (((uint64) role << 32) | database) + by * UINT64CONST(0x9E3779B97F4A7C15));
}

uint64
registry_instance_hash(const char *id, int pool)
{
	return hash_of(id, (uint64) pool);
}

static int
find_pool(const Identity *who, uint64 hash)
{
	for (int i = 0; i < pgpm_max_pools; i++)
	{
		const PoolSlot *pool = &registry->pools[i];

		if (registry->pool_hashes[i] == hash && pool->identified_by == who->identified_by &&
			pool->role == who->role && pool->database == who->database &&
			strcmp(pool->name, who->pool) == 0)
			return i;
	}
	return -1;
}

static int
find_free(const uint64 *hashes, int n)
{
	for (int i = 0; i < n; i++)
		if (hashes[i] == 0)
			return i;
	return -1;
}

static void
drop_pool_if_empty(int i)
{
	if (registry->pools[i].ninstances > 0)
		return;
	registry->npools--;
	if (!past_end_pool(i))
		registry->pool_hashes[i] = 0;
}

static void
drop_instance(int i)
{
	InstanceSlot *instance = &registry->instances[i];

	past_end_instance(i);
	instance->used = false;
	registry_changed();
	registry->instance_hashes[i] = 0;
	registry->ninstances--;
	registry->pools[instance->pool].ninstances--;
	drop_pool_if_empty(instance->pool);
}

/* Its sessions go on as outsiders, and find out when they end. */
static void
evict_with_sessions(int i)
{
	for (int slot = 0; slot < MaxBackends; slot++)
	{
		if (registry->sessions[slot].kind == SESSION_FREE || registry->sessions[slot].instance != i)
			continue;
		registry->pools[registry->instances[i].pool].held -=
			registry->sessions[slot].kind == SESSION_POOL;
		memset(&registry->sessions[slot], 0, sizeof(SessionSlot));
		pg_atomic_fetch_add_u64(&registry->unplaced, 1);
	}
	drop_instance(i);
}

/*
 * In a full table guesses make room first, the newest of them: who invents names loses
 * his own.  with_pool: all of its pool.
 */
static int
evict_guess(bool with_pool)
{
	int newest = -1;
	int pool;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] != 0 && pool_is_guess(&registry->pools[instance->pool]) &&
			(newest < 0 || instance->joined > registry->instances[newest].joined))
			newest = i;
	}
	if (newest < 0)
		return -1;
	pool = registry->instances[newest].pool;
	for (int i = 0; with_pool && i < pgpm_max_instances; i++)
		if (i != newest && registry->instance_hashes[i] != 0 && registry->instances[i].pool == pool)
			evict_with_sessions(i);
	evict_with_sessions(newest);
	return newest;
}

/*
 * Then an instance that holds nothing: the one silent for longest; with_pool: of
 * those whose pool goes with them; role: of that role's, unless it is InvalidOid.
 */
static int
evict_instance(bool with_pool, Oid role)
{
	int oldest = -1;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];
		const PoolSlot *pool = &registry->pools[instance->pool];
		bool shares = grant_applies(instance, pool);

		if (registry->instance_hashes[i] == 0 || (with_pool && pool->ninstances > 1) ||
			(OidIsValid(role) && pool->role != role))
			continue;
		if (instance->held > 0 || instance->knocks > 0 || instance->waiting > 0 ||
			(shares && grant_believed(instance) > 0))
			continue;
		if (oldest < 0 || instance->last_seen < registry->instances[oldest].last_seen)
			oldest = i;
	}
	if (oldest >= 0)
		drop_instance(oldest);
	return oldest;
}

/*
 * So that nobody fills a table with names or ids that he invents, one role's own
 * may have seven eighths of it; beyond that, one of them must make room.
 */
static bool
role_has_its_share(int has, int max)
{
	return has >= max - max / 8;
}

static int
pools_of(Oid role)
{
	int n = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
		n += registry->pools[i].ninstances > 0 && registry->pools[i].role == role &&
			 !pool_is_guess(&registry->pools[i]);
	return n;
}

static int
instances_of(Oid role)
{
	int n = 0;

	for (int i = 0; i < pgpm_max_pools; i++)
		if (registry->pools[i].role == role && !pool_is_guess(&registry->pools[i]))
			n += registry->pools[i].ninstances;
	return n;
}

/* Within its role's share, if need be after one of that role's has made room? */
static bool
may_add_pool(const Identity *who)
{
	return who->identified_by != BY_CLIENT ||
		   !role_has_its_share(pools_of(who->role), pgpm_max_pools) ||
		   evict_instance(true, who->role) >= 0;
}

/* The pool's count of instances has been raised for the newcomer already. */
static bool
may_add_instance(const Identity *who)
{
	return who->identified_by != BY_CLIENT ||
		   !role_has_its_share(instances_of(who->role) - 1, pgpm_max_instances) ||
		   evict_instance(false, who->role) >= 0;
}

/* Free, or only remembered. */
static int
find_free_pool(void)
{
	int i = find_free(registry->pool_hashes, pgpm_max_pools);

	return i >= 0 ? i : past_forget_pool();
}

/* A guess takes only what is free. */
static int
room_for_pool(const Identity *who)
{
	int i;

	if (!may_add_pool(who))
		return -1;
	if (who->identified_by != BY_CLIENT)
		return find_free(registry->pool_hashes, pgpm_max_pools);
	i = find_free_pool();
	if (i < 0 && (evict_guess(true) >= 0 || evict_instance(true, InvalidOid) >= 0))
		i = find_free_pool();
	return i;
}

static int
room_for_instance(const Identity *who)
{
	int i = past_free_instance();

	if (i < 0 && who->identified_by == BY_CLIENT)
		i = evict_guess(false);
	if (i < 0 && who->identified_by == BY_CLIENT)
		i = evict_instance(false, InvalidOid);
	return i;
}

/* With its first instance, for the first time or again. */
static void
begin_pool(int i, const Identity *who)
{
	PoolSlot *pool = &registry->pools[i];

	memset(pool, 0, sizeof(*pool));
	pool->identified_by = who->identified_by;
	pool->role = who->role;
	pool->database = who->database;
	strlcpy(pool->name, who->pool, NAME_LEN);
	strlcpy(pool->role_name, who->role_name, NAMEDATALEN);
	strlcpy(pool->database_name, who->database_name, NAMEDATALEN);
	rule_set_match(pool);
	registry->npools++;
	pause_meet_pool(i);
}

static int
find_or_add_pool(const Identity *who)
{
	uint64 hash = registry_pool_hash(who->pool, who->role, who->database, who->identified_by);
	int i = find_pool(who, hash);

	if (i >= 0)
	{
		if (registry->pools[i].ninstances == 0)
			begin_pool(i, who);
		return i;
	}
	i = room_for_pool(who);
	if (i < 0)
		return -1;
	begin_pool(i, who);
	past_begin_pool(i);
	registry->pool_hashes[i] = hash;
	return i;
}

static int
find_instance(const Identity *who, int pool, uint64 hash)
{
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const InstanceSlot *instance = &registry->instances[i];

		if (registry->instance_hashes[i] == hash && instance->pool == pool &&
			instance->has_id == who->has_id && strcmp(instance->id, who->id) == 0)
			return i;
	}
	return -1;
}

static void
init_instance(InstanceSlot *instance, const Identity *who, int pool, int64 now)
{
	uint32 generation = instance->generation;

	memset(instance, 0, sizeof(*instance));
	pg_atomic_init_u64(&instance->publication, 0);
	instance->generation = generation + 1;
	instance->used = true;
	instance->pool = pool;
	instance->has_id = who->has_id;
	instance->follows = who->follows;
	instance->reports = who->reports;
	strlcpy(instance->id, who->id, NAME_LEN);
	strlcpy(instance->host, who->host, NAME_LEN);
	strlcpy(instance->application, who->application, NAMEDATALEN);
	instance->joined = ++registry->last_joined;
	instance->joined_at = GetCurrentTimestamp();
	instance->last_seen = now;
	instance->window_start = now;
	instance->would_limit = NO_LIMIT;
}

static int
find_or_add_instance(const Identity *who, int pool, int64 now)
{
	uint64 hash = registry_instance_hash(who->id, pool);
	int i = find_instance(who, pool, hash);
	Report before;
	bool back;

	if (i >= 0)
		return i;

	/*
	 * counted before anybody is evicted: it may be the last one of the same pool, which
	 * must not go with it
	 */
	registry->pools[pool].ninstances++;
	if (!may_add_instance(who))
		i = -1;
	else
	{
		i = who->has_id ? past_find_ghost(hash, pool, who->id) : -1;
		back = i >= 0;
		if (i < 0)
			i = room_for_instance(who);
	}
	if (i < 0)
	{
		registry->pools[pool].ninstances--;
		return -1;
	}
	before = registry->instances[i].report;
	init_instance(&registry->instances[i], who, pool, now);
	if (back)
		past_come_back(&registry->instances[i], &before);
	registry->ghosts[i].hash = 0;
	registry->instance_hashes[i] = hash;
	registry->ninstances++;
	return i;
}

/*---- attach and detach ----*/

/*
 * Is it of any use to the worker to hear at once that a session has come or gone?  Only if
 * shares may move by it: they do not while the instance's occupancy, and what it wants,
 * stay.
 */
static bool
moves_shares(const InstanceSlot *instance, int occupied)
{
	return grant_applies(instance, &registry->pools[instance->pool]) &&
		   (instance->held + instance->knocks <= 1 || !instance->reported ||
			grant_occupancy(instance) != occupied);
}

static void
enter_session(int session, int i, const Identity *who, int64 now)
{
	InstanceSlot *instance = &registry->instances[i];
	SessionSlot *slot = &registry->sessions[session];

	slot->kind = who->knock ? SESSION_KNOCK : SESSION_POOL;
	slot->pid = MyProcPid;
	slot->instance = i;
	slot->attached_at = GetCurrentTimestamp();
	slot->attached = now;
	slot->status = MyBEEntry;
	slot->proc = MyProc;
	instance->begun++;
	if (who->knock)
		instance->knocks++;
	else
	{
		instance->held++;
		registry->pools[instance->pool].held++;
	}
	instance->last_seen = now;
	grant_renew_lease(instance, now);
}

/*
 * One that follows stays, even if it holds nothing: so that the worker sees that it wants
 * something.
 */
static void
turn_away(int i, int64 now)
{
	InstanceSlot *instance = &registry->instances[i];

	if (instance->held > 0 || instance->knocks > 0)
		return;
	if (!instance->follows)
	{
		if (!instance->reports && !enforce_expects(instance, now))
			drop_instance(i);
		return;
	}
	instance->last_seen = now;
	grant_renew_lease(instance, now);
	grant_wish(instance, &registry->pools[instance->pool]);
}

int
registry_attach(const Identity *who, int session, Refusal *refusal)
{
	int64 now = pgpm_now();
	int pool;
	int i = -1;
	bool wake = false;

	refusal->reason = REFUSED_NOT;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry_changed();
	pool = find_or_add_pool(who);
	if (pool >= 0)
	{
		i = find_or_add_instance(who, pool, now);
		if (i < 0)
			drop_pool_if_empty(pool);
	}
	if (i >= 0)
	{
		registry->pools[pool].role_limit = who->role_limit;
		registry->pools[pool].database_limit = who->database_limit;
	}
	if (i >= 0 &&
		!enforce_admits(who, &registry->pools[pool], &registry->instances[i], now, refusal))
	{
		turn_away(i, now);
		i = -1;
	}
	if (i >= 0)
	{
		InstanceSlot *instance = &registry->instances[i];
		int occupied = grant_occupancy(instance);

		enter_session(session, i, who, now);
		if (who->identified_by == BY_CLIENT && instance->held + instance->knocks == 1)
			grant_first(instance, &registry->pools[pool]);
		wake = moves_shares(instance, occupied);
	}
	LWLockRelease(registry->lock);

	if (i < 0 && refusal->reason == REFUSED_NOT)
		pg_atomic_fetch_add_u64(
			who->identified_by == BY_CLIENT ? &registry->attach_refused : &registry->unplaced, 1);
	if (wake)
		registry_wake_worker();
	return i;
}

void
registry_detach(int session)
{
	SessionSlot *slot = &registry->sessions[session];
	InstanceSlot *instance;
	int occupied;
	bool wake;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	if (slot->kind == SESSION_FREE)
	{
		/* a guess that has made room */
		LWLockRelease(registry->lock);
		return;
	}
	registry_changed();
	instance = &registry->instances[slot->instance];
	occupied = grant_occupancy(instance);
	if (slot->kind == SESSION_KNOCK)
		instance->knocks--;
	else
	{
		instance->held--;
		registry->pools[instance->pool].held--;
	}
	instance->last_seen = pgpm_now();
	if (slot->kind == SESSION_POOL)
		enforce_place_left(&registry->pools[instance->pool], instance, instance->last_seen);
	wake = moves_shares(instance, occupied);
	if (instance->held == 0 && instance->knocks == 0 &&
		(instance->bye || !(instance->follows || instance->reports)) &&
		!enforce_expects(instance, instance->last_seen))
		drop_instance(slot->instance);
	memset(slot, 0, sizeof(*slot));
	LWLockRelease(registry->lock);
	if (wake)
		registry_wake_worker();
}

/*---- reports ----*/

static void
remember_demand(InstanceSlot *instance, int32 demand)
{
	for (int i = DEMAND_WINDOW - 1; i > 0; i--)
		instance->demands[i] = instance->demands[i - 1];
	instance->demands[0] = demand;
}

static void
move_window(InstanceSlot *instance, int64 now)
{
	if (now - instance->window_start < WINDOW_LENGTH)
		return;
	memcpy(instance->wait_before[1], instance->wait_before[0], sizeof(instance->wait_before[0]));
	memcpy(instance->wait_before[0], instance->report.counted.wait,
		   sizeof(instance->report.counted.wait));
	instance->window_start = now;
}

/* Whether one that failed came before or after one that worked is not known: the latter counts. */
static void
remember_failed_opens(InstanceSlot *instance, const Report *report, int64 now)
{
	int64 failed = report->counted.open_failures - instance->report.counted.open_failures;

	if (report->counted.opened > instance->report.counted.opened)
		instance->failed_opens = 0;
	else if (failed > 0)
	{
		if (pg_add_s64_overflow(instance->failed_opens, failed, &instance->failed_opens))
			instance->failed_opens = PG_INT64_MAX;
		instance->failed_at = now;
	}
}

/* What sharing makes of an instance's word. */
typedef struct Word
{
	bool bye;
	bool vanished;
	int occupancy;
	int32 demand;
	int ceiling;
	int64 lease_until;
	bool deaf;
	int64 deaf_from;
} Word;

static Word
word_of(const InstanceSlot *instance)
{
	Word word = { .bye = instance->bye,
				  .vanished = instance_vanished(instance),
				  .occupancy = grant_occupancy(instance),
				  .demand = instance_demand(instance),
				  .ceiling = instance_ceiling(instance),
				  .lease_until = instance->lease_until,
				  .deaf = instance->deaf,
				  .deaf_from = grant_deaf_from(instance) };

	return word;
}

/*
 * Most reports say the same again.  A lease that is renewed in time, and to a later one,
 * changes nothing.
 */
static bool
says_more(const InstanceSlot *instance, const Word *before, int64 now)
{
	Word word = word_of(instance);

	return word.bye != before->bye || word.vanished != before->vanished ||
		   word.occupancy != before->occupancy || word.demand != before->demand ||
		   word.ceiling != before->ceiling || before->lease_until < now ||
		   word.lease_until < before->lease_until || word.deaf != before->deaf ||
		   word.deaf_from < before->deaf_from;
}

static void
take_report(InstanceSlot *instance, const Report *report, int64 now)
{
	Report before = instance->report;

	remember_failed_opens(instance, report, now);
	move_window(instance, now);
	instance->report = *report;
	past_count(instance, &before);
	instance->reported = true;
	instance->report_time = now;
	instance->last_seen = now;
	grant_renew_lease(instance, now);
	remember_demand(instance, report_demand(report));
	grant_acknowledge(instance, report->ack);
	if (report->bye)
		instance->bye = true;
}

bool
registry_apply_report(int i, const Report *report)
{
	InstanceSlot *instance = &registry->instances[i];
	const PoolSlot *pool = &registry->pools[instance->pool];
	bool news;
	bool wake = false;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	news = instance->has_id && report->seq > instance->report.seq;
	pause_expire(); /* here too: who waits for the end of a pause reports, and needs no worker */
	if (news)
	{
		int64 now = pgpm_now();
		Word before = word_of(instance);
		bool first = !instance->reported;

		take_report(instance, report, now);
		if (first || says_more(instance, &before, now))
			registry_changed();
		if (grant_applies(instance, pool))
		{
			/* this may be a knock: then the answer to it is all that the client will hear */
			if (grant_told(instance).limit < 1 && grant_told(instance).state != ALLOT_QUEUED &&
				!instance->deaf)
				grant_first(instance, pool);
			wake = first || grant_occupancy(instance) < before.occupancy ||
				   report_demand(report) > grant_told(instance).limit;
		}
	}
	LWLockRelease(registry->lock);

	pg_atomic_fetch_add_u64(news ? &registry->reports_applied : &registry->reports_ignored, 1);
	if (wake)
		registry_wake_worker();
	return news;
}

void
registry_wake_worker(void)
{
	Latch *latch = registry->worker_latch;

	if (latch != NULL)
		SetLatch(latch);
}

/*---- the end of instances ----*/

#define EXPECTED_LOOK \
	INT64CONST(1000000) /* microseconds between two looks at who may be expected */

/*
 * Until when it stays though it holds nothing.  A lease that was given when leases were
 * longer is still believed.
 */
static int64
stays_until(const InstanceSlot *instance, int64 timeout)
{
	/* it was there only for who might come back */
	if (instance->bye || !(instance->follows || instance->reports))
		return 0;
	return Max(instance->lease_until, instance->last_seen + timeout);
}

/* What the clock has done to an instance.  Returns when it will do more. */
static int64
expire_instance(int i, int64 now, int64 timeout)
{
	InstanceSlot *instance = &registry->instances[i];
	bool empty = instance->held == 0 && instance->knocks == 0;
	bool expected = empty && enforce_expects(instance, now);
	int64 until = stays_until(instance, timeout);
	int64 next = PG_INT64_MAX;

	if (empty && !expected && now > until)
	{
		drop_instance(i);
		return next;
	}
	if (expected)
		next = now + EXPECTED_LOOK;
	else if (empty)
		next = until;
	if (grant_is_deaf(instance, now) || now > instance->lease_until)
		grant_take_back(instance);
	else
		next = Min(next, Min(instance->lease_until, grant_deaf_from(instance)));
	return next;
}

int64
registry_expire(int64 now)
{
	int64 timeout = registry_instance_timeout();
	int64 next = PG_INT64_MAX;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		int64 due;

		if (registry->instance_hashes[i] == 0)
			continue;
		due = expire_instance(i, now, timeout);
		next = Min(next, due);
	}
	LWLockRelease(registry->lock);
	return next;
}
