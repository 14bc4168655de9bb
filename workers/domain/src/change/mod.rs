//! A change request after ServiceNow: who may do what to which hosts, when, and what came of it.
//!
//! The states and fields are here, the rules in `machine`. It knows nothing of where requests are kept.

mod machine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EvidenceSeal, HostOutcome, Instant, Mode, PlanDigest};

pub use machine::{Applied, Command, Condition, Event, NextState, Order, Refused};

/// How much ceremony a change takes.
///
/// # Source
/// ServiceNow change management: standard skips Assess and Authorize, emergency skips Assess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeType {
    /// Authorized beforehand by a policy.
    Standard,
    /// Assessed and authorized.
    Normal,
    /// Authorized without assessment.
    Emergency,
}

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeState {
    /// Written, not submitted.
    New,
    /// Its risk is looked at.
    Assess,
    /// Waits for its approval.
    Authorize,
    /// Approved, waits for its window.
    Scheduled,
    /// Hosts change.
    Implement,
    /// Hosts are done; results are looked at.
    Review,
    /// Over, with a close code.
    Closed,
    /// Over, before any host was touched.
    Canceled,
}

impl ChangeState {
    /// ServiceNow's number of the state.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::New => -5,
            Self::Assess => -4,
            Self::Authorize => -3,
            Self::Scheduled => -2,
            Self::Implement => -1,
            Self::Review => 0,
            Self::Closed => 3,
            Self::Canceled => 4,
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Canceled)
    }
}

impl fmt::Display for ChangeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a closed change came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// Every host is as planned.
    Successful,
    /// Some hosts are as planned, the notes name the others.
    SuccessfulIssues,
    /// Rolled back, or failed.
    Unsuccessful,
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Successful => "successful",
            Self::SuccessfulIssues => "successful_issues",
            Self::Unsuccessful => "unsuccessful",
        })
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Actor {
    /// A program, such as `patchloom`.
    Service(String),
    /// A person, by the name of their account.
    Person(String),
    /// A rule that authorizes beforehand, such as `observe-runs`.
    Policy(String),
}

impl Actor {
    /// The bare name: what a requester and an approver must not share, whatever their kinds.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Service(name) | Self::Person(name) | Self::Policy(name) => name,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => f.write_str(name),
            Self::Person(name) => write!(f, "{name} (person)"),
            Self::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

/// What somebody decided about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go ahead with this very plan.
    Approved,
    /// Do not.
    Rejected,
}

/// A decision, bound to the plan it was made about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who decided.
    pub by: Actor,
    /// When.
    pub at: Instant,
    /// About which plan.
    pub digest: PlanDigest,
    /// What.
    pub decision: Decision,
    /// Why; a rejection has it always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Why it no longer holds, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<String>,
}

/// A work note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who wrote it.
    pub by: Actor,
    /// When.
    pub at: Instant,
    /// The text.
    pub text: String,
    /// The same key is written once.
    pub key: String,
}

/// The planned time of a change: from `start` on, and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant in it.
    pub start: Instant,
    /// First instant after it.
    pub end: Instant,
}

impl Window {
    /// Whether `now` lies in it.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.start <= now && now < self.end
    }
}

/// The task of one host on the change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTask {
    /// When the first change on the host was about to happen: from here on it counts as touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<Instant>,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<HostOutcome>,
}

/// How a change was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The close code.
    pub code: CloseCode,
    /// What a person should know; never empty.
    pub notes: String,
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: Actor,
}

/// One transition that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From which state; `None` for its birth.
    pub from: Option<ChangeState>,
    /// To which.
    pub to: ChangeState,
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: Actor,
}

