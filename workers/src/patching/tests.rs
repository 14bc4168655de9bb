//! Tasks of a patch that come again: what is done is answered again, and what is not goes through the gate.

use patchloom_core::{Leg, RunId, TaskKey};
use patchloom_domain::{Actor, ChangeState, CloseCode, Command, HostOutcome, Instant, Order, Plan};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::marker::{self, Marker, Phase};
use super::*;
use crate::changes::{Authorize, Close, Implement, MakePlan, Open};
use crate::register::Register;
use crate::runtime::{DataDir, Handler, TaskContext};

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn data(&self) -> DataDir {
        DataDir::new(self.dir.path())
    }

    fn context(&self, step: &str) -> TaskContext {
        let run = RunId("018f0000-0000-7000-8000-000000000001".parse().unwrap());
        let key = TaskKey { run, step: step.into(), item: 0, attempt: 1, leg: Leg::Forward };
        TaskContext::new(key, 0, CancellationToken::new(), self.data()).0
    }

    async fn run(&self, step: &str, handler: impl Handler, input: Value) -> Value {
        let contracts = crate::contracts();
        let contract = contracts.get(handler.uses()).unwrap();
        let output = handler.run(&self.context(step), input.clone()).await.unwrap();
        assert_eq!((contract.takes(&input), contract.gives(&output)), (Ok(()), Ok(())), "{}", handler.uses());
        output
    }

    /// A change at work whose checks are from long ago; gives the input of its install and the plan.
    async fn at_work(&self) -> (Value, Plan) {
        let missing = json!({ "patches": [{
            "name": "jq", "arch": "amd64", "installed": "1", "candidate": "2", "source": "jq", "source_version": "2",
            "origin": "Debian-Security:12/oldstable-security", "security": true, "sha256": null, "size_bytes": null,
            "cves": ["CVE-2026-0001"],
        }]});
        let missing = self.data().artifacts().put_json(&missing).unwrap();
        // Nothing here may look at a target: there is none.
        let target = json!({ "kind": "root", "path": "/nonexistent" });
        let wish = json!({ "target": target, "host": "web1", "mode": "apply", "missing": missing });
        let made = self.run("plan", MakePlan, wish).await;
        let opened = self.run("open", Open, json!({ "plan": made["artifact"] })).await;
        let change = json!({ "change": opened["number"] });
        let plan: Plan =
            self.data().artifacts().get_json(&made["artifact"].as_str().unwrap().parse().unwrap()).unwrap();
        let command = Command::Approve { digest: plan.digest(), comment: None };
        let by = Actor::Person("ann".to_owned());
        Register::open(&self.data().changes())
            .unwrap()
            .apply("CHG0000001", &Order { by, at: Instant(5), command })
            .unwrap();
        self.run("authorize", Authorize, change.clone()).await;
        self.run("implement", Implement, change).await;
        let proof = json!({ "host": "web1", "digest": plan.digest(), "at": 5, "packages": [] });
        let preflight =
            json!({ "host": "web1", "at": 5, "checks": [{ "name": "lock", "passed": true, "detail": "" }] });
        let input = json!({ "plan": made["artifact"], "host": "web1", "change": "CHG0000001", "proof": proof, "preflight": preflight });
        (input, plan)
    }
}

#[tokio::test]
async fn an_install_that_is_done_is_answered_again_however_old_its_checks_are() {
    let lab = Lab { dir: tempfile::tempdir().unwrap() };
    let (input, plan) = lab.at_work().await;
    let context = lab.context("install");
    let output = json!({ "host": "web1", "outcome": "installed", "count": 1 });
    let marker = Marker {
        key: context.key().to_string(),
        attempt: 1,
        digest: plan.digest(),
        at: Instant(6),
        argv: Vec::new(),
        pid: 1,
        before: HostState::default(),
        adjusted: Vec::new(),
        found: None,
        phase: Phase::Done { output: output.clone() },
    };
    marker::write(&marker::path(&lab.data().backups(), context.key()), &marker).unwrap();
    assert_eq!(lab.run("install", Install::default(), input.clone()).await, output);
    assert_eq!(lab.run("install", Install::default(), input).await, output, "and again");
    lab.run("close", Close, json!({ "change": "CHG0000001" })).await;
    let change = Register::open(&lab.data().changes()).unwrap().get("CHG0000001").unwrap();
    assert_eq!(change.tasks["web1"].outcome, Some(HostOutcome::Installed));
    assert_eq!((change.state, change.closure.unwrap().code), (ChangeState::Closed, CloseCode::Successful));
}

#[tokio::test]
async fn an_install_that_was_never_begun_is_refused_on_old_checks() {
    let lab = Lab { dir: tempfile::tempdir().unwrap() };
    let (input, _) = lab.at_work().await;
    let context = lab.context("install");
    let refused = Install::default().run(&context, input).await.unwrap_err();
    let refusals = refused.details["refusals"].to_string();
    assert!(refusals.contains("preflight_stale"), "{refused:?}");
    assert!(!marker::path(&lab.data().backups(), context.key()).exists());
}
