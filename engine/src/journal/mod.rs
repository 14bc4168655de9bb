//! The journal: the ordered, durable, hash-chained log of a partition, as a port with two implementations.
//!
//! Knows records as bytes; what they mean is the business of the core.
//!
//! A record is acknowledged only when it is durable. Acknowledged records are never lost silently: where the files
//! do not hold what they must, opening or reading says so with [`Error::Damaged`].

mod embedded;
mod error;
mod frame;
mod log;
mod segment;
mod verify;

use std::fmt;
use std::future::Future;

pub use embedded::{EmbeddedJournal, EmbeddedReader};
pub use error::{AppendError, Error};
pub(crate) use log::{Log, prefill};
pub use log::{Opened, Options, Stats};
pub use segment::Reader;
pub(crate) use segment::{begins_after, is_in};
pub(crate) use verify::verify_on;
pub use verify::{Report, SegmentReport, records, verify};

/// The version of the segment files' format that this engine writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// The longest record.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a segment file gets before the next one begins, by default.
pub const SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// A link of the hash chain: SHA-256 of the link before, the sequence number (little-endian) and the payload.
///
/// The link before the first record is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The link after this one.
    #[must_use]
    pub fn next(&self, seq: u64, payload: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(seq.to_le_bytes());
        hasher.update(payload);
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the journal ends: the last record and its link. Sequence 0 while there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last sequence number.
    pub seq: u64,
    /// Its link of the chain.
    pub hash: ChainHash,
}

/// A record became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its sequence number.
    pub seq: u64,
    /// Its link of the chain.
    pub hash: ChainHash,
}

/// A record as read back, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its sequence number: from 1, without gaps.
    pub seq: u64,
    /// Its link of the chain.
    pub hash: ChainHash,
    /// The version of the semantics it was written under.
    pub semantics: u32,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// The port.
///
/// One leader holds it; each call takes effect before the next one is made.
pub trait Journal: Send {
    /// What [`Journal::read_from`] gives.
    type Reader: RecordReader;

    /// Appends one record and makes it durable.
    ///
    /// # Errors
    /// [`AppendError`] says for each case whether the record may be in the journal and whether to try again.
    /// # Durability
    /// When it returns `Ok`, the record survives the loss of power.
    /// # Cancellation
    /// Dropping the future does not take the record back: it may become durable or not.
    fn append(&mut self, record: Vec<u8>) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// Reads the records from `seq` to the head as it is now.
    ///
    /// Starting one behind the head reads nothing.
    ///
    /// # Errors
    /// [`Error::Trimmed`] and [`Error::BeyondHead`] where there is no such record.
    fn read_from(&self, seq: u64) -> impl Future<Output = Result<Self::Reader, Error>> + Send;

    /// Where the journal ends, counting acknowledged records only.
    fn head(&self) -> Head;

    /// The lowest sequence that can be read; one behind the head where nothing can.
    fn first(&self) -> u64;

    /// Gives up records before `seq`, which must lie in a snapshot. May keep some of them.
    ///
    /// Returns the lowest sequence that can still be read.
    ///
    /// # Errors
    /// What the disk says. Nothing from `seq` on is touched.
    fn trim_before(&mut self, seq: u64) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// The records of a journal that another process leads, as they become durable.
pub trait Tail: Send {
    /// The next record; waits for it.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the journal does not hold what it must. The tail is over then.
    /// # Cancellation
    /// Safe: a record that was not given comes with the next call.
    fn next(&mut self) -> impl Future<Output = Result<Record, Error>> + Send;

    /// Adds a record that was given to the copy here.
    ///
    /// # Errors
    /// What the disk says, or the record does not follow the last one of the copy.
    fn keep(&mut self, record: &Record) -> impl Future<Output = Result<(), AppendError>> + Send;

    /// Gives up the copy here of records before `seq`, which must lie in a snapshot here. May keep some of them.
    ///
    /// # Errors
    /// What the disk says. Nothing from `seq` on is touched.
    fn forget_before(&mut self, seq: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// The last sequence number that is durable, as the journal says when it is asked.
    ///
    /// # Errors
    /// It cannot be asked.
    fn head(&mut self) -> impl Future<Output = Result<u64, Error>> + Send;
}

/// A stream of records.
pub trait RecordReader: Send {
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the journal does not hold what it must. The stream is over then.
    fn next(&mut self) -> impl Future<Output = Result<Option<Record>, Error>> + Send;
}
