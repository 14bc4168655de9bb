//! A run's history told again: each entry with what it changed, and when each step began and ended.
//!
//! Nothing of this is stored: the entries are folded once more, as the leader did.

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{Decision, Entry, Event, Extent, Rerun, TimerKind};
use patchloom_core::run::{Fact, FactKind};
use patchloom_core::{Definition, FailureClass, Leg, Outcome, Partition, TaskKey, UtcMs};
use patchloom_engine::runtime::Item;
use serde_json::Value;

/// One entry and what it changed.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The entry.
    pub item: Item,
    /// What changed.
    pub facts: Vec<Fact>,
    /// Why nothing changed, where the state refused it.
    pub refused: Option<String>,
}

/// When a step was at work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Since when.
    pub started: Option<UtcMs>,
    /// Until when.
    pub ended: Option<UtcMs>,
}

/// Folds the history of one run once more.
pub(super) fn tell(definition: &Definition, history: Vec<Item>) -> Vec<Told> {
    let mut state = Partition::default();
    let register = Event::DefinitionRegistered { text: Arc::clone(&definition.canonical) };
    // It was registered once; a state that knows nothing yet takes it.
    let _ = state.apply(0, UtcMs(0), &Entry { by: "engine".into(), event: register });
    let fold = |item: Item| match state.apply(item.seq, item.at, &item.entry) {
        Ok(applied) => Told { item, facts: applied.facts, refused: None },
        Err(refusal) => Told { item, facts: Vec::new(), refused: Some(refusal.to_string()) },
    };
    history.into_iter().map(fold).collect()
}

/// When each step was at work on the way forward, the last time.
pub(super) fn times(story: &[Told]) -> BTreeMap<String, Times> {
    let mut times: BTreeMap<String, Times> = BTreeMap::new();
    for told in story {
        for fact in &told.facts {
            let FactKind::Step(step, status) = &fact.kind else { continue };
            let entry = times.entry(step.to_string()).or_default();
            match *status {
                "active" | "waiting" => *entry = Times { started: Some(told.item.at), ended: None },
                "pending" => *entry = Times::default(),
                "skipped" => {}
                _ => {
                    entry.started = entry.started.or(Some(told.item.at));
                    entry.ended = Some(told.item.at);
                }
            }
        }
    }
    times
}

/// The steps that an entry is about or changed.
pub(super) fn touches(told: &Told, step: &str) -> bool {
    let changed = told.facts.iter().any(|fact| match &fact.kind {
        FactKind::Step(name, _) | FactKind::Undo(name, _) | FactKind::Wave(name, ..) => name.as_str() == step,
        FactKind::Told { step: name, .. } => name.as_str() == step,
        FactKind::Phase(_) | FactKind::Missed { .. } => false,
    });
    changed || subject(&told.item.entry.event).is_some_and(|name| name == step)
}

fn subject(event: &Event) -> Option<&str> {
    match event {
        Event::AttemptFinished { task, .. } => Some(task.step.as_str()),
        Event::TimerFired { timer } => match &timer.kind {
            TimerKind::Backoff { step, .. } | TimerKind::Wait { step } | TimerKind::StepTotal { step } => {
                Some(step.as_str())
            }
            TimerKind::Opens { step, .. } | TimerKind::Wave { step, .. } => Some(step.as_str()),
            TimerKind::RunTimeout | TimerKind::Debounce => None,
        },
        Event::ChildStarted { link, .. } | Event::ChildEnded { link, .. } => Some(link.step.as_str()),
        Event::UndoResolved { step, .. } | Event::Tuned { step, .. } | Event::StepDecided { step, .. } => {
            Some(step.as_str())
        }
        Event::EventEmitted { task } => Some(task.step.as_str()),
        Event::PauseRequested { what, .. } | Event::ResumeRequested { what, .. } => match what {
            Extent::Run => None,
            Extent::Step(step) | Extent::Items { step, .. } => Some(step.as_str()),
        },
        Event::RunRecalled { .. }
        | Event::RerunRequested { .. }
        | Event::Migrated { .. }
        | Event::QuarantineRequested { .. }
        | Event::ReleaseRequested { .. }
        | Event::EventReceived { .. }
        | Event::CalendarSet { .. }
        | Event::ScheduleArmed { .. }
        | Event::ScheduleDue { .. }
        | Event::DefinitionRegistered { .. }
        | Event::RunStarted(_)
        | Event::SignalReceived { .. }
        | Event::ParentInformed { .. }
        | Event::CancelRequested { .. }
        | Event::UnwindRequested { .. }
        | Event::RetryRequested { .. }
        | Event::RunRetired { .. } => None,
    }
}

