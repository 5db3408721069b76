/*-------------------------------------------------------------------------
 *
 * guest.c
 *	  What is remembered of each PGconn that the program has from us.
 *
 * A guest begins when the program's call returns a PGconn that we have to do
 * with, and ends when that is closed:
 *
 *		CONNECTING	started by PQconnectStart, and not there yet
 *		LENT		the program's: a loan
 *		IDLE		the program has closed it: the pool's
 *		REFUSED		a PGconn that only carries a message of the pool's
 *
 * Found by the PGconn, in a hash table under one lock, a leaf.  What the program
 * does with a PGconn of its own is its own business, and not ours to serialize; but
 * epoll_ctl may come at any time, from any thread.  A PGcancel may as well, and from a signal
 * handler: it does not come by here, but by the guest's ticket (ticket.c).
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUCKETS 512
#define MAX_EPOLLS 4
#define MAX_FD 65536 /* sockets above are not looked for in event loops */

typedef enum GuestState
{
	GUEST_CONNECTING,
	GUEST_LENT,
	GUEST_IDLE,
	GUEST_REFUSED
} GuestState;

struct Guest
{
	Guest *next;
	PGconn *conn;
	GuestState state;
	Claim claim;   /* while CONNECTING */
	char *message; /* of REFUSED */

	/* its socket, and what that was when we last had to do with it */
	int fd;
	int flags; /* fcntl's */
	dev_t device;
	ino_t inode;

