//! Writes tickets: as many as workers have room for, in the order of the book, one per task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, IntoConsumerConfig as _, pull};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use patchloom_core::wire::DeadLetter;
use patchloom_core::{Millis, QueueName, Task, TaskKey};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{NatsQueue, State};
use crate::nats::make::{dead_letters, make};
use crate::nats::same_config;
use crate::queue::book::Offer;

/// Tickets on their way to the server at a time.
const FLIGHTS_MAX: usize = 512;
/// How often it is looked whether the streams are still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Tickets looked after at a time.
const AUDIT_MAX: usize = 256;
/// While the leader may not speak.
const SILENT: Duration = Duration::from_millis(100);
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// The most pulls of workers that wait at one consumer.
const WAITING_MAX: i64 = 65_536;
/// Of the errors of JetStream: there is a message of this subject already.
const THERE_ALREADY: u64 = 10_077;

/// Writes until `stop` fires.
pub(super) async fn run(
    queue: NatsQueue,
    context: jetstream::Context,
    may_write: impl Fn() -> bool,
    stop: CancellationToken,
) {
    let mut writer = Writer {
        queue,
        context,
        made: None,
        consumers: BTreeSet::new(),
        flights: FuturesUnordered::new(),
        pause: None,
    };
    let mut again = AGAIN_FIRST;
    while !stop.is_cancelled() {
        let nap = if !may_write() {
            SILENT
        } else if let Err(error) = writer.prepare().await {
            warn!(%error, "the stream of the tickets cannot be used");
            again = (again * 2).min(AGAIN_MAX);
            again
        } else {
            again = AGAIN_FIRST;
            writer.write(&may_write, &stop).await;
            continue;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(nap) => {}
        }
    }
}

struct Writer {
    queue: NatsQueue,
    context: jetstream::Context,
    /// When the stream of the tickets was made, in nanoseconds: another time, another stream.
    made: Option<i128>,
    consumers: BTreeSet<QueueName>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// The server refused a ticket: nothing is offered before then.
    pause: Option<Instant>,
}

/// What became of something that was sent.
enum Landed {
    Written,
    There(TaskKey),
    /// Not now.
    Refused(TaskKey, String),
    /// Never.
    TooLarge(TaskKey, String),
    /// There is no stream.
    NoStream(TaskKey),
    Removed,
    Letter(Option<(Box<DeadLetter>, String)>),
}

#[derive(Deserialize)]
struct Ack {
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Writer {
    /// Has the streams and consumers be there as they should; where the tickets are gone, they are written again.
    async fn prepare(&mut self) -> Result<(), String> {
        let options = &self.queue.0.options;
        let tasks = stream::Config {
            name: options.names.tasks(),
            description: Some("Tickets: one for each task that a worker may claim.".to_owned()),
            subjects: vec![options.names.all_tickets()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::Memory,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            num_replicas: options.replicas,
            ..stream::Config::default()
        };
        let made = make(&self.context, tasks).await?.created.unix_timestamp_nanos();
        if self.made != Some(made) {
            if self.made.replace(made).is_some() {
                info!("the stream of the tickets is another one: all that nobody has is offered again");
            }
            self.consumers.clear();
            self.queue.state().book.unoffer_all();
            let options = &self.queue.0.options;
            make(&self.context, dead_letters(&options.names, options.replicas)).await?;
        }
        self.make_consumers().await
    }

    async fn make_consumers(&mut self) -> Result<(), String> {
        let wanted: Vec<QueueName> = {
            let state = self.queue.state();
            let asked = state.demand.queues().filter(|queue| !self.consumers.contains(*queue));
            asked.cloned().collect()
        };
        for queue in wanted {
            let options = &self.queue.0.options;
            let config = pull::Config {
                durable_name: Some(options.names.consumer(&queue)),
                filter_subject: options.names.tickets(&queue),
                ack_policy: AckPolicy::Explicit,
                ack_wait: options.ack_wait,
                max_deliver: -1,
                max_ack_pending: -1,
                max_waiting: WAITING_MAX,
                ..pull::Config::default()
            };
            let made = self.context.create_consumer_on_stream(config.clone(), options.names.tasks()).await;
            let made = made.map_err(|error| format!("cannot make the consumer of the queue {queue}: {error}"))?;
            let (what, got) = (format!("consumer {}", options.names.consumer(&queue)), &made.cached_info().config);
            same_config(what, &config.into_consumer_config(), got).map_err(|error| error.to_string())?;
            self.consumers.insert(queue);
        }
        Ok(())
    }

    /// Writes until something has to be made first.
    async fn write(&mut self, may_write: &impl Fn() -> bool, stop: &CancellationToken) {
        let mut look = interval(LOOK_EVERY.min(self.queue.0.options.audit));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        loop {
            self.take_off();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Cancel-safe: what has not landed stays in the set.
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => {
                    if self.landed(landed) {
                        return;
                    }
                }
                () = self.queue.0.write.notified() => {
                    if !may_write() || self.misses_consumers() {
                        return;
                    }
                }
                _ = look.tick() => {
                    self.audit();
                    return;
                }
            }
        }
    }

    fn misses_consumers(&self) -> bool {
        self.queue.state().demand.queues().any(|queue| !self.consumers.contains(queue))
    }

    /// Sends what there is room for.
    fn take_off(&mut self) {
        let queue = self.queue.clone();
        let mut state = queue.state();
        while self.flights.len() < FLIGHTS_MAX
            && let Some(task) = state.removals.pop()
        {
            // Where it is wanted once more, its former ticket goes before a new one is written.
            if !state.book.has_stale_ticket(&task.key) {
                self.flights.push(self.remove(&task));
            }
        }
        while self.flights.len() < FLIGHTS_MAX
            && let Some(letter) = state.letters.pop()
        {
            self.flights.push(self.post(letter));
        }
        if self.pause.is_some_and(|until| until > Instant::now()) {
            return;
        }
        for offer in self.offers(&mut state) {
            self.flights.push(self.ticket(&offer.task, offer.stale));
        }
    }

    fn offers(&self, state: &mut State) -> Vec<Offer> {
        let now = self.queue.now();
        let mut offers = Vec::new();
        for (name, offered) in state.book.lines() {
            let room = FLIGHTS_MAX.saturating_sub(self.flights.len() + offers.len());
            let wanted = state.demand.of(&name).min(self.queue.0.options.window);
            let max = wanted.saturating_sub(offered).min(room);
            if max > 0 && self.consumers.contains(&name) {
                offers.extend(state.book.offer(&name, max, now));
            }
        }
        offers
    }

    fn subject(&self, task: &Task) -> String {
        let options = &self.queue.0.options;
        options.names.ticket(&options.partition, &task.queue, &task.key)
    }

    fn ticket(&self, task: &Arc<Task>, stale: bool) -> BoxFuture<'static, Landed> {
        let (key, subject, context) = (task.key.clone(), self.subject(task), self.context.clone());
        let (stream, payload) = (self.queue.0.options.names.tasks(), serde_json::to_vec(&**task));
        async move {
            let payload = match payload {
                Ok(payload) => payload,
                Err(error) => return Landed::TooLarge(key, format!("the task cannot be written: {error}")),
            };
            let client = context.client();
            let limit = client.max_payload();
            if payload.len() > limit {
                let message = format!("the task has {} bytes and the server takes messages of {limit}", payload.len());
                return Landed::TooLarge(key, message);
            }
            if stale && let Err(reason) = purge(&context, &stream, &subject).await {
                return Landed::Refused(key, reason);
            }
            match client.request(subject, payload.into()).await {
                Ok(message) => match serde_json::from_slice::<Ack>(&message.payload) {
                    Ok(Ack { error: None }) => Landed::Written,
                    Ok(Ack { error: Some(error) }) if error.err_code == THERE_ALREADY => Landed::There(key),
                    Ok(Ack { error: Some(error) }) => Landed::Refused(key, error.description),
                    Err(error) => Landed::Refused(key, error.to_string()),
                },
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Landed::NoStream(key),
                Err(error) => Landed::Refused(key, error.to_string()),
            }
        }
        .boxed()
    }

