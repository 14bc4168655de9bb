//! Which vulnerabilities the missing patches fix, by the changelogs inside the packages on offer.
//!
//! All binaries of one source ship the same changelog, so one .deb per source and version is enough: the smallest.

mod gather;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use patchloom_domain::{
    CVES_UNKNOWN, ChangelogEntry, ChangelogSpan, DebVersion, InstalledPackage, MissingPatch, between, changelog_date,
    cve_ids,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::deb::installed_changelog;
use super::fetch::Wanted as Carrier;
use super::missing::Dated;
use crate::host::HostExec;

/// Bounds of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Use only what is cached.
    pub offline: bool,
    /// Download no more than this in all.
    pub bytes_max: u64,
    /// Time for one download.
    pub download: Duration,
    /// Begin no download after this.
    pub total: Duration,
    /// Downloads at a time.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offline: false,
            bytes_max: 512 << 20,
            download: Duration::from_secs(60),
            total: Duration::from_secs(300),
            parallel: 4,
        }
    }
}

/// How the search went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Source packages looked at.
    pub sources: usize,
    /// Of those, with a changelog that could be read.
    pub known: usize,
    /// Changelogs that were read before.
    pub from_cache: usize,
    /// .debs downloaded now.
    pub downloaded: usize,
    /// Their size in all.
    pub downloaded_bytes: u64,
    /// Why the list is incomplete; empty when it is not.
    pub notes: Vec<String>,
}

/// One source version, with the binaries that carry its changelog, smallest first.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) security: bool,
    pub(crate) carriers: Vec<Carrier>,
}

/// What was learned of one source version.
#[derive(Clone, Debug)]
pub(crate) enum Learned {
    Entries(Vec<ChangelogEntry>),
    Unknown(String),
}

/// Fills in CVE ids, urgency and notes of `patches`; says when their versions were written down.
///
/// # Errors
/// When the search was cancelled or the cache cannot be used; whatever could not be learned is a note.
pub async fn fill(
    exec: &HostExec,
    cache: &Path,
    installed: &[InstalledPackage],
    patches: &mut [MissingPatch],
    limits: &Limits,
    cancel: &CancellationToken,
    tell: &(dyn Fn(f64, String) + Sync),
) -> Result<(Tally, Vec<Dated>), Error> {
    let before: BTreeMap<(&str, &str), &InstalledPackage> =
        installed.iter().map(|package| ((package.id.name.as_str(), package.version.as_str()), package)).collect();
    let source_before = |patch: &MissingPatch| -> Option<String> {
        let version = patch.installed.as_deref()?;
        let package = before.get(&(patch.id.name.as_str(), version));
        Some(package.map_or_else(|| version.to_owned(), |package| package.source_version.clone()))
    };
    let mut sources: BTreeMap<(String, String), Source> = BTreeMap::new();
    for patch in patches.iter() {
        // A package that comes new fixes nothing here, and a rebuild of the same source changes no source.
        if source_before(patch).is_none_or(|before| before == patch.source_version) {
            continue;
        }
        let key = (patch.source.clone(), patch.source_version.clone());
        let source = sources.entry(key).or_insert_with(|| Source { security: false, carriers: Vec::new() });
        source.security |= patch.security;
        if let (Some(sha256), Some(size_bytes)) = (&patch.sha256, patch.size_bytes) {
            source.carriers.push(Carrier {
                name: patch.id.name.clone(),
                arch: patch.id.arch.clone(),
                version: patch.candidate.clone(),
                sha256: sha256.clone(),
                size_bytes,
            });
        }
    }
    for source in sources.values_mut() {
        source.carriers.sort_by(|a, b| (a.size_bytes, &a.name).cmp(&(b.size_bytes, &b.name)));
    }
    let (learned, mut tally) = gather::gather(exec, cache, &sources, limits, cancel, tell).await?;
    let docs = exec.path("/usr/share/doc");
    for patch in patches.iter_mut() {
        let Some(before) = source_before(patch).filter(|before| *before != patch.source_version) else { continue };
        match learned.get(&(patch.source.clone(), patch.source_version.clone())) {
            Some(Learned::Entries(entries)) => apply(patch, entries, &before, &docs),
            Some(Learned::Unknown(why)) => patch.note = Some(format!("{CVES_UNKNOWN}: {why}")),
            None => {}
        }
    }
    tally.notes = incomplete(&learned);
    Ok((tally, dates(&learned)))
}

/// When the versions were written down, where their changelogs say so.
fn dates(learned: &BTreeMap<(String, String), Learned>) -> Vec<Dated> {
    let dated = |((source, version), what): (&(String, String), &Learned)| {
        let Learned::Entries(entries) = what else { return None };
        let changelog = changelog_date(entries, &version.parse().ok()?)?;
        Some(Dated { source: source.clone(), version: version.clone(), changelog })
    };
    learned.iter().filter_map(dated).collect()
}

