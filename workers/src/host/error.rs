//! Why a command could not be run on a target at all.

use std::io;

use patchloom_core::Failure;
use patchloom_domain::windows::WindowsError;

use crate::failure::{chain, permanent, transient};
use crate::ssh;

/// Why a command could not be run at all. How it ended is in [`Ran`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is not there, or is no root of apt or rpm.
    #[error("{path} is not the root of a Debian system or of one with rpm: {reason}")]
    NotARoot {
        /// Where we looked.
        path: String,
        /// What we missed.
        reason: String,
    },
    /// Only root can do this.
    #[error("cannot run {program} in {path}: this needs root rights (run it with sudo)")]
    NeedsRoot {
        /// What should have run.
        program: String,
        /// The root directory.
        path: String,
    },
    /// It is another machine.
    #[error("{place} is reached over SSH: its tasks are done there, not from here")]
    Elsewhere {
        /// Its account, name and port.
        place: String,
    },
    /// The program is not installed there.
    #[error("{program} is not installed on {place}")]
    Missing {
        /// What should have run.
        program: String,
        /// The target in words.
        place: String,
    },
    /// The mounts that a root directory needs could not be made.
    #[error("cannot enter {path}: {reason}")]
    Enter {
        /// The root directory.
        path: String,
        /// What failed.
        reason: String,
    },
    /// The Windows machine could not be asked over SSH.
    #[error("cannot ask {place}")]
    Far {
        /// Its account, name and port.
        place: String,
        /// Why.
        #[source]
        source: Box<ssh::Error>,
    },
    /// A Windows machine gave an answer that is none.
    #[error("{place} does not answer as it should")]
    Answer {
        /// Its account, name and port.
        place: String,
        /// What is wrong.
        #[source]
        source: WindowsError,
    },
    /// The operating system refused.
    #[error("cannot {action} {program}")]
    Start {
        /// What we tried: start, watch, read from.
        action: &'static str,
        /// What should have run.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "E0501",
            Self::NeedsRoot { .. } => "E0502",
            Self::NotARoot { .. } => "E0503",
            Self::Enter { .. } => "E0504",
            Self::Start { .. } => "E0505",
            Self::Elsewhere { .. } => "E0506",
            Self::Far { source, .. } => source.code(),
            Self::Answer { .. } => "E0980",
        }
    }

    /// Whether the same may be possible later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Start { .. } => true,
            Self::Far { source, .. } => source.is_passing(),
            Self::Missing { .. }
            | Self::NeedsRoot { .. }
            | Self::NotARoot { .. }
            | Self::Enter { .. }
            | Self::Elsewhere { .. }
            | Self::Answer { .. } => false,
        }
    }

    /// As a task fails with it.
    #[must_use]
    pub(crate) fn failure(&self) -> Failure {
        if self.is_passing() { transient(self.code(), chain(self)) } else { permanent(self.code(), chain(self)) }
    }
}
