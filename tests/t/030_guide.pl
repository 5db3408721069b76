# The guide: what it shows compiles without a warning, and what is a whole program works; it names no option, call or code that
# there is not, and leads to no page that is missing.

use strict;
use warnings;

use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir_short();
my $flags = `PKG_CONFIG_PATH="$ENV{STAGE_PREFIX}/lib/pkgconfig" pkg-config --cflags --libs libpqpool` =~ s/\n//r;
chomp(my $libpq = `"$ENV{PG_CONFIG}" --libdir`);
chomp(my $libpq_headers = `"$ENV{PG_CONFIG}" --includedir`);
my $warnings = '-Wall -Wextra -Werror -Wno-unused-function';
my $libraries = "$flags -L$libpq -lpq -Wl,-rpath,$ENV{STAGE_PREFIX}/lib";

my $node = PgpoolMonitor::node('guide');
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{LD_LIBRARY_PATH} = "$ENV{STAGE_PREFIX}/lib:$libpq";

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) or die "$path: $!";
	local $/ = undef;
	return scalar <$file>;
}

sub write_file
{
	my ($path, $text) = @_;
	open(my $file, '>', $path) or die "$path: $!";
	print $file $text;
	close $file;
	return $path;
}

# ---- samples --------------------------------------------------------------------------------------------------------------

my %compiler = (
	c => [ 'gcc', '-std=c11', "#include <pqpool.h>\n" ],
	cpp => [ 'g++', '-std=c++11', '' ]);
my $guide = slurp('client/README.md');
my %seen;

for my $sample ($guide =~ /^```((?:\w+)\n.*?)^```$/msg)
{
	my ($language, $text) = split /\n/, $sample, 2;
	my $name = 'sample ' . ++$seen{$language} . " in $language";

	if ($language eq 'python')
	{
		my $path = write_file("$directory/sample.py", $text);
		is(`python3 $path 2>&1`, "0 0\n", "$name works");
		next;
	}
	my ($command, $standard, $before) = @{ $compiler{$language} // die "no compiler for $language" };
	my $source = write_file("$directory/sample.$language", $before . $text);
	my $whole = $text =~ /^main\(/m;
	my $output = `$command $standard $warnings -isystem $libpq_headers -o $directory/sample @{[ $whole ? '' : '-c' ]} $source $libraries 2>&1`;
	is($?, 0, "$name compiles") or diag($output);
	is($output, '', '... without a warning');
	is(system("$directory/sample"), 0, '... and works') if $whole;
}
is_deeply(\%seen, { c => 4, cpp => 1, python => 1 }, 'all samples have been tried');

# ---- words ----------------------------------------------------------------------------------------------------------------

# Whatever looks like a name of ours stands in the header of its language.
my $header = slurp('client/include/pqpool.h');
for my $document ('client/README.md', 'client/INTERNALS.md', 'README.md', 'extension/README.md')
{
	my $text = slurp($document);
	my ($place) = $document =~ m{^(.*/)?};

	$text =~ s/\b(?:pqp_|pgpool_)\w+//g;
	my %names = map { $_ => 1 } $text =~ /\b(pqpool_\w+|PQPOOL_\w+|pool_(?:min|max|acquire|idle|validate|peek|reset|leak|report|limits|bind|name)\w*)\b/g;
	is_deeply([ grep { $header !~ /\b$_\b/ } sort keys %names ], [], "$document: names that are in the header");
	is_deeply([ grep { !-e (($place // '') . $_) } grep { !/:/ } $text =~ /\]\(([^)#]+)\)/g ], [], "$document: leads to files that are there");
}

# ---- the event loop -------------------------------------------------------------------------------------------------------

my ($out, $err);
my $loop = "$directory/loop";
my $said = `PKG_CONFIG_PATH="$ENV{STAGE_PREFIX}/lib/pkgconfig" make -C client/examples BUILD='$directory' CFLAGS='-O2 -Wall -Wextra -Werror' '$loop' 2>&1`;
is($?, 0, 'examples/loop.c is built') or diag($said);
ok(IPC::Run::run([ $loop, '500' ], '>', \$out, '2>', \$err), 'the example of an event loop') or diag($err);
is($out, "500 answered, 0 failed\n", 'has all its questions answered');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'loop')), 0, 'and leaves nothing');
$node->stop;
ok(!IPC::Run::run([ $loop, '5' ], '>', \$out, '2>', \$err), 'without a server it fails');
is($out, "0 answered, 5 failed\n", 'as often as it has asked');
like($err, qr/^loop: pool "loop": the server cannot be reached/, 'and says why');

done_testing();
