//! The pool on a source in memory, with paused time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use patchloom_core::{Leg, RunId, TaskKey, TaskTimeouts};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::failure::permanent;

#[derive(Default)]
struct Memory {
    waiting: Mutex<VecDeque<Lease>>,
    settled: Mutex<Vec<(String, Outcome)>>,
    facts: Mutex<Vec<Told>>,
    told: Mutex<Vec<Progress>>,
    beats: Mutex<u32>,
    beat: Mutex<Option<Beat>>,
    refusals: Mutex<u32>,
    changed: Notify,
}

impl Memory {
    fn with(tasks: &[(&str, Value)]) -> Arc<Self> {
        let memory = Self::default();
        for (at, (uses, input)) in tasks.iter().enumerate() {
            let key = TaskKey {
                run: RunId("018f3c5e-0000-7000-8000-000000000001".parse().unwrap()),
                step: format!("s{at}").as_str().into(),
                item: 0,
                attempt: 1,
                leg: Leg::Forward,
            };
            let task = Task {
                key,
                uses: (*uses).to_owned(),
                input: input.clone(),
                timeouts: TaskTimeouts::default(),
                priority: 0,
                queue: patchloom_core::QueueName::default(),
            };
            memory.waiting.lock().unwrap().push_back(Lease { task, token: u64::try_from(at).unwrap(), redelivered: 0 });
        }
        Arc::new(memory)
    }

    async fn settled(&self, count: usize) -> Vec<(String, Outcome)> {
        loop {
            let changed = self.changed.notified();
            if self.settled.lock().unwrap().len() >= count {
                return self.settled.lock().unwrap().clone();
            }
            changed.await;
        }
    }
}

impl TaskSource for Memory {
    async fn take(&self, max: usize) -> Result<Vec<Lease>, SourceError> {
        let taken: Vec<Lease> = {
            let mut waiting = self.waiting.lock().unwrap();
            let count = max.min(waiting.len());
            waiting.drain(..count).collect()
        };
        if taken.is_empty() {
            std::future::pending::<()>().await;
        }
        Ok(taken)
    }

    async fn heartbeat(&self, _lease: &Lease) -> Result<Beat, SourceError> {
        *self.beats.lock().unwrap() += 1;
        Ok(self.beat.lock().unwrap().unwrap_or(Beat::Continue))
    }

    async fn progress(&self, _lease: &Lease, progress: &Progress) {
        self.told.lock().unwrap().push(progress.clone());
    }

    async fn settle(&self, lease: &Lease, outcome: &Outcome, tell: &[Told]) -> Result<(), SourceError> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(SourceError::Unavailable("not now".to_owned()));
        }
        self.facts.lock().unwrap().extend_from_slice(tell);
        self.settled.lock().unwrap().push((lease.task.key.step.to_string(), outcome.clone()));
        self.changed.notify_waiters();
        Ok(())
    }
}

/// Does what its input says.
struct Obedient;

impl Handler for Obedient {
    fn uses(&self) -> &'static str {
        "test.obey"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            match input["do"].as_str().unwrap() {
                "succeed" => Ok(input["with"].clone()),
                "tell" => {
                    context.tell("a.told", "web-1", input.as_object().unwrap().clone());
                    if input["then"] == "fail" { Err(permanent("E0500", "as told")) } else { Ok(Value::Null) }
                }
                "fail" => Err(permanent("E0500", "as told")),
                "panic" => panic!("as told"),
                "sleep" => {
                    context.progress(0.5, "asleep");
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    context.progress(f64::NAN, "awake");
                    Ok(json!("slept"))
                }
                "wait" => {
                    context.cancel().cancelled().await;
                    Err(permanent("E0500", "stopped"))
                }
                other => panic!("{other}"),
            }
        })
    }
}

fn start(memory: &Arc<Memory>, parallel: usize) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let mut handlers = Handlers::default();
    handlers.add(Obedient).unwrap();
    assert_eq!(handlers.add(Obedient).unwrap_err().0, "test.obey");
    let config = PoolConfig { parallel, ..PoolConfig::default() };
    let pool = WorkerPool::new(Arc::clone(memory), handlers, DataDir::new("/nowhere"), config);
    let shutdown = CancellationToken::new();
    (shutdown.clone(), tokio::spawn(pool.run(shutdown)))
}

fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(failure) => &failure.code,
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Cancelled => "cancelled",
    }
}

fn obey(what: &str) -> (&'static str, Value) {
    ("test.obey", json!({ "do": what, "with": 7 }))
}

#[tokio::test(start_paused = true)]
async fn each_task_is_settled_with_its_own_end_and_a_panic_takes_nothing_down() {
    let memory = Memory::with(&[obey("panic"), obey("fail"), ("no.such", json!({})), obey("succeed")]);
    let (shutdown, pool) = start(&memory, 1);
    let settled = memory.settled(4).await;
    let codes: Vec<_> = settled.iter().map(|(step, outcome)| (step.as_str(), code(outcome))).collect();
    assert_eq!(codes, [("s0", "E0590"), ("s1", "E0500"), ("s2", "E0591"), ("s3", "succeeded")]);
    assert_eq!(settled[3].1, Outcome::Succeeded { output: json!(7) });
    shutdown.cancel();
    pool.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_running_task_beats_and_tells_its_progress() {
    let memory = Memory::with(&[obey("sleep")]);
    let (shutdown, pool) = start(&memory, 1);
    memory.settled(1).await;
    assert!(*memory.beats.lock().unwrap() >= 3);
    let told = memory.told.lock().unwrap().clone();
    assert_eq!(told.first(), Some(&Progress { fraction: 0.5, text: "asleep".to_owned() }));
    assert_eq!(told.last(), Some(&Progress { fraction: 0.0, text: "awake".to_owned() }));
    shutdown.cancel();
    pool.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_repeated_until_it_is_recorded() {
    let memory = Memory::with(&[obey("succeed")]);
    *memory.refusals.lock().unwrap() = 20;
    let (shutdown, pool) = start(&memory, 1);
    assert_eq!(memory.settled(1).await.len(), 1);
    shutdown.cancel();
    pool.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_is_settled_as_cancelled_and_a_lost_one_not_at_all() {
    for (beat, expected) in [(Beat::Cancel, 1), (Beat::Lost, 0)] {
        let memory = Memory::with(&[obey("wait")]);
        *memory.beat.lock().unwrap() = Some(beat);
        let (shutdown, pool) = start(&memory, 1);
        tokio::time::sleep(Duration::from_secs(30)).await;
        shutdown.cancel();
        pool.await.unwrap();
        let settled = memory.settled.lock().unwrap().clone();
        assert_eq!(settled.len(), expected);
        assert!(settled.iter().all(|(_, outcome)| *outcome == Outcome::Cancelled));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_tasks_finish_and_leaves_the_unfinished_for_another_time() {
    let memory = Memory::with(&[obey("sleep"), obey("wait"), obey("succeed")]);
    let (shutdown, pool) = start(&memory, 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    shutdown.cancel();
    pool.await.unwrap();
    let settled = memory.settled.lock().unwrap().clone();
    assert_eq!(settled, [("s0".to_owned(), Outcome::Succeeded { output: json!("slept") })]);
    assert_eq!(memory.waiting.lock().unwrap().len(), 1, "nothing is taken after shutdown began");
}

#[tokio::test(start_paused = true)]
async fn what_a_task_tells_goes_with_its_result_whatever_that_is() {
    let memory = Memory::with(&[
        ("test.obey", json!({"do": "tell", "n": 1})),
        ("test.obey", json!({"do": "tell", "n": 2, "then": "fail"})),
        ("test.obey", json!({"do": "succeed"})),
    ]);
    *memory.refusals.lock().unwrap() = 1;
    let (shutdown, pool) = start(&memory, 1);
    memory.settled(3).await;
    shutdown.cancel();
    pool.await.unwrap();
    let facts = memory.facts.lock().unwrap();
    let seen: Vec<_> = facts.iter().map(|told| (&*told.kind, told.subject.as_deref(), &told.data["n"])).collect();
    assert_eq!(seen, [("a.told", Some("web-1"), &json!(1)), ("a.told", Some("web-1"), &json!(2))], "each once");
}
