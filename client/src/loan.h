/*-------------------------------------------------------------------------
 *
 * loan.h
 *	  What is noted of a loan, on the fast path: inline, and without a lock.
 *
 * The slot is the caller's.  Figures are written by him alone, so that adding
 * to them takes no atomic operation, only whole loads and stores, for those
 * who look (stats.c).
 *
 * Reading a precise clock costs more than all the rest of the fast path.  So
 * the beginning of a loan is noted by a coarse clock, good enough for leaks,
 * and its length is measured if that is cheap in comparison: always while the
 * connection's loans are long, and else once in PQP_SAMPLE, when the one that is
 * measured stands for those that were not since the last one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_LOAN_H
#define PQP_LOAN_H

#include "internal.h"

#define PQP_SAMPLE 64
#define PQP_LONG_US 64 /* measuring costs less than a thousandth of it */

/* Slot.measured_at, if it is no time. */
#define PQP_NOT_MEASURED 0
#define PQP_COUNTED (-1) /* the end of the loan has been noted already */

#define PQP_PEEK(object) atomic_load_explicit(object, memory_order_relaxed)
#define PQP_POKE(object, value) atomic_store_explicit(object, value, memory_order_relaxed)

/* By the fast path; pqp_lend is the slow path's. */
static inline void
pqp_loan_begins(Slot *slot, pid_t tid, const char *site, int64_t now)
{
	PQP_POKE(&slot->tid, tid);
	PQP_POKE(&slot->site, site);
	PQP_POKE(&slot->lent_at, now);
	PQP_POKE(&slot->loans, PQP_PEEK(&slot->loans) + 1);
	slot->measured_at = slot->measuring > 0 || PQP_PEEK(&slot->skipped) >= PQP_SAMPLE - 1
							? pqp_now()
							: PQP_NOT_MEASURED;
}

static inline void
pqp_loan_ends(Slot *slot)
{
	int64_t held;
	uint32_t skipped = PQP_PEEK(&slot->skipped), bucket;

	if (slot->measured_at == PQP_COUNTED)
		return;
	if (slot->measured_at == PQP_NOT_MEASURED)
	{
		PQP_POKE(&slot->skipped, skipped + 1);
		return;
	}
	held = pqp_now() - slot->measured_at;
	bucket = (uint32_t) pqp_link_bucket(held);
	if (held >= PQP_LONG_US)
		slot->measuring = PQP_SAMPLE;
	else if (slot->measuring > 0)
		slot->measuring--;
	PQP_POKE(&slot->skipped, 0);
	PQP_POKE(&slot->bucket, bucket);
	pqp_count(&slot->pool->counters.hold[bucket], 1 + skipped);
}

/*
 * Who hears notices, as after connecting.  libpq does not tell with which
 * argument the hook "configure" has set them, so it is always the hooks'; its
 * own ignore it.
 */
static inline void
pqp_default_notices(Slot *slot)
{
	PGconn *conn = PQP_PEEK(&slot->conn);
	void *arg = slot->pool ? slot->pool->hooks.arg : NULL;

	PQsetNoticeReceiver(conn, slot->receiver, arg);
	PQsetNoticeProcessor(conn, slot->processor, arg);
}

/* What libpq keeps for a connection, back to how it was after connecting. */
static inline void
pqp_restore(Slot *slot)
{
	PGconn *conn = PQP_PEEK(&slot->conn);

	pqp_default_notices(slot);
	PQuntrace(conn);
	(void) PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
	(void) PQsetErrorContextVisibility(conn, PQSHOW_CONTEXT_ERRORS);
}

static inline void
pqp_drop_notifies(PGconn *conn)
{
	PGnotify *notify;

	while ((notify = PQnotifies(conn)) != NULL)
		PQfreemem(notify);
}

/*
 * Is nothing to be done about a returned connection, but what costs next to
 * nothing, and has been done?  What the holder did not read of NOTIFYs is gone.
 */
static inline bool
pqp_spotless(Slot *slot)
{
	PGconn *conn = PQP_PEEK(&slot->conn);

	if (PQtransactionStatus(conn) != PQTRANS_IDLE || PQpipelineStatus(conn) != PQ_PIPELINE_OFF ||
		PQisnonblocking(conn) || slot->fatal)
		return false;
	pqp_drop_notifies(conn);
	pqp_restore(slot);
	return true;
}

#endif /* PQP_LOAN_H */
