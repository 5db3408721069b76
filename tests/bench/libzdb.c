/*
 * libzdb.c: Tildeslash's pool. It never waits: when all are in use the caller is told, and
 * here naps a millisecond before he tries again, which is what its users write.
 */
#if __has_include(<zdb.h>) /* else it is not installed, and this is not built */

#include "harness.h"

#include <zdb.h>

static ConnectionPool_T pool;
static URL_T url;

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) threads;
	(void) queries;
	(void) extra;
	url =
		URL_create("postgresql://%s:%s/%s?user=%s&password=%s", getenv("PGHOST"), getenv("PGPORT"),
				   getenv("PGDATABASE"), getenv("PGUSER"), getenv("PGPASSWORD"));
	if (url == NULL)
		give_up("the server is not named by PGHOST and so on");
	pool = ConnectionPool_new(url);
	ConnectionPool_setInitialConnections(pool, size);
	ConnectionPool_setMaxConnections(pool, size);
	ConnectionPool_start(pool);
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	Connection_T conn;

	(void) thread;
	while ((conn = ConnectionPool_getConnection(pool)) == NULL)
		sleep_ns(1000000);
	return conn;
}

static inline void
pool_release(int thread, void *held)
{
	(void) thread;
	Connection_close(held);
}

static inline bool
pool_query(void *held, const char *sql)
{
	volatile bool good = false;

	TRY good = ResultSet_next(Connection_executeQuery(held, "%s", sql));
	CATCH(SQLException)
	good = false;
	END_TRY;
	return good;
}

static void
pool_close(void)
{
	ConnectionPool_free(&pool);
	URL_free(&url);
}

#endif
