/*-------------------------------------------------------------------------
 *
 * ticket.c
 *	  A loan, as those know it who may outlive it.
 *
 * A PGcancel may be used at any time, from any thread, and from a signal
 * handler: libpq allows that.  So the question whether its loan goes on must
 * not take a lock.  Each guest has a ticket, one word:
 *
 *		loan << 16 | PQcancel calls under way		0: not lent
 *
 * A canceller who finds his loan in it counts himself in, sends, and counts himself
 * out.  The end of the loan takes the word away, and learns whether somebody was in;
 * then the connection is closed, as what he sends could reach the next holder.
 *
 * A ticket is never freed, only given to another guest, so that a stale PGcancel finds a word,
 * with another loan in it.  Loans are numbered, and no number comes again.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <stdlib.h>

#define USERS_BITS 16
#define USERS ((UINT64_C(1) << USERS_BITS) - 1)

struct Ticket
{
	_Atomic uint64_t word;
	Ticket *next; /* while nobody has it */
};

static Ticket *spare; /* under the guests' lock */

/* With the guests' lock held, as pqp_ticket_give_back.  NULL: no memory. */
Ticket *
pqp_ticket_take(void)
{
	Ticket *ticket = spare;

	if (!ticket)
		return calloc(1, sizeof(*ticket));
	spare = ticket->next;
	return ticket;
}

void
pqp_ticket_give_back(Ticket *ticket)
{
	(void) pqp_ticket_end(ticket);
	ticket->next = spare;
	spare = ticket;
}

/* A loan begins; its number. */
uint64_t
pqp_ticket_begin(Ticket *ticket)
{
	uint64_t loan = pqp_next_serial() & UINT64_MAX >> USERS_BITS;

	atomic_store(&ticket->word, loan << USERS_BITS);
	return loan;
}

/* The loan has ended.  True: somebody was cancelling just then. */
bool
pqp_ticket_end(Ticket *ticket)
{
	return (atomic_exchange(&ticket->word, 0) & USERS) != 0;
}

/*
 * True: it is this loan still, and the connection is not lent to anybody else before
 * pqp_ticket_leave.
 */
bool
pqp_ticket_enter(Ticket *ticket, uint64_t loan)
{
	uint64_t word = atomic_load(&ticket->word);

	do
		if (word >> USERS_BITS != loan || (word & USERS) == USERS)
			return false;
	while (!atomic_compare_exchange_weak(&ticket->word, &word, word + 1));
	return true;
}

void
pqp_ticket_leave(Ticket *ticket, uint64_t loan)
{
	uint64_t word = atomic_load(&ticket->word);

	do
		if (word >> USERS_BITS != loan)
			return;
	while (!atomic_compare_exchange_weak(&ticket->word, &word, word - 1));
}
