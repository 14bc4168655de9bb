//! Hosts over SSH, by the OpenSSH client of this machine: commands with their data, failures told apart. Knows no task.

mod client;
mod error;
mod hops;
mod options;
mod words;

pub use client::{Client, Stdin};
pub use error::{Error, Unreachable};
pub use options::{HOST_DIR, SshOptions};
pub(crate) use words::quoted;
