/*
 * lifo.c: the pool that everybody writes first: a stack, a mutex, a condition variable.
 * Whoever comes first after a connection was given back has it, so newcomers overtake those
 * who wait.
 */
#include "harness.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;
static PGconn **stack;
static int n_free;

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) threads;
	(void) extra;
	stack = calloc((size_t) size, sizeof(PGconn *));
	for (n_free = 0; n_free < size; n_free++)
		stack[n_free] = queries ? connect_plainly() : NULL;
	return NULL;
}

static inline void *
pool_acquire(int thread)
{
	PGconn *conn;

	(void) thread;
	pthread_mutex_lock(&mutex);
	while (n_free == 0)
		pthread_cond_wait(&freed, &mutex);
	conn = stack[--n_free];
	pthread_mutex_unlock(&mutex);
	return conn;
}

static inline void
pool_release(int thread, void *held)
{
	(void) thread;
	pthread_mutex_lock(&mutex);
	stack[n_free++] = held;
	pthread_mutex_unlock(&mutex);
	pthread_cond_signal(&freed);
}

static inline bool
pool_query(void *held, const char *sql)
{
	return query_plainly(held, sql);
}

static void
pool_close(void)
{
	while (n_free > 0)
		PQfinish(stack[--n_free]);
	free(stack);
}
