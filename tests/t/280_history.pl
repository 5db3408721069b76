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

# Its first report counts from zero if it comes soon after its first session; on a slow machine it does as well as it can.
$a->report(max => 10, idle => 4, in_use => 1, waiting => 2, acquires => 1000, timeouts => 7, open_failures => 3, wait => '0:900,13:107',
	hold => '10:900');
wait_for_query($node, q(SELECT count(*) > 2 FROM pgpool_monitor.history WHERE acquires IS NOT NULL), 't', 'it reports, and is counted');
my $base = counted('byhand');
ok($base == 1000 || $base == 0, "all that it had done when it joined is counted, or nothing: $base");
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

# Counters that go back: nothing is known of that one, and it goes on from there.
$a->report(max => 10, idle => 5, acquires => 10, timeouts => 8, hold => '10:10');
sampled(3, 'byhand');
$a->report(max => 10, idle => 5, acquires => 30, timeouts => 8, hold => '10:30');
wait_until(sub { return counted('byhand') == $base + 520; }, 'counters that go back take nothing away, and go on from there');

# One that has been elsewhere for long comes with counters that are not of now.
$a->{seq} = 100000;
my $old = Peer->new($node, pool => 'byhand', instance => 'old;report=1');
$old->{seq} = 100000;
$old->report(max => 10, idle => 5, acquires => 1000000000, hold => '10:1000000000');
sampled(3, 'byhand');
is(counted('byhand'), $base + 520, 'who comes with a past does not bring it');
$old->report(max => 10, idle => 5, acquires => 1000000005, hold => '10:1000000005');
wait_until(sub { return counted('byhand') == $base + 525; }, 'but is counted from then on');
$old->kill;
wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'old'), 0, 'it dies');
sampled(3, 'byhand');
is(counted('byhand'), $base + 525, 'and takes nothing with it');

# The worker is replaced: what it knew is gone, what was counted is not.
my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
ask("SELECT pg_terminate_backend($worker)");
wait_for_query($node, "SELECT worker_pid <> $worker FROM pgpool_monitor.info", 't', 'another worker');
sampled(3, 'byhand');
is(counted('byhand'), $base + 525, 'it counts nothing again');
$a->report(max => 10, idle => 5, acquires => 31, timeouts => 8, hold => '10:31');
wait_until(sub { return counted('byhand') == $base + 526; }, 'and goes on counting');

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
is(ask(q(SELECT count(*) FROM pgpool_monitor.advice) ), 3, 'a row for each pool');

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
	is($seen{watcher}, 'byhand,leaky,own,quiet', "$view: pg_monitor all");
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
my $sums = ask(q(SELECT sum(arrivals) FROM pgpool_monitor.history WHERE pool = 'roomy'));
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
my ($arrivals) = $$roomy_output =~ /^arrivals:(\d+)/m;
my ($rate) = $$roomy_output =~ /^rate:([\d.]+)/m;
my ($measured) = $figures =~ /^roomy\|(?:[^|]*\|){4}([\d.]+)/m;
cmp_ok($sums, '<=', $arrivals, 'what history counted is not more than what came');
cmp_ok($measured, '>', $rate / 2, 'the rate it measured is that of the program');
cmp_ok($measured, '<', $rate * 2, 'more or less');
note("roomy, by itself: $$roomy_output");

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
