/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  Acquiring without blocking: for event loops.
 *
 * A request is a caller in the pool's queue, like a thread that waits there,
 * but for how it is told: the one who hands over calls told() in place of
 * waking a thread.
 *
 *		PENDING		in the pool's queue; or it has a connection, and somebody finds out whether that is good
 *		DONE		in the inbox: a connection, or why not
 *		(freed)		taken out, or taken back
 *
 * Most connections are known to be good, or can be seen to be without waiting;
 * then the one who hands over puts the request into the inbox himself.  Else a
 * helper vets it, as that may take a round trip, or a hook.  If the connection
 * turns out dead, the request goes back to the head of the queue.
 *
 * Deadlines are the keeper's business (pqp_requests_expire).
 *
 * Locks: pool->lock, for the queue; inbox->lock, a leaf, for all else.  Who
 * takes a pending request back needs both, but not together: he pins it
 * meanwhile, and is the one to free it then, if it has come to its end.
 *
 * The inbox lives until its last pending request has ended.  A forked child
 * cannot use its parent's.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loan.h"

typedef struct Request
{
	Caller caller; /* must be first */
	Task task;
	pqpool_inbox *inbox;
	Pool *pool; /* with a reference */
	void *tag;
	uint64_t ticket;

	/* inbox->lock */
	struct Request *next, *previous; /* all of the inbox */
	struct Request *next_ready;
	bool done;
	bool unwanted;
	bool pinned;
	bool over;	   /* while it was pinned: to be freed by who did */
	bool admitted; /* of who works on it: this slot, by the hook before_acquire */

	/* of who works on it; then, when done, of who takes it out */
	Slot *slot;
	int code;
	pqpool_error *err; /* NULL: there was no memory for it, or no error */
} Request;

struct pqpool_inbox
{
	pthread_mutex_t lock;
	int fd;
	int holders; /* the user, and each request that is not done */
	Request *all;
	Request *ready, *last_ready;
};

/*
 * The inbox.
 */

