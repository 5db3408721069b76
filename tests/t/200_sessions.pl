# Who is attached, and that everybody is detached, however he ends.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('sessions', autovacuum => 'off', wal_level => 'replica', max_wal_senders => 4);
my $attached = q(SELECT count(*) FROM pgpool_monitor.sessions);
my $instances = q(SELECT coalesce(string_agg(pool || ':' || coalesce(instance, '-') || ':' || sessions || '+' || knocks, ' '
	ORDER BY pool, instance), '') FROM pgpool_monitor.instances);

# --- attach

my $one = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1');
my $two = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1;newer=x');
my $three = Peer->new($node, pool => 'web', instance => 'b1');
my $stranger = Peer->new($node);
is($node->safe_psql('postgres', $instances), 'orders:a1:2+0 web:b1:1+0', 'sessions are counted by pool and instance');
is($one->allotment->{id}, 'a1', 'the allotment echoes the id, without its keys');
is($stranger->allotment, undef, 'a session without identity is sent nothing');
is($node->safe_psql('postgres', 'SELECT sum(sessions) = (SELECT count(*) FROM pg_stat_activity WHERE backend_type = '
			. q('client backend') . ') FROM pgpool_monitor.pools'),
	't', 'sessions of all rows sum to pg_stat_activity');

my $knock = Peer->new($node, pool => 'orders', instance => 'a1;kind=knock;follow=1;report=1');
is($node->safe_psql('postgres', $instances), 'orders:a1:2+1 web:b1:1+0', 'a knock is counted apart');
$knock->end;

# Without an id, by address and name.
my @drivers = map { Peer->new($node, pool => 'django', application_name => $_) } qw(gunicorn gunicorn celery);
is($node->safe_psql('postgres', q(SELECT string_agg(application_name || ':' || sessions, ' ' ORDER BY application_name)
	FROM pgpool_monitor.instances WHERE pool = 'django' AND instance IS NULL)),
	'celery:1 gunicorn:2', 'without an id instances are told apart by their name');
$_->end for @drivers;
wait_for_query($node, $instances, 'orders:a1:2+0 web:b1:1+0', 'and are gone with their last session');

# The key holds role and database.
$node->safe_psql('postgres', 'CREATE ROLE etl LOGIN');
my $other = Peer->new($node, pool => 'orders', instance => 'a1', user => 'etl');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.pools WHERE pool = 'orders')), 2,
	'the same name of another role is another pool');
$other->end;
$_->end for $one, $two, $three, $stranger;
wait_for_query($node, $attached, 0, 'sessions are detached when their clients leave');

# --- detach

my $busy = 'BEGIN; CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1; SELECT txid_current()';

$one = Peer->new($node, pool => 'orders', instance => 'a1');
$one->say($busy);
$one->kill;
wait_for_query($node, $attached, 0, 'a client killed in a transaction is detached');

$one = Peer->new($node, pool => 'orders', instance => 'a1');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $one->pid . ')');
wait_for_query($node, $attached, 0, 'so is a terminated backend');
is($one->say('SELECT 1'), undef, 'whose client notices');
is($one->error, 'gone', 'that it is gone');

for (1 .. 5)
{
	Peer->new($node, pool => 'orders', instance => 'a1', dbname => 'nowhere');
	Peer->new($node, pool => 'orders', instance => 'a1', user => 'nobody');
}
wait_for_query($node, $attached, 0, 'a startup that fails leaves nothing');
is($node->safe_psql('postgres', q(SELECT sum(sessions + knocks) FROM pgpool_monitor.instances)), 0, 'in no instance either');

# Two-phase, and a session that ends in it.
$one = Peer->new($node, pool => 'orders', instance => 'a1');
$one->say('BEGIN; CREATE TABLE kept(a int); SELECT set_config(\'statement_timeout\', \'0\', true)');
$one->end;
wait_for_query($node, $attached, 0, 'a client that leaves in a transaction is detached');

# --- who is never attached

$node->safe_psql('postgres', 'CREATE TABLE big AS SELECT g FROM generate_series(1, 100) g');
$one = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1');
$one->say(q(SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')));
is($one->say('SELECT count(*) FROM pgpool_monitor.sessions()'), 1, 'a parallel worker is not attached');
is($one->say(q(SELECT setting FROM pg_settings WHERE name = 'max_parallel_workers')), 8, 'while there can be some');
like($one->say(q(SELECT current_setting('pgpool_monitor.allotment') || count(*) FROM big)), qr/^id=a1;.*100$/,
	'and sees what its leader sees');
like($one->say('EXPLAIN SELECT count(*) FROM pgpool_monitor.sessions()'), qr/./, 'in a plan that can be shown');
is($one->error, '', 'without an error');
$one->end;

{
	my ($out, $err) = ('', '');
	local $ENV{PGOPTIONS} = '-c pgpool_monitor.pool=orders -c pgpool_monitor.instance=w';
	$node->psql('postgres', 'IDENTIFY_SYSTEM', replication => 'true', stdout => \$out, stderr => \$err);
	like($out, qr/^\d+\|/, 'a walsender may carry an identity');
	is($err, '', 'like anybody');
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'w')), 0,
	'and is no session of a pool');

