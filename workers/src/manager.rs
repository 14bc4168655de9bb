//! The seam between what the handlers ask of a target and the package manager that knows it.

use std::fs;

use patchloom_core::UtcMs;
use patchloom_domain::InstalledPackage;
use tokio_util::sync::CancellationToken;

use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::apt::{Apt, Error};
use crate::dnf::Dnf;
use crate::host::HostExec;
use crate::runtime::BoxFuture;

/// A package manager, as far as a target is only looked at.
pub(crate) trait PackageManager: Send + Sync {
    /// What a person calls it.
    fn name(&self) -> &'static str;

    /// The command that fetches what it has on offer.
    fn refresh(&self) -> &'static str;

    /// Whether the patches that it names come with the vulnerabilities that they fix; else changelogs tell.
    fn tells_cves(&self) -> bool;

    /// All packages of its database, sorted by name and architecture.
    fn packages<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<InstalledPackage>, Error>>;

    /// The architecture of the target in its own words.
    fn architecture<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<String, Error>>;

    /// What it knows of its repositories, and since when.
    fn lists<'a>(
        &'a self,
        exec: &'a HostExec,
        now: UtcMs,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Lists, Error>>;

    /// Compares what is installed with what it would make of it.
    fn missing<'a>(
        &'a self,
        exec: &'a HostExec,
        installed: &'a [InstalledPackage],
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Missing, Error>>;
}

/// Distributions whose packages dnf manages, by `ID` or `ID_LIKE` of os-release.
const DNF_SYSTEMS: [&str; 7] = ["fedora", "rhel", "centos", "almalinux", "rocky", "ol", "amzn"];

/// The package manager of a target, by what its system calls itself: a Debian that has dnf installed is still apt's.
pub(crate) fn manager_of(exec: &HostExec) -> &'static dyn PackageManager {
    let read = |path: &str| fs::read_to_string(exec.path(path)).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    if is_dnf(&text) { &Dnf } else { &Apt }
}

fn is_dnf(os_release: &str) -> bool {
    let names =
        os_release.lines().filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    names.flat_map(|names| names.trim_matches(['"', '\'']).split(' ')).any(|name| DNF_SYSTEMS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_its_name_or_its_likes() {
        assert!(is_dnf("NAME=x\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"));
        assert!(is_dnf("ID=nobara\nID_LIKE=\"nothing fedora\"\n") && is_dnf("ID=fedora"));
        assert!(!is_dnf("ID=debian\nHOME_URL=\"https://fedora\"\n") && !is_dnf("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_dnf(""));
    }
}
