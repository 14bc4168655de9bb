//! All that can happen next: each owed effect comes true in each of its ways, and people give orders.

use std::sync::Arc;

use patchloom_core::record::{Decision, End, Event, Extent, Rerun, Resolution, Tune};
use patchloom_core::run::{Hold, Phase, Run, Status, StepRun, Undo, WaveAt};
use patchloom_core::{
    Action, CloudEvent, Effect, Failure, FailureClass, Leg, Outcome, Partition, RunId, Step, StepName, TaskKey, UtcMs,
    Wait,
};
use serde_json::{Map, Value, json};

use super::world::{Model, Order, ROOT, SECOND, World, start};

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
        Effect::Cancel(task) => match emits(world, task) {
            // It cannot be called back: it may be out, or the leader finds that it is not.
            true => {
                say(Event::EventEmitted { task: task.clone() });
                say(Event::AttemptFinished { task: task.clone(), outcome: Outcome::Cancelled, tell: Vec::new() });
            }
            false => finish(task, &mut say),
        },
        Effect::Emit { task, .. } => say(Event::EventEmitted { task: task.clone() }),
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
        Effect::UnwindChild { child, failure, .. } => {
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
        say(Event::AttemptFinished { task: task.clone(), outcome, tell: Vec::new() });
    }
}

fn emits(world: &World, task: &TaskKey) -> bool {
    let definition = world.definition(world.partition.run(task.run).expect("it is known"));
    let at = definition.position(task.step.as_str()).expect("the step is known");
    matches!(definition.steps[at].action, Action::Emit(_))
}

/// What people do because a run cannot go on without them.
fn help(world: &World, run: &Run, say: &mut impl FnMut(Event)) {
    if let Phase::Quarantined { .. } = run.phase {
        return say(Event::ReleaseRequested { run: run.id() });
    }
    if run.paused.is_some() {
        say(Event::ResumeRequested { run: run.id(), what: Extent::Run });
    }
    let definition = world.definition(run);
    for (step, state) in definition.steps.iter().zip(&run.steps) {
        for name in awaited(step, state) {
            let quorum = matches!(&step.action, Action::Wait(Wait::Signal(wait)) if wait.quorum > 1);
            for sender in &SENDERS[..if quorum { 2 } else { 1 }] {
                if state.votes.iter().all(|vote| vote.by.as_ref() != *sender) {
                    say(signal(run, &name, sender));
                }
            }
        }
        if let (Action::Wait(Wait::Event(_)), Status::Waiting { .. }) = (&step.action, &state.status) {
            say(happens(world, "h1"));
        }
        for item in failed_undos(&state.undo) {
            let how = Resolution::Resolved { note: "by hand".into() };
            say(Event::UndoResolved { run: run.id(), step: step.name.clone(), item, how });
        }
        if let Status::Held { .. } = state.status {
            for how in [Decision::Skip { note: "not needed".into() }, Decision::Fail] {
                say(Event::StepDecided { run: run.id(), step: step.name.clone(), how });
            }
        }
        for what in state.holds.iter().map(|hold| extent(step, hold)) {
            say(Event::ResumeRequested { run: run.id(), what });
        }
    }
}

/// Something happens outside, on this host.
fn happens(world: &World, host: &str) -> Event {
    Event::EventReceived {
        event: Arc::new(CloudEvent {
            specversion: "1.0".into(),
            id: world.events.to_string(),
            source: "/model".into(),
            kind: "host.up".into(),
            subject: Some(host.into()),
            ..CloudEvent::default()
        }),
    }
}

/// Enough for a quorum of two; where none is asked for, it is always the first one.
const SENDERS: [&str; 2] = ["ann", "ben"];

