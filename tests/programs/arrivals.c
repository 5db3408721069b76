/*
 * arrivals.c: callers that arrive at a pool at random times, whatever the others do: a load
 * whose queue can be predicted.
 *
 *	arrivals RATE HOLD_MS constant|exponential CONNINFO
 *
 * On average RATE callers come a second, independently of each other (the times between are
 * an exponential distribution's), and of how many are there: each is a thread, and more are
 * started while all others wait for a connection or hold one. So nobody stays away because
 * others wait, as it is with a fixed number of threads. Each holds a connection for HOLD_MS
 * on average, and gives it back. Until SIGTERM; then prints a line each:
 *
 *	arrivals:<n>	callers that came
 *	failed:<n>		of these, without success
 *	rate:<n>		per second
 *	hold:<ms>		mean time for which connections were held
 *	wait:<ms>		mean time that callers waited
 *	late:<ms>		by which a caller came behind the schedule, at most: the machine stood still, or all THREADS were waiting
 */
#include <pqpool.h>

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 2000 /* at most; who comes then is late */
#define STACK ((size_t) 256 * 1024)

static pqpool *pool;
static double rate; /* per second */
static double mean_hold;
static double latest;
static bool exponential;
static atomic_bool stop;

typedef struct Caller
{
	pthread_t thread;
	sem_t called;
	struct Caller *next; /* idle */
	uint64_t random;
	long arrivals;
	long failed;
	double waited;
	double held;
} Caller;

static Caller callers[THREADS];
static int ncallers;
static Caller *idle;
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static double
draw_exponential(Caller *caller, double mean)
{
	caller->random ^= caller->random << 13;
	caller->random ^= caller->random >> 7;
	caller->random ^= caller->random << 17;
	return -mean * log(((double) (caller->random >> 11) + 0.5) / 9007199254740992.0);
}

/* Until the time, or until told to stop. */
static void
sleep_until(double until)
{
	double left;

	while ((left = until - now()) > 0 && !atomic_load(&stop))
	{
		double at_once = left < 0.1 ? left : 0.1;
		struct timespec ts = { 0, (long) (at_once * 1e9) };

		nanosleep(&ts, NULL);
	}
}

static void
call(Caller *caller)
{
	pqpool_error err;
	double asked = now();
	PGconn *conn = pqpool_acquire(pool, -1, &err);
	double got = now();

	caller->arrivals++;
	caller->waited += got - asked;
	if (conn == NULL)
	{
		caller->failed++;
		return;
	}
	sleep_until(got + (exponential ? draw_exponential(caller, mean_hold) : mean_hold));
	caller->held += now() - got;
	(void) pqpool_release(conn);
}

static void
rest(Caller *caller)
{
	pthread_mutex_lock(&idle_lock);
	caller->next = idle;
	idle = caller;
	pthread_mutex_unlock(&idle_lock);
}

static void *
be_called(void *arg)
{
	Caller *caller = arg;

	for (;;)
	{
		while (sem_wait(&caller->called) != 0)
			;
		if (atomic_load(&stop))
			return NULL;
		call(caller);
		rest(caller);
	}
}

static Caller *
start_caller(void)
{
	Caller *caller = &callers[ncallers];
	pthread_attr_t small;

	caller->random = (uint64_t) (ncallers + 2) * UINT64_C(0x9e3779b97f4a7c15);
	sem_init(&caller->called, 0, 0);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK);
	if (pthread_create(&caller->thread, &small, be_called, caller) != 0)
		abort();
	pthread_attr_destroy(&small);
	ncallers++;
	return caller;
}

/* One that has nothing to do; NULL: nobody has. */
static Caller *
free_caller(void)
{
	Caller *caller;

	pthread_mutex_lock(&idle_lock);
	caller = idle;
	if (caller != NULL)
		idle = caller->next;
	pthread_mutex_unlock(&idle_lock);
	return caller != NULL || ncallers == THREADS ? caller : start_caller();
}

/* The schedule is not put off by whoever comes late. */
static void *
call_them(void *arg)
{
	Caller schedule = { .random = UINT64_C(0x9e3779b97f4a7c15) };
	double next = now();
	Caller *caller;

	for (;;)
	{
		next += draw_exponential(&schedule, 1 / rate);
		sleep_until(next);
		while ((caller = free_caller()) == NULL && !atomic_load(&stop))
			sleep_until(now() + 0.001);
		if (atomic_load(&stop))
			return arg;
		latest = fmax(latest, now() - next);
		sem_post(&caller->called);
	}
}

static void
print_summary(double seconds)
{
	Caller sum = { 0 };

	for (int i = 0; i < ncallers; i++)
	{
		sum.arrivals += callers[i].arrivals;
		sum.failed += callers[i].failed;
		sum.waited += callers[i].waited;
		sum.held += callers[i].held;
	}
	printf("arrivals:%ld\nfailed:%ld\nrate:%.3f\nhold:%.3f\nwait:%.3f\nlate:%.3f\n", sum.arrivals,
		   sum.failed, (double) sum.arrivals / seconds,
		   sum.held * 1000 / (double) (sum.arrivals - sum.failed),
		   sum.waited * 1000 / (double) sum.arrivals, latest * 1000);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	pqpool_error err;
	sigset_t signals;
	pthread_t caller;
	int signal_number;
	double began = now();

	if (argc < 5)
		return 2;
	rate = atof(argv[1]);
	mean_hold = atof(argv[2]) / 1000;
	exponential = strcmp(argv[3], "exponential") == 0;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	pool = pqpool_open(argv[4], &err);
	if (pool == NULL)
	{
		printf("open: %s\n", err.message);
		return 1;
	}
	pthread_create(&caller, NULL, call_them, NULL);
	sigwait(&signals, &signal_number);
	atomic_store(&stop, true);
	pthread_join(caller, NULL);
	for (int i = 0; i < ncallers; i++)
	{
		sem_post(&callers[i].called);
		pthread_join(callers[i].thread, NULL);
	}
	print_summary(now() - began);
	(void) pqpool_close(&pool, 10000);
	return 0;
}
