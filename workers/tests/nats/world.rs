//! A server, a queue with a journal that is a list, and workers that do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use patchloom_bed::nats::{Options, Server};
use patchloom_core::record::{Entry, Event};
use patchloom_core::run::Refusal;
use patchloom_core::{Failure, Leg, Millis, Outcome, QueueName, RunId, StepName, Task, TaskKey, TaskTimeouts};
use patchloom_engine::clock::Clock;
use patchloom_engine::nats::{NatsQueue, QueueOptions};
use patchloom_engine::queue::{Limits, TaskQueue as _};
use patchloom_engine::runtime::{EngineError, Intake, Seen};
use patchloom_workers::nats::{NatsSource, SourceOptions};
use patchloom_workers::runtime::{BoxFuture, DataDir, Handler, Handlers, PoolConfig, TaskContext, WorkerPool};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn queue_name(name: &str) -> QueueName {
    name.parse().unwrap()
}

pub fn task(item: u32) -> Task {
    let step = StepName("s".into());
    let key = TaskKey { run: RunId(Uuid::nil()), step, item, attempt: 1, leg: Leg::Forward };
    let timeouts = TaskTimeouts::default();
    Task { key, uses: "test.obey".into(), input: json!("succeed"), timeouts, priority: 0, queue: QueueName::default() }
}

pub fn told(item: u32, what: &str) -> Task {
    Task { input: json!(what), ..task(item) }
}

type Recorded = (TaskKey, Outcome, Arc<str>);

#[derive(Default)]
struct Entries {
    list: Vec<Recorded>,
    known: BTreeSet<TaskKey>,
}

/// A journal that is a list: each outcome counts once.
#[derive(Clone)]
pub struct Ledger {
    queue: Arc<Mutex<Option<NatsQueue>>>,
    entries: Arc<Mutex<Entries>>,
    news: Arc<Notify>,
    /// Whether it takes nothing at the moment.
    pub stalled: Arc<AtomicBool>,
}

impl Ledger {
    pub fn new() -> Self {
        Self { queue: Arc::default(), entries: Arc::default(), news: Arc::default(), stalled: Arc::default() }
    }

    fn count(&self) -> usize {
        self.entries.lock().unwrap().list.len()
    }

    pub async fn has(&self, count: usize) -> Vec<Recorded> {
        let enough = async {
            loop {
                let news = self.news.notified();
                if self.count() >= count {
                    return self.entries.lock().unwrap().list.clone();
                }
                news.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, enough).await;
        found.unwrap_or_else(|_| panic!("{} of {count} recorded", self.count()))
    }

    pub fn record(&self, task: &TaskKey, outcome: Outcome, by: Arc<str>) -> Seen {
        let mut entries = self.entries.lock().unwrap();
        let known = !entries.known.insert(task.clone());
        if !known {
            entries.list.push((task.clone(), outcome, by));
        }
        let seq = u64::try_from(entries.list.len()).unwrap();
        // Before anybody can see the outcome: who sees the last one may ask at once what is left.
        if let Some(queue) = &*self.queue.lock().unwrap() {
            queue.forget(std::slice::from_ref(task));
        }
        drop(entries);
        self.news.notify_waiters();
        if known { Err(Refusal::Stale("this attempt is not out".into())) } else { Ok(seq) }
    }
}

impl Intake for Ledger {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Vec<Seen>, EngineError> {
        // A leader that begins asks with nothing in its hands.
        while !entries.is_empty() && self.stalled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let one = |entry: Entry| match entry.event {
            Event::AttemptFinished { task, outcome, .. } => self.record(&task, outcome, entry.by),
            other => panic!("not a result: {other:?}"),
        };
        Ok(entries.into_iter().map(one).collect())
    }
}

/// A leader without an engine: a queue that is served, and swept.
pub struct Leader {
    pub queue: NatsQueue,
    pub may_answer: Arc<AtomicBool>,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
}

pub fn options() -> QueueOptions {
    let limits = Limits { heartbeat: Millis(2_000), deliveries: 3 };
    QueueOptions { limits, ack_wait: Duration::from_secs(2), audit: Duration::from_secs(1), ..QueueOptions::default() }
}

impl Leader {
    pub async fn start(url: &str, ledger: &Ledger, options: QueueOptions, owed: Vec<Task>) -> Self {
        let client = connect(url).await;
        let queue = NatsQueue::new(options, Clock::system());
        *ledger.queue.lock().unwrap() = Some(queue.clone());
        queue.publish(owed);
        let (stop, may_answer) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let may = Arc::clone(&may_answer);
        let context = async_nats::jetstream::new(client);
        let (served, intake, stopped) = (queue.clone(), ledger.clone(), stop.clone());
        let serving = tokio::spawn(async move {
            served.serve(context, intake, move || may.load(Ordering::SeqCst), stopped).await;
        });
        let (swept, intake) = (queue.clone(), ledger.clone());
        let sweeping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                for (key, outcome) in swept.sweep() {
                    let _ = intake.record(&key, outcome, "engine".into());
                }
            }
        });
        Self { queue, may_answer, stop, running: vec![serving, sweeping] }
    }

    /// Dies without a word.
    pub fn kill(self) {
        for task in &self.running {
            task.abort();
        }
        self.stop.cancel();
    }
}

