//! zypper and rpm of a target, read: what is installed, what is offered, which patches name it. Changes nothing there, and asks
//! no network: zypper answers out of what it fetched before.

mod missing;
pub(crate) mod xml;

use std::fs;
use std::io;
use std::time::UNIX_EPOCH;

use patchloom_core::UtcMs;
use patchloom_domain::InstalledPackage;
use tokio_util::sync::CancellationToken;

use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::apt::{Error, ask};
use crate::dnf::rpmdb;
use crate::host::{HostExec, Order};
use crate::manager::PackageManager;
use crate::runtime::BoxFuture;

/// Where zypper keeps packages that it fetched.
pub(crate) const PACKAGES: &str = "/var/cache/zypp/packages";
/// Where it keeps what it fetched of repositories, each in a directory of its own.
const RAW: &str = "/var/cache/zypp/raw";

/// The words with which every call begins: it asks nobody, and fetches nothing that was not asked for.
pub(crate) const ZYPPER: [&str; 3] = ["zypper", "--non-interactive", "--no-refresh"];

/// zypper and its rpm database.
pub(crate) struct Zypper;

impl PackageManager for Zypper {
    fn name(&self) -> &'static str {
        "zypper"
    }

    fn refresh(&self) -> &'static str {
        "zypper refresh"
    }

    fn tells_cves(&self) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "erase the older copy with rpm -e, then run zypper verify"
    }

    fn places(&self) -> (&'static str, &'static str) {
        (PACKAGES, "/var/lib/rpm")
    }

    fn audit<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let twice = rpmdb::twice(&rpmdb::packages(exec, cancel).await?);
            Ok((!twice.is_empty()).then(|| twice.join("\n")))
        })
    }

    fn packages<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<InstalledPackage>, Error>> {
        Box::pin(rpmdb::packages(exec, cancel))
    }

    fn architecture<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            let text = ask(exec, &Order::reading(["rpm", "--eval", "%{_arch}"]), cancel).await?;
            Ok(text.trim().to_owned())
        })
    }

    fn lists<'a>(
        &'a self,
        exec: &'a HostExec,
        _now: UtcMs,
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Lists, Error>> {
        Box::pin(async move { fetched(exec) })
    }

    fn missing<'a>(
        &'a self,
        exec: &'a HostExec,
        installed: &'a [InstalledPackage],
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Missing, Error>> {
        Box::pin(missing::missing(exec, installed, cancel))
    }
}

/// The repositories whose metadata lie in the cache; none where zypper never fetched any.
fn fetched(exec: &HostExec) -> Result<Lists, Error> {
    let dir = exec.path(RAW);
    let mut lists = Lists::default();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lists),
        Err(source) => return Err(Error::Io { action: "list", path: dir, source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| Error::Io { action: "list", path: dir.clone(), source })?;
        let Ok(data) = fs::metadata(entry.path().join("repodata/repomd.xml")) else { continue };
        let since = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        lists.indexes += 1;
        let updated = since.and_then(|since| u64::try_from(since.as_millis()).ok()).map(UtcMs);
        lists.updated = lists.updated.max(updated);
    }
    Ok(lists)
}

#[cfg(test)]
mod tests;
