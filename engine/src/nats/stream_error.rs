//! What can be wrong with a stream that is to be a journal, each with its code.

use crate::journal::Head;

/// Why a stream cannot be used as a journal, or not now.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A partition has another name than it may have.
    #[error("{name:?} is no name of a partition: 1 to 32 of a-z, 0-9 and -")]
    Name {
        /// What was given.
        name: String,
    },
    /// An acknowledged record is not what it was.
    #[error("record {seq} of {stream} is damaged: {reason}")]
    Damaged {
        /// The stream.
        stream: String,
        /// The record that should be there.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The stream was not made for this, or is not set up as it must be.
    #[error("{stream} cannot be used as a journal: {reason}")]
    Unfit {
        /// The stream.
        stream: String,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer engine.
    #[error("{stream} has {what} version {found}, this engine knows up to {supported}: use the engine that wrote it")]
    UnknownVersion {
        /// The stream.
        stream: String,
        /// Format or semantics.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// The broker does not answer.
    #[error("cannot {attempt} {stream}: {reason}")]
    Unavailable {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        stream: String,
        /// What the client or the broker said.
        reason: String,
    },
    /// The broker lost or changed records that it had acknowledged.
    #[error("{stream} lost what it had acknowledged: it {found}, but record {} was {}", known.seq, known.hash)]
    Lost {
        /// The stream.
        stream: String,
        /// What it holds instead.
        found: String,
        /// The last record that is known to have been acknowledged.
        known: Head,
    },
    /// The records that the copy of this engine lacks are not there any more, nor a snapshot in their place.
    #[error(
        "{stream} begins at record {first}, and no sound snapshot of it reaches so far: the state cannot be rebuilt"
    )]
    NoSnapshot {
        /// The stream.
        stream: String,
        /// The first record that can be read.
        first: u64,
    },
}

impl StreamError {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::Unfit { .. } => "E0473",
            Self::Damaged { .. } => "E0410",
            Self::NoSnapshot { .. } => "E0418",
            Self::UnknownVersion { .. } => "E0415",
            Self::Unavailable { .. } => "E0471",
            Self::Lost { .. } => "E0472",
        }
    }
}

/// An error and what it comes from, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let part = inner.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = inner.source();
    }
    text
}
