//! Root directories on real logical volumes, patched inside the machine: what lvm2 really does, says and refuses.

use patchloom_bed::{Root, left_out};
use serde_json::Value;

use crate::bench::Bench;

/// What makes a volume the root that is patched.
const PLAIN: &str = "lvcreate -qy -L 400M -n plain vg";
const THIN: &str = "lvcreate -qy -L 900M -T vg/pool && lvcreate -qy -V 400M -T vg/pool -n thin";

#[test]
fn roots_on_logical_volumes_go_back_by_their_snapshots_and_an_overflowed_one_is_refused() {
    if left_out() {
        return;
    }
    let bench = Bench::new(3072);
    bench.vm.feed(&bench.binary, "cat >/usr/local/bin/patchloom && chmod 755 /usr/local/bin/patchloom");
    bench.vm.say("pvcreate -qy /dev/vdb && vgcreate -q vg /dev/vdb");
    for (name, make) in [("plain", PLAIN), ("thin", THIN)] {
        root_on(&bench, name, make);
        goes_back(&bench, name);
    }
    overflows(&bench);
}

/// A small Debian whose one update fails, on a volume of its own.
fn root_on(bench: &Bench, name: &str, make: &str) {
    bench.vm.say(&format!(
        "{make} && mkfs.ext4 -q /dev/vg/{name} && mkdir -p /mnt/{name} && mount /dev/vg/{name} /mnt/{name}"
    ));
    bench.vm.feed(&Root::mini_archive(), &format!("tar -C /mnt/{name} -xf -"));
    let sources = "deb [trusted=yes] file:/srv/loom/old ./\\ndeb [trusted=yes] file:/srv/loom/broken ./\\n";
    bench
        .vm
        .say(&format!("printf '{sources}' >/mnt/{name}/etc/apt/sources.list && chroot /mnt/{name} apt-get -qq update"));
}

/// The whole tree but for what apt keeps for itself: names, modes, sizes and contents.
fn picture(bench: &Bench, name: &str) -> String {
    let find = "find etc usr/bin usr/share/loom-many var/lib/dpkg -type f";
    bench.vm.say(&format!("cd /mnt/{name} && {find} | LC_ALL=C sort | xargs sha256sum"))
}

fn patch(bench: &Bench, name: &str) -> (Option<i32>, Value, String) {
    let line = format!(
        "patchloom patch --root /mnt/{name} --apply --undo snapshot --offline --json --data-dir /var/lib/{name}"
    );
    let output = bench.vm.ssh(&line);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn volumes(bench: &Bench) -> Vec<String> {
    bench.vm.say("lvs --noheadings -o lv_name vg").split_whitespace().map(str::to_owned).collect()
}

fn goes_back(bench: &Bench, name: &str) {
    let (before, known) = (picture(bench, name), volumes(bench));
    // While the package is installed, and before it fails, the snapshot must be there, of LVM and read-only.
    let look = "lvs --noheadings -o lv_name,lv_attr,origin vg";
    bench.vm.say(&format!(
        "(until {look} | grep 'patchloom-.* {name}' >/root/seen-{name}; do sleep 1; done) </dev/null >/dev/null 2>&1 &"
    ));
    let (code, report, talk) = patch(bench, name);
    assert_eq!((code, report["end"].as_str()), (Some(1), Some("compensated")), "{talk}\n{report:#}");
    assert_eq!(picture(bench, name), before, "{talk}");
    let seen = bench.vm.say(&format!("cat /root/seen-{name}"));
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words.get(2), words.get(1).map(|attr| &attr[1..2])), (Some(&name), Some("r")), "{seen}");
    assert_eq!(volumes(bench), known, "a run that is over leaves no snapshot: {talk}");
    assert_eq!(bench.vm.say(&format!("grep -c /var/lib/{name} /proc/mounts || true")), "0", "and mounts nothing");
}

/// A package of the one root here whose script writes more than a snapshot of a gigabyte can hold, and fails.
const HEAVY: &str = r#"set -e
mkdir -p /root/heavy/DEBIAN /mnt/heavy/srv/heavy
cd /root/heavy/DEBIAN
printf 'Package: loom-fail\nVersion: 1.3\nArchitecture: all\nMaintainer: Patchloom Tests <tests@example.org>\nDescription: heavy\n' >control
printf '#!/bin/sh\ndd if=/dev/zero of=/ballast bs=1M count=1100 conv=fsync\nexit 1\n' >postinst
chmod 755 postinst
cd /mnt/heavy/srv/heavy
dpkg-deb -b /root/heavy loom-fail_1.3_all.deb
{
  dpkg-deb -f loom-fail_1.3_all.deb
  echo Filename: ./loom-fail_1.3_all.deb
  echo Size: $(stat -c %s loom-fail_1.3_all.deb)
  echo SHA256: $(sha256sum loom-fail_1.3_all.deb | cut -d' ' -f1)
} >Packages
printf 'deb [trusted=yes] file:/srv/%s ./\n' loom/old heavy >/mnt/heavy/etc/apt/sources.list
chroot /mnt/heavy apt-get -qq update"#;

/// More changes than a snapshot has room for: it holds nothing any more, and is never restored from.
fn overflows(bench: &Bench) {
    bench.vm.say("umount /mnt/plain /mnt/thin && lvremove -qy vg");
    root_on(bench, "heavy", "lvcreate -qy -L 1600M -n heavy vg");
    bench.vm.say(HEAVY);
    let (code, report, talk) = patch(bench, "heavy");
    assert_eq!(code, Some(1), "{talk}\n{report:#}");
    assert_eq!(report["end"], "open", "nothing was put back, and a person decides: {talk}\n{report:#}");
    let run = bench.vm.say("ls /var/lib/heavy/reports");
    let history = |run: &str| bench.vm.say(&format!("patchloom run history --data-dir /var/lib/heavy {run}"));
    let whole = history(&run);
    let child = whole.lines().find_map(|line| line.split_once("patch has the child run ")).expect("it was begun").1;
    let told = history(child.split_whitespace().next().unwrap_or_default());
    assert!(told.contains("E0517: /mnt/heavy is NOT as it was before"), "{told}");
    let attributes = bench.vm.say("lvs --noheadings -o lv_attr -S 'lv_name=~patchloom' vg");
    assert_eq!(attributes.trim().get(4..5), Some("I"), "it is kept, and LVM calls it invalid: {attributes}");
    let status = bench.vm.say("chroot /mnt/heavy dpkg-query -W -f '${Version} ${db:Status-Abbrev}' loom-fail");
    assert_eq!(status, "1.3 iF", "the root was left alone");
}
