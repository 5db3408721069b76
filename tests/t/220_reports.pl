# Reports: which count, which do not, and that nothing said by a client does harm.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('reports',
	max_connections => 30, max_prepared_transactions => 5, autovacuum => 'off', 'pgpool_monitor.lease' => '1h');
my $set = "SELECT pg_catalog.set_config('pgpool_monitor.report', '%s', %s)";
my $peer = Peer->new($node, pool => 'orders', instance => 'a1;report=1');
my $seq = 0;

# What the server believes about the number in use.
sub believed
{
	return $node->safe_psql('postgres', q(SELECT in_use FROM pgpool_monitor.instances WHERE instance = 'a1'));
}

# A text with in_use = N and the next number.
sub text
{
	my ($n) = @_;

	$seq++;
	return "v=1;seq=$seq;in_use=$n";
}

sub sql
{
	my ($n, $local) = @_;

	return sprintf($set, text($n), $local // 'false');
}

is(believed(), '', 'NULL before the first');

# --- what is applied

$peer->say(sql(1));
is(believed(), 1, 'by itself');
$peer->say('BEGIN');
$peer->say(sql(2));
is(believed(), 1, 'not before its transaction commits');
$peer->say('COMMIT');
is(believed(), 2, 'in a transaction');
$peer->say('BEGIN READ ONLY; ' . sql(3) . '; COMMIT');
is(believed(), 3, 'read only');
$peer->say("SET pgpool_monitor.report = '" . text(4) . q('));
is(believed(), 4, 'by SET');
$peer->say(sql(5, 'true'));
is(believed(), 5, 'by SET LOCAL');
$peer->say('BEGIN; ' . sql(90) . '; ' . sql(6) . '; COMMIT');
is(believed(), 6, 'the last of a transaction');
$peer->say('BEGIN; SAVEPOINT s; ' . sql(7) . '; RELEASE s; COMMIT');
is(believed(), 7, 'in a savepoint');
$peer->say('BEGIN; ' . sql(8) . '; SAVEPOINT s; ' . sql(91) . '; ROLLBACK TO s; COMMIT');
is(believed(), 8, 'what was said before a savepoint that was rolled back');
$peer->say('BEGIN; CREATE TABLE prepared(); ' . sql(9) . q(; PREPARE TRANSACTION 'p'));
is(believed(), 9, 'of a prepared transaction');
$peer->say(q(ROLLBACK PREPARED 'p'));
$peer->say('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; ' . sql(10) . '; COMMIT');
is(believed(), 10, 'under any isolation level');

# --- what is not

$peer->say('BEGIN; ' . sql(50) . '; ROLLBACK');
is(believed(), 10, 'not when rolled back');
$peer->say('SELECT 1');
$peer->say('BEGIN; ' . sql(51) . '; SELECT 1/0');
$peer->say('ROLLBACK');
$peer->say('SELECT 1');
is(believed(), 10, 'not when failed, nor replayed by the next commit');
my $ignored = $node->safe_psql('postgres', 'SELECT reports_ignored FROM pgpool_monitor.info');
$peer->say(sprintf $set, 'v=1;seq=1;in_use=52', 'false');
is(believed(), 10, 'not an old one');
cmp_ok($node->safe_psql('postgres', 'SELECT reports_ignored FROM pgpool_monitor.info'), '>', $ignored, 'which is counted');
$peer->say("CREATE FUNCTION clause() RETURNS int LANGUAGE sql SET pgpool_monitor.report = 'v=1;seq=999999;in_use=53' AS 'SELECT 1'");
$peer->say('SELECT clause()');
is(believed(), 10, 'not a function\'s SET clause');
$peer->say('RESET pgpool_monitor.report');
$peer->say('RESET ALL');
$peer->say('DISCARD ALL');
is(believed(), 10, 'RESET and DISCARD say nothing');
my $other = Peer->new($node, pool => 'orders', instance => 'b1;report=1');
my $stranger = Peer->new($node);
$stranger->say(sprintf $set, 'v=1;seq=888888;in_use=54', 'false');
is($stranger->error, '', 'a stranger may say what he likes');
my $options = Peer->new($node, pool => 'orders', instance => 'a1;report=1', options => '-c pgpool_monitor.report=v=1;seq=777777;in_use=55');
is($options->error, '', 'so may options');
is(believed(), 10, 'it is nobody\'s report');
$options->end;
$other->report(in_use => 99);
is(believed(), 10, 'a report speaks for its own instance');
is($node->safe_psql('postgres', q(SELECT sum(in_use) FROM pgpool_monitor.pools)), 109, 'sums are over instances');
$peer->say(sql(11));
is(believed(), 11, 'and the true one goes on');

# Any session of the instance may report, also a knock.
my $knock = Peer->new($node, pool => 'orders', instance => 'a1;kind=knock;report=1');
$knock->say(sql(12));
is(believed(), 12, 'a knock reports');
$knock->end;

# --- what cannot be read

my $rejected = 0;
for my $bad ('', 'nonsense', 'v=2;seq=99999', 'v=1', 'seq=99999;v=1', 'v=1;seq=-1', 'v=1;seq=0', 'v=1;seq=99999;in_use=-1',
	'v=1;seq=99999;in_use=99999999999', 'v=1;seq=99999999999999999999', 'v=1;seq=99999;in_use=NaN', 'v=1;seq=99999;in_use=1;in_use=2',
	'v=1;seq=99999;wait=32:1', 'v=1;seq=99999;wait=1:', 'v=1;seq=99999;loans=1:2:3', 'v=1;seq=99999;loans=x', "v=1;seq=99999;\x01=1",
	'v=1;seq=99999;loans=1:1:%zz:x', ('x' x 2048))
{
	(my $quoted = $bad) =~ s/'/''/g;
	$peer->say(sprintf $set, $quoted, 'false');
	is($peer->error, '', 'accepted');
	$rejected++ if $bad ne '';
}
is($node->safe_psql('postgres', 'SELECT reports_rejected FROM pgpool_monitor.info'), $rejected, 'and counted as rejected');
is(believed(), 12, 'none of it believed');
$peer->say(sprintf $set, 'x' x 2049, 'false');
like($peer->error, qr/^22023 pool report is too long/, 'only length is refused');
$peer->say(sprintf $set, 'x' x 60000, 'false');
like($peer->error, qr/^22023/, 'of any size');

# --- what is shown

$peer->say(sprintf $set, 'v=1;seq=' . ++$seq . ';ack=0;max=20;min=2;opening=1;idle=2;in_use=3;resetting=4;closing=5;waiting=6;acquires=100;'
	. 'timeouts=7;opened=8;closed=9;open_failures=10;leaks=1;wait=0:50,11:50;hold=21:1;loans=' . $peer->pid
	. ':60000:worker-1:orders.c%3A214%20%3Cx%3E;future=1', 'false');
is($node->safe_psql('postgres', q(SELECT max_size, min_size, opening, idle, in_use, resetting, closing, waiting, demand, acquires,
	timeouts, opened, closed, open_failures, leaks, round(wait_p99_time::numeric), round(hold_p50_time::numeric)
	FROM pgpool_monitor.instances WHERE instance = 'a1')),
	'20|2|1|2|3|4|5|6|12|100|7|8|9|10|1|2|1573', 'every field arrives');
is($node->safe_psql('postgres', q(SELECT client_state, held_time >= 60000, thread, call_site FROM pgpool_monitor.sessions
	WHERE pid = ) . $peer->pid), 'lent|t|worker-1|orders.c:214 <x>', 'a loan is shown at its session');
is($node->safe_psql('postgres', q(SELECT reason LIKE '%loan%' FROM pgpool_monitor.pools WHERE pool = 'orders')), 'f',
	'and its pool is not judged by it: the session was at work just now');

# Demand is the most of the last two.
$peer->say(sql(0));
is($node->safe_psql('postgres', q(SELECT demand FROM pgpool_monitor.instances WHERE instance = 'a1')), 9, 'demand remembers');
$peer->say(sql(0));
is($node->safe_psql('postgres', q(SELECT demand FROM pgpool_monitor.instances WHERE instance = 'a1')), 0, 'two reports');

# --- goodbye

$peer->say(sprintf $set, 'v=1;seq=' . ++$seq . ';bye=1', 'false');
$peer->end;
wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'a1'), 0, 'who says goodbye is gone with his last session');
$other->end;
wait_for_query($node, q(SELECT sessions FROM pgpool_monitor.instances WHERE instance = 'b1'), 0, 'who does not');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'b1')), 1, 'stays a while');

$node->stop('fast');
done_testing();
