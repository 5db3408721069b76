#!/bin/bash
#
# run_one.sh TEST: run one test for prove, named by its source file, under a time limit. Called by prove (check.sh), which
# expects TAP, and by soak.sh. A test that takes longer than 300 s says so in its first comment: "timeout: SECONDS"; TEST_LIMIT
# is stronger.

set -euo pipefail

test=$1
name=$(basename "${test%.*}")
# Where PostgreSQL's test modules put data directories and logs, and where check.sh looks for the latter.
TESTDIR=$STAGE_WORK/log/$(basename "$test")
export TESTDIR TESTDATADIR=$TESTDIR/data TESTLOGDIR=$TESTDIR/log
mkdir -p "$TESTDIR"

limit=$(sed -n '1,40s/^[ /#]*\**[[:space:]]*timeout:[[:space:]]*\([0-9]*\).*/\1/p' "$test" | head -n 1)
limit=${TEST_LIMIT:-$limit}
run=(timeout --kill-after=10 "${limit:-300}")

# A sanitizer's runtime library wants to come before all others. There can be one only, and which one is not told by the options:
# these are set for all.
first=()
case ${SANITIZED-} in
  *address*) first=(env "LD_PRELOAD=$("$CC" -print-file-name=libasan.so)") ;;
  *thread*) first=(env "LD_PRELOAD=$("$CC" -print-file-name=libtsan.so)") ;;
esac

case $test in
  tests/unit/*.c) run+=("$STAGE_OUT/unit/$name") ;;
  tests/client/*.c | tests/client/*.cpp) run+=(perl tests/lib/with_server.pl "$test" "$STAGE_OUT/client/$name") ;;
  tests/soak/unaware.c)
    run+=(perl tests/soak/soak.pl "${first[@]}" "$STAGE_PREFIX/bin/pqpool-run" --stats --max-size=4 --idle-timeout=2s
      --max-lifetime=10s -- "$STAGE_OUT/soak/$name")
    ;;
  tests/soak/*.c) run+=(perl tests/soak/soak.pl "$STAGE_OUT/soak/$name") ;;
  tests/faults/*.c) run+=("$STAGE_OUT/faults/$name") ;;
  tests/preload/*.c) run+=(perl tests/lib/with_server.pl "$test" "${first[@]}" "$STAGE_PREFIX/bin/pqpool-run" "$STAGE_OUT/preload/$name") ;;
  tests/preload/*.pl | tests/t/*.pl) run+=(perl "$test") ;;
esac

# ThreadSanitizer wants its shadow memory where address randomization may have put something else.
if [[ ${SANITIZED-} == *thread* ]] && setarch -R true 2>/dev/null; then run=(setarch -R "${run[@]}"); fi

# prove shows no failing line; check.sh looks for it here.
status=0
"${run[@]}" | tee "$TESTDIR/tap.out" || status=${PIPESTATUS[0]}
case $status in
  0) ;;
  124 | 137) echo "# $test: ended after ${limit:-300} s, or killed" ;;
esac
exit "$status"
