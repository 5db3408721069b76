#!/bin/bash
#
# npm.sh: the JavaScript packages of packages.txt ("npm:NAME@VERSION"), for a Node.js that is not Debian's, with which Debian's
# packages cannot be installed.
#
#   npm.sh --directory    where they are kept, of whatever Node.js: the caller's cache, or the system's if he is root
#   npm.sh --path         what NODE_PATH has to be for the installed Node.js to find them, or else Debian's
#   npm.sh --names        their names
#   npm.sh --install      all of them. Where that is not possible: one line, and status 1
#
# In the cache is a directory for each set of packages and binary interface of Node.js. It appears there complete, by a rename,
# so that it may be used at any time, and installed by two at once. STAGE_CACHE is what --directory said, in a stage, where HOME is
# another one.
#
# As root nobody's code runs but npm's own: the packages' scripts are not run, and what has to be compiled is compiled by "nobody",
# against the headers that came with this Node.js. Nothing is downloaded for it, and no lock file is written.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cannot()
{
  echo "setup: no JavaScript packages by npm: $*; tests that want them are skipped" >&2
  exit 1
}

packages()
{
  sed -n 's/^[^#|]*|[[:space:]]*npm:\([^ |]*\).*/\1/p' "$here/packages.txt" | sort -u
}

cache()
{
  if [ -n "${STAGE_CACHE-}" ]; then
    echo "$STAGE_CACHE"
  elif [ "$(id -u)" = 0 ]; then
    echo /var/cache/pgpool_monitor
  else
    echo "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/pgpool_monitor"
  fi
}

# The directory of the set for the installed Node.js.
set_directory()
{
  local list
  list=$(packages)
  echo "$(cache)/$(node -p '"node" + process.versions.modules + "-" + process.arch')-${list//$'\n'/,}"
}

# Where include/node/node.h is.
headers()
{
  local prefix
  prefix=$(node -p 'require("path").dirname(require("path").dirname(require("fs").realpathSync(process.execPath)))')
  [ -e "$prefix/include/node/node.h" ] && echo "$prefix"
}

install_all()
{
  local directory nodedir specs compile=(env) temporary
  command -v npm >/dev/null || cannot "there is no npm"
  nodedir=$(headers) || cannot "Node.js is here without its headers"
  directory=$(set_directory)
  umask 022
  mkdir -p "$(cache)" 2>/dev/null || cannot "$(cache) cannot be made"
  temporary=$(mktemp -d "$(cache)/new.XXXXXX" 2>/dev/null) || cannot "$(cache) is not writable"
  # shellcheck disable=SC2064 # as it is now
  trap "rm -rf '$temporary'" EXIT
  trap 'exit 130' INT TERM HUP
  chmod 755 "$temporary"
  mkdir "$temporary/home"

  mapfile -t specs < <(packages)
  npm install --prefix "$temporary" --ignore-scripts --no-save --no-package-lock --no-audit --no-fund --no-update-notifier \
    --omit=dev --fetch-retries=0 --fetch-timeout=60000 --loglevel=error "${specs[@]}" > "$temporary/home/log" 2>&1 < /dev/null ||
    cannot "$(first_line "$temporary/home/log")"

  if [ "$(id -u)" = 0 ]; then
    chown -R nobody "$temporary"
    compile=(setpriv --reuid=nobody "--regid=$(id -g nobody)" --clear-groups env -u XDG_CACHE_HOME)
  fi
  # libpq is the one that PG_CONFIG is of.
  case ${PG_CONFIG-} in
    */*) PATH=$(dirname "$PG_CONFIG"):$PATH ;;
  esac
  (
    cd "$temporary"
    "${compile[@]}" HOME="$temporary/home" npm_config_cache="$temporary/home/npm" npm_config_nodedir="$nodedir" \
      npm rebuild --offline --no-update-notifier --foreground-scripts libpq
  ) > "$temporary/home/log" 2>&1 < /dev/null || cannot "libpq does not compile: $(first_line "$temporary/home/log")"
  [ "$(id -u)" != 0 ] || chown -R -h 0:0 "$temporary"
  rm -rf "${temporary:?}/home"

  # Somebody else may have been quicker; what is there and does not work is not his.
  if [ -e "$directory" ] && ! works "$directory"; then mv -T "$directory" "$temporary/old" || true; fi
  mv -T "$temporary" "$directory" 2>/dev/null || works "$directory" || cannot "$directory is in the way"
  rm -rf "$directory/old"
  echo "setup: installed ${specs[*]}, by npm, in $(cache)"
}

works()
{
  NODE_PATH=$1/node_modules node -e 'require("libpq"); require("pg-native"); require("pg").native.Client' >/dev/null 2>&1
}

first_line()
{
  grep -m 1 -iE 'err(or)?\b.*[a-z]' "$1" || echo 'npm failed'
}

case ${1-} in
  --directory) cache ;;
  --path) echo "$(set_directory)/node_modules:/usr/share/nodejs:/usr/lib/nodejs:/usr/lib/$(uname -m)-linux-gnu/nodejs" ;;
  --names) packages | sed 's/@[^@]*$//' ;;
  --install) install_all ;;
  *) echo "usage: npm.sh --directory | --path | --names | --install" >&2; exit 2 ;;
esac
