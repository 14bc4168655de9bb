//! Why AWS, or a host behind its Systems Manager, did not do what was asked.

use std::io;
use std::path::PathBuf;

use patchloom_core::Failure;

use crate::failure::{chain, permanent, transient};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said who we are.
    #[error("no credentials for AWS: {text}")]
    Credentials {
        /// Where was looked, or what is wrong with them.
        text: String,
    },
    /// Nobody said which region.
    #[error("no region of AWS is told")]
    Region,
    /// No answer, or one that tells of trouble over there.
    #[error("{operation} has no answer from {endpoint}: {text}")]
    Unreachable {
        /// What was asked.
        operation: String,
        /// Where.
        endpoint: String,
        /// Why.
        text: String,
    },
    /// We may not.
    #[error("AWS denies {operation}: {code}: {text}")]
    Denied {
        /// What was asked.
        operation: String,
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        text: String,
    },
    /// We ask too much.
    #[error("AWS slows {operation} down: {code}: {text}")]
    Throttled {
        /// What was asked.
        operation: String,
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        text: String,
    },
    /// It does not take what was asked.
    #[error("AWS refuses {operation}: {code}: {text}")]
    Refused {
        /// What was asked.
        operation: String,
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        text: String,
    },
    /// An answer, but not one that we know.
    #[error("{place} does not answer as it should: {text}")]
    Answer {
        /// Who.
        place: String,
        /// What is wrong.
        text: String,
    },
    /// A file of AWS's configuration cannot be read.
    #[error("cannot read {}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Systems Manager does not reach the instance.
    #[error("Systems Manager does not reach {instance}: {text}")]
    Unmanaged {
        /// Which.
        instance: String,
        /// Its words.
        text: String,
    },
    /// Nobody knows what the command came to.
    #[error("a command on {instance} came to no end that we know; it may be done or not: {text}")]
    Lost {
        /// Where.
        instance: String,
        /// What is known.
        text: String,
    },
    /// The command ran and failed.
    #[error("a command on {instance} ended with {code}: {text}")]
    Remote {
        /// Where.
        instance: String,
        /// Its exit code.
        code: i32,
        /// What it said.
        text: String,
    },
    /// What is to be carried is too large for a command, and there is no bucket.
    #[error("{bytes} bytes do not fit into a command of Systems Manager, and no bucket is told to carry them in")]
    Bucket {
        /// How many.
        bytes: u64,
    },
    /// The host cannot fetch from the bucket, or store there.
    #[error("{instance} cannot carry to or from the bucket: {text}")]
    Transfer {
        /// Which.
        instance: String,
        /// What it said.
        text: String,
    },
    /// The binary does not run there.
    #[error("the binary that was carried to {instance} does not run there: {text}")]
    Binary {
        /// Where.
        instance: String,
        /// What it said.
        text: String,
    },
    /// A snapshot came to nothing.
    #[error("snapshot {snapshot} {text}")]
    Snapshot {
        /// Which.
        snapshot: String,
        /// What became of it.
        text: String,
    },
    /// Not a place in S3, an instance, a tag …
    #[error("'{value}' is no {what}")]
    Word {
        /// As what.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A file of ours cannot be read.
    #[error("cannot read {what}")]
    File {
        /// Which.
        what: String,
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
            Self::Credentials { .. } => "E0950",
            Self::Region => "E0951",
            Self::Unreachable { .. } => "E0952",
            Self::Denied { .. } => "E0953",
            Self::Throttled { .. } => "E0954",
            Self::Refused { .. } => "E0955",
            Self::Answer { .. } => "E0956",
            Self::Config { .. } | Self::File { .. } => "E0957",
            Self::Unmanaged { .. } => "E0958",
            Self::Lost { .. } => "E0959",
            Self::Remote { .. } => "E0960",
            Self::Bucket { .. } => "E0961",
            Self::Transfer { .. } => "E0962",
            Self::Binary { .. } => "E0963",
            Self::Snapshot { .. } => "E0964",
            Self::Word { .. } => "E0965",
        }
    }

    /// Whether the same question may be answered later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Throttled { .. } | Self::Unmanaged { .. } | Self::Lost { .. })
    }

    /// As a task fails with it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        if self.is_passing() || matches!(self, Self::Remote { .. } | Self::Transfer { .. } | Self::File { .. }) {
            transient(self.code(), chain(self))
        } else {
            permanent(self.code(), chain(self))
        }
    }
}
