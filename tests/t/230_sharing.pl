# Sharing, by hand: nothing is given before it is there, whatever the clients do or fail to do.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('sharing',
	max_connections => 30,    # 3 reserved, 2 headroom: 25, less the one or two of this test
	autovacuum => 'off',
	'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.headroom' => 2,
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.health_enter' => 0,
	'pgpool_monitor.health_leave' => 0);
my $share = 'follow=1;report=1';

sub allotted
{
	my ($id) = @_;

	return $node->safe_psql('postgres', "SELECT allotted FROM pgpool_monitor.instances WHERE instance = '$id'");
}

sub rounds
{
	return $node->safe_psql('postgres', 'SELECT rounds FROM pgpool_monitor.info');
}

# Until the worker has looked at least twice more: what it was going to do it has done.
sub settle
{
	my $from = rounds();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { return rounds() > $from + 2; }, 'the worker has looked');
	return;
}

# The sum of occupancies fits, by the server's own count, now; but for the first sessions of newcomers, which headroom is for.
sub fits
{
	my ($what, $newcomers) = @_;
	$newcomers //= 0;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', qq(SELECT (SELECT coalesce(sum(occupied), 0) FROM pgpool_monitor.instances)
		<= (SELECT max_connections - reserved - headroom + $newcomers FROM pgpool_monitor.info))), 't', $what);
	return;
}

# --- a second one comes: the first must give back first

my $a = Peer->new($node, pool => 'orders', instance => "a;$share");
$a->report(max => 40, in_use => 1, waiting => 39);
wait_for_query($node, q(SELECT allotted >= 20 FROM pgpool_monitor.instances WHERE instance = 'a'), 't', 'alone, it may have nearly all');
$a->report(max => 40, in_use => 1, waiting => 39);

my $b = Peer->new($node, pool => 'web', instance => "b;$share");
is($b->allotment->{limit}, 1, 'a newcomer has its first connection at once');
$b->report(max => 40, in_use => 1, waiting => 39);
wait_for_query($node, q(SELECT allotted FROM pgpool_monitor.instances WHERE instance = 'a'), qr/^1[0-3]$/, 'the first is told to give half back');
settle();
is(allotted('b'), 1, 'which the second does not get before it was');
fits('what the first may still believe is counted', 1);
wait_for_query($node, q(SELECT health FROM pgpool_monitor.pools WHERE pool = 'web'), 'starved', 'and the view says who starves');

$a->say('SELECT 1');
cmp_ok($a->allotment->{limit}, '<=', 13, 'the first is told by its next command');
$a->report(max => 40, in_use => 1, waiting => 39);
wait_for_query($node, q(SELECT allotted FROM pgpool_monitor.instances WHERE instance = 'b'), qr/^1[0-3]$/, 'acknowledged: the second has its half');
fits('and the sum fits');

# --- a weight, a budget, a floor

PgpoolMonitor::set($node, 'pgpool_monitor.rules' => 'orders=-:weight=3, web=-:weight=1');
$node->reload;
wait_until(sub { $_->report(max => 40, in_use => 1, waiting => 39) for $a, $b; return allotted('a') >= 16; }, 'a weight of three to one');
cmp_ok(allotted('b'), '<=', 7, 'is what they get');
PgpoolMonitor::set($node, 'pgpool_monitor.rules' => 'orders=5');
$node->reload;
wait_until(sub { $_->report(max => 40, in_use => 1, waiting => 39) for $a, $b; return allotted('a') == 5 && allotted('b') >= 17; },
	'a budget bounds one, and the other gets the rest') or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.limits'));
PgpoolMonitor::set($node, 'pgpool_monitor.rules' => '');
$node->reload;
fits('and the sum fits');

# --- silence

$b->report(bye => 1);
$b->end;
wait_until(sub { $a->report(max => 40, in_use => 1, waiting => 39); return allotted('a') >= 20; }, 'who says goodbye frees what he had at once');

PgpoolMonitor::set($node, 'pgpool_monitor.lease' => '3s');
$node->reload;
wait_for_query($node, 'SELECT lease_time FROM pgpool_monitor.info', 3000, 'a short lease');
$a->report(max => 40, in_use => 1, waiting => 39);
my @more = map { Peer->new($node, pool => 'orders', instance => "a;$share") } 1 .. 4;
$b = Peer->new($node, pool => 'web', instance => "b2;$share");
wait_until(sub { $b->report(max => 40, in_use => 1, waiting => 39); return allotted('b2') >= 15; },
	'what a silent one does not use goes to others when its lease is over') or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.instances'));
