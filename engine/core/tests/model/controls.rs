//! What must hold of places in groups, of pauses, of steps that wait for a decision, and of the last steps of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{Decision, Event, TimerKey, TimerKind};
use patchloom_core::run::{Phase, Run, Skip, Status, StepRun};
use patchloom_core::{Concurrency, Definition, Effect, EffectKey, Leg, RunId, Step, StepName, Template};

use super::rules::{Edge, Rule, Verdict, hold};
use super::world::World;

/// What must hold on an edge that is no refusal.
pub fn edge(edge: &Edge<'_>) -> Verdict {
    for effect in edge.answer.iter().flat_map(|applied| &applied.effects) {
        let (run, step) = match effect {
            Effect::Dispatch(task) if task.key.leg == Leg::Forward => (task.key.run, &task.key.step),
            Effect::Dispatch(task) => {
                starts_unpaused(edge, task.key.run, None)?;
                continue;
            }
            Effect::Emit { task, .. } => (task.run, &task.step),
            Effect::StartChild(start) => match &start.parent {
                Some(link) => (link.run, &link.step),
                None => continue,
            },
            Effect::Cancel(_)
            | Effect::Timer(..)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => continue,
        };
        starts_unpaused(edge, run, Some(step))?;
    }
    for run in edge.after.partition.runs() {
        let Some(before) = edge.before.partition.run(run.id()) else { continue };
        held_waits(edge, before, run)?;
        if run.endings > before.endings {
            last_steps(edge.before, edge.after, run)?;
        }
    }
    Ok(())
}

/// A pause lets nothing out. Only what went out before is told again when a run is released that was set aside.
fn starts_unpaused(edge: &Edge<'_>, run: RunId, step: Option<&StepName>) -> Verdict {
    if matches!(edge.event, Event::ReleaseRequested { .. }) {
        return Ok(());
    }
    let run = edge.after.partition.run(run).expect("it is known");
    let definition = edge.after.definition(run);
    let of_step = step
        .and_then(|step| definition.position(step.as_str()))
        .is_some_and(|at| run.steps[at].holds.iter().any(patchloom_core::run::Hold::is_whole));
    hold(Rule::NothingStartsWhilePaused, run.paused.is_none() && !of_step, || {
        format!("{step:?} starts, the run is paused: {}, the step: {of_step}", run.paused.is_some())
    })
}

/// A step that waits for a decision moves by that decision alone, or because its run goes back for another reason.
fn held_waits(edge: &Edge<'_>, before: &Run, after: &Run) -> Verdict {
    if before.start.version != after.start.version {
        // Its steps may stand elsewhere now; what is held must be the same in both versions.
        return Ok(());
    }
    let definition = edge.after.definition(after);
    for (at, step) in definition.steps.iter().enumerate() {
        let (was, is) = (&before.steps[at].status, &after.steps[at].status);
        if !matches!(was, Status::Held { .. }) || was == is {
            continue;
        }
        let decided = match edge.event {
            Event::StepDecided { run, step: about, how } if *run == after.id() && *about == step.name => match how {
                Decision::Retry => matches!(is, Status::Active | Status::Pending),
                Decision::Skip { .. } => *is == Status::Skipped(Skip::Operator),
                Decision::Fail => matches!(is, Status::Failed(_)),
            },
            _ => before.phase == Phase::Running && after.phase != Phase::Running && matches!(is, Status::Failed(_)),
        };
        hold(Rule::HeldStepWaits, decided, || format!("`{}` was held and is {}", step.name, is.name()))?;
    }
    Ok(())
}

/// Each step under `finally` went out once since the run last ended, if it was its turn at all.
fn last_steps(before: &World, after: &World, run: &Run) -> Verdict {
    let definition = after.definition(run);
    for (step, state) in definition.steps.iter().zip(&run.steps).filter(|(step, _)| step.finally) {
        let out = before.ledger.last_steps.get(&(run.id(), step.name.clone())).copied().unwrap_or(0);
        let wanted = u32::from(!matches!(state.status, Status::Skipped(_)));
        hold(Rule::LastStepsRunOnce, out == wanted && state.status.is_settled(), || {
            format!("`{}` is {} and went out {out} times", step.name, state.status.name())
        })?;
    }
    Ok(())
}

