//! The task queues, as a port: the leader publishes and calls back, workers take, beat and settle.
//!
//! A queue need not survive a crash: the leader fills it again from what the state owes. It hands a task out at least
//! once, under one key; what came of it counts once, in the state.

pub(crate) mod book;
mod embedded;

use std::future::Future;

use patchloom_core::{Millis, Outcome, Task, TaskKey};

pub use book::OutTask;
pub use embedded::EmbeddedQueue;

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

/// A task in the hands of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The work.
    pub task: Task,
    /// Tells this hand-out from another of the same task.
    pub token: u64,
    /// How often the task was handed out before: its worker died, or fell silent.
    pub redelivered: u32,
}

/// What a worker hears when it says that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    GoOn,
    /// Stop, and settle with [`Outcome::Cancelled`] or with what came of it.
    Stop,
    /// The lease is over: somebody else has the task, or nobody wants it any more. Stop; a result changes nothing.
    Lost,
}

/// What calling a task back came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Its worker will hear of it.
    Asked,
    /// No worker has it: it was not taken, or it is not known.
    NotOut,
}

/// The port.
pub trait TaskQueue: Clone + Send + Sync + 'static {
    /// Offers tasks. One that is known already, by its key, is not offered twice.
    fn publish(&self, tasks: Vec<Task>);

    /// Calls a task back.
    fn recall(&self, key: &TaskKey) -> Recall;

    /// Forgets tasks whose outcome the state has.
    fn forget(&self, keys: &[TaskKey]);

    /// What became of tasks by the passing of time: outcomes for the leader to record.
    fn sweep(&self) -> Vec<(TaskKey, Outcome)>;

    /// Takes up to `max` tasks, of the highest priority first and of those the oldest first; waits while there are none.
    ///
    /// Nothing ages: while tasks of a higher priority keep coming faster than workers take them, those of a lower one
    /// wait. Their queue timeouts still count.
    ///
    /// # Cancellation
    /// Safe: a task is leased only when it is returned.
    fn take(&self, max: usize) -> impl Future<Output = Vec<Lease>> + Send;

    /// Says that the worker lives.
    fn beat(&self, lease: &Lease) -> Beat;

    /// What is to be recorded when the worker says that the task came to `outcome`; `None` where the lease is over.
    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome>;
}
