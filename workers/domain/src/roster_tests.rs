//! Who may begin, and who goes on after a pause.

use super::*;
use crate::{
    Actor, Cause, ChangeState, ChangeType, Command, Criticality, Draft, Durations, Environment, FailureRates, Found,
    Limits, Mode, Occurrence, Offer, Order, PlanDigest, PlanInput, PlanSettings, RebootRule, Target, UndoWay, WaveRule,
    WaveSize, Window, plan_campaign,
};

const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;

fn host(id: &str, environment: Option<Environment>, criticality: Option<u8>) -> Host {
    Host {
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
        // Looks of their own: each wave has the size that was asked for.
        site: Some(format!("site of {id}")),
        relay: None,
        device_class: None,
        cluster: None,
        snapshot: None,
        tags: Default::default(),
    }
}

/// Waves of one, two and all others; none of the first may fail, one of the second.
fn rules() -> Vec<WaveRule> {
    let rule = |name: &str, size, failures| WaveRule { name: name.to_owned(), size, soak_ms: 0, failures };
    vec![
        rule("canary", WaveSize::Count(1), Some(0)),
        rule("pilot", WaveSize::Count(2), Some(1)),
        rule("broad", WaveSize::BasisPoints(10_000), None),
    ]
}

fn planned(hosts: Vec<Host>, waves: Vec<WaveRule>, close: u64) -> Roster {
    let offer: Offer = serde_json::from_value(serde_json::json!({
        "name": "jq", "arch": "amd64", "installed": "1", "candidate": "2", "source": "jq", "source_version": "2",
        "origin": "x", "security": true, "sha256": null, "size_bytes": null,
    }))
    .unwrap();
    let found = |host: &Host| Found {
        host: host.id.clone(),
        patches: vec![offer.clone()],
        withheld: Vec::new(),
        undo: crate::UndoIntent::Packages,
        no_undo: None,
        not_patchable: None,
        deadline: None,
    };
    let night = Occurrence { open: Instant(0), close: Instant(close), last_start: Instant(close - 10 * MINUTE) };
    let settings = PlanSettings {
        mode: Mode::Apply,
        now: Instant(0),
        waves,
        limits: Limits { max_parallel: 50, per_relay: Some(10), per_site: None },
        cutoff: CutoffRule::Start,
        reboot: RebootRule::Never,
        reboot_reserve_ms: 0,
    };
    let (windows, found): (_, Vec<Found>) =
        ([("night".to_owned(), vec![night])].into(), hosts.iter().map(found).collect());
    let input = PlanInput {
        hosts: &hosts,
        found: &found,
        baselines: &[],
        groups: &Default::default(),
        conflicts: &Default::default(),
        holds: &[],
        windows: &windows,
        window_of: &hosts.iter().map(|host| (host.id.clone(), "night".to_owned())).collect(),
        needs: &Default::default(),
        durations: &Durations::default(),
        rates: &FailureRates::default(),
    };
    let hosts: Vec<(Host, Option<String>)> = hosts.iter().map(|host| (host.clone(), None)).collect();
    Roster::new(plan_campaign(input, &settings).unwrap(), &hosts)
}

fn roster() -> Roster {
    let hosts = vec![
        host("p5", Some(Environment::Prod), Some(5)),
        host("unsaid", None, None),
        host("p1", Some(Environment::Prod), Some(1)),
        host("d", Some(Environment::Dev), Some(5)),
        host("t", Some(Environment::Prod), Some(1)),
    ];
    planned(hosts, rules(), HOUR)
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
        hosts: roster.hosts.keys().cloned().collect(),
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
    match roster().admit(change, host, now, None) {
        Admission::Deferred { why } => assert!(why.contains(part), "{why}"),
        Admission::Admitted => panic!("{host} was admitted"),
    }
}

#[test]
fn a_host_that_would_not_end_in_the_window_is_deferred() {
    let (roster, change) = (roster(), at_work());
    let need = roster.plan.slot("d").unwrap();
    let last = Instant(HOUR - need.latest_end.since(need.start)).min(Instant(50 * MINUTE - 1));
    assert_eq!(roster.last_start(need), last);
    assert_eq!(roster.admit(&change, "d", last, None), Admission::Admitted);
    deferred(&change, "d", last.plus(1), "the window closes in 10 minutes (its cutoff is 10 minutes before that)");
    deferred(&change, "d", Instant(2 * HOUR), "the window closes in 0 minutes");
}

#[test]
fn a_canary_that_fails_keeps_the_others_away_and_a_pilot_bears_what_it_may() {
    let change = at_work();
    assert_eq!(roster().admit(&change, "p5", Instant(1), None), Admission::Admitted);
    let bad = finished(change.clone(), "d", rolled_back());
    deferred(&bad, "t", Instant(1), "1 of 1 hosts of the canary wave did not come through (d), 0 may");
    deferred(&bad, "p5", Instant(1), "canary");
    let one = finished(change, "t", rolled_back());
    assert_eq!(roster().admit(&one, "p5", Instant(1), None), Admission::Admitted);
    let cause = Cause { code: "E0571".to_owned(), message: "no route".to_owned() };
    let two = finished(one, "p1", HostOutcome::NotBegun { cause });
    deferred(&two, "p5", Instant(1), "2 of 2 hosts of the pilot wave did not come through (p1, t), 1 may");
}

