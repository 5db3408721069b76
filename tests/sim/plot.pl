#!/usr/bin/perl
#
# plot.pl TITLE < FIGURES.tsv > PLOT.svg: what a run's figures over time (main.c, -o) look like. No modules.
#
# Above: connections that the clients want, capacity, those held, and the sum of the limits that they were told.
# Below: instances, and those of them that want something and hold nothing.

use strict;
use warnings;

my ($title) = @ARGV;
my ($width, $left, $right) = (900, 60, 20);
my @panels = (
	{ top => 40, height => 260, lines => [ [ 'wanted', '#bbbbbb' ], [ 'capacity', '#000000' ], [ 'limits', '#1f77b4' ], [ 'held', '#d62728' ] ] },
	{ top => 350, height => 110, lines => [ [ 'instances', '#7f7f7f' ], [ 'queued', '#ff7f0e' ] ] },
);
my %says = (
	wanted => 'wanted by callers', capacity => 'capacity', limits => 'sum of limits', held => 'held',
	instances => 'instances', queued => 'without a connection, and wanting one');

chomp(my $head = <STDIN>);
my @names = split /\t/, $head;
my @rows;
while (my $line = <STDIN>)
{
	chomp $line;
	my %row;
	@row{@names} = split /\t/, $line;
	push @rows, \%row;
}
die "no figures\n" unless @rows;

# What begins a great deal above all else is cut off: capacity before the first round.
sub most
{
	my ($panel) = @_;
	my $most = 1;

	for my $line (@{ $panel->{lines} })
	{
		for my $row (@rows) { $most = $row->{ $line->[0] } if $row->{ $line->[0] } > $most; }
	}
	return $most;
}

# 1, 2 or 5 times a power of ten: about five of it make the whole.
sub step_of
{
	my ($whole) = @_;
	my $step = 1;

	for (my $i = 0; $step * 6 < $whole; $i++) { $step *= $i % 3 == 1 ? 2.5 : 2; }
	return $step;
}

my $end = $rows[-1]{time};
my $scale_x = ($width - $left - $right) / $end;

print qq(<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="500" font-family="sans-serif" font-size="12">\n);
print qq(<rect width="$width" height="500" fill="white"/>\n<text x="$left" y="18" font-size="14">$title</text>\n);
for my $panel (@panels)
{
	my $most = most($panel);
	my $scale_y = $panel->{height} / $most;
	my $bottom = $panel->{top} + $panel->{height};
	my $x = $left;

	for (my $y = 0; $y <= $most; $y += step_of($most))
	{
		my $at = sprintf '%.1f', $bottom - $y * $scale_y;
		printf qq(<path d="M%d %s H%d" stroke="#e5e5e5"/><text x="%d" y="%s" text-anchor="end">%d</text>\n), $left, $at, $width - $right,
			$left - 6, $at + 4, $y;
	}
	for (my $time = 0; $time <= $end; $time += step_of($end))
	{
		printf qq(<text x="%.1f" y="%d" text-anchor="middle">%d s</text>\n), $left + $time * $scale_x, $bottom + 16, $time;
	}
	for my $line (@{ $panel->{lines} })
	{
		my ($name, $colour) = @$line;
		my @points;
		my $last = '';

		for my $i (0 .. $#rows)
		{
			my $y = sprintf '%.1f', $bottom - ($rows[$i]{$name} > 0 ? $rows[$i]{$name} : 0) * $scale_y;
			my $next = $i < $#rows ? sprintf('%.1f', $bottom - $rows[ $i + 1 ]{$name} * $scale_y) : '';

			# of a level stretch both ends are enough
			push @points, sprintf('%.1f,%s', $left + $rows[$i]{time} * $scale_x, $y) if $y ne $last || $y ne $next;
			$last = $y;
		}
		print qq(<polyline fill="none" stroke="$colour" points="@points"/>\n);
		printf qq(<path d="M%d %d h18" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s</text>\n), $x, $panel->{top} - 8, $colour, $x + 22,
			$panel->{top} - 4, $says{$name};
		$x += 40 + 7 * length $says{$name};
	}
}
print "</svg>\n";
