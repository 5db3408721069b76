/*-------------------------------------------------------------------------
 *
 * opening.c
 *	  Opening a connection is in nobody's way, and takes no longer than it may.
 *
 * Whatever stage the server, or the way to it, falls silent at: a caller is
 * back by his own deadline and told where it hangs; another's release reaches
 * a waiter; closing the pool does not wait; and when the server wakes up, the
 * connection that was begun is finished, and the pool's.
 *
 * Then: connect_timeout by libpq's rules, of several hosts and addresses;
 * target_session_attrs; and what we set where the user sets nothing.
 *
 * server: listen_addresses = 127.0.0.1
 * server: wal_level = replica
 * server: max_wal_senders = 4
 * flags: -ldl
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "client.h"

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#include "certificate.h"
#include "descriptors.h"
#include "gate.h"

static PGconn *direct;
static int server_port;

/*---- names ----*/

/*
 * The C library's, but for two names: the dynamic linker gives libpq this one.
 */
static atomic_bool look_ups_hang;
static atomic_int look_ups;

static int
real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
				 struct addrinfo **found)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (!real)
		*(void **) &real = dlsym(RTLD_NEXT, "getaddrinfo");
	return real(node, service, hints, found);
}

int
getaddrinfo(const char *restrict node, const char *restrict service,
			const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	int rc;

	if (node && strcmp(node, "slow.test") == 0)
	{
		atomic_fetch_add(&look_ups, 1);
		while (atomic_load(&look_ups_hang))
			sleep_ms(2);
		return real_getaddrinfo("127.0.0.1", service, hints, found);
	}
	if (!node || strcmp(node, "two.test") != 0)
		return real_getaddrinfo(node, service, hints, found);
	rc = real_getaddrinfo("127.0.0.2", service, hints, found);
	return rc != 0 ? rc : real_getaddrinfo("127.0.0.1", service, hints, &(*found)->ai_next);
}

/*---- the stages ----*/

static Gate gate;
static pid_t postmaster;

typedef struct Stage
{
	const char *name;
	const char *conninfo; /* %d is the gate's port */
	void (*hold)(void);
	void (*let_go)(void);
	const char *words; /* what the caller is told */
} Stage;

static void
hold_look_up(void)
{
	atomic_store(&look_ups_hang, true);
}

static void
let_look_up_go(void)
{
	atomic_store(&look_ups_hang, false);
}

static void
hold_connect(void)
{
	gate_shut(&gate);
}

static void
hold_everything(void)
{
	gate_hold(&gate, 0, 0);
}

/* The request for TLS goes up, "S" comes down, and that is it. */
static void
hold_handshake(void)
{
	gate_hold(&gate, 8, 1);
}

static void
hold_answers(void)
{
	gate_hold(&gate, GATE_NO_LIMIT, 0);
}

static void
let_gate_go(void)
{
	gate_let_go(&gate);
}

static void
stop_server(void)
{
	if (kill(postmaster, SIGSTOP) != 0)
		give_up("cannot stop the server");
}

static void
continue_server(void)
{
	(void) kill(postmaster, SIGCONT);
}

#define NO_TLS "sslmode=disable gssencmode=disable "
#define TLS "sslmode=require gssencmode=disable "

static const Stage stages[] = {
	{ "name look-up", "host=slow.test " NO_TLS, hold_look_up, let_look_up_go,
	  "connection to server at \"slow.test\": waiting for the name look-up" },
	{ "TCP connection", "host=127.0.0.1 port=%d " NO_TLS, hold_connect, let_gate_go,
	  "waiting for the connection request to be accepted" },
	{ "answer to the TLS request", "host=127.0.0.1 port=%d " TLS, hold_everything, let_gate_go,
	  "waiting for the answer to the TLS request" },
	{ "TLS handshake", "host=127.0.0.1 port=%d " TLS, hold_handshake, let_gate_go,
	  "waiting for the TLS handshake" },
	{ "authentication", "host=127.0.0.1 port=%d " NO_TLS, hold_answers, let_gate_go,
	  "waiting for authentication" },
	{ "stopped server", "", stop_server, continue_server, "waiting for authentication" },
};

