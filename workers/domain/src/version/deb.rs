//! Debian version numbers and their order, as dpkg has it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{VersionError, VersionFault, VersionScheme};

/// A Debian version: `[epoch:]upstream[-revision]`.
///
/// Equality is that of the order: `1.0`, `0:1.0` and `1.0-0` are the same version. The text is kept as it was.
///
/// # Source
/// Debian Policy 5.6.12, and dpkg's `lib/dpkg/parsehelp.c` and `version.c` for what it accepts beyond that.
/// # Example
/// ```
/// use patchloom_domain::DebVersion;
/// let old: DebVersion = "3.0.20-1~deb12u1".parse()?;
/// let new: DebVersion = "3.0.20-1~deb12u2".parse()?;
/// assert!(old < new);
/// assert!(new < "3.0.20-1".parse()?, "a tilde sorts before the end");
/// # Ok::<(), patchloom_domain::VersionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DebVersion {
    text: String,
    epoch: u32,
    /// Where the upstream part begins in `text`.
    upstream_at: usize,
    /// Where it ends: at the last hyphen, or at the end.
    upstream_end: usize,
}

impl DebVersion {
    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The epoch; 0 where none is written.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The upstream part.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.text[self.upstream_at..self.upstream_end]
    }

    /// The Debian revision; empty for a native package.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.text.get(self.upstream_end + 1..).unwrap_or("")
    }

    /// The same version without the mark of a binary-only rebuild: `5.2.15-2` of `5.2.15-2+b13`.
    ///
    /// # Source
    /// Debian Developer's Reference 5.10.2.1: a binNMU appends `+b` and a number.
    #[must_use]
    pub fn without_rebuild(&self) -> Self {
        match self.text.rsplit_once("+b") {
            Some((source, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                source.parse().unwrap_or_else(|_| self.clone())
            }
            Some(_) | None => self.clone(),
        }
    }
}

impl FromStr for DebVersion {
    type Err = VersionError;

    fn from_str(given: &str) -> Result<Self, VersionError> {
        let text = given.trim().to_owned();
        let refuse = |at, fault| VersionError { scheme: VersionScheme::Deb, text: text.clone(), at, fault };
        if text.is_empty() {
            return Err(refuse(0, VersionFault::Empty));
        }
        if let Some((at, character)) = text.char_indices().find(|(_, c)| c.is_whitespace()) {
            return Err(refuse(at, VersionFault::Character(character)));
        }
        let (epoch, upstream_at) = match text.split_once(':') {
            None => (0, 0),
            Some((epoch, _)) => {
                let digits = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit());
                let number = epoch.parse().ok().filter(|&number| digits && i32::try_from(number).is_ok());
                (number.ok_or_else(|| refuse(0, VersionFault::Epoch))?, epoch.len() + 1)
            }
        };
        let upstream_end = text[upstream_at..].rfind('-').map_or(text.len(), |at| upstream_at + at);
        let version = Self { text, epoch, upstream_at, upstream_end };
        version.check()?;
        Ok(version)
    }
}

impl DebVersion {
    fn check(&self) -> Result<(), VersionError> {
        let refuse = |at, fault| Err(VersionError { scheme: VersionScheme::Deb, text: self.text.clone(), at, fault });
        if self.upstream().is_empty() {
            return refuse(self.upstream_at, VersionFault::NoVersion);
        }
        if self.upstream_end + 1 == self.text.len() {
            return refuse(self.upstream_end, VersionFault::NoRevision);
        }
        let wrong = |part: &str, extra: &str| {
            part.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || extra.contains(*c)))
        };
        // dpkg lets an underscore pass nowhere, apt does in the upstream part: versions of third parties have it.
        let upstream = wrong(self.upstream(), "-+._~:").map(|(at, c)| (self.upstream_at + at, c));
        let revision = || wrong(self.revision(), "+.~").map(|(at, c)| (self.upstream_end + 1 + at, c));
        match upstream.or_else(revision) {
            Some((at, character)) => refuse(at, VersionFault::Character(character)),
            None => Ok(()),
        }
    }

    /// What decides between two versions, in words.
    pub(super) fn why(&self, other: &Self) -> String {
        if self.epoch != other.epoch {
            return format!("the epoch decides: {} against {}", self.epoch, other.epoch);
        }
        if compare_part(self.upstream(), other.upstream()).is_ne() {
            return format!("the upstream version decides: {} against {}", self.upstream(), other.upstream());
        }
        let shown = |revision: &'_ str| if revision.is_empty() { "none".to_owned() } else { revision.to_owned() };
        if compare_part(self.revision(), other.revision()).is_ne() {
            return format!("the revision decides: {} against {}", shown(self.revision()), shown(other.revision()));
        }
        "no part differs".to_owned()
    }
}

impl Ord for DebVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream(), other.upstream()))
            .then_with(|| compare_part(self.revision(), other.revision()))
    }
}

impl PartialOrd for DebVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DebVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DebVersion {}

/// Compares runs of non-digits by [`weight`], then runs of digits by value, until one differs.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (a, b) = (left.first().copied(), right.first().copied());
            if is_end_or_digit(a) && is_end_or_digit(b) {
                break;
            }
            match weight(a).cmp(&weight(b)) {
                Ordering::Equal => (left, right) = (&left[1..], &right[1..]),
                unequal => return unequal,
            }
        }
        let (a, left_rest) = digits(left);
        let (b, right_rest) = digits(right);
        // Without leading zeros the longer number is the larger one: no overflow, however long.
        match a.len().cmp(&b.len()).then_with(|| a.cmp(b)) {
            Ordering::Equal => (left, right) = (left_rest, right_rest),
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn is_end_or_digit(byte: Option<u8>) -> bool {
    byte.is_none_or(|byte| byte.is_ascii_digit())
}

/// `~` before the end (and before a digit, where the run of non-digits ends), that before letters, those before the rest.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    }
}

/// The number at the front without its leading zeros, and what follows it.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().position(|&byte| byte != b'0').unwrap_or(number.len());
    (&number[zeros..], rest)
}

impl fmt::Display for DebVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DebVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DebVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