# Only the client's own word counts.
$node->append_conf('postgresql.conf', "pgpool_monitor.pool = 'file'\npgpool_monitor.instance = 'f;follow=1'");
$node->reload;
wait_for_query($node, 'SHOW pgpool_monitor.pool', 'file', 'postgresql.conf can set the name');
is($node->safe_psql('postgres', $attached), 0, 'which attaches nobody');
$one = Peer->new($node, pool => 'orders', instance => 'a1');
is($node->safe_psql('postgres', $instances), 'orders:a1:1+0', 'a client says its own over it');
$one->end;
$one = Peer->new($node, pool => 'orders');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance IS NULL)), 1,
	'and the instance of the file is not the client\'s');
$one->end;
PgpoolMonitor::set($node, 'pgpool_monitor.pool' => '', 'pgpool_monitor.instance' => '');
$node->reload;
$one = Peer->new($node);
$one->say(q(SET pgpool_monitor.pool = 'late'));
like($one->error, qr/^55P02/, 'SET comes too late');
is($one->say($attached), 0, 'and attaches nothing');
$one->end;

# --- hostile names

my %names = (
	q('; DROP TABLE big; --) => q('; DROP TABLE big; --),
	qq(two\nlines) => 'two\x0alines',
	qq(esc\x1b[31m) => 'esc\x1b[31m',
	qq(bad\xff\xfeutf8) => 'bad\xff\xfeutf8',
	'back\\slash' => 'back\x5cslash',
	'%s%n' => '%s%n',
	' ' => ' ');
for my $name (sort keys %names)
{
	my $peer = Peer->new($node, pool => $name, instance => 'h');
	is($peer->say(q(SELECT string_agg(pool, '|') FROM pgpool_monitor.instances WHERE instance = 'h')), $names{$name},
		"shown as $names{$name}");
	$peer->say('SELECT count(*) FROM pgpool_monitor.pools, pgpool_monitor.limits, pgpool_monitor.sessions');
	is($peer->error, '', 'and breaks no view');
	$peer->end;
	wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'h'), 0, 'and goes with its client');
}
for my $bad ([ 'pool', 'x' x 64 ], [ 'instance', 'x' x 64 ], [ 'instance', 'a b' ], [ 'instance', "a'b" ], [ 'instance', "\xc3\xa4" ])
{
	my $peer = Peer->new($node, pool => 'p', @$bad);
	like($peer->error, qr/FATAL:  (pool name is too long|invalid id of a pool instance)/, "$bad->[0] is refused with a reason");
}
like(Peer->new($node, pool => 'x' x 65536)->error, qr/FATAL:  invalid length of startup packet|server closed|too long/, '64 kB are refused');
my $empty = Peer->new($node, pool => '', instance => '');
is($empty->error, '', 'an empty name is the same as none');
is($empty->say($attached), 0, 'and attaches nothing');
$empty->end;
is($node->safe_psql('postgres', 'SELECT count(*) FROM big'), 100, 'the table is still there');

# --- full tables

PgpoolMonitor::set($node, 'pgpool_monitor.max_instances' => 2, 'pgpool_monitor.max_pools' => 2);
$node->restart;
my $before = -s $node->logfile;
my @many = map { Peer->new($node, pool => "p$_", instance => 'x') } 1 .. 5;
is(scalar(grep { !$_->error } @many), 5, 'a full table refuses nobody his connection');
is(scalar(grep { $_->allotment } @many), 2, 'but is not attached');
is($node->safe_psql('postgres', 'SELECT refused_sessions, instances, pools FROM pgpool_monitor.info'), '3|2|2',
	'it is counted');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $before);
is(() = $log =~ /has no room for another pool instance/g, 1, 'and logged once');
$_->end for @many;

# --- crash

my $survivor = Peer->new($node, pool => 'orders', instance => 'a1');
my $old = $survivor->allotment->{inc};
my $victim = Peer->new($node, pool => 'orders', instance => 'a1');
kill 'KILL', $victim->pid;
wait_until(sub { $survivor->say('SELECT 1'); return $survivor->error eq 'gone'; }, 'a killed backend takes all down');
wait_until(sub { my (undef, undef, $err) = $node->psql('postgres', 'SELECT 1'); return ($err // '') eq ''; }, 'the server is back');
is($node->safe_psql('postgres', $attached), 0, 'with nobody attached');
$survivor = Peer->new($node, pool => 'orders', instance => 'a1');
isnt($survivor->allotment->{inc}, $old, 'and is another incarnation');
wait_for_query($node, 'SELECT worker_pid IS NOT NULL AND rounds > 0 FROM pgpool_monitor.info', 't', 'whose worker works');
$survivor->end;

# The worker comes back by itself.
my $worker = $node->safe_psql('postgres', 'SELECT worker_pid FROM pgpool_monitor.info');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_for_query($node, "SELECT worker_pid IS NOT NULL AND worker_pid <> $worker FROM pgpool_monitor.info", 't',
	'a terminated worker is started again');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgpool_monitor' AND datname IS NULL)),
	1, 'and is seen in pg_stat_activity, without a database');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
$node->safe_psql('postgres', 'DROP DATABASE copy');

$node->stop('fast');
done_testing();
