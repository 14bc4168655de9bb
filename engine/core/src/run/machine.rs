//! The entry of the machine: one event, one run, one definition.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cause, Fact, FactKind, Phase, Run, StepRun, scope};
use crate::definition::OnFull;
use crate::effect::Effect;
use crate::record::{End, Event, Start};
use crate::shared::{Shared, Waiter};
use crate::{Definition, Failure, FailureClass, Leg, Millis, RunId, StepName, TaskKey, Told, UtcMs};

/// What one record did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The work that is owed now and was not before.
    pub effects: Vec<Effect>,
    /// What changed, for those who watch.
    pub facts: Vec<Fact>,
    /// Other runs that changed because this one did: they got a place that came free, or made room.
    pub touched: Vec<RunId>,
}

/// Why a record changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It says what is known already, or comes too late to matter.
    #[error("nothing to do: {0}")]
    Stale(Cow<'static, str>),
    /// It asks for what cannot be done in this state.
    #[error("{0}")]
    Illegal(String),
}

/// One run while a record is folded into it.
pub(super) struct Machine<'a> {
    pub run: &'a mut Run,
    pub definition: &'a Definition,
    pub shared: &'a mut Shared,
    pub now: UtcMs,
    pub applied: Applied,
    /// Steps that settled in this record and whose dependents were not looked at yet.
    pub settled: VecDeque<usize>,
    /// Whether this record may have taken back what it owed a moment before.
    pub retracted: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(run: &'a mut Run, definition: &'a Definition, shared: &'a mut Shared, now: UtcMs) -> Self {
        let applied = Applied::default();
        Self { run, definition, shared, now, applied, settled: VecDeque::new(), retracted: false }
    }

    /// Follows the record to its end; what it owes is what is still owed then.
    pub(super) fn close(mut self) -> Applied {
        self.follow();
        if self.retracted && !self.applied.effects.is_empty() {
            let (run, definition) = (&*self.run, self.definition);
            // What a fan-out sends is looked up one by one: all that it owes may be a hundred thousand times as much.
            let mut owed = None;
            self.applied.effects.retain(|effect| {
                super::pending::is_out(run, definition, effect).unwrap_or_else(|| {
                    let owed = owed.get_or_insert_with(|| super::pending::pending(run, definition));
                    owed.contains_key(&effect.key())
                })
            });
        }
        self.applied
    }
}

/// Begins a run; inputs that do not fit, and what went wrong before (`flaw`), make one that has failed.
pub(crate) fn begin(
    start: &Arc<Start>,
    definition: &Definition,
    shared: &mut Shared,
    (flaw, now): (Option<Failure>, UtcMs),
) -> (Run, Applied) {
    let misfit = |reasons: Vec<String>| permanent("E0301", format!("the inputs do not fit: {}", reasons.join("; ")));
    let (inputs, start, wrong) = match (definition.accept(&start.inputs), flaw) {
        (_, Some(flaw)) => (Value::Null, Arc::clone(start), Some(flaw)),
        (Ok(inputs), None) => (inputs, Arc::new(start.without_inputs()), None),
        (Err(reasons), None) => (Value::Null, Arc::clone(start), Some(misfit(reasons))),
    };
    let mut run = Run {
        start,
        started: now,
        ended: None,
        phase: Phase::Running,
        inputs: Arc::new(inputs),
        cause: None,
        steps: vec![StepRun { since: now, ..StepRun::default() }; definition.steps.len()],
        signals: Vec::new(),
        signal_ids: Vec::new(),
        paused: None,
        beyond: false,
        undone_below: false,
        place: None,
        rested: Millis(0),
        output: Value::Null,
        endings: 0,
        informed: 0,
        seq: 0,
    };
    let mut machine = Machine::new(&mut run, definition, shared, now);
    machine.tell(FactKind::Phase("running"));
    match wrong {
        Some(failure) => machine.doom(Cause { step: None, failure, cancelled: false, compensate: false }),
        None => machine.enter(),
    }
    let applied = machine.close();
    (run, applied)
}

