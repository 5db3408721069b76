# Pause and resume: callers wait, loans finish, a pool drains for a schema change, and goes on where its queue was; whatever happens
# meanwhile to clients, worker, leases and server.
#
# timeout: 600

use strict;
use warnings;

use IPC::Run;
use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('pause',
	autovacuum => 'off',
	# for the standby at the end
	wal_level => 'replica',
	max_wal_senders => 5,
	'pgpool_monitor.report_interval' => '300ms',
	'pgpool_monitor.lease' => '1s',
	'pgpool_monitor.retry_interval' => '300ms',
	'pgpool_monitor.round_interval' => '100ms');

# --- a process with a pool (tests/programs/borrow.c)

package Borrowers
{
	# new(CONNINFO): a pool of one connection, unless it says otherwise.
	sub new
	{
		my ($class, $conninfo) = @_;
		my $self = bless { in => '', out => '' }, $class;

		$conninfo .= ' pool_max_size=1' if $conninfo !~ /pool_max_size/;
		local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
		$self->{handle} = IPC::Run::start([ "$ENV{STAGE_OUT}/programs/borrow", $conninfo ],
			'<', \$self->{in}, '>', \$self->{out}, IPC::Run::timer(500));
		return $self;
	}

	# Send one command; the figures are then this object's.
	sub ask
	{
		my ($self, $line) = @_;

		$self->{in} .= "$line\n";
		while ($self->{out} !~ /\n/ && $self->{handle}->pumpable) { $self->{handle}->pump; }
		$self->{out} =~ s/\A([^\n]*)\n?//;
		my %now = map { /([^=]*)=(.*)/ } split /\|/, $1;
		@$self{ keys %now } = values %now;
		return $self;
	}

	sub is_now
	{
		my ($self, %want) = @_;

		$self->ask('stats');
		return !grep { $self->{$_} ne $want{$_} } keys %want;
	}

	# Until all the figures are as given.
	sub becomes
	{
		my ($self, $what, %want) = @_;

		local $Test::Builder::Level = $Test::Builder::Level + 1;
		return main::wait_until(sub { return $self->is_now(%want); }, $what)
			|| do { main::diag(join ' ', map { "$_=$self->{$_}" } sort grep { !/^(handle|in|out)$/ } keys %$self); 0 };
	}

	sub end
	{
		my ($self) = @_;

		# a server that was started since has the pipe open as well, so that closing it would not be noticed
		$self->{in} .= "quit\n";
		$self->{handle}->finish;
		return;
	}
}

sub sql
{
	my ($query) = @_;

	return $node->safe_psql('postgres', $query);
}

