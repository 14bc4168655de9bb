//! The pure heart of patching: packages, versions, findings, plans, change requests, outcomes.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time is an argument.
//! It knows nothing of workflows, of queues or of any vendor's format.

mod baseline;
mod change;
mod gate;
mod host;
mod instant;
pub mod inventory;
mod outcome;
mod package;
mod plan;

pub use baseline::{
    ApprovalRules, Baseline, BaselineError, ComplianceLevel, FilterKey, Judgement, Moment, MomentError,
    OperatingSystem, PatchApproval, PatchCandidate, PatchFilter, PatchFilters, PatchRule, RejectedAction, judge_patch,
};
pub use change::{
    Actor, Applied, Approval, ChangeRequest, ChangeState, ChangeType, CloseCode, Closure, Command, Condition, Decision,
    Draft, Event, HostTask, NextState, Note, Order, Refused, Step, Window,
};
pub use gate::{
    Check, PREFLIGHT_AGE_MS_MAX, PackageUndo, Permit, Preflight, Refusal, SnapshotKind, SnapshotProof, UndoPackage,
    UndoProof, permit, refusals,
};
pub use host::{Criticality, Environment, GROUP_TAG_PREFIX, Host, HostOs, PATCH_GROUP_TAGS};
pub use instant::Instant;
pub use outcome::{
    Cause, Drift, HostOutcome, PackageOutcome, PackageSet, PackageState, PackageVerdict, UndoWay, Verdict,
    judge_install,
};
pub use package::{InstalledPackage, MissingPatch, PackageId, SshTarget, Target};
pub use plan::{
    CHANGES_PER_HOST_MAX, HOSTS_MAX, HostPlan, Mode, Plan, PlanDigest, PlanError, PlannedChange, UndoIntent,
};
mod changelog;
mod failure;
mod finding;
mod roster;
mod urgency;
mod version;

pub use changelog::{CVES_MAX, ChangelogEntry, ChangelogSpan, between, changelog_entries, cve_ids, cve_order};
pub use failure::{
    Action, Cause as FailureCause, Diagnosis, Evidence, FAILURES_MAX, Failure, FailureKind, HostEffect, Leaves,
    Manager, Observed, Outcome as CallOutcome, Remarked, Responsible, States, causes as failure_causes, diagnose,
};
pub use finding::{Finding, Knowledge, Severity, SeverityLevel};
pub use roster::{Admission, Entry, Roster, Wave, WaveRules};
pub use urgency::{CVES_UNKNOWN, HostUrgency, Judged, Priority, Urgency, host_urgency, patch_urgency};
pub use version::{
    ApkVersion, Comparison, DebVersion, RpmVersion, VersionError, VersionFault, VersionScheme, compare_versions,
    rpm_segments_cmp,
};
