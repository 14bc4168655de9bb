//! The simulated ports: a disk in memory with faults and the journal on top of it, a queue and a network with faults.
//! Deterministic, without threads.
//!
//! Part of the product: the engine's own simulation runs on them, and so do the tests of workflow authors.

mod author;
mod disk;
mod intake;
mod journal;
mod queue;
mod random;

pub use author::{PlayError, Played, Reply, Rest, Scene, Script, play};
pub use disk::{Crash, SimDisk, SimFile};
pub use intake::{LossyIntake, NetFaults};
pub use journal::{Latency, SimJournal};
pub use queue::{QueueFaults, SimQueue};
pub use random::Random;
