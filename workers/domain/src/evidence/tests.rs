//! Each way to forge evidence, and that it is found.

use super::*;
use crate::{ChangeState, ChangeType, Command, Draft, Mode, Order, Plan, Window};

fn fact(key: &str, change_is: Option<String>) -> EvidenceFact {
    EvidenceFact {
        key: key.to_owned(),
        at: Instant(7),
        by: Actor::Service("patchloom".to_owned()),
        what: "patchloom.host.patched".to_owned(),
        host: Some("web-1".to_owned()),
        commands: vec![EvidenceCommand {
            argv: vec!["apt-get".to_owned(), "install".to_owned()],
            exit: "0".to_owned(),
        }],
        output: Some(format!("sha256:{}", "ab".repeat(32))),
        before: Some("sha256:before".to_owned()),
        after: Some("sha256:after".to_owned()),
        change_is,
        facts: Map::from_iter([("packages".to_owned(), Value::from(3))]),
    }
}

fn change() -> ChangeRequest {
    let draft = Draft {
        title: "t".to_owned(),
        kind: ChangeType::Normal,
        mode: Mode::Observe,
        requester: Actor::Service("patchloom".to_owned()),
        digest: Plan::new(Mode::Observe, Instant(0), Vec::new(), Vec::new()).expect("a plan").digest(),
        plan: None,
        window: Window { start: Instant(0), end: Instant(9) },
        hosts: Vec::new(),
        implementation_plan: String::new(),
        backout_plan: String::new(),
        test_plan: String::new(),
        risk: String::new(),
    };
    ChangeRequest::open("CHG0000001".to_owned(), "run/1".to_owned(), draft, Instant(1))
}

/// A change that is over, with the text of its evidence.
fn sealed() -> (ChangeRequest, Vec<u8>) {
    let by = Actor::Person("eva".to_owned());
    let order = Order { by, at: Instant(2), command: Command::Cancel { why: "no need".to_owned() } };
    let mut change = change().apply(&order).expect("may be cancelled").change;
    assert_eq!(change.state, ChangeState::Canceled);
    let mut text = Vec::new();
    let (mut last, mut head) = (None, first_link(&change.number));
    for (key, digest) in [("a", None), ("b", None), ("c", Some(change_digest(&change))), ("d", None)] {
        let entry = next_entry(&change.number, last, head, fact(key, digest));
        (last, head) = (Some(entry.seq), sha256_hex(&entry.line()));
        text.extend(entry.line());
        text.push(b'\n');
    }
    change.evidence = Some(EvidenceSeal { entries: 4, head });
    (change, text)
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[track_caller]
fn refused(change: &ChangeRequest, text: &[u8], part: &str) {
    let error = verify_evidence(change, text).expect_err("is forged").to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn evidence_that_nobody_touched_is_sound() {
    let (change, text) = sealed();
    let chain = verify_evidence(&change, &text).expect("is sound");
    assert_eq!(Some(chain.seal()), change.evidence);
}

#[test]
fn no_byte_of_the_evidence_can_be_changed_and_none_put_in_or_taken_out() {
    let (change, text) = sealed();
    for at in 0..text.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut forged = text.clone();
            forged[at] ^= flip;
            assert!(verify_evidence(&change, &forged).is_err(), "byte {at} xor {flip}");
        }
        let mut shorter = text.clone();
        shorter.remove(at);
        assert!(verify_evidence(&change, &shorter).is_err(), "without byte {at}");
        let mut longer = text.clone();
        longer.insert(at, b' ');
        assert!(verify_evidence(&change, &longer).is_err(), "a space at {at}");
    }
}

#[test]
fn entries_that_were_taken_out_moved_or_doubled_are_found_with_their_place() {
    let (change, text) = sealed();
    let all = lines(&text);
    let of = |order: &[usize]| order.iter().flat_map(|at| all[*at].clone()).collect::<Vec<u8>>();
    refused(&change, &of(&[1, 2, 3]), "entry 2 stands where entry 1 belongs");
    refused(&change, &of(&[0, 2, 3]), "entry 3 stands where entry 2 belongs");
    refused(&change, &of(&[0, 2, 1, 3]), "entry 3 stands where entry 2 belongs");
    refused(&change, &of(&[0, 1, 1, 2, 3]), "entry 2 stands where entry 3 belongs");
    refused(&change, &of(&[0, 1, 2]), "there are 3 entries, 4 were sealed");
    refused(&change, &[], "there are 0 entries, 4 were sealed");
    refused(&change, &text[..text.len() - 1], "line 4 is no entry: it is cut off");
}

#[test]
fn an_entry_that_was_rewritten_breaks_the_link_of_the_next_or_the_seal() {
    let (change, text) = sealed();
    let all = lines(&text);
    let rewritten = |at: usize| {
        let mut lines = all.clone();
        let mut entry = EvidenceEntry::read(&all[at][..all[at].len() - 1], 1).expect("an entry");
        entry.fact.host = Some("web-2".to_owned());
        lines[at] = [entry.line(), vec![b'\n']].concat();
        lines.concat()
    };
    refused(&change, &rewritten(0), "entry 2 is not linked");
    refused(&change, &rewritten(3), "entry 4, the last one, is not the one that was sealed");
    let mut more = text.clone();
    let head = change.evidence.as_ref().expect("is sealed").head.clone();
    more.extend(next_entry(&change.number, Some(4), head.clone(), fact("e", None)).line());
    more.push(b'\n');
    refused(&change, &more, "5 entries, 4 were sealed: something was added");
    let mut again = text.clone();
    again.extend(next_entry(&change.number, Some(4), head, fact("a", None)).line());
    again.push(b'\n');
    refused(&change, &again, "entry 5 tells a again");
}

#[test]
fn a_change_that_was_altered_or_lost_its_seal_is_found() {
    let (change, text) = sealed();
    let mut other = change.clone();
    other.canceled_why = Some("because".to_owned());
    refused(&other, &text, "the change is not as entry 3 left it");
    let mut bare = change.clone();
    bare.evidence = None;
    refused(&bare, &text, "was not sealed");
    let mut named = change;
    named.number = "CHG0000002".to_owned();
    refused(&named, &text, "entry 1 is of CHG0000001, not of CHG0000002");
}

#[test]
fn two_package_sets_have_the_same_digest_only_where_they_are_the_same() {
    let set = |text: &str| serde_json::from_str::<PackageSet>(text).expect("a set");
    let one = set(r#"[["jq","amd64","1","ii"],["zip","all","2","ii"]]"#);
    assert_eq!(
        package_set_digest(&one),
        package_set_digest(&set(r#"[["zip","all","2","ii"],["jq","amd64","1","ii"]]"#))
    );
    assert_ne!(
        package_set_digest(&one),
        package_set_digest(&set(r#"[["jq","amd64","1","iF"],["zip","all","2","ii"]]"#))
    );
}
