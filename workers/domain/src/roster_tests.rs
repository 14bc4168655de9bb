//! Who goes first, and who may begin.

use super::*;
use crate::{Actor, Cause, ChangeState, ChangeType, Command, Draft, Mode, Order, PlanDigest, Target, UndoWay, Window};

const HOUR: u64 = 60 * 60 * 1000;
const RULES: WaveRules = WaveRules { canary: 1, pilot: 2, canary_failures: 0, pilot_failures: 1 };

fn host(id: &str, environment: Option<Environment>, criticality: Option<u8>) -> (Host, u64, Vec<CampaignPatch>) {
    let host = Host {
        id: id.to_owned(),
        target: Target::Local,
        names: Vec::new(),
        addresses: Vec::new(),
        os: None,
        environment,
        criticality: criticality.and_then(Criticality::new),
        exposed: None,
        owner: None,
        business_unit: None,
        site: None,
        relay: None,
        device_class: None,
        cluster: None,
        tags: Default::default(),
    };
    (host, 10 * 60 * 1000, vec![CampaignPatch { package: "jq".to_owned(), version: "2".to_owned() }])
}

fn roster() -> Roster {
    let hosts = vec![
        host("p5", Some(Environment::Prod), Some(5)),
        host("unsaid", None, None),
        host("p1", Some(Environment::Prod), Some(1)),
        host("d", Some(Environment::Dev), Some(5)),
        host("t", Some(Environment::Test), Some(1)),
    ];
    Roster::new(hosts, RULES)
}

fn at_work() -> ChangeRequest {
    at_work_on(&roster())
}

fn at_work_on(roster: &Roster) -> ChangeRequest {
    let digest = PlanDigest::try_from(format!("sha256:{}", "a".repeat(64))).unwrap();
    let draft = Draft {
        title: "x".to_owned(),
        kind: ChangeType::Normal,
        mode: Mode::Apply,
        requester: Actor::Service("patchloom".to_owned()),
        digest: digest.clone(),
        plan: None,
        window: Window { start: Instant(0), end: Instant(HOUR) },
        hosts: roster.hosts.iter().map(|entry| entry.host.id.clone()).collect(),
        implementation_plan: "x".to_owned(),
        backout_plan: "x".to_owned(),
        test_plan: "x".to_owned(),
        risk: "x".to_owned(),
    };
    let mut change = ChangeRequest::open("CHG1".to_owned(), "run".to_owned(), draft, Instant(0));
    for command in [
        Command::Advance(ChangeState::Assess),
        Command::Advance(ChangeState::Authorize),
        Command::Approve { digest, comment: None },
        Command::Advance(ChangeState::Scheduled),
        Command::Advance(ChangeState::Implement),
    ] {
        change = ordered(change, command);
    }
    change
}

fn ordered(change: ChangeRequest, command: Command) -> ChangeRequest {
    change.apply(&Order { by: Actor::Person("ann".to_owned()), at: Instant(1), command }).unwrap().change
}

fn finished(change: ChangeRequest, host: &str, outcome: HostOutcome) -> ChangeRequest {
    ordered(change, Command::Finish { host: host.to_owned(), outcome })
}

fn rolled_back() -> HostOutcome {
    let cause = Cause { code: "SCRIPTLET".to_owned(), message: "postinst".to_owned() };
    HostOutcome::RolledBack { cause, way: UndoWay::Packages, verified: true }
}

#[track_caller]
fn deferred(change: &ChangeRequest, host: &str, now: Instant, part: &str) {
    match roster().admit(change, host, now) {
        Admission::Deferred { why } => assert!(why.contains(part), "{why}"),
        Admission::Admitted => panic!("{host} was admitted"),
    }
}

#[test]
fn what_is_least_missed_goes_first() {
    let order: Vec<_> = roster().hosts.into_iter().map(|entry| (entry.host.id, entry.wave)).collect();
    let order: Vec<_> = order.iter().map(|(id, wave)| (id.as_str(), *wave)).collect();
    let broad = Wave::Broad;
    assert_eq!(order, [("d", Wave::Canary), ("t", Wave::Pilot), ("p1", Wave::Pilot), ("unsaid", broad), ("p5", broad)]);
}

