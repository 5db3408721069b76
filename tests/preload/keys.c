/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  Which connections are the same, how many kinds of them there are, and what
 *	  becomes of those that nobody asks for any more.
 *
 * environment: PQPOOL_MAX_SIZE = 3
 * server: max_connections = 20
 * server: wal_level = replica
 * server: max_wal_senders = 3
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "preload.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <locale.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CONNECTIONS 20 /* that the server takes */
#define LOW 64		   /* descriptors */

static char dir[] = "/tmp/keysXXXXXX"; /* replaced by TESTDIR's */

static const char *
path_of(const char *name)
{
	static char path[4][1024];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", getenv("TESTDIR") ? getenv("TESTDIR") : dir, name);
	return path[i];
}

/* A file of another size than before, each time. */
static void
write_file(const char *path, const char *text)
{
	static int padding;
	FILE *file = fopen(path, "w");

	if (!file)
	{
		printf("Bail out! %s: %m\n", path);
		exit(1);
	}
	fputs(text, file);
	for (int i = 0; i < padding; i++)
		fputs("#\n", file);
	padding++;
	fclose(file);
	(void) chmod(path, 0600);
}

/* Connect, close, and which session it was. */
static int
pid_of(const char *conninfo)
{
	PGconn *conn = must_connect(conninfo);
	int pid = PQbackendPID(conn);

	PQfinish(conn);
	return pid;
}

/*---- many kinds ----*/

static int
kind(int i)
{
	char conninfo[64];
	PGconn *conn;
	int pid;

	snprintf(conninfo, sizeof(conninfo), "application_name=kind%d", i);
	conn = PQconnectdb(conninfo);
	pid = PQstatus(conn) == CONNECTION_OK ? PQbackendPID(conn) : 0;
	PQfinish(conn);
	return pid;
}

