//! One state of a model: the partition, the clock, the orders that were given, and what an onlooker has seen happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{Entry, Event, Report, Resolution, Start};
use patchloom_core::run::{Applied, Refusal, Run, Status};
use patchloom_core::{Definition, Effect, EffectKey, Leg, Outcome, Partition, RunId, StepName, TaskKey, UtcMs};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A small workflow and what people may do to its runs.
pub struct Model {
    /// The definitions; the last one is what runs.
    pub texts: &'static [&'static str],
    /// Each may be given once, at any time.
    pub orders: &'static [Order],
}

/// What people do without being asked. Where a run cannot go on without them, they come in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Cancel a run, with or without compensation: the root or a child.
    Cancel,
    /// Have the root tried again after it failed.
    Retry,
    /// Have one failed compensation tried again.
    Operate,
    /// Have all failed compensations of a run tried again.
    OperateAll,
    /// Send a signal that no step waits for yet.
    Signal,
}

/// What folds an entry in: the real partition, or one with a fault planted in it.
pub type Machine = fn(&mut Partition, u64, UtcMs, &Entry) -> Result<Applied, Refusal>;

pub const ROOT: RunId = RunId(Uuid::from_u128(7));

#[derive(Clone)]
pub struct World {
    pub partition: Partition,
    pub owed: BTreeMap<EffectKey, Effect>,
    pub now: UtcMs,
    pub seq: u64,
    /// Which of the model's orders were given.
    pub given: Vec<bool>,
    pub ledger: Ledger,
}

/// What an onlooker has seen, who knows nothing of the state: the measure of what the machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What became of each item of each step.
    pub places: BTreeMap<Place, Trace>,
    /// The reports that parents have heard.
    pub told: BTreeMap<(RunId, u32), Told>,
    /// The runs whose point of no return came through.
    pub beyond: BTreeSet<RunId>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub run: RunId,
    pub step: StepName,
    pub item: u32,
}

/// The attempts on one place, by leg: the highest that went out, the highest that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub out: Attempts,
    pub back: Attempts,
    pub mark: Mark,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    pub forward: u32,
    pub undo: u32,
}

/// What is left on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// Work went out: it may have changed something.
    #[default]
    Touched,
    /// A compensation went out.
    Undoing,
    /// A compensation came through, or a person took over.
    Clean,
}

/// A report, kept to be repeated later.
#[derive(Clone, PartialEq)]
pub struct Told(pub Event);

impl Eq for Told {}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its child and ending stand beside it: they say all that differs.
        f.write_str("told")
    }
}

impl Attempts {
    pub fn of(&self, leg: Leg) -> u32 {
        match leg {
            Leg::Forward => self.forward,
            Leg::Undo => self.undo,
        }
    }

    fn raise(&mut self, leg: Leg, attempt: u32) {
        let highest = match leg {
            Leg::Forward => &mut self.forward,
            Leg::Undo => &mut self.undo,
        };
        *highest = attempt.max(*highest);
    }
}

impl Place {
    pub fn of(task: &TaskKey) -> Self {
        Self { run: task.run, step: task.step.clone(), item: task.item }
    }
}

impl Ledger {
    pub fn told(link: &patchloom_core::record::Parent, report: &Report) -> ((RunId, u32), Told) {
        let event = Event::ChildEnded { link: link.clone(), report: Box::new(report.clone()) };
        ((report.child, report.ending), Told(event))
    }

    fn note(&mut self, event: &Event, accepted: bool) {
        match event {
            Event::AttemptFinished { task, outcome } if accepted => {
                let trace = self.places.entry(Place::of(task)).or_default();
                trace.back.raise(task.leg, task.attempt);
                if task.leg == Leg::Undo && matches!(outcome, Outcome::Succeeded { .. }) {
                    trace.mark = Mark::Clean;
                }
            }
            Event::UndoResolved { run, step, item, how: Resolution::Resolved { .. } } if accepted => {
                let place = Place { run: *run, step: step.clone(), item: *item };
                self.places.entry(place).or_default().mark = Mark::Clean;
            }
            Event::ChildEnded { link, report } => {
                let (key, told) = Self::told(link, report);
                self.told.insert(key, told);
            }
            _ => {}
        }
    }

