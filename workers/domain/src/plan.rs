//! A plan: the exact versions before and after on each host. Its digest is what an approval binds to.
//!
//! Two discoveries of the same state give the same digest, in whatever order and at whatever time they were made.
//! It knows nothing of who approves it nor of how it is carried out.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Instant, Outside, PackageId, Target};

/// The most hosts that one plan holds.
pub const HOSTS_MAX: usize = 100_000;
/// The most package changes that one host of a plan holds.
pub const CHANGES_PER_HOST_MAX: usize = 10_000;

/// Whether hosts may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing on any host changes: the install is simulated.
    #[default]
    Observe,
    /// Packages are installed.
    Apply,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Apply => "apply",
        })
    }
}

/// The way back that a plan intends for a host. Whether it holds is proven later, before the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoIntent {
    /// The former versions out of cached .debs.
    Packages,
    /// The former versions; where that does not reach the former state, the snapshot.
    #[default]
    PackagesThenSnapshot,
    /// The snapshot at once.
    Snapshot,
    /// By the means of the host itself, which nobody can prove beforehand: chosen where a plan says so, never by default.
    Attempt,
}

/// One package on its way from one exact version to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// Name and architecture.
    #[serde(flatten)]
    pub id: PackageId,
    /// Version before; `None` for a package that comes new.
    pub installed: Option<String>,
    /// Version after.
    pub candidate: String,
    /// SHA-256 of the candidate's .deb in hex, where the archive's index names it.
    #[serde(default)]
    pub sha256: Option<String>,
    /// CVE ids it fixes. Not part of the digest: knowledge grows while the change stays the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<String>,
    /// Whether it comes from a security archive. Not part of the digest.
    #[serde(default)]
    pub security: bool,
}

/// What happens on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// The host's id.
    pub host: String,
    /// Where it is.
    pub target: Target,
    /// Each package at most once, sorted by name and architecture.
    pub changes: Vec<PlannedChange>,
    /// The way back intended.
    #[serde(default)]
    pub undo: UndoIntent,
    /// Who takes a snapshot of it from outside, where somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
}

/// The content address of a plan: `sha256:` and 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanDigest(String);

impl PlanDigest {
    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PlanDigest {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        let hex = text.strip_prefix("sha256:").is_some_and(is_sha256);
        if hex { Ok(Self(text)) } else { Err(PlanError::NotADigest { text }) }
    }
}

impl From<PlanDigest> for String {
    fn from(digest: PlanDigest) -> Self {
        digest.0
    }
}

/// Why something is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The same host twice.
    #[error("the plan names host '{host}' twice")]
    HostTwice {
        /// The host.
        host: String,
    },
    /// A host without a name.
    #[error("the plan has a host without a name")]
    HostUnnamed,
    /// The same package twice on one host.
    #[error("the plan names package '{package}' twice on host '{host}'")]
    PackageTwice {
        /// The host.
        host: String,
        /// `name:arch`.
        package: String,
    },
    /// A name, architecture or version that dpkg would not take, and that must never reach a command line.
    #[error("'{text}' is not a valid {what} (host '{host}')")]
    Malformed {
        /// The host.
        host: String,
        /// What it should have been.
        what: &'static str,
        /// What it is.
        text: String,
    },
    /// Before and after are the same.
    #[error("package '{package}' on host '{host}' would stay at {version}: that is no change")]
    NoChange {
        /// The host.
        host: String,
        /// `name:arch`.
        package: String,
        /// The version.
        version: String,
    },
    /// Too many hosts, or too many changes on one.
    #[error("the plan has {count} {what}, the limit is {limit}")]
    TooMany {
        /// Hosts or changes.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not the text of a digest.
    #[error("'{text}' is not a plan digest: it is written sha256: and 64 hex digits")]
    NotADigest {
        /// The text.
        text: String,
    },
    /// The content does not match the digest written beside it.
    #[error("the plan says it is {written}, its content is {computed}")]
    DigestMismatch {
        /// The digest in the document.
        written: PlanDigest,
        /// The digest of the content.
        computed: PlanDigest,
    },
    /// Written by a later version.
    #[error("the plan has format {found}, this version reads format 1")]
    Format {
        /// The format in the document.
        found: u32,
    },
}

/// Which patches go on which hosts, to the exact version.
///
/// # Shape
/// Always sorted and free of duplicates; the document carries its own digest and does not read back when they disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct Plan {
    mode: Mode,
    created: Instant,
    hosts: Vec<HostPlan>,
    notes: Vec<String>,
    /// The content address of who goes when, where that is part of what is approved.
    schedule: Option<PlanDigest>,
}

impl Plan {
    /// A plan of these hosts; puts them and their packages in order.
    ///
    /// # Errors
    /// When a host or package comes twice, would not change, or has a name or version that dpkg would not take.
    pub fn new(mode: Mode, created: Instant, mut hosts: Vec<HostPlan>, notes: Vec<String>) -> Result<Self, PlanError> {
        limit("hosts", hosts.len(), HOSTS_MAX)?;
        let mut names = BTreeSet::new();
        for host in &mut hosts {
            if host.host.trim().is_empty() {
                return Err(PlanError::HostUnnamed);
            }
            if !names.insert(host.host.clone()) {
                return Err(PlanError::HostTwice { host: host.host.clone() });
            }
            host.check()?;
        }
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(Self { mode, created, hosts, notes, schedule: None })
    }

    /// The same plan, bound to waves and windows: its digest covers them too.
    #[must_use]
    pub fn bound_to(self, schedule: PlanDigest) -> Self {
        Self { schedule: Some(schedule), ..self }
    }

