#!/bin/bash
#
# client_suites.sh: the own test suites of two drivers that know of no pool, with the preloaded pool in front of their libpq.
# Called by `make check-preload-suites`, in a stage (stage.sh).
#
# DBD::Pg's and psycopg2's, out of Debian's source packages (source_package.sh) of the installed drivers' version, run against the
# installed drivers. SUITES=DIRECTORY has them where apt does not: unpacked, as libdbd-pg-perl-VERSION and psycopg2-VERSION.
#
# Each suite runs twice, plainly and under pqpool-run, each time with a server of its own. They are dbd, psycopg2, and green:
# psycopg2 with a wait callback. A test that passes plainly and does not under the pool fails this, unless
# client_suites.differences says why that is right: a line each, "SUITE TEST: WHY".
#
# As "--run SUITE FORM" it is the program that is run with that server (with_server.pl), which has
#    * server: max_prepared_transactions = 20
#    * server: wal_level = logical
#    * server: max_wal_senders = 10
#    * server: max_replication_slots = 10
#
# Verdicts are lines "TEST<TAB>passed", or failed, skipped. DBD::Pg's tests are known by file, number and name, psycopg2's by
# method. A suite's own expected failures count as what they say: failed where they fail.

set -euo pipefail

here=tests/lib
work=$STAGE_WORK/suites

# The verdicts of one file of TAP on standard input; $1 is the file's name. One that ends early says so by its last test.
tap_verdicts()
{
  awk -v file="$1" '
    { sub(/\r$/, "") }
    /^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; planned = 1 }
    /^(not )?ok( |$)/ {
      verdict = /^not / ? "failed" : / # skip/ ? "skipped" : "passed"
      sub(/^not /, ""); sub(/^ok */, "")
      if (tolower($0) ~ / # skip/) verdict = "skipped"
      sub(/ *# (skip|SKIP|TODO).*/, "")
      gsub(/\t/, " ")
      print file " " $0 "\t" verdict
      seen++
    }
    END { print file " complete\t" (planned && plan == seen ? "passed" : "failed") }'
}

# Its tests go through hashes of cases: in one order.
run_dbd()
{
  local test
  createdb dbd_test
  export DBI_DSN="dbi:Pg:dbname=dbd_test;host=$PGHOST;port=$PGPORT" DBI_USER="$USER" DBDPG_TEST_ALWAYS_ENV=1
  export PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0
  unset PGDATABASE
  for test in t/*.t; do
    timeout --kill-after=10 200 "$@" /usr/bin/perl "$test" > "${test##*/}.tap" 2>> said || echo "# $test ended with $?" >> said
    tap_verdicts "${test##*/}" < "${test##*/}.tap"
  done > verdicts
}

run_psycopg2()
{
  createdb psycopg2_test
  psql -qc 'CREATE EXTENSION hstore' psycopg2_test || true
  export PSYCOPG2_TESTDB=psycopg2_test PSYCOPG2_TESTDB_HOST=$PGHOST PSYCOPG2_TESTDB_PORT=$PGPORT PSYCOPG2_TESTDB_USER=$USER
  export PSYCOPG2_TEST_REPL_DSN="" PYTHONDONTWRITEBYTECODE=1
  unset PGDATABASE
  timeout --kill-after=10 600 "$@" /usr/bin/python3 - > out 2> said << 'PYTHON' || echo "ended with $?" >> said
import os, sys, unittest
# The summary is of this process: some tests look at what their child processes say on standard error.
os.environ.pop('PQPOOL_STATS', None)
sys.path.insert(0, '.')

class Result(unittest.TextTestResult):
    def say(self, test, verdict):
        verdicts.write('%s\t%s\n' % (test.id(), verdict))
        verdicts.flush()
    def addSuccess(self, test):
        super().addSuccess(test)
        self.say(test, 'passed')
    def addError(self, test, err):
        super().addError(test, err)
        self.say(test, 'failed')
    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say(test, 'failed')
    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, 'skipped')
    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.say(test, 'failed')
    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.say(test, 'passed')

with open('verdicts', 'w') as verdicts:
    import tests
    unittest.TextTestRunner(verbosity=2, resultclass=Result).run(tests.test_suite())
    verdicts.write('complete\tpassed\n')
PYTHON
}

# The same, connecting step by step, and never blocking in libpq.
run_green()
{
  export PSYCOPG2_TEST_GREEN=1
  run_psycopg2 "$@"
}

if [ "${1-}" = --run ]; then
  under=()
  if [ "$3" = pooled ]; then under=("$STAGE_PREFIX/bin/pqpool-run" --stats --); fi
  USER=$(id -un)
  export USER PATH="$STAGE_WORK/bin:$PATH"
  cd "$work/$2/$3"
  "run_$2" "${under[@]}"
  exit
fi

# shellcheck source=tests/lib/build.sh
source $here/build.sh
# shellcheck source=tests/lib/source_package.sh
source $here/source_package.sh

die()
{
  echo "check-preload-suites: $*" >&2
  exit 1
}

