# build.sh: how a staged run builds what it tests. Sourced by check.sh, soak.sh, fuzz.sh, lint.sh and the demo, inside a stage
# (see stage.sh).
# shellcheck shell=bash
#
# Results, all below STAGE_WORK and known by these exported variables:
#   PG_CONFIG     from build_server on: the private server's
#   STAGE_PREFIX  where build_client installs the client library
#   STAGE_OUT     compiled tests and programs: unit/NAME, client/NAME, faults/NAME, programs/NAME
#
# A test or program in C or C++ says in its first comment what it needs beyond the defaults, a line each:
#    * sources: FILE...     further files of the tree to compile with it
#    * flags: FLAG...       further compiler or linker flags

export STAGE_PREFIX=$STAGE_WORK/client STAGE_OUT=$STAGE_WORK/out
: "${CC:=gcc}" "${CXX:=g++}"
export CC CXX

# Warnings are errors here, and only here: a user's newer compiler must not fail on a new warning.
warnings=(-Wall -Wextra -Werror)
# A thread or memory error shall end the test, with a readable stack.
sanitizer_flags=()

# use_sanitizers KINDS: build with the compiler's -fsanitize=KINDS from here on, and end at the first finding. SANITIZED says so
# to run_one.sh.
use_sanitizers()
{
  local lib=$PWD/tests/lib
  export SANITIZED=$1
  sanitizer_flags=("-fsanitize=$1" -fno-sanitize-recover=all -fno-omit-frame-pointer)
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
  export LSAN_OPTIONS=suppressions=$lib/lsan.supp:print_suppressions=0
  export UBSAN_OPTIONS=print_stacktrace=1:suppressions=$lib/ubsan.supp
  export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$lib/tsan.supp
}

# step NAME COMMAND...: run a step of the build; silent and timed when it works, its whole output when it does not. A function
# that is run in this way has to end itself when a command of it fails: bash does not, in a condition.
step()
{
  local start=$SECONDS name=$1 log
  shift
  log=$STAGE_WORK/log/step-${name// /-}.log
  mkdir -p "$STAGE_WORK/log"
  if ! "$@" > "$log" 2>&1; then
    cat "$log"
    echo "FAILED: $name"
    return 1
  fi
  echo "$name: $((SECONDS - start)) s"
}

# What the comment at the head of a source says after "KEY:".
said_in()
{
  sed -n "1,40s/^[ /]*\*[[:space:]]*$2:[[:space:]]*//p" "$1" | sed 's|[[:space:]]*\*/$||'
}

# The private server, with the extension installed into it.
build_server()
{
  PG_CONFIG=$(bash tests/lib/farm.sh "$STAGE_WORK/pg" "$PG_CONFIG")
  export PG_CONFIG
  PATH=$("$PG_CONFIG" --bindir):$PATH
  export PATH
}

# What PostgreSQL's test modules expect from the Makefiles they were made for.
use_test_modules()
{
  local pgxs
  pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")
  export PERL5LIB=$PWD/tests/lib:${pgxs%/makefiles}/test/perl
  export PG_REGRESS=${pgxs%/makefiles}/test/regress/pg_regress
  export PG_TEST_PORT_DIR=$STAGE_WORK/ports PGPORT=65432
}

build_extension()
{
  make -j2 WERROR=1 PG_CONFIG="$PG_CONFIG" &&
    make install PG_CONFIG="$PG_CONFIG"
}

build_client()
{
  local flags=(PG_CONFIG="$PG_CONFIG" CC="$CC" CFLAGS="-O2 -g ${warnings[*]} ${sanitizer_flags[*]}"
    LDFLAGS="${sanitizer_flags[*]}" prefix="$STAGE_PREFIX")
  make -C client -j2 "${flags[@]}" &&
    make -C client "${flags[@]}" install
}

# compile KIND SOURCE FLAG...: SOURCE to STAGE_OUT/KIND/NAME. C++ is the oldest that the client library's header takes; a test
# that wants another says so by its flags.
compile()
{
  local kind=$1 source=$2 name sources flags compiler
  shift 2
  name=$(basename "${source%.*}")
  case $source in
    *.cpp) compiler=("$CXX" -std=c++11) ;;
    *) compiler=("$CC" -std=gnu11) ;;
  esac
  read -r -a sources <<< "$(said_in "$source" sources | tr '\n' ' ')"
  read -r -a flags <<< "$(said_in "$source" flags | tr '\n' ' ')"
  mkdir -p "$STAGE_OUT/$kind"
  "${compiler[@]}" -O1 -g "${warnings[@]}" "${sanitizer_flags[@]}" -pthread -Itests/lib -o "$STAGE_OUT/$kind/$name" \
    "$source" "${sources[@]}" "$@" "${flags[@]}" -lm
}

# The pure parts stand alone: no server, not even its headers. The client's options ask libpq, for which their test links it.
build_unit()
{
  local source libdir
  libdir=$("$PG_CONFIG" --libdir)
  for source in tests/unit/*.c; do
    compile unit "$source" -Iextension -Iclient/include -Iclient/src \
      -I"$("$PG_CONFIG" --includedir)" -L"$libdir" "-Wl,-rpath,$libdir" || return
  done
}

# The library's archive with the calls that are to fail wrapped (tests/faults/support/inject.c), and no libpq.
build_faults()
{
  local source call flags=()
  for call in malloc calloc realloc aligned_alloc strdup free pthread_create pthread_setspecific pthread_key_create \
    pthread_cond_clockwait eventfd fcntl socketpair getrandom clock_gettime poll syscall; do
    flags+=("-Wl,--wrap=$call")
  done
  for source in tests/faults/*.c; do
    compile faults "$source" -Itests/faults -Iclient/include -Iclient/src -I"$("$PG_CONFIG" --includedir)" \
      "$STAGE_PREFIX/lib/libpqpool.a" "${flags[@]}" || return 1
  done
}

# compile_libpq_user KIND SOURCE: a user of libpq's, who knows of nothing else.
compile_libpq_user()
{
  local libdir
  libdir=$("$PG_CONFIG" --libdir)
  compile "$1" "$2" -I"$("$PG_CONFIG" --includedir)" -L"$libdir" "-Wl,-rpath,$libdir" -lpq
}

build_preload()
{
  local source
  for source in tests/preload/*.c tests/preload/programs/*.c; do
    compile_libpq_user preload "$source" || return
  done
}

# compile_user KIND SOURCE: a user of the client library, compiled as its users would: by pkg-config.
compile_user()
{
  local flags
  read -r -a flags <<< "$(PKG_CONFIG_PATH=$STAGE_PREFIX/lib/pkgconfig pkg-config --cflags --libs libpqpool)"
  flags+=(-I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq "-Wl,-rpath,$STAGE_PREFIX/lib")
  compile "$1" "$2" "${flags[@]}"
}

build_programs()
{
  local source
  for source in tests/client/*.c tests/client/*.cpp; do
    compile_user client "$source" || return
  done
  for source in tests/programs/*.c; do
    compile_user programs "$source" || return
  done
}
