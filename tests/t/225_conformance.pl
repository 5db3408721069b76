# Conformance to extension/PROTOCOL.md: what it promises, one assertion or more for each. A heading quotes the words that are
# tested, and fails where the document no longer has them. First the core by three drivers, then the rest by libpq alone.
#
# For who writes another client or another server. What it takes: perl with IPC::Run, and tests/programs/peer.c compiled
# (cc -o DIR/programs/peer tests/programs/peer.c -lpq, with the flags of libpq).
#
#   Another server, or one that is there:
#     STAGE_OUT=DIR PERL5LIB=tests/lib CONFORMANCE_SERVER='host=… port=… dbname=… user=…' perl tests/t/225_conformance.pl
#   runs what needs neither other settings nor restarts; what only shows in the extension's views is skipped where there are none.
#   The login role should own the database, or be a superuser; a password comes from where libpq takes it.
#
#   Another driver:
#     CONFORMANCE_DRIVER='command of a program that speaks as peer.c does' make check-e2e TESTS=225
#   runs the core with it, beside the three. tests/programs/peer.py and peer.js are such programs.
#
#   Another client, which has a pool:
#     CONFORMANCE_CLIENT='command of a program' make check-e2e TESTS=225
#   watches, from the server's side, a program that connects by PGHOST, PGPORT and PGDATABASE with a pool named "conformance" of at
#   most 8 connections, which reports and follows; keeps at least 16 borrowers busy with short transactions; and on SIGTERM closes
#   its pool and ends with status 0. Without it that program is tests/programs/load.c, of libpqpool.
#
# Elsewhere: seven eighths of the tables (205_identify.pl), files and walsenders (200_sessions.pl), junk and floods (295_trust.pl),
# sharing in fleets (230_sharing.pl, tests/sim), proxies (320_pgbouncer.pl), the texts of both halves byte for byte
# (tests/unit/protocol.c).
#
# timeout: 600

use strict;
use warnings;

use IPC::Run;
use Peer;
use Test::More;
use Time::HiRes qw(sleep time);

# It has to be there before the program begins.
BEGIN { require PgpoolMonitor if !defined $ENV{CONFORMANCE_SERVER}; }

$ENV{PEER_VERBOSE} = 1;

# --- the server

my $given = $ENV{CONFORMANCE_SERVER};
my (%server, $node);

if (defined $given)
{
	%server = (host => '', port => 5432, dbname => 'postgres', $given =~ /(\w+)=(\S+)/g);
	$node = bless {}, 'Given';
}
else
{
	%server = (dbname => 'postgres');
	$node = PgpoolMonitor::node('conformance',
		max_connections => 40,
		max_prepared_transactions => 2,
		autovacuum => 'off',
		log_connections => 'on',
		'pgpool_monitor.mode' => 'share',
		'pgpool_monitor.rules' => 'five=5, tiny=1, left=6, right=6, *=-',
		'pgpool_monitor.headroom' => 2,
		'pgpool_monitor.report_interval' => '1s',
		'pgpool_monitor.lease' => '1h',
		'pgpool_monitor.retry_interval' => '1500ms',
		'pgpool_monitor.round_interval' => '100ms');
}

sub Given::host { return $server{host}; }
sub Given::port { return $server{port}; }

# A session. Ids are drawn anew for each run: a server of somebody else's may remember the last one.
my $run = sprintf '%08x', int(time() * 1000) & 0xffffffff;

sub session
{
	my (%arg) = @_;

	$arg{instance} = $run . $arg{instance} if defined $arg{instance};
	$arg{driver} //= $server{driver};
	return Peer->new($node, dbname => $server{dbname}, ($server{user} ? (user => $server{user}) : ()), %arg);
}

my $watch = session();
die 'no session: ' . $watch->error if $watch->error;

sub ask
{
	my ($sql) = @_;

	return $watch->say($sql) // $watch->error;
}

my $has_views = ask(q(SELECT to_regclass('pgpool_monitor.instances') IS NOT NULL)) eq 't';
my $has_info = $has_views && ask('SELECT count(*) FROM pgpool_monitor.info') eq '1';
my $can_order = $has_views && ask(q(SELECT pgpool_monitor.resume('nobody'))) eq '0';

