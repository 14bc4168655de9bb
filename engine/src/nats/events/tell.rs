//! Events on their way out: what the leader tells goes into a stream beside the journal, never before it and never in
//! its way. Each message says up to which record all is told, so that whoever leads next goes on from there.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, Info, LastRawMessageErrorKind, PersistenceMode, StorageType, Stream as JetStream,
};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesOrdered;
use patchloom_core::wire::{Names, SEQ_HEADER, TOLD_AT_HEADER, TOLD_HEADER};
use patchloom_core::{CloudEvent, EVENT_TYPE};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::BusOptions;
use super::line::{Line, Waiting};
use crate::events::{Events, Wanted};
use crate::nats::make::{make, make_with_room};
use crate::nats::preflight::ServerVersion;

/// Events on their way to the server at a time.
const FLIGHTS_MAX: usize = 256;
/// While the leader may not speak.
const SILENT: Duration = Duration::from_millis(100);
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// For how long one that stops goes on to tell what is in line.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For how long the server may think about each message of the end of the stream.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// What headers and subject take at most.
const HEAD_BYTES_MAX: usize = 4_096;
/// The first servers that can acknowledge before they flush, stream by stream.
const ASYNC_SINCE: ServerVersion = ServerVersion { major: 2, minor: 12, patch: 0 };

/// An event on its way: its number in line, and where in the stream it came to stand.
type Flight = BoxFuture<'static, Result<(u64, Option<u64>), PublishError>>;

/// The port over JetStream. Clones share the line.
#[derive(Clone, Debug)]
pub struct NatsEvents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Names,
    partition: Arc<str>,
    replicas: usize,
    options: BusOptions,
    line: Mutex<Line>,
    past: Option<Box<dyn Past>>,
    more: Notify,
}

/// What records told that were folded in before the line began.
pub trait Past: std::fmt::Debug + Send + Sync + 'static {
    /// The events of these records, each with its record, in order; blocks. Why not, where they cannot be had.
    ///
    /// # Errors
    /// The journal here does not reach back so far, or cannot be read.
    fn told(&self, records: RangeInclusive<u64>, wanted: Wanted) -> Result<Vec<(u64, CloudEvent)>, String>;
}

impl Events for NatsEvents {
    fn wanted(&self) -> Wanted {
        if self.0.options.steps { Wanted::All } else { Wanted::AllButSteps }
    }

    fn publish(&self, seq: u64, events: Vec<CloudEvent>) {
        let given_up = self.add(seq, events, true);
        if given_up > 0 {
            let lost = self.lost();
            warn!(given_up, lost, "events are not told: more happens than the server takes");
        }
        self.0.more.notify_one();
    }

    fn overheard(&self, seq: u64, events: Vec<CloudEvent>) {
        self.add(seq, events, false);
    }
}

impl NatsEvents {
    /// The events of a partition; they go nowhere until they are [told](Self::tell).
    #[must_use]
    pub fn new(names: Names, partition: Arc<str>, replicas: usize, options: BusOptions) -> Self {
        Self::behind(names, partition, replicas, options, 1, None)
    }

    /// As [`NatsEvents::new`], for one that hears of all from the record `from` on; what came before `past` knows.
    #[must_use]
    pub fn behind(
        names: Names,
        partition: Arc<str>,
        replicas: usize,
        options: BusOptions,
        from: u64,
        past: Option<Box<dyn Past>>,
    ) -> Self {
        let line = Mutex::new(Line::new(options.out_line_max, from));
        Self(Arc::new(Inner { names, partition, replicas, options, line, past, more: Notify::new() }))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events were given up, because the server was away or too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.line().lost()
    }

    fn add(&self, seq: u64, events: Vec<CloudEvent>, ours: bool) -> u64 {
        let steps = self.0.options.steps;
        // Who listens beside us may want more.
        let wanted = events.into_iter().filter(|event| steps || !event.kind.starts_with("patchloom.step."));
        self.line().add(seq, wanted, ours)
    }

