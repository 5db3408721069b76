/*
 * load.c: threads that use a pool until told to stop, for tests that do something to the
 * server meanwhile.
 *
 *	load THREADS CONNINFO
 *
 * Each thread borrows a connection, asks a question, and gives it back. Every tenth of a
 * second prints
 *
 *	progress:<questions answered>
 *
 * and at the end (SIGTERM) a line each:
 *
 *	answered:<n>	questions answered
 *	broken:<n>		first questions on a connection just borrowed that were not: the session ended in between, or the pool
 *					has handed out a dead one
 *	lost:<n>		second questions that were not
 *	<CODE>:<n>		acquires that failed with this code
 *	size:<n>		of the pool before it was closed
 *	close:<CODE>	what closing it answered
 */
#include <pqpool.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_CODE 64

static pqpool *pool;
static atomic_bool stop;
static atomic_long answered;
static atomic_long broken;
static atomic_long lost;
static atomic_long refused[MAX_CODE];

static bool
ask(PGconn *conn)
{
	PGresult *result = PQexec(conn, "SELECT 1");
	bool good = PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	if (good)
		atomic_fetch_add(&answered, 1);
	return good;
}

static void *
work(void *arg)
{
	(void) arg;
	while (!atomic_load(&stop))
	{
		pqpool_error err;
		PGconn *conn = pqpool_acquire(pool, -1, &err);

		if (conn == NULL)
		{
			struct timespec pause = { 0, 10000000 };

			if (atomic_fetch_add(&refused[err.code % MAX_CODE], 1) == 0)
			{
				printf("# %s\n", err.message);
				fflush(stdout);
			}
			nanosleep(&pause, NULL);
			continue;
		}
		if (!ask(conn))
			atomic_fetch_add(&broken, 1);
		else if (!ask(conn))
			atomic_fetch_add(&lost, 1);
		(void) pqpool_release(conn);
	}
	return NULL;
}

static void *
show_progress(void *arg)
{
	struct timespec tenth = { 0, 100000000 };

	(void) arg;
	while (!atomic_load(&stop))
	{
		printf("progress:%ld\n", atomic_load(&answered));
		fflush(stdout);
		nanosleep(&tenth, NULL);
	}
	return NULL;
}

static void
print_summary(void)
{
	pqpool_statistics stats;

	printf("answered:%ld\nbroken:%ld\nlost:%ld\n", atomic_load(&answered), atomic_load(&broken),
		   atomic_load(&lost));
	for (int i = 0; i < MAX_CODE; i++)
	{
		if (atomic_load(&refused[i]) > 0)
			printf("%s:%ld\n", pqpool_code_name(i), atomic_load(&refused[i]));
	}
	(void) pqpool_stats(pool, &stats);
	printf("size:%d\n", stats.size);
	printf("close:%s\n", pqpool_code_name(pqpool_close(&pool, 10000)));
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t *threads = calloc((size_t) n + 1, sizeof(*threads));
	pqpool_error err;
	sigset_t signals;
	int signal_number;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	pool = pqpool_open(argc > 2 ? argv[2] : "", &err);
	if (pool == NULL || threads == NULL)
	{
		printf("open: %s\n", err.message);
		free(threads);
		return 1;
	}
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	pthread_create(&threads[n], NULL, show_progress, NULL);
	sigwait(&signals, &signal_number);
	atomic_store(&stop, true);
	for (int i = 0; i <= n; i++)
		pthread_join(threads[i], NULL);
	print_summary();
	free(threads);
	return 0;
}
