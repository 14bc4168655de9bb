//! Events on their way in: the leader takes them out of the stream as fast as its journal takes them, each put away once
//! it is recorded. What is left in the stream is what was not taken in yet; a stream that is full refuses more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, IntoConsumerConfig as _, pull};
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Context, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::stream::FuturesUnordered;
use patchloom_core::CloudEvent;
use patchloom_core::wire::{EventLetter, Names};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::BusOptions;
use crate::clock::Clock;
use crate::nats::make::{dead_letters, make, make_with_room};
use crate::nats::same_config;
use crate::runtime::{EngineError, Handle, Published, Status};

/// Messages asked for at once.
const BATCH_MAX: usize = 500;
/// Bytes of messages in hand, beside those of one more pull.
const HAND_BYTES_MAX: usize = 64 << 20;
/// Bytes of one pull, where no single message is longer.
const PULL_BYTES_MAX: usize = 8 << 20;
/// How long a pull waits.
const PULL_WAITS: Duration = Duration::from_secs(5);
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// While the leader may not take anything.
const SILENT: Duration = Duration::from_millis(100);
const ACK_WITHIN: Duration = Duration::from_secs(2);
/// How often it is tried to put a message away: then it comes again.
const ACKS_MAX: usize = 5;
/// What a dead letter keeps of its message.
const LETTER_BYTES_MAX: usize = 512 << 10;

/// What [`take_in`] needs to know.
#[derive(Clone)]
pub struct Intake {
    /// The names of streams and subjects.
    pub names: Names,
    /// The partition that the events are for.
    pub partition: Arc<str>,
    /// How many servers keep what was not taken in yet.
    pub replicas: usize,
    /// What bounds it.
    pub options: BusOptions,
    /// The way to the leader.
    pub handle: Handle,
    /// The leader's clock.
    pub clock: Clock,
}

/// Takes events in until `stop` fires. To be run beside the leader.
///
/// Nothing is taken while `may_take` says no, and nothing is put away of which nobody knows whether the leader that
/// judged it still led.
pub async fn take_in(
    context: Context,
    intake: Intake,
    may_take: impl Fn() -> bool + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let mut again = AGAIN_FIRST;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let desk = Desk { context: context.clone(), intake: intake.clone(), may_take: Arc::new(may_take.clone()) };
        let prepared = tokio::select! {
            prepared = desk.prepare() => prepared,
            () = stop.cancelled() => return,
        };
        match prepared {
            Ok(consumer) => match desk.run(consumer, &stop).await {
                Ok(()) => return,
                Err(reason) => warn!(%reason, "the stream of events on their way in cannot be read"),
            },
            Err(reason) => warn!(%reason, "events cannot be taken in"),
        }
        again = if began.elapsed() > AGAIN_MAX { AGAIN_FIRST } else { (again * 2).min(AGAIN_MAX) };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(again) => {}
        }
    }
}

#[derive(Clone)]
struct Desk {
    context: Context,
    intake: Intake,
    may_take: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// A message in hand.
struct Held {
    acker: Arc<Acker>,
    bytes: usize,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is taken in, or lies with the dead letters: it goes.
    Done,
    /// Somebody takes it in later.
    Later,
}

type Work = BoxFuture<'static, (u64, Verdict)>;

impl Desk {
    async fn prepare(&self) -> Result<Consumer<pull::Config>, String> {
        let Intake { names, partition, replicas, options, .. } = &self.intake;
        make(&self.context, dead_letters(names, *replicas)).await?;
        let config = Config {
            name: names.events_in(),
            description: Some("Events that were not taken in yet.".to_owned()),
            subjects: vec![names.all_events_in()],
            // What is taken in goes: the limit is one of what waits.
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_bytes: i64::try_from(options.in_bytes_max).unwrap_or(i64::MAX),
            num_replicas: *replicas,
            ..Config::default()
        };
        make_with_room(&self.context, config).await?;
        let config = pull::Config {
            durable_name: Some(names.events_consumer(partition)),
            filter_subject: names.events_into(partition),
            ack_policy: AckPolicy::Explicit,
            ack_wait: options.in_wait,
            max_deliver: -1,
            max_ack_pending: i64::try_from(options.in_hand_max).unwrap_or(i64::MAX),
            ..pull::Config::default()
        };
        let made = self.context.create_consumer_on_stream(config.clone(), names.events_in()).await;
        let made = made.map_err(|error| format!("cannot make the consumer of the partition {partition}: {error}"))?;
        let what = format!("consumer {}", names.events_consumer(partition));
        same_config(what, &config.into_consumer_config(), &made.cached_info().config)
            .map_err(|error| error.to_string())?;
        Ok(made)
    }

