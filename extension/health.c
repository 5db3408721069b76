/*-------------------------------------------------------------------------
 *
 * health.c
 *	  What a pool's figures mean: a verdict, the reason in words, and how long a
 *	  verdict must hold before it is believed.
 *
 * One finding a verdict, asked in the order of the enum, and the first that
 * applies is the answer: what hurts callers now comes before what will.  Each
 * finding writes its sentence only when it applies, and a sentence carries
 * the figures that it was drawn from, so that a reader can disagree.
 *
 * Callers wait, and the pool is as large as it may be: that alone says neither
 * that it wants more nor why.  If half of what is lent is stuck, leaked or
 * blocked, more would be stuck soon: then that is the finding.
 *
 * Figures come from counters that are not read at the same instant and from reports that
 * may be late.  They need not fit together, and a negative one counts as 0.
 *
 *-------------------------------------------------------------------------
 */
#include "health.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where a sentence goes. */
typedef struct Reason
{
	char *text;
	size_t size;
} Reason;

static int
count(int figure)
{
	return figure > 0 ? figure : 0;
}

/*
 * A cut must not leave half a character behind: the rule's text may hold UTF-8, and an
 * invalid text would make the whole view unreadable.
 */
static void
drop_partial_character(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && ((unsigned char) text[len - 1] & 0xC0) == 0x80)
		len--;
	if (len > 0 && ((unsigned char) text[len - 1] & 0x80) != 0)
		len--;
	text[len] = '\0';
}

__attribute__((format(printf, 2, 3))) static void
say(const Reason *reason, const char *format, ...)
{
	va_list args;
	int length;

	if (reason->size == 0)
		return;
	va_start(args, format);
	length = vsnprintf(reason->text, reason->size, format, args);
	va_end(args);
	if (length < 0)
		reason->text[0] = '\0';
	else if ((size_t) length >= reason->size)
		drop_partial_character(reason->text);
}

static const char *
verb(int number, const char *one, const char *many)
{
	return number == 1 ? one : many;
}

/* Whichever of the two limits is lower is the one that callers feel. */
static bool
server_is_tighter(const HealthInput *in)
{
	return in->allotted >= 0 && (in->max_size < 0 || in->allotted < in->max_size);
}

/* At least half of what is lent does nothing, so that a larger pool is no help. */
static bool
is_stuck(const HealthInput *in)
{
	int64_t stuck = (int64_t) count(in->leaks) + count(in->lock_waits) + count(in->idle_in_xact);

	return stuck > 0 && 2 * stuck >= in->in_use;
}

/* Rounded down, so that "over" stays true. */
static const char *
duration(int64_t ms, char *text, size_t size)
{
	const long long s = ms > 0 ? ms / 1000 : 0;
	const long long h = s / 3600;

	if (s < 1)
		(void) snprintf(text, size, "%d ms", ms > 0 ? (int) ms : 0);
	else if (s < 60)
		(void) snprintf(text, size, "%lld s", s);
	else if (h < 1)
		(void) snprintf(text, size, "%lld min", s / 60);
	else if (h < 48)
		(void) snprintf(text, size, "%lld h", h);
	else
		(void) snprintf(text, size, "%lld d", h / 24);
	return text;
}

static bool
failing(const HealthInput *in, const Reason *reason)
{
	if (in->failing <= 0)
		return false;
	say(reason, "holds %d, none opens: %lld %s failed since one worked, in %d of %d %s",
		count(in->sessions), (long long) (in->failed_opens > 0 ? in->failed_opens : 0),
		in->failed_opens == 1 ? "attempt" : "attempts", in->failing, count(in->instances),
		verb(in->instances, "instance", "instances"));
	return true;
}

static bool
starved(const HealthInput *in, const Reason *reason)
{
	const char *rule = in->rule && in->rule[0] ? in->rule : NULL;

	if (in->waiting <= 0 || in->paused > 0 || !server_is_tighter(in) ||
		in->demand <= in->allotted || is_stuck(in))
		return false;
	say(reason, "%d %s; wants %d, may hold %d%s%s%s", in->waiting,
		verb(in->waiting, "waits", "wait"), in->demand, in->allotted, rule ? " (rule " : "",
		rule ? rule : "", rule ? ")" : "");
	return true;
}

static bool
saturated(const HealthInput *in, const Reason *reason)
{
	if (in->waiting <= 0 || in->paused > 0 || server_is_tighter(in) || in->max_size < 0 ||
		in->demand <= in->max_size || is_stuck(in))
		return false;
	say(reason, "%d %s; wants %d, its own limit is %d", in->waiting,
		verb(in->waiting, "waits", "wait"), in->demand, in->max_size);
	return true;
}

