# Ways of getting at libpq: linked, opened later, opened so that we are looked past, twice, not at all; and what processes do to
# themselves: exec, vfork, daemons.

use strict;
use warnings;

use File::Copy;
use IPC::Run;
use PgpoolMonitor;
use Test::More;

my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $node = PgpoolMonitor::node('loading');
my $work = PostgreSQL::Test::Utils::tempdir();
my $libdir = config('--libdir');
my @libpq = ('-I' . config('--includedir'), "-L$libdir", "-Wl,-rpath,$libdir");

sub config
{
	my ($what) = @_;
	my $value = `"$ENV{PG_CONFIG}" $what`;
	chomp $value;
	return $value;
}

# Compile TEXT to FILE, below the work directory.
sub build
{
	my ($file, $text, @flags) = @_;
	open(my $source, '>', "$work/$file.c") or die "$file: $!";
	print $source $text;
	close $source or die "$file: $!";
	IPC::Run::run([ $ENV{CC}, '-O1', '-o', "$work/$file", "$work/$file.c", @flags ]) or die "$file does not compile";
	return "$work/$file";
}

# (status, standard output, what the pool did: asked/reused)
sub result_of
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($<));
	IPC::Run::run([ $run, '--stats', '--', @command ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	my $status = $?;
	my ($asked, $reused) = $err =~ /asked for: (\d+); reused: (\d+)/;
	diag($err) if $status != 0 && $err !~ /^(pqpool: .*\n)+\z/;
	return ($status, $out, defined $asked ? "$asked/$reused" : 'nothing said');
}

# What plugins have in common: connect twice, say whether that was one process.
my $twice = <<'END';
#include <libpq-fe.h>
#include <stdio.h>
int twice(void)
{
	PGconn *conn = PQconnectdb("");
	int pid = PQbackendPID(conn), good = PQstatus(conn) == CONNECTION_OK;
	PQfinish(conn);
	conn = PQconnectdb("");
	good = good && PQstatus(conn) == CONNECTION_OK;
	printf("%s\n", !good ? "failed" : PQbackendPID(conn) == pid ? "pooled" : "not pooled");
	PQfinish(conn);
	return !good;
}
END

my $opener = build('opener', <<'END', '-ldl');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
	int mode = RTLD_NOW | (argc > 2 && strstr(argv[2], "deep") ? RTLD_DEEPBIND : 0) |
			   (argc > 2 && strstr(argv[2], "global") ? RTLD_GLOBAL : 0);
	for (int i = 0; i < 3; i++)
	{
		void *handle = dlopen(argv[1], mode);
		int (*twice)(void) = handle ? (int (*)(void)) dlsym(handle, "twice") : NULL;
		if (!twice)
		{
			printf("%s\n", dlerror());
			return 1;
		}
		if (twice() != 0)
			return 2;
		dlclose(handle);
	}
	return 0;
}
END

# --- opened later

my $plugin = build('plugin.so', $twice, '-shared', '-fPIC', @libpq, '-lpq');
for my $mode ('local', 'global', 'deep', 'deep,global')
{
	my ($status, $out, $did) = result_of($opener, $plugin, $mode);
	is("$status $out", "0 pooled\npooled\npooled\n", "a plugin, opened in mode $mode");
	is($did, '6/5', "a plugin, opened in mode $mode: one session for all");
}

# Whoever opens has his libraries where he says: that must not become where we are.
mkdir "$work/inner" or die "inner: $!";
build('inner/libinner.so', "int twice(void) { return 0; }\n", '-shared', '-fPIC');
build('libmiddle.so', <<'END', '-shared', '-fPIC', '-Wl,-rpath,$ORIGIN/inner', '-ldl');
#include <dlfcn.h>
#include <stdio.h>
int twice(void)
{
	printf("%s\n", dlopen("libinner.so", RTLD_NOW) ? "found" : dlerror());
	return 0;
}
END
is((result_of($opener, "$work/libmiddle.so"))[1], "found\nfound\nfound\n", 'dlopen looks where its caller says');

