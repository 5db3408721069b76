#!/bin/bash
#
# preload.sh: programs that connect for each piece of work, pooled as they are. `make bench-preload` runs it in a stage
# (tests/lib/stage.sh); preload.pl measures and prints, README.md says what.

set -euo pipefail

if [ -z "${STAGE_WORK-}" ]; then
  echo 'bench-preload: runs in a stage only; use "make bench-preload"' >&2
  exit 2
fi

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

build_server
step "extension built" build_extension
step "client library built" build_client
use_test_modules
mkdir -p "$STAGE_WORK/log/preload"
export TESTDIR=$STAGE_WORK/log/preload TESTDATADIR=$STAGE_WORK/log/preload/data TESTLOGDIR=$STAGE_WORK/log/preload/log
perl tests/bench/preload.pl
