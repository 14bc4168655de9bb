//! A real machine under a real libvirt, patched over SSH as a user does it, with a snapshot from outside as the second way back.
//!
//! The machine is emulated and slow: one story tells all. What is asserted is what a user could see.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::hypervisor::{Hypervisor, Machine};
use patchloom_bed::left_out;
use serde_json::Value;

/// More than anything takes on an emulated machine beside many others.
const LIMIT: Duration = Duration::from_secs(1500);

/// Offers version 1.1 of a service whose script fails after it took all former packages away: `break DIR`.
const BREAK: &str = r#"
set -eu
mkdir -p /srv/broken /tmp/tree/DEBIAN
cd /tmp
cat >tree/DEBIAN/control <<'C'
Package: loom-unit
Version: 1.1
Architecture: all
Maintainer: Patchloom Tests <tests@example.org>
Section: misc
Priority: optional
Description: test service of Patchloom
C
cat >tree/DEBIAN/postinst <<'S'
#!/bin/sh
rm -rf /var/lib/patchloom/backups/debs /srv/vm /var/cache/apt/archives/*.deb
touch /srv/was-here
echo "the new version does not like this host" >&2
exit 1
S
chmod 755 tree/DEBIAN/postinst
dpkg-deb --root-owner-group -Znone -b tree /srv/broken/loom-unit_1.1_all.deb >/dev/null
cd /srv/broken
sum() { sha256sum "$1" | cut -d' ' -f1; }
size() { stat -c %s "$1"; }
deb=loom-unit_1.1_all.deb
{ dpkg-deb -f $deb; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' $deb "$(size $deb)" "$(sum $deb)"; } >Packages
printf 'Origin: Patchloom\nLabel: Patchloom-Security\nDate: %s\nSHA256:\n %s %s Packages\n' \
    "$(date -Ru | sed 's/+0000/UTC/')" "$(sum Packages)" "$(size Packages)" >Release
printf 'deb [trusted=yes] file:/srv/vm/old ./\ndeb [trusted=yes] file:/srv/broken ./\n' >/etc/apt/sources.list
apt-get -q update
sync
"#;

/// All that dpkg knows, and what tells one boot and one process from another.
const STATE: &str = "dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\\n' | sort; \
    apt-mark showauto | sort; ls /srv /srv/vm";
const ALIVE: &str = "cat /proc/sys/kernel/random/boot_id; systemctl show -p MainPID loom-unit.service";

struct Bench {
    hypervisor: Hypervisor,
    machine: Machine,
}

/// What one `patchloom` came to.
struct Said {
    code: Option<i32>,
    summary: String,
    talk: String,
}

impl Bench {
    fn new() -> Self {
        let mut hypervisor = Hypervisor::start();
        let machine = hypervisor.machine("web-1");
        Self { hypervisor, machine }
    }

    #[track_caller]
    fn patchloom(&self, words: &[&str]) -> Said {
        let file = |name: &str| fs::File::create(self.hypervisor.beside(name)).unwrap();
        let mut command = Command::new(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")));
        command.args(words).arg("--data-dir").arg(self.hypervisor.beside("data")).env_remove("SUDO_USER");
        command.stdin(Stdio::null()).stdout(file("summary")).stderr(file("talk"));
        let mut child = command.spawn().unwrap();
        let read = |name: &str| fs::read_to_string(self.hypervisor.beside(name)).unwrap_or_default();
        let end = Instant::now() + LIMIT;
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if Instant::now() > end {
                child.kill().unwrap();
                panic!("it does not end:\n{}", read("talk"));
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        Said { code, summary: read("summary"), talk: read("talk") }
    }

    /// Patches the machine with a snapshot by its hypervisor behind it.
    #[track_caller]
    fn patch(&self) -> (Said, Value) {
        let place = format!("root@127.0.0.1:{}", self.machine.port());
        let snapshot = format!("libvirt:web-1@{}", self.hypervisor.uri());
        let path = |path: &std::path::Path| path.display().to_string();
        let report = self.hypervisor.beside("report");
        let (key, known) = (path(self.machine.key()), path(self.machine.known_hosts()));
        let words = ["patch", "--ssh", &place, "--snapshot", &snapshot, "--apply", "--yes", "--offline"];
        let more = ["--ssh-identity", &key, "--known-hosts", &known, "--ssh-timeout", "60"];
        let said = self.patchloom(&[&words[..], &more, &["--report-dir", &path(&report)]].concat());
        let report = fs::read(report.join("report.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        (said, report.unwrap_or_default())
    }

    /// The only change, as its register keeps it.
    fn change(&self) -> patchloom_domain::ChangeRequest {
        let dir = self.hypervisor.beside("data").join("changes");
        let register = patchloom_workers::register::Register::open(&dir).unwrap();
        register.list().unwrap().changes.remove(0)
    }
}

#[test]
fn a_machine_whose_former_packages_are_gone_goes_back_by_its_snapshot_to_what_it_was() {
    if left_out() {
        return;
    }
    let bench = Bench::new();
    let broken = bench.machine.told(BREAK);
    let (before, alive) = (bench.machine.told(STATE), bench.machine.told(ALIVE));
    assert!(before.contains("loom-unit 1.0"), "{broken}\n{before}");

    let (said, report) = bench.patch();
    let all = format!("{:?}\n{}\n{}\n{:#}", said.code, said.talk, said.summary, report["failure"]);
    assert_eq!((said.code, report["end"].as_str()), (Some(1), Some("compensated")), "{all}");
    assert_eq!(
        bench.machine.told(STATE),
        before,
        "the packages that it had, what the script deleted, and not what it made"
    );
    assert_eq!(bench.machine.told(ALIVE), alive, "the very processes that ran when the snapshot was taken");
    assert_eq!(bench.machine.told("ls /var/lib/patchloom/backups/markers 2>/dev/null | wc -l"), "0");

    let change = bench.change();
    let outcome = change.tasks.values().next().and_then(|task| task.outcome.clone());
    let outcome = outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
    assert!(outcome.contains("snapshot"), "{outcome}");
    let notes: Vec<&str> = change.notes.iter().map(|note| note.text.as_str()).collect();
    assert!(notes.iter().any(|note| note.contains("by libvirt:web-1@")), "{notes:#?}");
    let held = bench.patchloom(&["hold", "list"]);
    assert!(held.summary.contains("loom-unit") && held.summary.contains("1.1"), "{}{}", held.summary, held.talk);

    // It is over: nothing is left to go back to, at neither side.
    assert_eq!(bench.hypervisor.told(&["snapshot-list", "--name", "web-1"]).trim(), "");
    let list = bench.patchloom(&["snapshot", "list", "--json"]);
    assert_eq!(list.summary.trim(), "[]", "{}", list.talk);
}
