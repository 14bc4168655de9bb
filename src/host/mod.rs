//! The engine and its workers in this process: opened together on one data directory, closed together.
//!
//! Composes; decides nothing about patches.

pub(crate) mod decisions;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchloom_core::run::EVENT_TYPES;
use patchloom_core::{Definition, RunId, TaskKey, UtcMs};
use patchloom_engine::events::InProcess;
use patchloom_engine::journal;
use patchloom_engine::nats::{Connection, Stand, StandOptions, StreamError, stand};
use patchloom_engine::runtime::{self, Books, Engine, EngineOptions, Handle, OpenError};
use patchloom_workers::carry::Carrier;
use patchloom_workers::runtime::{DataDir, Handlers, PoolConfig, Progress, WorkerPool};
use patchloom_workers::ssh::SshOptions;
use patchloom_workers::tell::Fact;
use patchloom_workers::{campaign, changes, inventory, observe, patching};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fault::{Exit, Fault};
use crate::http::Seat;
use crate::shipped;

pub use decisions::SIGNAL as DECISION_SIGNAL;

/// How far each task at work is, by its key.
pub type TaskProgress = BTreeMap<TaskKey, Progress>;

/// How long tasks at work may go on when the process is asked to stop: what dpkg has begun is better finished.
const DRAIN: Duration = Duration::from_secs(600);

/// A run of nobody else's that was open when the data directory was opened: the process that led it was cut off.
#[derive(Clone, Debug)]
pub struct CutOff {
    /// Which.
    pub run: RunId,
    /// Of what.
    pub workflow: Arc<str>,
    /// When it began.
    pub since: UtcMs,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// An engine with workers, or the view of one that is elsewhere.
pub struct Host {
    engine: Place,
    cut_off: Vec<CutOff>,
    data: PathBuf,
    progress: watch::Receiver<TaskProgress>,
}

/// Where the engine is.
enum Place {
    Here {
        engine: Box<Engine>,
        shutdown: CancellationToken,
        pool: JoinHandle<()>,
        decisions: JoinHandle<()>,
    },
    /// Somewhere behind NATS: orders go to the one that leads, what it records is followed here.
    Elsewhere(Box<Stand>),
}

/// How long a command waits for servers that do not answer, as orders do for a leader.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether the servers that keep the journal do not answer: they may later.
pub(crate) fn is_away(error: &OpenError) -> bool {
    matches!(error, OpenError::Journal(journal::Error::Stream(StreamError::Unavailable { .. })))
}

/// What a failure to open means to a person.
pub(crate) fn open_fault(error: OpenError) -> Fault {
    let code = error.code();
    let (exit, hint) = match &error {
        OpenError::DataDir(_) => (Exit::Unable, "see `patchloom doctor`, or name another one with --data-dir"),
        error if is_away(error) => (Exit::Unable, "see whether most of the servers are there; then start it again"),
        OpenError::Journal(journal::Error::Stream(StreamError::Unfit { .. })) => (
            Exit::Unable,
            "start engines with `patchloom serve --nats URL`, all with the same options; or see --partition",
        ),
        OpenError::Journal(_) | OpenError::JournalLost { .. } | OpenError::Gap { .. } | OpenError::Record { .. } => {
            (Exit::Internal, "look at it with `patchloom journal verify`; nothing was changed")
        }
        OpenError::Snapshot(_)
        | OpenError::Store(_)
        | OpenError::Archive(_)
        | OpenError::Row(_)
        | OpenError::Thread(_) => (Exit::Internal, "see `patchloom doctor`; nothing was changed"),
    };
    Fault::new(code, exit, anyhow::Error::new(error).context("cannot open the engine")).hint(hint)
}

impl Host {
    /// Opens the engine on `data`, registers the shipped workflows and starts to work on what is open.
    ///
    /// # Errors
    /// The data directory cannot be led: see the fault's code.
    pub async fn open(data: &Path) -> Result<Self, Fault> {
        Self::open_carrying(data, &Carrier::new(SshOptions::from_env())).await
    }

    /// As [`Host::open`]; `carrier` brings tasks to hosts that are other machines.
    ///
    /// # Errors
    /// As [`Host::open`].
    pub async fn open_carrying(data: &Path, carrier: &Carrier) -> Result<Self, Fault> {
        let handlers = handlers_with(carrier).map_err(|error| Fault::new("E0591", Exit::Internal, error))?;
        Self::open_with(data, handlers).await
    }

