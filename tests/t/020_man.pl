# The manual pages: one for everything public and none for anything else, nothing of the header lost, in order by every
# formatter's standards, installed and removed; and a header that grows needs no new generator.
#
# timeout: 900

use strict;
use warnings;

use Test::More;

my $header = 'client/include/pqpool.h';
my $pages = "$ENV{STAGE_PREFIX}/share/man/man3";
my $programs = "$ENV{STAGE_PREFIX}/share/man/man1";

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) or die "$path: $!";
	local $/ = undef;
	return scalar <$file>;
}

sub read_names
{
	my ($directory) = @_;
	opendir(my $dir, $directory) or return ();
	return grep { /^[^.]/ } sort readdir $dir;
}

sub names_in
{
	my ($directory) = @_;
	return map { s/\.3$//r } read_names($directory);
}

# A page as its reader sees it, on one line, without what the formatter adds.
sub read_page
{
	my ($path) = @_;
	my $text = `groff -man -Tascii -P-bcou -rLL=1000n '$path' 2>&1`;
	return squeeze($text);
}

# Text without what a formatter may change.
sub squeeze
{
	my ($text) = @_;
	$text =~ s/\bPQPOOL_(?=[A-Z])//g; # codes have it or not
	$text =~ s/\(3\)|\(\)//g;
	$text =~ tr/`"'//d;
	$text =~ s/\s+/ /g;
	return $text;
}

# ---- one for everything, none for anything else ---------------------------------------------------------------------------

my $text = slurp($header);
my $code = $text =~ s{/\*.*?\*/}{}gsr;
my %exported = map { $_ => 1 } slurp('client/libpqpool.map') =~ /^\s*(pqpool_\w+);/gm;
my %public = %exported;
$public{$_} = 1 for $code =~ /^#define (pqpool_\w+)\(/gm;
($code) = $code =~ /^PQPOOL_C_BEGIN\n(.*)^PQPOOL_C_END/ms;
$public{$_} = 1 for $code =~ /^typedef\b(?:[^;{]*\{[^}]*\})?[^;]*?(\w+);/gm;
my %page = map { $_ => 1 } names_in($pages);

cmp_ok(scalar keys %exported, '>=', 31, 'the library exports functions');
is_deeply([ grep { !$page{$_} } sort keys %public ], [], 'everything public has a page');
is_deeply([ grep { !$public{$_} && $_ ne 'libpqpool' } sort keys %page ], [], 'every page is about something public');
is_deeply([ grep { !-s "$pages/$_.3" } sort keys %page ], [], 'every link leads to a page');

my %summary;
for my $name (sort keys %page)
{
	my ($line) = slurp("$pages/$name.3") =~ /^\.SH NAME\n(.*)$/m;
	like($line // '', qr/^(?:[\w.]+, )*$name(?:, \w+)* \\- \S.*[^.]$/, "$name: is named on its page, with a summary");
	$summary{$line} = 1;
}
is(scalar keys %summary, scalar(grep { !-l "$pages/$_.3" } keys %page), 'no two pages have the same summary');

# ---- nothing is lost ------------------------------------------------------------------------------------------------------

my %read = map { $_ => read_page("$pages/$_.3") } grep { !-l "$pages/$_.3" } keys %page;
my $all = join(' ', values %read);
my $checked = 0;

# Of each comment every sentence, and where columns break sentences every word; not what is said of the file alone.
for my $comment ($text =~ m{/\*(.*?)\*/}gs)
{
	$comment =~ s/^\s*\*//gm;
	$comment =~ s/^-+\n|\n-+$|^ Contents:.*?\n\n|\bThis header is the manual\.//gms;
	$comment =~ s/^[ \t]*\d+\. [A-Z ,']+$//gm;
	$comment =~ s/^\s*pqpool\.h\n\s*libpqpool: (.*?)\.$/$1/m;
	next if $comment =~ /^\s*(?:\w*[A-Z]\w*|clang-format \w+)\s*$/; # "PQPOOL_H"
	for my $paragraph (split /\n\s*\n/, $comment)
	{
		my $columns = $paragraph =~ /\S *\t/;
		for my $part ($columns ? $paragraph =~ /\w+/g : split(/(?<=[.:;])\s+/, $paragraph))
		{
			$part = squeeze($part);
			$part =~ s/^ | $//g;
			$part =~ s/\.$// if $part =~ /^\w+(?: \w+)?\.$/; # a label has become a heading
			$checked++;
			($columns ? $all =~ /\b\Q$part\E\b/ : index($all, $part) >= 0) or fail("in the pages: $part");
		}
	}
}
cmp_ok($checked, '>', 500, "sentences and words of the header, and each is in the pages: $checked");

# And in the right ones.
like($read{pqpool_release}, qr/int pqpool_release\(PGconn \*conn\);.*RETURN VALUE Returns OK; NOT_LENT/, 'a function');
like($read{pqpool_stats}, qr/int pqpool_stats\(pqpool \*pool, pqpool_statistics \*stats\);/, 'a macro, as a function');
like($read{pqpool_stats}, qr/uint64_t wait\[BUCKETS\];.*Members.*idle ready to be lent/, 'with the struct that it fills');
like($read{pqpool_error}, qr/SERVER_FULL = 10,.*SERVER_FULL \(10\) the server has no connection left/, 'codes');
like($read{libpqpool}, qr/pool_min_size \(default 0\) connections kept open/, 'options');
like($read{pqpool_open_hooked}, qr/NAME pqpool_open_hooked, .*pqpool_hooks - opens a pool with hooks .* before_acquire each time before it is lent/, 'a list');
like($read{pqpool_event}, qr/NAME pqpool_event(?:, \w+)* - \w/, 'a type');
like($read{libpqpool}, qr/ Fork A child may use .* CALLS AND TYPES .* pqpool_open opens a pool/, 'the overview');
unlike($all, qr/\bAPI\b|WARN_UNUSED|C_BEGIN/, 'and nothing of the machinery');

# The program: what it takes is on its page, and nothing else.
my $run = "$ENV{STAGE_PREFIX}/bin/pqpool-run";
my $help = `'$run' --help`;
my $run_page = slurp("$programs/pqpool-run.1");
my %options = map { $_ => 1 } $help =~ /^  (--[\w-]+)/gm;
my ($on_page) = $run_page =~ /^\.SH OPTIONS\n(.*)^\.SH EXIT STATUS/ms;
my %paged = map { s/\\-/-/gr => 1 } $on_page =~ /^\.B[IR]? (\\-\\-[\w\\-]+)/gm;
is_deeply([ sort keys %paged ], [ sort keys %options ], 'pqpool-run: its page has the options of --help');
my ($version) = slurp('client/Makefile') =~ /^VERSION = (\S+)/m;
is(`'$run' --version`, "pqpool-run (libpqpool) $version\n", 'pqpool-run --version');
like($run_page, qr/libpqpool \Q$version\E"/, 'which is on its page as well');
for my $line (split /\n/, $help)
{
	my ($option, $default) = $line =~ /^  (--[\w-]+)=\.\.\..*; default (\d+\w*)/ or next;
	my ($text) = $run_page =~ /^\.B\S* \Q@{[ $option =~ s{-}{\\-}gr ]}\E=(.*?)^\.TP/ms;
	like($text, qr/Default: \Q$default\E/, "$option: with its default");
}

# ---- in order -------------------------------------------------------------------------------------------------------------

# The formatter's warnings about each file, "" if there are none.
sub lint
{
	my ($directory) = @_;
	my $said = '';

	for my $file (grep { !-l && -f } map { "$directory/$_" } read_names($directory))
	{
		$said .= `groff -man -Tutf8 -ww -z '$file' 2>&1`;
		$said .= `mandoc -T lint -W warning '$file' 2>&1` if system('command -v mandoc >/dev/null') == 0;
	}
	return $said;
}

is(lint($pages), '', 'no formatter has a warning');
is(lint($programs), '', 'nor about the program');
SKIP:
{
	system('command -v lexgrog >/dev/null') == 0 or skip('no lexgrog', 1);
	my %found = map { /: "([\w.]+) - ./ ? ($1 => 1) : () } `lexgrog '$pages'/*.3 2>&1`;
	is_deeply([ grep { !$found{$_} } sort keys %page ], [], 'apropos and whatis will find every name');
}

# ---- installed and removed ------------------------------------------------------------------------------------------------

my $root = "$ENV{STAGE_WORK}/man root"; # packagers may have blanks

sub make
{
	my (@arguments) = @_;
	my $log = "$ENV{TESTDIR}/make.log";
	my $status = system("make -C client @arguments >> '$log' 2>&1");
	diag(slurp($log)) if $status != 0;
	return $status;
}

sub files_in
{
	my ($directory) = @_;
	my @files = sort map { s/^\Q$directory\E//r } split /\n/, `find '$directory' ! -type d`;
	return @files;
}

is(make('install prefix=/usr', "DESTDIR='$root'"), 0, 'make install DESTDIR=');
is_deeply([ names_in("$root/usr/share/man/man3") ], [ sort keys %page ], 'installs all pages');
is_deeply([ read_names("$root/usr/share/man/man1") ], ['pqpool-run.1'], "and the program's");
is_deeply([ grep { (stat "$root/usr/share/man/man3/$_.3")[2] % 8 != 4 } keys %page ], [], 'that everybody may read');
system('touch', "$root/usr/share/man/man3/PQexec.3", "$root/usr/share/man/man3/pqpool_of_last_year.3");
is(make('uninstall prefix=/usr', "DESTDIR='$root'"), 0, 'make uninstall DESTDIR=');
is_deeply([ files_in($root) ], ['/usr/share/man/man3/PQexec.3'], 'removes all pages, old ones too, and nothing else');

is(make('install prefix=/usr mandir=/usr/man', "DESTDIR='$root'"), 0, 'another directory');
is_deeply([ names_in("$root/usr/man/man3") ], [ sort keys %page ], 'has them');
is(make('uninstall prefix=/usr mandir=/usr/man', "DESTDIR='$root'"), 0, 'and loses them');

my $other = "BUILD='$ENV{STAGE_WORK}/no-pages' CFLAGS=-O0";
is(make("-j2 $other PERL=no-such-perl install prefix=/usr", "DESTDIR='$root'"), 0, 'without perl there is a library');
is_deeply([ grep { m{/man/} && !/PQexec/ } files_in($root) ], [], 'without pages');
isnt(system("make -C client $other PERL=no-such-perl man >/dev/null 2>&1"), 0, 'which cannot be asked for then');
is(make("$other MANPAGES=no install prefix=/usr", "DESTDIR='$root'"), 0, 'with perl they can be done without');
is_deeply([ grep { m{/man/} && !/PQexec/ } files_in($root) ], [], 'and then are not there');

# The same input makes the same pages: a package can be reproduced.
my $made = "$ENV{STAGE_WORK}/man-made";

# What the generator says about a header; pages are in $made.
sub generate
{
	my ($path) = @_;
	system('rm', '-rf', $made);
	mkdir $made or die "$made: $!";
	return scalar `SOURCE_DATE_EPOCH=86400 perl client/man.pl 1.0.0 '$path' '$made' 2>&1`;
}

is(generate($header), '', 'the generator is silent');
like(slurp("$made/pqpool_open.3"), qr/^\.TH PQPOOL_OPEN 3 1970-01-02 "libpqpool 1\.0\.0"/m, 'the date is the one given');

# ---- a header that grows --------------------------------------------------------------------------------------------------

my $grown = "$ENV{STAGE_WORK}/pqpool.h"; # the pages name it

# The header with a text before its end.
sub grow
{
	my ($more) = @_;
	open(my $file, '>', $grown) or die "$grown: $!";
	print $file $text =~ s/^(?=PQPOOL_C_END$)/$more/mr;
	close $file;
	return;
}

grow(<<'MORE');
/*
 * 12. QUEUES, AND OTHER NEWS
 *
 * What this section is about.
 */

typedef struct pqpool_queue pqpool_queue;

#define PQPOOL_QUEUE_SIZE 64 /* at most */

/* What happened to a pool. */
typedef struct pqpool_news
{
	int kind; /* a pqpool_news_kind; -1: none */
	union
	{
		int number;
		const char *text;
	} detail;			  /* of a union */
	int (*callback)(int, void *); /* called,
								   * later */
	char names[PQPOOL_QUEUE_SIZE][8];
} pqpool_news;

typedef enum pqpool_news_kind
{
	PQPOOL_NEWS_OPENED = 1, /* a connection was opened */
	PQPOOL_NEWS_CLOSED = 1 << 4
} pqpool_news_kind;

/*
 * Called for each of them.  'Tis said \fBso\fR.
 *
 * .this is no request
 */
typedef void (*pqpool_news_handler)(const pqpool_news *news, void *arg);

/*
 * Makes a queue; or does not.  See pqpool_news.
 *
 *	small		not large
 *	SYSTEM		as -1,
 *				or so
 *
 *		.this is no request either
 *		'nor\this
 *
 * Returns NULL: BAD_ARGUMENT, or -2.
 */
PQPOOL_API pqpool_queue *pqpool_queue_open(int queue_size, void (*handler)(int code, void *arg),
										   pqpool_news_kind kind, const char *const names[],
										   ...) PQPOOL_WARN_UNUSED __attribute__((format(printf, 1, 2)));

#define pqpool_queue_next(queue, news) pqpool_queue_next_sized(queue, news, sizeof(*(news)))
PQPOOL_API int pqpool_queue_next_sized(pqpool_queue *queue, pqpool_news *news, size_t size);

MORE
is(generate($grown), '', 'a header that has grown');
my %grown = map { $_ => 1 } names_in($made);
is_deeply([ grep { !$page{$_} } sort keys %grown ],
	[qw(pqpool_news pqpool_news_handler pqpool_news_kind pqpool_queue pqpool_queue_next pqpool_queue_next_sized pqpool_queue_open)],
	'has pages for what is new');
is_deeply([ grep { !$grown{$_} } sort keys %page ], [], 'and for what was there');
is(lint($made), '', 'without warnings');
is(readlink "$made/pqpool_queue.3", 'pqpool_queue_open.3', 'a type goes to who speaks of it');
is(readlink "$made/pqpool_queue_next.3", 'pqpool_queue_open.3', 'a function without a comment to the one before');
like(read_page("$made/libpqpool.3"), qr/Queues, and other news What this section is about\./, 'the section');
my $news = read_page("$made/pqpool_news.3");
like($news, qr/#define QUEUE_SIZE 64 .* at most .*int kind; union \{ int number; const char \*text; \} detail; int \(\*callback\)\(int, void \*\); char names\[QUEUE_SIZE\]\[8\]; \} pqpool_news;/,
	'a struct with a union, a callback and an array');
like($news, qr/kind a pqpool_news_kind; -1: none detail of a union callback called, later/, 'and what they are');
like(read_page("$made/pqpool_news_handler.3"), qr/typedef void \(\*pqpool_news_handler\)\(const pqpool_news \*news, void \*arg\);/, 'a callback');
my $open = read_page("$made/pqpool_queue_open.3");
like($open, qr/int queue_size, void \(\*handler\)\(int code, void \*arg\), pqpool_news_kind kind, const char \*const names\[\], \.\.\.\);/,
	'a prototype with everything in it');
like($open, qr/int pqpool_queue_next\(pqpool_queue \*queue, pqpool_news \*news\);/, 'a macro of a new function');
like($open, qr/small not large SYSTEM as -1, or so \.this is no request either nor\\this .*RETURN VALUE Returns NULL: BAD_ARGUMENT, or -2\./,
	'a list, an example, and what is returned');
like(read_page("$made/pqpool_news_handler.3"), qr/Tis said \\fBso\\fR\. \.this is no request/, 'text is text');
like(slurp("$made/pqpool_queue_open.3"), qr/^pqpool_queue_open, .* \\- makes a queue$/m, 'its summary');

# What it does not understand it does not leave out.
for my $strange (
	[ "int pqpool_odd(void);\n", 'a function that is not exported', 'neither a function' ],
	[ "PQPOOL_API extern int pqpool_odd;\n", 'a variable', 'neither a function' ],
	[ "#define pqpool_odd(x) ((x) + 1)\n", 'a macro that computes', 'a macro that is neither' ],
	[ "/* x. */\ntypedef struct pqpool_odd\n{\n\tint a\n} pqpool_odd;\n", 'a member without an end', 'a member of pqpool_odd' ],
	[ "/*\n *\n */\nPQPOOL_API int pqpool_odd(void);\n", 'a comment that says nothing', 'a comment without a first sentence' ],
	[ "/*\n * Odd.\n *\n * one\t\tof them\n * two\t\tlike it\n */\nPQPOOL_API int pqpool_odd(void);\n", 'a list without indentation', 'a table whose head' ],
	[ "PQPOOL_API int pqpool_odd(void)\n", 'a declaration without an end', 'neither a function' ])
{
	my ($code, $name, $message) = @$strange;
	grow($code);
	like(generate($grown), qr{^man\.pl: \Q$grown\E:\d+: .*\Q$message\E}, "refused: $name");
}
like(generate('no/such/header.h'), qr{^man\.pl: no/such/header\.h: No such file}, 'refused: no header');
like(`perl client/man.pl 2>&1`, qr/^usage: /, 'usage');

done_testing();
