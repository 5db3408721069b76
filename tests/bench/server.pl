#!/usr/bin/perl
#
# server.pl: measure what the extension costs the server, and print it. Called by server.sh.
#
# What is compared runs side by side: all contenders stand ready, and are measured in turn, in rounds, each round beginning with
# another one. Ratios are medians of the rounds' ratios. How far two servers without the extension differ is the noise floor.
# Instructions are counted by valgrind's callgrind in a backend of its own, and have no noise to speak of.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Figures; # before PostgreSQL's modules
use IPC::Run;
use PgpoolMonitor;
use Time::HiRes qw(sleep time);

my %quiet = (fsync => 'off', autovacuum => 'off', shared_buffers => '128MB', checkpoint_timeout => '1h', max_connections => 1200);

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

# Identity by libpq's own environment, as any client can have it; and two settings that are nobody's identity.
my $two_settings = '-c application_name=bench -c statement_timeout=1h';
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
# Returns the times: of each contender a list.
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
	return @times;
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
my ($without, undef, undef, $settings, $with) = compare(
	'connecting, SELECT 1, disconnecting',
	[ 'without the library', $plain, '', @connect ],
	[ 'without it, a second server (noise floor)', $twin, '', @connect ],
	[ 'loaded', $loaded, '', @connect ],
	[ 'without it, two settings in the options', $plain, $two_settings, @connect ],
	[ 'attached: two settings in the options', $loaded, $attached, @connect ]);
my $attach = median(map { $with->[$_] - $settings->[$_] } 0 .. $rounds - 1);
say_line('attach and detach: %.0f us, %.1f %% of a connection', $attach, 100 * $attach / median(@$without));
$_->stop for $plain, $twin, $loaded;

# --- instructions ------------------------------------------------------------------------------------------------------------

my $counted = 500;    # transactions
my $same = script('same', "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\n");

# A server of which callgrind counts what backends do inside a function, into a file for each backend.
sub start_counted
{
	my ($node, $files, $function) = @_;

	mkdir $files or die "$files: $!";
	my $postgres = $node->config_data('--bindir') . '/postgres';
	my $server = IPC::Run::start(
		[
			'valgrind', '-q', '--tool=callgrind', '--trace-children=yes', "--toggle-collect=$function",
			"--callgrind-out-file=$files/%p", $postgres, '-D', $node->data_dir
		],
		'<', \undef, '>', $node->logfile, '2>&1');
	sleep 0.1 until IPC::Run::run([ 'pg_isready', '-q', '-h', $node->host, '-p', $node->port ], '<', \undef);
	return $server;
}

sub stop_counted
{
	my ($server) = @_;

	$server->signal('INT');    # fast shutdown
	$server->finish;
	return;
}

# Of the backends that pgbench has, one is for a look at the server before it begins.
sub instructions
{
	my ($node, $files, $options, @arguments) = @_;
	my %before = map { $_ => 1 } glob "$files/*";
	my @counts;

	tps($node, $options, '-c', 1, @arguments);
	while (@counts < 2)
	{
		sleep 0.1;
		@counts = ();
		for my $path (grep { !$before{$_} } glob "$files/*")
		{
			open(my $file, '<', $path) or die "$path: $!";
			push @counts, map { /^totals: (\d+)/ ? $1 : () } <$file>;
		}
	}
	return (sort { $b <=> $a } @counts)[0];
}

# What a transaction takes is the difference between many and twice as many.
sub per_transaction
{
	my @run = (@_, '-M', 'prepared', '-f', $same, '-t');

	instructions(@run, 1);    # as warm as the next
	return (instructions(@run, 2 * $counted) - instructions(@run, $counted)) / $counted;
}

my @cases = (
	[ 'without the library', $plain, '' ],
	[ 'without it, two settings in the options', $plain, $two_settings ],
	[ 'loaded', $loaded, '' ],
	[ 'attached: two settings in the options', $loaded, $attached ]);

# A connection: all of a backend that has one transaction.
sub count_connections
{
	my @counts;

	for my $node ($plain, $loaded)
	{
		my $files = "$scripts/connections." . $node->name;
		my $server = start_counted($node, $files, 'PostgresMain');

		for my $case (grep { $_->[1] == $node } @cases)
		{
			my @run = ($node, $files, $case->[2], '-f', $one, '-t', 1);

			instructions(@run);    # as warm as the next
			push @counts, instructions(@run);
		}
		stop_counted($server);
	}
	return @counts;
}