# WHERE_POSSIBLE=1: an apt without sources is no failure.
cannot()
{
  [ "${WHERE_POSSIBLE:-0}" != 0 ] || die "$*"
  echo "check-preload-suites: $*" >&2
  echo 'check-preload-suites: NOT RUN' >&2
  exit 0
}

# get SUITE SOURCE BINARY DIRECTORY: the suite's DIRECTORY of the source package into work/SUITE/plain and work/SUITE/pooled.
get()
{
  local unpacked=$work/$1/source
  mkdir -p "$unpacked"
  if [ -n "${SUITES-}" ]; then
    unpacked=$SUITES
  else
    (step "$2 fetched" fetch_source "$unpacked" "$2" "$3") ||
      cannot "the machine's apt brings no source of $2; SUITES=directory is where it is"
    (cd "$unpacked" && tar -xf "$2"_*.orig.tar.*) || die "cannot unpack the source of $2"
  fi
  local form found=("$unpacked"/*/"$4")
  if [ -n "${SUITES-}" ]; then found=("$unpacked/$2"-*/"$4"); fi
  [ -d "${found[0]}" ] || die "no suite in the source of $2"
  for form in plain pooled; do
    mkdir -p "$work/$1/$form"
    cp -R "${found[0]%/*}/." "$work/$1/$form/"
  done
}

# run SUITE FORM: its verdicts, sorted, into work/SUITE-FORM.
run()
{
  local start=$SECONDS
  export TESTDIR=$STAGE_WORK/log/$1-$2
  export TESTDATADIR=$TESTDIR/data TESTLOGDIR=$TESTDIR/log
  mkdir -p "$TESTDIR"
  perl $here/with_server.pl $here/client_suites.sh bash "$PWD/$here/client_suites.sh" --run "$1" "$2" > "$TESTDIR/out" 2>&1 ||
    { tail -n 50 "$TESTDIR/out"; die "$1, $2: its run failed"; }
  sort "$work/$1/$2/verdicts" > "$work/$1-$2"
  echo "$1, $2: $(count "$1-$2" passed) passed, $(count "$1-$2" failed) failed, $(count "$1-$2" skipped) skipped" \
    "($((SECONDS - start)) s)"
}

# Files and suites that came to their end are verdicts, but no tests.
count() { awk -F '\t' -v verdict="$2" '$1 !~ /complete$/ && $2 == verdict { n++ } END { print n + 0 }' "$work/$1"; }

# compare SUITE LEAST: LEAST is how many have to pass plainly, that this is a comparison.
compare()
{
  local suite=$1 passed=$work/passed before=$broken test why reused
  run "$suite" plain
  [ "$(count "$suite-plain" passed)" -ge "$2" ] ||
    { tail -n 50 "$work/$suite/plain/said"; die "the suite of $suite does not run here"; }
  run "$suite" pooled
  sed -n 's/\tpassed$//p' "$work/$suite-plain" > "$passed.plain"
  sed -n 's/\tpassed$//p' "$work/$suite-pooled" > "$passed.pooled"
  while IFS= read -r test; do
    why=$(key="$suite $test: " awk 'index($0, ENVIRON["key"]) == 1 { print substr($0, length(ENVIRON["key"]) + 1) }' \
      $here/client_suites.differences)
    if [ -n "$why" ]; then
      echo "$suite: differs: $test: $why"
    else
      echo "$suite: PASSES ONLY WITHOUT THE POOL: $test"
      broken=$((broken + 1))
    fi
  done < <(comm -23 "$passed.plain" "$passed.pooled")
  while IFS= read -r test; do
    echo "$suite: passes only with the pool: $test"
  done < <(comm -13 "$passed.plain" "$passed.pooled")
  [ "$broken" = "$before" ] || tail -n 50 "$work/$suite/pooled/said"
  reused=$(sed -n 's/.*pqpool: .*; reused: \([0-9]*\);.*/\1/p' "$work/$suite/pooled/said" | awk '{ n += $1 } END { print n + 0 }')
  echo "$suite, pooled: $reused connections were used again"
  [ "$reused" -gt 0 ] || [ "$broken" -gt 0 ] || die "$suite: nothing was pooled"
}

/usr/bin/perl -MDBD::Pg -e 1 || cannot "DBD::Pg is not installed"
/usr/bin/python3 -c 'import psycopg2' || cannot "psycopg2 is not installed"
mkdir -p "$work"
if [ -z "${SUITES-}" ]; then step "sources known" use_sources "$work/apt" || cannot "no apt here"; fi
get dbd libdbd-pg-perl libdbd-pg-perl t
get psycopg2 psycopg2 python3-psycopg2 tests
mkdir "$work/green"
cp -R "$work/psycopg2/plain" "$work/psycopg2/pooled" "$work/green/"
build_server
step "extension built" build_extension
step "client library built" build_client
use_test_modules

broken=0
compare dbd 1000
compare psycopg2 500
compare green 400
[ "$broken" = 0 ] || die "$broken tests FAILED under the pool only"
echo "check-preload-suites: what passes without the pool passes with it, but for what is explained"
