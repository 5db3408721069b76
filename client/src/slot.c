/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  Places for connections: where they are, and how many are in which state.
 *
 * A pool's slots are in chunks that double in size.  A slot never moves and is
 * freed with its pool only.  So a thread may remember where it had its last
 * connection, and anybody may look through all slots without a lock, which is
 * how statistics are made.
 *
 * Such a look sees each slot in one state, but not all at the same moment.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* Slots in chunk k, and in all before it. */
static int
chunk_size(int k)
{
	return PQP_CHUNK_FIRST << k;
}

static int
chunk_start(int k)
{
	return chunk_size(k) - PQP_CHUNK_FIRST;
}

static int
chunk_of(int index)
{
	return 31 - __builtin_clz((unsigned) (index / PQP_CHUNK_FIRST) + 1);
}

Slot *
pqp_slot(const Pool *pool, int index)
{
	int k = chunk_of(index);

	return &pool->chunks[k][index - chunk_start(k)];
}

static bool
add_chunk(Pool *pool)
{
	int first = pool->nslots;
	int k = chunk_of(first);
	Slot *chunk;

	if (k >= PQP_CHUNKS)
		return false;
	chunk = aligned_alloc(_Alignof(Slot), (size_t) chunk_size(k) * sizeof(Slot));
	if (!chunk)
		return false;
	memset(chunk, 0, (size_t) chunk_size(k) * sizeof(Slot));
	for (int i = chunk_size(k) - 1; i >= 0; i--)
	{
		chunk[i].pool = pool;
		chunk[i].index = first + i;
		chunk[i].next_empty = pool->empty;
		pool->empty = &chunk[i];
	}
	pool->chunks[k] = chunk;
	pool->nslots = first + chunk_size(k);
	return true;
}

/* Make room for n slots. */
bool
pqp_make_room(Pool *pool, int n)
{
	while (pool->nslots < n)
		if (!add_chunk(pool))
			return false;
	return true;
}

void
pqp_chunks_free(Pool *pool)
{
	for (int k = 0; k < PQP_CHUNKS; k++)
		free(pool->chunks[k]);
}

void
pqp_slot_state(Slot *slot, SlotState state)
{
	slot->pool->count[slot->state]--;
	slot->pool->count[state]++;
	slot->state = (int) state;
}

Slot *
pqp_slot_reserve(Pool *pool)
{
	Slot *slot;

	if (!pool->empty && !add_chunk(pool))
		return NULL;
	slot = pool->empty;
	if (!slot)
		return NULL; /* never: a chunk has slots */
	pool->empty = slot->next_empty;
	slot->serial = pqp_next_serial();
	slot->generation = pool->generation;
	slot->fatal = false;
	slot->lost = false;
	slot->borrowed = false;
	slot->cancels = 0;
	slot->state = SLOT_OPENING;
	pool->count[SLOT_OPENING]++;
	pool->refs++;
	return slot;
}

/* The reference is the caller's now. */
void
pqp_slot_free(Slot *slot)
{
	Pool *pool = slot->pool;

	pool->count[slot->state]--;
	slot->state = SLOT_EMPTY;
	slot->backend_pid = 0;
	slot->next_empty = pool->empty;
	pool->empty = slot;
}

int
pqp_size(const Pool *pool)
{
	return pqp_staying(pool) + pool->count[SLOT_CLOSING];
}

int
pqp_staying(const Pool *pool)
{
	return pool->count[SLOT_OPENING] + pool->count[SLOT_OPEN];
}

static void
add_open(Sizes *sizes, Slot *slot)
{
	uint64_t word = pqp_item_word(&slot->item);

	if (pqp_item_holder(word) != 0)
		sizes->in_use++;
	else if ((word & PQP_ITEM_FREE) || atomic_load_explicit(&slot->borrowed, memory_order_relaxed))
		sizes->idle++;
	else
		sizes->resetting++;
}

Sizes
pqp_sizes(const Pool *pool)
{
	Sizes sizes = { 0 };

	for (int i = 0, n = pool->nslots; i < n; i++)
	{
		Slot *slot = pqp_slot(pool, i);

		int state = slot->state;

		switch (state)
		{
			case SLOT_OPENING:
				sizes.opening++;
				break;
			case SLOT_OPEN:
				add_open(&sizes, slot);
				break;
			case SLOT_CLOSING:
				sizes.closing++;
				break;
			default:
				break;
		}
	}
	sizes.size = sizes.opening + sizes.idle + sizes.in_use + sizes.resetting + sizes.closing;
	return sizes;
}
