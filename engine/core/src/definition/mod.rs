//! A workflow definition: read from YAML, checked, and named by the digest of its content.
//!
//! Knows the language, not what happens when it runs.

mod action;
mod around;
mod check;
mod diff;
mod fanout;
mod fields;
mod fits;
mod graph;
mod model;
mod nest;
mod places;
mod read;
mod reads;
mod relations;
mod spots;
mod step;
mod triggers;
mod typing;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::contract::Contracts;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::expr::Expr;
use crate::template::Template;
use crate::{Millis, StepName, TaskTimeouts};

pub use diff::{Change, differences};
pub use graph::Set;
pub use model::{
    CatchUp, Concurrency, EventTrigger, EventWait, Gate, OnExceed, OnFailure, OnFull, OnTimeout, Overlap, Per, Portion,
    Rate, ScheduleTrigger, SignalWait, Tolerate, Trigger, Wait, Wave, Window,
};
pub use relations::{Definitions, World};

/// The keys that the language knows, by the kind of map they stand in: the schema is held against them.
#[cfg(test)]
pub(crate) const KEYS: [(&str, &[&str]); 20] = [
    ("workflow", read::HEAD),
    ("defaults", read::DEFAULTS),
    ("trigger", triggers::TRIGGER),
    ("event_trigger", triggers::EVENT),
    ("schedule", triggers::SCHEDULE),
    ("run_concurrency", around::CONCURRENCY),
    ("step", step::STEP),
    ("emit", action::EMIT),
    ("wait", wait::WAIT),
    ("for_each", fanout::FOR_EACH),
    ("per", fanout::PER),
    ("wave", fanout::WAVE),
    ("gate", fanout::GATE),
    ("tolerate", fanout::TOLERATE),
    ("retry", around::RETRY),
    ("timeout", around::TIMEOUT),
    ("rate", around::RATE),
    ("concurrency", around::CONCURRENCY),
    ("window", around::WINDOW),
    ("compensate", around::COMPENSATE),
];

/// The most steps a definition may have, those of the DAGs inside its steps included.
pub const STEPS_MAX: usize = 1_000;
/// How deep DAGs may stand inside steps.
pub const NESTING_MAX: usize = 3;
/// The most attempts a retry policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;

/// Names one content of a definition: SHA-256 over its canonical JSON, written `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub Arc<str>);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}").into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a workflow, checked.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: String,
    /// Its version: the digest of `canonical`.
    pub digest: Digest,
    /// The definition as JSON with sorted keys: what is stored, and what reads back to the same definition. For the
    /// sub-DAG of a step that of the whole definition around it, with which it is stored.
    pub canonical: Arc<str>,
    /// What a run takes, by name.
    pub inputs: BTreeMap<String, Input>,
    /// Its steps, each behind all that it needs; ties by name.
    pub steps: Vec<Step>,
    /// What a run gives back.
    pub output: Option<Template>,
    /// How long a run may take before it fails and is compensated.
    pub timeout: Option<Millis>,
    /// What starts runs of it besides people and parents.
    pub triggers: Vec<Trigger>,
    /// How many runs of it go at once.
    pub concurrency: Option<Concurrency>,
    /// Whose tasks go first, -100 to 100; a step may say otherwise.
    pub priority: i32,
    /// Calendars of its own: names and rules, as JSON.
    pub calendars: BTreeMap<Arc<str>, Value>,
    /// What it reads of the definition around it, where it is the sub-DAG of a step.
    pub captures: Option<Captures>,
    /// For each step: all steps that it needs, directly or through others.
    pub upstream: Vec<Set>,
    /// For each step: the steps that name it in `needs`.
    pub dependents: Vec<Vec<usize>>,
}

/// What the sub-DAG of a step reads of the run around it; a child run of it gets these as its inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// Inputs of the run around it.
    pub inputs: BTreeSet<String>,
    /// Steps of the run around it.
    pub steps: BTreeSet<String>,
    /// Whether it stands under a `for_each`: then `item` and `index` are there.
    pub item: bool,
}

