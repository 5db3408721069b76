#!/usr/bin/perl
#
# server.pl: measure what the extension costs the server, and print it. Called by server.sh.
#
# What is compared runs side by side: all contenders stand ready, and are measured in turn, in rounds, each round beginning with
# another one. Ratios are medians of the rounds' ratios. How far two servers without the extension differ is the noise floor.

use strict;
use warnings;

# PostgreSQL's modules send standard output to a log; the figures go to the real one.
my $out;

BEGIN
{
	open($out, '>&', \*STDOUT) or die "dup: $!";
	$out->autoflush(1);
}

use IPC::Run;
use PgpoolMonitor;
use Time::HiRes qw(sleep time);

my $rounds = $ENV{BENCH_ROUNDS} || 7;
my $seconds = $ENV{BENCH_SECONDS} || 3;

my %quiet = (fsync => 'off', autovacuum => 'off', shared_buffers => '128MB', checkpoint_timeout => '1h', max_connections => 1200);

sub say_line { printf $out @_; print $out "\n"; return; }

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ $#sorted / 2 ];
}

# --- what pgbench does -------------------------------------------------------------------------------------------------------

my $scripts = $ENV{STAGE_WORK} . '/tmp';

sub script
{
	my ($name, $text) = @_;
	open(my $file, '>', "$scripts/$name.sql") or die "$name: $!";
	print $file $text;
	close $file or die "$name: $!";
	return "$scripts/$name.sql";
}

# Identity by libpq's own environment, as any client can have it.
my $attached = '-c pgpool_monitor.pool=bench -c pgpool_monitor.instance=bench;follow=1;report=1';

# One report in so many transactions: more often than any client sends them.
my $select = script('select', "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n");
my $report = script('report',
	"SELECT pg_catalog.set_config('pgpool_monitor.report', 'v=1;seq=' || (extract(epoch from clock_timestamp()) * 1000000)::bigint"
	  . " || ';max=10;idle=1;in_use=2;waiting=0;acquires=100;wait=0:90,5:10;hold=8:100', false);\n");
my $one = script('one', "SELECT 1;\n");
my $pools = script('pools', "SELECT * FROM pgpool_monitor.pools;\n");

# Transactions per second of a run of pgbench.
sub tps
{
	my ($node, $options, @arguments) = @_;

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGOPTIONS} = $options;
	my $text = '';
	IPC::Run::run([ 'pgbench', '-n', @arguments, 'postgres' ], '<', \undef, '>', \$text, '2>', \$text) or die "pgbench: $text";
	$text =~ /tps = ([\d.]+)/ or die "pgbench: $text";
	return $1;
}

