/*-------------------------------------------------------------------------
 *
 * fakepq.c
 *	  See fakepq.h.
 *
 * Two halves that share nothing but the socket pair and a Session: the client
 * (struct pg_conn, allocated, owned by one thread at a time, as with libpq) and
 * the server (a Session, in a fixed table, under `lock`).
 *
 * Bytes that the server sends:
 *		A	all that was asked is answered
 *		N	a NOTIFY
 *		W	a warning
 *		F	FATAL: the end of the session follows
 *		P	a new allotment
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "fakepq.h"
#include "inject.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SESSIONS 512
#define ITEMS 16

static const char *const known[] = { "host",	"port",			  "dbname",
									 "user",	"password",		  "application_name",
									 "options", "sslmode",		  "fallback_application_name",
									 "service", "connect_timeout" };

#define NKNOWN ((int) (sizeof(known) / sizeof(known[0])))

typedef struct Session
{
	bool used;
	bool ending; /* the client has gone */
	long id;
	int end;	/* the server's end of the pair */
	int waits;	/* until it does the next thing; NEVER: it will not */
	bool asked; /* it owes an answer */
	int limit;
} Session;

struct pg_conn
{
	char *values[NKNOWN];
	int sock;
	long session;
	ConnStatusType status;
	int connect_waits;
	bool silent;
	const char *refuse;
	bool attached;
	PGTransactionStatusType transaction;
	PGTransactionStatusType transaction_later; /* once all is answered */
	PGpipelineStatus pipeline;
	bool nonblocking;
	PQnoticeReceiver receiver;
	void *receiver_arg;
	PQnoticeProcessor processor;
	void *processor_arg;
	ExecStatusType items[ITEMS]; /* results to come; -1: the NULL that ends those of a command */
	int nitems;
	bool answered;
	struct Notify
	{
		PGnotify body; /* must be first: PQfreemem gets it */
		struct Notify *next;
	} * notifies;
	char *allotment;
	int epoch;
	char error[256];
};

struct pg_result
{
	ExecStatusType status;
	const char *severity;
	const char *sqlstate;
};

