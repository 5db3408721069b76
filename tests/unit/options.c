/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Test of client/src/options.c and duration.c: a connection string taken
 *	  apart.
 *
 * libpq itself is the oracle: whatever it makes of a string must come out of
 * ours, be it parsed with our options in between or not at all.
 *
 * sources: client/src/options.c client/src/duration.c
 * flags: -lpq
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* program_invocation_short_name */
#endif

#include "tap.h"

#include <errno.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "duration.h"
#include "options.h"

#define countof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static char message[1024];

static bool
parse(const char *conninfo, PoolOptions *options)
{
	memset(message, 'x', sizeof(message));
	return pqp_options_parse(conninfo, options, message, sizeof(message));
}

static const char *
param(const PoolOptions *options, const char *keyword)
{
	for (int i = 0; i < options->nparams; i++)
	{
		if (strcmp(options->keywords[i], keyword) == 0)
			return options->values[i];
	}
	return NULL;
}

/* All libpq parameters, as "keyword=value|..." in libpq's own order. */
static const char *
dump_params(const PoolOptions *options, char *buf, size_t size)
{
	PQconninfoOption *known = PQconninfoParse("", NULL);
	size_t len = 0;

	buf[0] = '\0';
	for (PQconninfoOption *o = known; o->keyword != NULL && len < size; o++)
	{
		const char *value = strcmp(o->keyword, "options") == 0 ? NULL : param(options, o->keyword);

		if (value != NULL)
			len += (size_t) snprintf(buf + len, size - len, "%s=%s|", o->keyword, value);
	}
	PQconninfoFree(known);
	return buf;
}

/* The same of a string without options of ours, by libpq alone; NULL: it refuses the string. */
static const char *
dump_libpq(const char *conninfo, char *buf, size_t size)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	size_t len = 0;

	if (parsed == NULL)
		return NULL;
	buf[0] = '\0';
	for (PQconninfoOption *o = parsed; o->keyword != NULL && len < size; o++)
	{
		if (o->val != NULL && strcmp(o->keyword, "options") != 0)
			len += (size_t) snprintf(buf + len, size - len, "%s=%s|", o->keyword, o->val);
	}
	PQconninfoFree(parsed);
	return buf;
}

/*---- durations ----*/

static void
test_durations(void)
{
	static const struct
	{
		const char *text;
		int64_t ms;
	} good[] = { { "0", 0 },
				 { "250", 250 },
				 { "30s", 30000 },
				 { " 30 s ", 30000 },
				 { "\t7\n", 7 },
				 { "10min", 600000 },
				 { "1.5 min", 90000 },
				 { "2h", 7200000 },
				 { "1d", 86400000 },
				 { ".5s", 500 },
				 { "5.s", 5000 },
				 { "1e3", 1000 },
				 { "2.5E-1 s", 250 },
				 { "1500us", 2 },
				 { "500us", 1 },
				 { "1us", 1 },
				 { "0us", 0 },
				 { "0.0001ms", 1 },
				 { "-1", -1 },
				 { "+3ms", 3 },
				 { "0.1 s", 100 },
				 { "1.1 min", 66000 },
				 { "010", 10 },
				 { "2147483647", 2147483647 },
				 { "24d", 2073600000 },
				 { "0.0000000000000000000000001d", 1 } };
	static const char *const bad[] = { "",		 " ",		"s",	  "1 S",		"1sec",	 "1 m",
									   "0x10",	 "1,5s",	"nan",	  "inf",		"--1",	 "1s s",
									   "1.5.2s", ".",		"-",	  "e3",			"1e",	 "1e+",
									   "25d",	 "1e99",	"1e999",  "2147483648", "1 000", "30s;",
									   "1ms1",	 "1 us us", "\2001s", "1 \xc2\xb5s" };
	int wrong = 0;

	for (int i = 0; i < countof(good); i++)
	{
		int64_t ms = -12345;

		if (!pqp_duration_parse(good[i].text, &ms) || ms != good[i].ms)
		{
			diag("\"%s\": got %lld, expected %lld", good[i].text, (long long) ms,
				 (long long) good[i].ms);
			wrong++;
		}
	}
	is_int(wrong, 0, "durations are read as in postgresql.conf");

	wrong = 0;
	for (int i = 0; i < countof(bad); i++)
	{
		int64_t ms = -12345;

		if (pqp_duration_parse(bad[i], &ms) || ms != -12345)
		{
			diag("\"%s\" was taken for %lld", bad[i], (long long) ms);
			wrong++;
		}
	}
	is_int(wrong, 0, "what is no duration is refused, and leaves the variable alone");
}