static pqpool *
open_stage_pool(const Stage *stage, const char *more)
{
	char conninfo[500];
	size_t used;

	used = (size_t) snprintf(conninfo, sizeof(conninfo), stage->conninfo, gate.port);
	snprintf(conninfo + used, sizeof(conninfo) - used,
			 " pool_report=off application_name=staged %s", more);
	return open_pool(conninfo);
}

/* A caller who cannot wait is told why; the connection he began is the next one's. */
static void
check_deadline(const Stage *stage)
{
	pqpool *pool = open_stage_pool(stage, "pool_max_size=1");
	pqpool_error err;
	PGconn *conn;

	stage->hold();
	conn = pqpool_acquire(pool, 300, &err);
	ok(conn == NULL, "%s: a caller is back while it hangs", stage->name);
	is_code(err.code, PQPOOL_TIMED_OUT, "... timed out");
	ok(strstr(err.message, stage->words) != NULL, "... and told what for: %s", err.message);
	ok(strstr(err.cause, stage->words) != NULL, "... as the cause, too: %s", err.cause);
	is_int(stats_of(pool).opening, 1, "... while it is still being opened");
	stage->let_go();
	ok(WAIT_FOR(stats_of(pool).idle == 1), "... and finished when the server is back");
	/* but for the keeper, who may be looking at it */
	ok(WAIT_FOR((conn = pqpool_acquire(pool, 0, &err)) != NULL),
	   "... so that the next caller need not wait");
	ok(query_int(conn, "SELECT 1") == 1, "... it works");
	is_int(stats_of(pool).opened, 1, "... it is the one that was begun");
	ok(WAIT_FOR(count_sessions(direct, "staged") == 1), "... the server has not seen another");
	is_int(stats_of(pool).open_failures, 0, "... and nothing has failed");
	if (conn)
		(void) pqpool_release(conn);
	is_code(pqpool_close(&pool, PATIENCE_S * 1000), PQPOOL_OK, "... closed");
}

typedef struct Turn
{
	pqpool *pool;
	_Atomic(PGconn *) got;
} Turn;

static void
take_turn(int index, void *arg)
{
	Turn *turn = arg;

	(void) index;
	atomic_store(&turn->got, acquire_or_give_up(turn->pool));
}

/* A waiter takes whichever comes first. */
static void
check_release(const Stage *stage)
{
	Turn turn = { .pool = open_stage_pool(stage, "pool_max_size=2") };
	Threads threads = { 0 };
	PGconn *lent = acquire_or_give_up(turn.pool);

	stage->hold();
	start_thread(&threads, take_turn, &turn);
	if (!WAIT_FOR(stats_of(turn.pool).waiting == 1 && stats_of(turn.pool).opening == 1))
		give_up("%s: nothing is being opened for a waiter", stage->name);
	(void) pqpool_release(lent);
	ok(WAIT_FOR(atomic_load(&turn.got) != NULL), "%s: a release reaches him who waits",
	   stage->name);
	ok(atomic_load(&turn.got) == lent && stats_of(turn.pool).opening == 1,
	   "... while the one that was begun for him hangs");
	join_threads(&threads);
	(void) pqpool_release(lent);
	stage->let_go();
	ok(WAIT_FOR(stats_of(turn.pool).idle == 2), "... which is the pool's later");
	(void) pqpool_close(&turn.pool, -1);
}

