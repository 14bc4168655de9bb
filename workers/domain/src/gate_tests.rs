//! Every reason for which the gate stays shut, one by one, and the one case in which it opens.

use super::*;
use crate::{
    ChangeType, Command, Draft, HoldCause, HoldKey, HoldScope, Order, PlannedChange, Target, VersionScheme, Window,
};

const NOW: Instant = Instant(10_000_000);

struct Given {
    change: ChangeRequest,
    plan: Plan,
    undo: Option<UndoProof>,
    preflight: Option<Preflight>,
    now: Instant,
    host: &'static str,
    holds: Holds,
}

fn id(name: &str) -> PackageId {
    PackageId { name: name.to_owned(), arch: "amd64".to_owned() }
}

fn plan(mode: Mode, undo: UndoIntent) -> Plan {
    let change = |name: &str, installed: Option<&str>| PlannedChange {
        id: id(name),
        installed: installed.map(str::to_owned),
        candidate: "2".to_owned(),
        sha256: None,
        cves: Vec::new(),
        security: true,
    };
    let changes = vec![change("jq", Some("1")), change("dep", None)];
    let host = HostPlan { host: "web1".to_owned(), target: Target::Local, changes, undo, outside: None };
    Plan::new(mode, Instant(1), vec![host], Vec::new()).expect("a plan")
}

fn orders(change: ChangeRequest, commands: Vec<Command>) -> ChangeRequest {
    commands.into_iter().fold(change, |change, command| {
        let order = Order { by: Actor::Person("ann".to_owned()), at: NOW, command };
        change.apply(&order).expect("taken").change
    })
}

fn opened(plan: &Plan) -> ChangeRequest {
    let draft = Draft {
        title: "t".to_owned(),
        kind: ChangeType::Normal,
        mode: plan.mode(),
        requester: Actor::Service("patchloom".to_owned()),
        digest: plan.digest(),
        plan: None,
        window: Window { start: Instant(NOW.0 - 1), end: Instant(NOW.0 + PREFLIGHT_AGE_MS_MAX * 3) },
        hosts: plan.hosts().iter().map(|host| host.host.clone()).collect(),
        implementation_plan: String::new(),
        backout_plan: String::new(),
        test_plan: String::new(),
        risk: String::new(),
    };
    let change = ChangeRequest::open("CHG0000001".to_owned(), "run".to_owned(), draft, Instant(1));
    orders(change, vec![Command::Advance(ChangeState::Assess), Command::Advance(ChangeState::Authorize)])
}

fn ready(mode: Mode) -> Given {
    let plan = plan(mode, UndoIntent::Packages);
    let approve = Command::Approve { digest: plan.digest(), comment: None };
    let onward = vec![approve, Command::Advance(ChangeState::Scheduled), Command::Advance(ChangeState::Implement)];
    let package =
        |name: &str, former: Option<&str>, undo| UndoPackage { id: id(name), former: former.map(str::to_owned), undo };
    let cached = PackageUndo::Cached { sha256: "ab".repeat(32), size_bytes: 1, rebuilt: false };
    Given {
        change: orders(opened(&plan), onward),
        undo: Some(UndoProof {
            host: "web1".to_owned(),
            digest: plan.digest(),
            at: NOW,
            packages: vec![package("jq", Some("1"), cached), package("dep", None, PackageUndo::Remove)],
            snapshot: None,
        }),
        preflight: Some(Preflight {
            host: "web1".to_owned(),
            at: NOW,
            checks: vec![Check { name: "lock".to_owned(), passed: true, detail: String::new() }],
        }),
        plan,
        now: NOW,
        host: "web1",
        holds: Holds::default(),
    }
}

fn ask(given: &Given) -> Result<Permit, Vec<Refusal>> {
    let (undo, preflight) = (given.undo.as_ref(), given.preflight.as_ref());
    permit(&given.change, &given.plan, given.host, given.now, undo, preflight, &given.holds)
}

#[track_caller]
fn shut(code: &str, spoil: impl FnOnce(&mut Given)) {
    let mut given = ready(Mode::Apply);
    spoil(&mut given);
    let codes: Vec<_> = ask(&given).expect_err("the gate must be shut").iter().map(Refusal::code).collect();
    assert!(codes.contains(&code), "{codes:?}");
}

fn undo(given: &mut Given) -> &mut UndoProof {
    given.undo.as_mut().expect("ready has one")
}

fn preflight(given: &mut Given) -> &mut Preflight {
    given.preflight.as_mut().expect("ready has one")
}

#[test]
fn all_conditions_met_open_the_gate_for_exactly_this_host_and_plan() {
    let given = ready(Mode::Apply);
    let permit = ask(&given).expect("open");
    assert_eq!((permit.host().host.as_str(), permit.digest()), ("web1", &given.plan.digest()));
    assert_eq!((permit.change(), permit.granted()), ("CHG0000001", NOW));
}

