//! The journal as a stream: one record is one message, its sequence the record's. Each append names the sequence that
//! it builds on, and the server refuses it where another record came first: two leaders never both write.

use std::time::Duration;

use async_nats::jetstream::context::{GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use patchloom_core::UtcMs;
use patchloom_core::record::{Batch, Term};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::message::{HEADERS_BYTES_MAX, Stamp};
use super::reader::NatsReader;
use super::stream::{adopted, check, config, get_or_make, message_at, readable, stamp_at, unavailable};
use super::stream_error::{StreamError, chain};
use super::trim::Trim;
use crate::disk::RealDisk;
use crate::journal::{AppendError, Appended, ChainHash, Error, Head, Journal, RECORD_BYTES_MAX};
use crate::snapshot::Snapshots;

/// Looks at what came before, for an append that the server refused: more only where records of ours, given up
/// without an answer, arrive one by one.
const TRIES: usize = 4;
/// Between two of them, where the server refuses a record and shows none that came before it.
const AGAIN: Duration = Duration::from_millis(50);

/// How a journal over NATS is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The version of the semantics that new records are written under; older ones can be read.
    pub semantics: u32,
    /// The id of the journal, where this opening makes it.
    pub id_if_new: [u8; 16],
    /// How many servers keep each record: 1 or 3.
    pub replicas: usize,
    /// How long an append waits for its acknowledgement before it is in doubt.
    pub ack_timeout: Duration,
}

impl JournalOptions {
    /// What the product uses.
    #[must_use]
    pub fn new(semantics: u32, replicas: usize) -> Self {
        let id_if_new = Uuid::now_v7().into_bytes();
        Self { semantics, id_if_new, replicas, ack_timeout: Duration::from_secs(5) }
    }
}

/// The record that opened a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// When.
    pub at: UtcMs,
    /// Which, and who leads in it.
    pub term: Term,
    /// Its bytes: a batch without entries.
    pub record: Vec<u8>,
    /// Where it stands.
    pub appended: Appended,
}

/// The journal of a partition in a stream.
///
/// Opening it takes nothing from a leader; [`NatsJournal::begin_term`] does.
pub struct NatsJournal {
    pub(super) context: Context,
    pub(super) stream: Stream<()>,
    pub(super) name: String,
    partition: String,
    subject: String,
    options: JournalOptions,
    id: [u8; 16],
    /// Names this instance of a leader in what it writes.
    writer: Uuid,
    head: Head,
    first: u64,
    term: u64,
    /// The record that opens a term, while it is in doubt.
    opening: Option<(Head, Opening)>,
    lost: Option<String>,
    /// Whether another instance was seen to write behind the head.
    deposed: bool,
    trimming: Option<JoinHandle<Result<u64, StreamError>>>,
}

impl std::fmt::Debug for NatsJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, head, first, term, .. } = self;
        f.debug_struct("NatsJournal")
            .field("stream", name)
            .field("head", head)
            .field("first", first)
            .field("term", term)
            .finish_non_exhaustive()
    }
}

fn stream_of(partition: &str) -> String {
    format!("PATCHLOOM_JOURNAL_{partition}")
}

impl Drop for NatsJournal {
    fn drop(&mut self) {
        if let Some(task) = &self.trimming {
            // What it has not given up yet is given up the next time.
            task.abort();
        }
    }
}

