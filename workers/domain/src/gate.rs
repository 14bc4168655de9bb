//! The one gate before any package on any host changes.
//!
//! An install takes a [`Permit`], and only [`permit`] makes one: a change that covers this host and this very plan is
//! authorized and at work, its window is open, the way back is proven, the checks of the host passed and no version is held.

mod carry;
mod reboot;

use serde::{Deserialize, Serialize};

pub use carry::{CarriedPermit, CarryRefusal};
pub use reboot::{RebootPermit, RebootPolicy, may_reboot};

use crate::{
    Actor, ChangeRequest, ChangeState, Decision, Holds, HostPlan, Instant, Mode, PackageId, Plan, PlanDigest,
    UndoIntent,
};

/// Checks of a host older than this say nothing about it any more.
pub const PREFLIGHT_AGE_MS_MAX: u64 = 60 * 60 * 1000;

/// How one package comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum PackageUndo {
    /// The former .deb lies in our cache and was checked: its name, version and architecture, and its hash.
    Cached {
        /// SHA-256 of the file in hex.
        sha256: String,
        /// Its size.
        size_bytes: u64,
        /// Whether it was made again from the files that are installed, no archive having it any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rebuilt: bool,
    },
    /// The former version is still offered, but was not fetched.
    Obtainable {
        /// Who offers it.
        origin: String,
    },
    /// It comes new, and is removed on the way back.
    Remove,
    /// It comes new, and is taken away by means of the host that nobody can prove beforehand.
    Attempt {
        /// By what.
        by: String,
    },
    /// There is no former .deb to be had.
    Unprovable {
        /// Where we looked.
        why: String,
    },
}

/// The way back of one planned change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoPackage {
    /// Which package.
    #[serde(flatten)]
    pub id: PackageId,
    /// Its version before; `None` where it comes new.
    pub former: Option<String>,
    /// How it comes back.
    #[serde(flatten)]
    pub undo: PackageUndo,
}

/// How a snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// A btrfs subvolume snapshot.
    Btrfs,
    /// A snapshot of a ZFS dataset.
    Zfs,
    /// A snapshot of a logical volume.
    Lvm,
    /// A copy of the directory.
    Copy,
    /// A snapshot of a domain of libvirt, taken from outside.
    Libvirt,
    /// Snapshots of the volumes of an instance of EC2.
    Ebs,
}

/// A snapshot that is complete and was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProof {
    /// Its id.
    pub id: String,
    /// How it was made.
    pub kind: SnapshotKind,
    /// Whether it was complete and its package database equal to the host's when it was read back.
    pub verified: bool,
}

/// The way back of a host, as recorded before it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoProof {
    /// The host.
    pub host: String,
    /// The plan it was made for.
    pub digest: PlanDigest,
    /// When.
    pub at: Instant,
    /// Package by package.
    pub packages: Vec<UndoPackage>,
    /// The snapshot, where there is one.
    #[serde(default)]
    pub snapshot: Option<SnapshotProof>,
}

impl UndoProof {
    /// Planned changes of `host` that nothing takes back, by `name:arch`. Empty: the way back is proven.
    ///
    /// Where nothing changes it is enough that a former version could be fetched; where hosts change it must be here. What can
    /// only be attempted counts where the plan, which the approval binds to, says so.
    #[must_use]
    pub fn unproven(&self, host: &HostPlan, mode: Mode) -> Vec<String> {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.verified) {
            return Vec::new();
        }
        if host.undo == UndoIntent::Snapshot && mode == Mode::Apply {
            return vec!["a snapshot is planned, and there is none".to_owned()];
        }
        let proven = |change: &&crate::PlannedChange| {
            self.packages.iter().filter(|p| p.id == change.id && p.former == change.installed).any(|p| match p.undo {
                PackageUndo::Cached { .. } => true,
                PackageUndo::Remove => change.installed.is_none(),
                PackageUndo::Obtainable { .. } => mode == Mode::Observe,
                PackageUndo::Attempt { .. } => host.undo == UndoIntent::Attempt && change.installed.is_none(),
                PackageUndo::Unprovable { .. } => false,
            })
        };
        host.changes.iter().filter(|c| !proven(c)).map(|c| format!("{}:{}", c.id.name, c.id.arch)).collect()
    }
}

/// One check of a host before it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `lock`, `audit`, `disk`, `lists` …
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was found.
    #[serde(default)]
    pub detail: String,
}

/// All checks of a host before it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The host.
    pub host: String,
    /// When.
    pub at: Instant,
    /// The checks; none at all is no pass.
    pub checks: Vec<Check>,
}

