/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  Making one connection by libpq, by a deadline.
 *
 * Whoever opens (open.c), knocks (report.c) or wants a connection of his own
 * (default.c) calls pqp_connect, in the thread that shall be kept waiting; as a
 * rule a helper's.  It goes through
 *
 *		name look-up, TCP connection, TLS or GSSAPI, authentication, start of the
 *		session, target_session_attrs
 *
 * and says at each stage, in slot->progress, what it waits for, so that a caller
 * who gives up meanwhile can be told.
 *
 * How long may it take?  PQconnectPoll leaves connect_timeout to us.  libpq's
 * own loop gives each address that much, then goes on to the next one.  From
 * outside it cannot be made to: shutting down its socket does it while the TCP
 * connection is not made yet, but a server that takes the connection and then
 * is silent would end the whole attempt.  So libpq goes through hosts and
 * addresses in its own order for as long as they answer, be it with a refusal;
 * when one has been silent for its time, we begin anew without it.  Hosts
 * before it are asked once more, which keeps the user's order of preference,
 * and libpq's ways with target_session_attrs and load_balance_hosts.
 *
 * Without a connect_timeout of the user's the time is a short one, but nothing
 * is lost by it: with a single address it does not count; of several, the
 * silent one is put last rather than left out, and when all have had their turn
 * the time doubles.  Only the deadline of the whole attempt ends that.  So a
 * server that is slow is waited for, and a dead one keeps nobody from the next.
 *
 * Accepted: the name look-up is the C library's, and blocks its thread for as
 * long as that likes.  An address that a list has twice is one to us.  A list
 * whose only element is empty is none to libpq, which then looks for another
 * in the environment.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ATTEMPT_MIN_MS 10000 /* an attempt lasts as long as a caller waits, but within these */
#define ATTEMPT_MAX_MS 60000
#define LOOK_US 1000000 /* how often an attempt looks whether its pool has been closed */

/* The parameters that say where to, all lists of as many elements. */
enum
{
	HOST,
	HOSTADDR,
	PORT,
	LISTS
};

static const char *const list_keywords[LISTS] = { "host", "hostaddr", "port" };

typedef struct Lists
{
	char *text[LISTS];
	int n; /* elements */
} Lists;

typedef struct Attempt
{
	const PoolOptions *options;
	const char *startup; /* "options" to send; "": none */
	Slot *slot;			 /* NULL: nobody else looks at it */
	Nascent *nascent;
	int64_t deadline; /* us: of all of it */
	Failure *failure;

	Lists lists;	 /* n == 0: as the user has it */
	int given_up;	 /* how many addresses were silent for too long */
	char where[512]; /* the present address, in libpq's words */
	int64_t since;	 /* us: at this address */
	int64_t until;	 /* us: its time is over */

	char progress[700]; /* pool's lock, if there is a slot: what it waits for */
	char silent[600];	/* of each address that was, a line */
} Attempt;

/*
 * How long.
 */

/* How long may one attempt take, whoever waits for it? */
int64_t
pqp_open_deadline(const PoolOptions *options)
{
	int64_t ms = options->acquire_timeout_ms;

	if (options->connect_timeout_given)
		return INT64_MAX; /* each address has its time, or the user wants no limit */
	if (ms < 0 || ms > ATTEMPT_MAX_MS)
		ms = ATTEMPT_MAX_MS;
	return pqp_deadline(pqp_now(), ms > ATTEMPT_MIN_MS ? ms : ATTEMPT_MIN_MS);
}

/* The present address's time begins. */
static void
start_clock(Attempt *attempt)
{
	int64_t ms = attempt->options->connect_timeout_ms;
	int rounds = attempt->lists.n > 0 ? attempt->given_up / attempt->lists.n : 0;

	if (!attempt->options->connect_timeout_given)
		ms <<= rounds < 10 ? rounds : 10;
	attempt->since = pqp_now();
	attempt->until = ms > 0 ? pqp_deadline(attempt->since, ms) : INT64_MAX;
}

/*
 * Where it is, and what it waits for.
 */

static bool
is_socket_path(const char *host)
{
	return host[0] == '/' || host[0] == '@';
}

