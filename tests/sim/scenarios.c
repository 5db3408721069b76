/*-------------------------------------------------------------------------
 *
 * scenarios.c
 *	  What happens to the fleet.
 *
 * Each begins with an empty server and ends with a time in which nobody changes
 * his mind: then shares must get fair, and after that nothing may move.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include "pgpool_monitor.h"

/* The tables of a real server are no smaller; a small one makes rounds of small fleets cheap. */
#define TABLE(instances) ((instances) + (instances) / 2 + 24)

static int
full_or_small(SimSize size, int full, int small)
{
	return size == SIM_FULL ? full : small;
}

static void
pass(int seconds)
{
	run_until(sim_now + seconds * SECOND);
}

/*---- making a fleet ----*/

static struct
{
	int pools;
	int least; /* wanted by each */
	int most;
	int max; /* size */
} kind;

static void
start_one(const Event *event)
{
	char pool[NAME_LEN];

	snprintf(pool, sizeof(pool), "pool%d", event->serial % kind.pools);
	client_start(pool, random_between(kind.least, kind.most), kind.max);
}

/* So many instances, in the next so many milliseconds. */
static void
start_fleet(int n, int ms)
{
	for (int i = 0; i < n; i++)
		schedule_action(random_between(0, ms) * MSEC, start_one, i);
}

static Client *
any_client(void)
{
	Client *client = &clients[random_between(0, nclients - 1)];

	for (int i = 0; i < nclients; i++)
	{
		if (client->alive && !client->leaving && sim_now >= client->stopped_until)
			return client;
		client = &clients[(client->number + 1) % nclients];
	}
	return client;
}

static int
count_alive(void)
{
	int alive = 0;

	for (int i = 0; i < nclients; i++)
		alive += clients[i].alive && !clients[i].leaving;
	return alive;
}

/*
 * The end of all: nobody changes his mind any more; shares get fair, then
 * nothing moves.  Demand is the largest of two reports, and a lease is 30 s: what
 * the past has left is over after a minute and a half.
 */
static void
come_to_rest(void)
{
	disturbed();
	pass(100);
	at_rest();
	pass(60);
}

/*---- scenarios ----*/

static void
herd(SimSize size)
{
	int n = full_or_small(size, 1000, 60);

	server_init(n * 3 / 2, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 20, .least = 1, .most = 4, .max = 10 };
	start_fleet(n, 100);
	come_to_rest();
}

/*
 * A fleet that has been there for a minute, for whom there are three connections for two.
 * How many they are.
 */
static int
settled(SimSize size)
{
	int n = full_or_small(size, 1000, 60);

	server_init(n * 3 / 2, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 20, .least = 1, .most = 6, .max = 10 };
	start_fleet(n, 5000);
	pass(60);
	return n;
}

static void
on_leave(const Event *event)
{
	(void) event;
	client_leave(any_client());
}

static void
leave(SimSize size)
{
	int n = settled(size);

	for (int i = 0; i < n / 2; i++)
		schedule_action(random_between(0, 10000) * MSEC, on_leave, 0);
	pass(10);
	come_to_rest();
}

/* A process is gone at once; a machine is, for the server, when its keepalives are. */
static void
on_kill(const Event *event)
{
	client_kill(any_client(), event->serial * SECOND);
}

static void
die(SimSize size)
{
	int n = settled(size);

	for (int i = 0; i < n / 3; i++)
		schedule_action(random_between(0, 500) * MSEC, on_kill, i % 4 == 0 ? 50 : 0);
	pass(1);
	come_to_rest();
}

static void
on_stop(const Event *event)
{
	client_stop(any_client(), event->serial * MSEC);
}

static void
stall(SimSize size)
{
	int n = settled(size);

	for (int i = 0; i < n / 5; i++)
		schedule_action(random_between(0, 60000) * MSEC, on_stop, random_between(1000, 100000));
	pass(170);
	come_to_rest();
}

static void
on_burst(const Event *event)
{
	client_want(any_client(), event->serial);
}

