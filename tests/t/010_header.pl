# The public headers stand alone: nothing before them, in every language and by every compiler that their users may have,
# strictly.
#
# timeout: 900

use strict;
use warnings;

use Test::More;

chomp(my $libpq = `"$ENV{PG_CONFIG}" --includedir`);
my @strict = qw(-Wall -Wextra -Wpedantic -Werror -fsyntax-only);
my @strict_cxx = (@strict, qw(-Weffc++ -Wold-style-cast -Wshadow -Wconversion));

# Whether the compiler is content with a source.
sub compiles
{
	my ($name, $source, @call) = @_;

	is(system(@call, "-I$ENV{STAGE_PREFIX}/include", '-isystem', $libpq, $source), 0, $name);
	return;
}

# A source of these lines.
sub source
{
	my ($name, @lines) = @_;
	my $path = "$ENV{STAGE_WORK}/$name";

	open(my $file, '>', $path) or die "$path: $!";
	print $file map { "$_\n" } @lines;
	close $file;
	return $path;
}

my $header = source('header.h', '#include <pqpool.h>', '#include <pqpool.h>');
for my $compiler (
	[ 'gcc', '-std=c11', 'c' ], [ 'gcc', '-std=c17', 'c' ], [ 'clang', '-std=c11', 'c' ],
	[ 'g++', '-std=c++11', 'c++' ], [ 'g++', '-std=c++20', 'c++' ],
	[ 'clang++', '-std=c++11', 'c++' ])
{
	my ($command, $standard, $language) = @$compiler;

	compiles("$command $standard", $header, $command, $standard, '-x', $language, @strict);
}

my $wrapper = source('header.cpp', '#include <pqpool.hpp>', '#include <pqpool.hpp>');
my $mixed = source('mixed.cpp', '#include <pqpool.h>', '#include <pqpool.hpp>', 'PGconn *f(pqpool *p);',
	'PGconn *f(pqpool *p) { return (pqpool_acquire)(p, -1, nullptr); }');
for my $compiler (qw(g++ clang++))
{
	for my $standard (qw(11 17 20))
	{
		my @call = ($compiler, "-std=c++$standard", @strict_cxx);
		my $name = "pqpool.hpp: $compiler -std=c++$standard";

		compiles($name, $wrapper, @call);
		compiles("$name, after pqpool.h", $mixed, @call);
		compiles("$name -DPQPOOL_NO_MACROS", $wrapper, @call, '-DPQPOOL_NO_MACROS');
		compiles("$name -fno-exceptions", $wrapper, @call, '-fno-exceptions');
		# What is inline is compiled where it is used.
		compiles("$name, used", 'tests/client/wrapper.cpp', $compiler, "-std=c++$standard", @strict, '-Itests/lib');
	}
}
compiles('pqpool.hpp: used without macros', 'tests/client/wrapper.cpp', 'g++', '-std=c++17', @strict, '-Itests/lib',
	'-DPQPOOL_NO_MACROS');

# What must not compile.
for my $mistake (
	[ 'a loan that nobody takes' => 'p.acquire();' ],
	[ 'a timeout without a unit' => 'pqpoolxx::connection c = p.acquire(100);' ],
	[ 'nor zero' => 'pqpoolxx::connection c = p.acquire(0);' ],
	[ 'a copy of a loan' => 'pqpoolxx::connection c = p.acquire(); pqpoolxx::connection d = c;' ],
	[ 'a loan used as a number' => 'int n = p.acquire(); (void) n;' ])
{
	my ($name, $code) = @$mistake;
	my $path = source('mistake.cpp', '#include <pqpool.hpp>', 'void f(pqpoolxx::pool &p);',
		"void f(pqpoolxx::pool &p) { $code }");
	my $ignored = `g++ -std=c++11 @strict -I$ENV{STAGE_PREFIX}/include -isystem $libpq $path 2>&1`;

	isnt($?, 0, "refused: $name");
}
done_testing();
