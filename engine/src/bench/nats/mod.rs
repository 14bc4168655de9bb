//! What a durable step costs behind a NATS server: the real engine, journal and queue, workers on a connection of their own.

pub mod raw;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use patchloom_core::wire::Names;
use patchloom_core::{Definition, Digest, RunId, TaskKey};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::raw::RawServer;
use super::{Load, linear, peak_rss, percentile, start, step_name};
use crate::events::InProcess;
use crate::nats::{Connection, Error as ServerError, Preflight, StandEnd, StandOptions, stand};
use crate::runtime::{EngineError, Handle, OpenError, Status};

/// Runs that are told to be over and not yet followed by others.
const TOLD_MAX: usize = 4_096;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The server's version.
    pub server: String,
    /// What its acknowledgement is worth: strict, relaxed or unknown.
    pub durability: &'static str,
    /// Runs that ended.
    pub runs: u64,
    /// How many of them at a time.
    pub in_flight: u32,
    /// Durable steps.
    pub steps: u64,
    /// From the first start to the last acknowledged result.
    pub seconds: f64,
    /// Durable steps per second.
    pub steps_per_second: f64,
    /// Median, in microseconds: from the begin of a task to the begin of its successor, with the result's way to the leader,
    /// the append, the new ticket and the claim.
    pub step_p50_us: u32,
    /// 99th percentile of the same.
    pub step_p99_us: u32,
    /// Journal records per second, each one acknowledged append.
    pub appends_per_second: f64,
    /// Steps per record.
    pub steps_per_append: f64,
    /// What the engine and the workers used of the processors: 1.0 is one core.
    pub cores: f64,
    /// The most memory this process had, in bytes.
    pub peak_rss_bytes: u64,
    /// The server alone, before and after.
    pub raw: [RawServer; 2],
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is not fit.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The engine did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The server alone could not be measured.
    #[error("cannot measure the server: {0}")]
    Raw(String),
}

/// What the workers tell of their work. Clones share it.
#[derive(Clone, Debug)]
pub struct Gang {
    /// The names below which their tickets are.
    pub names: Names,
    /// Fires when the measurement is over.
    pub over: CancellationToken,
    shared: Arc<Shared>,
    done: mpsc::Sender<RunId>,
}

#[derive(Debug)]
struct Shared {
    last_step: String,
    steps: AtomicU64,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    begun: HashMap<RunId, Instant>,
    spans: Vec<u32>,
}