/// One input of a workflow.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its JSON Schema.
    pub schema: Value,
    /// What it is when a run does not say; without a default it must be given.
    pub default: Option<Value>,
    /// The schema made ready: once for all runs of the version, not for each of them. Derived.
    validator: OnceLock<Result<Arc<jsonschema::Validator>, String>>,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema && self.default == other.default
    }
}

impl Input {
    fn new(schema: Value, default: Option<Value>) -> Self {
        Self { schema, default, validator: OnceLock::new() }
    }

    fn validator(&self) -> Result<&jsonschema::Validator, &String> {
        self.validator.get_or_init(|| check::compile(&self.schema).map(Arc::new)).as_deref()
    }
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: StepName,
    /// The steps it waits for, by position.
    pub needs: Vec<usize>,
    /// Whether it runs at all.
    pub condition: Option<Expr>,
    /// What it does.
    pub action: Action,
    /// Over what it fans out.
    pub for_each: Option<ForEach>,
    /// When it tries again.
    pub retry: Retry,
    /// Limits of one attempt.
    pub timeouts: TaskTimeouts,
    /// Limit over all attempts and items.
    pub total: Option<Millis>,
    /// How it is undone.
    pub compensate: Option<Compensate>,
    /// Whether it is the point of no return.
    pub pivot: bool,
    /// What becomes of its result.
    pub output: Option<Template>,
    /// When it may be dispatched.
    pub window: Option<Window>,
    /// A limit that it shares with other runs.
    pub concurrency: Option<Concurrency>,
    /// A limit per time that it shares with other runs.
    pub rate: Option<Rate>,
    /// Whose tasks go first, -100 to 100.
    pub priority: i32,
    /// Which workers its tasks are for; `None`: those of the queue `default`.
    pub queue: Option<Template>,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Whether it stands under `finally`: it runs once all else is over, whatever came of it.
    pub finally: bool,
}

impl Step {
    /// Whether its `if` lets it run although something before it failed.
    #[must_use]
    pub fn runs_after_failure(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.calls("failed") || condition.calls("always"))
    }

    /// Whether its `if` asks for `failed()`: it takes the failure upon itself.
    #[must_use]
    pub fn catches(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.calls("failed"))
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Gives work to a worker.
    Task {
        /// The task type.
        uses: Arc<str>,
        /// Its input.
        with: Template,
    },
    /// Starts a child run, one per item.
    Workflow {
        /// The workflow's name; which version is settled when the run starts.
        name: Arc<str>,
        /// The child's inputs.
        with: Template,
    },
    /// Waits.
    Wait(Wait),
    /// Computes a value.
    Set(Template),
    /// Fails, with this message.
    Fail(Template),
    /// Publishes a CloudEvent.
    Emit(Emit),
    /// A DAG of its own, one per item: a child run of a definition that stands inside this one.
    Steps(Arc<Definition>),
}

/// An event that a step publishes.
#[derive(Clone, Debug)]
pub struct Emit {
    /// Its CloudEvents `type`.
    pub kind: Template,
    /// Its `subject`.
    pub subject: Option<Template>,
    /// Its data.
    pub data: Template,
}

/// Over what a step fans out.
#[derive(Clone, Debug)]
pub struct ForEach {
    /// Comes to a list.
    pub items: Template,
    /// Names an item for people.
    pub key: Option<Template>,
    /// How many items at once.
    pub max_parallel: Option<u32>,
    /// How many items with an equal key at once.
    pub per: Vec<Per>,
    /// In which portions; empty: all at once.
    pub waves: Vec<Wave>,
    /// How many failures are borne; `None`: the first one stops the step and calls back what is at work.
    pub tolerate: Option<Tolerate>,
}

/// When a failed attempt is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts in all.
    pub attempts: u32,
    /// The wait before the second attempt; doubles from then on.
    pub backoff: Millis,
    /// The longest wait.
    pub max_backoff: Millis,
    /// Whether waits are spread by chance, so that a thousand hosts do not come back at once.
    pub jitter: bool,
    /// Failure codes that are not tried again.
    pub except: Vec<Arc<str>>,
    /// Where it is not empty: the only failure codes that are tried again.
    pub only: Vec<Arc<str>>,
}

