//! What goes wrong before any work is done over NATS: each error with its place, its reason and a way out.

use std::path::PathBuf;

use super::config::Difference;
use super::preflight::ServerVersion;

/// Why NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server answered.
    #[error("cannot reach a NATS server at {servers}")]
    Unreachable {
        /// Where it was tried, without passwords.
        servers: String,
        /// What the client said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// It answered, and did not let us in.
    #[error("the NATS server at {servers} does not accept our {credentials}")]
    AuthRefused {
        /// Where it was tried, without passwords.
        servers: String,
        /// What was shown to it.
        credentials: &'static str,
        /// What the client said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The two do not agree on TLS.
    #[error("cannot agree on TLS with the NATS server at {servers}")]
    Tls {
        /// Where it was tried, without passwords.
        servers: String,
        /// What the client said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// An option makes no sense.
    #[error("the NATS option {option} makes no sense: {reason}")]
    Option {
        /// Which one.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// A file that an option names cannot be read.
    #[error("cannot read {} that the NATS option {option} names", path.display())]
    File {
        /// Which option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It would silently ignore what we depend on.
    #[error(
        "the NATS server {server} is version {found}, and {oldest} is the oldest that does what is asked of it: \
         older ones ignore fences on other subjects and times to live, and say nothing"
    )]
    TooOld {
        /// Its name.
        server: String,
        /// Its version.
        found: ServerVersion,
        /// The oldest that will do.
        oldest: ServerVersion,
    },
    /// It keeps no streams, or not for us.
    #[error("JetStream is not available on the NATS server {server}: {reason}")]
    NoJetStream {
        /// Its name.
        server: String,
        /// Whether it is off, or off for this account.
        reason: String,
    },
    /// It allows less than is needed.
    #[error("the NATS server {server} allows {what} of {found} bytes, and {needed} are needed")]
    TooSmall {
        /// Its name.
        server: String,
        /// Of what.
        what: &'static str,
        /// How many bytes.
        found: u64,
        /// How many there have to be.
        needed: u64,
    },
    /// It did not do what it was asked for.
    #[error("the NATS server did not make {what} as it was asked to: {}", list(differences))]
    Differs {
        /// The stream or consumer.
        what: String,
        /// Where it departs.
        differences: Vec<Difference>,
    },
    /// It gave no answer, or one that says nothing.
    #[error("the NATS server {server} does not answer when asked for {question}")]
    Silent {
        /// Its name.
        server: String,
        /// What it was asked for.
        question: &'static str,
        /// What the client said.
        #[source]
        source: async_nats::jetstream::context::AccountError,
    },
}

impl Error {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "E0640",
            Self::AuthRefused { .. } => "E0641",
            Self::Tls { .. } => "E0642",
            Self::Option { .. } | Self::File { .. } => "E0643",
            Self::TooOld { .. } => "E0644",
            Self::NoJetStream { .. } => "E0645",
            Self::TooSmall { .. } => "E0646",
            Self::Differs { .. } => "E0647",
            Self::Silent { .. } => "E0648",
        }
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "start the server, or correct the address; a firewall may drop what passes",
            Self::AuthRefused { .. } => "give the credentials of a user of this server; they may have expired",
            Self::Tls { .. } => {
                "give the authority that signed the server's certificate, and a client certificate if it asks"
            }
            Self::Option { .. } => "correct the option",
            Self::File { .. } => "correct the path, or let this user read the file",
            Self::TooOld { .. } => "run nats-server 2.12 or later",
            Self::NoJetStream { .. } => "switch JetStream on for the server and for this account",
            Self::TooSmall { .. } => "raise the limit in the configuration of the server or account",
            Self::Differs { .. } => "update the server, or move aside what has this name and was made otherwise",
            Self::Silent { .. } => "look at the log of the server; a cluster without a majority answers nothing",
        }
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
