//! An onlooker who sees every record and holds the machine to what must never happen. It keeps its own books: what the
//! state says of itself is measured against what was seen.
//!
//! Looks only at what a record touched, so that worlds with many runs can afford it after every one.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::record::{Entry, Event};
use patchloom_core::run::{Applied, At, FactKind, Live, Phase, Run, Status, Undo};
use patchloom_core::{Effect, KEY_KEPT, Leg, Partition, RunId, StepName, TaskKey, UtcMs};

use super::limits::{self, Holdings, Rates};
use super::sources::Sources;

const ENDS: [&str; 4] = ["succeeded", "failed", "compensated", "cancelled"];

/// What was seen so far.
#[derive(Clone, Default)]
pub struct Watch {
    /// What went out on the way forward.
    forward: BTreeSet<(RunId, StepName, u32)>,
    dispatched: BTreeSet<TaskKey>,
    /// The tasks whose outcome was accepted.
    pub accepted: BTreeSet<TaskKey>,
    /// The runs that began.
    begun: BTreeSet<RunId>,
    /// The runs that are over.
    pub over: BTreeSet<RunId>,
    /// The keys by which runs began, and when.
    keys: BTreeMap<String, UtcMs>,
    rates: Rates,
    holdings: Holdings,
    sources: Sources,
}

impl Watch {
    /// Looks at the state before a record is folded in.
    pub fn before(&mut self, state: &Partition, entry: &Entry) {
        self.sources.before(state, &entry.event);
    }

    /// Looks at what a record that was accepted made of the state.
    pub fn record(&mut self, state: &Partition, (now, entry): (UtcMs, &Entry), applied: &Applied) {
        // What a run owed when it was set aside is owed again: nothing of that is new.
        let again = matches!(entry.event, Event::ReleaseRequested { .. });
        self.note(&entry.event, now);
        self.check_ends(applied);
        self.check_dispatches(state, &applied.effects, again);
        if !again {
            limits::check_sent(state, &applied.effects, now, &format!("{entry:?}"));
            self.rates.check(state, &applied.effects, now);
        }
        self.sources.record(state, (now, &entry.event), &applied.effects);
        let mut touched: BTreeSet<RunId> = applied.touched.iter().copied().collect();
        touched.extend(entry.event.run());
        touched.extend(applied.facts.iter().map(|fact| fact.run));
        self.holdings.follow(state, &touched);
        self.holdings.check(state);
        for run in touched.iter().filter_map(|run| state.run(*run)) {
            check_run(state, run, now);
        }
    }

    fn note(&mut self, event: &Event, now: UtcMs) {
        match event {
            Event::AttemptFinished { task, .. } => {
                assert!(self.accepted.insert(task.clone()), "{task} has two outcomes");
            }
            // One whose key was known is settled, and no run of its own begins.
            Event::RunStarted(start) if self.begun.insert(start.run) => {
                if let Some(key) = &start.key {
                    let former = self.keys.insert(key.to_string(), now);
                    let free = former.is_none_or(|former| now.since(former) >= KEY_KEPT);
                    assert!(free, "a second run began with the key `{key}`");
                }
            }
            Event::RetryRequested { run } | Event::RerunRequested { run, .. } | Event::UnwindRequested { run, .. } => {
                self.over.remove(run);
            }
            _ => {}
        }
    }

    /// A run ends once, until somebody opens it again.
    fn check_ends(&mut self, applied: &Applied) {
        for fact in &applied.facts {
            let FactKind::Phase(phase) = fact.kind else { continue };
            if ENDS.contains(&phase) {
                assert!(self.over.insert(fact.run), "{} ends once more, as {phase}", fact.run);
            } else {
                assert!(!self.over.contains(&fact.run), "{} is over and becomes {phase}", fact.run);
            }
        }
    }

    fn check_dispatches(&mut self, state: &Partition, effects: &[Effect], again: bool) {
        for effect in effects {
            match effect {
                Effect::Dispatch(task) => {
                    assert!(!self.accepted.contains(&task.key), "{} goes out after its outcome", task.key);
                    assert!(self.dispatched.insert(task.key.clone()) || again, "{} goes out twice", task.key);
                    let place = (task.key.run, task.key.step.clone(), task.key.item);
                    match task.key.leg {
                        Leg::Forward => {
                            self.forward.insert(place);
                        }
                        Leg::Undo => {
                            assert!(self.forward.contains(&place), "{} is undone but never started", task.key);
                            check_undo(state, &task.key);
                        }
                    }
                }
                Effect::UnwindChild { child, task, .. } => {
                    assert!(self.begun.contains(child), "{child} is taken back but never began");
                    check_undo(state, task);
                }
                Effect::Cancel(_)
                | Effect::Emit { .. }
                | Effect::Timer(..)
                | Effect::StartChild(_)
                | Effect::CancelChild { .. }
                | Effect::InformParent { .. } => {}
            }
        }
    }
}

/// What is undone comes behind all that stands after it in the graph, and never past a point of no return.
fn check_undo(state: &Partition, key: &TaskKey) {
    let run = state.run(key.run).unwrap();
    let definition = state.definition(&run.start.version).unwrap();
    let at = definition.position(key.step.as_str()).unwrap();
    for (behind, step) in definition.steps.iter().enumerate() {
        let state = &run.steps[behind];
        assert!(step.finally || state.status.is_settled(), "{key} is undone while `{}` still moves", step.name);
        if definition.upstream[behind].contains(at) {
            assert!(state.undo.is_settled(), "{key} is undone before `{}` behind it", step.name);
        }
        assert!(!(step.pivot && matches!(state.status, Status::Done { .. })), "{key} is undone past the pivot");
    }
}

/// A run that is open has a reason to wake, and can say what it waits for.
pub fn check_run(state: &Partition, run: &Run, now: UtcMs) {
    let definition = state.definition(&run.start.version).unwrap();
    assert!(will_wake(state, run), "nothing will ever wake {}: {run:#?}", run.id());
    assert!(!patchloom_core::run::why(run, definition, now).is_empty(), "nobody can say what {} waits for", run.id());
}

/// The watchdog: an open run has work out, or waits for a signal, an event, a child or an operator.
fn will_wake(state: &Partition, run: &Run) -> bool {
    let definition = state.definition(&run.start.version).unwrap();
    let child = |live: &Live| matches!(live.at, At::Child { .. });
    let waits = || {
        run.steps.iter().any(|step| {
            matches!(step.status, Status::Waiting { .. } | Status::Held { .. })
                || step.work.as_ref().is_some_and(|work| work.live.values().any(child))
                || matches!(&step.undo, Undo::Active(undo) if undo.live.values().any(child))
        })
    };
    let owes = || {
        let pending = patchloom_core::run::pending(run, definition);
        pending.values().any(|effect| match effect {
            Effect::Dispatch(_) | Effect::Cancel(_) | Effect::Emit { .. } | Effect::Timer(..) => true,
            Effect::StartChild(_)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => false,
        })
    };
    match run.phase {
        Phase::Ended(_) | Phase::CompensationFailed | Phase::Quarantined { .. } => true,
        // A place: the books of the shared limits look after those in line.
        Phase::Queued { .. } => true,
        Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {
            let moves = |at: usize| limits::will_move(state, run, &definition.steps[at], at);
            run.paused.is_some() || waits() || (0..run.steps.len()).any(moves) || owes()
        }
    }
}
