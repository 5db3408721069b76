# Modes advise and enforce: who is refused, how exactly, who is not, and that turning it off needs nobody.
#
# timeout: 600

use strict;
use warnings;

use IPC::Run;
use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PgpoolMonitor::node('enforce',
	max_connections => 260,
	superuser_reserved_connections => 5,
	autovacuum => 'off',
	fsync => 'off',
	'pgpool_monitor.mode' => 'enforce',
	'pgpool_monitor.headroom' => 10,
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.grace' => 0,
	'pgpool_monitor.rules' => 'orders=20, narrow=1, five=5, *=-',
	'pgpool_monitor.round_interval' => '100ms');
my $share = 'follow=1;report=1';

$node->safe_psql('postgres', q(CREATE ROLE app LOGIN; CREATE ROLE web LOGIN; CREATE ROLE vip LOGIN; CREATE ROLE "Odd, one" LOGIN));

# Asked by a superuser's session that stays, in no pool: nobody is ever in its way.
my $watch = Peer->new($node);
sub ask { return $watch->say($_[0]); }

sub other_node
{
	my (@settings) = @_;

	$watch->end;
	$node->stop('fast');
	$node = PgpoolMonitor::node(@settings);
	$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
	$watch = Peer->new($node);
	return;
}

sub wait_to_see
{
	my ($sql, $expected, $what) = @_;
	my $answer;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { $answer = ask($sql) // $watch->error; return ref $expected ? $answer =~ $expected : $answer eq $expected; },
		$what) || do { diag("last answer: $answer"); 0 };
}

