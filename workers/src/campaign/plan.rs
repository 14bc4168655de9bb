//! `campaign.plan`: one plan of what all hosts of a campaign lack, and the roster of who is taken when.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::Failure;
use patchloom_domain::{
    CampaignPatch, Host, HostPlan, Instant, MissingPatch, Mode, PackageId, Plan, PlannedChange, Roster, UndoIntent,
    Wave, WaveRules,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::apt::missing::Missing;
use crate::artifact::ArtifactId;
use crate::changes::input;
use crate::failure::{chain, permanent};
use crate::holds;
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// What a patch of a host takes at least, and each package of it: until there is a history, a careful guess.
const BASE_MS: u64 = 60 * 1000;
const PACKAGE_MS: u64 = 5 * 1000;

/// Differences that are told by name.
const TOLD_MAX: usize = 20;

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
    waves: WaveRules,
    /// The plan that was approved, where there is one.
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

/// `campaign.plan`: freezes what all hosts lack into one plan.
///
/// With the plan that was approved, it holds it against what is found now: as long as every approved package is still at its
/// former version and its approved version still on offer, the approved plan stands, whatever else has appeared; otherwise the
/// plan is made anew, and the difference told.
///
/// # Shape
/// In: `{hosts: [Host], found: [{host, missing, packages, findings, download_bytes} | null], failed: [{index, code, message}],
/// mode?, undo?, waves: {canary, pilot, canary_failures?, pilot_failures?}, approved?}`. Out: `{artifact, digest, roster, count,
/// packages, hosts: [{id, wave, relay, cluster, …}], left_out: [{host, why}], drifted, difference}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakeCampaign;

impl Handler for MakeCampaign {
    fn uses(&self) -> &'static str {
        "campaign.plan"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let approved: Option<Plan> = match &asked.approved {
                Some(id) => Some(context.get_json(id).await?),
                None => None,
            };
            let holds = holds::of(context)?;
            let mut parts = Vec::new();
            let mut left_out = Vec::new();
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
                        let changes: Vec<_> = missing.patches.into_iter().map(planned).collect();
                        parts.push((host, found, changes));
                    }
                    None => {
                        let why = asked.failed.iter().find(|failed| failed.index == at);
                        let why = why.map_or_else(
                            || "nothing is known of it".to_owned(),
                            |failed| format!("{}: {}", failed.code, failed.message),
                        );
                        left_out.push((host, why));
                    }
                }
            }
            let difference = approved.as_ref().map(|plan| differences(plan, &parts)).unwrap_or_default();
            let stands = approved.filter(|_| difference.is_empty());
            let plan = match stands {
                Some(plan) => plan,
                None => plan_of(&asked, &parts, context)?,
            };
            answer(context, &asked, &plan, &parts, &left_out, &difference).await
        })
    }
}

type Part<'a> = (&'a Host, &'a Found, Vec<PlannedChange>);

fn planned(patch: MissingPatch) -> PlannedChange {
    let MissingPatch { id, installed, candidate, sha256, cves, security, .. } = patch;
    PlannedChange { id, installed, candidate, sha256, cves, security }
}

fn plan_of(asked: &Input, parts: &[Part<'_>], context: &TaskContext) -> Result<Plan, Failure> {
    let wanted = parts.iter().filter(|(_, _, changes)| !changes.is_empty());
    let part = |(host, _, changes): &Part<'_>| HostPlan {
        host: host.id.clone(),
        target: host.target.clone(),
        changes: changes.clone(),
        undo: asked.undo,
    };
    Plan::new(asked.mode, Instant(context.now().0), wanted.map(part).collect(), Vec::new())
        .map_err(|error| permanent("E0609", chain(&error)))
}