struct pg_cancel
{
	long session;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FakeServer server; /* lock, as the next */
static Session sessions[SESSIONS];
static long last_session;
static _Atomic int alive;
static _Atomic long reports;

static struct pg_result no_memory_result = { PGRES_FATAL_ERROR, "ERROR", "" };

/*---- the server ----*/

static Session *
find_session(long id)
{
	for (int i = 0; i < SESSIONS; i++)
		if (sessions[i].used && sessions[i].id == id)
			return &sessions[i];
	return NULL;
}

static void
say(Session *session, char byte)
{
	(void) send(session->end, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
end_session(Session *session)
{
	(void) close(session->end);
	session->used = false;
}

/* Its time has come. */
static void
act(Session *session)
{
	if (session->ending)
		end_session(session);
	else if (session->asked)
	{
		session->asked = false;
		say(session, 'A');
	}
}

static void
before_poll(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < SESSIONS; i++)
	{
		Session *session = &sessions[i];

		if (!session->used || (!session->ending && !session->asked) || session->waits == NEVER)
			continue;
		if (session->waits-- <= 0)
			act(session);
	}
	pthread_mutex_unlock(&lock);
}

/* A child of a fork shall not find the lock taken. */
static void
lock_server(void)
{
	pthread_mutex_lock(&lock);
}

static void
unlock_server(void)
{
	pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void
watch_forks(void)
{
	(void) pthread_atfork(lock_server, unlock_server, unlock_server);
}

void
fakepq_hurry(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < SESSIONS; i++)
		if (sessions[i].used)
			act(&sessions[i]);
	pthread_mutex_unlock(&lock);
}

void
fakepq_behave(FakeServer behaviour)
{
	pthread_mutex_lock(&lock);
	server = behaviour;
	pthread_mutex_unlock(&lock);
	faults_before_poll = before_poll;
}

/* The server's end of a new connection; 0: none is left. */
static long
begin_session(int end)
{
	long id = 0;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < SESSIONS && id == 0; i++)
		if (!sessions[i].used)
		{
			id = ++last_session;
			sessions[i] = (Session){ .used = true, .id = id, .end = end, .limit = server.limit };
		}
	pthread_mutex_unlock(&lock);
	return id;
}

/* The client wants an answer. */
static void
ask(PGconn *conn)
{
	Session *session;

	pthread_mutex_lock(&lock);
	session = find_session(conn->session);
	if (session)
	{
		session->asked = true;
		session->waits = server.answer_waits;
		if (session->waits == 0)
			act(session);
	}
	pthread_mutex_unlock(&lock);
}

static void
with_session(PGconn *conn, void (*what)(Session *, int), int argument)
{
	Session *session;

	pthread_mutex_lock(&lock);
	session = find_session(conn->session);
	if (session)
		what(session, argument);
	pthread_mutex_unlock(&lock);
}

static void
say_and_end(Session *session, int fatal)
{
	if (fatal)
		say(session, 'F');
	end_session(session);
}

static void
say_byte(Session *session, int byte)
{
	say(session, (char) byte);
}

static void
say_limit(Session *session, int limit)
{
	session->limit = limit;
	say(session, 'P');
}

void
fakepq_end(PGconn *conn, bool fatal)
{
	with_session(conn, say_and_end, fatal);
}

void
fakepq_notify(PGconn *conn)
{
	with_session(conn, say_byte, 'N');
}

void
fakepq_warn(PGconn *conn)
{
	with_session(conn, say_byte, 'W');
}

void
fakepq_allot(PGconn *conn, int limit)
{
	with_session(conn, say_limit, limit);
}

long
fakepq_reports(void)
{
	return reports;
}

/*---- the client: what is alive ----*/

int
fakepq_alive(void)
{
	return alive;
}

static void *
make(size_t size)
{
	void *object = calloc(1, size);

	if (object)
		alive++;
	return object;
}

static void
unmake(void *object)
{
	if (object)
		alive--;
	free(object);
}

static PGresult *
make_result(ExecStatusType status)
{
	PGresult *result = make(sizeof(*result));

	if (!result)
		return &no_memory_result;
	result->status = status;
	return result;
}

void
PQclear(PGresult *result)
{
	if (result != &no_memory_result)
		unmake(result);
}

ExecStatusType
PQresultStatus(const PGresult *result)
{
	return result ? result->status : PGRES_FATAL_ERROR;
}

char *
PQresultErrorField(const PGresult *result, int field)
{
	if (field == PG_DIAG_SEVERITY_NONLOCALIZED)
		return (char *) result->severity;
	return field == PG_DIAG_SQLSTATE ? (char *) result->sqlstate : NULL;
}

void
PQfreemem(void *block)
{
	unmake(block);
}

/*---- the client: strings of options ----*/

static int
find_known(const char *keyword, size_t len)
{
	for (int i = 0; i < NKNOWN; i++)
		if (strlen(known[i]) == len && memcmp(known[i], keyword, len) == 0)
			return i;
	return -1;
}

static PQconninfoOption *
make_options(void)
{
	PQconninfoOption *options = make((NKNOWN + 1) * sizeof(*options));

	for (int i = 0; options && i < NKNOWN; i++)
		options[i].keyword = (char *) known[i];
	return options;
}

void
PQconninfoFree(PQconninfoOption *options)
{
	for (int i = 0; options && i < NKNOWN; i++)
		free(options[i].val);
	unmake(options);
}

/* A message for the caller of PQconninfoParse; NULL when there is no memory for it. */
static bool
complain(char **message, const char *text)
{
	*message = make(strlen(text) + 1);
	if (*message)
		strcpy(*message, text);
	return false;
}

static bool
store(PQconninfoOption *options, const char *keyword, size_t keyword_len, const char *value,
	  size_t len, char **message)
{
	int i = find_known(keyword, keyword_len);
	char *copy;

	if (i < 0)
		return complain(message, "invalid connection option\n");
	copy = malloc(len + 1);
	if (!copy)
		return complain(message, "out of memory\n");
	memcpy(copy, value, len);
	copy[len] = '\0';
	free(options[i].val);
	options[i].val = copy;
	return true;
}

/* keyword='value', without escapes: what the library makes of one pair. */
static bool
parse_pairs(PQconninfoOption *options, const char *text, char **message)
{
	while (*(text += strspn(text, " ")) != '\0')
	{
		size_t keyword_len = strcspn(text, "=");
		const char *value = text + keyword_len + 1;
		bool quoted = *value == '\'';
		size_t len = quoted ? strcspn(++value, "'") : strcspn(value, " ");

		if (!store(options, text, keyword_len, value, len, message))
			return false;
		text = value + len + quoted;
	}
	return true;
}

/* postgresql://host/dbname?keyword=value&... */
static bool
parse_uri(PQconninfoOption *options, const char *text, char **message)
{
	const char *host = strstr(text, "://") + 3;
	size_t len = strcspn(host, "/?");
	const char *rest = host + len;

	if (len > 0 && !store(options, "host", 4, host, len, message))
		return false;
	if (*rest == '/')
	{
		len = strcspn(++rest, "?");
		if (len > 0 && !store(options, "dbname", 6, rest, len, message))
			return false;
		rest += len;
	}
	while (*rest == '?' || *rest == '&')
	{
		size_t keyword_len = strcspn(++rest, "=&");
		const char *value = rest + keyword_len + (rest[keyword_len] == '=');

		len = strcspn(value, "&");
		if (keyword_len > 0 && !store(options, rest, keyword_len, value, len, message))
			return false;
		rest = value + len;
	}
	return true;
}

PQconninfoOption *
PQconninfoParse(const char *conninfo, char **message)
{
	PQconninfoOption *options = make_options();
	bool uri = strncmp(conninfo, "postgresql://", 13) == 0;

	*message = NULL;
	if (!options)
		return NULL;
	if (uri ? parse_uri(options, conninfo, message) : parse_pairs(options, conninfo, message))
		return options;
	PQconninfoFree(options);
	return NULL;
}

/* As the real one, it says nothing about a value for which there was no memory. */
PQconninfoOption *
PQconninfo(PGconn *conn)
{
	PQconninfoOption *options = make_options();

	for (int i = 0; options && i < NKNOWN; i++)
		if (conn->values[i])
			options[i].val = strdup(conn->values[i]);
	return options;
}

/*---- the client: connecting ----*/

static void
fail_conn(PGconn *conn, const char *format, const char *what)
{
	conn->status = CONNECTION_BAD;
	(void) snprintf(conn->error, sizeof(conn->error), format, what);
}

static bool
take_values(PGconn *conn, const char *const *keywords, const char *const *values)
{
	for (; *keywords; keywords++, values++)
	{
		int i = find_known(*keywords, strlen(*keywords));

		if (i < 0)
		{
			fail_conn(conn, "invalid connection option \"%s\"\n", *keywords);
			return false;
		}
		if (!*values || !**values)
			continue;
		free(conn->values[i]);
		conn->values[i] = strdup(*values);
		if (!conn->values[i])
		{
			fail_conn(conn, "%s\n", "out of memory");
			return false;
		}
	}
	return true;
}

static const char *
value_of(const PGconn *conn, const char *keyword)
{
	return conn->values[find_known(keyword, strlen(keyword))];
}

const char *
fakepq_option(PGconn *conn, const char *keyword)
{
	return value_of(conn, keyword);
}

static bool
sslmode_is_good(PGconn *conn)
{
	const char *mode = value_of(conn, "sslmode");

	if (!mode)
	{
		/* the default is a copy, too */
		conn->values[find_known("sslmode", 7)] = strdup("prefer");
		if (!value_of(conn, "sslmode"))
			fail_conn(conn, "%s\n", "out of memory");
		return value_of(conn, "sslmode") != NULL;
	}
	if (strcmp(mode, "prefer") == 0 || strcmp(mode, "disable") == 0)
		return true;
	fail_conn(conn, "invalid sslmode value: \"%s\"\n", mode);
	return false;
}

static void
default_receiver(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static void
default_processor(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static void
open_socket(PGconn *conn)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
	{
		fail_conn(conn, "could not create socket: %s\n", strerror(errno));
		return;
	}
	conn->session = begin_session(pair[1]);
	if (conn->session == 0)
		abort();
	conn->sock = pair[0];
	alive++;
	conn->status = CONNECTION_STARTED;
	pthread_mutex_lock(&lock);
	conn->connect_waits = server.connect_waits;
	conn->silent = server.silent;
	conn->refuse = server.refuse;
	conn->attached = server.attached;
	pthread_mutex_unlock(&lock);
}

PGconn *
PQconnectStartParams(const char *const *keywords, const char *const *values, int expand_dbname)
{
	PGconn *conn = make(sizeof(*conn));

	(void) expand_dbname;
	if (!conn)
		return NULL;
	conn->sock = -1;
	conn->status = CONNECTION_BAD;
	conn->receiver = default_receiver;
	conn->processor = default_processor;
	if (take_values(conn, keywords, values) && sslmode_is_good(conn))
		open_socket(conn);
	return conn;
}

/* The text that goes with "-c pgpool_monitor.instance=ID;..." in the options, if it is there. */
static void
read_allotment(PGconn *conn)
{
	static const char key[] = "pgpool_monitor.instance=";
	const char *options = value_of(conn, "options");
	const char *id = options ? strstr(options, key) : NULL;
	Session *session;
	char text[256];
	char *copy;
	int limit;

	if (!id || !conn->attached)
		return;
	id += strlen(key);
	pthread_mutex_lock(&lock);
	session = find_session(conn->session);
	limit = session ? session->limit : -1;
	pthread_mutex_unlock(&lock);
	(void) snprintf(text, sizeof(text),
					"id=%.*s;inc=run;epoch=%d;limit=%d;state=ok;lease=30;interval=0.1;retry=0.1",
					(int) strcspn(id, "; "), id, ++conn->epoch, limit);
	copy = strdup(text);
	if (!copy)
		return;
	free(conn->allotment);
	conn->allotment = copy;
}

PostgresPollingStatusType
PQconnectPoll(PGconn *conn)
{
	char text[64];

	if (conn->status == CONNECTION_BAD)
		return PGRES_POLLING_FAILED;
	if (conn->silent)
		return PGRES_POLLING_READING;
	if (conn->connect_waits-- > 0)
		return PGRES_POLLING_WRITING;
	if (conn->refuse)
	{
		(void) snprintf(text, sizeof(text), "FATAL:  %s: refused", conn->refuse);
		fail_conn(conn, "%s\nLOCATION:  here, postinit.c:1\n", text);
		return PGRES_POLLING_FAILED;
	}
	read_allotment(conn);
	conn->status = CONNECTION_OK;
	return PGRES_POLLING_OK;
}

void
PQfinish(PGconn *conn)
{
	Session *session;

	if (!conn)
		return;
	if (conn->sock >= 0)
	{
		(void) close(conn->sock);
		alive--;
		pthread_mutex_lock(&lock);
		session = find_session(conn->session);
		if (session)
		{
			session->ending = true;
			session->waits = server.end_waits;
			if (session->waits == 0)
				act(session);
		}
		pthread_mutex_unlock(&lock);
	}
	while (conn->notifies)
	{
		struct Notify *notify = conn->notifies;

		conn->notifies = notify->next;
		unmake(notify);
	}
	for (int i = 0; i < NKNOWN; i++)
		free(conn->values[i]);
	free(conn->allotment);
	unmake(conn);
}

/*---- the client: looking at a connection ----*/

ConnStatusType
PQstatus(const PGconn *conn)
{
	return conn->status;
}

int
PQsocket(const PGconn *conn)
{
	return conn->sock;
}

int
PQbackendPID(const PGconn *conn)
{
	return (int) conn->session;
}

char *
PQhost(const PGconn *conn)
{
	return (char *) (value_of(conn, "host") ? value_of(conn, "host") : "");
}

char *
PQhostaddr(const PGconn *conn)
{
	(void) conn;
	return "";
}

int
PQsslInUse(PGconn *conn)
{
	(void) conn;
	return 0;
}

char *
PQport(const PGconn *conn)
{
	return (char *) (value_of(conn, "port") ? value_of(conn, "port") : "");
}

char *
PQpass(const PGconn *conn)
{
	return (char *) (value_of(conn, "password") ? value_of(conn, "password") : "");
}

char *
PQerrorMessage(const PGconn *conn)
{
	return (char *) (conn ? conn->error : "connection pointer is NULL\n");
}

int
PQconnectionNeedsPassword(const PGconn *conn)
{
	(void) conn;
	return 0;
}

const char *
PQparameterStatus(const PGconn *conn, const char *name)
{
	return strcmp(name, "pgpool_monitor.allotment") == 0 ? conn->allotment : NULL;
}

PGTransactionStatusType
PQtransactionStatus(const PGconn *conn)
{
	if (conn->status != CONNECTION_OK)
		return PQTRANS_UNKNOWN;
	return conn->nitems > 0 ? PQTRANS_ACTIVE : conn->transaction;
}

PGpipelineStatus
PQpipelineStatus(const PGconn *conn)
{
	return conn->pipeline;
}

int
PQisnonblocking(const PGconn *conn)
{
	return conn->nonblocking;
}

int
PQsetnonblocking(PGconn *conn, int on)
{
	if (conn->status == CONNECTION_BAD)
		return -1;
	conn->nonblocking = on != 0;
	return 0;
}

int
PQflush(PGconn *conn)
{
	return conn->status == CONNECTION_BAD ? -1 : 0;
}

int
PQisBusy(PGconn *conn)
{
	return conn->status == CONNECTION_OK && conn->nitems > 0 && !conn->answered;
}

PQnoticeReceiver
PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver receiver, void *arg)
{
	PQnoticeReceiver previous = conn->receiver;

	if (receiver)
	{
		conn->receiver = receiver;
		conn->receiver_arg = arg;
	}
	return previous;
}

PQnoticeProcessor
PQsetNoticeProcessor(PGconn *conn, PQnoticeProcessor processor, void *arg)
{
	PQnoticeProcessor previous = conn->processor;

	if (processor)
	{
		conn->processor = processor;
		conn->processor_arg = arg;
	}
	return previous;
}

void
PQuntrace(PGconn *conn)
{
	(void) conn;
}

PGVerbosity
PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity)
{
	(void) conn;
	return verbosity;
}