/*---- what a good string yields ----*/

static void
test_defaults(void)
{
	PoolOptions o;

	ok(parse(NULL, &o), "no string at all is a string");
	is_str(message, "", "success leaves an empty message");
	is_str(o.name, program_invocation_short_name, "without any name the program's is taken");
	is_int(o.min_size, 0, "default pool_min_size");
	is_int(o.max_size, 10, "default pool_max_size");
	is_int(o.max_waiters, 0, "default pool_max_waiters");
	is_int(o.acquire_timeout_ms, 30 * 1000, "default pool_acquire_timeout");
	is_int(o.idle_timeout_ms, 10 * 60 * 1000, "default pool_idle_timeout");
	is_int(o.max_lifetime_ms, 30 * 60 * 1000, "default pool_max_lifetime");
	is_int(o.validate_after_ms, 30 * 1000, "default pool_validate_after");
	is_int(o.peek_after_ms, 5, "default pool_peek_after");
	is_int(o.reset_timeout_ms, 5 * 1000, "default pool_reset_timeout");
	is_int(o.leak_after_ms, 5 * 60 * 1000, "default pool_leak_after");
	is_int(o.reset, PQP_RESET_ROLLBACK, "default pool_reset");
	ok(o.report, "default pool_report");
	ok(o.obey_limits, "default pool_limits");
	ok(!o.bind_thread, "default pool_bind");
	ok(o.nparams == 0 && o.keywords[0] == NULL && o.values[0] == NULL, "nothing for libpq");
	is_str(o.user_options, "", "no startup options");
	pqp_options_free(&o);
	pqp_options_free(&o);
	pqp_options_free(NULL);
	ok(o.keywords == NULL && o.user_options == NULL, "freeing twice, or nothing, does no harm");
}

static void
check_all_set(const char *conninfo, const char *form)
{
	PoolOptions o;

	ok(parse(conninfo, &o), "%s with every option: %s", form, message);
	is_str(o.name, "two words", "%s: pool_name", form);
	is_int(o.min_size, 2, "%s: pool_min_size", form);
	is_int(o.max_size, 20, "%s: pool_max_size", form);
	is_int(o.acquire_timeout_ms, -1, "%s: pool_acquire_timeout", form);
	is_int(o.idle_timeout_ms, 90 * 1000, "%s: pool_idle_timeout", form);
	is_int(o.max_lifetime_ms, 0, "%s: pool_max_lifetime", form);
	is_int(o.validate_after_ms, 250, "%s: pool_validate_after", form);
	is_int(o.reset, PQP_RESET_DISCARD, "%s: pool_reset", form);
	is_int(o.reset_timeout_ms, 1, "%s: pool_reset_timeout", form);
	is_int(o.leak_after_ms, 3600 * 1000, "%s: pool_leak_after", form);
	is_int(o.max_waiters, 7, "%s: pool_max_waiters", form);
	ok(!o.report && !o.obey_limits && o.bind_thread, "%s: the three switches", form);
	is_str(param(&o, "host"), "db.example", "%s: host goes to libpq", form);
	is_str(param(&o, "dbname"), "shop", "%s: so does dbname", form);
	is_str(param(&o, "application_name"), "it's", "%s: and a quoted value", form);
	is_int(o.nparams, 3, "%s: and nothing else", form);
	pqp_options_free(&o);
}

