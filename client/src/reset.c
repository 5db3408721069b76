/*-------------------------------------------------------------------------
 *
 * reset.c
 *	  DISCARD ALL in the background.
 *
 * Whoever gives a connection back sends the command and goes on.  The slot is
 * HELD and in pool->resets; the keeper waits for the answers of all of them, and
 * puts back what has been answered.  So a connection is lent only after its
 * reset is known to have worked, and nobody but the keeper waits for it.
 *
 * One exception: a thread that comes back for the connection that it just gave
 * back, while nobody waits, waits for the answer itself, for OWN_US at most.
 * That is what a loop of a single thread does all the time, and going by way of
 * the keeper would cost it two switches of threads.
 *
 * Where there is no keeper (see "Two forms" in internal.h) the next one who
 * finds nothing idle waits for the answer; and who gives back while somebody
 * waits already, waits for it himself.
 *
 * Who has taken a slot out of pool->resets, with the lock, owns it.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>
#include <poll.h>

#define OWN_US 1000

static bool
take_out(Pool *pool, Slot *slot)
{
	for (Slot **link = &pool->resets; *link; link = &(*link)->next)
		if (*link == slot)
		{
			*link = slot->next;
			pool->nresets--;
			return true;
		}
	return false;
}

static void
put_in(Pool *pool, Slot *slot)
{
	slot->next = pool->resets;
	pool->resets = slot;
	pool->nresets++;
}

static void
finish(Slot *slot, bool good)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	const char *text = good ? pqp_text(slot) : NULL;
	bool off_target = good && !pqp_on_target(slot);
	bool lost_server = off_target || (!good && !slot->lost &&
									  (PQstatus(slot->conn) != CONNECTION_OK || slot->fatal));

	good = good && !off_target;
	pthread_mutex_lock(&pool->lock);
	slot->heard_at = now;
	/* without a keeper the answer may have lain there for hours, and the server be gone since */
	slot->alive_at = pqp_has_threads ? now : slot->reset_at;
	pqp_heard(pool, slot->serial, text);
	if (good)
		pqp_put_back(slot, &work, now);
	else
	{
		pqp_count(&pool->counters.discarded, 1);
		if (lost_server)
			pqp_server_ended(pool, &work, now);
		pqp_retire(slot, &work, lost_server ? PQPOOL_CLOSE_DEAD : PQPOOL_CLOSE_UNFIT);
	}
	pqp_pump(pool, &work, now);
	pqp_unlock(pool, &work);
}

/*
 * For the keeper: which are under way?  Returns how many there are; the first n
 * are put into slots and sockets, if they are still there when pqp_reset_run is called.
 */
int
pqp_resets(Pool *pool, Slot **slots, int *sockets, int n, int64_t *due)
{
	int found = 0;

	if (pool->options.reset != PQP_RESET_DISCARD)
		return 0;
	pthread_mutex_lock(&pool->lock);
	for (Slot *slot = pool->resets; slot; slot = slot->next, found++)
	{
		if (found < n)
		{
			slots[found] = slot;
			sockets[found] = slot->reset_socket;
		}
		if (slot->reset_deadline < *due)
			*due = slot->reset_deadline;
	}
	pthread_mutex_unlock(&pool->lock);
	return found;
}

/* Move this one on.  readable: its socket has something. */
void
pqp_reset_run(Pool *pool, Slot *slot, bool readable)
{
	Progress progress;
	bool mine;

	pthread_mutex_lock(&pool->lock);
	mine = (readable || slot->reset_deadline <= pqp_now()) && take_out(pool, slot);
	pthread_mutex_unlock(&pool->lock);
	if (!mine)
		return;
	progress = pqp_discard_progress(slot);
	if (progress == PROGRESS_MORE && pqp_now() < slot->reset_deadline)
	{
		pthread_mutex_lock(&pool->lock);
		put_in(pool, slot);
		pthread_mutex_unlock(&pool->lock);
	}
	else
		finish(slot, progress == PROGRESS_DONE);
}

static Progress
wait_for(Slot *slot, int64_t until)
{
	Progress progress = pqp_discard_progress(slot);

	while (progress == PROGRESS_MORE)
	{
		struct pollfd wait = { .fd = PQsocket(slot->conn), .events = POLLIN };
		int64_t left = until - pqp_now();
		struct timespec timeout = { .tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000 };

		if (left <= 0 || ppoll(&wait, 1, &timeout, NULL) == 0)
			break;
		progress = pqp_discard_progress(slot);
	}
	return progress;
}

