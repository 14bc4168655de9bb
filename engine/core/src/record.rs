//! What the journal holds: facts and orders, in the order in which they count.
//!
//! Everything that `apply` needs stands in the record, the time too. The JSON form is read for years:
//! fields are added with a default, never renamed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Failure, Leg, Outcome, RunId, StepName, TaskKey, UtcMs};

/// The meaning of the records written by this code. An engine that meets a higher number does not lead.
pub const SEMANTICS: u32 = 1;

/// All that one append commits: entries that share an instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's clock when it built the batch; never before the batch before it.
    pub at: UtcMs,
    /// In order.
    pub entries: Vec<Entry>,
}

/// One fact or order, and who says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `engine`, `worker:NAME`, `user:NAME`, `run:ID`.
    pub by: Arc<str>,
    /// What.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A version of a workflow is known from here on, and is what its name means.
    DefinitionRegistered {
        /// Its canonical JSON.
        text: Arc<str>,
    },
    /// A run begins.
    RunStarted(Arc<Start>),
    /// A worker reports how an attempt ended.
    AttemptFinished {
        /// Which.
        task: TaskKey,
        /// How.
        outcome: Outcome,
    },
    /// An instant has come that a run waits for.
    TimerFired {
        /// Which.
        timer: TimerKey,
    },
    /// A named message to one run.
    SignalReceived {
        /// To which.
        run: RunId,
        /// Its name.
        name: Arc<str>,
        /// Its content.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        payload: Value,
        /// The sender's id of it: the same id twice counts once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
    },
    /// A child run exists.
    ChildStarted {
        /// Where it hangs.
        link: Parent,
        /// Which.
        child: RunId,
    },
    /// A child run ended, or ended anew after it was unwound.
    ChildEnded {
        /// Where it hangs.
        link: Parent,
        /// How.
        report: Box<Report>,
    },
    /// The parent of a run has recorded its report.
    ParentInformed {
        /// The child.
        run: RunId,
        /// Which of its endings: counts from 1.
        ending: u32,
    },
    /// Somebody wants a run to stop.
    CancelRequested {
        /// Which.
        run: RunId,
        /// Whether what was done is undone.
        compensate: bool,
        /// Why.
        reason: Arc<str>,
    },
    /// The parent of a run that succeeded takes it back.
    UnwindRequested {
        /// The child.
        run: RunId,
        /// Why the parent fails.
        failure: Failure,
    },
    /// An operator decides on a compensation that failed.
    UndoResolved {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// The item.
        #[serde(default)]
        item: u32,
        /// What to do.
        how: Resolution,
    },
    /// An operator has a run tried again: its failed compensations, or what failed of an ended run.
    RetryRequested {
        /// Which.
        run: RunId,
    },
    /// A run that ended lies in the archive and leaves the state.
    RunRetired {
        /// Which.
        run: RunId,
    },
}

impl Event {
    /// The run it is about; `None` for what is about no run.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::DefinitionRegistered { .. } => None,
            Self::RunStarted(start) => Some(start.run),
            Self::AttemptFinished { task, .. } => Some(task.run),
            Self::TimerFired { timer } => Some(timer.run),
            Self::ChildStarted { link, .. } | Self::ChildEnded { link, .. } => Some(link.run),
            Self::SignalReceived { run, .. }
            | Self::ParentInformed { run, .. }
            | Self::CancelRequested { run, .. }
            | Self::UnwindRequested { run, .. }
            | Self::UndoResolved { run, .. }
            | Self::RetryRequested { run }
            | Self::RunRetired { run } => Some(*run),
        }
    }

    /// Its name, as the journal writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::DefinitionRegistered { .. } => "definition_registered",
            Self::RunStarted(_) => "run_started",
            Self::AttemptFinished { .. } => "attempt_finished",
            Self::TimerFired { .. } => "timer_fired",
            Self::SignalReceived { .. } => "signal_received",
            Self::ChildStarted { .. } => "child_started",
            Self::ChildEnded { .. } => "child_ended",
            Self::ParentInformed { .. } => "parent_informed",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::UnwindRequested { .. } => "unwind_requested",
            Self::UndoResolved { .. } => "undo_resolved",
            Self::RetryRequested { .. } => "retry_requested",
            Self::RunRetired { .. } => "run_retired",
        }
    }
}

/// All that a run begins with; it never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Its id.
    pub run: RunId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The version it is pinned to.
    pub version: Digest,
    /// The versions of the workflows that it or its children may start.
    #[serde(default, skip_serializing_if = "no_pins")]
    pub pins: Arc<BTreeMap<Arc<str>, Digest>>,
    /// Its inputs, as given.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub inputs: Value,
    /// Whose child it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The idempotency key of the start: the same key twice gives the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// For people and searches.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Where its jitter comes from.
    pub seed: u64,
}

fn no_pins(pins: &Arc<BTreeMap<Arc<str>, Digest>>) -> bool {
    pins.is_empty()
}

/// The place in a parent run at which a child hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent.
    pub run: RunId,
    /// The step.
    pub step: StepName,
    /// The item.
    #[serde(default)]
    pub item: u32,
    /// The attempt.
    pub attempt: u32,
}

/// What a child tells its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The child.
    pub child: RunId,
    /// How it ended.
    pub end: End,
    /// Which of its endings: counts from 1.
    pub ending: u32,
    /// Its output, where it succeeded.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether there is anything to take back.
    pub revocable: bool,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All its steps did what they should.
    Succeeded,
    /// It failed and there was nothing to undo, or its point of no return was behind it.
    Failed,
    /// It failed, was cancelled or was taken back, and all that it had done is undone.
    Compensated,
    /// It was cancelled and nothing was undone.
    Cancelled,
}

impl End {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an operator decides on a compensation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Try again.
    Retry,
    /// It was undone by hand, or need not be: this is what a person did about it.
    Resolved {
        /// What.
        note: Arc<str>,
    },
}

/// A durable wake-up of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerKey {
    /// Whose.
    pub run: RunId,
    /// What for.
    pub kind: TimerKind,
}

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// The wait before the next attempt.
    Backoff {
        /// The step.
        step: StepName,
        /// The item.
        #[serde(default)]
        item: u32,
        /// Which way.
        #[serde(default)]
        leg: Leg,
        /// The attempt that comes next.
        attempt: u32,
    },
    /// The end of a `wait`.
    Wait {
        /// The step.
        step: StepName,
    },
    /// A step's total limit.
    StepTotal {
        /// The step.
        step: StepName,
    },
    /// The run's limit.
    RunTimeout,
}
