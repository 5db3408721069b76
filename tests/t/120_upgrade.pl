# Versions of the SQL script: an update adds what it says and disturbs nothing that is in use; whichever way a version was come to,
# it has the same objects; dump and restore, and pg_upgrade, keep what a DBA has granted.
#
# There is one released version yet, so that most of this is tried with versions made up here: 1.0--1.1 for a step forward, and an
# 0.9 that becomes the true one. The last part then goes over all scripts that there are.
#
# timeout: 600

use strict;
use warnings;

use Peer;
use PgpoolMonitor;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('upgrade', autovacuum => 'off');
chomp(my $share = `"$ENV{PG_CONFIG}" --sharedir`);
my $directory = "$share/extension";
my ($version) = slurp_file("$directory/pgpool_monitor.control") =~ /^default_version\s*=\s*'([^']+)'/m;
my @made;

# A script of the private server's, for the time of this test: script('1.0--1.1', SQL).
sub script
{
	my ($name, $sql) = @_;
	my $path = "$directory/pgpool_monitor--$name.sql";

	die "$path is there" if -e $path && !grep { $_ eq $path } @made;
	push @made, $path;
	open(my $file, '>', $path) or die "$path: $!";
	print $file $sql;
	close $file;
	return;
}

END { unlink @made; }

sub ask
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql);
}

# All that the extension is, in words: what its objects are called and do, who may, and what is said about them.
my $catalog = <<'SQL';
	WITH members AS (
		SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'pgpool_monitor' AND d.deptype = 'e'),
	rights AS (
		SELECT 'pg_class'::regclass AS classid, oid AS objid, relacl AS acl FROM pg_class UNION ALL
		SELECT 'pg_proc'::regclass, oid, proacl FROM pg_proc UNION ALL
		SELECT 'pg_namespace'::regclass, oid, nspacl FROM pg_namespace)
	SELECT line FROM (
		SELECT name || ' is' AS line FROM members UNION ALL
		SELECT name || ': ' || CASE classid WHEN 'pg_proc'::regclass THEN pg_get_functiondef(objid)
			WHEN 'pg_class'::regclass THEN pg_get_viewdef(objid) ELSE '' END FROM members UNION ALL
		SELECT name || ': ' || obj_description(objid, classid::regclass::name) FROM members
			WHERE obj_description(objid, classid::regclass::name) IS NOT NULL UNION ALL
		SELECT format('%s column %s %s %s: %s', name, attnum, attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum))
			FROM members JOIN pg_attribute ON attrelid = objid AND attnum > 0 AND NOT attisdropped WHERE classid = 'pg_class'::regclass UNION ALL
		SELECT format('%s column %s: %s may %s', name, attname, grantee::regrole, privilege_type)
			FROM members JOIN pg_attribute ON attrelid = objid, aclexplode(attacl) WHERE classid = 'pg_class'::regclass UNION ALL
		SELECT format('%s: %s may %s, by %s, %s', name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type,
			grantor::regrole, is_grantable)
			FROM members JOIN rights USING (classid, objid), aclexplode(acl) UNION ALL
		SELECT format('%s: %s may %s from the beginning', name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type)
			FROM members JOIN pg_init_privs i ON i.classoid = classid AND i.objoid = objid AND i.objsubid = 0, aclexplode(i.initprivs)) s
	ORDER BY line COLLATE "C"
SQL

sub catalog { return ask($catalog, $_[0]); }

# What is different, for people.
sub differences
{
	my ($left, $right) = @_;
	my (%left, %right);

	@left{ split /\n/, $left } = ();
	@right{ split /\n/, $right } = ();
	return join("\n", (map { "- $_" } grep { !exists $right{$_} } sort keys %left), map { "+ $_" } grep { !exists $left{$_} } sort keys %right);
}

my $fresh = catalog('postgres');
my %kinds = map { $_ => scalar(() = $fresh =~ /$_/g) } 'function pgpool_monitor\.\S+ is', 'view pgpool_monitor\.\S+ is', ' column ', ' may EXECUTE', ' from the beginning';
is(join(' ', grep { $kinds{$_} < 5 } sort keys %kinds), '', 'the catalog is told in full');

# --- every script is installed

my @scripts = map { m{([^/]+)$} } glob('extension/pgpool_monitor--*.sql');
is(join(' ', grep { !-e "$directory/$_" } @scripts), '', 'every script of the tree is installed');
ok(-e "extension/pgpool_monitor--$version.sql", 'the default version has one');

# --- forward, with everything in use

script("$version--next", <<'SQL');
\echo Use "ALTER EXTENSION pgpool_monitor UPDATE" to load this file. \quit
CREATE OR REPLACE VIEW pgpool_monitor.pauses AS
	SELECT *, expires OPERATOR(pg_catalog.-) pg_catalog.now() AS left FROM pgpool_monitor.pauses();
COMMENT ON COLUMN pgpool_monitor.pauses.left IS 'time until then';
CREATE FUNCTION pgpool_monitor.reset_everything() RETURNS integer AS 'MODULE_PATHNAME', 'pgpool_monitor_reset' LANGUAGE C STRICT VOLATILE;
REVOKE ALL ON FUNCTION pgpool_monitor.reset_everything() FROM PUBLIC;
SQL
script("next--broken", "CREATE VIEW pgpool_monitor.half AS SELECT 1;\nSELECT 1 / 0;\n");

