//! The facts of one run of the lifecycle, as `report.json` has them.

use std::collections::BTreeSet;

use patchloom_core::{Millis, UtcMs};
use patchloom_domain::Target;
use serde::{Deserialize, Serialize};

/// The version of the model: it changes when a reader of an older one would be misled.
pub const SCHEMA: &str = "patchloom.report/1";

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the Patchloom that wrote it.
    pub patchloom: String,
    /// The run's id.
    pub run: String,
    /// What was looked at or patched.
    pub target: Target,
    /// A name for it that people know: the host name, or the directory.
    pub target_name: String,
    /// Its operating system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: Option<String>,
    /// Whether anything was to change.
    pub mode: Mode,
    /// Nothing was downloaded.
    pub offline: bool,
    /// When it began.
    #[serde(with = "instant")]
    pub started: UtcMs,
    /// When it ended; `None` while it is under way.
    #[serde(with = "instant::maybe", default)]
    pub finished: Option<UtcMs>,
    /// How it ended.
    pub end: End,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// The package database.
    pub inventory: Inventory,
    /// What the target lacks, or lacked before it was patched.
    pub missing: Vec<Missing>,
    /// What has a newer version that was left alone.
    pub kept_back: Vec<KeptBack>,
    /// What was to be installed.
    pub plan: Option<Plan>,
    /// The change request.
    pub change: Option<Change>,
    /// What was checked, before and after.
    pub checks: Vec<Check>,
    /// Why it failed and how the way back went.
    pub failure: Option<Failure>,
    /// What a reader must know to read the figures right, such as that it ran offline.
    pub notes: Vec<String>,
}

/// Whether anything was to change on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing.
    Observe,
    /// The planned packages.
    Apply,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It has not.
    Open,
    /// Well.
    Succeeded,
    /// It failed, with nothing to put back.
    Failed,
    /// It failed, and everything was put back.
    Compensated,
    /// It was cancelled, and everything was put back.
    Cancelled,
    /// It failed, and not everything could be put back: an operator must look.
    CompensationFailed,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the workflow.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Where it stands, in the engine's words: `succeeded`, `failed`, `skipped`, `undone` …
    pub state: String,
    /// When it started.
    #[serde(with = "instant::maybe", default)]
    pub started: Option<UtcMs>,
    /// When it settled.
    #[serde(with = "instant::maybe", default)]
    pub finished: Option<UtcMs>,
    /// How often it was tried.
    pub attempts: u32,
    /// What it came to, in a line.
    #[serde(default)]
    pub text: String,
}

impl Step {
    /// How long it took; `None` where it never started or never settled.
    #[must_use]
    pub fn took(&self) -> Option<Millis> {
        Some(self.finished?.since(self.started?))
    }
}

/// Figures of the package database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Installed packages.
    pub installed: u32,
    /// Of them on hold.
    pub held: u32,
    /// Of them half-installed or half-configured.
    pub broken: u32,
}

/// How urgent a patch is, as its changelog says; ordered from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// The changelog does not say, or was not read.
    Unknown,
    /// low
    Low,
    /// medium
    Medium,
    /// high
    High,
    /// emergency
    Emergency,
    /// critical
    Critical,
}

impl Urgency {
    /// Reads the `urgency=` of a changelog.
    #[must_use]
    pub fn of(text: Option<&str>) -> Self {
        match text.map(str::to_ascii_lowercase).as_deref() {
            Some("low") => Self::Low,
            Some("medium") => Self::Medium,
            Some("high") => Self::High,
            Some("emergency") => Self::Emergency,
            Some("critical") => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Emergency => "emergency",
            Self::Critical => "critical",
        }
    }
}

