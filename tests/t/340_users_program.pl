# Programs of users, in C and in C++, by every compiler, with nothing included or linked but the library; scopes in C++ end with
# exceptions, too.

use strict;
use warnings;

use PgpoolMonitor;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PgpoolMonitor::node('users');
my $directory = PostgreSQL::Test::Utils::tempdir_short();
my $flags = `PKG_CONFIG_PATH="$ENV{STAGE_PREFIX}/lib/pkgconfig" pkg-config --cflags --libs libpqpool`;
chomp(my $libpq_headers = `"$ENV{PG_CONFIG}" --includedir`);
chomp(my $libpq = `"$ENV{PG_CONFIG}" --libdir`);

sub write_file
{
	my ($name, $text) = @_;
	open(my $file, '>', "$directory/$name") or die "$name: $!";
	print $file $text;
	close $file;
	return;
}

write_file('program.c', <<'END');
#include <pqpool.h>

int main(void)
{
	pqpool_error err;
	pqpool *pool = pqpool_open("pool_name=user pool_max_size=2", &err);
	PGconn *conn;
	pqpool_statistics stats;
	int failed = pqpool_initialize("pool_max_size=1", &err);

	conn = pqpool_acquire(pool, -1, &err);
	failed |= conn == 0 || pqpool_release(conn);
	PQPOOL_SCOPE(pool)
	{
		conn = pqpool_get_connection(&err);
		failed |= conn == 0 || pqpool_return_connection(conn);
	}
	failed |= pqpool_stats(pool, &stats) || stats.acquires != 2;
	failed |= pqpool_close(&pool, -1) || pqpool_close_pool();
	return failed;
}
END

write_file('program.cpp', <<'END');
#include <pqpool.h>

static pqpool *outer, *inner;

static bool current_is(pqpool *pool)
{
	pqpool_statistics before, after;
	pqpool_error err;

	(void) pqpool_stats(pool, &before);
	PGconn *conn = pqpool_get_connection(&err);
	(void) pqpool_return_connection(conn);
	(void) pqpool_stats(pool, &after);
	return conn && after.acquires == before.acquires + 1;
}

static int scopes()
{
	int failed = 0;

	PQPOOL_SCOPE(outer)
	{
		failed |= !current_is(outer);
		try
		{
			PQPOOL_SCOPE(inner)
			{
				failed |= !current_is(inner);
				throw 1;
			}
		}
		catch (int)
		{
			failed |= !current_is(outer) << 1;
		}
		for (int i = 0; i < 2; i++)
			PQPOOL_SCOPE(inner)
				if (i == 0)
					continue;
		failed |= !current_is(outer) << 2;
		PQPOOL_SCOPE(inner)
			return failed;
	}
	return 100;
}

int main()
{
	pqpool_error err;

	outer = pqpool_open("pool_max_size=2", &err);
	inner = pqpool_open("pool_max_size=2", &err);
	int failed = scopes();
	PGconn *conn = pqpool_get_connection(&err);	/* the thread's own: no scope is left */
	failed |= (pqpool_discard(conn) != 0 && pqpool_return_connection(conn) != 0) << 4;
	failed |= (pqpool_close(&outer, -1) || pqpool_close(&inner, -1)) << 5;
	return failed;
}
END

# No name but ours gets out of the library.
my @names = map { (split)[-1] } grep { / [TDBR] / } split(/\n/, `nm -D --defined-only "$ENV{STAGE_PREFIX}/lib/libpqpool.so"`);
is(join(' ', grep { !/^pqpool_/ } @names), '', 'the library exports its own names only');
cmp_ok(scalar @names, '>', 20, 'and it does export them');

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
for my $build ([ 'gcc', '-std=c11', 'program.c' ], [ 'clang', '-std=c11', 'program.c' ],
	[ 'g++', '-std=c++11', 'program.cpp' ], [ 'clang++', '-std=c++17', 'program.cpp' ])
{
	my ($compiler, $standard, $source) = @$build;
	SKIP:
	{
		skip "no $compiler here", 2 if system("command -v $compiler > /dev/null") != 0;
		my $program = "$directory/$compiler";
		is(system("$compiler $standard -pedantic -Wall -Wextra -Werror -isystem $libpq_headers -o $program $directory/$source"
					. " -L$libpq -Wl,-rpath,$ENV{STAGE_PREFIX}/lib " . ($flags =~ s/\n//r) . " -lpq"),
			0, "$compiler $standard compiles $source");
		is(system($program) >> 8, 0, 'which works');
	}
}
done_testing();
