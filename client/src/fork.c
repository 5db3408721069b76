/*-------------------------------------------------------------------------
 *
 * fork.c
 *	  The child of a fork starts clean; the parent never notices.
 *
 * Around fork() all locks are held, so that the child finds everything in
 * order, except that all other threads are gone in mid-work.  In the child
 *
 *	at once (cut_all)	the inherited sockets are replaced by /dev/null (or closed, see below), so that
 *						nothing the child does reaches the parent's sessions, nor keeps them alive;
 *	at its first call (pqp_after_fork)	each pool is emptied, and gets a new id.
 *
 * Why in two steps: right after a fork only simple system calls are safe; and a
 * child that goes on to exec needs no more.
 *
 * A child made by _Fork() or clone() runs no handler.  It is noticed at its
 * first call, by a page that the kernel wipes in any child, and both steps are
 * done then.  Another thread may have held a lock or been in the middle of a
 * change when it was made: locks are made anew, and nothing is followed that
 * could be in disorder but lists, which are always linked from one end.
 *
 * PGconns that another thread was working on, or that are lent, are not freed:
 * their insides may be in disorder, or somebody may look at them.  They are
 * kept in a list.
 *
 * Where the program knows of no pool (internal.h, "Two forms") what is lent is
 * not cut: it is the child's as much as the parent's, as it would be without us.
 * And such a program closes descriptors that are not its own, as daemons do, before the child calls
 * us, or in the parent: so a socket is closed only if it is the one that it was, and what is
 * under its number later is not touched (../preload/form.c).
 *
 * libpq has a lock of its own, around looking up the user's name, which a helper that
 * connects may hold just then.  So that is taken, too: the one that libpq comes with, not
 * one that the program has put in its place (PQregisterThreadLock), which may be in a
 * library that is not there any more.  The program's fork waits for such a look-up at most.
 *
 * Accepted: after _Fork() or clone() that lock, like malloc's, is as it was.
 * Between libpq's making of a socket and our next look at it, which takes no
 * time but for name look-ups, a child inherits it unseen.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the page says.  The kernel makes it PAGE_WIPED, or where it cannot, the handler. */
enum
{
	PAGE_WIPED,
	PAGE_CLEANING, /* by somebody else: wait */
	PAGE_CLEAN = PQP_PAGE_CLEAN,
};

static _Atomic uint32_t no_page = PAGE_CLEAN;
static _Atomic uint32_t *page = &no_page;
const _Atomic uint32_t *pqp_fork_page = &no_page;

static bool handled;	 /* the handler has run, and nobody has cleaned up yet */
static Thread *survivor; /* the thread that forked */
static Slot *inherited;	 /* all slots that were in the lookup table */
int pqp_dev_null = -1;
static pgthreadlock_t libpq_lock; /* 1: take, 0: give back */

/* Connections that are being made, a leaf lock around them. */
static struct
{
	pthread_mutex_t lock;
	Nascent *first;
} nascents = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* It has this connection now; NULL: it has none any more. */
void
pqp_nascent(Nascent *nascent, PGconn *conn)
{
	pthread_mutex_lock(&nascents.lock);
	if (conn && !nascent->conn)
	{
		nascent->previous = NULL;
		nascent->next = nascents.first;
		if (nascent->next)
			nascent->next->previous = nascent;
		nascents.first = nascent;
	}
	else if (!conn && nascent->conn)
	{
		if (nascent->previous)
			nascent->previous->next = nascent->next;
		else
			nascents.first = nascent->next;
		if (nascent->next)
			nascent->next->previous = nascent->previous;
	}
	nascent->conn = conn;
	pthread_mutex_unlock(&nascents.lock);
}

void
pqp_fork_begins(void)
{
	pqp_default_lock();
	pqp_registry_lock();
	pqp_lookup_lock_all();
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		pthread_mutex_lock(&pool->lock);
	pqp_helper_lock();
	pqp_keeper_lock();
	pthread_mutex_lock(&nascents.lock);
	libpq_lock(1);
}

