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

fn read(register: &Register) -> patchloom_domain::EvidenceChain {
    let (change, text) = register.evidence("CHG0000001").unwrap();
    patchloom_domain::verify_evidence(&change, &text).unwrap()
}

fn fact(key: &str) -> EvidenceFact {
    let service = Actor::Service("patchloom".to_owned());
    let change = ChangeRequest::open("CHG0000001".to_owned(), "r".to_owned(), draft(), Instant(1));
    EvidenceFact { key: key.to_owned(), by: service, change_is: None, ..evidence::of_opening(&change) }
}

#[test]
fn every_order_is_evidence_and_a_change_that_is_over_is_sealed() {
    let (_dir, register) = register();
    let number = open(&register, "run-1").number;
    register.note(&number, &ann(), Instant(2), "look", "k").unwrap();
    register.note(&number, &ann(), Instant(3), "look", "k").unwrap();
    let orders = |chain: &patchloom_domain::EvidenceChain| {
        chain.entries.iter().map(|entry| entry.fact.what.clone()).collect::<Vec<_>>()
    };
    assert_eq!(orders(&read(&register)), ["order.open", "order.note"]);
    assert_eq!(register.get(&number).unwrap().evidence, None);
    let cancel = Order { by: ann(), at: Instant(4), command: Command::Cancel { why: "no".to_owned() } };
    let change = register.apply(&number, &cancel).unwrap().change;
    assert_eq!(orders(&read(&register)), ["order.open", "order.note", "order.cancel"]);
    assert_eq!(change.evidence, Some(read(&register).seal()));
    // What is told afterwards is sealed too, once.
    register.witness(&number, vec![fact("task/1")]).unwrap();
    register.witness(&number, vec![fact("task/1")]).unwrap();
    assert_eq!(read(&register).entries.len(), 4);
}

#[test]
fn a_torn_line_of_evidence_is_cut_away_and_its_order_given_again_is_there_once() {
    let (dir, register) = register();
    let number = open(&register, "run-1").number;
    let document = dir.path().join("CHG0000001.json");
    let file = evidence::path(dir.path(), &number);
    let (before, short) = (std::fs::read(&document).unwrap(), std::fs::read(&file).unwrap());
    register.note(&number, &ann(), Instant(2), "look", "k").unwrap();
    let whole = std::fs::read(&file).unwrap();
    for torn in short.len()..=whole.len() {
        // Killed while the entry was written: the change was not yet.
        std::fs::write(&document, &before).unwrap();
        std::fs::write(&file, &whole[..torn]).unwrap();
        register.note(&number, &ann(), Instant(2), "look", "k").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), whole, "torn at {torn}");
        read(&register);
    }
}

#[test]
fn evidence_that_was_overwritten_takes_nothing_more() {
    let (dir, register) = register();
    let number = open(&register, "run-1").number;
    std::fs::write(evidence::path(dir.path(), &number), "{}\n").unwrap();
    let refused = register.witness(&number, vec![fact("task/1")]).unwrap_err();
    assert!(matches!(&refused, Error::Damaged { .. }), "{refused}");
}
