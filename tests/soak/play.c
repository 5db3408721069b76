/*-------------------------------------------------------------------------
 *
 * play.c
 *	  Actors, chance and failures of the soaks.
 *
 *-------------------------------------------------------------------------
 */
#include "play.h"

#include <stdarg.h>
#include <time.h>

#define THREADS_MAX 64
#define PROGRESS_MS 5000
#define SHOWN_FAILURES 20

/* Longer than any call is told to wait, and than anything takes that does not. */
#define HANGS_MS (UNDER_SANITIZER ? 300000 : 150000)

atomic_bool stopping;

static int64_t start_ms;
static uint64_t seed;
static atomic_int failed;
static atomic_uint born; /* threads, each of which has a sequence of its own */

/*---- time and chance ----*/

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

double
seconds_run(void)
{
	return (double) (now_ms() - start_ms) / 1000;
}

void
sleep_ms(int64_t ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* As in tests/lib/draw.h, with a state for each thread. */
unsigned
draw(Self *self, unsigned n)
{
	self->random ^= self->random << 13;
	self->random ^= self->random >> 7;
	self->random ^= self->random << 17;
	return (unsigned) (self->random >> 33) % n;
}

Self *
self_new(const char *role, int index)
{
	Self *self = calloc(1, sizeof(*self));

	if (self == NULL)
		give_up("out of memory");
	self->role = role;
	self->index = index;
	self->random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
				   (atomic_fetch_add(&born, 1) + UINT64_C(1)) << 20;
	for (int i = 0; i < 10; i++)
		(void) draw(self, 2);
	return self;
}

void
self_free(Self *self)
{
	free(self);
}

int64_t
number_from(const char *name, int64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? strtoll(text, NULL, 10) : otherwise;
}

/*---- failures ----*/

void
failure(const char *format, ...)
{
	char text[4096];
	int n = atomic_fetch_add(&failed, 1);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (n < SHOWN_FAILURES)
		printf("FAILED at %.1f s: %s\n", seconds_run(), text);
	else if (n == SHOWN_FAILURES)
		printf("FAILED more than %d times: no more are shown\n", SHOWN_FAILURES);
	fflush(stdout);
}

/* The run makes no sense any more. */
void
give_up(const char *format, ...)
{
	va_list arguments;

	printf("GIVEN UP at %.1f s: ", seconds_run());
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
	abort();
}

int
failures(void)
{
	return atomic_load(&failed);
}

/*---- threads ----*/

typedef struct Actor
{
	pthread_t thread;
	Self *self;
} Actor;

static Actor actors[THREADS_MAX];
static int nactors;

void
start_actors(const char *role, void *(*run)(void *), int n)
{
	for (int i = 0; i < n; i++)
	{
		Actor *actor = &actors[nactors++];

		actor->self = self_new(role, i);
		if (pthread_create(&actor->thread, NULL, run, actor->self) != 0)
			give_up("no more threads");
	}
}

static void
look_for_hangs(void)
{
	for (int i = 0; i < nactors; i++)
	{
		Self *self = actors[i].self;
		const char *doing = atomic_load_explicit(&self->doing, memory_order_relaxed);
		int64_t took = now_ms() - atomic_load_explicit(&self->since, memory_order_relaxed);

		if (doing != NULL && took > HANGS_MS)
			give_up("%s %d hangs: %s, for %lld s", self->role, self->index, doing,
					(long long) took / 1000);
	}
}

void
join_actors(Self *self, void (*meanwhile)(Self *self))
{
	atomic_store(&stopping, true);
	for (int i = 0; i < nactors; i++)
	{
		while (true)
		{
			struct timespec until;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec++;
			if (pthread_timedjoin_np(actors[i].thread, NULL, &until) == 0)
				break;
			if (meanwhile != NULL)
				meanwhile(self);
			look_for_hangs();
		}
	}
	for (int i = 0; i < nactors; i++)
		self_free(actors[i].self);
	nactors = 0;
}

void
wait_and_tell(int64_t until)
{
	int64_t next = now_ms() + PROGRESS_MS;

	while (now_ms() < until)
	{
		sleep_ms(100);
		look_for_hangs();
		if (now_ms() < next)
			continue;
		next += PROGRESS_MS;
		printf("%4.0f s: %lld operations, %d loans out, %d failures\n", seconds_run(),
			   (long long) operations(), loans_out(), failures());
		fflush(stdout);
	}
}

/*---- the run ----*/

int64_t
begin_run(void)
{
	int64_t ms = number_from("SOAK_SECONDS", 30) * 1000;

	start_ms = now_ms();
	seed = (uint64_t) number_from("SOAK_SEED", (int64_t) time(NULL) ^ getpid());
	/* no word about sessions that are ended */
	setenv("PGOPTIONS", "-c client_min_messages=error", 1);
	printf("soak for %lld s; to repeat it: SOAK_SEED=%llu\n", (long long) ms / 1000,
		   (unsigned long long) seed);
	fflush(stdout);
	return ms;
}

int
verdict(void)
{
	printf("%s: %lld operations in %.1f s, %d failures, SOAK_SEED=%llu\n",
		   failures() == 0 ? "PASSED" : "FAILED", (long long) operations(), seconds_run(),
		   failures(), (unsigned long long) seed);
	return failures() != 0;
}

static void *
do_nothing(void *arg)
{
	return arg;
}

/*
 * With the descriptors that are kept, and the thread that ThreadSanitizer starts with the
 * first one of ours.
 */
Balance
base_balance(void (*warm_up)(void))
{
	pthread_t thread;
	Balance base;
	int threads;

	if (pthread_create(&thread, NULL, do_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
		give_up("no thread");
	threads = take_balance().threads;
	warm_up();
	base = take_balance();
	base.threads = threads; /* helper threads are there for a while */
	return base;
}
