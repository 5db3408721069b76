#!/bin/bash
#
# check.sh [--sanitize=KINDS] PART...: build what the parts need, and run their tests with prove. Called by the Makefile, in a
# stage (stage.sh). Parts:
#
#   unit    tests/unit/*.c    the pure parts alone
#   client  tests/client/*.c  the client library against a real server, one of its own for each test; *.cpp as well
#   faults  tests/faults/*.c  the client library without memory, threads or descriptors, against a libpq of its own
#   preload tests/preload/*   programs that know nothing of a pool, with one in front of their libpq
#   e2e     tests/t/*.pl      everything else: pg_regress, sessions, restarts, several processes
#
# TESTS=REGEX runs only the tests whose path matches; JOBS=N runs any N at a time (many tests watch the clock).
# With --sanitize the client library and the tests are built with gcc's -fsanitize=KINDS; the server is not.
#
# The last lines are always prove's own; what a failing test left in its logs stands before them.

set -euo pipefail
shopt -s nullglob

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

case ${1-} in
  --sanitize=*)
    use_sanitizers "${1#*=}"
    shift
    ;;
esac

tests=()
for part in "$@"; do
  case $part in
    unit) tests+=(tests/unit/*.c) ;;
    client) tests+=(tests/client/*.c tests/client/*.cpp) ;;
    faults) tests+=(tests/faults/*.c) ;;
    preload)
      tests+=(tests/preload/*.c)
      # These are about programs as they come, which are not sanitized; Debian's hang at their end with libasan alone.
      [ -n "${SANITIZED-}" ] || tests+=(tests/preload/*.pl)
      ;;
    e2e) tests+=(tests/t/*.pl) ;;
    *) echo "check: no such part: $part" >&2; exit 2 ;;
  esac
done

selected=()
for test in "${tests[@]}"; do
  if [[ $test =~ ${TESTS:-} ]]; then selected+=("$test"); fi
done
[ ${#selected[@]} -gt 0 ] || { echo "check: no test matches '${TESTS:-}'" >&2; exit 2; }

if [[ " $* " == *" unit "* ]]; then step "unit tests built" build_unit; fi
if [[ " $* " == *" client "* || " $* " == *" faults "* || " $* " == *" e2e "* || " $* " == *" preload "* ]]; then
  build_server
  step "extension built" build_extension
  step "client library built" build_client
  step "programs built" build_programs
  if [[ " $* " == *" preload "* ]]; then step "preload tests built" build_preload; fi
  if [[ " $* " == *" faults "* ]]; then step "fault tests built" build_faults; fi
  use_test_modules
fi

# One at a time; but the longest, which do little else than wait, beside the others.
jobs=(--jobs "${JOBS:-2}")
if [ -z "${JOBS-}" ]; then
  jobs+=(--rules 'seq=tests/{client/life.c,client/opening.c,t/280_history.pl,t/315_standby.pl}' --rules 'seq=**')
fi

status=0
prove --timer "${jobs[@]}" --exec 'bash tests/lib/run_one.sh' "${selected[@]}" 2>&1 |
  tee "$STAGE_WORK/prove.out" || status=$?

if [ "$status" != 0 ]; then
  # What failed, its logs, then prove's verdict once more, so that it stays the last word.
  sed -n '/^Test Summary Report/,$s/^\(tests[^ ]*\) .*(Wstat:.*/\1/p' "$STAGE_WORK/prove.out" | while read -r test; do
    printf '\n==== %s: what it said\n' "$test"
    awk '/^ *not ok/ { said = 1 } /^ *ok/ { said = 0 } said' "$STAGE_WORK/log/$(basename "$test")/tap.out" | head -n 100
    find "$STAGE_WORK/log/$(basename "$test")" -type f \( \( -name '*.log' ! -name initdb.log \) -o -name 'regress_log_*' -o -name '*.diffs' \) |
      sort | while read -r log; do
        printf '\n==== %s: the end of %s\n' "$test" "${log#"$STAGE_WORK/log/"}"
        tail -n 100 "$log"
      done
  done
  echo
  sed -n '/^Test Summary Report/,$p' "$STAGE_WORK/prove.out"
fi
exit "$status"
