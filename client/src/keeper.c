/*-------------------------------------------------------------------------
 *
 * keeper.c
 *	  The housekeeping thread: one for all pools of the process.
 *
 * It keeps time (idle timeout, lifetime, minimum size, retries, reports,
 * knocks, deadlines of asynchronous requests, leaks to be told of), notices that
 * the machine was suspended, and carries the reports and resets.  It waits in
 * poll() only: for a kick, for their sockets, for the next timer.  Whatever
 * blocks it gives to helpers; but the user's function for events is called here,
 * too.
 *
 * It lives while pools do.  If it cannot be made, waiters look after themselves
 * (acquire.c), and there are no reports.  In the form of the library that has no
 * threads callers do its rounds (pqp_keeper_visit).
 *
 * Each round walks over all pools; with a pool's lock it finds out what is due,
 * and remembers in keeper_due when it wants to look again, so that others know
 * whether a kick is needed.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_US 10000000
#define SUSPENDED_US 1000000
#define RESETS 256			/* of a pool, waited for at once */
#define VISIT_US 100000		/* longest that a caller waits for the answer to a report */
#define NO_MEMORY_US 100000 /* how often a socket is looked at that cannot be waited for */

static struct
{
	pthread_mutex_t lock; /* starting and ending */
	atomic_bool running;
	_Atomic int kick; /* eventfd; -1: none yet */
} keeper = { .lock = PTHREAD_MUTEX_INITIALIZER, .kick = -1 };

/* Where there is no such thread: see pqp_keeper_visit. */
static struct
{
	pthread_mutex_t lock; /* of who is at it; nobody waits for it */
	_Atomic int64_t due;  /* us: the next one; 0: at once */
	_Atomic bool busy;
} visits = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * The fast path does not say when it was done.  If there were loans since we
 * last looked, then it was used until now.
 */
static void
note_use(Slot *slot, int64_t now)
{
	uint64_t loans = slot->loans;

	if (loans == slot->seen_loans && (pqp_item_word(&slot->item) & PQP_ITEM_FREE))
		return;
	slot->seen_loans = loans;
	slot->idle_since = now;
}

/* Close what has been idle, or has lived, for too long.  Returns when to look again. */
static int64_t
expire(Pool *pool, Work *work, int64_t now)
{
	int64_t idle_timeout = pool->options.idle_timeout_ms * 1000;
	int64_t due = INT64_MAX;

	for (Item *item = pool->queue.oldest, *newer; item; item = newer)
	{
		Slot *slot = (Slot *) item;
		int64_t retirement = pqp_retirement(slot);
		int64_t idle_until = INT64_MAX;

		newer = item->newer;
		note_use(slot, now);
		if (idle_timeout > 0 && pqp_staying(pool) > pool->min_size)
			idle_until = slot->idle_since + idle_timeout;
		if (retirement > now && idle_until > now)
			due = earlier(due, earlier(retirement, idle_until));
		else if (pqp_item_claim(item)) /* else its holder will come by */
			pqp_retire(slot, work, retirement <= now ? PQPOOL_CLOSE_LIFETIME : PQPOOL_CLOSE_IDLE);
	}
	return due;
}

/* An idle connection that is to be looked at, borrowed; NULL: none is left. */
static Slot *
borrow_unseen(Pool *pool)
{
	Slot *found = NULL;

	pthread_mutex_lock(&pool->lock);
	for (Item *item = pool->queue.newest, *older; item && !found; item = older)
	{
		Slot *slot = (Slot *) item;

		older = item->older;
		if (slot->look == pool->look || !(pqp_item_word(item) & PQP_ITEM_FREE))
			continue;
		slot->look = pool->look;
		if (pqp_idle_borrow(slot))
			found = slot;
	}
	pthread_mutex_unlock(&pool->lock);
	return found;
}

/*
 * Look at all of them: after one has died, and now and then, so that the dead
 * do not fill up the pool's minimum.
 */
static void
look_at_idle(Pool *pool)
{
	Slot *slot;

	while ((slot = borrow_unseen(pool)) != NULL)
	{
		bool alive = pqp_alive(slot);
		int64_t now = pqp_now();
		Work work = { 0 };

		pthread_mutex_lock(&pool->lock);
		pqp_idle_bring_back(slot);
		if (alive)
			pqp_put_back(slot, &work, now);
		else
		{
			pqp_count(&pool->counters.found_dead, 1);
			pqp_server_ended(pool, &work, now);
			pqp_retire(slot, &work, PQPOOL_CLOSE_DEAD);
		}
		pqp_pump(pool, &work, now);
		pqp_unlock(pool, &work);
	}
}

