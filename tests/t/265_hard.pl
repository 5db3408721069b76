# The hard cases of budgets: who does not listen, limits of roles, full tables, no worker, a rules file that is broken, one reload that
# ends it all.
#
# timeout: 600

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $share = 'follow=1;report=1';
my ($node, $watch);

# Asked by a superuser's session that stays, in no pool: nobody is ever in its way.
sub ask { return $watch->say($_[0]) // $watch->error; }

sub begin
{
	my ($name, %settings) = @_;

	$node = PgpoolMonitor::unstarted_node($name,
		max_connections => 40,    # 3 reserved, 2 headroom: 35
		autovacuum => 'off',
		fsync => 'off',
		'pgpool_monitor.headroom' => 2,
		'pgpool_monitor.report_interval' => '100ms',
		'pgpool_monitor.lease' => '1h',
		'pgpool_monitor.round_interval' => '100ms',
		'pgpool_monitor.grace' => 0,
		%settings);
	return;
}

sub start
{
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor; CREATE ROLE app LOGIN');
	$watch = Peer->new($node);
	return;
}

sub reload_with
{
	my (%settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$node->reload;
	for my $setting (sort keys %settings)
	{
		wait_until(sub { return ask("SELECT current_setting('$setting')") eq $settings{$setting}; }, "$setting = $settings{$setting}");
	}
	return;
}

sub of_instance
{
	my ($id, $column) = @_;

	return ask("SELECT $column FROM pgpool_monitor.instances WHERE instance = '$id'");
}

sub wait_to_see
{
	my ($sql, $expected, $what) = @_;
	my $answer;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { $answer = ask($sql); return ref $expected ? $answer =~ $expected : $answer eq $expected; }, $what)
		|| do { diag("last answer: $answer"); 0 };
}

# Until the worker has looked at least twice more.
sub settle
{
	my $from = ask('SELECT rounds FROM pgpool_monitor.info');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_to_see("SELECT rounds > $from + 2 FROM pgpool_monitor.info", 't', 'the worker has looked');
}

sub lines_in_log
{
	my ($what) = @_;
	my $count = () = slurp_file($node->logfile) =~ /$what/g;

	return $count;
}

# --- one that reports and does not listen

begin('deaf', 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.lease' => '2s');
start();
my %wants = (max => 60, in_use => 1, waiting => 50);
my $deaf = Peer->new($node, pool => 'orders', instance => "deaf;$share", user => 'app');
wait_until(sub { $deaf->report(%wants); return of_instance('deaf', 'allotted >= 20 AND acknowledged') eq 't'; }, 'alone, it has nearly all');
my $ack = $deaf->allotment->{epoch};
my $other = Peer->new($node, pool => 'web', instance => "other;$share", user => 'app');
wait_until(sub { $_->[0]->report(%wants, @{ $_->[1] }) for [ $deaf, [ ack => $ack ] ], [ $other, [] ]; return of_instance('deaf', 'allotted < 20') eq 't'; },
	'another one comes, and it is told to give back');
is(of_instance('deaf', 'occupied >= 20 AND NOT acknowledged AND NOT deaf'), 't', 'what it may still believe is counted');
wait_until(sub { $_->[0]->report(%wants, @{ $_->[1] }) for [ $other, [] ], [ $deaf, [ ack => $ack ] ]; return of_instance('deaf', 'deaf AND lease_time > 0') eq 't'; },
	'that it does not hear is noticed, though its lease is not over');
is(of_instance('deaf', 'allotted, occupied, acknowledged' =~ s/, / || ' ' || /gr), '1 1 false', 'it keeps what it holds');
wait_until(sub { $_->[0]->report(%wants, @{ $_->[1] }) for [ $deaf, [ ack => $ack ] ], [ $other, [] ]; return of_instance('other', 'allotted >= 25') eq 't'; },
	'and the other one has the rest');
is(of_instance('deaf', 'deaf AND allotted = 1'), 't', 'it is given nothing, however much it reports');
my $second = Peer->new($node, pool => 'orders', instance => "deaf;$share", user => 'app');
settle();
is(of_instance('deaf', 'occupied'), 2, 'what it opens all the same is counted');
$deaf->report(%wants);
wait_until(sub { $_->report(%wants) for $deaf, $other; return of_instance('deaf', 'allotted >= 10 AND NOT deaf') eq 't'; }, 'it listens again, and has its share')
	or diag(ask(q(SELECT string_agg(i::text, E'\n') FROM pgpool_monitor.instances i)));

# In mode enforce the same, and it may have a first one.
reload_with('pgpool_monitor.mode' => 'enforce');
$ack = $deaf->allotment->{epoch};
wait_until(sub { $other->report(%wants, waiting => 0); $deaf->report(%wants, waiting => 20 + int rand 10, ack => $ack - 1); return of_instance('deaf', 'deaf') eq 't'; },
	'enforce: it does not listen again');
is(of_instance('deaf', 'allotted'), 2, 'and keeps what it holds');
like(Peer->new($node, pool => 'orders', instance => "deaf;$share", user => 'app')->error, qr/holds 2 connections, and may hold 2/, 'it may open no more');
$second->end;
$deaf->end;
wait_to_see(q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'deaf'), 0, 'it loses both');
$deaf = Peer->new($node, pool => 'orders', instance => "deaf;$share", user => 'app');
is($deaf->error, '', 'and may have a first one again');
$_->end for $deaf, $other, $watch;
$node->stop('fast');

# --- CONNECTION LIMIT: what one pool of a role may still believe another one is not given

begin('limited', 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.identify' => 'options, application_name');
start();
$node->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT 10');
my $guess = Peer->new($node, user => 'app', application_name => 'guessed');
my $left = Peer->new($node, pool => 'left', instance => "left;$share", user => 'app');
wait_until(sub { $left->report(%wants); return of_instance('left', 'allotted = 9 AND acknowledged') eq 't'; }, 'alone, it has what a guessed pool leaves it')
	or diag(ask(q(SELECT string_agg(l::text, E'\n') FROM pgpool_monitor.limits l)));
$guess->end;
wait_until(sub { $left->report(%wants); return of_instance('left', 'allotted = 10 AND acknowledged') eq 't'; }, 'and then all');
$ack = $left->allotment->{epoch};
my $right = Peer->new($node, pool => 'right', instance => "right;$share", user => 'app');
wait_until(sub { $right->report(%wants); $left->report(%wants, ack => $ack); return of_instance('left', 'allotted') == 5; }, 'another pool of the role comes: half is to be given back');
for (1 .. 3)
{
	$right->report(%wants);
	settle();
}
is(of_instance('right', 'allotted'), 1, 'which it is not given before that');
is(of_instance('left', 'occupied'), 10, 'while the first may still believe it');
my $knock = Peer->new($node, pool => 'third', instance => "third;$share;kind=knock", user => 'app');
is($knock->allotment->{limit}, 0, 'nor a knock');
$knock->report(bye => 1);
$knock->end;
wait_until(sub { $_->report(%wants) for $left, $right; return of_instance('right', 'allotted') == 5; }, 'acknowledged: it has its half');
is(ask(q(SELECT sum(occupied) FROM pgpool_monitor.instances WHERE role = 'app')), 10, 'together they have what the role may');
$_->end for $left, $right, $watch;
$node->stop('fast');

# --- everything at once: no worker, full tables, a broken file

sub write_rules
{
	my ($text) = @_;

	open my $file, '>', $node->data_dir . '/rules.conf' or die "rules.conf: $!";
	print $file $text;
	close $file or die "rules.conf: $!";
	return;
}

for my $mode (qw(share enforce))
{
	begin("all_$mode",
		'pgpool_monitor.mode' => $mode,
		'pgpool_monitor.max_pools' => 4,
		'pgpool_monitor.max_instances' => 5,
		'pgpool_monitor.rules_file' => 'rules.conf');
	write_rules("orders=8:floor=6\nweb=12\n");
	start();
	$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
	my $orders = Peer->new($node, pool => 'orders', instance => "o;$share", user => 'app');
	my $web = Peer->new($node, pool => 'web', instance => "w;$share", user => 'app');
	wait_until(sub { $_->report(%wants) for $orders, $web; return of_instance('o', 'allotted = 8 AND acknowledged') eq 't' && of_instance('w', 'allotted = 12 AND acknowledged') eq 't'; },
		"$mode: two pools have their budgets");
	my @held = map { Peer->new($node, pool => 'orders', instance => "o;$share", user => 'app') } 1 .. 4;
	my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');

	kill 'STOP', $worker;
	my @strangers = map { Peer->new($node, pool => "s$_", instance => "s$_;report=1", user => 'stranger') } 1 .. 6;
	is(join('', map { $_->error } @strangers), '', 'the worker is stopped, and the tables are full: who comes is let in');
	is(scalar(grep { !defined $_->allotment } @strangers), 4, 'but not all are attached, and these are told nothing');
	is(ask('SELECT pools || \' \' || refused_sessions FROM pgpool_monitor.info'), '4 4', 'which info says');
	is(lines_in_log('has no room for another pool instance'), 1, 'the log has one line of it');
	write_rules("orders=1\nweb 12\n");
	$node->reload;
	$_->report(%wants) for $orders, $web;
	is($orders->allotment->{limit} . ' ' . $web->allotment->{limit}, '8 12', 'a broken file, and a reload: limits stay, and so the floor');
	push @held, Peer->new($node, pool => 'orders', instance => "o;$share", user => 'app');
	is($held[-1]->error . scalar(grep { $_->say('SELECT 1') ne '1' } @held), '0', 'who has a place keeps it, and may use it');
	push @held, map { Peer->new($node, pool => 'orders', instance => "o;$share", user => 'app') } 1 .. 2;
	my $ninth = Peer->new($node, pool => 'orders', instance => "o;$share", user => 'app');
	$mode eq 'enforce'
		? like($ninth->error, qr/^53300|too many connections for pool "orders"/, 'the budget holds')
		: is($ninth->error, '', 'nobody is refused');
	is(ask('SELECT enforced_refusals FROM pgpool_monitor.info'), $mode eq 'enforce' ? 1 : 0, 'counted');

	kill 'CONT', $worker;
	wait_to_see('SELECT rules_file_error IS NOT NULL FROM pgpool_monitor.info', 't', 'the worker is back, and says what is wrong with the file');
	settle();
	$_->report(%wants) for $orders, $web;
	is(of_instance('o', 'allotted') . ' ' . of_instance('w', 'allotted'), '8 12', 'the last good rules are in force');
	is(lines_in_log('could not load its rules file'), 1, 'the log has one line of that');

	kill 'STOP', $worker;
	reload_with('pgpool_monitor.mode' => 'off');
	$_->say('SELECT 1') for $orders, $web;
	is($orders->allotment->{state} . $orders->allotment->{limit} . $web->allotment->{state} . $web->allotment->{limit}, 'off-1off-1',
		'off: one reload, without the worker, and nobody has a limit');
	my @free = map { Peer->new($node, pool => 'orders', user => 'app') } 1 .. 5;
	is(join('', map { $_->error } @free), '', 'nor is anybody refused');
	$_->end for @free;

	kill 'CONT', $worker;
	write_rules("orders=9:floor=6\nweb=12\n");
	reload_with('pgpool_monitor.mode' => $mode);
	wait_to_see('SELECT rules_file_error IS NULL FROM pgpool_monitor.info', 't', 'the worker and a good file are back');
	$_->end for @strangers;
	wait_until(sub { $_->report(%wants) for $orders, $web; return of_instance('o', 'allotted = 9 AND acknowledged') eq 't' && of_instance('w', 'allotted = 12') eq 't'; },
		'all is well again') or diag(ask(q(SELECT string_agg(l::text, E'\n') FROM pgpool_monitor.limits l)));
	my $new = Peer->new($node, pool => 'new', instance => "n;$share", user => 'app');
	is($new->allotment->{limit}, 1, 'and there is room for somebody new');
	$ninth->end if $ninth->error eq '';
	$_->end for $orders, $web, $new, @held, $watch;
	$node->stop('fast');
}

# --- a rule's mode is turned down by one reload, without the worker

begin('rule', 'pgpool_monitor.rules' => 'one=2:mode=enforce, two=5:mode=share, new*=1:mode=enforce, three=4:mode=share');
start();
my $two = Peer->new($node, pool => 'two', instance => "t;$share", user => 'app');
my $three = Peer->new($node, pool => 'three', instance => "h;$share", user => 'app');
wait_until(sub { $_->report(%wants) for $two, $three; return $two->allotment->{limit} == 5 && $three->allotment->{limit} == 4; }, 'rules that share, and one that enforces');
my @one = map { Peer->new($node, pool => 'one', user => 'app') } 1 .. 3;
like($one[2]->error, qr/too many connections/, 'its budget is used up');
my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
reload_with('pgpool_monitor.rules' => 'one=2:mode=advise, two=5:mode=off, new*=1, three=4:mode=share');
$one[2] = Peer->new($node, pool => 'one', user => 'app');
is($one[2]->error, '', 'turned down to advise, it refuses nobody');
$_->say('SELECT 1') for $two, $three;
is($two->allotment->{state} . $two->allotment->{limit}, 'off-1', 'off: who followed has no limit');
is($three->allotment->{state} . $three->allotment->{limit}, 'ok4', 'what was not turned down stays');
my @new = map { Peer->new($node, pool => 'new1', user => 'app') } 1 .. 2;
is($new[0]->error . $new[1]->error, '', 'a pool that comes now is not held to the old rule either');
reload_with('pgpool_monitor.rules' => 'one=2:mode=enforce, two=5:mode=share, new*=1, three=4:mode=share');
my $late = Peer->new($node, pool => 'one', user => 'app');
is($late->error, '', 'to turn it up again takes the worker');
kill 'CONT', $worker;
wait_until(sub { $two->report(%wants); return $two->allotment->{limit} == 5; }, 'which is back');
like(Peer->new($node, pool => 'one', user => 'app')->error, qr/too many connections/, 'and all is as the rules say');
$_->end for @one, @new, $two, $three, $late, $watch;
$node->stop('fast');

# --- no worker at all, and another max_connections

begin('alone', max_worker_processes => 0, 'pgpool_monitor.mode' => 'enforce', 'pgpool_monitor.rules' => 'narrow=2, *=-');
start();
is(ask('SELECT worker_pid IS NULL AND rounds = 0 FROM pgpool_monitor.info'), 't', 'no slot for a worker: the server runs without');
my @narrow = map { Peer->new($node, pool => 'narrow', user => 'app') } 1 .. 3;
is(join(' ', map { $_->error eq '' ? 'in' : 'out' } @narrow), 'in in out', 'budgets hold');
my $superuser = Peer->new($node, pool => 'narrow');
is($superuser->error . ask('SELECT exempt_sessions FROM pgpool_monitor.info'), 1, 'a superuser is admitted, and counted');
my $follower = Peer->new($node, pool => 'any', instance => "f;$share", user => 'app');
is($follower->allotment->{limit}, 1, 'who follows has his first');
$follower->report(%wants);
is($follower->allotment->{limit}, 1, 'and no more');
# SQL objects of another version than the library's: an error.
for my $columns ('a text, b integer', join ', ', map { "c$_ text" } 1 .. 60)
{
	for my $function (qw(info pools instances sessions limits counters))
	{
		my $set = $function eq 'info' ? '' : 'SETOF ';
		my $peer = Peer->new($node, pool => 'narrow');

		$peer->say("CREATE FUNCTION pg_temp.other(" . join(', ', map { "OUT $_" } split /, /, $columns) . ") RETURNS ${set}record AS '\$libdir/pgpool_monitor', 'pgpool_monitor_$function' LANGUAGE C");
		$peer->say('SELECT * FROM pg_temp.other()');
		like($peer->error, qr/of different versions/, "$function(), declared by another version, says so (" . scalar(split /, /, $columns) . ' columns)');
		$peer->end;
	}
}
ask(q(CREATE FUNCTION pg_temp.newer() RETURNS integer AS '$libdir/pgpool_monitor', 'pgpool_monitor_newer' LANGUAGE C));
like($watch->error, qr/could not find function "pgpool_monitor_newer"/, 'one that the library has not yet, too');
is(ask('SELECT split_part(version, \'.\', 1) || \'.\' || split_part(version, \'.\', 2) = extversion FROM pgpool_monitor.info, pg_extension WHERE extname = \'pgpool_monitor\''),
	't', 'the two versions can be compared');

reload_with('pgpool_monitor.mode' => 'off');
$follower->say('SELECT 1');
is($follower->allotment->{limit}, -1, 'until it is off');
$_->end for @narrow[ 0, 1 ], $superuser, $follower;

$watch->end;

PgpoolMonitor::set($node, max_worker_processes => 8, max_connections => 60, 'pgpool_monitor.mode' => 'share');
$node->restart;
$watch = Peer->new($node);
wait_to_see('SELECT capacity >= 50 FROM pgpool_monitor.info', 't', 'another max_connections is another capacity');
PgpoolMonitor::set($node, max_connections => 20);
$watch->end;
$node->restart;
$watch = Peer->new($node);
wait_to_see('SELECT capacity BETWEEN 5 AND 15 FROM pgpool_monitor.info', 't', 'less, too');
$follower = Peer->new($node, pool => 'any', instance => "f;$share", user => 'app');
wait_until(sub { $follower->report(%wants); return of_instance('f', 'allotted BETWEEN 5 AND 15') eq 't'; }, 'nobody is given more');
$_->end for $follower, $watch;
$node->stop('fast');

done_testing();
