//! How fast the pure machine folds events in: a linear run from start to end, and a fan-out of a thousand items.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::{Definition, Effect, Outcome, Partition, RunId, UtcMs};
use serde_json::json;
use uuid::Uuid;

fn linear() -> String {
    let mut text = "name: bench\nsteps:\n  s0: { uses: t.work }\n".to_owned();
    for at in 1..6 {
        let input = format!("\"${{{{ steps.s{}.output.n }}}}\"", at - 1);
        writeln!(text, "  s{at}: {{ needs: s{}, uses: t.work, with: {{ n: {input} }} }}", at - 1)
            .expect("text takes text");
    }
    text
}

fn fan_out() -> String {
    let items: Vec<String> = (0..1_000).map(|item| item.to_string()).collect();
    let items = items.join(",");
    format!("name: bench\nsteps:\n  all: {{ uses: t.work, for_each: {{ items: [{items}], max_parallel: 1000 }} }}\n")
}

/// A partition that knows the workflow, and all events of one run of it.
fn history(text: &str) -> (Partition, Vec<Entry>) {
    let definition = Definition::parse("bench", text).expect("the definition holds");
    let entry = |event| Entry { by: "bench".into(), event };
    let mut ground = Partition::default();
    let registered = entry(Event::DefinitionRegistered { text: definition.canonical.clone() });
    ground.apply(1, UtcMs(1), &registered).expect("it is registered");
    let start = Start {
        run: RunId(Uuid::from_u128(7)),
        workflow: "bench".into(),
        version: definition.digest,
        pins: Arc::new(ground.pins("bench").expect("it is known")),
        inputs: json!({}),
        parent: None,
        key: None,
        labels: BTreeMap::new(),
        seed: 7,
    };
    let mut state = ground.clone();
    let mut entries = Vec::new();
    let mut open = vec![entry(Event::RunStarted(Arc::new(start)))];
    while let Some(next) = open.pop() {
        let applied = state.apply(2, UtcMs(2), &next).expect("it is accepted");
        entries.push(next);
        for effect in applied.effects {
            if let Effect::Dispatch(task) = effect {
                let outcome = Outcome::Succeeded { output: json!({"n": 1}) };
                open.push(entry(Event::AttemptFinished { task: task.key, outcome, tell: Vec::new() }));
            }
        }
    }
    assert!(state.runs().all(|run| run.end().is_some()), "the run is over");
    (ground, entries)
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for (name, text) in [("linear_6_steps", linear()), ("fan_out_1000_items", fan_out())] {
        let (ground, entries) = history(&text);
        group.throughput(Throughput::Elements(u64::try_from(entries.len()).expect("a small number")));
        group.bench_function(name, |bencher| {
            let run = |mut state: Partition| {
                for entry in &entries {
                    let _ = black_box(state.apply(2, UtcMs(2), entry));
                }
                state
            };
            bencher.iter_batched(|| ground.clone(), run, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
