package PgpoolMonitor;

# What the end-to-end tests (tests/t/*.pl) have in common: a server with the extension, and waiting for things to become true.
#
#   use PgpoolMonitor;
#   use Test::More;
#   my $node = PgpoolMonitor::node('main', 'pgpool_monitor.mode' => 'share', max_connections => 30);
#   wait_for_query($node, q(SELECT count(*) FROM pgpool_monitor.pools), '1', 'the pool shows');
#   done_testing();
#
# A node is PostgreSQL::Test::Cluster's, whose manual is `perldoc` of that module; it is stopped when the test ends.

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(nulls_are_documented wait_until wait_for_query wait_for_log_line start_program verdict);

# node(NAME, setting => value...): a running server that has the library preloaded and the extension created in "postgres".
# A setting given as undef is left out, so that (shared_preload_libraries => undef) is a server that was not preloaded.
sub node
{
	my ($name, %settings) = @_;
	my $node = unstarted_node($name, %settings);

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgpool_monitor');
	return $node;
}

# The same, neither started nor with the extension.
sub unstarted_node
{
	my ($name, %settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my %all = (
		shared_preload_libraries => 'pgpool_monitor',
		# So that the tests' own psql sessions are nobody's; 205_identify.pl is about what they are else.
		'pgpool_monitor.identify' => 'options',
		max_connections => 100,
		# The modules' defaults are made for debugging a backend: every statement in the log, no restart after a crash.
		log_statement => 'none',
		restart_after_crash => 'on',
		%settings);

	$node->init;
	set($node, %all);
	return $node;
}

# set($node, setting => value...): append to its postgresql.conf; the caller reloads or restarts.
sub set
{
	my ($node, %settings) = @_;

	for my $setting (sort keys %settings)
	{
		next if !defined $settings{$setting};
		(my $value = $settings{$setting}) =~ s/'/''/g;
		$node->append_conf('postgresql.conf', "$setting = '$value'");
	}
	return;
}

# wait_until(CODE, WHAT, SECONDS = 60): call CODE until it returns true, and pass the test WHAT; fail it after SECONDS.
# Returns what CODE returned last. A condition is waited for, never a length of time.
sub wait_until
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
	ok($result, $what);
	return $result;
}

# wait_for_query(NODE, SQL, EXPECTED, WHAT, SECONDS): until the query answers EXPECTED (a string, or qr//).
sub wait_for_query
{
	my ($node, $sql, $expected, $what, $seconds) = @_;
	my ($answer, $error);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(
		sub {
			(undef, $answer, $error) = $node->psql('postgres', $sql);
			return ref $expected ? $answer =~ $expected : $answer eq $expected;
		},
		$what,
		$seconds) || do { diag("last answer: $answer\n$error"); 0 };
}

# wait_for_log_line(NODE, REGEX, WHAT, OFFSET): until the server's log has it, from byte OFFSET on.
sub wait_for_log_line
{
	my ($node, $regex, $what, $offset) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { return substr(slurp_file($node->logfile), $offset // 0) =~ $regex; }, $what);
}

# nulls_are_documented(NODE, WHAT): wherever a column of a view is NULL now, its comment says what that means.
sub nulls_are_documented
{
	my ($node, $what) = @_;
	my @columns = map { [ split /\|/, $_, 3 ] } split /\n/, $node->safe_psql('postgres', q(SELECT relname, attname,
		coalesce(col_description(attrelid, attnum), '') FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
		WHERE relnamespace = 'pgpool_monitor'::regnamespace AND relkind = 'v' AND attnum > 0));
	my @silent;

	for my $view (keys %{ { map { $_->[0] => 1 } @columns } })
	{
		my @of = grep { $_->[0] eq $view } @columns;
		my $sums = join ', ', map { "coalesce(bool_or($_->[1] IS NULL), false)" } @of;
		my @null = split /\|/, $node->safe_psql('postgres', "SELECT $sums FROM pgpool_monitor.$view");

		push @silent, map { "$view.$of[$_][1]" } grep { $null[$_] eq 't' && $of[$_][2] !~ /\bNULL\b/ } 0 .. $#of;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', sort @silent), '', "each NULL is documented: $what");
	return;
}

# start_program(NODE, NAME, ARGUMENT...): start tests/programs/NAME.c against the server; returns IPC::Run's handle and a
# reference to its output (standard output and error together). End it with ->finish, or ->signal and ->finish.
sub start_program
{
	my ($node, $name, @arguments) = @_;
	my $output = '';

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $handle = IPC::Run::start([ "$ENV{STAGE_OUT}/programs/$name", @arguments ],
		'<', \undef, '>', \$output, '2>', \$output);
	return ($handle, \$output);
}

# verdict(NODE, STATUS, OUT, MARK): stop the server that a program was run against; say to OUT, after MARK, what went wrong besides
# what the program complained of itself; return the exit status for all of it. STATUS is that of waitpid(). A server that died on
# the way is a failure, however content the program was.
sub verdict
{
	my ($node, $status, $out, $mark) = @_;

	print $out "$mark killed by signal ", $status & 127, "\n" if $status & 127;
	my $alive = -e $node->data_dir . '/postmaster.pid';
	$node->stop('fast', fail_ok => 1) and $alive or do
	{
		print $out "$mark the server did not survive\n";
		$status ||= 256;
	};
	return $status & 127 ? 128 + ($status & 127) : $status >> 8;
}

1;
