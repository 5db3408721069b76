/*-------------------------------------------------------------------------
 *
 * server.c
 *	  What PostgreSQL is to the extension, and session.c's part.
 *
 * A connection takes a place when it arrives, is authenticated for a while,
 * attaches, and is free again when the client's end of it has gone.  What a session
 * was told last is kept with it, as in session.c: an answer carries a
 * text only if there is something new.  The grace of mode enforce is enforce_attach's, by
 * events; it is registry_attach that is called.
 *
 * The registry's tables lie in pages that are, now and then, read-only unless
 * the lock is held exclusively: a write without it ends the run.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "past.h"
#include "pause.h"
#include "pgpool_monitor.h"
#include "rules.h"

#define RESERVED 3	  /* superuser_reserved_connections */
#define MIN_GAP 50	  /* ms, as in the extension's worker.c */
#define GRACE_STEP 20 /* ms, as in enforce.c */
#define OTHERS 20	  /* MaxBackends beyond max_connections */
#define PAGE 4096
#define GUARDED 16 /* one time in so many: it costs more than all the rest */

Server server;

/*---- what the shim promises ----*/

int MaxConnections;
int MaxBackends;
int MyProcPid;
PGPROC *MyProc;
static PGPROC procs[MAX_PLACES];
PgBackendStatus *MyBEEntry;
shmem_request_hook_type shmem_request_hook;
shmem_startup_hook_type shmem_startup_hook;

int pgpm_mode = MODE_SHARE;
char *pgpm_rules;
char *pgpm_rules_file = "";
char *pgpm_always_admit = "";
int pgpm_grace = 1000;
int pgpm_grace_waiters = 8;
int pgpm_headroom = -1;
int pgpm_report_interval = 10000;
int pgpm_lease = 30000;
int pgpm_retry_interval = 5000;
int pgpm_round_interval = 1000;
int pgpm_max_instances = 1024;
int pgpm_max_pools = 256;

static LWLock addin_lock;
static LWLockPadded registry_lock;
LWLock *AddinShmemInitLock = &addin_lock;
static LWLock *held_lock;

static char *segment; /* shared memory */
static size_t segment_size;
static size_t segment_used;
static bool guarded;

int
pgpm_base_connections(void)
{
	return MaxConnections - compat_reserved_connections();
}

int
pgpm_headroom_connections(void)
{
	return pgpm_headroom >= 0 ? pgpm_headroom : Max(2, MaxConnections / 20);
}

size_t
sim_strlcpy(char *to, const char *from, size_t size)
{
	size_t length = strlen(from);

	if (size > 0)
	{
		size_t n = Min(length, size - 1);

		memcpy(to, from, n);
		to[n] = '\0';
	}
	return length;
}

void
sim_ereport(int level)
{
	if (level >= ERROR)
		sim_fail("the extension raised an error%s", held_lock ? " under a lock" : "");
}

static void
no_lock(const char *what)
{
	if (held_lock != NULL)
		sim_fail("%s while a lock is held", what);
}

