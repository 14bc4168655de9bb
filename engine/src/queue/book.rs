//! The book of a queue: who waits, who is offered, who is out and since when. Decides; moves nothing by itself.
//!
//! The queue inside one process and the one over NATS keep the same book. In the former a task goes from the line straight
//! to a worker; in the latter it is offered first: its ticket is on its way to somebody who will claim it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::{Failure, FailureClass, Millis, Outcome, QueueName, Task, TaskKey, UtcMs};

use super::{Beat, Lease, Limits, Recall};

/// The book of one queue of one leader.
#[derive(Debug)]
pub(crate) struct Book {
    limits: Limits,
    lines: BTreeMap<QueueName, Line>,
    items: BTreeMap<TaskKey, Item>,
    /// The upper half of every token that this book gives: tells them from those of a former leader.
    reign: u64,
    tokens: u64,
    turns: u64,
}

/// What waits of one queue, the first to be taken first, and how much of it is offered.
#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<Place, TaskKey>,
    offered: usize,
}

/// Where a task stands in the line: higher priority first, then who came first.
type Place = (Reverse<i32>, u64);

#[derive(Debug)]
struct Item {
    task: Arc<Task>,
    /// It keeps its place while it is out: handed out again, it is older than all of its priority that came later.
    place: Place,
    since: UtcMs,
    deliveries: u32,
    at: At,
    /// Whether a ticket of it may lie somewhere.
    ticket: bool,
    settled: bool,
    /// Whether its outcome is on the way to the journal.
    recording: bool,
    buried: bool,
}

#[derive(Debug)]
enum At {
    Waiting,
    /// `counted`: the ticket is new, and whoever asked for one will find it.
    Offered {
        since: UtcMs,
        counted: bool,
    },
    Out(Out),
}

#[derive(Debug)]
struct Out {
    token: u64,
    worker: Arc<str>,
    since: UtcMs,
    heard: UtcMs,
    /// Why the worker shall stop.
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Recalled,
    TimedOut,
}

/// What a claim comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claim {
    /// The task is the worker's.
    Go {
        /// The lease.
        token: u64,
        /// How long it holds without a word.
        patience: Millis,
        /// How often it was handed out before.
        redelivered: u32,
    },
    /// Another worker has it.
    Held,
    /// Nobody wants it any more.
    Gone,
}

/// A ticket to be written.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The task.
    pub task: Arc<Task>,
    /// Whether a former ticket of it may still be about.
    pub stale: bool,
}

/// What became of a task that no worker survives.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    /// The task.
    pub task: Arc<Task>,
    /// How often it was handed out.
    pub deliveries: u32,
    /// Who had it last.
    pub worker: Arc<str>,
    /// Why it is given up.
    pub failure: Failure,
}

/// What a look at the time brought.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// For the leader to record.
    pub over: Vec<(TaskKey, Outcome)>,
    /// Those of them that were handed out too often.
    pub dead: Vec<Dead>,
    /// Whether some stand in line again.
    pub again: bool,
}

/// One task in the hands of a worker, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct OutTask {
    /// Which.
    pub key: TaskKey,
    /// Its queue.
    pub queue: QueueName,
    /// Its type.
    pub uses: String,
    /// Who has it.
    pub worker: Arc<str>,
    /// Since when.
    pub since: UtcMs,
    /// When it was last heard of.
    pub heard: UtcMs,
    /// How often it was handed out, this time included.
    pub deliveries: u32,
}

fn failed(code: &str, class: FailureClass, message: String) -> Failure {
    Failure { code: code.into(), class, message, details: serde_json::Value::Null }
}

impl Book {
    /// An empty book whose tokens are told from others' by `reign`.
    pub fn new(limits: Limits, reign: u32) -> Self {
        let reign = u64::from(reign) << 32;
        Self { limits, lines: BTreeMap::new(), items: BTreeMap::new(), reign, tokens: 0, turns: 0 }
    }

    /// How many tasks wait or are offered and how many are out.
    pub fn depth(&self) -> (usize, usize) {
        let out = self.items.values().filter(|item| matches!(item.at, At::Out(_))).count();
        (self.items.len() - out, out)
    }

    /// What is with workers.
    pub fn out(&self) -> Vec<OutTask> {
        let told = |item: &Item| match &item.at {
            At::Out(out) => Some(OutTask {
                key: item.task.key.clone(),
                queue: item.task.queue.clone(),
                uses: item.task.uses.clone(),
                worker: Arc::clone(&out.worker),
                since: out.since,
                heard: out.heard,
                deliveries: item.deliveries,
            }),
            At::Waiting | At::Offered { .. } => None,
        };
        self.items.values().filter_map(told).collect()
    }

