/*
 * hello.c: open a pool, borrow a connection, ask one question, give it back.
 *
 *	cc -pthread -o hello hello.c $(pkg-config --cflags --libs libpqpool)
 *	PGHOST=... PGUSER=... ./hello
 */
#include <pqpool.h>
#include <stdio.h>

int
main(void)
{
	pqpool_error err;
	pqpool *pool = pqpool_open("dbname=postgres pool_name=hello pool_max_size=4", &err);
	PGconn *conn = pool != NULL ? pqpool_acquire(pool, 5000, &err) : NULL;
	int status = 1;

	if (conn == NULL)
		fprintf(stderr, "hello: %s\n", err.message);
	else
	{
		PGresult *result = PQexec(conn, "SELECT version()");

		if (PQresultStatus(result) == PGRES_TUPLES_OK)
			status = printf("%s\n", PQgetvalue(result, 0, 0)) < 0;
		else
			fprintf(stderr, "hello: %s", PQerrorMessage(conn));
		PQclear(result);
		pqpool_release(conn);
	}
	pqpool_close(&pool, 1000);
	return status;
}