/*
 * The machine was suspended if CLOCK_BOOTTIME has gone on without
 * CLOCK_MONOTONIC.  Servers and what lies between have had time to forget us.
 * Accepted: whoever acquires before the keeper has woken up is not warned.
 */
static bool
was_suspended(void)
{
	static int64_t offset;
	int64_t now = pqp_boottime() - pqp_now();
	bool suspended = offset != 0 && now - offset > SUSPENDED_US;

	if (offset == 0 || suspended)
		offset = now;
	return suspended;
}

static void
suspect_all(Pool *pool)
{
	Work work = { 0 };

	pthread_mutex_lock(&pool->lock);
	pqp_server_ended(pool, &work, pqp_now());
	work.kick = false; /* it is us */
	pqp_unlock(pool, &work);
}

/*
 * Loans that have become leaks since we last looked, each told of once.  For
 * the event only: their number is found when it is asked for.
 */
static int64_t
tell_leaks(Pool *pool, int64_t now)
{
	int64_t after = pool->options.leak_after_ms * 1000;
	int64_t due = INT64_MAX;

	if (!pool->hooks.event || after == 0)
		return due;
	for (int i = 0; i < pool->nslots; i++)
	{
		Slot *slot = pqp_slot(pool, i);
		int64_t lent_at = slot->lent_at;
		bool telling;

		if (slot->leak_told == lent_at || pqp_item_holder(pqp_item_word(&slot->item)) == 0)
			continue;
		if (now - lent_at < after)
		{
			due = earlier(due, lent_at + after);
			continue;
		}
		slot->leak_told = lent_at;
		pthread_mutex_lock(&pool->lock);
		telling = pqp_telling_begins(pool);
		pthread_mutex_unlock(&pool->lock);
		if (!telling)
			return INT64_MAX;
		pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_LEAKED,
										 .backend_pid = slot->backend_pid,
										 .tid = slot->tid,
										 .duration_us = now - lent_at,
										 .site = slot->site,
										 .message = "a connection has not been given back" });
		pqp_telling_ends(pool);
	}
	return earlier(due, now + after);
}

/*
 * What is due in this pool? *knock: a knock is, and a reference to the pool was
 * taken for it.
 */
static void
tick(Pool *pool, int64_t now, bool *knock, bool *bye)
{
	Work work = { 0 };
	int64_t due;

	pthread_mutex_lock(&pool->lock);
	pool->keeper_due = INT64_MAX;
	due = expire(pool, &work, now);
	if (pool->count[SLOT_OPEN] > 0)
	{
		if (now - pool->looked_at >= LOOK_US)
		{
			pool->looked_at = now;
			pool->look++;
			pqp_nudge(pool, &work, now);
		}
		due = earlier(due, pool->looked_at + LOOK_US);
	}
	pqp_pump(pool, &work, now); /* may nudge: a retry */
	if (pqp_report_due(pool, now) <= now && !pqp_report_begin(pool, &work, now))
		pqp_call_all(pool); /* the next one that is given back carries it */
	*knock = pqp_knock_due(pool, now) <= now;
	if (*knock)
	{
		*bye = pool->closed;
		if (!*bye)
			pool->refs++;
		pool->link.bye_pending =
			false; /* its reference is the knock's now; once is enough, heard or not */
		pool->link.knocking = true;
		pool->link.knocked_at = now;
	}
	if (pqp_report_due(pool, now) > now)
		due = earlier(due, pqp_report_due(pool, now));
	due = earlier(due, pqp_knock_due(pool, now));
	pool->keeper_due = earlier(pool->keeper_due, due);
	work.kick = false; /* it is us */
	pqp_unlock(pool, &work);
}

static int64_t
due_of(Pool *pool)
{
	int64_t due;

	pthread_mutex_lock(&pool->lock);
	due = pool->report.slot ? pool->report.deadline : pool->keeper_due;
	due = earlier(due, pool->keeper_due);
	pthread_mutex_unlock(&pool->lock);
	return due;
}

/*
 * What to wait for in a round: a kick, and the sockets of reports and resets.
 * What cannot be noted for want of memory is looked at now and then instead.
 */
typedef struct Watch
{
	Pool *pool;	 /* with a reference */
	Slot *reset; /* NULL: the report */
} Watch;

typedef struct Round
{
	struct pollfd *polls; /* the kick is the first */
	Watch *watches;		  /* watches[i] is what polls[i + 1] is for */
	int n;				  /* watches */
	int room;			  /* for watches */
	struct pollfd kick_only;
	bool blind;
	int64_t due;
} Round;

