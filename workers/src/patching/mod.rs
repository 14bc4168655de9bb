//! Steps 4 and 5 of the lifecycle and their way back: prove it, install exactly the plan, believe only the package set.

mod adjust;
mod apt;
mod backup;
mod cause;
mod contracts;
mod etc;
mod executor;
mod handlers;
mod install;
mod kept;
mod marker;
mod outside;
mod place;
mod quiet;
mod reboot;
mod rebuild;
mod report;
mod rollback;
mod rpm;
mod scripts;
mod state;
#[cfg(test)]
mod tests;
mod windows;

use std::path::PathBuf;

use patchloom_domain::PackageId;

use crate::carry::{Carried, Carrier};
use crate::runtime::{DuplicateHandler, Handlers};

pub(crate) use contracts::contracts;
pub(crate) use install::answered;
pub(crate) use place::register_inner;

pub use backup::{Backup, SavedFile};
pub use handlers::{Backups, Install, Keep, Prove, Rollback, SnapshotDrop, SnapshotMake};
pub use kept::{HOST_TTL_MS, KeptBackup, KeptBackups, KeptError, Swept, TTL_MS};
pub use reboot::Reboot;
pub use state::HostState;

/// Adds all handlers of this module; copies of root directories go to `snapshots`, or into the data directory. What is
/// done on hosts that are other machines is carried there by `carrier`.
///
/// # Errors
/// [`DuplicateHandler`] when one of their task types is taken.
pub fn register(
    handlers: &mut Handlers,
    snapshots: Option<PathBuf>,
    carrier: &Carrier,
) -> Result<(), DuplicateHandler> {
    handlers.add(Carried::new(Backups, carrier))?;
    let keep = Keep { dir: snapshots, carrier: carrier.clone() };
    handlers.add(SnapshotMake { keep: keep.clone() })?;
    handlers.add(SnapshotDrop { keep: keep.clone() })?;
    handlers.add(Prove { keep: keep.clone() })?;
    handlers.add(Install { keep: keep.clone() })?;
    handlers.add(Reboot { carrier: carrier.clone() })?;
    handlers.add(Rollback { keep })
}

/// A package as apt takes it: with its architecture, except where that is `all`.
fn qualified(id: &PackageId) -> String {
    if id.arch == "all" { id.name.clone() } else { format!("{}:{}", id.name, id.arch) }
}

/// An exact version as apt takes it.
fn spec(id: &PackageId, version: &str) -> String {
    format!("{}={version}", qualified(id))
}
