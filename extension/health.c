/*-------------------------------------------------------------------------
 *
 * health.c
 *	  What a pool's figures mean: a verdict, and the reason in words.
 *
 * One finding a verdict, asked in the order of the enum, and the first that
 * applies is the answer: what hurts callers now comes before what will.  Each
 * finding writes its sentence only when it applies, and a sentence carries
 * the figures that it was drawn from, so that a reader can disagree.
 *
 * Figures come from counters that are not read at the same instant and from reports that
 * may be late.  They need not fit together, and a negative one counts as 0.
 *
 *-------------------------------------------------------------------------
 */
#include "health.h"

#include <stdarg.h>
#include <stdbool.h>
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

static bool
starved(const HealthInput *in, const Reason *reason)
{
	const char *rule = in->rule && in->rule[0] ? in->rule : NULL;

	if (in->waiting <= 0 || in->paused > 0 || !server_is_tighter(in) || in->demand <= in->allotted)
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
		in->demand <= in->max_size)
		return false;
	say(reason, "%d %s; wants %d, its own limit is %d", in->waiting,
		verb(in->waiting, "waits", "wait"), in->demand, in->max_size);
	return true;
}

static bool
leaking(const HealthInput *in, const Reason *reason)
{
	if (in->leaks <= 0)
		return false;
	say(reason, "%d %s out for longer than the client finds right; %d in use", in->leaks,
		verb(in->leaks, "loan", "loans"), count(in->in_use));
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

	if (starved(in, &where))
		return HEALTH_STARVED;
	if (saturated(in, &where))
		return HEALTH_SATURATED;
	if (leaking(in, &where))
		return HEALTH_LEAKING;
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
		case HEALTH_STARVED:
			return "starved";
		case HEALTH_SATURATED:
			return "saturated";
		case HEALTH_LEAKING:
			return "leaking";
		case HEALTH_STALE:
			return "stale";
		case HEALTH_OK:
			break;
	}
	return "ok";
}
