//! One state of a model: the partition, the clock, the orders that were given, and what an onlooker has seen happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{Entry, Event, Report, Resolution, Start, TimerKind};
use patchloom_core::run::{Applied, Phase, Refusal, Run, Status};
use patchloom_core::{Definition, Effect, EffectKey, Leg, Millis, Outcome, Partition, RunId, StepName, TaskKey, UtcMs};
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
    /// Pause a run. Whoever pauses may resume at any time.
    Pause,
    /// Pause a step.
    PauseStep,
    /// Pause the item `x` of a step that fans out.
    PauseItem,
    /// Have a step that failed and waits for a decision tried again.
    Decide,
    /// Set a run aside. It may be released at any time.
    Quarantine,
    /// Have the failed items of a step of the root go again, and all behind it.
    RerunItems,
    /// Start a second run of the same workflow.
    Start,
}

/// What folds an entry in: the real partition, or one with a fault planted in it.
pub type Machine = fn(&mut Partition, u64, UtcMs, &Entry) -> Result<Applied, Refusal>;

pub const ROOT: RunId = RunId(Uuid::from_u128(7));
/// The run of [`Order::Start`].
pub const SECOND: RunId = RunId(Uuid::from_u128(8));

#[derive(Clone)]
pub struct World {
    pub partition: Partition,
    pub owed: BTreeMap<EffectKey, Effect>,
    pub now: UtcMs,
    /// When the last event happened.
    pub last: UtcMs,
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
    /// How often the steps under `finally` went out since their run last ended.
    pub last_steps: BTreeMap<(RunId, StepName), u32>,
    /// How long each run with a limit has run, without its pauses and without its time in line.
    pub spent: BTreeMap<RunId, Millis>,
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

