//! What the journal's stream says: every record with the time at which the server took it, folded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, Message};
use futures_util::StreamExt as _;
use patchloom_core::record::{Batch, End, Entry, Event, Term};
use patchloom_core::{Effect, Outcome, Partition, RunId, TaskKey};
use patchloom_engine::journal::ChainHash;

use crate::ledger::Micros;

const STREAM: &str = "PATCHLOOM_JOURNAL_main";
/// A record that does not come within this time is asked for anew.
const NEXT_WITHIN: Duration = Duration::from_secs(3);

/// An outcome that counts.
#[derive(Clone, Debug)]
pub struct Done {
    pub seq: u64,
    pub at: Micros,
    pub outcome: Outcome,
    pub by: Arc<str>,
}

/// The record that opened a term, and the instance that wrote it.
#[derive(Clone, Debug)]
pub struct Reign {
    pub term: Term,
    pub writer: String,
}

/// What the journal says, as far as the checks need it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// How often the start of each run counted.
    pub started: BTreeMap<RunId, usize>,
    /// How often each event from outside counted.
    pub events: BTreeMap<String, usize>,
    /// When each task was first owed.
    pub owed: BTreeMap<TaskKey, Micros>,
    pub done: BTreeMap<TaskKey, Vec<Done>>,
    /// The workflow of each run and how it ended; `None` while it is open.
    pub ends: BTreeMap<RunId, (Arc<str>, Option<End>)>,
    pub terms: Vec<Reign>,
    /// What must not be in a journal at all.
    pub complaints: Vec<String>,
}

/// The stream, read from its first record on.
#[derive(Default)]
pub struct History {
    pub told: Told,
    pub state: Partition,
    pub seq: u64,
    pub chain: ChainHash,
}

impl History {
    /// Reads what has come since the last time; false where the server does not give it now.
    pub async fn advance(&mut self, context: &jetstream::Context) -> bool {
        let read = async {
            let mut stream = context.get_stream(STREAM).await.ok()?;
            let last = stream.info().await.ok()?.state.last_sequence;
            if last <= self.seq {
                return Some(());
            }
            let config = pull::OrderedConfig {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.seq + 1 },
                ..pull::OrderedConfig::default()
            };
            let mut messages = stream.create_consumer(config).await.ok()?.messages().await.ok()?;
            while self.seq < last {
                let message = tokio::time::timeout(NEXT_WITHIN, messages.next()).await.ok()??.ok()?;
                self.take(&message);
            }
            Some(())
        };
        let whole = read.await.is_some();
        let runs = self.state.runs().map(|run| (run.id(), (Arc::clone(&run.start.workflow), run.end())));
        self.told.ends.extend(runs);
        whole
    }

    fn take(&mut self, message: &Message) {
        let info = message.info().expect("a message of a stream says where it stands");
        let (seq, at) = (info.stream_sequence, micros(info.published.unix_timestamp_nanos()));
        if seq <= self.seq {
            // The client made a consumer anew that the server lost, and began from the front.
            return;
        }
        let header = |name: &str| {
            let value = message.headers.as_ref().and_then(|headers| headers.get_last(name));
            value.map(|value| value.as_str().to_owned()).unwrap_or_default()
        };
        if seq != self.seq + 1 {
            self.told.complaints.push(format!("record {} is followed by {seq}", self.seq));
        }
        (self.seq, self.chain) = (seq, self.chain.next(seq, &message.payload));
        if self.chain.to_string() != header("Patchloom-Chain") {
            self.told.complaints.push(format!("record {seq} stands under another link of the chain"));
        }
        let batch: Batch = serde_json::from_slice(&message.payload).expect("a record is a batch");
        self.note_term(&batch, seq, header("Patchloom-Writer"));
        for entry in &batch.entries {
            self.fold(seq, at, &batch, entry);
        }
    }

    /// A record of a term that is over, or of a writer that does not lead, must never be there.
    fn note_term(&mut self, batch: &Batch, seq: u64, writer: String) {
        if let Some(term) = batch.term.clone() {
            let last = self.told.terms.last().map_or(0, |reign| reign.term.number);
            if term.number != last + 1 {
                self.told.complaints.push(format!("record {seq} opens term {} behind {last}", term.number));
            }
            return self.told.terms.push(Reign { term, writer });
        }
        match self.told.terms.last() {
            Some(reign) if reign.writer == writer => {}
            other => {
                let leader = other.map(|reign| reign.term.leader.clone());
                self.told.complaints.push(format!("record {seq} is of {writer}, while {leader:?} leads"));
            }
        }
    }

    fn fold(&mut self, seq: u64, at: Micros, batch: &Batch, entry: &Entry) {
        if let Event::RunRetired { run } = &entry.event
            && let Some(run) = self.state.run(*run)
        {
            self.told.ends.insert(run.id(), (Arc::clone(&run.start.workflow), run.end()));
        }
        // A refused entry changes nothing.
        let Ok(applied) = self.state.apply(seq, batch.at, entry) else { return };
        match &entry.event {
            Event::RunStarted(start) => {
                *self.told.started.entry(start.run).or_default() += 1;
            }
            Event::EventReceived { event } => *self.told.events.entry(event.id.clone()).or_default() += 1,
            Event::AttemptFinished { task, outcome, .. } => {
                let done = Done { seq, at, outcome: outcome.clone(), by: Arc::clone(&entry.by) };
                self.told.done.entry(task.clone()).or_default().push(done);
            }
            _ => {}
        }
        for effect in applied.effects {
            if let Effect::Dispatch(task) = effect {
                self.told.owed.entry(task.key).or_insert(at);
            }
        }
    }

    /// The runs that are not over.
    pub fn open(&self) -> Vec<RunId> {
        self.told.ends.iter().filter(|(_, (_, end))| end.is_none()).map(|(run, _)| *run).collect()
    }
}

fn micros(nanos: i128) -> Micros {
    u64::try_from(nanos / 1_000).expect("a time of this century")
}
