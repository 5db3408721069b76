# A standby with the extension: it watches and shares there as anywhere, writes nothing, and goes on when it is promoted. How a server
# ends with pools attached; what it does without a worker, after its worker is killed, and with another max_connections.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('primary',
	max_connections => 30,    # 3 reserved, 2 headroom
	autovacuum => 'off',
	fsync => 'off',
	wal_level => 'replica',
	max_wal_senders => 3,
	hot_standby => 'on',
	log_replication_commands => 'off',
	'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.headroom' => 2,
	'pgpool_monitor.rules' => 'orders=5',
	'pgpool_monitor.report_interval' => '500ms',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.retry_interval' => '300ms',
	'pgpool_monitor.history_interval' => '100ms',
	'pgpool_monitor.health_enter' => 0,
	'pgpool_monitor.health_leave' => 0);
my $share = 'follow=1;report=1';

sub views_are_readable
{
	my ($server, $what) = @_;
	my @broken;

	for my $view (split /\n/, $server->safe_psql('postgres', q(SELECT relname FROM pg_class
		WHERE relnamespace = 'pgpool_monitor'::regnamespace AND relkind = 'v')))
	{
		my (undef, undef, $error) = $server->psql('postgres', "SELECT count(v::text) FROM pgpool_monitor.$view v");
		push @broken, "$view: $error" if $error;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("@broken", '', $what);
	return;
}

# Until a peer that wants all it can get is told a limit that satisfies.
sub until_limit
{
	my ($peers, $is_it, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { $_->report(max => 40, in_use => 1, waiting => 39) for @$peers;
		return $is_it->(map { $_->allotment->{limit} } @$peers); },
		$what) || do { diag(join ' / ', map { $_->text . ' ' . $_->error } @$peers); 0 };
}

# --- reports write nothing

my $peer = Peer->new($node, pool => 'orders', instance => 'w;report=1');
my $lsn = 'SELECT pg_current_wal_insert_lsn()';
# what reading may clean up, whoever reads
$node->safe_psql('postgres', 'VACUUM FREEZE');
views_are_readable($node, 'views of the primary');
my $from = $node->safe_psql('postgres', $lsn);
$peer->report(in_use => $_) for 1 .. 500;
views_are_readable($node, 'are readable after reports');
my $to = $node->safe_psql('postgres', $lsn);
my $records = $from eq $to ? '' : do
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to ], '>', \$out, '2>', \$err);
	$out =~ s/^rmgr: (?:Standby|XLOG) .*\n//mgr;
};
is($records, '', 'reports and views leave nothing in the write-ahead log');
$peer->report(bye => 1);
$peer->end;

# --- a standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'a standby');
wait_for_query($standby, 'SELECT worker_pid IS NOT NULL AND rounds > 0 FROM pgpool_monitor.info', 't', 'has a worker');
views_are_readable($standby, 'whose views work');

my $orders = Peer->new($standby, pool => 'orders', instance => "o;$share");
my $web = Peer->new($standby, pool => 'web', instance => "w;$share");
my $incarnation = $orders->allotment->{inc};
my $worker = $standby->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
until_limit([ $orders, $web ], sub { return $_[0] == 5 && $_[1] >= 15; }, 'pools share there, by its rules');
is($standby->safe_psql('postgres', q(SELECT rule FROM pgpool_monitor.limits WHERE pool = 'orders')), 'orders=5', 'as limits says');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances)), 0, 'the primary knows nothing of them');
wait_for_query($standby, q(SELECT health FROM pgpool_monitor.pools WHERE pool = 'orders'), qr/^(starved|saturated)$/, 'health works');
wait_for_query($standby, q(SELECT count(*) > 0 FROM pgpool_monitor.history WHERE pool = 'orders' AND waiting = 39), 't', 'so does history');

