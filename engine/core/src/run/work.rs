//! The items of a step: they go out, come back, are tried again, are called back.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::machine::{Machine, Refusal, permanent};
use super::{At, Live, Status, Work, pending, scope};
use crate::backoff::backoff;
use crate::effect::Effect;
use crate::record::{TimerKey, TimerKind};
use crate::{Action, Failure, FailureClass, Leg, Outcome, TaskKey, UtcMs};

/// The most items one `for_each` walks.
pub(super) const ITEMS_MAX: usize = 1_000_000;

impl Machine<'_> {
    pub(super) fn begin_work(&mut self, at: usize) {
        let step = &self.definition.steps[at];
        let mut work = Work { count: 1, ..Work::default() };
        if let Some(for_each) = &step.for_each {
            let items = match scope::list(self.run, self.definition, &for_each.items) {
                Ok(Ok(items)) if items.len() <= ITEMS_MAX => items,
                Ok(Ok(items)) => {
                    let message = format!("`for_each` has {} items; at most {ITEMS_MAX} are walked", items.len());
                    return self.fail(at, permanent("E0207", message));
                }
                Ok(Err(other)) => {
                    let message = format!("`for_each` walks a list, this is {}", kind_of(&other));
                    return self.fail(at, permanent("E0207", message));
                }
                Err(error) => return self.fail(at, permanent("E0205", error.to_string())),
            };
            work.count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            work.items = Arc::new(items);
        }
        self.set_status(at, Status::Active);
        self.run.steps[at].work = Some(Box::new(work));
        if let Some((timer, due)) = pending::step_timer(self.run, self.definition, at) {
            self.owe(Effect::Timer(timer, due));
        }
        self.begin_waves(at);
        self.progress(at);
    }

    /// Moves an active step on: starts what has room, ends it when all items are at rest.
    pub(super) fn progress(&mut self, at: usize) {
        let parallel = self.parallel(at);
        while self.start_next(at, parallel) {}
        self.settle_work(at);
    }

    /// Looks at the next item in line, if any may start; whether there was one.
    fn start_next(&mut self, at: usize, parallel: u32) -> bool {
        if !self.is_free(at) || !self.wave_is_open(at) {
            return false;
        }
        let state = &self.run.steps[at];
        let active = matches!(state.status, Status::Active);
        let Some(work) = state.work.as_ref().filter(|work| active && !work.stopping) else { return false };
        if work.lanes.busy >= parallel || work.lanes.wide().is_some() {
            return false;
        }
        let fresh = (!work.draining && work.next < work.bound()).then_some(work.next);
        let Some(item) = work.lanes.next(fresh) else { return false };
        let attempt = work.live.get(&item).map_or(state.base + 1, |live| live.attempt);
        match self.wide_block(at, item) {
            Ok(None) => {}
            Ok(Some(block)) => {
                self.block_all(at, block);
                return false;
            }
            Err(failure) => {
                self.leave_line(at, item, fresh);
                self.turn_away(at, item, failure);
                return true;
            }
        }
        self.leave_line(at, item, fresh);
        match self.admit(at, item) {
            Ok(Ok(admission)) => self.send(at, (item, attempt), admission),
            Ok(Err(block)) => self.block(at, item, block),
            Err(failure) => self.turn_away(at, item, failure),
        }
        true
    }

    fn leave_line(&mut self, at: usize, item: u32, fresh: Option<u32>) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if fresh == Some(item) {
            work.next += 1;
        } else {
            work.lanes.take(item);
        }
    }

    pub(super) fn parallel(&self, at: usize) -> u32 {
        let tuned = self.run.steps[at].tuned.as_ref().and_then(|tune| tune.max_parallel);
        let declared = self.definition.steps[at].for_each.as_ref().and_then(|for_each| for_each.max_parallel);
        tuned.or(declared).unwrap_or(u32::MAX)
    }

    /// Sends one attempt of one item out, which has all the places it needs.
    fn send(&mut self, at: usize, (item, attempt): (u32, u32), admission: super::admit::Admission) {
        let effect = pending::send(self.run, self.definition, at, item, attempt);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.highest = work.highest.max(attempt);
        match effect {
            Ok(effect) => {
                let place = match &effect {
                    Effect::StartChild(start) => At::Child { child: start.run, started: false, stopping: false },
                    _ => At::Out,
                };
                work.fresh.remove(&item);
                work.live.insert(item, Live { attempt, at: place });
                self.occupy(at, admission);
                self.owe(effect);
            }
            Err(failure) => self.turn_away(at, item, failure),
        }
    }

    /// An item fails before it goes out; the first time, there is nothing to undo of it.
    fn turn_away(&mut self, at: usize, item: u32, failure: Failure) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if !work.live.contains_key(&item) {
            work.refused.insert(item);
        }
        self.item_failed(at, item, failure);
    }

    /// An item is not at work any more; gives back what places it had.
    pub(super) fn leave(&mut self, at: usize, item: u32) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if work.live.remove(&item).is_some_and(|live| live.at.has_place()) {
            self.vacate(at, item);
        }
    }

    /// A worker reports on the way forward.
    pub fn attempt_finished(&mut self, task: &TaskKey, outcome: &Outcome) -> Result<(), Refusal> {
        let at = self.step(&task.step)?;
        let live = self.run.steps[at].work.as_ref().and_then(|work| work.live.get(&task.item));
        let stopping = match live {
            Some(Live { attempt, at: At::Out }) if *attempt == task.attempt => false,
            Some(Live { attempt, at: At::Stopping }) if *attempt == task.attempt => true,
            Some(_) | None => return Err(Refusal::Stale("this attempt is not out".into())),
        };
        match outcome {
            Outcome::Succeeded { output } => self.item_done(at, task.item, output.clone()),
            Outcome::Failed(_) | Outcome::Cancelled if stopping => self.item_rests(at, task.item),
            Outcome::Failed(failure) => self.attempt_failed(at, task, failure),
            Outcome::Cancelled => {
                let message = "the worker gave the task up without being asked".into();
                let failure = Failure { class: FailureClass::Transient, ..permanent("E0312", message) };
                self.attempt_failed(at, task, &failure);
            }
        }
        self.progress(at);
        Ok(())
    }

    /// The event of an `emit` step is published.
    pub fn emitted(&mut self, task: &TaskKey) -> Result<(), Refusal> {
        let at = self.step(&task.step)?;
        if !matches!(self.definition.steps[at].action, Action::Emit(_)) {
            return Err(Refusal::Illegal(format!("`{}` publishes no event", task.step)));
        }
        self.attempt_finished(task, &Outcome::Succeeded { output: Value::Null })
    }

    fn attempt_failed(&mut self, at: usize, task: &TaskKey, failure: &Failure) {
        let retry = &self.definition.steps[at].retry;
        let used = task.attempt.saturating_sub(self.run.steps[at].base);
        let again = failure.class != FailureClass::Permanent && used < retry.attempts && retry.covers(&failure.code);
        if !again {
            return self.item_failed(at, task.item, failure.clone());
        }
        let until = self.now + backoff(retry, used, self.seed(task));
        let attempt = task.attempt + 1;
        self.leave(at, task.item);
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.live.insert(task.item, Live { attempt, at: At::Backoff { until } });
        }
        self.owe_backoff(task, attempt, until);
    }

    pub(super) fn owe_backoff(&mut self, task: &TaskKey, attempt: u32, until: UtcMs) {
        let kind = TimerKind::Backoff { step: task.step.clone(), item: task.item, leg: task.leg, attempt };
        self.owe(Effect::Timer(TimerKey { run: task.run, kind }, until));
    }

    /// The wait before an attempt is over: the item stands in line again.
    pub(super) fn stand_ready(&mut self, at: usize, item: u32) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if let Some(live) = work.live.get_mut(&item) {
            live.at = At::Ready;
            work.lanes.ready(item);
        }
        self.progress(at);
    }

    pub(super) fn seed(&self, task: &TaskKey) -> u64 {
        let step =
            task.step.as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let leg = match task.leg {
            Leg::Forward => 0,
            Leg::Undo => 1,
        };
        self.run.start.seed ^ step.rotate_left(17) ^ (u64::from(task.item) << 32) ^ (u64::from(task.attempt) << 1) ^ leg
    }

    pub(super) fn item_done(&mut self, at: usize, item: u32, output: Value) {
        self.leave(at, item);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.done += 1;
        if !output.is_null() {
            work.outputs.insert(item, output);
        }
    }

    /// An item that was called back came to nothing.
    pub(super) fn item_rests(&mut self, at: usize, item: u32) {
        self.leave(at, item);
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.rested.insert(item);
        }
    }

    pub(super) fn item_failed(&mut self, at: usize, item: u32, failure: Failure) {
        self.leave(at, item);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.fresh.remove(&item);
        work.failed.insert(item, failure);
        if !work.stopping {
            self.weigh_failures(at);
        }
    }

    /// Starts no further item of a step and calls back what is out.
    pub(super) fn stop(&mut self, at: usize) {
        let run = self.run.id();
        let step = self.definition.steps[at].name.clone();
        let reason = pending::stop_reason();
        let base = self.run.steps[at].base;
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if work.stopping {
            return;
        }
        work.stopping = true;
        self.retracted = true;
        work.lanes.clear();
        let sent_now: BTreeSet<TaskKey> = self.applied.effects.iter().filter_map(sent_by).collect();
        let (mut owed, mut unsent) = (Vec::new(), Vec::new());
        let items: Vec<u32> = work.live.keys().copied().collect();
        for item in items {
            let Some(live) = work.live.get_mut(&item) else { continue };
            let key = TaskKey { run, step: step.clone(), item, attempt: live.attempt, leg: Leg::Forward };
            if sent_now.contains(&key) {
                unsent.push((item, live.attempt == base + 1));
                continue;
            }
            match &mut live.at {
                At::Out => {
                    live.at = At::Stopping;
                    owed.push(Effect::Cancel(key));
                }
                At::Child { child, started, stopping } => {
                    *stopping = true;
                    if *started {
                        owed.push(Effect::CancelChild { child: *child, reason: reason.clone() });
                    }
                }
                At::Ready | At::Backoff { .. } => {
                    work.live.remove(&item);
                    work.rested.insert(item);
                }
                At::Stopping => {}
            }
        }
        self.applied.effects.extend(owed);
        for (item, first) in unsent {
            self.unsend(at, item, first);
        }
    }

    /// It never left: what this record would have sent out is not owed at its end. A first attempt then counts as not
    /// started, so that nothing is undone for it.
    fn unsend(&mut self, at: usize, item: u32, first: bool) {
        self.leave(at, item);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if first {
            work.fresh.insert(item);
        } else {
            work.rested.insert(item);
        }
    }

    /// Ends a step whose items are all at rest, or moves it to its next wave.
    pub(super) fn settle_work(&mut self, at: usize) {
        let Some(work) = &self.run.steps[at].work else { return };
        if !matches!(self.run.steps[at].status, Status::Active) || !work.live.is_empty() {
            return;
        }
        if work.stopping || work.draining {
            let failure = work.verdict.clone().or_else(|| work.failed.values().next().cloned());
            self.retracted = true;
            return match failure {
                Some(failure) => self.fail(at, failure),
                None if work.done == work.count => self.all_done(at),
                None => {
                    self.set_status(at, Status::Halted);
                    self.settle(at);
                }
            };
        }
        if !work.fresh.is_empty() || work.next < work.bound() || !self.pass_wave(at) {
            return;
        }
        self.retracted = true;
        self.all_done(at);
    }

    fn all_done(&mut self, at: usize) {
        let fanned = self.definition.steps[at].for_each.is_some();
        let Some(work) = &self.run.steps[at].work else { return };
        let output = gather(work, fanned);
        self.complete(at, output);
    }
}

