/*-------------------------------------------------------------------------
 *
 * key.c
 *	  What is the same connection?
 *
 * A key is everything that decides where a connection leads and as whom: all
 * arguments as they were given, the environment as far as libpq looks at it, and
 * the user whom the server may see.  Two calls with the same key share a pool.
 * Calls that differ in spelling only do not: that costs a connection, and nothing else.
 *
 * So are files (files.c).  When one has changed, the pool is closed, and a new one takes its place.
 *
 * Keys have passwords in them.  They are in memory only, where the program and
 * libpq have them as well, and are never written anywhere.
 *
 * Life of a key: made by the first call that has it.  There may be MAX_KEYS; a pool of a
 * key that is not used any more closes its connections by pool_idle_timeout, or earlier
 * (idle.c), and a key without any is given up when somebody comes by.  With all of them in
 * use, calls are passed on.
 *
 * Lock: keys, outside of all of the pool's.  Who gets a pool from here has a reference, taken under
 * it.  Nothing is closed inside but pools that are empty.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS 256
#define MAX_KEYS 1000

typedef struct Key
{
	struct Key *next;
	struct Key *newer, *older; /* by when they were last asked for */
	uint64_t hash;
	size_t length;
	Pool *pool; /* with a reference; NULL: these arguments are not pooled */
	Files files;
	char bytes[];
} Key;

/* Bytes that grow, from the stack as far as that goes. */
typedef struct Text
{
	char *bytes;
	size_t length, size;
	bool failed; /* no memory */
	char room[2048];
} Text;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Key *table[BUCKETS];
static Key *newest, *oldest;
static int nkeys;
static uid_t user[2]; /* real and effective, of the last call */

extern char **environ;

static void
begin(Text *text)
{
	text->bytes = text->room;
	text->length = 0;
	text->size = sizeof(text->room);
	text->failed = false;
}

static void
end(const Text *text)
{
	if (text->bytes != text->room)
		free(text->bytes);
}

static void
append(Text *text, const void *bytes, size_t n)
{
	if (text->failed)
		return;
	if (n > text->size - text->length)
	{
		size_t size = 2 * (text->size + n);
		char *grown = malloc(size);

		if (!grown)
		{
			text->failed = true;
			return;
		}
		memcpy(grown, text->bytes, text->length);
		end(text);
		text->bytes = grown;
		text->size = size;
	}
	memcpy(text->bytes + text->length, bytes, n);
	text->length += n;
}

/* NULL is not "". */
static void
append_string(Text *text, const char *string)
{
	if (string)
		append(text, string, strlen(string) + 1);
	else
		append(text, "\1", 1);
}

/*
 * The key.
 */

static void
append_arguments(Text *text, const Arguments *arguments)
{
	char kind = (char) ('a' + 2 * (int) arguments->kind + (arguments->expand_dbname != 0));

	append(text, &kind, 1);
	for (size_t i = 0; i < sizeof(arguments->strings) / sizeof(arguments->strings[0]); i++)
		append_string(text, arguments->strings[i]);
	if (arguments->kind != BY_PARAMS)
		return;
	for (int i = 0; arguments->keywords[i]; i++)
	{
		append_string(text, arguments->keywords[i]);
		append_string(text, arguments->values[i]);
	}
}

/*
 * HOME is where libpq looks for files; the others are its own, and those of Kerberos.  And
 * client_encoding=auto asks for the locale.
 */
static void
append_environment(Text *text)
{
	static const char *const prefixes[] = { "PG", "HOME=", "KRB5", "XDG_" };

	for (char **variable = environ; variable && *variable; variable++)
		for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
			if (strncmp(*variable, prefixes[i], strlen(prefixes[i])) == 0)
				append_string(text, *variable);
	append_string(text, setlocale(LC_CTYPE, NULL));
}

static void
append_user(Text *text, uid_t uids[2])
{
	uids[0] = getuid();
	uids[1] = geteuid();
	append(text, uids, 2 * sizeof(uid_t));
}

