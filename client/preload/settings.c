/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  What the user says to a preloaded pool, and what it says to him.
 *
 * Settings come by the environment, for there is nothing else: those of the pool
 * (PQPOOL_MAX_SIZE and so on, see ../include/pqpool.h), read when a pool is made; and
 * ours, read when the program starts:
 *
 *		PQPOOL_PRELOAD	off: do nothing
 *		PQPOOL_STRICT	on: a bad option ends the program with status 2
 *		PQPOOL_STATS	on: a summary on standard error when it exits
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE 1200
#define LAST_ANSWERS_US 100000

Summary pqp_summary;
bool pqp_enabled;

static bool strict;
static bool stats;
static pid_t starter; /* its children are not asked for a summary: they have none of their own */

/* One line, whole, whatever else the program writes. */
void
pqp_say(const char *format, ...)
{
	char line[LINE];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	if (n > (int) sizeof(line) - 2)
		n = (int) sizeof(line) - 2;
	line[n++] = '\n';
	(void) !write(STDERR_FILENO, line, (size_t) n);
}

/* Said once: the next connection has the same environment. */
void
pqp_bad_option(const pqpool_error *err)
{
	static _Atomic bool said;

	if (!atomic_exchange(&said, true))
		pqp_say("pqpool: %s; %s", err->message,
				strict ? "not started, as PQPOOL_STRICT is on" : "the program runs without a pool");
	if (strict)
		_exit(2);
}

/* False: not set, or no word for it. */
static bool
is_on(const char *variable, bool by_default)
{
	const char *value = getenv(variable);

	if (!value || !value[0])
		return by_default;
	if (strcmp(value, "on") == 0 || strcmp(value, "1") == 0)
		return true;
	if (strcmp(value, "off") == 0 || strcmp(value, "0") == 0)
		return false;
	pqp_say("pqpool: %s is \"%s\": it must be on or off; taken as %s", variable, value,
			by_default ? "on" : "off");
	return by_default;
}

/* A program with more rights than its user takes nothing from his environment. */
__attribute__((constructor)) static void
start(void)
{
	if (getauxval(AT_SECURE))
		return;
	pqp_enabled = is_on("PQPOOL_PRELOAD", true);
	strict = is_on("PQPOOL_STRICT", false);
	stats = is_on("PQPOOL_STATS", false);
	starter = getpid();
}

/* The pools' hook: they may be gone when they would be asked. */
void
pqp_count_closed(const pqpool_event *event, void *arg)
{
	(void) arg;
	if (event->type == PQPOOL_EVENT_CLOSED)
		pqp_count(&pqp_summary.closed[event->reason], 1);
}

static void
say_closed(void)
{
	static const char *const reasons[PQPOOL_CLOSE_REASONS] = {
		[PQPOOL_CLOSE_IDLE] = "idle",
		[PQPOOL_CLOSE_LIFETIME] = "lifetime",
		[PQPOOL_CLOSE_LIMIT] = "limit",
		[PQPOOL_CLOSE_DRAIN] = "drain",
		[PQPOOL_CLOSE_DEAD] = "dead",
		[PQPOOL_CLOSE_UNFIT] = "unfit",
		[PQPOOL_CLOSE_DISCARD] = "spoiled",
		[PQPOOL_CLOSE_POOL] = "files changed",
		[PQPOOL_CLOSE_FINISHED] = "socket lost",
	};
	char text[400] = "";
	size_t used = 0;
	uint64_t all = 0;

	for (int i = 0; i < PQPOOL_CLOSE_REASONS; i++)
	{
		uint64_t n = pqp_summary.closed[i];

		if (n == 0 || used >= sizeof(text))
			continue;
		all += n;
		used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%llu %s", used ? ", " : "",
								  (unsigned long long) n, reasons[i] ? reasons[i] : "other");
	}
	pqp_say("pqpool: connections discarded: %llu%s%s%s", (unsigned long long) all, all ? " (" : "",
			text, all ? ")" : "");
}

/* What the reused ones would have taken, had each been opened as the others were. */
static double
seconds_saved(void)
{
	return pqp_summary.opened == 0 ? 0
								   : (double) pqp_summary.opening_us / (double) pqp_summary.opened *
										 (double) pqp_summary.reused / 1e6;
}

/*
 * The kernel closes what is idle when the program ends.  If an answer to a reset is on its way
 * then, the server notes in its log that the client was gone; so it is waited for a
 * little, and thrown away.  By sockets alone: TLS may have been taken down already.
 */
static void
take_answer(int fd, int64_t until)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char bytes[4096];

	if (poll(&wait, 1, pqp_poll_ms(until)) > 0)
		while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
}

static void
take_answers(void)
{
	int64_t until = pqp_now() + LAST_ANSWERS_US;
	int fd;

	for (Pool *pool = pqp_registry_next(NULL); pool; pool = pqp_registry_next(pool))
	{
		/* not for a thread that goes on while the process ends */
		if (pthread_mutex_trylock(&pool->lock) != 0)
			continue;
		for (Slot *slot = pool->resets; slot; slot = slot->next)
			if (pqp_guest_socket_kept(slot->conn, &fd))
				take_answer(fd, until);
		pthread_mutex_unlock(&pool->lock);
	}
}

__attribute__((destructor)) static void
finish(void)
{
	if (pqp_enabled && pqp_summary.asked > 0)
	{
		pqp_after_fork();
		take_answers();
	}
	if (!pqp_enabled || !stats || getpid() != starter)
		return;
	pqp_say(
		"pqpool: connections asked for: %llu; reused: %llu; opened: %llu, %llu failed; not pooled: "
		"%llu; beyond the maximum: %llu; refused: %llu",
		(unsigned long long) pqp_summary.asked, (unsigned long long) pqp_summary.reused,
		(unsigned long long) pqp_summary.opened, (unsigned long long) pqp_summary.failed,
		(unsigned long long) pqp_summary.passed, (unsigned long long) pqp_summary.beyond,
		(unsigned long long) pqp_summary.refused);
	say_closed();
	pqp_say("pqpool: time saved: %.3f s, of %.3f s for opening", seconds_saved(),
			seconds_saved() + (double) pqp_summary.opening_us / 1e6);
}
