//! What became of a plan on a host, judged by the package set alone.
//!
//! Exit codes of package managers lie (success for a half-configured package, failure for a complete install), so
//! nothing in here takes one. It knows nothing of how the sets were read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{InstalledPackage, PackageId, PlannedChange};

/// Version and status of one package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageState {
    /// Full dpkg version.
    pub version: String,
    /// dpkg's status abbreviation without trailing space: `ii`, `hi`, `iF`, `iU`, `rc` …
    pub status: String,
}

impl PackageState {
    /// Unpacked and configured, held or not, without an error flag.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        matches!(self.status.as_str(), "ii" | "hi")
    }

    /// A state in which dpkg leaves a package alone: installed, or removed with its configuration kept.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_installed() || matches!(self.status.as_str(), "rc" | "ri" | "pi" | "pc" | "hc" | "ic")
    }
}

impl fmt::Display for PackageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.status)
    }
}

/// The package database of a host at one moment: what is compared, and what a way back must reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Row>", into = "Vec<Row>")]
pub struct PackageSet(BTreeMap<PackageId, PackageState>);

#[derive(Serialize, Deserialize)]
struct Row(String, String, String, String);

impl From<Vec<Row>> for PackageSet {
    fn from(rows: Vec<Row>) -> Self {
        let pair = |Row(name, arch, version, status)| (PackageId { name, arch }, PackageState { version, status });
        Self(rows.into_iter().map(pair).collect())
    }
}

impl From<PackageSet> for Vec<Row> {
    fn from(set: PackageSet) -> Self {
        set.0.into_iter().map(|(id, state)| Row(id.name, id.arch, state.version, state.status)).collect()
    }
}

impl FromIterator<(PackageId, PackageState)> for PackageSet {
    fn from_iter<I: IntoIterator<Item = (PackageId, PackageState)>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

impl<'a> FromIterator<&'a InstalledPackage> for PackageSet {
    fn from_iter<I: IntoIterator<Item = &'a InstalledPackage>>(rows: I) -> Self {
        let pair = |p: &InstalledPackage| {
            (p.id.clone(), PackageState { version: p.version.clone(), status: p.status.clone() })
        };
        rows.into_iter().map(pair).collect()
    }
}

impl PackageSet {
    /// The state of one package; `None` where it is not there at all.
    #[must_use]
    pub fn get(&self, id: &PackageId) -> Option<&PackageState> {
        self.0.get(id)
    }

    /// All packages by name and architecture.
    pub fn iter(&self) -> impl Iterator<Item = (&PackageId, &PackageState)> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that differs from here to `after`, sorted by package.
    #[must_use]
    pub fn diff(&self, after: &Self) -> Vec<Drift> {
        let gone = self.0.iter().filter(|(id, _)| !after.0.contains_key(id)).map(|(id, state)| Drift {
            id: id.clone(),
            before: Some(state.clone()),
            after: None,
        });
        let other = after.0.iter().filter(|(id, state)| self.0.get(id) != Some(state)).map(|(id, state)| Drift {
            id: id.clone(),
            before: self.0.get(id).cloned(),
            after: Some(state.clone()),
        });
        let mut all: Vec<_> = gone.chain(other).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Packages that dpkg left half done.
    #[must_use]
    pub fn unsettled(&self) -> Vec<(PackageId, PackageState)> {
        self.0.iter().filter(|(_, state)| !state.is_at_rest()).map(|(id, s)| (id.clone(), s.clone())).collect()
    }
}

/// One package that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which package.
    #[serde(flatten)]
    pub id: PackageId,
    /// Its state before; `None` where it was not there.
    pub before: Option<PackageState>,
    /// Its state after; `None` where it is gone.
    pub after: Option<PackageState>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |state: &Option<PackageState>| state.as_ref().map_or("absent".to_owned(), ToString::to_string);
        write!(f, "{}:{} {} -> {}", self.id.name, self.id.arch, text(&self.before), text(&self.after))
    }
}

/// Why something failed: a stable code and one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `LOCKED`, `DISK`, `SCRIPTLET` … or an error code.
    pub code: String,
    /// One sentence for a person, with the facts.
    pub message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The way on which a host came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoWay {
    /// Nothing had changed.
    NothingToUndo,
    /// The former versions out of cached .debs.
    Packages,
    /// The snapshot, exactly.
    Snapshot,
}

impl fmt::Display for UndoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingToUndo => "nothing had changed",
            Self::Packages => "former packages reinstalled",
            Self::Snapshot => "snapshot restored",
        })
    }
}

