//! Steps 4 and 5 of the lifecycle and their way back: prove it, install exactly the plan, believe only the package set.

mod backup;
mod cause;
mod handlers;
mod install;
mod marker;
mod quiet;
mod report;
mod rollback;
mod state;

use patchloom_domain::PackageId;

pub use backup::{Backup, SavedFile};
pub use handlers::{Backups, Install, Prove, Rollback, SnapshotDrop, SnapshotMake};
pub use state::HostState;

/// A package as apt takes it: with its architecture, except where that is `all`.
fn qualified(id: &PackageId) -> String {
    if id.arch == "all" { id.name.clone() } else { format!("{}:{}", id.name, id.arch) }
}

/// An exact version as apt takes it.
fn spec(id: &PackageId, version: &str) -> String {
    format!("{}={version}", qualified(id))
}
