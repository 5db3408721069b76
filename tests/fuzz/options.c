/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Fuzzes the parser of connection strings: pqp_options_parse(),
 *	  client/src/options.h.
 *
 * What must hold for every string:
 *
 *		refused		there is a message, in one line, cut to its buffer and terminated; nothing is left in
 *					the struct but whose refusal it is; a password is not in the message
 *		accepted	every field is within its range; written down again and read once more is the same
 *		either		an option of the pool's, put in where it cannot change the meaning of anything else,
 *					changes nothing else
 *		no pool_ in it	it is accepted or refused as PQconninfoParse() does, and what is left for libpq is
 *					what PQconninfoParse() says, except where the two differ on purpose: a
 *					dbname that is itself a connection string is expanded, a service is
 *					looked up, and connect_timeout has to be a number already; every refusal
 *					is libpq's then
 *
 * libpq is asked by a connection that fails by intent.  That this one reaches
 * neither for the network nor for any file but the one service file is part of
 * the test: the functions that could do so are replaced here.
 *
 * sources: client/src/options.c client/src/duration.c
 * flags: -Iclient/src -lpq -ldl
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* vasprintf, RTLD_NEXT */
#endif

#include "fuzz.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sys/socket.h>

#include <libpq-fe.h>
#include "options.h"

#define SERVICE_FILE "tests/fuzz/pg_service.conf"
#define SECRET "s3cret-Xq7"
#define MESSAGE_BYTES 512 /* as the library's own callers give */

/*---- neither network nor files ----*/

static bool parsing; /* the code under test runs */
static int sockets_made;
static int services_read;

/* The next definition of the symbol: libc's, or the sanitizer's on the way there. */
#define NEXT(name) ((__typeof__(&(name))) dlsym(RTLD_NEXT, #name))

int
socket(int domain, int type, int protocol)
{
	hold(!parsing, "a socket is made");
	sockets_made++;
	return NEXT(socket)(domain, type, protocol);
}

int
connect(int sock, const struct sockaddr *address, socklen_t size)
{
	hold(!parsing, "a socket is connected");
	return NEXT(connect)(sock, address, size);
}

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	hold(!parsing, "the host \"%s\" is looked up", host != NULL ? host : "");
	return NEXT(getaddrinfo)(host, port, hints, out);
}

static void
check_file(const char *name)
{
	hold(!parsing || strcmp(name, SERVICE_FILE) == 0, "the file \"%s\" is opened", name);
	services_read += parsing;
}

FILE *
fopen(const char *name, const char *mode)
{
	check_file(name);
	return NEXT(fopen)(name, mode);
}

FILE *
fopen64(const char *name, const char *mode)
{
	check_file(name);
	return NEXT(fopen64)(name, mode);
}

/*---- one call, and what always holds ----*/

typedef struct Outcome
{
	bool accepted;
	PoolOptions options;
	char message[MESSAGE_BYTES];
} Outcome;

static bool
in_range(int64_t value, int64_t min)
{
	return value >= min && value <= INT32_MAX;
}

static void
check_params(const PoolOptions *options)
{
	hold(options->nparams >= 0 && options->keywords[options->nparams] == NULL &&
			 options->values[options->nparams] == NULL,
		 "%d parameters without an end", options->nparams);
	for (int i = 0; i < options->nparams; i++)
	{
		const char *keyword = options->keywords[i];

		hold(options->values[i] != NULL, "%s has no value", keyword);
		hold(strcmp(keyword, "options") != 0, "options are left in");
		hold(strncmp(keyword, "pool_", 5) != 0, "%s is left in", keyword);
		for (int k = 0; k < i; k++)
			hold(strcmp(options->keywords[k], keyword) != 0, "%s is there twice", keyword);
	}
}

