//! Standing by: another one leads, this one folds what is recorded, answers questions and hands orders on, until it is
//! its turn.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use patchloom_core::record::{Batch, Entry, Event};
use patchloom_core::{CloudEvent, RunId};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::handle::{EngineError, Message, Seen, Status};
use super::keeper::Keeper;
use super::leader::Leader;
use super::publish::Published;
use crate::events::News;
use crate::journal::{self, AppendError, Head, Record, Tail};
use crate::queue::TaskQueue;

/// Answers of the leader that may wait until their record is folded in here.
const ANSWERS_MAX: usize = 4_096;

/// A future that a trait object can return.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the one that leads.
pub trait Forward: Send + Sync + 'static {
    /// Hands entries over and waits for their outcome.
    fn submit(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Seen>, EngineError>>;

    /// Hands an event over and waits for what became of it.
    fn publish(&self, event: Arc<CloudEvent>, by: Arc<str>) -> BoxFuture<Result<Published, EngineError>>;
}

/// How standing by ended.
#[derive(Debug)]
pub enum Follow {
    /// It is its turn, and all that is recorded is folded in.
    Turn,
    /// It was asked to stop.
    Stopped,
    /// The journal cannot be followed.
    Failed(journal::Error),
    /// The copy here cannot be written.
    NotKept(AppendError),
    /// A record is no batch of entries.
    Unreadable {
        /// Which.
        seq: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// An answer of the leader on its way to who asked.
struct Answer {
    /// The last record that it speaks of.
    seq: u64,
    reply: oneshot::Sender<Vec<Seen>>,
    seen: Vec<Seen>,
}

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// Follows `tail` until `turn` comes, then until all that is durable is folded in.
    ///
    /// What it is asked it answers from its own state; what it is told goes to the leader, and is answered once its
    /// record is folded in here, so that whoever asks next sees it.
    pub async fn follow<T: Tail>(
        &mut self,
        tail: &mut T,
        forward: &Arc<dyn Forward>,
        turn: impl Future<Output = ()>,
    ) -> Follow {
        self.follows = true;
        self.status.send_replace(Status::Following);
        let (answered, mut answers) = mpsc::channel::<Answer>(ANSWERS_MAX);
        let mut waiting: Vec<Answer> = Vec::new();
        let mut turn = std::pin::pin!(turn);
        let mut target: Option<u64> = None;
        loop {
            waiting.retain_mut(|answer| {
                let due = answer.seq <= self.head.seq;
                if due {
                    let (reply, _) = oneshot::channel();
                    let reply = std::mem::replace(&mut answer.reply, reply);
                    // Whoever asked may have gone.
                    let _ = reply.send(std::mem::take(&mut answer.seen));
                }
                !due
            });
            if let Some(seq) = self.trim_before.take()
                && let Err(error) = tail.forget_before(seq).await
            {
                warn!(%error, "the copy of the journal here was not trimmed");
            }
            if target.is_some_and(|target| target <= self.head.seq) {
                return Follow::Turn;
            }
            tokio::select! {
                record = tail.next() => match self.take_over(record, tail).await {
                    Ok(()) => {}
                    Err(end) => return end,
                },
                () = turn.as_mut(), if target.is_none() => match tail.head().await {
                    Ok(head) => target = Some(head),
                    Err(error) => return Follow::Failed(error),
                },
                Some(answer) = answers.recv() => waiting.push(answer),
                message = self.inbox.recv() => match message {
                    Some(Message::Stop { reply }) => {
                        self.stopping.push(reply);
                        return Follow::Stopped;
                    }
                    None => return Follow::Stopped,
                    Some(message) => self.hand_on(message, forward, &answered),
                },
                kept = self.keeper.kept() => self.kept(kept),
                () = tokio::time::sleep(self.tuning.checkpoint) => {}
            }
            self.checkpoint(false);
        }
    }

    /// Writes down what was followed and ends; the other way out of standing by than to lead.
    pub async fn leave(mut self, reason: Option<String>) {
        self.checkpoint(true);
        self.status.send_replace(Status::Stopped { reason });
        self.keeper.finish().await;
        for reply in self.stopping.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }

    /// Folds in a record that was written before this one leads: the last ones of the former leader, and the one that opens
    /// its own term.
    ///
    /// # Errors
    /// [`Follow::Unreadable`].
    pub fn overtake(&mut self, record: &Record) -> Result<(), Follow> {
        self.fold_in(record)
    }

    /// What a follower does with what it is asked and told.
    fn hand_on(&mut self, message: Message, forward: &Arc<dyn Forward>, answered: &mpsc::Sender<Answer>) {
        match message {
            Message::Submit { entries, reply } => {
                let (forward, answered) = (Arc::clone(forward), answered.clone());
                tokio::spawn(async move {
                    match forward.submit(entries).await {
                        Ok(seen) => {
                            let seq = seen.iter().flatten().max().copied().unwrap_or_default();
                            // It has stopped: nobody folds anything in any more.
                            let _ = answered.send(Answer { seq, reply, seen }).await;
                        }
                        Err(error) => warn!(%error, "the leader did not answer"),
                    }
                });
            }
            Message::Publish { event, by, reply } => {
                let forward = Arc::clone(forward);
                tokio::spawn(async move {
                    match forward.publish(event, by).await {
                        // Whoever told it may have gone.
                        Ok(published) => drop(reply.send(published)),
                        Err(error) => warn!(%error, "the leader did not answer"),
                    }
                });
            }
            Message::Read(query) => query(&self.state, self.clock.now()),
            Message::History { run, reply } => {
                let _ = reply.send(self.recent.of(run));
            }
            Message::Forget { reply, .. } => {
                // Whoever asked may have gone.
                let _ = reply.send(Err("this engine follows: ask the one that leads".to_owned()));
            }
            Message::Stop { reply } => self.stopping.push(reply),
        }
    }

    /// Copies a record that another leader wrote, and folds it in.
    async fn take_over<T: Tail>(&mut self, record: Result<Record, journal::Error>, tail: &mut T) -> Result<(), Follow> {
        let record = record.map_err(Follow::Failed)?;
        tail.keep(&record).await.map_err(Follow::NotKept)?;
        self.fold_in(&record)
    }

    /// Folds in a record that another leader wrote.
    fn fold_in(&mut self, record: &Record) -> Result<(), Follow> {
        let seq = record.seq;
        let unreadable = |source| Follow::Unreadable { seq, source };
        let batch: Batch = serde_json::from_slice(&record.payload).map_err(unreadable)?;
        let mut news = News::default();
        for entry in &batch.entries {
            let departs = match &entry.event {
                Event::RunRetired { run } => self.state.run(*run).cloned(),
                _ => None,
            };
            let emitted = self.emitted_by(&entry.event);
            let seen = self.state.apply(seq, batch.at, entry);
            let touched = seen.iter().flat_map(|applied| applied.touched.iter().copied());
            // As the leader does: also what was refused belongs to its run, its retirement does not.
            let runs: BTreeSet<RunId> = entry.event.run().into_iter().chain(touched).collect();
            if !runs.is_empty() && departs.is_none() {
                let text: Arc<[u8]> = serde_json::to_vec(entry).map_err(unreadable)?.into();
                for run in runs {
                    self.recent.push(run, seq, batch.at, &text, 0..text.len());
                }
            }
            let Ok(applied) = seen else { continue };
            if let Some(run) = departs {
                self.departing.insert(run.id(), run);
            }
            if let Event::RunRecalled { run } = &entry.event {
                self.departing.remove(&run.id());
            }
            self.changed(&entry.event, &applied);
            news.facts.extend(applied.facts);
            news.emitted.extend(emitted);
        }
        self.set_head(Head { seq, hash: record.hash });
        self.last_at = self.last_at.max(batch.at);
        let bytes = crate::disk::widen(record.payload.len());
        self.grown += bytes;
        self.unwritten += bytes;
        self.tell(seq, batch.at, news, |events, seq, told| events.overheard(seq, told));
        Ok(())
    }
}
