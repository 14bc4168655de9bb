//! The way forward: steps become ready, their items go out, come back, are tried again.

use serde_json::Value;

use super::machine::{FactKind, Machine, Refusal, permanent};
use super::{At, Cause, Live, Phase, Skip, Status, Work, pending, scope};
use crate::backoff::backoff;
use crate::definition::{Action, Wait};
use crate::effect::Effect;
use crate::record::{End, TimerKey, TimerKind};
use crate::{Failure, FailureClass, Leg, Outcome, TaskKey, UtcMs};

/// The most items one `for_each` walks.
pub(super) const ITEMS_MAX: usize = 1_000_000;

impl Machine<'_> {
    /// Starts what needs nothing; the run's own limit begins.
    pub fn set_off(&mut self) {
        if let Some((timer, due)) = pending::run_timer(self.run, self.definition) {
            self.owe(Effect::Timer(timer, due));
        }
        for at in 0..self.definition.steps.len() {
            self.consider(at);
        }
    }

    pub(super) fn set_status(&mut self, at: usize, status: Status) {
        self.tell(FactKind::Step(self.definition.steps[at].name.clone(), status.name()));
        self.run.steps[at].status = status;
        self.run.steps[at].since = self.now;
    }

    /// Looks at a step that has not started: is it its turn?
    pub(super) fn consider(&mut self, at: usize) {
        let step = &self.definition.steps[at];
        let ready = matches!(self.run.steps[at].status, Status::Pending)
            && step.needs.iter().all(|need| self.run.steps[*need].status.is_settled());
        if !ready || !matches!(self.run.phase, Phase::Running | Phase::Halting) {
            return;
        }
        let failed = self.definition.upstream[at]
            .iter()
            .any(|up| matches!(self.run.steps[up].status, Status::Failed(_) | Status::Halted));
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

    fn begin_wait(&mut self, at: usize, wait: &Wait) {
        let due = match wait {
            Wait::Signal(wait) => {
                if let Some(found) = self.run.signals.iter().position(|signal| signal.name == wait.name) {
                    let signal = self.run.signals.remove(found);
                    return self.complete(at, signal.payload);
                }
                wait.timeout.map(|span| self.now + span)
            }
            Wait::Event(wait) => return self.begin_event_wait(at, wait),
            Wait::Window(_) => None,
            Wait::For(span) => Some(self.now + *span),
            Wait::Until(until) => match scope::eval(self.run, self.definition, until, Vec::new()) {
                Ok(value) => match instant(&value) {
                    Some(due) if due <= self.now => return self.complete(at, Value::Null),
                    Some(due) => Some(due),
                    None => {
                        let message = format!("{value} is no instant: RFC 3339 text or milliseconds since 1970");
                        return self.fail(at, permanent("E0206", message));
                    }
                },
                Err(error) => return self.fail(at, permanent("E0205", error.to_string())),
            },
        };
        self.set_status(at, Status::Waiting { due });
        if let Some(due) = due {
            let step = self.definition.steps[at].name.clone();
            self.owe(Effect::Timer(TimerKey { run: self.run.id(), kind: TimerKind::Wait { step } }, due));
        }
    }

    fn begin_work(&mut self, at: usize) {
        let step = &self.definition.steps[at];
        let mut work = Work { count: 1, ..Work::default() };
        if let Some(for_each) = &step.for_each {
            let items = match scope::eval(self.run, self.definition, &for_each.items, Vec::new()) {
                Ok(Value::Array(items)) if items.len() <= ITEMS_MAX => items,
                Ok(Value::Array(items)) => {
                    let message = format!("`for_each` has {} items; at most {ITEMS_MAX} are walked", items.len());
                    return self.fail(at, permanent("E0207", message));
                }
                Ok(other) => {
                    let message = format!("`for_each` walks a list, this is {}", kind_of(&other));
                    return self.fail(at, permanent("E0207", message));
                }
                Err(error) => return self.fail(at, permanent("E0205", error.to_string())),
            };
            work.count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            work.items = items;
        }
        self.set_status(at, Status::Active);
        self.run.steps[at].work = Some(Box::new(work));
        if let Some((timer, due)) = pending::step_timer(self.run, self.definition, at) {
            self.owe(Effect::Timer(timer, due));
        }
        self.progress(at);
    }

    /// Moves an active step on: starts what has room, ends it when all items are at rest.
    pub(super) fn progress(&mut self, at: usize) {
        let parallel = self.parallel(at);
        loop {
            let state = &mut self.run.steps[at];
            let (base, active) = (state.base, matches!(state.status, Status::Active));
            let Some(work) = state.work.as_mut().filter(|_| active) else { return };
            let room = u32::try_from(work.live.len()).is_ok_and(|live| live < parallel);
            if work.stopping || work.next >= work.count || !room {
                break;
            }
            let item = work.next;
            work.next += 1;
            self.send(at, item, base + 1);
        }
        self.settle_work(at);
    }

    fn settle_work(&mut self, at: usize) {
        let Some(work) = &self.run.steps[at].work else { return };
        if !work.live.is_empty() {
            return;
        }
        self.retracted |= self.definition.steps[at].total.is_some();
        let failure = work.verdict.clone().or_else(|| work.failed.values().next().cloned());
        match failure {
            Some(failure) => self.fail(at, failure),
            None if work.done == work.count => {
                let output = gather(work, self.definition.steps[at].for_each.is_some());
                self.complete(at, output);
            }
            None if work.stopping => {
                self.set_status(at, Status::Halted);
                self.settle(at);
            }
            None => {}
        }
    }

    pub(super) fn parallel(&self, at: usize) -> u32 {
        self.definition.steps[at].for_each.as_ref().and_then(|for_each| for_each.max_parallel).unwrap_or(u32::MAX)
    }

    /// Sends one attempt of one item out.
    pub(super) fn send(&mut self, at: usize, item: u32, attempt: u32) {
        let effect = pending::send(self.run, self.definition, at, item, attempt);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.highest = work.highest.max(attempt);
        match effect {
            Ok(effect) => {
                let place = match &effect {
                    Effect::StartChild(start) => At::Child { child: start.run, started: false, stopping: false },
                    _ => At::Out,
                };
                work.live.insert(item, Live { attempt, at: place });
                self.owe(effect);
            }
            Err(failure) => self.item_failed(at, item, failure),
        }
    }

    /// A worker reports on the way forward.
    pub fn attempt_finished(&mut self, task: &TaskKey, outcome: &Outcome) -> Result<(), Refusal> {
        let at = self.step(&task.step)?;
        let live = self.run.steps[at].work.as_ref().and_then(|work| work.live.get(&task.item));
        let stopping = match live {
            Some(Live { attempt, at: At::Out }) if *attempt == task.attempt => false,
            Some(Live { attempt, at: At::Stopping }) if *attempt == task.attempt => true,
            Some(_) | None => return Err(Refusal::Stale("this attempt is not out")),
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

    fn attempt_failed(&mut self, at: usize, task: &TaskKey, failure: &Failure) {
        let retry = &self.definition.steps[at].retry;
        let used = task.attempt.saturating_sub(self.run.steps[at].base);
        if failure.class == FailureClass::Permanent || used >= retry.attempts {
            return self.item_failed(at, task.item, failure.clone());
        }
        let until = self.now + backoff(retry, used, self.seed(task));
        let attempt = task.attempt + 1;
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.live.insert(task.item, Live { attempt, at: At::Backoff { until } });
        }
        self.owe_backoff(task, attempt, until);
    }

    pub(super) fn owe_backoff(&mut self, task: &TaskKey, attempt: u32, until: UtcMs) {
        let kind = TimerKind::Backoff { step: task.step.clone(), item: task.item, leg: task.leg, attempt };
        self.owe(Effect::Timer(TimerKey { run: task.run, kind }, until));
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
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.live.remove(&item);
        work.done += 1;
        if !output.is_null() {
            work.outputs.insert(item, output);
        }
    }

    fn item_rests(&mut self, at: usize, item: u32) {
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.live.remove(&item);
        }
    }

    pub(super) fn item_failed(&mut self, at: usize, item: u32, failure: Failure) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.live.remove(&item);
        work.failed.insert(item, failure);
        self.stop(at);
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
        work.live.retain(|_, live| !matches!(live.at, At::Backoff { .. }));
        let mut owed = Vec::new();
        let items: Vec<u32> = work.live.keys().rev().copied().collect();
        for item in items {
            let Some(live) = work.live.get_mut(&item) else { continue };
            let key = TaskKey { run, step: step.clone(), item, attempt: live.attempt, leg: Leg::Forward };
            let sent_now = self.applied.effects.iter().any(|effect| match effect {
                Effect::Dispatch(task) => task.key == key,
                Effect::StartChild(start) => matches!(live.at, At::Child { child, .. } if child == start.run),
                _ => false,
            });
            if sent_now {
                // It never left: what this record would have sent out is not owed at its end. A first attempt then
                // counts as not started, so that nothing is undone for it.
                if live.attempt == base + 1 && item + 1 == work.next {
                    work.next -= 1;
                }
                work.live.remove(&item);
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
                At::Stopping | At::Backoff { .. } => {}
            }
        }
        self.applied.effects.extend(owed);
    }

    /// A step did what it should; `result` may still be reshaped.
    pub(super) fn complete(&mut self, at: usize, result: Value) {
        match &self.definition.steps[at].output {
            None => self.done(at, result),
            Some(output) => match scope::eval(self.run, self.definition, output, vec![("result", result)]) {
                Ok(output) => self.done(at, output),
                Err(error) => self.fail(at, permanent("E0205", error.to_string())),
            },
        }
    }

    fn done(&mut self, at: usize, output: Value) {
        let late = self.run.phase != Phase::Running;
        self.set_status(at, Status::Done { output, late });
        self.settle(at);
    }

    pub(super) fn fail(&mut self, at: usize, failure: Failure) {
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
            Status::Pending | Status::Active | Status::Waiting { .. } | Status::Done { .. } => false,
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
        let failed = (0..self.run.steps.len()).filter(|at| matches!(self.run.steps[*at].status, Status::Failed(_)));
        failed.into_iter().find(|at| {
            !self.definition.dependents[*at].iter().any(|behind| {
                let hopeful = match self.run.steps[*behind].status {
                    Status::Pending | Status::Active | Status::Waiting { .. } | Status::Done { .. } => true,
                    Status::Skipped(_) | Status::Failed(_) | Status::Halted => false,
                };
                hopeful && self.definition.steps[*behind].catches()
            })
        })
    }

    /// The run cannot succeed any more: everything that is out is called back.
    pub(super) fn doom(&mut self, cause: Cause) {
        if self.run.phase != Phase::Running {
            return;
        }
        self.retracted = true;
        self.run.cause = Some(cause);
        self.set_phase(Phase::Halting);
        for at in 0..self.run.steps.len() {
            match self.run.steps[at].status {
                Status::Pending if !self.definition.steps[at].runs_after_failure() => {
                    self.set_status(at, Status::Skipped(Skip::Halted));
                }
                Status::Waiting { .. } => self.set_status(at, Status::Halted),
                Status::Active => self.stop(at),
                Status::Pending | Status::Done { .. } | Status::Skipped(_) | Status::Failed(_) | Status::Halted => {}
            }
        }
        for at in 0..self.run.steps.len() {
            match self.run.steps[at].status {
                Status::Active => self.settle_work(at),
                Status::Pending => self.consider(at),
                Status::Waiting { .. }
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
        if !self.run.steps.iter().rev().all(|step| step.status.is_settled()) {
            return;
        }
        if self.run.phase == Phase::Running {
            match self
                .definition
                .output
                .as_ref()
                .map(|output| scope::eval(self.run, self.definition, output, Vec::new()))
            {
                None => return self.end(End::Succeeded),
                Some(Ok(output)) => {
                    self.run.output = output;
                    return self.end(End::Succeeded);
                }
                Some(Err(error)) => {
                    let failure = permanent("E0205", format!("the output of the run: {error}"));
                    self.run.cause = Some(Cause { step: None, failure, cancelled: false, compensate: true });
                    self.set_phase(Phase::Halting);
                }
            }
        }
        if self.run.phase == Phase::Halting {
            self.begin_unwind();
        }
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

fn instant(value: &Value) -> Option<UtcMs> {
    match value {
        Value::Number(number) => number.as_u64().map(UtcMs),
        Value::String(text) => {
            let at: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(at.as_millisecond()).ok().map(UtcMs)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
