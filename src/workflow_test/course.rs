//! The course of a run: what its records say, folded once more, step by step and in the order in which it happened.

use std::sync::Arc;

use patchloom_core::record::{Batch, Entry, Event};
use patchloom_core::run::{FactKind, Run, Status, Undo};
use patchloom_core::{Definition, Effect, Failure, Leg, Millis, Outcome, Partition, RunId, StepName, UtcMs};
use patchloom_engine::sim::{Played, Rest};
use serde_json::Value;

use super::model::Mocks;
use super::place::{Place, Segment, Spot};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When, from the start.
    pub after: Millis,
    /// What.
    pub what: Happened,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A task went out, or a child run began.
    Sent {
        /// The step.
        spot: Spot,
        /// Its task type; the name of a child workflow.
        uses: String,
        /// Whether it is a child run that is really run.
        child: bool,
        /// Which attempt.
        attempt: u32,
        /// What it was given.
        input: Value,
    },
    /// A task came back.
    Back {
        /// The step.
        spot: Spot,
        /// With what.
        outcome: Outcome,
    },
    /// A child run told that it ended.
    Ended {
        /// The step.
        spot: Spot,
    },
    /// A step changed.
    Step {
        /// Which.
        spot: Spot,
        /// The name of its status, or of the state of its way back.
        status: &'static str,
        /// Why it failed, where it did.
        failure: Option<Failure>,
    },
    /// A wave of a step changed.
    Wave {
        /// The step.
        spot: Spot,
        /// Which.
        number: u32,
        /// What it does.
        what: &'static str,
    },
    /// A run changed.
    Phase {
        /// The step that started it; none for the root.
        path: Vec<Segment>,
        /// The name of its phase.
        phase: &'static str,
    },
    /// Somebody said something.
    Said {
        /// Which of the case's orders.
        order: usize,
        /// Why it changed nothing, where it did not.
        refused: Option<String>,
    },
}

/// A played case.
#[derive(Clone, Debug)]
pub struct Course {
    /// In order.
    pub moments: Vec<Moment>,
    /// How things stand at the end.
    pub end: Partition,
    /// The run.
    pub root: RunId,
    /// How the play came to its end.
    pub rest: Rest,
    begun: UtcMs,
    base: Arc<Partition>,
    records: Vec<(u64, Batch)>,
}

impl Course {
    /// Folds what was played.
    #[must_use]
    pub fn of(base: &Arc<Partition>, played: Played, root: RunId, mocks: &Mocks) -> Self {
        let begun = played.records.first().map_or(UtcMs(0), |(_, batch)| batch.at);
        let mut course = Self {
            moments: Vec::new(),
            end: Partition::default(),
            root,
            rest: played.rest,
            begun,
            base: Arc::clone(base),
            records: played.records,
        };
        let mut state = Partition::clone(base);
        let records = std::mem::take(&mut course.records);
        for (seq, batch) in &records {
            let after = batch.at.since(begun);
            for entry in &batch.entries {
                course.fold(&mut state, (*seq, batch.at), entry, |what| Moment { after, what }, mocks);
            }
        }
        course.records = records;
        course.end = state;
        course
    }

