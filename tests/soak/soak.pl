#!/usr/bin/perl
#
# soak.pl PROGRAM [ARGUMENT]...: run a soak with a server of its own, and restart that when the program asks for it. Called by
# run_one.sh.
#
# The program finds the server by libpq's own PGHOST, PGPORT and PGDATABASE. It writes how the server shall be stopped, a line
# ("fast", "immediate"), to the descriptor SOAK_ASK_FD, and reads "done" from SOAK_ANSWER_FD when the server has been started again.

use strict;
use warnings;

# PostgreSQL's modules send standard output to a log; the program shall have the real one.
my ($out, $err);

BEGIN
{
	open($out, '>&', \*STDOUT) or die "dup: $!";
	open($err, '>&', \*STDERR) or die "dup: $!";
}

use Fcntl qw(F_SETFD);
use IO::Handle;
use PgpoolMonitor;

my @program = @ARGV;

my $node = PgpoolMonitor::node('server', 'pgpool_monitor.mode' => 'share', max_connections => 200);

pipe(my $requests, my $ask) or die "pipe: $!";
pipe(my $answer, my $answers) or die "pipe: $!";
$answers->autoflush(1);

my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	close $requests;
	close $answers;
	open(STDOUT, '>&', $out) or die "dup: $!";
	open(STDERR, '>&', $err) or die "dup: $!";
	fcntl($_, F_SETFD, 0) for $ask, $answer;
	$ENV{SOAK_ASK_FD} = fileno $ask;
	$ENV{SOAK_ANSWER_FD} = fileno $answer;
	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	$ENV{PGDATABASE} = 'postgres';
	exec { $program[0] } @program or die "$program[0]: $!";
}
close $ask;
close $answer;

while (defined(my $mode = readline $requests))
{
	chomp $mode;
	$node->stop($mode);
	$node->start;
	print $answers "done\n";
}
waitpid($pid, 0);
exit verdict($node, $?, $out, 'FAILED:');
