//! Reads Debian changelogs: which CVE ids an update names, and how urgent its maintainer called it.
//! Knows nothing of where the text comes from.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::correlate::changelog_moment;
use crate::{DebVersion, Moment, Urgency};

/// More ids than this of one update are not kept: a kernel names some thousands, a broken text could name any number.
pub const CVES_MAX: usize = 4096;

/// One entry of a changelog: one version of a source package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogEntry {
    /// Source package name.
    pub source: String,
    /// Source version.
    pub version: String,
    /// The suites it was uploaded to: `bookworm-security`, `unstable`.
    pub suites: String,
    /// The urgency its maintainer gave it, as written.
    pub urgency: String,
    /// The CVE ids in its text, upper case.
    pub cves: BTreeSet<String>,
    /// When, as its trailer line says.
    pub date: Option<String>,
}

/// What lies between the installed version and the candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogSpan {
    /// How many entries there are.
    pub entries: usize,
    /// The CVE ids that they name, sorted by year and number, without those that were fixed before.
    pub cves: Vec<String>,
    /// Ids that the entries name although the installed version's own changelog names them already.
    pub known_before: Vec<String>,
    /// The most urgent of the entries, as written.
    pub urgency: Option<String>,
    /// The date of the newest entry, as written.
    pub date: Option<String>,
    /// Whether the candidate's changelog lists the installed version: else the span is a guess by version order.
    pub descends: bool,
    /// What a reader of `cves` must know about its completeness; empty when nothing.
    pub notes: Vec<String>,
}

/// All entries of a changelog, newest first.
///
/// What is before the first heading and what is no heading, text or trailer is passed over: changelogs of the last
/// century end in formats of their own.
///
/// # Source
/// Debian Policy 4.4; deb-changelog(5).
#[must_use]
pub fn changelog_entries(text: &str) -> Vec<ChangelogEntry> {
    let mut found: Vec<ChangelogEntry> = Vec::new();
    for line in text.lines() {
        if let Some(entry) = heading(line) {
            found.push(entry);
        } else if let Some(entry) = found.last_mut() {
            match line.strip_prefix(" -- ").and_then(|trailer| trailer.rsplit_once(">  ")) {
                Some((_, date)) => entry.date = Some(date.trim().to_owned()),
                None => collect_cves(line, &mut entry.cves),
            }
        }
    }
    found
}

/// When a version was written down, by its changelog; none where that cannot be: no entry, no date, or a date more than a day
/// before that of the entry below it, which only a wrong clock gives.
///
/// # Shape
/// `entries` newest first; `version` is a source version, a `+bN` of a binary-only rebuild is taken off.
/// # Example
/// ```
/// use patchloom_domain::{Moment, changelog_date, changelog_entries};
/// let text = "p (2) s; urgency=low\n\n -- A <a@b>  Mon, 02 Nov 2026 10:00:00 +0000\n\n\
///             p (1) s; urgency=low\n\n -- A <a@b>  Sun, 01 Nov 2026 10:00:00 +0000\n";
/// let entries = changelog_entries(text);
/// assert_eq!(changelog_date(&entries, &"2+b1".parse().unwrap()), Moment::parse("2026-11-02T10:00:00Z").ok());
/// let wrong = changelog_entries(&text.replace("02 Nov 2026", "02 Nov 1996"));
/// assert_eq!(changelog_date(&wrong, &"2".parse().unwrap()), None);
/// ```
#[must_use]
pub fn changelog_date(entries: &[ChangelogEntry], version: &DebVersion) -> Option<Moment> {
    const DAY: i64 = 86_400;
    let version = version.without_rebuild();
    let at = entries.iter().position(|entry| entry.version.parse().ok().as_ref() == Some(&version))?;
    let date = |entry: &ChangelogEntry| entry.date.as_deref().and_then(changelog_moment);
    let written = date(&entries[at])?;
    let below = entries.get(at + 1).and_then(date);
    below.is_none_or(|below| below.0 <= written.0.saturating_add(DAY)).then_some(written)
}

/// All CVE ids of a text, upper case.
#[must_use]
pub fn cve_ids(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    text.lines().for_each(|line| collect_cves(line, &mut ids));
    ids
}

