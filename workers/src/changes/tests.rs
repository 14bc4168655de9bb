//! The tasks of a change request on a real register: each twice, and each way to fail.

use std::path::Path;

use patchloom_core::{Leg, RunId, TaskKey};
use patchloom_domain::{Actor, ChangeRequest, ChangeState, CloseCode, Command, HostOutcome, Instant, Order};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
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

    fn context(&self, step: &str, leg: Leg) -> TaskContext {
        let run = RunId("018f0000-0000-7000-8000-000000000001".parse().unwrap());
        let key = TaskKey { run, step: step.into(), item: 0, attempt: 1, leg };
        TaskContext::new(key, 0, CancellationToken::new(), DataDir::new(self.path())).0
    }

    /// Runs a task twice, as at-least-once delivery does; the second time must change nothing.
    async fn twice(&self, handler: impl Handler, step: &str, leg: Leg, input: Value) -> Result<Value, Failure> {
        let context = self.context(step, leg);
        let contracts = crate::contracts();
        let contract = contracts.get(handler.uses()).unwrap();
        let once = handler.run(&context, input.clone()).await;
        if let Ok(output) = &once {
            assert_eq!((contract.takes(&input), contract.gives(output)), (Ok(()), Ok(())), "{}", handler.uses());
        }
        let before = self.register().list().unwrap().changes;
        let again = handler.run(&context, input).await;
        assert_eq!(self.register().list().unwrap().changes, before, "{} twice", handler.uses());
        assert_eq!(once.is_ok(), again.is_ok());
        once
    }

    async fn plan(&self, mode: &str) -> String {
        let missing = json!({ "patches": [{
            "name": "jq", "arch": "amd64", "installed": "1", "candidate": "2", "source": "jq", "source_version": "2",
            "origin": "Debian-Security:12/oldstable-security", "security": true, "sha256": null, "size_bytes": null,
            "cves": ["CVE-2026-0001"],
        }]});
        let missing = DataDir::new(self.path()).artifacts().put_json(&missing).unwrap();
        let input = json!({ "target": { "kind": "local" }, "host": "web1", "mode": mode, "missing": missing });
        let made = self.twice(MakePlan, "plan", Leg::Forward, input).await.unwrap();
        assert_eq!((&made["count"], &made["security"], &made["cves"]), (&json!(1), &json!(1), &json!(1)));
        made["artifact"].as_str().unwrap().to_owned()
    }

    async fn opened(&self, mode: &str) -> Value {
        let plan = self.plan(mode).await;
        let opened = self.twice(Open, "open", Leg::Forward, json!({ "plan": plan })).await.unwrap();
        json!({ "change": opened["number"] })
    }

    fn order(&self, by: Actor, command: Command) {
        self.register().apply("CHG0000001", &Order { by, at: Instant(5), command }).unwrap();
    }

    async fn at_work(&self, mode: &str) -> Value {
        let change = self.opened(mode).await;
        if mode == "apply" {
            let digest = self.change().draft.digest;
            self.order(Actor::Person("ann".to_owned()), Command::Approve { digest, comment: None });
        }
        self.twice(Authorize, "authorize", Leg::Forward, change.clone()).await.unwrap();
        self.twice(Implement, "implement", Leg::Forward, change.clone()).await.unwrap();
        change
    }

    async fn fail(&self) -> Value {
        let input = json!({ "why": "postinst of jq", "code": "SCRIPTLET" });
        self.twice(Fail, "open", Leg::Undo, input).await.unwrap()
    }
}

fn service() -> Actor {
    Actor::Service(REQUESTER.to_owned())
}

#[tokio::test]
async fn an_observe_run_is_authorized_by_policy_and_says_so() {
    let lab = Lab::new();
    let change = lab.at_work("observe").await;
    lab.order(service(), Command::Finish { host: "web1".to_owned(), outcome: HostOutcome::Simulated });
    let closed = lab.twice(Close, "close", Leg::Forward, change).await.unwrap();
    assert_eq!(closed["close_code"], "successful");
    let found = lab.change();
    assert_eq!(found.approvals[0].by, Actor::Policy("observe-runs".to_owned()));
    assert!(found.notes.iter().any(|note| note.text.contains("observe-runs")));
    assert!(found.closure.unwrap().notes.contains("web1: simulated"));
}

#[tokio::test]
async fn an_apply_run_waits_for_a_person() {
    let lab = Lab::new();
    let change = lab.opened("apply").await;
    let failure = lab.twice(Authorize, "authorize", Leg::Forward, change.clone()).await.unwrap_err();
    assert_eq!(failure.code, "E0621");
    lab.order(Actor::Person("ann".to_owned()), Command::Reject { comment: "freeze".to_owned() });
    let failure = lab.twice(Authorize, "authorize", Leg::Forward, change).await.unwrap_err();
    assert_eq!(failure.code, "E0622");
    assert!(failure.message.contains("freeze"), "{}", failure.message);
}

