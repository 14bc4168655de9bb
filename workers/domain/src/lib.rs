//! The pure heart of patching: packages, versions, findings, plans, change requests, outcomes.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time is an argument.
//! It knows nothing of workflows, of queues or of any vendor's format.

mod baseline;
mod campaign;
mod change;
mod cluster;
mod evidence;
mod gate;
mod hold;
mod host;
mod instant;
pub mod inventory;
mod outcome;
mod outside;
mod package;
mod plan;
pub mod probe;

pub use baseline::{
    ApprovalRules, Baseline, BaselineError, ComplianceLevel, FilterKey, Judgement, Moment, MomentError,
    OperatingSystem, PatchApproval, PatchCandidate, PatchFilter, PatchFilters, PatchRule, RejectedAction, judge_patch,
};
pub use campaign::{
    CampaignPlan, CampaignPlanError, Chance, CutoffRule, DriftKind, Due, Durations, Ending, Estimate, FailureRates,
    Forecast, Found, HOSTS_REMEMBERED_MAX, LOOKS_MAX, LeftOut, LeftOutReason, Limits, Need, NeedError, NotNow,
    Occurrence, Offer, PACKAGES_MAX, Part, PartForecast, PlanDrift, PlanInput, PlanSettings, PlannedWave, ROUNDS_MAX,
    RebootRule, Repair, SimulationSettings, Slot, VersionHold, WAVES_MAX, WaveRule, WaveSize, Withheld, WithheldReason,
    Work, baseline_of, look, not_now, plan_campaign, plan_drift, read_needs, simulate,
};
pub use change::{
    Actor, Applied, Approval, ChangeRequest, ChangeState, ChangeType, CloseCode, Closure, Command, Condition, Decision,
    Draft, Event, HostTask, NextState, Note, Order, Refused, Step, Window,
};
pub use cluster::{
    ALPHA as CLUSTER_ALPHA, BASE_DEVIATIONS, CAMPAIGN_CAUSES, CAMPAIGN_HOSTS_MAX, CAMPAIGN_PAIRS_MAX,
    CAMPAIGN_PATCHES_MAX, CampaignHost, CampaignOutcomes, CampaignPatch, CampaignVerdict, ClusterClass,
    ClusterDecision, ClusterError, Concentration, Counts as CampaignCounts, Dimension, FAILURES_MIN, HISTORY_MAX,
    HostResult, Monitor, NATS_ALIKE, OneOff, PRIOR_FAILED, PRIOR_HOSTS, PastRate, RATE_MORE_MIN, RATE_RATIO_MIN,
    Remedy, Rival, Scope, Systemic, judge_campaign, judge_monitored,
};
pub use evidence::{
    EVIDENCE_BYTES_MAX, EVIDENCE_LINE_BYTES_MAX, EvidenceChain, EvidenceCommand, EvidenceEntry, EvidenceError,
    EvidenceFact, EvidenceSeal, change_digest, first_link, next_entry, package_set_digest, read_evidence, sha256_hex,
    verify_evidence,
};
pub use gate::{
    CarriedPermit, CarryRefusal, Check, PREFLIGHT_AGE_MS_MAX, PackageUndo, Permit, Preflight, RebootPermit,
    RebootPolicy, Refusal, SnapshotKind, SnapshotProof, UndoPackage, UndoProof, may_reboot, permit, refusals,
};
pub use hold::{
    HOLD_CAUSES_MAX, HOLDS_MAX, Hold, HoldCause, HoldError, HoldKey, HoldRelease, HoldScope, Holds, blamed,
};
pub use host::{Criticality, Environment, GROUP_TAG_PREFIX, Host, HostOs, PATCH_GROUP_TAGS};
pub use instant::Instant;
pub use outcome::{
    Cause, Drift, HostOutcome, PackageOutcome, PackageSet, PackageState, PackageVerdict, UndoWay, Verdict,
    judge_install,
};
pub use outside::{NotOutside, Outside};
pub use package::{InstalledPackage, Machine, MissingPatch, PackageId, SshTarget, SsmTarget, Target};
pub use plan::{
    CHANGES_PER_HOST_MAX, HOSTS_MAX, HostPlan, Mode, Plan, PlanDigest, PlanError, PlannedChange, UndoIntent,
};
mod changelog;
pub mod correlate;
mod failure;
mod finding;
mod residual;
pub mod risk;
mod roster;
mod urgency;
mod version;
pub mod windows;

pub use changelog::{
    CVES_MAX, ChangelogEntry, ChangelogSpan, between, changelog_date, changelog_entries, cve_ids, cve_order,
};
pub use failure::{
    Action, Adjustment, Cause as FailureCause, Diagnosis, Evidence, FAILURES_MAX, Failure, FailureKind, HostEffect,
    Leaves, Manager, Observed, Outcome as CallOutcome, Remarked, Responsible, States, causes as failure_causes,
    diagnose,
};
pub use finding::{Finding, Knowledge, Severity, SeverityLevel};
pub use residual::{
    HostNow, KernelNow, LISTS_AGE_MS_MAX, OfferNow, Residual, ResidualReason, newer_kernel, residual, residual_counts,
    unfixed_packages,
};
pub use roster::{Admission, Entry, Pardon, PausedScope, Roster};
pub use urgency::{CVES_UNKNOWN, HostUrgency, Judged, Priority, Urgency, host_urgency, patch_urgency};
pub use version::{
    ApkVersion, Comparison, DebVersion, RpmVersion, VersionError, VersionFault, VersionScheme, compare_versions,
    rpm_segments_cmp,
};
