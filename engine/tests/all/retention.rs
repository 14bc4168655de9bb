//! Runs in the archive: they go when their time is over or a person wants it, and come back to go again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{Event, Rerun};
use patchloom_core::run::Refusal;
use patchloom_core::{Definition, RunId};
use patchloom_engine::runtime::{Engine, EngineError, EngineOptions, HistoryError, StartRun, inspect, open};
use serde_json::Map;

const KEPT: &str = "name: kept\nsteps:\n  a: { set: 1 }\n  below: { needs: a, workflow: child }\n";
const SHORT: &str = "name: short\nretention: 1ms\nsteps:\n  below: { workflow: child }\n";
const CHILD: &str = "name: child\nsteps:\n  a: { set: 1 }\n";

async fn start(dir: &Path) -> Engine {
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = Duration::from_millis(5);
    let engine = open(dir, &options).await.expect("the engine opens");
    for text in [CHILD, KEPT, SHORT] {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    engine
}

async fn archived(engine: &Engine, name: &str) -> RunId {
    let order = StartRun { workflow: name.into(), ..StartRun::default() };
    let id = engine.handle.start("test", order).await.unwrap();
    all_archived(engine).await;
    id
}

/// Waits until nothing is left in the state.
async fn all_archived(engine: &Engine) {
    let waiting = async {
        while engine.handle.read(|state| state.runs().count()).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the runs go to the archive");
}

fn ids(engine: &Engine) -> BTreeSet<RunId> {
    engine.archived_ids().unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_with_those_below_it_when_its_workflow_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let (kept, short) = (archived(&engine, "kept").await, archived(&engine, "short").await);
    assert_eq!(ids(&engine).len(), 4, "two runs, and the one below each");
    engine.close().await;

    let engine = start(dir.path()).await;
    let waiting = async {
        while ids(&engine).contains(&short) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the archive is looked through");
    let left: BTreeSet<RunId> = [kept, kept.child(&"below".into(), 0, 1)].into();
    assert_eq!(ids(&engine), left);
    engine.close().await;
    assert_eq!(inspect(dir.path()).unwrap().ids(), left, "nothing of it lies in the files either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_told_again_after_the_run_is_over_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = Duration::from_millis(5);
    options.tuning.succeeded_kept = Duration::from_secs(3_600);
    let engine = open(dir.path(), &options).await.expect("the engine opens");
    // Its own retention is shorter than that.
    for text in [CHILD, SHORT] {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    let order = StartRun { workflow: "short".into(), ..StartRun::default() };
    let id = engine.handle.start("test", order).await.unwrap();
    let run = engine.handle.wait_for(id, |run| run.end().is_some()).await.unwrap().expect("it is kept");
    // Long enough for one that may go to be gone: the run below it goes at once.
    let below = id.child(&"below".into(), 0, 1);
    let waiting = async {
        while !ids(&engine).contains(&below) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the child goes to the archive");
    let again = engine.handle.tell("test", Event::RunStarted(Arc::clone(&run.start))).await;
    assert!(matches!(again, Err(EngineError::Refused(Refusal::Stale(_)))), "{again:?}");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_wants_gone_goes_and_the_rest_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let (first, second) = (archived(&engine, "kept").await, archived(&engine, "kept").await);
    let strange = RunId(uuid::Uuid::from_u128(1));
    assert_eq!(engine.handle.forget([strange].into()).await.unwrap(), 0);
    assert_eq!(engine.handle.forget([first, strange].into()).await.unwrap(), 1);
    assert!(engine.archived(first).unwrap().is_none());
    assert_eq!(engine.archived(second).unwrap().unwrap().run.id(), second);
    assert!(engine.history(second).await.unwrap().len() > 2);
    // What comes later goes where the rest was brought.
    let third = archived(&engine, "kept").await;
    engine.close().await;
    let inspected = inspect(dir.path()).unwrap();
    assert_eq!(inspected.notes, Vec::<String>::new());
    for id in [second, third] {
        assert!(inspected.run(id).unwrap().is_some());
    }
    assert!(!inspected.ids().contains(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_run_comes_back_to_go_again_and_returns_where_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let id = archived(&engine, "kept").await;
    let refused = engine.tell_recalled("test", id, Event::RetryRequested { run: id }).await;
    assert!(matches!(refused, Err(HistoryError::Engine(_))), "it succeeded: {refused:?}");
    all_archived(&engine).await;
    let again = Event::RerunRequested { run: id, from: Rerun::Step("a".into()), inputs: Map::new() };
    engine.tell_recalled("test", id, again).await.unwrap();
    all_archived(&engine).await;
    let archived = engine.archived(id).unwrap().unwrap();
    assert_eq!(archived.run.endings, 2);
    let names: Vec<&str> = archived.history.iter().map(|item| item.entry.event.name()).collect();
    assert_eq!(names.iter().filter(|name| **name == "run_started").count(), 1, "{names:?}");
    assert!(names.contains(&"rerun_requested") && names.contains(&"run_recalled"), "{names:?}");
    engine.close().await;
    // Told from the files alone it is the same.
    let inspected = inspect(dir.path()).unwrap();
    assert_eq!(inspected.run(id).unwrap().unwrap().0.endings, 2);
    assert_eq!(inspected.history(id).unwrap().len(), names.len());
}
