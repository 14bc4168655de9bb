//! Who listens to what the engines of a partition tell: from now on, or from some time on, over restarts of the server.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt as _;
use patchloom_core::wire::Names;
use patchloom_core::{CloudEvent, UtcMs};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::nats::connect::Connection;

const AGAIN: Duration = Duration::from_millis(500);

/// Listens. Waits where nobody has told anything yet, or the server is away.
pub struct Listener {
    context: Context,
    stream: String,
    subjects: String,
    /// The last message that was heard, or the time from which on it listens.
    after: After,
    messages: Option<Ordered>,
}

#[derive(Clone, Copy, Debug)]
enum After {
    Now,
    Time(UtcMs),
    Message(u64),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("subjects", &self.subjects).field("after", &self.after).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens to a partition, from `since` on; else from when [`Listener::begin`] or [`Listener::next`] is first called.
    #[must_use]
    pub fn new(connection: &Connection, names: &Names, partition: &str, since: Option<UtcMs>) -> Self {
        Self {
            context: connection.jetstream(),
            stream: names.events_out(),
            subjects: names.events_out_of(partition),
            after: since.map_or(After::Now, After::Time),
            messages: None,
        }
    }

    /// Begins to listen; false where nobody has told anything yet, or the server does not answer.
    pub async fn begin(&mut self) -> bool {
        if self.messages.is_some() {
            return true;
        }
        match self.ask().await {
            Ok(messages) => self.messages = Some(messages),
            Err(reason) => debug!(%reason, "nothing to listen to yet"),
        }
        // What comes into a stream that was not there is all new.
        if self.messages.is_none() && matches!(self.after, After::Now) {
            self.after = After::Message(0);
        }
        self.messages.is_some()
    }

    /// The next event.
    pub async fn next(&mut self) -> CloudEvent {
        loop {
            if !self.begin().await {
                sleep(AGAIN).await;
                continue;
            }
            let Some(messages) = &mut self.messages else { continue };
            let heard = messages.next().await;
            match heard {
                Some(Ok(message)) => {
                    if let Some(event) = self.read(&message) {
                        return event;
                    }
                }
                Some(Err(error)) => {
                    debug!(%error, "the stream of events does not answer; asked again");
                    self.messages = None;
                }
                None => self.messages = None,
            }
        }
    }

    fn read(&mut self, message: &Message) -> Option<CloudEvent> {
        if let Ok(info) = message.info() {
            self.after = After::Message(info.stream_sequence);
        }
        match read(message) {
            Ok(event) => event,
            Err(reason) => {
                warn!(subject = %message.subject, %reason, "a message among the told events is none");
                None
            }
        }
    }

    async fn ask(&self) -> Result<Ordered, String> {
        let stream = self.context.get_stream(&self.stream).await.map_err(|error| error.to_string())?;
        let deliver_policy = match self.after {
            After::Now => DeliverPolicy::New,
            After::Time(at) => {
                let start_time = async_nats::datetime::from_nanos(i128::from(at.0) * 1_000_000);
                DeliverPolicy::ByStartTime { start_time: start_time.map_err(|error| error.to_string())? }
            }
            // A stream that was lost and made anew counts from 1 again.
            After::Message(seq) if seq > stream.cached_info().state.last_sequence => DeliverPolicy::All,
            After::Message(seq) => DeliverPolicy::ByStartSequence { start_sequence: seq + 1 },
        };
        let config =
            OrderedConfig { deliver_policy, filter_subject: self.subjects.clone(), ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        consumer.messages().await.map_err(|error| error.to_string())
    }
}

fn read(message: &async_nats::Message) -> Result<Option<CloudEvent>, patchloom_core::NoEvents> {
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    let pairs =
        headers.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str().as_bytes())));
    Ok(CloudEvent::read_message(pairs, &message.payload)?.into_iter().next())
}