# What is no library at all is the loader's to complain of.
for my $file ("$work/opener.c", "$work/nonesuch.so", $work)
{
	my (undef, $with) = result_of($opener, $file, 'deep');
	local $ENV{PQPOOL_PRELOAD} = 'off';
	my (undef, $without) = result_of($opener, $file, 'deep');
	is($with, $without, 'what cannot be opened: ' . ($file =~ s{.*/}{}r));
}

# --- through a handle: that leads past us, and is harmless

my $handle = build('handle', <<'END', @libpq, '-ldl');
#include <dlfcn.h>
#include <libpq-fe.h>
#include <stdio.h>
int main(void)
{
	void *libpq = dlopen("libpq.so.5", RTLD_NOW);
	PGconn *(*connect)(const char *) = (PGconn *(*)(const char *)) dlsym(libpq, "PQconnectdb");
	void (*finish)(PGconn *) = (void (*)(PGconn *)) dlsym(libpq, "PQfinish");
	ConnStatusType (*status)(const PGconn *) = (ConnStatusType(*)(const PGconn *)) dlsym(libpq, "PQstatus");
	PGconn *conn = connect("");
	printf("%d\n", status(conn));
	finish(conn);
	return 0;
}
END
my ($status, $out, $did) = result_of($handle);
is("$status $out$did", "0 0\n0/0", 'called through a handle: not pooled, and works');

# Ours are there even if libpq is not: who asks for them so gets nothing, but no crash.
my $probe = build('probe', <<'END', '-ldl');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(void)
{
	void *(*connect)(const char *) = (void *(*)(const char *)) dlsym(RTLD_DEFAULT, "PQconnectdb");
	printf("%s\n", connect && connect("") ? "connected" : "nothing");
	return 0;
}
END
is((result_of($probe))[1], "nothing\n", 'without libpq there is nothing');

# --- two libpqs

SKIP:
{
	my ($libpq) = grep { -e } glob("$libdir/libpq.so.5 /usr/lib/*/libpq.so.5");
	skip 'libpq is not where it was looked for', 2 if !$libpq;
	mkdir "$work/other" or die "other: $!";
	copy($libpq, "$work/other/libpq.so.5") or die "libpq: $!";
	my $linked = build('linked', "$twice\n" . <<'END', @libpq, '-lpq', '-ldl');
#include <dlfcn.h>
int main(int argc, char **argv)
{
	void *handle = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
	int (*theirs)(void) = (int (*)(void)) dlsym(handle, "twice");
	return argc != 2 || twice() || theirs() || twice();
}
END
	build('second.so', $twice, '-shared', '-fPIC', $libpq[0], "-Wl,-rpath,$work/other", "$work/other/libpq.so.5");
	($status, $out, $did) = result_of($linked, "$work/second.so");
	is($status, 0, 'two libpqs: both work');
	like($out, qr/^pooled\n(not )?pooled\npooled\n$/, 'two libpqs: the first one is pooled');
}

# --- who seems to call is not who does

# Calls at the end are jumps: libpq seems to be called by the program, which has none.
my $driver_text = <<'END';
#include <libpq-fe.h>
int closed;
PGconn *driver_connect(const char *conninfo) { return PQconnectdb(conninfo); }
char *driver_error(PGconn *conn) { return PQerrorMessage(conn); }
int driver_pid(PGconn *conn) { return PQbackendPID(conn); }
#ifdef RETURN
void driver_close(PGconn *conn) { PQfinish(conn); closed++; }
#else
void driver_close(PGconn *conn) { PQfinish(conn); }
#endif
END
my $driver = build('driver.so', $driver_text, '-O2', '-shared', '-fPIC', @libpq, '-lpq');

