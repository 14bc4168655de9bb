//! What crosses between engine and worker: a task out, an outcome back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// Most facts that one result may tell.
pub const TOLD_MAX: usize = 32;
/// The longest type or subject of a fact, in bytes.
pub const TOLD_NAME_MAX: usize = 256;
/// The most that all facts of one result may have, in bytes of JSON.
pub const TOLD_BYTES_MAX: usize = 64 * 1024;

/// What the types of events begin with that the engine tells by itself: no task may tell those.
pub const OWN_TYPES: [&str; 5] =
    ["patchloom.run.", "patchloom.step.", "patchloom.wave.", "patchloom.undo.", "patchloom.schedule."];

/// A fact that a task tells with its result: published as a CloudEvent once the result is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The type of the event, such as `patchloom.host.patched`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about, such as a host; the run where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The facts. `run`, `step` and `item` are added.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

impl Told {
    /// Splits what a result tells into what may be published, and the reasons why the rest may not.
    ///
    /// A result is never refused for what it tells: its work is done.
    #[must_use]
    pub fn fitting(tell: Vec<Self>) -> (Vec<Self>, Vec<String>) {
        let (mut fits, mut reasons, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        for told in tell {
            let size = serde_json::to_vec(&told).map_or(usize::MAX, |text| text.len());
            let reason = if fits.len() == TOLD_MAX {
                Some(format!("a result tells at most {TOLD_MAX} facts"))
            } else if bytes.saturating_add(size) > TOLD_BYTES_MAX {
                Some(format!("the facts of a result have at most {TOLD_BYTES_MAX} bytes"))
            } else {
                told.flaw()
            };
            match reason {
                None => {
                    bytes += size;
                    fits.push(told);
                }
                Some(reason) => {
                    let kind: String = told.kind.chars().take(64).collect();
                    reasons.push(format!("`{kind}`: {reason}"));
                }
            }
        }
        (fits, reasons)
    }

    fn flaw(&self) -> Option<String> {
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let fits = |text: &str| text.len() <= TOLD_NAME_MAX;
        if !plain(&self.kind) || self.kind.contains(char::is_whitespace) {
            Some("a type is a word such as patchloom.host.patched".to_owned())
        } else if let Some(own) = OWN_TYPES.iter().find(|own| self.kind.starts_with(**own)) {
            Some(format!("what begins with {own} the engine tells by itself"))
        } else if self.subject.as_deref().is_some_and(|subject| !plain(subject)) {
            Some("a subject is not empty and has no control characters".to_owned())
        } else if !fits(&self.kind) || self.subject.as_deref().is_some_and(|subject| !fits(subject)) {
            Some(format!("a type and a subject have at most {TOLD_NAME_MAX} bytes"))
        } else {
            None
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str) -> Told {
        Told { kind: kind.to_owned(), subject: None, data: Map::new() }
    }

    #[test]
    fn what_a_result_may_not_tell_is_left_out_with_the_reason() {
        let long = "x".repeat(TOLD_NAME_MAX + 1);
        let subject = |text: &str| Told { subject: Some(text.to_owned()), ..told("a.b") };
        for (bad, part) in [
            (told(""), "a word"),
            (told("a b"), "a word"),
            (told("a\u{7}"), "a word"),
            (told("patchloom.run.succeeded"), "by itself"),
            (told("patchloom.schedule.missed"), "by itself"),
            (told(&long), "at most 256 bytes"),
            (subject(""), "subject"),
            (subject(&long), "at most 256 bytes"),
            (
                Told { data: Map::from_iter([("x".to_owned(), json!("y".repeat(TOLD_BYTES_MAX)))]), ..told("a.b") },
                "65536",
            ),
        ] {
            let (fits, reasons) = Told::fitting(vec![told("a.b"), bad, subject("web-1")]);
            assert_eq!(fits, [told("a.b"), subject("web-1")]);
            assert!(reasons.len() == 1 && reasons[0].contains(part), "{part}: {reasons:?}");
        }
    }

    #[test]
    fn a_result_tells_32_facts_and_not_33() {
        let many = |count: usize| (0..count).map(|at| told(&format!("a.b{at}"))).collect::<Vec<_>>();
        assert_eq!(Told::fitting(many(TOLD_MAX)), (many(TOLD_MAX), Vec::new()));
        let (fits, reasons) = Told::fitting(many(TOLD_MAX + 1));
        assert_eq!(fits, many(TOLD_MAX));
        assert_eq!(reasons, ["`a.b32`: a result tells at most 32 facts"]);
    }

    #[test]
    fn a_fact_is_written_with_what_it_has() {
        assert_eq!(serde_json::to_string(&told("a.b")).unwrap(), r#"{"type":"a.b"}"#);
        let whole = r#"{"type":"a.b","subject":"web-1","data":{"n":1}}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Told>(whole).unwrap()).unwrap(), whole);
    }
}
