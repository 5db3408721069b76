/*-------------------------------------------------------------------------
 *
 * inject.c
 *	  See inject.h.
 *
 * __wrap_X is what a call of X becomes, __real_X the C library's; both names
 * are the linker's.  All wrapped functions are listed in tests/lib/build.sh.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS INT64_C(1000000000)
#define LINGER_NS 2000000 /* how long the library's idle threads wait for work here */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t n, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern void *__real_aligned_alloc(size_t alignment, size_t size);
extern void __real_free(void *block);
extern int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
								 void *(*run)(void *), void *arg);
extern int __real_pthread_setspecific(pthread_key_t key, const void *value);
extern int __real_pthread_key_create(pthread_key_t *key, void (*destructor)(void *));
extern int __real_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
										 clockid_t clock, const struct timespec *until);
extern int __real_eventfd(unsigned initial, int flags);
extern int __real_fcntl(int fd, int command, long argument);
extern int __real_socketpair(int domain, int type, int protocol, int *fds);
extern long __real_syscall(long number, ...);
extern int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
extern int __real_clock_gettime(clockid_t clock, struct timespec *now);
extern ssize_t __real_getrandom(void *buf, size_t size, unsigned flags);

/* One of them, in memory that is shared with forked children. */
typedef struct Plan
{
	_Atomic unsigned kinds;
	_Atomic unsigned always;
	_Atomic long nth;
	_Atomic bool onward;
	_Atomic long counted;
	_Atomic long hit;
} Plan;

static Plan *plan;

void (*faults_before_poll)(void);

void
faults_init(void)
{
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (plan == MAP_FAILED)
		abort();
}

void
faults_begin(unsigned kinds, long nth, bool onward)
{
	plan->kinds = 0;
	plan->counted = plan->hit = 0;
	plan->nth = nth;
	plan->onward = onward;
	plan->kinds = kinds;
}

void
faults_end(void)
{
	plan->kinds = 0;
}

long
faults_hit(void)
{
	return plan->hit;
}

long
faults_counted(void)
{
	return plan->counted;
}

void
faults_always(unsigned kinds)
{
	plan->always = kinds;
}

/* Shall this call fail? */
static bool
fails(unsigned kind)
{
	long number;

	if (!plan) /* a constructor, before main */
		return false;
	if (plan->always & kind)
		return true;
	if (!(plan->kinds & kind))
		return false;
	number = ++plan->counted;
	if (number != plan->nth && !(plan->onward && plan->nth > 0 && number > plan->nth))
		return false;
	plan->hit++;
	return true;
}

/*
 * What is alive.  Buckets of a few cells, each taken and given up by one atomic
 * operation: no lock that a fork could tear.
 */
#define BUCKETS 4096
#define CELLS 32

typedef struct Cell
{
	_Atomic(void *) block;
	size_t size;
	long number;
} Cell;

static Cell cells[BUCKETS][CELLS];
static _Atomic long live, live_bytes, allocations, marked;

static Cell *
bucket_of(const void *block)
{
	return cells[((uint64_t) (uintptr_t) block * UINT64_C(0x9e3779b97f4a7c15)) >> 52];
}

static void *
born(void *block, size_t size)
{
	Cell *bucket = bucket_of(block);

	if (!block)
		return NULL;
	live++;
	live_bytes += (long) size;
	allocations++;
	for (int i = 0; i < CELLS; i++)
	{
		void *none = NULL;

		if (!atomic_compare_exchange_strong(&bucket[i].block, &none, block))
			continue;
		bucket[i].size = size;
		bucket[i].number = allocations;
		return block;
	}
	abort(); /* more is alive than any test makes */
}

static void
dies(void *block)
{
	Cell *bucket = bucket_of(block);

	if (!block)
		return;
	live--;
	for (int i = 0; i < CELLS; i++)
		if (bucket[i].block == block)
		{
			live_bytes -= (long) bucket[i].size;
			bucket[i].block = NULL;
			return;
		}
	abort(); /* freed twice, or never allocated */
}

long
faults_live(void)
{
	return live;
}

long
faults_live_bytes(void)
{
	return live_bytes;
}

long
faults_allocations(void)
{
	return allocations;
}

void
faults_mark(void)
{
	marked = allocations;
}

void
faults_tell_live(void (*tell)(long number, size_t size))
{
	for (int b = 0; b < BUCKETS; b++)
		for (int i = 0; i < CELLS; i++)
			if (cells[b][i].block && cells[b][i].number > marked)
				tell(cells[b][i].number - marked, cells[b][i].size);
}

