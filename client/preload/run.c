/*-------------------------------------------------------------------------
 *
 * run.c
 *	  pqpool-run: start a program with the pool in front of its libpq.
 *
 * It sets the environment and becomes the program.  All else is done by
 * libpqpool_preload.so inside of that; so this needs neither libpq nor the pool.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIBRARY "libpqpool_preload.so"
#define PATH_SIZE 4096

/* Where "make install" puts it, seen from this program. */
#ifndef PQP_LIBDIR
#define PQP_LIBDIR "../lib"
#endif

#ifndef PQP_VERSION
#define PQP_VERSION "of an unknown version"
#endif

#define EXIT_USAGE 2
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

/*
 * Options of the pool: --max-size is PQPOOL_MAX_SIZE, and so on.  Those that mean
 * nothing to a program that knows of no pool are missing.
 */
static const struct
{
	const char *name, *what;
} pool_options[] = {
	{ "name", "what the pool is called on the server; default: the program's name" },
	{ "max-size", "connections of one kind that may exist; default 10" },
	{ "max-idle", "connections of all kinds that may lie idle; default: as many as of one kind" },
	{ "reset", "discard (default), rollback, none: what a connection forgets in between" },
	{ "acquire-timeout", "how long a connection is waited for; default 30s" },
	{ "idle-timeout", "idle for longer: closed; default 10min" },
	{ "max-lifetime", "older: replaced; default 30min" },
	{ "validate-after", "idle for longer: the server is asked first; default 30s" },
	{ "reset-timeout", "how long the reset may take; default 5s" },
	{ "max-waiters", "threads that may wait at once; default: all" },
	{ "leak-after", "not closed for longer: reported as a leak; default 5min" },
	{ "report", "on (default), off: tell a server that has pgpool_monitor how the pool fares" },
	{ "limits", "obey (default), ignore: the number of connections that such a server allots" },
};

#define NOPTIONS ((int) (sizeof(pool_options) / sizeof(pool_options[0])))

static void fail(int status, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

static void
fail(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void) fputs("pqpool-run: ", stderr);
	(void) vfprintf(stderr, format, args);
	(void) fputc('\n', stderr);
	va_end(args);
	exit(status);
}

static void
help(void)
{
	(void) puts(
		"Usage: pqpool-run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
		"       pqpool-run --check PROGRAM\n"
		"\n"
		"Runs a program with its PostgreSQL connections pooled: what it closes stays open, and is "
		"what\n"
		"it gets the next time that it connects in the same way. The program must load libpq "
		"dynamically.\n"
		"\n"
		"  --stats                a summary on standard error when the program exits\n"
		"  --strict               a bad option ends the program with status 2; else it runs "
		"without a pool\n"
		"  --check                can this program be pooled? Says why; exits with 0 (yes) or 1 "
		"(no)\n"
		"  --help                 this text\n"
		"  --version              the version\n"
		"\n"
		"Options of the pool, each also a variable of the environment (PQPOOL_MAX_SIZE, ...):");
	for (int i = 0; i < NOPTIONS; i++)
		(void) printf("  --%s=%-*s %s\n", pool_options[i].name,
					  19 - (int) strlen(pool_options[i].name), "...", pool_options[i].what);
}

/*
 * The environment.
 */

static void
set(const char *name, const char *value)
{
	if (setenv(name, value, 1) != 0)
		fail(EXIT_CANNOT_RUN, "cannot set %s: %m", name);
}

static bool
is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Beside this program, as in a build directory; or where it is installed. */
static void
find_library(char path[PATH_SIZE])
{
	char self[PATH_SIZE / 2];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		fail(EXIT_CANNOT_RUN, "cannot find out where I am: %m");
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	(void) snprintf(path, PATH_SIZE, "%s/%s", self, LIBRARY);
	if (!is_file(path))
		(void) snprintf(path, PATH_SIZE, PQP_LIBDIR[0] == '/' ? "%.0s%s/%s" : "%s/%s/%s", self,
						PQP_LIBDIR, LIBRARY);
	if (!is_file(path))
		fail(EXIT_CANNOT_RUN, "cannot find %s, neither in %s nor in %s", LIBRARY, self, PQP_LIBDIR);
	if (strpbrk(path, " :"))
		fail(EXIT_CANNOT_RUN,
			 "\"%s\" cannot be preloaded: the loader takes blanks and colons in a path for the end "
			 "of it; "
			 "install it in a directory without",
			 path);
}