impl NatsJournal {
    /// Opens the journal of `partition`, or makes it.
    ///
    /// # Errors
    /// [`StreamError`]: where the stream is another's, is not set up as it must be, or does not end in sound records;
    /// [`StreamError::Unavailable`] where the broker does not answer.
    pub async fn open(context: &Context, partition: &str, options: JournalOptions) -> Result<Self, StreamError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=32).contains(&partition.len()) || !partition.bytes().all(fits) {
            return Err(StreamError::Name { name: partition.to_owned() });
        }
        let name = stream_of(partition);
        let subject = format!("patchloom.journal.{partition}");
        let info = get_or_make(context, &config(&name, &subject, &options)).await?;
        let id = check(&info.config, &config(&name, &subject, &options))?;
        let stream = context.get_stream_no_info(&name).await.map_err(|error| unavailable("open", &name, &error))?;
        let mut journal = Self {
            context: context.clone(),
            stream,
            name,
            partition: partition.to_owned(),
            subject,
            options,
            id,
            writer: Uuid::now_v7(),
            head: Head::default(),
            first: 1,
            term: 0,
            opening: None,
            lost: None,
            deposed: false,
            trimming: None,
        };
        journal.look(&info).await?;
        Ok(journal)
    }

    /// Opens the journal of `partition` to look on: as it stands, on as many servers as it is, and never made.
    ///
    /// # Errors
    /// As [`NatsJournal::open`]; [`StreamError::Unfit`] where there is none.
    pub async fn open_there(context: &Context, partition: &str, options: JournalOptions) -> Result<Self, StreamError> {
        let name = stream_of(partition);
        let replicas = match context.get_stream(&name).await {
            Ok(stream) => stream.cached_info().config.num_replicas,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    let reason = format!("there is none: no engine ever stood for the partition {partition} here");
                    return Err(StreamError::Unfit { stream: name, reason });
                }
                _ => return Err(unavailable("open", &name, &error)),
            },
        };
        Self::open(context, partition, JournalOptions { replicas, ..options }).await
    }

    /// Looks anew where the journal ends, and that it holds what it held.
    ///
    /// # Errors
    /// As [`NatsJournal::open`]; [`StreamError::Lost`] where the record that was the last one is not there any more.
    pub async fn refresh(&mut self) -> Result<Head, StreamError> {
        let info = self.stream.get_info().await.map_err(|error| unavailable("look at", &self.name, &error))?;
        let known = self.head;
        let lost = |found: String| StreamError::Lost { stream: self.name.clone(), found, known };
        if info.state.last_sequence < known.seq {
            return Err(lost(format!("ends at record {}", info.state.last_sequence)));
        }
        if known.seq > 0 && info.state.first_sequence <= known.seq {
            let stamp = self.stamp_at(known.seq).await?;
            if stamp.is_some_and(|stamp| stamp.chain != known.hash) {
                return Err(lost(format!("has another record {}", known.seq)));
            }
        }
        self.look(&info).await?;
        Ok(self.head)
    }

    /// Opens a term: from here on this instance leads, and an append of any former leader is refused.
    ///
    /// An error that is transient leaves the opening in doubt; calling this again finds out, with the same record.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn begin_term(&mut self, at: UtcMs, leader: &str) -> Result<Opening, AppendError> {
        let opening = match self.opening.take().filter(|(head, _)| *head == self.head) {
            Some((_, opening)) => opening,
            None => {
                // A new name: what a former term of this instance left under way is not taken for this one's.
                self.writer = Uuid::now_v7();
                let term = Term { number: self.term + 1, leader: leader.into() };
                let batch = Batch { at, entries: Vec::new(), term: Some(term.clone()) };
                let record = serde_json::to_vec(&batch).expect("a batch without entries has text keys");
                Opening { at, term, record, appended: Appended { seq: 0, hash: ChainHash::default() } }
            }
        };
        self.opening = Some((self.head, opening.clone()));
        let (number, semantics) = (opening.term.number, self.options.semantics);
        let appended = self.append_as(opening.record.clone(), semantics, number).await?;
        (self.opening, self.deposed) = (None, false);
        Ok(Opening { appended, ..opening })
    }

    /// The records behind `after`, and then each as it comes: the reader does not end.
    ///
    /// # Errors
    /// [`Error::Trimmed`] where the next record was given up; else as [`Journal::read_from`].
    pub async fn tail(&self, after: Head) -> Result<NatsReader, Error> {
        NatsReader::start(self.stream.clone(), &self.name, after, None, self.options.semantics).await
    }

    /// Whether an append was refused because another engine leads.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.deposed
    }

    /// The journal's id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.name
    }

    /// The term of the last record; 0 before the first.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The link of the chain at a record; none where it is not there.
    pub(super) async fn link(&self, seq: u64) -> Result<Option<ChainHash>, StreamError> {
        if seq == self.head.seq {
            return Ok(Some(self.head.hash));
        }
        Ok(self.stamp_at(seq).await?.map(|stamp| stamp.chain))
    }

    /// Makes an empty stream that of the journal `id`, which begins behind `after`.
    pub(super) async fn adopt(&mut self, id: [u8; 16], after: Head) -> Result<(), StreamError> {
        let name = &self.name;
        let info = self.stream.get_info().await.map_err(|error| unavailable("look at", name, &error))?;
        if info.state.last_sequence > 0 {
            let reason = "it is not empty any more".to_owned();
            return Err(StreamError::Unfit { stream: name.clone(), reason });
        }
        let updated = self.context.update_stream(adopted(info.config, id)).await;
        updated.map_err(|error| unavailable("update", name, &error))?;
        if after.seq > 0 {
            let purged = self.stream.purge().sequence(after.seq + 1).await;
            purged.map_err(|error| unavailable("move on", name, &error))?;
            let info = self.stream.get_info().await.map_err(|error| unavailable("look at", name, &error))?;
            if info.state.last_sequence != after.seq {
                let reason = format!("it cannot begin at record {}", after.seq + 1);
                return Err(StreamError::Unfit { stream: name.clone(), reason });
            }
        }
        (self.id, self.head, self.first) = (id, after, readable(after.seq + 1));
        Ok(())
    }

    /// The partition.
    pub(super) fn partition(&self) -> &str {
        &self.partition
    }

    /// How many servers keep each record.
    pub(super) fn replicas(&self) -> usize {
        self.options.replicas
    }

    /// The version of the semantics that records are written under.
    pub(super) fn semantics(&self) -> u32 {
        self.options.semantics
    }

    /// The longest record that the server takes.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.context.client().max_payload().saturating_sub(HEADERS_BYTES_MAX).min(RECORD_BYTES_MAX)
    }

    /// Gives up records before `seq` in the background, once the snapshots in `uploads` are in the object store too.
    pub(super) async fn trim(&mut self, seq: u64, uploads: Option<Snapshots<RealDisk>>) -> Result<u64, Error> {
        if let Some(task) = self.trimming.take_if(|task| task.is_finished()) {
            // A panic in it has been printed; what it did not give up is asked for again.
            self.first = task.await.unwrap_or(Ok(self.first))?;
        }
        if self.trimming.is_none() && seq > self.first {
            let trim = Trim {
                context: self.context.clone(),
                stream: self.stream.clone(),
                name: self.name.clone(),
                partition: self.partition.clone(),
                replicas: self.options.replicas,
                seq: seq.min(self.head.seq + 1),
                first: self.first,
            };
            self.trimming = Some(tokio::spawn(trim.run(uploads)));
        }
        Ok(self.first)
    }

    /// Appends a record that was written under these semantics, in this term.
    pub(super) async fn append_as(
        &mut self,
        record: Vec<u8>,
        semantics: u32,
        mut term: u64,
    ) -> Result<Appended, AppendError> {
        if let Some(reason) = &self.lost {
            return Err(AppendError::Lost { stream: self.name.clone(), reason: reason.clone() });
        }
        let (bytes, limit) = (record.len(), self.record_bytes_max());
        if bytes > limit {
            return Err(AppendError::TooLong { bytes, limit });
        }
        for _ in 0..TRIES {
            let seq = self.head.seq + 1;
            let hash = self.head.hash.next(seq, &record);
            let stamp = Stamp { chain: hash, semantics, term, writer: self.writer };
            let there = self.publish(stamp, record.clone()).await?;
            let resolved = if there { Resolved::Ours } else { self.resolve(stamp).await? };
            match resolved {
                Resolved::Ours => {
                    (self.head, self.term) = (Head { seq, hash }, term);
                    return Ok(Appended { seq, hash });
                }
                Resolved::Former(head, in_term) => {
                    term = term.max(in_term);
                    (self.head, self.term) = (head, in_term);
                }
                Resolved::Nothing => tokio::time::sleep(AGAIN).await,
            }
        }
        Err(self.unavailable("it refuses the record for one that came before, and shows none".to_owned()))
    }

    /// Takes over where the stream begins and ends.
    async fn look(&mut self, info: &Info) -> Result<(), StreamError> {
        let state = &info.state;
        let (first, last) = (state.first_sequence.max(1), state.last_sequence);
        let damaged = |seq, reason: String| StreamError::Damaged { stream: self.name.clone(), seq, reason };
        if last == 0 {
            (self.head, self.first, self.term) = (Head::default(), 1, 0);
            return Ok(());
        }
        if state.messages != (last + 1).saturating_sub(first) {
            let reason = format!("the stream has {} messages from {first} to {last}", state.messages);
            return Err(damaged(first, reason));
        }
        // Never all of it is given up: the last record holds the link that the next one builds on.
        let message = self.message_at(last).await?.ok_or_else(|| damaged(last, "it is gone".to_owned()))?;
        let stamp = Stamp::read(Some(&message.headers)).map_err(|reason| damaged(last, reason))?;
        let before = match last - 1 {
            0 => Some(Head::default()),
            seq if seq < first => None,
            seq => self.stamp_at(seq).await?.map(|stamp| Head { seq, hash: stamp.chain }),
        };
        if let Some(before) = before {
            stamp.record(before, message.payload.to_vec()).map_err(|reason| damaged(last, reason))?;
        }
        if stamp.semantics > self.options.semantics {
            let (stream, found, supported) = (self.name.clone(), stamp.semantics, self.options.semantics);
            return Err(StreamError::UnknownVersion { stream, what: "semantics", found, supported });
        }
        self.head = Head { seq: last, hash: stamp.chain };
        self.term = stamp.term;
        self.first = readable(first);
        Ok(())
    }

    async fn message_at(&self, seq: u64) -> Result<Option<StreamMessage>, StreamError> {
        message_at(&self.stream, &self.name, seq).await
    }

    async fn stamp_at(&self, seq: u64) -> Result<Option<Stamp>, StreamError> {
        stamp_at(&self.stream, &self.name, seq).await
    }

    /// Sends a record and waits for the acknowledgement; `false` where the server says that another one came first.
    async fn publish(&mut self, stamp: Stamp, record: Vec<u8>) -> Result<bool, AppendError> {
        let bytes = record.len();
        let seq = self.head.seq + 1;
        let message = stamp.message(&self.name, self.head, record);
        let sent = async { self.context.send_publish(self.subject.clone(), message).await?.await };
        let acknowledged = match tokio::time::timeout(self.options.ack_timeout, sent).await {
            Ok(acknowledged) => acknowledged,
            Err(_) => {
                let reason = format!("no acknowledgement within {} ms", self.options.ack_timeout.as_millis());
                return Err(self.unavailable(reason));
            }
        };
        match acknowledged {
            Ok(ack) if ack.stream == self.name && ack.sequence == seq && !ack.duplicate => Ok(true),
            Ok(ack) => {
                let reason = format!("it took record {seq} as message {} of {}", ack.sequence, ack.stream);
                self.lost = Some(reason.clone());
                Err(AppendError::Lost { stream: self.name.clone(), reason })
            }
            Err(error) => self.refused(&error, bytes),
        }
    }

    fn refused(&self, error: &PublishError, bytes: usize) -> Result<bool, AppendError> {
        let said = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        let code = said.map(jetstream::Error::error_code);
        let too_long = error.kind() == PublishErrorKind::MaxPayloadExceeded
            || code == Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        let second = error.kind() == PublishErrorKind::WrongLastSequence
            || code == Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
        if too_long {
            Err(AppendError::TooLong { bytes, limit: self.record_bytes_max() })
        } else if second {
            Ok(false)
        } else {
            Err(self.unavailable(chain(error)))
        }
    }

    /// What came before a record that the server refused.
    async fn resolve(&mut self, stamp: Stamp) -> Result<Resolved, AppendError> {
        let seq = self.head.seq + 1;
        let failed = |error: StreamError| match error {
            StreamError::Unavailable { reason, .. } => self.unavailable(reason),
            error => AppendError::Lost { stream: self.name.clone(), reason: chain(&error) },
        };
        let Some(message) = self.message_at(seq).await.map_err(failed)? else {
            let info = self.stream.get_info().await.map_err(|error| self.unavailable(chain(&error)))?;
            let last = info.state.last_sequence;
            if last > self.head.seq {
                // Written and given up again: this leader slept for long.
                return Err(self.deposed());
            }
            if last < self.head.seq {
                // A server that was cut off from the others may be behind for a while, so this is not fatal yet.
                return Err(self.unavailable(format!("it ends at record {last}, {} was acknowledged", self.head.seq)));
            }
            return Ok(Resolved::Nothing);
        };
        let found = Stamp::read(Some(&message.headers)).map_err(|_| self.deposed())?;
        if found.writer != self.writer {
            return Err(self.deposed());
        }
        if found.chain == stamp.chain {
            return Ok(Resolved::Ours);
        }
        match found.record(self.head, message.payload.to_vec()) {
            Ok(record) => Ok(Resolved::Former(Head { seq, hash: record.hash }, found.term)),
            Err(reason) => {
                Err(AppendError::Lost { stream: self.name.clone(), reason: format!("record {seq}: {reason}") })
            }
        }
    }

    fn deposed(&mut self) -> AppendError {
        self.deposed = true;
        AppendError::Deposed { stream: self.name.clone(), seq: self.head.seq + 1 }
    }

    fn unavailable(&self, reason: String) -> AppendError {
        AppendError::Unavailable { stream: self.name.clone(), reason }
    }
}