/*
 * Memory.
 */

extern void *__wrap_malloc(size_t size);
extern void *__wrap_calloc(size_t n, size_t size);
extern void *__wrap_realloc(void *old, size_t size);
extern void *__wrap_aligned_alloc(size_t alignment, size_t size);
extern char *__wrap_strdup(const char *text);
extern void __wrap_free(void *block);
extern int __wrap_pthread_setspecific(pthread_key_t key, const void *value);

static bool
memory_fails(void)
{
	if (!fails(FAULT_MEMORY))
		return false;
	errno = ENOMEM;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return memory_fails() ? NULL : born(__real_malloc(size), size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : born(__real_calloc(n, size), n * size);
}

/* Always moves, so that who keeps an old pointer is found out. */
void *
__wrap_realloc(void *old, size_t size)
{
	size_t before = 0;
	void *block;

	if (memory_fails())
		return NULL;
	block = __real_malloc(size);
	if (!block)
		return NULL;
	for (int i = 0; old && i < CELLS; i++)
		if (bucket_of(old)[i].block == old)
			before = bucket_of(old)[i].size;
	if (old)
		memcpy(block, old, before < size ? before : size);
	dies(old);
	__real_free(old);
	return born(block, size);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return memory_fails() ? NULL : born(__real_aligned_alloc(alignment, size), size);
}

char *
__wrap_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = __wrap_malloc(size);

	return copy ? memcpy(copy, text, size) : NULL;
}

void
__wrap_free(void *block)
{
	dies(block);
	__real_free(block);
}

int
__wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
	return value && fails(FAULT_MEMORY) ? ENOMEM : __real_pthread_setspecific(key, value);
}

/*
 * Threads.
 */

extern int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
								 void *(*run)(void *), void *arg);
extern int __wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *));

int faults_refusal_us;

static _Atomic int threads;
static __thread bool is_library_thread;

typedef struct Start
{
	void *(*run)(void *);
	void *arg;
} Start;

static void *
library_thread(void *arg)
{
	Start start = *(Start *) arg;

	__real_free(arg);
	is_library_thread = true;
	(void) start.run(start.arg);
	threads--;
	return NULL;
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
					  void *arg)
{
	Start *start;
	int rc;

	if (fails(FAULT_THREAD))
	{
		if (faults_refusal_us > 0)
			(void) usleep((useconds_t) faults_refusal_us);
		return EAGAIN;
	}
	start = __real_malloc(sizeof(*start));
	if (!start)
		return EAGAIN;
	*start = (Start){ run, arg };
	threads++;
	rc = __real_pthread_create(thread, attr, library_thread, start);
	if (rc != 0)
	{
		threads--;
		__real_free(start);
	}
	return rc;
}

int
faults_own_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	return __real_pthread_create(thread, NULL, run, arg);
}

int
faults_threads(void)
{
	return threads;
}

int
__wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
	return fails(FAULT_KEY) ? EAGAIN : __real_pthread_key_create(key, destructor);
}

/*
 * Descriptors, and randomness.
 */

extern int __wrap_eventfd(unsigned initial, int flags);
extern int __wrap_fcntl(int fd, int command, ...);
extern int __wrap_socketpair(int domain, int type, int protocol, int *fds);
extern ssize_t __wrap_getrandom(void *buf, size_t size, unsigned flags);

static bool
descriptor_fails(void)
{
	if (!fails(FAULT_DESCRIPTOR))
		return false;
	errno = EMFILE;
	return true;
}

int
__wrap_eventfd(unsigned initial, int flags)
{
	return descriptor_fails() ? -1 : __real_eventfd(initial, flags);
}

int
__wrap_fcntl(int fd, int command, ...)
{
	va_list arguments;
	long argument;

	va_start(arguments, command);
	argument = va_arg(arguments, long);
	va_end(arguments);
	if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && descriptor_fails())
		return -1;
	return __real_fcntl(fd, command, argument);
}

int
__wrap_socketpair(int domain, int type, int protocol, int *fds)
{
	return descriptor_fails() ? -1 : __real_socketpair(domain, type, protocol, fds);
}

ssize_t
__wrap_getrandom(void *buf, size_t size, unsigned flags)
{
	if (fails(FAULT_RANDOM))
	{
		errno = ENOSYS;
		return -1;
	}
	return __real_getrandom(buf, size, flags);
}