    async fn run(&self, consumer: Consumer<pull::Config>, stop: &CancellationToken) -> Result<(), String> {
        let mut hand = Hand { held: BTreeMap::new(), bytes: 0, working: FuturesUnordered::new() };
        let mut alive = interval((self.intake.options.in_wait / 3).max(Duration::from_millis(10)));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = self.intake.handle.status();
        let mut pull: Option<BoxFuture<'_, Result<pull::Batch, String>>> = None;
        let mut batch: Option<pull::Batch> = None;
        let end = loop {
            let room = self.intake.options.in_hand_max.saturating_sub(hand.held.len());
            let leads = *status.borrow_and_update() == Status::Leading && (self.may_take)();
            if leads && batch.is_none() && pull.is_none() && room > 0 && hand.bytes < HAND_BYTES_MAX {
                pull = Some(self.pull(&consumer, room.min(BATCH_MAX)).boxed());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                _ = alive.tick() => hand.keep_alive().await,
                // Cancel-safe: what is not done stays in the set.
                Some((seq, verdict)) = hand.working.next(), if !hand.working.is_empty() => {
                    hand.let_go(seq, verdict).await;
                }
                asked = async { pull.as_mut().expect("it was looked at").await }, if pull.is_some() => {
                    pull = None;
                    match asked {
                        Ok(messages) => batch = Some(messages),
                        Err(reason) => break Err(reason),
                    }
                }
                // Cancel-safe: what was not received stays in the batch.
                message = async { batch.as_mut().expect("it was looked at").next().await }, if batch.is_some() => {
                    match message {
                        Some(Ok(message)) => self.take(&mut hand, message),
                        Some(Err(error)) => {
                            debug!(%error, "a pull of events ended early");
                            batch = None;
                            if hand.held.is_empty() {
                                break Err(error.to_string());
                            }
                        }
                        None => batch = None,
                    }
                }
                changed = status.changed() => if changed.is_err() {
                    break Ok(());
                },
                () = sleep(SILENT), if !leads => {}
            }
        };
        // What the leader took meanwhile is told again and known then.
        hand.give_back().await;
        end
    }

    async fn pull(&self, consumer: &Consumer<pull::Config>, max: usize) -> Result<pull::Batch, String> {
        // A message that is longer than a pull would never come.
        let bytes = PULL_BYTES_MAX.max(2 * self.context.client().max_payload());
        let batch = consumer.batch().max_messages(max).max_bytes(bytes).expires(PULL_WAITS).messages().await;
        batch.map_err(|error| error.to_string())
    }

    fn take(&self, hand: &mut Hand, message: Message) {
        let seq = match message.info() {
            Ok(info) => info.stream_sequence,
            Err(error) => {
                warn!(%error, "a message came that JetStream did not send");
                return;
            }
        };
        let (message, acker) = message.split();
        let acker = Arc::new(acker);
        if let Some(held) = hand.held.get_mut(&seq) {
            // It took longer than the server waits: it is the same message once more.
            held.acker = acker;
            return;
        }
        let bytes = message.length;
        hand.bytes += bytes;
        hand.held.insert(seq, Held { acker: Arc::clone(&acker), bytes });
        let desk = self.clone();
        hand.working.push(Box::pin(async move {
            let verdict = desk.judge(seq, &message).await;
            if verdict == Verdict::Done {
                put_away(&acker).await;
            }
            (seq, verdict)
        }));
    }

