//! The facts that tasks of the lifecycle tell: `patchloom.host.*` about hosts, `patchloom.change.*` about change requests.
//!
//! Their shapes stand in `docs/asyncapi.yaml`, which a test holds against what is told.

use patchloom_core::{Failure, FailureClass};
use patchloom_domain::{ChangeRequest, Target};
use serde_json::{Map, Value, json};

use crate::runtime::TaskContext;

/// What can become true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The package database of a host was read.
    HostScanned,
    /// It is known what a host lacks, and what that would fix.
    HostAssessed,
    /// The way back of each package is recorded.
    HostBackedUp,
    /// A root directory was snapshotted.
    HostSnapshotted,
    /// The install was simulated: nothing changed.
    HostSimulated,
    /// The planned versions are installed.
    HostPatched,
    /// The package set was read again and is as it should be.
    HostVerified,
    /// The host is as it was before.
    HostRolledBack,
    /// It did not work, for good.
    HostFailed,
    /// A change was opened and submitted.
    ChangeRaised,
    /// Its plan is authorized.
    ChangeAuthorized,
    /// Somebody refused it.
    ChangeRejected,
    /// It moved, or something was written on it.
    ChangeUpdated,
    /// It is over, with a close code.
    ChangeClosed,
    /// It was given up before any host was touched.
    ChangeCanceled,
}

impl Fact {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::HostScanned,
        Self::HostAssessed,
        Self::HostBackedUp,
        Self::HostSnapshotted,
        Self::HostSimulated,
        Self::HostPatched,
        Self::HostVerified,
        Self::HostRolledBack,
        Self::HostFailed,
        Self::ChangeRaised,
        Self::ChangeAuthorized,
        Self::ChangeRejected,
        Self::ChangeUpdated,
        Self::ChangeClosed,
        Self::ChangeCanceled,
    ];

    /// The type of its event.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::HostScanned => "patchloom.host.scanned",
            Self::HostAssessed => "patchloom.host.assessed",
            Self::HostBackedUp => "patchloom.host.backed_up",
            Self::HostSnapshotted => "patchloom.host.snapshotted",
            Self::HostSimulated => "patchloom.host.simulated",
            Self::HostPatched => "patchloom.host.patched",
            Self::HostVerified => "patchloom.host.verified",
            Self::HostRolledBack => "patchloom.host.rolled_back",
            Self::HostFailed => "patchloom.host.failed",
            Self::ChangeRaised => "patchloom.change.raised",
            Self::ChangeAuthorized => "patchloom.change.authorized",
            Self::ChangeRejected => "patchloom.change.rejected",
            Self::ChangeUpdated => "patchloom.change.updated",
            Self::ChangeClosed => "patchloom.change.closed",
            Self::ChangeCanceled => "patchloom.change.canceled",
        }
    }
}

/// Tells a fact about a host; `data` is a map.
pub(crate) fn host(context: &TaskContext, fact: Fact, host: &str, data: Value) {
    let mut facts = Map::from_iter([("host".to_owned(), json!(host))]);
    if let Value::Object(data) = data {
        facts.extend(data);
    }
    context.tell(fact.kind(), host, facts);
}

/// Tells that something did not work on a host, unless it will be tried again: then it is not over.
pub(crate) fn failed(context: &TaskContext, name: &str, phase: &str, change: Option<&str>, failure: &Failure) {
    if failure.class != FailureClass::Transient {
        let data = json!({ "phase": phase, "change": change, "code": failure.code, "message": failure.message });
        host(context, Fact::HostFailed, name, data);
    }
}

/// Tells a fact about a change as it is now; `more` is a map.
pub(crate) fn change(context: &TaskContext, fact: Fact, change: &ChangeRequest, more: Value) {
    let mut facts = Map::from_iter([
        ("number".to_owned(), json!(change.number)),
        ("state".to_owned(), json!(change.state)),
        ("kind".to_owned(), json!(change.draft.kind)),
        ("mode".to_owned(), json!(change.draft.mode)),
        ("digest".to_owned(), json!(change.draft.digest)),
        ("hosts".to_owned(), json!(change.draft.hosts.len())),
    ]);
    if let Value::Object(more) = more {
        facts.extend(more);
    }
    context.tell(fact.kind(), &change.number, facts);
}

/// What a host without a name of its own is called: its machine, or its directory.
pub(crate) fn host_name(target: &Target) -> String {
    match target {
        Target::Local => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
        }
        Target::Root { path } => path.clone(),
        Target::Ssh(ssh) | Target::Windows(ssh) => ssh.host.clone(),
        Target::Ssm(ssm) => ssm.instance.clone(),
    }
}
