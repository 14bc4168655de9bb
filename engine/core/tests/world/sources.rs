//! What must hold of events and schedules: an event counts once, an instant comes once, overlap is as it was declared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{Event, Start};
use patchloom_core::run::Phase;
use patchloom_core::{Effect, Overlap, Partition, RunId, ScheduleKey, UtcMs};

/// How long the machine remembers which events came.
const SEEN_KEPT: u64 = 24 * 3_600_000;

/// What events and schedules brought so far.
#[derive(Clone, Default)]
pub struct Sources {
    /// When each event was accepted, by source and id.
    events: BTreeMap<(String, String), UtcMs>,
    /// The events that started a run, by workflow.
    by_event: BTreeSet<(Arc<str>, Arc<str>, Arc<str>)>,
    /// The instants that started a run, by workflow.
    instants: BTreeSet<(Arc<str>, Arc<str>)>,
    /// The last run of each schedule.
    last: BTreeMap<Arc<str>, RunId>,
    /// Whether that was open before the record that is looked at, and what of it counts.
    open: BTreeMap<Arc<str>, RunId>,
    begun: BTreeSet<RunId>,
}

fn label<'a>(start: &'a Start, name: &str) -> Option<&'a Arc<str>> {
    start.labels.get(name)
}

impl Sources {
    fn is_open(&self, state: &Partition, run: RunId) -> bool {
        !self.begun.contains(&run) || state.run(run).is_some_and(|run| run.end().is_none())
    }

    pub fn before(&mut self, state: &Partition, event: &Event) {
        self.open.clear();
        if let Event::ScheduleDue { workflow, .. } = event
            && let Some(last) = self.last.get(workflow).copied()
            && self.is_open(state, last)
        {
            self.open.insert(Arc::clone(workflow), last);
        }
    }

    pub fn record(&mut self, state: &Partition, (now, event): (UtcMs, &Event), effects: &[Effect]) {
        match event {
            Event::EventReceived { event } => {
                let former = self.events.insert((event.source.clone(), event.id.clone()), now);
                let fresh = former.is_none_or(|former| now.since(former).0 >= SEEN_KEPT);
                assert!(fresh, "the event {} of {} is accepted twice", event.id, event.source);
            }
            Event::RunStarted(start) => {
                self.begun.insert(start.run);
            }
            _ => {}
        }
        let started: Vec<&Start> = effects.iter().filter_map(started).collect();
        for start in &started {
            let workflow = Arc::clone(&start.workflow);
            if let (Some(source), Some(id)) = (label(start, "event.source"), label(start, "event.id")) {
                let known = !self.by_event.insert((Arc::clone(&workflow), Arc::clone(source), Arc::clone(id)));
                assert!(!known, "the event {id} of {source} starts `{workflow}` twice");
            }
            if let Some(time) = label(start, "schedule.time") {
                let known = !self.instants.insert((Arc::clone(&workflow), Arc::clone(time)));
                assert!(!known, "the instant {time} of `{workflow}` comes twice");
            }
        }
        if let Event::ScheduleDue { workflow, index, .. } = event {
            let key = ScheduleKey { workflow: Arc::clone(workflow), index: *index };
            let starts = started.iter().any(|start| start.workflow == *workflow);
            self.check_overlap(state, &key, starts);
        }
        for start in started.into_iter().filter(|start| label(start, "schedule.time").is_some()) {
            let former = self.last.insert(Arc::clone(&start.workflow), start.run);
            let behind = !matches!(event, Event::ScheduleDue { .. });
            let waits = former.is_some_and(|former| self.is_open(state, former));
            assert!(!(behind && waits), "a queued run of `{}` begins while the one before it is open", start.workflow);
        }
    }

    fn check_overlap(&self, state: &Partition, key: &ScheduleKey, starts: bool) {
        let overlap = state.schedule(key).expect("it was accepted").overlap;
        let Some(last) = self.open.get(&key.workflow) else {
            assert!(starts, "an instant of `{}` starts nothing, and nothing is in its way", key.workflow);
            return;
        };
        match overlap {
            Overlap::Allow => assert!(starts, "an instant of `{}` waits, though it need not", key.workflow),
            Overlap::Skip | Overlap::Queue => {
                assert!(!starts, "an instant of `{}` starts while its last run is open", key.workflow);
            }
            Overlap::Replace => {
                assert!(starts, "an instant of `{}` replaces nothing", key.workflow);
                let goes_on = state.run(*last).is_some_and(|run| matches!(run.phase, Phase::Running));
                assert!(!goes_on, "`{}` has another run, and {last} goes on", key.workflow);
            }
        }
    }
}

/// A run that a trigger starts.
fn started(effect: &Effect) -> Option<&Start> {
    match effect {
        Effect::StartChild(start) if start.parent.is_none() => Some(start),
        _ => None,
    }
}
