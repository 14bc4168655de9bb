//! The ports over NATS JetStream: the connection and what its server is fit for, a partition's journal and lease, the
//! queue.

mod catch_up;
mod config;
mod connect;
mod durability;
mod error;
mod events;
mod journal;
mod lease;
mod make;
mod message;
mod mirror;
mod orders;
mod preflight;
mod queue;
mod reader;
mod snapshots;
mod stand;
mod stream;
mod stream_error;
mod tenure;
mod trim;

pub use catch_up::{CaughtUp, catch_up, reseed};
pub use config::{Difference, differences, same_config};
pub use connect::{Connection, NatsOptions};
pub use durability::Durability;
pub use error::Error;
pub use events::{BusOptions, Intake, Listener, NatsEvents, Past, take_in};
pub use journal::{JournalOptions, NatsJournal, Opening};
pub use lease::{Holder, Lease, LeaseWatch, TTL_DEFAULT};
pub use mirror::MirroredJournal;
pub use orders::{Answer, Order, RemoteLeader};
pub use preflight::{Preflight, Replicas, Room, ServerVersion};
pub use queue::{NatsQueue, QueueOptions, WorkerSeen};
pub use reader::NatsReader;
pub use snapshots::NatsSnapshots;
pub use stand::{Stand, StandEnd, StandOptions, stand};
pub use stream_error::StreamError;