    fn fold(
        &mut self,
        state: &mut Partition,
        (seq, at): (u64, UtcMs),
        entry: &Entry,
        moment: impl Fn(Happened) -> Moment,
        mocks: &Mocks,
    ) {
        let applied = state.apply(seq, at, entry);
        let order = entry.by.strip_prefix("test:").and_then(|order| order.parse().ok());
        let looking = Looking { state, root: self.root };
        let mut tell = |what| self.moments.push(moment(what));
        if let Some(order) = order {
            tell(Happened::Said { order, refused: applied.as_ref().err().map(ToString::to_string) });
        }
        let Ok(applied) = applied else { return };
        match &entry.event {
            Event::AttemptFinished { task, outcome, .. } => {
                let (spot, _) = looking.spot(mocks, task.run, &task.step, task.item, task.leg);
                tell(Happened::Back { spot, outcome: outcome.clone() });
            }
            Event::ChildEnded { link, report } if !looking.stands_in(mocks, report.child) => {
                let leg = if report.ending > 1 { Leg::Undo } else { Leg::Forward };
                let (spot, _) = looking.spot(mocks, link.run, &link.step, link.item, leg);
                tell(Happened::Ended { spot });
            }
            _ => {}
        }
        for fact in applied.facts.into_iter().filter(|fact| !looking.stands_in(mocks, fact.run)) {
            match fact.kind {
                FactKind::Phase(phase) => tell(Happened::Phase { path: looking.path(fact.run), phase }),
                FactKind::Step(step, status) => {
                    let spot = looking.step(fact.run, &step, Leg::Forward);
                    tell(Happened::Step { spot, status, failure: looking.failure(fact.run, &step) });
                }
                // A schedule is no part of a run.
                FactKind::Missed { .. } => {}
                // Its tasks are scripts.
                FactKind::Told { .. } => {}
                FactKind::Wave(step, number, what) => {
                    let spot = looking.step(fact.run, &step, Leg::Forward);
                    tell(Happened::Wave { spot, number, what });
                }
                FactKind::Undo(step, status) => {
                    let spot = looking.step(fact.run, &step, Leg::Undo);
                    tell(Happened::Step { spot, status, failure: None });
                }
            }
        }
        for effect in applied.effects {
            match effect {
                Effect::Dispatch(task) => {
                    let key = task.key;
                    let (spot, child) = looking.spot(mocks, key.run, &key.step, key.item, key.leg);
                    let uses = child.map_or(task.uses, |name| format!("workflow {name}"));
                    tell(Happened::Sent { spot, uses, child: false, attempt: key.attempt, input: task.input });
                }
                Effect::StartChild(start) if !mocks.mocks(&start.workflow) => {
                    let Some(link) = &start.parent else { continue };
                    let (spot, _) = looking.spot(mocks, link.run, &link.step, link.item, Leg::Forward);
                    let (uses, input) = (format!("workflow {}", start.workflow), start.inputs.clone());
                    tell(Happened::Sent { spot, uses, child: true, attempt: link.attempt, input });
                }
                _ => {}
            }
        }
    }

    /// How things stand after all that happened up to an instant, and at it.
    #[must_use]
    pub fn at(&self, after: Millis) -> Partition {
        let mut state = Partition::clone(&self.base);
        for (seq, batch) in self.records.iter().take_while(|(_, batch)| batch.at.since(self.begun) <= after) {
            for entry in &batch.entries {
                // What was refused then is refused now.
                let _ = state.apply(*seq, batch.at, entry);
            }
        }
        state
    }

    /// The root run at the end.
    #[must_use]
    pub fn run(&self) -> Option<&Arc<Run>> {
        self.end.run(self.root)
    }

    /// How long the run took; up to the last thing that happened, where it is not over.
    #[must_use]
    pub fn took(&self) -> Millis {
        let last = || self.records.last().map_or(Millis(0), |(_, batch)| batch.at.since(self.begun));
        self.run().and_then(|run| run.ended).map_or_else(last, |ended| ended.since(self.begun))
    }
}

/// Looks at the runs of a state by the steps that started them.
pub(super) struct Looking<'a> {
    pub state: &'a Partition,
    pub root: RunId,
}

