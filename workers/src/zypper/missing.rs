//! The patches that a target lacks by what zypper fetched, and those it is offered but does not get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use patchloom_domain::{InstalledPackage, MissingPatch, PackageId, RpmVersion, cve_order};
use tokio_util::sync::CancellationToken;

use super::ZYPPER;
use super::xml::{self, Tag};
use crate::apt::missing::{KeptBack, KeptReason, Missing, Removal};
use crate::apt::{Error, ask, failed};
use crate::host::{HostExec, Order};

/// Where an administrator's locks are.
const LOCKS: &str = "/etc/zypp/locks";

/// The severities of patches, as urgencies, from the gravest on.
const SEVERITIES: [(&str, &str); 4] =
    [("critical", "critical"), ("important", "high"), ("moderate", "medium"), ("low", "low")];

/// A patch of the vendor, as far as it bears on packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Advisory {
    pub(super) security: bool,
    pub(super) severity: String,
    pub(super) cves: BTreeSet<String>,
    /// Packages that it will not have below a version.
    pub(super) below: Vec<(String, String)>,
}

/// Compares what is installed with what `zypper update` would make of it.
///
/// # Errors
/// When zypper could not be asked, or answers in another shape.
pub(super) async fn missing(
    exec: &HostExec,
    installed: &[InstalledPackage],
    cancel: &CancellationToken,
) -> Result<Missing, Error> {
    let dry = exec.run(&zypper(&["--xmlout", "update", "--no-recommends", "--dry-run"]), cancel).await?;
    // 102, 103, 106 and 107 tell of what is to be done besides; all others below 100 are failures.
    if dry.code().is_none_or(|code| code != 0 && code < 100) || dry.stdout.truncated {
        return Err(failed(exec, &dry));
    }
    let transaction = xml::summary(&dry.stdout.text);
    let offered = ask(exec, &zypper(&["--xmlout", "list-updates", "--all"]), cancel).await?;
    let offered = updates(&offered);
    let advisories = advisories(exec, cancel).await?;
    let sources: BTreeMap<&PackageId, &InstalledPackage> = installed.iter().map(|one| (&one.id, one)).collect();
    let patch = |id: &PackageId, before: Option<&String>, version: &str, origin: &str| MissingPatch {
        source: sources.get(id).map_or(id.name.clone(), |one| one.source.clone()),
        ..told(id, before, version, origin, &advisories)
    };
    let origin = |id: &PackageId| offered.get(id).map_or("", |offer| offer.origin.as_str()).to_owned();
    let mut patches: Vec<MissingPatch> = transaction
        .installs
        .iter()
        .map(|(id, (before, version))| patch(id, before.as_ref(), version, &origin(id)))
        .collect();
    patches.sort_by(|a, b| a.id.cmp(&b.id));
    let locked = locked(&fs::read_to_string(exec.path(LOCKS)).unwrap_or_default());
    let left: Vec<_> = offered.iter().filter(|(id, _)| !transaction.installs.contains_key(*id)).collect();
    let is_held = |id: &PackageId| locked.contains(&id.name);
    let kept_back = left.iter().map(|(id, offer)| KeptBack {
        name: id.name.clone(),
        installed: offer.before.clone(),
        candidate: Some(offer.version.clone()),
        reason: if is_held(id) { KeptReason::Held } else { KeptReason::Dependencies },
    });
    let withheld = left.iter().filter(|(id, _)| is_held(id));
    let withheld = withheld.map(|(id, offer)| patch(id, offer.before.as_ref(), &offer.version, &offer.origin));
    let removes = transaction.removes.into_iter();
    Ok(Missing {
        kept_back: kept_back.collect(),
        withheld: withheld.collect(),
        patches,
        removes: removes.map(|(name, version)| Removal { name, installed: Some(version) }).collect(),
        dates: Vec::new(),
    })
}

/// zypper writes its log and its caches even where it only answers.
fn zypper(more: &[&str]) -> Order {
    Order::changing(ZYPPER.iter().chain(more).copied())
}

/// A newer version of what is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) before: Option<String>,
    pub(super) version: String,
    pub(super) origin: String,
}

pub(super) fn updates(text: &str) -> BTreeMap<PackageId, Offer> {
    let mut found = BTreeMap::new();
    let mut current: Option<PackageId> = None;
    for tag in xml::tags(text) {
        match tag.name.as_str() {
            "update" if tag.get("kind") == "package" => {
                let before = Some(tag.get("edition-old").to_owned()).filter(|old| !old.is_empty());
                let version = tag.get("edition").to_owned();
                current = Some(tag.package());
                found.insert(tag.package(), Offer { before, version, origin: String::new() });
            }
            "source" => {
                let offer = current.as_ref().and_then(|id| found.get_mut(id));
                offer.into_iter().for_each(|offer| offer.origin = tag.get("alias").to_owned());
            }
            _ => {}
        }
    }
    found
}

