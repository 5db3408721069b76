/*-------------------------------------------------------------------------
 *
 * sim.h
 *	  A fleet of pool instances and a server, simulated in one process.
 *
 * The server is the extension's own registry.c, grant.c, share.c and what they call,
 * compiled against shim/.  The clients are client.c, written from extension/PROTOCOL.md.
 * Between them stand delays that are drawn.
 *
 *	events.c	the clock, the queue of events, random numbers
 *	server.c	what PostgreSQL is to the extension: places, locks, memory; and
 *				session.c's part: attach, apply a report, deliver an allotment, detach
 *	unused.c	what the extension calls of PostgreSQL, but never here
 *	worker.c	share.c, with a way to forget everything as a new process would
 *	client.c	instances
 *	judge.c		what must hold after every step, and what is measured
 *	scenarios.c	what happens to the fleet
 *	sim.c		one run, in a process of its own
 *
 * A run is a function of its scenario, size and seed.  Only one thing happens at a
 * time: races between backends are not simulated, delays between machines are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_H
#define SIM_H

#include "postgres.h"

#include "grant.h"
#include "registry.h"

#define MAX_CLIENTS 4096 /* of a run, those that have ended included */
#define MAX_SESSIONS 64	 /* of a client */
#define MAX_PLACES 4096	 /* max_connections */
#define ROLES 3
#define SECOND INT64_C(1000000)
#define MSEC INT64_C(1000)

/*---- events.c ----*/

/* What a session is told: pgpool_monitor.allotment. */
typedef struct Text
{
	bool attached; /* the parameter is there */
	uint64 epoch;
	int limit;
	AllotState state;
	uint32 lease; /* ms, as the next two */
	uint32 interval;
	uint32 retry;
} Text;

typedef struct Event Event;
typedef void (*Action)(const Event *event);

struct Event
{
	int64 at;
	uint64 order; /* of those at the same time */
	Action action;
	int client;
	int serial; /* session of the client; or the scenario's argument */
	int place;
	int64 stamp;
	char *report; /* freed by who takes it */
	Text text;
};

extern int64 sim_now; /* microseconds */

extern void events_init(uint64 seed);
extern void schedule(int64 delay, const Event *event);
extern void schedule_action(int64 delay, Action action, int argument);
extern void run_until(int64 end);

extern uint64 random_bits(void);
extern int random_between(int least, int most);
extern bool chance(double probability);

/* One way between two machines: mostly a fraction of a millisecond, now and then much more. */
extern int64 network_delay(void);

/*---- server.c ----*/

typedef struct Server
{
	int connections;   /* all, those being authenticated included */
	int outsiders;	   /* of these, following nothing */
	int64 refused;	   /* "sorry, too many clients already" */
	int64 turned_away; /* by mode enforce */
	int64 opened;	   /* connections */
	int64 reports;	   /* applied */
	int64 knocks;	   /* sessions of that kind */
	bool worker_stops; /* SIGSTOP */
	double round_us;   /* CPU time of the slowest round of the worker, and of all */
	double rounds_us;
	int64 rounds;
} Server;

extern Server server;

/*
 * Of each role its CONNECTION LIMIT, or -1: none; and whether there is any.  A pool's role
 * goes by its number.
 */
extern int role_limits[ROLES];
extern bool has_role_limits(void);
extern Oid role_of(const char *pool);

extern void server_init(int max_connections, int max_instances, const char *rules);
extern void server_stop_worker(bool stop);
extern void server_restart_worker(void);
extern void server_outsiders(int change);

/* Actions: a client's message has arrived. */
extern void on_connect(const Event *event);
extern void on_report(const Event *event);
extern void on_command(const Event *event);
extern void on_terminate(const Event *event);

/*---- worker.c ----*/

extern void worker_forget(void);
extern void worker_audit(int64 now);
extern int worker_quiet_rounds; /* audited */

/*---- client.c ----*/

typedef enum SessionState
{
	GONE,
	OPENING,
	IDLE,
	IN_USE,
	CLOSING
} SessionState;

typedef struct ClientSession
{
	SessionState state;
	bool knock;
	bool first;	  /* opened without knowing a limit: what the headroom is for */
	bool allowed; /* a limit allowed it, and no lower one has been acknowledged since */
	bool busy;	  /* a command is under way */
	int serial;
	int place;
	int64 began; /* when opening began */
	int64 used;	 /* last in use */
} ClientSession;

