/*-------------------------------------------------------------------------
 *
 * sim.c
 *	  One run, in a process of its own: the extension's files have state that lasts
 *	  as long as their process.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

static int answer_to = -1; /* the parent's end of a pipe */

static void
answer_and_exit(void)
{
	if (write(answer_to, &result, sizeof(result)) != sizeof(result))
		_exit(3);
	_exit(0);
}

void
sim_fail(const char *format, ...)
{
	va_list arguments;
	int n = snprintf(result.failure, sizeof(result.failure),
					 "at %.3f s: ", (double) (sim_now - 1000 * SECOND) / (double) SECOND);

	va_start(arguments, format);
	vsnprintf(result.failure + n, sizeof(result.failure) - (size_t) n, format, arguments);
	va_end(arguments);
	answer_and_exit();
	abort();
}

static void
run(const Scenario *scenario, SimSize size, uint64 seed, FILE *series)
{
	memset(&result, 0, sizeof(result));
	clients = calloc(MAX_CLIENTS, sizeof(Client));
	if (clients == NULL)
		abort();
	events_init(seed);
	judge_series(series);
	scenario->run(size);
	judge_finish();
	if (series != NULL)
		fflush(series);
	answer_and_exit();
}

bool
sim_run(const Scenario *scenario, SimSize size, uint64 seed, FILE *series, Result *out)
{
	int ends[2];
	int status;
	ssize_t got;
	pid_t pid;

	fflush(NULL);
	if (pipe(ends) != 0 || (pid = fork()) < 0)
		abort();
	if (pid == 0)
	{
		answer_to = ends[1];
		run(scenario, size, seed, series);
	}
	close(ends[1]);
	got = read(ends[0], out, sizeof(*out));
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (got != sizeof(*out))
	{
		memset(out, 0, sizeof(*out));
		snprintf(out->failure, sizeof(out->failure), "the run ended with status 0x%x", status);
	}
	return out->failure[0] == '\0';
}
