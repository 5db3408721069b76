# What one holder leaves behind, looked for by the next, through drivers that know of no pool: psycopg2, DBD::Pg, PHP's pg_connect.
# What is not installed is skipped.
#
# Each row of the table is two connections in the same way, one after the other: the first leaves something, the second looks. Each
# client does all rows three times:
#
#   plainly          what a really new connection sees
#   pooled           must see the same; and whether it is the same session has to be as the row says
#   pooled, rollback what is documented to stay with --reset=rollback must be seen: so a row that finds nothing could have found it
#
# Each row has an application_name of its own, so that no row meets another's.
#
# timeout: 600

use strict;
use warnings;

use IPC::Run;
use PgpoolMonitor;
use Test::More;

my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $node = PgpoolMonitor::node('isolation', max_connections => 300, max_prepared_transactions => 10,
	wal_level => 'replica', max_wal_senders => 3, max_replication_slots => 20);
my $work = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', <<'END');
CREATE SEQUENCE numbers;
CREATE TABLE data (a text);
CREATE ROLE somebody;
GRANT ALL ON SCHEMA public TO somebody;
GRANT ALL ON data TO somebody;
SELECT lo_create(4711);
END

# What is told of settings: by the server, those that were changed, but for the pool's own; by the driver, what libpq was told.
my $changed = q{SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
	WHERE source = 'session' AND name NOT LIKE 'pgpool_monitor.%'};
my $settings = {
	'psycopg2' => "return [ask(conn, SQL), conn.encoding] + reported(conn)",
	'DBD::Pg' => 'return (ask($conn, SQL), $conn->{pg_enable_utf8});',
	'PHP' => 'return array_merge([ask($conn, SQL), pg_client_encoding($conn)], reported($conn));' };
$settings = { map { my $code = $settings->{$_}; $_ => $code =~ s/SQL/quoted($changed)/er } keys %$settings };