static void
describe_address(PGconn *conn, char *buf, size_t size)
{
	const char *host = PQhost(conn);
	const char *address = PQhostaddr(conn);

	if (is_socket_path(host))
		(void) snprintf(buf, size, "connection to server on socket \"%s/.s.PGSQL.%s\"", host,
						PQport(conn));
	else if (address[0] == '\0' || strcmp(host, address) == 0)
		(void) snprintf(buf, size, "connection to server at \"%s\", port %s", host, PQport(conn));
	else
		(void) snprintf(buf, size, "connection to server at \"%s\" (%s), port %s", host, address,
						PQport(conn));
}

static const char *
stage(PGconn *conn)
{
	switch (PQstatus(conn))
	{
		case CONNECTION_STARTED:
			return "the connection request to be accepted";
		case CONNECTION_SSL_STARTUP:
			return PQsslInUse(conn) ? "the TLS handshake" : "the answer to the TLS request";
		case CONNECTION_GSS_STARTUP:
			return "the GSSAPI negotiation";
		case CONNECTION_MADE:
		case CONNECTION_AWAITING_RESPONSE:
			return "authentication";
		case CONNECTION_AUTH_OK:
			return "the session to begin";
		case CONNECTION_CHECK_TARGET:
		case CONNECTION_CHECK_WRITABLE:
		case CONNECTION_CHECK_STANDBY:
		case CONNECTION_CONSUME:
			return "what target_session_attrs asks of the server";
		default:
			return "the server";
	}
}

/* Tell those who look at the slot. */
static void
publish(Attempt *attempt, const char *where, const char *what)
{
	char text[sizeof(attempt->progress)];
	Slot *slot = attempt->slot;

	(void) snprintf(text, sizeof(text), "%s: waiting for %s", where, what);
	if (strcmp(text, attempt->progress) == 0)
		return;
	if (slot)
		pthread_mutex_lock(&slot->pool->lock);
	strcpy(attempt->progress, text);
	if (slot)
	{
		slot->progress = attempt->progress;
		pthread_mutex_unlock(&slot->pool->lock);
	}
}

/* Note where the attempt is.  At another address the clock starts anew. */
static void
look_where(Attempt *attempt, PGconn *conn)
{
	char where[sizeof(attempt->where)];

	describe_address(conn, where, sizeof(where));
	if (strcmp(where, attempt->where) != 0)
	{
		strcpy(attempt->where, where);
		start_clock(attempt);
	}
	publish(attempt, attempt->where, stage(conn));
}

static bool
pool_closed(Attempt *attempt)
{
	bool closed;

	if (!attempt->slot)
		return false;
	pthread_mutex_lock(&attempt->slot->pool->lock);
	closed = attempt->slot->pool->closed;
	pthread_mutex_unlock(&attempt->slot->pool->lock);
	return closed;
}

/* What a connection that is being opened waits for, if there is one.  With the lock held. */
void
pqp_opening_waits(const Pool *pool, Failure *failure)
{
	for (int i = 0; i < pool->nslots; i++)
		if (pqp_slot(pool, i)->progress)
		{
			pqp_failure_set(failure, PQPOOL_SERVER_DOWN, pqp_slot(pool, i)->progress);
			return;
		}
}

/*
 * Failing.
 */

/* Put what was before in front of the reason. */
static void
add_silent(Attempt *attempt)
{
	Failure last = *attempt->failure;
	char text[sizeof(attempt->silent) + sizeof(last.text)];

	if (attempt->silent[0] == '\0')
		return;
	(void) snprintf(text, sizeof(text), "%s%s", attempt->silent, last.text);
	pqp_failure_set(attempt->failure, last.code, text);
	memcpy(attempt->failure->sqlstate, last.sqlstate, sizeof(last.sqlstate));
}

static void
fail(Attempt *attempt, const char *why)
{
	char text[sizeof(attempt->where) + 200];

	(void) snprintf(text, sizeof(text), "%s failed: %s", attempt->where, why);
	pqp_failure_set(attempt->failure, PQPOOL_SERVER_DOWN, text);
	add_silent(attempt);
}

