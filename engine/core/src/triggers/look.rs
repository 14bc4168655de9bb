//! What the leader and the faces ask of triggers.

use super::fold::triggers;
use super::schedule::{ScheduleKey, Scheduled, jitter};
use super::seen::Seen;
use crate::definition::{ScheduleTrigger, Trigger};
use crate::event::CloudEvent;
use crate::{Partition, UtcMs};

impl Partition {
    /// Whether an event can matter: a trigger is for its type, a step waits for it, or one may do so soon; and it did
    /// not come before. What does not matter need not be recorded.
    #[must_use]
    pub fn wants(&self, event: &CloudEvent, now: UtcMs) -> bool {
        let state = &self.triggers;
        let interesting = state.interest.triggers(&event.kind).next().is_some()
            || state.interest.kept(&event.kind).is_some()
            || state.subscriptions.wants(event);
        interesting && !self.has_seen(event, now)
    }

    /// Whether an event came in the last 24 hours.
    #[must_use]
    pub fn has_seen(&self, event: &CloudEvent, now: UtcMs) -> bool {
        self.triggers.seen.knows(Seen::name(event), now)
    }

    /// A schedule of the latest version of a workflow.
    #[must_use]
    pub fn schedule(&self, key: &ScheduleKey) -> Option<&ScheduleTrigger> {
        let definition = self.latest(&key.workflow).and_then(|version| self.definition(version))?;
        match triggers(definition, key.index) {
            Some(Trigger::Schedule(schedule)) => Some(schedule),
            Some(Trigger::Event(_)) | None => None,
        }
    }

    /// All schedules of the latest versions, armed or not yet.
    pub fn schedules(&self) -> impl Iterator<Item = (ScheduleKey, &ScheduleTrigger, Option<&Scheduled>)> {
        self.workflows().iter().flat_map(|(workflow, version)| {
            let triggers =
                self.definition(version).map(|definition| definition.triggers.as_slice()).unwrap_or_default();
            (0..).zip(triggers).filter_map(|(index, trigger)| match trigger {
                Trigger::Event(_) => None,
                Trigger::Schedule(schedule) => {
                    let key = ScheduleKey { workflow: workflow.clone(), index };
                    let state = self.scheduled(&key);
                    Some((key, schedule, state))
                }
            })
        })
    }

    /// Where a schedule stands; `None` where it is not armed.
    #[must_use]
    pub fn scheduled(&self, key: &ScheduleKey) -> Option<&Scheduled> {
        self.triggers.schedules.get(key)
    }

    /// When a schedule comes due next: the instant of its rule and its jitter.
    #[must_use]
    pub fn schedule_comes(&self, key: &ScheduleKey) -> Option<UtcMs> {
        let next = self.scheduled(key)?.next?;
        Some(next + jitter(&key.workflow, next, self.schedule(key)?.jitter))
    }

    /// The rows of triggers that changed since this was last asked; `None` for those that are gone.
    pub fn take_touched_triggers(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        self.triggers.take_touched()
    }

    /// Whether rows of triggers changed.
    #[must_use]
    pub fn triggers_touched(&self) -> bool {
        self.triggers.is_touched()
    }
}
