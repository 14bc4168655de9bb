//! What must hold of limits after every record: none exceeded, none forgotten, nobody left in line for a free place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::run::{Live, Run, Work};
use patchloom_core::shared::Opening;
use patchloom_core::{Definition, Effect, Leg, Partition, RunId, Step, StepName, UtcMs, Wait, Window};
use serde_json::Value;

/// The value of a template that reads at most `item`, as the generated definitions write them.
fn text(template: &patchloom_core::Template, item: Option<Value>) -> String {
    let mut scope = patchloom_core::Scope::default();
    scope.values.extend(item.map(|item| ("item", item)));
    match template.eval(&scope).expect("a generated expression has a value") {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn item(work: &Work, at: u32) -> Option<Value> {
    work.items.get(usize::try_from(at).unwrap())
}

fn placed(work: &Work) -> impl Iterator<Item = (&u32, &Live)> {
    work.live.iter().filter(|(_, live)| live.at.has_place())
}

/// Checks the limits inside one step, where it has just sent something out.
pub fn check_step(run: &Run, step: &Step, at: usize) {
    let state = &run.steps[at];
    let (Some(work), Some(for_each)) = (&state.work, &step.for_each) else { return };
    let tuned = state.tuned.as_deref();
    let parallel = tuned.and_then(|tune| tune.max_parallel).or(for_each.max_parallel).unwrap_or(u32::MAX);
    let busy = u32::try_from(placed(work).count()).unwrap();
    assert!(busy <= parallel, "`{}` has {busy} items at work, {parallel} are allowed", step.name);
    for (per, nth) in for_each.per.iter().zip(0..) {
        let limit = tuned.and_then(|tune| tune.per.get(&nth)).copied().unwrap_or(per.limit);
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for (index, _) in placed(work) {
            *counts.entry(text(&per.key, item(work, *index))).or_default() += 1;
        }
        assert!(
            counts.values().all(|count| *count <= limit),
            "`{}`: {counts:?} at once, {limit} are allowed",
            step.name
        );
    }
    if let Some(wave) = &work.wave {
        assert!(placed(work).all(|(index, _)| *index < wave.end), "`{}` is ahead of its wave", step.name);
    }
}

/// Checks what a record sent out against the clock and against what is held back.
pub fn check_sent(state: &Partition, effects: &[Effect], now: UtcMs, said: &str) {
    for effect in effects {
        let (run, step, index) = match effect {
            Effect::Dispatch(task) if task.key.leg == Leg::Forward => (task.key.run, &task.key.step, task.key.item),
            Effect::StartChild(start) => {
                let Some(link) = &start.parent else { continue };
                (link.run, &link.step, link.item)
            }
            _ => continue,
        };
        let run = state.run(run).unwrap();
        let definition = state.definition(&run.start.version).unwrap();
        let at = definition.position(step.as_str()).unwrap();
        assert!(run.paused.is_none(), "`{step}` goes out of a paused run");
        // One that failed at once may have stopped the step behind those that this record sent out before it.
        let just_now = |hold: &patchloom_core::run::Hold| hold.exceeded && hold.since == now;
        assert!(
            run.steps[at].holds.iter().all(|hold| hold.when.is_some() || just_now(hold)),
            "`{step}` goes out though it is held, at {said}: {:#?}",
            run.steps[at]
        );
        check_step(run, &definition.steps[at], at);
        if let (Some(window), Some(work)) = (&definition.steps[at].window, &run.steps[at].work) {
            let opening = opening(state, definition, window, item(work, index), now);
            assert_eq!(opening, Opening::Now, "`{step}` goes out outside its window");
        }
    }
}

fn opening(state: &Partition, definition: &Definition, window: &Window, item: Option<Value>, now: UtcMs) -> Opening {
    let expected =
        window.expected.as_ref().map(|expected| text(expected, item.clone()).parse().unwrap()).unwrap_or_default();
    let name = text(&window.calendar, item);
    assert!(!definition.calendars.contains_key(name.as_str()), "the worlds have global calendars only");
    state.shared().opening(&name, now, expected)
}

/// The places that runs hold in groups, counted by what each run has at work.
#[derive(Clone, Default)]
pub struct Holdings {
    by_run: BTreeMap<RunId, BTreeMap<String, u32>>,
    taken: BTreeMap<String, u32>,
}

impl Holdings {
    /// Counts anew what these runs hold.
    pub fn follow(&mut self, state: &Partition, runs: &BTreeSet<RunId>) {
        for id in runs {
            for (name, count) in self.by_run.remove(id).unwrap_or_default() {
                *self.taken.get_mut(&name).expect("it was counted") -= count;
            }
            let held = state.run(*id).map(|run| held(state, run)).unwrap_or_default();
            for (name, count) in &held {
                *self.taken.entry(name.clone()).or_default() += count;
            }
            if !held.is_empty() {
                self.by_run.insert(*id, held);
            }
        }
    }

    /// What is held is what is taken, and nobody waits for a place that is free.
    pub fn check(&self, state: &Partition) {
        for (name, group) in state.shared().groups() {
            let taken = self.taken.get(name.as_ref()).copied().unwrap_or(0);
            assert_eq!(group.held, taken, "the group `{name}` counts its places");
            assert!(group.held <= group.limit, "the group `{name}` has {} of {} places taken", group.held, group.limit);
            if group.held < group.limit {
                let waiting: Vec<_> = state.shared().line(name).collect();
                assert!(waiting.is_empty(), "`{name}` has room, and {waiting:?} wait");
            }
        }
        let known = |name: &str| state.shared().groups().contains_key(name);
        let lost: Vec<_> = self.taken.iter().filter(|(name, taken)| **taken > 0 && !known(name)).collect();
        assert!(lost.is_empty(), "places nobody counts: {lost:?}");
    }
}

fn held(state: &Partition, run: &Run) -> BTreeMap<String, u32> {
    let mut held: BTreeMap<String, u32> = BTreeMap::new();
    let definition = state.definition(&run.start.version).unwrap();
    for (step, at) in definition.steps.iter().zip(&run.steps) {
        let (Some(concurrency), Some(work)) = (&step.concurrency, &at.work) else { continue };
        for (index, _) in placed(work) {
            *held.entry(text(&concurrency.group, item(work, *index))).or_default() += 1;
        }
    }
    if let Some(place) = &run.place {
        *held.entry(place.to_string()).or_default() += 1;
    }
    held
}

/// Why an active or waiting step will move, beyond what it has out: a full group, a closed window, a hold.
pub fn will_move(state: &Partition, run: &Run, step: &Step, at: usize) -> bool {
    let stands = &run.steps[at];
    if !stands.holds.is_empty() {
        return true;
    }
    if matches!(&step.action, patchloom_core::Action::Wait(Wait::Window(_))) {
        return true;
    }
    let Some(work) = &stands.work else { return false };
    if work.wave.as_ref().is_some_and(|wave| wave.at != patchloom_core::run::WaveAt::Working) {
        return true;
    }
    let lines = work.lanes.lines().map(|(limit, _)| limit).chain(work.lanes.wide());
    for limit in lines {
        let (kind, key) = limit.parts();
        let alive = match kind {
            "g" => {
                let me = |waiter: &patchloom_core::shared::Waiter| {
                    (waiter.run, waiter.step.as_ref()) == (run.id(), Some(&step.name))
                };
                state.shared().groups().get(key).is_some_and(|group| group.held >= group.limit)
                    && state.shared().line(key).any(me)
            }
            // Closed for ever, as far as is known: it waits for a change of the calendar.
            "w" | "r" => true,
            _ => false,
        };
        if alive {
            return true;
        }
    }
    false
}

/// The starts of each rate, to hold them against it.
#[derive(Clone, Default)]
pub struct Rates(BTreeMap<(Arc<str>, StepName), Vec<UtcMs>>);

impl Rates {
    pub fn check(&mut self, state: &Partition, effects: &[Effect], now: UtcMs) {
        for effect in effects {
            let (run, step): (RunId, &StepName) = match effect {
                Effect::Dispatch(task) if task.key.leg == Leg::Forward => (task.key.run, &task.key.step),
                Effect::StartChild(start) => match &start.parent {
                    Some(link) => (link.run, &link.step),
                    None => continue,
                },
                _ => continue,
            };
            let run = state.run(run).unwrap();
            let definition = state.definition(&run.start.version).unwrap();
            let at = definition.position(step.as_str()).unwrap();
            let Some(rate) = &definition.steps[at].rate else { continue };
            let starts = self.0.entry((Arc::clone(&definition.name), step.clone())).or_default();
            starts.retain(|start| now.since(*start) < rate.per);
            starts.push(now);
            let recent = starts.iter().filter(|start| now.since(**start) < rate.per).count();
            assert!(recent as u64 <= u64::from(rate.limit), "`{step}` starts {recent} times in {}", rate.per);
        }
    }
}
