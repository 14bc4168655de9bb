//! The way back of each step, read off a definition before anything runs.
//!
//! Says what `run::unwind` will do; knows no run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::definition::{Action, Definition, Step};
use crate::{Set, StepName};

/// Definitions by name: those of child workflows are looked up in it.
pub type Known = BTreeMap<Arc<str>, Arc<Definition>>;

/// How deep child workflows are followed.
const DEPTH_MAX: usize = 8;

/// What happens when one step fails for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WayBack {
    /// The step that fails.
    pub step: StepName,
    /// Steps that take the failure upon themselves: where one of them runs and succeeds, nothing is undone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caught_by: Vec<StepName>,
    /// The point of no return that lies behind: nothing is undone at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond: Option<StepName>,
    /// Points of no return that may have been passed by then: in that case nothing is undone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<StepName>,
    /// What is undone, in this order.
    pub undo: Vec<Undoing>,
    /// What may have run and has no way back, and why.
    pub nothing: Vec<Untouched>,
}

/// A step that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Untouched {
    /// The step.
    pub step: StepName,
    /// Why.
    pub reason: String,
}

/// One step on the way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undoing {
    /// The step that is undone.
    pub step: StepName,
    /// Counts from 1; steps of one round are undone at the same time.
    pub round: usize,
    /// Whether it is undone in any case; else only if it had started by then.
    pub certain: bool,
    /// Whether it fans out: then item by item, the last one first.
    pub each_item: bool,
    /// How.
    #[serde(flatten)]
    pub how: How,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum How {
    /// By its compensation.
    Task {
        /// The task type.
        uses: Arc<str>,
        /// How often it is tried before a person is asked.
        attempts: u32,
    },
    /// Its child run failed and has undone itself by then.
    Itself {
        /// The child's workflow.
        workflow: Arc<str>,
    },
    /// Its child run had succeeded and is taken back.
    Child {
        /// The child's workflow.
        workflow: Arc<str>,
        /// Points of no return in it: where one was passed, the child is left as it is.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unless: Vec<StepName>,
        /// What is undone in it, in this order.
        undo: Vec<Undoing>,
    },
    /// Its child's workflow is not at hand, or nests too deep to be shown.
    Unknown {
        /// The child's workflow.
        workflow: Arc<str>,
    },
}

/// The way back from a failure of each step, in the order of the steps.
#[must_use]
pub fn ways_back(definition: &Definition, known: &Known) -> Vec<WayBack> {
    (0..definition.steps.len()).map(|at| way_back(definition, at, known)).collect()
}

fn way_back(definition: &Definition, failing: usize, known: &Known) -> WayBack {
    let step = &definition.steps[failing];
    let catchers = definition.dependents[failing].iter().map(|at| &definition.steps[*at]);
    let caught_by = catchers.filter(|step| step.catches()).map(|step| step.name.clone()).collect();
    let pivots = || definition.steps.iter().enumerate().filter(|(at, step)| step.pivot && *at != failing);
    let ran = |at: usize| ran_before(definition, failing, at);
    let beyond = pivots().find(|(at, _)| ran(*at) == Some(true)).map(|(_, step)| step.name.clone());
    let mut way = WayBack {
        step: step.name.clone(),
        caught_by,
        beyond,
        unless: Vec::new(),
        undo: Vec::new(),
        nothing: Vec::new(),
    };
    if way.beyond.is_some() {
        return way;
    }
    way.unless = pivots().filter(|(at, _)| ran(*at).is_some()).map(|(_, step)| step.name.clone()).collect();
    let mut found = Vec::new();
    for (at, other) in definition.steps.iter().enumerate() {
        let Some(certain) = ran(at) else { continue };
        let how = if at == failing { failed(other) } else { None };
        match how.map_or_else(|| done(other, known, 1), Ok) {
            Ok(how) => found.push((at, certain, how)),
            Err(reason) => way.nothing.push(Untouched { step: other.name.clone(), reason }),
        }
    }
    way.undo = in_order(definition, found);
    way
}

