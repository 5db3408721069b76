# Counters of pools: they outlive instances and clean restarts, count nothing twice, and never go back but by a reset.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('counters',
	max_connections => 30,
	autovacuum => 'off',
	wal_level => 'replica',
	max_wal_senders => 3,
	hot_standby => 'on',
	'pgpool_monitor.report_interval' => '100ms',
	'pgpool_monitor.lease' => '300ms',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.max_instances' => 6,
	'pgpool_monitor.max_pools' => 3);
my $stat = $node->data_dir . '/pg_stat/pgpool_monitor.stat';

sub ask
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# acquires|timeouts of a pool, empty if it is not known.
sub counted
{
	my ($pool) = @_;

	return ask("SELECT acquires, timeouts FROM pgpool_monitor.counters WHERE pool = '$pool'");
}

sub all_counted
{
	return ask(q(SELECT string_agg(pool || ':' || acquires || ':' || instances, ' ' ORDER BY pool) FROM pgpool_monitor.counters));
}

# An instance; by its first report it has counted this already.
sub instance
{
	my ($pool, $id, %report) = @_;
	my $peer = Peer->new($node, pool => $pool, instance => "$id;report=1", ($report{user} ? (user => delete $report{user}) : ()));

	$peer->report(%report) if %report;
	return $peer;
}

# Until the server has forgotten all of a pool's instances.
sub forgotten
{
	my ($pool) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_query($node, "SELECT count(*) FROM pgpool_monitor.instances WHERE pool = '$pool'", 0, "$pool has no instances any more");
	return;
}

# --- dead instances

my $a = instance('orders', 'a', acquires => 100, timeouts => 3, wait => '0:100', errors => '1:3', closed_by => '0:1');
my $b = instance('orders', 'b', acquires => 10, wait => '21:3');
is(counted('orders'), '110|3', 'the sum of two');
my $percentiles = 'wait_p50_time, wait_p99_time > 1000';
is(ask("SELECT $percentiles FROM pgpool_monitor.counters"), '0.001|t', 'percentiles are those of both together');
is(ask(q(SELECT wait_p99_time > 1000 FROM pgpool_monitor.pools WHERE pool = 'orders')), 't', 'of late, too');
$a->report(acquires => 150, timeouts => 4);
is(counted('orders'), '160|4', 'what has happened since is added');
$a->kill;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'a'), 0, 'one is killed');
is(counted('orders'), '160|4', 'its counters stay');
$b->report(acquires => 11, bye => 1);
$b->end;
forgotten('orders');
is(counted('orders'), '161|4', 'and when all are gone');
is(ask(q(SELECT instances, errors, closed_by, wait_histogram[22], wait_p99_time > 1000, wait_p50_time FROM pgpool_monitor.counters)),
	'0|{"timed_out": 3}|{"idle": 1}|3|t|0.001', 'all of them');
is(ask(q(SELECT count(*) FROM pgpool_monitor.pools WHERE pool = 'orders')), 0, 'pools has those with instances');
is(ask(q(SELECT count(*) FROM pgpool_monitor.limits WHERE pool = 'orders')), 0, 'so has limits');
is(ask('SELECT pools FROM pgpool_monitor.info'), 0, 'and info');

nulls_are_documented($node, 'of a pool that has gone');

# --- back again

$a = instance('orders', 'a', acquires => 152, timeouts => 4);
is(counted('orders'), '163|4', 'who comes back is not counted twice');
is(ask(q(SELECT acquires, wait_p99_time FROM pgpool_monitor.instances WHERE instance = 'a')), '152|',
	'what he waited for then is not of late');
$a->report(acquires => 5, timeouts => 1);
is(counted('orders'), '168|5', 'who begins anew under the same id is counted anew');
$a->report(acquires => 6, timeouts => 1);
is(counted('orders'), '169|5', 'and goes on from there');
$a->end;
forgotten('orders');
$a = instance('orders', 'a', acquires => 2);
is(counted('orders'), '171|5', 'also after the server had forgotten him');
$a->report(acquires => 2, bye => 1);
$a->end;
forgotten('orders');

my $most = '9223372036854775807';
my @liars = map { instance('liars', "l$_", acquires => $most) } 1 .. 2;
is(counted('liars'), "$most|0", 'sums stay at the largest number');
$liars[0]->report(acquires => 1);
is(counted('liars'), "$most|0", 'and never go back');
$_->report(bye => 1), $_->end for @liars;
forgotten('liars');

# --- reset