/// What the step from `installed` to `candidate` changes, by the candidate's changelog.
///
/// `known` are the ids in the installed version's own changelog, where that could be read; it is needed only where the
/// candidate's changelog does not list the installed version. An update that was rebased on a new upstream version
/// repeats ids that backports had fixed before: those are subtracted. On the same upstream version a repeated id is a
/// second, better fix, and counts.
///
/// # Shape
/// Versions are source versions; a `+bN` of a binary-only rebuild is taken off.
#[must_use]
pub fn between(
    entries: &[ChangelogEntry],
    installed: &DebVersion,
    candidate: &DebVersion,
    known: Option<&BTreeSet<String>>,
) -> ChangelogSpan {
    let installed = installed.without_rebuild();
    let candidate = candidate.without_rebuild();
    let versions: Vec<Option<DebVersion>> = entries.iter().map(|entry| entry.version.parse().ok()).collect();
    let listed_at = versions.iter().position(|version| version.as_ref() == Some(&installed));
    // In a true history all above the installed version is new, even where versions once went back in between.
    let is_older = |version: &Option<DebVersion>| version.as_ref().is_some_and(|version| *version <= installed);
    let end = listed_at.or_else(|| versions.iter().position(is_older)).unwrap_or(entries.len());
    let inside = |version: &Option<DebVersion>| {
        version.as_ref().is_some_and(|version| *version > installed && *version <= candidate)
    };
    let span: Vec<&ChangelogEntry> = entries
        .iter()
        .zip(&versions)
        .take(end)
        .filter(|(_, version)| inside(version))
        .map(|(entry, _)| entry)
        .collect();
    let mut earlier: BTreeSet<&String> = known.into_iter().flatten().collect();
    if let Some(at) = listed_at {
        earlier.extend(entries[at..].iter().flat_map(|entry| &entry.cves));
    }
    let history = History {
        descends: listed_at.is_some(),
        rebased: listed_at.is_none() || installed.upstream() != candidate.upstream(),
        is_known: listed_at.is_some() || known.is_some(),
        earlier,
    };
    summarize(&span, &history, &installed)
}

/// How the candidate comes from the installed version.
struct History<'a> {
    /// Its changelog lists the installed version.
    descends: bool,
    /// It is on another upstream version, or on another branch.
    rebased: bool,
    /// Whether the installed version's own changelog is known.
    is_known: bool,
    /// The ids that one names.
    earlier: BTreeSet<&'a String>,
}

fn summarize(span: &[&ChangelogEntry], history: &History<'_>, installed: &DebVersion) -> ChangelogSpan {
    let named: BTreeSet<&String> = span.iter().flat_map(|entry| &entry.cves).collect();
    let is_earlier = |id: &&String| history.earlier.contains(*id);
    let known_before: Vec<String> = named.iter().copied().filter(is_earlier).cloned().collect();
    let counts = |id: &&String| !(history.rebased && history.earlier.contains(*id));
    let mut cves: Vec<String> = named.into_iter().filter(counts).cloned().collect();
    cves.sort_by_key(|id| cve_order(id));
    let mut notes = Vec::new();
    if span.is_empty() {
        notes.push(format!("the changelog of the candidate has no entry newer than {installed}"));
    } else if !history.descends {
        notes.push(match history.is_known {
            true => format!("the candidate does not descend from {installed}: chosen by version order"),
            false => format!(
                "the candidate does not descend from {installed}, whose own changelog is not there: \
                 some of these may have been fixed before"
            ),
        });
    }
    if cves.len() > CVES_MAX {
        notes.push(format!("only the newest {CVES_MAX} of {} CVE ids are kept", cves.len()));
        cves.drain(..cves.len() - CVES_MAX);
    }
    let urgency = span.iter().map(|entry| &entry.urgency).max_by_key(|text| Urgency::of(text)).cloned();
    let date = span.first().and_then(|entry| entry.date.clone());
    ChangelogSpan { entries: span.len(), cves, known_before, urgency, date, descends: history.descends, notes }
}

/// Year and number of a CVE id, for an order that a person expects: CVE-2024-999 before CVE-2024-10000.
#[must_use]
pub fn cve_order(id: &str) -> (u32, u64) {
    let mut parts = id.split('-').skip(1);
    let year = parts.next().and_then(|year| year.parse().ok()).unwrap_or(u32::MAX);
    (year, parts.next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX))
}

/// `source (version) suites; key=value, key=value`.
fn heading(line: &str) -> Option<ChangelogEntry> {
    if line.starts_with(char::is_whitespace) {
        return None;
    }
    let (source, rest) = line.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?;
    let (suites, fields) = rest.split_once(';')?;
    let fields = fields.to_ascii_lowercase();
    let urgency = fields.split(',').find_map(|field| field.trim().strip_prefix("urgency="))?;
    if source.contains(char::is_whitespace) {
        return None;
    }
    Some(ChangelogEntry {
        source: source.to_owned(),
        version: version.to_owned(),
        suites: suites.trim().to_owned(),
        urgency: urgency.split_whitespace().next().unwrap_or("").to_owned(),
        cves: BTreeSet::new(),
        date: None,
    })
}

/// Adds each `CVE-YYYY-NNNN…` of a line.
fn collect_cves(line: &str, ids: &mut BTreeSet<String>) {
    let bytes = line.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.windows(4).position(is_cve)) {
        let start = at + found;
        at = start + 4;
        let count = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count(at) != 4 || bytes.get(at + 4) != Some(&b'-') {
            continue;
        }
        let digits = count(at + 5);
        // Seven digits are the most that were ever given out; a longer run is no id.
        if (4..=12).contains(&digits) {
            ids.insert(format!("CVE-{}", &line[at..at + 5 + digits]));
        }
    }
}

fn is_cve(four: &[u8]) -> bool {
    four.eq_ignore_ascii_case(b"CVE-")
}
