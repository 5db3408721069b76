# History and advice. By hand: what an instance counts is counted once, whoever dies or comes back; what each verdict wants; who
# may see it. Then a load of known rate, whose figures and verdicts have to come out of it.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('history',
	max_connections => 100,
	autovacuum => 'off',
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.lease' => '3s',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.history_interval' => '200ms',
	'pgpool_monitor.history_size' => '2MB',
	'pgpool_monitor.max_pools' => 32);

sub ask
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# What history has counted of a pool so far.
sub counted
{
	my ($pool) = @_;

	return ask("SELECT sum(acquires) FROM pgpool_monitor.history WHERE pool = '$pool'");
}

# Until a pool, or the first that is there, has been sampled n times more.
sub sampled
{
	my ($n, $pool) = @_;
	my $count = "SELECT count(*) FROM pgpool_monitor.history" . ($pool ? " WHERE pool = '$pool'" : '');
	my $from = ask($count);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { return ask($count) >= $from + $n; }, "$n more samples");
	return;
}

# --- nothing is counted twice, and nothing by mistake

my $a = Peer->new($node, pool => 'byhand', instance => 'a;report=1');
sampled(2, 'byhand');
is(ask(q(SELECT DISTINCT in_use IS NULL AND idle IS NULL AND waiting IS NULL AND demand IS NULL AND leaks IS NULL AND max_size IS NULL
	AND allotted IS NULL AND acquires IS NULL AND arrivals IS NULL AND hold_mean_time IS NULL AND sessions = 1 AND instances = 1
	FROM pgpool_monitor.history)), 't', 'before its first report nothing is known of a pool but what the server sees');
is(ask(q(SELECT bool_and(advice IS NULL AND size = 1 AND size_recommended IS NULL AND confidence IS NULL AND since IS NULL
	AND reason = 'not enough data: its instances do not report') FROM pgpool_monitor.advice)), 't', 'and there is no advice');

$a->report(max => 10, idle => 4, in_use => 1, waiting => 2, acquires => 1000, timeouts => 7, open_failures => 3, wait => '0:900,13:107',
	hold => '10:900', opened => 1);
wait_until(sub { return counted('byhand') == 1000; }, 'all that it had done when it first reported is counted');
my $base = 1000;
is(ask(q(SELECT in_use, idle, waiting, demand, max_size FROM pgpool_monitor.history ORDER BY sample_time DESC LIMIT 1)), '1|4|2|3|10',
	'what it says now is in the sample');

$a->report(max => 10, idle => 5, acquires => 1500, timeouts => 8, open_failures => 3, wait => '0:1400,13:108', hold => '10:1000,11:400');
wait_until(sub { return counted('byhand') == $base + 500; }, 'what it did since the last sample is counted');
is(ask(q(SELECT acquires, arrivals, timeouts, open_failures, holds, wait_p50_time <= 0.001, wait_mean_time BETWEEN 0.005 AND 0.02,
	hold_mean_time BETWEEN 0.5 AND 1.5, abs(hold_total_time - holds * hold_mean_time) < 1 FROM pgpool_monitor.history WHERE acquires = 500)),
	'500|501|1|0|500|t|t|t|t', 'with waits and holds') or diag(ask('TABLE pgpool_monitor.history'));
sampled(3, 'byhand');
is(counted('byhand'), $base + 500, 'once');
is(ask('SELECT count(*) FROM pgpool_monitor.history WHERE acquires < 0 OR holds < 0 OR timeouts < 0'), 0, 'never below zero');

# Counters that go back: it has begun anew, and all of it is new.
$a->report(max => 10, idle => 5, acquires => 10, timeouts => 8, hold => '10:10');
wait_until(sub { return counted('byhand') == $base + 510; }, 'who begins anew takes nothing away');
$a->report(max => 10, idle => 5, acquires => 30, timeouts => 8, hold => '10:30');
wait_until(sub { return counted('byhand') == $base + 530; }, 'and goes on from there');

# One that has been elsewhere comes with counters that are not of now; so may one that does not say what it has opened.
for my $case ([ 'elsewhere', opened => 2 ], [ 'mute' ])
{
	my ($name, @opened) = @$case;
	my $old = Peer->new($node, pool => $name, instance => "$name;report=1");
	$old->report(max => 10, idle => 5, acquires => 1000000000, hold => '10:1000000000', @opened);
	sampled(3, $name);
	is(counted($name), 0, "$name: who comes with a past does not bring it");
	$old->report(max => 10, idle => 5, acquires => 1000000005, hold => '10:1000000005', @opened);
	wait_until(sub { return counted($name) == 5; }, "$name: but is counted from then on");
	is(ask("SELECT acquires FROM pgpool_monitor.counters WHERE pool = '$name'"), 1000000005, "$name: counters have it all");
	$old->report(max => 10, idle => 5, acquires => 1000000008, hold => '10:1000000008', @opened);
	$old->kill;
	wait_for_query($node, "SELECT count(*) FROM pgpool_monitor.instances WHERE pool = '$name'", 0, "$name: it dies");
	wait_until(sub { return counted($name) == 8; }, "$name: and takes nothing with it");
}

