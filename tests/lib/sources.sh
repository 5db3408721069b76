# sources.sh: which files the source tree consists of. Sourced by stage.sh and versions.sh.
# shellcheck shell=bash

# copy_sources TREE DIRECTORY: the tree as the version control would give it, and what is new in it; without version control
# everything that is no build output.
copy_sources()
{
  local tree=$1 file
  if [ -e "$tree/.git" ]; then
    git -C "$tree" -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do
        # git still lists what was removed from the tree
        if [ -e "$tree/$file" ] || [ -L "$tree/$file" ]; then printf '%s\0' "$file"; fi
      done |
      tar -C "$tree" --no-recursion --null -T - -cf -
  else
    tar -C "$tree" --exclude='*.o' --exclude='*.so*' --exclude='*.a' --exclude='*.bc' -cf - .
  fi | tar -C "$2" --no-same-owner -xf -
}
