# pqpool-run and its environment: what it says, what it refuses, and whom it leaves alone.

use strict;
use warnings;

use IPC::Run;
use PgpoolMonitor;
use Test::More;

my $bin = "$ENV{STAGE_PREFIX}/bin";
my $run = "$bin/pqpool-run";
my $library = "$ENV{STAGE_PREFIX}/lib/libpqpool_preload.so";
my $node = PgpoolMonitor::node('settings');
my $work = PostgreSQL::Test::Utils::tempdir();

# (status, standard output, standard error)
sub result_of
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($<));
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return ($? >> 8, $out, $err);
}

sub write_file
{
	my ($name, $text, $mode) = @_;
	open(my $handle, '>', "$work/$name") or die "$name: $!";
	print $handle $text;
	close $handle or die "$name: $!";
	chmod $mode, "$work/$name" or die "$name: $!" if $mode;
	return "$work/$name";
}

# --- the launcher

my ($status, $out, $err) = result_of($run, '--help');
is($status, 0, '--help');
my %documented = map { $_ => 1 } $out =~ /^  --([a-z-]+)=/mg;
open(my $header, '<', 'client/include/pqpool.h') or die "pqpool.h: $!";
my %known = map { s/_/-/gr => 1 } join('', <$header>) =~ /^ \* pool_(\w+)\t/mg;
delete @known{qw(min-size peek-after bind)}; # mean nothing here
delete $documented{'max-idle'}; # means nothing to one pool
is_deeply(\%documented, \%known, 'the pool\'s options, all of them');

for (
	[ ['--max-sise=3', 'true'], qr/^pqpool-run: unknown option "--max-sise=3"; pqpool-run --help lists them$/ ],
	[ ['-x', 'true'], qr/^pqpool-run: unknown option "-x"/ ],
	[ ['--max-size'], qr/^pqpool-run: option "--max-size" needs a value$/ ],
	[ ['--max-size=', 'true'], qr/^pqpool-run: option "--max-size" needs a value$/ ],
	[ [], qr/^pqpool-run: no program to run/ ],
	[ ['--'], qr/^pqpool-run: no program to run/ ],
	[ ['--check'], qr/^pqpool-run: --check takes one program$/ ])
{
	my ($arguments, $expected) = @$_;
	($status, $out, $err) = result_of($run, @$arguments);
	is($status, 2, "pqpool-run @$arguments: refused");
	like($err, $expected, "pqpool-run @$arguments: says why");
	is(() = $err =~ /\n/g, 1, "pqpool-run @$arguments: in one line");
}
($status, $out, $err) = result_of($run, "$work/nonesuch");
is($status, 127, 'a program that is not there');
like($err, qr{cannot run ".*/nonesuch": No such file}, 'says so');
is((result_of($run, 'sh', '-c', 'exit 7'))[0], 7, 'the program\'s status is the launcher\'s');
is((result_of($run, '--max-size=7', '--', 'sh', '-c', 'echo $PQPOOL_MAX_SIZE $LD_PRELOAD'))[1], "7 $library\n", 'what it sets');
{
	local $ENV{LD_PRELOAD} = $library;
	is((result_of($run, 'sh', '-c', 'echo $LD_PRELOAD'))[1], "$library\n", 'not twice');
}

# --- can it be pooled?

sub check_is
{
	my ($program, $expected, $why, $what) = @_;
	my ($code, $text) = result_of($run, '--check', $program);
	is($code, $expected, "--check: $what");
	like($text, $why, "--check: $what, and why");
	return;
}

my $libexec = `"$ENV{PG_CONFIG}" --bindir`;
chomp $libexec;
check_is("$libexec/pgbench", 0, qr/can be pooled: it links libpq dynamically/, 'a program that links libpq');
check_is('/bin/sh', 0, qr/can be pooled: if it loads libpq later/, 'one that could load it');
check_is(write_file('a.pl', "#!/usr/bin/perl -w\n", 0755), 0, qr{a script of /usr/bin/perl\n.*can be pooled}, 'a script');
check_is(write_file('b.sh', "#!/usr/bin/env -S sh -e\n", 0755), 0, qr{a script of .*/sh\n.*can be pooled}, 'a script by way of env');
check_is(write_file('c.txt', "hello\n", 0755), 1, qr/neither a program nor a script/, 'a text');
my ($setuid) = grep { -u $_ && -r $_ } glob '/bin/su /usr/bin/passwd /usr/bin/chsh /usr/bin/newgrp';
check_is($setuid, 1, qr/more rights than its user/, 'a program that runs as another user') if $setuid;
SKIP:
{
	skip 'no program runs as another user here', 2 if !$setuid;
	my @plain = result_of($setuid, '--help');
	my @pooled = result_of($run, '--stats', '--', $setuid, '--help');
	is("@pooled[0, 1]", "@plain[0, 1]", 'which runs as it always does');
	unlike($pooled[2], qr/pqpool/, 'with nothing of ours in it');
}
my @needed = grep { !/^ld-linux/ } `readelf -d '$library'` =~ /\(NEEDED\).*\[(.*)\]/g;
is("@needed", 'libc.so.6', 'the library needs the C library, and nothing else');
my $source = write_file('static.c', "int main(void) { return 0; }\n");
SKIP:
{
	skip 'nothing can be linked statically here', 2 if system("$ENV{CC} -static -o $work/static $source 2>/dev/null") != 0;
	check_is("$work/static", 1, qr/linked statically/, 'a static program');
}

