#!/usr/bin/perl
#
# with_server.pl SOURCE PROGRAM [ARGUMENT]...: run one test of the client library with a server of its own, and pass on its TAP
# and its verdict. Called by run_one.sh.
#
# The server has pgpool_monitor loaded and created; what else it shall have stands in the first comment of the test's source,
# a line each:   server: name = value
# and what shall be in the program's environment:   environment: NAME = value
# The program finds it by libpq's own PGHOST, PGPORT and PGDATABASE.

use strict;
use warnings;

# PostgreSQL's modules send standard output to a log; the program shall have the real one.
my ($out, $err);

BEGIN
{
	open($out, '>&', \*STDOUT) or die "dup: $!";
	open($err, '>&', \*STDERR) or die "dup: $!";
}

use PgpoolMonitor;

my ($source, @program) = @ARGV;

my (%settings, %environment);
open(my $fh, '<', $source) or die "$source: $!";
while (<$fh>)
{
	$settings{$1} = $2 if m{^[\s/#]*\*\s*server:\s*([\w.]+)\s*=\s*(.*?)\s*(?:\*/)?$};
	$environment{$1} = $2 if m{^[\s/#]*\*\s*environment:\s*(\w+)\s*=\s*(.*?)\s*(?:\*/)?$};
	last if m{\*/};
}
close $fh;

my $node = PgpoolMonitor::node('server', %settings);

my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	open(STDOUT, '>&', $out) or die "dup: $!";
	open(STDERR, '>&', $err) or die "dup: $!";
	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	$ENV{PGDATABASE} = 'postgres';
	%ENV = (%ENV, %environment);
	exec { $program[0] } @program or die "$program[0]: $!";
}
waitpid($pid, 0);
exit verdict($node, $?, $out, '#');
