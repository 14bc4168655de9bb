//! Messages come more than once, at once and much later: whatever is not owed is refused as known, and changes nothing.

use std::sync::Arc;

use patchloom_core::record::{Event, TimerKey, TimerKind};
use patchloom_core::run::{Phase, Refusal, Run};
use patchloom_core::{Effect, EffectKey, Leg, Partition, TaskKey};
use serde_json::Value;

use super::actions::{outline, succeeded};
use super::rules::{Edge, Rule, Verdict, hold};
use super::world::{Machine, World, entry};

/// The event of an edge comes once more, right behind the first.
pub fn at_once(edge: &Edge<'_>) -> Verdict {
    let mut state = edge.after.partition.clone();
    let answer = (edge.machine)(&mut state, edge.after.seq + 1, edge.after.now, &entry(edge.event));
    let order = matches!(
        edge.event,
        Event::CancelRequested { .. }
            | Event::UnwindRequested { .. }
            | Event::UndoResolved { .. }
            | Event::RetryRequested { .. }
    );
    let same = || state.runs().eq(edge.after.partition.runs());
    let harmless = match &answer {
        Err(Refusal::Stale(_)) => same(),
        // Who gives an order that makes no sense any more is told so.
        Err(Refusal::Illegal(_)) => order && same(),
        // What failed at once, for want of a value, may be tried at once again: to the same effect.
        Ok(applied) => order && applied.effects.is_empty(),
    };
    hold(Rule::RepeatChangesNothing, harmless, || {
        format!("{} comes once more: {answer:?}", outline(&state, edge.event))
    })
}

/// Everything that was ever said to the runs of `world`, and all that might be said too early, as far as it is not owed.
pub fn later(machine: Machine, world: &World) -> Verdict {
    let mut state = world.partition.clone();
    let mut check = |event: Event| {
        let answer = machine(&mut state, world.seq + 1, world.now, &entry(&event));
        let known = matches!(answer, Err(Refusal::Stale(_)))
            || (matches!(answer, Err(Refusal::Illegal(_))) && matches!(event, Event::CancelRequested { .. }));
        hold(Rule::RepeatChangesNothing, known, || {
            format!("{} is not owed and comes: {answer:?}", outline(&state, &event))
        })?;
        let same = state.runs().eq(world.partition.runs());
        hold(Rule::RefusalChangesNothing, same, || format!("{} is refused", outline(&state, &event)))
    };
    for (place, trace) in &world.ledger.places {
        for leg in [Leg::Forward, Leg::Undo] {
            for attempt in 1..=trace.out.of(leg) + 1 {
                let task = TaskKey { run: place.run, step: place.step.clone(), item: place.item, attempt, leg };
                let owed = [EffectKey::Dispatch(task.clone()), EffectKey::Cancel(task.clone())];
                if !owed.iter().any(|key| world.owed.contains_key(key)) {
                    check(Event::AttemptFinished { task, outcome: succeeded() })?;
                }
            }
        }
    }
    for timer in timers(world) {
        let due = match world.owed.get(&EffectKey::Timer(timer.clone())) {
            Some(Effect::Timer(_, due)) => *due <= world.now,
            Some(_) | None => false,
        };
        if !due {
            check(Event::TimerFired { timer })?;
        }
    }
    for told in world.ledger.told.values() {
        check(told.0.clone())?;
    }
    for run in world.partition.runs() {
        messages(world, run).into_iter().try_for_each(&mut check)?;
    }
    Ok(())
}

/// Every timer that a run could have.
fn timers(world: &World) -> Vec<TimerKey> {
    let mut timers = Vec::new();
    for run in world.partition.runs() {
        let mut push = |kind| timers.push(TimerKey { run: run.id(), kind });
        push(TimerKind::RunTimeout);
        for step in &world.definition(run).steps {
            push(TimerKind::Wait { step: step.name.clone() });
            push(TimerKind::StepTotal { step: step.name.clone() });
        }
        for (place, trace) in world.ledger.places.iter().filter(|(place, _)| place.run == run.id()) {
            for leg in [Leg::Forward, Leg::Undo] {
                for attempt in 1..=trace.out.of(leg) + 1 {
                    push(TimerKind::Backoff { step: place.step.clone(), item: place.item, leg, attempt });
                }
            }
        }
    }
    timers
}

/// What was said to one run and is not owed any more.
fn messages(world: &World, run: &Arc<Run>) -> Vec<Event> {
    let mut said = vec![Event::RunStarted(Arc::clone(&run.start))];
    if let Some(link) = &run.start.parent {
        if !world.owed.contains_key(&EffectKey::StartChild(run.id())) {
            said.push(Event::ChildStarted { link: link.clone(), child: run.id() });
        }
        said.extend((1..=run.informed).map(|ending| Event::ParentInformed { run: run.id(), ending }));
    }
    if run.phase != Phase::Running {
        said.push(Event::CancelRequested { run: run.id(), compensate: true, reason: "once more".into() });
    }
    if let Some(name) = signal_names(&world.partition, run).into_iter().next() {
        said.extend(run.signal_ids.iter().map(|id| Event::SignalReceived {
            run: run.id(),
            name: Arc::clone(&name),
            payload: Value::Null,
            id: Some(Arc::clone(id)),
        }));
    }
    said
}

fn signal_names(partition: &Partition, run: &Run) -> Vec<Arc<str>> {
    let definition = partition.definition(&run.start.version).expect("its version is known");
    let of = |step: &patchloom_core::Step| match &step.action {
        patchloom_core::Action::Wait(patchloom_core::Wait::Signal { name, .. }) => Some(Arc::clone(name)),
        _ => None,
    };
    definition.steps.iter().filter_map(of).collect()
}
