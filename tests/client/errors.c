/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  Why there is no connection: the code, libpq's own words, the SQLSTATE.
 *
 * server: max_connections = 12
 * server: superuser_reserved_connections = 3
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

static PGconn *direct;

/* An acquire with a minute's time must fail early, with all that is known. */
static void
check_failure(const char *conninfo, int code, const char *sqlstate, const char *words,
			  const char *what)
{
	pqpool *pool = open_pool(conninfo);
	pqpool_error err;
	double start = now_s();
	PGconn *conn;

	memset(&err, 0xff, sizeof(err));
	conn = pqpool_acquire(pool, PATIENCE_S * 1000, &err);
	ok(conn == NULL, "%s: no connection", what);
	is_code(err.code, code, "%s: the code", what);
	is_str(err.sqlstate, sqlstate, "%s: the SQLSTATE", what);
	ok(strstr(err.cause, words) != NULL, "%s: libpq's words: %.*s", what,
	   (int) strcspn(err.cause, "\n"), err.cause);
	ok(strstr(err.message, words) != NULL && strchr(err.message, '\n') == NULL,
	   "%s: they are in the message, which is one line: %s", what, err.message);
	ok(now_s() - start < PATIENCE_S, "%s: told before the deadline", what);
	ok(stats_of(pool).open_failures > 0 && stats_of(pool).waiting == 0, "%s: it was counted", what);
	is_code(pqpool_close(&pool, PATIENCE_S * 1000), PQPOOL_OK, "%s: the pool closes", what);
}

/* Let the role "guarded" in with a password only. */
static bool
require_password(void)
{
	char *path = query_text(direct, "SHOW hba_file");
	FILE *file = fopen(path, "r");
	char old[20000] = "";
	bool done = false;

	if (file != NULL)
	{
		old[fread(old, 1, sizeof(old) - 1, file)] = '\0';
		fclose(file);
		file = fopen(path, "w");
	}
	if (file != NULL)
	{
		fprintf(file, "local all guarded scram-sha-256\nhost all guarded all scram-sha-256\n%s",
				old);
		done = fclose(file) == 0 && run(direct, "SELECT pg_reload_conf()");
	}
	free(path);
	return done;
}

static void
test_refused(void)
{
	PGconn *probe;

	check_failure("dbname=no_such_database", PQPOOL_REFUSED, "3D000", "no_such_database",
				  "no database");
	check_failure("user=no_such_role", PQPOOL_REFUSED, "28000", "no_such_role", "no role");
	check_failure("options='-c no_such_setting=1'", PQPOOL_REFUSED, "42704", "no_such_setting",
				  "a setting that the server does not know");
	if (!run(direct, "DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'right'") ||
		!require_password())
	{
		diag("cannot edit pg_hba.conf");
		return;
	}
	/* a reload is done when the server does as the file says */
	for (int i = 0; i < 3000; i++)
	{
		probe = PQconnectdb("user=guarded password=wrong");
		if (PQstatus(probe) != CONNECTION_OK)
			i = 3000;
		else
			sleep_ms(20);
		PQfinish(probe);
	}
	check_failure("user=guarded password=wrong", PQPOOL_REFUSED, "28P01",
				  "password authentication failed", "a wrong password");
	check_failure("user=guarded", PQPOOL_REFUSED, "", "no password supplied", "no password");
	{
		pqpool *pool = open_pool("user=guarded password=right");

		is_code(acquire_code(pool, -1), PQPOOL_OK, "the right password");
		(void) pqpool_close(&pool, -1);
	}
}

static void
test_down(void)
{
	check_failure("host=/nonexistent", PQPOOL_SERVER_DOWN, "", "/nonexistent", "no socket");
	check_failure("host=127.0.0.1 port=1 pool_max_size=1", PQPOOL_SERVER_DOWN, "", "port 1",
				  "nobody listens");
	check_failure("host=no-such-host.invalid", PQPOOL_SERVER_DOWN, "", "no-such-host.invalid",
				  "no such host");
}

