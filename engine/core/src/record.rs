//! What the journal holds: facts and orders, in the order in which they count.
//!
//! Everything that `apply` needs stands in the record, the time too. The JSON form is read for years:
//! fields are added with a default, never renamed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calendar::Span;
use crate::event::CloudEvent;
use crate::run::Run;
use crate::{Digest, Failure, Leg, Outcome, RunId, StepName, TaskKey, Told, Tolerate, UtcMs};

/// The meaning of the records written by this code. An engine that meets a higher number does not lead.
pub const SEMANTICS: u32 = 3;

/// All that one append commits: entries that share an instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's clock when it built the batch; never before the batch before it.
    pub at: UtcMs,
    /// In order.
    pub entries: Vec<Entry>,
    /// The term that this batch opens, where several engines take turns; it is then without entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
}

/// The time in which one engine leads, from its opening record to that of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Counts from 1, without gaps.
    pub number: u64,
    /// The engine that leads.
    pub leader: Arc<str>,
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
        /// What else the world is to hear; the state does not keep it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tell: Vec<Told>,
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
        /// The roles of its sender, as the face that took it knows them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<Arc<str>>,
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
    /// A run that lay in the archive is needed again, because its parent takes it back.
    RunRecalled {
        /// As it was archived.
        run: Arc<Run>,
    },
    /// Nothing new of this run starts until it is resumed.
    PauseRequested {
        /// Which.
        run: RunId,
        /// What of it.
        what: Extent,
        /// Why.
        reason: Arc<str>,
    },
    /// What was paused goes on.
    ResumeRequested {
        /// Which.
        run: RunId,
        /// What of it.
        what: Extent,
    },
    /// An operator changes the limits of a fan-out.
    Tuned {
        /// Which run.
        run: RunId,
        /// Which step.
        step: StepName,
        /// What changes; the rest stays.
        tune: Tune,
    },
    /// An operator decides on a step that failed and waits for that.
    StepDecided {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// What to do.
        how: Decision,
    },
    /// A run that ended goes again, in part.
    RerunRequested {
        /// Which.
        run: RunId,
        /// From where.
        from: Rerun,
        /// Inputs that replace those of the same name.
        #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
        inputs: serde_json::Map<String, Value>,
    },
    /// A run goes on as another version of its workflow.
    Migrated {
        /// Which.
        run: RunId,
        /// The version.
        version: Digest,
        /// The versions of the workflows that it or its children may start.
        #[serde(default, skip_serializing_if = "no_pins")]
        pins: Arc<BTreeMap<Arc<str>, Digest>>,
    },
    /// An operator sets a run aside.
    QuarantineRequested {
        /// Which.
        run: RunId,
        /// Why.
        reason: Arc<str>,
    },
    /// An operator has a run that was set aside go on.
    ReleaseRequested {
        /// Which.
        run: RunId,
    },
    /// The event of an `emit` step is published.
    EventEmitted {
        /// The attempt that did.
        task: TaskKey,
    },
    /// An event from outside, or of an `emit` step.
    EventReceived {
        /// It.
        event: Arc<CloudEvent>,
    },
    /// The spans of a calendar, worked out by the leader: replaying them needs no time zone database.
    CalendarSet {
        /// Its name; of a definition's own calendars `DIGEST/NAME`.
        name: Arc<str>,
        /// Its rules, where it is not a definition's own; `null` takes it away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<Value>,
        /// When it is open, in order.
        spans: Arc<Vec<Span>>,
        /// Up to when the spans are worked out.
        until: UtcMs,
    },
    /// The next instant of a schedule.
    ScheduleArmed {
        /// The workflow.
        workflow: Arc<str>,
        /// Which of its triggers.
        index: u32,
        /// When; `None`: never again.
        next: Option<UtcMs>,
    },
    /// An instant of a schedule has come.
    ScheduleDue {
        /// The workflow.
        workflow: Arc<str>,
        /// Which of its triggers.
        index: u32,
        /// The instant of the rule, without jitter.
        nominal: UtcMs,
        /// The one after it; `None`: never again.
        next: Option<UtcMs>,
    },
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All of it.
    Run,
    /// A step.
    Step(StepName),
    /// The items of a step that meet a condition, such as `item.site == 'berlin'`.
    Items {
        /// The step.
        step: StepName,
        /// A CEL expression over `item` and `index`.
        when: Arc<str>,
    },
}

