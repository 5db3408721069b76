#!/bin/bash
#
# lint.sh: everything that judges the sources without running them. Called by `make lint`, in a stage (stage.sh); all of it is
# run, then it ends non-zero if anything was found.
# lint.sh --format: apply the style to the tree it is called in (`make format`).

# shellcheck disable=SC2317 # the check_* functions are called by name, through step

set -euo pipefail
shopt -s nullglob

mapfile -t c_files < <(find extension client tests -name '*.[ch]' | sort)
mapfile -t cxx_files < <(find client tests -name '*.[ch]pp' | sort)
mapfile -t scripts < <(find .ci tests client \( -name '*.sh' -o -path '*/.ci/run' -o -path .ci/run \) -type f | sort)
mapfile -t perl_files < <(find tests client -name '*.p[lm]' | sort)

if [ "${1-}" = --format ]; then
  clang-format -i "${c_files[@]}" "${cxx_files[@]}"
  exit 0
fi

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")
server_headers=$("$PG_CONFIG" --includedir-server)
libpq_headers=$("$PG_CONFIG" --includedir)

# Our headers as ours, PostgreSQL's as the system's: its style is not judged here.
flags_of()
{
  case $1 in
    *.cpp) echo "-std=c++11 -Itests/lib -Iclient/include -isystem $libpq_headers" ;;
    extension/*) echo "-std=gnu11 -Iextension -isystem $server_headers" ;;
    client/preload/run.c) echo -std=gnu11 ;;
    client/preload/*) echo "-std=gnu11 -DPQP_ENTRIES -D_GNU_SOURCE= -Iclient/include -isystem $libpq_headers -include client/preload/libpq.h" ;;
    client/*) echo "-std=gnu11 -Iclient/include -Iclient/src -isystem $libpq_headers" ;;
    # the extension's own files see the shim instead of the server's headers
    tests/sim/* | tests/unit/fleet.c) echo "-std=gnu11 -Itests/lib -Itests/sim/shim -Itests/sim -Iextension" ;;
    *) echo "-std=gnu11 -Itests/lib -Iclient/include -Iclient/src -Iextension -isystem $libpq_headers" ;;
  esac
}

check_format() { clang-format --dry-run --Werror "${c_files[@]}" "${cxx_files[@]}"; }

check_scripts() { shellcheck --external-sources --source-path="$PWD" "${scripts[@]}"; }

check_perl()
{
  local file
  for file in "${perl_files[@]}"; do
    PERL5LIB=$PWD/tests/lib:${pgxs%/makefiles}/test/perl perl -c "$file" || return 1
  done
}

check_cppcheck()
{
  # PostgreSQL's headers are not given to it: it knows no such code, and would report it.
  cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
    --suppressions-list=tests/lib/cppcheck.supp --inline-suppr -j2 \
    -Iextension -Iclient/include -Iclient/src -Itests/lib "${c_files[@]}"
}

check_tidy()
{
  local file failed=0 jobs=()
  for file in "${c_files[@]}" "${cxx_files[@]}"; do
    [[ $file == *.c || $file == *.cpp ]] || continue # headers are seen through their users
    [[ $file != tests/model/* ]] || continue         # they compile waitq.c against Relacy's headers, which are not lint's
    # shellcheck disable=SC2046 # a list
    clang-tidy --quiet --warnings-as-errors='*' "$file" -- $(flags_of "$file") 2>/dev/null &
    jobs+=($!)
    if [ ${#jobs[@]} -ge 2 ]; then
      wait "${jobs[0]}" || failed=1
      jobs=("${jobs[@]:1}")
    fi
  done
  for file in "${jobs[@]}"; do wait "$file" || failed=1; done
  return "$failed"
}

# build_with COMPILER: the whole tree without a warning, each in a copy of its own.
# In a subshell: it changes the directory.
build_with()
(
  local copy=$STAGE_WORK/build-$1
  mkdir "$copy"
  tar -cf - . | tar -C "$copy" -xf -
  cd "$copy" || return 1
  # what the server was built with, gcc as a rule, clang may not know
  make -j2 WERROR=1 CC="$1" COPT="-Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes" PG_CONFIG="$PG_CONFIG" &&
    make -C client -j2 CC="$1" PG_CONFIG="$PG_CONFIG" CFLAGS="-O2 -g ${warnings[*]}"
)

failed=0
step "format" check_format || failed=1
step "shellcheck" check_scripts || failed=1
step "perl -c" check_perl || failed=1
step "cppcheck" check_cppcheck || failed=1
step "clang-tidy" check_tidy || failed=1
for compiler in gcc clang; do
  step "build with $compiler" build_with "$compiler" || failed=1
done
if [ $failed = 0 ]; then echo "lint: nothing found"; else echo "lint: FAILED"; fi
exit "$failed"
