#!/bin/bash
#
# run.sh: sharing, proven: simulated fleets in every scenario, and millions of random ones for allot(). Called by `make check-sim`,
# in a stage (stage.sh).
#
# SIM_SEEDS (2) runs of each scenario, from seed SIM_FIRST (1) on; SIM_MILLIONS (10) of fleets. With SIM_OUT the plots, and the
# figures that they are of, go to descriptor 3 as an archive.

set -euo pipefail

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

plotted=(herd deploy burst crowd)
series=$STAGE_WORK/series

step "simulation built" compile sim tests/sim/main.c
step "fleets for allot built" compile unit tests/unit/allot.c -Iextension

# Two cores are usual; the fleets for allot need one of them to themselves.
"$STAGE_OUT/unit/allot" -n "${SIM_MILLIONS:-10}" > "$STAGE_WORK/allot.out" &
allot=$!

failed=0
mkdir "$series"
"$STAGE_OUT/sim/main" -s "${SIM_SEEDS:-2}" -f "${SIM_FIRST:-1}" -o "$series/sim" || failed=1
wait "$allot" || failed=1
cat "$STAGE_WORK/allot.out"

if [ -n "${SIM_OUT-}" ]; then
  for scenario in "${plotted[@]}"; do
    perl tests/sim/plot.pl "$scenario" < "$series/sim.$scenario.tsv" > "$series/$scenario.svg" || failed=1
  done
  tar -C "$series" -cf - . >&3
fi
if [ "$failed" = 0 ]; then echo "check-sim: all held"; else echo "check-sim: FAILED"; fi
exit "$failed"