sub becomes
{
	my ($query, $expected, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for_query($node, $query, $expected, $what);
}

sql('CREATE ROLE app LOGIN');
sql('CREATE DATABASE other');
sql('CREATE TABLE stock (id int)');

# --- draining for a schema change

my $orders = Borrowers->new('pool_name=orders application_name=orders');
my $more = Borrowers->new('pool_name=orders application_name=orders pool_max_size=2');
my $web = Borrowers->new('pool_name=web');
my $role = Borrowers->new('pool_name=orders user=app');
my $database = Borrowers->new('pool_name=orders dbname=other');

$orders->ask('begin 1 60000');
$more->ask("begin $_ 60000") for 1, 2;
$orders->becomes('a loan', served => '1', attached => 1, state => 'OK');
wait_until(sub { return $more->ask('stats')->{in_use} == 2; }, 'and two of another instance');
$_->ask('pass 1 60000') for $web, $role, $database;
$_->becomes('others work', done => '1') for $web, $role, $database;

is(sql(q(SELECT pgpool_monitor.pause('orders', current_user, 'postgres'))), '2', 'both instances of the pool are told');
$_->becomes('a client whose connections are all lent hears of it: pqpool_limits() says so', state => 'PAUSED') for $orders, $more;
becomes(q(SELECT instances, heard, in_use, busy FROM pgpool_monitor.pauses), '2|2|3|3', 'which the server sees, and what is still out');

for my $id (3 .. 5)
{
	$orders->ask("pass $id 300000");
	$orders->becomes("borrower $id waits", waiting => $id - 2);
}
$orders->ask('pass 6 300');
$orders->becomes('one is out of time', failed => '6:PQPOOL_PAUSED', waiting => 3);
like($orders->{message}, qr/^pool "orders": timed out after \d+ ms: 1 of 1 in use.*paused by the server; the pool is paused$/, 'and is told why');
$orders->ask('pass 7 0');
$orders->becomes('so is who does not wait at all', failed => '6:PQPOOL_PAUSED,7:PQPOOL_PAUSED');

becomes(q(SELECT health, reason FROM pgpool_monitor.pools WHERE pool = 'orders' AND role = current_user AND database = 'postgres'),
	'ok|paused; 3 in use, 3 wait', 'pools says why they wait');
is(sql(q(SELECT string_agg(DISTINCT state, ',') FROM pgpool_monitor.instances WHERE pool = 'orders' AND role = current_user
	AND database = 'postgres')), 'paused', 'instances what they are told');
like(sql(q(SELECT reason FROM pgpool_monitor.limits WHERE pool = 'orders' AND role = current_user AND database = 'postgres')),
	qr/^paused: 2 of 2 instances/, 'limits that it is an order');
$_->ask('pass 2 60000') for $web, $role, $database;
$_->becomes('another pool, role or database goes on', done => '1,2', state => 'OK') for $web, $role, $database;

$orders->ask('end 1');
$more->ask("end $_") for 1, 2;
$orders->becomes('loans finish', done => '1', in_use => 0, idle => 1);
wait_until(sub { return $more->ask('stats')->{in_use} == 0; }, 'all of them');
becomes(q(SELECT heard = instances AND in_use = 0 AND busy = 0 FROM pgpool_monitor.pauses), 't', 'the view says that it has drained');
# A report is a short command as well, and none of a loan.
is(sql(q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orders' AND datname = 'postgres' AND usename = current_user
	AND state <> 'idle' AND query NOT LIKE '%pgpool_monitor.report%' AND query NOT IN ('BEGIN ISOLATION LEVEL READ COMMITTED', 'COMMIT'))),
	'0', 'and so does pg_stat_activity');
is(sql(q(SELECT sessions_held FROM pgpool_monitor.pauses)), '3', 'connections stay open');
sql(q(SET lock_timeout = '10s'; ALTER TABLE stock ADD COLUMN amount int));
ok($orders->is_now(served => '1', waiting => 3, state => 'PAUSED'), 'the schema is changed, and nobody was served meanwhile');
sql(q(SELECT pgpool_monitor.resume('orders', current_user, 'postgres')));
$orders->becomes('resumed, waiters are served in their order', served => '1,3,4,5', done => '1,3,4,5', waiting => 0, state => 'OK');
is($orders->{failed}, '6:PQPOOL_PAUSED,7:PQPOOL_PAUSED', 'and nobody else was told anything');

# --- whom it covers

sub covers
{
	my ($arguments, $what, %paused) = @_;

	sql("SELECT pgpool_monitor.pause($arguments)");
	for my $name (sort keys %paused)
	{
		my $who = { orders => $orders, web => $web, role => $role, database => $database }->{$name};
		$who->becomes("$what: $name", state => $paused{$name} ? 'PAUSED' : 'OK');
	}
	sql("SELECT pgpool_monitor.resume($arguments)");
	$_->becomes('and over', state => 'OK') for $orders, $web, $role, $database;
	return;
}

covers(q(role => 'app'), 'by role', role => 1, orders => 0, web => 0, database => 0);
covers(q(database => 'other'), 'by database', database => 1, orders => 0, web => 0, role => 0);
covers(q(pool => 'orders'), 'by pool', orders => 1, role => 1, database => 1, web => 0);
covers('', 'everybody', orders => 1, role => 1, database => 1, web => 1);

# --- the end by itself, first without and then with the worker

sub pause_with_waiter
{
	my ($id) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(q(SELECT pgpool_monitor.pause('web', expires => '1 hour')));
	$web->becomes('paused', state => 'PAUSED');
	$web->ask("pass $id 300000");
	$web->becomes('a borrower waits', waiting => 1);
	return;
}