/// Folds one event about `run`, said by `by`, into it.
///
/// # Errors
/// [`Refusal`]; the run is then as it was.
pub fn apply(
    run: &mut Run,
    definition: &Definition,
    shared: &mut Shared,
    (event, by, now): (&Event, &Arc<str>, UtcMs),
) -> Result<Applied, Refusal> {
    if matches!(run.phase, Phase::Quarantined { .. }) && !matches!(event, Event::ReleaseRequested { .. }) {
        return Err(Refusal::Illegal("the run is quarantined: release it first".into()));
    }
    let mut machine = Machine::new(run, definition, shared, now);
    match event {
        Event::AttemptFinished { task, outcome, tell } => match task.leg {
            Leg::Forward => machine.attempt_finished(task, outcome),
            Leg::Undo => machine.undo_finished(task, outcome),
        }
        .map(|()| machine.pass_on(task, tell)),
        Event::EventEmitted { task } => machine.emitted(task),
        Event::TimerFired { timer } => machine.timer_fired(&timer.kind),
        Event::SignalReceived { name, payload, id, roles, .. } => machine.signal(
            super::Signal {
                name: Arc::clone(name),
                payload: payload.clone(),
                by: Arc::clone(by),
                roles: roles.clone(),
            },
            id.as_ref(),
        ),
        Event::ChildStarted { link, child } => machine.child_started(link, *child),
        Event::ChildEnded { link, report } => machine.child_ended(link, report),
        Event::ParentInformed { ending, .. } => machine.parent_informed(*ending),
        Event::CancelRequested { compensate, reason, .. } => machine.cancel(*compensate, reason),
        Event::UnwindRequested { failure, .. } => machine.take_back(failure),
        Event::UndoResolved { step, item, how, .. } => machine.resolve(step, *item, how),
        Event::RetryRequested { .. } => machine.retry(),
        Event::PauseRequested { what, reason, .. } => machine.pause(what, reason),
        Event::ResumeRequested { what, .. } => machine.resume(what),
        Event::Tuned { step, tune, .. } => machine.tune(step, tune),
        Event::StepDecided { step, how, .. } => machine.decide(step, how),
        Event::RerunRequested { from, inputs, .. } => machine.rerun(from, inputs),
        Event::QuarantineRequested { reason, .. } => machine.set_aside(reason),
        Event::ReleaseRequested { .. } => machine.let_go_on(),
        Event::DefinitionRegistered { .. }
        | Event::RunStarted(_)
        | Event::RunRetired { .. }
        | Event::RunRecalled { .. }
        | Event::Migrated { .. }
        | Event::EventReceived { .. }
        | Event::CalendarSet { .. }
        | Event::ScheduleArmed { .. }
        | Event::ScheduleDue { .. } => Err(Refusal::Illegal("this is not about a run in progress".into())),
    }?;
    Ok(machine.close())
}

/// Tells a run that a place in `group` may be free, or that a calendar changed, for a step or for all of it.
pub(crate) fn nudge(
    run: &mut Run,
    definition: &Definition,
    shared: &mut Shared,
    (step, group, now): (Option<&StepName>, Option<&Arc<str>>, UtcMs),
) -> Applied {
    let mut machine = Machine::new(run, definition, shared, now);
    match (step, group) {
        (None, _) => machine.enter_again(),
        (Some(step), Some(group)) => machine.offer(step, group),
        (Some(step), None) => machine.calendar_changed(step),
    }
    machine.close()
}

