//! The queue inside one process.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchloom_core::{Failure, FailureClass, Millis, Outcome, Task, TaskKey, UtcMs};
use tokio::sync::Notify;

use super::{Beat, Lease, Recall, TaskQueue};
use crate::clock::Clock;

/// What holds where a task does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a worker may be silent before it counts as dead.
    pub heartbeat: Millis,
    /// How often a task is handed out before it fails for want of a worker that survives it.
    pub deliveries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { heartbeat: Millis(60_000), deliveries: 3 }
    }
}

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct EmbeddedQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    ready: Notify,
    clock: Clock,
    limits: Limits,
}

#[derive(Debug, Default)]
struct State {
    /// What waits, the first to be taken first.
    line: BTreeMap<Place, TaskKey>,
    items: BTreeMap<TaskKey, Item>,
    tokens: u64,
    turns: u64,
}

/// Where a task stands in the line: higher priority first, then who came first.
type Place = (Reverse<i32>, u64);

#[derive(Debug)]
struct Item {
    task: Task,
    /// It keeps its place while it is out: handed out again, it is older than all of its priority that came later.
    place: Place,
    since: UtcMs,
    deliveries: u32,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    token: u64,
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

fn failed(code: &str, class: FailureClass, message: String) -> Outcome {
    Outcome::Failed(Failure { code: code.into(), class, message, details: serde_json::Value::Null })
}

impl EmbeddedQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(clock: Clock, limits: Limits) -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), ready: Notify::new(), clock, limits }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks wait and how many are out.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        let state = self.state();
        let out = state.items.values().filter(|item| item.out.is_some()).count();
        (state.items.len() - out, out)
    }

    fn try_take(&self, max: usize) -> Vec<Lease> {
        let now = self.0.clock.now();
        let mut state = self.state();
        let mut leases = Vec::new();
        while leases.len() < max {
            let Some((_, key)) = state.line.pop_first() else { break };
            state.tokens += 1;
            let token = state.tokens;
            let Some(item) = state.items.get_mut(&key) else { continue };
            item.out = Some(Out { token, since: now, heard: now, stop: None });
            let redelivered = item.deliveries;
            item.deliveries += 1;
            leases.push(Lease { task: item.task.clone(), token, redelivered });
        }
        if !state.line.is_empty() {
            // Notify wakes one taker at a time: this one passes on what it leaves.
            self.0.ready.notify_one();
        }
        leases
    }

    /// What the passing of time did to one item.
    fn judge(&self, item: &mut Item, now: UtcMs) -> Verdict {
        let limits = item.task.timeouts;
        let Some(out) = &mut item.out else {
            return match limits.queue {
                Some(limit) if now.since(item.since) >= limit && item.deliveries == 0 => {
                    let message = format!("no worker took `{}` within {limit}", item.task.uses);
                    Verdict::Over(failed("E0321", FailureClass::Transient, message))
                }
                _ => Verdict::Fine,
            };
        };
        if limits.attempt.is_some_and(|limit| now.since(out.since) >= limit) && out.stop.is_none() {
            out.stop = Some(Stop::TimedOut);
        }
        let silence = limits.heartbeat.unwrap_or(self.0.limits.heartbeat);
        if now.since(out.heard) < silence {
            return Verdict::Fine;
        }
        if out.stop.is_some() || item.deliveries >= self.0.limits.deliveries {
            let message = format!(
                "the worker of `{}` fell silent for {silence}, {} times in all",
                item.task.uses, item.deliveries
            );
            return Verdict::Over(failed("E0322", FailureClass::Ambiguous, message));
        }
        item.out = None;
        Verdict::Again
    }
}

enum Verdict {
    Fine,
    Again,
    Over(Outcome),
}

impl TaskQueue for EmbeddedQueue {
    fn publish(&self, tasks: Vec<Task>) {
        let since = self.0.clock.now();
        let mut state = self.state();
        for task in tasks {
            let key = task.key.clone();
            if state.items.contains_key(&key) {
                continue;
            }
            state.turns += 1;
            let place = (Reverse(task.priority), state.turns);
            state.items.insert(key.clone(), Item { task, place, since, deliveries: 0, out: None });
            state.line.insert(place, key);
        }
        drop(state);
        self.0.ready.notify_one();
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        let mut state = self.state();
        match state.items.get_mut(key).and_then(|item| item.out.as_mut()) {
            Some(out) => {
                out.stop = Some(Stop::Recalled);
                Recall::Asked
            }
            None => Recall::NotOut,
        }
    }

    fn forget(&self, keys: &[TaskKey]) {
        let mut state = self.state();
        for key in keys {
            if let Some(item) = state.items.remove(key) {
                state.line.remove(&item.place);
            }
        }
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        let now = self.0.clock.now();
        let mut over = Vec::new();
        let mut again = Vec::new();
        let mut state = self.state();
        for (key, item) in &mut state.items {
            match self.judge(item, now) {
                Verdict::Fine => {}
                Verdict::Again => again.push((item.place, key.clone())),
                Verdict::Over(outcome) => over.push((key.clone(), outcome)),
            }
        }
        for (place, key) in again {
            state.line.insert(place, key);
            self.0.ready.notify_one();
        }
        over
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
        let mut state = self.state();
        let out = state.items.get_mut(&lease.task.key).and_then(|item| item.out.as_mut());
        match out.filter(|out| out.token == lease.token) {
            Some(out) => {
                out.heard = now;
                if out.stop.is_some() { Beat::Stop } else { Beat::GoOn }
            }
            None => Beat::Lost,
        }
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        let state = self.state();
        let out = state.items.get(&lease.task.key).and_then(|item| item.out.as_ref())?;
        if out.token != lease.token {
            return None;
        }
        let limit = lease.task.timeouts.attempt.unwrap_or_default();
        Some(match (outcome, out.stop) {
            (Outcome::Cancelled, Some(Stop::TimedOut)) => {
                let message = format!("`{}` took longer than {limit}", lease.task.uses);
                failed("E0320", FailureClass::Transient, message)
            }
            (outcome, _) => outcome,
        })
    }
}