    /// What it is bound to.
    #[must_use]
    pub fn schedule(&self) -> Option<&PlanDigest> {
        self.schedule.as_ref()
    }

    /// Whether hosts may change.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// When it was made.
    #[must_use]
    pub fn created(&self) -> Instant {
        self.created
    }

    /// The hosts, sorted by id.
    #[must_use]
    pub fn hosts(&self) -> &[HostPlan] {
        &self.hosts
    }

    /// What a person should know about it.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The part of one host.
    #[must_use]
    pub fn host(&self, host: &str) -> Option<&HostPlan> {
        self.hosts.binary_search_by(|plan| plan.host.as_str().cmp(host)).ok().map(|at| &self.hosts[at])
    }

    /// How many packages change, over all hosts.
    #[must_use]
    pub fn change_count(&self) -> usize {
        self.hosts.iter().map(|host| host.changes.len()).sum()
    }

    /// The content address: mode, hosts, targets, packages, versions, hashes, the way back intended, and the waves and
    /// windows that it is bound to; neither times nor notes nor what is known about CVEs.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        let canonical = Canonical {
            format: "patchloom.plan/1",
            mode: self.mode,
            hosts: self.hosts.iter().map(CanonicalHost::from).collect(),
            schedule: self.schedule.as_ref(),
        };
        // Structs with a fixed order of fields and no maps: the same text for the same plan, on every machine.
        let text = serde_json::to_vec(&canonical).expect("a plan of strings always has a JSON form");
        PlanDigest(format!("sha256:{}", hex(&Sha256::digest(&text))))
    }
}

impl HostPlan {
    fn check(&mut self) -> Result<(), PlanError> {
        limit("changes on one host", self.changes.len(), CHANGES_PER_HOST_MAX)?;
        let malformed =
            |what, text: &str| PlanError::Malformed { host: self.host.clone(), what, text: text.to_owned() };
        let mut seen = BTreeSet::new();
        for change in &self.changes {
            let PackageId { name, arch } = &change.id;
            let package = format!("{name}:{arch}");
            if !is_package_name(name) {
                return Err(malformed("package name", name));
            }
            if !is_arch(arch) {
                return Err(malformed("architecture", arch));
            }
            for version in change.installed.iter().chain([&change.candidate]) {
                if !is_version(version) {
                    return Err(malformed("version", version));
                }
            }
            if let Some(sha256) = change.sha256.as_ref().filter(|text| !is_sha256(text)) {
                return Err(malformed("SHA-256", sha256));
            }
            if change.installed.as_ref() == Some(&change.candidate) {
                let version = change.candidate.clone();
                return Err(PlanError::NoChange { host: self.host.clone(), package, version });
            }
            if !seen.insert(change.id.clone()) {
                return Err(PlanError::PackageTwice { host: self.host.clone(), package });
            }
        }
        self.changes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(())
    }
}

#[derive(Serialize)]
struct Canonical<'a> {
    format: &'static str,
    mode: Mode,
    hosts: Vec<CanonicalHost<'a>>,
    // A plan of one host is bound to none, and keeps the digest that it always had.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a PlanDigest>,
}

/// Name, architecture, version before, version after, hash.
type CanonicalChange<'a> = (&'a str, &'a str, Option<&'a str>, &'a str, Option<&'a str>);

#[derive(Serialize)]
struct CanonicalHost<'a> {
    host: &'a str,
    target: &'a Target,
    undo: UndoIntent,
    // Where nobody is named the digest is what it always was.
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<&'a Outside>,
    changes: Vec<CanonicalChange<'a>>,
}

impl<'a> From<&'a HostPlan> for CanonicalHost<'a> {
    fn from(plan: &'a HostPlan) -> Self {
        let row = |c: &'a PlannedChange| {
            let PackageId { name, arch } = &c.id;
            (name.as_str(), arch.as_str(), c.installed.as_deref(), c.candidate.as_str(), c.sha256.as_deref())
        };
        Self {
            host: &plan.host,
            target: &plan.target,
            undo: plan.undo,
            outside: plan.outside.as_ref(),
            changes: plan.changes.iter().map(row).collect(),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Document {
    format: u32,
    digest: PlanDigest,
    mode: Mode,
    created: Instant,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<PlanDigest>,
    hosts: Vec<HostPlan>,
}

impl TryFrom<Document> for Plan {
    type Error = PlanError;

    fn try_from(document: Document) -> Result<Self, PlanError> {
        let Document { format, digest: written, mode, created, notes, schedule, hosts } = document;
        if format != 1 {
            return Err(PlanError::Format { found: format });
        }
        let plan = Self { schedule, ..Self::new(mode, created, hosts, notes)? };
        let computed = plan.digest();
        if computed == written { Ok(plan) } else { Err(PlanError::DigestMismatch { written, computed }) }
    }
}

impl From<Plan> for Document {
    fn from(plan: Plan) -> Self {
        let digest = plan.digest();
        let Plan { mode, created, hosts, notes, schedule } = plan;
        Self { format: 1, digest, mode, created, notes, schedule, hosts }
    }
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), PlanError> {
    if count > limit { Err(PlanError::TooMany { what, count, limit }) } else { Ok(()) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

// Debian policy 5.6.1: lower case letters, digits, plus, minus, full stop; starts alphanumeric.
fn is_package_name(text: &str) -> bool {
    starts_alphanumeric(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_arch(text: &str) -> bool {
    starts_alphanumeric(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

// Debian policy 5.6.12.
fn is_version(text: &str) -> bool {
    starts_alphanumeric(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.~:".contains(&b))
}

fn starts_alphanumeric(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