/// An event as a sentence.
pub(super) fn sentence(event: &Event) -> String {
    match event {
        Event::DefinitionRegistered { .. } => "a workflow was registered".to_owned(),
        Event::RunStarted(start) => format!("the run of {} was started", start.workflow),
        Event::AttemptFinished { task, outcome, .. } => attempt(task, outcome),
        Event::TimerFired { timer } => match &timer.kind {
            TimerKind::Backoff { step, leg: Leg::Forward, attempt, .. } => {
                format!("the wait before attempt {attempt} of {step} was over")
            }
            TimerKind::Backoff { step, leg: Leg::Undo, attempt, .. } => {
                format!("the wait before attempt {attempt} to undo {step} was over")
            }
            TimerKind::Wait { step } => format!("the wait of {step} was over"),
            TimerKind::StepTotal { step } => format!("the time for all of {step} was over"),
            TimerKind::RunTimeout => "the time for the whole run was over".to_owned(),
            TimerKind::Opens { step, .. } => format!("items of {step} may go on by the clock"),
            TimerKind::Wave { step, wave, gate: false } => format!("the soak of wave {wave} of {step} was over"),
            TimerKind::Wave { step, wave, gate: true } => {
                format!("the wait at the gate of wave {wave} of {step} was over")
            }
            TimerKind::Debounce => "a burst of events was over".to_owned(),
        },
        Event::SignalReceived { name, payload, .. } => {
            let with = if payload.is_null() { String::new() } else { format!(" with {payload}") };
            format!("the signal {name} came{with}")
        }
        Event::ChildStarted { link, child } => format!("{} has the child run {child}", link.step),
        Event::ChildEnded { link, report } => {
            let why = report.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
            format!("the child run {} of {} {}{why}", report.child, link.step, report.end.name())
        }
        Event::ParentInformed { .. } => "the parent run knows how it ended".to_owned(),
        Event::CancelRequested { compensate, reason, .. } => {
            let how = if *compensate { "" } else { ", without undoing anything" };
            format!("it was to be cancelled{how}: {reason}")
        }
        Event::UnwindRequested { failure, .. } => format!("the parent run takes it back: {}", failure.message),
        Event::UndoResolved { step, item, how, .. } => match how {
            patchloom_core::record::Resolution::Retry => format!("undoing {step} (item {item}) is to be tried again"),
            patchloom_core::record::Resolution::Resolved { note } => {
                format!("{step} (item {item}) was undone by hand: {note}")
            }
        },
        Event::RetryRequested { .. } => "it was to be tried again".to_owned(),
        Event::RunRetired { .. } => "it went to the archive".to_owned(),
        other => operation(other),
    }
}

