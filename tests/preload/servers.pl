# The preloaded pool and what a server can be: behind TLS, passwords, and several hosts; behind PgBouncer; without the extension; a
# standby that is promoted; one that becomes read-only; replication connections; files that change in between.
#
# timeout: 600

use strict;
use warnings;

use IPC::Run;
use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $work = PostgreSQL::Test::Utils::tempdir();
my $user = getpwuid($<);

sub write_file
{
	my ($name, $text) = @_;
	open(my $handle, '>', "$work/$name.new") or die "$name: $!";
	print $handle $text;
	close $handle or die "$name: $!";
	chmod 0600, "$work/$name.new" or die "$name: $!";
	rename "$work/$name.new", "$work/$name" or die "$name: $!";
	return "$work/$name";
}

# --- a program that does what it is told, pooled or not (programs/visits.c)

sub start_visits
{
	my (@with) = @_;
	my %v = (in => '', out => '', err => '');
	local %ENV = (%ENV, PGDATABASE => 'postgres', PGUSER => $user);
	delete @ENV{qw(PGHOST PGPORT)};
	$v{timer} = IPC::Run::timeout(180);
	$v{handle} = IPC::Run::start([ @with, "$ENV{STAGE_OUT}/preload/visits" ],
		'<', \$v{in}, '>', \$v{out}, '2>', \$v{err}, $v{timer});
	return \%v;
}

# Its answer, in parts.
sub order
{
	my ($v, @parts) = @_;
	$v->{timer}->start(180);
	$v->{in} .= join("\t", @parts) . "\n";
	$v->{handle}->pump until $v->{out} =~ /\n/;
	$v->{out} =~ s/^(.*)\n// or die "@parts: no answer";
	return split /\t/, $1, -1;
}

sub end_visits
{
	my ($v) = @_;
	$v->{in} .= "end\n"; # another program may have a copy of its pipe
	ok($v->{handle}->finish, 'it ends well');
	return { $v->{err} =~ /(asked for|reused|opened|failed|not pooled): (\d+)/g };
}

my $pooled = start_visits($run, '--stats', '--');
my $plain = start_visits();

# Pooled and plainly a connection has to fail in the same way.
sub fails_alike
{
	my ($conninfo, $expected, $what) = @_;
	my ($failed, $said) = order($pooled, 'connect', $conninfo);
	my (undef, $plainly) = order($plain, 'connect', $conninfo);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($failed, 'failed', "$what: fails");
	is($said, $plainly, "$what: as libpq says");
	like($said, $expected, "$what: and why");
	return;
}

# Two visits in the same session, of which the second finds nothing of the first. Returns the process.
sub is_pooled
{
	my ($conninfo, $what) = @_;
	my ($first) = order($pooled, 'connect', $conninfo, q{SET work_mem = '7MB'}, 'BEGIN');
	my ($second, undef, undef, $work_mem, $idle) =
		order($pooled, 'connect', $conninfo, 'SHOW work_mem', 'SELECT now() = statement_timestamp()');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($second, $first, "$what: the same session");
	is("$work_mem $idle", '4MB t', "$what: as new");
	return $second;
}

# --- the servers

my $node = PgpoolMonitor::node('primary', listen_addresses => '127.0.0.1', wal_level => 'replica', max_wal_senders => 10,
	hot_standby => 'on', fsync => 'off', password_encryption => 'scram-sha-256');
my $local = "host=${\ $node->host} port=${\ $node->port}";
my $tcp = "host=127.0.0.1 port=${\ $node->port}";

$node->safe_psql('postgres', q{CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE DATABASE other;});
my $hba = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/pg_hba.conf');
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "host all locked 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n$hba");
for my $name (qw(server stranger))
{
	run_log([ 'openssl', 'req', '-new', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1', '-addext',
		'subjectAltName = IP:127.0.0.1', '-keyout', "$work/$name.key", '-out', "$work/$name.crt" ]) or die "no certificate";
}
PgpoolMonitor::set($node, ssl => 'on', ssl_key_file => "$work/server.key", ssl_cert_file => "$work/server.crt");
$node->restart;

# --- TLS

