//! The register on a real directory: numbers, repeats, damage, many writers.

use patchloom_domain::{ChangeType, Mode, Window};

use super::*;

fn draft() -> Draft {
    Draft {
        title: "Security updates".to_owned(),
        kind: ChangeType::Normal,
        mode: Mode::Apply,
        requester: Actor::Service("patchloom".to_owned()),
        digest: PlanDigest::try_from(format!("sha256:{}", "a".repeat(64))).unwrap(),
        plan: None,
        window: Window { start: Instant(0), end: Instant(u64::MAX) },
        hosts: vec!["web1".to_owned()],
        implementation_plan: "install".to_owned(),
        backout_plan: "former versions".to_owned(),
        test_plan: "scan".to_owned(),
        risk: "low".to_owned(),
    }
}

fn register() -> (tempfile::TempDir, Register) {
    let dir = tempfile::tempdir().unwrap();
    let register = Register::open(dir.path()).unwrap();
    (dir, register)
}

fn open(register: &Register, correlation: &str) -> ChangeRequest {
    register.ensure_change(correlation, draft(), Instant(1)).unwrap()
}

fn ann() -> Actor {
    Actor::Person("ann".to_owned())
}

#[test]
fn opening_twice_for_the_same_run_gives_the_same_change() {
    let (_dir, register) = register();
    let first = open(&register, "run-1");
    assert_eq!(first.number, "CHG0000001");
    assert_eq!(open(&register, "run-1"), first);
    assert_eq!(open(&register, "run-2").number, "CHG0000002");
    assert_eq!(register.find("run-1").unwrap().unwrap(), first);
    assert!(register.find("run-9").unwrap().is_none());
}

#[test]
fn a_crash_between_document_and_index_opens_no_second_change() {
    let (_dir, register) = register();
    let first = open(&register, "run-1");
    std::fs::remove_file(register.index_entry("run-1")).unwrap();
    assert_eq!(open(&register, "run-1"), first);
    open(&register, "run-2");
    assert_eq!(open(&register, "run-1"), first, "the index was healed");
}

#[test]
fn every_call_may_come_twice() {
    let (_dir, register) = register();
    let number = open(&register, "run-1").number;
    for _ in 0..2 {
        register.advance(&number, ChangeState::Assess, &ann(), Instant(2)).unwrap();
        register.advance(&number, ChangeState::Authorize, &ann(), Instant(3)).unwrap();
        register.approve(&number, &ann(), Instant(4), None, Some("fine")).unwrap();
        register.note(&number, &ann(), Instant(5), "seen", "k").unwrap();
    }
    let change = register.get(&number).unwrap();
    assert_eq!((change.approvals.len(), change.notes.len(), change.revision), (1, 1, 5));
    assert_eq!(change.state, ChangeState::Authorize);
}

#[test]
fn a_refused_order_leaves_the_document_alone() {
    let (dir, register) = register();
    let number = open(&register, "run-1").number;
    let path = dir.path().join("CHG0000001.json");
    let before = std::fs::read(&path).unwrap();
    let error = register.advance(&number, ChangeState::Implement, &ann(), Instant(2)).unwrap_err();
    assert_eq!(error.code(), "E0601");
    let error = register.approve(&number, &Actor::Service("patchloom".to_owned()), Instant(2), None, None).unwrap_err();
    assert_eq!(error.code(), "E0601", "New takes no decision yet");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_document_is_named_and_the_others_stay_usable() {
    let (dir, register) = register();
    open(&register, "run-1");
    let second = open(&register, "run-2");
    for damage in ["", "{", "{\"format\":2}", "\u{0}\u{0}"] {
        std::fs::write(dir.path().join("CHG0000001.json"), damage).unwrap();
        let error = register.get("CHG0000001").unwrap_err();
        assert_eq!(error.code(), "E0605");
        assert!(error.to_string().contains("CHG0000001.json"), "{error}");
        let listing = register.list().unwrap();
        assert_eq!((listing.changes.len(), listing.damaged.len()), (1, 1));
        assert_eq!(register.find("run-2").unwrap().unwrap(), second);
    }
    assert_eq!(open(&register, "run-3").number, "CHG0000003", "the damaged one keeps its number");
    assert_eq!(register.ensure_change("run-1", draft(), Instant(1)).unwrap_err().code(), "E0605");
}

#[test]
fn a_document_under_another_name_is_damaged() {
    let (dir, register) = register();
    open(&register, "run-1");
    std::fs::copy(dir.path().join("CHG0000001.json"), dir.path().join("CHG0000002.json")).unwrap();
    assert_eq!(register.get("CHG0000002").unwrap_err().code(), "E0605");
}

#[test]
fn only_a_number_is_looked_up() {
    let (_dir, register) = register();
    open(&register, "run-1");
    for text in ["../CHG0000001", "CHG1", "CHG00000001", "CHG", "chg0000001", "CHG+000001", "CHG0000009"] {
        assert_eq!(register.get(text).unwrap_err().code(), "E0604", "{text}");
    }
}

#[test]
fn what_a_crashed_writer_left_is_not_a_document() {
    let (dir, register) = register();
    open(&register, "run-1");
    std::fs::write(dir.path().join(".new-abc"), "{").unwrap();
    let listing = register.list().unwrap();
    assert_eq!((listing.changes.len(), listing.damaged.len()), (1, 0));
}

#[test]
fn many_writers_lose_nothing_and_share_no_number() {
    let (dir, _) = register();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                let register = Register::open(dir).unwrap();
                for round in 0..5 {
                    let number = open(&register, &format!("run-{writer}-{round}")).number;
                    register.note(&number, &ann(), Instant(2), "seen", "k").unwrap();
                    let shared = open(&register, "shared").number;
                    register.note(&shared, &ann(), Instant(2), "seen", &format!("{writer}-{round}")).unwrap();
                }
            });
        }
    });
    let listing = Register::open(dir.path()).unwrap().list().unwrap();
    assert_eq!((listing.changes.len(), listing.damaged.len()), (21, 0));
    let shared = listing.changes.iter().find(|change| change.correlation_id == "shared").unwrap();
    assert_eq!(shared.notes.len(), 20);
}