# The worker is replaced while something is counted: nothing is lost, and nothing counted again.
my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
$a->report(max => 10, idle => 5, acquires => 31, timeouts => 8, hold => '10:31');
kill 'TERM', $worker;
kill 'CONT', $worker;
wait_for_query($node, "SELECT worker_pid <> $worker FROM pgpool_monitor.info", 't', 'another worker');
wait_until(sub { return counted('byhand') == $base + 531; }, 'has what was counted meanwhile');
sampled(3, 'byhand');
is(counted('byhand'), $base + 531, 'once');
is(ask('SELECT count(*) FROM pgpool_monitor.history WHERE pool = \'byhand\' AND interval_time IS NULL'), 0, 'and knows since when');

# Between two samples: a reset, and pools of which nothing is left but what they counted.
PgpoolMonitor::set($node, 'pgpool_monitor.history_interval' => '1h');
$node->reload;
wait_for_query($node, 'SHOW pgpool_monitor.history_interval', '1h', 'a long time between samples');
wait_for_query($node, q(SELECT max(sample_time) < now() - interval '1 s' FROM pgpool_monitor.history), 't', 'there are none now');
$a->report(max => 10, idle => 5, acquires => 35, timeouts => 8, hold => '10:35');
ask('SELECT pgpool_monitor.reset()');
$a->report(max => 10, idle => 5, acquires => 40, timeouts => 8, hold => '10:40');
ask('SELECT pgpool_monitor.reset()');
for my $i (1 .. 2)
{
	my $short = Peer->new($node, pool => 'short', instance => "s$i;report=1");
	$short->report(max => 10, acquires => 3, opened => 1, hold => '10:3');
	$short->report(max => 10, acquires => 5, opened => 1, hold => '10:5', bye => 1);
	$short->end;
	wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.instances WHERE pool = 'short'), 0, 'one that is soon gone');
}
PgpoolMonitor::set($node, 'pgpool_monitor.history_interval' => '200ms');
$node->reload;
wait_until(sub { return counted('byhand') == $base + 540; }, 'resets take nothing away');
is(ask(q(SELECT instances, sessions, in_use IS NULL, acquires, holds FROM pgpool_monitor.history WHERE pool = 'short')), '0|0|t|10|10',
	'and what the dead have counted last is there');
sampled(3, 'byhand');
is(counted('byhand') . ' ' . counted('short'), $base + 540 . ' 10', 'once');

# Few acquires are no ground for advice. (Those of its first report, if they were counted, are far more than it takes.)
my $quiet = Peer->new($node, pool => 'quiet', instance => 'q;report=1');
$quiet->report(max => 10, idle => 1, acquires => 5, hold => '10:5');
wait_for_query($node, q(SELECT advice IS NULL AND confidence IS NULL AND size = 10 AND size_recommended IS NULL
	AND wait_at_recommended_time IS NULL AND reason LIKE 'not enough data: % of at least 100 acquires' FROM pgpool_monitor.advice
	WHERE pool = 'quiet' AND samples >= 10), 't', 'five acquires: not enough data');

# All lent, nobody works, others wait: a leak, whatever the arrivals.
my $leaky = Peer->new($node, pool => 'leaky', instance => 'l;report=1');
$leaky->report(max => 10, in_use => 10, waiting => 3, leaks => 8, acquires => 20, timeouts => 5, wait => '0:10,24:15', hold => '10:10');
sampled(2, 'leaky');
$leaky->report(max => 10, in_use => 10, waiting => 3, leaks => 9, acquires => 20, timeouts => 30, wait => '0:10,24:40', hold => '10:10');
wait_for_query($node, q(SELECT advice, confidence, reason LIKE '% connections are lent, %; 9 are out for too long', size_recommended IS NULL
	FROM pgpool_monitor.advice WHERE pool = 'leaky'), 'fix_leak|medium|t|t', 'a leak')
	or diag(ask(q(SELECT * FROM pgpool_monitor.advice WHERE pool = 'leaky')));
