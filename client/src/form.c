/*-------------------------------------------------------------------------
 *
 * form.c
 *	  The form in which a program links the library: with threads of its own.
 *
 * preload/form.c stands in its place in the other form, which pools programs
 * that know nothing of it.  See internal.h, "Two forms".
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <fcntl.h>
#include <unistd.h>

const bool pqp_has_threads = true;

/* The program knows that its loans are lent: the sockets are the pool's. */
bool
pqp_socket_kept(Slot *slot)
{
	(void) slot;
	return true;
}

void
pqp_note_socket(Slot *slot)
{
	(void) slot;
}

/*
 * In the child of a fork: whatever goes into this socket from now on is lost,
 * and the parent's session does not hang on it.
 */
void
pqp_cut_socket(PGconn *conn, ino_t inode)
{
	int sock = PQsocket(conn);

	(void) inode;
	if (sock >= 0 && pqp_dev_null >= 0)
		(void) dup3(pqp_dev_null, sock, O_CLOEXEC);
}

void
pqp_finish_cut(PGconn *conn)
{
	PQfinish(conn);
}

void
pqp_form_forked(void)
{
}

void
pqp_form_renew(void)
{
}

void
pqp_form_thread_ends(Thread *thread)
{
	(void) thread;
}
