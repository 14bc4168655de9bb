//! Why a command on a host could not be run, as far as ssh's words tell it.

use std::io;

use patchloom_core::Failure;
use patchloom_domain::SshTarget;

use crate::failure::{chain, permanent, transient};

/// What stood in the way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No such name, or nobody who knows.
    Name,
    /// Nobody listens there.
    Refused,
    /// No way there.
    Route,
    /// Nobody answered in time.
    Timeout,
    /// It was closed before a session stood.
    Closed,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection stood.
    #[error("cannot reach {place} over SSH: {text}")]
    Unreachable {
        /// The host.
        place: SshTarget,
        /// Of which kind.
        why: Unreachable,
        /// ssh's own words.
        text: String,
    },
    /// The host's key is not among the known ones.
    #[error("the host key of {place} is not known: {text}")]
    HostKeyUnknown {
        /// The host.
        place: SshTarget,
        /// ssh's own words.
        text: String,
    },
    /// The host shows another key than the known one.
    #[error("the host key of {place} is not the known one: it was installed anew, or somebody stands in between")]
    HostKeyChanged {
        /// The host.
        place: SshTarget,
    },
    /// The host lets us not in.
    #[error("{place} refuses the login: {text}")]
    Authentication {
        /// The host.
        place: SshTarget,
        /// ssh's own words.
        text: String,
    },
    /// The account may not become root.
    #[error("the account on {place} cannot become root without a password: {text}")]
    Sudo {
        /// The host.
        place: SshTarget,
        /// What sudo said.
        text: String,
    },
    /// The connection ended in the midst: nobody knows whether the command ran.
    #[error("the connection to {place} was lost; what it was asked to do may be done or not{}", said(text))]
    Lost {
        /// The host.
        place: SshTarget,
        /// ssh's own words.
        text: String,
    },
    /// The command ran and failed.
    #[error("a command on {place} ended with {code}{}", said(text))]
    Remote {
        /// The host.
        place: SshTarget,
        /// Its exit code.
        code: i32,
        /// What it said.
        text: String,
    },
    /// The binary does not run there.
    #[error("the binary that was carried to {place} does not run there: {text}")]
    Binary {
        /// The host.
        place: SshTarget,
        /// What the host said.
        text: String,
    },
    /// There is no ssh here, or it cannot be started, or its files cannot be written.
    #[error("cannot {action} {what}")]
    Client {
        /// What we tried.
        action: &'static str,
        /// On what.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host answers in another way than asked.
    #[error("{place} does not answer as it should: {text}")]
    Answer {
        /// The host.
        place: SshTarget,
        /// What is wrong.
        text: String,
    },
    /// A host to jump over stands in the way.
    #[error("jump host {hop} ({number} of {of}) on the way to {place} does not let us through")]
    Hop {
        /// The host that is to be reached.
        place: SshTarget,
        /// The one that stands in the way.
        hop: Box<SshTarget>,
        /// Its place on the way, from 1.
        number: usize,
        /// So many are jumped over.
        of: usize,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// A host to jump over lets us in, and carries no connections.
    #[error("it refuses to carry connections on to {next}: {text}")]
    NoForwarding {
        /// To whom.
        next: SshTarget,
        /// ssh's own words.
        text: String,
    },
    /// A host to jump over lets us in, and does not reach the next one.
    #[error("it lets us in, and cannot reach {next} from there: {text}")]
    Onward {
        /// Whom.
        next: SshTarget,
        /// ssh's own words.
        text: String,
    },
    /// A name or a path that must not reach ssh.
    #[error("'{value}' cannot be used as the {what} of an SSH connection")]
    Option {
        /// As what.
        what: &'static str,
        /// The value.
        value: String,
    },
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Onward { .. } => "E0570",
            Self::HostKeyUnknown { .. } => "E0571",
            Self::HostKeyChanged { .. } => "E0572",
            Self::Authentication { .. } => "E0573",
            Self::Sudo { .. } => "E0574",
            Self::Lost { .. } => "E0575",
            Self::Remote { .. } | Self::Answer { .. } => "E0576",
            Self::Binary { .. } => "E0577",
            Self::Client { .. } => "E0578",
            Self::Option { .. } => "E0582",
            Self::NoForwarding { .. } => "E0978",
            Self::Hop { source, .. } => source.code(),
        }
    }

    /// Whether the host may answer later to the same question.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Onward { .. } | Self::Lost { .. } => true,
            Self::Hop { source, .. } => source.is_passing(),
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::Authentication { .. }
            | Self::Sudo { .. }
            | Self::Remote { .. }
            | Self::Binary { .. }
            | Self::Client { .. }
            | Self::Answer { .. }
            | Self::NoForwarding { .. }
            | Self::Option { .. } => false,
        }
    }

    /// As a task fails with it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        if self.is_passing() || matches!(self, Self::Client { .. } | Self::Remote { .. }) {
            transient(self.code(), chain(self))
        } else {
            permanent(self.code(), chain(self))
        }
    }
}
