//! How many tasks the workers have room for, as they last said: no more tickets than that are about.
//!
//! So a task that comes with a high priority stands behind no more than what workers are about to take anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::QueueName;
use tokio::time::Instant;

/// Who has room for how much, by queue.
#[derive(Debug, Default)]
pub(super) struct Demand(BTreeMap<QueueName, BTreeMap<Arc<str>, Room>>);

#[derive(Debug)]
struct Room {
    free: u32,
    until: Instant,
}

/// The most queues that are kept in mind: anybody may name one.
const QUEUES_MAX: usize = 4_096;

impl Demand {
    /// A worker says for how many tasks it has room; that counts for `lasts`.
    pub fn says(&mut self, queue: &QueueName, worker: &Arc<str>, free: u32, lasts: Duration) {
        if !self.0.contains_key(queue) && self.0.len() >= QUEUES_MAX {
            return;
        }
        let rooms = self.0.entry(queue.clone()).or_default();
        if free == 0 {
            rooms.remove(worker);
        } else {
            rooms.insert(Arc::clone(worker), Room { free, until: Instant::now() + lasts });
        }
    }

    /// A worker took so many tickets.
    pub fn took(&mut self, queue: &QueueName, worker: &Arc<str>, tickets: usize) {
        if let Some(room) = self.0.get_mut(queue).and_then(|rooms| rooms.get_mut(worker)) {
            room.free = room.free.saturating_sub(u32::try_from(tickets).unwrap_or(u32::MAX));
        }
    }

    /// For how many tasks of a queue there is room.
    pub fn of(&self, queue: &QueueName) -> usize {
        let rooms = self.0.get(queue).into_iter().flat_map(BTreeMap::values);
        rooms.map(|room| usize::try_from(room.free).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
    }

    /// Forgets workers that were not heard of.
    pub fn tick(&mut self) {
        let now = Instant::now();
        for rooms in self.0.values_mut() {
            rooms.retain(|_, room| room.until > now);
        }
    }

    /// The queues that workers ever asked for.
    pub fn queues(&self) -> impl Iterator<Item = &QueueName> {
        self.0.keys()
    }
}