/// What operators and calendars bring.
fn operation(event: &Event) -> String {
    match event {
        Event::RunRecalled { .. } => "it came back from the archive".to_owned(),
        Event::PauseRequested { what, reason, .. } => format!("{} was paused: {reason}", extent(what)),
        Event::ResumeRequested { what, .. } => format!("{} was to go on", extent(what)),
        Event::Tuned { step, .. } => format!("the limits of {step} were changed"),
        Event::StepDecided { step, how, .. } => match how {
            Decision::Retry => format!("{step} is to be tried again"),
            Decision::Skip { note } => format!("{step} is to be skipped: {note}"),
            Decision::Fail => format!("{step} is to fail"),
        },
        Event::RerunRequested { from, .. } => match from {
            Rerun::Failed => "it was to go again from what failed".to_owned(),
            Rerun::Step(step) => format!("it was to go again from {step}"),
            Rerun::Items(step) => format!("the failed items of {step} were to go again"),
        },
        Event::Migrated { version, .. } => format!("it goes on as {version}"),
        Event::QuarantineRequested { reason, .. } => format!("it was set aside: {reason}"),
        Event::ReleaseRequested { .. } => "it was released".to_owned(),
        Event::EventEmitted { task } => format!("the event of {} was published", task.step),
        Event::EventReceived { event } => format!("the event {} of {} came", event.kind, event.source),
        other => other.name().replace('_', " "),
    }
}

fn extent(what: &Extent) -> String {
    match what {
        Extent::Run => "the run".to_owned(),
        Extent::Step(step) => step.to_string(),
        Extent::Items { step, when } => format!("items of {step} where {when}"),
    }
}

fn attempt(task: &TaskKey, outcome: &Outcome) -> String {
    let item = if task.item == 0 { String::new() } else { format!(" item {}", task.item) };
    let what = match task.leg {
        Leg::Forward => format!("attempt {} of {}{item}", task.attempt, task.step),
        Leg::Undo => format!("attempt {} to undo {}{item}", task.attempt, task.step),
    };
    match outcome {
        Outcome::Succeeded { .. } => format!("{what} succeeded"),
        Outcome::Failed(failure) => {
            let class = match failure.class {
                FailureClass::Transient => "may pass",
                FailureClass::Permanent => "for good",
                FailureClass::Ambiguous => "perhaps",
            };
            format!("{what} failed ({class}): {}: {}", failure.code, failure.message)
        }
        Outcome::Cancelled => format!("{what} was stopped"),
    }
}

/// What an entry changed, in a few words; empty where nothing.
pub(super) fn consequences(told: &Told) -> String {
    let words = told.facts.iter().map(|fact| match &fact.kind {
        FactKind::Phase(phase) => format!("run {phase}"),
        FactKind::Step(step, status) => format!("{step} {status}"),
        FactKind::Undo(step, undo) => format!("undo of {step} {undo}"),
        FactKind::Wave(step, wave, what) => format!("wave {wave} of {step} {what}"),
        FactKind::Told { told, .. } => match &told.subject {
            Some(subject) => format!("told {} of {subject}", told.kind),
            None => format!("told {}", told.kind),
        },
        FactKind::Missed { nominal, why, .. } => format!("{nominal} passed without a run: {why}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// An entry with what it changed, for programs.
pub(super) fn as_json(told: &Told) -> Value {
    let facts = told.facts.iter().map(|fact| match &fact.kind {
        FactKind::Phase(phase) => serde_json::json!({ "run": phase }),
        FactKind::Step(step, status) => serde_json::json!({ "step": step, "status": status }),
        FactKind::Undo(step, undo) => serde_json::json!({ "step": step, "undo": undo }),
        FactKind::Wave(step, wave, what) => serde_json::json!({ "step": step, "wave": wave, "what": what }),
        FactKind::Told { step, item, told } => serde_json::json!({ "step": step, "item": item, "told": told }),
        FactKind::Missed { nominal, why, .. } => serde_json::json!({ "missed": nominal, "why": why }),
    });
    serde_json::json!({
        "seq": told.item.seq, "at": crate::output::time::rfc3339(told.item.at), "by": told.item.entry.by,
        "event": told.item.entry.event, "text": sentence(&told.item.entry.event),
        "changed": facts.collect::<Vec<Value>>(), "refused": told.refused,
    })
}
