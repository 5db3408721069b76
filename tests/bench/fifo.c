/*
 * fifo.c: the plain pool that is fair: a stack and a queue under a mutex. Who finds nothing
 * queues, with a futex of his own; who gives back while anybody waits hands over to the
 * first, and wakes him outside the lock.
 */
#include "harness.h"

#include <linux/futex.h>
#include <sys/syscall.h>

typedef struct Waiter
{
	struct Waiter *next;
	PGconn *conn;
	atomic_int handed;
} __attribute__((aligned(128))) Waiter;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static PGconn **stack;
static int n_free;
static Waiter *waiters; /* one for each thread */
static Waiter *first, *last;

static const char *
pool_open(int threads, int size, bool queries, const char *extra)
{
	(void) extra;
	stack = calloc((size_t) size, sizeof(PGconn *));
	for (n_free = 0; n_free < size; n_free++)
		stack[n_free] = queries ? connect_plainly() : NULL;
	waiters = aligned_alloc(128, (size_t) threads * sizeof(Waiter));
	return NULL;
}

/* Called with the mutex locked, returns without. */
static PGconn *
queue_up(Waiter *self)
{
	self->next = NULL;
	atomic_store_explicit(&self->handed, 0, memory_order_relaxed);
	if (first == NULL)
		first = self;
	else
		last->next = self;
	last = self;
	pthread_mutex_unlock(&mutex);
	while (!atomic_load_explicit(&self->handed, memory_order_acquire))
		syscall(SYS_futex, &self->handed, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return self->conn;
}

static inline void *
pool_acquire(int thread)
{
	PGconn *conn;

	pthread_mutex_lock(&mutex);
	if (n_free == 0)
		return queue_up(&waiters[thread]);
	conn = stack[--n_free];
	pthread_mutex_unlock(&mutex);
	return conn;
}

static inline void
pool_release(int thread, void *held)
{
	Waiter *heir;

	(void) thread;
	pthread_mutex_lock(&mutex);
	heir = first;
	if (heir != NULL)
		first = heir->next;
	else
		stack[n_free++] = held;
	pthread_mutex_unlock(&mutex);
	if (heir != NULL)
	{
		heir->conn = held;
		atomic_store_explicit(&heir->handed, 1, memory_order_release);
		syscall(SYS_futex, &heir->handed, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
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
	free(waiters);
}