pqpool_inbox *
pqpool_inbox_open(pqpool_error *err)
{
	pqpool_inbox *inbox = calloc(1, sizeof(*inbox));

	pqp_after_fork();
	if (!inbox)
	{
		(void) pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (inbox->fd < 0)
	{
		(void) pqp_error_set(err, PQPOOL_SYSTEM, "inbox: no descriptor could be had: %m");
		free(inbox);
		return NULL;
	}
	(void) pthread_mutex_init(&inbox->lock, NULL);
	inbox->holders = 1;
	(void) pqp_error_clear(err);
	return inbox;
}

int
pqpool_inbox_fd(const pqpool_inbox *inbox)
{
	return inbox ? inbox->fd : -1;
}

/* None of these calls blocks, but each is a cancellation point. */
static void
ring(const pqpool_inbox *inbox)
{
	uint64_t one = 1;
	int old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	(void) !write(inbox->fd, &one, sizeof(one));
	(void) pthread_setcancelstate(old, NULL);
}

/* With the lock held. */
static void
hush_if_empty(const pqpool_inbox *inbox)
{
	uint64_t count;
	int old;

	if (inbox->ready)
		return;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	(void) !read(inbox->fd, &count, sizeof(count));
	(void) pthread_setcancelstate(old, NULL);
}

static void
close_fd(const pqpool_inbox *inbox)
{
	int old;

	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	(void) close(inbox->fd);
	(void) pthread_setcancelstate(old, NULL);
}

/* With the lock held; drops it. */
static void
let_go(pqpool_inbox *inbox)
{
	bool last = --inbox->holders == 0;

	pthread_mutex_unlock(&inbox->lock);
	if (!last)
		return;
	close_fd(inbox);
	(void) pthread_mutex_destroy(&inbox->lock);
	free(inbox);
}

/* With the lock held. */
static void
put_on(Request *request)
{
	pqpool_inbox *inbox = request->inbox;

	request->done = false;
	request->previous = NULL;
	request->next = inbox->all;
	if (inbox->all)
		inbox->all->previous = request;
	inbox->all = request;
	inbox->holders++;
}

static void
take_off(Request *request)
{
	pqpool_inbox *inbox = request->inbox;

	if (request->previous)
		request->previous->next = request->next;
	else
		inbox->all = request->next;
	if (request->next)
		request->next->previous = request->previous;
}

/* Off the list already, and not in the queue.  No lock held. */
static void
free_request(Request *request)
{
	request->pool->requests--;
	pqp_unref(request->pool);
	free(request->err);
	free(request);
}

/*
 * What comes of a request.
 */

/* With the lock held. */
static void
append_ready(Request *request)
{
	pqpool_inbox *inbox = request->inbox;

	request->done = true;
	request->next_ready = NULL;
	if (inbox->ready)
		inbox->last_ready->next_ready = request;
	else
		inbox->ready = request;
	inbox->last_ready = request;
	ring(inbox);
}

/* Put it into the inbox; or, if nobody wants it any more, undo it. */
static void
done(Request *request)
{
	pqpool_inbox *inbox = request->inbox;
	PGconn *conn = NULL;
	bool over = false;

	pthread_mutex_lock(&inbox->lock);
	if (!request->unwanted)
		append_ready(request);
	else
	{
		conn = request->slot ? request->slot->conn : NULL;
		request->over = true;
		over = !request->pinned;
		if (over)
			take_off(request);
	}
	let_go(inbox);
	if (conn)
		(void) pqpool_release(conn);
	if (over)
		free_request(request);
}

static void
refused(Request *request, const Refusal *refusal)
{
	request->slot = NULL;
	request->code = refusal->code;
	request->err = malloc(sizeof(*request->err));
	pqp_report_refusal(request->pool, &request->caller, refusal, request->err);
	done(request);
}

/* Is this one good, by whatever it takes to find out?  If not, it is gone. */
static bool
is_good(Request *request, Slot *slot)
{
	bool good;

	if (slot->state == SLOT_OPENING)
	{
		/* no helper could be had to open it; the queue's reference is still ours */
		good = pqp_open_slot(slot, request->caller.deadline, &request->caller.borrower);
		pqp_unref(request->pool);
	}
	else
		good = pqp_is_good(slot, &request->caller, request->caller.deadline > request->caller.since,
						   pqp_now());
	if (good && !request->admitted)
		good = request->admitted = pqp_admitted(slot, &request->caller);
	return good;
}

static bool
is_unwanted(Request *request)
{
	bool unwanted;

	pthread_mutex_lock(&request->inbox->lock);
	unwanted = request->unwanted;
	pthread_mutex_unlock(&request->inbox->lock);
	return unwanted;
}

/* Go on until there is a good connection, or none, or the request is in the queue again. */
static void
vet(Task *task)
{
	Request *request = (Request *) ((char *) task - offsetof(Request, task));
	Refusal refusal;

	while (request->slot && !is_good(request, request->slot))
	{
		request->slot = NULL; /* before it is queued, and then no more ours */
		request->admitted = false;
		if (is_unwanted(request))
			break;
		refusal.code = PQPOOL_OK;
		{
			Slot *next =
				pqp_turn_begin(request->pool, &request->caller, NULL, true, pqp_now(), &refusal);

			if (!next && refusal.code == PQPOOL_OK)
				return;
			if (!next)
			{
				refused(request, &refusal);
				return;
			}
			request->slot = next;
		}
	}
	done(request);
}

static void
submit(Request *request)
{
	request->task = (Task){ .kind = TASK_OTHER, .run = vet, .otherwise = vet };
	pqp_helper_submit(&request->task);
}

/* It has a connection.  Whoever brought it shall not be held up by what it takes. */
static void
received(Request *request, Slot *slot)
{
	request->slot = slot;
	if (slot->state == SLOT_OPEN && pqp_seen_good(slot, pqp_now()))
	{
		done(request);
		return;
	}
	submit(request);
}

/* Called by whoever hands something over, without a lock. */
static void
told(Caller *caller)
{
	Request *request = (Request *) caller;
	Refusal refusal;

	if (caller->waiter.item)
		received(request, caller->waiter.item);
	else
	{
		pqp_turn_denied(request->pool, caller, caller->waiter.code, &refusal);
		pqp_unref(request->pool); /* the queue's; we have one of our own */
		refused(request, &refusal);
	}
}

static Request *
expired(Pool *pool, int64_t now, int64_t *due, Refusal *refusal)
{
	for (Waiter *w = pool->queue.head; w; w = w->next)
	{
		Caller *caller = (Caller *) w;

		if (!caller->tell)
			continue;
		if (caller->deadline <= now)
		{
			pqp_turn_expired(pool, caller, refusal, now);
			return (Request *) caller;
		}
		if (caller->deadline < *due)
			*due = caller->deadline;
	}
	return NULL;
}

/* Those whose time is over.  Returns when to look again. */
int64_t
pqp_requests_expire(Pool *pool, int64_t now)
{
	int64_t due = INT64_MAX;
	Request *request;

	if (pool->requests == 0)
		return due;
	do
	{
		Refusal refusal;

		pthread_mutex_lock(&pool->lock);
		request = expired(pool, now, &due, &refusal);
		pthread_mutex_unlock(&pool->lock);
		if (request)
			refused(request, &refusal);
	} while (request);
	return due;
}

/*
 * The calls.
 */

int
pqpool_acquire_start_at(pqpool *pool, int timeout_ms, pqpool_inbox *inbox, void *tag,
						uint64_t *ticket, pqpool_error *err, const char *site)
{
	Thread *thread;
	Request *request;
	Refusal refusal;
	int64_t now = pqp_now();
	Slot *slot;

	pqp_after_fork();
	if (!pool || !inbox || timeout_ms < -1)
		return pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "%s",
							 !pool	  ? "no pool was given"
							 : !inbox ? "no inbox was given"
									  : "the timeout must be -1 or more");
	thread = pqp_thread();
	request = thread ? calloc(1, sizeof(*request)) : NULL;
	if (!request)
		return pqp_error_set(err, PQPOOL_OUT_OF_MEMORY, "out of memory");
	if (!pqp_keeper_ensure())
	{
		free(request);
		return pqp_error_set(err, PQPOOL_SYSTEM, "no thread could be started");
	}
	request->caller =
		(Caller){ .borrower = { .mine = pqp_item_mine(thread->serial, false),
								.tid = thread->tid,
								.site = site,
								.since = now },
				  .tell = told,
				  .since = now,
				  .deadline = pqp_deadline(now, timeout_ms == -1 ? pool->options.acquire_timeout_ms
																 : timeout_ms) };
	request->inbox = inbox;
	request->pool = pool;
	request->tag = tag;
	request->ticket = pqp_next_serial();
	if (ticket)
		*ticket = request->ticket;
	pqp_ref(pool);
	pool->requests++;
	pthread_mutex_lock(&inbox->lock);
	put_on(request);
	pthread_mutex_unlock(&inbox->lock);

	slot = pqp_turn_begin(pool, &request->caller, thread, false, now, &refusal);
	if (slot)
		received(request, slot);
	else if (refusal.code != PQPOOL_OK)
		refused(request, &refusal);
	return pqp_error_clear(err);
}

