//! What is known of a campaign: hosts with all that may explain a failure, what became of them, and what was usual.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FailureKind, Responsible, failure_causes};

/// A campaign has at most so many hosts.
pub const CAMPAIGN_HOSTS_MAX: usize = 100_000;
/// A host has at most so many patches in one campaign.
pub const CAMPAIGN_PATCHES_MAX: usize = 2_000;
/// All hosts together have at most so many patches.
pub const CAMPAIGN_PAIRS_MAX: usize = 2_000_000;
/// At most so many rows of history are looked at.
pub const HISTORY_MAX: usize = 1_000;

/// What is known of a campaign so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignOutcomes {
    /// Its name, for the reader.
    #[serde(default)]
    pub campaign: String,
    /// What earlier campaigns saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRate>,
    /// Every host of it, those that wait too.
    pub hosts: Vec<CampaignHost>,
}

/// What earlier campaigns saw of a patch, of a cohort, or of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastRate {
    /// Whose failures were counted.
    pub who: Responsible,
    /// Of this package; of any where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// On hosts with these values; on any where none is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cohort: BTreeMap<Dimension, String>,
    /// How many hosts failed.
    pub failed: u32,
    /// Out of how many.
    pub hosts: u32,
}

/// A host of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignHost {
    /// Its id.
    pub host: String,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Through which relay its packages come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Its patch group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The policy it follows: schedule, window and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The baseline that chose its patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// What it runs, such as `debian 12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The kernel that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Server, workstation, appliance …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// Its wave or ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// What it is to get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<CampaignPatch>,
    /// What became of it so far.
    pub outcome: HostResult,
}

/// One package version of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignPatch {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
}

/// What became of a host so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum HostResult {
    /// Its turn has not come, or it is at work.
    Waiting,
    /// Patched and verified.
    Ok,
    /// Nobody reached it.
    Unreachable,
    /// It failed.
    Failed {
        /// The name of a cause, of a class of causes, or one of [`CAMPAIGN_CAUSES`].
        cause: String,
        /// The package whose failure it was, where the cause tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        package: Option<String>,
    },
}

/// Causes that no package manager prints, and who has to act.
pub const CAMPAIGN_CAUSES: [(&str, Responsible); 13] = [
    ("timeout", Responsible::Relay),
    ("hash_mismatch", Responsible::Relay),
    ("unreachable", Responsible::Agent),
    ("lease_expired", Responsible::Agent),
    ("auth_failed", Responsible::Agent),
    ("version_skew", Responsible::Agent),
    ("nothing_matched", Responsible::Policy),
    ("not_approved", Responsible::Policy),
    ("outside_window", Responsible::Policy),
    ("held", Responsible::Policy),
    ("empty_plan", Responsible::Policy),
    ("regression", Responsible::Package),
    ("residual", Responsible::Package),
];

/// What hosts may have in common, from the whole campaign down to one package version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// All hosts.
    Campaign,
    /// A wave or ring.
    Wave,
    /// A patch group.
    Group,
    /// A policy.
    Policy,
    /// A baseline.
    Baseline,
    /// A site.
    Site,
    /// A relay.
    Relay,
    /// An operating system.
    Os,
    /// A running kernel.
    Kernel,
    /// A class of devices.
    DeviceClass,
    /// A package version, written `package version`.
    Patch,
}

impl Dimension {
    /// In words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Campaign => "campaign",
            Self::Wave => "wave",
            Self::Group => "group",
            Self::Policy => "policy",
            Self::Baseline => "baseline",
            Self::Site => "site",
            Self::Relay => "relay",
            Self::Os => "os",
            Self::Kernel => "kernel",
            Self::DeviceClass => "device class",
            Self::Patch => "patch",
        }
    }
}

/// Hosts that have something in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// What.
    pub dimension: Dimension,
    /// Its value; empty for the campaign.
    pub value: String,
}

impl Scope {
    /// All hosts.
    #[must_use]
    pub fn campaign() -> Self {
        Self { dimension: Dimension::Campaign, value: String::new() }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dimension {
            Dimension::Campaign => f.write_str("the whole campaign"),
            dimension => write!(f, "{} {}", dimension.word(), self.value),
        }
    }
}

/// Why outcomes cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Too much of something.
    #[error("{what}: {count}, the limit is {limit}")]
    TooMany {
        /// Of what.
        what: String,
        /// How much.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A host is there twice.
    #[error("host '{host}' is there more than once")]
    Twice {
        /// Which.
        host: String,
    },
    /// A cause that nobody knows.
    #[error("host '{host}' failed with '{cause}', which is neither a cause nor a class of failures")]
    Cause {
        /// Which.
        host: String,
        /// What it says.
        cause: String,
    },
    /// A failure of a package that the host does not get.
    #[error("host '{host}' failed with package '{package}', which is none of its patches")]
    Package {
        /// Which.
        host: String,
        /// What it says.
        package: String,
    },
    /// More failures than hosts.
    #[error("history row {row} has {failed} failures of {hosts} hosts")]
    History {
        /// Counted from 1.
        row: usize,
        /// Failures.
        failed: u32,
        /// Hosts.
        hosts: u32,
    },
}

