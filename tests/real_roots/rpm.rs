//! The binary on a root of dnf and rpm: exact versions, scripts that fail behind an exit code of 0, and the way back.

use std::fs;

use patchloom_bed::{Root, Tree, left_out};
use patchloom_domain::CloseCode;

use crate::bench::{Bench, Said};

/// An rpm root as it was before a run that must come back to it.
struct Before {
    rpms: Vec<String>,
    etc: Tree,
    usr: Tree,
    reasons: String,
}

fn reasons(root: &Root) -> String {
    root.inside(&["dnf", "-q", "-C", "repoquery", "--userinstalled"])
}

impl Before {
    fn of(root: &Root) -> Self {
        Self { rpms: root.rpms(), etc: root.content("/etc"), usr: usr(root), reasons: reasons(root) }
    }

    #[track_caller]
    fn is_back(&self, bench: &Bench) {
        assert_eq!(bench.root.rpms(), self.rpms);
        assert_eq!(self.etc.changes_to(&bench.root.content("/etc")), Vec::<String>::new());
        assert_eq!(self.usr.changes_to(&usr(&bench.root)), Vec::<String>::new());
        assert_eq!(reasons(&bench.root), self.reasons, "what its owner asked for stays asked for");
        bench.left_clean();
    }
}

/// Without what python compiles for itself as dnf runs.
fn usr(root: &Root) -> Tree {
    root.content("/usr").without(&["/usr/lib/python3"])
}

/// Leaves packages out, as an administrator does.
fn exclude(root: &Root, packages: &str) {
    let conf = root.path().join("etc/dnf/dnf.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    text.push_str(&format!("exclude={packages}\n"));
    fs::write(&conf, text).unwrap();
}

#[track_caller]
fn unsuccessful(bench: &Bench, cause: &str) {
    let change = bench.closed(CloseCode::Unsuccessful);
    let notes = change.closure.map(|closure| closure.notes).unwrap_or_default();
    assert!(notes.contains(cause) && notes.contains("rolled back and verified"), "{notes}");
}

fn rpm(name: &str, version: u32) -> String {
    let epoch = u32::from(name == "loom-epoch");
    format!("{name}-{epoch}:{version}-1.noarch")
}

#[test]
fn what_advisories_name_is_installed_exactly_and_verified() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::rpm());
    exclude(&bench.root, "loom-post");
    let reasons_before = reasons(&bench.root);
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("3 patches installed and verified");
    let names = ["loom-app", "loom-epoch", "loom-lib"];
    assert_eq!(said.missing("name").into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    let rpms = bench.root.rpms();
    assert!(names.iter().all(|name| rpms.contains(&rpm(name, 2))), "{rpms:?}");
    assert!(["loom-post", "loom-clash", "loom-shell"].iter().all(|name| rpms.contains(&rpm(name, 1))), "{rpms:?}");
    assert_eq!(rpms.len(), 6);
    assert_eq!(reasons(&bench.root), reasons_before);
    bench.closed(CloseCode::Successful);
    bench.left_clean();
    bench.patch(&[]).ended(0, "succeeded").tells("Nothing is missing");
}

#[track_caller]
fn failed_script(said: &Said) {
    said.undone_for("SCRIPTLET").tells("exactly as before");
    let message = said.report["failure"]["message"].as_str().unwrap();
    assert!(message.contains("loom-post"), "{message}");
}

#[test]
fn a_post_script_that_fails_while_dnf_exits_0_is_rolled_back_and_its_version_held() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::rpm());
    fs::write(bench.root.path().join("etc/loom-edited"), "by hand\n").unwrap();
    let before = Before::of(&bench.root);
    failed_script(&bench.patch(&["--apply"]));
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET");

    // What failed is held, and not in the way of what works.
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("3 patches installed and verified");
    let rpms = bench.root.rpms();
    assert!(rpms.contains(&rpm("loom-lib", 2)) && rpms.contains(&rpm("loom-post", 1)), "{rpms:?}");
    bench.closed(CloseCode::Successful);
}