is(ask('SELECT pool FROM pgpool_monitor.advice LIMIT 1'), 'leaky', 'and it comes first');
is(ask('SELECT count(*) FROM pgpool_monitor.advice'), 6, 'a row for each pool');

nulls_are_documented($node, 'with all kinds of samples');

# --- who may see it

ask('CREATE ROLE stranger LOGIN; CREATE ROLE owner LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');
my $own = Peer->new($node, pool => 'own', instance => 'o;report=1', user => 'owner');
wait_for_query($node, q(SELECT count(*) > 0 FROM pgpool_monitor.history WHERE pool = 'own'), 't', 'a pool of another role');
for my $view (qw(history advice))
{
	my %seen = map { $_ => $node->safe_psql('postgres', "SELECT string_agg(DISTINCT pool, ',' ORDER BY pool) FROM pgpool_monitor.$view",
		connstr => $node->connstr('postgres') . " user=$_") } qw(stranger owner watcher);

	is($seen{stranger}, '', "$view: a stranger sees nothing");
	is($seen{owner}, 'own', "$view: a role its own");
	is($seen{watcher}, 'byhand,elsewhere,leaky,mute,own,quiet,short', "$view: pg_monitor all");
}
$_->end for $a, $quiet, $leaky, $own;

# --- a load: 100 callers a second, of whom 3 hold a connection at any time

my $offset = ask('SELECT clock_timestamp()');
my ($roomy, $roomy_output) = start_program($node, 'arrivals', 100, 30, 'exponential', 'pool_name=roomy pool_max_size=40 pool_min_size=4');
my ($tight, $tight_output) = start_program($node, 'arrivals', 100, 30, 'constant', 'pool_name=tight pool_max_size=2 pool_max_waiters=1000 pool_acquire_timeout=60s');
wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.advice WHERE pool IN ('roomy', 'tight') AND samples >= 40 AND advice IS NOT NULL),
	2, 'both have advice', 120);

# Their rounds are the same, each with one row for each pool.
is(ask(q(SELECT count(*) FROM (SELECT 1 FROM pgpool_monitor.history GROUP BY sample_time, pool HAVING count(*) > 1) AS twice)), 0,
	'no pool comes twice in a round');
is(ask(q(SELECT count(*) FROM pgpool_monitor.history one WHERE pool = 'roomy'
	AND sample_time > (SELECT min(sample_time) FROM pgpool_monitor.history WHERE pool = 'tight')
	AND sample_time < (SELECT max(sample_time) FROM pgpool_monitor.history WHERE pool = 'tight')
	AND NOT EXISTS (SELECT 1 FROM pgpool_monitor.history other WHERE pool = 'tight' AND other.sample_time = one.sample_time))), 0,
	'and none is left out');
is(ask('SELECT count(*) FROM pgpool_monitor.history WHERE omitted > 0'), 0, 'there is room for all');

my $figures = ask(q(SELECT pool, advice, reason, size, size_recommended, arrival_rate, hold_mean_time, utilization, wait_measured_time,
	wait_predicted_time, wait_at_recommended_time, confidence, samples FROM pgpool_monitor.advice WHERE pool IN ('roomy', 'tight')));
note($figures);

is(ask(q(SELECT size, size_recommended BETWEEN 4 AND 40, utilization BETWEEN 0.02 AND 0.9, hold_mean_time BETWEEN 20 AND 200
	FROM pgpool_monitor.advice WHERE pool = 'roomy')), '40|t|t|t', 'roomy: the figures are sane') or diag($figures);
like(ask(q(SELECT advice FROM pgpool_monitor.advice WHERE pool = 'roomy')), qr/^(?:shrink_pool|none)$/, 'and so is the advice') or diag($figures);
is(ask(q(SELECT advice, confidence, size, size_recommended > 2, utilization > 0.8, wait_at_recommended_time < 100
	FROM pgpool_monitor.advice WHERE pool = 'tight')), 'raise_budget|low|2|t|t|t', 'tight: raise, and it may be more') or diag($figures);
like(ask(q(SELECT reason FROM pgpool_monitor.advice WHERE pool = 'tight')), qr/its own limit\); at least \d+ would do/, 'with the reason');

for my $program ($roomy, $tight)
{
	$program->signal('TERM');
	$program->finish;
}

# What a program says of itself at its end.
sub said
{
	my ($output, $figure) = @_;
	my ($said) = $$output =~ /^$figure:([\d.]+)/m;

	return $said;
}

# --- what is predicted, and what callers had to wait

