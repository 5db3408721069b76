/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  A way to a real server that can be made to fall silent at any point.
 *
 *		gate_open(&gate, "127.0.0.1", 0, server_port);	listens at gate.port, passes on
 *		gate_hold(&gate, 8, 1);		no more than so many bytes of each session, up and down
 *		gate_shut(&gate);			the kernel's queue of new connections is full, too
 *		gate_let_go(&gate);			whatever was held goes on
 *		gate_close(&gate);
 *
 * One thread does it.  A connection to the server is made when the first byte
 * has to go there, so that what a client gives up before is none to the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GATE_H
#define GATE_H

#ifndef _GNU_SOURCE
#error "gate.h: POLLRDHUP wants _GNU_SOURCE"
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GATE_SESSIONS 32
#define GATE_FILLERS 4
#define GATE_NO_LIMIT (-1L)

typedef struct Gate
{
	int port;
	int server_port; /* at 127.0.0.1 */
	int listener;
	pthread_t thread;
	atomic_long up; /* bytes that a session may send, and get */
	atomic_long down;
	atomic_bool accepting;
	atomic_bool ending;
	atomic_uint rounds;	 /* of the thread's loop */
	atomic_int accepted; /* sessions that have sent anything */
	int fillers[GATE_FILLERS];
	struct
	{
		int client; /* -1: place is free */
		int server; /* -1: not yet */
		long up;
		long down;
	} sessions[GATE_SESSIONS];
} Gate;

static inline void
gate_fail(const char *what)
{
	printf("Bail out! gate: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(255);
}

static inline struct sockaddr_in
gate_address(const char *address, int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t) port) };

	if (inet_pton(AF_INET, address, &in.sin_addr) != 1)
		gate_fail(address);
	return in;
}

static inline int
gate_connect(const char *address, int port, int flags)
{
	struct sockaddr_in in = gate_address(address, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0 || (connect(fd, (struct sockaddr *) &in, sizeof(in)) != 0 && errno != EINPROGRESS))
		gate_fail("connect");
	return fd;
}

static inline void
gate_admit(Gate *gate)
{
	int client = accept4(gate->listener, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0)
		return;
	for (int i = 0; i < GATE_SESSIONS; i++)
		if (gate->sessions[i].client < 0)
		{
			gate->sessions[i].client = client;
			gate->sessions[i].server = -1;
			gate->sessions[i].up = gate->sessions[i].down = 0;
			return;
		}
	gate_fail("too many sessions");
}

static inline void
gate_drop(Gate *gate, int i)
{
	(void) close(gate->sessions[i].client);
	if (gate->sessions[i].server >= 0)
		(void) close(gate->sessions[i].server);
	gate->sessions[i].client = -1;
}

/* Pass on what may pass.  False: one side has ended. */
static inline bool
gate_pass(int from, int to, long *passed, long limit)
{
	char buf[8192];
	size_t size = sizeof(buf);
	ssize_t n;

	if (limit >= 0 && (size_t) (limit - *passed) < size)
		size = (size_t) (limit - *passed);
	n = recv(from, buf, size, 0);
	if (n <= 0 || send(to, buf, (size_t) n, MSG_NOSIGNAL) != n)
		return false;
	*passed += n;
	return true;
}

static inline bool
gate_may(long passed, long limit)
{
	return limit < 0 || passed < limit;
}

static inline void
gate_serve(Gate *gate, int i, const struct pollfd *client, const struct pollfd *server)
{
	bool good = true;

	if (client->revents & (POLLERR | POLLHUP | POLLRDHUP))
		good = false;
	else if (client->revents & POLLIN)
	{
		if (gate->sessions[i].server < 0)
		{
			gate->sessions[i].server = gate_connect("127.0.0.1", gate->server_port, 0);
			atomic_fetch_add(&gate->accepted, 1);
		}
		good = gate_pass(gate->sessions[i].client, gate->sessions[i].server, &gate->sessions[i].up,
						 atomic_load(&gate->up));
	}
	if (good && server->revents)
		good = gate_pass(gate->sessions[i].server, gate->sessions[i].client,
						 &gate->sessions[i].down, atomic_load(&gate->down));
	if (!good)
		gate_drop(gate, i);
}

