//! The rules of a change, one behaviour each.

use proptest::prelude::*;

use super::*;
use crate::{Cause, UndoWay};

const NOW: Instant = Instant(1_000);

fn digest(fill: char) -> PlanDigest {
    PlanDigest::try_from(format!("sha256:{}", fill.to_string().repeat(64))).expect("a digest")
}

fn opened(kind: ChangeType, mode: Mode) -> ChangeRequest {
    let draft = Draft {
        title: "Security updates".to_owned(),
        kind,
        mode,
        requester: Actor::Service("patchloom".to_owned()),
        digest: digest('a'),
        plan: None,
        window: Window { start: Instant(500), end: Instant(2_000) },
        hosts: vec!["web1".to_owned(), "web2".to_owned()],
        implementation_plan: "install".to_owned(),
        backout_plan: "former versions".to_owned(),
        test_plan: "scan".to_owned(),
        risk: "low".to_owned(),
    };
    ChangeRequest::open("CHG0000001".to_owned(), "run-1".to_owned(), draft, Instant(1))
}

fn ann() -> Actor {
    Actor::Person("ann".to_owned())
}

fn order(by: Actor, command: Command) -> Order {
    Order { by, at: NOW, command }
}

#[track_caller]
fn go(change: &ChangeRequest, command: Command) -> ChangeRequest {
    go_as(change, ann(), command)
}

#[track_caller]
fn go_as(change: &ChangeRequest, by: Actor, command: Command) -> ChangeRequest {
    let order = order(by, command);
    let once = change.apply(&order).expect("taken");
    assert!(!once.events.is_empty(), "it should do something");
    let twice = once.change.apply(&order).expect("a repeat is taken");
    assert_eq!((twice.events.len(), &twice.change), (0, &once.change), "a repeat changes nothing");
    once.change
}

#[track_caller]
fn refused(change: &ChangeRequest, by: Actor, command: Command, code: &str, part: &str) {
    let refusal = change.apply(&order(by, command)).expect_err("must be refused");
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.to_string().contains(part), "{refusal}");
}

fn approve(fill: char) -> Command {
    Command::Approve { digest: digest(fill), comment: None }
}

fn finish(host: &str, outcome: HostOutcome) -> Command {
    Command::Finish { host: host.to_owned(), outcome }
}

fn failed() -> HostOutcome {
    let cause = Cause { code: "SCRIPTLET".to_owned(), message: "postinst of jq".to_owned() };
    HostOutcome::RolledBack { cause, way: UndoWay::Packages, verified: true }
}

fn at_work(mode: Mode) -> ChangeRequest {
    let mut change = opened(ChangeType::Normal, mode);
    for command in [
        Command::Advance(ChangeState::Assess),
        Command::Advance(ChangeState::Authorize),
        approve('a'),
        Command::Advance(ChangeState::Scheduled),
        Command::Advance(ChangeState::Implement),
    ] {
        change = go(&change, command);
    }
    change
}

#[test]
fn a_normal_change_goes_through_every_state() {
    let mut change = at_work(Mode::Apply);
    for host in ["web1", "web2"] {
        change = go(&change, Command::Touch { host: host.to_owned() });
        change = go(&change, finish(host, HostOutcome::Installed));
    }
    change = go(&change, Command::Advance(ChangeState::Review));
    change = go(&change, Command::Close { code: CloseCode::Successful, notes: "2 hosts".to_owned() });
    let states: Vec<_> = change.history.iter().map(|step| step.to.code()).collect();
    assert_eq!(states, [-5, -4, -3, -2, -1, 0, 3]);
    assert!(change.next_states(NOW).is_empty());
}

#[test]
fn no_state_is_skipped() {
    let change = opened(ChangeType::Normal, Mode::Apply);
    for to in [ChangeState::Authorize, ChangeState::Scheduled, ChangeState::Implement, ChangeState::Review] {
        refused(&change, ann(), Command::Advance(to), "E0601", "does not follow New");
    }
    refused(&change, ann(), Command::Advance(ChangeState::Closed), "E0601", "order to close");
}

#[test]
fn a_standard_change_goes_from_new_to_scheduled_by_its_policy() {
    let change = opened(ChangeType::Standard, Mode::Apply);
    refused(&change, ann(), Command::Advance(ChangeState::Scheduled), "E0601", "approved by someone who may");
    let change = go_as(&change, Actor::Policy("monthly".to_owned()), approve('a'));
    assert_eq!(go(&change, Command::Advance(ChangeState::Scheduled)).state, ChangeState::Scheduled);
}

#[test]
fn an_emergency_change_skips_assess_and_still_needs_a_person() {
    let change = go(&opened(ChangeType::Emergency, Mode::Apply), Command::Advance(ChangeState::Authorize));
    refused(&change, Actor::Policy("monthly".to_owned()), approve('a'), "E0602", "may not approve");
    go(&change, approve('a'));
}

