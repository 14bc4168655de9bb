//! Child runs go to the archive as soon as their parent knows of their end, and come back when it takes them back.

use std::path::Path;
use std::time::Duration;

use patchloom_core::record::{End, Entry, Event, Resolution};
use patchloom_core::run::Phase;
use patchloom_core::{Definition, Failure, FailureClass, Outcome, RunId};
use patchloom_engine::queue::TaskQueue;
use patchloom_engine::runtime::{Engine, EngineOptions, Intake, StartRun, open};
use serde_json::{Value, json};
use tokio::sync::watch;

const CHILDREN: u32 = 50;
const CAMPAIGN: &str = r#"
name: campaign
inputs: { hosts: { type: array } }
steps:
  all: { for_each: { items: "${{ inputs.hosts }}", max_parallel: 8 }, workflow: host, with: { n: "${{ item.n }}" } }
  gate: { needs: all, uses: t.gate }
"#;
const HOST: &str = r#"
name: host
inputs: { n: { type: integer } }
steps:
  x: { uses: t.x, with: { n: "${{ inputs.n }}" }, compensate: { uses: t.undo, with: { n: "${{ inputs.n }}" } } }
"#;

async fn start(dir: &Path) -> Engine {
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = Duration::from_millis(5);
    let engine = open(dir, &options).await.expect("the engine opens");
    for text in [HOST, CAMPAIGN] {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    engine
}

/// Does every task; `t.gate` fails, but not before `gate` is open.
fn worker(engine: &Engine, mut gate: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    let (queue, handle) = (engine.queue.clone(), engine.handle.clone());
    tokio::spawn(async move {
        loop {
            for lease in queue.take(16).await {
                let mut outcome = Outcome::Succeeded { output: json!({"n": lease.task.input["n"]}) };
                if lease.task.uses == "t.gate" {
                    let _ = gate.wait_for(|open| *open).await;
                    let message = "told to".to_owned();
                    let class = FailureClass::Permanent;
                    outcome = Outcome::Failed(Failure { code: "X".into(), class, message, details: Value::Null });
                }
                let Some(outcome) = queue.settle(&lease, outcome) else { continue };
                let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
                if handle.submit(vec![Entry { by: "worker:test".into(), event }]).await.is_err() {
                    return;
                }
            }
        }
    })
}

async fn campaign(engine: &Engine) -> RunId {
    let hosts: Vec<Value> = (0..CHILDREN).map(|n| json!({"n": n})).collect();
    let order = StartRun { workflow: "campaign".into(), inputs: json!({"hosts": hosts}), ..StartRun::default() };
    engine.handle.start("test", order).await.unwrap()
}

fn children(id: RunId) -> Vec<RunId> {
    (0..CHILDREN).map(|item| id.child(&"all".into(), item, 1)).collect()
}

/// Waits until only the campaign is left in the state.
async fn all_retired(engine: &Engine) {
    let waiting = async {
        while engine.handle.read(|state| state.runs().count()).await.unwrap() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the children go to the archive");
}

async fn until(engine: &Engine, id: RunId, reached: impl Fn(&Phase) -> bool + Send + Sync + 'static) -> Phase {
    let waiting = engine.handle.wait_for(id, move |run| reached(&run.phase));
    let run = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the run gets there").unwrap();
    run.expect("a run that failed stays in the state").phase.clone()
}

/// Every child was undone, once, and its history says all of it.
async fn check_undone(engine: &Engine, children: &[RunId]) {
    for child in children {
        let run = engine.handle.run(*child).await.unwrap().map(|(run, _)| (*run).clone());
        let run = run.unwrap_or_else(|| engine.archived(*child).unwrap().expect("it is somewhere").run);
        assert_eq!(run.end(), Some(End::Compensated));
        let history = engine.history(*child).await.unwrap();
        let names: Vec<&str> = history.iter().map(|item| item.entry.event.name()).collect();
        assert_eq!(names[0], "run_started", "{names:?}");
        let count = |name: &str| names.iter().filter(|found| **found == name).count();
        assert_eq!((count("attempt_finished"), count("run_started")), (2, 1), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_in_the_archive_are_taken_back_also_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (open_gate, gate) = watch::channel(false);
    let engine = start(dir.path()).await;
    let working = worker(&engine, gate.clone());
    let id = campaign(&engine).await;
    let gate_is_out = |run: &patchloom_core::run::Run| run.steps[1].work.is_some();
    tokio::time::timeout(Duration::from_secs(30), engine.handle.wait_for(id, gate_is_out)).await.unwrap().unwrap();
    all_retired(&engine).await;
    engine.close().await;
    working.abort();

    // Half of the way back, then another start.
    let engine = start(dir.path()).await;
    assert_eq!(engine.handle.read(|state| state.runs().count()).await.unwrap(), 1);
    let lease = engine.queue.take(1).await.remove(0);
    assert_eq!(lease.task.uses, "t.gate");
    let failure =
        Failure { code: "X".into(), class: FailureClass::Permanent, message: "told to".into(), details: Value::Null };
    let failed = Event::AttemptFinished { task: lease.task.key, outcome: Outcome::Failed(failure), tell: Vec::new() };
    engine.handle.tell("test", failed).await.unwrap();
    let mut out = Vec::new();
    while out.len() < 8 {
        out.extend(tokio::time::timeout(Duration::from_secs(30), engine.queue.take(8)).await.expect("undos go out"));
    }
    assert!(out.iter().all(|lease| lease.task.uses == "t.undo"));
    engine.close().await;

    let engine = start(dir.path()).await;
    open_gate.send(true).unwrap();
    let working = worker(&engine, gate);
    let phase = until(&engine, id, |phase| matches!(phase, Phase::Ended(_) | Phase::CompensationFailed)).await;
    assert_eq!(phase, Phase::Ended(End::Compensated));
    all_retired(&engine).await;
    check_undone(&engine, &children(id)).await;
    working.abort();
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_the_archive_lost_fails_the_compensation_and_a_person_resolves_it() {
    let dir = tempfile::tempdir().unwrap();
    let (open_gate, gate) = watch::channel(false);
    let engine = start(dir.path()).await;
    let working = worker(&engine, gate.clone());
    let id = campaign(&engine).await;
    tokio::time::timeout(Duration::from_secs(30), engine.handle.wait_for(id, |run| run.steps[1].work.is_some()))
        .await
        .unwrap()
        .unwrap();
    all_retired(&engine).await;
    engine.close().await;
    working.abort();
    let archive = dir.path().join("archive");
    let aside = dir.path().join("aside");
    std::fs::rename(&archive, &aside).unwrap();

    let engine = start(dir.path()).await;
    open_gate.send(true).unwrap();
    let working = worker(&engine, gate);
    until(&engine, id, |phase| matches!(phase, Phase::CompensationFailed)).await;
    let why = engine.handle.read(move |state| {
        let run = state.run(id).unwrap();
        let definition = state.definition(&run.start.version).unwrap();
        patchloom_core::run::why(run, definition, patchloom_core::UtcMs(0))
    });
    let why = why.await.unwrap();
    assert_eq!(why.len(), usize::try_from(CHILDREN).unwrap());
    assert!(why[0].text.contains("E0326") && why[0].text.contains("cannot be taken back"), "{}", why[0].text);
    let resolved = Resolution::Resolved { note: "undone by hand".into() };
    for item in 0..CHILDREN {
        let event = Event::UndoResolved { run: id, step: "all".into(), item, how: resolved.clone() };
        engine.handle.tell("operator", event).await.unwrap();
    }
    assert_eq!(until(&engine, id, |phase| matches!(phase, Phase::Ended(_))).await, Phase::Ended(End::Compensated));
    working.abort();
    engine.close().await;
}
