//! What rpm's database means as a package set, and what has to be done to come back to one.

use std::time::Duration;

use patchloom_domain::{Target, UndoIntent};

use super::*;

fn id(name: &str) -> PackageId {
    PackageId { name: name.to_owned(), arch: "x86_64".to_owned() }
}

fn set(rows: &[(&str, &str)]) -> PackageSet {
    let mut found: BTreeMap<PackageId, Vec<InstalledPackage>> = BTreeMap::new();
    for (name, version) in rows {
        found.entry(id(name)).or_default().push(InstalledPackage {
            id: id(name),
            version: (*version).to_owned(),
            source: (*name).to_owned(),
            source_version: (*version).to_owned(),
            status: "ii".to_owned(),
            held: false,
            essential: false,
        });
    }
    set_of(&found)
}

fn change(name: &str, installed: Option<&str>) -> PlannedChange {
    PlannedChange {
        id: id(name),
        installed: installed.map(str::to_owned),
        candidate: "2-1".to_owned(),
        sha256: None,
        cves: Vec::new(),
        security: false,
    }
}

#[track_caller]
fn check(now: &[(&str, &str)], files: &[&str], new: &[&str], beside: &[&str]) {
    let plan = HostPlan {
        host: "web1".to_owned(),
        target: Target::Local,
        undo: UndoIntent::Packages,
        outside: None,
        changes: vec![change("app", Some("1-1")), change("kernel-core", Some("1-1")), change("lib", None)],
    };
    let host = HostExec::new(&Target::Local).unwrap();
    let (before, now) = (set(&[("app", "1-1"), ("kernel-core", "1-1")]), set(now));
    let kept = ["app", "kernel-core"].map(|name| (id(name), "1-1".to_owned(), format!("/x/{name}.rpm")));
    let undoing = Undoing {
        host: &host,
        plan: &plan,
        before: &before,
        now: &now,
        files: &kept,
        dir: Path::new("/x"),
        lock_timeout: Duration::ZERO,
    };
    let rest = Rest::of(&undoing);
    assert_eq!((rest.files, rest.new, rest.beside), (owned(files), owned(new), owned(beside)));
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn only_what_is_not_as_it_was_is_taken_back() {
    check(&[("app", "1-1"), ("kernel-core", "1-1")], &[], &[], &[]);
    check(&[("app", "2-1"), ("kernel-core", "1-1"), ("lib", "2-1")], &["/x/app.rpm"], &["lib.x86_64"], &[]);
    check(&[("kernel-core", "1-1")], &["/x/app.rpm"], &[], &[]);
}

#[test]
fn a_kernel_stands_beside_its_former_one_and_anything_else_that_does_is_half_a_transaction() {
    let twice = [("app", "1-1"), ("app", "2-1"), ("kernel-core", "1-1"), ("kernel-core", "2-1")];
    check(&twice, &["/x/app.rpm"], &[], &["kernel-core-2-1.x86_64"]);
    let names: Vec<String> = set(&twice).iter().map(|(id, state)| format!("{} {}", id.name, state.version)).collect();
    assert_eq!(names, ["app 2-1", "app-1-1 1-1", "kernel-core 2-1", "kernel-core-1-1 1-1"]);
}

#[test]
fn a_package_file_says_itself_what_it_is() {
    let (found, version) = identified("bind-libs\t32\t9.16-1.el9\tx86_64").unwrap();
    assert_eq!((found, version.as_str()), (id("bind-libs"), "32:9.16-1.el9"));
    assert_eq!(identified("app\t0\t1-1\tx86_64").unwrap().1, "1-1");
    assert!(identified("error: open of x failed").is_none());
    assert_eq!(nvra(&id("bind-libs"), "32:9.16-1.el9"), "bind-libs-9.16-1.el9.x86_64");
}
