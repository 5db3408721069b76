/*-------------------------------------------------------------------------
 *
 * shortage.c
 *	  A process that is short of memory, with the real libpq and a real server.
 *
 * Each allocation by libpq or by the library fails with a chance of one in so many, while
 * several threads use pools in every way.  Nobody may crash or hang, codes must be
 * documented ones, and when there is memory again the pool must lend, and leave nothing
 * behind.
 *
 * tests/faults lets each allocation of the library fail, one by one; here it is
 * left to chance which.  The seed is printed, and can be given (SHORTAGE_SEED);
 * threads make it a hint and no more.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"
#include "descriptors.h"

#if defined(__SANITIZE_THREAD__)

int
main(void)
{
	skip_all("ThreadSanitizer does not bear another malloc");
}

#else

#include <errno.h>
#include <signal.h>

#define THREADS 4
#define ROUNDS 60

/*---- memory that is sometimes not there ----*/

/* Under AddressSanitizer its own functions are the real ones. */
#if defined(__SANITIZE_ADDRESS__)
#define REAL(name) __interceptor_##name
extern void *REAL(aligned_alloc)(size_t alignment, size_t size);
#define REAL_ALIGNED REAL(aligned_alloc)
#else
#define REAL(name) __libc_##name
extern void *REAL(memalign)(size_t alignment, size_t size);
#define REAL_ALIGNED REAL(memalign)
#endif
extern void *REAL(malloc)(size_t size);
extern void *REAL(calloc)(size_t n, size_t size);
extern void *REAL(realloc)(void *old, size_t size);

static _Atomic unsigned chance; /* one in so many fails; 0: none */
static _Atomic long failed;
static _Atomic uint64_t drawn;
static uint64_t seed = 20240607;

/*
 * Only what these two libraries call for fails: the loader, which may be short of memory when it
 * binds a symbol, ends the process, and a sanitizer does not bear it any better.
 */
static struct
{
	uintptr_t from, to;
} victims[32]; /* their mappings */
static int nvictims;

__attribute__((constructor)) static void
find_victims(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096];

	while (maps && nvictims < countof(victims) && fgets(line, sizeof(line), maps))
	{
		char *end;

		if (!strstr(line, "/libpq"))
			continue;
		victims[nvictims].from = strtoul(line, &end, 16);
		victims[nvictims++].to = strtoul(end + 1, NULL, 16);
	}
	if (maps)
		(void) fclose(maps);
}

static bool
is_victim(const void *caller)
{
	for (int i = 0; i < nvictims; i++)
		if ((uintptr_t) caller >= victims[i].from && (uintptr_t) caller < victims[i].to)
			return true;
	return false;
}

static bool
fails(const void *caller)
{
	unsigned n = chance;
	uint64_t x;

	if (n == 0 || !is_victim(caller))
		return false;
	x = seed + (drawn++) * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	if (x % n != 0)
		return false;
	failed++;
	errno = ENOMEM;
	return true;
}

#define CALLER __builtin_return_address(0)

