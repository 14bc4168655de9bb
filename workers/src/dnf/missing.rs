//! The patches that a target lacks by what dnf fetched, and those it is offered but does not get.

use std::collections::BTreeMap;

use patchloom_domain::{InstalledPackage, MissingPatch, PackageId, RpmVersion};
use tokio_util::sync::CancellationToken;

use super::advisories::{self, Advisories};
use super::offers::{self, Offer};
use super::{Generation, source_of};
use crate::apt::Error;
use crate::apt::missing::{KeptBack, KeptReason, Missing, Removal};
use crate::host::HostExec;

/// Compares what is installed with what `dnf upgrade` would make of it.
///
/// dnf passes over an upgrade whose dependencies fail and exits 0: what repositories offer and the transaction does not hold is kept
/// back, as excluded by the configuration (held) or for its dependencies.
///
/// # Errors
/// When dnf could not be asked, or answers in another shape.
pub(super) async fn missing(
    exec: &HostExec,
    dnf: Generation,
    installed: &[InstalledPackage],
    cancel: &CancellationToken,
) -> Result<Missing, Error> {
    let transaction = offers::dry_run(exec, dnf, cancel).await?;
    let mut all = offers::upgrades(exec, dnf, true, cancel).await?;
    let open = offers::upgrades(exec, dnf, false, cancel).await?;
    let unknown = |id: &PackageId, version: &String| !all.iter().any(|one| one.id == *id && one.version == *version);
    let new = transaction.installs.iter().filter(|(id, version)| unknown(id, version));
    let new: Vec<String> = new.map(|(id, version)| format!("{}-{version}.{}", id.name, id.arch)).collect();
    all.extend(offers::describe(exec, dnf, &new, cancel).await?);
    let told = advisories::read(exec, dnf, cancel).await?;
    let versions = newest(installed);
    let is_taken = |offer: &&Offer| transaction.installs.get(&offer.id) == Some(&offer.version);
    let is_open = |offer: &Offer| open.iter().any(|one| one.id == offer.id && one.version == offer.version);
    let mut patches: Vec<MissingPatch> =
        all.iter().filter(is_taken).map(|offer| patch(offer, &versions, &told)).collect();
    patches.sort_by(|a, b| a.id.cmp(&b.id));
    patches.dedup_by(|a, b| a.id == b.id);
    let left: Vec<&Offer> = all.iter().filter(|offer| !transaction.installs.contains_key(&offer.id)).collect();
    let kept_back = left.iter().map(|offer| KeptBack {
        name: offer.id.name.clone(),
        installed: versions.get(&offer.id).map(|version| (*version).to_owned()),
        candidate: Some(offer.version.clone()),
        reason: if is_open(offer) { KeptReason::Dependencies } else { KeptReason::Held },
    });
    let kept_back: Vec<KeptBack> = kept_back.collect();
    let withheld = left.iter().filter(|offer| !is_open(offer)).map(|offer| patch(offer, &versions, &told)).collect();
    let removes = transaction.removes.into_iter();
    let removes = removes.map(|(name, version)| Removal { name, installed: Some(version) }).collect();
    Ok(Missing { patches, kept_back, withheld, removes, dates: Vec::new() })
}

/// The newest installed version of each package: of kernels there are several.
fn newest(installed: &[InstalledPackage]) -> BTreeMap<PackageId, &str> {
    let mut found: BTreeMap<PackageId, &str> = BTreeMap::new();
    for package in installed {
        let kept = found.entry(package.id.clone()).or_insert(&package.version);
        let newer = package.version.parse::<RpmVersion>().ok() > kept.parse::<RpmVersion>().ok();
        if newer {
            *kept = &package.version;
        }
    }
    found
}

fn patch(offer: &Offer, installed: &BTreeMap<PackageId, &str>, advisories: &Advisories) -> MissingPatch {
    let told = advisories.up_to(&offer.id, &offer.version);
    let (source, source_version) = source_of(&offer.source).unwrap_or((&offer.id.name, &offer.version));
    MissingPatch {
        id: offer.id.clone(),
        installed: installed.get(&offer.id).map(|version| (*version).to_owned()),
        candidate: offer.version.clone(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        origin: offer.repository.clone(),
        security: told.security,
        sha256: None,
        size_bytes: offer.size_bytes,
        cves: told.cves,
        urgency: told.urgency,
        note: told.ids.is_empty().then(|| "no advisory of the repository names this version".to_owned()),
        held: None,
    }
}