is(ask(q(SELECT pgpool_monitor.reset('liars'))), 1, 'a reset');
is(all_counted(), 'orders:171:0', 'forgets a pool without instances');
$a = instance('orders', 'c', acquires => 40, wait => '5:40');
is(ask('SELECT pgpool_monitor.reset()'), 1, 'a reset of all');
is(counted('orders'), '0|0', 'is for what was, and for what living instances have said');
is(ask(q(SELECT wait_p99_time IS NULL AND stats_reset > now() - interval '1 min' FROM pgpool_monitor.counters)), 't', 'and says when');
$a->report(acquires => 43, wait => '5:43');
is(ask(q(SELECT acquires, wait_histogram[6] FROM pgpool_monitor.counters)), '3|3', 'from then on they count');
is(ask(q(SELECT acquires FROM pgpool_monitor.instances)), 43, 'what the instance says is its own');
$a->end;
forgotten('orders');
is(ask('SELECT pgpool_monitor.reset()'), 1, 'a reset while it is away');
$a = instance('orders', 'c', acquires => 44);
is(counted('orders'), '1|0', 'is not undone when it is back');
$a->report(acquires => 44, bye => 1);
$a->end;
forgotten('orders');

# --- who sees and does what

ask('CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');
$b = instance('web', 'w', acquires => 7, user => 'shop');
$b->report(acquires => 8, bye => 1);
$b->end;
forgotten('web');
for my $case ([ 'shop', 'web' ], [ 'stranger', '' ], [ 'watcher', 'orders web' ])
{
	my ($role, $seen) = @$case;
	my (undef, $out) = $node->psql('postgres', q(SELECT string_agg(pool, ' ' ORDER BY pool) FROM pgpool_monitor.counters),
		connstr => $node->connstr('postgres') . " user=$role");
	is($out, $seen, "$role sees " . ($seen || 'nothing'));
	for my $reset ('reset()', q(reset('web')))
	{
		my (undef, undef, $error) = $node->psql('postgres', "SELECT pgpool_monitor.$reset",
			connstr => $node->connstr('postgres') . " user=$role");
		like($error, qr/permission denied for function reset/, "$role may not call $reset");
	}
}

# --- full tables

instance('three', 't', acquires => 3, bye => 1)->end;
forgotten('three');
is(all_counted(), 'orders:1:0 three:3:0 web:8:0', 'three are remembered');
my $four = instance('four', 'f', acquires => 4);
is(all_counted(), 'four:4:1 three:3:0 web:8:0', 'the one gone longest makes room');
my $web = instance('web', 'w2', acquires => 1, user => 'shop');
is(all_counted(), 'four:4:1 three:3:0 web:9:1', 'who is back finds its counters');
instance('five', 'v', acquires => 5, bye => 1)->end;
forgotten('five');
is(all_counted(), 'five:5:0 four:4:1 web:9:1', 'who is there is not forgotten');
ask(q(SELECT pgpool_monitor.reset('five')));

# Ghosts make room for the living: six instances fit whoever was there before.
$_->end for map { instance('five', "g$_", acquires => 1) } 1 .. 4;
wait_for_query($node, 'SELECT instances FROM pgpool_monitor.info', 2, 'four have been there');
my @crowd = map { instance('five', "n$_", acquires => 1) } 1 .. 4;
is(ask('SELECT instances, refused_sessions FROM pgpool_monitor.info'), '6|0', 'four others fit');
is(all_counted(), 'five:8:4 four:4:1 web:9:1', 'and all are counted');
$_->report(bye => 1), $_->end for @crowd;
forgotten('five');
ask(q(SELECT pgpool_monitor.reset('five')));

# --- a clean restart

my $log_line = qr/LOG:  pgpool_monitor ignores its saved counters/;

sub restart
{
	my ($how) = @_;

	$node->stop($how);
	$node->start;
	return;
}

$web->report(acquires => 2, timeouts => 1, wait => '0:1', errors => '11:6', closed_by => '4:1');
my $whole = q(SELECT array_agg(c ORDER BY pool) FROM (SELECT pool, role, database, acquires, timeouts, failures, errors, closed_by,
	wait_p99_time, wait_histogram, stats_reset FROM pgpool_monitor.counters) c);
my $before = ask($whole);
my $log = -s $node->logfile;
$node->stop('fast');
ok(-f $stat, 'a shutdown saves the counters');
my $saved = slurp_file($stat);
$node->start;
is(ask($whole), $before, 'a start has them all');
ok(!-e $stat, 'and removes the file');
is(all_counted(), 'four:4:0 web:10:0', 'of instances it has none');
$_->kill for $four, $web;
$web = instance('web', 'w2', acquires => 5, timeouts => 1, user => 'shop');
is(counted('web'), '13|1', 'who was there before the restart is not counted twice');
$four = instance('four', 'g', acquires => 6);
is(counted('four'), '10|0', 'who was not is counted');
$four->report(bye => 1);
$four->end;
$web->kill;
restart('smart');
is(counted('web'), '13|1', 'another restart');
$web = Peer->new($node, pool => 'web', instance => 'w2;report=1', user => 'shop');
restart('fast');
$web->kill;
$web = instance('web', 'w2', acquires => 6, user => 'shop');
is(counted('web'), '14|1', 'and one more, before which it said nothing: it is still known');
$web->kill;
is(slurp_file($node->logfile) =~ $log_line, '', 'nothing was wrong with the file');

