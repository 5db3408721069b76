/*-------------------------------------------------------------------------
 *
 * close.c
 *	  Ending connections, and knowing when they have ended.
 *
 * A connection counts until the server's side of the socket is closed, which is
 * when the backend is gone: a swap at the limit then never overshoots.  So:
 * keep a duplicate of the socket, PQfinish, tell the server through the
 * duplicate that nothing more will come (else the duplicate would hide our
 * going from it), and read until the end.  Over TLS the end is ECONNRESET
 * rather than EOF. A backend that is busy is asked to stop, as nobody will see
 * its answer; if it does not end in time, its end is not known, and
 * PQP_CLOSE_MS is as long as we wait.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define CLOSE_BRIEFLY_MS 20 /* by a caller: it takes 2 to 4, unless the server is busy */

/* The server's side is closed, or we no longer care. */
static void
ended(Slot *slot)
{
	Pool *pool = slot->pool;
	Work work = { 0 };

	pqp_cancel_ended(slot->insisting);
	slot->insisting = NULL;
	if (!pool)
	{
		free(slot);
		return;
	}
	/* while the slot still counts, so that pqpool_close waits for the hook */
	pqp_event(pool, &(pqpool_event){ .type = PQPOOL_EVENT_CLOSED,
									 .reason = (int) slot->reason,
									 .backend_pid = slot->backend_pid });
	pthread_mutex_lock(&pool->lock);
	pqp_count(&pool->counters.closed, 1);
	pqp_count(&pool->counters.closed_by[slot->reason], 1);
	slot->conn = NULL;
	pqp_slot_free(slot);
	if (pool->watchers > 0)
		pthread_cond_broadcast(&pool->changed);
	if (pool->closed && pool->link.bye_pending)
		pqp_nudge(pool, &work, pqp_now());
	pqp_pump(pool, &work, pqp_now());
	pqp_unlock(pool, &work);
	pqp_unref(pool);
}

/* PQfinish; returns a socket at which the end will show, or -1. */
static int
finish(Slot *slot)
{
	PGconn *conn = slot->conn;
	int sock, copy = -1;

	if (slot->lost || !conn || !pqp_socket_kept(slot))
		return -1;
	pqp_hook_close(slot->pool, conn);
	pqp_lookup_remove(slot);
	slot->conn = NULL;
	sock = PQsocket(conn);
	if (sock >= 0)
		copy = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	if (PQtransactionStatus(conn) == PQTRANS_ACTIVE)
		slot->insisting = pqp_cancel_insist(conn);
	/* else saying good-bye to a server that does not read could block */
	(void) PQsetnonblocking(conn, 1);
	PQsetNoticeReceiver(conn, slot->receiver, slot->pool ? slot->pool->hooks.arg : NULL);
	pqp_finish(conn);
	slot->end_fd = copy > 0 ? copy : 0;
	if (copy >= 0)
		(void) shutdown(copy, SHUT_WR);
	return copy;
}

/* Read what is left.  False: more may come. */
static bool
drained(int sock)
{
	char buf[4096];
	ssize_t n;

	do
		n = recv(sock, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void
end_of(struct pollfd *poll, Slot **slot)
{
	(*slot)->end_fd = 0;
	(void) close(poll->fd);
	poll->fd = -1;
	ended(*slot);
	*slot = NULL;
}

/* Close at most BATCH slots, and wait for all of them together. */
static Task *
close_some(Task *chain)
{
	Slot *slots[BATCH];
	struct pollfd polls[BATCH];
	int n = 0, open = 0;
	int64_t deadline;

	while (chain && n < BATCH)
	{
		Slot *slot = pqp_task_slot(chain);

		chain = chain->next;
		polls[n] = (struct pollfd){ .fd = finish(slot), .events = POLLIN };
		slots[n] = slot;
		if (polls[n].fd < 0)
			ended(slot);
		else
		{
			n++;
			open++;
		}
	}
	deadline = pqp_deadline(pqp_now(), pqp_has_threads ? PQP_CLOSE_MS : CLOSE_BRIEFLY_MS);
	while (open > 0 && poll(polls, (nfds_t) n, pqp_poll_ms(deadline)) != 0)
		for (int i = 0; i < n; i++)
			if (slots[i] && polls[i].revents && drained(polls[i].fd))
			{
				end_of(&polls[i], &slots[i]);
				open--;
			}
	for (int i = 0; i < n; i++)
		if (slots[i])
			end_of(&polls[i], &slots[i]);
	return chain;
}

void
pqp_close_batch(Task *chain)
{
	int old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	while (chain)
		chain = close_some(chain);
	(void) pthread_setcancelstate(old, NULL);
}

/* Have slots closed, in the background if at all possible. */
void
pqp_close_slots(Slot *chain)
{
	while (chain)
	{
		Slot *slot = chain;

		chain = slot->next;
		slot->task = (Task){ .kind = TASK_CLOSE };
		pqp_helper_submit(&slot->task);
	}
}
