//! The inventory on disk: sources are read, what is recorded is kept, and a task reconciles the two.

mod cloud;
mod discover;
mod gather;
mod handler;
mod prepare;
mod store;

use std::path::PathBuf;

pub use cloud::{instance_tags, keep_answers};
pub use discover::{Looked, discover};
pub use gather::{gather, read_text};
pub(crate) use handler::contracts;
pub use handler::{InventoryReconcile, register};
pub use prepare::{Prepared, prepare, read_policies};
pub use store::{Document, HISTORY_KEPT, InventoryStore, Sources};

/// What went wrong with files of the inventory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What is recorded is not what was written.
    #[error("the recorded inventory {} is damaged: {reason}", path.display())]
    Damaged {
        /// The document.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else is recording.
    #[error("somebody else is recording an inventory: {} is locked", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// Too many hosts would vanish at once.
    #[error("{gone} of {recorded} recorded hosts would be gone")]
    TooManyGone {
        /// How many.
        gone: usize,
        /// Of how many.
        recorded: usize,
    },
}

impl Error {
    /// Its code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "E0823",
            Self::Io { .. } => "E0824",
            Self::TooManyGone { .. } => "E0825",
            Self::Busy { .. } => "E0826",
        }
    }
}

#[cfg(test)]
mod tests;