/// What stands where a refused record was to stand.
enum Resolved {
    /// It does: an earlier try arrived.
    Ours,
    /// Another one of this instance, which was given up without an answer.
    Former(Head, u64),
    /// Nothing yet.
    Nothing,
}

impl Journal for NatsJournal {
    type Reader = NatsReader;

    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        self.append_as(record, self.options.semantics, self.term).await
    }

    async fn read_from(&self, seq: u64) -> Result<NatsReader, Error> {
        let (first, head) = (self.first(), self.head);
        if seq < first {
            return Err(Error::Trimmed { seq, first });
        }
        if seq > head.seq + 1 {
            return Err(Error::BeyondHead { seq, head: head.seq });
        }
        let before = match seq - 1 {
            0 => Head::default(),
            at if at == head.seq => head,
            at => {
                let stamp = self.stamp_at(at).await?;
                // Given up since this was opened, by who leads now.
                let stamp = stamp.ok_or(Error::Trimmed { seq, first: seq + 1 })?;
                Head { seq: at, hash: stamp.chain }
            }
        };
        NatsReader::start(self.stream.clone(), &self.name, before, Some(head.seq), self.options.semantics).await
    }

    fn head(&self) -> Head {
        self.head
    }

    fn first(&self) -> u64 {
        self.first
    }

    /// Asks for the purge and does not wait for it: what was given up shows later. Only records that a snapshot in the
    /// object store has are given up.
    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.trim(seq, None).await
    }
}
