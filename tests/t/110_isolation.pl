# Races of sessions with each other, by PostgreSQL's own isolationtester: tests/isolation/specs/*.spec against their expected
# output. Each spec is a test of its own here. `make installcheck` runs them as well, all but listen.spec, on a server of the
# user's.
#
# All sessions of a spec are of one instance of one pool, because isolationtester connects them all alike; several instances are the
# business of 230_sharing.pl and 240_bookkeeping.pl.

use strict;
use warnings;

use File::Path qw(make_path);
use PgpoolMonitor;
use Test::More;

my $pg_isolation_regress = $ENV{PG_REGRESS} =~ s{regress/pg_regress$}{isolation/pg_isolation_regress}r;
plan skip_all => 'no pg_isolation_regress here (in Debian it comes with the server\'s development package)'
	if !-x $pg_isolation_regress;

# What listen.spec wants: a leak shows at once.
my $node = PgpoolMonitor::node('isolation',
	'pgpool_monitor.leak_time' => 0,
	'pgpool_monitor.health_enter' => 0,
	'pgpool_monitor.health_leave' => 0,
	'pgpool_monitor.round_interval' => '100ms');
my @specs = map { m{([^/]+)\.spec$} } sort glob('tests/isolation/specs/*.spec');
my $output = "$ENV{TESTDIR}/isolation";
my %seen;

make_path($output);
my @command = (
	$pg_isolation_regress, '--inputdir=tests/isolation', "--outputdir=$output",
	'--bindir=' . `"$ENV{PG_CONFIG}" --bindir` =~ s/\n//r,
	'--launcher=bash tests/isolation/as_instance.sh', '--load-extension=pgpool_monitor',
	'--host=' . $node->host, '--port=' . $node->port, '--dbname=isolation', @specs);

open(my $pipe, '-|', @command) or die "pg_isolation_regress: $!";
while (<$pipe>)
{
	# "test name ... ok 12 ms" until PostgreSQL 15, "ok 1 - name 12 ms" from 16 on
	if (/^test (?<spec>\S+)\s+\.\.\. (?<verdict>ok|FAILED)/ || /^(?<verdict>ok|not ok) \d+\s+[-+] (?<spec>\S+)/)
	{
		my ($spec, $verdict) = @+{qw(spec verdict)};
		$seen{$spec} = 1;
		is($verdict, 'ok', $spec);
	}
	else
	{
		print "# $_";
	}
}
close $pipe;
is($?, 0, 'pg_isolation_regress is content');
fail("$_ was not run") for grep { !$seen{$_} } @specs;

$node->stop('fast');
done_testing();