/* "timeout expired" is libpq's word for it. */
static void
describe_timeout(const Attempt *attempt, PGconn *conn, char *buf, size_t size)
{
	(void) snprintf(buf, size, "timeout expired after %.1f s, waiting for %s",
					(double) (pqp_now() - attempt->since) / 1e6, stage(conn));
}

static void
fail_by_timeout(Attempt *attempt, PGconn *conn)
{
	char why[200];

	describe_timeout(attempt, conn, why, sizeof(why));
	fail(attempt, why);
}

/* Keep it for the message, should the others fail, too. */
static void
note_silent(Attempt *attempt, PGconn *conn)
{
	size_t used = strlen(attempt->silent);
	char why[200];

	attempt->given_up++;
	if (strstr(attempt->silent, attempt->where))
		return;
	describe_timeout(attempt, conn, why, sizeof(why));
	(void) snprintf(attempt->silent + used, sizeof(attempt->silent) - used, "%s failed: %s\n",
					attempt->where, why);
}

/*
 * Going on without an address.
 */

typedef struct Builder
{
	char *text[LISTS];
	int n;
	bool failed; /* out of memory */
} Builder;

static void
append(Builder *builder, const char *const element[LISTS])
{
	for (int i = 0; i < LISTS; i++)
	{
		size_t used = builder->text[i] ? strlen(builder->text[i]) : 0;
		size_t more = strlen(element[i]) + 2;
		char *grown = realloc(builder->text[i], used + more);

		if (!grown)
		{
			builder->failed = true;
			return;
		}
		(void) snprintf(grown + used, more, "%s%s", builder->n > 0 ? "," : "", element[i]);
		builder->text[i] = grown;
	}
	builder->n++;
}

static int
count_elements(const char *list)
{
	int n = 1;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

/* The i-th element of a list; of a list of one, that one. */
static void
copy_element(const char *list, int i, char *buf, size_t size)
{
	if (count_elements(list) == 1)
		i = 0;
	for (; i > 0 && *list; list++)
		i -= *list == ',';
	(void) snprintf(buf, size, "%.*s", (int) strcspn(list, ","), list);
}

/* Does an element have the name and the port of the address at which the connection is? */
static bool
has_name(const char *const element[LISTS], PGconn *conn)
{
	const char *host = element[HOST][0] ? element[HOST] : element[HOSTADDR];

	if (element[PORT][0] && strcmp(element[PORT], PQport(conn)) != 0)
		return false;
	return host[0] ? strcmp(host, PQhost(conn)) == 0 : is_socket_path(PQhost(conn));
}

static bool
is_address(const struct sockaddr *found, const char *address)
{
	unsigned char wanted[sizeof(struct in6_addr)];

	if (inet_pton(found->sa_family, address, wanted) != 1)
		return false;
	if (found->sa_family == AF_INET)
		return memcmp(wanted, &((const struct sockaddr_in *) found)->sin_addr,
					  sizeof(struct in_addr)) == 0;
	return memcmp(wanted, &((const struct sockaddr_in6 *) found)->sin6_addr,
				  sizeof(struct in6_addr)) == 0;
}

/* Append the addresses of an element with the silent one's name, but for that one. */
static void
append_others(Builder *builder, const char *const element[LISTS], PGconn *conn)
{
	const char *name = element[HOSTADDR][0] ? element[HOSTADDR] : element[HOST];
	struct addrinfo hint = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;

	if (name[0] == '\0' || is_socket_path(name))
		return;
	if (element[HOSTADDR][0])
		hint.ai_flags = AI_NUMERICHOST;
	if (getaddrinfo(name, NULL, &hint, &found) != 0)
		return;
	for (struct addrinfo *ai = found; ai; ai = ai->ai_next)
	{
		char address[NI_MAXHOST];

		if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) ||
			is_address(ai->ai_addr, PQhostaddr(conn)) ||
			getnameinfo(ai->ai_addr, ai->ai_addrlen, address, sizeof(address), NULL, 0,
						NI_NUMERICHOST) != 0)
			continue;
		append(builder, (const char *[LISTS]){ element[HOST], address, element[PORT] });
	}
	freeaddrinfo(found);
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val ? options->val : "";
	return "";
}

