# Health: each verdict provoked for real, by programs that do what such programs do; and what only looks like it is called nothing.

use strict;
use warnings;

use IO::Handle;
use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('health',
	max_connections => 80,
	autovacuum => 'off',
	deadlock_timeout => '10ms',
	'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.rules' => 'hungry=1',
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.retry_interval' => '300ms',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.leak_time' => '400ms',
	'pgpool_monitor.blocked_time' => '300ms',
	'pgpool_monitor.health_enter' => '1h',
	'pgpool_monitor.health_leave' => '1h');
my %borrower;

# A program that borrows from the pool of this name; tell() says what.
sub borrower
{
	my ($pool, $options) = @_;
	my $program = { };

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	$program->{pid} = open $program->{in}, '|-', "$ENV{STAGE_OUT}/programs/borrower", "pool_name=$pool $options"
		or die "cannot start borrower: $!";
	$program->{in}->autoflush;
	$borrower{$pool} = $program;
	return;
}

sub tell_borrower
{
	my ($pool, @lines) = @_;

	print { $borrower{$pool}{in} } "$_\n" for @lines;
	return;
}

sub signal_borrower
{
	my ($pool, $signal) = @_;

	kill $signal, $borrower{$pool}{pid};
	return;
}

sub figure
{
	my ($pool, $column) = @_;

	return $node->safe_psql('postgres', "SELECT $column FROM pgpool_monitor.pools WHERE pool = '$pool'");
}

sub reload_with
{
	my (%settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$node->reload;
	return;
}

sub becomes
{
	my ($pool, $health, $reason, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_query($node, "SELECT concat(health, ': ', reason) FROM pgpool_monitor.pools WHERE pool = '$pool'", qr/^$health: $reason$/, $what)
		or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.pools; TABLE pgpool_monitor.instances; TABLE pgpool_monitor.sessions'));
	return;
}

# Lines of the log that tell of a pool's change between two verdicts.
sub told
{
	my ($pool, $from, $to) = @_;
	my @lines = slurp_file($node->logfile) =~ /LOG:  pool "$pool" \(role "\w+", database "postgres"\): $from -> $to(?: in \d+ changes)?(?:: ([^\n]*))?\n/g;

	return @lines;
}

sub told_once
{
	my ($pool, $health) = @_;
	my @lines;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { @lines = told($pool, 'ok', $health); return @lines > 0; }, "$pool: the log says so");
	is(scalar @lines, 1, "$pool: once");
	is(scalar(told($pool, '\w+', '\w+')), 1, "$pool: and nothing else of it");
	return $lines[0];
}

# --- what is wrong, all at once: no pool is another's excuse

$node->safe_psql('postgres', 'CREATE TABLE contested ()');
$node->safe_psql('postgres', 'CREATE ROLE locked_out LOGIN');
my $locker = Peer->new($node);
$locker->say('BEGIN');
$locker->say('LOCK TABLE contested');

borrower('leaky', 'pool_max_size=20 pool_leak_after=300ms');
borrower('batch', 'pool_max_size=3 pool_leak_after=300ms');
borrower('listener', 'pool_max_size=3 pool_leak_after=300ms');
borrower('obstructed', 'pool_max_size=3');
borrower('undecided', 'pool_max_size=2');
borrower('hungry', 'pool_max_size=5');
borrower('full', 'pool_max_size=2');
borrower('silent', 'pool_min_size=1');
borrower('shut', 'pool_min_size=2 user=locked_out');
borrower('well', 'pool_max_size=3 pool_min_size=1');

tell_borrower('batch', 'keep 1 SELECT pg_sleep(3600)');
tell_borrower('listener', 'keep 1 LISTEN news');
tell_borrower('well', 'keep 2');
tell_borrower('obstructed', 'run 5 SELECT * FROM contested');
tell_borrower('undecided', 'keep 2 BEGIN');
tell_borrower('hungry', 'keep 4');
tell_borrower('full', 'keep 5');
tell_borrower('leaky', 'keep 9');
wait_for_query($node, q(SELECT in_use FROM pgpool_monitor.pools WHERE pool = 'leaky'), 9, 'nine loans');
tell_borrower('leaky', 'hoard 3');
wait_for_query($node, q(SELECT in_use FROM pgpool_monitor.pools WHERE pool = 'undecided'), 2, 'two transactions');
tell_borrower('undecided', 'run 1 SELECT 1');

# Nothing is believed before all of it is there: how a machine under load gets there is its own business.
my @ill = (
	[ 'leaky', 'leaking', '12 loans over \d+ m?s, server idle; 8 at borrower\.c:\d+', 'a leak, of twelve loans of which a report names eight' ],
	[ 'obstructed', 'blocked', '2 wait; 3 in use, 3 blocked by locks, for up to \d+ m?s', 'blocked by a lock, and not saturated' ],
	[ 'undecided', 'blocked', '1 waits; 2 in use, 2 idle in transaction, for up to \d+ m?s', 'blocked by its own idle transactions' ],
	[ 'hungry', 'starved', '3 wait; wants 4, may hold 1 \(rule hungry=1\)', 'starved by its rule' ],
	[ 'full', 'saturated', '3 wait; wants 5, its own limit is 2', 'saturated' ]);
becomes($_->[0], 'ok', "now $_->[1]: $_->[2]", "$_->[3]: so far for a moment only") for @ill;
is(scalar(told('\w+', '\w+', '\w+')), 0, 'and the log says nothing yet');
reload_with('pgpool_monitor.health_enter' => '500ms');
becomes(@{$_}) for @ill;

wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.pools WHERE pool = 'shut'), 2, 'one whose role is about to be locked out');
wait_for_query($node, q(SELECT bool_and(acknowledged) FROM pgpool_monitor.instances WHERE pool = 'shut'), 't', 'and has reported');
$node->safe_psql('postgres', 'ALTER ROLE locked_out NOLOGIN');
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(min(pid)) FROM pgpool_monitor.sessions WHERE pool = 'shut'));
becomes('shut', 'failing', 'holds \d, none opens: \d+ attempts failed since one worked, in 1 of 1 instance', 'failing');