    /// Tells what is in line until `stop` fires; first what a former leader had not come to.
    ///
    /// Nothing is told while `may_tell` says no.
    pub async fn tell(&self, context: Context, may_tell: impl Fn() -> bool, stop: CancellationToken) {
        let mut again = AGAIN_FIRST;
        loop {
            match self.tell_on(&context, &may_tell, &stop).await {
                Ok(()) => return,
                Err(reason) if stop.is_cancelled() => {
                    warn!(%reason, "the last events are not told; the next leader does");
                    return;
                }
                Err(reason) => warn!(%reason, "events cannot be told; they wait"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(again) => {}
            }
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// Until it is to stop, or one event was not taken: then all begins with what is in the stream.
    async fn tell_on(
        &self,
        context: &Context,
        may_tell: &impl Fn() -> bool,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut told_at = tokio::select! {
            begun = self.begin(context) => begun?,
            // A server that is away must not keep us.
            () = async { stop.cancelled().await; sleep(LAST_WORDS).await } => {
                return Err("the server does not answer".to_owned());
            }
        };
        let mut flights: FuturesOrdered<Flight> = FuturesOrdered::new();
        let mut until: Option<Instant> = None;
        loop {
            let speaks = may_tell();
            while speaks && flights.len() < FLIGHTS_MAX {
                let Some((number, waiting, told)) = self.next() else { break };
                flights.push_back(self.send(context, number, &waiting, told, told_at).await?);
            }
            if let Some(until) = until
                && (self.line().is_empty() || Instant::now() >= until || !speaks)
            {
                return Ok(());
            }
            let nap = if speaks && until.is_none() { LAST_WORDS } else { SILENT };
            tokio::select! {
                biased;
                // Cancel-safe: what has not landed stays in the queue.
                Some(landed) = flights.next(), if !flights.is_empty() => {
                    let (number, at) = landed.map_err(|error| error.to_string())?;
                    told_at = told_at.max(at.unwrap_or_default());
                    self.line().landed(number);
                }
                () = stop.cancelled(), if until.is_none() => until = Some(Instant::now() + LAST_WORDS),
                () = self.0.more.notified() => {}
                () = sleep(nap) => {}
            }
        }
    }

    /// Sends one event; the future gives its number and where in the stream it stands.
    async fn send(
        &self,
        context: &Context,
        number: u64,
        waiting: &Waiting,
        told: u64,
        told_at: u64,
    ) -> Result<Flight, String> {
        let event = &waiting.event;
        let mut headers = HeaderMap::new();
        let payload = if self.0.options.binary {
            let message = event.binary();
            message.headers.iter().for_each(|(name, value)| headers.insert(name.as_str(), value.as_str()));
            message.body
        } else {
            headers.insert("Content-Type", EVENT_TYPE);
            event.structured()
        };
        if payload.len() + HEAD_BYTES_MAX > context.client().max_payload() {
            warn!(id = %event.id, kind = %event.kind, bytes = payload.len(), "an event is too long for the server");
            self.line().lose();
            return Ok(async move { Ok((number, None)) }.boxed());
        }
        headers.insert(NATS_MESSAGE_ID, name(event).as_str());
        for (header, value) in [(SEQ_HEADER, waiting.seq), (TOLD_HEADER, told), (TOLD_AT_HEADER, told_at)] {
            headers.insert(header, value.to_string().as_str());
        }
        let subject = self.0.names.event_out(&self.0.partition, &event.kind);
        let message = PublishMessage::build().payload(payload.into()).headers(headers);
        let ack = context.send_publish(subject, message).await.map_err(|error| error.to_string())?;
        Ok(async move { ack.await.map(|ack| (number, Some(ack.sequence))) }.boxed())
    }

    fn config(&self, version: ServerVersion) -> Config {
        let options = &self.0.options;
        // Telling must not make the disk of the journal flush: in memory, or flushed when the server thinks fit, which
        // servers do for one copy only.
        let lazy = self.0.replicas == 1 && version >= ASYNC_SINCE;
        Config {
            name: self.0.names.events_out(),
            description: Some("What the engines tell, as CloudEvents.".to_owned()),
            subjects: vec![self.0.names.all_events_out()],
            storage: if lazy { StorageType::File } else { StorageType::Memory },
            persist_mode: lazy.then_some(PersistenceMode::Async),
            max_age: options.out_age_max,
            max_bytes: i64::try_from(options.out_bytes_max).unwrap_or(i64::MAX),
            num_replicas: self.0.replicas,
            ..Config::default()
        }
    }

    async fn make(&self, context: &Context) -> Result<Info, String> {
        let mut config = self.config(ServerVersion::parse(&context.client().server_info().version));
        if let Ok(there) = context.get_stream(&config.name).await {
            // A server that was updated since can do more; the stream stays what it is.
            let there = &there.cached_info().config;
            (config.storage, config.persist_mode) = (there.storage, there.persist_mode);
            config.max_bytes = config.max_bytes.min(there.max_bytes.max(1));
            return make(context, config).await;
        }
        make_with_room(context, config).await
    }

    /// Finds where the telling ended, and leaves in line what is not in the stream; gives the last message that is told
    /// for good.
    async fn begin(&self, context: &Context) -> Result<u64, String> {
        let info = self.make(context).await?;
        let stream = context.get_stream_no_info(&info.config.name).await.map_err(|error| error.to_string())?;
        let of = self.0.names.events_out_of(&self.0.partition);
        let last = match stream.get_last_raw_message_by_subject(&of).await {
            Ok(last) => last,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                let oldest = SystemTime::now().checked_sub(self.0.options.out_age_max);
                // What would have left the stream by now is not told again.
                self.line().begin(0, |event| is_before(event, oldest));
                return Ok(0);
            }
            Err(error) => return Err(error.to_string()),
        };
        let number = |name: &str| last.headers.get(name).and_then(|value| value.as_str().parse::<u64>().ok());
        let (told, told_at) = (number(TOLD_HEADER).unwrap_or(0), number(TOLD_AT_HEADER).unwrap_or(0));
        let known = self.known(&stream, &of, told_at + 1, last.sequence).await?;
        self.look_back(told).await;
        let mut line = self.line();
        line.begin(told, |event| known.contains(&name(event)));
        info!(partition = %self.0.partition, told, behind = known.len(), "tells events");
        Ok(told_at)
    }

    /// Puts into line what was recorded behind `told`, before this engine began to listen.
    async fn look_back(&self, told: u64) {
        let Some(missed) = self.line().missed(told) else { return };
        if self.0.past.is_none() {
            return;
        }
        let (events, range) = (self.clone(), missed.clone());
        let read = tokio::task::spawn_blocking(move || {
            let past = events.0.past.as_ref().map(|past| past.told(range, events.wanted()));
            past.unwrap_or_else(|| Ok(Vec::new()))
        });
        match read.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(found) => self.line().put_before(found),
            Err(reason) => {
                warn!(?missed, %reason, "what these records told is not known; some of it may never be told")
            }
        }
    }

    /// The names of the messages from `first` to `last`.
    async fn known(
        &self,
        stream: &JetStream<()>,
        subjects: &str,
        first: u64,
        last: u64,
    ) -> Result<BTreeSet<String>, String> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
            filter_subject: subjects.to_owned(),
            headers_only: true,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        let mut known = BTreeSet::new();
        loop {
            let next = timeout(READ_WITHIN, messages.next()).await.map_err(|_| "the stream's end cannot be read")?;
            let message: jetstream::Message =
                next.ok_or("the stream's end cannot be read")?.map_err(|error| error.to_string())?;
            let at = message.info().map_err(|error| error.to_string())?.stream_sequence;
            let id = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
            known.extend(id.map(ToString::to_string));
            if at >= last {
                return Ok(known);
            }
        }
    }

    /// The next event in line, with its number and the record up to which all is told.
    fn next(&self) -> Option<(u64, Waiting, u64)> {
        let mut line = self.line();
        let (number, waiting) = line.next()?;
        Some((number, waiting, line.told()))
    }
}

/// What names an event for ever.
fn name(event: &CloudEvent) -> String {
    format!("{}#{}", event.source, event.id)
}

fn is_before(event: &CloudEvent, oldest: Option<SystemTime>) -> bool {
    let time = event.time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    match (time, oldest) {
        (Some(time), Some(oldest)) => SystemTime::from(time) < oldest,
        (None, _) | (_, None) => false,
    }
}
