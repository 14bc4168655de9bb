//! A run that ended goes again, in part: what holds keeps its output, the rest begins anew under new attempt numbers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::FactKind;
use super::machine::{Machine, Refusal};
use super::{At, Live, Phase, Run, Skip, Status, StepRun, Undo, Work};
use crate::definition::Step;
use crate::record::{End, Rerun};
use crate::{Definition, Digest, StepName};

impl Machine<'_> {
    /// Tries again: the compensations that failed, or all that a failed run did not keep.
    pub fn retry(&mut self) -> Result<(), Refusal> {
        match self.run.phase {
            Phase::CompensationFailed => {
                for at in 0..self.run.steps.len() {
                    if let Undo::Failed(undo) = &self.run.steps[at].undo {
                        let items: Vec<u32> = undo.failed.keys().copied().collect();
                        self.undo_again(at, &items);
                    }
                }
                Ok(())
            }
            Phase::Ended(End::Succeeded) => {
                Err(Refusal::Illegal("the run succeeded: there is nothing to retry".into()))
            }
            _ => self.rerun(&Rerun::Failed, &Map::new()),
        }
    }

    /// A run that ended goes again.
    pub fn rerun(&mut self, from: &Rerun, inputs: &Map<String, Value>) -> Result<(), Refusal> {
        let Phase::Ended(end) = self.run.phase else {
            let message = format!(
                "the run is {}: only a run that ended, or whose compensation failed, goes again",
                self.run.phase.name()
            );
            return Err(Refusal::Illegal(message));
        };
        if self.run.start.parent.is_some() {
            return Err(Refusal::Illegal("this is a child run: have its parent go again".into()));
        }
        if end == End::Succeeded && *from == Rerun::Failed && inputs.is_empty() {
            return Err(Refusal::Illegal("the run succeeded: name the step from which it goes again".into()));
        }
        let given = merged(&self.run.inputs, inputs);
        let accepted = self
            .definition
            .accept(&given)
            .map_err(|reasons| Refusal::Illegal(format!("the inputs do not fit: {}", reasons.join("; "))))?;
        let chosen = match from {
            Rerun::Failed => None,
            Rerun::Step(step) | Rerun::Items(step) => Some(self.step(step)?),
        };
        if let (Rerun::Items(step), Some(at)) = (from, chosen) {
            self.has_failed_items(at, step)?;
        }
        self.run.inputs = Arc::new(accepted);
        self.reopen(from, chosen, inputs);
        Ok(())
    }

    fn has_failed_items(&self, at: usize, step: &StepName) -> Result<(), Refusal> {
        let state = &self.run.steps[at];
        if state.undo != Undo::NotNeeded {
            return Err(Refusal::Illegal(format!(
                "what `{step}` did was undone: have the run go again from that step"
            )));
        }
        let some = state.work.as_ref().is_some_and(|work| !work.failed.is_empty() || !work.rested.is_empty());
        if some { Ok(()) } else { Err(Refusal::Illegal(format!("no item of `{step}` has failed"))) }
    }

    fn reopen(&mut self, from: &Rerun, chosen: Option<usize>, inputs: &Map<String, Value>) {
        let mut anew = vec![false; self.run.steps.len()];
        for at in 0..anew.len() {
            let step = &self.definition.steps[at];
            let holds = match &self.run.steps[at].status {
                Status::Done { late, .. } => !late && self.run.steps[at].undo == Undo::NotNeeded,
                Status::Skipped(Skip::Condition | Skip::Operator) => self.run.steps[at].undo == Undo::NotNeeded,
                Status::Pending
                | Status::Active
                | Status::Waiting { .. }
                | Status::Held { .. }
                | Status::Skipped(_)
                | Status::Failed(_)
                | Status::Halted => false,
            };
            anew[at] = !holds
                || step.finally
                || chosen == Some(at)
                || reads_inputs(step, inputs)
                || step.needs.iter().any(|need| anew[*need]);
        }
        let items = matches!(from, Rerun::Items(_)).then_some(chosen).flatten();
        self.run.cause = None;
        self.run.ended = None;
        self.run.undone_below = false;
        // The run's own limit counts from here: it is a new try.
        self.run.started = self.now;
        self.run.rested = crate::Millis(0);
        self.set_phase(Phase::Running);
        for at in (0..anew.len()).filter(|at| anew[*at] && items != Some(*at)) {
            self.begin_anew(at);
        }
        if let Some(at) = items {
            self.items_again(at);
            self.set_status(at, Status::Active);
        }
        self.enter();
        if let Some(at) = items.filter(|_| self.run.phase == Phase::Running) {
            self.progress(at);
        }
    }

    /// A step begins anew; its attempts go on counting: a key is used once.
    pub(super) fn begin_anew(&mut self, at: usize) {
        let step = &self.run.steps[at];
        let base = step.work.as_ref().map_or(step.base, |work| step.base.max(work.highest));
        let undo_base = step.undo_base;
        if matches!(step.status, Status::Pending) && step.base == base && step.undo == Undo::NotNeeded {
            return;
        }
        let step = std::mem::take(&mut self.run.steps[at]);
        let mut former = step.former;
        // What was undone needs no way back any more; what was not stays owed, whatever this try does.
        match (step.undo, step.work) {
            (Undo::NotNeeded, Some(mut work)) => {
                if super::unwind::leaves_something(&self.definition.steps[at], &work) {
                    work.lanes = super::Lanes::default();
                    former.push(*work);
                }
            }
            (Undo::NotNeeded, None) => {}
            (Undo::Done { .. } | Undo::Owed | Undo::Active(_) | Undo::Failed(_), _) => former.clear(),
        }
        self.run.steps[at] = StepRun { base, undo_base, former, since: self.now, ..StepRun::default() };
        self.tell(FactKind::Step(self.definition.steps[at].name.clone(), "pending"));
    }

    /// The items of a step that came to nothing stand in line again; the others keep their output.
    pub(super) fn items_again(&mut self, at: usize) {
        let state = &mut self.run.steps[at];
        let Some(work) = state.work.as_mut() else { return };
        state.base = state.base.max(work.highest);
        let again = work.failed.keys().chain(&work.rested).copied().filter(|item| work.has_started(*item));
        let again: Vec<u32> = again.collect();
        let mut fresh = std::mem::take(&mut work.fresh);
        fresh.append(&mut work.refused);
        **work = Work {
            items: Arc::clone(&work.items),
            wave: work.wave.take(),
            outputs: std::mem::take(&mut work.outputs),
            children: std::mem::take(&mut work.children),
            count: work.count,
            next: work.next,
            done: work.done,
            highest: work.highest,
            ..Work::default()
        };
        if let Some(wave) = work.wave.as_mut() {
            wave.failed = 0;
            wave.at = super::WaveAt::Working;
        }
        for item in again {
            work.live.insert(item, Live { attempt: state.base + 1, at: At::Ready });
            work.lanes.ready(item);
        }
        for item in fresh {
            work.fresh.insert(item);
            work.lanes.ready(item);
        }
    }
}

