//! How fast a journal folds back into a state: what a restart without a checkpoint costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use patchloom_core::record::{Batch, Entry, Event, SEMANTICS, Start};
use patchloom_core::{Definition, Effect, Outcome, Partition, RunId, UtcMs};
use patchloom_engine::journal::Journal;
use patchloom_engine::sim::{SimDisk, SimJournal};
use serde_json::json;
use uuid::Uuid;

const WORKFLOW: &str = r#"
name: bench
steps:
  a: { uses: t.work }
  b: { needs: a, uses: t.work, with: { n: "${{ steps.a.output.n }}" } }
  c: { needs: b, uses: t.work, with: { n: "${{ steps.b.output.n }}" } }
"#;
/// Entries in one record.
const BATCH: usize = 64;

/// All entries of so many runs, side by side.
fn entries(runs: u32) -> Vec<Entry> {
    let definition = Definition::parse("bench", WORKFLOW).expect("the definition holds");
    let entry = |event| Entry { by: "bench".into(), event };
    let mut state = Partition::default();
    let mut all = vec![entry(Event::DefinitionRegistered { text: definition.canonical.clone() })];
    state.apply(1, UtcMs(1), &all[0]).expect("it is registered");
    let pins = Arc::new(state.pins("bench").expect("it is known"));
    let start = |run: u32| {
        entry(Event::RunStarted(Arc::new(Start {
            run: RunId(Uuid::from_u128(u128::from(run) + 1)),
            workflow: "bench".into(),
            version: definition.digest.clone(),
            pins: Arc::clone(&pins),
            inputs: json!({}),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: u64::from(run),
        })))
    };
    let mut next: Vec<Entry> = (0..runs).map(start).collect();
    while !next.is_empty() {
        let mut after = Vec::new();
        for entry_next in next {
            let applied = state.apply(1, UtcMs(1), &entry_next).expect("it is accepted");
            for effect in applied.effects {
                let Effect::Dispatch(task) = effect else { continue };
                let outcome = Outcome::Succeeded { output: json!({"n": 1}) };
                after.push(entry(Event::AttemptFinished { task: task.key, outcome, tell: Vec::new() }));
            }
            all.push(entry_next);
        }
        next = after;
    }
    all
}

fn replay(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be started");
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10);
    for runs in [1_000, 10_000] {
        let entries = entries(runs);
        let (mut journal, _) = SimJournal::open(&SimDisk::new(), SEMANTICS, None).expect("it opens");
        for part in entries.chunks(BATCH) {
            let batch = Batch { at: UtcMs(1), entries: part.to_vec(), term: None };
            let record = serde_json::to_vec(&batch).expect("entries have text keys and finite numbers");
            runtime.block_on(journal.append(record)).expect("it is appended");
        }
        group.throughput(Throughput::Elements(u64::try_from(entries.len()).expect("a small number")));
        group.bench_function(BenchmarkId::new("entries_of_runs", runs), |bencher| {
            bencher.iter(|| {
                let mut state = Partition::default();
                let reader = runtime.block_on(journal.read_from(1)).expect("it can be read");
                for record in reader {
                    let record = record.expect("it is sound");
                    let batch: Batch = serde_json::from_slice(&record.payload).expect("it is a batch");
                    for entry in &batch.entries {
                        let _ = state.apply(record.seq, batch.at, entry);
                    }
                }
                state
            });
        });
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
