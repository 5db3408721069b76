# META.json keeps the rules of the PGXN Meta Spec 1.0.0, and says what the other files say.

use strict;
use warnings;

use JSON::PP;
use Test::More;

sub slurp
{
	my ($path) = @_;
	open(my $file, '<:raw', $path) or die "$path: $!";
	local $/ = undef;
	return scalar <$file>;
}

# The data types of the specification.
my $term = qr{^[^\s/\\\p{Cc}]{2,}$};
my $tag = qr{^[^/\\\p{Cc}]{1,255}$};
my $semver = qr{^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-?[A-Za-z][-0-9A-Za-z]*)?$};
my $range = qr{^(?:0|(?:(?:[<>]=?|[!=]=)\s*)?\d+\.\d+\.\d+(?:\s*,\s*(?:(?:[<>]=?|[!=]=)\s*)?\d+\.\d+\.\d+)*)$};
my $url = qr{^[a-z][a-z0-9+.-]*://[^\s]+$};
my %licenses = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1
  gpl_2 gpl_3 lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib
  open_source restricted unrestricted unknown);

my $meta = eval { JSON::PP->new->utf8->decode(slurp('META.json')) };
is($@, '', 'META.json is JSON in UTF-8');
$meta or BAIL_OUT('no META.json to look at');

# Keys
for my $key (qw(name version abstract maintainer license provides meta-spec))
{
	ok(defined $meta->{$key}, "required key: $key");
}
my %known = map { $_ => 1 } qw(name version abstract maintainer license provides meta-spec description generated_by tags
  no_index prereqs release_status resources);
is(join(' ', sort grep { !$known{$_} && !/^x_/i } keys %$meta), '', 'no unknown keys');

# Values
like($meta->{name}, $term, 'name is a term');
like($meta->{version}, $semver, 'version is a semantic version');
for my $key (qw(abstract description generated_by))
{
	ok(!defined $meta->{$key} || (!ref $meta->{$key} && length $meta->{$key}), "$key is a string");
}
my @maintainers = ref $meta->{maintainer} ? @{ $meta->{maintainer} } : $meta->{maintainer};
ok(@maintainers && !(grep { ref || !length } @maintainers), 'maintainer is a string, or a list of them');
my $license = $meta->{license};
my @licenses = ref $license eq 'ARRAY' ? @$license : ref $license ? () : ($license);
is(join(' ', grep { !$licenses{$_} } @licenses), '', 'license is in the list of the specification');
like($meta->{'meta-spec'}{version}, $semver, 'meta-spec has a version');
is($meta->{'meta-spec'}{version}, '1.0.0', 'meta-spec is the one tested here');
like($meta->{'meta-spec'}{url} // 'http://pgxn.org/', $url, 'meta-spec url is one');
like($meta->{release_status} // 'stable', qr/^(?:stable|testing|unstable)$/, 'release_status is one of three');
ok(!(grep { ref || $_ !~ $tag } @{ $meta->{tags} // [] }), 'tags are tags');

# What is provided
for my $name (sort keys %{ $meta->{provides} })
{
	my $provided = $meta->{provides}{$name};

	like($name, $term, "provides $name: a term");
	like($provided->{version}, $semver, "provides $name: version is a semantic version");
	ok(-f $provided->{file}, "provides $name: file is there");
	ok(!defined $provided->{docfile} || -f $provided->{docfile}, "provides $name: docfile is there");
	is(join(' ', grep { !/^(?:file|version|abstract|docfile|x_.*)$/i } keys %$provided), '', "provides $name: no unknown keys");
}

# What is required
for my $phase (sort keys %{ $meta->{prereqs} // {} })
{
	like($phase, qr/^(?:configure|build|test|runtime|develop|x_.*)$/i, "prereqs: phase $phase");
	for my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		like($relation, qr/^(?:requires|recommends|suggests|conflicts|x_.*)$/i, "prereqs: $phase $relation");
		my $wanted = $meta->{prereqs}{$phase}{$relation};
		like($wanted->{$_}, $range, "prereqs: $phase $relation $_: a version range") for sort keys %$wanted;
	}
}

# Resources, when there are some
my $resources = $meta->{resources} // {};
is(join(' ', grep { !/^(?:homepage|bugtracker|repository|x_.*)$/i } keys %$resources), '', 'resources: no unknown keys');

# The same version everywhere: PostgreSQL's has two numbers, semantic ones have three.
my ($control) = slurp('extension/pgpool_monitor.control') =~ /^default_version\s*=\s*'([^']+)'/m;
my $provided = $meta->{provides}{pgpool_monitor};
is($provided->{version}, $meta->{version}, 'version of the extension is that of the release');
is("$control.0", $meta->{version} =~ s/\.\d+$/.0/r, 'version of the control file');
is($provided->{file}, "extension/pgpool_monitor--$control.sql", 'version of the SQL file');
my ($changelog) = slurp('CHANGELOG.md') =~ /^## \[?v?(\d+\.\d+\.\d+)/m;
is($changelog, $meta->{version}, 'newest version in the changelog');

done_testing();
