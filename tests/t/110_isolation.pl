# The interleavings of tests/isolation/specs against their expected output, by PostgreSQL's isolation tester.

use strict;
use warnings;

use Test::More;

my @specs = map { m{([^/]*)\.spec$} } sort glob('tests/isolation/specs/*.spec');
plan skip_all => 'there are no isolation specs' if !@specs;

my $passed = system(
	$ENV{PG_ISOLATION_REGRESS}, "--temp-instance=$ENV{TESTDIR}/server",
	'--temp-config=tests/regress.conf', '--inputdir=tests/isolation',
	"--outputdir=$ENV{TESTDIR}", '--bindir=' . `"$ENV{PG_CONFIG}" --bindir` =~ s/\n//r,
	'--dbname=isolation_regression', @specs) == 0;
ok($passed, "isolation: @specs");
done_testing();
