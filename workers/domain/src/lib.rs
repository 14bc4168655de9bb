//! The pure heart of patching: packages, versions, findings, plans, change requests, outcomes.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time is an argument.
//! It knows nothing of workflows, of queues or of any vendor's format.

mod changelog;
mod classify;
mod deb_version;
mod finding;
mod package;
mod urgency;

pub use changelog::{CVES_MAX, ChangelogEntry, ChangelogSpan, between, changelog_entries, cve_ids, cve_order};
pub use classify::{Classified, FailureKind, Manager, classify};
pub use deb_version::{DebVersion, DebVersionError};
pub use finding::{Finding, Knowledge, Severity, SeverityLevel};
pub use package::{InstalledPackage, MissingPatch, PackageId, Target};
pub use urgency::{CVES_UNKNOWN, HostUrgency, Judged, Priority, Urgency, host_urgency, patch_urgency};