impl At {
    /// Whether an item there holds its places: what waits or backs off does not.
    #[must_use]
    pub fn has_place(&self) -> bool {
        match self {
            Self::Out | Self::Stopping | Self::Child { .. } => true,
            Self::Ready | Self::Backoff { .. } => false,
        }
    }
}

impl Work {
    /// The first item behind the wave under way.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.wave.as_ref().map_or(self.count, |wave| wave.end)
    }

    /// The items that started, from the last one.
    pub fn started(&self) -> impl Iterator<Item = u32> {
        (0..self.next).rev().filter(|item| self.has_started(*item))
    }

    /// Whether an item ever went out.
    #[must_use]
    pub fn has_started(&self, item: u32) -> bool {
        item < self.next && !self.fresh.contains(&item) && !self.refused.contains(&item)
    }
}

/// The attempt that an effect sends out.
fn sent_by(effect: &Effect) -> Option<TaskKey> {
    match effect {
        Effect::Dispatch(task) => Some(task.key.clone()),
        Effect::Emit { task, .. } => Some(task.clone()),
        Effect::StartChild(start) => start.parent.as_ref().map(|link| TaskKey {
            run: link.run,
            step: link.step.clone(),
            item: link.item,
            attempt: link.attempt,
            leg: Leg::Forward,
        }),
        Effect::Cancel(_)
        | Effect::Timer(..)
        | Effect::CancelChild { .. }
        | Effect::UnwindChild { .. }
        | Effect::InformParent { .. } => None,
    }
}

/// The output of a step out of its items': one value, or a list with a null where an item gave nothing.
fn gather(work: &Work, fanned: bool) -> Value {
    if fanned {
        (0..work.count).map(|item| work.outputs.get(&item).cloned().unwrap_or(Value::Null)).collect()
    } else {
        work.outputs.get(&0).cloned().unwrap_or(Value::Null)
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
