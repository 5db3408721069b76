# Programs that nobody here wrote, pooled: each connects again and again, leaves something behind, and looks for what the one before
# it left. What is not installed is skipped.

use strict;
use warnings;

use IPC::Run;
use PgpoolMonitor;
use Test::More;

my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $node = PgpoolMonitor::unstarted_node('preload', listen_addresses => '127.0.0.1', ssl => 'on');
system("cd '" . $node->data_dir . "' && umask 077 && openssl req -new -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
	  . "-keyout server.key -out server.crt > openssl.log 2>&1") == 0
  or die 'openssl made no certificate';
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');
my $work = PostgreSQL::Test::Utils::tempdir();

# Run a program (the command, perhaps after { more of the environment }) under the pool, or as it is;
# (did it end well, what it said, the pool's summary).
sub run_it
{
	my ($pooled, @command) = @_;
	my ($out, $err) = ('', '');
	my %more = ref $command[0] ? %{ shift @command } : ();
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres',
		PGUSER => scalar getpwuid($<), %more);
	my $good = eval {
		IPC::Run::run([ ($pooled ? ($run, '--stats', '--max-size=5', '--') : ()), @command ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	};
	diag("@command: $err$@") if !$good;
	my %summary = $err =~ /(asked for|reused|opened|not pooled): (\d+)/g;
	return ($good, $out, \%summary);
}

sub is_there
{
	my (@command) = @_;
	return eval { IPC::Run::run(\@command, '<', \undef, '>&', \my $noise) };
}

sub script
{
	my ($name, $text) = @_;
	my $file = "$work/$name";
	open(my $handle, '>', $file) or die "$file: $!";
	print $handle $text;
	close $handle or die "$file: $!";
	return $file;
}

# PostgreSQL's own.
is(0 + (run_it(0, 'pgbench', '-i', '-q', 'postgres'))[0], 1, 'pgbench -i');
my ($good, $out, $summary) = run_it(1, 'pgbench', '-n', '-C', '-S', '-c', '4', '-j', '2', '-t', '100', 'postgres');
ok($good && $out =~ /number of failed transactions: 0 /, 'pgbench -C: no failures');
cmp_ok($summary->{reused}, '>', 300, 'pgbench -C: most of its 400 connections are reused') if $good;
cmp_ok($summary->{opened}, '<=', 5, 'pgbench -C: no more than there may be') if $good;

($good, $out) = run_it(1, 'psql', '-XAt', '-c', 'SELECT 1', '-c', '\c', '-c', 'SELECT 2', '-c', "SELECT repeat('x', 3)");
ok($good && $out =~ /^1\n.*\n?2\nxxx$/s, 'psql, with \c') or diag($out);
my $dump = script('dump.sql', '');
($good) = run_it(1, 'pg_dump', '-f', $dump, 'postgres');
ok($good && -s $dump, 'pg_dump');

# Each of these connects six times, twice in the same way at a time, and prints a line for each:
#   process:work_mem:temporary table:transaction:channels
# It leaves behind a setting, a temporary table, a LISTEN with a NOTIFY that is not read, and an open transaction.
my $look = q{SELECT pg_backend_pid() || ':' || current_setting('work_mem') || ':' || (to_regclass('mine') IS NULL) || ':' || }
  . q{(now() = statement_timestamp()) || ':' || (SELECT count(*) FROM pg_listening_channels())};
my $leave = q{SET work_mem = '7MB'; CREATE TEMP TABLE mine (a int); LISTEN mine; NOTIFY mine, 'left'};

my %drivers = (
	'psycopg2' => {
		probe => [ '/usr/bin/python3', '-c', 'import psycopg2' ],
		command => [ '/usr/bin/python3', script('sync.py', <<"END") ] },
import psycopg2
for i in range(6):
	conn = psycopg2.connect("")
	cursor = conn.cursor()
	conn.autocommit = True
	cursor.execute("""$look""")
	print(cursor.fetchone()[0])
	cursor.execute("""$leave""")
	conn.autocommit = False
	cursor.execute("SELECT 1")
	conn.close()
END
	'psycopg2, asynchronous' => {
		loose => 1,
		probe => [ '/usr/bin/python3', '-c', 'import psycopg2' ],
		command => [ '/usr/bin/python3', script('async.py', <<"END") ] },
import psycopg2, select, time
from psycopg2.extensions import POLL_OK, POLL_WRITE

def wait(conn):
	while True:
		state = conn.poll()
		if state == POLL_OK:
			return
		select.select([conn.fileno()] if state != POLL_WRITE else [], [conn.fileno()] if state == POLL_WRITE else [], [])

for i in range(6):
	conn = psycopg2.connect("", async_=1)
	wait(conn)
	cursor = conn.cursor()
	cursor.execute("""$look""")
	wait(conn)
	print(cursor.fetchone()[0])
	cursor.execute("""$leave""")
	wait(conn)
	cursor.execute("BEGIN")
	wait(conn)
	conn.close()
	time.sleep(0.1)
END
	'DBD::Pg' => {
		probe => [ '/usr/bin/perl', '-MDBD::Pg', '-e', '1' ],
		command => [ '/usr/bin/perl', script('dbd.pl', <<"END") ] },
use DBI;
for (1 .. 6)
{
	my \$db = DBI->connect('dbi:Pg:', '', '', { RaiseError => 1, PrintWarn => 0 });
	print \$db->selectrow_array(q{$look}), "\\n";
	\$db->do(q{$leave});
	\$db->begin_work;
	\$db->do('SELECT 1');
	\$db->disconnect;
}
END
	'PHP, pg_connect' => {
		probe => [ 'php', '-r', 'pg_connect(...);' ],
		command => [ 'php', script('pg.php', <<"END") ] },
<?php
for (\$i = 0; \$i < 6; \$i++)
{
	\$conn = pg_connect("application_name=php", PGSQL_CONNECT_FORCE_NEW);
	echo pg_fetch_row(pg_query(\$conn, <<<X
		$look
		X))[0], "\\n";
	pg_query(\$conn, <<<X
		$leave
		X);
	pg_query(\$conn, "BEGIN");
	pg_close(\$conn);
}
END
	'PHP, PDO' => {
		probe => [ 'php', '-r', 'exit(in_array("pgsql", PDO::getAvailableDrivers()) ? 0 : 1);' ],
		command => [ 'php', script('pdo.php', <<"END") ] },
<?php
for (\$i = 0; \$i < 6; \$i++)
{
	\$db = new PDO("pgsql:");
	echo \$db->query(<<<X
		$look
		X)->fetchColumn(), "\\n";
	\$db->exec(<<<X
		$leave
		X);
	\$db->beginTransaction();
	\$db->query("SELECT 1");
	\$db = null;
}
END
	'ruby-pg' => {
		loose => 1,
		probe => [ 'ruby', '-e', 'require "pg"' ],
		command => [ 'ruby', script('pg.rb', <<"END") ] },
require 'pg'
6.times do
	conn = PG.connect
	puts conn.exec(%q{$look}).getvalue(0, 0)
	conn.exec(%q{$leave})
	conn.exec('BEGIN')
	conn.close
	sleep 0.1
end
END
	'Pgtcl' => {
		closes_sockets => 1,
		probe => [ 'tclsh', script('probe.tcl', "package require Pgtcl\n") ],
		command => [ 'tclsh', script('pg.tcl', <<"END") ] },
package require Pgtcl
for {set i 0} {\$i < 6} {incr i} {
	set conn [pg_connect -conninfo ""]
	set result [pg_exec \$conn {$look}]
	puts [lindex [pg_result \$result -getTuple 0] 0]
	pg_result \$result -clear
	pg_exec \$conn {$leave}
	pg_exec \$conn BEGIN
	pg_disconnect \$conn
}
END
	'node, libpq' => {
		probe => [ 'node', '-e', 'require("libpq")' ],
		command => [ 'node', script('libpq.js', <<"END") ] },
const Libpq = require('libpq');
for (let i = 0; i < 6; i++) {
	const pq = new Libpq();
	pq.connectSync('');
	pq.exec(`$look`);
	console.log(pq.getvalue(0, 0));
	pq.exec(`$leave`);
	pq.exec('BEGIN');
	pq.finish();
}
END
	'node, libpq, asynchronous' => {
		probe => [ 'node', '-e', 'require("libpq")' ],
		command => [ 'node', script('libpq_async.js', <<"END") ] },
const Libpq = require('libpq');
// The reader is never stopped: finish() is all that it ends by, and the loop's watcher goes with it.
function query(pq, text, done) {
	let value;
	pq.removeAllListeners('readable');
	pq.on('readable', () => {
		if (!pq.consumeInput()) throw Error(pq.errorMessage());
		for (;;) {
			if (pq.isBusy()) return;
			if (!pq.getResult()) break;
			if (pq.ntuples() > 0) value = pq.getvalue(0, 0);
		}
		done(value);
	});
	if (!pq.setNonBlocking(true) || !pq.sendQuery(text) || pq.flush() !== 0) throw Error(pq.errorMessage());
	pq.startReader();
}
function connect(left) {
	const pq = new Libpq();
	pq.connect('', error => {
		if (error) throw error;
		if (pq.notifies()) console.log('a NOTIFY of somebody else');
		query(pq, `$look`, seen => {
			console.log(seen);
			query(pq, `$leave`, () => query(pq, 'BEGIN', () => {
				pq.finish();
				if (left > 1) connect(left - 1);
			}));
		});
	});
}
connect(6);
process.on('beforeExit', () => console.log('nothing left to wait for: ' + process.getActiveResourcesInfo()));
END
	'node, pg-native' => {
		probe => [ 'node', '-e', 'require("pg-native")' ],
		command => [ 'node', script('pg_native.js', <<"END") ] },
const Client = require('pg-native');
function connect(left) {
	const client = new Client();
	let listens = false;
	client.connect('', error => {
		if (error) throw error;
		client.on('notification', () => { if (!listens) console.log('a NOTIFY of somebody else'); });
		client.query(`$look`, (error, rows) => {
			if (error) throw error;
			console.log(Object.values(rows[0])[0]);
			listens = true;
			client.query(`$leave`, error => {
				if (error) throw error;
				client.prepare('left', 'SELECT 1', 0, error => {
					if (error) throw error;
					client.query('BEGIN', error => {
						if (error) throw error;
						client.end(() => { if (left > 1) connect(left - 1); });
					});
				});
			});
		});
	});
}
connect(6);
process.on('beforeExit', () => console.log('nothing left to wait for: ' + process.getActiveResourcesInfo()));
END
	'node, pg with pg-native' => {
		probe => [ 'node', '-e', 'require("pg").native.Client' ],
		command => [ 'node', script('pg.js', <<"END") ] },
const { Client } = require('pg').native;
(async () => {
	for (let i = 0; i < 6; i++) {
		const client = new Client();
		await client.connect();
		console.log(Object.values((await client.query(`$look`)).rows[0])[0]);
		await client.query(`$leave`);
		await client.query({ name: 'left', text: 'SELECT 1' });
		await client.query('BEGIN');
		await client.end();
	}
})();
process.on('beforeExit', () => console.log('nothing left to wait for: ' + process.getActiveResourcesInfo()));
END
	"node, pg's own pool of pg-native" => {
		probe => [ 'node', '-e', 'require("pg").native.Pool' ],
		command => [ 'node', script('pg_pool.js', <<"END") ] },
const { Pool } = require('pg').native;
(async () => {
	const pool = new Pool({ max: 2 });
	for (let i = 0; i < 6; i++) {
		const client = await pool.connect();
		console.log(Object.values((await client.query(`$look`)).rows[0])[0]);
		await client.query(`$leave`);
		await client.query('BEGIN');
		client.release(true); // closes it
	}
	await pool.end();
})();
process.on('beforeExit', () => console.log('nothing left to wait for: ' + process.getActiveResourcesInfo()));
END
);

# Where node finds what it has from Debian, or from npm.
my $paths = is_there('node', '--version') ? `bash tests/lib/npm.sh --path` : '';
chomp $paths;
local $ENV{NODE_PATH} = join ':', grep { $_ } $ENV{NODE_PATH}, $paths;

# Some of node's event loops tell the kernel of sockets in batches (io_uring), which nobody sees who stands before epoll_ctl.
for my $name (grep { /^node/ } keys %drivers)
{
	$drivers{"$name, in batches"} =
	  { %{ $drivers{$name} }, command => [ { UV_USE_IO_URING => 1 }, @{ $drivers{$name}{command} } ] };
}

# It may bring an OpenSSL of its own, which it uses before, and after.
$drivers{'node, pg-native, over TLS'} = {
	%{ $drivers{'node, pg-native'} },
	command => [ { PGHOST => '127.0.0.1', PGSSLMODE => 'require' }, 'node', script('tls.js', <<"END") ] };
const tls = require('tls');
const use = () => { tls.createSecureContext(); return require('crypto').createHash('sha256').update('x').digest('hex'); };
const before = use();
require('$work/pg_native.js');
process.on('exit', () => console.log(use() === before));
END

for my $name (sort keys %drivers)
{
	my $driver = $drivers{$name};

  SKIP:
	{
		skip "$name is not here", 4 if !is_there(@{ $driver->{probe} });
		my ($plain_good, $plain) = run_it(0, @{ $driver->{command} });
		my ($pooled_good, $pooled, $pool) = run_it(1, @{ $driver->{command} });
		my @seen = map { [ split /:/ ] } grep { /^\d/ } split /\n/, $pooled;
		my %processes = map { $_->[0] => 1 } @seen;

		ok($plain_good && $pooled_good, "$name: runs as it is, and pooled");
		is($pooled =~ s/^\d+//mgr, $plain =~ s/^\d+//mgr, "$name: nobody meets what another left");
		if ($driver->{closes_sockets})
		{
			is(scalar keys %processes, 6, "$name: closes its sockets itself, so that nothing is left to be pooled");
		}
		else
		{
			# step by step a reset is not waited for: a second connection, on a slow machine more, is no fault
			cmp_ok(scalar keys %processes, '<=', $driver->{loose} ? 5 : 1, "$name: is pooled");
		}
		is($pool->{'asked for'}, 6, "$name: was seen to connect");
	}
}

# Two at a time, many times; one in ten is closed while its query runs, and is nothing to lend.
SKIP:
{
	skip 'node, pg-native is not here', 8 if !is_there('node', '-e', 'require("pg-native")');
	my @command = ('node', script('many.js', <<"END"));
const Client = require('pg-native');
const clean = /^\\d+:4MB:true:true:0\$/;
let wrong = 0, done = 0;
function connect(left) {
	const client = new Client();
	client.connect('', error => {
		if (error) throw error;
		client.query(`$look`, (error, rows) => {
			if (error) throw error;
			if (!clean.test(Object.values(rows[0])[0])) wrong++;
			client.query(`$leave`, error => {
				if (error) throw error;
				const next = () => { done++; if (left > 1) connect(left - 1); };
				if (left % 10 !== 0) return client.end(next);
				client.query('SELECT pg_sleep(0.5)', () => { throw Error('it was closed'); });
				setImmediate(() => client.end(next));
			});
		});
	});
}
connect(100);
connect(100);
process.on('beforeExit', () => console.log(done, wrong));
END
	for my $batches (0, 1)
	{
		my $how = $batches ? ', in batches' : '';
		my ($ended, $said, $pool) = run_it(1, { UV_USE_IO_URING => $batches }, @command);
		is($said, "200 0\n", "node, two at a time$how: each is as new, and node ends when nothing is left");
		is($pool->{'asked for'}, 200, "node, two at a time$how: all were seen");
		cmp_ok($pool->{opened}, '<=', 20 + 5, "node, two at a time$how: most are reused");
		cmp_ok($pool->{opened}, '>=', 20, "node, two at a time$how: ... but not those that were busy");
	}
}

# A master that connects, closes, and forks workers that do the same.
SKIP:
{
	skip 'psycopg2 is not here', 2 if !is_there('/usr/bin/python3', '-c', 'import psycopg2');
	my ($forked, $said) = run_it(1, '/usr/bin/python3', script('prefork.py', <<'END'));
import os, psycopg2, sys

def process():
	conn = psycopg2.connect("")
	cursor = conn.cursor()
	cursor.execute("SELECT pg_backend_pid()")
	pid = cursor.fetchone()[0]
	conn.close()
	return pid

master = process()
children = []
for i in range(3):
	child = os.fork()
	if child == 0:
		sys.stdout.write("%d\n" % len({process(), process(), process()} | {master}))
		sys.stdout.flush()
		os._exit(0)
	children.append(child)
for child in children:
	os.waitpid(child, 0)
print("master", process() == master)
END
	ok($forked, 'prefork: runs');
	is(join(' ', sort split /\n/, $said), '2 2 2 master True', 'prefork: each process has a session of its own, and keeps it');
}

done_testing();
