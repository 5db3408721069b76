/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  Borrowing for one who connects by himself; see claim.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_CLAIM_H
#define PQP_CLAIM_H

#include "../src/internal.h"

typedef struct Claim
{
	Pool *pool;
	PGconn *conn;  /* a loan; or NULL */
	Slot *opening; /* a place, in state OPENING; or NULL */
	bool steps;	   /* the opening is the program's, step by step */
	bool alone;	   /* he did not wait, for he would have had to wait for himself */
	Borrower borrower;
	int64_t began; /* us, CLOCK_BOOTTIME: of connecting */
	int64_t start; /* us */
} Claim;

extern bool pqp_claim(Pool *pool, int timeout_ms, Claim *claim, pqpool_error *err);
extern void pqp_claim_begun(const Claim *claim, PGconn *conn);
extern bool pqp_claim_connected(Claim *claim, PGconn *conn);
extern void pqp_claim_failed(Claim *claim);
extern void pqp_claim_undo(Thread *thread);
extern void pqp_claim_forked(void);
extern void pqp_claim_reconnected(PGconn *conn, int64_t began);

#endif /* PQP_CLAIM_H */
