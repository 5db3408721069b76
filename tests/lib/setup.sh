#!/bin/bash
#
# setup.sh GROUP...: make sure that this machine has what the named groups of packages.txt need.
#
# Called by the Makefile before every target that tests, lints or shows something, so it must be quick and silent when nothing
# is missing. What is missing is installed when we may (root, or sudo that asks nothing); otherwise the one command that would
# do it is printed and we end non-zero. What only some tests want ("check?") is installed if it can be; else they are skipped.
# Only Debian's apt is known; and npm for a few optional packages (npm.sh), which is asked last, by whoever we are.
#
# Installing postgresql or pgbouncer normally creates a cluster and starts services. Nobody who types `make check` asked for
# these, so for the time of the install both are held back; a machine that has them already is left as it is.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
PATH=$PATH:/usr/sbin:/sbin

has() { command -v "$1" >/dev/null; }
pgc() { "$PG_CONFIG" "$1"; }

# Which of npm's packages Node.js finds; asked once for all, as it takes its time to start.
# shellcheck disable=SC2317 # called by probes
node_has()
{
  local name
  if [ -z "${node_found-}" ]; then
    local names
    mapfile -t names < <(bash "$here/npm.sh" --names)
    node_found=" $(NODE_PATH=${NODE_PATH-}:$(bash "$here/npm.sh" --path) node -p \
      'process.argv.slice(1).filter(name => { try { return require(name) } catch { return false } }).join(" ")' -- "${names[@]}") "
  fi
  for name in "$@"; do
    [[ $node_found == *" $name "* ]] || return 1
  done
}

# The major version of the server to test with: what the chosen pg_config says, else what its path says, else what apt has.
server_version()
{
  if [[ $(pgc --version 2>/dev/null) =~ ^PostgreSQL\ ([0-9]+) ]] || [[ $PG_CONFIG =~ /postgresql/([0-9]+)/ ]] ||
     [[ $(apt-cache depends postgresql 2>/dev/null) =~ Depends:\ postgresql-([0-9]+) ]]; then
    echo "${BASH_REMATCH[1]}"
  fi
}

# Prints the packages of the groups $@ whose probe fails, a line each.
missing()
{
  local version groups package probe group
  version=$(server_version)
  while IFS='|' read -r groups package probe _; do
    [[ $groups =~ ^[[:space:]]*(#|$) ]] && continue
    for group in "$@"; do
      [[ ",${groups// /}," == *",$group,"* ]] || continue
      if ! eval "$probe" >/dev/null 2>&1; then
        package=${package// /}
        if [ -z "$version" ]; then # apt has no lists yet: the names that need no number
          package=${package/#postgresql-server-dev-@V@/postgresql-server-dev-all}
          package=${package/#postgresql-@V@/postgresql}
        fi
        echo "${package/@V@/$version}"
      fi
      break
    done
  done < "$here/packages.txt"
}

# Those of the optional packages that apt could install here, a line each.
missing_and_available()
{
  local package
  missing "${@/%/?}" | while read -r package; do
    [[ $package == npm:* ]] || ! apt-get install -s --no-install-recommends "$package" >/dev/null 2>&1 || echo "$package"
  done
}

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

created=() # what install_packages put into the system's directories for the time of the install

# As root: install $@, holding back the services and the cluster that newly arriving packages would start.
install_packages()
{
  local services=() service

  # On every way out, also Ctrl-C in the middle of apt-get.
  trap '[ ${#created[@]} -eq 0 ] || rm -f "${created[@]}"' EXIT
  trap 'exit 130' INT TERM HUP

  installed postgresql-common || services+=(postgresql)
  installed pgbouncer || services+=(pgbouncer)

  if [[ " ${services[*]} " == *" postgresql "* ]]; then
    mkdir -p /etc/postgresql-common/createcluster.d
    created+=(/etc/postgresql-common/createcluster.d/pgpool_monitor-setup.conf)
    echo 'create_main_cluster = false' > "${created[-1]}"
  fi
  if [ ${#services[@]} -gt 0 ] && [ ! -e /usr/sbin/policy-rc.d ]; then
    created+=(/usr/sbin/policy-rc.d)
    # shellcheck disable=SC2016 # $1 is the new script's
    { echo '#!/bin/sh'; printf 'case $1 in %s*) exit 101 ;; esac\n' "${services[@]}"; } > "${created[-1]}"
    chmod 755 "${created[-1]}"
  fi

  export DEBIAN_FRONTEND=noninteractive
  local apt=(apt-get -y -q -o DPkg::Lock::Timeout=600)
  "${apt[@]}" install --no-install-recommends "$@" || # the lists may be old, or absent
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; }

  # Tests start a pgbouncer of their own: the package's need not start with the machine.
  for service in "${services[@]}"; do
    if [ "$service" = pgbouncer ] && installed pgbouncer; then
      update-rc.d pgbouncer disable >/dev/null 2>&1 || true
    fi
  done
}

if [ "${1-}" = --as-root ]; then
  shift
  # Two set-ups at once: the second waits, and then finds less to do.
  exec 9> /run/lock/pgpool_monitor-setup.lock
  flock 9
  # No lists: no version to derive package names from.
  [ -n "$(server_version)" ] || apt-get -q -o DPkg::Lock::Timeout=600 update
  mapfile -t packages < <(missing "$@"; missing_and_available "$@")
  if [ ${#packages[@]} -gt 0 ]; then
    echo "setup: installing ${packages[*]}"
    install_packages "${packages[@]}"
  fi
  exit 0
fi

# Of what npm has: no reason to end.
finish()
{
  if [ -n "$(missing "${@/%/?}" | sed -n '/^npm:/p')" ]; then bash "$here/npm.sh" --install || true; fi
  exit 0
}

mapfile -t packages < <(missing "$@")

if has apt-get; then
  if [ ${#packages[@]} -eq 0 ] && [ -z "$(missing_and_available "$@")" ]; then
    finish "$@"
  elif [ "$(id -u)" = 0 ]; then
    bash "$here/setup.sh" --as-root "$@"
  elif has sudo && sudo -n true 2>/dev/null; then
    sudo -n env PG_CONFIG="$PG_CONFIG" bash "$here/setup.sh" --as-root "$@"
  elif [ ${#packages[@]} -gt 0 ]; then
    echo "setup: missing: ${packages[*]}" >&2
    echo "setup: install them, then run this again:" >&2
    echo "sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
    exit 1
  fi
fi

mapfile -t packages < <(missing "$@")
if [ ${#packages[@]} -gt 0 ]; then
  echo "setup: still missing: ${packages[*]}" >&2
  has "$PG_CONFIG" || echo "setup: there is no PG_CONFIG=$PG_CONFIG; name the pg_config of the server to test with" >&2
  exit 1
fi
finish "$@"
