# source_package.sh: a Debian source package, by the machine's own apt and without rights. Sourced inside a stage (stage.sh).
# shellcheck shell=bash
#
# The machine's sources with deb-src for deb, in an apt configuration of the stage's: nothing of the system's is changed.

# use_sources DIRECTORY: make the configuration there. Fails where there is no apt.
use_sources()
{
  local file work=$1
  command -v apt-get >/dev/null || return 1
  mkdir -p "$work/parts" "$work/lists/partial" "$work/cache/archives/partial" || return
  # The stage's user is not apt's own.
  source_apt=(-q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/parts" -o APT::Sandbox::User=
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache")
  touch "$work/sources.list"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ -r "$file" ]; then sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" >> "$work/sources.list"; fi
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    if [ -r "$file" ]; then sed 's/^Types:.*/Types: deb-src/' "$file" > "$work/parts/${file##*/}"; fi
  done
  apt-get "${source_apt[@]}" update || true # one of them may have no sources
}

# fetch_source DIRECTORY SOURCE BINARY: the archives of the source package, there; which version, in DIRECTORY/version. It is
# that of the installed binary package, or the next best that can be had: an archive may have dropped that, or not have it yet.
fetch_source()
{
  local version
  mkdir -p "$1" && cd "$1" || return
  # shellcheck disable=SC2016 # dpkg's, not the shell's
  for version in $(dpkg-query -W -f '${source:Version}\n' "$3" 2>/dev/null || true) \
    $(apt-cache "${source_apt[@]}" showsrc "$2" 2>/dev/null | sed -n 's/^Version: //p' | sort -rVu); do
    rm -f "$2"_* # of the version before
    if apt-get "${source_apt[@]}" source --download-only "$2=$version"; then
      rm -f "$2"_*.asc # signatures, named after what they sign
      echo "$version" > version
      return
    fi
  done
  return 1
}
