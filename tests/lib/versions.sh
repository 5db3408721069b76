#!/bin/bash
#
# versions.sh: the tests against PostgreSQL versions that the machine does not have. Called by `make check-versions`.
#
#   make check-versions                                  17 and 18, one after the other
#   make check-versions VERSIONS=18 TESTS=t/230          one of them, and some of the tests (a regular expression)
#   make check-versions MIRROR=URL                       a Debian mirror; otherwise the one among the machine's apt sources
#   make check-versions WHERE_POSSIBLE=1                 a machine on which no such Debian can be made is no failure
#
# Each version is tested on the Debian release that has it, with that release's compilers and libraries: a minimal Debian in a
# throwaway directory (debootstrap), in it what the tests need (setup.sh), a copy of this tree, `make check`, and `make
# check-preload` with that release's libpq and drivers. Nothing is installed into the machine, and no package host has to be
# known here.
#
# All of a version's processes and mounts are in namespaces of their own, which end with their first process, however that
# ends. So on every way out (done, failed, Ctrl-C, terminated) nothing is left but a directory to remove; KEEP=1 keeps it. It
# is below TMPDIR, by default /var/tmp: a Debian with compilers takes 2 GB, and /tmp may be in memory.
#
# This takes root, which makes the chroot; the tests themselves run as an unprivileged user, as they always do (stage.sh).

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${VERSIONS:=17 18}"
PATH=$PATH:/usr/sbin:/sbin
work=
child=

# Without TESTS: what has to do with the server, and of the client library what libpq and the server could change under it.
usual_tests='tests/(unit|t/[123])|tests/client/(default|errors|fork|inbox|ownership|reset|state|steer|tls|wrapper)'

cannot_status=77 # of the inner script: it did not come to the tests

die()
{
  echo "check-versions: $*" >&2
  exit 1
}

# The machine is at fault, not what is tested.
cannot()
{
  echo "check-versions: $*" >&2
  [ "${WHERE_POSSIBLE:-0}" = 0 ] || echo "check-versions: NOT RUN" >&2
  exit "$([ "${WHERE_POSSIBLE:-0}" = 0 ] && echo 1 || echo 0)"
}

# The Debian release that has this version.
release_of()
{
  case $1 in
    15) echo bookworm ;;
    17) echo trixie ;;
    18) echo forky ;;
    *) die "no Debian release has PostgreSQL $1 (known: 15, 17, 18)" ;;
  esac
}

# step NAME LOG COMMAND...: a step whose output is only shown if it fails. In the background, because in a condition bash would
# not end a function at its first failing command.
step()
{
  local name=$1 log=$2 start=$SECONDS
  shift 2
  "$@" > "$log" 2>&1 < /dev/null &
  if ! wait $!; then
    tail -n 60 "$log"
    echo "check-versions: FAILED: $name" >&2
    exit "$cannot_status"
  fi
  echo "$name: $((SECONDS - start)) s"
}

# ---- inside the namespaces, as their first process -----------------------------------------------------------------------

# How the machine's apt gets at its packages (proxy, certificates, a clock that is not believed) holds for debootstrap ...
use_proxy()
{
  local proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  if [ -n "$proxy" ] && [ "$proxy" != DIRECT ]; then
    export http_proxy=${http_proxy:-$proxy} https_proxy=${https_proxy:-$proxy}
  fi
}

# ... and in the chroot. What is thrown away in some minutes need not survive a power failure there, nor be documented.
write_settings()
{
  local root=$1
  apt-config dump Acquire | grep -E '^Acquire::(http|https|Retries|ForceIPv|Check-(Valid-Until|Date))' |
    grep -v Auto-Detect > "$root/etc/apt/apt.conf.d/10machine" || true # none of them
  printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/locale/*' \
    'path-exclude=/usr/share/man/*' > "$root/etc/dpkg/dpkg.cfg.d/throwaway"
  cp /etc/hosts "$root/etc/hosts"
  [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

make_debian()
{
  local root=$1 suite=$2 mirror=$3 keyring script=()
  keyring=$(find /usr/share/keyrings -name 'debian-archive-keyring.*' | sort | head -n 1) # .gpg, .pgp, or both
  # Older than the release: it has no script of that name, but they are all one anyway.
  [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=(sid)
  use_proxy
  mkdir "$root"
  # A file system for temporary files may not allow devices and programs.
  mount --bind "$root" "$root"
  mount -o remount,bind,dev,exec,suid "$root"
  debootstrap --variant=minbase --include=make,gcc,libc6-dev,ca-certificates --keyring="$keyring" \
    "$suite" "$root" "$mirror" "${script[@]}"
  write_settings "$root"
  mount -t proc proc "$root/proc"
  mkdir -p "$root/dev/shm" "$root/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
  in_chroot "$root" apt-get -q update
}

# in_chroot ROOT COMMAND...: with nothing of the caller's environment but how to get at packages.
in_chroot()
{
  local root=$1 name pass=()
  shift
  for name in http_proxy https_proxy no_proxy CI JOBS; do
    [ -z "${!name-}" ] || pass+=("$name=${!name}")
  done
  chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive PG_CONFIG="$pg_config" "${pass[@]}" "$@"
}

test_version()
{
  local directory=$1 version=$2 mirror=$3 suite root pid
  suite=$(release_of "$version")
  root=$directory/$suite
  pg_config=/usr/lib/postgresql/$version/bin/pg_config

  # Who is to be killed for everything here to end, as the outer script calls it: this /proc is still the machine's.
  read -r pid _ < /proc/self/stat
  echo "$pid" > "$directory/first-process"

  echo "== PostgreSQL $version on Debian $suite"
  step "Debian made" "$directory/debian.log" make_debian "$root" "$suite" "$mirror"
  mkdir "$root/src"
  # shellcheck source=tests/lib/sources.sh
  source "$here/sources.sh"
  copy_sources "$here/../.." "$root/src"
  step "packages installed" "$directory/setup.log" in_chroot "$root" bash /src/tests/lib/setup.sh check preload
  in_chroot "$root" "$pg_config" --version
  if matches 'tests/(unit|client|faults|t)/'; then
    in_chroot "$root" make --no-print-directory -C /src check TESTS="${TESTS:-$usual_tests}"
  fi
  if matches 'tests/preload/'; then
    in_chroot "$root" make --no-print-directory -C /src check-preload TESTS="${TESTS-}"
  fi
}

# Are tests below such a directory among those that are asked for?
matches()
{
  (cd "$here/../.." && find tests/*/ -maxdepth 1 -name '*.*') | grep -E "^$1" | grep -qE "${TESTS:-.}"
}

