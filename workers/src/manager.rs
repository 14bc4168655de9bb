//! The seam between what the handlers ask of a target and the package manager that knows it.

use std::fs;

use patchloom_core::UtcMs;
use patchloom_domain::{InstalledPackage, Target};
use tokio_util::sync::CancellationToken;

use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::apt::{Apt, Error};
use crate::dnf::{Dnf, Generation};
use crate::host::HostExec;
use crate::runtime::BoxFuture;
use crate::windows::WindowsUpdate;
use crate::zypper::Zypper;

/// A package manager, as far as a target is only looked at.
pub(crate) trait PackageManager: Send + Sync {
    /// What a person calls it.
    fn name(&self) -> &'static str;

    /// The command that fetches what it has on offer.
    fn refresh(&self) -> &'static str;

    /// Whether the patches that it names come with the vulnerabilities that they fix; else changelogs tell.
    fn tells_cves(&self) -> bool;

    /// What brings its packages into order again.
    fn remedy(&self) -> &'static str;

    /// Where it keeps what it downloads, and its database: where it needs room.
    fn places(&self) -> (&'static str, &'static str);

    /// What is wrong with its packages, for which nothing may be changed; nothing where all is well.
    fn audit<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, Error>>;

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

/// Distributions whose packages zypper manages; the names of openSUSE's own are many, and all are like these.
const ZYPPER_SYSTEMS: [&str; 5] = ["suse", "opensuse", "sles", "sled", "sle_hpc"];

/// The package manager of a target, by what its system calls itself: a Debian that has dnf installed is still apt's.
pub(crate) fn manager_of(exec: &HostExec) -> &'static dyn PackageManager {
    match family_of(exec) {
        Family::Apt => &Apt,
        Family::Dnf(Generation::Four) => &Dnf(Generation::Four),
        Family::Dnf(Generation::Five) => &Dnf(Generation::Five),
        Family::Zypper => &Zypper,
        Family::Windows => &WindowsUpdate,
    }
}

/// Package managers by what is the same among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// apt over dpkg.
    Apt,
    /// dnf over rpm.
    Dnf(Generation),
    /// zypper over rpm.
    Zypper,
    /// The update agent of Windows.
    Windows,
}

/// Whose a target is.
pub(crate) fn family_of(exec: &HostExec) -> Family {
    if matches!(exec.target(), Target::Windows(_)) {
        return Family::Windows;
    }
    let read = |path: &str| fs::read_to_string(exec.path(path)).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    family_by(&text, Generation::of(exec))
}

fn family_by(os_release: &str, dnf: Generation) -> Family {
    let names =
        os_release.lines().filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    let names = names.flat_map(|names| names.trim_matches(['"', '\'']).split(' '));
    let family = |name: &str| match name {
        name if ZYPPER_SYSTEMS.contains(&name) => Some(Family::Zypper),
        name if DNF_SYSTEMS.contains(&name) => Some(Family::Dnf(dnf)),
        _ => None,
    };
    names.filter_map(family).next().unwrap_or(Family::Apt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dnf(text: &str) -> bool {
        family_by(text, Generation::Five) == Family::Dnf(Generation::Five)
    }

    #[test]
    fn a_system_is_known_by_its_name_or_its_likes() {
        assert!(is_dnf("NAME=x\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"));
        assert!(is_dnf("ID=nobara\nID_LIKE=\"nothing fedora\"\n") && is_dnf("ID=fedora"));
        assert!(!is_dnf("ID=debian\nHOME_URL=\"https://fedora\"\n") && !is_dnf("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_dnf(""));
        for name in ["ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"", "ID=\"sles\"\nID_LIKE=\"suse\"", "ID=sled"] {
            assert_eq!(family_by(name, Generation::Four), Family::Zypper, "{name}");
        }
    }
}
