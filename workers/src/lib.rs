//! Worker runtime, adapters and the task handlers of the six lifecycle steps.
//!
//! What crosses to the engine is a task and an outcome; it never sees journals, stores or the state of a run.

pub mod apt;
pub mod artifact;
pub mod aws;
pub mod carry;
mod contract;
mod dnf;
pub mod evidence;
mod failure;
pub mod holds;
pub mod host;
mod manager;

pub mod campaign;
pub mod changes;
mod durable;
pub mod inventory;
pub mod nats;
pub mod observe;
pub mod patching;
pub mod register;
pub mod runtime;
pub mod snapshot;
pub mod ssh;
pub mod tell;
mod windows;
mod witness;
mod zypper;

pub use contract::contracts;