/// Why a host may not change. Each has its own code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The run only observes.
    #[error("the run is in observe mode: nothing on a host may change")]
    ObserveOnly,
    /// Nobody decided.
    #[error("{change} is not approved for plan {digest} by anybody who may")]
    NotAuthorized {
        /// The change.
        change: String,
        /// The plan.
        digest: PlanDigest,
    },
    /// Somebody decided against it.
    #[error("{change} was rejected by {by}: {why}")]
    Rejected {
        /// The change.
        change: String,
        /// Who.
        by: Actor,
        /// Why.
        why: String,
    },
    /// The change holds another plan.
    #[error("{change} covers plan {covers}, not {asked}")]
    OtherPlan {
        /// The change.
        change: String,
        /// The plan it covers.
        covers: PlanDigest,
        /// The plan at hand.
        asked: PlanDigest,
    },
    /// The change or its plan does not name the host.
    #[error("{change} does not cover host '{host}'")]
    HostNotCovered {
        /// The change.
        change: String,
        /// The host.
        host: String,
    },
    /// The change is not at work.
    #[error("{change} is in {state}, hosts change in Implement only")]
    NotAtWork {
        /// The change.
        change: String,
        /// Where it stands.
        state: ChangeState,
    },
    /// Too early, or too late.
    #[error("the planned window of {change} is not open")]
    WindowClosed {
        /// The change.
        change: String,
        /// Its first instant.
        start: Instant,
        /// The first instant after it.
        end: Instant,
    },
    /// No way back was recorded.
    #[error("no way back is recorded for host '{host}'")]
    UndoMissing {
        /// The host.
        host: String,
    },
    /// The way back belongs to another plan or host.
    #[error("the way back was recorded for host '{host}' and plan {digest}, not for these")]
    UndoOfOther {
        /// Its host.
        host: String,
        /// Its plan.
        digest: PlanDigest,
    },
    /// The way back does not hold.
    #[error("the way back of host '{host}' is not proven: {}", unproven.join(", "))]
    UndoNotProven {
        /// The host.
        host: String,
        /// What nothing takes back.
        unproven: Vec<String>,
    },
    /// The host was not checked.
    #[error("host '{host}' was not checked")]
    PreflightMissing {
        /// The host.
        host: String,
    },
    /// The check is too old, or of the future.
    #[error("the checks of host '{host}' are {age_ms} ms old, the limit is {PREFLIGHT_AGE_MS_MAX}")]
    PreflightStale {
        /// The host.
        host: String,
        /// Their age.
        age_ms: u64,
    },
    /// A check did not pass.
    #[error("host '{host}' failed its checks: {}", failed.join("; "))]
    PreflightFailed {
        /// The host.
        host: String,
        /// Which, and why.
        failed: Vec<String>,
    },
    /// A version is held.
    #[error("host '{host}' would get versions that are held: {}", held.join(", "))]
    VersionHeld {
        /// The host.
        host: String,
        /// Which, and why.
        held: Vec<String>,
    },
    /// Too little of the window is left for a host to come back in.
    #[error("{left_ms} ms of the window of {change} are left, a reboot takes {reserve_ms}")]
    RebootReserve {
        /// The change.
        change: String,
        /// What is left.
        left_ms: u64,
        /// What must be left.
        reserve_ms: u64,
    },
}

impl Refusal {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ObserveOnly => "E0620",
            Self::NotAuthorized { .. } => "E0621",
            Self::Rejected { .. } => "E0622",
            Self::OtherPlan { .. } => "E0623",
            Self::HostNotCovered { .. } => "E0624",
            Self::NotAtWork { .. } => "E0625",
            Self::WindowClosed { .. } => "E0626",
            Self::UndoMissing { .. } => "E0627",
            Self::UndoOfOther { .. } => "E0628",
            Self::UndoNotProven { .. } => "E0629",
            Self::PreflightMissing { .. } => "E0630",
            Self::PreflightStale { .. } => "E0631",
            Self::PreflightFailed { .. } => "E0632",
            Self::VersionHeld { .. } => "E0874",
            Self::RebootReserve { .. } => "E0974",
        }
    }
}

/// The right to bring one host from its former versions to the planned ones.
///
/// Only [`permit`] makes one; it can be neither built nor read from anywhere, so holding it is the proof. To another machine
/// it goes as a [`CarriedPermit`], which that machine [accepts](CarriedPermit::accept) before it holds one.
#[derive(Debug)]
pub struct Permit {
    change: String,
    digest: PlanDigest,
    host: HostPlan,
    granted: Instant,
}

impl Permit {
    /// The change it was granted under.
    #[must_use]
    pub fn change(&self) -> &str {
        &self.change
    }

    /// The plan it was granted for.
    #[must_use]
    pub fn digest(&self) -> &PlanDigest {
        &self.digest
    }

