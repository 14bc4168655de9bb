//! What an item of a fan-out costs, and whether that grows with the number of items: one run, one step, many items.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::{Definition, Outcome, RunId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Parts, RAW_BYTES, TAKE_MAX, WORKERS, memory, raw};
use crate::queue::TaskQueue;
use crate::rate::RawRate;
use crate::runtime::{Engine, EngineError, EngineOptions, Intake, open};

/// Items at work at a time.
pub const IN_FLIGHT: u32 = 200;
/// Small fan-outs are walked so often that all rounds together have so many items; the median counts.
const ROUND_ITEMS: u32 = 10_000;
/// The least number of items that is measured beside the one that was asked for.
const LEAST: u32 = 1_000;

const TASKS: &str = r#"
name: fanout
inputs: { hosts: { type: array }, release: { type: string } }
steps:
  all:
    for_each: { items: "${{ inputs.hosts }}", max_parallel: 200 }
    uses: bench.nop
    with: { host: "${{ item.host }}", site: "${{ item.site }}", release: "${{ inputs.release }}" }
"#;
const CHILDREN: &str = r#"
name: fanout
inputs: { hosts: { type: array }, release: { type: string } }
steps:
  all:
    for_each: { items: "${{ inputs.hosts }}", max_parallel: 200 }
    workflow: fanout-host
    with: { host: "${{ item.host }}", release: "${{ inputs.release }}" }
"#;
const CHILD: &str = r#"
name: fanout-host
inputs: { host: { type: string }, release: { type: string } }
steps:
  patch: { uses: bench.nop, with: { host: "${{ inputs.host }}" }, compensate: { uses: bench.nop } }
"#;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many items.
    pub items: u32,
    /// Whether each item is a child run.
    pub children: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Whether each item was a child run.
    pub children: bool,
    /// Items at work at a time.
    pub in_flight: u32,
    /// One line for each number of items, the smallest first.
    pub points: Vec<Point>,
    /// The cost of an item in the largest fan-out, as a multiple of that in the smallest.
    pub growth: f64,
    /// The disk alone, before and after, in the same directory.
    pub raw: [RawRate; 2],
    /// Bytes of one write of the disk alone.
    pub raw_bytes: usize,
}

/// A fan-out of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// How many items.
    pub items: u32,
    /// How often it was walked; the figures are those of the round in the middle, but for memory.
    pub rounds: u32,
    /// From the start of the run to its end.
    pub seconds: f64,
    /// Items per second.
    pub items_per_second: f64,
    /// Microseconds per item.
    pub item_us: f64,
    /// Journal records, each one flush.
    pub records: u64,
    /// Median of the scheduling delay in microseconds: from the moment a result is handed in, which frees a place, until
    /// the task that takes the place is with a worker. The flush of the record between them is in it.
    pub delay_p50_us: u32,
    /// 99th percentile of the same.
    pub delay_p99_us: u32,
    /// By how much the process grew at most, from the opening of the engine to its closing.
    pub rss_growth_bytes: u64,
    /// The most memory this process had meanwhile.
    pub peak_rss_bytes: u64,
}

/// Runs the load in `dir`, which is made and left behind.
///
/// # Errors
/// See [`Error`].
pub async fn run(dir: &Path, load: Load) -> Result<Figures, Error> {
    let before = raw(dir)?;
    let mut points = Vec::new();
    for items in sizes(load.items) {
        points.push(measure(&dir.join(items.to_string()), Load { items, ..load }).await?);
    }
    let growth = match (points.first(), points.last()) {
        (Some(least), Some(most)) => most.item_us / least.item_us,
        _ => 1.0,
    };
    Ok(Figures {
        children: load.children,
        in_flight: IN_FLIGHT,
        points,
        growth,
        raw: [before, raw(dir)?],
        raw_bytes: RAW_BYTES,
    })
}

/// The powers of ten from a thousand up to `items`, and `items`.
fn sizes(items: u32) -> Vec<u32> {
    let tens = std::iter::successors(Some(LEAST), |size| size.checked_mul(10)).take_while(|size| *size < items);
    tens.chain([items]).collect()
}

async fn measure(dir: &Path, load: Load) -> Result<Point, Error> {
    forget_peak();
    let floor = memory("VmRSS:");
    let engine = open(dir, &EngineOptions::default()).await?;
    let definitions: Vec<&str> = if load.children { vec![CHILD, CHILDREN] } else { vec![TASKS] };
    for text in definitions {
        let definition = Definition::parse("bench", text).expect("the definitions of this file hold");
        engine.handle.register("bench", &definition).await?;
    }
    let rounds = (ROUND_ITEMS / load.items).max(1);
    let mut found = Vec::new();
    for _ in 0..rounds {
        found.push(round(&engine, load).await?);
    }
    engine.close().await;
    let peak_rss_bytes = memory("VmHWM:");
    found.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let middle = found.swap_remove(found.len() / 2);
    Ok(Point { rounds, peak_rss_bytes, rss_growth_bytes: peak_rss_bytes.saturating_sub(floor), ..middle })
}

