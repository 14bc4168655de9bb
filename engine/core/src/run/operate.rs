//! What operators do with a run under way: pause, resume, change limits, decide on a step, set it aside.

use std::sync::Arc;

use super::FactKind;
use super::machine::{Machine, Refusal, permanent};
use super::{Hold, Phase, Skip, Status};
use crate::definition::{Action, Wait};
use crate::effect::Effect;
use crate::expr::Expr;
use crate::record::{Decision, Extent, Tune};
use crate::{Failure, StepName};

impl Machine<'_> {
    /// Nothing new starts, in all of the run or a part of it.
    pub fn pause(&mut self, what: &Extent, reason: &Arc<str>) -> Result<(), Refusal> {
        if !matches!(self.run.phase, Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. }) {
            let reason = match self.run.phase {
                Phase::Compensating | Phase::CompensationFailed => {
                    "it is on its way back, which is not stopped half-way"
                }
                _ => "it is not under way",
            };
            return Err(Refusal::Illegal(format!("the run is {}: {reason}", self.run.phase.name())));
        }
        let hold = |when: Option<Arc<str>>| Hold { since: self.now, reason: Arc::clone(reason), when, exceeded: false };
        match what {
            Extent::Run => {
                if self.run.paused.is_some() {
                    return Err(Refusal::Stale("the run is paused".into()));
                }
                // Its own limit is not owed while it rests.
                self.retracted = true;
                self.run.paused = Some(hold(None));
                self.tell(FactKind::Phase("paused"));
            }
            Extent::Step(step) => {
                let hold = hold(None);
                let at = self.open_step(step)?;
                if self.run.steps[at].holds.iter().any(Hold::is_whole) {
                    return Err(Refusal::Stale("the step is paused".into()));
                }
                self.run.steps[at].holds.push(hold);
                self.tell(FactKind::Step(step.clone(), "paused"));
            }
            Extent::Items { step, when } => {
                Expr::compile(when, 0).map_err(|mistake| Refusal::Illegal(format!("`{when}`: {}", mistake.reason)))?;
                let hold = hold(Some(Arc::clone(when)));
                let at = self.open_step(step)?;
                if self.run.steps[at].holds.iter().any(|known| known.when.as_ref() == Some(when)) {
                    return Err(Refusal::Stale("these items are paused".into()));
                }
                self.run.steps[at].holds.push(hold);
                self.tell(FactKind::Step(step.clone(), "paused"));
            }
        }
        Ok(())
    }

    fn open_step(&self, step: &StepName) -> Result<usize, Refusal> {
        let at = self.step(step)?;
        if self.run.steps[at].status.is_settled() {
            let message = format!("the step `{step}` is {} already", self.run.steps[at].status.name());
            return Err(Refusal::Illegal(message));
        }
        Ok(at)
    }

    /// What was paused goes on.
    pub fn resume(&mut self, what: &Extent) -> Result<(), Refusal> {
        let not = Refusal::Stale("it is not paused".into());
        match what {
            Extent::Run => {
                let hold = self.run.paused.take().ok_or(not)?;
                let rest = self.now.since(hold.since);
                self.run.rested.0 += rest.0;
                for step in self.run.steps.iter_mut().filter(|step| matches!(step.status, Status::Active)) {
                    step.since = step.since + rest;
                }
                self.tell(FactKind::Phase("resumed"));
                self.owe_limits();
                for at in 0..self.run.steps.len() {
                    self.move_on(at);
                }
            }
            Extent::Step(step) => {
                let at = self.step(step)?;
                let place = self.run.steps[at].holds.iter().position(Hold::is_whole).ok_or(not)?;
                let hold = self.run.steps[at].holds.remove(place);
                if hold.exceeded {
                    self.forgive(at);
                }
                self.tell(FactKind::Step(step.clone(), "resumed"));
                self.move_on(at);
            }
            Extent::Items { step, when } => {
                let at = self.step(step)?;
                let holds = &mut self.run.steps[at].holds;
                let place = holds.iter().position(|hold| hold.when.as_ref() == Some(when)).ok_or(not)?;
                holds.remove(place);
                self.let_held_go(at, when);
                self.tell(FactKind::Step(step.clone(), "resumed"));
                self.move_on(at);
            }
        }
        Ok(())
    }

    /// The limits of the run and of its steps count again.
    fn owe_limits(&mut self) {
        let run = super::pending::run_timer(self.run, self.definition);
        let steps =
            (0..self.run.steps.len()).filter_map(|at| super::pending::step_timer(self.run, self.definition, at));
        let owed: Vec<Effect> = run.into_iter().chain(steps).map(|(timer, due)| Effect::Timer(timer, due)).collect();
        self.applied.effects.extend(owed);
    }

    pub(super) fn move_on(&mut self, at: usize) {
        match self.run.steps[at].status {
            Status::Pending => self.consider(at),
            Status::Active => self.progress(at),
            Status::Waiting { .. }
            | Status::Held { .. }
            | Status::Done { .. }
            | Status::Skipped(_)
            | Status::Failed(_)
            | Status::Halted => {}
        }
    }

    /// An operator changes the limits of a fan-out.
    pub fn tune(&mut self, step: &StepName, tune: &Tune) -> Result<(), Refusal> {
        let at = self.open_step(step)?;
        let Some(for_each) = &self.definition.steps[at].for_each else {
            return Err(Refusal::Illegal(format!("`{step}` does not fan out: it has no limits to change")));
        };
        let known = for_each.per.len();
        if let Some(nth) = tune.per.keys().find(|nth| usize::try_from(**nth).map_or(true, |nth| nth >= known)) {
            return Err(Refusal::Illegal(format!(
                "`{step}` has {known} limits under `per`, none with the number {nth}"
            )));
        }
        if tune.max_parallel == Some(0) || tune.per.values().any(|limit| *limit == 0) {
            return Err(Refusal::Illegal("a limit of 0 would stop it: pause it instead".into()));
        }
        let tuned = self.run.steps[at].tuned.get_or_insert_with(Box::default);
        tuned.max_parallel = tune.max_parallel.or(tuned.max_parallel);
        tuned.per.extend(tune.per.iter().map(|(nth, limit)| (*nth, *limit)));
        tuned.tolerate = tune.tolerate.or(tuned.tolerate);
        if let Some(work) = self.run.steps[at].work.as_mut() {
            for nth in tune.per.keys() {
                work.lanes.reopen_kind(&format!("p{nth}"));
            }
            if !work.failed.is_empty() && !work.stopping {
                self.weigh_failures(at);
            }
            self.progress(at);
        }
        Ok(())
    }

    /// An operator decides on a step that failed.
    pub fn decide(&mut self, step: &StepName, how: &Decision) -> Result<(), Refusal> {
        let at = self.step(step)?;
        let Status::Held { failure } = &self.run.steps[at].status else {
            let message =
                format!("the step `{step}` is {}: it does not wait for a decision", self.run.steps[at].status.name());
            return Err(Refusal::Illegal(message));
        };
        let failure: Failure = failure.clone();
        match how {
            Decision::Retry if self.run.steps[at].work.as_ref().is_some_and(|work| work.done > 0) => {
                self.items_again(at);
                self.set_status(at, Status::Active);
                if let Some((timer, due)) = super::pending::step_timer(self.run, self.definition, at) {
                    self.owe(Effect::Timer(timer, due));
                }
                self.progress(at);
            }
            Decision::Retry => {
                self.begin_anew(at);
                self.consider(at);
            }
            Decision::Skip { .. } => {
                self.set_status(at, Status::Skipped(Skip::Operator));
                self.settle(at);
            }
            Decision::Fail => {
                self.set_status(at, Status::Failed(failure));
                self.settle(at);
            }
        }
        Ok(())
    }

    /// An operator sets the run aside: nothing moves it until it is released.
    pub fn set_aside(&mut self, reason: &Arc<str>) -> Result<(), Refusal> {
        if let Phase::Ended(_) = self.run.phase {
            return Err(Refusal::Illegal(format!("the run is over: {}", self.run.phase.name())));
        }
        self.retracted = true;
        let was = Some(Box::new(self.run.phase.clone()));
        self.set_phase(Phase::Quarantined { reason: Arc::clone(reason), was });
        Ok(())
    }

    /// A run that was set aside goes on where it stood: all that it owes is owed again.
    pub fn let_go_on(&mut self) -> Result<(), Refusal> {
        let Phase::Quarantined { was, .. } = &self.run.phase else {
            return Err(Refusal::Stale("the run is not quarantined".into()));
        };
        let Some(was) = was.clone() else {
            let message = "a record about this run could not be understood: nobody knows where it stood".to_owned();
            return Err(Refusal::Illegal(permanent("E0317", message).message));
        };
        self.set_phase(*was);
        // What opened while it lay aside was offered to others, or to nobody.
        self.enter_again();
        for at in 0..self.run.steps.len() {
            self.look_again(at);
        }
        let owed = super::pending::pending(self.run, self.definition);
        self.applied.effects = owed.into_values().collect();
        Ok(())
    }

    fn look_again(&mut self, at: usize) {
        if let (Status::Waiting { .. }, Action::Wait(Wait::Window(window))) =
            (&self.run.steps[at].status, &self.definition.steps[at].action)
        {
            return self.wait_for_window(at, window);
        }
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.reopen_kind("g");
            work.lanes.reopen_kind("w");
        }
        self.move_on(at);
    }
}
