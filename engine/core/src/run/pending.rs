//! All the work that a run owes, read off its state alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::permanent;
use super::unwind::revocable;
use super::{At, Phase, Run, Status, Undo, scope};
use crate::definition::Action;
use crate::effect::{Effect, EffectKey};
use crate::record::{Parent, Report, Start, TimerKey, TimerKind};
use crate::{Definition, Failure, Leg, Task, TaskKey, TaskTimeouts, UtcMs};

/// All the work that `run` owes.
#[must_use]
pub fn pending(run: &Run, definition: &Definition) -> BTreeMap<EffectKey, Effect> {
    let mut owed = Vec::new();
    match run.phase {
        Phase::Quarantined { .. } => {}
        Phase::Ended(_) => owed.extend(inform(run, definition).filter(|_| run.informed < run.endings)),
        Phase::Running | Phase::Halting | Phase::Compensating | Phase::CompensationFailed => {
            owed.extend(run_timer(run, definition).map(|(timer, due)| Effect::Timer(timer, due)));
            for at in 0..run.steps.len() {
                forward(run, definition, at, &mut owed);
                undo(run, definition, at, &mut owed);
            }
        }
    }
    owed.into_iter().map(|effect| (effect.key(), effect)).collect()
}

fn forward(run: &Run, definition: &Definition, at: usize, owed: &mut Vec<Effect>) {
    let state = &run.steps[at];
    let name = &definition.steps[at].name;
    let timer = |kind| TimerKey { run: run.id(), kind };
    match &state.status {
        Status::Waiting { due: Some(due) } => {
            owed.push(Effect::Timer(timer(TimerKind::Wait { step: name.clone() }), *due));
        }
        Status::Active => {}
        Status::Pending
        | Status::Waiting { due: None }
        | Status::Done { .. }
        | Status::Skipped(_)
        | Status::Failed(_)
        | Status::Halted => return,
    }
    owed.extend(step_timer(run, definition, at).map(|(timer, due)| Effect::Timer(timer, due)));
    let Some(work) = &state.work else { return };
    for (item, live) in &work.live {
        match &live.at {
            At::Out => owed.extend(send(run, definition, at, *item, live.attempt)),
            At::Stopping => owed.push(Effect::Cancel(key(run, definition, at, *item, live.attempt, Leg::Forward))),
            At::Backoff { until } => {
                let kind =
                    TimerKind::Backoff { step: name.clone(), item: *item, leg: Leg::Forward, attempt: live.attempt };
                owed.push(Effect::Timer(timer(kind), *until));
            }
            At::Child { child, started, stopping } => {
                if !started {
                    owed.extend(send(run, definition, at, *item, live.attempt));
                } else if *stopping {
                    owed.push(Effect::CancelChild { child: *child, reason: stop_reason() });
                }
            }
        }
    }
}

fn undo(run: &Run, definition: &Definition, at: usize, owed: &mut Vec<Effect>) {
    let Undo::Active(undo) = &run.steps[at].undo else { return };
    for (item, live) in &undo.live {
        match &live.at {
            At::Out | At::Stopping | At::Child { .. } => {
                owed.extend(send_undo(run, definition, at, *item, live.attempt).ok().flatten());
            }
            At::Backoff { until } => {
                let step = definition.steps[at].name.clone();
                let kind = TimerKind::Backoff { step, item: *item, leg: Leg::Undo, attempt: live.attempt };
                owed.push(Effect::Timer(TimerKey { run: run.id(), kind }, *until));
            }
        }
    }
}

fn key(run: &Run, definition: &Definition, at: usize, item: u32, attempt: u32, leg: Leg) -> TaskKey {
    TaskKey { run: run.id(), step: definition.steps[at].name.clone(), item, attempt, leg }
}