static void
test_both_forms(void)
{
	check_all_set("host=db.example pool_name='two words' pool_min_size=2 pool_max_size = 20"
				  " pool_acquire_timeout=-1 pool_idle_timeout='1.5 min' pool_max_lifetime=0"
				  " pool_validate_after=250 dbname=shop pool_reset=discard pool_reset_timeout=1us"
				  " pool_leak_after=1h pool_max_waiters=7 pool_report=off pool_limits=ignore"
				  " pool_bind=thread application_name='it\\'s'",
				  "keyword=value");
	check_all_set("postgresql://db.example/shop?pool_name=two%20words&pool_min_size=2"
				  "&pool_max_size=20&pool_acquire_timeout=-1&pool_idle_timeout=1.5min"
				  "&pool_max_lifetime=0&pool_validate_after=250&application_name=it's"
				  "&pool_reset=discard&pool_reset_timeout=1us&pool_leak_after=1%20h"
				  "&pool_max_waiters=7&pool%5Freport=off&pool_limits=ignore&pool_bind=thread",
				  "URI");
	check_all_set(
		"pool_min_size=2 pool_max_size=20 dbname='postgres://db.example/shop"
		"?pool_name=two%20words&pool_acquire_timeout=-1&pool_idle_timeout=1.5min"
		"&pool_max_lifetime=0&pool_validate_after=250&application_name=it\\'s"
		"&pool_reset=discard&pool_reset_timeout=1us' pool_leak_after=1h pool_max_waiters=7"
		" pool_report=off pool_limits=ignore pool_bind=thread",
		"URI in dbname");
}

static void
test_repeated(void)
{
	PoolOptions o;

	ok(parse("postgres://?pool_max_size=5&pool_max_size=5", &o),
	   "twice the same is no contradiction");
	is_int(o.max_size, 5, "and is taken");
	pqp_options_free(&o);
	ok(parse("host=a host=b", &o), "libpq's own may be repeated");
	is_str(param(&o, "host"), "b", "the last one wins, as in libpq");
	pqp_options_free(&o);
	ok(parse("host=a dbname='host=b dbname=c user=d' user=e", &o), "a nested string is expanded");
	is_str(param(&o, "host"), "b", "it wins over what came before");
	is_str(param(&o, "user"), "e", "and loses against what comes after");
	is_str(param(&o, "dbname"), "c", "its own dbname is the name");
	pqp_options_free(&o);
	ok(parse("dbname='dbname=''x=y'''", &o) == false, "a nested quote has to be escaped");
	ok(parse("dbname='dbname=x\\\\=y'", &o),
	   "within a nested string a dbname is not expanded again");
	is_str(param(&o, "dbname"), "x=y", "it is a name");
	pqp_options_free(&o);
	ok(parse("pool_name='' pool_max_size=", &o), "an empty value is the same as none");
	is_int(o.max_size, 10, "the default holds");
	pqp_options_free(&o);
}

/* Where a question mark does not begin the query, what follows it is no option. */
static void
test_question_marks(void)
{
	PoolOptions o;

	ok(parse("postgres://u:p?pool_max_size=7@h/d?pool_name=n", &o), "a password with an option");
	is_str(param(&o, "password"), "p?pool_max_size=7", "is a password");
	is_str(o.name, "n", "and what comes behind the host is an option");
	is_int(o.max_size, 10, "the only one");
	pqp_options_free(&o);
	ok(parse("postgres://h,[fe80::1?pool_max_size=7]/d?pool_name=n", &o), "so has an address");
	is_str(param(&o, "host"), "h,fe80::1?pool_max_size=7", "which is an address, if a poor one");
	is_int(o.max_size, 10, "and no option");
	pqp_options_free(&o);
}

/*---- errors ----*/

