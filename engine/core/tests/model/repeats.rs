//! Messages come more than once, at once and much later: whatever is not owed is refused as known, and changes nothing.

use std::sync::Arc;

use patchloom_core::record::{Event, TimerKey, TimerKind};
use patchloom_core::run::{Phase, Refusal, Run};
use patchloom_core::{Effect, EffectKey, Leg, TaskKey};
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
            | Event::PauseRequested { .. }
            | Event::ResumeRequested { .. }
            | Event::StepDecided { .. }
            | Event::RerunRequested { .. }
            | Event::Tuned { .. }
            | Event::Migrated { .. }
            | Event::QuarantineRequested { .. }
            | Event::ReleaseRequested { .. }
    );
    // What goes on may be held back at once again, for another reason; then it may go on once more.
    let held_back_again = matches!(edge.event, Event::ResumeRequested { .. });
    let same = || state.runs().eq(edge.after.partition.runs());
    let harmless = match &answer {
        Err(Refusal::Stale(_)) => same(),
        // Who gives an order that makes no sense any more is told so.
        Err(Refusal::Illegal(_)) => order && same(),
        // What failed at once, for want of a value, may be tried at once again: to the same effect.
        Ok(applied) => order && (applied.effects.is_empty() || held_back_again),
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
        let run = event.run().and_then(|run| world.partition.run(run));
        // A person who comes too late is told so, and whoever speaks to a run that was set aside.
        let told = run.is_some_and(|run| {
            let person = matches!(event, Event::CancelRequested { .. }) && run.start.parent.is_none();
            person || matches!(run.phase, Phase::Quarantined { .. })
        });
        let known = match &answer {
            Err(Refusal::Stale(_)) => true,
            Err(Refusal::Illegal(_)) => told,
            Ok(_) => false,
        };
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
                let owed =
                    [EffectKey::Dispatch(task.clone()), EffectKey::Cancel(task.clone()), EffectKey::Emit(task.clone())];
                if !owed.iter().any(|key| world.owed.contains_key(key)) {
                    check(Event::AttemptFinished { task, outcome: succeeded(), tell: Vec::new() })?;
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
            let waves = step.for_each.as_ref().map_or(0, |for_each| for_each.waves.len());
            for wave in 0..=u32::try_from(waves).expect("a model has few") {
                push(TimerKind::Wave { step: step.name.clone(), wave, gate: false });
                push(TimerKind::Wave { step: step.name.clone(), wave, gate: true });
            }
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
    if !matches!(run.phase, Phase::Running | Phase::Queued { .. }) {
        said.push(Event::CancelRequested { run: run.id(), compensate: true, reason: "once more".into() });
    }
    said.extend(run.signal_ids.iter().map(|id| Event::SignalReceived {
        run: run.id(),
        name: "any".into(),
        payload: Value::Null,
        id: Some(Arc::clone(id)),
        roles: Vec::new(),
    }));
    said
}
