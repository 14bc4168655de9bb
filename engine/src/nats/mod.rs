//! What every part that speaks to NATS needs: the connection, what its server is fit for, and whether it did as asked; and
//! the ports over it: the journal of a partition, its copy, its lease.

mod catch_up;
mod config;
mod connect;
mod durability;
mod error;
mod journal;
mod lease;
mod message;
mod mirror;
mod preflight;
mod reader;
mod snapshots;
mod stream;
mod stream_error;
mod trim;

pub use catch_up::{CaughtUp, catch_up, reseed};
pub use config::{Difference, differences, same_config};
pub use connect::{Connection, NatsOptions, Prefix};
pub use durability::Durability;
pub use error::Error;
pub use journal::{JournalOptions, NatsJournal, Opening};
pub use lease::{Holder, Lease, LeaseWatch, TTL_DEFAULT};
pub use mirror::MirroredJournal;
pub use preflight::{Preflight, Replicas, Room, ServerVersion};
pub use reader::NatsReader;
pub use snapshots::NatsSnapshots;
pub use stream_error::StreamError;
