/*-------------------------------------------------------------------------
 *
 * verdict.c
 *	  Which outcome of which operation is allowed when; counts.
 *
 * The table is pqpool.h as a test: what is not in it may not happen.
 *
 *-------------------------------------------------------------------------
 */
#include "soak.h"

#define CODES 64

#define EVERY_ACQUIRE(op)                                                  \
	{ op, PQPOOL_OK, USUAL }, { op, PQPOOL_SERVER_DOWN, TURBULENT },       \
		{ op, PQPOOL_CLOSED, CLOSING }, { op, PQPOOL_EXHAUSTED, CROWDED }, \
	{                                                                      \
		op, PQPOOL_DEADLOCK, BOUND                                         \
	}

/* With a deadline that is meant to pass now and then. */
#define EVERY_SHORT_ACQUIRE(op)                                                        \
	EVERY_ACQUIRE(op), { op, PQPOOL_TIMED_OUT, USUAL }, { op, PQPOOL_PAUSED, PAUSED }, \
		{ op, PQPOOL_QUEUED, USUAL },                                                  \
	{                                                                                  \
		op, PQPOOL_OVER_ALLOTMENT, USUAL                                               \
	}

static const struct
{
	Op op;
	int code;
	unsigned situation; /* all of it must be so */
} allowed[] = {
	{ OP_OPEN, PQPOOL_OK, USUAL },
	{ OP_CLOSE, PQPOOL_OK, USUAL },
	{ OP_CLOSE_SHORT, PQPOOL_OK, USUAL },
	{ OP_CLOSE_SHORT, PQPOOL_TIMED_OUT, USUAL },
	EVERY_ACQUIRE(OP_ACQUIRE),
	EVERY_SHORT_ACQUIRE(OP_ACQUIRE_SHORT),
	EVERY_SHORT_ACQUIRE(OP_ACQUIRE_NOW),
	EVERY_SHORT_ACQUIRE(OP_ACQUIRE_SECOND),
	EVERY_ACQUIRE(OP_GET_CONNECTION),
	/* SERVER_DOWN stands for a session that was lost */
	{ OP_QUERY, PQPOOL_OK, USUAL },
	{ OP_QUERY, PQPOOL_SERVER_DOWN, TURBULENT },
	{ OP_QUERY, PQPOOL_SERVER_DOWN, STRUCK },
	{ OP_QUERY, PQPOOL_SYSTEM, CANCELLED },
	{ OP_RELEASE, PQPOOL_OK, USUAL },
	{ OP_RETURN_CONNECTION, PQPOOL_OK, USUAL },
	{ OP_DISCARD, PQPOOL_OK, USUAL },
	{ OP_TRANSFER, PQPOOL_OK, USUAL },
	{ OP_ADOPT, PQPOOL_OK, USUAL },
	{ OP_CANCEL, PQPOOL_OK, USUAL },
	{ OP_CANCEL, PQPOOL_SERVER_DOWN, TURBULENT },
	{ OP_CANCEL, PQPOOL_SERVER_DOWN, STRUCK },
	{ OP_CANCEL, PQPOOL_TIMED_OUT, TURBULENT },
	{ OP_CANCEL_SHORT, PQPOOL_OK, USUAL },
	{ OP_CANCEL_SHORT, PQPOOL_TIMED_OUT, USUAL },
	{ OP_CANCEL_SHORT, PQPOOL_SERVER_DOWN, TURBULENT },
	{ OP_CANCEL_SHORT, PQPOOL_SERVER_DOWN, STRUCK },
	{ OP_RESIZE, PQPOOL_OK, USUAL },
	{ OP_PAUSE, PQPOOL_OK, USUAL },
	{ OP_RESUME, PQPOOL_OK, USUAL },
	{ OP_DRAIN, PQPOOL_OK, USUAL },
	{ OP_DRAIN_SHORT, PQPOOL_OK, USUAL },
	{ OP_DRAIN_SHORT, PQPOOL_TIMED_OUT, USUAL },
	{ OP_STATS, PQPOOL_OK, USUAL },
	{ OP_LIMITS, PQPOOL_OK, USUAL },
	{ OP_INITIALIZE, PQPOOL_OK, USUAL },
	{ OP_INITIALIZE, PQPOOL_ALREADY_INITIALIZED, USUAL },
	{ OP_CLOSE_POOL, PQPOOL_OK, USUAL },
	{ OP_CLEANUP_OWN, PQPOOL_OK, USUAL },
	{ OP_SCOPE_ENTER, PQPOOL_OK, USUAL },
	{ OP_SCOPE_ENTER, PQPOOL_CLOSED, CLOSING },
	{ OP_SCOPE_ENTER_CONNINFO, PQPOOL_OK, USUAL },
	{ OP_SCOPE_LEAVE, PQPOOL_OK, USUAL },
	{ OP_SCOPE_LEAVE_OUTER, PQPOOL_SCOPE_ORDER, USUAL },
	/* the code of the child's acquire; SYSTEM stands for anything else that went wrong there */
	{ OP_CHILD, PQPOOL_OK, USUAL },
	{ OP_CHILD, PQPOOL_SERVER_DOWN, TURBULENT },
};

