#!/bin/bash
#
# soak.sh [--sanitize=KINDS]: build the soak (soak.c) and run it against a server of its own. Called by `make soak`, in a stage
# (stage.sh). SOAK_SECONDS and SOAK_SEED are the program's; with --sanitize the client library and the program are built with
# gcc's -fsanitize=KINDS, the server is not.

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
# What hangs is the program's to notice; this is for the program.
export SOAK_SECONDS SOAK_SEED TEST_LIMIT=$((SOAK_SECONDS + 900))

build_server
step "extension built" build_extension
step "client library built" build_client
step "soak built" compile_user soak tests/soak/soak.c
use_test_modules

status=0
bash tests/lib/run_one.sh tests/soak/soak.c || status=$?
if [ "$status" != 0 ]; then
  find "$STAGE_WORK/log/soak.c" -name '*server.log' | while read -r log; do
    printf '\n==== the end of the server'"'"'s log\n'
    tail -n 60 "$log"
  done
  echo "soak: FAILED"
fi
exit "$status"