fn merged(inputs: &Value, changed: &Map<String, Value>) -> Value {
    let mut map = inputs.as_object().cloned().unwrap_or_default();
    map.extend(changed.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(map)
}

/// Whether a step reads one of the inputs that changed.
fn reads_inputs(step: &Step, changed: &Map<String, Value>) -> bool {
    changed.keys().any(|name| step.reads_input(name))
}

/// Has a run go on as another version of its workflow.
///
/// # Errors
/// A step that started is not there, or differs in what still matters of it.
pub(crate) fn migrate(
    run: &mut Run,
    (from, to): (&Definition, &Definition),
    pins: &Arc<std::collections::BTreeMap<Arc<str>, Digest>>,
) -> Result<(), Refusal> {
    if to.name != from.name {
        return Err(Refusal::Illegal(format!("the run is one of `{}`, not of `{}`", from.name, to.name)));
    }
    if !matches!(run.phase, Phase::Running | Phase::Queued { .. }) {
        return Err(Refusal::Illegal(format!("the run is {}: only a running one is migrated", run.phase.name())));
    }
    let (was, will) = (steps_of(from), steps_of(to));
    let mut steps = vec![StepRun::default(); to.steps.len()];
    for (step, state) in from.steps.iter().zip(&run.steps) {
        let name = step.name.as_str();
        if matches!(state.status, Status::Pending) && state.former.is_empty() {
            // Of a former try its attempts go on counting: a key is used once.
            if let Some(at) = to.position(name) {
                steps[at] = state.clone();
            }
            continue;
        }
        let at = to.position(name).ok_or_else(|| {
            Refusal::Illegal(format!("the step `{name}` has started, and version {} has no such step", to.digest))
        })?;
        let keys: Option<&[&str]> = match state.status {
            // What is at work must not change under it; of what is done only its way back still matters.
            Status::Active | Status::Waiting { .. } | Status::Held { .. } => None,
            _ => Some(&["uses", "workflow", "steps", "for_each", "compensate", "pivot"]),
        };
        if let Some(key) = difference(was.get(name), will.get(name), keys) {
            let what = state.status.name();
            return Err(Refusal::Illegal(format!(
                "the step `{name}` is {what}, and `{key}` of it differs between the versions"
            )));
        }
        steps[at] = state.clone();
    }
    for (at, state) in steps.iter().enumerate() {
        let started = !matches!(state.status, Status::Pending);
        if let Some(need) = to.steps[at].needs.iter().find(|need| started && !steps[**need].status.is_settled()) {
            let message = format!(
                "the step `{}` has started, and needs `{}` now, which has not ended",
                to.steps[at].name, to.steps[*need].name
            );
            return Err(Refusal::Illegal(message));
        }
    }
    let inputs = to
        .accept(&run.inputs)
        .map_err(|reasons| Refusal::Illegal(format!("the inputs do not fit the version: {}", reasons.join("; "))))?;
    run.steps = steps;
    run.inputs = Arc::new(inputs);
    let start = Arc::make_mut(&mut run.start);
    start.version = to.digest.clone();
    start.pins = Arc::clone(pins);
    Ok(())
}

fn steps_of(definition: &Definition) -> Map<String, Value> {
    let Ok(Value::Object(mut root)) = serde_json::from_str(&definition.canonical) else { return Map::new() };
    let mut steps = Map::new();
    for key in ["steps", "finally"] {
        if let Some(Value::Object(found)) = root.remove(key) {
            steps.extend(found);
        }
    }
    steps
}

/// The first of `keys`, or of all, in which two steps differ.
fn difference(was: Option<&Value>, will: Option<&Value>, keys: Option<&[&str]>) -> Option<String> {
    let empty = Map::new();
    let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone());
    let (was, will) = (map(was), map(will));
    let names: std::collections::BTreeSet<&String> = was.keys().chain(will.keys()).collect();
    let looked_at =
        |name: &&&String| keys.is_none_or(|keys| keys.contains(&name.as_str())) && name.as_str() != "description";
    names
        .iter()
        .filter(looked_at)
        .find(|name| was.get(name.as_str()) != will.get(name.as_str()))
        .map(ToString::to_string)
}
