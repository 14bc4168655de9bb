//! The handlers on this machine, where it has apt: what they answer must agree with apt and dpkg themselves.

use std::process::Command;

use patchloom_core::{Leg, RunId, TaskKey};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::runtime::{DataDir, Handler, TaskContext};

pub(super) fn context(dir: &tempfile::TempDir) -> TaskContext {
    let key = TaskKey {
        run: RunId("018f3c5e-0000-7000-8000-000000000001".parse().unwrap()),
        step: "s".into(),
        item: 0,
        attempt: 1,
        leg: Leg::Forward,
    };
    TaskContext::new(key, 0, CancellationToken::new(), DataDir::new(dir.path())).0
}

/// What a handler answers; both sides keep the contract.
pub(super) async fn ask(handler: &impl Handler, context: &TaskContext, input: Value) -> Value {
    let contracts = crate::contracts();
    let contract = contracts.get(handler.uses()).unwrap();
    let output = handler.run(context, input.clone()).await.unwrap();
    assert_eq!((contract.takes(&input), contract.gives(&output)), (Ok(()), Ok(())), "{}", handler.uses());
    output
}

/// The target of a test: the root named by PATCHLOOM_TEST_ROOT, else this machine; `None`, with a word, without apt.
fn target() -> Option<Value> {
    if let Ok(path) = std::env::var("PATCHLOOM_TEST_ROOT") {
        return Some(json!({ "kind": "root", "path": path }));
    }
    if HostExec::new(&Target::Local).is_err() {
        println!("skipped: this machine has no apt");
        return None;
    }
    Some(json!({ "kind": "local" }))
}

#[tokio::test]
async fn the_scan_counts_what_dpkg_counts() {
    let Some(target) = target() else { return };
    let dir = tempfile::tempdir().unwrap();
    let answer = ask(&ScanPackages, &context(&dir), json!({ "target": target })).await;
    let mut query = Command::new("dpkg-query");
    if let Some(path) = target["path"].as_str() {
        query.arg(format!("--admindir={path}/var/lib/dpkg"));
    }
    let listed = query.args(["-W", "-f=${db:Status-Status}\n"]).output().unwrap().stdout;
    let installed = String::from_utf8(listed).unwrap().lines().filter(|line| *line == "installed").count();
    assert_eq!(answer["count"], json!(installed));
}

#[tokio::test]
async fn nothing_changed_is_verified_as_nothing_changed() {
    let Some(target) = target() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let scan = ask(&ScanPackages, &context, json!({ "target": target })).await;
    let input = json!({ "target": target, "before": scan["artifact"] });
    let verdict = ask(&VerifyRescan, &context, input).await;
    assert_eq!((&verdict["ok"], &verdict["drift_count"]), (&json!(true), &json!(0)), "{verdict}");
}

#[tokio::test]
async fn a_planned_version_that_is_not_there_fails_an_applied_run() {
    let Some(target) = target() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let plan = json!({ "hosts": [{ "host": "web-1", "target": target, "changes": [
        { "name": "dpkg", "arch": "amd64", "candidate": "999" },
        { "name": "no-such-package", "arch": "all", "candidate": "1" },
    ]}]});
    let plan = context.put_json(&plan).await.unwrap();
    let input = json!({ "target": target, "mode": "apply", "plan": plan });
    let failure = VerifyRescan.run(&context, input).await.unwrap_err();
    assert_eq!(failure.code, "E0541");
    assert_eq!(failure.details["arrived"], json!(0), "{failure:?}");
}

#[tokio::test]
async fn an_input_of_another_shape_and_a_target_that_is_none_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let failure = ScanPackages.run(&context, json!({ "aim": 1 })).await.unwrap_err();
    assert_eq!(failure.code, "E0592");
    let nowhere = json!({ "target": { "kind": "root", "path": "/no/such/root" } });
    let failure = ScanPackages.run(&context, nowhere).await.unwrap_err();
    assert_eq!(failure.code, "E0503");
}

#[tokio::test]
async fn applications_are_compared_with_their_own_baseline() {
    let Some(target) = target() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let commands = json!([["dpkg", "--version"], ["false"]]);
    let input = json!({ "target": target, "phase": "before", "commands": commands });
    if target["kind"] == "root" && !rustix::process::geteuid().is_root() {
        println!("skipped: commands inside a root need root rights");
        return;
    }
    let baseline = ask(&VerifyApplications, &context, input).await;
    let input = json!({ "target": target, "phase": "after", "baseline": baseline["artifact"], "commands": commands });
    let verdict = ask(&VerifyApplications, &context, input).await;
    let preexisting = verdict["preexisting"].as_array().unwrap();
    assert!(preexisting.contains(&json!("false ends with 1")), "{verdict}");
}
