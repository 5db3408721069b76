#!/usr/bin/perl
#
# man.pl VERSION HEADER DIRECTORY: make the manual pages of section 3 of the public header, which is the manual.
#
# Called by the Makefile. Needs nothing but perl itself: what Debian calls perl-base. Writes into DIRECTORY, which is there:
#
#   libpqpool.3       the file comment, the numbered sections, and what is in the pages
#   pqpool_NAME.3     a page for each comment that stands before functions or types, named by the first of them
#   links             symbolic, one for each further name on a page
#
# How the header is read:
#
# - The file comment is the overview: purpose, example, and numbered sections in capitals. A paragraph of such a section that
#   begins with a word or two and a full stop ("Fork.  A child ...") starts a subsection.
# - Declarations stand between PQPOOL_C_BEGIN and PQPOOL_C_END. A comment belongs to what follows it without an empty line. A
#   comment of one section number and title starts a section.
# - A function without a comment belongs to the comment before it. Types and constants without one belong to the first
#   declaration after them that speaks of them, as a struct to the function that fills it.
# - A macro of a function's first arguments (pqpool_stats) is shown as the function that it stands for. A macro outside the
#   markers is none of the manual's, unless a comment uses it (PQPOOL_SCOPE).
# - In a comment, an indented line is an example or a table, and kept as it is; but "<tab>term<tab>text" is a list, and an
#   indented paragraph without columns is a paragraph. Lines with columns that are not indented are a table with a head, of
#   three columns or more.
# - The first sentence, up to a colon or semicolon, is the summary in NAME. From "Returns" to the end of the paragraph is
#   RETURN VALUE. Codes may be written without PQPOOL_.
#
# What is not understood is an error that names file and line: a page must not lose a declaration silently.

use strict;
use warnings;

@ARGV == 3 or die "usage: man.pl VERSION HEADER DIRECTORY\n";
my ($version, $header, $directory) = @ARGV;
my ($file_name) = $header =~ m{([^/]+)$};
my $library = 'libpqpool';
my $tab = 4;         # the header's tabs
my $wide = 78;       # of a terminal
my $indent = 7;      # of a page's text

my @items;      # the header, in order: see read_header
my @blocks;     # comments and what belongs to them: see build_blocks
my @sections;   # numbered ones
my %code;       # TIMED_OUT and so on: true
my %page_of;    # name => block
my %parameter;  # of the page that is being written

read_header();
build_blocks();
name_pages();
write_overview();
write_page($_) for grep { $_->{page} } @blocks;

# ---- reading -----------------------------------------------------------------------------------------------------------------

sub complain
{
	my ($line, $what) = @_;
	die "man.pl: $header:$line: $what\n";
}

