//! The tasks of a campaign on a real register and artifact store, each twice.

use std::path::Path;

use patchloom_core::{Failure, Leg, RunId, TaskKey};
use patchloom_domain::{Actor, ChangeRequest, Command, HostOutcome, Instant, Order, Plan, Roster};
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
        let mut input = json!({
            "hosts": hosts(), "found": found, "mode": "apply", "waves": { "canary": 1, "pilot": 1 },
        });
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
    assert_eq!(plan["waves"], json!({ "canary": 1, "pilot": 1, "broad": 0 }));
    let rows: Vec<_> =
        plan["hosts"].as_array().unwrap().iter().map(|row| (&row["id"], &row["wave"], &row["relay"])).collect();
    assert_eq!(
        rows,
        [(&json!("dev-1"), &json!("canary"), &json!("r1")), (&json!("web-2"), &json!("pilot"), &json!("r1"))]
    );
    let whole: Plan = lab.read(&plan["artifact"]);
    assert_eq!((whole.digest().as_str(), whole.change_count()), (plan["digest"].as_str().unwrap(), 3));
    let roster: Roster = lab.read(&plan["roster"]);
    assert!(roster.entry("dev-1").unwrap().expected_ms > roster.entry("web-2").unwrap().expected_ms);
}

#[tokio::test]
async fn a_host_that_lacks_nothing_is_in_no_plan() {
    let lab = Lab::new();
    let nothing = json!([lab.found("web-2", &[]), lab.found("web-1", &[]), lab.found("dev-1", &[])]);
    let plan = lab.plan(nothing, json!({})).await;
    assert_eq!((&plan["count"], &plan["hosts"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn an_approved_plan_stands_while_it_can_be_carried_out_and_no_longer() {
    let lab = Lab::new();
    let all = |rows: &[(&str, &str, &str)]| {
        json!([lab.found("web-2", rows), lab.found("web-1", OLD), lab.found("dev-1", OLD)])
    };
    let first = lab.plan(all(OLD), json!({})).await;
    let again = async |found: Value| lab.plan(found, json!({ "approved": first["artifact"] })).await;

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
    let input = json!({
        "hosts": hosts(), "found": [lab.found("other", OLD)], "waves": { "canary": 1, "pilot": 1 },
    });
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
    let over = json!({ "change": "CHG0000001", "roster": plan["roster"], "wave": "canary", "soak_ms": 1000 });
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
