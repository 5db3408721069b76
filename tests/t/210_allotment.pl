# The allotment, as a client sees it: at connect, after a change, through modes on and off, with and without a worker.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('allotment',
	max_connections => 30,
	autovacuum => 'off',
	'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.headroom' => 2,
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.retry_interval' => '1500ms',
	'pgpool_monitor.round_interval' => '100ms');

sub reload_with
{
	my (%settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$node->reload;
	return;
}

# Until the peer, asked with a harmless command, has been told what CODE wants.
sub told
{
	my ($peer, $code, $what) = @_;
	my $allotment;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(
		sub {
			$peer->say('SELECT 1');
			$allotment = $peer->allotment;
			return $code->($allotment);
		},
		$what) or diag('last told: ' . $peer->text);
	return $allotment;
}

# --- at connect

my $peer = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1');
my $first = $peer->allotment;
is($first->{id}, 'a1', 'the id is echoed in the startup handshake');
like($first->{inc}, qr/^\d+$/, 'with an incarnation');
like($first->{epoch}, qr/^[1-9]\d*$/, 'and an epoch');
is($first->{limit}, 1, 'a newcomer may hold what it has');
is("$first->{state} $first->{lease} $first->{interval} $first->{retry}", 'ok 3600 1 1.500', 'durations are seconds');

# --- after a change, with whatever command comes next

my $next;
$peer->report(max => 20, in_use => 1, waiting => 4);
$next = told($peer, sub { $_[0]{limit} == 20 }, 'it may hold what it wants when nobody else wants it');
cmp_ok($next->{epoch}, '>', $first->{epoch}, 'under a higher epoch');
is($next->{inc}, $first->{inc}, 'of the same incarnation');

$peer->say('BEGIN');
reload_with('pgpool_monitor.rules' => 'orders=10');
my $watcher = Peer->new($node, pool => 'orders', instance => 'w;follow=1;report=1');
wait_for_query($node, q(SELECT allotted FROM pgpool_monitor.instances WHERE instance = 'a1'), qr/^(9|10)$/, 'a rule lowers it');
$watcher->report(bye => 1);
$watcher->end;
$peer->say('SELECT 1');
is($peer->allotment->{limit}, 20, 'nothing is told inside a transaction block');
$peer->say('SELECT 1/0');
isnt($peer->allotment->{limit}, 20, 'an abort tells it');
$peer->say('ROLLBACK');

# --- nobody can forge it

for my $sql ("SET pgpool_monitor.allotment = 9", "SELECT set_config('pgpool_monitor.allotment', '9', false)",
	'RESET pgpool_monitor.allotment', 'ALTER ROLE CURRENT_USER SET pgpool_monitor.allotment = 9')
{
	$peer->say($sql);
	like($peer->error, qr/^55P02/, "refused: $sql");
}
for my $sql ('RESET ALL', 'DISCARD ALL', 'SET SESSION AUTHORIZATION DEFAULT')
{
	my $text = $peer->text;
	$peer->say($sql);
	is("$peer->{error}$peer->{text}", $text, "no effect: $sql");
}
is($peer->say(q(SELECT count(*) FROM pg_settings WHERE name = 'pgpool_monitor.allotment')), 0, 'it is no entry of pg_settings');
like($peer->say('SHOW pgpool_monitor.allotment'), qr/^id=a1;/, 'but SHOW shows it');

# --- modes

$peer->report(max => 20, in_use => 1);
reload_with('pgpool_monitor.mode' => 'observe');
$next = told($peer, sub { $_[0]{limit} == -1 }, 'observe: no limit');
is($next->{state}, 'ok', 'but reports are welcome');
my $epoch = $next->{epoch};

reload_with('pgpool_monitor.mode' => 'off');
$next = told($peer, sub { $_[0]{state} eq 'off' }, 'off: said so');
is($next->{limit}, -1, 'without a limit');
cmp_ok($next->{epoch}, '>', $epoch, 'and newer than what it was told before');
my $late = Peer->new($node, pool => 'orders', instance => 'late;follow=1;report=1');
is($late->allotment, undef, 'who connects now is told nothing');

reload_with('pgpool_monitor.mode' => 'share');
$epoch = $next->{epoch};
$next = told($peer, sub { $_[0]{state} eq 'ok' && $_[0]{limit} > 0 }, 'share again: told again');
cmp_ok($next->{epoch}, '>', $epoch, 'under a higher epoch');
told($late, sub { $_[0] && $_[0]{id} eq 'late' }, 'who had connected while it was off is attached by its next command');
$late->report(bye => 1);
$late->end;

# --- the kill switch needs no worker

my $worker = $node->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
reload_with('pgpool_monitor.mode' => 'off');
told($peer, sub { $_[0]{state} eq 'off' }, 'off is heard while the worker is stopped');
reload_with('pgpool_monitor.mode' => 'observe');
told($peer, sub { $_[0]{state} eq 'ok' && $_[0]{limit} == -1 }, 'so is observe');
kill 'CONT', $worker;

# --- a rule's own mode

reload_with('pgpool_monitor.mode' => 'observe', 'pgpool_monitor.rules' => 'orders=10:mode=share, quiet=5:mode=off');
$peer->report(max => 20, in_use => 1, waiting => 30);
told($peer, sub { $_[0]{limit} == 10 }, 'one pool can share while the others are only observed');
my $web = Peer->new($node, pool => 'web', instance => 'b1;follow=1;report=1');
is($web->allotment->{limit}, -1, 'which have no limit');
my $quiet = Peer->new($node, pool => 'quiet', instance => 'c1;follow=1;report=1');
told($quiet, sub { $_[0]{state} eq 'off' }, 'and one can be off');
reload_with('pgpool_monitor.mode' => 'off');
told($peer, sub { $_[0]{state} eq 'off' }, 'the global off is off for all');
$_->end for $web, $quiet;

# --- rules: an error keeps the last good set, and shows

my $before = -s $node->logfile;
reload_with('pgpool_monitor.mode' => 'share', 'pgpool_monitor.rules' => 'orders=10, batch=lots');
wait_for_query($node, 'SELECT rules || E\'\n\' || rules_error FROM pgpool_monitor.info',
	qr/^orders=10:mode=share, quiet=5:mode=off\nAt character 18: .*near "lots"/, 'a bad set is not taken, and info says why');
wait_for_log_line($node, qr/invalid value for parameter "pgpool_monitor.rules"/, 'so does the log', $before);
reload_with('pgpool_monitor.rules' => 'orders=7');
wait_for_query($node, q(SELECT rules || ':' || coalesce(rules_error, 'fine') FROM pgpool_monitor.info), 'orders=7:fine', 'a good one is');
$peer->report(max => 20, in_use => 1, waiting => 30);
told($peer, sub { $_[0]{limit} == 7 }, 'and followed');
is($node->safe_psql('postgres', q(SELECT rule, ceiling, allotted FROM pgpool_monitor.limits WHERE pool = 'orders')),
	'orders=7|7|7', 'limits shows rule and figures');
$peer->end;

# --- at start with a bad set: equal sharing, and the log says so

PgpoolMonitor::set($node, 'pgpool_monitor.rules' => 'orders');
$before = -s $node->logfile;
$node->restart;
is($node->safe_psql('postgres', q(SELECT coalesce(rules, 'none') FROM pgpool_monitor.info)), 'none', 'starts without rules');
wait_for_log_line($node, qr/invalid value for parameter "pgpool_monitor.rules"/, 'and says so', $before);

$node->stop('fast');
done_testing();
