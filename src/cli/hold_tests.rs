//! The command lines of holds and of evidence, from words to exit codes and to what stands in the data directory.

use std::ffi::OsString;
use std::path::Path;

use patchloom_workers::holds::HoldStore;

use crate::cli::run_line;
use crate::fault::Exit;

fn run(dir: &Path, words: &[&str]) -> Exit {
    let words = words.iter().map(OsString::from);
    run_line(["patchloom".into(), "--data-dir".into(), dir.as_os_str().to_owned()].into_iter().chain(words))
}

#[test]
fn a_version_is_held_for_whom_it_was_said_until_somebody_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let held = |host: &str, package: &str| HoldStore::new(dir).read().unwrap().held(host, package, "2").is_some();
    assert_eq!(run(dir, &["hold", "list"]), Exit::Ok, "nothing is held");
    assert_eq!(run(dir, &["hold", "add", "jq", "2", "--why", "clients fail"]), Exit::Ok);
    assert_eq!(run(dir, &["hold", "add", "jq", "2", "--why", "again"]), Exit::Ok, "it is held already");
    assert!(held("any", "jq") && !held("any", "zip"));
    assert_eq!(run(dir, &["hold", "list", "--json"]), Exit::Ok);
    assert_eq!(run(dir, &["hold", "release", "jq", "3", "--why", "x"]), Exit::BadInput, "another version");
    assert_eq!(run(dir, &["hold", "release", "jq", "2"]), Exit::Usage, "without a reason");
    assert!(held("any", "jq"));
    assert_eq!(run(dir, &["hold", "release", "jq", "2", "--why", "mended"]), Exit::Ok);
    assert!(!held("any", "jq"));
    assert_eq!(run(dir, &["hold", "list", "--all"]), Exit::Ok);
    let all = HoldStore::new(dir).read().unwrap();
    let hold = all.iter().next().unwrap();
    assert_eq!((hold.active, hold.releases[0].why.as_str()), (false, "mended"), "it is remembered");
}

#[test]
fn holds_of_a_part_of_the_fleet_name_what_its_hosts_have_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let add = ["hold", "add", "jq", "2", "--why", "x", "--only"];
    for bad in ["site", "patch=jq", "colour=red"] {
        assert_eq!(run(dir, &[&add[..], &[bad]].concat()), Exit::Usage, "{bad}");
    }
    assert_eq!(run(dir, &[&add[..], &["site=bern", "--only", "os=debian 12"]].concat()), Exit::Ok);
    let fleet = ["hold", "release", "jq", "2", "--why", "x"];
    assert_eq!(run(dir, &fleet), Exit::BadInput, "the hold of a part is not that of all");
    assert_eq!(run(dir, &[&fleet[..], &["--only", "os=debian 12", "--only", "site=bern"]].concat()), Exit::Ok);
    std::fs::write(dir.join("holds.json"), "{").unwrap();
    assert_eq!(run(dir, &["hold", "list"]), Exit::Internal, "damage is never taken for nothing held");
}

#[test]
fn evidence_of_no_change_and_what_is_no_bundle_are_told_apart_from_what_is_not_sound() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = dir.join("bundle");
    let path = file.to_str().unwrap();
    assert_ne!(run(dir, &["evidence", "export", "CHG0000001", "--output", path]), Exit::Ok);
    assert!(!file.exists(), "nothing is written of what there is not");
    assert_eq!(run(dir, &["evidence", "verify", path]), Exit::BadInput, "no such file");
    std::fs::write(&file, "no bundle").unwrap();
    assert_eq!(run(dir, &["evidence", "verify", path]), Exit::Failed);
    assert_eq!(run(dir, &["evidence", "verify", path, "--json"]), Exit::Failed);
    assert_eq!(run(dir, &["evidence", "verify", path, "--verify-key", "no key"]), Exit::BadInput);
}