void *
malloc(size_t size)
{
	return fails(CALLER) ? NULL : REAL(malloc)(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails(CALLER) ? NULL : REAL(calloc)(n, size);
}

void *
realloc(void *old, size_t size)
{
	return fails(CALLER) ? NULL : REAL(realloc)(old, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	return fails(CALLER) ? NULL : REAL_ALIGNED(alignment, size);
}

#undef strdup
char *
strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = fails(CALLER) ? NULL : REAL(malloc)(size);

	return copy ? memcpy(copy, text, size) : NULL;
}

/*---- what is done meanwhile ----*/

static pqpool *pool;
static _Atomic int undocumented, wordless, borrowed;

static void
check(int code, const pqpool_error *err)
{
	undocumented += strcmp(pqpool_code_name(code), "PQPOOL_UNKNOWN") == 0;
	wordless += code != PQPOOL_OK && err && (err->code != code || err->message[0] == '\0');
}

static PGconn *
try_acquire(pqpool *from)
{
	pqpool_error err;
	PGconn *conn = pqpool_acquire(from, 50, &err);

	check(err.code, &err);
	borrowed += conn != NULL;
	return conn;
}

static void
query(PGconn *conn, const char *sql)
{
	if (conn)
		PQclear(PQexec(conn, sql));
}

static void
give_back(PGconn *conn)
{
	if (conn)
		check(pqpool_release(conn), NULL);
}

static void
borrow(void)
{
	PGconn *conn = try_acquire(pool);

	query(conn, "SELECT 1");
	give_back(conn);
}

static void
leave_a_transaction(void)
{
	PGconn *conn = try_acquire(pool);

	query(conn, "BEGIN");
	query(conn, "SELECT error");
	give_back(conn);
}

static void
discard(void)
{
	PGconn *conn = try_acquire(pool);

	if (conn)
	{
		(void) PQsendQuery(conn, "SELECT pg_sleep(2)");
		check(pqpool_discard(conn), NULL);
	}
}

static void
cancel(void)
{
	PGconn *conn = try_acquire(pool);
	pqpool_error err;

	if (!conn)
		return;
	if (PQsendQuery(conn, "SELECT pg_sleep(2)"))
		check(pqpool_cancel(conn, 1000, &err), &err);
	check(pqpool_discard(conn), NULL);
}

static void
use_scopes(void)
{
	pqpool_scope scope;
	pqpool_error err;
	PGconn *conn;

	check(pqpool_scope_enter(&scope, pool, &err), &err);
	if (err.code == PQPOOL_OK)
	{
		conn = pqpool_get_connection(&err);
		check(err.code, &err);
		query(conn, "SELECT 1");
		give_back(conn);
		check(pqpool_scope_leave(&scope), NULL);
	}
	conn = pqpool_get_connection(&err); /* its own */
	check(err.code, &err);
	query(conn, "SELECT 1");
	give_back(conn);
	check(pqpool_cleanup_thread_local_connection(), NULL);
}

static void
use_another(void)
{
	pqpool_error err;
	pqpool *other = pqpool_open(
		"application_name=other pool_min_size=1 pool_max_size=2 gssencmode=disable", &err);

	check(err.code, &err);
	wordless += err.code == PQPOOL_BAD_OPTION;
	if (!other)
		return;
	give_back(try_acquire(other));
	check(pqpool_close(&other, 0), NULL);
}

static void
steer(void)
{
	pqpool_error err;

	check(pqpool_resize(pool, 1, 5, &err), &err);
	check(pqpool_drain(pool, 0), NULL);
	(void) stats_of(pool);
}

static void
hand_over(void)
{
	PGconn *conn = try_acquire(pool);

	if (!conn)
		return;
	check(pqpool_adopt(conn), NULL);
	check(pqpool_transfer(conn), NULL);
	give_back(conn);
}

static void (*const deeds[])(void) = { borrow,		borrow, leave_a_transaction,
									   discard,		cancel, use_scopes,
									   use_another, steer,	hand_over };

static void
do_anything(int index, void *arg)
{
	uint64_t state = seed * 31 + (uint64_t) index + 1;

	(void) arg;
	for (int i = 0; i < ROUNDS; i++)
		deeds[draw(&state, countof(deeds))]();
}

/* A thread that ends at once, with a loan that is bound to it. */
static void
forget_a_loan(int index, void *arg)
{
	pqpool_error err;
	PGconn *forgotten;

	(void) index;
	(void) arg;
	(void) pqpool_initialize("application_name=default pool_max_size=2 gssencmode=disable", &err);
	check(err.code, &err);
	forgotten = pqpool_get_connection(&err);
	(void) forgotten;
	check(err.code, &err);
}

/*---- and afterwards ----*/

static bool
lends(void)
{
	PGconn *conn = pqpool_acquire(pool, 1000, NULL);
	bool good = conn && query_int(conn, "SELECT 1") == 1;

	if (conn)
		(void) pqpool_release(conn);
	return good;
}

static void
suffer(PGconn *direct, unsigned one_in)
{
	int before = count_descriptors();

	undocumented = wordless = borrowed = 0;
	failed = 0;
	pool = open_pool(
		"application_name=short pool_max_size=3 pool_acquire_timeout=50 gssencmode=disable");
	chance = one_in;
	run_threads(THREADS, do_anything, NULL);
	run_threads(1, forget_a_loan, NULL);
	(void) pqpool_close_pool();
	chance = 0;
	diag("one in %u: %ld allocations failed, %d loans", one_in, (long) failed, (int) borrowed);
	ok(failed > 0, "one allocation in %u failed", one_in);
	is_int(undocumented, 0, "all codes are documented ones");
	is_int(wordless, 0, "all errors have their words");
	ok(WAIT_FOR(lends()), "the pool lends");
	is_code(pqpool_close(&pool, 60000), PQPOOL_OK, "and can be closed");
	ok(WAIT_FOR(count_descriptors() <= before), "no descriptor is left open");
	ok(WAIT_FOR(count_sessions(direct, "short") + count_sessions(direct, "other") +
					count_sessions(direct, "default") ==
				0),
	   "no session is left");
}

static void
on_alarm(int sig)
{
	static const char text[] = "Bail out! it hangs\n";

	(void) sig;
	(void) !write(STDOUT_FILENO, text, sizeof(text) - 1);
	abort();
}

int
main(void)
{
	static char buffer[BUFSIZ];
	const char *given = getenv("SHORTAGE_SEED");
	PGconn *direct = connect_directly("gssencmode=disable");

	(void) setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	if (given)
		seed = strtoull(given, NULL, 10);
	diag("SHORTAGE_SEED=%llu", (unsigned long long) seed);
	(void) signal(SIGALRM, on_alarm);
	(void) alarm(240);
	/* what is made once for the process */
	pool = open_pool("application_name=first gssencmode=disable");
	(void) pqpool_release(acquire_or_give_up(pool));
	(void) pqpool_close(&pool, -1);
	suffer(direct, 500);
	suffer(direct, 50);
	suffer(direct, 20);
	PQfinish(direct);
	return done_testing();
}

#endif /* not ThreadSanitizer */
