//! The queue over NATS as one: the leader's side, and a worker that speaks the protocol by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use patchloom_bed::nats::{Options, Server};
use patchloom_core::record::{Entry, Event};
use patchloom_core::wire::{
    self, Alive, Beaten, Claim, Claimed, Done, Names, Op, Reply, Settle, Settled, Token, Want, Worker,
};
use patchloom_core::{Outcome, QueueName, Task, TaskKey};
use patchloom_engine::clock::Clock;
use patchloom_engine::nats::{NatsQueue, QueueOptions};
use patchloom_engine::queue::{Beat, Lease, Limits, Recall, TaskQueue};
use patchloom_engine::runtime::{EngineError, Intake, Seen};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Keeps what it is told last of each task.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<TaskKey, Outcome>>>);

impl Intake for Ledger {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Vec<Seen>, EngineError> {
        let mut known = self.0.lock().unwrap();
        let one = |entry: Entry| match entry.event {
            Event::AttemptFinished { task, outcome, .. } => {
                known.insert(task, outcome);
                Ok(1)
            }
            other => panic!("not a result: {other:?}"),
        };
        Ok(entries.into_iter().map(one).collect())
    }
}

#[derive(Clone)]
pub struct OverNats {
    queue: NatsQueue,
    client: Client,
    ledger: Ledger,
    names: Names,
    _server: Arc<Server>,
}

impl OverNats {
    pub async fn start(limits: Limits) -> Self {
        let server = Arc::new(Server::start(Options::default()));
        let client = async_nats::connect(server.url()).await.unwrap();
        let queue = NatsQueue::new(QueueOptions { limits, ..QueueOptions::default() }, Clock::system());
        let ledger = Ledger::default();
        let (served, intake, context) = (queue.clone(), ledger.clone(), async_nats::jetstream::new(client.clone()));
        tokio::spawn(async move { served.serve(context, intake, || true, CancellationToken::new()).await });
        let started = Self { queue, client, ledger, names: Names::default(), _server: server };
        // The first taker has the consumer made, which the rules give no time for.
        while started.pull("starter", 1, &started.client.new_inbox()).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.want("starter", 0).await;
        started
    }

    fn who(worker: &str) -> Worker {
        Worker { worker: worker.into(), labels: BTreeMap::new() }
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, op: Op, question: &Q) -> Vec<A> {
        let subject = self.names.work("main", &QueueName::default(), op);
        let answer = self.client.request(subject, serde_json::to_vec(question).unwrap().into()).await.unwrap();
        match serde_json::from_slice(&answer.payload).unwrap() {
            Reply::Answers(answers) => answers,
            Reply::Error(error) => panic!("{error}"),
        }
    }

    async fn want(&self, worker: &str, free: usize) {
        let want = Want { who: Self::who(worker), free: u32::try_from(free).unwrap() };
        let subject = self.names.want(Some(&QueueName::default()));
        self.client.publish(subject, serde_json::to_vec(&want).unwrap().into()).await.unwrap();
    }

    /// Wants tasks and pulls: what came within a moment; `None` where there is no consumer.
    async fn pull(&self, worker: &str, max: usize, inbox: &str) -> Option<Vec<Message>> {
        let queue = QueueName::default();
        let mut messages = self.client.subscribe(inbox.to_owned()).await.unwrap();
        self.want(worker, max).await;
        let pull = format!("{{\"batch\":{max},\"expires\":250000000}}");
        self.client.publish_with_reply(self.names.pull(&queue), inbox.to_owned(), pull.into()).await.unwrap();
        let mut tickets = Vec::new();
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(5), messages.next()).await {
            match message.status {
                None => tickets.push(message),
                Some(async_nats::StatusCode::NO_RESPONDERS) => return None,
                Some(_) => break,
            }
            if tickets.len() == max {
                break;
            }
        }
        Some(tickets)
    }

    /// Says something to the leader from where nothing can be awaited.
    fn now<T>(&self, said: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| Handle::current().block_on(said))
    }
}

impl TaskQueue for OverNats {
    fn publish(&self, tasks: Vec<Task>) {
        self.queue.publish(tasks);
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        self.queue.recall(key)
    }

    fn forget(&self, keys: &[TaskKey]) {
        self.queue.forget(keys);
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        self.queue.sweep()
    }

    async fn take(&self, max: usize) -> Vec<Lease> {
        let worker = Uuid::now_v7().to_string();
        loop {
            let tickets = self.pull(&worker, max, &self.client.new_inbox()).await.unwrap_or_default();
            let tasks: Vec<Task> =
                tickets.iter().map(|ticket| serde_json::from_slice(&ticket.payload).unwrap()).collect();
            if tasks.is_empty() {
                continue;
            }
            let keys = tasks.iter().map(|task| task.key.clone()).collect();
            let answers: Vec<Claimed> = self.ask(Op::Claim, &Claim { who: Self::who(&worker), keys }).await;
            let mut leases = Vec::new();
            for ((task, answer), ticket) in tasks.into_iter().zip(answers).zip(tickets) {
                let word = match answer {
                    Claimed::Go { token, redelivered, .. } => {
                        leases.push(Lease { task, token: token.0, redelivered });
                        continue;
                    }
                    Claimed::Held { .. } => "-NAK {\"delay\":1000000000}",
                    Claimed::Gone => "+ACK",
                };
                self.client.publish(ticket.reply.unwrap(), word.into()).await.unwrap();
            }
            if !leases.is_empty() {
                return leases;
            }
        }
    }

    fn beat(&self, lease: &Lease) -> Beat {
        let alive = Alive { key: lease.task.key.clone(), token: Token(lease.token), progress: None };
        let beat = wire::Beat { who: Self::who("any"), tasks: vec![alive] };
        let answers: Vec<Beaten> = self.now(self.ask(Op::Beat, &beat));
        match answers[..] {
            [Beaten::GoOn] => Beat::GoOn,
            [Beaten::Stop] => Beat::Stop,
            [Beaten::Lost] => Beat::Lost,
            _ => panic!("{answers:?}"),
        }
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        let key = lease.task.key.clone();
        let done = Done { key: key.clone(), token: Token(lease.token), outcome: Some(outcome), tell: Vec::new() };
        let settle = Settle { who: Self::who("any"), results: vec![done] };
        let answers: Vec<Settled> = self.now(self.ask(Op::Settle, &settle));
        match answers[..] {
            [Settled::Recorded] => self.ledger.0.lock().unwrap().get(&key).cloned(),
            [Settled::Known | Settled::Lost] => None,
            _ => panic!("{answers:?}"),
        }
    }
}
