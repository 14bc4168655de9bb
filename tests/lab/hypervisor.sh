#!/bin/bash
# A libvirt that tests start themselves, without rights: its programs, and nothing of a system's own libvirt.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need qemu-system-x86 qemu-utils
need libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients util-linux binutils
