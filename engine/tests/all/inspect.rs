//! Looking at runs without leading shows what the leader shows, from snapshot, journal and archive alike.

use std::path::Path;
use std::time::Duration;

use patchloom_core::record::{Entry, Event};
use patchloom_core::{Definition, Outcome, RunId};
use patchloom_engine::queue::TaskQueue;
use patchloom_engine::runtime::{Engine, EngineOptions, Intake, OpenError, StartRun, inspect, open};
use serde_json::json;

const FLOW: &str = "
name: flow
steps:
  a: { uses: t.a }
  b: { needs: a, wait: { signal: go } }
  c: { needs: b, uses: t.c }
";

async fn start(dir: &Path) -> Engine {
    let mut options = EngineOptions::default();
    // A snapshot with each checkpoint, and many checkpoints.
    options.tuning.snapshot_bytes = 1;
    options.tuning.checkpoint = Duration::from_millis(5);
    let engine = open(dir, &options).await.expect("the engine opens");
    engine.handle.register("test", &Definition::parse("test", FLOW).unwrap()).await.unwrap();
    let (queue, handle) = (engine.queue.clone(), engine.handle.clone());
    tokio::spawn(async move {
        loop {
            for lease in queue.take(16).await {
                let Some(outcome) = queue.settle(&lease, Outcome::Succeeded { output: json!(1) }) else { continue };
                let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
                if handle.submit(vec![Entry { by: "worker:test".into(), event }]).await.is_err() {
                    return;
                }
            }
        }
    });
    engine
}

async fn begin(engine: &Engine) -> RunId {
    let id = engine.handle.start("test", StartRun { workflow: "flow".into(), ..StartRun::default() }).await.unwrap();
    let waits = |run: &patchloom_core::run::Run| run.steps[1].status.name() == "waiting";
    let waiting = engine.handle.wait_for(id, waits);
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the run comes to its wait").unwrap();
    id
}

async fn go(engine: &Engine, run: RunId) {
    let event = Event::SignalReceived { run, name: "go".into(), payload: json!(null), id: None, roles: Vec::new() };
    engine.handle.tell("test", event).await.unwrap();
    let retired = async {
        while engine.handle.run(run).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), retired).await.expect("the run goes to the archive");
}

async fn compare(engine: &Engine, dir: &Path, runs: &[RunId]) {
    let inspected = inspect(dir).unwrap();
    assert_eq!(inspected.notes, Vec::<String>::new());
    assert_eq!(inspected.ids().into_iter().collect::<Vec<_>>(), runs);
    for id in runs {
        let (seen, _) = inspected.run(*id).unwrap().expect("the run is seen");
        let led = match engine.handle.run(*id).await.unwrap() {
            Some((run, _)) => run.as_ref().clone(),
            None => engine.archived(*id).unwrap().unwrap().run,
        };
        assert_eq!(seen.as_ref(), &led);
        let names = |items: Vec<patchloom_engine::runtime::Item>| {
            items.into_iter().map(|item| (item.seq, item.entry.event.name())).collect::<Vec<_>>()
        };
        let seen = names(inspected.history(*id).unwrap());
        assert_eq!(seen, names(engine.history(*id).await.unwrap()));
        assert!(seen.len() >= 2, "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_seen_is_what_the_leader_has_while_it_leads_and_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let engine = start(dir.path()).await;
        for _ in 0..3 {
            runs.push(begin(&engine).await);
        }
        go(&engine, runs[runs.len() - 2]).await;
        compare(&engine, dir.path(), &runs).await;
        engine.close().await;
        let closed = inspect(dir.path()).unwrap();
        assert_eq!(closed.ids().into_iter().collect::<Vec<_>>(), runs);
    }
    assert!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count() >= 1, "snapshots were taken");
}

#[test]
fn looking_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(inspect(&nowhere), Err(OpenError::DataDir(_))));
    assert!(!nowhere.exists());
}
