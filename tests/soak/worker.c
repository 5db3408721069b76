/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Those who borrow: workers, and threads that come and go.
 *
 * Nobody waits without a short deadline for one connection while holding
 * another, so that any pool comes free sooner or later, and a long wait that
 * ends with a timeout is an error.
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

static atomic_int scope_pools;

/*---- borrowing ----*/

/* slot is NULL if it is not known, or the slot has another pool by now. */
static void
note_loan(Self *self, Loan *loan, PGconn *conn, int64_t began, Slot *slot)
{
	*loan = (Loan){ .conn = conn, .since = began, .slot = slot };
	if (slot != NULL)
	{
		snprintf(loan->application, sizeof(loan->application), "%s", slot->application);
		loan->discards = slot->discards;
		loan->bound = slot->bound;
		atomic_fetch_add_explicit(&slot->granted, 1, memory_order_relaxed);
	}
	loan_take(self, loan);
}

static bool
borrow(Self *self, Slot *slot, Op op, int timeout_ms, Loan *loan)
{
	pqpool *pool = enter_pool(slot);
	pqpool_error err;
	PGconn *conn;
	Call call;

	if (pool == NULL)
		return false;
	call = call_begin(self, op, slot);
	conn = pqpool_acquire(pool, timeout_ms, &err);
	if (conn == NULL && err.code == PQPOOL_OK)
		failure("pqpool_acquire() gave neither a connection nor an error");
	(void) call_end(&call, err.code, situation_of(slot, call.began), err.message);
	if (conn != NULL)
		note_loan(self, loan, conn, call.began, slot);
	leave_pool(slot);
	return conn != NULL;
}

static bool
borrow_from(Self *self, Slot *slot, Loan *loan)
{
	switch (draw(self, 6))
	{
		case 0:
			return borrow(self, slot, OP_ACQUIRE_NOW, 0, loan);
		case 1:
			return borrow(self, slot, OP_ACQUIRE_SHORT, 1, loan);
		case 2:
			return borrow(self, slot, OP_ACQUIRE_SHORT, 1 + (int) draw(self, 200), loan);
		default:
			return borrow(self, slot, OP_ACQUIRE, -1, loan);
	}
}

static void
give_back(Self *self, Loan *loan)
{
	Call call;

	if (draw(self, 10) == 0 && mail_put(self, loan))
		return;
	if (draw(self, 20) != 0)
	{
		loan_release(self, loan);
		return;
	}
	loan_drop(loan);
	call = call_begin(self, OP_DISCARD, loan->slot);
	(void) call_end(&call, pqpool_discard(loan->conn), USUAL, loan->application);
}

static void
use(Self *self, Loan *loan)
{
	if (draw(self, 4) != 0 && !loan_check(self, loan))
		return;
	loan_mistreat(self, loan);
}

/*---- what a worker does ----*/

static Slot *
any_slot(Self *self)
{
	return &slots[draw(self, SLOTS)];
}

static void
with_one(Self *self)
{
	Loan loan;

	if (!borrow_from(self, any_slot(self), &loan))
		return;
	use(self, &loan);
	give_back(self, &loan);
}

/* Of the same pool or another; given back in any order. */
static void
with_two(Self *self)
{
	Slot *slot = any_slot(self);
	Loan first;
	Loan second;

	if (!borrow_from(self, slot, &first))
		return;
	if (!borrow(self, draw(self, 2) ? slot : any_slot(self), OP_ACQUIRE_SECOND,
				(int) draw(self, 200), &second))
	{
		give_back(self, &first);
		return;
	}
	use(self, &second);
	use(self, &first);
	if (draw(self, 2) == 0)
	{
		give_back(self, &first);
		give_back(self, &second);
	}
	else
	{
		give_back(self, &second);
		give_back(self, &first);
	}
}

/* Of a scope's pool, the default pool, or one's own; slot is NULL if not a scope's. */
static bool
get_connection(Self *self, Slot *slot, int generation, Loan *loan)
{
	pqpool_error err;
	Call call = call_begin(self, OP_GET_CONNECTION, slot);
	PGconn *conn = pqpool_get_connection(&err);
	unsigned situation = BOUND;
	bool inside = slot != NULL && enter_pool(slot) != NULL;
	bool same = inside && atomic_load(&slot->generation) == generation;

	if (slot != NULL ? !same : default_closed_since(call.began))
		situation |= CLOSING;
	if (slot != NULL)
		situation |= CROWDED;
	(void) call_end(&call, err.code, situation, err.message);
	if (conn != NULL)
		note_loan(self, loan, conn, call.began, same ? slot : NULL);
	if (inside)
		leave_pool(slot);
	return conn != NULL;
}

static void
return_connection(Self *self, Loan *loan)
{
	Call call;

	loan_drop(loan);
	call = call_begin(self, OP_RETURN_CONNECTION, loan->slot);
	(void) call_end(&call, pqpool_return_connection(loan->conn), USUAL, loan->application);
}

static void
with_bound(Self *self, Slot *slot, int generation)
{
	Loan loan;

	if (!get_connection(self, slot, generation, &loan))
		return;
	use(self, &loan);
	return_connection(self, &loan);
}

static void
clean_up_own(Self *self)
{
	Call call = call_begin(self, OP_CLEANUP_OWN, NULL);

	(void) call_end(&call, pqpool_cleanup_thread_local_connection(), USUAL, NULL);
}

static void
leave_scope(Self *self, Op op, pqpool_scope *scope)
{
	Call call = call_begin(self, op, NULL);

	(void) call_end(&call, pqpool_scope_leave(scope), USUAL, NULL);
}

