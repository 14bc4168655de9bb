//! Tickets: as many as there is room for, and the leader's word for each before anything begins.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use patchloom_core::wire::{Claim, Claimed, Done, Op, Settle, Settled, Want};
use patchloom_core::{QueueName, Task};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::{ACK, Held, NAK, Shared};
use crate::runtime::Lease;

/// The most tickets in one claim.
const CLAIM_MAX: usize = 512;
/// Before it is asked again where there is no server, no stream or no consumer yet.
const AGAIN: Duration = Duration::from_millis(250);
/// When a ticket is seen again for which there is no room here, or no answer.
const LATER: Duration = Duration::from_secs(1);
/// When a ticket is seen again that cannot be read here; a newer worker may.
const UNREAD: Duration = Duration::from_secs(30);
/// How long after its end a pull may still be answered.
const GRACE: Duration = Duration::from_millis(500);

/// A ticket in our hands.
struct Ticket {
    task: Task,
    partition: Arc<str>,
    reply: Subject,
}

/// One request for tickets that is not answered whole.
struct Pull {
    left: usize,
    until: Instant,
}

/// Fetches until shutdown begins.
pub(super) async fn run(shared: Arc<Shared>, queue: QueueName) {
    let shutdown = shared.shutdown.clone();
    loop {
        let inbox = shared.client.new_inbox();
        let subscribed = shared.client.subscribe(inbox.clone()).await;
        let Ok(tickets) = subscribed else {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(AGAIN) => continue,
            }
        };
        let mut fetch =
            Fetch { shared: Arc::clone(&shared), queue: queue.clone(), inbox, tickets, pulls: VecDeque::new() };
        fetch.run().await;
        if shutdown.is_cancelled() {
            return fetch.close().await;
        }
    }
}

struct Fetch {
    shared: Arc<Shared>,
    queue: QueueName,
    inbox: String,
    tickets: Subscriber,
    pulls: VecDeque<Pull>,
}