/// A patch that the target lacks, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// Package name.
    pub name: String,
    /// Architecture.
    pub arch: String,
    /// Version before; `None` for a package that comes new with the upgrade.
    pub installed: Option<String>,
    /// Version after.
    pub candidate: String,
    /// Source package.
    pub source: String,
    /// The archive it comes from.
    pub origin: String,
    /// Whether that is a security archive.
    pub security: bool,
    /// How urgent.
    pub urgency: Urgency,
    /// CVE ids it fixes, sorted.
    pub cves: Vec<String>,
    /// Size of the download in bytes.
    pub size_bytes: Option<u64>,
    /// Whether the former version can be put back.
    pub undo: Undo,
    /// What became of it: `installed`, `simulated`, `failed`, `rolled_back`, `not_attempted`.
    pub outcome: Option<String>,
    /// Why the CVE list may be incomplete, where it may.
    pub note: Option<String>,
}

/// Whether a patch can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Proven before anything changed.
    pub proven: bool,
    /// How: `old .deb cached (sha256:…)`, `btrfs snapshot`; or why not.
    pub how: String,
}

/// [`Undo::how`] of a patch whose way back was not looked for, because the run did not come that far.
pub const NOT_LOOKED_FOR: &str = "not looked for";

/// A newer version that was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// Package name.
    pub name: String,
    /// Version installed.
    pub installed: String,
    /// Version on offer.
    pub candidate: String,
    /// Why: on hold, or it would need other packages removed.
    pub reason: String,
}

/// What was to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its content digest, `sha256:…`: what an approval binds to.
    pub digest: String,
    /// How many packages.
    pub packages: u32,
    /// How much to download, in bytes.
    pub download_bytes: u64,
}

/// The change request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub number: String,
    /// standard, normal or emergency.
    pub kind: String,
    /// New, Assess, Authorize, Scheduled, Implement, Review, Closed or Canceled.
    pub state: String,
    /// successful, successful_issues or unsuccessful, once closed.
    pub close_code: Option<String>,
    /// Who asked.
    pub requester: String,
    /// Who decided.
    pub approvals: Vec<Approval>,
    /// What was noted, the oldest first.
    pub notes: Vec<WorkNote>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Who: a person, or the policy by its name.
    pub by: String,
    /// approved or rejected.
    pub decision: String,
    /// When.
    #[serde(with = "instant")]
    pub at: UtcMs,
    /// The digest of the plan it holds for.
    pub plan: String,
    /// What was said with it.
    #[serde(default)]
    pub comment: String,
}

/// A work note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkNote {
    /// When.
    #[serde(with = "instant")]
    pub at: UtcMs,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Good.
    Passed,
    /// Worth a look.
    Warned,
    /// Bad.
    Failed,
    /// Not made.
    Skipped,
}

/// Something that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When: `before` or `after`.
    pub phase: String,
    /// What.
    pub name: String,
    /// How it came out.
    pub state: CheckState,
    /// The facts.
    pub text: String,
}

/// Why the run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// A code for `patchloom explain`, or a name.
    pub code: String,
    /// The cause.
    pub message: String,
    /// What was put back, in the order it was.
    pub way_back: Vec<WayBack>,
    /// Whether the package set is again exactly what it was; `None` where nobody looked.
    pub as_before: Option<bool>,
}

/// One step of the way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    /// The step that was undone.
    pub step: String,
    /// How it went: `undone`, `failed`, `skipped`.
    pub state: String,
    /// The facts.
    pub text: String,
}

/// A name and how often it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The name.
    pub name: String,
    /// How often.
    pub count: usize,
}

/// The figures a reader wants first; all derived from the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Missing patches.
    pub missing: usize,
    /// Of them from a security archive.
    pub security: usize,
    /// Distinct CVE ids.
    pub cves: usize,
    /// Patches whose undo is proven.
    pub undoable: usize,
    /// The most urgent patch.
    pub most_urgent: Urgency,
    /// Patches by urgency, the most urgent first; none with zero.
    pub by_urgency: Vec<Count>,
    /// Bytes to download.
    pub download_bytes: u64,
}

