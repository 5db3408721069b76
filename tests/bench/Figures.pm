# Figures.pm: what the benchmarks of the server share: rounds, medians, and where figures go.

package Figures;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(median say_line $rounds $seconds);

our $rounds = $ENV{BENCH_ROUNDS} || 7;
our $seconds = $ENV{BENCH_SECONDS} || 3;

# PostgreSQL's modules send standard output to a log; the figures go to the real one. So this one is to be loaded before them.
open(my $out, '>&', \*STDOUT) or die "dup: $!";
$out->autoflush(1);

sub say_line { printf $out @_; print $out "\n"; return; }

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ $#sorted / 2 ];
}

1;