static uint64_t
hash_of(const char *bytes, size_t n)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	while (n > 0)
	{
		uint64_t word = 0;
		size_t part = n < sizeof(word) ? n : sizeof(word);

		memcpy(&word, bytes, part);
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
		bytes += part;
		n -= part;
	}
	return hash;
}

/*
 * The pool's connection string: the same arguments in one form.
 */

static void
append_pair(Text *text, const char *keyword, const char *value)
{
	append(text, keyword, strlen(keyword));
	append(text, "='", 2);
	for (; *value; value++)
	{
		if (*value == '\'' || *value == '\\')
			append(text, "\\", 1);
		append(text, value, 1);
	}
	append(text, "' ", 2);
}

static void
append_given(Text *text, const char *keyword, const char *value)
{
	if (value && value[0])
		append_pair(text, keyword, value);
}

/* By libpq's own definition. */
static bool
is_connection_string(const char *dbname)
{
	return strchr(dbname, '=') || strncmp(dbname, "postgresql://", 13) == 0 ||
		   strncmp(dbname, "postgres://", 11) == 0;
}

static bool
has_service(const PQconninfoOption *options)
{
	for (; options->keyword; options++)
		if (strcmp(options->keyword, "service") == 0 && options->val)
			return true;
	return getenv("PGSERVICE") != NULL;
}

/*
 * An empty value in a string keeps libpq from looking elsewhere, which one in an array does not.
 * It means nothing if libpq would find just that, as drivers write that pass on all defaults;
 * or nothing, where that is the same to it.
 */
static bool
means_nothing(const PQconninfoOption *options, const PQconninfoOption *empty)
{
	static const char *const same[] = { "host", "hostaddr", "dbname", "password", "passfile" };
	const char *found = empty->envvar ? getenv(empty->envvar) : NULL;

	if (has_service(options))
		return false;
	if (!found)
		found = empty->compiled;
	if (found)
		return !found[0];
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if (strcmp(empty->keyword, same[i]) == 0)
			return true;
	return false;
}

/* False: libpq has something to say about it, or it cannot be said in another way. */
static bool
append_conninfo(Text *text, const char *conninfo)
{
	char *message = NULL;
	PQconninfoOption *options = pqp_libpq.PQconninfoParse(conninfo, &message);
	bool good = options != NULL;

	if (message)
		pqp_libpq.PQfreemem(message);
	for (PQconninfoOption *option = options; option && option->keyword; option++)
	{
		if (option->val && option->val[0])
			append_pair(text, option->keyword, option->val);
		else if (option->val)
			good = good && means_nothing(options, option);
	}
	pqp_libpq.PQconninfoFree(options);
	return good;
}

/*
 * In the order in which libpq lets one overrule the other.  False: something that
 * does not come to the same in a string.
 */
static bool
append_params(Text *text, const Arguments *arguments)
{
	bool expand = arguments->expand_dbname;

	for (int i = 0; arguments->keywords[i]; i++)
	{
		const char *keyword = arguments->keywords[i], *value = arguments->values[i];

		if (!value || !value[0])
			continue;
		if (strncmp(keyword, "pool_", 5) == 0)
			return false; /* libpq does not know it */
		if (strcmp(keyword, "dbname") != 0 || !is_connection_string(value))
			append_pair(text, keyword, value);
		else if (!expand || !append_conninfo(text, value))
			return false;
		if (strcmp(keyword, "dbname") == 0)
			expand = false; /* only the first one is */
	}
	return true;
}

static bool
append_login(Text *text, const char *const strings[6])
{
	static const char *const keywords[] = { "host", "port", "options", NULL, "user", "password" };

	if (strings[3] && is_connection_string(strings[3]))
	{
		if (!append_conninfo(text, strings[3]))
			return false;
	}
	else
		append_given(text, "dbname", strings[3]);
	for (int i = 0; i < 6; i++)
		if (keywords[i])
			append_given(text, keywords[i], strings[i]);
	return true;
}

