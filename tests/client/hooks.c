/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  The program's own functions: when they are called, with what, and what
 *	  comes of their answers.
 *
 * A Program is what the hooks of one pool know: orders for them, and a record of
 * all that they were told.
 *
 * server: pgpool_monitor.report_interval = 1s
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "client.h"

#include <stddef.h>

#define MAX_SEEN 2000

typedef struct Seen
{
	pqpool_event event; /* its texts are below */
	char pool[64];
	char site[200];
	char sqlstate[8];
	char message[1024];
} Seen;

typedef struct Program
{
	pthread_mutex_t lock;
	int nseen;
	Seen seen[MAX_SEEN];
	int ended[100]; /* on_close: backends */
	int nended;

	/* orders: how often to refuse; -1: always */
	atomic_int refuse_configure, refuse_acquire, refuse_release;
	const char *order; /* what the next refusal does; NULL: it just says no */

	atomic_int configured, acquired, released;
	atomic_int last_tid; /* of before_acquire and after_release */
	atomic_int last_status;
	char last_setting[32];
	atomic_int notices;
	atomic_int slow; /* events of this type take long */
	atomic_int busy, slow_busy;
} Program;

static PGconn *direct;
static atomic_int strange_notices; /* whose argument was not ours */

/* The one program of the test that runs. */
static Program program;

static void
begin_program(void)
{
	memset(&program, 0, sizeof(program));
	pthread_mutex_init(&program.lock, NULL);
}

/*
 * The hooks.
 */

/* True, and so often as ordered. */
static bool
refuses(atomic_int *order)
{
	int n = atomic_load(order);

	if (n > 0)
		atomic_fetch_sub(order, 1);
	return n != 0;
}

/* What a hook answers that is to refuse. */
static int
refusal(const Program *p, PGconn *conn)
{
	if (p->order == NULL)
		return 1;
	(void) run(conn, p->order);
	return 0;
}

static int
on_configure(PGconn *conn, void *arg)
{
	Program *p = arg;

	atomic_fetch_add(&p->configured, 1);
	return refuses(&p->refuse_configure) ? refusal(p, conn) : 0;
}

static int
on_acquire(PGconn *conn, void *arg)
{
	Program *p = arg;

	atomic_fetch_add(&p->acquired, 1);
	atomic_store(&p->last_tid, gettid());
	return refuses(&p->refuse_acquire) ? refusal(p, conn) : 0;
}

static int
on_release(PGconn *conn, void *arg)
{
	Program *p = arg;
	char *setting;

	atomic_store(&p->last_tid, gettid());
	atomic_store(&p->last_status, PQtransactionStatus(conn));
	setting = query_text(conn, "SHOW work_mem");
	snprintf(p->last_setting, sizeof(p->last_setting), "%s", setting ? setting : "");
	free(setting);
	atomic_fetch_add(&p->released, 1);
	return refuses(&p->refuse_release) ? refusal(p, conn) : 0;
}

static void
on_close(PGconn *conn, void *arg)
{
	Program *p = arg;

	pthread_mutex_lock(&p->lock);
	if (p->nended < countof(p->ended))
		p->ended[p->nended++] = PQbackendPID(conn);
	pthread_mutex_unlock(&p->lock);
}

static void
on_event(const pqpool_event *event, void *arg)
{
	Program *p = arg;

	atomic_fetch_add(&p->busy, 1);
	if (atomic_load(&p->slow) == event->type)
	{
		atomic_fetch_add(&p->slow_busy, 1);
		sleep_ms(300);
	}
	pthread_mutex_lock(&p->lock);
	if (p->nseen < MAX_SEEN)
	{
		Seen *seen = &p->seen[p->nseen++];

		seen->event = *event;
		snprintf(seen->pool, sizeof(seen->pool), "%s", event->pool);
		snprintf(seen->site, sizeof(seen->site), "%s", event->site ? event->site : "");
		snprintf(seen->sqlstate, sizeof(seen->sqlstate), "%s", event->sqlstate);
		snprintf(seen->message, sizeof(seen->message), "%s", event->message);
	}
	pthread_mutex_unlock(&p->lock);
	atomic_fetch_sub(&p->busy, 1);
}

static pqpool *
open_with(const char *conninfo, const pqpool_hooks *hooks)
{
	pqpool_error err;
	pqpool *pool = pqpool_open_hooked(conninfo, hooks, &err);

	if (pool == NULL)
		give_up("pqpool_open_hooked: %s", err.message);
	return pool;
}

/*
 * What was recorded.
 */

#define ANY (-1)

/* Events of this type and reason; the last of them is copied, if asked for. */
static int
count_events(int type, int reason, Seen *last)
{
	int n = 0;

	pthread_mutex_lock(&program.lock);
	for (int i = 0; i < program.nseen; i++)
	{
		const Seen *seen = &program.seen[i];

		if (seen->event.type != type || (reason != ANY && seen->event.reason != reason))
			continue;
		n++;
		if (last != NULL)
			*last = *seen;
	}
	pthread_mutex_unlock(&program.lock);
	return n;
}

