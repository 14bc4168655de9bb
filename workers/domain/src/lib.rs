//! The pure heart of patching: packages, versions, findings, plans, change requests, outcomes.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time is an argument.
//! It knows nothing of workflows, of queues or of any vendor's format.

mod package;

pub use package::{InstalledPackage, MissingPatch, PackageId, Target};
