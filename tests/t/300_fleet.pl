# A fleet: five processes whose pools want four times what there is, that join, leave and die, for twenty seconds. By the server's
# own count (the worker's, and a superuser's session) pooled connections stay within capacity, nobody is refused, everybody has
# something, and shares follow demand.
#
# timeout: 240

use strict;
use warnings;

use IPC::Run;
use Peer;
use PgpoolMonitor;
use Test::More;
use Time::HiRes qw(time);

my $interval = 0.5;
my $node = PgpoolMonitor::node('fleet',
	max_connections => 40,    # 3 reserved, 6 headroom
	autovacuum => 'off',
	fsync => 'off',
	'pgpool_monitor.mode' => 'share',
	'pgpool_monitor.headroom' => 6,
	'pgpool_monitor.report_interval' => '500ms',
	'pgpool_monitor.lease' => '2s',
	'pgpool_monitor.retry_interval' => '500ms',
	'pgpool_monitor.round_interval' => '100ms');
my $watch = Peer->new($node);

# --- the processes

package Process
{
	sub start
	{
		my ($class, $name) = @_;
		my $self = bless { name => $name, in => '', out => '' }, $class;

		local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
		$self->{handle} = IPC::Run::start([ "$ENV{STAGE_OUT}/programs/fleet", $name, 24, 30 ],
			'<', \$self->{in}, '>', \$self->{out}, IPC::Run::timer(120));
		return $self;
	}

	sub _answer
	{
		my ($self) = @_;

		while ($self->{out} !~ /\n/ && $self->{handle}->pumpable) { $self->{handle}->pump; }
		$self->{out} =~ s/\A([^\n]*)\n?//;
		return { map { /(.*)=(.*)/ } split / /, $1 };
	}

	sub ask
	{
		my ($self, $line) = @_;

		$self->{in} .= "$line\n";
		return $self->_answer;
	}

	sub end
	{
		my ($self) = @_;

		$self->{handle}->finish;
		return $self->_answer;
	}
}

# --- what a superuser sees, looked at whenever something is waited for

my %worst = (held => 0, excess => -1000, clients => 0);

