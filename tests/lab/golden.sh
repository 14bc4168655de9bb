#!/bin/bash
# A Debian root with services and real pending upgrades, some of them security updates, and everything they need
# inside it: old and new .debs in repositories of its own. Offline from here on.
# Which upgrades those are depends on the archive of the day: pairs.tsv lists them (name, old, new, origin).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
SERVICES='ca-certificates openssl nginx-light redis-server openssh-server rsync unzip zip jq python3-minimal sudo curl procps iproute2'

# The upgrades that apt would make now: 'name old new origin', one per line.
pending() {
  inside root apt-get -s dist-upgrade |
    sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) \(.*\) \[[a-z0-9]*\]).*/\1\t\2\t\3\t\4/p'
}

# The release facts of one suite as its archive states them: 'origin label suite codename version'.
facts_of() {
  inside root apt-cache policy | grep -o "release .*n=$1,.*" | head -n 1 | tr ',' '\n' | sed 's/^release //' |
    awk -F= '{ v[$1] = $2 } END { print v["o"], v["l"], v["a"], v["n"], v["v"] }'
}

make_golden() {
  local suite archive facts
  mkdir root; tar -C root -xf "$CACHE/base/base.tar"
  lend_network root
  archive=$(archive_of "$RELEASE"); echo "deb $archive main" >root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends $SERVICES
  for suite in "$RELEASE-security" "$RELEASE-updates"; do
    archive=$(archive_of "$suite")
    [ -z "$archive" ] || echo "deb $archive main" >>root/etc/apt/sources.list
  done
  inside root apt-get -qq update
  pending >pairs.tsv
  [ -s pairs.tsv ] || { echo "the archive offers no upgrade at all today"; return 1; }

  mkdir -p root/srv/repo/{old,security,updates}
  fetch old "$(cut -f1,2 --output-delimiter== pairs.tsv)"
  fetch security "$(grep -i -- -security pairs.tsv | cut -f1,3 --output-delimiter==)"
  fetch updates "$(grep -iv -- -security pairs.tsv | cut -f1,3 --output-delimiter==)"
  facts=$(facts_of "$RELEASE"); index root/srv/repo/old $facts
  facts=$(facts_of "$RELEASE-security"); index root/srv/repo/security $facts
  facts=$(facts_of "$RELEASE-updates"); index root/srv/repo/updates $facts

  # Our own packages too, at 1.0; their repositories are there for a test to switch on.
  mkdir -p root/srv/loom; cp -a "$CACHE/packages/." root/srv/loom/
  return_network root
  rm -rf root/var/lib/apt/lists/*; mkdir -p root/var/lib/apt/lists/partial
  printf 'deb [trusted=yes] file:/srv/%s ./\n' repo/old loom/old >root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get -qq -y install --no-install-recommends loom-lib loom-app loom-conf loom-many loom-slow loom-fail
  printf 'deb [trusted=yes] file:/srv/repo/%s ./\n' security updates >>root/etc/apt/sources.list
  inside root apt-get -qq update
  inside root apt-get clean
  # What is offered offline must be what the archive offered.
  pending | cut -f1-3 | sort >offered; cut -f1-3 pairs.tsv | sort | diff - offered; rm offered
  inside root dpkg-query -W -f '${Package}\t${Version}\t${db:Status-Abbrev}\n' >packages.tsv
  rm -rf root/var/cache/apt/*.bin
  tar -C root -cf root.tar .
  rm -rf root
}

# fetch REPOSITORY NAMES-WITH-VERSIONS
fetch() {
  [ -n "$2" ] || return 0
  # 'apt-get download' leaves its privileges for a user who cannot write here; as root it only warns of that.
  inside root sh -c "cd /srv/repo/$1 && apt-get -qq -o APT::Sandbox::User=root download $(echo $2)"
}

bash "$LAB/base.sh"; bash "$LAB/packages.sh"
need apt-utils
RELEASE=$(codename)
build golden "$(key "$LAB"/{golden,packages,base,lib}.sh -- "$(readlink "$CACHE/base")")" make_golden