$node->safe_psql('postgres', q(CREATE ROLE ops LOGIN; CREATE ROLE app LOGIN;
	GRANT EXECUTE ON FUNCTION pgpool_monitor.reset() TO ops; GRANT SELECT ON pgpool_monitor.info, pgpool_monitor.pauses TO ops;
	REVOKE SELECT ON pgpool_monitor.pools FROM PUBLIC; GRANT SELECT ON pgpool_monitor.pools TO app;
	CREATE VIEW mine AS SELECT pool, in_use FROM pgpool_monitor.pools; CREATE VIEW paused AS SELECT pool FROM pgpool_monitor.pauses));
my $peer = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1', user => 'app');
my $reader = Peer->new($node);
$peer->report(in_use => 3, acquires => 17);
ask(q(SELECT pgpool_monitor.pause('orders', expires => '1 hour')));
$reader->say('PREPARE looks AS SELECT concat_ws(\'|\', pool, in_use) FROM pgpool_monitor.instances');
$reader->say('PREPARE pauses AS SELECT pool FROM pgpool_monitor.pauses');
$reader->say('BEGIN');
is($reader->say('EXECUTE looks'), 'orders|3', 'a reader in a transaction');
my $told = $peer->text;
my $rights = q(SELECT string_agg(has_table_privilege(role, 'pgpool_monitor.' || name, 'SELECT')::text, ' ' ORDER BY role, name) || ' '
	|| has_function_privilege('ops', 'pgpool_monitor.reset()', 'EXECUTE') || ' ' || has_function_privilege('app', 'pgpool_monitor.reset()', 'EXECUTE')
	FROM unnest(ARRAY['app', 'ops']) role, unnest(ARRAY['info', 'pauses', 'pools']) name);
my $rights_before = ask($rights);
is($rights_before, 'false false true true true false true false', 'grants of the DBA');

ask("ALTER EXTENSION pgpool_monitor UPDATE TO 'next'");
is(ask(q(SELECT extversion FROM pg_extension WHERE extname = 'pgpool_monitor')), 'next', 'updated, and did not wait for the reader');
is($reader->say('EXECUTE looks'), 'orders|3', 'who goes on');
$reader->say('COMMIT');
is($reader->say('EXECUTE pauses'), 'orders', 'also with what was changed under him');
is($reader->say('EXECUTE looks'), 'orders|3', 'and prepared before');
my $difference = differences($fresh, catalog('postgres'));
like($difference, qr/^\+ function pgpool_monitor\.reset_everything\(\) is$/m, 'there is a new function');
like($difference, qr/^\+ view pgpool_monitor\.pauses column \d+ left interval: time until then$/m, 'and a new column');
is(ask('SELECT string_agg(pool, \' \') FROM pgpool_monitor.pauses WHERE "left" > \'59 minutes\''), 'orders', 'which works');
is(ask(q(SELECT in_use FROM mine WHERE pool = 'orders')) . ask('SELECT pool FROM paused'), '3orders', 'views of the DBA still work');
is(ask($rights), $rights_before, 'and grants are as they were');
is(ask(q(SELECT has_function_privilege('app', 'pgpool_monitor.reset_everything()', 'EXECUTE'))), 'f', 'what is new has its own');
$peer->say('SELECT 1');
$peer->report(in_use => 4);
is(ask(q(SELECT concat_ws('|', in_use, acquires, sessions) FROM pgpool_monitor.instances)), '4|17|1', 'the session is as attached as it was');
is($peer->allotment->{state} . ($peer->text =~ /inc=(\d+)/)[0], 'paused' . ($told =~ /inc=(\d+)/)[0], 'and as paused');

my ($status, undef, $error) = $node->psql('postgres', "ALTER EXTENSION pgpool_monitor UPDATE TO 'broken'");
like($error, qr/division by zero/, 'an update that fails');
is(ask(q(SELECT extversion || (SELECT count(*) FROM pg_class WHERE relname = 'half') FROM pg_extension WHERE extname = 'pgpool_monitor')),
	'next0', 'leaves nothing of itself');
(undef, undef, $error) = $node->psql('postgres', 'ALTER EXTENSION pgpool_monitor UPDATE');
like($error, qr/has no update path from version "next" to version "\Q$version\E"/, 'there is no way back but by DROP');

# --- dump and restore: the version is the default, everything else as it was

