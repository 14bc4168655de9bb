//! `correlate.missing` and `correlate.cves`: which patches a target lacks, and which vulnerabilities they fix.

use std::collections::BTreeSet;

use patchloom_core::Failure;
use patchloom_domain::{Finding, Knowledge, MissingPatch, Priority, Target, host_urgency, patch_urgency};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PackageScan, boxed, decode, encode, open, optional};
use crate::apt::cves::{Limits, Tally, fill};
use crate::apt::missing::Missing;
use crate::artifact::ArtifactId;
use crate::failure::permanent;
use crate::holds;
use crate::manager::manager_of;
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::{self, Fact, host_name};

/// Patches shown in the small output; all of them are in the artifact.
const SHOWN_MAX: usize = 10;

/// CVE ids shown of one patch.
const CVES_SHOWN_MAX: usize = 5;

/// `correlate.missing {target, packages?}` → `{artifact, count, security, new, kept_back, removes, download_bytes, lists}`;
/// the artifact is a [`Missing`].
pub struct CorrelateMissing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MissingInput {
    target: Target,
    #[serde(default, deserialize_with = "optional")]
    packages: Option<ArtifactId>,
}

impl Handler for CorrelateMissing {
    fn uses(&self) -> &'static str {
        "correlate.missing"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: MissingInput = decode(self.uses(), input)?;
            let exec = open(context, &input.target)?;
            let manager = manager_of(&exec);
            let lists = manager.lists(&exec, context.now(), context.cancel()).await?;
            if lists.indexes == 0 {
                // Without lists it would answer that nothing is missing: a lie that looks like good news.
                let (name, refresh) = (manager.name(), manager.refresh());
                let message = format!("{name} has no package lists on {}: run {refresh} there first", exec.place());
                return Err(permanent("E0520", message));
            }
            let scan = PackageScan::recall(&exec, context, input.packages.as_ref()).await?;
            context.progress(0.1, format!("asking {} what is missing", manager.name()));
            let mut found = manager.missing(&exec, &scan.packages, context.cancel()).await?;
            holds::reject(&holds::of(context)?, &host_name(&input.target), &mut found);
            let bytes = found.patches.iter().filter_map(|patch| patch.size_bytes).fold(0_u64, u64::saturating_add);
            Ok(json!({
                "artifact": context.put_json(&found).await?,
                "count": found.patches.len(),
                "security": found.patches.iter().filter(|patch| patch.security).count(),
                "new": found.patches.iter().filter(|patch| patch.installed.is_none()).count(),
                "kept_back": found.kept_back.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
                "kept_back_count": found.kept_back.len(),
                "removes": found.removes.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
                "removes_count": found.removes.len(),
                "download_bytes": bytes,
                "lists": {
                    "updated": lists.updated,
                    "age_ms": lists.updated.map(|updated| context.now().since(updated).0),
                    "expired": lists.expired.len(),
                },
            }))
        })
    }
}

/// `correlate.cves {target, packages?, missing, offline?, bytes_max?}` → `{artifact, findings, count, security, cves,
/// withheld, withheld_cves, urgency, top, complete, notes, sources, known, from_cache, downloaded, downloaded_bytes}`.
///
/// The artifact is the [`Missing`] of the input with CVE ids, urgency and notes; `findings` is the artifact of a list of
/// [`Finding`].
pub struct CorrelateCves;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CvesInput {
    target: Target,
    #[serde(default, deserialize_with = "optional")]
    packages: Option<ArtifactId>,
    missing: ArtifactId,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    bytes_max: Option<u64>,
}

