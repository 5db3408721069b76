/*
 * pqpool.c: libpqpool, with its default settings but for the size, and for EXTRA, which is
 * added to the connection string. Where more threads wait than the default lets in, the
 * queue is made long enough.
 */
#include "harness.h"

#include <pqpool.h>

static pqpool *pool;

static PGconn *
acquire_or_give_up(void)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(pool, -1, &err);

	if (conn == NULL)
		give_up("%s: %s", pqpool_code_name(err.code), err.message);
	return conn;
}

/* Connections are opened on demand: here is a demand for all of them. */
static void
fill(int size)
{
	PGconn **conns = calloc((size_t) size, sizeof(PGconn *));

	for (int i = 0; i < size; i++)
		conns[i] = acquire_or_give_up();
	for (int i = 0; i < size; i++)
		(void) pqpool_release(conns[i]);
	free(conns);
}

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	static pqpool_error err;
	char conninfo[300];
	int length;

	(void) queries;
	length =
		snprintf(conninfo, sizeof(conninfo), "pool_name=bench pool_max_size=%d %s", size, extra);
	if (threads > 10 * size)
		snprintf(conninfo + length, sizeof(conninfo) - (size_t) length, " pool_max_waiters=%d",
				 threads);
	pool = pqpool_open(conninfo, &err);
	if (pool == NULL && err.code == PQPOOL_BAD_OPTION)
		return err.message;
	if (pool == NULL)
		give_up("%s: %s", pqpool_code_name(err.code), err.message);
	fill(size);
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	(void) thread;
	return acquire_or_give_up();
}

static inline void
pool_release(int thread, void *held)
{
	(void) thread;
	if (pqpool_release(held) != PQPOOL_OK)
		give_up("a connection was not taken back");
}

static inline bool
pool_query(void *held, const char *sql)
{
	return query_plainly(held, sql);
}

static void
pool_close(void)
{
	(void) pqpool_close(&pool, 10000);
}
