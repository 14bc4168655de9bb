//! Versions of rpm packages and their order, as rpm has it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{VersionError, VersionFault, VersionScheme};

/// A version of an rpm package: `[epoch:]version[-release]`.
///
/// Equality is that of the order: `1.0-1`, `0:1.0-1` and `1_0-1` are the same version. The text is kept as it was.
/// No release sorts before every release, so that the order is total; a requirement without a release means any of
/// them, for which there is [`loosely`](Self::loosely).
///
/// # Source
/// rpm's `rpmver.c` (`rpmverParse`, `rpmverCmp`) and `rpmvercmp.c`; the characters are those that `rpmbuild` allows.
/// # Example
/// ```
/// use patchloom_domain::RpmVersion;
/// let old: RpmVersion = "1:3.0.7-27.el9".parse()?;
/// assert!(old < "1:3.0.7-28.el9_4".parse()?);
/// assert!("4.0~beta-1".parse::<RpmVersion>()? < "4.0-1".parse()?, "a tilde sorts before the end");
/// assert!("4.0^git1-1".parse::<RpmVersion>()? > "4.0-1".parse()?, "a caret sorts behind it");
/// # Ok::<(), patchloom_domain::VersionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RpmVersion {
    text: String,
    epoch: u32,
    version_at: usize,
    version_end: usize,
}

impl RpmVersion {
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

    /// The version itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.text[self.version_at..self.version_end]
    }

    /// The release, where there is one.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.text.get(self.version_end + 1..)
    }

    /// The order as a requirement sees it: a side without a release matches every release of its version.
    ///
    /// This is no order of versions: it is not transitive.
    #[must_use]
    pub fn loosely(&self, other: &Self) -> Ordering {
        let by_version = self.epoch.cmp(&other.epoch).then_with(|| rpm_segments_cmp(self.version(), other.version()));
        by_version.then_with(|| match (self.release(), other.release()) {
            (Some(left), Some(right)) => rpm_segments_cmp(left, right),
            (None, _) | (_, None) => Ordering::Equal,
        })
    }

    /// What decides between two versions, in words.
    pub(super) fn why(&self, other: &Self) -> String {
        if self.epoch != other.epoch {
            return format!("the epoch decides: {} against {}", self.epoch, other.epoch);
        }
        if let Some((left, right)) = first_difference(self.version(), other.version()) {
            return format!("the version decides: {left} against {right}");
        }
        match (self.release(), other.release()) {
            (Some(left), Some(right)) => match first_difference(left, right) {
                Some((left, right)) => format!("the release decides: {left} against {right}"),
                None => "no part differs".to_owned(),
            },
            (None, None) => "no part differs".to_owned(),
            (None, Some(_)) | (Some(_), None) => {
                "one has no release, which sorts first; as a requirement it would match both".to_owned()
            }
        }
    }
}

/// A piece of a version or release, in the order in which pieces sort where they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    Tilde,
    End,
    Caret,
    Letters(&'a str),
    /// The number of digits first: without leading zeros the longer number is the larger one.
    Number(usize, &'a str),
}

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tilde => write!(f, "'~'"),
            Self::End => write!(f, "its end"),
            Self::Caret => write!(f, "'^'"),
            Self::Letters(letters) => write!(f, "'{letters}'"),
            Self::Number(0, _) => write!(f, "0"),
            Self::Number(_, digits) => write!(f, "{digits}"),
        }
    }
}

/// Takes the next segment off the front; whatever is no letter, digit, tilde or caret only separates.
fn segment<'a>(text: &mut &'a str) -> Segment<'a> {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || c == '~' || c == '^');
    let rest = text.trim_start_matches(separates);
    let (found, length) = match rest.bytes().next() {
        None => (Segment::End, 0),
        Some(b'~') => (Segment::Tilde, 1),
        Some(b'^') => (Segment::Caret, 1),
        Some(byte) if byte.is_ascii_digit() => {
            let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let digits = rest[..length].trim_start_matches('0');
            (Segment::Number(digits.len(), digits), length)
        }
        Some(_) => {
            let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            (Segment::Letters(&rest[..length]), length)
        }
    };
    *text = &rest[length..];
    found
}

fn first_difference<'a>(mut left: &'a str, mut right: &'a str) -> Option<(Segment<'a>, Segment<'a>)> {
    loop {
        let (a, b) = (segment(&mut left), segment(&mut right));
        if a != b {
            return Some((a, b));
        }
        if a == Segment::End {
            return None;
        }
    }
}

/// Compares two versions, or two releases, alone: rpm's `rpmvercmp`.
#[must_use]
pub fn rpm_segments_cmp(left: &str, right: &str) -> Ordering {
    first_difference(left, right).map_or(Ordering::Equal, |(a, b)| a.cmp(&b))
}

impl FromStr for RpmVersion {
    type Err = VersionError;

    fn from_str(given: &str) -> Result<Self, VersionError> {
        let text = given.trim().to_owned();
        let refuse = |at, fault| Err(VersionError { scheme: VersionScheme::Rpm, text: text.clone(), at, fault });
        if text.is_empty() {
            return refuse(0, VersionFault::Empty);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (epoch, version_at) = match text[digits..].starts_with(':') {
            false => (0, 0),
            // rpm takes ":1.0" for epoch 0.
            true if digits == 0 => (0, 1),
            true => match text[..digits].parse() {
                Ok(epoch) => (epoch, digits + 1),
                Err(_) => return refuse(0, VersionFault::Epoch),
            },
        };
        let version_end = text[version_at..].rfind('-').map_or(text.len(), |at| version_at + at);
        if version_end == version_at {
            return refuse(version_at, VersionFault::NoVersion);
        }
        if version_end + 1 == text.len() {
            return refuse(version_end, VersionFault::NoRevision);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+%{}~^".contains(c);
        let wrong = text.char_indices().find(|&(at, c)| at >= version_at && at != version_end && !allowed(c));
        match wrong {
            Some((0, ':')) => refuse(0, VersionFault::Epoch),
            Some((at, ':')) if version_at == 0 && at < version_end => refuse(0, VersionFault::Epoch),
            Some((at, c)) => refuse(at, VersionFault::Character(c)),
            None => Ok(Self { epoch, version_at, version_end, text }),
        }
    }
}

impl Ord for RpmVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_version = self.epoch.cmp(&other.epoch).then_with(|| rpm_segments_cmp(self.version(), other.version()));
        by_version.then_with(|| match (self.release(), other.release()) {
            (Some(left), Some(right)) => rpm_segments_cmp(left, right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        })
    }
}

impl PartialOrd for RpmVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RpmVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RpmVersion {}

impl fmt::Display for RpmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for RpmVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RpmVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