    /// As [`Host::open`], with these handlers: all of [`handlers`], each perhaps wrapped.
    ///
    /// # Errors
    /// As [`Host::open`].
    pub async fn open_with(data: &Path, handlers: Handlers) -> Result<Self, Fault> {
        let engine = runtime::open(data, &EngineOptions::default()).await.map_err(open_fault)?;
        for note in &engine.notes {
            tracing::warn!("{note}");
        }
        // Before the workers begin: the last task of a run may be done at once, and the run would be over unseen.
        let cut_off = cut_off(&engine.handle).await?;
        register_shipped(&engine.handle).await?;
        DataDir::new(data).sweep();
        let (report, progress) = watch::channel(TaskProgress::new());
        let source = source::QueueSource::new(engine.queue.clone(), engine.handle.clone(), report);
        let config = PoolConfig { drain: DRAIN, ..PoolConfig::default() };
        let pool = WorkerPool::new(Arc::new(source), handlers, DataDir::new(data), config);
        let shutdown = CancellationToken::new();
        let pool = tokio::spawn(pool.run(shutdown.clone()));
        let decisions =
            tokio::spawn(decisions::carry(engine.handle.clone(), DataDir::new(data).changes(), shutdown.clone()));
        let engine = Place::Here { engine: Box::new(engine), shutdown, pool, decisions };
        Ok(Self { engine, cut_off, data: data.to_owned(), progress })
    }

    /// Looks on a partition whose engines are elsewhere, with a copy of its journal at `copy`.
    ///
    /// # Errors
    /// The broker does not answer, or the copy cannot be used: see the fault's code.
    pub async fn look_on(connection: &Connection, copy: &Path, options: StandOptions) -> Result<Self, Fault> {
        let options = StandOptions { leads: false, ..options };
        // Where streams are off nothing comes of waiting.
        let patience = if connection.client().server_info().jetstream { PATIENCE } else { Duration::ZERO };
        let end = Instant::now() + patience;
        let stand = loop {
            match stand(connection, copy, InProcess::default(), options.clone()).await {
                Ok(stand) => break stand,
                // Servers that have just lost one of them choose another leader for the stream: that takes seconds.
                Err(error) if is_away(&error) && Instant::now() < end => {
                    tracing::warn!(error = %error, "the journal cannot be reached; it is tried again");
                    // Some answers are a quick no.
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(open_fault(error)),
            }
        };
        for note in &stand.notes {
            tracing::info!("{note}");
        }
        let (_, progress) = watch::channel(TaskProgress::new());
        Ok(Self { engine: Place::Elsewhere(Box::new(stand)), cut_off: Vec::new(), data: copy.to_owned(), progress })
    }

    /// How to speak to the engine.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        match &self.engine {
            Place::Here { engine, .. } => &engine.handle,
            Place::Elsewhere(stand) => &stand.handle,
        }
    }

    /// The engine as the HTTP face sees it; `None` where it is elsewhere.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        match &self.engine {
            Place::Here { engine, .. } => {
                let queue = engine.queue.clone();
                Some(Seat::new(engine.handle.clone(), move || queue.depth()))
            }
            Place::Elsewhere(_) => None,
        }
    }

    /// What lies behind the journal, to read.
    #[must_use]
    pub fn books(&self) -> &Books {
        match &self.engine {
            Place::Here { engine, .. } => engine.books(),
            Place::Elsewhere(stand) => &stand.books,
        }
    }

    fn archived(&self, id: RunId) -> Result<Option<runtime::Archived>, OpenError> {
        self.books().archived(id)
    }

    /// The data directory as the workers see it.
    #[must_use]
    pub fn data(&self) -> DataDir {
        DataDir::new(&self.data)
    }

    /// The runs without a parent that were open when this was opened; some may have ended since.
    #[must_use]
    pub fn cut_off(&self) -> &[CutOff] {
        &self.cut_off
    }

    /// How far each task at work is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<TaskProgress> {
        self.progress.clone()
    }

    /// A run as it is now, in the state or in the archive, with its definition.
    ///
    /// # Errors
    /// The engine has stopped, or what is stored cannot be read.
    pub async fn find(&self, id: RunId) -> Result<Option<(Arc<runtime::RunState>, Arc<Definition>)>, Fault> {
        if let Some(found) = self.handle().run(id).await.map_err(engine_fault)? {
            return Ok(Some(found));
        }
        let Some(archived) = self.archived(id).map_err(open_fault)? else { return Ok(None) };
        let version = archived.run.start.version.clone();
        let definition =
            self.handle().read(move |state| state.definition(&version).cloned()).await.map_err(engine_fault)?;
        Ok(definition.map(|definition| (Arc::new(archived.run), definition)))
    }

    /// Lets running tasks come to an end, writes everything down and gives the data directory free.
    pub async fn close(self) {
        match self.engine {
            Place::Here { engine, shutdown, pool, decisions } => {
                shutdown.cancel();
                // A panic in either was printed; the journal has what they had recorded.
                let _ = pool.await;
                let _ = decisions.await;
                engine.close().await;
            }
            Place::Elsewhere(mut stand) => {
                stand.handle.stop().await;
                stand.ended().await;
            }
        }
    }
}

