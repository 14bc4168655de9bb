//! A task queue in memory that hands out in any order of one priority, twice, and to workers that die with the task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchloom_core::{Failure, FailureClass, Millis, Outcome, Task, TaskKey, UtcMs};
use tokio::sync::Notify;

use super::Random;
use crate::clock::Clock;
use crate::queue::{Beat, Lease, Limits, Recall, TaskQueue};

/// How often a [`SimQueue`] does what queues do on bad days, in percent of hand-outs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFaults {
    /// A task that is out is handed out once more, though its worker lives.
    pub twice: u64,
    /// The worker dies with the task before anybody hears of it.
    pub lost: u64,
}

/// The simulated queue. Clones share it.
#[derive(Clone, Debug)]
pub struct SimQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    ready: Notify,
    clock: Clock,
    limits: Limits,
    faults: QueueFaults,
}

#[derive(Debug)]
struct State {
    items: BTreeMap<TaskKey, Item>,
    tokens: u64,
    random: Random,
}

#[derive(Debug)]
struct Item {
    task: Task,
    since: UtcMs,
    deliveries: u32,
    at: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    Out { token: u64, since: UtcMs, heard: UtcMs, stop: Option<Stop> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Recalled,
    TimedOut,
}

fn failed(code: &str, class: FailureClass, message: String) -> Outcome {
    Outcome::Failed(Failure { code: code.into(), class, message, details: serde_json::Value::Null })
}

impl SimQueue {
    /// An empty queue whose choices are drawn from `seed`.
    #[must_use]
    pub fn new(clock: Clock, limits: Limits, faults: QueueFaults, seed: u64) -> Self {
        let state = State { items: BTreeMap::new(), tokens: 0, random: Random::new(seed) };
        Self(Arc::new(Inner { state: Mutex::new(state), ready: Notify::new(), clock, limits, faults }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test while it held the lock leaves a queue behind all the same.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tasks that were published and not forgotten.
    #[must_use]
    pub fn keys(&self) -> Vec<TaskKey> {
        self.state().items.keys().cloned().collect()
    }

    fn try_take(&self, max: usize) -> Vec<Lease> {
        let (now, faults) = (self.0.clock.now(), self.0.faults);
        let mut state = self.state();
        let mut leases = Vec::new();
        while leases.len() < max {
            let waiting = state.keys_where(|item| item.at == Place::Waiting);
            if waiting.is_empty() {
                break;
            }
            let highest = |key: &TaskKey| state.items.get(key).map(|item| item.task.priority);
            let first = waiting.iter().map(highest).max().flatten();
            let waiting = waiting.iter().filter(|key| highest(key) == first).cloned().collect();
            let key = state.pick(waiting);
            let lease = state.hand_out(&key, now);
            if !state.random.chance(faults.lost) {
                leases.extend(lease);
            }
        }
        if !leases.is_empty() && leases.len() < max && state.random.chance(faults.twice) {
            let fresh: Vec<u64> = leases.iter().map(|lease| lease.token).collect();
            let max = self.0.limits.deliveries;
            let out = state.keys_where(|item| {
                let alive = matches!(&item.at, Place::Out { token, stop: None, .. } if !fresh.contains(token));
                alive && item.deliveries < max
            });
            if !out.is_empty() {
                let key = state.pick(out);
                leases.extend(state.hand_out(&key, now));
            }
        }
        if state.items.values().any(|item| item.at == Place::Waiting) {
            // Notify wakes one taker at a time: this one passes on what it leaves.
            self.0.ready.notify_one();
        }
        leases
    }

    /// What the passing of time did to one item.
    fn judge(&self, item: &mut Item, now: UtcMs) -> Option<Outcome> {
        let (limits, uses) = (item.task.timeouts, &item.task.uses);
        let Place::Out { since, heard, stop, .. } = &mut item.at else {
            let limit = limits.queue.filter(|limit| item.deliveries == 0 && now.since(item.since) >= *limit)?;
            let message = format!("no worker took `{uses}` within {limit}");
            return Some(failed("E0321", FailureClass::Transient, message));
        };
        if stop.is_none() && limits.attempt.is_some_and(|limit| now.since(*since) >= limit) {
            *stop = Some(Stop::TimedOut);
        }
        let silence: Millis = limits.heartbeat.unwrap_or(self.0.limits.heartbeat);
        if now.since(*heard) < silence {
            return None;
        }
        if stop.is_some() || item.deliveries >= self.0.limits.deliveries {
            let message = format!("the worker of `{uses}` fell silent for {silence}, {} times in all", item.deliveries);
            return Some(failed("E0322", FailureClass::Ambiguous, message));
        }
        item.at = Place::Waiting;
        self.0.ready.notify_one();
        None
    }
}

impl State {
    fn keys_where(&self, fits: impl Fn(&Item) -> bool) -> Vec<TaskKey> {
        self.items.iter().filter(|(_, item)| fits(item)).map(|(key, _)| key.clone()).collect()
    }

    fn pick(&mut self, mut from: Vec<TaskKey>) -> TaskKey {
        let at = self.random.below(crate::disk::widen(from.len()));
        from.swap_remove(usize::try_from(at).unwrap_or(0))
    }

    fn hand_out(&mut self, key: &TaskKey, now: UtcMs) -> Option<Lease> {
        self.tokens += 1;
        let token = self.tokens;
        let item = self.items.get_mut(key)?;
        item.at = Place::Out { token, since: now, heard: now, stop: None };
        item.deliveries += 1;
        Some(Lease { task: item.task.clone(), token, redelivered: item.deliveries - 1 })
    }
}

impl TaskQueue for SimQueue {
    fn publish(&self, tasks: Vec<Task>) {
        let since = self.0.clock.now();
        let mut state = self.state();
        for task in tasks {
            let item = Item { task, since, deliveries: 0, at: Place::Waiting };
            state.items.entry(item.task.key.clone()).or_insert(item);
        }
        drop(state);
        self.0.ready.notify_one();
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        match self.state().items.get_mut(key).map(|item| &mut item.at) {
            Some(Place::Out { stop, .. }) => {
                *stop = Some(Stop::Recalled);
                Recall::Asked
            }
            Some(Place::Waiting) | None => Recall::NotOut,
        }
    }

    fn forget(&self, keys: &[TaskKey]) {
        let mut state = self.state();
        for key in keys {
            state.items.remove(key);
        }
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let judged = state.items.iter_mut().map(|(key, item)| (key.clone(), self.judge(item, now)));
        judged.filter_map(|(key, outcome)| Some((key, outcome?))).collect()
    }

    async fn take(&self, max: usize) -> Vec<Lease> {
        loop {
            let ready = self.0.ready.notified();
            let leases = self.try_take(max);
            if !leases.is_empty() {
                return leases;
            }
            ready.await;
        }
    }

    fn beat(&self, lease: &Lease) -> Beat {
        let now = self.0.clock.now();
        match self.state().items.get_mut(&lease.task.key).map(|item| &mut item.at) {
            Some(Place::Out { token, heard, stop, .. }) if *token == lease.token => {
                *heard = now;
                if stop.is_some() { Beat::Stop } else { Beat::GoOn }
            }
            _ => Beat::Lost,
        }
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        let state = self.state();
        match &state.items.get(&lease.task.key)?.at {
            Place::Out { token, stop, .. } if *token == lease.token => Some(match (outcome, stop) {
                (Outcome::Cancelled, Some(Stop::TimedOut)) => {
                    let limit = lease.task.timeouts.attempt.unwrap_or_default();
                    let message = format!("`{}` took longer than {limit}", lease.task.uses);
                    failed("E0320", FailureClass::Transient, message)
                }
                (outcome, _) => outcome,
            }),
            _ => None,
        }
    }
}