impl Report {
    /// The figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        use Urgency::{Critical, Emergency, High, Low, Medium, Unknown};
        let of = |urgency: Urgency| self.missing.iter().filter(|patch| patch.urgency == urgency).count();
        let cves: BTreeSet<&str> = self.missing.iter().flat_map(|patch| &patch.cves).map(String::as_str).collect();
        Figures {
            missing: self.missing.len(),
            security: self.missing.iter().filter(|patch| patch.security).count(),
            cves: cves.len(),
            undoable: self.missing.iter().filter(|patch| patch.undo.proven).count(),
            most_urgent: self.missing.iter().map(|patch| patch.urgency).max().unwrap_or(Unknown),
            by_urgency: [Critical, Emergency, High, Medium, Low, Unknown]
                .into_iter()
                .map(|urgency| Count { name: urgency.word().to_owned(), count: of(urgency) })
                .filter(|row| row.count > 0)
                .collect(),
            download_bytes: self.missing.iter().filter_map(|patch| patch.size_bytes).fold(0, u64::saturating_add),
        }
    }

    /// The missing patches, the most pressing first: security, urgency, number of CVEs, name.
    #[must_use]
    pub fn by_pressure(&self) -> Vec<&Missing> {
        let mut patches: Vec<&Missing> = self.missing.iter().collect();
        patches.sort_by(|a, b| {
            let pressure = |patch: &Missing| (patch.security, patch.urgency, patch.cves.len());
            pressure(b).cmp(&pressure(a)).then_with(|| a.name.cmp(&b.name))
        });
        patches
    }

    /// How long it took; `None` while it is under way.
    #[must_use]
    pub fn took(&self) -> Option<Millis> {
        Some(self.finished?.since(self.started))
    }

    /// Whether the install was begun.
    #[must_use]
    pub fn was_attempted(&self) -> bool {
        self.missing.iter().any(|patch| patch.outcome.as_deref().is_some_and(|outcome| outcome != "not_attempted"))
    }

    /// The verdict in one sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        let patches = |n: usize| if n == 1 { "1 patch".to_owned() } else { format!("{n} patches") };
        let missing = self.missing.len();
        match (self.end, self.mode) {
            (End::Open, _) => "Under way".to_owned(),
            (End::Succeeded, _) if missing == 0 => "Nothing is missing".to_owned(),
            (End::Succeeded, Mode::Observe) => format!("{} missing; nothing was changed", patches(missing)),
            (End::Succeeded, Mode::Apply) => format!("{} installed and verified", patches(missing)),
            (End::Failed, Mode::Observe) => "The run failed; nothing was changed".to_owned(),
            (End::Failed, Mode::Apply) => "The run failed before anything was changed".to_owned(),
            (End::Compensated, Mode::Observe) => "The run failed and was unwound; nothing was changed".to_owned(),
            (End::Compensated, Mode::Apply) if !self.was_attempted() => {
                "The run failed before anything was changed".to_owned()
            }
            (End::Compensated, Mode::Apply) => "The patch failed and was rolled back".to_owned(),
            (End::Cancelled, _) => "The run was cancelled and unwound".to_owned(),
            (End::CompensationFailed, _) => "The way back failed: an operator must look".to_owned(),
        }
    }
}

/// Instants as RFC 3339 in UTC.
mod instant {
    use patchloom_core::UtcMs;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::output::time::{parse_rfc3339, rfc3339};

    pub(super) fn serialize<S: Serializer>(at: &UtcMs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&rfc3339(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UtcMs, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rfc3339(&text).ok_or_else(|| de::Error::custom(format!("'{text}' is no RFC 3339 instant since 1970")))
    }

    pub(super) mod maybe {
        use super::{Deserializer, Serializer, UtcMs, de, parse_rfc3339};
        use serde::Deserialize as _;

        pub(in super::super) fn serialize<S: Serializer>(at: &Option<UtcMs>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<UtcMs>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| {
                parse_rfc3339(&text).ok_or_else(|| de::Error::custom(format!("'{text}' is no RFC 3339 instant")))
            })
            .transpose()
        }
    }
}
