//! The way forward: steps become ready, settle, and move those behind them.

use serde_json::Value;

use super::FactKind;
use super::machine::{Machine, permanent};
use super::{Cause, Phase, Skip, Status, pending, scope};
use crate::Failure;
use crate::definition::{Action, OnFailure};
use crate::effect::Effect;
use crate::record::End;

impl Machine<'_> {
    /// Starts what needs nothing; the run's own limit begins.
    pub fn set_off(&mut self) {
        if let Some((timer, due)) = pending::run_timer(self.run, self.definition) {
            self.owe(Effect::Timer(timer, due));
        }
        for at in 0..self.definition.steps.len() {
            // In a run that goes again, the items of a step may stand in line already.
            self.move_on(at);
        }
    }

    pub(super) fn set_status(&mut self, at: usize, status: Status) {
        self.tell(FactKind::Step(self.definition.steps[at].name.clone(), status.name()));
        self.run.steps[at].status = status;
        self.run.steps[at].since = self.now;
    }

    /// Whether steps like the one at `at` may move in this phase, and nobody holds it back.
    pub(super) fn is_free(&self, at: usize) -> bool {
        let phase = match self.run.phase {
            Phase::Running | Phase::Halting => !self.definition.steps[at].finally,
            Phase::Closing { .. } => self.definition.steps[at].finally,
            Phase::Queued { .. }
            | Phase::Compensating
            | Phase::CompensationFailed
            | Phase::Quarantined { .. }
            | Phase::Ended(_) => false,
        };
        phase && self.run.paused.is_none() && self.run.steps[at].holds.iter().all(|hold| hold.when.is_some())
    }

    /// Whether the failure of the step at `at` is one for those behind it.
    fn failed(&self, at: usize) -> bool {
        match self.run.steps[at].status {
            Status::Failed(_) => self.definition.steps[at].on_failure != OnFailure::Continue,
            Status::Halted => true,
            Status::Pending
            | Status::Active
            | Status::Waiting { .. }
            | Status::Held { .. }
            | Status::Done { .. }
            | Status::Skipped(_) => false,
        }
    }

    /// Looks at a step that has not started: is it its turn?
    pub(super) fn consider(&mut self, at: usize) {
        let step = &self.definition.steps[at];
        let ready = matches!(self.run.steps[at].status, Status::Pending)
            && step.needs.iter().all(|need| self.run.steps[*need].status.is_settled());
        if !ready || !self.is_free(at) {
            return;
        }
        let failed = if step.finally {
            step.needs.iter().any(|need| self.failed(*need))
        } else {
            self.definition.upstream[at].iter().any(|up| self.failed(up))
        };
        if !step.runs_after_failure() {
            if self.run.phase == Phase::Halting {
                return self.skip(at, Skip::Halted);
            }
            if failed {
                return self.skip(at, Skip::Upstream);
            }
        }
        let runs = match &step.condition {
            None => Ok(true),
            Some(condition) => scope::condition(self.run, self.definition, condition, failed),
        };
        match runs {
            Ok(true) => self.activate(at),
            Ok(false) => self.skip(at, Skip::Condition),
            Err(error) => self.fail(at, permanent("E0205", error.to_string())),
        }
    }

    fn skip(&mut self, at: usize, why: Skip) {
        self.set_status(at, Status::Skipped(why));
        self.settle(at);
    }

    fn activate(&mut self, at: usize) {
        let definition = self.definition;
        match &definition.steps[at].action {
            Action::Set(value) => match scope::eval(self.run, definition, value, Vec::new()) {
                Ok(output) => self.done(at, output),
                Err(error) => self.fail(at, permanent("E0205", error.to_string())),
            },
            Action::Fail(message) => {
                let failure = match scope::eval(self.run, definition, message, Vec::new()) {
                    Ok(Value::String(message)) => permanent("E0310", message),
                    Ok(other) => permanent("E0310", other.to_string()),
                    Err(error) => permanent("E0205", error.to_string()),
                };
                self.fail(at, failure);
            }
            Action::Wait(wait) => self.begin_wait(at, wait),
            Action::Task { .. } | Action::Workflow { .. } | Action::Steps(_) | Action::Emit(_) => self.begin_work(at),
        }
    }

    /// A step did what it should; `result` may still be reshaped.
    pub(super) fn complete(&mut self, at: usize, result: Value) {
        let step = &self.definition.steps[at];
        // The output of a sub-DAG was put together inside it.
        let reshape = step.output.as_ref().filter(|_| !matches!(step.action, Action::Steps(_)));
        match reshape {
            None => self.done(at, result),
            Some(output) => match scope::eval(self.run, self.definition, output, vec![("result", result)]) {
                Ok(output) => self.done(at, output),
                Err(error) => self.fail(at, permanent("E0205", error.to_string())),
            },
        }
    }

    fn done(&mut self, at: usize, output: Value) {
        let late = !matches!(self.run.phase, Phase::Running | Phase::Closing { .. });
        self.run.beyond |= self.definition.steps[at].pivot;
        self.set_status(at, Status::Done { output, late });
        self.settle(at);
    }

    pub(super) fn fail(&mut self, at: usize, failure: Failure) {
        if self.definition.steps[at].on_failure == OnFailure::Pause && self.run.phase == Phase::Running {
            return self.set_status(at, Status::Held { failure });
        }
        self.set_status(at, Status::Failed(failure));
        self.settle(at);
    }

    /// A step will not move any more; who waits for it is looked at once this is done.
    pub(super) fn settle(&mut self, at: usize) {
        self.settled.push_back(at);
    }

    /// Follows what has settled until nothing moves. A queue, not recursion: a thousand steps in a row may settle
    /// in one record.
    pub(super) fn follow(&mut self) {
        loop {
            while let Some(at) = self.settled.pop_front() {
                self.doom_if_uncaught(at);
                for dependent in &self.definition.dependents[at] {
                    self.consider(*dependent);
                }
            }
            self.check_end();
            if self.settled.is_empty() {
                return;
            }
        }
    }

    fn doom_if_uncaught(&mut self, at: usize) {
        let suspicious = match &self.run.steps[at].status {
            Status::Failed(_) => true,
            Status::Skipped(_) | Status::Halted => self.definition.steps[at].catches(),
            Status::Pending | Status::Active | Status::Waiting { .. } | Status::Held { .. } | Status::Done { .. } => {
                false
            }
        };
        if suspicious
            && self.run.phase == Phase::Running
            && let Some(failed) = self.uncaught()
            && let Status::Failed(failure) = &self.run.steps[failed].status
        {
            let (step, failure) = (Some(self.definition.steps[failed].name.clone()), failure.clone());
            self.doom(Cause { step, failure, cancelled: false, compensate: true });
        }
    }

    /// The first failed step that no step behind it takes upon itself.
    fn uncaught(&self) -> Option<usize> {
        let failed = (0..self.run.steps.len()).filter(|at| {
            matches!(self.run.steps[*at].status, Status::Failed(_))
                && self.definition.steps[*at].on_failure != OnFailure::Continue
        });
        failed.into_iter().find(|at| {
            !self.definition.dependents[*at].iter().any(|behind| {
                let hopeful = match self.run.steps[*behind].status {
                    Status::Pending
                    | Status::Active
                    | Status::Waiting { .. }
                    | Status::Held { .. }
                    | Status::Done { .. } => true,
                    Status::Skipped(_) | Status::Failed(_) | Status::Halted => false,
                };
                hopeful && self.definition.steps[*behind].catches()
            })
        })
    }

    /// The run cannot succeed any more: everything that is out is called back.
    pub(super) fn doom(&mut self, cause: Cause) {
        if !matches!(self.run.phase, Phase::Running | Phase::Queued { .. }) {
            return;
        }
        self.retracted = true;
        self.run.cause = Some(cause);
        self.set_phase(Phase::Halting);
        let ordinary = |machine: &Self, at: usize| !machine.definition.steps[at].finally;
        for at in 0..self.run.steps.len() {
            match &self.run.steps[at].status {
                Status::Pending if !self.definition.steps[at].runs_after_failure() && ordinary(self, at) => {
                    self.set_status(at, Status::Skipped(Skip::Halted));
                }
                Status::Waiting { .. } => self.set_status(at, Status::Halted),
                Status::Held { failure } => {
                    let failure = failure.clone();
                    self.set_status(at, Status::Failed(failure));
                }
                Status::Active => self.stop(at),
                Status::Pending | Status::Done { .. } | Status::Skipped(_) | Status::Failed(_) | Status::Halted => {}
            }
        }
        for at in 0..self.run.steps.len() {
            match self.run.steps[at].status {
                Status::Active => self.settle_work(at),
                Status::Pending => self.consider(at),
                Status::Waiting { .. }
                | Status::Held { .. }
                | Status::Done { .. }
                | Status::Skipped(_)
                | Status::Failed(_)
                | Status::Halted => {}
            }
        }
    }

    /// Ends the way forward once every step is settled.
    fn check_end(&mut self) {
        // From behind: in a run under way the last steps are the open ones.
        let closing = matches!(self.run.phase, Phase::Closing { .. });
        let settled =
            |at: usize| self.run.steps[at].status.is_settled() || self.definition.steps[at].finally != closing;
        if self.run.paused.is_some() || !(0..self.run.steps.len()).rev().all(settled) {
            return;
        }
        match self.run.phase {
            Phase::Running => self.succeed(),
            Phase::Halting => self.begin_unwind(),
            Phase::Closing { end } => self.end(end),
            Phase::Queued { .. }
            | Phase::Compensating
            | Phase::CompensationFailed
            | Phase::Quarantined { .. }
            | Phase::Ended(_) => {}
        }
    }

    fn succeed(&mut self) {
        let output = self.definition.output.as_ref();
        match output.map(|output| scope::eval(self.run, self.definition, output, Vec::new())) {
            None => self.end(End::Succeeded),
            Some(Ok(output)) => {
                self.run.output = output;
                self.end(End::Succeeded);
            }
            Some(Err(error)) => {
                let failure = permanent("E0205", format!("the output of the run: {error}"));
                self.run.cause = Some(Cause { step: None, failure, cancelled: false, compensate: true });
                self.set_phase(Phase::Halting);
                self.begin_unwind();
            }
        }
    }
}