static int
count_refused(int code)
{
	int n = 0;

	pthread_mutex_lock(&program.lock);
	for (int i = 0; i < program.nseen; i++)
		n += program.seen[i].event.type == PQPOOL_EVENT_REFUSED &&
			 program.seen[i].event.code == code;
	pthread_mutex_unlock(&program.lock);
	return n;
}

/* Has every connection of which on_close was told been told of once? */
static bool
ended_once(void)
{
	bool once = true;

	pthread_mutex_lock(&program.lock);
	for (int i = 0; i < program.nended; i++)
		for (int j = 0; j < i; j++)
			once = once && program.ended[i] != program.ended[j];
	pthread_mutex_unlock(&program.lock);
	return once;
}

static int
count_ended(void)
{
	int n;

	pthread_mutex_lock(&program.lock);
	n = program.nended;
	pthread_mutex_unlock(&program.lock);
	return n;
}

/* Do the pool's figures say what the events said? */
static void
agree(pqpool *pool, const char *what)
{
	pqpool_statistics stats;
	int wrong = 0;

	(void) WAIT_FOR(stats_of(pool).closing == 0 && stats_of(pool).opening == 0 &&
					stats_of(pool).closed ==
						(uint64_t) count_events(PQPOOL_EVENT_CLOSED, ANY, NULL));
	stats = stats_of(pool);
	for (int reason = 0; reason < PQPOOL_CLOSE_REASONS; reason++)
		wrong +=
			stats.closed_by[reason] != (uint64_t) count_events(PQPOOL_EVENT_CLOSED, reason, NULL);
	is_int(wrong, 0, "%s: closed_by agrees with the events", what);
	wrong = 0;
	for (int code = 0; code < PQPOOL_ERRORS; code++)
		wrong += stats.errors[code] != (uint64_t) count_refused(code);
	is_int(wrong, 0, "%s: errors, too", what);
	is_int(stats.opened, count_events(PQPOOL_EVENT_OPENED, ANY, NULL), "%s: and opened", what);
	is_int(stats.open_failures, count_events(PQPOOL_EVENT_OPEN_FAILED, ANY, NULL),
		   "%s: and what could not be", what);
	is_int(stats.closed, count_events(PQPOOL_EVENT_CLOSED, ANY, NULL), "%s: and closed", what);
}

/*
 * configure
 */

static void
note(void *arg, const char *message)
{
	(void) message;
	if (arg == &program)
		atomic_fetch_add(&program.notices, 1);
	else
		atomic_fetch_add(&strange_notices, 1);
}

static void
receive(void *arg, const PGresult *result)
{
	(void) result;
	note(arg, "");
}

static int
prepare_session(PGconn *conn, void *arg)
{
	(void) PQsetNoticeProcessor(conn, note, arg);
	return !run(conn, "SET work_mem = '66kB'") || !run(conn, "PREPARE answer AS SELECT 42");
}

static int
set_receiver(PGconn *conn, void *arg)
{
	(void) PQsetNoticeReceiver(conn, receive, arg);
	return 0;
}

