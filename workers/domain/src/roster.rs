//! The roster of a campaign: which hosts it takes, in which wave, and whether a host may begin now. Pure: what came of the others
//! is read off the change request, so every answer can be given again.

use serde::{Deserialize, Serialize};

use crate::{ChangeRequest, Criticality, Environment, Host, HostOutcome, Instant};

/// A part of a campaign, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wave {
    /// A few hosts on which a bad patch shows.
    Canary,
    /// Some more.
    Pilot,
    /// All others.
    Broad,
}

impl Wave {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Canary, Self::Pilot, Self::Broad];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Pilot => "pilot",
            Self::Broad => "broad",
        }
    }
}

/// How many hosts the waves before the last take, and how many of them may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveRules {
    /// Hosts of the canary.
    pub canary: u32,
    /// Hosts of the pilot.
    pub pilot: u32,
    /// How many hosts of the canary may fail; with one more, nothing begins behind it.
    #[serde(default)]
    pub canary_failures: u32,
    /// How many of the pilot may.
    #[serde(default)]
    pub pilot_failures: u32,
}

impl WaveRules {
    fn borne(&self, wave: Wave) -> usize {
        let count = match wave {
            Wave::Canary => self.canary_failures,
            Wave::Pilot => self.pilot_failures,
            Wave::Broad => u32::MAX,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

/// One host of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The host.
    pub host: Host,
    /// Its wave.
    pub wave: Wave,
    /// How long its patch is expected to take, in milliseconds, reboot with it.
    pub expected_ms: u64,
}

/// The hosts of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The rules of its waves.
    pub rules: WaveRules,
    /// Its hosts, in the order in which they are taken.
    pub hosts: Vec<Entry>,
}

/// Whether a host may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Admitted,
    /// Not in this campaign.
    Deferred {
        /// Why, in a sentence.
        why: String,
    },
}

impl Roster {
    /// Puts hosts into waves: what is least missed first (development before test before production, then by criticality,
    /// then by id), so that a bad patch shows where it hurts least. What nobody said counts as production of criticality 3.
    #[must_use]
    pub fn new(hosts: Vec<(Host, u64)>, rules: WaveRules) -> Self {
        let mut sorted = hosts;
        sorted.sort_by(|(a, _), (b, _)| (rank(a), &a.id).cmp(&(rank(b), &b.id)));
        let (canary, pilot) = (usize::try_from(rules.canary), usize::try_from(rules.pilot));
        let (canary, pilot) = (canary.unwrap_or(usize::MAX), pilot.unwrap_or(usize::MAX));
        let wave = |at: usize| match at {
            at if at < canary => Wave::Canary,
            at if at < canary.saturating_add(pilot) => Wave::Pilot,
            _ => Wave::Broad,
        };
        let entry = |(at, (host, expected_ms))| Entry { host, wave: wave(at), expected_ms };
        Self { rules, hosts: sorted.into_iter().enumerate().map(entry).collect() }
    }

    /// The entry of a host.
    #[must_use]
    pub fn entry(&self, host: &str) -> Option<&Entry> {
        self.hosts.iter().find(|entry| entry.host.id == host)
    }

    /// Whether a host may begin now: its patch would end inside the window, and no wave before it failed by more than is borne.
    #[must_use]
    pub fn admit(&self, change: &ChangeRequest, host: &str, now: Instant) -> Admission {
        let Some(entry) = self.entry(host) else {
            return Admission::Deferred { why: "it is not on the roster of this campaign".to_owned() };
        };
        let left_ms = change.draft.window.end.since(now);
        if left_ms < entry.expected_ms {
            let (left, takes) = (left_ms / 60_000, entry.expected_ms.div_ceil(60_000));
            let why = format!("the window closes in {left} minutes, and this host is expected to take {takes}");
            return Admission::Deferred { why };
        }
        for wave in Wave::ALL.into_iter().filter(|wave| *wave < entry.wave) {
            let bad = self.failed(change, wave);
            if bad.len() > self.rules.borne(wave) {
                let why = format!(
                    "{} of {} hosts of the {} wave did not come through ({}), {} may",
                    bad.len(),
                    self.hosts.iter().filter(|entry| entry.wave == wave).count(),
                    wave.name(),
                    bad.join(", "),
                    self.rules.borne(wave),
                );
                return Admission::Deferred { why };
            }
        }
        Admission::Admitted
    }

    fn failed(&self, change: &ChangeRequest, wave: Wave) -> Vec<&str> {
        let bad = |outcome: &HostOutcome| match outcome {
            HostOutcome::RolledBack { .. } | HostOutcome::Failed { .. } | HostOutcome::NotBegun { .. } => true,
            HostOutcome::Installed | HostOutcome::Simulated | HostOutcome::Unchanged | HostOutcome::Deferred { .. } => {
                false
            }
        };
        let outcome = |id: &str| change.tasks.get(id).and_then(|task| task.outcome.as_ref());
        let ids = self.hosts.iter().filter(|entry| entry.wave == wave).map(|entry| entry.host.id.as_str());
        ids.filter(|id| outcome(id).is_some_and(bad)).collect()
    }
}

fn rank(host: &Host) -> (Environment, u8) {
    (host.environment.unwrap_or(Environment::Prod), host.criticality.map_or(3, Criticality::level))
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
