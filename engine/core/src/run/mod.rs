//! The state of one run, and the pure machine that moves it.
//!
//! `apply` is total: a record that does not fit is refused, never a panic. What moves it stands in `forward` (the
//! steps), `unwind` (the way back) and `orders` (what people and parents ask for); what it owes in `pending`.

mod forward;
mod machine;
mod orders;
mod pending;
mod scope;
mod unwind;
mod waits;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{End, Start};
use crate::{Failure, RunId, StepName, UtcMs};

pub(crate) use machine::begin;
pub use machine::{Applied, Fact, FactKind, Refusal, apply};
pub use pending::pending;
pub(crate) use waits::{as_key, deliver, key as wait_key, waiting as event_waits};
pub use why::{Reason, why};

/// How many signals a run keeps that no step has waited for yet.
pub const SIGNALS_MAX: usize = 100;

/// One run as of some record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// All it began with.
    pub start: Arc<Start>,
    /// When it began.
    pub started: UtcMs,
    /// When it ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<UtcMs>,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// Its inputs, completed by the defaults.
    pub inputs: Value,
    /// Why it fails or failed: the first cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Each step, in the order of the definition.
    pub steps: Vec<StepRun>,
    /// Signals that came before a step waited for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// The ids of the signals seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signal_ids: Vec<Arc<str>>,
    /// What it gives back, once it succeeded.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// How often it ended: once, and once more each time it was taken back or retried.
    #[serde(default)]
    pub endings: u32,
    /// Which of its endings its parent has recorded.
    #[serde(default)]
    pub informed: u32,
    /// The sequence number of the last record folded into it.
    pub seq: u64,
}

/// Where a run stands as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its steps go forward.
    Running,
    /// It fails: what is out comes to rest before anything is undone.
    Halting,
    /// What it did is being undone.
    Compensating,
    /// A compensation failed for good: an operator must retry or resolve it.
    CompensationFailed,
    /// A record about it could not be understood: it is set aside for an operator.
    Quarantined {
        /// Why.
        reason: Arc<str>,
    },
    /// It is over.
    Ended(End),
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Halting => "halting",
            Self::Compensating => "compensating",
            Self::CompensationFailed => "compensation_failed",
            Self::Quarantined { .. } => "quarantined",
            Self::Ended(end) => end.name(),
        }
    }
}

/// Why a run fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The step that failed first; `None` for the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What happened.
    pub failure: Failure,
    /// Whether somebody cancelled it.
    #[serde(default)]
    pub cancelled: bool,
    /// Whether what was done is undone.
    pub compensate: bool,
}

/// A signal that waits for its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name.
    pub name: Arc<str>,
    /// Its content.
    pub payload: Value,
}

/// One step of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// Its own work.
    pub status: Status,
    /// Its items, from when it becomes active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Box<Work>>,
    /// Its way back.
    #[serde(default, skip_serializing_if = "Undo::is_not_needed")]
    pub undo: Undo,
    /// The highest attempt number used on the way forward, in runs of it before a retry.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: u32,
    /// The same on the way back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undo_base: u32,
    /// When its status last changed.
    #[serde(default)]
    pub since: UtcMs,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where a step stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// What it needs has not ended.
    #[default]
    Pending,
    /// Its items are at work.
    Active,
    /// It waits for a signal or an instant.
    Waiting {
        /// Until when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UtcMs>,
    },
    /// It did what it should.
    Done {
        /// What came of it.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
        /// Whether it ended after the run had failed: what is undone does not read it.
        #[serde(default)]
        late: bool,
    },
    /// It did not run.
    Skipped(Skip),
    /// It failed.
    Failed(Failure),
    /// It was stopped because the run failed elsewhere.
    Halted,
}

impl Status {
    /// Whether the step will not move any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Pending | Self::Active | Self::Waiting { .. } => false,
            Self::Done { .. } | Self::Skipped(_) | Self::Failed(_) | Self::Halted => true,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Waiting { .. } => "waiting",
            Self::Done { .. } => "done",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
            Self::Halted => "halted",
        }
    }
}

/// Why a step did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its `if` came to false.
    Condition,
    /// Something before it failed.
    Upstream,
    /// The run failed before its turn came.
    Halted,
}

/// The items of an active step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// What `for_each` walks; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Value>,
    /// How many there are; 1 without `for_each`.
    pub count: u32,
    /// The first that has not been started: all before it have.
    pub next: u32,
    /// Those at work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub live: BTreeMap<u32, Live>,
    /// How many succeeded.
    #[serde(default)]
    pub done: u32,
    /// What came of them, where it is not null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<u32, Value>,
    /// Those that failed for good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<u32, Failure>,
    /// Child runs that succeeded and could be taken back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<u32, RunId>,
    /// Whether no further item is started.
    #[serde(default)]
    pub stopping: bool,
    /// What the step fails with, where it is not an item's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Failure>,
    /// The highest attempt number used.
    #[serde(default)]
    pub highest: u32,
}

/// An item at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Its attempt.
    pub attempt: u32,
    /// Where it is.
    pub at: At,
}

/// Where an item at work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// With a worker.
    Out,
    /// With a worker that was asked to stop.
    Stopping,
    /// Waiting for its next attempt.
    Backoff {
        /// Until when.
        until: UtcMs,
    },
    /// A child run.
    Child {
        /// Which.
        child: RunId,
        /// Whether it is known to exist.
        started: bool,
        /// Whether it was asked to stop.
        stopping: bool,
    },
}

/// The way back of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Nothing to undo.
    #[default]
    NotNeeded,
    /// What came after it is undone first.
    Owed,
    /// Its items are being undone.
    Active(Box<UndoWork>),
    /// Undone, or resolved by hand.
    Done {
        /// What people did about items that could not be undone.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        resolved: BTreeMap<u32, Arc<str>>,
    },
    /// Some items could not be undone.
    Failed(Box<UndoWork>),
}

impl Undo {
    /// Whether nothing is left to do on it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::NotNeeded | Self::Done { .. })
    }

    fn is_not_needed(&self) -> bool {
        *self == Self::NotNeeded
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Owed => "owed",
            Self::Active(_) => "active",
            Self::Done { .. } => "done",
            Self::Failed(_) => "failed",
        }
    }
}

/// The items of a step on their way back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UndoWork {
    /// All items below it have not been begun: the way back starts with the last.
    pub next: u32,
    /// Those at work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub live: BTreeMap<u32, Live>,
    /// Those that could not be undone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<u32, Failure>,
    /// What people did about some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resolved: BTreeMap<u32, Arc<str>>,
    /// The highest attempt number used.
    #[serde(default)]
    pub highest: u32,
}

impl Run {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.start.run
    }

    /// Whether it is over.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) => Some(end),
            Phase::Running
            | Phase::Halting
            | Phase::Compensating
            | Phase::CompensationFailed
            | Phase::Quarantined { .. } => None,
        }
    }
}