    /// Takes tasks in; those that are known already stay as they are.
    pub fn publish(&mut self, tasks: Vec<Task>, now: UtcMs) {
        for task in tasks {
            let key = task.key.clone();
            if self.items.contains_key(&key) {
                continue;
            }
            self.turns += 1;
            let place = (Reverse(task.priority), self.turns);
            self.line(&task.queue).waiting.insert(place, key.clone());
            let task = Arc::new(task);
            let item = Item {
                task,
                place,
                since: now,
                deliveries: 0,
                at: At::Waiting,
                ticket: false,
                settled: false,
                recording: false,
                buried: false,
            };
            self.items.insert(key, item);
        }
    }

    fn line(&mut self, queue: &QueueName) -> &mut Line {
        if !self.lines.contains_key(queue) {
            self.lines.insert(queue.clone(), Line::default());
        }
        self.lines.entry(queue.clone()).or_default()
    }

    /// Calls a task back.
    pub fn recall(&mut self, key: &TaskKey) -> Recall {
        match self.items.get_mut(key).map(|item| &mut item.at) {
            Some(At::Out(out)) => {
                out.stop = Some(Stop::Recalled);
                Recall::Asked
            }
            Some(At::Waiting | At::Offered { .. }) | None => Recall::NotOut,
        }
    }

    /// Forgets a task; gives it where a ticket of it may be about that its worker does not put away.
    pub fn forget(&mut self, key: &TaskKey) -> Option<Arc<Task>> {
        let item = self.items.remove(key)?;
        self.leave(&item);
        (item.ticket && !item.settled).then_some(item.task)
    }

    /// Takes an item out of its line, and off the count of those that are offered.
    fn leave(&mut self, item: &Item) {
        let Some(line) = self.lines.get_mut(&item.task.queue) else { return };
        match item.at {
            At::Waiting => drop(line.waiting.remove(&item.place)),
            At::Offered { counted, .. } => line.offered -= usize::from(counted),
            At::Out(_) => {}
        }
    }

    /// The queue whose first task is to be taken first, of these or of all.
    fn first(&self, only: Option<&BTreeSet<QueueName>>) -> Option<QueueName> {
        let served = |name: &QueueName| only.is_none_or(|only| only.contains(name));
        let lines = self.lines.iter().filter(|(name, _)| served(name));
        let firsts = lines.filter_map(|(name, line)| Some((line.waiting.first_key_value()?.0, name)));
        firsts.min().map(|(_, name)| name.clone())
    }

    /// Hands out up to `max` tasks straight from the line.
    pub fn take(
        &mut self,
        max: usize,
        only: Option<&BTreeSet<QueueName>>,
        worker: &Arc<str>,
        now: UtcMs,
    ) -> Vec<Lease> {
        let mut leases = Vec::new();
        while leases.len() < max {
            let Some(queue) = self.first(only) else { break };
            let Some(key) = self.line(&queue).waiting.first_key_value().map(|(_, key)| key.clone()) else { break };
            if let Claim::Go { token, redelivered, .. } = self.hand_out(&key, worker, now)
                && let Some(item) = self.items.get(&key)
            {
                leases.push(Lease { task: Task::clone(&item.task), token, redelivered });
            }
        }
        leases
    }

    /// Gives what waits or is offered to a worker.
    fn hand_out(&mut self, key: &TaskKey, worker: &Arc<str>, now: UtcMs) -> Claim {
        self.tokens += 1;
        let token = self.reign | self.tokens;
        let out = Out { token, worker: Arc::clone(worker), since: now, heard: now, stop: None };
        let Some(mut item) = self.items.remove(key) else { return Claim::Gone };
        self.leave(&item);
        let redelivered = item.deliveries;
        item.deliveries += 1;
        item.at = At::Out(out);
        let patience = self.patience(&item);
        self.items.insert(key.clone(), item);
        Claim::Go { token, patience, redelivered }
    }

    fn patience(&self, item: &Item) -> Millis {
        item.task.timeouts.heartbeat.unwrap_or(self.limits.heartbeat)
    }

    /// What the passing of time did.
    pub fn sweep(&mut self, now: UtcMs) -> Swept {
        let mut swept = Swept::default();
        let limits = self.limits;
        let mut again = Vec::new();
        for (key, item) in &mut self.items {
            match judge(limits, item, now) {
                Verdict::Fine => {}
                Verdict::Again => again.push((item.task.queue.clone(), item.place, key.clone())),
                Verdict::Over { failure, dead } => {
                    if let (Some(worker), false) = (dead, item.buried) {
                        item.buried = true;
                        let task = Arc::clone(&item.task);
                        swept.dead.push(Dead { task, deliveries: item.deliveries, worker, failure: failure.clone() });
                    }
                    swept.over.push((key.clone(), Outcome::Failed(failure)));
                }
            }
        }
        swept.again = !again.is_empty();
        for (queue, place, key) in again {
            self.line(&queue).waiting.insert(place, key);
        }
        swept
    }

