/*-------------------------------------------------------------------------
 *
 * past.c
 *	  What pools have counted, and what is remembered of those that have ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "past.h"
#include "pgpool_monitor.h"

/*---- pools ----*/

void
past_begin_pool(int pool)
{
	PoolRecord *record = &registry->records[pool];

	memset(record, 0, sizeof(*record));
	record->since = GetCurrentTimestamp();
}

static bool
has_ghosts(int pool)
{
	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->ghosts[i].hash != 0 && registry->ghosts[i].pool == pool)
			return true;
	return false;
}

bool
past_end_pool(int pool)
{
	PoolRecord *record = &registry->records[pool];

	record->gone = pgpm_now();
	return !totals_empty(&record->totals) || has_ghosts(pool);
}

static bool
is_remembered(int pool)
{
	return registry->pool_hashes[pool] != 0 && registry->pools[pool].ninstances == 0;
}

static void
forget_ghosts(int pool)
{
	for (int i = 0; i < pgpm_max_instances; i++)
		if (registry->ghosts[i].pool == pool)
			registry->ghosts[i].hash = 0;
}

int
past_forget_pool(void)
{
	int oldest = -1;

	for (int i = 0; i < pgpm_max_pools; i++)
		if (is_remembered(i) &&
			(oldest < 0 || registry->records[i].gone < registry->records[oldest].gone))
			oldest = i;
	if (oldest >= 0)
	{
		forget_ghosts(oldest);
		registry->pool_hashes[oldest] = 0;
	}
	return oldest;
}

void
past_reset(int pool)
{
	PoolRecord *record = &registry->records[pool];

	totals_subtract(&record->sampled, &record->totals);
	memset(&record->totals, 0, sizeof(record->totals));
	record->since = GetCurrentTimestamp();
	if (is_remembered(pool) && !has_ghosts(pool))
		registry->pool_hashes[pool] = 0;
}

/*---- instances ----*/

bool
past_may_come_back(const InstanceSlot *instance)
{
	return !instance->bye && !totals_empty(&instance->report.counted);
}

void
past_end_instance(int i)
{
	const InstanceSlot *instance = &registry->instances[i];
	Ghost *ghost = &registry->ghosts[i];

	ghost->hash = past_may_come_back(instance) ? registry->instance_hashes[i] : 0;
	ghost->pool = instance->pool;
	ghost->gone = pgpm_now();
}

int
past_find_ghost(uint64 hash, int pool, const char *id)
{
	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const Ghost *ghost = &registry->ghosts[i];

		if (ghost->hash == hash && ghost->pool == pool && registry->instance_hashes[i] == 0 &&
			registry->instances[i].has_id && strcmp(registry->instances[i].id, id) == 0)
			return i;
	}
	return -1;
}

int
past_free_instance(void)
{
	int best = -1;

	for (int i = 0; i < pgpm_max_instances; i++)
	{
		const Ghost *ghost = &registry->ghosts[i];

		if (registry->instance_hashes[i] != 0)
			continue;
		if (ghost->hash == 0)
			return i;
		if (best < 0 || ghost->gone < registry->ghosts[best].gone)
			best = i;
	}
	return best;
}

void
past_come_back(InstanceSlot *instance, const Report *before)
{
	report_keep_counters(&instance->report, before);
	/* percentiles are of what happens from now on */
	for (int i = 0; i < lengthof(instance->wait_before); i++)
		memcpy(instance->wait_before[i], before->counted.wait, sizeof(before->counted.wait));
}

/* Its first report, and it does not say that all of it was here. */
static bool
brings_a_past(const InstanceSlot *instance, const Report *before)
{
	int64 opened = instance->report.counted.opened;

	return !instance->reported && totals_empty(&before->counted) &&
		   (opened < 1 || opened > instance->begun);
}

void
past_count(InstanceSlot *instance, const Report *before)
{
	PoolRecord *record = &registry->records[instance->pool];
	const ReportCounters *now = &instance->report.counted;

	record->known = true;
	if (report_began_anew(&instance->report, before))
	{
		memset(instance->wait_before, 0, sizeof(instance->wait_before));
		totals_add(&record->totals, now, NULL);
		return;
	}
	report_keep_counters(&instance->report, before);
	totals_add(&record->totals, now, &before->counted);
	if (brings_a_past(instance, before))
		totals_add(&record->sampled, now, NULL);
}

/*---- history ----*/

void
past_take(int pool, PoolTotals *ever, PoolTotals *before)
{
	PoolRecord *record = &registry->records[pool];

	*ever = record->totals;
	*before = record->sampled;
	record->sampled = record->totals;
}
