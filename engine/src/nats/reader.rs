//! Reads records out of the stream, in order, and checks the chain on the way.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;

use super::message::Stamp;
use super::stream::{readable, unavailable};
use super::stream_error::StreamError;
use crate::journal::{Error, Head, Record, RecordReader};

/// How long the broker may let a reader wait for a record that is there.
const STALLED: Duration = Duration::from_secs(10);

/// Reads to the head as it was known, or for ever.
pub struct NatsReader {
    stream: Stream<()>,
    name: String,
    messages: Option<Ordered>,
    last: Head,
    until: Option<u64>,
    semantics_max: u32,
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
        let mut reader = Self { stream, name: name.to_owned(), messages: None, last: after, until, semantics_max };
        if !reader.is_over() {
            let config = OrderedConfig {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after.seq + 1 },
                ..OrderedConfig::default()
            };
            let consumer = reader.stream.create_consumer(config).await;
            let consumer = consumer.map_err(|error| unavailable("read", name, &error))?;
            let messages = consumer.messages().await.map_err(|error| unavailable("read", name, &error))?;
            reader.messages = Some(messages);
        }
        Ok(reader)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.last.seq >= until)
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
}

impl RecordReader for NatsReader {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if self.is_over() {
                self.messages = None;
                return Ok(None);
            }
            // None after an error: nothing behind it can be trusted.
            let Some(messages) = &mut self.messages else { return Ok(None) };
            let next = match self.until {
                None => messages.next().await,
                Some(_) => tokio::time::timeout(STALLED, messages.next()).await.map_err(|_| {
                    let reason = format!("no record came for {} s", STALLED.as_secs());
                    StreamError::Unavailable { attempt: "read", stream: self.name.clone(), reason }
                })?,
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(unavailable("read", &self.name, &error).into()),
                None => return Ok(None),
            };
            let place = message.info().map_err(|error| self.damaged(error.to_string()))?;
            let (seq, expected) = (place.stream_sequence, self.last.seq + 1);
            if seq < expected {
                // A consumer that the broker lost was made anew.
                continue;
            }
            if seq > expected {
                self.messages = None;
                return Err(self.gap(seq).await);
            }
            let stamp = Stamp::read(message.headers.as_ref());
            let record = stamp.and_then(|stamp| stamp.record(self.last, message.payload.to_vec()));
            let record = match record {
                Ok(record) => record,
                Err(reason) => {
                    self.messages = None;
                    return Err(self.damaged(reason));
                }
            };
            if record.semantics > self.semantics_max {
                let (stream, supported) = (self.name.clone(), self.semantics_max);
                let (what, found) = ("semantics", record.semantics);
                return Err(StreamError::UnknownVersion { stream, what, found, supported }.into());
            }
            self.last = Head { seq, hash: record.hash };
            return Ok(Some(record));
        }
    }
}
