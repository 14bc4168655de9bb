#!/bin/bash
# Everything that the tests need beside the code: installs what is missing and builds the real roots, once. May be started by
# several at a time: the others wait for the first.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mkdir -p "$CACHE"
exec {all}>"$CACHE/all.lock"
flock "$all"
need debootstrap apt-utils binutils btrfs-progs e2fsprogs util-linux openssl curl iproute2 openssh-client python3-yaml
for name in mini golden fleet hypervisor vm rpm zypper dnf5 nats python aws; do bash "$LAB/$name.sh" >/dev/null; done