is(allotted('a'), 5, 'and it keeps what it holds');
fits('and the sum fits');
$a->report(max => 40, in_use => 5, waiting => 35);
cmp_ok($a->allotment->{limit}, '<=', 13, 'back from its silence it hears that at once, with the answer');
cmp_ok($a->allotment->{limit}, '>=', 5, 'and not less than it holds');
wait_until(sub { $_->report(max => 40, in_use => 5, waiting => 35) for $a, $b; return allotted('a') >= 10; }, 'and gets its share again');

# A client that is killed frees what it held at once, and what it could have held when its lease is over.
$_->kill for $a, @more;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'a'), 0, 'a killed client holds nothing');
wait_for_query($node, q(SELECT health, in_use, waiting FROM pgpool_monitor.pools WHERE pool = 'orders'), 'stale|0|0',
	'what it said last is not taken for what is');
wait_until(sub { $b->report(max => 40, in_use => 1, waiting => 39); return allotted('b2') >= 20; }, 'its share goes to the others');
wait_until(
	sub {
		$b->report(max => 40, in_use => 1, waiting => 39);
		return $node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'a')) == 0;
	},
	'and after two leases it is forgotten');

# --- more instances than connections

# Asked by one session that stays: one that comes and goes would change the capacity that the queue is about.
my $watch = Peer->new($node);

PgpoolMonitor::set($node, 'pgpool_monitor.headroom' => 22, 'pgpool_monitor.lease' => '1h');
$node->reload;
wait_until(sub { return $watch->say('SELECT capacity = 4 AND lease_time > 4000 FROM pgpool_monitor.info') eq 't'; }, 'hardly any capacity');
my @crowd;
for my $i (1 .. 8)
{
	my $peer = Peer->new($node, pool => 'crowd', instance => "c$i;$share");
	$peer->report(max => 10, in_use => 1, waiting => 5);
	push @crowd, $peer;
}

sub is_queued
{
	return $_[0]->allotment->{state} eq 'queued' && $_[0]->allotment->{limit} == 0;
}

wait_until(
	sub {
		$_->report(max => 10, in_use => 1, waiting => 5) for @crowd, $b;
		return $crowd[0]->allotment->{state} eq 'ok' && is_queued($crowd[7]) && $watch->say(q(SELECT bool_and(acknowledged)
			AND count(*) FILTER (WHERE state = 'ok') = 4 FROM pgpool_monitor.instances WHERE pool <> 'orders')) eq 't';
	},
	'as many as fit have something, and all have heard how little')
	or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.limits; TABLE pgpool_monitor.instances; TABLE pgpool_monitor.info'));
is($watch->say(q(SELECT queued > 0 AND reason LIKE '% wait for their first connection' FROM pgpool_monitor.limits
	WHERE pool = 'crowd')), 't', 'limits says so');

# The queue is kept in order: when the first leave, the next have their turn.
my ($next) = grep { is_queued($crowd[$_]) } 0 .. 7;
is($next, 3, 'the queue begins where capacity ends: one of web and three of the crowd have theirs');
is(scalar(grep { !is_queued($crowd[$_]) } $next .. 7), 0, 'and goes on to the last');

# Who is queued lets go of what he holds, and asks again by knocking; his place outlives his session.
sub knock
{
	my ($i) = @_;
	my $peer = Peer->new($node, pool => 'crowd', instance => 'c' . ($i + 1) . ";$share;kind=knock");

	$peer->{seq} = $crowd[$i]{seq};
	$peer->report(max => 10, in_use => 0, waiting => 5);
	$crowd[$i]{seq} = $peer->{seq};
	$peer->end;
	return $peer->allotment;
}

$_->end for @crowd[ $next .. 7 ];
is(knock($next)->{state}, 'queued', 'who knocks while it is full stays queued');
is(knock(7)->{limit}, 0, 'with nothing');
$crowd[0]->report(bye => 1);
$crowd[0]->end;
wait_until(sub { knock(7); my $told = knock($next); return $told->{state} eq 'ok' && $told->{limit} == 1; }, 'the first of the queue is next')
	or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.limits; TABLE pgpool_monitor.instances; TABLE pgpool_monitor.info'));
is(knock(7)->{state}, 'queued', 'not the last, however often it knocks');
$_->end for @crowd[ 1 .. $next - 1 ];
$b->end;
$watch->end;

is($node->safe_psql('postgres', 'SELECT excess_peak > 0 FROM pgpool_monitor.info'), 't',
	'that more was held than there was, when the headroom was raised, is on record');

$node->stop('fast');
done_testing();
