//! The roster of a campaign: its plan with the hosts it is for, and whether a host may begin now. Pure: what came of the others
//! is read off the change request, so every answer can be given again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    CampaignHost, CampaignOutcomes, CampaignPatch, CampaignPlan, CampaignVerdict, Cause, ChangeRequest,
    ClusterDecision, CutoffRule, Dimension, Host, HostOutcome, HostResult, Instant, NotNow, Scope, Slot, Systemic,
    judge_campaign,
};

/// One host of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The host.
    pub host: Host,
    /// The baseline that chose its patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// The hosts of a campaign and who goes when.
///
/// # Shape
/// `hosts` has an entry for each slot of the plan; the order of the slots is the one in which they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// What the planner made.
    pub plan: CampaignPlan,
    /// Its hosts, by id.
    pub hosts: BTreeMap<String, Entry>,
    /// What of all that hosts lack is not in the plan, by host, those that are left out too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_now: BTreeMap<String, Vec<NotNow>>,
}

/// Whether a host may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Admitted,
    /// Not now.
    Deferred {
        /// Why, in a sentence.
        why: String,
    },
}

/// What was paused and may go on, if one host that is tried first comes through.
///
/// The failures for which it was paused do not count again: what fails from now on does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pardon {
    /// The scopes.
    pub scopes: Vec<PausedScope>,
    /// The hosts that failed in them.
    pub forgiven: BTreeSet<String>,
}

/// One thing that hosts have in common and that was paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedScope {
    /// Which.
    pub scope: Scope,
    /// The host that is tried first.
    pub tried: String,
    /// The hosts that it keeps waiting, the tried one first.
    pub hosts: Vec<String>,
    /// Nobody of them could begin later than that.
    pub until: Instant,
}

impl Roster {
    /// The roster of a plan; hosts that it does not name are left out.
    #[must_use]
    pub fn new(plan: CampaignPlan, hosts: &[(Host, Option<String>)]) -> Self {
        let entry = |(host, baseline): &(Host, Option<String>)| {
            let entry = Entry { host: host.clone(), baseline: baseline.clone() };
            plan.slot(&host.id).map(|_| (host.id.clone(), entry))
        };
        let hosts = hosts.iter().filter_map(entry).collect();
        Self { plan, hosts, not_now: BTreeMap::new() }
    }

    /// The name of the wave of a slot.
    #[must_use]
    pub fn wave_of(&self, slot: &Slot) -> &str {
        self.plan.waves().get(place(slot.wave)).map_or("", |wave| wave.name.as_str())
    }

    /// Whether a host may begin now: its patch would end inside its window, no wave before it failed by more than is borne,
    /// and nothing that it has in common with others fails together.
    #[must_use]
    pub fn admit(&self, change: &ChangeRequest, host: &str, now: Instant, pardon: Option<&Pardon>) -> Admission {
        let Some(slot) = self.plan.slot(host) else {
            return Admission::Deferred { why: "it is not on the roster of this campaign".to_owned() };
        };
        let why = self
            .closes(change, slot, now)
            .or_else(|| self.wave_before(change, slot))
            .or_else(|| self.not_proven(change, host, pardon))
            .or_else(|| self.systemic(change, host, pardon));
        why.map_or(Admission::Admitted, |why| Admission::Deferred { why })
    }

    /// Nobody begins after this instant, by what it is expected to take.
    #[must_use]
    pub fn last_start(&self, slot: &Slot) -> Instant {
        let need_ms = slot.latest_end.since(slot.start);
        let end = match self.plan.cutoff() {
            CutoffRule::Start => slot.occurrence.close,
            CutoffRule::End => slot.occurrence.last_start,
        };
        Instant(slot.occurrence.last_start.0.saturating_sub(1).min(end.0.saturating_sub(need_ms)))
    }

