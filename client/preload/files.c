/*-------------------------------------------------------------------------
 *
 * files.c
 *	  Files that decide where a connection leads, and as whom.
 *
 * Services, passwords, certificates: libpq reads them when it connects, so that they are part of
 * a key, by what stat says of them.  One that is not there is, too: it may come.
 *
 * Each look costs a call of stat per file, so only those are looked at that can matter: service
 * files where a service is named (or for a key that libpq refused, perhaps for want of one), and
 * those of TLS where the server is not on this machine.
 *
 * Accepted: a certificate that is named in a service file is not looked at.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where libpq looks for pg_service.conf last, if PGSYSCONFDIR says nothing else. */
#ifndef PQP_SYSCONFDIR
#define PQP_SYSCONFDIR "/etc/postgresql-common"
#endif

typedef enum When
{
	ALWAYS,
	WITH_SERVICE,
	WITH_TLS
} When;

/* As libpq finds them: by a parameter, the environment, or else in the home directory. */
static const struct
{
	When when;
	const char *keyword, *variable, *name;
} in_home[] = {
	{ ALWAYS, "passfile", "PGPASSFILE", ".pgpass" },
	{ WITH_SERVICE, "servicefile", "PGSERVICEFILE", ".pg_service.conf" },
	{ WITH_TLS, "sslcert", "PGSSLCERT", ".postgresql/postgresql.crt" },
	{ WITH_TLS, "sslkey", "PGSSLKEY", ".postgresql/postgresql.key" },
	{ WITH_TLS, "sslrootcert", "PGSSLROOTCERT", ".postgresql/root.crt" },
	{ WITH_TLS, "sslcrl", "PGSSLCRL", ".postgresql/root.crl" },
};

#define IN_HOME ((int) (sizeof(in_home) / sizeof(in_home[0])))
_Static_assert(IN_HOME + 1 == PQP_FILES, "one more is the system's");

static Stamp
stamp(const char *file)
{
	struct stat st;
	Stamp result = { 0 };

	if (!file || stat(file, &st) != 0)
		return result;
	result.device = st.st_dev;
	result.inode = st.st_ino;
	result.size = st.st_size;
	result.changed = st.st_ctim;
	return result;
}

static bool
same_stamp(const Stamp *a, const Stamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
		   a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* The parameter, or what the environment has in its place; NULL: neither. */
static const char *
given(const PoolOptions *options, const char *keyword, const char *variable)
{
	const char *found = NULL;

	for (int i = 0; options && i < options->nparams; i++)
		if (strcmp(options->keywords[i], keyword) == 0)
			found = options->values[i];
	return found && found[0] ? found : getenv(variable);
}

static bool
has_service(const PoolOptions *options)
{
	return !options || given(options, "service", "PGSERVICE");
}

/* Only a list of nothing but directories is sure to be of this machine. */
static bool
may_use_tls(const PoolOptions *options)
{
	const char *host = given(options, "host", "PGHOST");

	return has_service(options) || given(options, "hostaddr", "PGHOSTADDR") ||
		   (host && host[0] && (host[0] != '/' || strchr(host, ',')));
}

static char *
path_in_home(const char *name)
{
	const char *home = getenv("HOME");
	char room[1024];
	struct passwd entry, *found;
	char *path = NULL;

	if ((!home || !home[0]) && getpwuid_r(geteuid(), &entry, room, sizeof(room), &found) == 0 &&
		found)
		home = entry.pw_dir;
	if (!home || !home[0] || asprintf(&path, "%s/%s", home, name) < 0)
		return NULL;
	return path;
}

static char *
path_in_system(void)
{
	const char *dir = getenv("PGSYSCONFDIR");
	char *path = NULL;

	if (asprintf(&path, "%s/pg_service.conf", dir ? dir : PQP_SYSCONFDIR) < 0)
		return NULL;
	return path;
}

/* Into what was zeroed.  NULL: libpq has refused it. */
void
pqp_files_note(Files *files, const PoolOptions *options)
{
	const bool matters[] = {
		[ALWAYS] = true, [WITH_SERVICE] = has_service(options), [WITH_TLS] = may_use_tls(options)
	};

	for (int i = 0; i < IN_HOME; i++)
	{
		const char *path = given(options, in_home[i].keyword, in_home[i].variable);

		if (matters[in_home[i].when])
			files->paths[i] = path && path[0] ? strdup(path) : path_in_home(in_home[i].name);
	}
	if (matters[WITH_SERVICE])
		files->paths[IN_HOME] = path_in_system();
	for (int i = 0; i < PQP_FILES; i++)
		files->stamps[i] = stamp(files->paths[i]);
}

bool
pqp_files_changed(const Files *files)
{
	for (int i = 0; i < PQP_FILES; i++)
	{
		Stamp now;

		if (!files->paths[i])
			continue;
		now = stamp(files->paths[i]);
		if (!same_stamp(&now, &files->stamps[i]))
			return true;
	}
	return false;
}

void
pqp_files_forget(Files *files)
{
	for (int i = 0; i < PQP_FILES; i++)
		free(files->paths[i]);
	*files = (Files){ 0 };
}
