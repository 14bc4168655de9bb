//! What events and schedules start and complete, folded record by record.

mod events;
mod schedules;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{End, Entry, Event, Start, TimerKey, TimerKind};
use patchloom_core::run::{Applied, FactKind, Refusal, Run};
use patchloom_core::{CloudEvent, Definition, Effect, EffectKey, Outcome, Partition, RunId, UtcMs};
use serde_json::{Value, json};

/// A partition that is checked after every record.
struct Stage {
    partition: Partition,
    now: u64,
    seq: u64,
}

/// An event of type `kind` about `subject`.
fn event(kind: &str, id: &str, subject: &str, data: Value) -> CloudEvent {
    CloudEvent {
        specversion: "1.0".to_owned(),
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: kind.to_owned(),
        subject: Some(subject.to_owned()),
        data,
        ..CloudEvent::default()
    }
}

impl Stage {
    fn new(definitions: &[&str]) -> Self {
        let mut stage = Self { partition: Partition::default(), now: 1_000_000_000, seq: 0 };
        for text in definitions {
            stage.register(text);
        }
        stage
    }

    fn register(&mut self, text: &str) {
        let definition = Definition::parse("test", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        self.say(Event::DefinitionRegistered { text: definition.canonical }).unwrap();
    }

    /// Folds one record in, and checks what must hold of each.
    fn say(&mut self, event: Event) -> Result<Applied, Refusal> {
        self.seq += 1;
        let (owed, rows) = (self.partition.pending(), self.rows());
        let entry = Entry { by: "test".into(), event };
        let result = self.partition.apply(self.seq, UtcMs(self.now), &entry);
        match &result {
            Err(_) => assert_eq!(rows, self.rows(), "a refusal changes nothing"),
            Ok(applied) => {
                let mut added = self.partition.pending();
                added.retain(|key, effect| owed.get(key) != Some(effect));
                let told: BTreeMap<EffectKey, Effect> =
                    applied.effects.iter().map(|effect| (effect.key(), effect.clone())).collect();
                assert_eq!(told, added, "effects == pending(after) - pending(before), at {entry:?}");
                assert_eq!(told.len(), applied.effects.len(), "no effect is owed twice");
            }
        }
        result
    }

    fn rows(&self) -> Vec<(String, Vec<u8>)> {
        let rows: Vec<_> = self.partition.rows().collect();
        assert!(rows.is_sorted(), "rows are sorted by key");
        rows
    }

    /// The engine restarts: the state goes through its rows.
    fn restart(&mut self) {
        let rows = self.rows();
        let mut loaded = Partition::default();
        for (key, value) in &rows {
            loaded.load(key, value).unwrap();
        }
        assert_eq!(rows, loaded.rows().collect::<Vec<_>>(), "rows read back to the same state");
        assert_eq!(self.partition.pending(), loaded.pending());
        self.partition = loaded;
    }

    fn receive(&mut self, event: CloudEvent) -> Result<Applied, Refusal> {
        self.say(Event::EventReceived { event: Arc::new(event) })
    }

    /// Begins all runs that are owed; gives them as they are then.
    fn begin(&mut self) -> Vec<Arc<Run>> {
        let owed: Vec<Arc<Start>> = self
            .partition
            .pending()
            .into_values()
            .filter_map(|effect| match effect {
                Effect::StartChild(start) => Some(start),
                _ => None,
            })
            .collect();
        let mut runs = Vec::new();
        for start in owed {
            let id = start.run;
            self.say(Event::RunStarted(start)).unwrap();
            runs.extend(self.partition.run(id).cloned());
        }
        runs
    }

    /// Hands an event in and begins what it starts.
    fn trigger(&mut self, event: CloudEvent) -> Vec<Arc<Run>> {
        self.receive(event).unwrap();
        self.begin()
    }

    /// The timers of bursts, each with the instant at which it is due.
    fn bursts(&self) -> Vec<(RunId, u64)> {
        let timer = |effect| match effect {
            Effect::Timer(TimerKey { run, kind: TimerKind::Debounce }, due) => Some((run, due.0)),
            _ => None,
        };
        self.partition.pending().into_values().filter_map(timer).collect()
    }

    fn fire(&mut self, run: RunId, kind: TimerKind) -> Result<Applied, Refusal> {
        self.say(Event::TimerFired { timer: TimerKey { run, kind } })
    }

    /// Has all tasks that are out come to their ends: well, unless they were called back.
    fn work(&mut self) {
        loop {
            let owed: Vec<Effect> = self.partition.pending().into_values().collect();
            let answers: Vec<Event> = owed
                .into_iter()
                .filter_map(|effect| match effect {
                    Effect::Dispatch(task) => {
                        let outcome = Outcome::Succeeded { output: Value::Null };
                        Some(Event::AttemptFinished { task: task.key, outcome, tell: Vec::new() })
                    }
                    Effect::Cancel(task) => {
                        Some(Event::AttemptFinished { task, outcome: Outcome::Cancelled, tell: Vec::new() })
                    }
                    _ => None,
                })
                .collect();
            if answers.is_empty() {
                return;
            }
            for answer in answers {
                self.say(answer).unwrap();
            }
        }
    }

    fn cancel(&mut self, run: RunId) {
        self.say(Event::CancelRequested { run, compensate: true, reason: "test".into() }).unwrap();
        self.work();
        assert!(self.run(run).end().is_some(), "{:?}", self.run(run).phase);
    }

    fn run(&self, run: RunId) -> &Run {
        self.partition.run(run).expect("the run is there")
    }
}

/// How a run failed.
fn failure(run: &Run) -> (&str, &str) {
    assert_eq!(run.end(), Some(End::Failed), "{:?}", run.phase);
    let failure = &run.cause.as_ref().expect("it says why").failure;
    (&failure.code, &failure.message)
}

/// Why instants of schedules started nothing.
fn missed(applied: &Applied) -> Vec<(u64, &'static str)> {
    let missed = |fact: &patchloom_core::run::Fact| match &fact.kind {
        FactKind::Missed { nominal, why, .. } => Some((nominal.0, *why)),
        _ => None,
    };
    applied.facts.iter().filter_map(missed).collect()
}

fn stale(result: Result<Applied, Refusal>) {
    assert!(matches!(result, Err(Refusal::Stale(_))), "{result:?}");
}

#[test]
fn what_nobody_waits_for_is_not_wanted() {
    let mut stage = Stage::new(&[
        "name: a\non: [{ event: { type: scan.done } }]\nsteps:\n  s: { set: 1 }\n",
        "name: b\nsteps:\n  w: { wait: { event: host.up, since: 5m } }\n",
        "name: c\nsteps:\n  w: { wait: { event: host.gone, key: h1 } }\n",
    ]);
    let now = UtcMs(stage.now);
    let wanted = |stage: &Stage, kind: &str, subject: &str| {
        stage.partition.wants(&event(kind, "1", subject, Value::Null), UtcMs(stage.now))
    };
    assert!(wanted(&stage, "scan.done", "x"), "a trigger is for it");
    assert!(wanted(&stage, "host.up", "x"), "a wait to come may look back to it");
    assert!(!wanted(&stage, "host.gone", "h1"), "nobody waits for it yet");
    assert!(!wanted(&stage, "other", "x"));
    let pins = stage.partition.pins("c").unwrap();
    let start = Start {
        run: RunId::derived("c"),
        workflow: "c".into(),
        version: pins["c"].clone(),
        pins: Arc::new(pins),
        inputs: json!({}),
        parent: None,
        key: None,
        labels: BTreeMap::new(),
        seed: 0,
    };
    stage.say(Event::RunStarted(Arc::new(start))).unwrap();
    assert!(wanted(&stage, "host.gone", "h1") && !wanted(&stage, "host.gone", "h2"));
    stage.restart();
    assert!(wanted(&stage, "scan.done", "x") && wanted(&stage, "host.up", "x") && wanted(&stage, "host.gone", "h1"));
    stage.receive(event("scan.done", "1", "x", Value::Null)).unwrap();
    assert!(!wanted(&stage, "scan.done", "x"), "it came already");
    assert!(stage.partition.has_seen(&event("scan.done", "1", "x", Value::Null), now));
    stage.register("name: a\nsteps:\n  s: { set: 1 }\n");
    stage.now += 86_400_000;
    assert!(!wanted(&stage, "scan.done", "x"), "the latest version has no such trigger");
}
