//! `campaign.plan`: one plan of what all hosts of a campaign lack, made by the planner, and the roster of who is taken when.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::Failure;
use patchloom_domain::inventory::GroupRules;
use patchloom_domain::{
    Baseline, CampaignPlan, CutoffRule, Found as Lacks, Host, HostOs, Instant, LeftOutReason, Limits, MissingPatch,
    Mode, Moment, Need, Occurrence, Offer, PackageId, Plan, PlanInput, PlanSettings, PlannedChange, RebootRule, Roster,
    UndoIntent, WaveRule, Window, baseline_of, not_now, plan_campaign,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::history::{History, HistoryStore, Look};
use crate::apt::missing::Missing;
use crate::artifact::ArtifactId;
use crate::changes::input;
use crate::failure::{chain, permanent};
use crate::holds;
use crate::observe::PackageScan;
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// The name of the window of hosts that have no calendar: the planned time of the change.
pub const CHANGE_WINDOW: &str = "change";
/// Differences that are told by name.
const TOLD_MAX: usize = 20;
/// The planned time of a change under which nothing changes.
const OBSERVE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// A day counts from when a version was seen first, to the second.
const SECOND_MS: u64 = 1000;

/// By which rules a campaign is planned: the same that `patchloom plan` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planning {
    /// The waves.
    pub waves: Vec<WaveRule>,
    /// The occurrences of each window by its name, sorted and disjoint.
    pub windows: BTreeMap<String, Vec<Occurrence>>,
    /// The window of each host by its id. No window means never.
    pub window_of: BTreeMap<String, String>,
    /// How many hosts may be at work at once.
    pub limits: Limits,
    /// What the cutoff of windows asks.
    #[serde(default)]
    pub cutoff: CutoffRule,
    /// Whether hosts boot anew.
    #[serde(default)]
    pub reboot: RebootRule,
    /// What is kept free for it at the end.
    #[serde(default)]
    pub reboot_reserve_ms: u64,
    /// Baselines; without any every patch is approved.
    #[serde(default)]
    pub baselines: Vec<Baseline>,
    /// What patch groups decide.
    #[serde(default)]
    pub groups: GroupRules,
    /// Hosts whose windows contradict each other, with the reason.
    #[serde(default)]
    pub conflicts: BTreeMap<String, String>,
    /// How urgent hosts are.
    #[serde(default)]
    pub needs: BTreeMap<String, Need>,
}

impl Planning {
    /// What a plan is made from by these rules.
    #[must_use]
    pub fn input<'a>(&'a self, hosts: &'a [Host], found: &'a [Lacks], history: &'a History) -> PlanInput<'a> {
        PlanInput {
            hosts,
            found,
            baselines: &self.baselines,
            groups: &self.groups,
            conflicts: &self.conflicts,
            holds: &[],
            windows: &self.windows,
            window_of: &self.window_of,
            needs: &self.needs,
            durations: &history.durations,
            rates: &history.rates,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    hosts: Vec<Host>,
    /// What was found on each, in their order; null for a host that could not be looked at.
    found: Vec<Option<Found>>,
    #[serde(default)]
    failed: Vec<Failed>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    undo: UndoIntent,
    planning: Planning,
    /// The roster that was approved, where there is one.
    #[serde(default)]
    approved: Option<ArtifactId>,
}

#[derive(Clone, Deserialize)]
struct Found {
    host: String,
    missing: ArtifactId,
    #[serde(default)]
    packages: Value,
    #[serde(default)]
    findings: Value,
    #[serde(default)]
    download_bytes: u64,
}

#[derive(Deserialize)]
struct Failed {
    index: usize,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A host that could be looked at.
struct Part<'a> {
    host: Host,
    found: &'a Found,
    lacks: Lacks,
    /// Its system with the version.
    release: String,
    /// The names of its packages, where they are known.
    installed: BTreeSet<String>,
    /// What it lacks, with the date of each changelog.
    offered: Vec<(MissingPatch, Option<Moment>)>,
}

/// `campaign.plan`: freezes what all hosts lack into one plan of waves and windows.
///
/// With the roster that was approved, it holds it against what is found now: as long as every approved package is still at its
/// former version and its approved version still on offer, the approved plan stands, whatever else has appeared; otherwise the
/// plan is made anew, and the difference told.
///
/// # Shape
/// In: `{hosts: [Host], found: [{host, missing, packages, findings, download_bytes} | null], failed: [{index, code, message}],
/// mode?, undo?, planning: Planning, approved?}`. Out: `{artifact, digest, roster, count, packages, window: {start, end}, waves:
/// [{name, soak_ms, hosts: [{id, relay_lane, cluster, …}]}], left_out: [{host, why}], not_now, notes, drifted, difference}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakeCampaign;

impl Handler for MakeCampaign {
    fn uses(&self) -> &'static str {
        "campaign.plan"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let approved: Option<Roster> = match &asked.approved {
                Some(id) => Some(context.get_json(id).await?),
                None => None,
            };
            let (parts, mut left_out) = parts(&asked, context).await?;
            let history = remember(&parts, context)?;
            let difference =
                approved.as_ref().map(|roster| differences(roster.plan.plan(), &parts)).unwrap_or_default();
            let roster = match approved.filter(|_| difference.is_empty()) {
                Some(roster) => roster,
                None => roster_of(&asked, &parts, &history, context)?,
            };
            let told =
                roster.plan.left_out().iter().filter(|left| {
                    !matches!(left.reason, LeftOutReason::NothingMissing | LeftOutReason::NotInInventory)
                });
            left_out.extend(told.map(|left| (left.host.clone(), left.why.clone())));
            answer(context, &asked, &roster, &parts, (&left_out, &difference)).await
        })
    }
}

