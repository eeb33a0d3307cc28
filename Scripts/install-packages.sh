#!/usr/bin/env bash
# Installs the system packages that are missing; needs no network and no rights when nothing is.
#
# usage: Scripts/install-packages.sh PACKAGE…
#
# A package counts as there when the file that is wanted from it is, however it came onto this machine.
# Exit status: 0 all are there, 64 wrong usage, 69 they cannot be installed here, 77 only root could.
set -euo pipefail

say() { echo "install-packages: $*" >&2; }

# has PACKAGE: whether the thing that is needed from it is on this machine.
has() {
  case $1 in
    libsqlite3-dev) [ -e /usr/include/sqlite3.h ] || [ -e /usr/local/include/sqlite3.h ] ;;
    zlib1g-dev) [ -e /usr/include/zlib.h ] || [ -e /usr/local/include/zlib.h ] ;;
    liblz4-dev) [ -e /usr/include/lz4.h ] || [ -e /usr/local/include/lz4.h ] ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    iso-codes) [ -e /usr/share/iso-codes/json/iso_3166-1.json ] ;;
    *) say "there is no test for the package $1" && exit 64 ;;
  esac
}

if ! command -v swift >/dev/null; then
  say "swift is missing: install Swift 6.2 or newer from https://swift.org/install"
  exit 69
fi

missing=()
for package in "$@"; do has "$package" || missing+=("$package"); done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  say "missing: ${missing[*]}. This machine has no apt-get: install what these Debian packages hold in its own way"
  exit 69
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
  # Nobody is there to type a password when standard input is not a terminal.
  [ -t 0 ] || as_root+=(-n)
  if ! command -v sudo >/dev/null || ! "${as_root[@]}" true; then
    say "missing: ${missing[*]}. Installing them needs root: run apt-get install ${missing[*]} as root"
    exit 77
  fi
fi

install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}" >&2
}

say "installing ${missing[*]}"
if ! install; then
  say "trying once more with fresh package lists"
  "${as_root[@]}" apt-get update --quiet >&2 || true
  install || { say "apt-get could not install ${missing[*]}: its reason stands above"; exit 69; }
fi
for package in "${missing[@]}"; do
  has "$package" || { say "$package was installed, but what is needed from it is not there"; exit 69; }
done