/// The signals that a step waits for now.
fn awaited(step: &Step, state: &StepRun) -> Vec<Arc<str>> {
    let wave = state.work.as_ref().filter(|work| !work.stopping).and_then(|work| work.wave.as_ref());
    let gate = wave.filter(|wave| matches!(wave.at, WaveAt::Gated { .. })).and_then(|wave| {
        let declared = step.for_each.as_ref()?.waves.get(usize::try_from(wave.index).ok()?)?;
        declared.gate.as_ref()?.signal.clone()
    });
    let wait = match (&step.action, &state.status) {
        (Action::Wait(Wait::Signal(wait)), Status::Waiting { .. }) => Some(Arc::clone(&wait.name)),
        _ => None,
    };
    wait.into_iter().chain(gate).collect()
}

/// All signals that a step ever waits for.
fn signals(step: &Step) -> Vec<Arc<str>> {
    let waves = step.for_each.as_ref().map_or(&[][..], |for_each| &for_each.waves);
    let gates = waves.iter().filter_map(|wave| wave.gate.as_ref()?.signal.clone());
    let wait = match &step.action {
        Action::Wait(Wait::Signal(wait)) => Some(Arc::clone(&wait.name)),
        _ => None,
    };
    wait.into_iter().chain(gates).collect()
}

fn extent(step: &Step, hold: &Hold) -> Extent {
    match &hold.when {
        None => Extent::Step(step.name.clone()),
        Some(when) => Extent::Items { step: step.name.clone(), when: Arc::clone(when) },
    }
}

fn give(world: &World, order: Order, say: &mut impl FnMut(Event)) {
    if order == Order::Start {
        let name = &world.root().start.workflow;
        return say(Event::RunStarted(Arc::new(start(&world.partition, name, SECOND))));
    }
    if order == Order::Happen {
        return ["h1", "h2"].into_iter().for_each(|host| say(happens(world, host)));
    }
    for run in world.partition.runs() {
        let (id, root) = (run.id(), run.start.parent.is_none());
        match order {
            Order::Cancel if matches!(run.phase, Phase::Running | Phase::Queued { .. }) => {
                for compensate in [true, false] {
                    say(Event::CancelRequested { run: id, compensate, reason: "a person said so".into() });
                }
            }
            Order::Retry if root && run.end().is_some_and(|end| end != End::Succeeded) => {
                say(Event::RetryRequested { run: id });
            }
            Order::OperateAll if run.phase == Phase::CompensationFailed => {
                say(Event::RetryRequested { run: id });
            }
            Order::Pause if is_under_way(run) && run.paused.is_none() => say(pause(id, Extent::Run)),
            Order::Quarantine if run.end().is_none() && !matches!(run.phase, Phase::Quarantined { .. }) => {
                say(Event::QuarantineRequested { run: id, reason: "a look at it".into() });
            }
            Order::Migrate if id == ROOT && matches!(run.phase, Phase::Running | Phase::Queued { .. }) => {
                let other =
                    world.partition.versions(&run.start.workflow).find(|other| other.digest != run.start.version);
                let version = other.expect("it has two versions").digest.clone();
                say(Event::Migrated { run: id, version, pins: Arc::clone(&run.start.pins) });
            }
            Order::Operate
            | Order::Signal
            | Order::Tune
            | Order::PauseStep
            | Order::PauseItem
            | Order::Decide
            | Order::RerunItems => steps(world, run, order, say),
            Order::Start
            | Order::Cancel
            | Order::Retry
            | Order::OperateAll
            | Order::Pause
            | Order::Quarantine
            | Order::Happen
            | Order::Migrate => {}
        }
    }
}

fn is_under_way(run: &Run) -> bool {
    matches!(run.phase, Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. })
}

fn pause(run: RunId, what: Extent) -> Event {
    Event::PauseRequested { run, what, reason: "a person said so".into() }
}