#[test]
fn who_was_deferred_is_no_failure_and_a_stranger_is_not_admitted() {
    let change = finished(at_work(), "d", HostOutcome::Deferred { why: "later".to_owned() });
    assert_eq!(roster().admit(&change, "t", Instant(1), None), Admission::Admitted);
    deferred(&change, "nobody", Instant(1), "not on the roster");
}

/// Forty hosts behind two relays, in one wave.
fn many() -> Roster {
    let hosts = (0..40).map(|at| {
        let relay = Some(format!("relay-{}", at % 2));
        Host { relay, site: None, ..host(&format!("h{at:02}"), Some(Environment::Prod), None) }
    });
    let all = rules().pop().unwrap();
    planned(hosts.collect(), vec![WaveRule { name: "broad".to_owned(), ..all }], 24 * HOUR)
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
    let Admission::Deferred { why } = roster.admit(&change, "h30", Instant(1), None) else {
        panic!("behind the bad relay")
    };
    assert!(why.starts_with("pause relay relay-0: "), "{why}");
    assert_eq!(roster.admit(&change, "h31", Instant(1), None), Admission::Admitted);
}

#[test]
fn one_host_that_fails_stops_nobody() {
    let roster = many();
    let mut change = finished(at_work_on(&roster), "h00", rolled_back());
    for at in 1..10 {
        change = finished(change, &format!("h{at:02}"), HostOutcome::Installed);
    }
    assert_eq!(roster.admit(&change, "h30", Instant(1), None), Admission::Admitted);
}

#[test]
fn a_patch_that_fails_everywhere_halts_the_campaign() {
    let roster = many();
    let mut change = at_work_on(&roster);
    for at in 0..8 {
        change = finished(change, &format!("h{at:02}"), rolled_back());
    }
    let Admission::Deferred { why } = roster.admit(&change, "h30", Instant(1), None) else { panic!("it goes on") };
    assert!(why.starts_with("halt campaign: "), "{why}");
}

fn put_off(roster: &Roster, change: ChangeRequest, host: &str, pardon: Option<&Pardon>) -> ChangeRequest {
    let Admission::Deferred { why } = roster.admit(&change, host, Instant(1), pardon) else {
        panic!("{host} may begin")
    };
    finished(change, host, HostOutcome::Deferred { why })
}

#[test]
fn behind_a_relay_that_came_back_one_host_is_tried_and_the_others_follow_it() {
    let roster = many();
    let mut change = at_work_on(&roster);
    for at in (0..12).step_by(2) {
        change = finished(change, &format!("h{at:02}"), not_fetched());
        change = finished(change, &format!("h{:02}", at + 1), HostOutcome::Installed);
    }
    assert_eq!(roster.paused(&change).scopes, [], "nobody was kept away yet");
    for host in ["h12", "h14", "h16"] {
        change = put_off(&roster, change, host, None);
    }
    change = finished(change, "h13", HostOutcome::Deferred { why: "the window closes in 3 minutes".to_owned() });
    let pardon = roster.paused(&change);
    let [scope] = pardon.scopes.as_slice() else { panic!("one relay: {pardon:?}") };
    assert_eq!((scope.scope.to_string().as_str(), scope.tried.as_str()), ("relay relay-0", "h12"));
    assert_eq!(scope.hosts, ["h12", "h14", "h16"]);
    assert!(roster.last_start(roster.plan.slot("h12").unwrap()) > Instant(HOUR));
    assert_eq!(scope.until, Instant(HOUR), "the planned time of the change is over before the window is");
    assert_eq!(pardon.forgiven.len(), 6);

    let admit = |change: &ChangeRequest, host: &str| roster.admit(change, host, Instant(1), Some(&pardon));
    assert_eq!(admit(&change, "h12"), Admission::Admitted, "the one that is tried");
    let Admission::Deferred { why } = admit(&change, "h14") else { panic!("before the first came through") };
    assert_eq!(why, "relay relay-0 is still paused: h12, which was tried first, did not come through");
    let well = finished(change.clone(), "h12", HostOutcome::Installed);
    assert_eq!(admit(&well, "h14"), Admission::Admitted);
    let bad = finished(change, "h12", not_fetched());
    assert!(matches!(admit(&bad, "h14"), Admission::Deferred { .. }));
    // What fails after the pause counts anew.
    let again = ["h14", "h16", "h18", "h20", "h22", "h24"];
    let worse = again.iter().fold(well, |change, host| finished(change, host, not_fetched()));
    let Admission::Deferred { why } = admit(&worse, "h26") else { panic!("it fails again") };
    assert!(why.starts_with("pause relay relay-0: "), "{why}");
}

#[test]
fn before_its_window_opens_nobody_begins() {
    let mut roster = roster();
    let mut text = serde_json::to_value(&roster.plan).unwrap();
    let night = text["slots"][0]["occurrence"].clone();
    assert_eq!(night["open"], 0);
    text["slots"][0]["occurrence"]["open"] = serde_json::json!(5);
    let refused = serde_json::from_value::<CampaignPlan>(text).unwrap_err().to_string();
    assert!(refused.contains("its content is"), "waves and windows are under the digest: {refused}");
    roster = planned(vec![host("d", None, None)], rules(), HOUR);
    let other = Roster { hosts: roster.hosts.clone(), ..planned(vec![host("d", None, None)], rules(), 2 * HOUR) };
    assert_ne!(other.plan.digest(), roster.plan.digest());
    assert_eq!(other.plan.plan().digest(), other.plan.digest(), "what the change is approved for");
}
