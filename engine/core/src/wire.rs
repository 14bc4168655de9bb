//! What workers and the leader say to each other over NATS, as JSON: `docs/protocol.md` tells how it is used.
//!
//! Unknown fields are passed over, so that either side may be the newer one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Outcome, QueueName, TaskKey, Told};

/// Of the type of an event, so many characters are in its subject at most.
const TYPE_MAX: usize = 200;

/// The header of a told event that names the record it belongs to.
pub const SEQ_HEADER: &str = "Patchloom-Seq";
/// The header that names the record up to which all is told.
pub const TOLD_HEADER: &str = "Patchloom-Told";
/// The header that names the message up to which all of the partition's messages are told for good.
pub const TOLD_AT_HEADER: &str = "Patchloom-Told-At";

/// The names of streams, consumers and subjects, below a prefix of the installation's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Arc<str>);

impl Default for Names {
    fn default() -> Self {
        Self("patchloom".into())
    }
}

impl Names {
    /// The names of an installation whose subjects begin with `prefix`.
    #[must_use]
    pub fn below(prefix: &str) -> Self {
        Self(prefix.into())
    }

    fn object(&self, rest: &str) -> String {
        format!("{}_{rest}", self.0.to_uppercase().replace('.', "_"))
    }

    /// The stream of the tickets: `PATCHLOOM_TASKS`.
    #[must_use]
    pub fn tasks(&self) -> String {
        self.object("TASKS")
    }

    /// The stream of tasks that no worker survived: `PATCHLOOM_DEAD`.
    #[must_use]
    pub fn dead(&self) -> String {
        self.object("DEAD")
    }

    /// The consumer that hands out the tickets of a queue.
    #[must_use]
    pub fn consumer(&self, queue: &QueueName) -> String {
        format!("q-{queue}")
    }

    /// The subject that asks for tickets of a queue.
    #[must_use]
    pub fn pull(&self, queue: &QueueName) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.tasks(), self.consumer(queue))
    }

    /// The subjects of all tickets.
    #[must_use]
    pub fn all_tickets(&self) -> String {
        format!("{}.tasks.>", self.0)
    }

    /// The subjects of all tickets of a queue.
    #[must_use]
    pub fn tickets(&self, queue: &QueueName) -> String {
        format!("{}.tasks.{queue}.>", self.0)
    }

    /// The subject of the ticket of a task.
    #[must_use]
    pub fn ticket(&self, partition: &str, queue: &QueueName, key: &TaskKey) -> String {
        format!("{}.tasks.{queue}.{partition}.{key}", self.0)
    }

    /// The partition that the subject of a ticket names.
    #[must_use]
    pub fn partition_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&*self.0)?.strip_prefix(".tasks.")?.split('.').nth(1)
    }

    /// The subjects of all dead letters.
    #[must_use]
    pub fn all_letters(&self) -> String {
        format!("{}.dead.>", self.0)
    }

    /// The subject of the dead letters of a queue.
    #[must_use]
    pub fn letter(&self, partition: &str, queue: &QueueName) -> String {
        format!("{}.dead.{queue}.{partition}", self.0)
    }

    /// The subject of messages that should be events for a partition and are none.
    #[must_use]
    pub fn event_letter(&self, partition: &str) -> String {
        format!("{}.dead.events.{partition}", self.0)
    }

    /// The stream of events that were not taken in yet: `PATCHLOOM_EVENTS_IN`.
    #[must_use]
    pub fn events_in(&self) -> String {
        self.object("EVENTS_IN")
    }

    /// The subjects of all events on their way in: `patchloom.events.in.PARTITION.PUBLISHER`, and whatever follows.
    #[must_use]
    pub fn all_events_in(&self) -> String {
        format!("{}.events.in.*.>", self.0)
    }

    /// The subjects of events on their way into a partition.
    #[must_use]
    pub fn events_into(&self, partition: &str) -> String {
        format!("{}.events.in.{partition}.>", self.0)
    }

    /// The consumer that takes the events of a partition in.
    #[must_use]
    pub fn events_consumer(&self, partition: &str) -> String {
        format!("in-{partition}")
    }

    /// Who published an event, as its subject has it.
    #[must_use]
    pub fn publisher_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&*self.0)?.strip_prefix(".events.in.")?.split('.').nth(1)
    }

    /// The stream of what the engines tell: `PATCHLOOM_EVENTS_OUT`.
    #[must_use]
    pub fn events_out(&self) -> String {
        self.object("EVENTS_OUT")
    }

    /// The subjects of what the leader of a partition tells.
    #[must_use]
    pub fn events_out_of(&self, partition: &str) -> String {
        format!("{}.events.out.{partition}.>", self.0)
    }

    /// The subject of an event of this type: without a leading `patchloom.`, and with `_` for what no subject may hold.
    #[must_use]
    pub fn event_out(&self, partition: &str, kind: &str) -> String {
        let kind = kind.strip_prefix("patchloom.").unwrap_or(kind);
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '>');
        let plain: String = kind.chars().take(TYPE_MAX).map(|c| if fits(c) { c } else { '_' }).collect();
        let words: Vec<&str> = plain.split('.').map(|word| if word.is_empty() { "_" } else { word }).collect();
        format!("{}.events.out.{partition}.{}", self.0, words.join("."))
    }

    /// The subject on which workers of a queue, of all where there is none, say how many tasks they have room for; all
    /// leaders hear it.
    #[must_use]
    pub fn want(&self, queue: Option<&QueueName>) -> String {
        format!("{}.want.{}", self.0, queue.map_or("*", QueueName::as_str))
    }

    /// The subject of what people and faces tell the leader of a partition.
    #[must_use]
    pub fn orders(&self, partition: &str) -> String {
        format!("{}.engine.{partition}.order", self.0)
    }

    /// The subject of a request to the leader of a partition.
    #[must_use]
    pub fn work(&self, partition: &str, queue: &QueueName, op: Op) -> String {
        format!("{}.work.{partition}.{queue}.{op}", self.0)
    }

    /// The subjects of all requests that workers of a queue make to leaders.
    #[must_use]
    pub fn work_of(&self, queue: &QueueName) -> String {
        format!("{}.work.*.{queue}.*", self.0)
    }

    /// The subjects on which workers of a queue tell JetStream what becomes of tickets.
    #[must_use]
    pub fn acknowledgements(&self, queue: &QueueName) -> String {
        format!("$JS.ACK.{}.{}.>", self.tasks(), self.consumer(queue))
    }

    /// The subjects of all events that engines tell.
    #[must_use]
    pub fn all_events_out(&self) -> String {
        format!("{}.events.out.>", self.0)
    }

    /// The subject on which a publisher tells events to a partition; it may put further words behind it.
    #[must_use]
    pub fn event_in(&self, partition: &str, publisher: &str) -> String {
        format!("{}.events.in.{partition}.{publisher}", self.0)
    }

    /// The subjects of all requests to the leader of a partition.
    #[must_use]
    pub fn all_work(&self, partition: &str) -> String {
        format!("{}.work.{partition}.*.*", self.0)
    }
}

