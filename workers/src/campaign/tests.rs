//! The tasks of a campaign on a real register and artifact store, each twice.

use std::path::Path;

use patchloom_core::{Failure, Leg, RunId, TaskKey};
use patchloom_domain::{
    Actor, Cause, ChangeRequest, Command, HostOutcome, Instant, Order, Plan, Roster, WithheldReason,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::artifact::ArtifactId;
use crate::changes;
use crate::register::Register;
use crate::runtime::{DataDir, Handler, TaskContext};

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn register(&self) -> Register {
        Register::open(&self.path().join("changes")).unwrap()
    }

    fn change(&self) -> ChangeRequest {
        self.register().get("CHG0000001").unwrap()
    }

    /// Runs a task twice, as at-least-once delivery does; the second time must answer and leave the same.
    async fn twice(&self, handler: impl Handler, input: Value) -> Result<Value, Failure> {
        let run = RunId("018f0000-0000-7000-8000-000000000001".parse().unwrap());
        let key = TaskKey { run, step: handler.uses().into(), item: 0, attempt: 1, leg: Leg::Forward };
        let context = TaskContext::new(key, 0, CancellationToken::new(), DataDir::new(self.path())).0;
        let contracts = crate::contracts();
        let contract = contracts.get(handler.uses()).unwrap();
        assert_eq!(contract.takes(&input), Ok(()), "{}", handler.uses());
        let once = handler.run(&context, input.clone()).await;
        if let Ok(output) = &once {
            assert_eq!(contract.gives(output), Ok(()), "{}", handler.uses());
        }
        let before = self.register().list().unwrap().changes;
        let again = handler.run(&context, input).await;
        assert_eq!(self.register().list().unwrap().changes, before, "{} twice", handler.uses());
        assert_eq!(once.is_ok(), again.is_ok());
        once
    }

    /// What correlation found on a host: these packages, at these versions, with these on offer.
    fn missing(&self, rows: &[(&str, &str, &str)]) -> ArtifactId {
        let row = |(name, installed, candidate): &(&str, &str, &str)| {
            json!({
                "name": name, "arch": "amd64", "installed": installed, "candidate": candidate, "source": name,
                "source_version": candidate, "origin": "Debian-Security:12/oldstable-security", "security": true,
                "sha256": null, "size_bytes": null, "cves": [],
            })
        };
        let missing = json!({ "patches": rows.iter().map(row).collect::<Vec<_>>(), "kept_back": [], "removes": [], "withheld": [] });
        DataDir::new(self.path()).artifacts().put_json(&missing).unwrap()
    }

    fn found(&self, host: &str, rows: &[(&str, &str, &str)]) -> Value {
        json!({
            "host": host, "missing": self.missing(rows), "packages": "sha256:x", "findings": "sha256:y", "download_bytes": 7,
        })
    }

    async fn plan(&self, found: Value, more: Value) -> Value {
        let mut input = json!({ "hosts": hosts(), "found": found, "mode": "apply", "planning": planning() });
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        self.twice(MakeCampaign, input).await.unwrap()
    }

    fn read<T: serde::de::DeserializeOwned>(&self, id: &Value) -> T {
        let id: ArtifactId = id.as_str().unwrap().parse().unwrap();
        DataDir::new(self.path()).artifacts().get_json(&id).unwrap()
    }

    fn order(&self, command: Command) {
        let order = Order { by: Actor::Person("ann".to_owned()), at: Instant(5), command };
        self.register().apply("CHG0000001", &order).unwrap();
    }

    /// A change of this plan, approved and at work.
    async fn at_work(&self, plan: &Value) {
        self.twice(changes::Open, json!({ "plan": plan["artifact"], "correlation_id": "c" })).await.unwrap();
        self.order(Command::Approve { digest: self.change().draft.digest, comment: None });
        for handler in ["authorize", "implement"] {
            let input = json!({ "change": "CHG0000001" });
            match handler {
                "authorize" => self.twice(changes::Authorize, input).await.unwrap(),
                _ => self.twice(changes::Implement, input).await.unwrap(),
            };
        }
    }
}

/// In no order: the plan puts them in one.
fn hosts() -> Value {
    let host = |id: &str, environment: &str| json!({ "id": id, "target": { "kind": "ssh", "host": format!("{id}.example") }, "environment": environment, "relay": "r1" });
    json!([host("web-2", "prod"), host("web-1", "test"), host("dev-1", "dev")])
}

