//! What operators, signals and calendars bring to a world; the simulation of the engine has the same people.

use std::sync::Arc;

use patchloom_core::record::{Decision, End, Event, Extent, Rerun, Resolution, Tune};
use patchloom_core::run::{Phase, Run, Status, Undo, WaveAt};
use patchloom_core::{Action, CloudEvent, OpenSpan, Partition, UtcMs, Wait};
use serde_json::json;

use super::Dice;

pub const HOUR: u64 = 3_600_000;
/// How far ahead calendars are worked out.
pub const DAYS: u64 = 60;

/// The calendars that the generated definitions name, from `from` on.
pub fn calendars(from: UtcMs) -> Vec<Event> {
    let set = |name: &str, first: u64, length: u64| {
        let span = |day: u64| {
            let open = from.0 + (day * 24 + first) * HOUR;
            OpenSpan {
                open: UtcMs(open),
                close: UtcMs(open + length * HOUR),
                last_start: UtcMs(open + (length - 1) * HOUR),
            }
        };
        let spans: Vec<OpenSpan> = (0..DAYS).map(span).collect();
        let until = UtcMs(from.0 + DAYS * 24 * HOUR);
        Event::CalendarSet { name: name.into(), rules: Some(json!({})), spans: Arc::new(spans), until }
    };
    vec![set("night", 2, 11), set("day", 14, 12)]
}

/// What people want of the runs as they are. Calm people only help what is stuck.
pub fn wishes(state: &Partition, dice: &mut Dice, calm: bool) -> Vec<(&'static str, Event)> {
    let mut wishes = Vec::new();
    let mut say = |event: Event| wishes.push(("user:ann", event));
    for run in state.runs() {
        let id = run.id();
        match &run.phase {
            Phase::Ended(end) => over(run, *end, dice, calm, &mut say),
            Phase::CompensationFailed => resolve(state, run, dice, &mut say),
            Phase::Quarantined { .. } => say(Event::ReleaseRequested { run: id }),
            Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {
                stuck(state, run, dice, &mut say);
                if !calm {
                    meddle(state, run, dice, &mut say);
                }
            }
        }
    }
    let waiting =
        |run: &Arc<Run>| run.steps.iter().any(|step| waits(&step.status) || step.work.as_ref().is_some_and(gated));
    let waiting: Vec<Arc<Run>> = state.runs().filter(|run| waiting(run)).cloned().collect();
    for run in waiting {
        for (by, name) in [("user:ann", "go0"), ("user:bob", "go0"), ("user:ann", "go1")] {
            // Few at first, so that some come twice; many later, as each counts once for ever.
            let ids = if calm { 1_000_000 } else { 3 };
            let id = Some(format!("{by}-{name}-{}", dice.below(ids)).into());
            let event =
                Event::SignalReceived { run: run.id(), name: name.into(), payload: json!(1), id, roles: Vec::new() };
            wishes.push((by, event));
        }
    }
    if state.runs().any(|run| awaits_event(state, run)) {
        wishes.push(("user:ann", happening(dice, &["host.up"], if calm { u64::MAX } else { 40 })));
    }
    wishes
}

/// An event; where there are few `ids`, many come twice.
pub fn happening(dice: &mut Dice, kinds: &[&str], ids: u64) -> Event {
    let event = CloudEvent {
        specversion: "1.0".into(),
        id: format!("e{}", dice.below(ids)),
        source: "/world".into(),
        kind: (*dice.pick(kinds)).into(),
        subject: Some(format!("h{}", dice.below(2))),
        data: json!({"n": dice.below(9)}),
        ..CloudEvent::default()
    };
    Event::EventReceived { event: Arc::new(event) }
}

fn awaits_event(state: &Partition, run: &Run) -> bool {
    let definition = state.definition(&run.start.version).expect("a run's definition is known");
    let mut steps = definition.steps.iter().zip(&run.steps);
    steps.any(|(step, at)| waits(&at.status) && matches!(step.action, Action::Wait(Wait::Event(_))))
}

fn waits(status: &Status) -> bool {
    matches!(status, Status::Waiting { .. })
}

