//! Takes tasks from a source, runs their handlers and settles them. Knows no task type, no queue and no workflow.

mod context;
mod pool;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use patchloom_core::{Failure, Outcome, Task, Told};
use serde_json::Value;

pub use context::{DataDir, Progress, Station, TaskContext};
pub use pool::{PoolConfig, WorkerPool};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A task in our hands until its lease runs out.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The work.
    pub task: Task,
    /// What the source knows the lease by.
    pub token: u64,
    /// How often the task was handed out before under the same key: above 0, its work may be done or half done.
    pub redelivered: u32,
}

/// What a heartbeat answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Continue,
    /// Stop, and settle as cancelled.
    Cancel,
    /// The lease is not ours any more: stop, and settle nothing.
    Lost,
}

/// Why a source did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It may work later: the call is repeated.
    #[error("the task source does not answer: {0}")]
    Unavailable(String),
    /// It will not work again: the pool stops.
    #[error("the task source is closed")]
    Closed,
    /// It does not know this lease (any more).
    #[error("the lease is not known")]
    UnknownLease,
}

/// Where tasks come from and outcomes go.
pub trait TaskSource: Send + Sync + 'static {
    /// Takes up to `max` tasks; waits until there is at least one.
    ///
    /// # Cancellation
    /// May be dropped while it waits; a task that was taken by a dropped call must be handed out again in time.
    fn take(&self, max: usize) -> impl Future<Output = Result<Vec<Lease>, SourceError>> + Send;

    /// Says that the work goes on.
    fn heartbeat(&self, lease: &Lease) -> impl Future<Output = Result<Beat, SourceError>> + Send;

    /// Tells how far the work is. Best effort: may be dropped.
    fn progress(&self, lease: &Lease, progress: &Progress) -> impl Future<Output = ()> + Send;

    /// Gives the outcome back, with the facts that the task tells. `Ok` only when it is recorded; else the runtime
    /// repeats it.
    fn settle(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        tell: &[Told],
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Does the work of one task type.
///
/// A task is handed out at least once: the same key may come again after a crash, with its work done, half done or not
/// begun, even while processes of the former try are alive. A handler must come to the same end.
pub trait Handler: Send + Sync + 'static {
    /// The task type: what a step's `uses` names.
    fn uses(&self) -> &'static str;

    /// Does the work.
    ///
    /// # Cancellation
    /// Watches [`TaskContext::cancel`]: when it fires it comes to rest soon and returns whatever fits.
    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>>;
}

/// Two handlers claim one task type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two handlers claim the task type {0}")]
pub struct DuplicateHandler(pub String);

/// Handlers by task type.
#[derive(Clone, Default)]
pub struct Handlers {
    by_uses: BTreeMap<&'static str, Arc<dyn Handler>>,
}

impl Handlers {
    /// Adds a handler.
    ///
    /// # Errors
    /// [`DuplicateHandler`] when its task type has one.
    pub fn add(&mut self, handler: impl Handler) -> Result<(), DuplicateHandler> {
        let uses = handler.uses();
        if self.by_uses.contains_key(uses) {
            return Err(DuplicateHandler(uses.to_owned()));
        }
        self.by_uses.insert(uses, Arc::new(handler));
        Ok(())
    }

    /// The handler of a task type.
    #[must_use]
    pub fn get(&self, uses: &str) -> Option<Arc<dyn Handler>> {
        self.by_uses.get(uses).cloned()
    }

    /// All task types, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_uses.keys().copied()
    }
}

#[cfg(test)]
mod tests;