    /// A worker says that it lives.
    pub fn beat(&mut self, key: &TaskKey, token: u64, now: UtcMs) -> Beat {
        match self.items.get_mut(key).map(|item| &mut item.at) {
            Some(At::Out(out)) if out.token == token => {
                out.heard = now;
                if out.stop.is_some() { Beat::Stop } else { Beat::GoOn }
            }
            Some(_) | None => Beat::Lost,
        }
    }

    /// What is to be recorded of a result; `None` where the lease is over.
    pub fn settle(&mut self, key: &TaskKey, token: u64, outcome: Outcome) -> Option<Outcome> {
        let item = self.items.get_mut(key)?;
        let At::Out(out) = &item.at else { return None };
        if out.token != token {
            return None;
        }
        item.settled = true;
        let limit = item.task.timeouts.attempt.unwrap_or_default();
        Some(match (outcome, out.stop) {
            (Outcome::Cancelled, Some(Stop::TimedOut)) => {
                let message = format!("`{}` took longer than {limit}", item.task.uses);
                Outcome::Failed(failed("E0320", FailureClass::Transient, message))
            }
            (outcome, _) => outcome,
        })
    }
}

/// What only a queue with tickets does.
impl Book {
    /// The queues in which something waits, and how many tickets of each are with nobody yet.
    pub fn lines(&self) -> Vec<(QueueName, usize)> {
        let open = self.lines.iter().filter(|(_, line)| !line.waiting.is_empty());
        open.map(|(queue, line)| (queue.clone(), line.offered)).collect()
    }

    /// Offers up to `max` tasks of a queue, the first in line first.
    pub fn offer(&mut self, queue: &QueueName, max: usize, now: UtcMs) -> Vec<Offer> {
        let Some(line) = self.lines.get_mut(queue) else { return Vec::new() };
        let mut offers = Vec::new();
        while offers.len() < max
            && let Some((_, key)) = line.waiting.pop_first()
        {
            let Some(item) = self.items.get_mut(&key) else { continue };
            line.offered += 1;
            item.at = At::Offered { since: now, counted: true };
            offers.push(Offer { task: Arc::clone(&item.task), stale: std::mem::replace(&mut item.ticket, true) });
        }
        offers
    }

    /// A ticket could not be written, or is known to be lost: the task stands in line again.
    pub fn unoffer(&mut self, key: &TaskKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        let At::Offered { counted, .. } = item.at else { return };
        item.at = At::Waiting;
        let (queue, place) = (item.task.queue.clone(), item.place);
        let line = self.line(&queue);
        line.offered -= usize::from(counted);
        line.waiting.insert(place, key.clone());
    }

    /// All tickets are lost: what nobody claimed stands in line again.
    pub fn unoffer_all(&mut self) {
        let offered = |(key, item): (&TaskKey, &Item)| matches!(item.at, At::Offered { .. }).then(|| key.clone());
        let keys: Vec<TaskKey> = self.items.iter().filter_map(offered).collect();
        for key in keys {
            self.unoffer(&key);
        }
        for item in self.items.values_mut() {
            item.ticket = false;
        }
    }

    /// A ticket was there already, perhaps in the hands of a worker: nobody else waits for it.
    pub fn was_there(&mut self, key: &TaskKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        if let At::Offered { counted, .. } = &mut item.at
            && std::mem::take(counted)
            && let Some(line) = self.lines.get_mut(&item.task.queue)
        {
            line.offered -= 1;
        }
    }

    /// A ticket of a task may be about that was forgotten meanwhile; whether the task is known again, and minds.
    pub fn has_stale_ticket(&mut self, key: &TaskKey) -> bool {
        let Some(item) = self.items.get_mut(key) else { return false };
        item.ticket = true;
        true
    }

    /// Tickets that nobody claimed for so long that it is worth a look whether they are there. Whoever asked for them got
    /// others or is gone: they are young again and count no more.
    pub fn unclaimed(&mut self, longer: Millis, max: usize, now: UtcMs) -> Vec<Arc<Task>> {
        let mut found = Vec::new();
        for item in self.items.values_mut() {
            if let At::Offered { since, counted } = &mut item.at
                && now.since(*since) >= longer
            {
                *since = now;
                if std::mem::take(counted)
                    && let Some(line) = self.lines.get_mut(&item.task.queue)
                {
                    line.offered -= 1;
                }
                found.push(Arc::clone(&item.task));
                if found.len() >= max {
                    break;
                }
            }
        }
        found
    }

