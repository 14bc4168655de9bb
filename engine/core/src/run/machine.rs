//! The entry of the machine: one event, one run, one definition.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::{Cause, Phase, Run, StepRun};
use crate::effect::Effect;
use crate::record::{End, Event, Start};
use crate::{Definition, Failure, FailureClass, Leg, RunId, StepName, UtcMs};

/// What one record did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The work that is owed now and was not before.
    pub effects: Vec<Effect>,
    /// What changed, for those who watch.
    pub facts: Vec<Fact>,
}

/// A change worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Of which run.
    pub run: RunId,
    /// What.
    pub kind: FactKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// The run as a whole; the name of its phase.
    Phase(&'static str),
    /// A step; the name of its status.
    Step(StepName, &'static str),
    /// The way back of a step; the name of its state.
    Undo(StepName, &'static str),
    /// An instant of a schedule that starts nothing; its `run` is none that exists.
    Missed {
        /// The workflow.
        workflow: Arc<str>,
        /// The instant.
        nominal: UtcMs,
        /// Why.
        why: &'static str,
    },
}

/// Why a record changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It says what is known already, or comes too late to matter.
    #[error("nothing to do: {0}")]
    Stale(&'static str),
    /// It asks for what cannot be done in this state.
    #[error("{0}")]
    Illegal(String),
}

/// One run while a record is folded into it.
pub(super) struct Machine<'a> {
    pub run: &'a mut Run,
    pub definition: &'a Definition,
    pub now: UtcMs,
    pub applied: Applied,
    /// Steps that settled in this record and whose dependents were not looked at yet.
    pub settled: VecDeque<usize>,
    /// Whether this record may have taken back what it owed a moment before.
    pub retracted: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(run: &'a mut Run, definition: &'a Definition, now: UtcMs) -> Self {
        Self { run, definition, now, applied: Applied::default(), settled: VecDeque::new(), retracted: false }
    }

    /// Follows the record to its end; what it owes is what is still owed then.
    pub(super) fn close(mut self) -> Applied {
        self.follow();
        if self.retracted && !self.applied.effects.is_empty() {
            let owed = super::pending::pending(self.run, self.definition);
            self.applied.effects.retain(|effect| owed.contains_key(&effect.key()));
        }
        self.applied
    }
}

/// Begins a run; inputs that do not fit, and what went wrong before (`flaw`), make one that has failed.
pub(crate) fn begin(start: &Arc<Start>, definition: &Definition, flaw: Option<Failure>, now: UtcMs) -> (Run, Applied) {
    let misfit = |reasons: Vec<String>| permanent("E0301", format!("the inputs do not fit: {}", reasons.join("; ")));
    let (inputs, wrong) = match (definition.accept(&start.inputs), flaw) {
        (Ok(inputs), flaw) => (inputs, flaw),
        (Err(_), Some(flaw)) => (Value::Null, Some(flaw)),
        (Err(reasons), None) => (Value::Null, Some(misfit(reasons))),
    };
    let mut run = Run {
        start: Arc::clone(start),
        started: now,
        ended: None,
        phase: Phase::Running,
        inputs,
        cause: None,
        steps: vec![StepRun { since: now, ..StepRun::default() }; definition.steps.len()],
        signals: Vec::new(),
        signal_ids: Vec::new(),
        output: Value::Null,
        endings: 0,
        informed: 0,
        seq: 0,
    };
    let mut machine = Machine::new(&mut run, definition, now);
    machine.tell(FactKind::Phase("running"));
    match wrong {
        Some(failure) => {
            machine.doom(Cause { step: None, failure, cancelled: false, compensate: false });
        }
        None => machine.set_off(),
    }
    let applied = machine.close();
    (run, applied)
}

/// Folds one event about `run` into it.
///
/// # Errors
/// [`Refusal`]; the run is then as it was.
pub fn apply(run: &mut Run, definition: &Definition, event: &Event, now: UtcMs) -> Result<Applied, Refusal> {
    if matches!(run.phase, Phase::Quarantined { .. }) {
        return Err(Refusal::Illegal("the run is quarantined".into()));
    }
    let mut machine = Machine::new(run, definition, now);
    match event {
        Event::AttemptFinished { task, outcome } => match task.leg {
            Leg::Forward => machine.attempt_finished(task, outcome),
            Leg::Undo => machine.undo_finished(task, outcome),
        },
        Event::TimerFired { timer } => machine.timer_fired(&timer.kind),
        Event::SignalReceived { name, payload, id, .. } => machine.signal(name, payload, id.as_ref()),
        Event::ChildStarted { link, child } => machine.child_started(link, *child),
        Event::ChildEnded { link, report } => machine.child_ended(link, report),
        Event::ParentInformed { ending, .. } => machine.parent_informed(*ending),
        Event::CancelRequested { compensate, reason, .. } => machine.cancel(*compensate, reason),
        Event::UnwindRequested { failure, .. } => machine.take_back(failure),
        Event::UndoResolved { step, item, how, .. } => machine.resolve(step, *item, how),
        Event::RetryRequested { .. } => machine.retry(),
        _ => Err(Refusal::Illegal("this is not about a run in progress".into())),
    }?;
    Ok(machine.close())
}

pub(super) fn permanent(code: &str, message: String) -> Failure {
    Failure { code: code.into(), class: FailureClass::Permanent, message, details: Value::Null }
}

impl Machine<'_> {
    pub fn owe(&mut self, effect: Effect) {
        self.applied.effects.push(effect);
    }

    pub fn tell(&mut self, kind: FactKind) {
        let run = self.run.id();
        self.applied.facts.push(Fact { run, kind });
    }

    pub fn set_phase(&mut self, phase: Phase) {
        if self.run.phase != phase {
            self.tell(FactKind::Phase(phase.name()));
            self.run.phase = phase;
        }
    }

    pub fn end(&mut self, end: End) {
        self.retracted = true;
        self.set_phase(Phase::Ended(end));
        self.run.ended = Some(self.now);
        self.run.endings += 1;
        if end != End::Succeeded {
            self.run.output = Value::Null;
        }
        if let Some(effect) = super::pending::inform(self.run, self.definition) {
            self.owe(effect);
        }
    }

    fn parent_informed(&mut self, ending: u32) -> Result<(), Refusal> {
        if ending <= self.run.informed || ending > self.run.endings {
            return Err(Refusal::Stale("the parent knows"));
        }
        self.run.informed = ending;
        Ok(())
    }

    /// The position of a step by name.
    pub fn step(&self, name: &StepName) -> Result<usize, Refusal> {
        self.definition
            .position(name.as_str())
            .ok_or_else(|| Refusal::Illegal(format!("`{}` has no step `{name}`", self.definition.name)))
    }
}
