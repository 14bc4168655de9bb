//! What is refused before anything changes: a lock that stays, a full disk, a package held after the plan was made.

use patchloom_bed::{Root, Tree, left_out};
use patchloom_domain::ChangeState;

use crate::bench::{Bench, Said};

/// The run failed before its first deed: nothing differs, and the change says why.
#[track_caller]
fn untouched(bench: &Bench, said: &Said, before: &Tree, code: &str) {
    said.ended(1, "compensated").tells("The run failed before anything was changed").tells("exactly as before");
    assert_eq!(said.report["failure"]["code"], code, "{said:#}");
    assert_eq!(said.report["failure"]["as_before"], true, "{said:#}");
    assert_eq!(before.changes_to(&bench.root.tree()), Vec::<String>::new());
    let change = bench.changes().pop().unwrap();
    assert_eq!(change.state, ChangeState::Canceled, "{change:#?}");
    let why = change.canceled_why.unwrap_or_default();
    assert!(why.contains(code), "{why}");
    bench.left_clean();
}

#[test]
fn a_lock_that_is_never_let_go_ends_the_run_and_nothing_was_changed() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    let before = bench.root.tree();
    let lock = bench.root.hold_dpkg_lock();
    let said = bench.patch(&["--apply", "--lock-timeout", "1"]);
    said.tells(&format!("lock-frontend is held by process {}", lock.pid()));
    untouched(&bench, &said, &before, "E0531");
    drop(lock);
    bench.patch(&["--apply"]).ended(0, "succeeded");
}

#[test]
fn a_disk_without_room_is_found_before_anything_is_begun() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini_on_full_disk(8));
    let before = bench.root.tree();
    let said = bench.patch(&["--apply"]);
    said.tells("MiB free, about");
    untouched(&bench, &said, &before, "E0533");
}

#[test]
fn a_package_held_after_the_plan_was_made_is_not_installed() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    // The lock keeps the run between its plan and its install.
    let lock = bench.root.hold_dpkg_lock();
    let mut running = bench.start(&["--apply", "--lock-timeout", "60"]);
    running.until("waiting for process");
    bench.root.inside(&["env", "DPKG_FRONTEND_LOCKED=1", "apt-mark", "hold", "loom-lib"]);
    let before = bench.root.packages();
    assert_eq!(before["loom-lib"], "1.0 hi");
    drop(lock);
    let said = running.finish();
    said.undone_for("HELD");
    assert_eq!(bench.root.packages(), before, "nothing is installed, and the hold stays");
    bench.left_clean();
}