    fn closes(&self, change: &ChangeRequest, slot: &Slot, now: Instant) -> Option<String> {
        let need_ms = slot.latest_end.since(slot.start);
        if now < slot.occurrence.open {
            return Some(format!("its window '{}' is not open yet", slot.window));
        }
        let close = slot.occurrence.close.min(change.draft.window.end);
        if now.plus(need_ms) <= close && slot.occurrence.fits(now, need_ms, self.plan.cutoff()) {
            return None;
        }
        let (left, takes) = (close.since(now) / 60_000, need_ms.div_ceil(60_000));
        let cutoff = if slot.occurrence.last_start < slot.occurrence.close {
            format!(
                " (its cutoff is {} minutes before that)",
                slot.occurrence.close.since(slot.occurrence.last_start) / 60_000
            )
        } else {
            String::new()
        };
        Some(format!("the window closes in {left} minutes{cutoff}, and this host is expected to take up to {takes}"))
    }

    fn wave_before(&self, change: &ChangeRequest, slot: &Slot) -> Option<String> {
        for (at, wave) in self.plan.waves().iter().enumerate().take(place(slot.wave)) {
            let Some(borne) = wave.failures else { continue };
            let bad = self.failed(change, at);
            if bad.len() > place(borne) {
                return Some(format!(
                    "{} of {} hosts of the {} wave did not come through ({}), {borne} may",
                    bad.len(),
                    wave.hosts,
                    wave.name,
                    bad.join(", "),
                ));
            }
        }
        None
    }

    /// Why a host that was paused goes on waiting: the one that was to go first has not come through.
    fn not_proven(&self, change: &ChangeRequest, host: &str, pardon: Option<&Pardon>) -> Option<String> {
        let scopes = pardon?.scopes.iter();
        let first = scopes.filter(|scope| scope.tried != host && scope.hosts.iter().any(|other| other == host));
        let unproven = |scope: &&PausedScope| !outcome(change, &scope.tried).is_some_and(HostOutcome::is_success);
        let scope = first.into_iter().find(unproven)?;
        Some(format!("{} is still paused: {}, which was tried first, did not come through", scope.scope, scope.tried))
    }

    /// What fails together in this campaign, by what the change says of its hosts.
    #[must_use]
    pub fn judge(&self, change: &ChangeRequest, pardon: Option<&Pardon>) -> Option<CampaignVerdict> {
        let forgiven = |host: &str| pardon.is_some_and(|pardon| pardon.forgiven.contains(host));
        let windows: BTreeSet<&str> = self.plan.slots().iter().map(|slot| slot.window.as_str()).collect();
        // One window for all tells nobody from anybody, and a test more makes each of them duller.
        let policy = |slot: &Slot| (windows.len() > 1).then(|| slot.window.clone());
        let host = |slot: &Slot| {
            let Entry { host, baseline } = self.hosts.get(&slot.host)?;
            let outcome = outcome(change, &slot.host).filter(|_| !forgiven(&slot.host));
            Some(CampaignHost {
                host: host.id.clone(),
                site: host.site.clone(),
                relay: host.relay.clone(),
                group: host.patch_group().map(str::to_owned),
                policy: policy(slot),
                baseline: baseline.clone(),
                os: host.os.as_ref().map(|os| format!("{} {}", os.id, os.version.as_deref().unwrap_or_default())),
                kernel: None,
                device_class: host.device_class.clone(),
                wave: Some(self.wave_of(slot).to_owned()),
                patches: self.patches(&slot.host),
                outcome: outcome.map_or(HostResult::Waiting, result),
            })
        };
        let hosts = self.plan.slots().iter().filter_map(host).collect();
        // What cannot be judged (more than the limits allow) stops nobody: the waves' own rules hold all the same.
        judge_campaign(&CampaignOutcomes { campaign: change.number.clone(), history: Vec::new(), hosts }).ok()
    }

