//! What a campaign does about each class of failure. Data, no rules.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{Dimension, Scope};
use crate::Responsible;

/// Where a failure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterClass {
    /// What stands between the archive and the hosts: a relay, a mirror, the line of a site.
    Relay,
    /// Our way to the hosts, or what runs there for us.
    Agent,
    /// What was decided: baseline, window, approval, hold.
    Policy,
    /// One package version.
    Patch,
    /// The hosts themselves.
    Host,
}

impl ClusterClass {
    /// From who has to act and what the failing hosts share; `None` where they share nothing.
    #[must_use]
    pub fn of(side: Responsible, scope: Option<&Scope>) -> Self {
        match side {
            Responsible::Relay => Self::Relay,
            // Nobody behind one relay or at one site answers: the line is down, not every agent at once.
            Responsible::Agent => match scope.map(|scope| scope.dimension) {
                Some(Dimension::Relay | Dimension::Site) => Self::Relay,
                _ => Self::Agent,
            },
            Responsible::Policy => Self::Policy,
            Responsible::Package => Self::Patch,
            Responsible::Host => Self::Host,
        }
    }

    /// Its name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Relay => "RELAY",
            Self::Agent => "AGENT",
            Self::Policy => "POLICY",
            Self::Patch => "PATCH",
            Self::Host => "HOST",
        }
    }

    /// What to do where it is systemic, in order.
    #[must_use]
    pub fn remedies(self) -> &'static [Remedy] {
        match self {
            Self::Relay => &[Remedy::ProbeRelay, Remedy::SwitchRelay, Remedy::Resume],
            Self::Agent => &[Remedy::OtherTransport, Remedy::RestartAgent, Remedy::Resume],
            Self::Policy => &[Remedy::LintPolicy, Remedy::CancelChange],
            Self::Patch => &[Remedy::RollBackHost, Remedy::HoldVersion, Remedy::Replan],
            Self::Host => &[Remedy::InspectHosts, Remedy::Resume],
        }
    }

    /// What to do about one host, in order.
    #[must_use]
    pub fn remedies_of_one(self) -> &'static [Remedy] {
        match self {
            Self::Relay => &[Remedy::RefreshOnce],
            Self::Agent => &[Remedy::OtherTransport],
            Self::Policy => &[Remedy::LintPolicy],
            Self::Patch => &[Remedy::ConfigureOnce, Remedy::RollBackHost],
            Self::Host => &[Remedy::InspectHosts],
        }
    }

    /// What has to be taken back.
    #[must_use]
    pub fn compensation(self) -> &'static str {
        match self {
            Self::Relay | Self::Agent => "nothing: no host was changed",
            Self::Policy => "cancel the change, or cover what is left with another one",
            Self::Patch => "the hosts that failed: former packages, or the snapshot",
            Self::Host => "nothing, or the host that stopped midway",
        }
    }
}

impl fmt::Display for ClusterClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Ask the relay or mirror for what was not to be had.
    ProbeRelay,
    /// Send its hosts to another one.
    SwitchRelay,
    /// Refresh the indexes and try once more.
    RefreshOnce,
    /// Try another way to the host.
    OtherTransport,
    /// Look at the agent, and restart it.
    RestartAgent,
    /// Check the policy against that of the last cycle.
    LintPolicy,
    /// Cancel the change.
    CancelChange,
    /// Configure the package once more.
    ConfigureOnce,
    /// Take the host back.
    RollBackHost,
    /// Hold the version for the fleet.
    HoldVersion,
    /// Plan again without it.
    Replan,
    /// Look at the hosts.
    InspectHosts,
    /// Let the paused hosts go on.
    Resume,
}

impl Remedy {
    /// In words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::ProbeRelay => {
                "probe the relay: fetch from it what a host could not get, and the same from the origin"
            }
            Self::SwitchRelay => "switch its hosts to another relay",
            Self::RefreshOnce => "refresh the indexes once, then try again",
            Self::OtherTransport => "try another transport, and mark the host",
            Self::RestartAgent => "look at the agent and at what it connects to; restart it",
            Self::LintPolicy => "compare baseline, window and approvals with those of the last cycle",
            Self::CancelChange => "cancel the change: as it stands it does nothing",
            Self::ConfigureOnce => "configure the package once more",
            Self::RollBackHost => "roll the host back",
            Self::HoldVersion => "hold the version for the whole fleet",
            Self::Replan => "plan the rest again without it",
            Self::InspectHosts => "look at the hosts before anything else is done there",
            Self::Resume => "let the paused hosts go on",
        }
    }
}

/// The order in which dimensions are believed where the data does not tell them apart, and, first, those that need nothing
/// to compare with.
pub(super) fn preferred(side: Responsible) -> (&'static [Dimension], &'static [Dimension]) {
    use Dimension::{Baseline, DeviceClass, Group, Kernel, Os, Patch, Policy, Relay, Site, Wave};
    match side {
        Responsible::Relay => (&[Relay, Site], &[Patch, Os, Group, Policy, Baseline, DeviceClass, Kernel, Wave]),
        Responsible::Agent => (&[Site, Relay], &[DeviceClass, Os, Kernel, Group, Policy, Baseline, Wave, Patch]),
        Responsible::Policy => (&[Baseline, Policy, Group], &[Wave, Os, DeviceClass, Site, Relay, Kernel, Patch]),
        Responsible::Package => (&[Patch], &[Os, Kernel, DeviceClass, Group, Baseline, Policy, Wave, Site, Relay]),
        Responsible::Host => (&[], &[DeviceClass, Kernel, Os, Site, Group, Relay, Policy, Baseline, Wave, Patch]),
    }
}
