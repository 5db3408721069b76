/*
 * loop.c: one thread, an event loop, and more questions than connections: nothing in it blocks.
 *
 *	cc -pthread -o loop loop.c $(pkg-config --cflags --libs libpqpool)
 *	PGHOST=... PGUSER=... ./loop [QUESTIONS]
 *
 * Each question waits for a connection, in the pool, then for its answer, at the
 * connection's socket. The loop waits for both by one epoll: for the inbox's descriptor,
 * and for the sockets of those that have asked.
 */
#include <pqpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define EVENTS 16

typedef struct Question
{
	int number;
	PGconn *conn; /* NULL: has none yet */
} Question;

static int loop; /* epoll */
static int answered, failed;

static void
watch(int op, int fd, void *of)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = of };

	if (epoll_ctl(loop, op, fd, &event) != 0)
	{
		perror("loop: epoll_ctl");
		exit(1);
	}
}

/* The connection is idle again, or broken: either way it goes back, and neither blocks. */
static void
end(Question *question, int ok)
{
	watch(EPOLL_CTL_DEL, PQsocket(question->conn), NULL);
	(void) pqpool_release(question->conn);
	answered += ok;
	failed += !ok;
}

/*
 * A connection for this question.  So short a query goes out at once; what may
 * be longer than a socket's buffer needs PQsetnonblocking and PQflush, too.
 */
static void
ask(Question *question, PGconn *conn)
{
	char sql[64];

	question->conn = conn;
	watch(EPOLL_CTL_ADD, PQsocket(conn), question);
	(void) snprintf(sql, sizeof(sql), "SELECT %d, pg_sleep(0.01)", question->number);
	if (!PQsendQuery(conn, sql))
		end(question, 0);
}

/* Its socket can be read. */
static void
listen_to(Question *question)
{
	int ok = PQconsumeInput(question->conn);
	PGresult *result;

	while (ok && !PQisBusy(question->conn))
	{
		result = PQgetResult(question->conn);
		if (result == NULL) /* that was all */
		{
			end(question, 1);
			return;
		}
		ok = PQresultStatus(result) == PGRES_TUPLES_OK &&
			 atoi(PQgetvalue(result, 0, 0)) == question->number;
		PQclear(result);
	}
	if (!ok)
	{
		fprintf(stderr, "loop: %s", PQerrorMessage(question->conn));
		end(question, 0);
	}
}

static void
empty(pqpool_inbox *inbox)
{
	pqpool_error err;
	PGconn *conn;
	void *question;

	while (pqpool_inbox_next(inbox, &question, &conn, &err))
	{
		if (conn != NULL)
			ask(question, conn);
		else
		{
			fprintf(stderr, "loop: %s\n", err.message);
			failed++;
		}
	}
}

static void
run(pqpool_inbox *inbox, int questions)
{
	struct epoll_event events[EVENTS];

	while (answered + failed < questions)
	{
		int n = epoll_wait(loop, events, EVENTS, -1);

		for (int i = 0; i < n; i++)
		{
			if (events[i].data.ptr == inbox)
				empty(inbox);
			else
				listen_to(events[i].data.ptr);
		}
	}
}

int
main(int argc, char **argv)
{
	int questions = argc > 1 ? atoi(argv[1]) : 100;
	Question *all = questions > 0 ? calloc((size_t) questions, sizeof(*all)) : NULL;
	pqpool_error err = { 0 };
	pqpool *pool =
		pqpool_open("dbname=postgres pool_name=loop pool_max_size=4 pool_max_waiters=100000", &err);
	pqpool_inbox *inbox = pool != NULL ? pqpool_inbox_open(&err) : NULL;

	loop = epoll_create1(EPOLL_CLOEXEC);
	if (all == NULL || inbox == NULL || loop < 0)
	{
		fprintf(stderr, "loop: %s\n",
				err.code != PQPOOL_OK ? err.message : "usage: loop [QUESTIONS]");
		free(all);
		return 1;
	}
	watch(EPOLL_CTL_ADD, pqpool_inbox_fd(inbox), inbox);
	for (int i = 0; i < questions; i++)
	{
		all[i].number = i;
		if (pqpool_acquire_start(pool, -1, inbox, &all[i], NULL, &err) != PQPOOL_OK)
		{
			fprintf(stderr, "loop: %s\n", err.message);
			failed++;
		}
	}
	run(inbox, questions);
	printf("%d answered, %d failed\n", answered, failed);
	(void) pqpool_inbox_close(&inbox);
	(void) pqpool_close(&pool, 5000);
	free(all);
	return failed > 0;
}
