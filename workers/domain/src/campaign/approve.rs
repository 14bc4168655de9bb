//! Which of the patches that a host lacks go into the plan, and why the others do not. Knows no wave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{Withheld, WithheldReason};
use super::need::{Due, Need};
use super::planner::{Found, PlanInput};
use crate::inventory::GroupRules;
use crate::{
    Baseline, Host, Instant, MissingPatch, Moment, OperatingSystem, PatchApproval, PatchCandidate, PlannedChange,
    judge_patch,
};

/// A patch that a host lacks, with what a baseline may ask of it besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The patch.
    #[serde(flatten)]
    pub patch: MissingPatch,
    /// When it was released, or its changelog says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_date: Option<Moment>,
    /// When it was seen first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Moment>,
    /// When somebody last looked at the package and it was not on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Moment>,
    /// Section of a Debian package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub section: String,
    /// Priority of a Debian package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub priority: String,
    /// Severity in the words of the advisory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub severity: String,
    /// Classification in the words of the advisory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub classification: String,
}

/// A version that must not be installed anywhere, because it was rolled back or somebody said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionHold {
    /// The package.
    pub package: String,
    /// The version; all where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why.
    pub why: String,
}

/// What decides over patches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub baselines: &'a [Baseline],
    pub groups: &'a GroupRules,
    pub holds: &'a [VersionHold],
    /// How urgent the host is.
    pub need: Option<&'a Need>,
    pub now: Instant,
}

/// What stays out, gathered over all hosts.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<(String, String, WithheldReason, String), (u32, String)>);

impl Kept {
    pub fn add(&mut self, patch: &MissingPatch, reason: WithheldReason, why: String, host: &str) {
        let key = (patch.id.name.clone(), patch.candidate.clone(), reason, why);
        let row = self.0.entry(key).or_insert_with(|| (0, host.to_owned()));
        row.0 += 1;
        if *host < *row.1 {
            row.1 = host.to_owned();
        }
    }

    pub fn list(self) -> Vec<Withheld> {
        let row = |((package, candidate, reason, why), (hosts, first))| Withheld {
            package,
            candidate,
            reason,
            why,
            hosts,
            first,
        };
        self.0.into_iter().map(row).collect()
    }
}

/// The changes of a host, with their sizes; what stays out goes to `kept`. An error says why no baseline can be told.
pub(super) fn approved<'a>(
    host: &Host,
    offers: &'a [Offer],
    rules: Rules<'_>,
    kept: &mut Kept,
) -> Result<Vec<(PlannedChange, &'a MissingPatch)>, String> {
    let baseline = baseline_of(host, rules.baselines, rules.groups)?;
    let mut changes = Vec::new();
    for offer in offers {
        let patch = &offer.patch;
        match stays_out(offer, baseline, rules) {
            Some((reason, why)) => kept.add(patch, reason, why, &host.id),
            None => changes.push((planned(patch), patch)),
        }
    }
    Ok(changes)
}

/// A patch that one host lacks and does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotNow {
    /// Its package.
    pub package: String,
    /// The version.
    pub candidate: String,
    /// The class of the reason.
    pub reason: WithheldReason,
    /// The reason for a person.
    pub why: String,
}

/// What of all that a host lacks stays out of a plan, in the order in which it was found.
#[must_use]
pub fn not_now(input: &PlanInput<'_>, host: &Host, found: &Found, now: Instant) -> Vec<NotNow> {
    let (groups, need) = (input.groups, input.needs.get(&host.id));
    let rules = Rules { baselines: input.baselines, groups, holds: input.holds, need, now };
    // A host whose baseline nobody can tell is left out as a whole, with that reason.
    let baseline = baseline_of(host, rules.baselines, rules.groups).unwrap_or_default();
    let row = |patch: &MissingPatch, (reason, why): (WithheldReason, String)| NotNow {
        package: patch.id.name.clone(),
        candidate: patch.candidate.clone(),
        reason,
        why,
    };
    let held = found.withheld.iter().map(|patch| row(patch, withheld(patch)));
    let judged = found.patches.iter().filter_map(|offer| Some(row(&offer.patch, stays_out(offer, baseline, rules)?)));
    held.chain(judged).collect()
}

/// Why a patch that was found is not to be installed: the hold that names it, or one that its host keeps itself.
pub(super) fn withheld(patch: &MissingPatch) -> (WithheldReason, String) {
    match &patch.held {
        Some(why) => (WithheldReason::HeldVersion, why.clone()),
        None => (WithheldReason::HeldOnHost, "the package is held on the host".to_owned()),
    }
}

fn stays_out(offer: &Offer, baseline: Option<&Baseline>, rules: Rules<'_>) -> Option<(WithheldReason, String)> {
    let patch = &offer.patch;
    let names = |hold: &&VersionHold| {
        hold.package == patch.id.name && hold.version.as_ref().is_none_or(|version| *version == patch.candidate)
    };
    if let Some(hold) = rules.holds.iter().find(names) {
        return Some((WithheldReason::HeldVersion, hold.why.clone()));
    }
    let Some(baseline) = baseline else {
        let why = || (WithheldReason::NoBaseline, "no baseline is for this system and patch group".to_owned());
        // Without any baseline everything goes; the plan notes it.
        return (!rules.baselines.is_empty()).then(why);
    };
    let now = Moment(i64::try_from(rules.now.0 / 1000).unwrap_or(i64::MAX));
    let judged = judge_patch(baseline, &candidate(offer), now);
    let reason = match judged.approval {
        PatchApproval::Approved | PatchApproval::ExplicitlyApproved => return None,
        PatchApproval::Pending { until } => {
            let due = rules.need.and_then(|need| need.due_of(patch));
            if let Some(due) = due.filter(|due| until.is_none_or(|until| due.deadline < until)) {
                return Some((WithheldReason::PendingPastDeadline, overtaken(baseline, patch, &judged.why, due)));
            }
            WithheldReason::Pending
        }
        PatchApproval::Rejected => WithheldReason::Rejected,
        PatchApproval::NotMatched => WithheldReason::NotMatched,
    };
    Some((reason, format!("baseline '{}': {}", baseline.name, judged.why)))
}