/* After what is there: a sanitizer wants to be first. */
static void
set_preload(void)
{
	const char *before = getenv("LD_PRELOAD");
	char path[PATH_SIZE];
	char *both;

	find_library(path);
	if (!before || !before[0])
	{
		set("LD_PRELOAD", path);
		return;
	}
	if (strstr(before, path))
		return;
	if (asprintf(&both, "%s:%s", before, path) < 0)
		fail(EXIT_CANNOT_RUN, "out of memory");
	set("LD_PRELOAD", both);
	free(both);
}

static void
set_pool_option(int i, const char *value)
{
	char name[64] = "PQPOOL_";
	char *to = name + strlen(name);

	if (!value[0])
		fail(EXIT_USAGE, "option \"--%s\" needs a value", pool_options[i].name);
	for (const char *from = pool_options[i].name; *from; from++)
		*to++ = *from == '-' ? '_' : (char) toupper((unsigned char) *from);
	*to = '\0';
	set(name, value);
}

/*
 * --check.
 */

/* As a shell finds it. */
static void
find_program(const char *program, char path[PATH_SIZE])
{
	const char *dir = getenv("PATH");

	if (strchr(program, '/') || !dir)
	{
		(void) snprintf(path, PATH_SIZE, "%s", program);
		return;
	}
	for (;;)
	{
		size_t n = strcspn(dir, ":");

		(void) snprintf(path, PATH_SIZE, "%.*s%s%s", (int) n, dir, n ? "/" : "", program);
		if (is_file(path) && access(path, X_OK) == 0)
			return;
		if (!dir[n])
			fail(EXIT_NOT_FOUND, "\"%s\" is not in PATH", program);
		dir += n + 1;
	}
}

static int
verdict(bool can, const char *path, const char *why)
{
	(void) printf("%s: %s: %s\n", path, can ? "can be pooled" : "cannot be pooled", why);
	return can ? 0 : 1;
}