    /// Tells the leader the events of a message.
    async fn judge(&self, seq: u64, message: &async_nats::Message) -> Verdict {
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers
            .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str().as_bytes())));
        let events = match CloudEvent::read_message(headers, &message.payload) {
            Ok(events) => events,
            Err(reason) => return self.bury(seq, message, reason.to_string()).await,
        };
        let publisher = self.intake.names.publisher_of(&message.subject).unwrap_or("?");
        let by = format!("publisher:{publisher}");
        let told = join_all(events.into_iter().map(|event| self.intake.handle.publish(&by, event))).await;
        let done = told.iter().all(|told: &Result<Published, EngineError>| match told {
            Ok(Published::Recorded) => true,
            // Nobody can have told us otherwise meanwhile, as long as nobody else leads.
            Ok(Published::Known | Published::Unwanted) => (self.may_take)(),
            Err(_) => false,
        });
        if done { Verdict::Done } else { Verdict::Later }
    }

    /// Lays a message that is no event with the dead letters.
    async fn bury(&self, seq: u64, message: &async_nats::Message, reason: String) -> Verdict {
        let Intake { names, partition, clock, .. } = &self.intake;
        let kept = &message.payload[..message.payload.len().min(LETTER_BYTES_MAX)];
        let text = std::str::from_utf8(kept).ok().map(ToOwned::to_owned);
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers =
            headers.flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())));
        let letter = EventLetter {
            subject: message.subject.to_string(),
            reason: reason.chars().take(4_096).collect(),
            headers: headers.take(64).collect(),
            base64: text.is_none().then(|| STANDARD.encode(kept)),
            text,
            bytes: crate::disk::widen(message.payload.len()),
            at: clock.now(),
        };
        warn!(subject = %letter.subject, reason = %letter.reason, "a message is no event; it lies with the dead letters");
        let Ok(payload) = serde_json::to_vec(&letter) else { return Verdict::Later };
        let message =
            PublishMessage::build().payload(payload.into()).message_id(format!("{}/{seq}", names.events_in()));
        let sent = async { self.context.send_publish(names.event_letter(partition), message).await?.await };
        match sent.await {
            Ok(_) => Verdict::Done,
            Err(error) => {
                warn!(%error, "a dead letter is not written yet");
                Verdict::Later
            }
        }
    }
}

/// Has a message go from the stream for good, and waits until the server says so: one that came again after 100,000
/// others would not be known any more.
async fn put_away(acker: &Acker) {
    for _ in 0..ACKS_MAX {
        match timeout(ACK_WITHIN, acker.double_ack()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                debug!(%error, "an event was not put away");
                sleep(AGAIN_FIRST).await;
            }
            Err(_) => debug!("nobody says that an event was put away"),
        }
    }
}

/// The messages that were fetched and are not put away.
struct Hand {
    held: BTreeMap<u64, Held>,
    bytes: usize,
    working: FuturesUnordered<Work>,
}

impl Hand {
    async fn let_go(&mut self, seq: u64, verdict: Verdict) {
        let Some(held) = self.held.remove(&seq) else { return };
        self.bytes -= held.bytes;
        if verdict == Verdict::Later {
            // Where this is lost, it comes again a little later.
            let _ = held.acker.ack_with(AckKind::Nak(Some(AGAIN_FIRST))).await;
        }
    }

    /// Tells the server that the messages are in good hands.
    async fn keep_alive(&mut self) {
        for held in self.held.values() {
            // Where this is lost, the message comes once more.
            let _ = held.acker.ack_with(AckKind::Progress).await;
        }
    }

    /// Has the server hand the messages to whoever leads next, at once.
    async fn give_back(&mut self) {
        for held in self.held.values() {
            // Where this is lost, it happens a little later.
            let _ = held.acker.ack_with(AckKind::Nak(None)).await;
        }
    }
}
