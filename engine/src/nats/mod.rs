//! The ports over NATS JetStream: what a partition is called there, its journal, its lease.

mod catch_up;
mod journal;
mod lease;
mod message;
mod mirror;
mod reader;
mod snapshots;
mod stream;
mod stream_error;
mod trim;

pub use catch_up::{CaughtUp, catch_up, reseed};
pub use journal::{JournalOptions, NatsJournal, Opening};
pub use lease::{Holder, Lease, LeaseWatch, TTL_DEFAULT};
pub use mirror::MirroredJournal;
pub use reader::NatsReader;
pub use snapshots::NatsSnapshots;
pub use stream_error::StreamError;
