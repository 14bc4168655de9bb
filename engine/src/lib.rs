//! The engine around the pure heart: journal, snapshots, store, archive. Knows bytes and sequence numbers, nothing of patches.

pub mod archive;
pub mod bench;
pub mod clock;
pub mod datadir;
pub mod disk;
pub mod events;
pub mod journal;
pub mod nats;
pub mod queue;
pub mod rate;
pub mod runtime;
pub mod sim;
pub mod snapshot;
pub mod store;
