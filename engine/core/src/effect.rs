//! What the engine has to do because of the state: derived, never remembered.

use std::sync::Arc;

use crate::record::{Parent, Report, Start, TimerKey};
use crate::{CloudEvent, Failure, RunId, Task, TaskKey, UtcMs};

/// One piece of work that a state owes.
///
/// It is owed from the record that made it until the record that settles it; releasing it again under the same
/// [`EffectKey`] changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Hand a task to a worker; settled by its outcome.
    Dispatch(Box<Task>),
    /// Have a worker stop; settled by the outcome of the task.
    Cancel(TaskKey),
    /// Publish an event; settled once that is recorded.
    Emit {
        /// The attempt that does.
        task: TaskKey,
        /// The event: the same each time.
        event: Box<CloudEvent>,
    },
    /// Wake the run at an instant; settled by the timer's firing or by what makes it pointless.
    Timer(TimerKey, UtcMs),
    /// Start a child run; settled when the parent knows that it exists.
    StartChild(Arc<Start>),
    /// Have a child run stop and undo what it did; settled by its end.
    CancelChild {
        /// Which.
        child: RunId,
        /// Why.
        reason: Arc<str>,
    },
    /// Take a child run back that had succeeded; settled by its second end.
    UnwindChild {
        /// Which.
        child: RunId,
        /// The attempt of the parent's way back that this is.
        task: TaskKey,
        /// Why the parent fails.
        failure: Failure,
    },
    /// Tell the parent how this run ended; settled when the parent has recorded it.
    InformParent {
        /// Where the run hangs.
        link: Parent,
        /// How it ended.
        report: Box<Report>,
    },
}

/// The stable name of an effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectKey {
    /// See [`Effect::Dispatch`].
    Dispatch(TaskKey),
    /// See [`Effect::Cancel`].
    Cancel(TaskKey),
    /// See [`Effect::Emit`].
    Emit(TaskKey),
    /// See [`Effect::Timer`].
    Timer(TimerKey),
    /// See [`Effect::StartChild`].
    StartChild(RunId),
    /// See [`Effect::CancelChild`].
    CancelChild(RunId),
    /// See [`Effect::UnwindChild`].
    UnwindChild(RunId),
    /// See [`Effect::InformParent`].
    InformParent(RunId, u32),
}

impl Effect {
    /// Its name.
    #[must_use]
    pub fn key(&self) -> EffectKey {
        match self {
            Self::Dispatch(task) => EffectKey::Dispatch(task.key.clone()),
            Self::Cancel(task) => EffectKey::Cancel(task.clone()),
            Self::Emit { task, .. } => EffectKey::Emit(task.clone()),
            Self::Timer(timer, _) => EffectKey::Timer(timer.clone()),
            Self::StartChild(start) => EffectKey::StartChild(start.run),
            Self::CancelChild { child, .. } => EffectKey::CancelChild(*child),
            Self::UnwindChild { child, .. } => EffectKey::UnwindChild(*child),
            Self::InformParent { report, .. } => EffectKey::InformParent(report.child, report.ending),
        }
    }
}