my $dump = "$ENV{TESTDIR}/dump.sql";
$node->safe_psql('postgres', 'DROP VIEW mine, paused; DROP EXTENSION pgpool_monitor; CREATE EXTENSION pgpool_monitor');
is(differences($fresh, catalog('postgres')), '', 'dropped and created again it is as new');
$node->safe_psql('postgres', q(CREATE SCHEMA ours; CREATE TABLE ours.seen AS SELECT pool, now() AS at FROM pgpool_monitor.pools;
	CREATE VIEW ours.mine AS SELECT pool, in_use FROM pgpool_monitor.pools;
	GRANT EXECUTE ON FUNCTION pgpool_monitor.reset(), pgpool_monitor.pause(text, name, name, interval) TO ops;
	GRANT SELECT ON pgpool_monitor.info TO ops WITH GRANT OPTION; REVOKE SELECT ON pgpool_monitor.pools FROM PUBLIC;
	GRANT SELECT ON pgpool_monitor.pools TO app; REVOKE EXECUTE ON FUNCTION pgpool_monitor.info() FROM pg_monitor;
	GRANT SELECT (pool, demand) ON pgpool_monitor.limits TO ops));
my $granted = catalog('postgres');
like(differences($fresh, $granted), qr/^\+ view pgpool_monitor.limits column demand: ops may SELECT$/m, 'a DBA has granted and revoked');
command_ok([ 'pg_dump', '--file', $dump, '--dbname', $node->connstr('postgres') ], 'pg_dump');
unlike(slurp_file($dump), qr/CREATE (?:OR REPLACE )?(?:VIEW|FUNCTION|SCHEMA) pgpool_monitor\b/, 'dumps the extension as such');
ask('CREATE DATABASE restored');
command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', '--single-transaction', "--file=$dump", $node->connstr('restored') ], 'restore');
is(differences($granted, catalog('restored')), '', 'the extension is the same, with all that was granted and revoked');
is(ask('SELECT count(*) FROM ours.mine', 'restored') > 0 ? 1 : 0, 1, 'and a view of the DBA works');
$_->end for $peer, $reader;

# --- all ways to the default version lead to the same

# update_leads_to(FROM, TO): what is different, when FROM is updated to TO, from TO as it is made.
sub update_leads_to
{
	my ($from, $to) = @_;

	for my $database (qw(made updated))
	{
		ask("CREATE DATABASE $database");
	}
	ask("CREATE EXTENSION pgpool_monitor VERSION '$to'", 'made');
	ask("CREATE EXTENSION pgpool_monitor VERSION '$from'; ALTER EXTENSION pgpool_monitor UPDATE TO '$to'", 'updated');
	my $result = differences(catalog('made'), catalog('updated'));
	ask("DROP DATABASE $_") for qw(made updated);
	return $result;
}

# Made up: an older version that had less, and an update that brings what is missing, or forgets some of it.
my $script = slurp_file("extension/pgpool_monitor--$version.sql");
my %later = map { $_ => $script =~ /^($_.*?;\n)/ms ? $1 : '' } 'GRANT SELECT ON pgpool_monitor\.history', 'COMMENT ON COLUMN pgpool_monitor\.pauses\.busy';
my $older = $script;
$older =~ s/\Q$later{$_}\E// for keys %later;
isnt(length $older, length $script, 'an older version, made up');
script('older', $older);
script("older--$version", join '', values %later);
is(update_leads_to('older', $version), '', 'an update that brings all that is missing is as good as new');
for my $forgotten (sort keys %later)
{
	script("older--$version", join '', map { $later{$_} } grep { $_ ne $forgotten } keys %later);
	isnt(update_leads_to('older', $version), '', "one that forgets something is found out: $forgotten");
}
unlink @made;

# True: each version that can be made, to each version that can be made and that there is a way to.
my $paths = ask(q(SELECT p.source || ' ' || p.target FROM pg_extension_update_paths('pgpool_monitor') p WHERE path IS NOT NULL ORDER BY 1));
my %installable = map { /^pgpool_monitor--((?:(?!--).)+)\.sql$/ ? ($1 => 1) : () } @scripts;
for my $path (split /\n/, $paths)
{
	my ($from, $to) = split / /, $path;

	is(update_leads_to($from, $to), '', "$from updated is the same as $to made") if $installable{$from} && $installable{$to};
}
for my $old (grep { $_ ne $version } sort keys %installable)
{
	like($paths, qr/^\Q$old $version\E$/m, "there is a way from $old to $version");
}

# --- pg_upgrade

my $next = PgpoolMonitor::unstarted_node('next');
my $all = catalog('postgres');
$node->stop;
chomp(my $bindir = `"$ENV{PG_CONFIG}" --bindir`);
{
	# it writes its log into the directory that it is called in
	my $here = `pwd` =~ s/\n//r;
	chdir $ENV{TESTDIR};
	command_ok([ 'pg_upgrade', '--no-sync', '--old-datadir', $node->data_dir, '--new-datadir', $next->data_dir, '--old-bindir', $bindir,
		'--new-bindir', $bindir, '--socketdir', $node->host, '--old-port', $node->port, '--new-port', $next->port ], 'pg_upgrade');
	chdir $here;
}
$next->start;
$node = $next;
is(differences($all, catalog('postgres')), '', 'and the extension is the same, with all that was granted and revoked');
$peer = Peer->new($node, pool => 'orders', instance => 'a1;follow=1;report=1', user => 'app');
$peer->report(in_use => 3);
is(ask(q(SELECT in_use FROM ours.mine WHERE pool = 'orders')), 3, 'it works there');
$peer->end;
$node->stop;
done_testing();