# For each plugin that has twice(), that; for each driver: open one that fails, and two that do not.
my $host = build('host', <<'END', '-ldl');
#include <dlfcn.h>
#include <stdio.h>
typedef struct PGconn PGconn;
int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		void *handle = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
		int (*twice)(void) = (int (*)(void)) dlsym(handle, "twice");
		PGconn *(*connect)(const char *) = (PGconn *(*)(const char *)) dlsym(handle, "driver_connect");
		char *(*error)(PGconn *) = (char *(*)(PGconn *)) dlsym(handle, "driver_error");
		int (*pid)(PGconn *) = (int (*)(PGconn *)) dlsym(handle, "driver_pid");
		void (*close)(PGconn *) = (void (*)(PGconn *)) dlsym(handle, "driver_close");
		PGconn *conn;
		int first;
		if (twice)
			twice();
		if (!connect)
			continue;
		conn = connect("host=/nonexistent");
		printf("%s, ", conn && *error(conn) ? "an error" : "nothing");
		close(conn);
		conn = connect("");
		first = pid(conn);
		close(conn);
		conn = connect("");
		printf("%s\n", first == 0 || *error(conn) ? "failed" : pid(conn) == first ? "pooled" : "not pooled");
		close(conn);
	}
	return 0;
}
END
($status, $out, $did) = result_of($host, $driver);
is("$status $out$did", "0 an error, pooled\n3/1", 'a driver that jumps to libpq, from a program that has none');

# A library that does not say that it needs libpq, as who loads it has both.
my $helper = build('libhelper.so', $twice, '-shared', '-fPIC', $libpq[0]);
my $both = build('both.so', "int both;\n", '-shared', '-fPIC', '-Wl,--no-as-needed', $helper, "-Wl,-rpath,$work", @libpq, '-lpq');
($status, $out) = result_of($opener, $both);
is("$status $out", "0 pooled\npooled\npooled\n", 'a library that does not say that it needs libpq');

# --- many libpqs: copies, each with a name of its own, as long as the original's

SKIP:
{
	my ($libpq) = grep { -e } glob("$libdir/libpq.so.5 /usr/lib/*/libpq.so.5");
	skip 'libpq is not where it was looked for', 2 if !$libpq;
	my $bytes = PostgreSQL::Test::Utils::slurp_file($libpq);
	my @names = (1 .. 4, 6 .. 8);
	for my $name (@names)
	{
		(my $copy = $bytes) =~ s/libpq\.so\.5\0/libpq.so.$name\0/g;
		open(my $file, '>:raw', "$work/libpq.so.$name") or die "libpq.so.$name: $!";
		print $file $copy;
		close $file or die "libpq.so.$name: $!";
		build("plugin$name.so", $twice, '-shared', '-fPIC', $libpq[0], "-Wl,-rpath,$work", "$work/libpq.so.$name");
	}
	($status, $out) = result_of($host, map { "$work/plugin$_.so" } @names);
	is("$status $out", "0 pooled\n" . "not pooled\n" x $#names, 'seven libpqs: all work, and the first one is pooled');

	# Taken for the program's call it connects by the pooled libpq, which is not the first one; when it closes, it is itself.
	build('returns.so', $driver_text, '-DRETURN', '-O2', '-shared', '-fPIC', $libpq[0], "-Wl,-rpath,$work", "$work/libpq.so.2");
	($status, $out, $did) = result_of($host, "$work/libpq.so.8", "$work/plugin1.so", "$work/returns.so");
	is("$status $out$did", "0 pooled\nan error, pooled\n5/3", 'a connection of the pooled libpq, closed by who has another one');
}

# --- the loader's lock: a constructor is run with it held

my $constructs = build('constructs.so', "$twice\n" . <<'END', '-shared', '-fPIC', @libpq, '-lpq');
void wait_for_other(void);
__attribute__((constructor)) static void construct(void)
{
	wait_for_other();
	twice();
}
END
my $abba = build('abba', <<'END', @libpq, '-lpq', '-ldl', '-pthread', '-rdynamic');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static pthread_t thread;
static _Atomic pid_t tid;
static void *other(void *arg)
{
	PGconn *conn;
	tid = gettid();
	conn = PQconnectdb("application_name=other");
	PQfinish(conn);
	return arg;
}
/* It has asked the loader where libpq is, and sleeps. */
static int sleeps(void)
{
	char path[100], text[300] = "", *state;
	int fd;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int) tid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}