/// Whether the step at `at` had started when the one at `failing` fails: surely, perhaps, or (`None`) not.
fn ran_before(definition: &Definition, failing: usize, at: usize) -> Option<bool> {
    let step = &definition.steps[at];
    if at == failing {
        return Some(true);
    }
    if definition.upstream[failing].contains(at) {
        // What runs after failures may find its upstream failed or skipped.
        return Some(step.condition.is_none() && !definition.steps[failing].runs_after_failure());
    }
    if definition.upstream[at].contains(failing) {
        // Behind the failure only what asks for failures runs, and it runs before the way back begins.
        return step.runs_after_failure().then_some(false);
    }
    Some(false)
}

/// How the step that fails is undone, where that differs from one that succeeded.
fn failed(step: &Step) -> Option<How> {
    match &step.action {
        Action::Workflow { name, .. } => Some(How::Itself { workflow: Arc::clone(name) }),
        Action::Steps(inner) => Some(How::Itself { workflow: Arc::clone(&inner.name) }),
        Action::Task { .. } | Action::Wait(_) | Action::Set(_) | Action::Fail(_) | Action::Emit(_) => None,
    }
}

/// How a step that ran is undone, or why it is not.
fn done(step: &Step, known: &Known, depth: usize) -> Result<How, String> {
    match (&step.action, &step.compensate) {
        (Action::Task { .. }, Some(undo)) => {
            Ok(How::Task { uses: Arc::clone(&undo.uses), attempts: undo.retry.attempts })
        }
        (Action::Task { .. }, None) => Err("it has no `compensate`".into()),
        (Action::Workflow { name, .. }, _) => match known.get(name).filter(|_| depth <= DEPTH_MAX) {
            Some(definition) => child(definition, known, depth),
            None => Ok(How::Unknown { workflow: Arc::clone(name) }),
        },
        (Action::Steps(inner), _) => child(inner, known, depth),
        (Action::Wait(_), _) => Err("it only waits".into()),
        (Action::Set(_), _) => Err("it only computes".into()),
        (Action::Fail(_), _) => Err("it only fails".into()),
        (Action::Emit(_), _) => Err("what was published cannot be called back".into()),
    }
}

/// How a child run that succeeded is taken back, or why it is not.
fn child(definition: &Definition, known: &Known, depth: usize) -> Result<How, String> {
    let name = &definition.name;
    let pivots = || definition.steps.iter().filter(|step| step.pivot);
    if let Some(pivot) = pivots().find(|step| step.condition.is_none()) {
        return Err(format!("`{}` in its child run `{name}` is the point of no return", pivot.name));
    }
    let found: Vec<(usize, bool, How)> = definition
        .steps
        .iter()
        .enumerate()
        .filter_map(|(at, step)| Some((at, step.condition.is_none(), done(step, known, depth + 1).ok()?)))
        .collect();
    if found.is_empty() {
        return Err(format!("nothing in its child run `{name}` has a way back"));
    }
    let unless = pivots().map(|step| step.name.clone()).collect();
    Ok(How::Child { workflow: Arc::clone(name), unless, undo: in_order(definition, found) })
}

/// Reverse order of the graph: a step follows all that stand behind it; ties go from the last to the first.
fn in_order(definition: &Definition, mut found: Vec<(usize, bool, How)>) -> Vec<Undoing> {
    found.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    let mut rounds: Vec<(usize, usize)> = Vec::with_capacity(found.len());
    for (at, ..) in &found {
        let behind = |upstream: &Set| upstream.contains(*at);
        let after = rounds.iter().filter(|(other, _)| behind(&definition.upstream[*other])).map(|(_, round)| *round);
        let round = after.max().unwrap_or(0) + 1;
        rounds.push((*at, round));
    }
    let mut undo: Vec<Undoing> = found
        .into_iter()
        .zip(rounds)
        .map(|((at, certain, how), (_, round))| {
            let step = &definition.steps[at];
            Undoing { step: step.name.clone(), round, certain, each_item: step.for_each.is_some(), how }
        })
        .collect();
    undo.sort_by_key(|one| one.round);
    undo
}

#[cfg(test)]
mod tests;
