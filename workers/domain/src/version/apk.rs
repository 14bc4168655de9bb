//! Versions of Alpine packages and their order, as apk has it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{VersionError, VersionFault, VersionScheme};

/// A version of an Alpine package: numbers, a letter, suffixes, a commit hash, a revision.
///
/// Equality is that of the order. The text is kept as it was.
///
/// # Source
/// apk-tools 3, `src/version.c`: `digit{.digit}…{letter}{_suffix{digits}}…{~hash}{-rdigits}`.
/// # Example
/// ```
/// use patchloom_domain::ApkVersion;
/// let old: ApkVersion = "3.1.4-r5".parse()?;
/// assert!(old < "3.1.4-r6".parse()?);
/// assert!("3.1.4_rc1".parse::<ApkVersion>()? < "3.1.4".parse()?);
/// assert!("3.1.4_p1".parse::<ApkVersion>()? > "3.1.4".parse()?);
/// # Ok::<(), patchloom_domain::VersionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ApkVersion {
    text: String,
    tokens: Vec<Token>,
}

/// A number of any length: without leading zeros the longer one is larger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    length: usize,
    digits: String,
}

impl Number {
    fn of(digits: &str) -> Self {
        let digits = digits.trim_start_matches('0');
        Self { length: digits.len(), digits: digits.to_owned() }
    }
}

/// A number behind a dot. One with a leading zero is compared as text, and so stands before all without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Digits {
    Text(String),
    Number(Number),
}

/// A suffix that makes a version older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    Alpha,
    Beta,
    Pre,
    Rc,
}

/// A suffix that makes a version newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    Cvs,
    Svn,
    Git,
    Hg,
    P,
}

/// A piece of a version, in the order in which pieces sort where they meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Before(Before),
    End,
    Revision(Number),
    Hash(String),
    SuffixNumber(Number),
    After(After),
    Letter(char),
    Digits(Digits),
    First(Number),
}

impl Token {
    /// How far on in a version it stands; what comes next may not stand before it.
    fn stage(&self) -> u8 {
        match self {
            Self::First(_) | Self::Digits(_) => 0,
            Self::Letter(_) => 1,
            Self::Before(_) | Self::After(_) => 2,
            Self::SuffixNumber(_) => 3,
            Self::Hash(_) => 4,
            Self::Revision(_) => 5,
            Self::End => 6,
        }
    }
}

impl ApkVersion {
    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What decides between two versions, in words.
    pub(super) fn why(&self, other: &Self) -> String {
        let pair = self.tokens.iter().zip(&other.tokens).find(|(left, right)| left != right);
        pair.map_or_else(|| "no part differs".to_owned(), |(left, right)| format!("{left} against {right} decides"))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: &Number| if number.length == 0 { "0".to_owned() } else { number.digits.clone() };
        match self {
            Self::Before(suffix) => write!(f, "suffix _{}", format!("{suffix:?}").to_ascii_lowercase()),
            Self::After(suffix) => write!(f, "suffix _{}", format!("{suffix:?}").to_ascii_lowercase()),
            Self::End => write!(f, "the end"),
            Self::Revision(n) => write!(f, "revision r{}", number(n)),
            Self::Hash(hash) => write!(f, "commit {hash}"),
            Self::SuffixNumber(n) => write!(f, "suffix number {}", number(n)),
            Self::Letter(letter) => write!(f, "letter {letter}"),
            Self::Digits(Digits::Text(text)) => write!(f, "number {text}, read as text,"),
            Self::Digits(Digits::Number(n)) | Self::First(n) => write!(f, "number {}", number(n)),
        }
    }
}

/// A reader of one version.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn refuse<T>(&self, at: usize, fault: VersionFault) -> Result<T, VersionError> {
        Err(VersionError { scheme: VersionScheme::Apk, text: self.text.to_owned(), at, fault })
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn digits(&mut self) -> Result<&'a str, VersionError> {
        let digits = self.take(|c| c.is_ascii_digit());
        if digits.is_empty() { self.refuse(self.at, VersionFault::NoNumber) } else { Ok(digits) }
    }

    /// The token that begins here; `before` is the one before it.
    fn token(&mut self, before: &Token) -> Result<Token, VersionError> {
        let (start, stage) = (self.at, before.stage());
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        let may_follow = match first {
            'a'..='z' | '.' => stage == 0,
            '0'..='9' => stage == 0 || stage == 2,
            '_' => stage <= 3,
            '~' => stage < 4,
            '-' => stage < 5,
            other => return self.refuse(start, VersionFault::Character(other)),
        };
        if !may_follow {
            return self.refuse(start, VersionFault::Order(first));
        }
        match first {
            '0'..='9' if stage == 2 => Ok(Token::SuffixNumber(Number::of(self.digits()?))),
            '0'..='9' => self.part(),
            'a'..='z' => {
                self.at += 1;
                Ok(Token::Letter(first))
            }
            '.' => {
                self.at += 1;
                self.part()
            }
            '_' => self.suffix(),
            '~' => {
                self.at += 1;
                let hash = self.take(|c| matches!(c, '0'..='9' | 'a'..='f'));
                if hash.is_empty() {
                    return self.refuse(self.at, VersionFault::NoHash);
                }
                Ok(Token::Hash(hash.to_owned()))
            }
            _ => {
                let Some(_) = self.rest().strip_prefix("-r") else {
                    return self.refuse(start, VersionFault::Order(first));
                };
                self.at += 2;
                Ok(Token::Revision(Number::of(self.digits()?)))
            }
        }
    }

    fn part(&mut self) -> Result<Token, VersionError> {
        let digits = self.digits()?;
        let read =
            if digits.starts_with('0') { Digits::Text(digits.to_owned()) } else { Digits::Number(Number::of(digits)) };
        Ok(Token::Digits(read))
    }

    fn suffix(&mut self) -> Result<Token, VersionError> {
        let start = self.at;
        self.at += 1;
        match self.take(|c| c.is_ascii_lowercase()) {
            "alpha" => Ok(Token::Before(Before::Alpha)),
            "beta" => Ok(Token::Before(Before::Beta)),
            "pre" => Ok(Token::Before(Before::Pre)),
            "rc" => Ok(Token::Before(Before::Rc)),
            "cvs" => Ok(Token::After(After::Cvs)),
            "svn" => Ok(Token::After(After::Svn)),
            "git" => Ok(Token::After(After::Git)),
            "hg" => Ok(Token::After(After::Hg)),
            "p" => Ok(Token::After(After::P)),
            other => self.refuse(start, VersionFault::Suffix(other.to_owned())),
        }
    }
}

impl FromStr for ApkVersion {
    type Err = VersionError;

    fn from_str(given: &str) -> Result<Self, VersionError> {
        let text = given.trim();
        let mut reader = Reader { text, at: 0 };
        if text.is_empty() {
            return reader.refuse(0, VersionFault::Empty);
        }
        let mut tokens = vec![Token::First(Number::of(reader.digits()?))];
        let mut last = Token::First(Number::of(""));
        while last != Token::End {
            last = reader.token(&last)?;
            tokens.push(last.clone());
        }
        Ok(Self { text: text.to_owned(), tokens })
    }
}

impl Ord for ApkVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tokens.cmp(&other.tokens)
    }
}

impl PartialOrd for ApkVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ApkVersion {
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens
    }
}

impl Eq for ApkVersion {}

impl fmt::Display for ApkVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ApkVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ApkVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
