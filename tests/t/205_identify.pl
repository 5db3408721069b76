# Clients that name no pool: what they are called, that they are only watched, and that they take nothing from those who name
# themselves. And what the view sessions says of each connection.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node(
	'identify', autovacuum => 'off', max_connections => 60, 'pgpool_monitor.identify' => undef,
	'pgpool_monitor.report_interval' => '100ms', 'pgpool_monitor.lease' => '1h');
my $version = $node->pg_version->major();

# Everything but the tests' own psql.
my $pools = q(SELECT coalesce(string_agg(concat_ws(':', pool, instances, sessions, identified_by), ' '
	ORDER BY pool COLLATE "C", identified_by), '') FROM pgpool_monitor.pools WHERE pool <> '(outside)' AND pool NOT LIKE '%.pl');

sub shows
{
	my ($expected, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for_query($node, $pools, $expected, $what);
}

sub sums
{
	my ($what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for_query(
		$node, q{SELECT sum(sessions) = (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
		FROM pgpool_monitor.pools}, 't', "sessions of all rows sum to pg_stat_activity's: $what");
}

sub reload
{
	my (%setting) = @_;

	for my $name (sort keys %setting)
	{
		$node->safe_psql('postgres', "ALTER SYSTEM SET pgpool_monitor.$name = '$setting{$name}'");
	}
	$node->reload;
	for my $name (sort keys %setting)
	{
		wait_for_query($node, "SHOW pgpool_monitor.$name", $setting{$name}, "reloaded: $name = '$setting{$name}'");
	}
	return;
}

sub figures { return $node->safe_psql('postgres', 'SELECT ' . join(', ', @_) . ' FROM pgpool_monitor.info'); }

# --- by application_name, which is the default

my @web = map { Peer->new($node, application_name => 'web') } 1 .. 3;
shows('web:1:3:application_name', 'who names no pool is called by his application_name');
is($web[0]->text, '(none)', 'and is sent nothing');
sums('guessed ones');
{
	local $ENV{PGAPPNAME};
	delete $ENV{PGAPPNAME};
	is($node->safe_psql('postgres', q(SELECT pool || ' ' || identified_by FROM pgpool_monitor.sessions
		WHERE pid = pg_backend_pid())), 'psql application_name', 'psql is psql');
}

$web[0]->say(q(SET application_name = 'late'));
$web[0]->say('SELECT 1');
$web[0]->report(in_use => 7, max => 9);
is($web[0]->error, '', 'a report of such a session is no error');
$web[0]->say('RESET ALL');
shows('web:1:3:application_name', 'what it is called later does not matter');
is(figures('reports_applied', 'reports_ignored', 'reports_rejected'), '0|0|0', 'and what it reports is not looked at');

my $nameless = Peer->new($node, application_name => '');
shows('web:1:3:application_name', 'who has no name is called nothing');
like($node->safe_psql('postgres', q(SELECT sessions || reason FROM pgpool_monitor.pools WHERE pool = '(outside)')),
	qr/^1unnamed 1$/,
	'and stays outside');
sums('guessed ones and one outside');
$nameless->end;

$node->safe_psql('postgres', q(CREATE ROLE etl LOGIN; ALTER ROLE etl SET application_name = 'nightly'));
my $etl = Peer->new($node, user => 'etl', application_name => '');
is($etl->say('SHOW application_name'), 'nightly', 'a name that the role brings');
shows('web:1:3:application_name', 'is not what the client has sent');
$etl->end;
$etl = Peer->new($node, user => 'etl', application_name => 'web');
shows('web:1:1:application_name web:1:3:application_name', 'another role, another pool');
$etl->end;

my %names = (
	'x' x 63 => 'x' x 63,
	'x' x 100 => 'x' x 63,
	"caf\xc3\xa9" => $version < 16 ? 'caf??' : 'caf\x5cxc3\x5cxa9',
	"\xff" x 80 => $version < 16 ? '?' x 63 : substr('\xff' x 80, 0, 63) =~ s/\\/\\x5c/gr,
	'back\\slash' => 'back\x5cslash',
	q('; DROP TABLE big; --) => q('; DROP TABLE big; --),
	'%s%n' => '%s%n',
	'(outside)' => '(outside)',
	'worker 4711' => 'worker 4711',
	' ' => ' ');
for my $name (sort keys %names)
{
	my $peer = Peer->new($node, application_name => $name);
	is($peer->say(q(SELECT pool FROM pgpool_monitor.sessions WHERE pid = pg_backend_pid())), $names{$name}, "shown as $names{$name}");
	$peer->say('SELECT count(*) FROM pgpool_monitor.pools, pgpool_monitor.limits, pgpool_monitor.instances');
	is($peer->error, '', 'and breaks no view');
	$peer->end;
}
sums('names of all kinds have come and gone');

# --- they are only watched

my $orders = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1', application_name => 'x');
$orders->report(in_use => 1, idle => 0, max => 5);
my @false = map { Peer->new($node, application_name => 'orders') } 1 .. 2;
shows('orders:1:2:application_name orders:1:1:client web:1:3:application_name',
	'a name that was guessed is another pool than one that was given');
is($node->safe_psql('postgres', q(SELECT sessions, in_use, demand FROM pgpool_monitor.pools
	WHERE pool = 'orders' AND identified_by = 'client')),
	'1|1|1', 'whose figures are its own');
reload(rules => 'orders=3,*=1:floor=1', mode => 'share');
$orders->say('SELECT 1');
$orders->report(in_use => 1, idle => 0, waiting => 9, max => 9);
wait_until(sub { $orders->report(in_use => 1, waiting => 9, max => 9); return $orders->allotment->{limit} == 3; },
	'and so is its budget') or diag($orders->text);
is($node->safe_psql('postgres', q(SELECT string_agg(concat_ws(':', pool, rule, instances), ' ') FROM pgpool_monitor.limits
	WHERE pool <> '(server)')), 'orders:orders=3:1', 'no rule is theirs');
is($node->safe_psql('postgres', q(SELECT instances FROM pgpool_monitor.limits WHERE pool = '(server)')), 1, 'nor do they share');
is($node->safe_psql('postgres', q(SELECT count(budget) FROM pgpool_monitor.pools WHERE identified_by <> 'client')), 0,
	'nor have a budget');
is($web[1]->say('SELECT 1'), 1, 'they just work');
is($web[1]->text, '(none)', 'and are still told nothing');

# A fleet of more than twenty that reports every 100 ms would be asked for less.
my @many = map { Peer->new($node, application_name => "job $_") } 1 .. 25;
wait_for_query($node, 'SELECT outside >= 30 AND capacity = max_connections - reserved - headroom - outside
	FROM pgpool_monitor.info', 't',
	'they take from capacity, like anybody outside');
my $rounds = figures('rounds');
wait_for_query($node, "SELECT rounds > $rounds + 1 FROM pgpool_monitor.info", 't', 'two rounds later');
is(figures('report_interval_time'), 100, 'are no part of the fleet that reports');
is(figures('held'), 1, 'nor of what is held');
sums('many');
$_->end for @many, @false;
shows('orders:1:1:client web:1:3:application_name', 'and end with their last session');

# Parallel workers.
$node->safe_psql('postgres', 'CREATE TABLE big AS SELECT g FROM generate_series(1, 100) g');
$web[2]->say(q(SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode',
	'debug_parallel_query')));
is($web[2]->say(q(SELECT coalesce(current_setting('pgpool_monitor.allotment', true), '-') || count(*) FROM big)), '-100',
	'a parallel worker sees what its leader sees: nothing');
is($web[2]->say('SELECT sum(sessions) FROM pgpool_monitor.pools() WHERE pool = \'web\''), 3, 'and is not counted');

# --- reload

reload(identify => 'role', mode => 'observe');
my $me = $web[0]->say('SELECT current_user');
$_->say('SELECT 1') for @web;
is($web[0]->say(q(SELECT pool || ' ' || identified_by FROM pgpool_monitor.sessions WHERE pid = pg_backend_pid())), "$me role",
	'a session takes over a change with its next command');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.sessions WHERE identified_by = 'application_name')), 0,
	'so do all that have one');
