/*-------------------------------------------------------------------------
 *
 * pgpool_monitor.h
 *	  The module's settings, and the few things that all its files share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPOOL_MONITOR_H
#define PGPOOL_MONITOR_H

#include "portability/instr_time.h"

#define PGPM_VERSION "1.0.0"

/* In this order: what a higher one does includes the lower ones. */
typedef enum PgpmMode
{
	MODE_OFF,
	MODE_OBSERVE,
	MODE_ADVISE, /* works out shares, and tells nobody */
	MODE_SHARE,
	MODE_ENFORCE
} PgpmMode;

/*---- settings (pgpool_monitor.c), of which README.md has the table ----*/

extern int pgpm_mode; /* a PgpmMode; the one in force is Registry.mode */
extern char *pgpm_rules;
extern bool pgpm_rules_changed; /* since this process looked (session.c) */
extern char *pgpm_rules_file;	/* empty: none */
extern char *pgpm_always_admit;
extern int pgpm_grace; /* ms */
extern int pgpm_grace_waiters;
extern int pgpm_headroom;		 /* connections, -1: by max_connections */
extern int pgpm_report_interval; /* ms */
extern int pgpm_lease;			 /* ms */
extern int pgpm_retry_interval;	 /* ms */
extern int pgpm_round_interval;	 /* ms */
extern int pgpm_max_instances;
extern int pgpm_max_pools;
extern bool pgpm_save; /* counters, over a clean restart */

/* Identity as the client gave it; never read without session.c's test of its source. */
extern char *pgpm_pool;
extern char *pgpm_instance;

extern const char *pgpm_mode_name(int mode);

/* Connections that ordinary users may have. */
extern int pgpm_base_connections(void);

/* Connections that are never given to pools: as set, or by max_connections. */
extern int pgpm_headroom_connections(void);

/*
 * Microseconds on a clock that is not set by anybody, and counts the time that
 * the machine was suspended, where the system has one.  All deadlines of the
 * module are on it; timestamps are only shown.
 */
static inline int64
pgpm_now(void)
{
	struct timespec ts;

#ifdef CLOCK_BOOTTIME
	clock_gettime(CLOCK_BOOTTIME, &ts);
#else
	clock_gettime(CLOCK_MONOTONIC, &ts);
#endif
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/*---- session.c ----*/

extern void session_define_settings(void);
extern void session_install_hooks(void);

/* This session listens for notifications from now on, or no more. */
extern void session_note_listening(bool listens);

/*---- listen.c ----*/

extern void listen_install_hooks(void);

/*---- worker.c ----*/

extern void worker_register(void);

/*---- rule_set.c ----*/

/*
 * Put the rules of string and file in force, as far as they can be read.  By the
 * postmaster when shared memory is made, then by the worker.  Raises nothing.
 */
extern void rule_set_load(void);

/*---- share.c ----*/

extern void share_init(void);

/* One round; `now` is pgpm_now(). */
extern void share_round(int64 now);

/*---- health_watch.c ----*/

extern void health_define_settings(void);
extern void health_watch_init(void);

/*
 * Called in each round: if it is time, look at each pool's health, and tell the log what
 * has changed; `now` is pgpm_now().
 */
extern void health_watch_round(int64 now);

#endif /* PGPOOL_MONITOR_H */
