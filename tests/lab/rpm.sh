#!/bin/bash
# A root that dnf and rpm manage: the common base with both installed, which calls itself a relative of RHEL, and our own tiny
# packages in two repositories: 'base' (version 1, all installed) and 'updates' (version 2, with advisories).
#
#   loom-lib       1-1 -> 2-1      LOOM-2026:0001, security, important: CVE-2099-2001, CVE-2099-2002
#   loom-app       1-1 -> 2-1      needs loom-lib of its own version; the same advisory
#   loom-epoch     1:1-1 -> 1:2-1  built from the source loom-tools; LOOM-2026:0002, a bug fix
#   loom-post      1-1 -> 2-1      its %post fails, and dnf exits 0; LOOM-2026:0003, security, critical: CVE-2099-2003
#   loom-clash     1-1 -> 2-1      conflicts with loom-lib: dnf skips it and exits 0; LOOM-2026:0004, security, low: CVE-2099-2004
#   loom-shell     1-1             provides /bin/sh, which scriptlets need; no update
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# pack NAME EPOCH VERSION REPOSITORY TAGS SCRIPTS [SOURCE]: one package with one file.
pack() {
  local name=$1 source=${7:-$1} sub='' epoch=''
  [ "$source" = "$name" ] || sub="-n $name"
  [ "$2" = 0 ] || epoch="Epoch: $2"
  { printf '%%define debug_package %%{nil}\nName: %s\n%s\nVersion: %s\nRelease: 1\nSummary: test package of Patchloom\n' "$source" "$epoch" "$3"
    printf 'License: MIT\nVendor: Patchloom Tests\nBuildArch: noarch\n'
    [ -n "$sub" ] || printf '%s\n' "$5"
    printf '%%description\nA test package.\n'
    [ -z "$sub" ] || printf '%%package %s\nSummary: test package of Patchloom\n%s\n%%description %s\nA test package.\n' "$sub" "$5" "$sub"
    printf '%%install\nmkdir -p %%{buildroot}/usr/share/%s\necho %s %s >%%{buildroot}/usr/share/%s/version\n' "$name" "$name" "$3" "$name"
    [ -z "$6" ] || printf '%%post %s\n%s\n' "$sub" "$6"
    printf '%%files %s\n/usr/share/%s\n' "$sub" "$name"; } >"$name.spec"
  rpmbuild -bb --quiet --define "_topdir $PWD/top" --define '_build_id_links none' "$name.spec"
  mkdir -p "$4"; mv top/RPMS/noarch/*.rpm "$4/"; rm -rf top "$name.spec"
}

# advisory ID TYPE SEVERITY CVES PACKAGE|EPOCH|VERSION...
advisory() {
  local id=$1 type=$2 severity=$3 cve package; local cves=$4; shift 4
  printf '<update from="tests@example.org" status="final" type="%s" version="1"><id>%s</id><title>%s</title>' "$type" "$id" "$id"
  printf '<issued date="2026-03-10 12:00:00"/><severity>%s</severity><description>A test.</description><references>' "$severity"
  for cve in $cves; do printf '<reference href="https://example.org/%s" id="%s" type="cve" title="%s"/>' "$cve" "$cve" "$cve"; done
  printf '</references><pkglist><collection short="loom"><name>loom</name>'
  for package in "$@"; do
    IFS='|' read -r name epoch version <<<"$package"
    printf '<package name="%s" epoch="%s" version="%s" release="1" arch="noarch" src="%s-%s-1.src.rpm"><filename>%s-%s-1.noarch.rpm</filename></package>' \
      "$name" "$epoch" "$version" "$name" "$version" "$name" "$version"
  done
  printf '</collection></pkglist></update>\n'
}

make_rpms() {
  local version repository post clash
  for version in 1 2; do
    repository=base post='' clash=''
    [ $version = 1 ] || repository=updates post='echo "loom-post: this scriptlet always fails" >&2; exit 1' clash='Conflicts: loom-lib'
    pack loom-lib 0 $version $repository '' ''
    pack loom-app 0 $version $repository "Requires: loom-lib = $version" ''
    pack loom-epoch 1 $version $repository '' '' loom-tools
    pack loom-post 0 $version $repository '' "$post"
    pack loom-clash 0 $version $repository "$clash" ''
  done
  pack loom-shell 0 1 base 'Provides: /bin/sh' ''
  { echo '<?xml version="1.0" encoding="UTF-8"?><updates>'
    advisory LOOM-2026:0001 security Important 'CVE-2099-2001 CVE-2099-2002' 'loom-lib|0|2' 'loom-app|0|2'
    advisory LOOM-2026:0002 bugfix None '' 'loom-epoch|1|2'
    advisory LOOM-2026:0003 security Critical CVE-2099-2003 'loom-post|0|2'
    advisory LOOM-2026:0004 security Low CVE-2099-2004 'loom-clash|0|2'
    echo '</updates>'; } >updateinfo.xml
  for repository in base updates; do createrepo_c -q $repository; done
  modifyrepo_c updateinfo.xml updates/repodata >/dev/null
  rm updateinfo.xml
}

make_rpm() {
  mkdir root; tar -C root -xf "$CACHE/base/base.tar"
  lend_network root
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends dnf rpm
  inside root apt-get clean
  return_network root
  rm -rf root/var/lib/apt/lists/* root/var/cache/apt/*.bin root/usr/share/{man,locale,doc,info}/*
  rm -f root/etc/os-release root/etc/yum.repos.d/* root/etc/distro.repos.d/*
  printf '%s\n' 'NAME="Loom Linux"' 'PRETTY_NAME="Loom Linux 9"' 'ID=loom' 'ID_LIKE="rhel centos fedora"' 'VERSION_ID="9"' >root/etc/os-release
  printf '[main]\ngpgcheck=0\nkeepcache=1\nreleasever=9\nbest=False\nskip_if_unavailable=False\n' >root/etc/dnf/dnf.conf
  mkdir -p root/srv/rpm root/etc/yum.repos.d
  (cd root/srv/rpm && make_rpms)
  for name in base updates; do
    printf '[loom-%s]\nname=Loom %s\nbaseurl=file:///srv/rpm/%s\nenabled=1\nmetadata_expire=1\n' $name $name $name >root/etc/yum.repos.d/loom-$name.repo
  done
  inside root dnf -q -y --releasever=9 --disablerepo=loom-updates install loom-shell loom-lib loom-app loom-epoch loom-post loom-clash
  inside root rpm -qa | sort
  [ "$(inside root rpm -qa | wc -l)" = 6 ] || { echo 'expected six rpms'; return 1; }
  inside root dnf -q --releasever=9 makecache
  tar -C root -cf root.tar .
  rm -rf root
}

bash "$LAB/base.sh"
need rpm createrepo-c
build rpm "$(key "$LAB"/{rpm,base,lib}.sh -- "$(readlink "$CACHE/base")")" make_rpm
