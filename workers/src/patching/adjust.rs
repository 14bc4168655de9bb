//! Changes what made a call fail before it moved anything, so that the next attempt at the same install may succeed.
//!
//! Touches indexes, fetched package files and dpkg's journal only; each adjustment is made once in the life of an install.

use std::path::Path;
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{Adjustment, EvidenceCommand};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::executor::{Adjusting, executor_of};
use crate::failure::{chain, permanent};
use crate::host::{Exit, HostExec, Order};
use crate::witness::command;

/// How long fetching the indexes may take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Where apt keeps its indexes, and where new ones are fetched to and the old ones wait.
const LISTS: &str = "/var/lib/apt/lists";
const NEW_LISTS: &str = "/var/lib/apt/lists.patchloom-new";
const OLD_LISTS: &str = "/var/lib/apt/lists.patchloom-old";

/// What was changed, and what it was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adjusted {
    pub(super) what: Adjustment,
    /// Name of the cause, as `patchloom explain` and the documentation call it.
    pub(super) cause: String,
    /// Whether it came about.
    pub(super) done: bool,
}

/// Makes the adjustment, unless it was made before; adds what ran.
///
/// # Errors
/// The target cannot be worked on. That a mirror still does not answer is no error here: it is told as not done.
pub(super) async fn make(
    host: &HostExec,
    (what, cause): (Adjustment, &str),
    made: &mut Vec<Adjusted>,
    ran: &mut Vec<EvidenceCommand>,
    cancel: &CancellationToken,
) -> Result<bool, Failure> {
    if made.iter().any(|adjusted| adjusted.what == what) {
        return Ok(false);
    }
    let done = match executor_of(host).adjusting(what) {
        Adjusting::Calls(calls) => run_all(host, calls, ran, cancel).await?,
        Adjusting::SwapLists => replace(host, ran, cancel).await?,
        Adjusting::Never => return Ok(false),
    };
    made.push(Adjusted { what, cause: cause.to_owned(), done });
    Ok(done)
}

/// Makes the calls as long as they succeed.
async fn run_all(
    host: &HostExec,
    calls: &[&[&str]],
    ran: &mut Vec<EvidenceCommand>,
    cancel: &CancellationToken,
) -> Result<bool, Failure> {
    for argv in calls {
        if !run(host, argv, ran, cancel).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn run(
    host: &HostExec,
    argv: &[&str],
    ran: &mut Vec<EvidenceCommand>,
    cancel: &CancellationToken,
) -> Result<bool, Failure> {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let order = Order::changing(argv).timeout(REFRESH_TIMEOUT).merged();
    let said = host.run(&order, cancel).await.map_err(|error| permanent(error.code(), chain(&error)))?;
    ran.push(command(&said));
    Ok(said.exit == Exit::Exited(0))
}

/// Fetches new indexes beside the old ones and swaps them: a mirror that is away leaves the old ones where they are.
async fn replace(host: &HostExec, ran: &mut Vec<EvidenceCommand>, cancel: &CancellationToken) -> Result<bool, Failure> {
    let (lists, new, old) = (host.path(LISTS), host.path(NEW_LISTS), host.path(OLD_LISTS));
    let failed = |error: std::io::Error| permanent("E0512", format!("cannot replace {}: {error}", lists.display()));
    gone(&new).map_err(failed)?;
    std::fs::create_dir_all(new.join("partial")).map_err(failed)?;
    let option = format!("Dir::State::lists={NEW_LISTS}/");
    let fetched = run(host, &["apt-get", "-q", "-o", &option, "update"], ran, cancel).await?;
    if fetched {
        gone(&old).map_err(failed)?;
        std::fs::rename(&lists, &old).map_err(failed)?;
        std::fs::rename(&new, &lists).map_err(failed)?;
        gone(&old).map_err(failed)?;
    } else {
        gone(&new).map_err(failed)?;
    }
    Ok(fetched)
}

fn gone(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