#[tokio::test]
async fn whoever_asks_for_a_change_may_not_approve_it() {
    let lab = Lab::new();
    let plan = lab.plan("apply").await;
    let input = json!({ "plan": plan, "requested_by": "ann" });
    lab.twice(Open, "open", Leg::Forward, input).await.unwrap();
    let digest = lab.change().draft.digest;
    let approve = |by: &str| {
        let by = Actor::Person(by.to_owned());
        let command = Command::Approve { digest: digest.clone(), comment: None };
        lab.register().apply("CHG0000001", &Order { by, at: Instant(5), command })
    };
    assert_eq!(approve("ann").unwrap_err().code(), "E0602");
    approve("bob").unwrap();
    assert!(lab.change().is_authorized(&digest));
}

#[tokio::test]
async fn a_change_says_what_is_to_happen_also_once_that_is_something_else() {
    let lab = Lab::new();
    lab.opened("apply").await;
    let said = lab.change().draft.implementation_plan;
    assert!(said.starts_with("Install exactly the 1 planned versions"), "{said}");
    assert!(said.ends_with("\n- jq:amd64 1 -> 2, security"), "{said}");
    let other = lab.plan("observe").await;
    lab.twice(Open, "open", Leg::Forward, json!({ "plan": other })).await.unwrap();
    let said = lab.change().draft.implementation_plan;
    assert!(said.starts_with("Simulate exactly"), "{said}");
}

#[tokio::test]
async fn a_change_that_never_came_to_work_is_canceled_on_failure() {
    let lab = Lab::new();
    lab.opened("apply").await;
    assert_eq!(lab.fail().await["state"], "Canceled");
    assert!(lab.change().canceled_why.unwrap().contains("postinst of jq"));
}

#[tokio::test]
async fn a_change_at_work_is_closed_unsuccessful_even_when_no_host_was_touched() {
    let lab = Lab::new();
    lab.at_work("apply").await;
    let told = lab.fail().await;
    assert_eq!((&told["state"], &told["close_code"]), (&json!("Closed"), &json!("unsuccessful")));
    assert!(lab.change().closure.unwrap().notes.contains("nothing had changed"));
}

#[tokio::test]
async fn a_touched_host_without_a_word_is_told_as_not_proven() {
    let lab = Lab::new();
    lab.at_work("apply").await;
    lab.order(service(), Command::Touch { host: "web1".to_owned() });
    lab.fail().await;
    assert!(lab.change().closure.unwrap().notes.contains("state not proven"));
}

#[tokio::test]
async fn a_change_that_was_closed_too_well_is_corrected() {
    let lab = Lab::new();
    let change = lab.at_work("apply").await;
    lab.order(service(), Command::Finish { host: "web1".to_owned(), outcome: HostOutcome::Installed });
    lab.twice(Close, "close", Leg::Forward, change).await.unwrap();
    assert_eq!(lab.fail().await["close_code"], "unsuccessful");
    assert_eq!(lab.change().closure.unwrap().code, CloseCode::Unsuccessful);
}

#[tokio::test]
async fn failing_where_nothing_was_opened_opens_nothing() {
    let lab = Lab::new();
    assert_eq!(lab.fail().await["number"], Value::Null);
    assert!(lab.register().list().unwrap().changes.is_empty());
}

#[tokio::test]
async fn another_plan_under_the_same_step_voids_the_approval() {
    let lab = Lab::new();
    let change = lab.opened("apply").await;
    let digest = lab.change().draft.digest;
    lab.order(Actor::Person("ann".to_owned()), Command::Approve { digest, comment: None });
    let other = lab.plan("observe").await;
    lab.twice(Open, "open", Leg::Forward, json!({ "plan": other })).await.unwrap();
    assert!(lab.change().approvals[0].void.is_some());
    assert_eq!(lab.change().state, ChangeState::Authorize);
    let failure = lab.twice(Authorize, "authorize", Leg::Forward, change).await.unwrap_err();
    assert_eq!(failure.code, "E0621");
}

#[tokio::test]
async fn a_note_is_written_once_per_step() {
    let lab = Lab::new();
    let change = lab.opened("observe").await;
    let count = lab.change().notes.len();
    let input = json!({ "change": change["change"], "text": "seen" });
    lab.twice(Note, "note", Leg::Forward, input).await.unwrap();
    assert_eq!(lab.change().notes.len(), count + 1);
}

#[tokio::test]
async fn an_input_of_another_shape_is_refused() {
    let lab = Lab::new();
    for input in [json!({}), json!({ "change": 7 }), json!({ "change": "x", "more": 1 }), Value::Null] {
        let failure = lab.twice(Implement, "implement", Leg::Forward, input).await.unwrap_err();
        assert_eq!(failure.code, "E0508");
    }
    let failure = lab.twice(Implement, "implement", Leg::Forward, json!({ "change": "CHG9999999" })).await.unwrap_err();
    assert_eq!(failure.code, "E0604");
}