/* The interpreter of a script.  False: it is none. */
static bool
interpreter(int fd, char path[PATH_SIZE])
{
	char line[256];
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	char *word, *rest, *save;

	if (n < 2 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	word = strtok_r(line + 2, " \t", &save);
	rest = strtok_r(NULL, " \t", &save);
	if (!word)
		return false;
	/* "env program" is about the program; with options (-S) that is the word after them */
	while (rest && rest[0] == '-')
		rest = strtok_r(NULL, " \t", &save);
	if (rest && strcmp(strrchr(word, '/') ? strrchr(word, '/') + 1 : word, "env") == 0)
		find_program(rest, path);
	else
		(void) snprintf(path, PATH_SIZE, "%s", word);
	return true;
}

static bool
is_dynamic(int fd)
{
	ElfW(Ehdr) header;

	if (pread(fd, &header, sizeof(header), 0) != (ssize_t) sizeof(header))
		return false;
	for (int i = 0; i < header.e_phnum; i++)
	{
		ElfW(Phdr) segment;

		if (pread(fd, &segment, sizeof(segment),
				  (off_t) (header.e_phoff + (size_t) i * sizeof(segment))) !=
			(ssize_t) sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP)
			return true;
	}
	return false;
}

/* NULL: it is an ELF program for this machine's word size. */
static const char *
not_elf(int fd)
{
	unsigned char ident[EI_NIDENT];

	if (pread(fd, ident, sizeof(ident), 0) != (ssize_t) sizeof(ident) ||
		memcmp(ident, ELFMAG, SELFMAG) != 0)
		return "it is neither a program nor a script";
	if (ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
		return "it is of another word size than the pool";
	return NULL;
}

/* What the loader would load for it, by the loader's own word; as ldd does. */
static bool
links_libpq(const char *path)
{
	int pipes[2];
	char text[65536];
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) != 0)
		fail(EXIT_CANNOT_RUN, "pipe: %m");
	pid = fork();
	if (pid < 0)
		fail(EXIT_CANNOT_RUN, "fork: %m");
	if (pid == 0)
	{
		(void) dup2(pipes[1], STDOUT_FILENO);
		(void) dup2(pipes[1], STDERR_FILENO);
		set("LD_TRACE_LOADED_OBJECTS", "1");
		(void) execl(path, path, (char *) NULL);
		_exit(EXIT_CANNOT_RUN);
	}
	(void) close(pipes[1]);
	while (used < sizeof(text) - 1 &&
		   (n = read(pipes[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t) n;
	text[used] = '\0';
	(void) close(pipes[0]);
	(void) waitpid(pid, NULL, 0);
	return strstr(text, "libpq.so") != NULL;
}

static int
check(const char *program)
{
	char path[PATH_SIZE], next[PATH_SIZE];
	const char *why;
	struct stat st;
	int fd;

	find_program(program, path);
	for (int depth = 0;; depth++)
	{
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) != 0)
			fail(EXIT_NOT_FOUND, "cannot read \"%s\": %m", path);
		if (depth == 4 || !interpreter(fd, next))
			break;
		(void) printf("%s: a script of %s\n", path, next);
		(void) close(fd);
		memcpy(path, next, sizeof(path));
	}
	why = not_elf(fd);
	if (why)
		return verdict(false, path, why);
	if (st.st_mode & (S_ISUID | S_ISGID) || fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return verdict(false, path,
					   "it runs with more rights than its user, and the loader ignores LD_PRELOAD");
	if (!is_dynamic(fd))
		return verdict(false, path, "it is linked statically");
	(void) close(fd);
	return links_libpq(path) ? verdict(true, path, "it links libpq dynamically")
							 : verdict(true, path,
									   "if it loads libpq later, as a library of a module or "
									   "extension; of itself it links none");
}

/*
 * The command line.
 */

/*
 * Takes one option, perhaps with the next argument as its value.  The index of the last one
 * taken.
 */
static int
take_option(int argc, char **argv, int i)
{
	const char *name = argv[i] + 2;
	size_t n = strcspn(name, "=");

	for (int k = 0; k < NOPTIONS; k++)
	{
		if (strlen(pool_options[k].name) != n || strncmp(pool_options[k].name, name, n) != 0)
			continue;
		if (name[n])
			set_pool_option(k, name + n + 1);
		else if (++i < argc)
			set_pool_option(k, argv[i]);
		else
			fail(EXIT_USAGE, "option \"--%s\" needs a value", name);
		return i;
	}
	if (strcmp(name, "stats") == 0)
		set("PQPOOL_STATS", "on");
	else if (strcmp(name, "strict") == 0)
		set("PQPOOL_STRICT", "on");
	else
		fail(EXIT_USAGE, "unknown option \"%s\"; pqpool-run --help lists them", argv[i]);
	return i;
}

int
main(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++)
	{
		if (strcmp(argv[i], "--") == 0)
		{
			i++;
			break;
		}
		if (strcmp(argv[i], "--help") == 0)
		{
			help();
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0)
		{
			(void) puts("pqpool-run (libpqpool) " PQP_VERSION);
			return 0;
		}
		if (strcmp(argv[i], "--check") == 0)
		{
			if (i + 2 != argc)
				fail(EXIT_USAGE, "--check takes one program");
			return check(argv[i + 1]);
		}
		i = take_option(argc, argv, i);
	}
	if (i < argc && argv[i][0] == '-')
		fail(EXIT_USAGE, "unknown option \"%s\"; pqpool-run --help lists them", argv[i]);
	if (i >= argc)
		fail(EXIT_USAGE, "no program to run; pqpool-run --help says how");
	set_preload();
	(void) execvp(argv[i], argv + i);
	fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "cannot run \"%s\": %m", argv[i]);
}