    /// Exactly what may be installed, and where.
    #[must_use]
    pub fn host(&self) -> &HostPlan {
        &self.host
    }

    /// When.
    #[must_use]
    pub fn granted(&self) -> Instant {
        self.granted
    }
}

/// Everything that speaks against changing `host` now; empty where nothing does.
///
/// Also answers in observe mode, where it says what an apply run would still lack.
#[must_use]
pub fn refusals(
    change: &ChangeRequest,
    plan: &Plan,
    host: &str,
    now: Instant,
    undo: Option<&UndoProof>,
    preflight: Option<&Preflight>,
    holds: &Holds,
) -> Vec<Refusal> {
    let mut all = standing(change, plan, host, now);
    let Some(host_plan) = plan.host(host).filter(|_| change.tasks.contains_key(host)) else { return all };
    all.extend(undo_refusal(host_plan, plan.mode(), &plan.digest(), undo));
    all.extend(preflight_refusal(host, now, preflight));
    let held = holds.of_plan(host_plan, &change.number);
    all.extend((!held.is_empty()).then(|| Refusal::VersionHeld { host: host.to_owned(), held }));
    all
}

/// What speaks against touching `host` at all: the change, its plan, its window.
fn standing(change: &ChangeRequest, plan: &Plan, host: &str, now: Instant) -> Vec<Refusal> {
    let digest = plan.digest();
    let number = || change.number.clone();
    let mut all = Vec::new();
    if change.draft.mode != Mode::Apply || plan.mode() != Mode::Apply {
        all.push(Refusal::ObserveOnly);
    }
    if change.draft.digest != digest {
        all.push(Refusal::OtherPlan { change: number(), covers: change.draft.digest.clone(), asked: digest.clone() });
    }
    match change.decision().filter(|approval| approval.decision == Decision::Rejected) {
        Some(no) => {
            let why = no.comment.clone().unwrap_or_default();
            all.push(Refusal::Rejected { change: number(), by: no.by.clone(), why });
        }
        None if !change.is_authorized(&digest) => {
            all.push(Refusal::NotAuthorized { change: number(), digest: digest.clone() });
        }
        None => {}
    }
    if change.state != ChangeState::Implement {
        all.push(Refusal::NotAtWork { change: number(), state: change.state });
    }
    if !change.window_is_open(now) {
        let window = change.draft.window;
        all.push(Refusal::WindowClosed { change: number(), start: window.start, end: window.end });
    }
    if plan.host(host).is_none() || !change.tasks.contains_key(host) {
        all.push(Refusal::HostNotCovered { change: number(), host: host.to_owned() });
    }
    all
}

fn undo_refusal(plan: &HostPlan, mode: Mode, digest: &PlanDigest, undo: Option<&UndoProof>) -> Option<Refusal> {
    let Some(undo) = undo else {
        return Some(Refusal::UndoMissing { host: plan.host.clone() });
    };
    if undo.host != plan.host || &undo.digest != digest {
        return Some(Refusal::UndoOfOther { host: undo.host.clone(), digest: undo.digest.clone() });
    }
    let unproven = undo.unproven(plan, mode);
    (!unproven.is_empty()).then(|| Refusal::UndoNotProven { host: plan.host.clone(), unproven })
}

fn preflight_refusal(host: &str, now: Instant, preflight: Option<&Preflight>) -> Option<Refusal> {
    let Some(preflight) = preflight.filter(|p| p.host == host && !p.checks.is_empty()) else {
        return Some(Refusal::PreflightMissing { host: host.to_owned() });
    };
    // A check from the future is as worthless as an old one: some clock was set.
    let age_ms = now.since(preflight.at).max(preflight.at.since(now));
    if age_ms > PREFLIGHT_AGE_MS_MAX {
        return Some(Refusal::PreflightStale { host: host.to_owned(), age_ms });
    }
    let failed = preflight.checks.iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.name, c.detail));
    let failed: Vec<_> = failed.collect();
    (!failed.is_empty()).then(|| Refusal::PreflightFailed { host: host.to_owned(), failed })
}

/// The right to change `host` now as `plan` says, or every reason why not.
///
/// # Errors
/// All refusals; never an empty list.
pub fn permit(
    change: &ChangeRequest,
    plan: &Plan,
    host: &str,
    now: Instant,
    undo: Option<&UndoProof>,
    preflight: Option<&Preflight>,
    holds: &Holds,
) -> Result<Permit, Vec<Refusal>> {
    let all = refusals(change, plan, host, now, undo, preflight, holds);
    match plan.host(host) {
        Some(host) if all.is_empty() => {
            Ok(Permit { change: change.number.clone(), digest: plan.digest(), host: host.clone(), granted: now })
        }
        Some(_) | None => Err(all),
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
