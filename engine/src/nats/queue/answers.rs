//! What the leader says to workers: may it begin, shall it go on, is it recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use patchloom_core::record::{Entry, Event};
use patchloom_core::run::Refusal;
use patchloom_core::wire::{
    Beat, Beaten, Claim, Claimed, Done, Op, Reply, Settle, Settled, Token, Want, Worker, is_inbox,
};
use patchloom_core::{Outcome, QueueName, TaskKey, Told};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{NatsQueue, WorkerSeen};
use crate::queue;
use crate::queue::book;
use crate::runtime::Intake;

/// When a ticket is seen again whose task another worker has.
const HELD_MS: u64 = 5_000;
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(500);
/// The most words about room that are taken in before a request is answered.
const WANTS_AT_ONCE: usize = 1_024;

/// Answers until `stop` fires.
pub(super) async fn run<I: Intake>(
    queue: NatsQueue,
    client: Client,
    intake: I,
    may_answer: impl Fn() -> bool,
    stop: CancellationToken,
) {
    let desk = Desk { queue, client, intake };
    while !stop.is_cancelled() {
        match desk.open().await {
            Ok((work, want)) => desk.answer(work, want, &may_answer, &stop).await,
            Err(error) => {
                warn!(%error, "cannot listen to workers");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(SUBSCRIBE_AGAIN) => {}
                }
            }
        }
    }
}

#[derive(Clone)]
struct Desk<I> {
    queue: NatsQueue,
    client: Client,
    intake: I,
}

/// What one result comes to, as far as the book knows.
enum Verdict {
    Told(Settled),
    /// Recorded as the entry at this place.
    Entry(usize),
}

impl<I: Intake> Desk<I> {
    async fn open(&self) -> Result<(Subscriber, Subscriber), async_nats::SubscribeError> {
        let options = &self.queue.0.options;
        let work = self.client.subscribe(options.names.all_work(&options.partition)).await?;
        Ok((work, self.client.subscribe(options.names.want(None)).await?))
    }