/* Closing does not wait longer than asked, and what hangs is given up. */
static void
check_close(const Stage *stage)
{
	pqpool *pool = open_stage_pool(stage, "pool_max_size=1");
	int before, code;

	/* a helper and the keeper are there */
	(void) pqpool_release(acquire_or_give_up(pool));
	(void) pqpool_close(&pool, -1);
	before = count_descriptors();
	pool = open_stage_pool(stage, "pool_max_size=1 connect_timeout=0");
	stage->hold();
	is_code(acquire_code(pool, 50), PQPOOL_TIMED_OUT, "%s: hangs once more", stage->name);
	code = pqpool_close(&pool, 100);
	ok(code == PQPOOL_TIMED_OUT || code == PQPOOL_OK, "... close is back while it does");
	if (stage->let_go == let_look_up_go)
		stage->let_go();
	if (stage->hold == hold_connect)
		before += GATE_FILLERS;
	ok(WAIT_FOR(count_descriptors() <= before), "... and its descriptor is given up");
	stage->let_go();
	ok(WAIT_FOR(count_sessions(direct, "staged") == 0), "... the server has nothing of it");
}

static void
test_stages(void)
{
	for (int i = 0; i < countof(stages); i++)
	{
		gate_open(&gate, "127.0.0.1", 0, server_port);
		check_deadline(&stages[i]);
		check_release(&stages[i]);
		gate_close(&gate);
		gate_open(&gate, "127.0.0.1", 0, server_port);
		check_close(&stages[i]);
		gate_close(&gate);
	}
}

/* However many pools hang, another one opens. */
static void
test_many_hang(void)
{
	pqpool *hanging[10], *pool;

	gate_open(&gate, "127.0.0.1", 0, server_port);
	hold_everything();
	for (int i = 0; i < countof(hanging); i++)
	{
		hanging[i] = open_stage_pool(&stages[4], "pool_min_size=1 connect_timeout=0");
		if (!WAIT_FOR(stats_of(hanging[i]).opening == 1))
			give_up("nothing is being opened");
	}
	pool = open_pool("pool_max_size=1");
	is_code(acquire_code(pool, PATIENCE_S * 1000), PQPOOL_OK,
			"while the connections of ten other pools hang, one is opened");
	(void) pqpool_close(&pool, -1);
	let_gate_go();
	for (int i = 0; i < countof(hanging); i++)
		(void) pqpool_close(&hanging[i], -1);
	gate_close(&gate);
}

/*---- connect_timeout ----*/