async fn advisories(exec: &HostExec, cancel: &CancellationToken) -> Result<Vec<Advisory>, Error> {
    let mut found = patches(&ask(exec, &zypper(&["--xmlout", "list-patches"]), cancel).await?);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = ["info", "-t", "patch"].into_iter().chain(found.keys().map(String::as_str)).collect();
    for (name, below) in conflicts(&ask(exec, &zypper(&names), cancel).await?) {
        found.entry(name).and_modify(|advisory| advisory.below.extend(below));
    }
    Ok(found.into_values().collect())
}

/// The needed patches of `zypper --xmlout list-patches`, by name.
pub(super) fn patches(text: &str) -> BTreeMap<String, Advisory> {
    let mut found: BTreeMap<String, Advisory> = BTreeMap::new();
    let mut current = String::new();
    let is_patch = |tag: &Tag| tag.name == "update" && tag.get("kind") == "patch";
    for tag in xml::tags(text) {
        if is_patch(&tag) {
            current = tag.get("name").to_owned();
            let advisory = found.entry(current.clone()).or_default();
            advisory.security = tag.get("category") == "security";
            advisory.severity = tag.get("severity").to_owned();
        } else if tag.name == "issue" && tag.get("type") == "cve" {
            found.entry(current.clone()).or_default().cves.insert(tag.get("id").to_owned());
        }
    }
    found
}

/// Names of patches, and the packages with the version below which each will not have them.
pub(super) type Conflicts = Vec<(String, Vec<(String, String)>)>;

/// What each patch of `zypper info -t patch` conflicts with.
pub(super) fn conflicts(text: &str) -> Conflicts {
    let mut found = Conflicts::new();
    let mut inside = false;
    for line in text.lines() {
        let field = line.split_once(" : ").map(|(key, value)| (key.trim(), value.trim()));
        let row = match field {
            Some(("Name", name)) => {
                found.push((name.to_owned(), Vec::new()));
                inside = false;
                None
            }
            Some(("Conflicts", value)) => {
                inside = true;
                below(value)
            }
            Some(_) => {
                inside = false;
                None
            }
            None if inside => below(line),
            None => None,
        };
        if let (Some(row), Some((_, rows))) = (row, found.last_mut()) {
            rows.push(row);
        }
    }
    found
}

/// `loom-lib < 2-1`, or `loom-lib.x86_64 < 2-1`; sources are nothing that is installed.
fn below(text: &str) -> Option<(String, String)> {
    let (name, version) = text.trim().split_once(" < ")?;
    (!name.starts_with("srcpackage:")).then(|| (name.to_owned(), version.trim().to_owned()))
}

fn told(id: &PackageId, before: Option<&String>, version: &str, origin: &str, all: &[Advisory]) -> MissingPatch {
    let parsed = |version: &str| version.parse::<RpmVersion>().ok();
    let named = |(name, fixed): &(String, String)| {
        let same = *name == id.name || *name == format!("{}.{}", id.name, id.arch);
        same && parsed(fixed) <= parsed(version) && before.is_none_or(|before| parsed(before) < parsed(fixed))
    };
    let of: Vec<&Advisory> = all.iter().filter(|advisory| advisory.below.iter().any(named)).collect();
    let mut cves: Vec<String> = of.iter().flat_map(|advisory| advisory.cves.iter().cloned()).collect();
    cves.sort_by_key(|cve| cve_order(cve));
    cves.dedup();
    let graver = SEVERITIES.iter().find(|(severity, _)| of.iter().any(|advisory| advisory.severity == *severity));
    MissingPatch {
        id: id.clone(),
        installed: before.cloned(),
        candidate: version.to_owned(),
        source: id.name.clone(),
        source_version: version.to_owned(),
        origin: origin.to_owned(),
        security: of.iter().any(|advisory| advisory.security),
        sha256: None,
        size_bytes: None,
        cves,
        urgency: graver.map(|(_, urgency)| (*urgency).to_owned()),
        note: of.is_empty().then(|| "no patch of the repository names this version".to_owned()),
        held: None,
    }
}

/// Names in a file of locks; a lock by any other property is zypper's alone to judge.
pub(super) fn locked(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("solvable_name:"))
        .map(|name| name.trim().to_owned())
        .collect()
}
