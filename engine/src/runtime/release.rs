//! From records to effects: what the leader does once a record is durable, and again after a restart.

use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{End, Event, TimerKey, TimerKind};
use patchloom_core::run::{Applied, FactKind, Refusal, Run};
use patchloom_core::{Action, Effect, Leg, Millis, Outcome, RunId, TaskKey, UtcMs};
use tracing::warn;

use super::handle::Seen;
use super::keeper::{Keeper, Kept};
use super::leader::Leader;
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
                Effect::UnwindChild { child, failure } => self.say(Event::UnwindRequested { run: child, failure }),
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
                self.say(Event::AttemptFinished { task, outcome: Outcome::Cancelled });
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
                self.gone.insert(*run);
                self.archiving.remove(run);
                self.unset_ended(*run);
            }
            Event::RunStarted(start) => {
                self.dirty_head |= start.key.is_some();
                self.dirty.insert(start.run);
            }
            other => self.dirty.extend(other.run()),
        }
        for fact in applied.facts.iter().filter(|fact| matches!(fact.kind, FactKind::Phase(_))) {
            self.unset_ended(fact.run);
            if let Some(run) = self.state.run(fact.run).filter(|run| run.end().is_some()).cloned() {
                self.forget_timers(run.id());
                self.note_end(&run);
                self.children_may_go(&run);
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

    /// Has a run that is over go to the archive when its time comes. While a run above it is open it has none: it may
    /// be taken back, and is noted when that one ends.
    fn note_end(&mut self, run: &Run) {
        if self.state.ancestors(run).all(|ancestor| ancestor.end().is_some()) {
            self.set_ended(run.id(), self.archive_time(run));
        }
    }

    /// When a run that is over may go to the archive: not before those above it, which may be retried until then.
    fn archive_time(&self, run: &Run) -> UtcMs {
        let own = self.own_archive_time(run);
        // One later than its parent each: who is retried must not find its children gone.
        self.state.ancestors(run).zip(1..).fold(own, |when, (ancestor, above)| {
            when.max(UtcMs(self.own_archive_time(ancestor).0.saturating_add(above)))
        })
    }

    fn own_archive_time(&self, run: &Run) -> UtcMs {
        let ended = run.ended.unwrap_or(run.started);
        let stays = match run.end() {
            Some(End::Succeeded) | None => Duration::ZERO,
            Some(End::Failed | End::Compensated | End::Cancelled) if run.start.parent.is_some() => Duration::ZERO,
            Some(End::Failed | End::Compensated | End::Cancelled) => self.tuning.failed_kept,
        };
        UtcMs(ended.0.saturating_add(u64::try_from(stays.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The runs below one that is over were kept for it; they may go when it goes.
    fn children_may_go(&mut self, run: &Arc<Run>) {
        let Some(definition) = self.state.definition(&run.start.version).cloned() else { return };
        for (step, state) in definition.steps.iter().zip(&run.steps) {
            let (Action::Workflow { .. }, Some(work)) = (&step.action, &state.work) else { continue };
            for item in 0..work.next {
                for attempt in 1..=work.highest {
                    let child = run.id().child(&step.name, item, attempt);
                    if let Some(child) = self.state.run(child).filter(|child| child.end().is_some()).cloned() {
                        self.note_end(&child);
                        self.children_may_go(&child);
                    }
                }
            }
        }
    }

    /// The keeper reports.
    pub(super) fn kept(&mut self, kept: Kept) {
        for run in kept.archived {
            self.archiving.remove(&run);
            self.say(Event::RunRetired { run });
        }
        // Not at once: what refused them a moment ago, a full disk, is likely to do so again.
        let again = self.clock.now() + ARCHIVE_RETRY;
        for run in kept.refused {
            self.archiving.remove(&run);
            self.set_ended(run, again);
        }
        if let Some(seq) = kept.trim_before {
            self.trim_before = Some(seq);
        }
        if let Some(problem) = kept.problem {
            warn!(%problem, "what lies behind the journal could not be written; the journal keeps it");
        }
    }
}