impl Handler for CorrelateCves {
    fn uses(&self) -> &'static str {
        "correlate.cves"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: CvesInput = decode(self.uses(), input)?;
            let exec = open(context, &input.target)?;
            let scan = PackageScan::recall(&exec, context, input.packages.as_ref()).await?;
            let mut found: Missing = context.get_json(&input.missing).await?;
            let defaults = Limits::default();
            let limits =
                Limits { offline: input.offline, bytes_max: input.bytes_max.unwrap_or(defaults.bytes_max), ..defaults };
            let tell = |part: f64, text: String| context.progress(part, text);
            let cache = context.data().cache();
            // Held ones last: what they would fix is open on the host like the rest.
            let wanted = found.patches.len();
            let mut all = std::mem::take(&mut found.patches);
            all.append(&mut found.withheld);
            let (tally, knowledge) = if manager_of(&exec).tells_cves() {
                (told_by_advisories(&all), Knowledge::Advisory)
            } else {
                context.progress(0.0, "reading the changelogs of the patches");
                let (tally, dates) =
                    fill(&exec, &cache, &scan.packages, &mut all, &limits, context.cancel(), &tell).await?;
                found.dates = dates;
                (tally, Knowledge::Changelog)
            };
            let findings: Vec<Finding> = all.iter().flat_map(|patch| findings_of(patch, &knowledge)).collect();
            found.withheld = all.split_off(wanted);
            found.patches = all;
            let withheld_cves: BTreeSet<&String> = found.withheld.iter().flat_map(|patch| &patch.cves).collect();
            let urgency = host_urgency(&found.patches);
            let facts = json!({
                "patches": found.patches.len(), "security": urgency.security, "cves": urgency.cves,
                "withheld": found.withheld.len(), "complete": tally.notes.is_empty(),
            });
            tell::host(context, Fact::HostAssessed, &host_name(&input.target), facts);
            encode(&json!({
                "artifact": context.put_json(&found).await?,
                "findings": context.put_json(&findings).await?,
                "findings_count": findings.len(),
                "count": found.patches.len(),
                "security": urgency.security,
                "cves": urgency.cves,
                "withheld": found.withheld.len(),
                "withheld_cves": withheld_cves.len(),
                "urgency": urgency,
                "top": top(&found.patches),
                "complete": tally.notes.is_empty(),
                "offline": input.offline,
                "notes": tally.notes,
                "sources": tally.sources,
                "known": tally.known,
                "from_cache": tally.from_cache,
                "downloaded": tally.downloaded,
                "downloaded_bytes": tally.downloaded_bytes,
            }))
        })
    }
}

/// What there is to tell of patches whose vulnerabilities are known already.
fn told_by_advisories(patches: &[MissingPatch]) -> Tally {
    let sources: BTreeSet<&String> = patches.iter().map(|patch| &patch.source).collect();
    let known: BTreeSet<&String> =
        patches.iter().filter(|patch| patch.note.is_none()).map(|patch| &patch.source).collect();
    Tally { sources: sources.len(), known: known.len(), ..Tally::default() }
}

fn findings_of(patch: &MissingPatch, knowledge: &Knowledge) -> Vec<Finding> {
    let Some(installed) = &patch.installed else { return Vec::new() };
    let finding = |cve: &String| Finding {
        cve: cve.clone(),
        package: patch.id.clone(),
        source: patch.source.clone(),
        installed: installed.clone(),
        fixed: Some(patch.candidate.clone()),
        severity: None,
        knowledge: knowledge.clone(),
        security: patch.security,
        note: patch.note.clone(),
    };
    patch.cves.iter().map(finding).collect()
}

/// The most urgent patches in short, one per source.
fn top(patches: &[MissingPatch]) -> Vec<Value> {
    let mut judged: Vec<_> = patches.iter().map(|patch| (patch_urgency(patch), patch)).collect();
    judged.retain(|(judged, _)| judged.priority > Priority::Routine);
    judged.sort_by(|(a, left), (b, right)| {
        (b.priority, right.cves.len()).cmp(&(a.priority, left.cves.len())).then_with(|| left.id.cmp(&right.id))
    });
    let mut sources = BTreeSet::new();
    judged.retain(|(_, patch)| sources.insert(patch.source.clone()));
    let row = |(judged, patch): &(patchloom_domain::Judged, &MissingPatch)| {
        json!({
            "package": patch.id.name,
            "source": patch.source,
            "installed": patch.installed,
            "candidate": patch.candidate,
            "priority": judged.priority,
            "reason": judged.reason,
            "cves": patch.cves.len(),
            "newest": patch.cves.iter().rev().take(CVES_SHOWN_MAX).collect::<Vec<_>>(),
        })
    };
    judged.iter().take(SHOWN_MAX).map(row).collect()
}
