//! The simulated ports: a disk in memory with faults and the journal on top of it, a queue and a network with faults.
//! Deterministic, without threads.
//!
//! Part of the product: the engine's own simulation runs on them.

mod disk;
mod intake;
mod journal;
mod queue;
mod random;

pub use disk::{Crash, SimDisk, SimFile};
pub use intake::{LossyIntake, NetFaults};
pub use journal::{Latency, SimJournal};
pub use queue::{QueueFaults, SimQueue};
pub use random::Random;