static void
check_accepted(const Outcome *outcome)
{
	const PoolOptions *options = &outcome->options;
	size_t len = strnlen(options->name, sizeof(options->name));

	hold(outcome->message[0] == '\0', "accepted with a message: %s", outcome->message);
	hold(len > 0 && len < sizeof(options->name), "a name of %zu bytes", len);
	hold(options->max_size >= 1 && options->max_size <= PQP_SIZE_MAX, "max %d", options->max_size);
	hold(options->min_size >= 0 && options->min_size <= options->max_size, "min %d of %d",
		 options->min_size, options->max_size);
	hold(options->max_waiters >= 0, "waiters %d", options->max_waiters);
	hold(in_range(options->acquire_timeout_ms, -1), "acquire_timeout");
	hold(in_range(options->idle_timeout_ms, 0), "idle_timeout");
	hold(in_range(options->max_lifetime_ms, 0), "max_lifetime");
	hold(in_range(options->validate_after_ms, -1), "validate_after");
	hold(in_range(options->reset_timeout_ms, 1), "reset_timeout");
	hold(in_range(options->leak_after_ms, 0), "leak_after");
	hold((int) options->reset >= PQP_RESET_NONE && (int) options->reset <= PQP_RESET_DISCARD,
		 "reset %d", (int) options->reset);
	hold(options->user_options != NULL, "no user_options");
	check_params(options);
}

static void
check_refused(const Outcome *outcome)
{
	static const PoolOptions zeroed;
	PoolOptions rest = outcome->options;
	size_t len = strnlen(outcome->message, sizeof(outcome->message));

	hold(len > 0, "refused without a message");
	hold(len < sizeof(outcome->message), "the message does not end");
	hold(strchr(outcome->message, '\n') == NULL, "two lines: %s", outcome->message);
	hold(!outcome->options.no_memory, "no memory");
	rest.by_libpq = false;
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): all of it, padding included */
	hold(memcmp(&rest, &zeroed, sizeof(zeroed)) == 0, "the struct is not zeroed");
}

static void
parse(const char *conninfo, Outcome *outcome)
{
	memset(outcome, 'x', sizeof(*outcome));
	parsing = true;
	outcome->accepted =
		pqp_options_parse(conninfo, &outcome->options, outcome->message, sizeof(outcome->message));
	parsing = false;
	if (outcome->accepted)
		check_accepted(outcome);
	else
		check_refused(outcome);
}

/*
 * In buffers that are too small the message is the beginning of the same one; the sanitizer
 * sees to their ends.
 */
static void
check_short_buffers(const char *conninfo, const Outcome *outcome)
{
	static const size_t sizes[] = { 0, 1, 2, 30 };

	for (int i = 0; i < countof(sizes); i++)
	{
		char *buffer = exact(sizes[i]);
		PoolOptions options;

		parsing = true;
		hold(!pqp_options_parse(conninfo, &options, buffer, sizes[i]), "accepted");
		parsing = false;
		if (sizes[i] > 0)
			hold(memchr(buffer, '\0', sizes[i]) != NULL &&
					 strncmp(buffer, outcome->message, strlen(buffer)) == 0,
				 "in %zu bytes: another message than %s", sizes[i], outcome->message);
		free(buffer);
	}
}

/*---- comparing ----*/

static const char *
value_of(const PoolOptions *options, const char *keyword)
{
	for (int i = 0; i < options->nparams; i++)
	{
		if (strcmp(options->keywords[i], keyword) == 0)
			return options->values[i];
	}
	return NULL;
}

static bool
same_params(const PoolOptions *a, const PoolOptions *b)
{
	if (a->nparams != b->nparams || strcmp(a->user_options, b->user_options) != 0)
		return false;
	for (int i = 0; i < a->nparams; i++)
	{
		const char *value = value_of(b, a->keywords[i]);

		if (value == NULL || strcmp(a->values[i], value) != 0)
			return false;
	}
	return true;
}