static bool
enter_scope(Self *self, Slot *slot, pqpool_scope *scope, int *generation)
{
	pqpool *pool = enter_pool(slot);
	pqpool_error err;
	Call call;
	bool entered;

	if (pool == NULL)
		return false;
	*generation = atomic_load(&slot->generation);
	call = call_begin(self, OP_SCOPE_ENTER, slot);
	(void) pqpool_scope_enter(scope, pool, &err);
	/* who waits in a scope is not counted, and may be taken for us: the pool is closed then */
	entered = call_end(&call, err.code, situation_of(slot, call.began), err.message);
	leave_pool(slot);
	return entered;
}

/* Its pool may be closed while we are in it. */
static void
in_scope(Self *self)
{
	Slot *slot = any_slot(self);
	pqpool_scope outer;
	pqpool_scope inner;
	int generation;

	if (!enter_scope(self, slot, &outer, &generation))
		return;
	for (unsigned n = draw(self, 3); n > 0; n--)
		with_bound(self, slot, generation);
	if (draw(self, 2) == 0)
	{
		Slot *other = any_slot(self);
		int others;

		if (enter_scope(self, other, &inner, &others))
		{
			with_bound(self, other, others);
			if (draw(self, 4) == 0)
			{
				leave_scope(self, OP_SCOPE_LEAVE_OUTER, &outer);
				return;
			}
			leave_scope(self, OP_SCOPE_LEAVE, &inner);
		}
		with_bound(self, slot, generation);
	}
	leave_scope(self, OP_SCOPE_LEAVE, &outer);
}

/* A pool of its own; at times a loan of it outlives it. */
static void
in_own_scope(Self *self)
{
	pqpool_scope scope;
	pqpool_error err;
	Loan loan;
	Call call;

	if (atomic_fetch_add(&scope_pools, 1) < SCOPE_POOLS)
	{
		call = call_begin(self, OP_SCOPE_ENTER_CONNINFO, NULL);
		(void) pqpool_scope_enter_conninfo(
			&scope, "application_name=soak-scope pool_max_size=2 pool_acquire_timeout=60s", &err);
		if (call_end(&call, err.code, USUAL, err.message))
		{
			bool got = get_connection(self, NULL, 0, &loan);
			bool early = draw(self, 2) == 0;

			if (got)
				use(self, &loan);
			if (got && early)
				return_connection(self, &loan);
			leave_scope(self, OP_SCOPE_LEAVE, &scope);
			if (got && !early)
				return_connection(self, &loan);
		}
	}
	(void) atomic_fetch_sub(&scope_pools, 1);
}

void *
work(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		unsigned what = draw(self, 100);

		if (what < 70)
			with_one(self);
		else if (what < 80)
			with_two(self);
		else if (what < 88)
			with_bound(self, NULL, 0);
		else if (what < 95)
			in_scope(self);
		else if (what < 97)
			in_own_scope(self);
		else if (what < 98)
			clean_up_own(self);
		else
			sleep_ms(draw(self, 10));
	}
	return NULL;
}

/*---- those who cannot wait ----*/

/*
 * All of them at one pool, for loans of no length: deadlines that pass at the
 * moment of a hand-over, and connections that come back as fast as they go.
 */
void *
hurry(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		Slot *slot = &slots[now_ms() / 500 % SLOTS];

		for (unsigned n = draw(self, 100); n > 0; n--)
		{
			Loan loan;

			if (!borrow(self, slot, OP_ACQUIRE_SHORT, 1 + (int) draw(self, 2), &loan))
				continue;
			if (draw(self, 3) == 0)
				sleep_ms(1);
			loan_release(self, &loan);
		}
		sleep_ms(draw(self, 20));
	}
	return NULL;
}

/*---- threads that come and go ----*/

/*
 * Bound loans that it leaves behind are taken back by the library; one that is
 * unbound is another thread's to give back.
 */
static void *
short_life(void *arg)
{
	Self *self = arg;
	Slot *slot = any_slot(self);
	pqpool_scope scope;
	int generation;
	Loan loan;

	switch (draw(self, 5))
	{
		case 0:
			with_one(self);
			break;
		case 1: /* leaves a connection, of the default pool or its own */
			if (get_connection(self, NULL, 0, &loan))
			{
				loan_mistreat(self, &loan);
				loan_drop(&loan);
			}
			break;
		case 2: /* leaves a scope, and a loan of its pool */
			if (enter_scope(self, slot, &scope, &generation) &&
				get_connection(self, slot, generation, &loan))
			{
				loan_mistreat(self, &loan);
				loan_drop(&loan);
			}
			break;
		case 3: /* leaves a loan if the pool's are bound */
			if (!borrow_from(self, slot, &loan))
				break;
			if (loan.bound)
				loan_drop(&loan);
			else
				loan_release(self, &loan);
			break;
		default: /* hands it over and is gone */
			if (borrow_from(self, slot, &loan) && !mail_put(self, &loan))
				loan_release(self, &loan);
	}
	return NULL;
}

void *
churn(void *arg)
{
	Self *self = arg;

	while (!atomic_load(&stopping))
	{
		pthread_t threads[3];
		Self *lives[countof(threads)];
		int n = 1 + (int) draw(self, countof(threads));

		for (int i = 0; i < n; i++)
		{
			lives[i] = self_new("short life", (int) draw(self, 1000000));
			if (pthread_create(&threads[i], NULL, short_life, lives[i]) != 0)
				give_up("no more threads");
		}
		for (int i = 0; i < n; i++)
		{
			(void) pthread_join(threads[i], NULL);
			self_free(lives[i]);
		}
		sleep_ms(draw(self, 20));
	}
	return NULL;
}
