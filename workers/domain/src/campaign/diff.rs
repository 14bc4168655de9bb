//! How two plans differ: what was approved and what is found now. A change is material exactly where the digest covers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{CampaignPlan, Slot};
use crate::{HostPlan, PlannedChange};

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// Observe or apply.
    Mode,
    /// Limits or the cutoff rule.
    Limits,
    /// Names, order, soak times or tolerances of waves.
    Waves,
    /// A host came.
    HostAdded,
    /// A host is gone.
    HostGone,
    /// How a host is reached.
    Target,
    /// The way back of a host.
    Undo,
    /// A package, a version or a hash.
    Package,
    /// The wave of a host.
    Wave,
    /// The window of a host.
    Window,
    /// What is known of CVEs.
    Knowledge,
    /// Estimates, and the times within a window that follow from them.
    Estimate,
}

impl DriftKind {
    /// Whether an approval of the one plan says nothing of the other.
    ///
    /// Estimates and knowledge grow while what is done stays the same; all else is what was approved.
    #[must_use]
    pub fn is_material(self) -> bool {
        match self {
            Self::Knowledge | Self::Estimate => false,
            Self::Mode
            | Self::Limits
            | Self::Waves
            | Self::HostAdded
            | Self::HostGone
            | Self::Target
            | Self::Undo
            | Self::Package
            | Self::Wave
            | Self::Window => true,
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDrift {
    /// Its class.
    pub kind: DriftKind,
    /// Whether it needs a new approval.
    pub material: bool,
    /// The host, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What was and what is, in a sentence.
    pub what: String,
}

/// All differences, those of the whole plan first, then host by host.
#[must_use]
pub fn plan_drift(before: &CampaignPlan, after: &CampaignPlan) -> Vec<PlanDrift> {
    let mut found = Vec::new();
    whole(before, after, &mut found);
    let olds: BTreeMap<&str, (&Slot, &HostPlan)> = by_host(before);
    let news: BTreeMap<&str, (&Slot, &HostPlan)> = by_host(after);
    for (host, (slot, plan)) in &olds {
        match news.get(host) {
            None => {
                let left = after.left_out().iter().find(|left| left.host == *host);
                let why = left.map_or_else(|| "it is not in the inventory".to_owned(), |left| left.why.clone());
                push(&mut found, DriftKind::HostGone, Some(host), format!("it is not in the plan any more: {why}"));
            }
            Some((new_slot, new_plan)) => {
                packages(host, plan, new_plan, &mut found);
                places(host, (before, slot), (after, new_slot), &mut found);
            }
        }
    }
    for (host, (_, plan)) in news.iter().filter(|(host, _)| !olds.contains_key(*host)) {
        let what = format!("it is new in the plan, with {} packages", plan.changes.len());
        push(&mut found, DriftKind::HostAdded, Some(host), what);
    }
    found.sort_by(|a, b| (&a.host, a.kind).cmp(&(&b.host, b.kind)));
    found
}

fn by_host(plan: &CampaignPlan) -> BTreeMap<&str, (&Slot, &HostPlan)> {
    plan.items().map(|(slot, host)| (slot.host.as_str(), (slot, host))).collect()
}

fn push(found: &mut Vec<PlanDrift>, kind: DriftKind, host: Option<&str>, what: String) {
    found.push(PlanDrift { kind, material: kind.is_material(), host: host.map(str::to_owned), what });
}

fn whole(before: &CampaignPlan, after: &CampaignPlan, found: &mut Vec<PlanDrift>) {
    if before.plan().mode() != after.plan().mode() {
        push(found, DriftKind::Mode, None, format!("mode {} is {} now", before.plan().mode(), after.plan().mode()));
    }
    if before.limits() != after.limits() || before.cutoff() != after.cutoff() {
        let shown = |plan: &CampaignPlan| {
            let limits = plan.limits();
            let part = |limit: Option<u32>| limit.map_or_else(|| "any".to_owned(), |limit| limit.to_string());
            let (relay, site) = (part(limits.per_relay), part(limits.per_site));
            format!("{} at once, {relay} per relay, {site} per site, cutoff {:?}", limits.max_parallel, plan.cutoff())
        };
        push(found, DriftKind::Limits, None, format!("{}; now {}", shown(before), shown(after)));
    }
    let waves = |plan: &CampaignPlan| -> Vec<(String, u64, Option<u32>)> {
        plan.waves().iter().map(|wave| (wave.name.clone(), wave.soak_ms, wave.failures)).collect()
    };
    let (old, new) = (waves(before), waves(after));
    if old != new {
        let shown = |waves: &[(String, u64, Option<u32>)]| {
            let each = waves.iter().map(|(name, soak, failures)| {
                let may = failures.map(|count| format!(", {count} may fail")).unwrap_or_default();
                format!("{name} (soak {} min{may})", soak / 60_000)
            });
            each.collect::<Vec<_>>().join(", ")
        };
        push(found, DriftKind::Waves, None, format!("waves {}; now {}", shown(&old), shown(&new)));
    }
}

fn packages(host: &str, before: &HostPlan, after: &HostPlan, found: &mut Vec<PlanDrift>) {
    if before.target != after.target {
        push(found, DriftKind::Target, Some(host), "it is reached in another way".to_owned());
    }
    if before.undo != after.undo {
        let what = format!("way back {:?}; now {:?}", before.undo, after.undo);
        push(found, DriftKind::Undo, Some(host), what);
    }
    let list = |plan: &HostPlan| -> BTreeMap<String, PlannedChange> {
        plan.changes.iter().map(|one| (format!("{}:{}", one.id.name, one.id.arch), one.clone())).collect()
    };
    let (olds, news) = (list(before), list(after));
    let installed = |one: &PlannedChange| one.installed.clone().unwrap_or_else(|| "nothing".to_owned());
    for (name, old) in &olds {
        let what = match news.get(name) {
            None => format!("{name} {} is not planned any more", old.candidate),
            Some(new) if new.candidate != old.candidate => format!("{name} {}; now {}", old.candidate, new.candidate),
            Some(new) if new.installed != old.installed => {
                format!("{name} goes out from {}; now from {}", installed(old), installed(new))
            }
            Some(new) if new.sha256 != old.sha256 => {
                format!("{name} {} has another hash: the archive has other bytes under the same version", new.candidate)
            }
            Some(new) => {
                if (&new.cves, new.security) != (&old.cves, old.security) {
                    let what = format!(
                        "{name} {}: known to fix {} CVEs; now {}",
                        new.candidate,
                        old.cves.len(),
                        new.cves.len()
                    );
                    push(found, DriftKind::Knowledge, Some(host), what);
                }
                continue;
            }
        };
        push(found, DriftKind::Package, Some(host), what);
    }
    for (name, new) in news.iter().filter(|(name, _)| !olds.contains_key(*name)) {
        push(found, DriftKind::Package, Some(host), format!("{name} {} is new in the plan", new.candidate));
    }
}

fn places(host: &str, before: (&CampaignPlan, &Slot), after: (&CampaignPlan, &Slot), found: &mut Vec<PlanDrift>) {
    let name = |(plan, slot): (&CampaignPlan, &Slot)| {
        let at = usize::try_from(slot.wave).unwrap_or(usize::MAX);
        plan.waves().get(at).map_or_else(String::new, |wave| wave.name.clone())
    };
    let (old, new) = (before.1, after.1);
    if old.wave != new.wave {
        let what = format!("wave {} ({}); now {} ({})", old.wave + 1, name(before), new.wave + 1, name(after));
        push(found, DriftKind::Wave, Some(host), what);
    }
    if (&old.window, old.occurrence) != (&new.window, new.occurrence) {
        let shown = |slot: &Slot| {
            let at = |at: crate::Instant| crate::Moment(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX));
            format!("'{}' from {} to {}", slot.window, at(slot.occurrence.open), at(slot.occurrence.close))
        };
        push(found, DriftKind::Window, Some(host), format!("window {}; now {}", shown(old), shown(new)));
    }
    let times =
        |slot: &Slot| (slot.start, slot.end, slot.latest_end, slot.estimate, slot.reboot, slot.reboot_reserve_ms);
    if times(old) != times(new) {
        let minutes = |slot: &Slot| slot.estimate.p95_ms.div_ceil(60_000);
        let what =
            format!("estimates: at most {} min; now {} min, or another time in the window", minutes(old), minutes(new));
        push(found, DriftKind::Estimate, Some(host), what);
    }
}
