//! A campaign plan: who is patched when, to which exact versions, in which wave and window, and who is left out and why.
//!
//! Its digest covers what an approval means and nothing else; a document whose content does not match it is refused.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::estimate::Estimate;
use super::window::{CutoffRule, Occurrence};
use crate::plan::hex;
use crate::{Environment, HostPlan, Instant, Plan, PlanDigest, PlanError};

/// How many hosts may be at work at once; of a cluster always one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Over all.
    pub max_parallel: u32,
    /// Behind one relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_relay: Option<u32>,
    /// In one site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_site: Option<u32>,
}

/// A wave of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWave {
    /// Its name.
    pub name: String,
    /// How many hosts it has: the size that the engine's `for_each.waves` takes.
    pub hosts: u32,
    /// How long after its last host nothing happens.
    pub soak_ms: u64,
    /// So many of its hosts may fail, with one more nobody begins behind it; where it is not said, all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// That of all its hosts; none for canaries, which come from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Whether several nodes of one cluster may be in it, one after another.
    pub cluster_nodes_together: bool,
    /// When its first host is expected to start.
    pub start: Instant,
    /// When its last host is expected to be through.
    pub end: Instant,
}

/// Where a host stands in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The host's id.
    pub host: String,
    /// Index of its wave.
    pub wave: u32,
    /// The calendar of its window.
    pub window: String,
    /// The occurrence it is planned for.
    pub occurrence: Occurrence,
    /// When it is expected to start.
    pub start: Instant,
    /// When it is expected to be through.
    pub end: Instant,
    /// When it is through at the latest: start, p95 and reserve; always within the occurrence.
    pub latest_end: Instant,
    /// How long it takes.
    pub estimate: Estimate,
    /// What is kept free for a reboot.
    pub reboot_reserve_ms: u64,
    /// Whether one is expected.
    pub reboot: bool,
    /// It has to be through by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Instant>,
    /// What it looks like.
    pub look: String,
    /// Its relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How likely one attempt fails, in thousandths of a percent.
    pub failure_pcm: u32,
    /// How unsure that is: a deviation, in the same unit.
    pub failure_doubt_pcm: u32,
    /// Why it is where it is.
    pub why: String,
}

/// Why a host is not in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// It lacks nothing.
    NothingMissing,
    /// What it lacks is not approved, rejected or held.
    NothingApproved,
    /// Nobody looked what it lacks.
    NotScanned,
    /// It was scanned and is in no inventory.
    NotInInventory,
    /// It cannot be patched.
    NotPatchable,
    /// There is no way back.
    NoUndo,
    /// Its patch groups or baselines contradict each other, so that nobody can say what holds for it.
    Conflict,
    /// It has no window, or none with room for it.
    NoWindow,
    /// It has windows with room, all of them too late.
    NoWindowBeforeDeadline,
}

/// A host that is not in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The host's id.
    pub host: String,
    /// The class of the reason.
    pub reason: LeftOutReason,
    /// The reason for a person.
    pub why: String,
}

/// Why a patch stays out of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithheldReason {
    /// The baseline approves it later.
    Pending,
    /// The baseline approves it later than what it fixes has to be fixed.
    PendingPastDeadline,
    /// The baseline rejects it.
    Rejected,
    /// No rule of the baseline sees it.
    NotMatched,
    /// No baseline is for such hosts.
    NoBaseline,
    /// The version is held for the whole fleet.
    HeldVersion,
    /// The package is held on the host.
    HeldOnHost,
}

/// A patch that stays out of the plan, on so many hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Its package.
    pub package: String,
    /// The version.
    pub candidate: String,
    /// The class of the reason.
    pub reason: WithheldReason,
    /// The reason for a person.
    pub why: String,
    /// On how many hosts.
    pub hosts: u32,
    /// The first of them.
    pub first: String,
}

/// The cheapest way to get hosts in before their deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The calendar that lacks a window.
    pub window: String,
    /// The hosts, sorted.
    pub hosts: Vec<String>,
    /// An extra window of so many minutes would do; none where even one that opens at once is too late.
    pub minutes: Option<u64>,
    /// It opens by then.
    pub opens_by: Option<Instant>,
    /// It is over by then: the first deadline.
    pub before: Instant,
    /// What to do, in a sentence.
    pub advice: String,
}

/// The plan.
///
/// # Shape
/// Slots stand in the order in which the hosts go: wave by wave, by start. Each slot has its host in `plan` and the other
/// way round; no host is both planned and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct CampaignPlan {
    pub(super) body: Body,
}

/// All of a plan but its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub plan: Plan,
    pub limits: Limits,
    pub cutoff: CutoffRule,
    pub waves: Vec<PlannedWave>,
    pub slots: Vec<Slot>,
    pub left_out: Vec<LeftOut>,
    pub withheld: Vec<Withheld>,
    pub repairs: Vec<Repair>,
    /// How many samples the estimates rest on.
    pub samples: u64,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Document {
    format: String,
    digest: PlanDigest,
    #[serde(flatten)]
    body: Body,
}

const FORMAT: &str = "patchloom.campaign-plan/1";

/// Why a document is no campaign plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CampaignPlanError {
    /// The hosts' part is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another format.
    #[error("the document has format '{found}', this version reads '{FORMAT}'")]
    Format {
        /// The format in the document.
        found: String,
    },
    /// Host parts and slots do not match.
    #[error("host '{host}' {what}")]
    Shape {
        /// The host.
        host: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
}

