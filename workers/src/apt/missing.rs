//! The patches that a target lacks by its own lists, and those it is offered but does not get.

use std::collections::BTreeMap;

use patchloom_domain::{InstalledPackage, MissingPatch, Moment, PackageId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::simulate::{Holds, Install, full_upgrade};
use super::{Candidate, Error, candidates, describe};
use crate::host::HostExec;

/// What a full upgrade of a target would do and would not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What would be installed, sorted by name and architecture.
    pub patches: Vec<MissingPatch>,
    /// What is offered and not taken.
    pub kept_back: Vec<KeptBack>,
    /// The patches of held packages: not to be installed, but what they would fix is open on the host.
    #[serde(default)]
    pub withheld: Vec<MissingPatch>,
    /// What would be removed to make way.
    pub removes: Vec<Removal>,
    /// When the source versions of the patches were written down, by their changelogs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<Dated>,
}

/// When a source version was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated {
    /// Source package name.
    pub source: String,
    /// Source version.
    pub version: String,
    /// The date of its changelog.
    pub changelog: Moment,
}

impl Missing {
    /// The date of the changelog that a patch ships.
    #[must_use]
    pub fn changelog_of(&self, patch: &MissingPatch) -> Option<Moment> {
        let is = |one: &&Dated| (&one.source, &one.version) == (&patch.source, &patch.source_version);
        self.dates.iter().find(is).map(|one| one.changelog)
    }
}

/// An installed package with a newer version on offer that an upgrade leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// Package name.
    pub name: String,
    /// Version on the host.
    pub installed: Option<String>,
    /// Version on offer.
    pub candidate: Option<String>,
    /// Why it stays.
    pub reason: KeptReason,
}

/// Why a package stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptReason {
    /// Somebody put it on hold.
    Held,
    /// The archive hands it out in phases, and this host is not in yet.
    Phased,
    /// The solver found no way to take it.
    Dependencies,
}

/// A package that an upgrade would take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Package name.
    pub name: String,
    /// Version on the host.
    pub installed: Option<String>,
}

/// Compares what is installed with what apt would make of it.
///
/// # Errors
/// When apt could not be asked.
pub async fn missing(
    exec: &HostExec,
    installed: &[InstalledPackage],
    cancel: &CancellationToken,
) -> Result<Missing, Error> {
    let simulation = full_upgrade(exec, Holds::Kept, cancel).await?;
    let patches = patches_of(exec, &simulation.installs, cancel).await?;
    let is_installed = |package: &&InstalledPackage| package.status.ends_with('i');
    let versions: BTreeMap<&str, &InstalledPackage> =
        installed.iter().filter(is_installed).map(|package| (package.id.name.as_str(), package)).collect();
    let mut names: Vec<String> = simulation.kept_back.iter().chain(&simulation.phased).cloned().collect();
    // A held package may also be silently left out of apt's plan: ask for those too.
    names.extend(versions.values().filter(|package| package.held).map(|package| package.id.name.clone()));
    names.sort();
    names.dedup();
    let offered = candidates::offered(exec, &names, cancel).await?;
    let kept = |name: String| {
        let package = versions.get(name.as_str()).copied();
        let candidate = offered.get(&name).cloned();
        let reason = match package {
            Some(package) if package.held => KeptReason::Held,
            Some(_) | None if simulation.phased.contains(&name) => KeptReason::Phased,
            Some(_) | None => KeptReason::Dependencies,
        };
        let installed = package.map(|package| package.version.clone());
        (candidate != installed).then_some(KeptBack { name, installed, candidate, reason })
    };
    let kept_back: Vec<KeptBack> = names.into_iter().filter_map(kept).collect();
    let withheld = withheld(exec, &kept_back, cancel).await?;
    let removes = simulation.removes.into_iter().map(|(name, installed)| Removal { name, installed }).collect();
    Ok(Missing { patches, kept_back, withheld, removes, dates: Vec::new() })
}

/// What the held packages would get without their hold.
async fn withheld(
    exec: &HostExec,
    kept_back: &[KeptBack],
    cancel: &CancellationToken,
) -> Result<Vec<MissingPatch>, Error> {
    let is_held = |name: &str| kept_back.iter().any(|kept| kept.name == name && kept.reason == KeptReason::Held);
    if !kept_back.iter().any(|kept| kept.reason == KeptReason::Held) {
        return Ok(Vec::new());
    }
    let mut simulation = full_upgrade(exec, Holds::Ignored, cancel).await?;
    simulation.installs.retain(|install| is_held(&install.name));
    patches_of(exec, &simulation.installs, cancel).await
}

/// The installs of a dry run with what the index says of them, sorted by name and architecture.
async fn patches_of(
    exec: &HostExec,
    installs: &[Install],
    cancel: &CancellationToken,
) -> Result<Vec<MissingPatch>, Error> {
    let wanted: Vec<(String, String)> = installs.iter().map(|one| (one.name.clone(), one.candidate.clone())).collect();
    let described = describe(exec, &wanted, cancel).await?;
    let mut patches: Vec<MissingPatch> = installs.iter().map(|one| patch(one, &described)).collect();
    patches.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(patches)
}

fn patch(install: &Install, described: &BTreeMap<(String, String), Candidate>) -> MissingPatch {
    let known = described.get(&(install.name.clone(), install.candidate.clone()));
    // An index of another architecture may be the one that answered: its hash is of another file.
    let same_file = known.filter(|candidate| candidate.arch == install.arch);
    MissingPatch {
        id: PackageId { name: install.name.clone(), arch: install.arch.clone() },
        installed: install.installed.clone(),
        candidate: install.candidate.clone(),
        source: known.map_or_else(|| install.name.clone(), |candidate| candidate.source.clone()),
        source_version: known.map_or_else(|| install.candidate.clone(), |candidate| candidate.source_version.clone()),
        origin: install.origin.clone(),
        security: install.is_security(),
        sha256: same_file.and_then(|candidate| candidate.sha256.clone()),
        size_bytes: same_file.and_then(|candidate| candidate.size_bytes),
        cves: Vec::new(),
        urgency: None,
        note: None,
        held: None,
    }
}