#[test]
fn the_requester_never_approves_their_own_change() {
    let change = go(&opened(ChangeType::Normal, Mode::Apply), Command::Advance(ChangeState::Assess));
    refused(&change, Actor::Service("patchloom".to_owned()), approve('a'), "E0602", "may not approve");
    refused(&change, Actor::Person("patchloom".to_owned()), approve('a'), "E0602", "may not approve");
    refused(&change, Actor::Policy("observe-runs".to_owned()), approve('a'), "E0602", "in apply mode");
}

#[test]
fn a_policy_authorizes_an_observe_run() {
    let change = go(&opened(ChangeType::Normal, Mode::Observe), Command::Advance(ChangeState::Assess));
    let change = go_as(&change, Actor::Policy("observe-runs".to_owned()), approve('a'));
    assert!(change.is_authorized(&digest('a')));
}

#[test]
fn an_approval_of_another_plan_is_refused() {
    let change = go(&opened(ChangeType::Normal, Mode::Apply), Command::Advance(ChangeState::Assess));
    refused(&change, ann(), approve('b'), "E0603", "the change now holds");
}

#[test]
fn a_plan_that_changes_voids_its_approval_and_leaves_scheduled() {
    let mut change = opened(ChangeType::Normal, Mode::Apply);
    for command in [
        Command::Advance(ChangeState::Assess),
        Command::Advance(ChangeState::Authorize),
        approve('a'),
        Command::Advance(ChangeState::Scheduled),
        Command::Replan {
            digest: digest('b'),
            hosts: vec!["web1".to_owned()],
            plan: None,
            implementation_plan: "other".to_owned(),
        },
    ] {
        change = go(&change, command);
    }
    assert_eq!(change.state, ChangeState::Authorize);
    assert!(!change.is_authorized(&digest('a')) && !change.is_authorized(&digest('b')));
    assert!(change.approvals[0].void.is_some());
    refused(&change, ann(), Command::Advance(ChangeState::Scheduled), "E0601", "approved");
    assert!(go(&change, approve('b')).is_authorized(&digest('b')));
}

#[test]
fn a_plan_does_not_change_under_work() {
    let command =
        Command::Replan { digest: digest('b'), hosts: vec![], plan: None, implementation_plan: "other".to_owned() };
    refused(&at_work(Mode::Apply), ann(), command, "E0603", "cannot change");
}

#[test]
fn going_back_to_new_voids_the_approval() {
    let change = go(&opened(ChangeType::Normal, Mode::Apply), Command::Advance(ChangeState::Assess));
    let change = go(&change, approve('a'));
    let change = go(&change, Command::Revert { why: "more hosts".to_owned() });
    assert!(!change.is_authorized(&digest('a')));
    let command = Command::Revert { why: "too late".to_owned() };
    refused(&at_work(Mode::Apply), ann(), command, "E0601", "only Assess and Authorize");
}

#[test]
fn a_rejection_takes_back_an_approval_and_needs_a_reason() {
    let change = go(&opened(ChangeType::Normal, Mode::Apply), Command::Advance(ChangeState::Assess));
    let change = go(&change, approve('a'));
    refused(&change, ann(), Command::Reject { comment: " ".to_owned() }, "E0608", "comment");
    let change = go(&change, Command::Reject { comment: "freeze".to_owned() });
    assert!(!change.is_authorized(&digest('a')));
}

#[test]
fn nothing_begins_outside_the_window() {
    let mut change = opened(ChangeType::Normal, Mode::Apply);
    for command in [
        Command::Advance(ChangeState::Assess),
        Command::Advance(ChangeState::Authorize),
        approve('a'),
        Command::Advance(ChangeState::Scheduled),
    ] {
        change = go(&change, command);
    }
    for at in [Instant(499), Instant(2_000)] {
        let order = Order { by: ann(), at, command: Command::Advance(ChangeState::Implement) };
        let refusal = change.apply(&order).expect_err("outside the window");
        assert!(refusal.to_string().contains("window is open"), "{refusal}");
    }
}

#[test]
fn a_change_with_an_open_task_is_not_reviewed() {
    let change = go(&at_work(Mode::Apply), finish("web1", HostOutcome::Installed));
    refused(&change, ann(), Command::Advance(ChangeState::Review), "E0601", "every host has an outcome");
    refused(&change, ann(), finish("db9", HostOutcome::Installed), "E0608", "does not cover");
}

#[test]
fn a_touched_change_is_closed_and_never_canceled() {
    let cancel = || Command::Cancel { why: "no".to_owned() };
    go(&opened(ChangeType::Normal, Mode::Apply), cancel());
    go(&at_work(Mode::Apply), cancel());
    let touched = go(&at_work(Mode::Apply), Command::Touch { host: "web1".to_owned() });
    refused(&touched, ann(), cancel(), "E0601", "close it unsuccessful");
}