/// Waves of one, one and all others, in a week that is open to all from the first instant on.
fn planning() -> Value {
    let wave =
        |name: &str, size: &str, failures: Option<u32>| json!({ "name": name, "size": size, "failures": failures });
    let week = json!([{ "open": 0, "close": u64::MAX / 4, "last_start": u64::MAX / 4 }]);
    json!({
        "waves": [wave("canary", "1", Some(0)), wave("pilot", "1", Some(0)), wave("broad", "100%", None)],
        "windows": { "week": week }, "window_of": { "web-2": "week", "web-1": "week", "dev-1": "week" },
        "limits": { "max_parallel": 50, "per_relay": 2 },
    })
}

const OLD: &[(&str, &str, &str)] = &[("jq", "1", "2")];

#[tokio::test]
async fn one_plan_holds_what_all_hosts_lack_and_says_who_goes_first_and_who_is_left_out() {
    let lab = Lab::new();
    let found = json!([lab.found("web-2", OLD), null, lab.found("dev-1", &[("jq", "1", "2"), ("zip", "3", "4")])]);
    let failed = json!([{ "index": 1, "item": {}, "key": "web-1", "code": "E0571", "message": "no route" }]);
    let plan = lab.plan(found, json!({ "failed": failed })).await;
    let facts = (&plan["count"], &plan["packages"], &plan["drifted"], &plan["difference"]);
    assert_eq!(facts, (&json!(2), &json!(3), &json!(false), &json!("")));
    assert_eq!(plan["left_out"], json!([{ "host": "web-1", "why": "E0571: no route" }]));
    let waves: Vec<_> = plan["waves"].as_array().unwrap().iter().map(|wave| &wave["name"]).collect();
    assert_eq!(waves, ["canary", "pilot"]);
    let rows: Vec<_> = ["/waves/0/hosts/0", "/waves/1/hosts/0"]
        .map(|at| plan.pointer(at).unwrap())
        .map(|row| (&row["id"], &row["relay_lane"], &row["cluster"]))
        .to_vec();
    assert_eq!(
        rows,
        [
            (&json!("dev-1"), &json!("r1 #1"), &json!("host dev-1")),
            (&json!("web-2"), &json!("r1 #1"), &json!("host web-2"))
        ]
    );
    let whole: Plan = lab.read(&plan["artifact"]);
    assert_eq!((whole.digest().as_str(), whole.change_count()), (plan["digest"].as_str().unwrap(), 3));
    let roster: Roster = lab.read(&plan["roster"]);
    let takes = |host: &str| roster.plan.slot(host).unwrap().estimate.p50_ms;
    assert!(takes("dev-1") > takes("web-2"));
    assert_eq!(roster.plan.digest(), whole.digest(), "what is approved covers waves and windows");
}

