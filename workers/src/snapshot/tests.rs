//! Snapshots by copy, on a small directory. Those by btrfs are tested on a real file system elsewhere.

use super::*;

pub(super) fn sample(dir: &Path) -> PathBuf {
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
    let made = snapshots.create("a", &Owner::run("run-1"), &root, Instant(1)).unwrap();
    assert!(made.verified && made.proof().verified);
    std::fs::write(root.join("jq"), "2").unwrap();
    assert_eq!(
        snapshots.create("a", &Owner::run("run-1"), &root, Instant(9)).unwrap(),
        made,
        "a repeat takes no new one"
    );
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
    assert!(snapshots.create("a", &Owner::run("run-1"), &root, Instant(1)).unwrap().verified);
    snapshots.restore("a").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("jq")).unwrap(), "1");
}

#[test]
fn a_snapshot_inside_its_own_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(root.join("snapshots"));
    assert_eq!(snapshots.create("a", &Owner::run("run-1"), &root, Instant(1)).unwrap_err().code(), "E0552");
}

#[test]
fn a_snapshot_that_a_host_still_needs_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    snapshots.create("a", &Owner::run("run-1"), &root, Instant(1)).unwrap();
    snapshots.keep("a", Some("web1 did not come back")).unwrap();
    assert_eq!(snapshots.drop("a").unwrap_err().code(), "E0558");
    snapshots.keep("a", None).unwrap();
    assert!(snapshots.drop("a").unwrap());
    snapshots.keep("a", Some("too late")).unwrap();
    assert!(!snapshots.drop("a").unwrap());
}

/// The ids of a prune with what became of each.
fn fates(told: Vec<Pruned>) -> Vec<(String, Fate)> {
    told.into_iter().map(|(held, fate)| (held.id, fate.unwrap())).collect()
}

#[test]
fn a_snapshot_is_pruned_after_its_time_unless_its_run_is_open_or_a_host_did_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    assert!(snapshots.list().unwrap().is_empty(), "no directory holds none");
    let owner = |run: &str| Owner { change: Some("CHG0000001".to_owned()), ttl_ms: 1000, ..Owner::run(run) };
    for (id, run) in [("kept", "over"), ("old", "over"), ("open", "open"), ("young", "over")] {
        let at = if id == "young" { Instant(5000) } else { Instant(1) };
        snapshots.create(id, &owner(run), &root, at).unwrap();
    }
    snapshots.keep("kept", Some("web1 did not come back")).unwrap();
    let listed = snapshots.list().unwrap();
    assert_eq!(listed[1].change.as_deref(), Some("CHG0000001"));
    assert_eq!((listed[1].run.as_str(), listed[1].expires, listed[1].complete), ("over", Instant(1001), true));
    let in_use = |held: &Held| held.run == "open";
    let want = |old: Fate| {
        let rows = [("kept", Fate::Kept), ("old", old), ("open", Fate::InUse), ("young", Fate::Young)];
        rows.map(|(id, fate)| (id.to_owned(), fate)).to_vec()
    };
    assert_eq!(fates(snapshots.prune(Instant(1000), in_use, false).unwrap()), want(Fate::Young), "a millisecond early");
    assert_eq!(fates(snapshots.prune(Instant(5001), in_use, true).unwrap()), want(Fate::Deleted));
    assert!(snapshots.get("old").is_ok(), "a dry run deletes nothing");
    assert_eq!(fates(snapshots.prune(Instant(5001), in_use, false).unwrap()), want(Fate::Deleted));
    assert_eq!(snapshots.get("old").unwrap_err().code(), "E0553");
    let left: Vec<String> = snapshots.list().unwrap().into_iter().map(|held| held.id).collect();
    assert_eq!(left, ["kept", "open", "young"]);
}

#[test]
fn a_half_made_snapshot_without_a_document_is_listed_under_the_run_of_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(dir.path().join("snapshots"));
    let run = "018f3c5e-0000-7000-8000-000000000001";
    std::fs::create_dir_all(dir.path().join(format!("snapshots/{run}-snapshot-0/tree"))).unwrap();
    let listed = snapshots.list().unwrap();
    assert_eq!((listed[0].run.as_str(), listed[0].complete, listed[0].root.as_ref()), (run, false, None));
    assert!(listed[0].at > Instant(1_600_000_000_000), "as old as its directory");
    assert_eq!(listed[0].fate(listed[0].expires, false), Fate::Deleted);
}
