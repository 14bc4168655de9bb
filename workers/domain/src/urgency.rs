//! How urgent a patch is, by what is known of it without a feed of scores: where it comes from, what its maintainer
//! said, which vulnerabilities it names. Knows nothing of CVSS, and says so.

use serde::{Deserialize, Serialize};

use crate::MissingPatch;

/// The urgency that a Debian maintainer gives an upload, least first.
///
/// # Source
/// Debian Policy 5.6.17: low, medium, high, emergency and critical (the last two mean the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// A word that Policy does not know, or none.
    Unknown,
    /// Little to lose by waiting.
    Low,
    /// The usual one.
    Medium,
    /// Security updates mostly have this one.
    High,
    /// Drop everything.
    Critical,
}

impl Urgency {
    /// Reads the word.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "emergency" | "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// How soon a patch should go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// With the next round.
    Routine,
    /// A security patch: within days.
    Soon,
    /// A security patch for named vulnerabilities that its maintainer calls urgent: first of all.
    First,
}

/// A judgement with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// How soon.
    pub priority: Priority,
    /// Why, in one sentence without full stop.
    pub reason: String,
}

/// Judges one patch.
///
/// # Example
/// A patch from a security archive, marked `high` and naming one CVE, is `First`; the same without a CVE is `Soon`;
/// one from the plain archive that names a CVE is `Soon` too, because point releases carry security fixes.
#[must_use]
pub fn patch_urgency(patch: &MissingPatch) -> Judged {
    let urgency = patch.urgency.as_deref().map_or(Urgency::Unknown, Urgency::of);
    let urgent = urgency >= Urgency::High;
    let count = patch.cves.len();
    let priority = match (patch.security, urgent, count > 0) {
        (true, true, true) => Priority::First,
        (true, _, _) | (false, _, true) => Priority::Soon,
        (false, _, false) => Priority::Routine,
    };
    let mut reasons = Vec::new();
    if patch.security {
        reasons.push("from a security archive".to_owned());
    }
    if count > 0 {
        reasons.push(format!("fixes {}", counted(count, "known vulnerability", "known vulnerabilities")));
    }
    match (&patch.urgency, urgency) {
        (Some(text), Urgency::High | Urgency::Critical) => reasons.push(format!("its maintainer calls it {text}")),
        (_, Urgency::High | Urgency::Critical | Urgency::Medium | Urgency::Low | Urgency::Unknown) => {}
    }
    if reasons.is_empty() {
        reasons.push("no security fix is known of it".to_owned());
    }
    Judged { priority, reason: reasons.join(", ") }
}

/// How a patch's note begins when its CVE ids could not be learned: what a host lacks is then "at least" what is known.
pub const CVES_UNKNOWN: &str = "CVE list unknown";

/// How urgent it is for a host as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUrgency {
    /// That of its most urgent patch; `None` when it lacks none.
    pub priority: Option<Priority>,
    /// How many patches are to go in first of all.
    pub first: usize,
    /// How many soon.
    pub soon: usize,
    /// How many with the next round.
    pub routine: usize,
    /// How many come from a security archive.
    pub security: usize,
    /// How many different CVE ids they name.
    pub cves: usize,
    /// The whole in one sentence for a person.
    pub summary: String,
}

/// Judges a host by all that it lacks.
#[must_use]
pub fn host_urgency(patches: &[MissingPatch]) -> HostUrgency {
    let judged: Vec<Priority> = patches.iter().map(|patch| patch_urgency(patch).priority).collect();
    let count = |priority: Priority| judged.iter().filter(|&&one| one == priority).count();
    let security = patches.iter().filter(|patch| patch.security).count();
    let cves = patches.iter().flat_map(|patch| &patch.cves).collect::<std::collections::BTreeSet<_>>().len();
    let first = count(Priority::First);
    let unknown = |note: &String| note.starts_with(CVES_UNKNOWN);
    let incomplete = patches.iter().any(|patch| patch.note.as_ref().is_some_and(unknown));
    let summary = if patches.is_empty() {
        "no patch is missing by the lists of this host".to_owned()
    } else {
        let missing = counted(patches.len(), "patch is missing", "patches are missing");
        let from = format!("{security} from a security archive");
        let fixes = counted(cves, "known vulnerability", "known vulnerabilities");
        let fixes = match (cves, incomplete) {
            (0, true) => "which vulnerabilities they fix is not known".to_owned(),
            (_, true) => format!("they fix at least {fixes}"),
            (_, false) => format!("they fix {fixes}"),
        };
        let first = match first {
            0 => String::new(),
            some => format!("; {some} should go in first of all"),
        };
        format!("{missing}, {from}; {fixes}{first} (no scores: no vulnerability feed is configured)")
    };
    HostUrgency {
        priority: judged.iter().max().copied(),
        first,
        soon: count(Priority::Soon),
        routine: count(Priority::Routine),
        security,
        cves,
        summary,
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PackageId;

    fn patch(security: bool, urgency: Option<&str>, cves: &[&str], note: Option<&str>) -> MissingPatch {
        MissingPatch {
            id: PackageId { name: "p".to_owned(), arch: "all".to_owned() },
            installed: Some("1".to_owned()),
            candidate: "2".to_owned(),
            source: "p".to_owned(),
            source_version: "2".to_owned(),
            origin: String::new(),
            security,
            sha256: None,
            size_bytes: None,
            cves: cves.iter().map(|&id| id.to_owned()).collect(),
            urgency: urgency.map(str::to_owned),
            note: note.map(str::to_owned),
            held: None,
        }
    }

    #[test]
    fn origin_urgency_and_vulnerabilities_make_the_priority() {
        for (given, expected) in [
            (patch(true, Some("high"), &["CVE-2026-1"], None), Priority::First),
            (patch(true, Some("EMERGENCY"), &["CVE-2026-1"], None), Priority::First),
            (patch(true, Some("medium"), &["CVE-2026-1"], None), Priority::Soon),
            (patch(true, Some("high"), &[], None), Priority::Soon),
            (patch(false, Some("high"), &["CVE-2026-1"], None), Priority::Soon),
            (patch(false, Some("high"), &[], None), Priority::Routine),
            (patch(false, Some("odd"), &[], None), Priority::Routine),
        ] {
            assert_eq!(patch_urgency(&given).priority, expected, "{given:?}");
        }
    }

    #[test]
    fn a_host_is_told_in_one_sentence_and_never_claims_to_know_more_than_it_does() {
        let known = patch(true, Some("high"), &["CVE-2026-1"], None);
        let same = patch(false, None, &["CVE-2026-1"], None);
        let unknown = patch(true, None, &[], Some("CVE list unknown: offline"));
        let summary = |patches: &[MissingPatch]| host_urgency(patches).summary;
        assert!(
            summary(&[known.clone(), same]).contains("they fix 1 known vulnerability; 1 should go in first of all")
        );
        assert!(summary(&[known, unknown.clone()]).contains("they fix at least 1 known vulnerability;"));
        assert!(summary(&[unknown]).contains("which vulnerabilities they fix is not known"));
        assert_eq!(summary(&[]), "no patch is missing by the lists of this host");
        assert_eq!(host_urgency(&[]).priority, None);
    }
}