/* An instance.  "Its" clock is the simulation's; a stopped one takes no step. */
typedef struct Client
{
	/* who it is */
	int number;
	char pool[NAME_LEN];
	char id[NAME_LEN];
	int min;
	int max;
	bool holds_long; /* its loans do not come back by themselves */
	bool bold;		 /* opens a session where others would knock, if PROTOCOL.md lets it */

	/* what becomes of it */
	bool alive;
	bool leaving; /* bye is to be said */
	bool bye_said;
	int64 stopped_until; /* SIGSTOP */
	int64 started;
	int64 lingers; /* after a death, how long the server takes its sessions for alive */

	/* its work */
	int want; /* connections that its callers would use now */
	int64 wanted_since;

	/* its sessions */
	ClientSession sessions[MAX_SESSIONS];
	int counts[CLOSING + 1];
	int next_serial;
	int64 backoff_until;
	bool knocking;

	/* what it was told */
	bool known; /* the first session's text has come */
	Text told;
	int64 lease_from;
	bool lowered;
	bool urgent;

	/* its reports */
	uint64 seq;
	int reporting; /* serial of the session that carries one; -1: none */
	int64 reported_at;
	int64 answered_at;
	int64 knocked_at;
	double jitter;
	int reported_demand;

	/* where the server has it: the judge's knowledge, not its own */
	int instance; /* -1: nowhere */
	uint32 generation;
	int64 queued_since; /* -1: not queued */
	int64 due_since;	/* a place is free for it, and it has none; -1: not so */
	bool served;		/* once */
} Client;

extern Client *clients;
extern int nclients;

extern int client_start(const char *pool, int want, int max);
extern void client_want(Client *client, int want);
extern void client_leave(Client *client); /* in order: loans end, bye, the rest is closed */
extern void client_kill(Client *client, int64 lingers);
extern void client_stop(Client *client, int64 duration); /* SIGSTOP, then SIGCONT */
extern int client_size(const Client *client);
extern int client_believes(const Client *client); /* the limit it may use now, 0: none */
extern bool client_is_allowed(const Client *client, int serial); /* that session, by its limit */

/* Actions: something has arrived from the server. */
extern void on_opened(const Event *event);
extern void on_refused(const Event *event);
extern void on_answer(const Event *event);
extern void on_heard(const Event *event);
extern void on_closed(const Event *event);

/*---- judge.c ----*/

/* What the step was that is over: how far may it have raised the sum of occupancies by itself? */
typedef enum Step
{
	STEP_JOIN, /* a session came that no limit had allowed, or one that has been taken back since */
	STEP_ATTACH, /* another session came */
	STEP_OTHER,
	STEP_MODE /* the mode was changed: what was not counted is now */
} Step;

/* What came out of a run. */
typedef struct Result
{
	int64 events;
	int clients;
	int64 published;  /* limits, since the beginning */
	int64 moves_late; /* of these, after the fleet should have been at rest */
	int64 late_from;  /* since when that is */
	/* s from the last disturbance until 99 in 100 had their fair share; -1: never */
	double fair_last;
	double fair_worst; /* the same of all disturbances */
	int disturbances;
	int overshoot; /* most by which sessions exceeded capacity */
	int headroom;
	int unknown; /* most sessions that were joining or overtaken at a time */
	int64 refused;
	int64 turned_away;
	int64 opened;
	int64 reports;
	int64 knocks;
	double queued_longest; /* s */
	double due_longest;	   /* s that somebody had to wait though a place was his */
	int64 jumps;		   /* a newcomer was let in before one in the queue, until the next round */
	double round_us;	   /* CPU time, mean */
	double round_us_worst;
	int quiet_rounds;  /* audited */
	char failure[400]; /* empty: all held */
} Result;

extern Result result;

extern void judge_init(void);
extern void judge_step(Step step, int client);
extern void judge_round_begins(void);
extern void judge_round_ends(void);
extern void judge_opening(const Client *client, bool first);
extern void judge_refusal(const Client *client, const Refusal *refusal, int serial);

/* From now on a new share is due: measure how long it takes. */
extern void disturbed(void);

/* From now on nothing more is to move. */
extern void at_rest(void);
extern void judge_finish(void);

/* What CONNECTION LIMITs leave is given, but for what is not worth a move. */
extern void judge_limits_are_used(void);
extern void judge_series(FILE *to); /* where the figures over time go */

/* How long a place may be somebody's without his having it. */
extern int64 turn_bound(void);

/*---- scenarios.c, sim.c ----*/

typedef enum SimSize
{
	SIM_SMALL, /* a second or so */
	SIM_FULL
} SimSize;

typedef struct Scenario
{
	const char *name;
	const char *says; /* what happens, in a line */
	void (*run)(SimSize size);
} Scenario;

extern const Scenario scenarios[];
extern const int nscenarios;

/* In a process of its own.  False: something did not hold, and out->failure says what. */
extern bool sim_run(const Scenario *scenario, SimSize size, uint64 seed, FILE *series, Result *out);

#endif /* SIM_H */