/* Host and port that a pool gets to when the gate, which is first, is silent. */
static void
check_next(const char *name, void (*hold)(void), const char *conninfo)
{
	char text[500];
	double start = now_s();
	pqpool *pool;
	pqpool_error err;
	PGconn *conn;

	gate_open(&gate, "127.0.0.1", 0, server_port);
	hold();
	snprintf(text, sizeof(text), conninfo, gate.port, server_port);
	pool = open_pool(text);
	conn = pqpool_acquire(pool, PATIENCE_S * 1000, &err);
	ok(conn != NULL && query_int(conn, "SELECT 1") == 1, "%s: the second host serves: %s", name,
	   conn ? "" : err.message);
	ok(conn == NULL || atoi(PQport(conn)) == server_port, "... it is that one");
	ok(now_s() - start >= 1.9, "... after the first had its two seconds");
	if (conn)
		(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
	gate_close(&gate);
}

static void
test_next_host(void)
{
#define TWO_HOSTS "host=127.0.0.1,127.0.0.1 port=%d,%d "

	check_next("no connection", hold_connect, TWO_HOSTS NO_TLS "connect_timeout=2");
	check_next("no answer to the TLS request", hold_everything, TWO_HOSTS TLS "connect_timeout=1");
	check_next("no TLS handshake", hold_handshake, TWO_HOSTS TLS "connect_timeout=2");
	check_next("no authentication", hold_answers,
			   TWO_HOSTS NO_TLS "connect_timeout=2 target_session_attrs=read-write");
	check_next("hostaddr", hold_answers,
			   "host=one.test,two.test hostaddr=127.0.0.1,127.0.0.1 port=%d,%d " NO_TLS
			   "connect_timeout=2");
	setenv("PGCONNECT_TIMEOUT", "2", 1);
	check_next("PGCONNECT_TIMEOUT", hold_answers, TWO_HOSTS NO_TLS);
	unsetenv("PGCONNECT_TIMEOUT");
}

/* A single host: the time is over, and told. */
static void
test_only_host(void)
{
	char conninfo[200];
	pqpool_error err;
	pqpool *pool;

	gate_open(&gate, "127.0.0.1", 0, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d " NO_TLS "connect_timeout=1",
			 gate.port);
	pool = open_pool(conninfo);
	ok(pqpool_acquire(pool, PATIENCE_S * 1000, &err) == NULL, "connect_timeout, no other host");
	is_code(err.code, PQPOOL_SERVER_DOWN, "... the server is down");
	ok(strstr(err.cause, "failed: timeout expired after 2.") != NULL &&
		   strstr(err.cause, "waiting for authentication") != NULL,
	   "... because: %s", err.cause);
	(void) pqpool_close(&pool, -1);

	snprintf(conninfo, sizeof(conninfo),
			 "host=127.0.0.1,127.0.0.1 port=%d,1 " NO_TLS "connect_timeout=2", gate.port);
	pool = open_pool(conninfo);
	ok(pqpool_acquire(pool, PATIENCE_S * 1000, &err) == NULL, "one host silent, one down");
	ok(strstr(err.cause, "timeout expired") != NULL && strstr(err.cause, "port 1 failed") != NULL,
	   "... both are told: %s", err.message);
	(void) pqpool_close(&pool, -1);
	gate_close(&gate);
}

/* A name with two addresses, the first of them silent. */
static void
test_next_address(void)
{
	char conninfo[200];
	pqpool *pool;
	PGconn *conn;

	gate_open(&gate, "127.0.0.2", server_port, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(conninfo, sizeof(conninfo), "host=two.test port=%d " NO_TLS "connect_timeout=2",
			 server_port);
	pool = open_pool(conninfo);
	conn = acquire_or_give_up(pool);
	is_str(PQhostaddr(conn), "127.0.0.1", "the second address of a name serves");
	is_str(PQhost(conn), "two.test", "... by the name");
	is_int(stats_of(pool).open_failures, 0, "... in the same attempt");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
	gate_close(&gate);
}

static void
let_go_at(int sessions)
{
	if (!WAIT_FOR(atomic_load(&gate.accepted) == sessions))
		give_up("%d sessions were begun, not %d", atomic_load(&gate.accepted), sessions);
	gate_let_go(&gate);
}

/* Without a connect_timeout a server that is slow is waited for, yet another one is tried. */
static void
test_no_timeout_given(void)
{
	Threads threads = { 0 };
	Turn turn = { 0 };
	char conninfo[200];
	double start;

	gate_open(&gate, "127.0.0.1", 0, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d " NO_TLS, gate.port);
	turn.pool = open_pool(conninfo);
	start_thread(&threads, take_turn, &turn);
	sleep_ms(6000);
	let_go_at(1);
	join_threads(&threads);
	is_int(atomic_load(&gate.accepted), 1, "a slow server is not given up: one session");
	is_int(stats_of(turn.pool).open_failures, 0, "... and no failure");
	(void) pqpool_release(turn.got);
	(void) pqpool_close(&turn.pool, -1);
	gate_close(&gate);

	gate_open(&gate, "127.0.0.1", 0, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(conninfo, sizeof(conninfo), TWO_HOSTS NO_TLS, gate.port, server_port);
	turn.pool = open_pool(conninfo);
	start = now_s();
	turn.got = acquire_or_give_up(turn.pool);
	is_int(atoi(PQport(turn.got)), server_port, "of two hosts the silent one is left");
	ok(now_s() - start >= 4.9, "... after five seconds");
	(void) pqpool_release(turn.got);
	(void) pqpool_close(&turn.pool, -1);
	gate_close(&gate);

	gate_open(&gate, "127.0.0.1", 0, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(conninfo, sizeof(conninfo), TWO_HOSTS NO_TLS, gate.port, 1);
	turn.got = NULL;
	turn.pool = open_pool(conninfo);
	start_thread(&threads, take_turn, &turn);
	let_go_at(2);
	join_threads(&threads);
	is_int(atoi(PQport(turn.got)), gate.port, "... and come back to if the other is down");
	is_int(stats_of(turn.pool).open_failures, 0, "... in the same attempt");
	(void) pqpool_release(turn.got);
	(void) pqpool_close(&turn.pool, -1);
	gate_close(&gate);
}

/*---- two servers ----*/

static char standby[200]; /* its directory, and that of its socket */
static char bindir[200];

__attribute__((format(printf, 1, 2))) static bool
shell(const char *format, ...)
{
	char command[2000];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	return system(command) == 0;
}

static void
start_standby(void)
{
	char *text = query_text(direct, "SELECT setting FROM pg_config WHERE name = 'BINDIR'");

	snprintf(bindir, sizeof(bindir), "%s", text);
	free(text);
	snprintf(standby, sizeof(standby), "%s/standby.XXXXXX",
			 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(standby) == NULL)
		give_up("no directory");
	if (!shell("'%s/pg_basebackup' -R -c fast -D '%s/data' >'%s/log' 2>&1", bindir, standby,
			   standby) ||
		!shell("'%s/pg_ctl' -D '%s/data' -l '%s/log' -w start >/dev/null 2>&1 "
			   "-o \"-c listen_addresses= -c unix_socket_directories='%s'\"",
			   bindir, standby, standby, standby))
		give_up("no standby; see %s/log", standby);
}

static void
stop_standby(void)
{
	ok(shell("'%s/pg_ctl' -D '%s/data' -m fast -w stop >/dev/null 2>&1", bindir, standby),
	   "the standby is stopped");
	(void) shell("rm -rf '%s'", standby);
}

/* Which server does a pool get to? */
static void
check_target(const char *target, bool want_standby, const char *hosts)
{
	char conninfo[800];
	pqpool *pool;
	PGconn *conn;
	pqpool_error err;

	snprintf(conninfo, sizeof(conninfo), "%s target_session_attrs=%s", hosts, target);
	pool = open_pool(conninfo);
	conn = pqpool_acquire(pool, PATIENCE_S * 1000, &err);
	is_int(conn ? query_int(conn, "SELECT pg_is_in_recovery()::int") : -2, want_standby,
		   "%s: the right server (%s)", target, conn ? PQhost(conn) : err.message);
	if (conn)
		(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

static void
test_targets(void)
{
	char hosts[600];
	char path[300];
	FILE *file;

	start_standby();
	snprintf(hosts, sizeof(hosts), "host=%s,127.0.0.1 port=%d " NO_TLS, standby, server_port);
	check_target("any", true, hosts);
	check_target("read-write", false, hosts);
	check_target("primary", false, hosts);
	check_target("read-only", true, hosts);
	check_target("standby", true, hosts);
	check_target("prefer-standby", true, hosts);

	/* the same with a silent one in front, so that we have to begin anew */
	gate_open(&gate, "127.0.0.1", 0, server_port);
	gate_hold(&gate, GATE_NO_LIMIT, 0);
	snprintf(hosts, sizeof(hosts),
			 "host=127.0.0.1,%s,127.0.0.1 port=%d,%d,%d connect_timeout=2 " NO_TLS, standby,
			 gate.port, server_port, server_port);
	check_target("read-write", false, hosts);
	check_target("standby", true, hosts);
	check_target("prefer-standby", true, hosts);
	/* the first time around nobody is good enough */
	snprintf(hosts, sizeof(hosts), "host=127.0.0.1,127.0.0.1 port=%d,%d connect_timeout=2 " NO_TLS,
			 server_port, gate.port);
	check_target("prefer-standby", false, hosts);

	/* all of it from a service file */
	snprintf(path, sizeof(path), "%s/services", standby);
	file = fopen(path, "w");
	if (file == NULL)
		give_up("no service file");
	fprintf(file,
			"[three]\nhost=127.0.0.1,%s,127.0.0.1\nport=%d,%d,%d\nconnect_timeout=2\n"
			"sslmode=disable\ngssencmode=disable\ndbname=postgres\n",
			standby, gate.port, server_port, server_port);
	fclose(file);
	setenv("PGSERVICEFILE", path, 1);
	check_target("read-write", false, "service=three");
	check_target("read-only", true, "service=three");
	unsetenv("PGSERVICEFILE");
	gate_close(&gate);
	stop_standby();
}

/*---- what we set ----*/

static int
option(PGconn *conn, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	(void) getsockopt(PQsocket(conn), level, name, &value, &length);
	return value;
}

static void
check_keepalives(const char *what, const char *conninfo, int on, int idle, int interval, int count,
				 int user_timeout)
{
	pqpool *pool = open_pool(conninfo);
	PGconn *conn = acquire_or_give_up(pool);

	is_int(option(conn, SOL_SOCKET, SO_KEEPALIVE), on, "%s: keepalives", what);
	if (idle > 0)
	{
		is_int(option(conn, IPPROTO_TCP, TCP_KEEPIDLE), idle, "... idle");
		is_int(option(conn, IPPROTO_TCP, TCP_KEEPINTVL), interval, "... interval");
		is_int(option(conn, IPPROTO_TCP, TCP_KEEPCNT), count, "... count");
		is_int(option(conn, IPPROTO_TCP, TCP_USER_TIMEOUT), user_timeout, "... user timeout");
	}
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

static void
test_keepalives(void)
{
	char path[300];
	FILE *file;

	check_keepalives("nothing given", "host=127.0.0.1", 1, 30, 10, 3, 0);
	check_keepalives("some given", "host=127.0.0.1 keepalives_idle=7 tcp_user_timeout=9000", 1, 7,
					 10, 3, 9000);
	check_keepalives("no user timeout", "host=127.0.0.1 tcp_user_timeout=0", 1, 30, 10, 3, 0);
	check_keepalives("turned off", "host=127.0.0.1 keepalives=0", 0, 0, 0, 0, 0);
	check_keepalives("a Unix socket", "", 0, 0, 0, 0, 0);

	snprintf(path, sizeof(path), "%s/services.XXXXXX",
			 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	file = fdopen(mkstemp(path), "w");
	if (file == NULL)
		give_up("no service file");
	fprintf(file, "[alive]\nhost=127.0.0.1\nkeepalives_interval=4\n");
	fclose(file);
	setenv("PGSERVICEFILE", path, 1);
	check_keepalives("a service file", "service=alive keepalives_count=5", 1, 30, 4, 5, 0);
	unsetenv("PGSERVICEFILE");
	unlink(path);
}

static void
test_bad_timeouts(void)
{
	static const char *const bad[] = { "soon", "1.5", "10s", "99999999999" };

	for (int i = 0; i < countof(bad); i++)
	{
		char conninfo[100];
		pqpool_error err;

		snprintf(conninfo, sizeof(conninfo), "connect_timeout=%s", bad[i]);
		ok(pqpool_open(conninfo, &err) == NULL && err.code == PQPOOL_BAD_OPTION &&
			   strstr(err.message, bad[i]) != NULL,
		   "no time: %s", err.message);
	}
}

int
main(void)
{
	char *directory;
	char path[1000];
	FILE *file;
	int before;

	direct = connect_directly("application_name=direct");
	server_port = (int) query_int(direct, "SHOW port");
	directory = query_text(direct, "SHOW data_directory");
	snprintf(path, sizeof(path), "%s/postmaster.pid", directory);
	free(directory);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%d", &postmaster) != 1)
		give_up("no %s", path);
	fclose(file);
	speak_tls(direct);

	test_bad_timeouts();
	test_keepalives();
	before = count_descriptors();
	test_stages();
	test_many_hang();
	test_next_host();
	test_only_host();
	test_next_address();
	test_no_timeout_given();
	test_targets();
	ok(WAIT_FOR(count_descriptors() <= before), "no descriptor is left");
	PQfinish(direct);
	return done_testing();
}