void
pqp_fork_ends(void)
{
	libpq_lock(0);
	pthread_mutex_unlock(&nascents.lock);
	pqp_keeper_unlock();
	pqp_helper_unlock();
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		pthread_mutex_unlock(&pool->lock);
	pqp_lookup_unlock_all();
	pqp_registry_unlock();
	pqp_default_unlock();
}

/* The first step: the parent's sessions are out of reach. */
static void
cut_all(void)
{
	if (!handled)
		inherited = NULL;
	survivor = pqp_thread_if_any();
	pqp_lookup_take_all(&inherited);
	for (Slot *slot = inherited; slot; slot = slot->chain)
		if (pqp_has_threads || pqp_item_holder(pqp_item_word(&slot->item)) == 0)
			if (slot->conn)
				pqp_cut_socket(slot->conn, slot->inode);
	for (Nascent *nascent = nascents.first; nascent; nascent = nascent->next)
		pqp_cut_socket(nascent->conn, 0);
	nascents.first = NULL;
	pqp_form_forked();
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		for (int i = 0; i < pool->nslots; i++)
		{
			Slot *slot = pqp_slot(pool, i);

			if (slot->end_fd > 0)
				(void) close(slot->end_fd);
			slot->end_fd = 0;
		}
	pqp_default_forked();
	pqp_helper_forked();
	pqp_keeper_forked();
	handled = true;
	atomic_store(page, PAGE_WIPED);
}

void
pqp_fork_in_child(void)
{
	cut_all();
	pqp_fork_ends();
}

/* The same where no handler has run. */
static void
forked_unnoticed(void)
{
	pqp_default_renew();
	pqp_registry_renew();
	pqp_lookup_renew();
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		pool->lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
	pqp_helper_renew();
	pqp_keeper_renew();
	nascents.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
	pqp_form_renew();
	cut_all();
}

static void
make_page(void)
{
	void *map =
		mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return;
	if (madvise(map, sizeof(*page), MADV_WIPEONFORK) != 0)
	{
		(void) munmap(map, sizeof(*page));
		return;
	}
	page = map;
	atomic_store(page, PAGE_CLEAN);
	pqp_fork_page = page;
}

/* Before anything is connected, once. */
void
pqp_watch_forks(void)
{
	/* asking is by setting, and nothing sets libpq's own; nobody connects yet */
	libpq_lock = PQregisterThreadLock(PQregisterThreadLock(NULL));
	/* a program that knows of no pool may close it, and have another file of that number */
	if (pqp_has_threads)
		pqp_dev_null = open("/dev/null", O_RDWR | O_CLOEXEC);
	make_page();
}

__attribute__((constructor)) static void
begin(void)
{
	if (!pqp_has_threads) /* there may be no libpq yet, or never; the handlers are among others */
		return;
	pqp_watch_forks();
	(void) pthread_atfork(pqp_fork_begins, pqp_fork_ends, pqp_fork_in_child);
}

/* What is never freed, but not lost either. */
typedef struct Forsaken
{
	struct Forsaken *next;
	void *slots;
} Forsaken;

static Forsaken *forsaken;

static void
forsake(void *slots)
{
	Forsaken *entry = malloc(sizeof(*entry));

	if (!entry)
		return;
	*entry = (Forsaken){ .next = forsaken, .slots = slots };
	forsaken = entry;
}

/* Was nobody working on it? */
static bool
is_quiet(Slot *slot)
{
	return slot->state == SLOT_OPEN && (pqp_item_word(&slot->item) & PQP_ITEM_FREE) && !slot->lost;
}

/* Finish what was idle.  False: there was more. */
static bool
finish_quiet(Slot *slots, int n)
{
	bool all = true;

	for (int i = 0; i < n; i++)
		if (slots[i].conn && is_quiet(&slots[i]))
			pqp_finish_cut(slots[i].conn);
		else if (slots[i].conn || slots[i].nascent.conn)
			all = false;
	return all;
}

