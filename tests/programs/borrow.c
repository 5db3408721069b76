/*
 * borrow.c: a pool and borrowers that do what they are told when they are told, for tests
 * about who gets a connection when.
 *
 *	borrow CONNINFO
 *
 * Commands, a line each; every one is answered by a line:
 *
 *	begin ID MS		borrower ID (a small number) acquires, with that timeout, begins a transaction and keeps it
 *	pass ID MS		the same, but he gives the connection back at once
 *	end ID			who keeps one ends his transaction and gives it back
 *	stats			a line of key=value; lists are in the order in which things happened
 *	quit			the end, as is the end of the input
 *
 * Answers do not wait for borrowers: stats says what became of them. At its end the program
 * closes the pool.
 */
#include <pqpool.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BORROWERS 64
#define LIST_BYTES 512

typedef struct Borrower
{
	int id;
	int timeout;
	bool keeps;
	bool told_to_end;
	bool there;
	pthread_t thread;
} Borrower;

static pqpool *pool;
static Borrower borrowers[MAX_BORROWERS];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char served[LIST_BYTES]; /* ids, in the order in which they got a connection */
static char done[LIST_BYTES];	/* the same of those who have given it back */
static char failed[LIST_BYTES]; /* id:code, and ... */
static char message[1024];		/* ... what the last of them was told */

static void
append(char *list, const char *item)
{
	size_t length = strlen(list);

	snprintf(list + length, LIST_BYTES - length, "%s%s", length > 0 ? "," : "", item);
}

static void
note(char *list, int id)
{
	char item[16];

	snprintf(item, sizeof(item), "%d", id);
	pthread_mutex_lock(&mutex);
	append(list, item);
	pthread_mutex_unlock(&mutex);
}

static void
note_failure(int id, const pqpool_error *error)
{
	char item[64];

	snprintf(item, sizeof(item), "%d:%s", id, pqpool_code_name(error->code));
	pthread_mutex_lock(&mutex);
	append(failed, item);
	snprintf(message, sizeof(message), "%s", error->message);
	pthread_mutex_unlock(&mutex);
}

static bool
run(PGconn *conn, const char *command)
{
	PGresult *result = PQexec(conn, command);
	bool good =
		PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	return good;
}

static void *
borrow(void *argument)
{
	Borrower *borrower = argument;
	pqpool_error error;
	PGconn *conn = pqpool_acquire(pool, borrower->timeout, &error);

	if (conn == NULL)
	{
		note_failure(borrower->id, &error);
		return NULL;
	}
	if (!run(conn, borrower->keeps ? "BEGIN; SELECT 1" : "SELECT 1"))
		note(failed, borrower->id);
	note(served, borrower->id);
	if (borrower->keeps)
	{
		pthread_mutex_lock(&mutex);
		while (!borrower->told_to_end)
			pthread_cond_wait(&changed, &mutex);
		pthread_mutex_unlock(&mutex);
		if (!run(conn, "COMMIT"))
			note(failed, borrower->id);
	}
	note(done, borrower->id);
	pqpool_release(conn);
	return NULL;
}

static void
begin(int id, int timeout, bool keeps)
{
	Borrower *borrower = &borrowers[id % MAX_BORROWERS];

	*borrower = (Borrower){ .id = id, .timeout = timeout, .keeps = keeps, .there = true };
	if (pthread_create(&borrower->thread, NULL, borrow, borrower) != 0)
		borrower->there = false;
}

static void
end(int id)
{
	pthread_mutex_lock(&mutex);
	borrowers[id % MAX_BORROWERS].told_to_end = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static const char *
state_name(const pqpool_allotment *allotment)
{
	switch (allotment->state)
	{
		case PQPOOL_LIMIT_OK:
			return "OK";
		case PQPOOL_LIMIT_QUEUED:
			return "QUEUED";
		case PQPOOL_LIMIT_PAUSED:
			return "PAUSED";
		default:
			return "OFF";
	}
}

static void
print_stats(void)
{
	pqpool_statistics stats;
	pqpool_allotment allotment;

	pqpool_stats(pool, &stats);
	pqpool_limits(pool, &allotment);
	pthread_mutex_lock(&mutex);
	printf("size=%d|in_use=%d|idle=%d|waiting=%d|attached=%d|state=%s|limit=%d|lease_left=%lld|"
		   "served=%s|done=%s|failed=%s|message=%s\n",
		   stats.size, stats.in_use, stats.idle, stats.waiting, allotment.attached,
		   state_name(&allotment), allotment.limit, (long long) allotment.lease_left_ms, served,
		   done, failed, message);
	pthread_mutex_unlock(&mutex);
	fflush(stdout);
}

static void
obey(const char *line)
{
	int id, timeout;

	if (sscanf(line, "begin %d %d", &id, &timeout) == 2)
		begin(id, timeout, true);
	else if (sscanf(line, "pass %d %d", &id, &timeout) == 2)
		begin(id, timeout, false);
	else if (sscanf(line, "end %d", &id) == 1)
		end(id);
	print_stats();
}

int
main(int argc, char **argv)
{
	char line[64];
	pqpool_error error;

	pool = pqpool_open(argc > 1 ? argv[1] : "", &error);
	if (pool == NULL)
	{
		fprintf(stderr, "# %s\n", error.message);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "quit\n") != 0)
	{
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
	for (int i = 0; i < MAX_BORROWERS; i++)
		end(i);
	pqpool_close(&pool, 5000);
	for (int i = 0; i < MAX_BORROWERS; i++)
		if (borrowers[i].there)
			pthread_join(borrowers[i].thread, NULL);
	return 0;
}
