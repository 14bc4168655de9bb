//! What can go wrong with a journal, each with its code.

use std::io;
use std::path::PathBuf;

use super::FORMAT_VERSION;
use crate::nats::StreamError;

/// Why a journal cannot be opened, read or trimmed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An acknowledged record is not what it was.
    #[error("journal segment {} is damaged at byte {offset}, record {seq}: {reason}", segment.display())]
    Damaged {
        /// The file.
        segment: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record that should be there.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer engine.
    #[error(
        "journal segment {} has format version {found}, this engine knows {FORMAT_VERSION}: use the engine that wrote it",
        segment.display()
    )]
    UnknownFormat {
        /// The file.
        segment: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Written under rules that this engine does not know, so it must not lead.
    #[error(
        "journal segment {} was written under semantics version {found}, this engine knows up to {supported}: use the engine that wrote it",
        segment.display()
    )]
    UnknownSemantics {
        /// The file.
        segment: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// The record was given up behind a snapshot.
    #[error("journal record {seq} was trimmed, the first one left is {first}")]
    Trimmed {
        /// The record asked for.
        seq: u64,
        /// The first that is there.
        first: u64,
    },
    /// There is no such record yet.
    #[error("journal record {seq} does not exist, the last one is {head}")]
    BeyondHead {
        /// The record asked for.
        seq: u64,
        /// The last that is there.
        head: u64,
    },
    /// The disk refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The stream of a journal over NATS.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The journal's thread has ended: only after a panic in it.
    #[error("the journal's thread has stopped; restart the engine")]
    Stopped,
}

impl Error {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "E0410",
            Self::UnknownFormat { .. } | Self::UnknownSemantics { .. } => "E0415",
            Self::Trimmed { .. } | Self::BeyondHead { .. } => "E0416",
            Self::Io { .. } => "E0412",
            Self::Stream(error) => error.code(),
            Self::Stopped => "E0413",
        }
    }
}

/// Why a record was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room. The record is not in the journal; the same append may succeed once there is room.
    #[error("no room for the journal on {}", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The disk refused to write. The record is not in the journal; the same append may succeed later.
    #[error("cannot write the journal to {}", path.display())]
    Io {
        /// The file that was written.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// Longer than a record may be. It will never be accepted.
    #[error("a journal record of {bytes} bytes is too long, the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that this journal takes.
        limit: usize,
    },
    /// Another engine leads since: it has written record `seq`. The record at hand is not in the journal and never will be.
    #[error("another engine leads: it has written record {seq} of {stream}")]
    Deposed {
        /// The stream.
        stream: String,
        /// The record that was to be ours.
        seq: u64,
    },
    /// The broker does not answer, or cannot store. The record may be in the journal or not; the same append finds out.
    #[error("{stream} does not take records: {reason}")]
    Unavailable {
        /// The stream.
        stream: String,
        /// What was seen.
        reason: String,
    },
    /// The stream is not what it was when it acknowledged the last record. The record at hand may be in it or not.
    #[error("{stream} is not what it was when it acknowledged the last record: {reason}")]
    Lost {
        /// The stream.
        stream: String,
        /// What is wrong.
        reason: String,
    },
    /// A flush failed, now or before: the journal takes nothing until it is opened again. The record at hand may be in it or not.
    #[error("the journal stopped taking records: {reason}; restart the engine once the disk is healthy")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The journal's thread has ended: only after a panic in it. The record may be in the journal or not.
    #[error("the journal's thread has stopped; restart the engine")]
    Stopped,
}

impl AppendError {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DiskFull { .. } => "E0411",
            Self::Io { .. } => "E0412",
            Self::Poisoned { .. } | Self::Stopped => "E0413",
            Self::TooLong { .. } => "E0414",
            Self::Deposed { .. } => "E0470",
            Self::Unavailable { .. } => "E0471",
            Self::Lost { .. } => "E0472",
        }
    }

    /// Whether the same record may be appended later with this journal as it stands.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Io { .. } | Self::Unavailable { .. } => true,
            Self::TooLong { .. } | Self::Deposed { .. } | Self::Lost { .. } | Self::Poisoned { .. } | Self::Stopped => {
                false
            }
        }
    }
}