    fn note(&mut self, event: &Event, answer: &Result<Applied, Refusal>) {
        let accepted = answer.is_ok();
        match event {
            Event::AttemptFinished { task, outcome } if accepted => {
                let trace = self.places.entry(Place::of(task)).or_default();
                trace.back.raise(task.leg, task.attempt);
                if task.leg == Leg::Undo && matches!(outcome, Outcome::Succeeded { .. }) {
                    trace.mark = Mark::Clean;
                }
            }
            Event::EventEmitted { task } if accepted => {
                self.places.entry(Place::of(task)).or_default().back.raise(task.leg, task.attempt);
            }
            Event::UndoResolved { run, step, item, how: Resolution::Resolved { .. } } if accepted => {
                let place = Place { run: *run, step: step.clone(), item: *item };
                self.places.entry(place).or_default().mark = Mark::Clean;
            }
            // A parent that is quarantined has not heard it.
            Event::ChildEnded { link, report } if !matches!(answer, Err(Refusal::Illegal(_))) => {
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

    /// `span` has passed since the last event.
    fn note_time(&mut self, partition: &Partition, span: Millis) {
        for run in partition.runs() {
            let counts = match &run.phase {
                Phase::Running => true,
                Phase::Quarantined { was, .. } => was.as_deref() == Some(&Phase::Running),
                _ => false,
            };
            let definition = partition.definition(&run.start.version).expect("its version is known");
            if counts && run.paused.is_none() && definition.timeout.is_some() && span.0 > 0 {
                self.spent.entry(run.id()).or_default().0 += span.0;
            }
        }
    }

    fn note_last_steps(&mut self, task: &TaskKey, partition: &Partition) {
        let run = partition.run(task.run).expect("it is known");
        let definition = partition.definition(&run.start.version).expect("its version is known");
        let at = definition.position(task.step.as_str()).expect("the step is known");
        if definition.steps[at].finally {
            *self.last_steps.entry((task.run, task.step.clone())).or_default() += 1;
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
            last: UtcMs(1_000_000),
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
        let start = start(&world.partition, &name, ROOT);
        world.say(machine, &Event::RunStarted(Arc::new(start))).unwrap();
        world
    }

    /// Folds an event in, and has the onlooker see it.
    pub fn say(&mut self, machine: Machine, event: &Event) -> Result<Applied, Refusal> {
        self.seq += 1;
        let ended: BTreeMap<RunId, u32> = self.partition.runs().map(|run| (run.id(), run.endings)).collect();
        self.ledger.note_time(&self.partition, self.now.since(self.last));
        self.last = self.now;
        let applied = machine(&mut self.partition, self.seq, self.now, &entry(event));
        let owed = self.partition.pending();
        self.ledger.note(event, &applied);
        for (key, effect) in &owed {
            let task = match effect {
                Effect::Dispatch(task) => &task.key,
                Effect::Emit { task, .. } => task,
                Effect::Cancel(_)
                | Effect::Timer(..)
                | Effect::StartChild(_)
                | Effect::CancelChild { .. }
                | Effect::UnwindChild { .. }
                | Effect::InformParent { .. } => continue,
            };
            // What a run that was set aside owed is owed again once it is released: that is no new attempt.
            let known = self.ledger.places.get(&Place::of(task)).map_or(0, |trace| trace.out.of(task.leg));
            if !self.owed.contains_key(key) && task.attempt > known {
                self.ledger.note_sent(task);
                self.ledger.note_last_steps(task, &self.partition);
            }
        }
        self.ledger.note_pivots(&self.partition);
        // Counted anew from each ending on; what went out by then is looked at on the edge.
        let over = |run: &RunId| {
            self.partition.run(*run).is_some_and(|now| ended.get(run).copied().unwrap_or(0) < now.endings)
        };
        self.ledger.last_steps.retain(|(run, _), _| !over(run));
        let open = |run: &RunId| {
            let phase = self.partition.run(*run).map(|run| &run.phase);
            matches!(phase, Some(Phase::Running | Phase::Quarantined { .. }))
        };
        self.ledger.spent.retain(|run, _| open(run));
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
            hash.update(format!("{:?}", self.left(run)));
        }
        for (key, row) in
            self.partition.rows().filter(|(key, _)| SHARED.contains(&key.split('/').next().unwrap_or(key)))
        {
            let mut value = serde_json::from_slice(&row).expect("a row is JSON");
            strip_shared(&mut value, self.now);
            hash.update(format!("{key}{value}"));
        }
        // Derived from the runs, so nothing new: it guards against a `strip` that takes too much.
        let owed = self.owed.iter().map(|(key, effect)| match effect {
            Effect::Timer(timer, due) => match &timer.kind {
                // Its key tells the instant, which matters only by how far away it is.
                TimerKind::Opens { step, .. } => (format!("{} {step} opens", timer.run), Some(due.since(self.now))),
                _ => (format!("{key:?}"), Some(due.since(self.now))),
            },
            Effect::Dispatch(_)
            | Effect::Cancel(_)
            | Effect::Emit { .. }
            | Effect::StartChild(_)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => (format!("{key:?}"), None),
        });
        hash.update(format!("{:?}{:?}{:?}", owed.collect::<Vec<_>>(), self.given, self.ledger));
        hash.finalize().into()
    }

    /// How long the limits of a run and of its steps still ran when they stopped to count: while it is paused they owe
    /// no timer, and while it lies aside nothing does.
    fn left(&self, run: &Run) -> Vec<i128> {
        let aside = matches!(run.phase, Phase::Quarantined { .. });
        let stopped = match (&run.paused, aside) {
            (Some(hold), _) => hold.since,
            (None, true) => self.now,
            (None, false) => return Vec::new(),
        };
        let definition = self.definition(run);
        let spent = |since: UtcMs| i128::from(stopped.0) - i128::from(since.0);
        let whole = definition.timeout.map(|_| spent(run.started) - i128::from(run.rested.0));
        let steps = definition.steps.iter().zip(&run.steps);
        let active = steps.filter(|(step, state)| step.total.is_some() && matches!(state.status, Status::Active));
        whole.into_iter().chain(active.map(|(_, state)| spent(state.since))).collect()
    }
}

/// How a run of the workflow `name` begins.
pub fn start(partition: &Partition, name: &Arc<str>, run: RunId) -> Start {
    let pins = partition.pins(name).expect("it is registered");
    Start {
        run,
        workflow: Arc::clone(name),
        version: pins[name].clone(),
        pins: Arc::new(pins),
        inputs: json!({}),
        parent: None,
        key: None,
        labels: BTreeMap::new(),
        seed: 1,
    }
}

/// Signals come from whom their id says, all else from one and the same.
pub fn entry(event: &Event) -> Entry {
    let by = match event {
        Event::SignalReceived { id: Some(id), .. } => id.split('-').next().unwrap_or(id).into(),
        _ => "model".into(),
    };
    Entry { by, event: event.clone() }
}

/// The kinds of rows that runs share: calendars, groups, rates.
const SHARED: [&str; 3] = ["c", "g", "q"];

fn strip(value: &mut Value, now: UtcMs) {
    match value {
        Value::Object(map) => {
            if map.contains_key("class") && map.contains_key("message") {
                *value = "a failure".into();
                return;
            }
            map.remove("start");
            map.retain(|key, value| {
                !(["started", "ended", "since", "seq", "rested"].contains(&key.as_str()) && value.is_number())
            });
            for instant in ["due", "until"] {
                if let Some(at) = map.get(instant).and_then(Value::as_u64) {
                    map.insert(instant.into(), left(at, now));
                }
            }
            if let Some(Value::Object(timed)) = map.get_mut("timed") {
                timed.values_mut().for_each(|value| *value = left(value.as_u64().unwrap_or_default(), now));
            }
            map.values_mut().for_each(|value| strip(value, now));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, now)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn left(at: u64, now: UtcMs) -> Value {
    json!(UtcMs(at).since(now).0)
}

/// Of a line only the order matters, not the numbers that were drawn; of a rate, how far it runs ahead.
fn strip_shared(value: &mut Value, now: UtcMs) {
    if let Value::Number(micros) = value {
        *value = json!(micros.as_u64().unwrap_or_default().saturating_sub(now.0 * 1_000));
        return;
    }
    let Value::Object(map) = value else { return };
    map.remove("turn");
    if let Some(Value::Array(line)) = map.get_mut("line") {
        for place in line.iter_mut().filter_map(Value::as_array_mut) {
            place.remove(1);
        }
    }
    // No model has a calendar; one that does counts by the clock.
    if map.contains_key("spans") {
        map.insert("now".into(), json!(now.0));
    }
}