/* A pool as if it had just been opened, with what was set at run time. */
static void
empty(Pool *pool)
{
	for (int k = 0; k < PQP_CHUNKS && pool->chunks[k]; k++)
	{
		if (finish_quiet(pool->chunks[k], PQP_CHUNK_FIRST << k))
			free(pool->chunks[k]);
		else
			forsake(pool->chunks[k]);
		pool->chunks[k] = NULL;
	}
	pool->nslots = 0;
	pool->empty = NULL;
	memset(pool->count, 0, sizeof(pool->count));
	pool->borrowed = 0;
	pool->stepping = 0;
	memset(&pool->queue, 0, sizeof(pool->queue));
	pool->resets = NULL;
	pool->nresets = 0;
	pool->requests = 0;
	pool->watchers = 0;
	(void) pthread_cond_init(&pool->changed, NULL);
	pool->refs = pool->closed ? 0 : 1;
	pool->failure.code = PQPOOL_OK;
	pool->failures_in_a_row = pool->successes_in_a_row = 0;
	pool->retry_at = 0;
	pool->retired_at = 0;
	pool->spare_wanted = false;
	memset(&pool->link, 0, sizeof(pool->link));
	pool->link.jitter = 1;
	pool->report = (Report){ 0 };
	pool->keeper_due = INT64_MAX;
	(void) pqp_link_new_id(pool->id);
	memset(&pool->counters, 0, sizeof(pool->counters));
	pqp_gate(pool);
}

static void
clean_survivor(void)
{
	Thread *thread = survivor;

	if (!thread)
		return;
	thread->own = NULL;
	pqp_options_free(&thread->own_options);
	thread->bound = 0;
	thread->last = NULL;
	thread->last_pool = 0;
	thread->tid = gettid();
	for (uint32_t i = 0; i < thread->depth; i++)
		if (thread->scopes[i].pool && !thread->scopes[i].owned)
			pqp_ref(thread->scopes[i].pool);
}

/* Bury the pools that were closed before, and that nobody refers to here. */
static void
bury_closed(void)
{
	Pool *pool;

	do
	{
		pqp_registry_lock();
		pool = pqp_registry_first();
		while (pool && pool->refs > 0)
			pool = pool->next;
		pqp_registry_unlock();
		if (pool)
			pqp_registry_bury(pool);
	} while (pool);
}

/* A thread's own connections are in no pool. */
static void
drop_own(Slot *slots)
{
	while (slots)
	{
		Slot *slot = slots;

		slots = slot->chain;
		slot->in_table = false;
		if (slot->pool)
			continue;
		if (survivor && survivor->own == slot && slot->own_loans == 0 && !slot->lost)
		{
			PQfinish(slot->conn);
			free(slot);
		}
		else
			forsake(slot);
	}
}

static void
clean_up(void)
{
	drop_own(inherited);
	inherited = NULL;
	pqp_registry_lock();
	for (Pool *pool = pqp_registry_first(); pool; pool = pool->next)
		empty(pool);
	pqp_registry_unlock();
	pqp_process_forked();
	clean_survivor();
	bury_closed();
}

void
pqp_after_fork_slowly(void)
{
	uint32_t wiped = PAGE_WIPED;

	if (!atomic_compare_exchange_strong(page, &wiped, PAGE_CLEANING))
	{
		while (atomic_load(page) == PAGE_CLEANING)
			(void) sched_yield();
		return;
	}
	if (!handled)
	{
		forked_unnoticed();
		atomic_store(page, PAGE_CLEANING);
	}
	clean_up();
	handled = false;
	atomic_store(page, PAGE_CLEAN);
	if (!pqp_registry_is_empty())
		(void) pqp_keeper_ensure();
}
