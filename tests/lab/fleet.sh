#!/bin/bash
# The base of the fleet: the golden root made a host (sshd, a user with sudo, words to reboot by) as a directory that
# overlays are mounted over, never written itself; and its archive, which a relay serves to it. See tests/bed/src/fleet.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_fleet() {
  local list
  mkdir root archive; tar -C root -xf "$CACHE/golden/root.tar"
  # The archive is the relay's now; the lists stay, as if fetched from an address that each host fills in.
  mv root/srv/repo root/srv/loom archive/
  for list in root/var/lib/apt/lists/_srv_*; do mv "$list" "${list/_srv_/RELAY_}"; done
  # Of the one repository that a test may switch on too.
  for list in Packages Release; do cp archive/loom/new/$list "root/var/lib/apt/lists/RELAY_loom_new_._$list"; done
  rm -f root/etc/apt/sources.list root/etc/ssh/ssh_host_* root/var/cache/apt/*.bin

  cat >root/etc/ssh/sshd_config.d/fleet.conf <<'CONF'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
MaxStartups 100
PidFile /run/sshd.pid
CONF
  inside root useradd --create-home --shell /bin/bash --password '*' patch
  echo 'patch ALL=(ALL) NOPASSWD: ALL' >root/etc/sudoers.d/patch; chmod 440 root/etc/sudoers.d/patch
  inside root install -d -m 700 /root/.ssh
  inside root install -m 600 /dev/null /root/.ssh/authorized_keys
  inside root install -d -m 700 -o patch -g patch /home/patch/.ssh
  inside root install -m 600 -o patch -g patch /dev/null /home/patch/.ssh/authorized_keys
  inside root install -m 600 /dev/null /etc/ssh/ssh_host_ed25519_key
  : >root/etc/machine-id
  # The first process reboots when told so; without systemd there is nobody else.
  printf '#!/bin/sh\nexec kill -s INT 1\n' >root/usr/sbin/reboot; chmod 755 root/usr/sbin/reboot
  printf '#!/bin/sh\ncase " $* " in *" -r "*) exec /usr/sbin/reboot ;; esac\necho "shutdown: only -r is known here" >&2; exit 1\n' \
    >root/usr/sbin/shutdown; chmod 755 root/usr/sbin/shutdown
  cp "$CACHE/golden/pairs.tsv" .
}

bash "$LAB/golden.sh"
need apt-utils openssh-client
build fleet "$(key "$LAB"/{fleet,lib}.sh -- "$(readlink "$CACHE/golden")")" make_fleet