#[test]
fn an_observe_run_never_gets_a_permit() {
    let codes: Vec<_> = ask(&ready(Mode::Observe)).expect_err("shut").iter().map(Refusal::code).collect();
    assert_eq!(codes, ["E0620"]);
}

#[test]
fn without_an_approval_it_stays_shut() {
    shut("E0621", |given| given.change = opened(&given.plan));
    shut("E0621", |given| given.change.approvals[0].void = Some("plan changed".to_owned()));
    shut("E0621", |given| given.change.approvals[0].by = Actor::Service("patchloom".to_owned()));
    shut("E0621", |given| given.change.approvals[0].by = Actor::Policy("observe-runs".to_owned()));
}

#[test]
fn a_rejection_shuts_it() {
    shut("E0622", |given| given.change.approvals[0].decision = Decision::Rejected);
}

#[test]
fn another_plan_than_the_approved_one_shuts_it() {
    shut("E0623", |given| given.plan = plan(Mode::Apply, UndoIntent::PackagesThenSnapshot));
}

#[test]
fn a_host_that_is_not_covered_shuts_it() {
    shut("E0624", |given| given.host = "db9");
    shut("E0624", |given| given.change.tasks.clear());
}

#[test]
fn a_change_that_is_not_at_work_shuts_it() {
    shut("E0625", |given| given.change.state = ChangeState::Scheduled);
    shut("E0625", |given| given.change.state = ChangeState::Closed);
}

#[test]
fn a_closed_window_shuts_it() {
    shut("E0626", |given| given.now = given.change.draft.window.end);
    shut("E0626", |given| given.now = Instant(given.change.draft.window.start.0 - 1));
}

#[test]
fn a_way_back_that_is_missing_or_of_something_else_shuts_it() {
    shut("E0627", |given| given.undo = None);
    shut("E0628", |given| undo(given).host = "web2".to_owned());
    shut("E0628", |given| undo(given).digest = plan(Mode::Observe, UndoIntent::Packages).digest());
}

#[test]
fn a_way_back_that_does_not_hold_shuts_it() {
    shut("E0629", |given| undo(given).packages.clear());
    shut("E0629", |given| undo(given).packages[0].undo = PackageUndo::Obtainable { origin: "o".to_owned() });
    shut("E0629", |given| undo(given).packages[0].undo = PackageUndo::Unprovable { why: "gone".to_owned() });
    shut("E0629", |given| undo(given).packages[0].undo = PackageUndo::Remove);
    shut("E0629", |given| undo(given).packages[0].former = Some("0.9".to_owned()));
    let half = SnapshotProof { id: "s".to_owned(), kind: SnapshotKind::Copy, verified: false };
    shut("E0629", |given| {
        undo(given).packages.clear();
        undo(given).snapshot = Some(half);
    });
}

#[test]
fn a_verified_snapshot_is_a_way_back_for_every_package() {
    let mut given = ready(Mode::Apply);
    undo(&mut given).packages.clear();
    undo(&mut given).snapshot = Some(SnapshotProof { id: "s".to_owned(), kind: SnapshotKind::Btrfs, verified: true });
    ask(&given).expect("open");
}

#[test]
fn a_planned_snapshot_that_was_not_made_is_no_way_back() {
    let plan = plan(Mode::Apply, UndoIntent::Snapshot);
    let proof = ready(Mode::Apply).undo.expect("ready has one");
    assert_eq!(proof.unproven(&plan.hosts()[0], Mode::Apply).len(), 1);
}

#[test]
fn a_version_that_could_be_fetched_is_enough_where_nothing_changes() {
    let mut proof = ready(Mode::Observe).undo.expect("ready has one");
    proof.packages[0].undo = PackageUndo::Obtainable { origin: "o".to_owned() };
    let plan = plan(Mode::Observe, UndoIntent::Packages);
    assert!(proof.unproven(&plan.hosts()[0], Mode::Observe).is_empty());
    assert_eq!(proof.unproven(&plan.hosts()[0], Mode::Apply), ["jq:amd64"]);
}

#[test]
fn a_host_that_was_not_checked_shuts_it() {
    shut("E0630", |given| given.preflight = None);
    shut("E0630", |given| preflight(given).checks.clear());
    shut("E0630", |given| preflight(given).host = "web2".to_owned());
}

#[test]
fn a_check_is_good_for_an_hour_and_not_a_millisecond_more() {
    let mut given = ready(Mode::Apply);
    given.now = NOW.plus(PREFLIGHT_AGE_MS_MAX);
    ask(&given).expect("at the limit");
    shut("E0631", |given| given.now = NOW.plus(PREFLIGHT_AGE_MS_MAX + 1));
    shut("E0631", |given| preflight(given).at = NOW.plus(PREFLIGHT_AGE_MS_MAX + 1));
}