#[allow(clippy::borrowed_box, reason = "it is what the state holds")]
fn gated(work: &Box<patchloom_core::run::Work>) -> bool {
    work.wave.as_ref().is_some_and(|wave| matches!(wave.at, WaveAt::Gated { .. }))
}

fn over(run: &Run, end: End, dice: &mut Dice, calm: bool, say: &mut impl FnMut(Event)) {
    if calm || run.start.parent.is_some() || !dice.percent(if end == End::Succeeded { 1 } else { 4 }) {
        return;
    }
    let steps: Vec<usize> = (0..run.steps.len()).collect();
    let event = match dice.below(3) {
        0 => Event::RetryRequested { run: run.id() },
        _ => {
            let at = *dice.pick(&steps);
            let name = patchloom_core::StepName::from(format!("s{at}").as_str());
            let from = if dice.percent(50) { Rerun::Items(name) } else { Rerun::Step(name) };
            Event::RerunRequested { run: run.id(), from, inputs: serde_json::Map::new() }
        }
    };
    say(event);
}

/// What waits for an operator goes on.
fn stuck(state: &Partition, run: &Run, dice: &mut Dice, say: &mut impl FnMut(Event)) {
    let id = run.id();
    if run.paused.is_some() && dice.percent(60) {
        say(Event::ResumeRequested { run: id, what: Extent::Run });
    }
    let definition = state.definition(&run.start.version).expect("a run's definition is known");
    for (step, at) in definition.steps.iter().zip(&run.steps) {
        for hold in &at.holds {
            let what = match &hold.when {
                None => Extent::Step(step.name.clone()),
                Some(when) => Extent::Items { step: step.name.clone(), when: Arc::clone(when) },
            };
            if dice.percent(60) {
                say(Event::ResumeRequested { run: id, what });
            }
        }
        if let Status::Held { .. } = at.status {
            let how = match dice.below(3) {
                0 => Decision::Retry,
                1 => Decision::Skip { note: "not needed".into() },
                _ => Decision::Fail,
            };
            say(Event::StepDecided { run: id, step: step.name.clone(), how });
        }
    }
}

/// What people do to a run that goes well.
fn meddle(state: &Partition, run: &Run, dice: &mut Dice, say: &mut impl FnMut(Event)) {
    let run_id = run.id();
    let definition = state.definition(&run.start.version).expect("a run's definition is known");
    let step = dice.pick(&definition.steps).name.clone();
    let reason: Arc<str> = "a person said so".into();
    let extent = match dice.below(3) {
        0 => Extent::Run,
        1 => Extent::Step(step.clone()),
        _ => Extent::Items { step: step.clone(), when: "item % 2 == 0".into() },
    };
    match dice.below(40) {
        0 => say(Event::CancelRequested { run: run_id, compensate: dice.percent(70), reason }),
        1..4 => say(Event::PauseRequested { run: run_id, what: extent, reason }),
        4 => say(Event::QuarantineRequested { run: run_id, reason }),
        5..7 => {
            let max_parallel = Some(1 + u32::try_from(dice.below(4)).expect("a few"));
            let per = if dice.percent(50) {
                [(0, 1 + u32::try_from(dice.below(2)).expect("a few"))].into()
            } else {
                Default::default()
            };
            say(Event::Tuned { run: run_id, step, tune: Tune { max_parallel, per, tolerate: None } });
        }
        _ => {}
    }
}

fn resolve(state: &Partition, run: &Run, dice: &mut Dice, say: &mut impl FnMut(Event)) {
    let definition = state.definition(&run.start.version).expect("a run's definition is known");
    for (step, state) in definition.steps.iter().zip(&run.steps) {
        let Undo::Failed(undo) = &state.undo else { continue };
        for item in undo.failed.keys() {
            let how =
                if dice.percent(50) { Resolution::Retry } else { Resolution::Resolved { note: "by hand".into() } };
            say(Event::UndoResolved { run: run.id(), step: step.name.clone(), item: *item, how });
        }
    }
    if dice.percent(30) {
        say(Event::RetryRequested { run: run.id() });
    }
}
