//! What people, parents and clocks ask of a run.

use std::sync::Arc;

use super::machine::{Machine, Refusal, permanent};
use super::unwind::revocable;
use super::{Cause, Phase, Status, Undo};
use crate::record::{End, Resolution, TimerKind};
use crate::{Failure, StepName, TaskKey};

impl Machine<'_> {
    /// A timer came due.
    pub fn timer_fired(&mut self, kind: &TimerKind) -> Result<(), Refusal> {
        let stale = Err(Refusal::Stale("nothing waits for this timer".into()));
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
            TimerKind::Opens { step, .. } => {
                let at = self.step(step)?;
                if self.open_by_clock(at) { Ok(()) } else { stale }
            }
            TimerKind::Wave { step, wave, gate } => self.wave_timer(step, *wave, *gate),
            TimerKind::Debounce => stale,
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

    /// Somebody wants it to stop.
    pub fn cancel(&mut self, compensate: bool, reason: &Arc<str>) -> Result<(), Refusal> {
        match self.run.phase {
            Phase::Running | Phase::Queued { .. } => {
                let failure = permanent("E0316", format!("cancelled: {reason}"));
                self.doom(Cause { step: None, failure, cancelled: true, compensate });
                Ok(())
            }
            // A compensation is not stopped by a cancel: half undone is worse than either.
            Phase::Halting | Phase::Compensating | Phase::CompensationFailed => {
                Err(Refusal::Stale("the run is on its way back already".into()))
            }
            Phase::Closing { .. } => Err(Refusal::Stale("only what stands under `finally` is left of the run".into())),
            Phase::Ended(_) if self.run.start.parent.is_some() => {
                Err(Refusal::Stale("the child run ended meanwhile".into()))
            }
            Phase::Ended(_) | Phase::Quarantined { .. } => {
                Err(Refusal::Illegal(format!("the run is {} already", self.run.phase.name())))
            }
        }
    }

    /// The parent of a run that succeeded takes it back.
    pub fn take_back(&mut self, failure: &Failure) -> Result<(), Refusal> {
        if self.run.phase != Phase::Ended(End::Succeeded) {
            return Err(Refusal::Stale("the run is on its way back, or did not succeed".into()));
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
}
