/*-------------------------------------------------------------------------
 *
 * allotment.c
 *	  Fuzzes what the client reads from a server: pqp_link_parse_allotment(),
 *	  client/src/link.h.
 *
 * What must hold for every text: one that is not taken leaves the allotment as
 * it was; what is taken is within its ranges, was addressed to us, and written
 * down again and read once more is the same; the order of fields means nothing;
 * a field of a later version, or nothing between two semicolons, changes nothing;
 * a duration that is absent keeps the value from before, or gets the default.
 *
 * sources: client/src/link.c
 * flags: -Iclient/src
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* vasprintf */
#endif

#include "fuzz.h"

#include "link.h"

#define OWN_ID "0123456789abcdef0123456789abcdef"
#define OTHER_ID "fedcba9876543210fedcba9876543210"

static const char *const states[] = { [ALLOTMENT_OK] = "ok",
									  [ALLOTMENT_QUEUED] = "queued",
									  [ALLOTMENT_PAUSED] = "paused",
									  [ALLOTMENT_OFF] = "off" };

static bool
same(const Allotment *a, const Allotment *b)
{
	return a->epoch == b->epoch && strcmp(a->inc, b->inc) == 0 && a->limit == b->limit &&
		   a->state == b->state && a->lease_ms == b->lease_ms && a->interval_ms == b->interval_ms &&
		   a->retry_ms == b->retry_ms;
}

/* What was current before a text comes. */
static Allotment
current(void)
{
	Allotment allotment;

	memset(&allotment, 0, sizeof(allotment));
	allotment.epoch = 7;
	memcpy(allotment.inc, "before", sizeof("before"));
	allotment.limit = 5;
	allotment.lease_ms = 1111;
	allotment.interval_ms = 222;
	allotment.retry_ms = 333;
	return allotment;
}

static void
check_ranges(const Allotment *allotment)
{
	size_t len = strnlen(allotment->inc, sizeof(allotment->inc));

	hold(len > 0 && len < sizeof(allotment->inc), "incarnation of %zu bytes", len);
	for (size_t i = 0; i < len; i++)
		hold(allotment->inc[i] > ' ' && allotment->inc[i] <= '~' && allotment->inc[i] != ';',
			 "incarnation \"%s\"", allotment->inc);
	hold(allotment->limit >= -1, "limit %d", allotment->limit);
	hold((int) allotment->state >= ALLOTMENT_OK && (int) allotment->state <= ALLOTMENT_OFF,
		 "state %d", (int) allotment->state);
	hold(allotment->lease_ms >= 0 && allotment->retry_ms >= 0, "lease %lld, retry %lld",
		 (long long) allotment->lease_ms, (long long) allotment->retry_ms);
	hold(allotment->interval_ms >= PQP_INTERVAL_MIN_MS, "interval %lld",
		 (long long) allotment->interval_ms);
}

static void
put_seconds(Out *out, const char *key, int64_t ms)
{
	put(out, ";%s=%lld.%03lld", key, (long long) (ms / 1000), (long long) (ms % 1000));
}

static void
check_round_trip(const Allotment *allotment)
{
	Allotment again = current();
	Out out = { 0 };

	put(&out, "state=%s;epoch=%llu;inc=%s", states[allotment->state],
		(unsigned long long) allotment->epoch, allotment->inc);
	put_seconds(&out, "retry", allotment->retry_ms);
	put_seconds(&out, "interval", allotment->interval_ms);
	put_seconds(&out, "lease", allotment->lease_ms);
	put(&out, ";limit=%d;id=%s", allotment->limit, OWN_ID);
	hold(pqp_link_parse_allotment(out.text, OWN_ID, &again), "refused: \"%s\"", out.text);
	hold(same(&again, allotment), "written and read: \"%s\"", out.text);
	free(out.text);
}

static void
check_as_before(const char *text, bool taken, const Allotment *allotment)
{
	Allotment again = current();

	hold(pqp_link_parse_allotment(text, OWN_ID, &again) == taken, "%s: \"%s\"",
		 taken ? "refused" : "taken", text);
	hold(same(&again, allotment), "differs: \"%s\"", text);
}

/* The fields from the last to the first, with one that is not known and nothing in between. */
static void
check_other_order(const char *text, bool taken, const Allotment *allotment)
{
	const char *end = text + strlen(text);
	Out out = { 0 };

	put(&out, "later=1;;id2=%s", OTHER_ID);
	for (;;)
	{
		const char *begin = end;

		while (begin > text && begin[-1] != ';')
			begin--;
		put(&out, ";");
		put_bytes(&out, begin, (size_t) (end - begin));
		if (begin == text)
			break;
		end = begin - 1;
	}
	check_as_before(out.text, taken, allotment);
	free(out.text);
}

/* Whatever else it was told before. */
static void
check_defaults(const char *text, const Allotment *allotment)
{
	Allotment fresh;
	Allotment before = current();

	memset(&fresh, 0, sizeof(fresh));
	hold(pqp_link_parse_allotment(text, OWN_ID, &fresh), "refused: \"%s\"", text);
	hold(fresh.epoch == allotment->epoch && fresh.limit == allotment->limit &&
			 fresh.state == allotment->state && strcmp(fresh.inc, allotment->inc) == 0,
		 "depends on what was before: \"%s\"", text);
	hold(fresh.lease_ms == allotment->lease_ms ||
			 (fresh.lease_ms == PQP_LEASE_MS && allotment->lease_ms == before.lease_ms),
		 "lease: \"%s\"", text);
	hold(fresh.interval_ms == allotment->interval_ms ||
			 (fresh.interval_ms == PQP_INTERVAL_MS && allotment->interval_ms == before.interval_ms),
		 "interval: \"%s\"", text);
	hold(fresh.retry_ms == allotment->retry_ms ||
			 (fresh.retry_ms == PQP_RETRY_MS && allotment->retry_ms == before.retry_ms),
		 "retry: \"%s\"", text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size);
	Allotment before = current();
	Allotment allotment = before;
	Allotment others = before;
	bool taken = pqp_link_parse_allotment(text, OWN_ID, &allotment);

	if (taken)
	{
		check_ranges(&allotment);
		check_round_trip(&allotment);
		check_defaults(text, &allotment);
		hold(!pqp_link_parse_allotment(text, OTHER_ID, &others), "taken by another: \"%s\"", text);
		hold(memcmp(&others, &before, sizeof(before)) == 0, "changed by another: \"%s\"", text);
	}
	else
		hold(memcmp(&allotment, &before, sizeof(before)) == 0, "not taken, but changed: \"%s\"",
			 text);
	check_other_order(text, taken, &allotment);
	free(text);
	return 0;
}