# Interleaved rounds of contenders [NAME, NODE, OPTIONS, ARGUMENTS...]; prints times per transaction as ratios to the first's.
sub compare
{
	my ($what, @contenders) = @_;
	my @times;

	for my $round (0 .. $rounds - 1)
	{
		for my $turn (0 .. $#contenders)
		{
			my $i = ($turn + $round) % @contenders;
			my (undef, $node, $options, @arguments) = @{ $contenders[$i] };
			$times[$i][$round] = 1e6 / tps($node, $options, @arguments);
		}
	}
	say_line("\n%s\n%-44s %12s %10s %16s", $what, '', 'us each', 'ratio', 'least and most');
	for my $i (0 .. $#contenders)
	{
		my @ratios = map { $times[$i][$_] / $times[0][$_] } 0 .. $rounds - 1;
		my @sorted = sort { $a <=> $b } @ratios;
		say_line('%-44s %12.2f %10.3f %8.3f %7.3f', $contenders[$i][0], median(@{ $times[$i] }), median(@ratios), $sorted[0],
			$sorted[-1]);
	}
	return;
}

sub start_bench_node
{
	my ($name, %settings) = @_;
	my $node = PgpoolMonitor::unstarted_node($name, %quiet, %settings);

	$node->start;
	tps_fill($node);
	return $node;
}

sub tps_fill
{
	my ($node) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	IPC::Run::run([ 'pgbench', '-i', '-s', '1', '-q', 'postgres' ], '<', \undef, '>', '/dev/null', '2>', '/dev/null')
	  or die 'pgbench -i failed';
	return;
}

my $plain = start_bench_node('plain', shared_preload_libraries => undef);
my $twin = start_bench_node('twin', shared_preload_libraries => undef);
my $loaded = start_bench_node('loaded');
$loaded->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');

my @select = ('-c', 2, '-j', 2, '-T', $seconds, '-M', 'prepared', '-f', $select);

say_line('medians of %d rounds of %s s; a ratio of 1 is a server without the library', $rounds, $seconds);
compare(
	'pgbench, one row by its key, two clients',
	[ 'without the library', $plain, '', @select ],
	[ 'without it, a second server (noise floor)', $twin, '', @select ],
	[ 'loaded', $loaded, '', @select ],
	[ 'attached', $loaded, $attached, @select ],
	[ 'attached, a report every 1000 transactions', $loaded, $attached, @select[0 .. 7], '-f', "$select\@999", '-f', "$report\@1" ]);

my @connect = ('-c', 1, '-T', $seconds, '-C', '-f', $one);
compare(
	'connecting, SELECT 1, disconnecting',
	[ 'without the library', $plain, '', @connect ],
	[ 'without it, a second server (noise floor)', $twin, '', @connect ],
	[ 'loaded', $loaded, '', @connect ],
	[ 'attached', $loaded, $attached, @connect ]);
$_->stop for $plain, $twin, $loaded;

# --- growth ------------------------------------------------------------------------------------------------------------------

# Time on a CPU of a process, in seconds.
sub cpu_of
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/schedstat") or die "$pid: $!";
	return (split ' ', <$file>)[0] / 1e9;
}

sub start_crowd
{
	my ($node, $sessions, $instances, $pools) = @_;
	my ($said, $in) = ('', '');

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $crowd = IPC::Run::start([ "$ENV{STAGE_OUT}/bench/crowd", $sessions, $instances, $pools ], '<', \$in, '>', \$said);
	$crowd->pump until $said =~ /ready/;
	return $crowd;
}

# CPU time of the worker for each of its rounds, in microseconds.
sub round_cost
{
	my ($node) = @_;
	my $look = sub { return $node->safe_psql('postgres', 'SELECT rounds FROM pgpool_monitor.info') };
	my $pid = $node->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
	my ($before, $cpu) = ($look->(), cpu_of($pid));
	sleep $seconds;
	my ($after, $cpu_after) = ($look->(), cpu_of($pid));
	return ($cpu_after - $cpu) / ($after - $before) * 1e6;
}

say_line("\nas the fleet grows: the worker's CPU for a round, and reading a view\n%-36s %14s %14s", '', 'round, us', 'pools, ms');
for my $size ([ 1, 1, 1 ], [ 10, 10, 10 ], [ 100, 100, 100 ], [ 1000, 1000, 100 ])
{
	my ($sessions, $instances, $npools) = @$size;
	my $node = PgpoolMonitor::unstarted_node("crowd$sessions", %quiet, 'pgpool_monitor.mode' => 'share',
		'pgpool_monitor.round_interval' => '100ms');
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');
	my $crowd = start_crowd($node, @$size);
	my $round = median(map { round_cost($node) } 1 .. 3);
	my $view = median(map { 1000 / tps($node, '', '-c', 1, '-T', 1, '-f', $pools) } 1 .. 3);
	say_line('%-36s %14.1f %14.3f', "$sessions sessions, $instances instances, $npools pools", $round, $view);
	$crowd->kill_kill;
	if ($sessions == 1000)
	{
		say_line("\nshared memory");
		say_line('%-50s %12s', split /\|/)
		  for split /\n/,
		  $node->safe_psql('postgres', q(SELECT name, allocated_size FROM pg_shmem_allocations WHERE name LIKE 'pgpool%' ORDER BY 1));
	}
	$node->stop('immediate');
}