reload(identify => 'application_name, role');
$nameless = Peer->new($node, application_name => '', user => 'etl');
is($node->safe_psql('postgres', q(SELECT pool || identified_by FROM pgpool_monitor.pools WHERE role = 'etl')), 'etlrole',
	'the first that yields a name counts');
$nameless->end;
$_->say('SELECT 1') for @web;
shows('orders:1:1:client web:1:3:application_name', 'the name is still that of the startup');
reload(identify => 'none');
$_->say('SELECT 1') for @web;
shows('orders:1:1:client', 'with none, only who names himself is called something');
sums('none');
reload(identify => 'options, application_name', mode => 'off');
$_->say('SELECT 1') for @web;
shows('orders:1:1:client', 'with the mode off nobody is looked at');
reload(mode => 'observe');
$_->say('SELECT 1') for @web;
shows('orders:1:1:client web:1:3:application_name', 'until it is on again');
$web[0]->kill;
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $web[1]->pid . ')');
shows('orders:1:1:client web:1:1:application_name', 'however they end');
$_->end for $orders, @web;

# --- sessions: who holds it

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE monitor LOGIN; CREATE ROLE stats LOGIN;
	GRANT pg_monitor TO monitor; GRANT pg_read_all_stats TO stats; CREATE TABLE t AS SELECT 1 AS a; GRANT ALL ON t TO app');
