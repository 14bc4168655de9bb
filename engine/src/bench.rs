//! What a durable step costs: the real engine on a real disk, with workers that do nothing.

pub mod fanout;
pub mod nats;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::{Definition, Digest, Outcome, RunId};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::queue::TaskQueue;
use crate::rate::{RawRate, raw_fdatasync_rate};
use crate::runtime::{Engine, EngineError, EngineOptions, Handle, Intake, OpenError, open};

/// Tasks that a worker takes at once: a result is handed in with those that were ready with it.
const TAKE_MAX: usize = 256;
/// Workers. They share the cores with the leader and the disk's thread.
const WORKERS: usize = 2;
/// How long the disk alone is measured, before and after.
const RAW_FOR: Duration = Duration::from_secs(1);
/// The record size at which the disk alone is measured: that of a small group of steps.
const RAW_BYTES: usize = 4096;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many runs.
    pub runs: u32,
    /// How many of them at a time.
    pub in_flight: u32,
    /// Steps of each run.
    pub steps: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Runs that ended.
    pub runs: u64,
    /// Durable steps.
    pub steps: u64,
    /// From the first start to the last acknowledged result.
    pub seconds: f64,
    /// Durable steps per second.
    pub steps_per_second: f64,
    /// Median of one durable step, in microseconds: from the hand-out of a task to its worker until its result is
    /// durable, folded in and acknowledged, its successor handed out.
    pub step_p50_us: u32,
    /// 99th percentile of the same.
    pub step_p99_us: u32,
    /// Journal records, each one flush, per second.
    pub fsyncs_per_second: f64,
    /// Steps per flush.
    pub steps_per_fsync: f64,
    /// The most memory this process had, in bytes.
    pub peak_rss_bytes: u64,
    /// The disk alone, before and after, in the same directory.
    pub raw: [RawRate; 2],
    /// Bytes of one write of the disk alone.
    pub raw_bytes: usize,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The disk alone could not be measured.
    #[error("cannot measure the disk")]
    Raw(#[source] std::io::Error),
}

/// What all parts of one measurement share.
struct Shared {
    version: Digest,
    pins: Arc<BTreeMap<Arc<str>, Digest>>,
    steps: AtomicU64,
    last_seq: AtomicU64,
    over: CancellationToken,
}

