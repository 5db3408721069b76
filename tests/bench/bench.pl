#!/usr/bin/perl
#
# bench.pl check: are BENCH_ROUNDS, BENCH_SECONDS and BENCH_ONLY what they should be? Ends with 2, and says why, if not.
# bench.pl run DIRECTORY FACTS: measure the contenders whose programs are in DIRECTORY, and print a table for each case, then how
# libpqpool stands to its targets. Called by bench.sh, which starts the servers.
#
# In each case every contender is started once, and fills its pool; then they are measured in turn, a round after the other, each
# round beginning with another one. A first round is thrown away. So whatever else the machine does meets all of them, and what is
# compared was measured within seconds; a ratio is the median of the rounds' ratios, not the ratio of medians.
#
# With BENCH_OUT set, descriptor 3 takes a line for every single measurement, separated by tabs.

use strict;
use warnings;

use IO::Handle;
use List::Util qw(min);
use POSIX ();
use Time::HiRes qw(time);

# --- who and what -------------------------------------------------------------------------------------------------------------

# ours, floor, peer, proxy. fifo: its queue is first come, first served. waits: acquiring waits by itself, and that is timed.
# In which kinds of work it takes part, where not in all; does: what happens on acquire, besides taking.
my @contenders = (
	{ name => 'libpqpool', program => 'pqpool', kind => 'ours', fifo => 1, waits => 1,
	  does => 'looks at the socket if it last did so 5 ms ago; FIFO' },
	{ name => 'libpqpool peek', program => 'pqpool-peek', kind => 'variant', fifo => 1, waits => 1, work => 'none',
	  does => 'the same with pool_peek_after=0: looks at the socket every time' },
	{ name => 'CAS pair', program => 'cas', kind => 'floor', slot_each => 1, work => 'none|one|account',
	  does => "nothing: each thread's own slot, one compare-and-swap to take it, one to give it back" },
	{ name => 'LIFO pool', program => 'lifo', kind => 'floor', waits => 1,
	  does => 'nothing: mutex, condition variable, stack; barging' },
	{ name => 'FIFO pool', program => 'fifo', kind => 'floor', fifo => 1, waits => 1,
	  does => 'nothing: mutex, stack, queue of futexes, direct hand-off; FIFO' },
	{ name => 'no pool', program => 'direct', kind => 'floor', most => 100,
	  does => 'nothing: a connection for each thread (as many as threads, whatever the size); with none held, the empty loop' },
	{ name => 'APR reslist', program => 'apr', kind => 'peer', waits => 1, work => 'none|one|account',
	  does => 'nothing: mutex, condition variable; barging' },
	{ name => 'libzdb', program => 'libzdb', kind => 'peer', work => 'none|one|account', most => 100,
	  does => "its ping (before 3.5: a look at libpq's status, no round trip); never waits: the caller naps 1 ms and tries again" },
	{ name => 'HikariCP', program => 'hikari', kind => 'peer', waits => 1, work => 'none|one|account',
	  warm_up => 2,
	  does => 'isValid() if unused for 500 ms; hand-off queue, newcomers barge' },
	{ name => 'pgxpool', program => 'pgxpool', kind => 'peer', waits => 1, work => 'none|one|account',
	  does => 'a ping if unused for 1 s (v4: nothing); goroutines for threads; mutex, condition variable; barging' },
	{ name => 'psycopg2', program => 'psycopg2', kind => 'peer', work => 'none|one|account', most => 100,
	  does => 'nothing (state looked at on return); never waits: the caller naps 1 ms and tries again' },
	{ name => 'psycopg_pool', program => 'psycopg_pool', kind => 'peer', fifo => 1, waits => 1, work => 'none|one|account',
	  does => 'nothing (state looked at on return); direct hand-off; FIFO' },
	{ name => 'PgBouncer', program => 'pgbouncer', kind => 'proxy', fifo => 1, work => 'one|account',
	  does => 'no acquire: a connection to PgBouncer for each thread, transaction mode; waits inside the query' },
);

my %what = (
	none => 'acquire and release, nothing in between',
	nap => 'hold for 1 ms, no query',
	one => 'SELECT 1',
	account => 'SELECT a row of 100000 by key',
);

