#!/bin/bash
# A Debian root as small as it gets and still with a working dpkg and apt; our own packages 1.0 installed, 1.1 offered.
# It unpacks in well under a second: for tests that need many of them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_mini() {
  mkdir root; tar -C root -xf "$CACHE/base/base.tar"
  # What a test of packages never looks at. dpkg is told too, or an upgrade would bring it back.
  rm -rf root/usr/share/{man,info,locale,zoneinfo,i18n,lintian,bash-completion,pixmaps,common-licenses}/* root/usr/share/doc/* \
    root/usr/lib/*-linux-gnu/gconv root/usr/lib/locale/* root/var/cache/{apt,debconf}/* root/var/lib/apt/lists/* root/var/log/*
  printf 'path-exclude=/usr/share/%s/*\n' man info locale zoneinfo i18n >root/etc/dpkg/dpkg.cfg.d/mini
  mkdir -p root/var/cache/apt/archives/partial root/var/lib/apt/lists/partial root/var/log/apt
  # Packages no other one needs, the essential ones for a booted machine included.
  inside root dpkg --purge --force-all e2fsprogs mount logsave libext2fs2 libss2 libcom-err2 tzdata bsdutils sysvinit-utils ncurses-bin hostname login 2>&1 || true
  inside root dpkg --configure -a
  mkdir -p root/srv/loom; cp -a "$CACHE/packages/." root/srv/loom/
  echo 'deb [trusted=yes] file:/srv/loom/old ./' >root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends loom-lib loom-app loom-conf loom-many loom-slow loom-fail
  echo 'deb [trusted=yes] file:/srv/loom/new ./' >>root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get -q check
  rm -rf root/var/cache/apt/*.bin root/var/log/*.log root/var/log/apt/* root/var/cache/debconf/*-old root/var/lib/dpkg/*-old
  inside root dpkg-query -W -f '${Package}\t${Version}\t${db:Status-Abbrev}\n' >packages.tsv
  inside root apt-get -s dist-upgrade | sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) .*/\1\t\2\t\3/p' >pairs.tsv
  [ "$(wc -l <pairs.tsv)" = 5 ] || { echo "expected five pending upgrades:"; cat pairs.tsv; return 1; }
  tar -C root -cf root.tar .
  rm -rf root
}

bash "$LAB/base.sh"; bash "$LAB/packages.sh"
build mini "$(key "$LAB"/{mini,packages,base,lib}.sh -- "$(readlink "$CACHE/base")")" make_mini