static bool
make_room(Round *round)
{
	int room = round->room + round->room / 2 + 8;
	bool first = round->polls == &round->kick_only;
	struct pollfd *polls =
		realloc(first ? NULL : round->polls, (size_t) (room + 1) * sizeof(*polls));
	Watch *watches;

	if (!polls)
		return false;
	if (first)
		*polls = round->kick_only;
	round->polls = polls;
	watches = realloc(round->watches, (size_t) room * sizeof(*watches));
	if (watches)
	{
		round->watches = watches;
		round->room = room;
	}
	return watches != NULL;
}

static void
watch(Round *round, Pool *pool, Slot *reset, int fd)
{
	if (round->n == round->room && !make_room(round))
	{
		round->blind = true;
		return;
	}
	pqp_ref(pool);
	round->watches[round->n++] = (Watch){ .pool = pool, .reset = reset };
	round->polls[round->n] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void
watch_report(Round *round, Pool *pool)
{
	bool any;

	pthread_mutex_lock(&pool->lock);
	any = pool->report.slot != NULL;
	pthread_mutex_unlock(&pool->lock);
	if (any)
		watch(round, pool, NULL, PQsocket(pool->report.slot->conn));
}

/*
 * A thread may take its reset back while we wait for it.  Then the descriptor
 * means nothing to us, or something else: pqp_reset_run finds out.
 */
static void
watch_resets(Round *round, Pool *pool)
{
	Slot *slots[RESETS];
	int sockets[RESETS];
	int n = pqp_resets(pool, slots, sockets, RESETS, &round->due);

	if (n > RESETS)
	{
		round->blind = true;
		n = RESETS;
	}
	for (int i = 0; i < n; i++)
		watch(round, pool, slots[i], sockets[i]);
}

static void
drain_kicks(void)
{
	uint64_t count;

	(void) !read(atomic_load(&keeper.kick), &count, sizeof(count));
}

/* Without a list of what is ready. */
static void
run_blindly(void)
{
	for (Pool *pool = pqp_registry_next(NULL); pool; pool = pqp_registry_next(pool))
	{
		Slot *slots[RESETS];
		int sockets[RESETS];
		int64_t due = INT64_MAX;
		int n = pqp_resets(pool, slots, sockets, RESETS, &due);

		(void) pqp_report_run(pool, true);
		for (int i = 0; i < n && i < RESETS; i++)
			pqp_reset_run(pool, slots[i], true);
	}
}

/* Sleep until something is due; then move on what is ready. */
static void
wait_and_run(Round *round)
{
	int rc;

	if (round->blind)
		round->due = earlier(round->due, pqp_now() + NO_MEMORY_US);
	rc = poll(round->polls, (nfds_t) round->n + 1, pqp_poll_ms(round->due));
	if (rc > 0 && round->polls[0].revents)
		drain_kicks();
	for (int i = 0; i < round->n; i++)
	{
		const Watch *w = &round->watches[i];
		bool readable = rc > 0 && round->polls[i + 1].revents != 0;

		if (w->reset)
			pqp_reset_run(w->pool, w->reset, readable);
		else
			(void) pqp_report_run(w->pool, readable);
		pqp_unref(w->pool);
	}
	if (round->blind)
		run_blindly();
}

/* Do what is due in a pool, and see what there is to wait for. */
static void
visit(Round *round, Pool *pool, bool suspended)
{
	bool knock, bye;

	if (suspended)
		suspect_all(pool);
	look_at_idle(pool);
	round->due = earlier(round->due, tell_leaks(pool, pqp_now()));
	tick(pool, pqp_now(), &knock, &bye);
	/* after it: who queues from here on compares with keeper_due, and kicks */
	round->due = earlier(round->due, pqp_requests_expire(pool, pqp_now()));
	if (knock)
		pqp_knock(pool, bye);
	(void) pqp_report_run(pool, false);
	watch_report(round, pool);
	watch_resets(round, pool);
	round->due = earlier(round->due, due_of(pool));
}

static void
visit_all(Round *round)
{
	bool suspended = was_suspended();

	round->n = 0;
	round->blind = false;
	round->polls[0] = (struct pollfd){ .fd = atomic_load(&keeper.kick), .events = POLLIN };
	for (Pool *pool = pqp_registry_next(NULL); pool; pool = pqp_registry_next(pool))
		visit(round, pool, suspended);
}

static void
free_round(const Round *round)
{
	if (round->polls != &round->kick_only)
		free(round->polls);
	free(round->watches);
}

/* For as long as a report is under way, but not beyond `until`.  Returns when to come again. */
static int64_t
visit_until(Round *round, int64_t until)
{
	for (;;)
	{
		int64_t due;
		bool reporting = false;

		visit_all(round);
		due = round->due;
		for (int i = 0; i < round->n; i++)
			reporting = reporting || !round->watches[i].reset;
		round->due = reporting ? until : 0;
		wait_and_run(round);
		if (!reporting)
			return due;
		if (pqp_now() >= until)
			return 0;
		round->due = INT64_MAX;
	}
}

static void
visit_as_keeper(void)
{
	Round round = { .polls = &round.kick_only, .due = INT64_MAX };
	int64_t none = INT64_MAX, due;

	if (pthread_mutex_trylock(&visits.lock) != 0)
		return;
	atomic_store(&visits.busy, true);
	atomic_store(&visits.due, none); /* a kick from here on is for the next one */
	(void) pqp_registry_sweep(pqp_now(), &round.due);
	due = visit_until(&round, pqp_now() + VISIT_US);
	(void) atomic_compare_exchange_strong(&visits.due, &none, due);
	free_round(&round);
	atomic_store(&visits.busy, false);
	pthread_mutex_unlock(&visits.lock);
}

/*
 * Where there is no thread for it, a caller does one round, if something is due
 * and nobody else is at it.  That takes no time, but for a report: its answer is
 * waited for a little, for the connection is of no use to anybody before it has come.
 * Meanwhile signals wait: from a handler that jumps out of it nobody could visit any more.
 */
void
pqp_keeper_visit(void)
{
	static const int our_own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	sigset_t set, old_set;
	int old_state;

	if (pqp_has_threads ||
		pqp_now_coarse() < atomic_load_explicit(&visits.due, memory_order_relaxed))
		return;
	(void) sigfillset(&set);
	for (size_t i = 0; i < sizeof(our_own) / sizeof(our_own[0]); i++)
		(void) sigdelset(&set, our_own[i]);
	(void) pthread_sigmask(SIG_BLOCK, &set, &old_set);
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	visit_as_keeper();
	(void) pthread_setcancelstate(old_state, NULL);
	(void) pthread_sigmask(SIG_SETMASK, &old_set, NULL);
}

bool
pqp_keeper_visited(void)
{
	return atomic_load(&visits.busy);
}

/* Nothing to keep any more?  Then it is over, unless a pool comes at this moment. */
static bool
may_end(void)
{
	bool end;

	pqp_registry_lock();
	end = pqp_registry_is_empty();
	if (end)
		atomic_store(&keeper.running, false);
	pqp_registry_unlock();
	return end;
}

static void *
keeper_main(void *arg)
{
	Round round = { .polls = &round.kick_only };

	(void) arg;
	(void) pthread_setname_np(pthread_self(), "pqpool-keeper");
	for (;;)
	{
		round.due = INT64_MAX;
		if (!pqp_registry_sweep(pqp_now(), &round.due) && may_end())
			break;
		visit_all(&round);
		wait_and_run(&round);
	}
	free_round(&round);
	return NULL;
}

bool
pqp_keeper_there(void)
{
	return !pqp_has_threads || pqp_keeper_running();
}

bool
pqp_keeper_running(void)
{
	return atomic_load_explicit(&keeper.running, memory_order_acquire);
}

static bool
have_kick(void)
{
	if (atomic_load(&keeper.kick) < 0)
		atomic_store(&keeper.kick, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	return atomic_load(&keeper.kick) >= 0;
}

/* Start it if it does not run.  False: it cannot be. */
bool
pqp_keeper_ensure(void)
{
	bool ok = true;

	if (pqp_keeper_running())
		return true;
	if (!pqp_has_threads)
		return false;
	pthread_mutex_lock(&keeper.lock);
	if (!pqp_keeper_running())
	{
		atomic_store(&keeper.running, true);
		ok = have_kick() && pqp_thread_start(keeper_main, NULL);
		if (!ok)
			atomic_store(&keeper.running, false);
	}
	pthread_mutex_unlock(&keeper.lock);
	return ok;
}

void
pqp_keeper_kick(void)
{
	uint64_t one = 1;
	int fd = atomic_load(&keeper.kick);
	int old;

	atomic_store(&visits.due, 0);
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	if (fd >= 0)
		(void) !write(fd, &one, sizeof(one));
	(void) pthread_setcancelstate(old, NULL);
}

/*
 * A visit holds its lock while it takes others, so that it is only ever tried for: a child
 * makes it anew.
 */
void
pqp_keeper_lock(void)
{
	pthread_mutex_lock(&keeper.lock);
}

void
pqp_keeper_unlock(void)
{
	pthread_mutex_unlock(&keeper.lock);
}

void
pqp_keeper_renew(void)
{
	keeper.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
	visits.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

/* The descriptor is shared with the parent's. */
void
pqp_keeper_forked(void)
{
	if (atomic_load(&keeper.kick) >= 0)
		(void) close(atomic_load(&keeper.kick));
	atomic_store(&keeper.kick, -1);
	atomic_store(&keeper.running, false);
	visits.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
	atomic_store(&visits.due, 0);
	atomic_store(&visits.busy, false);
}
