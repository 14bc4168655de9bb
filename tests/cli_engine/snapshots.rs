//! `patchloom snapshot`, as a person meets it: what is listed, what goes, what stays because its run is open.

use patchloom_domain::Instant;
use patchloom_workers::snapshot::{Owner, Snapshots};

use crate::bed::Bed;

const SHORT: &str = "name: short\nsteps:\n  a: { set: 1 }\n";

#[test]
fn an_expired_snapshot_goes_and_one_whose_run_is_open_never_does() {
    let bed = Bed::new();
    let file = bed.file("short.yaml", SHORT);
    bed.run(&["run", "start", &file, "--wait"]).ends(0);
    bed.waiter();
    let empty = bed.run(&["snapshot", "list"]).ends(0);
    assert!(empty.err.contains("There are no snapshots"), "{empty:?}");
    let runs = bed.run(&["run", "list", "--json"]).ends(0).json();
    let of = |workflow: &str| {
        let run = runs.as_array().unwrap().iter().find(|run| run["workflow"] == workflow).expect("it was started");
        run["id"].as_str().unwrap().to_owned()
    };
    let root = bed.data().join("root");
    std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let snapshots = Snapshots::new(bed.data().join("backups/snapshots"));
    for workflow in ["short", "waiter"] {
        let owner = Owner { ttl_ms: 0, ..Owner::run(of(workflow)) };
        snapshots.create(workflow, &owner, &root, Instant(1)).unwrap();
    }
    let listed = bed.run(&["snapshot", "list", "--json"]).ends(0).json();
    let fates: Vec<_> = listed.as_array().unwrap().iter().map(|one| (&one["snapshot"]["id"], &one["fate"])).collect();
    assert_eq!(format!("{fates:?}"), r#"[(String("short"), String("deleted")), (String("waiter"), String("in_use"))]"#);
    let said = bed.run(&["snapshot", "prune", "--dry-run"]).ends(0);
    assert_eq!(said.out, "1 of 2 snapshots would be deleted\n");
    assert!(snapshots.get("short").is_ok(), "a dry run deletes nothing");
    assert_eq!(bed.run(&["snapshot", "prune"]).ends(0).out, "1 of 2 snapshots deleted\n");
    assert!(snapshots.get("short").is_err() && snapshots.get("waiter").is_ok());
}
