//! apt and dpkg of a target, read: what is installed, what is offered, what its packages say. Changes nothing there.

pub(crate) mod candidates;
pub mod cves;
mod deb;
pub mod dpkg;
pub mod fetch;
pub mod lists;
pub mod missing;
pub mod simulate;

use patchloom_core::{Failure, UtcMs};
use patchloom_domain::InstalledPackage;
use tokio_util::sync::CancellationToken;

use crate::failure::{chain, permanent, transient};
use crate::host::{self, Exit, HostExec, Order, Ran};
use crate::manager::PackageManager;
use crate::runtime::BoxFuture;

pub use candidates::{Candidate, describe};
pub use deb::{ChangelogOf, DebError, changelog_of};

/// apt and its dpkg.
pub(crate) struct Apt;

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn refresh(&self) -> &'static str {
        "apt-get update"
    }

    fn tells_cves(&self) -> bool {
        false
    }

    fn remedy(&self) -> &'static str {
        "run dpkg --configure -a, then apt-get -f install"
    }

    fn places(&self) -> (&'static str, &'static str) {
        ("/var/cache/apt/archives", "/var/lib/dpkg")
    }

    fn audit<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(dpkg::audit(exec, cancel))
    }

    fn packages<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<InstalledPackage>, Error>> {
        Box::pin(dpkg::packages(exec, cancel))
    }

    fn architecture<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(dpkg::architecture(exec, cancel))
    }

    fn lists<'a>(
        &'a self,
        exec: &'a HostExec,
        now: UtcMs,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<lists::Lists, Error>> {
        Box::pin(lists::state(exec, now, cancel))
    }

    fn missing<'a>(
        &'a self,
        exec: &'a HostExec,
        installed: &'a [InstalledPackage],
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<missing::Missing, Error>> {
        Box::pin(missing::missing(exec, installed, cancel))
    }
}

/// What we could not learn from a package manager.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command could not be run.
    #[error("cannot ask the package manager")]
    Host(#[from] host::Error),
    /// It ran and failed.
    #[error("{command} failed on {place}: {reason}")]
    Failed {
        /// The command.
        command: String,
        /// The target in words.
        place: String,
        /// Its last words, or how it was ended.
        reason: String,
    },
    /// It was stopped because somebody asked.
    #[error("{command} was cancelled")]
    Cancelled {
        /// The command.
        command: String,
    },
    /// Its answer has no shape that we know.
    #[error("{command} answered with a line that is not understood: {line}")]
    Answer {
        /// The command.
        command: String,
        /// The line.
        line: String,
    },
    /// A file of the target or of the cache could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Host(error) => error.code(),
            Self::Failed { .. } => "E0521",
            Self::Cancelled { .. } => "E0522",
            Self::Answer { .. } => "E0523",
            Self::Io { .. } => "E0524",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = chain(&error);
        match &error {
            Error::Host(of) if of.is_passing() => transient(error.code(), text),
            Error::Failed { .. } | Error::Cancelled { .. } | Error::Io { .. } => transient(error.code(), text),
            Error::Host(_) | Error::Answer { .. } => permanent(error.code(), text),
        }
    }
}

/// Runs a reading command that must succeed, and gives its standard output.
pub(crate) async fn ask(exec: &HostExec, order: &Order, cancel: &CancellationToken) -> Result<String, Error> {
    let ran = exec.run(order, cancel).await?;
    if ran.ok() && !ran.stdout.truncated {
        return Ok(ran.stdout.text);
    }
    Err(failed(exec, &ran))
}

/// Why a command that should have succeeded did not.
pub(crate) fn failed(exec: &HostExec, ran: &Ran) -> Error {
    // The program and its verb; its options tell a person nothing.
    let verb = ran
        .argv
        .iter()
        .skip(1)
        .find(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-'));
    let command = ran.argv.iter().take(1).chain(verb).map(String::as_str).collect::<Vec<_>>().join(" ");
    let reason = match ran.exit {
        Exit::Cancelled => return Error::Cancelled { command },
        Exit::TimedOut => format!("it took longer than {} s", ran.duration.as_secs()),
        Exit::TooMuchOutput => "it wrote without end".to_owned(),
        Exit::Signaled(signal) => format!("it was killed by signal {signal}"),
        Exit::Exited(0) => "its answer is too long".to_owned(),
        Exit::Exited(code) => format!("exit code {code}: {}", last_words(&ran.text())),
    };
    Error::Failed { command, place: exec.place(), reason }
}

/// The line that says why: the last error of apt, dpkg, dnf or rpm, else the last line.
fn last_words(text: &str) -> &str {
    let telling = |line: &&str| line.starts_with("E: ") || line.contains("error:") || line.starts_with("Error: ");
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().rfind(telling).or_else(|| lines().next_back()).unwrap_or("it said nothing")
}