static void
check_error(const char *conninfo, const char *expected)
{
	PoolOptions o;
	bool parsed = parse(conninfo, &o);

	ok(!parsed && strstr(message, expected) != NULL, "%.*s: %s", (int) strcspn(conninfo, "\n"),
	   conninfo, message);
	ok(parsed || (o.keywords == NULL && o.user_options == NULL && o.name[0] == '\0'),
	   "... and nothing is left to free");
	if (parsed)
		pqp_options_free(&o);
}

static void
test_errors(void)
{
	check_error("pool_maxsize=3", "unknown option \"pool_maxsize\"; the options of a pool are "
								  "pool_name, pool_min_size, pool_max_size");
	check_error("pool_=3", "unknown option \"pool_\"");
	check_error("postgres://?pool%5fsize=3", "unknown option \"pool_size\"");
	check_error("pool_max_size=0",
				"invalid value \"0\" for pool_max_size; allowed is a whole number"
				" from 1 to 10000");
	check_error("pool_max_size=10001", "\"10001\" for pool_max_size");
	check_error("pool_max_size=99999999999999999999", "for pool_max_size");
	check_error("pool_max_size=1.5", "\"1.5\" for pool_max_size");
	check_error("pool_max_size=-1", "\"-1\" for pool_max_size");
	check_error("pool_max_size='5 5'", "\"5 5\" for pool_max_size");
	check_error("pool_min_size=11", "pool_min_size (11) is greater than pool_max_size (10)");
	check_error("pool_idle_timeout=-1",
				"for pool_idle_timeout; allowed is a number with a unit (us,"
				" ms, s, min, h, d; without one: ms)");
	check_error("pool_reset_timeout=0", "for pool_reset_timeout");
	check_error("pool_acquire_timeout=-2", "0 does not wait, -1 waits without limit");
	check_error("pool_leak_after=5m", "\"5m\" for pool_leak_after");
	check_error("pool_reset=all", "allowed is none, rollback or discard");
	check_error("pool_report=yes", "allowed is on or off");
	check_error("pool_limits=obey,ignore", "allowed is obey or ignore");
	check_error("pool_bind=Thread", "allowed is thread or none");
	check_error("pool_name=1234567890123456789012345678901234567890123456789012345678901234",
				"for pool_name; allowed is at most 63 bytes");
	check_error("pool_reset=none pool_reset=discard",
				"option pool_reset is given twice, as \"none\""
				" and as \"discard\"");
	check_error("pool_reset=none dbname='pool_reset=discard'", "given twice");
	check_error("postgres://?pool_reset=none&pool_reset=discard", "given twice");
	check_error("pool_reset='a\nb\x1b[2J'", "invalid value \"a?b?[2J\"");
	check_error("postgres://?pool_reset", "missing \"=\" after pool_reset");
	check_error("postgres://?pool_reset=a=b", "extra \"=\" in the value of pool_reset");
	check_error("postgres://?pool_reset=%zz",
				"invalid percent-encoding in the value of pool_reset");
	check_error("postgres://?pool_reset=%00", "invalid percent-encoding");
	check_error("postgres://?pool_reset=no%6", "invalid percent-encoding");
	check_error("host=a nonsense", "missing \"=\" after the word at position 8");
	check_error("host=a pool_name='b", "unterminated quoted string at position 8");
	check_error("hots=a", "invalid connection option \"hots\"");
	check_error("service=no_such_service", "no_such_service");
	check_error("host=a pool_reset=none postgres://", "missing \"=\"");
}

static void
test_secrets(void)
{
	PoolOptions o;

	ok(!parse("password=hush hush-too", &o) && strstr(message, "hush") == NULL,
	   "half a password is not in the message: %s", message);
	ok(!parse("password='hush", &o) && strstr(message, "hush") == NULL, "nor is a whole one: %s",
	   message);
	ok(!parse("postgres://u:hush@[h/db?pool_name=a", &o) && strstr(message, "hush") == NULL,
	   "nor, quoted by libpq, one of a URI: %s", message);
}

