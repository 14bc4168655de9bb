//! What is known of a host: what is installed, what its lists offer, what runs, what its owner allows.

use serde::{Deserialize, Serialize};

use super::Version;
use crate::VersionScheme;

/// More packages than this of one host are refused: no distribution has as many.
pub const PACKAGES_MAX: usize = 200_000;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name.
    pub host: String,
    /// Whose rules its versions follow: `deb`, `rpm` or `apk`.
    #[serde(with = "scheme_name")]
    pub scheme: VersionScheme,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The release of the kernel that runs: `uname -r`; none where it is not known, or is not the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_kernel: Option<String>,
    /// The package version of the kernel that runs, where `uname -v` tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_kernel_version: Option<String>,
    /// What is installed.
    pub packages: Vec<PackageFact>,
    /// What its lists offer, and what they have but do not give it.
    #[serde(default, alias = "patches", alias = "missing")]
    pub candidates: Vec<CandidateFact>,
    /// Processes that still map files of a package that is gone from the disk.
    #[serde(default)]
    pub stale: Vec<StaleProcess>,
}

/// What decides which fixes a host can get, and how it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The names of its release: `12` and `bookworm`.
    pub releases: Vec<String>,
    /// What it is subscribed to: `esm-infra`, `esm-apps`.
    pub subscriptions: Vec<String>,
    /// Whether it can be reached from public networks without signing in; none where nobody said so.
    pub exposed: Option<bool>,
    /// From 1 (least) to 5.
    pub criticality: Option<crate::Criticality>,
}

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFact {
    /// Name of the binary package.
    pub name: String,
    /// Its architecture.
    #[serde(default)]
    pub arch: String,
    /// Its version, with the epoch.
    pub version: String,
    /// Its source package; its own name where none is told.
    #[serde(default)]
    pub source: String,
    /// The version of that; its own where none is told.
    #[serde(default)]
    pub source_version: String,
    /// Whether it is on hold, or locked.
    #[serde(default)]
    pub held: bool,
    /// The module and stream of an rpm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// dpkg's abbreviation: `ii`, `rc`; empty elsewhere.
    #[serde(default)]
    pub status: String,
}

/// What the lists have for a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateFact {
    /// Name of the binary package.
    pub name: String,
    /// Its architecture.
    #[serde(default)]
    pub arch: String,
    /// The version on offer.
    pub candidate: String,
    /// Its source package; its own name where none is told.
    #[serde(default)]
    pub source: String,
    /// The version of that; `candidate` where none is told.
    #[serde(default)]
    pub source_version: String,
    /// The archive that has it.
    #[serde(default)]
    pub origin: String,
    /// Why the host does not get it; none where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
    /// The ids that its changelog names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<String>,
}

/// Why a host does not get what its lists have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The package is on hold, or locked.
    Held,
    /// The archive gives it to a share of the hosts first, and this one is not among them.
    Phased,
    /// A pin, an exclusion or a priority prefers another version.
    Pinned,
    /// It is for subscribers.
    Subscription,
    /// Only another release or branch has it.
    OtherRelease,
    /// Its archive withdrew it, or it would remove what has to stay.
    Removed,
}

/// A process that still runs what is no longer on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleProcess {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// The package whose old file it maps.
    pub package: String,
    /// The unit that would be restarted, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Facts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Not of that shape.
    #[error("the facts of a host are not of that shape: {0}")]
    Shape(#[from] serde_json::Error),
    /// Too many packages.
    #[error("{host} has {found} packages; {PACKAGES_MAX} are the most")]
    TooMany {
        /// The host.
        host: String,
        /// How many.
        found: usize,
    },
}

/// Reads the facts of one host, or of a list of hosts.
///
/// # Errors
/// Where the text is no such facts, with the place.
pub fn read_facts(text: &str) -> Result<Vec<HostFacts>, FactsError> {
    let hosts: Vec<HostFacts> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text)?,
        false => vec![serde_json::from_str(text)?],
    };
    match hosts.iter().find(|host| host.packages.len() > PACKAGES_MAX) {
        Some(host) => Err(FactsError::TooMany { host: host.host.clone(), found: host.packages.len() }),
        None => Ok(hosts),
    }
}

/// An installed package with its versions read.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub fact: PackageFact,
    pub version: Option<Version>,
    pub source_version: Option<Version>,
    pub kernel: Option<super::kernel::Release>,
}

impl Installed {
    pub fn of(scheme: VersionScheme, mut fact: PackageFact) -> Self {
        fill(&mut fact.source, &fact.name);
        fill(&mut fact.source_version, &fact.version);
        let version = Version::read(scheme, &fact.version).ok();
        let source_version = Version::read(scheme, &fact.source_version).ok();
        let kernel = super::kernel::Release::of(scheme, &fact);
        Self { fact, version, source_version, kernel }
    }

    /// Whether its files are there: removed packages of dpkg leave a row behind.
    pub fn is_there(&self) -> bool {
        !matches!(self.fact.status.as_bytes().get(1), Some(b'n' | b'c'))
    }
}

/// A candidate with its versions read.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub fact: CandidateFact,
    pub version: Option<Version>,
    pub source_version: Option<Version>,
}

impl Offer {
    pub fn of(scheme: VersionScheme, mut fact: CandidateFact) -> Self {
        fill(&mut fact.source, &fact.name);
        fill(&mut fact.source_version, &fact.candidate);
        let version = Version::read(scheme, &fact.candidate).ok();
        let source_version = Version::read(scheme, &fact.source_version).ok();
        Self { fact, version, source_version }
    }
}

fn fill(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

mod scheme_name {
    //! A scheme by its name.

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::VersionScheme;

    pub fn serialize<S: Serializer>(scheme: &VersionScheme, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(scheme.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VersionScheme, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let found = VersionScheme::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| D::Error::custom(format!("'{name}' is no scheme: write deb, rpm or apk")))
    }
}