/// Walks the fan-out once.
async fn round(engine: &Engine, load: Load) -> Result<Point, Error> {
    let over = CancellationToken::new();
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work(Parts::of(engine), over.clone()))).collect();
    let id = RunId(Uuid::now_v7());
    let start = start(engine, id, load).await?;
    let began = Instant::now();
    let entry = Entry { by: "bench".into(), event: Event::RunStarted(Arc::new(start)) };
    let first = engine.handle.submit(vec![entry]).await?.swap_remove(0).map_err(EngineError::from)?;
    engine.handle.wait_for(id, |run| run.end().is_some()).await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut seen = Seen::default();
    over.cancel();
    for worker in workers {
        let one = worker.await.unwrap_or_default();
        seen.results.extend(one.results);
        seen.arrivals.extend(one.arrivals);
    }
    let last = seen.results.iter().map(|(seq, _)| *seq).max().unwrap_or(first);
    let mut delays = delays(seen);
    Ok(Point {
        items: load.items,
        rounds: 1,
        seconds,
        items_per_second: f64::from(load.items) / seconds,
        item_us: seconds * 1e6 / f64::from(load.items),
        records: last.saturating_sub(first) + 1,
        delay_p50_us: super::percentile(&mut delays, 50),
        delay_p99_us: super::percentile(&mut delays, 99),
        rss_growth_bytes: 0,
        peak_rss_bytes: 0,
    })
}

async fn start(engine: &Engine, id: RunId, load: Load) -> Result<Start, EngineError> {
    let (version, pins) =
        engine.handle.read(|state| (state.latest("fanout").cloned(), state.pins("fanout").unwrap_or_default())).await?;
    let host =
        |nth: u32| json!({"host": format!("web-{nth:06}"), "site": format!("site-{}", nth % 40), "ring": nth % 4});
    let hosts: Vec<Value> = (0..load.items).map(host).collect();
    // Moved, not copied as `json!` does: the figures are those of the engine, not of what feeds it.
    let inputs =
        Map::from_iter([("hosts".to_owned(), Value::Array(hosts)), ("release".to_owned(), Value::from("2026-11"))]);
    Ok(Start {
        run: id,
        workflow: "fanout".into(),
        version: version.ok_or_else(|| EngineError::UnknownWorkflow("fanout".into()))?,
        pins: Arc::new(pins),
        inputs: Value::Object(inputs),
        parent: None,
        key: None,
        labels: BTreeMap::new(),
        seed: id.0.as_u64_pair().1,
    })
}

/// What a worker saw.
#[derive(Default)]
struct Seen {
    /// When each result was handed in, by the record that has it.
    results: Vec<(u64, Instant)>,
    /// When each task came.
    arrivals: Vec<Instant>,
}

/// Takes tasks and hands their results in.
async fn work(parts: Parts, over: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    loop {
        let leases = tokio::select! {
            () = over.cancelled() => return seen,
            // Cancel-safe: what was not returned is not leased.
            leases = parts.queue.take(TAKE_MAX) => leases,
        };
        seen.arrivals.extend(std::iter::repeat_n(Instant::now(), leases.len()));
        let done = |lease| {
            let outcome = parts.queue.settle(&lease, Outcome::Succeeded { output: Value::from(1) })?;
            let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
            Some(Entry { by: "worker:bench".into(), event })
        };
        let entries = leases.into_iter().filter_map(done).collect();
        let handed_in = Instant::now();
        let Ok(answers) = parts.handle.submit(entries).await else { return seen };
        seen.results.extend(answers.into_iter().flatten().map(|seq| (seq, handed_in)));
    }
}

/// How long each place was empty, in microseconds: the first result frees the place of the first task that did not go
/// out with the start, and so on.
fn delays(mut seen: Seen) -> Vec<u32> {
    seen.results.sort_unstable();
    seen.arrivals.sort_unstable();
    let behind = seen.arrivals.iter().skip(usize::try_from(IN_FLIGHT).unwrap_or(0));
    let span = |(arrival, (_, freed)): (&Instant, &(u64, Instant))| {
        u32::try_from(arrival.saturating_duration_since(*freed).as_micros()).unwrap_or(u32::MAX)
    };
    behind.zip(&seen.results).map(span).collect()
}

/// Has the peak of this process begin anew. Linux: `/proc/self/clear_refs`, proc(5); elsewhere the peak is that of all.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_size_is_measured_with_tasks_and_with_child_runs() {
        assert_eq!(sizes(100_000), [1_000, 10_000, 100_000]);
        assert_eq!(sizes(2_500), [1_000, 2_500]);
        assert_eq!(sizes(300), [300]);
        for children in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let figures = run(dir.path(), Load { items: 300, children }).await.unwrap();
            let point = &figures.points[0];
            assert_eq!((figures.points.len(), point.items), (1, 300));
            assert!(point.records > 1 && point.delay_p50_us > 0 && point.item_us > 0.0, "{point:?}");
        }
    }
}
