//! The ports over NATS JetStream: what a partition is called there, its journal, its lease.

mod error;
mod journal;
mod message;
mod reader;
mod snapshots;
mod trim;

pub use error::StreamError;
pub use journal::{NatsJournal, NatsOptions};
pub use reader::NatsReader;
pub use snapshots::NatsSnapshots;