void wait_for_other(void)
{
	pthread_create(&thread, NULL, other, NULL);
	while (!tid || !sleeps())
		usleep(1000);
}
int main(int argc, char **argv)
{
	alarm(60);
	if (!dlopen(argv[1], RTLD_NOW))
		printf("%s\n", dlerror());
	pthread_join(thread, NULL);
	return 0;
}
END
($status, $out, $did) = result_of($abba, $constructs);
is("$status $out$did", "0 pooled\n3/1", 'a constructor connects while another thread does so for the first time');

# --- libpq's lock around looking up users: a plugin's, for a while

my $locker = build('locker.so', <<'END', '-shared', '-fPIC', @libpq, '-lpq');
#include <libpq-fe.h>
static pgthreadlock_t former;
static void mine(int acquire) { (void) acquire; }
void on(void) { former = PQregisterThreadLock(mine); }
int off(void) { return PQregisterThreadLock(former) == mine; }
END
my $unlocks = build('unlocks', "$twice\n" . <<'END', @libpq, '-lpq', '-ldl');
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	void *plugin = dlopen(argv[1], RTLD_NOW);
	int status = 1;
	((void (*)(void)) dlsym(plugin, "on"))();
	twice();
	if (!((int (*)(void)) dlsym(plugin, "off"))())
		printf("not the plugin's any more\n");
	dlclose(plugin);
	if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD))
		printf("not unloaded\n");
	fflush(stdout);
	if (fork() == 0)
		_exit(0);
	wait(&status);
	return status;
}
END
($status, $out) = result_of($unlocks, $locker);
is("$status $out", "0 pooled\n", 'a fork after the one whose lock libpq had is unloaded');

# --- exec, vfork, daemons

my $processes = build('processes', "$twice\n" . <<'END', @libpq, '-lpq');
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dirent.h>
#include <stdlib.h>

static int sockets(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int n = 0;
	while ((entry = readdir(dir)))
	{
		char path[300], target[100] = "";
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		if (readlink(path, target, sizeof(target) - 1) > 0)
			n += strncmp(target, "socket:", 7) == 0;
	}
	closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	pid_t child;
	int status;
	if (argc > 1)
	{
		printf("%d sockets\n", sockets());
		return twice();
	}
	if (twice() != 0)
		return 1;
	fflush(stdout);
	child = vfork();
	if (child == 0)
	{
		execl(argv[0], argv[0], "again", (char *) NULL);
		_exit(3);
	}
	waitpid(child, &status, 0);
	if (status != 0)
		return 2;
	/* a daemon: its child goes on, without descriptors */
	child = fork();
	if (child == 0)
	{
		setsid();
		for (int fd = 3; fd < 256; fd++)
			close(fd);
		status = twice();
		fflush(stdout);
		_exit(status);
	}
	waitpid(child, &status, 0);
	if (status != 0)
		return 4;
	if (twice() != 0)
		return 5;
	fflush(stdout);
	execl(argv[0], argv[0], "again", (char *) NULL);
	return 6;
}
END
($status, $out) = result_of($processes);
is("$status $out", "0 pooled\n0 sockets\npooled\npooled\npooled\n0 sockets\npooled\n",
	'exec and vfork take no sockets along; a daemon closes all, and pools its own; and its parent goes on');

# --- the threads of a program that has many

my $threads = build('threads', <<'END', @libpq, '-lpq', '-pthread');
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static int failures;
static void *work(void *arg)
{
	for (int i = 0; i < 20; i++)
	{
		PGconn *conn = PQconnectdb(i % 2 ? "" : "application_name=other");
		PGresult *result = PQexec(conn, "SELECT 1");
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "%s", PQerrorMessage(conn));
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		}
		PQclear(result);
		PQfinish(conn);
	}
	return arg;
}
int main(void)
{
	pthread_t threads[200];
	for (int i = 0; i < 200; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (int i = 0; i < 200; i++)
		pthread_join(threads[i], NULL);
	printf("%d failures\n", failures);
	return 0;
}
END
{
	local $ENV{PQPOOL_MAX_WAITERS} = 1000;
	is((result_of($threads))[1], "0 failures\n", '200 threads');
}

done_testing();
