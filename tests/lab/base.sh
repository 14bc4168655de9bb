#!/bin/bash
# The common ancestor of the test roots: a minimal Debian of this machine's release, as it was on its last point release.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_base() {
  local archive; archive=$(archive_of "$RELEASE")
  [ -n "$archive" ] || die "this machine has no archive of $RELEASE main among its apt sources"
  debootstrap --variant=minbase "$RELEASE" root "${archive% *}"
  forbid_services root
  rm -rf root/var/cache/apt/archives/*.deb root/etc/resolv.conf root/etc/hostname
  tar -C root -cf base.tar .
  rm -rf root
}

need debootstrap
RELEASE=$(codename)
build base "$(key "$LAB/base.sh" "$LAB/lib.sh" -- "$RELEASE" "$(dpkg --print-architecture)")" make_base
