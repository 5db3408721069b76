/*-------------------------------------------------------------------------
 *
 * client.c
 *	  Instances that report and follow, by the rules of extension/PROTOCOL.md.
 *
 * Sections are that page's.  Where it leaves a choice, clients differ: some
 * hold loans for long, so that no session is idle when a report is due; some
 * open a session where others would knock.  The cadence is libpqpool's.
 *
 * A client is looked at whenever something has arrived for it, and ten times a
 * second: on_tick also moves its loans on.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#define TICK 100 /* ms */
#define IDLE_TIME (20 * SECOND)
#define HURRY 10 /* an interval's part, while callers wait */
#define HURRY_MIN (100 * MSEC)
#define SHORT_HOLD 0.5 /* chance per tick that a loan comes back */
#define LONG_HOLD 0.02

Client *clients;
int nclients;

static void look(Client *client);
static void on_tick(const Event *event);

/*---- sessions ----*/

static int
count(const Client *client, SessionState state)
{
	return client->counts[state];
}

/* Section 3, rule 2; knocks are not counted (section 5). */
int
client_size(const Client *client)
{
	return count(client, OPENING) + count(client, IDLE) + count(client, IN_USE) +
		   count(client, CLOSING);
}

static void
set_state(Client *client, ClientSession *session, SessionState state)
{
	if (!session->knock)
	{
		client->counts[session->state]--;
		client->counts[state]++;
	}
	session->state = state;
}

static ClientSession *
session_with(Client *client, int serial)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (client->sessions[i].state != GONE && client->sessions[i].serial == serial)
			return &client->sessions[i];
	return NULL;
}

static ClientSession *
any_session(Client *client, SessionState state)
{
	int first = random_between(0, MAX_SESSIONS - 1);

	for (int i = 0; i < MAX_SESSIONS; i++)
	{
		ClientSession *session = &client->sessions[(first + i) % MAX_SESSIONS];

		if (session->state == state && !session->busy && !session->knock)
			return session;
	}
	return NULL;
}

/*---- section 3: what it may hold ----*/

static bool
is_bound(const Client *client)
{
	return client->told.attached && client->told.state != ALLOT_OFF;
}

static bool
lease_holds(const Client *client)
{
	return sim_now < client->lease_from + client->told.lease * MSEC;
}

static int
limit_of(const Client *client)
{
	if (is_bound(client) && client->told.limit >= 0)
		return Min(client->told.limit, client->max);
	return client->max;
}

int
client_believes(const Client *client)
{
	if (!client->alive || client->bye_said || !is_bound(client) || client->told.limit < 0)
		return 0;
	return lease_holds(client) ? client->told.limit : 0;
}

bool
client_is_allowed(const Client *client, int serial)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (client->sessions[i].state == OPENING && client->sessions[i].serial == serial)
			return client->sessions[i].allowed && client->alive && !client->bye_said &&
				   lease_holds(client);
	return false;
}

/* A session of this instance holds this text. */
static void
hear(Client *client, const Text *text)
{
	int before = limit_of(client);

	if (!text->attached || (client->told.attached && text->epoch <= client->told.epoch))
		return;
	client->urgent = client->urgent || !client->told.attached;
	client->told = *text;
	if (limit_of(client) < before)
		client->lowered = true;
}

/*---- opening and closing ----*/

static void
open_session(Client *client, bool knock)
{
	int place = 0;
	bool first = client_size(client) == 0 && client_believes(client) == 0;
	ClientSession *session;

	while (client->sessions[place].state != GONE)
		if (++place == MAX_SESSIONS)
			sim_fail("client %d has more sessions than it may want", client->number);
	session = &client->sessions[place];
	*session = (ClientSession){ .knock = knock,
								.first = first,
								.allowed = knock || client_size(client) < client_believes(client),
								.serial = ++client->next_serial,
								.began = sim_now,
								.used = sim_now };
	if (!knock)
		judge_opening(client, first);
	set_state(client, session, OPENING);
	schedule(network_delay(), &(Event){ .action = on_connect,
										.client = client->number,
										.serial = session->serial,
										.stamp = knock });
}