static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static void
ignore_result(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static void
raise_notice(PGconn *conn)
{
	(void) run(conn, "DO $$BEGIN RAISE NOTICE 'heard'; END$$");
}

/* The hook's notice processor, or receiver, is what every holder finds, with its argument. */
static void
test_notices(const char *what, int (*configure)(PGconn *, void *))
{
	pqpool_hooks hooks = { .arg = &program, .configure = configure };
	pqpool *pool;
	PGconn *conn;

	begin_program();
	atomic_store(&strange_notices, 0);
	pool = open_with("pool_max_size=1", &hooks);
	conn = acquire_or_give_up(pool);
	raise_notice(conn);
	is_int(atomic_load(&program.notices), 1, "%s: set by configure", what);
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	raise_notice(conn);
	is_int(atomic_load(&program.notices), 2, "%s: is there for the next holder", what);
	(void) PQsetNoticeProcessor(conn, ignore_notice, NULL);
	(void) PQsetNoticeReceiver(conn, ignore_result, NULL);
	(void) run(conn, "BEGIN");
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	raise_notice(conn);
	is_int(atomic_load(&program.notices), 3, "%s: also after one who had his own", what);
	is_int(atomic_load(&strange_notices), 0, "%s: always with the hooks' argument", what);
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

static void
test_configure(void)
{
	pqpool_hooks hooks = { .arg = &program, .configure = prepare_session };
	pqpool *pool;
	PGconn *conn;
	char *setting;

	begin_program();
	pool = open_with("pool_max_size=1", &hooks);
	conn = acquire_or_give_up(pool);
	setting = query_text(conn, "SHOW work_mem");
	is_str(setting, "66kB", "the first holder finds what configure has set");
	free(setting);
	is_int(query_int(conn, "EXECUTE answer"), 42, "and prepared");
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/* conduct: what configure does instead of refusing by its result. */
static void
test_configure_fails(const char *what, const char *conduct, const char *cause)
{
	pqpool_hooks hooks = {
		.arg = &program, .configure = on_configure, .on_close = on_close, .event = on_event
	};
	pqpool *pool;
	pqpool_error err;
	Seen seen;
	int attempts;

	begin_program();
	program.order = conduct;
	atomic_store(&program.refuse_configure, -1);
	pool = open_with("application_name=misfit pool_name=misfit pool_max_size=3", &hooks);
	ok(pqpool_acquire(pool, -1, &err) == NULL, "configure %s: no connection", what);
	is_code(err.code, PQPOOL_HOOK, "... and the caller is told before his deadline");
	ok(strstr(err.cause, cause) != NULL && strstr(err.message, "misfit") != NULL,
	   "... what it was: %s", err.message);
	for (int i = 0; i < 50; i++)
		is_code(acquire_code(pool, -1), PQPOOL_HOOK, "... again, %d", i);
	attempts = atomic_load(&program.configured);
	ok(attempts < 25, "... but not by connecting each time (%d)", attempts);
	ok(WAIT_FOR(count_sessions(direct, "misfit") == 0), "... no session is left");
	is_int(stats_of(pool).size, 0, "... nor a place");
	is_int(stats_of(pool).opened, 0, "... nothing counts as opened");
	is_int(count_events(PQPOOL_EVENT_OPEN_FAILED, ANY, &seen), stats_of(pool).open_failures,
		   "... each failure was an event");
	ok(seen.event.code == PQPOOL_HOOK && strstr(seen.message, cause) != NULL,
	   "... that says why: %s", seen.message);
	is_int(count_ended(), stats_of(pool).open_failures, "... on_close was told of each");
	agree(pool, what);

	atomic_store(&program.refuse_configure, 0);
	ok(WAIT_FOR(acquire_code(pool, -1) == PQPOOL_OK), "... when it is content, all is well");
	(void) pqpool_close(&pool, -1);
}

/*
 * before_acquire
 */

static void
test_before_acquire(void)
{
	pqpool_hooks hooks = { .arg = &program, .before_acquire = on_acquire, .event = on_event };
	pqpool *pool;
	pqpool_error err;
	PGconn *conn;
	int pid, opened;
	uint64_t before;
	double start;

	begin_program();
	pool = open_with("application_name=picky pool_max_size=2", &hooks);
	conn = acquire_or_give_up(pool);
	is_int(atomic_load(&program.acquired), 1, "before_acquire is called for the first loan");
	is_int(atomic_load(&program.last_tid), gettid(), "by the thread that borrows");
	pid = PQbackendPID(conn);
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	is_int(atomic_load(&program.acquired), 2, "and for the next");
	is_int(PQbackendPID(conn), pid, "of the same connection");
	(void) pqpool_release(conn);

	atomic_store(&program.refuse_acquire, 1);
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid, "one that is refused is not lent, but another one");
	is_int(atomic_load(&program.acquired), 4, "of which it was asked as well");
	(void) pqpool_release(conn);
	is_int(stats_of(pool).acquires, 3, "that was one acquire, not two");

	program.order = "BEGIN";
	pid = PQbackendPID(conn);
	atomic_store(&program.refuse_acquire, 1);
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid && PQtransactionStatus(conn) == PQTRANS_IDLE,
	   "a transaction that it leaves open refuses, too");
	(void) pqpool_release(conn);
	program.order = NULL;

	atomic_store(&program.refuse_acquire, -1);
	ok(pqpool_acquire(pool, 0, &err) == NULL, "a try, while it refuses whatever comes");
	is_code(err.code, PQPOOL_TIMED_OUT, "ends");
	ok(pqpool_acquire(pool, 300, &err) == NULL, "an acquire, likewise");
	is_code(err.code, PQPOOL_TIMED_OUT, "at its deadline: %s", err.message);
	ok(strstr(err.message, "refused by the hook") != NULL, "which says why");
	before = stats_of(pool).opened;
	start = now_s();
	ok(pqpool_acquire(pool, 1000, &err) == NULL, "and for longer");
	opened = (int) (stats_of(pool).opened - before);
	ok(opened < (now_s() - start) / 0.037 + 3,
	   "it does not open one after the other as fast as it can: %d", opened);
	atomic_store(&program.refuse_acquire, 0);
	is_code(acquire_code(pool, -1), PQPOOL_OK, "when it is content, all is well");
	is_int(stats_of(pool).in_use, 0, "nothing is out");
	is_int(stats_of(pool).acquires, 5, "refused ones are no acquires");
	agree(pool, "before_acquire");
	ok(stats_of(pool).closed_by[PQPOOL_CLOSE_HOOK] >= 3, "all were closed for the hook");
	(void) pqpool_close(&pool, -1);
}

/*
 * after_release
 */

static void
hold_and_end(int index, void *arg)
{
	PGconn *conn = acquire_or_give_up(arg);

	(void) index;
	(void) run(conn, "BEGIN");
}

static void
test_after_release(void)
{
	pqpool_hooks hooks = { .arg = &program, .after_release = on_release, .event = on_event };
	Threads threads = { 0 };
	pqpool *pool;
	PGconn *conn;
	int pid;

	begin_program();
	pool = open_with("pool_max_size=1 pool_bind=thread", &hooks);
	conn = acquire_or_give_up(pool);
	pid = PQbackendPID(conn);
	(void) run(conn, "BEGIN");
	(void) pqpool_release(conn);
	is_int(atomic_load(&program.released), 1, "after_release is called once");
	is_int(atomic_load(&program.last_tid), gettid(), "by the thread that gives back");
	is_int(atomic_load(&program.last_status), PQTRANS_IDLE, "after the ROLLBACK");
	conn = acquire_or_give_up(pool);
	is_int(PQbackendPID(conn), pid, "what it lets pass is kept");

	atomic_store(&program.refuse_release, 1);
	is_code(pqpool_release(conn), PQPOOL_OK, "what it refuses");
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid, "is not");
	is_int(stats_of(pool).closed_by[PQPOOL_CLOSE_HOOK], 1, "and counted as closed by the hook");
	is_int(stats_of(pool).discarded, 1, "and discarded");

	program.order = "SELECT pg_terminate_backend(pg_backend_pid())";
	atomic_store(&program.refuse_release, 1);
	pid = PQbackendPID(conn);
	(void) pqpool_release(conn);
	conn = acquire_or_give_up(pool);
	ok(PQbackendPID(conn) != pid && query_int(conn, "SELECT 1") == 1, "one that it broke neither");
	program.order = NULL;

	is_int(atomic_load(&program.released), 3, "three were given back");
	(void) pqpool_discard(conn);
	conn = acquire_or_give_up(pool);
	(void) PQsendQuery(conn, "SELECT pg_sleep(600)");
	(void) pqpool_release(conn);
	is_int(atomic_load(&program.released), 3, "it is not asked about what is closed anyway");

	atomic_store(&program.refuse_release, 1);
	start_thread(&threads, hold_and_end, pool);
	join_threads(&threads);
	ok(WAIT_FOR(stats_of(pool).abandoned == 1 && atomic_load(&program.released) == 4),
	   "but about what a thread has left");
	is_int(atomic_load(&program.last_status), PQTRANS_IDLE, "rolled back");
	ok(WAIT_FOR(stats_of(pool).closed_by[PQPOOL_CLOSE_HOOK] == 2), "which it may refuse");
	agree(pool, "after_release");
	(void) pqpool_close(&pool, -1);

	begin_program();
	pool = open_with("pool_max_size=1 pool_reset=discard", &hooks);
	conn = acquire_or_give_up(pool);
	(void) run(conn, "SET work_mem = '88kB'");
	(void) pqpool_release(conn);
	is_str(program.last_setting, "88kB", "with pool_reset=discard it sees the session as it was");
	conn = acquire_or_give_up(pool);
	{
		char *setting = query_text(conn, "SHOW work_mem");

		ok(setting != NULL && strcmp(setting, "88kB") != 0, "which the next holder does not");
		free(setting);
	}
	(void) pqpool_release(conn);
	(void) pqpool_close(&pool, -1);
}