    /// A worker of `queue` has a ticket and asks whether it may begin.
    pub fn claim(&mut self, key: &TaskKey, queue: &QueueName, worker: &Arc<str>, now: UtcMs) -> Claim {
        let Some(item) = self.items.get_mut(key).filter(|item| item.task.queue == *queue) else { return Claim::Gone };
        item.ticket = true;
        match &mut item.at {
            At::Waiting | At::Offered { .. } => self.hand_out(key, worker, now),
            At::Out(out) if out.worker == *worker => {
                // It did not hear the answer.
                out.heard = now;
                let (token, redelivered) = (out.token, item.deliveries - 1);
                let patience = item.task.timeouts.heartbeat.unwrap_or(self.limits.heartbeat);
                Claim::Go { token, patience, redelivered }
            }
            At::Out(_) => Claim::Held,
        }
    }

    /// A worker speaks of a task that a former leader gave it: it is its own, unless somebody else has it by now.
    pub fn adopt(&mut self, key: &TaskKey, queue: &QueueName, token: u64, worker: &Arc<str>, now: UtcMs) {
        let foreign = token >> 32 != self.reign >> 32;
        let free = |item: &&Item| item.task.queue == *queue && !matches!(item.at, At::Out(_));
        if !foreign || self.items.get(key).filter(free).is_none() {
            return;
        }
        if let Claim::Go { .. } = self.hand_out(key, worker, now)
            && let Some(item) = self.items.get_mut(key)
            && let At::Out(out) = &mut item.at
        {
            out.token = token;
            item.ticket = true;
        }
    }

    /// The outcome of a task is on the way to the journal, or has come to the end of that way, there or not.
    pub fn set_recording(&mut self, key: &TaskKey, recording: bool) {
        if let Some(item) = self.items.get_mut(key) {
            item.recording = recording;
        }
    }

    /// A worker gives a task back that it did not begin; whether it stands in line again.
    pub fn give_back(&mut self, key: &TaskKey, token: u64) -> bool {
        let Some(item) = self.items.get_mut(key) else { return false };
        let given = matches!(&item.at, At::Out(out) if out.token == token && out.stop.is_none());
        if given {
            item.at = At::Waiting;
            item.deliveries = item.deliveries.saturating_sub(1);
            let (queue, place) = (item.task.queue.clone(), item.place);
            self.line(&queue).waiting.insert(place, key.clone());
        }
        given
    }

    /// As [`beat`](Self::beat), of a worker that serves `queue`.
    pub fn beat_of(&mut self, key: &TaskKey, queue: &QueueName, token: u64, now: UtcMs) -> Beat {
        if self.items.get(key).is_some_and(|item| item.task.queue == *queue) {
            self.beat(key, token, now)
        } else {
            Beat::Lost
        }
    }

    /// Whether a task is known.
    pub fn knows(&self, key: &TaskKey) -> bool {
        self.items.contains_key(key)
    }
}

enum Verdict {
    Fine,
    Again,
    /// `dead`: who had it last, where it was handed out too often.
    Over {
        failure: Failure,
        dead: Option<Arc<str>>,
    },
}

/// What the passing of time did to one item.
fn judge(limits: Limits, item: &mut Item, now: UtcMs) -> Verdict {
    let own = item.task.timeouts;
    let At::Out(out) = &mut item.at else {
        return match own.queue {
            Some(limit) if now.since(item.since) >= limit && item.deliveries == 0 => {
                let message = format!("no worker took `{}` within {limit}", item.task.uses);
                Verdict::Over { failure: failed("E0321", FailureClass::Transient, message), dead: None }
            }
            _ => Verdict::Fine,
        };
    };
    if own.attempt.is_some_and(|limit| now.since(out.since) >= limit) && out.stop.is_none() {
        out.stop = Some(Stop::TimedOut);
    }
    if item.recording {
        // Whoever told its outcome has nothing more to say, however long the journal takes.
        return Verdict::Fine;
    }
    let silence = own.heartbeat.unwrap_or(limits.heartbeat);
    if now.since(out.heard) < silence {
        return Verdict::Fine;
    }
    let too_often = item.deliveries >= limits.deliveries;
    if out.stop.is_some() || too_often {
        let message =
            format!("the worker of `{}` fell silent for {silence}, {} times in all", item.task.uses, item.deliveries);
        let dead = too_often.then(|| Arc::clone(&out.worker));
        return Verdict::Over { failure: failed("E0322", FailureClass::Ambiguous, message), dead };
    }
    item.at = At::Waiting;
    Verdict::Again
}
