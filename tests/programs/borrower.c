/*
 * borrower.c: borrows connections of a pool and does not give them back, or not soon,
 * steered by its standard input.
 *
 *	borrower CONNINFO
 *
 * Commands, a line each; none is answered, and none waits for what it began:
 *
 *	keep N [SQL]	N threads acquire a connection each, run the SQL if there is any, and keep it
 *	hoard N [SQL]	the same, at another line of this program
 *	run N SQL		they give it back
 *	say SQL			run it on all that is kept
 *	give			give back all that is kept
 *
 * It ends with its input, and gives nothing back.
 */
#include <pqpool.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_KEPT 64

static pqpool *pool;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static PGconn *kept[MAX_KEPT];
static int nkept;

typedef struct Errand
{
	bool keeps;
	bool hoards;
	char sql[256];
} Errand;

/*
 * Under the mutex if conn is kept.  The server may end it, or refuse it: that is the test's
 * business.
 */
static void
ask(PGconn *conn, const char *sql)
{
	if (sql[0] != '\0')
		PQclear(PQexec(conn, sql));
}

static void *
run(void *argument)
{
	Errand *errand = argument;
	PGconn *conn;

	if (errand->hoards)
		conn = pqpool_acquire(pool, 3600000, NULL);
	else
		conn = pqpool_acquire(pool, 3600000, NULL);
	if (conn != NULL)
		ask(conn, errand->sql);
	pthread_mutex_lock(&mutex);
	if (conn != NULL && errand->keeps && nkept < MAX_KEPT)
		kept[nkept++] = conn;
	else if (conn != NULL)
		pqpool_release(conn);
	pthread_mutex_unlock(&mutex);
	free(errand);
	return NULL;
}

static void
send_out(int n, Errand errand)
{
	for (int i = 0; i < n; i++)
	{
		Errand *own = malloc(sizeof(*own));
		pthread_t thread;

		if (own == NULL)
			abort();
		*own = errand;
		if (pthread_create(&thread, NULL, run, own) != 0)
			abort();
		pthread_detach(thread);
	}
}

static void
with_kept(const char *sql, bool give)
{
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < nkept; i++)
	{
		ask(kept[i], sql);
		if (give)
			pqpool_release(kept[i]);
	}
	if (give)
		nkept = 0;
	pthread_mutex_unlock(&mutex);
}

static void
obey(const char *line)
{
	Errand errand = { .keeps = true };
	int n;

	if (sscanf(line, "keep %d %255[^\n]", &n, errand.sql) >= 1)
		send_out(n, errand);
	else if (sscanf(line, "hoard %d %255[^\n]", &n, errand.sql) >= 1)
	{
		errand.hoards = true;
		send_out(n, errand);
	}
	else if (sscanf(line, "run %d %255[^\n]", &n, errand.sql) >= 1)
	{
		errand.keeps = false;
		send_out(n, errand);
	}
	else if (strncmp(line, "say ", 4) == 0)
		with_kept(line + 4, false);
	else if (strcmp(line, "give") == 0)
		with_kept("", true);
	else
		abort();
}

int
main(int argc, char **argv)
{
	static char line[512];
	pqpool_error error;

	pool = pqpool_open(argc > 1 ? argv[1] : "", &error);
	if (pool == NULL)
	{
		fprintf(stderr, "# %s\n", error.message);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
	_exit(0); /* threads may be in the middle of something for ever */
}