/*
 * on_close
 */

static void
test_on_close(void)
{
	pqpool_hooks hooks = { .arg = &program, .on_close = on_close };
	pqpool *pool;
	PGconn *conns[4];

	begin_program();
	pool = open_with("pool_max_size=4", &hooks);
	for (int i = 0; i < 4; i++)
		conns[i] = acquire_or_give_up(pool);
	end_backend(direct, PQbackendPID(conns[0]));
	(void) pqpool_release(conns[0]);
	ok(WAIT_FOR(count_ended() == 1), "on_close is called for one that died out");
	(void) pqpool_discard(conns[1]);
	ok(WAIT_FOR(count_ended() == 2), "for one that is discarded");
	end_backend(direct, PQbackendPID(conns[2]));
	(void) pqpool_release(conns[2]);
	conns[0] = acquire_or_give_up(pool);
	ok(WAIT_FOR(count_ended() == 3), "for one that died idle");
	(void) pqpool_release(conns[0]);
	is_code(pqpool_drain(pool, 0), PQPOOL_TIMED_OUT, "drained while one is out");
	(void) pqpool_release(conns[3]);
	ok(WAIT_FOR(count_ended() == (int) stats_of(pool).opened && stats_of(pool).size == 0),
	   "for those that are drained");
	for (int i = 0; i < 3; i++)
		conns[i] = acquire_or_give_up(pool);
	(void) pqpool_release(conns[0]);
	is_code(pqpool_close(&pool, 0), PQPOOL_TIMED_OUT, "the pool is closed while two are out");
	(void) pqpool_release(conns[1]);
	(void) pqpool_release(conns[2]);
	ok(WAIT_FOR(count_ended() == 8), "for all of a closed pool (%d)", count_ended());
	sleep_ms(50);
	is_int(count_ended(), 8, "and that is all");
	ok(ended_once(), "for each of them once");
}

/*
 * event
 */

static void
close_idle(pqpool *pool, PGconn *conn)
{
	(void) pool;
	(void) pqpool_release(conn);
}

static void
close_limit(pqpool *pool, PGconn *conn)
{
	PGconn *other = acquire_or_give_up(pool);

	(void) pqpool_release(other);
	(void) pqpool_resize(pool, -1, 1, NULL);
	(void) pqpool_release(conn);
}