#[tokio::test]
async fn a_host_that_lacks_nothing_is_in_no_plan() {
    let lab = Lab::new();
    let nothing = json!([lab.found("web-2", &[]), lab.found("web-1", &[]), lab.found("dev-1", &[])]);
    let plan = lab.plan(nothing, json!({})).await;
    assert_eq!((&plan["count"], &plan["waves"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn an_approved_plan_stands_while_it_can_be_carried_out_and_no_longer() {
    let lab = Lab::new();
    let all = |rows: &[(&str, &str, &str)]| {
        json!([lab.found("web-2", rows), lab.found("web-1", OLD), lab.found("dev-1", OLD)])
    };
    let first = lab.plan(all(OLD), json!({})).await;
    let again = async |found: Value| lab.plan(found, json!({ "approved": first["roster"] })).await;

    // The same; something new besides; a host that cannot be reached now.
    for found in [
        all(OLD),
        all(&[("jq", "1", "2"), ("zip", "3", "4")]),
        json!([null, lab.found("web-1", OLD), lab.found("dev-1", OLD)]),
    ] {
        let plan = again(found).await;
        assert_eq!((&plan["digest"], &plan["drifted"]), (&first["digest"], &json!(false)));
    }
    let cases = [
        (&[("jq", "1", "3")][..], "web-2: jq 3 is on offer now, 2 was approved"),
        (&[("jq", "1.5", "2")][..], "web-2: jq is at 1.5 now, the approval was for a change from 1"),
        (&[][..], "web-2: jq is not missing any more (2 was approved)"),
    ];
    for (rows, part) in cases {
        let plan = again(all(rows)).await;
        assert_eq!(plan["drifted"], json!(true));
        assert_ne!(plan["digest"], first["digest"]);
        assert!(plan["difference"].as_str().unwrap().contains(part), "{}", plan["difference"]);
    }
}

#[tokio::test]
async fn hosts_and_findings_that_do_not_belong_together_are_refused() {
    let lab = Lab::new();
    let input = json!({ "hosts": hosts(), "found": [lab.found("other", OLD)], "planning": planning() });
    let failure = lab.twice(MakeCampaign, input).await.unwrap_err();
    assert_eq!(failure.code, "E0508");
    assert!(failure.message.contains("found[0] is of host other, hosts[0] is web-2"), "{}", failure.message);
}

#[tokio::test]
async fn behind_a_canary_that_failed_hosts_are_deferred_and_the_change_says_why() {
    let lab = Lab::new();
    let plan =
        lab.plan(json!([lab.found("web-2", OLD), lab.found("web-1", OLD), lab.found("dev-1", OLD)]), json!({})).await;
    lab.at_work(&plan).await;
    let admit = async |host: &str| {
        let input = json!({ "change": "CHG0000001", "roster": plan["roster"], "host": host });
        lab.twice(Admit, input).await.unwrap()
    };
    assert_eq!(admit("web-2").await["admitted"], json!(true));
    lab.order(Command::Touch { host: "web-2".to_owned() });
    let end = json!({
        "change": "CHG0000001", "host": "dev-1", "end": "failed",
        "failure": { "code": "LOCKED", "message": "apt is at work", "class": "transient", "details": null },
    });
    let told = lab.twice(Record, end).await.unwrap();
    assert_eq!(told["outcome"], "not begun, nothing had changed: LOCKED: apt is at work");
    let later = admit("web-1").await;
    assert_eq!(later["admitted"], json!(false));
    let HostOutcome::Deferred { why } = lab.change().tasks["web-1"].outcome.clone().unwrap() else {
        panic!("deferred")
    };
    assert!(why.contains("canary") && later["why"] == json!(why), "{why}");
    let over = json!({ "change": "CHG0000001", "hosts": ["dev-1"], "wave": "canary", "soak_ms": 1000 });
    let over = lab.twice(WaveOver, over).await.unwrap();
    assert_eq!((&over["hosts"], &over["good"]), (&json!(1), &json!(0)));
    let note = lab.change().notes.pop().unwrap().text;
    assert!(note.contains("Wave canary: 0 of 1 hosts came through.\ndev-1: not begun"), "{note}");
    // One that was begun before goes on: half a patch is worse than a bad one.
    assert_eq!(admit("web-2").await["admitted"], json!(true));
}

#[tokio::test]
async fn what_nobody_wrote_of_a_touched_host_is_not_proven_and_what_somebody_wrote_stays() {
    let lab = Lab::new();
    let plan = lab.plan(json!([lab.found("web-2", OLD), lab.found("web-1", OLD), null]), json!({})).await;
    lab.at_work(&plan).await;
    lab.order(Command::Touch { host: "web-1".to_owned() });
    let record = async |host: &str| {
        let input = json!({ "change": "CHG0000001", "host": host, "end": "compensated", "failure": null });
        lab.twice(Record, input).await.unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert!(record("web-1").await.starts_with("failed, state not proven: E0891"));
    lab.order(Command::Finish { host: "web-2".to_owned(), outcome: HostOutcome::Installed });
    assert_eq!(record("web-2").await, "installed and verified");
}

#[tokio::test]
async fn what_a_host_took_is_learned_once_and_makes_the_next_plan() {
    let lab = Lab::new();
    let found = || json!([null, null, lab.found("dev-1", OLD)]);
    let plan = lab.plan(found(), json!({})).await;
    lab.at_work(&plan).await;
    lab.order(Command::Touch { host: "dev-1".to_owned() });
    lab.order(Command::Finish { host: "dev-1".to_owned(), outcome: HostOutcome::Installed });
    let now = u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let end = json!({
        "change": "CHG0000001", "host": "dev-1", "end": "succeeded", "failure": null, "roster": plan["roster"],
        "began": now - 3_600_000, "download_bytes": 7, "rebooted": true,
    });
    lab.twice(Record, end).await.unwrap();
    let known = HistoryStore::new(lab.path()).read().unwrap();
    assert_eq!(known.durations.samples(), 1, "told twice, learned once");
    let slot = |plan: &Value| {
        let roster: Roster = lab.read(&plan["roster"]);
        roster.plan.slot("dev-1").unwrap().estimate
    };
    let (before, after) = (slot(&plan), slot(&lab.plan(found(), json!({})).await));
    assert!(after.p50_ms > 2 * before.p50_ms && after.of_host == 1, "{before:?} {after:?}");
    // What a reboot took is known as that of a reboot, and room for one is kept where hosts boot anew.
    let model = |history: &History| serde_json::to_value(history).unwrap()["durations"]["reboot"].clone();
    assert_ne!(model(&known), model(&History::default()));
    let mut planning = planning();
    (planning["reboot"], planning["reboot_reserve_ms"]) = (json!("if_needed"), json!(900_000));
    let plan = lab.plan(found(), json!({ "planning": planning })).await;
    let roster: Roster = lab.read(&plan["roster"]);
    let slot = roster.plan.slot("dev-1").unwrap();
    assert_eq!(slot.reboot_reserve_ms, 900_000);
    assert!(slot.latest_end.since(slot.start) >= slot.estimate.p95_ms.max(900_000), "{slot:?}");
}

#[tokio::test]
async fn what_a_baseline_rejects_or_delays_is_left_out_of_the_plan_and_told_host_by_host() {
    let lab = Lab::new();
    let all = || {
        let rows = &[("jq", "1", "2"), ("zip", "3", "4")];
        json!([lab.found("web-2", rows), lab.found("web-1", rows), lab.found("dev-1", OLD)])
    };
    let with = |hosts: Value, days: u32| {
        let mut planning = planning();
        let rules = json!({ "PatchRules": [{ "PatchFilterGroup": { "PatchFilters": [] }, "ApproveAfterDays": days }] });
        planning["baselines"] = json!([
            { "Name": "debian", "OperatingSystem": "DEBIAN", "RejectedPatches": ["zip"], "ApprovalRules": rules },
            { "Name": "for web", "OperatingSystem": "DEBIAN", "PatchGroups": ["Web"], "ApprovedPatches": ["zip"],
              "ApprovedPatchesEnableNonSecurity": true },
        ]);
        json!({ "hosts": hosts, "planning": planning })
    };
    let mut hosts = hosts();
    for host in hosts.as_array_mut().unwrap() {
        host["os"] = json!({ "id": "debian", "version": "12" });
    }
    hosts[1]["tags"] = json!({ "Patch Group": "Web" });
    let plan = lab.plan(all(), with(hosts.clone(), 0)).await;
    let roster: Roster = lab.read(&plan["roster"]);
    let names = |host: &str| -> Vec<String> {
        let part = roster.plan.plan().host(host).unwrap();
        part.changes.iter().map(|change| change.id.name.clone()).collect()
    };
    assert_eq!(
        (names("web-2"), names("web-1"), names("dev-1")),
        (vec!["jq".into()], vec!["zip".into()], vec!["jq".into()])
    );
    assert_eq!(roster.hosts["web-1"].baseline.as_deref(), Some("for web"));
    let told = |host: &str| {
        let rows = &roster.not_now[host];
        rows.iter().map(|row| (row.package.as_str(), row.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told("web-2"), [("zip", WithheldReason::Rejected)]);
    assert_eq!(told("web-1"), [("jq", WithheldReason::NotMatched)]);
    assert!(!roster.not_now.contains_key("dev-1"));

    let late = lab.plan(all(), with(hosts, 7)).await;
    let roster: Roster = lab.read(&late["roster"]);
    assert_eq!((&late["count"], roster.not_now["dev-1"][0].reason), (&json!(1), WithheldReason::Pending));
    let why = |host: &str| {
        let rows = late["left_out"].as_array().unwrap();
        rows.iter().find(|row| row["host"] == host).unwrap()["why"].clone()
    };
    assert_eq!(why("dev-1"), "nothing of what it lacks is approved and free");
}

#[tokio::test]
async fn what_is_exploited_goes_first_and_a_delay_that_outlasts_its_deadline_says_what_to_do() {
    let lab = Lab::new();
    let found = json!([lab.found("web-2", OLD), lab.found("web-1", OLD), lab.found("dev-1", OLD)]);
    let mut planning = planning();
    planning["waves"] = json!([{ "name": "all", "size": "100%" }]);
    planning["limits"]["per_relay"] = json!(1);
    let due = |deadline: &str| json!([{ "deadline": deadline, "id": "CVE-2026-1", "kev": true, "source": "jq", "packages": ["jq"] }]);
    let need = |dues: Value| json!({ "forensic": false, "ransomware": false, "epss_pcm": 0, "score_tenths": 98, "dues": dues });
    planning["needs"] =
        json!({ "web-2": need(due("2020-01-01T00:00:00Z")), "web-1": need(due("2999-01-01T00:00:00Z")) });
    let mut hosts = hosts();
    for host in hosts.as_array_mut().unwrap() {
        host["os"] = json!({ "id": "debian", "version": "12" });
        host["environment"] = json!("prod");
    }
    let plan = lab.plan(found.clone(), json!({ "hosts": hosts, "planning": planning })).await;
    let order: Vec<_> = plan["waves"][0]["hosts"].as_array().unwrap().iter().map(|host| &host["id"]).collect();
    assert_eq!(order, ["web-2", "web-1", "dev-1"], "{plan:#}");
    assert!(plan["notes"].to_string().contains("planned behind the deadline"), "{}", plan["notes"]);
    let roster: Roster = lab.read(&plan["roster"]);
    let why = &roster.plan.slot("web-2").unwrap().why;
    assert!(why.ends_with("due 2020-01-01T00:00:00Z, which it does not keep"), "{why}");

    let rules = json!({ "PatchRules": [{ "PatchFilterGroup": { "PatchFilters": [] }, "ApproveAfterDays": 7 }] });
    planning["baselines"] = json!([{ "Name": "late", "OperatingSystem": "DEBIAN", "ApprovalRules": rules }]);
    let plan = lab.plan(found, json!({ "hosts": hosts, "planning": planning })).await;
    let roster: Roster = lab.read(&plan["roster"]);
    let row = &roster.not_now["web-2"][0];
    assert_eq!(row.reason, WithheldReason::PendingPastDeadline);
    assert!(
        row.why.contains("CVE-2026-1 (KEV) is due 2020-01-01T00:00:00Z, which is before that: name jq under"),
        "{}",
        row.why
    );
    assert_eq!(roster.not_now["web-1"][0].reason, WithheldReason::Pending, "there is time until 2999");
}

#[tokio::test]
async fn who_waits_for_something_paused_stands_on_the_change_and_one_of_them_is_tried_first() {
    let lab = Lab::new();
    let ids: Vec<String> = (0..16).map(|at| format!("h{at:02}")).collect();
    let relay = |at: usize| if at < 12 { "r1" } else { "r2" };
    let host = |(at, id): (usize, &String)| json!({ "id": id, "target": { "kind": "ssh", "host": id }, "relay": relay(at), "site": relay(at), "criticality": if at < 12 { 1 } else { 2 } });
    let hosts: Vec<Value> = ids.iter().enumerate().map(host).collect();
    let mut planning = planning();
    planning["waves"] = json!([{ "name": "broad", "size": "100%" }]);
    planning["window_of"] = ids.iter().map(|id| (id.clone(), json!("week"))).collect();
    let found: Vec<Value> = ids.iter().map(|id| lab.found(id, OLD)).collect();
    let plan = lab.plan(json!(found), json!({ "hosts": hosts, "planning": planning })).await;
    lab.at_work(&plan).await;
    let cause = || Cause { code: "FETCH".to_owned(), message: "refused".to_owned() };
    for id in &ids[..6] {
        lab.order(Command::Finish { host: id.clone(), outcome: HostOutcome::NotBegun { cause: cause() } });
    }
    for id in &ids[12..] {
        lab.order(Command::Finish { host: id.clone(), outcome: HostOutcome::Installed });
    }
    let admit = async |host: &str, pardon: &Value| {
        let input = json!({ "change": "CHG0000001", "roster": plan["roster"], "host": host, "pardon": pardon });
        lab.twice(Admit, input).await.unwrap()["why"].as_str().unwrap_or("admitted").to_owned()
    };
    for host in ["h06", "h07"] {
        let why = admit(host, &json!("")).await;
        assert!(why.starts_with("pause relay r1: RELAY: 6 of 6 hosts failed in relay r1, 0 of 4 elsewhere"), "{why}");
    }
    let input = json!({ "change": "CHG0000001", "roster": plan["roster"], "waves": plan["waves"] });
    let paused = lab.twice(Paused, input).await.unwrap();
    assert_eq!((&paused["count"], &paused["scopes"][0]["host"]), (&json!(1), &json!("h06")));
    assert_eq!(paused["waves"][1]["hosts"][0]["id"], "h07");
    let note = lab.change().notes.pop().unwrap().text;
    assert!(note.starts_with("Paused: relay r1. 2 wait for it: h06, h07. h06 is tried first"), "{note}");
    let later = admit("h07", &paused["pardon"]).await;
    assert!(later.contains("; then: relay r1 is still paused: h06, which was tried first"), "{later}");
    assert_eq!(admit("h06", &paused["pardon"]).await, "admitted");
    lab.order(Command::Finish { host: "h06".to_owned(), outcome: HostOutcome::Installed });
    assert_eq!(admit("h07", &paused["pardon"]).await, "admitted");
}