my @app = map { Peer->new($node, pool => 'orders', instance => 'a1;report=1', user => 'app') } 1 .. 4;
my ($lent, $idle, $blocked, $steady) = @app;
my $held = sub {
	my ($peer) = @_;
	return $node->safe_psql('postgres', q(SELECT concat_ws(':', pool, instance, host, coalesce(client_state, '?'), thread, call_site,
		held_time >= 60000, state, kind, blocked_by) FROM pgpool_monitor.sessions WHERE pid = ) . $peer->pid);
};
is($held->($idle), 'orders:a1:[local]:?:idle:pool', 'without a report nothing is known of the client');
$steady->report(in_use => 2, idle => 2, max => 4, loans => join(',', map { $_->pid . ':60000:77:shop.c%3A12' } $lent, $blocked));
is($held->($lent), 'orders:a1:[local]:lent:77:shop.c:12:t:idle:pool', 'who holds it, where, and for how long');
is($held->($idle), 'orders:a1:[local]:idle:idle:pool', 'or that nobody does');
my $late = Peer->new($node, pool => 'orders', instance => 'a1;report=1', user => 'app');
is($held->($late), 'orders:a1:[local]:?:idle:pool', 'of a session after the report nothing is known');
$late->end;
$steady->report(in_use => 3, idle => 1, max => 4, loans => $lent->pid . ':60000:77:x');
is($held->($idle), 'orders:a1:[local]:?:idle:pool', 'nor if not all loans are listed');

$lent->say('BEGIN; LOCK TABLE t');
$blocked->{in} .= "SELECT count(*) FROM t\n";
$blocked->{handle}->pump_nb;
wait_for_query($node, 'SELECT blocked_by FROM pgpool_monitor.sessions WHERE pid = ' . $blocked->pid, '{' . $lent->pid . '}',
	'who waits for a lock is blocked by somebody');
is($node->safe_psql('postgres', 'SELECT blocked_by IS NULL FROM pgpool_monitor.sessions WHERE pid = ' . $lent->pid), 't',
	'and nobody else is');
is($node->safe_psql('postgres', q(SELECT blocked, idle_in_xact FROM pgpool_monitor.pools WHERE pool = 'orders' AND role = 'app')),
	'1|1',
	'pools sums them');

nulls_are_documented($node, 'of clients that say nothing');

# Masks, as pg_stat_activity's.
my $seen = q(SELECT count(*), count(query) FILTER (WHERE query LIKE '%FROM t%'), count(call_site), count(blocked_by)
	FROM pgpool_monitor.sessions WHERE pool = 'orders');
my %sees = (app => '4|1|1|1', stranger => '0|0|0|0', monitor => '4|1|1|1', stats => '4|1|1|1');
for my $user (sort keys %sees)
{
	is($node->safe_psql('postgres', $seen, extra_params => [ '-U', $user ]), $sees{$user}, "what $user sees of others' sessions");
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.sessions() WHERE pool = 'orders'), extra_params => [ '-U',
	'stranger' ]),
	0, 'nor does the function show more');
is($node->safe_psql('postgres', q(SELECT string_agg(DISTINCT role, ',') FROM pgpool_monitor.pools), extra_params => [ '-U',
	'stranger' ]),
	'stranger', 'a stranger sees his own');
