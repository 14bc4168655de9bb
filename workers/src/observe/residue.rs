//! Gathers what explains the findings that a patch left; the judgement itself is the domain's.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::Failure;
use patchloom_domain::{
    Finding, HostNow, Mode, OfferNow, PackageId, Residual, VersionScheme, residual, unfixed_packages,
};

use super::need::kernel;
use super::scan::{PackageScan, is_broken};
use super::stale;
use crate::apt::candidates;
use crate::apt::missing::KeptReason;
use crate::failure::chain;
use crate::holds;
use crate::host::HostExec;
use crate::manager::{PackageManager, manager_of};
use crate::runtime::TaskContext;

/// What a patch was about.
pub(super) struct Patched<'a> {
    /// The host's name, as holds know it.
    pub(super) host: &'a str,
    pub(super) mode: Mode,
    pub(super) planned: BTreeSet<&'a PackageId>,
    pub(super) findings: &'a [Finding],
}

/// The findings that are still there, each with its reason.
pub(super) async fn residuals(
    exec: &HostExec,
    context: &TaskContext,
    scan: &PackageScan,
    patched: Patched<'_>,
) -> Result<Vec<Residual>, Failure> {
    if patched.findings.is_empty() {
        return Ok(Vec::new());
    }
    let manager = manager_of(exec);
    let rpm = manager.name() != "apt";
    let mut host = HostNow {
        scheme: if rpm { VersionScheme::Rpm } else { VersionScheme::Deb },
        mode: patched.mode,
        packages: scan.present().map(|package| (&package.id, package)).collect(),
        broken: scan.present().filter(|package| is_broken(package)).map(|package| &package.id).collect(),
        planned: patched.planned,
        kernel: kernel(exec),
        stale: stale::processes(exec, rpm, context.cancel()).await,
        offers: BTreeMap::new(),
        unasked: None,
        holds: BTreeMap::new(),
        lists_age_ms: None,
    };
    let open = unfixed_packages(patched.findings, &host);
    if !open.is_empty() {
        context.progress(0.6, format!("asking {} why {} packages are not fixed", manager.name(), open.len()));
        host.holds = held(context, patched.host, &open)?;
        match offers(exec, context, manager, scan, &open).await {
            Ok((offers, age)) => (host.offers, host.lists_age_ms) = (offers, age),
            // Why a finding is open is worth less than that it is: a reason that cannot be had is told as such.
            Err(error) => host.unasked = Some(chain(&error)),
        }
    }
    Ok(patched.findings.iter().filter_map(|finding| residual(finding, &host)).collect())
}

/// The versions of these packages that Patchloom holds on the host.
fn held(
    context: &TaskContext,
    host: &str,
    open: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<(String, String)>>, Failure> {
    let holds = holds::of(context)?;
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for hold in holds.iter().filter(|hold| open.contains(&hold.key.package)) {
        let Some(active) = holds.held(host, &hold.key.package, &hold.key.version) else { continue };
        let why = active.causes.last().map_or_else(String::new, |cause| cause.why.clone());
        found.entry(hold.key.package.clone()).or_default().push((hold.key.version.clone(), why));
    }
    Ok(found)
}

/// What the lists have of these packages, and how old they are.
async fn offers(
    exec: &HostExec,
    context: &TaskContext,
    manager: &dyn PackageManager,
    scan: &PackageScan,
    open: &BTreeSet<String>,
) -> Result<(BTreeMap<String, OfferNow>, Option<u64>), crate::apt::Error> {
    let lists = manager.lists(exec, context.now(), context.cancel()).await?;
    let missing = manager.missing(exec, &scan.packages, context.cancel()).await?;
    let mut found: BTreeMap<String, OfferNow> = BTreeMap::new();
    for patch in missing.patches.iter().chain(&missing.withheld).filter(|patch| open.contains(&patch.id.name)) {
        found.entry(patch.id.name.clone()).or_default().candidate = Some(patch.candidate.clone());
    }
    for kept in missing.kept_back.iter().filter(|kept| open.contains(&kept.name)) {
        let offer = found.entry(kept.name.clone()).or_default();
        offer.candidate = kept.candidate.clone().or(offer.candidate.take());
        offer.phased |= kept.reason == KeptReason::Phased;
        offer.kept_back |= kept.reason == KeptReason::Dependencies;
    }
    if manager.name() == "apt" {
        let names: Vec<String> = open.iter().cloned().collect();
        for (name, policy) in candidates::policy(exec, &names, context.cancel()).await? {
            let offer = found.entry(name).or_default();
            (offer.candidate, offer.versions) = (policy.candidate, policy.versions);
        }
    }
    Ok((found, lists.updated.map(|updated| context.now().since(updated).0)))
}