# Into @items: { kind => comment | blank | directive | define | declaration | begin | end, line, text }.
sub read_header
{
	open(my $file, '<', $header) or die "man.pl: $header: $!\n";
	my @lines = <$file>;
	close $file;
	chomp @lines;
	for (my $i = 0; $i < @lines; $i++)
	{
		my $first = $i;
		my $text = $lines[$i];
		my $kind;
		my $more = sub {
			$i < $#lines or complain($first + 1, "this $kind does not end");
			$text .= "\n" . $lines[ ++$i ];
		};

		if ($text =~ m{^/\*})
		{
			$kind = 'comment';
			$more->() until $text =~ m{\*/\s*$};
		}
		elsif ($text =~ /^\s*$/) { $kind = 'blank'; }
		elsif ($text =~ /^(?:PQPOOL_C_BEGIN|PQPOOL_C_END)$/) { $kind = $text =~ /BEGIN/ ? 'begin' : 'end'; }
		elsif ($text =~ /^#/)
		{
			$kind = $text =~ /^#\s*define\b/ ? 'define' : 'directive';
			$more->() while $text =~ /\\$/;
		}
		else
		{
			$kind = 'declaration';
			$more->() until complete($text);
		}
		push @items, { kind => $kind, line => $first + 1, text => $text };
	}
	return;
}

# A declaration ends with a semicolon, or, if it has a body, with that; comments do not count.
sub complete
{
	my $code = without_comments($_[0]);
	my $open = ($code =~ tr/{//) - ($code =~ tr/}//);

	return 0 if $open > 0 || $_[0] =~ m{/\*(?:(?!\*/).)*$}s;
	return $code =~ /[;}]\s*$/;
}

sub without_comments
{
	my ($text) = @_;
	$text =~ s{/\*.*?\*/}{}gs;
	return $text;
}

# A comment's text: its lines without stars, tabs expanded as they stand in the file.
sub comment_text
{
	my ($text) = @_;
	my @lines;

	for my $line (split /\n/, $text)
	{
		$line =~ s{^/\*-*}{  };
		$line =~ s{-*\*/\s*$}{};
		$line =~ s{^ \*}{  };
		# The tabs that tell a table from prose are needed later: a tab becomes blanks behind a mark.
		my $out = '';
		for my $char (split //, $line)
		{
			$out .= $char eq "\t" ? "\t" . ' ' x ($tab - 1 - length($out) % $tab) : $char;
		}
		$out =~ s/[\t ]+$//;
		push @lines, substr($out, 2) if length $out > 2;
		push @lines, '' if length $out <= 2;
	}
	shift @lines while @lines && $lines[0] =~ /^\s*-*$/;
	pop @lines while @lines && $lines[-1] =~ /^\s*-*$/;
	return join("\n", @lines);
}

# ---- what belongs to what ----------------------------------------------------------------------------------------------------

# An item of code as { kind => function | type | shorthand | list | constant, name, text, source, line, ... }: its text as it
# stands, its source without comments.
sub entity
{
	my ($item) = @_;
	my %common = (line => $item->{line}, text => $item->{text}, source => without_comments($item->{text}));

	return $item->{kind} eq 'define' ? macro(%common) : declaration(%common);
}

# A list is a macro that applies another to rows; a shorthand calls a function.
sub macro
{
	my (%entity) = @_;
	my $source = $entity{source} =~ s/\\\n\s*/ /gr;

	if ($source =~ /^#\s*define\s+(\w+)\(\s*(\w+)\s*\)\s+\2\(/)
	{
		my ($name, $row) = ($1, $2);
		my @rows; # { name, number, text } or { comment }

		while ($entity{text} =~ m{\b$row\(\s*(\w+),\s*(-?\d+),\s*"([^"]*)"\s*\)|/\*\s*(.*?)\s*\*/}gs)
		{
			push @rows, defined $4 ? { comment => $4 } : { name => $1, number => $2, text => $3 };
		}
		return { %entity, kind => 'list', name => $name, rows => \@rows };
	}
	if ($source =~ /^#\s*define\s+(\w+)\(([^)]*)\)\s+(\w+)\(/)
	{
		return { %entity, kind => 'shorthand', name => $1, target => $3, arguments => [ split /\s*,\s*/, $2 ] };
	}
	if ($source =~ /^#\s*define\s+\w+(?:\s|$)/ && $entity{text} =~ /^#\s*define\s+(\w+)\s*(.*)$/s)
	{
		return { %entity, kind => 'constant', name => $1, value => tidy($2) }; # and its comment
	}
	return complain($entity{line}, 'a macro that is neither a constant, a list, nor a shorthand for a function');
}

sub declaration
{
	my (%entity) = @_;
	my $source = $entity{source};

	# Without attributes and linkage.
	$source =~ s/\b__attribute__\s*(\((?:[^()]|(?1))*\))//g;
	$source =~ s/\bPQPOOL_(?:API|[A-Z_]+(?:\([^()]*\))?(?=\s*;))//g;
	$source =~ s/\bextern\b//g;
	$entity{source} = tidy($source);

	if ($source =~ /^\s*(?:typedef\s+)?(struct|enum|union)\s+(\w+)\s*\{.*\}\s*(\w*)\s*;\s*$/s)
	{
		my ($form, $name) = ($1, $3 || $2);
		my ($body) = $entity{text} =~ /\{(.*)\}/s;

		return { %entity, kind => 'type', name => $name, form => $form, body => $body };
	}
	if ($source =~ /^\s*typedef\s+[^(){}]*?(\w+)\s*;\s*$/s
		|| $source =~ /^\s*typedef\b[^;]*?\(\s*\*\s*(\w+)\s*\)\s*\([^;]*\)\s*;\s*$/s)
	{
		return { %entity, kind => 'type', name => $1 };
	}
	if ($entity{text} =~ /\bPQPOOL_API\b/ && $source =~ /^([^(;{]*?)(\w+)\s*\(([^;{]*)\)\s*;\s*$/s)
	{
		return { %entity, kind => 'function', name => $2, result => tidy($1), parameters => [ parameters($3) ] };
	}
	return complain($entity{line}, 'a declaration that is neither a function (PQPOOL_API), a struct, an enum nor a typedef');
}

# On one line, with single blanks.
sub tidy
{
	my ($text) = @_;
	$text =~ s/\s+/ /g;
	$text =~ s/^ | $//g;
	return $text;
}

# Of a function: { text, name } each; a comma between parentheses divides nothing.
sub parameters
{
	my ($text) = @_;
	my @parameters;

	for my $parameter (tidy($text) =~ /((?:[^,()]|(\((?:[^()]|(?2))*\)))+)/g)
	{
		next if !defined $parameter || $parameter =~ /^\(/;
		my ($name) = $parameter =~ /\(\s*\*\s*(\w+)\s*\)/ ? $1 : $parameter =~ /(\w+)\s*(?:\[[^]]*\])?\s*$/;
		push @parameters, { text => tidy($parameter), name => $parameter =~ /^\s*(?:void|\.\.\.)\s*$/ ? '' : $name };
	}
	return @parameters;
}

# Blocks: { line, text, entities, guests, section, ... }: a comment, what it is about, and what has no comment of its own but
# belongs there; later { page, names, macros }.
sub build_blocks
{
	my ($inside, $touching) = (0, 0);
	my @waiting; # types and constants without a comment, each with the block that it comes after

	for my $item (@items)
	{
		my $kind = $item->{kind};

		if ($kind eq 'begin' || $kind eq 'end') { $inside = $kind eq 'begin'; }
		elsif ($kind eq 'comment')
		{
			add_block($item, $inside);
			$touching = 1;
		}
		elsif ($kind eq 'blank' || $kind eq 'directive') { $touching = 0; }
		elsif ($inside)
		{
			my $entity = entity($item);

			@sections or complain($item->{line}, 'a declaration before the first numbered section');
			$entity->{after} = $blocks[-1];
			if ($touching || $entity->{kind} =~ /^(?:function|shorthand)$/) { push @{ $blocks[-1]{entities} }, $entity; }
			else { push @waiting, $entity; }
			for my $row (grep { $_->{name} } @{ $entity->{rows} // [] })
			{
				$code{$1} = 1 if $row->{name} =~ /^PQPOOL_(\w+)/;
			}
		}
	}
	@sections or complain(1, 'no numbered section between PQPOOL_C_BEGIN and PQPOOL_C_END');
	delete $code{OK}; # too short a word to be meant by itself

	# The last first: each may be what another is waiting for.
	for my $entity (reverse @waiting)
	{
		my ($home) = grep { speaks_of($_, $entity) } grep { $_->{line} > $entity->{after}{line} } @blocks;
		unshift @{ ($home // $entity->{after})->{guests} }, $entity;
	}
	return;
}

sub add_block
{
	my ($item, $inside) = @_;
	my $text = comment_text($item->{text});
	my $block = { line => $item->{line}, text => $text, entities => [], guests => [] };

	if (!@blocks) { $block->{overview} = 1; }
	elsif (!$inside)
	{
		# Of the machinery: what is said in sentences is for those who use it, a remark is not.
		return if $text !~ /\.\s*$/;
		$block->{loose} = 1;
	}
	else
	{
		if ($text =~ s/^ \d+\. ([^a-z\n]+)$(?:\n\s*)?//m)
		{
			push @sections, { title => $1, blocks => [] };
			$block->{titled} = 1;
			$block->{text} = $text;
		}
		@sections or complain($item->{line}, 'a comment before the first numbered section');
		$block->{section} = $sections[-1];
		push @{ $sections[-1]{blocks} }, $block;
	}
	push @blocks, $block;
	return;
}

sub entities_of
{
	my ($block) = @_;
	return (@{ $block->{entities} }, @{ $block->{guests} });
}

sub speaks_of
{
	my ($block, $entity) = @_;
	for my $text ($block->{text}, map { $_->{text} } entities_of($block))
	{
		return 1 if $text =~ /\b$entity->{name}\b/;
	}
	return 0;
}

# ---- pages -------------------------------------------------------------------------------------------------------------------

sub name_pages
{
	my ($stem) = $file_name =~ /^(\w+)/;
	my %taken = ($library => 1, $stem => 1);
	my %macro; # those outside the markers

	for my $item (@items)
	{
		$macro{$1} = $2 if $item->{text} =~ /^#\s*define\s+([A-Z]\w*[A-Z])\(([^)]*)\)/;
	}
	for my $block (@blocks)
	{
		next if $block->{overview} || $block->{loose};
		for my $entity (grep { $_->{kind} =~ /^(?:function|shorthand|type)$/ } entities_of($block))
		{
			push @{ $block->{names} }, $entity->{name} if !$taken{ $entity->{name} }++;
		}
		next if !$block->{names};
		for my $name (grep { $block->{text} =~ /\b$_\(/ } sort keys %macro)
		{
			next if $taken{$name}++;
			push @{ $block->{macros} }, { name => $name, arguments => $macro{$name} };
		}
		$block->{page} = $block->{names}[0];
		$page_of{$_} = $block for @{ $block->{names} };
	}
	return;
}

sub summary
{
	my ($block) = @_;
	my ($first) = paragraphs($block->{text});
	my $text = $first && $first->{kind} eq 'prose' ? tidy($first->{text}) : '';

	$text =~ s/ \([^()]* [^()]*\)| \("[^()]*"\)//g; # asides
	$text =~ s/^([A-Z]\w*)\. ([A-Z])/\l$1: \l$2/; # "Binding.  A bound loan ..."
	my ($sentence) = $text =~ /^(.*?)(?:\.(?: |$)|$)/s;
	# Not less than three words: "For X: ..." says nothing.
	$sentence =~ s/^(\S+ \S+ .*?)[:;] .*$/$1/s;
	$sentence = lcfirst $sentence if $sentence =~ /^[A-Z][a-z]* /;
	$sentence = lc($block->{section}{title}) . ($sentence eq '' ? '' : ": $sentence") if $block->{titled};
	$sentence ne '' or complain($block->{line}, 'a comment without a first sentence, for the NAME of its page');
	return $sentence;
}

sub date
{
	my @time = gmtime($ENV{SOURCE_DATE_EPOCH} // (stat $header)[9]);
	return sprintf('%04d-%02d-%02d', $time[5] + 1900, $time[4] + 1, $time[3]);
}

sub title
{
	my ($name) = @_;
	return ".\\\" Made of $file_name by man.pl: change the header instead.\n"
	  . '.TH ' . uc($name) . ' 3 ' . date() . " \"$library $version\" \"$library manual\"\n"
	  . ".nh\n.ad l\n"; # a name that is broken cannot be searched for
}

sub save
{
	my ($name, @text) = @_;
	my $path = "$directory/$name.3";

	open(my $file, '>', $path) or die "man.pl: $path: $!\n";
	print $file @text;
	close $file or die "man.pl: $path: $!\n";
	return;
}

sub link_names
{
	my ($target, @names) = @_;
	for my $name (@names)
	{
		unlink "$directory/$name.3";
		symlink("$target.3", "$directory/$name.3") or die "man.pl: $directory/$name.3: $!\n";
	}
	return;
}

sub include
{
	return ".nf\n\\fB#include <$file_name>\\fR\n.fi\n";
}

sub linking
{
	my ($option) = $library =~ /^lib(.*)/;
	return ".PP\nLink with \\fI\\-l$option\\fR, or as \\fBpkg\\-config \\-\\-cflags \\-\\-libs $library\\fR says.\n";
}

sub write_page
{
	my ($block) = @_;
	my @entities = entities_of($block);
	my ($name, @links) = @{ $block->{names} };
	my (@description, @return);

	%parameter = map { $_->{name} => 1 } grep { $_->{name} =~ /_|^conninfo$/ } map { @{ $_->{parameters} // [] } } @entities;
	for my $paragraph (paragraphs($block->{text}))
	{
		if ($paragraph->{kind} eq 'prose' && $paragraph->{text} =~ /^\s*(|.*?[.]\s+)(Returns?\s.*)$/s)
		{
			push @description, { kind => 'prose', text => $1 } if $1 ne '';
			push @return, { kind => 'prose', text => $2 };
		}
		else { push @description, $paragraph; }
	}

	my $all = join(', ', @{ $block->{names} }, map { $_->{name} } @{ $block->{macros} // [] });
	save($name,
		title($name),
		".SH NAME\n$all \\- ", plain(summary($block)), "\n",
		".SH SYNOPSIS\n", include(), synopsis($block, @entities), linking(),
		headed('.SH DESCRIPTION', troff($block, @description)), (map { members($block, $_) } @entities),
		@return ? headed('.SH RETURN VALUE', troff($block, @return)) : (),
		".SH SEE ALSO\n", see_also($block));
	link_names($name, @links);
	return;
}

sub synopsis
{
	my ($block, @entities) = @_;
	my %function = map { $_->{name} => $_ } grep { $_->{kind} eq 'function' } @entities;
	my @constants = grep { $_->{kind} eq 'constant' } @entities;
	my @types = grep { $_->{kind} eq 'type' && $page_of{ $_->{name} } } @entities;
	my (@parts, @prototypes);

	push @parts, join('', map { '\fB' . code("#define $_->{name} $_->{value}") . "\\fR\n" } @constants) if @constants;
	push @parts, definition($_) for @types;
	for my $entity (@entities)
	{
		push @prototypes, prototype_of($entity) if $entity->{kind} eq 'function';
		push @prototypes, shorthand($entity, $function{ $entity->{target} }) if $entity->{kind} eq 'shorthand';
	}
	push @prototypes, '\fB' . $_->{name} . '(\fI' . code($_->{arguments}) . "\\fB)\\fR\n" for @{ $block->{macros} // [] };
	push @parts, join('', @prototypes) if @prototypes;
	return join('', map { ".PP\n.nf\n$_.fi\n" } @parts);
}

# A prototype, broken where it must be, its parameters' names in italics.
sub prototype_of
{
	my ($function) = @_;
	my $head = $function->{result} . ($function->{result} =~ /\*$/ ? '' : ' ') . $function->{name} . '(';
	my @lines = ([ $head, '\fB' . code($head) ]);
	my @parameters = @{ $function->{parameters} };

	for my $i (0 .. $#parameters)
	{
		my ($text, $name) = @{ $parameters[$i] }{qw(text name)};
		my $end = $i < $#parameters ? ',' : ');';
		my $marked = code($text);

		$marked =~ s/\b\Q$name\E\b(?!.*\b\Q$name\E\b)/\\fI$name\\fB/s if $name ne '';
		if ($indent + length("$lines[-1][0] $text$end") > $wide && $i > 0)
		{
			my $margin = ' ' x length $head;
			$margin = ' ' x 8 if length("$margin$text$end") + $indent > $wide;
			push @lines, [ $margin, $margin ];
		}
		elsif ($i > 0)
		{
			$lines[-1][$_] .= ' ' for 0, 1;
		}
		$lines[-1][0] .= $text . $end;
		$lines[-1][1] .= $marked . $end;
	}
	@parameters or $lines[-1][1] .= ');';
	return join("\n", map { $_->[1] } @lines) . "\\fR\n";
}

# A macro as the function that it stands for, if its arguments are the function's.
sub shorthand
{
	my ($macro, $function) = @_;
	if ($function)
	{
		my %by_name = map { $_->{name} => $_ } @{ $function->{parameters} };
		my @parameters = map { $by_name{$_} } @{ $macro->{arguments} };

		return prototype_of({ %$function, name => $macro->{name}, parameters => \@parameters })
		  if !grep { !defined } @parameters;
	}
	return '\fB' . code("$macro->{name}(") . '\fI' . join('\fB, \fI', @{ $macro->{arguments} }) . "\\fB)\\fR\n";
}

# A type without its comments.
sub definition
{
	my ($type) = @_;
	return '\fB' . code($type->{source}) . "\\fR\n" if !defined $type->{body};

	my $list = expanded($type);
	my @members = $list ? map { { declaration => "$_->{name} = $_->{number}" } } grep { $_->{name} } @{ $list->{rows} } : body($type);
	my $end = $type->{form} eq 'enum' ? ',' : ';';
	my ($typedef, $name) = $type->{text} =~ /^\s*typedef\b/ ? ('typedef ', " $type->{name}") : ('', '');
	my @lines = ("$typedef$type->{form} $type->{name} {");
	push @lines, map { "    $_->{declaration}$end" } grep { defined $_->{declaration} } @members;
	return join('', map { '\fB' . code($_) . "\\fR\n" } @lines, "}$name;");
}

# The list macro that an enum's values come from.
sub expanded
{
	my ($type) = @_;
	for my $list (grep { $_->{kind} eq 'list' } map { entities_of($_) } @blocks)
	{
		return $list if defined $type->{body} && $type->{body} =~ /\b$list->{name}\(/;
	}
	return;
}

# A body as { declaration, comment }, or { comment } for one that stands alone.
sub body
{
	my ($type) = @_;
	my $text = $type->{body};
	my @members;
	# A last value may end with its comment alone; a member may have a body of its own.
	my $member = $type->{form} eq 'enum'
	  ? qr{\G\s*(\w+(?:\s*=\s*(?:[^,/]|/(?!\*))+?)?)\s*(?:,|(?=/\*)|\z)}
	  : qr{\G\s*((?:[^;{}/]|/(?!\*)|(\{(?:[^{}]|(?2))*\}))+?)\s*;};

	while ($text !~ /\G\s*\z/gc)
	{
		if ($text =~ /\G\s*#(?:[^\n]*\\\n)*[^\n]*(?=\n)/gc) { next; }
		if ($text =~ m{\G(\s*)(/\*.*?\*/)}gcs)
		{
			my ($before, $comment) = ($1, $2);
			my $alone = $before =~ /\n/ || !@members || defined $members[-1]{comment};

			# Set back to the margin, as a comment of the file's.
			$comment = comment_text(join("\n", map { s/^\s*(?=\*)/ /r } split /\n/, $comment));
			if ($alone) { push @members, { comment => $comment }; }
			else { $members[-1]{comment} = $comment; }
		}
		elsif ($text =~ /$member/gc) { push @members, { declaration => tidy($1) }; }
		else { complain($type->{line}, "a member of $type->{name} that is not understood"); }
	}
	return @members;
}

sub members
{
	my ($block, $type) = @_;
	return '' if $type->{kind} ne 'type' || !$page_of{ $type->{name} } || !defined $type->{body};

	my $top = '.SS ' . ($type->{form} eq 'enum' ? 'Values' : 'Members') . " of $type->{name}";
	my $text = '';
	if (my $list = expanded($type))
	{
		for my $row (@{ $list->{rows} })
		{
			$text .= $row->{name} ? ".TP\n\\fB$row->{name}\\fR (" . plain($row->{number}) . ")\n" : ".PP\n";
			$text .= prose($block, $row->{text} // $row->{comment});
		}
		return headed($top, $text)
		  . ".PP\n\\fB$list->{name}\\fR(\\fIX\\fR) applies a macro \\fIX\\fR to name, number and text of each.\n";
	}
	for my $member (body($type))
	{
		if (defined $member->{declaration})
		{
			# What the synopsis says already is not said again: types, and members without a word about them.
			next if !defined $member->{comment};
			my ($name) = $member->{declaration} =~ /\(\s*\*\s*(\w+)/;
			($name) = $member->{declaration} =~ /^(\w+)/ if !$name && $type->{form} eq 'enum';
			($name) = $member->{declaration} =~ /(\w+)\s*(?:\[[^]]*\]\s*)*(?::\s*\d+\s*)?$/ if !$name;
			$name // complain($type->{line}, "a member of $type->{name} without a name: $member->{declaration}");
			$text .= ".TP\n\\fB" . code($name) . "\\fR\n" . prose($block, $member->{comment});
		}
		else { $text .= troff($block, paragraphs($member->{comment})); }
	}
	return $text eq '' ? '' : headed($top, $text);
}

sub see_also
{
	my ($block) = @_;
	my %seen = ($block->{page} => 1);
	my @pages = ($library);
	my @texts = ($block->{text}, map { $_->{text} } entities_of($block));

	for my $name (map { /\b(pqpool_\w+)/g } @texts)
	{
		my $page = $page_of{$name} && $page_of{$name}{page};
		push @pages, $page if $page && !$seen{$page}++;
	}
	# What is asked together: the section's other pages, where there are few.
	my @section = map { $_->{page} // () } @{ $block->{section}{blocks} };
	push @pages, grep { !$seen{$_}++ } @section if @section <= 8;
	return join(",\n", map { "\\fB$_\\fR(3)" } sort @pages) . "\n";
}

sub write_overview
{
	my ($overview) = grep { $_->{overview} } @blocks;
	my ($stem) = $file_name =~ /^(\w+)/;

	# The file comment begins with the file's name, and what it is.
	$overview->{text} =~ s/^\s*\Q$file_name\E\n\s*(?:\w+:\s+)?(.*?)\.?\s*\n\s*\n//s
	  or complain($overview->{line}, "a file comment that does not say what $file_name is");
	my $summary = plain(tidy($1));

	save($library, title($library), ".SH NAME\n$library, $stem \\- $summary\n",
		".SH SYNOPSIS\n", include(), linking(),
		general_part($overview), contents($overview),
		".SH SEE ALSO\n\\fBpsql\\fR(1), and the chapter about libpq in the manual of PostgreSQL\n");
	link_names($library, $stem);
	return;
}

# The file comment.
sub general_part
{
	my ($overview) = @_;
	my ($text, $heading, $numbered) = ('', '.SH DESCRIPTION', 0);

	for my $paragraph (paragraphs($overview->{text}))
	{
		next if $paragraph->{text} =~ /^\s*Contents:/; # ours names the pages
		if ($paragraph->{text} =~ /^\s*\d+\. ([^a-z]+?)\s*$/)
		{
			$heading = ".SH $1";
			$numbered = 1;
			next;
		}
		if ($numbered && $paragraph->{text} =~ s/^\s*(\w+(?: \w+)?)\.\s\s+(?=[A-Z])//)
		{
			my $label = $1;
			$text .= "$heading\n" if $heading ne '';
			$heading = ".SS $label";
		}
		$paragraph->{text} =~ s/^\s*This header is the manual\.\s+//; # the page is not the header
		$text .= $heading eq '' ? troff($overview, $paragraph) : headed($heading, troff($overview, $paragraph));
		$heading = '';
	}
	return $text;
}

# The sections: first those without pages, as they are all that is to be read about something.
sub contents
{
	my ($overview) = @_;
	my ($text, $lists, @loose) = ('', '', map { paragraphs($_->{text}) } grep { $_->{loose} } @blocks);

	for my $section (@sections)
	{
		my $entries = '';
		for my $block (@{ $section->{blocks} })
		{
			if ($block->{page})
			{
				$entries .= ".TP\n" . join(', ', map { "\\fB$_\\fR(3)" } @{ $block->{names} }) . "\n";
				$entries .= plain(summary($block)) . "\n";
			}
			else { $entries .= troff($overview, paragraphs($block->{text})); }
		}
		if (grep { $_->{page} } @{ $section->{blocks} }) { $lists .= headed('.SS ' . ucfirst(lc $section->{title}), $entries); }
		else { $text .= headed(".SH $section->{title}", $entries); }
	}
	return $text . ".SH CALLS AND TYPES\n$lists" . (@loose ? headed('.SH NOTES', troff($overview, @loose)) : '');
}

# ---- a comment's text as troff -----------------------------------------------------------------------------------------------

# A text as { kind => prose | literal | indented | list | table, text }. Tabs still mark columns (comment_text).
sub paragraphs
{
	my ($text) = @_;
	my @paragraphs;

	for my $lines (split /\n\s*\n/, $text)
	{
		# A paragraph may run into a table: a new one begins where indentation does.
		my @groups;
		for my $line (split /\n/, $lines)
		{
			my $kind = $line =~ /^\t/ ? 'literal' : $line =~ /\S *\t/ ? 'table' : 'prose';
			# the last cell's next line
			$kind = 'table' if $kind eq 'literal' && @groups && $groups[-1]{kind} eq 'table';
			if (@groups && $groups[-1]{kind} eq $kind) { $groups[-1]{text} .= "\n$line"; }
			else { push @groups, { kind => $kind, text => $line }; }
		}
		push @paragraphs, map { refine($_) } @groups;
	}
	# An example's empty lines are its own.
	for (my $i = 1; $i < @paragraphs; $i++)
	{
		next if $paragraphs[$i]{kind} ne 'literal' || $paragraphs[ $i - 1 ]{kind} ne 'literal';
		$paragraphs[ $i - 1 ]{text} .= "\n\n" . $paragraphs[$i]{text};
		splice(@paragraphs, $i--, 1);
	}
	return @paragraphs;
}

sub refine
{
	my ($group) = @_;
	my @lines = split /\n/, $group->{text};

	if ($group->{kind} eq 'literal')
	{
		$group->{kind} = 'indented' if !grep { !/^\t +[^\s]/ || /\S *\t/ } @lines;
		# Each line is a term with its text, or goes on with the text, far to the right.
		$group->{kind} = 'list' if $lines[0] =~ /^\t +\S/ && !grep { !/^\t +\S[^\t]*\t[ \t]*[^\t]+$/ && !/^(?:\t *){3,}\S/ } @lines;
	}
	return $group;
}

sub troff
{
	my ($block, @paragraphs) = @_;
	my $text = '';
	my %by_kind = (
		prose => sub { return ".PP\n" . prose($block, $_[0]); },
		indented => sub { return ".RS 4\n.PP\n" . prose($block, $_[0]) . ".RE\n"; },
		literal => \&literal,
		list => sub { return items($block, '', $_[0]); },
		table => sub { return items($block, split(/\n/, $_[0], 2)); });

	$text .= $by_kind{ $_->{kind} }->($_->{text}) for @paragraphs;
	return $text;
}

# What follows a heading is a paragraph already, and a linter says so.
sub headed
{
	my ($heading, $text) = @_;
	return "$heading\n" . $text =~ s/\A\.PP\n//r;
}

sub literal
{
	my @lines = map { s/\t/ /gr } split /\n/, $_[0];
	my ($margin) = sort { $a <=> $b } map { /^( *)\S/ ? length $1 : () } @lines;

	@lines = map { length $_ > $margin ? guard(code(substr($_, $margin))) : '' } @lines;
	return ".PP\n.RS 4\n.nf\n" . join('', map { "$_\n" } @lines) . ".fi\n.RE\n";
}

# Rows of a term and its text; what is between goes behind the term, under its name from the head.
sub items
{
	my ($block, $head, $rows) = @_;
	my @head = cells($head);
	my $text = '';
	my @items;

	# What has no tab before it is a table, whose first line is not shown: not by mistake.
	$head eq '' || (@head > 2 && defined $rows)
	  or complain($block->{line}, 'a table whose head heads nothing; a list is indented by a tab');

	for my $row (split /\n/, $rows // '')
	{
		if ($row =~ /^(?:\t *){3,}\S/ && @items) { $items[-1][-1] .= ' ' . join(' ', cells($row)); }
		else { push @items, [ cells($row) ]; }
	}
	for my $item (@items)
	{
		my ($term, @between) = @$item;
		my $last = @between ? pop @between : '';
		my @aside;
		for my $i (0 .. $#between)
		{
			push @aside, ($head[ $i + 1 ] // '') . ' ' . ($between[$i] =~ s/^\((.*)\)$/$1/r);
		}
		$text .= ".TP\n" . marked($block, $term, 1) . (@aside ? ' (' . plain(join(', ', @aside)) . ')' : '') . "\n"
		  . ($last ne '' ? prose($block, $last) : "\\&\n");
	}
	return $text;
}

sub cells
{
	my ($row) = @_;
	return grep { $_ ne '' } map { tidy($_) } split /\t */, $row;
}

# Filled text: a sentence a line, and no line longer than it need be.
sub prose
{
	my ($block, $text) = @_;
	my $out = '';

	$text =~ s/\t */ /g;
	$text =~ s/^\s+|\s+$//g;
	for my $sentence (split /(?<=[.?!])(?:\s{2,}|\n\s*)/, $text)
	{
		my $line = '';
		for my $word (split / /, marked($block, tidy($sentence), 0))
		{
			if ($line ne '' && length("$line $word") > $wide)
			{
				$out .= guard($line) . "\n";
				$line = '';
			}
			$line .= $line eq '' ? $word : " $word";
		}
		$out .= guard($line) . "\n";
	}
	return $out;
}

# Names stand out: of calls, codes and options in bold, of parameters in italics.
sub marked
{
	my ($block, $text, $term) = @_;
	my $out = '';

	while ($text =~ /\G(?:`([^`]+)`|((?:[A-Za-z]\w*))(\(\))?|([^A-Za-z`]+|.))/gcs)
	{
		my ($quoted, $name, $call, $other) = ($1, $2, $3, $4);

		if (defined $quoted) { $out .= '\fI' . code($quoted) . '\fR'; }
		elsif (defined $other) { $out .= plain($other, $out); }
		elsif ($code{$name}) { $out .= "\\fBPQPOOL_$name\\fR"; }
		elsif ($call)
		{
			my $home = $page_of{$name};
			$out .= "\\fB$name\\fR" . ($home && $home != $block ? '(3)' : '()');
		}
		elsif ($parameter{$name}) { $out .= "\\fI$name\\fR"; }
		elsif ($term || $name =~ /^(?:PQPOOL_|pqpool_|pool_)\w/) { $out .= "\\fB$name\\fR"; }
		else { $out .= $name; }
	}
	return $out;
}

# Escapes, for text: an option's or number's hyphen is a minus.
sub plain
{
	my ($text, $before) = @_;
	$text =~ s/\\/\\e/g;
	$text =~ s/(?:(?<=[\s(=])|^)-(?=\S|$)/\\-/g if !defined $before || $before =~ /(?:^|[\s(=])$/ || $text !~ /^-/;
	$text =~ s/([~^`])/{ '~' => '\\(ti', '^' => '\\(ha', '`' => '\\(ga' }->{$1}/ge;
	return $text;
}

# And for code, which is to be copied: every character is what it is.
sub code
{
	my ($text) = @_;
	$text =~ s/\\/\\e/g;
	$text =~ s/-/\\-/g;
	$text =~ s/([~^`'])/{ '~' => '\\(ti', '^' => '\\(ha', '`' => '\\(ga', "'" => '\\(aq' }->{$1}/ge;
	return $text;
}

# A line that begins as a request does is none.
sub guard
{
	my ($line) = @_;
	return $line =~ /^[.']/ ? "\\&$line" : $line;
}
