/*
 * direct.c: no pool. Each thread has a connection of its own: to the server as the floor of
 * what a pool can cost, or to PgBouncer (where PGHOST and PGPORT lead there). Where nothing
 * is done with it, this is the empty loop of the harness.
 */
#include "harness.h"

static PGconn **conns;
static int n;

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) size;
	(void) extra;
	n = queries ? threads : 0;
	conns = calloc((size_t) threads, sizeof(PGconn *));
	for (int i = 0; i < n; i++)
		conns[i] = connect_plainly();
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	return conns[thread];
}

static inline void
pool_release(int thread, void *held)
{
	(void) thread;
	(void) held;
}

static inline bool
pool_query(void *held, const char *sql)
{
	return query_plainly(held, sql);
}

static void
pool_close(void)
{
	while (n > 0)
		PQfinish(conns[--n]);
	free(conns);
}
