//! What operators do with runs under way, on a real engine: trees are paused whole, limits change at once, what failed
//! goes again, versions are changed or refused, runs are set aside; and a run is exported and replayed elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{Event, Extent, Rerun, Tune};
use patchloom_core::run::{Phase, Refusal, Run};
use patchloom_core::{Definition, Failure, FailureClass, Outcome, RunId};
use patchloom_engine::queue::{Lease, TaskQueue};
use patchloom_engine::runtime::{Engine, EngineError, EngineOptions, Exported, StartRun, Until, inspect, open};
use serde_json::{Value, json};

const PARENT: &str = "
name: parent
steps:
  each: { for_each: { items: [1, 2] }, workflow: child, with: { n: \"${{ item }}\" } }
";
const CHILD: &str = "
name: child
inputs: { n: { type: integer } }
steps:
  hold: { wait: { signal: go } }
  work: { needs: hold, uses: t.work }
";
const FAN: &str = "
name: fan
steps:
  each:
    for_each: { items: [0, 1, 2, 3, 4, 5], max_parallel: 1, tolerate: { failures: 100% } }
    uses: t.item
    with: { n: \"${{ item }}\" }
  hold: { needs: each, wait: { signal: go } }
";

async fn engine(dir: &Path, definitions: &[&str], snapshots: bool) -> Engine {
    let mut options = EngineOptions::default();
    if snapshots {
        // A snapshot with each checkpoint, and many checkpoints: runs go to the archive soon.
        options.tuning.snapshot_bytes = 1;
        options.tuning.checkpoint = Duration::from_millis(5);
    }
    let engine = open(dir, &options).await.expect("the engine opens");
    for text in definitions {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    engine
}

async fn begin(engine: &Engine, workflow: &str) -> RunId {
    let order = StartRun { workflow: workflow.into(), ..StartRun::default() };
    engine.handle.start("test", order).await.unwrap()
}

async fn until(engine: &Engine, run: RunId, enough: impl Fn(&Run) -> bool + Send) -> Option<Arc<Run>> {
    let waiting = engine.handle.wait_for(run, enough);
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the run gets there").unwrap()
}

/// The two children of a parent, once they have begun: that is no change of the parent that anybody is told of.
async fn children(engine: &Engine, run: RunId) -> Vec<RunId> {
    let begun = async {
        loop {
            let below = engine.handle.open_below(run).await.unwrap();
            if below.len() == 2 {
                return below;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), begun).await.expect("both children begin")
}

async fn leases(engine: &Engine, count: usize) -> Vec<Lease> {
    let mut got = Vec::new();
    while got.len() < count {
        let more = tokio::time::timeout(Duration::from_secs(30), engine.queue.take(16)).await;
        got.extend(more.expect("tasks are handed out"));
    }
    got
}

async fn report(engine: &Engine, lease: &Lease, outcome: Outcome) -> Result<u64, EngineError> {
    let outcome = engine.queue.settle(lease, outcome).expect("the lease is held");
    engine
        .handle
        .tell("worker:test", Event::AttemptFinished { task: lease.task.key.clone(), outcome, tell: Vec::new() })
        .await
}

fn done() -> Outcome {
    Outcome::Succeeded { output: json!(1) }
}

fn broken() -> Outcome {
    let (code, message) = ("E1".into(), "no luck".to_owned());
    Outcome::Failed(Failure { code, class: FailureClass::Permanent, message, details: Value::Null })
}

fn signal(run: RunId) -> Event {
    Event::SignalReceived { run, name: "go".into(), payload: Value::Null, id: None, roles: Vec::new() }
}

fn refusal(result: Result<u64, EngineError>) -> String {
    match result {
        Err(EngineError::Refused(Refusal::Illegal(reason))) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_is_paused_and_resumed_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &[CHILD, PARENT], false).await;
    let (other, run) = (begin(&engine, "parent").await, begin(&engine, "parent").await);
    let below = children(&engine, run).await;
    children(&engine, other).await;
    let pause = |run| Event::PauseRequested { run, what: Extent::Run, reason: "freeze".into() };
    assert_eq!(engine.handle.tell_tree("test", run, pause).await.unwrap(), 2);
    for child in &below {
        let (child, _) = engine.handle.run(*child).await.unwrap().unwrap();
        assert_eq!(child.paused.as_ref().map(|hold| hold.reason.as_ref()), Some("freeze"));
        // What comes while it is paused counts; what it leads to waits.
        engine.handle.tell("test", signal(child.id())).await.unwrap();
        let (child, _) = engine.handle.run(child.id()).await.unwrap().unwrap();
        assert_eq!((child.steps[0].status.name(), child.steps[1].status.name()), ("done", "pending"));
    }
    let untouched = engine.handle.open_below(other).await.unwrap();
    let (untouched, _) = engine.handle.run(untouched[0]).await.unwrap().unwrap();
    assert_eq!(untouched.paused, None, "the runs of others go on");
    let again = engine.handle.tell_tree("test", run, pause).await;
    assert!(matches!(again, Err(EngineError::Refused(Refusal::Stale(_)))), "{again:?}");
    let resume = |run| Event::ResumeRequested { run, what: Extent::Run };
    assert_eq!(engine.handle.tell_tree("test", run, resume).await.unwrap(), 2);
    for lease in leases(&engine, 2).await {
        assert!(below.contains(&lease.task.key.run));
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_limit_lets_more_items_go_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &[FAN], false).await;
    let run = begin(&engine, "fan").await;
    let first = leases(&engine, 1).await;
    assert_eq!(first.len(), 1);
    let tuned = |tune| Event::Tuned { run, step: "each".into(), tune };
    let wider = Tune { max_parallel: Some(4), ..Tune::default() };
    engine.handle.tell("test", tuned(wider)).await.unwrap();
    let more = leases(&engine, 3).await;
    assert_eq!(more.len(), 3, "four are out, and no more");
    let (state, _) = engine.handle.run(run).await.unwrap().unwrap();
    assert_eq!(state.steps[0].work.as_ref().unwrap().live.len(), 4);
    let nothing = Tune { max_parallel: Some(0), ..Tune::default() };
    assert!(refusal(engine.handle.tell("test", tuned(nothing)).await).contains("pause it instead"));
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_items_that_failed_go_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &[FAN], false).await;
    let run = begin(&engine, "fan").await;
    for _ in 0..6 {
        let lease = leases(&engine, 1).await.remove(0);
        let outcome = if [1, 4].contains(&lease.task.key.item) { broken() } else { done() };
        report(&engine, &lease, outcome).await.unwrap();
    }
    until(&engine, run, |run| run.steps[1].status.name() == "waiting").await;
    let early = Event::RerunRequested { run, from: Rerun::Items("each".into()), inputs: serde_json::Map::new() };
    assert!(refusal(engine.handle.tell("test", early.clone()).await).contains("only a run that ended"));
    let cancel = Event::CancelRequested { run, compensate: false, reason: "later".into() };
    engine.handle.tell("test", cancel).await.unwrap();
    until(&engine, run, |run| run.end().is_some()).await;
    engine.handle.tell("test", early).await.unwrap();
    let mut again = Vec::new();
    for _ in 0..2 {
        let lease = leases(&engine, 1).await.remove(0);
        again.push((lease.task.key.item, lease.task.key.attempt));
        report(&engine, &lease, done()).await.unwrap();
    }
    assert_eq!(again, [(1, 2), (4, 2)], "under new attempt numbers");
    let run = until(&engine, run, |run| run.steps[1].status.name() == "waiting").await.unwrap();
    assert_eq!(run.steps[0].work.as_ref().unwrap().done, 6);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_as_another_version_where_nothing_it_did_is_contradicted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &[CHILD], false).await;
    let order = StartRun { workflow: "child".into(), inputs: json!({ "n": 1 }), ..StartRun::default() };
    let run = engine.handle.start("test", order).await.unwrap();
    for (from, to, reason) in [
        ("signal: go", "signal: stop", "`wait` of it differs"),
        ("hold:", "other:", "has no such step"),
        ("type: integer", "type: string", "the inputs do not fit"),
        ("name: child", "name: nephew", "not of `nephew`"),
    ] {
        let text = CHILD
            .replace(from, to)
            .replace("needs: hold", if from == "hold:" { "needs: other" } else { "needs: hold" });
        let wrong = Definition::parse("test", &text).unwrap();
        engine.handle.register("test", &wrong).await.unwrap();
        let event = Event::Migrated { run, version: wrong.digest.clone(), pins: Arc::default() };
        let said = refusal(engine.handle.tell("test", event).await);
        assert!(said.contains(reason), "{from}: {said}");
    }
    let text = CHILD.replace("uses: t.work", "uses: t.better");
    let right = Definition::parse("test", &text).unwrap();
    engine.handle.register("test", &right).await.unwrap();
    let event = Event::Migrated { run, version: right.digest.clone(), pins: Arc::default() };
    engine.handle.tell("test", event).await.unwrap();
    engine.handle.tell("test", signal(run)).await.unwrap();
    assert_eq!(leases(&engine, 1).await[0].task.uses, "t.better");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_set_aside_moves_only_after_its_release() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &[FAN], false).await;
    let run = begin(&engine, "fan").await;
    let first = leases(&engine, 1).await.remove(0);
    engine.handle.tell("test", Event::QuarantineRequested { run, reason: "odd".into() }).await.unwrap();
    let (aside, _) = engine.handle.run(run).await.unwrap().unwrap();
    assert!(matches!(aside.phase, Phase::Quarantined { .. }), "{:?}", aside.phase);
    assert!(refusal(report(&engine, &first, done()).await).contains("release it first"));
    engine.handle.tell("test", Event::ReleaseRequested { run }).await.unwrap();
    // What it owed is owed again, under the same key: the worker that did it gives the same outcome.
    let again = leases(&engine, 1).await.remove(0);
    assert_eq!(again.task.key, first.task.key);
    report(&engine, &again, done()).await.unwrap();
    let next = leases(&engine, 1).await.remove(0);
    assert_eq!(next.task.key.item, 1);
    engine.close().await;
}

/// A parent whose two children wait, one of which has gone on.
async fn family(dir: &Path, snapshots: bool) -> RunId {
    let engine = engine(dir, &[CHILD, PARENT], snapshots).await;
    let run = begin(&engine, "parent").await;
    let below = children(&engine, run).await;
    for child in &below {
        engine.handle.tell("test", signal(*child)).await.unwrap();
        let lease = leases(&engine, 1).await.remove(0);
        report(&engine, &lease, done()).await.unwrap();
    }
    if snapshots {
        let gone = async {
            while engine.handle.run(run).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the run goes to the archive");
    } else {
        until(&engine, run, |run| run.end().is_some()).await;
    }
    engine.close().await;
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_run_comes_to_the_same_state_elsewhere_from_journal_and_archive() {
    for snapshots in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = family(dir.path(), snapshots).await;
        let inspected = inspect(dir.path()).unwrap();
        let exported = inspected.export(run).unwrap().unwrap();
        assert_eq!((exported.states.len(), exported.definitions.len()), (3, 2));
        assert!(exported.points.is_empty(), "nobody else moved it: {:?}", exported.points);
        // Through the form in which it travels.
        let text = serde_json::to_string_pretty(&exported).unwrap();
        let read: Exported = serde_json::from_str(&text).unwrap();
        let replayed = read.replay();
        assert_eq!(replayed.difference, None);
        assert_eq!(replayed.runs, 3);
        assert!(replayed.story.iter().all(|(_, done)| done.is_ok()));
        let names: Vec<&str> = read.entries.iter().map(|line| line.item.entry.event.name()).collect();
        assert!(names.contains(&"child_ended") && names.contains(&"attempt_finished"), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_export_is_told_with_its_first_difference() {
    let dir = tempfile::tempdir().unwrap();
    let run = family(dir.path(), false).await;
    let sound = inspect(dir.path()).unwrap().export(run).unwrap().unwrap();
    let mut without = sound.clone();
    without.entries.retain(|line| !matches!(line.item.entry.event, Event::SignalReceived { .. }));
    let difference = without.replay().difference.unwrap();
    assert!(difference.run.is_some() && !difference.place.is_empty(), "{difference:?}");
    let mut later = sound.clone();
    later.entries[0].item.at.0 += 1;
    let difference = later.replay().difference.unwrap();
    assert_eq!((difference.run, difference.place.as_str()), (Some(run), "/started"));
    let mut other = sound.clone();
    for text in other.definitions.values_mut() {
        *text = text.replace("t.work", "t.wurk").into();
    }
    assert!(other.replay().difference.is_some());
    let mut renamed = sound;
    renamed.entries.last_mut().unwrap().item.entry.by = "nobody".into();
    let difference = renamed.replay().difference.unwrap();
    assert_eq!((difference.run, difference.place.as_str()), (None, "/digest"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_shown_as_it_was_behind_each_record() {
    let dir = tempfile::tempdir().unwrap();
    let run = family(dir.path(), false).await;
    let inspected = inspect(dir.path()).unwrap();
    let history = inspected.history(run).unwrap();
    let begun = history[0].seq;
    assert!(inspected.past(run, Until::Record(begun - 1)).unwrap().is_none(), "it had not begun");
    for item in &history {
        let past = inspected.past(run, Until::Record(item.seq)).unwrap().expect("it had begun");
        assert_eq!((past.trimmed, past.head), (None, item.seq));
        let seen = past.state.run(run).unwrap();
        assert!(seen.seq <= item.seq);
        let by_time = inspected.past(run, Until::Time(item.at)).unwrap().expect("it had begun");
        assert!(by_time.head >= item.seq, "all records of that instant are in it");
    }
    let first = inspected.past(run, Until::Record(begun)).unwrap().unwrap();
    assert_eq!(first.state.run(run).unwrap().end(), None);
    let last = inspected.past(run, Until::Now).unwrap().unwrap();
    assert_eq!(last.state.run(run), inspected.brief(run).unwrap().as_ref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_the_archive_is_shown_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let run = family(dir.path(), true).await;
    let inspected = inspect(dir.path()).unwrap();
    assert!(inspected.is_archived(run));
    let history = inspected.history(run).unwrap();
    let past = inspected.past(run, Until::Record(history[0].seq)).unwrap().expect("it had begun");
    let seen = past.state.run(run).unwrap();
    assert_eq!((seen.end(), seen.steps[0].status.name()), (None, "active"));
    assert!(inspected.past(run, Until::Record(history[0].seq - 1)).unwrap().is_none());
}