becomes('silent', 'ok', '', 'one that is well');
signal_borrower('silent', 'STOP');
becomes('silent', 'stale', '1 of 1 reporting instance is silent', 'until it is stopped');

push @ill, [ 'shut', 'failing', 'holds \d, none opens: \d+ attempts failed since one worked, in 1 of 1 instance' ],
	[ 'silent', 'stale', '1 of 1 reporting instance is silent' ];
like(told_once($_->[0], $_->[1]), qr/^$_->[2]$/, "$_->[0]: with the reason") for @ill;

is($node->safe_psql('postgres', q(SELECT string_agg(health, ' ') FROM (SELECT health FROM pgpool_monitor.pools WHERE health <> 'ok') p)),
	'failing starved saturated leaking blocked blocked stale', 'worst first');
is($node->safe_psql('postgres', q(SELECT bool_and(since < now() AND since > now() - interval '10 min') FROM pgpool_monitor.pools
	WHERE pool <> '(outside)')), 't', 'each since some time');

nulls_are_documented($node, 'in all states');

# --- what looks like a leak from one side

for my $pool (qw(batch listener))
{
	wait_for_query($node, "SELECT leaks FROM pgpool_monitor.instances WHERE pool = '$pool'", 1, "$pool: the client finds a loan out for too long");
	wait_for_query($node, "SELECT held_time > 3000 FROM pgpool_monitor.sessions WHERE pool = '$pool' AND client_state = 'lent'", 't', "$pool: for long");
	is(figure($pool, 'health'), 'ok', "$pool: is no leak");
	is(scalar(told($pool, '\w+', '\w+')), 0, "$pool: and the log says nothing");
}
is($node->safe_psql('postgres', q(SELECT state FROM pgpool_monitor.sessions WHERE pool = 'listener')), 'idle', 'although the listener is idle');
is(figure('well', 'health'), 'ok', 'loans that no client complains of are no leaks either');

# The same loans, when the query is over and nobody listens any more.
$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pgpool_monitor.sessions WHERE pool = 'batch' AND client_state = 'lent'));
tell_borrower('listener', 'say UNLISTEN *');
becomes('batch', 'leaking', '1 loan over \d+ m?s, server idle; 1 at borrower\.c:\d+', 'a batch that does nothing any more is one');
becomes('listener', 'leaking', '1 loan over \d+ m?s, server idle; 1 at borrower\.c:\d+', 'and so is a listener that does not listen');
reload_with('pgpool_monitor.health_leave' => '1s');
tell_borrower('listener', 'say LISTEN news');
becomes('listener', 'ok', '', 'until it does');

# --- and well again

my $was = figure('full', 'since');
$locker->say('COMMIT');
tell_borrower('undecided', 'say COMMIT', 'give');
tell_borrower('hungry', 'give');
tell_borrower('leaky', 'give');
tell_borrower('batch', 'give');
signal_borrower('silent', 'CONT');
$node->safe_psql('postgres', 'ALTER ROLE locked_out LOGIN');
wait_until(sub { tell_borrower('full', 'give'); return figure('full', 'waiting') == 0; }, 'all have had their turn');
wait_until(sub { tell_borrower('hungry', 'give'); return figure('hungry', 'waiting') == 0; }, 'of the hungry too');
becomes($_, 'ok', '', "$_ recovers") for qw(leaky batch obstructed undecided hungry full shut silent);
isnt(figure('full', 'since'), $was, 'since another time');
is(scalar(told('leaky', '\w+', '\w+')), 1, 'a second change within a minute is not told yet');

# --- with the worker's help, and without it

reload_with('pgpool_monitor.health_enter' => '1h');
wait_for_query($node, 'SHOW pgpool_monitor.health_enter', '1h', 'a long time to enter');
my $peer = Peer->new($node, pool => 'sudden', instance => 's;report=1');
$peer->report(max => 1, in_use => 1, waiting => 2);
becomes('sudden', 'ok', 'now saturated: 2 wait; wants 3, its own limit is 1', 'what has not lasted yet is said, and not believed');
wait_for_query($node, q(SELECT since IS NOT NULL FROM pgpool_monitor.pools WHERE pool = 'sudden'), 't', 'the worker has looked');

my $worker = $node->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
wait_until(sub { $peer->report(max => 1, in_use => 1, waiting => 2); return figure('sudden', 'health, since IS NULL') eq 'saturated|t'; },
	'without the worker the figures of the moment are believed');
kill 'CONT', $worker;
wait_until(sub { $peer->report(max => 1, in_use => 1, waiting => 2); return figure('sudden', 'health, since IS NULL') eq 'ok|f'; }, 'until it is back');

reload_with('pgpool_monitor.health_enter' => '0', 'pgpool_monitor.log_health' => 'off');
wait_until(sub { $peer->report(max => 1, in_use => 1, waiting => 2); return figure('sudden', 'health, since IS NULL') eq 'saturated|f'; }, 'no time to enter');
is(scalar(told('sudden', '\w+', '\w+')), 0, 'the log says nothing if it is not asked to');

close $_->{in} for values %borrower;
$peer->end;
$locker->end;
$node->stop('fast');
done_testing();
