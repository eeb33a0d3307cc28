#!/usr/bin/env bash
# Plants the bugs of Tests/Mutants, one at a time, in a copy of the sources, and runs simulations until one finds it.
#
# usage: Scripts/mutants.sh [NAME]…
#
# SEEDS=2000 is how many seeds a bug may escape; SCRATCH is where the copy and its build are kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=${SCRATCH:-.build/mutants} seeds=${SEEDS:-2000}
mkdir -p "$scratch"
missed=0

copy_sources() {
  local name
  for name in Sources Tests; do
    mkdir -p "$scratch/tree/$name"
    rsync_files "$name"
  done
  cp Package.swift "$scratch/tree/"
  [ -f Package.resolved ] && cp Package.resolved "$scratch/tree/" || true
}

# Copies what differs, so that the build does only what a patch asks for, and removes what is gone.
rsync_files() {
  local file
  (cd "$scratch/tree" && find "$1" -type f -print0) | while IFS= read -r -d '' file; do
    [ -e "$file" ] || rm "$scratch/tree/$file"
  done
  find "$1" -type f -print0 | while IFS= read -r -d '' file; do
    cmp -s "$file" "$scratch/tree/$file" && continue
    mkdir -p "$(dirname "$scratch/tree/$file")"
    cp "$file" "$scratch/tree/$file"
  done
}

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for file in Tests/Mutants/*.patch; do names+=("$(basename "$file" .patch)"); done
fi

for name in "${names[@]}"; do
  copy_sources
  patch --quiet --strip=1 --directory="$scratch/tree" <"Tests/Mutants/$name.patch"
  if ! (cd "$scratch/tree" && swift build -c release --product edge-sim --scratch-path ../build) >"$scratch/$name.log" 2>&1; then
    echo "$name: does not build, see $scratch/$name.log"
    missed=$((missed + 1))
    continue
  fi
  if "$scratch/build/release/edge-sim" --seeds "$seeds" --stop-at-first >"$scratch/$name.log" 2>&1; then
    echo "$name: not found by $seeds seeds"
    missed=$((missed + 1))
  else
    first=$(sed -n 's/^again with: make sim SEED=//p' "$scratch/$name.log" | sort -n | head -n 1)
    echo "$name: found by seed ${first:-?}: $(grep -m 1 '^VIOLATION' "$scratch/$name.log" | cut -c 12-160)"
  fi
done
echo "${#names[@]} bugs planted, $missed not found"
[ "$missed" -eq 0 ]
