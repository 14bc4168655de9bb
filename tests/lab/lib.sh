# What the scripts beside this one share: where things are kept, and how to build one of them safely.
# Sourced, never run. Wants bash and root.
set -euo pipefail
LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${PATCHLOOM_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchloom-tests}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { printf 'test bed: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Installs what is missing of the named Debian packages, and asks the network only then.
need() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  [ "$(id -u)" = 0 ] || die "missing ${missing[*]}: install them as root with 'apt-get install ${missing[*]}'"
  say "installing ${missing[*]}"
  apt-get -qq update
  apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null && return 0
  # What is installed from elsewhere (a newer qemu-utils) may stand in the way: all of them then as this release has them.
  apt-get -qq -y install --no-install-recommends --allow-downgrades "${@/%//$(codename)}" >/dev/null
}

# The Debian release this machine runs: its roots are of the same one, so that its own mirror serves them.
codename() { (. /etc/os-release && echo "${VERSION_CODENAME:?this machine does not name its Debian release}"); }

# The machine's own archives of one suite, as 'URI SUITE': it is asked, so no address is written down here.
# archive_of SUITE
archive_of() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$1" '$2 == suite && $3 == "main" && !seen++ { print $1, $2 }'
}

# key FILE... -- WORD... : names a build by what it was built from.
key() {
  local files=() words
  while [ "$1" != -- ]; do files+=("$1"); shift; done
  shift; words=$*
  { cat "${files[@]}"; printf '%s\n' "$words"; } | sha256sum | cut -c1-16
}

# Takes whatever is mounted below a directory off again, deepest first.
unmount_below() {
  local point
  awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | while read -r point; do umount -l "$point"; done
}

# build NAME KEY FUNCTION: makes $CACHE/NAME-KEY by calling FUNCTION in an empty directory, once.
# The result appears by one rename, so an interrupted build leaves nothing that looks finished;
# a lock lets a second caller wait for the first. Older builds of the same name go.
build() {
  local name=$1 id=$2 function=$3 work
  if [ ! -d "$CACHE/$name-$id" ]; then
    [ "$(id -u)" = 0 ] || die "building '$name' needs root: run tests/run as root once"
    mkdir -p "$CACHE"
    exec {lock}>"$CACHE/$name.lock"
    flock "$lock"
    if [ ! -d "$CACHE/$name-$id" ]; then
      for work in "$CACHE/$name".work.*; do
        [ -d "$work" ] || continue
        unmount_below "$work"; rm -rf --one-file-system "$work"
      done
      say "building $name (once; kept in the cache)"
      local start=$SECONDS
      work=$(mktemp -d "$CACHE/$name.work.XXXXXX")
      # A subshell of its own: 'set -e' is off inside a condition, so the function must not be one.
      (set -e; cd "$work"; "$function") </dev/null >"$CACHE/$name.log" 2>&1 &
      if ! wait $!; then
        unmount_below "$work"; rm -rf --one-file-system "$work"
        tail -n 20 "$CACHE/$name.log" >&2
        die "building $name failed; the whole log is $CACHE/$name.log"
      fi
      rm -rf "$CACHE/$name"-*
      mv "$work" "$CACHE/$name-$id"
      say "built $name in $((SECONDS - start)) s"
    fi
    exec {lock}>&-
  fi
  ln -sfn "$name-$id" "$CACHE/$name"
}

# Runs a command inside a root directory, with a /proc of its own that is gone afterwards.
# inside ROOT COMMAND...
inside() {
  local root=$1 rc=0; shift
  mount -t proc proc "$root/proc"
  chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" || rc=$?
  umount "$root/proc"
  return $rc
}

# Lends a root the machine's way to the archives (resolver, proxies, certificates) and takes it back.
lend_network() {
  cp -L /etc/resolv.conf "$1/etc/resolv.conf"
  apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|Retries)' >"$1/etc/apt/apt.conf.d/00lent" || true
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/lent.crt"
    echo 'Acquire::https::CaInfo "/etc/lent.crt";' >>"$1/etc/apt/apt.conf.d/00lent"
  fi
}
return_network() { rm -f "$1/etc/apt/apt.conf.d/00lent" "$1/etc/lent.crt" "$1/etc/resolv.conf"; }

# No service is started inside a root that is not booted.
forbid_services() { printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"; }

# Makes a directory of .debs a repository that says where it comes from.
# index DIR ORIGIN LABEL SUITE CODENAME VERSION
index() {
  (cd "$1" && apt-ftparchive packages . >Packages &&
    apt-ftparchive -o "APT::FTPArchive::Release::Origin=$2" -o "APT::FTPArchive::Release::Label=$3" \
      -o "APT::FTPArchive::Release::Suite=$4" -o "APT::FTPArchive::Release::Codename=$5" \
      -o "APT::FTPArchive::Release::Version=$6" release . >Release.new && mv Release.new Release)
}
