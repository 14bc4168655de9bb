//! What every part that speaks to NATS needs: the connection, what its server is fit for, and whether it did as asked.

mod config;
mod connect;
mod durability;
mod error;
mod preflight;
mod queue;

pub use config::{Difference, differences, same_config};
pub use connect::{Connection, NatsOptions, Prefix};
pub use durability::Durability;
pub use error::Error;
pub use preflight::{Preflight, Replicas, Room, ServerVersion};
pub use queue::{NatsQueue, QueueOptions, WorkerSeen};