/// The effect that puts one attempt of an item to work.
///
/// # Errors
/// An expression without a value; a child workflow that the run is not pinned to.
pub(super) fn send(run: &Run, definition: &Definition, at: usize, item: u32, attempt: u32) -> Result<Effect, Failure> {
    let step = &definition.steps[at];
    let locals = run.steps[at].work.as_ref().map(|work| scope::item(work, item)).unwrap_or_default();
    let (Action::Task { with, .. } | Action::Workflow { with, .. }) = &step.action else {
        return Err(permanent("E0317", format!("the step `{}` has no work to give away", step.name)));
    };
    let input = scope::eval(run, definition, with, locals).map_err(|error| permanent("E0205", error.to_string()))?;
    match &step.action {
        Action::Workflow { name, .. } => {
            let Some(version) = run.start.pins.get(name) else {
                return Err(permanent("E0302", format!("the run knows no version of the workflow `{name}`")));
            };
            let link = Parent { run: run.id(), step: step.name.clone(), item, attempt };
            Ok(Effect::StartChild(Arc::new(Start {
                run: run.id().child(&step.name, item, attempt),
                workflow: Arc::clone(name),
                version: version.clone(),
                pins: Arc::clone(&run.start.pins),
                inputs: input,
                parent: Some(link),
                key: None,
                labels: run.start.labels.clone(),
                seed: run.start.seed.wrapping_add(u64::from(item)).wrapping_add(1),
            })))
        }
        Action::Task { uses, .. } => {
            Ok(dispatch(run, definition, at, (item, attempt, Leg::Forward), (uses, input, step.timeouts)))
        }
        Action::Wait(_) | Action::Set(_) | Action::Fail(_) | Action::Emit(_) | Action::Steps(_) => {
            Err(permanent("E0317", format!("the step `{}` has no work to give away", step.name)))
        }
    }
}

fn dispatch(
    run: &Run,
    definition: &Definition,
    at: usize,
    (item, attempt, leg): (u32, u32, Leg),
    (uses, input, timeouts): (&Arc<str>, serde_json::Value, TaskTimeouts),
) -> Effect {
    let key = key(run, definition, at, item, attempt, leg);
    Effect::Dispatch(Box::new(Task { key, uses: uses.to_string(), input, timeouts }))
}

/// The effect that puts the undo of an item to work; `None` where the item has nothing to undo.
///
/// # Errors
/// An expression without a value.
pub(super) fn send_undo(
    run: &Run,
    definition: &Definition,
    at: usize,
    item: u32,
    attempt: u32,
) -> Result<Option<Effect>, Failure> {
    let step = &definition.steps[at];
    let Some(work) = &run.steps[at].work else { return Ok(None) };
    let failure = run.cause.as_ref().map(|cause| &cause.failure);
    if let Action::Workflow { .. } = step.action {
        let failure = failure.cloned().unwrap_or_else(|| permanent("E0316", "the parent run is undone".into()));
        return Ok(work.children.get(&item).map(|child| Effect::UnwindChild { child: *child, failure }));
    }
    let Some(compensate) = &step.compensate else { return Ok(None) };
    let input = scope::eval_frozen(run, definition, &compensate.with, scope::undo(work, item, failure))
        .map_err(|error| permanent("E0205", error.to_string()))?;
    let task = (&compensate.uses, input, compensate.timeouts);
    Ok(Some(dispatch(run, definition, at, (item, attempt, Leg::Undo), task)))
}

/// The timer of an active step's total limit, where it has one that still matters.
pub(super) fn step_timer(run: &Run, definition: &Definition, at: usize) -> Option<(TimerKey, UtcMs)> {
    let total = definition.steps[at].total?;
    let state = &run.steps[at];
    let stopping = state.work.as_ref().is_none_or(|work| work.stopping);
    if !matches!(state.status, Status::Active) || stopping {
        return None;
    }
    let kind = TimerKind::StepTotal { step: definition.steps[at].name.clone() };
    Some((TimerKey { run: run.id(), kind }, state.since + total))
}

/// The timer of the run's limit, where it has one that still matters.
pub(super) fn run_timer(run: &Run, definition: &Definition) -> Option<(TimerKey, UtcMs)> {
    let limit = definition.timeout?;
    (run.phase == Phase::Running)
        .then(|| (TimerKey { run: run.id(), kind: TimerKind::RunTimeout }, run.started + limit))
}

/// What a run that ended tells its parent.
pub(super) fn inform(run: &Run, definition: &Definition) -> Option<Effect> {
    let link = run.start.parent.clone()?;
    let end = run.end()?;
    let report = Report {
        child: run.id(),
        end,
        ending: run.endings,
        output: run.output.clone(),
        failure: run.cause.as_ref().map(|cause| cause.failure.clone()),
        revocable: end == crate::record::End::Succeeded && revocable(run, definition),
    };
    Some(Effect::InformParent { link, report: Box::new(report) })
}

/// Why a child is told to stop. Always the same words: what is owed must not change while it is owed.
pub(super) fn stop_reason() -> Arc<str> {
    "its parent run does not go on".into()
}