/* All but bind_thread, which serves as the option that is put in. */
static bool
same_settings(const PoolOptions *a, const PoolOptions *b)
{
	return strcmp(a->name, b->name) == 0 && a->min_size == b->min_size &&
		   a->max_size == b->max_size && a->max_waiters == b->max_waiters &&
		   a->acquire_timeout_ms == b->acquire_timeout_ms &&
		   a->idle_timeout_ms == b->idle_timeout_ms && a->max_lifetime_ms == b->max_lifetime_ms &&
		   a->validate_after_ms == b->validate_after_ms &&
		   a->reset_timeout_ms == b->reset_timeout_ms && a->leak_after_ms == b->leak_after_ms &&
		   a->peek_after_ms == b->peek_after_ms && a->reset == b->reset && a->report == b->report &&
		   a->obey_limits == b->obey_limits;
}

static bool
is_uri(const char *text)
{
	return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0;
}

/* A dbname that libpq would expand, if asked to. */
static bool
is_nested(const char *dbname)
{
	return dbname != NULL && (is_uri(dbname) || strchr(dbname, '=') != NULL);
}

static int
hex(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *found = c != '\0' ? strchr(digits, c) : NULL;

	return found != NULL ? (int) (found - digits) % 16 : -1;
}

/*
 * Could the word come out of the text, by whatever unescaping?  Says so too often rather
 * than not.
 */
static bool
may_mention(const char *text, const char *word)
{
	char *plain = allocate(strlen(text) + 1);
	char *out = plain;
	bool answer;

	for (; *text != '\0'; text++)
	{
		if (*text != '\\')
			*out++ = *text;
	}
	*out = '\0';
	out = plain;
	for (const char *in = plain; *in != '\0'; in++)
	{
		int high = *in == '%' ? hex(in[1]) : -1;
		int low = high >= 0 ? hex(in[2]) : -1;

		*out++ = (char) (low >= 0 ? high * 16 + low : *in);
		in += low >= 0 ? 2 : 0;
	}
	*out = '\0';
	/* an escaped zero byte would hide the rest; both parsers refuse it */
	answer = strlen(plain) != (size_t) (out - plain) || strstr(plain, word) != NULL;
	free(plain);
	return answer;
}

/*---- libpq's opinion ----*/

static const char *
libpq_value(const PQconninfoOption *parsed, const char *keyword)
{
	for (; parsed->keyword != NULL; parsed++)
	{
		if (strcmp(parsed->keyword, keyword) == 0)
			return parsed->val;
	}
	return NULL;
}

/* Is any dbname expanded, also one that a later one replaces? */
static bool
may_be_expanded(const char *conninfo, const PQconninfoOption *parsed)
{
	const char *first = strstr(conninfo, "dbname");

	if (is_uri(conninfo) || first == NULL)
		return false;
	return is_nested(libpq_value(parsed, "dbname")) || strstr(first + 1, "dbname") != NULL;
}

/* What both have accepted they have understood alike. */
static void
check_same_as_libpq(const char *conninfo, const PQconninfoOption *parsed,
					const PoolOptions *options)
{
	int n = 0;

	for (const PQconninfoOption *option = parsed; option->keyword != NULL; option++)
	{
		const char *ours = strcmp(option->keyword, "options") == 0
							   ? options->user_options
							   : value_of(options, option->keyword);

		if (option->val == NULL)
			continue;
		hold(ours != NULL && strcmp(ours, option->val) == 0,
			 "%s is \"%s\", for libpq \"%s\", in \"%s\"", option->keyword,
			 ours != NULL ? ours : "(none)", option->val, conninfo);
		n += strcmp(option->keyword, "options") != 0;
	}
	hold(n == options->nparams, "%d parameters, for libpq %d, in \"%s\"", options->nparams, n,
		 conninfo);
}