static void
close_drain(pqpool *pool, PGconn *conn)
{
	(void) pqpool_release(conn);
	(void) pqpool_drain(pool, -1);
}

static void
close_dead(pqpool *pool, PGconn *conn)
{
	int pid = PQbackendPID(conn);

	(void) pqpool_release(conn);
	end_backend(direct, pid);
	(void) acquire_code(pool, -1);
}

static void
close_dead_loan(pqpool *pool, PGconn *conn)
{
	(void) pool;
	(void) run(conn, "SELECT pg_terminate_backend(pg_backend_pid())");
	(void) pqpool_release(conn);
}

static void
close_unfit(pqpool *pool, PGconn *conn)
{
	(void) pool;
	(void) PQsendQuery(conn, "SELECT pg_sleep(600)");
	(void) pqpool_release(conn);
}

static void
close_discard(pqpool *pool, PGconn *conn)
{
	(void) pool;
	(void) pqpool_discard(conn);
}

static void
close_hook(pqpool *pool, PGconn *conn)
{
	(void) pool;
	atomic_store(&program.refuse_release, 1);
	(void) pqpool_release(conn);
}

static void
test_close_reasons(void)
{
	static const struct
	{
		const char *what;
		const char *options;
		void (*provoke)(pqpool *, PGconn *);
		pqpool_close_reason reason;
	} cases[] = {
		{ "idle for long", "pool_idle_timeout=20ms", close_idle, PQPOOL_CLOSE_IDLE },
		{ "old", "pool_max_lifetime=20ms", close_idle, PQPOOL_CLOSE_LIFETIME },
		{ "above the limit", "pool_max_size=2", close_limit, PQPOOL_CLOSE_LIMIT },
		{ "drained", "", close_drain, PQPOOL_CLOSE_DRAIN },
		{ "died idle", "", close_dead, PQPOOL_CLOSE_DEAD },
		{ "died while lent", "", close_dead_loan, PQPOOL_CLOSE_DEAD },
		{ "given back busy", "", close_unfit, PQPOOL_CLOSE_UNFIT },
		{ "discarded", "", close_discard, PQPOOL_CLOSE_DISCARD },
		{ "refused by a hook", "", close_hook, PQPOOL_CLOSE_HOOK },
	};
	static const char *const policies[] = { "rollback", "discard" };

	for (int i = 0; i < countof(cases) * countof(policies); i++)
	{
		pqpool_hooks hooks = { .arg = &program, .after_release = on_release, .event = on_event };
		const char *what = cases[i / 2].what;
		char conninfo[200];
		pqpool *pool;
		PGconn *conn;
		Seen seen;

		begin_program();
		snprintf(conninfo, sizeof(conninfo), "pool_name=reasons pool_reset=%s %s", policies[i % 2],
				 cases[i / 2].options);
		pool = open_with(conninfo, &hooks);
		conn = acquire_or_give_up(pool);
		cases[i / 2].provoke(pool, conn);
		ok(WAIT_FOR(count_events(PQPOOL_EVENT_CLOSED, (int) cases[i / 2].reason, &seen) == 1),
		   "CLOSED: %s (%s)", what, policies[i % 2]);
		ok(seen.event.backend_pid > 0 && strcmp(seen.pool, "reasons") == 0 && seen.event.tid == 0 &&
			   seen.site[0] == '\0' && seen.message[0] == '\0',
		   "... with its pool and backend");
		agree(pool, what);
		(void) pqpool_close(&pool, -1);
	}
}

static void
test_close_pool(void)
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event };
	pqpool *pool;
	PGconn *conns[3];

	begin_program();
	pool = open_with("pool_max_size=3", &hooks);
	for (int i = 0; i < 3; i++)
		conns[i] = acquire_or_give_up(pool);
	for (int i = 0; i < 3; i++)
		(void) pqpool_release(conns[i]);
	atomic_store(&program.slow, PQPOOL_EVENT_CLOSED);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "closed, with slow hooks");
	is_int(count_events(PQPOOL_EVENT_CLOSED, PQPOOL_CLOSE_POOL, NULL), 3,
		   "all events of closing have been told of when it returns");
	is_int(atomic_load(&program.busy), 0, "and no hook runs any more: its argument can go");
}

static void
be_refused(int index, void *arg)
{
	(void) index;
	(void) acquire_code(arg, 10);
}

static void
be_resized(int index, void *arg)
{
	(void) index;
	(void) pqpool_resize(arg, -1, 2, NULL);
}

/* Events that are about no connection are over as well, when it has returned. */
static void
test_close_while_telling(const char *what, int type, void (*provoke)(int, void *))
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event };
	pqpool *pool;
	PGconn *conn;
	Threads threads = { 0 };

	begin_program();
	pool = open_with("pool_max_size=1 pool_leak_after=10ms", &hooks);
	conn = acquire_or_give_up(pool);
	atomic_store(&program.slow, type);
	if (provoke != NULL)
		start_thread(&threads, provoke, pool);
	if (!WAIT_FOR(atomic_load(&program.slow_busy) == 1))
		give_up("%s: no event", what);
	(void) pqpool_release(conn);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "closed while %s", what);
	is_int(atomic_load(&program.busy), 0, "... and no hook runs any more");
	join_threads(&threads);
}

