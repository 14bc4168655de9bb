#!/bin/bash
# Our own tiny packages: what a test must be able to count on, whatever the archive offers today.
#
#   loom-lib 1.0 -> 1.1    a library; two CVEs (one high, one medium)
#   loom-app 1.0 -> 1.1    needs loom-lib of its own version; one CVE
#   loom-conf 1.0 -> 1.1   ships the conffile /etc/loom.conf, which 1.1 changes; no CVE
#   loom-many 1.0 -> 1.1   400 files, all of which change; one CVE
#   loom-slow 1.0 -> 1.1   its postinst takes two seconds; one CVE
#   loom-fail 1.0 -> 1.1   its postinst fails (1.1 lies in 'broken', which a test switches on); one CVE
#
# Three repositories: old (all 1.0), new (1.1 but for loom-fail), broken (loom-fail 1.1).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# entry VERSION URGENCY DAY TEXT...
entry() {
  printf '%s (%s) loom; urgency=%s\n\n' "$PACKAGE" "$1" "$2"
  local day=$3; shift 3
  printf '  * %s\n' "$@"
  printf '\n -- Patchloom Tests <tests@example.org>  %s Mar 2026 12:00:00 +0000\n\n' "$day"
}

# pack PACKAGE VERSION REPOSITORY DEPENDS: packs the tree 'tree', whose DEBIAN directory may hold scripts already.
pack() {
  mkdir -p tree/DEBIAN "tree/usr/share/doc/$1" "$3"
  { printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Patchloom Tests <tests@example.org>\n' "$1" "$2"
    [ -z "$4" ] || printf 'Depends: %s\n' "$4"
    printf 'Section: misc\nPriority: optional\nDescription: test package of Patchloom\n'; } >tree/DEBIAN/control
  PACKAGE=$1
  { [ "$2" = 1.0 ] || entry 1.1 "$URGENCY" 'Tue, 10' "${FIXES[@]}"
    entry 1.0 low 'Mon, 02' 'First version; fixes CVE-2098-0001, which nobody remembers.'; } | gzip -9n >"tree/usr/share/doc/$1/changelog.Debian.gz"
  dpkg-deb --root-owner-group -Znone -b tree "$3/$1_$2_all.deb" >/dev/null
  rm -rf tree
}

script() { mkdir -p tree/DEBIAN; printf '#!/bin/sh\nset -e\n%s\n' "$2" >"tree/DEBIAN/$1"; chmod 755 "tree/DEBIAN/$1"; }
program() { mkdir -p tree/usr/bin; printf '#!/bin/sh\necho %s %s\n' "$1" "$2" >"tree/usr/bin/$1"; chmod 755 "tree/usr/bin/$1"; }

make_packages() {
  local version repository i
  for version in 1.0 1.1; do
    repository=new; [ $version = 1.1 ] || repository=old

    URGENCY=high FIXES=('Fix a heap overflow (CVE-2099-1001).' 'Fix a leak of file descriptors; see CVE-2099-1002.')
    mkdir -p tree/usr/lib/loom; echo "library $version" >tree/usr/lib/loom/lib.txt
    pack loom-lib $version $repository ''

    URGENCY=medium FIXES=('SECURITY UPDATE: escape from the sandbox' 'CVE-2099-1003: check the path before opening it.')
    program loom-app $version
    pack loom-app $version $repository "loom-lib (= $version)"

    URGENCY=low FIXES=('A new default.')
    program loom-conf $version
    mkdir -p tree/etc tree/DEBIAN; printf '# loom.conf of %s\ndefault = %s\n' $version $version >tree/etc/loom.conf; echo /etc/loom.conf >tree/DEBIAN/conffiles
    pack loom-conf $version $repository ''

    URGENCY=medium FIXES=('Fix CVE-2099-1004 in each of the files.')
    mkdir -p tree/usr/share/loom-many
    for i in $(seq 400); do printf 'file %s of version %s\n%s\n' "$i" $version "$(printf '%0512d' "$i")" >"tree/usr/share/loom-many/$i.txt"; done
    pack loom-many $version $repository ''

    URGENCY=high FIXES=('Fix CVE-2099-1005, slowly.')
    program loom-slow $version
    [ $version = 1.0 ] || script postinst 'sleep 2'
    pack loom-slow $version $repository loom-lib

    [ $version = 1.0 ] || repository=broken
    URGENCY=critical FIXES=('Fix CVE-2099-1006; the package itself is broken.')
    program loom-fail $version
    [ $version = 1.0 ] || script postinst 'echo "loom-fail: this postinst always fails" >&2; exit 1'
    pack loom-fail $version $repository ''
  done
  index old Patchloom Patchloom stable loom 1
  index new Patchloom Patchloom-Security stable-security loom-security 1
  index broken Patchloom Patchloom-Security stable-security loom-security 1
}

need apt-utils
build packages "$(key "$LAB/packages.sh" "$LAB/lib.sh" --)" make_packages
