//! What records change, as those who watch hear it. Facts are told and forgotten: no state holds them.

use std::sync::Arc;

use crate::{RunId, StepName, Told, UtcMs};

/// A change worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Of which run.
    pub run: RunId,
    /// What.
    pub kind: FactKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// The run as a whole; the name of its phase.
    Phase(&'static str),
    /// A step; the name of its status.
    Step(StepName, &'static str),
    /// The way back of a step; the name of its state.
    Undo(StepName, &'static str),
    /// A wave of a fan-out; its number, and what it does.
    Wave(StepName, u32, &'static str),
    /// What a task told with its result.
    Told {
        /// Its step.
        step: StepName,
        /// Its item.
        item: u32,
        /// What it told.
        told: Box<Told>,
    },
    /// An instant of a schedule that starts nothing; its `run` is none that exists.
    Missed {
        /// The workflow.
        workflow: Arc<str>,
        /// The instant.
        nominal: UtcMs,
        /// Why.
        why: &'static str,
    },
}

/// The types of all events that facts of the engine become, in order. What tasks tell comes beside them.
pub const EVENT_TYPES: [&str; 33] = [
    "patchloom.run.cancelled",
    "patchloom.run.closing",
    "patchloom.run.compensated",
    "patchloom.run.compensating",
    "patchloom.run.compensation_failed",
    "patchloom.run.failed",
    "patchloom.run.halting",
    "patchloom.run.paused",
    "patchloom.run.quarantined",
    "patchloom.run.queued",
    "patchloom.run.resumed",
    "patchloom.run.running",
    "patchloom.run.succeeded",
    "patchloom.schedule.missed",
    "patchloom.step.active",
    "patchloom.step.done",
    "patchloom.step.failed",
    "patchloom.step.halted",
    "patchloom.step.held",
    "patchloom.step.paused",
    "patchloom.step.pending",
    "patchloom.step.resumed",
    "patchloom.step.skipped",
    "patchloom.step.waiting",
    "patchloom.undo.active",
    "patchloom.undo.done",
    "patchloom.undo.failed",
    "patchloom.undo.not_needed",
    "patchloom.undo.owed",
    "patchloom.wave.gated",
    "patchloom.wave.passed",
    "patchloom.wave.soaking",
    "patchloom.wave.started",
];

impl FactKind {
    /// The type of the event that it is.
    #[must_use]
    pub fn event_type(&self) -> String {
        match self {
            Self::Phase(phase) => format!("patchloom.run.{phase}"),
            Self::Step(_, status) => format!("patchloom.step.{status}"),
            Self::Undo(_, state) => format!("patchloom.undo.{state}"),
            Self::Wave(_, _, what) => format!("patchloom.wave.{what}"),
            Self::Told { told, .. } => told.kind.clone(),
            Self::Missed { .. } => "patchloom.schedule.missed".to_owned(),
        }
    }
}