void *
palloc(Size size)
{
	void *memory = malloc(size);

	no_lock("palloc");
	if (memory == NULL)
		abort();
	return memory;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

char *
pstrdup(const char *text)
{
	return strcpy(palloc(strlen(text) + 1), text);
}

void
pfree(void *memory)
{
	no_lock("pfree");
	free(memory);
}

TimestampTz
GetCurrentTimestamp(void)
{
	return sim_now + INT64_C(800000000000000);
}

int
sim_clock_gettime(int clock, struct timespec *ts)
{
	(void) clock;
	ts->tv_sec = (time_t) (sim_now / SECOND);
	ts->tv_nsec = (long) (sim_now % SECOND) * 1000;
	return 0;
}

/* Pages that hold nothing but tables, and the pauses: atomics in the header are anybody's. */
static void
guard(int protection)
{
	static int now = PROT_READ | PROT_WRITE;
	static int times;
	uintptr_t first = ((uintptr_t) segment + sizeof(Registry) + PAGE) & ~(uintptr_t) (PAGE - 1);

	if (!guarded || protection == now || (protection == PROT_READ && ++times % GUARDED != 0))
		return;
	now = protection;
	if (mprotect((void *) first, (uintptr_t) segment + segment_size - first, protection) != 0)
		abort();
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	no_lock("a lock is asked for");
	lock->held = true;
	lock->mode = mode;
	held_lock = lock;
	if (mode == LW_EXCLUSIVE)
		guard(PROT_READ | PROT_WRITE);
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	if (held_lock != lock)
		sim_fail("a lock is released that is not held");
	if (lock->mode == LW_EXCLUSIVE)
		guard(PROT_READ);
	lock->held = false;
	held_lock = NULL;
}

LWLockPadded *
GetNamedLWLockTranche(const char *name)
{
	(void) name;
	return &registry_lock;
}

void
RequestAddinShmemSpace(Size size)
{
	segment_size += MAXALIGN(size);
}

void
RequestNamedLWLockTranche(const char *name, int n)
{
	(void) name;
	(void) n;
}

void *
ShmemInitStruct(const char *name, Size size, bool *found)
{
	char *start;

	(void) name;
	if (segment == NULL)
	{
		segment_size = (segment_size + PAGE + PAGE) & ~(size_t) (PAGE - 1);
		segment =
			mmap(NULL, segment_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (segment == MAP_FAILED)
			abort();
	}
	start = segment + segment_used;
	segment_used += MAXALIGN(size);
	if (segment_used > segment_size)
		sim_fail("more shared memory is used than was asked for");
	*found = false;
	return start;
}

/* Nothing was saved, and nobody is paused. */
FILE *
AllocateFile(const char *name, const char *mode)
{
	(void) name;
	(void) mode;
	errno = ENOENT;
	return NULL;
}

void
saved_load(void)
{
}

void
saved_write_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
}

static void
on_segfault(int sig, siginfo_t *info, void *context)
{
	char *at = info->si_addr;

	(void) sig;
	(void) context;
	if (at >= segment && at < segment + segment_size)
		sim_fail("shared memory is written without the lock, held exclusively");
	abort();
}

/* FNV-1a: any will do. */
uint64
hash_bytes_extended(const unsigned char *bytes, int n, uint64 seed)
{
	uint64 hash = UINT64_C(0xcbf29ce484222325) ^ (seed * UINT64_C(0x9E3779B97F4A7C15));

	for (int i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/*---- places ----*/

/* A connection, from its arrival to its end. */
typedef struct Backend
{
	int pid; /* 0: the place is free */
	int client;
	int serial;
	bool knock;
	bool attached;
	int instance;
	uint64 word; /* as session.c's `told` */
	uint32 generation;
} Backend;

static Backend backends[MAX_PLACES];
static int last_pid = 1000;
static int outsider_places[MAX_PLACES];

const PGPROC *
compat_place(int place)
{
	return &procs[place];
}

int
compat_place_of(const PGPROC *proc)
{
	return (int) (proc - procs);
}

int
compat_place_pid(int place)
{
	return backends[place].pid;
}

int
compat_reserved_connections(void)
{
	return RESERVED;
}

/* -1: too many clients. */
static int
take_place(void)
{
	if (server.connections >= MaxConnections - RESERVED)
		return -1;
	for (int i = 0; i < MaxConnections; i++)
	{
		if (backends[i].pid != 0)
			continue;
		memset(&backends[i], 0, sizeof(backends[i]));
		procs[i].roleId = 0; /* before it is authenticated */
		backends[i].pid = ++last_pid;
		backends[i].client = -1;
		server.connections++;
		return i;
	}
	return -1;
}

static void
free_place(int place)
{
	backends[place].pid = 0;
	server.connections--;
}

void
server_outsiders(int change)
{
	for (; change > 0; change--)
	{
		int place = take_place();

		if (place < 0)
			return;
		outsider_places[server.outsiders++] = place;
	}
	for (; change < 0 && server.outsiders > 0; change++)
		free_place(outsider_places[--server.outsiders]);
}

/*---- roles ----*/

int role_limits[ROLES] = { -1, -1, -1 };

bool
has_role_limits(void)
{
	return role_limits[0] >= 0 || role_limits[1] >= 0 || role_limits[2] >= 0;
}

Oid
role_of(const char *pool)
{
	return 10 + (has_role_limits() ? (Oid) atoi(pool + strlen("pool")) % ROLES : 0);
}

/* PostgreSQL's own test, of the connection that has just been authenticated, too. */
static bool
exceeds_role_limit(Oid role)
{
	int n = 0;

	for (int i = 0; i < MaxConnections; i++)
		n += backends[i].pid != 0 && procs[i].roleId == role;
	return role_limits[role - 10] >= 0 && n > role_limits[role - 10];
}

/*---- the worker ----*/

static int64 round_due = INT64_MAX;
static int64 last_round;
static bool woken;

static double
cpu_us(void)
{
	struct timespec ts;

	(clock_gettime)(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}

static void on_round(const Event *event);

static void
expect_round(int64 at)
{
	round_due = at;
	schedule(at - sim_now, &(Event){ .action = on_round, .stamp = at });
}

static void
on_round(const Event *event)
{
	double began = cpu_us();
	double took;

	if (event->stamp != round_due)
		return; /* another time was set since */
	if (server.worker_stops)
	{
		round_due = INT64_MAX;
		return;
	}
	judge_round_begins();
	share_round(pgpm_now());
	took = cpu_us() - began;
	worker_audit(pgpm_now());
	server.rounds++;
	server.rounds_us += took;
	server.round_us = Max(server.round_us, took);
	last_round = sim_now;
	woken = false;
	expect_round(sim_now + pgpm_round_interval * MSEC);
	judge_step(STEP_OTHER, -1);
	judge_round_ends();
}

void
SetLatch(Latch *latch)
{
	int64 soonest = Max(sim_now, last_round + MIN_GAP * MSEC);

	(void) latch;
	no_lock("SetLatch");
	if (server.worker_stops)
		woken = true;
	else if (soonest < round_due)
		expect_round(soonest);
}

void
server_stop_worker(bool stop)
{
	server.worker_stops = stop;
	if (!stop)
		expect_round(woken ? sim_now : sim_now + pgpm_round_interval * MSEC);
}

/* Killed, and back a second later. */
static void
on_worker_back(const Event *event)
{
	(void) event;
	worker_forget();
	server.worker_stops = false;
	expect_round(sim_now);
}

void
server_restart_worker(void)
{
	server.worker_stops = true;
	schedule_action(SECOND, on_worker_back, 0);
}

void
server_init(int max_connections, int max_instances, const char *rules)
{
	struct sigaction action = { .sa_sigaction = on_segfault, .sa_flags = SA_SIGINFO };
	static char empty[4096];

	MaxConnections = max_connections;
	MaxBackends = max_connections + OTHERS;
	pgpm_max_instances = max_instances;
	sim_strlcpy(empty, rules, sizeof(empty));
	pgpm_rules = empty;
	sigaction(SIGSEGV, &action, NULL);
	registry_install_hooks();
	pause_install_hooks();
	shmem_request_hook();
	shmem_startup_hook();
	guarded = true;
	guard(PROT_READ);
	registry->worker_latch = (Latch *) &server;
	registry->worker_pid = 1;
	judge_init();
	worker_forget();
	expect_round(sim_now);
}

/*---- sessions: session.c's part ----*/

static Text
read_allotment(Backend *backend)
{
	Publication publication;

	backend->generation = pg_atomic_read_u32(&registry->generation);
	backend->word = pg_atomic_read_u64(&registry->instances[backend->instance].publication);
	publication = publication_effective(backend->word, backend->generation,
										pg_atomic_read_u32(&registry->mode));
	return (Text){ .attached = true,
				   .epoch = publication.epoch,
				   .limit = publication.limit,
				   .state = publication.state,
				   .lease = pg_atomic_read_u32(&registry->lease),
				   .interval = pg_atomic_read_u32(&registry->interval),
				   .retry = pg_atomic_read_u32(&registry->retry) };
}

/* .attached is false if there is nothing new to tell. */
static Text
news(Backend *backend)
{
	if (!backend->attached ||
		(pg_atomic_read_u64(&registry->instances[backend->instance].publication) == backend->word &&
		 pg_atomic_read_u32(&registry->generation) == backend->generation))
		return (Text){ .attached = false };
	return read_allotment(backend);
}

static void
identify(Identity *who, const Client *client, bool knock)
{
	memset(who, 0, sizeof(*who));
	sim_strlcpy(who->pool, client->pool, NAME_LEN);
	sim_strlcpy(who->id, client->id, NAME_LEN);
	who->has_id = who->follows = who->reports = true;
	who->knock = knock;
	who->role = role_of(client->pool);
	who->database = 5;
	sim_strlcpy(who->role_name, "app", NAMEDATALEN);
	sim_strlcpy(who->database_name, "app", NAMEDATALEN);
	who->role_limit = role_limits[who->role - 10];
	who->database_limit = -1;
	who->admission = ADMIT_WITHIN_LIMITS;
}

static const ClientSession *
session_of(const Client *client, int serial)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (client->sessions[i].state != GONE && client->sessions[i].serial == serial)
			return &client->sessions[i];
	return NULL;
}

/*
 * No limit that still stands allowed it: a first one, one overtaken by a lower
 * limit, by the end of a lease, or by a goodbye.
 */
static bool
is_unforeseen(const Client *client, int serial)
{
	const ClientSession *session = session_of(client, serial);

	return session == NULL || session->first || client_size(client) > client_believes(client);
}

static int grace_waiting;

static void on_authenticated(const Event *event);

/*
 * As enforce_attach does it, which waits: look again now and then, for as long as the grace is.
 * The event's stamp is when that ends.
 */
static void
refuse_or_wait(const Event *event, const Refusal *refusal)
{
	const Client *client = &clients[event->client];
	bool has_waited = event->stamp != 0;
	Event next = *event;

	if (!has_waited)
		registry_wake_worker();
	judge_step(STEP_OTHER, event->client);
	if (has_waited ? sim_now < event->stamp : grace_waiting < pgpm_grace_waiters)
	{
		grace_waiting++;
		next.stamp = has_waited ? event->stamp : sim_now + pgpm_grace * MSEC;
		next.action = on_authenticated;
		schedule(GRACE_STEP * MSEC, &next);
		return;
	}
	server.turned_away++;
	judge_refusal(client, refusal, event->serial);
	free_place(event->place);
	next.action = on_refused;
	schedule(network_delay(), &next);
}

static void
on_authenticated(const Event *event)
{
	Client *client = &clients[event->client];
	Backend *backend = &backends[event->place];
	Identity who;
	Refusal refusal;
	Event answer = {
		.action = on_opened, .client = event->client, .serial = event->serial, .place = event->place
	};

	grace_waiting -= event->stamp != 0;
	identify(&who, client, backend->knock);
	procs[event->place].roleId = who.role;
	if (exceeds_role_limit(who.role))
	{
		server.refused++;
		free_place(event->place);
		answer.action = on_refused;
		schedule(network_delay(), &answer);
		return;
	}
	MyProcPid = backend->pid;
	MyProc = &procs[event->place];
	backend->instance = registry_attach(&who, event->place, &refusal);
	backend->attached = backend->instance >= 0;
	if (!backend->attached && refusal.reason != REFUSED_NOT)
	{
		refuse_or_wait(event, &refusal);
		return;
	}
	if (backend->attached)
	{
		client->instance = backend->instance;
		client->generation = registry->instances[backend->instance].generation;
		answer.text = read_allotment(backend);
	}
	server.opened++;
	server.knocks += backend->knock;
	judge_step(is_unforeseen(client, event->serial) ? STEP_JOIN : STEP_ATTACH, event->client);
	schedule(network_delay(), &answer);
}

/* A password, a fork, a relcache: a few milliseconds, more on a busy machine. */
static int64
startup_time(void)
{
	return random_between(2, 12 + server.connections / 50) * MSEC;
}

void
on_connect(const Event *event)
{
	Event next = { .client = event->client, .serial = event->serial };

	next.place = take_place();
	if (next.place < 0)
	{
		server.refused++;
		next.action = on_refused;
		schedule(network_delay(), &next);
		return;
	}
	backends[next.place].client = event->client;
	backends[next.place].serial = event->serial;
	backends[next.place].knock = event->stamp != 0;
	next.action = on_authenticated;
	schedule(startup_time(), &next);
}

/* Not this session's any more: its client was killed meanwhile. */
static bool
is_over(const Event *event)
{
	const Backend *backend = &backends[event->place];

	return backend->pid == 0 || backend->client != event->client ||
		   backend->serial != event->serial;
}

void
on_report(const Event *event)
{
	Backend *backend = &backends[event->place];
	Event answer = {
		.action = on_answer, .client = event->client, .serial = event->serial, .stamp = event->stamp
	};
	Report report;
	const char *reason;

	if (!report_parse(event->report, strlen(event->report), &report, &reason))
		sim_fail("a report is not understood: %s: %s", reason, event->report);
	free(event->report);
	if (is_over(event))
		return;
	if (backend->attached)
	{
		MyProcPid = backend->pid;
		server.reports += registry_apply_report(backend->instance, &report);
		judge_step(STEP_OTHER, event->client);
	}
	answer.text = news(backend);
	schedule(network_delay(), &answer);
}

void
on_command(const Event *event)
{
	Event answer = { .action = on_heard, .client = event->client, .serial = event->serial };

	if (is_over(event))
		return;
	answer.text = news(&backends[event->place]);
	schedule(network_delay(), &answer);
}

void
on_terminate(const Event *event)
{
	Backend *backend = &backends[event->place];

	if (is_over(event))
		return;
	if (backend->attached)
	{
		MyProcPid = backend->pid;
		registry_detach(event->place);
		judge_step(STEP_OTHER, event->client);
	}
	free_place(event->place);
	schedule(network_delay(),
			 &(Event){ .action = on_closed, .client = event->client, .serial = event->serial });
}