/// What is to be done where a baseline waits longer than there is time.
fn overtaken(baseline: &Baseline, patch: &MissingPatch, why: &str, due: &Due) -> String {
    format!(
        "baseline '{}': {why}; {}, which is before that: name {} under ApprovedPatches, and raise an emergency change where no \
         window opens until then",
        baseline.name,
        due.says(),
        patch.id.name
    )
}

/// The baseline for a host: the one that the policy of its patch group names for its system; else of those for its system the
/// one that names its patch group, else one that names none.
///
/// # Errors
/// Where two are for it, or the one that is named was not given: why, in a sentence.
pub fn baseline_of<'a>(
    host: &Host,
    baselines: &'a [Baseline],
    groups: &GroupRules,
) -> Result<Option<&'a Baseline>, String> {
    let Some(system) = system_of(host) else { return Ok(None) };
    let listed = |baseline: &Baseline| -> Vec<String> {
        let listed = baseline.rest.get("PatchGroups").and_then(|groups| groups.as_array());
        listed.into_iter().flatten().filter_map(|group| Some(group.as_str()?.to_owned())).collect()
    };
    let fitting: Vec<&Baseline> = baselines.iter().filter(|one| one.operating_system == system).collect();
    let names = |one: &&Baseline| host.patch_group().is_some_and(|group| listed(one).iter().any(|name| name == group));
    let by_group: Vec<&Baseline> = fitting.iter().copied().filter(names).collect();
    let chosen = match groups.baseline(host, system)? {
        Some(wanted) => {
            let is = |one: &&Baseline| {
                one.name == wanted || one.rest.get("BaselineId").and_then(|id| id.as_str()) == Some(wanted)
            };
            let found: Vec<&Baseline> = fitting.iter().copied().filter(is).collect();
            if found.is_empty() {
                return Err(format!(
                    "its patch group has the baseline '{wanted}', which was not given: add it with --baseline"
                ));
            }
            // What the files say of groups must not contradict the policy.
            found.into_iter().chain(by_group.into_iter().filter(|one| !is(one))).collect()
        }
        None if by_group.is_empty() => fitting.into_iter().filter(|one| listed(one).is_empty()).collect(),
        None => by_group,
    };
    match chosen.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        many => {
            let names: Vec<&str> = many.iter().map(|one| one.name.as_str()).collect();
            Err(format!(
                "{} baselines are for its system and patch group: {}; leave one of them",
                many.len(),
                names.join(", ")
            ))
        }
    }
}

/// What SSM calls the system of a host.
fn system_of(host: &Host) -> Option<OperatingSystem> {
    let os = host.os.as_ref()?;
    let version = os.version.as_deref().unwrap_or_default();
    Some(match os.id.as_str() {
        "windows" => OperatingSystem::Windows,
        "amzn" if version.starts_with("2023") => OperatingSystem::AmazonLinux2023,
        "amzn" if version.starts_with("2022") => OperatingSystem::AmazonLinux2022,
        "amzn" if version == "2" => OperatingSystem::AmazonLinux2,
        "amzn" => OperatingSystem::AmazonLinux,
        "ubuntu" => OperatingSystem::Ubuntu,
        "rhel" => OperatingSystem::RedhatEnterpriseLinux,
        "sles" | "suse" | "opensuse-leap" => OperatingSystem::Suse,
        "centos" => OperatingSystem::Centos,
        "ol" => OperatingSystem::OracleLinux,
        "debian" => OperatingSystem::Debian,
        "macos" => OperatingSystem::Macos,
        "raspbian" => OperatingSystem::Raspbian,
        "rocky" => OperatingSystem::RockyLinux,
        "almalinux" => OperatingSystem::AlmaLinux,
        _ => return None,
    })
}

fn candidate(offer: &Offer) -> PatchCandidate {
    let patch = &offer.patch;
    let (epoch, rest) = match patch.candidate.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch.parse().unwrap_or(0), rest),
        Some(_) | None => (0, patch.candidate.as_str()),
    };
    PatchCandidate {
        name: patch.id.name.clone(),
        arch: patch.id.arch.clone(),
        epoch,
        version: rest.to_owned(),
        repository: patch.origin.clone(),
        cve_ids: patch.cves.clone(),
        security: Some(patch.security),
        section: offer.section.clone(),
        priority: offer.priority.clone(),
        severity: offer.severity.clone(),
        classification: offer.classification.clone(),
        release_date: offer.release_date,
        first_seen: offer.first_seen,
        not_before: offer.not_before,
        ..PatchCandidate::default()
    }
}

fn planned(patch: &MissingPatch) -> PlannedChange {
    let MissingPatch { id, installed, candidate, sha256, cves, security, .. } = patch.clone();
    PlannedChange { id, installed, candidate, sha256, cves, security }
}