my $worker = sql('SELECT worker_pid FROM pgpool_monitor.info');
pause_with_waiter(3);
kill 'STOP', $worker;
sql(q(SELECT pgpool_monitor.pause('web', expires => '1 second')));
$web->becomes('a pause that has expired is over, though the worker is stopped', done => '1,2,3', state => 'OK');
kill 'CONT', $worker;
is(sql('SELECT count(*) FROM pgpool_monitor.pauses'), '0', 'and gone from the view');
pause_with_waiter(4);
sql(q(SELECT pgpool_monitor.pause('web', expires => '1 second')));
$web->becomes('and with the worker', done => '1,2,3,4', state => 'OK');

# --- one that has no session left hears that it is over

my $lazy = Borrowers->new('pool_name=lazy pool_idle_timeout=500ms');
$lazy->ask('pass 1 60000');
$lazy->becomes('works', done => '1', state => 'OK');
sql(q(SELECT pgpool_monitor.pause('lazy')));
$lazy->becomes('paused, and in time all its connections are closed', state => 'PAUSED', size => 0);
sql(q(SELECT pgpool_monitor.resume('lazy')));
$lazy->ask('pass 2 60000');
$lazy->becomes('resumed, the next borrower is served', done => '1,2', state => 'OK');
sql(q(SELECT pgpool_monitor.pause('lazy')));
$lazy->becomes('the same again', state => 'PAUSED', size => 0);
$lazy->ask('pass 3 300000');
$lazy->becomes('a borrower waits', waiting => 1, size => 1);
sql(q(SELECT pgpool_monitor.resume('lazy')));
$lazy->becomes('and is served', done => '1,2,3', state => 'OK');
$lazy->end;

# --- clients that restart

sql(q(SELECT pgpool_monitor.pause('web')));
$web->becomes('paused', state => 'PAUSED');
$web->end;
$web = Borrowers->new('pool_name=web');
$web->ask('pass 1 300000');
$web->becomes('a client that is started while its pool is paused is paused as well', waiting => 1, state => 'PAUSED', size => 1, served => '');
sql(q(SELECT pgpool_monitor.resume('web')));
$web->becomes('and goes on', done => '1', state => 'OK');

# --- a server that restarts

sub survives
{
	my ($what, $restart) = @_;
	my $log = -s $node->logfile;
	my $id = 10;

	sql(q(SELECT pgpool_monitor.pause('web', expires => '1 hour')));
	$web->becomes("$what: paused", state => 'PAUSED');
	$restart->();
	wait_for_log_line($node, qr/pgpool_monitor keeps connection pools paused, by 1 order/, 'the log says so', $log);
	becomes(q(SELECT pool, by_role = current_user, expires > now() FROM pgpool_monitor.pauses), 'web|t|t', 'the pause is still there');
	$web->becomes('its sessions are gone', size => 0, state => 'PAUSED');
	my $served = $web->{served};
	$web->ask("pass $id 300000");
	becomes(q(SELECT state, waiting FROM pgpool_monitor.instances WHERE pool = 'web' AND waiting > 0), 'paused|1', 'who acquires waits');
	my $new = Borrowers->new('pool_name=web');
	$new->ask('pass 1 300000');
	$new->becomes('a new client too', waiting => 1, state => 'PAUSED', size => 1);
	ok($web->is_now(served => $served, waiting => 1, state => 'PAUSED'), 'nobody was served');
	is(sql(q(SELECT pgpool_monitor.resume('web'))), '1', 'until it is resumed');
	$web->becomes('then they are', served => "$served,$id", state => 'OK');
	$new->becomes('all of them', served => '1', state => 'OK');
	$new->end;
	return;
}

survives('restart', sub { $node->restart; return; });
survives('immediate shutdown', sub { $node->stop('immediate'); $node->start; return; });
survives(
	'a backend killed',
	sub {
		my $log = -s $node->logfile;
		kill 'KILL', sql(q(SELECT pid FROM pgpool_monitor.sessions WHERE pool = 'web' LIMIT 1));
		wait_for_log_line($node, qr/reinitializing.*ready to accept connections/s, 'the server starts anew', $log);
		return;
	});