/// Runs the load in `dir`, which is made and left behind.
///
/// # Errors
/// See [`Error`].
pub async fn run(dir: &Path, load: Load) -> Result<Figures, Error> {
    let before = raw(dir)?;
    let engine = open(&dir.join("data"), &EngineOptions::default()).await?;
    let definition = linear(load.steps);
    engine.handle.register("bench", &definition).await?;
    let version = definition.digest.clone();
    let pins = Arc::new(BTreeMap::from([(Arc::clone(&definition.name), version.clone())]));
    let shared = Arc::new(Shared {
        version,
        pins,
        steps: AtomicU64::new(0),
        last_seq: AtomicU64::new(0),
        over: CancellationToken::new(),
    });
    let (done, mut finished) = mpsc::channel(TAKE_MAX * 16);
    let last_step: Arc<str> = step_name(load.steps - 1).into();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(work(Parts::of(&engine), Arc::clone(&shared), Arc::clone(&last_step), done.clone())))
        .collect();
    drop(done);
    let began = Instant::now();
    let start_more = async |count| start(&engine.handle, &shared.version, &shared.pins, count).await;
    let first_seq = start_more(load.in_flight.min(load.runs)).await?;
    let (mut started, mut ended) = (load.in_flight.min(load.runs), 0_u32);
    while ended < load.runs {
        let mut over = Vec::new();
        if finished.recv_many(&mut over, TAKE_MAX).await == 0 {
            return Err(Error::Engine(EngineError::Stopped { reason: Some("a worker gave up".into()) }));
        }
        ended += u32::try_from(over.len()).unwrap_or(u32::MAX);
        let more = u32::try_from(over.len()).unwrap_or(u32::MAX).min(load.runs - started);
        if more > 0 {
            start_more(more).await?;
            started += more;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let peak_rss_bytes = peak_rss();
    let records = shared.last_seq.load(Ordering::Relaxed).saturating_sub(first_seq) + 1;
    shared.over.cancel();
    let mut spans: Vec<u32> = Vec::new();
    for worker in workers {
        spans.extend(worker.await.unwrap_or_default());
    }
    engine.close().await;
    let steps = shared.steps.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let per = |count: u64, of: f64| count as f64 / of;
    Ok(Figures {
        runs: u64::from(ended),
        steps,
        seconds,
        steps_per_second: per(steps, seconds),
        step_p50_us: percentile(&mut spans, 50),
        step_p99_us: percentile(&mut spans, 99),
        fsyncs_per_second: per(records, seconds),
        steps_per_fsync: per(steps, per(records, 1.0)),
        peak_rss_bytes,
        raw: [before, raw(dir)?],
        raw_bytes: RAW_BYTES,
    })
}

fn raw(dir: &Path) -> Result<RawRate, Error> {
    std::fs::create_dir_all(dir).and_then(|()| raw_fdatasync_rate(dir, RAW_BYTES, RAW_FOR)).map_err(Error::Raw)
}

fn step_name(nth: u32) -> String {
    format!("s{nth:04}")
}

/// A workflow whose steps follow one another and do nothing.
fn linear(steps: u32) -> Definition {
    let mut text = "name: bench\nsteps:\n".to_owned();
    for nth in 0..steps {
        let needs = if nth == 0 { String::new() } else { format!("needs: {}, ", step_name(nth - 1)) };
        text.push_str(&format!("  {}: {{ {needs}uses: bench.nop }}\n", step_name(nth)));
    }
    Definition::parse("bench", &text).expect("a chain of steps is a definition")
}

/// Starts runs and gives the record that the last of them is in.
async fn start(
    handle: &Handle,
    version: &Digest,
    pins: &Arc<BTreeMap<Arc<str>, Digest>>,
    count: u32,
) -> Result<u64, EngineError> {
    let entry = |_| {
        let id = Uuid::now_v7();
        let start = Start {
            run: RunId(id),
            workflow: "bench".into(),
            version: version.clone(),
            pins: Arc::clone(pins),
            inputs: Value::Null,
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: id.as_u64_pair().1,
        };
        Entry { by: "bench".into(), event: Event::RunStarted(Arc::new(start)) }
    };
    let seen = handle.submit((0..count).map(entry).collect()).await?;
    let mut last = 0;
    for one in seen {
        last = one?;
    }
    Ok(last)
}

struct Parts {
    queue: crate::queue::EmbeddedQueue,
    handle: crate::runtime::Handle,
}

impl Parts {
    fn of(engine: &Engine) -> Self {
        Self { queue: engine.queue.clone(), handle: engine.handle.clone() }
    }
}

/// Takes tasks, hands their results in, tells which runs ended; gives the spans between a run's hand-outs.
async fn work(parts: Parts, shared: Arc<Shared>, last_step: Arc<str>, done: mpsc::Sender<RunId>) -> Vec<u32> {
    let mut spans = Vec::new();
    loop {
        let leases = tokio::select! {
            () = shared.over.cancelled() => return spans,
            leases = parts.queue.take(TAKE_MAX) => leases,
        };
        let taken = Instant::now();
        let mut entries = Vec::with_capacity(leases.len());
        let mut ended = Vec::new();
        for lease in leases {
            let Some(outcome) = parts.queue.settle(&lease, Outcome::Succeeded { output: Value::Null }) else {
                continue;
            };
            if *lease.task.key.step.as_str() == *last_step {
                ended.push(lease.task.key.run);
            }
            entries.push(Entry {
                by: "worker:bench".into(),
                event: Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() },
            });
        }
        let count = entries.len();
        let Ok(seen) = parts.handle.submit(entries).await else { return spans };
        let took = u32::try_from(taken.elapsed().as_micros()).unwrap_or(u32::MAX);
        spans.extend(std::iter::repeat_n(took, count));
        shared.steps.fetch_add(crate::disk::widen(count), Ordering::Relaxed);
        if let Some(Ok(seq)) = seen.last() {
            shared.last_seq.fetch_max(*seq, Ordering::Relaxed);
        }
        for run in ended {
            if done.send(run).await.is_err() {
                return spans;
            }
        }
    }
}

fn percentile(spans: &mut [u32], percent: usize) -> u32 {
    spans.sort_unstable();
    spans.get((spans.len() * percent / 100).min(spans.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// The most memory this process had. Linux: `VmHWM` of `/proc/self/status`, proc(5).
fn peak_rss() -> u64 {
    memory("VmHWM:")
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0)
        * 1024
}
