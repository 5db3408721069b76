# The examples, and the demonstration: what it says is what it measured, it notices when a promise is broken, and it leaves
# nothing behind.

use strict;
use warnings;

use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

# Runs demo.sh to its end; returns its exit status and what it printed.
sub demo
{
	my (%environment) = @_;
	my $output;

	local %ENV = (%ENV, DEMO_SECONDS => 6, %environment);
	IPC::Run::run([ 'bash', 'client/examples/demo.sh' ], '<', \undef, '>', \$output, '2>&1');
	return ($? >> 8, $output);
}

sub nothing_is_left
{
	my ($what) = @_;
	my @running = grep { (readlink("$_/exe") // '') =~ m{^\Q$ENV{STAGE_OUT}\E/examples/} } glob('/proc/[0-9]*');
	my @directories = glob("$ENV{STAGE_WORK}/tmp/demo.*");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("@running@directories", '', "nothing is left: $what");
	return;
}

# --- as it should be

my ($status, $output) = demo();
is($status, 0, 'the demonstration ends well') or diag($output);
my @kept = $output =~ /^ok      (.*)/mg;
is(scalar(@kept), 7, 'seven promises were kept') or diag($output);
unlike($output, qr/NOT OK/, 'and none was broken');
like($kept[0], qr/^[1-9]\d+ queries served, 0 failed; 0 acquires failed/, 'queries were served, all of them');
like($kept[1], qr/^0 times "too many clients already"/, 'nobody was refused');
like($kept[2], qr/^0 of [1-9]\d* users without a pool refused/, 'not even strangers');
like($output, qr/^ +\d+ s  \d+ of \d+ held .*orders +\d+ of +\d+ /m, 'it can be watched, in lines when there is no terminal');
unlike($output, qr/\e/, 'and without a terminal nothing is written for one');
like($output, qr/>> .* kill -9 batch/, 'events are announced');
like($output, qr/"too many clients already", and the like \(53300\) +0 +[1-9]/, 'with mode off connections were refused');
like($output, qr/^ +web: wait p50 .* \d+ \/ \d+ \/ \d+ +(?:\d+ \/ \d+ \/ \d+|nobody was served)$/m, 'waits, side by side');
nothing_is_left('after its end');

# --- a promise is broken: pools that do not obey

($status, $output) = demo(DEMO_SECONDS => 4, PQPOOL_LIMITS => 'ignore');
is($status, 1, 'with pools that take what they can, it ends with an error') or diag($output);
like($output, qr/^NOT OK  [1-9]\d* times "too many clients already"/m, 'and says so');
nothing_is_left('after that');

# --- it is interrupted

{
	local $ENV{DEMO_SECONDS} = 60;
	my $heard = '';
	my $demo = IPC::Run::start([ 'bash', 'client/examples/demo.sh' ], '<', \undef, '>', \$heard, '2>&1');
	wait_until(sub { $demo->pump_nb; return $heard =~ /orders +\d+ of/; }, 'it runs');
	$demo->signal('TERM');
	$demo->finish;
	is($demo->full_result(0) >> 8, 143, 'told to end, it does') or diag($heard);
	nothing_is_left('after an interruption');
}

# --- the first example

{
	my $node = PgpoolMonitor::node('main');
	my $hello = "$ENV{STAGE_OUT}/examples/hello";
	my ($out, $err);

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	ok(IPC::Run::run([$hello], '>', \$out, '2>', \$err), 'hello') or diag($err);
	like($out, qr/^PostgreSQL \d/, 'greets the server');
	$node->stop;
	ok(!IPC::Run::run([$hello], '>', \$out, '2>', \$err), 'without a server it fails');
	like($err, qr/^hello: pool "hello": the server cannot be reached.*No such file/, 'and says why, in one line');
}

done_testing();
