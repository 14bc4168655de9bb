//! Version numbers of package managers and their orders: deb, rpm, apk. Knows nothing of packages or archives.

mod apk;
mod deb;
mod error;
mod rpm;

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use apk::ApkVersion;
pub use deb::DebVersion;
pub use error::{VersionError, VersionFault};
pub use rpm::{RpmVersion, rpm_segments_cmp};

/// Whose rules a version follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionScheme {
    /// dpkg and apt.
    Deb,
    /// rpm, dnf, zypper.
    Rpm,
    /// Alpine's apk.
    Apk,
}

impl VersionScheme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deb, Self::Rpm, Self::Apk];

    /// Its name as one types it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }
}

impl fmt::Display for VersionScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How two versions stand to each other, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Whose rules.
    pub scheme: VersionScheme,
    /// The first as it was written.
    pub left: String,
    /// The second.
    pub right: String,
    /// -1 where the first is older, 0 where both are the same, 1 where it is newer.
    pub order: i8,
    /// The part that decided, in words.
    pub why: String,
}

impl Comparison {
    /// `<`, `=` or `>`.
    #[must_use]
    pub fn sign(&self) -> &'static str {
        match self.order.cmp(&0) {
            Ordering::Less => "<",
            Ordering::Equal => "=",
            Ordering::Greater => ">",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({}): {}", self.left, self.sign(), self.right, self.scheme, self.why)
    }
}

/// Compares two versions by the rules of one package manager.
///
/// # Errors
/// Where one is no version of that kind: which, at what place, why.
/// # Example
/// ```
/// use patchloom_domain::{VersionScheme, compare_versions};
/// let known = compare_versions(VersionScheme::Rpm, "1.0~rc1-1", "1.0-1")?;
/// assert_eq!(known.sign(), "<");
/// assert_eq!(known.why, "the version decides: '~' against its end");
/// # Ok::<(), patchloom_domain::VersionError>(())
/// ```
pub fn compare_versions(scheme: VersionScheme, left: &str, right: &str) -> Result<Comparison, VersionError> {
    let (order, why) = match scheme {
        VersionScheme::Deb => {
            let (left, right): (DebVersion, DebVersion) = (left.parse()?, right.parse()?);
            (left.cmp(&right), left.why(&right))
        }
        VersionScheme::Rpm => {
            let (left, right): (RpmVersion, RpmVersion) = (left.parse()?, right.parse()?);
            (left.cmp(&right), left.why(&right))
        }
        VersionScheme::Apk => {
            let (left, right): (ApkVersion, ApkVersion) = (left.parse()?, right.parse()?);
            (left.cmp(&right), left.why(&right))
        }
    };
    let order = match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    };
    Ok(Comparison { scheme, left: left.trim().to_owned(), right: right.trim().to_owned(), order, why })
}
