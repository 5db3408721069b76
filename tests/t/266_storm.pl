# A thousand connection attempts a second against a pool at its limit, in mode enforce with the defaults: who else comes gets in, and who
# is refused pins no slots. (Whether a client of that pool keeps its place then depends on how fast it comes back; 260_enforce.pl has that,
# without a storm.)
#
# timeout: 300

use strict;
use warnings;

use IPC::Run;
use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('storm',
	max_connections => 100,
	autovacuum => 'off',
	fsync => 'off',
	'pgpool_monitor.mode' => 'enforce',
	'pgpool_monitor.rules' => 'hot=10, cold=10, *=-');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE other LOGIN');
my $watch = Peer->new($node);
sub ask { return $watch->say($_[0]); }

# Start tests/programs/storm.c; its counts come as text, and it holds what it has until it is ended.
sub storm
{
	my ($what, $n, $name) = @_;
	my $self = { in => '', out => '' };
	my $conninfo = 'host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=app application_name=$name"
		. " options='-c pgpool_monitor.pool=hot'";

	$self->{handle} = IPC::Run::start([ "$ENV{STAGE_OUT}/programs/storm", $what, $n, $conninfo ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{out}, IPC::Run::timer(60));
	return $self;
}

sub outcome
{
	my ($storm) = @_;

	while ($storm->{out} !~ /^accepted.*\n/m && $storm->{handle}->pumpable) { $storm->{handle}->pump; }
	note($storm->{out} =~ /^((?:accepted|first).*)/ms);
	return { $storm->{out} =~ /(\w+):(\d+)/g };
}

sub peek
{
	my ($storm) = @_;

	$storm->{handle}->pump_nb if $storm->{handle}->pumpable;
	return;
}

sub tried
{
	my ($storm) = @_;

	peek($storm);
	return $storm->{out} =~ /.*tried:(\d+)/s ? $1 : 0;
}

my $hot = q(SELECT coalesce(sum(sessions), 0) FROM pgpool_monitor.pools WHERE pool = 'hot');

# One place is left.
my $holders = storm('attempts', 9, 'holder');
is(outcome($holders)->{accepted}, 9, 'clients that hold their connections');
my $storm = storm('assault', 20, 'storm');
wait_until(sub { return tried($storm) >= 100; }, 'the storm begins');

# While it lasts.
my $waiting_most = 0;
my %in = (superuser => 0, other => 0, cold => 0);
my $rounds = 0;
while ($rounds < 50)
{
	my $superuser = Peer->new($node);
	my $other = Peer->new($node, user => 'other');
	my $cold = Peer->new($node, pool => 'cold', user => 'app');

	$in{superuser} += $superuser->error eq '';
	$in{other} += $other->error eq '';
	$in{cold} += $cold->error eq '';
	my $waiting = ask(q(SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Extension'));
	$waiting_most = $waiting if $waiting > $waiting_most;
	$_->end for $superuser, $other, $cold;
	peek($storm);
	$rounds++;
}
my $before = tried($storm);
is($in{$_}, $rounds, "$_: $rounds of $rounds got in all the while") for sort keys %in;
cmp_ok($waiting_most, '<=', ask('SHOW pgpool_monitor.grace_waiters'), "of those refused at most so many waited in a slot ($waiting_most)");
wait_until(sub { return tried($storm) >= $before + 100; }, 'and the storm still goes on');
cmp_ok(ask($hot), '<=', 10, 'within the budget');
$storm->{handle}->finish;
my $counts = outcome($storm);
note("$before attempts until then");
is($counts->{other}, 0, 'the storm heard nothing but refusals');
note(ask(q(SELECT concat_ws(' ', 'waits', grace_waits, 'admits', grace_admits, 'refusals', enforced_refusals) FROM pgpool_monitor.info)));
cmp_ok($counts->{accepted}, '<=', 1, 'and got no place but the one that was left');
$holders->{handle}->finish;

$watch->end;
$node->stop('fast');
done_testing();