/// What must hold of the groups in `world`.
pub fn state(world: &World) -> Verdict {
    let mut held: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for run in world.partition.runs() {
        if let Some(group) = &run.place {
            *held.entry(Arc::clone(group)).or_default() += 1;
        }
        for (step, state) in world.definition(run).steps.iter().zip(&run.steps) {
            let Some(concurrency) = &step.concurrency else { continue };
            let busy =
                state.work.as_ref().map_or(0, |work| work.live.values().filter(|live| live.at.has_place()).count());
            *held.entry(name(concurrency)).or_default() += u32::try_from(busy).expect("a model has few items");
        }
    }
    held.retain(|_, held| *held > 0);
    let groups = world.partition.shared().groups();
    let said: BTreeMap<Arc<str>, u32> =
        groups.iter().filter(|(_, group)| group.held > 0).map(|(name, group)| (Arc::clone(name), group.held)).collect();
    hold(Rule::PlacesAreThoseHeld, said == held, || format!("the groups say {said:?}, the runs hold {held:?}"))?;
    for (name, group) in groups {
        hold(Rule::StaysWithinItsLimits, group.held <= group.limit, || {
            format!("`{name}` is over its limit: {group:?}")
        })?;
        let idle = world.partition.runs().find_map(|run| could_take(run, world.definition(run), name));
        let idle = idle.filter(|_| group.held < group.limit);
        hold(Rule::NoPlaceLiesIdle, idle.is_none(), || format!("`{name}` has room, and {idle:?} waits: {group:?}"))?;
    }
    // A group that nobody holds a place of is forgotten, and nobody may wait for it.
    for run in world.partition.runs() {
        let lost = match &run.phase {
            Phase::Queued { group } => !groups.contains_key(group),
            _ => false,
        };
        hold(Rule::NoPlaceLiesIdle, !lost, || format!("{} stands in no line", run.id()))?;
    }
    Ok(())
}

/// A run's own limit counts neither its pauses nor its time in line.
pub fn limit(world: &World, run: &Run) -> Verdict {
    let key = EffectKey::Timer(TimerKey { run: run.id(), kind: TimerKind::RunTimeout });
    let Some(Effect::Timer(_, due)) = world.owed.get(&key) else { return Ok(()) };
    let limit = world.definition(run).timeout.expect("it has a timer");
    let spent = world.ledger.spent.get(&run.id()).copied().unwrap_or_default();
    let right = due.0 + spent.0 == world.now.0 + limit.0;
    hold(Rule::LimitCountsWorkOnly, right, || {
        format!("{} ran for {spent} of {limit}, and is stopped in {}", run.id(), due.since(world.now))
    })
}

/// Groups of models have plain names.
fn name(concurrency: &Concurrency) -> Arc<str> {
    match &concurrency.group {
        Template::Literal(serde_json::Value::String(name)) => name.as_str().into(),
        other => panic!("the group of a model has a plain name: {other:?}"),
    }
}

/// Whether items of a step stand in line for a place in its group.
pub fn stands_in_line(state: &StepRun, step: &Step) -> bool {
    let Some(concurrency) = &step.concurrency else { return false };
    let limit = format!("g:{}", name(concurrency));
    matches!(state.status, Status::Active)
        && state.work.as_ref().is_some_and(|work| {
            let wide = work.lanes.wide().is_some_and(|wide| wide.0.as_ref() == limit);
            !work.stopping && (wide || work.lanes.lines().any(|(line, _)| line.0.as_ref() == limit))
        })
}

/// What of `run` stands in line for `group` and nothing else holds it back.
fn could_take(run: &Run, definition: &Definition, group: &Arc<str>) -> Option<String> {
    if matches!(&run.phase, Phase::Queued { group: own } if own == group) {
        return Some(format!("the run {}", run.id()));
    }
    if !matches!(run.phase, Phase::Running | Phase::Halting | Phase::Closing { .. }) || run.paused.is_some() {
        return None;
    }
    definition.steps.iter().zip(&run.steps).find_map(|(step, state)| {
        let own = step.concurrency.as_ref().is_some_and(|concurrency| name(concurrency) == *group);
        let free = !state.holds.iter().any(patchloom_core::run::Hold::is_whole);
        let limit = step.for_each.as_ref().and_then(|for_each| for_each.max_parallel).unwrap_or(u32::MAX);
        let room = state.work.as_ref().is_some_and(|work| work.lanes.busy < limit);
        (own && free && room && stands_in_line(state, step)).then(|| format!("`{}` of {}", step.name, run.id()))
    })
}
