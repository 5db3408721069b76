# The scripts of sql/ against their expected output, by PostgreSQL's own pg_regress: twice, since the extension must behave on a
# server that loads it at start, and on one that does not (sql/notpreloaded.sql). Each script is a test of its own here.

use strict;
use warnings;

use File::Path qw(make_path);
use Test::More;

# regress(CONFIG or undef, SCRIPT...): run the scripts, in this order, on a temporary server with that configuration.
sub regress
{
	my ($config, @scripts) = @_;
	my $name = $config ? 'preloaded' : 'notpreloaded';
	my $output = "$ENV{TESTDIR}/$name";
	my %seen;

	make_path($output);
	my @command = (
		$ENV{PG_REGRESS}, "--temp-instance=$output/server",
		"--inputdir=.", "--outputdir=$output",
		'--bindir=' . `"$ENV{PG_CONFIG}" --bindir` =~ s/\n//r,
		'--dbname=contrib_regression', '--encoding=UTF8', '--no-locale',
		($config ? "--temp-config=$config" : ()), @scripts);

	open(my $pipe, '-|', @command) or die "pg_regress: $!";
	while (<$pipe>)
	{
		# "test name ... ok 12 ms" until PostgreSQL 15, "ok 1 - name 12 ms" from 16 on
		if (/^test (?<script>\S+)\s+\.\.\. (?<verdict>ok|FAILED)/
			|| /^(?<verdict>ok|not ok) \d+\s+[-+] (?<script>\S+)/)
		{
			my ($script, $verdict) = @+{qw(script verdict)};
			$seen{$script} = 1;
			is($verdict, 'ok', "$name: $script");
		}
		else
		{
			print "# $_";
		}
	}
	close $pipe;
	is($?, 0, "$name: pg_regress is content");
	fail("$name: $_ was not run") for grep { !$seen{$_} } @scripts;
	return;
}

my @scripts = map { m{^sql/(.*)\.sql$} } sort glob('sql/*.sql');

regress('tests/regress.conf', grep { $_ ne 'notpreloaded' } @scripts);
regress(undef, 'notpreloaded');
done_testing();