/// What an operator changes of a fan-out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tune {
    /// How many items at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// Limits of `per`, by their position.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per: BTreeMap<u32, u32>,
    /// How many failures are borne.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Tolerate>,
}

/// What an operator decides on a step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Try it again; of a fan-out, the items that failed.
    Retry,
    /// Go on without it.
    Skip {
        /// Why.
        note: Arc<str>,
    },
    /// Let it fail.
    Fail,
}

/// From where a run goes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rerun {
    /// From the steps that failed or were undone; the others keep their output.
    Failed,
    /// From this step on, and all behind it.
    Step(StepName),
    /// The failed items of this step, and all behind it.
    Items(StepName),
}

impl Event {
    /// The run it is about; `None` for what is about no run.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::DefinitionRegistered { .. }
            | Self::EventReceived { .. }
            | Self::CalendarSet { .. }
            | Self::ScheduleArmed { .. }
            | Self::ScheduleDue { .. } => None,
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
            | Self::PauseRequested { run, .. }
            | Self::ResumeRequested { run, .. }
            | Self::Tuned { run, .. }
            | Self::StepDecided { run, .. }
            | Self::RerunRequested { run, .. }
            | Self::Migrated { run, .. }
            | Self::QuarantineRequested { run, .. }
            | Self::ReleaseRequested { run }
            | Self::RunRetired { run } => Some(*run),
            Self::EventEmitted { task } => Some(task.run),
            Self::RunRecalled { run } => Some(run.id()),
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
            Self::RunRecalled { .. } => "run_recalled",
            Self::PauseRequested { .. } => "pause_requested",
            Self::ResumeRequested { .. } => "resume_requested",
            Self::Tuned { .. } => "tuned",
            Self::StepDecided { .. } => "step_decided",
            Self::RerunRequested { .. } => "rerun_requested",
            Self::Migrated { .. } => "migrated",
            Self::QuarantineRequested { .. } => "quarantine_requested",
            Self::ReleaseRequested { .. } => "release_requested",
            Self::EventEmitted { .. } => "event_emitted",
            Self::EventReceived { .. } => "event_received",
            Self::CalendarSet { .. } => "calendar_set",
            Self::ScheduleArmed { .. } => "schedule_armed",
            Self::ScheduleDue { .. } => "schedule_due",
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

impl Start {
    /// All of it but the inputs: a run keeps them once.
    #[must_use]
    pub fn without_inputs(&self) -> Self {
        Self {
            run: self.run,
            workflow: Arc::clone(&self.workflow),
            version: self.version.clone(),
            pins: Arc::clone(&self.pins),
            inputs: Value::Null,
            parent: self.parent.clone(),
            key: self.key.clone(),
            labels: self.labels.clone(),
            seed: self.seed,
        }
    }
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
    /// It failed and there was nothing to undo, in it or below, or its point of no return was behind it.
    Failed,
    /// It failed, was cancelled or was taken back, and all that it and its child runs had done is undone.
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
    /// The instant from which a window or a rate may let items of a step go.
    Opens {
        /// The step.
        step: StepName,
        /// When: several may be under way at once.
        due: UtcMs,
    },
    /// The end of a wave's soak, or of the wait at its gate.
    Wave {
        /// The step.
        step: StepName,
        /// The wave.
        wave: u32,
        /// Whether it is the gate's.
        #[serde(default)]
        gate: bool,
    },
    /// The end of a burst of events with one key; `run` is that of the run it will start.
    Debounce,
    /// The run's limit.
    RunTimeout,
}