static void
test_open_and_refuse(void)
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event };
	pqpool_error err;
	pqpool *pool;
	PGconn *conn;
	Seen seen = { 0 };

	begin_program();
	pool = open_with("pool_name=told pool_max_size=1", &hooks);
	conn = acquire_or_give_up(pool);
	is_int(count_events(PQPOOL_EVENT_OPENED, ANY, &seen), 1, "OPENED");
	is_int(seen.event.backend_pid, PQbackendPID(conn), "... its backend");
	ok(seen.event.duration_us > 0 && seen.event.code == PQPOOL_OK && seen.message[0] == '\0',
	   "... and how long it took");
	is_str(seen.pool, "told", "... the pool");

	ok(pqpool_acquire_at(pool, 60, &err, "here:1") == NULL, "an acquire fails");
	is_int(count_events(PQPOOL_EVENT_REFUSED, ANY, &seen), 1, "REFUSED");
	is_code(seen.event.code, PQPOOL_TIMED_OUT, "... its code");
	is_str(seen.message, err.message, "... its message");
	ok(seen.event.duration_us >= 60000, "... how long it waited");
	is_int(seen.event.tid, gettid(), "... who it was");
	is_str(seen.site, "here:1", "... and where");
	ok(seen.event.backend_pid == 0 && seen.sqlstate[0] == '\0', "... no connection is in it");
	(void) pqpool_release(conn);
	is_int(count_events(PQPOOL_EVENT_ACQUIRED, ANY, NULL) +
			   count_events(PQPOOL_EVENT_RELEASED, ANY, NULL),
		   0, "without trace nothing is told of loans");
	agree(pool, "one loan");
	(void) pqpool_close(&pool, -1);

	begin_program();
	pool = open_with("pool_name=told dbname=no_such_database", &hooks);
	ok(pqpool_acquire(pool, -1, &err) == NULL, "no such database");
	ok(count_events(PQPOOL_EVENT_OPEN_FAILED, ANY, &seen) >= 1, "OPEN_FAILED");
	is_code(seen.event.code, PQPOOL_REFUSED, "... its code");
	is_str(seen.sqlstate, "3D000", "... its SQLSTATE");
	ok(strstr(seen.message, "no_such_database") != NULL && seen.event.duration_us > 0,
	   "... libpq's text: %s", seen.message);
	is_int(count_events(PQPOOL_EVENT_REFUSED, ANY, &seen), 1, "and REFUSED");
	is_code(seen.event.code, PQPOOL_REFUSED, "... its code");
	is_str(seen.sqlstate, "3D000", "... its SQLSTATE");
	is_str(seen.message, err.message, "... its message");
	agree(pool, "no database");
	(void) pqpool_close(&pool, -1);
}

static void
leave_a_loan(int index, void *arg)
{
	pqpool *pool = *(pqpool **) arg;

	(void) index;
	atomic_store(&program.last_tid, gettid());
	if (pqpool_acquire_at(pool, -1, NULL, "there:2") == NULL)
		give_up("no connection");
}

static void
test_leaks(void)
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event };
	pqpool *pool;
	PGconn *conns[2];
	Threads threads = { 0 };
	Seen seen = { 0 };

	begin_program();
	pool = open_with("pool_name=leaky pool_leak_after=100ms", &hooks);
	conns[0] = pqpool_acquire_at(pool, -1, NULL, "there:1");
	ok(WAIT_FOR(count_events(PQPOOL_EVENT_LEAKED, ANY, &seen) == 1), "LEAKED");
	ok(seen.event.tid == gettid() && strcmp(seen.site, "there:1") == 0 &&
		   seen.event.backend_pid == PQbackendPID(conns[0]) && seen.message[0] != '\0',
	   "... who, where and which: %s", seen.message);
	ok(seen.event.duration_us >= 100000, "... and for how long");
	conns[1] = pqpool_acquire_at(pool, -1, NULL, "there:2");
	ok(WAIT_FOR(count_events(PQPOOL_EVENT_LEAKED, ANY, &seen) == 2), "another one is told of");
	is_str(seen.site, "there:2", "... by its own place");
	sleep_ms(300);
	is_int(count_events(PQPOOL_EVENT_LEAKED, ANY, NULL), 2, "each is told of once");
	is_int(stats_of(pool).leaks, 2, "and counted");
	(void) pqpool_release(conns[0]);
	conns[0] = acquire_or_give_up(pool);
	ok(WAIT_FOR(count_events(PQPOOL_EVENT_LEAKED, ANY, NULL) == 3), "its next loan is a new one");
	(void) pqpool_release(conns[0]);
	(void) pqpool_release(conns[1]);
	is_int(stats_of(pool).leaks, 0, "none is left");
	(void) pqpool_close(&pool, -1);

	begin_program();
	pool = open_with("pool_name=left pool_bind=thread", &hooks);
	start_thread(&threads, leave_a_loan, &pool);
	join_threads(&threads);
	ok(WAIT_FOR(count_events(PQPOOL_EVENT_ABANDONED, ANY, &seen) == 1), "ABANDONED");
	is_int(seen.event.tid, atomic_load(&program.last_tid), "... by whom");
	ok(strcmp(seen.pool, "left") == 0 && seen.message[0] != '\0', "... %s", seen.message);
	ok(WAIT_FOR(stats_of(pool).idle == 1), "and it is idle again");
	(void) pqpool_close(&pool, -1);
}

