//! `patchloom change`.

use patchloom_domain::{Actor, ChangeState, ChangeType, Draft, Instant, Mode, PlanDigest, Window};
use patchloom_workers::register::Register;

use crate::bed::Bed;

/// A change that waits for its approval, asked for by `run`.
fn change(bed: &Bed, run: &str) -> String {
    let register = Register::open(&bed.data().join("changes")).unwrap();
    let patchloom = Actor::Service("patchloom".to_owned());
    let draft = Draft {
        title: "Security updates".to_owned(),
        kind: ChangeType::Normal,
        mode: Mode::Apply,
        requester: patchloom.clone(),
        digest: PlanDigest::try_from(format!("sha256:{}", "ab".repeat(32))).unwrap(),
        plan: None,
        window: Window { start: Instant(0), end: Instant(4_000_000_000_000) },
        hosts: vec!["web1".to_owned()],
        implementation_plan: "install jq 1.6-2.1+deb12u1".to_owned(),
        backout_plan: "former versions".to_owned(),
        test_plan: "scan".to_owned(),
        risk: "low".to_owned(),
    };
    let number = register.ensure_change(&format!("{run}/open/0"), draft, Instant(1)).unwrap().number;
    for state in [ChangeState::Assess, ChangeState::Authorize] {
        register.advance(&number, state, &patchloom, Instant(2)).unwrap();
    }
    number
}

#[test]
fn an_approval_reaches_the_run_that_waits_in_another_process() {
    let bed = Bed::new();
    let id = bed.waiter();
    let number = change(&bed, &id);
    let leader = bed.leader(&id, "hold: waiting");
    let said = bed.run(&["change", "approve", "last", "--plan", "sha256:abab", "--comment", "fine"]).ends(0);
    assert!(said.out.starts_with(&format!("{number} approved sha256:abab")), "{said:?}");
    assert_eq!(leader.code(), 0, "the run that waited goes on and succeeds");
    let shown = bed.run(&["run", "show", "last", "--json"]).ends(0).json();
    assert_eq!((&shown["output"]["decision"], &shown["output"]["change"]), (&"approved".into(), &number.into()));
}

#[test]
fn changes_are_listed_and_shown() {
    let bed = Bed::new();
    bed.run(&["change", "list"]).fault(3, "E0404", &[]);
    let id = bed.waiter();
    bed.run(&["change", "show", "last"]).fault(4, "E0604", &["no change was ever opened"]);
    let number = change(&bed, &id);
    assert!(bed.run(&["change", "list", "--open"]).ends(0).out.contains("Security updates"));
    let text = bed.run(&["change", "show", "1"]).ends(0).out;
    for part in [number.as_str(), "install jq 1.6-2.1+deb12u1", "former versions", "web1", "change approve"] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    assert_eq!(bed.run(&["change", "show", "last", "--json"]).ends(0).json()["number"], number.as_str());
    bed.run(&["change", "show", "CHG0000099"]).fault(4, "E0604", &["there is no change CHG0000099"]);
    bed.run(&["change", "show", "../../etc/passwd"]).fault(4, "E0604", &[]);
}

#[test]
fn a_decision_is_bound_to_the_plan_that_was_looked_at() {
    let bed = Bed::new();
    let id = bed.waiter();
    change(&bed, &id);
    bed.run(&["change", "approve", "last", "--plan", "sha256:cdcd"]).fault(1, "E0603", &["is not sha256:cdcd"]);
    bed.run(&["change", "reject", "last"]).fault(2, "E0608", &["--comment"]);
    bed.run(&["change", "reject", "last", "--comment", "later"]).ends(0);
    let shown = bed.run(&["change", "show", "last"]).ends(0).out;
    assert!(shown.contains("rejected") && shown.contains("later"), "{shown}");
}
