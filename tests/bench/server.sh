#!/bin/bash
#
# server.sh: what the extension costs the server. `make bench-server` runs it in a stage (tests/lib/stage.sh); server.pl measures
# and prints, README.md says what.

set -euo pipefail

if [ -z "${STAGE_WORK-}" ]; then
  echo 'bench-server: runs in a stage only; use "make bench-server"' >&2
  exit 2
fi

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

build_server
step "extension built" build_extension
compile bench tests/bench/crowd.c -O2 -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq \
  "-Wl,-rpath,$("$PG_CONFIG" --libdir)"
use_test_modules
mkdir -p "$STAGE_WORK/log/server"
export TESTDIR=$STAGE_WORK/log/server TESTDATADIR=$STAGE_WORK/log/server/data TESTLOGDIR=$STAGE_WORK/log/server/log
ulimit -n "$(ulimit -Hn)"
perl tests/bench/server.pl