#[test]
fn a_failed_check_shuts_it() {
    shut("E0632", |given| preflight(given).checks[0].passed = false);
}

#[test]
fn every_reason_is_told_at_once() {
    let mut given = ready(Mode::Apply);
    given.change = opened(&given.plan);
    given.undo = None;
    given.preflight = None;
    let codes: Vec<_> = ask(&given).expect_err("shut").iter().map(Refusal::code).collect();
    assert_eq!(codes, ["E0621", "E0625", "E0627", "E0630"]);
}

fn hold(package: &str, version: &str) -> Holds {
    let (package, version) = (package.to_owned(), version.to_owned());
    let key = HoldKey { ecosystem: VersionScheme::Deb, package, version, scope: HoldScope::Fleet };
    let by = Actor::Person("ann".to_owned());
    let mut holds = Holds::default();
    let cause = HoldCause { by, at: NOW, change: None, host: None, why: "it broke".to_owned() };
    assert_eq!(holds.hold(key, cause), Ok(true));
    holds
}

#[test]
fn a_version_that_is_held_shuts_it_and_another_version_does_not() {
    shut("E0874", |given| given.holds = hold("jq", "2"));
    let mut given = ready(Mode::Apply);
    given.holds = hold("jq", "3");
    assert!(ask(&given).is_ok());
    let mut given = ready(Mode::Observe);
    given.holds = hold("dep", "2");
    let refusals = ask(&given).expect_err("shut");
    assert!(refusals.iter().any(|refusal| refusal.to_string().contains("dep 2 (it broke)")), "{refusals:?}");
}

#[test]
fn a_reboot_needs_the_same_change_and_window_and_time_enough_to_come_back() {
    let given = ready(Mode::Apply);
    let end = given.change.draft.window.end;
    let ask = |change: &ChangeRequest, plan: &Plan, host: &str, now: Instant| {
        let answer = may_reboot(change, plan, host, now, 600_000);
        answer.map_err(|all| all.iter().map(Refusal::code).collect::<Vec<_>>())
    };
    let permit = ask(&given.change, &given.plan, "web1", given.now).expect("the reserve is there");
    assert_eq!(permit.until(), Instant(end.0 - 600_000));
    assert!(ask(&given.change, &given.plan, "web1", Instant(end.0 - 600_000)).is_ok(), "the whole reserve is left");
    let late = ask(&given.change, &given.plan, "web1", Instant(end.0 - 599_999));
    assert_eq!(late.unwrap_err(), ["E0974"]);
    assert_eq!(ask(&given.change, &given.plan, "web1", end).unwrap_err(), ["E0626", "E0974"]);
    assert_eq!(ask(&given.change, &given.plan, "other", given.now).unwrap_err(), ["E0624"]);
    let other = plan(Mode::Apply, UndoIntent::Snapshot);
    assert!(ask(&given.change, &other, "web1", given.now).unwrap_err().contains(&"E0623"));
    let observed = ready(Mode::Observe);
    assert!(ask(&observed.change, &observed.plan, "web1", observed.now).unwrap_err().contains(&"E0620"));
}

#[test]
fn a_way_back_that_can_only_be_attempted_counts_only_where_the_plan_says_so() {
    let proof = |plan: &Plan| UndoProof {
        host: "web1".to_owned(),
        digest: plan.digest(),
        at: NOW,
        packages: vec![
            UndoPackage {
                id: id("jq"),
                former: Some("1".to_owned()),
                undo: PackageUndo::Cached { sha256: "ab".repeat(32), size_bytes: 1, rebuilt: false },
            },
            UndoPackage { id: id("dep"), former: None, undo: PackageUndo::Attempt { by: "DISM".to_owned() } },
        ],
        snapshot: None,
    };
    for (intent, unproven) in [
        (UndoIntent::Packages, vec!["dep:amd64".to_owned()]),
        (UndoIntent::PackagesThenSnapshot, vec!["dep:amd64".to_owned()]),
        (UndoIntent::Attempt, Vec::new()),
    ] {
        for mode in [Mode::Apply, Mode::Observe] {
            let plan = plan(mode, intent);
            assert_eq!(proof(&plan).unproven(&plan.hosts()[0], mode), unproven, "{intent:?} {mode:?}");
        }
    }
    // A package that was there before is never taken back by an attempt.
    let plan = plan(Mode::Apply, UndoIntent::Attempt);
    let mut other = proof(&plan);
    other.packages[0].undo = PackageUndo::Attempt { by: "DISM".to_owned() };
    assert_eq!(other.unproven(&plan.hosts()[0], Mode::Apply), ["jq:amd64"]);
}