static void
test_full(void)
{
	pqpool *pool;
	PGconn *others[20] = { NULL };
	PGconn *conns[9];
	pqpool_error err;
	int n = 0, lent = 0;

	if (!run(direct, "DROP ROLE IF EXISTS many, one; CREATE ROLE many LOGIN; CREATE ROLE one LOGIN "
					 "CONNECTION LIMIT 1"))
		give_up("no roles");

	/* the role may hold one session, and holds it */
	others[0] = connect_directly("user=one");
	check_failure("user=one", PQPOOL_SERVER_FULL, "53300", "too many connections for role",
				  "a role at its limit");
	PQfinish(others[0]);

	/* the server is full of others' sessions */
	while (n < countof(others))
	{
		others[n] = PQconnectdb("user=many");
		if (PQstatus(others[n++]) != CONNECTION_OK)
			break;
	}
	check_failure("user=many", PQPOOL_SERVER_FULL, "53300", "connection slots", "a full server");

	/* room for three: then three are lent, and the others wait for them instead of failing */
	for (int i = 0; i < 4 && n > 0; i++)
		PQfinish(others[--n]);
	if (!WAIT_FOR(
			query_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'many'") == n))
		give_up("sessions live on");
	pool = open_pool("user=many pool_max_size=9");
	for (int i = 0; i < 3; i++)
		conns[lent++] = acquire_or_give_up(pool);
	ok(pqpool_acquire(pool, 500, &err) == NULL, "a fourth has to wait for one of the three");
	is_code(err.code, PQPOOL_TIMED_OUT, "until its deadline");
	ok(strstr(err.cause, "connection slots") != NULL, "and learns why no more could be opened: %s",
	   err.message);
	is_str(err.sqlstate, "53300", "with the SQLSTATE");
	(void) pqpool_release(conns[--lent]);
	ok((conns[lent++] = pqpool_acquire(pool, -1, &err)) != NULL, "one that comes back is lent");
	while (lent > 0)
		(void) pqpool_release(conns[--lent]);
	while (n > 0)
		PQfinish(others[--n]);
	/* when there is room again, the pool grows again */
	for (int i = 0; i < 5; i++)
	{
		conns[lent] = pqpool_acquire(pool, PATIENCE_S * 1000, &err);
		lent += conns[lent] != NULL;
	}
	is_int(lent, 5, "with room on the server the pool grows");
	while (lent > 0)
		(void) pqpool_release(conns[--lent]);
	(void) pqpool_close(&pool, -1);
}

static void
test_options(void)
{
	static const struct
	{
		const char *conninfo;
		const char *words;
	} cases[] = { { "pool_maxsize=3", "pool_maxsize" },
				  { "pool_max_size=0", "pool_max_size" },
				  { "postgresql://h/d?pool_reset=some", "rollback" },
				  { "hots=x", "hots" },
				  { "host=x nonsense", "position 8" },
				  { "pool_min_size=2 pool_max_size=1", "pool_min_size" },
				  { "service=no_such_service", "no_such_service" } };

	for (int i = 0; i < countof(cases); i++)
	{
		pqpool_error err;

		ok(pqpool_open(cases[i].conninfo, &err) == NULL, "not a pool: %s", cases[i].conninfo);
		is_code(err.code, PQPOOL_BAD_OPTION, "... because of its options");
		ok(strstr(err.message, cases[i].words) != NULL, "... as it says: %s", err.message);
		ok(pqpool_open(cases[i].conninfo, NULL) == NULL,
		   "... also to those who do not want to know");
	}
}

/* The texts: complete, and there for any number. */
static void
test_texts(void)
{
	int wrong = 0;

#define CHECK_CODE(name, number, text)                       \
	wrong += strcmp(pqpool_code_name(number), #name) != 0 || \
			 strcmp(pqpool_strerror(number), text) != 0;
	PQPOOL_CODES(CHECK_CODE)
	is_int(wrong, 0, "each code has its name and its text");
	for (int i = -1000; i < 1000; i++)
		wrong += pqpool_code_name(i) == NULL || pqpool_strerror(i) == NULL;
	is_int(wrong, 0, "and each other number has some");
	is_int(sizeof(pqpool_error), 2048, "an error takes 2 KiB");
	is_str(pqpool_version(), PQPOOL_VERSION, "the version");
	is_int(pqpool_version_number(), PQPOOL_VERSION_NUMBER, "its number");
}

/* Recovery: a server that was down, and is there now. */
static void
test_recovery(void)
{
	char directory[] = "/tmp/pqp_away.XXXXXX";
	char conninfo[300], from[300], to[300];
	pqpool *pool;

	if (mkdtemp(directory) == NULL)
		give_up("no directory");
	snprintf(conninfo, sizeof(conninfo), "host=%s port=%s", directory, getenv("PGPORT"));
	snprintf(from, sizeof(from), "%s/.s.PGSQL.%s", getenv("PGHOST"), getenv("PGPORT"));
	snprintf(to, sizeof(to), "%s/.s.PGSQL.%s", directory, getenv("PGPORT"));
	pool = open_pool(conninfo);
	is_code(acquire_code(pool, PATIENCE_S * 1000), PQPOOL_SERVER_DOWN,
			"a server that is not there");
	if (symlink(from, to) != 0)
		give_up("no link");
	ok(WAIT_FOR(acquire_code(pool, PATIENCE_S * 1000) == PQPOOL_OK), "is found when it is");
	unlink(to);
	rmdir(directory);
	(void) pqpool_close(&pool, -1);
}

int
main(void)
{
	direct = connect_directly("application_name=direct");
	test_texts();
	test_options();
	test_refused();
	test_down();
	test_full();
	test_recovery();
	PQfinish(direct);
	return done_testing();
}
