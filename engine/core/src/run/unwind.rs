//! The way back: what started is undone, in the reverse order of the graph.

use super::FactKind;
use super::machine::{Machine, Refusal, permanent};
use std::collections::BTreeSet;

use super::{At, Live, Phase, Run, StepRun, Undo, UndoWork, Work, pending};
use crate::backoff::backoff;
use crate::definition::{Action, Step};
use crate::effect::Effect;
use crate::record::{End, Parent, Report};
use crate::{Definition, Failure, FailureClass, Leg, Outcome, TaskKey};

/// Whether the step at `at` started, in this try or a former one, and has something to undo.
pub(super) fn undoable(run: &Run, definition: &Definition, at: usize) -> bool {
    let state = &run.steps[at];
    state.work.as_deref().into_iter().chain(&state.former).any(|work| leaves_something(&definition.steps[at], work))
}

/// Whether there is something to undo of what a step did.
pub(super) fn leaves_something(step: &Step, work: &Work) -> bool {
    match step.action {
        Action::Task { .. } => step.compensate.is_some() && work.started().next().is_some(),
        Action::Workflow { .. } | Action::Steps(_) => !work.children.is_empty(),
        Action::Wait(_) | Action::Set(_) | Action::Fail(_) | Action::Emit(_) => false,
    }
}

/// Whether a run that succeeded could be taken back.
pub(super) fn revocable(run: &Run, definition: &Definition) -> bool {
    !run.beyond && (0..run.steps.len()).any(|at| undoable(run, definition, at))
}