	Ticket *ticket; /* NULL: of REFUSED */
	uint64_t loan;	/* while LENT */
	bool spoiled;	/* something stays with it that the next holder would meet */
	int epolls[MAX_EPOLLS];
	int nepolls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Guest *table[BUCKETS];
static _Atomic int nguests;
static _Atomic int nidle;
static _Atomic uint16_t
	guests_at[MAX_FD]; /* how many have this descriptor; only stale ones make it two */

static Guest **
link_to(const PGconn *conn)
{
	uint64_t hash = (uint64_t) (uintptr_t) conn * UINT64_C(0x9e3779b97f4a7c15);
	Guest **link = &table[hash >> 40 & (BUCKETS - 1)];

	while (*link && (*link)->conn != conn)
		link = &(*link)->next;
	return link;
}

/* With the lock held; NULL, and it is not: none. */
static Guest *
lock_guest(const PGconn *conn)
{
	Guest *guest;

	if (!conn || nguests == 0)
		return NULL;
	pthread_mutex_lock(&lock);
	guest = *link_to(conn);
	if (!guest)
		pthread_mutex_unlock(&lock);
	return guest;
}

static void
unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static void
count_at(int fd, int more)
{
	if (fd >= 0 && fd < MAX_FD)
		(void) atomic_fetch_add(&guests_at[fd], (uint16_t) more);
}

/*
 * With the lock held.  A connection that is being made may go through several
 * sockets, and event loops know of each: what is noted of the last one is forgotten with it.
 */
static void
note_socket(Guest *guest)
{
	struct stat st = { 0 };
	int fd = pqp_libpq.PQsocket(guest->conn);

	if (fd < 0 || fstat(fd, &st) != 0)
		fd = -1;
	if (fd == guest->fd && st.st_dev == guest->device && st.st_ino == guest->inode)
		return;
	count_at(guest->fd, -1);
	count_at(fd, 1);
	guest->fd = fd;
	guest->device = st.st_dev;
	guest->inode = st.st_ino;
	guest->nepolls = 0;
	guest->flags = fcntl(fd, F_GETFL);
}

/* With the lock held. */
static void
set_state(Guest *guest, GuestState state)
{
	nidle += (state == GUEST_IDLE) - (guest->state == GUEST_IDLE);
	guest->state = state;
}

int
pqp_guests_idle(void)
{
	return nidle;
}

/* With the lock held. */
static void
drop(Guest *guest)
{
	*link_to(guest->conn) = guest->next;
	count_at(guest->fd, -1);
	set_state(guest, GUEST_REFUSED);
	nguests--;
	if (guest->ticket)
		pqp_ticket_give_back(guest->ticket);
	free(guest->message);
	free(guest);
}

/* Without memory there is no guest, and the PGconn is the program's alone. */
static Guest *
make(PGconn *conn, GuestState state)
{
	Guest *guest = calloc(1, sizeof(*guest));
	Guest *stale;

	if (!guest)
		return NULL;
	guest->conn = conn;
	guest->state = GUEST_REFUSED;
	guest->fd = -1;
	pthread_mutex_lock(&lock);
	guest->ticket = state == GUEST_REFUSED ? NULL : pqp_ticket_take();
	if (!guest->ticket && state != GUEST_REFUSED)
	{
		unlock();
		free(guest);
		return NULL;
	}
	stale = *link_to(conn);
	if (stale) /* closed by who does not call us */
		drop(stale);
	*link_to(conn) = guest;
	set_state(guest, state);
	nguests++;
	return guest;
}

bool
pqp_guest_add(PGconn *conn, const Claim *connecting)
{
	Guest *guest = make(conn, connecting ? GUEST_CONNECTING : GUEST_IDLE);

	if (!guest)
		return false;
	if (connecting)
		guest->claim = *connecting;
	note_socket(guest);
	unlock();
	return true;
}

void
pqp_guest_refused(PGconn *conn, const char *message)
{
	char *copy = NULL;
	Guest *guest;

	if (asprintf(&copy, "%s\n", message) < 0)
		return;
	guest = make(conn, GUEST_REFUSED);
	if (!guest)
	{
		free(copy);
		return;
	}
	guest->message = copy;
	unlock();
}

/* There until the program finishes it. */
const char *
pqp_guest_message(PGconn *conn)
{
	Guest *guest = lock_guest(conn);
	const char *message = guest ? guest->message : NULL;

	if (guest)
		unlock();
	return message;
}

bool
pqp_guest_connecting(PGconn *conn, Claim *claim)
{
	Guest *guest = lock_guest(conn);
	bool connecting = guest && guest->state == GUEST_CONNECTING;

	if (connecting)
	{
		note_socket(guest);
		*claim = guest->claim;
	}
	if (guest)
		unlock();
	return connecting;
}

/* Its socket may be another one than before. */
void
pqp_guest_connected(PGconn *conn)
{
	Guest *guest = lock_guest(conn);

	if (!guest)
		return;
	note_socket(guest);
	unlock();
}

void
pqp_guest_lent(PGconn *conn)
{
	Guest *guest = lock_guest(conn);

	if (!guest)
		return;
	set_state(guest, GUEST_LENT);
	guest->loan = pqp_ticket_begin(guest->ticket);
	unlock();
}

bool
pqp_guest_known(PGconn *conn)
{
	Guest *guest = lock_guest(conn);

	if (guest)
		unlock();
	return guest != NULL;
}

/*
 * The program has closed it.  Event loops forget its socket, as they would when it
 * is closed.
 */
static Farewell
part(Guest *guest)
{
	bool cancelling = pqp_ticket_end(guest->ticket);
	bool changed = fcntl(guest->fd, F_GETFL) != guest->flags; /* signals, blocking mode */


	/* one that libpq has closed is forgotten already, and its number may be another's */
	for (int i = 0; i < guest->nepolls && pqp_libpq.PQsocket(guest->conn) == guest->fd; i++)
		pqp_epoll_forget(guest->epolls[i], guest->fd);
	guest->nepolls = 0;
	set_state(guest, GUEST_IDLE);
	guest->loan = 0;
	return guest->spoiled || cancelling || changed ? FAREWELL_DISCARD : FAREWELL_RELEASE;
}

Farewell
pqp_guest_leaves(PGconn *conn, Claim *claim)
{
	Guest *guest = lock_guest(conn);
	Farewell farewell;

	if (!guest)
		return FAREWELL_STRANGER;
	switch (guest->state)
	{
		case GUEST_CONNECTING:
			*claim = guest->claim;
			drop(guest);
			farewell = FAREWELL_CONNECTING;
			break;
		case GUEST_REFUSED:
			drop(guest);
			farewell = FAREWELL_STRANGER;
			break;
		case GUEST_LENT:
			farewell = part(guest);
			break;
		default:
			farewell = FAREWELL_TWICE;
	}
	unlock();
	return farewell;
}

/* It is about to be closed, or is nobody's any more; the pool's hook on_close. */
void
pqp_guest_gone(PGconn *conn, void *arg)
{
	Guest *guest = lock_guest(conn);

	(void) arg;
	if (!guest)
		return;
	drop(guest);
	unlock();
}

void
pqp_guest_spoiled(PGconn *conn)
{
	Guest *guest = lock_guest(conn);

	if (!guest)
		return;
	guest->spoiled = true;
	unlock();
}

/* The loan's number, and *ticket; 0: it is not from us. */
uint64_t
pqp_guest_loan(PGconn *conn, Ticket **ticket)
{
	Guest *guest = lock_guest(conn);
	uint64_t loan = guest ? guest->loan : 0;

	if (guest && ticket)
		*ticket = guest->ticket;
	if (guest)
		unlock();
	return loan;
}

/* Does the descriptor still lead to where it did?  If not, the guest is gone. */
bool
pqp_guest_socket_kept(PGconn *conn, int *fd)
{
	Guest *guest = lock_guest(conn);
	struct stat st;
	bool kept;

	if (!guest)
		return true; /* not one that has been lent: there was no memory for it */
	kept = guest->fd >= 0 && fstat(guest->fd, &st) == 0 && st.st_dev == guest->device &&
		   st.st_ino == guest->inode;
	*fd = guest->fd;
	if (!kept)
		drop(guest);
	unlock();
	return kept;
}

/*
 * Event loops.
 */

static void
note_watch(Guest *guest, int epoll, bool watched)
{
	for (int i = 0; i < guest->nepolls; i++)
		if (guest->epolls[i] == epoll)
		{
			if (!watched)
				guest->epolls[i] = guest->epolls[--guest->nepolls];
			return;
		}
	if (!watched)
		return;
	if (guest->nepolls == MAX_EPOLLS)
		guest->spoiled = true; /* closing it is what they all forget it by */
	else
		guest->epolls[guest->nepolls++] = epoll;
}

void
pqp_guest_watched(int fd, int epoll, bool watched)
{
	if (nguests == 0 || fd < 0 || fd >= MAX_FD ||
		atomic_load_explicit(&guests_at[fd], memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < BUCKETS; i++)
		for (Guest *guest = table[i]; guest; guest = guest->next)
			if (guest->fd == fd && guest->state != GUEST_IDLE)
				note_watch(guest, epoll, watched);
	unlock();
}

/*
 * Fork.
 *
 * What is lent is the child's as much as its parent's, to use, to cancel, or to
 * close, now or when its parent has long been done with it.  So its parent's is
 * closed for good when the program closes it, and never lent again.  The child's is
 * none of our business.
 */

void
pqp_guests_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
pqp_guests_unlock(void)
{
	unlock();
}

/* With the lock held, in the parent. */
void
pqp_guests_shared(void)
{
	for (int i = 0; i < BUCKETS; i++)
		for (Guest *guest = table[i]; guest; guest = guest->next)
			if (guest->state != GUEST_IDLE)
				guest->spoiled = true;
}

/* Called by fork.c in the child, after it has looked at all sockets. */
void
pqp_guests_forked(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < BUCKETS; i++)
		for (Guest *guest = table[i], *next; guest; guest = next)
		{
			next = guest->next;
			if (guest->state == GUEST_REFUSED)
				continue;
			if (guest->state == GUEST_LENT)
				guest->ticket = NULL; /* it stays with the PGcancels that have it */
			drop(guest);
		}
	unlock();
}

void
pqp_guests_renew(void)
{
	lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}
