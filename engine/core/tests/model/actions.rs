//! All that can happen next: each owed effect comes true in each of its ways, and people give orders.

use std::sync::Arc;

use patchloom_core::record::{End, Event, Resolution};
use patchloom_core::run::{Phase, Run, Status, Undo};
use patchloom_core::{
    Action, Effect, Failure, FailureClass, Leg, Outcome, Partition, RunId, StepName, TaskKey, UtcMs, Wait,
};
use serde_json::{Value, json};

use super::world::{Model, Order, World};

/// One thing that can happen.
#[derive(Clone)]
pub struct Act {
    pub event: Event,
    /// When: a timer takes the clock with it.
    pub at: UtcMs,
    /// The order that it uses up. No way to an end may need one of those.
    pub order: Option<usize>,
}

pub fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure { code: "X1".into(), class, message: "did not work".into(), details: Value::Null })
}

pub fn succeeded() -> Outcome {
    Outcome::Succeeded { output: json!(1) }
}

/// Everything that can happen in `world`.
pub fn actions(model: &Model, world: &World) -> Vec<Act> {
    let mut acts = Vec::new();
    for effect in world.owed.values() {
        come_true(world, effect, &mut acts);
    }
    let mut say = |event, order| acts.push(Act { event, at: world.now, order });
    for run in world.partition.runs() {
        help(world, run, &mut |event| say(event, None));
    }
    for (at, order) in model.orders.iter().enumerate() {
        // Of two that are alike, the first goes first.
        let twin = model.orders[..at].iter().zip(&world.given).any(|(other, given)| other == order && !given);
        if !world.given[at] && !twin {
            give(world, *order, &mut |event| say(event, Some(at)));
        }
    }
    acts
}

fn come_true(world: &World, effect: &Effect, acts: &mut Vec<Act>) {
    let mut say = |event| acts.push(Act { event, at: world.now, order: None });
    match effect {
        Effect::Dispatch(task) => finish(&task.key, &mut say),
        Effect::Cancel(task) => finish(task, &mut say),
        Effect::Timer(timer, due) => {
            let at = world.now.max(*due);
            acts.push(Act { event: Event::TimerFired { timer: timer.clone() }, at, order: None });
        }
        // Two messages, and anything may come between them: the child begins, the parent hears of it.
        Effect::StartChild(start) => say(match (&start.parent, world.partition.run(start.run)) {
            (Some(link), Some(child)) => Event::ChildStarted { link: link.clone(), child: child.id() },
            _ => Event::RunStarted(Arc::clone(start)),
        }),
        Effect::CancelChild { child, reason } => {
            say(Event::CancelRequested { run: *child, compensate: true, reason: Arc::clone(reason) });
        }
        Effect::UnwindChild { child, failure } => {
            say(Event::UnwindRequested { run: *child, failure: failure.clone() });
        }
        // Again two: the parent hears of the end, the child hears that it did.
        Effect::InformParent { link, report } => {
            let (run, ending) = (report.child, report.ending);
            say(if world.ledger.told.contains_key(&(run, ending)) {
                Event::ParentInformed { run, ending }
            } else {
                Event::ChildEnded { link: link.clone(), report: report.clone() }
            });
        }
    }
}

fn finish(task: &TaskKey, say: &mut impl FnMut(Event)) {
    let outcomes = [succeeded(), failed(FailureClass::Transient), failed(FailureClass::Permanent), Outcome::Cancelled];
    for outcome in outcomes {
        say(Event::AttemptFinished { task: task.clone(), outcome });
    }
}

/// What people do because a run cannot go on without them.
fn help(world: &World, run: &Run, say: &mut impl FnMut(Event)) {
    let definition = world.definition(run);
    for (step, state) in definition.steps.iter().zip(&run.steps) {
        if let (Action::Wait(Wait::Signal { name, .. }), Status::Waiting { .. }) = (&step.action, &state.status) {
            say(signal(run, name));
        }
        for item in failed_undos(&state.undo) {
            let how = Resolution::Resolved { note: "by hand".into() };
            say(Event::UndoResolved { run: run.id(), step: step.name.clone(), item, how });
        }
    }
}