/// Orders about one step.
fn steps(world: &World, run: &Run, order: Order, say: &mut impl FnMut(Event)) {
    let id = run.id();
    for (step, state) in world.definition(run).steps.iter().zip(&run.steps) {
        let open = is_under_way(run) && !state.status.is_settled();
        let name = || step.name.clone();
        match order {
            Order::Operate => {
                for item in failed_undos(&state.undo) {
                    say(Event::UndoResolved { run: id, step: name(), item, how: Resolution::Retry });
                }
            }
            Order::Signal
                if matches!(run.phase, Phase::Running | Phase::Halting) && awaited(step, state).is_empty() =>
            {
                for signal_name in signals(step) {
                    say(signal(run, &signal_name, SENDERS[0]));
                }
            }
            Order::PauseStep if open => say(pause(id, Extent::Step(name()))),
            Order::PauseItem if open && step.for_each.is_some() => {
                say(pause(id, Extent::Items { step: name(), when: "item == 'x'".into() }));
            }
            Order::Tune if id == ROOT && open && step.for_each.is_some() => {
                for limit in [1, 3] {
                    let tune = Tune { max_parallel: Some(limit), ..Tune::default() };
                    say(Event::Tuned { run: id, step: name(), tune });
                }
            }
            Order::Decide if matches!(state.status, Status::Held { .. }) => {
                say(Event::StepDecided { run: id, step: name(), how: Decision::Retry });
            }
            Order::RerunItems if id == ROOT && step.for_each.is_some() && run.end().is_some() => {
                say(Event::RerunRequested { run: id, from: Rerun::Items(name()), inputs: Map::new() });
            }
            _ => {}
        }
    }
}

fn failed_undos(undo: &Undo) -> Vec<u32> {
    match undo {
        Undo::Failed(undo) => undo.failed.keys().copied().collect(),
        Undo::NotNeeded | Undo::Owed | Undo::Active(_) | Undo::Done { .. } => Vec::new(),
    }
}

fn signal(run: &Run, name: &Arc<str>, sender: &str) -> Event {
    let id = Some(format!("{sender}-{}", run.signal_ids.len()).into());
    Event::SignalReceived { run: run.id(), name: Arc::clone(name), payload: json!(1), id, roles: Vec::new() }
}

/// One line for people; runs go by their place below the root.
pub fn outline(partition: &Partition, event: &Event) -> String {
    let whose = event.run().map(|run| label(partition, run)).unwrap_or_default();
    let place = |step: &StepName, item: &u32| format!("{whose}{step}/{item}");
    match event {
        Event::AttemptFinished { task, outcome, .. } => {
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
        Event::SignalReceived { name, id, .. } => {
            format!("{whose}signal {name}, {}", id.as_deref().unwrap_or_default())
        }
        Event::EventEmitted { task } => format!("{}/{} is published", place(&task.step, &task.item), task.attempt),
        Event::PauseRequested { what, .. } => format!("{whose}pause {}", part(what)),
        Event::ResumeRequested { what, .. } => format!("{whose}resume {}", part(what)),
        Event::StepDecided { step, how, .. } => match how {
            Decision::Retry => format!("{whose}{step}: decide retry"),
            Decision::Skip { .. } => format!("{whose}{step}: decide skip"),
            Decision::Fail => format!("{whose}{step}: decide fail"),
        },
        Event::RerunRequested { from, .. } => format!("{whose}rerun {from:?}"),
        Event::Tuned { step, tune, .. } => format!("{whose}{step}: {:?} at once", tune.max_parallel),
        Event::EventReceived { event } => format!("{} on {:?}", event.kind, event.subject),
        other => format!("{whose}{}", other.name()),
    }
}

fn part(what: &Extent) -> String {
    match what {
        Extent::Run => "the run".to_owned(),
        Extent::Step(step) => step.to_string(),
        Extent::Items { step, when } => format!("{step} where {when}"),
    }
}

/// Nothing for the root, `second > ` for another run, `step/item/attempt > ` for a child.
pub fn label(partition: &Partition, run: RunId) -> String {
    if run == SECOND {
        return "second > ".to_owned();
    }
    let link = partition.run(run).and_then(|run| run.start.parent.clone());
    link.map(|link| format!("{}{}/{}/{} > ", label(partition, link.run), link.step, link.item, link.attempt))
        .unwrap_or_default()
}
