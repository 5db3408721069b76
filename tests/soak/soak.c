/*-------------------------------------------------------------------------
 *
 * soak.c
 *	  Everything at once, for as long as you like: many threads use the client
 *	  library's whole interface against a server to which things happen, and
 *	  every outcome is judged.
 *
 *		make soak [SOAK_SECONDS=30] [SOAK_SEED=n] [SANITIZE=address,undefined | thread]
 *
 * Actors
 *		workers			borrow, ask, mistreat and give back, from pools, scopes, the default pool, their own
 *		hurry			borrow and give back at once, with the shortest of deadlines
 *		churn			threads that live for one loan, and may leave it behind
 *		courier			gives back what others have handed over
 *		canceller		cancels what others wait for
 *		steerers		resize, pause, drain, close and reopen the pools; open and close the default pool
 *		parent			forks
 *		chaos			restarts the server, kills its processes, ends sessions
 * and the main thread, which prints a line every five seconds and looks for those that hang.
 *
 * What is judged
 *		every call		its code must be in the table of verdict.c, for the situation that it was in
 *		every loan		nobody else has it, it is idle, and answers what it is asked (loans.c)
 *		in the end		descriptors, threads, memory, sessions and loans are back where they began (balance.c)
 *
 * A run is two rounds, of a third and of two thirds of the time; after each all is
 * closed and counted.  Counting waits for helper threads to leave, so that a run takes
 * up to half a minute longer than it was told.
 *
 * What each thread does is drawn from the seed; when it does it, is up to the
 * machine.  So a seed repeats the kind of a run, not the run.
 *
 * sources: tests/soak/balance.c tests/soak/chaos.c tests/soak/children.c
 * sources: tests/soak/loans.c tests/soak/pools.c tests/soak/verdict.c tests/soak/worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

#include <time.h>

#define THREADS_MAX 64
#define PROGRESS_MS 5000

/* Longer than any call is told to wait, and than anything takes that does not. */
#define HANGS_MS (UNDER_SANITIZER ? 300000 : 150000)

atomic_bool stopping;

static int64_t start_ms;
static uint64_t seed;
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

/*---- threads ----*/

typedef struct Actor
{
	pthread_t thread;
	Self *self;
} Actor;

static Actor actors[THREADS_MAX];
static int nactors;

static void
start(const char *role, void *(*run)(void *), int n)
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
start_all(void)
{
	atomic_store(&stopping, false);
	start("worker", work, 12);
	start("hurry", hurry, 4);
	start("churn", churn, 2);
	start("courier", courier, 1);
	start("canceller", canceller, 1);
	start("steerer", steer, 2);
	start("steerer of the default pool", steer_default, 1);
	start("parent", bring_forth, 1);
	start("chaos", disturb, 1);
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

/* Everybody ends by himself, if nothing hangs. */
static void
join_all(Self *self)
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
			/* the courier may have gone, and somebody may wait for what is in the mail */
			empty_mail(self);
			look_for_hangs();
		}
	}
	for (int i = 0; i < nactors; i++)
		self_free(actors[i].self);
	nactors = 0;
}

/*---- the run ----*/

static void
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

static void
play(Self *self, int64_t ms)
{
	open_slots(self);
	start_all();
	wait_and_tell(now_ms() + ms);
	join_all(self);
	empty_mail(self);
	close_slots(self);
}

/* What the library and libpq keep for good is there before anything is counted. */
static void
warm_up(void)
{
	pqpool_error err;
	pqpool *pool = pqpool_open("application_name=soak-first", &err);
	PGconn *conn = pool != NULL ? pqpool_acquire(pool, PATIENCE_MS, &err) : NULL;

	if (conn == NULL || pqpool_release(conn) != PQPOOL_OK || pqpool_close(&pool, -1) != PQPOOL_OK)
		give_up("no first connection: %s", err.message);
}

int64_t
number_from(const char *name, int64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? strtoll(text, NULL, 10) : otherwise;
}

static void *
do_nothing(void *arg)
{
	return arg;
}

/* With the two descriptors that the library keeps, and the thread that ThreadSanitizer starts with the first one of ours. */
static Balance
base_balance(void)
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

int
main(void)
{
	int64_t ms = number_from("SOAK_SECONDS", 30) * 1000;
	Balance base;
	Balance middle;
	Balance end;
	Self *self;

	start_ms = now_ms();
	seed = (uint64_t) number_from("SOAK_SEED", (int64_t) time(NULL) ^ getpid());
	setenv("PGAPPNAME", "soak-own", 1);
	/* no word about sessions that are ended */
	setenv("PGOPTIONS", "-c client_min_messages=error", 1);
	printf("soak for %lld s; to repeat it: SOAK_SEED=%llu\n", (long long) ms / 1000,
		   (unsigned long long) seed);
	fflush(stdout);
	self = self_new("main", 0);
	base = base_balance();
	play(self, ms / 3);
	middle = settle(&base, "after a third");
	play(self, ms - ms / 3);
	end = settle(&base, "at the end");
	self_free(self);

	print_summary();
	print_disturbances();
	compare_memory(&middle, &end);
	printf("%s: %lld operations in %.1f s, %d failures, SOAK_SEED=%llu\n",
		   failures() == 0 ? "PASSED" : "FAILED", (long long) operations(), seconds_run(),
		   failures(), (unsigned long long) seed);
	return failures() != 0;
}
