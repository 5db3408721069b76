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
	bool sent;

	if (!pqp_keeper_running())
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
	put_in(pool, slot);
	pqp_nudge(pool, &work, pqp_now());
	work.kick = true; /* it has one more socket to wait for */
	pqp_unlock(pool, &work);
	return true;
}

static void
finish(Slot *slot, bool good)
{
	Pool *pool = slot->pool;
	Work work = { 0 };
	int64_t now = pqp_now();
	const char *text = good ? pqp_text(slot) : NULL;
	bool lost_server = !good && (PQstatus(slot->conn) != CONNECTION_OK || slot->fatal);

	pthread_mutex_lock(&pool->lock);
	slot->alive_at = slot->heard_at = now;
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
wait_a_little(Slot *slot)
{
	int64_t until = pqp_now() + OWN_US;
	Progress progress = pqp_discard_progress(slot);

	while (progress == PROGRESS_MORE)
	{
		struct pollfd wait = { .fd = PQsocket(slot->conn), .events = POLLIN };
		int64_t left = until - pqp_now();
		struct timespec timeout = { .tv_nsec = left * 1000 };

		if (left <= 0 || ppoll(&wait, 1, &timeout, NULL) == 0)
			break;
		progress = pqp_discard_progress(slot);
	}
	return progress;
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
	progress = wait_a_little(thread->last);
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