static void
close_session(Client *client, ClientSession *session)
{
	set_state(client, session, CLOSING);
	schedule(network_delay(), &(Event){ .action = on_terminate,
										.client = client->number,
										.serial = session->serial,
										.place = session->place });
}

/* Rule 1: one alone, until its text is known; and again when a lease has run out with none left. */
static bool
may_open(Client *client)
{
	if (client_size(client) == 0 && is_bound(client) && !lease_holds(client))
		client->known = false;
	if (!client->known)
		return client_size(client) == 0;
	return client_size(client) < limit_of(client) && (!is_bound(client) || lease_holds(client));
}

static int
wanted(const Client *client)
{
	return client->leaving ? 0 : Min(client->max, Max(client->want, client->min));
}

static void
open_what_is_wanted(Client *client)
{
	bool told_none = is_bound(client) && client->told.limit == 0 && client_size(client) == 0;

	/* "what it was told before is void" when the lease is over: the bold take it at its word */
	if (told_none && !(client->bold && !lease_holds(client)))
		return;
	while (sim_now >= client->backoff_until && may_open(client) &&
		   client_size(client) - count(client, CLOSING) < wanted(client))
		open_session(client, false);
}

/* Rule 2: above the limit idle ones are closed now, others as they come back. */
static void
close_what_is_too_much(Client *client)
{
	ClientSession *session;

	while (client_size(client) - count(client, CLOSING) >
			   (client->leaving ? 0 : limit_of(client)) &&
		   (session = any_session(client, IDLE)) != NULL &&
		   (!client->leaving || client->bye_said || client_size(client) > 1))
		close_session(client, session);
}

static void
close_what_is_idle(Client *client)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
	{
		ClientSession *session = &client->sessions[i];

		if (session->state == IDLE && !session->busy && sim_now - session->used > IDLE_TIME &&
			client_size(client) > client->min)
			close_session(client, session);
	}
}

/*---- work ----*/

static void
lend(Client *client)
{
	ClientSession *session;

	while (count(client, IN_USE) < client->want && !client->leaving &&
		   (session = any_session(client, IDLE)) != NULL)
	{
		set_state(client, session, IN_USE);
		session->used = sim_now;
	}
}

static int
waiting(const Client *client)
{
	return client->leaving ? 0 : Max(0, client->want - count(client, IN_USE));
}

/* As many loans as are too many come back, each in its time. */
static void
bring_back(Client *client)
{
	int left = client->leaving ? 0 : Min(client->want, limit_of(client));

	for (int i = 0; i < MAX_SESSIONS && count(client, IN_USE) > left; i++)
	{
		ClientSession *session = &client->sessions[i];

		if (session->state != IN_USE || session->busy ||
			!chance(client->holds_long ? LONG_HOLD : SHORT_HOLD))
			continue;
		set_state(client, session, IDLE);
		session->used = sim_now;
	}
}

/* A command somewhere brings the newest text. */
static void
work(Client *client)
{
	ClientSession *session = any_session(client, IN_USE);

	if (session != NULL && !client->holds_long && chance(0.3))
		schedule(network_delay(), &(Event){ .action = on_command,
											.client = client->number,
											.serial = session->serial,
											.place = session->place });
}

/*---- section 4: reports ----*/

/*
 * What is above the limit that is acknowledged now, but still on its way, must not come any
 * more.
 */
static void
disallow_opening(Client *client)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (client->sessions[i].state == OPENING && !client->sessions[i].knock)
			client->sessions[i].allowed = false;
}

static char *
write_report(Client *client, bool bye)
{
	char text[REPORT_MAX_BYTES];

	snprintf(text, sizeof(text),
			 "v=1;seq=%" PRIu64 ";ack=%" PRIu64
			 ";max=%d;min=%d;opening=%d;idle=%d;in_use=%d;resetting=0;closing=%d;waiting=%d%s",
			 ++client->seq, is_bound(client) ? client->told.epoch : 0, client->max, client->min,
			 count(client, OPENING), count(client, IDLE), count(client, IN_USE),
			 count(client, CLOSING), waiting(client), bye ? ";bye=1" : "");
	if (client_size(client) <= limit_of(client))
		client->lowered = false;
	else
		disallow_opening(client);
	client->urgent = false;
	client->reported_demand = count(client, IN_USE) + waiting(client);
	client->reported_at = sim_now;
	client->jitter = 0.9 + 0.2 * (double) random_between(0, 1000) / 1000;
	return pstrdup(text);
}