/// What was found, host by host, and the hosts that could not be looked at with the reason.
async fn parts<'a>(asked: &'a Input, context: &TaskContext) -> Result<(Vec<Part<'a>>, Vec<(String, String)>), Failure> {
    let holds = holds::of(context)?;
    let (mut parts, mut left_out) = (Vec::new(), Vec::new());
    for (at, host) in asked.hosts.iter().enumerate() {
        match asked.found.get(at).and_then(Option::as_ref) {
            Some(found) if found.host != host.id => {
                let text = format!("found[{at}] is of host {}, hosts[{at}] is {}", found.host, host.id);
                return Err(permanent("E0508", text));
            }
            Some(found) => {
                let mut missing: Missing = context.get_json(&found.missing).await?;
                // A host reads the holds of its own directory: those of the fleet are here.
                holds::reject(&holds, &host.id, &mut missing);
                let scan = scan(&found.packages, context).await?;
                let os = host.os.clone().or_else(|| scan.as_ref().and_then(os));
                let host = Host { os, ..host.clone() };
                let offered =
                    missing.patches.iter().map(|patch| (patch.clone(), missing.changelog_of(patch))).collect();
                let release = release(&host);
                let lacks = lacks(&host, missing, asked.undo);
                let packages = scan.into_iter().flat_map(|scan| scan.packages);
                let installed = packages.map(|package| package.id.name).collect();
                parts.push(Part { host, found, lacks, release, installed, offered });
            }
            None => {
                let why = asked.failed.iter().find(|failed| failed.index == at);
                let why = why.map_or_else(
                    || "nothing is known of it".to_owned(),
                    |failed| format!("{}: {}", failed.code, failed.message),
                );
                left_out.push((host.id.clone(), why));
            }
        }
    }
    Ok((parts, left_out))
}

/// What was read of a host, where it was.
async fn scan(packages: &Value, context: &TaskContext) -> Result<Option<PackageScan>, Failure> {
    let Some(id) = packages.as_str().and_then(|id| id.parse::<ArtifactId>().ok()) else { return Ok(None) };
    Ok(Some(context.get_json(&id).await?))
}

/// What a host said it runs, where nobody else did.
fn os(scan: &PackageScan) -> Option<HostOs> {
    let PackageScan { os, architecture, .. } = scan;
    let version = Some(os.version.clone()).filter(|version| !version.is_empty());
    Some(os.id.clone()).filter(|id| !id.is_empty()).map(|id| HostOs { id, version, arch: Some(architecture.clone()) })
}

/// A system with its version: what is on offer for one is not for another.
fn release(host: &Host) -> String {
    let version = host.os.as_ref().and_then(|os| os.version.as_deref()).unwrap_or_default();
    format!("{} {version}", system(host))
}