$lent->say('COMMIT');
$blocked->_answer;

# --- sessions: since when

my $state_time = sub {
	my ($peer) = @_;
	return $node->safe_psql('postgres', 'SELECT state_time FROM pgpool_monitor.sessions WHERE pid = ' . $peer->pid);
};
$steady->say('SELECT 1');
wait_until(sub { $steady->report(in_use => 0); return $state_time->($steady) > 2000; },
	'a session on which its pool reports is idle all the same')
	or diag($state_time->($steady));
my $end = $steady->say('SELECT clock_timestamp() FROM pg_sleep(0.5)');
$steady->report(in_use => 0) for 1 .. 3;
is($node->safe_psql('postgres', "SELECT idle_since >= '$end' AND idle_since < clock_timestamp()
	FROM pgpool_monitor.sessions() WHERE pid = "
		. $steady->pid), 't', 'since the end of its last command');
$steady->say('SELECT 1');
is($node->safe_psql('postgres', 'SELECT s.idle_since IS NULL AND v.state_time <= 1000 *
	extract(epoch FROM clock_timestamp() - a.state_change) FROM pgpool_monitor.sessions() s
	JOIN pgpool_monitor.sessions v USING (pid) JOIN pg_stat_activity a USING (pid) WHERE pid = ' . $steady->pid),
	't', 'a command ends that');
$steady->say('SELECT 1/0');
$steady->report(in_use => 0);
$end = $node->safe_psql('postgres', 'SELECT idle_since FROM pgpool_monitor.sessions() WHERE pid = ' . $steady->pid);
$steady->say('SELECT 1/0');
$steady->report(in_use => 0);
is($node->safe_psql('postgres', "SELECT idle_since > '$end' FROM pgpool_monitor.sessions() WHERE pid = " . $steady->pid), 't',
	'so does one that fails');
$_->end for @app;

# --- identity is a claim

$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN');
reload(rules => 'orders@app=8,*=2', mode => 'share');
my $real = Peer->new($node, pool => 'orders', instance => 'r;follow=1;report=1', user => 'app');
my $forged = Peer->new($node, pool => 'orders', instance => 'r;follow=1;report=1', user => 'mallory');
my $louder = Peer->new($node, pool => 'orders', instance => 'm;follow=1;report=1', user => 'mallory', application_name => 'orders');
wait_until(
	sub {
		$_->report(in_use => 1, waiting => 50, max => 50) for $real, $forged, $louder;
		return $real->allotment->{limit} == 8;
	},
	'a stranger who takes a pool\'s name takes nothing of its budget') or diag($real->text);
wait_for_query($node, q(SELECT string_agg(concat_ws(':', role, rule, allotted), ' ' ORDER BY role)
	FROM pgpool_monitor.limits WHERE pool = 'orders' AND role IN ('app', 'mallory')), 'app:orders@app=8:8 mallory:*=2:2',
		'he spends his own');
$forged->report(seq => 1000, in_use => 40, waiting => 0, max => 50, bye => 1);
is($node->safe_psql('postgres', q(SELECT in_use, demand FROM pgpool_monitor.pools WHERE role = 'app' AND pool = 'orders')), '1|51',
	'and says nothing of another\'s, whatever id he gives');
$_->end for $real, $forged, $louder;
$node->stop('fast');

# --- full tables

$node = PgpoolMonitor::node('full', autovacuum => 'off', 'pgpool_monitor.identify' => undef, 'pgpool_monitor.max_instances' => 3,
	'pgpool_monitor.max_pools' => 3);
delete local $ENV{PGAPPNAME};
local $ENV{PGAPPNAME} = '';    # psql stays outside
my @guessed = map { Peer->new($node, application_name => "g$_") } 1 .. 4;
shows('g1:1:1:application_name g2:1:1:application_name g3:1:1:application_name', 'a guess takes what is free');
is(figures('unplaced_sessions', 'refused_sessions'), '1|0', 'and else is counted');
sums('one for which there was no room');
my @named = map { Peer->new($node, pool => "n$_", instance => 'x;follow=1;report=1') } 1 .. 2;
is(scalar(grep { $_->allotment } @named), 2, 'who names himself always finds room');
shows('g1:1:1:application_name n1:1:1:client n2:1:1:client', 'the newest guesses make it');
is(figures('unplaced_sessions', 'refused_sessions', 'instances', 'pools'), '3|0|3|3', 'and are counted');
is(join(' ', map { $_->say('SELECT 1') } @guessed), '1 1 1 1', 'which they do not notice');
sums('those that have made room');
$guessed[2]->end;
$guessed[1]->kill;
wait_for_query($node, q(SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'g_'), 2, 'they end');
shows('g1:1:1:application_name n1:1:1:client n2:1:1:client', 'as anybody');
push @named, Peer->new($node, pool => 'n3', instance => 'x');
shows('n1:1:1:client n2:1:1:client n3:1:1:client', 'the last guess has gone');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/has no room/, 'nothing of that is in the log');
push @named, Peer->new($node, pool => 'n4', instance => 'x');
is(figures('unplaced_sessions', 'refused_sessions'), '4|1', 'those who name themselves have no room only beside their like');
wait_for_log_line($node, qr/has no room for another pool instance/, 'which is logged');
$_->end for @named, @guessed;
wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.sessions), 0, 'all are gone');

