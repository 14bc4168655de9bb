//! The engine as a whole, on real directories, real servers of NATS and in simulated worlds; one binary, since each links all of it.

mod author;
mod datadir;
mod engine;
mod follow;
mod inspect;
mod journal_conformance;
mod journal_damage;
mod kill;
mod nats;
mod nats_events;
mod nats_journal;
mod nats_lease;
mod nats_mirror;
mod operate;
mod queue_conformance;
mod recall;
mod retention;
mod shared_limits;
mod simulated;
mod simulation;
mod snapshot_archive;
mod store;
mod told;
mod triggers;
mod trimmed;
