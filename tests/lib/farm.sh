#!/bin/bash
#
# farm.sh DIRECTORY PG_CONFIG: build a private, relocated PostgreSQL in DIRECTORY, and print the path of its pg_config.
#
# PostgreSQL finds its libraries and data files relative to its own program, and only what it finds there can be loaded. So a
# tree with real copies of the programs and links to everything else is a whole server that an extension can be installed into
# without touching the machine's own: a second's work and a few megabytes. Called by build.sh; removed with the stage.
#
# The programs must be copies (a link leads back to the original and its directories); the directories that `make install` writes
# into must be directories of ours (through a link it would write into the machine's).

set -euo pipefail

farm=$1
config=$2

# Link every entry of directory $1 into the farm's directory of the same name, except what is there already, and bitcode
# (which `make install` would write through).
link_entries()
{
  local entry
  mkdir -p "$farm$1"
  for entry in "$1"/*; do
    [ "${entry##*/}" != bitcode ] || continue
    [ ! -e "$entry" ] || [ -e "$farm$entry" ] || ln -s "$entry" "$farm$entry"
  done
}

bindir=$("$config" --bindir)
sharedir=$("$config" --sharedir)

mkdir -p "$farm$bindir"
cp -L "$bindir"/* "$farm$bindir/"

# The inner ones first: one of these may lie inside another.
link_entries "$sharedir/extension"
link_entries "$sharedir"
link_entries "$("$config" --pkglibdir)"

for directory in libdir includedir-server includedir pkgincludedir; do
  directory=$("$config" --$directory)
  if [ -d "$farm$directory" ]; then
    link_entries "$directory"
  elif [ -d "$directory" ]; then
    mkdir -p "$farm${directory%/*}"
    ln -s "$directory" "$farm$directory"
  fi
done

if [ ! -x "$farm$bindir/pg_config" ] || [ ! -x "$farm$bindir/postgres" ]; then
  echo "farm: $config names no complete server (looked in $bindir)" >&2
  exit 1
fi
echo "$farm$bindir/pg_config"