/// What became of a host, as its change request tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum HostOutcome {
    /// Every planned package is at its version.
    Installed,
    /// The install was simulated and came out as planned; the host is untouched.
    Simulated,
    /// Nothing was to be done, or nothing was done.
    Unchanged,
    /// The install failed and the host came back.
    RolledBack {
        /// What failed.
        cause: Cause,
        /// On which way it came back.
        way: UndoWay,
        /// Whether the package set was read back and equals the one before.
        verified: bool,
    },
    /// It failed, and the host is not proven to be as before: an operator must look.
    Failed {
        /// What failed.
        cause: Cause,
    },
    /// Something stood in the way before anything on the host was changed: it is as it was.
    NotBegun {
        /// What.
        cause: Cause,
    },
    /// Left for another window.
    Deferred {
        /// Why.
        why: String,
    },
}

impl HostOutcome {
    /// Whether a change may be closed successful with this host in it.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Installed | Self::Simulated | Self::Unchanged => true,
            Self::RolledBack { .. } | Self::Failed { .. } | Self::NotBegun { .. } | Self::Deferred { .. } => false,
        }
    }
}

impl fmt::Display for HostOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("installed and verified"),
            Self::Simulated => f.write_str("simulated, nothing changed"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::RolledBack { cause, way, verified: true } => write!(f, "rolled back and verified ({way}): {cause}"),
            Self::RolledBack { cause, way, verified: false } => write!(f, "rolled back, NOT verified ({way}): {cause}"),
            Self::Failed { cause } => write!(f, "failed, state not proven: {cause}"),
            Self::NotBegun { cause } => write!(f, "not begun, nothing had changed: {cause}"),
            Self::Deferred { why } => write!(f, "deferred: {why}"),
        }
    }
}

/// What became of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageOutcome {
    /// At the planned version, installed.
    Installed,
    /// As before.
    Unchanged,
    /// At the planned version, but not configured, or at no version that was planned.
    Broken,
    /// At another version than before, and not the planned one.
    Other,
    /// Gone.
    Missing,
}

/// One planned package, after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageVerdict {
    /// Which package.
    #[serde(flatten)]
    pub id: PackageId,
    /// Version before.
    pub before: Option<String>,
    /// Version planned.
    pub planned: String,
    /// What is there now.
    pub found: Option<PackageState>,
    /// What that means.
    pub outcome: PackageOutcome,
}

/// What a host's package sets say about a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Each planned package.
    pub packages: Vec<PackageVerdict>,
    /// What changed without being planned.
    pub unplanned: Vec<Drift>,
    /// What `dpkg --audit` said; empty when it is content.
    pub audit: String,
}

impl Verdict {
    /// Everything planned is there, nothing else moved, and dpkg is content: the only success there is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.packages.iter().all(|p| p.outcome == PackageOutcome::Installed)
            && self.unplanned.is_empty()
            && self.audit.is_empty()
    }

    /// Nothing moved at all.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.packages.iter().all(|p| p.outcome == PackageOutcome::Unchanged) && self.unplanned.is_empty()
    }

    /// One sentence with the figures.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |outcome| self.packages.iter().filter(|p| p.outcome == outcome).count();
        let mut text =
            format!("{} of {} packages at the planned version", count(PackageOutcome::Installed), self.packages.len());
        let more = [
            (count(PackageOutcome::Unchanged), "unchanged"),
            (count(PackageOutcome::Broken), "half done"),
            (count(PackageOutcome::Other), "at another version"),
            (count(PackageOutcome::Missing), "gone"),
            (self.unplanned.len(), "changed without being planned"),
        ];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {count} {what}"));
        }
        if !self.audit.is_empty() {
            text.push_str(", and dpkg --audit complains");
        }
        text
    }
}

/// Compares what was, what is and what was planned.
///
/// # Example
/// A package that a failing postinst left half-configured is `Broken`, whatever the package manager returned.
#[must_use]
pub fn judge_install(before: &PackageSet, after: &PackageSet, planned: &[PlannedChange], audit: &str) -> Verdict {
    let packages = planned.iter().map(|change| judge_package(before, after, change)).collect();
    let mut unplanned = before.diff(after);
    unplanned.retain(|drift| !planned.iter().any(|change| change.id == drift.id));
    Verdict { packages, unplanned, audit: audit.trim().to_owned() }
}

