//! Evidence of a change: entries chained by their hashes, so that whatever was altered, taken out, moved or cut off later
//! is found. Knows nothing of where they are kept.
//!
//! An entry is one line of JSON. Its `link` is the SHA-256 of the line before it, so the last line vouches for all others;
//! the SHA-256 of the last line, the head, is sealed on the change when it is over.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{Actor, ChangeRequest, Instant, PackageSet};

/// A line longer than this is no entry.
pub const EVIDENCE_LINE_BYTES_MAX: usize = 1 << 20;
/// Evidence of one change is at most so long.
pub const EVIDENCE_BYTES_MAX: usize = 256 << 20;

/// A command that ran on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceCommand {
    /// Its words.
    pub argv: Vec<String>,
    /// How it ended: an exit code, or what else ended it.
    pub exit: String,
}

/// What happened, before it has a place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFact {
    /// What makes it the same when it is told again: it is written once.
    pub key: String,
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: Actor,
    /// What: the type of an event, or `order.` and the name of an order.
    pub what: String,
    /// On which host, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The commands that did it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<EvidenceCommand>,
    /// The artifact with all that they printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Digest of the package set before, as [`package_set_digest`] makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The same after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Digest of the change after it, as [`change_digest`] makes it; for orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_is: Option<String>,
    /// All else that is known.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceEntry {
    /// Its place, from 1.
    pub seq: u64,
    /// SHA-256 of the line before, in hex; that of the change's name for the first.
    pub link: String,
    /// Number of the change.
    pub change: String,
    /// What happened.
    #[serde(flatten)]
    pub fact: EvidenceFact,
}

/// How far the evidence of a change went when it was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceSeal {
    /// How many entries.
    pub entries: u64,
    /// SHA-256 of the last one, in hex.
    pub head: String,
}

/// What is wrong with evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// A line that is no entry, or not as we write it.
    #[error("line {line} is no entry: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// An entry of another change.
    #[error("entry {seq} is of {found}, not of {change}")]
    Other {
        /// Which.
        seq: u64,
        /// Of which change it is.
        found: String,
        /// Of which it should be.
        change: String,
    },
    /// A number that does not follow.
    #[error("entry {found} stands where entry {expected} belongs: something was taken out, put in or moved")]
    Order {
        /// Its number.
        found: u64,
        /// The number that belongs there.
        expected: u64,
    },
    /// A link that does not hold.
    #[error("entry {seq} is not linked to the one before it: one of the two was altered")]
    Link {
        /// Which.
        seq: u64,
    },
    /// The same thing twice.
    #[error("entry {seq} tells {key} again")]
    Twice {
        /// Which.
        seq: u64,
        /// What.
        key: String,
    },
    /// Fewer entries than there were, or other ones.
    #[error("there are {found} entries, {sealed} were sealed: the end was cut off")]
    Short {
        /// How many there are.
        found: u64,
        /// How many there were.
        sealed: u64,
    },
    /// More entries than there were.
    #[error("there are {found} entries, {sealed} were sealed: something was added")]
    Long {
        /// How many there are.
        found: u64,
        /// How many there were.
        sealed: u64,
    },
    /// The last entry is another one.
    #[error("entry {seq}, the last one, is not the one that was sealed")]
    Head {
        /// Which.
        seq: u64,
    },
    /// A change that is over without a seal.
    #[error("the change is over, and its evidence was not sealed")]
    Unsealed,
    /// The change is not the one that the last order left.
    #[error("the change is not as entry {seq} left it: it was altered")]
    Change {
        /// Which entry.
        seq: u64,
    },
}

/// Evidence that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceChain {
    /// The entries.
    pub entries: Vec<EvidenceEntry>,
    /// SHA-256 of the last line, in hex; of the change's name where there is none.
    pub head: String,
}

impl EvidenceChain {
    /// How far it goes.
    #[must_use]
    pub fn seal(&self) -> EvidenceSeal {
        EvidenceSeal { entries: count(self.entries.len()), head: self.head.clone() }
    }
}

