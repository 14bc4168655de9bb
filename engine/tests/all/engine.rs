//! The embedded engine as a whole: runs go through it, restarts lose nothing, repairs say what they did.

use std::path::Path;
use std::time::Duration;

use patchloom_core::record::{End, Entry, Event};
use patchloom_core::{Definition, Outcome, RunId};
use patchloom_engine::queue::{Lease, TaskQueue};
use patchloom_engine::runtime::{Engine, EngineOptions, Intake, StartRun, open};
use serde_json::{Value, json};

const CHAIN: &str = r#"
name: chain
inputs: { n: { type: integer, default: 1 } }
steps:
  a: { uses: t.a, with: { n: "${{ inputs.n }}" }, compensate: { uses: t.undo, with: { got: "${{ self.output }}" } } }
  b: { needs: a, workflow: leaf, with: { n: "${{ steps.a.output.n }}" } }
  c: { needs: b, uses: t.c, with: { n: "${{ steps.b.output.n }}" } }
output: { n: "${{ steps.c.output.n }}" }
"#;
const LEAF: &str = r#"
name: leaf
inputs: { n: { type: integer } }
steps:
  x: { uses: t.x, with: { n: "${{ inputs.n }}" }, compensate: { uses: t.undo } }
output: { n: "${{ steps.x.output.n }}" }
"#;

async fn start(dir: &Path) -> Engine {
    let engine = open(dir, &EngineOptions::default()).await.expect("the engine opens");
    for text in [LEAF, CHAIN] {
        let definition = Definition::parse("test", text).unwrap();
        engine.handle.register("test", &definition).await.unwrap();
    }
    engine
}

/// A worker that adds one; `t.c` fails where it is told to.
fn worker(engine: &Engine, fail: bool) -> tokio::task::JoinHandle<()> {
    let (queue, handle) = (engine.queue.clone(), engine.handle.clone());
    tokio::spawn(async move {
        loop {
            for lease in queue.take(16).await {
                let outcome = answer(&lease, fail);
                let Some(outcome) = queue.settle(&lease, outcome) else { continue };
                let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
                if handle.submit(vec![Entry { by: "worker:test".into(), event }]).await.is_err() {
                    return;
                }
            }
        }
    })
}

fn answer(lease: &Lease, fail: bool) -> Outcome {
    if fail && lease.task.uses == "t.c" {
        return Outcome::Failed(patchloom_core::Failure {
            code: "X".into(),
            class: patchloom_core::FailureClass::Permanent,
            message: "told to".into(),
            details: Value::Null,
        });
    }
    let n = lease.task.input["n"].as_i64().unwrap_or_default();
    Outcome::Succeeded { output: json!({"n": n + 1}) }
}

async fn run(engine: &Engine, key: &str) -> RunId {
    let order =
        StartRun { workflow: "chain".into(), inputs: json!({"n": 3}), key: Some(key.into()), ..StartRun::default() };
    engine.handle.start("test", order).await.unwrap()
}