/// Looks at every step anew: the run goes by another version now.
pub(crate) fn look(run: &mut Run, definition: &Definition, shared: &mut Shared, now: UtcMs) -> Applied {
    let mut machine = Machine::new(run, definition, shared, now);
    for at in 0..definition.steps.len() {
        machine.consider(at);
    }
    machine.close()
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

    /// What a result tells that counts: it became true before what the result leads to.
    fn pass_on(&mut self, task: &TaskKey, tell: &[Told]) {
        let run = self.run.id();
        let fact = |told: &Told| {
            let kind = FactKind::Told { step: task.step.clone(), item: task.item, told: Box::new(told.clone()) };
            Fact { run, kind }
        };
        self.applied.facts.splice(0..0, tell.iter().map(fact));
    }

    pub fn set_phase(&mut self, phase: Phase) {
        if self.run.phase != phase {
            self.tell(FactKind::Phase(phase.name()));
            self.run.phase = phase;
        }
    }

    pub fn waiter(&self, at: usize) -> Waiter {
        Waiter { run: self.run.id(), step: Some(self.definition.steps[at].name.clone()) }
    }

    /// Sets off, where the concurrency group of its workflow has a place.
    pub fn enter(&mut self) {
        let Some(concurrency) = &self.definition.concurrency else { return self.set_off() };
        let group = match scope::text(self.run, self.definition, &concurrency.group, Vec::new()) {
            Ok(group) => group,
            Err(failure) => {
                return self.doom(Cause { step: None, failure, cancelled: false, compensate: false });
            }
        };
        if self.shared.take(&group, concurrency.limit) {
            return self.take_place(group);
        }
        let waiter = Waiter { run: self.run.id(), step: None };
        match concurrency.on_full {
            OnFull::Reject => {
                let message =
                    format!("the concurrency group `{group}` has no place: {} run already", concurrency.limit);
                let failure = permanent("E0319", message);
                return self.doom(Cause { step: None, failure, cancelled: false, compensate: false });
            }
            OnFull::Queue => {}
            OnFull::Replace => self.shared.replace_oldest(&group, self.run.id()),
        }
        self.shared.stand_in_line(&group, concurrency.limit, self.definition.priority, waiter);
        self.set_phase(Phase::Queued { group });
    }

    fn take_place(&mut self, group: Arc<str>) {
        self.shared.note_run(&group, self.run.id());
        self.run.place = Some(group);
        self.set_off();
    }

    /// Its turn in the line may have come.
    pub fn enter_again(&mut self) {
        let Phase::Queued { group } = self.run.phase.clone() else { return };
        let Some(concurrency) = &self.definition.concurrency else { return };
        if self.shared.take(&group, concurrency.limit) {
            // Where it is paused in line, the rest from then on counts when it is resumed.
            let until = self.run.paused.as_ref().map_or(self.now, |hold| hold.since);
            self.run.rested = until.since(self.run.started);
            self.set_phase(Phase::Running);
            self.take_place(group);
        } else {
            let waiter = Waiter { run: self.run.id(), step: None };
            self.shared.stand_in_line(&group, concurrency.limit, self.definition.priority, waiter);
        }
    }

    /// All is said and done; what stands under `finally` comes first.
    pub fn end(&mut self, end: End) {
        if end != End::Succeeded {
            self.run.output = Value::Null;
        }
        let closing = matches!(self.run.phase, Phase::Closing { .. });
        // A run whose inputs never fitted has nothing that its last steps could speak of.
        if !closing && self.definition.steps.iter().any(|step| step.finally) && !self.run.inputs.is_null() {
            self.retracted = true;
            for at in 0..self.run.steps.len() {
                if self.definition.steps[at].finally {
                    self.begin_anew(at);
                }
            }
            self.set_phase(Phase::Closing { end });
            for at in 0..self.run.steps.len() {
                self.consider(at);
            }
            return;
        }
        self.retracted = true;
        self.set_phase(Phase::Ended(end));
        self.run.ended = Some(self.now);
        self.run.endings += 1;
        if let Some(group) = self.run.place.take() {
            self.shared.give_back_run(&group, self.run.id());
        }
        if let Some(effect) = super::pending::inform(self.run, self.definition) {
            self.owe(effect);
        }
    }

    fn parent_informed(&mut self, ending: u32) -> Result<(), Refusal> {
        if ending <= self.run.informed || ending > self.run.endings {
            return Err(Refusal::Stale("the parent knows".into()));
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
