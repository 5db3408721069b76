/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker: when to look at the fleet.
 *
 * It is connected to no database, so that it blocks no command on one, works on a
 * standby, and is seen in pg_stat_activity.  It looks once every
 * round_interval, and whenever a session has set its latch, but not more often than
 * every MIN_GAP: a hundred pools that start together are one round, not a hundred.
 *
 * Nothing depends on it being there.  Without it sessions attach, report and detach as always,
 * newcomers keep the one connection that they came with, and limits stay as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"

#include "compat.h"
#include "history.h"
#include "pgpool_monitor.h"
#include "registry.h"

#define MIN_GAP 50	   /* ms */
#define RESTART_TIME 1 /* s */

PGDLLEXPORT void pgpool_monitor_worker_main(Datum arg);

static void
sign_off(int code, Datum arg)
{
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->worker_pid = 0;
	registry->worker_latch = NULL;
	LWLockRelease(registry->lock);
}

static void
sign_on(void)
{
	before_shmem_exit(sign_off, (Datum) 0);
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->worker_pid = MyProcPid;
	registry->worker_latch = MyLatch;
	LWLockRelease(registry->lock);
}

static void
reload_if_asked(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;

	/*
	 * rules that were taken out of the file are not checked again: what was wrong with them
	 * is over
	 */
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->rules_error[0] = '\0';
	LWLockRelease(registry->lock);
	ProcessConfigFile(PGC_SIGHUP);
	rule_set_load();
}

/*
 * Until the latch is set or the time is over: one wait, where nothing happens.  If the last round
 * was but a moment ago, what is set meanwhile is waited for, too.
 */
static void
wait_for_work(uint32 wait_event)
{
	int64 began = pgpm_now();
	long left;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pgpm_round_interval,
					 wait_event);
	left = MIN_GAP - (long) ((pgpm_now() - began) / 1000);
	if (left > 0)
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	reload_if_asked();
}

void
pgpool_monitor_worker_main(Datum arg)
{
	uint32 wait_event;
	bool was_off = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("pgpool_monitor");
	wait_event = compat_wait_event("PgpoolMonitorMain");

	share_init();
	health_watch_init();
	sign_on();
	rule_set_load();
	while (!ShutdownRequestPending)
	{
		bool off = pg_atomic_read_u32(&registry->mode) == MODE_OFF;

		/*
		 * the first round of "off" takes back all limits, so that none is taken for known
		 * when it ends
		 */
		if (!off || !was_off)
			share_round(pgpm_now());
		if (!off)
			history_round(pgpm_now());
		health_watch_round(pgpm_now());
		was_off = off;
		wait_for_work(wait_event);
	}

	/* not 0: that would mean never again, and somebody may only have terminated it */
	proc_exit(1);
}

void
worker_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "pgpool_monitor", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pgpool_monitor", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = RESTART_TIME;
	strlcpy(worker.bgw_library_name, "pgpool_monitor", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "pgpool_monitor_worker_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
