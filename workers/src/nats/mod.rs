//! A worker's tasks out of NATS: a connection and the names of queues are all it needs.
//!
//! Tickets come from JetStream, and no work begins without a word of the leader. Whatever does not answer is asked again,
//! for ever: the server, the leader, the next leader.

mod fetch;
mod talk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subject};
use patchloom_core::wire::{self, Names, Op, Reply, Token, Worker};
use patchloom_core::{Outcome, QueueName, TaskKey, Told};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::{Beat, Lease, Progress, SourceError, TaskSource};

/// What a worker is, and which tasks it is for.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The names of streams and subjects.
    pub names: Names,
    /// A name that no other process has.
    pub worker: Arc<str>,
    /// What people know it by.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
    /// How long it waits for an answer of the leader before it asks again.
    pub answer_within: Duration,
    /// How often it says that it still has room.
    pub ask_every: Duration,
}

impl SourceOptions {
    /// A worker called `worker` of these queues.
    #[must_use]
    pub fn new(worker: &str, queues: Vec<QueueName>) -> Self {
        Self {
            names: Names::default(),
            worker: worker.into(),
            labels: BTreeMap::new(),
            queues,
            answer_within: Duration::from_secs(5),
            ask_every: Duration::from_secs(2),
        }
    }
}

/// Tasks out of NATS.
pub struct NatsSource {
    shared: Arc<Shared>,
    beats: mpsc::Sender<talk::Beating>,
    results: mpsc::Sender<talk::Settling>,
    _running: Vec<AbortOnDropHandle<()>>,
}

struct Shared {
    client: Client,
    options: SourceOptions,
    places: Mutex<Places>,
    /// There is a task to be taken.
    filled: Notify,
    /// There is room for a task.
    emptied: Notify,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct Places {
    /// For how many more tasks there is room.
    free: usize,
    /// Tasks that are ours and that nobody took yet.
    ready: VecDeque<Lease>,
    held: BTreeMap<TaskKey, Held>,
}

/// A task in our hands.
struct Held {
    token: Token,
    partition: Arc<str>,
    queue: QueueName,
    /// Where to say something about its ticket.
    ticket: Subject,
    progress: Option<wire::Progress>,
}

/// Beats and results that may wait to be sent.
const OUTBOX_MAX: usize = 4_096;

impl NatsSource {
    /// Begins to ask for tasks as soon as somebody wants to take them. From `shutdown` on it asks for none, and gives back
    /// what nobody took; tasks that were taken are beaten for and settled as before.
    #[must_use]
    pub fn start(client: Client, options: SourceOptions, shutdown: CancellationToken) -> Self {
        let queues = options.queues.clone();
        let shared = Arc::new(Shared {
            client,
            options,
            places: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            shutdown,
        });
        let (beats, beating) = mpsc::channel(OUTBOX_MAX);
        let (results, settling) = mpsc::channel(OUTBOX_MAX);
        let run = |task| AbortOnDropHandle::new(task);
        let mut running = vec![
            run(tokio::spawn(talk::beat(Arc::clone(&shared), beating))),
            run(tokio::spawn(talk::settle(Arc::clone(&shared), settling))),
        ];
        running.extend(queues.into_iter().map(|queue| run(tokio::spawn(fetch::run(Arc::clone(&shared), queue)))));
        Self { shared, beats, results, _running: running }
    }

    /// How many tasks it has in its hands.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.places().held.len()
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn who(&self) -> Worker {
        Worker { worker: Arc::clone(&self.options.worker), labels: self.options.labels.clone() }
    }

    /// Asks the leader of a partition; an answer for each that was asked about.
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        (partition, queue): (&str, &QueueName),
        op: Op,
        question: &Q,
        count: usize,
    ) -> Result<Vec<A>, String> {
        let payload = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let subject = self.options.names.work(partition, queue, op);
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(self.options.answer_within));
        let answer = self.client.send_request(subject, request).await.map_err(|error| error.to_string())?;
        match serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())? {
            Reply::Answers(answers) if answers.len() == count => Ok(answers),
            Reply::Answers(answers) => Err(format!("the leader gave {} answers to {count} questions", answers.len())),
            Reply::Error(error) => Err(error),
        }
    }

    /// Says something about a ticket.
    async fn mark(&self, ticket: Subject, word: &'static str) {
        // What does not get there is said again by the passing of time: the ticket comes once more.
        let _ = self.client.publish(ticket, word.into()).await;
    }

    /// Gives a ticket back, to be seen again after a while.
    async fn give_back(&self, ticket: Subject, after: Duration) {
        let word = format!("-NAK {{\"delay\":{}}}", after.as_nanos());
        let _ = self.client.publish(ticket, word.into()).await;
    }
}

/// It is done with.
const ACK: &str = "+ACK";
/// It is at work.
const IN_PROGRESS: &str = "+WPI";
/// Somebody else may have it at once.
const NAK: &str = "-NAK";

impl TaskSource for NatsSource {
    async fn take(&self, max: usize) -> Result<Vec<Lease>, SourceError> {
        loop {
            let filled = self.shared.filled.notified();
            if self.shared.shutdown.is_cancelled() {
                return Err(SourceError::Closed);
            }
            {
                let mut places = self.shared.places();
                let count = places.ready.len().min(max);
                let taken: Vec<Lease> = places.ready.drain(..count).collect();
                // What is not taken takes up room too.
                places.free = max.saturating_sub(taken.len()).saturating_sub(places.ready.len());
                if !taken.is_empty() {
                    return Ok(taken);
                }
            }
            self.shared.emptied.notify_waiters();
            filled.await;
        }
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<Beat, SourceError> {
        let (answer, heard) = oneshot::channel();
        let beating = talk::Beating { key: lease.task.key.clone(), token: Token(lease.token), answer };
        self.beats.send(beating).await.map_err(|_| SourceError::Closed)?;
        heard.await.map_err(|_| SourceError::Closed)?
    }

    async fn progress(&self, lease: &Lease, progress: &Progress) {
        if let Some(held) = self.shared.places().held.get_mut(&lease.task.key) {
            // Told with the next beat.
            held.progress = Some(wire::Progress { fraction: progress.fraction, text: progress.text.clone() });
        }
    }

    async fn settle(&self, lease: &Lease, outcome: &Outcome, tell: &[Told]) -> Result<(), SourceError> {
        let (answer, heard) = oneshot::channel();
        let done = wire::Done {
            key: lease.task.key.clone(),
            token: Token(lease.token),
            outcome: Some(outcome.clone()),
            tell: tell.to_vec(),
        };
        self.results.send(talk::Settling { done, answer }).await.map_err(|_| SourceError::Closed)?;
        heard.await.map_err(|_| SourceError::Closed)?
    }
}