# While the server is away the lease runs out, and nothing is concluded from that; callers wait for what they would wait for anyway.
sql(q(SELECT pgpool_monitor.pause('web')));
$web->becomes('paused', state => 'PAUSED');
my $served = $web->{served};
$web->ask('pass 11 300000');
$web->becomes('a borrower waits', waiting => 1);
$node->stop('fast');
$web->becomes('its lease has run out', lease_left => 0, size => 0);
is($web->{state}, 'PAUSED', 'and it is still paused');
$web->ask('pass 12 3000');
$web->becomes('one is out of time', failed => '12:PQPOOL_PAUSED');
like($web->{message}, qr/paused by the server; the pool is paused/, 'and is told that it is paused, rather than that the server is down');
ok($web->is_now(waiting => 1, served => $served), 'the other waits');
$node->start;
becomes(q(SELECT state, waiting FROM pgpool_monitor.instances WHERE pool = 'web' AND waiting > 0), 'paused|1', 'when the server is back, too');
ok($web->is_now(waiting => 1, served => $served, state => 'PAUSED'), 'and he has not been served');
sql(q(SELECT pgpool_monitor.resume('web')));
$web->becomes('until now', served => "$served,11", state => 'OK', failed => '12:PQPOOL_PAUSED');
sql(q(SELECT pgpool_monitor.pause('web')));
$web->becomes('paused again', state => 'PAUSED');

# --- damage

my $file = $node->data_dir . '/pg_stat/pgpool_monitor.pauses';
$node->stop('fast');
my $content = slurp_file($file);
my $log;

sub start_with
{
	my ($what, $bytes, $ignored) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	open(my $handle, '>:raw', $file) or die "$file: $!";
	print $handle $bytes;
	close $handle;
	$log = -s $node->logfile;
	$node->start;
	is(sql('SELECT count(*) FROM pgpool_monitor.pauses'), $ignored ? 0 : 1, "$what: " . ($ignored ? 'no pause' : 'a pause'));
	my $said = slurp_file($node->logfile, $log) =~ /LOG:.*ignoring invalid data in file "pg_stat.pgpool_monitor.pauses"/;
	is($said ? 1 : 0, $ignored, '  and the log says ' . ($ignored ? 'why' : 'nothing'));
	$node->stop('fast') if $what ne 'nothing at all';
	return;
}

start_with('as it was', $content, 0);
start_with('cut short', substr($content, 0, -1), 1);
start_with('too long', "$content.", 1);
start_with('one bit', substr($content, 0, 20) . chr(ord(substr($content, 20, 1)) ^ 1) . substr($content, 21), 1);
start_with('garbage', 'x' x 4000, 1);
start_with('nothing at all', '', 1);
$web->ask('pass 20 60000');
wait_until(sub { return $web->ask('stats')->{done} =~ /,20$/; }, 'a pause that is lost is over');

# Where it cannot be written nothing is ordered.
unlink $file;
mkdir $file;
my ($status, undef, $error) = $node->psql('postgres', 'SELECT pgpool_monitor.pause()');
isnt($status, 0, 'a pause that cannot be written is refused');
is(sql('SELECT count(*) FROM pgpool_monitor.pauses'), '0', 'and not in force');
rmdir $file;
like(sql('SELECT pgpool_monitor.pause(); SELECT pgpool_monitor.resume()'), qr/^\d+\n1$/, 'the next one is');
$_->end for $orders, $more, $web, $role, $database;
becomes('SELECT count(*) FROM pgpool_monitor.instances', '0', 'all clients have left');

# --- by hand: what is told to whom, in every mode

sub state_of
{
	my ($peer) = @_;

	$peer->say('SELECT 1');
	return $peer->allotment->{state};
}