# A start that comes to nothing costs nothing.
$node->stop('fast');
append_to_file($node->data_dir . '/recovery.signal', '');
is($node->start(fail_ok => 1), 0, 'a start fails');
unlink $node->data_dir . '/recovery.signal';
$node->start;
is(counted('web'), '14|1', 'the next one has the counters');

# Neither does a server without a postmaster.
$node->stop('fast');
chomp(my $bin = `"$ENV{PG_CONFIG}" --bindir`);
ok(run_log([ "$bin/postgres", '--single', '-D', $node->data_dir, 'postgres' ], '<', \"SELECT pool FROM pgpool_monitor.counters\n",
		'>', \my $single),
	'single-user mode');
like($single, qr/pool = "web"/, 'has them');
$node->start;
is(counted('web'), '14|1', 'and leaves them');

# A smaller table takes what fits.
instance('five', 'x', acquires => 5, bye => 1)->end;
forgotten('five');
instance('web', 'y', acquires => 1, user => 'shop', bye => 1)->end;
forgotten('web');
PgpoolMonitor::set($node, 'pgpool_monitor.max_pools' => 2, 'pgpool_monitor.max_instances' => 1);
restart('fast');
is(all_counted(), 'five:5:0 web:15:0', 'those gone longest are left out');

# --- not saved

$node->stop('immediate');
ok(!-e $stat, 'an immediate shutdown saves nothing');
$node->start;
is(all_counted(), '', 'and loses them');
PgpoolMonitor::set($node, 'pgpool_monitor.max_pools' => 3, 'pgpool_monitor.max_instances' => 6);
restart('fast');

my $c = instance('crash', 'c', acquires => 9);
$log = -s $node->logfile;
kill 'KILL', $c->pid;
wait_for_log_line($node, qr/reinitializing.*ready to accept connections/s, 'a backend is killed', $log);
wait_for_query($node, 'SELECT count(*) FROM pgpool_monitor.counters', 0, 'a crash loses them, too');
$c->kill;
$c = instance('crash', 'c', acquires => 10);
is(counted('crash'), '10|0', 'a client that lived through it brings its own');
$c->report(acquires => 10, bye => 1);
$c->end;

PgpoolMonitor::set($node, 'pgpool_monitor.save' => 'off');
restart('fast');
is(all_counted(), '', 'save = off: nothing is kept');
$node->stop('fast');
append_to_file($stat, $saved);
$node->start;
is(all_counted(), '', 'nor read');
ok(!-e $stat, 'and a file from before is not kept for later');
PgpoolMonitor::set($node, 'pgpool_monitor.save' => 'on');
$node->reload;

# --- a file that is not right

# CRC-32C, reflected, as PostgreSQL has it.
sub crc32c
{
	my ($crc, @table) = (0xFFFFFFFF);

	for my $i (0 .. 255)
	{
		$i = $i & 1 ? ($i >> 1) ^ 0x82F63B78 : $i >> 1 for 1 .. 8;
		push @table, $i;
	}
	$crc = ($crc >> 8) ^ $table[ ($crc ^ $_) & 0xFF ] for unpack 'C*', $_[0];
	return $crc ^ 0xFFFFFFFF;
}

my $header = 7 * 4;
my $pool_size = unpack 'x8 L', $saved;

# The saved file with something else at an offset, and a right checksum again.
sub forged
{
	my ($offset, $bytes) = @_;
	my $text = $saved;

	substr($text, $offset, length $bytes) = $bytes;
	substr($text, $header - 4, 4) = pack 'L', crc32c(substr $text, $header);
	return $text;
}

sub starts_with
{
	my ($text) = @_;

	$node->stop('fast');
	unlink $stat;
	open my $file, '>:raw', $stat or die "$stat: $!";
	print $file $text;
	close $file;
	$log = -s $node->logfile;
	$node->start;
	return;
}

