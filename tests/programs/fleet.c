/*
 * fleet.c: one process of a fleet: a pool, and threads that want connections from it,
 * steered by its standard input.
 *
 *	fleet POOL THREADS MAX_SIZE
 *
 * Commands, a line each; every one is answered by a line:
 *
 *	active N	the first N threads work (acquire, a short query, release); the others want nothing
 *	hold		they keep what they acquire, and say nothing to the server
 *	work		they go on
 *	stats		a line of key=value
 *
 * At the end of its input it closes the pool in order and prints a last line of the same
 * kind, which begins with "done".
 */
#include <pqpool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pqpool *pool;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int active = 0;
static bool holding = false;
static bool ending = false;

static atomic_ulong queries;
static atomic_ulong failed_queries;
static atomic_ulong refused;	  /* SQLSTATE 53300, wherever it came from */
static atomic_ulong failed_loans; /* acquires that failed in whatever way */
static atomic_int last_code;

/* Wait until thread `number` is wanted; false: the program ends. */
static bool
wanted(int number)
{
	bool go;

	pthread_mutex_lock(&mutex);
	while (!ending && number >= active)
		pthread_cond_wait(&changed, &mutex);
	go = !ending;
	pthread_mutex_unlock(&mutex);
	return go;
}

static void
hold_if_told(void)
{
	pthread_mutex_lock(&mutex);
	while (holding && !ending)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void
use(PGconn *conn)
{
	PGresult *result = PQexec(conn, "SELECT pg_sleep(0.002)");
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		atomic_fetch_add(&queries, 1);
	else
		atomic_fetch_add(&failed_queries, 1);
	if (state != NULL && strcmp(state, "53300") == 0)
		atomic_fetch_add(&refused, 1);
	PQclear(result);
}

static void *
run(void *argument)
{
	int number = (int) (long) argument;

	while (wanted(number))
	{
		pqpool_error error;
		PGconn *conn = pqpool_acquire(pool, 60000, &error);

		if (conn == NULL)
		{
			atomic_fetch_add(&failed_loans, 1);
			atomic_store(&last_code, error.code);
			if (strcmp(error.sqlstate, "53300") == 0)
				atomic_fetch_add(&refused, 1);
			fprintf(stderr, "# %s\n", error.message);
			continue;
		}
		use(conn);
		hold_if_told();
		pqpool_release(conn);
	}
	return NULL;
}

static void
change(int new_active, bool new_holding, bool new_ending)
{
	pthread_mutex_lock(&mutex);
	active = new_active;
	holding = new_holding;
	ending = new_ending;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static void
print_figures(const char *word, const pqpool_statistics *stats, const pqpool_allotment *allotment)
{
	printf("%s size=%d in_use=%d idle=%d waiting=%d limit=%d attached=%d reports=%llu "
		   "open_failures=%llu"
		   " queries=%lu failed_queries=%lu failed_loans=%lu refused=%lu code=%s\n",
		   word, stats->size, stats->in_use, stats->idle, stats->waiting, allotment->limit,
		   allotment->attached, (unsigned long long) stats->reports,
		   (unsigned long long) stats->open_failures, atomic_load(&queries),
		   atomic_load(&failed_queries), atomic_load(&failed_loans), atomic_load(&refused),
		   pqpool_code_name(atomic_load(&last_code)));
	fflush(stdout);
}

static void
print_stats(const char *word)
{
	pqpool_statistics stats;
	pqpool_allotment allotment;

	pqpool_stats(pool, &stats);
	pqpool_limits(pool, &allotment);
	print_figures(word, &stats, &allotment);
}

static void
obey(const char *line)
{
	int n;

	if (sscanf(line, "active %d", &n) == 1)
		change(n, holding, false);
	else if (strcmp(line, "hold") == 0)
		change(active, true, false);
	else if (strcmp(line, "work") == 0)
		change(active, false, false);
	print_stats("stats");
}

int
main(int argc, char **argv)
{
	char conninfo[256];
	char line[64];
	pqpool_error error;
	int nthreads = argc > 3 ? atoi(argv[2]) : 1;
	pthread_t *threads;

	snprintf(conninfo, sizeof(conninfo), "pool_name=%s pool_max_size=%s pool_max_waiters=1000",
			 argc > 3 ? argv[1] : "fleet", argc > 3 ? argv[3] : "10");
	pool = pqpool_open(conninfo, &error);
	if (pool == NULL)
	{
		fprintf(stderr, "# %s\n", error.message);
		return 1;
	}
	threads = calloc(nthreads, sizeof(*threads));
	for (long i = 0; threads != NULL && i < nthreads; i++)
		pthread_create(&threads[i], NULL, run, (void *) i);

	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}

	change(0, false, true);
	for (int i = 0; threads != NULL && i < nthreads; i++)
		pthread_join(threads[i], NULL);
	print_stats("done");
	pqpool_close(&pool, 5000);
	free(threads);
	return 0;
}
