# How little a client is trusted: whatever reports say they harm nobody but who says it; who may see and do what; nothing depends on
# anybody's search_path; what reports leave in pg_stat_statements and in an audit log. 220_reports.pl is about which reports count, 200_sessions.pl about
# hostile names.

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

chomp(my $library_dir = `"$ENV{PG_CONFIG}" --pkglibdir`);
my %have = map { $_ => -e "$library_dir/$_.so" } qw(pg_stat_statements pgaudit);
my $node = PgpoolMonitor::node('trust',
	shared_preload_libraries => join(', ', 'pgpool_monitor', grep { $have{$_} } qw(pg_stat_statements pgaudit)),
	max_connections => 30,
	max_prepared_transactions => 5,
	autovacuum => 'off',
	'pgpool_monitor.log_health' => 'off',
	'pgpool_monitor.lease' => '1h',
	'pgpool_monitor.round_interval' => '100ms',
	'pgpool_monitor.history_interval' => '100ms');
my $watch = Peer->new($node);
my $postmaster = $watch->say(q(SELECT pg_postmaster_start_time()));

sub ask
{
	my ($sql) = @_;

	return $watch->say($sql) // $watch->error;
}

# applied|ignored|rejected
sub counts
{
	return ask(q(SELECT concat_ws('|', reports_applied, reports_ignored, reports_rejected) FROM pgpool_monitor.info));
}

sub of_instance
{
	my ($id, $column) = @_;

	return ask("SELECT string_agg(concat_ws('|', $column), ' ' ORDER BY pool, role, database) FROM pgpool_monitor.instances"
			. " WHERE instance = '$id'");
}

# Memory of a process that is its own, in kB.
sub memory
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0;
}

