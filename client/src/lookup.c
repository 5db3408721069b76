/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Whose is this PGconn?
 *
 * pqpool_release() gets a PGconn and nothing else.  A hash table of all
 * connections of the process, in shards of a lock each, leads to the slot.
 * Chains run through the slots, so nothing is allocated.  The PGconn is only
 * ever compared, so that a stale or foreign pointer harms nobody.
 *
 * A pointer once given back must also not be mistaken for a new loan that
 * malloc happened to put at the same place.  So addresses of finished PGconns
 * stay in quarantine for a second, and pqp_connect_start avoids them.
 *
 * Accepted: if more than QUARANTINE connections are closed within a second, the
 * oldest are forgotten early.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <string.h>

#define SHARDS 16	/* ThreadSanitizer allows 64 locks at once, and a fork takes all */
#define BUCKETS 256 /* of a shard */
#define QUARANTINE 1024
#define QUARANTINE_US 1000000

typedef struct Shard
{
	_Alignas(64) pthread_mutex_t lock;
	Slot *chains[BUCKETS];
} Shard;

static Shard shards[SHARDS] = { [0 ... SHARDS - 1] = { .lock = PTHREAD_MUTEX_INITIALIZER } };

static struct
{
	pthread_mutex_t lock;
	unsigned next;
	struct
	{
		const PGconn *conn;
		int64_t since;
	} entries[QUARANTINE];
} quarantine = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint32_t
hash(const PGconn *conn)
{
	return (uint32_t) (((uint64_t) (uintptr_t) conn * UINT64_C(0x9e3779b97f4a7c15)) >> 40);
}

static Shard *
shard_of(const PGconn *conn)
{
	return &shards[hash(conn) % SHARDS];
}

static Slot **
chain_of(const PGconn *conn)
{
	return &shard_of(conn)->chains[hash(conn) / SHARDS % BUCKETS];
}

/*
 * Find the slot of a PGconn and leave its shard locked: while it is, the slot
 * cannot go away.  NULL: there is none, and nothing is locked.
 */
Slot *
pqp_lookup(PGconn *conn)
{
	Slot *slot;

	pthread_mutex_lock(&shard_of(conn)->lock);
	for (slot = *chain_of(conn); slot; slot = slot->chain)
		if (slot->conn == conn)
			return slot;
	pthread_mutex_unlock(&shard_of(conn)->lock);
	return NULL;
}

void
pqp_lookup_unlock(PGconn *conn)
{
	pthread_mutex_unlock(&shard_of(conn)->lock);
}

/*
 * Returns the slot, now out of the table, that had this PGconn until now: its
 * holder must have closed it behind our back.  NULL, as a rule.
 */
Slot *
pqp_lookup_add(Slot *slot)
{
	Slot **chain = chain_of(slot->conn);
	Slot *stale = NULL;

	pthread_mutex_lock(&shard_of(slot->conn)->lock);
	for (Slot **link = chain; *link; link = &(*link)->chain)
		if ((*link)->conn == slot->conn)
		{
			stale = *link;
			*link = stale->chain;
			stale->in_table = false;
			break;
		}
	slot->chain = *chain;
	slot->in_table = true;
	*chain = slot;
	pthread_mutex_unlock(&shard_of(slot->conn)->lock);
	return stale;
}

void
pqp_lookup_remove(Slot *slot)
{
	pthread_mutex_lock(&shard_of(slot->conn)->lock);
	for (Slot **link = chain_of(slot->conn); *link; link = &(*link)->chain)
		if (*link == slot)
		{
			*link = slot->chain;
			slot->in_table = false;
			break;
		}
	pthread_mutex_unlock(&shard_of(slot->conn)->lock);
}

void
pqp_lookup_lock_all(void)
{
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_lock(&shards[i].lock);
	pthread_mutex_lock(&quarantine.lock);
}

void
pqp_lookup_unlock_all(void)
{
	pthread_mutex_unlock(&quarantine.lock);
	for (int i = SHARDS - 1; i >= 0; i--)
		pthread_mutex_unlock(&shards[i].lock);
}

void
pqp_lookup_renew(void)
{
	for (int i = 0; i < SHARDS; i++)
		shards[i].lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
	quarantine.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

/* Empty the table onto a chain. */
void
pqp_lookup_take_all(Slot **chain)
{
	for (int i = 0; i < SHARDS * BUCKETS; i++)
	{
		Slot **head = &shards[i / BUCKETS].chains[i % BUCKETS];

		while (*head)
		{
			Slot *slot = *head;

			*head = slot->chain;
			slot->chain = *chain;
			*chain = slot;
		}
	}
}

/* PQfinish, and remember the address for a while. */
void
pqp_finish(PGconn *conn)
{
	/* first the entry: once finished, another thread may get the address at once */
	pthread_mutex_lock(&quarantine.lock);
	quarantine.entries[quarantine.next % QUARANTINE].conn = conn;
	quarantine.entries[quarantine.next % QUARANTINE].since = pqp_now();
	quarantine.next++;
	pthread_mutex_unlock(&quarantine.lock);
	PQfinish(conn);
}

static bool
quarantined(const PGconn *conn)
{
	int64_t horizon = pqp_now() - QUARANTINE_US;
	bool found = false;

	pthread_mutex_lock(&quarantine.lock);
	for (unsigned age = 1; age <= QUARANTINE && !found; age++)
	{
		unsigned i = (quarantine.next - age) % QUARANTINE;

		if (!quarantine.entries[i].conn || quarantine.entries[i].since < horizon)
			break;
		found = quarantine.entries[i].conn == conn;
	}
	pthread_mutex_unlock(&quarantine.lock);
	return found;
}

/* A PGconn that fails at once, without I/O: to occupy an address. */
static PGconn *
placeholder(void)
{
	static const char *const keywords[] = { "pqpool_placeholder", NULL };
	static const char *const values[] = { "1", NULL };

	return PQconnectStartParams(keywords, values, 0);
}

/*
 * PQconnectStartParams, but never at an address in quarantine.  Placeholders
 * fill up such addresses first, as a real attempt that is thrown away would
 * bother the server.  NULL: out of memory.
 */
PGconn *
pqp_connect_start(const char *const *keywords, const char *const *values)
{
	PGconn *held[64];
	int nheld = 0;
	PGconn *conn;

	while (nheld < 63 && (conn = placeholder()) != NULL)
	{
		if (!quarantined(conn))
		{
			PQfinish(conn);
			break;
		}
		held[nheld++] = conn;
	}
	conn = PQconnectStartParams(keywords, values, 0);
	if (conn && quarantined(conn) && nheld < 64)
	{
		held[nheld++] = conn;
		conn = PQconnectStartParams(keywords, values, 0);
	}
	while (nheld > 0)
		PQfinish(held[--nheld]);
	return conn;
}
