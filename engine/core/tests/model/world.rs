//! One state of a model: the partition, the clock, the orders that were given, and what an onlooker has seen happen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use patchloom_core::record::{Entry, Event, Report, Resolution, Start};
use patchloom_core::run::{Applied, Phase, Refusal, Run, Status};
use patchloom_core::{
    Definition, Effect, EffectKey, Leg, Millis, OpenSpan, Outcome, Partition, RunId, StepName, TaskKey, UtcMs,
};
use serde_json::json;
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
    /// Something happens outside that no step needs to wait for.
    Happen,
    /// Change how many items of a step of the root go at once.
    Tune,
    /// Have the root go on as the other version of its workflow.
    Migrate,
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
    /// How many events came from outside.
    pub events: u32,
    /// Which of the model's orders were given.
    pub given: Vec<bool>,
    pub ledger: Ledger,
}

/// What an onlooker has seen, who knows nothing of the state: the measure of what the machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub run: RunId,
    pub step: StepName,
    pub item: u32,
}

/// The attempts on one place, by leg: the highest that went out, the highest that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    pub out: Attempts,
    pub back: Attempts,
    pub mark: Mark,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    pub forward: u32,
    pub undo: u32,
}

/// What is left on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

impl Hash for Told {
    fn hash<H: Hasher>(&self, _: &mut H) {
        // Its child and ending stand beside it: they say all that differs.
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
            Event::AttemptFinished { task, outcome, .. } if accepted => {
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
            events: 0,
            given: vec![false; model.orders.len()],
            ledger: Ledger::default(),
        };
        let mut name: Arc<str> = "".into();
        for text in model.texts {
            let definition = Definition::parse("model", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            name = Arc::clone(&definition.name);
            world.say(machine, &Event::DefinitionRegistered { text: definition.canonical }).unwrap();
        }
        if model.texts.iter().any(|text| text.contains("window:")) {
            world.say(machine, &nights(world.now)).unwrap();
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
        self.events += u32::from(matches!(event, Event::EventReceived { .. }) && applied.is_ok());
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
}

/// More nights than any model needs, of an hour each: the calendar of the models that have a window.
fn nights(now: UtcMs) -> Event {
    const HOUR: u64 = 3_600_000;
    let span = |open: u64| {
        let close = UtcMs(now.0 + (open + 1) * HOUR);
        OpenSpan { open: UtcMs(now.0 + open * HOUR), close, last_start: close }
    };
    let spans = Arc::new((0..8).map(|day| span(1 + 24 * day)).collect());
    Event::CalendarSet { name: "night".into(), rules: None, spans, until: UtcMs(now.0 + 8 * 24 * HOUR) }
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