/* What is different for those who do not know that they have a pool. */
static void
append_our_defaults(Text *text)
{
	const char *reset = getenv("PQPOOL_RESET");
	const char *waiters = getenv("PQPOOL_MAX_WAITERS");

	if (!reset || !reset[0])
		append_pair(text, "pool_reset", "discard");
	if (!waiters || !waiters[0]) /* its threads are the program's business */
		append_pair(text, "pool_max_waiters", "1000000");
	append_pair(text, "pool_min_size", "0");
	append_pair(text, "pool_peek_after",
				"0"); /* the program may have closed the socket a moment ago */
	append_pair(text, "pool_bind", "none");
}

static bool
append_all(Text *text, const Arguments *arguments)
{
	switch (arguments->kind)
	{
		case BY_STRING:
			return append_conninfo(text, arguments->strings[0] ? arguments->strings[0] : "");
		case BY_LOGIN:
			return append_login(text, arguments->strings);
		default:
			return append_params(text, arguments);
	}
}

/* Is it our options that are wrong?  libpq's errors are the program's to see, from libpq. */
static bool
is_our_mistake(const char *conninfo)
{
	PoolOptions options;
	char why[8];
	bool good = pqp_options_parse(conninfo, &options, why, sizeof(why));
	bool ours = !good && !options.by_libpq && !options.no_memory;

	if (good)
		pqp_options_free(&options);
	return ours;
}

static Pool *
create_pool(const char *conninfo)
{
	static const pqpool_hooks hooks = { .on_close = pqp_guest_gone, .event = pqp_count_closed };
	pqpool_error err;
	Pool *pool;

	if (!pqp_idle_setting(&err))
	{
		pqp_bad_option(&err);
		return NULL;
	}
	pool = pqp_pool_create(conninfo, &hooks, &err);
	if (!pool && is_our_mistake(conninfo))
		pqp_bad_option(&err);
	return pool;
}

static Pool *
make_pool(const Arguments *arguments)
{
	Text text;
	Pool *pool = NULL;

	begin(&text);
	if (append_all(&text, arguments))
	{
		append_our_defaults(&text);
		append(&text, "", 1);
		if (!text.failed)
			pool = create_pool(text.bytes);
	}
	explicit_bzero(text.bytes, text.length);
	end(&text);
	/* DISCARD ALL knows nothing of a walsender's state */
	if (pool && pool->options.replication)
		(void) pqpool_close(&pool, 0);
	return pool;
}

/*
 * Keys by their use.  All with the lock held.
 */

static void
link_newest(Key *key)
{
	key->newer = NULL;
	key->older = newest;
	*(newest ? &newest->newer : &oldest) = key;
	newest = key;
}

static void
unlink_use(Key *key)
{
	*(key->newer ? &key->newer->older : &newest) = key->older;
	*(key->older ? &key->older->newer : &oldest) = key->newer;
}

/* Nothing is open, and nobody is about to open anything: the only reference is the key's. */
static bool
is_unused(const Key *key)
{
	bool unused = true;

	if (key->pool)
	{
		pthread_mutex_lock(&key->pool->lock);
		unused = key->pool->refs == 1;
		pthread_mutex_unlock(&key->pool->lock);
	}
	return unused;
}

static void
forget(Key *key)
{
	Key **link = &table[key->hash % BUCKETS];

	while (*link != key)
		link = &(*link)->next;
	*link = key->next;
	unlink_use(key);
	nkeys--;
	if (key->pool)
		(void) pqpool_close(&key->pool, 0);
	pqp_files_forget(&key->files);
	explicit_bzero(key->bytes, key->length);
	free(key);
}

static void
forget_unused(void)
{
	for (Key *key = oldest, *newer; key; key = newer)
	{
		newer = key->newer;
		if (is_unused(key))
			forget(key);
	}
}

/* Is anything idle, or will be when its reset is answered? */
static bool
has_idle(Pool *pool)
{
	bool any;

	pthread_mutex_lock(&pool->lock);
	any = pool->resets || pqp_idle_any(pool);
	pthread_mutex_unlock(&pool->lock);
	return any;
}

