//! What worker and host say to each other: one line of JSON each way, bytes behind it.

use patchloom_core::{Failure, Leg, Outcome, TaskKey, Told, UtcMs};
use patchloom_domain::{Hold, Machine, PlanDigest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::artifact::{ArtifactId, hex};

/// A task on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CarriedTask {
    /// The task type.
    pub(super) uses: String,
    /// Its key.
    pub(super) key: TaskKey,
    /// How often it was handed out before.
    pub(super) redelivered: u32,
    /// The host as the worker reaches it.
    pub(super) target: Machine,
    /// The worker's clock when it was sent.
    pub(super) sent: UtcMs,
    /// Its input.
    pub(super) input: Value,
    /// The versions that the worker's side holds now: the host has no memory of the fleet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) holds: Vec<Hold>,
}

impl CarriedTask {
    /// Whether both are one piece of work: neither when it was sent, nor how often, nor what is held by then counts.
    pub(super) fn is_same_work(&self, other: &Self) -> bool {
        (&self.uses, &self.key, &self.target, &self.input) == (&other.uses, &other.key, &other.target, &other.input)
    }
}

/// A task as it lies on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Received {
    /// The task.
    pub(super) task: CarriedTask,
    /// The host's clock when it came.
    pub(super) received: UtcMs,
}

/// Where everything of a task lies on the host: the same for all tries of it, but for their ends.
pub(super) fn name(key: &TaskKey) -> String {
    let leg = match key.leg {
        Leg::Forward => 'f',
        Leg::Undo => 'u',
    };
    format!("{}-{leg}{}", family(key), key.attempt)
}

/// What the names of all tries of a step have in common, its way back too.
pub(super) fn family(key: &TaskKey) -> String {
    hex(&Sha256::digest(format!("{}/{}/{}", key.run, key.step, key.item))[..16])
}

/// Whether a text can be the name of a task: it becomes part of a path.
pub(super) fn is_name(text: &str) -> bool {
    (34..=48).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'f' | b'u'))
}

/// What a worker asks of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Who are you, and what time is it?
    Hello,
    /// How is this task?
    Look { name: String },
    /// Do this task, unless it was begun.
    Start { task: Box<CarriedTask> },
    /// Start the process of this task again, should it have died.
    Resume { name: String },
    /// Tell it to whoever does the task.
    Tell { name: String, word: Word },
    /// What was an install of this step answered with, if it is done?
    Answered { key: Box<TaskKey>, digest: PlanDigest },
    /// Which of these artifacts do you lack?
    Lacks { ids: Vec<ArtifactId> },
    /// Keep this artifact: its bytes follow.
    Put { id: ArtifactId },
    /// Give this artifact.
    Get { id: ArtifactId },
}

/// A word for a task at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Come to rest.
    Cancel,
    /// What you wait for has happened: go on.
    Go,
}

impl Word {
    /// The file that says it.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Go => "go",
        }
    }
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Reply {
    /// To [`Request::Hello`].
    Hello { version: String, now: UtcMs },
    /// To [`Request::Look`], [`Request::Start`] and [`Request::Resume`].
    Status { status: Status },
    /// To [`Request::Tell`] and [`Request::Put`].
    Done,
    /// To [`Request::Answered`].
    Answered { output: Option<Value> },
    /// To [`Request::Lacks`].
    Lacks { ids: Vec<ArtifactId> },
    /// To [`Request::Get`]: the bytes follow; or it is not there.
    Artifact { there: bool },
    /// It cannot do that.
    Refused { failure: Failure },
}

/// How a carried task is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Status {
    /// It never came.
    Absent,
    /// Its process lives.
    Running { report: Report },
    /// Its process died before it had an outcome.
    Dead,
    /// It has its outcome.
    Over { end: Box<End> },
}

/// How far a task at work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// From 0 to 1.
    #[serde(default)]
    pub(super) fraction: f64,
    /// What it is doing.
    #[serde(default)]
    pub(super) text: String,
    /// Whether it waits for [`Word::Go`].
    #[serde(default)]
    pub(super) waits: bool,
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    /// Its outcome.
    pub(super) outcome: Outcome,
    /// The facts that it told.
    #[serde(default)]
    pub(super) told: Vec<Told>,
}

/// All artifacts that a value names, wherever in it.
pub(super) fn artifacts(value: &Value) -> Vec<ArtifactId> {
    fn walk(value: &Value, found: &mut std::collections::BTreeSet<ArtifactId>) {
        match value {
            Value::String(text) => found.extend(text.parse::<ArtifactId>().ok()),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| walk(field, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = std::collections::BTreeSet::new();
    walk(value, &mut found);
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn artifacts_are_found_wherever_they_are_named() {
        let (a, b) = (ArtifactId::of(b"a"), ArtifactId::of(b"b"));
        let value = json!({ "plan": a, "more": [{ "deep": [b, a] }, "sha256:short", 7], "none": null });
        let mut wanted = vec![a, b];
        wanted.sort();
        assert_eq!(artifacts(&value), wanted);
    }

    #[test]
    fn tries_of_a_step_and_its_way_back_share_a_family_and_no_name() {
        let key = |attempt, leg| TaskKey {
            run: "018f0000-0000-7000-8000-000000000001".parse().unwrap(),
            step: "install".into(),
            item: 0,
            attempt,
            leg,
        };
        let all = [key(1, Leg::Forward), key(2, Leg::Forward), key(1, Leg::Undo)];
        let names: std::collections::BTreeSet<String> = all.iter().map(name).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| is_name(name) && name.starts_with(&family(&all[0]))));
        assert!(!is_name("../../etc/passwd") && !is_name("") && !is_name("0123456789abcdef0123456789abcdef/../x"));
    }
}
