#!/bin/bash
# The disk of a whole virtual machine: the golden root with systemd, LVM and the kernel of the last point release, started by a
# boot loader of its own. What waits for it: the kernel of the day, openssl and jq; its repositories are inside.
#
# Beside the disk lie the key that lets root in, its public host key, and pairs.tsv as that of the golden root. A day on which
# the archive has no newer kernel than the point release gives no pair for linux-image-cloud-amd64.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
META=linux-image-cloud-amd64
SYSTEM='systemd-sysv dbus udev kmod tiny-initramfs lvm2 thin-provisioning-tools e2fsprogs'
# Few, for an emulated machine is slow.
KEPT='openssl libssl3 jq libjq1'
DISK_MIB=2560
IDLE='apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer
  getty@tty1.service serial-getty@ttyS0.service systemd-networkd-wait-online.service user@.service blk-availability.service
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
  sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service kmod-static-nodes.service
  systemd-sysusers.service systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-hwdb-update.service
  modprobe@drm.service modprobe@configfs.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service'

# The version of the meta package that a suite has, and the kernel that it brings.
version_in() { inside root apt-cache madison $META | awk -v suite="$1/main" '$6 == suite { print $3; exit }'; }
kernel_of() { inside root apt-cache show "$META=$1" | sed -n 's/^Depends: \(linux-image-[^ ]*\).*/\1/p'; }

# fetch DIRECTORY NAMES...: of the network, packed again without compression: to unpack a kernel takes an emulated machine a minute.
fetch() {
  local dir=$1 deb; shift
  mkdir -p "root$dir"
  inside root sh -c "cd $dir && apt-get -qq -o APT::Sandbox::User=root download $*"
  for deb in "root$dir"/linux-*.deb; do dpkg-deb -R "$deb" tree; dpkg-deb -Znone -b tree "$deb"; rm -rf tree; done
}

# A service of our own, whose version 1.2 does not come up.
# service VERSION REPOSITORY COMMAND
service() {
  mkdir -p tree/DEBIAN tree/lib/systemd/system tree/usr/share/doc/loom-unit "$2"
  printf '[Unit]\nDescription=Loom %s\n[Service]\nExecStart=%s\n[Install]\nWantedBy=multi-user.target\n' "$1" "$3" >tree/lib/systemd/system/loom-unit.service
  printf 'Package: loom-unit\nVersion: %s\nArchitecture: all\nMaintainer: Patchloom Tests <tests@example.org>\nSection: misc\nPriority: optional\nDescription: test service of Patchloom\n' "$1" >tree/DEBIAN/control
  cat >tree/DEBIAN/postinst <<'SCRIPT'
#!/bin/sh
set -e
systemctl enable loom-unit.service
[ ! -d /run/systemd/system ] || { systemctl daemon-reload; systemctl restart loom-unit.service || true; }
SCRIPT
  chmod 755 tree/DEBIAN/postinst
  printf 'loom-unit (%s) loom; urgency=high\n\n  * Fix CVE-2099-2001.\n\n -- Patchloom Tests <tests@example.org>  Tue, 10 Mar 2026 12:00:00 +0000\n' "$1" |
    gzip -9n >tree/usr/share/doc/loom-unit/changelog.Debian.gz
  dpkg-deb --root-owner-group -Znone -b tree "$2/loom-unit_$1_all.deb"; rm -rf tree
}

# Everything that needs the network; what is kept for later lies in the root's own repositories then.
install_system() {
  local old new name file
  # A name that stays, under which the boot loader finds the kernel of the day.
  printf 'do_symlinks = yes\nlink_in_boot = yes\n' >root/etc/kernel-img.conf
  mkdir -p root/etc/tiny-initramfs
  printf 'AUTO_MODULES=no\nMICROCODE=no\nINCLUDE_MODULES="virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk"\n' >root/etc/tiny-initramfs/tiny-initramfs.conf
  lend_network root
  echo "deb $(archive_of "$RELEASE") main" >root/etc/apt/sources.list
  inside root apt-get -qq update
  old=$(version_in "$RELEASE")
  inside root apt-get -qq -y install --no-install-recommends $SYSTEM "$META=$old" "$(kernel_of "$old")"
  for name in "$RELEASE-security" "$RELEASE-updates"; do
    file=$(archive_of "$name"); [ -z "$file" ] || echo "deb $file main" >>root/etc/apt/sources.list
  done
  inside root apt-get -qq update
  new=$(version_in "$RELEASE-security"); new=${new:-$old}
  fetch /srv/repo/old "$META=$old"
  mkdir root/srv/repo/kept; for name in $KEPT; do cp root/srv/repo/security/"$name"_*.deb root/srv/repo/kept/ || true; done
  # An update of the same release of a kernel overwrites the one that runs: a new one stands beside it.
  if inside root dpkg --compare-versions "$new" gt "$old"; then fetch /srv/repo/kept "$META=$new" "$(kernel_of "$new")"; fi
  return_network root
}

