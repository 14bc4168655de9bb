//! Hosts that are booted anew after their patch: by their boot id, inside the window, and only where they need it.

use patchloom_bed::fleet::left_out;

use crate::bench::Bench;

/// What the change says of the reboot, in the words of its notes.
fn notes(bench: &Bench) -> String {
    let dir = bench.fleet.beside("data").join("changes");
    let register = patchloom_workers::register::Register::open(&dir).unwrap();
    let changes = register.list().unwrap().changes;
    changes.iter().flat_map(|change| &change.notes).map(|note| format!("{}\n", note.text)).collect()
}

#[test]
fn a_host_that_waits_for_a_reboot_is_booted_once_and_verified_after_it() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let wanted = bench.wanted();
    let boot = bench.fleet.host("host-1").boot_id();
    bench.on_host("touch /run/reboot-required; echo linux-image-x >/run/reboot-required.pkgs; echo >>/var/lib/orders");
    bench.on_host("sed -i '2i echo boot >>/var/lib/boots' $(command -v shutdown)");
    let said = bench.patch(&["--apply", "--yes", "--reboot", "if-needed"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.packages("host-1"), wanted);
    let now = bench.fleet.host("host-1").boot_id();
    assert_ne!(now, boot, "it was booted");
    assert_eq!(bench.on_host("cat /var/lib/boots"), "boot", "once");
    let notes = notes(&bench);
    assert!(notes.contains(&format!("boot id {boot} is now {now}")) && notes.contains("linux-image-x"), "{notes}");
    let checks = said.report["checks"].as_array().unwrap();
    let due = checks.iter().find(|check| check["name"] == "reboot").expect("it was looked at before");
    assert!(due["text"].as_str().unwrap().contains("by linux-image-x"), "{due}");
}

#[test]
fn a_host_that_needs_no_reboot_is_not_booted() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let boot = bench.fleet.host("host-1").boot_id();
    let said = bench.patch(&["--apply", "--yes", "--reboot", "if-needed"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.host("host-1").boot_id(), boot);
}

#[test]
fn a_host_that_does_not_come_back_has_failed_and_is_rolled_back_once_it_can_be_reached() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let before = bench.fleet.packages("host-1");
    bench.on_host("printf '#!/bin/sh\\ntouch /var/lib/ordered\\n' >$(command -v shutdown)");
    let said = bench.patch(&["--apply", "--yes", "--reboot", "always", "--reboot-deadline", "5"]);
    assert_eq!(said.ended(), (Some(1), "compensated".to_owned()), "{said:#}");
    assert_eq!(said.report["failure"]["code"], "E0975", "{said:#}");
    assert_eq!(bench.on_host("ls /var/lib/ordered"), "/var/lib/ordered", "it was told to boot");
    assert_eq!(bench.fleet.packages("host-1"), before, "and is as it was");
}
