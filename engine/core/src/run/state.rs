//! The state of one run: what is stored, and what everything else here reads and moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::items::Items;
use super::lanes::Lanes;
use crate::record::{End, Start, Tune};
use crate::{Definition, Failure, Leg, Millis, RunId, StepName, TaskKey, UtcMs};

/// How many signals a run keeps that no step has waited for yet.
pub const SIGNALS_MAX: usize = 100;

/// One run as of some record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// All it began with; its inputs stand in `inputs`, and here only where they did not fit.
    pub start: Arc<Start>,
    /// When it began.
    pub started: UtcMs,
    /// When it ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<UtcMs>,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// Its inputs, completed by the defaults.
    pub inputs: Arc<Value>,
    /// Why it fails or failed: the first cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Each step, in the order of the definition.
    pub steps: Vec<StepRun>,
    /// Signals that came before a step waited for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// While it is paused nothing new starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Hold>,
    /// Whether its point of no return came through, in whichever try.
    #[serde(default, skip_serializing_if = "is_false")]
    pub beyond: bool,
    /// Whether a child run of this try undid what it had done, without being asked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undone_below: bool,
    /// The concurrency group in which it holds a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Arc<str>>,
    /// How long it was paused or stood in line so far: its own limit does not count that.
    #[serde(default, skip_serializing_if = "no_time")]
    pub rested: Millis,
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
    /// It waits for a place in its workflow's concurrency group.
    Queued {
        /// Which.
        group: Arc<str>,
    },
    /// Its steps go forward.
    Running,
    /// It fails: what is out comes to rest before anything is undone.
    Halting,
    /// What it did is being undone.
    Compensating,
    /// A compensation failed for good: an operator must retry or resolve it.
    CompensationFailed,
    /// All is said and done; its `finally` steps run before it ends so.
    Closing {
        /// How it will end.
        end: End,
    },
    /// A record about it could not be understood, or an operator wants it so: it is set aside.
    Quarantined {
        /// Why.
        reason: Arc<str>,
        /// Where it stood before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<Phase>>,
    },
    /// It is over.
    Ended(End),
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Closing { .. } => "closing",
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

/// What stands before the reason in the failure of a run that was cancelled.
pub(super) const CANCELLED: &str = "cancelled: ";

impl Cause {
    /// Why somebody cancelled it, in their words.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<Arc<str>> {
        let reason = self.failure.message.strip_prefix(CANCELLED).filter(|_| self.cancelled);
        reason.map(Into::into)
    }
}

/// Why nothing new starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: UtcMs,
    /// Why.
    pub reason: Arc<str>,
    /// Which items, as an expression over `item`; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Arc<str>>,
    /// Whether the engine did it, because more items failed than are borne.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exceeded: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn no_time(span: &Millis) -> bool {
    span.0 == 0
}

/// A signal that waits for its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name.
    pub name: Arc<str>,
    /// Its content.
    pub payload: Value,
    /// Its sender.
    #[serde(default)]
    pub by: Arc<str>,
    /// The roles of its sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Arc<str>>,
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
    /// What operators, or too many failures, hold back of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// The limits that operators changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Box<Tune>>,
    /// What it did in former tries of the run and nobody has undone: the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Work>,
    /// The signals that count towards its quorum so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Signal>,
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
    /// It failed and waits for an operator to decide.
    Held {
        /// Why it failed.
        failure: Failure,
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
            Self::Pending | Self::Active | Self::Waiting { .. } | Self::Held { .. } => false,
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
            Self::Held { .. } => "held",
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
    /// An operator went on without it.
    Operator,
}

/// The items of an active step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// What `for_each` walks; empty without one.
    #[serde(default, skip_serializing_if = "no_items")]
    pub items: Arc<Items>,
    /// How many there are; 1 without `for_each`.
    pub count: u32,
    /// The first that was not looked at yet.
    pub next: u32,
    /// Those that were looked at and never started.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fresh: BTreeSet<u32>,
    /// Those that failed before they ever started.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<u32>,
    /// Where those stand that wait for a place.
    #[serde(default)]
    pub lanes: Lanes,
    /// Those that were called back before they came to anything.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rested: BTreeSet<u32>,
    /// The wave, where they go in waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveRun>,
    /// How many failures an operator has forgiven by going on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forgiven: u32,
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
    /// Whether no further item is started, and what is out was called back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopping: bool,
    /// Why child runs are told to stop, where somebody cancelled the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<Arc<str>>,
    /// Whether no further item is started; what is at work comes to its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// What the step fails with, where it is not an item's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Failure>,
    /// The highest attempt number used.
    #[serde(default)]
    pub highest: u32,
}

fn no_items(items: &Arc<Items>) -> bool {
    items.is_empty()
}

/// The wave under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRun {
    /// Which: counts from 0.
    pub index: u32,
    /// Its first item.
    pub from: u32,
    /// The first item behind it.
    pub end: u32,
    /// How many had succeeded before it began.
    pub done: u32,
    /// How many had failed before it began.
    pub failed: u32,
    /// Where it stands.
    pub at: WaveAt,
    /// Whether its soak is over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub soaked: bool,
    /// Whether an operator went on although its gate broke.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waived: bool,
}

/// Where a wave stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveAt {
    /// Its items are at work.
    Working,
    /// All came to rest; nothing happens for a while.
    Soaking {
        /// Until when.
        until: UtcMs,
    },
    /// It waits for the signal at its gate.
    Gated {
        /// Until when; then the gate is broken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UtcMs>,
    },
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
    /// Waiting for a place, to be tried again.
    Ready,
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
    /// Where those stand that wait for a place; the last item has the lowest rank.
    #[serde(default)]
    pub lanes: Lanes,
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

    /// The tasks that are with workers or in their queues, on either leg.
    pub fn tasks<'a>(&'a self, definition: &'a Definition) -> impl Iterator<Item = TaskKey> + 'a {
        let out = |(_, live): &(&u32, &Live)| matches!(live.at, At::Out | At::Stopping);
        self.steps.iter().zip(&definition.steps).flat_map(move |(state, step)| {
            let key = move |leg: Leg| {
                move |(item, live): (&u32, &Live)| TaskKey {
                    run: self.id(),
                    step: step.name.clone(),
                    item: *item,
                    attempt: live.attempt,
                    leg,
                }
            };
            let forward = state.work.iter().flat_map(|work| &work.live).filter(out).map(key(Leg::Forward));
            let undo = match &state.undo {
                Undo::Active(undo) => Some(undo.live.iter().filter(out).map(key(Leg::Undo))),
                _ => None,
            };
            forward.chain(undo.into_iter().flatten()).collect::<Vec<TaskKey>>()
        })
    }

    /// The child runs that it waits for, on either leg.
    pub fn children(&self) -> impl Iterator<Item = RunId> {
        let forward = self.steps.iter().filter_map(|step| step.work.as_ref()).flat_map(|work| work.live.values());
        let undo = self.steps.iter().flat_map(|step| match &step.undo {
            Undo::Active(undo) => undo.live.values().collect::<Vec<&Live>>(),
            _ => Vec::new(),
        });
        forward.chain(undo).filter_map(|live| match live.at {
            At::Child { child, .. } => Some(child),
            At::Ready | At::Out | At::Stopping | At::Backoff { .. } => None,
        })
    }

    /// Whether it is over.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) => Some(end),
            Phase::Running
            | Phase::Queued { .. }
            | Phase::Halting
            | Phase::Closing { .. }
            | Phase::Compensating
            | Phase::CompensationFailed
            | Phase::Quarantined { .. } => None,
        }
    }
}