fn lacks(host: &Host, missing: Missing, undo: UndoIntent) -> Lacks {
    let offer = |patch: MissingPatch| Offer {
        patch,
        release_date: None,
        first_seen: None,
        not_before: None,
        section: String::new(),
        priority: String::new(),
        severity: String::new(),
        classification: String::new(),
    };
    Lacks {
        host: host.id.clone(),
        patches: missing.patches.into_iter().map(offer).collect(),
        withheld: missing.withheld,
        undo,
        no_undo: None,
        not_patchable: None,
        deadline: None,
    }
}

/// Takes down which versions are on offer, so that a baseline can count its delay from the first time.
fn remember(parts: &[Part<'_>], context: &TaskContext) -> Result<History, Failure> {
    let now = moment(Instant(context.now().0));
    let looks: Vec<Look<'_>> = parts
        .iter()
        .map(|part| Look {
            os: system(&part.host),
            release: &part.release,
            installed: &part.installed,
            offered: &part.offered,
        })
        .collect();
    Ok(HistoryStore::new(context.data().root()).update(|history| history.look(&looks, now))?)
}

fn system(host: &Host) -> &str {
    host.os.as_ref().map_or("", |os| os.id.as_str())
}

fn moment(at: Instant) -> Moment {
    Moment(i64::try_from(at.0 / SECOND_MS).unwrap_or(i64::MAX))
}

fn roster_of(asked: &Input, parts: &[Part<'_>], history: &History, context: &TaskContext) -> Result<Roster, Failure> {
    let planning = &asked.planning;
    let now = Instant(context.now().0);
    let hosts: Vec<Host> = parts.iter().map(|part| part.host.clone()).collect();
    let mut found: Vec<Lacks> = parts.iter().map(|part| part.lacks.clone()).collect();
    for (lacks, host) in found.iter_mut().zip(&hosts) {
        for offer in &mut lacks.patches {
            let seen = history.seen.get(system(host), &offer.patch.id.name, &offer.patch.candidate);
            offer.first_seen = seen.map(|seen| seen.first_seen);
            offer.release_date = seen.and_then(|seen| seen.changelog);
            offer.not_before = seen.and_then(|seen| seen.not_before);
        }
    }
    let settings = PlanSettings {
        mode: asked.mode,
        now,
        waves: planning.waves.clone(),
        limits: planning.limits,
        cutoff: planning.cutoff,
        reboot: planning.reboot,
        reboot_reserve_ms: planning.reboot_reserve_ms,
    };
    // Holds are no offers any more: each stands under what is withheld, with its reason.
    let input = planning.input(&hosts, &found, history);
    let plan: CampaignPlan = plan_campaign(input, &settings).map_err(|error| permanent("E0609", chain(&error)))?;
    let baseline = |host: &Host| {
        let chosen = baseline_of(host, &planning.baselines, &planning.groups).ok().flatten();
        chosen.map(|baseline| baseline.name.clone())
    };
    let named: Vec<(Host, Option<String>)> = hosts.iter().map(|host| (host.clone(), baseline(host))).collect();
    let mut roster = Roster::new(plan, &named);
    for (host, lacks) in hosts.iter().zip(&found) {
        let rows = not_now(&input, host, lacks, now);
        if !rows.is_empty() {
            roster.not_now.insert(host.id.clone(), rows);
        }
    }
    Ok(roster)
}

/// What of an approved plan cannot be done any more as it was approved, in sentences.
///
/// A host that could not be looked at again says nothing: its checks will. What is new since the approval is for another time.
fn differences(approved: &Plan, parts: &[Part<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for part in parts {
        let host = &part.host;
        let Some(then) = approved.host(&host.id) else { continue };
        let now = part.lacks.patches.iter().map(|offer| &offer.patch);
        let found: BTreeMap<&PackageId, &MissingPatch> = now.map(|patch| (&patch.id, patch)).collect();
        all.extend(then.changes.iter().filter_map(|change| {
            let what = changed(change, found.get(&change.id).copied())?;
            Some(format!("{}: {} {what}", host.id, change.id.name))
        }));
    }
    all
}

fn changed(change: &PlannedChange, found: Option<&MissingPatch>) -> Option<String> {
    let version = |version: &Option<String>| version.as_deref().unwrap_or("(absent)").to_owned();
    Some(match found {
        None => format!(
            "is not missing any more ({} was approved): somebody else changed it, or it is held or not offered",
            change.candidate
        ),
        Some(found) if found.installed != change.installed => format!(
            "is at {} now, the approval was for a change from {}",
            version(&found.installed),
            version(&change.installed),
        ),
        Some(found) if (&found.candidate, &found.sha256) != (&change.candidate, &change.sha256) => {
            format!("{} is on offer now, {} was approved", found.candidate, change.candidate)
        }
        Some(_) => return None,
    })
}

/// The planned time of the change: from the first window to the last.
fn window(roster: &Roster, now: Instant) -> Window {
    if roster.plan.plan().mode() == Mode::Observe || roster.plan.slots().is_empty() {
        return Window { start: now, end: now.plus(OBSERVE_MS) };
    }
    let spans = || roster.plan.slots().iter().map(|slot| slot.occurrence);
    let start = spans().map(|span| span.open).min().unwrap_or(now);
    Window { start, end: spans().map(|span| span.close).max().unwrap_or(now) }
}

/// The waves with the hosts of each, as the workflow takes them.
fn waves(roster: &Roster, parts: &[Part<'_>]) -> Vec<Value> {
    let by_id: BTreeMap<&str, &Found> = parts.iter().map(|part| (part.host.id.as_str(), part.found)).collect();
    let observed = roster.plan.plan().mode() == Mode::Observe;
    let mut lanes: BTreeMap<String, u32> = BTreeMap::new();
    let per_relay = roster.plan.limits().per_relay.unwrap_or(u32::MAX).max(1);
    let mut waves: Vec<Vec<Value>> = vec![Vec::new(); roster.plan.waves().len()];
    for (slot, part) in roster.plan.items() {
        let Some(wave) = usize::try_from(slot.wave).ok().and_then(|at| waves.get_mut(at)) else { continue };
        let found = by_id.get(slot.host.as_str());
        // Limits go by these; a host that says nothing shares them with nobody.
        let lane = slot.relay.as_ref().map_or_else(
            || format!("host {}", slot.host),
            |relay| {
                let next = lanes.entry(format!("{}/{relay}", slot.wave)).or_insert(0);
                *next += 1;
                format!("{relay} #{}", (*next - 1) % per_relay + 1)
            },
        );
        wave.push(json!({
            "id": slot.host,
            "target": part.target,
            "relay_lane": lane,
            "cluster": slot.cluster.clone().unwrap_or_else(|| format!("host {}", slot.host)),
            "opens": if observed { 0 } else { slot.occurrence.open.0 },
            "packages": found.map_or(Value::Null, |found| found.packages.clone()),
            "findings": found.map_or(Value::Null, |found| found.findings.clone()),
            "download_bytes": found.map_or(0, |found| found.download_bytes),
        }));
    }
    let row = |(wave, hosts): (&patchloom_domain::PlannedWave, Vec<Value>)| {
        // Nothing changed, so there is nothing to watch.
        json!({ "name": wave.name, "soak_ms": if observed { 0 } else { wave.soak_ms }, "hosts": hosts })
    };
    roster.plan.waves().iter().zip(waves).map(row).collect()
}

async fn answer(
    context: &TaskContext,
    asked: &Input,
    roster: &Roster,
    parts: &[Part<'_>],
    (left_out, difference): (&[(String, String)], &[String]),
) -> Result<Value, Failure> {
    let plan = roster.plan.plan();
    let more = difference.len().checked_sub(TOLD_MAX).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    let told: Vec<String> = difference.iter().take(TOLD_MAX).cloned().chain(more).collect();
    let known: BTreeSet<&str> = asked.hosts.iter().map(|host| host.id.as_str()).collect();
    let left_out = left_out.iter().filter(|(host, _)| known.contains(host.as_str()));
    Ok(json!({
        "artifact": context.put_json(plan).await?,
        "digest": plan.digest(),
        "roster": context.put_json(roster).await?,
        "count": plan.hosts().len(),
        "packages": plan.change_count(),
        "window": window(roster, Instant(context.now().0)),
        "waves": waves(roster, parts),
        "left_out": left_out.map(|(host, why)| json!({ "host": host, "why": why })).collect::<Vec<_>>(),
        "not_now": roster.not_now.values().map(Vec::len).sum::<usize>(),
        "notes": roster.plan.notes(),
        "drifted": !difference.is_empty(),
        "difference": told.join("\n"),
    }))
}
