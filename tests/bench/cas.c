/*
 * cas.c: the floor of a pool that knows who holds what. Each thread has a slot, a word in a
 * cache line of its own: a compare-and-swap takes it and another one gives it back. There
 * is nothing else: no thread could wait, or have another's slot.
 */
#include "harness.h"

typedef struct Slot
{
	atomic_uint_fast64_t owner;
	PGconn *conn;
} __attribute__((aligned(128))) Slot;

static Slot *slots;
static int n;

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) extra;
	if (threads > size)
		return "no slot for every thread";
	n = threads;
	slots = aligned_alloc(128, (size_t) n * sizeof(Slot));
	memset(slots, 0, (size_t) n * sizeof(Slot));
	for (int i = 0; queries && i < n; i++)
		slots[i].conn = connect_plainly();
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	uint_fast64_t nobody = 0;

	if (!atomic_compare_exchange_strong_explicit(&slots[thread].owner, &nobody,
												 (uint_fast64_t) thread + 1, memory_order_acquire,
												 memory_order_relaxed))
		give_up("the slot is taken");
	return &slots[thread];
}

static inline void
pool_release(int thread, void *held)
{
	Slot *slot = held;
	uint_fast64_t mine = (uint_fast64_t) thread + 1;

	if (!atomic_compare_exchange_strong_explicit(&slot->owner, &mine, 0, memory_order_release,
												 memory_order_relaxed))
		give_up("the slot is another's");
}

static inline bool
pool_query(void *held, const char *sql)
{
	return query_plainly(((Slot *) held)->conn, sql);
}

static void
pool_close(void)
{
	while (n > 0)
		PQfinish(slots[--n].conn);
	free(slots);
}
