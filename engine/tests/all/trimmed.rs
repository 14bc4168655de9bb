//! Runs whose begin lies before the first record that the journal still has: shown as they were, and exported.

use std::path::Path;
use std::time::Duration;

use patchloom_core::record::Event;
use patchloom_core::{Definition, RunId};
use patchloom_engine::runtime::{Engine, EngineOptions, StartRun, Until, inspect, open};
use serde_json::{Value, json};

const HOLD: &str = "name: hold\nsteps:\n  a: { set: 1 }\n  b: { needs: a, wait: { signal: go } }\n";
const BULK: &str = "name: bulk\ninputs: { text: { type: string } }\nsteps:\n  a: { set: 1 }\n";

async fn start(dir: &Path) -> Engine {
    let mut options = EngineOptions::default();
    // A snapshot with each checkpoint, and many checkpoints: the journal is trimmed as soon as a segment is full.
    options.tuning.snapshot_bytes = 1;
    options.tuning.checkpoint = Duration::from_millis(5);
    let engine = open(dir, &options).await.expect("the engine opens");
    for text in [HOLD, BULK] {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    engine
}

async fn begin(engine: &Engine, workflow: &str, inputs: Value) -> RunId {
    let order = StartRun { workflow: workflow.into(), inputs, ..StartRun::default() };
    engine.handle.start("test", order).await.unwrap()
}

/// Starts runs with long inputs until the journal begins behind record `seq`.
async fn trim(engine: &Engine, dir: &Path, seq: u64) {
    let text = "x".repeat(900_000);
    for _ in 0..200 {
        begin(engine, "bulk", json!({ "text": text })).await;
        if inspect(dir).is_ok_and(|inspected| inspected.first_record().is_ok_and(|first| first > seq)) {
            return;
        }
    }
    panic!("the journal was never trimmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_began_before_the_journal_does_is_told_from_its_own_history() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path()).await;
    let open = begin(&engine, "hold", json!({})).await;
    let over = begin(&engine, "hold", json!({})).await;
    let go = |run| Event::SignalReceived { run, name: "go".into(), payload: json!(7), id: None, roles: Vec::new() };
    let seq = engine.handle.tell("test", go(over)).await.unwrap();
    trim(&engine, dir.path(), seq).await;
    engine.close().await;

    let inspected = inspect(dir.path()).unwrap();
    for (run, ended) in [(open, false), (over, true)] {
        let begun = inspected.history(run).unwrap()[0].seq;
        let first = inspected.first_record().unwrap();
        assert!(begun < first, "the journal begins at record {first}");
        let past = inspected.past(run, Until::Record(begun)).unwrap().expect("its own history reaches back");
        assert_eq!(past.trimmed, Some(first), "and it is said that it was told from there");
        assert_eq!(past.state.run(run).unwrap().steps[1].status.name(), "waiting");
        assert!(inspected.past(run, Until::Record(begun - 1)).unwrap().is_none(), "it had not begun");
        let now = inspected.past(run, Until::Now).unwrap().expect("it is there");
        assert_eq!(now.state.run(run).unwrap().end().is_some(), ended);

        let exported = inspected.export(run).unwrap().expect("it is there");
        let replayed = exported.replay();
        assert!(replayed.difference.is_none(), "{:?}", replayed.difference);
        assert_eq!((replayed.runs, exported.states[&run].end().is_some()), (1, ended));
    }
}
