/*-------------------------------------------------------------------------
 *
 * service.c
 *	  A program with many threads and one pool, as services are.
 *
 *		service orders|web|batch [SECONDS]
 *
 * Each of its 32 threads goes on and on: a user comes, the thread borrows a connection,
 * does the user's work with it, and gives it back.  SECONDS: when web's users begin to come
 * in crowds.  Where the server is, libpq's environment says (PGHOST, PGDATABASE, ...); the
 * tables are demo.sh's.
 *
 * SIGUSR1 makes it print its figures so far; SIGTERM and SIGINT make it finish what it is at,
 * print its figures, close its pool and end.  Figures are one line of key=value:
 *
 *		seconds		since it began
 *		queries		statements that the server executed
 *		failed		statements that it did not
 *		acquires	loans
 *		errors		acquires that failed; followed by each code with its number
 *		full		of these, that failed because the server was full (SQLSTATE 53300)
 *		refused		connections that the pool tried to open and did not get
 *		wait_...	milliseconds from asking for a connection to having one; failed acquires are not in it
 *
 *-------------------------------------------------------------------------
 */
#include <pqpool.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 32
#define ACCOUNTS 1000
#define CODES 64

/* Waits by length: sixteen buckets for each power of two microseconds, hence exact to 6 %. */
#define BUCKETS (64 * 16)

typedef struct Figures
{
	uint64_t queries;
	uint64_t failed;
	uint64_t acquires;
	uint64_t errors[CODES]; /* by pqpool_code */
	uint64_t full;
	uint64_t waits[BUCKETS];
	uint64_t longest; /* microseconds */
} Figures;

/* What a program does for one user, and how long a thread then waits for the next. */
typedef struct Profile
{
	const char *name;
	bool (*serve)(PGconn *conn, unsigned *seed);
	int think_ms;
	int rush_ms; /* the same, in a rush */
} Profile;

static const Profile *profile;
static pqpool *pool;
static atomic_bool stopping;
static uint64_t started;
static uint64_t rush_at = UINT64_MAX;

static pthread_mutex_t figures_lock = PTHREAD_MUTEX_INITIALIZER;
static Figures figures;

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static void
sleep_ms(int ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&pause, NULL);
}

/*
 * Work.
 */

/* Executes one statement; parameter: $1 in it, or -1 if it has none.  The first error is shown. */
static bool
execute(PGconn *conn, const char *statement, int parameter)
{
	static atomic_bool complained;
	char text[12];
	const char *values[] = { text };
	PGresult *result;
	ExecStatusType status;
	bool good;

	snprintf(text, sizeof(text), "%d", parameter);
	result = PQexecParams(conn, statement, parameter >= 0, NULL, values, NULL, NULL, 0);
	status = PQresultStatus(result);
	PQclear(result);
	good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
	if (!good && !atomic_exchange(&complained, true))
		fprintf(stderr, "%s: %s", profile->name, PQerrorMessage(conn));

	pthread_mutex_lock(&figures_lock);
	figures.queries += good;
	figures.failed += !good;
	pthread_mutex_unlock(&figures_lock);
	return good;
}

/* A transaction, with the program's own work in its middle: it asks a bank, say. */
static bool
serve_order(PGconn *conn, unsigned *seed)
{
	int account = rand_r(seed) % ACCOUNTS;

	if (!execute(conn, "BEGIN", -1) ||
		!execute(conn, "SELECT balance FROM account WHERE id = $1", account))
		return false;
	sleep_ms(30);
	return execute(conn, "INSERT INTO purchase (account, amount) VALUES ($1, 10)", account) &&
		   execute(conn, "UPDATE account SET balance = balance - 10 WHERE id = $1", account) &&
		   execute(conn, "COMMIT", -1);
}

/* One quick question; the connection is kept until the page is drawn, as most frameworks do. */
static bool
serve_page(PGconn *conn, unsigned *seed)
{
	bool good = execute(conn, "SELECT count(*), sum(amount) FROM purchase WHERE account = $1",
						rand_r(seed) % ACCOUNTS);

	sleep_ms(20);
	return good;
}

/* A long query: it sleeps where a real one would wait for disks, to leave the processors alone. */
static bool
serve_batch(PGconn *conn, unsigned *seed)
{
	return execute(
		conn, "SELECT sum(balance), pg_sleep(0.2) FROM account WHERE id BETWEEN $1 AND $1 + 99",
		rand_r(seed) % ACCOUNTS);
}

static const Profile profiles[] = {
	{ "orders", serve_order, 40, 40 },
	{ "web", serve_page, 300, 25 },
	{ "batch", serve_batch, 100, 100 },
};

/*
 * Figures.
 */
static int
bucket_of(uint64_t us)
{
	int power = us < 16 ? 3 : 63 - __builtin_clzll(us);

	return us < 16 ? (int) us : (power - 3) * 16 + (int) (us >> (power - 4) & 15);
}

