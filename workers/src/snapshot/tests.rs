//! Snapshots by copy, on a small directory. Those by btrfs are tested on a real file system elsewhere.

use super::*;

fn sample(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    std::fs::write(root.join("var/lib/dpkg/status"), "Package: jq\nVersion: 1\n").unwrap();
    std::fs::write(root.join("jq"), "1").unwrap();
    root
}

#[test]
fn a_snapshot_is_made_once_restored_any_number_of_times_and_dropped_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    let made = snapshots.create("a", "run-1", &root, Instant(1)).unwrap();
    assert!(made.verified && made.proof().verified);
    std::fs::write(root.join("jq"), "2").unwrap();
    assert_eq!(snapshots.create("a", "run-1", &root, Instant(9)).unwrap(), made, "a repeat takes no new one");
    for _ in 0..2 {
        snapshots.restore("a").unwrap();
        assert_eq!(std::fs::read_to_string(root.join("jq")).unwrap(), "1");
    }
    assert!(snapshots.drop("a").unwrap());
    assert!(!snapshots.drop("a").unwrap());
    assert_eq!(snapshots.restore("a").unwrap_err().code(), "E0553");
}

#[test]
fn a_half_made_snapshot_is_no_snapshot_and_is_finished_by_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    std::fs::create_dir_all(dir.path().join("snapshots/a/tree/var")).unwrap();
    std::fs::write(dir.path().join("snapshots/a/tree/jq"), "half").unwrap();
    assert_eq!(snapshots.get("a").unwrap_err().code(), "E0553");
    assert!(snapshots.create("a", "run-1", &root, Instant(1)).unwrap().verified);
    snapshots.restore("a").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("jq")).unwrap(), "1");
}

#[test]
fn a_snapshot_inside_its_own_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(root.join("snapshots"));
    assert_eq!(snapshots.create("a", "run-1", &root, Instant(1)).unwrap_err().code(), "E0552");
}

#[test]
fn a_snapshot_that_a_host_still_needs_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    snapshots.create("a", "run-1", &root, Instant(1)).unwrap();
    snapshots.keep("a", Some("web1 did not come back")).unwrap();
    assert_eq!(snapshots.drop("a").unwrap_err().code(), "E0558");
    snapshots.keep("a", None).unwrap();
    assert!(snapshots.drop("a").unwrap());
    snapshots.keep("a", Some("too late")).unwrap();
    assert!(!snapshots.drop("a").unwrap());
}