impl Retry {
    /// A step without `retry` is tried once.
    pub const FORWARD: Self = Self {
        attempts: 1,
        backoff: Millis(1_000),
        max_backoff: Millis(60_000),
        jitter: true,
        except: Vec::new(),
        only: Vec::new(),
    };
    /// A compensation without `retry` is tried five times: giving up on the way back costs a person's night.
    pub const UNDO: Self = Self {
        attempts: 5,
        backoff: Millis(1_000),
        max_backoff: Millis(60_000),
        jitter: true,
        except: Vec::new(),
        only: Vec::new(),
    };

    /// Whether a failure with this code may be tried again.
    #[must_use]
    pub fn covers(&self, code: &str) -> bool {
        let named = |codes: &[Arc<str>]| codes.iter().any(|known| known.as_ref() == code);
        !named(&self.except) && (self.only.is_empty() || named(&self.only))
    }
}

/// How a step is undone.
#[derive(Clone, Debug)]
pub struct Compensate {
    /// The task type.
    pub uses: Arc<str>,
    /// Its input; may read `self.output`, `failure` and what the step itself may read.
    pub with: Template,
    /// When it tries again.
    pub retry: Retry,
    /// Limits of one attempt.
    pub timeouts: TaskTimeouts,
}

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    /// All mistakes found in one pass, with their places; `file` names the text in them.
    pub fn parse(file: &str, source: &str) -> Result<Self, Diagnostics> {
        let root = crate::yaml::read(source).map_err(|list| told(file, source, list))?;
        let read = read::definition(&root, source);
        finished(file, source, read.definition, read.mistakes)
    }

    /// Reads a definition and checks it against the workflows it starts, the tasks it gives and the types of all values.
    ///
    /// More than [`Self::parse`] asks: what was registered once is read again although it would not be taken today.
    ///
    /// # Errors
    /// All mistakes found in one pass, with their places.
    pub fn check(file: &str, source: &str, world: World<'_>) -> Result<Self, Diagnostics> {
        let root = crate::yaml::read(source).map_err(|list| told(file, source, list))?;
        let mut read = read::definition(&root, source);
        if let Some(definition) = read.definition.as_ref().filter(|_| read.is_sound) {
            typing::check(definition, Some(&root), world, &mut read.mistakes);
        }
        finished(file, source, read.definition, read.mistakes)
    }

    /// The position of the step called `name`.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name.as_str() == name)
    }

    /// The names of the workflows that its steps start, those of sub-DAGs too.
    pub fn children(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(self).chain(self.inner().map(AsRef::as_ref)).flat_map(|definition| {
            definition.steps.iter().filter_map(|step| match &step.action {
                Action::Workflow { name, .. } => Some(name),
                Action::Task { .. }
                | Action::Wait(_)
                | Action::Set(_)
                | Action::Fail(_)
                | Action::Emit(_)
                | Action::Steps(_) => None,
            })
        })
    }

    /// The sub-DAGs of its steps, and theirs.
    pub fn inner(&self) -> impl Iterator<Item = &Arc<Self>> {
        let mut found: Vec<&Arc<Self>> = Vec::new();
        let mut open = vec![self];
        while let Some(definition) = open.pop() {
            for step in &definition.steps {
                if let Action::Steps(inner) = &step.action {
                    found.push(inner);
                    open.push(inner);
                }
            }
        }
        found.into_iter()
    }

    /// What a run gets: `given`, completed by the defaults.
    ///
    /// # Errors
    /// Each input that is unknown, missing or against its schema, in words.
    pub fn accept(&self, given: &Value) -> Result<Value, Vec<String>> {
        check::accept(self, given)
    }
}

fn finished(
    file: &str,
    source: &str,
    definition: Option<Definition>,
    mistakes: Vec<Diagnostic>,
) -> Result<Definition, Diagnostics> {
    match definition {
        Some(definition) if mistakes.is_empty() => Ok(definition),
        _ => Err(told(file, source, mistakes)),
    }
}

fn told(file: &str, source: &str, mut list: Vec<Diagnostic>) -> Diagnostics {
    list.sort_by_key(|mistake| (mistake.span, mistake.code));
    list.dedup();
    Diagnostics { file: file.to_owned(), source: source.to_owned(), list }
}

#[cfg(test)]
mod grammar_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod typing_tests;