static int
open_kinds(PGconn *conn)
{
	return atoi(
		ask(conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^kind'"));
}

static void
test_many_kinds(void)
{
	int failures = 0, pid = 0, before, next = 0;
	PGconn *conn = must_connect("application_name=other");

	for (int i = 0; i < CONNECTIONS / 2; i++)
		failures += kind(i) == 0;
	/*
	 * One whose reset was answered too late gives way when the next one is opened.  Of so few kinds
	 * that the server is not full if none gives way: that would close all.
	 */
	ok(WAIT_FOR((kind(CONNECTIONS / 2 + next++ % 7), open_kinds(conn) <= 3)),
	   "no more lie idle than one kind may have: %d", open_kinds(conn));
	PQfinish(conn);
	for (int i = 0; i < 2 * CONNECTIONS; i++)
	{
		before = pid;
		pid = kind(i);
		failures += pid == 0;
	}
	is_int(failures, 0, "more kinds than the server takes connections");
	is_int(kind(2 * CONNECTIONS - 1), pid, "the last one is there");
	is_int(kind(2 * CONNECTIONS - 2), before, "and the one before it");
	pid = kind(0);
	(void) kind(1);
	(void) kind(2);
	is_int(kind(0), pid, "the oldest kind is asked for again");
	(void) kind(3);
	is_int(kind(0), pid, "so that another one gives way");
	for (int i = 0; i < 1100; i++)
	{
		before = kind(i);
		failures += before == 0;
	}
	is_int(failures, 0, "more kinds than keys");
	is_int(kind(1099), before, "the last one is pooled as the first");
}

/*---- no room ----*/

/* Idle ones give way, until the program itself has all that there is. */
static void
test_full(void)
{
	PGconn *held[CONNECTIONS + 1];
	int good = 0;

	for (int i = 0; i < 3; i++)
		(void) kind(i);
	for (int i = 0; i <= CONNECTIONS; i++)
	{
		char conninfo[64];

		/* some of them from a pool, some beyond */
		snprintf(conninfo, sizeof(conninfo), "application_name=held%d", i % 3 ? i : 0);
		/* one that has given way may not have ended on the server yet; the last one is refused */
		(void) WAIT_FOR((held[i] = PQconnectdb(conninfo), PQstatus(held[i]) == CONNECTION_OK) ||
						i == CONNECTIONS || (PQfinish(held[i]), false));
		good += PQstatus(held[i]) == CONNECTION_OK;
	}
	is_int(good, CONNECTIONS, "a program may hold all that the server has");
	ok(strstr(PQerrorMessage(held[CONNECTIONS]), "too many clients"),
	   "and hears of the next one from libpq: %s", PQerrorMessage(held[CONNECTIONS]));
	for (int i = 0; i <= CONNECTIONS; i++)
		PQfinish(held[i]);
}

/* What is idle has descriptors, which the program may need for something else. */
static void
test_no_descriptors(void)
{
	struct rlimit limit, low;
	int taken[LOW], n = 0;
	PGconn *held, *conn;

	for (int i = 0; i < 3; i++)
		(void) kind(i);
	held = must_connect("application_name=kind0"); /* one less is idle than may be */
	(void) getrlimit(RLIMIT_NOFILE, &limit);
	low = (struct rlimit){ .rlim_cur = LOW, .rlim_max = limit.rlim_max };
	(void) setrlimit(RLIMIT_NOFILE, &low);
	while (n < LOW && (taken[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	ok(n > 0 && n < LOW, "a program has no descriptor left");
	conn = PQconnectdb("application_name=descriptors");
	is_int(PQstatus(conn), CONNECTION_OK, "what is idle gives way: %s", PQerrorMessage(conn));
	PQfinish(conn);
	while (n > 0)
		close(taken[--n]);
	(void) setrlimit(RLIMIT_NOFILE, &limit);
	PQfinish(held);
}

/*---- files ----*/

typedef struct Waiter
{
	pthread_t thread;
	_Atomic pid_t tid;
	_Atomic bool done;
	bool good;
} Waiter;

static void *
wait_for_one(void *arg)
{
	Waiter *waiter = arg;
	PGconn *conn;

	waiter->tid = gettid();
	conn = PQconnectdb("application_name=renewed");
	waiter->good = PQstatus(conn) == CONNECTION_OK;
	if (!waiter->good)
		diag("%s", PQerrorMessage(conn));
	PQfinish(conn);
	waiter->done = true;
	return NULL;
}

static bool
sleeps(pid_t tid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int) tid);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%*d %*s %c", &state) != 1)
		state = 0;
	if (file)
		fclose(file);
	return state == 'S';
}

/* In the queue, as it looks; if not, less is tested. */
static void
wait_until_asleep(const Waiter *waiter)
{
	int asleep = 0;

	(void) WAIT_FOR(waiter->done ||
					(waiter->tid != 0 && (asleep = sleeps(waiter->tid) ? asleep + 1 : 0) >= 50));
}

static void
test_file_changes(void)
{
	PGconn *conn, *other;
	Waiter waiters[3] = { 0 };
	int pid, good = 0;

	setenv("PGPASSFILE", path_of("pass"), 1);
	setenv("PQPOOL_MAX_SIZE", "1", 1);
	write_file(path_of("pass"), "a:b:c:d:e\n");
	conn = must_connect("application_name=renewed");
	pid = PQbackendPID(conn);
	for (int i = 0; i < 3; i++)
		pthread_create(&waiters[i].thread, NULL, wait_for_one, &waiters[i]);
	for (int i = 0; i < 3; i++)
		wait_until_asleep(&waiters[i]);
	write_file(path_of("pass"), "a:b:c:d:f\n");
	other = must_connect("application_name=renewed");
	ok(PQbackendPID(other) != pid, "a file has changed: another session");
	PQfinish(other);
	for (int i = 0; i < 3; i++)
	{
		pthread_join(waiters[i].thread, NULL);
		good += waiters[i].good;
	}
	is_int(good, 3, "those who waited for one by the old file get one by the new");
	PQfinish(conn);
	unsetenv("PGPASSFILE");
	setenv("PQPOOL_MAX_SIZE", "3", 1);
}

static void
test_service_files(void)
{
	PGconn *conn;
	int pid;

	setenv("PGSERVICEFILE", path_of("service"), 1);
	setenv("PGSYSCONFDIR", path_of("."), 1);
	conn = PQconnectdb("service=mine");
	ok(strstr(PQerrorMessage(conn), "service") && !strstr(PQerrorMessage(conn), "pool"),
	   "no such service: libpq says so: %s", PQerrorMessage(conn));
	PQfinish(conn);
	write_file(path_of("service"), "[mine]\ndbname=postgres\n");
	pid = pid_of("service=mine");
	is_int(pid_of("service=mine"), pid, "when the file is there it is pooled");

	write_file(path_of("pg_service.conf"), "[ours]\ndbname=postgres\n");
	pid = pid_of("service=ours");
	is_int(pid_of("service=ours"), pid, "a service of the system's is pooled");
	write_file(path_of("pg_service.conf"), "[ours]\ndbname=template1\n");
	conn = must_connect("service=ours");
	is_str(PQdb(conn), "template1", "until its file changes");
	PQfinish(conn);
	unsetenv("PGSERVICEFILE");
	unsetenv("PGSYSCONFDIR");
}

/* libpq looks for files in HOME, and in its user's home if there is none. */
static void
test_home(void)
{
	const char *value = getenv("HOME");
	char *home = value ? strdup(value) : NULL;
	PGconn *conn;
	int pid;

	setenv("HOME", path_of("."), 1);
	write_file(path_of(".pg_service.conf"), "[housed]\ndbname=postgres\n");
	pid = pid_of("service=housed");
	is_int(pid_of("service=housed"), pid, "a service of HOME's file is pooled");
	write_file(path_of(".pg_service.conf"), "[housed]\ndbname=template1\n");
	conn = must_connect("service=housed");
	is_str(PQdb(conn), "template1", "until that file changes");
	PQfinish(conn);
	pid = pid_of("application_name=housed");
	is_int(pid_of("application_name=housed"), pid, "at home a session is had again");
	unsetenv("HOME");
	ok(pid_of("application_name=housed") != pid, "without HOME it is another one");
	pid = pid_of("application_name=housed");
	is_int(pid_of("application_name=housed"), pid, "which is had again as well");
	if (home)
		setenv("HOME", home, 1);
	free(home);
}

/*---- what is said in another way ----*/

static void
test_empty_values(void)
{
	PGconn *conn;
	int pid;

	setenv("PGOPTIONS", "-c work_mem=5MB", 1);
	conn = must_connect("options=''");
	is_str(ask(conn, "SHOW work_mem"), "4MB", "an empty value keeps the environment's out");
	PQfinish(conn);
	unsetenv("PGOPTIONS");
	conn = PQconnectdb("dbname=''"); /* the user's own, which may not be there */
	is_str(PQdb(conn), PQuser(conn), "so it does of a database's name");
	PQfinish(conn);
	pid = pid_of("application_name=empty password=''");
	is_int(pid_of("application_name=empty password=''"), pid, "an empty password means nothing");
	pid = pid_of("application_name=empty options='' hostaddr=''");
	is_int(pid_of("application_name=empty options='' hostaddr=''"), pid,
		   "nor does what is empty by default");
	setenv("PGPASSWORD", "secret", 1);
	conn = must_connect("application_name=empty password=''");
	is_str(PQpass(conn), "", "unless there is another one");
	PQfinish(conn);
	unsetenv("PGPASSWORD");
}

static void
test_encoding(void)
{
	PGconn *conn;

	for (int i = 0; i < 2; i++)
	{
		(void) setlocale(LC_CTYPE, i ? "C.UTF-8" : "C");
		conn = must_connect("client_encoding=auto");
		is_str(ask(conn, "SHOW client_encoding"), i ? "UTF8" : "SQL_ASCII",
			   "the locale's encoding");
		PQfinish(conn);
	}
	(void) setlocale(LC_CTYPE, "C");
}

static void
test_replication(void)
{
	const char *conninfo = "replication=database application_name=walsender";
	int pid = pid_of(conninfo);

	ok(pid_of(conninfo) != pid, "a replication connection is not pooled");
	setenv("PGSERVICEFILE", path_of("service"), 1);
	write_file(path_of("service"), "[walsender]\nreplication=database\n");
	pid = pid_of("service=walsender");
	ok(pid_of("service=walsender") != pid, "nor one by a service file");
	unsetenv("PGSERVICEFILE");
}

/*---- what it is opened with, fed back as psql does ----*/

static PGconn *
same_again(PGconn *conn)
{
	PQconninfoOption *all = PQconninfo(conn);
	const char *keywords[64], *values[64];
	PGconn *again;
	int n = 0;

	for (PQconninfoOption *option = all; option->keyword; option++)
		if (option->val && option->val[0])
		{
			keywords[n] = option->keyword;
			values[n++] = option->val;
		}
	keywords[n] = values[n] = NULL;
	PQfinish(conn);
	again = PQconnectdbParams(keywords, values, 0);
	PQconninfoFree(all);
	return again;
}

static void
test_fed_back(void)
{
	PGconn *conn = must_connect("application_name=fed options='-c work_mem=6MB'");
	int pid;

	is_str(PQoptions(conn), "-c work_mem=6MB", "the options are the program's own");
	conn = same_again(conn);
	pid = PQbackendPID(conn);
	for (int i = 0; i < 4; i++)
		conn = same_again(conn);
	is_int(PQbackendPID(conn), pid, "fed back, they lead to the same session");
	is_str(PQoptions(conn), "-c work_mem=6MB", "and are as they were");
	is_str(ask(conn, "SHOW work_mem"), "6MB", "and obeyed");
	ok(strstr(ask(conn, "SHOW pgpool_monitor.pool"), "fed"), "the server knows the pool");
	PQfinish(conn);
}

/*---- a server that is none: it takes no settings that it does not know ----*/

static _Atomic int fake_refused, fake_taken;

static size_t
put(char *to, char type, const void *bytes, uint32_t n)
{
	uint32_t length = htonl(n + 4);

	to[0] = type;
	memcpy(to + 1, &length, 4);
	memcpy(to + 5, bytes, n);
	return n + 5;
}

static void
fake_session(int sock)
{
	static const char refusal[] =
		"SFATAL\0C42704\0Munrecognized configuration parameter \"pgpool_monitor.pool\"\0";
	char startup[4096], answer[4096];
	uint32_t key[2];
	ssize_t n = read(sock, startup, sizeof(startup));
	size_t used = 0;

	if (n > 0 && memmem(startup, (size_t) n, "pgpool_monitor", 14))
	{
		fake_refused++;
		used += put(answer, 'E', refusal, sizeof(refusal));
		(void) !write(sock, answer, used);
		close(sock);
		return;
	}
	key[0] = htonl((uint32_t) ++fake_taken);
	key[1] = 0;
	used += put(answer + used, 'R', "\0\0\0", 4);
	used += put(answer + used, 'S', "server_version\0008.0.2", 21);
	used += put(answer + used, 'K', key, 8);
	used += put(answer + used, 'Z', "I", 1);
	(void) !write(sock, answer, used);
}

static void *
fake_server(void *arg)
{
	for (;;)
		fake_session(accept(*(int *) arg, NULL, NULL));
	return NULL;
}

static void
test_fake_server(void)
{
	static int sock;
	struct sockaddr_in address = { .sin_family = AF_INET,
								   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	pthread_t thread;
	char conninfo[2048];
	int pid;

	sock = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(sock, (struct sockaddr *) &address, length) != 0 || listen(sock, 10) != 0 ||
		getsockname(sock, (struct sockaddr *) &address, &length) != 0)
	{
		ok(false, "a server: %m");
		return;
	}
	pthread_create(&thread, NULL, fake_server, &sock);
	pthread_detach(thread);
	snprintf(conninfo, sizeof(conninfo),
			 "host=127.0.0.1 port=%d sslmode=disable gssencmode=disable sslcert=%s",
			 ntohs(address.sin_port), path_of("cert"));
	setenv("PQPOOL_RESET", "none", 1);
	pid = pid_of(conninfo);
	is_int(fake_refused, 1, "a server that knows no settings like ours refuses once");
	is_int(pid_of(conninfo), pid, "and is pooled without");
	is_int(fake_taken, 1, "in one session");
	write_file(path_of("cert"), "certificate\n");
	ok(pid_of(conninfo) != pid, "a certificate comes: another session");
	setenv("PQPOOL_RESET", "discard", 1);
}

int
main(void)
{
	unsetenv("PGAPPNAME");
	if (!getenv("TESTDIR") && !mkdtemp(dir))
		return 1;
	test_many_kinds();
	test_full();
	test_no_descriptors();
	test_file_changes();
	test_service_files();
	test_home();
	test_empty_values();
	test_encoding();
	test_replication();
	test_fed_back();
	test_fake_server();
	return done_testing();
}
