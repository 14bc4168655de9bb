#!/bin/sh
# A host from power on to power off, in a network namespace of its own already; a reboot begins it anew.
#   host.sh HOME NAME
while :; do
  cat /proc/sys/kernel/random/uuid >"$1/boot_id"
  unshare --pid --fork --mount --uts --ipc --kill-child sh -c '
    root=$1/root
    hostname "$2"
    mount -t proc proc "$root/proc"
    mount --bind "$1/boot_id" "$root/proc/sys/kernel/random/boot_id"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mkdir -p "$root/run/sshd" "$root/run/lock"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /bin/sh -c "
      trap \"exit 42\" INT
      /usr/sbin/sshd
      while :; do sleep 86400 & wait \$!; done"' sh "$1" "$2"
  [ $? = 42 ] || exit
done
