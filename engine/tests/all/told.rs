//! What tasks tell with their results is published once, when the result is recorded, and never for one that is refused.

use std::path::Path;
use std::time::Duration;

use patchloom_core::record::{Batch, Entry, Event, SEMANTICS};
use patchloom_core::run::Refusal;
use patchloom_core::{CloudEvent, Definition, Failure, FailureClass, Outcome, Partition, Told};
use patchloom_engine::events::{Wanted, of_facts};
use patchloom_engine::journal::{EmbeddedJournal, Journal as _, Options, RecordReader as _};
use patchloom_engine::queue::{Lease, TaskQueue};
use patchloom_engine::runtime::{Engine, EngineOptions, Intake, StartRun, open};
use serde_json::{Value, json};

const WORK: &str = r#"
name: work
steps:
  a: { uses: t.a, retry: { attempts: 2, backoff: 1ms }, compensate: { uses: t.undo } }
  b: { needs: a, uses: t.b }
"#;

async fn start(dir: &Path) -> Engine {
    let engine = open(dir, &EngineOptions::default()).await.expect("the engine opens");
    engine.handle.register("test", &Definition::parse("test", WORK).unwrap()).await.unwrap();
    engine
}

async fn next(engine: &Engine) -> Lease {
    let taken = tokio::time::timeout(Duration::from_secs(20), engine.queue.take(1)).await;
    taken.expect("a task comes").remove(0)
}

fn told(kind: &str, subject: Option<&str>) -> Told {
    let data = json!({ "n": 1, "run": "what a task says of its run does not count" });
    Told { kind: kind.into(), subject: subject.map(Into::into), data: data.as_object().unwrap().clone() }
}

fn finished(lease: &Lease, outcome: Outcome, tell: Vec<Told>) -> Entry {
    let event = Event::AttemptFinished { task: lease.task.key.clone(), outcome, tell };
    Entry { by: "worker:test".into(), event }
}

fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure { code: "X".into(), class, message: "told to".into(), details: Value::Null })
}

const DONE: Outcome = Outcome::Succeeded { output: Value::Null };

/// The events of tasks that are there by now, without the engine's own.
fn heard(listener: &mut tokio::sync::broadcast::Receiver<CloudEvent>) -> Vec<CloudEvent> {
    let all = std::iter::from_fn(|| listener.try_recv().ok());
    all.filter(|event| event.kind.starts_with("shop.")).collect()
}

#[tokio::test]
async fn a_result_tells_once_what_its_task_told_and_a_refused_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = start(dir.path()).await;
    let mut listener = engine.events.listen();
    let order = StartRun { workflow: "work".into(), inputs: json!({}), ..StartRun::default() };
    let run = engine.handle.start("test", order).await.unwrap();

    let first = next(&engine).await;
    let tells = vec![told("shop.a", Some("web-1")), told("shop.b", None)];
    let entry = finished(&first, failed(FailureClass::Transient), tells);
    let seen = engine.handle.submit(vec![entry.clone(), entry.clone()]).await.unwrap();
    let seq = *seen[0].as_ref().unwrap();
    assert!(matches!(seen[1], Err(Refusal::Stale(_))), "{:?}", seen[1]);
    let events = heard(&mut listener);
    let short: Vec<_> = events.iter().map(|event| (&*event.kind, event.subject.clone().unwrap())).collect();
    assert_eq!(short, [("shop.a", "web-1".to_owned()), ("shop.b", run.to_string())]);
    assert_eq!(events[0].id, format!("{seq}-0"));
    assert_eq!(events[1].id, format!("{seq}-1"));
    assert_eq!(events[0].data, json!({"n": 1, "run": run, "step": "a", "item": 0}));
    assert_eq!(CloudEvent::read(&serde_json::to_string(&events[0]).unwrap()), Ok(events[0].clone()));

    // The answer was lost and the process was killed: the result comes again, to the next engine.
    engine.close().await;
    engine = start(dir.path()).await;
    let mut listener = engine.events.listen();
    let seen = engine.handle.submit(vec![entry]).await.unwrap();
    assert!(matches!(seen[0], Err(Refusal::Stale(_))));
    let again = next(&engine).await;
    assert_eq!(again.task.key.attempt, 2);
    let entry = finished(&again, DONE, vec![told("shop.c", None)]);
    engine.handle.submit(vec![entry]).await.unwrap();
    let b = next(&engine).await;
    engine.handle.submit(vec![finished(&b, failed(FailureClass::Permanent), Vec::new())]).await.unwrap();
    let undo = next(&engine).await;
    assert_eq!(undo.task.uses, "t.undo");
    engine.handle.submit(vec![finished(&undo, DONE, vec![told("shop.d", None)])]).await.unwrap();
    let kinds: Vec<String> = heard(&mut listener).into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["shop.c", "shop.d"], "the way back tells too");
    engine.close().await;
    assert_eq!(refolded(dir.path()).await, ["shop.a", "shop.b", "shop.c", "shop.d"], "the journal has them all, once");
}

/// The events of tasks, as the journal of a directory tells them to whoever folds it.
async fn refolded(dir: &Path) -> Vec<String> {
    let (journal, _) = EmbeddedJournal::open(&dir.join("journal"), Options::new(SEMANTICS)).unwrap();
    let mut tail = journal.read_from(1).await.unwrap();
    let (mut state, mut kinds) = (Partition::default(), Vec::new());
    while let Some(record) = tail.next().await.unwrap() {
        let batch: Batch = serde_json::from_slice(&record.payload).unwrap();
        let mut facts = Vec::new();
        for entry in &batch.entries {
            facts.extend(state.apply(record.seq, batch.at, entry).map(|applied| applied.facts).unwrap_or_default());
        }
        kinds.extend(of_facts("/s", record.seq, batch.at, &facts, Wanted::All).into_iter().map(|event| event.kind));
    }
    kinds.retain(|kind| kind.starts_with("shop."));
    kinds
}
