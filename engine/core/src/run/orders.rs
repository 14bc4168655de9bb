//! What people, parents and clocks ask of a run.

use std::sync::Arc;

use serde_json::Value;

use super::machine::{FactKind, Machine, Refusal, permanent};
use super::unwind::revocable;
use super::{Cause, Phase, SIGNALS_MAX, Signal, Skip, Status, StepRun, Undo};
use crate::definition::{Action, Wait};
use crate::record::{End, Resolution, TimerKind};
use crate::{Failure, StepName, TaskKey};

impl Machine<'_> {
    /// A timer came due.
    pub fn timer_fired(&mut self, kind: &TimerKind) -> Result<(), Refusal> {
        let stale = Err(Refusal::Stale("nothing waits for this timer"));
        match kind {
            TimerKind::Backoff { step, item, leg, attempt } => {
                let (run, step) = (self.run.id(), step.clone());
                self.backoff_over(&TaskKey { run, step, item: *item, attempt: *attempt, leg: *leg })
            }
            TimerKind::Wait { step } => {
                let at = self.step(step)?;
                match self.run.steps[at].status {
                    Status::Waiting { due: Some(due) } if due <= self.now => self.wait_over(at),
                    _ => return stale,
                }
                Ok(())
            }
            TimerKind::StepTotal { step } => {
                let at = self.step(step)?;
                let over =
                    super::pending::step_timer(self.run, self.definition, at).is_some_and(|(_, due)| due <= self.now);
                let total = self.definition.steps[at].total.unwrap_or_default();
                let Some(work) = self.run.steps[at].work.as_mut().filter(|_| over) else { return stale };
                let message = format!("the step took longer than {total} in all");
                work.verdict = Some(permanent("E0314", message));
                self.stop(at);
                self.progress(at);
                Ok(())
            }
            TimerKind::Opens { .. } | TimerKind::Wave { .. } | TimerKind::Debounce => stale,
            TimerKind::RunTimeout => {
                let over = super::pending::run_timer(self.run, self.definition).is_some_and(|(_, due)| due <= self.now);
                if !over {
                    return stale;
                }
                let limit = self.definition.timeout.unwrap_or_default();
                let failure = permanent("E0313", format!("the run took longer than {limit}"));
                self.doom(Cause { step: None, failure, cancelled: false, compensate: true });
                Ok(())
            }
        }
    }

    fn wait_over(&mut self, at: usize) {
        match &self.definition.steps[at].action {
            Action::Wait(Wait::Signal(wait)) => {
                let (name, waited) = (&wait.name, wait.timeout.unwrap_or_default());
                self.fail(at, permanent("E0311", format!("no signal `{name}` came within {waited}")));
            }
            Action::Wait(Wait::Event(wait)) => self.event_wait_over(at, wait),
            _ => {
                self.complete(at, Value::Null);
            }
        }
    }

    /// A named message: to the step that waits for it, or kept for one that will.
    pub fn signal(&mut self, name: &Arc<str>, payload: &Value, id: Option<&Arc<str>>) -> Result<(), Refusal> {
        if id.is_some_and(|id| self.run.signal_ids.contains(id)) {
            return Err(Refusal::Stale("this signal was received before"));
        }
        // While it halts, a step with `always()` may still wait for one.
        if !matches!(self.run.phase, Phase::Running | Phase::Halting) {
            let message = format!("the run is {}: it takes no signals any more", self.run.phase.name());
            return Err(Refusal::Illegal(message));
        }
        let waits = |at: &usize| {
            matches!(self.run.steps[*at].status, Status::Waiting { .. })
                && matches!(&self.definition.steps[*at].action, Action::Wait(Wait::Signal(wait)) if wait.name == *name)
        };
        let waiting = (0..self.run.steps.len()).find(waits);
        if waiting.is_none() && self.run.signals.len() >= SIGNALS_MAX {
            return Err(Refusal::Illegal(format!("{SIGNALS_MAX} signals lie unread already")));
        }
        if let Some(id) = id {
            self.run.signal_ids.push(Arc::clone(id));
            if self.run.signal_ids.len() > SIGNALS_MAX {
                self.run.signal_ids.remove(0);
            }
        }
        match waiting {
            Some(at) => self.complete(at, payload.clone()),
            None => self.run.signals.push(Signal { name: Arc::clone(name), payload: payload.clone() }),
        }
        Ok(())
    }

    /// Somebody wants it to stop.
    pub fn cancel(&mut self, compensate: bool, reason: &Arc<str>) -> Result<(), Refusal> {
        match self.run.phase {
            Phase::Running => {
                let failure = permanent("E0316", format!("cancelled: {reason}"));
                self.doom(Cause { step: None, failure, cancelled: true, compensate });
                Ok(())
            }
            // A compensation is not stopped by a cancel: half undone is worse than either.
            Phase::Halting | Phase::Compensating | Phase::CompensationFailed => {
                Err(Refusal::Stale("the run is on its way back already"))
            }
            Phase::Ended(_) | Phase::Quarantined { .. } => {
                Err(Refusal::Illegal(format!("the run is {} already", self.run.phase.name())))
            }
        }
    }

    /// The parent of a run that succeeded takes it back.
    pub fn take_back(&mut self, failure: &Failure) -> Result<(), Refusal> {
        if self.run.phase != Phase::Ended(End::Succeeded) {
            return Err(Refusal::Stale("the run is on its way back, or did not succeed"));
        }
        if !revocable(self.run, self.definition) {
            return Err(Refusal::Illegal(
                "there is nothing to take back, or the point of no return is behind it".into(),
            ));
        }
        self.run.cause = Some(Cause { step: None, failure: failure.clone(), cancelled: false, compensate: true });
        self.run.ended = None;
        self.begin_unwind();
        Ok(())
    }

    /// An operator decides on a compensation that failed.
    pub fn resolve(&mut self, step: &StepName, item: u32, how: &Resolution) -> Result<(), Refusal> {
        let at = self.step(step)?;
        match &self.run.steps[at].undo {
            Undo::Failed(undo) if undo.failed.contains_key(&item) => {}
            _ => return Err(Refusal::Illegal(format!("no compensation of `{step}` item {item} has failed"))),
        }
        match how {
            Resolution::Retry => self.undo_again(at, &[item]),
            Resolution::Resolved { note } => self.undo_resolved(at, item, note),
        }
        Ok(())
    }

    /// Tries again: the compensations that failed, or all that a failed run did not keep.
    pub fn retry(&mut self) -> Result<(), Refusal> {
        match self.run.phase {
            Phase::CompensationFailed => {
                for at in 0..self.run.steps.len() {
                    if let Undo::Failed(undo) = &self.run.steps[at].undo {
                        let items: Vec<u32> = undo.failed.keys().copied().collect();
                        self.undo_again(at, &items);
                    }
                }
                Ok(())
            }
            Phase::Ended(End::Failed | End::Compensated | End::Cancelled) if self.run.start.parent.is_some() => {
                Err(Refusal::Illegal("this is a child run: retry its parent".into()))
            }
            Phase::Ended(End::Failed | End::Compensated | End::Cancelled) => {
                self.reopen();
                Ok(())
            }
            Phase::Ended(End::Succeeded) => {
                Err(Refusal::Illegal("the run succeeded: there is nothing to retry".into()))
            }
            Phase::Running | Phase::Halting | Phase::Compensating | Phase::Quarantined { .. } => {
                let message = format!(
                    "the run is {}: only a run that ended, or whose compensation failed, is retried",
                    self.run.phase.name()
                );
                Err(Refusal::Illegal(message))
            }
        }
    }

    /// Steps that hold keep their output; the others, and all behind them, begin anew under new attempt numbers.
    fn reopen(&mut self) {
        let mut anew = vec![false; self.run.steps.len()];
        for at in 0..anew.len() {
            let holds = match &self.run.steps[at].status {
                Status::Done { late, .. } => !late && self.run.steps[at].undo == Undo::NotNeeded,
                Status::Skipped(Skip::Condition) => true,
                Status::Pending
                | Status::Active
                | Status::Waiting { .. }
                | Status::Skipped(_)
                | Status::Failed(_)
                | Status::Halted => false,
            };
            anew[at] = !holds || self.definition.steps[at].needs.iter().any(|need| anew[*need]);
        }
        self.run.cause = None;
        self.run.ended = None;
        // The run's own limit counts from here: it is a new try.
        self.run.started = self.now;
        self.set_phase(Phase::Running);
        for at in (0..anew.len()).filter(|at| anew[*at]) {
            let step = &self.run.steps[at];
            let base = step.work.as_ref().map_or(step.base, |work| step.base.max(work.highest));
            let undo_base = step.undo_base;
            self.run.steps[at] = StepRun { base, undo_base, since: self.now, ..StepRun::default() };
            self.tell(FactKind::Step(self.definition.steps[at].name.clone(), "pending"));
        }
        self.set_off();
    }
}
