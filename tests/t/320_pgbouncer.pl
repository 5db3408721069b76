# Behind PgBouncer, which refuses or drops startup options, and behind a proxy that mixes up sessions, the pool is a plain pool.

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use IPC::Run;
use POSIX ();
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my ($bouncer_program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH});
plan skip_all => 'no pgbouncer here' if !$bouncer_program;

# Every statement in the log: so that what is not sent can be seen not to be.
my $node = PgpoolMonitor::node('behind', log_statement => 'all', 'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.rules' => 'load=2');
my $threads = 16;
my $pool = "application_name=load pool_max_size=5 pool_max_waiters=1000 dbname=postgres";
my $sessions = q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'load');

# --- what the pools do

sub progress_of
{
	my ($load, $output) = @_;
	$load->pump_nb;
	my ($last) = $$output =~ /.*^progress:(\d+)$/ms;
	return $last // 0;
}

# Start a load, and end it when it has answered so much and CONDITION (if any) is true. Its summary.
sub run_load
{
	my ($conninfo, $what, $condition) = @_;
	my ($load, $output) = start_program($node, 'load', $threads, $conninfo);

	wait_until(sub { return progress_of($load, $output) > 2000 && (!$condition || $condition->()); }, "$what: it works");
	$load->signal('TERM');
	$load->finish;
	my %summary = $$output =~ /^(\w+):(\w+)$/mg;
	is($summary{broken} + $summary{lost}, 0, "$what: no query fails");
	is(join(' ', grep { /^PQPOOL/ } keys %summary), '', "$what: no acquire fails");
	is($summary{close}, 'PQPOOL_OK', "$what: the pool closes");
	return;
}

sub is_silent
{
	my ($what, $offset) = @_;
	unlike(substr(slurp_file($node->logfile), $offset), qr/pgpool_monitor\.report/, "$what: no report was sent");
	return;
}

sub log_size
{
	return -s $node->logfile;
}

# --- PgBouncer

# A bouncer with these settings; (directory of its socket, its port, its log, its handle).
sub start_bouncer
{
	my ($name, $settings) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $user = getpwuid($<);

	append_to_file("$directory/bouncer.ini", <<"END");
[databases]
* = host=${\ $node->host} port=${\ $node->port} user=$user
[pgbouncer]
listen_port = $port
unix_socket_dir = $directory
logfile = $directory/log
auth_type = any
verbose = 0
max_client_conn = 200
$settings
END
	my $handle = IPC::Run::start([ $bouncer_program, '-q', "$directory/bouncer.ini" ], '<', \undef, '>&', \my $noise);
	wait_until(sub { return -S "$directory/.s.PGSQL.$port"; }, "$name: started");
	return ($directory, $port, "$directory/log", $handle);
}

sub stop_bouncer
{
	my ($bouncer) = @_;
	$bouncer->signal('KILL');
	eval { $bouncer->finish; };
	return;
}

sub refusals
{
	my ($log) = @_;
	return scalar(() = slurp_file($log) =~ /pooler error: unsupported startup parameter/g);
}

for my $mode (qw(session transaction))
{
	my $what = "pool_mode = $mode";
	my $offset = log_size();
	my ($host, $port, $log, $bouncer) = start_bouncer($what, "pool_mode = $mode\ndefault_pool_size = 20");

	# Connections are replaced all the time, so that the pool opens many.
	run_load("$pool host=$host port=$port pool_max_lifetime=100ms", $what, sub {
		return scalar(() = slurp_file($log) =~ /login attempt/g) > 20;
	});
	is(refusals($log), 1, "$what: refused once, and remembered");
	is_silent($what, $offset);

	stop_bouncer($bouncer);

	# The same with options swallowed instead of refused.
	$offset = log_size();
	$what .= ', ignore_startup_parameters = options';
	($host, $port, $log, $bouncer) =
		start_bouncer($what, "pool_mode = $mode\ndefault_pool_size = 20\nignore_startup_parameters = options");
	run_load("$pool host=$host port=$port", $what);
	is(refusals($log), 0, "$what: nothing is refused");
	is_silent($what, $offset);
	stop_bouncer($bouncer);
}
is($node->safe_psql('postgres', 'SELECT reports_applied + reports_ignored + reports_rejected FROM pgpool_monitor.info'), 0,
	'the server has seen no report');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances)), 0, 'and no instance');

# --- a proxy that hands us another's session

# Passes bytes on, but gives every session the same foreign id, which the server then echoes.
sub run_proxy
{
	my ($path) = @_;
	my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 20) or die "$path: $!";
	my $server = $node->host . '/.s.PGSQL.' . $node->port;
	my $select = IO::Select->new($listener);
	my %peer;

	for (;;)
	{
		for my $from ($select->can_read)
		{
			if ($from == $listener)
			{
				my $client = $listener->accept or next;
				my $to = IO::Socket::UNIX->new(Peer => $server);
				if (!$to) { close $client; next; }
				@peer{$client, $to} = ($to, $client);
				$select->add($client, $to);
				next;
			}
			my $to = $peer{$from} or next;
			if (sysread($from, my $bytes, 65536))
			{
				$bytes =~ s/instance=[0-9a-f]{32}/'instance=' . 'f' x 32/e;
				syswrite($to, $bytes);
				next;
			}
			$select->remove($from, $to);
			delete @peer{$from, $to};
			close $from;
			close $to;
		}
	}
	return;
}

# As others have it, the pool may hold two: first that this is so, then that it is not what the proxy makes of it.
run_load("$pool host=${\ $node->host} port=${\ $node->port}", 'directly',
	sub { return $node->safe_psql('postgres', 'SELECT max(allotted) FROM pgpool_monitor.limits') eq '2'; });
wait_for_query($node, $sessions, 0, 'directly: no session is left');

my $directory = PostgreSQL::Test::Utils::tempdir_short();
my $proxy = fork() // die "fork: $!";
if ($proxy == 0)
{
	run_proxy("$directory/.s.PGSQL.6000");
	POSIX::_exit(0);
}
wait_until(sub { return -S "$directory/.s.PGSQL.6000"; }, 'a wrong echo: started');
my $offset = log_size();
run_load("$pool host=$directory port=6000", 'a wrong echo', sub {
	return $node->safe_psql('postgres', $sessions) == 5;
});
is_silent('a wrong echo', $offset);
pass('a wrong echo: the pool holds five, whatever the server tells the other instance');
kill 'KILL', $proxy;
waitpid($proxy, 0);
done_testing();
