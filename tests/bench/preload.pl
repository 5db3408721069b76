#!/usr/bin/perl
#
# preload.pl: pgbench -C, which connects for each transaction, by several ways; what each costs. Called by preload.sh.
#
# All ways stand ready, and are measured in turn, in rounds, each round beginning with another one. Ratios are medians of the
# rounds' ratios.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Figures; # before PostgreSQL's modules
use IPC::Run;
use PgpoolMonitor;
use Time::HiRes qw(sleep time);

my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $user = getpwuid($<);

my $node = PgpoolMonitor::unstarted_node('bench', fsync => 'off', autovacuum => 'off', shared_buffers => '128MB',
	checkpoint_timeout => '1h', 'pgpool_monitor.mode' => 'observe');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');

# A bouncer in this mode; its port. It is ended with us.
my @bouncers;

sub start_bouncer
{
	my ($mode) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $directory = PostgreSQL::Test::Utils::tempdir_short();
	my ($host, $server_port) = ($node->host, $node->port);
	open(my $users, '>', "$directory/users") or die "users: $!";
	print $users qq("$user" ""\n);
	close $users or die "users: $!";
	open(my $ini, '>', "$directory/ini") or die "ini: $!";
	print $ini <<"END";
[databases]
postgres = host=$host port=$server_port dbname=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = $directory
listen_port = $port
auth_type = trust
auth_file = $directory/users
pool_mode = $mode
default_pool_size = 20
server_reset_query = DISCARD ALL
max_client_conn = 1000
logfile = $directory/log
log_connections = 0
log_disconnections = 0
END
	close $ini or die "ini: $!";
	push @bouncers, IPC::Run::start([ 'pgbouncer', '-q', "$directory/ini" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	sleep 0.1 until -S "$directory/.s.PGSQL.$port";
	return ($directory, $port);
}

END { local $? = $?; $_->kill_kill for @bouncers; }

# Transactions per second.
sub tps
{
	my ($host, $port, $prefix, @arguments) = @_;
	local %ENV = (%ENV, PGHOST => $host, PGPORT => $port, PGUSER => $user, PGDATABASE => 'postgres');
	my $text = '';
	IPC::Run::run([ @$prefix, 'pgbench', '-n', @arguments, 'postgres' ], '<', \undef, '>', \$text, '2>', \$text)
	  or die "pgbench: $text";
	$text =~ /tps = ([\d.]+)/ or die "pgbench: $text";
	return $1;
}

sub initialize
{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $user);
	IPC::Run::run([ 'pgbench', '-i', '-s', '10', '-q', 'postgres' ], '<', \undef, '>', '/dev/null', '2>', '/dev/null')
	  or die 'pgbench -i failed';
	return;
}

initialize();
my @direct = ($node->host, $node->port);
my @sessions = start_bouncer('session');
my @transactions = start_bouncer('transaction');
my @each = ('-C', '-S', '-c', 8, '-j', 2, '-T', $seconds);
my @kept = ('-S', '-c', 8, '-j', 2, '-T', $seconds);
my $reference = 'PgBouncer, transaction mode';
my @ways = (
	[ 'direct', @direct, [], @each ],
	[ 'PgBouncer, session mode', @sessions, [], @each ],
	[ $reference, @transactions, [], @each ],
	[ 'preloaded, reset=discard', @direct, [ $run, '--max-size=20', '--' ], @each ],
	[ 'preloaded, reset=rollback', @direct, [ $run, '--max-size=20', '--reset=rollback', '--' ], @each ],
	[ 'preloaded, reset=none', @direct, [ $run, '--max-size=20', '--reset=none', '--' ], @each ],
	[ 'direct, connected once', @direct, [], @kept ],
	[ 'PgBouncer, transactions, connected once', @transactions, [], @kept ]);

my %tps;
for my $round (0 .. $rounds - 1)
{
	for my $turn (0 .. $#ways)
	{
		my ($name, @how) = @{ $ways[ ($turn + $round) % @ways ] };
		$tps{$name}[$round] = tps(@how);
	}
}
say_line('pgbench -C -S, 8 clients, 2 threads; medians of %d rounds of %s s', $rounds, $seconds);
say_line('%-42s %10s %12s %14s', '', 'tps', 'to direct', 'to PgBouncer');
for my $way (@ways)
{
	my $name = $way->[0];
	say_line('%-42s %10.0f %12.2f %14.2f', $name, median(@{ $tps{$name} }),
		map { my $to = $_; median(map { $tps{$name}[$_] / $tps{$to}[$_] } 0 .. $rounds - 1) } 'direct', $reference);
}

# What a program pays that never connects: the same number of processes, with and without, in turn.
sub seconds_for
{
	my ($preload) = @_;
	my $start = time;
	local $ENV{LD_PRELOAD} = $preload;
	system('sh', '-c', 'i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i + 1)); done') == 0 or die 'sh failed';
	return time - $start;
}

my (@without, @with);
for my $round (1 .. $rounds)
{
	push @without, seconds_for('');
	push @with, seconds_for("$ENV{STAGE_PREFIX}/lib/libpqpool_preload.so");
}
say_line("\na process that never connects (/bin/true): %.3f ms, preloaded %.3f ms: %.3f ms more",
	median(@without) * 2, median(@with) * 2, median(map { ($with[$_] - $without[$_]) * 2 } 0 .. $rounds - 1));

# No look-up grows with the number of keys: one thread that connects in ever so many ways, each again and again.
say_line("\nmany keys in one process (psycopg2, connecting and closing): us each");
my $many = <<'END';
import psycopg2, sys, time
keys = int(sys.argv[1])
for i in range(keys):
	psycopg2.connect("application_name=k%d" % i).close()
best = 1e9
for part in range(5):
	start = time.perf_counter()
	for i in range(200):
		psycopg2.connect("application_name=k%d" % (i % keys)).close()
	best = min(best, (time.perf_counter() - start) / 200)
print("%.1f" % (best * 1e6))
END
for my $keys (1, 10, 80)
{
	local %ENV = (%ENV, PGHOST => $direct[0], PGPORT => $direct[1], PGUSER => $user, PGDATABASE => 'postgres');
	my $text = '';
	next if !IPC::Run::run([ $run, '--max-idle=100', '--', '/usr/bin/python3', '-c', $many, $keys ], '<', \undef, '>', \$text, '2>', \my $noise);
	chomp $text;
	say_line('%6d keys %10s', $keys, $text);
}

# A process that lives no longer than a connection: nothing is left to be reused. In turn, in rounds.
sub psql_ms
{
	my ($prefix, $host, $port) = @_;
	local %ENV = (%ENV, PGHOST => $host, PGPORT => $port, PGUSER => $user, PGDATABASE => 'postgres');
	my $start = time;
	for (1 .. 20)
	{
		IPC::Run::run([ @$prefix, 'psql', '-XAtc', 'SELECT 1' ], '<', \undef, '>', \my $one) or die 'psql failed';
	}
	return (time - $start) * 1000 / 20;
}

my @short = ([ 'direct', [], @direct ], [ 'preloaded', [ $run, '--' ], @direct ], [ $reference, [], @transactions ]);
my %short;
for my $round (0 .. $rounds - 1)
{
	for my $turn (0 .. $#short)
	{
		my ($name, @how) = @{ $short[ ($turn + $round) % @short ] };
		push @{ $short{$name} }, psql_ms(@how);
	}
}
say_line("\na short-lived process (psql -c 'SELECT 1'), ms each: %s",
	join ', ', map { sprintf '%s %.1f', $_->[0], median(@{ $short{ $_->[0] } }) } @short);

# A prefork server: each child connects for each piece of work, and does something else in between.
my $prefork = <<'END';
import os, psycopg2, sys, time
children, seconds = int(sys.argv[1]), float(sys.argv[2])
until = time.monotonic() + seconds
for i in range(children):
	if os.fork() == 0:
		done = 0
		while time.monotonic() < until:
			conn = psycopg2.connect("application_name=prefork")
			conn.autocommit = True
			conn.cursor().execute("SELECT 1")
			conn.close()
			done += 1
			time.sleep(0.02)
		sys.stdout.write("%d\n" % done)
		sys.stdout.flush()
		os._exit(0)
for i in range(children):
	os.wait()
END

# (pieces of work a second, sessions of the server halfway that have done something by then)
sub forked
{
	my ($children, $prefix, $host, $port) = @_;
	local %ENV = (%ENV, PGHOST => $host, PGPORT => $port, PGUSER => $user, PGDATABASE => 'postgres');
	my $text = '';
	my $master =
	  IPC::Run::start([ @$prefix, '/usr/bin/python3', '-c', $prefork, $children, $seconds ], '<', \undef, '>', \$text, '2>', \my $noise);
	sleep $seconds / 2;
	my $sessions = $node->safe_psql('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}
		  . qq{ AND state_change > now() - interval '$seconds s' / 2});
	$master->finish or die "prefork failed: $noise";
	my $done = 0;
	$done += $_ for split /\n/, $text;
	return ($done / $seconds, $sessions);
}

say_line("\na prefork server, each child connecting for each piece of work, 20 ms apart: pieces a second (sessions of the server)");
say_line('%6s %30s %19s %28s', 'children', 'direct', 'preloaded', $reference);
for my $children (4, 16, 64)
{
	my @figures = map { sprintf '%.0f (%d)', forked($children, $_->[1], $_->[2], $_->[3]) } @short;
	say_line('%6d %30s %19s %28s', $children, @figures);
}
$node->stop('immediate');