    fn note_sent(&mut self, task: &TaskKey) {
        let trace = self.places.entry(Place::of(task)).or_default();
        trace.out.raise(task.leg, task.attempt);
        trace.mark = match task.leg {
            Leg::Forward => Mark::Touched,
            Leg::Undo => Mark::Undoing,
        };
    }

    fn note_pivots(&mut self, partition: &Partition) {
        for run in partition.runs() {
            let steps = &partition.definition(&run.start.version).expect("its version is known").steps;
            let through = steps.iter().zip(&run.steps);
            if through.into_iter().any(|(step, state)| step.pivot && matches!(state.status, Status::Done { .. })) {
                self.beyond.insert(run.id());
            }
        }
    }
}

impl World {
    /// The definitions are registered, the run has begun.
    pub fn begin(model: &Model, machine: Machine) -> Self {
        let mut world = Self {
            partition: Partition::default(),
            owed: BTreeMap::new(),
            now: UtcMs(1_000_000),
            seq: 0,
            given: vec![false; model.orders.len()],
            ledger: Ledger::default(),
        };
        let mut name: Arc<str> = "".into();
        for text in model.texts {
            let definition = Definition::parse("model", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            name = Arc::clone(&definition.name);
            world.say(machine, &Event::DefinitionRegistered { text: definition.canonical }).unwrap();
        }
        let pins = world.partition.pins(&name).unwrap();
        let start = Start {
            run: ROOT,
            workflow: Arc::clone(&name),
            version: pins[&name].clone(),
            pins: Arc::new(pins),
            inputs: json!({}),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: 1,
        };
        world.say(machine, &Event::RunStarted(Arc::new(start))).unwrap();
        world
    }

    /// Folds an event in, and has the onlooker see it.
    pub fn say(&mut self, machine: Machine, event: &Event) -> Result<Applied, Refusal> {
        self.seq += 1;
        let applied = machine(&mut self.partition, self.seq, self.now, &entry(event));
        let owed = self.partition.pending();
        self.ledger.note(event, applied.is_ok());
        for (key, effect) in &owed {
            if let (Effect::Dispatch(task), false) = (effect, self.owed.contains_key(key)) {
                self.ledger.note_sent(&task.key);
            }
        }
        self.ledger.note_pivots(&self.partition);
        self.owed = owed;
        applied
    }

    pub fn definition(&self, run: &Run) -> &Arc<Definition> {
        self.partition.definition(&run.start.version).expect("its version is known")
    }

    pub fn root(&self) -> &Arc<Run> {
        self.partition.run(ROOT).expect("the root run stays")
    }

    /// Whether all is over and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.owed.is_empty() && self.partition.runs().all(|run| run.end().is_some())
    }

    /// Two worlds with the same key go on alike: all that matters, and no more. When something happened does not
    /// matter, only how long a timer still runs; nor does what a failure says, since no model's workflow reads it.
    pub fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for run in self.partition.runs() {
            let mut value = serde_json::to_value(run.as_ref()).expect("a run is JSON");
            strip(&mut value, self.now);
            hash.update(run.id().0.as_bytes());
            hash.update(value.to_string());
        }
        // Derived from the runs, so nothing new: it guards against a `strip` that takes too much.
        let owed = self.owed.iter().map(|(key, effect)| match effect {
            Effect::Timer(_, due) => (key, Some(due.since(self.now))),
            Effect::Dispatch(_)
            | Effect::Cancel(_)
            | Effect::StartChild(_)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => (key, None),
        });
        hash.update(format!("{:?}{:?}{:?}", owed.collect::<Vec<_>>(), self.given, self.ledger));
        hash.finalize().into()
    }
}

pub fn entry(event: &Event) -> Entry {
    Entry { by: "model".into(), event: event.clone() }
}

fn strip(value: &mut Value, now: UtcMs) {
    match value {
        Value::Object(map) => {
            if map.contains_key("class") && map.contains_key("message") {
                *value = "a failure".into();
                return;
            }
            map.remove("start");
            map.retain(|key, value| {
                !(["started", "ended", "since", "seq"].contains(&key.as_str()) && value.is_number())
            });
            for instant in ["due", "until"] {
                if let Some(at) = map.get(instant).and_then(Value::as_u64) {
                    map.insert(instant.into(), json!(UtcMs(at).since(now).0));
                }
            }
            map.values_mut().for_each(|value| strip(value, now));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, now)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
