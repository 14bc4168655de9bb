//! All the work that a run owes, read off its state alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::permanent;
use super::unwind::revocable;
use super::{At, Phase, Run, Status, Undo, WaveAt, Work, scope};
use crate::definition::{Action, Emit};
use crate::effect::{Effect, EffectKey};
use crate::record::{Parent, Report, Start, TimerKey, TimerKind};
use crate::{CloudEvent, Definition, Digest, Failure, Leg, QueueName, StepName, Task, TaskKey, TaskTimeouts, UtcMs};

/// All the work that `run` owes.
#[must_use]
pub fn pending(run: &Run, definition: &Definition) -> BTreeMap<EffectKey, Effect> {
    let mut owed = Vec::new();
    match run.phase {
        Phase::Quarantined { .. } => {}
        Phase::Ended(_) => owed.extend(inform(run, definition).filter(|_| run.informed < run.endings)),
        Phase::Queued { .. }
        | Phase::Running
        | Phase::Halting
        | Phase::Closing { .. }
        | Phase::Compensating
        | Phase::CompensationFailed => {
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
        | Status::Held { .. }
        | Status::Waiting { due: None }
        | Status::Done { .. }
        | Status::Skipped(_)
        | Status::Failed(_)
        | Status::Halted => return,
    }
    owed.extend(step_timer(run, definition, at).map(|(timer, due)| Effect::Timer(timer, due)));
    let Some(work) = &state.work else { return };
    for due in work.lanes.instants() {
        owed.push(Effect::Timer(timer(TimerKind::Opens { step: name.clone(), due }), due));
    }
    owed.extend(
        wave_timer(work)
            .map(|(wave, gate, due)| Effect::Timer(timer(TimerKind::Wave { step: name.clone(), wave, gate }), due)),
    );
    for (item, live) in &work.live {
        match &live.at {
            At::Ready => {}
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
                    owed.push(Effect::CancelChild { child: *child, reason: stop_reason(work) });
                }
            }
        }
    }
}