PgpoolMonitor::set($node, 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.rules' => 'silent=-:mode=off, watched=-:mode=observe');
$node->reload;
becomes('SELECT mode FROM pgpool_monitor.info', 'share', 'mode share');
my %peer = map { $_ => Peer->new($node, pool => $_, instance => "$_;follow=1;report=1") } qw(shared watched silent);
$peer{loose} = Peer->new($node, pool => 'shared', instance => 'loose;report=1');
wait_until(sub { return state_of($peer{silent}) eq 'off' && state_of($peer{watched}) eq 'ok'; }, 'each is told what its mode is');
$peer{shared}->report(max => 5, in_use => 1, waiting => 2);
wait_until(sub { state_of($peer{shared}); return $peer{shared}->allotment->{limit} >= 3; }, 'who shares has a limit');
my $limit = $peer{shared}->allotment->{limit};
# an instance of before may be on its way out yet
my $following = sql(q(SELECT count(*) FROM pgpool_monitor.instances WHERE follows AND pool <> 'silent'));
is(sql('SELECT pgpool_monitor.pause()'), $following, 'a pause covers those that follow')
  || diag(sql('SELECT pool, instance, follows, state, sessions, knocks FROM pgpool_monitor.instances'));
is(state_of($peer{shared}), 'paused', 'in mode share');
is($peer{shared}->allotment->{limit}, $limit, 'who keeps his limit');
is(state_of($peer{watched}), 'paused', 'in mode observe');
is($peer{watched}->allotment->{limit}, -1, 'who has none');
is(state_of($peer{silent}), 'off', 'not in mode off');
is(state_of($peer{loose}), 'ok', 'nor who does not follow');
is(sql('SELECT instances, heard FROM pgpool_monitor.pauses'), "$following|0", 'nobody has acknowledged it');
$peer{shared}->report(max => 5, in_use => 1, waiting => 2);
is(sql('SELECT instances, heard, in_use FROM pgpool_monitor.pauses'), "$following|1|1", 'one has');
$peer{watched}->report(in_use => 0, ack => $peer{watched}->allotment->{epoch} - 1);
is(sql('SELECT heard FROM pgpool_monitor.pauses'), '1', 'an older text is not it');
like(sql(q(SELECT reason FROM pgpool_monitor.limits WHERE pool = 'shared')), qr/^paused: 1 of 2 instances/, 'the view says how many are paused');
my $late = Peer->new($node, pool => 'late', instance => 'late;follow=1;report=1');
is($late->allotment->{state}, 'paused', 'a newcomer hears it with his first text');
is($late->allotment->{limit}, 1, 'with his first connection');
my $knock = Peer->new($node, pool => 'late', instance => 'knock;follow=1;report=1;kind=knock');
is($knock->allotment->{state}, 'paused', 'and one who knocks');
PgpoolMonitor::set($node, 'pgpool_monitor.mode' => 'off');
$node->reload;
wait_until(sub { return state_of($peer{shared}) eq 'off' && state_of($peer{watched}) eq 'off'; }, 'mode off ends it for all');
PgpoolMonitor::set($node, 'pgpool_monitor.mode' => 'observe');
$node->reload;
wait_until(sub { return state_of($peer{shared}) eq 'paused' && state_of($peer{watched}) eq 'paused'; }, 'and it counts again when that is over');
is(sql('SELECT pgpool_monitor.resume()'), '1', 'resumed');
wait_until(sub { return state_of($peer{shared}) eq 'ok' && state_of($late) eq 'ok'; }, 'all are');
$_->end for values %peer, $late, $knock;

# --- orders at the same time: what is in the file is what is in force

my @writers = map {
	my $n = $_;
	my $script = join "\n", map { "SELECT pgpool_monitor.pause('w$n'); SELECT pgpool_monitor.resume('w$n');" } 1 .. 50;
	my $out = '';
	my @psql = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'));
	[ IPC::Run::start(\@psql, '<', \"$script\nSELECT pgpool_monitor.pause('w$n');\n", '>', \$out, '2>', \$out), \$out ];
} 1 .. 4;
ok($_->[0]->finish, 'a writer among others') || diag(${ $_->[1] }) for @writers;
my $all = q(SELECT string_agg(pool, ',' ORDER BY pool) FROM pgpool_monitor.pauses);
is(sql($all), 'w1,w2,w3,w4', 'all orders are in force');
$node->restart;
is(sql($all), 'w1,w2,w3,w4', 'and in the file');
sql('SELECT pgpool_monitor.resume()');
$node->restart;
is(sql($all), '', 'so is that they are over');

# --- a standby has its own

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $peer = Peer->new($standby, pool => 'orders', instance => 'a;follow=1;report=1');
is($standby->safe_psql('postgres', q(SELECT pgpool_monitor.pause('orders', expires => '1 hour'))), '1', 'a pause on a standby');
is(state_of($peer), 'paused', 'is told');
is(sql('SELECT count(*) FROM pgpool_monitor.pauses'), '0', 'and is none of the primary');
$standby->promote;
is(state_of($peer), 'paused', 'it outlives a promotion');
is($standby->safe_psql('postgres', 'SELECT pgpool_monitor.resume()'), '1', 'until it is resumed');
is(state_of($peer), 'ok', 'which is told');
$peer->end;
$standby->stop;

$node->stop('fast');
done_testing();