static void
test_short_buffers(void)
{
	PoolOptions o;
	char tiny[8] = "1234567";
	char huge[70000];

	ok(!pqp_options_parse("pool_reset=x", &o, tiny, 5), "an error with room for four bytes");
	is_str(tiny, "inva", "is cut");
	is_str(tiny + 5, "67", "and goes no further");
	ok(!pqp_options_parse("pool_reset=x", &o, NULL, 0), "without any room it is still an error");

	memset(huge, 'x', sizeof(huge));
	memcpy(huge, "pool_name=", 10);
	huge[sizeof(huge) - 1] = '\0';
	ok(!parse(huge, &o), "a name of 64 kB is refused");
	ok(strlen(message) < 200 && strstr(message, "xxx...\"") != NULL, "in few words: %s", message);
	huge[4] = '-';
	memcpy(huge, "password", 8);
	huge[8] = '=';
	ok(parse(huge, &o), "a password of 64 kB is libpq's business");
	is_int(strlen(param(&o, "password")), sizeof(huge) - 10, "and arrives whole");
	pqp_options_free(&o);
}

/*---- environment, service file, names ----*/

static void
test_environment(void)
{
	PoolOptions o;

	setenv("PQPOOL_MAX_SIZE", "33", 1);
	setenv("PQPOOL_RESET", "none", 1);
	setenv("PQPOOL_NAME", "from env", 1);
	setenv("PQPOOL_MIN_SIZE", "", 1);
	setenv("PQPOOL_PORT", "tcp://10.0.0.1:5432", 1);
	ok(parse("pool_reset=discard", &o), "the environment is read: %s", message);
	is_int(o.max_size, 33, "it wins over the default");
	is_int(o.reset, PQP_RESET_DISCARD, "and loses against the string");
	is_str(o.name, "from env", "names, too");
	is_int(o.min_size, 0, "an empty variable is none");
	pqp_options_free(&o);
	setenv("PQPOOL_MAX_SIZE", "many", 1);
	check_error("", "invalid value \"many\" for PQPOOL_MAX_SIZE in the environment");
	ok(parse("pool_max_size=3", &o), "a bad variable that does not count is no error");
	pqp_options_free(&o);
	unsetenv("PQPOOL_MAX_SIZE");
	unsetenv("PQPOOL_RESET");
	unsetenv("PQPOOL_NAME");
	unsetenv("PQPOOL_MIN_SIZE");
	unsetenv("PQPOOL_PORT");
}

static void
check_name(const char *conninfo, const char *expected, const char *what)
{
	PoolOptions o;

	if (!ok(parse(conninfo, &o), "%s: %s", what, message))
		return;
	is_str(o.name, expected, "%s", what);
	pqp_options_free(&o);
}

static void
test_names(void)
{
	char conninfo[200] = "application_name=";

	check_name("application_name=app", "app", "application_name names the pool");
	check_name("application_name=app pool_name=own", "own", "pool_name goes before it");
	check_name("fallback_application_name=fb", "fb", "the fallback counts");
	setenv("PGAPPNAME", "pgapp", 1);
	check_name("fallback_application_name=fb", "pgapp", "PGAPPNAME goes before the fallback");
	unsetenv("PGAPPNAME");
	for (int i = 0; i < 31; i++)
		strcat(conninfo, "\xc3\xa9");
	check_name(conninfo, conninfo + 17, "62 bytes are kept");
	strcat(conninfo, "\xc3\xa9");
	conninfo[17 + 64] = '\0';
	{
		char expected[63];

		memcpy(expected, conninfo + 17, 62);
		expected[62] = '\0';
		check_name(conninfo, expected, "64 are cut between two characters");
	}
	check_name("pool_name='\\'; DROP'", "'; DROP", "any bytes make a name");
}