/*
 * A pool with something idle, the one that was not asked for longest, with a reference;
 * NULL: none but this one.  Keys that it comes by and that are not used are given up, so
 * that it comes by those in use only.
 */
Pool *
pqp_keys_idle(const Pool *but)
{
	Pool *found = NULL;

	pthread_mutex_lock(&lock);
	for (Key *key = oldest, *newer; key && !found; key = newer)
	{
		newer = key->newer;
		if (is_unused(key))
			forget(key);
		else if (key->pool != but && has_idle(key->pool))
		{
			found = key->pool;
			pqp_ref(found);
		}
	}
	pthread_mutex_unlock(&lock);
	return found;
}

/*
 * From key to pool.
 */

static Key *
find(const Text *text, uint64_t hash)
{
	Key *key = table[hash % BUCKETS];

	while (key && (key->hash != hash || key->length != text->length ||
				   memcmp(key->bytes, text->bytes, key->length) != 0))
		key = key->next;
	return key;
}

/* Returns the pool that it had, which is to be closed without the lock; NULL: none. */
static Pool *
renew(Key *key, const Arguments *arguments)
{
	Pool *former = key->pool;

	pqp_files_forget(&key->files);
	key->pool = make_pool(arguments);
	pqp_files_note(&key->files, key->pool ? &key->pool->options : NULL);
	return former;
}

static Key *
add(const Text *text, uint64_t hash, const Arguments *arguments)
{
	Key *key;

	if (nkeys == MAX_KEYS)
		forget_unused();
	key = nkeys < MAX_KEYS ? calloc(1, sizeof(*key) + text->length) : NULL;
	if (!key)
		return NULL;
	key->hash = hash;
	key->length = text->length;
	memcpy(key->bytes, text->bytes, text->length);
	(void) renew(key, arguments);
	key->next = table[hash % BUCKETS];
	table[hash % BUCKETS] = key;
	link_newest(key);
	nkeys++;
	return key;
}

/* The key's pool, with a reference. *former: to be closed without the lock, or NULL. */
static Pool *
look_up(const Text *text, const Arguments *arguments, Pool **former)
{
	uint64_t hash = hash_of(text->bytes, text->length);
	Key *key = find(text, hash);

	*former = NULL;
	if (key)
	{
		unlink_use(key);
		link_newest(key);
		if (pqp_files_changed(&key->files))
			*former = renew(key, arguments);
	}
	else
		key = add(text, hash, arguments);
	if (!key || !key->pool)
		return NULL;
	pqp_ref(key->pool);
	return key->pool;
}

/* The process is somebody else than at the last call. */
static bool
changes_user(const uid_t uids[2])
{
	static bool known;
	bool changes = known && memcmp(user, uids, sizeof(user)) != 0;

	known = true;
	memcpy(user, uids, sizeof(user));
	return changes;
}

/* With a reference.  NULL: do without. */
Pool *
pqp_pool_for(const Arguments *arguments)
{
	Text text;
	Pool *pool = NULL, *former = NULL;
	uid_t uids[2];
	bool another = false;
	int old;

	begin(&text);
	append_arguments(&text, arguments);
	append_environment(&text);
	append_user(&text, uids);
	if (!text.failed)
	{
		(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
		pthread_mutex_lock(&lock);
		another = changes_user(uids);
		pool = look_up(&text, arguments, &former);
		pthread_mutex_unlock(&lock);
		(void) pthread_setcancelstate(old, NULL);
	}
	explicit_bzero(text.bytes, text.length);
	end(&text);
	/* what is being reset, while it is listened to; loans are closed when they come back */
	if (former)
		(void) pqp_idle_close(former, true);
	(void) pqpool_close(&former, 0);
	if (another)
		(void) pqp_idle_close_all(true); /* of one whose rights the process has given up */
	return pool;
}

/*
 * Fork.
 */

void
pqp_keys_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
pqp_keys_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void
pqp_keys_renew(void)
{
	lock = (pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER;
}
