# The public header stands alone: nothing before it, in every language and by every compiler that its users may have, strictly.

use strict;
use warnings;

use Test::More;

my @compilers = (
	[ 'gcc', '-std=c11', 'c' ], [ 'gcc', '-std=c17', 'c' ], [ 'clang', '-std=c11', 'c' ],
	[ 'g++', '-std=c++11', 'c++' ], [ 'g++', '-std=c++20', 'c++' ],
	[ 'clang++', '-std=c++11', 'c++' ]);
chomp(my $libpq = `"$ENV{PG_CONFIG}" --includedir`);
my $source = "$ENV{STAGE_WORK}/header.h";

open(my $file, '>', $source) or die "$source: $!";
print $file "#include <pqpool.h>\n#include <pqpool.h>\n";
close $file;

for my $compiler (@compilers)
{
	my ($command, $standard, $language) = @$compiler;
	my @call = ($command, $standard, '-x', $language, qw(-Wall -Wextra -Wpedantic -Werror -fsyntax-only),
		"-I$ENV{STAGE_PREFIX}/include", '-isystem', $libpq, $source);

	is(system(@call), 0, "$command $standard");
}
done_testing();