PGContextVisibility
PQsetErrorContextVisibility(PGconn *conn, PGContextVisibility visibility)
{
	(void) conn;
	return visibility;
}

static void
lock_nothing(int acquire)
{
	(void) acquire;
}

pgthreadlock_t
PQregisterThreadLock(pgthreadlock_t handler)
{
	static pgthreadlock_t current = lock_nothing;
	pgthreadlock_t previous = current;

	current = handler ? handler : lock_nothing;
	return previous;
}

/*---- the client: what comes in ----*/

static void
add_notify(PGconn *conn)
{
	struct Notify *notify = make(sizeof(*notify));

	if (!notify)
		return;
	notify->next = conn->notifies;
	conn->notifies = notify;
}

PGnotify *
PQnotifies(PGconn *conn)
{
	struct Notify *notify = conn->notifies;

	if (!notify)
		return NULL;
	conn->notifies = notify->next;
	return &notify->body;
}

static void
notice(PGconn *conn, const char *severity, const char *sqlstate)
{
	PGresult *result = make_result(PGRES_NONFATAL_ERROR);

	if (result == &no_memory_result)
		return;
	result->severity = severity;
	result->sqlstate = sqlstate;
	conn->receiver(conn->receiver_arg, result);
	PQclear(result);
}

static void
take_in(PGconn *conn, char byte)
{
	switch (byte)
	{
		case 'A':
			conn->answered = true;
			conn->transaction = conn->transaction_later;
			break;
		case 'N':
			add_notify(conn);
			break;
		case 'W':
			notice(conn, "WARNING", "01000");
			break;
		case 'F':
			notice(conn, "FATAL", "57P01");
			break;
		case 'P':
			read_allotment(conn);
			break;
		default:
			abort();
	}
}

