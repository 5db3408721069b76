/*-------------------------------------------------------------------------
 *
 * form.c
 *	  The form in which the library is preloaded: without threads.
 *
 * Stands in the place of ../src/form.c.  The program does not know that there are sockets
 * which are not its own.  It closes them, takes their numbers for something else, and forks in
 * between; so here is what has to be done before one is touched or freed, and the one set of
 * handlers of fork for all locks, in the order that preload.h gives.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const bool pqp_has_threads = false;

/*
 * PGconns whose descriptor was closed behind their backs, and has become another's.
 * They cannot be freed before that number is nobody's again.  Without a lock, which a fork could
 * find taken: who looks at them takes them all, and puts back what has to stay.
 */
typedef struct Lost
{
	struct Lost *next;
	PGconn *conn;
	int fd;
} Lost;

static _Atomic(Lost *) stranded;

/*
 * libpq will write to that number and close it, so it has to be ours for that
 * moment: the one that is asked for is given only if nobody has it.
 */
static bool
finish_lost(PGconn *conn, int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int taken = null < 0 || null == fd ? null : fcntl(null, F_DUPFD_CLOEXEC, fd);
	bool ours = taken == fd && fd >= 0;

	if (ours)
		pqp_libpq.PQfinish(conn);
	else if (taken >= 0 && taken != null)
		(void) close(taken);
	if (null >= 0 && null != fd)
		(void) close(null);
	return ours;
}

static void
strand(Lost *lost)
{
	lost->next = atomic_load(&stranded);
	while (!atomic_compare_exchange_weak(&stranded, &lost->next, lost))
		;
}

static void
finish_stranded(void)
{
	for (Lost *lost = atomic_exchange(&stranded, NULL), *next; lost; lost = next)
	{
		next = lost->next;
		if (finish_lost(lost->conn, lost->fd))
			free(lost);
		else
			strand(lost);
	}
}

/* Free it, now or when the next one is lost.  Without memory it stays for ever. */
static void
finish_or_strand(PGconn *conn, int fd)
{
	Lost *lost;

	finish_stranded();
	if (finish_lost(conn, fd))
		return;
	lost = malloc(sizeof(*lost));
	if (!lost)
		return;
	*lost = (Lost){ .conn = conn, .fd = fd };
	strand(lost);
}

/*
 * The program does not know that the pool has sockets.  It may have closed
 * all descriptors, as daemons do, or the one that it knew, and opened others that got the same
 * numbers.  What is not ours any more must be neither read nor written nor closed.
 */
bool
pqp_socket_kept(Slot *slot)
{
	int fd;

	if (slot->lost)
		return false;
	/* libpq has closed it, and the number is anybody's: nothing of it will be touched */
	if (pqp_libpq.PQsocket(slot->conn) < 0)
		return true;
	if (pqp_guest_socket_kept(slot->conn, &fd))
		return true;
	pqp_lookup_remove(slot);
	slot->lost = true;
	if (pqp_libpq.PQsocket(slot->conn) == fd)
		finish_or_strand(slot->conn, fd);
	else
		pqp_libpq.PQfinish(slot->conn); /* it has made another one since */
	slot->conn = NULL;
	return false;
}

/*
 * Fork.
 */

void
pqp_note_socket(Slot *slot)
{
	struct stat st;

	slot->inode = fstat(pqp_libpq.PQsocket(slot->conn), &st) == 0 ? st.st_ino : 0;
}

/*
 * In the child.  It may be another's by now, also in the parent, or because the child of
 * this child was made meanwhile.
 */
void
pqp_cut_socket(PGconn *conn, ino_t inode)
{
	int fd = pqp_libpq.PQsocket(conn);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == inode)
		(void) close(fd);
}

/* Since then the program may have closed and opened whatever it likes. */
void
pqp_finish_cut(PGconn *conn)
{
	int fd = pqp_libpq.PQsocket(conn);

	if (fd < 0)
		pqp_libpq.PQfinish(conn);
	else
		finish_or_strand(conn, fd);
}

void
pqp_form_forked(void)
{
	pqp_guests_forked();
	pqp_claim_forked();
}

void
pqp_form_thread_ends(Thread *thread)
{
	pqp_claim_undo(thread);
}

void
pqp_form_renew(void)
{
	pqp_guests_renew();
	pqp_keys_renew();
	pqp_libpqs_renew();
}

/*
 * Fork: all locks, in the order of preload.h.  Until something is pooled only the first
 * one is anybody's, and it keeps that so.
 *
 * Registered before the program begins, and so before its own handlers: they are run
 * while nothing is locked, and may call us.  Accepted: those that a library has registered in
 * its constructor, which may be run earlier than ours, may not.
 */

static void
before_fork(void)
{
	pqp_libpqs_lock();
	if (!pqp_is_pooling())
		return;
	pqp_keys_lock();
	pqp_fork_begins();
	pqp_guests_lock();
}

static void
in_parent(void)
{
	if (pqp_is_pooling())
	{
		pqp_guests_shared();
		pqp_guests_unlock();
		pqp_fork_ends();
		pqp_keys_unlock();
	}
	pqp_libpqs_unlock();
}

static void
in_child(void)
{
	if (pqp_is_pooling())
	{
		pqp_guests_unlock();
		pqp_fork_in_child();
		pqp_keys_unlock();
	}
	pqp_libpqs_unlock();
}

__attribute__((constructor)) static void
begin(void)
{
	(void) pthread_atfork(before_fork, in_parent, in_child);
}
