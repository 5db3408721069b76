#!/bin/bash
#
# fuzz.sh: build every target of tests/fuzz with clang's libFuzzer and its sanitizers, and run one after the other. Called by
# `make fuzz`, in a stage (stage.sh).
#
#   make fuzz                                  every target, a minute each
#   make fuzz FUZZ_SECONDS=600 TESTS=^rules      one of them (a regular expression), for longer
#   make fuzz FUZZ_SECONDS=0                   the inputs of tests/fuzz/corpus only: what was found once stays found
#
# A target TARGET is TARGET.c, which says what must hold for every input; corpus/TARGET has inputs to begin with, each named by
# what it shows; dict/TARGET.dict has words that inputs are made of. A target that finds something ends with what does not hold, with the
# input, and with the command that adds it to the corpus, where it belongs, together with the repair. The others are run all the
# same. What libFuzzer learns on the way is lost with the stage.

# shellcheck disable=SC2317 # build_target is called by name, through step

set -euo pipefail

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

: "${FUZZ_SECONDS:=60}"
[[ $FUZZ_SECONDS =~ ^[0-9]+$ ]] ||
  { echo "fuzz: FUZZ_SECONDS must be a number of seconds, not '$FUZZ_SECONDS'" >&2; exit 2; }

CC=clang
use_sanitizers fuzzer,address,undefined

targets=()
for source in tests/fuzz/*.c; do
  name=$(basename "$source" .c)
  if [[ $name =~ ${TESTS:-} ]]; then targets+=("$name"); fi
done
[ ${#targets[@]} -gt 0 ] || { echo "fuzz: no target matches '${TESTS:-}'" >&2; exit 2; }

# Found inputs come from libFuzzer, which writes to a new directory and a new file; the repository's are only read.
build_target()
{
  local libdir
  libdir=$("$PG_CONFIG" --libdir)
  compile fuzz "tests/fuzz/$1.c" -I"$("$PG_CONFIG" --includedir)" -L"$libdir" "-Wl,-rpath,$libdir"
}

run_target()
{
  local name=$1 new=$STAGE_WORK/fuzz/$1 arguments
  mkdir -p "$new"
  arguments=(-dict="tests/fuzz/dict/$name.dict" -max_len=4096 -timeout=20 -artifact_prefix="$STAGE_WORK/fuzz/$name-")
  if [ "$FUZZ_SECONDS" = 0 ]; then
    "$STAGE_OUT/fuzz/$name" "${arguments[@]}" -runs=0 "tests/fuzz/corpus/$name"
  else
    "$STAGE_OUT/fuzz/$name" "${arguments[@]}" -max_total_time="$FUZZ_SECONDS" "$new" "tests/fuzz/corpus/$name"
  fi
}

# show_finding NAME LOG: what is wrong, for which input, and how to see it again.
show_finding()
{
  local name=$1 log=$2 found
  sed -e '/^#[0-9]/d' -e '/^INFO:/d' -e '/^###/d' -e '/# Uses:/d' -e '/^Shadow bytes/,/ABORTING/d' "$log" | tail -n 60
  found=$(find "$STAGE_WORK/fuzz" -maxdepth 1 -type f -name "$name-*" | head -n 1)
  [ -n "$found" ] || return 0
  printf '\n==== the input (%s bytes, as the shell would quote it)\n' "$(stat -c %s "$found")"
  printf '%q\n' "$(tr -d '\0' < "$found")"
  printf '==== to see it again, and for good\n'
  printf "base64 -d > tests/fuzz/corpus/%s/SAY-WHAT-IT-IS <<< '%s'\n" "$name" "$(base64 -w 0 < "$found")"
  printf 'make fuzz FUZZ_SECONDS=0 TESTS=^%s\n\n' "$name"
}

failed=0
for name in "${targets[@]}"; do
  step "$name built" build_target "$name"
  log=$STAGE_WORK/log/fuzz-$name.log
  start=$SECONDS
  if run_target "$name" > "$log" 2>&1; then
    echo "$name: nothing found in $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p;s/^stat::number_of_executed_units: *//p' "$log" | tail -n 1) runs, $((SECONDS - start)) s"
  else
    show_finding "$name" "$log"
    echo "$name: FAILED after $((SECONDS - start)) s"
    failed=1
  fi
done
exit "$failed"