static void
test_trace(void)
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event, .trace = 1 };
	pqpool *pool;
	PGconn *conn;
	Seen seen = { 0 };

	begin_program();
	pool = open_with("pool_name=traced pool_max_size=1", &hooks);
	for (int i = 1; i <= 100; i++)
	{
		conn = pqpool_acquire_at(pool, -1, NULL, "loop:1");
		if (count_events(PQPOOL_EVENT_ACQUIRED, ANY, &seen) != i ||
			count_events(PQPOOL_EVENT_RELEASED, ANY, NULL) != i - 1)
			break;
		if (i == 1)
			ok(seen.event.tid == gettid() && seen.event.backend_pid == PQbackendPID(conn) &&
				   strcmp(seen.site, "loop:1") == 0 && seen.event.duration_us >= 0,
			   "ACQUIRED: who, which and where");
		if (i == 1)
			sleep_ms(20);
		(void) pqpool_release(conn);
		(void) count_events(PQPOOL_EVENT_RELEASED, ANY, &seen);
		if (i == 1)
			ok(seen.event.tid == gettid() && seen.event.backend_pid == PQbackendPID(conn) &&
				   strcmp(seen.site, "loop:1") == 0 && seen.event.duration_us >= 15000,
			   "RELEASED: likewise, and how long it was held (%lld us)",
			   (long long) seen.event.duration_us);
	}
	is_int(count_events(PQPOOL_EVENT_RELEASED, ANY, NULL), 100, "every loan is told of");
	is_int(stats_of(pool).acquires, 100, "and counted");
	agree(pool, "trace");
	(void) pqpool_close(&pool, -1);
}

/* Without a server's say, and with it. */
static void
test_limit(void)
{
	pqpool_hooks hooks = { .arg = &program, .event = on_event };
	pqpool *pool;
	pqpool_allotment allotment;
	Seen seen = { 0 };

	begin_program();
	pool = open_with("pool_name=limited pool_max_size=10", &hooks);
	(void) pqpool_resize(pool, -1, 7, NULL);
	is_int(count_events(PQPOOL_EVENT_LIMIT, ANY, &seen), 1, "LIMIT");
	is_int(seen.event.number, 7, "... is what pqpool_resize has set");
	(void) pqpool_resize(pool, 1, 7, NULL);
	is_int(count_events(PQPOOL_EVENT_LIMIT, ANY, NULL), 1, "the same again is no event");

	(void) run(direct, "ALTER SYSTEM SET pgpool_monitor.mode = 'share'");
	(void) run(direct, "ALTER SYSTEM SET pgpool_monitor.rules = 'limited=3'");
	(void) run(direct, "SELECT pg_reload_conf()");
	ok(WAIT_FOR(acquire_code(pool, -1) == PQPOOL_OK && pqpool_limits(pool, &allotment) == 0 &&
				count_events(PQPOOL_EVENT_LIMIT, ANY, &seen) > 1 &&
				seen.event.number == allotment.limit && allotment.limit < 7),
	   "what the server allots is another (%d)", seen.event.number);
	is_int(stats_of(pool).limit, seen.event.number, "... as the figures say");
	(void) pqpool_close(&pool, -1);
	(void) run(direct, "ALTER SYSTEM RESET pgpool_monitor.mode");
	(void) run(direct, "ALTER SYSTEM RESET pgpool_monitor.rules");
	(void) run(direct, "SELECT pg_reload_conf()");
}

/*
 * Hooks that call the pool.
 */

static _Atomic(pqpool *) pool_of_hooks;
static pqpool *other_pool;
static atomic_int calls_by_hook[6];

/* With a lock held by whoever calls the hook, one of these would never return. */
static void
use_pool(int hook)
{
	pqpool *pool = atomic_load(&pool_of_hooks);
	pqpool_allotment allotment;
	PGconn *conn;

	if (pool == NULL)
		return;
	(void) stats_of(pool);
	(void) pqpool_limits(pool, &allotment);
	(void) pqpool_resize(pool, -1, 4, NULL);
	(void) pqpool_pause(pool);
	(void) pqpool_resume(pool);
	conn = acquire_or_give_up(other_pool);
	(void) pqpool_release(conn);
	atomic_fetch_add(&calls_by_hook[hook], 1);
}

static int
call_configure(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	use_pool(0);
	return 0;
}

static int
call_acquire(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	use_pool(1);
	return 0;
}

static int
call_release(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	use_pool(2);
	return 0;
}