static inline void *
gate_main(void *arg)
{
	Gate *gate = arg;

	while (!atomic_load(&gate->ending))
	{
		struct pollfd polls[1 + 2 * GATE_SESSIONS];

		atomic_fetch_add(&gate->rounds, 1);
		polls[0] = (struct pollfd){ .fd = atomic_load(&gate->accepting) ? gate->listener : -1,
									.events = POLLIN };
		for (int i = 0; i < GATE_SESSIONS; i++)
		{
			bool up = gate_may(gate->sessions[i].up, atomic_load(&gate->up));
			bool down = gate->sessions[i].client >= 0 &&
						gate_may(gate->sessions[i].down, atomic_load(&gate->down));

			polls[1 + 2 * i] = (struct pollfd){ .fd = gate->sessions[i].client,
												.events = POLLRDHUP | (up ? POLLIN : 0) };
			polls[2 + 2 * i] =
				(struct pollfd){ .fd = down ? gate->sessions[i].server : -1, .events = POLLIN };
		}
		if (poll(polls, 1 + 2 * GATE_SESSIONS, 5) <= 0)
			continue; /* look what has been changed */
		for (int i = 0; i < GATE_SESSIONS; i++)
			if (gate->sessions[i].client >= 0)
				gate_serve(gate, i, &polls[1 + 2 * i], &polls[2 + 2 * i]);
		if (polls[0].revents)
			gate_admit(gate);
	}
	for (int i = 0; i < GATE_SESSIONS; i++)
		if (gate->sessions[i].client >= 0)
			gate_drop(gate, i);
	return NULL;
}

/* port: 0 for any that is free. */
static inline void
gate_open(Gate *gate, const char *address, int port, int server_port)
{
	struct sockaddr_in in = gate_address(address, port);
	socklen_t length = sizeof(in);
	int yes = 1;

	memset(gate, 0, sizeof(*gate));
	gate->server_port = server_port;
	atomic_store(&gate->up, GATE_NO_LIMIT);
	atomic_store(&gate->down, GATE_NO_LIMIT);
	atomic_store(&gate->accepting, true);
	for (int i = 0; i < GATE_SESSIONS; i++)
		gate->sessions[i].client = gate->sessions[i].server = -1;
	for (int i = 0; i < GATE_FILLERS; i++)
		gate->fillers[i] = -1;
	gate->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void) setsockopt(gate->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	/* a queue so short that gate_shut can fill it */
	if (gate->listener < 0 || bind(gate->listener, (struct sockaddr *) &in, sizeof(in)) != 0 ||
		listen(gate->listener, 1) != 0 ||
		getsockname(gate->listener, (struct sockaddr *) &in, &length) != 0)
		gate_fail(address);
	gate->port = ntohs(in.sin_port);
	if (pthread_create(&gate->thread, NULL, gate_main, gate) != 0)
		gate_fail("no thread");
}

/* Sessions, those that there are, may pass on no more than so many bytes: GATE_NO_LIMIT for any. */
static inline void
gate_hold(Gate *gate, long up, long down)
{
	atomic_store(&gate->up, up);
	atomic_store(&gate->down, down);
}

/* New connections get no answer at all. */
static inline void
gate_shut(Gate *gate)
{
	unsigned rounds;

	atomic_store(&gate->accepting, false);
	/* in the round that has begun it may still accept */
	rounds = atomic_load(&gate->rounds);
	while (atomic_load(&gate->rounds) - rounds < 2)
		(void) usleep(1000);
	for (int i = 0; i < GATE_FILLERS; i++)
		gate->fillers[i] = gate_connect("127.0.0.1", gate->port, SOCK_NONBLOCK);
}

static inline void
gate_let_go(Gate *gate)
{
	for (int i = 0; i < GATE_FILLERS; i++)
	{
		if (gate->fillers[i] >= 0)
			(void) close(gate->fillers[i]);
		gate->fillers[i] = -1;
	}
	gate_hold(gate, GATE_NO_LIMIT, GATE_NO_LIMIT);
	atomic_store(&gate->accepting, true);
}

static inline void
gate_close(Gate *gate)
{
	gate_let_go(gate);
	atomic_store(&gate->ending, true);
	pthread_join(gate->thread, NULL);
	(void) close(gate->listener);
}

#endif /* GATE_H */
