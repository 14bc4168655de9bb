//! The faces of Patchloom: command line, progress, reports. Composes the engine and the workers; nothing depends on it.
//!
//! A library beside the binary, so that tests can look at each face without starting a process.

pub mod campaign;
pub mod cli;
pub mod confirm;
pub mod data_dir;
pub mod fault;
pub mod host;
pub mod hosts;
pub mod http;
pub mod import;
pub mod lifecycle;
pub mod logging;
pub mod nats_setup;
pub mod output;
pub mod progress;
pub mod report;
pub mod shipped;
pub mod workflow_test;
