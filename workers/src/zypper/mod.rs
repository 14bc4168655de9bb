//! zypper and rpm of a target, read: what is installed, what is offered, which patches name it. Changes nothing there, and asks
//! no network: zypper answers out of what it fetched before.

mod missing;
pub(crate) mod xml;

use patchloom_core::UtcMs;
use patchloom_domain::InstalledPackage;
use tokio_util::sync::CancellationToken;

use crate::apt::Error;
use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::dnf::rpmdb;
use crate::host::HostExec;
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
        Box::pin(async move { rpmdb::fetched(exec, RAW) })
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

#[cfg(test)]
mod tests;
