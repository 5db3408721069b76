# The server goes and comes back under load: a pool gets over it by itself, and hands out nothing that is dead.

use strict;
use warnings;

use PgpoolMonitor;
use Test::More;

my $threads = 16;
my $connections = 5;
my $node = PgpoolMonitor::node('restart');
my ($load, $output) = start_program($node, 'load', $threads,
	"application_name=load pool_max_size=$connections pool_max_waiters=1000 pool_acquire_timeout=60s");

sub answered
{
	$load->pump_nb;
	my ($last) = $$output =~ /.*^progress:(\d+)$/ms;
	return $last // 0;
}

# Progress since now.
sub goes_on
{
	my ($what) = @_;
	my $before = answered();
	return wait_until(sub { return answered() > $before + 1000; }, $what);
}

goes_on('the load runs');

$node->restart;
goes_on('and goes on after a restart');

$node->stop('immediate');
$node->start;
goes_on('after a crash');

# Long enough for callers to be told.
$node->stop('fast');
wait_until(sub { answered(); return $$output =~ /^# .*/m; }, 'while the server is away callers are told');
$node->start;
goes_on('and it goes on when it is back');

# One session is killed: the server ends all of them, and starts anew.
my $pid = $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE application_name = 'load' LIMIT 1));
my $log = -s $node->logfile;
kill 'KILL', $pid;
wait_for_log_line($node, qr/reinitializing.*ready to accept connections/s, 'a backend is killed, and the server starts anew', $log);
goes_on('it goes on after that');
cmp_ok($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'load')),
	'<=', $connections, 'the pool has no more sessions than it may');

$load->signal('TERM');
$load->finish;
my %summary = $$output =~ /^(\w+):(\w+)$/mg;
note("$_: $summary{$_}") for sort grep { $_ ne 'progress' } keys %summary;
is($summary{close}, 'PQPOOL_OK', 'the pool closes');
cmp_ok($summary{size}, '<=', $connections, 'it had its size');

# A session can end between an acquire and the first question on it: once for each connection and each of the four ends.
cmp_ok($summary{broken}, '<=', 4 * $connections, 'no dead connection was handed out');
is(join(' ', sort grep { /^PQPOOL/ } keys %summary), 'PQPOOL_SERVER_DOWN', 'callers were told one thing: the server is down');
done_testing();