/// Bytes as SHA-256 in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The link of the first entry of a change.
#[must_use]
pub fn first_link(change: &str) -> String {
    sha256_hex(format!("patchloom evidence of {change}").as_bytes())
}

/// The digest of a package set.
#[must_use]
pub fn package_set_digest(set: &PackageSet) -> String {
    format!("sha256:{}", sha256_hex(&bytes(set)))
}

/// The digest of a change, without its seal: that comes after the last entry.
#[must_use]
pub fn change_digest(change: &ChangeRequest) -> String {
    let bare = ChangeRequest { evidence: None, ..change.clone() };
    format!("sha256:{}", sha256_hex(&bytes(&bare)))
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and lists have a JSON form")
}

fn count(entries: usize) -> u64 {
    u64::try_from(entries).unwrap_or(u64::MAX)
}

impl EvidenceEntry {
    /// Its line, without the line feed: what is hashed.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        bytes(self)
    }

    /// An entry from its line, which has to be as we write it.
    ///
    /// # Errors
    /// [`EvidenceError::Line`].
    pub fn read(line: &[u8], number: usize) -> Result<Self, EvidenceError> {
        let wrong = |why: String| EvidenceError::Line { line: number, why };
        if line.len() > EVIDENCE_LINE_BYTES_MAX {
            return Err(wrong(format!("it has {} bytes, the limit is {EVIDENCE_LINE_BYTES_MAX}", line.len())));
        }
        let entry: Self = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        // What reads the same and is written otherwise could hide something.
        if entry.line() != line { Err(wrong("it is not written as entries are".to_owned())) } else { Ok(entry) }
    }
}

/// The next entry after one with `seq` and the hash `head`; `None` and [`first_link`] for the first.
#[must_use]
pub fn next_entry(change: &str, last: Option<u64>, head: String, fact: EvidenceFact) -> EvidenceEntry {
    EvidenceEntry { seq: last.unwrap_or(0).saturating_add(1), link: head, change: change.to_owned(), fact }
}

/// Reads all evidence of a change: each line ends with a line feed, the last one too.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read_evidence(change: &str, text: &[u8]) -> Result<EvidenceChain, EvidenceError> {
    let mut chain = EvidenceChain { entries: Vec::new(), head: first_link(change) };
    let mut keys = BTreeSet::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = chain.entries.len() + 1;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| EvidenceError::Line { line: number, why: "it is cut off".to_owned() })?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let entry = EvidenceEntry::read(line, number)?;
        let seq = entry.seq;
        if seq != count(number) {
            return Err(EvidenceError::Order { found: seq, expected: count(number) });
        }
        if entry.change != change {
            return Err(EvidenceError::Other { seq, found: entry.change, change: change.to_owned() });
        }
        if entry.link != chain.head {
            return Err(EvidenceError::Link { seq });
        }
        if !keys.insert(entry.fact.key.clone()) {
            return Err(EvidenceError::Twice { seq, key: entry.fact.key });
        }
        chain.head = sha256_hex(line);
        chain.entries.push(entry);
        rest = after;
    }
    Ok(chain)
}

/// Checks evidence against its change: nothing is missing at the end, and the change is what the orders made of it.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_evidence(change: &ChangeRequest, text: &[u8]) -> Result<EvidenceChain, EvidenceError> {
    let chain = read_evidence(&change.number, text)?;
    let found = count(chain.entries.len());
    match &change.evidence {
        Some(seal) if seal.entries > found => return Err(EvidenceError::Short { found, sealed: seal.entries }),
        Some(seal) if seal.entries < found => return Err(EvidenceError::Long { found, sealed: seal.entries }),
        Some(seal) if seal.head != chain.head => return Err(EvidenceError::Head { seq: found }),
        None if change.state.is_final() => return Err(EvidenceError::Unsealed),
        Some(_) | None => {}
    }
    let last = chain.entries.iter().rev().find_map(|entry| Some((entry.seq, entry.fact.change_is.as_ref()?)));
    match last {
        Some((seq, digest)) if *digest != change_digest(change) => Err(EvidenceError::Change { seq }),
        Some(_) | None => Ok(chain),
    }
}