impl ClusterError {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "E0870"
    }
}

impl HostResult {
    /// Who has to act, where it failed; `None` for a cause that nobody knows, and where it did not fail.
    #[must_use]
    pub fn who(&self) -> Option<Responsible> {
        match self {
            Self::Waiting | Self::Ok => None,
            Self::Unreachable => Some(Responsible::Agent),
            Self::Failed { cause, .. } => who(cause),
        }
    }

    /// Whether something came of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Waiting)
    }

    pub(super) fn package(&self) -> Option<&str> {
        match self {
            Self::Failed { package, .. } => package.as_deref(),
            Self::Waiting | Self::Ok | Self::Unreachable => None,
        }
    }
}

fn who(cause: &str) -> Option<Responsible> {
    let named = CAMPAIGN_CAUSES.iter().find(|(name, _)| *name == cause).map(|(_, who)| *who);
    let known = || failure_causes().iter().find(|known| known.name == cause).map(|known| known.who);
    let class = || FailureKind::ALL.into_iter().find(|kind| kind.code() == cause).map(who_of_class);
    named.or_else(known).or_else(class)
}

/// Who has to act where only the class is known.
fn who_of_class(kind: FailureKind) -> Responsible {
    match kind {
        FailureKind::Fetch | FailureKind::Untrusted => Responsible::Relay,
        FailureKind::Privilege | FailureKind::Setup | FailureKind::Declined => Responsible::Agent,
        FailureKind::Gone | FailureKind::Held => Responsible::Policy,
        FailureKind::Deps
        | FailureKind::Conffile
        | FailureKind::Scriptlet
        | FailureKind::HalfState
        | FailureKind::Unverified => Responsible::Package,
        FailureKind::Locked | FailureKind::Disk | FailureKind::Host | FailureKind::Reboot | FailureKind::Unknown => {
            Responsible::Host
        }
    }
}

impl CampaignHost {
    /// All that it may have in common with others, each once.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut all = vec![Scope::campaign()];
        for (dimension, value) in self.values() {
            all.push(Scope { dimension, value: value.to_owned() });
        }
        for patch in &self.patches {
            all.push(Scope { dimension: Dimension::Patch, value: format!("{} {}", patch.package, patch.version) });
        }
        all.sort();
        all.dedup();
        all
    }

    /// Its values, where they are known; patches are another matter.
    pub(super) fn values(&self) -> impl Iterator<Item = (Dimension, &str)> {
        [
            (Dimension::Wave, &self.wave),
            (Dimension::Group, &self.group),
            (Dimension::Policy, &self.policy),
            (Dimension::Baseline, &self.baseline),
            (Dimension::Site, &self.site),
            (Dimension::Relay, &self.relay),
            (Dimension::Os, &self.os),
            (Dimension::Kernel, &self.kernel),
            (Dimension::DeviceClass, &self.device_class),
        ]
        .into_iter()
        .filter_map(|(dimension, value)| Some((dimension, value.as_deref()?)))
    }
}

impl CampaignOutcomes {
    /// Finds what cannot be judged.
    ///
    /// # Errors
    /// The first [`ClusterError`].
    pub fn check(&self) -> Result<(), ClusterError> {
        let limit = |what: &str, count: usize, limit: usize| {
            if count > limit { Err(ClusterError::TooMany { what: what.to_owned(), count, limit }) } else { Ok(()) }
        };
        limit("hosts", self.hosts.len(), CAMPAIGN_HOSTS_MAX)?;
        limit("patches of all hosts", self.hosts.iter().map(|host| host.patches.len()).sum(), CAMPAIGN_PAIRS_MAX)?;
        limit("rows of history", self.history.len(), HISTORY_MAX)?;
        for (at, past) in self.history.iter().enumerate() {
            if past.failed > past.hosts {
                return Err(ClusterError::History { row: at + 1, failed: past.failed, hosts: past.hosts });
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for host in &self.hosts {
            if !seen.insert(host.host.as_str()) {
                return Err(ClusterError::Twice { host: host.host.clone() });
            }
            limit(&format!("patches of host '{}'", host.host), host.patches.len(), CAMPAIGN_PATCHES_MAX)?;
            host.check()?;
        }
        Ok(())
    }
}

impl CampaignHost {
    fn check(&self) -> Result<(), ClusterError> {
        let HostResult::Failed { cause, package } = &self.outcome else { return Ok(()) };
        if who(cause).is_none() {
            return Err(ClusterError::Cause { host: self.host.clone(), cause: cause.clone() });
        }
        match package.as_ref().filter(|package| self.patches.iter().all(|patch| patch.package != **package)) {
            Some(package) => Err(ClusterError::Package { host: self.host.clone(), package: package.clone() }),
            None => Ok(()),
        }
    }
}