static void
send_report(Client *client, ClientSession *session, bool bye)
{
	session->busy = true;
	client->reporting = session->serial;
	schedule(network_delay(), &(Event){ .action = on_report,
										.client = client->number,
										.serial = session->serial,
										.place = session->place,
										.stamp = sim_now,
										.report = write_report(client, bye) });
}

static int64
cadence(const Client *client)
{
	int64 interval = client->told.interval * MSEC;

	return waiting(client) > 0 ? Max(interval / HURRY, HURRY_MIN) : interval;
}

static bool
has_unknown_demand(const Client *client)
{
	int limit = limit_of(client);

	return limit < client->max && client->reported_demand <= limit && waiting(client) > 0 &&
		   count(client, IN_USE) + waiting(client) > limit;
}

static int64
report_due(const Client *client)
{
	if (!is_bound(client) || client->reporting >= 0 || client->bye_said)
		return INT64_MAX;
	if (client->reported_at == 0)
		return sim_now;
	if (client->urgent || has_unknown_demand(client) ||
		(client->lowered && client_size(client) <= limit_of(client)))
		return client->reported_at + HURRY_MIN;
	return client->reported_at + (int64) ((double) cadence(client) * client->jitter);
}

/* On an idle session; where loans are short, one that comes back just now will do. */
static ClientSession *
reporter(Client *client)
{
	ClientSession *session = any_session(client, IDLE);

	if (session == NULL && !client->holds_long)
		session = any_session(client, IN_USE);
	return session;
}

/*---- section 5: knocks ----*/

static int64
knock_due(const Client *client)
{
	int64 earliest =
		client->knocked_at > 0 ? client->knocked_at + client->told.retry * MSEC : sim_now;

	if (!is_bound(client) || client->knocking || client->reporting >= 0 || client->leaving ||
		count(client, IDLE) > 0)
		return INT64_MAX;
	if (client_size(client) == 0)
		return limit_of(client) > 0 || wanted(client) == 0 ? INT64_MAX : earliest;
	if (count(client, IN_USE) == 0)
		return INT64_MAX;
	return Max(earliest, client->answered_at + 2 * cadence(client));
}

/*---- a look at everything ----*/

static void
end_if_over(Client *client)
{
	if (client->leaving && client_size(client) == 0 && !client->knocking)
		client->alive = false;
}

static void
look(Client *client)
{
	ClientSession *session;

	if (!client->alive)
		return;
	close_what_is_too_much(client); /* before somebody else gets what has come back */
	lend(client);
	close_what_is_idle(client);
	if (client->leaving)
	{
		/* at once if a session is idle, else by the first that comes back */
		if (!client->bye_said && client->reporting < 0 &&
			(session = any_session(client, IDLE)) != NULL)
		{
			send_report(client, session, true);
			client->bye_said = true;
		}
		end_if_over(client);
		return;
	}
	open_what_is_wanted(client);
	if (report_due(client) <= sim_now && (session = reporter(client)) != NULL)
		send_report(client, session, false);
	if (knock_due(client) <= sim_now && sim_now >= client->backoff_until)
	{
		client->knocking = true;
		client->knocked_at = sim_now;
		open_session(client, true);
	}
}

/*---- what arrives ----*/

/* A stopped process finds everything when it goes on. */
static bool
is_put_off(const Client *client, const Event *event)
{
	if (!client->alive || sim_now >= client->stopped_until)
		return false;
	schedule(client->stopped_until - sim_now, event);
	return true;
}