impl CampaignPlan {
    /// The exact versions per host.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.body.plan
    }

    /// How many hosts may be at work at once.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.body.limits
    }

    /// What the cutoff of windows asks.
    #[must_use]
    pub fn cutoff(&self) -> CutoffRule {
        self.body.cutoff
    }

    /// The waves.
    #[must_use]
    pub fn waves(&self) -> &[PlannedWave] {
        &self.body.waves
    }

    /// Who is patched when, in the order in which the hosts go.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.body.slots
    }

    /// Where a host stands.
    #[must_use]
    pub fn slot(&self, host: &str) -> Option<&Slot> {
        self.body.slots.iter().find(|slot| slot.host == host)
    }

    /// Who is not in it, sorted by id.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.body.left_out
    }

    /// Which patches are not in it.
    #[must_use]
    pub fn withheld(&self) -> &[Withheld] {
        &self.body.withheld
    }

    /// What would get hosts in that find no window before their deadline.
    #[must_use]
    pub fn repairs(&self) -> &[Repair] {
        &self.body.repairs
    }

    /// How many samples the estimates rest on.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.body.samples
    }

    /// What a person should know about it.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.body.notes
    }

    /// The content address of what an approval means: the digest of [`plan`](Self::plan), which covers exact versions, hashes
    /// and ways back, and is bound to limits, waves with their soak times and tolerances, and each host's wave and window.
    /// Neither estimates and times within a window nor reasons, notes, CVEs, deadlines and who is left out.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        self.body.plan.digest()
    }

    /// The hosts' parts in the order in which they go: the `items` of a fan-out whose waves have the sizes of
    /// [`waves`](Self::waves).
    pub fn items(&self) -> impl Iterator<Item = (&Slot, &HostPlan)> {
        self.body.slots.iter().filter_map(|slot| Some((slot, self.body.plan.host(&slot.host)?)))
    }
}

impl Body {
    /// The content address of who goes when.
    fn schedule(&self) -> PlanDigest {
        #[derive(Serialize)]
        struct Canonical<'a> {
            format: &'static str,
            limits: (u32, Option<u32>, Option<u32>),
            cutoff: CutoffRule,
            waves: Vec<(&'a str, u64, Option<u32>)>,
            hosts: Vec<(&'a str, u32, &'a str, u64, u64, u64)>,
        }
        let row = |slot| {
            let Slot { host, wave, window, occurrence, .. }: &Slot = slot;
            let Occurrence { open, close, last_start } = occurrence;
            (host.as_str(), *wave, window.as_str(), open.0, close.0, last_start.0)
        };
        let mut hosts: Vec<_> = self.slots.iter().map(row).collect();
        hosts.sort_unstable();
        let canonical = Canonical {
            format: FORMAT,
            limits: (self.limits.max_parallel, self.limits.per_relay, self.limits.per_site),
            cutoff: self.cutoff,
            waves: self.waves.iter().map(|wave| (wave.name.as_str(), wave.soak_ms, wave.failures)).collect(),
            hosts,
        };
        let text = serde_json::to_vec(&canonical).expect("strings and numbers always have a JSON form");
        let text = format!("sha256:{}", hex(&Sha256::digest(&text)));
        PlanDigest::try_from(text).expect("64 hex digits are a digest")
    }

    /// Checks that hosts and slots belong together, and binds the plan to what it says of waves and windows.
    pub fn finished(mut self) -> Result<CampaignPlan, CampaignPlanError> {
        let wrong = |host: &str, what| Err(CampaignPlanError::Shape { host: host.to_owned(), what });
        let mut names: Vec<&str> = self.slots.iter().map(|slot| slot.host.as_str()).collect();
        names.sort_unstable();
        if let Some(two) = names.windows(2).find(|two| two[0] == two[1]) {
            return wrong(two[0], "stands in the plan twice");
        }
        if let Some(host) = self.plan.hosts().iter().find(|host| names.binary_search(&host.host.as_str()).is_err()) {
            return wrong(&host.host, "has versions and no place in a wave");
        }
        if let Some(name) = names.iter().find(|name| self.plan.host(name).is_none()) {
            return wrong(name, "has a place in a wave and no versions");
        }
        if let Some(left) = self.left_out.iter().find(|left| names.binary_search(&left.host.as_str()).is_ok()) {
            return wrong(&left.host, "is both planned and left out");
        }
        let waves = u32::try_from(self.waves.len()).unwrap_or(u32::MAX);
        if let Some(slot) = self.slots.iter().find(|slot| slot.wave >= waves) {
            return wrong(&slot.host, "stands in a wave that there is not");
        }
        let schedule = self.schedule();
        self.plan = self.plan.bound_to(schedule);
        Ok(CampaignPlan { body: self })
    }
}

impl TryFrom<Document> for CampaignPlan {
    type Error = CampaignPlanError;

    fn try_from(document: Document) -> Result<Self, CampaignPlanError> {
        if document.format != FORMAT {
            return Err(CampaignPlanError::Format { found: document.format });
        }
        let plan = document.body.finished()?;
        let computed = plan.digest();
        if computed != document.digest {
            return Err(PlanError::DigestMismatch { written: document.digest, computed }.into());
        }
        Ok(plan)
    }
}

impl From<CampaignPlan> for Document {
    fn from(plan: CampaignPlan) -> Self {
        Self { format: FORMAT.to_owned(), digest: plan.digest(), body: plan.body }
    }
}