for my $how ("sslmode=require", "sslmode=verify-full sslrootcert=$work/server.crt")
{
	is_pooled("$tcp $how", $how =~ s/ .*//r);
	is((order($pooled, $_, "$tcp $how", 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'))[3], 't', "over TLS, by $_")
	  for qw(connect start);
}
fails_alike("$tcp sslmode=verify-full sslrootcert=$work/stranger.crt", qr/certificate verify failed/, 'a stranger\'s certificate');
fails_alike("$local sslmode=verify-full sslrootcert=$work/nonesuch port=1", qr/No such file/, 'no server');

# --- passwords

my $locked = "$tcp user=locked";
my $right = is_pooled("$locked password=right", 'a password');
fails_alike("$locked password=wrong", qr/password authentication failed/, 'a wrong one');
fails_alike($locked, qr/no password supplied/, 'none');
is((order($pooled, 'connect', "$locked password=right"))[0], $right, 'the one with the right one is still there');
is((order($pooled, 'set', 'PGPASSWORD', 'right'))[0], 'done', 'by the environment');
isnt(is_pooled($locked, 'a password by the environment'), $right, 'which is another way to connect');
order($_, 'set', 'PGPASSWORD', 'wrong') for $pooled, $plain;
fails_alike($locked, qr/password authentication failed/, 'a wrong one by the environment');
order($_, 'set', 'PGPASSWORD') for $pooled, $plain;

write_file('pass', "*:*:*:locked:right\n");
my $by_file = is_pooled("$locked passfile=$work/pass", 'a password file');
write_file('pass', "*:*:*:locked:wrong\n");
fails_alike("$locked passfile=$work/pass", qr/password authentication failed.*retrieved from file/, 'a file that changed');
write_file('pass', "# new\n*:*:*:locked:right\n");
isnt(is_pooled("$locked passfile=$work/pass", 'a file that changed back'), $by_file, 'what was open by the old one is not lent');

# What the server would not take any more is lent as long as it lives, as a connection that is held would be used.
$node->safe_psql('postgres', q{ALTER ROLE locked PASSWORD 'changed'});
is((order($pooled, 'connect', "$locked password=right"))[0], $right, 'a password changed on the server: what is open stays open');

# --- services

order($_, 'set', 'PGSERVICEFILE', "$work/services") for $pooled, $plain;
write_file('services', "[shop]\nhost=127.0.0.1\nport=${\ $node->port}\ndbname=postgres\n");
is_pooled('service=shop', 'a service');
is((order($pooled, 'connect', 'service=shop', 'SELECT current_database()'))[3], 'postgres', 'leads where the file says');
write_file('services', "[shop]\nhost=127.0.0.1\nport=${\ $node->port}\ndbname=other\n");
is((order($pooled, 'connect', 'service=shop', 'SELECT current_database()'))[3], 'other', 'also when it says otherwise');
write_file('services', "[market]\nhost=127.0.0.1\n");
fails_alike('service=shop', qr/definition of service "shop" not found/, 'a service that is gone');

# --- a server without the extension

my $bare = PgpoolMonitor::unstarted_node('bare', shared_preload_libraries => undef);
$bare->start;
is_pooled("host=${\ $bare->host} port=${\ $bare->port}", 'a server without the extension');

# What dies after it has answered to the reset, while nobody looks, is not lent: not even where that answer is still to be read.
my $lone = "host=${\ $bare->host} port=${\ $bare->port}";
my ($victim) = order($pooled, 'connect', $lone, 'SELECT 1');
wait_for_query($bare, "SELECT query, state FROM pg_stat_activity WHERE pid = $victim", 'DISCARD ALL|idle', 'a reset is answered');
kill 'KILL', $victim;
wait_until(sub { return !kill 0, $victim; }, 'its session dies without a word');
wait_for_query($bare, 'SELECT 1', 1, 'and the server is there again');
is((order($pooled, 'connect', $lone, 'SELECT 1'))[3], 1, 'the next one gets one that works');

# --- replication connections

my @ends = ("$local replication=database", "$local replication=true", "$local replication=1 application_name=walreceiver");
for my $conninfo (@ends)
{
	my $what = $conninfo =~ s/.*?(replication=\w+).*/$1/r;
	my ($first, undef, undef, $system) =
		order($pooled, 'connect', $conninfo, 'IDENTIFY_SYSTEM', 'CREATE_REPLICATION_SLOT left TEMPORARY PHYSICAL');
	my ($second, undef, undef, $again) = order($pooled, 'connect', $conninfo, 'IDENTIFY_SYSTEM');
	ok($system && $system eq $again, "$what: works");
	isnt($second, $first, "$what: passes through");
}
my ($out, $err) = ('', '');
ok(IPC::Run::run([ $run, '--', 'pg_basebackup', '-d', $local, '-D', "$work/base", '-X', 'stream', '-c', 'fast' ],
	'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180)), 'pg_basebackup, which has two') or diag($err);
ok(-s "$work/base/backup_manifest", 'copies all of it');
my $lsn = $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
ok(IPC::Run::run([ $run, '--', 'pg_receivewal', '-d', $local, '-D', $work, '--no-loop', '--endpos', $lsn ],
	'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180)), 'pg_receivewal') or diag($err);

# --- a standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
PgpoolMonitor::set($standby, listen_addresses => '', ssl => 'off');
$standby->start;
my $second = "host=${\ $standby->host} port=${\ $standby->port}";
my $both = "host=${\ $standby->host},${\ $node->host} port=${\ $standby->port},${\ $node->port}";

is_pooled($second, 'a standby');
my ($on_primary, undef, $port) = order($pooled, 'connect', "$both target_session_attrs=read-write");
is($port, $node->port, 'target_session_attrs=read-write: the primary, though it is the second');
is((order($pooled, 'connect', "$both target_session_attrs=read-write"))[0], $on_primary, 'and the same session again');
my ($on_standby) = order($pooled, 'connect', "$both target_session_attrs=standby");
is(is_pooled("$both target_session_attrs=standby", 'target_session_attrs=standby'), $on_standby, 'the standby');
is((order($pooled, 'connect', "$both target_session_attrs=read-only"))[2], $standby->port, 'target_session_attrs=read-only, too');
fails_alike("$second target_session_attrs=read-write", qr/session is read-only/, 'a standby where one wants to write');

# A server that does not match any more is lent at most once: the answer to the reset after that tells what it is now.
PgpoolMonitor::set($node, default_transaction_read_only => 'on');
$node->reload;
wait_for_query($node, 'SHOW default_transaction_read_only', 'on', 'the primary is read-only from now on');
fails_alike("$local target_session_attrs=read-write", qr/session is read-only/, 'for new ones');
order($pooled, 'connect', "$both target_session_attrs=read-write");
fails_alike("$both target_session_attrs=read-write", qr/session is read-only/, 'and for those that were open');
PgpoolMonitor::set($node, default_transaction_read_only => 'off');
$node->reload;
wait_for_query($node, 'SHOW default_transaction_read_only', 'off', 'the primary can write again');
is_pooled("$both target_session_attrs=read-write", 'and is found again');

$standby->promote;
(my $own) = order($pooled, 'connect', "$both target_session_attrs=read-write", 'SET default_transaction_read_only = on');
is((order($pooled, 'connect', "$both target_session_attrs=read-write"))[0], $own, 'a holder\'s own setting says nothing of it');
order($pooled, 'connect', "$both target_session_attrs=standby");
fails_alike("$both target_session_attrs=standby", qr/server is not in hot standby mode/, 'promoted, for those who want a standby');

$node->stop('fast');
my ($now, undef, $where) = order($pooled, 'connect', "$both target_session_attrs=read-write", 'CREATE TABLE written ()');
is($where, $standby->port, 'after a failover: the new primary, at once');
is((order($pooled, 'connect', "$both target_session_attrs=read-write", 'SELECT count(*) FROM written'))[3], 0,
	'which can be written to');
my $turned = "host=${\ $node->host},${\ $standby->host} port=${\ $node->port},${\ $standby->port}";
is((order($pooled, 'connect', $turned))[2], $standby->port, 'the first host is down: the second one');
is_pooled($turned, 'the first host is down');
fails_alike($local, qr/No such file/, 'no server at all');
$node->start;

# --- PgBouncer

SKIP:
{
	my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH});
	skip 'no pgbouncer here', 1 if !$program;
	for my $mode (qw(session transaction))
	{
		my $directory = PostgreSQL::Test::Utils::tempdir_short();
		my $bouncer_port = PostgreSQL::Test::Cluster::get_free_port();
		append_to_file("$directory/bouncer.ini", <<"END");
[databases]
* = host=${\ $node->host} port=${\ $node->port} user=$user
[pgbouncer]
listen_port = $bouncer_port
unix_socket_dir = $directory
logfile = $directory/log
auth_type = any
pool_mode = $mode
default_pool_size = 5
END
		my $bouncer = IPC::Run::start([ $program, '-q', "$directory/bouncer.ini" ], '<', \undef, '>&', \my $noise);
		wait_until(sub { return -S "$directory/.s.PGSQL.$bouncer_port"; }, "PgBouncer, $mode mode: started");
		my $conninfo = "host=$directory port=$bouncer_port";
		my $what = "PgBouncer, $mode mode";

		# what it tells as the process is its own key for a cancel: the same as long as we are connected to it
		is_pooled($conninfo, $what);
		# step by step it is too late for a second attempt, once
		my ($steps) = order($pooled, 'start', "$conninfo application_name=steps", 'SELECT 1');
		is($steps, 'failed', "$what: step by step the first attempt fails, as is documented");
		my ($later, undef, undef, $one) = order($pooled, 'start', "$conninfo application_name=steps", 'SELECT 1');
		is($one, 1, "$what: the next one does not");
		is((order($pooled, 'start', "$conninfo application_name=steps", 'SELECT 1'))[3], 1, "$what: nor one after that");
		my $refusals = () = slurp_file("$directory/log") =~ /pooler error: unsupported startup parameter/g;
		is($refusals, 2, "$what: refused once each, and remembered");
		$bouncer->signal('KILL');
		eval { $bouncer->finish; };
		fails_alike($conninfo, qr/Connection refused/, "$what: gone");
	}
}

my $summary = end_visits($pooled);
cmp_ok($summary->{reused}, '>', 20, 'all this was pooled');
end_visits($plain);
done_testing();