# A guessed pool has to go whole.
PgpoolMonitor::set($node, 'pgpool_monitor.max_instances' => 8, 'pgpool_monitor.max_pools' => 1,
	'pgpool_monitor.identify' => 'role');
$node->restart;
@guessed = map { Peer->new($node, application_name => "g$_") } 1 .. 3;
is($node->safe_psql('postgres', q(SELECT concat_ws(':', instances, sessions) FROM pgpool_monitor.pools
	WHERE identified_by = 'role')), '4:4',
	'one pool, an instance for each program');
my $first = Peer->new($node, pool => 'n', instance => 'x');
shows('n:1:1:client', 'all of it makes room');
is(figures('instances', 'pools'), '1|1', 'and nothing of it is left');
$_->end for $first, @guessed;

# One role does not fill the tables by itself.
PgpoolMonitor::set($node, 'pgpool_monitor.max_instances' => 16, 'pgpool_monitor.max_pools' => 16, 'pgpool_monitor.identify' => '');
$node->restart;
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN');
for my $kind (qw(pool instance))
{
	@many = map { Peer->new($node, pool => 'p', instance => 'i', $kind => "x$_", user => 'mallory') } 1 .. 18;
	is(scalar(grep { $_->allotment } @many), 14, "one role's ${kind}s fill seven eighths of the table");
	$first = Peer->new($node, pool => 'orders', instance => 'a');
	ok($first->allotment, 'which leaves room for others');
	$_->end for $first, @many;
	wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.sessions), 0, 'all are gone');
}
is(figures('refused_sessions'), 8, 'the rest is counted');

# What a client leaves behind makes room for his next.
my @follow = map { Peer->new($node, pool => 'p', instance => "f$_;follow=1", user => 'mallory') } 1 .. 14;
$_->end for @follow;
wait_for_query($node, 'SELECT instances FROM pgpool_monitor.info', 14, 'instances outlive their sessions');
$first = Peer->new($node, pool => 'p', instance => 'new', user => 'mallory');
ok($first->allotment, 'but make room');
is(figures('instances'), 14, 'for one of their own role');
$first->end;

# --- a driver that knows nothing of all this

SKIP:
{
	my $python = '/usr/bin/python3';
	skip 'no psycopg2 here', 1
		if !-x $python || !eval { IPC::Run::run([ $python, '-c', 'import psycopg2' ], '<', \undef, '>&', \my $noise) };

	PgpoolMonitor::set($node, 'pgpool_monitor.identify' => 'options, application_name');
	$node->reload;
	wait_for_query($node, 'SHOW pgpool_monitor.identify', 'options, application_name', 'the default again');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($<));
	IPC::Run::run([ $python, '-c', <<'END' ], '<', \undef, '>', \my $out, '2>&1');
import psycopg2.pool
pool = psycopg2.pool.ThreadedConnectionPool(3, 5, application_name="django")
cursor = pool.getconn().cursor()
cursor.execute("SELECT pool, sessions, idle_in_xact + active, identified_by FROM pgpool_monitor.pools WHERE pool = 'django'")
print(cursor.fetchall())
END
	is($out, "[('django', 3, 1, 'application_name')]\n", 'psycopg2: a pool is seen as it is');
}

$node->stop('fast');
done_testing();