impl Gang {
    /// A task was begun.
    pub fn begun(&self, key: &TaskKey) {
        let now = Instant::now();
        let mut work = self.shared.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = work.begun.insert(key.run, now) {
            work.spans.push(u32::try_from(now.duration_since(before).as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The result of a task is recorded.
    pub async fn recorded(&self, key: &TaskKey) {
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
        if *key.step.as_str() == *self.shared.last_step {
            // Nobody listens once the measurement is over.
            let _ = self.done.send(key.run).await;
        }
    }
}

/// Runs the load on the server, with a copy of the journal in `dir`, and workers that `crew` starts. What it makes on the
/// server it removes.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    connection: &Connection,
    dir: &Path,
    load: Load,
    crew: impl AsyncFnOnce(Gang) -> Result<(), ServerError>,
) -> Result<Figures, Error> {
    let fit = Preflight::look(connection).await?;
    let own = format!("bench-{}", std::process::id());
    let before = raw::measure(connection, &own).await.map_err(Error::Raw)?;
    let measured = measure(connection, dir, load, &own, crew).await;
    let removed = raw::remove(connection, &own).await;
    let measured = measured?;
    removed.map_err(Error::Raw)?;
    let after = raw::measure(connection, &own).await.map_err(Error::Raw)?;
    Ok(Figures {
        server: fit.version.to_string(),
        durability: fit.durability.word(),
        raw: [before, after],
        ..measured.figures(load)
    })
}

struct Measured {
    runs: u32,
    steps: u64,
    records: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
    spans: Vec<u32>,
}

impl Measured {
    fn figures(mut self, load: Load) -> Figures {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per = |count: u64, of: f64| count as f64 / of;
        let nothing = RawServer::default();
        Figures {
            server: String::new(),
            durability: "unknown",
            runs: u64::from(self.runs),
            in_flight: load.in_flight,
            steps: self.steps,
            seconds: self.seconds,
            steps_per_second: per(self.steps, self.seconds),
            step_p50_us: percentile(&mut self.spans, 50),
            step_p99_us: percentile(&mut self.spans, 99),
            appends_per_second: per(self.records, self.seconds),
            steps_per_append: per(self.steps, per(self.records, 1.0)),
            cores: self.cpu_seconds / self.seconds,
            peak_rss_bytes: self.peak_rss_bytes,
            raw: [nothing.clone(), nothing],
        }
    }
}

async fn measure(
    connection: &Connection,
    dir: &Path,
    load: Load,
    own: &str,
    crew: impl AsyncFnOnce(Gang) -> Result<(), ServerError>,
) -> Result<Measured, Error> {
    let options =
        StandOptions { partition: own.into(), names: Names::below(&raw::prefix(own)), ..StandOptions::new("bench") };
    let names = options.names.clone();
    let mut standing = stand(connection, &dir.join("data"), InProcess::default(), options).await?;
    let handle = standing.handle.clone();
    let mut status = handle.status();
    let left = || Error::Engine(EngineError::Stopped { reason: Some("it was not to lead".to_owned()) });
    status.wait_for(|status| matches!(status, Status::Leading)).await.map_err(|_| left())?;
    let definition = linear(load.steps);
    handle.register("bench", &definition).await?;
    let (done, mut finished) = mpsc::channel(TOLD_MAX);
    let last_step = step_name(load.steps - 1);
    let shared = Arc::new(Shared { last_step, steps: AtomicU64::new(0), work: Mutex::default() });
    let gang = Gang { names, over: CancellationToken::new(), shared: Arc::clone(&shared), done };
    let over = gang.over.clone();
    crew(gang).await?;
    let pins = Arc::new(BTreeMap::from([(Arc::clone(&definition.name), definition.digest.clone())]));
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let walked = walk(&handle, &definition, &pins, load, &mut finished);
    let (runs, first_seq) = tokio::select! {
        walked = walked => walked?,
        end = standing.ended() => {
            let reason = match end {
                StandEnd::Failed { reason } => reason,
                StandEnd::Stopped | StandEnd::Deposed => "it was deposed".to_owned(),
            };
            return Err(Error::Engine(EngineError::Stopped { reason: Some(reason) }));
        }
    };
    let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let records = raw::records(connection, own).await.map_err(Error::Raw)?.saturating_sub(first_seq) + 1;
    over.cancel();
    handle.stop().await;
    standing.ended().await;
    let spans = std::mem::take(&mut shared.work.lock().unwrap_or_else(PoisonError::into_inner).spans);
    let steps = shared.steps.load(Ordering::Relaxed);
    Ok(Measured { runs, steps, records, seconds, cpu_seconds, peak_rss_bytes: peak_rss(), spans })
}

/// Has so many runs under way until all are over; how many ended, and the record of the first.
async fn walk(
    handle: &Handle,
    definition: &Definition,
    pins: &Arc<BTreeMap<Arc<str>, Digest>>,
    load: Load,
    finished: &mut mpsc::Receiver<RunId>,
) -> Result<(u32, u64), EngineError> {
    let first = load.in_flight.min(load.runs);
    let first_seq = start(handle, &definition.digest, pins, first).await?;
    let (mut started, mut ended) = (first, 0_u32);
    while ended < load.runs {
        let mut over = Vec::new();
        if finished.recv_many(&mut over, TOLD_MAX).await == 0 {
            return Err(EngineError::Stopped { reason: Some("the workers gave up".into()) });
        }
        let over = u32::try_from(over.len()).unwrap_or(u32::MAX);
        ended += over;
        let more = over.min(load.runs - started);
        if more > 0 {
            start(handle, &definition.digest, pins, more).await?;
            started += more;
        }
    }
    Ok((ended, first_seq))
}

/// What this process used of the processors. Linux: the times of `/proc/self/stat`, proc(5), in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}