void
on_opened(const Event *event)
{
	Client *client = &clients[event->client];
	ClientSession *session;

	if (is_put_off(client, event))
		return;
	session = session_with(client, event->serial);
	if (!client->alive || session == NULL)
	{
		/* the server notices when it writes to it */
		schedule(network_delay() + client->lingers, &(Event){ .action = on_terminate,
															  .client = event->client,
															  .serial = event->serial,
															  .place = event->place });
		return;
	}
	session->place = event->place;
	client->known = true;
	hear(client, &event->text);
	client->lease_from = Max(client->lease_from, session->began);
	if (client->answered_at == 0)
		client->answered_at = sim_now;
	set_state(client, session, IDLE);
	if (session->knock)
		send_report(client, session, false);
	look(client);
}

/* Whose session the event is about; NULL: it has been put off, or nobody is there to hear it. */
static ClientSession *
addressee(const Event *event, Client **client)
{
	*client = &clients[event->client];
	if (is_put_off(*client, event) || !(*client)->alive)
		return NULL;
	return session_with(*client, event->serial);
}

void
on_refused(const Event *event)
{
	Client *client;
	ClientSession *session = addressee(event, &client);

	if (session == NULL)
		return;
	if (session->knock)
		client->knocking = false;
	set_state(client, session, GONE);
	client->backoff_until = sim_now + random_between(200, 1000) * MSEC;
}

void
on_answer(const Event *event)
{
	Client *client;
	ClientSession *session = addressee(event, &client);

	if (session == NULL)
		return;
	session->busy = false;
	client->reporting = -1;
	hear(client, &event->text);
	client->answered_at = sim_now;
	client->lease_from = Max(client->lease_from, event->stamp);
	if (session->knock)
		close_session(client, session);
	look(client);
}

void
on_heard(const Event *event)
{
	Client *client;

	if (addressee(event, &client) == NULL)
		return;
	hear(client, &event->text);
	look(client);
}

void
on_closed(const Event *event)
{
	Client *client;
	ClientSession *session = addressee(event, &client);

	if (session == NULL)
		return;
	if (session->knock)
		client->knocking = false;
	set_state(client, session, GONE);
	look(client);
}

static void
on_tick(const Event *event)
{
	Client *client = &clients[event->client];

	if (!client->alive)
		return;
	if (!is_put_off(client, event))
	{
		bring_back(client);
		work(client);
		look(client);
		schedule(random_between(TICK * 8 / 10, TICK * 12 / 10) * MSEC, event);
	}
}

/*---- what scenarios do to them ----*/

int
client_start(const char *pool, int want, int max)
{
	Client *client = &clients[nclients];

	if (nclients == MAX_CLIENTS)
		sim_fail("more clients than the simulation has room for");
	memset(client, 0, sizeof(*client));
	client->number = nclients++;
	sim_strlcpy(client->pool, pool, NAME_LEN);
	snprintf(client->id, sizeof(client->id), "%d-%" PRIx64, client->number, random_bits());
	client->max = Min(max, MAX_SESSIONS - 4);
	client->want = want;
	client->holds_long = chance(0.1);
	client->bold = chance(0.1);
	client->alive = true;
	client->started = client->wanted_since = sim_now;
	client->told.limit = NO_LIMIT;
	client->jitter = 1;
	client->reporting = -1;
	client->instance = -1;
	client->queued_since = client->due_since = -1;
	look(client);
	schedule(random_between(0, TICK) * MSEC,
			 &(Event){ .action = on_tick, .client = client->number });
	return client->number;
}

void
client_want(Client *client, int want)
{
	client->want = want;
	client->wanted_since = sim_now;
}

void
client_leave(Client *client)
{
	client->leaving = true;
	client->want = 0;
}

void
client_kill(Client *client, int64 lingers)
{
	client->alive = false;
	client->lingers = lingers;
	for (int i = 0; i < MAX_SESSIONS; i++)
	{
		ClientSession *session = &client->sessions[i];

		if (session->state == IDLE || session->state == IN_USE)
			schedule(lingers + random_between(1, 20) * MSEC, &(Event){ .action = on_terminate,
																	   .client = client->number,
																	   .serial = session->serial,
																	   .place = session->place });
	}
}

void
client_stop(Client *client, int64 duration)
{
	client->stopped_until = Max(client->stopped_until, sim_now + duration);
}
