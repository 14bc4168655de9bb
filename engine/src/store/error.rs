//! What can go wrong with the store.

use std::io;
use std::path::PathBuf;

/// Why the store refuses. Nothing of it is lost for good: it is made again from snapshot and journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or a store of this one that is not yet closed, holds it.
    #[error("the store in {} is in use by another process", path.display())]
    Locked {
        /// Its directory.
        path: PathBuf,
    },
    /// Its content cannot be trusted: rebuild it.
    #[error("the store in {} is damaged: {reason}", path.display())]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
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
    /// The database refused.
    #[error("cannot {attempt} the store in {}", path.display())]
    Database {
        /// What was tried.
        attempt: &'static str,
        /// Its directory.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: sled::Error,
    },
    /// An earlier checkpoint failed, so no later one may be written.
    #[error("the store takes no more checkpoints: {reason}")]
    Stopped {
        /// The first failure.
        reason: String,
    },
}

impl Error {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "E0431",
            Self::Damaged { .. } => "E0430",
            Self::Io { .. } | Self::Database { .. } => "E0432",
            Self::Stopped { .. } => "E0433",
        }
    }
}
