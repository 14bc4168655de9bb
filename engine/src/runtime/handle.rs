//! How the rest of the program speaks to a leader.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::run::{Fact, Refusal, Run};
use patchloom_core::{CloudEvent, Definition, Partition, RunId, UtcMs};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use uuid::Uuid;

use super::history::Item;
use super::publish::Published;

/// What an entry came to: the sequence number of its record, or why it changed nothing.
pub type Seen = Result<u64, Refusal>;

/// The leader does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It has stopped; what was not answered may be recorded or not.
    #[error("the engine has stopped{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Stopped {
        /// Why, where it was not asked to.
        reason: Option<String>,
    },
    /// The workflow, or one that it starts, is not registered.
    #[error("no workflow is called `{0}`")]
    UnknownWorkflow(Arc<str>),
    /// The inputs do not fit the workflow.
    #[error("the inputs do not fit: {}", .0.join("; "))]
    Inputs(Vec<String>),
    /// The text of calendars does not hold.
    #[error(transparent)]
    Calendars(Box<patchloom_core::Diagnostics>),
    /// What lies behind the journal could not be changed.
    #[error("cannot clear the archive: {0}")]
    Archive(String),
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl EngineError {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stopped { .. } => "E0413",
            Self::UnknownWorkflow(_) => "E0302",
            Self::Inputs(_) => "E0301",
            Self::Calendars(mistakes) => mistakes.list.first().map_or("E0101", |mistake| mistake.code),
            Self::Archive(_) => "E0441",
            Self::Refused(_) => "E0303",
        }
    }
}

/// How the leader is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It takes and acknowledges.
    Leading,
    /// Another one leads: it folds what that one records, answers questions, and hands orders on.
    Following,
    /// It takes nothing until the disk does: nothing that was acknowledged is lost.
    Stalled {
        /// What the disk says.
        reason: String,
    },
    /// It is over.
    Stopped {
        /// Why, where it was not asked to.
        reason: Option<String>,
    },
}

/// What changed in one record.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The record.
    pub seq: u64,
    /// What changed.
    pub facts: Arc<[Fact]>,
}

/// The port into the leader's journal.
pub trait Intake: Clone + Send + Sync + 'static {
    /// Hands entries over and waits until each is durable and folded in.
    ///
    /// # Errors
    /// The leader has stopped. The entries may be recorded or not: sending them again is safe where they name what
    /// they are about (a task key, a run id, a signal id), which all do.
    fn submit(&self, entries: Vec<Entry>) -> impl Future<Output = Result<Vec<Seen>, EngineError>> + Send;
}

type Query = Box<dyn FnOnce(&Partition, UtcMs) + Send>;

/// What reaches the leader.
pub(super) enum Message {
    Submit { entries: Vec<Entry>, reply: oneshot::Sender<Vec<Seen>> },
    Publish { event: Arc<CloudEvent>, by: Arc<str>, reply: oneshot::Sender<Published> },
    Read(Query),
    History { run: RunId, reply: oneshot::Sender<Vec<Item>> },
    Forget { runs: BTreeSet<RunId>, reply: oneshot::Sender<Result<usize, String>> },
    Stop { reply: oneshot::Sender<()> },
}

/// How to start a run.
#[derive(Clone, Debug, Default)]
pub struct StartRun {
    /// The workflow's name.
    pub workflow: String,
    /// Its inputs.
    pub inputs: Value,
    /// The idempotency key.
    pub key: Option<String>,
    /// Labels.
    pub labels: std::collections::BTreeMap<Arc<str>, Arc<str>>,
}

/// Speaks to one leader. Clones speak to the same.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) intake: mpsc::Sender<Message>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) status: watch::Receiver<Status>,
    /// The last record that is folded in.
    pub(super) folded: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Submit { .. } => "Submit",
            Self::Publish { .. } => "Publish",
            Self::Read(_) => "Read",
            Self::History { .. } => "History",
            Self::Forget { .. } => "Forget",
            Self::Stop { .. } => "Stop",
        })
    }
}