/* The longest wait that belongs into a bucket. */
static double
bucket_end_ms(int bucket)
{
	int shift = bucket / 16 - 1;
	uint64_t end = bucket < 16 ? (uint64_t) bucket : ((uint64_t) (bucket % 16 + 17) << shift) - 1;

	return (double) end / 1000;
}

static double
percentile_ms(const Figures *f, double part)
{
	double longest = (double) f->longest / 1000;
	uint64_t all = 0, seen = 0;

	for (int i = 0; i < BUCKETS; i++)
		all += f->waits[i];
	for (int i = 0; i < BUCKETS; i++)
	{
		seen += f->waits[i];
		if (seen > 0 && (double) seen >= part * (double) all)
			return bucket_end_ms(i) < longest ? bucket_end_ms(i) : longest;
	}
	return 0;
}

static void
count_acquire(bool granted, const pqpool_error *err, uint64_t waited)
{
	pthread_mutex_lock(&figures_lock);
	if (granted)
	{
		figures.acquires++;
		figures.waits[bucket_of(waited)]++;
		if (waited > figures.longest)
			figures.longest = waited;
	}
	else
	{
		figures.errors[err->code < CODES ? err->code : 0]++;
		figures.full += strcmp(err->sqlstate, "53300") == 0;
	}
	pthread_mutex_unlock(&figures_lock);
}

static void
print_figures(void)
{
	pqpool_statistics stats;
	Figures f;
	uint64_t errors = 0;

	pthread_mutex_lock(&figures_lock);
	f = figures;
	pthread_mutex_unlock(&figures_lock);
	pqpool_stats(pool, &stats);
	for (int code = 0; code < CODES; code++)
		errors += f.errors[code];

	printf("seconds=%.1f queries=%llu failed=%llu acquires=%llu errors=%llu",
		   (double) (now_us() - started) / 1e6, (unsigned long long) f.queries,
		   (unsigned long long) f.failed, (unsigned long long) f.acquires,
		   (unsigned long long) errors);
	for (int code = 0; code < CODES; code++)
		if (f.errors[code] > 0)
			printf(" %s=%llu", pqpool_code_name(code), (unsigned long long) f.errors[code]);
	printf(" full=%llu refused=%llu wait_p50=%.1f wait_p99=%.1f wait_max=%.1f\n",
		   (unsigned long long) f.full, (unsigned long long) stats.open_failures,
		   percentile_ms(&f, 0.50), percentile_ms(&f, 0.99), (double) f.longest / 1000);
	fflush(stdout);
}

/*
 * Threads.
 */
static void *
serve_users(void *arg)
{
	unsigned seed = (unsigned) (uintptr_t) arg;

	/* users do not come all at once */
	sleep_ms(rand_r(&seed) % profile->think_ms);
	while (!stopping)
	{
		pqpool_error err;
		uint64_t asked = now_us();
		PGconn *conn = pqpool_acquire(pool, -1, &err);
		int think;

		count_acquire(conn != NULL, &err, now_us() - asked);
		if (conn != NULL)
		{
			/* whatever state it is in: the pool tidies it, or replaces it */
			profile->serve(conn, &seed);
			pqpool_release(conn);
		}
		think = now_us() < rush_at ? profile->think_ms : profile->rush_ms;
		sleep_ms(think / 2 + rand_r(&seed) % (think + 1));
	}
	return NULL;
}

/* Until told to end. */
static void
obey_signals(const sigset_t *signals)
{
	int signal;

	while (sigwait(signals, &signal) == 0 && signal == SIGUSR1)
		print_figures();
}

int
main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	int nthreads = 0;
	sigset_t signals;
	char conninfo[256];
	pqpool_error err;

	for (size_t i = 0; argc > 1 && i < sizeof(profiles) / sizeof(profiles[0]); i++)
		if (strcmp(argv[1], profiles[i].name) == 0)
			profile = &profiles[i];
	if (profile == NULL)
	{
		fprintf(stderr, "usage: service orders|web|batch [SECONDS]\n");
		return 2;
	}
	started = now_us();
	if (argc > 2)
		rush_at = started + (uint64_t) (strtod(argv[2], NULL) * 1e6);

	/* before there are threads, so that all of them leave these signals to us */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	snprintf(conninfo, sizeof(conninfo),
			 "application_name=%s pool_name=%s pool_max_size=%d pool_acquire_timeout=2s",
			 profile->name, profile->name, THREADS);
	pool = pqpool_open(conninfo, &err);
	if (pool == NULL)
	{
		fprintf(stderr, "%s: %s\n", profile->name, err.message);
		return 1;
	}
	while (nthreads < THREADS && pthread_create(&threads[nthreads], NULL, serve_users,
												(void *) (uintptr_t) (nthreads + 1)) == 0)
		nthreads++;
	if (nthreads == THREADS)
		obey_signals(&signals);
	else
		fprintf(stderr, "%s: cannot start %d threads\n", profile->name, THREADS);

	stopping = true;
	for (int i = 0; i < nthreads; i++)
		pthread_join(threads[i], NULL);
	print_figures();
	pqpool_close(&pool, 2000);
	return nthreads != THREADS;
}
