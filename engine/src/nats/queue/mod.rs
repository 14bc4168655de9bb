//! The queue over NATS, on the leader's side: the book is here, the tickets are in JetStream, the workers anywhere.
//!
//! Nothing here has to survive: a new leader fills its book from what the state owes, and adopts what workers hold.

mod answers;
mod demand;
mod tickets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use patchloom_core::wire::{DeadLetter, Names, Progress};
use patchloom_core::{Failure, FailureClass, Outcome, QueueName, Task, TaskKey, UtcMs};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::demand::Demand;
use crate::clock::Clock;
use crate::queue::book::{Book, Dead};
use crate::queue::{Beat, Lease, Limits, OutTask, Recall, TaskQueue};
use crate::runtime::Intake;

/// What bounds the queue.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// The names of streams and subjects.
    pub names: Names,
    /// The partition whose tasks these are.
    pub partition: Arc<str>,
    /// What holds where a task does not say.
    pub limits: Limits,
    /// On how many servers the tickets lie.
    pub replicas: usize,
    /// The most tickets of one queue that nobody has claimed yet.
    pub window: usize,
    /// How long JetStream waits for a sign of life before it hands a ticket to somebody else.
    pub ack_wait: Duration,
    /// How long what a worker wants counts when nothing is heard of it.
    pub want_lasts: Duration,
    /// After how long a ticket that nobody claimed is looked after.
    pub audit: Duration,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            names: Names::default(),
            partition: "main".into(),
            limits: Limits::default(),
            replicas: 1,
            window: 4_096,
            ack_wait: Duration::from_secs(30),
            want_lasts: Duration::from_secs(10),
            audit: Duration::from_secs(5),
        }
    }
}

/// A worker as the leader knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSeen {
    /// What it calls itself.
    pub name: Arc<str>,
    /// What people know it by.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The queues that it serves.
    pub queues: BTreeSet<QueueName>,
    /// When it was last heard of.
    pub heard: UtcMs,
}

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct NatsQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: QueueOptions,
    clock: Clock,
    state: Mutex<State>,
    /// Something is to be written.
    write: Notify,
    /// Something waits.
    ready: Notify,
    /// Who takes straight from the book.
    own: Arc<str>,
}

#[derive(Debug)]
struct State {
    book: Book,
    demand: Demand,
    /// Tickets that nobody puts away.
    removals: Vec<Arc<Task>>,
    letters: Vec<DeadLetter>,
    /// Tasks that cannot be handed out.
    doomed: Vec<(TaskKey, Outcome)>,
    workers: BTreeMap<Arc<str>, WorkerSeen>,
    progress: BTreeMap<TaskKey, Progress>,
}

/// A worker that was not heard of for so long is none any more.
const WORKER_KEPT: patchloom_core::Millis = patchloom_core::Millis(3_600_000);

impl NatsQueue {
    /// An empty queue, which speaks to nobody until it is [served](Self::serve).
    #[must_use]
    pub fn new(options: QueueOptions, clock: Clock) -> Self {
        // Any number that no former leader had.
        let reign = u32::try_from(Uuid::now_v7().as_u64_pair().1 & u64::from(u32::MAX)).unwrap_or(1);
        let state = State {
            book: Book::new(options.limits, reign),
            demand: Demand::default(),
            removals: Vec::new(),
            letters: Vec::new(),
            doomed: Vec::new(),
            workers: BTreeMap::new(),
            progress: BTreeMap::new(),
        };
        let (write, ready) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { options, clock, state: Mutex::new(state), write, ready, own: "engine".into() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> UtcMs {
        self.0.clock.now()
    }

    /// How many tasks wait and how many are out.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        self.state().book.depth()
    }

    /// What is with workers.
    #[must_use]
    pub fn out(&self) -> Vec<OutTask> {
        self.state().book.out()
    }

    /// The workers that were heard of in the last hour.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerSeen> {
        self.state().workers.values().cloned().collect()
    }

    /// How far each task at work is, where its worker told.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<TaskKey, Progress> {
        self.state().progress.clone()
    }

    /// Writes tickets and answers workers until `stop` fires. To be run beside the leader to which `intake` leads.
    ///
    /// Nothing is answered and nothing written while `may_answer` says no: a leader whose lease is not confirmed stays
    /// silent, and workers ask again.
    pub async fn serve<I: Intake>(
        &self,
        context: jetstream::Context,
        intake: I,
        may_answer: impl Fn() -> bool + Clone + Send + Sync + 'static,
        stop: CancellationToken,
    ) {
        // The leader takes this once it has released all that the state owes. Before, "nobody wants it" would be a guess.
        if intake.submit(Vec::new()).await.is_err() {
            return;
        }
        let writing = tickets::run(self.clone(), context.clone(), may_answer.clone(), stop.clone());
        let answering = answers::run(self.clone(), context.client(), intake, may_answer, stop);
        tokio::join!(writing, answering);
    }

    fn bury(&self, dead: &Dead) -> DeadLetter {
        DeadLetter {
            task: Task::clone(&dead.task),
            deliveries: dead.deliveries,
            worker: Arc::clone(&dead.worker),
            failure: dead.failure.clone(),
            at: self.now(),
        }
    }

    /// A task whose ticket no server takes.
    fn doom(&self, key: &TaskKey, message: String) {
        let details = serde_json::Value::Null;
        let failure = Failure { code: "E0324".into(), class: FailureClass::Permanent, message, details };
        self.state().doomed.push((key.clone(), Outcome::Failed(failure)));
    }
}

impl TaskQueue for NatsQueue {
    fn publish(&self, tasks: Vec<Task>) {
        let now = self.now();
        self.state().book.publish(tasks, now);
        self.0.write.notify_one();
        self.0.ready.notify_waiters();
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        self.state().book.recall(key)
    }

    fn forget(&self, keys: &[TaskKey]) {
        let mut state = self.state();
        for key in keys {
            let left = state.book.forget(key);
            state.removals.extend(left);
            state.progress.remove(key);
        }
        if !state.removals.is_empty() {
            self.0.write.notify_one();
        }
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        let now = self.now();
        let mut state = self.state();
        let mut swept = state.book.sweep(now);
        swept.over.append(&mut state.doomed);
        let letters: Vec<DeadLetter> = swept.dead.iter().map(|dead| self.bury(dead)).collect();
        let news = swept.again || !letters.is_empty();
        state.letters.extend(letters);
        state.workers.retain(|_, worker| now.since(worker.heard) < WORKER_KEPT);
        drop(state);
        if news {
            self.0.write.notify_one();
            self.0.ready.notify_waiters();
        }
        swept.over
    }

    async fn take(&self, max: usize) -> Vec<Lease> {
        loop {
            // Hears of all that comes from here on, also before it is polled.
            let ready = self.0.ready.notified();
            let now = self.now();
            let leases = self.state().book.take(max, None, &self.0.own, now);
            if !leases.is_empty() {
                return leases;
            }
            ready.await;
        }
    }

    fn beat(&self, lease: &Lease) -> Beat {
        let now = self.now();
        self.state().book.beat(&lease.task.key, lease.token, now)
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        self.state().book.settle(&lease.task.key, lease.token, outcome)
    }
}