# name	of the row
# leave	SQL that the first holder executes, or code for each client; a client without is left out
# look	SQL (one or a list) whose answers the next holder has to get as if he were new, or code for each client
# stays	what is left is documented to be seen: 'rollback' with --reset=rollback, 'always'. Neither: never
# reused	1, the default: it is the same session; 0: another one; undef: either, as it depends on the time
my @rows = (
	{ name => 'nothing', leave => 'SELECT 1', look => $settings },

	# transactions
	{ name => 'an open transaction',
	  leave => 'BEGIN; CREATE TABLE never (a int)',
	  look => q{SELECT to_regclass('never') IS NULL AND now() = statement_timestamp()} },
	{ name => 'a failed transaction', leave => 'BEGIN; SELECT 1/0', look => 'SELECT now() = statement_timestamp()' },
	{ name => 'a savepoint and locks',
	  leave => 'BEGIN; SAVEPOINT a; LOCK TABLE data; SELECT pg_advisory_xact_lock(1)',
	  look => q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
		AND (locktype = 'advisory' OR relation = 'data'::regclass)} },
	{ name => 'SET LOCAL', leave => q{BEGIN; SET LOCAL work_mem = '7MB'}, look => $settings },
	{ name => 'the driver\'s own transaction',
	  leave => {
		'psycopg2' => "conn.autocommit = False\nask(conn, 'INSERT INTO data VALUES (1)')",
		'DBD::Pg' => q{$conn->begin_work; ask($conn, 'INSERT INTO data VALUES (1)'); $conn->pg_savepoint('a');} },
	  look => 'SELECT (now() = statement_timestamp()) || count(*)::text FROM data' },
	{ name => 'a transaction prepared for two-phase commit',
	  leave => q{BEGIN; LOCK TABLE data IN ACCESS SHARE MODE; PREPARE TRANSACTION 'left'},
	  look => [ 'SELECT gid FROM pg_prepared_xacts', q{ROLLBACK PREPARED 'left'} ] },
	{ name => 'the driver\'s own two-phase commit, prepared and forgotten',
	  leave => { 'psycopg2' => "conn.autocommit = False\nconn.tpc_begin('own')\nask(conn, 'INSERT INTO data VALUES (1)')\n"
		. 'conn.tpc_prepare()' },
	  look => [ 'SELECT gid FROM pg_prepared_xacts', q{ROLLBACK PREPARED 'own'} ] },

	# settings
	{ name => 'SET', leave => q{SET work_mem = '7MB'}, look => $settings, stays => 'rollback' },
	{ name => 'a setting of its own name',
	  leave => q{SET my.var = 'secret'},
	  look => q{SELECT coalesce(current_setting('my.var', true), '')},
	  stays => 'rollback' },
	{ name => 'a setting of its own name, that it was there',
	  leave => q{SET my.var = 'secret'},
	  look => q{SELECT current_setting('my.var', true) IS NULL},
	  stays => 'always' },
	{ name => 'SET ROLE', leave => 'SET ROLE somebody', look => 'SELECT current_user = session_user', stays => 'rollback' },
	{ name => 'SET SESSION AUTHORIZATION',
	  leave => 'SET SESSION AUTHORIZATION somebody',
	  look => q{SELECT session_user <> 'somebody' AND current_setting('is_superuser')::bool},
	  stays => 'rollback' },
	{ name => 'search_path', leave => 'SET search_path = pg_catalog', look => $settings, stays => 'rollback' },
	{ name => 'application_name', leave => q{SET application_name = 'mine'}, look => $settings, stays => 'rollback' },
	{ name => 'TimeZone', leave => q{SET timezone = 'Asia/Tokyo'}, look => $settings, stays => 'rollback' },
	{ name => 'DateStyle', leave => 'SET DateStyle = German', look => $settings, stays => 'rollback' },
	{ name => 'how values look',
	  leave => q{SET IntervalStyle = iso_8601; SET bytea_output = escape; SET extra_float_digits = -5; SET xmloption = document},
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'standard_conforming_strings',
	  leave => 'SET standard_conforming_strings = off; SET escape_string_warning = off',
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'client_encoding, by SQL', leave => q{SET client_encoding = 'LATIN1'}, look => $settings, stays => 'rollback' },
	{ name => 'client_encoding, by the driver',
	  leave => {
		'psycopg2' => q{conn.set_client_encoding('LATIN1')},
		'PHP' => q{pg_set_client_encoding($conn, 'LATIN1');} },
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'statement_timeout', leave => q{SET statement_timeout = '10min'}, look => $settings, stays => 'rollback' },
	{ name => 'a statement_timeout shorter than the reset',
	  leave => q{SET statement_timeout = '1ms'},
	  look => $settings,
	  reused => undef },
	{ name => 'the session\'s own timeouts',
	  leave => q{SET idle_in_transaction_session_timeout = '10min'; SET lock_timeout = '10min'},
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'a read-only session',
	  leave => 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE, DEFERRABLE',
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'a read-only session, by the driver',
	  leave => { 'psycopg2' => q{conn.set_session(isolation_level='SERIALIZABLE', readonly=True, deferrable=True, autocommit=True)} },
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'session_replication_role, row_security',
	  leave => 'SET session_replication_role = replica; SET row_security = off',
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'a planner that may do nothing',
	  leave => 'SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET max_parallel_workers = 0',
	  look => $settings,
	  stays => 'rollback' },
	{ name => 'random numbers that can be foretold',
	  leave => 'SELECT setseed(0.5)',
	  look => 'SELECT random() = 0.9851677175347999',
	  stays => 'always' },

	{ name => 'a library', leave => q{LOAD 'plpgsql'}, look => q{SELECT count(*) FROM pg_settings WHERE name LIKE 'plpgsql.%'},
	  stays => 'always' },
	{ name => 'what a role begins with, as it was then',
	  leave => 'ALTER ROLE CURRENT_USER SET geqo_threshold = 77',
	  look => [ 'SHOW geqo_threshold', 'ALTER ROLE CURRENT_USER RESET geqo_threshold' ],
	  stays => 'always' },

	# objects
	{ name => 'a temporary table', leave => 'CREATE TEMP TABLE mine (a int)', look => q{SELECT to_regclass('mine') IS NULL},
	  stays => 'rollback' },
	{ name => 'a temporary table before a real one', leave => q{CREATE TEMP TABLE data AS SELECT 'not yours'}, look => 'TABLE data',
	  stays => 'rollback' },
	{ name => 'other temporary objects',
	  leave => 'CREATE TEMP VIEW v AS SELECT 1; CREATE TEMP SEQUENCE s; CREATE TYPE pg_temp.t AS (a int); '
		. q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'},
	  look => q{SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) +
		(SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema())},
	  stays => 'rollback' },
	{ name => 'a prepared statement', leave => 'PREPARE mine AS SELECT 1', look => 'EXECUTE mine', stays => 'rollback' },
	{ name => 'a prepared statement, by the driver',
	  leave => {
		'DBD::Pg' => q{my $s = $conn->prepare('SELECT 41 + ?'); $s->execute(1); $s->fetchall_arrayref;
			main::keep($s);},
		'PHP' => q{pg_prepare($conn, 'mine', 'SELECT 41 + $1'); pg_execute($conn, 'mine', [1]);} },
	  look => {
		'DBD::Pg' => q{my $s = $conn->prepare('SELECT 1 + ?'); $s->execute(1); my @a = $s->fetchrow_array;
			return (@a, ask($conn, 'SELECT count(*) FROM pg_prepared_statements'));},
		'PHP' => q{$good = pg_prepare($conn, 'mine', 'SELECT 1 + $1');
			return [$good ? pg_fetch_row(pg_execute($conn, 'mine', [1]))[0] : pg_last_error($conn),
				ask($conn, 'SELECT count(*) FROM pg_prepared_statements')];} },
	  stays => 'rollback' },
	{ name => 'a handle of a statement that dies late',
	  leave => { 'DBD::Pg' => q{my $s = $conn->prepare('SELECT 41 + ?'); $s->execute(1);
		$s->fetchall_arrayref; main::keep($s);} },
	  look => { 'DBD::Pg' => q{my $s = $conn->prepare('SELECT 1 + ?'); $s->execute(1); $s->fetchall_arrayref;
		main::drop_kept(); $s->execute(2); return $s->fetchrow_array;} },
	  stays => 'rollback' },
	{ name => 'a cursor WITH HOLD', leave => 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1', look => 'FETCH mine', stays => 'rollback' },
	{ name => 'a cursor', leave => 'BEGIN; DECLARE mine CURSOR FOR SELECT 1; FETCH mine', look => 'FETCH mine' },
	{ name => 'a cursor, by the driver',
	  leave => { 'psycopg2' => "conn.autocommit = False\nc = conn.cursor('mine')\n"
		. "c.execute('SELECT generate_series(1, 100)')\nc.fetchone()" },
	  look => { 'psycopg2' => "c = conn.cursor('mine', withhold=True)\nc.execute('SELECT 7')\nreturn [c.fetchall()]" } },
	{ name => 'an advisory lock',
	  leave => 'SELECT pg_advisory_lock(7), pg_advisory_lock(7), pg_advisory_lock_shared(8)',
	  look => q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'},
	  stays => 'rollback' },
	{ name => 'currval', leave => q{SELECT nextval('numbers')}, look => q{SELECT currval('numbers') IS NOT NULL},
	  stays => 'rollback' },
	{ name => 'lastval', leave => q{SELECT nextval('numbers')}, look => q{SELECT lastval() IS NOT NULL}, stays => 'rollback' },
	{ name => 'LISTEN',
	  leave => 'LISTEN news',
	  look => {
		'psycopg2' => "ask(conn, 'NOTIFY news')\nconn.poll()\n"
			. "return [ask(conn, 'SELECT * FROM pg_listening_channels()'), len(conn.notifies)]",
		'DBD::Pg' => q{ask($conn, 'NOTIFY news'); ask($conn, 'SELECT 1');
			return (ask($conn, 'SELECT * FROM pg_listening_channels()'), defined $conn->pg_notifies ? 1 : 0);},
		'PHP' => q{ask($conn, 'NOTIFY news'); return [ask($conn, 'SELECT * FROM pg_listening_channels()'), pg_get_notify($conn)];} },
	  stays => 'rollback' },
	# with --reset=rollback what was not read is gone, but it listens: hence nothing but what was not read is looked for
	{ name => 'a NOTIFY that was not read',
	  leave => q{LISTEN news; NOTIFY news, 'for the first'},
	  look => {
		'psycopg2' => "conn.poll()\nreturn [len(conn.notifies)]",
		'DBD::Pg' => q{return defined $conn->pg_notifies ? 1 : 0;},
		'PHP' => q{return [pg_get_notify($conn)];} } },
	{ name => 'a temporary replication slot',
	  leave => q{SELECT pg_create_physical_replication_slot('slot_' || pg_backend_pid(), false, true)},
	  look => 'SELECT count(*) FROM pg_replication_slots WHERE active_pid = pg_backend_pid()',
	  stays => 'always' },
	{ name => 'a large object, open',
	  leave => {
		'psycopg2' => "conn.autocommit = False\nconn.lobject(4711, 'rw').write('secret')",
		'DBD::Pg' => q{$conn->begin_work; my $fd = $conn->pg_lo_open(4711, $conn->{pg_INV_READ} | $conn->{pg_INV_WRITE});
			$conn->pg_lo_write($fd, 'secret', 6);},
		'PHP' => q{ask($conn, 'BEGIN'); $lo = pg_lo_open($conn, 4711, 'r+'); pg_lo_write($lo, 'secret');} },
	  look => q{SELECT loread(0, 10)} },

	# libpq's and the driver's own
	{ name => 'an error message',
	  leave => 'SELECT 1/0',
	  look => {
		'psycopg2' => q{return [conn.closed, conn.status]},
		'DBD::Pg' => q{return ($conn->errstr, $conn->state);},
		'PHP' => q{return [pg_last_error($conn)];} } },
	{ name => 'notices, all there are, while it is reset',
	  leave => {
		'psycopg2' => "ask(conn, 'SET client_min_messages = debug5')\nheard(conn.notices)",
		'DBD::Pg' => q{ask($conn, 'SET client_min_messages = debug5'); main::hear($conn);},
		'PHP' => q{ask($conn, 'SET client_min_messages = debug5');} },
	  look => {
		'psycopg2' => "return [heard_more(), len(conn.notices)]",
		'DBD::Pg' => q{return main::heard();},
		'PHP' => q{return [pg_last_notice($conn)];} } },
	{ name => 'error verbosity',
	  leave => {
		'DBD::Pg' => q{$conn->{pg_errorlevel} = 2; ask($conn, 'SELECT 1/0');},
		'PHP' => q{pg_set_error_verbosity($conn, PGSQL_ERRORS_VERBOSE); ask($conn, 'SELECT 1/0');} },
	  look => 'SELECT 1/0' },
	{ name => 'a trace',
	  leave => {
		'DBD::Pg' => q{main::trace_begins(my $file = main::trace_file()); $conn->pg_server_trace($file); ask($conn, 'SELECT 1');},
		'PHP' => q{pg_trace(trace_file(), 'w', $conn); ask($conn, 'SELECT 1');} },
	  look => {
		'DBD::Pg' => q{my $size = main::trace_size(); ask($conn, 'SELECT 2'); return main::trace_size() - $size;},
		'PHP' => q{$size = trace_size(); ask($conn, 'SELECT 2'); return [trace_size() - $size];} } },
	{ name => 'asynchronous use, which does not block',
	  leave => { 'psycopg2' => 'conn.close()
other = psycopg2.connect(dsn, async_=1)
wait(other)
cursor = other.cursor()
cursor.execute("SELECT 1")
wait(other)
other.close()' },
	  look => { 'psycopg2' => "c = conn.cursor()\nc.copy_expert('COPY data FROM STDIN', io.StringIO('0123456789\\n' * 500000))\n"
		. "n = ask(conn, 'SELECT count(*) FROM data')\nask(conn, 'TRUNCATE data')\nreturn [n]" },
	  reused => undef },
	{ name => 'COPY FROM, begun',
	  leave => { 'DBD::Pg' => q{$conn->do('COPY data FROM STDIN'); $conn->pg_putcopydata("half\n");} },
	  look => 'SELECT count(*) FROM data',
	  reused => 0 },
	{ name => 'COPY FROM, whose source fails',
	  leave => { 'psycopg2' => 'attempt(lambda: conn.cursor().copy_expert("COPY data FROM STDIN", Broken()))' },
	  look => 'SELECT count(*) FROM data' },
	{ name => 'COPY TO, read by half',
	  leave => { 'DBD::Pg' => q{$conn->do('COPY (SELECT generate_series(1, 100000)) TO STDOUT');
		my $row; $conn->pg_getcopydata($row);} },
	  look => 'SELECT count(*) FROM data',
	  reused => 0 },
	{ name => 'COPY TO, whose sink fails',
	  leave => { 'psycopg2' => 'sql = "COPY (SELECT generate_series(1, 100000)) TO STDOUT"
attempt(lambda: conn.cursor().copy_expert(sql, Broken()))' },
	  look => 'SELECT count(*) FROM data',
	  reused => undef },
	{ name => 'a query under way',
	  leave => {
		'psycopg2' => "conn.close()\nother = psycopg2.connect(dsn, async_=1)\nwait(other)\n"
			. "cursor = other.cursor()\ncursor.execute('SELECT pg_sleep(0.2)')\npid = other.info.backend_pid\nother.close()\nreturn pid",
		'DBD::Pg' => q{$conn->do('SELECT pg_sleep(0.2)', { pg_async => 1 });},
		# PHP reads what comes before it closes
		'PHP' => q{pg_send_query($conn, 'SELECT pg_sleep(0.2)');} },
	  look => q{SELECT 1},
	  reused => { 'psycopg2' => 0, 'DBD::Pg' => 0, 'PHP' => 1 } },
	{ name => 'results that were not read',
	  leave => {
		'DBD::Pg' => q{my $s = $conn->prepare('SELECT generate_series(1, 1000)', { pg_async => 1 });
			$s->execute; $s->pg_result; $s->fetch;},
		'PHP' => q{pg_send_query($conn, 'SELECT 1; SELECT 2; SELECT 1/0'); pg_get_result($conn);} },
	  look => q{SELECT 7} },
	{ name => 'a cancel that comes to nothing',
	  leave => {
		'psycopg2' => 'conn.cancel()',
		'PHP' => q{pg_cancel_query($conn);} },
	  look => q{SELECT 7} },
	{ name => 'one that the server has ended',
	  leave => 'SELECT pg_terminate_backend(pg_backend_pid())',
	  look => q{SELECT 7},
	  reused => 0 });

# A string literal that all of the languages have.
sub quoted
{
	my ($text) = @_;
	$text =~ s/\s+/ /g;
	return "'" . $text =~ s/(['\\])/\\$1/gr . "'";
}

# The clients: what a row's code may use (ask: the first field of an answer, or the error), and how a row is run.
my %clients = (
	'psycopg2' => {
		probe => [ '/usr/bin/python3', '-c', 'import psycopg2' ],
		command => ['/usr/bin/python3'],
		head => <<'END',
import io, psycopg2, select, sys, traceback
from psycopg2.extensions import POLL_OK, POLL_WRITE

class Broken:
	def read(self, n):
		raise OSError("broken")
	def write(self, s):
		raise OSError("broken")

def ask(conn, sql):
	try:
		cursor = conn.cursor()
		cursor.execute(sql)
		return cursor.fetchone()[0] if cursor.description else None
	except psycopg2.Error as e:
		return str(e)

def attempt(what):
	try:
		what()
	except (OSError, psycopg2.Error):
		pass

def wait(conn):
	while True:
		state = conn.poll()
		if state == POLL_OK:
			return
		select.select([conn.fileno()] if state != POLL_WRITE else [], [conn.fileno()] if state == POLL_WRITE else [], [])

def reported(conn):
	return [conn.info.parameter_status(n) for n in ("client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "application_name",
		"is_superuser", "session_authorization", "standard_conforming_strings", "default_transaction_read_only")]

kept = None

def heard(notices):
	global kept
	kept = (notices, len(notices))

def heard_more():
	return len(kept[0]) - kept[1]

def row(i, leave, look):
	dsn = "application_name=iso%d" % i
	conn = psycopg2.connect(dsn)
	conn.autocommit = True
	before = conn.info.backend_pid
	before = leave(conn, dsn) or before # if it is another one that was left
	conn.close()
	conn = psycopg2.connect(dsn)
	conn.autocommit = True
	after = conn.info.backend_pid
	try:
		seen = look(conn)
	except Exception:
		seen = [traceback.format_exc()]
	conn.close()
	print("\t".join([str(i), str(before), str(after)] + [str(s).replace("\n", "/").replace("\t", " ") for s in seen]), flush=True)
END
		row => sub {
			my ($i, $leave, $look) = @_;
			$_ =~ s/^/\t/mg for $leave, $look;
			return "def leave$i(conn, dsn):\n$leave\ndef look$i(conn):\n$look\nrow($i, leave$i, look$i)\n";
		},
		leave => sub { return "ask(conn, $_[0])"; },
		look => sub { return 'return [' . join(', ', map { "ask(conn, $_)" } @_) . ']'; } },
	'DBD::Pg' => {
		probe => [ '/usr/bin/perl', '-MDBD::Pg', '-e', '1' ],
		command => ['/usr/bin/perl'],
		head => <<'END',
use strict;
use warnings;
use DBI;
$| = 1;
my ($kept, $traced, %heard);

sub keep { $kept = shift; return; }
sub drop_kept { undef $kept; return; }
sub trace_file { open(my $file, '>', "$ENV{WORK}/trace") or die; return $file; }
sub trace_begins { $traced = shift; return; }
sub trace_size { return -s "$ENV{WORK}/trace"; }

# all warnings from now on are written down
sub hear { my $conn = shift; $conn->{PrintWarn} = 1; $SIG{__WARN__} = sub { $heard{$_[0]}++; }; return; }
sub heard { delete $SIG{__WARN__}; return join ' ', sort keys %heard; }

sub ask
{
	my ($conn, $sql) = @_;
	my $s = $conn->prepare($sql, { pg_direct => 1 });
	return $conn->errstr if !$s || !$s->execute;
	return $s->{NUM_OF_FIELDS} ? ($s->fetchrow_array)[0] : undef;
}

sub row
{
	my ($i, $leave, $look) = @_;
	my @how = ("dbi:Pg:application_name=iso$i", '', '', { RaiseError => 0, PrintError => 0, PrintWarn => 0,
		pg_switch_prepared => 1 });
	my $conn = DBI->connect(@how);
	my $before = $conn->{pg_pid};
	$leave->($conn);
	$conn->disconnect;
	$conn = DBI->connect(@how);
	my $after = $conn->{pg_pid};
	my @seen = eval { $look->($conn) };
	push @seen, $@ if $@;
	$conn->disconnect;
	print join("\t", $i, $before, $after, map { my $s = $_ // 'undef'; $s =~ tr/\t\n/ \//; $s } @seen), "\n";
}
END
		row => sub {
			my ($i, $leave, $look) = @_;
			return "row($i, sub { my (\$conn) = \@_; $leave }, sub { my (\$conn) = \@_; $look });\n";
		},
		leave => sub { return "ask(\$conn, $_[0]);"; },
		look => sub { return 'return (' . join(', ', map { "scalar ask(\$conn, $_)" } @_) . ');'; } },
	'PHP' => {
		probe => [ 'php', '-r', 'pg_connect(...);' ],
		command => ['php'],
		head => <<'END',
<?php
error_reporting(E_ERROR | E_PARSE);
ini_set('display_errors', 'stderr');

function trace_file() { return getenv('WORK') . '/trace'; }
function trace_size() { clearstatcache(); return filesize(trace_file()); }

function ask($conn, $sql)
{
	$result = pg_query($conn, $sql);
	if (!$result)
		return pg_last_error($conn);
	return pg_num_fields($result) && pg_num_rows($result) ? pg_fetch_row($result)[0] : null;
}

function reported($conn)
{
	return array_map(fn($name) => pg_parameter_status($conn, $name), ['client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone',
		'application_name', 'is_superuser', 'session_authorization', 'standard_conforming_strings', 'default_transaction_read_only']);
}

function row($i, $leave, $look)
{
	$conn = pg_connect("application_name=iso$i", PGSQL_CONNECT_FORCE_NEW);
	$before = pg_get_pid($conn);
	$leave($conn);
	pg_close($conn);
	$conn = pg_connect("application_name=iso$i", PGSQL_CONNECT_FORCE_NEW);
	$after = pg_get_pid($conn);
	$seen = $look($conn);
	pg_close($conn);
	$text = fn($s) => strtr(is_string($s) ? $s : json_encode($s), "\t\n", " /");
	echo implode("\t", array_map($text, [$i, $before, $after, ...$seen])), "\n";
}
END
		row => sub {
			my ($i, $leave, $look) = @_;
			return "row($i, function (\$conn) { $leave }, function (\$conn) { $look });\n";
		},
		leave => sub { return "ask(\$conn, $_[0]);"; },
		look => sub { return 'return [' . join(', ', map { "ask(\$conn, $_)" } @_) . '];'; } });

# What a client does in a row, as code; undef: the row is not for it.
sub code_for
{
	my ($client, $step, $what) = @_;
	return $what->{$client} if ref $what eq 'HASH';
	return $clients{$client}{$step}->(map { quoted($_) } ref $what ? @$what : $what);
}

sub is_for
{
	my ($client, $row) = @_;
	return defined code_for($client, 'leave', $row->{leave}) && defined code_for($client, 'look', $row->{look});
}

# (index => { before, after: processes, seen }), and what it said on standard error
sub run_client
{
	my ($file, $client, @with) = @_;
	my ($out, $err) = ('', '');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($<),
		WORK => $work);
	eval {
		IPC::Run::run([ @with, @{ $clients{$client}{command} }, $file ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	};
	$err .= $@;
	$err .= "ended with $?\n" if $?;
	my %seen;
	for (split /\n/, $out)
	{
		my ($i, $before, $after, $seen) = split /\t/, $_, 4;
		$seen{$i} = { same => $before == $after, seen => $seen // '' } if defined $after && $i =~ /^\d+$/;
	}
	return (\%seen, $err);
}

sub judge_row
{
	my ($name, $row, $reused, $plain, $pooled, $rollback) = @_;
	my $stays = $row->{stays} // '';

	if ($stays eq 'always')
	{
		isnt($pooled->{seen}, $plain->{seen}, "$name: stays, as documented");
	}
	else
	{
		is($pooled->{seen}, $plain->{seen}, "$name: as new");
	}
	return if !defined $reused;
	ok($reused ? $pooled->{same} : !$pooled->{same}, $reused ? "$name: the same session" : "$name: another session");
	if ($stays)
	{
		isnt($rollback->{seen}, $plain->{seen}, "$name: stays, with --reset=rollback");
	}
	else
	{
		is($rollback->{seen}, $plain->{seen}, "$name: as new, with --reset=rollback");
	}
	return;
}

for my $client (sort keys %clients)
{
	my $c = $clients{$client};
	my $file = "$work/" . $client =~ tr/A-Za-z0-9/_/cr;
	my @mine = grep { is_for($client, $rows[$_]) } 0 .. $#rows;

  SKIP:
	{
		my $there = eval { IPC::Run::run($c->{probe}, '<', \undef, '>&', \my $noise) };
		skip "$client is not here", 1 if !$there;

		PostgreSQL::Test::Utils::append_to_file($file, $c->{head} . join '',
			map { $c->{row}->($_, code_for($client, 'leave', $rows[$_]{leave}), code_for($client, 'look', $rows[$_]{look})) } @mine);
		my ($plain, $plain_said) = run_client($file, $client);
		my ($pooled, $pooled_said) = run_client($file, $client, $run, '--');
		my ($rollback, $rollback_said) = run_client($file, $client, $run, '--reset=rollback', '--');

		is($plain_said, '', "$client: says nothing");
		is($pooled_said, '', "$client: nor pooled: no notice of a reset is seen");
		is($rollback_said, '', "$client: nor with --reset=rollback");
		is(scalar keys %$_, scalar @mine, "$client: all rows were done") for $plain, $pooled, $rollback;
		for my $i (@mine)
		{
			my $row = $rows[$i];
			my $reused = exists $row->{reused} ? $row->{reused} : 1;
			$reused = $reused->{$client} if ref $reused;
			judge_row("$client: $row->{name}", $row, $reused, $plain->{$i}, $pooled->{$i}, $rollback->{$i});
		}
	}
}
done_testing();
