#!/bin/sh
# Clears a fleet away, all of it, once its owner is gone: waits until nobody holds the other end of its input.
#   clear.sh PREFIX HOME
cat >/dev/null
for path in /run/netns/"$1"[sh]*; do
  [ -e "$path" ] || continue
  name=${path##*/}
  # A process may start another one while we look.
  for round in 1 2 3; do ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null; done
  ip netns del "$name"
done
for path in /sys/class/net/"$1"[sh]*; do
  [ -e "$path" ] && ip link del "${path##*/}"
done
awk -v dir="$2/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | while read -r point; do umount -l "$point"; done
[ ! -d "$2" ] || rm -rf --one-file-system "$2"