impl Fetch {
    /// Returns when the subscription ends, or shutdown begins; never between a claim and its answer.
    async fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let emptied = shared.emptied.notified();
            self.pull().await;
            let until = self.pulls.front().map(|pull| pull.until);
            tokio::select! {
                biased;
                () = shared.shutdown.cancelled() => return,
                message = self.tickets.next() => match message {
                    Some(message) => self.receive(message).await,
                    None => return,
                },
                () = emptied => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    self.pulls.pop_front();
                }
            }
        }
    }

    /// Asks for as many tickets as there is room for, unless most of them are asked for already.
    async fn pull(&mut self) {
        let free = self.shared.places().free;
        let asked: usize = self.pulls.iter().map(|pull| pull.left).sum();
        let more = free.saturating_sub(asked);
        if more == 0 || (asked > 0 && more * 2 < free) {
            return;
        }
        self.want(free).await;
        let every = self.shared.options.ask_every;
        let request = json!({"batch": more, "expires": u64::try_from(every.as_nanos()).unwrap_or(u64::MAX)});
        let subject = self.shared.options.names.pull(&self.queue);
        // What does not get there is asked again when its time is over.
        let _ = self.shared.client.publish_with_reply(subject, self.inbox.clone(), request.to_string().into()).await;
        self.pulls.push_back(Pull { left: more, until: Instant::now() + every + GRACE });
    }

    async fn want(&self, free: usize) {
        let want = Want { who: self.shared.who(), free: u32::try_from(free).unwrap_or(u32::MAX) };
        if let Ok(payload) = serde_json::to_vec(&want) {
            let subject = self.shared.options.names.want(Some(&self.queue));
            let _ = self.shared.client.publish(subject, payload.into()).await;
        }
    }

    /// Takes in what came, and all that came with it.
    async fn receive(&mut self, first: Message) {
        let mut tickets = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            if let Some(status) = message.status {
                // The pull is over: its time has come, or there is nobody to ask.
                self.pulls.pop_front();
                if status == StatusCode::NO_RESPONDERS {
                    sleep(AGAIN).await;
                }
            } else {
                if let Some(pull) = self.pulls.front_mut() {
                    pull.left = pull.left.saturating_sub(1);
                }
                self.pulls.retain(|pull| pull.left > 0);
                tickets.extend(self.read(message).await);
            }
            next = if tickets.len() < CLAIM_MAX { self.tickets.next().now_or_never().flatten() } else { None };
        }
        self.claim(tickets).await;
    }

    async fn read(&self, message: Message) -> Option<Ticket> {
        let reply = message.reply?;
        let partition = self.shared.options.names.partition_of(&message.subject).map(Arc::from);
        let (Some(partition), Ok(task)) = (partition, serde_json::from_slice::<Task>(&message.payload)) else {
            warn!(subject = %message.subject, "a ticket cannot be read here: is this worker too old?");
            self.shared.give_back(reply, UNREAD).await;
            return None;
        };
        Some(Ticket { task, partition, reply })
    }

    /// Asks the leaders whether the work may begin.
    async fn claim(&self, tickets: Vec<Ticket>) {
        let mut by_partition: BTreeMap<Arc<str>, Vec<Ticket>> = BTreeMap::new();
        let mut crowded = Vec::new();
        {
            let mut places = self.shared.places();
            for ticket in tickets {
                if let Some(held) = places.held.get_mut(&ticket.task.key) {
                    // Its time was over before we said that it is at work.
                    held.ticket = ticket.reply;
                } else if places.free > 0 {
                    places.free -= 1;
                    by_partition.entry(Arc::clone(&ticket.partition)).or_default().push(ticket);
                } else {
                    crowded.push(ticket);
                }
            }
        }
        for ticket in crowded {
            self.shared.give_back(ticket.reply, LATER).await;
        }
        for (partition, tickets) in by_partition {
            let keys = tickets.iter().map(|ticket| ticket.task.key.clone()).collect();
            let claim = Claim { who: self.shared.who(), keys };
            let leader = (&*partition, &self.queue);
            match self.shared.ask::<_, Claimed>(leader, Op::Claim, &claim, tickets.len()).await {
                Ok(answers) => self.begin(tickets, answers).await,
                Err(reason) => {
                    debug!(%partition, %reason, "the leader does not answer; the tickets are given back");
                    self.shared.places().free += tickets.len();
                    for ticket in tickets {
                        self.shared.give_back(ticket.reply, LATER).await;
                    }
                }
            }
        }
    }

    async fn begin(&self, tickets: Vec<Ticket>, answers: Vec<Claimed>) {
        for (ticket, answer) in tickets.into_iter().zip(answers) {
            match answer {
                Claimed::Go { token, redelivered, .. } => {
                    let held = Held {
                        token,
                        partition: ticket.partition,
                        queue: self.queue.clone(),
                        ticket: ticket.reply,
                        progress: None,
                    };
                    let mut places = self.shared.places();
                    places.held.insert(ticket.task.key.clone(), held);
                    places.ready.push_back(Lease { task: ticket.task, token: token.0, redelivered });
                }
                Claimed::Held { retry_ms } => {
                    self.shared.places().free += 1;
                    self.shared.give_back(ticket.reply, Duration::from_millis(retry_ms)).await;
                }
                Claimed::Gone => {
                    self.shared.places().free += 1;
                    self.shared.mark(ticket.reply, ACK).await;
                }
            }
        }
        self.shared.filled.notify_waiters();
    }

    /// Says that there is no room any more, and gives back what nobody took.
    async fn close(mut self) {
        self.want(0).await;
        let taken: Vec<(Lease, Held)> = {
            let mut places = self.shared.places();
            places.free = 0;
            let ours = |lease: &Lease| lease.task.queue == self.queue;
            let (back, stay): (VecDeque<Lease>, VecDeque<Lease>) =
                std::mem::take(&mut places.ready).into_iter().partition(ours);
            places.ready = stay;
            let held = |lease: Lease| {
                let held = places.held.remove(&lease.task.key)?;
                Some((lease, held))
            };
            back.into_iter().filter_map(held).collect()
        };
        // Whoever waits in `take` hears that it is over.
        self.shared.filled.notify_waiters();
        for (lease, held) in taken {
            let done = Done { key: lease.task.key, token: held.token, outcome: None, tell: Vec::new() };
            let settle = Settle { who: self.shared.who(), results: vec![done] };
            // Unheard, it is handed out again when the leader's patience ends.
            let _ = self.shared.ask::<_, Settled>((&held.partition, &self.queue), Op::Settle, &settle, 1).await;
            self.shared.mark(held.ticket, NAK).await;
        }
        let until = self.pulls.back().map_or_else(Instant::now, |pull| pull.until);
        while let Ok(Some(message)) = tokio::time::timeout_at(until, self.tickets.next()).await {
            if let (None, Some(reply)) = (message.status, message.reply) {
                self.shared.mark(reply, NAK).await;
            }
        }
    }
}
