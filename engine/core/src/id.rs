//! Names of things: runs, steps and tasks. Deterministic, never drawn from chance in here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies one run, for ever.
///
/// Drawn as a UUID version 7 by whoever starts a run, or derived from its parent for a child run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

/// The name space of the runs that triggers start.
const TRIGGERED: Uuid = Uuid::from_u128(0x6f0e_9c1a_58d4_4c0b_9a51_7e2d_3b46_c8f7);

impl RunId {
    /// The id of the run that a trigger starts; `cause` names the event or instant, and the record that brought it.
    #[must_use]
    pub fn derived(cause: &str) -> Self {
        Self(Uuid::new_v5(&TRIGGERED, cause.as_bytes()))
    }

    /// The id of the child run that `step`, `item` and `attempt` of this run start.
    ///
    /// # Source
    /// RFC 9562 section 5.5 (UUID version 5), with this run's id as the name space.
    #[must_use]
    pub fn child(&self, step: &StepName, item: u32, attempt: u32) -> Self {
        Self(Uuid::new_v5(&self.0, format!("{step}/{item}/{attempt}").as_bytes()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The name of a step inside its workflow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepName(pub Arc<str>);

impl StepName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StepName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which workers a task is for: those that serve the queue of this name.
///
/// `a-z`, `0-9` and `-`, at most 64 characters: it stands in subjects, and in what a site may read and write.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(Arc<str>);

/// A text that is no name of a queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name for a queue: a name is made of a-z, 0-9 and `-` and has 1 to 64 characters")]
pub struct QueueNameError(pub String);

impl QueueName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the queue of tasks that name none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self.0 == *DEFAULT_QUEUE
    }
}

/// The queue of tasks that name none.
const DEFAULT_QUEUE: &str = "default";

impl Default for QueueName {
    fn default() -> Self {
        Self(DEFAULT_QUEUE.into())
    }
}

impl FromStr for QueueName {
    type Err = QueueNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if good { Ok(Self(text.into())) } else { Err(QueueNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for QueueName {
    type Error = QueueNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which way a task goes: the step's own work, or its compensation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The step's own work.
    #[default]
    Forward,
    /// The compensation of the step.
    Undo,
}

/// Names one attempt of one task: the idempotency key that its worker honours.
///
/// A task whose worker died is handed out again under the same key; a retry has the next `attempt`.
/// Written `RUN/step/item/attempt`, with `/undo` behind it on the way back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepName,
    /// Position in the step's `for_each`, from 0; 0 where there is none.
    #[serde(default, skip_serializing_if = "is_first")]
    pub item: u32,
    /// Counts from 1 on each leg.
    pub attempt: u32,
    /// Forward or undo.
    #[serde(default, skip_serializing_if = "is_forward")]
    pub leg: Leg,
}

// Nine of ten tasks are the only item of a forward step: the journal need not say it each time.
fn is_first(item: &u32) -> bool {
    *item == 0
}

fn is_forward(leg: &Leg) -> bool {
    *leg == Leg::Forward
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.step, self.item, self.attempt)?;
        match self.leg {
            Leg::Forward => Ok(()),
            Leg::Undo => f.write_str("/undo"),
        }
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