static bool
leaking(const HealthInput *in, const Reason *reason)
{
	const char *site = in->leak_site && in->leaks_at_site > 0 ? in->leak_site : NULL;
	char most[160] = "";
	char waiters[32] = "";
	char age[32];

	if (in->leaks <= 0)
		return false;
	if (site)
		(void) snprintf(most, sizeof(most), "; %d at %s", in->leaks_at_site, site);
	if (in->waiting > 0)
		(void) snprintf(waiters, sizeof(waiters), "; %d %s", in->waiting,
						verb(in->waiting, "waits", "wait"));
	say(reason, "%d %s over %s, server idle%s%s", in->leaks, verb(in->leaks, "loan", "loans"),
		duration(in->leak_ms, age, sizeof(age)), most, waiters);
	return true;
}

static bool
blocked(const HealthInput *in, const Reason *reason)
{
	char locks[64] = "";
	char idle[64] = "";
	char age[32];

	if (in->waiting <= 0 || (in->lock_waits <= 0 && in->idle_in_xact <= 0))
		return false;
	if (in->lock_waits > 0)
		(void) snprintf(locks, sizeof(locks), ", %d blocked by %s", in->lock_waits,
						verb(in->lock_waits, "a lock", "locks"));
	if (in->idle_in_xact > 0)
		(void) snprintf(idle, sizeof(idle), ", %d idle in transaction", in->idle_in_xact);
	say(reason, "%d %s; %d in use%s%s, for up to %s", in->waiting,
		verb(in->waiting, "waits", "wait"), count(in->in_use), locks, idle,
		duration(in->stuck_ms, age, sizeof(age)));
	return true;
}

static bool
stale(const HealthInput *in, const Reason *reason)
{
	if (in->silent <= 0)
		return false;
	say(reason, "%d of %d reporting %s %s silent", in->silent, count(in->reporting),
		verb(in->reporting, "instance", "instances"), verb(in->silent, "is", "are"));
	return true;
}

/* Nothing is wrong, but a reader must know which figures he does not have. */
static void
remark(const HealthInput *in, const Reason *reason)
{
	int mute = count(in->instances) - count(in->reporting);

	if (in->paused > 0 && in->paused < in->instances)
		say(reason, "%d of %d instances are paused; %d in use, %d %s", in->paused, in->instances,
			count(in->in_use), count(in->waiting), verb(in->waiting, "waits", "wait"));
	else if (in->paused > 0)
		say(reason, "paused; %d in use, %d %s", count(in->in_use), count(in->waiting),
			verb(in->waiting, "waits", "wait"));
	else if (mute > 0 && in->reporting <= 0)
		say(reason, "does not report");
	else if (mute > 0)
		say(reason, "%d of %d instances %s not report", mute, in->instances,
			verb(mute, "does", "do"));
	else if (in->waiting > 0)
		say(reason, "%d %s; wants %d, holds %d", in->waiting, verb(in->waiting, "waits", "wait"),
			count(in->demand), count(in->sessions));
	else
		say(reason, "%s", "");
}

Health
health_judge(const HealthInput *in, char *reason, size_t reason_size)
{
	const Reason where = { reason, reason_size };

	if (failing(in, &where))
		return HEALTH_FAILING;
	if (starved(in, &where))
		return HEALTH_STARVED;
	if (saturated(in, &where))
		return HEALTH_SATURATED;
	if (leaking(in, &where))
		return HEALTH_LEAKING;
	if (blocked(in, &where))
		return HEALTH_BLOCKED;
	if (stale(in, &where))
		return HEALTH_STALE;
	remark(in, &where);
	return HEALTH_OK;
}

const char *
health_name(Health health)
{
	switch (health)
	{
		case HEALTH_FAILING:
			return "failing";
		case HEALTH_STARVED:
			return "starved";
		case HEALTH_SATURATED:
			return "saturated";
		case HEALTH_LEAKING:
			return "leaking";
		case HEALTH_BLOCKED:
			return "blocked";
		case HEALTH_STALE:
			return "stale";
		case HEALTH_OK:
			break;
	}
	return "ok";
}

/*---- over time ----*/

bool
health_step(HealthState *state, Health figures, int64_t now, int64_t enter, int64_t leave)
{
	int drift;

	if (!state->begun)
		*state = (HealthState){ .begun = true, .verdict = HEALTH_OK };
	drift = figures < state->verdict ? -1 : figures > state->verdict;
	if (drift != state->drift)
	{
		state->drift = drift;
		state->reached = figures;
		state->since = now;
	}
	/* back towards the verdict: so far, and no farther, it was all the time */
	else if (drift < 0 ? figures > state->reached : figures < state->reached)
		state->reached = figures;
	if (drift == 0 || now - state->since < (drift < 0 ? enter : leave))
		return false;
	state->verdict = state->reached;
	state->drift = 0;
	return true;
}

bool
health_is_news(HealthNews *news, Health verdict, bool changed, int64_t now, int64_t gap,
			   Health *from, int *changes)
{
	if (changed && news->untold < INT_MAX)
		news->untold++;
	if (news->untold == 0 || (news->told && now - news->at < gap))
		return false;
	*from = news->told ? news->last : HEALTH_OK;
	*changes = news->untold;
	*news = (HealthNews){ .told = true, .last = verdict, .at = now };
	return true;
}