sub look
{
	my $row = $watch->say(q(SELECT concat_ws(' ', (SELECT coalesce(sum(sessions), 0) FROM pgpool_monitor.instances), coalesce(capacity, 1000),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')) FROM pgpool_monitor.info));
	my ($held, $capacity, $clients) = split / /, $row;

	$worst{held} = $held if $held > $worst{held};
	$worst{excess} = $held - $capacity if $held - $capacity > $worst{excess};
	$worst{clients} = $clients if $clients > $worst{clients};
	return;
}

# Look for that long.
sub run_for
{
	my ($seconds) = @_;
	my $until = time() + $seconds;

	while (time() < $until)
	{
		look();
		select undef, undef, undef, 0.02;
	}
	return;
}

# Until the condition holds, looking; passes WHAT, and returns how long it took.
sub until_true
{
	my ($code, $what) = @_;
	my $from = time();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { look(); return $code->(); }, $what)
		or diag($node->safe_psql('postgres', 'TABLE pgpool_monitor.limits; TABLE pgpool_monitor.instances; TABLE pgpool_monitor.info'));
	return time() - $from;
}

sub limit_of
{
	my ($process) = @_;

	return $process->ask('stats')->{limit};
}

my $before = time();
my %fleet;
$fleet{$_} = Process->start($_) for qw(orders web batch);
$_->ask('active 24') for values %fleet;
until_true(sub { return 3 == grep { $_->ask('stats')->{in_use} >= 5 } values %fleet; }, 'three processes share what there is');
run_for(2);

# Joins.
$fleet{$_} = Process->start($_) for qw(mail search);
$fleet{$_}->ask('active 24') for qw(mail search);
until_true(sub { return 5 == grep { my $in_use = $_->ask('stats')->{in_use}; $in_use >= 3 && $in_use <= 9 } values %fleet; },
	'two more join, and all have about the same');
run_for(2);

# Shares follow demand. Who has changed his mind says so with his next report, who is to give back does so with one more.
my $took = do
{
	$fleet{batch}->ask('active 1');
	my $others = sub { my $sum = 0; $sum += limit_of($fleet{$_}) for qw(orders web mail search); return $sum; };
	my $had = $others->();
	until_true(sub { return $others->() >= $had + 3; }, 'what one does not need any more goes to the others');
};
diag(sprintf 'shares followed a falling demand within %.1f report intervals', $took / $interval);
$took = do
{
	$fleet{batch}->ask('active 24');
	until_true(sub { return $fleet{batch}->ask('stats')->{in_use} >= 4; }, 'and comes back when it does');
};
diag(sprintf 'and a rising one within %.1f', $took / $interval);

# Exits, in order and not.
my $left = (delete $fleet{mail})->end;
is($left->{failed_loans} + $left->{failed_queries}, 0, 'one leaves in order, having served all');
$fleet{search}{handle}->kill_kill(grace => 0);
delete $fleet{search};
until_true(sub { return 3 == grep { $_->ask('stats')->{limit} >= 8 } values %fleet; }, 'what a leaver and a killed one had goes to the others');
run_for(1);

# One has all its connections lent to threads that sleep. It still reports, and still hears.
$fleet{batch}->ask('hold');
until_true(sub { my $s = $fleet{batch}->ask('stats'); return $s->{in_use} > 0 && $s->{idle} == 0; }, 'all connections of one are lent to sleepers');
my $reports = $fleet{batch}->ask('stats')->{reports};
until_true(sub { return $fleet{batch}->ask('stats')->{reports} >= $reports + 3; }, 'which reports all the same');
my $limit = limit_of($fleet{batch});
$fleet{$_} = Process->start($_) for qw(mail search);
$fleet{$_}->ask('active 24') for qw(mail search);
until_true(sub { return limit_of($fleet{batch}) < $limit; }, 'and hears that it is to have less');
until_true(
	sub {
		return $watch->say(q(SELECT in_use = sessions AND report_age_time < 5000 FROM pgpool_monitor.instances
			WHERE pool = 'batch')) eq 't';
	},
	'the view shows it as it is');
$fleet{batch}->ask('work');
until_true(sub { my $s = $fleet{batch}->ask('stats'); return $s->{size} <= $s->{limit}; }, 'when they wake it gives back');

# A rolling restart: each is replaced by a new one before it goes, some of them killed.
for my $name (qw(orders web))
{
	my $old = $fleet{$name};
	$fleet{$name} = Process->start($name);
	$fleet{$name}->ask('active 24');
	until_true(sub { return $fleet{$name}->ask('stats')->{queries} > 0; }, "a new $name serves beside the old one");
	if ($name eq 'web') { $old->{handle}->kill_kill(grace => 0); }
	else
	{
		$left = $old->end;
		is($left->{failed_loans} + $left->{failed_queries}, 0, 'which has lost nothing');
	}
}
run_for(20 - (time() - $before)) if time() - $before < 20;

until_true(sub { return 5 == grep { $_->ask('stats')->{limit} >= 1 } values %fleet; }, 'everybody has at least one connection');
my %final = map { $_ => $fleet{$_}->end } sort keys %fleet;
for my $name (sort keys %final)
{
	cmp_ok($final{$name}{queries}, '>', 0, "$name has served queries");
	is($final{$name}{refused}, 0, 'was never refused');
	is($final{$name}{failed_loans} + $final{$name}{failed_queries} + $final{$name}{open_failures}, 0, 'and nothing of it failed');
}

my ($held, $excess) = split /\|/, $node->safe_psql('postgres', 'SELECT held_peak, excess_peak FROM pgpool_monitor.info');
diag("most held: $held by the worker, $worst{held} by a superuser; above capacity: $excess and $worst{excess}; clients: $worst{clients} of 40");
cmp_ok($held, '>=', 20, 'the connections were used');
cmp_ok($excess, '<=', 6, 'by the worker\'s count what was held above capacity stayed within the headroom');
cmp_ok($worst{excess}, '<=', 6, 'by the superuser\'s too');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/too many clients|remaining connection slots/, 'the server refused nobody');
wait_for_query($node, 'SELECT coalesce(sum(sessions + knocks), 0) FROM pgpool_monitor.instances', 0, 'all is given back in the end');

$watch->end;
$node->stop('fast');
done_testing();