static void
check_user_options(const char *conninfo, const char *expected, const char *what)
{
	PoolOptions o;

	if (!ok(parse(conninfo, &o), "%s: %s", what, message))
		return;
	is_str(o.user_options, expected, "%s", what);
	ok(param(&o, "options") == NULL && o.keywords[o.nparams] == NULL && o.values[o.nparams] == NULL,
	   "... and is not among the parameters");
	pqp_options_free(&o);
}

static void
check_target(const char *conninfo, PqpTarget expected, bool replication, const char *what)
{
	PoolOptions o;

	if (!ok(parse(conninfo, &o), "%s: %s", what, message))
		return;
	is_int(o.target, expected, "%s", what);
	is_int(o.replication, replication, "%s: a replication connection, or not", what);
	pqp_options_free(&o);
}

static void
test_target(void)
{
	check_target("", PQP_TARGET_ANY, false, "no target");
	check_target("target_session_attrs=any", PQP_TARGET_ANY, false, "any");
	check_target("target_session_attrs=read-write", PQP_TARGET_READ_WRITE, false, "read-write");
	check_target("postgres://h/?target_session_attrs=read-only", PQP_TARGET_READ_ONLY, false,
				 "read-only");
	check_target("target_session_attrs=primary", PQP_TARGET_PRIMARY, false, "primary");
	check_target("target_session_attrs=standby", PQP_TARGET_STANDBY, false, "standby");
	check_target("target_session_attrs=prefer-standby", PQP_TARGET_ANY, false, "prefer-standby");
	setenv("PGTARGETSESSIONATTRS", "standby", 1);
	check_target("replication=database", PQP_TARGET_STANDBY, true, "by the environment");
	unsetenv("PGTARGETSESSIONATTRS");
}

static void
test_user_options(void)
{
	char path[] = "/tmp/pqp_service.XXXXXX";
	int fd = mkstemp(path);
	/* An address that answers nobody: had a connection been tried, the test would hang. */
	static const char text[] = "[svc]\nhostaddr=192.0.2.1\nport=1\noptions=-c work_mem=4MB\n"
							   "application_name=svcname\n[plain]\nuser=x\n";

	ok(fd >= 0 && write(fd, text, sizeof(text) - 1) == (ssize_t) sizeof(text) - 1 && close(fd) == 0,
	   "a service file");
	setenv("PGSERVICEFILE", path, 1);

	check_user_options("options='-c a.b=c\\\\ d' user=x", "-c a.b=c\\ d", "options of the string");
	check_user_options("postgres://h/?options=-c%20a.b%3Dc&user=x", "-c a.b=c", "options of a URI");
	check_user_options("service=svc", "-c work_mem=4MB", "options of a service");
	check_name("service=svc", "svcname", "application_name of a service");
	check_user_options("service=svc options=-cx.y=z", "-cx.y=z",
					   "the string goes before the service");
	setenv("PGOPTIONS", "-c e.n=v", 1);
	check_user_options("", "-c e.n=v", "PGOPTIONS");
	check_user_options("service=plain", "-c e.n=v", "PGOPTIONS if the service has none");
	check_user_options("service=svc", "-c work_mem=4MB",
					   "a service goes before PGOPTIONS, as in libpq");
	check_user_options("options=-cx.y=z", "-cx.y=z", "the string goes before PGOPTIONS");
	setenv("PGSERVICE", "svc", 1);
	check_user_options("", "-c work_mem=4MB", "a service from the environment");
	unsetenv("PGSERVICE");
	unsetenv("PGOPTIONS");
	unsetenv("PGSERVICEFILE");
	unlink(path);
}

/*---- against libpq ----*/

static uint64_t random_state;

static unsigned
draw(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned) (random_state >> 33) % n;
}

static void
append(char *buf, size_t size, const char *s)
{
	size_t len = strlen(buf);

	snprintf(buf + len, size - len, "%s", s);
}

