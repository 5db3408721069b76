/*-------------------------------------------------------------------------
 *
 * hands.c
 *	  One hand at a time: a table of the connections that somebody holds.
 *
 * A holder enters its connection into a free cell, then looks for it in all others,
 * and empties the cell before it gives the connection back.  So of two holders at the
 * same time, at least the later one finds the other.
 *
 * Relaxed: the table must not order what the library should have ordered, or
 * ThreadSanitizer would see less.
 *
 *-------------------------------------------------------------------------
 */
#include "play.h"

#define CELLS 1024

static _Atomic(PGconn *) cells[CELLS];

static int
find_cell(PGconn *conn)
{
	for (int i = 0; i < CELLS; i++)
	{
		PGconn *nobody = NULL;

		if (atomic_compare_exchange_strong_explicit(&cells[i], &nobody, conn, memory_order_relaxed,
													memory_order_relaxed))
			return i;
	}
	give_up("more than %d connections are held", CELLS);
}

int
hand_take(Self *self, PGconn *conn, const char *application)
{
	int cell = find_cell(conn);

	for (int i = 0; i < CELLS; i++)
	{
		if (i != cell && atomic_load_explicit(&cells[i], memory_order_relaxed) == conn)
			failure("%s %d was lent a connection that somebody else holds (process %d, %s)",
					self->role, self->index, PQbackendPID(conn), application);
	}
	return cell;
}

void
hand_empty(int cell)
{
	atomic_store_explicit(&cells[cell], NULL, memory_order_relaxed);
}

int
loans_out(void)
{
	int n = 0;

	for (int i = 0; i < CELLS; i++)
		n += atomic_load_explicit(&cells[i], memory_order_relaxed) != NULL;
	return n;
}
