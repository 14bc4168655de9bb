//! Patch baselines as AWS Systems Manager has them: which patches are approved, when, and why. Knows no host.
//!
//! The names, limits and JSON are those of the SSM API, so that a baseline comes in and goes out as it is. One thing is
//! more: delays count on Debian and Ubuntu too, by the date of the changelog or of the day a patch was first seen.

mod evaluate;
mod model;
mod time;

pub use evaluate::{Approval as PatchApproval, Judgement, judge_patch};
pub use model::{
    ApprovalRules, Baseline, BaselineError, ComplianceLevel, FilterKey, OperatingSystem, PatchCandidate, PatchFilter,
    PatchFilters, PatchRule, RejectedAction,
};
pub use time::{Moment, MomentError};