/// Does what its input says, and tells the test.
struct Obedient(mpsc::UnboundedSender<(TaskKey, u32)>);

impl Handler for Obedient {
    fn uses(&self) -> &'static str {
        "test.obey"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let _ = self.0.send((context.key().clone(), context.redelivered()));
            match input.as_str().unwrap_or_default() {
                "succeed" => Ok(json!("done")),
                "nap" => {
                    context.progress(0.5, "asleep");
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    Ok(json!("slept"))
                }
                // Until it is told to stop.
                _ => {
                    context.cancel().cancelled().await;
                    Err(Failure {
                        code: "E0500".into(),
                        class: patchloom_core::FailureClass::Transient,
                        message: "stopped".into(),
                        details: Value::Null,
                    })
                }
            }
        })
    }
}

/// A worker that can be killed.
pub struct TestWorker {
    pub begun: mpsc::UnboundedReceiver<(TaskKey, u32)>,
    pub shutdown: CancellationToken,
    pool: JoinHandle<()>,
}

impl TestWorker {
    pub async fn start(url: &str, name: &str, queues: &[&str], parallel: usize) -> Self {
        let client = connect(url).await;
        let shutdown = CancellationToken::new();
        let labels = BTreeMap::from([("site".into(), "lab".into())]);
        let queues = queues.iter().map(|queue| queue_name(queue)).collect();
        let options =
            SourceOptions { labels, ask_every: Duration::from_millis(500), ..SourceOptions::new(name, queues) };
        let source = Arc::new(NatsSource::start(client, options, shutdown.clone()));
        let (tell, begun) = mpsc::unbounded_channel();
        let mut handlers = Handlers::default();
        handlers.add(Obedient(tell)).unwrap();
        let config = PoolConfig { parallel, heartbeat: Duration::from_millis(300), ..PoolConfig::default() };
        let pool = WorkerPool::new(source, handlers, DataDir::new("/nowhere"), config);
        let pool = tokio::spawn(pool.run(shutdown.clone()));
        Self { begun, shutdown, pool }
    }

    pub async fn begins(&mut self) -> (TaskKey, u32) {
        tokio::time::timeout(PATIENCE, self.begun.recv()).await.expect("a task comes").expect("the worker lives")
    }

    /// Dies with all it has in its hands.
    pub fn kill(self) {
        self.pool.abort();
    }

    pub async fn drain(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.pool).await.expect("it comes to an end").unwrap();
    }
}

pub async fn connect(url: &str) -> Client {
    async_nats::ConnectOptions::new().subscription_capacity(1 << 20).connect(url).await.unwrap()
}

pub fn server() -> Server {
    Server::start(Options::default())
}