    /// What was paused and whom it kept away: for each scope the host to be tried first, and who waits behind it.
    ///
    /// Whoever was kept away for another reason (its window, a wave before) stays away.
    #[must_use]
    pub fn paused(&self, change: &ChangeRequest) -> Pardon {
        let Some(CampaignVerdict { decision: ClusterDecision::Pause { scopes }, systemic, .. }) =
            self.judge(change, None)
        else {
            return Pardon::default();
        };
        let waits = |slot: &&Slot| matches!(outcome(change, &slot.host), Some(HostOutcome::Deferred { why }) if why.starts_with(PAUSED));
        let mut pardon = Pardon::default();
        let mut taken = BTreeSet::new();
        for scope in scopes {
            let inside = |slot: &&Slot| self.is_in(&slot.host, &scope) && !taken.contains(&slot.host);
            let slots: Vec<&Slot> = self.plan.slots().iter().filter(inside).filter(waits).collect();
            let Some(first) = slots.first() else { continue };
            let until = slots.iter().map(|slot| self.last_start(slot)).max().unwrap_or(change.draft.window.end);
            let hosts: Vec<String> = slots.iter().map(|slot| slot.host.clone()).collect();
            let failed = systemic.iter().filter(|found: &&Systemic| found.scope == scope);
            pardon.forgiven.extend(failed.flat_map(|found| found.hosts.iter().cloned()));
            let tried = first.host.clone();
            taken.extend(hosts.iter().cloned());
            pardon.scopes.push(PausedScope { scope, tried, hosts, until: until.min(change.draft.window.end) });
        }
        pardon
    }

    fn systemic(&self, change: &ChangeRequest, host: &str, pardon: Option<&Pardon>) -> Option<String> {
        let verdict = self.judge(change, pardon)?;
        let stops = match &verdict.decision {
            ClusterDecision::GoOn => false,
            ClusterDecision::HaltCampaign => true,
            ClusterDecision::Pause { scopes } => scopes.iter().any(|scope| self.is_in(host, scope)),
        };
        stops.then(|| format!("{}: {}", verdict.decision, verdict.reasons.join("; ")))
    }

    fn failed(&self, change: &ChangeRequest, wave: usize) -> Vec<&str> {
        let bad = |outcome: &HostOutcome| match outcome {
            HostOutcome::RolledBack { .. } | HostOutcome::Failed { .. } | HostOutcome::NotBegun { .. } => true,
            HostOutcome::Installed | HostOutcome::Simulated | HostOutcome::Unchanged | HostOutcome::Deferred { .. } => {
                false
            }
        };
        let slots = self.plan.slots().iter().filter(|slot| place(slot.wave) == wave);
        slots.map(|slot| slot.host.as_str()).filter(|id| outcome(change, id).is_some_and(bad)).collect()
    }

    fn patches(&self, host: &str) -> Vec<CampaignPatch> {
        let changes = self.plan.plan().host(host).map(|part| part.changes.as_slice()).unwrap_or_default();
        let patch = |change: &crate::PlannedChange| CampaignPatch {
            package: change.id.name.clone(),
            version: change.candidate.clone(),
        };
        changes.iter().map(patch).collect()
    }

    fn is_in(&self, id: &str, scope: &Scope) -> bool {
        let (Some(Entry { host, baseline }), Some(slot)) = (self.hosts.get(id), self.plan.slot(id)) else {
            return false;
        };
        let is = |value: Option<&str>| value == Some(scope.value.as_str());
        match scope.dimension {
            Dimension::Campaign => true,
            Dimension::Wave => is(Some(self.wave_of(slot))),
            Dimension::Group => is(host.patch_group()),
            Dimension::Site => is(host.site.as_deref()),
            Dimension::Relay => is(host.relay.as_deref()),
            Dimension::DeviceClass => is(host.device_class.as_deref()),
            Dimension::Policy => is(Some(&slot.window)),
            Dimension::Baseline => is(baseline.as_deref()),
            Dimension::Os => host
                .os
                .as_ref()
                .is_some_and(|os| format!("{} {}", os.id, os.version.as_deref().unwrap_or_default()) == scope.value),
            Dimension::Patch => {
                self.patches(id).iter().any(|patch| format!("{} {}", patch.package, patch.version) == scope.value)
            }
            // Nobody tells it of a roster's hosts.
            Dimension::Kernel => false,
        }
    }
}

/// What the reason of a host begins with that something paused keeps away.
const PAUSED: &str = "pause ";

fn place(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn outcome<'a>(change: &'a ChangeRequest, host: &str) -> Option<&'a HostOutcome> {
    change.tasks.get(host).and_then(|task| task.outcome.as_ref())
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

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
