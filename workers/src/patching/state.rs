//! Reads the state of a target that a change must reach or come back to: packages, marks, residue. Changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::{PackageId, PackageSet, PackageState};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order, Ran};

/// Where apt keeps what it downloaded.
pub(super) const ARCHIVES: &str = "/var/cache/apt/archives";

/// Names that dpkg gives to configuration files it did not install or did not keep.
const RESIDUE: [&str; 4] = [".dpkg-dist", ".dpkg-old", ".dpkg-new", ".dpkg-tmp"];

/// The deepest directory of `/etc` that is searched for residue.
const ETC_DEPTH_MAX: usize = 16;

/// A target at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The package database.
    pub packages: PackageSet,
    /// Packages marked as installed automatically, as `apt-mark` writes them.
    pub auto: BTreeSet<String>,
    /// Files in apt's archive directory.
    pub archives: BTreeSet<String>,
    /// Configuration files that dpkg left beside others.
    pub residue: BTreeSet<String>,
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
    Ok(HostState {
        packages: packages(host, cancel).await?,
        auto: auto_marks(host, cancel).await?,
        archives: archives(host),
        residue: residue(host),
    })
}

/// The package database as it is now.
pub(super) async fn packages(host: &HostExec, cancel: &CancellationToken) -> Result<PackageSet, Failure> {
    let format = "-f=${db:Status-Abbrev}\\t${Package}\\t${Architecture}\\t${Version}\\n";
    Ok(parse_packages(&read(host, &["dpkg-query", "-W", format], cancel).await?))
}

fn parse_packages(text: &str) -> PackageSet {
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let (status, name, arch, version) = (fields.next()?.trim(), fields.next()?, fields.next()?, fields.next()?);
        // dpkg lists names that it merely heard of: not installed is not there.
        if status.as_bytes().get(1) == Some(&b'n') {
            return None;
        }
        let id = PackageId { name: name.to_owned(), arch: arch.to_owned() };
        Some((id, PackageState { version: version.to_owned(), status: status.to_owned() }))
    };
    text.lines().filter_map(row).collect()
}

/// What `dpkg --audit` says; its exit code is 0 even when packages are broken.
pub(super) async fn audit(host: &HostExec, cancel: &CancellationToken) -> Result<String, Failure> {
    Ok(run(host, Order::reading(["dpkg", "--audit"]), cancel).await?.stdout.text.trim().to_owned())
}

/// Packages marked as installed automatically.
pub(super) async fn auto_marks(host: &HostExec, cancel: &CancellationToken) -> Result<BTreeSet<String>, Failure> {
    Ok(read(host, &["apt-mark", "showauto"], cancel).await?.lines().map(str::to_owned).collect())
}

fn archives(host: &HostExec) -> BTreeSet<String> {
    let names = |dir: &str| {
        let entries = std::fs::read_dir(host.path(dir)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let mut found: BTreeSet<_> = names(ARCHIVES).into_iter().filter(|name| name.ends_with(".deb")).collect();
    found.extend(names(&format!("{ARCHIVES}/partial")).into_iter().map(|name| format!("partial/{name}")));
    found
}

fn residue(host: &HostExec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    search(&host.path("/etc"), Path::new("/etc"), 0, &mut found);
    found
}

fn search(dir: &Path, inside: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if depth > ETC_DEPTH_MAX {
        return;
    }
    // What cannot be read holds nothing that this process could clean.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name: PathBuf = inside.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), &name, depth + 1, found);
        } else if RESIDUE.iter().any(|suffix| name.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes())) {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
}

/// Deletes what lies in the archive directory and beside configuration files now, and did not `before`.
/// Returns what was deleted.
pub(super) fn clean(host: &HostExec, before: &HostState, config_too: bool) -> Vec<String> {
    let new_archives = archives(host).into_iter().filter(|name| !before.archives.contains(name));
    let mut paths: Vec<_> = new_archives.map(|name| format!("{ARCHIVES}/{name}")).collect();
    // apt's own lock file stays: it is there on every system that ever ran apt.
    paths.retain(|path| !path.ends_with("/lock"));
    if config_too {
        paths.extend(residue(host).into_iter().filter(|path| !before.residue.contains(path)));
    }
    // Residue that cannot be deleted is still residue, not a failure of the change: it is simply not listed as cleaned.
    paths.retain(|path| std::fs::remove_file(host.path(path)).is_ok());
    paths
}

/// Deletes what apt downloaded since and its binary caches, which it makes again. Returns what was deleted.
pub(super) fn make_room(host: &HostExec, before: &HostState) -> Vec<String> {
    let mut freed = clean(host, before, false);
    for cache in ["/var/cache/apt/pkgcache.bin", "/var/cache/apt/srcpkgcache.bin"] {
        if std::fs::remove_file(host.path(cache)).is_ok() {
            freed.push(cache.to_owned());
        }
    }
    freed
}

/// Residue that was not there before and stays for its owner to decide about.
pub(super) fn new_residue(host: &HostExec, before: &HostState) -> Vec<String> {
    residue(host).into_iter().filter(|path| !before.residue.contains(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_only_heard_of_is_not_there() {
        let set = parse_packages(
            "ii \tjq\tamd64\t1.6-2\niF \tacme\tall\t1.1\nrc \told\tamd64\t2\nun \tghost\t\t\npn \tgone\tamd64\t1\n\
             iHR\tbad\tamd64\t1\nhi \theld\tamd64\t3\n",
        );
        let rows: Vec<_> = set.iter().map(|(id, state)| format!("{} {state}", id.name)).collect();
        assert_eq!(rows, ["acme 1.1 (iF)", "bad 1 (iHR)", "held 3 (hi)", "jq 1.6-2 (ii)", "old 2 (rc)"]);
    }
}
