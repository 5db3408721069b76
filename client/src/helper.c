/*-------------------------------------------------------------------------
 *
 * helper.c
 *	  Threads for what blocks.
 *
 * Made when there is something to do, gone after LINGER_MS without.  They block
 * all signals, so that the program's handlers never run on them.  No kind of
 * task may take all threads, so that a server that hangs in one way does not
 * stop work of another kind; and there may be as many that open as all pools
 * together may want at once, so that one pool's server does not stop another
 * pool (but see PQP_MAX_OPENERS).
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <signal.h>
#include <time.h>

#define KINDS (TASK_OTHER + 1)
#define LINGER_MS 10000
#define BATCH 64 /* closes that one thread waits for together */

#define MIN_OPENERS 8
#define CLOSERS 2
#define OTHERS 2

static struct
{
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct
	{
		Task *head, *tail;
		int queued;
		int running; /* threads that do this kind now */
	} kinds[KINDS];
	int threads;
	int idle;
} helpers = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* How many threads may do this kind of task at once? */
static int
cap(int kind)
{
	int openers = pqp_pools_listed * PQP_MAX_OPENING;

	switch (kind)
	{
		case TASK_OPEN:
			return openers < MIN_OPENERS	   ? MIN_OPENERS
				   : openers > PQP_MAX_OPENERS ? PQP_MAX_OPENERS
											   : openers;
		case TASK_CLOSE:
			return CLOSERS;
		default:
			return OTHERS;
	}
}

static int
max_threads(void)
{
	return cap(TASK_OPEN) + CLOSERS + OTHERS;
}

/* Start a detached thread with all signals blocked. */
bool
pqp_thread_start(void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	bool ok;

	if (!pqp_has_threads)
		return false;
	if (pthread_attr_init(&attr) != 0)
		return false;
	(void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &old);
	ok = pthread_create(&thread, &attr, run, arg) == 0;
	(void) pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void) pthread_attr_destroy(&attr);
	return ok;
}

static void
push(Task *task)
{
	task->next = NULL;
	if (helpers.kinds[task->kind].tail)
		helpers.kinds[task->kind].tail->next = task;
	else
		helpers.kinds[task->kind].head = task;
	helpers.kinds[task->kind].tail = task;
	helpers.kinds[task->kind].queued++;
}

/* Take the first task of a kind, or of closes a batch, as a chain. */
static Task *
pop(int kind)
{
	Task *first = helpers.kinds[kind].head;
	Task *last = first;

	helpers.kinds[kind].queued--;
	for (int n = 1; kind == TASK_CLOSE && n < BATCH && last->next; n++)
	{
		last = last->next;
		helpers.kinds[kind].queued--;
	}
	helpers.kinds[kind].head = last->next;
	if (!last->next)
		helpers.kinds[kind].tail = NULL;
	last->next = NULL;
	return first;
}

/* Closes first: they are short and make room. */
static Task *
pop_any(void)
{
	static const int order[KINDS] = { TASK_CLOSE, TASK_OPEN, TASK_OTHER };

	for (int i = 0; i < KINDS; i++)
		if (helpers.kinds[order[i]].head && helpers.kinds[order[i]].running < cap(order[i]))
			return pop(order[i]);
	return NULL;
}

/* Wait for something to do.  False: nothing came for LINGER_MS. */
static bool
linger(void)
{
	struct timespec until;
	int64_t deadline = pqp_deadline(pqp_now(), LINGER_MS);
	int rc;

	until.tv_sec = deadline / 1000000;
	until.tv_nsec = deadline % 1000000 * 1000;
	helpers.idle++;
	rc = pthread_cond_clockwait(&helpers.wake, &helpers.lock, CLOCK_MONOTONIC, &until);
	helpers.idle--;
	return rc == 0;
}

static void *
helper_main(void *arg)
{
	(void) arg;
	(void) pthread_setname_np(pthread_self(), "pqpool-helper");
	pthread_mutex_lock(&helpers.lock);
	for (;;)
	{
		Task *task = pop_any();
		int kind;

		if (!task)
		{
			bool go_on = linger();

			if (go_on || (task = pop_any()) == NULL)
			{
				if (go_on)
					continue;
				break;
			}
		}
		kind = task->kind;
		helpers.kinds[kind].running++;
		pthread_mutex_unlock(&helpers.lock);
		if (kind == TASK_CLOSE)
			pqp_close_batch(task);
		else
			task->run(task);
		pthread_mutex_lock(&helpers.lock);
		helpers.kinds[kind].running--;
	}
	helpers.threads--;
	pthread_mutex_unlock(&helpers.lock);
	return NULL;
}

void
pqp_helper_lock(void)
{
	pthread_mutex_lock(&helpers.lock);
}

void
pqp_helper_unlock(void)
{
	pthread_mutex_unlock(&helpers.lock);
}

void
pqp_helper_renew(void)
{
	helpers.lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}

/* No threads here, and what they were to do is the parent's business. */
void
pqp_helper_forked(void)
{
	for (int kind = 0; kind < KINDS; kind++)
	{
		helpers.kinds[kind].head = helpers.kinds[kind].tail = NULL;
		helpers.kinds[kind].queued = helpers.kinds[kind].running = 0;
	}
	helpers.threads = helpers.idle = 0;
	helpers.wake = (pthread_cond_t) PTHREAD_COND_INITIALIZER;
}

/*
 * How many threads could begin something now?  One that was woken counts as
 * idle until it runs, so that a second task must not count on it as well.
 */
static int
beginnable(void)
{
	int n = 0;

	for (int kind = 0; kind < KINDS; kind++)
	{
		int may = cap(kind) - helpers.kinds[kind].running;

		if (may > 0) /* the cap may have come down */
			n += helpers.kinds[kind].queued < may ? helpers.kinds[kind].queued : may;
	}
	return n;
}

/*
 * There is no thread and none can be made: the caller does what is queued.  That
 * may be others' tasks, too, who counted on the thread that this one was to be.
 */
static void
do_without(void)
{
	for (;;)
	{
		Task *task = NULL;

		pthread_mutex_lock(&helpers.lock);
		for (int kind = 0; kind < KINDS && !task && helpers.threads == 0; kind++)
			if (helpers.kinds[kind].head)
				task = pop(kind);
		pthread_mutex_unlock(&helpers.lock);
		if (!task)
			return;
		if (task->kind == TASK_CLOSE)
			pqp_close_batch(task);
		else
			task->otherwise(task);
	}
}

/* Have a task done: by a helper if there is one, or one can be made. */
void
pqp_helper_submit(Task *task)
{
	bool more, alone;

	pthread_mutex_lock(&helpers.lock);
	push(task);
	more = helpers.idle < beginnable() && helpers.threads < max_threads();
	if (more)
		helpers.threads++; /* others count on it: see do_without */
	else
		pthread_cond_signal(&helpers.wake);
	pthread_mutex_unlock(&helpers.lock);

	if (more && !pqp_thread_start(helper_main, NULL))
	{
		pthread_mutex_lock(&helpers.lock);
		alone = --helpers.threads == 0;
		pthread_mutex_unlock(&helpers.lock);
		if (alone)
			do_without();
	}
}
