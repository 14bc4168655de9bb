//! The queue inside one process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchloom_core::{Outcome, QueueName, Task, TaskKey};
use tokio::sync::Notify;

use super::book::Book;
use super::{Beat, Lease, Limits, Recall, TaskQueue};
use crate::clock::Clock;

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct EmbeddedQueue {
    inner: Arc<Inner>,
    /// The queues whose tasks are taken through this clone; `None`: all.
    serves: Option<Arc<BTreeSet<QueueName>>>,
}

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    ready: Notify,
    clock: Clock,
    worker: Arc<str>,
}

impl EmbeddedQueue {
    /// An empty queue, whose tasks of all queue names are taken.
    #[must_use]
    pub fn new(clock: Clock, limits: Limits) -> Self {
        let book = Mutex::new(Book::new(limits, 0));
        let inner = Inner { book, ready: Notify::new(), clock, worker: "local".into() };
        Self { inner: Arc::new(inner), serves: None }
    }

    /// The same queue for workers that serve only these names.
    #[must_use]
    pub fn serving(&self, queues: BTreeSet<QueueName>) -> Self {
        Self { inner: Arc::clone(&self.inner), serves: Some(Arc::new(queues)) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks wait and how many are out.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        self.book().depth()
    }

    fn try_take(&self, max: usize) -> Vec<Lease> {
        let now = self.inner.clock.now();
        self.book().take(max, self.serves.as_deref(), &self.inner.worker, now)
    }
}

impl TaskQueue for EmbeddedQueue {
    fn publish(&self, tasks: Vec<Task>) {
        let since = self.inner.clock.now();
        self.book().publish(tasks, since);
        self.inner.ready.notify_waiters();
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        self.book().recall(key)
    }

    fn forget(&self, keys: &[TaskKey]) {
        let mut book = self.book();
        for key in keys {
            book.forget(key);
        }
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        let now = self.inner.clock.now();
        let swept = self.book().sweep(now);
        if swept.again {
            self.inner.ready.notify_waiters();
        }
        swept.over
    }

    async fn take(&self, max: usize) -> Vec<Lease> {
        loop {
            // Hears of all that comes from here on, also before it is polled.
            let ready = self.inner.ready.notified();
            let leases = self.try_take(max);
            if !leases.is_empty() {
                return leases;
            }
            ready.await;
        }
    }

    fn beat(&self, lease: &Lease) -> Beat {
        let now = self.inner.clock.now();
        self.book().beat(&lease.task.key, lease.token, now)
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        self.book().settle(&lease.task.key, lease.token, outcome)
    }
}
