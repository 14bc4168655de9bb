//! A version of any package manager, read once and compared often.

use std::cmp::Ordering;
use std::fmt;

use crate::{ApkVersion, DebVersion, RpmVersion, VersionError, VersionScheme};

/// A version with its scheme.
#[derive(Clone, Debug)]
pub enum Version {
    /// dpkg's.
    Deb(DebVersion),
    /// rpm's.
    Rpm(RpmVersion),
    /// apk's.
    Apk(ApkVersion),
}

impl Version {
    /// Reads one.
    ///
    /// # Errors
    /// Where it is no version of that scheme.
    pub fn read(scheme: VersionScheme, text: &str) -> Result<Self, VersionError> {
        Ok(match scheme {
            VersionScheme::Deb => Self::Deb(text.parse()?),
            VersionScheme::Rpm => Self::Rpm(text.parse()?),
            VersionScheme::Apk => Self::Apk(text.parse()?),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Deb(version) => version.as_str(),
            Self::Rpm(version) => version.as_str(),
            Self::Apk(version) => version.as_str(),
        }
    }

    /// Which of two is older; none where they are of different package managers.
    ///
    /// A mark of a binary-only rebuild (`+b13`) is no difference: such a rebuild has the same source.
    /// An rpm version without a release meets every release of its version, as in a requirement.
    #[must_use]
    pub fn against(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Deb(left), Self::Deb(right)) => Some(left.without_rebuild().cmp(&right.without_rebuild())),
            (Self::Rpm(left), Self::Rpm(right)) => Some(left.loosely(right)),
            (Self::Apk(left), Self::Apk(right)) => Some(left.cmp(right)),
            (Self::Deb(_) | Self::Rpm(_) | Self::Apk(_), _) => None,
        }
    }

    /// Whether it is `other` or newer.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        self.against(other).is_some_and(Ordering::is_ge)
    }

    /// The branch it stands on: its epoch, the parts of its upstream version, and the mark of the distribution's release
    /// (`deb12`, `el8_6`) where its revision has one.
    pub(super) fn branch(&self) -> Branch {
        let (epoch, upstream, release) = match self {
            Self::Deb(version) => (version.epoch(), version.upstream(), version.revision()),
            Self::Rpm(version) => (version.epoch(), version.version(), version.release().unwrap_or_default()),
            Self::Apk(version) => (0, version.as_str().split("-r").next().unwrap_or_default(), ""),
        };
        let parts = upstream.split(['.', '+', '~', '-', '_', '^']).map(str::to_owned).collect();
        // A native Debian package carries the mark in its only part.
        let mark = mark(release).or_else(|| mark(upstream));
        Branch { epoch, parts, mark }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where versions part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub epoch: u32,
    pub parts: Vec<String>,
    pub mark: Option<String>,
}

impl Branch {
    /// How many leading parts of the upstream version they share.
    pub fn shared(&self, other: &Self) -> usize {
        self.parts.iter().zip(&other.parts).take_while(|(left, right)| left == right).count()
    }

    /// Whether both stand on one branch: the same epoch and mark, and all but the last part of the shorter upstream version.
    /// Versions of two parts or fewer share the first.
    pub fn same(&self, other: &Self) -> bool {
        let marks = match (&self.mark, &other.mark) {
            (Some(left), Some(right)) => left == right,
            (None, _) | (_, None) => true,
        };
        let least = self.parts.len().min(other.parts.len()).saturating_sub(1).max(1);
        self.epoch == other.epoch && marks && self.shared(other) >= least
    }
}

/// The mark of a distribution's release in a revision: `deb12` of `1~deb12u3`, `el8_6` of `5.el8_6.2`, `fc39`, `amzn2`.
fn mark(revision: &str) -> Option<String> {
    ["deb", "el", "fc", "amzn", "lp"].into_iter().find_map(|word| {
        let at = revision.find(word)?;
        let before = revision[..at].bytes().next_back();
        if before.is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return None;
        }
        let digits: String = revision[at + word.len()..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || (*c == '_' && word == "el"))
            .collect();
        (!digits.is_empty()).then(|| format!("{word}{digits}"))
    })
}
