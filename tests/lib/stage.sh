#!/bin/bash
#
# stage.sh COMMAND [ARGUMENT...]: run a command on a private copy of the source tree, and leave nothing behind.
#
# Every target of the Makefile that tests, lints or shows something goes through here. In order:
#   1. make a work directory under TMPDIR, with a short name (a socket's path may have 107 bytes) without blanks;
#   2. copy the sources into it, so that the tree may lie where the next user cannot read, or have blanks in its name, and so
#      that two runs do not meet;
#   3. as root become an unprivileged user, because PostgreSQL refuses to run as root;
#   4. run the command in the copy, without the caller's PG*, PQPOOL_* and make variables, home directory and standard input;
#   5. on every way out (done, failed, Ctrl-C, terminated) stop whatever still runs out of the work directory, servers first,
#      and remove the directory. KEEP=1 keeps it, and says where.
#
# The command finds STAGE_WORK (the work directory), HOME and TMPDIR inside it, and the copy as its current directory;
# and in STAGE_CACHE, outside, what npm has installed (npm.sh).

set -euo pipefail

# shellcheck source=tests/lib/sources.sh
source "$(dirname "${BASH_SOURCE[0]}")/sources.sh"

source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=
child=
drop=()

# The processes that belong to this run: program or current directory below the work directory, or our mark in the environment.
# (A server renames itself over its environment, but its program is ours; an interpreter is not ours, but carries the mark.)
ours()
{
  {
    find /proc -maxdepth 2 \( -name exe -o -name cwd \) \( -lname "$work" -o -lname "$work/*" \) -printf '%h\n'
    grep -lzsFx "STAGE_WORK=$work" /proc/[0-9]*/environ
  } 2>/dev/null | grep -o '[0-9]\+' | sort -un || true # processes vanish while we look
}

stop_everything()
{
  local pids pid file segment segments posix=() sysv=()

  set +e # most of it may vanish at any time, and all of it is to be tried
  # Nothing may start or change hands while we look.
  for _ in 1 2 3; do
    pids=$(ours)
    # shellcheck disable=SC2086 # a list
    kill -STOP $pids
  done

  # A server that ends in order removes its sockets and shared memory; for one that cannot (initdb's), remember what it has.
  for pid in $pids; do
    mapfile -t segments < <(grep -so '/dev/shm/PostgreSQL\.[0-9]*' "/proc/$pid/maps" | sort -u)
    posix+=("${segments[@]}")
  done
  while IFS= read -r -d '' file; do
    pid=$(sed -n 1p "$file")
    segment=$(sed -n 7p "$file")
    sysv+=("${segment##* }")
    # A negative number is a server of initdb's, which ends with it.
    if grep -qx -e "$pid" <<< "$pids"; then kill -QUIT "$pid"; fi
  done < <(find "$work" -name postmaster.pid -print0)
  for pid in $pids; do
    # Not a server's children: they are their postmaster's to end.
    [ "$(cat "/proc/$pid/comm")" = postgres ] || kill -TERM "$pid"
  done
  # shellcheck disable=SC2086 # a list
  kill -CONT $pids

  for _ in {1..50}; do
    [ -n "$(ours)" ] || break
    sleep 0.1
  done
  while pids=$(ours) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # a list
    kill -KILL $pids
    sleep 0.1
  done
  for segment in "${sysv[@]}"; do ipcrm -m "$segment"; done
  rm -f "${posix[@]}"
} 2>/dev/null

clean_up()
{
  trap '' INT TERM HUP
  trap - EXIT
  [ -n "$work" ] || return 0
  # No word from bash about a job that we are going to kill.
  [ -z "$child" ] || disown "$child" 2>/dev/null || true
  cd /
  stop_everything
  if [ "${KEEP:-0}" != 0 ]; then
    echo "stage: kept $work" >&2
  else
    rm -rf "$work"
  fi
}

# Dying by the signal itself, after the cleaning, is what tells make and the shell that the user interrupted.
on_signal()
{
  clean_up
  trap - "$1"
  kill -s "$1" $$
}

choose_user()
{
  local user
  [ "$(id -u)" = 0 ] || return 0
  for user in postgres nobody; do
    drop=(setpriv "--reuid=$user" "--regid=$(id -g "$user" 2>/dev/null || echo none)" --init-groups)
    if "${drop[@]}" true 2>/dev/null; then return; fi
  done
  drop=(unshare -U --map-user=1000 --map-group=1000)
  "${drop[@]}" true || { echo "stage: running as root, and no way to become somebody else" >&2; exit 1; }
}

make_work_directory()
{
  local base
  for base in "${TMPDIR:-/tmp}" /tmp; do
    if [[ $base == *[[:space:]]* ]] || [ ${#base} -gt 40 ]; then continue; fi
    work=$(cd "$base" 2>/dev/null && mktemp -d "$PWD/pgpm.XXXXXX") || continue
    [ "${drop[0]-}" != setpriv ] || chown "${drop[1]#--reuid=}" "$work"
    # The other user may not be let into root's own TMPDIR.
    if "${drop[@]}" test -w "$work"; then return; fi
    rm -rf "$work"
  done
  echo "stage: no usable directory for temporary files" >&2
  exit 1
}

trap clean_up EXIT # which keeps the exit status
trap 'on_signal INT' INT
trap 'on_signal TERM' TERM
trap 'on_signal HUP' HUP

choose_user
make_work_directory
mkdir "$work/src" "$work/home" "$work/tmp"
copy_sources "$source_tree" "$work/src"
[ "${drop[0]-}" != setpriv ] || chown -R "${drop[1]#--reuid=}" "$work"

# A command in the caller's directory may be a relative path (PG_CONFIG), and must not be found in the copy instead.
if [[ ${PG_CONFIG-} == */* ]]; then PG_CONFIG=$(realpath "$PG_CONFIG"); fi
export PG_CONFIG=${PG_CONFIG:-pg_config}

clear=(-u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u CDPATH)
for name in $(compgen -e); do
  case $name in
    PG_CONFIG) ;;
    PG* | PQPOOL_*) clear+=(-u "$name") ;;
  esac
done

# Job control puts the command into a process group of its own: a Ctrl-C reaches us alone, and in time. It also keeps bash from
# making a background command deaf to SIGINT, which every program under test would inherit.
set -m
cd "$work/src"
STAGE_CACHE=$(bash "$source_tree/tests/lib/npm.sh" --directory) # it is in the caller's home directory
export STAGE_CACHE
env "${clear[@]}" STAGE_WORK="$work" HOME="$work/home" TMPDIR="$work/tmp" LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin" \
  "${drop[@]}" "$@" < /dev/null &
child=$!
cd /
wait "$child"