static void
check_against_libpq(const char *conninfo, const Outcome *outcome)
{
	char *message = NULL;
	PQconninfoOption *parsed = PQconninfoParse(conninfo, &message);

	hold(outcome->accepted || outcome->options.by_libpq, "refused as if by the pool: %s: \"%s\"",
		 outcome->message, conninfo);
	if (parsed == NULL)
		hold(!outcome->accepted, "accepted, but libpq says %s", message);
	else if (may_be_expanded(conninfo, parsed))
		; /* on purpose otherwise than libpq */
	else if (outcome->accepted)
		check_same_as_libpq(conninfo, parsed, &outcome->options);
	else
		hold(libpq_value(parsed, "service") != NULL ||
				 (libpq_value(parsed, "connect_timeout") != NULL &&
				  strstr(outcome->message, "connect_timeout") != NULL),
			 "refused, but not by libpq: %s: \"%s\"", outcome->message, conninfo);
	PQconninfoFree(parsed);
	PQfreemem(message);
}

/*---- changes that mean nothing ----*/

/* The changed string means the same, but for pool_bind. */
static void
check_changed(const char *changed, const Outcome *outcome)
{
	Outcome other;

	parse(changed, &other);
	hold(other.accepted == outcome->accepted, "\"%s\": \"%s\", without pool_bind \"%s\"", changed,
		 other.message, outcome->message);
	if (other.accepted)
	{
		hold(other.options.bind_thread, "no effect: \"%s\"", changed);
		hold(same_settings(&other.options, &outcome->options), "other settings: \"%s\"", changed);
		hold(same_params(&other.options, &outcome->options), "other parameters: \"%s\"", changed);
		pqp_options_free(&other.options);
	}
}

/* The password is in the changed string, and shall be nowhere else. */
static void
check_secret(const char *changed)
{
	Outcome other;

	parse(changed, &other);
	if (other.accepted)
		pqp_options_free(&other.options);
	else
		hold(strstr(other.message, SECRET) == NULL, "the password is told: %s", other.message);
}

static void
change_pairs(const char *conninfo, const Outcome *outcome)
{
	char *changed;

	if (!may_mention(conninfo, "pool_bind"))
	{
		changed = print_string("pool_bind=thread %s", conninfo);
		check_changed(changed, outcome);
		free(changed);
	}
	if (may_mention(conninfo, SECRET))
		return; /* libFuzzer reads our strings, too */
	changed = print_string("password='" SECRET "' %s", conninfo);
	check_secret(changed);
	free(changed);
}

/*
 * To the end of the query, or a query of its own: only where no later bracket or at sign
 * says that it is none.
 */
static void
add_to_query(const char *uri, const Outcome *outcome)
{
	const char *query = strchr(uri, '?');
	char *changed;

	if (may_mention(uri, "pool_bind") ||
		(query != NULL && (strpbrk(query + 1, "?@]") != NULL || strchr(uri, '[') != NULL)))
		return;
	changed = print_string("%s%cpool_bind=thread", uri, query != NULL ? '&' : '?');
	check_changed(changed, outcome);
	free(changed);
	if (query == NULL)
		return;
	changed = print_string("%.*spool_bind=thread&%s", (int) (query + 1 - uri), uri, query + 1);
	check_changed(changed, outcome);
	free(changed);
}

/* To the end of the password, if there is one. */
static void
add_to_password(const char *uri)
{
	const char *begin = strstr(uri, "://") + 3;
	const char *end = begin + strcspn(begin, "@/");
	char *changed;

	if (*end != '@' || memchr(begin, ':', (size_t) (end - begin)) == NULL ||
		may_mention(uri, SECRET))
		return;
	changed = print_string("%.*s" SECRET "%s", (int) (end - uri), uri, end);
	check_secret(changed);
	free(changed);
}

/*---- written down again ----*/

static void
put_pair(Out *out, const char *keyword, const char *value)
{
	put(out, " %s = '", keyword);
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			put_bytes(out, "\\", 1);
		put_bytes(out, value, 1);
	}
	put_bytes(out, "'", 1);
}