/// Whether a leader may answer there: an inbox, of our account or of one that was lent a subject.
///
/// Who asks names the subject of the answer, and could name any, the journal's too, on which it may not speak itself.
#[must_use]
pub fn is_inbox(subject: &str) -> bool {
    subject.starts_with("_INBOX") || subject.starts_with("_R_.")
}

/// What a worker asks the leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// May it begin?
    Claim,
    /// It lives.
    Beat,
    /// What came of it.
    Settle,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "claim",
            Self::Beat => "beat",
            Self::Settle => "settle",
        })
    }
}

impl FromStr for Op {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "claim" => Self::Claim,
            "beat" => Self::Beat,
            "settle" => Self::Settle,
            _ => return Err(()),
        })
    }
}

/// Tells one hand-out of a task from another. Text without meaning to a worker: it gives back what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(pub u64);

impl From<Token> for String {
    fn from(token: Token) -> Self {
        format!("{:016x}", token.0)
    }
}

impl TryFrom<String> for Token {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// Who a worker is: a name of its own for each process, and what people know it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name, another one for each process.
    pub worker: Arc<str>,
    /// What people know it by: its host, its version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// A worker has room. Published; there is no answer but tickets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Want {
    /// Who.
    #[serde(flatten)]
    pub who: Worker,
    /// For how many tasks, those included that it asked for before; 0 where it has none any more.
    pub free: u32,
}

/// A worker has tickets and asks whether it may begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    #[serde(flatten)]
    pub who: Worker,
    /// The keys of the tickets' tasks.
    pub keys: Vec<TaskKey>,
}

/// What the leader says to one ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Claimed {
    /// Begin.
    Go {
        /// What beats and the result are to carry.
        token: Token,
        /// How long the leader bears silence: a beat each third of it is a good measure.
        lease_ms: u64,
        /// How often the task was handed out before: above 0 its work may be done or half done.
        redelivered: u32,
    },
    /// Another worker has it: give the ticket back, to be seen again after so long.
    Held {
        /// How long.
        retry_ms: u64,
    },
    /// Nobody wants it any more: put the ticket away.
    Gone,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing, in a few words.
    pub text: String,
}

/// One task at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alive {
    /// Which.
    pub key: TaskKey,
    /// The token of its hand-out.
    pub token: Token,
    /// How far it is, where that is news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// A worker lives, and so do its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Who.
    #[serde(flatten)]
    pub who: Worker,
    /// The tasks.
    pub tasks: Vec<Alive>,
}

/// What the leader says to one task at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beaten {
    /// Go on.
    GoOn,
    /// Stop, and settle as cancelled, or with what came of it.
    Stop,
    /// The task is not the worker's any more: stop, settle nothing, give the ticket back.
    Lost,
}

/// What came of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub key: TaskKey,
    /// The token of its hand-out.
    pub token: Token,
    /// What came of it; nothing: the worker gives it back and has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What else the world is to hear: an event for each, once the result is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<Told>,
}

/// What came of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    /// Who.
    #[serde(flatten)]
    pub who: Worker,
    /// The results.
    pub results: Vec<Done>,
}

/// What the leader says to one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It is in the journal: put the ticket away.
    Recorded,
    /// The leader knows the end of this task already, or nobody wants it any more: put the ticket away.
    Known,
    /// Another worker has the task: give the ticket back.
    Lost,
}

/// What the leader answers to a request, in the order of what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// One for each.
    Answers(Vec<T>),
    /// The request could not be read: why.
    Error(String),
}

/// A message that should be an event and is none, as it lies in the stream of the dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLetter {
    /// The subject that it came on.
    pub subject: String,
    /// What is wrong with it.
    pub reason: String,
    /// Its headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Its content, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content in base64, where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// How many bytes it had; of one that is too long for a letter only the beginning is kept.
    pub bytes: u64,
    /// When it was looked at.
    pub at: crate::UtcMs,
}

/// A task that no worker survived, as it lies in the stream of the dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The task.
    pub task: crate::Task,
    /// How often it was handed out.
    pub deliveries: u32,
    /// Who had it last.
    pub worker: Arc<str>,
    /// Why it was given up; the same stands in the journal.
    pub failure: crate::Failure,
    /// When.
    pub at: crate::UtcMs,
}