/// Registers the workflows that come with this binary, where their latest version is another one.
///
/// # Errors
/// The engine has stopped.
pub async fn register_shipped(handle: &Handle) -> Result<(), Fault> {
    for (name, text) in shipped::all() {
        let definition = shipped_definition(name, text)?;
        let (named, version) = (Arc::clone(&definition.name), definition.digest.clone());
        // What is known already need not be said again with every start.
        let known = handle.read(move |state| state.latest(&named) == Some(&version)).await.map_err(engine_fault)?;
        if !known {
            handle.register("engine", &definition).await.map_err(engine_fault)?;
        }
    }
    Ok(())
}

/// Registers the workflow of this name that comes with this binary; tells whether there is one. For an engine that has only
/// begun to lead, and was asked for a workflow before it had registered all.
///
/// # Errors
/// The engine has stopped.
pub async fn register_one_shipped(handle: &Handle, name: &str) -> Result<bool, Fault> {
    let Some(text) = shipped::text(name) else { return Ok(false) };
    handle.register("engine", &shipped_definition(name, text)?).await.map_err(engine_fault)?;
    Ok(true)
}

fn shipped_definition(name: &str, text: &str) -> Result<Definition, Fault> {
    Definition::parse(name, text).map_err(|mistakes| Fault::new("E0101", Exit::Internal, anyhow::Error::new(mistakes)))
}

async fn cut_off(handle: &Handle) -> Result<Vec<CutOff>, Fault> {
    let read = |state: &patchloom_core::Partition| {
        let open = state.runs().filter(|run| run.end().is_none() && run.start.parent.is_none());
        let told = |run: &Arc<runtime::RunState>| CutOff {
            run: run.id(),
            workflow: Arc::clone(&run.start.workflow),
            since: run.started,
            labels: run.start.labels.clone(),
        };
        open.map(told).collect()
    };
    handle.read(read).await.map_err(engine_fault)
}

/// All task types of this binary.
///
/// # Errors
/// Two handlers claim one task type: a mistake in this code.
pub fn handlers() -> anyhow::Result<Handlers> {
    handlers_with(&Carrier::new(SshOptions::from_env()))
}

/// As [`handlers`]; `carrier` brings tasks to hosts that are other machines.
///
/// # Errors
/// As [`handlers`].
pub fn handlers_with(carrier: &Carrier) -> anyhow::Result<Handlers> {
    let mut handlers = Handlers::default();
    observe::register(&mut handlers, carrier).context("cannot add the handlers that look")?;
    changes::register(&mut handlers).context("cannot add the handlers of changes")?;
    inventory::register(&mut handlers, carrier).context("cannot add the handlers of the inventory")?;
    patching::register(&mut handlers, None, carrier).context("cannot add the handlers that patch")?;
    campaign::register(&mut handlers, carrier).context("cannot add the handlers of campaigns")?;
    Ok(handlers)
}

/// The types of all events that this binary tells by itself, in order; `docs/asyncapi.yaml` describes each.
#[must_use]
pub fn event_types() -> Vec<&'static str> {
    let mut types: Vec<&str> = EVENT_TYPES.into_iter().chain(Fact::ALL.map(Fact::kind)).collect();
    types.sort_unstable();
    types
}

/// What the engine's refusal means to a person.
pub fn engine_fault(error: runtime::EngineError) -> Fault {
    let exit = match &error {
        runtime::EngineError::Stopped { .. } | runtime::EngineError::Archive(_) => Exit::Internal,
        runtime::EngineError::UnknownWorkflow(_)
        | runtime::EngineError::Inputs(_)
        | runtime::EngineError::Calendars(_) => Exit::BadInput,
        runtime::EngineError::Refused(_) => Exit::Failed,
    };
    Fault::new(error.code(), exit, error)
}
