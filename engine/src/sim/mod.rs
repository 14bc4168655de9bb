//! The simulated ports: a disk in memory with faults, and the journal on top of it. Deterministic, without threads.
//!
//! Part of the product: the engine's own simulation runs on them.

mod disk;
mod journal;
mod random;

pub use disk::{Crash, SimDisk, SimFile};
pub use journal::{Latency, SimJournal};
pub use random::Random;
