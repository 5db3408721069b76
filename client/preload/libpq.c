/*-------------------------------------------------------------------------
 *
 * libpq.c
 *	  Where libpq is.
 *
 * Found when somebody first calls one of our entries, by who calls: what he
 * would have called without us is what comes after us among the libraries that
 * all of the program sees; or, if he was loaded later, by dlopen, and libpq with
 * him, what his own libraries have.  Python, PHP, Perl and node load it in that way.
 * A driver that ends in a call of ours, which the compiler makes a jump, seems to be its caller,
 * who may have no libpq; what leads nowhere is meant for the pooled one, or the one that is loaded.
 *
 * A process may have several libpqs.  The first one that is found complete is
 * pooled; calls meant for another one are passed on to that.
 *
 * libpq calls itself by the same names, and comes by us: PQconnectdb calls
 * PQconnectStart.  Such calls are known by where they come from, and passed on.
 *
 * Once found, a libpq stays loaded: its connections do.
 *
 * Who calls from where is kept in a cache, one word per entry, read without a lock.
 * Accepted: when a library has been unloaded and another one is in its place, the
 * cache may have the libpq of the former.
 *
 * The loader's lock: a library's constructors and destructors are run with it held, and
 * may call us.  So nothing is asked of the loader with our lock held.
 *
 *-------------------------------------------------------------------------
 */
#include "preload.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#define MAX_LIBPQS 64 /* the cache has seven bits for it */
#define CACHE 256

Libpq pqp_libpq;

typedef struct Known
{
	Libpq calls;
	const void *base;
	bool complete;
} Known;

static pthread_mutex_t lock =
	PTHREAD_MUTEX_INITIALIZER;	/* outermost; of all that follows, to change it */
static Known known[MAX_LIBPQS]; /* an entry is constant once it is counted */
static int nknown;
static const Known *_Atomic pooled;

/* caller << 8 | index in known << 1 | the caller is that libpq, or a pool */
static _Atomic uint64_t cache[CACHE];