# Work, threads, connections, and how many times longer than others: where an operation is rare for each thread.
my @cases = map { my ($work, $threads, $size, $longer) = @$_;
	{ name => "$work-$threads/$size", work => $work, threads => $threads, size => $size, longer => $longer } } (
	[ 'none', 1, 1, 1 ], [ 'none', 2, 2, 1 ], [ 'none', 16, 16, 1 ], [ 'none', 100, 100, 1 ],
	[ 'none', 2, 1, 1 ], [ 'none', 16, 8, 1 ], [ 'none', 100, 20, 1 ],
	[ 'nap', 20, 20, 1 ], [ 'nap', 100, 20, 1 ], [ 'nap', 1000, 20, 2 ],
	[ 'one', 16, 20, 1.5 ], [ 'one', 100, 20, 2.5 ], [ 'one', 1000, 20, 3 ],
	[ 'account', 16, 20, 1.5 ], [ 'account', 100, 20, 2.5 ]);

my %contender = map { $_->{name} => $_ } @contenders;

# --- what is asked for ------------------------------------------------------------------------------------------------------------

sub complain
{
	print STDERR "bench: @_\n";
	exit 2;
}

sub takes_part
{
	my ($contender, $case) = @_;
	return 0 if defined $contender->{work} && $case->{work} !~ /^(?:$contender->{work})$/;
	return 0 if defined $contender->{most} && $case->{threads} > $contender->{most};
	return 0 if $contender->{slot_each} && $case->{threads} > $case->{size};
	# is there only to be subtracted from the others
	return 0 if $case->{name} eq 'nap-20/20' && $contender->{name} !~ /^(?:no pool|libpqpool)$/;
	return 1;
}

my ($rounds, $seconds, $only);