/// What of an approved plan cannot be done any more as it was approved, in sentences.
///
/// A host that could not be looked at again says nothing: its checks will. What is new since the approval is for another time.
fn differences(approved: &Plan, parts: &[Part<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for (host, _, now) in parts {
        let Some(then) = approved.host(&host.id) else { continue };
        let found: BTreeMap<&PackageId, &PlannedChange> = now.iter().map(|change| (&change.id, change)).collect();
        for change in &then.changes {
            let name = format!("{}: {}", host.id, change.id.name);
            match found.get(&change.id) {
                None => all.push(format!(
                    "{name} is not missing any more ({} was approved): somebody else changed it, or it is not offered",
                    change.candidate
                )),
                Some(found) if found.installed != change.installed => all.push(format!(
                    "{name} is at {} now, the approval was for a change from {}",
                    found.installed.as_deref().unwrap_or("(absent)"),
                    change.installed.as_deref().unwrap_or("(absent)"),
                )),
                Some(found) if (&found.candidate, &found.sha256) != (&change.candidate, &change.sha256) => {
                    all.push(format!("{name} {} is on offer now, {} was approved", found.candidate, change.candidate));
                }
                Some(_) => {}
            }
        }
    }
    all
}

async fn answer(
    context: &TaskContext,
    asked: &Input,
    plan: &Plan,
    parts: &[Part<'_>],
    left_out: &[(&Host, String)],
    difference: &[String],
) -> Result<Value, Failure> {
    let named: BTreeSet<&str> = plan.hosts().iter().map(|part| part.host.as_str()).collect();
    let by_id: BTreeMap<&str, &Part<'_>> = parts.iter().map(|part| (part.0.id.as_str(), part)).collect();
    let expected = |host: &str| {
        let count = plan.host(host).map_or(0, |part| part.changes.len());
        BASE_MS.saturating_add(PACKAGE_MS.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX)))
    };
    let patches = |host: &str| {
        let patch = |change: &PlannedChange| CampaignPatch {
            package: change.id.name.clone(),
            version: change.candidate.clone(),
        };
        plan.host(host).map(|part| part.changes.iter().map(patch).collect()).unwrap_or_default()
    };
    let taken = asked.hosts.iter().filter(|host| named.contains(host.id.as_str()));
    let taken = taken.map(|host| (host.clone(), expected(&host.id), patches(&host.id))).collect();
    let roster = Roster::new(taken, asked.waves);
    let row = |entry: &patchloom_domain::Entry| {
        let found = by_id.get(entry.host.id.as_str()).map(|part| part.1);
        json!({
            "id": entry.host.id,
            "target": entry.host.target,
            "wave": entry.wave,
            // Limits go by these; a host that says nothing shares them with nobody.
            "relay": entry.host.relay.clone().unwrap_or_else(|| format!("host {}", entry.host.id)),
            "cluster": entry.host.cluster.clone().unwrap_or_else(|| format!("host {}", entry.host.id)),
            "packages": found.map_or(Value::Null, |found| found.packages.clone()),
            "findings": found.map_or(Value::Null, |found| found.findings.clone()),
            "download_bytes": found.map_or(0, |found| found.download_bytes),
        })
    };
    let count = |wave: Wave| roster.hosts.iter().filter(|entry| entry.wave == wave).count();
    let told =
        difference.iter().take(TOLD_MAX).cloned().chain(
            difference.len().checked_sub(TOLD_MAX).filter(|more| *more > 0).map(|more| format!("and {more} more")),
        );
    Ok(json!({
        "artifact": context.put_json(plan).await?,
        "digest": plan.digest(),
        "roster": context.put_json(&roster).await?,
        "count": roster.hosts.len(),
        "packages": plan.change_count(),
        "waves": { "canary": count(Wave::Canary), "pilot": count(Wave::Pilot), "broad": count(Wave::Broad) },
        "hosts": roster.hosts.iter().map(row).collect::<Vec<_>>(),
        "left_out": left_out.iter().map(|(host, why)| json!({ "host": host.id, "why": why })).collect::<Vec<_>>(),
        "drifted": !difference.is_empty(),
        "difference": told.collect::<Vec<_>>().join("\n"),
    }))
}
