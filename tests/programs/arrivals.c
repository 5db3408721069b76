/*
 * arrivals.c: callers that arrive at a pool at random times, whatever the others do: a load whose queue can be predicted.
 *
 *	arrivals RATE HOLD_MS constant|exponential CONNINFO
 *
 * On average RATE callers come a second, independently of each other (their times are an exponential distribution's); each holds a
 * connection for HOLD_MS on average, and gives it back. They are threads, each with a schedule of its own, which is not put off
 * because a caller had to wait. Until SIGTERM; then prints a line each:
 *
 *	arrivals:<n>	callers that came
 *	failed:<n>		of these, without success
 *	rate:<n>		per second
 *	hold:<ms>		mean time for which connections were held
 *	wait:<ms>		mean time that callers waited
 */
#include <pqpool.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 128

static pqpool *pool;
static double rate; /* of one thread, per second */
static double mean_hold;
static bool exponential;
static atomic_bool stop;

typedef struct Caller
{
	pthread_t thread;
	uint64_t random;
	long arrivals;
	long failed;
	double waited;
	double held;
} Caller;

static Caller callers[THREADS];

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

static void *
come(void *arg)
{
	Caller *caller = arg;
	double next = now();

	for (;;)
	{
		next += draw_exponential(caller, 1 / rate);
		sleep_until(next);
		if (atomic_load(&stop))
			return NULL;
		call(caller);
	}
}

static void
print_summary(double seconds)
{
	Caller sum = { 0 };

	for (int i = 0; i < THREADS; i++)
	{
		sum.arrivals += callers[i].arrivals;
		sum.failed += callers[i].failed;
		sum.waited += callers[i].waited;
		sum.held += callers[i].held;
	}
	printf("arrivals:%ld\nfailed:%ld\nrate:%.3f\nhold:%.3f\nwait:%.3f\n", sum.arrivals, sum.failed,
		   (double) sum.arrivals / seconds, sum.held * 1000 / (double) (sum.arrivals - sum.failed),
		   sum.waited * 1000 / (double) sum.arrivals);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	pqpool_error err;
	sigset_t signals;
	int signal_number;
	double began = now();

	if (argc < 5)
		return 2;
	rate = atof(argv[1]) / THREADS;
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
	for (int i = 0; i < THREADS; i++)
	{
		callers[i].random = (uint64_t) (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		pthread_create(&callers[i].thread, NULL, come, &callers[i]);
	}
	sigwait(&signals, &signal_number);
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(callers[i].thread, NULL);
	print_summary(now() - began);
	(void) pqpool_close(&pool, 10000);
	return 0;
}
