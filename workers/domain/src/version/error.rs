//! Why a text is no version: whose rules it breaks, at what place, and how.

use std::fmt;

use super::VersionScheme;

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {scheme} version: at character {place}, {fault}", place = place(text, *at))]
pub struct VersionError {
    /// Whose rules it breaks.
    pub scheme: VersionScheme,
    /// The whole text.
    pub text: String,
    /// The byte where it goes wrong, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub fault: VersionFault,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionFault {
    /// Nothing there.
    Empty,
    /// What is before the first colon is no number, or too large a one.
    Epoch,
    /// Nothing between the epoch and the revision or release.
    NoVersion,
    /// A hyphen with nothing behind it.
    NoRevision,
    /// A number is missing.
    NoNumber,
    /// A suffix that the scheme does not have.
    Suffix(String),
    /// A `~` with no commit hash behind it.
    NoHash,
    /// A part that may not follow what is before it.
    Order(char),
    /// A character that has no place there.
    Character(char),
}

impl fmt::Display for VersionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "there is nothing"),
            Self::Epoch => write!(f, "the epoch is not a number that the package manager can hold"),
            Self::NoVersion => write!(f, "the version itself is missing"),
            Self::NoRevision => write!(f, "nothing follows the hyphen"),
            Self::NoNumber => write!(f, "a number is missing"),
            Self::Suffix(suffix) => write!(f, "there is no suffix '_{suffix}'"),
            Self::NoHash => write!(f, "no commit hash follows the tilde"),
            Self::Order(c) => write!(f, "a part that begins with '{c}' may not follow what is before it"),
            Self::Character(c) if c.is_whitespace() => write!(f, "there is white space"),
            Self::Character(c) => write!(f, "'{c}' is not allowed"),
        }
    }
}

/// The character that a person counts to, from 1.
fn place(text: &str, at: usize) -> usize {
    text.char_indices().take_while(|(start, _)| *start < at).count() + 1
}
