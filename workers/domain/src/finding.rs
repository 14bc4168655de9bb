//! A vulnerability on a host, from whatever source. Knows no scanner's format.

use serde::{Deserialize, Serialize};

use crate::PackageId;

/// A vulnerability of one package on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its CVE id.
    pub cve: String,
    /// The binary package.
    pub package: PackageId,
    /// Its source package.
    pub source: String,
    /// The version on the host.
    pub installed: String,
    /// The version on offer that fixes it.
    pub fixed: Option<String>,
    /// How severe it is, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How we know.
    pub knowledge: Knowledge,
    /// Whether the fix comes from a security archive.
    pub security: bool,
    /// What makes it less than certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A severity in our words, with what the source said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severity {
    /// In our words.
    pub level: SeverityLevel,
    /// In the words of the source.
    pub original: String,
}

/// Our words for severity, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeverityLevel {
    /// The source has a word that we do not know, or says that it does not know.
    Unknown,
    /// Hardly a risk.
    Negligible,
    /// Low.
    Low,
    /// Medium; `moderate` and `important` are not the same everywhere: the original text is kept.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// Where the knowledge of a finding comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Knowledge {
    /// The changelog inside the candidate's package names the id between the installed and the candidate version.
    Changelog,
    /// An advisory of the repository names the id for a version up to the candidate.
    Advisory,
    /// A scanner reported it.
    Scanner {
        /// Its name.
        name: String,
    },
}
