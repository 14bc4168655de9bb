//! What runs share survives every crash together with the runs: a place that is taken is counted once, and no more.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use patchloom_core::record::{End, Entry, Event};
use patchloom_core::{Definition, Outcome, Partition, RunId};
use patchloom_engine::queue::TaskQueue;
use patchloom_engine::runtime::{Engine, EngineOptions, Intake, StartRun, open};
use patchloom_engine::sim::Random;
use serde_json::{Value, json};

/// Set for the process that is killed; names its directory.
const VICTIM: &str = "PATCHLOOM_TEST_KILL_SHARED";
const ROUNDS: u64 = 6;
const JOB: &str = r#"
name: job
inputs: { lab: { type: string } }
concurrency: { group: "lab-${{ inputs.lab }}", limit: 2 }
steps:
  a: { uses: t.a, concurrency: { group: relay, limit: 1 } }
  b: { needs: a, uses: t.b, rate: 100000/1s }
"#;
const SOLO: &str = r#"
name: solo
concurrency: { group: solo, limit: 1 }
steps:
  a: { uses: t.a }
"#;

type Rows = Vec<(String, Vec<u8>)>;

async fn start(dir: &Path, checkpoint: Duration) -> Engine {
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = checkpoint;
    let engine = open(dir, &options).await.expect("the engine opens");
    for text in [JOB, SOLO] {
        engine.handle.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    engine
}

/// Copies what a process that dies now leaves behind. Nothing may write the store meanwhile.
fn crash_image(of: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy(of, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The state of the directory: the shared rows and the runs that are open. What ended may go to the archive meanwhile.
async fn rows(dir: &Path) -> Rows {
    let engine = open(dir, &EngineOptions::default()).await.expect("the engine opens");
    let read = |state: &Partition| {
        check_counts(state);
        let open =
            |key: &str| key.strip_prefix("r/").is_none_or(|id| state.run(id.parse().unwrap()).unwrap().end().is_none());
        state.rows().filter(|(key, _)| open(key)).collect()
    };
    let rows = engine.handle.read(read).await.unwrap();
    engine.close().await;
    rows
}

/// The places that a group counts are those that runs and their items hold.
fn check_counts(state: &Partition) {
    for (name, group) in state.shared().groups() {
        let runs = state.runs().filter(|run| run.place.as_ref() == Some(name)).count();
        let items: usize = state
            .runs()
            .filter(|run| run.end().is_none() && **name == *"relay" && *run.start.workflow == *"job")
            .filter_map(|run| run.steps[0].work.as_ref())
            .map(|work| work.live.values().filter(|live| live.at.has_place()).count())
            .sum();
        assert_eq!(usize::try_from(group.held).unwrap(), runs + items, "the places of `{name}`");
    }
}

async fn job(engine: &Engine, workflow: &str, nth: u64) -> RunId {
    let inputs = if workflow == "job" { json!({"lab": (nth % 3).to_string()}) } else { Value::Null };
    let order = StartRun { workflow: workflow.into(), inputs, ..StartRun::default() };
    engine.handle.start("test", order).await.unwrap()
}

async fn ended(engine: &Engine, id: RunId) -> End {
    let waiting = engine.handle.wait_for(id, |run| run.end().is_some());
    let run = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the run ends").unwrap();
    run.expect("a run that was cancelled stays in the state").end().expect("it was waited for")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_got_a_place_in_a_record_hears_what_the_same_record_says_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path(), Duration::from_millis(20)).await;
    let (first, second) = (job(&engine, "solo", 0).await, job(&engine, "solo", 1).await);
    engine.close().await;

    // From here on nothing is written behind.
    let engine = start(dir.path(), Duration::from_secs(3_600)).await;
    let cancel = |run| Event::CancelRequested { run, compensate: true, reason: "told to".into() };
    let entries = [first, second].map(|run| Entry { by: "test".into(), event: cancel(run) });
    let task = engine.queue.take(1).await.remove(0).task;
    assert_eq!(task.key.run, first);
    let seen = engine.handle.submit(entries.to_vec()).await.unwrap();
    let freed = Event::AttemptFinished { task: task.key, outcome: Outcome::Cancelled, tell: Vec::new() };
    assert!(seen.iter().all(Result::is_ok), "{seen:?}");
    let third = job(&engine, "solo", 2).await;
    let both = [freed, cancel(third)].map(|event| Entry { by: "test".into(), event });
    // The end of the first hands its place to the third, and the next entry of the same record cancels that one.
    let seen = engine.handle.submit(both.to_vec()).await.unwrap();
    assert_eq!(seen[0], seen[1], "both are in one record");
    assert_eq!(ended(&engine, third).await, End::Cancelled);
    let image = crash_image(dir.path());
    engine.close().await;

    let again = open(image.path(), &EngineOptions::default()).await.unwrap();
    assert_eq!(again.notes, Vec::<String>::new());
    for run in [first, second, third] {
        assert_eq!(ended(&again, run).await, End::Cancelled);
    }
    assert!(again.handle.read(|state| state.shared().groups().is_empty()).await.unwrap());
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_survive_a_restart_and_groups_that_are_gone_stay_gone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path(), Duration::from_millis(5)).await;
    for nth in 0..9 {
        job(&engine, "job", nth).await;
    }
    job(&engine, "solo", 0).await;
    engine.close().await;
    let before = rows(dir.path()).await;
    assert_eq!(before.iter().filter(|(key, _)| key.starts_with("g/")).count(), 5, "three labs, the relay, the solo");

    let engine = start(dir.path(), Duration::from_millis(5)).await;
    while engine.handle.read(|state| state.runs().any(|run| run.end().is_none())).await.unwrap() {
        work(&engine, 16).await;
    }
    engine.close().await;
    let engine = start(dir.path(), Duration::from_millis(5)).await;
    assert!(engine.handle.read(|state| state.shared().groups().is_empty()).await.unwrap());
    engine.close().await;
}

/// Does up to `max` tasks that wait.
async fn work(engine: &Engine, max: usize) {
    let leases = tokio::time::timeout(Duration::from_secs(20), engine.queue.take(max)).await.expect("a task waits");
    let done = |lease| {
        let outcome = engine.queue.settle(&lease, Outcome::Succeeded { output: Value::Null })?;
        Some(Entry {
            by: "worker:test".into(),
            event: Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() },
        })
    };
    engine.handle.submit(leases.into_iter().filter_map(done).collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_checkpoints_the_places_are_those_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(77);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "shared_limits::the_victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The time of the kill is what is varied; whenever it comes, what is checked must hold.
        tokio::time::sleep(Duration::from_millis(150 + random.below(400))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let (kept, bare) = (crash_image(dir.path()), crash_image(dir.path()));
        let _ = std::fs::remove_dir_all(bare.path().join("store"));
        let (kept, bare) = (rows(kept.path()).await, rows(bare.path()).await);
        assert!(kept == bare, "round {round}: the store and the journal give different states");
        assert!(round < ROUNDS - 1 || kept.iter().any(|(key, _)| key.starts_with("g/")), "nothing was under way");
    }
}

/// Does nothing by itself: the test above runs it in a process of its own, and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let engine = start(Path::new(&dir), Duration::from_millis(3)).await;
    for nth in 0.. {
        job(&engine, if nth % 5 == 0 { "solo" } else { "job" }, nth).await;
        if engine.queue.depth().0 > 0 {
            work(&engine, 2).await;
        }
    }
}
