/*-------------------------------------------------------------------------
 *
 * preload.h
 *	  The pool behind libpq's own door, for programs that know nothing of it.
 *
 * libpqpool_preload.so is loaded before libpq (LD_PRELOAD) and defines the
 * functions by which a program opens, closes and cancels.  The pool is the one in
 * ../src, compiled in its form without threads; nothing of it is written again here.
 * What is here stands between a program that means "close" and a connection that stays:
 *
 *		libpq.c		where libpq is, which is not known before the program's first call
 *		key.c		what is the same connection? arguments -> key -> pool
 *		files.c		files that decide as well
 *		idle.c		how many may lie idle
 *		claim.c		borrowing for one who connects by himself
 *		entry.c		connect and finish
 *		guest.c		what is remembered of each PGconn that the program has from us
 *		cancel.c	PGcancel, which outlives the loan
 *		ticket.c	how it knows
 *		epoll.c		sockets that event loops do not forget
 *		loader.c	dlopen, for those who look past us
 *		settings.c	PQPOOL_ variables, messages, the summary at exit
 *		form.c		what the pool has to know of all this
 *		run.c		the launcher, a program
 *
 * The rule for all of it: what cannot be pooled safely passes through as if we
 * were not there, and no failure of ours is one of the program's.
 *
 * Locks: libpqs (libpq.c) and keys (key.c) before all of the pool's; guests (guest.c) after all of
 * them, a leaf.  A fork takes them all, in this order (form.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_PRELOAD_H
#define PQP_PRELOAD_H

#include <sys/stat.h>

#include "claim.h"

#define PQP_EXPORT __attribute__((visibility("default")))

/* libpq.c */

/* As seen from a caller. */
typedef struct View
{
	const Libpq *libpq; /* the one that he would call without us; NULL: none can be found */
	bool pooled;		/* and its connections are pooled, and he is not libpq itself */
} View;

extern View pqp_view(const void *caller);
extern View pqp_view_of(const PGconn *conn, const void *caller);
extern bool pqp_is_pooling(void);
extern void pqp_libpqs_lock(void);
extern void pqp_libpqs_unlock(void);
extern void pqp_libpqs_renew(void);
#define PQP_CALLER() __builtin_extract_return_addr(__builtin_return_address(0))
#define PQP_VIEW() pqp_view(PQP_CALLER())
#define PQP_VIEW_OF(conn) pqp_view_of(conn, PQP_CALLER())

/* key.c */

/* The arguments of one of libpq's functions that connect. */
typedef struct Arguments
{
	enum
	{
		BY_STRING, /* PQconnectdb: strings[0] */
		BY_LOGIN,  /* PQsetdbLogin: host, port, options, dbname, login, password */
		BY_PARAMS  /* PQconnectdbParams */
	} kind;
	const char *strings[6];
	const char *tty; /* BY_LOGIN; to be passed on, means nothing */
	const char *const *keywords;
	const char *const *values;
	int expand_dbname;
} Arguments;

extern Pool *pqp_pool_for(const Arguments *arguments);
extern Pool *pqp_keys_idle(const Pool *but);
extern void pqp_keys_lock(void);
extern void pqp_keys_unlock(void);
extern void pqp_keys_renew(void);

/* files.c */

#define PQP_FILES 7

typedef struct Stamp
{
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
} Stamp;

typedef struct Files
{
	char *paths[PQP_FILES]; /* NULL: does not matter */
	Stamp stamps[PQP_FILES];
} Files;

extern void pqp_files_note(Files *files, const PoolOptions *options);
extern bool pqp_files_changed(const Files *files);
extern void pqp_files_forget(Files *files);

/* idle.c */
extern bool pqp_idle_setting(pqpool_error *err);
extern void pqp_idle_make_room(const Pool *pool, bool may_wait);
extern int pqp_idle_close(Pool *pool, bool may_wait);
extern int pqp_idle_close_all(bool may_wait);

/* ticket.c */

typedef struct Ticket Ticket;

extern Ticket *pqp_ticket_take(void);
extern void pqp_ticket_give_back(Ticket *ticket);
extern uint64_t pqp_ticket_begin(Ticket *ticket);
extern bool pqp_ticket_end(Ticket *ticket);
extern bool pqp_ticket_enter(Ticket *ticket, uint64_t loan);
extern void pqp_ticket_leave(Ticket *ticket, uint64_t loan);

/* guest.c */

typedef struct Guest Guest;

/* What is to be done with a PGconn that the program is done with. */
typedef enum Farewell
{
	FAREWELL_STRANGER, /* it is not from us */
	FAREWELL_RELEASE,
	FAREWELL_DISCARD,
	FAREWELL_CONNECTING, /* *claim is of it */
	FAREWELL_TWICE		 /* it was closed before */
} Farewell;

extern bool pqp_guest_add(PGconn *conn, const Claim *connecting);
extern void pqp_guest_refused(PGconn *conn, const char *message);
extern const char *pqp_guest_message(PGconn *conn); /* NULL: libpq's */
extern bool pqp_guest_connecting(PGconn *conn,
								 Claim *claim); /* which may be by another socket now */
extern void pqp_guest_connected(PGconn *conn);	/* also anew: by PQreset */
extern void pqp_guest_lent(PGconn *conn);
extern bool pqp_guest_known(PGconn *conn);
extern Farewell pqp_guest_leaves(PGconn *conn, Claim *claim);
extern void pqp_guest_gone(PGconn *conn, void *arg);
extern int pqp_guests_idle(void);
extern void pqp_guest_spoiled(PGconn *conn); /* not to be lent again */
extern uint64_t pqp_guest_loan(PGconn *conn, Ticket **ticket);
extern bool pqp_guest_socket_kept(PGconn *conn, int *fd);
extern void pqp_guest_watched(int fd, int epoll, bool watched);
extern void pqp_guests_lock(void);
extern void pqp_guests_unlock(void);
extern void pqp_guests_shared(void);
extern void pqp_guests_forked(void);
extern void pqp_guests_renew(void);

/* epoll.c */
extern void pqp_epoll_forget(int epoll, int fd);

/* loader.c */
extern void *pqp_real_dlopen(const char *file, int mode);

/* settings.c */
typedef struct Summary
{
	Counter asked;	/* calls that connect */
	Counter passed; /* not pooled: bad options, too many keys, no memory */
	Counter beyond; /* not pooled: all connections are in use, and the caller has them */
	Counter reused;
	Counter opened;
	Counter failed;
	Counter refused;	/* by the pool */
	Counter opening_us; /* spent in opening */
	Counter closed[PQPOOL_CLOSE_REASONS];
} Summary;

extern Summary pqp_summary;
extern bool pqp_enabled; /* constant after start */
extern void pqp_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void pqp_count_closed(const pqpool_event *event, void *arg);
extern void pqp_bad_option(const pqpool_error *err);

#endif /* PQP_PRELOAD_H */
