# Pools in other languages take part by two startup options: psycopg2's in Python, pg's in JavaScript.

use strict;
use warnings;

use IPC::Run;
use PgpoolMonitor;
use Test::More;

my $node = PgpoolMonitor::node('drivers');
my $pools = q{SELECT string_agg(concat_ws(':', pool, instances, sessions, active, idle_in_xact), ' ' ORDER BY pool)
	FROM pgpool_monitor.pools WHERE sessions > 0 AND pool NOT LIKE '(%'};

# Start a script that says "ready", waits for a line, and so on; (its handle, functions to wait for it and to send it on).
sub start_script
{
	my (@command) = @_;
	my ($in, $out) = ("", "");
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($<));
	my $handle = IPC::Run::start(\@command, '<', \$in, '>', \$out, '2>&1');
	my $steps = 0;
	return {
		ready => sub {
			$steps++;
			return wait_until(sub { eval { $handle->pump_nb }; return (() = $out =~ /^ready$/mg) >= $steps; }, $_[0])
				|| diag($out);
		},
		next => sub { $in .= "\n"; $handle->pump_nb; return; },
		out => sub { return $out; },
		end => sub { return eval { $handle->finish; 1 } && $handle->result(0) == 0; } };
}

sub runs
{
	my (@command) = @_;
	return eval { IPC::Run::run(\@command, '<', \undef, '>&', \my $noise) };
}

# --- psycopg2

SKIP:
{
	my $python = '/usr/bin/python3';
	skip 'no psycopg2 here', 1 if !-x $python || !runs($python, '-c', 'import psycopg2');

	my $script = start_script($python, '-c', <<'END');
import psycopg2, psycopg2.pool, sys, uuid

def ready():
	print("ready", flush=True)
	sys.stdin.readline()

# A name is all that it takes to be seen.
named = psycopg2.pool.ThreadedConnectionPool(3, 5, options="-c pgpool_monitor.pool=django")
a = named.getconn()
a.cursor().execute("SELECT 1")
ready()
named.closeall()

# With an id the sessions of several processes of one host are told apart, and the pool can tell what only it knows.
me = uuid.uuid4().hex
told = psycopg2.pool.ThreadedConnectionPool(2, 5,
	options="-c pgpool_monitor.pool=flask\\ app -c pgpool_monitor.instance=" + me + ";report=1")
b = told.getconn()
b.autocommit = True
print("allotment " + str(b.get_parameter_status("pgpool_monitor.allotment")).replace(me, "ME"))
b.cursor().execute("SELECT pg_catalog.set_config('pgpool_monitor.report', %s, false)",
	("v=1;seq=1;max=5;idle=1;in_use=1;waiting=7;loans=%d:5000:1:views.py%%3A12" % b.get_backend_pid(),))
ready()
told.closeall()
END
	$script->{ready}->('psycopg2: a pool with a name');
	is($node->safe_psql('postgres', $pools), 'django:1:3:0:1', 'psycopg2: is seen, and what its sessions do');
	$script->{next}->();
	$script->{ready}->('psycopg2: a pool with an id');
	is($node->safe_psql('postgres', $pools), 'flask app:1:2:0:0', 'psycopg2: is seen, and the other one is gone');
	is($node->safe_psql('postgres', q(SELECT concat_ws(':', in_use, idle, waiting, demand) FROM pgpool_monitor.pools
		WHERE pool = 'flask app')), '1:1:7:8', 'psycopg2: with what it has reported');
	is($node->safe_psql('postgres', q(SELECT call_site FROM pgpool_monitor.sessions WHERE call_site IS NOT NULL)),
		'views.py:12', 'psycopg2: and where a connection is held');
	like($script->{out}->(), qr/^allotment id=ME;inc=.*;state=/m, 'psycopg2: it can read what it is allotted');
	$script->{next}->();
	ok($script->{end}->(), 'psycopg2: the script ends');
}
wait_for_query($node, $pools, '', 'nothing is left');

# --- pg of JavaScript

SKIP:
{
	local $ENV{NODE_PATH} = join(':', '/usr/share/nodejs', $ENV{NODE_PATH} // ());
	skip 'no pg for JavaScript here', 1 if !runs('node', '-e', 'require("pg")');

	my $script = start_script('node', '-e', <<'END');
const { Pool } = require('pg');
const lines = require('readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ready = () => { console.log('ready'); return lines.next(); };

(async () => {
	const pool = new Pool({ max: 4, host: process.env.PGHOST, options: '-c pgpool_monitor.pool=express' });
	const clients = await Promise.all([1, 2, 3].map(() => pool.connect()));
	await clients[0].query('BEGIN');
	await clients[1].query('SELECT 1');
	await ready();
	clients.forEach(client => client.release());
	await pool.end();
	process.exit(0);
})();
END
	$script->{ready}->('pg: a pool with a name');
	is($node->safe_psql('postgres', $pools), 'express:1:3:0:1', 'pg: is seen, and what its sessions do');
	$script->{next}->();
	ok($script->{end}->(), 'pg: the script ends');
}
wait_for_query($node, $pools, '', 'nothing is left');
done_testing();