static void
burst(SimSize size)
{
	int n = full_or_small(size, 300, 30);

	server_init(n * 4, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 0, .most = 3, .max = 40 };
	start_fleet(n, 3000);
	pass(60);
	for (int round = 0; round < full_or_small(size, 10, 3); round++)
	{
		for (int i = 0; i < n / 5; i++)
			schedule_action(random_between(0, 200) * MSEC, on_burst,
							chance(0.5) ? random_between(15, 40) : random_between(0, 3));
		pass(1);
		disturbed();
		pass(60);
	}
	come_to_rest();
}

static void
on_retire(const Event *event)
{
	if (clients[event->serial].alive)
		client_leave(&clients[event->serial]);
}

static void
deploy(SimSize size)
{
	int n = full_or_small(size, 200, 20);

	server_init(n * 5 / 2, TABLE(2 * n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 2, .most = 4, .max = 20 };
	start_fleet(n, 3000);
	pass(60);
	for (int i = 0; i < n; i++)
	{
		int64 when = 120 * SECOND * i / n;

		schedule(when, &(Event){ .action = start_one, .serial = i });
		schedule(when + random_between(3000, 15000) * MSEC,
				 &(Event){ .action = on_retire, .serial = i });
	}
	pass(140);
	come_to_rest();
}

static void
worker(SimSize size)
{
	int n = full_or_small(size, 500, 40);

	server_init(n * 2, TABLE(2 * n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 0, .most = 4, .max = 20 };
	start_fleet(n, 3000);
	pass(60);
	server_stop_worker(true);
	start_fleet(n / 2, 3000);
	for (int i = 0; i < n; i++)
		schedule_action(random_between(0, 60000) * MSEC, on_burst, random_between(0, 20));
	for (int i = 0; i < n / 4; i++)
		schedule_action(random_between(0, 60000) * MSEC, i % 2 ? on_leave : on_kill, 0);
	pass(80);
	server_stop_worker(false);
	pass(30);
	server_restart_worker();
	for (int i = 0; i < n / 4; i++)
		schedule_action(random_between(0, 5000) * MSEC, on_burst, random_between(0, 20));
	pass(30);
	come_to_rest();
}

static void
on_outsiders(const Event *event)
{
	server_outsiders(event->serial);
}

static void
outside(SimSize size)
{
	int n = full_or_small(size, 300, 30);

	server_init(n * 3, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 2, .most = 6, .max = 20 };
	start_fleet(n, 3000);
	pass(60);
	for (int i = 0; i < n; i++)
		schedule_action(random_between(0, 20000) * MSEC, on_outsiders, 1);
	pass(20);
	disturbed();
	pass(60);
	for (int i = 0; i < n; i++)
		schedule_action(random_between(0, 20000) * MSEC, on_outsiders, -1);
	pass(40);
	/* capacity forgets them by one a second */
	pass(n);
	come_to_rest();
}

static void
on_want_again(const Event *event)
{
	Client *client = &clients[event->client];

	client->served = false;
	if (client->alive)
		client_want(client, random_between(1, 5));
}

/* Whoever has been served for a while goes, and another one comes; or he rests, and comes back. */
static void
on_turn(const Event *event)
{
	Client *client = &clients[event->client];

	if (!client->alive || client->counts[IN_USE] == 0)
		return;
	if (chance(0.2))
	{
		client_want(client, 0);
		schedule(random_between(30, 90) * SECOND,
				 &(Event){ .action = on_want_again, .client = client->number });
	}
	else if (chance(0.2))
		client_kill(client, 0);
	else
		client_leave(client);
}

static void
on_turnover(const Event *event)
{
	for (int i = 0; i < nclients; i++)
	{
		Client *client = &clients[i];

		if (!client->alive || client->leaving || client->served || client->counts[IN_USE] == 0)
			continue;
		client->served = true;
		schedule(random_between(10, 40) * SECOND, &(Event){ .action = on_turn, .client = i });
	}
	if (event->serial > 0)
		schedule_action(SECOND, on_turnover, event->serial - 1);
}

static void
on_top_up(const Event *event)
{
	if (count_alive() < event->client && nclients < MAX_CLIENTS - 8)
		start_one(event);
	if (event->serial > 0)
		schedule(
			200 * MSEC,
			&(Event){ .action = on_top_up, .client = event->client, .serial = event->serial - 1 });
}

static void
crowd(SimSize size)
{
	int n = full_or_small(size, 1000, 60);
	int seconds = full_or_small(size, 240, 120);

	/* a twentieth of a very small server is too little for so many knocks */
	pgpm_headroom = full_or_small(size, -1, 5);
	server_init(n / 3, TABLE(2 * n), "");
	kind = (typeof(kind)){ .pools = 20, .least = 1, .most = 5, .max = 10 };
	start_fleet(n, 2000);
	for (int i = 0; i < n / 10; i++)
		schedule_action(random_between(5000, (seconds - 90) * 1000) * MSEC, on_stop,
						random_between(1000, 90000));
	schedule_action(5 * SECOND, on_turnover, seconds);
	schedule(5 * SECOND, &(Event){ .action = on_top_up, .client = n, .serial = seconds * 5 });
	pass(seconds + 130); /* the last turns are over, and the last rests */
	come_to_rest();
}

static void
turn_up(SimSize size)
{
	int n = full_or_small(size, 300, 30);

	pgpm_mode = MODE_OBSERVE;
	server_init(n * 2, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 1, .most = 3, .max = 20 };
	start_fleet(n, 3000);
	pass(60);
	pgpm_mode = MODE_SHARE;
	grant_set_mode(MODE_SHARE);
	judge_step(STEP_MODE, -1);
	registry_wake_worker(); /* as the signal to reload does */
	for (int i = 0; i < n / 2; i++)
		schedule_action(random_between(0, 20000) * MSEC, on_burst, random_between(0, 15));
	pass(60);
	come_to_rest();
}

static void
ruled(SimSize size)
{
	int n = full_or_small(size, 300, 30);
	char rules[512];

	snprintf(rules, sizeof(rules), "pool0=%d:floor=%d, pool1=10%%, pool2=-:weight=5, *=-", n,
			 n * 3 / 4);
	server_init(n * 3, TABLE(n), rules);
	kind = (typeof(kind)){ .pools = 5, .least = 0, .most = 10, .max = 30 };
	start_fleet(n, 3000);
	pass(60);
	for (int round = 0; round < full_or_small(size, 6, 2); round++)
	{
		for (int i = 0; i < n / 3; i++)
			schedule_action(random_between(0, 2000) * MSEC, on_burst, random_between(0, 30));
		pass(2);
		disturbed();
		pass(60);
	}
	come_to_rest();
}

/* What each pool has moves to others of its role, and comes back, all the time. */
static void
limited(SimSize size)
{
	int n = full_or_small(size, 300, 30);

	role_limits[0] = n * 2 / 3;
	role_limits[1] = n;
	server_init(n * 4, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 4 * ROLES, .least = 0, .most = 3, .max = 40 };
	start_fleet(n, 3000);
	pass(60);
	for (int round = 0; round < full_or_small(size, 10, 6); round++)
	{
		for (int i = 0; i < n; i++)
			schedule_action(random_between(0, 20000) * MSEC, on_burst,
							chance(0.2) ? random_between(5, 30) : random_between(0, 3));
		for (int i = 0; i < n / 20; i++)
			schedule_action(random_between(0, 20000) * MSEC, i % 2 ? on_kill : on_leave, 0);
		pass(30);
	}
	pass(100);
	judge_limits_are_used();
	at_rest();
	pass(60);
}

/* A reload; share_round reads it, as ever. */
static void
on_lease(const Event *event)
{
	pgpm_lease = event->serial;
}

static void
on_mischief(const Event *event)
{
	int what = random_between(0, 99);

	if (what < 25)
		schedule(0, &(Event){ .action = start_one, .serial = random_between(0, 99) });
	else if (what < 60)
		schedule_action(0, on_burst, chance(0.7) ? random_between(0, 4) : random_between(5, 30));
	else if (what < 70)
		schedule_action(0, on_leave, 0);
	else if (what < 80)
		schedule_action(0, on_kill, chance(0.2) ? 40 : 0);
	else if (what < 88)
		schedule_action(0, on_stop, random_between(100, 90000));
	else if (what < 96)
		schedule_action(0, on_outsiders, random_between(-6, 5));
	else if (what < 98)
		schedule_action(0, on_lease, random_between(5000, 60000));
	else if (!server.worker_stops)
		server_restart_worker();
	if (event->serial > 0)
		schedule(
			event->stamp,
			&(Event){ .action = on_mischief, .serial = event->serial - 1, .stamp = event->stamp });
}

static void
chaos(SimSize size)
{
	int n = full_or_small(size, 400, 40);
	int seconds = full_or_small(size, 300, 150);
	int64 step = seconds * SECOND / n / 4;

	server_init(random_between(n / 2, 3 * n), TABLE(3 * n), "");
	kind = (typeof(kind)){ .pools = 30, .least = 0, .most = 5, .max = 30 };
	start_fleet(n, random_between(10, 20000));
	schedule(5 * SECOND, &(Event){ .action = on_mischief, .serial = 4 * n, .stamp = step });
	pass(seconds + 10);
	server_outsiders(-MAX_PLACES);
	pgpm_lease = 30000;
	pass(200); /* the stopped go on, capacity forgets */
	come_to_rest();
}

static void
enforced(SimSize size)
{
	int n = full_or_small(size, 300, 30);

	pgpm_mode = MODE_ENFORCE;
	server_init(n * 2, TABLE(n), "");
	kind = (typeof(kind)){ .pools = 10, .least = 0, .most = 3, .max = 40 };
	start_fleet(n, 3000);
	pass(30);
	/* so close together that many have not heard yet of what they have lost to others */
	for (int round = 0; round < full_or_small(size, 10, 20); round++)
	{
		for (int i = 0; i < n; i++)
			schedule_action(random_between(0, 15000) * MSEC, on_burst,
							chance(0.15) ? random_between(5, 30) : random_between(0, 3));
		for (int i = 0; i < n / 20; i++)
			schedule_action(random_between(0, 15000) * MSEC, i % 2 ? on_kill : on_leave, 0);
		for (int i = 0; i < n / 20; i++)
			schedule_action(random_between(0, 15000) * MSEC, on_stop, random_between(1000, 60000));
		pass(30);
	}
	pass(60);
	come_to_rest();
}

const Scenario scenarios[] = {
	{ "herd", "all instances start within 0.1 s", herd },
	{ "leave", "half of the fleet says goodbye within 10 s", leave },
	{ "die", "a third is killed at once; of these a quarter with its machine", die },
	{ "stall", "a fifth stands still for 1 to 100 s", stall },
	{ "burst", "a fifth wants ten times as much, or little again, every minute", burst },
	{ "deploy", "each instance is replaced in turn; old and new overlap by 3 to 15 s", deploy },
	{ "worker",
	  "the worker stops for 80 s while half as many come, and a quarter goes; then it is killed",
	  worker },
	{ "outside", "a third of the connections goes to others within 20 s, and comes back", outside },
	{ "crowd",
	  "three times as many instances as connections; who was served goes or rests, others come",
	  crowd },
	{ "turn_up", "the mode goes from observe to share under way", turn_up },
	{ "ruled", "weights, floors and budgets, with bursts", ruled },
	{ "limited", "roles with a CONNECTION LIMIT, with bursts", limited },
	{ "chaos", "all of this in any order, on a server of any size", chaos },
	{ "enforced", "mode enforce, bursts close together: no session that a limit allows is refused",
	  enforced },
};

const int nscenarios = (int) lengthof(scenarios);