static void
put_settings(Out *out, const PoolOptions *options)
{
	static const char *const resets[] = { [PQP_RESET_NONE] = "none",
										  [PQP_RESET_ROLLBACK] = "rollback",
										  [PQP_RESET_DISCARD] = "discard" };

	put_pair(out, "pool_name", options->name);
	put(out, " pool_min_size=%d pool_max_size=%d pool_max_waiters=%d", options->min_size,
		options->max_size, options->max_waiters);
	put(out, " pool_acquire_timeout=%lldms", (long long) options->acquire_timeout_ms);
	put(out, " pool_idle_timeout=%lld", (long long) options->idle_timeout_ms);
	put(out, " pool_max_lifetime='%lld ms'", (long long) options->max_lifetime_ms);
	put(out, " pool_validate_after=%lld.0ms", (long long) options->validate_after_ms);
	put(out, " pool_reset_timeout=%lldms", (long long) options->reset_timeout_ms);
	put(out, " pool_leak_after=%lldms", (long long) options->leak_after_ms);
	put(out, " pool_peek_after=%lldms", (long long) options->peek_after_ms);
	put(out, " pool_reset=%s pool_report=%s pool_limits=%s pool_bind=%s", resets[options->reset],
		options->report ? "on" : "off", options->obey_limits ? "obey" : "ignore",
		options->bind_thread ? "thread" : "none");
}

static void
check_round_trip(const PoolOptions *options)
{
	Outcome again;
	Out out = { 0 };

	if (is_nested(value_of(options, "dbname")))
		return; /* expanded once, and would be once more */
	put_settings(&out, options);
	for (int i = 0; i < options->nparams; i++)
		put_pair(&out, options->keywords[i], options->values[i]);
	put_pair(&out, "options", options->user_options);
	parse(out.text, &again);
	hold(again.accepted, "%s: \"%s\"", again.message, out.text);
	hold(same_settings(&again.options, options) &&
			 again.options.bind_thread == options->bind_thread,
		 "other settings: \"%s\"", out.text);
	hold(same_params(&again.options, options), "other parameters: \"%s\"", out.text);
	pqp_options_free(&again.options);
	free(out.text);
}

/*---- the target ----*/

/* The traps work, or nothing that they do not catch says anything. */
static void
check_traps(void)
{
	Outcome outcome;

	PQfinish(PQconnectdb("host=/nonexistent"));
	hold(sockets_made > 0, "libpq's calls do not come by here");
	parse("service=fuzz", &outcome);
	hold(outcome.accepted, "%s", outcome.message);
	hold(strcmp(outcome.options.user_options, "-c geqo=off") == 0, "options of the service: %s",
		 outcome.options.user_options);
	hold(services_read == 1, "the service file was read %d times", services_read);
	pqp_options_free(&outcome.options);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *given = getenv("PATH");
	char *path = strdup(given != NULL ? given : ""); /* for the sanitizer's symbolizer */

	(void) argc;
	(void) argv;
	clearenv();
	setenv("PATH", path, 1);
	setenv("HOME", "/nonexistent", 1);
	setenv("PGSYSCONFDIR", "/nonexistent", 1);
	setenv("PGSERVICEFILE", SERVICE_FILE, 1);
	setenv("PGUSER", "fuzz", 1); /* else the system's users are read */
	free(path);
	check_traps();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *conninfo = input_string(data, size);
	Outcome outcome;

	parse(conninfo, &outcome);
	if (outcome.accepted)
		check_round_trip(&outcome.options);
	else
		check_short_buffers(conninfo, &outcome);
	if (!may_mention(conninfo, "pool_"))
		check_against_libpq(conninfo, &outcome);
	if (is_uri(conninfo))
	{
		add_to_query(conninfo, &outcome);
		add_to_password(conninfo);
	}
	else
		change_pairs(conninfo, &outcome);
	if (outcome.accepted)
		pqp_options_free(&outcome.options);
	free(conninfo);
	return 0;
}