# Within a factor: is one number that of another, more or less?
sub about
{
	my ($got, $expected, $factor, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($got < $expected * $factor && $expected < $got * $factor, sprintf '%s: %.3f, and is %.3f (at most by %.2f)', $what, $got, $expected, $factor);
	return;
}

# How far the mean wait of so many callers is from that of the same queue in the long run: standard deviation by mean. Utilization u
# of c connections, C being the probability of having to wait (Erlang): of M/M/1 it is known (W. Whitt, "Planning queueing
# simulations", 1989); for others (2 / C - 1) is what simulations with 1 to 10 connections at 0.5 to 0.8 say, within a fifth.
sub luck
{
	my ($c, $u, $callers) = @_;
	my $b = 1;

	$b = $u * $c * $b / ($_ + $u * $c * $b) for 1 .. $c;
	return sqrt(2 * (1 + $u) / ($u * (1 - $u)**2) * (2 * (1 - $u * (1 - $b)) / $b - 1) / ($callers / $u));
}

# Holds are as long as this machine makes them; so many callers come that they keep 0.65 of the connections busy. A machine that
# stands still, so that all callers of that time come at once, is no such load, and says so.
my $size = 4;
my ($trial, $trial_output) = start_program($node, 'arrivals', 50, 20, 'constant', 'pool_name=trial pool_max_size=20');
wait_for_query($node, q(SELECT sum(holds) > 100 FROM pgpool_monitor.history WHERE pool = 'trial'), 't', 'how long a hold is here');
$trial->signal('TERM');
$trial->finish;
my $hold = said($trial_output, 'hold');
for my $try (1 .. 4)
{
	my ($program, $output) = start_program($node, 'arrivals', 0.65 * $size / $hold * 1000, 20, 'exponential',
		"pool_name=steady$try pool_max_size=$size pool_min_size=$size pool_max_waiters=5000 pool_acquire_timeout=60s");
	wait_for_query($node, "SELECT sum(arrivals) > 5000 FROM pgpool_monitor.history WHERE pool = 'steady$try'", 't', 'callers have come', 300);
	$program->signal('TERM');
	$program->finish;
	note("by itself: $$output");
	my $stood_still = said($output, 'late') > 100 || said($output, 'hold') > $hold * 1.3;
	next if $stood_still && $try < 4;

	my $arrivals = said($output, 'arrivals');
	wait_until(sub { return counted("steady$try") == $arrivals; }, 'history has counted whoever came');
	is(ask("SELECT sum(holds) FROM pgpool_monitor.history WHERE pool = 'steady$try'"), $arrivals, 'and each loan');
	my ($mean_hold, $u, $waited, $predicted) = split /\|/, ask("SELECT hold_mean_time, utilization, wait_measured_time,
		wait_predicted_time FROM pgpool_monitor.advice WHERE pool = 'steady$try'");
	# a hold or a wait of seconds among many of milliseconds is known no better than its bucket is wide
	about($mean_hold, said($output, 'hold'), $stood_still ? 2 : 1.03, 'the mean hold is known from buckets');
	about($waited, said($output, 'wait'), $stood_still ? 2 : 1.1, 'and the mean wait');
	SKIP:
	{
		skip('the machine stood still all the time', 1) if $stood_still;
		about($predicted, $waited, 1.15 * exp(4 * luck($size, $u, $arrivals)), 'the wait predicted');
	}
	last;
}


# --- little room, and none

is(ask(qq(SELECT count(DISTINCT sample_time) > 10 FROM pgpool_monitor.history WHERE sample_time < '$offset')), 't', 'the past is still there');
PgpoolMonitor::set($node, 'pgpool_monitor.history_size' => '1kB');
$node->restart;
my $late = Peer->new($node, pool => 'late', instance => 'a;report=1');
sampled(3, 'late');
my $then = ask('SELECT clock_timestamp()');
wait_for_query($node, qq(SELECT min(sample_time) > '$then' AND count(*) > 2 FROM pgpool_monitor.history), 't',
	'with little room the oldest are evicted');
$late->end;
PgpoolMonitor::set($node, 'pgpool_monitor.history_size' => 0);
$node->restart;
$late = Peer->new($node, pool => 'late', instance => 'a;report=1');
wait_for_query($node, 'SELECT rounds > 5 FROM pgpool_monitor.info', 't', 'without room the worker works');
is(ask('SELECT (SELECT count(*) FROM pgpool_monitor.history), (SELECT count(*) FROM pgpool_monitor.advice)'), '0|0', 'and there is nothing to see');
$late->end;

$node->stop('fast');
done_testing();
