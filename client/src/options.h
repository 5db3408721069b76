/*-------------------------------------------------------------------------
 *
 * options.h
 *	  What the user asked for: the connection string, taken apart.
 *
 * A pool's own options (pool_name, pool_max_size, ...) ride in the connection
 * string.  They are taken out of it here, before libpq sees the rest, so that
 * hosts, TLS, service files and .pgpass mean what they always mean.
 *
 * Life cycle: filled once by pqp_options_parse, read by every thread without
 * a lock for as long as the pool lives, freed with it.  Nobody writes to it
 * in between: what pqpool_resize changes lives in the pool.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_OPTIONS_H
#define PQP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PQP_NAME_MAX 63	   /* bytes of a pool's name, PROTOCOL.md section 2 */
#define PQP_SIZE_MAX 10000 /* largest pool_max_size */
#define PQP_DEFAULTS_MAX 3 /* parameters of libpq's that we have defaults for */

/* pool_reset: what happens to a connection between two holders. */
typedef enum PqpReset
{
	PQP_RESET_NONE,		/* nothing; an open transaction costs the connection */
	PQP_RESET_ROLLBACK, /* ROLLBACK if a transaction is open */
	PQP_RESET_DISCARD,	/* ROLLBACK if one is open, then DISCARD ALL */
} PqpReset;

/* What target_session_attrs asks of a server; what is only preferred is asked of none. */
typedef enum PqpTarget
{
	PQP_TARGET_ANY,
	PQP_TARGET_READ_WRITE,
	PQP_TARGET_READ_ONLY,
	PQP_TARGET_PRIMARY,
	PQP_TARGET_STANDBY,
} PqpTarget;

typedef struct PoolOptions
{
	char name[PQP_NAME_MAX + 1]; /* pool_name, see pqp_options_parse */
	int min_size;				 /* 0 .. max_size */
	int max_size;				 /* 1 .. PQP_SIZE_MAX */
	int max_waiters;			 /* 0: ten times the pool's size limit */

	/* durations, in milliseconds, at most INT32_MAX */
	int64_t acquire_timeout_ms; /* 0: do not wait, -1: without limit */
	int64_t idle_timeout_ms;	/* 0: never */
	int64_t max_lifetime_ms;	/* 0: never */
	int64_t validate_after_ms;	/* 0: at every acquire, -1: never */
	int64_t peek_after_ms;		/* 0: at every acquire */
	int64_t reset_timeout_ms;	/* at least 1 */
	int64_t leak_after_ms;		/* 0: never */

	PqpReset reset;	  /* pool_reset */
	bool report;	  /* pool_report */
	bool obey_limits; /* pool_limits = obey */
	bool bind_thread; /* pool_bind = thread */

	/*
	 * For PQconnectStartParams with expand_dbname = 0: what the user gave
	 * for libpq, without the pool's options and without "options".  Both end
	 * with NULL, at index nparams.  To connect, copy them and append
	 * "options", from pqp_link_identity; or user_options, unless empty.
	 */
	int nparams;
	char **keywords;
	char **values;

	/*
	 * Likewise, what we set because he gave nothing, neither in the string nor
	 * in a service file or the environment.  Constant strings.
	 */
	int ndefaults;
	const char *default_keywords[PQP_DEFAULTS_MAX];
	const char *default_values[PQP_DEFAULTS_MAX];

	/*
	 * connect_timeout as libpq would take it: from the string, a service file
	 * or the environment.  It is for each address.  0: no limit.
	 */
	int64_t connect_timeout_ms;
	bool connect_timeout_given; /* else it is the default, and gives way; see connect.c */

	/* Also from any of these. */
	bool replication; /* it is to be a replication connection */
	PqpTarget target;

	/*
	 * The startup options that libpq would send on its own, from wherever it
	 * takes them: the string, a service file, PGOPTIONS.  Never NULL.
	 */
	char *user_options;

	bool no_memory; /* parsing failed, and that was why */
	bool by_libpq;	/* the same: libpq refuses what was given for it */
} PoolOptions;

/*
 * Take a connection string apart: keyword=value pairs or a URI, NULL is the
 * same as empty.  For the pool's options the string comes before the
 * environment (PQPOOL_NAME for pool_name and so on, an exact list: other
 * variables that begin alike, such as those that Kubernetes makes, mean
 * nothing; an empty one is not there) and that before the default.
 *
 * A pool without a pool_name is called by its application_name (or PGAPPNAME,
 * or fallback_application_name), else by its program's name, else "default";
 * a name found in that way is cut to PQP_NAME_MAX bytes.
 *
 * In a keyword=value string a dbname that is itself a connection string is
 * expanded, once, in its place, as PQconnectdbParams does with expand_dbname.
 *
 * True: *out is filled, pqp_options_free is due.  False: *out holds nothing but no_memory
 * and by_libpq, and errbuf says why: key, value, what is allowed.  Values of the pool's
 * options are quoted there, and connect_timeout's; those of others (passwords) never by us.
 * Opens no connection.  Reads the environment: not while another thread calls setenv.
 */
extern bool pqp_options_parse(const char *conninfo, PoolOptions *out, char *errbuf, size_t errlen);

/* Free what *options holds, and zero it.  NULL and a zeroed struct are fine. */
extern void pqp_options_free(PoolOptions *options);

#endif /* PQP_OPTIONS_H */
