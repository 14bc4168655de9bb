#!/bin/bash
# The rpm root as zypper's: the same packages in the same two repositories, zypper beside rpm, a system that calls itself a
# relative of SUSE, and the database where zypper looks for it. Debian's rpm keeps its own in the home directory.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_zypper() {
  mkdir root; tar -C root --numeric-owner -xf "$CACHE/rpm/root.tar"
  lend_network root
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends zypper
  inside root apt-get clean
  return_network root
  rm -rf root/var/lib/apt/lists/* root/var/cache/apt/*.bin root/usr/share/{man,locale,doc,info}/*
  printf '%s\n' 'NAME="Loom Leap"' 'PRETTY_NAME="Loom Leap 15"' 'ID=loom-leap' 'ID_LIKE="suse opensuse"' 'VERSION_ID="15"' >root/etc/os-release
  mkdir -p root/etc/rpm root/var/lib/rpm
  echo '%_dbpath /var/lib/rpm' >root/etc/rpm/macros.dbpath
  cp -a root/root/.rpmdb/. root/var/lib/rpm/; rm -rf root/root/.rpmdb root/etc/yum.repos.d/* root/var/cache/dnf
  for name in base updates; do
    inside root zypper --non-interactive addrepo --no-gpgcheck "file:///srv/rpm/$name" "loom-$name"
  done
  inside root zypper --non-interactive refresh
  [ "$(inside root zypper --non-interactive --no-refresh list-updates | grep -c '^v')" = 4 ] || { echo 'expected four updates'; return 1; }
  tar -C root -cf root.tar .
  rm -rf root
}

bash "$LAB/rpm.sh"
build zypper "$(key "$LAB"/{zypper,rpm,base,lib}.sh -- "$(readlink "$CACHE/rpm")")" make_zypper