/// What a change is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// One line.
    pub title: String,
    /// The type.
    pub kind: ChangeType,
    /// Whether hosts may change.
    pub mode: Mode,
    /// Who asks for it.
    pub requester: Actor,
    /// The plan.
    pub digest: PlanDigest,
    /// Where the plan lies.
    #[serde(default)]
    pub plan: Option<String>,
    /// Its planned time.
    pub window: Window,
    /// The hosts it covers.
    pub hosts: Vec<String>,
    /// What will be done, in words.
    pub implementation_plan: String,
    /// How it is undone, in words.
    pub backout_plan: String,
    /// How its success is checked, in words.
    pub test_plan: String,
    /// What could go wrong, in words.
    pub risk: String,
}

/// A change request.
///
/// # Shape
/// Grows by [`ChangeRequest::apply`] alone; everything in it can be read by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// `CHG0000001`.
    pub number: String,
    /// What makes its creation idempotent: the run that asked for it.
    pub correlation_id: String,
    /// Where it stands.
    pub state: ChangeState,
    /// What it was opened with; the digest and hosts are those of the present plan.
    #[serde(flatten)]
    pub draft: Draft,
    /// When it was opened.
    pub opened: Instant,
    /// When hosts began to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_start: Option<Instant>,
    /// When they were done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_end: Option<Instant>,
    /// All decisions, void ones too.
    pub approvals: Vec<Approval>,
    /// Task by host.
    pub tasks: BTreeMap<String, HostTask>,
    /// Work notes in order.
    pub notes: Vec<Note>,
    /// How it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<Closure>,
    /// Why it was canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled_why: Option<String>,
    /// Every transition.
    pub history: Vec<Step>,
    /// Counts its changes, from 1.
    pub revision: u64,
    /// How far its evidence went when it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceSeal>,
}

impl ChangeRequest {
    /// A change in state New.
    #[must_use]
    pub fn open(number: String, correlation_id: String, draft: Draft, at: Instant) -> Self {
        let tasks = draft.hosts.iter().map(|host| (host.clone(), HostTask::default())).collect();
        let step = Step { from: None, to: ChangeState::New, at, by: draft.requester.clone() };
        Self {
            number,
            correlation_id,
            state: ChangeState::New,
            draft,
            opened: at,
            work_start: None,
            work_end: None,
            approvals: Vec::new(),
            tasks,
            notes: Vec::new(),
            closure: None,
            canceled_why: None,
            history: vec![step],
            revision: 1,
            evidence: None,
        }
    }

    /// The decision that stands for the present plan: the last one that is not void.
    #[must_use]
    pub fn decision(&self) -> Option<&Approval> {
        self.approvals.iter().rev().find(|a| a.void.is_none() && a.digest == self.draft.digest)
    }

    /// Whether this very plan is authorized by someone who may.
    ///
    /// A plan that changes hosts takes a person, or a policy where the change is of type standard. Observe runs and
    /// standard changes may be authorized by a policy. Never the requester.
    #[must_use]
    pub fn is_authorized(&self, digest: &PlanDigest) -> bool {
        let decided = self.decision().filter(|a| a.decision == Decision::Approved && &a.digest == digest);
        decided.is_some_and(|approval| self.may_approve(&approval.by))
    }

    /// Whether this one may approve this change at all.
    #[must_use]
    pub fn may_approve(&self, by: &Actor) -> bool {
        let apart = by.name() != self.draft.requester.name();
        apart
            && match (by, self.draft.mode, self.draft.kind) {
                (Actor::Person(_), _, _)
                | (Actor::Policy(_), Mode::Observe, _)
                | (Actor::Policy(_), Mode::Apply, ChangeType::Standard) => true,
                (Actor::Policy(_), Mode::Apply, ChangeType::Normal | ChangeType::Emergency)
                | (Actor::Service(_), _, _) => false,
            }
    }

    /// Whether any host has been touched.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.tasks.values().any(|task| task.touched.is_some())
    }

    /// Whether its planned time has begun and not ended.
    #[must_use]
    pub fn window_is_open(&self, now: Instant) -> bool {
        self.draft.window.is_open(now)
    }
}