impl Handle {
    pub(super) fn stopped(&self) -> EngineError {
        match &*self.status.borrow() {
            Status::Stopped { reason } => EngineError::Stopped { reason: reason.clone() },
            Status::Leading | Status::Following | Status::Stalled { .. } => EngineError::Stopped { reason: None },
        }
    }

    pub(super) async fn send(&self, message: Message) -> Result<(), EngineError> {
        self.intake.send(message).await.map_err(|_| self.stopped())
    }

    /// Hands one event over.
    ///
    /// # Errors
    /// A refusal, or the leader has stopped.
    pub async fn tell(&self, by: &str, event: Event) -> Result<u64, EngineError> {
        let seen = self.submit(vec![Entry { by: by.into(), event }]).await?;
        seen.into_iter().next().unwrap_or(Err(Refusal::Stale("nothing was said".into()))).map_err(EngineError::from)
    }

    /// Asks the state something.
    ///
    /// # Errors
    /// The leader has stopped.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Partition) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.read_at(|state, _| query(state)).await
    }

    /// Asks the state something that depends on the leader's clock.
    pub(super) async fn read_at<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Partition, UtcMs) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |state, now| {
            // The asker may have gone: nobody is left to care.
            let _ = reply.send(query(state, now));
        });
        self.send(Message::Read(query)).await?;
        answer.await.map_err(|_| self.stopped())
    }

    /// A run that is not archived, and its definition.
    ///
    /// # Errors
    /// The leader has stopped.
    pub async fn run(&self, id: RunId) -> Result<Option<(Arc<Run>, Arc<Definition>)>, EngineError> {
        self.read(move |state| {
            let run = state.run(id)?;
            Some((Arc::clone(run), Arc::clone(state.definition(&run.start.version)?)))
        })
        .await
    }

    /// Makes a definition the latest version of its name; none happens where it is.
    ///
    /// # Errors
    /// The leader has stopped, or the definition does not hold.
    pub async fn register(&self, by: &str, definition: &Definition) -> Result<(), EngineError> {
        match self.tell(by, Event::DefinitionRegistered { text: Arc::clone(&definition.canonical) }).await {
            Ok(_) | Err(EngineError::Refused(Refusal::Stale(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts a run of the latest version of a workflow; gives the run that the same key started before, if it did.
    ///
    /// # Errors
    /// The workflow is not known, the inputs do not fit, or the leader has stopped.
    pub async fn start(&self, by: &str, order: StartRun) -> Result<RunId, EngineError> {
        let (name, key, inputs) = (order.workflow.clone(), order.key.clone(), order.inputs.clone());
        let prepared = self
            .read(move |state| {
                if let Some(known) = key.as_deref().and_then(|key| state.started_by(key)) {
                    return Ok(Err(known.run));
                }
                let pins = state.pins(&name).map_err(EngineError::UnknownWorkflow)?;
                let version = pins
                    .get(name.as_str())
                    .cloned()
                    .ok_or_else(|| EngineError::UnknownWorkflow(name.as_str().into()))?;
                let definition =
                    state.definition(&version).ok_or_else(|| EngineError::UnknownWorkflow(name.as_str().into()))?;
                definition.accept(&inputs).map_err(EngineError::Inputs)?;
                Ok::<_, EngineError>(Ok((version, Arc::new(pins))))
            })
            .await??;
        let (version, pins) = match prepared {
            Ok(prepared) => prepared,
            Err(known) => return Ok(known),
        };
        let id = Uuid::now_v7();
        let start = Start {
            run: RunId(id),
            workflow: order.workflow.as_str().into(),
            version,
            pins,
            inputs: order.inputs,
            parent: None,
            key: order.key.as_deref().map(Into::into),
            labels: order.labels,
            seed: id.as_u64_pair().1,
        };
        match self.tell(by, Event::RunStarted(Arc::new(start))).await {
            Ok(_) => Ok(RunId(id)),
            Err(EngineError::Refused(Refusal::Stale(why))) => {
                if self.read(move |state| state.run(RunId(id)).is_some()).await? {
                    // Our own order, whose first answer was lost.
                    return Ok(RunId(id));
                }
                // Somebody was faster with the same key.
                let key = order.key.clone();
                let known = self.read(move |state| key.as_deref().and_then(|key| state.started_by(key))).await?;
                known.map(|known| known.run).ok_or(EngineError::Refused(Refusal::Stale(why)))
            }
            Err(error) => Err(error),
        }
    }

    /// The open runs below one, in any depth.
    ///
    /// # Errors
    /// The leader has stopped.
    pub async fn open_below(&self, id: RunId) -> Result<Vec<RunId>, EngineError> {
        self.read(move |state| {
            let below = |run: &&Arc<Run>| state.ancestors(run).any(|above| above.id() == id);
            state.runs().filter(|run| run.end().is_none()).filter(below).map(|run| run.id()).collect()
        })
        .await
    }

    /// Tells a run and the open runs below it the same, in one record; gives how many of those below took it.
    ///
    /// # Errors
    /// The run refused it, and so did all below it; or the leader has stopped.
    pub async fn tell_tree(&self, by: &str, id: RunId, event: impl Fn(RunId) -> Event) -> Result<usize, EngineError> {
        let mut known = std::collections::BTreeSet::new();
        let mut fresh = vec![id];
        fresh.extend(self.open_below(id).await?);
        let (mut taken, mut refused) = (0, None);
        // A child run that was on its way when the first record was written is told with the next one.
        while !fresh.is_empty() {
            let entries = fresh.iter().map(|run| Entry { by: by.into(), event: event(*run) }).collect();
            for (run, seen) in fresh.iter().zip(self.submit(entries).await?) {
                match seen {
                    Ok(_) if *run != id => taken += 1,
                    Err(refusal) if *run == id => refused = Some(refusal),
                    Ok(_) | Err(_) => {}
                }
            }
            known.extend(fresh);
            fresh = self.open_below(id).await?;
            fresh.retain(|run| !known.contains(run));
        }
        match refused {
            Some(refusal) if taken == 0 => Err(refusal.into()),
            Some(_) | None => Ok(taken),
        }
    }

    /// What the leader still holds of a run's history: the entries since the last checkpoint.
    ///
    /// # Errors
    /// The leader has stopped.
    pub async fn recent_history(&self, run: RunId) -> Result<Vec<Item>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::History { run, reply }).await?;
        answer.await.map_err(|_| self.stopped())
    }

    /// Has these runs go from the archive for good; gives how many went. Those in the state stay.
    ///
    /// # Errors
    /// The archive or its index could not be written, or the leader has stopped.
    pub async fn forget(&self, runs: BTreeSet<RunId>) -> Result<usize, EngineError> {
        if runs.is_empty() {
            return Ok(0);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Message::Forget { runs, reply }).await?;
        answer.await.map_err(|_| self.stopped())?.map_err(EngineError::Archive)
    }

    /// What changes from now on. A watcher that lags too far is told so and asks the state instead.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// How the leader is doing, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The last record of the journal that is folded into the state here.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    /// Waits until the run is over, or waits for an operator; gives it as it is then, `None` where it is not known.
    ///
    /// # Errors
    /// The leader has stopped.
    pub async fn wait_for(
        &self,
        id: RunId,
        enough: impl Fn(&Run) -> bool + Send,
    ) -> Result<Option<Arc<Run>>, EngineError> {
        let mut notices = self.watch();
        loop {
            match self.run(id).await? {
                None => return Ok(None),
                Some((run, _)) if enough(&run) => return Ok(Some(run)),
                Some(_) => {}
            }
            loop {
                match notices.recv().await {
                    Ok(notice) if notice.facts.iter().any(|fact| fact.run == id) => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return Err(self.stopped()),
                }
            }
        }
    }

    /// Has the leader write down all it has and stop.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Stop { reply }).await.is_ok() {
            // An error means that it has stopped by itself, which is what is asked for.
            let _ = answer.await;
        }
    }
}

impl Intake for Handle {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Vec<Seen>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Submit { entries, reply }).await?;
        answer.await.map_err(|_| self.stopped())
    }
}