# --- bad values: a line, and the program runs

my $count = q{SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()};
($status, $out, $err) = result_of($run, '--max-size=many', 'psql', '-XAtc', $count);
is("$status $out", "0 1\n", 'a bad value: the program runs');
like($err, qr/^pqpool: invalid value "many" for PQPOOL_MAX_SIZE .*; the program runs without a pool$/, 'and says what is wrong')
  or diag($err);
is(() = $err =~ /\n/g, 1, 'in one line');
($status, $out, $err) = result_of($run, '--strict', '--reset=maybe', 'psql', '-XAtc', $count);
is("$status $out", '2 ', '--strict: it does not');
like($err, qr/^pqpool: invalid value "maybe" for PQPOOL_RESET .*; not started/, 'and says so') or diag($err);
($status, $out, $err) = result_of($run, '--max-idle=none', 'psql', '-XAtc', $count);
is("$status $out", "0 1\n", 'a bad bound on idle connections: the program runs');
like($err, qr/^pqpool: invalid value "none" for PQPOOL_MAX_IDLE .*; the program runs without a pool$/, 'and says so') or diag($err);
for ('service=nonesuch', 'connect_timeout=soon', 'sslmode=bogus')
{
	($status, $out, $err) = result_of($run, '--strict', 'psql', '-XAtc', $count, $_);
	is($status, 2, "$_: libpq's to refuse");
	like($err, qr/^psql: error: /, "$_: and the program's to tell, even with --strict");
	unlike($err, qr/pqpool/, "$_: we have nothing to say");
}
{
	local $ENV{PQPOOL_PORT_5432_TCP} = 'tcp://10.0.0.1'; # Kubernetes makes such
	($status, $out, $err) = result_of($run, 'psql', '-XAtc', $count);
	is("$status $out$err", "0 1\n", 'a variable that only looks like one of ours');
}
{
	local $ENV{PQPOOL_STATS} = 'perhaps';
	($status, $out, $err) = result_of($run, 'psql', '-XAtc', $count);
	is("$status $out", "0 1\n", 'a bad word for on or off');
	like($err, qr/^pqpool: PQPOOL_STATS is "perhaps": it must be on or off; taken as off$/, 'is told of');
}
{
	local $ENV{PQPOOL_PRELOAD} = 'off';
	($status, $out, $err) = result_of($run, '--stats', 'psql', '-XAtc', $count);
	is("$status $out$err", "0 1\n", 'off is off');
}

# --- who does not use libpq

($status, $out, $err) = result_of($run, '--stats', 'true');
is($status, 0, 'a program without libpq');
like($err, qr/asked for: 0; reused: 0/, 'has nothing to show');

# --- the server sees it

$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS pgpool_monitor');
my $seen = q{SELECT pool || ':' || sessions FROM pgpool_monitor.pools WHERE pool = 'nightly'};
($status, $out) = result_of($run, '--name=nightly', 'psql', '-XAtc', $seen);
is($out, "nightly:1\n", 'the pool has its name on the server');

# --- files that decide who connects

my $passfile = write_file('pass', "*:*:*:*:one\n", 0600);
my $loop = write_file('files.py', <<"END");
import psycopg2, os

def process():
	conn = psycopg2.connect("passfile=$passfile")
	pid = conn.info.backend_pid
	conn.close()
	return pid

first = process()
same = process() == first
with open("$passfile", "w") as file:
	file.write("*:*:*:*:another\\n")
print(same, process() == first)
os.environ["PGAPPNAME"] = "changed"
print(process() == first)
END
SKIP:
{
	skip 'psycopg2 is not here', 1 if !eval { IPC::Run::run([ '/usr/bin/python3', '-c', 'import psycopg2' ], '<', \undef, '>&', \my $noise) };
	($status, $out, $err) = result_of($run, '/usr/bin/python3', $loop);
	is($out, "True False\nFalse\n", 'a password file that has changed, or the environment, ends what was pooled') or diag($err);
}

# --- what is left at the end is the kernel's to close, and nothing for the server's log

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/could not (receive|send) data/, 'no noise in the server\'s log');

done_testing();
