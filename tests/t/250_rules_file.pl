# Rules from a file: what is read and when, what comes first, and that an error loses nothing.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::unstarted_node('rules',
	max_connections => 40,
	autovacuum => 'off',
	'pgpool_monitor.rules' => 'orders=12',
	'pgpool_monitor.rules_file' => 'rules.conf',
	'pgpool_monitor.round_interval' => '100ms');

sub write_rules
{
	my ($text) = @_;

	open my $file, '>', $node->data_dir . '/rules.conf' or die "rules.conf: $!";
	print $file $text;
	close $file or die "rules.conf: $!";
	return;
}

sub ask { return $node->safe_psql('postgres', $_[0]); }

sub reload_seen
{
	my ($condition, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->reload;
	return wait_for_query($node, "SELECT coalesce($condition, false) FROM pgpool_monitor.info", 't', $what);
}

# The rule of a pool of this name that comes now.
sub rule_of
{
	my ($pool) = @_;
	my $peer = Peer->new($node, pool => $pool);
	my $rule = ask("SELECT rule FROM pgpool_monitor.limits WHERE pool = '$pool'");

	$peer->end;
	return $rule;
}

sub complaints
{
	my $count = () = slurp_file($node->logfile) =~ /could not load its rules file/g;
	return $count;
}

my $good = <<'END';
# who may have what
orders=10              # never: the string's rules come first

batch@*/postgres = 25% : floor=2 : mode=share
"a,b#c"=7 # quoted
quiet=-:mode=off
*=5
END

# --- read at start, before anybody comes

write_rules($good);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');
is(ask('SELECT rule_count, rules, rules_file, rules_file_error IS NULL FROM pgpool_monitor.info'), '6|orders=12|rules.conf|t',
	'six rules, one of them the string\'s');
is(rule_of('orders'), 'orders=12', 'the string comes first');
is(rule_of('batch'), 'batch@*/postgres = 25% : floor=2 : mode=share', 'then the file, in its order');
is(rule_of('a,b#c'), '"a,b#c"=7', 'quoted, and no comment');
is(rule_of('other'), '*=5', 'to its end');
is($node->psql('postgres', 'SET ROLE pg_monitor; SHOW pgpool_monitor.rules_file'), 0, 'pg_monitor may see where it is');
is(ask(q(SELECT setting FROM pg_settings WHERE name = 'pgpool_monitor.rules_file')), 'rules.conf', 'as a superuser may');
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
isnt($node->psql('postgres', 'SET ROLE stranger; SHOW pgpool_monitor.rules_file'), 0, 'and not everybody');

# --- a rule's mode holds from the first session on, without a worker

my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
kill 'STOP', $worker;
my $quiet = Peer->new($node, pool => 'quiet', instance => 'q;follow=1;report=1');
is($quiet->allotment->{state}, 'off', 'off by its rule');
my $batch = Peer->new($node, pool => 'batch', instance => 'b;follow=1;report=1');
is($batch->allotment->{limit}, 1, 'shared with by its rule, though the mode is observe');
my $other = Peer->new($node, pool => 'other', instance => 'o;follow=1;report=1');
is($other->allotment->{limit}, -1, 'and one whose rule names no mode follows that');
kill 'CONT', $worker;
$_->end for $quiet, $batch, $other;

# --- errors

write_rules("new=3\nbatch=20:mode=force\n");
reload_seen('rules_file_error IS NOT NULL', 'an error is noticed');
is(ask('SELECT rules_file_error FROM pgpool_monitor.info'),
	'File "rules.conf", line 2, character 15: unknown mode "force"; known are off, observe, advise, share and enforce.',
	'with file, line and what');
is(ask('SELECT rule_count FROM pgpool_monitor.info'), 6, 'the last good rules stay in force');
is(rule_of('new'), '*=5', 'all of them, and none of the new ones');
is(complaints(), 1, 'the log has been told');

PgpoolMonitor::set($node, 'pgpool_monitor.rules' => 'orders=12, new=4');
reload_seen('rule_count = 7', 'the string can be changed meanwhile');
is(rule_of('new'), 'new=4', 'and is in force');
is(complaints(), 1, 'the log is told once');

# A worker of its own life finds the rules of the one before.
ask("SELECT pg_terminate_backend($worker)");
wait_for_query($node, "SELECT worker_pid <> $worker AND last_round > now() - interval '10 s' FROM pgpool_monitor.info", 't', 'another worker');
is(ask('SELECT rule_count, rules_file_error IS NOT NULL FROM pgpool_monitor.info'), '7|t', 'has the same rules');
is(rule_of('batch'), 'batch@*/postgres = 25% : floor=2 : mode=share', 'and matches with them');
is(complaints(), 1, 'and says nothing new');

my %wrong = (
	"a=1\0b=2\n" => qr/^File "rules.conf": a null byte at 4\.$/,
	join('', map { "p$_=1\n" } 1 .. 600) => qr/^File "rules.conf", line 511, character 1: more than 512 rules\.$/,
	'#' x 1100000 => qr/^File "rules.conf": larger than 1048576 bytes\.$/,
	"\"open\n" => qr/line 1, character 1: this quote is not closed\.$/);
for my $text (sort keys %wrong)
{
	my $short = $wrong{$text} =~ s/.*?: //r;

	write_rules($text);
	$node->reload;
	wait_for_query($node, 'SELECT rules_file_error FROM pgpool_monitor.info', $wrong{$text}, "refused: $short");
	is(ask('SELECT rule_count FROM pgpool_monitor.info'), 7, 'and nothing is lost');
}

unlink $node->data_dir . '/rules.conf';
$node->reload;
wait_for_query($node, 'SELECT rules_file_error FROM pgpool_monitor.info', 'File "rules.conf": No such file or directory.', 'a file that is gone');
mkdir $node->data_dir . '/rules.conf';
$node->reload;
wait_for_query($node, 'SELECT rules_file_error FROM pgpool_monitor.info', 'File "rules.conf": not a regular file.', 'a directory');
rmdir $node->data_dir . '/rules.conf';
is(rule_of('other'), '*=5', 'lose nothing either');

# --- and good again

my $stays = Peer->new($node, pool => 'stays');
is(ask(q(SELECT rule FROM pgpool_monitor.limits WHERE pool = 'stays')), '*=5', 'a pool under the old rules');
write_rules("stays=3\r\n");
reload_seen('rules_file_error IS NULL AND rule_count = 3', 'a good file ends the trouble');
wait_for_query($node, q(SELECT rule, ceiling FROM pgpool_monitor.limits WHERE pool = 'stays'), 'stays=3|3', 'pools that are there get their new rule');
$stays->end;
PgpoolMonitor::set($node, 'pgpool_monitor.rules_file' => '');
reload_seen('rule_count = 2 AND rules_file IS NULL', 'no file, and its rules are gone');

# --- a server starts with whatever there is

PgpoolMonitor::set($node, 'pgpool_monitor.rules_file' => 'rules.conf');
write_rules("nonsense\n");
$node->restart;
is(ask('SELECT rule_count, rules_file_error FROM pgpool_monitor.info'),
	'2|File "rules.conf", line 1, character 9: expected "=" and a budget.', 'with a bad file, a server starts with the string\'s rules');
is(rule_of('orders'), 'orders=12', 'which are in force');

$node->stop('fast');
done_testing();