sub read_settings
{
	my $pattern = $ENV{BENCH_ONLY} // '';
	($rounds, $seconds) = map { length($ENV{ $_->[0] } // '') ? $ENV{ $_->[0] } : $_->[1] } [ BENCH_ROUNDS => 7 ], [ BENCH_SECONDS => 0.3 ];

	complain('BENCH_ROUNDS is a number of rounds, 1 to 1000; seven is the least whose median says much')
	  unless $rounds =~ /^[1-9]\d{0,3}$/ && $rounds <= 1000;
	complain('BENCH_SECONDS is how long each measurement lasts, 0.05 to 60')
	  unless $seconds =~ /^\d{1,2}(?:\.\d{1,6})?$/ && $seconds >= 0.05 && $seconds <= 60;
	$only = eval { qr/$pattern/ } or complain("BENCH_ONLY is no regular expression: $pattern");
	foreach my $case (@cases)
	{
		$case->{who} = [ grep { takes_part($_, $case) && "$case->{name} $_->{name}" =~ $only } @contenders ];
	}
	return if grep { @{ $_->{who} } } @cases;
	my @names = map { $_->{name} } @cases;
	complain("BENCH_ONLY matches nothing: $pattern\nbench: it is held against CASE CONTENDER; cases: @names; contenders: "
		  . join(', ', map { $_->{name} } @contenders));
}

# --- one contender's process ------------------------------------------------------------------------------------------------------

my ($directory, %failed);

sub start
{
	my ($contender, $case) = @_;
	my $timed = $case->{threads} > $case->{size} ? 1 : 0;
	my @command = ("$directory/$contender->{program}", @$case{qw(threads size work)}, $timed);

	pipe(my $their_in, my $to) or die "pipe: $!";
	pipe(my $from, my $their_out) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<&', $their_in) or POSIX::_exit(127);
		open(STDOUT, '>&', $their_out) or POSIX::_exit(127);
		open(STDERR, '>>', "$ENV{STAGE_WORK}/log/bench-$contender->{program}.log") or POSIX::_exit(127);
		POSIX::close(3);
		exec @command or POSIX::_exit(127);
	}
	$to->autoflush(1);
	return { contender => $contender, pid => $pid, to => $to, from => $from };
}

# One line of its answer, or undef and why: it says what is wrong with it, or ends, or takes too long.
sub answer
{
	my ($process, $patience) = @_;
	my $line = eval {
		local $SIG{ALRM} = sub { die "no answer for $patience s\n" };
		alarm $patience;
		my $got = readline($process->{from});
		alarm 0;
		$got;
	};
	alarm 0;
	chomp $line if defined $line;
	return ($line) if defined $line && $line !~ /^(?:error|unavailable) /;
	return (undef, $line // $@ || 'error it ended');
}

sub stop
{
	my ($process) = @_;
	close $process->{to};
	eval {
		local $SIG{ALRM} = sub { die };
		alarm 20;
		waitpid($process->{pid}, 0);
		alarm 0;
		1;
	} or do { kill 'KILL', $process->{pid}; waitpid($process->{pid}, 0) };
	alarm 0;
}

# --- measuring ----------------------------------------------------------------------------------------------------------------------

my %runs;    # {case}{contender}: its rounds
my %absent;  # {case}{contender}: why there are none

sub note_failure
{
	my ($case, $process, $why) = @_;
	my $name = $process->{contender}{name};
	$absent{ $case->{name} }{$name} = $why =~ s/^error /FAILED: /r =~ s/^unavailable (.*?)(?:;.*)?$/not available: $1/r;
	$failed{$name} = 1 unless $why =~ /^unavailable /;
	kill 'KILL', $process->{pid} if $why !~ /^unavailable /;
	stop($process);
}

# The contenders that stand ready.
sub start_all
{
	my ($case) = @_;
	my (@started, @ready);

	foreach my $contender (@{ $case->{who} })
	{
		if (-x "$directory/$contender->{program}") { push @started, start($contender, $case) }
		else { $absent{ $case->{name} }{ $contender->{name} } = 'not installed' }
	}
	foreach my $process (@started)
	{
		my ($line, $why) = answer($process, 120);
		if (defined $line) { push @ready, $process }
		else { note_failure($case, $process, $why) }
	}
	return @ready;
}

sub measure_once
{
	my ($process, $warm_up, $duration) = @_;
	my %run;

	print { $process->{to} } "$warm_up $duration\n";
	my ($line, $why) = answer($process, 60 + int($duration * 2));
	return (undef, $why) unless defined $line;
	%run = $line =~ /(\w+)=(\d+)/g;
	return (undef, "error not understood: $line") unless $run{wall} && defined $run{ops};
	# Nobody was served in all that time. It counts as one operation, so that there is something to divide by.
	$run{ops} ||= 1;
	$run{rate} = $run{ops} / $run{wall} * 1e9;
	$run{wall_op} = $run{wall} / $run{ops};
	$run{cpu_op} = $run{cpu} / $run{ops};
	$run{fair} = $run{fastest} ? $run{slowest} / $run{fastest} : 0;
	return \%run;
}

sub measure
{
	my ($case) = @_;
	my $duration = $seconds * $case->{longer};
	my @ready = start_all($case);

	foreach my $round (0 .. $rounds)
	{
		foreach my $process (@ready)
		{
			next if $absent{ $case->{name} }{ $process->{contender}{name} };
			# The first round is for caches and compilers: nobody looks at it.
			my ($run, $why) = $round == 0 ? measure_once($process, $process->{contender}{warm_up} // 0.1, 0.1)
			  : measure_once($process, 0.2 * $duration, $duration);
			if (!defined $run) { note_failure($case, $process, $why) }
			elsif ($round > 0) { push @{ $runs{ $case->{name} }{ $process->{contender}{name} } }, $run }
		}
		push @ready, shift @ready if @ready;
	}
	foreach my $process (@ready)
	{
		stop($process) unless $absent{ $case->{name} }{ $process->{contender}{name} };
	}
}

# --- figures ------------------------------------------------------------------------------------------------------------------------

sub median
{
	my @sorted = sort { $a <=> $b } grep { defined } @_;
	return undef unless @sorted;
	return @sorted % 2 ? $sorted[ $#sorted / 2 ] : ($sorted[ @sorted / 2 - 1 ] + $sorted[ @sorted / 2 ]) / 2;
}

sub figure
{
	my ($case, $name, $key) = @_;
	return median(map { $_->{$key} } @{ $runs{$case}{$name} // [] });
}

# Without a pool that can be out of connections there is nothing to wait for.
sub has_waits { return $_[0]{waits} || $_[0]{kind} eq 'peer' }

# The median over the rounds of A's to B's.
sub ratio
{
	my ($case, $key, $name, $base) = @_;
	return undef unless defined $name;
	my ($ours, $theirs) = map { $runs{$case}{$_} // [] } $name, $base;
	return undef unless @$ours && @$ours == @$theirs;
	return median(map { $ours->[$_]{$key} / ($theirs->[$_]{$key} || 1) } 0 .. $#$ours);
}

sub short_number
{
	my ($n) = @_;
	return sprintf('%.3g G', $n / 1e9) if $n >= 999.5e6;
	return sprintf('%.3g M', $n / 1e6) if $n >= 999.5e3;
	return sprintf('%.3g k', $n / 1e3) if $n >= 999.5;
	return sprintf('%.3g', $n);
}

sub short_time
{
	my ($ns) = @_;
	return '-' unless defined $ns;
	return sprintf('%.0f ms', $ns / 1e6) if $ns >= 99.5e6;
	return sprintf('%.3g ms', $ns / 1e6) if $ns >= 999.5e3;
	return sprintf('%.3g us', $ns / 1e3) if $ns >= 999.5;
	return sprintf('%.3g ns', $ns);
}

sub short_ratio
{
	my ($ratio) = @_;
	return '-' unless defined $ratio;
	return sprintf($ratio >= 99.5 ? '%.0f' : $ratio >= 9.95 ? '%.1f' : '%.2f', $ratio);
}

# --- tables -------------------------------------------------------------------------------------------------------------------------

my $line_format = "%-16s %7s %12s %8s %8s %8s %8s  %8s %8s %8s %8s %6s\n";

sub print_line
{
	my ($case, $contender) = @_;
	my $name = $contender->{name};
	my $runs = $runs{ $case->{name} }{$name};

	if (!$runs || $absent{ $case->{name} }{$name})
	{
		printf "%-16s %s\n", $name, $absent{ $case->{name} }{$name} // 'not measured';
		return;
	}
	my %median = map { $_ => figure($case->{name}, $name, $_) } qw(rate wall_op cpu_op fair p50 p99 p999 max);
	my @rates = sort { $a <=> $b } map { $_->{rate} } @$runs;
	my $spread = join(' ', map { sprintf('%+.0f%%', 100 * $_ / $median{rate} - 100 + 1e-9) } $rates[0], $rates[-1]);
	my @waits = map { has_waits($contender) ? short_time($median{$_}) : '-' } qw(p50 p99 p999 max);

	printf $line_format, $name, short_number($median{rate}), $spread, short_time($median{wall_op}), short_time($median{cpu_op}),
	  short_ratio(ratio($case->{name}, 'wall_op', $name, 'libpqpool')),
	  short_ratio(ratio($case->{name}, 'wall_op', $name, 'CAS pair')), @waits,
	  $case->{threads} > 1 ? sprintf('%.2f', $median{fair}) : '-';
}

sub print_table
{
	my ($case) = @_;
	printf "\n%s: %d thread%s, %d connection%s; %s\n\n", $case->{name}, $case->{threads}, $case->{threads} > 1 ? 's' : '',
	  $case->{size}, $case->{size} > 1 ? 's' : '', $what{ $case->{work} };
	printf $line_format, '', '', 'least', 'time', 'CPU', 'time', 'time', 'wait', '', '', '', 'slow/';
	printf $line_format, '', 'ops/s', 'and most', 'per op', 'per op', 'ours=1', 'CAS=1', 'p50', 'p99', 'p99.9', 'longest', 'fast';
	print_line($case, $_) foreach @{ $case->{who} };
}

sub print_head
{
	my ($facts) = @_;
	my $width = 14;

	print "\nTHE MACHINE\n\n";
	printf "%-${width}s %s\n", @$_ foreach @$facts;
	print "\nTHE CONTENDERS, and what each does on acquire besides taking\n\n";
	foreach my $contender (@contenders)
	{
		printf "%-16s %s\n", $contender->{name}, $contender->{does};
	}
	print <<TEXT;

THE FIGURES: medians of $rounds rounds of $seconds s, contenders in turn. An operation is acquire, what is said, release.
Time per op is the elapsed time by the operations of all threads. CPU is that of the contender's process (PgBouncer: and of
PgBouncer's), not of the server. ours=1, CAS=1: the ratio of times per op to libpqpool's and the CAS pair's; above 1 is slower.
Waits are timed where threads are more than connections, and in all cases with work: two looks at a clock, whose price is in the
line "no pool". slow/fast: operations of the slowest thread by those of the fastest.
TEXT
}

# --- targets -------------------------------------------------------------------------------------------------------------------------

# What, the figure, the bound, and whether it is an upper one. Undefined: not measured, which is no news if only a part was asked for.
sub target
{
	my ($text, $value, $bound, $at_most, @notes) = @_;
	my $verdict;

	return if !defined $value && length($ENV{BENCH_ONLY} // '');
	if (!defined $value || !defined $bound) { $verdict = '-     not measured' }
	elsif ($at_most ? $value <= $bound : $value >= $bound) { $verdict = 'PASS ' }
	else { $verdict = sprintf('SHORT by %sx', short_ratio($at_most ? $value / $bound : $value > 0 ? $bound / $value : 'inf')) }
	my $measured = defined $value ? sprintf(': %s (%s %g)', short_ratio($value), $at_most ? 'at most' : 'at least', $bound) : '';
	print join('; ', sprintf('%-15s %s%s', $verdict, $text, $measured), defined $value ? grep { defined } @notes : ()), "\n";
}

# Of the contenders of this kind, the one whose ratio to ours is the least or the most: (ratio, name).
sub nearest
{
	my ($case, $key, $wanted, $sign) = @_;
	my @found = sort { $sign * ($a->[0] <=> $b->[0]) }
	  grep { defined $_->[0] } map { [ ratio($case, $key, $_->{name}, 'libpqpool'), $_->{name} ] } grep { $wanted->($_) } @contenders;
	return @found ? @{ $found[0] } : ();
}

# Where nobody sleeps the same in CPU time, which others on the machine disturb less.
sub by_cpu { return defined $_[0] ? 'by CPU time ' . short_ratio($_[0]) : () }

sub is_peer { return $_[0]{kind} eq 'peer' }

sub uncontended_targets
{
	my ($ratio, $name) = nearest('none-1/1', 'wall_op', \&is_peer, 1);
	target('none-1/1: time to a CAS pair', ratio('none-1/1', 'wall_op', 'libpqpool', 'CAS pair'), 3, 1,
		by_cpu(ratio('none-1/1', 'cpu_op', 'libpqpool', 'CAS pair')));
	target('none-1/1: time of the best peer to ours', $ratio, 2, 0, $name, by_cpu(ratio('none-1/1', 'cpu_op', $name, 'libpqpool')));
	foreach my $case ('none-2/2', 'none-16/16')
	{
		($ratio, $name) = nearest($case, 'wall_op', \&is_peer, 1);
		target("$case: time of the best peer to ours", $ratio, 1, 0, $name, by_cpu(ratio($case, 'cpu_op', $name, 'libpqpool')));
	}
	my ($one, $two) = map { figure($_, 'libpqpool', 'wall_op') } 'none-1/1', 'none-2/2';
	my ($one_cpu, $two_cpu) = map { figure($_, 'libpqpool', 'cpu_op') } 'none-1/1', 'none-2/2';
	target('none-2/2: time of a pair in each thread, to none-1/1', defined $one && defined $two ? 2 * $two / $one : undef, 1.3, 1,
		by_cpu(defined $one && defined $two ? $two_cpu / $one_cpu : undef));
}

sub throughput_targets
{
	foreach my $case (grep { $_->{work} =~ /^(?:one|account)$/ } @cases)
	{
		my ($ratio, $name) =
		  nearest($case->{name}, 'rate', sub { $_[0]{fifo} && $_[0]{kind} =~ /floor|peer/ }, -1);
		target("$case->{name}: our throughput to the best FIFO contender's", defined $ratio ? 1 / $ratio : undef, 0.9, 0, $name);
		target("$case->{name}: our throughput to PgBouncer's", ratio($case->{name}, 'rate', 'libpqpool', 'PgBouncer'), 1.3, 0);
	}
}

sub waiting_targets
{
	foreach my $case (grep { $_->{work} =~ /^(?:one|account)$/ && $_->{threads} > $_->{size} } @cases)
	{
		my ($p50, $p999, $fair) = map { figure($case->{name}, 'libpqpool', $_) } qw(p50 p999 fair);
		my ($ratio, $name) = nearest($case->{name}, 'p999', sub { is_peer($_[0]) && $_[0]{waits} }, 1);
		my @barging = grep { $_->{waits} && !$_->{fifo} && $runs{ $case->{name} }{ $_->{name} } } @contenders;
		target("$case->{name}: wait p99.9 to p50", $p50 ? $p999 / $p50 : undef, 5, 1);
		target("$case->{name}: least wait p99.9 of the peers that wait, to ours", $ratio, 1, 0, $name);
		target("$case->{name}: slowest to fastest thread", $fair, 0.75, 0,
			'who barges: ' . join(', ', map { sprintf('%s %.2f', $_->{name}, figure($case->{name}, $_->{name}, 'fair')) } @barging));
	}
}

# What the pool costs is what remains without the thread's own part: nap, wake up, count.
sub queue_target
{
	my $alone = figure('nap-20/20', 'no pool', 'cpu_op');
	my ($hundred, $thousand) = map { figure("nap-$_/20", 'libpqpool', 'cpu_op') } 100, 1000;
	my $known = defined $alone && defined $hundred && defined $thousand && $hundred > $alone;
	target("nap: the pool's own CPU per op with 1000 threads to that with 100", $known ? ($thousand - $alone) / ($hundred - $alone) : undef,
		1.5, 1, $known ? sprintf('%s to %s', map { short_time($_ - $alone) } $thousand, $hundred) : undef);
}

# --- the whole -------------------------------------------------------------------------------------------------------------------------

my $out; # BENCH_OUT's

sub begin_file
{
	my ($facts) = @_;
	return unless ($ENV{BENCH_OUT} // '') ne '';
	open($out, '>&=', 3) or die "BENCH_OUT: $!\n";
	$out->autoflush(1);
	print $out "# $_->[0]: $_->[1]\n" foreach @$facts;
	print $out join("\t", qw(case contender round ops wall_ns cpu_ns slowest fastest wait_p50_ns wait_p99_ns wait_p999_ns wait_max_ns)),
	  "\n";
}

sub write_to_file
{
	my ($case) = @_;
	return unless $out;
	foreach my $contender (@{ $case->{who} })
	{
		my $round = 0;
		print $out join("\t", $case->{name}, $contender->{name}, ++$round,
			@$_{qw(ops wall cpu slowest fastest)}, map { $_ // '' } has_waits($contender) ? @$_{qw(p50 p99 p999 max)} : ('') x 4), "\n"
		  or die "BENCH_OUT: $!\n"
		  foreach @{ $runs{ $case->{name} }{ $contender->{name} } // [] };
	}
}

# Those who never sleep get all the CPU there is, unless somebody else on the machine takes it.
sub print_disturbance
{
	my @shares;
	chomp(my $all = `nproc`);
	foreach my $case (grep { $_->{work} eq 'none' && $_->{threads} <= $_->{size} } @cases)
	{
		my $cores = min($case->{threads}, $all);
		push @shares, map { $_->{cpu} / $_->{wall} / $cores } map { @{ $runs{ $case->{name} }{$_} // [] } } 'no pool', 'CAS pair';
	}
	return unless @shares;
	printf "\nOf the CPU that they could use, threads that never sleep got %.0f %% (median; at worst %.0f %%); others had the rest.\n",
	  100 * median(@shares), 100 * min(@shares);
	print "That is little: these figures are worth a look, and no more. Measure again when the machine is quiet.\n" if median(@shares) < 0.9;
}

sub read_facts
{
	my ($file) = @_;
	open(my $fh, '<', $file) or die "$file: $!";
	chomp(my @lines = <$fh>);
	return [ map { [ split /\t/, $_, 2 ] } @lines ];
}

sub main
{
	my ($mode, $facts);

	STDOUT->autoflush(1);
	$SIG{PIPE} = 'IGNORE';
	($mode, $directory, $facts) = @ARGV;
	read_settings();
	return if $mode eq 'check';

	my $begin = time;
	$facts = read_facts($facts);
	print_head($facts);
	begin_file($facts);
	foreach my $case (grep { @{ $_->{who} } } @cases)
	{
		measure($case);
		print_table($case);
		write_to_file($case);
	}
	print_disturbance();
	print "\nTARGETS of libpqpool with default settings\n\n";
	uncontended_targets();
	throughput_targets();
	waiting_targets();
	queue_target();
	printf "\nmeasured for %.0f s\n", time - $begin;
	print "could not be measured: ", join(', ', sort keys %failed), "\n" if %failed;
	exit(%failed ? 1 : 0);
}

main();
