//! What a vendor says of a vulnerability in its package, in one vocabulary for the words of all sources.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a vendor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VendorStatus {
    /// The vulnerable code is not there, or cannot be reached.
    NotAffected,
    /// A fix is out.
    Fixed,
    /// It is vulnerable, and no fix is out.
    Affected,
    /// The vendor has not decided.
    UnderInvestigation,
    /// The vendor will fix it later, with something else.
    FixDeferred,
    /// The vendor will not fix it.
    WillNotFix,
    /// The vendor fixes nothing there any more.
    EndOfLife,
    /// The source says nothing, or a word that nobody here knows.
    #[default]
    Unknown,
}

impl VendorStatus {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NotAffected,
        Self::Fixed,
        Self::Affected,
        Self::UnderInvestigation,
        Self::FixDeferred,
        Self::WillNotFix,
        Self::EndOfLife,
        Self::Unknown,
    ];

    /// Reads the word of any source, whatever its case and whether it is written with blanks, hyphens or underscores.
    ///
    /// # Source
    /// Trivy's `Status`; Grype's `fix.state`; the Debian tracker's status and sub-states; the states of the Ubuntu CVE
    /// tracker; Red Hat's `fix_state`; CSAF's product status and remediation categories; CycloneDX's `analysis.state`.
    /// # Example
    /// ```
    /// use patchloom_domain::correlate::VendorStatus;
    /// assert_eq!(VendorStatus::of("wont-fix"), VendorStatus::WillNotFix);
    /// assert_eq!(VendorStatus::of("Out of support scope"), VendorStatus::EndOfLife);
    /// assert_eq!(VendorStatus::of("perhaps"), VendorStatus::Unknown);
    /// ```
    #[must_use]
    pub fn of(word: &str) -> Self {
        let word: String = word
            .trim()
            .chars()
            .filter(|c| !matches!(c, '\'' | '\u{2019}'))
            .map(|c| if c.is_whitespace() || c == '-' { '_' } else { c.to_ascii_lowercase() })
            .collect();
        match word.as_str() {
            "not_affected" | "known_not_affected" | "not_vulnerable" | "dne" | "false_positive"
            | "code_not_present" => Self::NotAffected,
            "fixed" | "released" | "resolved" | "resolved_with_pedigree" | "first_fixed" | "vendor_fix" => Self::Fixed,
            "affected" | "not_fixed" | "open" | "needed" | "pending" | "known_affected" | "exploitable"
            | "vulnerable" | "none_available" | "in_progress" | "active" => Self::Affected,
            "under_investigation"
            | "needs_triage"
            | "in_triage"
            | "undetermined"
            | "new"
            | "not_yet_assigned"
            | "investigating" => Self::UnderInvestigation,
            "fix_deferred" | "deferred" | "postponed" | "no_dsa" | "under_review" => Self::FixDeferred,
            "will_not_fix" | "wont_fix" | "ignored" | "no_fix_planned" | "unimportant" => Self::WillNotFix,
            "end_of_life" | "eol" | "out_of_support_scope" | "out_of_standard_support" | "unsupported" => {
                Self::EndOfLife
            }
            _ => Self::Unknown,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAffected => "not_affected",
            Self::Fixed => "fixed",
            Self::Affected => "affected",
            Self::UnderInvestigation => "under_investigation",
            Self::FixDeferred => "fix_deferred",
            Self::WillNotFix => "will_not_fix",
            Self::EndOfLife => "end_of_life",
            Self::Unknown => "unknown",
        }
    }

    /// What it means where there is no fix, for a person.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::NotAffected => "the vendor says that the package is not affected",
            Self::Fixed => "the vendor says that it is fixed, and names no version",
            Self::Affected => "the vendor knows of it and has no fix yet",
            Self::UnderInvestigation => "the vendor has not decided yet",
            Self::FixDeferred => "the vendor will fix it with a later update",
            Self::WillNotFix => "the vendor will not fix it",
            Self::EndOfLife => "the vendor supports this release no more",
            Self::Unknown => "nobody names a fix",
        }
    }
}

impl Serialize for VendorStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for VendorStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)
            .map(|word| word.map_or(Self::Unknown, |word| Self::of(&word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reads_its_own_name() {
        VendorStatus::ALL.into_iter().for_each(|status| assert_eq!(VendorStatus::of(status.name()), status));
    }

    #[test]
    fn the_words_of_the_scanners_and_trackers_are_known() {
        use VendorStatus as S;
        for (words, status) in [
            (&["not-affected", "DNE", "known_not_affected", "Not affected"][..], S::NotAffected),
            (&["fixed", "released", "resolved"], S::Fixed),
            (&["not-fixed", "open", "needed", "Affected", "exploitable"], S::Affected),
            (&["needs-triage", "in_triage", "undetermined", "Under investigation"], S::UnderInvestigation),
            (&["deferred", "postponed", "no-dsa", "Fix deferred"], S::FixDeferred),
            (&["wont-fix", "ignored", "Will not fix", "won't fix"], S::WillNotFix),
            (&["end-of-life", "Out of support scope"], S::EndOfLife),
            (&["unknown", "", "-"], S::Unknown),
        ] {
            words.iter().for_each(|word| assert_eq!(S::of(word), status, "{word}"));
        }
    }
}
