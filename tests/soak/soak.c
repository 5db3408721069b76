/*-------------------------------------------------------------------------
 *
 * soak.c
 *	  Everything at once, for as long as you like: many threads use the client
 *	  library's whole interface against a server to which things happen, and
 *	  every outcome is judged.
 *
 *		make soak [SOAK_SECONDS=30] [SOAK_SEED=n] [SANITIZE=address,undefined | thread]
 *
 * Actors
 *		workers			borrow, ask, mistreat and give back, from pools, scopes, the default pool, their own
 *		hurry			borrow and give back at once, with the shortest of deadlines
 *		churn			threads that live for one loan, and may leave it behind
 *		courier			gives back what others have handed over
 *		canceller		cancels what others wait for
 *		steerers		resize, pause, drain, close and reopen the pools; open and close the default pool
 *		parent			forks
 *		chaos			restarts the server, kills its processes, ends sessions
 * and the main thread, which prints a line every five seconds and looks for those that hang.
 *
 * What is judged
 *		every call		its code must be in the table of verdict.c, for the situation that it was in
 *		every loan		nobody else has it, it is idle, and answers what it is asked (loans.c)
 *		in the end		descriptors, threads, memory, sessions and loans are back where they began (balance.c)
 *
 * A run is two rounds, of a third and of two thirds of the time; after each all is
 * closed and counted.  Counting waits for helper threads to leave, so that a run takes
 * up to half a minute longer than it was told.
 *
 * What each thread does is drawn from the seed; when it does it, is up to the
 * machine.  So a seed repeats the kind of a run, not the run.
 *
 * sources: tests/soak/play.c tests/soak/balance.c tests/soak/chaos.c tests/soak/children.c tests/soak/hands.c
 * sources: tests/soak/loans.c tests/soak/pools.c tests/soak/verdict.c tests/soak/worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

/*---- the run ----*/

static void
start_all(void)
{
	atomic_store(&stopping, false);
	start_actors("worker", work, 12);
	start_actors("hurry", hurry, 4);
	start_actors("churn", churn, 2);
	start_actors("courier", courier, 1);
	start_actors("canceller", canceller, 1);
	start_actors("steerer", steer, 2);
	start_actors("steerer of the default pool", steer_default, 1);
	start_actors("parent", bring_forth, 1);
	start_actors("chaos", disturb, 1);
}

static void
play(Self *self, int64_t ms)
{
	open_slots(self);
	start_all();
	wait_and_tell(now_ms() + ms);
	/* the courier may have gone, and somebody may wait for what is in the mail */
	join_actors(self, empty_mail);
	empty_mail(self);
	close_slots(self);
}

/* What the library and libpq keep for good is there before anything is counted. */
static void
warm_up(void)
{
	pqpool_error err;
	pqpool *pool = pqpool_open("application_name=soak-first", &err);
	PGconn *conn = pool != NULL ? pqpool_acquire(pool, PATIENCE_MS, &err) : NULL;

	if (conn == NULL || pqpool_release(conn) != PQPOOL_OK || pqpool_close(&pool, -1) != PQPOOL_OK)
		give_up("no first connection: %s", err.message);
}

int
main(void)
{
	int64_t ms = begin_run();
	Balance base;
	Balance middle;
	Balance end;
	Self *self;

	setenv("PGAPPNAME", "soak-own", 1);
	self = self_new("main", 0);
	base = base_balance(warm_up);
	play(self, ms / 3);
	middle = settle(&base, "after a third");
	play(self, ms - ms / 3);
	end = settle(&base, "at the end");
	self_free(self);

	print_summary();
	print_disturbances();
	compare_memory(&middle, &end);
	return verdict();
}
