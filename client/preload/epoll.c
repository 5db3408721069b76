/*-------------------------------------------------------------------------
 *
 * epoll.c
 *	  Sockets that event loops do not forget.
 *
 * Closing a socket takes it out of every epoll set, and there are event loops
 * that rely on it.  A connection that stays in the pool stays in the set as well: the loop
 * would hear of what is not its business any more, and could not add the socket anew when it
 * gets the same connection again.  So we note where a guest's socket is put, and take it out when
 * the program closes the connection.
 *
 * Accepted: a loop that adds it by io_uring does not come by here.  libuv, which does so, takes
 * out what it has put in before it lets the connection be closed.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/epoll.h>

typedef int (*EpollCtl)(int, int, int, struct epoll_event *);

static EpollCtl
real(void)
{
	static _Atomic uintptr_t found;
	uintptr_t function = atomic_load_explicit(&found, memory_order_relaxed);

	if (!function)
	{
		function = (uintptr_t) dlsym(RTLD_NEXT, "epoll_ctl");
		atomic_store_explicit(&found, function, memory_order_relaxed);
	}
	return (EpollCtl) function;
}

PQP_EXPORT int
epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	int result = real()(epoll, op, fd, event);

	if (result == 0 && op != EPOLL_CTL_MOD)
		pqp_guest_watched(fd, epoll, op == EPOLL_CTL_ADD);
	return result;
}

/* It may have been closed meanwhile, or be another one: then there is nothing to be taken out. */
void
pqp_epoll_forget(int epoll, int fd)
{
	int saved_errno = errno;
	struct epoll_event none = { 0 };

	(void) real()(epoll, EPOLL_CTL_DEL, fd, &none);
	errno = saved_errno;
}
