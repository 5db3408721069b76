# The server's books stay right when what they stand on changes: full tables, absurd reports, other leases, rules and modes, another worker.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('books',
	max_connections => 30,    # 3 reserved, 2 headroom: 25
	autovacuum => 'off',
	'pgpool_monitor.mode' => 'observe',
	'pgpool_monitor.headroom' => 2,
	'pgpool_monitor.report_interval' => '100ms',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.max_instances' => 3,
	'pgpool_monitor.max_pools' => 3);
my $share = 'follow=1;report=1';

sub reload_with
{
	my (%settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$node->reload;
	return;
}

sub ask
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub of_instance
{
	my ($id, $column) = @_;

	return ask("SELECT $column FROM pgpool_monitor.instances WHERE instance = '$id'");
}

# Until the worker that there is now has looked at least twice more.
sub settle
{
	my $from = ask('SELECT rounds FROM pgpool_monitor.info');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_query($node, "SELECT rounds > $from + 2 FROM pgpool_monitor.info", 't', 'the worker has looked');
	return;
}

# --- a full table: who makes room may be the last of the newcomer's own pool

my @peers = map { Peer->new($node, pool => "p$_", instance => "i$_;report=1") } 1 .. 3;
$peers[0]->end;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'i1'), 0, 'one holds nothing');
my $heir = Peer->new($node, pool => 'p1', instance => 'i4;report=1');
is(ask(q(SELECT string_agg(pool || ':' || instance, ' ' ORDER BY pool) FROM pgpool_monitor.instances)), 'p1:i4 p2:i2 p3:i3',
	'it makes room for another of its pool');
is(ask('SELECT pools, instances, refused_sessions FROM pgpool_monitor.info'), '3|3|0', 'and the pool is still there');
$heir->end;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'i4'), 0, 'it leaves too');
$heir = Peer->new($node, pool => 'p5', instance => 'i5;report=1');
is(ask(q(SELECT string_agg(pool || ':' || instance, ' ' ORDER BY pool) FROM pgpool_monitor.instances)), 'p2:i2 p3:i3 p5:i5',
	'and makes room for another pool');
$_->report(bye => 1), $_->end for $heir, @peers[ 1, 2 ];
wait_for_query($node, 'SELECT pools, instances FROM pgpool_monitor.info', '0|0', 'until all have left');

# --- the largest numbers that a report may have

my $most = 2**31 - 1;
my $counter = '9223372036854775807';
my @liars = map { Peer->new($node, pool => 'liars', instance => "l$_;$share") } 1 .. 2;
$_->report(max => $most, in_use => $most, idle => $most, waiting => $most, leaks => $most, timeouts => $counter, wait => "3:$counter",
	hold => "3:$counter")
	for @liars;
is(ask(q(SELECT in_use, idle, waiting, demand, timeouts, wait_p99_time > 0 FROM pgpool_monitor.pools WHERE pool = 'liars')),
	"$most|$most|$most|$most|$counter|t", 'sums stay at the largest number');
is(ask(q(SELECT count(*) FROM pgpool_monitor.limits WHERE pool = 'liars')), 1, 'and break no view');

# Two that may hold as many as there are numbers are not together less than nothing: nobody is given what they may believe.
my $honest = Peer->new($node, pool => 'honest', instance => "h;$share");
$honest->report(max => 20, in_use => 1, waiting => 10);
reload_with('pgpool_monitor.mode' => 'share');
wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance <> 'h' AND allotted > 0), 2, 'the liars have a limit');
for (1 .. 2)
{
	$honest->report(max => 20, in_use => 1, waiting => 10);
	settle();
}
cmp_ok(of_instance('h', 'allotted'), '<=', 20, 'nobody is given more than there is');
is(ask('SELECT occupied >= 60 FROM pgpool_monitor.info'), 't', 'while they may still believe that they have no limit');
$_->report(max => 20, in_use => 1, waiting => 0) for @liars;
$_->report(max => 20, in_use => 1, waiting => 0) for @liars;
wait_until(sub { $_->report(max => 20, in_use => 1, waiting => 0) for @liars; $honest->report(max => 20, in_use => 1, waiting => 10);
	return of_instance('h', 'allotted') >= 7; }, 'acknowledged: the books are right again');
$_->report(bye => 1), $_->end for @liars;

# --- leases

reload_with('pgpool_monitor.lease' => '10min');
wait_for_query($node, 'SELECT lease_time FROM pgpool_monitor.info', 600_000, 'a shorter lease');
$honest->report(max => 20, in_use => 1, waiting => 30);
cmp_ok(of_instance('h', 'lease_time'), '<=', 600_000, 'is given with the next report');
reload_with('pgpool_monitor.lease' => '1h');
wait_for_query($node, 'SELECT lease_time FROM pgpool_monitor.info', 3_600_000, 'a longer one');
$honest->say('SELECT 1');
is($honest->allotment->{lease}, 3600, 'is heard with any command');
cmp_ok(of_instance('h', 'lease_time'), '>', 3_000_000, 'and is believed by both from then on');

for my $lease ('10min', '1h', '10min', '1h')
{
	reload_with('pgpool_monitor.lease' => $lease);
	settle();
}
cmp_ok(of_instance('h', 'lease_time'), '<=', 3_600_000, 'but leases do not add up');