starts_with(forged($header, substr $saved, $header, 1));
is(all_counted(), 'four:4:0 web:10:0', 'a file that was made by hand, and is right, is read');
my $flipped = $saved;
substr($flipped, length($saved) / 2, 1) ^= "\x10";
my $four_at = index($saved, 'four') - 8;
my $at = length($saved) - unpack('x12 L', $saved);
for my $case (
	[ 'a bit has changed', $flipped, 'checksum' ],
	[ 'the end is missing', substr($saved, 0, -1), 'has not the size' ],
	[ 'it ends in its header', substr($saved, 0, 20), 'ends too early' ],
	[ 'it is empty', '', 'ends too early' ],
	[ 'it is too long', "${saved}x", 'has not the size' ],
	[ 'it is something else', 'x' x length $saved, 'does not begin' ],
	[ 'of another format', forged(4, pack 'L', 2), 'another version' ],
	[ 'of another size', forged(8, pack 'L', $pool_size + 8), 'another version' ],
	[ 'more pools than it can have', forged(16, pack 'L', 0xFFFFFFFF), 'has not the size' ],
	[ 'a negative counter', forged($four_at + 208, pack 'q', -1), 'a pool that cannot be' ],
	[ 'a name without an end', forged($four_at + 8, 'x' x 64), 'a pool that cannot be' ],
	[ 'a role without an end', forged($four_at + 72, 'x' x 64), 'a pool that cannot be' ],
	[ 'a database without an end', forged($four_at + 136, 'x' x 64), 'a pool that cannot be' ],
	[ 'a name of nothing', forged($four_at + 8, "\0"), 'a pool that cannot be' ],
	[ 'no role', forged($four_at, pack 'L', 0), 'a pool that cannot be' ],
	[ 'a time that is none', forged($four_at + 200, pack 'q', -(2**62)), 'a pool that cannot be' ],
	[ 'an instance of no pool', forged($at, pack 'L', 2), 'an instance that cannot be' ],
	[ 'an instance without an id', forged($at + 4, "\0"), 'an instance that cannot be' ],
	[ 'an id without an end', forged($at + 4, 'x' x 64), 'an instance that cannot be' ],
	[ 'a negative counter of an instance', forged($at + 72, pack 'q', -1), 'an instance that cannot be' ])
{
	my ($what, $text, $reason) = @$case;

	starts_with($text);
	my @lines = substr(slurp_file($node->logfile), $log) =~ /pgpool_monitor ignores its saved counters.*\n.*/g;
	is(scalar @lines, 1, "$what: one message");
	like($lines[0], qr/DETAIL:  .*$reason/, '  that says so');
	is(all_counted(), '', '  and nothing is read');
	ok(!-e $stat, '  nor left there');
}

# What cannot be written does not hold up the shutdown.
$c = instance('web', 'z', acquires => 1, bye => 1);
$c->end;
forgotten('web');
mkdir "$stat.tmp" or die "$stat.tmp: $!";
$log = -s $node->logfile;
$node->stop('fast');
like(substr(slurp_file($node->logfile), $log), qr/LOG:  could not write file "pg_stat\/pgpool_monitor\.stat\.tmp"/, 'it is said');
rmdir "$stat.tmp";
$node->start;
is(all_counted(), '', 'and lost');

# --- a real client

my ($load, $output) = start_program($node, 'load', 4, 'pool_name=load pool_max_size=2 pool_acquire_timeout=60s');
my $sound = q(SELECT acquires > 1000 AND opened BETWEEN 1 AND 2 AND errors = '{}' AND abs(acquires + timeouts
	- (SELECT sum(n) FROM unnest(wait_histogram) n)) <= 4 AND wait_p50_time IS NOT NULL AND hold_p99_time > 0
	FROM pgpool_monitor.counters WHERE pool = 'load');
wait_for_query($node, $sound, 't', 'libpqpool counts') or diag(ask('TABLE pgpool_monitor.counters'));
$load->signal('KILL');
$load->finish;
wait_for_query($node, q(SELECT coalesce(sum(sessions), 0) FROM pgpool_monitor.instances WHERE pool = 'load'), 0, 'it is killed');
my $said = counted('load');
forgotten('load');
is(counted('load'), $said, 'and what it counted stays when it is killed');

# --- on a standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $reader = Peer->new($standby, pool => 'readers', instance => 'r;report=1');
$reader->report(acquires => 5);
$reader->kill;
$standby->restart;
is($standby->safe_psql('postgres', 'SELECT pool, acquires FROM pgpool_monitor.counters'), 'readers|5', 'a standby keeps its own counters');
is(ask(q(SELECT count(*) FROM pgpool_monitor.counters WHERE pool = 'readers')), 0, 'which are its own');
is($standby->safe_psql('postgres', q(SELECT pgpool_monitor.reset('readers'))), 1, 'they can be reset there');
$standby->stop('fast');

$node->stop('fast');
done_testing();
