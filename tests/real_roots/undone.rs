//! What fails after it has begun, and how the root comes back: by former packages, by a snapshot, by unwinding.

use patchloom_bed::{Repository, Root, Tree, left_out};
use patchloom_domain::CloseCode;

use crate::bench::{Bench, Said};

/// A root as it was before a run that must come back to it.
struct Before {
    packages: std::collections::BTreeMap<String, String>,
    etc: Tree,
    usr: Tree,
}

impl Before {
    fn of(root: &Root) -> Self {
        Self { packages: root.packages(), etc: root.content("/etc"), usr: root.content("/usr") }
    }

    #[track_caller]
    fn is_back(&self, bench: &Bench) {
        assert_eq!(bench.root.packages(), self.packages);
        assert_eq!(bench.root.audit(), "");
        assert_eq!(self.etc.changes_to(&bench.root.content("/etc")), Vec::<String>::new());
        assert_eq!(self.usr.changes_to(&bench.root.content("/usr")), Vec::<String>::new());
        bench.left_clean();
    }
}

/// The change is closed unsuccessful, and its notes name the cause and the way back.
#[track_caller]
fn unsuccessful(bench: &Bench, cause: &str, way: &str) {
    let change = bench.closed(CloseCode::Unsuccessful);
    let notes = change.closure.map(|closure| closure.notes).unwrap_or_default();
    assert!(notes.contains(cause) && notes.contains(way), "{notes}");
}

/// A root whose pending upgrades hold one that fails in its postinst.
fn broken(root: Root) -> Bench {
    let bench = Bench::new(root);
    bench.root.enable(Repository::Broken);
    bench
}

#[track_caller]
fn failed_script(said: &Said) {
    said.undone_for("SCRIPTLET").tells("The patch failed and was rolled back").tells("exactly as before");
    let message = said.report["failure"]["message"].as_str().unwrap();
    assert!(message.contains("loom-fail"), "{message}");
    assert!(said.missing("outcome").iter().all(|(_, outcome)| outcome == "rolled_back"));
}

#[test]
fn a_failing_postinst_is_rolled_back_to_the_former_packages() {
    if left_out() {
        return;
    }
    let bench = broken(Root::mini());
    let edited = bench.root.modify_conffile("/etc/loom.conf");
    let before = Before::of(&bench.root);
    failed_script(&bench.patch(&["--apply"]));
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET: loom-fail", "former packages reinstalled");
    assert_eq!(std::fs::read_to_string(bench.root.path().join("etc/loom.conf")).unwrap(), edited);

    // What failed is not in the way of what works.
    bench.root.hold("loom-fail");
    bench.patch(&["--apply"]).ended(0, "succeeded").tells("5 patches installed and verified");
    bench.closed(CloseCode::Successful);
    assert_eq!(bench.root.version_of("loom-lib").as_deref(), Some("1.1"));
    assert_eq!(bench.root.version_of("loom-fail").as_deref(), Some("1.0"));
}

#[test]
fn a_real_update_set_whose_former_packages_nobody_has_comes_back_by_rebuilt_ones() {
    if left_out() {
        return;
    }
    let bench = broken(Root::golden());
    bench.root.forget_old_versions();
    let before = Before::of(&bench.root);
    let said = bench.patch(&["--apply"]);
    failed_script(&said);
    let how = said.report["missing"][0]["undo"]["how"].as_str().unwrap();
    assert!(how.contains("rebuilt from its installed files"), "{how}");
    assert_eq!(said.report["missing"].as_array().unwrap().len(), bench.root.pairs().len() + 1);
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET: loom-fail", "former packages reinstalled");
}

#[test]
fn a_btrfs_root_comes_back_by_its_snapshot() {
    if left_out() {
        return;
    }
    comes_back_by_its_snapshot(Root::mini_on_btrfs());
}

#[test]
fn a_plain_root_comes_back_by_its_copy() {
    if left_out() {
        return;
    }
    comes_back_by_its_snapshot(Root::mini());
}

#[track_caller]
fn comes_back_by_its_snapshot(root: Root) {
    let bench = broken(root);
    let before = Before::of(&bench.root);
    let whole = bench.root.tree();
    let said = bench.patch(&["--apply", "--undo", "snapshot"]);
    failed_script(&said);
    let how = said.report["missing"][0]["undo"]["how"].as_str().unwrap();
    assert!(how.contains("snapshot of the whole root"), "{how}");
    before.is_back(&bench);
    // Not one file differs, the logs of the attempt included: they are in the evidence.
    assert_eq!(whole.changes_to(&bench.root.tree()), Vec::<String>::new());
    unsuccessful(&bench, "SCRIPTLET: loom-fail", "snapshot restored");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_rolled_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini_on_full_disk(100));
    bench.root.before_dpkg("dd if=/dev/zero of=/srv/ballast bs=1M 2>/dev/null; true");
    let before = Before::of(&bench.root);
    let said = bench.patch(&["--apply"]);
    said.undone_for("DISK");
    before.is_back(&bench);
    unsuccessful(&bench, "DISK", "rolled back and verified");
}

#[test]
fn an_application_that_works_no_more_takes_the_patch_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    let before = Before::of(&bench.root);
    let said = bench.patch(&["--apply", "--check", "loom-app | grep -q 1.0", "--check", "true"]);
    said.undone_for("E0545").tells("worked before the patch and does not after it");
    before.is_back(&bench);
    unsuccessful(&bench, "E0545", "former packages reinstalled");
    // The same check does not stand in the way where it never worked.
    bench.patch(&["--apply", "--check", "loom-app | grep -q 7.0"]).ended(0, "succeeded");
    bench.closed(CloseCode::Successful);
}

/// Kills the process where it says `words`, and lets the next one go on.
#[track_caller]
fn comes_back_after_a_kill_at(words: &str, options: &[&str]) {
    let bench = broken(Root::mini());
    let before = Before::of(&bench.root);
    let options = [&["--apply"], options].concat();
    let mut running = bench.start(&options);
    running.until(words);
    // Killed with -9: what it had started inside the root may live on.
    drop(running);
    let said = bench.patch(&options);
    assert!(said.talk.contains("was cut off: it is brought to its end"), "{said:#}");
    failed_script(&said);
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET: loom-fail", "rolled back and verified");
    assert_eq!(bench.changes().len(), 1, "it is the same run and the same change");
}

#[test]
fn a_process_killed_while_it_takes_the_snapshot_goes_on_where_it_was() {
    if left_out() {
        return;
    }
    comes_back_after_a_kill_at("Backup and check: running", &[]);
}

#[test]
fn a_process_killed_while_it_reinstalls_former_packages_comes_back_whole() {
    if left_out() {
        return;
    }
    comes_back_after_a_kill_at("Patch: undoing", &[]);
}

#[test]
fn a_process_killed_while_it_restores_the_snapshot_comes_back_whole() {
    if left_out() {
        return;
    }
    comes_back_after_a_kill_at("Patch: undoing", &["--undo", "snapshot"]);
}