fn judge_package(before: &PackageSet, after: &PackageSet, change: &PlannedChange) -> PackageVerdict {
    let was = before.get(&change.id);
    let found = after.get(&change.id);
    let outcome = match found {
        Some(state) if state.version == change.candidate && state.is_installed() => PackageOutcome::Installed,
        _ if found == was => PackageOutcome::Unchanged,
        Some(state) if !state.is_at_rest() || state.version == change.candidate => PackageOutcome::Broken,
        Some(_) => PackageOutcome::Other,
        None => PackageOutcome::Missing,
    };
    PackageVerdict {
        id: change.id.clone(),
        before: change.installed.clone(),
        planned: change.candidate.clone(),
        found: found.cloned(),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PackageId {
        PackageId { name: name.to_owned(), arch: "amd64".to_owned() }
    }

    fn set(rows: &[(&str, &str, &str)]) -> PackageSet {
        let state = |version: &str, status: &str| PackageState { version: version.into(), status: status.into() };
        rows.iter().map(|(name, version, status)| (id(name), state(version, status))).collect()
    }

    fn planned(name: &str, installed: Option<&str>, candidate: &str) -> PlannedChange {
        PlannedChange {
            id: id(name),
            installed: installed.map(str::to_owned),
            candidate: candidate.to_owned(),
            sha256: None,
            cves: Vec::new(),
            security: false,
        }
    }

    #[track_caller]
    fn check(after: &[(&str, &str, &str)], outcome: PackageOutcome, complete: bool) {
        let before = set(&[("jq", "1", "ii"), ("zip", "3", "ii")]);
        let verdict = judge_install(&before, &set(after), &[planned("jq", Some("1"), "2")], "");
        assert_eq!((verdict.packages[0].outcome, verdict.is_complete()), (outcome, complete), "{}", verdict.summary());
    }

    #[test]
    fn only_the_package_set_says_what_became_of_a_package() {
        check(&[("jq", "2", "ii"), ("zip", "3", "ii")], PackageOutcome::Installed, true);
        check(&[("jq", "2", "hi"), ("zip", "3", "ii")], PackageOutcome::Installed, true);
        check(&[("jq", "1", "ii"), ("zip", "3", "ii")], PackageOutcome::Unchanged, false);
        check(&[("jq", "2", "iF"), ("zip", "3", "ii")], PackageOutcome::Broken, false);
        check(&[("jq", "2", "iU"), ("zip", "3", "ii")], PackageOutcome::Broken, false);
        check(&[("jq", "1", "iHR"), ("zip", "3", "ii")], PackageOutcome::Broken, false);
        check(&[("jq", "3", "ii"), ("zip", "3", "ii")], PackageOutcome::Other, false);
        check(&[("jq", "1", "rc"), ("zip", "3", "ii")], PackageOutcome::Other, false);
        check(&[("zip", "3", "ii")], PackageOutcome::Missing, false);
    }

    #[test]
    fn what_moved_without_being_planned_is_no_success() {
        check(&[("jq", "2", "ii")], PackageOutcome::Installed, false);
        check(&[("jq", "2", "ii"), ("zip", "4", "ii")], PackageOutcome::Installed, false);
        check(&[("jq", "2", "ii"), ("zip", "3", "iF")], PackageOutcome::Installed, false);
        check(&[("jq", "2", "ii"), ("zip", "3", "ii"), ("new", "1", "ii")], PackageOutcome::Installed, false);
    }

    #[test]
    fn a_complaint_of_the_audit_is_no_success() {
        let before = set(&[("jq", "1", "ii")]);
        let verdict =
            judge_install(&before, &set(&[("jq", "2", "ii")]), &[planned("jq", Some("1"), "2")], "broken: x\n");
        assert!(!verdict.is_complete());
    }

    #[test]
    fn a_new_package_that_never_came_leaves_the_host_untouched() {
        let before = set(&[("jq", "1", "ii")]);
        let verdict = judge_install(&before, &before, &[planned("dep", None, "2")], "");
        assert!(verdict.is_untouched() && !verdict.is_complete());
    }

    #[test]
    fn a_set_reads_back_as_it_was_written() {
        let given = set(&[("jq", "1", "ii"), ("zip", "3", "rc")]);
        let text = serde_json::to_string(&given).expect("has a JSON form");
        assert_eq!(text, r#"[["jq","amd64","1","ii"],["zip","amd64","3","rc"]]"#);
        assert_eq!(serde_json::from_str::<PackageSet>(&text).expect("reads back"), given);
    }
}