if [ "${1-}" = --inside ]; then
  shift
  exec 2>&1 # not unshare's: it has something wrong to say when we are killed
  test_version "$@"
  exit
fi

# ---- outside ----------------------------------------------------------------------------------------------------------------

# End everything that runs for a version, and remove its directory.
clean_up()
{
  if [ -n "$child" ]; then
    disown "$child" 2>/dev/null || true # no word from bash about it
    # The kernel reports the end of the first process when all the others have ended.
    if [ -s "$work/first-process" ]; then
      kill -KILL "$(cat "$work/first-process")" 2>/dev/null || true
    else
      kill -KILL "$child" 2>/dev/null || true # which takes the first process with it
    fi
    while [ -e "/proc/$child" ]; do sleep 0.1; done
    child=
  fi
  if [ -n "$work" ] && [ "${KEEP:-0}" != 0 ]; then
    echo "check-versions: kept $work" >&2
  elif [ -n "$work" ]; then
    rm -rf --one-file-system "$work"
  fi
  work=
}

# Dying by the signal itself, after the cleaning, is what tells make and the shell that the user interrupted.
on_signal()
{
  trap '' INT TERM HUP
  clean_up
  trap - EXIT "$1"
  kill -s "$1" $$
}

# The Debian archive that the machine's own packages come from (not one of its updates or security, which are incomplete).
machine_mirror()
{
  local uri file
  # shellcheck disable=SC2016 # apt's variables
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
    while read -r uri; do
      case $uri in
        mirror+file:*) # a list of archives
          file=${uri#mirror+file:}
          awk 'NF && !/^#/ { print $1; exit }' "${file%/}"
          ;;
        *) echo "$uri" ;;
      esac
    done | grep -m 1 -E '^https?://' || true
}

if [ "$(id -u)" != 0 ]; then
  again=(env "VERSIONS=$VERSIONS" "TESTS=${TESTS-}" "MIRROR=${MIRROR-}" "KEEP=${KEEP-}" "JOBS=${JOBS-}"
    "WHERE_POSSIBLE=${WHERE_POSSIBLE-}" bash "$here/versions.sh")
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then exec sudo -n "${again[@]}"; fi
  cannot "a chroot takes root, and this is $(id -un). Run it so: sudo make check-versions VERSIONS='$VERSIONS'"
fi

for version in $VERSIONS; do
  release_of "$version" >/dev/null
done
unshare --mount --ipc --pid --fork --kill-child true ||
  cannot "root may not make namespaces or mounts here (a container?): run it on a machine, or in a privileged container"
: "${MIRROR:=$(machine_mirror)}"
if [ -z "$MIRROR" ]; then # apt has no lists yet
  apt-get -q update >/dev/null || true
  MIRROR=$(machine_mirror)
fi
[ -n "$MIRROR" ] || cannot "no Debian archive among apt's sources; name one: make check-versions MIRROR=URL"

trap clean_up EXIT # which keeps the exit status
trap 'on_signal INT' INT
trap 'on_signal TERM' TERM
trap 'on_signal HUP' HUP

# Job control: a Ctrl-C reaches us alone, and in time.
set -m
failed=
unable=
for version in $VERSIONS; do
  start=$SECONDS
  work=$(cd "${TMPDIR:-/var/tmp}" && mktemp -d "$PWD/pgpm-versions.XXXXXX")
  setpriv --pdeathsig KILL unshare --mount --propagation private --ipc --pid --fork --kill-child \
    bash "$here/versions.sh" --inside "$work" "$version" "$MIRROR" < /dev/null 2> /dev/null &
  child=$!
  status=0
  wait "$child" || status=$?
  child=
  clean_up
  case $status in
    0) verdict=passed ;;
    "$cannot_status") verdict='NOT RUN' unable+=" $version" ;;
    *) verdict=FAILED failed+=" $version" ;;
  esac
  echo "== PostgreSQL $version $verdict in $((SECONDS - start)) s"
done
[ -z "$failed" ] || die "FAILED with PostgreSQL$failed"
[ -z "$unable" ] || cannot "no Debian could be made here for PostgreSQL$unable"