/*
 * Write down all addresses but the one at which the connection is; with last, that one
 * behind them.
 */
static void
append_all(Builder *builder, const char *const lists[LISTS], PGconn *conn, bool last)
{
	int n = count_elements(lists[lists[HOSTADDR][0] ? HOSTADDR : HOST]);
	char silent[LISTS][NI_MAXHOST] = { "" };
	bool found = false;

	for (int i = 0; i < n; i++)
	{
		char copies[LISTS][NI_MAXHOST];
		const char *element[LISTS];

		for (int k = 0; k < LISTS; k++)
		{
			copy_element(lists[k], i, copies[k], sizeof(copies[k]));
			element[k] = copies[k];
		}
		if (!has_name(element, conn))
		{
			append(builder, element);
			continue;
		}
		append_others(builder, element, conn);
		memcpy(silent, copies, sizeof(silent));
		found = true;
	}
	if (!found)
		builder->n = 0; /* then nothing would change */
	else if (last && builder->n > 0)
		append(builder, (const char *[LISTS]){ silent[HOST], PQhostaddr(conn), silent[PORT] });
}

static void
free_lists(Lists *lists)
{
	for (int i = 0; i < LISTS; i++)
		free(lists->text[i]);
	*lists = (Lists){ 0 };
}

/* Have the next PGconn go elsewhere.  False: there is no other address. */
static bool
leave_out(Attempt *attempt, PGconn *conn)
{
	PQconninfoOption *options = PQconninfo(conn);
	Builder builder = { 0 };
	const char *lists[LISTS];

	if (!options)
		return false;
	for (int i = 0; i < LISTS; i++)
		lists[i] = value_of(options, list_keywords[i]);
	append_all(&builder, lists, conn, !attempt->options->connect_timeout_given);
	PQconninfoFree(options);
	if (!builder.failed && builder.n > 0)
	{
		free_lists(&attempt->lists);
		attempt->lists.n = builder.n;
		memcpy(attempt->lists.text, builder.text, sizeof(builder.text));
		return true;
	}
	for (int i = 0; i < LISTS; i++)
		free(builder.text[i]);
	return false;
}

/*
 * One PGconn.
 */

static bool
is_list(const char *keyword)
{
	for (int i = 0; i < LISTS; i++)
		if (strcmp(keyword, list_keywords[i]) == 0)
			return true;
	return false;
}

/* Start with libpq's parameters, our defaults, the lists if they are ours, and "options". */
static PGconn *
start(const Attempt *attempt)
{
	const PoolOptions *options = attempt->options;
	size_t size = (size_t) options->nparams + (size_t) options->ndefaults + LISTS + 2;
	const char **keywords = calloc(2 * size, sizeof(char *));
	const char **values;
	PGconn *conn;
	int n = 0;

	if (!keywords)
		return NULL;
	values = keywords + size;
	for (int i = 0; i < options->nparams; i++)
		if (attempt->lists.n == 0 || !is_list(options->keywords[i]))
		{
			keywords[n] = options->keywords[i];
			values[n++] = options->values[i];
		}
	for (int i = 0; i < options->ndefaults; i++)
	{
		keywords[n] = options->default_keywords[i];
		values[n++] = options->default_values[i];
	}
	for (int i = 0; i < LISTS && attempt->lists.n > 0; i++)
	{
		keywords[n] = list_keywords[i];
		values[n++] = attempt->lists.text[i];
	}
	keywords[n] = attempt->startup[0] ? "options" : NULL;
	values[n] = attempt->startup;
	conn = pqp_connect_start(keywords, values);
	free(keywords);
	return conn;
}

static const char *
parameter(const PoolOptions *options, const char *keyword)
{
	for (int i = 0; i < options->nparams; i++)
		if (strcmp(options->keywords[i], keyword) == 0)
			return options->values[i];
	return "";
}

/* Wait until libpq can go on, or that time. */
static bool
wait_for(PGconn *conn, PostgresPollingStatusType want, int64_t until)
{
	struct pollfd wait = { .fd = PQsocket(conn),
						   .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT };
	int n = poll(&wait, 1, pqp_poll_ms(until));

	return n > 0;
}

