#!/bin/bash
#
# soak.sh [--sanitize=KINDS]: build the soaks, of the client library (soak.c) and of the preloaded pool (unaware.c), and run each
# against a server of its own. Called by `make soak`, in a stage (stage.sh). SOAK_OF says which ("client preload"); SOAK_SECONDS
# and SOAK_SEED are the programs', the preloaded pool's takes two minutes at most; with --sanitize the client library and the
# programs are built with gcc's -fsanitize=KINDS, the server is not.

set -euo pipefail

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

case ${1-} in
  --sanitize=*) use_sanitizers "${1#*=}" ;;
esac

: "${SOAK_SECONDS:=30}"
[[ $SOAK_SECONDS =~ ^[1-9][0-9]*$ ]] ||
  { echo "soak: SOAK_SECONDS must be a number of seconds, at least 1, not '$SOAK_SECONDS'" >&2; exit 2; }
[[ ${SOAK_SEED-} =~ ^[0-9]*$ ]] || { echo "soak: SOAK_SEED must be a number, not '$SOAK_SEED'" >&2; exit 2; }
: "${SOAK_OF:=client preload}"
[[ $SOAK_OF =~ ^(client|preload)(\ (client|preload))*$ ]] ||
  { echo "soak: SOAK_OF must be \"client\", \"preload\" or both, not '$SOAK_OF'" >&2; exit 2; }

# run SOURCE SECONDS
run()
{
  local name status=0
  name=$(basename "$1")
  # What hangs is the program's to notice; this is for the program.
  SOAK_SECONDS=$2 SOAK_SEED=$SOAK_SEED TEST_LIMIT=$(($2 + 900)) bash tests/lib/run_one.sh "$1" || status=$?
  if [ "$status" != 0 ]; then
    find "$STAGE_WORK/log/$name" -name '*server.log' | while read -r log; do
      printf '\n==== the end of the server'"'"'s log\n'
      tail -n 60 "$log"
    done
    echo "soak: FAILED ($name)"
  fi
  return "$status"
}

: "${SOAK_SEED:=}"
build_server
step "extension built" build_extension
step "client library built" build_client
use_test_modules

for of in $SOAK_OF; do
  case $of in
    client)
      step "soak built" compile_user soak tests/soak/soak.c
      run tests/soak/soak.c "$SOAK_SECONDS"
      ;;
    preload)
      step "soak of a program that knows of no pool built" compile_libpq_user soak tests/soak/unaware.c
      run tests/soak/unaware.c $((SOAK_SECONDS < 120 ? SOAK_SECONDS : 120))
      ;;
  esac
done
