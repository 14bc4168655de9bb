//! The queue over a real NATS server: the leader's side and the workers' side, and what happens when either dies.

mod bench;
mod python;
mod tasks;
mod world;