/* A value with everything that needs quoting, as it is meant; not empty. */
static void
draw_value(char *value, size_t size)
{
	static const char *const pieces[] = { "'", "\\", " ", "\t",		  "\n", "=", "a",
										  "Z", "9",	 "&", "?",		  "%",	"@", "/",
										  ":", "[",	 ",", "\xc3\xa9", "#" };
	unsigned n = 1 + draw(6);

	value[0] = '\0';
	while (n-- > 0)
		append(value, size, pieces[draw(countof(pieces))]);
}

static void
append_pair(char *buf, size_t size, const char *key, const char *value)
{
	bool quoted = value[strcspn(value, " \t\n")] != '\0' || draw(2) == 0;

	append(buf, size, buf[0] == '\0' ? "" : " ");
	append(buf, size, key);
	append(buf, size, draw(4) == 0 ? " = " : "=");
	append(buf, size, quoted ? "'" : "");
	for (; *value != '\0'; value++)
	{
		char one[2] = { *value, '\0' };

		if (*value == '\'' || *value == '\\')
			append(buf, size, "\\");
		append(buf, size, one);
	}
	append(buf, size, quoted ? "'" : "");
}

static void
append_query(char *buf, size_t size, const char *key, const char *value)
{
	append(buf, size, strchr(buf, '?') == NULL ? "?" : "&");
	append(buf, size, key);
	append(buf, size, "=");
	for (; *value != '\0'; value++)
	{
		char one[4];

		snprintf(one, sizeof(one),
				 draw(8) == 0 || strchr("'\\ \t\n=&?%@/:[,#", *value) != NULL ? "%%%02X" : "%c",
				 (unsigned char) *value);
		append(buf, size, one);
	}
}

/* Strings with and without our options in them must mean the same to libpq. */
static int
count_differences(int rounds, const char *start,
				  void (*add)(char *, size_t, const char *, const char *))
{
	static const char *const keys[] = { "host",		  "port",	  "user",
										"password",	  "passfile", "sslcert",
										"krbsrvname", "options",  "application_name" };
	int wrong = 0;

	for (int i = 0; i < rounds; i++)
	{
		char with[2000] = "", without[2000] = "", value[100], name[100];
		char got[2000], expected[2000];
		PoolOptions o;
		bool same;

		snprintf(with, sizeof(with), "%s", start);
		snprintf(without, sizeof(without), "%s", start);
		draw_value(name, sizeof(name));
		for (unsigned n = draw(6), ours = draw(n + 1), k = 0; k <= n; k++)
		{
			const char *key = keys[draw(countof(keys))];
			uint64_t before;

			if (k == ours)
				add(with, sizeof(with), "pool_name", name);
			draw_value(value, sizeof(value));
			before = random_state;
			add(with, sizeof(with), key, value);
			random_state = before;
			add(without, sizeof(without), key, value);
		}
		if (!parse(with, &o))
		{
			diag("refused: %s (%s)", with, message);
			wrong++;
			continue;
		}
		dump_params(&o, got, sizeof(got));
		same = dump_libpq(without, expected, sizeof(expected)) != NULL &&
			   strcmp(got, expected) == 0 && strcmp(o.name, name) == 0;
		if (!same && wrong++ < 5)
			diag("differs: [%s]: [%s] [%s], libpq [%s] [%s]", with, o.name, got, name, expected);
		pqp_options_free(&o);
	}
	return wrong;
}

/* Does libpq's dump have a dbname that we expand? The one thing in which we mean to differ. */
static bool
has_nested(const char *dump)
{
	const char *dbname = dump != NULL ? strstr(dump, "dbname=") : NULL;

	return dbname != NULL && strpbrk(dbname + 7, "=") != NULL;
}