my $gone = Peer->new($node, pool => 'gone', instance => "g;$share");
$gone->kill;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'g'), 0, 'one is killed');
reload_with('pgpool_monitor.lease' => '300ms');
wait_for_query($node, 'SELECT lease_time FROM pgpool_monitor.info', 300, 'leases are shorter now');
ask('SELECT pg_sleep(1.2)');
is(of_instance('g', 'occupied'), 1, 'who was told a longer one before is not forgotten before it is over');
reload_with('pgpool_monitor.lease' => '1h');
wait_for_query($node, 'SELECT lease_time FROM pgpool_monitor.info', 3_600_000, 'long leases again');
$gone = Peer->new($node, pool => 'gone', instance => "g;$share");
$gone->report(bye => 1);
$gone->end;

# --- another worker

# Rules that changed while there was none are taken, though it counts its versions anew.
reload_with('pgpool_monitor.rules' => 'honest=11');
wait_for_query($node, q(SELECT ceiling FROM pgpool_monitor.limits WHERE pool = 'honest'), 11, 'a rule');
for my $budget (12, 25)
{
	my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
	kill 'TERM', $worker;
	wait_until(sub { return !kill 0, $worker; }, 'no worker');
	reload_with('pgpool_monitor.rules' => "honest=$budget");
	wait_for_query($node, 'SELECT worker_pid IS NOT NULL FROM pgpool_monitor.info', 't', 'another worker');
	wait_for_query($node, q(SELECT ceiling FROM pgpool_monitor.limits WHERE pool = 'honest'), $budget, 'takes the rule of the meantime', 10);
}

# Connections that follow nothing are none the fewer for its not knowing them yet.
my @strangers = map { Peer->new($node) } 1 .. 6;
wait_for_query($node, 'SELECT outside >= 6 FROM pgpool_monitor.info', 't', 'strangers are counted');
wait_until(sub { $honest->report(max => 30, in_use => 1, waiting => 30);
	return of_instance('h', 'allotted = occupied AND allotted BETWEEN 10 AND 19') eq 't'; }, 'one pool may have the rest');
my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
kill 'TERM', $worker;
wait_for_query($node, "SELECT worker_pid <> $worker FROM pgpool_monitor.info", 't', 'yet another worker');
settle();
cmp_ok(of_instance('h', 'occupied'), '<=', 19, 'does not give away what they have');
$_->end for @strangers;

# --- a rule with a mistake, taken out again

reload_with('pgpool_monitor.rules' => '');
reload_with('pgpool_monitor.rules' => 'honest 40');
wait_for_query($node, 'SELECT rules_error FROM pgpool_monitor.info', qr/^At character 8/, 'a mistake is shown');
$node->adjust_conf('postgresql.conf', 'pgpool_monitor.rules', undef);
$node->reload;
wait_for_query($node, 'SELECT rules_error IS NULL FROM pgpool_monitor.info', 't', 'until it is gone');

# --- from observe to share

# What the pools hold is theirs: it is not also taken from them as if strangers had it.
reload_with('pgpool_monitor.mode' => 'observe');
my @many = map { Peer->new($node, pool => 'honest', instance => "h;$share") } 1 .. 17;
$honest->report(max => 20, in_use => 18);
wait_for_query($node, 'SELECT outside >= 18 AND capacity <= 7 FROM pgpool_monitor.info', 't', 'a pool that is only observed takes from capacity');
reload_with('pgpool_monitor.mode' => 'share');
wait_until(sub { $honest->say('SELECT 1'); return $honest->allotment->{limit} > 0; }, 'it is shared with');
cmp_ok($honest->allotment->{limit}, '>=', 18, 'and may keep what it has');
settle();
cmp_ok(of_instance('h', 'allotted'), '>=', 18, 'for good');

# --- off takes all limits back, so that none is taken for known afterwards

$honest->report(max => 20, in_use => 18);
reload_with('pgpool_monitor.mode' => 'off');
wait_for_query($node, 'SELECT bool_and(state = \'off\') FROM pgpool_monitor.instances', 't', 'off');
$honest->say('SELECT 1');
is($honest->allotment->{limit}, -1, 'no limit');
settle_off();
reload_with('pgpool_monitor.mode' => 'share', 'pgpool_monitor.rules' => 'honest=5');
wait_for_query($node, q(SELECT allotted FROM pgpool_monitor.instances WHERE instance = 'h'), 5, 'share, with less');
$_->end for @many;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'h'), 1, 'most sessions end');
settle();
is(of_instance('h', 'occupied'), 20, 'who has not heard of it may still have as many as he ever wanted');
$honest->report(max => 20, in_use => 1);
$honest->report(max => 20, in_use => 1);
is(of_instance('h', 'occupied'), 5, 'who has may not');
$honest->end;

# While it is off nothing is counted; the worker has seen it once its rounds stand still.
sub settle_off
{
	my $rounds = -1;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		sub {
			my $now = ask('SELECT rounds FROM pgpool_monitor.info, pg_sleep(0.3)');
			my $still = $now == $rounds;
			$rounds = $now;
			return $still;
		},
		'the worker rests');
	return;
}

$node->stop('fast');
done_testing();