impl Looking<'_> {
    fn stands_in(&self, mocks: &Mocks, run: RunId) -> bool {
        self.state.run(run).is_some_and(|run| run.start.parent.is_some() && mocks.mocks(&run.start.workflow))
    }

    /// Where an item of a step is, and the workflow that its run stands in for: then it is the step that started it.
    pub fn spot(&self, mocks: &Mocks, run: RunId, step: &StepName, item: u32, leg: Leg) -> (Spot, Option<String>) {
        let mut path = self.path(run);
        let Some(at) = self.state.run(run) else { return (Spot { leg, path }, None) };
        if self.stands_in(mocks, run) {
            return (Spot { leg, path }, Some(at.start.workflow.to_string()));
        }
        path.push(self.segment(at, step, item));
        (Spot { leg, path }, None)
    }

    fn segment(&self, run: &Run, step: &StepName, item: u32) -> Segment {
        let definition = self.state.definition(&run.start.version);
        let fans = definition.is_some_and(|definition| {
            definition.position(step.as_str()).is_some_and(|at| definition.steps[at].for_each.is_some())
        });
        Segment { step: step.clone(), item: fans.then_some(item) }
    }

    /// A step as a whole.
    fn step(&self, run: RunId, step: &StepName, leg: Leg) -> Spot {
        let mut path = self.path(run);
        path.push(Segment { step: step.clone(), item: None });
        Spot { leg, path }
    }

    /// The steps from the root down that started a run.
    fn path(&self, run: RunId) -> Vec<Segment> {
        let mut path = Vec::new();
        let mut at = self.state.run(run);
        while let Some(link) = at.and_then(|run| run.start.parent.as_ref()) {
            at = self.state.run(link.run);
            path.extend(at.map(|parent| self.segment(parent, &link.step, link.item)));
        }
        path.reverse();
        path
    }

    fn failure(&self, run: RunId, step: &StepName) -> Option<Failure> {
        let run = self.state.run(run)?;
        let at = self.state.definition(&run.start.version)?.position(step.as_str())?;
        match &run.steps[at].status {
            Status::Failed(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// The steps that a place means, each with its run and definition: one, or one per child run.
    pub fn steps(&self, place: &Place) -> Vec<(Arc<Run>, Arc<Definition>, usize)> {
        let Some((last, above)) = place.path.split_last() else { return Vec::new() };
        let found = runs(self, above).into_iter().filter_map(|run| {
            let definition = Arc::clone(self.state.definition(&run.start.version)?);
            let at = definition.position(last.step.as_str())?;
            Some((run, definition, at))
        });
        found.collect()
    }

    /// The statuses of the steps that a place means.
    pub fn statuses(&self, place: &Place) -> Vec<&'static str> {
        self.steps(place).iter().map(|found| status_in(found, place)).collect()
    }

    /// The first run in which the step that a place means has this status.
    pub fn run_in(&self, place: &Place, status: &str) -> Option<Arc<Run>> {
        let mut found = self.steps(place).into_iter();
        found.find(|found| status_in(found, place) == status).map(|(run, ..)| run)
    }
}

fn status_in((run, definition, at): &(Arc<Run>, Arc<Definition>, usize), place: &Place) -> &'static str {
    let state = &run.steps[*at];
    match (place.leg, place.path.last().and_then(|segment| segment.item)) {
        (Leg::Undo, _) => state.undo.name(),
        (Leg::Forward, Some(item)) if definition.steps[*at].for_each.is_some() => item_status(run, *at, item),
        (Leg::Forward, _) => state.status.name(),
    }
}

/// The status of one item.
fn item_status(run: &Run, at: usize, item: u32) -> &'static str {
    let state = &run.steps[at];
    let Some(work) = &state.work else { return state.status.name() };
    match work.live.get(&item) {
        Some(_) => "active",
        None if work.failed.contains_key(&item) => "failed",
        None if item >= work.next || work.fresh.contains(&item) => "pending",
        None if work.rested.contains(&item) => "halted",
        None => "done",
    }
}

/// The runs that a path of steps leads to, the latest of each item.
pub(super) fn runs(looking: &Looking<'_>, path: &[Segment]) -> Vec<Arc<Run>> {
    let mut found: Vec<Arc<Run>> = looking.state.run(looking.root).cloned().into_iter().collect();
    for segment in path {
        found = found.iter().flat_map(|run| children(looking.state, run, segment)).collect();
    }
    found
}

fn children(state: &Partition, run: &Run, segment: &Segment) -> Vec<Arc<Run>> {
    let position = state.definition(&run.start.version).and_then(|found| found.position(segment.step.as_str()));
    let Some(work) = position.and_then(|at| run.steps[at].work.as_ref()) else { return Vec::new() };
    let items = (0..work.count).filter(|item| segment.item.is_none_or(|wanted| wanted == *item));
    items
        .filter_map(|item| {
            let latest = (1..=work.highest).rev().map(|attempt| run.id().child(&segment.step, item, attempt));
            latest.filter_map(|child| state.run(child).cloned()).next()
        })
        .collect()
}

/// The failure that a way back ended with, where it did.
pub(super) fn undo_failure(run: &Run, at: usize, item: u32) -> Option<Failure> {
    match &run.steps[at].undo {
        Undo::Failed(undo) => undo.failed.get(&item).or_else(|| undo.failed.values().next()).cloned(),
        _ => None,
    }
}
