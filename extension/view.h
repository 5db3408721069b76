/*-------------------------------------------------------------------------
 *
 * view.h
 *	  What the views have in common: a copy of the registry, and rows.
 *
 * Each view copies what it needs and shows the copy: tuples are built, and memory is
 * allocated, without the lock.  Instances are copied in parts, so that nobody waits
 * long; the pools of one moment, the instances of the next: an instance
 * whose pool was not there yet is left out.  A view that only adds instances up does so
 * where they stand, in the same parts, for a copy of all of them is megabytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_VIEW_H
#define PGPM_VIEW_H

#include "fmgr.h"

#include "grant.h"
#include "registry.h"

#define VIEW_MAX_COLS 48
#define VIEW_AT_ONCE 64 /* slots, under the lock */

/* The registry, as it was. */
typedef struct Copy
{
	int64 now;
	PoolSlot *pools; /* [max_pools]; used where pool_hashes is not 0 */
	uint64 *pool_hashes;
	RoundFigures round;
	PoolHealth *health; /* [max_pools] */

	/* by view_copy() only */
	SessionSlot *sessions; /* [MaxBackends] */
	int ninstances;
	InstanceSlot *instances; /* side by side */
	int *member_of;			 /* [max_instances]: slot -> index in instances, -1: none */
} Copy;

/* Raises 55000 unless the library was preloaded. */
extern void view_require_registry(void);

extern Copy *view_copy(void);
extern Copy *view_copy_pools(void);

/* Under the registry's lock: the pool of the instance in a slot, if it was copied; else -1. */
extern int view_pool_of(const Copy *copy, int instance);

/* The instance of an attached session, or NULL if it was not copied. */
extern const InstanceSlot *view_instance_of(const Copy *copy, const SessionSlot *session);

/*
 * It runs a command, or is in a transaction.  Torn or outdated by a moment, good enough to
 * be counted.
 */
extern bool view_is_busy(const SessionSlot *session);

/* What an instance is told now. */
static inline Publication
view_published(const InstanceSlot *instance)
{
	return publication_effective(pg_atomic_read_u64((pg_atomic_uint64 *) &instance->publication),
								 pg_atomic_read_u32(&registry->generation),
								 pg_atomic_read_u32(&registry->mode));
}

/* What the current user may see. */
extern bool view_sees_everything(void);
extern bool view_may_see(const PoolSlot *pool);
extern bool view_may_see_role(Oid role); /* a pool of that role */

/* With the mode off there are no rounds, and the figures of the last one mean nothing. */
extern bool view_is_current(const RoundFigures *round);

/*---- figures of instances ----*/

/*
 * What clients report is at most the largest number of its type, and not
 * negative; what many report together stays there.
 */
extern void view_add_int(int *sum, int value);
extern void view_add_bigint(int64 *sum, int64 value);

/*
 * What happened since the histogram of one to two windows ago; a counter that went back
 * counts as new.
 */
extern void view_add_recent_waits(int64 *sums, const InstanceSlot *instance);

/*---- a row being built: columns from left to right ----*/

typedef struct Row
{
	Datum values[VIEW_MAX_COLS];
	bool nulls[VIEW_MAX_COLS];
	int n;
} Row;

extern void put(Row *row, Datum value);
extern void put_null(Row *row);
extern void put_int(Row *row, int value);
extern void put_int_or_null(Row *row, bool known, int value);
extern void put_bigint_or_null(Row *row, bool known, int64 value);
extern void put_text(Row *row, const char *text);
extern void put_text_or_null(Row *row, const char *text);

/* Milliseconds, no finer than they are measured.  Negative means that it is not known. */
extern void put_ms(Row *row, double ms);

/*
 * What a client says is bytes in an encoding that nobody knows, and it is shown
 * in databases of any encoding: only printable ASCII is shown as it is.
 */
extern char *view_printable(const char *name);
extern void put_name(Row *row, const char *name);
extern void put_name_or_null(Row *row, const char *name);

/* To the function's result; the next row begins. */
/*
 * The SQL objects of another version may call us, until ALTER EXTENSION UPDATE, or a
 * restart after an upgrade: then it is an error to have another number of columns.  So
 * versions only add columns: what changes a column's type gives the C function another
 * name, as does what changes arguments.
 */
extern void view_require_columns(const TupleDesc descriptor, int columns);

extern void emit(FunctionCallInfo fcinfo, Row *row, int columns);

#endif /* PGPM_VIEW_H */