fn undo(run: &Run, definition: &Definition, at: usize, owed: &mut Vec<Effect>) {
    let Undo::Active(undo) = &run.steps[at].undo else { return };
    for (item, live) in &undo.live {
        match &live.at {
            At::Ready => {}
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
    let value = |template, locals| {
        scope::eval(run, definition, template, locals).map_err(|error| permanent("E0205", error.to_string()))
    };
    match &step.action {
        Action::Workflow { name, with } => {
            let input = value(with, locals)?;
            let Some(version) = run.start.pins.get(name) else {
                return Err(permanent("E0302", format!("the run knows no version of the workflow `{name}`")));
            };
            Ok(start_child(run, definition, (at, item, attempt), (name, version, input)))
        }
        Action::Steps(inner) => {
            let input = scope::captured(run, definition, inner, locals);
            Ok(start_child(run, definition, (at, item, attempt), (&inner.name, &inner.digest, input)))
        }
        Action::Task { uses, with } => {
            let input = value(with, locals)?;
            dispatch(run, definition, at, (item, attempt, Leg::Forward), (uses, input, step.timeouts))
        }
        Action::Emit(emit) => {
            let event = event(run, definition, at, emit)?;
            Ok(Effect::Emit { task: key(run, definition, at, item, attempt, Leg::Forward), event: Box::new(event) })
        }
        Action::Wait(_) | Action::Set(_) | Action::Fail(_) => {
            Err(permanent("E0317", format!("the step `{}` has no work to give away", step.name)))
        }
    }
}

/// The event that an attempt of an `emit` step publishes, while it is at it.
pub(crate) fn emission(run: &Run, definition: &Definition, task: &TaskKey) -> Option<CloudEvent> {
    let at = definition.position(task.step.as_str())?;
    match &definition.steps[at].action {
        Action::Emit(emit) => event(run, definition, at, emit).ok(),
        Action::Task { .. }
        | Action::Workflow { .. }
        | Action::Steps(_)
        | Action::Wait(_)
        | Action::Set(_)
        | Action::Fail(_) => None,
    }
}

/// Whether what a fan-out would send is still owed; `None` for an effect that only [`pending`] can tell.
pub(super) fn is_out(run: &Run, definition: &Definition, effect: &Effect) -> Option<bool> {
    let over = matches!(run.phase, Phase::Quarantined { .. } | Phase::Ended(_));
    let work = |step: &StepName| {
        let state = &run.steps[definition.position(step.as_str())?];
        state.work.as_ref().filter(|_| !over && matches!(state.status, Status::Active))
    };
    let (step, item, attempt) = match effect {
        Effect::Timer(TimerKey { kind: TimerKind::Opens { step, .. }, .. }, due) => {
            return Some(work(step).is_some_and(|work| work.lanes.instants().contains(due)));
        }
        Effect::Dispatch(task) if task.key.leg == Leg::Forward => (&task.key.step, task.key.item, task.key.attempt),
        Effect::StartChild(start) => start.parent.as_ref().map(|link| (&link.step, link.item, link.attempt))?,
        Effect::Dispatch(_)
        | Effect::Emit { .. }
        | Effect::Cancel(_)
        | Effect::Timer(..)
        | Effect::CancelChild { .. }
        | Effect::UnwindChild { .. }
        | Effect::InformParent { .. } => return None,
    };
    let live = work(step).and_then(|work| work.live.get(&item)).filter(|live| live.attempt == attempt);
    Some(live.is_some_and(|live| matches!(live.at, At::Out | At::Child { started: false, .. })))
}

/// The end of the soak, or of the wait at the gate, of the wave under way: its number, whether it is the gate, when.
fn wave_timer(work: &Work) -> Option<(u32, bool, UtcMs)> {
    let wave = work.wave.as_ref().filter(|_| !work.stopping && !work.draining)?;
    match wave.at {
        WaveAt::Working | WaveAt::Gated { due: None } => None,
        WaveAt::Soaking { until } => Some((wave.index, false, until)),
        WaveAt::Gated { due: Some(due) } => Some((wave.index, true, due)),
    }
}

/// The event that an `emit` step publishes. Its id is the same however often it is told.
fn event(run: &Run, definition: &Definition, at: usize, emit: &Emit) -> Result<CloudEvent, Failure> {
    let value = |template| {
        scope::eval(run, definition, template, Vec::new()).map_err(|error| permanent("E0205", error.to_string()))
    };
    let since = i64::try_from(run.steps[at].since.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let subject = emit.subject.as_ref().map(|subject| scope::text(run, definition, subject, Vec::new())).transpose()?;
    let base = run.steps[at].base;
    Ok(CloudEvent {
        specversion: "1.0".into(),
        id: format!("{}/{}/{}", run.id(), definition.steps[at].name, base + 1),
        source: format!("/patchloom/workflows/{}", definition.name),
        kind: scope::text(run, definition, &emit.kind, Vec::new())?.to_string(),
        subject: subject.map(|subject| subject.to_string()),
        time: since.map(|time| time.to_string()),
        datacontenttype: Some("application/json".into()),
        data: value(&emit.data)?,
        ..CloudEvent::default()
    })
}

fn start_child(
    run: &Run,
    definition: &Definition,
    (at, item, attempt): (usize, u32, u32),
    (name, version, inputs): (&Arc<str>, &Digest, serde_json::Value),
) -> Effect {
    let step = &definition.steps[at].name;
    let link = Parent { run: run.id(), step: step.clone(), item, attempt };
    Effect::StartChild(Arc::new(Start {
        run: run.id().child(step, item, attempt),
        workflow: Arc::clone(name),
        version: version.clone(),
        pins: Arc::clone(&run.start.pins),
        inputs,
        parent: Some(link),
        key: None,
        labels: run.start.labels.clone(),
        seed: run.start.seed.wrapping_add(u64::from(item)).wrapping_add(1),
    }))
}

fn dispatch(
    run: &Run,
    definition: &Definition,
    at: usize,
    (item, attempt, leg): (u32, u32, Leg),
    (uses, input, timeouts): (&Arc<str>, serde_json::Value, TaskTimeouts),
) -> Result<Effect, Failure> {
    let key = key(run, definition, at, item, attempt, leg);
    let priority = definition.steps[at].priority;
    let queue = queue(run, definition, at, item)?;
    Ok(Effect::Dispatch(Box::new(Task { key, uses: uses.to_string(), input, timeouts, priority, queue })))
}

/// Which workers the tasks of an item are for, its undo too.
fn queue(run: &Run, definition: &Definition, at: usize, item: u32) -> Result<QueueName, Failure> {
    let step = &definition.steps[at];
    let Some(template) = &step.queue else { return Ok(QueueName::default()) };
    let locals = run.steps[at].work.as_ref().map(|work| scope::item(work, item)).unwrap_or_default();
    let name = scope::text(run, definition, template, locals)?;
    let wrong = |error| permanent("E0210", format!("`queue` of `{}` came to {error}", step.name));
    name.parse().map_err(|error: crate::QueueNameError| wrong(error.to_string()))
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
    if let Action::Workflow { .. } | Action::Steps(_) = step.action {
        let failure = failure.cloned().unwrap_or_else(|| permanent("E0316", "the parent run is undone".into()));
        let task = key(run, definition, at, item, attempt, Leg::Undo);
        return Ok(work.children.get(&item).map(|child| Effect::UnwindChild { child: *child, task, failure }));
    }
    let Some(compensate) = &step.compensate else { return Ok(None) };
    let input = scope::eval_frozen(run, definition, &compensate.with, scope::undo(work, item, failure))
        .map_err(|error| permanent("E0205", error.to_string()))?;
    let task = (&compensate.uses, input, compensate.timeouts);
    dispatch(run, definition, at, (item, attempt, Leg::Undo), task).map(Some)
}

/// The timer of an active step's total limit, where it has one that still matters.
pub(super) fn step_timer(run: &Run, definition: &Definition, at: usize) -> Option<(TimerKey, UtcMs)> {
    let total = definition.steps[at].total?;
    let state = &run.steps[at];
    let stopping = state.work.as_ref().is_none_or(|work| work.stopping);
    if !matches!(state.status, Status::Active) || stopping || run.paused.is_some() {
        return None;
    }
    let kind = TimerKind::StepTotal { step: definition.steps[at].name.clone() };
    Some((TimerKey { run: run.id(), kind }, state.since + total))
}

/// The timer of the run's limit, where it has one that still matters.
pub(super) fn run_timer(run: &Run, definition: &Definition) -> Option<(TimerKey, UtcMs)> {
    let limit = definition.timeout?;
    (run.phase == Phase::Running && run.paused.is_none())
        .then(|| (TimerKey { run: run.id(), kind: TimerKind::RunTimeout }, run.started + run.rested + limit))
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

/// Why the children of a step are told to stop. Settled when the step stops: what is owed must not change while it is.
pub(super) fn stop_reason(work: &Work) -> Arc<str> {
    work.stop_reason.clone().unwrap_or_else(|| "its parent run does not go on".into())
}
