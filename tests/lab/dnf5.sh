#!/bin/bash
# A root that dnf 5 manages, with the same packages in the same two repositories as the rpm root. This machine's own release has no
# dnf 5, so the Debian beneath it is a newer one; it calls itself a relative of Fedora, where dnf is dnf 5 by a link and rpm keeps
# its database in /usr/lib/sysimage.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The first release of Debian that has dnf 5. Its script is that of unstable: this machine's debootstrap may be older than it.
NEWER=forky

make_dnf5() {
  local archive; archive=$(archive_of "$(codename)")
  [ -n "$archive" ] || die "this machine has no archive of $(codename) main among its apt sources"
  debootstrap --variant=minbase --include=rpm,dnf5 "$NEWER" root "${archive% *}" sid
  forbid_services root
  rm -rf root/var/cache/apt root/var/lib/apt/lists/* root/usr/share/{man,locale,doc,info}/* root/etc/{resolv.conf,hostname,os-release}
  printf '%s\n' 'NAME="Loom Linux"' 'PRETTY_NAME="Loom Linux 42"' 'ID=loom' 'ID_LIKE="fedora"' 'VERSION_ID="42"' >root/etc/os-release
  mkdir -p root/etc/rpm root/usr/lib/sysimage/rpm root/etc/yum.repos.d
  echo '%_dbpath /usr/lib/sysimage/rpm' >root/etc/rpm/macros.dbpath
  ln -s dnf5 root/usr/bin/dnf
  # Debian's additions, which want createrepo_c, systemd and the like at each transaction.
  sed -i 's/^enabled *=.*/enabled = 0/' root/etc/dnf/libdnf5-plugins/*.conf
  printf '[main]\ngpgcheck=0\nkeepcache=1\nreleasever=42\nbest=False\nskip_if_unavailable=False\n' >root/etc/dnf/dnf.conf
  tar -C root --numeric-owner -xf "$CACHE/rpm/root.tar" ./srv/rpm
  for name in base updates; do
    printf '[loom-%s]\nname=Loom %s\nbaseurl=file:///srv/rpm/%s\nenabled=1\nmetadata_expire=1\n' $name $name $name >root/etc/yum.repos.d/loom-$name.repo
  done
  inside root dnf -q -y --disable-repo=loom-updates install loom-shell loom-lib loom-app loom-epoch loom-post loom-clash
  inside root rpm -qa | sort
  [ "$(inside root rpm -qa | wc -l)" = 6 ] || { echo 'expected six rpms'; return 1; }
  inside root dnf -q makecache
  tar -C root -cf root.tar .
  rm -rf root
}

bash "$LAB/rpm.sh"
need debootstrap
build dnf5 "$(key "$LAB"/{dnf5,rpm,base,lib}.sh -- "$(readlink "$CACHE/rpm")" "$NEWER")" make_dnf5