#[test]
fn a_host_that_would_not_end_in_the_window_is_deferred() {
    let change = at_work();
    assert_eq!(roster().admit(&change, "d", Instant(50 * 60 * 1000)), Admission::Admitted);
    deferred(&change, "d", Instant(50 * 60 * 1000 + 1), "the window closes in 9 minutes");
    deferred(&change, "d", Instant(2 * HOUR), "the window closes in 0 minutes");
}

#[test]
fn a_canary_that_fails_keeps_the_others_away_and_a_pilot_bears_what_it_may() {
    let change = at_work();
    assert_eq!(roster().admit(&change, "p5", Instant(1)), Admission::Admitted);
    let bad = finished(change.clone(), "d", rolled_back());
    deferred(&bad, "t", Instant(1), "1 of 1 hosts of the canary wave did not come through (d), 0 may");
    deferred(&bad, "p5", Instant(1), "canary");
    let one = finished(change, "t", rolled_back());
    assert_eq!(roster().admit(&one, "p5", Instant(1)), Admission::Admitted);
    let cause = Cause { code: "E0571".to_owned(), message: "no route".to_owned() };
    let two = finished(one, "p1", HostOutcome::NotBegun { cause });
    deferred(&two, "p5", Instant(1), "2 of 2 hosts of the pilot wave did not come through (t, p1), 1 may");
}

#[test]
fn who_was_deferred_is_no_failure_and_a_stranger_is_not_admitted() {
    let change = finished(at_work(), "d", HostOutcome::Deferred { why: "later".to_owned() });
    assert_eq!(roster().admit(&change, "t", Instant(1)), Admission::Admitted);
    deferred(&change, "nobody", Instant(1), "not on the roster");
}

/// Forty hosts behind two relays.
fn many() -> Roster {
    let hosts = (0..40).map(|at| {
        let (mut host, expected, patches) = host(&format!("h{at:02}"), Some(Environment::Prod), None);
        host.relay = Some(format!("relay-{}", at % 2));
        (host, expected, patches)
    });
    Roster::new(hosts.collect(), WaveRules { canary: 0, pilot: 0, canary_failures: 0, pilot_failures: 0 })
}

fn not_fetched() -> HostOutcome {
    let cause = Cause { code: "FETCH".to_owned(), message: "404".to_owned() };
    HostOutcome::RolledBack { cause, way: UndoWay::NothingToUndo, verified: true }
}

#[test]
fn behind_a_relay_that_fails_nobody_begins_and_the_others_go_on() {
    let roster = many();
    let mut change = at_work_on(&roster);
    for at in (0..12).step_by(2) {
        change = finished(change, &format!("h{at:02}"), not_fetched());
        change = finished(change, &format!("h{:02}", at + 1), HostOutcome::Installed);
    }
    let Admission::Deferred { why } = roster.admit(&change, "h30", Instant(1)) else { panic!("behind the bad relay") };
    assert!(why.starts_with("pause relay relay-0: "), "{why}");
    assert_eq!(roster.admit(&change, "h31", Instant(1)), Admission::Admitted);
}

#[test]
fn one_host_that_fails_stops_nobody() {
    let roster = many();
    let mut change = finished(at_work_on(&roster), "h00", rolled_back());
    for at in 1..10 {
        change = finished(change, &format!("h{at:02}"), HostOutcome::Installed);
    }
    assert_eq!(roster.admit(&change, "h30", Instant(1)), Admission::Admitted);
}

#[test]
fn a_patch_that_fails_everywhere_halts_the_campaign() {
    let roster = many();
    let mut change = at_work_on(&roster);
    for at in 0..8 {
        change = finished(change, &format!("h{at:02}"), rolled_back());
    }
    let Admission::Deferred { why } = roster.admit(&change, "h30", Instant(1)) else { panic!("it goes on") };
    assert!(why.starts_with("halt campaign: "), "{why}");
}
