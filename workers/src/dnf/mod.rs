//! dnf and rpm of a target, read: what is installed, what is offered, which advisories name it. Changes nothing there, and asks no
//! network: dnf answers out of what it fetched before. It writes its log and its locks even then, so its root cannot be read-only.

mod advisories;
mod generation;
mod missing;
pub(crate) mod offers;
pub(crate) mod rpmdb;

use patchloom_core::UtcMs;
use patchloom_domain::InstalledPackage;
use tokio_util::sync::CancellationToken;

use crate::apt::Error;
use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::host::HostExec;
use crate::manager::PackageManager;
use crate::runtime::BoxFuture;

pub(crate) use generation::Generation;

/// dnf and its rpm database.
pub(crate) struct Dnf(pub(crate) Generation);

impl PackageManager for Dnf {
    fn name(&self) -> &'static str {
        self.0.program()
    }

    fn refresh(&self) -> &'static str {
        "dnf makecache"
    }

    fn tells_cves(&self) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        match self.0 {
            Generation::Four => "run dnf remove --duplicates, then dnf check",
            Generation::Five => "erase the older one of each with rpm -e, then run dnf check",
        }
    }

    fn places(&self) -> (&'static str, &'static str) {
        (self.0.cache(), self.0.database())
    }

    fn audit<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(rpmdb::audit(exec, cancel))
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
        Box::pin(rpmdb::architecture(exec, cancel))
    }

    fn lists<'a>(
        &'a self,
        exec: &'a HostExec,
        _now: UtcMs,
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Lists, Error>> {
        Box::pin(async move { rpmdb::fetched(exec, self.0.cache()) })
    }

    fn missing<'a>(
        &'a self,
        exec: &'a HostExec,
        installed: &'a [InstalledPackage],
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Missing, Error>> {
        Box::pin(missing::missing(exec, self.0, installed, cancel))
    }
}

/// A version as dnf writes it: an epoch of 0 is left away.
pub(crate) fn evr(epoch: &str, version_release: &str) -> String {
    if matches!(epoch, "" | "0" | "(none)") { version_release.to_owned() } else { format!("{epoch}:{version_release}") }
}

/// Name and version of the source rpm, such as `bash-5.1.8-9.el9.src.rpm`; its file name knows no epoch.
fn source_of(file: &str) -> Option<(&str, &str)> {
    let whole = file.strip_suffix(".rpm")?.rsplit_once('.')?.0;
    let (rest, _release) = whole.rsplit_once('-')?;
    let (name, _version) = rest.rsplit_once('-')?;
    Some((name, whole.get(name.len() + 1..)?))
}

/// Name, version and architecture out of `name-epoch:version-release.arch`.
fn nevra_of(text: &str) -> Option<(&str, &str, &str)> {
    let (whole, arch) = text.rsplit_once('.')?;
    let (rest, _release) = whole.rsplit_once('-')?;
    let (name, _version) = rest.rsplit_once('-')?;
    Some((name, whole.get(name.len() + 1..)?, arch))
}

#[cfg(test)]
mod tests;
