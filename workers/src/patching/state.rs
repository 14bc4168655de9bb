//! Reads the state of a target that a change must reach or come back to: packages, marks, residue. Changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::PackageSet;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::executor::executor_of;
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order, Ran};

/// The deepest directory of `/etc` that is searched for residue.
const ETC_DEPTH_MAX: usize = 16;

/// A target at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The package database.
    pub packages: PackageSet,
    /// Packages marked as installed automatically, as `apt-mark` writes them.
    pub auto: BTreeSet<String>,
    /// Files that the package manager downloaded.
    pub archives: BTreeSet<String>,
    /// Configuration files that the package manager left beside others.
    pub residue: BTreeSet<String>,
    /// How far its own journal was, where it keeps one that tells of scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<u64>,
    /// What was wrong with its packages already, where that is nothing that stops a change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub complaints: String,
}

/// A command on the target that must come to an end.
pub(super) async fn run(host: &HostExec, order: Order, cancel: &CancellationToken) -> Result<Ran, Failure> {
    host.run(&order, cancel).await.map_err(|error| permanent(error.code(), chain(&error)))
}

/// A reading command whose exit code means what it says.
pub(super) async fn read(host: &HostExec, argv: &[&str], cancel: &CancellationToken) -> Result<String, Failure> {
    let ran = run(host, Order::reading(argv.iter().copied()).keep(64 << 20), cancel).await?;
    if ran.ok() {
        return Ok(ran.stdout.text);
    }
    let text = format!("{} on {} ended with {:?}: {}", argv.join(" "), host.place(), ran.exit, ran.text().trim());
    Err(transient("E0510", text))
}

/// Everything at once.
pub(super) async fn host_state(host: &HostExec, cancel: &CancellationToken) -> Result<HostState, Failure> {
    let (journal, complaints) = executor_of(host).baseline(host, cancel).await?;
    Ok(HostState {
        packages: packages(host, cancel).await?,
        auto: auto_marks(host, cancel).await?,
        archives: archives(host),
        residue: residue(host),
        journal,
        complaints,
    })
}

/// The package database as it is now.
pub(super) async fn packages(host: &HostExec, cancel: &CancellationToken) -> Result<PackageSet, Failure> {
    executor_of(host).packages(host, cancel).await
}

/// What is wrong with the packages now and was not before; empty where nothing is.
pub(super) async fn audit(host: &HostExec, before: &HostState, cancel: &CancellationToken) -> Result<String, Failure> {
    let now = executor_of(host).audit(host, cancel).await?;
    if before.complaints.is_empty() {
        return Ok(now);
    }
    let known: BTreeSet<&str> = before.complaints.lines().collect();
    Ok(now.lines().filter(|line| !known.contains(line)).collect::<Vec<_>>().join("\n"))
}

/// Packages marked as installed automatically.
pub(super) async fn auto_marks(host: &HostExec, cancel: &CancellationToken) -> Result<BTreeSet<String>, Failure> {
    executor_of(host).auto_marks(host, cancel).await
}

fn archives(host: &HostExec) -> BTreeSet<String> {
    let leavings = executor_of(host).leavings();
    let mut found = BTreeSet::new();
    list(&host.path(leavings.archives), "", leavings.depth, &mut found);
    found.retain(|name| name.ends_with(leavings.suffix));
    if let Some(partial) = leavings.partial {
        list(&host.path(&format!("{}/{partial}", leavings.archives)), &format!("{partial}/"), 0, &mut found);
    }
    found
}

/// Names below a directory, as seen from where the search began.
pub(super) fn list(dir: &Path, inside: &str, depth: usize, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => {
                list(&entry.path(), &format!("{inside}{name}/"), depth - 1, found);
            }
            _ => {
                found.insert(format!("{inside}{name}"));
            }
        }
    }
}

fn residue(host: &HostExec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let endings = executor_of(host).leavings().residue;
    search(&host.path("/etc"), Path::new("/etc"), 0, endings, &mut found);
    found
}

fn search(dir: &Path, inside: &Path, depth: usize, endings: &[&str], found: &mut BTreeSet<String>) {
    if depth > ETC_DEPTH_MAX {
        return;
    }
    // What cannot be read holds nothing that this process could clean.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name: PathBuf = inside.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), &name, depth + 1, endings, found);
        } else if endings.iter().any(|suffix| name.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes())) {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
}

/// Deletes what lies in the archive directory and beside configuration files now, and did not `before`.
/// Returns what was deleted.
pub(super) fn clean(host: &HostExec, before: &HostState, config_too: bool) -> Vec<String> {
    let dir = executor_of(host).leavings().archives;
    let new_archives = archives(host).into_iter().filter(|name| !before.archives.contains(name));
    let mut paths: Vec<_> = new_archives.map(|name| format!("{dir}/{name}")).collect();
    // apt's own lock file stays: it is there on every system that ever ran apt.
    paths.retain(|path| !path.ends_with("/lock"));
    if config_too {
        paths.extend(residue(host).into_iter().filter(|path| !before.residue.contains(path)));
    }
    // Residue that cannot be deleted is still residue, not a failure of the change: it is simply not listed as cleaned.
    paths.retain(|path| std::fs::remove_file(host.path(path)).is_ok());
    paths
}

/// Deletes what the package manager downloaded since and its caches, which it makes again. Returns what was deleted.
pub(super) fn make_room(host: &HostExec, before: &HostState) -> Vec<String> {
    let mut freed = clean(host, before, false);
    for cache in executor_of(host).spare(host) {
        if std::fs::remove_file(host.path(&cache)).is_ok() {
            freed.push(cache);
        }
    }
    freed
}

/// Residue that was not there before and stays for its owner to decide about.
pub(super) fn new_residue(host: &HostExec, before: &HostState) -> Vec<String> {
    residue(host).into_iter().filter(|path| !before.residue.contains(path)).collect()
}