static const void *
base_of(const void *address)
{
	Dl_info info;

	return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* A handle of the library that has this address, so that it stays. */
static void *
pin(const void *address)
{
	Dl_info info;

	if (!dladdr(address, &info) || !info.dli_fname)
		return NULL;
	return pqp_real_dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

/* Some function of the libpq that the library with this address has, or is. */
static void *
find_from(const void *address)
{
	void *handle = pin(address);
	void *found = NULL;

	if (handle)
	{
		found = dlsym(handle, "PQfinish");
		(void) dlclose(handle);
	}
	return found && base_of(found) != base_of((const void *) pqp_view) ? found : NULL;
}

/* The same, of the libpq that the caller would get. */
static void *
find_any(const void *caller)
{
	void *found = dlsym(RTLD_NEXT, "PQfinish");

	return found ? found : find_from(caller);
}

/* With the loader's lock held: an address in it is noted, and nothing else done. */
static int
note_libpq(struct dl_phdr_info *info, size_t size, void *address)
{
	const char *slash = strrchr(info->dlpi_name, '/');

	(void) size;
	if (strncmp(slash ? slash + 1 : info->dlpi_name, "libpq.so", strlen("libpq.so")) != 0)
		return 0;
	*(const void **) address = info->dlpi_phdr;
	return 1;
}

/* The same, of the first one that anybody has loaded. */
static void *
find_loaded(void)
{
	const void *address = NULL;

	(void) dl_iterate_phdr(note_libpq, &address);
	return find_from(address);
}

static void
fill(Known *entry, void *handle)
{
	entry->complete = true;
#define PQP_LIBPQ_FIND(name)                              \
	*(void **) &entry->calls.name = dlsym(handle, #name); \
	entry->complete = entry->complete && entry->calls.name != NULL;
	PQP_LIBPQ_CALLS(PQP_LIBPQ_FIND)
#undef PQP_LIBPQ_FIND
	*(void **) &entry->calls.PQcancelCreate = dlsym(handle, "PQcancelCreate");
}

/* With the lock held; -1: not known yet. */
static int
index_of(const void *base)
{
	for (int i = 0; i < nknown; i++)
		if (known[i].base == base)
			return i;
	return -1;
}

/* Its index, or -1. */
static int
enter(const void *function)
{
	Known entry = { .base = base_of(function) };
	void *handle;
	int index;

	pthread_mutex_lock(&lock);
	index = index_of(entry.base);
	pthread_mutex_unlock(&lock);
	handle = index < 0 ? pin(function) : NULL;
	if (!handle)
		return index;
	fill(&entry, handle);
	pthread_mutex_lock(&lock);
	index = index_of(entry.base); /* somebody else may have been faster */
	if (index < 0 && nknown < MAX_LIBPQS)
	{
		known[nknown] = entry;
		index = nknown++;
		handle = NULL; /* kept */
	}
	pthread_mutex_unlock(&lock);
	if (handle)
		(void) dlclose(handle);
	return index;
}

/* The index of the one for whoever leads nowhere, or -1. */
static int
otherwise(void)
{
	void *function;
	int index;

	pthread_mutex_lock(&lock);
	index = pooled ? (int) (pooled - known) : nknown > 0 ? 0 : -1;
	pthread_mutex_unlock(&lock);
	function = index < 0 ? find_loaded() : NULL;
	return function ? enter(function) : index;
}

/* Around a fork; what is pooled does not change in between. */
void
pqp_libpqs_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
pqp_libpqs_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

bool
pqp_is_pooling(void)
{
	return pooled != NULL;
}

void
pqp_libpqs_renew(void)
{
	lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

static void
use(const Known *libpq)
{
	if (pooled || !libpq->complete || !pqp_enabled)
		return;
	pthread_mutex_lock(&lock);
	if (!pooled)
	{
		pqp_libpq = libpq->calls;
		pqp_watch_forks();
		pooled = libpq;
	}
	pthread_mutex_unlock(&lock);
}

/* A program's own libpqpool: it has pools, and needs none. */
static bool
is_pool(const void *caller)
{
	const void *function = dlsym(RTLD_DEFAULT, "pqpool_acquire_at");

	return function && base_of(function) == base_of(caller);
}

/* What to keep of a caller; 0: there is nothing for him. */
static uint64_t
look(const void *caller)
{
	const void *function = find_any(caller);
	int index = function ? enter(function) : otherwise();
	bool itself;

	if (index < 0)
		return 0;
	itself = base_of(caller) == known[index].base || is_pool(caller);
	if (!itself)
		use(&known[index]);
	return (uint64_t) (uintptr_t) caller << 8 | (uint64_t) index << 1 | itself;
}

static uint64_t
word_of(const void *caller)
{
	uint64_t where = (uint64_t) (uintptr_t) caller;
	_Atomic uint64_t *entry = &cache[(where ^ where >> 8 ^ where >> 16) % CACHE];
	uint64_t word = atomic_load_explicit(entry, memory_order_acquire);

	if (word >> 8 != (where & UINT64_MAX >> 8))
	{
		word = look(caller);
		if (word != 0)
			atomic_store_explicit(entry, word, memory_order_release);
	}
	return word;
}

static View
view_by(uint64_t word)
{
	const Known *found = &known[(word & 0xFF) >> 1];

	if (word == 0)
		return (View){ .libpq = NULL };
	return (View){ .libpq = &found->calls, .pooled = found == pooled && !(word & 1) };
}

View
pqp_view(const void *caller)
{
	return view_by(word_of(caller));
}

/* A guest is the pooled libpq's, whoever calls; but what libpq does itself is not looked at. */
View
pqp_view_of(const PGconn *conn, const void *caller)
{
	uint64_t word = word_of(caller);
	View view = view_by(word);

	if (!view.pooled && !(word & 1) && pqp_guest_known((PGconn *) conn))
		view = (View){ .libpq = &pqp_libpq, .pooled = true };
	return view;
}