static void
call_close(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	use_pool(3);
}

static void
call_event(const pqpool_event *event, void *arg)
{
	(void) arg;
	use_pool(event->type == PQPOOL_EVENT_LEAKED ? 4 : 5);
}

static void
be_busy(int index, void *arg)
{
	for (int i = 0; i < 20; i++)
	{
		PGconn *conn = acquire_or_give_up(arg);

		if ((index + i) % 4 == 0)
			(void) run(conn, "BEGIN");
		if ((index + i) % 7 == 0)
			(void) pqpool_discard(conn);
		else
			(void) pqpool_release(conn);
	}
}

static void
test_calls(const char *policy)
{
	pqpool_hooks hooks = { .configure = call_configure,
						   .before_acquire = call_acquire,
						   .after_release = call_release,
						   .on_close = call_close,
						   .event = call_event,
						   .trace = 1 };
	char conninfo[200];
	pqpool *pool;
	PGconn *conn;

	for (int i = 0; i < countof(calls_by_hook); i++)
		atomic_store(&calls_by_hook[i], 0);
	other_pool = open_pool("pool_max_size=10");
	snprintf(conninfo, sizeof(conninfo), "pool_max_size=4 pool_leak_after=50ms pool_reset=%s",
			 policy);
	pool = open_with(conninfo, &hooks);
	atomic_store(&pool_of_hooks, pool);
	conn = acquire_or_give_up(pool);
	ok(WAIT_FOR(atomic_load(&calls_by_hook[4]) > 0), "%s: from the event of a leak", policy);
	(void) pqpool_release(conn);
	run_threads(6, be_busy, pool);
	is_code(pqpool_drain(pool, -1), PQPOOL_OK, "%s: drained", policy);
	for (int i = 0; i < countof(calls_by_hook); i++)
		ok(atomic_load(&calls_by_hook[i]) > 0, "%s: hook %d has called the pool, %d times", policy,
		   i, atomic_load(&calls_by_hook[i]));
	atomic_store(&pool_of_hooks, NULL);
	is_code(pqpool_close(&pool, -1), PQPOOL_OK, "%s: closed", policy);
	(void) pqpool_close(&other_pool, -1);
}

/*
 * Structs of other versions.
 */

static void
test_sizes(void)
{
	struct
	{
		pqpool_hooks hooks;
		void *later[4];
	} larger = { .hooks = { .arg = &program, .configure = on_configure, .event = on_event } };
	pqpool_error err;
	pqpool *pool;

	memset(larger.later, 0x5a, sizeof(larger.later));
	begin_program();
	pool = pqpool_open_hooked_sized("", &larger.hooks, sizeof(larger), &err);
	is_code(acquire_code(pool, -1), PQPOOL_OK, "hooks of a later version work");
	ok(atomic_load(&program.configured) == 1 && count_events(PQPOOL_EVENT_OPENED, ANY, NULL) == 1,
	   "those that are known");
	(void) pqpool_close(&pool, -1);

	begin_program();
	pool = pqpool_open_hooked_sized("", &larger.hooks, offsetof(pqpool_hooks, event), &err);
	is_code(acquire_code(pool, -1), PQPOOL_OK, "hooks of an earlier version work");
	ok(atomic_load(&program.configured) == 1 && program.nseen == 0, "those that it has");
	(void) pqpool_close(&pool, -1);

	pool = pqpool_open_hooked_sized("", NULL, 0, &err);
	is_code(err.code, PQPOOL_OK, "no hooks are no error");
	is_code(acquire_code(pool, -1), PQPOOL_OK, "and none are called");
	(void) pqpool_close(&pool, -1);
	larger.hooks = (pqpool_hooks){ 0 };
	pool = open_with("", &larger.hooks);
	is_code(acquire_code(pool, -1), PQPOOL_OK, "likewise if all are NULL");
	(void) pqpool_close(&pool, -1);
	ok(pqpool_open_hooked("pool_nonsense=1", &larger.hooks, &err) == NULL, "a bad option");
	is_code(err.code, PQPOOL_BAD_OPTION, "is one here, too");
}

int
main(void)
{
	direct = connect_directly("");
	test_configure();
	test_notices("notice processor", prepare_session);
	test_notices("notice receiver", set_receiver);
	test_configure_fails("refuses", NULL, "\"configure\" refused");
	test_configure_fails("leaves a transaction", "BEGIN", "transaction");
	test_configure_fails("breaks it", "SELECT pg_terminate_backend(pg_backend_pid())", "broken");
	test_before_acquire();
	test_after_release();
	test_on_close();
	test_open_and_refuse();
	test_close_reasons();
	test_close_pool();
	test_close_while_telling("a leak is told of", PQPOOL_EVENT_LEAKED, NULL);
	test_close_while_telling("a refusal is", PQPOOL_EVENT_REFUSED, be_refused);
	test_close_while_telling("a limit is", PQPOOL_EVENT_LIMIT, be_resized);
	test_leaks();
	test_trace();
	test_limit();
	test_calls("rollback");
	test_calls("discard");
	test_sizes();
	PQfinish(direct);
	return done_testing();
}
