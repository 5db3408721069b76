/*
 * apr.c: the resource list of Apache's portable runtime, which is behind mod_dbd. The
 * resources are libpq's connections.
 */
#if __has_include(<apr_reslist.h>) /* else it is not installed, and this is not built */

#include "harness.h"

#include <apr_general.h>
#include <apr_reslist.h>

static apr_pool_t *memory;
static apr_reslist_t *list;

static apr_status_t
construct(void **resource, void *params, apr_pool_t *pool)
{
	(void) params;
	(void) pool;
	*resource = connect_plainly();
	return APR_SUCCESS;
}

static apr_status_t
destruct(void *resource, void *params, apr_pool_t *pool)
{
	(void) params;
	(void) pool;
	PQfinish(resource);
	return APR_SUCCESS;
}

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) threads;
	(void) queries;
	(void) extra;
	apr_initialize();
	apr_pool_create(&memory, NULL);
	if (apr_reslist_create(&list, size, size, size, 0, construct, destruct, NULL, memory) !=
		APR_SUCCESS)
		give_up("apr_reslist_create failed");
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	void *resource;

	(void) thread;
	if (apr_reslist_acquire(list, &resource) != APR_SUCCESS)
		give_up("apr_reslist_acquire failed");
	return resource;
}

static inline void
pool_release(int thread, void *held)
{
	(void) thread;
	apr_reslist_release(list, held);
}

static inline bool
pool_query(void *held, const char *sql)
{
	return query_plainly(held, sql);
}

static void
pool_close(void)
{
	apr_pool_destroy(memory);
	apr_terminate();
}

#endif
