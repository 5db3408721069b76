#!/bin/bash
#
# postgres_suite.sh: PostgreSQL's own regression suite, on a server that shares connections and has each session of the suite in a
# pool. Called by `make check-postgres`, in a stage (stage.sh).
#
# The suite comes from Debian's source package of the server (source_package.sh). Only regress.so is compiled.
#
# It runs twice, without the extension and with it. What fails in both is a matter of the machine (locale, packaging, a suite of
# another minor version); what fails with the extension only fails this.

set -euo pipefail

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh
# shellcheck source=tests/lib/source_package.sh
source tests/lib/source_package.sh

die()
{
  echo "check-postgres: $*" >&2
  exit 1
}

# WHERE_POSSIBLE=1: an apt without sources is no failure.
cannot()
{
  [ "${WHERE_POSSIBLE:-0}" != 0 ] || die "$*"
  echo "check-postgres: $*" >&2
  echo 'check-postgres: NOT RUN' >&2
  exit 0
}

build_server
step "extension built" build_extension
use_test_modules
work=$STAGE_WORK/postgres
mkdir -p "$work"

# --- the source

[[ $("$PG_CONFIG" --version) =~ \ ([0-9]+) ]]
package=postgresql-${BASH_REMATCH[1]}
step "sources known" use_sources "$work/apt" || cannot "no apt here"
(step "$package fetched" fetch_source "$work/source" "$package" "$package") || cannot "the machine's apt brings no source of $package"
(cd "$work/source" && tar -xf "$package"_*.orig.tar.* --wildcards '*/src/test/regress/*') || die "no suite in the source of $package"
suite=$(echo "$work"/source/*/src/test/regress)
[ -e "$suite/parallel_schedule" ] || die "no suite in the source of $package"
echo "suite of $(cat "$work/source/version"), on $("$PG_CONFIG" --version)"

# --- what it needs

# Beside autoinc.so and refint.so, which come with the server.
build_module()
{
  local pgxs
  pgxs=$("$PG_CONFIG" --pgxs)
  printf '%s\n' 'MODULES = regress' 'override with_llvm = no' "PG_CONFIG = $PG_CONFIG" "PGXS = $pgxs" "include $pgxs" > "$work/Makefile"
  cp "$suite/regress.c" "$work/"
  make -C "$work" regress.so && cp "$work/regress.so" "$libraries/"
}

libraries=$("$PG_CONFIG" --pkglibdir)
step "regress.so built" build_module

# The suite says by a test of its own that its sessions are attached.
cat > "$suite/sql/pgpool_monitor.sql" << 'END'
SELECT current_setting('pgpool_monitor.allotment') LIKE 'id=suite;%;state=ok;%' AS attached;
SELECT set_config('pgpool_monitor.report', 'v=1;seq=1;in_use=1', false);
END
cat > "$suite/expected/pgpool_monitor.out" << 'END'
SELECT current_setting('pgpool_monitor.allotment') LIKE 'id=suite;%;state=ok;%' AS attached;
 attached 
----------
 t
(1 row)

SELECT set_config('pgpool_monitor.report', 'v=1;seq=1;in_use=1', false);
     set_config     
--------------------
 v=1;seq=1;in_use=1
(1 row)

END
printf '%s\n' "shared_preload_libraries = 'pgpool_monitor'" 'pgpool_monitor.mode = share' \
  "pgpool_monitor.identify = 'options, application_name'" "pgpool_monitor.rules = '*=50'" > "$work/with.conf"
touch "$work/without.conf"

# --- twice

# run_suite NAME TEST...: the names of what passed into NAME.passed, of what failed into NAME.failed.
run_suite()
{
  local name=$1
  shift
  "$PG_REGRESS" --inputdir="$suite" --outputdir="$work/$name" --temp-instance="$work/$name/server" --temp-config="$work/$name.conf" \
    --bindir="$("$PG_CONFIG" --bindir)" --dlpath="$libraries" --encoding=UTF8 --no-locale --max-concurrent-tests=20 \
    --schedule="$suite/parallel_schedule" "$@" > "$work/$name.out" 2>&1 || true
  # "test name ... ok", or "     name ... ok" in a group, until PostgreSQL 15, "ok 1 - name" or "ok 1 + name" from 16 on
  sed -nE -e 's/^(test|    ) +([^ ]+) +\.\.\. ok .*/\2/p' -e 's/^ok +[0-9]+ +[-+] ([^ ]+).*/\1/p' "$work/$name.out" |
    sort > "$work/$name.passed"
  sed -nE -e 's/^(test|    ) +([^ ]+) +\.\.\. FAILED.*/\2/p' -e 's/^not ok +[0-9]+ +[-+] ([^ ]+).*/\1/p' "$work/$name.out" |
    sort > "$work/$name.failed"
}

run()
{
  local name=$1 start=$SECONDS
  mkdir -p "$work/$name"
  run_suite "$@"
  echo "$name the extension: $(wc -l < "$work/$name.passed") passed, $(wc -l < "$work/$name.failed") failed" \
    "($((SECONDS - start)) s)$(sed 's/^/ /' "$work/$name.failed" | tr -d '\n')"
}

run without
[ "$(wc -l < "$work/without.passed")" -ge 150 ] || { tail -n 50 "$work/without.out"; die "the suite does not run here"; }
PGOPTIONS='-c pgpool_monitor.pool=suite -c pgpool_monitor.instance=suite;follow=1;report=1' run with pgpool_monitor
grep -qx pgpool_monitor "$work/with.passed" || { cat "$work/with/regression.diffs" 2>/dev/null; die "its sessions were in no pool"; }

# What passed without it passes with it.
mapfile -t broken < <(comm -23 "$work/without.passed" "$work/with.passed")
if [ ${#broken[@]} -gt 0 ]; then
  for test in "${broken[@]}"; do
    diff -U3 "$work/without/results/$test.out" "$work/with/results/$test.out" | head -n 200 || true
  done
  die "FAILED with the extension only: ${broken[*]}"
fi
# Not a failure: such output may have object identifiers or times.
while read -r test; do
  cmp -s "$work/without/results/$test.out" "$work/with/results/$test.out" || echo "fails both without and with it, but not alike: $test"
done < "$work/with.failed"
echo "check-postgres: what passes without the extension passes with it"