fn apply(patch: &mut MissingPatch, entries: &[ChangelogEntry], before: &str, docs: &Path) {
    let (before, after) = match (before.parse::<DebVersion>(), patch.source_version.parse::<DebVersion>()) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            patch.note = Some(format!("{CVES_UNKNOWN}: {error}"));
            return;
        }
    };
    let mut span: ChangelogSpan = between(entries, &before, &after, None);
    if !span.descends {
        let known: Option<BTreeSet<String>> = installed_changelog(docs, &patch.id.name).map(|text| cve_ids(&text));
        span = between(entries, &before, &after, known.as_ref());
    }
    patch.urgency = span.urgency;
    if has_no_kernel_code(patch) && !span.cves.is_empty() {
        // Headers, tools and documentation are built from the kernel's source; its thousands of ids would drown all else.
        patch.note = Some(format!(
            "{} CVE ids of the kernel's changelog are not counted, because this package holds no kernel (a flaw of a \
             tool that is built beside it may be among them)",
            span.cves.len()
        ));
        return;
    }
    patch.cves = span.cves;
    patch.note = (!span.notes.is_empty()).then(|| span.notes.join("; "));
}

/// Whether a package comes from the kernel's source without being a kernel or a part of one.
fn has_no_kernel_code(patch: &MissingPatch) -> bool {
    let is_kernel_source = patch.source == "linux" || patch.source.starts_with("linux-");
    let is_kernel = ["linux-image-", "linux-modules-"].iter().any(|name| patch.id.name.starts_with(name));
    is_kernel_source && !is_kernel
}

/// One note per reason, with the sources it concerns.
fn incomplete(learned: &BTreeMap<(String, String), Learned>) -> Vec<String> {
    const NAMED_MAX: usize = 5;
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for ((source, _), what) in learned {
        if let Learned::Unknown(why) = what {
            by_reason.entry(why).or_default().push(source);
        }
    }
    let note = |(why, names): (&str, Vec<&str>)| {
        let more = names.len().saturating_sub(NAMED_MAX);
        let named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("CVE list incomplete: {named}{and_more}: {why}")
    };
    by_reason.into_iter().map(note).collect()
}

#[cfg(test)]
mod tests {
    use patchloom_domain::PackageId;

    use super::*;

    fn patch(name: &str, source: &str) -> MissingPatch {
        MissingPatch {
            id: PackageId { name: name.to_owned(), arch: "amd64".to_owned() },
            installed: Some("6.1.1-1".to_owned()),
            candidate: "6.1.2-1".to_owned(),
            source: source.to_owned(),
            source_version: "6.1.2-1".to_owned(),
            origin: String::new(),
            security: true,
            sha256: None,
            size_bytes: None,
            cves: Vec::new(),
            urgency: None,
            note: None,
            held: None,
        }
    }

    fn learned(patch: &mut MissingPatch) {
        let text = "linux (6.1.2-1) s; urgency=high\n\n  * CVE-2026-1234\n\n -- A <a@b>  x\n\nlinux (6.1.1-1) s; urgency=low\n";
        apply(patch, &patchloom_domain::changelog_entries(text), "6.1.1-1", Path::new("/no/such/folder"));
    }

    #[test]
    fn the_flaws_of_a_kernel_count_for_the_kernel_and_not_for_its_headers() {
        let mut image = patch("linux-image-6.1.0-30-amd64", "linux-signed-amd64");
        learned(&mut image);
        assert_eq!((image.cves.len(), image.note), (1, None));
        let mut headers = patch("linux-libc-dev", "linux");
        learned(&mut headers);
        assert_eq!((headers.cves.len(), headers.urgency.as_deref()), (0, Some("high")));
        assert!(headers.note.unwrap().starts_with("1 CVE ids of the kernel's changelog are not counted"));
    }

    #[test]
    fn what_could_not_be_learned_is_told_once_per_reason() {
        let unknown = |name: &str, why: &str| ((name.to_owned(), "1".to_owned()), Learned::Unknown(why.to_owned()));
        let mut all: BTreeMap<_, _> = (0..7).map(|n| unknown(&format!("p{n}"), "no network")).collect();
        all.extend([unknown("q", "too large"), (("r".to_owned(), "1".to_owned()), Learned::Entries(Vec::new()))]);
        assert_eq!(
            incomplete(&all),
            ["CVE list incomplete: p0, p1, p2, p3, p4 and 2 more: no network", "CVE list incomplete: q: too large",]
        );
    }
}