# A transaction: of all of it and of the library's callback, for that is less than one transaction differs from the next.
sub count_transactions
{
	my @callback;
	my $files = "$scripts/transactions";
	my $server = start_counted($plain, $files, 'PostgresMain');
	my $all = per_transaction($plain, $files, '');

	stop_counted($server);
	$files = "$scripts/callback";
	$server = start_counted($loaded, $files, 'at_transaction_event');
	push @callback, per_transaction($loaded, $files, $_) for '', $attached;
	stop_counted($server);
	return ($all, 0, 0, @callback);
}

sub show_instructions
{
	my @connection = count_connections();
	my ($all, @library) = count_transactions();

	say_line("\ninstructions of a backend; a transaction, one row by its key, takes %.0f without the library", $all);
	say_line('%-44s %12s %10s %14s %10s', '', 'library', '%', 'connection', 'more, %');
	for my $i (0 .. $#cases)
	{
		say_line('%-44s %12.0f %10.3f %14.0f %10.2f', $cases[$i][0], $library[$i], 100 * $library[$i] / $all,
			$connection[$i], 100 * ($connection[$i] / $connection[0] - 1));
	}
	return;
}

if (grep { -x "$_/valgrind" } split /:/, $ENV{PATH})
{
	show_instructions();
}
else
{
	say_line("\ninstructions: not counted, for there is no valgrind");
}

# --- growth ------------------------------------------------------------------------------------------------------------------

# Time on a CPU of a process, in seconds.
sub cpu_of
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/schedstat") or die "$pid: $!";
	return (split ' ', <$file>)[0] / 1e9;
}

# Returns the crowd, and what to write its input to.
sub start_crowd
{
	my ($node, @size) = @_;
	my ($said, $in) = ('', '');

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $crowd = IPC::Run::start([ "$ENV{STAGE_OUT}/bench/crowd", @size ], '<', \$in, '>', \$said);
	$crowd->pump until $said =~ /ready/;
	return ($crowd, \$in);
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

my $reports = 200;    # per second: as many as the server asks any fleet for
my @sizes = (
	[ 1, 1, 1 ],
	[ 10, 10, 10 ],
	[ 100, 100, 100 ],
	[ 1000, 100, 100 ],
	[ 1000, 1000, 100 ],
	[ 1000, 10000, 100 ]);
my (%at_rest, %busy);

# Rounds come close together, so that many are measured; leases are long, so that instances without a session stay.
sub start_crowded_node
{
	my ($name, $instances) = @_;
	my $node = PgpoolMonitor::unstarted_node($name, %quiet, 'pgpool_monitor.mode' => 'share',
		'pgpool_monitor.round_interval' => '100ms', 'pgpool_monitor.lease' => '1h',
		'pgpool_monitor.max_instances' => $instances > 1000 ? 12000 : 1024);

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');
	return $node;
}

sub show_memory
{
	my ($node) = @_;
	my $all = q(SELECT name, allocated_size FROM pg_shmem_allocations WHERE name LIKE 'pgpool%' ORDER BY 1);

	say_line("\nshared memory with room for 1024 instances, 256 pools and 1200 connections");
	say_line('%-50s %12s', split /\|/) for split /\n/, $node->safe_psql('postgres', $all);
	return;
}

say_line("\nas the fleet grows: the worker's CPU for a round, and reading a view\n%-44s %12s %12s %12s", '', 'at rest, us',
	"$reports/s, us", 'pools, ms');
for my $size (@sizes)
{
	my $name = join '_', @$size;
	my $node = start_crowded_node("crowd$name", $size->[1]);
	my ($crowd, $in) = start_crowd($node, @$size);
	my $view = median(map { 1000 / tps($node, '', '-c', 1, '-T', 1, '-f', $pools) } 1 .. 3);

	$at_rest{$name} = median(map { round_cost($node) } 1 .. 3);
	$$in = "$reports\n";
	$crowd->pump_nb while length $$in;
	$busy{$name} = median(map { round_cost($node) } 1 .. 3);
	say_line('%-44s %12.1f %12.1f %12.3f', sprintf('%d sessions, %d instances, %d pools', @$size), $at_rest{$name}, $busy{$name},
		$view);
	$crowd->kill_kill;
	show_memory($node) if $size == $sizes[-2];
	$node->stop('immediate');
}
say_line(<<'END', map { ($_->{'1000_100_100'} - $_->{'1_1_1'}, $_->{'1000_1000_100'} - $_->{'1_1_1'}) } \%at_rest, \%busy);

1,000 sessions more: %.1f us in 100 instances, %.1f us in 1,000; with reports %.1f and %.1f us.
10,000 instances are simulated: each has attached and reported; 1,000 hold a session, the others hold nothing within their lease.
END