int
PQconsumeInput(PGconn *conn)
{
	char bytes[64];
	ssize_t n;

	if (conn->status != CONNECTION_OK)
		return 0;
	for (;;)
	{
		n = recv(conn->sock, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			take_in(conn, bytes[i]);
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 1;
	fail_conn(conn, "%s\n", "server closed the connection unexpectedly");
	return 0;
}

PGresult *
PQgetResult(PGconn *conn)
{
	ExecStatusType status;

	if (conn->nitems == 0)
		return NULL;
	if (conn->status == CONNECTION_BAD)
	{
		conn->nitems = 0;
		return make_result(PGRES_FATAL_ERROR);
	}
	if (!conn->answered)
		abort(); /* the library would hang */
	status = conn->items[0];
	memmove(conn->items, conn->items + 1, (size_t) --conn->nitems * sizeof(conn->items[0]));
	return (int) status == -1 ? NULL : make_result(status);
}

/*---- the client: what goes out ----*/

/* libpq's buffer may have to grow for it. */
static bool
queue_command(PGconn *conn, const char *text, ExecStatusType status)
{
	char *copy;

	if (conn->status != CONNECTION_OK || conn->nitems + 3 > ITEMS)
		return false;
	copy = strdup(text);
	if (!copy)
	{
		(void) snprintf(conn->error, sizeof(conn->error), "out of memory\n");
		return false;
	}
	free(copy);
	conn->items[conn->nitems++] = status;
	conn->items[conn->nitems++] = (ExecStatusType) -1;
	conn->answered = false;
	return true;
}

static ExecStatusType
status_for(const char *sql)
{
	if (sql[0] == '\0')
		return PGRES_EMPTY_QUERY;
	return strncmp(sql, "SELECT", 6) == 0 ? PGRES_TUPLES_OK : PGRES_COMMAND_OK;
}

int
PQsendQuery(PGconn *conn, const char *sql)
{
	if (!queue_command(conn, sql, status_for(sql)))
		return 0;
	conn->transaction_later = strcmp(sql, "ROLLBACK") == 0 ? PQTRANS_IDLE : conn->transaction;
	ask(conn);
	return 1;
}

int
PQsendQueryParams(PGconn *conn, const char *command, int nparams, const Oid *types,
				  const char *const *values, const int *lengths, const int *formats, int format)
{
	(void) types;
	(void) values;
	(void) lengths;
	(void) formats;
	(void) format;
	if (!queue_command(conn, command, status_for(command)))
		return 0;
	reports += nparams > 0;
	conn->transaction_later = conn->transaction;
	if (conn->pipeline == PQ_PIPELINE_OFF)
		ask(conn);
	return 1;
}

int
PQenterPipelineMode(PGconn *conn)
{
	if (conn->status != CONNECTION_OK || conn->nitems > 0)
		return 0;
	conn->pipeline = PQ_PIPELINE_ON;
	return 1;
}

int
PQpipelineSync(PGconn *conn)
{
	if (conn->status != CONNECTION_OK)
		return 0;
	conn->items[conn->nitems++] = PGRES_PIPELINE_SYNC;
	ask(conn);
	return 1;
}

int
PQexitPipelineMode(PGconn *conn)
{
	if (conn->nitems > 0)
		return 0;
	conn->pipeline = PQ_PIPELINE_OFF;
	return 1;
}

/*---- the client: cancelling ----*/

PGcancel *
PQgetCancel(PGconn *conn)
{
	PGcancel *cancel;

	if (conn->sock < 0)
		return NULL;
	cancel = make(sizeof(*cancel));
	if (cancel)
		cancel->session = conn->session;
	return cancel;
}

void
PQfreeCancel(PGcancel *cancel)
{
	unmake(cancel);
}

int
PQcancel(PGcancel *cancel, char *text, int size)
{
	Session *session;
	bool refused;

	pthread_mutex_lock(&lock);
	refused = server.no_cancel;
	session = find_session(cancel->session);
	if (!refused && session && session->asked && !session->ending)
		act(session);
	pthread_mutex_unlock(&lock);
	if (refused)
		(void) snprintf(text, (size_t) size, "PQcancel() -- connect() failed\n");
	return !refused;
}

/*---- what the holder of a connection does ----*/

void
fakepq_set_transaction(PGconn *conn, PGTransactionStatusType status)
{
	conn->transaction = status;
}

static void
never_answer(Session *session, int unused)
{
	(void) unused;
	session->asked = true;
	session->waits = NEVER;
}

void
fakepq_run_forever(PGconn *conn)
{
	conn->items[conn->nitems++] = PGRES_FATAL_ERROR;
	conn->items[conn->nitems++] = (ExecStatusType) -1;
	conn->answered = false;
	with_session(conn, never_answer, 0);
}