sub until_true
{
	my ($code, $what, $seconds) = @_;
	my $deadline = time() + ($seconds // 60);
	my $result;

	until ($result = $code->())
	{
		last if time() > $deadline;
		sleep 0.05;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($result, "  $what");
	return $result;
}

# What a view says, where there is one.
sub shows
{
	my ($sql, $expected, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	SKIP:
	{
		skip 'no views here', 1 if !$has_views;
		is(ask($sql), $expected, "  $what");
	}
	return;
}

sub of_instance
{
	my ($id, $columns) = @_;

	return "SELECT concat_ws('|', $columns) FROM pgpool_monitor.instances WHERE instance = '$run$id'";
}

# --- the document

my %protocol;
{
	my $path = __FILE__ =~ s{tests/t/[^/]+$}{extension/PROTOCOL.md}r;
	local $/ = undef;
	open(my $file, '<:raw', $path) or die "$path: $!";
	%protocol = <$file> =~ /^## (\d)\. (.*?)(?=^## |\z)/gms;
	s/\s+/ /g for values %protocol;
}

# promise(SECTION, WORDS): what follows tests this.
sub promise
{
	my ($section, $words) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(index($protocol{$section} // '', $words) >= 0, "section $section: $words");
	return;
}

my $text_of = qr/^(?=.*(?:^|;)id=[^;]*(?:;|$))(?=.*;inc=[^;]+)(?=.*;epoch=\d+(?:;|$))(?=.*;limit=(?:-1|\d+)(?:;|$))
	(?=.*;state=(?:ok|queued|paused|off)(?:;|$))/x;

# --- the core, by any driver

sub core
{
	my ($name, @driver) = @_;
	my $driver = @driver ? \@driver : undef;
	my $id = "core-$name";
	my $open = sub { return session(driver => $driver, @_); };
	my $fresh = sub { $_[0]->say('SELECT 1'); return $_[0]->allotment; };

	note("the core, by $name");
	promise(3, 'The server sends the parameter `pgpool_monitor.allotment` at connect');
	my $peer = $open->(pool => "core $name", instance => "$id;follow=1;report=1;unknown=x");
	is($peer->error, '', "  $name: connects with an identity");
	like($peer->text, $text_of, "  $name: has the text at once") or return;
	is($peer->allotment->{id}, "$run$id", "  $name: with the echo of its id");
	my $none = $open->();
	is($none->text, '(none)', "  $name: a session without identity has none");

	promise(4, q{SELECT pg_catalog.set_config('pgpool_monitor.report', $1, false)});
	$peer->report_by_parameter(in_use => 1, waiting => 2);
	is($peer->error, '', "  $name: reports");
	shows(of_instance($id, 'in_use, waiting'), '1|2', "$name: and is heard");
	promise(4, 'So send, in one pipeline with one sync, `BEGIN ISOLATION LEVEL READ COMMITTED`, the report, `COMMIT`');
	$peer->say('BEGIN ISOLATION LEVEL READ COMMITTED');
	$peer->report_by_parameter(in_use => 2, waiting => 0);
	shows(of_instance($id, 'in_use'), '1', "$name: not before the commit");
	$peer->say('COMMIT');
	shows(of_instance($id, 'in_use'), '2', "$name: then");
	promise(4, q{`SET pgpool_monitor.report = '…'` is accepted too});
	$peer->say(q(SET pgpool_monitor.report = ') . $peer->report_text(in_use => 3) . q('));
	shows(of_instance($id, 'in_use'), '3', "$name: is heard");
	promise(4, 'longer is refused with 22023');
	$peer->say('\\report v=1;seq=9;x=' . 'x' x 2037);
	like($peer->error, qr/^22023 /, "  $name: 2049 bytes are");
	promise(4, 'A text that cannot be read is accepted');
	$peer->say('\\report nonsense');
	is($peer->error, '', "  $name: it is");
	shows(of_instance($id, 'in_use'), '3', "$name: and nothing of it believed");

	promise(3, 'before the ReadyForQuery of any later command outside a transaction block');
	SKIP:
	{
		skip 'no pause here', 6 if !$can_order;
		$peer->say('SELECT 1');
		my $before = $peer->allotment;
		ask(qq{SELECT pgpool_monitor.pause('core $name')});
		is($peer->allotment->{state}, 'ok', "  $name: a session that says nothing hears nothing");
		is($fresh->($peer)->{state}, 'paused', "  $name: it hears with its next command");
		cmp_ok($peer->allotment->{epoch}, '>', $before->{epoch}, "  $name: under a higher epoch");
		$peer->say('BEGIN');
		ask(qq{SELECT pgpool_monitor.resume('core $name')});
		is($fresh->($peer)->{state}, 'paused', "  $name: not in a transaction block");
		$peer->report_by_parameter(in_use => 4);
		is($peer->allotment->{state}, 'paused', "  $name: whatever it runs there");
		$peer->say('COMMIT');
		is($peer->allotment->{state}, 'ok', "  $name: but with its end");
	}

	promise(2, 'The identity cannot change while the session lives, and `DISCARD ALL` leaves it alone');
	for my $sql ('SET pgpool_monitor.pool = other', q{SELECT set_config('pgpool_monitor.instance', 'other', false)},
		'SET pgpool_monitor.allotment = 9')
	{
		$peer->say($sql);
		like($peer->error, qr/^55P02 /, "  $name: refused: $sql");
	}
	$peer->say('DISCARD ALL');
	is($peer->say('SHOW pgpool_monitor.pool'), "core $name", "  $name: DISCARD ALL leaves it");
	$peer->report_by_parameter(in_use => 5);
	shows(of_instance($id, 'in_use'), '5', "$name: and what it may do");

	promise(2, '`kind=knock`, this session is a knock');
	my $knock = $open->(pool => "core $name", instance => "$id;kind=knock;follow=1;report=1");
	like($knock->text, $text_of, "  $name: a knock has the text");
	is($knock->allotment->{id}, "$run$id", "  $name: of its instance");
	shows(of_instance($id, 'sessions, knocks'), '1|1', "$name: and is counted apart");
	$knock->end;

	promise(4, '1: the instance opens nothing any more; its unused allotment is free at once');
	$peer->report_by_parameter(bye => 1);
	is($peer->error, '', "  $name: says goodbye");
	$_->end for $none, $peer;
	until_true(sub { return ask(of_instance($id, 'pool')) eq ''; }, "$name: and is gone") if $has_views;
	return;
}

sub runs
{
	my (@command) = @_;
	return eval { IPC::Run::run(\@command, '<', \undef, '>&', \my $noise) };
}

core('libpq');
SKIP:
{
	my $python = '/usr/bin/python3';
	skip 'no psycopg2 here', 1 if !-x $python || !runs($python, '-c', 'import psycopg2');
	core('psycopg2', $python, 'tests/programs/peer.py');
}
SKIP:
{
	local $ENV{NODE_PATH} = join(':', '/usr/share/nodejs', $ENV{NODE_PATH} // ());
	skip 'no pg for JavaScript here', 1 if !runs('node', '-e', 'require("pg")');
	core('pg', 'node', 'tests/programs/peer.js');
}
core('driver', split / /, $ENV{CONFORMANCE_DRIVER}) if $ENV{CONFORMANCE_DRIVER};

# --- section 2: identity

promise(2, '`NAME`: 1 to 63 bytes. Longer is refused with SQLSTATE 22023; empty is the same as absent');
for my $name ('n', 'x' x 63)
{
	my $peer = session(pool => $name, instance => 'n');
	like($peer->text, $text_of, '  ' . length($name) . ' bytes');
	$peer->end;
}
like(session(pool => 'x' x 64, instance => 'n')->error, qr/FATAL: +22023: /, '  64 bytes are refused');
my $empty = session(pool => '', instance => 'n;follow=1;report=1');
is($empty->error . $empty->text, '(none)', '  an empty one: not attached');
$empty->end;

promise(2, 'Any bytes are legal; views show those that are not printable ASCII, and the backslash, as `\xHH`');
{
	my $bytes = join '', map { chr } 1 .. 32;
	my $shown = join('', map { sprintf '\\x%02x', $_ } 1 .. 31) . ' ';
	my $peer = session(pool => $bytes . "\x7f\x80\xff\\'\"", instance => 'bytes');

	like($peer->text, $text_of, '  control characters, a blank, bytes above 127, quotes and a backslash');
	shows(of_instance('bytes', 'pool'), $shown . '\\x7f\\x80\\xff\\x5c\'"', 'as they are shown');
	$peer->end;
}

promise(2, '`ID`: 1 to 63 of `A-Z a-z 0-9 _ . : -`');
promise(2, 'Anything else is refused with 22023');
for my $id ('A-Zaz09_.:-', '.' x (63 - length $run))
{
	my $peer = session(pool => 'ids', instance => $id);
	is($peer->allotment && $peer->allotment->{id}, "$run$id", "  $id");
	$peer->end;
}
for my $id ('x' x (64 - length $run), 'a b', 'a/b', 'a=b', "a\xe9")
{
	like(session(pool => 'ids', instance => $id)->error, qr/FATAL: +22023: /, '  refused: ' . $id =~ s/[^ -~]/?/gr);
}

promise(2, 'Without an ID the server tells instances apart by client address and application_name; such an instance can neither report nor follow');
{
	my @peers = map { session(pool => "plain $run", application_name => $_) } qw(one one two);
	shows("SELECT string_agg(sessions::text, ' ' ORDER BY application_name) FROM pgpool_monitor.instances WHERE pool = 'plain $run'", '2 1', 'two names');
	$peers[0]->report(in_use => 3);
	is($peers[0]->error, '', '  a report of one is accepted');
	shows("SELECT count(*) FROM pgpool_monitor.instances WHERE pool = 'plain $run' AND (in_use IS NOT NULL OR follows OR reports)", 0, 'and not believed');
	$_->end for @peers;
}

promise(2, 'Unknown keys are ignored, so that an old server accepts a new client');
for my $keys (';future=1;follow=1', ';;follow=1', ';follow=1;other', ';=;follow=1', ';a=b=c d\\e;follow=1')
{
	my $peer = session(pool => 'keys', instance => "keys$keys");
	is($peer->allotment && $peer->allotment->{id}, "${run}keys", "  $keys");
	shows(of_instance('keys', 'follows'), 't', 'the others count') if $has_views;
	$peer->report(bye => 1);
	$peer->end;
	until_true(sub { return ask(of_instance('keys', 'pool')) eq ''; }, 'gone') if $has_views;
}

promise(2, 'Blanks and backslashes inside a value are escaped with a backslash, as `options` demands');
{
	my $peer = session(options => "-c pgpool_monitor.pool=two\\ words\\\\x -c pgpool_monitor.instance=${run}esc");
	is($peer->say('SHOW pgpool_monitor.pool'), 'two words\\x', '  as the server has it');
	$peer->end;
}

promise(2, 'A value from a configuration file, the server\'s command line, `ALTER ROLE`, `ALTER DATABASE` or `SET` never attaches a session; the last three are refused');
{
	my $stranger = session();
	for my $setting (qw(pool instance))
	{
		for my $sql ("ALTER ROLE CURRENT_USER SET pgpool_monitor.$setting = 'x'",
			"ALTER DATABASE \"$server{dbname}\" SET pgpool_monitor.$setting = 'x'", "SET pgpool_monitor.$setting = 'x'")
		{
			$stranger->say($sql);
			like($stranger->error, qr/^(?:55P02|42501) /, "  refused: $sql");
		}
	}
	is($stranger->text, '(none)', '  and nothing is attached');
	promise(2, 'it is not attached in the sense of these pages, is sent nothing, and what it reports is ignored');
	$stranger->report(in_use => 77);
	is($stranger->error . $stranger->text, '(none)', '  a report of a session without identity is accepted');
	shows('SELECT count(*) FROM pgpool_monitor.instances WHERE in_use = 77', 0, 'and ignored');
	$stranger->end;
}

promise(2, 'It is a claim, not a proof: its key holds the login role and the database');
{
	my $peer = session(pool => 'claims', instance => 'claim;report=1');
	$peer->report(in_use => 1);
	my $other = session(pool => 'claims', instance => 'claim;report=1', dbname => 'template1');
	$other->report(in_use => 2);
	shows("SELECT string_agg(in_use::text, ' ' ORDER BY in_use) FROM pgpool_monitor.instances WHERE instance = '${run}claim'", '1 2', 'the same in another database is another');
	promise(2, 'No `CREATE EXTENSION` is needed, in any database');
	is($other->say(q{SELECT count(*) FROM pg_extension WHERE extname = 'pgpool_monitor'}), 0, '  a database without it');
	is($other->allotment && $other->allotment->{id}, "${run}claim", '  is as good');
	$_->report(bye => 1), $_->end for $peer, $other;
}

# --- section 3: allotment

promise(3, 'id=ID;inc=INCARNATION;epoch=N;limit=N;state=STATE;lease=S;interval=S;retry=S');
my $one = session(pool => 'texts', instance => 'one;follow=1;report=1');
my $two = session(pool => 'texts', instance => 'two;report=1');
is(join(' ', sort keys %{ $one->allotment }), 'epoch id inc interval lease limit retry state', '  these fields');
promise(3, 'Durations are seconds, with up to three decimals');
like($one->allotment->{$_}, qr/^\d+(?:\.\d{1,3})?$/, "  $_") for qw(lease interval retry);
promise(3, 'an opaque token that changes whenever shared memory is made anew');
is($two->allotment->{inc}, $one->allotment->{inc}, '  the same for all meanwhile');
promise(3, 'orders texts of one incarnation; the highest wins');
like($_->allotment->{epoch}, qr/^\d+$/, '  a number') for $one, $two;
promise(3, 'An idle session therefore holds the value of its last command');
{
	my $held = $one->text;
	session(pool => 'texts', instance => 'three')->end for 1 .. 3;
	$one->say('');
	like($one->text, $text_of, '  an empty command is one');
	is($one->allotment->{id} . $one->allotment->{inc}, ($held =~ /id=([^;]*)/)[0] . ($held =~ /inc=([^;]*)/)[0], '  the text is its own');
}

# --- section 4: reports

promise(4, 'At most 2,048 bytes of printable ASCII; longer is refused with 22023');
promise(4, 'A text that cannot be read is accepted and counted as rejected (`pgpool_monitor.info`)');
promise(4, 'A key may come once (unknown ones, which are ignored, as often as they like)');
promise(4, 'No field is empty, and no semicolon ends the text; a list may be empty');
promise(4, 'Numbers may begin with zeros; `bye=0` says nothing; hexadecimal digits are of either case; `%00` is not read');
my $loan = $one->pid . ':1:t:s';
my $head = 'v=1;seq=N';
my @texts = (
	applied => $head,
	rejected => 'seq=N;v=1',
	rejected => 'v=1',
	rejected => 'v=2;seq=N',
	rejected => 'v=1;v=1;seq=N',
	rejected => 'v=1;seq=N;seq=N',
	ignored => 'v=1;seq=LAST',
	ignored => 'v=1;seq=1',
	rejected => 'v=1;seq=0x7f',
	applied => 'v=01;seq=0N;in_use=007',
	(map { (applied => "$head;$_=0", applied => "$head;$_=2147483647", rejected => "$head;$_=2147483648", rejected => "$head;$_=-1",
		rejected => "$head;$_=", rejected => "$head;$_=1;$_=1") }
		qw(max min opening idle in_use resetting closing waiting)),
	(map { (applied => "$head;$_=9223372036854775807", rejected => "$head;$_=9223372036854775808", rejected => "$head;$_=1e3") }
		qw(ack acquires timeouts opened closed open_failures found_dead discarded resets abandoned finished)),
	(map { (applied => "$head;$_=", applied => "$head;$_=0:1", applied => "$head;$_=0:1,31:9223372036854775807", rejected => "$head;$_=32:1",
		rejected => "$head;$_=1:1,1:1", rejected => "$head;$_=1:1,", rejected => "$head;$_=1", rejected => "$head;$_=:1") } qw(wait hold)),
	applied => "$head;errors=47:1,48:1,1000:1",
	applied => "$head;closed_by=15:1,16:1,1000:1",
	rejected => "$head;errors=1:1,1:1",
	applied => "$head;loans=",
	applied => "$head;loans=" . join(',', ($loan) x 8),
	rejected => "$head;loans=" . join(',', ($loan) x 9),
	applied => "$head;loans=1:1::",
	applied => "$head;loans=1:1:a%2fb%2F:%41+x_./-",
	rejected => "$head;loans=1:1:%00:s",
	rejected => "$head;loans=1:1:%4:s",
	rejected => "$head;loans=1:1:t t:s",
	rejected => "$head;loans=1:1:t",
	applied => "$head;bye=0",
	rejected => "$head;bye=2",
	applied => "$head;unknown=1;unknown=2;x=;loans:y=1",
	rejected => "$head;",
	rejected => "$head;;in_use=1",
	rejected => "$head;in_use",
	rejected => "$head;=1",
	rejected => " $head",
	rejected => "$head;in_use= 1",
	rejected => "$head;x=\x01",
	rejected => "$head;x=\x7f",
	applied => "$head;x=" . 'x' x 2032);
my $number = 1000;
my $last;
my $counts = q(SELECT concat_ws('|', reports_applied, reports_ignored, reports_rejected) FROM pgpool_monitor.info);
while (my ($verdict, $text) = splice @texts, 0, 2)
{
	my @before = $has_info ? split /\|/, ask($counts) : ();

	(my $shown = $text) =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/eg;
	$text =~ s/\bseq=(0?)N/'seq=' . $1 . ++$number/eg;
	$text =~ s/LAST/$last/;
	substr($text, 2048) = '' if length $text > 2048;
	$one->say('\\report ' . $text);
	is($one->error, '', '  accepted: ' . substr $shown, 0, 60);
	$last = $number if $verdict eq 'applied';
	next if !$has_info;
	my @after = split /\|/, ask($counts);
	my @change = map { $after[$_] - $before[$_] } 0 .. 2;
	is("@change", { applied => '1 0 0', ignored => '0 1 0', rejected => '0 0 1' }->{$verdict}, "  and $verdict");
}
$one->say('\\report ' . "v=1;seq=99999999;x=" . 'x' x (2049 - 19));
like($one->error, qr/^22023 /, '  2,049 bytes are refused');
$one->{seq} = 2000;

promise(4, 'greater than in every earlier report of the instance. Required; a report whose `seq` is not greater is ignored');
{
	my $twin = session(pool => 'texts', instance => 'one;report=1');
	$one->report(in_use => 1);
	$twin->{seq} = $one->{seq} - 1;
	$twin->report(in_use => 2);
	shows(of_instance('one', 'in_use'), 1, 'also of another session');
	$twin->{seq} = $one->{seq};
	$twin->report(in_use => 3);
	shows(of_instance('one', 'in_use'), 3, 'which may say the next one');
	$one->{seq} = $twin->{seq};
	$twin->end;
}
promise(4, 'A report speaks for the instance of the session that sends it');
$two->report(in_use => 9);
shows(of_instance('one', 'in_use') . ' UNION ALL ' . of_instance('two', 'in_use'), 9, 'and for no other');
shows(of_instance('one', 'in_use'), 3, 'which stays as it was');

promise(4, 'Reports are applied when the transaction commits (or is prepared), the last one of a transaction wins, and a rolled back one is not applied');
$one->say('BEGIN');
$one->report(in_use => 10);
$one->say('ROLLBACK');
shows(of_instance('one', 'in_use'), 3, 'rolled back');
$one->say('BEGIN');
$one->report(in_use => 11);
$one->report(in_use => 12);
shows(of_instance('one', 'in_use'), 3, 'not yet');
$one->say('COMMIT');
shows(of_instance('one', 'in_use'), 12, 'the last one');
SKIP:
{
	skip 'no prepared transactions here', 1 if ask('SHOW max_prepared_transactions') eq '0';
	$one->say('BEGIN');
	$one->report(in_use => 13);
	$one->say("PREPARE TRANSACTION 'conformance$run'");
	shows(of_instance('one', 'in_use'), 13, 'prepared');
	$one->say("ROLLBACK PREPARED 'conformance$run'");
	shows(of_instance('one', 'in_use'), 13, 'whatever becomes of it');
}

promise(4, 'Demand is `in_use + waiting`');
$one->report(in_use => 2, waiting => 3, idle => 7, opening => 1) for 1, 2;
shows(of_instance('one', 'demand'), 5, 'it is');

promise(4, 'What is counted since the instance began may be left out');
promise(4, 'is lower than it was, the instance has begun anew, and all of them count from 0');
{
	my $peer = session(pool => "counts $run", instance => 'counts;report=1');
	my $counted = "SELECT concat_ws('|', acquires, timeouts, wait_histogram[1]) FROM pgpool_monitor.counters WHERE pool = 'counts $run'";

	$peer->report(acquires => 10, timeouts => 2, wait => '0:12');
	shows($counted, '10|2|12', 'what it counts');
	$peer->report(in_use => 1);
	shows($counted, '10|2|12', 'left out');
	$peer->report(acquires => 11, wait => '0:13');
	shows($counted, '11|2|13', 'in part');
	$peer->report(acquires => 3, timeouts => 1, wait => '0:4');
	shows($counted, '14|3|17', 'begun anew');
	$peer->report(bye => 1);
	$peer->end;
}
$_->report(bye => 1), $_->end for $one, $two;

# --- section 6, of what needs no settings

promise(6, 'A session is attached in the transaction that ends its startup and detached when its process ends, whatever ends it');
{
	my $peer = session(pool => 'ends', instance => 'ends');
	SKIP:
	{
		skip 'no views here', 2 if !$has_views;
		is($peer->say('SELECT count(*) FROM pgpool_monitor.sessions WHERE pid = pg_backend_pid()'), 1, '  it is there with its first command');
		$peer->say('BEGIN');
		$peer->kill;
		until_true(sub { return ask('SELECT count(*) FROM pgpool_monitor.sessions WHERE pid = ' . $peer->pid) eq '0'; }, 'a client that is killed');
	}
}
promise(6, 'Nothing that a client sends is refused after startup but an over-long report');

if (defined $given)
{
	$watch->end;
	done_testing();
	exit;
}

# ==== with a server of our own ====

sub set_and
{
	my ($how, %settings) = @_;

	PgpoolMonitor::set($node, %settings);
	$watch->end if $how eq 'restart';
	$node->$how;
	$watch = session() if $how eq 'restart';
	return;
}

# Until the peer, asked with a harmless command, has been told what CODE wants.
sub told
{
	my ($peer, $code, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return until_true(sub { $peer->say('SELECT 1'); return $peer->allotment && $code->($peer->allotment); }, $what)
		|| diag('last told: ' . $peer->text);
}

# The worker has worked meanwhile.
sub rounds
{
	my $from = ask('SELECT rounds FROM pgpool_monitor.info');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	until_true(sub { return ask("SELECT rounds > $from + 3 FROM pgpool_monitor.info") eq 't'; }, 'the worker has worked');
	return;
}

my $follow = 'follow=1;report=1';

promise(3, 'sessions that the instance may hold, those being opened and closed included; -1: no limit is set');
my $first = session(pool => 'five', instance => "first;$follow");
is($first->allotment->{limit}, 1, '  a newcomer: what it has');
$first->report(max => 40, in_use => 1, waiting => 39);
told($first, sub { $_[0]{limit} == 5 }, 'the budget of its rule');
is($first->allotment->{lease} . ' ' . $first->allotment->{interval} . ' ' . $first->allotment->{retry}, '3600 1 1.500', '  durations');

promise(6, 'one is believed until a newer epoch is acknowledged or the lease has run out');
promise(6, 'No limit is raised and no newcomer granted one unless the sum of occupancies then fits in capacity');
promise(6, 'The same holds for the sum under a rule of the administrator\'s and that rule\'s budget');
{
	my $believed = $first->allotment->{epoch};
	my $second = session(pool => 'five', instance => "second;$follow");

	$second->report(max => 40, in_use => 0, waiting => 40);
	until_true(sub { $first->report(max => 40, in_use => 1, waiting => 39, ack => $believed); return $first->allotment->{limit} < 5; }, 'the first is told less');
	$second->report(max => 40, in_use => 0, waiting => 40);
	rounds();
	$second->say('SELECT 1');
	cmp_ok($second->allotment->{limit}, '<=', 1, '  the second gets nothing while the first has not acknowledged');
	until_true(
		sub {
			$first->report(max => 40, in_use => 1, waiting => 39);
			$second->report(max => 40, in_use => 0, waiting => 40);
			return $second->allotment->{limit} > 1;
		},
		'then it does');
	cmp_ok($first->allotment->{limit} + $second->allotment->{limit}, '<=', 5, '  both within the budget');

	promise(4, 'its unused allotment is free at once');
	$first->report(in_use => 1, bye => 1);
	until_true(sub { $second->report(max => 40, in_use => 0, waiting => 40); return $second->allotment->{limit} == 4; }, 'all but what is used');
	$first->end;
	until_true(sub { $second->report(max => 40, in_use => 0, waiting => 40); return $second->allotment->{limit} == 5; }, 'and all');
	$second->report(bye => 1);
	$second->end;
}

promise(6, 'Capacity is max_connections less all reserved slots, headroom and the sessions that follow nothing');
{
	my @peers = map { session(pool => "big$_", instance => "big$_;$follow") } 1 .. 3;
	my $sum = 0;

	until_true(
		sub {
			$_->report(max => 40, in_use => 1, waiting => 39) for @peers;
			$sum = 0;
			$sum += $_->allotment->{limit} for @peers;
			return $sum > 30;
		},
		'three that want all of it get all of it');
	my $reserved = ask(q(SELECT sum(setting::integer) FROM pg_settings WHERE name IN ('superuser_reserved_connections', 'reserved_connections')));
	cmp_ok($sum, '<=', 40 - $reserved - 2 - 1, '  less what is reserved, headroom, and the session that watches');
	$_->report(bye => 1), $_->end for @peers;
}

promise(3, 'there are more instances than connections: as `ok`; `limit` is 0, or what it still holds, until its turn comes');
promise(5, 'An instance that holds no session and wants to');
{
	my $holder = session(pool => 'tiny', instance => "holder;$follow");
	told($holder, sub { $_[0]{limit} == 1 }, 'one has it');
	my $queued = session(pool => 'tiny', instance => "queued;$follow;kind=knock");
	until_true(sub { $queued->report(max => 1, waiting => 1); return $queued->allotment->{state} eq 'queued'; }, 'the other one is queued');
	is($queued->allotment->{limit}, 0, '  with nothing');
	promise(5, 'Knocks are not counted against the pool');
	shows(of_instance('queued', 'sessions, knocks'), '0|1', 'as it is shown');
	$holder->report(bye => 1);
	$holder->end;
	until_true(sub { $queued->report(max => 1, waiting => 1); return $queued->allotment->{limit} == 1; }, 'its turn comes');
	is($queued->allotment->{state}, 'ok', '  and it is no longer queued');
	$queued->report(bye => 1);
	$queued->end;
	promise(5, 'A knock session that lives longer than ten seconds is counted like any other connection that follows nothing');
	until_true(sub { return ask('SELECT outside FROM pgpool_monitor.info') eq '1'; }, 'the session that watches is outside');
	my $began = time();
	my $knock = session(pool => 'free', instance => "knock;$follow;kind=knock");
	until_true(sub { $knock->report(max => 1); return ask('SELECT outside FROM pgpool_monitor.info') eq '2'; }, 'in time a knock is');
	cmp_ok(time() - $began, '>=', 10, '  but not before');
	$knock->report(bye => 1);
	$knock->end;
}

promise(6, 'A pause (`pgpool_monitor.pause`) is told to the instances that follow');
promise(6, 'to those that are there with their next command, to those that come with their first text');
{
	my $there = session(pool => 'left', instance => "there;$follow");
	my $reports = session(pool => 'left', instance => 'reports;report=1');

	ask(q(SELECT pgpool_monitor.pause('left')));
	$_->say('SELECT 1') for $there, $reports;
	is($there->allotment->{state}, 'paused', '  one that is there');
	cmp_ok($there->allotment->{limit}, '>=', 1, '  whose limit a pause does not change');
	promise(6, 'What is not attached, or does not follow, is not paused');
	is($reports->allotment->{state}, 'ok', '  one that only reports');
	is(session(pool => 'left', instance => "comes;$follow")->allotment->{state}, 'paused', '  one that comes');
	is(session(pool => 'right', instance => "right;$follow")->allotment->{state}, 'ok', '  one of another pool');
	promise(6, 'it ends when it is resumed or expires, and is kept through restarts and crashes');
	my $inc = $there->allotment->{inc};
	$_->end for $there, $reports;
	set_and('restart');
	$there = session(pool => 'left', instance => "there;$follow");
	is($there->allotment->{state}, 'paused', '  through a restart');
	promise(3, 'an opaque token that changes whenever shared memory is made anew');
	isnt($there->allotment->{inc}, $inc, '  as it has been');
	ask(q(SELECT pgpool_monitor.pause('left', expires => '100 milliseconds')));
	told($there, sub { $_[0]{state} eq 'ok' }, 'expired');
	promise(6, 'of every pool that it covers and whose mode is not off, `observe` included');
	set_and('reload', 'pgpool_monitor.mode' => 'observe');
	told($there, sub { $_[0]{limit} == -1 }, 'mode observe');
	ask(q(SELECT pgpool_monitor.pause('left')));
	$there->say('SELECT 1');
	is($there->allotment->{state}, 'paused', '  and paused');
	ask(q(SELECT pgpool_monitor.resume('left')));
	$there->say('SELECT 1');
	is($there->allotment->{state}, 'ok', '  and resumed');

	promise(3, 'The parameter cannot vanish once sent; `state=off` says it instead');
	promise(3, 'behaves as if the extension were not there, until a text says otherwise');
	my $epoch = $there->allotment->{epoch};
	set_and('reload', 'pgpool_monitor.mode' => 'off');
	told($there, sub { $_[0]{state} eq 'off' }, 'mode off');
	cmp_ok($there->allotment->{epoch}, '>', $epoch, '  under a higher epoch');
	promise(3, '**Absent means not attached**: no extension, mode off');
	is(session(pool => 'left', instance => "late;$follow")->text, '(none)', '  who connects now');
	$there->end;
}

promise(6, 'A limit falls, for an instance that is silent, only when its lease has run out, and then to what it holds');
set_and('restart', 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.report_interval' => '500ms', 'pgpool_monitor.lease' => '3s');
{
	my $silent = session(pool => 'five', instance => "silent;$follow");
	my $said;
	until_true(sub { $said = time(); $silent->report(max => 40, in_use => 1, waiting => 39); return $silent->allotment->{limit} == 5; }, 'one has it all');
	$silent->report(max => 40, in_use => 1, waiting => 39);
	my $wants = session(pool => 'five', instance => "wants;$follow");
	my $more = sub { $wants->report(max => 40, in_use => 1, waiting => 39); return $wants->allotment->{limit} > 1; };
	until_true($more, 'and is silent: in time the other gets more');
	cmp_ok(time() - $said, '>=', 3, '  not before the lease has run out');
	until_true(sub { $more->(); return $wants->allotment->{limit} == 4; }, 'all but what is held');
	$silent->say('SELECT 1');
	is($silent->allotment->{limit}, 1, '  which is what is left');
	$_->report(bye => 1), $_->end for $silent, $wants;
}

promise(6, 'In mode enforce a session can be refused at the end of its startup, with SQLSTATE 53300 and the message `too many connections for pool "NAME"`');
set_and('restart', 'pgpool_monitor.mode' => 'enforce', 'pgpool_monitor.grace' => 0, 'pgpool_monitor.lease' => '1h');
ask('CREATE ROLE app LOGIN');
{
	my @app = (user => 'app');
	my @plain = map { session(pool => 'tiny', @app) } 1, 2;
	promise(6, 'one of any pool whose rule\'s budget is used up');
	is($plain[0]->error, '', '  within it');
	like($plain[1]->error, qr/FATAL: +53300: too many connections for pool "tiny"/, '  beyond it');
	promise(6, 'one of an instance that follows and holds as many as it may still believe');
	my $peer = session(pool => 'free', instance => "obeys;$follow", @app);
	is($peer->allotment->{limit}, 1, '  may hold one');
	like(session(pool => 'free', instance => "obeys;$follow", @app)->error, qr/FATAL: +53300: too many connections for pool "free"/, '  and opens two');
	promise(6, 'a third knock of an instance at once');
	my @knocks = map { session(pool => 'free', instance => "obeys;$follow;kind=knock", @app) } 1 .. 3;
	is($knocks[0]->error . $knocks[1]->error, '', '  two');
	like($knocks[2]->error, qr/FATAL: +53300: /, '  three');
	promise(6, 'A session is never refused, or ended, later');
	set_and('reload', 'pgpool_monitor.rules' => 'tiny=0, free=0');
	until_true(sub { return ask(q(SELECT rules FROM pgpool_monitor.info)) =~ /free=0/; }, 'a budget that is lowered');
	rounds();
	is($_->say('SELECT 1'), 1, '  ends nobody') for $plain[0], $peer;
	$_->end for $plain[0], $peer, @knocks[ 0, 1 ];
}

# --- a client

promise(2, 'A server that has never heard of the extension accepts both settings as placeholders and ignores them');
set_and('restart', shared_preload_libraries => '', 'pgpool_monitor.mode' => 'share', 'pgpool_monitor.rules' => 'conformance=6');
{
	my $peer = session(pool => 'p', instance => "i;$follow");
	is($peer->error . $peer->text, '(none)', '  accepted');
	is($peer->say('SHOW pgpool_monitor.pool'), 'p', '  as placeholders');
	$peer->report(in_use => 1);
	is($peer->error, '', '  a report too');
	$peer->end;
}
set_and('restart', shared_preload_libraries => 'pgpool_monitor');
sub start_client
{
	my (@command) = $ENV{CONFORMANCE_CLIENT} ? split(/ /, $ENV{CONFORMANCE_CLIENT})
		: ("$ENV{STAGE_OUT}/programs/load", 16, 'pool_name=conformance pool_max_size=8');
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	my $output = '';
	return (IPC::Run::start(\@command, '<', \undef, '>', \$output, '2>', \$output), \$output);
}
{
	my $log = -s $node->logfile;
	my ($client, $output) = start_client();
	my $mine = q(FROM pgpool_monitor.instances WHERE pool = 'conformance');
	my $pump = sub { eval { $client->pump_nb }; return; };
	my $becomes = sub {
		my ($sql, $expected, $what) = @_;
		until_true(sub { $pump->(); return ask($sql) eq $expected; }, "the client $what") || diag(ask($sql), "\n", $$output);
	};

	promise(3, 'It opens exactly one session and waits for its text before it opens a second');
	$becomes->("SELECT count(*) > 0 AND bool_and(follows AND reports AND instance IS NOT NULL) $mine", 't', 'identifies itself');
	$becomes->("SELECT max(sessions) >= 2 $mine", 't', 'opens more');
	my $id = ask("SELECT instance $mine");
	my @connections = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $log) =~ /LOG:  connection (received|authorized)/g;
	is("@connections[0, 1]", 'received authorized', '  its first one was complete before it began the next');
	promise(2, 'Draw at least 128 bits at random for each pool object');
	cmp_ok(length $id, '>=', 22, '  such an id has 22 characters or more');

	promise(3, 'Its size (sessions opening, idle, in use, resetting and closing) never grows beyond `limit`');
	$becomes->("SELECT max(sessions) = 6 $mine", 't', 'takes what it is given');
	until_true(sub { $pump->(); return ask("SELECT acknowledged AND acquires > 100 $mine") eq 't'; }, 'and acknowledges it, and works');
	my $worst = 0;
	for (1 .. 40)
	{
		my $sessions = ask("SELECT sessions $mine");
		$worst = $sessions if $sessions > $worst;
		sleep 0.02;
	}
	is($worst, 6, '  and holds no more');
	promise(3, 'Above it: close idle ones now, the others as they come back');
	set_and('reload', 'pgpool_monitor.rules' => 'conformance=2');
	$becomes->("SELECT sessions || ' ' || acknowledged $mine", '2 true', 'goes down to a lower limit');

	promise(3, 'lets loans finish and starts none, whatever the limit');
	ask(q(SELECT pgpool_monitor.pause('conformance')));
	$becomes->("SELECT concat_ws('|', state, in_use, waiting > 0) $mine", 'paused|0|t', 'lends nothing while it is paused');
	my $acquires = ask("SELECT acquires $mine");
	promise(3, 'keeps reporting');
	$becomes->("SELECT report_age_time < 1000 AND sessions > 0 $mine", 't', 'goes on reporting');
	is(ask("SELECT acquires $mine"), $acquires, '  and nobody was served');
	ask(q(SELECT pgpool_monitor.resume('conformance')));
	$becomes->("SELECT acquires > $acquires $mine", 't', 'goes on when it is resumed');

	promise(4, 'with `bye=1` before the last session is closed');
	my $counted = ask('SELECT reports_rejected || \'|\' || (reports_applied > 3) FROM pgpool_monitor.info');
	is($counted, '0|true', '  each of its reports could be read');
	$client->signal('TERM');
	eval { $client->finish };
	is($client->result(0), 0, '  the client ends with status 0') || diag($$output);
	until_true(sub { return ask("SELECT count(*) $mine") eq '0'; }, 'and has said goodbye: it is gone, with a lease of an hour', 20);
}
$watch->end;
$node->stop('fast');
done_testing();
