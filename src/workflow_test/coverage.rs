//! What the cases of a file saw of their workflows: steps that ran, conditions that skipped, ways back that were taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::run::{Skip, Status, Undo};
use patchloom_core::{Action, Definition, Partition};

/// Something that a case can see of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// It ran.
    Ran,
    /// Its condition skipped it.
    Skipped,
    /// Its way back was taken.
    Undone,
}

impl Sight {
    /// What nobody saw, in words.
    #[must_use]
    pub fn missed(self, step: &str) -> String {
        match self {
            Self::Ran => format!("{step} never runs"),
            Self::Skipped => format!("the condition of {step} never skips it"),
            Self::Undone => format!("the way back of {step} is never taken"),
        }
    }
}

/// Sights by workflow and step.
pub type Sights = BTreeSet<(Arc<str>, String, Sight)>;

/// What there is to see of a workflow.
#[must_use]
pub fn sights(definition: &Definition) -> Sights {
    let mut all = Sights::new();
    for step in &definition.steps {
        let mut add = |sight| all.insert((Arc::clone(&definition.name), step.name.to_string(), sight));
        add(Sight::Ran);
        if step.condition.is_some() {
            add(Sight::Skipped);
        }
        if step.compensate.is_some() && matches!(step.action, Action::Task { .. }) {
            add(Sight::Undone);
        }
    }
    all
}

/// What the runs of a state show.
pub(super) fn seen(state: &Partition) -> Sights {
    let mut seen = Sights::new();
    for run in state.runs() {
        let Some(definition) = state.definition(&run.start.version) else { continue };
        for (step, state) in definition.steps.iter().zip(&run.steps) {
            let mut add = |sight| seen.insert((Arc::clone(&definition.name), step.name.to_string(), sight));
            match &state.status {
                Status::Skipped(Skip::Condition) => drop(add(Sight::Skipped)),
                Status::Skipped(_) | Status::Pending => {}
                _ => drop(add(Sight::Ran)),
            }
            if !matches!(state.undo, Undo::NotNeeded | Undo::Owed) {
                add(Sight::Undone);
            }
        }
    }
    seen
}

/// By workflow: how much there is to see, and what of it nobody saw.
pub type Missing = BTreeMap<Arc<str>, (usize, Vec<(String, Sight)>)>;

/// How much of each workflow was seen.
#[must_use]
pub fn missing(all: &Sights, seen: &Sights) -> Missing {
    let mut found = Missing::new();
    for sight in all {
        let (count, missing) = found.entry(Arc::clone(&sight.0)).or_default();
        *count += 1;
        if !seen.contains(sight) {
            missing.push((sight.1.clone(), sight.2));
        }
    }
    found
}