static int64_t
earliest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Nothing came.  May it be waited for further? */
static bool
go_on(Attempt *attempt, PGconn *conn)
{
	int64_t now = pqp_now();

	if (pool_closed(attempt))
		fail(attempt, "the pool was closed meanwhile");
	else if (now >= attempt->deadline)
		fail_by_timeout(attempt, conn);
	else if (now < attempt->until)
		return true;
	else if (leave_out(attempt, conn))
		note_silent(attempt, conn);
	else if (attempt->options->connect_timeout_given)
		fail_by_timeout(attempt, conn);
	else
	{
		attempt->until = INT64_MAX;
		return true;
	}
	return false;
}

/*
 * Go on until it is connected.  False: *failure says why not, or, if it says
 * nothing, it is to be tried elsewhere.
 */
static bool
poll_connect(Attempt *attempt, PGconn *conn)
{
	PostgresPollingStatusType want =
		PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;

	attempt->where[0] = '\0';
	while (want != PGRES_POLLING_OK && want != PGRES_POLLING_FAILED)
	{
		int64_t until = pqp_now() + LOOK_US;

		look_where(attempt, conn);
		until = earliest(until, earliest(attempt->until, attempt->deadline));
		if (wait_for(conn, want, until))
			want = PQconnectPoll(conn);
		else if (!go_on(attempt, conn))
			return false;
	}
	if (want == PGRES_POLLING_OK)
		return true;
	pqp_failure_of_connect(attempt->failure, conn);
	add_silent(attempt);
	return false;
}

/* What a server has to say while we connect in the background is not for stderr. */
static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

/*
 * The connection is set up for us meanwhile, and afterwards as libpq has it.
 * NULL: see poll_connect.
 */
static PGconn *
connect_once(Attempt *attempt)
{
	PQnoticeReceiver receiver;
	PGconn *conn;
	bool connected;

	conn = start(attempt);
	if (!conn)
	{
		pqp_failure_set(attempt->failure, PQPOOL_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	pqp_nascent(attempt->nascent, conn);
	receiver = PQsetNoticeReceiver(conn, ignore_notice, NULL);
	/* else the SQLSTATE of a refusal is not to be had */
	(void) PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
	connected = poll_connect(attempt, conn);
	(void) PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
	PQsetNoticeReceiver(conn, receiver, NULL);
	if (connected)
		return conn;
	pqp_nascent(attempt->nascent, NULL);
	PQfinish(conn);
	return NULL;
}

/* The first PGconn looks the first name up before it exists. */
static void
publish_lookup(Attempt *attempt)
{
	const char *host = parameter(attempt->options, "host");
	char where[sizeof(attempt->where)];

	(void) snprintf(where, sizeof(where),
					host[0] ? "connection to server at \"%s\"" : "connection to server", host);
	publish(attempt, where, "the name look-up");
}

static void
end_progress(Slot *slot)
{
	if (!slot)
		return;
	pthread_mutex_lock(&slot->pool->lock);
	slot->progress = NULL;
	pthread_mutex_unlock(&slot->pool->lock);
}

/*
 * Connect. identity: the whole startup options, or NULL for the user's own.
 * slot: a pool's slot that is being opened, or NULL.  NULL: *failure says why
 * not.
 */
PGconn *
pqp_connect(const PoolOptions *options, const char *identity, int64_t deadline, Slot *slot,
			Nascent *nascent, Failure *failure)
{
	Attempt attempt = { .options = options,
						.startup = identity ? identity : options->user_options,
						.slot = slot,
						.nascent = nascent,
						.deadline = deadline,
						.failure = failure };
	PGconn *conn;
	int old;

	failure->code = PQPOOL_OK;
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	publish_lookup(&attempt);
	do
		conn = connect_once(&attempt);
	while (!conn && failure->code == PQPOOL_OK);
	end_progress(slot);
	free_lists(&attempt.lists);
	(void) pthread_setcancelstate(old, NULL);
	return conn;
}