fn give(world: &World, order: Order, say: &mut impl FnMut(Event)) {
    for run in world.partition.runs() {
        match order {
            Order::Cancel if run.phase == Phase::Running => {
                for compensate in [true, false] {
                    let reason = "a person said so".into();
                    say(Event::CancelRequested { run: run.id(), compensate, reason });
                }
            }
            Order::Retry if run.start.parent.is_none() && run.end().is_some_and(|end| end != End::Succeeded) => {
                say(Event::RetryRequested { run: run.id() });
            }
            Order::Operate => operate(world, run, say),
            Order::OperateAll if run.phase == Phase::CompensationFailed => {
                say(Event::RetryRequested { run: run.id() });
            }
            Order::Signal if matches!(run.phase, Phase::Running | Phase::Halting) => {
                for (step, state) in world.definition(run).steps.iter().zip(&run.steps) {
                    if let (Action::Wait(Wait::Signal { name, .. }), false) =
                        (&step.action, matches!(state.status, Status::Waiting { .. }))
                    {
                        say(signal(run, name));
                    }
                }
            }
            Order::Cancel | Order::Retry | Order::OperateAll | Order::Signal => {}
        }
    }
}

fn operate(world: &World, run: &Run, say: &mut impl FnMut(Event)) {
    for (step, state) in world.definition(run).steps.iter().zip(&run.steps) {
        for item in failed_undos(&state.undo) {
            let how = Resolution::Retry;
            say(Event::UndoResolved { run: run.id(), step: step.name.clone(), item, how });
        }
    }
}

fn failed_undos(undo: &Undo) -> Vec<u32> {
    match undo {
        Undo::Failed(undo) => undo.failed.keys().copied().collect(),
        Undo::NotNeeded | Undo::Owed | Undo::Active(_) | Undo::Done { .. } => Vec::new(),
    }
}

fn signal(run: &Run, name: &Arc<str>) -> Event {
    let id = Some(format!("signal-{}", run.signal_ids.len()).into());
    Event::SignalReceived { run: run.id(), name: Arc::clone(name), payload: json!(1), id }
}

/// One line for people; runs go by their place below the root.
pub fn outline(partition: &Partition, event: &Event) -> String {
    let whose = event.run().map(|run| label(partition, run)).unwrap_or_default();
    let place = |step: &StepName, item: &u32| format!("{whose}{step}/{item}");
    match event {
        Event::AttemptFinished { task, outcome } => {
            let leg = if task.leg == Leg::Undo { "/undo" } else { "" };
            let how = match outcome {
                Outcome::Succeeded { .. } => "succeeds".to_owned(),
                Outcome::Failed(failure) => format!("fails, {:?}", failure.class).to_lowercase(),
                Outcome::Cancelled => "is given up".to_owned(),
            };
            format!("{}/{}{leg} {how}", place(&task.step, &task.item), task.attempt)
        }
        Event::TimerFired { timer } => format!("{whose}timer {:?}", timer.kind),
        Event::ChildStarted { link, .. } => format!("{} hears that its child began", place(&link.step, &link.item)),
        Event::ChildEnded { link, report } => {
            let ending = format!("ending {}: {}", report.ending, report.end.name());
            format!("{} hears of its child's {ending}", place(&link.step, &link.item))
        }
        Event::CancelRequested { compensate, .. } => format!("{whose}cancel, compensate {compensate}"),
        Event::UndoResolved { step, item, how, .. } => format!("{} {how:?}", place(step, item)),
        Event::SignalReceived { name, .. } => format!("{whose}signal {name}"),
        other => format!("{whose}{}", other.name()),
    }
}

/// Nothing for the root, `step/item/attempt > ` for its child.
pub fn label(partition: &Partition, run: RunId) -> String {
    let link = partition.run(run).and_then(|run| run.start.parent.clone());
    link.map(|link| format!("{}{}/{}/{} > ", label(partition, link.run), link.step, link.item, link.attempt))
        .unwrap_or_default()
}
