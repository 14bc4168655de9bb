//! What crosses between engine and worker: a task out, an outcome back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Millis, QueueName, TaskKey};

/// The work of one attempt, as a worker gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its idempotency key.
    pub key: TaskKey,
    /// The task type: what a step's `uses` names, such as `scan.packages`.
    pub uses: String,
    /// What the step's `with` came to.
    pub input: Value,
    /// How long it may wait, run and stay silent.
    pub timeouts: TaskTimeouts,
    /// Whose turn it is in the queue: higher first, then the oldest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Whose work it is: that of the workers of this queue.
    #[serde(default, skip_serializing_if = "QueueName::is_default")]
    pub queue: QueueName,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// The limits of one attempt; each is measured by the queue, from the hand-out on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTimeouts {
    /// How long it may lie in the queue before a worker takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Millis>,
    /// How long one attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Millis>,
    /// How long its worker may be silent before it counts as dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Millis>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did its work.
    Succeeded {
        /// What it found or made. Small: what is large lies in an artifact and is named by its digest.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
    },
    /// It did not.
    Failed(Failure),
    /// It stopped because it was asked to.
    Cancelled,
}

/// Why an attempt, a step or a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable name for the cause, such as `E0512` or `LOCKED`: what `retry.except` and `patchloom explain` speak of.
    pub code: String,
    /// Whether to try again.
    pub class: FailureClass,
    /// One sentence for a person, with the facts.
    pub message: String,
    /// Evidence for a machine: exit codes, log lines, package states.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The same call may succeed later: it is tried again as the step's `retry` says.
    Transient,
    /// It will not: no retry.
    Permanent,
    /// Nobody knows whether it happened: the handler probes before it acts again, under the same retry policy.
    Ambiguous,
}