static const char *const names[OPS] = {
	[OP_OPEN] = "open",
	[OP_CLOSE] = "close",
	[OP_CLOSE_SHORT] = "close, short",
	[OP_ACQUIRE] = "acquire",
	[OP_ACQUIRE_SHORT] = "acquire, short",
	[OP_ACQUIRE_NOW] = "acquire, timeout 0",
	[OP_ACQUIRE_SECOND] = "acquire a second",
	[OP_GET_CONNECTION] = "get_connection",
	[OP_QUERY] = "query",
	[OP_RELEASE] = "release",
	[OP_RETURN_CONNECTION] = "return_connection",
	[OP_DISCARD] = "discard",
	[OP_TRANSFER] = "transfer",
	[OP_ADOPT] = "adopt",
	[OP_CANCEL] = "cancel",
	[OP_CANCEL_SHORT] = "cancel, short",
	[OP_RESIZE] = "resize",
	[OP_PAUSE] = "pause",
	[OP_RESUME] = "resume",
	[OP_DRAIN] = "drain",
	[OP_DRAIN_SHORT] = "drain, short",
	[OP_STATS] = "stats",
	[OP_LIMITS] = "limits",
	[OP_INITIALIZE] = "initialize",
	[OP_CLOSE_POOL] = "close_pool",
	[OP_CLEANUP_OWN] = "cleanup_thread_local",
	[OP_SCOPE_ENTER] = "scope_enter",
	[OP_SCOPE_ENTER_CONNINFO] = "scope_enter_conninfo",
	[OP_SCOPE_LEAVE] = "scope_leave",
	[OP_SCOPE_LEAVE_OUTER] = "scope_leave, outer",
	[OP_CHILD] = "fork",
};

/*
 * Relaxed: the counts must not order what the library should have ordered, or
 * ThreadSanitizer would see less.
 */
static _Atomic(uint64_t) counts[OPS][CODES];

/*---- calls ----*/

Call
call_begin(Self *self, Op op, Slot *slot)
{
	Call call = { self, op, now_ms(), slot };

	atomic_store_explicit(&self->since, call.began, memory_order_relaxed);
	atomic_store_explicit(&self->doing, names[op], memory_order_relaxed);
	return call;
}

static bool
is_allowed(Op op, int code, unsigned situation)
{
	for (int i = 0; i < countof(allowed); i++)
	{
		if (allowed[i].op == op && allowed[i].code == code &&
			(allowed[i].situation & situation) == allowed[i].situation)
			return true;
	}
	return false;
}

static const char *
describe(unsigned situation)
{
	static const char *const words[] = { "the server had been down",
										 "the session had been ended",
										 "the pool had been paused",
										 "the pool was being closed",
										 "few may wait",
										 "loans are bound",
										 "a cancel was due" };
	static _Thread_local char text[200];

	text[0] = '\0';
	for (int i = 0; i < countof(words); i++)
	{
		if (situation >> i & 1)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
					 text[0] != '\0' ? ", " : "", words[i]);
	}
	return text[0] != '\0' ? text : "nothing had happened";
}

bool
call_end(Call *call, int code, unsigned situation, const char *message)
{
	int64_t took = now_ms() - call->began;

	atomic_store_explicit(&call->self->doing, NULL, memory_order_relaxed);
	if (turbulent_since(call->began))
		situation |= TURBULENT;
	atomic_fetch_add_explicit(&counts[call->op][code >= 0 && code < CODES ? code : CODES - 1], 1,
							  memory_order_relaxed);
	if (!is_allowed(call->op, code, situation))
		failure("%s %d: %s%s%s: %s, which is not allowed here (%s; it took %lld ms): %s",
				call->self->role, call->self->index, names[call->op],
				call->slot != NULL ? " of " : "", call->slot != NULL ? call->slot->application : "",
				pqpool_code_name(code), describe(situation), (long long) took,
				message != NULL && message[0] != '\0' ? message : "no message");
	return code == PQPOOL_OK;
}

int64_t
operations(void)
{
	uint64_t n = 0;

	for (int op = 0; op < OPS; op++)
		for (int code = 0; code < CODES; code++)
			n += atomic_load_explicit(&counts[op][code], memory_order_relaxed);
	return (int64_t) n;
}

void
print_summary(void)
{
	for (int op = 0; op < OPS; op++)
	{
		bool any = false;

		printf("%-22s", names[op]);
		for (int code = 0; code < CODES; code++)
		{
			unsigned long long n = atomic_load(&counts[op][code]);
			const char *name = pqpool_code_name(code);

			if (n == 0)
				continue;
			any = true;
			printf(" %s %llu", strncmp(name, "PQPOOL_", 7) == 0 ? name + 7 : name, n);
		}
		printf("%s\n", any ? "" : " never");
	}
}