sub reload_with
{
	my (%settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$node->reload;
	for my $setting (sort keys %settings)
	{
		wait_until(sub { return (ask("SELECT current_setting('$setting')") // '') eq $settings{$setting}; }, "$setting = $settings{$setting}");
	}
	return;
}

sub conninfo
{
	my ($user, $pool) = @_;

	return 'host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=$user"
		. ($pool ? " options='-c pgpool_monitor.pool=$pool'" : '');
}

# Start tests/programs/storm.c; its counts come as text, and it holds what it has until it is ended.
sub storm
{
	my ($what, $n, $conninfo) = @_;
	my $self = { in => '', out => '' };

	$self->{handle} = IPC::Run::start([ "$ENV{STAGE_OUT}/programs/storm", $what, $n, $conninfo ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{out}, IPC::Run::timer(300));
	return $self;
}

sub outcome
{
	my ($storm) = @_;

	while ($storm->{out} !~ /^accepted.*\n/m && $storm->{handle}->pumpable) { $storm->{handle}->pump; }
	note($storm->{out}) if $storm->{out} !~ /other:0$/m;
	return { $storm->{out} =~ /(\w+):(\d+)/g };
}

sub sessions_of
{
	my ($pool) = @_;

	return ask("SELECT coalesce(sum(sessions), 0) FROM pgpool_monitor.pools WHERE pool = '$pool'");
}

sub all_gone
{
	my ($pool) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { return sessions_of($pool) == 0; }, "all of $pool have gone");
}

# --- exact, however many come at once

for my $round (1 .. 3)
{
	my $storm = storm('attempts', 200, conninfo('app', 'orders'));
	my $counts = outcome($storm);

	is("$counts->{accepted} $counts->{refused} $counts->{other}", '20 180 0', "round $round: 200 come at once, and 20 get in");
	is(sessions_of('orders'), 20, '  which is what the view says');
	is(ask(q(SELECT refused FROM pgpool_monitor.limits WHERE pool = 'orders')), 180, '  and it counts the others');
	$storm->{handle}->finish;
	all_gone('orders');
}

my @storms = storm('attempts', 8, conninfo('web', 'orders'));
my @counts = outcome($storms[0]);
push @storms, storm('attempts', 192, conninfo('app', 'orders'));
push @counts, outcome($storms[1]);
is("$counts[0]{accepted} $counts[1]{accepted} $counts[1]{refused}", '8 12 180', 'a budget is for all pools of its rule together');
is(ask(q(SELECT enforced_refusals FROM pgpool_monitor.info)), 4 * 180, 'and counted');

# --- what is said, and to whom

my $offset = -s $node->logfile;
my $refused = Peer->new($node, pool => 'orders', user => 'web');
is($refused->error =~ /FATAL:  (.*)\n/ && $1, 'too many connections for pool "orders"', 'the client hears which pool');
is($refused->error =~ /DETAIL:  (.*)\n/ && $1, 'The pool holds 8 connections, and its budget is used up.',
	'and how many its own pool holds');
unlike($refused->error, qr/orders=20|hold 20|\bapp\b/, 'and nothing of others');
like(substr(slurp_file($node->logfile), $offset),
	qr/FATAL:  too many connections for pool "orders"\n.*DETAIL:  Role "web", database "postgres", .*rule "orders=20" hold 20, and may hold 20/,
	'the log has it all');

# --- who is not refused

my $superuser = Peer->new($node, pool => 'orders');
is($superuser->error, '', 'a superuser is admitted');
is(ask(q(SELECT held FROM pgpool_monitor.limits WHERE pool = 'orders' AND role = current_user)), 1, 'and counted');
is(ask('SELECT exempt_sessions FROM pgpool_monitor.info'), 1, 'also as exempt');
like(Peer->new($node, pool => 'orders', user => 'vip')->error, qr/too many connections/, 'no other role is');
reload_with('pgpool_monitor.always_admit' => 'vip, "Odd, one"');
my @exempt = map { Peer->new($node, pool => 'orders', user => $_) } 'vip', 'Odd, one';
is($_->error, '', 'a role in always_admit is') for @exempt;
is(ask('SELECT exempt_sessions FROM pgpool_monitor.info'), 3, 'and counted as well');
my $stranger = Peer->new($node, user => 'app');
is($stranger->error, '', 'who names no pool is none of our business');
$_->end for @exempt, $superuser, $stranger;

# --- grace: who is about to be refused waits for somebody to go

reload_with('pgpool_monitor.grace' => '10s', 'pgpool_monitor.grace_waiters' => 1);
$storms[0]{handle}->finish;
$storms[1]{handle}->finish;
all_gone('orders');
my $only = Peer->new($node, pool => 'narrow', user => 'app');
my $waits = ask('SELECT grace_waits FROM pgpool_monitor.info');
my $waiter = storm('attempts', 1, conninfo('app', 'narrow'));
wait_to_see('SELECT grace_waits FROM pgpool_monitor.info', $waits + 1, 'one waits');
is(outcome(storm('attempts', 3, conninfo('app', 'narrow')))->{refused}, 3, 'as many as may; others are refused');
is(ask('SELECT grace_waits FROM pgpool_monitor.info'), $waits + 1, 'without waiting');
$only->end;
is(outcome($waiter)->{accepted}, 1, 'it is admitted when the other has gone');
is(ask('SELECT grace_admits FROM pgpool_monitor.info'), 1, 'and counted');

# One that gives up, or is ended, while it waits makes room for the next.
$waits = ask('SELECT grace_waits FROM pgpool_monitor.info');
my $killed = storm('attempts', 1, conninfo('app', 'narrow'));
wait_to_see('SELECT grace_waits FROM pgpool_monitor.info', $waits + 1, 'another one waits');
wait_to_see(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Extension'), 1, 'and is terminated');
is(outcome($killed)->{accepted}, 0, 'which it hears');
my $next = storm('attempts', 1, conninfo('app', 'narrow'));
wait_to_see('SELECT grace_waits FROM pgpool_monitor.info', $waits + 2, 'the next one can wait');
$waiter->{handle}->finish;
is(outcome($next)->{accepted}, 1, 'and gets in');

$next->{handle}->finish;
all_gone('narrow');

# Nobody takes all places to wait: an instance has half of what is left, and no more than it holds; who holds nothing has a quarter.
reload_with('pgpool_monitor.grace_waiters' => 8);
sub named { return conninfo('app', 'orders') . " application_name=$_[0]"; }
my @holders = map { storm('attempts', $_->[0], named($_->[1])) } [ 19, 'many' ], [ 1, 'one' ];
is(join(' ', map { outcome($_)->{accepted} } @holders), '19 1', 'a full budget, of two instances');
$waits = ask('SELECT grace_waits FROM pgpool_monitor.info');
my @waiters;
for my $case ([ 'many', 4 ], [ 'one', 1 ], [ 'none', 2 ])
{
	my ($name, $may) = @$case;
	my $refusals = ask('SELECT enforced_refusals FROM pgpool_monitor.info');

	push @waiters, storm('attempts', 10, named($name));
	$waits += $may;
	wait_to_see('SELECT enforced_refusals FROM pgpool_monitor.info', $refusals + 10 - $may, "ten more of $name: most are refused at once");
	is(ask('SELECT grace_waits FROM pgpool_monitor.info'), $waits, "and $may wait");
}
$holders[1]{handle}->finish;
is(outcome($waiters[1])->{accepted}, 1, 'the place that is left is its own instance\'s, whoever else waits');
$holders[0]{handle}->finish;
is(join(' ', map { outcome($_)->{accepted} } @waiters), '4 1 2', 'all who wait get in when there is room');
$_->{handle}->finish for @waiters;
all_gone('orders');

# Close and open again at the limit: each is told apart from one too many, with a grace that no machine is too slow for.
my $began = time();
is(outcome(storm('reopen', 1000, conninfo('app', 'narrow')))->{accepted}, 1000, 'close and reopen at the limit, a plain client: 1000 of 1000');
note(sprintf('%.1f s; of these %d waited', time() - $began, ask('SELECT grace_admits FROM pgpool_monitor.info') - 2));
$began = time();
my $admits = ask('SELECT grace_admits FROM pgpool_monitor.info');
my $pool = outcome(storm('pool', 1000, conninfo('app') . ' pool_name=narrow pool_max_size=1'));
is("$pool->{accepted} $pool->{refused} $pool->{other}", '1000 0 0', 'libpqpool: 1000 of 1000');
note(sprintf('%.1f s; of these %d waited', time() - $began, ask('SELECT grace_admits FROM pgpool_monitor.info') - $admits));
all_gone('narrow');
reload_with('pgpool_monitor.grace' => 0);

# --- an instance that follows

my $a = Peer->new($node, pool => 'five', instance => "a;$share", user => 'app');
is($a->error, '', 'a newcomer gets in');
wait_until(sub { $a->report(max => 40, in_use => 1, waiting => 39); return $a->allotment->{limit} == 5; }, 'and is told its limit');
my @more = map { Peer->new($node, pool => 'five', instance => "a;$share", user => 'app') } 2 .. 5;
is(scalar(grep { $_->error eq '' } @more), 4, 'it may open as many as it was told');
my $sixth = Peer->new($node, pool => 'five', instance => "a;$share", user => 'app');
is($sixth->error =~ /DETAIL:  (.*)\n/ && $1, 'This instance of it holds 5 connections, and may hold 5.', 'and no more');
my @knocks = map { Peer->new($node, pool => 'five', instance => "a;$share;kind=knock", user => 'app') } 1 .. 3;
is($knocks[0]->error . $knocks[1]->error, '', 'it may knock all the same');
is($knocks[2]->error =~ /DETAIL:  (.*)\n/ && $1, 'This instance has 2 sessions open to report already.', 'but not hold sessions under that name');
$_->end for @knocks[ 0, 1 ];

# Its budget is full: a second one is refused, and known from then on, so that it gets its turn.
my $b = Peer->new($node, pool => 'five', instance => "b;$share", user => 'app');
like($b->error, qr/too many connections/, 'another one, in a full budget, is refused');
is(ask(q(SELECT state || ' ' || sessions FROM pgpool_monitor.instances WHERE instance = 'b')) =~ /^(queued|ok) 0$/ ? 1 : 0, 1, 'but known');
wait_until(sub { $a->report(max => 40, in_use => 5, waiting => 35); return $a->allotment->{limit} == 4; }, 'the first one has to give something back');
$b = Peer->new($node, pool => 'five', instance => "b;$share", user => 'app');
like($b->error, qr/too many connections/, 'which it has not done yet');
is(ask(q(SELECT allotted FROM pgpool_monitor.instances WHERE instance = 'b')), 0, 'so that there is nothing for the second');
(pop @more)->end;
wait_to_see(q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'a'), 4, 'now it has');
wait_until(
	sub {
		$a->report(max => 40, in_use => 4, waiting => 36);
		$b = Peer->new($node, pool => 'five', instance => "b;$share", user => 'app');
		return $b->error eq '';
	},
	'and the second one gets in') or diag(ask('SELECT string_agg(i::text, E\'\n\') FROM pgpool_monitor.instances i'));
is(ask(q(SELECT held FROM pgpool_monitor.limits WHERE pool = 'five')), 5, 'within the budget');

# --- turning it down needs no worker

my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
like(Peer->new($node, pool => 'five', user => 'app')->error, qr/too many connections/, 'with the worker stopped, all is as before');
(pop @more)->end;
wait_to_see(q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'a'), 3, 'who closes one');
push @more, Peer->new($node, pool => 'five', instance => "a;$share", user => 'app');
is($more[-1]->error, '', 'may open one');
reload_with('pgpool_monitor.mode' => 'share');
my $freed;
wait_until(sub { $freed = Peer->new($node, pool => 'five', user => 'app'); return $freed->error eq ''; }, 'share: nobody is refused');
$a->say('SELECT 1');
is($a->allotment->{limit}, 4, 'but told what it may hold');
reload_with('pgpool_monitor.mode' => 'advise');
wait_until(sub { $a->say('SELECT 1'); return $a->allotment->{limit} == -1; }, 'advise: nor that');
$freed->end;
reload_with('pgpool_monitor.mode' => 'enforce', 'pgpool_monitor.grace' => '10s');
wait_until(sub { $a->say('SELECT 1'); return $a->allotment->{limit} == 4; }, 'enforce again');
$waits = ask('SELECT grace_waits FROM pgpool_monitor.info');
my $patient = storm('attempts', 1, conninfo('app', 'five'));
wait_to_see('SELECT grace_waits > ' . $waits . ' FROM pgpool_monitor.info', 't', 'somebody waits');
reload_with('pgpool_monitor.mode' => 'off');
is(outcome($patient)->{accepted}, 1, 'off: also who waited is free');
my $flood = storm('attempts', 100, conninfo('app', 'orders'));
is(outcome($flood)->{accepted}, 100, 'and everybody gets in');
$a->say('SELECT 1');
is($a->allotment->{state}, 'off', 'the others are told');
my $late = Peer->new($node, pool => 'five', user => 'app');
kill 'CONT', $worker;
$patient->{handle}->finish;

# Who was there before is never ended for being too many.
reload_with('pgpool_monitor.mode' => 'enforce', 'pgpool_monitor.grace' => 0);
is($b->say('SELECT 1'), '1', 'enforce: who is there stays');
is($late->say('SELECT 1'), '1', 'also who came while it was off, and is counted only now');
is(ask(q(SELECT held FROM pgpool_monitor.limits WHERE pool = 'five')), 6, 'though it is one too many');
$flood->{handle}->finish;
$_->end for $a, $b, $late, @more;
all_gone('five');
wait_to_see(q(SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'), 0, 'all have gone');

# Who waits takes a slot: not the last ones.  (This is late because capacity remembers for a while how full it was.)
reload_with('pgpool_monitor.grace' => '10s');
$only = Peer->new($node, pool => 'narrow', user => 'app');
$waits = ask('SELECT grace_waits FROM pgpool_monitor.info');
my $filling = storm('attempts', 255 - ask(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')) - 1, conninfo('app'));
is(outcome($filling)->{refused}, 0, 'the server is filled up, but for one connection and the reserved ones');
is(outcome(storm('attempts', 1, conninfo('app', 'narrow')))->{refused}, 1, 'the one that takes it is refused');
is(ask('SELECT grace_waits FROM pgpool_monitor.info'), $waits, 'without waiting');
$filling->{handle}->finish;
$only->end;

# --- advise: all of it is shown, and none of it said

other_node('advise',
	max_connections => 60,
	autovacuum => 'off',
	'pgpool_monitor.headroom' => 5,
	'pgpool_monitor.report_interval' => '1s',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.rules' => 'orders=20, small=3:mode=advise, *=-',
	'pgpool_monitor.round_interval' => '100ms');
my @small = map { Peer->new($node, pool => 'small', instance => "s;$share", user => 'app') } 1 .. 5;
is(join(' ', map { $_->error } @small), '    ', 'by a rule: advise refuses nobody');
wait_until(sub { $small[0]->report(max => 10, in_use => 5, waiting => 0);
	return ask(q(SELECT would_allot || ' ' || would_close FROM pgpool_monitor.limits WHERE pool = 'small')) eq '3 2'; },
	'what it would be told, and would have to close') or diag(ask(q(SELECT l::text FROM pgpool_monitor.limits l WHERE pool = 'small')));
is(ask(q(SELECT mode, reason FROM pgpool_monitor.limits WHERE pool = 'small') =~ s/mode, /mode || '; ' || /r), 'advise; mode is advise: 3 would be allotted, and 2 closed', 'with a reason');
is($_->allotment->{limit}, -1, 'nothing is said') for @small[ 0, 1 ];
is(ask(q(SELECT allotted IS NULL AND occupied IS NULL FROM pgpool_monitor.limits WHERE pool = 'small')), 't', 'nor set');
my $would = ask(q(SELECT would_refuse FROM pgpool_monitor.limits WHERE pool = 'small'));
push @small, Peer->new($node, pool => 'small', instance => "s;$share", user => 'app'), Peer->new($node, pool => 'small', user => 'app');
is(ask(q(SELECT would_refuse FROM pgpool_monitor.limits WHERE pool = 'small')), $would + 2, 'who would be refused is counted');
is(ask(q(SELECT refused FROM pgpool_monitor.limits WHERE pool = 'small')), 0, 'as nobody was');
is(ask(q(SELECT count(*) FROM pgpool_monitor.limits WHERE would_allot IS NOT NULL AND pool <> 'small')), 0, 'a pool that is only observed has no advice');

my $observed = Peer->new($node, pool => 'orders', instance => "w;$share", user => 'app');
reload_with('pgpool_monitor.mode' => 'share');
wait_until(sub { $observed->report(max => 40, in_use => 1, waiting => 39);
	return (ask(q(SELECT allotted = 20 AND would_allot = 20 AND would_close = 0 FROM pgpool_monitor.limits WHERE pool = 'orders')) // '') eq 't'; },
	'share: what would be is what is');
$_->report(bye => 1) for $small[0], $observed;    # else what they may still believe is kept for them
$_->end for @small, $observed;

# --- CONNECTION LIMIT

$node->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT 9');
my @limited = map { Peer->new($node, pool => $_, instance => "$_;$share", user => 'app') } qw(left right);
wait_until(sub { $_->report(max => 40, in_use => 1, waiting => 39) for @limited;
	return ask(q(SELECT string_agg(allotted::text, ' ' ORDER BY pool) FROM pgpool_monitor.limits WHERE role = 'app' AND pool IN ('left', 'right'))) =~ /^(4 5|5 4)$/; },
	'two pools of a role with a limit share it') or diag(ask(q(SELECT string_agg(l::text, E'\n') FROM pgpool_monitor.limits l)));
like(ask(q(SELECT ceiling || '; ' || reason FROM pgpool_monitor.limits WHERE pool = 'left')), qr/^9; /, 'it is their ceiling');
my $outsider = Peer->new($node, user => 'app');
is($outsider->error, '', 'a session of the same role that is in no pool');
wait_until(sub { $_->report(max => 40, in_use => 1, waiting => 39) for @limited;
	return ask(q(SELECT sum(allotted) FROM pgpool_monitor.limits WHERE role = 'app' AND pool IN ('left', 'right'))) == 8; },
	'counts, too');
$outsider->end;
$limited[1]->report(bye => 1);
$limited[1]->end;
wait_until(sub { $limited[0]->report(max => 40, in_use => 1, waiting => 39); return $limited[0]->allotment->{limit} == 9; }, 'alone it has all of it');
is(ask(q(SELECT reason FROM pgpool_monitor.limits WHERE pool = 'left')), q(wants 40; its role's CONNECTION LIMIT allows 9), 'with the reason');
$node->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT -1; CREATE DATABASE shop CONNECTION LIMIT 4');
my $shop = Peer->new($node, pool => 'shop', instance => "shop;$share", user => 'app', dbname => 'shop');
wait_until(sub { $shop->report(max => 40, in_use => 1, waiting => 39); return $shop->allotment->{limit} == 4; }, 'so does a database\'s')
	or diag(ask(q(SELECT string_agg(l::text, E'\n') FROM pgpool_monitor.limits l)));
is(ask(q(SELECT reason FROM pgpool_monitor.limits WHERE pool = 'shop')), q(wants 40; its database's CONNECTION LIMIT allows 4), 'with the reason');
$_->end for $shop, $limited[0];
$watch->end;

$node->stop('fast');
done_testing();