/* Any junk: refused by both, or taken by both and for the same. */
static int
count_disagreements(int rounds)
{
	static const char *const pieces[] = { "host",
										  "user",
										  "password",
										  "dbname",
										  "=",
										  "=",
										  "'",
										  "'",
										  "\\",
										  " ",
										  " ",
										  "\t",
										  "\x0b",
										  "a",
										  "b",
										  "5432",
										  "port",
										  "&",
										  "?",
										  "?",
										  "%",
										  "%4",
										  "%41",
										  "%00",
										  "@",
										  "@",
										  "/",
										  "/",
										  ":",
										  "[",
										  "]",
										  "::1",
										  ",",
										  "ssl=true",
										  "é",
										  "\xff",
										  "postgres://",
										  "postgresql://",
										  "sslmode=require" };
	int wrong = 0;

	for (int i = 0; i < rounds; i++)
	{
		char text[500] = "", got[2000], expected[2000];
		const char *by_libpq;
		PoolOptions o;
		bool taken;

		if (draw(2) == 0)
			append(text, sizeof(text), "postgres://");
		for (unsigned n = draw(14); n > 0; n--)
			append(text, sizeof(text), pieces[draw(countof(pieces))]);
		taken = parse(text, &o);
		by_libpq = dump_libpq(text, expected, sizeof(expected));
		if (taken)
			dump_params(&o, got, sizeof(got));
		if ((taken != (by_libpq != NULL) || (taken && strcmp(got, expected) != 0)) &&
			!has_nested(by_libpq))
		{
			if (wrong++ < 5)
				diag("[%s]: ours [%s], libpq [%s]", text, taken ? got : message,
					 by_libpq ? by_libpq : "refused");
		}
		if (taken)
			pqp_options_free(&o);
	}
	return wrong;
}

/*
 * Our own options among junk: nothing to compare with, but nothing may break, and errors
 * have a text.
 */
static int
count_silent_errors(int rounds)
{
	static const char *const pieces[] = { "pool_name",
										  "pool_max_size",
										  "pool_",
										  "=",
										  "=",
										  "'",
										  "\\",
										  " ",
										  "5",
										  "&",
										  "?",
										  "%",
										  "%70",
										  "postgres://",
										  "dbname",
										  "dbname='",
										  "dbname=postgres://",
										  "pool_reset=none",
										  "host=a",
										  "9s" };
	int wrong = 0;

	for (int i = 0; i < rounds; i++)
	{
		char text[500] = "";
		PoolOptions o;

		for (unsigned n = draw(12); n > 0; n--)
			append(text, sizeof(text), pieces[draw(countof(pieces))]);
		if (parse(text, &o))
		{
			wrong += o.name[0] == '\0' || strlen(o.name) > PQP_NAME_MAX || message[0] != '\0';
			for (int k = 0; k < o.nparams; k++)
				wrong += strncmp(o.keywords[k], "pool_", 5) == 0;
			pqp_options_free(&o);
		}
		else
			wrong += message[0] == '\0' || strchr(message, '\n') != NULL;
	}
	return wrong;
}

int
main(void)
{
	/* A locale with a decimal comma, if there is one: numbers must not depend on it. */
	setlocale(LC_ALL, "de_DE.UTF-8");
	unsetenv("PGSERVICE");
	unsetenv("PGOPTIONS");
	unsetenv("PGAPPNAME");

	test_durations();
	test_defaults();
	test_both_forms();
	test_repeated();
	test_question_marks();
	test_errors();
	test_secrets();
	test_short_buffers();
	test_environment();
	test_names();
	test_user_options();
	test_target();

	random_state = UINT64_C(0x9e3779b97f4a7c15);
	is_int(count_differences(3000, "", append_pair), 0, "pairs reach libpq as they are meant");
	is_int(count_differences(3000, "postgres://", append_query), 0, "URIs, too");
	is_int(count_disagreements(20000), 0, "about junk we agree with libpq");
	is_int(count_silent_errors(20000), 0, "our options among junk break nothing");
	return done_testing();
}
