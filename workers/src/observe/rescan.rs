//! `verify.rescan`: reads the package set again and compares it with the plan. What a command said counts for nothing.

use std::collections::BTreeMap;

use patchloom_core::Failure;
use patchloom_domain::{Finding, InstalledPackage, PackageId, Residual, Target, residual_counts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check::Mode;
use super::residue::{Patched, residuals};
use super::scan::{PackageScan, is_broken};
use super::{boxed, decode, encode, open, optional};
use crate::artifact::ArtifactId;
use crate::failure::permanent;
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::{self, Fact, host_name};

/// Rows shown in the small output; all of them are in the artifact.
const SHOWN_MAX: usize = 20;

/// `verify.rescan {target, host?, plan?, mode?, before?, findings?}` → `{artifact, ok, planned, arrived, missed, drift,
/// residual, reasons, left, fixed, summary, report}`; each finding that is left has its reason.
///
/// `plan` is the artifact of a plan, in which the part of `host` counts, or that of the target; `before` of a package scan, `findings` of a list of [`Finding`]. In mode `apply` a
/// planned version that is not there fails the task with E0541; in mode `observe` nothing was to change, and a package
/// set that is not the one before is told as drift.
pub struct VerifyRescan;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    target: Target,
    /// Its name in the plan; without one its part is found by the target.
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default, deserialize_with = "optional")]
    plan: Option<ArtifactId>,
    #[serde(default, deserialize_with = "optional")]
    before: Option<ArtifactId>,
    #[serde(default, deserialize_with = "optional")]
    findings: Option<ArtifactId>,
}

/// What this handler reads of a plan.
#[derive(Deserialize)]
struct PlanView {
    hosts: Vec<HostView>,
}

#[derive(Deserialize)]
struct HostView {
    host: String,
    target: Target,
    changes: Vec<ChangeView>,
}

#[derive(Deserialize)]
struct ChangeView {
    #[serde(flatten)]
    id: PackageId,
    candidate: String,
}

/// A planned version that is not there, or a package that changed without a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Difference {
    #[serde(flatten)]
    id: PackageId,
    expected: Option<String>,
    found: Option<String>,
    reason: String,
}

impl Handler for VerifyRescan {
    fn uses(&self) -> &'static str {
        "verify.rescan"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: Input = decode(self.uses(), input)?;
            let exec = open(context, &input.target)?;
            context.progress(0.1, "reading the package database again");
            let scan = PackageScan::read(&exec, context).await?;
            let plan: Option<PlanView> = match &input.plan {
                Some(id) => Some(context.get_json(id).await?),
                None => None,
            };
            let planned: Vec<&ChangeView> = match &plan {
                Some(plan) => part_of(plan, &input)?.changes.iter().collect(),
                None => Vec::new(),
            };
            let before: Option<PackageScan> = match &input.before {
                Some(id) => Some(context.get_json(id).await?),
                None => None,
            };
            let findings: Vec<Finding> = match &input.findings {
                Some(id) => context.get_json(id).await?,
                None => Vec::new(),
            };
            let now = index(&scan);
            let missed: Vec<Difference> = planned.iter().filter_map(|change| missed(change, &now)).collect();
            let drift = before.as_ref().map(|before| drift(before, &now, &planned, input.mode)).unwrap_or_default();
            let host = input.host.clone().unwrap_or_else(|| host_name(&input.target));
            let patched = Patched {
                host: &host,
                mode: input.mode.into(),
                planned: planned.iter().map(|change| &change.id).collect(),
                findings: &findings,
            };
            let residual = residuals(&exec, context, &scan, patched).await?;
            let ok = match input.mode {
                Mode::Apply => missed.is_empty() && scan.present().all(|package| !is_broken(package)),
                Mode::Observe => drift.is_empty(),
            };
            let arrived = planned.len() - missed.len();
            let summary = summary(input.mode, planned.len(), arrived, drift.len(), &residual);
            let answer = json!({
                "artifact": context.put_json(&scan).await?,
                "report": context.put_json(&json!({ "missed": missed, "drift": drift, "residual": residual })).await?,
                "ok": ok,
                "planned": planned.len(),
                "arrived": arrived,
                "missed": missed.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
                "drift": drift.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
                "drift_count": drift.len(),
                "fixed": findings.len() - residual.len(),
                "residual": residual.len(),
                "reasons": residual_counts(&residual).into_iter().collect::<BTreeMap<_, _>>(),
                "left": residual.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
                "summary": summary,
            });
            let host = host_name(&input.target);
            if input.mode == Mode::Apply && !ok {
                let message = format!("{} is not as planned: {summary}", exec.place());
                let failure = Failure { details: answer, ..permanent("E0541", message) };
                tell::failed(context, &host, "verify", None, &failure);
                return Err(failure);
            }
            let facts = json!({
                "ok": ok, "planned": planned.len(), "arrived": arrived, "drift": drift.len(), "residual": residual.len(),
            });
            tell::host(context, Fact::HostVerified, &host, facts);
            encode(&answer)
        })
    }
}