# Makes the root what boots: who it is, who may come in, and nothing that begins to work by itself.
settle() {
  local unit
  rm -f root/usr/sbin/policy-rc.d root/etc/ssh/ssh_host_*
  printf '/dev/vda1 / ext4 defaults,errors=remount-ro 0 0\n' >root/etc/fstab
  echo loom-vm >root/etc/hostname; printf '127.0.0.1 localhost loom-vm\n' >root/etc/hosts
  echo 6c6f6f6d766d00000000000000000001 >root/etc/machine-id
  printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >root/etc/systemd/network/vm.network
  ssh-keygen -q -t ed25519 -N '' -C loom-vm -f key; ssh-keygen -q -t ed25519 -N '' -C loom-vm -f host_key
  install -m 600 host_key root/etc/ssh/ssh_host_ed25519_key; rm host_key
  install -d -m 700 root/root/.ssh; install -m 600 key.pub root/root/.ssh/authorized_keys
  printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nUsePAM no\n' >root/etc/ssh/sshd_config.d/vm.conf
  inside root systemctl enable systemd-networkd.service
  inside root systemctl disable systemd-networkd-wait-online.service redis-server.service nginx.service
  # What nobody here needs: emulated, each unit takes a second.
  for unit in $IDLE; do ln -sf /dev/null "root/etc/systemd/system/$unit"; done
  mkdir root/boot/extlinux
  printf 'DEFAULT loom\nPROMPT 0\nTIMEOUT 0\nLABEL loom\n  LINUX /boot/vmlinuz\n  INITRD /boot/initrd.img\n  APPEND root=/dev/vda1 ro console=ttyS0 net.ifnames=0 panic=-1 loglevel=4 mitigations=off audit=0 apparmor=0 nowatchdog systemd.show_status=1\n' \
    >root/boot/extlinux/extlinux.conf
}

offer() {
  service 1.0 root/srv/vm/old '/bin/sleep infinity'
  service 1.1 root/srv/vm/good '/bin/sleep infinity'
  service 1.2 root/srv/vm/bad '/bin/false'
  rm -rf root/srv/repo/security root/srv/repo/updates; mv root/srv/repo/kept root/srv/repo/security
  index root/srv/repo/old Debian Debian stable "$RELEASE" 12
  index root/srv/repo/security Debian Debian-Security stable-security "$RELEASE-security" 12
  for name in old good bad; do index "root/srv/vm/$name" Patchloom Patchloom-Security stable-security loom-security 1; done
  rm -rf root/var/lib/apt/lists/*; mkdir -p root/var/lib/apt/lists/partial
  printf 'deb [trusted=yes] file:/srv/%s ./\n' repo/old loom/old vm/old >root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends loom-unit
  printf 'deb [trusted=yes] file:/srv/repo/security ./\n' >>root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get clean
  rm -rf root/var/cache/apt/*.bin
  inside root apt-get -s dist-upgrade |
    sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) \(.*\) \[[a-z0-9]*\]).*/\1\t\2\t\3\t\4/p' >pairs.tsv
  [ -s pairs.tsv ]
}

# One partition behind a boot record; the boot loader's own file is tied to where it lies on it.
make_disk() {
  local start=1048576
  truncate -s "${DISK_MIB}M" disk.img
  echo "start=$((start / 512)), type=83, bootable" | sfdisk -q disk.img
  # What the boot loader cannot read is left off.
  mkfs.ext4 -q -O '^64bit,^metadata_csum' -E "offset=$start" -d root disk.img "$((DISK_MIB - 1))M"
  mkdir mnt; mount -o "loop,offset=$start" disk.img mnt
  extlinux --install mnt/boot/extlinux
  umount mnt; rmdir mnt
  dd if=/usr/lib/EXTLINUX/mbr.bin of=disk.img bs=440 count=1 conv=notrunc
}

make_vm() {
  mkdir root; tar -C root -xf "$CACHE/golden/root.tar"
  install_system
  settle
  offer
  make_disk
  chmod 600 key
  rm -rf root
}

bash "$LAB/golden.sh"
need apt-utils openssh-client qemu-system-x86 qemu-utils extlinux e2fsprogs fdisk
RELEASE=$(codename)
build vm "$(key "$LAB"/{vm,lib}.sh -- "$(readlink "$CACHE/golden")")" make_vm