# The protocol's way to report works under any default.
my $serializable = Peer->new($standby, pool => 'web', instance => "w;$share", options => '-c default_transaction_isolation=serializable');
is($serializable->error, '', 'a session whose default a standby cannot do is attached');
is($serializable->allotment->{id}, 'w', 'and is told its limit');
$serializable->{seq} = 1_000_000;
$web->{seq} = 2_000_000;
$serializable->say('BEGIN ISOLATION LEVEL READ COMMITTED');
$serializable->report(max => 40, in_use => 2, waiting => 38);
is($serializable->error, '', 'it can report');
$serializable->say('COMMIT');
is($standby->safe_psql('postgres', q(SELECT in_use FROM pgpool_monitor.instances WHERE instance = 'w')), 2, 'and is heard');
$serializable->end;

PgpoolMonitor::set($standby, 'pgpool_monitor.mode' => 'enforce', 'pgpool_monitor.rules' => 'orders=2', 'pgpool_monitor.always_admit' => '');
$standby->reload;
until_limit([$orders], sub { return $_[0] == 2; }, 'other rules');
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my @two = map { Peer->new($standby, pool => 'orders', user => 'app') } 1 .. 2;
like($two[1]->error, qr/too many connections for pool "orders"/, 'and another mode are taken there');
$_->end for @two;
PgpoolMonitor::set($standby, 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.rules' => 'orders=6');
$standby->reload;
# The other one has to say, too, that it gives back what it was told meanwhile.
until_limit([ $orders, $web ], sub { return $_[0] == 6; }, 'back again');
$peer = Peer->new($standby);
$peer->say('CREATE TABLE t()');
like($peer->error, qr/^25006/, 'all this on a server that can write nothing');
$peer->end;

# --- promotion

my ($load, $output) = start_program($standby, 'load', 4, 'application_name=load pool_max_size=3 pool_max_waiters=100');

sub answered
{
	$load->pump_nb;
	my ($last) = $$output =~ /.*^progress:(\d+)$/ms;
	return $last // 0;
}

sub goes_on
{
	my ($what) = @_;
	my $before = answered();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { return answered() > $before + 1000; }, $what);
}