impl Machine<'_> {
    /// Everything is at rest: undo what started, or end.
    pub(super) fn begin_unwind(&mut self) {
        let (cancelled, compensate) =
            self.run.cause.as_ref().map_or((false, true), |cause| (cause.cancelled, cause.compensate));
        let blocked = !compensate || self.run.beyond;
        let owed: Vec<usize> = if blocked {
            Vec::new()
        } else {
            (0..self.run.steps.len()).filter(|at| undoable(self.run, self.definition, *at)).collect()
        };
        if owed.is_empty() {
            // Where nothing of its own is left to undo, what its child runs undid by themselves counts.
            return self.end(match (self.run.undone_below && !blocked, cancelled) {
                (true, _) => End::Compensated,
                (false, true) => End::Cancelled,
                (false, false) => End::Failed,
            });
        }
        for at in owed {
            self.set_undo(at, Undo::Owed);
        }
        self.set_phase(Phase::Compensating);
        self.unwind_on();
    }

    fn set_undo(&mut self, at: usize, undo: Undo) {
        self.tell(FactKind::Undo(self.definition.steps[at].name.clone(), undo.name()));
        self.run.steps[at].undo = undo;
    }

    /// Begins the undo of each step behind which all is undone; ends the run when nothing is left.
    fn unwind_on(&mut self) {
        loop {
            let ready = (0..self.run.steps.len()).rev().find(|at| {
                self.run.steps[*at].undo == Undo::Owed
                    && (*at + 1..self.run.steps.len()).all(|behind| {
                        !self.definition.upstream[behind].contains(*at) || self.run.steps[behind].undo.is_settled()
                    })
            });
            let Some(at) = ready else { break };
            self.begin_undo(at);
        }
        if self.run.steps.iter().all(|step| step.undo.is_settled()) {
            return self.end(End::Compensated);
        }
        let active = self.run.steps.iter().any(|step| matches!(step.undo, Undo::Active(_)));
        self.set_phase(if active { Phase::Compensating } else { Phase::CompensationFailed });
    }

    /// Begins the undo of what a step did last; what it did in former tries follows.
    fn begin_undo(&mut self, at: usize) {
        let step = &self.definition.steps[at];
        let state = &mut self.run.steps[at];
        if !state.work.as_ref().is_some_and(|work| leaves_something(step, work))
            && let Some(former) = former(step, state)
        {
            state.work = Some(Box::new(former));
        }
        let next = state.work.as_ref().map_or(0, |work| work.next);
        self.set_undo(at, Undo::Active(Box::new(UndoWork { next, ..UndoWork::default() })));
        self.undo_progress(at);
    }

    /// Sends out what has room, item by item from the last; settles the step when all are at rest.
    fn undo_progress(&mut self, at: usize) {
        let parallel = self.parallel(at);
        while self.undo_next(at, parallel) {}
        let Undo::Active(undo) = &self.run.steps[at].undo else { return };
        if undo.next > 0 || !undo.live.is_empty() || !undo.lanes.is_empty() {
            return;
        }
        let highest = undo.highest;
        let settled = if undo.failed.is_empty() {
            Undo::Done { resolved: undo.resolved.clone() }
        } else {
            Undo::Failed(undo.clone())
        };
        self.set_undo(at, settled);
        // Should this step be undone once more, its attempts go on counting: a key is used once.
        let state = &mut self.run.steps[at];
        state.undo_base = state.undo_base.max(highest);
        if let Undo::Done { .. } = state.undo
            && let Some(former) = former(&self.definition.steps[at], state)
        {
            state.work = Some(Box::new(former));
            self.begin_undo(at);
        }
    }

    /// Undoes the next item that has room; whether there was one.
    fn undo_next(&mut self, at: usize, parallel: u32) -> bool {
        let state = &mut self.run.steps[at];
        let (base, work) = (state.undo_base, state.work.as_ref());
        let Undo::Active(undo) = &mut state.undo else { return false };
        // Items that never started have nothing to undo.
        while undo.next > 0 && work.is_some_and(|work| !work.has_started(undo.next - 1)) {
            undo.next -= 1;
        }
        if undo.lanes.busy >= parallel {
            return false;
        }
        let first = undo.next.checked_sub(1).map(rank);
        let Some(next) = undo.lanes.next(first) else { return false };
        let item = rank(next);
        if first == Some(next) {
            undo.next -= 1;
        } else {
            undo.lanes.take(next);
        }
        let attempt = undo.live.get(&item).map_or(base + 1, |live| live.attempt);
        let per = self.per_limits(at, item).unwrap_or_default();
        let Undo::Active(undo) = &mut self.run.steps[at].undo else { return false };
        match per.iter().find(|(limit, of)| !undo.lanes.has_room(limit, *of)) {
            Some((limit, _)) => undo.lanes.block(next, limit.clone(), None),
            None => self.send_undo(at, item, attempt),
        }
        true
    }

    /// An item on its way back is not at work any more.
    fn undo_leave(&mut self, at: usize, item: u32) {
        let per = self.per_limits(at, item).unwrap_or_default();
        let Undo::Active(undo) = &mut self.run.steps[at].undo else { return };
        if undo.live.remove(&item).is_some_and(|live| live.at.has_place()) {
            undo.lanes.busy -= 1;
            for (limit, of) in &per {
                undo.lanes.let_go(limit, *of);
            }
        }
    }

    fn send_undo(&mut self, at: usize, item: u32, attempt: u32) {
        let per = self.per_limits(at, item).unwrap_or_default();
        let sent = pending::send_undo(self.run, self.definition, at, item, attempt);
        let Undo::Active(undo) = &mut self.run.steps[at].undo else { return };
        undo.highest = undo.highest.max(attempt);
        match sent {
            Ok(Some(effect)) => {
                let place = match &effect {
                    Effect::UnwindChild { child, .. } => At::Child { child: *child, started: true, stopping: true },
                    _ => At::Out,
                };
                undo.live.insert(item, Live { attempt, at: place });
                undo.lanes.busy += 1;
                for (limit, of) in &per {
                    undo.lanes.hold(limit, *of);
                }
                self.owe(effect);
            }
            Ok(None) => {
                undo.live.remove(&item);
            }
            Err(failure) => {
                undo.live.remove(&item);
                undo.failed.insert(item, failure);
            }
        }
    }

    /// A worker reports on the way back.
    pub fn undo_finished(&mut self, task: &TaskKey, outcome: &Outcome) -> Result<(), Refusal> {
        let at = self.step(&task.step)?;
        let stale = Err(Refusal::Stale("this attempt is not out".into()));
        let Undo::Active(undo) = &mut self.run.steps[at].undo else { return stale };
        match undo.live.get(&task.item) {
            Some(Live { attempt, at: At::Out }) if *attempt == task.attempt => {}
            // A child tells its end by itself; that it cannot be found is said for it.
            Some(Live { attempt, at: At::Child { .. } })
                if *attempt == task.attempt && matches!(outcome, Outcome::Failed(_)) => {}
            Some(_) | None => return stale,
        }
        self.undo_leave(at, task.item);
        let failure = match outcome {
            Outcome::Succeeded { .. } => None,
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::Cancelled => {
                let message = "the worker gave the compensation up".into();
                Some(Failure { class: FailureClass::Transient, ..permanent("E0312", message) })
            }
        };
        if let Some(failure) = failure {
            self.undo_failed(at, task, failure);
        }
        self.undo_progress(at);
        self.unwind_on();
        Ok(())
    }

    fn undo_failed(&mut self, at: usize, task: &TaskKey, failure: Failure) {
        let used = task.attempt.saturating_sub(self.run.steps[at].undo_base);
        let seed = self.seed(task);
        let retry = self.definition.steps[at].compensate.as_ref().map(|compensate| &compensate.retry);
        let Undo::Active(undo) = &mut self.run.steps[at].undo else { return };
        let Some(retry) = retry else {
            // A child run has no compensation of its own here: whoever lost it needs a person.
            undo.failed.insert(task.item, failure);
            return;
        };
        let until = self.now + backoff(retry, used, seed);
        if failure.class == FailureClass::Permanent || used >= retry.attempts || !retry.covers(&failure.code) {
            undo.failed.insert(task.item, failure);
            return;
        }
        let attempt = task.attempt + 1;
        undo.live.insert(task.item, Live { attempt, at: At::Backoff { until } });
        self.owe_backoff(task, attempt, until);
    }

    /// The wait before an attempt is over, on either leg.
    pub(super) fn backoff_over(&mut self, key: &TaskKey) -> Result<(), Refusal> {
        let at = self.step(&key.step)?;
        let live = match (key.leg, &self.run.steps[at].undo) {
            (Leg::Forward, _) => self.run.steps[at].work.as_ref().and_then(|work| work.live.get(&key.item)),
            (Leg::Undo, Undo::Active(undo)) => undo.live.get(&key.item),
            (Leg::Undo, _) => None,
        };
        match live {
            Some(Live { attempt, at: At::Backoff { until } }) if *attempt == key.attempt && *until <= self.now => {}
            Some(_) | None => return Err(Refusal::Stale("nothing waits for this timer".into())),
        }
        match key.leg {
            Leg::Forward => self.stand_ready(at, key.item),
            Leg::Undo => {
                if let Undo::Active(undo) = &mut self.run.steps[at].undo
                    && let Some(live) = undo.live.get_mut(&key.item)
                {
                    live.at = At::Ready;
                    undo.lanes.ready(rank(key.item));
                }
                self.undo_progress(at);
                self.unwind_on();
            }
        }
        Ok(())
    }

    /// A child run exists.
    pub fn child_started(&mut self, link: &Parent, known: crate::RunId) -> Result<(), Refusal> {
        let at = self.step(&link.step)?;
        let work = self.run.steps[at].work.as_mut();
        let reason = work.as_deref().map(|work| pending::stop_reason(work));
        let live = work.and_then(|work| work.live.get_mut(&link.item));
        match live.map(|live| &mut live.at) {
            Some(At::Child { child, started, stopping }) if *child == known && !*started => {
                *started = true;
                if let Some(reason) = reason.filter(|_| *stopping) {
                    self.owe(Effect::CancelChild { child: known, reason });
                }
                Ok(())
            }
            Some(_) | None => Err(Refusal::Stale("the child is known".into())),
        }
    }

    /// A child run ended: for the first time, or after it was taken back.
    pub fn child_ended(&mut self, link: &Parent, report: &Report) -> Result<(), Refusal> {
        let at = self.step(&link.step)?;
        if let Undo::Active(undo) = &mut self.run.steps[at].undo
            && matches!(undo.live.get(&link.item), Some(Live { at: At::Child { child, .. }, .. }) if *child == report.child)
        {
            if report.end == End::Succeeded {
                return Err(Refusal::Stale("the child had not been taken back yet".into()));
            }
            self.undo_leave(at, link.item);
            self.undo_progress(at);
            self.unwind_on();
            return Ok(());
        }
        let stopping = match self.run.steps[at].work.as_ref().and_then(|work| work.live.get(&link.item)) {
            Some(Live { at: At::Child { child, stopping, .. }, .. }) if *child == report.child => *stopping,
            Some(_) | None => return Err(Refusal::Stale("no child of this name is at work".into())),
        };
        self.run.undone_below |= report.end == End::Compensated;
        match (report.end, stopping) {
            (End::Succeeded, _) => {
                if report.revocable
                    && let Some(work) = self.run.steps[at].work.as_mut()
                {
                    work.children.insert(link.item, report.child);
                }
                self.item_done(at, link.item, report.output.clone());
            }
            (End::Failed | End::Compensated | End::Cancelled, true) => self.item_rests(at, link.item),
            (End::Failed | End::Compensated | End::Cancelled, false) => {
                let failure = report.failure.clone().unwrap_or_else(|| {
                    permanent("E0315", format!("the child run {} {}", report.child, report.end.name()))
                });
                self.item_failed(at, link.item, failure);
            }
        }
        self.progress(at);
        Ok(())
    }

    /// Tries items again whose compensation failed, or takes a person's word for one.
    pub(super) fn undo_again(&mut self, at: usize, items: &[u32]) {
        let Undo::Failed(undo) = &self.run.steps[at].undo else { return };
        let mut undo = undo.clone();
        for item in items {
            undo.failed.remove(item);
        }
        self.set_undo(at, Undo::Active(undo));
        let attempt = self.run.steps[at].undo_base + 1;
        if let Undo::Active(undo) = &mut self.run.steps[at].undo {
            for item in items {
                undo.live.insert(*item, Live { attempt, at: At::Ready });
                undo.lanes.ready(rank(*item));
            }
        }
        self.undo_progress(at);
        self.unwind_on();
    }

    pub(super) fn undo_resolved(&mut self, at: usize, item: u32, note: &std::sync::Arc<str>) {
        let Undo::Failed(undo) = &self.run.steps[at].undo else { return };
        let mut undo = undo.clone();
        undo.failed.remove(&item);
        undo.resolved.insert(item, std::sync::Arc::clone(note));
        self.set_undo(at, Undo::Active(undo));
        self.undo_progress(at);
        self.unwind_on();
    }
}

/// The last item goes first. Its own inverse.
fn rank(item: u32) -> u32 {
    u32::MAX - item
}

/// What a step did in the try before, as far as the way back of a later one does not cover it.
fn former(step: &Step, state: &mut StepRun) -> Option<Work> {
    // Its attempts are over: their numbers are not used again, though the work that counted them goes.
    state.base = state.work.as_ref().map_or(state.base, |work| state.base.max(work.highest));
    while let Some(mut former) = state.former.pop() {
        // One compensation of an item makes up for all that was tried with it; child runs go back one by one.
        if let (Action::Task { .. }, Some(later)) = (&step.action, &state.work) {
            let covered: BTreeSet<String> = later.started().map(|item| content(later, item)).collect();
            let again: Vec<u32> = former.started().filter(|item| covered.contains(&content(&former, *item))).collect();
            former.fresh.extend(again);
        }
        if leaves_something(step, &former) {
            return Some(former);
        }
    }
    None
}

fn content(work: &Work, item: u32) -> String {
    usize::try_from(item).ok().and_then(|item| work.items.get(item)).map(|item| item.to_string()).unwrap_or_default()
}