/// What the plan says of this host. A plan that does not know it must not pass for one in which nothing was to be done.
fn part_of<'a>(plan: &'a PlanView, input: &Input) -> Result<&'a HostView, Failure> {
    let is_it = |view: &&HostView| match &input.host {
        Some(name) => view.host == *name,
        None => view.target == input.target,
    };
    plan.hosts.iter().find(is_it).ok_or_else(|| {
        let name = input.host.as_deref().unwrap_or("the target");
        permanent("E0609", format!("the plan has no part for {name}"))
    })
}

fn index(scan: &PackageScan) -> BTreeMap<&PackageId, &InstalledPackage> {
    scan.present().map(|package| (&package.id, package)).collect()
}

/// The package of a planned change. dpkg knows it by the architecture it has now, which an upgrade may change (to `all`).
fn find<'a>(now: &BTreeMap<&PackageId, &'a InstalledPackage>, id: &PackageId) -> Option<&'a InstalledPackage> {
    now.get(id).copied()
}

fn missed(change: &ChangeView, now: &BTreeMap<&PackageId, &InstalledPackage>) -> Option<Difference> {
    let found = find(now, &change.id);
    let reason = match found {
        None => "the package is not there".to_owned(),
        Some(package) if is_broken(package) => format!("the package is half installed ({})", package.status),
        Some(package) if package.version != change.candidate => "another version is there".to_owned(),
        Some(_) => return None,
    };
    Some(Difference {
        id: change.id.clone(),
        expected: Some(change.candidate.clone()),
        found: found.map(|package| package.version.clone()),
        reason,
    })
}

/// What changed since `before` without being planned; in observe mode nothing was.
fn drift(
    before: &PackageScan,
    now: &BTreeMap<&PackageId, &InstalledPackage>,
    planned: &[&ChangeView],
    mode: Mode,
) -> Vec<Difference> {
    let was = index(before);
    let is_planned = |id: &PackageId| mode == Mode::Apply && planned.iter().any(|change| change.id == *id);
    let ids: std::collections::BTreeSet<&PackageId> = was.keys().chain(now.keys()).copied().collect();
    let differ = |id: &PackageId| {
        let (old, new) = (was.get(id), now.get(id));
        let state = |package: Option<&&InstalledPackage>| package.map(|p| (p.version.clone(), p.status.clone()));
        if is_planned(id) || state(old) == state(new) {
            return None;
        }
        let reason = match (old, new) {
            (None, _) => "came without a plan",
            (_, None) => "went without a plan",
            (Some(_), Some(_)) => "changed without a plan",
        };
        let version = |package: Option<&&InstalledPackage>| package.map(|p| p.version.clone());
        Some(Difference { id: id.clone(), expected: version(old), found: version(new), reason: reason.to_owned() })
    };
    ids.into_iter().filter_map(differ).collect()
}

/// What is left, counted by reason: `2 findings remain (1 kernel_not_booted, 1 held)`.
fn remaining(residual: &[Residual]) -> String {
    let counts: Vec<String> = residual_counts(residual).iter().map(|(name, count)| format!("{count} {name}")).collect();
    match counts.is_empty() {
        true => "0 findings remain".to_owned(),
        false => format!("{} findings remain ({})", residual.len(), counts.join(", ")),
    }
}

fn summary(mode: Mode, planned: usize, arrived: usize, drift: usize, residual: &[Residual]) -> String {
    let remain = remaining(residual);
    match mode {
        Mode::Apply => format!("{arrived} of {planned} planned versions are there, {remain}"),
        Mode::Observe if drift == 0 => format!("nothing changed, as intended; {remain}"),
        Mode::Observe => {
            format!("{drift} packages were changed by somebody else meanwhile; {remain}")
        }
    }
}
