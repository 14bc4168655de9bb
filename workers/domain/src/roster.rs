//! The roster of a campaign: which hosts it takes, in which wave, and whether a host may begin now. Pure: what came of the others
//! is read off the change request, so every answer can be given again.

use serde::{Deserialize, Serialize};

use crate::{
    CampaignHost, CampaignOutcomes, CampaignPatch, CampaignVerdict, Cause, ChangeRequest, ClusterDecision, Criticality,
    Dimension, Environment, Host, HostOutcome, HostResult, Instant, Scope, judge_campaign,
};

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
    /// What it is to get.
    #[serde(default)]
    pub patches: Vec<CampaignPatch>,
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
    pub fn new(hosts: Vec<(Host, u64, Vec<CampaignPatch>)>, rules: WaveRules) -> Self {
        let mut sorted = hosts;
        sorted.sort_by(|(a, ..), (b, ..)| (rank(a), &a.id).cmp(&(rank(b), &b.id)));
        let (canary, pilot) = (usize::try_from(rules.canary), usize::try_from(rules.pilot));
        let (canary, pilot) = (canary.unwrap_or(usize::MAX), pilot.unwrap_or(usize::MAX));
        let wave = |at: usize| match at {
            at if at < canary => Wave::Canary,
            at if at < canary.saturating_add(pilot) => Wave::Pilot,
            _ => Wave::Broad,
        };
        let entry = |(at, (host, expected_ms, patches))| Entry { host, wave: wave(at), expected_ms, patches };
        Self { rules, hosts: sorted.into_iter().enumerate().map(entry).collect() }
    }

    /// The entry of a host.
    #[must_use]
    pub fn entry(&self, host: &str) -> Option<&Entry> {
        self.hosts.iter().find(|entry| entry.host.id == host)
    }

    /// Whether a host may begin now: its patch would end inside the window, no wave before it failed by more than is borne, and
    /// nothing that it has in common with others fails together.
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
        match self.systemic(change, entry) {
            Some(why) => Admission::Deferred { why },
            None => Admission::Admitted,
        }
    }

    /// What fails together in this campaign, by what the change says of its hosts.
    #[must_use]
    pub fn judge(&self, change: &ChangeRequest) -> Option<CampaignVerdict> {
        let host = |entry: &Entry| {
            let Entry { host, wave, patches, .. } = entry;
            let outcome = change.tasks.get(&host.id).and_then(|task| task.outcome.as_ref());
            CampaignHost {
                host: host.id.clone(),
                site: host.site.clone(),
                relay: host.relay.clone(),
                group: host.patch_group().map(str::to_owned),
                policy: None,
                baseline: None,
                os: host.os.as_ref().map(|os| format!("{} {}", os.id, os.version.as_deref().unwrap_or_default())),
                kernel: None,
                device_class: host.device_class.clone(),
                wave: Some(wave.name().to_owned()),
                patches: patches.clone(),
                outcome: outcome.map_or(HostResult::Waiting, result),
            }
        };
        let hosts = self.hosts.iter().map(host).collect();
        // What cannot be judged (more than the limits allow) stops nobody: the waves' own rules hold all the same.
        judge_campaign(&CampaignOutcomes { campaign: change.number.clone(), history: Vec::new(), hosts }).ok()
    }

    fn systemic(&self, change: &ChangeRequest, entry: &Entry) -> Option<String> {
        let verdict = self.judge(change)?;
        let stops = match &verdict.decision {
            ClusterDecision::GoOn => false,
            ClusterDecision::HaltCampaign => true,
            ClusterDecision::Pause { scopes } => scopes.iter().any(|scope| entry.is_in(scope)),
        };
        stops.then(|| format!("{}: {}", verdict.decision, verdict.reasons.join("; ")))
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

impl Entry {
    fn is_in(&self, scope: &Scope) -> bool {
        let is = |value: Option<&str>| value == Some(scope.value.as_str());
        match scope.dimension {
            Dimension::Campaign => true,
            Dimension::Wave => is(Some(self.wave.name())),
            Dimension::Group => is(self.host.patch_group()),
            Dimension::Site => is(self.host.site.as_deref()),
            Dimension::Relay => is(self.host.relay.as_deref()),
            Dimension::DeviceClass => is(self.host.device_class.as_deref()),
            Dimension::Os => self
                .host
                .os
                .as_ref()
                .is_some_and(|os| format!("{} {}", os.id, os.version.as_deref().unwrap_or_default()) == scope.value),
            Dimension::Patch => {
                self.patches.iter().any(|patch| format!("{} {}", patch.package, patch.version) == scope.value)
            }
            // Nobody tells these of a roster's hosts.
            Dimension::Policy | Dimension::Baseline | Dimension::Kernel => false,
        }
    }
}

/// What became of a host, in the words of those who look for what fails together.
fn result(outcome: &HostOutcome) -> HostResult {
    match outcome {
        HostOutcome::Installed | HostOutcome::Simulated | HostOutcome::Unchanged => HostResult::Ok,
        HostOutcome::RolledBack { cause, .. } | HostOutcome::Failed { cause } | HostOutcome::NotBegun { cause } => {
            failed(cause)
        }
        HostOutcome::Deferred { .. } => HostResult::Waiting,
    }
}

fn failed(cause: &Cause) -> HostResult {
    let named = |name: &str| HostResult::Failed { cause: name.to_owned(), package: None };
    match cause.code.as_str() {
        // What cannot be reached over SSH, and what lost its worker.
        "E0570" | "E0571" | "E0574" => HostResult::Unreachable,
        "E0572" | "E0573" => named("auth_failed"),
        "E0322" => named("lease_expired"),
        "E0541" | "E0545" => named("regression"),
        "E0874" => named("held"),
        code => {
            let known = named(code);
            // A failure of which only our own code is known says nothing about others.
            if known.who().is_some() { known } else { named("HOST") }
        }
    }
}

fn rank(host: &Host) -> (Environment, u8) {
    (host.environment.unwrap_or(Environment::Prod), host.criticality.map_or(3, Criticality::level))
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