/* The slot is the caller's, and in no list. */
static void
wait_and_finish(Slot *slot, int64_t deadline)
{
	Progress progress;
	int old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	progress = wait_for(slot, deadline);
	(void) pthread_setcancelstate(old, NULL);
	finish(slot, progress == PROGRESS_DONE);
}

/*
 * Begin.  The slot is the caller's, HELD, and clean but for what DISCARD ALL
 * is for.  False: it has to be done here and now, if at all.
 */
bool
pqp_reset_start(Slot *slot, int64_t deadline)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int old;
	bool sent, waited_for;

	if (!pqp_keeper_there())
		return false;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	sent = pqp_discard_send(slot);
	(void) pthread_setcancelstate(old, NULL);
	if (!sent)
		return false;
	pthread_mutex_lock(&pool->lock);
	slot->reset_at = pqp_now();
	slot->reset_deadline = deadline;
	slot->reset_socket = PQsocket(slot->conn);
	waited_for = !pqp_has_threads && pool->queue.head;
	if (!waited_for)
		put_in(pool, slot);
	if (pqp_has_threads)
	{
		pqp_nudge(pool, &work, pqp_now());
		work.kick = true; /* it has one more socket to wait for */
	}
	pqp_unlock(pool, &work);
	if (waited_for)
		wait_and_finish(slot, deadline);
	return true;
}

/*
 * If the thread's last connection is being reset, and it is its turn, wait for
 * it.  Afterwards it is idle, or gone, or under way as before.
 */
void
pqp_reset_own(Pool *pool, const Thread *thread)
{
	Progress progress;
	bool mine;
	int old;

	if (thread->last_pool != pool->serial)
		return;
	pthread_mutex_lock(&pool->lock);
	mine = !pool->queue.head && pqp_lends(pool) && take_out(pool, thread->last);
	pthread_mutex_unlock(&pool->lock);
	if (!mine)
		return;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	progress = wait_for(thread->last, pqp_now() + OWN_US);
	(void) pthread_setcancelstate(old, NULL);
	if (progress != PROGRESS_MORE)
	{
		finish(thread->last, progress == PROGRESS_DONE);
		return;
	}
	pthread_mutex_lock(&pool->lock);
	put_in(pool, thread->last);
	pthread_mutex_unlock(&pool->lock);
	pqp_keeper_kick();
}

/*
 * The one that was sent first, and is likely to be answered first; NULL: none, or none is
 * needed.
 */
static Slot *
take_out_oldest(Pool *pool)
{
	Slot *oldest = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pqp_lends(pool) && !pqp_idle_any(pool))
		for (Slot *slot = pool->resets; slot; slot = slot->next)
			oldest = slot;
	if (oldest)
		(void) take_out(pool, oldest);
	pthread_mutex_unlock(&pool->lock);
	return oldest;
}

/* Past `until` only an answer that is there already is taken.  True: the reset is over. */
static bool
help_with(Slot *slot, int64_t until)
{
	Pool *pool = slot->pool;
	Progress progress;
	int old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	progress = wait_for(slot, until);
	(void) pthread_setcancelstate(old, NULL);
	if (progress != PROGRESS_MORE || pqp_now() >= slot->reset_deadline)
	{
		finish(slot, progress == PROGRESS_DONE);
		return true;
	}
	pthread_mutex_lock(&pool->lock);
	put_in(pool, slot);
	pthread_mutex_unlock(&pool->lock);
	return false;
}

/*
 * In place of a keeper, for one who would else have to wait: as long as nothing
 * is idle, and resets are under way, wait for one of them.  Past the deadline
 * only those that have been answered already are of interest.
 */
void
pqp_reset_help(Pool *pool, int64_t deadline)
{
	Slot *slot;

	while ((slot = take_out_oldest(pool)) != NULL)
		if (!help_with(slot, slot->reset_deadline < deadline ? slot->reset_deadline : deadline))
			return;
}

/*
 * In place of a keeper, too: what came back last is to be lent before what has been idle for
 * longer, if its reset is answered.  Else all that were ever needed would be used in turn, and
 * none be idle for long enough to be closed.
 */
void
pqp_reset_newest(Pool *pool)
{
	Slot *newest = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pqp_lends(pool) && pqp_idle_any(pool))
		newest = pool->resets;
	if (newest)
		(void) take_out(pool, newest);
	pthread_mutex_unlock(&pool->lock);
	if (newest)
		(void) help_with(newest, 0);
}
