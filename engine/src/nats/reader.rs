//! Reads records out of the stream, in order, and checks the chain on the way.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::message::Message;
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::message::Stamp;
use super::stream::{readable, unavailable};
use super::stream_error::StreamError;
use crate::journal::{Error, Head, Record, RecordReader};

/// How long the broker may let a reader wait for what it can give.
const STALLED: Duration = Duration::from_secs(10);
/// After so long without a record, one that reads for ever asks whether there is none: a consumer may have died unheard. It was
/// seen when a server of a cluster was killed while one began to read; the client then waits for ever.
const QUIET: Duration = Duration::from_secs(5);
/// Between two tries to ask it anew.
const AGAIN: Duration = Duration::from_millis(100);

/// Reads to the head as it was known, or for ever.
///
/// It bears restarts of the broker; where that is away for long it says so, and may be asked again.
pub struct NatsReader {
    stream: Stream<()>,
    name: String,
    messages: Option<Ordered>,
    last: Head,
    until: Option<u64>,
    /// When a record came last, or it was known that there was none. Kept here, since who waits may give up and come again.
    heard: Instant,
    semantics_max: u32,
    /// Behind damage nothing can be trusted.
    over: bool,
}

impl std::fmt::Debug for NatsReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsReader")
            .field("stream", &self.name)
            .field("last", &self.last)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl NatsReader {
    /// Begins behind `after`.
    pub(super) async fn start(
        stream: Stream<()>,
        name: &str,
        after: Head,
        until: Option<u64>,
        semantics_max: u32,
    ) -> Result<Self, Error> {
        let (name, messages, heard, over) = (name.to_owned(), None, Instant::now(), false);
        let mut reader = Self { stream, name, messages, last: after, until, heard, semantics_max, over };
        if !reader.is_at_end() {
            reader.messages = Some(reader.ask().await?);
        }
        Ok(reader)
    }

    fn is_at_end(&self) -> bool {
        self.until.is_some_and(|until| self.last.seq >= until)
    }

    /// Asks the broker for the records behind the last one.
    async fn ask(&mut self) -> Result<Ordered, StreamError> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.last.seq + 1 },
            ..OrderedConfig::default()
        };
        let consumer = self.stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| unavailable("read", &self.name, &error))?;
        consumer.messages().await.map_err(|error| unavailable("read", &self.name, &error))
    }

    /// The next message, over restarts of the broker; an error where that takes long.
    async fn message(&mut self) -> Result<Message, StreamError> {
        // Only a reader that knows that there is more may take waiting for a failure.
        let mut patience = self.until.map(|_| Instant::now() + STALLED);
        loop {
            let failed = match &mut self.messages {
                Some(messages) => {
                    let end = patience.unwrap_or(self.heard + QUIET);
                    match tokio::time::timeout_at(end, messages.next()).await {
                        Ok(Some(Ok(message))) => {
                            self.heard = Instant::now();
                            return Ok(message);
                        }
                        Ok(Some(Err(error))) => unavailable("read", &self.name, &error),
                        Err(_) if patience.is_none() => match self.lags().await {
                            Ok(false) => {
                                self.heard = Instant::now();
                                continue;
                            }
                            Ok(true) => self.stalled(),
                            Err(error) => error,
                        },
                        Ok(None) | Err(_) => self.stalled(),
                    }
                }
                None => match self.ask().await {
                    Ok(messages) => {
                        self.messages = Some(messages);
                        self.heard = Instant::now();
                        if self.until.is_none() {
                            patience = None;
                        }
                        continue;
                    }
                    Err(error) => error,
                },
            };
            self.messages = None;
            if Instant::now() >= *patience.get_or_insert_with(|| Instant::now() + STALLED) {
                return Err(failed);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether the stream has what did not come.
    async fn lags(&mut self) -> Result<bool, StreamError> {
        let info = self.stream.get_info().await.map_err(|error| unavailable("look at", &self.name, &error))?;
        Ok(info.state.last_sequence > self.last.seq)
    }

    fn stalled(&self) -> StreamError {
        let reason = format!("no record came for {} s", STALLED.as_secs());
        StreamError::Unavailable { attempt: "read", stream: self.name.clone(), reason }
    }

    /// Something stands where the next record should.
    async fn gap(&mut self, found: u64) -> Error {
        let seq = self.last.seq + 1;
        match self.stream.get_info().await {
            Ok(info) if info.state.first_sequence > seq => {
                Error::Trimmed { seq, first: readable(info.state.first_sequence) }
            }
            Ok(_) => self.damaged(format!("record {found} follows the one before it")),
            Err(error) => unavailable("look at", &self.name, &error).into(),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        StreamError::Damaged { stream: self.name.clone(), seq: self.last.seq + 1, reason }.into()
    }

    fn end(&mut self, error: Error) -> Error {
        (self.over, self.messages) = (true, None);
        error
    }
}

impl RecordReader for NatsReader {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if self.over || self.is_at_end() {
                self.messages = None;
                return Ok(None);
            }
            let message = self.message().await?;
            let place = message.info().map(|place| place.stream_sequence);
            let expected = self.last.seq + 1;
            match place {
                // A consumer that the broker lost was made anew.
                Ok(seq) if seq < expected => continue,
                Ok(seq) if seq > expected => {
                    let gap = self.gap(seq).await;
                    return Err(self.end(gap));
                }
                Ok(_) => {}
                Err(error) => return Err(self.damaged(error.to_string())),
            }
            let stamp = Stamp::read(message.headers.as_ref());
            let record = stamp.and_then(|stamp| stamp.record(self.last, message.payload.to_vec()));
            let record = match record {
                Ok(record) => record,
                Err(reason) => {
                    let damage = self.damaged(reason);
                    return Err(self.end(damage));
                }
            };
            if record.semantics > self.semantics_max {
                let (stream, supported) = (self.name.clone(), self.semantics_max);
                let (what, found) = ("semantics", record.semantics);
                return Err(self.end(StreamError::UnknownVersion { stream, what, found, supported }.into()));
            }
            self.last = Head { seq: record.seq, hash: record.hash };
            return Ok(Some(record));
        }
    }
}