    fn remove(&self, task: &Task) -> BoxFuture<'static, Landed> {
        let (subject, context, stream) = (self.subject(task), self.context.clone(), self.queue.0.options.names.tasks());
        async move {
            // Where it stays, a worker finds that nobody wants it.
            let _ = purge(&context, &stream, &subject).await;
            Landed::Removed
        }
        .boxed()
    }

    fn post(&self, letter: DeadLetter) -> BoxFuture<'static, Landed> {
        let options = &self.queue.0.options;
        let subject = options.names.letter(&options.partition, &letter.task.queue);
        let context = self.context.clone();
        async move {
            let Ok(payload) = serde_json::to_vec(&letter) else { return Landed::Letter(None) };
            let message = jetstream::message::PublishMessage::build()
                .payload(payload.into())
                .message_id(letter.task.key.to_string());
            let sent = async { context.send_publish(subject, message).await?.await };
            Landed::Letter(sent.await.err().map(|error| (Box::new(letter), error.to_string())))
        }
        .boxed()
    }

    /// Notes what came of something sent; whether something has to be made first.
    fn landed(&mut self, landed: Landed) -> bool {
        match landed {
            Landed::Written | Landed::Removed | Landed::Letter(None) => {}
            Landed::There(key) => self.queue.state().book.was_there(&key),
            Landed::Refused(key, reason) => {
                warn!(task = %key, %reason, "the ticket of a task is not written yet");
                self.pause = Some(Instant::now() + AGAIN_FIRST);
                self.queue.state().book.unoffer(&key);
            }
            Landed::TooLarge(key, message) => self.queue.doom(&key, message),
            Landed::NoStream(key) => {
                self.queue.state().book.unoffer(&key);
                return true;
            }
            Landed::Letter(Some((letter, reason))) => {
                warn!(task = %letter.task.key, %reason, "a dead letter is not written yet");
                self.pause = Some(Instant::now() + AGAIN_FIRST);
                self.queue.state().letters.push(*letter);
            }
        }
        false
    }

    /// Writes tickets once more that nobody claimed: where they are there, the server says so.
    fn audit(&mut self) {
        let now = self.queue.now();
        let longer = Millis(u64::try_from(self.queue.0.options.audit.as_millis()).unwrap_or(u64::MAX));
        let queue = self.queue.clone();
        let mut state = queue.state();
        state.demand.tick();
        for task in state.book.unclaimed(longer, AUDIT_MAX, now) {
            self.flights.push(self.ticket(&task, false));
        }
    }
}

async fn purge(context: &jetstream::Context, stream: &str, subject: &str) -> Result<(), String> {
    let stream = context.get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
    stream.purge().filter(subject).await.map(|_| ()).map_err(|error| error.to_string())
}