sub views
{
	my ($peer) = @_;

	return split / /, $peer->say(q(SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_catalog.pg_class
		WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgpool_monitor') AND relkind = 'v'));
}

# Each column of each row is made and shown.
sub views_are_readable
{
	my ($peer, $what) = @_;
	my @broken;

	for my $view (views($peer))
	{
		$peer->say("SELECT count(v::text) FROM pgpool_monitor.$view v");
		push @broken, "$view: " . $peer->error if $peer->error;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is("@broken", '', $what);
	return;
}

my $peer = Peer->new($node, pool => 'orders', instance => 'a;report=1');
my $seq = 0;
my %expected = (applied => 0, ignored => 0, rejected => 0);

# say_report(KIND, FIELDS): what becomes of it is KIND. FIELDS: text after v=1;seq=N
sub say_report
{
	my ($kind, $fields) = @_;

	(my $text = 'v=1;seq=' . ++$seq . ";$fields") =~ s/(['\\])/$1$1/g;
	$peer->say("SELECT pg_catalog.set_config('pgpool_monitor.report', E'$text', false)");
	$expected{$kind}++;
	return $peer->error ? "$fields: " . $peer->error : ();
}

sub counted_as_expected
{
	my ($what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(counts(), "$expected{applied}|$expected{ignored}|$expected{rejected}", $what);
	return;
}

# --- each field, with what no field may have

my $log = -s $node->logfile;
my @states = qw(max min opening idle in_use resetting closing waiting leaks);
my @counters = qw(acquires timeouts opened closed open_failures found_dead discarded resets abandoned finished ack);
my @lists = qw(wait hold errors closed_by);
my @never = ('-1', '-0', '+1', 'NaN', 'Infinity', '1e3', '0x10', '1.0', ' 1', '1 ', '9223372036854775808', '18446744073709551616',
	'1' . '0' x 100, "\xd9\xa3");
my @refused;

for my $key (@states, @counters, 'bye')
{
	push @refused, say_report('rejected', "$key=$_") for @never, '';
}
push @refused, say_report('rejected', "$_=2147483648") for @states;
push @refused, say_report('rejected', 'bye=2');
for my $key (@lists)
{
	push @refused, say_report('rejected', "$key=$_")
		for '-1:1', '1:-1', '1:NaN', '99999999999:1', '1:9223372036854775808', '1', '1:1:1', ',', '1:1,1:1';
}
my $pid = $peer->pid;
push @refused, say_report('rejected', "loans=$_") for "$pid:-1:t:s", '-1:1:t:s', "$pid:9223372036854775808:t:s", '2147483648:1:t:s',
	"$pid:NaN:t:s", "$pid:1:t", "$pid:1:t:s:u", "$pid:1:%00:s", "$pid:1:t:%", "$pid:1:t:%f", "$pid:1:t:a b", join(',', ("$pid:1:t:s") x 9);
is("@refused", '', 'what cannot be is not refused, which would fill the log');
counted_as_expected('but rejected, all of it');
is(of_instance('a', 'in_use IS NULL, waiting IS NULL, wait_p99_time IS NULL'), 't|t|t', 'and nothing of it was believed');

# --- binary junk, made by chance, but always the same

srand 295;
@refused = ();
for (1 .. 300)
{
	my $length = 1 + int rand 300;
	my $junk = join '', map { sprintf '\\x%02x', 1 + int rand 127 } 1 .. $length;
	$peer->say("SELECT pg_catalog.set_config('pgpool_monitor.report', E'$junk', false)");
	push @refused, $peer->error if $peer->error;
	$expected{rejected}++;
}
for (1 .. 300)
{
	my $good = "v=1;seq=999999;max=20;in_use=3;wait=0:50,11:50;hold=21:1;errors=2:3;closed_by=1:1;loans=$pid:60000:w:a%3A1;acquires=5";
	my $at = int rand length $good;

	# no mistake of one byte is taken for a number of another kind
	substr $good, $at, 1, substr(";:,=%\x01 -", int rand 8, 1) x (1 + int rand 3);
	$peer->say("SELECT pg_catalog.set_config('pgpool_monitor.report', '$good', true)");
	push @refused, $peer->error if $peer->error;
	my ($applied, $ignored, $rejected) = split /\|/, counts();
	# such a report can be a good one: with an unknown key
	$expected{applied} = $applied, $expected{ignored} = $ignored, next
		if $rejected == $expected{rejected} && $applied + $ignored == $expected{applied} + $expected{ignored} + 1;
	$expected{rejected}++;
}
is("@refused", '', 'junk is not refused either');
counted_as_expected('each is counted once, as what it is');
views_are_readable($watch, 'views are readable');
$seq = 1_000_000;

# --- what is long, unknown, absurd

say_report('applied', 'in_use=1;' . join(';', map { "unknown$_=" . 'x' x 20 } 1 .. 60));
is(of_instance('a', 'in_use'), 1, 'unknown keys are passed over');
my $before = memory($pid);
for my $length (2049, 65_536, 1024 * 1024, 10 * 1024 * 1024)
{
	$peer->say("SELECT pg_catalog.set_config('pgpool_monitor.report', pg_catalog.repeat('x', $length), false)");
	like($peer->error, qr/^22023 pool report is too long/, "$length bytes are refused");
	$peer->say('BEGIN; SAVEPOINT s');
	$peer->say("SELECT pg_catalog.set_config('pgpool_monitor.report', 'v=1;seq=2000000;x=' || pg_catalog.repeat('x', $length), true)");
	$peer->say('ROLLBACK');
}
counted_as_expected('and are no reports');
is(of_instance('a', 'in_use'), 1, 'nor do they change anything');
cmp_ok(memory($pid) - $before, '<', 2048, 'or stay in memory');

my $other = Peer->new($node, pool => 'web', instance => 'w;report=1');
my $other_pid = $other->pid;
say_report('applied', "in_use=2;max=2147483647;ack=9223372036854775807;loans=$pid:9223372036854775807:t:s,$other_pid:60000:t:s,0:1:t:s,"
		. '2147483647:1:t:s');
is(of_instance('a', 'in_use, max_size'), '2|2147483647', 'the largest numbers are numbers');
is(ask("SELECT held_time >= 9223372036854775807 FROM pgpool_monitor.sessions WHERE pid = $pid"), 't', 'a loan may be as old as the world');
is(ask("SELECT concat_ws('|', client_state, held_time, thread, call_site) FROM pgpool_monitor.sessions WHERE pid = $other_pid"), '',
	'a loan of another\'s session is no loan');
views_are_readable($watch, 'and views are readable');

# --- another's id

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE etl LOGIN');
$node->safe_psql('postgres', q(CREATE DATABASE utf8 TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'));
$node->safe_psql('postgres', q(CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'));
$node->safe_psql($_, 'CREATE EXTENSION pgpool_monitor') for qw(utf8 ascii);
my $role = of_instance('a', 'role');
my @thieves = (
	[ 'of another role' => Peer->new($node, pool => 'orders', instance => 'a;report=1', user => 'etl') ],
	[ 'of another database' => Peer->new($node, pool => 'orders', instance => 'a;report=1', dbname => 'utf8') ],
	[ 'of another pool' => Peer->new($node, pool => 'orders2', instance => 'a;report=1') ]);
for (@thieves)
{
	my ($who, $thief) = @$_;

	$thief->{seq} = 3_000_000;
	$thief->report(in_use => 77, timeouts => 9, bye => 1);
	is($thief->error, '', "the same id $who");
	$expected{applied}++;
	is(ask("SELECT concat_ws('|', in_use, max_size, timeouts) FROM pgpool_monitor.instances WHERE instance = 'a' AND pool = 'orders'"
				. " AND role = '$role' AND database = 'postgres'"), '2|2147483647|0', '  speaks for itself');
	is(ask(q(SELECT count(*) FROM pgpool_monitor.instances WHERE instance = 'a' AND in_use = 77)), 1, '  which is another instance');
	$thief->end;
	wait_until(sub { return ask(q(SELECT count(*) FROM pgpool_monitor.instances WHERE in_use = 77)) == 0; }, '  and goes alone');
}
counted_as_expected('their reports are counted');

# The same role can: whoever logs in as it is it (PROTOCOL.md, section 4).
my $twin = Peer->new($node, pool => 'orders', instance => 'a;report=1');
$twin->{seq} = 3_999_999;
$twin->report(in_use => 5);
is(of_instance('a', 'in_use, sessions'), '5|2', 'another session of the same role with the same id is of the same instance');
say_report('ignored', 'in_use=6');
$twin->say(q(BEGIN; CREATE TABLE prepared(); SELECT set_config('pgpool_monitor.report', 'v=1;seq=4000001;in_use=7', true);
	PREPARE TRANSACTION 'p'));
is(of_instance('a', 'in_use'), 7, 'a prepared transaction reports when it is prepared');
$other->say(q(COMMIT PREPARED 'p'));
is($other->error, '', 'and who commits it');
is(of_instance('w', 'in_use IS NULL') . of_instance('a', 'in_use'), 't7', 'says nothing by that');
$expected{applied} += 2;
$seq = 5_000_000;
counted_as_expected('each is counted');
$_->end for $twin, $other;

# --- as fast as one session can

my $worker = ask('SELECT worker_pid FROM pgpool_monitor.info');
my $errors = substr(slurp_file($node->logfile), $log) =~ s/^.*(?:too long|limit is 2048|STATEMENT:.*set_config|CONTEXT:).*\n//mgr;
is($errors, '', 'the log has what was too long, and nothing else');
$log = -s $node->logfile;
my %flood = (
	applied => [ q('v=1;seq=' || 5000000 + i || ';in_use=' || i % 7 || ';waiting=1;acquires=' || i || ';loans=1:1:t:s'), 10_000 ],
	ignored => [ q('v=1;seq=' || i || ';in_use=99'), 10_000 ],
	rejected => [ q('v=1;seq=-' || i || repeat('x', 2000)), 10_000 ],
	rolled_back => [ q('v=1;seq=' || 6000000 + i || ';in_use=99'), 10_000 ]);
my %memory;
for my $kind (qw(applied ignored rejected rolled_back))
{
	my ($text, $n) = @{ $flood{$kind} };
	my $end = $kind eq 'rolled_back' ? 'ROLLBACK' : 'COMMIT';

	%memory = map { $_ => memory($_) } $pid, $worker if $kind eq 'ignored';    # the first brings pages in
	$peer->{in} .= "DO \$\$ BEGIN FOR i IN 1 .. $n LOOP"
		. " PERFORM set_config('pgpool_monitor.report', $text, false); $end; END LOOP; END \$\$\n";
	$peer->{handle}->pump_nb;
	views_are_readable($watch, "meanwhile ($kind) all others go on");
	$peer->_answer;
	is($peer->error, '', "$n in a loop");
	$expected{$kind} += $n if exists $expected{$kind};
	counted_as_expected("$kind: each is counted");
}
is(of_instance('a', 'pool, instance, in_use, acquires'), 'orders|a|' . (10_000 % 7) . '|10000', 'and the last one counts');
cmp_ok(memory($_) - $memory{$_}, '<', 1024, ($_ == $pid ? 'the session' : 'the worker') . ' has not grown') for $pid, $worker;
is(ask('SELECT worker_pid FROM pgpool_monitor.info'), $worker, 'the worker is the same');
is(ask('SELECT pg_postmaster_start_time()'), $postmaster, 'so is the server');
my $lines = () = substr(slurp_file($node->logfile), $log) =~ /\n/g;
is($lines, 0, '40,000 reports leave nothing in the log') or diag(substr slurp_file($node->logfile), $log);

# --- any bytes, in any encoding

$node->safe_psql('utf8', qq(SET client_encoding = UTF8; CREATE ROLE "r\xc3\xb4le" LOGIN; CREATE DATABASE "d\xc3\xa4ta" TEMPLATE template0));
my @odd = (
	Peer->new($node, pool => "caf\xc3\xa9", instance => 'o1;report=1', user => "r\xc3\xb4le", dbname => "d\xc3\xa4ta"),
	Peer->new($node, pool => "latin1\xe9", instance => 'o2;report=1', application_name => "\xe9\xff", dbname => 'ascii'),
	Peer->new($node, pool => "\xed\xa0\x80\xf5", instance => 'o3;report=1', application_name => "\xc3\xa9", dbname => 'utf8'));
for my $odd (@odd)
{
	is($odd->error, '', 'a session with an odd name');
	$odd->say(q(SELECT set_config('pgpool_monitor.report', 'v=1;seq=1;in_use=1;loans=) . $odd->pid . q(:1:%ff%fe:%c3%a9%e9%5c', false)));
}
my %seen;
for my $database ('utf8', 'ascii')
{
	for my $encoding ('UTF8', 'SQL_ASCII', 'LATIN1', 'EUC_JP')
	{
		my $reader = Peer->new($node, dbname => $database, options => "-c client_encoding=$encoding");
		views_are_readable($reader, "$database, read in $encoding");
		$seen{ $reader->say(q(SELECT string_agg(concat_ws('|', pool, role, database, instance, host, application_name), ' ' ORDER BY instance)
			FROM pgpool_monitor.instances) . q( WHERE instance LIKE 'o_')) }++;
		$seen{ $reader->say(q(SELECT string_agg(concat_ws('|', pool, thread, call_site), ' ' ORDER BY instance)
			FROM pgpool_monitor.sessions) . q( WHERE instance LIKE 'o_')) }++;
		$reader->end;
	}
}
is(join(' ', sort values %seen), '8 8', 'and all see the same') or diag(explain(\%seen));
unlike(join('', keys %seen), qr/[^\x20-\x7e]/, 'which is printable');
$_->report(seq => 2, bye => 1), $_->end for @odd;

# --- who may see and do what

# Everything that is in the schema has to be in here.
#   own      everybody: rows of his own roles; pg_monitor: all
#   monitor  pg_monitor
#   nobody   the extension's owner and whom he grants it
my %decided = (
	(map { $_ => 'own', "$_()" => 'own' } qw(pools instances sessions limits counters history advice)),
	(map { $_ => 'monitor', "$_()" => 'monitor' } qw(info pauses)),
	'reset()' => 'nobody',
	'reset(text,text,text)' => 'nobody',
	'pause(text,name,name,interval)' => 'nobody',
	'resume(text,name,name)' => 'nobody');
my $objects = q(SELECT string_agg(name, ' ' ORDER BY name) FROM (
	SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'pgpool_monitor'::regnamespace
	UNION ALL SELECT proname || '(' || replace(oidvectortypes(proargtypes), ', ', ',') || ')' FROM pg_proc
		WHERE pronamespace = 'pgpool_monitor'::regnamespace) s);
is(join(' ', sort split / /, ask($objects)), join(' ', sort keys %decided), 'of every object it is decided who may');

$node->safe_psql('postgres', q(CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher;
	CREATE ROLE deputy LOGIN; GRANT app TO deputy));
my $app = Peer->new($node, pool => 'shop', instance => 's1;report=1', user => 'app');
my $etl = Peer->new($node, pool => 'batch', instance => 'b1;report=1', user => 'etl');
my $busy = q(v=1;seq=1;in_use=1;max=4;acquires=100;wait=3:100;hold=9:100);
$_->say("SELECT set_config('pgpool_monitor.report', '$busy', false)") for $app, $etl;
wait_until(sub { return ask(q(SELECT (SELECT count(DISTINCT pool) FROM pgpool_monitor.history WHERE pool IN ('shop', 'batch'))
	+ (SELECT count(*) FROM pgpool_monitor.advice WHERE pool IN ('shop', 'batch')))) == 4; }, 'two pools of two roles are in all views');

# What each sees: shop is app's, batch is etl's.
my %sees = (app => 'shop', etl => 'batch', deputy => 'shop', stranger => '', watcher => 'batch shop');
for my $user (sort keys %sees)
{
	my $session = Peer->new($node, user => $user);

	for my $object (sort keys %decided)
	{
		my $kind = $decided{$object};
		my $may = $kind eq 'own' || ($kind eq 'monitor' && $user eq 'watcher');
		(my $call = "pgpool_monitor.$object") =~ s/\b(?:text|name|interval)\b/NULL/g;
		my $answer = $session->say($kind eq 'own'
			? "SELECT coalesce(string_agg(DISTINCT pool || CASE WHEN role IS NULL THEN '?' ELSE '' END, ' '), '')"
				. " FROM $call WHERE pool IN ('shop', 'batch')"
				. " OR '$user' <> 'watcher' AND NOT (pool = 'orders' AND role = 'etl')"
			: "SELECT count(*) FROM $call");

		if ($may)
		{
			is($answer // $session->error, $kind eq 'own' ? $sees{$user} : $answer, "$user: $object");
			is($session->error, '', '  without an error') if $kind ne 'own';
		}
		else
		{
			like($session->error, qr/^42501 permission denied for (?:view|function)/, "$user: $object is not his");
		}
		next if $object =~ /\(/;
		my $write = 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER';
		is($session->say("SELECT has_table_privilege('pgpool_monitor.$object', '$write')"), 'f', '  and nobody writes to it');
	}
	is($session->say(q(SELECT has_schema_privilege('pgpool_monitor', 'CREATE'))), 'f', "$user creates nothing in the schema");
	$session->say(q(CREATE TABLE pgpool_monitor.mine()));
	like($session->error, qr/^42501/, '  as is said when he tries');
	$session->say("GRANT SELECT ON pgpool_monitor.info TO $user");
	$session->say('SELECT count(*) FROM pgpool_monitor.info');
	is($session->error eq '' ? 'may' : 'may not', $user eq 'watcher' ? 'may' : 'may not', '  nor grants himself more');
	$session->end;
}
is(ask(q(SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgpool_monitor'::regnamespace AND prosecdef)), 0,
	'no function is anybody else\'s hand (SECURITY DEFINER)');
is(ask(q(SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgpool_monitor'::regnamespace AND proconfig IS NOT NULL)), 0,
	'or needs settings of its own');
is(ask(q(SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgpool_monitor'::regnamespace
	AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c'))),
	0, 'or is in a language that looks up names');
is(ask(q(SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'pgpool_monitor'::regnamespace AND a.grantee = 0
	AND a.privilege_type <> 'SELECT')), 0, 'PUBLIC may only read');
is(ask(q(SELECT string_agg(a.privilege_type, ' ') FROM pg_namespace n, aclexplode(n.nspacl) a
	WHERE n.nspname = 'pgpool_monitor' AND a.grantee = 0)),
	'USAGE', 'and use the schema');

# --- a hostile search_path

# Everything that a view names, or could be thought to name, under the same name, so that whoever finds it is told.
sub lay_traps
{
	my ($trapped) = @_;
	my @traps = ('CREATE SCHEMA evil');
	my $body = q(LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$);

	push @traps, "CREATE FUNCTION evil.$_ $body" for 'clock_timestamp() RETURNS timestamptz', 'now() RETURNS timestamptz',
		'date_part(text, interval) RETURNS double precision', 'pg_blocking_pids(integer) RETURNS integer[]',
		(map { "$_() RETURNS SETOF record" } qw(pools instances sessions limits counters history advice pauses)),
		'same(text, text) RETURNS boolean', 'same(integer, integer) RETURNS boolean', 'same(oid, oid) RETURNS boolean',
		'minus(timestamptz, timestamptz) RETURNS interval', 'times(double precision, double precision) RETURNS double precision';
	push @traps, "CREATE OPERATOR evil.$_" for '= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text)',
		'= (FUNCTION = evil.same, LEFTARG = integer, RIGHTARG = integer)', '= (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid)',
		'- (FUNCTION = evil.minus, LEFTARG = timestamptz, RIGHTARG = timestamptz)',
		'* (FUNCTION = evil.times, LEFTARG = double precision, RIGHTARG = double precision)';
	push @traps, "CREATE TABLE evil.$_(pid integer, state text)" for views($watch), qw(pg_stat_activity pg_class pg_proc);
	for my $trap (@traps)
	{
		$trapped->say($trap);
		die "$trap: " . $trapped->error if $trapped->error;
	}
	$trapped->say('SET search_path = evil, pg_catalog, public');
	$trapped->say(q(SELECT 'a'::text = 'b'::text));
	like($trapped->error, qr/trapped/, 'the traps work');
	return;
}

my $shape = q(SELECT pg_catalog.string_agg(pool, ' ' ORDER BY pool) FROM pgpool_monitor.);
my %untrapped = map { $_ => ask($shape . $_) } qw(pools instances sessions limits counters advice);
my $trapped = Peer->new($node);
lay_traps($trapped);
views_are_readable($trapped, 'views are of no search_path');
is($trapped->say($shape . $_), $untrapped{$_}, "the same rows in $_") for sort keys %untrapped;
$trapped->say('SELECT pgpool_monitor.' . $_), is($trapped->error, '', "so is $_") for q(reset('nobody')), q(pause('nobody')), 'resume()';
$trapped->end;
$node->safe_psql('postgres', 'DROP SCHEMA evil CASCADE');

$node->safe_psql('postgres', 'CREATE DATABASE hostile');
$trapped = Peer->new($node, dbname => 'hostile');
lay_traps($trapped);
$trapped->say('CREATE EXTENSION pgpool_monitor');
is($trapped->error, '', 'CREATE EXTENSION is of none, either');
$trapped->say('SET search_path = pg_catalog');
views_are_readable($trapped, 'what it makes works');
$trapped->say('DROP SCHEMA evil CASCADE');
is($trapped->say($objects), ask($objects), 'and has nothing to do with the traps');
$trapped->end;

# --- pg_stat_statements

SKIP:
{
	skip 'no pg_stat_statements here (in Debian it comes with the server)', 6 if !$have{pg_stat_statements};
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');
	my $entries = q{SELECT count(*) || '|' || sum(calls) FROM pg_stat_statements WHERE query LIKE '%set_config(%'
		AND query NOT LIKE '%pg_stat_statements%'};

	my @reporters = map { Peer->new($node, pool => 'stat' . $_ % 2, instance => "st$_;report=1", user => 'app') } 1 .. 5;
	ask('SELECT pg_stat_statements_reset()');
	for my $n (1 .. 200)
	{
		$_->report(in_use => $n, waiting => 1, thread => "x$n") for @reporters;
	}
	is(ask($entries), '1|1000', '1,000 reports of five instances are one statement');
	is(ask(q(SELECT count(*) FROM pg_stat_statements WHERE userid = 'app'::regrole)), 1, 'and nothing beside it');
	is(ask(q(SELECT sum(in_use) FROM pgpool_monitor.pools WHERE pool LIKE 'stat_')), 1000, 'though each was read');
	$_->end for @reporters;

	# The client library's own, two pools of it, of the same role and database.
	$node->safe_psql('postgres', q(ALTER SYSTEM SET pgpool_monitor.report_interval = '100ms'; SELECT pg_reload_conf()));
	my @loads = map { my ($load) = start_program($node, 'load', 2, "application_name=$_ pool_max_size=2"); $load } qw(left right);
	ask('SELECT pg_stat_statements_reset()');
	wait_until(sub { return ask($entries) =~ /^\d+\|[1-9]\d/; }, 'libpqpool reports');
	like(ask($entries), qr/^1\|/, 'its reports are one statement') or diag(ask(q(SELECT string_agg(query, E' / ') FROM pg_stat_statements)));
	is(ask(q(SELECT string_agg(query, ' / ' ORDER BY query) FROM pg_stat_statements WHERE query ~* '^(begin|commit)')),
		'BEGIN ISOLATION LEVEL READ COMMITTED / COMMIT', 'in a transaction that is always the same');
	$_->signal('TERM'), $_->finish for @loads;
}

# --- pgaudit

# What the audit log has about CODE, a line each, without what is of the session.
sub audited
{
	my ($code) = @_;
	my $from = -s $node->logfile;

	$code->();
	return join "\n", map { s/^.*AUDIT: (\w+),\d+,\d+,/$1,/r } grep { /AUDIT:/ } split /\n/, substr(slurp_file($node->logfile), $from);
}

SKIP:
{
	skip 'no pgaudit here (in Debian: postgresql-VERSION-pgaudit)', 1 if !$have{pgaudit};
	is(audited(sub { say_report('applied', 'in_use=1'); }), '', 'pgaudit has nothing to say where it is not asked');

	$node->safe_psql('postgres', q(ALTER ROLE app SET pgaudit.log = 'all'));
	my $audited = Peer->new($node, pool => 'audited', instance => 'au;follow=1;report=1', user => 'app');
	my $report = sub {
		$audited->say('BEGIN ISOLATION LEVEL READ COMMITTED');
		$audited->report_by_parameter(in_use => 4, waiting => 1);
		$audited->say('COMMIT');
		return;
	};
	my $line = q(SESSION,READ,SELECT,,,"SELECT pg_catalog.set_config('pgpool_monitor.report', $1, false)",<not logged>);
	like($audited->text, qr/^id=au;/, 'pgaudit.log = all: an allotment is told');
	is(audited($report), "SESSION,MISC,BEGIN,,,BEGIN ISOLATION LEVEL READ COMMITTED,<not logged>\n$line\nSESSION,MISC,COMMIT,,,COMMIT,<not logged>",
		'a report, as libpqpool sends it, is three lines, without its text');
	is(of_instance('au', 'in_use, waiting'), '4|1', 'it is heard');
	$node->safe_psql('postgres', q(SELECT pgpool_monitor.pause('audited')));
	$audited->say('SELECT 1');
	is($audited->allotment->{state}, 'paused', 'and what is told changes');
	$node->safe_psql('postgres', q(SELECT pgpool_monitor.resume('audited')));
	$audited->end;

	my $said = audited(
		sub {
			my ($load) = start_program($node, 'load', 2, 'application_name=audited pool_max_size=2 user=app pool_name=loud');
			wait_until(sub { return (ask(q(SELECT sum(acquires) FROM pgpool_monitor.instances WHERE pool = 'loud')) || 0) > 10; },
				'libpqpool works');
			$load->signal('TERM');
			$load->finish;
		});
	my %lines = map { $_ => 1 } $said =~ /^.*pgpool_monitor\.report.*$/mg;
	is(join("\n", keys %lines), $line, 'and its reports are always the same line');

	# What README.md says of it: reads are audited by object.
	$node->safe_psql('postgres', q(CREATE ROLE auditor; CREATE TABLE secret(); GRANT SELECT ON secret TO app, auditor;
		ALTER ROLE app SET pgaudit.log = 'all, -read, -misc'; ALTER ROLE app SET pgaudit.role = 'auditor'));
	$audited = Peer->new($node, pool => 'audited', instance => 'au2;follow=1;report=1', user => 'app');
	is(audited($report), '', 'pgaudit.log without read and misc: reports leave nothing');
	is(audited(sub { $audited->say('SELECT count(*) FROM secret'); }),
		'OBJECT,READ,SELECT,TABLE,public.secret,SELECT count(*) FROM secret,<not logged>',
		'while a read of what pgaudit.role may read does');
	is(of_instance('au2', 'in_use'), '4', 'and they are heard');
	$audited->end;
	$node->safe_psql('postgres', q(ALTER ROLE app RESET pgaudit.log; ALTER ROLE app RESET pgaudit.role));
}

$_->end for $app, $etl, $peer;
is(ask('SELECT pg_postmaster_start_time()'), $postmaster, 'after all of it the server is the same');
$watch->end;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'and nothing has crashed');
done_testing();