#[test]
fn a_close_code_tells_the_truth_about_every_host() {
    let close = |code| Command::Close { code, notes: "done".to_owned() };
    let change = go(&at_work(Mode::Apply), finish("web1", HostOutcome::Installed));
    let change = go(&change, finish("web2", failed()));
    refused(&change, ann(), close(CloseCode::Unsuccessful), "E0601", "only Review");
    let change = go(&change, Command::Advance(ChangeState::Review));
    refused(&change, ann(), close(CloseCode::Successful), "E0601", "of every host");
    let empty = Command::Close { code: CloseCode::Unsuccessful, notes: String::new() };
    refused(&change, ann(), empty, "E0601", "close notes");
    go(&change, close(CloseCode::SuccessfulIssues));
    let none = go(&change, finish("web1", failed()));
    refused(&none, ann(), close(CloseCode::SuccessfulIssues), "E0601", "at least one");
    go(&none, close(CloseCode::Unsuccessful));
}

#[test]
fn a_closed_change_is_corrected_downwards_only() {
    let mut change = at_work(Mode::Apply);
    for command in [
        finish("web1", HostOutcome::Installed),
        finish("web2", HostOutcome::Installed),
        Command::Advance(ChangeState::Review),
        Command::Close { code: CloseCode::Successful, notes: "fine".to_owned() },
        Command::Amend { code: CloseCode::Unsuccessful, notes: "rolled back after all".to_owned() },
    ] {
        change = go(&change, command);
    }
    let better = Command::Amend { code: CloseCode::Successful, notes: "no".to_owned() };
    refused(&change, ann(), better, "E0608", "downwards only");
}

#[test]
fn a_note_is_written_once_and_has_a_limit() {
    let note = |len: usize, key: &str| Command::Note { text: "x".repeat(len), key: key.to_owned() };
    let change = go(&opened(ChangeType::Normal, Mode::Apply), note(machine::NOTE_BYTES_MAX, "a"));
    refused(&change, ann(), note(machine::NOTE_BYTES_MAX + 1, "b"), "E0608", "limit");
    assert_eq!(change.notes.len(), 1);
}

#[test]
fn a_change_reads_back_as_it_was_written() {
    let change = go(&at_work(Mode::Apply), finish("web2", failed()));
    let text = serde_json::to_string_pretty(&change).expect("has a JSON form");
    assert_eq!(serde_json::from_str::<ChangeRequest>(&text).expect("reads back"), change);
}

fn any_command() -> impl Strategy<Value = Command> {
    use ChangeState::{Assess, Authorize, Canceled, Closed, Implement, New, Review, Scheduled};
    let states = vec![New, Assess, Authorize, Scheduled, Implement, Review, Closed, Canceled];
    let host = || proptest::sample::select(vec!["web1", "web2"]).prop_map(str::to_owned);
    let outcome = proptest::sample::select(vec![HostOutcome::Installed, failed()]);
    let code =
        proptest::sample::select(vec![CloseCode::Successful, CloseCode::SuccessfulIssues, CloseCode::Unsuccessful]);
    prop_oneof![
        6 => proptest::sample::select(states).prop_map(Command::Advance),
        3 => proptest::sample::select(vec!['a', 'b']).prop_map(approve),
        1 => Just(Command::Reject { comment: "no".to_owned() }),
        1 => Just(Command::Revert { why: "w".to_owned() }),
        1 => Just(Command::Replan { digest: digest('b'), hosts: vec!["web1".to_owned(), "web2".to_owned()], plan: None, implementation_plan: "other".to_owned() }),
        2 => host().prop_map(|host| Command::Touch { host }),
        3 => (host(), outcome).prop_map(|(host, outcome)| Command::Finish { host, outcome }),
        2 => code.prop_map(|code| Command::Close { code, notes: "n".to_owned() }),
        1 => Just(Command::Cancel { why: "c".to_owned() }),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_orders_touches_a_host_without_approval_nor_lies_at_the_end(
        commands in proptest::collection::vec(any_command(), 0..60), people in any::<bool>()
    ) {
        let by = if people { ann() } else { Actor::Service("patchloom".to_owned()) };
        let mut change = opened(ChangeType::Normal, Mode::Apply);
        for command in commands {
            let order = order(by.clone(), command);
            let Ok(applied) = change.apply(&order) else { continue };
            let again = applied.change.apply(&order).expect("a repeat is never refused");
            prop_assert_eq!(&again.change, &applied.change);
            change = applied.change;
            if matches!(change.state, ChangeState::Implement | ChangeState::Review) || change.is_touched() {
                prop_assert!(change.is_authorized(&change.draft.digest));
                prop_assert!(people);
            }
            if change.state == ChangeState::Canceled {
                prop_assert!(!change.is_touched());
            }
            if change.closure.as_ref().is_some_and(|c| c.code == CloseCode::Successful) {
                prop_assert!(change.tasks.values().all(|t| t.outcome.as_ref().is_some_and(HostOutcome::is_success)));
            }
        }
    }
}
