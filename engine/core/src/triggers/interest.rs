//! What the registered definitions want to hear of. Derived from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::recent::RECENT_KEPT_MAX;
use crate::definition::{Action, Trigger, Wait};
use crate::{Definition, Millis};

/// A trigger: the workflow's name, and which of its triggers.
pub(super) type Place = (Arc<str>, u32);

/// Which types of events matter, and to whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    /// The event triggers of the latest definitions, by type.
    triggers: BTreeMap<Arc<str>, BTreeSet<Place>>,
    /// How long before a wait an event may have come, by type; of all definitions that a run may be pinned to.
    kept: BTreeMap<Arc<str>, Millis>,
}

impl Interest {
    /// Learns for which events the steps of `definition` wait.
    pub fn know(&mut self, definition: &Definition) {
        for step in &definition.steps {
            match &step.action {
                Action::Wait(Wait::Event(wait)) if wait.since > Millis(0) => {
                    let kept = self.kept.entry(Arc::clone(&wait.kind)).or_default();
                    *kept = (*kept).max(wait.since).min(RECENT_KEPT_MAX);
                }
                Action::Steps(inner) => self.know(inner),
                Action::Task { .. }
                | Action::Workflow { .. }
                | Action::Wait(_)
                | Action::Set(_)
                | Action::Fail(_)
                | Action::Emit(_) => {}
            }
        }
    }

    /// `definition` is what its name means from here on.
    pub fn make_latest(&mut self, definition: &Definition) {
        for places in self.triggers.values_mut() {
            places.retain(|(workflow, _)| *workflow != definition.name);
        }
        self.triggers.retain(|_, places| !places.is_empty());
        for (index, trigger) in (0..).zip(&definition.triggers) {
            if let Trigger::Event(trigger) = trigger {
                let places = self.triggers.entry(Arc::clone(&trigger.kind)).or_default();
                places.insert((Arc::clone(&definition.name), index));
            }
        }
    }

    /// The triggers for a type.
    pub fn triggers(&self, kind: &str) -> impl Iterator<Item = &Place> {
        self.triggers.get(kind).into_iter().flatten()
    }

    /// How long events of a type are kept for waits to come.
    pub fn kept(&self, kind: &str) -> Option<Millis> {
        self.kept.get(kind).copied()
    }
}