async fn end(engine: &Engine, id: RunId) -> (End, Value) {
    let waiting = engine.handle.wait_for(id, |run| run.end().is_some());
    let found = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the run ends").unwrap();
    match found {
        Some(run) => (run.end().unwrap(), run.output.clone()),
        None => {
            let archived = engine.archived(id).unwrap().expect("a run that left the state lies in the archive");
            (archived.run.end().unwrap(), archived.run.output)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_through_its_child_and_its_history_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let _worker = worker(&engine, false);
    let mut listener = engine.events.listen();
    let id = run(&engine, "one").await;
    assert_eq!(run(&engine, "one").await, id, "the same key gives the same run");
    assert_eq!(end(&engine, id).await, (End::Succeeded, json!({"n": 6})));
    let told: Vec<String> = std::iter::from_fn(|| listener.try_recv().ok())
        .filter(|event| event.subject == Some(id.to_string()))
        .map(|event| event.kind)
        .collect();
    assert_eq!(told.first().map(String::as_str), Some("patchloom.run.running"), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("patchloom.run.succeeded"), "{told:?}");
    let names: Vec<&str> = engine.history(id).await.unwrap().iter().map(|item| item.entry.event.name()).collect();
    assert_eq!(names[..5], ["run_started", "attempt_finished", "child_started", "child_ended", "attempt_finished"]);
    engine.close().await;

    let engine = start(dir.path()).await;
    assert_eq!(engine.notes, Vec::<String>::new());
    assert_eq!(end(&engine, id).await, (End::Succeeded, json!({"n": 6})));
    assert!(engine.history(id).await.unwrap().len() >= 5);
    assert_eq!(run(&engine, "one").await, id, "the key is known after a restart");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_behind_a_child_takes_the_child_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let _worker = worker(&engine, true);
    let id = run(&engine, "two").await;
    assert_eq!(end(&engine, id).await.0, End::Compensated);
    let (ran, _) = engine.handle.run(id).await.unwrap().expect("a run that failed stays for a retry");
    assert_eq!(ran.cause.as_ref().unwrap().failure.message, "told to");
    let child = id.child(&"b".into(), 0, 1);
    assert_eq!(end(&engine, child).await.0, End::Compensated);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_off_goes_on_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let id = run(&engine, "three").await;
    let lease = engine.queue.take(1).await.remove(0);
    assert_eq!((lease.task.uses.as_str(), lease.task.key.run), ("t.a", id));
    engine.close().await;

    let engine = start(dir.path()).await;
    let again = engine.queue.take(1).await.remove(0);
    assert_eq!(again.task, lease.task, "the same task under the same key");
    let event =
        Event::AttemptFinished { task: again.task.key.clone(), outcome: answer(&again, false), tell: Vec::new() };
    engine.handle.tell("worker:test", event.clone()).await.unwrap();
    let twice = engine.handle.tell("worker:test", event).await.unwrap_err();
    assert!(twice.to_string().contains("nothing to do"), "{twice}");
    let _worker = worker(&engine, false);
    assert_eq!(end(&engine, id).await.0, End::Succeeded);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_over_is_over_after_a_restart_that_came_before_its_retirement() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let id = run(&engine, "over").await;
    engine.close().await;

    // The store holds the run as open now. From here on only the closing writes to it: it hands the run to the archive,
    // and its retirement is never recorded.
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = Duration::from_secs(3600);
    let engine = open(dir.path(), &options).await.unwrap();
    let _worker = worker(&engine, false);
    assert_eq!(end(&engine, id).await.0, End::Succeeded);
    engine.close().await;

    let engine = start(dir.path()).await;
    let open_runs = |state: &patchloom_core::Partition| state.runs().filter(|run| run.end().is_none()).count();
    assert_eq!(engine.handle.read(open_runs).await.unwrap(), 0, "a run that was over goes on");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_is_made_again_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let done = run(&engine, "four").await;
    let worker = worker(&engine, false);
    end(&engine, done).await;
    worker.abort();
    assert!(worker.await.is_err(), "nobody works on what comes now");
    let open_run = run(&engine, "five").await;
    let before: Vec<(String, Vec<u8>)> = engine.handle.read(|state| state.rows().collect()).await.unwrap();
    engine.close().await;

    std::fs::write(dir.path().join("store/db"), b"this is no database").unwrap();
    let engine = start(dir.path()).await;
    assert!(engine.notes.iter().any(|note| note.starts_with("store: rebuilt")), "{:?}", engine.notes);
    let after: Vec<(String, Vec<u8>)> = engine.handle.read(|state| state.rows().collect()).await.unwrap();
    let of = |rows: &[(String, Vec<u8>)], id: RunId| rows.iter().find(|(key, _)| *key == format!("r/{id}")).cloned();
    assert_eq!(of(&before, open_run), of(&after, open_run));
    assert_eq!(end(&engine, done).await.0, End::Succeeded);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_over_is_over_after_a_restart_right_behind_its_end() {
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let engine = start(dir.path()).await;
        let id = run(&engine, "six").await;
        let lease = engine.queue.take(1).await.remove(0);
        // From here on the store holds the run as it is now, half-way.
        let stored = async {
            while engine.handle.recent_history(id).await.unwrap().len() == engine.history(id).await.unwrap().len() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), stored).await.expect("a checkpoint is written");
        let outcome = engine.queue.settle(&lease, answer(&lease, false)).unwrap();
        let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
        engine.handle.tell("worker:test", event).await.unwrap();
        let worker = worker(&engine, false);
        end(&engine, id).await;
        let before = engine.history(id).await.unwrap().len();
        worker.abort();
        engine.close().await;

        let engine = start(dir.path()).await;
        let open: Vec<RunId> = engine
            .handle
            .read(|state| state.runs().filter(|run| run.end().is_none()).map(|run| run.id()).collect())
            .await
            .unwrap();
        assert_eq!(open, [], "round {round}");
        assert!(engine.history(id).await.unwrap().len() >= before, "round {round}: the history is whole");
        engine.close().await;
    }
}