int
pqpool_acquire_start(pqpool *pool, int timeout_ms, pqpool_inbox *inbox, void *tag, uint64_t *ticket,
					 pqpool_error *err)
{
	return pqpool_acquire_start_at(pool, timeout_ms, inbox, tag, ticket, err, NULL);
}

/* Take out the oldest one that is ready; NULL: none is. */
static Request *
pop_ready(pqpool_inbox *inbox)
{
	Request *request;

	pthread_mutex_lock(&inbox->lock);
	request = inbox->ready;
	if (request)
	{
		inbox->ready = request->next_ready;
		take_off(request);
	}
	hush_if_empty(inbox);
	pthread_mutex_unlock(&inbox->lock);
	return request;
}

/*
 * It may have lain there for long, even beyond its deadline.  False: it is being
 * vetted again, and has time for that.
 */
static bool
is_fresh(Request *request)
{
	int64_t now = pqp_now();
	int64_t deadline = pqp_deadline(now, request->pool->options.reset_timeout_ms);

	if (!request->slot || pqp_still_good(request->slot, now))
		return true;
	if (request->caller.deadline < deadline)
		request->caller.deadline = deadline;
	pthread_mutex_lock(&request->inbox->lock);
	put_on(request);
	pthread_mutex_unlock(&request->inbox->lock);
	submit(request);
	return false;
}

