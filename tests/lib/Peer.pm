package Peer;

# One session that speaks the protocol by hand (tests/programs/peer.c), for tests that want to say exactly what, and when.
#
#   my $peer = Peer->new($node, pool => 'orders', instance => 'a;follow=1;report=1');
#   $peer->say('SELECT 1');                    # runs it; returns its first value, undef on an error
#   $peer->error;                              # "SQLSTATE message" of the last command, '' if it worked
#   $peer->allotment;                          # hash of the allotment's fields, undef if the server sent none
#   $peer->report(in_use => 3, waiting => 2);  # v, seq and ack are filled in
#   $peer->end;                                # in order; ->kill: SIGKILL
#
# new() takes user, dbname, application_name and options as well, and driver => [COMMAND...] for a program that speaks for another
# driver as peer.c does for libpq. A connection that fails is an object whose ->error says why.

use strict;
use warnings;

use IPC::Run;

sub new
{
	my ($class, $node, %arg) = @_;
	my $self = bless { in => '', out => '', seq => 0, error => '' }, $class;
	my @options;

	for my $name (qw(pool instance))
	{
		next if !defined $arg{$name};
		(my $value = $arg{$name}) =~ s/([\\\s])/\\$1/g;
		push @options, "-c pgpool_monitor.$name=$value";
	}
	push @options, $arg{options} if defined $arg{options};
	my %conn = (
		host => $node->host, port => $node->port, dbname => $arg{dbname} // 'postgres',
		application_name => $arg{application_name} // 'peer',
		($arg{user} ? (user => $arg{user}) : ()),
		(@options ? (options => join(' ', @options)) : ()));
	my $conninfo = join ' ', map { (my $v = $conn{$_}) =~ s/(['\\])/\\$1/g; "$_='$v'" } sort keys %conn;

	my @driver = $arg{driver} ? @{ $arg{driver} } : "$ENV{STAGE_OUT}/programs/peer";
	$self->{handle} = IPC::Run::start([ @driver, $conninfo ],
		'<', \$self->{in}, '>', \$self->{out}, IPC::Run::timer(120));
	$self->{pid} = $self->_answer;
	return $self;
}

# Read to the end of one answer; returns the value.
sub _answer
{
	my ($self) = @_;

	while ($self->{out} !~ /^\.\n/m && $self->{handle}->pumpable) { $self->{handle}->pump; }
	my ($first) = $self->{out} =~ /\A(.*?)(?:\nallotment:|\z)/s;
	my ($text) = $self->{out} =~ /^allotment:([^\n]*)/m;
	$self->{out} =~ s/\A.*?^\.\n//ms or $self->{out} = '';
	$self->{text} = $text // '(none)';
	$self->{error} = $first =~ /\Aerror:(.*)/s ? $1 : '';
	return $first =~ /\Aresult:(.*)/s ? $1 : undef;
}

sub say    ## no critic (a verb is what it is)
{
	my ($self, $sql) = @_;

	$sql =~ s/\s*\n\s*/ /g;    # a command is a line
	$self->{in} .= "$sql\n";
	return $self->_answer;
}

# The same with the text as a parameter.
sub report_by_parameter
{
	my ($self, %field) = @_;

	return $self->say('\\report ' . $self->report_text(%field));
}

sub error { return $_[0]{error}; }
sub pid { return $_[0]{pid}; }
sub text { return $_[0]{text}; }

sub allotment
{
	my ($self) = @_;

	return if $self->{text} eq '(none)';
	return { map { split /=/, $_, 2 } split /;/, $self->{text} };
}

# The text of a report with these fields.
sub report_text
{
	my ($self, %field) = @_;
	my $allotment = $self->allotment;

	$field{seq} //= ++$self->{seq};
	$field{ack} //= $allotment ? $allotment->{epoch} : 0;
	return join ';', 'v=1', map { "$_=$field{$_}" } sort keys %field;
}

sub report
{
	my ($self, %field) = @_;

	return $self->say("SELECT pg_catalog.set_config('pgpool_monitor.report', '" . $self->report_text(%field) . "', false)");
}

sub end
{
	my ($self) = @_;

	$self->{handle}->finish;
	return;
}

sub kill    ## no critic
{
	my ($self) = @_;

	$self->{handle}->kill_kill(grace => 0);
	return;
}

1;
