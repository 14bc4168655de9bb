//! From records to effects: what the leader does once a record is durable, and again after a restart.

use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{End, Event, TimerKey, TimerKind};
use patchloom_core::run::{Applied, FactKind, Refusal, Run};
use patchloom_core::{Effect, Failure, FailureClass, Leg, Millis, Outcome, RunId, TaskKey, UtcMs};
use tracing::warn;

use super::handle::Seen;
use super::keeper::{Keeper, Kept};
use super::leader::{Leader, millis};
use crate::queue::{Recall, TaskQueue};

/// How long runs wait that the archive refused.
const ARCHIVE_RETRY: Millis = Millis(5_000);

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// Releases all that the state owes: after a start there is nothing else to remember.
    pub(super) fn release_all(&mut self) {
        let owed: Vec<Effect> = self.state.pending().into_values().collect();
        self.release(owed);
        let over: Vec<Arc<Run>> = self.state.runs().filter(|run| run.end().is_some()).cloned().collect();
        for run in over {
            self.note_end(&run);
        }
        self.plan_all();
    }

    pub(super) fn release(&mut self, effects: Vec<Effect>) {
        let mut tasks = Vec::new();
        let mut recalls: Vec<TaskKey> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Dispatch(task) => tasks.push(*task),
                Effect::Cancel(key) => recalls.push(key),
                Effect::Emit { task, event } => self.emit(task, *event),
                Effect::Timer(timer, due) => self.arm(timer, due),
                Effect::StartChild(start) => self.say(Event::RunStarted(start)),
                Effect::CancelChild { child, reason } => {
                    self.say(Event::CancelRequested { run: child, compensate: true, reason });
                }
                Effect::UnwindChild { child, task, failure } => {
                    self.unwinding.insert(child, (task, failure.clone()));
                    self.say(Event::UnwindRequested { run: child, failure });
                }
                Effect::InformParent { link, report } => self.say(Event::ChildEnded { link, report }),
            }
        }
        if !tasks.is_empty() {
            self.queue.publish(tasks);
        }
        for task in recalls {
            if self.queue.recall(&task) == Recall::NotOut {
                // No worker has it, so none will answer: the leader does.
                self.queue.forget(std::slice::from_ref(&task));
                self.say(Event::AttemptFinished { task, outcome: Outcome::Cancelled, tell: Vec::new() });
            }
        }
    }

    fn arm(&mut self, timer: TimerKey, due: UtcMs) {
        if let Some(former) = self.due.insert(timer.clone(), due) {
            self.timers.remove(&(former, timer.clone()));
        }
        self.timers.insert((due, timer));
    }

    pub(super) fn fire_timers(&mut self, now: UtcMs) {
        while let Some((due, _)) = self.timers.first()
            && *due <= now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            self.due.remove(&timer);
            self.say(Event::TimerFired { timer });
        }
    }

    /// What an entry means for the leader's own books, whether it changed the state or said what was known.
    pub(super) fn follow_up(&mut self, event: &Event, seen: &Seen, own: bool) {
        match event {
            Event::AttemptFinished { task, .. } => self.queue.forget(std::slice::from_ref(task)),
            Event::RunStarted(start) => {
                if let Some(link) = &start.parent
                    && self.state.run(start.run).is_some()
                {
                    self.say(Event::ChildStarted { link: link.clone(), child: start.run });
                }
            }
            // One that is quarantined has not heard it: it is told again when it is released.
            Event::ChildEnded { report, .. } if !matches!(seen, Err(Refusal::Illegal(_))) => {
                self.say(Event::ParentInformed { run: report.child, ending: report.ending });
            }
            Event::UnwindRequested { run, .. } if self.unwinding.contains_key(run) => {
                // It went to the archive when its parent knew of its end.
                if self.state.run(*run).is_none() {
                    self.sought.insert(*run);
                } else {
                    self.unwinding.remove(run);
                }
            }
            Event::RunRecalled { run } if self.state.run(run.id()).is_none() => {
                let reason = seen.as_ref().err().map(ToString::to_string).unwrap_or_default();
                self.lost(run.id(), &reason);
            }
            _ => self.plan_after(event),
        }
        if let (Err(Refusal::Illegal(reason)), true) = (seen, own) {
            warn!(event = event.name(), run = ?event.run(), %reason, "the state refused what the engine said");
        }
    }

    /// Notes what a record changed, for the next checkpoint.
    pub(super) fn changed(&mut self, event: &Event, applied: &Applied) {
        self.dirty.extend(applied.touched.iter().copied());
        match event {
            Event::DefinitionRegistered { .. } => self.dirty_head = true,
            Event::RunRetired { run } => {
                self.dirty.remove(run);
                // Most runs begin and end between two checkpoints: no row of those has to go.
                if self.stored.remove(run) {
                    self.gone.insert(*run);
                }
                if !self.departing.contains_key(run) {
                    self.archiving.remove(run);
                }
                self.unset_ended(*run);
            }
            Event::RunStarted(start) => {
                self.dirty_head |= start.key.is_some();
                self.dirty.insert(start.run);
            }
            Event::RunRecalled { run } => {
                if self.gone.remove(&run.id()) {
                    self.stored.insert(run.id());
                }
                self.dirty.insert(run.id());
                // Should nothing come of it, it goes back there.
                if let Some(run) = self.state.run(run.id()).filter(|run| run.end().is_some()).cloned() {
                    self.note_end(&run);
                }
            }
            other => self.dirty.extend(other.run()),
        }
        // Places are handed on from run to run, and a run may have another one make room.
        self.dirty.extend(&applied.touched);
        for fact in applied.facts.iter().filter(|fact| matches!(fact.kind, FactKind::Phase(_))) {
            self.unset_ended(fact.run);
            if fact.kind == FactKind::Phase("quarantined") {
                self.call_back(fact.run);
            }
            if let Some(run) = self.state.run(fact.run).filter(|run| run.end().is_some()).cloned() {
                self.forget_timers(run.id());
                self.note_end(&run);
            }
        }
    }

    /// Whether a task is still to be handed out; other effects settle by themselves.
    pub(super) fn is_owed(&self, effect: &Effect) -> bool {
        let Effect::Dispatch(task) = effect else { return true };
        let Some(run) = self.state.run(task.key.run).filter(|run| run.phase.name() != "quarantined") else {
            return false;
        };
        let definition = self.state.definition(&run.start.version);
        definition.is_some_and(|definition| run.tasks(definition).any(|key| key == task.key))
    }

    /// Nothing of a run that is set aside is begun any more; what is with a worker is asked to stop.
    fn call_back(&mut self, run: RunId) {
        let tasks = self.state.run(run).and_then(|run| {
            let definition = self.state.definition(&run.start.version)?;
            Some(run.tasks(definition).collect::<Vec<TaskKey>>())
        });
        for task in tasks.unwrap_or_default() {
            if self.queue.recall(&task) == Recall::NotOut {
                self.queue.forget(std::slice::from_ref(&task));
            }
        }
    }

    fn forget_timers(&mut self, run: RunId) {
        // The lowest key of this run: timers are sorted by run first.
        let kind = TimerKind::Backoff { step: "".into(), item: 0, leg: Leg::Forward, attempt: 0 };
        let from = TimerKey { run, kind };
        let of_run: Vec<TimerKey> =
            self.due.range(from..).map(|(timer, _)| timer).take_while(|timer| timer.run == run).cloned().collect();
        for timer in of_run {
            if let Some(due) = self.due.remove(&timer) {
                self.timers.remove(&(due, timer));
            }
        }
    }

    pub(super) fn set_ended(&mut self, run: RunId, when: UtcMs) {
        self.unset_ended(run);
        self.ended.insert((when, run));
        self.ended_when.insert(run, when);
    }

    pub(super) fn unset_ended(&mut self, run: RunId) {
        if let Some(when) = self.ended_when.remove(&run) {
            self.ended.remove(&(when, run));
        }
    }

    /// Has a run that is over go to the archive when its time comes.
    fn note_end(&mut self, run: &Run) {
        self.set_ended(run.id(), self.archive_time(run));
    }

    /// When a run that is over may go to the archive. A child at once, whatever becomes of its parent: should that one
    /// take it back, it is recalled.
    fn archive_time(&self, run: &Run) -> UtcMs {
        let ended = run.ended.unwrap_or(run.started);
        let definition = self.state.definition(&run.start.version);
        let retention = definition.and_then(|definition| definition.retention);
        let stays = match run.end() {
            // Nobody but the leader starts a child.
            _ if run.start.parent.is_some() => Duration::ZERO,
            None => Duration::ZERO,
            Some(End::Succeeded) => self.tuning.succeeded_kept,
            Some(End::Failed | End::Compensated | End::Cancelled) => self.tuning.failed_kept,
        };
        let stays = millis(stays);
        let least = millis(self.tuning.succeeded_kept).min(stays);
        UtcMs(ended.0.saturating_add(stays.min(retention.unwrap_or(stays)).max(least).0))
    }

    /// A child run that is to be taken back cannot be had: its parent's compensation fails, and a person decides.
    fn lost(&mut self, child: RunId, reason: &str) {
        let Some((task, failure)) = self.unwinding.remove(&child) else { return };
        let message = format!(
            "the child run {child} cannot be taken back: {reason}; it was to be, because of {}: {}",
            failure.code, failure.message
        );
        let details = serde_json::json!({"child": child});
        let failure = Failure { code: "E0326".into(), class: FailureClass::Permanent, message, details };
        self.say(Event::AttemptFinished { task, outcome: Outcome::Failed(failure), tell: Vec::new() });
    }

    /// The keeper reports.
    pub(super) fn kept(&mut self, kept: Kept) {
        for run in kept.archived {
            self.archiving.remove(&run);
            if self.departing.remove(&run).is_none() {
                self.say(Event::RunRetired { run });
            }
        }
        if !kept.refused.is_empty() {
            let newer = self.recent.take();
            self.recent = kept.recent;
            self.recent.append(newer);
        }
        for (child, found) in kept.sought {
            let Some((_, failure)) = self.unwinding.get(&child) else { continue };
            let failure = failure.clone();
            match found {
                Ok(run) => {
                    self.say(Event::RunRecalled { run });
                    self.say(Event::UnwindRequested { run: child, failure });
                }
                Err(reason) => self.lost(child, &reason),
            }
        }
        if let Some(forgotten) = kept.forgotten {
            // Whoever asked may have gone.
            self.clearing.drain(..).for_each(|reply| drop(reply.send(forgotten.clone())));
        }
        if let Some(bytes) = kept.written {
            self.written = bytes;
        }
        // Not at once: what refused them a moment ago, a full disk, is likely to do so again.
        let again = self.clock.now() + ARCHIVE_RETRY;
        for run in kept.refused {
            self.archiving.remove(&run);
            if !self.departing.contains_key(&run) {
                self.set_ended(run, again);
            }
        }
        if let Some(seq) = kept.trim_before {
            self.trim_before = Some(seq);
        }
        if let Some(problem) = kept.problem {
            warn!(%problem, "what lies behind the journal could not be written; the journal keeps it");
        }
    }
}
