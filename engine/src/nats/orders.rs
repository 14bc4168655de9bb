//! What people and faces tell the leader from other processes: entries and events, over request and reply.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use patchloom_core::CloudEvent;
use patchloom_core::record::{Entry, Event};
use patchloom_core::run::Refusal;
use patchloom_core::wire::{Names, is_inbox};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::runtime::{BoxFuture, EngineError, Forward, Handle, Intake, Published, Seen};

/// Orders at work at once: more wait in the subscription.
const AT_ONCE: usize = 1_024;
/// How long one try waits for the leader: longer than it may be stalled by a slow disk.
const TRY_WITHIN: Duration = Duration::from_secs(10);
/// How long a leader is looked for: longer than a lease lasts and a follower takes to lead.
const LEADER_WITHIN: Duration = Duration::from_secs(40);
const AGAIN: Duration = Duration::from_millis(250);
/// For how long after it was first sent an order may still arrive, with some time to spare: a run that it started must be
/// known for so long, or it would be started once more.
pub(super) const REPEATED_FOR: Duration = Duration::from_secs(60);

/// An order, as it stands on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Entries for the journal.
    Submit(Vec<Entry>),
    /// An event from outside, and who tells it.
    Publish(Arc<CloudEvent>, Arc<str>),
}

/// What the leader says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What each entry came to: its record, or why it changed nothing.
    Seen(Vec<Result<u64, Refusal>>),
    /// What became of the event.
    Published(Published),
    /// It cannot be read: whoever sent it is of another version.
    Unreadable(String),
}

/// Takes orders for the leader behind `handle` until `stop` fires. Says nothing while `may_answer` says no: the sender
/// asks again.
pub(super) async fn take(
    client: Client,
    names: Names,
    partition: Arc<str>,
    handle: Handle,
    may_answer: impl Fn() -> bool + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while !stop.is_cancelled() {
        let mut orders = match client.subscribe(names.orders(&partition)).await {
            Ok(orders) => orders,
            Err(error) => {
                warn!(%error, "cannot listen to orders");
                sleep(AGAIN).await;
                continue;
            }
        };
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => break,
                message = orders.next() => message,
            };
            let Some(message) = message else { break };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            if !may_answer() {
                continue;
            }
            let (client, handle, may_answer) = (client.clone(), handle.clone(), may_answer.clone());
            tokio::spawn(async move {
                if let Some(answer) = carry_out(&handle, &message).await
                    && may_answer()
                    && let Some(reply) = message.reply.filter(|reply| is_inbox(reply))
                    && let Ok(text) = serde_json::to_vec(&answer)
                {
                    // Not told: the sender asks again.
                    let _ = client.publish(reply, text.into()).await;
                }
                drop(permit);
            });
        }
    }
}

/// Nothing is answered where the leader has stopped: the next one will.
async fn carry_out(handle: &Handle, message: &Message) -> Option<Answer> {
    let order: Order = match serde_json::from_slice(&message.payload) {
        Ok(order) => order,
        Err(error) => return Some(Answer::Unreadable(error.to_string())),
    };
    match order {
        Order::Submit(entries) => handle.submit(entries).await.ok().map(Answer::Seen),
        Order::Publish(event, by) => handle.publish(&by, CloudEvent::clone(&event)).await.ok().map(Answer::Published),
    }
}

/// The way to the leader of a partition, wherever it is.
#[derive(Clone, Debug)]
pub struct RemoteLeader {
    client: Client,
    subject: String,
}

impl RemoteLeader {
    /// The leader of `partition`.
    #[must_use]
    pub fn new(client: Client, names: &Names, partition: &str) -> Self {
        Self { client, subject: names.orders(partition) }
    }

    /// Asks until a leader answers; sending an order twice is safe, since each entry names what it is about.
    async fn ask(self, order: Order) -> Result<Answer, EngineError> {
        let stopped = |reason: String| EngineError::Stopped { reason: Some(reason) };
        let text = serde_json::to_vec(&order).map_err(|error| stopped(error.to_string()))?;
        let max = self.client.server_info().max_payload;
        if text.len() > max {
            let reason = format!("the order has {} bytes, and the server takes {max} at most", text.len());
            return Err(stopped(reason));
        }
        let until = Instant::now() + LEADER_WITHIN;
        loop {
            let asked = self.client.request(self.subject.clone(), text.clone().into());
            let reason = match timeout(TRY_WITHIN, asked).await {
                Ok(Ok(message)) => match serde_json::from_slice(&message.payload) {
                    Ok(Answer::Unreadable(reason)) => {
                        return Err(stopped(format!("the leader cannot read the order: {reason}")));
                    }
                    Ok(answer) => return Ok(answer),
                    Err(error) => return Err(stopped(format!("the leader's answer cannot be read: {error}"))),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer came in time".to_owned(),
            };
            if Instant::now() >= until {
                return Err(stopped(format!("no engine leads the partition: {reason}")));
            }
            sleep(AGAIN).await;
        }
    }
}

/// Gives a signal that has no id one, so that it counts once however often it is sent.
fn name(entry: &mut Entry) {
    if let Event::SignalReceived { id: id @ None, .. } = &mut entry.event {
        *id = Some(Uuid::now_v7().to_string().into());
    }
}

impl Forward for RemoteLeader {
    fn submit(&self, mut entries: Vec<Entry>) -> BoxFuture<Result<Vec<Seen>, EngineError>> {
        let leader = self.clone();
        entries.iter_mut().for_each(name);
        Box::pin(async move {
            match leader.ask(Order::Submit(entries)).await? {
                Answer::Seen(seen) => Ok(seen),
                other => Err(EngineError::Stopped { reason: Some(format!("the leader answered {other:?}")) }),
            }
        })
    }

    fn publish(&self, event: Arc<CloudEvent>, by: Arc<str>) -> BoxFuture<Result<Published, EngineError>> {
        let leader = self.clone();
        Box::pin(async move {
            match leader.ask(Order::Publish(event, by)).await? {
                Answer::Published(published) => Ok(published),
                other => Err(EngineError::Stopped { reason: Some(format!("the leader answered {other:?}")) }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use patchloom_core::RunId;

    use super::*;

    #[test]
    fn a_signal_without_an_id_gets_one_and_one_with_an_id_keeps_it() {
        let signal = |id: Option<&str>| {
            let (run, name) = (RunId(Uuid::nil()), "go".into());
            let event = Event::SignalReceived {
                run,
                name,
                payload: serde_json::Value::Null,
                id: id.map(Arc::from),
                roles: Vec::new(),
            };
            Entry { by: "user:me".into(), event }
        };
        let named = |mut entry: Entry| {
            name(&mut entry);
            match entry.event {
                Event::SignalReceived { id, .. } => id.unwrap(),
                other => panic!("no signal: {other:?}"),
            }
        };
        assert_eq!(&*named(signal(Some("mine"))), "mine");
        assert_ne!(named(signal(None)), named(signal(None)));
    }
}
