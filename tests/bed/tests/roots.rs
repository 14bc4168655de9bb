//! The bed tests itself: a root that lies about its state makes every other test worthless.

use std::path::PathBuf;
use std::process::Command;

use patchloom_bed::{Repository, Root, left_out};

#[test]
fn a_fresh_small_root_is_sound_and_offers_what_was_computed() {
    if left_out() {
        return;
    }
    let root = Root::mini();
    assert_eq!(root.audit(), "");
    let simulated = root.inside(&["apt-get", "-s", "dist-upgrade"]);
    let offered = simulated.lines().filter(|line| line.starts_with("Inst ")).count();
    assert_eq!(offered, root.pairs().len());
    for pair in root.pairs() {
        assert_eq!(root.version_of(&pair.name), Some(pair.old), "{}", pair.name);
    }
}

#[test]
fn a_fresh_golden_root_offers_what_the_archive_offered_that_day() {
    if left_out() {
        return;
    }
    let root = Root::golden();
    assert_eq!(root.audit(), "");
    let simulated = root.inside(&["apt-get", "-s", "dist-upgrade"]);
    let mut offered: Vec<&str> =
        simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect();
    offered.sort_unstable();
    let computed: Vec<String> = root.pairs().into_iter().map(|pair| pair.name).collect();
    assert_eq!(offered, computed);
    assert!(simulated.contains("-Security:"), "no security update pending:\n{simulated}");
}

#[test]
fn the_broken_repository_breaks_a_package_and_downgrading_repairs_it() {
    if left_out() {
        return;
    }
    let root = Root::mini();
    let before = root.packages();
    root.enable(Repository::Broken);
    let output = root.try_inside(&["apt-get", "-y", "install", "loom-fail=1.1"]);
    assert_eq!(output.status.code(), Some(100));
    assert_eq!(root.packages()["loom-fail"], "1.1 iF");
    assert_ne!(root.audit(), "");
    root.inside(&["apt-get", "-y", "--allow-downgrades", "install", "loom-fail=1.0"]);
    assert_eq!(root.packages(), before);
}

#[test]
fn a_held_lock_stops_apt_until_it_is_dropped() {
    if left_out() {
        return;
    }
    let root = Root::mini();
    let lock = root.hold_dpkg_lock();
    let refused = root.try_inside(&["apt-get", "-y", "install", "loom-conf=1.1"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("process {}", lock.pid())));
    drop(lock);
    root.inside(&["apt-get", "-y", "install", "loom-conf=1.1"]);
    assert_eq!(root.version_of("loom-conf").as_deref(), Some("1.1"));
}

#[test]
fn a_full_disk_has_the_space_it_was_asked_for_and_stops_dpkg() {
    if left_out() {
        return;
    }
    let root = Root::mini_on_full_disk(1);
    let output = root.try_inside(&["dpkg", "-i", "/srv/loom/new/loom-many_1.1_all.deb"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"));
}

#[test]
fn a_root_leaves_nothing_behind_not_even_after_a_panic() {
    if left_out() {
        return;
    }
    let path = std::sync::Mutex::new(PathBuf::new());
    let result = std::panic::catch_unwind(|| {
        let root = Root::mini_on_btrfs();
        *path.lock().unwrap() = root.path().to_owned();
        let mounted = Command::new("mount").args(["-t", "proc", "proc"]).arg(root.path().join("proc")).status();
        assert!(mounted.unwrap().success());
        panic!("as a failing test does");
    });
    assert!(result.is_err());
    let path = path.into_inner().unwrap();
    assert!(path.is_absolute() && !path.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*path.to_string_lossy()), "{mounts}");
}