int
pqpool_inbox_next(pqpool_inbox *inbox, void **tag, PGconn **conn, pqpool_error *err)
{
	Request *request;

	pqp_after_fork();
	(void) pqp_error_clear(err);
	if (!inbox || !tag || !conn)
	{
		(void) pqp_error_set(err, PQPOOL_BAD_ARGUMENT, "bad argument");
		return 0;
	}
	do
		request = pop_ready(inbox);
	while (request && !is_fresh(request));
	if (!request)
		return 0;
	*tag = request->tag;
	*conn = request->slot ? (PGconn *) request->slot->conn : NULL;
	if (!*conn && request->err && err)
		*err = *request->err;
	else if (!*conn)
		(void) pqp_error_set(err, request->code, "pool \"%s\": %s", request->pool->options.name,
							 pqpool_strerror(request->code));
	free_request(request);
	return 1;
}

/* Out of the list of those that are ready, with the lock held. */
static void
remove_ready(pqpool_inbox *inbox, Request *request)
{
	Request *previous = NULL;

	for (Request *r = inbox->ready; r && r != request; r = r->next_ready)
		previous = r;
	if (previous)
		previous->next_ready = request->next_ready;
	else
		inbox->ready = request->next_ready;
	if (inbox->last_ready == request)
		inbox->last_ready = previous;
	hush_if_empty(inbox);
}

/* With the lock held; drops it. */
static void
take_back(pqpool_inbox *inbox, Request *request)
{
	PGconn *conn = NULL;
	bool queued = false;

	request->unwanted = true;
	if (request->done)
	{
		remove_ready(inbox, request);
		take_off(request);
		conn = request->slot ? (PGconn *) request->slot->conn : NULL;
		pthread_mutex_unlock(&inbox->lock);
		if (conn)
			(void) pqpool_release(conn);
		free_request(request);
		return;
	}
	request->pinned = true;
	pthread_mutex_unlock(&inbox->lock);

	pthread_mutex_lock(&request->pool->lock);
	queued = pqp_waitq_remove(&request->pool->queue, &request->caller.waiter);
	if (queued)
		request->pool->refs--; /* the queue's */
	pthread_mutex_unlock(&request->pool->lock);

	pthread_mutex_lock(&inbox->lock);
	request->pinned = false;
	if (!queued && !request->over)
	{
		pthread_mutex_unlock(&inbox->lock);
		return;
	}
	take_off(request);
	if (queued)
		inbox->holders--; /* never the last: the caller's is left */
	pthread_mutex_unlock(&inbox->lock);
	free_request(request);
}

int
pqpool_acquire_cancel(pqpool_inbox *inbox, uint64_t ticket)
{
	Request *request;

	pqp_after_fork();
	if (!inbox)
		return PQPOOL_BAD_ARGUMENT;
	pthread_mutex_lock(&inbox->lock);
	request = inbox->all;
	while (request && (request->ticket != ticket || request->unwanted))
		request = request->next;
	if (!request)
	{
		pthread_mutex_unlock(&inbox->lock);
		return PQPOOL_NOT_LENT;
	}
	take_back(inbox, request);
	return PQPOOL_OK;
}

int
pqpool_inbox_close(pqpool_inbox **inbox)
{
	pqpool_inbox *closing;

	pqp_after_fork();
	if (!inbox)
		return PQPOOL_BAD_ARGUMENT;
	closing = *inbox;
	*inbox = NULL;
	if (!closing)
		return PQPOOL_OK;
	for (;;)
	{
		Request *request;

		pthread_mutex_lock(&closing->lock);
		request = closing->all;
		while (request && request->unwanted)
			request = request->next;
		if (!request)
			break;
		take_back(closing, request);
	}
	let_go(closing);
	return PQPOOL_OK;
}