goes_on('a pool of the library works on the standby');
my $sessions = q(SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pgpool_monitor.sessions WHERE pool IN ('orders', 'web'));
my $pids = $standby->safe_psql('postgres', $sessions);
my $joined = q(SELECT string_agg(joined::text, ' ' ORDER BY instance) FROM pgpool_monitor.instances WHERE pool IN ('orders', 'web') AND sessions > 0);
my $since = $standby->safe_psql('postgres', $joined);
my $epoch = $orders->allotment->{epoch};
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f', 'promoted');
goes_on('which the pool does not notice');
is($standby->safe_psql('postgres', $sessions), $pids, 'who was attached stays');
is($standby->safe_psql('postgres', $joined), $since, 'as the instance that he was');
is($standby->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info'), $worker, 'the worker, too');
PgpoolMonitor::set($standby, 'pgpool_monitor.rules' => 'orders=4');
$standby->reload;
until_limit([$orders], sub { return $_[0] == 4; }, 'limits go on');
is($orders->allotment->{inc}, $incarnation, 'in the same incarnation');
cmp_ok($orders->allotment->{epoch}, '>', $epoch, 'with later epochs');
$orders->say('CREATE TABLE t()');
is($orders->error, '', 'and it can write now');
views_are_readable($standby, 'views work');

# --- ends

# Smart: waits for those who are there, whom it still serves, and lets nobody in.
$load->signal('TERM');
$load->finish;
command_ok([ 'pg_ctl', '-D', $standby->data_dir, '-W', '-m', 'smart', 'stop' ], 'a smart shutdown');
wait_until(sub { my $late = Peer->new($standby, pool => 'orders'); my $error = $late->error; $late->end if !$error;
	return $error =~ /shutting down/; }, 'lets nobody in');
$orders->report(max => 40, in_use => 1, waiting => 39);
is($orders->error, '', 'who is there may still report');
$_->end for $orders, $web;
wait_until(sub { return !-e $standby->data_dir . '/postmaster.pid'; }, 'and ends with the last of them');
$standby->_update_pid(0);
is(-e $standby->data_dir . '/postmaster.pid', undef, 'in order');

# Fast: with pools attached that at once come back.
($load, $output) = start_program($node, 'load', 8, 'application_name=load pool_max_size=5 pool_max_waiters=100 pool_acquire_timeout=60s');
my @peers = map { Peer->new($node, pool => "p$_", instance => "i$_;$share") } 1 .. 8;
goes_on('pools on the primary');
command_ok([ 'pg_ctl', '-D', $node->data_dir, '-w', '-t', 60, '-m', 'fast', 'stop' ], 'a fast shutdown ends with them attached');
$node->_update_pid(0);
$_->kill for @peers;

# --- another max_connections

PgpoolMonitor::set($node, max_connections => 20, 'pgpool_monitor.rules' => '');
$node->start;
wait_for_query($node, 'SELECT max_connections, reserved, headroom, capacity <= 15 FROM pgpool_monitor.info', '20|3|2|t', 'fewer connections after a restart');
goes_on('the pool is back');

# --- the worker is killed: the server begins anew, and is not overrun by those who come back

my $greedy = 'pool_max_size=16 pool_max_waiters=100 pool_acquire_timeout=60s';
my @loads = map { [ start_program($node, 'load', 16, "application_name=more$_ $greedy") ] } 1 .. 2;
my $held = q(SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'load|more');
wait_for_query($node, 'SELECT held >= 10 FROM pgpool_monitor.info', 't', 'three pools want more than there is');
my $log = -s $node->logfile;
my $before = $node->safe_psql('postgres', 'SELECT incarnation FROM pgpool_monitor.info');
kill 'KILL', $node->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
wait_for_log_line($node, qr/reinitializing.*ready to accept connections/s, 'its worker is killed, and the server starts anew', $log);
my $most = 0;
wait_until(
	sub {
		my (undef, $answer) = $node->psql('postgres', "SELECT ($held), incarnation <> '$before'"
				. " AND worker_pid IS NOT NULL AND instances = 3 AND held >= 10 FROM pgpool_monitor.info");
		my ($now, $back) = split /\|/, $answer // '';
		$most = $now if ($now // 0) > $most;
		return ($back // '') eq 't';
	},
	'all of it is there again');
goes_on('the pools work');
cmp_ok($most, '<=', 17, 'never more than capacity and headroom');
is($node->safe_psql('postgres', 'SELECT excess_peak <= headroom FROM pgpool_monitor.info'), 't', 'by the server\'s own count as well');
unlike(substr(slurp_file($node->logfile), $log), qr/too many clients|remaining connection slots/, 'and nobody was turned away for it');
$_->signal('TERM'), $_->finish for $load, map { $_->[0] } @loads;

# --- no worker

$node->stop('fast');
PgpoolMonitor::set($node, max_worker_processes => 0, max_parallel_workers => 0);
$log = -s $node->logfile;
$node->start;
wait_for_log_line($node, qr/too many background workers/, 'a server without room for a worker starts', $log);
my $alone = Peer->new($node, pool => 'orders', instance => "o;$share");
is($alone->allotment && $alone->allotment->{id}, 'o', 'sessions are attached there');
$alone->report(max => 10, in_use => 1, waiting => 5);
is($node->safe_psql('postgres', q(SELECT sessions, in_use, waiting FROM pgpool_monitor.instances)), '1|1|5', 'and report');
is($node->safe_psql('postgres', 'SELECT worker_pid IS NULL, rounds, capacity IS NULL FROM pgpool_monitor.info'), 't|0|t',
	'info says that there is no worker');
views_are_readable($node, 'views work');
cmp_ok($alone->allotment->{limit}, '<=', 1, 'nobody is given more than his first connection, as nobody counts');
PgpoolMonitor::set($node, 'pgpool_monitor.mode' => 'off');
$node->reload;
wait_until(sub { $alone->say('SELECT 1'); return $alone->allotment->{state} eq 'off'; }, 'and off frees them');
$alone->end;
$node->stop('fast');
done_testing();