/*
 * Time.
 */

extern int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
extern int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
extern long __wrap_syscall(long number, ...);
extern int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
										 clockid_t clock, const struct timespec *until);

/*
 * What the library sees is the real clock + ahead + (FAST - 1) * what has passed since
 * fast_since, if fast.
 */
static _Atomic FaultsClock how = VIRTUAL_TIME;
static _Atomic int64_t ahead;	   /* ns */
static _Atomic int64_t fast_since; /* ns, real */

static int64_t
to_ns(const struct timespec *ts)
{
	return ts->tv_sec * NS + ts->tv_nsec;
}

static struct timespec
from_ns(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS, .tv_nsec = ns % NS };
}

static int64_t
real_ns(void)
{
	struct timespec now;

	(void) __real_clock_gettime(CLOCK_MONOTONIC, &now);
	return to_ns(&now);
}

static int64_t
offset_ns(void)
{
	return ahead + (how == FAST_TIME ? (FAST - 1) * (real_ns() - fast_since) : 0);
}

static int64_t
now_ns(void)
{
	return real_ns() + offset_ns();
}

static void
jump_to(int64_t ns)
{
	int64_t now = now_ns();

	if (ns > now)
		ahead += ns - now;
}

/* When is that, by the real clock? */
static struct timespec
really(const struct timespec *when)
{
	int64_t left = to_ns(when) - now_ns();

	return from_ns(real_ns() + (left > 0 ? left / FAST : 0));
}

void
faults_clock(FaultsClock clock)
{
	ahead = offset_ns();
	fast_since = real_ns();
	how = clock;
}

void
faults_sleep(int ms)
{
	if (how == VIRTUAL_TIME)
		jump_to(now_ns() + ms * INT64_C(1000000));
	else
		(void) usleep((useconds_t) ms * 1000 / FAST);
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int rc = __real_clock_gettime(clock, now);

	*now = from_ns(to_ns(now) + offset_ns());
	return rc;
}

/* The other side acts at each poll; so whoever sleeps in one must not keep it waiting. */
static int
poll_fast(struct pollfd *fds, nfds_t n, int timeout)
{
	int64_t until = timeout < 0 ? INT64_MAX : real_ns() + timeout * INT64_C(1000000) / FAST;
	int rc;

	do
	{
		if (faults_before_poll)
			faults_before_poll();
		rc = __real_poll(fds, n, timeout == 0 ? 0 : 1);
	} while (rc == 0 && real_ns() < until);
	return rc;
}

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int rc;

	if (how == FAST_TIME)
		return poll_fast(fds, n, timeout);
	if (faults_before_poll)
		faults_before_poll();
	rc = __real_poll(fds, n, 0);
	if (rc == 0 && timeout < 0)
		abort(); /* it would hang */
	if (rc == 0)
		jump_to(now_ns() + timeout * INT64_C(1000000));
	return rc;
}

/* The library makes one system call by number: futex. */
long
__wrap_syscall(long number, ...)
{
	uint32_t *word, value, mask;
	int operation;
	const struct timespec *until;
	struct timespec real;
	void *second;
	va_list arguments;

	va_start(arguments, number);
	word = va_arg(arguments, uint32_t *);
	operation = va_arg(arguments, int);
	value = va_arg(arguments, uint32_t);
	until = va_arg(arguments, const struct timespec *);
	second = va_arg(arguments, void *);
	mask = va_arg(arguments, uint32_t);
	va_end(arguments);
	if (number != SYS_futex)
		abort();
	if ((operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && until)
	{
		if (how == VIRTUAL_TIME && __atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
		{
			jump_to(to_ns(until));
			errno = ETIMEDOUT;
			return -1;
		}
		real = really(until);
		until = &real;
	}
	return __real_syscall(number, word, operation, value, until, second, mask);
}

int
__wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
							  const struct timespec *until)
{
	struct timespec real = really(until);

	if (how == VIRTUAL_TIME)
	{
		jump_to(to_ns(until));
		return ETIMEDOUT;
	}
	if (is_library_thread) /* a helper that waits for work: the next run wants a new one */
	{
		(void) __real_clock_gettime(clock, &real);
		real = from_ns(to_ns(&real) + LINGER_NS);
	}
	return __real_pthread_cond_clockwait(cond, mutex, clock, &real);
}