    async fn answer(
        &self,
        mut work: Subscriber,
        mut want: Subscriber,
        may_answer: &impl Fn() -> bool,
        stop: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                message = work.next() => match message {
                    Some(message) => {
                        self.catch_up(&mut want);
                        // Who is not answered asks again.
                        if may_answer() {
                            self.hear(message).await;
                        }
                    }
                    None => return,
                },
                message = want.next() => match message {
                    Some(message) => self.wanted(&message),
                    None => return,
                },
            }
        }
    }

    /// What workers said before they asked counts before the answer: a worker that said that it has room and then claims
    /// would otherwise seem to have room still, and its next task be chosen before the present one has ended.
    fn catch_up(&self, want: &mut Subscriber) {
        for _ in 0..WANTS_AT_ONCE {
            let Some(Some(message)) = want.next().now_or_never() else { return };
            self.wanted(&message);
        }
    }

    fn wanted(&self, message: &Message) {
        let queue = message.subject.rsplit('.').next().and_then(|name| name.parse::<QueueName>().ok());
        let (Some(queue), Ok(want)) = (queue, serde_json::from_slice::<Want>(&message.payload)) else {
            debug!(subject = %message.subject, "a worker wants something that cannot be read");
            return;
        };
        self.meet(&want.who, &queue);
        let lasts = self.queue.0.options.want_lasts;
        self.queue.state().demand.says(&queue, &want.who.worker, want.free, lasts);
        self.queue.0.write.notify_one();
    }

    /// Notes that a worker lives.
    fn meet(&self, who: &Worker, queue: &QueueName) {
        let heard = self.queue.now();
        let mut state = self.queue.state();
        if let Some(seen) = state.workers.get_mut(&who.worker) {
            seen.heard = heard;
            if !seen.queues.contains(queue) {
                seen.queues.insert(queue.clone());
            }
            if seen.labels != who.labels {
                seen.labels.clone_from(&who.labels);
            }
            return;
        }
        let (name, queues) = (Arc::clone(&who.worker), BTreeSet::from([queue.clone()]));
        let seen = WorkerSeen { name: Arc::clone(&name), labels: who.labels.clone(), queues, heard };
        state.workers.insert(name, seen);
    }

    async fn hear(&self, message: Message) {
        let mut words = message.subject.rsplit('.');
        let op = words.next().and_then(|word| word.parse::<Op>().ok());
        let queue = words.next().and_then(|word| word.parse::<QueueName>().ok());
        let (Some(op), Some(queue)) = (op, queue) else {
            return self.refuse(&message, "no such request: the leader knows claim, beat and settle").await;
        };
        match op {
            Op::Claim => self.with(&message, |claim: Claim| self.claim(&queue, &claim)).await,
            Op::Beat => self.with(&message, |beat: Beat| self.beat(&queue, &beat)).await,
            Op::Settle => match serde_json::from_slice::<Settle>(&message.payload) {
                Ok(settle) => {
                    let desk = self.clone();
                    // The journal takes its time; who asks meanwhile is answered.
                    tokio::spawn(async move {
                        if let Some(answers) = desk.settle(&queue, settle).await {
                            desk.reply(&message, &Reply::Answers(answers)).await;
                        }
                    });
                }
                Err(error) => self.refuse(&message, &error.to_string()).await,
            },
        }
    }

    async fn with<Q: DeserializeOwned, A: Serialize>(&self, message: &Message, answer: impl FnOnce(Q) -> Vec<A>) {
        match serde_json::from_slice(&message.payload) {
            Ok(question) => self.reply(message, &Reply::Answers(answer(question))).await,
            Err(error) => self.refuse(message, &error.to_string()).await,
        }
    }

    async fn refuse(&self, message: &Message, why: &str) {
        warn!(subject = %message.subject, %why, "a worker's request cannot be read");
        self.reply(message, &Reply::<()>::Error(why.to_owned())).await;
    }

    async fn reply<A: Serialize>(&self, message: &Message, reply: &Reply<A>) {
        let (Some(to), Ok(bytes)) = (message.reply.clone(), serde_json::to_vec(reply)) else { return };
        if !is_inbox(&to) {
            return warn!(subject = %message.subject, %to, "a request wants its answer where none may go");
        }
        if let Err(error) = self.client.publish(to, bytes.into()).await {
            debug!(%error, "an answer to a worker was not sent; it asks again");
        }
    }

    fn claim(&self, queue: &QueueName, claim: &Claim) -> Vec<Claimed> {
        self.meet(&claim.who, queue);
        let now = self.queue.now();
        let mut state = self.queue.state();
        state.demand.took(queue, &claim.who.worker, claim.keys.len());
        let one = |key: &TaskKey| match state.book.claim(key, queue, &claim.who.worker, now) {
            book::Claim::Go { token, patience, redelivered } => {
                Claimed::Go { token: Token(token), lease_ms: patience.0, redelivered }
            }
            book::Claim::Held => Claimed::Held { retry_ms: HELD_MS },
            book::Claim::Gone => Claimed::Gone,
        };
        claim.keys.iter().map(one).collect()
    }

    fn beat(&self, queue: &QueueName, beat: &Beat) -> Vec<Beaten> {
        self.meet(&beat.who, queue);
        let now = self.queue.now();
        let mut state = self.queue.state();
        let mut answers = Vec::with_capacity(beat.tasks.len());
        for task in &beat.tasks {
            state.book.adopt(&task.key, queue, task.token.0, &beat.who.worker, now);
            let answer = match state.book.beat_of(&task.key, queue, task.token.0, now) {
                queue::Beat::GoOn => Beaten::GoOn,
                queue::Beat::Stop => Beaten::Stop,
                queue::Beat::Lost => Beaten::Lost,
            };
            if let (Some(progress), false) = (&task.progress, answer == Beaten::Lost) {
                state.progress.insert(task.key.clone(), progress.clone());
            }
            answers.push(answer);
        }
        answers
    }

    /// `None` where the leader has stopped: nobody knows what is recorded, and the worker asks again.
    async fn settle(&self, queue: &QueueName, settle: Settle) -> Option<Vec<Settled>> {
        self.meet(&settle.who, queue);
        let by: Arc<str> = format!("worker:{}", settle.who.worker).into();
        let (mut entries, mut keys) = (Vec::new(), Vec::new());
        let verdicts: Vec<Verdict> = settle
            .results
            .into_iter()
            .map(|done| {
                let mut done = done;
                let (task, tell) = (done.key.clone(), std::mem::take(&mut done.tell));
                match self.weigh(queue, &settle.who.worker, done) {
                    Ok(outcome) => {
                        keys.push(task.clone());
                        let (tell, unfit) = Told::fitting(tell);
                        if !unfit.is_empty() {
                            warn!(%task, %by, reasons = %unfit.join("; "), "a result told what cannot be published");
                        }
                        let event = Event::AttemptFinished { task, outcome, tell };
                        entries.push(Entry { by: Arc::clone(&by), event });
                        Verdict::Entry(entries.len() - 1)
                    }
                    Err(told) => Verdict::Told(told),
                }
            })
            .collect();
        let seen = if entries.is_empty() { Ok(Vec::new()) } else { self.intake.submit(entries).await };
        {
            let mut state = self.queue.state();
            keys.iter().for_each(|key| state.book.set_recording(key, false));
        }
        let seen = seen.ok()?;
        let told = |verdict: Verdict| match verdict {
            Verdict::Told(told) => told,
            Verdict::Entry(at) => match seen.get(at) {
                Some(Ok(_)) => Settled::Recorded,
                Some(Err(Refusal::Stale(_) | Refusal::Illegal(_))) | None => Settled::Known,
            },
        };
        Some(verdicts.into_iter().map(told).collect())
    }

    /// What is to be recorded of one result, or what to say at once.
    fn weigh(&self, queue: &QueueName, worker: &Arc<str>, done: Done) -> Result<Outcome, Settled> {
        let now = self.queue.now();
        let mut state = self.queue.state();
        state.book.adopt(&done.key, queue, done.token.0, worker, now);
        let Some(outcome) = done.outcome else {
            if state.book.give_back(&done.key, done.token.0) {
                self.queue.0.write.notify_one();
                self.queue.0.ready.notify_waiters();
            }
            return Err(Settled::Known);
        };
        let unknown = if state.book.knows(&done.key) { Settled::Lost } else { Settled::Known };
        if state.book.beat_of(&done.key, queue, done.token.0, now) == queue::Beat::Lost {
            return Err(unknown);
        }
        let settled = state.book.settle(&done.key, done.token.0, outcome).ok_or(unknown);
        if settled.is_ok() {
            state.book.set_recording(&done.key, true);
        }
        settled
    }
}
